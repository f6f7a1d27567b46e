/*
 * nfq_peer.h - what the two bare loops share: their queue and their verdict
 *
 * No table, no policy, no parsing: the cost of the kernel interface alone. The
 * queue is set up exactly as nfq/queue.c does it, so that the loops differ from
 * ours in nothing but their work.
 */
#ifndef SALLYPORT_BENCH_NFQ_PEER_H
#define SALLYPORT_BENCH_NFQ_PEER_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nfq/queue.h"

struct peer {
	struct queue_conf queue;
	enum verdict verdict;
};

/* Arguments: QUEUE VERDICT MARK MASK, VERDICT a|r|d. Exits on nonsense. */
static inline struct peer
peer_start(int argc, char **argv)
{
	struct peer p = { 0 };

	if (argc != 5 || strlen(argv[2]) != 1 ||
		strchr("ard", argv[2][0]) == NULL) {
		fprintf(stderr, "usage: %s QUEUE a|r|d MARK MASK\n", argv[0]);
		exit(2);
	}
	p.queue.number = (uint16_t)strtoul(argv[1], NULL, 10);
	p.verdict = argv[2][0] == 'a' ? VERDICT_ACCEPT :
		argv[2][0] == 'r' ? VERDICT_RESET : VERDICT_DROP;
	p.queue.mark_reset = (uint32_t)strtoul(argv[3], NULL, 0);
	p.queue.mark_mask = (uint32_t)strtoul(argv[4], NULL, 0);
	return p;
}

#endif
