/*
 * ledger.c - the database of allow entries, with who, when and why
 *
 * Does: keep allow entries and an audit trail in one SQLite file; open it,
 * bring an older schema up to date, refuse a damaged or later one. Every
 * change and its audit row are one transaction, synchronous: what an operator
 * was told is on the disk. Does not: decide what an entry means, or touch the
 * kernel.
 *
 * Called by scribe.c in a thread of its own, since a disk may hang, and by the
 * command line, which reads. An operator controls prefixes and words; they are
 * bound, never pasted. The file's directory belongs to control: who has taken
 * that over controls the file, so it is read with a distrusting SQLite.
 *
 * A key is family (4 or 6), address, length: 18 bytes that sort as people
 * expect. Other kinds of line (a customer id) will begin with another byte.
 */
#include "proxyd/ledger.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "conf/allow.h"
#include "conf/conf.h"

#define VERSION 1
#define KEY_SIZE 18
#define BUSY_MS 3000
#define ERRORS_SHOWN 20
#define LINE_BYTES 1024
#define WAL_PAGES 1000	/* SQLite's own default between two checkpoints */

enum statement {
	BEGIN, COMMIT, ROLLBACK, GET, NEW, PUT, DEL, AUDIT, OVER, ALL, HISTORY,
	CHANGED, STATEMENTS
};

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
};

struct ledger {
	sqlite3 *db;
	sqlite3_stmt *st[STATEMENTS];
	char error[200];
	int64_t seen;	/* of CHANGED */
};

/* ---- keys ---- */

static void
key_of(const struct prefix *p, uint8_t key[KEY_SIZE])
{
	key[0] = p->family == AF_INET ? 4 : 6;
	memcpy(key + 1, p->ip, 16);
	key[17] = p->len;
}

/* A row that nobody here wrote is left out, not believed. */
static bool
item_of(sqlite3_stmt *st, int column, struct allow_item *i)
{
	const uint8_t *key = sqlite3_column_blob(st, column);

	memset(i, 0, sizeof(*i));
	if (key == NULL || sqlite3_column_bytes(st, column) != KEY_SIZE)
		return false;
	i->prefix.family = key[0] == 4 ? AF_INET : key[0] == 6 ? AF_INET6 : 0;
	memcpy(i->prefix.ip, key + 1, 16);
	i->prefix.len = key[17];
	i->action = (uint8_t)sqlite3_column_int(st, column + 1);
	i->until = sqlite3_column_int64(st, column + 2);
	return allow_item_valid(i);
}

static const char *
text_of(sqlite3_stmt *st, int column)
{
	const unsigned char *text = sqlite3_column_text(st, column);

	return text == NULL ? "" : (const char *)text;
}

/* ---- statements ---- */

static int
failed(struct ledger *l, const char *doing)
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
static sqlite3_stmt *
statement(struct ledger *l, enum statement s)
{
	if (l->st[s] == NULL && sqlite3_prepare_v3(l->db, sql[s], -1,
		    SQLITE_PREPARE_PERSISTENT, &l->st[s], NULL) != SQLITE_OK) {
		failed(l, "prepare");
		return NULL;
	}
	sqlite3_reset(l->st[s]);
	return l->st[s];
}

/* One that gives no rows. */
static int
finish(struct ledger *l, sqlite3_stmt *st, const char *doing)
{
	int rc = sqlite3_step(st);

	if (rc != SQLITE_DONE && rc != SQLITE_ROW)
		failed(l, doing);
	sqlite3_reset(st);
	sqlite3_clear_bindings(st);
	return rc == SQLITE_DONE || rc == SQLITE_ROW ? 0 : -1;
}

static int
plain(struct ledger *l, enum statement s, const char *doing)
{
	sqlite3_stmt *st = statement(l, s);

	return st == NULL ? -1 : finish(l, st, doing);
}

/* Commit, or take everything back; keeps the first error. */
static int
end(struct ledger *l, int rc)
{
	char first[sizeof(l->error)];

	if (rc == 0 && plain(l, COMMIT, "commit") == 0)
		return 0;
	memcpy(first, l->error, sizeof(first));
	if (!sqlite3_get_autocommit(l->db))
		(void)plain(l, ROLLBACK, "rollback");
	memcpy(l->error, first, sizeof(first));
	return -1;
}

