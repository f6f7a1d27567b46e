/*
 * cmd_report.c - sallyport report [--since TIME] [--csv | --html]
 *
 * Does: read from the ledger which lines had a level since a time (a week, without
 * one), one row each: its worst level, when and on what evidence, its customer,
 * what it is now; as text, CSV (RFC 4180), JSON, or one HTML file that needs no
 * other, with changes by day and kinds of evidence drawn as SVG. Does not: ask the
 * daemon.
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

#define WEEK (7 * 86400)
#define DAY 86400
#define DAYS_SHOWN 92
#define ZOMBIE 3
/* Five kinds, and the lines of a /56. */
#define EVIDENCE_CHARS 1024

enum form { AS_TEXT, AS_CSV, AS_HTML, AS_JSON };

static const char *const level_word[] = { "clean", "suspect", "probable",
	"zombie" };
/* In the order of zombie/table.h. */
static const char *const kind_name[] = { "first_contact", "unknown_user",
	"refusal", "null_sender", "helo" };
#define KINDS (sizeof(kind_name) / sizeof(kind_name[0]))

struct row {
	char line[LINE_STRLEN], customer[CONF_CUSTOMER_MAX];
	unsigned worst, now, changes;
	int64_t first, last;	/* changes of level */
	char who[LEDGER_WHO_MAX], why[LEDGER_WHY_MAX];	/* of the worst */
	json_t *evidence;	/* of the worst; NULL: none */
};

struct report {
	int64_t since, now;
	struct row *row;
	size_t n, cap;
	json_t *index;		/* line: place in row */
	unsigned by_day[DAYS_SHOWN];	/* lines that became zombies */
	bool no_memory;
};

/* ---- out of the ledger ---- */

static struct row *
row_of(struct report *r, const char *line)
{
	json_t *at = json_object_get(r->index, line);

	if (at != NULL)
		return &r->row[json_integer_value(at)];
	if (r->n == r->cap) {
		size_t cap = r->cap == 0 ? 64 : r->cap * 2;
		struct row *more = reallocarray(r->row, cap, sizeof(*more));

		if (more == NULL)
			return NULL;
		r->row = more;
		r->cap = cap;
	}
	if (json_object_set_new(r->index, line, json_integer(
		    (json_int_t)r->n)) != 0)
		return NULL;
	memset(&r->row[r->n], 0, sizeof(r->row[0]));
	snprintf(r->row[r->n].line, LINE_STRLEN, "%s", line);
	return &r->row[r->n++];
}

static void
note_change(void *arg, const struct ledger_level *e, const char *customer)
{
	struct report *r = arg;
	struct row *w = row_of(r, e->line);
	int64_t day = (e->at - r->since) / DAY;

	if (w == NULL || e->is > ZOMBIE) {
		r->no_memory |= w == NULL;
		return;
	}
	if (w->changes++ == 0)
		w->first = e->at;
	w->last = e->at;
	w->now = e->is;
	snprintf(w->customer, sizeof(w->customer), "%s", customer);
	if (e->is == ZOMBIE && day >= 0 && day < DAYS_SHOWN)
		r->by_day[day]++;
	if (e->is < w->worst || e->is == 0)
		return;
	w->worst = e->is;
	snprintf(w->who, sizeof(w->who), "%s", e->who);
	snprintf(w->why, sizeof(w->why), "%s", e->why);
	json_decref(w->evidence);
	w->evidence = json_loads(e->evidence, 0, NULL);
}

static int
collect(struct ledger *l, void *arg)
{
	struct report *r = arg;

	return ledger_each_change(l, r->since, note_change, r);
}

static int
by_level(const void *a, const void *b)
{
	const struct row *x = a, *y = b;

	if (x->worst != y->worst)
		return x->worst > y->worst ? -1 : 1;
	return x->first < y->first ? -1 : x->first > y->first;
}

static unsigned
count(const struct report *r, unsigned level)
{
	unsigned n = 0;

	for (size_t i = 0; i < r->n; i++)
		n += r->row[i].worst == level;
	return n;
}

/* "3 lines together: A, B, C" of a /56 that its lines have raised. */
static size_t
lines_text(const json_t *evidence, char *out, size_t cap)
{
	const json_t *list = json_object_get(evidence, "suspects"), *one;
	size_t i, len = (size_t)snprintf(out, cap, "%lld lines together",
		(long long)answer_number(evidence, "lines"));

	json_array_foreach(list, i, one)
		if (json_is_string(one) && len + LINE_STRLEN < cap)
			len += (size_t)snprintf(out + len, cap - len, "%s%s",
				i > 0 ? ", " : ": ", json_string_value(one));
	return len;
}

