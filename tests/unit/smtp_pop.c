/*
 * smtp_pop.c - unit tests of proxyd/smtp_pop.c
 *
 * Scripts as in smtp_submit.c of clients whose line has logged in by POP3, or
 * has not, or has not any more.
 */
#include "tests/submit.h"

static const char *whose;	/* NULL: nobody's login counts */

static bool
find(void *arg, char user[POP_USER_MAX + 1])
{
	(void)arg;
	if (whose != NULL)
		snprintf(user, POP_USER_MAX + 1, "%s", whose);
	return whose != NULL;
}

static void
play_for(const char *user, const struct dialogue *rows, size_t n)
{
	for (size_t i = 0; i < 2 * n; i++) {
		struct pop_use use = { .find = find };
		struct context x;
		struct drive d;

		whose = user;
		start(&d, &x, rows[i / 2].server);
		x.pop = &use;
		if (drive_play(&d, rows[i / 2].script, i % 2) == -1)
			fail_msg("%s, in pieces of %zu", rows[i / 2].name,
				i % 2);
		drive_close(&d);
	}
}

#define IDENTIFIED "s XCLIENT ADDR=198.18.3.7 PORT=4711 NAME=[UNAVAILABLE]"
#define LIST_OF(attributes) DIALLED, "S 220 x", "s EHLO pc", \
	"S 250-x\n250-XCLIENT " attributes "\n250 AUTH PLAIN"
#define SHOWN_LIST "c 250-mail.isp.example\n250 AUTH PLAIN"
#define TOLD LIST_OF("NAME ADDR PORT LOGIN"), IDENTIFIED, "S 220 x", \
	"s EHLO pc", "S 250-x\n250-XCLIENT NAME ADDR PORT LOGIN\n" \
	"250 AUTH PLAIN", SHOWN_LIST
#define VOUCHED(name) "s XCLIENT LOGIN=" name, "x NL", "S 220-x\n220 again", \
	"s EHLO pc", "x NL", "S 250-x\n250 XCLIENT LOGIN ADDR"

