/*
 * reconcile.c - have our rules been taken away by somebody else?
 *
 * Does: compares what is in the kernel with what `rules apply' put there, as
 * far as that can be known: if the configuration is still the one applied,
 * every rule, jump, policy route and set, and the number of elements in sets
 * that nobody but apply fills. If it is another one (reloaded, not applied),
 * only what is missing whatever the configuration says. Applies again what is
 * lost. Does not: list elements, which for half a million takes a second; look
 * at foreign rules; bring back what was removed on purpose or never applied.
 *
 * Called by a process that the daemon's parent forks for it, since tools are
 * started and waited for. What it reads is made by those tools and may hold
 * rules of others, which the parser knows how to skip.
 */
#include "rules/reconcile.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "conf/conf.h"
#include "rules/check.h"
#include "rules/record.h"
#include "rules/report.h"
#include "rules/route.h"
#include "rules/tables.h"

/* Of a fingerprint: the rules are those of capture = "redirect". */
#define CAPTURE_BIT UINT64_C(1)

static const struct rules_options plain = { .program = "sallyport" };

static struct conf
without_allowlist(const struct conf *c)
{
	struct conf copy = *c;

	copy.nallow = 0;
	copy.ledger = NULL;
	return copy;
}

/* ---- fingerprint ---- */

static int
print_all(FILE *f, const struct conf *c)
{
	struct ruleset rules;
	struct sets sets;

	fprintf(f, "%u %u\n", c->table, c->priority);
	for (int v = 0; v < FAMILIES; v++)
		for (int t = 0; t < TABLE_COUNT; t++) {
			if (render_table(c, FAMILY(v), (enum table)t,
				    &rules) < 0)
				return -1;
			table_print(f, (enum table)t, &rules);
			ruleset_free(&rules);
		}
	if (sets_compute(c, 0, &sets) < 0)
		return -1;
	for (size_t i = 0; i < sets.n; i++) {
		render_set_create(f, &sets.all[i], "");
		if (!sets.all[i].filled_by_daemon)
			render_set_entries(f, &sets.all[i], "", 0, false);
	}
	sets_free(&sets);
	return 0;
}

/* FNV-1a: nobody has a reason to forge a configuration that is his own. */
uint64_t
fingerprint(const struct conf *conf)
{
	const struct conf c = without_allowlist(conf);
	uint64_t hash = 0xcbf29ce484222325;
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);
	int result;

	if (f == NULL)
		return 0;
	result = print_all(f, &c);
	if (fclose(f) != 0 || result < 0)
		hash = 0;
	for (size_t i = 0; i < len && hash != 0; i++)
		hash = (hash ^ (uint8_t)text[i]) * 0x100000001b3;
	free(text);
	return (hash & ~CAPTURE_BIT) |
		(conf->capture == CAPTURE_REDIRECT ? CAPTURE_BIT : 0);
}

/*
 * Rules for the other way of capturing are the operator's, who has yet to
 * restart the daemon: the gate stays shut (gatekeeper.c), and nothing in them
 * is missing.
 */
static bool
is_for_other_capture(const struct record *r, const struct conf *c)
{
	return r->applied && ((r->fingerprint & CAPTURE_BIT) != 0) !=
		(c->capture == CAPTURE_REDIRECT);
}

/* ---- look ---- */

struct look {
	const struct conf *c;
	bool exact;	/* c is what was applied */
	struct snap snap;
	struct report report;
	FILE *said;
	char *text;
	size_t len;
};

/* Sets that not every configuration has. */
static bool
is_optional(const struct set *s)
{
	return strncmp(s->base, SET_LINE, strlen(SET_LINE)) == 0 ||
		strncmp(s->base, SET_DST, strlen(SET_DST)) == 0;
}

static void
look_at_set(struct look *l, struct gate *g, const struct set *s)
{
	char name[SET_NAME_SIZE];
	int64_t have;

	if ((s->family == AF_INET6 && l->snap.families == 1) ||
	    (!l->exact && is_optional(s)))
		return;
	have = gate_set_count(g, set_name(name, s->base, s->family), s->family);
	if (have < 0)
		report_add(&l->report, "missing", "set %s", name);
	else if (l->exact && !s->timeout && !s->filled_by_daemon &&
	    have != (int64_t)s->nentries)
		report_add(&l->report, "different", "set %s has %lld of %zu "
			"elements", name, (long long)have, s->nentries);
}

