/*
 * kv.c - unit tests of lib/kv.c
 *
 * What a peer sends must not end a log line, start a pair or leave a quote
 * open, at any length of the caller's memory.
 */
#include "lib/kv.h"

#include <setjmp.h>
#include <stdarg.h>
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

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(text),
		cmocka_unit_test(pairs),
		cmocka_unit_test(cut),
	};

	return cmocka_run_group_tests_name("kv", tests, NULL, NULL);
}
