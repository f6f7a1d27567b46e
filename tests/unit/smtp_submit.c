/*
 * smtp_submit.c - unit tests of proxyd/smtp_submit.c
 *
 * Both sides of a session as scripts (tests/drive.h): what client and server
 * send, what each gets, and that nobody gets more. Every script is played whole,
 * an octet at a time and cut in two at each octet, unless it is about what stands
 * in one read. In all of them nothing but EHLO and STARTTLS may reach the server before TLS.
 */
#include "tests/submit.h"

static void
paths(void **state)
{
	static const struct dialogue rows[] = {
		{ "tls:465", IMPLICIT, false, { GREETING, "x LN", "C EHLO pc",
			"! dial tls:465", "x NN", "U", "x NL",
			"S 220 real.isp.example ESMTP", "s EHLO pc", "x NL",
			LIST, SHOWN, "x LL", BYE, NULL } },
		{ "starttls:587", STARTTLS, false, { GREETING, "C EHLO pc",
			"! dial starttls:587", "x NN", "U", "x NL",
			"S 220-real.isp.example\n220 ESMTP",
			"s EHLO gw1.isp.example",
			"S 250-real.isp.example\n250-SIZE 1\n250-AUTH NTLM\n"
			"250-STARTTLS\n250 DSN", "s STARTTLS", "x NL",
			"S 220 2.0.0 Go", "! tls", "U", "s EHLO pc", "x NL",
			LIST, SHOWN, "x LL", LOGIN, BYE, NULL } },
		{ "HELO", IMPLICIT, false, { GREETING, "C helo pc",
			"! dial tls:465", "U", "S 220 x", "s EHLO pc", LIST,
			"c 250 mail.isp.example", "x LL", LOGIN, NULL } },
		{ "STARTTLS not shown", NOT_SHOWN, false, { DIALLED, "S 220 x",
			"s EHLO pc", "S 250-x\n250-STARTTLS\n250 DSN",
			"c 250-mail.isp.example\n250 DSN", "C STARTTLS",
			"c 502 5.5.1 STARTTLS is not offered", "x LL", NULL } },
		{ "a list of nothing", NOT_SHOWN, false, { DIALLED, "S 220 x",
			"s EHLO pc", "S 250 x", "c 250 mail.isp.example",
			"C AUTH PLAIN AGEAYg==",
			"c 504 5.5.4 Mechanism is not offered here", NULL } },
		{ "EHLO again: the old list is forgotten", IMPLICIT, false, {
			READY, "C EHLO other", "s EHLO other",
			"S 250-x\n250 DSN",
			"c 250-mail.isp.example\n250-DSN\n250 STARTTLS",
			"C AUTH PLAIN AGEAYg==",
			"c 504 5.5.4 Mechanism is not offered here", NULL } },
		{ "an address literal", IMPLICIT, false, { GREETING,
			"C EHLO [IPv6:2001:db8::9]", "! dial tls:465", "U",
			"S 220 x", "s EHLO [IPv6:2001:db8::9]", NULL } },
		{ "no name", IMPLICIT, false, { GREETING, "C EHLO",
			"c 501 5.5.4 EHLO wants a name or an address literal",
			"C EHLO a b",
			"c 501 5.5.4 EHLO wants a name or an address literal",
			"C EHLO caf\xc3\xa9",
			"c 501 5.5.4 EHLO wants a name or an address literal",
			"x LN", NULL } },
		{ "before EHLO", IMPLICIT, false, { GREETING, "C NOOP",
			"c 250 2.0.0 Ok", "C RSET", "c 250 2.0.0 Ok",
			"C AUTH PLAIN AGEAYg==", "c 503 5.5.1 Say EHLO first",
			"C STARTTLS", "c 503 5.5.1 Say EHLO first", "C DATA",
			"c 503 5.5.1 Say EHLO first", "C MAIL FROM:<>",
			NOT_AUTHED, "C XCLIENT NAME=x", UNKNOWN, "C QUIT",
			"c 221 2.0.0 Bye", "! close done", NULL } },
	};

	(void)state;
	play(rows, N(rows));
}

