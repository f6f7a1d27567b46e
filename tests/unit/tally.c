/*
 * tally.c - unit tests of proxyd/tally.c
 *
 * Counts by line and kind, windows of time, many processes at once, and one
 * that is killed among them.
 */
#include "proxyd/tally.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

/* The beginning of a window of every kind. */
#define NOW (100u * TALLY_HOUR)

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
	const struct line_key four = line("198.18.3.7"), six = line("2001:db8:1::");
	struct tally *t = tally_new();

	(void)state;
	assert_non_null(t);
	assert_int_equal(tally_add(t, &four, TALLY_RCPTS, NOW, 0), 0);
	assert_int_equal(tally_add(t, &four, TALLY_RCPTS, NOW, 3), 3);
	assert_int_equal(tally_add(t, &four, TALLY_RCPTS, NOW + 3599, 1), 4);
	assert_int_equal(tally_add(t, &four, TALLY_MESSAGES, NOW, 1), 1);
	assert_int_equal(tally_add(t, &six, TALLY_RCPTS, NOW, 0), 0);
	/* another window begins at nothing */
	assert_int_equal(tally_add(t, &four, TALLY_RCPTS, NOW + 3600, 0), 0);
	assert_int_equal(tally_add(t, &four, TALLY_RCPTS, NOW + 3600, 1), 1);
	assert_int_equal(tally_add(t, &four, TALLY_GUESSES, NOW, 2), 2);
	assert_int_equal(tally_add(t, &four, TALLY_GUESSES, NOW + 899, 1), 3);
	assert_int_equal(tally_add(t, &four, TALLY_GUESSES, NOW + 900, 1), 1);
	/* and it stops at its end */
	assert_int_equal(tally_add(t, &four, TALLY_MESSAGES, NOW, 2000000),
		0xfffff);
	assert_int_equal(tally_add(t, &four, TALLY_MESSAGES, NOW, 9), 0xfffff);
	tally_free(&t);
	assert_null(t);
	tally_free(&t);
}

/* A flood of other lines: who has used most is not the one forgotten. */
static void
flood(void **state)
{
	const struct line_key mine = line("198.18.3.7");
	struct tally *t = tally_new();

	(void)state;
	assert_non_null(t);
	(void)tally_add(t, &mine, TALLY_RCPTS, NOW, 1000);
	for (uint32_t i = 0; i < 1000000; i++) {
		struct line_key a = { .family = AF_INET6, .len = 64 };

		memcpy(a.ip, &i, sizeof(i));
		(void)tally_add(t, &a, TALLY_RCPTS, NOW, 1);
	}
	assert_int_equal(tally_add(t, &mine, TALLY_RCPTS, NOW, 0), 1000);
	tally_free(&t);
}

/* Counts of another kind, until it is killed. */
static void __attribute__((noreturn))
guess_for_ever(struct tally *t, const struct line_key *a)
{
	for (;;)
		(void)tally_add(t, a, TALLY_GUESSES, NOW, 1);
}

/* Nothing is lost between processes, nor left behind by a killed one. */
static void
processes(void **state)
{
	enum { CHILDREN = 4, TIMES = 50000 };
	const struct line_key a = line("198.18.3.7");
	struct tally *t = tally_new();
	pid_t pid[CHILDREN + 1];
	int status;

	(void)state;
	assert_non_null(t);
	for (int i = 0; i < CHILDREN + 1; i++) {
		pid[i] = fork();
		assert_true(pid[i] >= 0);
		if (pid[i] != 0)
			continue;
		for (int n = 0; n < TIMES; n++)
			(void)tally_add(t, &a, TALLY_RCPTS, NOW, 1);
		if (i == CHILDREN)
			guess_for_ever(t, &a);
		_exit(0);
	}
	for (int i = 0; i < CHILDREN; i++) {
		assert_int_equal(waitpid(pid[i], &status, 0), pid[i]);
		assert_int_equal(status, 0);
	}
	while (tally_add(t, &a, TALLY_GUESSES, NOW, 0) == 0)
		;
	kill(pid[CHILDREN], SIGKILL);
	assert_int_equal(waitpid(pid[CHILDREN], &status, 0), pid[CHILDREN]);
	assert_int_equal(tally_add(t, &a, TALLY_RCPTS, NOW, 0),
		(CHILDREN + 1) * TIMES);
	assert_int_equal(tally_add(t, &a, TALLY_RCPTS, NOW, 1),
		(CHILDREN + 1) * TIMES + 1);
	tally_free(&t);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(counts),
		cmocka_unit_test(flood),
		cmocka_unit_test(processes),
	};

	return cmocka_run_group_tests_name("tally", tests, NULL, NULL);
}
