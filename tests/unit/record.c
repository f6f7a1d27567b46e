/*
 * record.c - unit tests of what is counted in a line's record
 *
 * First contact, retransmissions, the two maps and their rules, linear counting
 * and the decayed rate, the last two against the same in double precision.
 */
#include "zombie/table.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { HOUR = 3600 };

static uint64_t seed = 0x5a11;

static uint32_t
rnd(void)
{
	seed = seed * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)(seed >> 33);
}

struct place {
	struct table *t;
	struct line_record *r;
	uint32_t tuple;
};

/* A line of its own for each test. */
static int
setup(void **state)
{
	struct place *p = calloc(1, sizeof(*p));
	struct line_key k = { .family = AF_INET, .len = 32, .ip = { 198, 18 } };

	if (p == NULL)
		return -1;
	*state = p;
	p->t = table_new(100);
	p->r = p->t != NULL ? table_enter(p->t, &k, 1) : NULL;
	return p->r != NULL ? 0 : -1;
}

static int
teardown(void **state)
{
	struct place *p = *state;

	table_free(&p->t);
	free(p);
	return 0;
}

static int
contact(struct place *p, uint32_t now, const char *text, bool is_voice)
{
	struct addr dst;

	assert_int_equal(addr_parse(&dst, text), 0);
	/* every packet is another one */
	return table_contact(p->t, p->r, now, &dst, ++p->tuple * 7919,
		is_voice);
}

/* The n-th of many /24s. */
static int
contact_n(struct place *p, uint32_t now, uint32_t n, bool is_voice)
{
	struct addr dst = { .family = AF_INET, .ip = { (uint8_t)(n >> 16),
		(uint8_t)(n >> 8), (uint8_t)n, 9 } };

	return table_contact(p->t, p->r, now, &dst, ++p->tuple * 7919,
		is_voice);
}

static void
first_contact(void **state)
{
	static const struct {
		const char *dst;
		uint32_t hour;		/* apart: two networks may share a bit */
		int want;
	} rows[] = {
		{ "203.0.113.9", 0, 1 },
		{ "203.0.113.9", 0, 0 },
		{ "203.0.113.77", 0, 0 },		/* same /24 */
		{ "64:ff9b::203.0.113.5", 0, 0 },	/* the same through NAT64 */
		{ "2001:db8:7::1", 3, 1 },
		{ "2001:db8:7:ffff::2", 3, 0 },		/* same /48 */
	};

	for (unsigned voice = 0; voice < 2; voice++) {
		for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
			if (contact(*state, 1 + (voice * 6 + rows[i].hour) *
				    HOUR, rows[i].dst, voice) != rows[i].want)
				fail_msg("%s, row %zu", rows[i].dst, i);
	}
}

/* Any two networks share a bit once in 256; over many it evens out. */
static void
other_networks_are_new(void **state)
{
	unsigned new = 0;

	for (uint32_t i = 0; i < 40; i++) {
		new += contact_n(*state, 1 + i * 2 * HOUR, 1, true) == 1;
		new += contact_n(*state, 1 + i * 2 * HOUR, 2 + i, true) == 1;
	}
	assert_true(new >= 76);
}

