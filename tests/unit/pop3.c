/*
 * pop3.c - unit tests of proxyd/pop3.c and of sasl.c's table
 *
 * Both sides as scripts (tests/drive.h), cut in every way that drive.h has. The
 * point of most rows: what the client's password manager will make of it.
 */
#include "proxyd/sasl.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/drive.h"

#define N(a) (sizeof(a) / sizeof((a)[0]))

static struct server_conf server[] = {
	{ .name = (char[]){ "pop.isp.example" }, .pop3 = { TLS_IMPLICIT, 995 } },
	{ .name = (char[]){ "pop.isp.example" }, .pop3 = { TLS_STARTTLS, 110 } },
	{ .name = (char[]){ "pop.isp.example" }, .pop3 = { TLS_PLAIN, 1110 } },
};

static void
start(struct drive *d, struct context *x, int which)
{
	memset(x, 0, sizeof(*x));
	x->gateway = "gw1.isp.example";
	x->server = &server[which];
	memcpy(x->id, "ID0", 4);
	drive_open(d);
	pop3_init(&d->m, x);
}

/* An attack that has to be there at once. */
#define WHOLE 8

#define OPEN "! dial tls:995", "x NN", "U", "x NL", "S +OK Dovecot ready.", \
	"c +OK Dovecot ready.", "x LL"
/* The first CAPA, of a server whose plain port says so about STLS. */
#define CAPA(answer) "C CAPA", "! ask", "x NL", "O " answer, "s CAPA", "x NL"
#define C(line) "C " line, "s " line, "x NL"
#define S(line) "S " line, "c " line
#define SAYS(words) "c -ERR [SYS/TEMP] pop.isp.example: " words " (ref ID0)"

