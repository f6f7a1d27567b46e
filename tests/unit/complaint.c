/*
 * complaint.c - unit tests of tools/complaint_mail.c, complaint_text.c, moment.c
 *
 * Tables of what people write and what is found in it. Lines are 198.18.0.0/15 and
 * 2001:db8:1::/48; it is 2026-11-26 00:00 UTC. A finding is printed as
 * "ADDRESS PORT TIME DOUBTS", - for what is not said; doubts: p and t, more than
 * one port or time may be meant; y and z, no year, no zone.
 */
#include "tools/complaint.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#define N(a) (sizeof(a) / sizeof((a)[0]))
#define NOW 1795651200	/* 2026-11-26T00:00:00Z */

static bool
is_ours(const void *arg, const struct addr *a)
{
	struct prefix v4, v6;
	const char *why;

	(void)arg;
	assert_int_equal(prefix_parse(&v4, "198.18.0.0/15", &why), 0);
	assert_int_equal(prefix_parse(&v6, "2001:db8:1::/48", &why), 0);
	return prefix_contains(&v4, a) || prefix_contains(&v6, a);
}

static const struct ours ours = { is_ours, NULL, NOW };

static void
print_time(const struct moment *m, char out[24])
{
	time_t t = (time_t)m->at;
	struct tm tm;

	if (m->at == 0)
		snprintf(out, 24, "-");
	else
		assert_true(gmtime_r(&t, &tm) != NULL && strftime(out, 24,
			"%Y-%m-%dT%H:%M:%S", &tm) > 0);
}

static void
print_all(const struct complaint *c, char *out, size_t cap)
{
	static const char *const form[] = { "prose", "arf", "xarf" };
	size_t n = (size_t)snprintf(out, cap, "%s", form[c->form]);
	char text[ADDR_STRLEN], when[24];

	for (size_t i = 0; i < c->n; i++) {
		const struct finding *f = &c->finding[i];

		print_time(&f->when, when);
		n += (size_t)snprintf(out + n, cap - n, "; %s %s%.0u %s %s%s%s%s",
			addr_format(&f->who, text), f->who.port == 0 ? "-" : "",
			f->who.port, when, f->many_ports ? "p" : "",
			f->many_times ? "t" : "", f->when.no_year ? "y" : "",
			f->when.no_zone ? "z" : "");
		while (n > 0 && out[n - 1] == ' ')
			out[--n] = '\0';
		assert_true(n < cap);
	}
	if (c->unread)
		snprintf(out + n, cap - n, "; unread");
}

static void
check_mail(const char *name, const char *mail, size_t len, const char *want)
{
	struct complaint c;
	char got[8192], *copy = malloc(len > 0 ? len : 1);
	const char *why;

	assert_non_null(copy);
	memcpy(copy, mail, len);
	assert_int_equal(complaint_read(copy, len, &ours, &c, &why), 0);
	print_all(&c, got, sizeof(got));
	if (strcmp(got, want) != 0)
		print_message("%s:\n", name);
	assert_string_equal(got, want);
	free(copy);
}

struct row {
	const char *name, *mail, *want;
};

static void
check_rows(const struct row *rows, size_t n)
{
	for (size_t i = 0; i < n; i++)
		check_mail(rows[i].name, rows[i].mail, strlen(rows[i].mail),
			rows[i].want);
}

#define T "2026-11-25T18:14:00"