static void
auth(void **state)
{
	static const struct dialogue rows[] = {
		{ "continuation lines that look like commands", IMPLICIT, false,
			{ READY, "C AUTH LOGIN", "s AUTH LOGIN", "x NL",
			"S 334 VXNlcm5hbWU6", "c 334 VXNlcm5hbWU6", "x LL",
			"C QUIT", "s QUIT", "S 334 UGFzc3dvcmQ6",
			"c 334 UGFzc3dvcmQ6", "C MAIL FROM:<a>",
			"s MAIL FROM:<a>", "S 235 2.7.0 Ok", "c 235 2.7.0 Ok",
			"x LL", ENVELOPE, NULL } },
		{ "cancelled", IMPLICIT, false, { READY, "C auth login",
			"s auth login", "S 334 VXNlcm5hbWU6",
			"c 334 VXNlcm5hbWU6", "C *", "s *",
			"S 501 5.7.0 Cancelled", "c 501 5.7.0 Cancelled",
			"C MAIL FROM:<a>", NOT_AUTHED, LOGIN, ENVELOPE,
			NULL } },
		{ "OAuth's empty line", IMPLICIT, false, { READY,
			"C AUTH XOAUTH2 dXNlcg==", "s AUTH XOAUTH2 dXNlcg==",
			"S 334 eyJzIjoiNDAxIn0=", "c 334 eyJzIjoiNDAxIn0=",
			"C ", "s ", "S 535 5.7.8 No", "c 535 5.7.8 No",
			"C MAIL FROM:<a>", NOT_AUTHED, NULL } },
		{ "an empty initial response", IMPLICIT, false, { READY,
			"C AUTH PLAIN =", "s AUTH PLAIN =", NULL } },
		{ "wrong, then right", IMPLICIT, false, { READY,
			"C AUTH PLAIN eA==", "s AUTH PLAIN eA==",
			"S 535-5.7.8 Wrong\n535 5.7.8 Password",
			"c 535-5.7.8 Wrong\n535 5.7.8 Password", "x LL", LOGIN,
			"C AUTH PLAIN eA==",
			"c 503 5.5.1 Already authenticated", NULL } },
		{ "not offered", IMPLICIT, false, { READY,
			"C AUTH SCRAM-SHA-256-PLUS biws",
			"c 504 5.5.4 Mechanism is not offered here",
			"C AUTH GSSAPI",
			"c 504 5.5.4 Mechanism is not offered here",
			"C AUTH CRAM-MD5",
			"c 504 5.5.4 Mechanism is not offered here", "C AUTH",
			"c 504 5.5.4 Mechanism is not offered here", NULL } },
		{ "no MAIL before 235, at a server that would take it",
			IMPLICIT, false, { READY,
			"C MAIL FROM:<a>\nRCPT TO:<b>\nDATA\nVRFY x\nEXPN x",
			NOT_AUTHED, NOT_AUTHED, NOT_AUTHED, NOT_AUTHED,
			NOT_AUTHED, "C NOOP", "s NOOP", "S 250 Ok",
			"c 250 Ok", BYE, NULL } },
		{ "250 is no 235", IMPLICIT, false, { READY,
			"C AUTH PLAIN eA==", "s AUTH PLAIN eA==", "S 250 Ok",
			"c 250 Ok", "C MAIL FROM:<a>", NOT_AUTHED, NULL } },
		{ "bare CR inside", IMPLICIT, false, { READY, "C AUTH LOGIN",
			"s AUTH LOGIN", "S 334 VXNlcm5hbWU6",
			"c 334 VXNlcm5hbWU6", "X a\rRSET\r\n",
			"! fail client-protocol",
			SAYS("500 5.5.2", "command not understood"), NULL } },
		{ "a reply that nobody waits for", IMPLICIT, false, { READY,
			"C AUTH LOGIN", "s AUTH LOGIN", "S 334 VXNlcm5hbWU6",
			"c 334 VXNlcm5hbWU6", "S 235 2.7.0 Ok",
			"! fail server-protocol", SAYS("421 4.3.0",
			"sent a reply that is none"), NULL } },
		{ "goodbye inside", IMPLICIT, false, { READY, "C AUTH LOGIN",
			"s AUTH LOGIN", "S 334 VXNlcm5hbWU6",
			"c 334 VXNlcm5hbWU6", "S 421 4.4.2 Slow",
			"c 421 4.4.2 Slow", "! close server-eof", NULL } },
	};

	(void)state;
	play(rows, N(rows));
}

