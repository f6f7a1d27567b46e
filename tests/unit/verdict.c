/*
 * verdict.c - unit tests of nfq/verdict.c
 *
 * One configuration built by hand, a class per action, and a real line table.
 * Each row is a packet, the level of its line, and what must become of it and
 * of the line's record.
 */
#include "nfq/verdict.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "conf/conf.h"
#include "conf/lpm.h"
#include "zombie/table.h"

#define N(a) (sizeof(a) / sizeof((a)[0]))
#define NOW 1000000
#define FINGERPRINT (UINT64_C(1) << 63 | 25)

/* Class i is 198.18.i.0/24 and 2001:db8:i::/48, its action i. */
static struct class_conf classes[ACTION_COUNT];
static struct allow_entry allow[] = {
	{ .action = ACTION_PASS },
	{ .action = ACTION_RELAY, .until = NOW - 1 },
	{ .action = ACTION_WATCH },
};
static const char *const allow_prefix[] = { "198.18.5.7", "198.18.5.8",
	"198.18.3.7" };
static struct conf conf;
static struct table *table;

static void
add(struct lpm *l, const char *text, int32_t value)
{
	struct prefix p;
	const char *why;

	assert_int_equal(prefix_parse(&p, text, &why), 0);
	assert_int_equal(lpm_add(l, &p, value, NULL), 0);
}

static int
set_up(void **state)
{
	(void)state;
	conf.classes = classes;
	conf.nclasses = ACTION_COUNT;
	conf.allow = allow;
	conf.nallow = N(allow);
	conf.class_lpm = lpm_new();
	conf.allow_lpm = lpm_new();
	for (int i = 0; i < ACTION_COUNT; i++) {
		char text[ADDR_STRLEN];

		classes[i].port25 = classes[i].effective = (enum action)i;
		classes[i].line_len6 = 56;
		snprintf(text, sizeof(text), "198.18.%d.0/24", i);
		add(conf.class_lpm, text, i);
		snprintf(text, sizeof(text), "2001:db8:%d::/48", i);
		add(conf.class_lpm, text, i);
	}
	for (size_t i = 0; i < N(allow); i++)
		add(conf.allow_lpm, allow_prefix[i], (int32_t)i);
	return 0;
}

static int
tear_down(void **state)
{
	(void)state;
	lpm_free(&conf.class_lpm);
	lpm_free(&conf.allow_lpm);
	return 0;
}

enum field { NOTHING, ATTEMPT, CONTACT, SUBMISSION, BACK };

struct row {
	const char *src, *dst;
	char kind;		/* S: SYN, A: SYN+ACK, x: neither */
	enum return_path return_path;
	uint32_t level;
	enum verdict want;
	enum field counted;	/* in the line's record; NOTHING: no record */
};

#define MX "203.0.113.9:25"
#define MX6 "[2001:db8:f::25]:25"

