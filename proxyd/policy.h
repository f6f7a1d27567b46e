/*
 * policy.h - what a captured connection gets
 */
#ifndef SALLYPORT_POLICY_H
#define SALLYPORT_POLICY_H

#include <stdint.h>

#include "lib/addr.h"
#include "proxyd/event.h"
#include "zombie/line.h"

struct conf;
struct upstream;

enum treatment {
	TREAT_RELAY,
	TREAT_BLOCK,
	TREAT_SUBMIT,
	TREAT_POP3,
	TREAT_IMAP,
	TREAT_RESET	/* nothing we could do for it; see reason */
};

struct decision {
	enum treatment treatment;
	enum reason reason;	/* POLICY, UNKNOWN_ORIGIN, LOOP, ... */
	int class_index;	/* -1: not a subscriber */
	int server;		/* listed server at the origin, or -1 */
	struct line_key line;	/* the subscriber */
};

/*
 * src: the client, origin: what it dialled; now: Unix time. The kernel has
 * already decided that we get the connection; sets may lag behind the
 * configuration for a moment, so an action that should not have brought it here
 * (pass, watch) is carried unchanged, never refused.
 */
void policy_decide(const struct conf *conf, const struct upstream *u,
	const struct addr *src, const struct addr *origin, int64_t now,
	struct decision *d_r);

#endif
