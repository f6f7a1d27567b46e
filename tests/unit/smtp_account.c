/*
 * smtp_account.c - unit tests of proxyd/smtp_account.c
 *
 * Scripts as in smtp_submit.c, whole and an octet at a time, of clients whose
 * line has an account. "! keeper" is the machine's question, "K" the answer.
 */
#include "tests/submit.h"

#include "proxyd/tally.h"

static struct account_conf accounts[] = {
	{ .name = (char[]){ "hall" }, .user = (char[]){ "hall@isp.example" },
	  .password_file = (char[]){ "f" }, .rcpts = 1, .messages = 1,
	  .sender = (char[]){ "printer@isp.example" } },
	{ .name = (char[]){ "md5" }, .user = (char[]){ "u" },
	  .password_file = (char[]){ "f" }, .mechanism = MECHANISM_CRAM_MD5,
	  .sender = (char[]){ "printer@isp.example" } },
	{ .name = (char[]){ "oauth" }, .user = (char[]){ "u" },
	  .token_file = (char[]){ "f" },
	  .sender = (char[]){ "printer@isp.example" } },
};

enum { HALL, MD5, OAUTH };

/* What the context's functions read. */
static bool suspect;
static struct tally *tally;

static bool
is_suspect(void *arg)
{
	return *(bool *)arg;
}

static unsigned
count(void *arg, enum tally_kind kind, unsigned n)
{
	static const struct line_key line = { .family = AF_INET, .len = 32 };

	(void)arg;
	return tally_add(tally, &line, kind, 1, n);
}

static const struct smtp_limits limits = {
	.commands = 100, .errors = 20, .command_time = 300, .guesses = 2,
};

struct row {
	const char *name;
	int account;
	const char *script[64];
};

static void
play_row(const struct row *row, size_t pieces)
{
	struct account_use use = { .conf = &accounts[row->account],
		.is_suspect = is_suspect, .arg = &suspect };
	struct context x;
	struct drive d;

	tally = tally_new();
	assert_non_null(tally);
	start(&d, &x, NOT_SHOWN);
	x.account = &use;
	x.limits = &limits;
	x.quota = count;
	if (drive_play(&d, row->script, pieces) == -1)
		fail_msg("%s, in pieces of %zu", row->name, pieces);
	drive_close(&d);
	tally_free(&tally);
}

static void
play_all(const struct row *rows, size_t n)
{
	for (size_t i = 0; i < n; i++)
		for (size_t pieces = 0; pieces < 2; pieces++)
			play_row(&rows[i], pieces);
}

#define OFFERS(mechs) DIALLED, "S 220 x", "s EHLO pc", \
	"S 250-x\n250 AUTH " mechs, "c 250-mail.isp.example\n250 AUTH " mechs
#define ASKS_PLAIN "s AUTH PLAIN", "x NL", "S 334 ", "! keeper 1 0 ", "x NN", \
	"K AGhhbGwAcHc=", "s AGhhbGwAcHc=", "x NL"
#define TAKEN "s MAIL FROM:<printer@isp.example>", "x NL", "S 250 2.1.0 Ok", \
	"c 250 2.1.0 Ok", "x LL"
#define OURS(mail) OFFERS("PLAIN LOGIN"), "C " mail, ASKS_PLAIN, \
	"S 235 2.7.0 Ok"
#define CANNOT "c 454 4.7.0 The account of your line cannot be used: "

