/*
 * ledger.c - unit tests of proxyd/ledger.c
 *
 * On files in a directory of its own: a new one, an older and a later schema,
 * rubbish, a page overwritten in the middle; a writer that is killed in the
 * middle of a transaction; a full disk; what import accepts and takes back.
 */
#include "proxyd/ledger.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

static char dir[] = "/tmp/ledger.XXXXXX";
static char path[64];

static void
wipe(void)
{
	static const char *const suffix[] = { "", "-wal", "-shm", "-journal" };
	char name[80];

	for (int i = 0; i < 4; i++) {
		snprintf(name, sizeof(name), "%s%s", path, suffix[i]);
		unlink(name);
	}
}

static int
fresh(void **state)
{
	(void)state;
	wipe();
	return 0;
}

static struct ledger *
opened(void)
{
	char why[200];
	struct ledger *l = ledger_open(path, false, why);

	if (l == NULL)
		fail_msg("%s", why);
	return l;
}

static struct ledger_entry
entry(const char *prefix, enum action action, int64_t until, const char *why)
{
	struct ledger_entry e = { .since = 1000, .who = "hana", .why = why };
	const char *reason;

	assert_int_equal(prefix_parse(&e.item.prefix, prefix, &reason), 0);
	e.item.action = (uint8_t)action;
	e.item.until = until;
	return e;
}

struct collected {
	size_t n;
	char text[4096];
};

static void
collect(void *arg, const struct ledger_entry *e)
{
	struct collected *c = arg;
	char prefix[ADDR_STRLEN];
	size_t len = strlen(c->text);

	c->n++;
	snprintf(c->text + len, sizeof(c->text) - len, "%s %s %lld %s %s|",
		prefix_format(&e->item.prefix, prefix),
		action_name[e->item.action], (long long)e->item.until, e->who,
		e->why);
}

static void
collect_audit(void *arg, const struct ledger_audit *a)
{
	struct collected *c = arg;
	size_t len = strlen(c->text);

	c->n++;
	snprintf(c->text + len, sizeof(c->text) - len, "%s %lld %s %s|", a->op,
		(long long)a->at, a->entry.who, a->entry.why);
}

static void
expect(struct ledger *l, const char *want)
{
	struct collected c = { 0 };

	assert_int_equal(ledger_each(l, collect, &c), 0);
	assert_string_equal(c.text, want);
}

static void
puts_and_deletes(void **state)
{
	struct ledger *l = opened();
	struct ledger_entry a = entry("198.18.7.7", ACTION_PASS, 5000, "ticket");
	struct ledger_entry b = entry("2001:db8:1::/48", ACTION_RELAY, 0, "");
	struct ledger_entry got;
	struct collected c = { 0 };

	(void)state;
	assert_int_equal(ledger_put(l, &a), 1);
	assert_int_equal(ledger_put(l, &b), 1);
	assert_int_equal(ledger_put(l, &a), 0);
	a.item.action = ACTION_SUBMIT;
	assert_int_equal(ledger_put(l, &a), 2);
	expect(l, "198.18.7.7/32 submit 5000 hana ticket|"
		"2001:db8:1::/48 relay 0 hana |");
	ledger_close(&l);
	l = opened();
	assert_int_equal(ledger_get(l, &a, &got), 1);
	assert_int_equal(got.item.action, ACTION_SUBMIT);
	a.why = "done";
	a.since = 2000;
	assert_int_equal(ledger_del(l, &a), 1);
	assert_int_equal(ledger_del(l, &a), 0);
	expect(l, "2001:db8:1::/48 relay 0 hana |");
	assert_int_equal(ledger_each_audit(l, &a, collect_audit, &c), 0);
	assert_string_equal(c.text, "add 1000 hana ticket|"
		"change 1000 hana ticket|del 2000 hana done|");
	ledger_close(&l);
}

static void
count_gone(void *arg, const struct ledger_entry *e)
{
	(void)e;
	++*(int *)arg;
}

static void
expires_what_is_over(void **state)
{
	struct ledger *l = opened();
	struct ledger_entry a = entry("198.18.7.1", ACTION_PASS, 100, "");
	struct ledger_entry b = entry("198.18.7.2", ACTION_PASS, 101, "");
	struct ledger_entry c = entry("198.18.7.3", ACTION_PASS, 0, "");
	int gone = 0;

	(void)state;
	ledger_put(l, &a);
	ledger_put(l, &b);
	ledger_put(l, &c);
	assert_int_equal(ledger_expire(l, 99, count_gone, &gone), 0);
	assert_int_equal(ledger_expire(l, 100, count_gone, &gone), 1);
	assert_int_equal(gone, 1);
	expect(l, "198.18.7.2/32 pass 101 hana |198.18.7.3/32 pass 0 hana |");
	ledger_close(&l);
}