static void
commands(void **state)
{
	static const struct dialogue rows[] = {
		{ "never to the server", IMPLICIT, false, { AUTHED,
			"C XCLIENT ADDR=192.0.2.1 LOGIN=ceo", UNKNOWN,
			"C XFORWARD NAME=x", UNKNOWN, "C TURN", UNKNOWN,
			"C ETRN x", UNKNOWN, "C BURL imap://x LAST", UNKNOWN,
			"C MAIL\tFROM:<a>", UNKNOWN, "C MAILFROM:<a>", UNKNOWN,
			"C  NOOP", UNKNOWN, "C ", UNKNOWN, "C XMAIL", UNKNOWN,
			ENVELOPE, NULL } },
		{ "pipelined, in lockstep", IMPLICIT, false, { AUTHED,
			"C MAIL FROM:<a>\nRCPT TO:<b>\nXCLIENT x\nDATA",
			"s MAIL FROM:<a>", "x NL", "S 250 a", "c 250 a",
			"s RCPT TO:<b>", "x NL", "S 250 b", "c 250 b",
			UNKNOWN, "s DATA", "x NL", "S 354 Go", "c 354 Go",
			"x DN", NULL } },
		{ "BDAT is eaten", IMPLICIT, false, { AUTHED,
			"X BDAT 10 LAST\r\nMAIL FROM:NOOP\r\n",
			"c 502 5.5.1 BDAT is not offered", "s NOOP",
			"S 250 Ok", "c 250 Ok", "C BDAT 0 LAST",
			"c 502 5.5.1 BDAT is not offered", "x LL", NULL } },
		{ "BDAT without a size", IMPLICIT, false, { AUTHED, "C BDAT x",
			"! fail client-protocol",
			SAYS("500 5.5.2", "command not understood"), NULL } },
		{ "BDAT before EHLO", IMPLICIT, false, { GREETING,
			"X BDAT 3\r\nabcNOOP\r\n",
			"c 502 5.5.1 BDAT is not offered", "c 250 2.0.0 Ok",
			NULL } },
		{ "bare LF", IMPLICIT, false, { AUTHED, "X NOOP\n", "s NOOP",
			"S 250 Ok", "c 250 Ok", NULL } },
		{ "bare CR", IMPLICIT, false, { AUTHED,
			"X NOOP\rMAIL FROM:<a>\r\n",
			"c 500 5.5.2 Line not understood", "x LL", NULL } },
		{ "NUL", IMPLICIT, false, { AUTHED, "X NOOP~\r\n",
			"! fail nul-byte",
			SAYS("500 5.5.2", "NUL byte in a command"), NULL } },
		{ "a refused recipient", IMPLICIT, false, { AUTHED,
			"C MAIL FROM:<a>", "s MAIL FROM:<a>", "S 250 a",
			"c 250 a", "C RCPT TO:<b>", "s RCPT TO:<b>",
			"S 550-5.1.1 No\n550 5.1.1 such user",
			"c 550-5.1.1 No\n550 5.1.1 such user", "C RSET",
			"s RSET", "S 250 Ok", "c 250 Ok", BYE, NULL } },
	};

	(void)state;
	play(rows, N(rows));
}

