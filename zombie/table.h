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
 * A table is a fixed number of buckets of eight slots; the tags of a bucket
 * fill one cache line, and a line may stand in any of three buckets. A tag is
 * the 64-bit SipHash of the key under a secret of this table, never 0, and is
 * taken as the identity of the line. A line that meets full buckets displaces
 * the clean line that has been idle longest and over TABLE_IDLE seconds; if
 * there is none, it is not recorded and counted as lost. A line with a level is
 * never displaced.
 */
#ifndef SALLYPORT_TABLE_H
#define SALLYPORT_TABLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/addr.h"
#include "zombie/line.h"

/* A clean record is displaced only when idle this long; DESIGN.md section 10. */
#define TABLE_IDLE 60

/* Distinct destinations: two bitmaps of this many bits (DETECTION.md 1). */
#define MAP_BITS 256
/* Length of a first-contact window in seconds (default, DETECTION.md 1). */
#define MAP_WINDOW 3600

/* Kinds of evidence with a CUSUM of their own (DETECTION.md section 1). */
enum evidence {
	EVIDENCE_CONTACT, EVIDENCE_UNKNOWN_USER, EVIDENCE_REFUSAL,
	EVIDENCE_NULL_SENDER, EVIDENCE_HELO, EVIDENCE_COUNT
};

/*
 * Times are seconds since the table's epoch (table_now). 16-bit counters stop
 * at 65,535. What is hot comes first: 168 octets are three cache lines, and
 * with tag and level a million lines fit into 200 MB.
 */
struct line_record {
	struct line_key key;			/* read it with table_key() */
	_Atomic uint32_t last;			/* latest first packet or session */
	_Atomic uint32_t attempts;		/* first packets, retransmissions apart */
	_Atomic uint32_t rate;			/* decayed attempts, 1/4096, valid at
						 * time last; see table_rate() */
	_Atomic uint16_t recent[2];		/* hashes of the latest SYNs */
	_Atomic uint16_t window;		/* low bits of the window's number */
	_Atomic uint16_t retransmissions;
	_Atomic uint64_t map[2][MAP_BITS / 64];	/* windows with even and odd numbers */
	_Atomic uint16_t good[EVIDENCE_COUNT], bad[EVIDENCE_COUNT];
	_Atomic int16_t score[EVIDENCE_COUNT];	/* CUSUM, 1/256; below 0: of what
						 * was only heard; see detect.h */
	_Atomic uint16_t dialect;
	_Atomic uint64_t syn;			/* fingerprint, see syn.h; latest */
	_Atomic uint32_t helo, domains;		/* maps of HELO names, of domains */
	_Atomic uint16_t outcomes;		/* of late: accepted, others << 8 */
	_Atomic uint16_t hits;			/* bad replies, 5 cells of 3 bits */
	_Atomic uint16_t pace;			/* sessions in these four minutes */
	_Atomic uint16_t bad_hour;		/* of the latest bad event; 0: none */
	_Atomic uint32_t first;			/* earliest */
	_Atomic uint32_t sessions;		/* completed handshakes */
	_Atomic uint32_t customer;		/* lease: hash of the customer id */
	_Atomic uint16_t submission;		/* SYNs to 587 and 465 */
	_Atomic uint16_t back;			/* return path: SYN+ACKs from port 25 */
};
_Static_assert(sizeof(struct line_record) == 168, "size of a line's record");

/* Words of the levels region: level in the low octet, flags in the next, above
 * them the hour in which the level was set (detect_hour()). */
#define LEVEL_MASK 0xffu
#define LEVEL_FLAGS 0xff00u
#define LEVEL_HOUR_SHIFT 16
#define LEVEL_ACTION_RESET 0x100u	/* first packets are reset */
#define LEVEL_ACTION_DROP 0x200u
#define LEVEL_PINNED 0x400u		/* by an operator: it does not age */

struct table;

/*
 * For the parent: make both regions for at least this many lines. NULL: no
 * memory (logged). The descriptors stay with the table; children inherit the
 * mappings by fork and call table_drop_rights().
 */
struct table *table_new(size_t lines);
/* For tools that want the same answer each time: a secret that everybody knows, in
 * a new table that nobody else has and nothing was entered in. */
void table_fix_secret(struct table *t);
void table_free(struct table **t);

/*
 * In a child that must not write levels: map them read-only and close all
 * descriptors, so that mprotect cannot give the right back; and populate the
 * mapping of the counts, which fork leaves empty. 0 or -1 (logged).
 */
int table_drop_rights(struct table *t);

/* The two descriptors, for a successor after an upgrade: counts, levels. */
void table_fds(const struct table *t, int *counts_r, int *levels_r);
/* The same, opened read-only: for the CLI, through control. */
void table_fds_read_only(const struct table *t, int *counts_r, int *levels_r);
/*
 * Map a table from its descriptors, which stay the caller's; levels may be -1.
 * Checks the seals, magic, version and sizes: a descriptor that could be
 * truncated later is refused. read_only: nothing can be written. NULL: logged.
 */
struct table *table_attach(int counts, int levels, bool read_only);

/* Seconds since the table's epoch now (CLOCK_BOOTTIME), at least 1. */
uint32_t table_now(const struct table *t);
/* ... as Unix time. */
int64_t table_unix(const struct table *t, uint32_t when);

/*
 * The record of a line. table_enter makes one when there is none (NULL: the
 * buckets are full of lines that may not go; counted). table_find never does.
 * Records stay valid as memory for ever; one that was displaced belongs to
 * another line then, which costs a miscount of one update.
 */