static void
moments(void **state)
{
	static const struct {
		const char *text, *want;	/* "" no time */
	} rows[] = {
		{ "2026-11-25T18:14:00Z", T },
		{ "2026-11-25T18:14:00.123Z", T },
		{ "2026-11-25t18:14:00z", T },
		{ "2026-11-26T03:14:00+09:00", T },
		{ "2026-11-25 18:14:00 UTC", T },
		{ "2026-11-25 13:14:00 EST", T },
		{ "2026-11-25 18:14:00,221 +0000", T },
		{ "2026-11-25 18:14:00 (GMT)", T },
		{ "2026-11-25 18:14:00", T " z" },
		{ "2026-11-25 18:14:00 CET", T " z" },
		{ "2026/11/25 18:14:00", T " z" },
		{ "25 Nov 2026 18:14:00 +0000", T },
		{ "25 Nov 2026 18:14 -0000", T },
		{ "26 nov 2026 03:14:00 +0900", T },
		{ "25/Nov/2026:18:14:00 +0000", T },
		{ "25/Nov/2026:13:14:00 -0500", T },
		{ "Nov 25 18:14:00", T " yz" },
		{ "Nov  5 18:14:00 host", "2026-11-05T18:14:00 yz" },
		{ "Nov 25 18:14:00 2026", T " z" },
		{ "Nov 25 18:14:00 UTC 2026", T },
		{ "Nov 25 18:14:00 198.18.3.7", T " yz" },
		/* tomorrow is today somewhere; the day after is last year's */
		{ "Nov 26 11:00:00", "2026-11-26T11:00:00 yz" },
		{ "Nov 28 11:00:00", "2025-11-28T11:00:00 yz" },
		{ "Feb 29 11:00:00", "2024-02-29T11:00:00 yz" },
		{ "11/25/2026 18:14:00", "" },
		{ "25.11.2026 18:14:00", "" },
		{ "2026-02-30 18:14:00Z", "" },
		{ "2026-13-01 18:14:00Z", "" },
		{ "2026-11-25 24:14:00Z", "" },
		{ "2026-11-25 18:14Z", "" },
		{ "2026-11-25", "" },
		{ "1969-11-25 18:14:00Z", "" },
		{ "0026-11-25 18:14:00Z", "" },
		{ "November 25 18:14:00", "" },
		{ "25 Nov 26 18:14:00", "" },
		{ "Nov", "" }, { "Nov 25", "" }, { "2026-11-25T", "" },
		{ "", "" }, { "18:14:00", "" },
	};

	(void)state;
	for (size_t i = 0; i < N(rows); i++) {
		struct moment m = { .at = 0 };
		char got[40] = "";
		size_t len = strlen(rows[i].text);

		if (moment_at(rows[i].text, len, NOW, &m) > 0) {
			print_time(&m, got);
			if (m.no_year || m.no_zone)
				snprintf(got + strlen(got), sizeof(got) -
					strlen(got), "%s", m.no_year ? " yz" :
					" z");
		}
		if (strcmp(got, rows[i].want) != 0)
			print_message("%s:\n", rows[i].text);
		assert_string_equal(got, rows[i].want);
		/* and cut off anywhere it is another one, or none */
		while (len-- > 0)
			(void)moment_at(rows[i].text, len, NOW, &m);
	}
}

