/*
 * smtp_ehlo.c - unit tests of proxyd/smtp_ehlo.c
 *
 * Lists as real servers send them, and odd ones; what the client is shown of
 * them through submit. Nothing that the table does not know may get through.
 */
#include "tests/submit.h"

static void
lists(void **state)
{
	static const struct dialogue rows[] = {
		{ "Postfix", IMPLICIT, false, { DIALLED, "S 220 x",
			"s EHLO pc",
			"S 250-mail.isp.example\n250-PIPELINING\n"
			"250-SIZE 10240000\n250-VRFY\n250-ETRN\n250-STARTTLS\n"
			"250-AUTH PLAIN LOGIN GSSAPI DIGEST-MD5 CRAM-MD5\n"
			"250-AUTH=PLAIN LOGIN GSSAPI\n250-XCLIENT NAME ADDR\n"
			"250-XFORWARD NAME\n250-ENHANCEDSTATUSCODES\n"
			"250-8BITMIME\n250-DSN\n250-SMTPUTF8\n250 CHUNKING",
			"c 250-mail.isp.example\n250-PIPELINING\n"
			"250-8BITMIME\n250-SMTPUTF8\n250-DSN\n"
			"250-ENHANCEDSTATUSCODES\n250-CHUNKING\n250-SIZE 10240000\n"
			"250-AUTH CRAM-MD5 PLAIN LOGIN\n"
			"250-AUTH=CRAM-MD5 PLAIN LOGIN\n250 STARTTLS", NULL } },
		{ "Exchange", NOT_SHOWN, false, { DIALLED, "S 220 x",
			"s EHLO pc",
			"S 250-mail Hello [198.18.3.7]\n250-SIZE 37748736\n"
			"250-PIPELINING\n250-DSN\n250-ENHANCEDSTATUSCODES\n"
			"250-STARTTLS\n250-X-ANONYMOUSTLS\n"
			"250-AUTH NTLM GSSAPI LOGIN\n250-X-EXPS GSSAPI NTLM\n"
			"250-8BITMIME\n250-BINARYMIME\n250-CHUNKING\n"
			"250-XEXCH50\n250-SMTPUTF8\n250 XRDST",
			"c 250-mail.isp.example\n250-PIPELINING\n"
			"250-8BITMIME\n250-SMTPUTF8\n250-DSN\n"
			"250-ENHANCEDSTATUSCODES\n250-CHUNKING\n"
			"250-BINARYMIME\n250-SIZE 37748736\n"
			"250 AUTH NTLM LOGIN",
			NULL } },
		{ "Gmail", NOT_SHOWN, false, { DIALLED, "S 220 x", "s EHLO pc",
			"S 250-smtp.gmail.example at your service\n"
			"250-SIZE 35882577\n250-8BITMIME\n250-AUTH LOGIN PLAIN "
			"XOAUTH2 PLAIN-CLIENTTOKEN OAUTHBEARER XOAUTH\n"
			"250-ENHANCEDSTATUSCODES\n250-PIPELINING\n"
			"250-CHUNKING\n250 SMTPUTF8",
			"c 250-mail.isp.example\n250-PIPELINING\n"
			"250-8BITMIME\n250-SMTPUTF8\n"
			"250-ENHANCEDSTATUSCODES\n250-CHUNKING\n"
			"250-SIZE 35882577\n"
			"250 AUTH XOAUTH2 OAUTHBEARER PLAIN LOGIN", NULL } },
		{ "odd", NOT_SHOWN, false, { DIALLED, "S 220 x", "s EHLO pc",
			"S 250-x\n250- SIZE 5\n250-size\n250-SIZEABLE\n"
			"250-BURL imap\n250-REQUIRETLS\n250-LIMITS \x1b[2J\n"
			"250-AUTH scram-sha-256-plus SCRAM-SHA-256 scram-sha-1 "
			"SCRAM-SHA-1-PLUS EXTERNAL ANONYMOUS\n250-dsn \n"
			"250-8BITMIMEX\n250-\n250",
			"c 250-mail.isp.example\n250-DSN\n250-SIZE\n"
			"250 AUTH SCRAM-SHA-256 SCRAM-SHA-1", NULL } },
		{ "sizes", NOT_SHOWN, false, { DIALLED, "S 220 x", "s EHLO pc",
			"S 250-x\n250 SIZE 12x",
			"c 250-mail.isp.example\n250 SIZE", "C EHLO pc",
			"s EHLO pc", "S 250-x\n250 SIZE 0",
			"c 250-mail.isp.example\n250 SIZE 0", "C EHLO pc",
			"s EHLO pc", "S 250-x\n250 SIZE 99999999999999999999",
			"c 250-mail.isp.example\n250 SIZE", NULL } },
		{ "old AUTH syntax alone", NOT_SHOWN, false, { DIALLED,
			"S 220 x", "s EHLO pc", "S 250-x\n250 AUTH=LOGIN",
			"c 250-mail.isp.example\n250-AUTH LOGIN\n"
			"250 AUTH=LOGIN", "C AUTH LOGIN", "s AUTH LOGIN",
			NULL } },
	};

	(void)state;
	play(rows, N(rows));
}

