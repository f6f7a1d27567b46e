/*
 * show.c - exactly what apply would do on a machine with nothing of ours
 *
 * Does: prints the policy routes, the input of ipset restore and the inputs
 * of iptables-restore and ip6tables-restore, in the order of apply, each with
 * its purpose; or the same as one JSON object.
 * Does not: look at the kernel or need a privilege.
 *
 * Called by the CLI. The text comes from the functions that apply uses, so the
 * two cannot differ.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "conf/conf.h"
#include "rules/route.h"
#include "rules/tables.h"

static void
show_sets(FILE *out, const struct sets *sets, int64_t now)
{
	fputs("# --- ipset restore\n", out);
	for (size_t i = 0; i < sets->n; i++) {
		fprintf(out, "# %s\n", sets->all[i].purpose);
		render_set_create(out, &sets->all[i], "");
		render_set_entries(out, &sets->all[i], "", now, false);
	}
}

static int
show_table(FILE *out, const struct conf *c, int family, enum table t)
{
	struct ruleset r;

	if (render_table(c, FAMILY(family), t, &r) < 0)
		return -1;
	if (r.n > 0) {
		fprintf(out, "# --- %s --noflush\n", tool_restore(family));
		table_print(out, t, &r);
	}
	ruleset_free(&r);
	return 0;
}

static json_t *
json_route(const struct conf *c)
{
	if (!route_wanted(c))
		return json_null();
	return json_pack("{s:i,s:i,s:i,s:i,s:i}", "mark", (int)c->mark,
		"mask", (int)c->mark_mask, "table", (int)c->table,
		"priority", (int)c->priority, "protocol", OUR_PROTO);
}

static int
show_text(const struct conf *c, const struct sets *sets, int64_t now,
	FILE *out)
{
	if (route_wanted(c)) {
		fputs("# --- packets with our mark are delivered here\n", out);
		for (int f = 0; f < FAMILIES; f++)
			route_print(c, f, out);
	}
	show_sets(out, sets, now);
	for (int t = 0; t < TABLE_COUNT; t++)
		for (int f = 0; f < FAMILIES; f++)
			if (show_table(out, c, f, (enum table)t) < 0)
				return -1;
	return 0;
}

static json_t *
json_set(const struct set *s, int64_t now)
{
	json_t *o, *entries = json_array();
	char name[SET_NAME_SIZE], text[ADDR_STRLEN];

	for (size_t i = 0; i < s->nentries; i++) {
		const struct set_entry *e = &s->entries[i];
		json_t *entry = json_pack("{s:s,s:b}", "prefix",
			prefix_format(&e->prefix, text), "nomatch",
			e->nomatch);

		if (e->until != 0)
			json_object_set_new(entry, "timeout",
				json_integer(e->until - now));
		json_array_append_new(entries, entry);
	}
	o = json_pack("{s:s,s:s,s:s,s:b,s:o}", "name", set_name(name, s->base,
		s->family), "type", s->family == 0 ? "bitmap:port" :
		"hash:net", "purpose", s->purpose, "filled_by_daemon",
		s->filled_by_daemon, "entries", entries);
	return o;
}

static int
json_table(json_t *list, const struct conf *c, int family, enum table t)
{
	struct ruleset r;

	if (render_table(c, FAMILY(family), t, &r) < 0)
		return -1;
	for (size_t i = 0; i < r.n; i++)
		json_array_append_new(list, json_pack(
			"{s:i,s:s,s:s,s:s,s:s,s:s}", "family",
			family == 0 ? 4 : 6, "table", table_name[t], "chain",
			r.rules[i].chain, "place", !r.rules[i].jump ? "own" :
			r.rules[i].first ? "first" : "last", "rule",
			r.rules[i].text, "purpose", r.rules[i].purpose));
	ruleset_free(&r);
	return 0;
}

static int
show_json(const struct conf *c, const struct sets *sets, int64_t now,
	FILE *out)
{
	json_t *rules = json_array(), *list = json_array(), *all;
	int result = 0;

	for (size_t i = 0; i < sets->n; i++)
		json_array_append_new(list, json_set(&sets->all[i], now));
	for (int t = 0; t < TABLE_COUNT; t++)
		for (int f = 0; f < FAMILIES; f++)
			result |= json_table(rules, c, f, (enum table)t);
	all = json_pack("{s:o,s:o,s:o}", "route", json_route(c), "sets", list,
		"rules", rules);
	if (all == NULL)
		return -1;
	json_dumpf(all, out, JSON_INDENT(2));
	fputc('\n', out);
	json_decref(all);
	return result;
}

int
rules_show(const struct conf *c, const struct rules_options *o, FILE *out)
{
	struct sets sets;
	int64_t now = time(NULL);
	int result;

	if (sets_compute(c, now, &sets) < 0)
		return 1;
	result = o->json ? show_json(c, &sets, now, out) :
		show_text(c, &sets, now, out);
	sets_free(&sets);
	return result < 0 || fflush(out) != 0 ? 1 : 0;
}