static void
addresses(void **state)
{
	static const struct {
		const char *text, *want;	/* "" no address */
		size_t taken;
	} rows[] = {
		{ "198.18.3.7", "198.18.3.7:0", 10 },
		{ "198.18.3.7, and", "198.18.3.7:0", 10 },
		{ "198.18.3.7.", "198.18.3.7:0", 10 },
		{ "198.18.3.7:", "198.18.3.7:0", 10 },
		{ "198.18.3.7:40112", "198.18.3.7:40112", 16 },
		{ "198.18.3.7:40112:", "198.18.3.7:40112", 16 },
		{ "[198.18.3.7]:40112", "198.18.3.7:40112", 18 },
		{ "[198.18.3.7]", "198.18.3.7:0", 12 },
		{ "[198.18.3.7]:x", "198.18.3.7:0", 12 },
		{ "[198.18.3.7]:99999", "198.18.3.7:0", 12 },
		{ "2001:db8:1::5", "[2001:db8:1::5]:0", 13 },
		{ "2001:db8:1::", "[2001:db8:1::]:0", 12 },
		{ "[2001:db8:1::5]:40112", "[2001:db8:1::5]:40112", 21 },
		{ "[IPv6:2001:db8:1::5]", "[2001:db8:1::5]:0", 20 },
		{ "IPv6:2001:db8:1::5", "[2001:db8:1::5]:0", 18 },
		{ "::ffff:198.18.3.7", "198.18.3.7:0", 17 },
		{ "[::ffff:198.18.3.7]:40112", "198.18.3.7:40112", 25 },
		{ "198.18.3.7/32", "198.18.3.7:0", 10 },
		{ "198.18.0.0/16", "", 0 },
		{ "2001:db8:1::/48", "", 0 },
		{ "198.18.3.7.dyn.example", "", 0 },
		{ "198.18.3.7x", "", 0 },
		{ "198.18.3", "", 0 },
		{ "198.18.3.256", "", 0 },
		{ "1.198.18.3.7", "", 0 },
		{ "[198.18.3.7", "", 0 },
		{ "[198.18.3.7:25]", "", 0 },
		{ "18:14:00", "", 0 },
		{ "fade", "", 0 }, { "::", "[::]:0", 2 }, { "[", "", 0 },
		{ "", "", 0 }, { ":", "", 0 }, { ".", "", 0 },
	};

	(void)state;
	for (size_t i = 0; i < N(rows); i++) {
		struct addr a;
		char got[ADDR_STRLEN] = "";
		size_t n = complaint_address(rows[i].text,
			strlen(rows[i].text), &a);

		if (n > 0)
			addr_format_port(&a, got);
		if (strcmp(got, rows[i].want) != 0 || n != rows[i].taken)
			print_message("%s:\n", rows[i].text);
		assert_string_equal(got, rows[i].want);
		assert_int_equal(n, rows[i].taken);
	}
}

#define ARF(fields) "From: Reports <fbl@mx.example>\r\nSubject: abuse\r\n" \
	"MIME-Version: 1.0\r\nContent-Type: multipart/report;\r\n" \
	" report-type=feedback-report; boundary=\"b\"\r\n\r\n--b\r\n\r\n" \
	"Mail from 198.18.9.9 came on 1 Nov 2026 10:00:00 +0000.\r\n--b\r\n" \
	"Content-Type: message/feedback-report\r\n\r\n" \
	"Feedback-Type: abuse\r\nUser-Agent: F/1\r\nVersion: 1\r\n" fields \
	"\r\n--b\r\nContent-Type: text/rfc822-headers\r\n\r\n" \
	"Received: from pc (pc [198.18.8.8]:55)\r\nDate: Tue, 3 Nov 2026 " \
	"10:00:00 +0000\r\n--b--\r\n"

static void
arf(void **state)
{
	static const struct row rows[] = {
		{ "all", ARF("Source-IP: 198.18.3.7\r\nSource-Port: 40112\r\n"
			"Arrival-Date: Wed, 25 Nov 2026 18:14:00 +0000\r\n"),
		  "arf; 198.18.3.7 40112 " T },
		{ "IPv6", ARF("source-ip: 2001:db8:1::5\r\n"
			"Received-Date: Thu, 26 Nov 2026 03:14:00 +0900\r\n"),
		  "arf; 2001:db8:1::5 - " T },
		{ "brackets", ARF("Source-IP: [IPv6:2001:db8:1::5]\r\n"),
		  "arf; 2001:db8:1::5 - -" },
		{ "two times", ARF("Source-IP: 198.18.3.7\r\n"
			"Arrival-Date: Wed, 25 Nov 2026 18:14:00 +0000\r\n"
			"Received-Date: Wed, 25 Nov 2026 18:15:00 +0000\r\n"),
		  "arf; 198.18.3.7 - " T " t; "
		  "198.18.3.7 - 2026-11-25T18:15:00 t" },
		{ "the same time twice", ARF("Source-IP: 198.18.3.7\r\n"
			"Arrival-Date: Wed, 25 Nov 2026 18:14:00 +0000\r\n"
			"Received-Date: Thu, 26 Nov 2026 03:14:00 +0900\r\n"),
		  "arf; 198.18.3.7 - " T },
		{ "no such port", ARF("Source-IP: 198.18.3.7\r\n"
			"Source-Port: 70000\r\n"), "arf; 198.18.3.7 - -" },
		{ "a port with letters", ARF("Source-IP: 198.18.3.7\r\n"
			"Source-Port: 40112x\r\n"), "arf; 198.18.3.7 - -" },
		/* of others: what the text says then counts */
		{ "of others", ARF("Source-IP: 203.0.113.9\r\n"),
		  "prose; 198.18.9.9 - 2026-11-01T10:00:00; "
		  "198.18.8.8 55 2026-11-03T10:00:00" },
		{ "no address", ARF("Source-Port: 25\r\n"),
		  "prose; 198.18.9.9 25 2026-11-01T10:00:00; "
		  "198.18.8.8 55 2026-11-03T10:00:00" },
	};

	(void)state;
	check_rows(rows, N(rows));
}