static void
logins(void **state)
{
	static const struct row rows[] = {
		{ "PLAIN, and a sender of its own", HALL, {
			OURS("MAIL FROM:<anybody@example.com>"), TAKEN,
			"C RCPT TO:<b@mx.example>", "s RCPT TO:<b@mx.example>",
			"S 250 Ok", "c 250 Ok", BYE, NULL } },
		{ "bounces too", HALL, { OURS("mail from: <>"), TAKEN, NULL } },
		{ "pipelined", HALL, { OFFERS("PLAIN"),
			"C MAIL FROM:<a>\nRCPT TO:<b>\nRSET", ASKS_PLAIN,
			"S 235 Ok", "s MAIL FROM:<printer@isp.example>",
			"S 250 Ok", "c 250 Ok", "s RCPT TO:<b>", "S 250 Ok",
			"c 250 Ok", "s RSET", "S 250 Ok", "c 250 Ok", NULL } },
		{ "a second mail", HALL, { OURS("MAIL FROM:<a>"), TAKEN,
			"C RSET", "s RSET", "S 250 Ok", "c 250 Ok",
			"C MAIL FROM:<ceo@isp.example>", TAKEN, NULL } },
		{ "after HELO", HALL, { GREETING, "C HELO pc",
			"! dial tls:465", "U", "S 220 x", "s EHLO pc",
			"S 250-x\n250 AUTH PLAIN", "c 250 mail.isp.example",
			"C MAIL FROM:<a>", ASKS_PLAIN, "S 235 Ok", TAKEN,
			NULL } },
		{ "LOGIN", HALL, { OFFERS("LOGIN"), "C MAIL FROM:<a>",
			"s AUTH LOGIN", "S 334 VXNlcm5hbWU6",
			"! keeper 2 0 VXNlcm5hbWU6", "K dQ==", "s dQ==",
			"S 334 UGFzc3dvcmQ6", "! keeper 2 1 UGFzc3dvcmQ6",
			"K cA==", "s cA==", "S 235 Ok", TAKEN, NULL } },
		{ "CRAM-MD5, as configured", MD5, { OFFERS("CRAM-MD5 PLAIN"),
			"C MAIL FROM:<a>", "s AUTH CRAM-MD5", "S 334 PDE+",
			"! keeper 3 0 PDE+", "K dSBh", "s dSBh", "S 235 Ok",
			TAKEN, NULL } },
		{ "XOAUTH2", OAUTH, { OFFERS("XOAUTH2 PLAIN"),
			"C MAIL FROM:<a>", "s AUTH XOAUTH2", "S 334 ",
			"! keeper 4 0 ", "K dXNlcg==", "s dXNlcg==",
			"S 235 Ok", TAKEN, NULL } },
		{ "its own login wins", HALL, { OFFERS("PLAIN"),
			"C AUTH PLAIN eA==", "s AUTH PLAIN eA==", "S 235 Ok",
			"c 235 Ok", ENVELOPE, NULL } },
		{ "its own, after ours was refused", HALL, { OFFERS("PLAIN"),
			"C MAIL FROM:<a>", ASKS_PLAIN, "S 535 No",
			CANNOT "the server refused it with 535 (ref ID0)",
			"C AUTH PLAIN eA==", "s AUTH PLAIN eA==", "S 235 Ok",
			"c 235 Ok", ENVELOPE, NULL } },
		{ "no AUTH behind ours", HALL, { OURS("MAIL FROM:<a>"), TAKEN,
			"C AUTH PLAIN eA==",
			"c 503 5.5.1 Already authenticated", NULL } },
		{ "only MAIL opens it", HALL, { OFFERS("PLAIN"),
			"C RCPT TO:<b>", NOT_AUTHED, "C DATA", NOT_AUTHED,
			"C VRFY b", NOT_AUTHED, NULL } },
		{ "not before EHLO", HALL, { GREETING, "C MAIL FROM:<a>",
			NOT_AUTHED, NULL } },
	};

	(void)state;
	play_all(rows, N(rows));
}

static void
parameters(void **state)
{
	static const struct row rows[] = {
		{ "they go on, AUTH= does not", HALL, {
			OURS("MAIL FROM:<\">\\\">\"@x> SIZE=9 auth=<> "
			"BODY=8BITMIME"), "s MAIL FROM:<printer@isp.example> "
			"SIZE=9 BODY=8BITMIME", "S 250 Ok", "c 250 Ok",
			NULL } },
		{ "no brackets", HALL, { OURS("MAIL FROM:a@x  SIZE=9 "),
			"s MAIL FROM:<printer@isp.example> SIZE=9",
			"S 250 Ok", "c 250 Ok", NULL } },
		{ "not MAIL at all", HALL, { OFFERS("PLAIN"), "C MAIL",
			"c 501 5.5.4 MAIL not understood", "C MAIL TO:<a>",
			"c 501 5.5.4 MAIL not understood", "C MAIL FROM:",
			"c 501 5.5.4 MAIL not understood", "C MAIL FROM:<a",
			"c 501 5.5.4 MAIL not understood", "C MAIL FROM:<a>b",
			"c 501 5.5.4 MAIL not understood", NULL } },
		{ "REQUIRETLS is still none", HALL, { OFFERS("PLAIN"),
			"C MAIL FROM:<a> REQUIRETLS",
			"c 555 5.5.4 REQUIRETLS is not offered", NULL } },
	};
	char mail[1200], *at = mail;
	const struct row longest = { "longer than what is kept", HALL, {
		OFFERS("PLAIN"), mail, "c 501 5.5.4 MAIL not understood",
		NULL } };

	(void)state;
	play_all(rows, N(rows));
	at += snprintf(at, sizeof(mail), "C MAIL FROM:<a>");
	for (int i = 0; i < 64; i++)
		at += snprintf(at, 16, " X=123456");
	play_all(&longest, 1);
}