static void
vouched(void **state)
{
	static const struct dialogue rows[] = {
		{ "MAIL as it was", XCLIENT, false, { TOLD,
			"C MAIL FROM:<kenji@isp.example> SIZE=9",
			VOUCHED("kenji@isp.example"),
			"s MAIL FROM:<kenji@isp.example> SIZE=9", "S 250 Ok",
			"c 250 Ok", "x LL", "C RCPT TO:<b@mx.example>",
			"s RCPT TO:<b@mx.example>", "S 250 Ok", "c 250 Ok",
			BYE, NULL } },
		{ "once a connection", XCLIENT, false, { TOLD,
			"C MAIL FROM:<a>", VOUCHED("kenji@isp.example"),
			"s MAIL FROM:<a>", "S 250 Ok", "c 250 Ok", "C RSET",
			"s RSET", "S 250 Ok", "c 250 Ok", "C MAIL FROM:<b>",
			"s MAIL FROM:<b>", "S 250 Ok", "c 250 Ok", NULL } },
		{ "pipelined", XCLIENT, false, { TOLD,
			"C MAIL FROM:<a>\nRCPT TO:<b>",
			VOUCHED("kenji@isp.example"), "s MAIL FROM:<a>",
			"S 250 Ok", "c 250 Ok", "s RCPT TO:<b>", NULL } },
		{ "its own login wins", XCLIENT, false, { TOLD, LOGIN, ENVELOPE,
			NULL } },
		{ "only MAIL", XCLIENT, false, { TOLD, "C RCPT TO:<b>",
			NOT_AUTHED, "C DATA", NOT_AUTHED, NULL } },
		{ "a server that does not believe us", XCLIENT, false, { TOLD,
			"C MAIL FROM:<a>", "s XCLIENT LOGIN=kenji@isp.example",
			"S 550 5.7.0 No", NOT_AUTHED, "C MAIL FROM:<a>",
			NOT_AUTHED, LOGIN, ENVELOPE, NULL } },
		{ "one that is leaving", XCLIENT, false, { TOLD,
			"C MAIL FROM:<a>", "s XCLIENT LOGIN=kenji@isp.example",
			"S 421 4.3.2 Bye", "! fail server-eof",
			SAYS("421 4.4.2", "closed the connection"), NULL } },
		{ "one that has no list any more", XCLIENT, false, { TOLD,
			"C MAIL FROM:<a>", "s XCLIENT LOGIN=kenji@isp.example",
			"S 220 x", "s EHLO pc", "S 500 What?",
			"! fail server-greeting", "c 421 4.3.2 "
			"mail.isp.example: refuses service: 500 What? "
			"(ref ID0)", NULL } },
		{ "no LOGIN in its list", XCLIENT, false, {
			LIST_OF("ADDR"), "s XCLIENT ADDR=198.18.3.7",
			"S 220 x", "s EHLO pc",
			"S 250-x\n250-XCLIENT ADDR\n250 AUTH PLAIN",
			SHOWN_LIST, "C MAIL FROM:<a>", NOT_AUTHED, NULL } },
		{ "one that is not listed with xclient", NOT_SHOWN, false, {
			LIST_OF("ADDR LOGIN"), SHOWN_LIST, "C MAIL FROM:<a>",
			NOT_AUTHED, NULL } },
		{ "a client's own XCLIENT", XCLIENT, false, { TOLD,
			"C XCLIENT LOGIN=ceo", UNKNOWN, NULL } },
		{ "before EHLO", XCLIENT, false, { GREETING,
			"C MAIL FROM:<a>", NOT_AUTHED, NULL } },
	};
	static const struct dialogue odd[] = {
		{ "xtext", XCLIENT, false, { TOLD, "C MAIL FROM:<a>",
			VOUCHED("a+2Bb+3Dc"), "s MAIL FROM:<a>", NULL } },
	};

	(void)state;
	play_for("kenji@isp.example", rows, N(rows));
	play_for("a+b=c", odd, N(odd));
}

static void
nobody(void **state)
{
	static const struct dialogue rows[] = {
		{ "nobody's", XCLIENT, false, { TOLD, "C MAIL FROM:<a>",
			NOT_AUTHED, LOGIN, ENVELOPE, NULL } },
	};

	(void)state;
	play_for(NULL, rows, N(rows));
}

/* Another user's login, and the end of it, inside one session. */
static void
changes(void **state)
{
	static const char *const first[] = { TOLD, "C MAIL FROM:<a>",
		VOUCHED("kenji"), "s MAIL FROM:<a>", "S 250 Ok", "c 250 Ok",
		"C RSET", "s RSET", "S 250 Ok", "c 250 Ok", NULL };
	static const char *const second[] = { "C MAIL FROM:<b>",
		VOUCHED("yuki"), "s MAIL FROM:<b>", "S 250 Ok", "c 250 Ok",
		"C RSET", "s RSET", "S 250 Ok", "c 250 Ok" };
	struct pop_use use = { .find = find };
	struct context x;
	struct drive d;

	(void)state;
	whose = "kenji";
	start(&d, &x, XCLIENT);
	x.pop = &use;
	assert_int_equal(drive_play(&d, first, 0), 0);
	whose = "yuki";
	for (size_t i = 0; i < N(second); i++)
		assert_int_equal(drive_step(&d, second[i], 0), 0);
	whose = NULL;
	assert_int_equal(drive_step(&d, "C MAIL FROM:<c>", 0), 0);
	assert_int_equal(drive_step(&d, NOT_AUTHED, 0), 0);
	drive_close(&d);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(vouched),
		cmocka_unit_test(nobody),
		cmocka_unit_test(changes),
	};

	return cmocka_run_group_tests_name("smtp_pop", tests, NULL, NULL);
}