static void
payload(void **state)
{
	static const struct dialogue rows[] = {
		{ "a mail", IMPLICIT, false, { IN_DATA, "x DN",
			"C Subject: x\n\n..a\nMAIL FROM:<x>\n.",
			"s Subject: x\n\n..a\nMAIL FROM:<x>\n.", "x NL",
			"S 250 2.0.0 Queued", "c 250 2.0.0 Queued", "x LL",
			ENVELOPE, BYE, NULL } },
		{ "two, pipelined", IMPLICIT, false, { IN_DATA,
			"C one\n.\nMAIL FROM:<c>\nQUIT", "s one\n.", "x NL",
			"S 250 Queued", "c 250 Queued", "s MAIL FROM:<c>",
			"S 250 c", "c 250 c", "s QUIT", "S 221 Bye",
			"c 221 Bye", "! close done", NULL } },
		{ "smuggling", IMPLICIT, false, { IN_DATA,
			"X a\n.\nMAIL FROM:<x>\r\n.\r\r\nb\r\n.\r\n",
			"s a\n..\nMAIL FROM:<x>\n \nb\n.", "S 250 Queued",
			"c 250 Queued", NULL } },
		{ "DATA refused: a body is no commands", IMPLICIT, false, {
			AUTHED, "C DATA", "s DATA", "S 503 5.5.1 No",
			"c 503 5.5.1 No", "x LL", "C Hello", UNKNOWN, NULL } },
		{ "refused at the end", IMPLICIT, false, { IN_DATA, "C x\n.",
			"s x\n.", "S 552 5.3.4 Too big",
			"c 552 5.3.4 Too big", "x LL", NULL } },
		{ "NUL", IMPLICIT, false, { IN_DATA, "X ~b\r\n.\r\r\n",
			"! hangup", "x DN", "C still here", "X .\r\nQUIT\r\n",
			"c 554 5.6.0 The message holds a NUL byte; not sent "
			"(ref ID0)", "! close nul-byte", NULL } },
		{ "NUL inside the end", IMPLICIT, false, { IN_DATA,
			"X .\r~\n", "! hangup", "C \n.",
			"c 554 5.6.0 The message holds a NUL byte; not sent "
			"(ref ID0)", "! close nul-byte", NULL } },
		{ "its fate is unknown", IMPLICIT, false, { IN_DATA, "C x\n.",
			"s x\n.", "E", "! fail server-eof",
			SAYS("451 4.4.2", "closed the connection"), NULL } },
		{ "no final reply", IMPLICIT, false, { IN_DATA, "C x\n.",
			"s x\n.", "F server-timeout", "! fail server-timeout",
			SAYS("451 4.4.2", "is silent"), NULL } },
		{ "a final reply that is none", IMPLICIT, false, { IN_DATA,
			"C x\n.", "s x\n.", "S what?", "! fail server-protocol",
			SAYS("451 4.4.2", "sent a reply that is none: what?"),
			NULL } },
		{ "the client is silent", IMPLICIT, false, { IN_DATA,
			"F client-timeout", "! fail client-timeout",
			SAYS("421 4.4.2", "waited too long for you"), NULL } },
	};

	(void)state;
	play(rows, N(rows));
}

#define PLAIN_PORT "C STARTTLS", "! dial plain:587", "x NN", "U", "x NL", \
	"S 220 real.isp.example ESMTP", "s EHLO gw1.isp.example"

