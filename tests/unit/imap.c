/*
 * imap.c - unit tests of proxyd/imap.c and imap_text.c
 *
 * Both sides as scripts (tests/drive.h), cut in every way that drive.h has. The
 * point of most rows: what the client's password manager will make of it, and
 * that no octet of a literal is ever taken for a command.
 */
#include "proxyd/imap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/drive.h"

#define N(a) (sizeof(a) / sizeof((a)[0]))

static struct server_conf server[] = {
	{ .name = (char[]){ "imap.isp.example" }, .imap = { TLS_IMPLICIT, 993 } },
	{ .name = (char[]){ "imap.isp.example" }, .imap = { TLS_STARTTLS, 143 } },
	{ .name = (char[]){ "imap.isp.example" }, .imap = { TLS_PLAIN, 1143 } },
};

static void
start(struct drive *d, struct context *x, int which)
{
	memset(x, 0, sizeof(*x));
	x->gateway = "gw1.isp.example";
	x->server = &server[which];
	memcpy(x->id, "ID0", 4);
	drive_open(d);
	imap_init(&d->m, x);
}

#define DIAL(answer) "! dial tls:993", "x NN", "U", "! ask", "x NN", \
	"O " answer, "x NL"
/* An attack that has to be there at once. */
#define WHOLE 8

#define OPEN DIAL("no"), \
	"S * OK [CAPABILITY IMAP4rev1 LITERAL+ AUTH=PLAIN] Dovecot ready.", \
	"c * OK [CAPABILITY IMAP4rev1 LITERAL+ AUTH=PLAIN] Dovecot ready.", \
	"x LL"
#define SHOWN DIAL("yes"), "S * OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] Hi", \
	"c * OK [CAPABILITY IMAP4rev1 AUTH=PLAIN STARTTLS] Hi", "x LL"
#define C(line) "C " line, "s " line, "x NL"
#define S(line) "S " line, "c " line
#define WHY(words) "[UNAVAILABLE] imap.isp.example: " words " (ref ID0)"
#define BYE(words) "c * BYE " WHY(words)
#define NO(words) "c a NO " WHY(words), BYE(words)
#define NONE "sent a reply that is none"

