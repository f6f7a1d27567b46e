/*
 * smtp_limits.c - unit tests of the operator's limits in the SMTP machines
 *
 * Size, quotas and guesses of submit with the real tally behind them; commands
 * and errors of block. Scripts as in smtp_submit.c, whole and in octets.
 */
#include "tests/submit.h"

static const struct smtp_limits limits = {
	.size = 40, .commands = 12, .errors = 3, .command_time = 77,
	.rcpts = 2, .messages = 1, .guesses = 2,
};

static const struct line_key subscriber = { .family = AF_INET, .len = 32 };

static unsigned
count(void *arg, enum tally_kind kind, unsigned n)
{
	return tally_add(arg, &subscriber, kind, 1, n);
}

/* One session of the line; t: what it has used already. */
static void
play_limited(struct tally *t, size_t pieces, const char *const *script)
{
	struct context x;
	struct drive d;

	start(&d, &x, NOT_SHOWN);
	x.limits = &limits;
	x.quota = count;
	x.quota_arg = t;
	smtp_submit_init(&d.m, &x);
	assert_int_equal(d.m.client_wait, 77);
	assert_int_equal(drive_play(&d, script, pieces), 0);
	drive_close(&d);
}

#define TO_LIST(size) DIALLED, "S 220 x", "s EHLO pc", \
	"S 250-x\n250-SIZE" size "\n250 AUTH PLAIN"
#define LIMITED TO_LIST(" 1000"), \
	"c 250-mail.isp.example\n250-SIZE 40\n250 AUTH PLAIN"
#define MAIL(more) "C MAIL FROM:<a@isp.example>" more, \
	"s MAIL FROM:<a@isp.example>" more, "S 250 2.1.0 Ok", "c 250 2.1.0 Ok"
#define RCPT "C RCPT TO:<b@mx.example>", "s RCPT TO:<b@mx.example>", \
	"S 250 2.1.5 Ok", "c 250 2.1.5 Ok"
#define NO_GUESS "C AUTH PLAIN eA==", "s AUTH PLAIN eA==", \
	"S 535 5.7.8 No", "c 535 5.7.8 No"
#define TOO_LARGE "The message is larger than this access takes"

static void
sizes(void **state)
{
	static const char *const scripts[][48] = {
		{ TO_LIST(" 20"), "c 250-mail.isp.example\n250-SIZE 20\n"
			"250 AUTH PLAIN", NULL },
		{ TO_LIST(""), "c 250-mail.isp.example\n250-SIZE 40\n"
			"250 AUTH PLAIN", NULL },
		{ TO_LIST(" 0"), "c 250-mail.isp.example\n250-SIZE 40\n"
			"250 AUTH PLAIN", NULL },
		{ DIALLED, "S 220 x", "s EHLO pc", "S 250 x",
			"c 250 mail.isp.example", NULL },
		/* declared */
		{ LIMITED, LOGIN, "C MAIL FROM:<a@isp.example> BODY=8BITMIME "
			"size=41", "c 552 5.3.4 " TOO_LARGE " (ref ID0)",
			"C MAIL FROM:<\" SIZE=41\"@isp.example>",
			"s MAIL FROM:<\" SIZE=41\"@isp.example>", "S 250 Ok",
			"c 250 Ok", "C RSET", "s RSET", "S 250 Ok", "c 250 Ok",
			MAIL(" SIZE=40"), NULL },
		/* sent: exactly as much, with the dot that ends it */
		{ LIMITED, LOGIN, MAIL(""), RCPT, "C DATA", "s DATA",
			"S 354 Go", "c 354 Go",
			"C 12345678901234567890123456789012345678\n.",
			"s 12345678901234567890123456789012345678\n.",
			"S 250 Ok", "c 250 Ok", NULL },
	};
	/* one more, in one piece: nothing of it reached the server */
	static const char *const more[] = { LIMITED, LOGIN, MAIL(""), RCPT,
		"C DATA", "s DATA", "S 354 Go", "c 354 Go",
		"C 123456789012345678901234567890123456789\n.", "! hangup",
		"c 552 5.3.4 " TOO_LARGE "; not sent (ref ID0)",
		"! close too-large", NULL };

	(void)state;
	for (size_t i = 0; i < 2 * N(scripts); i++) {
		struct tally *t = tally_new();

		assert_non_null(t);
		play_limited(t, i % 2, scripts[i / 2]);
		if (i == 0)
			play_limited(t, 0, more);
		tally_free(&t);
	}
}

