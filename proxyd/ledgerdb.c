/*
 * ledgerdb.c - the ledger's file: schema, statements, keys
 *
 * Does: open the SQLite file, bring an older schema up to date, refuse a
 * damaged or later one; hold the prepared statements; begin and end
 * transactions; write rows of the audit trail. Does not: know what an entry
 * is for.
 *
 * Called by the ledger's other files only. Values are bound, never pasted.
 * The file's directory belongs to control: who has taken that over controls
 * the file, so it is read with a distrusting SQLite.
 *
 * A key is family (4 or 6), address, length: 18 bytes that sort as people
 * expect; or 'c' and a customer's id, without NUL. The customers come last.
 */
#include "proxyd/ledger_impl.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define VERSION 4
#define BUSY_MS 3000
#define PREFIX_KEY 18

static const char *const sql[STATEMENTS] = {
	[BEGIN] = "BEGIN IMMEDIATE",
	[COMMIT] = "COMMIT",
	[ROLLBACK] = "ROLLBACK",
	[GET] = "SELECT action, until, pinned, since, why FROM allow "
		"WHERE key = ?1",
	[NEW] = "INSERT OR IGNORE INTO allow "
		"(key, action, until, pinned, since, who, why) "
		"VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
	[PUT] = "INSERT OR REPLACE INTO allow "
		"(key, action, until, pinned, since, who, why) "
		"VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
	[DEL] = "DELETE FROM allow WHERE key = ?1",
	[AUDIT] = "INSERT INTO audit (at, op, key, action, until, who, why, n) "
		"VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
	[OVER] = "SELECT key, action, until FROM allow "
		"WHERE until > 0 AND until <= ?1 LIMIT 10000",
	[ALL] = "SELECT key, action, until, pinned, since, who, why FROM allow "
		"ORDER BY key",
	[HISTORY] = "SELECT at, op, key, action, until, who, why, n FROM audit "
		"WHERE ?1 IS NULL OR key = ?1 OR key IS NULL ORDER BY id",
	[CHANGED] = "PRAGMA data_version",
	[LEASE_GET] = "SELECT customer FROM lease WHERE line = ?1",
	/* who had it when the table followed last stays noted */
	[LEASE_PUT] = "INSERT INTO lease (line, family, customer, since, was) "
		"VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (line) DO UPDATE SET "
		"customer = ?3, since = ?4, was = coalesce(was, ?5)",
	[LEASE_HEIR] = "SELECT line FROM lease WHERE customer = ?1 "
		"AND family = ?2 LIMIT 1",
	[LEASE_GONE] = "DELETE FROM lease WHERE was IS NOT NULL "
		"AND customer = ''",
	[LEASE_SETTLED] = "UPDATE lease SET was = NULL WHERE was IS NOT NULL",
	[LEASE_UNSETTLED] = "SELECT line, customer, was FROM lease "
		"WHERE was IS NOT NULL",
	[LEASE_LINES] = "SELECT line FROM lease WHERE customer = ?1",
	[CUSTOMERS] = "SELECT key, action, until FROM allow "
		"WHERE key >= x'63' AND key < x'64'",
	[STORED_GET] = "SELECT content FROM stored WHERE customer = ?1 "
		"AND family = ?2",
	[STORED_DEL] = "DELETE FROM stored WHERE customer = ?1 "
		"AND family = ?2",
	[STORED_PUT] = "INSERT OR REPLACE INTO stored "
		"(customer, family, line, at, content) "
		"VALUES (?1, ?2, ?3, ?4, ?5)",
	[STORED_OVER] = "DELETE FROM stored WHERE at < ?1",
	[PAST_NEW] = "INSERT INTO lease_past (line, customer, since, until) "
		"SELECT line, customer, since, ?2 FROM lease WHERE line = ?1 "
		"AND customer <> ''",
	/* who has it now is in lease, and comes first */
	[PAST_AT] = "SELECT customer, since, 0 FROM lease WHERE line = ?1 "
		"AND customer <> '' AND since <= ?2 UNION ALL "
		"SELECT customer, since, until FROM lease_past WHERE line = ?1 "
		"AND since <= ?2 AND until > ?2 LIMIT 1",
	[PAST_OVER] = "DELETE FROM lease_past WHERE id IN (SELECT id FROM "
		"lease_past WHERE until < ?1 ORDER BY until LIMIT 10000)",
	[LEVEL_NEW] = "INSERT INTO level (at, line, customer, was, level, "
		"pinned, who, why, evidence) "
		"VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
	[LEVEL_OF] = "SELECT line, at, customer, was, level, pinned, who, why, "
		"evidence FROM level WHERE line = ?1 AND at <= ?2 "
		"ORDER BY at DESC, id DESC LIMIT ?3",
	[LEVEL_SINCE] = "SELECT line, at, customer, was, level, pinned, who, "
		"why, evidence FROM level WHERE at >= ?1 ORDER BY at, id",
	[LEVEL_OVER] = "DELETE FROM level WHERE id IN (SELECT id FROM level "
		"WHERE at < ?1 ORDER BY at LIMIT 10000)",
	[NOW_CLEAR] = "DELETE FROM level_now",
	[NOW_PUT] = "INSERT OR REPLACE INTO level_now "
		"(line, level, pinned, since, origin) "
		"VALUES (?1, ?2, ?3, ?4, ?5)",
	/* an hour that several processes have counted */
	[HOUR_PUT] = "INSERT INTO hour (at, class, lines, attempts, "
		"destinations, blocked, suspect, probable, zombie) "
		"VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) "
		"ON CONFLICT (at, class) DO UPDATE SET "
		"lines = max(lines, ?3), attempts = attempts + ?4, "
		"destinations = max(destinations, ?5), blocked = blocked + ?6, "
		"suspect = max(suspect, ?7), probable = max(probable, ?8), "
		"zombie = max(zombie, ?9)",
	[HOUR_SINCE] = "SELECT at, class, lines, attempts, destinations, "
		"blocked, suspect, probable, zombie FROM hour WHERE at >= ?1 "
		"ORDER BY at, class",
	[HOUR_OVER] = "DELETE FROM hour WHERE (at, class) IN (SELECT at, class "
		"FROM hour WHERE at < ?1 ORDER BY at LIMIT 10000)",
	[DIALECT_PUT] = "INSERT INTO dialect (at, origin, dialect, lines) "
		"VALUES (?1, ?2, ?3, ?4) ON CONFLICT (at, origin, dialect) "
		"DO UPDATE SET lines = max(lines, ?4)",
	[DIALECT_SINCE] = "SELECT origin, dialect, max(lines) FROM dialect "
		"WHERE at >= ?1 GROUP BY origin, dialect",
	[DIALECT_OVER] = "DELETE FROM dialect WHERE (at, origin, dialect) IN "
		"(SELECT at, origin, dialect FROM dialect WHERE at < ?1 "
		"ORDER BY at LIMIT 10000)",
	[NOW_ALL] = "SELECT line, level, pinned, since FROM level_now "
		"WHERE origin <> ?1",
};

