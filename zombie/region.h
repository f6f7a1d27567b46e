/*
 * region.h - how the line table lies in memory (for zombie/ only)
 *
 * counts: struct counts_head in the first page, tags, records.
 * levels: struct levels_head in the first page, one word a slot.
 */
#ifndef SALLYPORT_REGION_H
#define SALLYPORT_REGION_H

#include "zombie/table.h"

#define REGION_HEAD 4096
#define BUCKET_SLOTS 8
/* Room for notices; a second of them, on a network under attack. */
#define NOTICES 512

struct counts_head {
	uint64_t magic;
	uint32_t version;
	uint32_t record_octets;
	uint64_t slots;
	uint64_t epoch;			/* CLOCK_BOOTTIME, seconds */
	uint64_t secret[2];
	uint64_t id;			/* the same in levels: they belong together */
	_Atomic uint64_t displaced, lost;
	_Atomic uint64_t noticed;		/* how many ever */
	_Atomic uint32_t notice[NOTICES];	/* 1 + slot; 0: taken, or not yet
						 * written */
};
_Static_assert(sizeof(struct counts_head) <= REGION_HEAD, "the first page");

struct levels_head {
	uint64_t magic;
	uint32_t version;
	uint32_t pad;
	uint64_t slots;
	uint64_t id;
};

struct table {
	struct counts_head *head;
	_Atomic uint64_t *tags;
	struct line_record *records;
	struct levels_head *levels_head;	/* NULL: attached without */
	_Atomic uint32_t *levels;
	bool may_set;				/* levels are writable */
	size_t slots, counts_octets, levels_octets;
	uint64_t secret[2];
	int counts_fd, levels_fd, counts_ro, levels_ro;	/* -1: not ours */
};

/* ---- record.c, for history.c ---- */

/* Bring a record to the time now: its rate decays, its maps turn. */
void record_advance(struct line_record *r, uint32_t now);
/* A rate, so many seconds later. */
uint32_t record_decayed(uint32_t rate, uint32_t seconds);

#endif