#define XARF4 "{ \"xarf_version\": \"4.2.0\", \"category\": \"messaging\"," \
	" \"type\": \"spam\", \"source_identifier\": \"198.18.3.7\"," \
	" \"source_port\": 40112, \"timestamp\": \"2026-11-25T18:14:00Z\" }"
#define MIXED(type, body) "From: a@b.example\nX-XARF: PLAIN\n" \
	"Content-Type: multipart/mixed; boundary=b\n\n--b\n\nSee below.\n" \
	"--b\nContent-Type: " type "\n\n" body "\n--b--\n"

static void
xarf(void **state)
{
	static const struct row rows[] = {
		{ "4", MIXED("application/json; name=xarf.json", XARF4),
		  "xarf; 198.18.3.7 40112 " T },
		{ "4 in base64", MIXED("application/octet-stream\n"
			"Content-Transfer-Encoding: base64",
			"eyJ4YXJmX3ZlcnNpb24iOiI0LjAuMCIsInNvdXJjZV9pZGVudGlmaW"
			"VyIjoiMTk4LjE4LjMuNyIsInNvdXJj\n"
			"ZV9wb3J0Ijo0MDExMiwidGltZXN0YW1wIjoiMjAyNi0xMS0yNVQxOD"
			"oxNDowMFoifQ=="),
		  "xarf; 198.18.3.7 40112 " T },
		{ "4, bare", "From: a@b\nContent-Type: application/json\n\n"
			XARF4 "\n", "xarf; 198.18.3.7 40112 " T },
		{ "4, one a line", "From: a@b\n\n" XARF4 "\n"
			"{\"xarf_version\":\"4.0.0\",\"source_identifier\":"
			"\"2001:db8:1::5\",\"timestamp\":"
			"\"2026-11-25T18:14:00\"}\n",
		  "xarf; 198.18.3.7 40112 " T "; 2001:db8:1::5 - " T " z" },
		{ "4, a list", "From: a@b\n\n[" XARF4 "," XARF4 "]\n",
		  "xarf; 198.18.3.7 40112 " T },
		{ "0.2", MIXED("text/plain; name=report.txt",
			"Reported-From: a@b.example\nCategory: abuse\n"
			"Report-Type: mail-spam\nSource-Type: ip-address\n"
			"Source: 198.18.3.7\nPort: 25\n"
			"Date: Wed, 25 Nov 2026 18:14:00 +0000\n"),
		  "xarf; 198.18.3.7 - " T },
		{ "0.2 in quotes", MIXED("text/plain",
			"Report-Type: 'x'\nSource: '198.18.3.7'\n"
			"source_port: \"40112\"\nDate: 'Nov 25 18:14:00'\n"),
		  "xarf; 198.18.3.7 40112 " T " yz" },
		{ "broken JSON is text", "From: a@b\n\n{ \"xarf_version\": "
			"\"4.0.0\", \"source_identifier\": \"198.18.3.7\", ",
		  "prose; 198.18.3.7 - -" },
		{ "numbers as they are not", "From: a@b\n\n"
			"{\"xarf_version\":\"4.0.0\",\"source_identifier\":7,"
			"\"source_port\":-1}", "prose" },
		{ "no port", "From: a@b\n\n{\"xarf_version\":\"4.0.0\","
			"\"source_identifier\":\"198.18.3.7\","
			"\"source_port\":-1}", "xarf; 198.18.3.7 - -" },
		{ "other JSON", "From: a@b\n\n{\"ip\":\"198.18.3.7\"}",
		  "prose; 198.18.3.7 - -" },
	};

	(void)state;
	check_rows(rows, N(rows));
}

