/*
 * policy.c - unit tests of proxyd/policy.c
 *
 * One configuration built by hand: a class per action, an allowlist over some
 * of their addresses, servers of every kind. Rows are a client, what it dials
 * and what it must get; the log's reason and line are part of the answer.
 */
#include "proxyd/policy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "conf/conf.h"
#include "conf/lpm.h"
#include "proxyd/msg.h"
#include "proxyd/upstream.h"
#include "zombie/detect.h"

#define N(a) (sizeof(a) / sizeof((a)[0]))
#define NOW 1000000

enum { OWN, OTHER, POP_ONLY, OWN_MX };

/* Class i is 198.18.i.0/24 and 2001:db8:i::/48, its action i. */
static struct class_conf classes[ACTION_COUNT];
static struct addr literal;
static struct server_conf servers[] = {
	[OWN] = { .name = (char[]){ "mail.isp.example" }, .own = true,
		.submission = { TLS_IMPLICIT, 465 },
		.pop3 = { TLS_IMPLICIT, 995 }, .imap = { TLS_STARTTLS, 143 } },
	[OTHER] = { .name = (char[]){ "mail.other.example" },
		.submission = { TLS_STARTTLS, 587 } },
	[POP_ONLY] = { .name = (char[]){ "pop.other.example" },
		.pop3 = { TLS_IMPLICIT, 995 } },
	[OWN_MX] = { .name = (char[]){ "mx.isp.example" }, .own = true,
		.imap = { TLS_PLAIN, 1143 }, .addresses = &literal,
		.naddresses = 1 },
};
static const char *const server_address[] = { "203.0.113.1", "203.0.113.2",
	"203.0.113.3", "203.0.113.4" };
static struct allow_entry allow[] = {
	{ .action = ACTION_PASS },
	{ .action = ACTION_SUBMIT },
	{ .action = ACTION_RELAY, .until = NOW - 1 },
	{ .action = ACTION_RELAY, .until = NOW + 1 },
	{ .action = ACTION_RELAY },	/* shorter than the expired one */
};
static const char *const allow_prefix[] = { "198.18.3.7", "198.18.3.8",
	"198.18.3.9", "198.18.3.10", "198.18.5.0/25" };
static struct prefix pass;
static struct conf conf;
static struct upstream *upstream;

static bool
need(void *arg, unsigned family)
{
	(void)arg;
	(void)family;
	return true;
}

static void
add(struct lpm *l, const char *text, int32_t value)
{
	struct prefix p;
	const char *why;

	assert_int_equal(prefix_parse(&p, text, &why), 0);
	assert_int_equal(lpm_add(l, &p, value, NULL), 0);
}

static int
setup(void **state)
{
	struct server_addr a = { SNAPSHOT_FIRST, 0, { 0 } };
	struct msg own = { .type = MSG_OWN, .n = SNAPSHOT_FIRST };
	const char *why;

	(void)state;
	conf.classes = classes;
	conf.nclasses = ACTION_COUNT;
	conf.servers = servers;
	conf.nservers = N(servers);
	conf.allow = allow;
	conf.nallow = N(allow);
	conf.pass_prefixes = &pass;
	conf.npass_prefixes = 1;
	conf.class_lpm = lpm_new();
	conf.allow_lpm = lpm_new();
	assert_int_equal(prefix_parse(&pass, "192.0.2.128/25", &why), 0);
	for (int i = 0; i < ACTION_COUNT; i++) {
		char text[ADDR_STRLEN];

		classes[i].effective = (enum action)i;
		classes[i].line_len6 = i == ACTION_BLOCK ? 64 : 56;
		classes[i].roll_up = i == ACTION_BLOCK;
		classes[i].port_block = i == ACTION_WATCH ? 1024 : 0;
		snprintf(text, sizeof(text), "198.18.%d.0/24", i);
		add(conf.class_lpm, text, i);
		snprintf(text, sizeof(text), "2001:db8:%d::/48", i);
		add(conf.class_lpm, text, i);
	}
	for (size_t i = 0; i < N(allow); i++)
		add(conf.allow_lpm, allow_prefix[i], (int32_t)i);
	upstream = upstream_new(&conf, need, NULL);
	assert_non_null(upstream);
	upstream_server(upstream, &a);
	for (uint32_t i = 0; i < N(servers); i++) {
		a.op = SNAPSHOT_ADD;
		a.server = i;
		assert_int_equal(addr_parse(&a.addr, server_address[i]), 0);
		upstream_server(upstream, &a);
	}
	a.server = OWN_MX;	/* one that only DNS knows */
	assert_int_equal(addr_parse(&literal, "203.0.113.4"), 0);
	assert_int_equal(addr_parse(&a.addr, "203.0.113.5"), 0);
	upstream_server(upstream, &a);
	a.op = SNAPSHOT_LAST;
	upstream_server(upstream, &a);
	upstream_own(upstream, &own);
	own.n = SNAPSHOT_ADD;
	assert_int_equal(addr_parse(&own.addr, "203.0.113.254"), 0);
	upstream_own(upstream, &own);
	own.n = SNAPSHOT_LAST;
	upstream_own(upstream, &own);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	upstream_free(&upstream);
	lpm_free(&conf.class_lpm);
	lpm_free(&conf.allow_lpm);
	return 0;
}