static void
sql(const char *text)
{
	sqlite3 *db;

	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, text, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
}

static void
later_schema_is_refused_and_left_alone(void **state)
{
	char why[200];

	(void)state;
	sql("CREATE TABLE future (x); INSERT INTO future VALUES (42);"
		"PRAGMA user_version = 99");
	assert_null(ledger_open(path, false, why));
	assert_non_null(strstr(why, "schema version 99"));
	sql("UPDATE future SET x = 43");	/* fails if the table has gone */
}

static void
older_schema_is_brought_up(void **state)
{
	struct ledger *l;

	(void)state;
	sql("PRAGMA user_version = 0");	/* before the first table */
	l = opened();
	expect(l, "");
	ledger_close(&l);
	sql("SELECT count(*) FROM allow; SELECT count(*) FROM audit");
}

static void
note_level(void *arg, const struct ledger_level *e, const char *customer)
{
	(void)customer;
	assert_string_equal(e->line, "198.18.3.7");
	++*(unsigned *)arg;
}

/* Version 3 had levels, but no hours: what it had stays, what came works. */
static void
schema_3_gets_its_hours(void **state)
{
	struct ledger_level change = { .at = 5000, .line = "198.18.3.7",
		.is = 3, .who = "evidence", .evidence = "{}" };
	struct ledger_levels w = { .row = &change, .n = 1 };
	struct ledger_hour row = { .at = 5400, .class = "dynamic", .lines = 1 };
	struct ledger_hours h = { .row = &row, .n = 1 };
	struct ledger *l = opened();
	struct ledger_entry e = entry("198.18.3.7", ACTION_PASS, 0, "ticket");
	char why[200];
	unsigned n = 0;

	(void)state;
	assert_int_equal(ledger_put(l, &e), 1);
	assert_int_equal(ledger_levels(l, &w, 5000, 90), 0);
	ledger_close(&l);
	sql("DROP TABLE hour; DROP TABLE dialect; PRAGMA user_version = 3");
	/* the command line changes nothing, and says which daemon is older */
	assert_null(ledger_open(path, true, why));
	assert_non_null(strstr(why, "schema version 3"));
	l = opened();
	assert_int_equal(ledger_each_level(l, "198.18.3.7", 5000, 9,
		note_level, &n), 0);
	assert_int_equal(n, 1);
	assert_int_equal(ledger_get(l, &e, &e), 1);
	assert_int_equal(ledger_hours(l, &h, 5400, 90), 0);
	ledger_close(&l);
	sql("SELECT count(*) FROM hour WHERE class = 'dynamic'");
	l = opened();
	ledger_close(&l);
}

struct hours_told {
	unsigned n;
	struct ledger_hour hour[8];
	unsigned ndialects;
	struct ledger_dialect dialect[8];
};

static void
note_hour(void *arg, const struct ledger_hour *e)
{
	struct hours_told *t = arg;

	assert_in_range(t->n, 0, 7);
	t->hour[t->n++] = *e;
}

static void
note_dialect(void *arg, uint64_t table, const struct ledger_dialect *e)
{
	struct hours_told *t = arg;

	assert_int_equal(table, UINT64_MAX - 1);
	t->dialect[t->ndialects++] = *e;
}

static void
told_since(struct ledger *l, int64_t since, struct hours_told *t)
{
	memset(t, 0, sizeof(*t));
	assert_int_equal(ledger_each_hour(l, since, note_hour, t), 0);
	assert_int_equal(ledger_each_dialect(l, since, note_dialect, t), 0);
}

/* Two processes of one hour, classes apart; what is old goes. */
static void
hours_add_up_and_are_forgotten(void **state)
{
	enum { DAY = 86400, NOW = 100 * DAY };
	struct ledger_hour row[] = {
		{ .at = NOW, .class = "dynamic", .lines = 10, .attempts = 100,
		  .destinations = 40, .blocked = 60, .level = { 7, 1, 0, 2 } },
		{ .at = NOW, .class = "fixed", .lines = 1, .attempts = 1,
		  .destinations = 1, .level = { 1 } },
	};
	struct ledger_dialect dialect[] = { { 0, 900 }, { 0xc6a2, 300 } };
	struct ledger_hours h = { row, 2, dialect, 2, NOW, UINT64_MAX - 1 };
	struct ledger *l = opened();
	struct hours_told t;

	(void)state;
	assert_int_equal(ledger_hours(l, &h, NOW, 90), 0);
	row[0].lines = 4;
	row[0].attempts = 7;
	row[0].blocked = 5;
	row[0].destinations = 50;
	row[0].level[1] = 3;
	dialect[1].lines = 200;
	h.n = 1;
	assert_int_equal(ledger_hours(l, &h, NOW, 90), 0);
	told_since(l, NOW, &t);
	assert_int_equal(t.n, 2);
	assert_string_equal(t.hour[0].class, "dynamic");
	assert_int_equal(t.hour[0].lines, 10);
	assert_int_equal(t.hour[0].attempts, 107);
	assert_int_equal(t.hour[0].blocked, 65);
	assert_int_equal(t.hour[0].destinations, 50);
	assert_int_equal(t.hour[0].level[0], 5);
	assert_int_equal(t.hour[0].level[1], 3);
	assert_int_equal(t.hour[0].level[3], 2);
	assert_int_equal(t.hour[1].attempts, 1);
	assert_int_equal(t.ndialects, 2);
	assert_int_equal(t.dialect[1].lines, 300);
	told_since(l, NOW + 1, &t);
	assert_int_equal(t.n + t.ndialects, 0);
	/* ninety days later: the day counts, not the hour */
	h.n = h.ndialects = 0;
	assert_int_equal(ledger_hours(l, &h, NOW + 90 * DAY, 90), 0);
	told_since(l, 0, &t);
	assert_int_equal(t.n, 2);
	assert_int_equal(ledger_hours(l, &h, NOW + 90 * DAY + 1, 90), 0);
	told_since(l, 0, &t);
	assert_int_equal(t.n + t.ndialects, 0);
	ledger_close(&l);
}