static const struct dialogue {
	const char *name;
	int server;		/* WHOLE: also: never in pieces */
	const char *script[48];
} dialogues[] = {
	{ "LOGIN", 0, { OPEN, C("a LOGIN kenji secret"), S("a OK Logged in"),
		"x RR", "C b SELECT INBOX", "s b SELECT INBOX",
		"Y * 1 EXISTS {3}\r", "z * 1 EXISTS {3}\r", "X ~\r{9+}",
		"y ~\r{9+}", NULL } },
	{ "words in any case", 0, { OPEN, C("A1 login k s"), S("A1 ok in"),
		"x RR", NULL } },
	{ "capabilities in the OK of LOGIN", 0, { SHOWN, C("a LOGIN k s"),
		"S a OK [CAPABILITY IMAP4rev1 IDLE STARTTLS AUTH=X-PLUS] Hi",
		"c a OK [CAPABILITY IMAP4rev1 IDLE] Hi", "x RR", NULL } },
	{ "capabilities before the OK of LOGIN", 0, { SHOWN, C("a LOGIN k s"),
		"S * CAPABILITY IMAP4rev1 COMPRESS=DEFLATE STARTTLS",
		"c * CAPABILITY IMAP4rev1 COMPRESS=DEFLATE", "x NL",
		S("a OK"), "x RR", NULL } },
	{ "capabilities behind a wrong password", 0, { SHOWN, C("a LOGIN k s"),
		"S a NO [CAPABILITY IMAP4rev1] No",
		"c a NO [CAPABILITY IMAP4rev1 STARTTLS] No", "x LL", NULL } },
	{ "capabilities asked", 0, { OPEN, C("a CAPABILITY"),
		"S * CAPABILITY IMAP4rev1  AUTH=PLAIN AUTH=SCRAM-SHA-256-PLUS "
		"auth=gssapi AUTH=EXTERNAL SASL-IR starttls ID ENABLE",
		"c * CAPABILITY IMAP4rev1 AUTH=PLAIN auth=gssapi SASL-IR ID "
		"ENABLE", S("a OK done"), "x LL", NULL } },
	{ "capabilities unasked", 0, { SHOWN,
		"S * CAPABILITY IMAP4rev2 STARTTLS STARTTLSX XSTARTTLS",
		"c * CAPABILITY IMAP4rev2 STARTTLSX XSTARTTLS STARTTLS",
		"S * OK [CAPABILITY STARTTLS] x",
		"c * OK [CAPABILITY STARTTLS] x", "x LL", NULL } },
	{ "an empty list", 0, { DIAL("no"), "S * OK [CAPABILITY] x",
		"c * OK [CAPABILITY] x", "x LL", NULL } },
	{ "a list that does not end", 0, { DIAL("no"),
		"S * OK [CAPABILITY IMAP4rev1 STARTTLS", "! fail server-protocol",
		BYE(NONE ": * OK [CAPABILITY IMAP4rev1 STARTTLS"), NULL } },
	{ "LOGINDISABLED inside TLS is meant", 0, { DIAL("no"),
		"S * OK [CAPABILITY IMAP4rev1 LOGINDISABLED] x",
		"c * OK [CAPABILITY IMAP4rev1 LOGINDISABLED] x", NULL } },
	{ "a greeting without a list", 0, { DIAL("yes"), "S * OK Hello",
		"s sp1 CAPABILITY", "x NL",
		"S * CAPABILITY IMAP4rev1 STARTTLS IDLE\n* OK noted\n"
		"* ID NIL\nsp1 OK",
		"c * OK [CAPABILITY IMAP4rev1 IDLE STARTTLS] imap.isp.example "
		"ready", "x LL", NULL } },
	{ "a greeting without text, and no list at all", 0, { DIAL("no"),
		"S * OK", "s sp1 CAPABILITY", "S sp1 BAD what?",
		"c * OK imap.isp.example ready", "x LL", NULL } },
	{ "a greeting with another code", 0, { DIAL("no"),
		S("* OK [ALERT] Down at nine"), "x LL", NULL } },
	{ "PREAUTH", 0, { DIAL("no"), "S * PREAUTH Hello root",
		"! fail server-greeting",
		BYE("refuses service: * PREAUTH Hello root"), NULL } },
	{ "PREAUTH later", 0, { OPEN, C("a NOOP"), "S * PREAUTH now",
		"! fail server-protocol", BYE(NONE ": * PREAUTH now"), NULL } },
	{ "BYE as greeting", 0, { DIAL("no"), "S * BYE [ALERT] Full",
		"! fail server-greeting",
		BYE("refuses service: * BYE [ALERT] Full"), NULL } },
	{ "no IMAP", 0, { DIAL("no"), "S 220 smtp", "! fail server-greeting",
		BYE("refuses service: 220 smtp"), NULL } },
	{ "a wrong password stays parsed", 0, { OPEN, C("a LOGIN k x"),
		S("a NO [AUTHENTICATIONFAILED] No"), "x LL", C("b LOGIN k y"),
		S("b OK in"), "x RR", NULL } },
	{ "pipelined", 0, { OPEN, "C a ID NIL\nb LOGIN k s\nc SELECT INBOX",
		"s a ID NIL", "x NL", S("* ID NIL\na OK"), "s b LOGIN k s",
		S("b OK"), "s c SELECT INBOX", "x RR", NULL } },
	{ "pipelined, wrong password", 0, { OPEN, "C b LOGIN k s\nc SELECT X",
		"s b LOGIN k s", S("b NO"), "s c SELECT X", S("c BAD login"),
		"x LL", NULL } },
	{ "literals", 0, { OPEN, "C a LOGIN {5}", "s a LOGIN {5}", "x NL",
		S("+ go"), "x CN", "X kenji", "y kenji", "x LN",
		"C  {6}", "s  {6}", "x NL", S("+"), "X secret", "y secret",
		"x LN", "C ", "s ", "x NL", S("a OK"), "x RR", NULL } },
	{ "literals that do not wait", 0, { OPEN,
		"X a LOGIN {5+}\r\nkenji {6+}\r\nb NOOP\r\nc NOOP\r\n",
		"y a LOGIN {5+}\r\nkenji {6+}\r\nb NOOP\r\n", "x NL",
		S("a NO"), "s c NOOP", "x NL", NULL } },
	{ "literals with CRLF and NUL inside", 0, { OPEN,
		"X a LOGIN {8+}\r\na\r\n~\rb\r\n\r\n", "y a LOGIN {8+}\r\na\r\n~\rb\r\n",
		"y \r\n", S("a BAD"), "x LL", NULL } },
	{ "empty literals", 0, { OPEN, "X a LOGIN {0+}\r\n {0}\r\n",
		"y a LOGIN {0+}\r\n {0}\r\n", "x NL", S("+ go"), "x LN",
		"X \r\n", "y \r\n", "x NL", S("a NO"), "x LL", NULL } },
	{ "a literal without leave", 0, { OPEN, "C a LOGIN {5}\nb NOOP",
		"s a LOGIN {5}", S("a BAD [TOOBIG] no"), "s b NOOP", "x NL",
		NULL } },
	{ "no literal at all", 0, { OPEN, C("a LOGIN k p{5"), S("a NO"),
		C("b LOGIN k p{}"), S("b NO"), C("c LOGIN k {+}"), S("c NO"),
		C("d LOGIN k {5}x"), S("d NO"), C("e LOGIN k 5}"), S("e NO"),
		NULL } },
	{ "a literal as long as it may be", 0, { OPEN, "C a X {65536}",
		"s a X {65536}", S("+"), "x CN", NULL } },
	{ "a longer one", 0, { OPEN, "C a X {65537+}", "s a X {65537+}",
		"! fail line-too-long", BYE("line too long"), NULL } },
	{ "a much longer one", 0, { OPEN, "C a LOGIN {99999999999999999999}",
		"s a LOGIN {99999999999999999999}", "! fail line-too-long",
		NO("line too long"), NULL } },
	{ "ID with literals, both ways", 0, { OPEN, "C a ID (\"n\" {2}",
		"s a ID (\"n\" {2}", S("+ go"), "X xy)\r\n", "y xy)\r\n",
		"Y * ID (\"v\" {4}\r\n", "z * ID (\"v\" {4}\r\n", "x NC",
		"Y a OK", "z a OK", "Y  {0}\r\n", "z  {0}\r\n", "x NL",
		"Y )\r\na OK\r\n", "z )\r\na OK\r\n", "x LL", NULL } },
	{ "a literal unasked keeps the client's turn", 0, { OPEN,
		"Y * X {1}\r\n", "z * X {1}\r\n", "x NC", "Y *\r\n", "z *\r\n",
		"x LL", C("a NOOP"), NULL } },
	{ "AUTHENTICATE", 0, { OPEN, C("a AUTHENTICATE PLAIN"), S("+ "),
		"x LL", C("AGEAYg=="), S("a OK [CAPABILITY IMAP4rev1] in"),
		"x RR", NULL } },
	{ "AUTHENTICATE with a first response", 0, { OPEN,
		C("a authenticate plain AGEAYg=="), S("a NO No"), "x LL",
		NULL } },
	{ "AUTHENTICATE cancelled", 0, { OPEN, C("a AUTHENTICATE LOGIN"),
		S("+ VXNlcm5hbWU6"), C("*"), S("a BAD cancelled"), "x LL",
		NULL } },
	{ "AUTHENTICATE: a response that looks like a command", 0, { SHOWN,
		C("a AUTHENTICATE LOGIN"), S("+"), C("a STARTTLS"),
		S("+"), C("a LOGIN {5+}"), S("a NO"), NULL } },
	{ "AUTHENTICATE: an OAuth failure's empty line", 0, { OPEN,
		C("a AUTHENTICATE XOAUTH2 dXNlcg=="), S("+ eyJzdGF0dXMi"),
		C(""), S("a NO [AUTHENTICATIONFAILED]"), "x LL", NULL } },
	{ "AUTHENTICATE that is not carried", 0, { OPEN,
		"C a AUTHENTICATE SCRAM-SHA-1-PLUS biws",
		"c a NO Mechanism is not offered here", "C b AUTHENTICATE",
		"c b NO Mechanism is not offered here",
		"C c AUTHENTICATE {5}", "c c NO Mechanism is not offered here",
		"x LL", NULL } },
	{ "octets behind what we refuse", 0, { OPEN,
		"C a AUTHENTICATE {5+}\nEXTER", "! fail client-protocol",
		BYE("command not understood"), NULL } },
	{ "COMPRESS before the login", 0, { OPEN, C("a COMPRESS DEFLATE"),
		S("a BAD not now"), "x LL", C("b COMPRESS DEFLATE"), S("b OK"),
		"x RR", NULL } },
	{ "ENABLE before the login", 0, { OPEN, C("a ENABLE CONDSTORE"),
		S("a BAD not now"), "x LL", NULL } },
	{ "LOGOUT", 0, { OPEN, C("a LOGOUT"), S("* BYE see you\na OK bye"),
		"! close done", NULL } },
	{ "a goodbye unasked", 0, { OPEN, S("* BYE idle too long"),
		"! close server-eof", NULL } },
	{ "a goodbye instead of an answer", 0, { OPEN, C("a LOGIN k s"),
		S("* BYE too many"), "! close server-eof", NULL } },
	{ "STARTTLS is not offered", 0, { OPEN, "C a STARTTLS",
		"c a BAD STARTTLS is not offered", "x LL", C("b NOOP"), NULL } },
	{ "STARTTLS has no argument", 0, { SHOWN, "C a STARTTLS now",
		"c a BAD STARTTLS is not offered", NULL } },
	{ "STARTTLS", 0, { SHOWN, "C A7 STARTTLS", "! dial plain:0", "x NN",
		"U", "x NL", "S * OK [CAPABILITY IMAP4rev1 STARTTLS] clear",
		"s A7 STARTTLS", "S * CAPABILITY X\n* OK hm\nA7 OK Begin",
		"c A7 OK Begin TLS negotiation now", "! tunnel", "x RR",
		"X \x16\x03", "y \x16\x03", NULL } },
	{ "STARTTLS, and a command behind it", WHOLE, { SHOWN,
		"C a STARTTLS\nb NOOP", "! fail tls-injection",
		NO("clear octets where TLS begins"), NULL } },
	{ "STARTTLS, and a reply behind the server's", WHOLE, { SHOWN,
		"C a STARTTLS", "! dial plain:0", "U", "S * OK", "s a STARTTLS",
		"S a OK go\n* BYE evil", "c a OK Begin TLS negotiation now",
		"! fail tls-injection", NULL } },
	{ "STARTTLS: the port refuses", 0, { SHOWN, "C a STARTTLS",
		"! dial plain:0", "U", "S * OK", "s a STARTTLS", "S a NO",
		"! fail no-starttls", NO("does not offer STARTTLS: a NO"),
		NULL } },
	{ "STARTTLS: the port says PREAUTH", 0, { SHOWN, "C a STARTTLS",
		"! dial plain:0", "U", "S * PREAUTH", "! fail server-greeting",
		NO("refuses service: * PREAUTH"), NULL } },
	{ "STARTTLS: the port is gone", 0, { SHOWN, "C a STARTTLS",
		"! dial plain:0", "F connect-failed refused",
		"! fail connect-failed", NO("cannot be reached: refused"),
		NULL } },
	{ "upstream by STARTTLS", 1, { "! dial starttls:143", "U", "! ask",
		"O no", "S * OK [CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED] c",
		"s sp0 STARTTLS", "x NL", "S * OK hm\nsp0 OK go", "! tls", "U",
		"s sp1 CAPABILITY", "S * CAPABILITY IMAP4rev1 AUTH=PLAIN\nsp1 OK",
		"c * OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] imap.isp.example ready",
		"x LL", C("a LOGIN k s"), S("a OK"), "x RR", NULL } },
	{ "upstream: shown while the leg is ours", 1, { "! dial starttls:143",
		"U", "! ask", "O yes", "S * OK x", "s sp0 STARTTLS",
		"S sp0 OK", "! tls", "U", "s sp1 CAPABILITY",
		"S * CAPABILITY IMAP4rev1\nsp1 OK",
		"c * OK [CAPABILITY IMAP4rev1 STARTTLS] imap.isp.example ready",
		NULL } },
	{ "upstream: octets behind its OK", WHOLE + 1, { "! dial starttls:143", "U",
		"! ask", "O no", "S * OK x", "s sp0 STARTTLS",
		"S sp0 OK go\n* OK evil", "! fail tls-injection",
		BYE("clear octets where TLS begins"), NULL } },
	{ "upstream: PREAUTH in clear", 1, { "! dial starttls:143", "U",
		"! ask", "O no", "S * PREAUTH hi", "! fail server-greeting",
		BYE("refuses service: * PREAUTH hi"), NULL } },
	{ "upstream: no STARTTLS", 1, { "! dial starttls:143", "U", "! ask",
		"O no", "S * OK x", "s sp0 STARTTLS", "S sp0 BAD no",
		"! fail no-starttls",
		BYE("does not offer STARTTLS: sp0 BAD no"), NULL } },
	{ "upstream: goodbye instead", 1, { "! dial starttls:143", "U", "! ask",
		"O no", "S * OK x", "s sp0 STARTTLS", "S * BYE",
		"! fail server-greeting", BYE("refuses service: * BYE"), NULL } },
	{ "upstream in clear", 2, { "! dial plain:1143", "U", "! ask", "O no",
		"S * OK [CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED] x",
		"c * OK [CAPABILITY IMAP4rev1 LOGINDISABLED] x", "x LL", NULL } },
	{ "no tag", 0, { OPEN, "C ", "c * BAD A command has a tag", "C noop",
		"c * BAD A command has a tag", "C + NOOP",
		"c * BAD A command has a tag", "C a{5} NOOP",
		"c * BAD A command has a tag", "x LL", NULL } },
	{ "a tag that is too long", 0, { OPEN,
		"C 123456789012345678901234567890123456789012345678901234567890"
		"12345 NOOP", "c * BAD A command has a tag", NULL } },
	{ "bare LF", 0, { OPEN, "X a LOGIN k s\n", "s a LOGIN k s",
		"Y a OK\n", "c a OK", "x RR", NULL } },
	{ "a bare CR", 0, { OPEN, "X a LOGIN k s\rb NOOP\r\n",
		"! fail client-protocol", BYE("command not understood"), NULL } },
	{ "NUL", 0, { OPEN, "X a LOGIN ~ x\r\n", "! fail nul-byte",
		BYE("NUL byte in a command"), NULL } },
	{ "server: NUL", 0, { OPEN, C("a NOOP"), "Y a OK ~\r\n",
		"! fail server-protocol", BYE(NONE ": a OK ?"), NULL } },
	{ "server: another tag", 0, { OPEN, C("a NOOP"), "S b OK",
		"! fail server-protocol", BYE(NONE ": b OK"), NULL } },
	{ "server: a tag at the wrong time", 0, { OPEN, "S a OK",
		"! fail server-protocol", BYE(NONE ": a OK"), NULL } },
	{ "server: a plus at the wrong time", 0, { OPEN, C("a NOOP"), "S + go",
		"! fail server-protocol", BYE(NONE ": + go"), NULL } },
	{ "server: a plus for a login without a literal", 0, { OPEN,
		C("a LOGIN k s"), "S + go", "! fail server-protocol", NO(NONE),
		NULL } },
	{ "server: a tagged goodbye", 0, { OPEN, C("a NOOP"), "S a BYE",
		"! fail server-protocol", BYE(NONE ": a BYE"), NULL } },
	{ "server: garbage at the login", 0, { OPEN, C("a LOGIN k secret"),
		"S secret what?", "! fail server-protocol", NO(NONE), NULL } },
	{ "unreachable", 0, { "! dial tls:993", "F connect-failed refused",
		"! fail connect-failed", BYE("cannot be reached: refused"),
		NULL } },
	{ "certificate", 0, { "! dial tls:993", "F certificate mismatch",
		"! fail certificate",
		BYE("certificate not accepted: mismatch"), NULL } },
	{ "the server vanishes at the login", 0, { OPEN, C("a LOGIN k s"), "E",
		"! fail server-eof", NO("closed the connection"), NULL } },
	{ "the server vanishes inside AUTHENTICATE", 0, { OPEN,
		C("a AUTHENTICATE LOGIN"), S("+"), "E", "! fail server-eof",
		NO("closed the connection"), NULL } },
	{ "the server is silent at the login", 0, { OPEN, C("a LOGIN k s"),
		"F server-timeout", "! fail server-timeout", NO("is silent"),
		NULL } },
	{ "no word of ours inside a literal", 0, { OPEN, C("a ID NIL"),
		S("* ID (\"a\" {9}"), "E", "! fail server-eof", NULL } },
	{ "no word of ours inside a mail", 0, { OPEN, C("a LOGIN k s"),
		S("a OK"), "F drain", "! fail drain", NULL } },
};