/* Step n brings version n to n + 1. A step that has been released never
 * changes; what comes later is added behind. */
static const char *const migration[VERSION] = {
	"CREATE TABLE allow (key BLOB PRIMARY KEY, action INTEGER NOT NULL, "
	"until INTEGER NOT NULL, pinned INTEGER NOT NULL, "
	"since INTEGER NOT NULL, who TEXT NOT NULL, why TEXT NOT NULL) "
	"WITHOUT ROWID;"
	"CREATE INDEX allow_until ON allow (until) WHERE until > 0;"
	"CREATE TABLE audit (id INTEGER PRIMARY KEY, at INTEGER NOT NULL, "
	"op TEXT NOT NULL, key BLOB, action INTEGER, until INTEGER, "
	"who TEXT NOT NULL, why TEXT NOT NULL, n INTEGER NOT NULL);"
	"CREATE INDEX audit_key ON audit (key);",
	"CREATE TABLE lease (line TEXT PRIMARY KEY, family INTEGER NOT NULL, "
	"customer TEXT NOT NULL, since INTEGER NOT NULL, was TEXT) "
	"WITHOUT ROWID;"
	"CREATE INDEX lease_customer ON lease (customer, family);"
	"CREATE INDEX lease_was ON lease (was) WHERE was IS NOT NULL;"
	"CREATE TABLE stored (customer TEXT NOT NULL, family INTEGER NOT NULL, "
	"line TEXT NOT NULL, at INTEGER NOT NULL, content BLOB NOT NULL, "
	"PRIMARY KEY (customer, family, line)) WITHOUT ROWID;"
	"CREATE INDEX stored_at ON stored (at);",
	"CREATE TABLE lease_past (id INTEGER PRIMARY KEY, line TEXT NOT NULL, "
	"customer TEXT NOT NULL, since INTEGER NOT NULL, "
	"until INTEGER NOT NULL);"
	"CREATE INDEX lease_past_line ON lease_past (line, until);"
	"CREATE INDEX lease_past_until ON lease_past (until);"
	"CREATE TABLE level (id INTEGER PRIMARY KEY, at INTEGER NOT NULL, "
	"line TEXT NOT NULL, customer TEXT NOT NULL, was INTEGER NOT NULL, "
	"level INTEGER NOT NULL, pinned INTEGER NOT NULL, who TEXT NOT NULL, "
	"why TEXT NOT NULL, evidence TEXT NOT NULL);"
	"CREATE INDEX level_line ON level (line, at);"
	"CREATE INDEX level_at ON level (at);"
	/* origin: the table of lines that they were read from */
	"CREATE TABLE level_now (line TEXT PRIMARY KEY, "
	"level INTEGER NOT NULL, pinned INTEGER NOT NULL, "
	"since INTEGER NOT NULL, origin INTEGER NOT NULL) WITHOUT ROWID;",
	"CREATE TABLE hour (at INTEGER NOT NULL, class TEXT NOT NULL, "
	"lines INTEGER NOT NULL, attempts INTEGER NOT NULL, "
	"destinations INTEGER NOT NULL, blocked INTEGER NOT NULL, "
	"suspect INTEGER NOT NULL, probable INTEGER NOT NULL, "
	"zombie INTEGER NOT NULL, PRIMARY KEY (at, class)) WITHOUT ROWID;"
	/* common ones; 0: lines that spoke at all */
	"CREATE TABLE dialect (at INTEGER NOT NULL, origin INTEGER NOT NULL, "
	"dialect INTEGER NOT NULL, lines INTEGER NOT NULL, "
	"PRIMARY KEY (at, origin, dialect)) WITHOUT ROWID;",
};

