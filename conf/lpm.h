/*
 * lpm.h - longest-prefix match for IPv4 and IPv6, cost independent of size
 *
 * One keyed hash table per prefix length that is in use; a look-up probes the
 * lengths in use from the longest down.
 */
#ifndef SALLYPORT_LPM_H
#define SALLYPORT_LPM_H

#include <stddef.h>
#include <stdint.h>

#include "lib/addr.h"

struct lpm;

/* NULL only without memory. */
struct lpm *lpm_new(void);
void lpm_free(struct lpm **l);

/* Add prefix -> value (>= 0). 0 added; 1 the same prefix was there (kept, the
 * old value in *old_r); -1 no memory. */
int lpm_add(struct lpm *l, const struct prefix *p, int32_t value, int32_t *old_r);

/* prefix -> value, whatever was there. 0, or -1 without memory. */
int lpm_set(struct lpm *l, const struct prefix *p, int32_t value);
/* The value of exactly this prefix, or -1; del also takes it out. */
int32_t lpm_get(const struct lpm *l, const struct prefix *p);
int32_t lpm_del(struct lpm *l, const struct prefix *p);

/* Value of the longest prefix that contains a, or -1. When matched_r is not
 * NULL it gets that prefix. */
int32_t lpm_find(const struct lpm *l, const struct addr *a,
	struct prefix *matched_r);

/* The same among prefixes of at most max_len bits: with the length of a match
 * minus one, the next shorter match. */
int32_t lpm_find_within(const struct lpm *l, const struct addr *a,
	unsigned max_len, struct prefix *matched_r);

size_t lpm_count(const struct lpm *l);

#endif