static void
scripts(void **state)
{
	unsigned bad = 0;

	(void)state;
	for (size_t i = 0; i < N(dialogues); i++) {
		const struct dialogue *row = &dialogues[i];
		size_t ways = row->server & WHOLE ? 1 : drive_ways(row->script);

		for (size_t way = 0; way < ways; way++) {
			struct context x;
			struct drive d;

			start(&d, &x, row->server & ~WHOLE);
			if (drive_play(&d, row->script, way) == -1) {
				print_message("# %s\n", row->name);
				bad++;
			}
			drive_close(&d);
		}
	}
	assert_int_equal(bad, 0);
}

static const char *const open_script[] = { OPEN, NULL };

/* Every reason the engine may have: one line before a login, two at it, each
 * with the code that keeps saved passwords. */
static void
farewells(void **state)
{
	static const char *const login[] = { OPEN, C("a LOGIN k s"), NULL };

	(void)state;
	for (int i = 2 * REASON_DONE; i < 2 * REASON_COUNT; i++) {
		struct context x;
		struct drive d;
		struct line l;

		start(&d, &x, 0);
		assert_int_equal(drive_play(&d, i % 2 ? login : open_script, 0),
			0);
		drive_fail(&d, (enum reason)(i / 2), "x");
		const uint8_t *p = d.out[CLIENT].p + d.out[CLIENT].seen;
		size_t n = drive_left(&d.out[CLIENT]);
		assert_int_equal(frame_line(p, n, &l), 1);
		assert_int_equal(l.flags, 0);
		assert_true(l.total <= 512);
		if (i % 2) {
			assert_memory_equal(l.text, "a NO [UNAVAILABLE] ", 19);
			p += l.total;
			n -= l.total;
			assert_int_equal(frame_line(p, n, &l), 1);
		}
		assert_memory_equal(l.text, "* BYE [UNAVAILABLE] ", 20);
		assert_int_equal(l.total, n);
		drive_close(&d);
	}
}

