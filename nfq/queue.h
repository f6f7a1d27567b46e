/*
 * queue.h - the netfilter queue: packets in, verdicts out, many at a time
 *
 * The queue belongs to the socket, not to the process: the parent may bind it
 * once and let every nfq that it forks read it, so that packets wait for a
 * successor instead of being lost when one dies or is replaced. Two processes
 * must never read at the same time: a verdict may cover all older packets.
 */
#ifndef SALLYPORT_QUEUE_H
#define SALLYPORT_QUEUE_H

#include <stddef.h>
#include <stdint.h>

#include "nfq/counts.h"
#include "nfq/verdict.h"

/* Datagrams taken by one recvmmsg, and verdicts in one sendmsg. */
#define QUEUE_BATCH 64
/* A turn waits no longer than this for its first packet: how late the caller may
 * hear of anything else, if a signal does not end the wait. */
#define QUEUE_WAIT_MS 100

struct queue_conf {
	uint16_t number;	/* --queue-num */
	uint32_t maxlen;	/* packets waiting for a verdict; 0: 65536 */
	uint32_t mark_reset;	/* bits a reset sets in the packet's mark ... */
	uint32_t mark_mask;	/* ... and the bits it may change */
};

struct queued {
	const uint8_t *data;	/* from the IP header on */
	size_t len;
	uint32_t in;		/* interface index, 0: none */
};

/* Decide about a batch of n <= QUEUE_BATCH packets, in the order in which they
 * came. */
typedef void queue_judge(void *arg, const struct queued *packet, size_t n,
	enum verdict *verdict_r);

struct queue;

/*
 * Bind: a descriptor whose reads wait QUEUE_WAIT_MS, closed on exec. -1 after
 * saying in the log why not: another reader, no privilege, no kernel support, no fail-open. What
 * waits in the queue when the last descriptor is closed is dropped by the
 * kernel.
 */
int queue_bind(const struct queue_conf *conf);

/* Read a bound queue. NULL: no memory. The descriptor stays the caller's. */
struct queue *queue_new(int fd, const struct queue_conf *conf,
	struct nfq_counts *counts, queue_judge *judge, void *arg);
void queue_free(struct queue **q);

/*
 * Wait for a packet, take what is there, at most QUEUE_BATCH, and give every one
 * its verdict. Returns the number taken; 0: none in QUEUE_WAIT_MS or before a
 * signal, or verdicts that the kernel would not take now (queue_unsent); -1: this queue cannot be
 * used any more (logged).
 */
int queue_turn(struct queue *q);
int queue_unsent(const struct queue *q);

#endif
