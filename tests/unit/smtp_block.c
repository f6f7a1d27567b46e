/*
 * smtp_block.c - unit tests of proxyd/smtp_block.c
 *
 * Dialogues as scripts (tests/drive.h), each played whole and an octet at a
 * time. After each, every line we said is looked at: a code, ASCII, at most
 * 512 octets. The limits and the longest refusal are tests of their own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/drive.h"

#define N(a) (sizeof(a) / sizeof((a)[0]))

static char *text[] = { "Port 25 is closed on this line.",
	"Use port 587 of your provider." };

static struct block_conf block = {
	.stage = BLOCK_ADAPTIVE, .code = 550, .esc = "5.7.1",
	.text = text, .ntext = 2, .url = "https://isp.example/op25b",
};

#define GREETING "c 220 gw1.isp.example ESMTP"
#define REFUSED "c 550-5.7.1 Port 25 is closed on this line.\n" \
	"550-5.7.1 Use port 587 of your provider.\n" \
	"550 5.7.1 See https://isp.example/op25b (ref ID0)"
#define WITH(code) "c " code "-5.5.1 Port 25 is closed on this line.\n" \
	code "-5.5.1 Use port 587 of your provider.\n" \
	code " 5.5.1 See https://isp.example/op25b (ref ID0)"
#define LIST "c 250-gw1.isp.example\n250-PIPELINING\n250-SIZE\n" \
	"250-8BITMIME\n250-SMTPUTF8\n250-DSN\n250 ENHANCEDSTATUSCODES"
#define NO_RCPT "c 503 5.5.1 No valid recipients"
#define BYE "C QUIT", "c 221 2.0.0 Bye"

static void
start(struct drive *d, struct context *x, bool at_ehlo)
{
	memset(x, 0, sizeof(*x));
	x->gateway = "gw1.isp.example";
	x->block = &block;
	memcpy(x->id, "ID0", 4);
	memcpy(x->client, "198.18.3.7", 11);
	x->refuse_at_ehlo = at_ehlo;
	drive_open(d);
	smtp_block_init(&d->m, x);
}

/* Everything the client was told is lines of a mail server. */
static void
check_replies(const struct drive *d)
{
	const struct drive_bytes *b = &d->out[CLIENT];
	size_t at = 0;

	while (at < b->len) {
		struct line l;

		assert_int_equal(frame_line(b->p + at, b->len - at, &l), 1);
		assert_int_equal(l.flags, 0);
		assert_true(l.total <= 512);
		assert_true(l.len >= 4);
		assert_true(l.text[0] >= '2' && l.text[0] <= '5');
		assert_true(l.text[3] == ' ' || l.text[3] == '-');
		for (size_t i = 0; i < l.len; i++)
			assert_true(l.text[i] >= ' ' && l.text[i] < 0x7f);
		at += l.total;
	}
	assert_int_equal(d->out[SERVER].len, 0);
}