static void
bind_text(sqlite3_stmt *st, int n, const char *text, size_t max)
{
	size_t len = text == NULL ? 0 : strnlen(text, max - 1);

	sqlite3_bind_text(st, n, text == NULL ? "" : text, (int)len,
		SQLITE_TRANSIENT);
}

static int
audit(struct ledger *l, int64_t now, const char *op, const struct allow_item *i,
	const char *who, const char *why, uint64_t n)
{
	sqlite3_stmt *st = statement(l, AUDIT);
	uint8_t key[KEY_SIZE];

	if (st == NULL)
		return -1;
	sqlite3_bind_int64(st, 1, now);
	sqlite3_bind_text(st, 2, op, -1, SQLITE_STATIC);
	if (i != NULL) {
		key_of(&i->prefix, key);
		sqlite3_bind_blob(st, 3, key, KEY_SIZE, SQLITE_TRANSIENT);
		sqlite3_bind_int(st, 4, i->action);
		sqlite3_bind_int64(st, 5, i->until);
	}
	bind_text(st, 6, who, LEDGER_WHO_MAX);
	bind_text(st, 7, why, LEDGER_WHY_MAX);
	sqlite3_bind_int64(st, 8, (int64_t)n);
	return finish(l, st, "write the audit row");
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
		rc = failed(l, question);
	sqlite3_finalize(st);
	return rc == SQLITE_OK ? 0 : -1;
}

static int
run(struct ledger *l, const char *text)
{
	if (sqlite3_exec(l->db, text, NULL, NULL, NULL) == SQLITE_OK)
		return 0;
	return failed(l, "SQL");
}

