/*
 * verify.c - is everything there as it should be, and nothing else of ours?
 *
 * Does: compares policy routes, sets and tables with what apply would make of
 * the configuration and names each difference: missing, extra, different, out
 * of order. Adds notes, which are not differences, about foreign rules that
 * proxied traffic no longer meets (its packets pass INPUT and OUTPUT, not
 * FORWARD) and about rules in front of ours.
 * Does not: repair anything.
 *
 * Called by the CLI as root. Elements that the daemon keeps are not compared,
 * only that the configuration's own are among them.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "conf/conf.h"
#include "rules/check.h"
#include "rules/report.h"
#include "rules/route.h"
#include "rules/run.h"
#include "rules/tables.h"

/* Kernel timers and our clock may differ by the time an apply takes. */
#define TIMEOUT_SLACK 60

/* More differences of one set than this are summed up. */
#define NAMED_MAX 20

struct saved_entry {
	struct set_entry e;	/* until: seconds left, 0: for ever */
	bool seen;
};

/* "add NAME 10.0.0.0/8 timeout 99 nomatch" */
static int
entry_parse(const struct line *l, const char *name, struct saved_entry *e)
{
	char text[256], *word, *rest = text;
	const char *why;

	if (!line_begins(l, "add ") || l->len >= sizeof(text))
		return -1;
	memcpy(text, l->p, l->len);
	text[l->len] = '\0';
	memset(e, 0, sizeof(*e));
	strsep(&rest, " ");
	word = strsep(&rest, " ");
	if (word == NULL || strcmp(word, name) != 0 || rest == NULL)
		return -1;
	word = strsep(&rest, " ");
	if (prefix_parse(&e->e.prefix, word, &why) < 0)
		return -1;
	while ((word = strsep(&rest, " ")) != NULL) {
		if (strcmp(word, "nomatch") == 0)
			e->e.nomatch = true;
		else if (strcmp(word, "timeout") == 0 && rest != NULL)
			e->e.until = strtoll(strsep(&rest, " "), NULL, 10);
	}
	return 0;
}

static bool
same_entry(const struct set_entry *want, const struct set_entry *have,
	int64_t now)
{
	int64_t left = want->until - now;

	if (want->nomatch != have->nomatch ||
	    (want->until == 0) != (have->until == 0))
		return false;
	if (want->until == 0)
		return true;
	/* cut to what a set can count, and running since */
	if (left > SET_TIMEOUT_MAX)
		return true;
	return llabs(left - have->until) <= TIMEOUT_SLACK;
}

struct named {
	struct report *r;
	const char *set;
	size_t n;
};

static void
name_entry(struct named *n, const char *kind, const struct set_entry *e)
{
	char text[ADDR_STRLEN];

	if (n->n++ < NAMED_MAX)
		report_add(n->r, kind, "set %s: %s%s", n->set,
			prefix_format(&e->prefix, text),
			e->nomatch ? " nomatch" : "");
}

/* Both sorted by the same order: one walk finds all. */
static void
entries_compare(const struct set *s, const char *name,
	struct saved_entry *have, size_t nhave, int64_t now, struct report *r)
{
	struct named n = { .r = r, .set = name };
	size_t i = 0, j = 0;

	while (i < s->nentries || j < nhave) {
		int d = i == s->nentries ? 1 : j == nhave ? -1 :
			set_entry_compare(&s->entries[i], &have[j].e);

		if (d < 0) {
			name_entry(&n, "missing", &s->entries[i++]);
		} else if (d > 0) {
			if (!s->filled_by_daemon)
				name_entry(&n, "extra", &have[j].e);
			j++;
		} else {
			if (!same_entry(&s->entries[i], &have[j].e, now))
				name_entry(&n, "different", &s->entries[i]);
			i++;
			j++;
		}
	}
	if (n.n > NAMED_MAX)
		report_add(r, "different", "set %s: %zu differences more",
			name, n.n - NAMED_MAX);
}

