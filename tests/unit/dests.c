/*
 * dests.c - unit tests of nfq/dests.c against exact counts
 *
 * A destination that is dialled often must be found, with the truth inside the
 * bounds that are shown, whatever else is dialled meanwhile.
 */
#include "nfq/dests.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

static struct addr
v4(uint32_t n)
{
	struct addr a = { .family = AF_INET };

	a.ip[0] = 203;
	a.ip[1] = (uint8_t)(n >> 16);
	a.ip[2] = (uint8_t)(n >> 8);
	a.ip[3] = (uint8_t)n;
	return a;
}

static uint32_t
next(uint32_t *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return *seed >> 8;
}

static const struct dest *
find(const struct dest *list, size_t n, const struct addr *a)
{
	for (size_t i = 0; i < n; i++)
		if (addr_same_host(&list[i].addr, a))
			return &list[i];
	return NULL;
}

static void
few_are_exact(void **state)
{
	struct dests *d = dests_new();
	struct dest list[DESTS_EACH];
	const char *const text[] = { "203.0.113.25", "2001:db8::25",
		"64:ff9b::203.0.113.26" };
	struct addr a[3], plain;
	uint64_t all;
	int place;

	(void)state;
	assert_non_null(d);
	place = dests_place(d, "dynamic");
	assert_true(place >= 0);
	assert_int_equal(dests_place(d, "dynamic"), place);
	assert_int_not_equal(dests_place(d, "fixed"), place);
	assert_int_equal(addr_parse(&plain, "203.0.113.26"), 0);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(addr_parse(&a[i], text[i]), 0);
		for (unsigned n = 0; n < 10 * (i + 1); n++)
			dests_count(d, place, &a[i], n % 5 * 7919);
	}
	assert_int_equal(dests_list(d, "dynamic", list, &all), 3);
	assert_int_equal(all, 60);
	/* NAT64 stands for the IPv4 address in it */
	assert_true(addr_same_host(&list[0].addr, &plain));
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(list[i].attempts, 30 - 10 * i);
		assert_int_equal(list[i].error, 0);
		assert_true(list[i].lines > 4.5 && list[i].lines < 5.5);
	}
	assert_int_equal(dests_list(d, "fixed", list, &all), 0);
	assert_int_equal(dests_list(d, "never seen", list, &all), 0);
	assert_int_equal(all, 0);
}

/* 20 true destinations below a flood of 200,000 that come once each. */
static void
flood_does_not_hide(void **state)
{
	struct dests *d = dests_new();
	struct dest list[DESTS_EACH];
	uint64_t truth[20] = { 0 }, all, sum = 0;
	uint32_t seed = 1;
	int place = dests_place(d, "dynamic");
	size_t n;

	(void)state;
	for (uint32_t i = 0; i < 400000; i++) {
		struct addr a = v4(i + 1000);
		uint32_t which = next(&seed) % 40;

		if (which < 20) {
			a = v4(which);
			truth[which]++;
		}
		dests_count(d, place, &a, next(&seed));
	}
	n = dests_list(d, "dynamic", list, &all);
	assert_int_equal(all, 400000);
	assert_int_equal(n, DESTS_EACH);
	for (uint32_t i = 0; i < 20; i++) {
		const struct addr a = v4(i);
		const struct dest *found = find(list, n, &a);

		assert_non_null(found);
		assert_true(found->attempts >= truth[i]);
		assert_true(found->attempts - found->error <= truth[i]);
		/* thousands of lines: the map is full and says its end */
		assert_true(found->lines > 600);
	}
	for (size_t i = 0; i < n; i++) {
		assert_true(i == 0 || list[i - 1].attempts >= list[i].attempts);
		sum += list[i].attempts;
	}
	/* Space-Saving: the counts of a full summary are all that was counted */
	assert_int_equal(sum, all);
}

static void
places_end(void **state)
{
	struct dests *d = dests_new();
	char name[] = "class-00";

	(void)state;
	for (int i = 0; i < DESTS_CLASSES; i++) {
		name[6] = (char)('0' + i / 10);
		name[7] = (char)('0' + i % 10);
		assert_true(dests_place(d, name) >= 0);
	}
	assert_int_equal(dests_place(d, "one more"), -1);
	assert_true(dests_place(d, name) >= 0);
}

static void __attribute__((noreturn))
write_for_ever(struct dests *d, int place)
{
	for (uint32_t i = 0;; i++) {
		const struct addr a = v4(i);

		dests_count(d, place, &a, i);
	}
}

/* Killed in the middle of anything, the writer leaves what can be read. */
static void
writer_is_killed(void **state)
{
	struct dests *d = dests_new();
	struct dest list[DESTS_EACH];
	int place = dests_place(d, "dynamic");
	uint64_t all;

	(void)state;
	for (int round = 0; round < 50; round++) {
		pid_t pid = fork();
		uint64_t before;

		assert_true(pid >= 0);
		if (pid == 0)
			write_for_ever(d, place);
		(void)dests_list(d, "dynamic", list, &before);
		do {
			size_t n = dests_list(d, "dynamic", list, &all);

			for (size_t i = 0; i < n; i++) {
				assert_int_equal(list[i].addr.family, AF_INET);
				assert_int_equal(list[i].addr.ip[0], 203);
			}
		} while (all < before + 1000);
		assert_int_equal(kill(pid, 9), 0);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
	}
	/* at most the one entry in hand is lost each time */
	assert_true(dests_list(d, "dynamic", list, &all) >= DESTS_EACH - 50);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(few_are_exact),
		cmocka_unit_test(flood_does_not_hide),
		cmocka_unit_test(places_end),
		cmocka_unit_test(writer_is_killed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