/* Both ends of each rule: what the server says, what the client reads, that the
 * command the extension is for goes through as it is, and nothing else. */
#define ROW(name, says, reads) { name, NOT_SHOWN, false, { DIALLED, "S 220 x", \
	"s EHLO pc", "S 250-x\n250 " says, \
	"c 250-mail.isp.example\n250 " reads, NULL } }
#define HIDDEN(name, says) { name, NOT_SHOWN, false, { DIALLED, "S 220 x", \
	"s EHLO pc", "S 250-x\n250 " says, "c 250 mail.isp.example", NULL } }
#define CARRIED(name, says, reads, command) { name, NOT_SHOWN, false, { \
	DIALLED, "S 220 x", "s EHLO pc", \
	"S 250-x\n250-" says "\n250 AUTH PLAIN", \
	"c 250-mail.isp.example\n250-" reads "\n250 AUTH PLAIN", LOGIN, \
	"C " command, "s " command, "S 250 Ok", "c 250 Ok", NULL } }

static void
rules(void **state)
{
	static const struct dialogue rows[] = {
		CARRIED("PIPELINING", "PIPELINING", "PIPELINING", "NOOP"),
		CARRIED("8BITMIME", "8bitmime", "8BITMIME",
			"MAIL FROM:<a@b> BODY=8BITMIME"),
		CARRIED("SMTPUTF8", "SMTPUTF8", "SMTPUTF8",
			"MAIL FROM:<\xe3\x81\x82@b> SMTPUTF8"),
		CARRIED("DSN", "DSN", "DSN",
			"MAIL FROM:<a@b> RET=HDRS ENVID=QQ314159"),
		CARRIED("DSN: RCPT", "DSN", "DSN", "RCPT TO:<a@b> "
			"NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a+2B@b"),
		CARRIED("ENHANCEDSTATUSCODES", "ENHANCEDSTATUSCODES",
			"ENHANCEDSTATUSCODES", "NOOP"),
		CARRIED("CHUNKING", "CHUNKING", "CHUNKING", "NOOP"),
		CARRIED("LIMITS", "LIMITS MAILMAX=99 RCPTMAX=100 RCPTDOMAINMAX=1",
			"LIMITS MAILMAX=99 RCPTMAX=100 RCPTDOMAINMAX=1", "NOOP"),
		CARRIED("MT-PRIORITY", "MT-PRIORITY MIXER", "MT-PRIORITY MIXER",
			"MAIL FROM:<a@b> MT-PRIORITY=-3"),
		CARRIED("MT-PRIORITY alone", "MT-PRIORITY ", "MT-PRIORITY",
			"MAIL FROM:<a@b> MT-PRIORITY=9"),
		CARRIED("DELIVERBY", "DELIVERBY 240", "DELIVERBY 240",
			"MAIL FROM:<a@b> BY=120;R"),
		CARRIED("FUTURERELEASE",
			"FUTURERELEASE 604800 2030-01-01T00:00:00Z",
			"FUTURERELEASE 604800 2030-01-01T00:00:00Z",
			"MAIL FROM:<a@b> HOLDFOR=86400"),
		CARRIED("SIZE", "SIZE 1000", "SIZE 1000",
			"MAIL FROM:<a@b> SIZE=99"),
		CARRIED("AUTH of a mail", "DSN", "DSN",
			"MAIL FROM:<a@b> AUTH=<>"),
		CARRIED("HELP", "HELP\n250-DSN", "DSN", "HELP MAIL"),
		CARRIED("VRFY", "VRFY\n250-DSN", "DSN", "VRFY a"),
		CARRIED("EXPN", "EXPN\n250-DSN", "DSN", "EXPN list"),
		ROW("every mechanism that is text", "AUTH SCRAM-SHA-512 "
			"SCRAM-SHA-256 SCRAM-SHA-1 CRAM-MD5 XOAUTH2 OAUTHBEARER "
			"NTLM PLAIN LOGIN", "AUTH SCRAM-SHA-512 SCRAM-SHA-256 "
			"SCRAM-SHA-1 CRAM-MD5 XOAUTH2 OAUTHBEARER NTLM PLAIN "
			"LOGIN"),
		HIDDEN("channel binding", "AUTH SCRAM-SHA-1-PLUS "
			"SCRAM-SHA-256-PLUS GS2-KRB5-PLUS"),
		HIDDEN("security layers", "AUTH GSSAPI GS2-KRB5 DIGEST-MD5 SRP "
			"KERBEROS_V4"),
		HIDDEN("BINARYMIME alone", "BINARYMIME"),
		HIDDEN("REQUIRETLS", "REQUIRETLS"), HIDDEN("BURL", "BURL imap"),
		HIDDEN("XCLIENT", "XCLIENT NAME ADDR PORT LOGIN"),
		HIDDEN("XFORWARD", "XFORWARD NAME ADDR"), HIDDEN("TURN", "TURN"),
		HIDDEN("ETRN", "ETRN"), HIDDEN("ATRN", "ATRN"),
		HIDDEN("CHECKPOINT", "CHECKPOINT"), HIDDEN("X", "X-ANONYMOUSTLS"),
		HIDDEN("a prefix", "CHUNK"),
		HIDDEN("words that do harm", "LIMITS A=\xff"),
		HIDDEN("a quote", "DELIVERBY \"240\""),
		HIDDEN("words without end", "FUTURERELEASE 1234567890123456789"
			"012345678901234567890123456789012345678901234567890"),
	};

	(void)state;
	play(rows, N(rows));
}