#define M "From: a@b.example\n\n"

static void
prose(void **state)
{
	static const struct row rows[] = {
		{ "nothing", M "Dear desk, you are bad.\n", "prose" },
		{ "of others", M "203.0.113.9 port 1 2026-11-25 18:14:00Z\n",
		  "prose" },
		{ "one line", M "spam from 198.18.3.7:40112 at "
			"2026-11-25T18:14:00Z.\n",
		  "prose; 198.18.3.7 40112 " T },
		{ "IPv6", M "[2001:db8:1::5]:40112 25 Nov 2026 18:14 UTC\n",
		  "prose; 2001:db8:1::5 40112 " T },
		{ "three lines", M "Address: 198.18.3.7\nPort: 40112\n"
			"Time: Wed, 25 Nov 2026 18:14:00 GMT\n",
		  "prose; 198.18.3.7 40112 " T },
		{ "port of the server", M "198.18.3.7 came to port 25 of ours "
			"at 2026-11-25 18:14:00Z\n",
		  "prose; 198.18.3.7 - " T },
		{ "its own words", M "198.18.3.7, source port 40112, "
			"destination port 2525, 2026-11-25 18:14:00Z\n",
		  "prose; 198.18.3.7 40112 " T },
		{ "a firewall", M "Nov 25 18:14:00 fw kernel: IN=eth0 "
			"SRC=198.18.3.7 DST=203.0.113.9 PROTO=TCP SPT=40112 "
			"DPT=25\n", "prose; 198.18.3.7 40112 " T " yz" },
		{ "sshd", M "Nov 25 18:14:00 h sshd[99]: Failed password for x "
			"from 198.18.3.7 port 40112 ssh2\n",
		  "prose; 198.18.3.7 40112 " T " yz" },
		{ "Postfix", M "2026-11-25T18:14:00.5Z mx postfix/smtpd[7]: "
			"connect from unknown[198.18.3.7]:40112\n",
		  "prose; 198.18.3.7 40112 " T },
		{ "a web server", M "198.18.3.7 - - [25/Nov/2026:18:14:00 "
			"+0000] \"POST / HTTP/1.1\" 200 1234\n",
		  "prose; 198.18.3.7 - " T },
		{ "a list", M "198.18.3.7:1 2026-11-25 18:14:00Z\n"
			"198.18.3.7:2 2026-11-25 18:15:00Z\n"
			"198.18.3.8:3 2026-11-25 18:16:00Z\n",
		  "prose; 198.18.3.7 1 " T "; 198.18.3.7 2 2026-11-25T18:15:00;"
		  " 198.18.3.8 3 2026-11-25T18:16:00" },
		{ "said first, then shown", M "We complain about 198.18.3.7:\n"
			"198.18.3.7:1 2026-11-25 18:14:00Z\n",
		  "prose; 198.18.3.7 1 " T },
		{ "two ports", M "198.18.3.7 2026-11-25 18:14:00Z\n"
			"port 40112 or port 40113\n",
		  "prose; 198.18.3.7 40112 " T " p; 198.18.3.7 40113 " T " p" },
		{ "two times", M "198.18.3.7:40112\nfirst 2026-11-25 18:14:00Z"
			" last 2026-11-25 18:15:00Z\n",
		  "prose; 198.18.3.7 40112 " T " t; "
		  "198.18.3.7 40112 2026-11-25T18:15:00 t" },
		{ "two times on its line", M "198.18.3.7:40112 2026-11-25 "
			"18:14:00Z 2026-11-25 18:15:00Z\n",
		  "prose; 198.18.3.7 40112 " T " t; "
		  "198.18.3.7 40112 2026-11-25T18:15:00 t" },
		{ "one time in two forms", M "Nov 25 18:14:00 mx: 198.18.3.7 "
			"at 2026-11-25 18:14:00Z\n",
		  "prose; 198.18.3.7 - " T },
		{ "a mapped address", M "::ffff:198.18.3.7 2026-11-25 "
			"18:14:00Z\n", "prose; 198.18.3.7 - " T },
		{ "a network", M "all of 198.18.0.0/16 is bad\n", "prose" },
		{ "quoted", M "> 198.18.3.7\n> 2026-11-25 18:14:00 UTC\n",
		  "prose; 198.18.3.7 - " T },
		{ "no header", "198.18.3.7 did it\n", "prose; 198.18.3.7 - -" },
		{ "the mail's own way does not count",
		  "Received: from x ([198.18.3.9]:44); Wed, 25 Nov 2026 "
		  "18:00:00 +0000\nDate: Wed, 25 Nov 2026 18:00:00 +0000\n" M
		  "198.18.3.7\n", "prose; 198.18.3.7 - -" },
		{ "a forwarded mail", "From: a@b\nContent-Type: message/rfc822"
			"\n\nReceived: from x ([198.18.3.7]:40112) by mx; Wed, "
			"25 Nov 2026 18:14:00 +0000\nSubject: buy\n\nbuy\n",
		  "prose; 198.18.3.7 40112 " T },
		{ "HTML", "From: a@b\nContent-Type: text/html\n\n<td>198.18.3.7"
			"</td><td>2026-11-25 18:14:00Z</td>\n",
		  "prose; 198.18.3.7 - " T },
		{ "quoted-printable", "From: a@b\nContent-Transfer-Encoding: "
			"quoted-printable\n\n198.18=2E3.7=3A40112 2026-11-25 =\n"
			"18:14:00Z\n", "prose; 198.18.3.7 40112 " T },
		{ "8 bit", M "\xe8\xbf\xb7\xe6\x83\x91\xef\xbc\x9a""198.18.3.7"
			"\xff:40112\n", "prose; 198.18.3.7 - -" },
	};

	(void)state;
	check_rows(rows, N(rows));
}

