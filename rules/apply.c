/*
 * apply.c - bring the kernel to what the configuration asks for
 *
 * Does: checks, looks, then changes in an order in which every intermediate
 * state forwards mail as before: policy routes, sets, then the tables. The gate
 * stays shut: the daemon opens it within a second of finding the sets. All
 * input for iptables is tested before the first table is committed. When a
 * step fails, the steps done are taken back in reverse.
 * Does not: touch foreign rules, sets or routes; start or tell the daemon.
 *
 * Called by the CLI as root, and by reconcile.c. iptables commits one table of one family at a
 * time and ipset one command at a time; that is why the way back exists. Old
 * contents of a set live on under the name SET_new until everything is done.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "conf/conf.h"
#include "rules/check.h"
#include "rules/reconcile.h"
#include "rules/record.h"
#include "rules/report.h"
#include "rules/route.h"
#include "rules/run.h"
#include "rules/setdiff.h"
#include "rules/tables.h"

#define NEW "_new"

/* From so many elements on a set is filled by netlink, not as text. */
#define BULK 1000

struct set_state {
	bool created;	/* was not there before */
	bool filled;	/* SET_new exists */
	bool swapped;
};

struct apply {
	const struct conf *c;
	struct report r;
	int64_t now;
	struct snap before;
	struct sets sets;
	struct ruleset want[FAMILIES][TABLE_COUNT];
	char *change[FAMILIES][TABLE_COUNT];	/* NULL: nothing to do */

	/* done so far, for the way back */
	bool did_rule[FAMILIES], did_route[FAMILIES];
	struct set_state *state;	/* of each of the sets */
	bool committed[FAMILIES][TABLE_COUNT];
};

static bool
wanted(const struct apply *a, const struct set *s)
{
	return s->family != AF_INET6 || a->before.families > 1;
}

/* A stream for what a callee has to say, reported as errors when closed. */
struct words {
	FILE *f;
	char *text;
	size_t len;
};

static int
words_open(struct words *w)
{
	w->text = NULL;
	w->f = open_memstream(&w->text, &w->len);
	return w->f == NULL ? -1 : 0;
}

static void
words_close(struct words *w, struct apply *a)
{
	fclose(w->f);
	report_lines(&a->r, "error", w->text);
}

static int
feed(struct apply *a, const char *const argv[], const char *input)
{
	struct run r;
	int result = 0;

	if (run(&r, argv, input, strlen(input)) < 0 || r.status != 0) {
		report_add(&a->r, "error", "%s: %s", argv[0], run_why(&r));
		result = -1;
	}
	run_free(&r);
	return result;
}

static int
restore(struct apply *a, int family, const char *text, bool test)
{
	const char *argv[] = { tool_restore(family), "--noflush", "-w", "5",
		test ? "--test" : NULL, NULL };

	return feed(a, argv, text);
}

static int
ipset_restore(struct apply *a, const char *text)
{
	const char *const argv[] = { "ipset", "restore", NULL };

	return text[0] == '\0' ? 0 : feed(a, argv, text);
}

/* ---- policy routes ---- */

static int
routes_apply(struct apply *a, int family, FILE *err)
{
	struct routes now;
	int old;

	if (routes_look(&now, a->c, family, err) < 0)
		return -1;
	old = routes_delete_old(&now, family, err);
	/* an old rule may have had the same priority: look again */
	if (old < 0 || (old > 0 && routes_look(&now, a->c, family, err) < 0))
		return -1;
	if (!now.route) {
		if (route_local(a->c, family, true, err) < 0)
			return -1;
		a->did_route[family] = true;
	}
	if (!now.rule) {
		if (route_rule(a->c, family, true, err) < 0)
			return -1;
		a->did_rule[family] = true;
	}
	return 0;
}

static int
all_routes_apply(struct apply *a)
{
	struct words w;
	int result = 0;

	if (words_open(&w) < 0)
		return -1;
	for (int f = 0; f < a->before.families && result == 0; f++)
		result = routes_apply(a, f, w.f);
	words_close(&w, a);
	return result;
}

/* ---- sets ---- */

