/*
 * smtp_relay.c - unit tests of proxyd/smtp_relay.c
 *
 * The observer beside a relayed dialogue: what it counts, when it stops to
 * look, that bytes pass whatever happens. Dialogues are scripts
 * (tests/drive.h), each cut in every way there is: where a read ends
 * must not change what is seen.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/drive.h"

#define N(a) (sizeof(a) / sizeof((a)[0]))

static void
start(struct drive *d, struct context *x)
{
	memset(x, 0, sizeof(*x));
	x->gateway = "gw1.isp.example";
	drive_open(d);
	smtp_relay_init(&d->m, x);
}

#define OPEN "! dial plain:0", "x NN", "U", "x RR", "S 220 mx.example ESMTP", \
	"c 220 mx.example ESMTP"
#define C(line) "C " line, "s " line
#define S(line) "S " line, "c " line

static const struct dialogue {
	const char *name;
	bool opaque;
	unsigned stage, rcpts, messages, code;
	const char *esc, *helo;
	const char *script[64];
} dialogues[] = {
	{ "a mail", false, STAGE_DATA, 2, 1, 550, "5.1.1", "pc.example", { OPEN,
		C("EHLO pc.example"), S("250-mx\n250 SIZE"),
		C("MAIL FROM:<a@b>"), S("250 Ok"), C("RCPT TO:<c@d>"),
		S("250 Ok"), C("RCPT TO:<e@d>"), S("550-5.1.1 No\n550 5.1.1 No"),
		C("DATA"), S("354 Go"), C("Subject: x\n\nRCPT TO:<x>\n."),
		S("250 Queued"), C("QUIT"), S("221 Bye"), NULL } },
	{ "pipelined", false, STAGE_MAIL, 2, 1, 452, "4.5.3", "pc", { OPEN,
		C("EHLO pc"), S("250-mx\n250 PIPELINING"),
		C("MAIL FROM:<a>\nRCPT TO:<b>\nRCPT TO:<c>\nDATA"),
		S("250 a\n250 b\n452 4.5.3 c\n354 Go"),
		C("x\n.\nMAIL FROM:<a>\nQUIT"), S("250 Queued\n250 a\n221 Bye"),
		NULL } },
	{ "two mails", false, STAGE_DATA, 2, 1, 554, "", "pc", { OPEN,
		C("HELO pc"), S("250 mx"), C("MAIL FROM:<a>"), S("250 a"),
		C("RCPT TO:<b>"), S("250 b"), C("DATA"), S("354 Go"),
		C("."), S("554 No"), C("MAIL FROM:<a>"), S("250 a"),
		C("RCPT TO:<b>"), S("250 b"), C("DATA"), S("354 Go"),
		C("..\n."), S("250 Queued"), NULL } },
	{ "DATA refused", false, STAGE_MAIL, 0, 0, 503, "5.5.1", "pc", { OPEN,
		C("HELO pc"), S("250 mx"), C("DATA"), S("503 5.5.1 No"),
		C("MAIL FROM:<a>"), S("250 a"), NULL } },
	{ "a strict reader's end of data", false, STAGE_DATA, 0, 1, 0, "",
		"pc", { OPEN, C("HELO pc"), S("250 mx"), C("DATA"),
		S("354 Go"), "X a\n.\nRCPT TO:<x>\r\n.\r\r\nRCPT TO:<x>\r\n"
		".\r\n", "y a\n.\nRCPT TO:<x>\r\n.\r\r\nRCPT TO:<x>\r\n.\r\n",
		S("250 Queued"), NULL } },
	{ "NUL passes", false, STAGE_DATA, 0, 1, 0, "", "pc", { OPEN,
		C("HELO pc"), S("250 mx"), C("DATA"), S("354 Go"),
		"X ~\r\n~.\r\n.\r\n", "y ~\r\n~.\r\n.\r\n", S("250 Queued"),
		NULL } },
	{ "STARTTLS", true, STAGE_TLS, 0, 0, 0, "", "pc", { OPEN,
		C("EHLO pc"), S("250-mx\n250 STARTTLS"), C("STARTTLS"),
		S("220 Go"), "X \x16\x03~RCPT TO:<a>\r\n",
		"y \x16\x03~RCPT TO:<a>\r\n", "Y \x16~550 x\r\n",
		"z \x16~550 x\r\n", NULL } },
	{ "STARTTLS refused", false, STAGE_MAIL, 0, 0, 454, "4.7.0", "pc", {
		OPEN, C("EHLO pc"), S("250 mx"), C("STARTTLS"),
		S("454 4.7.0 No"), C("MAIL FROM:<a>"), S("250 a"), NULL } },
	{ "BDAT", false, STAGE_DATA, 1, 1, 0, "", "pc", { OPEN, C("EHLO pc"),
		S("250-mx\n250 CHUNKING"), C("MAIL FROM:<a>\nRCPT TO:<b>"),
		S("250 a\n250 b"), "X BDAT 14\r\nRCPT TO:<c>\r\n\nBDAT 3 last"
		"\r\n.\r\nQUIT\r\n", "y BDAT 14\r\nRCPT TO:<c>\r\n\nBDAT 3 last"
		"\r\n.\r\nQUIT\r\n", S("250 14\n250 Queued\n221 Bye"), NULL } },
	{ "BDAT 0 LAST", false, STAGE_DATA, 0, 1, 0, "", "pc", { OPEN,
		C("EHLO pc"), S("250 mx"), C("BDAT 0 LAST"), S("250 Queued"),
		C("QUIT"), S("221 Bye"), NULL } },
	{ "BDAT of nothing", true, STAGE_DATA, 0, 0, 0, "", "pc", { OPEN,
		C("EHLO pc"), S("250 mx"), C("BDAT x"), S("501 No"), NULL } },
	{ "a body before 354", true, STAGE_RCPT_TO, 1, 0, 0, "", "pc", { OPEN,
		C("HELO pc"), S("250 mx"), C("MAIL FROM:<a>\nRCPT TO:<b>\n"
		"DATA\nRCPT TO:<c>\n."), S("250 a\n250 b\n354 Go\n250 Queued"),
		NULL } },
	{ "AUTH is not looked at", true, STAGE_EHLO, 0, 0, 0, "", "pc", { OPEN,
		C("EHLO pc"), S("250 mx"), C("AUTH PLAIN eA=="), S("535 No"),
		C("MAIL FROM:<a>"), S("250 a"), NULL } },
	{ "garbage from the server", true, STAGE_EHLO, 0, 0, 0, "", "pc", {
		OPEN, C("EHLO pc"), S("Hello"), C("RCPT TO:<a>"), S("550 No"),
		NULL } },
	{ "a reply too many", true, STAGE_EHLO, 0, 0, 0, "", "pc", { OPEN,
		C("EHLO pc"), S("250 mx"), S("250 mx"), C("RCPT TO:<a>"),
		NULL } },
	{ "goodbye unasked", false, STAGE_EHLO, 0, 0, 0, "", "pc", { OPEN,
		C("EHLO pc"), S("250 mx"), S("421 Slow"), NULL } },
	{ "no welcome", false, STAGE_GREETING, 0, 0, 554, "5.7.1", "", {
		"! dial plain:0", "U", S("554 5.7.1 Go away"), C("QUIT"),
		S("221 Bye"), NULL } },
	{ "an unknown command", false, STAGE_EHLO, 0, 0, 500, "", "pc", { OPEN,
		C("XYZZY"), S("500 What?"), C("HELO pc"), S("250 mx"), NULL } },
	{ "bare LF", false, STAGE_RCPT_TO, 1, 0, 0, "", "pc", { OPEN,
		"X HELO pc\nMAIL FROM:<a>\nRCPT TO:<b>\n",
		"y HELO pc\nMAIL FROM:<a>\nRCPT TO:<b>\n",
		S("250 mx\n250 a\n250 b"), NULL } },
	{ "unreachable: no words", false, STAGE_NONE, 0, 0, 0, "", "", {
		"! dial plain:0", "F connect-failed refused",
		"! fail connect-failed", NULL } },
};

/* 0, or 1: it went otherwise, or something else was seen. */
static unsigned
play_way(const struct dialogue *row, size_t way)
{
	struct context x;
	struct drive d;
	unsigned bad = 0;

	start(&d, &x);
	const struct notes *n = &d.m.notes;
	if (drive_play(&d, row->script, way) == -1 ||
	    d.m.u.watch.opaque != row->opaque ||
	    n->stage != row->stage || n->rcpts != row->rcpts ||
	    n->messages != row->messages || n->code != row->code ||
	    strcmp(n->esc, row->esc) != 0 ||
	    n->helo_len != strlen(row->helo) ||
	    memcmp(n->helo, row->helo, n->helo_len) != 0) {
		print_message("# %s, cut way %zu: opaque %d stage %u rcpts %u "
			"messages %u code %u %s helo \"%.*s\"\n", row->name,
			way, d.m.u.watch.opaque, n->stage, n->rcpts,
			n->messages, n->code, n->esc, n->helo_len, n->helo);
		bad = 1;
	}
	drive_close(&d);
	return bad;
}