/* "first_contact 15.5 (52 of 58), helo ..." of the kinds that were seen. */
static void
evidence_text(const struct row *w, char *out, size_t cap)
{
	const json_t *kinds = json_object_get(w->evidence, "evidence");
	size_t len = 0;

	out[0] = '\0';
	if (answer_number(w->evidence, "lines") > 0)
		len = lines_text(w->evidence, out, cap);
	for (size_t i = 0; i < KINDS; i++) {
		const json_t *k = json_object_get(kinds, kind_name[i]);

		if (answer_number(k, "bad") == 0 || len + 80 > cap)
			continue;
		len += (size_t)snprintf(out + len, cap - len,
			"%s%s %.1f (%lld of %lld)", len > 0 ? ", " : "",
			kind_name[i], json_number_value(json_object_get(k,
			"score")), (long long)answer_number(k, "bad"),
			(long long)answer_number(k, "all"));
	}
}

/* ---- text and JSON ---- */

static void
print_text(const struct report *r)
{
	char since[32], first[32], evidence[EVIDENCE_CHARS];

	printf("Since %s: %u zombies, %u probable, %u suspect\n", answer_when(
		r->since, since), count(r, 3), count(r, 2), count(r, 1));
	for (size_t i = 0; i < r->n; i++) {
		const struct row *w = &r->row[i];

		if (w->worst == 0)
			continue;
		evidence_text(w, evidence, sizeof(evidence));
		printf("%-28s %-9s since %s, now %s%s%s; by %s%s%s%s%s\n",
			w->line, level_word[w->worst], answer_when(w->first,
			first), level_word[w->now],
			w->customer[0] != '\0' ? ", customer " : "",
			w->customer, w->who, w->why[0] != '\0' ? ": " : "",
			w->why, evidence[0] != '\0' ? "; " : "", evidence);
	}
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
				"worst", level_word[w->worst], "now",
				level_word[w->now], "first",
				(json_int_t)w->first, "last",
				(json_int_t)w->last, "changes",
				(int)w->changes, "who", w->who, "why", w->why,
				"evidence", w->evidence));
	}
	o = json_pack("{s:I,s:I,s:o}", "since", (json_int_t)r->since, "until",
		(json_int_t)r->now, "lines", lines);
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
		"destinations,rate,attempts,sessions,evidence\r\n", stdout);
	for (size_t i = 0; i < r->n; i++) {
		const struct row *w = &r->row[i];

		if (w->worst == 0)
			continue;
		evidence_text(w, evidence, sizeof(evidence));
		csv_cell(w->line, ',');
		csv_cell(w->customer, ',');
		csv_cell(level_word[w->worst], ',');
		csv_cell(level_word[w->now], ',');
		csv_cell(answer_when(w->first, when), ',');
		csv_cell(answer_when(w->last, when), ',');
		csv_number(w->changes, ',');
		csv_cell(w->who, ',');
		csv_cell(w->why, ',');
		csv_number(answer_number(w->evidence, "destinations"), ',');
		csv_number(answer_number(w->evidence, "rate"), ',');
		csv_number(answer_number(w->evidence, "attempts"), ',');
		csv_number(answer_number(w->evidence, "sessions"), ',');
		csv_cell(evidence, '\n');
	}
}

/* ---- HTML ---- */

static void
html_text(const char *text)
{
	for (; *text != '\0'; text++)
		switch (*text) {
		case '&':
			fputs("&amp;", stdout);
			break;
		case '<':
			fputs("&lt;", stdout);
			break;
		case '>':
			fputs("&gt;", stdout);
			break;
		case '"':
			fputs("&quot;", stdout);
			break;
		default:
			putchar(*text);
		}
}

static void
html_cell(const char *text)
{
	fputs("<td>", stdout);
	html_text(text);
	fputs("</td>", stdout);
}

/* Bars, and below each its label. */
static void
html_bars(const char *title, const unsigned *n, size_t count_of,
	const char *(*label)(const struct report *r, size_t i, char out[32]),
	const struct report *r)
{
	unsigned most = 1;
	char text[32];

	for (size_t i = 0; i < count_of; i++)
		most = n[i] > most ? n[i] : most;
	printf("<h2>%s</h2>\n<svg role=\"img\" width=\"%zu\" height=\"150\" "
		"viewBox=\"0 0 %zu 150\">\n", title, count_of * 90 + 10,
		count_of * 90 + 10);
	for (size_t i = 0; i < count_of; i++) {
		unsigned height = n[i] * 100 / most;

		printf("<rect x=\"%zu\" y=\"%u\" width=\"70\" height=\"%u\" "
			"fill=\"#b33\"/><text x=\"%zu\" y=\"%u\">%u</text>"
			"<text x=\"%zu\" y=\"140\">%s</text>\n", i * 90 + 10,
			120 - height, height, i * 90 + 10, 115 - height, n[i],
			i * 90 + 10, label(r, i, text));
	}
	puts("</svg>");
}

