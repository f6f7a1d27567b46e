/*
 * remove.c - take away everything of ours, whoever put it there and when
 *
 * Does: finds our chains, jumps, sets, ip rules and routes by name, comment
 * and protocol number, and deletes them in the reverse order of apply: nat
 * and mangle first, so that nothing is captured any more, then filter, sets,
 * routes.
 * Goes on when a step fails and reports each. Quiet when nothing is there.
 * Does not: need a configuration, or touch what is foreign. The built-in
 * chains of a table stay: iptables makes them, and others use them.
 *
 * Called by the CLI as root, also after an apply that was killed half way.
 */
#include <stdlib.h>
#include <string.h>

#include "rules/check.h"
#include "rules/record.h"
#include "rules/report.h"
#include "rules/route.h"
#include "rules/run.h"
#include "rules/tables.h"

static void
table_remove(struct report *r, const struct snap *s, int family, enum table t)
{
	const struct ruleset nothing = { 0 };
	const char *const argv[] = { tool_restore(family), "--noflush", "-w",
		"5", NULL };
	struct run tool;
	char *text;

	if (table_change(s->save[family][t], t, &nothing, &text) < 0) {
		report_add(r, "error", "out of memory");
		return;
	}
	if (text == NULL)
		return;
	if (run(&tool, argv, text, strlen(text)) < 0 || tool.status != 0)
		report_add(r, "error", "%s: %s", argv[0], run_why(&tool));
	else
		report_add(r, "done", "IPv%d %s: our chains removed",
			family == 0 ? 4 : 6, table_name[t]);
	run_free(&tool);
	free(text);
}

static void
set_remove(struct report *r, const struct saved_set *s)
{
	const struct line *name = &s->name;
	char text[SET_NAME_SIZE];
	const char *const argv[] = { "ipset", "destroy", text, NULL };
	struct run tool;

	if (name->len >= sizeof(text))
		return;
	memcpy(text, name->p, name->len);
	text[name->len] = '\0';
	if ((run(&tool, argv, NULL, 0) < 0 || tool.status != 0) &&
	    !snap_set_filling(s))
		report_add(r, "error", "%s", run_why(&tool));
	run_free(&tool);
}

static void
sets_remove(struct report *r, const struct snap *s)
{
	const int before = r->errors;

	for (size_t i = 0; i < s->nsets; i++)
		set_remove(r, &s->sets[i]);
	if (s->nsets > 0 && r->errors == before)
		report_add(r, "done", "%zu sets removed", s->nsets);
}

static void
routes_remove(struct report *r, int families)
{
	struct routes routes;
	char *text = NULL;
	size_t len;
	FILE *err = open_memstream(&text, &len);
	int n = 0;

	if (err == NULL)
		return;
	for (int f = 0; f < families; f++) {
		int deleted = routes_look(&routes, NULL, f, err) < 0 ? -1 :
			routes_delete_old(&routes, f, err);

		n += deleted > 0 ? deleted : 0;
	}
	fclose(err);
	report_lines(r, "error", text);
	if (n > 0)
		report_add(r, "done", "%d policy routes removed", n);
}

int
rules_remove(const struct conf *c, const struct rules_options *o, FILE *out,
	FILE *err)
{
	struct report r;
	struct snap s;
	char *text = NULL;
	size_t len;
	struct record record;
	FILE *words;
	int result;

	(void)c;	/* what is ours says so itself */
	report_open(&r, o, out, err);
	words = open_memstream(&text, &len);
	if (check_tools(&r) < 0 || words == NULL)
		return report_close(&r);
	/* first: a daemon that looks from now on misses nothing */
	(void)record_lock(&record, false);
	record_removed(&record);
	result = snap_take(&s, words);
	fclose(words);
	report_lines(&r, "error", text);
	if (result < 0) {
		record_unlock(&record);
		return report_close(&r);
	}
	for (int t = TABLE_COUNT; t-- > 0;)
		for (int f = 0; f < s.families; f++)
			table_remove(&r, &s, f, (enum table)t);
	sets_remove(&r, &s);
	routes_remove(&r, s.families);
	snap_free(&s);
	record_unlock(&record);
	return report_close(&r);
}
