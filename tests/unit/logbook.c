/*
 * logbook.c - unit tests of proxyd/logbook.c and proxyd/envelope.c
 *
 * The minutes are the tests' own. What comes out is collected as text; what a
 * summary says must be what was left out, to the last session.
 */
#include "proxyd/logbook.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "conf/conf.h"
#include "proxyd/smtp.h"

#define N(a) (sizeof(a) / sizeof((a)[0]))
#define NOON (INT64_C(1795608000))

static struct class_conf classes[] = { { .name = "dynamic", .line_len6 = 56 } };
static struct server_conf servers[] = { { .name = "mail.isp.example" } };

struct out {
	unsigned lines, summaries;
	uint64_t sessions;	/* in summaries */
	uint64_t rcpts;		/* in all lines */
	char last[2560];
};

static uint64_t
number(const char *line, const char *key)
{
	const char *p = strstr(line, key);

	return p == NULL ? 0 : strtoull(p + strlen(key), NULL, 10);
}

static void
collect(void *arg, int level, const char *line)
{
	struct out *o = arg;

	(void)level;
	o->lines++;
	o->rcpts += number(line, " rcpts=");
	if (strstr(line, " reason=summary") != NULL) {
		o->summaries++;
		o->sessions += number(line, " sessions=");
	}
	snprintf(o->last, sizeof(o->last), "%s", line);
}

static struct conf
conf_of(unsigned per_minute)
{
	return (struct conf){ .classes = classes, .nclasses = 1,
		.servers = servers, .nservers = 1,
		.log_per_minute = per_minute };
}

static struct report
blocked(unsigned host)
{
	struct report e = { .kind = EVENT_BLOCK, .reason = REASON_POLICY,
		.stage = STAGE_RCPT_TO, .code = 550, .server_index = -1,
		.rcpts = 2, .bytes_up = 70, .id = 1, .at = NOON };
	char text[32];

	snprintf(text, sizeof(text), "198.18.%u.%u:25", host >> 8, host & 255);
	addr_parse(&e.src, text);
	line_key_of(&e.src, 56, 0, &e.line);
	addr_parse(&e.dst, "203.0.113.9:25");
	return e;
}

static void
summaries(void **state)
{
	struct conf c = conf_of(20);
	struct out o = { 0 };
	struct logbook *b = logbook_new(&c, collect, &o);
	struct report e = blocked(7), other = blocked(8);

	(void)state;
	e.bad[EVIDENCE_HELO] = 1;
	for (int i = 0; i < 100; i++)
		logbook_take(b, &e, NOON + i % 60);
	logbook_take(b, &other, NOON + 59);
	assert_int_equal(o.lines, 21);
	logbook_tick(b, NOON + 59);
	assert_int_equal(o.lines, 21);
	logbook_tick(b, NOON + 60);
	assert_int_equal(o.lines, 22);
	assert_int_equal(o.sessions, 80);
	assert_int_equal(o.rcpts, 101 * 2);
	assert_string_equal(o.last, "block id=0000000000001 line=198.18.0.7 "
		"class=dynamic sessions=80 code=550 rcpts=160 msgs=0 up=5600 "
		"down=0 dur=60.0 reason=summary at=1795608000 "
		"evidence=helo:80/80");
	/* the next minute begins anew, with or without a tick */
	for (int i = 0; i < 20; i++)
		logbook_take(b, &e, NOON + 60);
	assert_int_equal(o.lines, 42);
	logbook_take(b, &e, NOON + 61);
	logbook_take(b, &e, NOON + 121);
	assert_int_equal(o.lines, 44);
	assert_int_equal(o.sessions, 81);
	/* what has not been told is told at the end */
	for (int i = 0; i < 30; i++)
		logbook_take(b, &other, NOON + 122);
	logbook_free(&b, NOON + 123);
	assert_int_equal(o.sessions, 81 + 10);
	assert_null(b);
}

/* Kinds apart; alarms always; 0 is no limit. */
static void
limits(void **state)
{
	struct conf c = conf_of(1);
	struct out o = { 0 };
	struct logbook *b = logbook_new(&c, collect, &o);
	struct report e = blocked(7), relayed = e, alarm = e;

	(void)state;
	relayed.kind = EVENT_RELAY;
	alarm.kind = EVENT_ALARM;
	for (int i = 0; i < 3; i++) {
		logbook_take(b, &e, NOON);
		logbook_take(b, &relayed, NOON);
		logbook_take(b, &alarm, NOON);
	}
	assert_int_equal(o.lines, 1 + 1 + 3);
	logbook_free(&b, NOON);
	assert_int_equal(o.summaries, 2);
	c = conf_of(0);
	memset(&o, 0, sizeof(o));
	b = logbook_new(&c, collect, &o);
	for (int i = 0; i < 1000; i++)
		logbook_take(b, &e, NOON);
	assert_int_equal(o.lines, 1000);
	logbook_free(&b, NOON);
	assert_int_equal(o.lines, 1000);
}