static void
refusals(void **state)
{
	static const struct row rows[] = {
		{ "wrong, until there were too many", HALL, { OFFERS("PLAIN"),
			"C MAIL FROM:<a>", ASKS_PLAIN, "S 535-No\n535 No",
			CANNOT "the server refused it with 535 (ref ID0)",
			"C MAIL FROM:<a>", ASKS_PLAIN, "S 535 No",
			CANNOT "the server refused it with 535 (ref ID0)",
			"C MAIL FROM:<a>", "! fail password-guesses",
			SAYS("421 4.7.0", "too many wrong passwords from your "
			"line, try again later"), NULL } },
		{ "not just now", HALL, { OFFERS("PLAIN"), "C MAIL FROM:<a>",
			"s AUTH PLAIN", "S 454 4.7.0 Busy",
			CANNOT "the server refused it with 454 (ref ID0)",
			NULL } },
		{ "nothing that the account has", MD5, { OFFERS("PLAIN LOGIN"),
			"C MAIL FROM:<a>", CANNOT "the server offers no "
			"mechanism for it (ref ID0)", NULL } },
		{ "no token, no password", OAUTH, { OFFERS("PLAIN"),
			"C MAIL FROM:<a>", CANNOT "the server offers no "
			"mechanism for it (ref ID0)", NULL } },
		{ "an expired token's empty line", OAUTH, { OFFERS("XOAUTH2"),
			"C MAIL FROM:<a>", "s AUTH XOAUTH2", "S 334 ",
			"! keeper 4 0 ", "K dXNlcg==", "s dXNlcg==",
			"S 334 eyJzIjoiNDAxIn0=", "s ", "S 535 No",
			CANNOT "the server refused it with 535 (ref ID0)",
			NULL } },
		{ "it asks and asks", HALL, { OFFERS("PLAIN"),
			"C MAIL FROM:<a>", ASKS_PLAIN, "S 334 more",
			"! fail server-protocol",
			SAYS("421 4.3.0", "sent a reply that is none"), NULL } },
		{ "250 is no 235", HALL, { OFFERS("PLAIN"), "C MAIL FROM:<a>",
			ASKS_PLAIN, "S 250 Ok", "! fail server-protocol",
			SAYS("421 4.3.0", "sent a reply that is none"), NULL } },
		{ "goodbye", HALL, { OFFERS("PLAIN"), "C MAIL FROM:<a>",
			ASKS_PLAIN, "S 421 4.3.2 Closing", "! fail server-eof",
			SAYS("421 4.4.2", "closed the connection"), NULL } },
		{ "no keeper", HALL, { OFFERS("PLAIN"), "C MAIL FROM:<a>",
			"s AUTH PLAIN", "S 334 ", "! keeper 1 0 ",
			"F keeper no keeper is running", "! fail keeper",
			SAYS("421 4.3.0", "the account of your line cannot be "
			"used just now: no keeper is running"), NULL } },
	};
	char challenge[600];
	const struct row longest = { "a challenge without end", HALL, {
		OFFERS("PLAIN"), "C MAIL FROM:<a>", "s AUTH PLAIN", challenge,
		"! fail server-protocol",
		SAYS("421 4.3.0", "sent a reply that is none"), NULL } };

	(void)state;
	play_all(rows, N(rows));
	memset(challenge, 'A', sizeof(challenge));
	memcpy(challenge, "S 334 ", 6);
	challenge[6 + ACCOUNT_CHALLENGE_MAX + 1] = '\0';
	play_all(&longest, 1);
}

