/*
 * policy.h - what a captured connection gets
 */
#ifndef SALLYPORT_POLICY_H
#define SALLYPORT_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#include "conf/allow.h"
#include "lib/addr.h"
#include "proxyd/event.h"
#include "zombie/detect.h"
#include "zombie/line.h"

struct conf;
struct table;
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
	bool is_slow;		/* through the tarpit, if it has room */
	bool is_policed;	/* carried, but not once the line is a zombie */
	struct line_key line;	/* the subscriber */
};

/*
 * src: the client, origin: what it dialled; now: Unix time. The kernel has
 * already decided that we get the connection; sets may lag behind the
 * configuration for a moment, so an action that should not have brought it here
 * (pass, watch) is carried unchanged, never refused. t: the levels of lines, or
 * NULL.
 */
void policy_decide(const struct conf *conf, const struct upstream *u,
	const struct table *t, const struct addr *src, const struct addr *origin, int64_t now,
	struct decision *d_r);

/*
 * The part of it that is about port 25, when the entry or class that decides says
 * action: for who asks what would be done. Of *d_r class_index, server and line
 * are set already; the origin's family may be 0: none in particular.
 */
void policy_port25(const struct conf *conf, const struct table *t,
	enum action action, const struct addr *origin, struct decision *d_r);

/* Does pass_destinations let a line of block, reset or drop reach it? server: its
 * index, or -1. */
bool policy_is_pass_destination(const struct conf *conf,
	const struct addr *origin, int server);

/* The line's level now. */
enum level policy_level(const struct conf *conf, const struct table *t,
	const struct line_key *line);

/* Is the line, or its parent (rollup.h), at level zombie, and is something to be
 * done about it? */
bool policy_is_zombie(const struct conf *conf, const struct table *t,
	const struct line_key *line);

#endif