/* More lines than there is room for: nothing is lost, and no report writes
 * more than two lines. */
static void
crowded(void **state)
{
	struct conf c = conf_of(1);
	struct out o = { 0 };
	struct logbook *b = logbook_new(&c, collect, &o);
	unsigned taken = 0;

	(void)state;
	for (unsigned round = 0; round < 3; round++)
		for (unsigned host = 0; host < 20000; host++) {
			struct report e = blocked(host);
			unsigned before = o.lines;

			logbook_take(b, &e, NOON);
			logbook_take(b, &e, NOON);
			taken += 2;
			assert_true(o.lines - before <= 3);
		}
	logbook_free(&b, NOON);
	assert_int_equal(o.rcpts, taken * 2);
	assert_int_equal(o.lines - o.summaries + o.sessions, taken);
}

static void
wraps(void **state)
{
	struct conf c = conf_of(0);
	struct out o = { 0 };
	struct logbook *b = logbook_new(&c, collect, &o);
	struct report e = blocked(7);

	(void)state;
	e.kind = EVENT_WRAP;
	e.stage = STAGE_SESSION;
	e.reason = REASON_DONE;
	logbook_take(b, &e, NOON);
	assert_int_equal(o.lines, 0);
	e.stage = STAGE_TLS;
	logbook_take(b, &e, NOON);
	e.stage = STAGE_SESSION;
	e.reason = REASON_SERVER_TIMEOUT;
	logbook_take(b, &e, NOON);
	assert_int_equal(o.lines, 2);
	c.log_wraps = true;
	e.reason = REASON_DONE;
	logbook_take(b, &e, NOON);
	assert_int_equal(o.lines, 3);
	logbook_free(&b, NOON);
}

static void
destinations(void **state)
{
	static const struct {
		enum log_destination how;
		const char *dst;
		int server;
		const char *want;	/* dst= */
		bool has_detail;
	} rows[] = {
		{ LOG_DESTINATION_FULL, "203.0.113.9:25", -1,
		  " dst=203.0.113.9:25 ", true },
		{ LOG_DESTINATION_NET, "203.0.113.9:25", -1,
		  " dst=203.0.113.0:25 ", false },
		{ LOG_DESTINATION_NET, "[2001:db8:7:8::9]:25", 0,
		  " dst=[2001:db8:7::]:25 ", true },
		{ LOG_DESTINATION_NONE, "203.0.113.9:25", -1, NULL, false },
		{ LOG_DESTINATION_NONE, "203.0.113.9:25", 0, NULL, true },
	};

	(void)state;
	for (size_t i = 0; i < N(rows); i++) {
		struct conf c = conf_of(0);
		struct out o = { 0 };
		struct logbook *b;
		struct report e = blocked(7);

		c.log_destination = rows[i].how;
		c.log_envelope = LOG_ENVELOPE_FULL;
		b = logbook_new(&c, collect, &o);
		addr_parse(&e.dst, rows[i].dst);
		addr_parse(&e.via, "203.0.113.77:465");
		e.server_index = (int16_t)rows[i].server;
		memcpy(e.detail, "mx.example says no", 18);
		e.detail_len = 18;
		logbook_take(b, &e, NOON);
		if (rows[i].want != NULL)
			assert_non_null(strstr(o.last, rows[i].want));
		else
			assert_null(strstr(o.last, " dst="));
		assert_true((strstr(o.last, "203.0.113.77") != NULL) ==
			(rows[i].how == LOG_DESTINATION_FULL));
		assert_true((strstr(o.last, "mx.example says no") != NULL) ==
			rows[i].has_detail);
		logbook_free(&b, NOON);
	}
}

/* ---- envelopes ---- */

static void
note(struct envelope *v, const char *text)
{
	struct line l = { .text = (const uint8_t *)text, .len = strlen(text) };
	struct command c;

	smtp_command(&l, &c);
	envelope_note(v, &c);
}

static void
paths(void **state)
{
	static const struct {
		const char *line, *from, *to;
	} rows[] = {
		{ "MAIL FROM:<a@b.example> SIZE=10", "a@b.example", "" },
		{ "mail from: <a@b.example>", "a@b.example", "" },
		{ "MAIL FROM:a@b.example SIZE=10", "a@b.example", "" },
		{ "MAIL FROM:<>", "<>", "" },
		{ "MAIL FROM:<cut@of", "cut@of", "" },
		{ "MAIL FROM:", "", "" },
		{ "MAIL FROM:<", "", "" },
		{ "MAIL", "", "" },
		{ "RCPT TO:<@x,@y:c@d.example>", "", "@x,@y:c@d.example" },
		{ "RCPT FROM:<c@d.example>", "", "" },
		{ "EHLO <a@b.example>", "", "" },
	};

	(void)state;
	for (size_t i = 0; i < N(rows); i++) {
		struct envelope v = { 0 };

		note(&v, rows[i].line);
		assert_int_equal(v.from.len, strlen(rows[i].from));
		assert_memory_equal(v.from.text, rows[i].from, v.from.len);
		assert_int_equal(v.to.len, strlen(rows[i].to));
		assert_memory_equal(v.to.text, rows[i].to, v.to.len);
	}
}