static const struct dialogue {
	const char *name;
	bool at_ehlo;
	unsigned code, rcpts, stage;
	const char *script[24];
} dialogues[] = {
	{ "a mail", false, 550, 1, STAGE_RCPT_TO, { GREETING, "x LN",
		"C EHLO pc", LIST, "C MAIL FROM:<a@b.example> SIZE=100",
		"c 250 2.1.0 Ok", "C RCPT TO:<c@d.example>", REFUSED,
		"C DATA", NO_RCPT, "C RSET", "c 250 2.0.0 Ok", BYE,
		"! close policy", NULL } },
	{ "HELO, two recipients, lower case", false, 550, 2, STAGE_RCPT_TO, {
		GREETING, "C helo pc", "c 250 gw1.isp.example",
		"C mail from:<>", "c 250 2.1.0 Ok", "C rcpt to:<c@d.example>",
		REFUSED, "C rcpt to:<e@d.example>", REFUSED, BYE,
		"! close policy", NULL } },
	{ "all at once", false, 550, 1, STAGE_RCPT_TO, { GREETING,
		"C EHLO pc\nMAIL FROM:<a@b.example>\nRCPT TO:<c@d.example>\n"
		"DATA\nQUIT", LIST, "c 250 2.1.0 Ok", REFUSED, NO_RCPT,
		"c 221 2.0.0 Bye", "! close policy", NULL } },
	{ "bare LF", false, 550, 1, STAGE_RCPT_TO, { GREETING,
		"X EHLO pc\nMAIL FROM:<>\nRCPT TO:<c@d.example>\n", LIST,
		"c 250 2.1.0 Ok", REFUSED, NULL } },
	{ "refused at EHLO", true, 550, 0, STAGE_EHLO, { GREETING,
		"C EHLO pc", REFUSED, "C HELO pc", REFUSED, "C MAIL FROM:<>",
		REFUSED, "C RCPT TO:<c@d.example>", REFUSED, BYE,
		"! close policy", NULL } },
	{ "AUTH and STARTTLS", false, 502, 0, STAGE_EHLO, { GREETING,
		"C EHLO pc", LIST, "C AUTH PLAIN AGEAYg==", WITH("503"),
		"C STARTTLS", WITH("502"), BYE, "! close policy", NULL } },
	{ "order", false, 0, 0, STAGE_MAIL, { GREETING, "C MAIL FROM:<>",
		"c 503 5.5.1 Say EHLO first", "C EHLO pc", LIST,
		"C RCPT TO:<c@d.example>", "c 503 5.5.1 Say MAIL first",
		"C MAIL FROM:<>", "c 250 2.1.0 Ok", "C MAIL FROM:<>",
		"c 503 5.5.1 Nested MAIL", BYE, "! close done", NULL } },
	{ "EHLO again begins anew", false, 0, 0, STAGE_MAIL, { GREETING,
		"C EHLO pc", LIST, "C MAIL FROM:<>", "c 250 2.1.0 Ok",
		"C EHLO pc", LIST, "C MAIL FROM:<>", "c 250 2.1.0 Ok", NULL } },
	{ "BDAT is eaten", false, 0, 0, STAGE_EHLO, { GREETING, "C EHLO pc",
		LIST, "C BDAT 6", "x CN", "X QUIT\r\n", NO_RCPT, "x LN",
		"C BDAT 6 LAST\nQUIT\nNOOP", NO_RCPT, "c 250 2.0.0 Ok",
		"C BDAT 0 LAST", NO_RCPT, "x LN", "C BDAT", "c 501 5.5.4 "
		"BDAT wants a size", "C BDAT x", "c 501 5.5.4 BDAT wants a "
		"size", BYE, "! close done", NULL } },
	{ "the others", false, 0, 0, STAGE_EHLO, { GREETING, "C EHLO pc",
		LIST, "C NOOP", "c 250 2.0.0 Ok", "C VRFY x",
		"c 252 2.0.0 Outbound port 25 is closed here", "C TURN",
		"c 500 5.5.2 Command not recognized", "C LHLO pc",
		"c 500 5.5.2 Command not recognized", "C ",
		"c 500 5.5.2 Command not recognized", BYE, "! close done",
		NULL } },
	{ "not ours: NUL", false, 0, 0, STAGE_GREETING, { GREETING,
		"X MAIL~\r\n", "c 421 4.7.0 gw1.isp.example NUL byte in a "
		"command (ref ID0)", "! close nul-byte", NULL } },
	{ "not ours: HTTP", false, 0, 0, STAGE_GREETING, { GREETING,
		"C GET / HTTP/1.1", "c 421 4.7.0 gw1.isp.example This is not "
		"SMTP (ref ID0)", "! close client-protocol", "C NOOP", NULL } },
	{ "not ours: TLS", false, 0, 0, STAGE_GREETING, { GREETING,
		"X \x16\x03\x01~\x05\x01~\n", "c 421 4.7.0 gw1.isp.example "
		"This is not SMTP (ref ID0)", "! close client-protocol",
		NULL } },
	{ "silence", false, 0, 0, STAGE_GREETING, { GREETING,
		"F client-timeout", "! fail client-timeout",
		"c 421 4.7.0 gw1.isp.example Timeout (ref ID0)", NULL } },
	{ "the limit of the line", false, 0, 0, STAGE_GREETING, { GREETING,
		"F max-per-line", "! fail max-per-line", "c 421 4.7.0 "
		"gw1.isp.example Too many connections from your line "
		"(ref ID0)", NULL } },
	{ "the relay leaves", false, 0, 0, STAGE_GREETING, { GREETING,
		"F drain", "! fail drain",
		"c 421 4.7.0 gw1.isp.example Try again later (ref ID0)",
		NULL } },
};

