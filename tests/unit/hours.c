/*
 * hours.c - unit tests of proxyd/ctlhour.c
 *
 * A real table, a real scribe and a ledger in a file; hours pass because the
 * table's epoch moves back. What the ledger has afterwards is compared with what
 * was done to the table's records. The clock does not move with the epoch, so all
 * hours of a test begin at the same time: their attempts are sums.
 */
#include <event2/event.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "conf/lpm.h"
#include "proxyd/control.h"
#include "proxyd/event.h"
#include "zombie/history.h"
#include "zombie/region.h"

enum { HOUR = 3600, SPEAKERS = 30 };

static char dir[] = "/tmp/hours.XXXXXX";
static char path[64];
static struct control c;
static struct conf conf;
static struct class_conf classes[] = {
	{ .name = (char[]){ "dynamic" }, .line_len6 = 56 },
	{ .name = (char[]){ "homes" }, .line_len6 = 64, .roll_up = true },
};
static unsigned posted, done;

static void
on_done(void *arg, struct scribe_job *j)
{
	(void)arg;
	if (j->rc != 0)
		fail_msg("%s", j->error);
	done++;
}

static void
add(const char *text, int32_t class)
{
	struct prefix p;
	const char *why;

	assert_int_equal(prefix_parse(&p, text, &why), 0);
	assert_int_equal(lpm_add(conf.class_lpm, &p, class, NULL), 0);
}

static int
setup(void **state)
{
	(void)state;
	memset(&c, 0, sizeof(c));
	posted = done = 0;
	conf.classes = classes;
	conf.nclasses = 2;
	conf.ledger_file = path;
	conf.ledger_days = 90;
	conf.class_lpm = lpm_new();
	add("198.18.0.0/16", 0);
	add("2001:db8:1::/48", 1);
	c.conf = &conf;
	c.table = table_new(1000);
	c.base = event_base_new();
	c.scribe = scribe_start(c.base, &conf, on_done, NULL);
	assert_non_null(c.scribe);
	return 0;
}

static int
teardown(void **state)
{
	static const char *const suffix[] = { "", "-wal", "-shm" };
	char name[80];

	(void)state;
	ctlhour_close(&c);
	scribe_stop(&c.scribe);
	event_base_free(c.base);
	table_free(&c.table);
	lpm_free(&conf.class_lpm);
	for (int i = 0; i < 3; i++) {
		snprintf(name, sizeof(name), "%s%s", path, suffix[i]);
		unlink(name);
	}
	return 0;
}

static struct line_record *
line(const char *text, unsigned len, struct line_key *k_r)
{
	struct line_record *r;
	struct addr a;

	assert_int_equal(addr_parse(&a, text), 0);
	line_key_of(&a, len, 0, k_r);
	r = table_enter(c.table, k_r, table_now(c.table));
	assert_non_null(r);
	return r;
}

/* It counts at once who spoke, for what it is. */
static void
open_hours(void)
{
	ctlhour_open(&c);
	posted++;
}

/* So many first packets of a line, each to another network. */
static void
tries(const char *text, unsigned len, unsigned n)
{
	static uint32_t tuple;
	struct line_key k;
	struct line_record *r = line(text, len, &k);

	for (unsigned i = 0; i < n; i++) {
		struct addr dst = { .family = AF_INET,
			.ip = { 203, 0, (uint8_t)i, 1 } };

		assert_true(table_contact(c.table, r, table_now(c.table), &dst,
			++tuple * 7919, false) >= 0);
	}
}

static void
level(const char *text, unsigned len, enum level is)
{
	struct line_key k;
	struct line_record *r = line(text, len, &k);

	assert_int_equal(table_set_level(c.table, r, &k, is), 0);
}

static void
blocked(int class, unsigned n, enum event_kind kind)
{
	const struct report e = { .kind = (uint8_t)kind,
		.class_index = (int16_t)class };

	while (n-- > 0)
		ctlhour_note(&c, &e);
}

/* An hour later; until its totals are written. */
static void
next_hour(void)
{
	c.table->head->epoch -= HOUR;
	for (unsigned i = 0; i < 3; i++)
		ctlhour_second(&c);
	posted++;
	while (done < posted)
		assert_true(event_base_loop(c.base, EVLOOP_ONCE) >= 0);
}

struct told {
	unsigned n, ndialects;
	struct ledger_hour hour[8];
	struct ledger_dialect dialect[8];
};

static void
note_hour(void *arg, const struct ledger_hour *e)
{
	struct told *t = arg;

	assert_in_range(t->n, 0, 7);
	t->hour[t->n++] = *e;
}

static void
note_dialect(void *arg, uint64_t table, const struct ledger_dialect *e)
{
	struct told *t = arg;

	assert_int_equal(table, table_id(c.table));
	assert_in_range(t->ndialects, 0, 7);
	t->dialect[t->ndialects++] = *e;
}

static void
tell(struct told *t)
{
	char why[200];
	struct ledger *l = ledger_open(path, true, why);

	memset(t, 0, sizeof(*t));
	if (l == NULL)
		fail_msg("%s", why);
	assert_int_equal(ledger_each_hour(l, 0, note_hour, t), 0);
	assert_int_equal(ledger_each_dialect(l, 0, note_dialect, t), 0);
	ledger_close(&l);
}