/* Quotas hold over sessions, and are refused for now, not for ever. */
static void
quotas(void **state)
{
	static const char *const first[] = { LIMITED, LOGIN, MAIL(""), RCPT,
		RCPT, "C RCPT TO:<c@mx.example>", "c 450 4.7.1 Your line has "
		"named all the recipients it may name in an hour; try again "
		"later (ref ID0)", "C DATA", "s DATA", "S 354 Go", "c 354 Go",
		"C hi\n.", "s hi\n.", "S 250 Ok", "c 250 Ok", NULL };
	static const char *const second[] = { LIMITED, LOGIN,
		"C MAIL FROM:<a@isp.example>", "c 450 4.7.1 Your line has sent "
		"all the messages it may send in an hour; try again later "
		"(ref ID0)", "C NOOP", "s NOOP", "S 250 Ok", "c 250 Ok", NULL };

	(void)state;
	for (size_t pieces = 0; pieces < 2; pieces++) {
		struct tally *t = tally_new();

		assert_non_null(t);
		play_limited(t, pieces, first);
		play_limited(t, pieces, second);
		tally_free(&t);
	}
}

/* The password that would be the third wrong one is not even tried; what a
 * server refuses for other reasons is no guess. */
static void
guesses(void **state)
{
	static const char *const first[] = { LIMITED, "C AUTH PLAIN eA==",
		"s AUTH PLAIN eA==", "S 454 4.7.0 Later", "c 454 4.7.0 Later",
		NO_GUESS, NULL };
	static const char *const second[] = { LIMITED, NO_GUESS,
		"C AUTH PLAIN eA==", "! fail password-guesses",
		SAYS("421 4.7.0", "too many wrong passwords from your line, try "
			"again later"), NULL };
	static const char *const third[] = { LIMITED, "C AUTH PLAIN eA==",
		"! fail password-guesses",
		SAYS("421 4.7.0", "too many wrong passwords from your line, try "
			"again later"), NULL };

	(void)state;
	for (size_t pieces = 0; pieces < 2; pieces++) {
		struct tally *t = tally_new();

		assert_non_null(t);
		play_limited(t, pieces, first);
		play_limited(t, pieces, second);
		play_limited(t, pieces, third);
		tally_free(&t);
	}
}

/* How many of this command a blocked session may give. */
static unsigned
hammer(const char *command)
{
	static const struct block_conf block = { .code = 550, .esc = "5.7.1" };
	struct context x;
	struct drive d;
	unsigned n = 0;

	start(&d, &x, IMPLICIT);
	x.block = &block;
	x.limits = &limits;
	smtp_block_init(&d.m, &x);
	d.guard = false;
	assert_int_equal(d.m.client_wait, 77);
	drive_greet(&d);
	while (!d.closed && n < 100) {
		drive_send(&d, CLIENT, command, strlen(command), 0);
		n++;
	}
	assert_true(d.closed);
	assert_int_equal(d.m.reason, REASON_TOO_MANY_ERRORS);
	drive_close(&d);
	return n;
}

static void
blocked(void **state)
{
	(void)state;
	assert_int_equal(hammer("NOOP\r\n"), 13);
	assert_int_equal(hammer("WHAT\r\n"), 4);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes),
		cmocka_unit_test(quotas),
		cmocka_unit_test(guesses),
		cmocka_unit_test(blocked),
	};

	return cmocka_run_group_tests_name("smtp_limits", tests, NULL, NULL);
}
