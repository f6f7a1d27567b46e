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

static int
get(struct ledger *l, const struct prefix *p, struct ledger_entry *e,
	char why[LEDGER_WHY_MAX])
{
	sqlite3_stmt *st = ledgerdb_statement(l, GET);
	uint8_t key[KEY_SIZE];
	int rc;

	if (st == NULL)
		return -1;
	ledgerdb_key(p, key);
	sqlite3_bind_blob(st, 1, key, KEY_SIZE, SQLITE_TRANSIENT);
	rc = sqlite3_step(st);
	if (rc == SQLITE_ROW) {
		memset(e, 0, sizeof(*e));
		e->item.prefix = *p;
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
ledger_get(struct ledger *l, const struct prefix *p, struct ledger_entry *e)
{
	return get(l, p, e, NULL);
}

/* One row by NEW or PUT. */
static int
write_row(struct ledger *l, enum statement how, const struct ledger_entry *e)
{
	sqlite3_stmt *st = ledgerdb_statement(l, how);
	uint8_t key[KEY_SIZE];

	if (st == NULL)
		return -1;
	ledgerdb_key(&e->item.prefix, key);
	sqlite3_bind_blob(st, 1, key, KEY_SIZE, SQLITE_TRANSIENT);
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
	was = get(l, &e->item.prefix, &old, why);
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
		    &e->item, e->who, e->why, 1) != 0)
		rc = -1;
	return ledgerdb_end(l, rc < 0 ? -1 : 0) != 0 ? -1 : rc;
}

static int
erase(struct ledger *l, const struct prefix *p)
{
	sqlite3_stmt *st = ledgerdb_statement(l, DEL);
	uint8_t key[KEY_SIZE];

	if (st == NULL)
		return -1;
	ledgerdb_key(p, key);
	sqlite3_bind_blob(st, 1, key, KEY_SIZE, SQLITE_TRANSIENT);
	return ledgerdb_finish(l, st, "delete the entry");
}

int
ledger_del(struct ledger *l, const struct ledger_entry *e)
{
	struct ledger_entry old;
	int rc;

	if (ledgerdb_plain(l, BEGIN, "begin") != 0)
		return -1;
	rc = get(l, &e->item.prefix, &old, NULL);
	if (rc == 1 && (erase(l, &e->item.prefix) != 0 ||
		    ledgerdb_audit(l, e->since, "del", &old.item, e->who,
			    e->why, 1) != 0))
		rc = -1;
	return ledgerdb_end(l, rc < 0 ? -1 : 0) != 0 ? -1 : rc;
}

/* ---- many ---- */

/* A select may not run while its table is changed: ten thousand at a time. */
static int
read_over(struct ledger *l, int64_t now, struct allow_item *item, size_t max)
{
	sqlite3_stmt *st = ledgerdb_statement(l, OVER);
	size_t n = 0;
	int rc;

	if (st == NULL)
		return -1;
	sqlite3_bind_int64(st, 1, now);
	while ((rc = sqlite3_step(st)) == SQLITE_ROW && n < max)
		if (ledgerdb_item(st, 0, &item[n]))
			n++;
	if (rc != SQLITE_DONE && rc != SQLITE_ROW)
		ledgerdb_failed(l, "read");
	sqlite3_reset(st);
	return rc == SQLITE_DONE || rc == SQLITE_ROW ? (int)n : -1;
}

int
ledger_expire(struct ledger *l, int64_t now,
	void (*each)(void *arg, const struct allow_item *i), void *arg)
{
	const size_t max = 10000;
	struct allow_item *item = calloc(max, sizeof(*item));
	int n, rc = 0;

	if (item == NULL || ledgerdb_plain(l, BEGIN, "begin") != 0) {
		free(item);
		return -1;
	}
	n = read_over(l, now, item, max);
	for (int i = 0; i < n && rc == 0; i++)
		if (erase(l, &item[i].prefix) != 0 || ledgerdb_audit(l, now,
			    "expire", &item[i], "sallyportd", "", 1) != 0)
			rc = -1;
	if (ledgerdb_end(l, n < 0 ? -1 : rc) != 0)
		n = -1;
	for (int i = 0; i < n; i++)
		each(arg, &item[i]);
	free(item);
	return n;
}

int
ledger_each(struct ledger *l,
	void (*each)(void *arg, const struct ledger_entry *e), void *arg)
{
	sqlite3_stmt *st = ledgerdb_statement(l, ALL);
	struct ledger_entry e;
	int rc;

	if (st == NULL)
		return -1;
	while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
		if (!ledgerdb_item(st, 0, &e.item))
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
ledger_each_audit(struct ledger *l, const struct prefix *p,
	void (*each)(void *arg, const struct ledger_audit *a), void *arg)
{
	sqlite3_stmt *st = ledgerdb_statement(l, HISTORY);
	struct ledger_audit a;
	uint8_t key[KEY_SIZE];
	int rc;

	if (st == NULL)
		return -1;
	if (p != NULL) {
		ledgerdb_key(p, key);
		sqlite3_bind_blob(st, 1, key, KEY_SIZE, SQLITE_TRANSIENT);
	}
	while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
		a.at = sqlite3_column_int64(st, 0);
		a.op = ledgerdb_text(st, 1);
		a.has_item = ledgerdb_item(st, 2, &a.item);
		a.who = ledgerdb_text(st, 5);
		a.why = ledgerdb_text(st, 6);
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

	if (allowmap_put(to->map, &e->item) != 0)
		to->full = true;
}

struct allowmap *
ledger_load(struct ledger *l)
{
	struct loading to = { .map = allowmap_new() };

	if (to.map != NULL && ledger_each(l, load_one, &to) == 0 && !to.full)
		return to.map;
	if (to.map == NULL || to.full)
		snprintf(l->error, sizeof(l->error), "no memory, or more than "
			"%d entries", ALLOWMAP_MAX);
	allowmap_free(&to.map);
	return NULL;
}