/* ---- keys ---- */

void
ledgerdb_bind_key(sqlite3_stmt *st, int n, const struct ledger_entry *e)
{
	const struct prefix *p = &e->item.prefix;
	uint8_t key[KEY_MAX];
	size_t len = PREFIX_KEY;

	if (e->customer != NULL) {
		key[0] = 'c';
		len = 1 + strnlen(e->customer, CONF_CUSTOMER_MAX - 1);
		memcpy(key + 1, e->customer, len - 1);
	} else {
		key[0] = p->family == AF_INET ? 4 : 6;
		memcpy(key + 1, p->ip, 16);
		key[17] = p->len;
	}
	sqlite3_bind_blob(st, n, key, (int)len, SQLITE_TRANSIENT);
}

/* A row that nobody here wrote is left out, not believed. */
bool
ledgerdb_entry(sqlite3_stmt *st, int column, struct ledger_entry *e,
	char room[CONF_CUSTOMER_MAX])
{
	const uint8_t *key = sqlite3_column_blob(st, column);
	size_t len = (size_t)sqlite3_column_bytes(st, column);

	memset(e, 0, sizeof(*e));
	if (key == NULL || len < 1)
		return false;
	e->item.action = (uint8_t)sqlite3_column_int(st, column + 1);
	e->item.until = sqlite3_column_int64(st, column + 2);
	if (key[0] == 'c') {
		if (len > CONF_CUSTOMER_MAX)
			return false;
		memcpy(room, key + 1, len - 1);
		room[len - 1] = '\0';
		e->customer = room;
		return strlen(room) == len - 1 && conf_customer_valid(room) &&
			allow_rest_valid(&e->item);
	}
	if (len != PREFIX_KEY)
		return false;
	e->item.prefix.family = key[0] == 4 ? AF_INET :
		key[0] == 6 ? AF_INET6 : 0;
	memcpy(e->item.prefix.ip, key + 1, 16);
	e->item.prefix.len = key[17];
	return allow_item_valid(&e->item);
}

