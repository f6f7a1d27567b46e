/*
 * evidence.c - unit tests of proxyd/evidence.c
 *
 * Dialogues are scripts (tests/drive.h) through the real machines; what must
 * come out is the list of kinds with bad and all events, in the form of the log
 * line, and the habits. Our own answers must leave nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/submit.h"
#include "proxyd/smtp.h"

static char *text[] = { "closed" };
static const struct block_conf block = {
	.stage = BLOCK_RCPT, .code = 550, .esc = "5.7.1", .text = text,
	.ntext = 1,
};

enum machine_kind { BLOCK, RELAY, RELAY_READ, SUBMIT };

struct row {
	const char *name;
	enum machine_kind machine;
	const char *want;	/* "helo:0/1 null:1/2 early" */
	const char *script[40];
};

static void
context_init(struct context *x, enum machine_kind kind)
{
	static char hello[HELLO_MAX];

	memset(x, 0, sizeof(*x));
	x->gateway = "gw1.isp.example";
	x->hello = hello;
	x->key[0] = 7;
	x->block = &block;
	x->read_replies = kind == RELAY_READ;
	x->server = kind == SUBMIT ? &servers[IMPLICIT] : NULL;
	memcpy(x->id, "ID0", 4);
	assert_int_equal(addr_parse(&x->src, "198.18.3.7"), 0);
}

static void
machine_init(struct machine *m, const struct context *x, enum machine_kind kind)
{
	if (kind == BLOCK)
		smtp_block_init(m, x);
	else if (kind == SUBMIT)
		smtp_submit_init(m, x);
	else
		smtp_relay_init(m, x);
}

static void
describe(const struct machine *m, char out[256])
{
	static const char *const word[EVIDENCE_COUNT] = { "contact", "unknown",
		"refusal", "null", "helo" };
	static const char *const habit[] = { "early ", "pipelined ", "quit " };
	const struct witness *w = &m->notes.witness;
	size_t n = 0;

	out[0] = '\0';
	for (int i = 0; i < EVIDENCE_COUNT; i++)
		if (w->good[i] + w->bad[i] > 0)
			n += (size_t)snprintf(out + n, 256 - n, "%s:%d/%d ",
				word[i], w->bad[i], w->good[i] + w->bad[i]);
	for (int i = 0; i < 3; i++)
		if (w->habits >> i & 1)
			n += (size_t)snprintf(out + n, 256 - n, "%s", habit[i]);
}

#define RUN "! dial plain:0", "U"
#define GO(c) "C " c, "s " c
#define TOLD(s) "S " s, "c " s
#define GREETED RUN, TOLD("220 mx.example ESMTP"), GO("EHLO pc"), \
	TOLD("250 mx.example")
#define MAILED GREETED, GO("MAIL FROM:<a@b.example>"), TOLD("250 ok")
#define REFUSED(s) MAILED, GO("RCPT TO:<x@y.example>"), TOLD(s)

