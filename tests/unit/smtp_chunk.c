/*
 * smtp_chunk.c - unit tests of proxyd/smtp_chunk.c, and of smtp.strict
 *
 * What submit does to octets: BDAT carries them as they are or eats them, a
 * strict gateway refuses what it otherwise mends. Scripts as in smtp_submit.c,
 * each cut in every way that drive.h has.
 */
#include "tests/submit.h"

#define CHUNKS DIALLED, "S 220 x", "s EHLO pc", "S 250-x\n250-SIZE 1000\n" \
	"250-CHUNKING\n250-BINARYMIME\n250 AUTH PLAIN", \
	"c 250-mail.isp.example\n250-CHUNKING\n250-BINARYMIME\n" \
	"250-SIZE 1000\n250-AUTH PLAIN\n250 STARTTLS"
#define CHUNKING CHUNKS, LOGIN, ENVELOPE
#define NO_MAIL "c 503 5.5.1 No mail to add a chunk to"
#define ODD_SIZE(text) { text, IMPLICIT, false, { CHUNKING, "X " text "\r\n", \
	"! fail client-protocol", \
	SAYS("500 5.5.2", "command not understood"), NULL } }

static void
chunks(void **state)
{
	static const struct dialogue rows[] = {
		{ "octets untouched", IMPLICIT, false, { CHUNKING, "X BDAT 20\r\n",
			"y BDAT 20\r\n", "x CN", "X a\n.\nb\r~\r\n.\r\nQUIT\r\n.",
			"y a\n.\nb\r~\r\n.\r\nQUIT\r\n.", NULL } },
		{ "two and LAST", IMPLICIT, false, { CHUNKING, "X BDAT 7\r\n",
			"y BDAT 7\r\n", "X NOOP\r\n.", "y NOOP\r\n.", "x NL",
			"S 250 2.0.0 7", "c 250 2.0.0 7", "x LL",
			"X bdat 003  last\r\n", "y BDAT 3 LAST\r\n", "X ~\n.",
			"y ~\n.", "x NL", "S 250 2.0.0 Queued",
			"c 250 2.0.0 Queued", "x LL", BYE, NULL } },
		{ "pipelined, in lockstep", IMPLICIT, false, { CHUNKS, LOGIN,
			"X MAIL FROM:<a>\r\nRCPT TO:<b>\r\nBDAT 2\r\nabBDAT 1 "
			"LAST\r\ncQUIT\r\n", "s MAIL FROM:<a>", "S 250 a",
			"c 250 a", "s RCPT TO:<b>", "S 250 b", "c 250 b",
			"y BDAT 2\r\nab", "x NL", "S 250 2", "c 250 2",
			"y BDAT 1 LAST\r\nc", "S 250 Queued", "c 250 Queued",
			"s QUIT", "S 221 Bye", "c 221 Bye", "! close done",
			NULL } },
		{ "BDAT 0 LAST", IMPLICIT, false, { CHUNKING, "C BDAT 0 LAST",
			"s BDAT 0 LAST", "x NL", "S 250 Queued", "c 250 Queued",
			"C BDAT 0 LAST", NO_MAIL, NULL } },
		{ "BDAT 0", IMPLICIT, false, { CHUNKING, "C BDAT 0", "s BDAT 0",
			"x NL", "S 250 Ok", "c 250 Ok", "C BDAT 0 LAST",
			"s BDAT 0 LAST", NULL } },
		{ "refused by the server: what follows is eaten", IMPLICIT,
			false, { CHUNKING,
			"X BDAT 6\r\nQUIT\r\nBDAT 6 LAST\r\nNOOP\r\nRSET\r\n",
			"y BDAT 6\r\nQUIT\r\n", "S 452 4.3.1 Full",
			"c 452 4.3.1 Full", NO_MAIL, "s RSET", "S 250 Ok",
			"c 250 Ok", ENVELOPE, NULL } },
		{ "before the login", IMPLICIT, false, { CHUNKS,
			"X BDAT 6 LAST\r\nQUIT\r\n", NOT_AUTHED, "x LL",
			NULL } },
		{ "no mail", IMPLICIT, false, { CHUNKS, LOGIN,
			"X BDAT 6 LAST\r\nQUIT\r\n", NO_MAIL, "x LL", NULL } },
		{ "no recipient", IMPLICIT, false, { CHUNKS, LOGIN,
			"C MAIL FROM:<a>\nRCPT TO:<b>", "s MAIL FROM:<a>",
			"S 250 a", "c 250 a", "s RCPT TO:<b>", "S 550 b",
			"c 550 b", "X BDAT 6 LAST\r\nQUIT\r\n",
			"c 554 5.5.1 No valid recipients", NULL } },
		{ "after RSET", IMPLICIT, false, { CHUNKING, "C RSET", "s RSET",
			"S 250 Ok", "c 250 Ok", "X BDAT 3\r\nabc", NO_MAIL,
			NULL } },
		{ "after EHLO", IMPLICIT, false, { CHUNKING, "C EHLO pc",
			"s EHLO pc", "S 250-x\n250 CHUNKING",
			"c 250-mail.isp.example\n250 CHUNKING",
			"X BDAT 3\r\nabc", NO_MAIL, NULL } },
		{ "too big", IMPLICIT, false, { CHUNKING,
			"X BDAT 2\r\nabBDAT 999 LAST\r\n", "y BDAT 2\r\nab",
			"S 250 2", "c 250 2", "x CL", NULL } },
		{ "too big to be eaten", IMPLICIT, false, { CHUNKING,
			"C BDAT 99999999999 LAST",
			"c 552 5.3.4 The message is too big",
			"! close client-protocol", NULL } },
		{ "DATA after BINARYMIME", IMPLICIT, false, { CHUNKS, LOGIN,
			"C MAIL FROM:<a> body=binarymime",
			"s MAIL FROM:<a> body=binarymime", "S 250 a", "c 250 a",
			"C RCPT TO:<b>", "s RCPT TO:<b>", "S 250 b", "c 250 b",
			"C DATA", "c 503 5.5.1 BINARYMIME needs BDAT", "x LL",
			"X BDAT 2 LAST\r\n~\n", "y BDAT 2 LAST\r\n~\n",
			"S 250 Queued", "c 250 Queued", ENVELOPE, "C DATA",
			"s DATA", "S 354 Go", "c 354 Go", NULL } },
		{ "BINARYMIME refused, then DATA", IMPLICIT, false, { CHUNKS,
			LOGIN, "C MAIL FROM:<a> BODY=BINARYMIME",
			"s MAIL FROM:<a> BODY=BINARYMIME", "S 555 No", "c 555 No",
			ENVELOPE, "C DATA", "s DATA", NULL } },
		{ "a prompt to send more", IMPLICIT, false, { CHUNKING,
			"X BDAT 2\r\nab", "y BDAT 2\r\nab", "S 354 Go",
			"! fail server-protocol", SAYS("421 4.3.0",
			"sent a reply that is none: 354 Go"), NULL } },
		{ "lost inside a chunk", IMPLICIT, false, { CHUNKING,
			"X BDAT 9 LAST\r\nab", "y BDAT 9 LAST\r\nab",
			"F server-reset", "! fail server-reset", SAYS("421 4.4.2",
			"closed the connection"), NULL } },
		{ "lost after a chunk", IMPLICIT, false, { CHUNKING,
			"X BDAT 2\r\nab", "y BDAT 2\r\nab", "E",
			"! fail server-eof", SAYS("421 4.4.2",
			"closed the connection"), NULL } },
		{ "lost after LAST: its fate is unknown", IMPLICIT, false, {
			CHUNKING, "X BDAT 2 LAST\r\nab", "y BDAT 2 LAST\r\nab",
			"E", "! fail server-eof", SAYS("451 4.4.2",
			"closed the connection"), NULL } },
		ODD_SIZE("BDAT"), ODD_SIZE("BDAT x"), ODD_SIZE("BDAT -1 LAST"),
		ODD_SIZE("BDAT 3x"), ODD_SIZE("BDAT 3 LASTS"),
		ODD_SIZE("BDAT 3 LAST x"), ODD_SIZE("BDAT 3\t"),
		ODD_SIZE("BDAT 9999999999999999999"), ODD_SIZE("BDAT 3\rLAST"),
	};

	(void)state;
	play(rows, N(rows));
}

