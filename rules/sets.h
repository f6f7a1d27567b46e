/*
 * sets.h - the kernel sets: names, and what each must contain
 *
 * Internal to rules/. Pure: computed from the configuration, no kernel.
 */
#ifndef SALLYPORT_RULES_SETS_H
#define SALLYPORT_RULES_SETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/addr.h"
#include "rules/rules.h"

#define SET_SUB "sallyport_sub"
#define SET_BLOCK "sallyport_block"
#define SET_CARRY "sallyport_carry"
#define SET_RESET "sallyport_reset"
#define SET_DROP "sallyport_drop"
#define SET_ALLOW "sallyport_allow"
#define SET_ACARRY "sallyport_acarry"
#define SET_PASS "sallyport_pass"
#define SET_NEVER "sallyport_never"
#define SET_OWN "sallyport_own"
#define SET_POP3 "sallyport_pop3"
#define SET_IMAP "sallyport_imap"
#define SET_FIRST "sallyport_first"

/* Of class number N with enforce = "listed": its lines, its destinations. The
 * number follows. */
#define SET_LINE "sallyport_line"
#define SET_DST "sallyport_dst"

/* What `sallyport bypass' fills (bypass.c): lines, destinations, and ports for
 * everybody. The second of each pair holds the same and GRACE seconds longer:
 * there only SYNs are captured, so that sessions that ran directly survive. */
#define SET_BYPASS "sallyport_bypass"
#define SET_BYPASSD "sallyport_bypassd"
#define SET_OFF "sallyport_off"
#define SET_CALM "sallyport_calm"
#define SET_CALMD "sallyport_calmd"
#define SET_CALMP "sallyport_calmp"

/* Ends the name of a set that the daemon fills, to swap it with the one in use.
 * It comes and goes at any time. */
#define SET_FILLING "_fill"

/* IPSET_MAXNAMELEN, with the NUL. */
#define SET_NAME_SIZE 32

/* The most seconds ipset takes: its timers are milliseconds in 32 bits, and
 * only half of them lie in the future. */
#define SET_TIMEOUT_MAX 2147483

struct set_entry {
	struct prefix prefix;
	bool nomatch;	/* a hole in a shorter prefix of the same set */
	int64_t until;	/* Unix time, 0: for ever */
};

/* One kernel set. entries of the bitmaps are always none. */
struct set {
	char base[SET_NAME_SIZE];	/* SET_..., perhaps with a number */
	const char *purpose;
	uint8_t family;		/* AF_INET, AF_INET6; 0: bitmap:port */
	bool timeout;		/* elements may expire */
	bool filled_by_daemon;	/* or by bypass: entries are a minimum; others
				 * are kept */
	struct set_entry *entries;
	size_t nentries;
};

struct sets {
	struct set *all;
	size_t n;
};

/* Name of a set in the kernel: base + "4", "6" or nothing. Returns out. */
const char *set_name(char out[SET_NAME_SIZE], const char *base, uint8_t family);

/*
 * What every set should contain at the time now. The order is that of creation
 * and the same each time; entries are sorted by address, shorter prefixes
 * first. 0, or -1 without memory (nothing to free then).
 */
int sets_compute(const struct conf *c, int64_t now, struct sets *sets_r);
void sets_free(struct sets *sets);

/* Sort by family, address, length; for bsearch and for qsort. */
int set_entry_compare(const void *a, const void *b);

/* hash:net cannot hold a prefix of length 0; sets_compute writes two halves. */

#endif
