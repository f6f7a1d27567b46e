/*
 * nfq.h - the process that sees every first packet
 *
 * Forked from the parent, never exec'd, like the roles of proxyd/roles.h.
 */
#ifndef SALLYPORT_NFQ_H
#define SALLYPORT_NFQ_H

#include <stdbool.h>

#include "nfq/counts.h"
#include "nfq/queue.h"

struct conf;
struct dests;
struct table;

/* What the rules queue to unless told otherwise. */
#define NFQ_QUEUE 2525

struct nfq_start {
	const struct conf *conf;
	struct table *table;
	struct nfq_counts *counts;	/* nfq_counts_new() */
	struct dests *dests;		/* dests_new(); NULL: not kept */
	struct queue_conf queue;	/* number, mark of a reset, mark mask */
	int queue_fd;			/* of queue_bind(): lives on when nfq dies;
					 * -1: bind here, the queue ends with us */
	int parent;			/* SEQPACKET, struct msg: PING, DRAIN */
	const char *user;		/* own user: keeps CAP_NET_ADMIN */
	enum return_path return_path;
	bool foreground;		/* log to stderr */
};

/*
 * Exit status of the process: 0 after MSG_DRAIN or when the parent is gone, 1
 * when it cannot work: the queue is somebody else's, no privilege, no sandbox.
 * A drained process has given a verdict to everything it received; what still
 * waits in the socket is the successor's. Never start one while another reads.
 */
int nfq_main(const struct nfq_start *s);

#endif
