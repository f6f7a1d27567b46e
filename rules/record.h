/*
 * record.h - what is meant to be in the kernel, besides what is there
 *
 * Internal to rules/. Two small files in /run, named after the network
 * namespace, so that they end with the machine's uptime as the rules do:
 *
 *   /run/sallyport-rules.COOKIE   rules were applied and not removed since
 *   /run/sallyport-bypass.COOKIE  bypasses and when they end
 *
 * Without the first, rules that are gone were never there or were removed on
 * purpose, and nobody brings them back.
 */
#ifndef SALLYPORT_RULES_RECORD_H
#define SALLYPORT_RULES_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bypass;

/* Held by whoever applies, removes, compares or repairs: one at a time. */
struct record {
	int fd;
	bool applied;
	uint64_t fingerprint;	/* of what was applied: fingerprint() */
};

/*
 * Open and wait for the lock. create: make the file when there is none. 0; -1
 * with errno, ENOENT: nothing was ever applied. The others need a 0.
 */
int record_lock(struct record *r, bool create);
int record_applied(struct record *r, uint64_t fingerprint);
/* Forget that rules were applied, and every bypass. */
void record_removed(struct record *r);
void record_unlock(struct record *r);

/* Remember bypasses, or that they ended. until of those of list is counted
 * from now. 0 or -1 with errno: the kernel has them all the same. */
int record_bypass(const struct bypass *list, size_t n, bool end);
/* What should hold still, with the seconds left. The caller frees *list_r. 0,
 * or -1 with errno; nothing remembered is 0. */
int record_bypass_read(struct bypass **list_r, size_t *n_r);

#endif