/* New contents under a second name; a set of the daemon keeps its own. */
static void
set_write(struct apply *a, FILE *f, const struct set *s)
{
	const size_t i = (size_t)(s - a->sets.all);
	char name[SET_NAME_SIZE], second[SET_NAME_SIZE + sizeof(NEW)];

	set_name(name, s->base, s->family);
	snprintf(second, sizeof(second), "%s" NEW, name);
	if (snap_set(&a->before, second) != NULL)
		fprintf(f, "destroy %s\n", second);
	if (set_compare(s, snap_set(&a->before, name), a->now, NULL) == 0)
		return;
	if (snap_set(&a->before, name) == NULL) {
		a->state[i].created = true;
		render_set_create(f, s, "");
		if (s->nentries < BULK)
			render_set_entries(f, s, "", a->now, false);
	} else if (s->filled_by_daemon) {
		render_set_entries(f, s, "", a->now, true);
	} else {
		a->state[i].filled = true;
		render_set_create(f, s, NEW);
		if (s->nentries < BULK)
			render_set_entries(f, s, NEW, a->now, false);
	}
}

/* A thousand elements a message: neither we nor ipset make text of them. */
static int
set_fill_bulk(struct apply *a, struct gate *g, const struct set *s)
{
	const size_t i = (size_t)(s - a->sets.all);
	char name[SET_NAME_SIZE], full[SET_NAME_SIZE + sizeof(NEW)];
	struct allow_element e[ALLOW_FILL_MAX];
	size_t n = 0;

	set_name(name, s->base, s->family);
	snprintf(full, sizeof(full), "%s%s", name,
		a->state[i].created ? "" : NEW);
	for (size_t k = 0; k < s->nentries; k++) {
		const struct set_entry *from = &s->entries[k];
		int64_t left = from->until - a->now;

		e[n].prefix = from->prefix;
		e[n].element = from->nomatch ? ELEMENT_HOLE : ELEMENT_MATCH;
		e[n++].seconds = from->until == 0 ? 0 : left < 1 ? 1 : left;
		if (n < ALLOW_FILL_MAX && k + 1 < s->nentries)
			continue;
		if (gate_fill(g, full, s->family, s->timeout, e, n) != 0) {
			report_add(&a->r, "error", "set %s takes no elements",
				full);
			return -1;
		}
		n = 0;
	}
	return 0;
}

static int
sets_fill_bulk(struct apply *a)
{
	struct gate *g = NULL;
	int result = 0;

	for (size_t i = 0; i < a->sets.n && result == 0; i++) {
		if (a->sets.all[i].nentries < BULK ||
		    !(a->state[i].created || a->state[i].filled))
			continue;
		if (g == NULL && (g = gate_open()) == NULL) {
			report_add(&a->r, "error", "no netlink socket to fill "
				"sets by");
			return -1;
		}
		result = set_fill_bulk(a, g, &a->sets.all[i]);
	}
	gate_close(&g);
	return result;
}

static int
set_swap(struct apply *a, const struct set *s)
{
	const size_t i = (size_t)(s - a->sets.all);
	char name[SET_NAME_SIZE], second[SET_NAME_SIZE + sizeof(NEW)];
	const char *const argv[] = { "ipset", "swap", second, name, NULL };

	set_name(name, s->base, s->family);
	snprintf(second, sizeof(second), "%s" NEW, name);
	if (feed(a, argv, "") < 0) {
		report_add(&a->r, "error", "set %s cannot be replaced; `rules "
			"remove' takes it away if nothing of yours uses it",
			name);
		return -1;
	}
	a->state[i].swapped = !a->state[i].swapped;
	return 0;
}

static int
sets_apply(struct apply *a)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);
	int result;

	if (f == NULL)
		return -1;
	for (size_t i = 0; i < a->sets.n; i++)
		if (wanted(a, &a->sets.all[i]))
			set_write(a, f, &a->sets.all[i]);
	if (fclose(f) != 0) {
		free(text);
		return -1;
	}
	result = ipset_restore(a, text);
	free(text);
	if (result == 0)
		result = sets_fill_bulk(a);
	for (size_t i = 0; i < a->sets.n && result == 0; i++)
		if (a->state[i].filled)
			result = set_swap(a, &a->sets.all[i]);
	return result;
}