static const struct row rows[] = {
	/* nobody's, or not counted by the operator's wish */
	{ "198.19.0.1:4000", MX, 'S', RETURN_OFF, 0, VERDICT_ACCEPT, NOTHING },
	{ "198.18.0.7:4000", MX, 'S', RETURN_OFF, 0, VERDICT_ACCEPT, NOTHING },
	/* watch, relay, block, submit: forwarded or captured, never refused */
	{ "198.18.1.7:4000", MX, 'S', RETURN_OFF, 0, VERDICT_ACCEPT, CONTACT },
	{ "198.18.2.7:4000", MX, 'S', RETURN_OFF, 0, VERDICT_ACCEPT, ATTEMPT },
	{ "198.18.3.9:4000", MX, 'S', RETURN_OFF, 0, VERDICT_ACCEPT, ATTEMPT },
	{ "198.18.4.7:4000", MX, 'S', RETURN_OFF, 0, VERDICT_ACCEPT, ATTEMPT },
	/* classes that are counted first */
	{ "198.18.5.1:4000", MX, 'S', RETURN_OFF, 0, VERDICT_RESET, ATTEMPT },
	{ "198.18.6.1:4000", MX, 'S', RETURN_OFF, 0, VERDICT_DROP, ATTEMPT },
	{ "198.18.5.7:4000", MX, 'S', RETURN_OFF, 0, VERDICT_ACCEPT, ATTEMPT },
	{ "198.18.5.8:4000", MX, 'S', RETURN_OFF, 0, VERDICT_RESET, ATTEMPT },
	/* levels with an action; suspect alone does nothing */
	{ "198.18.3.20:4000", MX, 'S', RETURN_OFF, 1, VERDICT_ACCEPT, ATTEMPT },
	{ "198.18.3.21:4000", MX, 'S', RETURN_OFF, 3 | LEVEL_ACTION_RESET,
		VERDICT_RESET, ATTEMPT },
	{ "198.18.1.22:4000", MX, 'S', RETURN_OFF, 3 | LEVEL_ACTION_DROP,
		VERDICT_DROP, CONTACT },
	{ "198.18.3.7:4000", MX, 'S', RETURN_OFF, 3 | LEVEL_ACTION_RESET,
		VERDICT_ACCEPT, ATTEMPT },
	/* submission is counted, never touched */
	{ "198.18.3.30:4000", "203.0.113.9:587", 'S', RETURN_OFF, 0,
		VERDICT_ACCEPT, SUBMISSION },
	{ "198.18.5.31:4000", "203.0.113.9:465", 'S', RETURN_OFF,
		3 | LEVEL_ACTION_DROP, VERDICT_ACCEPT, SUBMISSION },
	/* other ports and other packets are not our business */
	{ "198.18.5.40:4000", "203.0.113.9:110", 'S', RETURN_OFF, 0,
		VERDICT_ACCEPT, NOTHING },
	{ "198.18.5.41:4000", MX, 'x', RETURN_OFF, 0, VERDICT_ACCEPT, NOTHING },
	{ "198.18.5.42:4000", MX, 'A', RETURN_DROP, 0, VERDICT_ACCEPT,
		NOTHING },
	/* the return path: only block classes, only when asked for */
	{ MX, "198.18.3.50:4000", 'A', RETURN_OFF, 0, VERDICT_ACCEPT, NOTHING },
	{ MX, "198.18.3.51:4000", 'A', RETURN_COUNT, 0, VERDICT_ACCEPT, BACK },
	{ MX, "198.18.3.52:4000", 'A', RETURN_DROP, 0, VERDICT_DROP, BACK },
	{ MX, "198.18.2.53:4000", 'A', RETURN_DROP, 0, VERDICT_ACCEPT,
		NOTHING },
	{ MX, "198.18.3.7:4001", 'A', RETURN_DROP, 0, VERDICT_ACCEPT, BACK },
	{ MX, "198.18.3.54:4000", 'x', RETURN_DROP, 0, VERDICT_ACCEPT,
		NOTHING },
	/* IPv6: the /56 is the line */
	{ "[2001:db8:3:42::1]:4000", MX6, 'S', RETURN_OFF,
		3 | LEVEL_ACTION_RESET, VERDICT_RESET, ATTEMPT },
	{ "[2001:db8:1:43::1]:4000", MX6, 'S', RETURN_OFF, 0, VERDICT_ACCEPT,
		CONTACT },
	{ MX6, "[2001:db8:3:44::1]:4000", 'A', RETURN_DROP, 0, VERDICT_DROP,
		BACK },
};

static struct packet
packet_of(const char *src, const char *dst, char kind, uint32_t seq)
{
	struct packet p = { .seq = seq };

	assert_int_equal(addr_parse(&p.src, src), 0);
	assert_int_equal(addr_parse(&p.dst, dst), 0);
	p.is_syn = kind == 'S';
	p.is_synack = kind == 'A';
	p.syn = p.is_syn ? FINGERPRINT : 0;
	return p;
}

static enum verdict
decide(const struct judge *j, const struct packet *p, bool *again_r)
{
	struct look l;

	verdict_look(j, p, &l);
	return verdict_of(j, p, &l, again_r);
}

static void
check_counts(const struct row *row, const struct line_record *r)
{
	bool is_first = row->counted == ATTEMPT || row->counted == CONTACT;

	assert_int_equal(r->attempts, is_first);
	assert_int_equal(table_heard(r), is_first);
	assert_int_equal(r->retransmissions, is_first);
	assert_int_equal(table_destinations(r) > 0.5, row->counted == CONTACT);
	assert_true(r->syn == (row->counted == CONTACT ? FINGERPRINT : 0));
	assert_int_equal(r->submission, row->counted == SUBMISSION ? 2 : 0);
	assert_int_equal(r->back, row->counted == BACK ? 2 : 0);
	assert_int_equal(r->sessions, 0);
}

static void
check_row(const struct row *row)
{
	struct judge j = { .conf = &conf, .return_path = row->return_path,
		.now = 100, .unix_now = NOW };
	struct packet p = packet_of(row->src, row->dst, row->kind, 42);
	const struct addr *line = row->counted == BACK ? &p.dst : &p.src;
	struct line_record *r;
	struct line_key k;
	bool again, is_first = row->counted == ATTEMPT ||
		row->counted == CONTACT;

	print_message("%s %s %c\n", row->src, row->dst, row->kind);
	table = j.table = table_new(64);
	assert_non_null(table);
	line_key_of(line, 56, 0, &k);
	if (row->level != 0) {
		r = table_enter(table, &k, 100);
		assert_non_null(r);
		assert_int_equal(table_set_level(table, r, &k, row->level), 0);
	}
	assert_int_equal(decide(&j, &p, &again), row->want);
	assert_false(again);
	/* the same packet again: the same verdict, counted apart */
	assert_int_equal(decide(&j, &p, &again), row->want);
	assert_int_equal(again, is_first);
	r = table_find(table, &k);
	if (row->counted == NOTHING) {
		struct table_stats s;

		table_stats(table, &s);
		assert_int_equal(s.lines, 0);
	} else {
		assert_non_null(r);
		check_counts(row, r);
	}
	table_free(&table);
}