struct row {
	const char *src, *origin;
	bool pass_own, wrap;
	enum treatment treatment;
	enum reason reason;
	int class_index, server;
	const char *line;
};

#define FOREIGN "192.0.2.25:25"

static const struct row rows[] = {
	/* actions that the kernel should have taken: carried */
	{ "198.18.0.1", FOREIGN, false, false, TREAT_RELAY, REASON_NONE,
		ACTION_PASS, -1, "198.18.0.1" },
	{ "198.18.1.1", FOREIGN, false, false, TREAT_RELAY, REASON_NONE,
		ACTION_WATCH, -1, "198.18.1.1:39936-40959" },
	{ "198.18.2.1", FOREIGN, false, false, TREAT_RELAY, REASON_NONE,
		ACTION_RELAY, -1, "198.18.2.1" },
	{ "192.0.2.77", FOREIGN, false, false, TREAT_RELAY, REASON_NONE,
		-1, -1, "192.0.2.77" },
	/* block */
	{ "198.18.3.1", FOREIGN, true, false, TREAT_BLOCK, REASON_POLICY,
		ACTION_BLOCK, -1, "198.18.3.1" },
	{ "198.18.3.1", "203.0.113.1:25", false, false, TREAT_BLOCK,
		REASON_POLICY, ACTION_BLOCK, OWN, "198.18.3.1" },
	{ "198.18.3.1", "203.0.113.1:25", true, false, TREAT_RELAY,
		REASON_NONE, ACTION_BLOCK, OWN, "198.18.3.1" },
	{ "198.18.3.1", "203.0.113.2:25", true, false, TREAT_BLOCK,
		REASON_POLICY, ACTION_BLOCK, OTHER, "198.18.3.1" },
	{ "198.18.3.1", "192.0.2.129:25", false, false, TREAT_RELAY,
		REASON_NONE, ACTION_BLOCK, -1, "198.18.3.1" },
	{ "198.18.3.1", "192.0.2.127:25", false, false, TREAT_BLOCK,
		REASON_POLICY, ACTION_BLOCK, -1, "198.18.3.1" },
	/* submit */
	{ "198.18.4.1", "203.0.113.1:25", true, false, TREAT_SUBMIT,
		REASON_NONE, ACTION_SUBMIT, OWN, "198.18.4.1" },
	{ "198.18.4.1", "203.0.113.2:25", true, false, TREAT_SUBMIT,
		REASON_NONE, ACTION_SUBMIT, OTHER, "198.18.4.1" },
	{ "198.18.4.1", "203.0.113.3:25", true, false, TREAT_BLOCK,
		REASON_UNKNOWN_ORIGIN, ACTION_SUBMIT, POP_ONLY, "198.18.4.1" },
	{ "198.18.4.1", "203.0.113.4:25", true, false, TREAT_RELAY,
		REASON_NONE, ACTION_SUBMIT, OWN_MX, "198.18.4.1" },
	{ "198.18.4.1", "203.0.113.4:25", false, false, TREAT_BLOCK,
		REASON_UNKNOWN_ORIGIN, ACTION_SUBMIT, OWN_MX, "198.18.4.1" },
	{ "198.18.4.1", FOREIGN, true, false, TREAT_BLOCK,
		REASON_UNKNOWN_ORIGIN, ACTION_SUBMIT, -1, "198.18.4.1" },
	{ "198.18.4.1", "192.0.2.200:25", false, false, TREAT_RELAY,
		REASON_NONE, ACTION_SUBMIT, -1, "198.18.4.1" },
	/* reset and drop */
	{ "198.18.5.200", FOREIGN, true, false, TREAT_RESET, REASON_POLICY,
		ACTION_RESET, -1, "198.18.5.200" },
	{ "198.18.6.1", FOREIGN, true, false, TREAT_RESET, REASON_POLICY,
		ACTION_DROP, -1, "198.18.6.1" },
	/* the allowlist */
	{ "198.18.3.7", FOREIGN, false, false, TREAT_RELAY, REASON_NONE,
		ACTION_BLOCK, -1, "198.18.3.7" },
	{ "198.18.3.8", "203.0.113.2:25", false, false, TREAT_SUBMIT,
		REASON_NONE, ACTION_BLOCK, OTHER, "198.18.3.8" },
	{ "198.18.3.9", FOREIGN, false, false, TREAT_BLOCK, REASON_POLICY,
		ACTION_BLOCK, -1, "198.18.3.9" },
	{ "198.18.3.10", FOREIGN, false, false, TREAT_RELAY, REASON_NONE,
		ACTION_BLOCK, -1, "198.18.3.10" },
	{ "198.18.5.1", FOREIGN, false, false, TREAT_RELAY, REASON_NONE,
		ACTION_RESET, -1, "198.18.5.1" },
	/* POP3: the server decides, not the class */
	{ "198.18.3.1", "203.0.113.1:110", false, true, TREAT_POP3,
		REASON_NONE, ACTION_BLOCK, OWN, "198.18.3.1" },
	{ "198.18.5.200", "203.0.113.3:110", false, true, TREAT_POP3,
		REASON_NONE, ACTION_RESET, POP_ONLY, "198.18.5.200" },
	{ "198.18.3.1", "203.0.113.1:110", false, false, TREAT_RELAY,
		REASON_NONE, ACTION_BLOCK, OWN, "198.18.3.1" },
	{ "198.18.3.1", "203.0.113.2:110", false, true, TREAT_RELAY,
		REASON_NONE, ACTION_BLOCK, OTHER, "198.18.3.1" },
	{ "198.18.3.1", "192.0.2.110:110", false, true, TREAT_RELAY,
		REASON_NONE, ACTION_BLOCK, -1, "198.18.3.1" },
	/* IMAP the same; without TLS only to a literal address */
	{ "198.18.3.1", "203.0.113.1:143", false, true, TREAT_IMAP,
		REASON_NONE, ACTION_BLOCK, OWN, "198.18.3.1" },
	{ "198.18.3.1", "203.0.113.1:143", false, false, TREAT_RELAY,
		REASON_NONE, ACTION_BLOCK, OWN, "198.18.3.1" },
	{ "198.18.3.1", "203.0.113.3:143", false, true, TREAT_RELAY,
		REASON_NONE, ACTION_BLOCK, POP_ONLY, "198.18.3.1" },
	{ "198.18.3.1", "203.0.113.4:143", false, true, TREAT_IMAP,
		REASON_NONE, ACTION_BLOCK, OWN_MX, "198.18.3.1" },
	{ "198.18.3.1", "203.0.113.5:143", false, true, TREAT_RELAY,
		REASON_NONE, ACTION_BLOCK, OWN_MX, "198.18.3.1" },
	/* loops */
	{ "198.18.3.1", "203.0.113.254:25", true, true, TREAT_RESET,
		REASON_LOOP, ACTION_BLOCK, -1, "198.18.3.1" },
	{ "203.0.113.254", FOREIGN, true, true, TREAT_RESET, REASON_LOOP,
		-1, -1, "203.0.113.254" },
	{ "198.18.3.1", "203.0.113.254:110", true, true, TREAT_RESET,
		REASON_LOOP, ACTION_BLOCK, -1, "198.18.3.1" },
	/* an IPv6 line is a prefix, as long as its class says */
	{ "2001:db8:3:102:a::1", "[2001:db8:ffff::19]:25", false, false,
		TREAT_BLOCK, REASON_POLICY, ACTION_BLOCK, -1,
		"2001:db8:3:102::/64" },
	{ "2001:db8:4:1ff::1", "[2001:db8:ffff::19]:25", false, false,
		TREAT_BLOCK, REASON_UNKNOWN_ORIGIN, ACTION_SUBMIT, -1,
		"2001:db8:4:100::/56" },
	{ "2001:db8:99:1ff::1", "[2001:db8:ffff::19]:25", false, false,
		TREAT_RELAY, REASON_NONE, -1, -1, "2001:db8:99:100::/56" },
};