static void
scripts(void **state)
{
	unsigned bad = 0;

	(void)state;
	for (size_t i = 0; i < N(dialogues); i++)
		for (size_t way = 0; way < drive_ways(dialogues[i].script);
			way++)
			bad += play_way(&dialogues[i], way);
	assert_int_equal(bad, 0);
}

/* One dialogue, each side cut in two at every place: the same is seen. */
static void
cuts(void **state)
{
	static const char client[] = "EHLO pc\r\nMAIL FROM:<a@b.example>\r\n"
		"RCPT TO:<c@d.example>\r\nDATA\r\n";
	static const char server[] = "220 mx\r\n250-mx\r\n250 SIZE\r\n250 a\r\n"
		"550 5.7.1 No\r\n354 Go\r\n";
	static const char mail[] = "Subject: x\r\n\r\n..\r\nRCPT TO:<x>\r\n"
		".\r\nBDAT 7 LAST\r\nRCPT\r\n.QUIT\r\n";
	static const char end[] = "250 Queued\r\n250 Queued\r\n221 Bye\r\n";

	(void)state;
	for (size_t cut = 0; cut < sizeof(client); cut++) {
		size_t at = cut % sizeof(mail), back = cut % sizeof(server);
		struct context x;
		struct drive d;

		start(&d, &x);
		drive_greet(&d);
		drive_upstream(&d);
		drive_send(&d, CLIENT, client, cut, 0);
		drive_send(&d, CLIENT, client + cut, sizeof(client) - 1 - cut,
			0);
		drive_send(&d, SERVER, server, back, 0);
		drive_send(&d, SERVER, server + back,
			sizeof(server) - 1 - back, 0);
		drive_send(&d, CLIENT, mail, at, 0);
		drive_send(&d, CLIENT, mail + at, sizeof(mail) - 1 - at, 0);
		drive_send(&d, SERVER, end, sizeof(end) - 1, 0);
		assert_false(d.m.u.watch.opaque);
		assert_int_equal(d.m.notes.rcpts, 1);
		assert_int_equal(d.m.notes.messages, 2);
		assert_int_equal(d.m.notes.code, 550);
		assert_int_equal(d.m.u.watch.n_expected, 0);
		assert_int_equal(d.out[SERVER].len, sizeof(client) - 1 +
			sizeof(mail) - 1);
		drive_close(&d);
	}
}

