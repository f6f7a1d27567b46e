/*
 * cmd_report.c - sallyport report [--since TIME] [--csv | --html | --xarf]
 *
 * Does: print which lines had a level since a time (a week, without one), one row
 * each: its worst level, when and on what evidence, its customer, what it is now;
 * which of them speak alike; and how many lines tried port 25, hour by hour; as
 * text, CSV (RFC 4180, the lines only), JSON, or HTML; for others as X-ARF
 * (report_xarf.c). Does not: ask the daemon, or write ARF: RFC 5965 wants the
 * message that is reported, or its header, and nobody here has read one.
 *
 * Called by the command line's main, by people and by cron. Exit status: 0 done, 1
 * the ledger cannot be read, 2 usage or configuration. What came from operators
 * and from outside is escaped for each form in one place.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "conf/allow.h"
#include "conf/conf.h"
#include "tools/answer.h"
#include "tools/cmd.h"
#include "tools/ledger_read.h"
#include "tools/report_xarf.h"
#include "tools/report.h"

#define WEEK (7 * 86400)

enum form { AS_TEXT, AS_CSV, AS_HTML, AS_JSON, AS_XARF };

/* ---- text and JSON ---- */

static void
print_groups(const struct report *r)
{
	if (r->ngroups > 0)
		puts("Lines that speak alike, as few others do (evidence only):");
	for (size_t i = 0; i < r->ngroups; i++) {
		printf("  dialect %s, %u lines:", report_dialect(
			r->group[i].dialect), r->group[i].lines);
		for (size_t k = 0; k < r->n; k++)
			if (r->row[k].is_alike && strcmp(r->row[k].dialect,
				    r->group[i].dialect) == 0)
				printf(" %s", r->row[k].line);
		putchar('\n');
	}
	if (r->unknown > 0)
		printf("Whether %u lines speak as others do is not known yet: "
			"dialects are counted once an hour\n", r->unknown);
}

static void
print_hours(const struct report *r)
{
	uint64_t attempts = 0, blocked = 0;
	uint32_t most = 0;

	for (size_t i = 0; i < r->nhours; i++) {
		attempts += r->hour[i].attempts;
		blocked += r->hour[i].blocked;
		most = r->hour[i].lines > most ? r->hour[i].lines : most;
	}
	if (r->nhours > 0)
		printf("Port 25: %llu attempts, %llu sessions blocked; at most "
			"%u lines of a class in an hour\n",
			(unsigned long long)attempts,
			(unsigned long long)blocked, most);
}

static void
print_text(const struct report *r)
{
	char since[32], first[32], evidence[EVIDENCE_CHARS];

	printf("Since %s: %u zombies, %u probable, %u suspect\n", answer_when(
		r->since, since), report_count(r, 3), report_count(r, 2), report_count(r, 1));
	for (size_t i = 0; i < r->n; i++) {
		const struct row *w = &r->row[i];

		if (w->worst == 0)
			continue;
		report_evidence(w, evidence, sizeof(evidence));
		printf("%-28s %-9s since %s, now %s%s%s; by %s%s%s%s%s\n",
			w->line, report_level[w->worst], answer_when(w->first,
			first), report_level[w->now],
			w->customer[0] != '\0' ? ", customer " : "",
			w->customer, w->who, w->why[0] != '\0' ? ": " : "",
			w->why, evidence[0] != '\0' ? "; " : "", evidence);
	}
	print_groups(r);
	print_hours(r);
}

static json_t *
json_groups(const struct report *r)
{
	json_t *groups = json_array();

	for (size_t i = 0; i < r->ngroups; i++) {
		json_t *lines = json_array();

		for (size_t k = 0; k < r->n; k++)
			if (r->row[k].is_alike && strcmp(r->row[k].dialect,
				    r->group[i].dialect) == 0)
				json_array_append_new(lines, json_string(
					r->row[k].line));
		json_array_append_new(groups, json_pack("{s:s,s:o}", "dialect",
			report_dialect(r->group[i].dialect), "lines", lines));
	}
	return groups;
}

static json_t *
json_hours(const struct report *r)
{
	json_t *hours = json_array();

	for (size_t i = 0; i < r->nhours; i++) {
		const struct ledger_hour *e = &r->hour[i];

		json_array_append_new(hours, json_pack(
			"{s:I,s:s,s:I,s:I,s:I,s:I,s:I,s:I,s:I}",
			"at", (json_int_t)e->at, "class", e->class,
			"lines", (json_int_t)e->lines,
			"attempts", (json_int_t)e->attempts,
			"destinations", (json_int_t)e->destinations,
			"blocked", (json_int_t)e->blocked,
			"suspect", (json_int_t)e->level[1],
			"probable", (json_int_t)e->level[2],
			"zombie", (json_int_t)e->level[3]));
	}
	return hours;
}

static void
print_json(const struct report *r)
{
	json_t *lines = json_array(), *o;

	for (size_t i = 0; i < r->n; i++) {
		const struct row *w = &r->row[i];

		if (w->worst != 0)
			json_array_append_new(lines, json_pack(
				"{s:s,s:s,s:s,s:s,s:I,s:I,s:i,s:s,s:s,s:O?}",
				"line", w->line, "customer", w->customer,
				"worst", report_level[w->worst], "now",
				report_level[w->now], "first",
				(json_int_t)w->first, "last",
				(json_int_t)w->last, "changes",
				(int)w->changes, "who", w->who, "why", w->why,
				"evidence", w->evidence));
	}
	o = json_pack("{s:I,s:I,s:o,s:o,s:i,s:o}", "since",
		(json_int_t)r->since, "until", (json_int_t)r->now, "lines",
		lines, "alike", json_groups(r), "alike_unknown",
		(int)r->unknown, "hours", json_hours(r));
	answer_print(o);
	json_decref(o);
}