static void
hostile(void **state)
{
	static const struct row rows[] = {
		{ "no boundary", "Content-Type: multipart/mixed\n\n198.18.3.7\n",
		  "prose; 198.18.3.7 - -" },
		{ "no end", "Content-Type: multipart/mixed; boundary=b\n\n--b\n"
			"Content-Transfer-Encoding: base64\n\nMTk4LjE4LjMuNw==",
		  "prose; 198.18.3.7 - -" },
		{ "not base64", "From: a@b\nContent-Transfer-Encoding: base64\n"
			"\n!!!!\n", "prose" },
		{ "a picture", "From: a@b\nContent-Type: image/png\n\n"
			"198.18.3.7\n", "prose; 198.18.3.7 - -" },
		{ "braces", "From: a@b\n\n{{{{{{[[[[\n", "prose" },
		{ "a header without end", "From: a@b", "prose" },
	};
	static const char nul[] = "From: a@b\n\n1\0009\0008.18.3.7\0\n";
	static const char wide[] = "From: a@b\nContent-Transfer-Encoding: "
		"base64\n\n//4xADkAOAAuADEAOAAuADMALgA3AA==\n";

	(void)state;
	check_rows(rows, N(rows));
	check_mail("NUL", nul, sizeof(nul) - 1, "prose; 198.18.3.7 - -");
	check_mail("UTF-16", wide, sizeof(wide) - 1, "prose; 198.18.3.7 - -");
}

/* One piece again and again until the mail is full. */
static char *
fill(const char *piece, size_t *len_r)
{
	size_t n = strlen(piece), len = 0;
	char *mail = malloc(COMPLAINT_MAX);

	assert_non_null(mail);
	for (; len + n <= COMPLAINT_MAX; len += n)
		memcpy(mail + len, piece, n);
	*len_r = len;
	return mail;
}

