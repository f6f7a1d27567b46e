/*
 * allow.c - unit tests of conf/allow.c: one line, one time
 *
 * Lines come from provisioning scripts; each mistake must be named. Whole
 * files, duplicates and expiry in use are in conf.c.
 */
#include "conf/allow.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define N(a) (sizeof(a) / sizeof((a)[0]))

#define FIELD_EXPECTS "; expected port25=ACTION, until=TIME or # reason"
#define ACTION_EXPECTS "; expected port25=pass, watch, relay or submit"
#define TIME_EXPECTS "; expected a time like until=2026-12-31T23:59:59Z"
#define PREFIX_EXPECTS "; expected a prefix like 198.18.3.7 or " \
	"2001:db8:1:9900::/56"

static void
good_lines(void **state)
{
	static const struct {
		const char *line, *prefix;
		enum action action;
		int64_t until;
		const char *reason;
	} rows[] = {
		{ "198.18.3.7", "198.18.3.7/32", ACTION_PASS, 0, NULL },
		{ "\t198.18.3.0/24  ", "198.18.3.0/24", ACTION_PASS, 0, NULL },
		{ "2001:db8:1:9900::/56 port25=watch", "2001:db8:1:9900::/56",
		  ACTION_WATCH, 0, NULL },
		{ "198.18.3.7 port25=relay # mail server", "198.18.3.7/32",
		  ACTION_RELAY, 0, "mail server" },
		{ "198.18.3.7 until=2026-12-31T23:59:59Z port25=submit#x",
		  "198.18.3.7/32", ACTION_SUBMIT, 1798761599, "x" },
		{ "198.18.3.7 #", "198.18.3.7/32", ACTION_PASS, 0, NULL },
		{ "198.18.3.7 # # two", "198.18.3.7/32", ACTION_PASS, 0,
		  "# two" },
		{ "198.18.3.7 # port25=block", "198.18.3.7/32", ACTION_PASS, 0,
		  "port25=block" },
		{ "", NULL, 0, 0, NULL },
		{ "  \t", NULL, 0, 0, NULL },
		{ "# 198.18.3.7", NULL, 0, 0, NULL },
	};

	(void)state;
	for (size_t i = 0; i < N(rows); i++) {
		char text[128], why[160], prefix[ADDR_STRLEN];
		struct allow_entry e;
		int rc;

		snprintf(text, sizeof(text), "%s", rows[i].line);
		rc = allow_parse(text, &e, why);
		if (rc != (rows[i].prefix != NULL))
			fail_msg("'%s': %d", rows[i].line, rc);
		if (rc == 0)
			continue;
		assert_string_equal(prefix_format(&e.prefix, prefix),
			rows[i].prefix);
		assert_int_equal(e.action, rows[i].action);
		assert_int_equal(e.until, rows[i].until);
		if (rows[i].reason == NULL)
			assert_null(e.reason);
		else
			assert_string_equal(e.reason, rows[i].reason);
		free(e.reason);
	}
}

