/*
 * kv.c - unit tests of lib/kv.c
 *
 * What a peer sends must not end a log line, start a pair or leave a quote
 * open, at any length of the caller's memory.
 */
#include "lib/kv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "lib/addr.h"

#define N(a) (sizeof(a) / sizeof((a)[0]))

static void
text(void **state)
{
	static const struct {
		const char *in;
		size_t len;
		const char *want;
	} rows[] = {
		{ "pc", 2, "e helo=\"pc\"" },
		{ "", 0, "e helo=\"\"" },
		{ "a b=c", 5, "e helo=\"a b=c\"" },
		{ "a\" code=250", 11, "e helo=\"a\\\" code=250\"" },
		{ "\\", 1, "e helo=\"\\\\\"" },
		{ "a\r\nblock", 8, "e helo=\"a\\x0d\\x0ablock\"" },
		{ "a\0b", 3, "e helo=\"a\\x00b\"" },
		{ "\x1b[2J\x7f", 5, "e helo=\"\\x1b[2J\\x7f\"" },
		{ "\xc3\xa9\xff", 3, "e helo=\"\\xc3\\xa9\\xff\"" },
	};
	char out[128];
	struct kv k;

	(void)state;
	for (size_t i = 0; i < N(rows); i++) {
		kv_open(&k, out, sizeof(out), "e");
		kv_text(&k, "helo", rows[i].in, rows[i].len);
		assert_string_equal(out, rows[i].want);
		assert_int_equal(k.len, strlen(out));
		assert_int_equal(k.cut, 0);
	}
}

static void
pairs(void **state)
{
	char out[256];
	struct addr a, b, none = { 0 };
	struct kv k;

	(void)state;
	addr_parse(&a, "198.18.3.7:40112");
	addr_parse(&b, "[2001:db8::9]:25");
	kv_open(&k, out, sizeof(out), "block");
	kv_addr(&k, "line", &a);
	kv_word(&k, "class", "dynamic");
	kv_addr_port(&k, "src", &a);
	kv_addr_port(&k, "dst", &b);
	kv_addr_port(&k, "out", &none);
	kv_uint(&k, "code", 550);
	kv_uint(&k, "in", UINT64_MAX);
	kv_tenths(&k, "dur", 5210);
	kv_tenths(&k, "ttfb", 99);
	kv_word(&k, "who", NULL);
	kv_word(&k, "where", "");
	assert_string_equal(out, "block line=198.18.3.7 class=dynamic "
		"src=198.18.3.7:40112 dst=[2001:db8::9]:25 out=- code=550 "
		"in=18446744073709551615 dur=5.2 ttfb=0.0 who=- where=-");
	assert_int_equal(k.cut, 0);
}

/* At every size: terminated, quotes in pairs, a prefix of whole pairs. */
static void
cut(void **state)
{
	static const char whole[] = "e helo=\"a\\x0ab\\\"\" code=550";
	char out[64];
	struct kv k;

	(void)state;
	for (size_t cap = 1; cap <= sizeof(whole) + 1; cap++) {
		size_t quotes = 0;

		memset(out, 'Z', sizeof(out));
		kv_open(&k, out, cap, "e");
		kv_text(&k, "helo", "a\nb\"", 4);
		kv_word(&k, "code", "550");
		assert_true(strlen(out) < cap);
		assert_int_equal(strlen(out), k.len);
		for (const char *c = out; *c != '\0'; c++) {
			if (*c == '\\' && c[1] == '"')
				c++;
			else if (*c == '"')
				quotes++;
		}
		assert_true(quotes % 2 == 0);
		assert_int_equal(k.cut, cap < sizeof(whole));
		assert_int_equal(out[cap], 'Z');
	}
	assert_string_equal(out, whole);
	kv_open(&k, out, 0, "e");
	kv_text(&k, "helo", "a", 1);
	kv_uint(&k, "n", 1);
	assert_int_equal(k.cut, 1);
}

static void
json(void **state)
{
	char out[512];
	struct addr a, b, none = { 0 };
	struct kv k;

	(void)state;
	addr_parse(&a, "198.18.3.7:40112");
	addr_parse(&b, "[2001:db8::9]:25");
	kv_set_form(KV_JSON);
	kv_open(&k, out, sizeof(out), "block");
	assert_string_equal(out, "{\"event.action\":\"block\"}");
	kv_word(&k, "id", "01J");
	kv_addr(&k, "line", &a);
	kv_word(&k, "class", NULL);
	kv_addr_port(&k, "src", &a);
	kv_addr_port(&k, "dst", &b);
	kv_addr_port(&k, "out", &none);
	kv_uint(&k, "code", 550);
	kv_tenths(&k, "dur", 5210);
	kv_text(&k, "helo", "p\"c\\\r\0\xc3", 7);
	assert_string_equal(out, "{\"event.action\":\"block\","
		"\"event.id\":\"01J\",\"sallyport.line\":\"198.18.3.7\","
		"\"source.ip\":\"198.18.3.7\",\"source.port\":40112,"
		"\"destination.ip\":\"2001:db8::9\",\"destination.port\":25,"
		"\"sallyport.code\":550,\"event.duration\":5210000000,"
		"\"sallyport.helo\":\"p\\\"c\\\\\\u000d\\u0000\\u00c3\"}");
	assert_int_equal(k.cut, 0);
	kv_set_form(KV_PAIRS);
}

static void
put(char *text, size_t cap, const char *more)
{
	size_t n = strlen(text);

	snprintf(text + n, cap - n, "%s", more);
}

/* At every size: nothing, or an object that is closed, of whole members. */
static void
json_cut(void **state)
{
	static const char *const stage[] = { "", "{\"event.action\":\"e\"",
		",\"source.ip\":\"198.18.3.7\",\"source.port\":7",
		",\"sallyport.n\":1" };
	char out[128], want[128];
	struct addr a;
	struct kv k;

	(void)state;
	addr_parse(&a, "198.18.3.7:7");
	kv_set_form(KV_JSON);
	for (size_t cap = 0; cap <= 100; cap++) {
		size_t room = cap;

		memset(out, 'Z', sizeof(out));
		kv_open(&k, out, cap, "e");
		kv_addr_port(&k, "src", &a);
		kv_uint(&k, "n", 1);
		assert_int_equal(out[cap], 'Z');
		if (cap == 0)
			continue;
		want[0] = '\0';
		for (size_t i = 1; i < N(stage); i++)
			if (strlen(want) + strlen(stage[i]) + 2 <= room &&
			    (i == 1 || want[0] != '\0'))
				put(want, sizeof(want), stage[i]);
		if (want[0] != '\0')
			put(want, sizeof(want), "}");
		assert_string_equal(out, want);
	}
	kv_set_form(KV_PAIRS);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(text),
		cmocka_unit_test(pairs),
		cmocka_unit_test(cut),
		cmocka_unit_test(json),
		cmocka_unit_test(json_cut),
	};

	return cmocka_run_group_tests_name("kv", tests, NULL, NULL);
}
