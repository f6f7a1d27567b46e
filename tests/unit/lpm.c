/*
 * lpm.c - unit tests of conf/lpm.c against a naive oracle
 *
 * The oracle walks the whole list and keeps the longest prefix that contains
 * the address. Addresses are drawn near the prefixes (half of them inside one)
 * so that matches at every depth are tried, in both families.
 */
#include "conf/lpm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

enum { PREFIXES = 600, LOOKUPS = 100000, MANY = 500000 };

static uint64_t seed = 0x5a11;

static uint32_t
rnd(void)
{
	seed = seed * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)(seed >> 33);
}

/* Few distinct high bytes, so that prefixes nest. */
static void
random_addr(struct addr *a, uint8_t family)
{
	memset(a, 0, sizeof(*a));
	a->family = family;
	for (unsigned i = 0; i < (family == AF_INET ? 4 : 16); i++)
		a->ip[i] = (uint8_t)(i < 2 ? rnd() % 3 : rnd());
}

static int32_t
oracle(const struct prefix *list, size_t n, const struct addr *a)
{
	int32_t best = -1;

	for (size_t i = 0; i < n; i++)
		if (prefix_contains(&list[i], a) &&
			(best < 0 || list[i].len > list[best].len))
			best = (int32_t)i;
	return best;
}

/* n different random prefixes, added to l with their index as value. */
static size_t
fill(struct lpm *l, struct prefix *list, size_t n, uint8_t family)
{
	size_t have = 0;

	for (size_t tries = 0; tries < n; tries++) {
		struct addr a;
		int32_t old;

		random_addr(&a, family);
		prefix_of_addr(&list[have], &a,
			rnd() % (family == AF_INET ? 33 : 129));
		if (lpm_add(l, &list[have], (int32_t)have, &old) == 0) {
			have++;
			continue;
		}
		assert_true(prefix_equal(&list[have], &list[old]));
	}
	return have;
}

static void
against_oracle(uint8_t family)
{
	static struct prefix list[PREFIXES];
	struct lpm *l = lpm_new();
	size_t n = fill(l, list, PREFIXES, family), hits = 0;

	assert_int_equal(lpm_count(l), n);
	for (size_t i = 0; i < LOOKUPS; i++) {
		struct prefix matched;
		struct addr a;
		int32_t want, got;

		random_addr(&a, family);
		if (i % 2 == 0) {
			const struct prefix *p = &list[rnd() % n];

			for (unsigned b = 0; b < p->len; b++) {
				uint8_t bit = (uint8_t)(0x80 >> b % 8);

				a.ip[b / 8] = (uint8_t)((a.ip[b / 8] & ~bit) |
					(p->ip[b / 8] & bit));
			}
		}
		want = oracle(list, n, &a);
		got = lpm_find(l, &a, &matched);
		assert_int_equal(got, want);
		if (got < 0)
			continue;
		hits++;
		assert_true(prefix_equal(&matched, &list[got]));
	}
	assert_true(hits > LOOKUPS / 2 - 1);
	lpm_free(&l);
	assert_null(l);
}

static void
oracle4(void **state)
{
	(void)state;
	against_oracle(AF_INET);
}

static void
oracle6(void **state)
{
	(void)state;
	against_oracle(AF_INET6);
}

static void
families_apart(void **state)
{
	struct lpm *l = lpm_new();
	struct prefix p;
	struct addr a;
	const char *why;

	(void)state;
	prefix_parse(&p, "0.0.0.0/0", &why);
	assert_int_equal(lpm_add(l, &p, 4, NULL), 0);
	addr_parse(&a, "2001:db8::1");
	assert_int_equal(lpm_find(l, &a, NULL), -1);
	prefix_parse(&p, "::/0", &why);
	assert_int_equal(lpm_add(l, &p, 6, NULL), 0);
	assert_int_equal(lpm_add(l, &p, 7, NULL), 1);
	assert_int_equal(lpm_find(l, &a, NULL), 6);
	addr_parse(&a, "203.0.113.1");
	assert_int_equal(lpm_find(l, &a, NULL), 4);
	assert_int_equal(lpm_count(l), 2);
	lpm_free(&l);
}

/* The way from the longest match to the shortest. */
static void
within(void **state)
{
	static const char *const texts[] = { "198.18.0.0/16", "198.18.3.0/24",
		"198.18.3.7/32" };
	struct lpm *l = lpm_new();
	struct prefix p;
	struct addr a;
	const char *why;

	(void)state;
	for (int32_t i = 0; i < 3; i++) {
		prefix_parse(&p, texts[i], &why);
		assert_int_equal(lpm_add(l, &p, i, NULL), 0);
	}
	addr_parse(&a, "198.18.3.7");
	assert_int_equal(lpm_find_within(l, &a, 32, &p), 2);
	assert_int_equal(lpm_find_within(l, &a, p.len - 1u, &p), 1);
	assert_int_equal(lpm_find_within(l, &a, p.len - 1u, &p), 0);
	assert_int_equal(lpm_find_within(l, &a, p.len - 1u, &p), -1);
	lpm_free(&l);
}

/* The size an access provider brings; the bound is ten times what it takes. */
static void
half_a_million(void **state)
{
	struct lpm *l = lpm_new();
	struct timespec t0, t1;
	struct prefix p;
	struct addr a = { .family = AF_INET };

	(void)state;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t0);
	for (uint32_t i = 0; i < MANY; i++) {
		a.ip[0] = 10;
		a.ip[1] = (uint8_t)(i >> 16);
		a.ip[2] = (uint8_t)(i >> 8);
		a.ip[3] = (uint8_t)i;
		prefix_of_addr(&p, &a, 32);
		assert_int_equal(lpm_add(l, &p, (int32_t)i, NULL), 0);
	}
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t1);
	assert_int_equal(lpm_count(l), MANY);
	assert_int_equal(lpm_find(l, &a, NULL), MANY - 1);
	a.ip[1] = 0xff;
	assert_int_equal(lpm_find(l, &a, NULL), -1);
	lpm_free(&l);
	print_message("%u prefixes in %.0f ms\n", MANY,
		(double)(t1.tv_sec - t0.tv_sec) * 1e3 +
		(double)(t1.tv_nsec - t0.tv_nsec) / 1e6);
#ifndef SANITIZED
	assert_true(t1.tv_sec - t0.tv_sec <= 1);
#endif
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(oracle4),
		cmocka_unit_test(oracle6),
		cmocka_unit_test(families_apart),
		cmocka_unit_test(within),
		cmocka_unit_test(half_a_million),
	};

	return cmocka_run_group_tests_name("lpm", tests, NULL, NULL);
}