static const struct row rows[] = {
	{ "accepted", RELAY_READ, "unknown:0/2 refusal:0/1 null:0/1 helo:0/1 ",
		{ REFUSED("250 2.1.5 ok"), GO("RCPT TO:<z@y.example>"),
		TOLD("250 2.1.5 ok") } },
	{ "unknown by code", RELAY_READ, "unknown:1/1 null:0/1 helo:0/1 ",
		{ REFUSED("550 5.1.1 go away") } },
	{ "unknown by words", RELAY_READ, "unknown:1/1 null:0/1 helo:0/1 ",
		{ REFUSED("550 <x@y.example>: User Unknown") } },
	{ "unknown in the first of two lines", RELAY_READ,
		"unknown:1/1 null:0/1 helo:0/1 ",
		{ REFUSED("550-No such user here"), TOLD("550 see our page") } },
	{ "words do not overrule a code", RELAY_READ,
		"refusal:1/1 null:0/1 helo:0/1 ",
		{ REFUSED("550 5.7.1 user unknown to our list of friends") } },
	{ "listed", RELAY_READ, "refusal:1/1 null:0/1 helo:0/1 ",
		{ REFUSED("554 5.7.1 blocked by a list") } },
	{ "later", RELAY_READ, "refusal:1/1 null:0/1 helo:0/1 ",
		{ REFUSED("450 4.1.1 user unknown, perhaps") } },
	{ "refused at MAIL and greeting's own", RELAY_READ,
		"refusal:1/1 null:0/1 helo:0/1 ",
		{ GREETED, GO("MAIL FROM:<a@b.example>"), TOLD("553 no") } },
	{ "refused at the greeting", RELAY_READ, "refusal:1/1 ",
		{ RUN, TOLD("554 5.7.1 no") } },
	{ "other replies say nothing", RELAY_READ,
		"null:0/1 helo:0/1 ", { MAILED, GO("VRFY x"),
		TOLD("550 5.1.1 no such user"), GO("FOO"), TOLD("500 what") } },
	{ "unread: only that it was reached", RELAY,
		"refusal:0/1 null:0/1 helo:0/1 ",
		{ REFUSED("550 5.1.1 no such user") } },
	{ "TLS: reached", RELAY_READ, "refusal:0/1 helo:0/1 ",
		{ GREETED, GO("STARTTLS"), TOLD("220 go") } },
	{ "the server's own name", RELAY_READ, "helo:1/1 ",
		{ RUN, TOLD("220 MX.example ESMTP"), GO("EHLO mx.example") } },
	{ "early", RELAY_READ, "helo:1/1 early ",
		{ RUN, GO("EHLO pc.example") } },
	{ "pipelined with leave", RELAY_READ, "null:0/1 helo:0/1 ",
		{ GREETED, GO("MAIL FROM:<a@b.example>\nRCPT TO:<x@y>\nDATA") } },
	{ "pipelined behind EHLO", RELAY_READ, "null:0/1 helo:0/1 pipelined ",
		{ RUN, TOLD("220 mx"), GO("EHLO pc\nMAIL FROM:<a@b.example>") } },
	{ "pipelined after HELO", RELAY_READ, "null:0/1 helo:0/1 pipelined ",
		{ RUN, TOLD("220 mx"), GO("HELO pc"), TOLD("250 mx"),
		GO("MAIL FROM:<a@b.example>\nRCPT TO:<x@y>") } },
	{ "a body before 354", RELAY_READ, "null:0/1 helo:0/1 pipelined ",
		{ MAILED, GO("DATA\nSubject: x") } },
	{ "null sender, twice EHLO, QUIT", RELAY_READ,
		"null:1/2 helo:0/1 quit ",
		{ MAILED, GO("RSET"), TOLD("250 ok"), GO("EHLO localhost"),
		TOLD("250 mx.example"), GO("MAIL FROM: <>"), TOLD("250 ok"),
		GO("QUIT") } },

	{ "block: our answers are none", BLOCK, "null:0/1 helo:0/1 quit ",
		{ "c 220 gw1.isp.example ESMTP", "C HELO pc",
		"c 250 gw1.isp.example", "C MAIL FROM:<a@b.example>",
		"c 250 2.1.0 Ok", "C RCPT TO:<x@y.example>",
		"c 550-5.7.1 closed", "c 550 5.7.1 (ref ID0)", "C QUIT",
		"c 221 2.0.0 Bye", "! close policy" } },
	{ "block: the gateway's name", BLOCK, "helo:1/1 ",
		{ "c 220 gw1.isp.example ESMTP", "C HELO GW1.isp.example",
		"c 250 gw1.isp.example" } },

	{ "submit: our 530 is none", SUBMIT, "null:1/1 helo:0/1 ",
		{ READY, "C MAIL FROM:<>", "c 530 5.7.0 Authentication "
		"required; set user name and password for outgoing mail "
		"(ref ID0)" } },
	{ "submit: a server in trouble", SUBMIT, "null:0/1 helo:0/1 ",
		{ AUTHED, GO("MAIL FROM:<a@isp.example>"),
		TOLD("451 4.3.0 full") } },
	{ "submit: unknown", SUBMIT, "unknown:1/1 null:0/1 helo:0/1 ",
		{ AUTHED, GO("MAIL FROM:<a@isp.example>"), TOLD("250 ok"),
		GO("RCPT TO:<x@y.example>"), TOLD("550 5.1.1 no") } },
};

static void
sessions(void **state)
{
	(void)state;
	for (size_t i = 0; i < N(rows); i++) {
		const struct row *row = &rows[i];

		for (size_t step = 0; step < 2; step++) {
			struct context x;
			struct drive d;
			char got[256];

			/* An octet at a time nothing waits behind a line. */
			if (step == 1 && row->machine != RELAY_READ)
				continue;
			context_init(&x, row->machine);
			drive_open(&d);
			machine_init(&d.m, &x, row->machine);
			if (drive_play(&d, row->script, step) == -1)
				fail_msg("%s", row->name);
			describe(&d.m, got);
			if (strcmp(got, row->want) != 0)
				fail_msg("%s: got \"%s\", not \"%s\"",
					row->name, got, row->want);
			drive_close(&d);
		}
	}
}

static void
hello(void **state)
{
	static const struct {
		const char *name;
		bool bad;
	} names[] = {
		{ "pc", false }, { "mail.example", false }, { "my_pc", false },
		{ "[198.18.3.7]", false }, { "[192.168.1.5]", false },
		{ "[IPv6:fe80::1]", false }, { "[203.0.113.9]", true },
		{ "[198.18.3.7", true }, { "[]", true }, { "", true },
		{ "198.18.3.7", true }, { "localhost", true },
		{ "LOCALHOST.localdomain", true }, { "localhoster", false },
		{ "a..b", true }, { ".a", true }, { "a b", true },
		{ "p\xc3\xa9", true }, { "gw1.isp.example", true },
		{ "[198.18.3.7]:25]", true }, { "12345", true },
	};

	(void)state;
	for (size_t i = 0; i < N(names); i++) {
		struct context x;
		struct drive d;
		char line[64];

		context_init(&x, BLOCK);
		drive_open(&d);
		machine_init(&d.m, &x, BLOCK);
		drive_greet(&d);
		snprintf(line, sizeof(line), "EHLO %s\r\n", names[i].name);
		drive_send(&d, CLIENT, line, strlen(line), 0);
		if (d.m.notes.witness.bad[EVIDENCE_HELO] != names[i].bad)
			fail_msg("EHLO \"%s\"", names[i].name);
		drive_close(&d);
	}
}

