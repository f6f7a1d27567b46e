/*
 * ledgerlease.c - leases in the ledger
 *
 * Does: bind and release lines in one transaction, say who had them; keep the
 * history of customers who have no line at the moment; note which lines the
 * table has yet to follow, so that a control killed in between is made good by
 * the next one. Does not: touch the table of lines (ctllease.c does).
 *
 * Called by scribe.c in a thread of its own. Operators control lines and ids,
 * which leaseread.c has checked; they are bound, never pasted. What is read back
 * is checked by the receiver.
 *
 * Column `was': who had the line when it changed and the table has not followed
 * yet ('' nobody), NULL when it has. A released line's row goes when it is
 * settled.
 */
#include <stdlib.h>
#include <string.h>

#include "proxyd/lease.h"
#include "proxyd/ledger_impl.h"

#define DAY 86400

static int
family_of(const struct lease *e)
{
	return e->key.family == AF_INET ? 4 : 6;
}

static void
copy(char *to, size_t cap, sqlite3_stmt *st, int column)
{
	snprintf(to, cap, "%s", ledgerdb_text(st, column));
}

int
ledger_lease_of(struct ledger *l, const char *line,
	char customer_r[LEASE_CUSTOMER_MAX])
{
	sqlite3_stmt *st = ledgerdb_statement(l, LEASE_GET);
	int rc;

	if (st == NULL)
		return -1;
	customer_r[0] = '\0';
	ledgerdb_bind_text(st, 1, line, LINE_STRLEN);
	rc = sqlite3_step(st);
	if (rc == SQLITE_ROW)
		copy(customer_r, LEASE_CUSTOMER_MAX, st, 0);
	else if (rc != SQLITE_DONE)
		ledgerdb_failed(l, "look up the lease");
	sqlite3_reset(st);
	return rc != SQLITE_ROW && rc != SQLITE_DONE ? -1 :
		customer_r[0] != '\0';
}

/* One row: bound, or released (customer ''). */
static int
write_row(struct ledger *l, const struct lease *e, const char *customer,
	int64_t now)
{
	sqlite3_stmt *st = ledgerdb_statement(l, LEASE_PUT);

	if (st == NULL)
		return -1;
	ledgerdb_bind_text(st, 1, e->line, LINE_STRLEN);
	sqlite3_bind_int(st, 2, family_of(e));
	ledgerdb_bind_text(st, 3, customer, LEASE_CUSTOMER_MAX);
	sqlite3_bind_int64(st, 4, now);
	ledgerdb_bind_text(st, 5, e->was, LEASE_CUSTOMER_MAX);
	return ledgerdb_finish(l, st, "write the lease");
}

/* Who had it, for those who ask later. */
static int
remember_past(struct ledger *l, const struct lease *e, int64_t now)
{
	sqlite3_stmt *st = ledgerdb_statement(l, PAST_NEW);

	if (st == NULL)
		return -1;
	ledgerdb_bind_text(st, 1, e->line, LINE_STRLEN);
	sqlite3_bind_int64(st, 2, now);
	return ledgerdb_finish(l, st, "remember the lease");
}

static int
change(struct ledger *l, struct lease *e, bool is_release, int64_t now)
{
	int had = ledger_lease_of(l, e->line, e->was);

	if (had < 0)
		return -1;
	if (is_release)
		e->is_changed = had == 1 && (e->customer[0] == '\0' ||
			strcmp(e->customer, e->was) == 0);
	else
		e->is_changed = strcmp(e->customer, e->was) != 0;
	if (!e->is_changed)
		return 0;
	if (had == 1 && remember_past(l, e, now) != 0)
		return -1;
	return write_row(l, e, is_release ? "" : e->customer, now);
}

/* Another line that the former customer has. */
static int
find_heir(struct ledger *l, struct lease *e)
{
	sqlite3_stmt *st;
	int rc;

	if (e->was[0] == '\0')
		return 0;
	st = ledgerdb_statement(l, LEASE_HEIR);
	if (st == NULL)
		return -1;
	ledgerdb_bind_text(st, 1, e->was, LEASE_CUSTOMER_MAX);
	sqlite3_bind_int(st, 2, family_of(e));
	rc = sqlite3_step(st);
	if (rc == SQLITE_ROW)
		copy(e->heir, sizeof(e->heir), st, 0);
	else if (rc != SQLITE_DONE)
		ledgerdb_failed(l, "look up the customer's lines");
	sqlite3_reset(st);
	return rc == SQLITE_ROW || rc == SQLITE_DONE ? 0 : -1;
}

