/*
 * lines.c - unit tests of proxyd/lines.c
 *
 * The count of many lines against plain numbers, over pseudo-random coming and
 * going; a line is a key of line.h. Several processes count the
 * same line, and one is killed at it.
 */
#include "proxyd/lines.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <cmocka.h>

/* An address's line. */
static struct line_key
line(const char *text)
{
	struct line_key key;
	struct addr a;

	assert_int_equal(addr_parse(&a, text), 0);
	line_key_of(&a, 56, 0, &key);
	return key;
}

static void
counts(void **state)
{
	enum { LINES = 20000, STEPS = 200000 };
	static unsigned held[LINES];
	struct lines *l = lines_new();
	uint32_t seed = 25;

	(void)state;
	assert_non_null(l);
	lines_own(l, 1);
	for (int i = 0; i < STEPS; i++) {
		struct line_key a = { .family = AF_INET, .len = 32 };
		unsigned which;

		seed = seed * 1664525u + 1013904223u;
		which = (seed >> 8) % LINES;
		a.ip[0] = 198;
		a.ip[1] = 18;
		a.ip[2] = (uint8_t)(which >> 8);
		a.ip[3] = (uint8_t)which;
		if ((seed & 0x80000000u) && held[which] > 0) {
			lines_leave(l, &a);
			held[which]--;
		} else {
			assert_int_equal(lines_enter(l, &a), ++held[which]);
		}
	}
	lines_free(&l);
	assert_null(l);
	lines_free(&l);
}

static void
families(void **state)
{
	struct lines *l = lines_new();
	struct line_key four, six;

	(void)state;
	assert_non_null(l);
	lines_own(l, 255);
	four = line("198.18.3.7");
	six = four;
	six.family = AF_INET6;
	assert_int_equal(lines_enter(l, &four), 1);
	assert_int_equal(lines_enter(l, &four), 2);
	assert_int_equal(lines_enter(l, &six), 1);
	lines_leave(l, &six);
	lines_leave(l, &six);	/* one that is not there changes nothing */
	assert_int_equal(lines_enter(l, &six), 1);
	assert_int_equal(lines_enter(l, &four), 3);
	lines_free(&l);
}

/* Owners count apart and are summed; a dead one's go, the others' stay. */
static void
owners(void **state)
{
	struct lines *l = lines_new();
	struct line_key a, b;

	(void)state;
	assert_non_null(l);
	a = line("198.18.3.7");
	b = line("2001:db8:1::");
	assert_int_equal(lines_enter(l, &a), 0);	/* nobody's */
	lines_own(l, 1);
	assert_int_equal(lines_enter(l, &a), 1);
	assert_int_equal(lines_enter(l, &b), 1);
	lines_own(l, 2);
	assert_int_equal(lines_enter(l, &a), 2);
	assert_int_equal(lines_enter(l, &a), 3);
	lines_leave(l, &b);		/* not its own */
	assert_int_equal(lines_enter(l, &b), 2);
	lines_release(l, 0);
	lines_release(l, 2);
	assert_int_equal(lines_enter(l, &a), 2);
	assert_int_equal(lines_enter(l, &b), 2);
	lines_free(&l);
}

/* What a relay does until it is killed. */
static void __attribute__((noreturn))
come_and_go(struct lines *l, const struct line_key *a)
{
	lines_own(l, 2);
	for (;;) {
		(void)lines_enter(l, a);
		(void)lines_enter(l, a);
		lines_leave(l, a);
		lines_leave(l, a);
	}
}

/* A relay killed at any instruction leaves nothing that release leaves. */
static void
killed(void **state)
{
	struct lines *l = lines_new();
	struct line_key a;

	(void)state;
	assert_non_null(l);
	a = line("198.18.3.7");
	lines_own(l, 1);
	for (unsigned round = 1; round <= 50; round++) {
		pid_t pid;
		int status;

		assert_int_equal(lines_enter(l, &a), round);
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0)
			come_and_go(l, &a);
		/* until it is at work: ours goes and comes back meanwhile */
		do
			lines_leave(l, &a);
		while (lines_enter(l, &a) == round);
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		lines_release(l, 2);
	}
	assert_int_equal(lines_enter(l, &a), 51);
	lines_free(&l);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(counts),
		cmocka_unit_test(families),
		cmocka_unit_test(owners),
		cmocka_unit_test(killed),
	};

	return cmocka_run_group_tests_name("lines", tests, NULL, NULL);
}
