/*
 * tlsseen.c - unit tests of what is remembered of TLS at unlisted servers
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "proxyd/tlsseen.h"

static struct tlsseen *seen;

static int
begin(void **state)
{
	(void)state;
	seen = tlsseen_new();
	return seen == NULL ? -1 : 0;
}

static int
end(void **state)
{
	(void)state;
	tlsseen_free(&seen);
	return seen == NULL ? 0 : -1;
}

static struct addr
host(unsigned n)
{
	struct addr a;
	char text[32];

	snprintf(text, sizeof(text), "203.%u.%u.%u", n >> 16 & 255, n >> 8 & 255,
		n & 255);
	assert_int_equal(addr_parse(&a, text), 0);
	a.port = 110;
	return a;
}

/* "a,b" */
static struct tls_names
named(const char *list)
{
	struct tls_names n = { .n = 0 };

	while (*list != '\0') {
		size_t len = strcspn(list, ",");

		tlsseen_name(seen, &n, list, len);
		list += len + (list[len] == ',');
	}
	return n;
}

/* One host's story: what happened when, what that meant, what is planned after
 * it. */
struct step {
	uint32_t at;
	enum tls_outcome outcome;
	const char *names;
	enum tls_answer answer;
	enum tls_plan plan;
};

static const struct story {
	const char *name;
	struct step step[6];
	size_t n;
} stories[] = {
	{ "valid, and goes on being it", {
		{ 10, OUTCOME_VALID, "a,b", ANSWER_GO_ON, PLAN_TLS },
		{ 20, OUTCOME_VALID, "b,c", ANSWER_GO_ON, PLAN_TLS },
		{ 30, OUTCOME_VALID, "C,d", ANSWER_GO_ON, PLAN_TLS } }, 3 },
	{ "other names", {
		{ 10, OUTCOME_VALID, "a,b", ANSWER_GO_ON, PLAN_TLS },
		{ 20, OUTCOME_VALID, "x", ANSWER_ALARM, PLAN_TLS },
		{ 30, OUTCOME_VALID, "x", ANSWER_ALARMED, PLAN_TLS },
		{ 81, OUTCOME_VALID, "x", ANSWER_ALARM, PLAN_TLS },
		{ 90, OUTCOME_VALID, "a", ANSWER_GO_ON, PLAN_TLS } }, 5 },
	{ "no names any more", {
		{ 10, OUTCOME_VALID, "a", ANSWER_GO_ON, PLAN_TLS },
		{ 20, OUTCOME_VALID, "", ANSWER_ALARM, PLAN_TLS } }, 2 },
	{ "never had names", {
		{ 10, OUTCOME_VALID, "", ANSWER_GO_ON, PLAN_TLS },
		{ 20, OUTCOME_VALID, "", ANSWER_GO_ON, PLAN_TLS } }, 2 },
	{ "valid, then nobody's", {
		{ 10, OUTCOME_VALID, "a", ANSWER_GO_ON, PLAN_TLS },
		{ 20, OUTCOME_UNVERIFIED, "a", ANSWER_ALARM, PLAN_TLS } }, 2 },
	{ "nobody's, with a new key, then valid", {
		{ 10, OUTCOME_UNVERIFIED, "a", ANSWER_GO_ON, PLAN_TLS },
		{ 20, OUTCOME_UNVERIFIED, "z", ANSWER_GO_ON, PLAN_TLS },
		{ 30, OUTCOME_VALID, "b", ANSWER_GO_ON, PLAN_TLS },
		{ 40, OUTCOME_UNVERIFIED, "b", ANSWER_ALARM, PLAN_TLS } }, 4 },
	{ "gone: two refusals a minute apart", {
		{ 10, OUTCOME_UNVERIFIED, "a", ANSWER_GO_ON, PLAN_TLS },
		{ 20, OUTCOME_REFUSED, "", ANSWER_REFUSE, PLAN_TLS },
		{ 79, OUTCOME_REFUSED, "", ANSWER_REFUSE, PLAN_TLS },
		{ 80, OUTCOME_REFUSED, "", ANSWER_ALARM, PLAN_TLS } }, 4 },
	{ "a restart is no alarm", {
		{ 10, OUTCOME_VALID, "a", ANSWER_GO_ON, PLAN_TLS },
		{ 20, OUTCOME_REFUSED, "", ANSWER_REFUSE, PLAN_TLS },
		{ 30, OUTCOME_VALID, "a", ANSWER_GO_ON, PLAN_TLS },
		{ 90, OUTCOME_REFUSED, "", ANSWER_REFUSE, PLAN_TLS } }, 4 },
	{ "silence is no proof of anything", {
		{ 10, OUTCOME_VALID, "a", ANSWER_GO_ON, PLAN_TLS },
		{ 20, OUTCOME_UNCLEAR, "", ANSWER_REFUSE, PLAN_TLS },
		{ 900, OUTCOME_UNCLEAR, "", ANSWER_REFUSE, PLAN_TLS } }, 3 },
	{ "none: two refusals a minute apart", {
		{ 10, OUTCOME_REFUSED, "", ANSWER_GO_ON, PLAN_TRY },
		{ 69, OUTCOME_REFUSED, "", ANSWER_GO_ON, PLAN_TRY },
		{ 70, OUTCOME_REFUSED, "", ANSWER_GO_ON, PLAN_CLEAR } }, 3 },
	{ "one dropped packet says nothing for long", {
		{ 10, OUTCOME_UNCLEAR, "", ANSWER_GO_ON, PLAN_CLEAR },
		{ 70, OUTCOME_VALID, "a", ANSWER_GO_ON, PLAN_TLS } }, 2 },
	{ "none, looked at again after hours", {
		{ 10, OUTCOME_REFUSED, "", ANSWER_GO_ON, PLAN_TRY },
		{ 100, OUTCOME_REFUSED, "", ANSWER_GO_ON, PLAN_CLEAR },
		{ 100 + TLSSEEN_NONE, OUTCOME_VALID, "a", ANSWER_GO_ON,
			PLAN_TLS } }, 3 },
};