/* ---- CSV ---- */

/* Always quoted; a cell that a spreadsheet would take for a formula begins with
 * an apostrophe. */
static void
csv_cell(const char *text, char behind)
{
	putchar('"');
	if (text[0] != '\0' && strchr("=+-@\t\r", text[0]) != NULL)
		putchar('\'');
	for (; *text != '\0'; text++) {
		if (*text == '"')
			putchar('"');
		putchar(*text);
	}
	putchar('"');
	fputs(behind == '\n' ? "\r\n" : ",", stdout);
}

static void
csv_number(int64_t n, char behind)
{
	char text[24];

	snprintf(text, sizeof(text), "%lld", (long long)n);
	csv_cell(text, behind);
}

static void
print_csv(const struct report *r)
{
	char evidence[EVIDENCE_CHARS], when[32];

	fputs("line,customer,worst,now,first,last,changes,who,why,"
		"destinations,rate,attempts,sessions,alike,evidence\r\n",
		stdout);
	for (size_t i = 0; i < r->n; i++) {
		const struct row *w = &r->row[i];

		if (w->worst == 0)
			continue;
		report_evidence(w, evidence, sizeof(evidence));
		csv_cell(w->line, ',');
		csv_cell(w->customer, ',');
		csv_cell(report_level[w->worst], ',');
		csv_cell(report_level[w->now], ',');
		csv_cell(answer_when(w->first, when), ',');
		csv_cell(answer_when(w->last, when), ',');
		csv_number(w->changes, ',');
		csv_cell(w->who, ',');
		csv_cell(w->why, ',');
		csv_number(answer_number(w->evidence, "destinations"), ',');
		csv_number(answer_number(w->evidence, "rate"), ',');
		csv_number(answer_number(w->evidence, "attempts"), ',');
		csv_number(answer_number(w->evidence, "sessions"), ',');
		csv_cell(w->is_alike ? report_dialect(w->dialect) : "", ',');
		csv_cell(evidence, '\n');
	}
}

/* ---- the command ---- */

static int
usage(const char *what)
{
	fprintf(stderr, "sallyport report: %s; expected perhaps --since with a "
		"time like 2026-11-25T18:14:00Z, and\n--csv, --html or "
		"--xarf, the last perhaps with --output FOLDER\n", what);
	return 2;
}

static int
no_arf(void)
{
	fprintf(stderr, "sallyport report: a report in ARF (RFC 5965) contains "
		"the message or its header,\nand this program keeps neither of "
		"any mail; --xarf says what it has seen\n");
	return 2;
}

static int
make(const char *config, int64_t since, enum form form, const char *dir)
{
	static void (*const print[])(const struct report *) = {
		[AS_TEXT] = print_text, [AS_CSV] = print_csv,
		[AS_HTML] = report_html, [AS_JSON] = print_json };
	struct report r = { .since = since, .now = time(NULL),
		.index = json_object(), .common = json_object() };
	struct conf *c = conf_load(config, stderr);
	char why[200] = "";
	int rc;

	if (c == NULL || form == AS_XARF) {
		rc = c == NULL ? 2 : report_xarf(c, since, dir);
		report_free(&r);
		conf_free(&c);
		return rc;
	}
	rc = ledger_with(c, report_read, &r, why);
	if (rc < 0 || r.no_memory)
		fprintf(stderr, "sallyport report: %s: %s\n", c->ledger_file,
			r.no_memory ? "out of memory" : why);
	else
		print[form](&r);
	rc = rc < 0 || r.no_memory;
	report_free(&r);
	conf_free(&c);
	return rc;
}

/* A form by its name; -1: it is none. */
static int
form_of(const char *word)
{
	static const char *const name[] = { [AS_CSV] = "--csv",
		[AS_HTML] = "--html", [AS_XARF] = "--xarf" };

	for (size_t i = 0; i < sizeof(name) / sizeof(name[0]); i++)
		if (name[i] != NULL && strcmp(word, name[i]) == 0)
			return (int)i;
	return -1;
}

int
cmd_report(int argc, char **argv, const char *config, bool json)
{
	int64_t since = time(NULL) - WEEK;
	enum form form = json ? AS_JSON : AS_TEXT;
	const char *dir = NULL;

	for (int i = 1; i < argc; i++)
		if (strcmp(argv[i], "--since") == 0 && i + 1 < argc) {
			if (allow_time(argv[++i], &since) != 0 ||
			    since > time(NULL))
				return usage("this is no time that has been");
		} else if (strcmp(argv[i], "--output") == 0 && i + 1 < argc)
			dir = argv[++i];
		else if (strcmp(argv[i], "--arf") == 0)
			return no_arf();
		else if (form_of(argv[i]) >= 0 && (form == AS_TEXT ||
		    (form == AS_JSON && form_of(argv[i]) == AS_XARF)))
			form = (enum form)form_of(argv[i]);
		else
			return usage("not understood");
	if (dir != NULL && form != AS_XARF)
		return usage("--output is for mails of --xarf");
	return make(config, since, form, dir);
}
