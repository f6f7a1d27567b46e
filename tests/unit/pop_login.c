/*
 * pop_login.c - unit tests of proxyd/pop_login.c
 *
 * Logins through the real POP3 machine, whole and an octet at a time: whose name
 * is remembered, and that it is never somebody else's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/drive.h"

#define N(a) (sizeof(a) / sizeof((a)[0]))

static struct server_conf server = { .name = (char[]){ "pop.isp.example" },
	.pop3 = { TLS_IMPLICIT, 995 } };

static char heard[POP_USER_MAX + 1];

static void
accepted(void *arg, const char *user)
{
	assert_ptr_equal(arg, heard);
	assert_string_equal(heard, "");
	snprintf(heard, sizeof(heard), "%s", user);
}

#define OPEN "! dial tls:995", "U", "S +OK hello", "c +OK hello"
#define C(line) "C " line, "s " line
#define S(line) "S " line, "c " line
#define OK S("+OK")
#define NO S("-ERR no")
#define X31 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"

static const struct row {
	const char *want;	/* "": nobody */
	const char *script[40];
} rows[] = {
	{ "kenji@isp.example", { OPEN, C("USER kenji@isp.example"), OK,
		C("PASS secret"), OK, NULL } },
	{ "a", { OPEN, C("user a"), OK, C("pass x"), NO, C("USER a"), OK,
		C("PASS y"), OK, NULL } },
	{ "a", { OPEN, C("APOP a c4c9334bac560ecc979e58001b3e22fb"), OK,
		NULL } },
	/* NUL a NUL b; a NUL a NUL b */
	{ "a", { OPEN, C("AUTH PLAIN AGEAYg=="), OK, NULL } },
	{ "a", { OPEN, C("AUTH PLAIN YQBhAGI="), OK, NULL } },
	{ "a", { OPEN, C("AUTH plain"), S("+ "), C("AGEAYg=="), OK, NULL } },
	/* refused, or not a login at all */
	{ "", { OPEN, C("USER a"), OK, C("PASS x"), NO, NULL } },
	{ "", { OPEN, C("USER a"), OK, C("NOOP"), OK, NULL } },
	{ "", { OPEN, C("PASS x"), OK, NULL } },
	/* a name is worth no more than its own command: a logs in, and has
	 * said b's name at every place where one can be said */
	{ "", { OPEN, C("USER a"), OK, C("AUTH PLAIN AGIAYg=="), NO,
		C("PASS a"), OK, NULL } },
	{ "", { OPEN, C("USER a"), OK, C("USER b"), NO, C("PASS a"), OK,
		NULL } },
	{ "", { OPEN, C("USER a"), OK, C("APOP b 0"), NO, C("PASS a"), OK,
		NULL } },
	{ "", { OPEN, C("USER b"), OK, C("AUTH LOGIN"), S("+ VXNlcm5hbWU6"),
		C("YQ=="), S("+ UGFzc3dvcmQ6"), C("YQ=="), OK, NULL } },
	{ "", { OPEN, C("USER b"), OK, C("AUTH PLAIN"), S("+ "), C("*"), NO,
		C("PASS a"), OK, NULL } },
	{ "", { OPEN, C("AUTH PLAIN"), S("+ "), C("AGIAYg=="), S("+ again"),
		C("AGEAYQ=="), OK, NULL } },
	{ "", { OPEN, C("AUTH CRAM-MD5"), S("+ PDE+"), C("YSAw"), OK,
		NULL } },
	/* b for a, with a's password */
	{ "", { OPEN, C("AUTH PLAIN YgBhAGE="), OK, NULL } },
	/* names that are none, and that servers may read in other ways */
	{ "", { OPEN, C("USER a b"), OK, C("PASS x"), OK, NULL } },
	{ "", { OPEN, C("USER  a"), OK, C("PASS x"), OK, NULL } },
	{ "", { OPEN, C("USER a "), OK, C("PASS x"), OK, NULL } },
	{ "", { OPEN, C("USER a\tb"), OK, C("PASS x"), OK, NULL } },
	{ "", { OPEN, C("USER caf\xc3\xa9"), OK, C("PASS x"), OK, NULL } },
	{ "", { OPEN, C("USER"), OK, C("PASS x"), OK, NULL } },
	{ "", { OPEN, C("APOP a"), OK, NULL } },
	{ "", { OPEN, C("APOP a 0 1"), OK, NULL } },
	{ "", { OPEN, C("AUTH PLAIN =AGEAYg="), OK, NULL } },
	{ "", { OPEN, C("AUTH PLAIN AGEAYg==AGIAYg=="), OK, NULL } },
	{ "", { OPEN, C("AUTH PLAIN AGEAYg"), OK, NULL } },
	{ "", { OPEN, C("AUTH PLAIN YQ=="), OK, NULL } },
	{ "", { OPEN, C("AUTH PLAIN AGE="), OK, NULL } },
	{ "", { OPEN, C("AUTH PLAIN AABi"), OK, NULL } },
	{ "", { OPEN, C("AUTH PLAIN AGEAYg== x"), OK, NULL } },
	{ X31 X31 "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyy", { OPEN, C("USER " X31 X31
		"yyyyyyyyyyyyyyyyyyyyyyyyyyyyyy"), OK, C("PASS x"), OK,
		NULL } },
	{ "", { OPEN, C("USER " X31 X31 X31), OK, C("PASS x"), OK, NULL } },
};

static void
names(void **state)
{
	(void)state;
	for (size_t i = 0; i < 2 * N(rows); i++) {
		const struct row *row = &rows[i / 2];
		struct pop_login login = { .accepted = accepted,
			.arg = heard };
		struct context x = { .gateway = "gw1", .server = &server,
			.pop_login = &login };
		struct drive d;

		heard[0] = '\0';
		drive_open(&d);
		pop3_init(&d.m, &x);
		if (drive_play(&d, row->script, i % 2) == -1)
			fail_msg("row %zu", i / 2);
		if (strcmp(heard, row->want) != 0)
			fail_msg("row %zu: \"%s\", not \"%s\"", i / 2, heard,
				row->want);
		drive_close(&d);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names),
	};

	return cmocka_run_group_tests_name("pop_login", tests, NULL, NULL);
}