const char *
ledgerdb_text(sqlite3_stmt *st, int column)
{
	const unsigned char *text = sqlite3_column_text(st, column);

	return text == NULL ? "" : (const char *)text;
}

/* ---- statements ---- */

int
ledgerdb_failed(struct ledger *l, const char *doing)
{
	snprintf(l->error, sizeof(l->error), "%s: %s", doing,
		sqlite3_errmsg(l->db));
	return -1;
}

const char *
ledger_error(const struct ledger *l)
{
	return l->error;
}

/* Ready to bind; NULL with the error noted. */
sqlite3_stmt *
ledgerdb_statement(struct ledger *l, enum statement s)
{
	if (l->st[s] == NULL && sqlite3_prepare_v3(l->db, sql[s], -1,
		    SQLITE_PREPARE_PERSISTENT, &l->st[s], NULL) != SQLITE_OK) {
		ledgerdb_failed(l, "prepare");
		return NULL;
	}
	sqlite3_reset(l->st[s]);
	return l->st[s];
}

/* One that gives no rows. */
int
ledgerdb_finish(struct ledger *l, sqlite3_stmt *st, const char *doing)
{
	int rc = sqlite3_step(st);

	if (rc != SQLITE_DONE && rc != SQLITE_ROW)
		ledgerdb_failed(l, doing);
	sqlite3_reset(st);
	sqlite3_clear_bindings(st);
	return rc == SQLITE_DONE || rc == SQLITE_ROW ? 0 : -1;
}

int
ledgerdb_plain(struct ledger *l, enum statement s, const char *doing)
{
	sqlite3_stmt *st = ledgerdb_statement(l, s);

	return st == NULL ? -1 : ledgerdb_finish(l, st, doing);
}

/* Commit, or take everything back; keeps the first error. */
int
ledgerdb_end(struct ledger *l, int rc)
{
	char first[sizeof(l->error)];

	if (rc == 0 && ledgerdb_plain(l, COMMIT, "commit") == 0)
		return 0;
	memcpy(first, l->error, sizeof(first));
	if (!sqlite3_get_autocommit(l->db))
		(void)ledgerdb_plain(l, ROLLBACK, "rollback");
	memcpy(l->error, first, sizeof(first));
	return -1;
}

void
ledgerdb_bind_text(sqlite3_stmt *st, int n, const char *text, size_t max)
{
	size_t len = text == NULL ? 0 : strnlen(text, max - 1);

	sqlite3_bind_text(st, n, text == NULL ? "" : text, (int)len,
		SQLITE_TRANSIENT);
}

int
ledgerdb_audit(struct ledger *l, int64_t now, const char *op,
	const struct ledger_entry *e, const char *who, const char *why,
	uint64_t n)
{
	sqlite3_stmt *st = ledgerdb_statement(l, AUDIT);

	if (st == NULL)
		return -1;
	sqlite3_bind_int64(st, 1, now);
	sqlite3_bind_text(st, 2, op, -1, SQLITE_STATIC);
	if (e != NULL) {
		ledgerdb_bind_key(st, 3, e);
		sqlite3_bind_int(st, 4, e->item.action);
		sqlite3_bind_int64(st, 5, e->item.until);
	}
	ledgerdb_bind_text(st, 6, who, LEDGER_WHO_MAX);
	ledgerdb_bind_text(st, 7, why, LEDGER_WHY_MAX);
	sqlite3_bind_int64(st, 8, (int64_t)n);
	return ledgerdb_finish(l, st, "write the audit row");
}

