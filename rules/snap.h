/*
 * snap.h - what is in the kernel now
 *
 * Internal to rules/ (the CLI side). A snapshot is taken once per command and
 * only read afterwards.
 */
#ifndef SALLYPORT_RULES_SNAP_H
#define SALLYPORT_RULES_SNAP_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "rules/render.h"

/* Families by index: 0 IPv4, 1 IPv6. */
#define FAMILIES 2
#define FAMILY(i) ((uint8_t)((i) == 0 ? AF_INET : AF_INET6))

/*
 * A piece of a snapshot's text: a line, a word of it, the lines of a set. Not
 * terminated: use its length.
 */
struct line {
	const char *p;
	size_t len;
};

/* One of our sets as `ipset save' prints it. */
struct saved_set {
	struct line name;
	struct line create;	/* the whole line */
	struct line entries;	/* all lines "add NAME ..." */
};

struct snap {
	int families;		/* 2, or 1 without IPv6 in the kernel */
	char *save[FAMILIES][TABLE_COUNT];	/* of iptables-save */
	char *ipset;		/* ipset save */
	struct saved_set *sets;	/* ours, in ipset */
	size_t nsets;
};

/* 0, or -1 with the reason on err. The second leaves sets out. */
int snap_take(struct snap *s, FILE *err);
int snap_tables(struct snap *s, FILE *err);
void snap_free(struct snap *s);

/* NULL when there is no such set. */
const struct saved_set *snap_set(const struct snap *s, const char *name);

/* Is it one that the daemon is filling? Only `remove' cares. */
bool snap_set_filling(const struct saved_set *s);

/* Is anything of ours in that table? */
bool snap_has_ours(const struct snap *s, int family, enum table t);

/* Walk over the lines of a text; *at starts as the text. False at the end. */
bool line_next(const char **at, struct line *line_r);
bool line_is(const struct line *l, const char *text);
bool line_begins(const struct line *l, const char *text);

/* A line "-A CHAIN REST" taken apart. False for any other line. */
struct saved_rule {
	struct line chain, text;
	bool ours;	/* the chain is ours */
	bool to_ours;	/* a rule of a foreign chain that is ours by its
			 * comment or by where it leads */
};
bool line_rule(const struct line *l, struct saved_rule *r);

/* Names of the tools by family: "iptables-restore", "ip6tables-save", ... */
const char *tool_save(int family);
const char *tool_restore(int family);

#endif