static void
rubbish_is_refused_and_left_alone(void **state)
{
	static const char text[] = "not a database, but somebody's letter. ";
	char why[200], back[sizeof(text)];
	int fd = open(path, O_RDWR | O_CREAT, 0600);

	(void)state;
	for (int i = 0; i < 200; i++)
		assert_int_equal(write(fd, text, sizeof(text)), sizeof(text));
	assert_null(ledger_open(path, false, why));
	assert_non_null(strstr(why, "not a database"));
	assert_int_equal(pread(fd, back, sizeof(back), 0), sizeof(back));
	assert_string_equal(back, text);
	close(fd);
}

static void
a_damaged_page_is_found(void **state)
{
	struct ledger *l = opened();
	char why[200], text[32], junk[4096];
	struct stat st;
	int fd;

	(void)state;
	for (int i = 0; i < 20; i++) {
		struct ledger_entry e;

		snprintf(text, sizeof(text), "198.19.0.%d", i);
		e = entry(text, ACTION_PASS, 0, "filler");
		assert_int_equal(ledger_put(l, &e), 1);
	}
	ledger_close(&l);	/* into the file, out of the journal */
	assert_int_equal(stat(path, &st), 0);
	fd = open(path, O_RDWR);
	memset(junk, 0xa5, sizeof(junk));
	for (off_t at = 4096; at < st.st_size; at += 4096)
		assert_int_equal(pwrite(fd, junk, sizeof(junk), at),
			sizeof(junk));
	close(fd);
	assert_null(ledger_open(path, false, why));
	assert_true(strlen(why) > 0);
}

/* The child has changed much and not committed when it is killed. */
static void
a_killed_writer_leaves_whole_transactions(void **state)
{
	struct ledger_entry a = entry("198.18.7.7", ACTION_PASS, 0, "before");
	struct ledger *l = opened();
	int ready[2], status;
	char byte;
	pid_t pid;

	(void)state;
	assert_int_equal(ledger_put(l, &a), 1);
	ledger_close(&l);
	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		sqlite3 *db;

		sqlite3_open(path, &db);
		/* a small cache: pages go to the journal before the commit */
		sqlite3_exec(db, "PRAGMA cache_size = 5; BEGIN IMMEDIATE;"
			"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT "
			"i + 1 FROM n WHERE i < 20000) INSERT INTO audit (at, "
			"op, who, why, n) SELECT i, 'add', 'x', "
			"hex(zeroblob(40)), 1 FROM n; DELETE FROM allow",
			NULL, NULL, NULL);
		(void)!write(ready[1], "x", 1);
		for (;;)
			pause();
	}
	assert_true(pid > 0);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	l = opened();
	expect(l, "198.18.7.7/32 pass 0 hana before|");
	a = entry("198.18.7.8", ACTION_PASS, 0, "after");
	assert_int_equal(ledger_put(l, &a), 1);
	ledger_close(&l);
	close(ready[0]);
	close(ready[1]);
}

/* No byte more may be written: as a full disk, but for one process. */
static void
a_full_disk_is_an_error_and_no_damage(void **state)
{
	struct ledger_entry a = entry("198.18.7.7", ACTION_PASS, 0, "one");
	struct ledger_entry b = entry("198.18.7.8", ACTION_PASS, 0, "two");
	struct rlimit before, none;
	struct ledger *l = opened();

	(void)state;
	assert_int_equal(ledger_put(l, &a), 1);
	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &before);
	none = before;
	none.rlim_cur = 0;
	setrlimit(RLIMIT_FSIZE, &none);
	assert_int_equal(ledger_put(l, &b), -1);
	assert_true(strlen(ledger_error(l)) > 0);
	setrlimit(RLIMIT_FSIZE, &before);
	expect(l, "198.18.7.7/32 pass 0 hana one|");
	assert_int_equal(ledger_put(l, &b), 1);
	ledger_close(&l);
}