/* One stored history more. A row that nobody here wrote is left out. */
static int
keep_stored(struct lease *e, sqlite3_stmt *st)
{
	struct line_history *more;
	const void *blob = sqlite3_column_blob(st, 0);

	if (blob == NULL ||
	    (size_t)sqlite3_column_bytes(st, 0) != sizeof(*more))
		return 0;
	more = reallocarray(e->stored, e->nstored + 1, sizeof(*more));
	if (more == NULL)
		return -1;
	e->stored = more;
	memcpy(&more[e->nstored], blob, sizeof(*more));
	e->nstored += history_valid(&more[e->nstored]);
	return 0;
}

/* What is stored of the new customer, and out with it: who is killed now loses
 * it, which is better than to have it count twice. */
static int
fetch_stored(struct ledger *l, struct lease *e)
{
	sqlite3_stmt *st = ledgerdb_statement(l, STORED_GET);
	int rc, kept = 0;

	if (st == NULL)
		return -1;
	ledgerdb_bind_text(st, 1, e->customer, LEASE_CUSTOMER_MAX);
	sqlite3_bind_int(st, 2, family_of(e));
	while ((rc = sqlite3_step(st)) == SQLITE_ROW && kept == 0)
		kept = keep_stored(e, st);
	if (rc != SQLITE_DONE)
		ledgerdb_failed(l, "read the customer's history");
	sqlite3_reset(st);
	if (rc != SQLITE_DONE)
		return -1;
	if (e->nstored == 0)
		return 0;
	st = ledgerdb_statement(l, STORED_DEL);
	if (st == NULL)
		return -1;
	ledgerdb_bind_text(st, 1, e->customer, LEASE_CUSTOMER_MAX);
	sqlite3_bind_int(st, 2, family_of(e));
	return ledgerdb_finish(l, st, "take out the customer's history");
}

int
ledger_lease(struct ledger *l, struct lease_list *list, int64_t now)
{
	int rc = ledgerdb_plain(l, BEGIN, "begin");

	if (rc != 0)
		return -1;
	for (size_t i = 0; i < list->n && rc == 0; i++)
		rc = change(l, &list->lease[i], list->is_release, now);
	/* when all are written: a customer may have got another line here */
	for (size_t i = 0; i < list->n && rc == 0; i++) {
		struct lease *e = &list->lease[i];

		if (!e->is_changed) {
			list->same++;
			continue;
		}
		list->changed++;
		rc = find_heir(l, e);
		if (rc == 0 && !list->is_release)
			rc = fetch_stored(l, e);
	}
	return ledgerdb_end(l, rc);
}

static int
store(struct ledger *l, const struct lease *e, int64_t now)
{
	sqlite3_stmt *st = ledgerdb_statement(l, STORED_PUT);

	if (st == NULL)
		return -1;
	ledgerdb_bind_text(st, 1, e->was, LEASE_CUSTOMER_MAX);
	sqlite3_bind_int(st, 2, family_of(e));
	ledgerdb_bind_text(st, 3, e->line, LINE_STRLEN);
	sqlite3_bind_int64(st, 4, now);
	sqlite3_bind_blob(st, 5, e->taken, sizeof(*e->taken),
		SQLITE_TRANSIENT);
	return ledgerdb_finish(l, st, "store a history");
}

int
ledger_lease_settle(struct ledger *l, const struct lease_list *list,
	int64_t now)
{
	sqlite3_stmt *st;
	int rc = ledgerdb_plain(l, BEGIN, "begin");

	if (rc != 0)
		return -1;
	for (size_t i = 0; i < list->n && rc == 0; i++)
		if (list->lease[i].taken != NULL)
			rc = store(l, &list->lease[i], now);
	if (rc == 0)
		rc = ledgerdb_plain(l, LEASE_GONE, "settle");
	if (rc == 0)
		rc = ledgerdb_plain(l, LEASE_SETTLED, "settle");
	if (rc == 0 && (st = ledgerdb_statement(l, STORED_OVER)) != NULL) {
		sqlite3_bind_int64(st, 1, now - LEASE_STORED_DAYS * DAY);
		rc = ledgerdb_finish(l, st, "forget old histories");
	}
	return ledgerdb_end(l, rc);
}

int
ledger_lease_unsettled(struct ledger *l, struct lease_list *list)
{
	sqlite3_stmt *st = ledgerdb_statement(l, LEASE_UNSETTLED);
	struct lease *e;
	int rc;

	if (st == NULL)
		return -1;
	while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
		if ((e = lease_list_add(list)) == NULL)
			break;
		e->is_changed = true;
		copy(e->line, sizeof(e->line), st, 0);
		copy(e->customer, sizeof(e->customer), st, 1);
		copy(e->was, sizeof(e->was), st, 2);
	}
	if (rc != SQLITE_DONE)
		ledgerdb_failed(l, "read unsettled leases");
	sqlite3_reset(st);
	return rc == SQLITE_DONE ? 0 : -1;
}
