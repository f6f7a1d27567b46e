/*
 * render.h - the rules as text
 *
 * Internal to rules/. Pure: computed from the configuration, no kernel. The
 * text is exactly what iptables-save (1.8.7 to 1.8.9) prints for the same
 * rule, so that verify is a comparison of lines.
 */
#ifndef SALLYPORT_RULES_RENDER_H
#define SALLYPORT_RULES_RENDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "rules/sets.h"

/* What makes a chain, a set or a rule ours. */
#define OUR_NAME "sallyport_"
#define OUR_COMMENT "--comment \"sallyport: "

/* Marks our ip rule and route as ours (`proto' of rtnetlink). */
#define OUR_PROTO 225

/* In the order in which they are applied. */
enum table { TABLE_FILTER, TABLE_MANGLE, TABLE_NAT, TABLE_RAW, TABLE_COUNT };

extern const char *const table_name[TABLE_COUNT];

struct rule {
	const char *chain;
	const char *purpose;
	char *text;	/* everything after "-A CHAIN " */
	bool jump;	/* in a chain that is not ours */
	bool first;	/* a jump that is inserted, not appended */
	char *memory;	/* of chain, when it is not one of our constants */
};

struct ruleset {
	struct rule *rules;
	size_t n;
};

/* All rules of a table for one family, in order. 0 or -1 (no memory). */
int render_table(const struct conf *c, uint8_t family, enum table t,
	struct ruleset *r);
void ruleset_free(struct ruleset *r);

/* The ports of the relays' own connections, "25,110,...": the usual mail
 * ports and those of the servers listed. Returns how many there are,
 * PORTS_MAX + 1 for more than the kernel's multiport takes. */
#define PORTS_MAX 15
size_t render_ports(const struct conf *c, char *out, size_t size);

/* ---- lines of ipset restore ---- */

void render_set_create(FILE *f, const struct set *s, const char *suffix);
/* Without `-exist' an entry that is there already is an error. */
void render_set_entries(FILE *f, const struct set *s, const char *suffix,
	int64_t now, bool exist);
/* One entry as ipset prints it, without its timeout. */
void render_entry(FILE *f, const struct set_entry *e);

#endif
