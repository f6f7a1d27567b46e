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
#include "rules/setdiff.h"
#include "rules/tables.h"

static void
sets_verify(const struct conf *c, const struct snap *snap, struct report *r)
{
	struct sets sets;
	int64_t now = time(NULL);
	char name[SET_NAME_SIZE];

	if (sets_compute(c, now, &sets) < 0) {
		report_add(r, "error", "out of memory");
		return;
	}
	for (size_t i = 0; i < sets.n; i++)
		if (sets.all[i].family != AF_INET6 || snap->families > 1)
			set_compare(&sets.all[i], snap_set(snap, set_name(name,
				sets.all[i].base, sets.all[i].family)), now, r);
	for (size_t j = 0; j < snap->nsets; j++) {
		const struct line *l = &snap->sets[j].name;
		bool known = snap_set_filling(&snap->sets[j]);

		for (size_t i = 0; i < sets.n && !known; i++)
			known = line_is(l, set_name(name, sets.all[i].base,
				sets.all[i].family));
		if (!known)
			report_add(r, "extra", "set %.*s", (int)l->len, l->p);
	}
	sets_free(&sets);
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

/* What is not tracked is not translated. */
static void
note_untracked(const struct line *l, const char *where, struct report *r)
{
	if (has(l, "-j NOTRACK") || has(l, "--notrack"))
		report_add(r, "note", "%s: connections that are not tracked are "
			"not redirected: %.*s", where, (int)l->len, l->p);
}

/* Foreign rules that captured and proxied packets do not meet (any more). */
static void
notes_table(const struct conf *c, const char *saved, enum table t,
	const char *where, struct report *r)
{
	struct saved_rule s;
	struct line l, chain = { "", 0 };
	bool foreign_before = false, ours_before = false, queues = false;

	while (line_next(&saved, &l)) {
		if (line_begins(&l, ":FORWARD DROP"))
			report_add(r, "note", "%s: the policy DROP of FORWARD "
				"does not apply to proxied connections", where);
		if (!line_rule(&l, &s) || s.ours)
			continue;
		if (t == TABLE_RAW && c->capture == CAPTURE_REDIRECT)
			note_untracked(&l, where, r);
		if (s.chain.len != chain.len ||
		    memcmp(s.chain.p, chain.p, chain.len) != 0)
			foreign_before = ours_before = false;
		chain = s.chain;
		queues = (t == TABLE_RAW && line_is(&chain, "PREROUTING")) ||
			(t == TABLE_MANGLE && line_is(&chain, "FORWARD"));
		/* our queue accepts, and accepting ends the chain */
		if (queues && ours_before && !s.to_ours)
			report_add(r, "note", "%s: queued first packets do not "
				"meet a rule behind ours: %.*s", where,
				(int)l.len, l.p);
		ours_before |= s.to_ours;
		if (s.to_ours && foreign_before && !queues)
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
			notes_table(c, snap->save[f][t], (enum table)t, where,
				r);
			ruleset_free(&want);
		}
	}
}

/* Not a word about each of two hundred things when none of them exists. */
static bool
nothing_there(const struct snap *snap)
{
	if (snap->nsets > 0)
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