static const struct dialogue {
	const char *name;
	int server;		/* WHOLE: also: never in pieces */
	const char *script[48];
} dialogues[] = {
	{ "USER and PASS", 0, { OPEN, C("USER a"), S("+OK"), "x LL",
		C("PASS secret"), S("+OK Logged in."), "x RR", "C STAT",
		"s STAT", "Y +OK 1 1", "z +OK 1 1", "X CAPA~\r", "y CAPA~\r",
		NULL } },
	{ "APOP's greeting, octet for octet", 0, { "! dial tls:995", "U",
		"Y +OK POP3 <1896.697170952@dbc.mtview.ca.us>  \r\n",
		"z +OK POP3 <1896.697170952@dbc.mtview.ca.us>  \r\n", "x LL",
		C("APOP a c4c9334bac560ecc979e58001b3e22fb"), S("+OK"), "x RR",
		NULL } },
	{ "a greeting that ends in LF", 0, { "! dial tls:995", "U",
		"Y +OK <1@x>\n", "z +OK <1@x>\n", "x LL", NULL } },
	{ "a wrong password stays parsed", 0, { OPEN, C("USER a"),
		S("+OK"), C("PASS x"), S("-ERR [AUTH] Wrong"), "x LL",
		C("USER a"), S("+OK"), C("PASS y"), S("+OK"), "x RR", NULL } },
	{ "pipelined", 0, { OPEN, "C USER a\nPASS x\nSTAT\nQUIT",
		"s USER a", "x NL", S("+OK"), "s PASS x", "x NL", S("+OK"),
		"s STAT\nQUIT", "x RR", NULL } },
	{ "pipelined, wrong password", 0, { OPEN, "C PASS x\nSTAT",
		"s PASS x", S("-ERR [AUTH] No"), "s STAT", S("-ERR No"), "x LL",
		NULL } },
	{ "CAPA is edited", 0, { OPEN, CAPA("no"), "S +OK\nCAPA\nTOP\nUIDL\n"
		"RESP-CODES\nPIPELINING\nAUTH-RESP-CODE\nSTLS\nUSER\n"
		"SASL PLAIN LOGIN SCRAM-SHA-256-PLUS SCRAM-SHA-256 GSSAPI\n"
		"IMPLEMENTATION STLS\n.", "c +OK\nCAPA\nTOP\nUIDL\nRESP-CODES\n"
		"PIPELINING\nAUTH-RESP-CODE\nUSER\n"
		"SASL PLAIN LOGIN SCRAM-SHA-256 GSSAPI\nIMPLEMENTATION STLS\n.",
		"x LL", NULL } },
	{ "CAPA: no mechanism is left", 0, { OPEN, CAPA("no"),
		"S +OK\nsasl X-PLUS EXTERNAL\nstls\n.", "c +OK\n.", NULL } },
	{ "CAPA refused", 0, { OPEN, CAPA("yes"), S("-ERR What?"), "x LL",
		NULL } },
	{ "CAPA and what follows", 0, { OPEN, "C capa\nUSER a", "! ask",
		"O no", "s CAPA", "S +OK\nTOP\n.", "c +OK\nTOP\n.", "s USER a", S("+OK"),
		NULL } },
	{ "the list of a bare AUTH", 0, { OPEN, C("AUTH"), "S +OK\nPLAIN\n"
		"GSSAPI\nSCRAM-SHA-1-PLUS\nlogin\n.",
		"c +OK\nPLAIN\nGSSAPI\nlogin\n.", "x LL", NULL } },
	{ "AUTH with a continuation", 0, { OPEN, C("AUTH PLAIN"), "S + ",
		"c + ", "x LL", C("QUIT"), S("+OK Logged in."), "x RR",
		NULL } },
	{ "AUTH, no space behind the plus", 0, { OPEN, C("AUTH PLAIN"),
		"S +", "c +", "x LL", C("AGEAYg=="), S("+OK"), "x RR", NULL } },
	{ "AUTH with an initial response", 0, { OPEN,
		C("auth plain AGEAYg=="), S("-ERR [AUTH] No"), "x LL", NULL } },
	{ "AUTH cancelled", 0, { OPEN, C("AUTH LOGIN"), S("+ VXNlcm5hbWU6"),
		C("*"), S("-ERR Cancelled"), "x LL", C("USER a"), S("+OK"),
		NULL } },
	{ "AUTH that is not carried", 0, { OPEN,
		"C AUTH SCRAM-SHA-256-PLUS biws",
		"c -ERR Mechanism is not offered here", "C AUTH EXTERNAL",
		"c -ERR Mechanism is not offered here", C("AUTH GSSAPI YII="),
		S("+ YII="), C("YII="), S("+OK"), "x RR", NULL } },
	{ "STLS is not offered", 0, { OPEN, "C STLS", "! ask", "x NL", "O no",
		"c -ERR STLS is not offered", "x LL", "C stls",
		"c -ERR STLS is not offered", C("USER a"), S("+OK"), NULL } },
	{ "STLS has no argument", 0, { OPEN, "C STLS now",
		"c -ERR STLS has no argument", NULL } },
	{ "STLS is shown", 0, { OPEN, CAPA("yes"), "S +OK\nTOP\n.",
		"c +OK\nTOP\nSTLS\n.", "x LL", "C CAPA", "s CAPA",
		"S +OK\nSTLS\nTOP\n.", "c +OK\nTOP\nSTLS\n.", NULL } },
	{ "STLS", 0, { OPEN, CAPA("yes"), S("+OK") , "S .", "c STLS\n.",
		"C STLS", "! dial plain:0", "x NN", "U", "x NL", "S +OK <1@x>",
		"s STLS", "x NL", "S +OK go", "c +OK Begin TLS negotiation",
		"! tunnel", "x RR", NULL } },
	{ "STLS without CAPA", 0, { OPEN, "C STLS", "! ask", "O yes",
		"! dial plain:0", "U", "S +OK", "s STLS", "S +OK",
		"c +OK Begin TLS negotiation", "! tunnel", NULL } },
	{ "STLS, and a command behind it", WHOLE, { OPEN, "C STLS\nUSER a",
		"! ask", "O yes", "! fail tls-injection",
		SAYS("clear octets where TLS begins"), NULL } },
	{ "STLS, and a reply behind the server's", WHOLE, { OPEN, "C STLS",
		"! ask", "O yes", "! dial plain:0", "U", "S +OK", "s STLS",
		"S +OK go\n-ERR evil", "c +OK Begin TLS negotiation",
		"! fail tls-injection", NULL } },
	{ "STLS: the port refuses", 0, { OPEN, "C STLS", "! ask", "O yes",
		"! dial plain:0", "U", "S +OK", "s STLS", "S -ERR no",
		"! fail no-starttls",
		SAYS("does not offer STARTTLS: -ERR no"), NULL } },
	{ "STLS: the port is no welcome", 0, { OPEN, "C STLS", "! ask", "O yes",
		"! dial plain:0", "U", "S 220 x", "! fail server-greeting",
		SAYS("refuses service: 220 x"), NULL } },
	{ "STLS: the port is gone", 0, { OPEN, "C STLS", "! ask", "O yes",
		"! dial plain:0", "F connect-failed refused",
		"! fail connect-failed", SAYS("cannot be reached: refused"),
		NULL } },
	{ "upstream by STLS", 1, { "! dial starttls:110", "U", "x NL",
		"S +OK Evil words <1896.6@dbc>", "s STLS", "x NL", "S +OK go",
		"! tls", "x NL", "U",
		"c +OK pop.isp.example ready <1896.6@dbc>", "x LL",
		C("APOP a c4c9334bac560ecc979e58001b3e22fb"), S("+OK"), "x RR",
		NULL } },
	{ "upstream: no stamp", 1, { "! dial starttls:110", "U",
		"S +OK <no end", "s STLS", "S +OK", "! tls", "U",
		"c +OK pop.isp.example ready", NULL } },
	{ "upstream: no stamp either", 1, { "! dial starttls:110", "U",
		"S +OK <a b>", "s STLS", "S +OK", "! tls", "U",
		"c +OK pop.isp.example ready", NULL } },
	{ "upstream: octets behind its +OK", WHOLE + 1, {
		"! dial starttls:110", "U", "S +OK", "s STLS",
		"S +OK go\n+OK evil", "! fail tls-injection",
		SAYS("clear octets where TLS begins"), NULL } },
	{ "upstream: no STLS", 1, { "! dial starttls:110", "U", "S +OK",
		"s STLS", "S -ERR no", "! fail no-starttls",
		SAYS("does not offer STARTTLS: -ERR no"), NULL } },
	{ "upstream in clear", 2, { "! dial plain:1110", "U",
		S("+OK Dovecot <1@x>"), "x LL", C("USER a"), NULL } },
	{ "goodbye while we ask", 0, { OPEN, "C CAPA", "! ask",
		S("-ERR bye"), "! close server-eof", NULL } },
	{ "XTND", 0, { OPEN, C("XTND XMIT"), S("-ERR not yet"), "x LL",
		NULL } },
	{ "[SYS/TEMP] of the server", 0, { OPEN, C("USER a"), S("+OK"),
		C("PASS b"), S("-ERR [SYS/TEMP] busy"), "x LL", NULL } },
	{ "QUIT", 0, { OPEN, C("QUIT"), S("+OK Bye"), "! close done",
		NULL } },
	{ "nothing behind +OK", 0, { "! dial tls:995", "U", S("+OK"),
		C("USER a"), S("+OKAY"), C("PASS b"), S("+OK"), "x RR",
		NULL } },
	{ "bare LF", 0, { OPEN, "X USER a\n", "s USER a", "Y +OK\n",
		"c +OK", NULL } },
	{ "a bare CR", 0, { OPEN, "X USER a\rPASS b\r\n",
		"! fail client-protocol", SAYS("command not understood"),
		NULL } },
	{ "NUL", 0, { OPEN, "X USER ~\r\n", "! fail nul-byte",
		SAYS("NUL byte in a command"), NULL } },
	{ "server: NUL", 0, { OPEN, C("USER a"), "Y +OK ~\r\n",
		"! fail server-protocol",
		SAYS("sent a reply that is none: +OK ?"), NULL } },
	{ "server: garbage", 0, { OPEN, C("PASS a"), "S * OK",
		"! fail server-protocol",
		SAYS("sent a reply that is none"), NULL } },
	{ "server: a plus at the wrong time", 0, { OPEN, C("PASS a"),
		"S + go", "! fail server-protocol",
		SAYS("sent a reply that is none"), NULL } },
	{ "server: unasked", 0, { OPEN, "S +OK", "! fail server-protocol",
		SAYS("sent a reply that is none: +OK"), NULL } },
	{ "server: unasked goodbye", 0, { OPEN,
		S("-ERR Disconnected for inactivity."), "! close server-eof",
		NULL } },
	{ "server: no welcome", 0, { "! dial tls:995", "U",
		"S -ERR [SYS/PERM] No", "! fail server-greeting",
		SAYS("refuses service: -ERR [SYS/PERM] No"), NULL } },
	{ "unreachable", 0, { "! dial tls:995", "F connect-failed refused",
		"! fail connect-failed", SAYS("cannot be reached: refused"),
		NULL } },
	{ "certificate", 0, { "! dial tls:995", "F certificate mismatch",
		"! fail certificate",
		SAYS("certificate not accepted: mismatch"), NULL } },
	{ "the server vanishes at the login", 0, { OPEN, C("PASS a"), "E",
		"! fail server-eof", SAYS("closed the connection"), NULL } },
	{ "the server is silent at the login", 0, { OPEN, C("PASS a"),
		"F server-timeout", "! fail server-timeout", SAYS("is silent"),
		NULL } },
	{ "no word of ours inside a list", 0, { OPEN, CAPA("no"),
		S("+OK\nTOP"), "E", "! fail server-eof", NULL } },
	{ "no word of ours inside a mail", 0, { OPEN, C("PASS a"),
		S("+OK"), "F drain", "! fail drain", NULL } },
	{ "UTF8 and LANG", 0, { OPEN, C("UTF8"), S("+OK"), C("LANG"),
		S("+OK\nen English\n."), "x LL", C("LANG en"), S("+OK en"),
		"x LL", NULL } },
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

/* Every reason the engine may have, before the login: [SYS/TEMP], one line. */
static void
farewells(void **state)
{
	(void)state;
	for (int why = REASON_DONE; why < REASON_COUNT; why++) {
		static const char *const script[] = { OPEN, NULL };
		struct context x;
		struct drive d;
		struct line l;

		start(&d, &x, 0);
		assert_int_equal(drive_play(&d, script, 0), 0);
		drive_fail(&d, (enum reason)why, "x");
		const uint8_t *p = d.out[CLIENT].p + d.out[CLIENT].seen;
		size_t n = drive_left(&d.out[CLIENT]);
		assert_int_equal(frame_line(p, n, &l), 1);
		assert_int_equal(l.total, n);
		assert_int_equal(l.flags, 0);
		assert_true(l.total <= 512);
		assert_memory_equal(l.text, "-ERR [SYS/TEMP] ", 16);
		drive_close(&d);
	}
}

static void
long_list(void **state)
{
	static const char *const script[] = { OPEN, CAPA("no"), S("+OK"),
		NULL };
	struct context x;
	struct drive d;
	int n = 0;

	(void)state;
	start(&d, &x, 0);
	assert_int_equal(drive_play(&d, script, 0), 0);
	while (!d.closed && n < 300) {
		drive_send(&d, SERVER, "X-1\r\n", 5, 0);
		n++;
	}
	assert_int_equal(n, 201);
	assert_int_equal(d.m.reason, REASON_SERVER_PROTOCOL);
	assert_int_equal(drive_left(&d.out[CLIENT]), 200 * 5);
	drive_close(&d);
}

static void
errors(void **state)
{
	static const char *const script[] = { OPEN, NULL };
	struct context x;
	struct drive d;
	int n = 0;

	(void)state;
	start(&d, &x, 0);
	assert_int_equal(drive_play(&d, script, 0), 0);
	while (!d.closed && n < 300) {
		drive_send(&d, CLIENT, "STLS x\r\n", 8, 0);
		n++;
	}
	assert_int_equal(n, 21);
	assert_int_equal(d.m.reason, REASON_TOO_MANY_ERRORS);
	assert_int_equal(drive_left(&d.out[SERVER]), 0);
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
		{ "-ERR unknown command PASS secret", "" },
		{ "-ERR [AUTH] secret is wrong", "[AUTH]" },
		{ "-ERR [", "" }, { "-ERR", "" }, { "-ERRsecret", "" },
		{ "secret what?", "" },
		{ "-ERR [secretsecretsecretsecretsecret]", "" },
	};
	static const char *const script[] = { OPEN, C("USER a"), S("+OK"),
		C("PASS secret"), NULL };

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

/* Tickets of large domains: a line of 16 KB passes, a longer one ends it. */
static void
long_lines(void **state)
{
	static const char *const script[] = { OPEN, C("AUTH NTLM"), S("+ "),
		NULL };
	static uint8_t line[LINE_MAX_OCTETS];
	struct context x;
	struct drive d;

	(void)state;
	memset(line, 'A', sizeof(line));
	memcpy(line + sizeof(line) - 2, "\r\n", 2);
	start(&d, &x, 0);
	assert_int_equal(drive_play(&d, script, 0), 0);
	drive_send(&d, CLIENT, line, sizeof(line), 0);
	assert_int_equal(drive_left(&d.out[SERVER]), sizeof(line));
	d.out[SERVER].seen = d.out[SERVER].len;
	drive_send(&d, SERVER, "+ \r\n", 4, 0);
	line[sizeof(line) - 1] = 'A';
	drive_send(&d, CLIENT, line, sizeof(line), 0);
	assert_true(d.closed);
	assert_int_equal(drive_left(&d.out[SERVER]), 0);
	drive_close(&d);
}

static void
mechanisms(void **state)
{
	static const struct {
		const char *name;
		bool want;
	} passing[] = {
		{ "PLAIN", true }, { "gssapi", true }, { "X-NEW_1", true },
		{ "PLUS", true }, { "A-PLUSX", true }, { "", false },
		{ "SCRAM-SHA-512-PLUS", false }, { "x-plus", false },
		{ "-PLUS", false }, { "external", false }, { "EXTERNALS", true },
		{ "PLAIN LOGIN", false }, { "PLAIN=", false }, { "{5}", false },
		{ "ABCDEFGHIJKLMNOPQRST", true },
		{ "ABCDEFGHIJKLMNOPQRSTU", false },
	};
	static const struct {
		const char *list, *want;
	} rows[] = {
		{ "", "" }, { "   ", "" }, { "PLAIN", " PLAIN" },
		{ "login plain", " PLAIN LOGIN" },
		{ "\tPLAIN\t LOGIN ", " PLAIN LOGIN" },
		{ "PLAIN PLAIN", " PLAIN" },
		{ "SCRAM-SHA-1-PLUS SCRAM-SHA-256-PLUS", "" },
		{ "GSSAPI DIGEST-MD5 EXTERNAL ANONYMOUS SRP GS2-KRB5", "" },
		{ "PLAI PLAINS XPLAIN", "" },
		{ "NTLM OAUTHBEARER XOAUTH2 CRAM-MD5 SCRAM-SHA-1 SCRAM-SHA-224 "
			"SCRAM-SHA-256 SCRAM-SHA-512",
			" SCRAM-SHA-512 SCRAM-SHA-256 SCRAM-SHA-224 SCRAM-SHA-1"
			" CRAM-MD5 XOAUTH2 OAUTHBEARER NTLM" },
	};

	(void)state;
	for (size_t i = 0; i < N(rows); i++) {
		uint8_t text[256];
		struct sink out = { text, 0, sizeof(text) };

		sasl_print(sasl_list((const uint8_t *)rows[i].list,
			strlen(rows[i].list)), &out);
		assert_int_equal(out.len, strlen(rows[i].want));
		assert_memory_equal(text, rows[i].want, out.len);
	}
	for (size_t i = 0; i < N(passing); i++)
		if (sasl_passes((const uint8_t *)passing[i].name,
			strlen(passing[i].name)) != passing[i].want)
			fail_msg("%s", passing[i].name);
	assert_int_equal(sasl_mechanism((const uint8_t *)"PLAIN LOGIN", 11), 0);
	assert_int_equal(sasl_mechanism((const uint8_t *)"PLAINX", 5),
		sasl_list((const uint8_t *)"PLAIN", 5));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(scripts),
		cmocka_unit_test(farewells),
		cmocka_unit_test(long_list),
		cmocka_unit_test(errors),
		cmocka_unit_test(no_password_is_noted),
		cmocka_unit_test(long_lines),
		cmocka_unit_test(mechanisms),
	};

	return cmocka_run_group_tests_name("pop3", tests, NULL, NULL);
}
