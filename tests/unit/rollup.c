/*
 * rollup.c - unit tests of IPv6 lines judged together below their /56
 *
 * One configuration with classes of every line length, one inside of another's
 * /56; rows are lines with a level and what their neighbours are then. Joining is
 * compared with the detector itself, fed with the events of all lines as one.
 */
#include "zombie/rollup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "conf/conf.h"
#include "conf/lpm.h"

enum { HOUR = 3600, START = 7200 };

static struct class_conf classes[] = {
	{ .name = (char[]){ "64" }, .line_len6 = 64, .roll_up = true },
	{ .name = (char[]){ "inside" }, .line_len6 = 64, .roll_up = true },
	{ .name = (char[]){ "56" }, .line_len6 = 56, .roll_up = true },
	{ .name = (char[]){ "60" }, .line_len6 = 60, .roll_up = true },
	{ .name = (char[]){ "off" }, .line_len6 = 64, .roll_up = false },
};
static const char *const prefix[] = { "2001:db8:1::/48", "2001:db8:1:1240::/58",
	"2001:db8:2::/48", "2001:db8:3::/48", "2001:db8:4::/48" };
#define CLASSES (sizeof(prefix) / sizeof(prefix[0]))

struct place {
	struct conf conf;
	struct detect d;
	struct table *t;
	uint32_t now;
};

static int
setup(void **state)
{
	struct place *p = calloc(1, sizeof(*p));
	const char *why, *const on[] = { "refusal.count=count" };
	struct zombie_conf z;
	struct prefix of;

	assert_non_null(p);
	*state = p;
	p->conf.classes = classes;
	p->conf.nclasses = CLASSES;
	p->conf.class_lpm = lpm_new();
	for (size_t i = 0; i < CLASSES; i++) {
		assert_int_equal(prefix_parse(&of, prefix[i], &why), 0);
		assert_int_equal(lpm_add(p->conf.class_lpm, &of, (int32_t)i,
			NULL), 0);
	}
	assert_int_equal(conf_zombie(&z, on, 1, stderr), 0);
	detect_load(&p->d, &z);
	p->t = table_new(2000);
	assert_non_null(p->t);
	p->now = START;
	return 0;
}

static int
teardown(void **state)
{
	struct place *p = *state;

	table_free(&p->t);
	lpm_free(&p->conf.class_lpm);
	free(p);
	return 0;
}

static struct line_key
key(const char *address, unsigned len)
{
	struct line_key k;
	struct addr a;

	assert_int_equal(addr_parse(&a, address), 0);
	line_key_of(&a, len, 0, &k);
	return k;
}

static struct line_record *
set(struct place *p, const char *address, unsigned len, uint32_t level)
{
	struct line_key k = key(address, len);
	struct line_record *r = table_enter(p->t, &k, p->now);

	assert_non_null(r);
	assert_int_equal(table_set_level(p->t, r, &k, level), 0);
	return r;
}

static enum level
judge(struct place *p, const char *parent, struct line_record *sum_r)
{
	struct line_key k = key(parent, ROLLUP_LEN);

	return rollup_judge(&p->conf, &p->d, p->t, &k, p->now, sum_r);
}

/* Which lines have a parent, and which keys are one. */
static void
parents(void **state)
{
	static const struct {
		const char *address;
		unsigned len;
		bool has, is;
	} rows[] = {
		{ "2001:db8:1:1201::", 64, true, false },
		{ "2001:db8:1:1200::", 56, false, true },
		{ "2001:db8:1:1241::", 64, false, false },	/* inside */
		{ "2001:db8:2:1200::", 56, false, false },	/* a line */
		{ "2001:db8:3:1210::", 60, true, false },
		{ "2001:db8:3:1200::", 56, false, true },
		{ "2001:db8:4:1201::", 64, false, false },	/* off */
		{ "2001:db8:4:1200::", 56, false, false },
		{ "2001:db8:9:1201::", 64, false, false },	/* nobody's */
		{ "198.18.3.7", 64, false, false },
	};
	struct place *p = *state;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct line_key k = key(rows[i].address, rows[i].len), parent;

		assert_int_equal(rollup_parent(&p->conf, &k, &parent),
			rows[i].has);
		if (rows[i].has)
			assert_int_equal(parent.len, 56);
		assert_int_equal(rollup_is_parent(&p->conf, &k), rows[i].is);
	}
}

