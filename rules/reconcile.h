/*
 * reconcile.h - what apply and the daemon's look share
 *
 * Internal to rules/.
 */
#ifndef SALLYPORT_RULES_RECONCILE_H
#define SALLYPORT_RULES_RECONCILE_H

#include <stdint.h>
#include <stdio.h>

struct conf;
struct rules_options;

/* Everything of a configuration that only `rules apply' brings to the kernel,
 * as one number; the allowlist, which the daemon keeps, is not in it. 0: no
 * memory. */
uint64_t fingerprint(const struct conf *c);

/* rules_apply() for who holds the record's lock. */
int apply_locked(const struct conf *c, const struct rules_options *o, FILE *out,
	FILE *err);

/* Bypasses that should hold, into sets that may be new. 0, or -1 with the
 * reason on err. (bypass.c) */
int bypass_recall(FILE *err);

#endif
