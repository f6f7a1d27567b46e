/*
 * tables.c - from what a table holds to what it should hold
 *
 * Does: compares the text of iptables-save with the rules wanted; writes the
 * shortest input for iptables-restore --noflush that makes them equal. Only
 * our chains are declared there (which empties them), rules of ours in foreign
 * chains are deleted or added one by one, and nothing else is named: one
 * transaction, and foreign rules keep their place and their counters.
 * Does not: run anything.
 *
 * Called by apply.c (also to return to an earlier state), verify.c, remove.c
 * (want = nothing) and show.c. What is deleted is always the very text that
 * iptables-save has printed, so that -D cannot miss.
 */
#include "rules/tables.h"

#include <stdlib.h>
#include <string.h>

static bool
is_saved(const struct rule *rule, const struct saved_rule *saved)
{
	return line_is(&saved->chain, rule->chain) &&
		line_is(&saved->text, rule->text);
}

static bool
has_chain(const struct ruleset *r, const char *name, size_t len, size_t before)
{
	for (size_t i = 0; i < before; i++)
		if (!r->rules[i].jump && strlen(r->rules[i].chain) == len &&
		    memcmp(r->rules[i].chain, name, len) == 0)
			return true;
	return false;
}

/* ":sallyport_pre - [0:0]": the name, or false. */
static bool
own_chain(const struct line *l, struct line *name)
{
	if (!line_begins(l, ":" OUR_NAME))
		return false;
	name->p = l->p + 1;
	name->len = strcspn(name->p, " \n");
	return true;
}

/* How often does the jump stand in the text? */
static int
count_jump(const char *saved, const struct rule *rule)
{
	struct saved_rule r;
	struct line l;
	int n = 0;

	while (line_next(&saved, &l))
		n += line_rule(&l, &r) && is_saved(rule, &r);
	return n;
}

static bool
same_own_rules(const char *saved, const struct ruleset *want)
{
	struct saved_rule r;
	struct line l;
	const char *chain_at;
	struct line name;

	/* per chain, because iptables-save sorts chains by name */
	for (chain_at = saved; line_next(&chain_at, &l);) {
		const char *at = saved;
		size_t i = 0;

		if (!own_chain(&l, &name))
			continue;
		while (line_next(&at, &l)) {
			if (!line_rule(&l, &r) || r.chain.len != name.len ||
			    memcmp(r.chain.p, name.p, name.len) != 0)
				continue;
			while (i < want->n && !line_is(&name,
				    want->rules[i].chain))
				i++;
			if (i == want->n || !is_saved(&want->rules[i++], &r))
				return false;
		}
		for (; i < want->n; i++)
			if (line_is(&name, want->rules[i].chain))
				return false;
		if (!has_chain(want, name.p, name.len, want->n))
			return false;
	}
	return true;
}

static bool
all_chains_there(const char *saved, const struct ruleset *want)
{
	for (size_t i = 0; i < want->n; i++) {
		const char *at = saved;
		struct line l, name;
		bool there = want->rules[i].jump;

		while (!there && line_next(&at, &l))
			there = own_chain(&l, &name) &&
				line_is(&name, want->rules[i].chain);
		if (!there)
			return false;
	}
	return true;
}

/* A rule of ours in a foreign chain stays when it is wanted, once. */
static bool
jump_wanted(const struct ruleset *want, const struct saved_rule *r,
	bool *taken)
{
	for (size_t i = 0; i < want->n; i++) {
		if (want->rules[i].jump && !taken[i] &&
		    is_saved(&want->rules[i], r)) {
			taken[i] = true;
			return true;
		}
	}
	return false;
}

static int
write_jumps(FILE *f, const char *saved, const struct ruleset *want)
{
	bool *taken = calloc(want->n + 1, sizeof(*taken));
	struct saved_rule r;
	struct line l;
	int written = 0;

	if (taken == NULL)
		return -1;
	while (line_next(&saved, &l)) {
		if (!line_rule(&l, &r) || !r.to_ours ||
		    jump_wanted(want, &r, taken))
			continue;
		fprintf(f, "-D %.*s\n", (int)(l.len - 3), l.p + 3);
		written++;
	}
	/* one jump a foreign chain: the order among them does not matter */
	for (size_t i = 0; i < want->n; i++) {
		const struct rule *rule = &want->rules[i];

		if (!rule->jump || taken[i])
			continue;
		fprintf(f, "%s %s %s%s\n", rule->first ? "-I" : "-A",
			rule->chain, rule->first ? "1 " : "", rule->text);
		written++;
	}
	free(taken);
	return written;
}

