/*
 * roles.h - the processes of sallyportd and what each starts with
 *
 * All roles are forked from the parent, never exec'd: configuration, listeners
 * and shared memory are inherited. Each entry function drops its privileges
 * first, runs its loop and returns the exit status of the process.
 */
#ifndef SALLYPORT_ROLES_H
#define SALLYPORT_ROLES_H

#include <stdbool.h>
#include <stdint.h>

struct conf;
struct adaptive;
struct dests;
struct lines;
struct logins;
struct nfq_counts;
struct places;
struct table;
struct tally;
struct tlsseen;

struct relay_start {
	const struct conf *conf;
	int slot;
	int listener4, listener6;	/* non-blocking, listening, transparent;
					 * 6 may be -1 without IPv6 */
	int parent;			/* SEQPACKET, struct msg */
	struct adaptive *adaptive;	/* shared by all relays, like the */
	struct lines *lines;		/* four below */
	struct tally *tally;
	struct tlsseen *tlsseen;
	struct logins *logins;
	uint8_t owner;			/* lines.h */
	struct table *table;		/* of lines; NULL: none is kept */
	const struct places *places;	/* of publish; descriptors are open */
	bool foreground;		/* log to stderr */
};

struct control_start {
	const struct conf *conf;
	int listener;			/* control socket, listening */
	int parent;
	struct table *table;		/* NULL: none is kept */
	const struct nfq_counts *nfq_counts;	/* NULL: no queue is read */
	const struct dests *dests;		/* the same */
	bool foreground;
	int64_t started;		/* of the daemon, ms of CLOCK_MONOTONIC */
};

int relay_main(const struct relay_start *s);
int control_main(const struct control_start *s);
int parent_main(struct conf *conf, const char *path, bool foreground);

#endif