static void
play_way(const struct dialogue *row, size_t way)
{
	struct context x;
	struct drive d;

	start(&d, &x, row->at_ehlo);
	if (drive_play(&d, row->script, way) == -1)
		fail_msg("%s", row->name);
	check_replies(&d);
	assert_int_equal(d.m.notes.code, row->code);
	assert_int_equal(d.m.notes.rcpts, row->rcpts);
	assert_int_equal(d.m.notes.stage, row->stage);
	drive_close(&d);
}

static void
scripts(void **state)
{
	(void)state;
	for (size_t i = 0; i < N(dialogues); i++)
		for (size_t way = 0; way < drive_ways(dialogues[i].script);
			way++)
			play_way(&dialogues[i], way);
}

/* Repeat one command until we close; how often it took. */
static unsigned
hammer(const char *command, enum reason *why_r)
{
	struct context x;
	struct drive d;
	unsigned n = 0;

	start(&d, &x, false);
	drive_greet(&d);
	drive_send(&d, CLIENT, "EHLO pc\r\n", 9, 0);
	drive_send(&d, CLIENT, "MAIL FROM:<>\r\n", 14, 0);
	while (!d.closed && n < 1000) {
		drive_send(&d, CLIENT, command, strlen(command), 0);
		n++;
	}
	check_replies(&d);
	assert_true(d.closed);
	assert_memory_equal(d.out[CLIENT].p + d.out[CLIENT].len -
		strlen("Too many commands (ref ID0)\r\n"),
		"Too many commands (ref ID0)\r\n",
		strlen("Too many commands (ref ID0)\r\n"));
	*why_r = d.m.reason;
	drive_close(&d);
	return n;
}

static void
limits(void **state)
{
	enum reason why;

	(void)state;
	assert_int_equal(hammer("NOOP\r\n", &why), 99);
	assert_int_equal(why, REASON_TOO_MANY_ERRORS);
	assert_int_equal(hammer("RCPT TO:<a@b.example>\r\n", &why), 99);
	assert_int_equal(hammer("nonsense\r\n", &why), 21);
	assert_int_equal(why, REASON_TOO_MANY_ERRORS);
	assert_int_equal(hammer("BDAT 3\r\nabc", &why), 21);
	assert_int_equal(hammer("AUTH LOGIN\r\n", &why), 21);
}

/* A body sent without waiting for 354 is answered and ends at the limit. */
static void
body_unasked(void **state)
{
	struct context x;
	struct drive d;

	(void)state;
	start(&d, &x, false);
	drive_greet(&d);
	drive_send(&d, CLIENT, "EHLO pc\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>"
		"\r\nDATA\r\n", 52, 0);
	for (int i = 0; i < 100 && !d.closed; i++)
		drive_send(&d, CLIENT, "Buy now, very cheap\r\n", 21, 0);
	assert_true(d.closed);
	assert_int_equal(d.m.reason, REASON_TOO_MANY_ERRORS);
	check_replies(&d);
	drive_close(&d);
}

/* What the configuration allows at most still makes lines of 512 octets. */
static void
longest(void **state)
{
	static char line[401];
	static char *lines[8];
	struct block_conf saved = block;
	struct context x;
	struct drive d;

	(void)state;
	memset(line, 'x', 400);
	for (size_t i = 0; i < N(lines); i++)
		lines[i] = line;
	block.text = lines;
	block.ntext = N(lines);
	block.url = line;
	memcpy(block.esc, "5.777.777", 10);
	start(&d, &x, true);
	memcpy(x.id, "0123456789ABC", EVENT_ID_LEN);
	drive_greet(&d);
	drive_send(&d, CLIENT, "EHLO pc\r\n", 9, 0);
	check_replies(&d);
	assert_true(d.out[CLIENT].len > 9 * 400);
	drive_close(&d);
	block = saved;
}