static void
retransmissions(void **state)
{
	struct place *p = *state;
	static const struct {
		uint32_t tuple;
		int want;
	} rows[] = {
		{ 5, 0 }, { 5, -1 }, { 5, -1 }, { 6, 0 }, { 5, -1 }, { 6, -1 },
		{ 7, 0 }, { 6, -1 }, { 8, 0 }, { 0x10000, 0 }, { 8, -1 },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (table_attempt(p->r, 1, rows[i].tuple) != rows[i].want)
			fail_msg("row %zu", i);
	assert_int_equal(p->r->attempts, 5);
	assert_int_equal(p->r->retransmissions, 6);
	assert_true(fabs(table_rate(p->r, 1) - 5 * log(2)) < 1e-3);
}

/* A retransmission is no contact: it does not touch the map. */
static void
retransmitted_contact(void **state)
{
	struct place *p = *state;
	struct addr a = { .family = AF_INET, .ip = { 203, 0, 113 } };
	struct addr b = { .family = AF_INET, .ip = { 203, 0, 112 } };

	assert_int_equal(table_contact(p->t, p->r, 1, &a, 5, false), 1);
	assert_int_equal(table_contact(p->t, p->r, 1, &b, 5, false), -1);
	assert_true(table_destinations(p->r) < 1.5);
}

static void
counts(void **state)
{
	struct place *p = *state;
	struct addr a = { .family = AF_INET, .ip = { 203, 0, 113 } };

	table_contact(p->t, p->r, 1, &a, 5, false);	/* heard */
	table_contact(p->t, p->r, 2, &a, 6, false);
	table_contact(p->t, p->r, 3, &a, 7, true);	/* voice, not counted by nfq */
	table_attempt(p->r, 4, 8);			/* nfq, then at accept */
	table_contact(p->t, p->r, 5, &a, 0, true);
	assert_int_equal(p->r->attempts, 4);
	assert_int_equal(p->r->sessions, 2);
	assert_int_equal(table_heard(p->r), 2);
	assert_int_equal(p->r->last, 5);
	assert_int_equal(p->r->first, 1);
	p->r->submission = UINT16_MAX - 1;
	table_count(&p->r->submission);
	table_count(&p->r->submission);
	assert_int_equal(p->r->submission, UINT16_MAX);
	/* an older clock changes nothing */
	table_attempt(p->r, 2, 9);
	assert_int_equal(p->r->last, 5);
}

static void
windows(void **state)
{
	struct place *p = *state;

	assert_int_equal(contact_n(p, 1, 1, true), 1);
	assert_int_equal(contact_n(p, HOUR - 1, 1, true), 0);
	/* next window: seen in the last one, and marked in this one */
	assert_int_equal(contact_n(p, HOUR, 1, true), 0);
	assert_int_equal(contact_n(p, 2 * HOUR, 1, true), 0);
	/* a window was left out: both maps are empty again */
	assert_int_equal(contact_n(p, 4 * HOUR, 1, true), 1);
	assert_true(table_destinations(p->r) < 1.5);
	assert_int_equal(contact_n(p, 6 * HOUR + 5, 1, true), 1);
	assert_int_equal(contact_n(p, 6 * HOUR + 5, 1, true), 0);
	/* the number wraps at 16 bits */
	p->r->window = UINT16_MAX;
	assert_int_equal(contact_n(p, 65536u * HOUR, 1, true), 1);
	assert_int_equal(p->r->window, 0);
}

/* However much a bot sends, it does not look calm. */
static void
full_map(void **state)
{
	struct place *p = *state;
	unsigned new = 0;

	for (uint32_t n = 0; n < 2000; n++)
		contact_n(p, 1, n, true);
	/* over 3/4 full: even what it just talked to */
	for (uint32_t n = 0; n < 100; n++)
		assert_int_equal(contact_n(p, 2, 1999, true), 1);
	/* a full map of the last hour says nothing about this one */
	for (uint32_t n = 5000; n < 5050; n++)
		new += contact_n(p, HOUR, n, true) == 1;
	/* some of the fifty share a bit */
	assert_true(new >= 30);
	assert_int_equal(contact_n(p, HOUR, 5001, true), 0);
}

/* SYNs with a forged source do not make an innocent's destinations look new. */
static void
forged(void **state)
{
	struct place *p = *state;
	unsigned bad = 0;

	for (uint32_t n = 0; n < 20000; n++)
		contact_n(p, 1, n, false);
	for (uint32_t n = 0; n < 200; n++)
		bad += contact_n(p, 1, 30000 + n % 4, true) == 1;
	assert_true(bad <= 4);
	/* as evidence that is only heard it counts */
	assert_int_equal(contact_n(p, 1, 3, false), 1);
}

/* The theory says a standard error of 4.5 to 5.1 %, without bias. */
static void
linear_counting(void **state)
{
	static const unsigned rows[] = { 5, 20, 60, 100, 150, 200 };
	enum { LINES = 4000 };

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct table *t = table_new(2 * LINES);
		double sum = 0, square = 0, n = rows[i], mean, deviation;

		for (uint32_t line = 0; line < LINES; line++) {
			struct line_key k = { .family = AF_INET, .len = 32,
				.ip = { 198, 18, (uint8_t)(line >> 8),
					(uint8_t)line } };
			struct place p = { t, table_enter(t, &k, 1), rnd() };
			double error;

			for (unsigned j = 0; j < rows[i]; j++)
				contact_n(&p, 1, rnd() & 0xffffff, true);
			error = table_destinations(p.r) / n - 1;
			sum += error;
			square += error * error;
		}
		mean = sum / LINES;
		deviation = sqrt(square / LINES);
		print_message("%3u destinations: mean error %+.1f %%, "
			"deviation %.1f %%\n", rows[i], 100 * mean,
			100 * deviation);
		assert_true(fabs(mean) < 0.01);
		assert_true(deviation < 0.054);
		table_free(&t);
	}
}

