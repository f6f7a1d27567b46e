/*
 * verdict.h - what becomes of a first packet, and what is written down
 *
 * Passing is always the kernel's decision, by sets: what arrives here is what
 * is left, and accepting means "go on as if there were no nfq". So the worst a
 * missing or late verdict can do is what bypass does.
 */
#ifndef SALLYPORT_VERDICT_H
#define SALLYPORT_VERDICT_H

#include <stdbool.h>
#include <stdint.h>

#include "conf/conf.h"
#include "nfq/packet.h"
#include "zombie/table.h"

enum verdict {
	VERDICT_ACCEPT,
	VERDICT_RESET,		/* accepted with the mark that REJECT waits for */
	VERDICT_DROP,
	VERDICT_COUNT
};

struct dests;
struct detect;

struct judge {
	const struct conf *conf;
	struct table *table;
	const struct detect *detect;	/* NULL: count, score nothing */
	enum return_path return_path;
	struct dests *dests;	/* destinations of watched classes; or NULL */
	const int *place;	/* ... of each class in it, -1: none */
	uint32_t now;		/* table_now(), renewed by the caller each turn */
	int64_t unix_now;	/* time(), for allowlist entries that expire */
};

/*
 * The verdict alone, from the class's effective action and the line's word of
 * the levels region (0: clean). A class that resets or drops reaches nfq only
 * when its rules queue first, to be counted.
 */
enum verdict verdict_decide(unsigned action, uint32_t level);

/* Why a packet is of interest, and whose it is. */
enum matter { MATTER_NONE, MATTER_FIRST, MATTER_SUBMISSION, MATTER_BACK };

struct look {
	enum matter matter;
	int class;		/* index into conf->classes, unless MATTER_NONE */
	struct line_key key;
	struct table_aim aim;
};

/*
 * Find out what a packet is about, before its turn, and have the line's record
 * fetched into the cache in two steps; each step for a whole batch before the
 * next, so that the waits overlap. Nothing is counted yet. The second step may
 * be left out.
 */
void verdict_look(const struct judge *j, const struct packet *p,
	struct look *l_r);
void verdict_near(const struct judge *j, const struct look *l);

/*
 * Count one packet into its line's record and decide. *again_r: it was a
 * retransmission, which is counted apart and gets the same verdict. Packets
 * that are of no interest, or of no line of ours, are accepted uncounted.
 */
enum verdict verdict_of(const struct judge *j, const struct packet *p,
	const struct look *l, bool *again_r);

/* What makes a SYN the same SYN: hash of the 4-tuple and sequence number, never
 * 0. The same for nfq and for a relay that parsed TCP_SAVE_SYN. */
uint32_t verdict_tuple(const struct table *t, const struct packet *p);

#endif