/* IDLE: RFC 9051 section 5.4 wants thirty minutes, programs renew after 29. */
static void
limits(void **state)
{
	static const char *const login[] = { OPEN, C("a LOGIN k s"), S("a OK"),
		NULL };
	struct context x;
	struct drive d;

	(void)state;
	start(&d, &x, 0);
	assert_int_equal(drive_play(&d, login, 0), 0);
	assert_true(d.m.client_wait > 1800);
	assert_true(d.m.server_wait > 1800);
	assert_false(d.m.dialling);
	drive_close(&d);
}

static void
floods(void **state)
{
	struct context x;
	struct drive d;
	int n = 0;

	(void)state;
	start(&d, &x, 0);
	assert_int_equal(drive_play(&d, open_script, 0), 0);
	while (!d.closed && n++ < 300)
		drive_send(&d, SERVER, "* OK x\r\n", 8, 0);
	assert_int_equal(n, 201);
	assert_int_equal(d.m.reason, REASON_SERVER_PROTOCOL);
	drive_close(&d);

	n = 0;
	start(&d, &x, 0);
	assert_int_equal(drive_play(&d, open_script, 0), 0);
	while (!d.closed && n++ < 300)
		drive_send(&d, CLIENT, "a STARTTLS\r\n", 12, 0);
	assert_int_equal(n, 21);
	assert_int_equal(d.m.reason, REASON_TOO_MANY_ERRORS);
	assert_int_equal(drive_left(&d.out[SERVER]), 0);
	drive_close(&d);

	n = 0;
	start(&d, &x, 0);
	assert_int_equal(drive_play(&d, open_script, 0), 0);
	drive_send(&d, CLIENT, "a X", 3, 0);
	while (!d.closed && n++ < 300)
		drive_send(&d, CLIENT, " {1+}\r\nx", 8, 0);
	assert_int_equal(n, 65);
	assert_int_equal(d.m.reason, REASON_LINE_TOO_LONG);
	drive_close(&d);
}