static void
set_destroy(const char *name)
{
	const char *const argv[] = { "ipset", "destroy", name, NULL };
	struct run r;

	/* looked for first by those who must know; here it may be missing */
	run(&r, argv, NULL, 0);
	run_free(&r);
}

/* The old contents, or after a way back the new ones. */
static void
sets_drop_second(struct apply *a)
{
	char name[SET_NAME_SIZE], second[SET_NAME_SIZE + sizeof(NEW)];

	for (size_t i = 0; i < a->sets.n; i++) {
		if (!a->state[i].filled)
			continue;
		set_name(name, a->sets.all[i].base, a->sets.all[i].family);
		snprintf(second, sizeof(second), "%s" NEW, name);
		set_destroy(second);
	}
}

/* Sets of ours from before that nothing refers to any more. */
static void
sets_drop_unknown(struct apply *a)
{
	char name[SET_NAME_SIZE];

	for (size_t j = 0; j < a->before.nsets; j++) {
		const struct line *l = &a->before.sets[j].name;
		bool known = l->len >= sizeof(name) ||
			snap_set_filling(&a->before.sets[j]);

		for (size_t i = 0; i < a->sets.n && !known; i++)
			known = line_is(l, set_name(name, a->sets.all[i].base,
				a->sets.all[i].family));
		if (known)
			continue;
		memcpy(name, l->p, l->len);
		name[l->len] = '\0';
		set_destroy(name);
	}
}

/* Before anything captures: who was bypassed stays so. One that cannot be is
 * said, and keeps nobody from the rest. */
static int
bypasses_apply(struct apply *a)
{
	struct words w;

	if (words_open(&w) < 0)
		return -1;
	(void)bypass_recall(w.f);
	fclose(w.f);
	report_lines(&a->r, "note", w.text);
	return 0;
}

/* ---- tables ---- */

static int
tables_test(struct apply *a)
{
	for (int f = 0; f < a->before.families; f++) {
		for (int t = 0; t < TABLE_COUNT; t++) {
			if (table_change(a->before.save[f][t], (enum table)t,
				    &a->want[f][t], &a->change[f][t]) < 0)
				return -1;
			if (a->change[f][t] != NULL &&
			    restore(a, f, a->change[f][t], true) < 0)
				return -1;
		}
	}
	return 0;
}

static int
tables_apply(struct apply *a)
{
	for (int t = 0; t < TABLE_COUNT; t++) {
		for (int f = 0; f < a->before.families; f++) {
			if (a->change[f][t] == NULL)
				continue;
			if (restore(a, f, a->change[f][t], false) < 0)
				return -1;
			a->committed[f][t] = true;
		}
	}
	return 0;
}

/* Back to the rules of ours that were there before, perhaps none. */
static void
table_undo(struct apply *a, const struct snap *now, int f, enum table t)
{
	struct ruleset old;
	char *text = NULL;

	if (table_parse(a->before.save[f][t], &old) < 0)
		return;
	if (table_change(now->save[f][t], t, &old, &text) == 0 && text != NULL)
		restore(a, f, text, false);
	free(text);
	ruleset_free(&old);
}

static void
tables_undo(struct apply *a, FILE *err)
{
	struct snap now;

	if (snap_take(&now, err) < 0)
		return;
	for (int t = TABLE_COUNT; t-- > 0;)
		for (int f = 0; f < now.families; f++)
			if (a->committed[f][t])
				table_undo(a, &now, f, (enum table)t);
	snap_free(&now);
}

/* ---- the whole ---- */

static void
undo(struct apply *a)
{
	char name[SET_NAME_SIZE];
	struct words w;

	if (words_open(&w) < 0)
		return;
	tables_undo(a, w.f);
	for (size_t i = 0; i < a->sets.n; i++) {
		if (a->state[i].swapped)
			set_swap(a, &a->sets.all[i]);
		if (a->state[i].created)
			set_destroy(set_name(name, a->sets.all[i].base,
				a->sets.all[i].family));
	}
	sets_drop_second(a);
	for (int f = 0; f < a->before.families; f++) {
		if (a->did_rule[f])
			route_rule(a->c, f, false, w.f);
		if (a->did_route[f])
			route_local(a->c, f, false, w.f);
	}
	words_close(&w, a);
	report_add(&a->r, "note", "what this apply had done is undone");
}