static void
starttls(void **state)
{
	static const struct dialogue rows[] = {
		{ "the tunnel", IMPLICIT, false, { READY, PLAIN_PORT,
			"S 250-real.isp.example\n250 STARTTLS", "s STARTTLS",
			"S 220 2.0.0 Go", "c 220 2.0.0 Ready to start TLS",
			"! tunnel", "x RR", "X \x16\x03~\x01",
			"y \x16\x03~\x01", "Y \x16~QUIT\r\n",
			"z \x16~QUIT\r\n", NULL } },
		{ "not there after all", IMPLICIT, false, { READY, PLAIN_PORT,
			"S 250-real.isp.example\n250 SIZE",
			"! fail no-starttls", SAYS("421 4.7.5",
			"does not offer STARTTLS: 250 SIZE"), NULL } },
		{ "refused", IMPLICIT, false, { READY, PLAIN_PORT,
			"S 250-x\n250 STARTTLS", "s STARTTLS",
			"S 454 4.7.0 Not now", "! fail no-starttls",
			SAYS("421 4.7.5",
			"does not offer STARTTLS: 454 4.7.0 Not now"), NULL } },
		{ "after the login", IMPLICIT, false, { AUTHED, "C STARTTLS",
			"c 503 5.5.1 STARTTLS is not possible here", "C EHLO pc",
			"s EHLO pc", "S 250-x\n250 DSN",
			"c 250-mail.isp.example\n250 DSN", NULL } },
		{ "with an argument", IMPLICIT, false, { READY, "C STARTTLS x",
			"c 503 5.5.1 STARTTLS is not possible here", NULL } },
		{ "commands behind the client's", IMPLICIT, true, { READY,
			"C STARTTLS\nMAIL FROM:<x>", "! fail tls-injection",
			SAYS("421 4.7.5", "bytes stood behind STARTTLS"),
			NULL } },
		{ "commands a moment later", IMPLICIT, false, { READY,
			PLAIN_PORT, "C MAIL FROM:<x>",
			"S 250-x\n250 STARTTLS", "s STARTTLS", "S 220 Go",
			"c 220 2.0.0 Ready to start TLS",
			"! fail tls-injection", SAYS("421 4.7.5",
			"bytes stood behind STARTTLS"), NULL } },
		{ "replies behind the server's 220", STARTTLS, true, {
			GREETING, "C EHLO pc", "! dial starttls:587", "U",
			"S 220 x", "s EHLO gw1.isp.example",
			"S 250-x\n250 STARTTLS", "s STARTTLS",
			"S 220 Go\n250 AUTH PLAIN", "! fail tls-injection",
			SAYS("421 4.7.5", "bytes stood behind STARTTLS"),
			NULL } },
		{ "submission without STARTTLS", STARTTLS, false, { GREETING,
			"C EHLO pc", "! dial starttls:587", "U", "S 220 x",
			"s EHLO gw1.isp.example", "S 250-x\n250 AUTH PLAIN",
			"! fail no-starttls", SAYS("421 4.7.5",
			"does not offer STARTTLS: 250 AUTH PLAIN"), NULL } },
		{ "what was offered in clear is forgotten", STARTTLS, false, {
			GREETING, "C EHLO pc", "! dial starttls:587", "U",
			"S 220 x", "s EHLO gw1.isp.example",
			"S 250-x\n250-AUTH PLAIN\n250-DSN\n250 STARTTLS",
			"s STARTTLS", "S 220 Go", "! tls", "U", "s EHLO pc",
			"S 250 x", "c 250-mail.isp.example\n250 STARTTLS",
			"C AUTH PLAIN AGEAYg==",
			"c 504 5.5.4 Mechanism is not offered here", NULL } },
	};

	(void)state;
	play(rows, N(rows));
}

