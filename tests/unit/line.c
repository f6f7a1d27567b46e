/*
 * line.c - unit tests of zombie/line.c
 *
 * Tables of packets, texts and classes, and the line that each must be; what
 * is written can be read again.
 */
#include "zombie/line.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void
keys(void **state)
{
	static const struct {
		const char *src, *want;
		unsigned len6, port_block, block;
	} rows[] = {
		{ "198.18.3.7:40112", "198.18.3.7/32", 56, 0, 0 },
		{ "100.64.3.7:1024", "100.64.3.7/32", 56, 1024, 2 },
		{ "100.64.3.7:65535", "100.64.3.7/32", 56, 1024, 64 },
		{ "100.64.3.7:1023", "100.64.3.7/32", 56, 1024, 1 },
		{ "[2001:db8:1:22ff::9]:25", "2001:db8:1:2200::/56", 56, 0, 0 },
		{ "[2001:db8:1:22ff::9]:25", "2001:db8:1:22ff::/64", 64, 0, 0 },
		/* a line is never longer than a /64, a port block is for IPv4 */
		{ "[2001:db8:1:22ff::9]:25", "2001:db8:1:22ff::/64", 128, 64, 0 },
		{ "[64:ff9b::c612:307]:99", "198.18.3.7/32", 56, 0, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char text[ADDR_STRLEN];
		struct line_key k;
		struct prefix p;
		struct addr a;

		assert_int_equal(addr_parse(&a, rows[i].src), 0);
		line_key_of(&a, rows[i].len6, rows[i].port_block, &k);
		line_key_prefix(&k, &p);
		assert_string_equal(prefix_format(&p, text), rows[i].want);
		assert_int_equal(k.block, rows[i].block);
	}
}

/* A line's text is its own, in its class and in no other. */
static void
texts(void **state)
{
	static const struct {
		const char *text;
		unsigned len6, port_block;
		const char *want;	/* a part of the refusal; NULL: a line */
	} rows[] = {
		{ "198.18.3.7", 56, 0, NULL },
		{ "198.18.64.1:1024-2047", 56, 1024, NULL },
		{ "198.18.64.1:0-1023", 56, 1024, NULL },
		{ "198.18.64.1:64512-65535", 56, 1024, NULL },
		{ "198.18.64.1:65000-65535", 56, 1000, NULL },
		{ "2001:db8:1:9900::/56", 56, 0, NULL },
		{ "2001:db8:1:9900::/56", 56, 1024, NULL },
		{ "2001:db8:1:9901::/64", 64, 0, NULL },
		{ "198.18.3.0/24", 56, 0, "is a /32, found /24" },
		{ "198.18.3.7:1024-2047", 56, 0, "has no port_block" },
		{ "198.18.64.1", 56, 1024, "like ADDRESS:0-1023" },
		{ "198.18.64.1:1025-2048", 56, 1024, "port 1025 is in 1024-2047" },
		{ "198.18.64.1:1024-2046", 56, 1024, "1024 ports long" },
		{ "2001:db8:1:9900::/64", 56, 0, "is a /56, found /64" },
		{ "2001:db8:1:9900::1", 56, 0, "is a /56, found /128" },
		{ "2001:db8:1::/48", 64, 0, "is a /64, found /48" },
		{ "198.18.64.1:", 56, 1024, "ports are expected" },
		{ "198.18.64.1:1024", 56, 1024, "ports are expected" },
		{ "198.18.64.1:2047-1024", 56, 1024, "ports are expected" },
		{ "198.18.64.1:1024-65536", 56, 1024, "ports are expected" },
		{ "198.18.64.1:1024-2047x", 56, 1024, "ports are expected" },
		{ "198.18.64.1:-1-2", 56, 1024, "ports are expected" },
		{ "198.18.64.0/24:1024-2047", 56, 1024, "one IPv4 address" },
		{ "198.18.64.400:1024-2047", 56, 1024, "" },
		{ "2001:db8:1:9900::7/56", 56, 0, "host bits" },
		{ "cust-7", 56, 0, "" }, { "", 56, 0, "" },
		{ "...:::", 56, 0, "" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char again[LINE_STRLEN], room[120];
		const char *why = NULL;
		struct line_text l;
		struct line_key k;

		if (line_parse(&l, rows[i].text, &why) == 0)
			why = line_key_from(&l, rows[i].len6,
				rows[i].port_block, &k, room);
		if ((why == NULL) != (rows[i].want == NULL) || (why != NULL &&
		    strstr(why, rows[i].want) == NULL))
			fail_msg("%s: %s", rows[i].text, why ? why : "a line");
		if (why != NULL)
			continue;
		assert_string_equal(line_format(&k, rows[i].port_block, again),
			rows[i].text);
		assert_true(line_key_valid(&k, rows[i].len6,
			rows[i].port_block));
	}
}

/* What a taken-over relay may send instead. */
static void
forged(void **state)
{
	const struct line_key four = { .family = AF_INET, .len = 32,
		.ip = { 198, 18, 3, 7 } }, six = { .family = AF_INET6,
		.len = 56, .ip = { 0x20, 1, 0xd, 0xb8, 0, 1, 0x22, 0 } };
	struct line_key k;

	(void)state;
	assert_true(line_key_valid(&four, 56, 0));
	assert_false(line_key_valid(&four, 56, 1024));
	assert_true(line_key_valid(&six, 56, 0));
	assert_true(line_key_valid(&six, 56, 1024));
	assert_false(line_key_valid(&six, 64, 0));
	k = four, k.len = 24;
	assert_false(line_key_valid(&k, 56, 0));
	k = four, k.ip[4] = 1;
	assert_false(line_key_valid(&k, 56, 0));
	k = four, k.block = 64;
	assert_true(line_key_valid(&k, 56, 1024));
	assert_false(line_key_valid(&k, 56, 0));
	k.block = 65;
	assert_false(line_key_valid(&k, 56, 1024));
	k = six, k.ip[7] = 1;
	assert_false(line_key_valid(&k, 56, 0));
	k = six, k.block = 1;
	assert_false(line_key_valid(&k, 56, 1024));
	k = six, k.family = 77;
	assert_false(line_key_valid(&k, 56, 0));
	k = six, k.family = 0;
	assert_false(line_key_valid(&k, 56, 0));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keys),
		cmocka_unit_test(texts),
		cmocka_unit_test(forged),
	};

	return cmocka_run_group_tests_name("line", tests, NULL, NULL);
}