static const char *
day_label(const struct report *r, size_t i, char out[32])
{
	time_t t = (time_t)(r->since + (int64_t)i * DAY);
	struct tm tm;

	if (gmtime_r(&t, &tm) == NULL || strftime(out, 32, "%m-%d", &tm) == 0)
		out[0] = '\0';
	return out;
}

static const char *
kind_label(const struct report *r, size_t i, char out[32])
{
	(void)r;
	snprintf(out, 32, "%s", kind_name[i]);
	return out;
}

static void
html_plots(const struct report *r)
{
	size_t days = (size_t)((r->now - r->since) / DAY) + 1;
	unsigned kinds[KINDS] = { 0 };

	for (size_t i = 0; i < r->n; i++)
		for (size_t k = 0; k < KINDS; k++)
			kinds[k] += r->row[i].worst == ZOMBIE &&
				answer_number(json_object_get(json_object_get(
				r->row[i].evidence, "evidence"), kind_name[k]),
				"bad") > 0;
	html_bars("Lines that became zombies, by day (UTC)", r->by_day,
		days < DAYS_SHOWN ? days : DAYS_SHOWN, day_label, r);
	html_bars("Zombies with this kind of evidence", kinds, KINDS,
		kind_label, r);
}

static void
print_html(const struct report *r)
{
	char when[32], evidence[EVIDENCE_CHARS];

	puts("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
		"<title>Sallyport: lines with a level</title>\n<style>body{"
		"font:14px sans-serif}td,th{padding:2px 8px;text-align:left;"
		"border-bottom:1px solid #ccc}text{font:11px sans-serif}"
		"</style></head><body>");
	printf("<h1>Lines with a level since %s</h1>\n<p>%u zombies, %u "
		"probable, %u suspect</p>\n", answer_when(r->since, when),
		count(r, 3), count(r, 2), count(r, 1));
	html_plots(r);
	puts("<table><tr><th>line</th><th>customer</th><th>worst</th><th>now"
		"</th><th>first</th><th>last</th><th>by</th><th>why</th>"
		"<th>evidence</th></tr>");
	for (size_t i = 0; i < r->n; i++) {
		const struct row *w = &r->row[i];

		if (w->worst == 0)
			continue;
		evidence_text(w, evidence, sizeof(evidence));
		fputs("<tr>", stdout);
		html_cell(w->line);
		html_cell(w->customer);
		html_cell(level_word[w->worst]);
		html_cell(level_word[w->now]);
		html_cell(answer_when(w->first, when));
		html_cell(answer_when(w->last, when));
		html_cell(w->who);
		html_cell(w->why);
		html_cell(evidence);
		puts("</tr>");
	}
	puts("</table></body></html>");
}

/* ---- the command ---- */

static int
usage(const char *what)
{
	fprintf(stderr, "sallyport report: %s; expected perhaps --since with a "
		"time like 2026-11-25T18:14:00Z, and\n--csv or --html\n", what);
	return 2;
}

static int
make(const char *config, int64_t since, enum form form)
{
	static void (*const print[])(const struct report *) = {
		[AS_TEXT] = print_text, [AS_CSV] = print_csv,
		[AS_HTML] = print_html, [AS_JSON] = print_json };
	struct report r = { .since = since, .now = time(NULL),
		.index = json_object() };
	struct conf *c = conf_load(config, stderr);
	char why[200] = "";
	int rc;

	if (c == NULL)
		return 2;
	rc = ledger_with(c, collect, &r, why);
	if (rc < 0 || r.no_memory)
		fprintf(stderr, "sallyport report: %s: %s\n", c->ledger_file,
			r.no_memory ? "out of memory" : why);
	else {
		if (r.n > 0)
			qsort(r.row, r.n, sizeof(*r.row), by_level);
		print[form](&r);
	}
	for (size_t i = 0; i < r.n; i++)
		json_decref(r.row[i].evidence);
	free(r.row);
	json_decref(r.index);
	conf_free(&c);
	return rc < 0 || r.no_memory;
}

int
cmd_report(int argc, char **argv, const char *config, bool json)
{
	int64_t since = time(NULL) - WEEK;
	enum form form = json ? AS_JSON : AS_TEXT;

	for (int i = 1; i < argc; i++)
		if (strcmp(argv[i], "--since") == 0 && i + 1 < argc) {
			if (allow_time(argv[++i], &since) != 0 ||
			    since > time(NULL))
				return usage("this is no time that has been");
		} else if (strcmp(argv[i], "--csv") == 0 && form == AS_TEXT)
			form = AS_CSV;
		else if (strcmp(argv[i], "--html") == 0 && form == AS_TEXT)
			form = AS_HTML;
		else
			return usage("not understood");
	return make(config, since, form);
}