static void
bad_lines(void **state)
{
	static const struct {
		const char *line, *why;
	} rows[] = {
		{ "mail.isp.example", "'mail.isp.example': not an IP address or "
		  "prefix" PREFIX_EXPECTS },
		{ "198.18.3.7/24", "'198.18.3.7/24': host bits set"
		  PREFIX_EXPECTS },
		{ "198.18.3.7/33", "'198.18.3.7/33': prefix length is not 0 to "
		  "32" PREFIX_EXPECTS },
		{ "0.0.0.0/0", "'0.0.0.0/0': covers every address; expected "
		  "single lines or prefixes" },
		{ "line:", "'line:': expected line: and a customer's id of at "
		  "most 63 printable characters" },
		{ "line:a\"b", "'line:a\"b': expected line: and a customer's "
		  "id of at most 63 printable characters" },
		{ "line:4711 port25=block", "'port25=block'" ACTION_EXPECTS },
		{ "198.18.3.7 mail server", "'mail'" FIELD_EXPECTS },
		{ "198.18.3.7 port=pass", "'port=pass'" FIELD_EXPECTS },
		{ "198.18.3.7 port25=", "'port25='" ACTION_EXPECTS },
		{ "198.18.3.7 port25=block", "'port25=block'" ACTION_EXPECTS },
		{ "198.18.3.7 port25=reset", "'port25=reset'" ACTION_EXPECTS },
		{ "198.18.3.7 port25=drop", "'port25=drop'" ACTION_EXPECTS },
		{ "198.18.3.7 port25=PASS", "'port25=PASS'" ACTION_EXPECTS },
		{ "198.18.3.7 port25=pass port25=pass", "'port25=pass'; "
		  "expected only one of its kind" },
		{ "198.18.3.7 until=2026-12-31", "'until=2026-12-31'"
		  TIME_EXPECTS },
		{ "198.18.3.7 until=2026-12-31T23:59:59Z "
		  "until=2026-12-31T23:59:59Z", "'until=2026-12-31T23:59:59Z'; "
		  "expected only one of its kind" },
	};

	(void)state;
	for (size_t i = 0; i < N(rows); i++) {
		char text[128], why[160];
		struct allow_entry e;

		snprintf(text, sizeof(text), "%s", rows[i].line);
		if (allow_parse(text, &e, why) != -1)
			fail_msg("'%s' was accepted", rows[i].line);
		assert_string_equal(why, rows[i].why);
		assert_null(e.reason);
		assert_null(e.customer);
	}
}

static void
lines_of_customers(void **state)
{
	char text[] = "line:c-47.11/x until=2026-12-31T23:59:59Z # contract";
	char why[160];
	struct allow_entry e;

	(void)state;
	assert_int_equal(allow_parse(text, &e, why), 1);
	assert_string_equal(e.customer, "c-47.11/x");
	assert_int_equal(e.prefix.family, 0);
	assert_int_equal(e.until, 1798761599);
	assert_string_equal(e.reason, "contract");
	allow_forget(&e);
}

static void
times(void **state)
{
	static const struct {
		const char *text;
		int64_t want;	/* -1: refused */
	} rows[] = {
		{ "1970-01-01T00:00:00Z", 0 },
		{ "2026-01-01T00:00:00Z", 1767225600 },
		{ "2026-01-01t00:00:00z", 1767225600 },
		{ "2026-01-01T09:00:00+09:00", 1767225600 },
		{ "2025-12-31T16:30:00-07:30", 1767225600 },
		{ "2026-01-01T00:00:00.25Z", 1767225600 },
		{ "2024-02-29T00:00:00Z", 1709164800 },
		{ "2000-02-29T00:00:00Z", 951782400 },
		{ "2026-02-29T00:00:00Z", -1 },
		{ "1900-02-29T00:00:00Z", -1 },
		{ "2026-13-01T00:00:00Z", -1 },
		{ "2026-00-01T00:00:00Z", -1 },
		{ "2026-04-31T00:00:00Z", -1 },
		{ "2026-01-00T00:00:00Z", -1 },
		{ "2026-01-01T24:00:00Z", -1 },
		{ "2026-01-01T00:60:00Z", -1 },
		{ "2026-01-01T00:00:61Z", -1 },
		{ "2026-01-01T00:00:00", -1 },
		{ "2026-01-01T00:00:00.Z", -1 },
		{ "2026-01-01 00:00:00Z", -1 },
		{ "2026-01-01T00:00:00+0900", -1 },
		{ "2026-01-01T00:00:00+24:00", -1 },
		{ "2026-01-01T00:00:00Zx", -1 },
		{ "26-01-01T00:00:00Z", -1 },
		{ "tomorrow", -1 },
		{ "", -1 },
	};

	(void)state;
	for (size_t i = 0; i < N(rows); i++) {
		int64_t got = -1;
		int rc = allow_time(rows[i].text, &got);

		if (rc != (rows[i].want < 0 ? -1 : 0) || got != rows[i].want)
			fail_msg("'%s': %d, %lld", rows[i].text, rc,
				(long long)got);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_lines),
		cmocka_unit_test(bad_lines),
		cmocka_unit_test(lines_of_customers),
		cmocka_unit_test(times),
	};

	return cmocka_run_group_tests_name("allow", tests, NULL, NULL);
}