/* Everything that can refuse, before anything is changed. */
static int
prepare(struct apply *a)
{
	struct routes routes;
	struct words w;
	int result;

	if (check_tools(&a->r) < 0 || words_open(&w) < 0)
		return -1;
	result = snap_take(&a->before, w.f);
	for (int f = 0; f < a->before.families && result == 0; f++) {
		result = routes_look(&routes, a->c, f, w.f);
		if (result == 0 && routes.conflict[0] != '\0')
			fprintf(w.f, "IPv%d: %s\n", f == 0 ? 4 : 6,
				routes.conflict);
	}
	words_close(&w, a);
	if (result == 0)
		result = check_machine(a->c, a->before.families, &a->r);
	if (result == 0)
		result = sets_compute(a->c, a->now, &a->sets);
	if (result == 0) {
		a->state = calloc(a->sets.n, sizeof(*a->state));
		result = a->state != NULL ? 0 : -1;
	}
	for (int f = 0; f < a->before.families && result == 0; f++)
		for (int t = 0; t < TABLE_COUNT && result == 0; t++)
			result = render_table(a->c, FAMILY(f), (enum table)t,
				&a->want[f][t]);
	return a->r.errors > 0 ? -1 : result;
}

static void
notes(struct apply *a)
{
	size_t n = 0, far = 0;

	for (size_t i = 0; i < a->sets.n; i++) {
		n += a->sets.all[i].nentries;
		for (size_t j = 0; j < a->sets.all[i].nentries; j++)
			far += a->sets.all[i].entries[j].until >
				a->now + SET_TIMEOUT_MAX;
	}
	if (far > 0)
		report_add(&a->r, "note", "%zu of the allowlist's entries end "
			"later than a kernel set can count (%d days): apply "
			"again before then", far, SET_TIMEOUT_MAX / 86400);
	report_add(&a->r, "done", "rules applied for %s, %zu set entries; the "
		"daemon opens the gate", a->before.families > 1 ?
		"IPv4 and IPv6" : "IPv4", n);
}

static void
apply_free(struct apply *a)
{
	snap_free(&a->before);
	sets_free(&a->sets);
	free(a->state);
	for (int f = 0; f < FAMILIES; f++) {
		for (int t = 0; t < TABLE_COUNT; t++) {
			ruleset_free(&a->want[f][t]);
			free(a->change[f][t]);
		}
	}
}

int
apply_locked(const struct conf *c, const struct rules_options *o, FILE *out,
	FILE *err)
{
	struct apply a = { .c = c, .now = time(NULL) };

	report_open(&a.r, o, out, err);
	if (prepare(&a) < 0) {
		if (a.r.errors == 0)
			report_add(&a.r, "error", "%s", strerror(ENOMEM));
		report_add(&a.r, "note", "nothing was changed");
	} else if (all_routes_apply(&a) < 0 || sets_apply(&a) < 0 ||
	    bypasses_apply(&a) < 0 || tables_test(&a) < 0 || tables_apply(&a) < 0) {
		if (a.r.errors == 0)
			report_add(&a.r, "error", "%s", strerror(ENOMEM));
		undo(&a);
	} else {
		sets_drop_second(&a);
		sets_drop_unknown(&a);
		notes(&a);
	}
	apply_free(&a);
	return report_close(&a.r);
}

int
rules_apply(const struct conf *c, const struct rules_options *o, FILE *out,
	FILE *err)
{
	struct record record;
	bool locked = record_lock(&record, true) == 0;
	int status = apply_locked(c, o, out, err);

	if (status == 0 &&
	    (!locked || record_applied(&record, fingerprint(c)) != 0))
		fprintf(err, "warning: /run: %s: the daemon will not bring back "
			"what others take away\n", strerror(errno));
	record_unlock(&record);
	return status;
}