static void
first_ones_and_long_ones(void **state)
{
	struct envelope v = { 0 };
	char text[400];

	(void)state;
	memset(text, 'x', sizeof(text));
	memcpy(text, "MAIL FROM:<", 11);
	memcpy(text + sizeof(text) - 4, "@y>", 4);
	note(&v, text);
	assert_int_equal(v.from.len, ENVELOPE_MAX);
	note(&v, "RCPT TO:<one@a.example>");
	note(&v, "RCPT TO:<two@a.example>");
	assert_int_equal(v.to.len, 13);
	assert_memory_equal(v.to.text, "one@a.example", 13);
}

static void
texts(void **state)
{
	static const struct {
		const char *in;
		enum log_envelope how;
		const char *want;
	} rows[] = {
		{ "a@b.example", LOG_ENVELOPE_NONE, "" },
		{ "a@b.example", LOG_ENVELOPE_FULL, "a@b.example" },
		{ "a@b.example", LOG_ENVELOPE_DOMAIN, "b.example" },
		{ "\"a@x\"@b.example", LOG_ENVELOPE_DOMAIN, "b.example" },
		{ "root", LOG_ENVELOPE_DOMAIN, "" },
		{ "a@", LOG_ENVELOPE_DOMAIN, "" },
		{ "<>", LOG_ENVELOPE_DOMAIN, "<>" },
		{ "<>", LOG_ENVELOPE_HASH, "<>" },
		{ "", LOG_ENVELOPE_HASH, "" },
		{ "", LOG_ENVELOPE_FULL, "" },
	};
	struct envelope_key k = { 0 };
	char out[ENVELOPE_MAX + 1];

	(void)state;
	for (size_t i = 0; i < N(rows); i++) {
		struct envelope_address a = {
			.len = (uint8_t)strlen(rows[i].in) };

		memcpy(a.text, rows[i].in, a.len);
		envelope_text(&a, rows[i].how, &k, NOON, out);
		assert_string_equal(out, rows[i].want);
	}
}

/* One day one pseudonym, whatever its case; another day another. */
static void
pseudonyms(void **state)
{
	struct envelope_address a = { .len = 11, .text = "a@b.example" },
		upper = { .len = 11, .text = "A@B.example" },
		other = { .len = 11, .text = "c@b.example" };
	struct envelope_key k = { 0 };
	char one[ENVELOPE_MAX + 1], two[ENVELOPE_MAX + 1];

	(void)state;
	envelope_text(&a, LOG_ENVELOPE_HASH, &k, NOON, one);
	assert_int_equal(strspn(one, "0123456789abcdef"), 16);
	assert_int_equal(strlen(one), 16);
	envelope_text(&upper, LOG_ENVELOPE_HASH, &k, NOON + 3600, two);
	assert_string_equal(one, two);
	envelope_text(&other, LOG_ENVELOPE_HASH, &k, NOON, two);
	assert_string_not_equal(one, two);
	envelope_text(&a, LOG_ENVELOPE_HASH, &k, NOON + 86400, two);
	assert_string_not_equal(one, two);
}

/* "none" is said of replies that quote an address, too. */
static void
quoted_addresses(void **state)
{
	static const char said[] = "550 5.1.1 <bob@mx.example>: no such user";
	struct conf c = conf_of(0);
	struct out o = { 0 };
	struct logbook *b = logbook_new(&c, collect, &o);
	struct report e = blocked(7);

	(void)state;
	memcpy(e.detail, said, sizeof(said) - 1);
	e.detail_len = sizeof(said) - 1;
	logbook_take(b, &e, NOON);
	assert_non_null(strstr(o.last,
		" detail=\"550 5.1.1 @ no such user\""));
	c.log_envelope = LOG_ENVELOPE_FULL;
	logbook_take(b, &e, NOON);
	assert_non_null(strstr(o.last, said));
	logbook_free(&b, NOON);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(summaries),
		cmocka_unit_test(limits),
		cmocka_unit_test(crowded),
		cmocka_unit_test(wraps),
		cmocka_unit_test(destinations),
		cmocka_unit_test(paths),
		cmocka_unit_test(first_ones_and_long_ones),
		cmocka_unit_test(texts),
		cmocka_unit_test(pseudonyms),
		cmocka_unit_test(quoted_addresses),
	};

	return cmocka_run_group_tests_name("logbook", tests, NULL, NULL);
}
