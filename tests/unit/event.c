/*
 * event.c - unit tests of proxyd/event.c
 *
 * The line is compared letter by letter: programs of operators read it. The
 * check is tried with every field out of range, one at a time, as a relay in
 * foreign hands would send it.
 */
#include "proxyd/event.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "conf/conf.h"
#include "proxyd/evidence.h"

static struct class_conf classes[] = {
	{ .name = "dynamic", .line_len6 = 56 },
	{ .name = "legacy", .line_len6 = 64 },
	{ .name = "cgn", .line_len6 = 56, .port_block = 1024 },
};
static struct server_conf servers[] = { { .name = "mail.isp.example" } };
static const struct conf conf = {
	.classes = classes, .nclasses = 3, .servers = servers, .nservers = 1,
};

static struct addr
address(const char *text)
{
	struct addr a;

	assert_int_equal(addr_parse(&a, text), 0);
	return a;
}

/* The line of an address in a class. */
static struct line_key
line_of(const char *text, const struct class_conf *class)
{
	struct addr a = address(text);
	struct line_key k;

	line_key_of(&a, class->line_len6, class->port_block, &k);
	return k;
}

static struct report
blocked(void)
{
	struct report e = {
		.kind = EVENT_BLOCK, .reason = REASON_POLICY,
		.stage = STAGE_RCPT_TO, .code = 550, .class_index = 0,
		.server_index = -1, .rcpts = 1, .duration_ms = 5210,
		.bytes_up = 70, .bytes_down = 300, .id = 1,
		.helo = "pc", .helo_len = 2, .esc = "5.7.1",
	};

	e.line = line_of("198.18.3.7", &classes[0]);
	e.src = address("198.18.3.7:40112");
	e.dst = address("203.0.113.9:25");
	return e;
}

static void
render_block(void **state)
{
	struct report e = blocked();
	char line[1024];

	(void)state;
	assert_int_equal(event_check(&e, &conf), 0);
	event_render(&e, &conf, "", "", line, sizeof(line));
	assert_string_equal(line, "block id=0000000000001 line=198.18.3.7 "
		"class=dynamic src=198.18.3.7:40112 dst=203.0.113.9:25 "
		"stage=rcpt code=550 esc=5.7.1 rcpts=1 msgs=0 up=70 down=300 "
		"dur=5.2 reason=policy helo=\"pc\"");
}

static void
render_submit(void **state)
{
	struct report e = blocked();
	char line[1024];

	(void)state;
	e.kind = EVENT_SUBMIT;
	e.reason = REASON_CERTIFICATE;
	e.stage = STAGE_TLS;
	e.code = 0;
	e.tls = 13;
	e.habits = HABIT_EARLY;
	e.class_index = 1;
	e.server_index = 0;
	e.line = line_of("2001:db8:2:700::", &classes[1]);
	e.src = address("[2001:db8:2:700::9]:40112");
	e.dst = address("[2001:db8:80::25]:25");
	e.out = address("[2001:db8:2:700::9]:10241");
	e.via = address("[2001:db8:80::26]:465");
	e.detail_len = 8;
	memcpy(e.detail, "a\"b\r\n\0\\c", 8);
	assert_int_equal(event_check(&e, &conf), 0);
	event_render(&e, &conf, "", "", line, sizeof(line));
	assert_string_equal(line, "submit id=0000000000001 "
		"line=2001:db8:2:700::/64 class=legacy "
		"src=[2001:db8:2:700::9]:40112 dst=[2001:db8:80::25]:25 "
		"out=[2001:db8:2:700::9]:10241 via=[2001:db8:80::26]:465 "
		"server=mail.isp.example stage=tls rcpts=1 msgs=0 up=70 down=300 tls=1.3 dur=5.2 "
		"reason=certificate early=1 helo=\"pc\" "
		"detail=\"a\\\"b\\x0d\\x0a\\x00\\\\c\"");
}

/* Behind CGN a line is a block of ports; another class's line is none of it. */
static void
render_port_block(void **state)
{
	struct report e = blocked();
	char line[1024];

	(void)state;
	e.class_index = 2;
	assert_int_equal(event_check(&e, &conf), -1);
	e.src = address("198.18.3.7:40112");
	e.line = line_of("198.18.3.7:40112", &classes[2]);
	assert_int_equal(event_check(&e, &conf), 0);
	event_render(&e, &conf, "", "", line, sizeof(line));
	assert_non_null(strstr(line, " line=198.18.3.7:39936-40959 class=cgn "
		"src=198.18.3.7:40112 "));
}

/* What the detectors were told, in the form that can be replayed. */
static void
render_evidence(void **state)
{
	struct report e = blocked();
	char line[1024];

	(void)state;
	e.habits = HABIT_QUIT | HABIT_PIPELINED;
	e.dialect = 0xab;
	e.domains = 1ull << 63 | 2;
	e.at = 1795580000;
	e.bad[EVIDENCE_CONTACT] = 1;
	e.good[EVIDENCE_HELO] = 1;
	e.bad[EVIDENCE_NULL_SENDER] = 65535;
	e.good[EVIDENCE_NULL_SENDER] = 65535;
	assert_int_equal(event_check(&e, &conf), 0);
	event_render(&e, &conf, "", "", line, sizeof(line));
	assert_non_null(strstr(line, " reason=policy pipelined=1 quit=1 "
		"dialect=00ab domains=2 at=1795580000 "
		"evidence=contact:1/1,null:65535/131070,helo:0/1 helo=\"pc\""));
}