static void
counting(void **state)
{
	struct place *p = *state;
	struct line_record sum, *line[ROLLUP_MOST], *third;
	struct line_key k = key("2001:db8:1:1200::", 56);

	set(p, "2001:db8:1:1201::", 64, LEVEL_SUSPECT);
	set(p, "2001:db8:1:12ff::", 64, LEVEL_ZOMBIE);
	set(p, "2001:db8:1:1207::", 64, LEVEL_CLEAN);
	set(p, "2001:db8:1:1301::", 64, LEVEL_ZOMBIE);	/* the next /56 */
	set(p, "2001:db8:1:1241::", 64, LEVEL_ZOMBIE);	/* another class */
	assert_int_equal(rollup_lines(&p->conf, p->t, &k, line), 2);
	assert_int_equal(judge(p, "2001:db8:1:1200::", &sum), LEVEL_CLEAN);
	third = set(p, "2001:db8:1:1200::", 64, LEVEL_SUSPECT);
	assert_int_equal(rollup_lines(&p->conf, p->t, &k, line), 3);
	/* no score at all: what is known is that three are suspect */
	assert_int_equal(judge(p, "2001:db8:1:1200::", &sum), LEVEL_SUSPECT);
	/* leases: of one customer, of two, of one again */
	atomic_store(&third->customer, 7);
	assert_int_equal(judge(p, "2001:db8:1:1200::", &sum), LEVEL_SUSPECT);
	assert_int_equal(atomic_load(&sum.customer), 7);
	atomic_store(&set(p, "2001:db8:1:1201::", 64, LEVEL_SUSPECT)->customer,
		8);
	assert_int_equal(judge(p, "2001:db8:1:1200::", &sum), LEVEL_CLEAN);
	atomic_store(&third->customer, 8);
	assert_int_equal(judge(p, "2001:db8:1:1200::", &sum), LEVEL_SUSPECT);
	/* cleared: it is over */
	set(p, "2001:db8:1:12ff::", 64, LEVEL_CLEAN);
	assert_int_equal(judge(p, "2001:db8:1:1200::", &sum), LEVEL_CLEAN);
	/* shorter lines than /64 */
	for (unsigned i = 0; i < 3; i++)
		set(p, (const char *[]){ "2001:db8:3:1200::",
			"2001:db8:3:1250::", "2001:db8:3:12f0::" }[i], 60,
			LEVEL_SUSPECT);
	assert_int_equal(judge(p, "2001:db8:3:1200::", &sum), LEVEL_SUSPECT);
}

static void
levels_for_actions(void **state)
{
	struct place *p = *state;
	struct line_record *parent = set(p, "2001:db8:1:1200::", 56,
		LEVEL_PROBABLE | LEVEL_PINNED);
	static const struct {
		const char *address;
		unsigned len;
		enum level own, want;
	} rows[] = {
		{ "2001:db8:1:1201::", 64, LEVEL_CLEAN, LEVEL_PROBABLE },
		{ "2001:db8:1:1202::", 64, LEVEL_SUSPECT, LEVEL_PROBABLE },
		{ "2001:db8:1:1203::", 64, LEVEL_ZOMBIE, LEVEL_ZOMBIE },
		{ "2001:db8:1:1241::", 64, LEVEL_CLEAN, LEVEL_CLEAN },
		{ "2001:db8:1:1301::", 64, LEVEL_CLEAN, LEVEL_CLEAN },
		{ "198.18.3.7", 64, LEVEL_SUSPECT, LEVEL_SUSPECT },
	};
	struct line_key k = key("2001:db8:1:12aa::", 64);

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct line_key line = key(rows[i].address, rows[i].len);

		set(p, rows[i].address, rows[i].len, rows[i].own);
		assert_int_equal(rollup_level(&p->conf, p->t, &line),
			rows[i].want);
	}
	/* one that was never seen, and one of another customer */
	assert_int_equal(rollup_level(&p->conf, p->t, &k), LEVEL_PROBABLE);
	atomic_store(&parent->customer, 7);
	assert_int_equal(rollup_level(&p->conf, p->t, &k), LEVEL_PROBABLE);
	atomic_store(&set(p, "2001:db8:1:12aa::", 64, 0)->customer, 8);
	assert_int_equal(rollup_level(&p->conf, p->t, &k), LEVEL_CLEAN);
	/* an operator who has changed his mind about the class */
	classes[0].roll_up = false;
	k = key("2001:db8:1:1201::", 64);
	assert_int_equal(rollup_level(&p->conf, p->t, &k), LEVEL_CLEAN);
	classes[0].roll_up = true;
}

/*
 * A bot that hops: what its lines say together is never less than what one line
 * would have said, for any mix of good and bad, and each count is the same.
 */
