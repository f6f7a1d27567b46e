/*
 * report_read.c - what `sallyport report' says, out of the ledger
 *
 * Does: one row for each line that had a level, with its worst and the evidence of
 * that; groups of lines that spoke the same rare dialect; hourly totals. Does not:
 * print, or ask the daemon.
 *
 * Called by cmd_report.c while the ledger is open. Who spoke chose his dialect: it
 * names lines that are alike, and makes no level. A dialect is rare when the ledger
 * does not have it among the common ones of its table (proxyd/ctlhour.c has the
 * rule); of a table whose lines nobody has counted yet nothing is said. The record
 * of a /56 is its lines', which are there themselves, and speaks for nobody.
 */
#include "tools/report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/answer.h"

const char *const report_level[LEDGER_LEVELS] = { "clean", "suspect",
	"probable", "zombie" };
const char *const report_kind[KINDS] = { "first_contact", "unknown_user",
	"refusal", "null_sender", "helo" };

/* ---- lines ---- */

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
note_dialect(struct row *w, const json_t *evidence)
{
	const char *table = answer_text(evidence, "table");
	int64_t dialect = answer_number(evidence, "dialect");

	if (dialect > 0 && dialect <= UINT16_MAX && strlen(table) == 16 &&
	    answer_number(evidence, "lines") == 0)
		snprintf(w->dialect, sizeof(w->dialect), "%.16s:%04x", table,
			(unsigned)dialect);
}

static void
note_change(void *arg, const struct ledger_level *e, const char *customer)
{
	struct report *r = arg;
	struct row *w = row_of(r, e->line);
	int64_t day = (e->at - r->since) / DAY;
	json_t *evidence;

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
	evidence = json_loads(e->evidence, 0, NULL);
	note_dialect(w, evidence);
	if (e->is < w->worst || e->is == 0) {
		json_decref(evidence);
		return;
	}
	w->worst = e->is;
	snprintf(w->who, sizeof(w->who), "%s", e->who);
	snprintf(w->why, sizeof(w->why), "%s", e->why);
	json_decref(w->evidence);
	w->evidence = evidence;
}

static int
by_level(const void *a, const void *b)
{
	const struct row *x = a, *y = b;

	if (x->worst != y->worst)
		return x->worst > y->worst ? -1 : 1;
	return x->first < y->first ? -1 : x->first > y->first;
}

/* ---- lines that speak alike ---- */

static void
note_common(void *arg, uint64_t table, const struct ledger_dialect *e)
{
	struct report *r = arg;
	char text[DIALECT_CHARS];

	snprintf(text, sizeof(text), "%016llx:%04x", (unsigned long long)table,
		e->dialect);
	json_object_set_new(r->common, text, json_integer(e->lines));
}

/* Have the lines of the dialect's table been counted? As number 0. */
static bool
is_counted(const struct report *r, const char *dialect)
{
	char text[DIALECT_CHARS];

	snprintf(text, sizeof(text), "%.16s:0000", dialect);
	return json_object_get(r->common, text) != NULL;
}

static int
by_lines(const void *a, const void *b)
{
	const struct group *x = a, *y = b;

	if (x->lines != y->lines)
		return x->lines > y->lines ? -1 : 1;
	return strcmp(x->dialect, y->dialect);
}

/* How many lines of the report speak each rare dialect. */
static json_t *
speakers(struct report *r)
{
	json_t *of = json_object();

	for (size_t i = 0; i < r->n; i++) {
		const struct row *w = &r->row[i];

		if (w->worst == 0 || w->dialect[0] == '\0')
			continue;
		if (!is_counted(r, w->dialect))
			r->unknown++;
		else if (json_object_get(r->common, w->dialect) == NULL)
			json_object_set_new(of, w->dialect, json_integer(1 +
				json_integer_value(json_object_get(of,
				w->dialect))));
	}
	return of;
}

static void
find_groups(struct report *r)
{
	json_t *of = speakers(r), *n;
	const char *dialect;

	r->group = calloc(json_object_size(of) + 1, sizeof(*r->group));
	r->no_memory |= r->group == NULL;
	json_object_foreach(of, dialect, n) {
		struct group *g = &r->group[r->ngroups];

		if (r->group == NULL || json_integer_value(n) < GROUP_LINES)
			continue;
		snprintf(g->dialect, sizeof(g->dialect), "%s", dialect);
		g->lines = (unsigned)json_integer_value(n);
		r->ngroups++;
	}
	for (size_t i = 0; i < r->n; i++)
		r->row[i].is_alike = r->row[i].worst > 0 && json_integer_value(
			json_object_get(of, r->row[i].dialect)) >= GROUP_LINES;
	json_decref(of);
	if (r->ngroups > 0)
		qsort(r->group, r->ngroups, sizeof(*r->group), by_lines);
}

/* ---- hours ---- */

static void
note_hour(void *arg, const struct ledger_hour *e)
{
	struct report *r = arg;

	if (r->nhours == r->hours_cap) {
		size_t cap = r->hours_cap == 0 ? 256 : r->hours_cap * 2;
		struct ledger_hour *more = reallocarray(r->hour, cap,
			sizeof(*more));

		if (more == NULL) {
			r->no_memory = true;
			return;
		}
		r->hour = more;
		r->hours_cap = cap;
	}
	r->hour[r->nhours++] = *e;
}

/* ---- all of it ---- */

int
report_read(struct ledger *l, void *arg)
{
	struct report *r = arg;

	if (ledger_each_change(l, r->since, note_change, r) != 0 ||
	    ledger_each_dialect(l, r->since - DAY, note_common, r) != 0 ||
	    /* the one that was running then, too */
	    ledger_each_hour(l, r->since - HOUR, note_hour, r) != 0)
		return -1;
	if (r->n > 0)
		qsort(r->row, r->n, sizeof(*r->row), by_level);
	find_groups(r);
	return 0;
}

void
report_free(struct report *r)
{
	for (size_t i = 0; i < r->n; i++)
		json_decref(r->row[i].evidence);
	free(r->row);
	free(r->group);
	free(r->hour);
	json_decref(r->index);
	json_decref(r->common);
}

/* ---- words ---- */

const char *
report_dialect(const char *dialect)
{
	const char *colon = strchr(dialect, ':');

	return colon == NULL ? "" : colon + 1;
}

unsigned
report_count(const struct report *r, unsigned level)
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
			len += (size_t)snprintf(out + len, cap - len, "%s%.39s",
				i > 0 ? ", " : ": ", json_string_value(one));
	return len;
}

void
report_evidence(const struct row *w, char *out, size_t cap)
{
	const json_t *kinds = json_object_get(w->evidence, "evidence");
	size_t len = 0;

	out[0] = '\0';
	if (answer_number(w->evidence, "lines") > 0)
		len = lines_text(w->evidence, out, cap);
	for (size_t i = 0; i < KINDS; i++) {
		const json_t *k = json_object_get(kinds, report_kind[i]);

		if (answer_number(k, "bad") == 0 || len + 80 > cap)
			continue;
		len += (size_t)snprintf(out + len, cap - len,
			"%s%s %.1f (%lld of %lld)", len > 0 ? ", " : "",
			report_kind[i], json_number_value(json_object_get(k,
			"score")), (long long)answer_number(k, "bad"),
			(long long)answer_number(k, "all"));
	}
}
