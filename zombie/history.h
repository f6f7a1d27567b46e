/*
 * history.h - what is known of a line, carried to another one
 *
 * A lease says which customer has a line. When it changes, the record's content
 * follows the customer and the line's next owner starts with an empty one.
 *
 * Where the customer of a line is known: in the ledger, which only control
 * writes. record->customer, a hash, says to readers of the table whose content
 * it was when control last moved it; 0: not known. Any relay can write it, so
 * nothing is decided by it but whether a level expires after a day. Which history
 * goes where is decided by the ledger's leases, and a level comes from the levels
 * region alone: a relay that was taken over can falsify counts, as ever, and
 * through leases nothing more.
 */
#ifndef SALLYPORT_HISTORY_H
#define SALLYPORT_HISTORY_H

#include "zombie/table.h"

/* Fixed size, no hidden octet: also what the ledger stores. Times are Unix
 * time, 0: never. */
struct line_history {
	uint64_t table;		/* whose secret made the bits below */
	int64_t first, last;
	uint32_t attempts, sessions;
	uint32_t rate;		/* as in the record, valid at time last */
	uint32_t level;
	uint64_t map[2][MAP_BITS / 64];	/* of the window of `last'; the one before */
	uint64_t syn;
	uint32_t helo, domains;
	uint16_t good[EVIDENCE_COUNT], bad[EVIDENCE_COUNT];
	int16_t score[EVIDENCE_COUNT];
	uint16_t retransmissions, submission, back, dialect;
	uint16_t outcomes, hits, pace, bad_hour;
	uint16_t version;	/* HISTORY_VERSION */
};
#define HISTORY_VERSION 1

/* Is there anything in it? */
bool history_is_empty(const struct line_history *h);
/* One that was stored: may it be given to a line? */
bool history_valid(const struct line_history *h);

/*
 * Control only. Move all of a line's content into *h_r and leave its record
 * clean, with level 0, for a customer with this hash (0: nobody). What others
 * count meanwhile goes to one of the two, never to both and never lost, but for
 * the bits of a window that turns at this moment. A line without a record gives
 * an empty history.
 */
void history_take(struct table *t, const struct line_key *k, uint32_t customer,
	struct line_history *h_r);

/*
 * Control only. Add a history to a line's record, made if there is none: counts
 * add up, maps of the same window are joined, scores and levels become the
 * greater one. What was only heard of the line stays behind (scores below 0).
 * Bits of another table (before a restart) are left out, and its hour of the
 * latest bad event becomes this one. 0, or -1: the table has no room for the
 * line.
 */
int history_give(struct table *t, const struct line_key *k, uint32_t customer,
	const struct line_history *h);

/* The hash of a customer's id, never 0. */
uint32_t history_customer(const struct table *t, const char *id);

#endif
