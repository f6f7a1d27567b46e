/*
 * report_html.c - `sallyport report --html': one file that needs no other
 *
 * Does: the lines that had a level as a table, and above it, drawn as SVG: zombies
 * by day, kinds of evidence, lines that tried port 25 by hour, and the lines that
 * speak alike. Does not: read anything.
 *
 * Called by cmd_report.c. What came from operators and from outside goes through
 * html_text(); numbers and our own words do not.
 */
#include "tools/report.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "tools/answer.h"

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
	snprintf(out, 32, "%s", report_kind[i]);
	return out;
}

/* ---- hours ---- */

struct hour {
	unsigned lines[LEDGER_LEVELS];	/* 0: all that tried */
	uint64_t attempts, blocked;
};

/* Hours of r->hour, all classes together, the latest HOURS_SHOWN; how many. */
static size_t
gather_hours(const struct report *r, struct hour hour[HOURS_SHOWN],
	int64_t *from_r)
{
	int64_t last = r->now / HOUR, from = r->since / HOUR;

	if (from < last - (HOURS_SHOWN - 1))
		from = last - (HOURS_SHOWN - 1);
	memset(hour, 0, HOURS_SHOWN * sizeof(*hour));
	for (size_t i = 0; i < r->nhours; i++) {
		const struct ledger_hour *e = &r->hour[i];
		int64_t at = e->at / HOUR - from;

		if (at < 0 || at >= HOURS_SHOWN)
			continue;
		hour[at].lines[0] += e->lines;
		for (unsigned l = 1; l < LEDGER_LEVELS; l++)
			hour[at].lines[l] += e->level[l];
		hour[at].attempts += e->attempts;
		hour[at].blocked += e->blocked;
	}
	*from_r = from;
	return (size_t)(last - from) + 1;
}

/* A bar an hour: all lines that tried, and in it those with a level. */
static void
html_hours(const struct report *r)
{
	static const char *const colour[LEDGER_LEVELS] = { "#9bd", "#fc6",
		"#e83", "#b33" };
	static struct hour hour[HOURS_SHOWN];
	char text[32];
	int64_t from;
	size_t n = gather_hours(r, hour, &from);
	unsigned most = 1, width = n > 100 ? 4 : 10;

	for (size_t i = 0; i < n; i++)
		most = hour[i].lines[0] > most ? hour[i].lines[0] : most;
	printf("<h2>Lines that tried port 25, by hour</h2>\n<p>At most %u in "
		"an hour; in colour those that were suspect, probable or "
		"zombie at its end.</p>\n<svg role=\"img\" width=\"%zu\" "
		"height=\"150\" viewBox=\"0 0 %zu 150\">\n", most,
		n * width + 60, n * width + 60);
	for (size_t i = 0; i < n; i++) {
		unsigned y = 120, height, rest = hour[i].lines[0];

		printf("<g><title>%s: %u lines, %llu attempts, %llu sessions "
			"blocked</title>", answer_when((from + (int64_t)i) *
			HOUR, text), hour[i].lines[0],
			(unsigned long long)hour[i].attempts,
			(unsigned long long)hour[i].blocked);
		for (unsigned l = LEDGER_LEVELS; l-- > 0;) {
			unsigned lines = l == 0 ? rest : hour[i].lines[l];

			lines = lines < rest ? lines : rest;
			rest -= lines;
			height = (unsigned)((uint64_t)lines * 100 / most);
			y -= height;
			if (height > 0)
				printf("<rect x=\"%zu\" y=\"%u\" width=\"%u\" "
					"height=\"%u\" fill=\"%s\"/>",
					i * width, y, width - 1, height,
					colour[l]);
		}
		puts("</g>");
		if ((from + (int64_t)i) % 24 == 0)
			printf("<text x=\"%zu\" y=\"140\">%.10s</text>\n",
				i * width, answer_when((from + (int64_t)i) *
				HOUR, text));
	}
	puts("</svg>");
}

/* ---- lines that speak alike ---- */

static void
html_groups(const struct report *r)
{
	if (r->ngroups == 0)
		return;
	puts("<h2>Lines that speak alike</h2>\n<p>The same verbs, spacing and "
		"habits, which few lines have: perhaps one family of bots. "
		"Evidence only; it makes no level.</p>\n<ul>");
	for (size_t i = 0; i < r->ngroups; i++) {
		printf("<li>dialect %s, %u lines:", report_dialect(
			r->group[i].dialect), r->group[i].lines);
		for (size_t k = 0; k < r->n; k++)
			if (r->row[k].is_alike && strcmp(r->row[k].dialect,
				    r->group[i].dialect) == 0) {
				putchar(' ');
				html_text(r->row[k].line);
			}
		puts("</li>");
	}
	puts("</ul>");
}

/* ---- the page ---- */

static void
html_plots(const struct report *r)
{
	size_t days = (size_t)((r->now - r->since) / DAY) + 1;
	unsigned kinds[KINDS] = { 0 };

	for (size_t i = 0; i < r->n; i++)
		for (size_t k = 0; k < KINDS; k++)
			kinds[k] += r->row[i].worst == ZOMBIE &&
				answer_number(json_object_get(json_object_get(
				r->row[i].evidence, "evidence"), report_kind[k]),
				"bad") > 0;
	html_bars("Lines that became zombies, by day (UTC)", r->by_day,
		days < DAYS_SHOWN ? days : DAYS_SHOWN, day_label, r);
	html_bars("Zombies with this kind of evidence", kinds, KINDS,
		kind_label, r);
	html_hours(r);
	html_groups(r);
}

void
report_html(const struct report *r)
{
	char when[32], evidence[EVIDENCE_CHARS];

	puts("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
		"<title>Sallyport: lines with a level</title>\n<style>body{"
		"font:14px sans-serif}td,th{padding:2px 8px;text-align:left;"
		"border-bottom:1px solid #ccc}text{font:11px sans-serif}"
		"</style></head><body>");
	printf("<h1>Lines with a level since %s</h1>\n<p>%u zombies, %u "
		"probable, %u suspect</p>\n", answer_when(r->since, when),
		report_count(r, 3), report_count(r, 2), report_count(r, 1));
	html_plots(r);
	puts("<table><tr><th>line</th><th>customer</th><th>worst</th><th>now"
		"</th><th>first</th><th>last</th><th>by</th><th>why</th>"
		"<th>alike</th><th>evidence</th></tr>");
	for (size_t i = 0; i < r->n; i++) {
		const struct row *w = &r->row[i];

		if (w->worst == 0)
			continue;
		report_evidence(w, evidence, sizeof(evidence));
		fputs("<tr>", stdout);
		html_cell(w->line);
		html_cell(w->customer);
		html_cell(report_level[w->worst]);
		html_cell(report_level[w->now]);
		html_cell(answer_when(w->first, when));
		html_cell(answer_when(w->last, when));
		html_cell(w->who);
		html_cell(w->why);
		html_cell(w->is_alike ? report_dialect(w->dialect) : "");
		html_cell(evidence);
		puts("</tr>");
	}
	puts("</table></body></html>");
}