static void
look_at_sets(struct look *l)
{
	const struct conf c = without_allowlist(l->c);
	struct gate *g = gate_open();
	struct sets sets;

	if (g == NULL)
		report_add(&l->report, "error", "no netfilter netlink");
	if (g == NULL || sets_compute(&c, time(NULL), &sets) < 0) {
		gate_close(&g);
		return;
	}
	for (size_t i = 0; i < sets.n; i++)
		look_at_set(l, g, &sets.all[i]);
	sets_free(&sets);
	gate_close(&g);
}

static void
look_at_table(struct look *l, int family, enum table t)
{
	const char *saved = l->snap.save[family][t];
	struct ruleset want;
	char where[32];

	if (render_table(l->c, FAMILY(family), t, &want) < 0)
		return;
	snprintf(where, sizeof(where), "IPv%d %s", family == 0 ? 4 : 6,
		table_name[t]);
	if (want.n > 0 && !snap_has_ours(&l->snap, family, t))
		report_add(&l->report, "missing", "%s: all our chains", where);
	else if (l->exact)
		table_compare(saved, &want, where, &l->report);
	ruleset_free(&want);
}

static void
look_at_routes(struct look *l, int family)
{
	struct routes now;
	int v = family == 0 ? 4 : 6;

	if (routes_look(&now, l->c, family, l->said) < 0)
		report_add(&l->report, "error", "IPv%d: policy routes", v);
	else if (!now.rule)
		report_add(&l->report, "missing", "IPv%d: ip rule", v);
	else if (!now.route)
		report_add(&l->report, "missing", "IPv%d: ip route", v);
}

static void
compare(struct look *l)
{
	look_at_sets(l);
	for (int f = 0; f < l->snap.families; f++) {
		for (int t = 0; t < TABLE_COUNT; t++)
			look_at_table(l, f, (enum table)t);
		look_at_routes(l, f);
	}
}

/* The first line of what was said, and how many there are. */
static void
summarize(struct rules_loss *loss, int n, const char *text)
{
	loss->n = n;
	snprintf(loss->first, sizeof(loss->first), "%.*s",
		(int)strcspn(text, "\n"), text);
}

enum rules_state
rules_look(const struct conf *c, struct rules_loss *loss_r)
{
	struct look l = { .c = c };
	enum rules_state state = RULES_UNKNOWN;
	struct record record;

	memset(loss_r, 0, sizeof(*loss_r));
	if (record_lock(&record, false) < 0)
		return RULES_NONE;
	if (is_for_other_capture(&record, c)) {
		record_unlock(&record);
		return RULES_NONE;
	}
	l.exact = record.fingerprint == fingerprint(c);
	l.said = record.applied ? open_memstream(&l.text, &l.len) : NULL;
	if (l.said != NULL) {
		report_open(&l.report, &plain, l.said, l.said);
		if (snap_tables(&l.snap, l.said) == 0) {
			compare(&l);
			if (l.report.differences > 0)
				state = RULES_LOST;
			else if (l.report.errors == 0)
				state = RULES_GOOD;
			snap_free(&l.snap);
		}
		fclose(l.said);
		summarize(loss_r, l.report.differences, l.text);
		free(l.text);
	} else if (!record.applied) {
		state = RULES_NONE;
	}
	record_unlock(&record);
	return state;
}

/* ---- repair ---- */

int
rules_repair(const struct conf *c, struct rules_loss *why_r)
{
	char *text = NULL;
	size_t len = 0;
	struct record record;
	FILE *nowhere, *err;
	int status = 0;

	memset(why_r, 0, sizeof(*why_r));
	if (record_lock(&record, false) < 0)
		return 0;
	if (is_for_other_capture(&record, c)) {
		record_unlock(&record);
		return 0;
	}
	nowhere = fopen("/dev/null", "we");
	err = open_memstream(&text, &len);
	if (nowhere == NULL || err == NULL)
		status = -1;
	else if (record.applied)
		status = apply_locked(c, &plain, nowhere, err);
	/* /run may be read-only here; then the old number stays */
	if (status == 0 && record.applied)
		(void)record_applied(&record, fingerprint(c));
	if (nowhere != NULL)
		fclose(nowhere);
	if (err != NULL)
		fclose(err);
	summarize(why_r, status != 0, text != NULL ? text : strerror(ENOMEM));
	free(text);
	record_unlock(&record);
	return status == 0 ? 0 : -1;
}