/* Whatever a peer says, a line is one line and its first pairs are ours. */
static void
render_hostile(void **state)
{
	char line[2048];

	(void)state;
	for (int byte = 0; byte < 256; byte++) {
		struct report e = blocked();

		memset(e.helo, byte, sizeof(e.helo));
		memset(e.detail, byte, sizeof(e.detail));
		e.helo_len = sizeof(e.helo);
		e.detail_len = sizeof(e.detail);
		event_render(&e, &conf, "", "", line, sizeof(line));
		for (const char *p = line; *p != '\0'; p++)
			if (*p < ' ' || *p > '~')
				fail_msg("byte %d of a peer came through", byte);
		assert_non_null(strstr(line, " reason=policy helo=\""));
		assert_int_equal(line[strlen(line) - 1], '"');
	}
}

static void
short_memory(void **state)
{
	struct report e = blocked();

	(void)state;
	for (size_t cap = 1; cap < 200; cap++) {
		char line[256];

		memset(line, '#', sizeof(line));
		event_render(&e, &conf, "", "", line, cap);
		assert_true(memchr(line, '\0', cap) != NULL);
		assert_int_equal(line[cap], '#');
	}
}

/* A sum has sessions and no stage; addresses stand with the client's words. */
static void
render_summary(void **state)
{
	struct report e = blocked();
	char line[1024];

	(void)state;
	e.sessions = 80;
	e.reason = REASON_SUMMARY;
	event_render(&e, &conf, "a@b.example", "\" code=250", line,
		sizeof(line));
	assert_non_null(strstr(line, " dst=203.0.113.9:25 sessions=80 "
		"code=550 "));
	assert_non_null(strstr(line, " reason=summary from=\"a@b.example\" "
		"to=\"\\\" code=250\" helo=\"pc\""));
}

/* Each of these makes a good event bad. */
static void
break_it(struct report *e, int how)
{
	switch (how) {
	case 0: e->kind = EVENT_COUNT; break;
	case 1: e->reason = REASON_COUNT; break;
	case 2: e->stage = EVENT_STAGE_COUNT; break;
	case 3: e->habits = HABIT_ALL + 1; break;
	case 4: e->tls = 11; break;
	case 5: e->code = 199; break;
	case 6: e->code = 600; break;
	case 7: e->class_index = 3; break;
	case 8: e->class_index = -2; break;
	case 9: e->server_index = 1; break;
	case 10: e->server_index = -2; break;
	case 11: e->helo_len = EVENT_HELO_MAX + 1; break;
	case 12: e->detail_len = EVENT_DETAIL_MAX + 1; break;
	case 13: e->line.family = 77; break;
	case 14: e->line.block = 1; break;
	case 15: e->src.pad = 1; break;
	case 16: e->dst.ip[4] = 1; break; /* behind an IPv4 address */
	case 17: e->out.port = 25; break; /* of no address */
	case 18: e->out.ip[0] = 1; break;
	case 19: memset(e->esc, '5', sizeof(e->esc)); break;
	case 20: memcpy(e->esc, "5 x=1", 6); break;
	case 21: e->line.len = 31; break;
	case 22: e->line.family = 0; break;	/* but an address */
	case 23: e->sessions = 1; break;	/* sums are made by control */
	case 24: e->reason = REASON_SUMMARY; break;
	case 25: e->envelope.from.len = ENVELOPE_MAX + 1; break;
	case 26: e->envelope.to.len = ENVELOPE_MAX + 1; break;
	case 27: e->via.family = 77; break;
	}
}
#define WAYS 28

static void
check(void **state)
{
	(void)state;
	for (int how = 0; how < WAYS; how++) {
		struct report e = blocked();

		assert_int_equal(event_check(&e, &conf), 0);
		break_it(&e, how);
		if (event_check(&e, &conf) == 0)
			fail_msg("case %d was accepted", how);
	}
}

static void
id_text(void **state)
{
	static const struct {
		uint64_t id;
		const char *want;
	} rows[] = {
		{ 0, "0000000000000" },
		{ 31, "000000000000Z" },
		{ 32, "0000000000010" },
		{ UINT64_MAX, "FZZZZZZZZZZZZ" },
		{ UINT64_C(0x0123456789abcdef), "028T5CY4TQKFF" },
	};
	char text[EVENT_ID_LEN];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		assert_string_equal(event_id_text(rows[i].id, text),
			rows[i].want);
}

/* A row that was forgotten would be printed as (null). */
static void
tables_are_whole(void **state)
{
	(void)state;
	for (int i = 0; i < EVENT_COUNT; i++)
		assert_non_null(event_word[i]);
	for (int i = 0; i < REASON_COUNT; i++) {
		assert_non_null(reason_word[i]);
		assert_non_null(reason_help[i]);
		for (int j = 0; j < i; j++)
			assert_string_not_equal(reason_word[i], reason_word[j]);
	}
	for (int i = 0; i < EVENT_STAGE_COUNT; i++)
		assert_non_null(event_stage_word[i]);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(render_block),
		cmocka_unit_test(render_submit),
		cmocka_unit_test(render_port_block),
		cmocka_unit_test(render_evidence),
		cmocka_unit_test(render_hostile),
		cmocka_unit_test(render_summary),
		cmocka_unit_test(short_memory),
		cmocka_unit_test(check),
		cmocka_unit_test(id_text),
		cmocka_unit_test(tables_are_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