static void
destinations_bounds(void **state)
{
	struct place *p = *state;

	assert_true(table_destinations(p->r) < 1e-9);
	for (unsigned i = 0; i < 4; i++)
		p->r->map[0][i] = UINT64_MAX;
	assert_true(table_destinations(p->r) > 1419);
	assert_true(table_destinations(p->r) < 1420);
	p->r->map[0][3] = UINT64_MAX >> 1;	/* 255 bits */
	assert_true(table_destinations(p->r) > 1419);
	p->r->map[0][3] = 0;			/* 192 bits */
	assert_true(fabs(table_destinations(p->r) - 256 * log(4)) < 1e-9);
}

/* Of a window by its number: the running one, the one before, no other. */
static void
destinations_by_window(void **state)
{
	static const struct {
		unsigned ten_in, five_in, asked;
		double want;
	} rows[] = {
		{ 7, 8, 8, 5 }, { 7, 8, 7, 10 }, { 7, 8, 6, 0 }, { 7, 8, 9, 0 },
		{ 7, 9, 9, 5 }, { 7, 9, 8, 0 }, { 7, 9, 7, 0 },
		{ 65535, 65536, 65535, 10 }, { 65535, 65536, 65536, 5 },
	};
	struct place *p = *state;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct line_key k = { .family = AF_INET, .len = 32,
			.ip = { 198, 18, 9, (uint8_t)i } };
		struct place q = { p->t, table_enter(p->t, &k, 1), 0 };

		for (unsigned n = 0; n < 15; n++)
			contact_n(&q, (n < 10 ? rows[i].ten_in : rows[i].five_in)
				* HOUR, n, true);
		/* two may share a bit */
		assert_true(fabs(table_destinations_in(q.r,
			(uint16_t)rows[i].asked) - rows[i].want) < 2.5);
	}
}

/* Random gaps from none to days: the counter against exp2(). */
static void
rate_against_double(void **state)
{
	struct place *p = *state;
	uint32_t now = 1;
	double want = 0, worst = 0;

	for (unsigned i = 0; i < 20000; i++) {
		uint32_t gap = i % 7 < 5 ? rnd() % 4 : rnd() % 300;

		if (i % 500 == 0)
			gap = rnd() % (30 * HOUR);
		now += gap;
		want = want * exp2(-(double)gap / HOUR) + 1;
		assert_int_equal(table_attempt(p->r, now, 2 * i + 2), 0);
		if (fabs(table_rate(p->r, now) / (want * log(2)) - 1) > worst)
			worst = fabs(table_rate(p->r, now) /
				(want * log(2)) - 1);
	}
	print_message("worst relative error of the rate %.2e\n", worst);
	assert_true(worst < 0.002);
	assert_true(fabs(table_rate(p->r, now + HOUR) /
		(table_rate(p->r, now) / 2) - 1) < 1e-9);
	/* after a month nothing is left */
	table_attempt(p->r, now + 720 * HOUR, 1);
	assert_true(fabs(table_rate(p->r, now + 720 * HOUR) - log(2)) < 1e-3);
}

/* A steady line: what it sends an hour. */
static void
steady_rate(void **state)
{
	struct place *p = *state;
	uint32_t now = 1;

	for (unsigned i = 0; i < 20 * 300; i++)
		table_attempt(p->r, now += 12, i + 1);
	assert_true(fabs(table_rate(p->r, now) - 300) < 3);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(first_contact), T(other_networks_are_new), T(retransmissions),
		T(retransmitted_contact), T(counts), T(windows), T(full_map),
		T(forged), T(destinations_bounds), T(rate_against_double),
		T(steady_rate), T(destinations_by_window),
		cmocka_unit_test(linear_counting),
	};

	return cmocka_run_group_tests_name("record", tests, NULL, NULL);
}
