/*
 * allowkeeper_impl.h - what the files of the allowkeeper share
 *
 * allowkeeper.c  changes, messages of control, time
 * allowsets.c    what the kernel's sets should hold
 * allowjob.c     sets replaced as a whole
 * allowcheck.c   the kernel's sets compared
 */
#ifndef SALLYPORT_ALLOWKEEPER_IMPL_H
#define SALLYPORT_ALLOWKEEPER_IMPL_H

#include <event2/util.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf/allowmap.h"
#include "proxyd/parent.h"

/* More changes than this at once: the sets are replaced. */
#define SINGLY_MAX 1000
#define CHECK_TICKS 10

/* Operators that wait for a list; one control has one import at a time. */
#define DEBTS_MAX 16

/* A control that waits to hear how the list it sent has ended. */
struct debt {
	pid_t to;		/* 0: none */
	uint32_t cookie;
	uint32_t after;		/* it is leaving, its list is not taken: the
				 * successor's is, with this number (0: no) */
	pid_t successor;	/* or from any other than this one */
};

#define SETS 4	/* two, each in two families */

struct allowkeeper {
	struct parent *p;
	struct allowmap *merged;
	bool known;		/* control has told the ledger's content */
	bool stale;		/* the sets were not there when it changed */
	size_t kinds[SETS];	/* items that match in it */
	int64_t next_expiry;	/* Unix time, 0: none */
	int64_t rearm_at;
	unsigned odd;		/* looks in a row that found a difference */

	struct event *job;	/* replacing is under way when `filling' */
	bool filling;
	unsigned set;		/* being filled, SETS: all are */
	size_t at;
	bool made[SETS];
	bool swapped[SETS];
	unsigned waits;		/* for somebody who lists a set */
	struct prefix *touched;	/* changed meanwhile */
	size_t ntouched;
	struct debt debt[DEBTS_MAX];
	uint32_t again;		/* number of the last MSG_ALLOW_AGAIN */
};

/* ---- allowsets.c ---- */

/* Where a set of a family stands in the arrays above, and back (set / 2). */
unsigned allowsets_index(enum allow_set set, uint8_t family);
uint8_t allowsets_family(unsigned set);

/* Into the merged map (-1: no memory, or full; no change), and out of it. */
int allowsets_put(struct allowkeeper *k, const struct allow_item *i);
void allowsets_del(struct allowkeeper *k, const struct prefix *p);
/* What the file says about exactly this prefix, if it is not over. */
bool allowsets_of_file(const struct conf *conf, const struct prefix *p,
	int64_t now, struct allow_item *i_r);
/* The file's entries, where the map has none of the same prefix. 0 or -1. */
int allowsets_add_file(struct allowkeeper *k, const struct conf *conf);

bool allowsets_is_over(const struct allow_item *i, int64_t now);
/* What a set should have of an item, and for how long (0: for ever). */
enum element allowsets_wanted(const struct allowkeeper *k, enum allow_set set,
	const struct allow_item *i, int64_t now);
int64_t allowsets_seconds(const struct allow_item *i, int64_t now);
/* One prefix into the sets in use, or the second ones. 0, or not: no such
 * set, or refused. */
int allowsets_bring(struct allowkeeper *k, const struct prefix *p, bool second);

/* ---- allowjob.c ---- */

/* Replace the sets, from the beginning. */
void allowjob_start(struct allowkeeper *k);
/* Give up what is under way. */
void allowjob_drop(struct allowkeeper *k);
/* One prefix into the sets in use, and into those being filled. */
int allowjob_touch(struct allowkeeper *k, const struct prefix *p);
/* A control waits for the end of a list: after and successor as in a debt. */
void allowjob_owe(struct allowkeeper *k, struct debt debt);
/* The list has ended; state as in MSG_ALLOWED. */
void allowjob_answer(struct allowkeeper *k, uint32_t state);
/* The timer's callback. */
void allowjob_turn(evutil_socket_t fd, short what, void *arg);

/* ---- allowcheck.c ---- */

/* All of the map into the sets. Few are added to what is there, which leaves
 * sets that are right alone; if more is in them they are replaced. */
void allowcheck_synchronise(struct allowkeeper *k);
/* Look, and repair what somebody else has changed. */
void allowcheck_now(struct allowkeeper *k);

#endif
