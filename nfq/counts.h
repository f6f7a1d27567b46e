/*
 * counts.h - what nfq has done, for everybody to read
 *
 * One struct in memory shared by parent, nfq and control. It outlives the
 * process that writes it, so the numbers go on over a restart. At rest
 *     queued = accepted + reset + dropped
 * holds whenever nfq is not inside a batch. Overruns never reached nfq and are in
 * none of the others: fail-open let them pass. Nor are inherited ones, unless
 * their process died between counting and sending.
 */
#ifndef SALLYPORT_NFQ_COUNTS_H
#define SALLYPORT_NFQ_COUNTS_H

#include <stdatomic.h>
#include <stdint.h>

struct nfq_counts {
	_Atomic uint64_t queued;	/* packets received */
	_Atomic uint64_t accepted, reset, dropped;
	_Atomic uint64_t retransmissions;	/* among the queued */
	_Atomic uint64_t unparseable;	/* among the accepted */
	_Atomic uint64_t overruns;	/* socket buffer full: passed unseen */
	_Atomic uint64_t inherited;	/* left without a verdict by a process that
					 * died: accepted by its successor */
	_Atomic uint64_t errors;	/* the kernel refused a message of ours */
	_Atomic uint64_t batches;	/* datagrams with verdicts */
	_Atomic uint32_t last;		/* newest packet id with a verdict */
};

/* For the parent, once, before it forks. Zero; NULL without memory. */
struct nfq_counts *nfq_counts_new(void);

#endif
