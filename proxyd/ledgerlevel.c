/*
 * ledgerlevel.c - levels of lines in the ledger
 *
 * Does: append each change of a level with its evidence, and the customer who had
 * the line then; keep the levels of now, so that they outlive the daemon; tell
 * what was, of one line, up to a time; forget what is older than the operator
 * wants to keep. Does not: decide anything.
 *
 * Called in the scribe's thread only. Evidence holds numbers that a relay may have
 * falsified, in words that are ours. What is read back is checked by the receiver.
 */
#include <string.h>

#include "proxyd/lease.h"
#include "proxyd/ledger_impl.h"

#define DAY 86400

/* Rows of one kind older than that; a bounded number each time, so that whoever
 * shortens the time waits for nothing. */
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
append(struct ledger *l, const struct ledger_level *e)
{
	char customer[LEASE_CUSTOMER_MAX];
	sqlite3_stmt *st;

	if (ledger_lease_of(l, e->line, customer) < 0 ||
	    (st = ledgerdb_statement(l, LEVEL_NEW)) == NULL)
		return -1;
	sqlite3_bind_int64(st, 1, e->at);
	ledgerdb_bind_text(st, 2, e->line, sizeof(e->line));
	ledgerdb_bind_text(st, 3, customer, sizeof(customer));
	sqlite3_bind_int(st, 4, e->was);
	sqlite3_bind_int(st, 5, e->is);
	sqlite3_bind_int(st, 6, e->pinned);
	ledgerdb_bind_text(st, 7, e->who, sizeof(e->who));
	ledgerdb_bind_text(st, 8, e->why, sizeof(e->why));
	ledgerdb_bind_text(st, 9, e->evidence, LEDGER_EVIDENCE_MAX);
	return ledgerdb_finish(l, st, "write the level");
}

static int
put_now(struct ledger *l, const struct ledger_now *e, uint64_t table)
{
	sqlite3_stmt *st = ledgerdb_statement(l, NOW_PUT);

	if (st == NULL)
		return -1;
	ledgerdb_bind_text(st, 1, e->line, sizeof(e->line));
	sqlite3_bind_int(st, 2, e->level);
	sqlite3_bind_int(st, 3, e->pinned);
	sqlite3_bind_int64(st, 4, e->since);
	sqlite3_bind_int64(st, 5, (int64_t)table);
	return ledgerdb_finish(l, st, "write a level of now");
}

int
ledger_levels(struct ledger *l, const struct ledger_levels *w, int64_t now,
	unsigned days)
{
	const int64_t before = now - (int64_t)days * DAY;
	int rc = ledgerdb_plain(l, BEGIN, "begin");

	if (rc != 0)
		return -1;
	rc = forget(l, LEVEL_OVER, before);
	if (rc == 0)
		rc = forget(l, PAST_OVER, before);
	for (size_t i = 0; i < w->n && rc == 0; i++)
		rc = append(l, &w->row[i]);
	if (rc == 0 && w->has_now)
		rc = ledgerdb_plain(l, NOW_CLEAR, "clear the levels of now");
	for (size_t i = 0; i < w->nnow && rc == 0; i++)
		rc = put_now(l, &w->now[i], w->table);
	return ledgerdb_end(l, rc);
}

int
ledger_each_now(struct ledger *l, uint64_t table,
	void (*each)(void *arg, const struct ledger_now *e), void *arg)
{
	sqlite3_stmt *st = ledgerdb_statement(l, NOW_ALL);
	struct ledger_now e;
	int rc;

	if (st == NULL)
		return -1;
	sqlite3_bind_int64(st, 1, (int64_t)table);
	while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
		snprintf(e.line, sizeof(e.line), "%s", ledgerdb_text(st, 0));
		e.level = (uint8_t)sqlite3_column_int(st, 1);
		e.pinned = sqlite3_column_int(st, 2) != 0;
		e.since = sqlite3_column_int64(st, 3);
		each(arg, &e);
	}
	if (rc != SQLITE_DONE)
		ledgerdb_failed(l, "read the levels of now");
	sqlite3_reset(st);
	return rc == SQLITE_DONE ? 0 : -1;
}

/* All rows of a statement that is ready. */
static int
tell_rows(struct ledger *l, sqlite3_stmt *st,
	void (*each)(void *arg, const struct ledger_level *e,
		const char *customer), void *arg)
{
	char evidence[LEDGER_EVIDENCE_MAX], customer[LEASE_CUSTOMER_MAX];
	struct ledger_level e = { .evidence = evidence };
	int rc;

	while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
		snprintf(e.line, sizeof(e.line), "%s", ledgerdb_text(st, 0));
		e.at = sqlite3_column_int64(st, 1);
		snprintf(customer, sizeof(customer), "%s",
			ledgerdb_text(st, 2));
		e.was = (uint8_t)sqlite3_column_int(st, 3);
		e.is = (uint8_t)sqlite3_column_int(st, 4);
		e.pinned = sqlite3_column_int(st, 5) != 0;
		snprintf(e.who, sizeof(e.who), "%s", ledgerdb_text(st, 6));
		snprintf(e.why, sizeof(e.why), "%s", ledgerdb_text(st, 7));
		snprintf(evidence, sizeof(evidence), "%s",
			ledgerdb_text(st, 8));
		each(arg, &e, customer);
	}
	if (rc != SQLITE_DONE)
		ledgerdb_failed(l, "read levels");
	sqlite3_reset(st);
	return rc == SQLITE_DONE ? 0 : -1;
}

int
ledger_each_level(struct ledger *l, const char *line, int64_t until, unsigned n,
	void (*each)(void *arg, const struct ledger_level *e,
		const char *customer), void *arg)
{
	sqlite3_stmt *st = ledgerdb_statement(l, LEVEL_OF);

	if (st == NULL)
		return -1;
	ledgerdb_bind_text(st, 1, line, LINE_STRLEN);
	sqlite3_bind_int64(st, 2, until);
	sqlite3_bind_int64(st, 3, n);
	return tell_rows(l, st, each, arg);
}

int
ledger_each_change(struct ledger *l, int64_t since,
	void (*each)(void *arg, const struct ledger_level *e,
		const char *customer), void *arg)
{
	sqlite3_stmt *st = ledgerdb_statement(l, LEVEL_SINCE);

	if (st == NULL)
		return -1;
	sqlite3_bind_int64(st, 1, since);
	return tell_rows(l, st, each, arg);
}

int
ledger_holder(struct ledger *l, const char *line, int64_t at,
	char customer_r[LEASE_CUSTOMER_MAX], int64_t *since_r, int64_t *until_r)
{
	sqlite3_stmt *st = ledgerdb_statement(l, PAST_AT);
	int rc;

	if (st == NULL)
		return -1;
	customer_r[0] = '\0';
	*since_r = *until_r = 0;
	ledgerdb_bind_text(st, 1, line, LINE_STRLEN);
	sqlite3_bind_int64(st, 2, at);
	rc = sqlite3_step(st);
	if (rc == SQLITE_ROW) {
		snprintf(customer_r, LEASE_CUSTOMER_MAX, "%s",
			ledgerdb_text(st, 0));
		*since_r = sqlite3_column_int64(st, 1);
		*until_r = sqlite3_column_int64(st, 2);
	} else if (rc != SQLITE_DONE)
		ledgerdb_failed(l, "look up who had the line");
	sqlite3_reset(st);
	return rc != SQLITE_ROW && rc != SQLITE_DONE ? -1 :
		customer_r[0] != '\0';
}