/* ---- open and close ---- */

static int
ask_number(struct ledger *l, const char *question, int64_t *n_r)
{
	sqlite3_stmt *st = NULL;
	int rc = sqlite3_prepare_v2(l->db, question, -1, &st, NULL);

	if (rc == SQLITE_OK && sqlite3_step(st) == SQLITE_ROW)
		*n_r = sqlite3_column_int64(st, 0);
	else
		rc = ledgerdb_failed(l, question);
	sqlite3_finalize(st);
	return rc == SQLITE_OK ? 0 : -1;
}

static int
run(struct ledger *l, const char *text)
{
	if (sqlite3_exec(l->db, text, NULL, NULL, NULL) == SQLITE_OK)
		return 0;
	return ledgerdb_failed(l, "SQL");
}

static int
migrate(struct ledger *l, int64_t version)
{
	char text[64];

	for (; version < VERSION; version++) {
		if (ledgerdb_plain(l, BEGIN, "begin") != 0)
			return -1;
		snprintf(text, sizeof(text), "PRAGMA user_version = %d",
			(int)version + 1);
		if (ledgerdb_end(l, run(l, migration[version]) != 0 ||
			    run(l, text) != 0) != 0)
			return -1;
	}
	return 0;
}

static bool
is_sound(struct ledger *l)
{
	sqlite3_stmt *st = NULL;
	bool sound = false;

	if (sqlite3_prepare_v2(l->db, "PRAGMA quick_check(1)", -1, &st,
		    NULL) == SQLITE_OK && sqlite3_step(st) == SQLITE_ROW)
		sound = strcmp(ledgerdb_text(st, 0), "ok") == 0;
	if (!sound && ledgerdb_failed(l, "damaged") != 0 && st != NULL &&
	    sqlite3_errcode(l->db) == SQLITE_ROW)
		snprintf(l->error, sizeof(l->error), "damaged: %.150s",
			ledgerdb_text(st, 0));
	sqlite3_finalize(st);
	return sound;
}

static int
settle(struct ledger *l, bool readonly)
{
	int64_t version = 0;

	sqlite3_busy_timeout(l->db, BUSY_MS);
	sqlite3_db_config(l->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	sqlite3_db_config(l->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
	if (run(l, "PRAGMA temp_store = MEMORY; PRAGMA cell_size_check = ON;"
		    "PRAGMA mmap_size = 0; PRAGMA cache_size = -65536") != 0 ||
	    ask_number(l, "PRAGMA user_version", &version) != 0)
		return -1;
	if (version > VERSION || version < 0 || (readonly && version < VERSION)) {
		snprintf(l->error, sizeof(l->error), "schema version %lld; %d "
			"is expected", (long long)version, VERSION);
		return -1;
	}
	if (readonly)
		return 0;
	if (!is_sound(l) || run(l, "PRAGMA journal_mode = WAL; "
		    "PRAGMA synchronous = FULL") != 0)
		return -1;
	return migrate(l, version);
}

struct ledger *
ledger_open(const char *path, bool readonly, char why[200])
{
	struct ledger *l = calloc(1, sizeof(*l));
	int flags = readonly ? SQLITE_OPEN_READONLY :
		SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
	int rc;

	if (l == NULL) {
		snprintf(why, 200, "out of memory");
		return NULL;
	}
	rc = sqlite3_open_v2(path, &l->db, flags | SQLITE_OPEN_NOMUTEX, NULL);
	if (rc != SQLITE_OK)
		ledgerdb_failed(l, "open");
	if (rc == SQLITE_OK && settle(l, readonly) == 0) {
		(void)ledger_is_changed(l);
		return l;
	}
	snprintf(why, 200, "%s", l->error);
	ledger_close(&l);
	return NULL;
}

void
ledger_close(struct ledger **l)
{
	if (*l == NULL)
		return;
	for (int s = 0; s < STATEMENTS; s++)
		sqlite3_finalize((*l)->st[s]);
	sqlite3_close((*l)->db);
	free(*l);
	*l = NULL;
}