static void
a_hosts_story(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(stories) / sizeof(stories[0]); i++) {
		struct addr a = host((unsigned)i);
		bool is_new;

		assert_int_equal(tlsseen_plan(seen, &a, 1, &is_new), PLAN_TRY);
		assert_true(is_new);
		for (size_t k = 0; k < stories[i].n; k++) {
			const struct step *s = &stories[i].step[k];
			struct tls_names n = named(s->names);
			enum tls_answer got = tlsseen_note(seen, &a, s->outcome,
				&n, s->at);
			enum tls_plan plan = tlsseen_plan(seen, &a, s->at,
				&is_new);

			if (got != s->answer || plan != s->plan)
				fail_msg("%s, step %zu: answer %d, plan %d",
					stories[i].name, k, got, plan);
			assert_false(is_new);
		}
	}
}

/* When a host's time in the clear is over, it is tried again. */
static void
clear_for_a_time(void **state)
{
	struct addr a = host(1);
	bool is_new;

	(void)state;
	(void)tlsseen_note(seen, &a, OUTCOME_UNCLEAR, NULL, 10);
	assert_int_equal(tlsseen_plan(seen, &a, 10 + TLSSEEN_UNCLEAR - 1,
		&is_new), PLAN_CLEAR);
	assert_int_equal(tlsseen_plan(seen, &a, 10 + TLSSEEN_UNCLEAR,
		&is_new), PLAN_TRY);
}

/* 110 and 143, and each family, are apart. */
static void
ports_are_apart(void **state)
{
	struct addr a = host(1), b = a;
	bool is_new;

	(void)state;
	b.port = 143;
	(void)tlsseen_note(seen, &a, OUTCOME_VALID, NULL, 10);
	assert_int_equal(tlsseen_plan(seen, &b, 11, &is_new), PLAN_TRY);
	assert_true(is_new);
}

/* A hundred thousand hosts without TLS do not push out one with. */
static void
what_was_seen_stays(void **state)
{
	struct tls_names n = named("mail.example");
	struct addr a = host(7), other;
	unsigned kept_of_them = 0;
	bool is_new;

	(void)state;
	(void)tlsseen_note(seen, &a, OUTCOME_VALID, &n, 10);
	for (unsigned i = 100; i < 100100; i++) {
		other = host(i);
		(void)tlsseen_note(seen, &other, OUTCOME_UNCLEAR, NULL, 20 + i);
	}
	assert_int_equal(tlsseen_plan(seen, &a, 200000, &is_new), PLAN_TLS);
	n = named("other.example");
	assert_int_equal(tlsseen_note(seen, &a, OUTCOME_VALID, &n, 200000),
		ANSWER_ALARM);
	for (unsigned i = 99100; i < 100100; i++) {
		other = host(i);
		(void)tlsseen_plan(seen, &other, 200000, &is_new);
		kept_of_them += !is_new;
	}
	/* the last ones are there, the first are gone */
	assert_true(kept_of_them > 900);
}

/* Full of hosts with TLS: others go without memory, and in the clear. */
static void
full_of_tls(void **state)
{
	struct tls_names n = named("mail.example");
	unsigned refused = 0;
	bool is_new;

	(void)state;
	for (unsigned i = 0; i < 40000; i++) {
		struct addr a = host(i);

		assert_int_equal(tlsseen_note(seen, &a, OUTCOME_VALID, &n, 10),
			ANSWER_GO_ON);
		refused += tlsseen_plan(seen, &a, 11, &is_new) != PLAN_TLS;
	}
	assert_true(refused > 20000 && refused < 30000);
}

/* A certificate with more names than are looked at. */
static void
many_names(void **state)
{
	struct tls_names n = { .n = 0 }, again = { .n = 0 };
	struct addr a = host(1);
	char name[300];

	(void)state;
	for (int i = 0; i < 500; i++) {
		snprintf(name, sizeof(name), "n%d.example", i);
		tlsseen_name(seen, &n, name, strlen(name));
		tlsseen_name(seen, &again, name, strlen(name));
	}
	assert_int_equal(n.n, TLSSEEN_NAMES);
	memset(name, 'x', sizeof(name));
	tlsseen_name(seen, &n, name, sizeof(name));
	assert_int_equal(n.n, TLSSEEN_NAMES);
	(void)tlsseen_note(seen, &a, OUTCOME_VALID, &n, 10);
	assert_int_equal(tlsseen_note(seen, &a, OUTCOME_VALID, &again, 20),
		ANSWER_GO_ON);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_hosts_story, begin, end),
		cmocka_unit_test_setup_teardown(clear_for_a_time, begin, end),
		cmocka_unit_test_setup_teardown(ports_are_apart, begin, end),
		cmocka_unit_test_setup_teardown(what_was_seen_stays, begin, end),
		cmocka_unit_test_setup_teardown(full_of_tls, begin, end),
		cmocka_unit_test_setup_teardown(many_names, begin, end),
	};

	return cmocka_run_group_tests_name("tlsseen", tests, NULL, NULL);
}
