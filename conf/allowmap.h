/*
 * allowmap.h - a changing set of allow entries, by prefix
 *
 * What the ledger holds, without who and why: for the policy of the relays,
 * for the parent that keeps the kernel's sets, for the control process.
 */
#ifndef SALLYPORT_ALLOWMAP_H
#define SALLYPORT_ALLOWMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf/conf.h"

/* More is a mistake or an attack; the kernel sets have room for it. */
#define ALLOWMAP_MAX 1000000

/* Fixed size, no hidden byte: also the record in which processes hand many
 * entries to each other. */
struct allow_item {
	struct prefix prefix;
	uint8_t action;		/* enum action: pass, watch, relay, submit */
	uint8_t from_file;	/* 1: of the allow file, not of the ledger */
	uint8_t pad[4];
	int64_t until;		/* Unix time, 0: for ever */
};

struct allowmap;

/* NULL only without memory. */
struct allowmap *allowmap_new(void);
void allowmap_free(struct allowmap **m);

/* Every field in range, no host bits, nothing in the padding? For items that
 * another process sent. */
bool allow_item_valid(const struct allow_item *i);

/* The same of an item whose prefix says nothing. */
bool allow_rest_valid(const struct allow_item *i);

/* Add, or replace what the same prefix had. 0, or -1: no memory or more than
 * ALLOWMAP_MAX. */
int allowmap_put(struct allowmap *m, const struct allow_item *i);
/* 1: was there; 0: was not. */
int allowmap_del(struct allowmap *m, const struct prefix *p);

/* Exactly this prefix, expired or not; NULL: none. Valid until a change. */
const struct allow_item *allowmap_get(const struct allowmap *m,
	const struct prefix *p);
/* The longest prefix that contains the address and has not expired. */
const struct allow_item *allowmap_find(const struct allowmap *m,
	const struct addr *a, int64_t now);
/* The longest one that contains p and is shorter. */
const struct allow_item *allowmap_around(const struct allowmap *m,
	const struct prefix *p, int64_t now);

/* All, in no order: an array of *n_r that a change invalidates. Deleting one
 * moves the last into its place. */
const struct allow_item *allowmap_all(const struct allowmap *m, size_t *n_r);

#endif