/* Nothing of a chunk is stored, and its size is no limit. */
static void
large_chunk(void **state)
{
	static const char *const script[] = { DIALLED, "S 220 x", "s EHLO pc",
		"S 250-x\n250-CHUNKING\n250 AUTH PLAIN",
		"c 250-mail.isp.example\n250-CHUNKING\n250-AUTH PLAIN\n"
		"250 STARTTLS", LOGIN, ENVELOPE, "C BDAT 300001 LAST",
		"s BDAT 300001 LAST", NULL };
	struct drive_bytes mail = { 0 };
	struct context x;
	struct drive d;

	(void)state;
	start(&d, &x, IMPLICIT);
	assert_int_equal(drive_play(&d, script, 0), 0);
	for (uint32_t i = 0; i < 300001; i++) {
		uint8_t octet = (uint8_t)(i * 2654435761u >> 24);

		drive_append(&mail, &octet, 1);
	}
	for (size_t at = 0; at < mail.len; at += SCRATCH)
		drive_send(&d, CLIENT, mail.p + at, mail.len - at < SCRATCH ?
			mail.len - at : SCRATCH, 0);
	assert_int_equal(drive_left(&d.out[SERVER]), mail.len);
	assert_memory_equal(d.out[SERVER].p + d.out[SERVER].seen, mail.p,
		mail.len);
	assert_int_equal(d.m.u.smtp.state, SMTP_FINAL);
	free(mail.p);
	drive_close(&d);
}