static void
table(void **state)
{
	(void)state;
	for (size_t i = 0; i < N(rows); i++) {
		const struct row *r = &rows[i];
		char line[LINE_STRLEN];
		struct addr src, origin;
		struct decision d;

		assert_int_equal(addr_parse(&src, r->src), 0);
		assert_int_equal(addr_parse(&origin, r->origin), 0);
		src.port = 40000;
		conf.pass_own = r->pass_own;
		conf.pop3_wrap = conf.imap_wrap = r->wrap ? WRAP_LISTED :
			WRAP_OFF;
		policy_decide(&conf, upstream, NULL, &src, &origin, NOW, &d);
		if (d.treatment != r->treatment || d.reason != r->reason ||
		    d.class_index != r->class_index || d.server != r->server ||
		    strcmp(line_format(&d.line, r->class_index < 0 ? 0 :
		    classes[r->class_index].port_block, line), r->line) != 0)
			fail_msg("row %zu, %s to %s: treatment %d reason %s "
				"class %d server %d", i, r->src, r->origin,
				(int)d.treatment, reason_word[d.reason],
				d.class_index, d.server);
	}
}

/* Listed servers as they are listed; all others with TLS, if they have it. */
static void
opportunistic(void **state)
{
	static const struct {
		const char *origin;
		enum treatment treatment;
		int server;
	} want[] = {
		{ "192.0.2.110:110", TREAT_POP3, -1 },
		{ "192.0.2.110:143", TREAT_IMAP, -1 },
		{ "203.0.113.1:110", TREAT_POP3, OWN },
		/* listed, without IMAP: the operator has said so */
		{ "203.0.113.3:143", TREAT_RELAY, POP_ONLY },
		{ "203.0.113.254:110", TREAT_RESET, -1 },
	};
	struct addr src, origin;
	struct decision d;

	(void)state;
	conf.pop3_wrap = conf.imap_wrap = WRAP_OPPORTUNISTIC;
	assert_int_equal(addr_parse(&src, "198.18.3.1"), 0);
	for (size_t i = 0; i < N(want); i++) {
		assert_int_equal(addr_parse(&origin, want[i].origin), 0);
		policy_decide(&conf, upstream, NULL, &src, &origin, NOW, &d);
		if (d.treatment != want[i].treatment ||
		    d.server != want[i].server)
			fail_msg("%s: treatment %d, server %d", want[i].origin,
				(int)d.treatment, d.server);
	}
	conf.pop3_wrap = conf.imap_wrap = WRAP_OFF;
}