static void
replies(void **state)
{
#define NONE(line) SAYS("421 4.3.0", "sent a reply that is none: " line)
	static const struct dialogue rows[] = {
		{ "no text", IMPLICIT, false, { AUTHED, "C NOOP", "s NOOP",
			"S 250", "c 250", "C NOOP", "s NOOP", "S 250-\n250 ",
			"c 250-\n250 ", "x LL", NULL } },
		{ "bare LF", IMPLICIT, false, { AUTHED, "C NOOP", "s NOOP",
			"Y 250 Ok\n", "c 250 Ok", NULL } },
		{ "two in one read", IMPLICIT, false, { AUTHED, "C NOOP\nNOOP",
			"s NOOP", "S 250 a", "c 250 a", "s NOOP",
			"S 250 b", "c 250 b", NULL } },
		{ "one too many", IMPLICIT, false, { AUTHED, "C NOOP",
			"s NOOP", "S 250 a\n250 b", "c 250 a",
			"! fail server-protocol", NONE("250 b"), NULL } },
		{ "unasked", IMPLICIT, false, { AUTHED, "S 250 b",
			"! fail server-protocol", NONE("250 b"), NULL } },
		{ "unasked goodbye", IMPLICIT, false, { AUTHED,
			"S 421-4.4.2 Too\n421 4.4.2 slow",
			"c 421-4.4.2 Too\n421 4.4.2 slow",
			"! close server-eof", NULL } },
		{ "goodbye as a reply", IMPLICIT, false, { AUTHED, "C NOOP",
			"s NOOP", "S 421 4.3.2 Bye", "c 421 4.3.2 Bye",
			"! close server-eof", NULL } },
		{ "another code in the middle", IMPLICIT, false, { AUTHED,
			"C NOOP", "s NOOP", "S 250-a\n354 b", "c 250-a",
			"! fail server-protocol", NONE("354 b"), NULL } },
		{ "another code in the list", IMPLICIT, false, { DIALLED,
			"S 220 x", "s EHLO pc", "S 550-x\n250 AUTH PLAIN",
			"! fail server-protocol", NONE("250 AUTH PLAIN"),
			NULL } },
		{ "another code in the greeting", IMPLICIT, false, { DIALLED,
			"S 554-x\n220 y", "! fail server-protocol",
			NONE("220 y"), NULL } },
		{ "a prompt nobody asked for", IMPLICIT, false, { AUTHED,
			"C NOOP", "s NOOP", "S 354 Go",
			"! fail server-protocol", NONE("354 Go"), NULL } },
		{ "a prompt that is not AUTH's", IMPLICIT, false, { READY,
			"C AUTH LOGIN", "s AUTH LOGIN", "S 354 Go",
			"! fail server-protocol", SAYS("421 4.3.0",
			"sent a reply that is none"), NULL } },
		{ "words", IMPLICIT, false, { AUTHED, "C NOOP", "s NOOP",
			"S Hello", "! fail server-protocol", NONE("Hello"),
			NULL } },
		{ "a low code", IMPLICIT, false, { AUTHED, "C NOOP", "s NOOP",
			"S 199 x", "! fail server-protocol", NONE("199 x"),
			NULL } },
		{ "a high code", IMPLICIT, false, { AUTHED, "C NOOP", "s NOOP",
			"S 600 x", "! fail server-protocol", NONE("600 x"),
			NULL } },
		{ "no separator", IMPLICIT, false, { AUTHED, "C NOOP",
			"s NOOP", "S 250x", "! fail server-protocol",
			NONE("250x"), NULL } },
		{ "an empty line", IMPLICIT, false, { AUTHED, "C NOOP",
			"s NOOP", "S ", "! fail server-protocol",
			SAYS("421 4.3.0", "sent a reply that is none"),
			NULL } },
		{ "NUL", IMPLICIT, false, { AUTHED, "C NOOP", "s NOOP",
			"Y 250 a~\r\n", "! fail server-protocol",
			NONE("250 a?"), NULL } },
		{ "bare CR", IMPLICIT, false, { AUTHED, "C NOOP", "s NOOP",
			"Y 250 a\r550 b\r\n", "! fail server-protocol",
			NONE("250 a?550 b"), NULL } },
		{ "no welcome", IMPLICIT, false, { DIALLED,
			"S 554 5.7.1 Go away", "! fail server-greeting",
			SAYS("421 4.3.2",
			"refuses service: 554 5.7.1 Go away"), NULL } },
		{ "EHLO refused", IMPLICIT, false, { DIALLED, "S 220 x",
			"s EHLO pc", "S 550 5.7.1 Bad name",
			"! fail server-greeting", SAYS("421 4.3.2",
			"refuses service: 550 5.7.1 Bad name"), NULL } },
	};

	(void)state;
	play(rows, N(rows));
}

