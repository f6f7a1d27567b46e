/*
 * adaptive.c - unit tests of proxyd/adaptive.c
 *
 * The set is compared with the plain rule it stands for: marked from now until
 * ADAPTIVE_SECONDS later. Marks may be lost when a bucket is full, never
 * invented; many processes share it.
 */
#include "proxyd/adaptive.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

static struct line_key
line(uint32_t number, uint8_t family)
{
	struct line_key a = { .family = family };

	memcpy(a.ip, &number, sizeof(number));
	return a;
}

static void
marks_end_in_time(void **state)
{
	static const struct {
		const char *name;
		uint32_t marked_at, asked_at;
		bool want;
	} rows[] = {
		{ "at once", 1000, 1000, true },
		{ "last second", 1000, 1000 + ADAPTIVE_SECONDS - 1, true },
		{ "over", 1000, 1000 + ADAPTIVE_SECONDS, false },
		{ "long over", 1000, 1000000, false },
		{ "machine just started", 0, 1, true },
		{ "machine up for years", 4000000000u, 4000000800u, true },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct adaptive *a = adaptive_new();
		struct line_key l = line(7, AF_INET);

		assert_non_null(a);
		assert_false(adaptive_marked(a, &l, rows[i].asked_at));
		adaptive_mark(a, &l, rows[i].marked_at);
		if (adaptive_marked(a, &l, rows[i].asked_at) != rows[i].want)
			fail_msg("%s", rows[i].name);
		adaptive_free(&a);
		assert_null(a);
	}
}

static void
a_new_mark_extends_the_old_one(void **state)
{
	struct adaptive *a = adaptive_new();
	struct line_key l = line(7, AF_INET);

	(void)state;
	adaptive_mark(a, &l, 100);
	adaptive_mark(a, &l, 900);
	assert_true(adaptive_marked(a, &l, 900 + ADAPTIVE_SECONDS - 1));
	assert_false(adaptive_marked(a, &l, 900 + ADAPTIVE_SECONDS));
	adaptive_free(&a);
}

static void
kinds_are_apart(void **state)
{
	struct adaptive *a = adaptive_new();
	struct line_key four = line(7, AF_INET), six = line(7, AF_INET6);
	struct line_key block = four;

	(void)state;
	adaptive_mark(a, &four, 1);
	assert_true(adaptive_marked(a, &four, 2));
	assert_false(adaptive_marked(a, &six, 2));
	block.block = 1;
	assert_false(adaptive_marked(a, &block, 2));
	adaptive_free(&a);
}

/* 20,000 lines in 131,072 places: next to nothing is displaced. */
static void
remembers_many(void **state)
{
	struct adaptive *a = adaptive_new();
	int kept = 0, invented = 0;

	(void)state;
	for (uint32_t i = 0; i < 20000; i++) {
		struct line_key l = line(i * 2, AF_INET);

		adaptive_mark(a, &l, 1);
	}
	for (uint32_t i = 0; i < 20000; i++) {
		struct line_key marked = line(i * 2, AF_INET);
		struct line_key other = line(i * 2 + 1, AF_INET);

		kept += adaptive_marked(a, &marked, 2);
		invented += adaptive_marked(a, &other, 2);
	}
	assert_int_equal(invented, 0);
	assert_in_range(kept, 19990, 20000);
	adaptive_free(&a);
}

/* However many lines: the last one marked is there, its bucket's oldest went. */
static void
newest_wins_when_full(void **state)
{
	struct adaptive *a = adaptive_new();

	(void)state;
	for (uint32_t i = 0; i < 400000; i++) {
		struct line_key l = line(i, AF_INET6);

		adaptive_mark(a, &l, 1 + i / 1000);
		assert_true(adaptive_marked(a, &l, 1 + i / 1000));
	}
	adaptive_free(&a);
}

static void
processes_share_it(void **state)
{
	struct adaptive *a = adaptive_new();
	struct line_key l = line(7, AF_INET);
	int status;
	pid_t pid = fork();

	(void)state;
	if (pid == 0) {
		adaptive_mark(a, &l, 1);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_true(adaptive_marked(a, &l, 2));
	adaptive_free(&a);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(marks_end_in_time),
		cmocka_unit_test(a_new_mark_extends_the_old_one),
		cmocka_unit_test(kinds_are_apart),
		cmocka_unit_test(remembers_many),
		cmocka_unit_test(newest_wins_when_full),
		cmocka_unit_test(processes_share_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
