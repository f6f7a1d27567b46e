/*
 * ledger.c - the database of allow entries, with who, when and why
 *
 * Does: keep allow entries and an audit trail in one SQLite file. Every change
 * and its audit row are one transaction, synchronous: what an operator was
 * told is on the disk. Does not: decide what an entry means, or touch the
 * kernel. Its rooms: ledger_impl.h.
 *
 * Called by scribe.c in a thread of its own, since a disk may hang, and by the
 * command line, which reads. An operator controls prefixes and words; they are
 * bound, never pasted.
 */
#include "proxyd/ledger_impl.h"

#include <stdlib.h>
#include <string.h>

bool
ledger_is_changed(struct ledger *l)
{
	sqlite3_stmt *st = ledgerdb_statement(l, CHANGED);
	int64_t before = l->seen;

	if (st == NULL || sqlite3_step(st) != SQLITE_ROW)
		return false;
	l->seen = sqlite3_column_int64(st, 0);
	sqlite3_reset(st);
	return l->seen != before;
}

/* ---- one entry ---- */

const char *
ledger_name(const struct ledger_entry *e, char out[LEDGER_NAME_MAX])
{
	char text[ADDR_STRLEN];

	if (e->item.prefix.family == 0)
		snprintf(out, LEDGER_NAME_MAX, "line:%s", e->customer);
	else
		snprintf(out, LEDGER_NAME_MAX, "%s", prefix_format(
			&e->item.prefix, text));
	return out;
}

int
ledger_named(struct ledger_entry *e, const char *text, const char **why_r)
{
	if (strncmp(text, "line:", 5) != 0)
		return prefix_parse(&e->item.prefix, text, why_r);
	e->customer = text + 5;
	*why_r = "expected line: and a customer's id of at most 63 printable "
		"characters";
	return conf_customer_valid(e->customer) ? 0 : -1;
}

static int
get(struct ledger *l, const struct ledger_entry *of, struct ledger_entry *e,
	char why[LEDGER_WHY_MAX])
{
	sqlite3_stmt *st = ledgerdb_statement(l, GET);
	int rc;

	if (st == NULL)
		return -1;
	ledgerdb_bind_key(st, 1, of);
	rc = sqlite3_step(st);
	if (rc == SQLITE_ROW) {
		memset(e, 0, sizeof(*e));
		e->item.prefix = of->item.prefix;
		e->customer = of->customer;
		e->item.action = (uint8_t)sqlite3_column_int(st, 0);
		e->item.until = sqlite3_column_int64(st, 1);
		e->pinned = sqlite3_column_int(st, 2) != 0;
		e->since = sqlite3_column_int64(st, 3);
		if (why != NULL)
			snprintf(why, LEDGER_WHY_MAX, "%s", ledgerdb_text(st, 4));
	} else if (rc != SQLITE_DONE)
		ledgerdb_failed(l, "look up");
	sqlite3_reset(st);
	return rc == SQLITE_ROW ? 1 : rc == SQLITE_DONE ? 0 : -1;
}

int
ledger_get(struct ledger *l, const struct ledger_entry *of,
	struct ledger_entry *e_r)
{
	return get(l, of, e_r, NULL);
}

/* One row by NEW or PUT. */
static int
write_row(struct ledger *l, enum statement how, const struct ledger_entry *e)
{
	sqlite3_stmt *st = ledgerdb_statement(l, how);

	if (st == NULL)
		return -1;
	ledgerdb_bind_key(st, 1, e);
	sqlite3_bind_int(st, 2, e->item.action);
	sqlite3_bind_int64(st, 3, e->item.until);
	sqlite3_bind_int(st, 4, e->pinned);
	sqlite3_bind_int64(st, 5, e->since);
	ledgerdb_bind_text(st, 6, e->who, LEDGER_WHO_MAX);
	ledgerdb_bind_text(st, 7, e->why, LEDGER_WHY_MAX);
	return ledgerdb_finish(l, st, "write the entry");
}

/* Without a transaction of its own and without audit. Most are new, and those
 * need one look at the tree, not two. */
int
ledger_put_row(struct ledger *l, const struct ledger_entry *e)
{
	char why[LEDGER_WHY_MAX];
	struct ledger_entry old;
	int was;

	if (write_row(l, NEW, e) != 0)
		return -1;
	if (sqlite3_changes(l->db) == 1)
		return 1;
	was = get(l, e, &old, why);
	if (was < 0)
		return -1;
	if (was == 1 && old.item.action == e->item.action &&
	    old.item.until == e->item.until && old.pinned == e->pinned &&
	    (e->why == NULL || e->why[0] == '\0' ||
	    strncmp(why, e->why, LEDGER_WHY_MAX - 1) == 0))
		return 0;
	return write_row(l, PUT, e) != 0 ? -1 : was + 1;
}

int
ledger_put(struct ledger *l, const struct ledger_entry *e)
{
	int rc;

	if (ledgerdb_plain(l, BEGIN, "begin") != 0)
		return -1;
	rc = ledger_put_row(l, e);
	if (rc > 0 && ledgerdb_audit(l, e->since, rc == 1 ? "add" : "change",
		    e, e->who, e->why, 1) != 0)
		rc = -1;
	return ledgerdb_end(l, rc < 0 ? -1 : 0) != 0 ? -1 : rc;
}