static void
table_of_verdicts(void **state)
{
	(void)state;
	for (size_t i = 0; i < N(rows); i++)
		check_row(&rows[i]);
}

/* enforce = "listed": the action towards listed destinations, elsewhere as in
 * watch; behind CGN the block of source ports is the line. */
static void
listed(void **state)
{
	static const struct row want[] = {
		{ "198.18.5.60:4000", MX, 'S', RETURN_OFF, 0, VERDICT_RESET,
			ATTEMPT },
		{ "198.18.5.61:4000", "203.0.113.10:25", 'S', RETURN_OFF, 0,
			VERDICT_ACCEPT, CONTACT },
		{ MX, "198.18.3.62:4000", 'A', RETURN_DROP, 0, VERDICT_DROP,
			BACK },
		{ "203.0.113.10:25", "198.18.3.63:4000", 'A', RETURN_DROP, 0,
			VERDICT_ACCEPT, NOTHING },
	};
	const enum action both[] = { ACTION_RESET, ACTION_BLOCK };
	struct judge j = { .conf = &conf, .now = 100, .unix_now = NOW };
	struct packet p = packet_of("198.18.3.64:4000", MX, 'S', 1);
	struct line_key k;
	struct look l;

	(void)state;
	for (size_t i = 0; i < N(both); i++) {
		classes[both[i]].enforce = ENFORCE_LISTED;
		classes[both[i]].destination_lpm = lpm_new();
		add(classes[both[i]].destination_lpm, "203.0.113.9", 0);
	}
	for (size_t i = 0; i < N(want); i++)
		check_row(&want[i]);
	table = j.table = table_new(64);
	assert_non_null(table);
	classes[ACTION_BLOCK].port_block = 1024;
	verdict_look(&j, &p, &l);
	line_key_of(&p.src, 56, 1024, &k);
	assert_memory_equal(&l.key, &k, sizeof(k));
	assert_int_equal(l.key.block, 1 + 4000 / 1024);
	table_free(&table);
	classes[ACTION_BLOCK].port_block = 0;
	for (size_t i = 0; i < N(both); i++) {
		lpm_free(&classes[both[i]].destination_lpm);
		classes[both[i]].enforce = ENFORCE_WATCH;
	}
}

/* A new sequence number or port is a new attempt. */
static void
tuples(void **state)
{
	struct packet p = packet_of("198.18.3.9:4000", MX, 'S', 1), q = p;
	struct packet p6 = packet_of("[2001:db8:3::1]:4000", MX6, 'S', 1);
	uint32_t hash;

	(void)state;
	table = table_new(64);
	assert_non_null(table);
	hash = verdict_tuple(table, &p);
	assert_int_not_equal(hash, 0);
	assert_int_equal(verdict_tuple(table, &q), hash);
	q.seq = 2;
	assert_int_not_equal(verdict_tuple(table, &q), hash);
	q = p;
	q.src.port++;
	assert_int_not_equal(verdict_tuple(table, &q), hash);
	q = p;
	q.dst.ip[3]++;
	assert_int_not_equal(verdict_tuple(table, &q), hash);
	hash = verdict_tuple(table, &p6);
	p6.dst.ip[15]++;
	assert_int_not_equal(verdict_tuple(table, &p6), hash);
	table_free(&table);
}

/* No room for a line: its class's action holds all the same. */
static void
full_table(void **state)
{
	struct judge j = { .conf = &conf, .now = 100, .unix_now = NOW };
	struct table_stats s;
	bool again;

	(void)state;
	table = j.table = table_new(8);
	assert_non_null(table);
	for (unsigned i = 0; i < 256; i++) {
		char src[ADDR_STRLEN];
		struct packet p;

		snprintf(src, sizeof(src), "198.18.6.%u:4000", i);
		p = packet_of(src, MX, 'S', i);
		assert_int_equal(decide(&j, &p, &again), VERDICT_DROP);
	}
	table_stats(table, &s);
	assert_true(s.lost > 0);
	table_free(&table);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(table_of_verdicts),
		cmocka_unit_test(listed),
		cmocka_unit_test(tuples),
		cmocka_unit_test(full_table),
	};

	return cmocka_run_group_tests_name("verdict", tests, set_up, tear_down);
}
