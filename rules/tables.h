/*
 * tables.h - from what a table holds to what it should hold
 *
 * Internal to rules/. Works on the text of iptables-save; no kernel.
 */
#ifndef SALLYPORT_RULES_TABLES_H
#define SALLYPORT_RULES_TABLES_H

#include "rules/report.h"
#include "rules/snap.h"

/*
 * The input of iptables-restore --noflush that leaves exactly the rules of
 * want in our chains, exactly their jumps in foreign chains, and every other
 * rule where it is. want->n = 0 removes all of ours. *text_r is NULL when
 * there is nothing to do. 0 or -1 (no memory). The caller frees.
 */
int table_change(const char *saved, enum table t, const struct ruleset *want,
	char **text_r);

/* The rules of ours in the text of iptables-save, to return to them later. */
int table_parse(const char *saved, struct ruleset *r);

/* Report each difference between saved and want, and nothing when there is
 * none. where is "IPv4 mangle". */
void table_compare(const char *saved, const struct ruleset *want,
	const char *where, struct report *report);

/* The whole input for an empty table, for show: with the purposes. */
void table_print(FILE *out, enum table t, const struct ruleset *want);

#endif