static bool
header_fits(const struct line *l, const struct set *s, const char *name)
{
	char want[128];
	bool timeout = memmem(l->p, l->len, " timeout ", 9) != NULL;

	if (s->family == 0)
		snprintf(want, sizeof(want), "create %s bitmap:port range "
			"1-1023 timeout %d", name, GATE_SECONDS);
	else
		snprintf(want, sizeof(want), "create %s hash:net family %s ",
			name, s->family == AF_INET ? "inet" : "inet6");
	return line_begins(l, want) && timeout == s->timeout;
}

static void
set_compare(const struct set *s, const char *name, const char *saved,
	int64_t now, struct report *r)
{
	struct saved_entry *have;
	const char *at = saved;
	size_t n = 0;
	struct line l;

	while (line_next(&at, &l))
		n++;
	have = calloc(n + 1, sizeof(*have));
	if (have == NULL) {
		report_add(r, "error", "out of memory");
		return;
	}
	n = 0;
	for (at = saved; line_next(&at, &l);) {
		if (line_begins(&l, "create ") && !header_fits(&l, s, name))
			report_add(r, "different", "set %s: is of another "
				"kind: %.*s", name, (int)l.len, l.p);
		if (s->family != 0 && entry_parse(&l, name, &have[n]) == 0)
			n++;
	}
	qsort(have, n, sizeof(*have), set_entry_compare);
	entries_compare(s, name, have, n, now, r);
	free(have);
}

static void
set_verify(const struct set *s, const struct snap *snap, int64_t now,
	struct report *r)
{
	char name[SET_NAME_SIZE];
	const char *const argv[] = { "ipset", "save", name, NULL };
	struct run tool;

	set_name(name, s->base, s->family);
	if (!snap_has_set(snap, name)) {
		report_add(r, "missing", "set %s (%s)", name, s->purpose);
		return;
	}
	if (run(&tool, argv, NULL, 0) < 0 || tool.status != 0)
		report_add(r, "error", "ipset: %s", run_why(&tool));
	else
		set_compare(s, name, tool.out, now, r);
	run_free(&tool);
}

static void
sets_verify(const struct conf *c, const struct snap *snap, struct report *r)
{
	struct set sets[SET_COUNT];
	int64_t now = time(NULL);
	const char *at = snap->sets;
	char name[SET_NAME_SIZE];
	struct line l;

	if (sets_compute(c, now, sets) < 0) {
		report_add(r, "error", "out of memory");
		return;
	}
	for (size_t i = 0; i < SET_COUNT; i++)
		if (sets[i].family != AF_INET6 || snap->families > 1)
			set_verify(&sets[i], snap, now, r);
	while (line_next(&at, &l)) {
		bool known = !line_begins(&l, OUR_NAME);

		for (size_t i = 0; i < SET_COUNT && !known; i++)
			known = line_is(&l, set_name(name, sets[i].base,
				sets[i].family));
		if (!known)
			report_add(r, "extra", "set %.*s", (int)l.len, l.p);
	}
	sets_free(sets);
}

static void
routes_verify(const struct conf *c, int family, struct report *r)
{
	struct routes now;
	char *text = NULL;
	size_t len;
	FILE *err = open_memstream(&text, &len);
	int result, v = family == 0 ? 4 : 6;

	if (err == NULL)
		return;
	result = routes_look(&now, c, family, err);
	fclose(err);
	report_lines(r, "error", text);
	if (result < 0)
		return;
	if (!now.rule)
		report_add(r, "missing", "IPv%d: ip rule fwmark 0x%x/0x%x "
			"lookup %u priority %u protocol %d", v, c->mark,
			c->mark_mask, c->table, c->priority, OUR_PROTO);
	if (!now.route)
		report_add(r, "missing", "IPv%d: ip route local default dev lo "
			"table %u proto %d", v, c->table, OUR_PROTO);
	for (int i = 0; i < now.nold_rules; i++)
		report_add(r, "extra", "IPv%d: ip rule of ours with priority "
			"%u", v, now.old_rule[i]);
	for (int i = 0; i < now.nold_routes; i++)
		report_add(r, "extra", "IPv%d: ip route of ours in table %u",
			v, now.old_route[i]);
	if (now.conflict[0] != '\0')
		report_add(r, "different", "IPv%d: %s", v, now.conflict);
}