/* Also of a session that is logged in: the next mail is refused. */
static void
suspects(void **state)
{
	static const struct row before = { "suspect", HALL, { OFFERS("PLAIN"),
		"C MAIL FROM:<a>", NOT_AUTHED, "C AUTH PLAIN eA==",
		"s AUTH PLAIN eA==", "S 235 Ok", "c 235 Ok", ENVELOPE, NULL } };
	static const char *const first[] = { OURS("MAIL FROM:<a>"), TAKEN,
		"C RSET", "s RSET", "S 250 Ok", "c 250 Ok", NULL };
	struct account_use use = { .conf = accounts, .is_suspect = is_suspect,
		.arg = &suspect };
	struct context x;
	struct drive d;

	(void)state;
	suspect = true;
	for (size_t pieces = 0; pieces < 2; pieces++)
		play_row(&before, pieces);
	suspect = false;
	start(&d, &x, NOT_SHOWN);
	x.account = &use;
	assert_int_equal(drive_play(&d, first, 0), 0);
	suspect = true;
	assert_int_equal(drive_step(&d, "C MAIL FROM:<a>", 0), 0);
	assert_int_equal(drive_step(&d, NOT_AUTHED, 0), 0);
	suspect = false;
	assert_int_equal(drive_step(&d, "C MAIL FROM:<a>", 0), 0);
	assert_int_equal(drive_step(&d,
		"s MAIL FROM:<printer@isp.example>", 0), 0);
	drive_close(&d);
}

/* The account's own quotas, and only while it is the account's login. */
static void
quotas(void **state)
{
	static const struct row rows[] = {
		{ "recipients", HALL, { OURS("MAIL FROM:<a>"), TAKEN,
			"C RCPT TO:<b>", "s RCPT TO:<b>", "S 250 Ok",
			"c 250 Ok", "C RCPT TO:<c>", "c 450 4.7.1 Your line "
			"has named all the recipients it may name in an hour; "
			"try again later (ref ID0)", NULL } },
		{ "messages", HALL, { OURS("MAIL FROM:<a>"), TAKEN,
			"C RCPT TO:<b>", "s RCPT TO:<b>", "S 250 Ok",
			"c 250 Ok", "C DATA", "s DATA", "S 354 Go", "c 354 Go",
			"C x\n.", "s x\n.", "S 250 Ok", "c 250 Ok",
			"C MAIL FROM:<a>", "c 450 4.7.1 Your line has sent "
			"all the messages it may send in an hour; try again "
			"later (ref ID0)", NULL } },
		{ "not with a login of its own", HALL, { OFFERS("PLAIN"),
			"C AUTH PLAIN eA==", "s AUTH PLAIN eA==", "S 235 Ok",
			"c 235 Ok", ENVELOPE, "C RCPT TO:<c>", "s RCPT TO:<c>",
			"S 250 Ok", "c 250 Ok", NULL } },
	};

	(void)state;
	play_all(rows, N(rows));
}

/* Some servers repeat what they did not like. */
static void
no_password_is_noted(void **state)
{
	static const char *const script[] = { OFFERS("PLAIN"),
		"C MAIL FROM:<a>", ASKS_PLAIN, "S what is AGhhbGwAcHc=?",
		"! fail server-protocol",
		SAYS("421 4.3.0", "sent a reply that is none"), NULL };
	static const char *const refused[] = { OFFERS("PLAIN"),
		"C MAIL FROM:<a>", ASKS_PLAIN, "S 535 [AGhhbGwAcHc=] No",
		CANNOT "the server refused it with 535 (ref ID0)", NULL };
	const char *const *const both[] = { script, refused };

	(void)state;
	for (size_t i = 0; i < N(both); i++) {
		struct account_use use = { .conf = accounts,
			.is_suspect = is_suspect, .arg = &suspect };
		struct context x;
		struct drive d;

		start(&d, &x, NOT_SHOWN);
		x.account = &use;
		assert_int_equal(drive_play(&d, both[i], 0), 0);
		assert_null(strstr(d.m.notes.detail, "AGhhbGwAcHc"));
		drive_close(&d);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(logins),
		cmocka_unit_test(parameters),
		cmocka_unit_test(refusals),
		cmocka_unit_test(suspects),
		cmocka_unit_test(quotas),
		cmocka_unit_test(no_password_is_noted),
	};

	return cmocka_run_group_tests_name("smtp_account", tests, NULL, NULL);
}