/* Level zombie with an action: whatever the class does, but for those who are
 * exempt and the provider's own hosts. */
static void
zombies(void **state)
{
	static const struct {
		const char *src, *origin;
		enum zombie_action action;
		unsigned level;
		enum treatment treatment;
		enum reason reason;
		bool is_policed;
	} want[] = {
		{ "198.18.3.1", FOREIGN, ZOMBIE_LOG, LEVEL_ZOMBIE, TREAT_BLOCK,
			REASON_POLICY, true },
		{ "198.18.3.1", FOREIGN, ZOMBIE_BLOCK, LEVEL_PROBABLE,
			TREAT_BLOCK, REASON_POLICY, true },
		{ "198.18.3.1", FOREIGN, ZOMBIE_BLOCK, LEVEL_ZOMBIE, TREAT_BLOCK,
			REASON_ZOMBIE, false },
		{ "198.18.2.1", FOREIGN, ZOMBIE_BLOCK, LEVEL_PROBABLE,
			TREAT_RELAY, REASON_NONE, true },
		{ "198.18.2.1", FOREIGN, ZOMBIE_BLOCK, LEVEL_ZOMBIE, TREAT_BLOCK,
			REASON_ZOMBIE, false },
		{ "198.18.2.1", FOREIGN, ZOMBIE_RESET, LEVEL_ZOMBIE, TREAT_RESET,
			REASON_ZOMBIE, false },
		{ "198.18.2.1", FOREIGN, ZOMBIE_RESET, LEVEL_ZOMBIE |
			LEVEL_PINNED | 7u << LEVEL_HOUR_SHIFT, TREAT_RESET,
			REASON_ZOMBIE, false },
		/* own host; POP3; exempt; not captured by a policy */
		{ "198.18.2.1", "203.0.113.1:25", ZOMBIE_BLOCK, LEVEL_ZOMBIE,
			TREAT_RELAY, REASON_NONE, false },
		/* the /56 that its line, a /64, is in */
		{ "2001:db8:3:1201::1", "2001:db8:f::1", ZOMBIE_BLOCK,
			LEVEL_ZOMBIE, TREAT_BLOCK, REASON_ZOMBIE, false },
		{ "2001:db8:3:1201::1", "2001:db8:f::1", ZOMBIE_BLOCK,
			LEVEL_PROBABLE, TREAT_BLOCK, REASON_POLICY, true },
		{ "198.18.2.1", "203.0.113.1:110", ZOMBIE_BLOCK, LEVEL_ZOMBIE,
			TREAT_POP3, REASON_NONE, false },
		{ "198.18.3.7", FOREIGN, ZOMBIE_BLOCK, LEVEL_ZOMBIE, TREAT_RELAY,
			REASON_NONE, false },
		{ "198.18.1.1", FOREIGN, ZOMBIE_BLOCK, LEVEL_ZOMBIE, TREAT_RELAY,
			REASON_NONE, false },
	};

	(void)state;
	conf.pass_own = true;
	conf.pop3_wrap = WRAP_LISTED;
	for (size_t i = 0; i < N(want); i++) {
		struct table *t = table_new(1000);
		struct addr src, origin;
		struct line_key k;
		struct line_record *r;
		struct decision d;

		assert_int_equal(addr_parse(&src, want[i].src), 0);
		assert_int_equal(addr_parse(&origin, want[i].origin), 0);
		line_key_of(&src, 56, 0, &k);
		r = table_enter(t, &k, table_now(t));
		assert_int_equal(table_set_level(t, r, &k, want[i].level), 0);
		conf.zombie.action = want[i].action;
		policy_decide(&conf, upstream, t, &src, &origin, NOW, &d);
		if (d.treatment != want[i].treatment ||
		    d.reason != want[i].reason ||
		    d.is_policed != want[i].is_policed)
			fail_msg("row %zu: treatment %d reason %s policed %d", i,
				(int)d.treatment, reason_word[d.reason],
				d.is_policed);
		table_free(&t);
	}
	conf.zombie.action = ZOMBIE_LOG;
}

