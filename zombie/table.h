/*
 * table.h - what is known of every line, in memory shared by all processes
 *
 * Two regions, both memfds made by the parent (0600, sealed against shrinking
 * and growing, populated at start):
 *
 * counts  written by nfq and the relays, read by everybody. No lock and no
 *         seqlock: single-word atomics, readers tolerate fields that differ by
 *         one update, a writer may be killed anywhere. A taken-over relay can
 *         falsify counts, nothing more.
 * levels  one word a line, written by control only; mapped read-only elsewhere.
 *
 * A table is a fixed number of buckets of eight slots. The tags of a bucket
 * fill one cache line: a tag is the 64-bit SipHash of the key under a secret of
 * this table, never 0, and is taken as the identity of the line. A line that
 * meets a full bucket displaces the clean line that has been idle longest and
 * over TABLE_IDLE seconds; if there is none, it is not recorded and counted as
 * lost. A line with a level is never displaced.
 */
#ifndef SALLYPORT_TABLE_H
#define SALLYPORT_TABLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/addr.h"

/* A clean record is displaced only when idle this long; DESIGN.md section 10. */
#define TABLE_IDLE 60

/* Distinct destinations: two bitmaps of this many bits (DETECTION.md 1). */
#define MAP_BITS 256
/* Length of a first-contact window in seconds (default, DETECTION.md 1). */
#define MAP_WINDOW 3600

struct line_key {
	uint8_t family;		/* AF_INET, AF_INET6 */
	uint8_t len;		/* prefix length: 32, or the class's for IPv6 */
	uint16_t block;		/* CGN: 1 + source port / block size; else 0 */
	uint8_t ip[16];		/* host bits 0 */
};

/* Kinds of evidence with a CUSUM of their own (DETECTION.md section 1). */
enum evidence {
	EVIDENCE_CONTACT, EVIDENCE_UNKNOWN_USER, EVIDENCE_REFUSAL,
	EVIDENCE_NULL_SENDER, EVIDENCE_HELO, EVIDENCE_COUNT
};

/* Times are seconds since the table's epoch (table_now). */
struct line_record {
	struct line_key key;
	_Atomic uint32_t first, last;		/* any first packet or session */
	_Atomic uint32_t attempts;		/* first packets, retransmissions apart */
	_Atomic uint32_t retransmissions;
	_Atomic uint32_t sessions;		/* completed handshakes */
	_Atomic uint32_t heard;			/* attempts nobody vouches for */
	_Atomic uint32_t submission;		/* SYNs to 587 and 465 */
	_Atomic uint32_t back;			/* return path: SYN+ACKs from port 25 */
	_Atomic uint32_t rate;			/* decayed attempts an hour, 1/256;
						 * valid at time last */
	_Atomic uint32_t recent[2];		/* hashes of 4-tuple and sequence
						 * number of the latest SYNs */
	_Atomic uint32_t window;		/* number of the current window */
	_Atomic uint64_t map[2][MAP_BITS / 64];	/* current, previous */
	_Atomic uint64_t syn;			/* fingerprint, see syn.h; latest */
	_Atomic uint64_t helo, domains;		/* 64-bit maps */
	_Atomic uint32_t dialect;
	_Atomic uint32_t customer;		/* lease: hash of the customer id */
	_Atomic uint16_t good[EVIDENCE_COUNT], bad[EVIDENCE_COUNT];
	_Atomic int16_t score[EVIDENCE_COUNT];	/* CUSUM, 1/256 */
};

/* Words of the levels region: level in the low byte, flags above it. */
#define LEVEL_MASK 0xffu
#define LEVEL_ACTION_RESET 0x100u	/* first packets are reset */
#define LEVEL_ACTION_DROP 0x200u

struct table;

/*
 * For the parent: make both regions for at least this many lines. NULL: no
 * memory (logged). The descriptors stay with the table; children inherit the
 * mappings by fork and call table_drop_rights().
 */
struct table *table_new(size_t lines);
void table_free(struct table **t);

/* In a child that must not write levels: map them read-only. 0 or -1. */
int table_drop_rights(struct table *t);

/* The two descriptors, for those who attach from outside (CLI through control,
 * successor after an upgrade): counts, levels. */
void table_fds(const struct table *t, int *counts_r, int *levels_r);
/* Map a table from its descriptors; levels may be -1. Checks the header:
 * magic, version, sizes. read_only: nothing can be written. */
struct table *table_attach(int counts, int levels, bool read_only);

/* Seconds since the table's epoch now (CLOCK_BOOTTIME). */
uint32_t table_now(const struct table *t);
/* ... as Unix time. */
int64_t table_unix(const struct table *t, uint32_t when);

/*
 * The record of a line. table_enter makes one when there is none (NULL: the
 * bucket is full of lines that may not go; counted). table_find never does.
 * Records stay valid as memory for ever; one that was displaced belongs to
 * another line then, which costs a miscount of one update.
 */
struct line_record *table_enter(struct table *t, const struct line_key *k,
	uint32_t now);
struct line_record *table_find(const struct table *t, const struct line_key *k);

uint32_t table_level(const struct table *t, const struct line_record *r);
/* Control only. */
void table_set_level(struct table *t, struct line_record *r, uint32_t level);

/* Every record in use, in slot order; NULL ends. *at starts as 0. */
struct line_record *table_next(const struct table *t, size_t *at);

struct table_stats {
	size_t lines, slots;
	uint64_t displaced, lost;
	size_t octets;		/* of both regions */
};
void table_stats(const struct table *t, struct table_stats *s_r);

/* ---- what nfq and the relays do to a record ---- */

/* Hash under the table's secret, for bitmaps and retransmissions. */
uint32_t table_hash(const struct table *t, const void *p, size_t n);

/*
 * A first packet. is_voice: a completed handshake (relay, at accept), else
 * heard (nfq). tuple: hash of 4-tuple and sequence number; the same again is a
 * retransmission. dst decides whether this is first contact: /24 or /48, NAT64
 * decoded. Returns 1: a destination not seen in this or the last window (or
 * the map is over 3/4 full), 0: seen before, -1: a retransmission.
 */
int table_contact(struct table *t, struct line_record *r, uint32_t now,
	const struct addr *dst, uint32_t tuple, bool is_voice);

/* Distinct destinations in the current window, by linear counting. */
double table_destinations(const struct line_record *r);

/* Attempts an hour, decayed to now. */
double table_rate(const struct line_record *r, uint32_t now);

#endif
