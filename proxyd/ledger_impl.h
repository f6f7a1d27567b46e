/*
 * ledger_impl.h - what the files of the ledger share
 *
 * ledgerdb.c      the file: schema, statements, keys, audit rows
 * ledger.c        entries
 * ledgerimport.c  a file of them in one transaction
 * ledgerlease.c   leases (lease.h)
 * ledgerline.c    entries of customers
 * ledgerlevel.c   levels of lines
 * ledgerhour.c    hourly totals
 */
#ifndef SALLYPORT_LEDGER_IMPL_H
#define SALLYPORT_LEDGER_IMPL_H

#include <sqlite3.h>

#include "proxyd/ledger.h"

#define KEY_MAX (1 + CONF_CUSTOMER_MAX)

enum statement {
	BEGIN, COMMIT, ROLLBACK, GET, NEW, PUT, DEL, AUDIT, OVER, ALL, HISTORY,
	CHANGED,
	LEASE_GET, LEASE_PUT, LEASE_HEIR, LEASE_GONE, LEASE_SETTLED,
	LEASE_UNSETTLED, LEASE_LINES, CUSTOMERS, STORED_GET, STORED_DEL, STORED_PUT, STORED_OVER,
	PAST_NEW, PAST_AT, PAST_OVER,
	LEVEL_NEW, LEVEL_OF, LEVEL_SINCE, LEVEL_OVER, NOW_CLEAR, NOW_PUT, NOW_ALL,
	HOUR_PUT, HOUR_SINCE, HOUR_OVER, DIALECT_PUT, DIALECT_SINCE,
	DIALECT_OVER,
	STATEMENTS
};

struct ledger {
	sqlite3 *db;
	sqlite3_stmt *st[STATEMENTS];
	char error[200];
	int64_t seen;	/* of CHANGED */
};

/* ---- ledgerdb.c ---- */

/* The key of a prefix or a customer, bound. */
void ledgerdb_bind_key(sqlite3_stmt *st, int n, const struct ledger_entry *e);
/* From columns key, action, until; all else is zero. customer is set to the
 * room given. false: nobody here wrote that row. */
bool ledgerdb_entry(sqlite3_stmt *st, int column, struct ledger_entry *e,
	char room[CONF_CUSTOMER_MAX]);
/* Valid until the statement goes on. Never NULL. */
const char *ledgerdb_text(sqlite3_stmt *st, int column);

/* Note the database's reason; -1. */
int ledgerdb_failed(struct ledger *l, const char *doing);
/* Ready to bind; NULL with the error noted. */
sqlite3_stmt *ledgerdb_statement(struct ledger *l, enum statement s);
/* Run one that gives no rows. 0 or -1. */
int ledgerdb_finish(struct ledger *l, sqlite3_stmt *st, const char *doing);
int ledgerdb_plain(struct ledger *l, enum statement s, const char *doing);
/* rc = 0: commit; else, or if that fails, take everything back. 0 or -1. */
int ledgerdb_end(struct ledger *l, int rc);
/* text, which may be NULL, cut to max with its NUL. */
void ledgerdb_bind_text(sqlite3_stmt *st, int n, const char *text, size_t max);
/* A row of the trail; e may be NULL. 0 or -1. */
int ledgerdb_audit(struct ledger *l, int64_t now, const char *op,
	const struct ledger_entry *e, const char *who, const char *why,
	uint64_t n);

/* ---- ledger.c ---- */

/* One entry, inside of a transaction and without a row of the trail: 1 added,
 * 2 changed, 0 was there just so, -1 error. */
int ledger_put_row(struct ledger *l, const struct ledger_entry *e);

#endif