/* XCLIENT is ours: only where configured, only what the server lists. */
static void
xclient(void **state)
{
#define LISTS(more) "S 250-x\n250-XCLIENT NAME " more "\n250 AUTH PLAIN"
#define SEES "c 250-mail.isp.example\n250 AUTH PLAIN"
	static const struct dialogue rows[] = {
		{ "listed", XCLIENT, false, { DIALLED, "S 220 x", "s EHLO pc",
			LISTS("ADDR PROTO HELO PORT LOGIN"),
			"s XCLIENT ADDR=198.18.3.7 PORT=4711 NAME=[UNAVAILABLE]",
			"x NL", "S 220 x", "s EHLO pc", LISTS("ADDR"), SEES,
			"x LL", "C EHLO b", "s EHLO b", LISTS("ADDR"), SEES,
			"C XCLIENT ADDR=192.0.2.1", UNKNOWN, NULL } },
		{ "an address only", XCLIENT, false, { DIALLED, "S 220 x",
			"s EHLO pc", "S 250-x\n250 XCLIENT addr",
			"s XCLIENT ADDR=198.18.3.7", "S 220 x", "s EHLO pc",
			"S 250 x", "c 250 mail.isp.example", NULL } },
		{ "no address", XCLIENT, false, { DIALLED, "S 220 x",
			"s EHLO pc", LISTS("PORT ADDRS"), SEES, "x LL", NULL } },
		{ "not listed", XCLIENT, false, { DIALLED, "S 220 x",
			"s EHLO pc", "S 250-x\n250 AUTH PLAIN", SEES, NULL } },
		{ "listed after", XCLIENT, false, { DIALLED, "S 220 x",
			"s EHLO pc", "S 250-x\n250 AUTH PLAIN", SEES, LOGIN,
			"C NOOP", "s NOOP", NULL } },
		{ "not configured", NOT_SHOWN, false, { DIALLED, "S 220 x",
			"s EHLO pc", LISTS("ADDR"), SEES, NULL } },
		{ "refused", XCLIENT, false, { DIALLED, "S 220 x", "s EHLO pc",
			LISTS("ADDR"),
			"s XCLIENT ADDR=198.18.3.7 NAME=[UNAVAILABLE]",
			"S 550 5.7.0 No", "! fail server-greeting",
			SAYS("421 4.3.2", "refuses service: 550 5.7.0 No"),
			NULL } },
		{ "lost", XCLIENT, false, { DIALLED, "S 220 x", "s EHLO pc",
			LISTS("ADDR"),
			"s XCLIENT ADDR=198.18.3.7 NAME=[UNAVAILABLE]", "E",
			"! fail server-eof", SAYS("421 4.4.2",
			"closed the connection"), NULL } },
	};

	(void)state;
	play(rows, N(rows));
}

/* What must not reach a server that would take it. */
static void
refused(void **state)
{
	static const struct dialogue rows[] = {
		{ "REQUIRETLS on a clear leg", IMPLICIT, false, { AUTHED,
			"C MAIL FROM:<a@b> SIZE=5 requiretls",
			"c 555 5.5.4 REQUIRETLS is not offered",
			"C MAIL FROM:<REQUIRETLS@b>",
			"s MAIL FROM:<REQUIRETLS@b>", NULL } },
		{ "verbs", IMPLICIT, false, { AUTHED, "C ETRN x", UNKNOWN,
			"C ATRN", UNKNOWN, "C TURN", UNKNOWN,
			"C BURL imap://x LAST", UNKNOWN, "C XFORWARD ADDR=x",
			UNKNOWN, "C XCLIENT ADDR=192.0.2.1", UNKNOWN,
			"C SEND FROM:<a>", UNKNOWN, NULL } },
	};

	(void)state;
	play(rows, N(rows));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lists),
		cmocka_unit_test(rules),
		cmocka_unit_test(refused),
		cmocka_unit_test(xclient),
	};

	return cmocka_run_group_tests_name("smtp_ehlo", tests, NULL, NULL);
}