static bool
has(const struct line *l, const char *text)
{
	return memmem(l->p, l->len, text, strlen(text)) != NULL;
}

/* Foreign rules that captured and proxied packets do not meet (any more). */
static void
notes_table(const char *saved, enum table t, const char *where,
	struct report *r)
{
	struct saved_rule s;
	struct line l, chain = { "", 0 };
	bool foreign_before = false;

	while (line_next(&saved, &l)) {
		if (line_begins(&l, ":FORWARD DROP"))
			report_add(r, "note", "%s: the policy DROP of FORWARD "
				"does not apply to proxied connections", where);
		if (!line_rule(&l, &s) || s.ours)
			continue;
		if (s.chain.len != chain.len ||
		    memcmp(s.chain.p, chain.p, chain.len) != 0)
			foreign_before = false;
		chain = s.chain;
		if (s.to_ours && foreign_before)
			report_add(r, "note", "%s: foreign rules stand in "
				"front of our jump in %.*s", where,
				(int)chain.len, chain.p);
		foreign_before |= !s.to_ours;
		if (s.to_ours || !line_is(&s.chain, "FORWARD"))
			continue;
		if (t == TABLE_FILTER && (has(&l, "-j DROP") ||
			    has(&l, "-j REJECT")))
			report_add(r, "note", "%s: does not apply to proxied "
				"connections: %.*s", where, (int)l.len, l.p);
		if (has(&l, "-j TCPMSS"))
			report_add(r, "note", "%s: does not apply to proxied "
				"connections (ours are clamped in OUTPUT): "
				"%.*s", where, (int)l.len, l.p);
	}
}

static void
tables_verify(const struct conf *c, const struct snap *snap, struct report *r)
{
	struct ruleset want;
	char where[32];

	for (int f = 0; f < snap->families; f++) {
		for (int t = 0; t < TABLE_COUNT; t++) {
			if (render_table(c, FAMILY(f), (enum table)t,
				    &want) < 0) {
				report_add(r, "error", "out of memory");
				return;
			}
			snprintf(where, sizeof(where), "IPv%d %s",
				f == 0 ? 4 : 6, table_name[t]);
			table_compare(snap->save[f][t], &want, where, r);
			notes_table(snap->save[f][t], (enum table)t, where, r);
			ruleset_free(&want);
		}
	}
}

/* Not a word about each of two hundred things when none of them exists. */
static bool
nothing_there(const struct snap *snap)
{
	const char *at = snap->sets;
	struct line l;

	while (line_next(&at, &l))
		if (line_begins(&l, OUR_NAME))
			return false;
	for (int f = 0; f < snap->families; f++)
		for (int t = 0; t < TABLE_COUNT; t++)
			if (snap_has_ours(snap, f, (enum table)t))
				return false;
	return true;
}

int
rules_verify(const struct conf *c, const struct rules_options *o, FILE *out,
	FILE *err)
{
	struct report r;
	struct snap snap;
	char *text = NULL;
	size_t len;
	FILE *words;
	int result;

	report_open(&r, o, out, err);
	words = open_memstream(&text, &len);
	if (check_tools(&r) < 0 || words == NULL)
		return report_close(&r);
	result = snap_take(&snap, words);
	fclose(words);
	report_lines(&r, "error", text);
	if (result < 0)
		return report_close(&r);
	check_machine(c, snap.families, &r);
	if (nothing_there(&snap)) {
		report_add(&r, "missing", "no rules are applied; run `%s rules "
			"apply'", o->program);
		snap_free(&snap);
		return report_close(&r);
	}
	for (int f = 0; f < snap.families; f++)
		routes_verify(c, f, &r);
	sets_verify(c, &snap, &r);
	tables_verify(c, &snap, &r);
	snap_free(&snap);
	if (r.differences == 0 && r.errors == 0)
		report_add(&r, "done", "everything is as it should be");
	return report_close(&r);
}
