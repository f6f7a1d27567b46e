/*
 * ledgerhour.c - hourly totals and common dialects in the ledger
 *
 * Does: add what a control process has counted of an hour to what is written of
 * it, tell what is written, forget what is older than the operator wants to keep.
 * Does not: count.
 *
 * Called in the scribe's thread; the command line reads. Numbers of lines that
 * tried, not of who: no row says anything of one line.
 */
#include "proxyd/ledger_impl.h"

#define DAY 86400

static int
forget(struct ledger *l, enum statement s, int64_t before)
{
	sqlite3_stmt *st = ledgerdb_statement(l, s);

	if (st == NULL)
		return -1;
	sqlite3_bind_int64(st, 1, before);
	return ledgerdb_finish(l, st, "forget what is old");
}

static int
put_hour(struct ledger *l, const struct ledger_hour *e)
{
	sqlite3_stmt *st = ledgerdb_statement(l, HOUR_PUT);

	if (st == NULL)
		return -1;
	sqlite3_bind_int64(st, 1, e->at);
	ledgerdb_bind_text(st, 2, e->class, sizeof(e->class));
	sqlite3_bind_int64(st, 3, e->lines);
	sqlite3_bind_int64(st, 4, (int64_t)e->attempts);
	sqlite3_bind_int64(st, 5, (int64_t)e->destinations);
	sqlite3_bind_int64(st, 6, (int64_t)e->blocked);
	for (int i = 1; i < LEDGER_LEVELS; i++)
		sqlite3_bind_int64(st, 6 + i, e->level[i]);
	return ledgerdb_finish(l, st, "write an hour");
}

static int
put_dialect(struct ledger *l, const struct ledger_hours *h,
	const struct ledger_dialect *e)
{
	sqlite3_stmt *st = ledgerdb_statement(l, DIALECT_PUT);

	if (st == NULL)
		return -1;
	sqlite3_bind_int64(st, 1, h->at);
	sqlite3_bind_int64(st, 2, (int64_t)h->table);
	sqlite3_bind_int(st, 3, e->dialect);
	sqlite3_bind_int64(st, 4, e->lines);
	return ledgerdb_finish(l, st, "write a dialect");
}

int
ledger_hours(struct ledger *l, const struct ledger_hours *h, int64_t now,
	unsigned days)
{
	const int64_t before = now - (int64_t)days * DAY;
	int rc = ledgerdb_plain(l, BEGIN, "begin");

	if (rc != 0)
		return -1;
	rc = forget(l, HOUR_OVER, before);
	if (rc == 0)
		rc = forget(l, DIALECT_OVER, before);
	for (size_t i = 0; i < h->n && rc == 0; i++)
		rc = put_hour(l, &h->row[i]);
	for (size_t i = 0; i < h->ndialects && rc == 0; i++)
		rc = put_dialect(l, h, &h->dialect[i]);
	return ledgerdb_end(l, rc);
}

int
ledger_each_hour(struct ledger *l, int64_t since,
	void (*each)(void *arg, const struct ledger_hour *e), void *arg)
{
	sqlite3_stmt *st = ledgerdb_statement(l, HOUR_SINCE);
	struct ledger_hour e;
	int rc;

	if (st == NULL)
		return -1;
	sqlite3_bind_int64(st, 1, since);
	while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
		e.at = sqlite3_column_int64(st, 0);
		snprintf(e.class, sizeof(e.class), "%s", ledgerdb_text(st, 1));
		e.lines = (uint32_t)sqlite3_column_int64(st, 2);
		e.attempts = (uint64_t)sqlite3_column_int64(st, 3);
		e.destinations = (uint64_t)sqlite3_column_int64(st, 4);
		e.blocked = (uint64_t)sqlite3_column_int64(st, 5);
		e.level[0] = e.lines;
		for (int i = 1; i < LEDGER_LEVELS; i++) {
			e.level[i] = (uint32_t)sqlite3_column_int64(st, 5 + i);
			e.level[0] -= e.level[i] < e.level[0] ? e.level[i] :
				e.level[0];
		}
		each(arg, &e);
	}
	if (rc != SQLITE_DONE)
		ledgerdb_failed(l, "read the hours");
	sqlite3_reset(st);
	return rc == SQLITE_DONE ? 0 : -1;
}

int
ledger_each_dialect(struct ledger *l, int64_t since,
	void (*each)(void *arg, uint64_t table,
		const struct ledger_dialect *e), void *arg)
{
	sqlite3_stmt *st = ledgerdb_statement(l, DIALECT_SINCE);
	struct ledger_dialect e;
	int rc;

	if (st == NULL)
		return -1;
	sqlite3_bind_int64(st, 1, since);
	while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
		e.dialect = (uint16_t)sqlite3_column_int(st, 1);
		e.lines = (uint32_t)sqlite3_column_int64(st, 2);
		each(arg, (uint64_t)sqlite3_column_int64(st, 0), &e);
	}
	if (rc != SQLITE_DONE)
		ledgerdb_failed(l, "read the dialects");
	sqlite3_reset(st);
	return rc == SQLITE_DONE ? 0 : -1;
}
