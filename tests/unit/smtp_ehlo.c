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
			"250-ENHANCEDSTATUSCODES\n250-SIZE 10240000\n"
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
			"250-ENHANCEDSTATUSCODES\n250-SIZE 37748736\n"
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
			"250-ENHANCEDSTATUSCODES\n250-SIZE 35882577\n"
			"250 AUTH XOAUTH2 OAUTHBEARER PLAIN LOGIN", NULL } },
		{ "odd", NOT_SHOWN, false, { DIALLED, "S 220 x", "s EHLO pc",
			"S 250-x\n250- SIZE 5\n250-size\n250-SIZEABLE\n"
			"250-BURL imap\n250-REQUIRETLS\n250-LIMITS RCPTMAX=1\n"
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

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lists),
	};

	return cmocka_run_group_tests_name("smtp_ehlo", tests, NULL, NULL);
}