static int
erase(struct ledger *l, const struct ledger_entry *e)
{
	sqlite3_stmt *st = ledgerdb_statement(l, DEL);

	if (st == NULL)
		return -1;
	ledgerdb_bind_key(st, 1, e);
	return ledgerdb_finish(l, st, "delete the entry");
}

int
ledger_del(struct ledger *l, const struct ledger_entry *e)
{
	struct ledger_entry old;
	int rc;

	if (ledgerdb_plain(l, BEGIN, "begin") != 0)
		return -1;
	rc = get(l, e, &old, NULL);
	if (rc == 1 && (erase(l, e) != 0 || ledgerdb_audit(l, e->since, "del",
			    &old, e->who, e->why, 1) != 0))
		rc = -1;
	return ledgerdb_end(l, rc < 0 ? -1 : 0) != 0 ? -1 : rc;
}

/* ---- many ---- */

struct gone {
	struct ledger_entry e;
	char customer[CONF_CUSTOMER_MAX];
};

/* A select may not run while its table is changed: so many at a time. */
static int
read_over(struct ledger *l, int64_t now, struct gone *g, size_t max)
{
	sqlite3_stmt *st = ledgerdb_statement(l, OVER);
	size_t n = 0;
	int rc;

	if (st == NULL)
		return -1;
	sqlite3_bind_int64(st, 1, now);
	while ((rc = sqlite3_step(st)) == SQLITE_ROW && n < max)
		if (ledgerdb_entry(st, 0, &g[n].e, g[n].customer))
			n++;
	if (rc != SQLITE_DONE && rc != SQLITE_ROW)
		ledgerdb_failed(l, "read");
	sqlite3_reset(st);
	return rc == SQLITE_DONE || rc == SQLITE_ROW ? (int)n : -1;
}

int
ledger_expire(struct ledger *l, int64_t now,
	void (*each)(void *arg, const struct ledger_entry *e), void *arg)
{
	struct gone *g = calloc(LEDGER_GONE_MAX, sizeof(*g));
	int n, rc = 0;

	if (g == NULL || ledgerdb_plain(l, BEGIN, "begin") != 0) {
		free(g);
		return -1;
	}
	n = read_over(l, now, g, LEDGER_GONE_MAX);
	for (int i = 0; i < n && rc == 0; i++)
		if (erase(l, &g[i].e) != 0 || ledgerdb_audit(l, now, "expire",
			    &g[i].e, "sallyportd", "", 1) != 0)
			rc = -1;
	if (ledgerdb_end(l, n < 0 ? -1 : rc) != 0)
		n = -1;
	for (int i = 0; i < n; i++)
		each(arg, &g[i].e);
	free(g);
	return n;
}

int
ledger_each(struct ledger *l,
	void (*each)(void *arg, const struct ledger_entry *e), void *arg)
{
	sqlite3_stmt *st = ledgerdb_statement(l, ALL);
	char customer[CONF_CUSTOMER_MAX];
	struct ledger_entry e;
	int rc;

	if (st == NULL)
		return -1;
	while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
		if (!ledgerdb_entry(st, 0, &e, customer))
			continue;
		e.pinned = sqlite3_column_int(st, 3) != 0;
		e.since = sqlite3_column_int64(st, 4);
		e.who = ledgerdb_text(st, 5);
		e.why = ledgerdb_text(st, 6);
		each(arg, &e);
	}
	if (rc != SQLITE_DONE)
		ledgerdb_failed(l, "read");
	sqlite3_reset(st);
	return rc == SQLITE_DONE ? 0 : -1;
}

int
ledger_each_audit(struct ledger *l, const struct ledger_entry *of,
	void (*each)(void *arg, const struct ledger_audit *a), void *arg)
{
	sqlite3_stmt *st = ledgerdb_statement(l, HISTORY);
	char customer[CONF_CUSTOMER_MAX];
	struct ledger_audit a;
	int rc;

	if (st == NULL)
		return -1;
	if (of != NULL)
		ledgerdb_bind_key(st, 1, of);
	while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
		a.at = sqlite3_column_int64(st, 0);
		a.op = ledgerdb_text(st, 1);
		a.has_entry = ledgerdb_entry(st, 2, &a.entry, customer);
		a.entry.who = ledgerdb_text(st, 5);
		a.entry.why = ledgerdb_text(st, 6);
		a.count = sqlite3_column_int64(st, 7);
		each(arg, &a);
	}
	if (rc != SQLITE_DONE)
		ledgerdb_failed(l, "read");
	sqlite3_reset(st);
	sqlite3_clear_bindings(st);
	return rc == SQLITE_DONE ? 0 : -1;
}

struct loading {
	struct allowmap *map;
	bool full;
};

static void
load_one(void *arg, const struct ledger_entry *e)
{
	struct loading *to = arg;

	/* a customer's: its lines come behind */
	if (e->item.prefix.family == 0)
		return;
	if (allowmap_put(to->map, &e->item) != 0)
		to->full = true;
}

struct allowmap *
ledger_load(struct ledger *l, const struct conf *conf, int64_t now)
{
	struct loading to = { .map = allowmap_new() };

	if (to.map != NULL && ledger_each(l, load_one, &to) == 0 &&
	    ledger_each_line(l, conf, now, load_one, &to) == 0 && !to.full)
		return to.map;
	if (to.map == NULL || to.full)
		snprintf(l->error, sizeof(l->error), "no memory, or more than "
			"%d entries", ALLOWMAP_MAX);
	allowmap_free(&to.map);
	return NULL;
}