static void
ends(void **state)
{
	static const struct dialogue rows[] = {
		{ "unreachable", IMPLICIT, false, { GREETING, "C EHLO pc",
			"! dial tls:465", "F connect-failed refused",
			"! fail connect-failed", SAYS("421 4.4.1",
			"cannot be reached: refused"), NULL } },
		{ "certificate", IMPLICIT, false, { GREETING, "C EHLO pc",
			"! dial tls:465", "F certificate hostname mismatch",
			"! fail certificate", SAYS("421 4.7.5",
			"certificate not accepted: hostname mismatch"),
			NULL } },
		{ "certificate in STARTTLS", STARTTLS, false, { GREETING,
			"C EHLO pc", "! dial starttls:587", "U", "S 220 x",
			"s EHLO gw1.isp.example", "S 250-x\n250 STARTTLS",
			"s STARTTLS", "S 220 Go", "! tls",
			"F certificate expired", "! fail certificate",
			SAYS("421 4.7.5", "certificate not accepted: expired"),
			NULL } },
		{ "before the greeting", IMPLICIT, false, { DIALLED, "E",
			"! fail server-eof", SAYS("421 4.4.2",
			"closed the connection"), NULL } },
		{ "instead of the list", IMPLICIT, false, { DIALLED,
			"S 220 x", "s EHLO pc", "S 250-x", "E",
			"! fail server-eof", SAYS("421 4.4.2",
			"closed the connection"), NULL } },
		{ "between commands", IMPLICIT, false, { READY, "E",
			"! fail server-eof", SAYS("421 4.4.2",
			"closed the connection"), NULL } },
		{ "instead of a reply", IMPLICIT, false, { AUTHED, "C NOOP",
			"s NOOP", "E", "! fail server-eof", SAYS("421 4.4.2",
			"closed the connection"), NULL } },
		{ "in AUTH, the server's turn", IMPLICIT, false, { READY,
			"C AUTH LOGIN", "s AUTH LOGIN", "E",
			"! fail server-eof", SAYS("421 4.4.2",
			"closed the connection"), NULL } },
		{ "in AUTH, the client's turn", IMPLICIT, false, { READY,
			"C AUTH LOGIN", "s AUTH LOGIN", "S 334 ", "c 334 ",
			"E", "! fail server-eof", SAYS("421 4.4.2",
			"closed the connection"), NULL } },
		{ "in the payload", IMPLICIT, false, { IN_DATA,
			"F server-reset", "! fail server-reset",
			SAYS("421 4.4.2", "closed the connection"), NULL } },
		{ "instead of the final reply", IMPLICIT, false, { IN_DATA,
			"C x\n.", "s x\n.", "E", "! fail server-eof",
			SAYS("451 4.4.2", "closed the connection"), NULL } },
		{ "in the final reply: not a word behind its half", IMPLICIT,
			false, { IN_DATA, "C x\n.", "s x\n.", "S 250-Queued",
			"c 250-Queued", "E", "! fail server-eof", NULL } },
		{ "the relay leaves", IMPLICIT, false, { READY, "F drain",
			"! fail drain", SAYS("421 4.3.2", "try again later"),
			NULL } },
	};

	(void)state;
	play(rows, N(rows));
}

/* ---- what does not fit a table ---- */

static void
open_ready(struct drive *d, struct context *x)
{
	static const char *const script[] = { READY, NULL };

	start(d, x, IMPLICIT);
	assert_int_equal(drive_play(d, script, 0), 0);
}

static void
long_lines(void **state)
{
	static uint8_t line[LINE_MAX_OCTETS + 2];
	struct context x;
	struct drive d;

	(void)state;
	/* AUTH takes a whole line; any other command stops at 2,048. */
	memset(line, 'A', sizeof(line));
	memcpy(line, "AUTH PLAIN ", 11);
	memcpy(line + LINE_MAX_OCTETS - 2, "\r\n", 2);
	open_ready(&d, &x);
	drive_send(&d, CLIENT, line, LINE_MAX_OCTETS, 0);
	assert_int_equal(drive_left(&d.out[SERVER]), LINE_MAX_OCTETS);
	assert_memory_equal(d.out[SERVER].p + d.out[SERVER].seen, line,
		LINE_MAX_OCTETS);
	drive_close(&d);

	memcpy(line, "NOOP ", 5);
	open_ready(&d, &x);
	drive_send(&d, CLIENT, line, LINE_MAX_OCTETS, 0);
	assert_int_equal(drive_left(&d.out[SERVER]), 0);
	assert_int_equal(drive_expect("too long", &d.out[CLIENT],
		"500 5.5.2 Line not understood", false), 0);

	memset(line, 'A', sizeof(line));
	drive_send(&d, CLIENT, line, sizeof(line), 0);
	assert_int_equal(drive_expect("far too long", &d.out[CLIENT],
		"500 5.5.2 mail.isp.example: line too long (ref ID0)",
		false), 0);
	assert_true(d.closed);
	drive_close(&d);

	open_ready(&d, &x);
	drive_send(&d, SERVER, line, sizeof(line), 0);
	assert_true(d.closed);
	assert_int_equal(drive_left(&d.out[SERVER]), 0);
	drive_close(&d);
}