static void
joining(void **state)
{
	struct place *p = *state;
	uint32_t random = 12345;

	for (unsigned round = 0; round < 200; round++) {
		struct line_record sum, *one, *line[3];
		char text[32];

		memset(&sum, 0, sizeof(sum));
		snprintf(text, sizeof(text), "198.18.%u.1", round);
		one = set(p, text, 64, 0);
		for (unsigned l = 0; l < 3; l++) {
			snprintf(text, sizeof(text), "2001:db8:1:%x::",
				round << 8 | l);
			line[l] = set(p, text, 64, 0);
			for (unsigned n = 0; n < 10; n++) {
				struct addr dst;
				enum level lifted;

				random = random * 1664525 + 1013904223;
				snprintf(text, sizeof(text), "203.0.%u.1",
					random >> 24);
				assert_int_equal(addr_parse(&dst, text), 0);
				for (unsigned w = 0; w < 2; w++) {
					struct line_record *r = w ? one : line[l];

					detect_contact(&p->d, p->t, r, p->now,
						&dst, 1 + n, true, &lifted);
					detect_event(&p->d, p->t, r,
						EVIDENCE_HELO, random >> 9 & 1,
						&dst, p->now, true);
					detect_event(&p->d, p->t, r,
						EVIDENCE_REFUSAL, random >> 10 &
						1, &dst, p->now, true);
				}
				p->now += 7;
			}
		}
		for (unsigned l = 0; l < 3; l++)
			detect_join(&p->d, &sum, line[l], p->now);
		for (unsigned i = 0; i < EVIDENCE_COUNT; i++)
			if (i != EVIDENCE_CONTACT && i != EVIDENCE_REFUSAL)
				assert_true(sum.score[i] >= one->score[i]);
		assert_int_equal(sum.bad[EVIDENCE_HELO],
			one->bad[EVIDENCE_HELO]);
		assert_int_equal(sum.sessions, 30);
		assert_int_equal(sum.attempts, one->attempts);
		assert_int_equal(table_spread(&sum), table_spread(one));
		assert_int_equal(sum.helo, one->helo);
		assert_int_equal(sum.first, one->first);
		assert_int_equal(sum.last, one->last);
		/* rounded at each step of the decay */
		assert_in_range(sum.rate + 64 - one->rate, 0, 128);
	}
}

/* Three times a little of two kinds is a zombie; three printers are not. */
static void
together(void **state)
{
	struct place *p = *state;
	struct line_record sum;
	char text[32];

	for (unsigned l = 0; l < 3; l++) {
		struct line_record *r;

		snprintf(text, sizeof(text), "2001:db8:1:12%02x::", l);
		r = set(p, text, 64, LEVEL_SUSPECT);
		atomic_store(&r->sessions, 8);
		atomic_store(&r->attempts, 8);
		atomic_store(&r->score[EVIDENCE_HELO], 7 * SCORE_ONE);
	}
	assert_int_equal(judge(p, "2001:db8:1:1200::", &sum), LEVEL_SUSPECT);
	for (unsigned l = 0; l < 3; l++) {
		snprintf(text, sizeof(text), "2001:db8:1:12%02x::", l);
		atomic_store(&set(p, text, 64, LEVEL_SUSPECT)->score[
			EVIDENCE_CONTACT], 4 * SCORE_ONE);
	}
	assert_int_equal(judge(p, "2001:db8:1:1200::", &sum), LEVEL_ZOMBIE);
	/* what was only heard is no part of it */
	for (unsigned l = 0; l < 3; l++) {
		snprintf(text, sizeof(text), "2001:db8:1:12%02x::", l);
		atomic_store(&set(p, text, 64, LEVEL_SUSPECT)->score[
			EVIDENCE_CONTACT], -6 * SCORE_ONE);
	}
	assert_int_equal(judge(p, "2001:db8:1:1200::", &sum), LEVEL_SUSPECT);
}

/* Maps of windows that are over are not joined; outcomes keep their ratio. */
static void
of_other_times(void **state)
{
	struct place *p = *state;
	struct line_record sum, *r = set(p, "2001:db8:1:1200::", 64, 1);
	struct addr dst;
	enum level lifted;

	assert_int_equal(addr_parse(&dst, "203.0.113.1"), 0);
	detect_contact(&p->d, p->t, r, p->now, &dst, 1, true, &lifted);
	atomic_store(&r->outcomes, 40 << 8 | 10);
	for (unsigned hours = 0; hours < 3; hours++) {
		memset(&sum, 0, sizeof(sum));
		detect_join(&p->d, &sum, r, p->now + hours * HOUR);
		assert_int_equal(table_ones(&sum), hours == 0);
		assert_int_equal(table_spread(&sum), hours < 2);
	}
	memset(&sum, 0, sizeof(sum));
	for (unsigned i = 0; i < 200; i++) {
		unsigned accepted, all;

		detect_join(&p->d, &sum, r, p->now);
		all = detect_outcomes(&sum, &accepted);
		assert_in_range(accepted * 100 / all, 15, 25);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
		T(parents), T(counting), T(levels_for_actions), T(joining),
		T(together), T(of_other_times),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