/* enforce = "listed": towards the destinations of the file, nowhere else. */
static void
listed(void **state)
{
	static const struct {
		const char *origin;
		enum treatment treatment;
		enum reason reason;
	} want[] = {
		{ "192.0.2.9:25", TREAT_BLOCK, REASON_POLICY },
		{ "192.0.2.10:25", TREAT_RELAY, REASON_NONE },
		{ "192.0.2.130:25", TREAT_RELAY, REASON_NONE },	/* passed */
	};
	struct class_conf *k = &classes[ACTION_BLOCK];

	(void)state;
	k->enforce = ENFORCE_LISTED;
	k->destination_lpm = lpm_new();
	add(k->destination_lpm, "192.0.2.9", 0);
	add(k->destination_lpm, "192.0.2.130", 0);
	for (size_t i = 0; i < N(want); i++) {
		struct addr src, origin;
		struct decision d;

		assert_int_equal(addr_parse(&src, "198.18.3.1"), 0);
		assert_int_equal(addr_parse(&origin, want[i].origin), 0);
		policy_decide(&conf, upstream, NULL, &src, &origin, NOW, &d);
		assert_int_equal(d.treatment, want[i].treatment);
		assert_int_equal(d.reason, want[i].reason);
		assert_int_equal(d.class_index, ACTION_BLOCK);
	}
	lpm_free(&k->destination_lpm);
	k->enforce = ENFORCE_WATCH;
}

/* gateway.local: what runs here is a line, its own address no loop; towards it
 * everything still is one. */
static void
own_programs(void **state)
{
	struct addr own, foreign;
	struct decision d;

	(void)state;
	assert_int_equal(addr_parse(&own, "203.0.113.254"), 0);
	assert_int_equal(addr_parse(&foreign, FOREIGN), 0);
	add(conf.class_lpm, "203.0.113.254", ACTION_BLOCK);
	conf.local = true;
	policy_decide(&conf, upstream, NULL, &own, &foreign, NOW, &d);
	assert_int_equal(d.treatment, TREAT_BLOCK);
	assert_int_equal(d.class_index, ACTION_BLOCK);
	policy_decide(&conf, upstream, NULL, &foreign, &own, NOW, &d);
	assert_int_equal(d.treatment, TREAT_RESET);
	assert_int_equal(d.reason, REASON_LOOP);
	policy_decide(&conf, upstream, NULL, &own, &own, NOW, &d);
	assert_int_equal(d.reason, REASON_LOOP);
	conf.local = false;
	policy_decide(&conf, upstream, NULL, &own, &foreign, NOW, &d);
	assert_int_equal(d.reason, REASON_LOOP);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(table),
		cmocka_unit_test(opportunistic),
		cmocka_unit_test(zombies),
		cmocka_unit_test(listed),
		cmocka_unit_test(own_programs),
	};

	return cmocka_run_group_tests_name("policy", tests, setup, teardown);
}