/* More unanswered commands than are remembered; a line longer than is kept. */
static void
bounds(void **state)
{
	struct context x;
	struct drive d;

	(void)state;
	start(&d, &x);
	drive_greet(&d);
	drive_upstream(&d);
	for (int i = 0; i < WATCH_FIFO - 1; i++)
		drive_send(&d, CLIENT, "NOOP\r\n", 6, 0);
	assert_false(d.m.u.watch.opaque);
	drive_send(&d, CLIENT, "NOOP\r\n", 6, 0);
	assert_true(d.m.u.watch.opaque);
	drive_send(&d, CLIENT, "NOOP\r\n", 6, 0);
	assert_int_equal(d.out[SERVER].len, 6 * (WATCH_FIFO + 1));
	drive_close(&d);

	for (size_t len = WATCH_LINE - 4; len < 3 * WATCH_LINE; len++) {
		static char line[3 * WATCH_LINE + 2];

		memset(line, 'x', sizeof(line));
		memcpy(line, "RCPT TO:<", 9);
		memcpy(line + len, "\r\n", 2);
		start(&d, &x);
		drive_greet(&d);
		drive_upstream(&d);
		drive_send(&d, SERVER, "220 mx\r\n", 8, 0);
		drive_send(&d, CLIENT, line, len + 2, len % 2);
		drive_send(&d, SERVER, "550 5.1.1 No\r\n", 14, 0);
		assert_false(d.m.u.watch.opaque);
		assert_int_equal(d.m.notes.rcpts, 1);
		assert_int_equal(d.m.notes.code, 550);
		drive_close(&d);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(scripts),
		cmocka_unit_test(cuts),
		cmocka_unit_test(bounds),
	};

	return cmocka_run_group_tests_name("smtp_relay", tests, NULL, NULL);
}