static int
migrate(struct ledger *l, int64_t version)
{
	char text[64];

	for (; version < VERSION; version++) {
		if (plain(l, BEGIN, "begin") != 0)
			return -1;
		snprintf(text, sizeof(text), "PRAGMA user_version = %d",
			(int)version + 1);
		if (end(l, run(l, migration[version]) != 0 ||
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
		sound = strcmp(text_of(st, 0), "ok") == 0;
	if (!sound && failed(l, "damaged") != 0 && st != NULL &&
	    sqlite3_errcode(l->db) == SQLITE_ROW)
		snprintf(l->error, sizeof(l->error), "damaged: %.150s",
			text_of(st, 0));
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
		failed(l, "open");
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

bool
ledger_is_changed(struct ledger *l)
{
	sqlite3_stmt *st = statement(l, CHANGED);
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
	sqlite3_stmt *st = statement(l, GET);
	uint8_t key[KEY_SIZE];
	int rc;

	if (st == NULL)
		return -1;
	key_of(p, key);
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
			snprintf(why, LEDGER_WHY_MAX, "%s", text_of(st, 4));
	} else if (rc != SQLITE_DONE)
		failed(l, "look up");
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
	sqlite3_stmt *st = statement(l, how);
	uint8_t key[KEY_SIZE];

	if (st == NULL)
		return -1;
	key_of(&e->item.prefix, key);
	sqlite3_bind_blob(st, 1, key, KEY_SIZE, SQLITE_TRANSIENT);
	sqlite3_bind_int(st, 2, e->item.action);
	sqlite3_bind_int64(st, 3, e->item.until);
	sqlite3_bind_int(st, 4, e->pinned);
	sqlite3_bind_int64(st, 5, e->since);
	bind_text(st, 6, e->who, LEDGER_WHO_MAX);
	bind_text(st, 7, e->why, LEDGER_WHY_MAX);
	return finish(l, st, "write the entry");
}

/* Without a transaction of its own and without audit. Most are new, and those
 * need one look at the tree, not two. */
static int
put(struct ledger *l, const struct ledger_entry *e)
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

	if (plain(l, BEGIN, "begin") != 0)
		return -1;
	rc = put(l, e);
	if (rc > 0 && audit(l, e->since, rc == 1 ? "add" : "change", &e->item,
		    e->who, e->why, 1) != 0)
		rc = -1;
	return end(l, rc < 0 ? -1 : 0) != 0 ? -1 : rc;
}

static int
erase(struct ledger *l, const struct prefix *p)
{
	sqlite3_stmt *st = statement(l, DEL);
	uint8_t key[KEY_SIZE];

	if (st == NULL)
		return -1;
	key_of(p, key);
	sqlite3_bind_blob(st, 1, key, KEY_SIZE, SQLITE_TRANSIENT);
	return finish(l, st, "delete the entry");
}

int
ledger_del(struct ledger *l, const struct ledger_entry *e)
{
	struct ledger_entry old;
	int rc;

	if (plain(l, BEGIN, "begin") != 0)
		return -1;
	rc = get(l, &e->item.prefix, &old, NULL);
	if (rc == 1 && (erase(l, &e->item.prefix) != 0 ||
		    audit(l, e->since, "del", &old.item, e->who, e->why, 1) != 0))
		rc = -1;
	return end(l, rc < 0 ? -1 : 0) != 0 ? -1 : rc;
}

/* ---- many ---- */

/* A select may not run while its table is changed: ten thousand at a time. */
static int
read_over(struct ledger *l, int64_t now, struct allow_item *item, size_t max)
{
	sqlite3_stmt *st = statement(l, OVER);
	size_t n = 0;
	int rc;

	if (st == NULL)
		return -1;
	sqlite3_bind_int64(st, 1, now);
	while ((rc = sqlite3_step(st)) == SQLITE_ROW && n < max)
		if (item_of(st, 0, &item[n]))
			n++;
	if (rc != SQLITE_DONE && rc != SQLITE_ROW)
		failed(l, "read");
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

	if (item == NULL || plain(l, BEGIN, "begin") != 0) {
		free(item);
		return -1;
	}
	n = read_over(l, now, item, max);
	for (int i = 0; i < n && rc == 0; i++)
		if (erase(l, &item[i].prefix) != 0 || audit(l, now, "expire",
			    &item[i], "sallyportd", "", 1) != 0)
			rc = -1;
	if (end(l, n < 0 ? -1 : rc) != 0)
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
	sqlite3_stmt *st = statement(l, ALL);
	struct ledger_entry e;
	int rc;

	if (st == NULL)
		return -1;
	while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
		if (!item_of(st, 0, &e.item))
			continue;
		e.pinned = sqlite3_column_int(st, 3) != 0;
		e.since = sqlite3_column_int64(st, 4);
		e.who = text_of(st, 5);
		e.why = text_of(st, 6);
		each(arg, &e);
	}
	if (rc != SQLITE_DONE)
		failed(l, "read");
	sqlite3_reset(st);
	return rc == SQLITE_DONE ? 0 : -1;
}

int
ledger_each_audit(struct ledger *l, const struct prefix *p,
	void (*each)(void *arg, const struct ledger_audit *a), void *arg)
{
	sqlite3_stmt *st = statement(l, HISTORY);
	struct ledger_audit a;
	uint8_t key[KEY_SIZE];
	int rc;

	if (st == NULL)
		return -1;
	if (p != NULL) {
		key_of(p, key);
		sqlite3_bind_blob(st, 1, key, KEY_SIZE, SQLITE_TRANSIENT);
	}
	while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
		a.at = sqlite3_column_int64(st, 0);
		a.op = text_of(st, 1);
		a.has_item = item_of(st, 2, &a.item);
		a.who = text_of(st, 5);
		a.why = text_of(st, 6);
		a.count = sqlite3_column_int64(st, 7);
		each(arg, &a);
	}
	if (rc != SQLITE_DONE)
		failed(l, "read");
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

/* ---- import ---- */

struct reading {
	struct ledger *l;
	const char *who;
	int64_t now;
	bool has_submission;
	struct ledger_import *r;
	FILE *errors;
	struct ledger_entry *e;
	char **reason;
	size_t n, cap;
	uint64_t line;
};

static void
complain_of(struct reading *rd, const char *why)
{
	if (rd->r->errors++ < ERRORS_SHOWN && rd->errors != NULL)
		fprintf(rd->errors, "%llu: %s\n", (unsigned long long)rd->line,
			why);
}

static int
keep(struct reading *rd, struct allow_entry *a)
{
	if (rd->n == rd->cap) {
		size_t cap = rd->cap == 0 ? 1024 : rd->cap * 2;
		struct ledger_entry *e = reallocarray(rd->e, cap, sizeof(*e));

		if (e == NULL)
			return -1;
		rd->e = e;
		rd->cap = cap;
	}
	memset(&rd->e[rd->n], 0, sizeof(*rd->e));
	rd->e[rd->n].item.prefix = a->prefix;
	rd->e[rd->n].item.action = (uint8_t)a->action;
	rd->e[rd->n].item.until = a->until;
	rd->e[rd->n].pinned = a->until == 0;
	rd->e[rd->n].since = rd->now;
	rd->e[rd->n].who = rd->who;
	rd->e[rd->n++].why = a->reason;
	a->reason = NULL;
	return 0;
}

/* 0, or -1 without memory; mistakes of the line are counted. */
static int
read_line(struct reading *rd, char *text, ssize_t len)
{
	struct allow_entry a;
	char why[160];
	int rc;

	if (len > 0 && text[len - 1] == '\n')
		text[--len] = '\0';
	if (len > 0 && text[len - 1] == '\r')
		text[--len] = '\0';
	if ((size_t)len != strlen(text) || len > LINE_BYTES) {
		complain_of(rd, "a NUL byte or more than 1024 characters; "
			"expected one entry a line");
		return 0;
	}
	rc = allow_parse(text, &a, why);
	if (rc < 0) {
		complain_of(rd, why);
		return 0;
	}
	if (rc == 0)
		return 0;
	rc = 0;
	if (a.action == ACTION_SUBMIT && !rd->has_submission)
		complain_of(rd, "port25=submit without a server to submit to");
	else if (a.until != 0 && a.until <= rd->now)
		complain_of(rd, "until= is in the past");
	else if (rd->n >= ALLOWMAP_MAX)
		complain_of(rd, "more entries than the allowlist holds");
	else
		rc = keep(rd, &a);
	free(a.reason);
	return rc;
}

static int
by_prefix(const void *a, const void *b)
{
	const struct ledger_entry *x = a, *y = b;
	int order;

	if (x->item.prefix.family != y->item.prefix.family)
		return x->item.prefix.family == AF_INET ? -1 : 1;
	order = memcmp(x->item.prefix.ip, y->item.prefix.ip, 16);
	return order != 0 ? order : x->item.prefix.len - y->item.prefix.len;
}

static int
write_all(struct reading *rd)
{
	struct ledger *l = rd->l;
	char why[64];
	int rc = 0;

	/* in the order of the tree: half a million in a second, not in ten */
	if (rd->n > 0)
		qsort(rd->e, rd->n, sizeof(*rd->e), by_prefix);
	if (plain(l, BEGIN, "begin") != 0)
		return -1;
	for (size_t i = 0; i < rd->n && rc == 0; i++) {
		int one = put(l, &rd->e[i]);

		rd->r->added += one == 1;
		rd->r->changed += one == 2;
		rd->r->same += one == 0;
		rc = one < 0 ? -1 : 0;
	}
	snprintf(why, sizeof(why), "%llu added, %llu changed",
		(unsigned long long)rd->r->added,
		(unsigned long long)rd->r->changed);
	if (rc == 0 && rd->r->added + rd->r->changed > 0)
		rc = audit(l, rd->now, "import", NULL, rd->who, why,
			rd->r->added + rd->r->changed);
	return end(l, rc);
}

int
ledger_import(struct ledger *l, FILE *f, const char *who, int64_t now,
	bool has_submission, volatile uint64_t *progress,
	struct ledger_import *r)
{
	struct reading rd = { .l = l, .who = who, .now = now,
		.has_submission = has_submission, .r = r };
	size_t cap = 0, text_len = 0;
	char *text = NULL;
	ssize_t len;
	int rc = 0;

	memset(r, 0, sizeof(*r));
	rd.errors = open_memstream(&r->text, &text_len);
	while (rc == 0 && (len = getline(&text, &cap, f)) >= 0) {
		rd.line++;
		rc = read_line(&rd, text, len);
		if (progress != NULL)
			*progress = rd.line;
	}
	free(text);
	if (rc != 0)
		snprintf(l->error, sizeof(l->error), "out of memory");
	else if (ferror(f))
		rc = (complain_of(&rd, "cannot be read to its end"), -1);
	else if (r->errors > 0)
		rc = -1;
	else {
		sqlite3_wal_autocheckpoint(l->db, 0);
		rc = write_all(&rd);
		sqlite3_wal_autocheckpoint(l->db, WAL_PAGES);
	}
	if (rd.errors != NULL)
		fclose(rd.errors);
	for (size_t i = 0; i < rd.n; i++)
		free((char *)rd.e[i].why);
	free(rd.e);
	return rc;
}

void
ledger_settle(struct ledger *l)
{
	(void)sqlite3_wal_checkpoint_v2(l->db, NULL, SQLITE_CHECKPOINT_PASSIVE,
		NULL, NULL);
}