static void
flood(void **state)
{
	struct context x;
	struct drive d;
	int n = 0;

	(void)state;
	open_ready(&d, &x);
	drive_send(&d, CLIENT, "NOOP\r\n", 6, 0);
	while (!d.closed && n < 10000) {
		drive_send(&d, SERVER, "250-a\r\n", 7, 0);
		n++;
	}
	assert_int_equal(n, 513);
	assert_int_equal(d.m.reason, REASON_SERVER_PROTOCOL);
	drive_close(&d);
}

static void
errors(void **state)
{
	struct context x;
	struct drive d;
	int n = 0;

	(void)state;
	open_ready(&d, &x);
	while (!d.closed && n < 1000) {
		drive_send(&d, CLIENT, "XCLIENT x\r\n", 11, 0);
		n++;
	}
	assert_int_equal(n, 21);
	assert_int_equal(d.m.reason, REASON_TOO_MANY_ERRORS);
	assert_int_equal(drive_left(&d.out[SERVER]), 0);
	drive_close(&d);
}

/* The log line's numbers. */
static void
notes(void **state)
{
	static const char *const script[] = { IN_DATA, "C x\n.", "s x\n.",
		"S 250 Queued", "c 250 Queued", "C RCPT TO:<c>",
		"s RCPT TO:<c>", "S 503 5.5.1 No", "c 503 5.5.1 No", NULL };
	struct context x;
	struct drive d;

	(void)state;
	start(&d, &x, IMPLICIT);
	assert_int_equal(drive_play(&d, script, 0), 0);
	assert_int_equal(d.m.notes.messages, 1);
	assert_int_equal(d.m.notes.rcpts, 2);
	assert_int_equal(d.m.notes.code, 503);
	assert_string_equal(d.m.notes.esc, "5.5.1");
	assert_int_equal(d.m.notes.helo_len, 2);
	assert_memory_equal(d.m.notes.helo, "pc", 2);
	drive_close(&d);
}

/* A server that repeats what it did not like must not bring a password into
 * the log. */
static void
no_password_is_noted(void **state)
{
	static const char *const script[] = { READY,
		"C AUTH PLAIN AHNlY3JldA==", "s AUTH PLAIN AHNlY3JldA==",
		"S what is AHNlY3JldA==?", "! fail server-protocol",
		SAYS("421 4.3.0", "sent a reply that is none"), NULL };
	struct context x;
	struct drive d;

	(void)state;
	start(&d, &x, IMPLICIT);
	assert_int_equal(drive_play(&d, script, 0), 0);
	assert_true(d.closed);
	assert_string_equal(d.m.notes.detail, "");
	drive_close(&d);
}

/* A large mail in blocks of a read: octet for octet, and every block used. */
static void
large(void **state)
{
	static const char *const script[] = { IN_DATA, NULL };
	enum { LINES = 20000 };
	struct drive_bytes mail = { 0 };
	struct context x;
	struct drive d;

	(void)state;
	start(&d, &x, IMPLICIT);
	assert_int_equal(drive_play(&d, script, 0), 0);
	for (int i = 0; i < LINES; i++)
		drive_append(&mail, i % 7 ? "abc def\r\n" : "..dotted\r\n",
			i % 7 ? 9 : 10);
	drive_append(&mail, ".\r\n", 3);
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

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(paths),
		cmocka_unit_test(auth),
		cmocka_unit_test(commands),
		cmocka_unit_test(payload),
		cmocka_unit_test(starttls),
		cmocka_unit_test(replies),
		cmocka_unit_test(ends),
		cmocka_unit_test(long_lines),
		cmocka_unit_test(flood),
		cmocka_unit_test(errors),
		cmocka_unit_test(notes),
		cmocka_unit_test(no_password_is_noted),
		cmocka_unit_test(large),
	};

	return cmocka_run_group_tests_name("smtp_submit", tests, NULL, NULL);
}