struct line_record *table_enter(struct table *t, const struct line_key *k,
	uint32_t now);
struct line_record *table_find(const struct table *t, const struct line_key *k);

/*
 * table_enter in three steps, for a reader that has many packets in hand: each
 * step for all packets before the next step waits for memory once a batch and
 * not four times a packet. aim: hash, fetch the tags; near: find the tag, fetch
 * the record; enter_at: as table_enter. near may be left out.
 */
struct table_aim {
	uint64_t tag;
	uint32_t slot[3];	/* first slot of each bucket, in lookup order */
};
void table_aim(const struct table *t, const struct line_key *k,
	struct table_aim *aim_r);
void table_near(const struct table *t, const struct table_aim *aim);
struct line_record *table_enter_at(struct table *t, const struct table_aim *aim,
	const struct line_key *k, uint32_t now);
/* Only the tags, and nothing to keep: for a packet judged a little later. */
void table_prefetch(const struct table *t, const struct line_key *k);

/*
 * Whose record this is. False while it is being made or displaced: the key is
 * good only when its hash is the tag beside it.
 */
bool table_key(const struct table *t, const struct line_record *r,
	struct line_key *k_r);

uint32_t table_level(const struct table *t, const struct line_record *r);
/*
 * Control only. -1: the record no longer belongs to this line, nothing was
 * set; enter the line again.
 */
int table_set_level(struct table *t, struct line_record *r,
	const struct line_key *k, uint32_t level);

/*
 * Something was seen that may raise this line: for control, which looks at the
 * record itself. Never waits; of more than 512 that nobody took the oldest are
 * overwritten.
 */
void table_notice(struct table *t, const struct line_record *r);
/*
 * Control only: the next one, *at being where it is (0 at first). 1 and the
 * record; 0: none; -1: some were overwritten or half written: every record has
 * to be looked at.
 */
int table_noticed(struct table *t, uint64_t *at, struct line_record **r_r);

/* Different for each table that was ever made. */
uint64_t table_id(const struct table *t);

/* Every record with a level, in slot order; NULL ends. *at starts as 0. Reads
 * the levels alone: a millisecond for a million lines. */
struct line_record *table_next_level(const struct table *t, size_t *at);

/* Every record in use, in slot order; NULL ends. *at starts as 0. */
struct line_record *table_next(const struct table *t, size_t *at);

/*
 * Roll-up (rollup.h): the lines below parent, a key of line_key_parent(), that
 * have at least this level, as far as enough; how many. Looks up every line there
 * could be, 256 below a /56: 10 us to 60 us, for control at a change of level, not
 * for a packet. len: of the lines.
 */
#define TABLE_PARENT_LEN 56
unsigned table_suspects_below(const struct table *t,
	const struct line_key *parent, unsigned len, uint32_t level,
	struct line_record **line_r, unsigned enough);

/*
 * For a process that may write levels, after another was killed: remove what
 * two processes made for one line when one of them died in between, and levels
 * of slots that were displaced at that moment. How many records went.
 */
size_t table_repair(struct table *t);

struct table_stats {
	size_t lines, slots;
	uint64_t displaced, lost;
	size_t octets;		/* of both regions */
};
/* Counts the tags: a millisecond for a million lines. */
void table_stats(const struct table *t, struct table_stats *s_r);

/* ---- what nfq and the relays do to a record (record.c) ---- */

/* Hash under the table's secret, for bitmaps and retransmissions. */
uint32_t table_hash(const struct table *t, const void *p, size_t n);

/*
 * A first packet whose destination does not matter here, because the relay
 * will judge it at accept: attempts and rate. tuple: hash of 4-tuple and
 * sequence number, not 0; the same again is a retransmission. 0, or -1: it is
 * a retransmission.
 */
int table_attempt(struct line_record *r, uint32_t now, uint32_t tuple);

/*
 * A first packet judged by its destination: /24 or /48, NAT64 decoded. heard
 * (nfq, is_voice false): table_attempt() is included. is_voice: a completed
 * handshake (relay, at accept); tuple 0: nfq has counted the attempt, else it
 * is counted here. Returns 1: a destination not seen in this or the last
 * window (or the map is over 3/4 full), 0: seen before, -1: a retransmission.
 *
 * What is heard can be forged by a neighbour, so it fills no more than 5/8 of
 * the map: the rule of 3/4 then needs the line's own handshakes.
 */
int table_contact(struct table *t, struct line_record *r, uint32_t now,
	const struct addr *dst, uint32_t tuple, bool is_voice);

/* Where a destination's network (/24, /48; NAT64 decoded) stands in a map. */
unsigned table_network(const struct table *t, const struct addr *dst);
/* Bits set in the map of the line's latest window; in both maps together. */
unsigned table_ones(const struct line_record *r);
unsigned table_spread(const struct line_record *r);

/* Attempts nobody vouches for: those without a completed handshake. */
uint32_t table_heard(const struct line_record *r);

/* A 16-bit counter plus one, which stops at its end. */
void table_count(_Atomic uint16_t *counter);

/*
 * Distinct destinations in the line's latest window, by linear counting:
 * standard error 4.5 to 5.1 % up to 200; ends at 1,420.
 */
double table_destinations(const struct line_record *r);
/* ... in a window that is or was, by the low bits of its number; 0 when the
 * line's maps hold others. */
double table_destinations_in(const struct line_record *r, uint16_t window);

/*
 * Attempts an hour, decayed to now with a half-life of an hour: exact for a
 * steady line, slower than the truth for one that has just begun.
 */
double table_rate(const struct line_record *r, uint32_t now);

#endif