/* A server that repeats what it did not like must not bring a password into
 * the log. */
static void
no_password_is_noted(void **state)
{
	static const struct {
		const char *answer, *detail;
	} rows[] = {
		{ "a BAD unknown: LOGIN k secret", "" },
		{ "a NO [AUTHENTICATIONFAILED] secret", "[AUTHENTICATIONFAILED]" },
		{ "a NO [", "" }, { "a NO", "" }, { "a NOsecret", "" },
		{ "secret", "" }, { "* PREAUTH secret", "" },
		{ "a NO [secretsecretsecretsecretsecret]", "" },
	};
	static const char *const script[] = { OPEN, C("a LOGIN k secret"),
		NULL };

	(void)state;
	for (size_t i = 0; i < N(rows); i++) {
		struct context x;
		struct drive d;

		start(&d, &x, 0);
		assert_int_equal(drive_play(&d, script, 0), 0);
		drive_send(&d, SERVER, rows[i].answer, strlen(rows[i].answer),
			0);
		drive_send(&d, SERVER, "\r\n", 2, 0);
		assert_string_equal(d.m.notes.detail, rows[i].detail);
		drive_close(&d);
	}
}

/* The whole of a long literal, in pieces as they come. */
static void
long_literal(void **state)
{
	static const char *const script[] = { OPEN, "C a AUTHENTICATE NTLM",
		"s a AUTHENTICATE NTLM", S("+"), "C b", "s b", S("+"), "C {65536}",
		"s {65536}", S("a NO"), "C c LOGIN {65536+}",
		"s c LOGIN {65536+}", NULL };
	static uint8_t block[LITERAL_MAX_OCTETS];
	struct context x;
	struct drive d;

	(void)state;
	memset(block, '\n', sizeof(block));
	start(&d, &x, 0);
	assert_int_equal(drive_play(&d, script, 0), 0);
	drive_send(&d, CLIENT, block, sizeof(block), 40000);
	assert_false(d.closed);
	assert_int_equal(drive_left(&d.out[SERVER]), sizeof(block));
	assert_int_equal(d.m.expect[CLIENT], EXPECT_LINE);
	drive_close(&d);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(scripts),
		cmocka_unit_test(farewells),
		cmocka_unit_test(limits),
		cmocka_unit_test(floods),
		cmocka_unit_test(no_password_is_noted),
		cmocka_unit_test(long_literal),
	};

	return cmocka_run_group_tests_name("imap", tests, NULL, NULL);
}