static int
import(struct ledger *l, const char *text, struct ledger_import *r)
{
	FILE *f = fmemopen((void *)text, strlen(text), "r");
	int rc = ledger_import(l, f, "script", 1000, false, NULL, r);

	fclose(f);
	return rc;
}

static void
imports_all_or_nothing(void **state)
{
	struct ledger *l = opened();
	struct ledger_entry one, got;
	struct ledger_import r;

	(void)state;
	assert_int_equal(import(l, "# head\n198.18.7.2 # two\n\n"
		"198.18.7.1 port25=relay until=2026-01-01T00:00:00Z\r\n", &r), 0);
	assert_int_equal(r.added, 2);
	free(r.text);
	expect(l, "198.18.7.1/32 relay 1767225600 script |"
		"198.18.7.2/32 pass 0 script two|");
	assert_int_equal(import(l, "198.18.7.2 # two\n198.18.7.9\n"
		"198.18.7.2 port25=relay\n", &r), 0);
	assert_int_equal(r.added, 1);
	assert_int_equal(r.same + r.changed, 2);
	free(r.text);
	assert_int_equal(import(l, "198.18.7.4\n198.18.7.300\n"
		"198.18.7.5 port25=submit\n198.18.7.6 until="
		"1970-01-01T00:00:01Z\n", &r), -1);
	assert_int_equal(r.errors, 3);
	assert_non_null(strstr(r.text, "2: '198.18.7.300'"));
	assert_non_null(strstr(r.text, "3: port25=submit"));
	assert_non_null(strstr(r.text, "4: until="));
	free(r.text);
	one = entry("198.18.7.4", ACTION_PASS, 0, "");
	assert_int_equal(ledger_get(l, &one, &got), 0);
	ledger_close(&l);
}

static void
rows_that_nobody_wrote_are_left_out(void **state)
{
	struct ledger_entry a = entry("198.18.7.7", ACTION_PASS, 0, "");
	struct ledger *l = opened();
	const struct conf conf = { 0 };
	struct allowmap *m;
	size_t n;

	(void)state;
	assert_int_equal(ledger_put(l, &a), 1);
	sql("INSERT INTO allow VALUES (x'04', 0, 0, 0, 0, '', '');"
		"INSERT INTO allow VALUES (x'04c6120707000000000000000000000000"
		"18', 0, 0, 0, 0, '', '');"
		"INSERT INTO allow VALUES (x'04c6120709000000000000000000000000"
		"20', 3, 0, 0, 0, '', '');"
		/* customers: no id, a blank in it, an action that is none */
		"INSERT INTO allow VALUES (x'63', 0, 0, 0, 0, '', '');"
		"INSERT INTO allow VALUES (x'636120', 0, 0, 0, 0, '', '');"
		"INSERT INTO allow VALUES (x'6362', 99, 0, 0, 0, '', '')");
	expect(l, "198.18.7.7/32 pass 0 hana |");
	assert_true(ledger_is_changed(l));
	assert_false(ledger_is_changed(l));
	m = ledger_load(l, &conf, 0);
	(void)allowmap_all(m, &n);
	assert_int_equal(n, 1);
	allowmap_free(&m);
	ledger_close(&l);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(puts_and_deletes, fresh),
		cmocka_unit_test_setup(expires_what_is_over, fresh),
		cmocka_unit_test_setup(later_schema_is_refused_and_left_alone,
			fresh),
		cmocka_unit_test_setup(older_schema_is_brought_up, fresh),
		cmocka_unit_test_setup(schema_3_gets_its_hours, fresh),
		cmocka_unit_test_setup(hours_add_up_and_are_forgotten, fresh),
		cmocka_unit_test_setup(rubbish_is_refused_and_left_alone, fresh),
		cmocka_unit_test_setup(a_damaged_page_is_found, fresh),
		cmocka_unit_test_setup(a_killed_writer_leaves_whole_transactions,
			fresh),
		cmocka_unit_test_setup(a_full_disk_is_an_error_and_no_damage,
			fresh),
		cmocka_unit_test_setup(imports_all_or_nothing, fresh),
		cmocka_unit_test_setup(rows_that_nobody_wrote_are_left_out,
			fresh),
	};
	int failures;

	if (mkdtemp(dir) == NULL)
		return 1;
	snprintf(path, sizeof(path), "%s/ledger.db", dir);
	failures = cmocka_run_group_tests(tests, NULL, NULL);
	wipe();
	rmdir(dir);
	return failures;
}