static uint16_t
dialect_of(const char *said, uint64_t key, uint64_t *domains_r)
{
	struct context x;
	struct drive d;
	uint16_t result;

	context_init(&x, BLOCK);
	x.key[0] = key;
	drive_open(&d);
	machine_init(&d.m, &x, BLOCK);
	drive_greet(&d);
	drive_send(&d, CLIENT, said, strlen(said), 1);
	result = evidence_dialect(&d.m);
	*domains_r = d.m.notes.witness.domains;
	drive_close(&d);
	return result;
}

#define BASE "EHLO a\r\nMAIL FROM:<a@b.c> SIZE=1\r\nRCPT TO:<d@e>\r\n"

/* The same habits with other words are the same dialect; other habits not. */
static void
dialects(void **state)
{
	static const struct {
		const char *said;
		bool same;
	} rows_d[] = {
		{ "EHLO bb.cc\r\nMAIL FROM:<x@y.z> SIZE=99\r\nRCPT TO:<q@r>\r\n",
			true },
		{ BASE "RCPT TO:<f@g>\r\nRCPT TO:<h@i>\r\n", true },
		{ "ehlo a\r\nMAIL FROM:<a@b.c> SIZE=1\r\nRCPT TO:<d@e>\r\n",
			false },
		{ "EHLO a\r\nMAIL FROM: <a@b.c> SIZE=1\r\nRCPT TO:<d@e>\r\n",
			false },
		{ "EHLO a\r\nMAIL FROM:<a@b.c>  SIZE=1\r\nRCPT TO:<d@e>\r\n",
			false },
		{ "EHLO a\r\nMAIL FROM:<a@b.c>\r\nRCPT TO:<d@e>\r\n", false },
		{ "EHLO a \r\nMAIL FROM:<a@b.c> SIZE=1\r\nRCPT TO:<d@e>\r\n",
			false },
		{ "EHLO a\nMAIL FROM:<a@b.c> SIZE=1\r\nRCPT TO:<d@e>\r\n",
			false },
		{ "HELO a\r\nMAIL FROM:<a@b.c> SIZE=1\r\nRCPT TO:<d@e>\r\n",
			false },
		{ BASE "QUIT\r\n", false },
	};
	uint64_t domains, other;
	uint16_t base = dialect_of(BASE, 7, &domains);

	(void)state;
	assert_int_not_equal(base, 0);
	assert_int_equal(dialect_of("", 7, &other), 0);
	for (size_t i = 0; i < N(rows_d); i++)
		if ((dialect_of(rows_d[i].said, 7, &other) == base) !=
		    rows_d[i].same)
			fail_msg("dialect %zu", i);
	assert_int_not_equal(dialect_of(BASE, 8, &other), base);
	assert_int_not_equal(domains, 0);
	(void)dialect_of("EHLO a\r\nMAIL FROM:<other@B.C>\r\n", 7, &other);
	assert_true(domains == other);
	(void)dialect_of("EHLO a\r\nMAIL FROM:<>\r\n", 7, &other);
	assert_true(other == 0);
}

/* More events than there is room for are dropped, the oldest are kept. */
static void
bounds(void **state)
{
	static const char mail[] = "MAIL FROM:<>\r\n", ok[] = "250 ok\r\n";
	uint8_t events[WITNESS_EVENTS];
	struct context x;
	static struct drive d;

	(void)state;
	context_init(&x, RELAY);
	drive_open(&d);
	machine_init(&d.m, &x, RELAY);
	drive_greet(&d);
	drive_upstream(&d);
	drive_send(&d, SERVER, "220 mx\r\n", 8, 0);
	for (int i = 0; i < WITNESS_EVENTS + 10; i++) {
		drive_send(&d, CLIENT, mail, strlen(mail), 0);
		drive_send(&d, SERVER, ok, strlen(ok), 0);
	}
	assert_int_equal(evidence_take(&d.m.notes.witness, events),
		WITNESS_EVENTS);
	assert_int_equal(EVENT_EVIDENCE(events[0]), EVIDENCE_REFUSAL);
	assert_int_equal(EVENT_MARK(events[0]), MARK_GOOD);
	assert_int_equal(EVENT_EVIDENCE(events[1]), EVIDENCE_NULL_SENDER);
	assert_int_equal(EVENT_MARK(events[1]), MARK_BAD);
	assert_int_equal(evidence_take(&d.m.notes.witness, events), 0);
	drive_close(&d);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sessions),
		cmocka_unit_test(hello),
		cmocka_unit_test(dialects),
		cmocka_unit_test(bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