static void
expect(const struct ledger_hour *e, const char *class, unsigned lines,
	unsigned attempts, unsigned sessions)
{
	assert_string_equal(e->class, class);
	assert_int_equal(e->lines, lines);
	assert_int_equal(e->attempts, attempts);
	assert_int_equal(e->blocked, sessions);
}

static void
totals_are_what_happened(void **state)
{
	struct told t;

	(void)state;
	tries("198.18.3.7", 56, 40);	/* before anybody counted */
	open_hours();
	tries("198.18.3.7", 56, 5);
	tries("198.18.3.8", 56, 3);
	tries("198.18.9.9", 56, 1);
	tries("2001:db8:1:1201::1", 64, 7);
	level("198.18.3.7", 56, LEVEL_ZOMBIE);
	level("198.18.3.8", 56, LEVEL_SUSPECT);
	level("198.18.5.5", 56, LEVEL_ZOMBIE);	/* did not try */
	level("2001:db8:1:1200::", 56, LEVEL_ZOMBIE);	/* is no line */
	tries("203.0.113.9", 56, 3);		/* nobody's */
	blocked(0, 4, EVENT_BLOCK);
	blocked(0, 9, EVENT_RELAY);
	next_hour();
	tell(&t);
	assert_int_equal(t.n, 2);
	expect(&t.hour[0], "dynamic", 3, 9, 4);
	assert_int_equal(t.hour[0].level[LEVEL_CLEAN], 1);
	assert_int_equal(t.hour[0].level[LEVEL_SUSPECT], 1);
	assert_int_equal(t.hour[0].level[LEVEL_ZOMBIE], 1);
	/* 40 + 3 + 1, but for those that share a bit */
	assert_in_range(t.hour[0].destinations, 36, 50);
	expect(&t.hour[1], "homes", 1, 7, 0);
	assert_in_range(time(NULL) - t.hour[0].at, HOUR - 90, HOUR + 90);
	/* the next one has what came since, and nothing of before */
	tries("198.18.3.7", 56, 2);
	next_hour();
	tell(&t);
	expect(&t.hour[0], "dynamic", 3, 11, 4);
	expect(&t.hour[1], "homes", 1, 7, 0);
	/* nobody tried */
	next_hour();
	tell(&t);
	expect(&t.hour[0], "dynamic", 3, 11, 4);
	assert_int_equal(t.n, 2);
}

/* What a customer's history brings with a lease, nobody has tried now. */
static void
a_history_that_moves_is_no_attempt(void **state)
{
	struct line_history h;
	struct line_key from, to;
	struct told t;

	(void)state;
	open_hours();
	tries("198.18.3.7", 56, 50);
	tries("198.18.3.8", 56, 1);
	next_hour();
	(void)line("198.18.3.7", 56, &from);
	(void)line("198.18.3.8", 56, &to);
	history_take(c.table, &from, 0, &h);
	assert_int_equal(history_give(c.table, &to, 77, &h), 0);
	tries("198.18.3.7", 56, 3);	/* its next customer */
	next_hour();
	tell(&t);
	assert_int_equal(t.n, 1);
	expect(&t.hour[0], "dynamic", 2, 54, 0);
}

/* One that leaves writes its part, and what it refuses until its end. */
static void
the_rest_of_an_hour(void **state)
{
	struct told t;

	(void)state;
	open_hours();
	tries("198.18.3.7", 56, 5);
	blocked(0, 2, EVENT_BLOCK);
	c.draining = true;
	ctlhour_second(&c);
	tries("198.18.3.7", 56, 100);	/* its successor's */
	blocked(0, 3, EVENT_BLOCK);
	ctlhour_second(&c);
	ctlhour_close(&c);
	scribe_stop(&c.scribe);
	tell(&t);
	assert_int_equal(t.n, 1);
	expect(&t.hour[0], "dynamic", 1, 5, 5);
}

/* More than twenty and a fiftieth. */
static void
common_dialects(void **state)
{
	struct line_key k;
	struct told t;
	char text[24];

	(void)state;
	open_hours();
	next_hour();
	tell(&t);
	assert_int_equal(t.ndialects, 0);	/* nobody spoke: not counted */
	for (unsigned i = 0; i < SPEAKERS + 20; i++) {
		snprintf(text, sizeof(text), "198.18.7.%u", i);
		atomic_store(&line(text, 56, &k)->dialect, i < SPEAKERS ?
			0xc6a2 : 0x1111);
	}
	next_hour();
	tell(&t);
	assert_int_equal(t.ndialects, 2);
	assert_int_equal(t.dialect[0].dialect, 0);
	assert_int_equal(t.dialect[0].lines, SPEAKERS + 20);
	assert_int_equal(t.dialect[1].dialect, 0xc6a2);
	assert_int_equal(t.dialect[1].lines, SPEAKERS);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
		T(totals_are_what_happened),
		T(a_history_that_moves_is_no_attempt), T(the_rest_of_an_hour),
		T(common_dialects),
	};
	int failures;

	if (mkdtemp(dir) == NULL)
		return 1;
	snprintf(path, sizeof(path), "%s/ledger.db", dir);
	failures = cmocka_run_group_tests(tests, NULL, NULL);
	rmdir(dir);
	return failures;
}