static void
write_own(FILE *f, const struct ruleset *want)
{
	for (size_t i = 0; i < want->n; i++)
		if (!want->rules[i].jump)
			fprintf(f, "-A %s %s\n", want->rules[i].chain,
				want->rules[i].text);
}

static void
write_chains(FILE *f, const struct ruleset *want)
{
	for (size_t i = 0; i < want->n; i++) {
		const char *chain = want->rules[i].chain;

		if (!want->rules[i].jump &&
		    !has_chain(want, chain, strlen(chain), i))
			fprintf(f, ":%s - [0:0]\n", chain);
	}
}

/* Chains of ours that are not wanted: emptied all, then deleted. */
static void
write_stale(FILE *f, const char *saved, const struct ruleset *want)
{
	for (int pass = 0; pass < 2; pass++) {
		const char *at = saved;
		struct line l, name;

		while (line_next(&at, &l))
			if (own_chain(&l, &name) && !has_chain(want, name.p,
				    name.len, want->n))
				fprintf(f, "-%c %.*s\n", "FX"[pass],
					(int)name.len, name.p);
	}
}

int
table_change(const char *saved, enum table t, const struct ruleset *want,
	char **text_r)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);
	bool same = same_own_rules(saved, want) && all_chains_there(saved, want);
	int jumps;

	*text_r = NULL;
	if (f == NULL)
		return -1;
	fprintf(f, "*%s\n", table_name[t]);
	if (!same)
		write_chains(f, want);
	jumps = write_jumps(f, saved, want);
	if (!same) {
		write_own(f, want);
		write_stale(f, saved, want);
	}
	fputs("COMMIT\n", f);
	if (fclose(f) != 0 || jumps < 0) {
		free(text);
		return -1;
	}
	if (same && jumps == 0)
		free(text);
	else
		*text_r = text;
	return 0;
}

int
table_parse(const char *saved, struct ruleset *r)
{
	const char *at = saved;
	struct saved_rule s;
	struct line l;
	size_t n = 0;

	while (line_next(&at, &l))
		n++;
	memset(r, 0, sizeof(*r));
	r->rules = calloc(n + 1, sizeof(*r->rules));
	if (r->rules == NULL)
		return -1;
	for (at = saved; line_next(&at, &l);) {
		struct rule *rule = &r->rules[r->n];

		if (!line_rule(&l, &s) || (!s.ours && !s.to_ours))
			continue;
		rule->memory = strndup(s.chain.p, s.chain.len);
		rule->text = strndup(s.text.p, s.text.len);
		rule->chain = rule->memory;
		rule->jump = s.to_ours;
		r->n++;
		if (rule->memory == NULL || rule->text == NULL) {
			ruleset_free(r);
			return -1;
		}
	}
	return 0;
}

static int
count_text(const struct ruleset *want, const struct saved_rule *r)
{
	int n = 0;

	for (size_t i = 0; i < want->n; i++)
		n += is_saved(&want->rules[i], r);
	return n;
}

void
table_compare(const char *saved, const struct ruleset *want,
	const char *where, struct report *report)
{
	const int before = report->differences;
	const char *at = saved;
	struct saved_rule r;
	struct line l;

	for (size_t i = 0; i < want->n; i++) {
		const struct rule *rule = &want->rules[i];
		int n = count_jump(saved, rule);

		if (n == 0)
			report_add(report, "missing", "%s: %s-A %s %s", where,
				rule->jump ? "jump " : "", rule->chain,
				rule->text);
		else if (n > 1)
			report_add(report, "extra", "%s: %d times: -A %s %s",
				where, n, rule->chain, rule->text);
	}
	while (line_next(&at, &l))
		if (line_rule(&l, &r) && (r.ours || r.to_ours) &&
		    count_text(want, &r) == 0)
			report_add(report, "extra", "%s: %.*s", where,
				(int)l.len, l.p);
	if (report->differences == before && !same_own_rules(saved, want))
		report_add(report, "order", "%s: our rules are all there, but "
			"out of order or in a chain too many", where);
}

void
table_print(FILE *out, enum table t, const struct ruleset *want)
{
	fprintf(out, "*%s\n", table_name[t]);
	write_chains(out, want);
	write_jumps(out, "", want);
	write_own(out, want);
	fputs("COMMIT\n", out);
}