static void
bounds(void **state)
{
	static const struct {
		const char *piece;
		bool unread;
		size_t n;
	} rows[] = {
		{ "Content-Type: message/rfc822\n\n", true, 0 },
		{ "Content-Type: multipart/mixed; boundary=b\n\n--b\n", true,
		  0 },
		{ "198.18.3.7:1 2026-11-25 18:14:00Z\n", false, 1 },
		{ "198.18.3.7 ", false, 1 },
		{ "2026-11-25 18:14:00Z ", false, 0 },
		{ "port 1 ", false, 0 },
		{ "\n", false, 0 }, { "[", false, 0 }, { " ", false, 0 },
		{ "a", false, 0 }, { "1", false, 0 }, { ":", false, 0 },
		{ "25 ", false, 0 }, { "Nov ", false, 0 },
		{ "\n{\"a\":[", false, 0 },
	};
	struct complaint c;
	const char *why;

	(void)state;
	for (size_t i = 0; i < N(rows); i++) {
		size_t len;
		char *mail = fill(rows[i].piece, &len);

		assert_int_equal(complaint_read(mail, len, &ours, &c, &why), 0);
		if (c.unread != rows[i].unread || c.n != rows[i].n)
			print_message("%s:\n", rows[i].piece);
		assert_int_equal(c.unread, rows[i].unread);
		assert_int_equal(c.n, rows[i].n);
		free(mail);
	}
}

/* More findings than there is room for are counted. */
static void
many(void **state)
{
	struct complaint c;
	char mail[4096] = M;
	size_t n = strlen(mail);
	const char *why;

	(void)state;
	for (unsigned i = 0; i < 60; i++)
		n += (size_t)snprintf(mail + n, sizeof(mail) - n,
			"198.18.4.%u:9%03u 2026-11-25 18:14:00Z\n", i, i);
	assert_int_equal(complaint_read(mail, n, &ours, &c, &why), 0);
	assert_int_equal(c.n, COMPLAINT_FINDINGS);
	assert_int_equal(c.lost, 60 - COMPLAINT_FINDINGS);
}

static void
refused(void **state)
{
	struct complaint c;
	const char *why = "";
	char *mail = calloc(1, COMPLAINT_MAX + 1);

	(void)state;
	assert_non_null(mail);
	assert_int_equal(complaint_read(mail, 0, &ours, &c, &why), -1);
	assert_non_null(strstr(why, "nothing"));
	assert_int_equal(complaint_read(mail, COMPLAINT_MAX + 1, &ours, &c,
		&why), -1);
	assert_non_null(strstr(why, "1 MiB"));
	free(mail);
}

/* They go to a terminal and into a header of ours. */
static void
headers(void **state)
{
	static const char mail[] = "From: =?utf-8?q?a=0D=0ABcc:_x?= "
		"<a@b.example>\nReply-To: \"\033[2J\" <c@d.example>\n"
		"Subject: =?utf-8?b?DQpCY2M6IHg=?= \xe2\x98\x83\n\n198.18.3.7\n";
	struct complaint c;
	const char *why;
	char copy[sizeof(mail)];

	(void)state;
	memcpy(copy, mail, sizeof(mail));
	assert_int_equal(complaint_read(copy, sizeof(mail) - 1, &ours, &c,
		&why), 0);
	assert_non_null(strstr(c.from, "c@d.example"));
	assert_non_null(strstr(c.subject, "Bcc: x"));
	for (const char *p = c.from; *p != '\0'; p++)
		assert_true(*p >= ' ' && *p <= '~');
	for (const char *p = c.subject; *p != '\0'; p++)
		assert_true(*p >= ' ' && *p <= '~');
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(moments),
		cmocka_unit_test(addresses),
		cmocka_unit_test(arf),
		cmocka_unit_test(xarf),
		cmocka_unit_test(prose),
		cmocka_unit_test(hostile),
		cmocka_unit_test(bounds),
		cmocka_unit_test(many),
		cmocka_unit_test(refused),
		cmocka_unit_test(headers),
	};

	return cmocka_run_group_tests_name("complaint", tests, NULL, NULL);
}