/* smtp.strict: nothing is mended. */
static void
strict(void **state)
{
#define BARE "! hangup", "C x\n.", "c 554 5.6.0 The message holds a bare CR or " \
	"LF; not sent (ref ID0)", "! close bare-line-end", NULL
	static const struct dialogue rows[] = {
		{ "bare LF in a command", IMPLICIT, false, { AUTHED, "X NOOP\n",
			"c 500 5.5.2 Line not understood", "C NOOP", "s NOOP",
			NULL } },
		{ "bare LF behind BDAT", IMPLICIT, false, { CHUNKING,
			"X BDAT 3\n", "! fail client-protocol",
			SAYS("500 5.5.2", "command not understood"), NULL } },
		{ "bare LF inside AUTH", IMPLICIT, false, { READY,
			"C AUTH LOGIN", "s AUTH LOGIN", "S 334 ", "c 334 ",
			"X a\n", "! fail client-protocol",
			SAYS("500 5.5.2", "command not understood"), NULL } },
		{ "a good mail", IMPLICIT, false, { IN_DATA, "C a\n\n..b\n.",
			"s a\n\n..b\n.", "S 250 Ok", "c 250 Ok", NULL } },
		{ "bare LF in a mail", IMPLICIT, false, { IN_DATA, "X \nb",
			BARE } },
		{ "bare CR in a mail", IMPLICIT, false, { IN_DATA, "X \rb",
			BARE } },
		{ "LF.CRLF", IMPLICIT, false, { IN_DATA, "X \n.\r\n", BARE } },
		{ "CRLF.CR x", IMPLICIT, false, { IN_DATA, "X .\rx", BARE } },
		{ "octets of BDAT", IMPLICIT, false, { CHUNKING,
			"X BDAT 4\r\n\r\n\n\r", "y BDAT 4\r\n\r\n\n\r", NULL } },
	};

	(void)state;
	play_as(rows, N(rows), true);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(chunks),
		cmocka_unit_test(large_chunk),
		cmocka_unit_test(strict),
	};

	return cmocka_run_group_tests_name("smtp_chunk", tests, NULL, NULL);
}
