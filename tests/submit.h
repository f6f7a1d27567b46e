/*
 * submit.h - what the unit tests of submit share: servers, scripts, phrases
 *
 * The macros are parts of scripts (tests/drive.h) that begin most dialogues.
 */
#ifndef SALLYPORT_TESTS_SUBMIT_H
#define SALLYPORT_TESTS_SUBMIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/drive.h"

#define N(a) (sizeof(a) / sizeof((a)[0]))

enum { IMPLICIT, STARTTLS, NOT_SHOWN, XCLIENT };

static struct server_conf servers[] = {
	[IMPLICIT] = { .name = (char[]){ "mail.isp.example" },
		.submission = { TLS_IMPLICIT, 465 }, .starttls = 587 },
	[STARTTLS] = { .name = (char[]){ "mail.isp.example" },
		.submission = { TLS_STARTTLS, 587 }, .starttls = 587 },
	[NOT_SHOWN] = { .name = (char[]){ "mail.isp.example" },
		.submission = { TLS_IMPLICIT, 465 } },
	[XCLIENT] = { .name = (char[]){ "mail.isp.example" },
		.submission = { TLS_IMPLICIT, 465 }, .xclient = true },
};

struct dialogue {
	const char *name;
	int server;
	bool whole;		/* cut in no other way */
	const char *script[48];
};

static inline void
start(struct drive *d, struct context *x, int server)
{
	static char hello[HELLO_MAX];

	memset(x, 0, sizeof(*x));
	x->gateway = "gw1.isp.example";
	x->hello = hello;
	x->server = &servers[server];
	x->src = (struct addr){ .family = AF_INET, .port = 4711,
		.ip = { 198, 18, 3, 7 } };
	memcpy(x->id, "ID0", 4);
	drive_open(d);
	d->guard = true;
	smtp_submit_init(&d->m, x);
}

/* 0, or 1: it went otherwise. */
static inline unsigned
play_way(const struct dialogue *row, size_t way, bool strict)
{
	struct context x;
	struct drive d;
	int rc;

	start(&d, &x, row->server);
	x.strict = strict;
	rc = drive_play(&d, row->script, way);
	if (rc == -1)
		print_message("# %s\n", row->name);
	drive_close(&d);
	return rc == -1;
}

static inline void
play_as(const struct dialogue *rows, size_t n, bool strict)
{
	unsigned bad = 0;

	for (size_t i = 0; i < n; i++) {
		const struct dialogue *row = &rows[i];
		size_t ways = row->whole ? 1 : drive_ways(row->script);

		for (size_t way = 0; way < ways; way++)
			bad += play_way(row, way, strict);
	}
	assert_int_equal(bad, 0);
}

static inline void
play(const struct dialogue *rows, size_t n)
{
	play_as(rows, n, false);
}

#define GREETING "c 220 mail.isp.example ESMTP"
#define LIST "S 250-real.isp.example\n250-PIPELINING\n250-SIZE 1000\n" \
	"250-8BITMIME\n250 AUTH PLAIN LOGIN XOAUTH2"
#define SHOWN "c 250-mail.isp.example\n250-PIPELINING\n250-8BITMIME\n" \
	"250-SIZE 1000\n250-AUTH XOAUTH2 PLAIN LOGIN\n250 STARTTLS"
/* To the client's first turn after the list, over tls:465. */
#define DIALLED GREETING, "C EHLO pc", "! dial tls:465", "U"
#define READY DIALLED, "S 220 real.isp.example ESMTP", "s EHLO pc", LIST, SHOWN
#define LOGIN "C AUTH PLAIN AGEAYg==", "s AUTH PLAIN AGEAYg==", \
	"S 235 2.7.0 Welcome", "c 235 2.7.0 Welcome"
#define AUTHED READY, LOGIN
#define ENVELOPE "C MAIL FROM:<a@isp.example>", "s MAIL FROM:<a@isp.example>", \
	"S 250 2.1.0 Ok", "c 250 2.1.0 Ok", "C RCPT TO:<b@mx.example>", \
	"s RCPT TO:<b@mx.example>", "S 250 2.1.5 Ok", "c 250 2.1.5 Ok"
#define IN_DATA AUTHED, ENVELOPE, "C DATA", "s DATA", "S 354 Go", "c 354 Go"
#define NOT_AUTHED "c 530 5.7.0 Authentication required; set user name and " \
	"password for outgoing mail (ref ID0)"
#define UNKNOWN "c 502 5.5.1 Command not implemented"
#define SAYS(code, words) "c " code " mail.isp.example: " words " (ref ID0)"
#define BYE "C QUIT", "s QUIT", "S 221 2.0.0 Bye", "c 221 2.0.0 Bye", \
	"! close done"

#endif
