/*
 * logins.c - unit tests of proxyd/logins.c
 *
 * Who is found and until when, full buckets, and writers in many processes, of
 * which some are killed: a name is never made of two.
 */
#include "proxyd/logins.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#define SERVER "mail.isp.example"

static struct line_key
line(unsigned n)
{
	struct line_key key = { .family = AF_INET, .len = 32 };

	memcpy(key.ip, &n, sizeof(n));
	return key;
}

static const char *
found(const struct logins *t, const struct line_key *l, const char *server,
	uint32_t now)
{
	static char user[POP_USER_MAX + 1];

	return logins_find(t, l, 0, server, now, user) ? user : NULL;
}

static void
until_then(void **state)
{
	const struct line_key one = line(1), two = line(2);
	struct logins *t = logins_new();
	char longest[POP_USER_MAX + 1];

	(void)state;
	assert_non_null(t);
	assert_null(found(t, &one, SERVER, 0));
	logins_note(t, &one, 0, SERVER, "kenji@isp.example", 1000);
	assert_string_equal(found(t, &one, SERVER, 999), "kenji@isp.example");
	assert_null(found(t, &one, SERVER, 1000));
	assert_null(found(t, &two, SERVER, 10));
	assert_null(found(t, &one, "pop.isp.example", 10));
	/* the next login is the one that counts, at each server by itself */
	logins_note(t, &one, 0, "pop.isp.example", "third", 1000);
	logins_note(t, &one, 0, SERVER, "yuki", 500);
	assert_string_equal(found(t, &one, SERVER, 10), "yuki");
	assert_null(found(t, &one, SERVER, 500));
	assert_string_equal(found(t, &one, "pop.isp.example", 10), "third");
	/* the line has another customer now, and has the first one again */
	assert_false(logins_find(t, &one, 7, SERVER, 10, longest));
	assert_true(logins_find(t, &one, 0, SERVER, 10, longest));
	memset(longest, 'x', POP_USER_MAX);
	longest[POP_USER_MAX] = '\0';
	logins_note(t, &two, 0, SERVER, longest, 1000);
	assert_string_equal(found(t, &two, SERVER, 10), longest);
	logins_free(&t);
	assert_null(t);
	logins_free(&t);
}

/* Whoever comes last is there; the others are themselves or forgotten. */
static void
full(void **state)
{
	enum { LINES = 200000 };
	struct logins *t = logins_new();
	unsigned n = 0;
	char name[16];

	(void)state;
	assert_non_null(t);
	for (unsigned i = 0; i < LINES; i++) {
		const struct line_key l = line(i);

		snprintf(name, sizeof(name), "u%u", i);
		logins_note(t, &l, 0, SERVER, name, 1000 + i);
		assert_string_equal(found(t, &l, SERVER, 10), name);
	}
	for (unsigned i = 0; i < LINES; i++) {
		const struct line_key l = line(i);
		const char *user = found(t, &l, SERVER, 10);

		snprintf(name, sizeof(name), "u%u", i);
		if (user != NULL)
			assert_string_equal(user, name);
		n += user != NULL;
	}
	assert_int_equal(n, 32768);
	logins_free(&t);
}

static void __attribute__((noreturn))
write_for_ever(struct logins *t, char letter)
{
	const struct line_key l = line(7);
	char user[POP_USER_MAX + 1];

	memset(user, letter, POP_USER_MAX);
	user[POP_USER_MAX] = '\0';
	for (;;)
		logins_note(t, &l, 0, SERVER, user, 1000);
}

static void
killed_writers(void **state)
{
	const struct line_key l = line(7);
	struct logins *t = logins_new();
	unsigned whole = 0;

	(void)state;
	assert_non_null(t);
	for (int round = 0; round < 40; round++) {
		pid_t pid[2];

		for (int i = 0; i < 2; i++) {
			pid[i] = fork();
			assert_true(pid[i] >= 0);
			if (pid[i] == 0)
				write_for_ever(t, (char)('a' + i));
		}
		for (unsigned n = 0; n < 20000; n++) {
			const char *user = found(t, &l, SERVER, 10);

			if (user == NULL)
				continue;
			whole++;
			assert_int_equal(strlen(user), POP_USER_MAX);
			assert_int_equal(strspn(user, user[0] == 'a' ? "a" :
				"b"), POP_USER_MAX);
		}
		for (int i = 0; i < 2; i++) {
			kill(pid[i], SIGKILL);
			assert_int_equal(waitpid(pid[i], NULL, 0), pid[i]);
		}
	}
	assert_true(whole > 0);
	/* whatever they left, the next one is heard */
	logins_note(t, &l, 0, SERVER, "kenji", 1000);
	assert_string_equal(found(t, &l, SERVER, 10), "kenji");
	logins_free(&t);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(until_then),
		cmocka_unit_test(full),
		cmocka_unit_test(killed_writers),
	};

	return cmocka_run_group_tests_name("logins", tests, NULL, NULL);
}