/* What is refused and how, by the operator's choice. */
static const struct {
	const char *name;
	enum block_stage stage;
	bool soft;
	unsigned code;
	const char *script[16];
} choices[] = {
	{ "mail", BLOCK_MAIL, false, 550, { GREETING, "C EHLO pc", LIST,
		"C MAIL FROM:<>", REFUSED, "C RCPT TO:<c@d.example>",
		"c 503 5.5.1 Say MAIL first", BYE, "! close policy", NULL } },
	{ "greeting", BLOCK_GREETING, false, 503, {
		"c 554-Port 25 is closed on this line.\n"
		"554-Use port 587 of your provider.\n"
		"554 See https://isp.example/op25b (ref ID0)", "x LN",
		"C EHLO pc", WITH("503"), BYE, "! close policy", NULL } },
	{ "greeting, soft", BLOCK_GREETING, true, 421, {
		"c 421-Port 25 is closed on this line.\n"
		"421-Use port 587 of your provider.\n"
		"421 See https://isp.example/op25b (ref ID0)",
		"! close policy", NULL } },
	{ "rcpt, soft", BLOCK_RCPT, true, 451, { GREETING, "C EHLO pc", LIST,
		"C MAIL FROM:<>", "c 250 2.1.0 Ok", "C RCPT TO:<c@d.example>",
		"c 451-4.7.1 Port 25 is closed on this line.\n"
		"451-4.7.1 Use port 587 of your provider.\n"
		"451 4.7.1 See https://isp.example/op25b (ref ID0)", BYE,
		"! close policy", NULL } },
};

static void
stages(void **state)
{
	const struct block_conf saved = block;

	(void)state;
	for (size_t i = 0; i < 2 * N(choices); i++) {
		struct context x;
		struct drive d;

		block.stage = choices[i / 2].stage;
		start(&d, &x, false);
		x.is_soft = choices[i / 2].soft;
		if (drive_play(&d, choices[i / 2].script, i % 2) == -1)
			fail_msg("%s, in pieces of %zu", choices[i / 2].name,
				i % 2);
		check_replies(&d);
		assert_int_equal(d.m.notes.code, choices[i / 2].code);
		drive_close(&d);
	}
	block = saved;
}

/* Values in the text; what it says itself is not said again behind it. */
static void
placeholders(void **state)
{
	static const struct {
		const char *text, *last, *want;
	} rows[] = {
		{ "You are {client}.", "Page {url}", "c 550-5.7.1 You are "
		  "198.18.3.7.\n550-5.7.1 Page https://isp.example/op25b\n"
		  "550 5.7.1 (ref ID0)" },
		{ "Closed.", "{event}{event}", "c 550-5.7.1 Closed.\n550-5.7.1 "
		  "ID0ID0\n550 5.7.1 See https://isp.example/op25b" },
		{ "{url}", "{client} {event}", "c 550-5.7.1 "
		  "https://isp.example/op25b\n550 5.7.1 198.18.3.7 ID0" },
	};
	const struct block_conf saved = block;

	(void)state;
	for (size_t i = 0; i < N(rows); i++) {
		const char *script[] = { GREETING, "C EHLO pc", rows[i].want,
			NULL };
		char one[64], two[64], *lines[] = { one, two };
		struct context x;
		struct drive d;

		snprintf(one, sizeof(one), "%s", rows[i].text);
		snprintf(two, sizeof(two), "%s", rows[i].last);
		block.text = lines;
		start(&d, &x, true);
		assert_int_equal(drive_play(&d, script, 0), 0);
		drive_close(&d);
	}
	block = saved;
}

/* No URL: the last line still is one. */
static void
no_url(void **state)
{
	static const char *const script[] = { GREETING, "C EHLO pc",
		"c 550-5.7.1 Port 25 is closed on this line.\n"
		"550-5.7.1 Use port 587 of your provider.\n"
		"550 5.7.1 (ref ID0)", NULL };
	struct block_conf saved = block;
	struct context x;
	struct drive d;

	(void)state;
	block.url = NULL;
	start(&d, &x, true);
	assert_int_equal(drive_play(&d, script, 0), 0);
	drive_close(&d);
	block = saved;
}

/* A submit line at a server we do not know: the log says so to the end. */
static void
why_blocked(void **state)
{
	static const char *const script[] = { GREETING, "C EHLO pc", LIST,
		"C MAIL FROM:<>", "c 250 2.1.0 Ok", "C RCPT TO:<a@b.example>",
		REFUSED, BYE, "! close unknown-origin", NULL };
	struct context x;
	struct drive d;

	(void)state;
	start(&d, &x, false);
	d.m.reason = REASON_UNKNOWN_ORIGIN;
	assert_int_equal(drive_play(&d, script, 0), 0);
	drive_close(&d);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(scripts),
		cmocka_unit_test(limits),
		cmocka_unit_test(body_unasked),
		cmocka_unit_test(longest),
		cmocka_unit_test(no_url),
		cmocka_unit_test(stages),
		cmocka_unit_test(placeholders),
		cmocka_unit_test(why_blocked),
	};

	return cmocka_run_group_tests_name("smtp_block", tests, NULL, NULL);
}
