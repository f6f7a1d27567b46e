/*
 * identity.c - unit tests of proxyd/identity.c
 *
 * Headers octet by octet as the PROXY protocol's text has them; commands as
 * XCLIENT_README has them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "proxyd/identity.h"
#include "proxyd/proto.h"

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define S(text) text, sizeof(text) - 1

static void
proxy(void **state)
{
	static const struct {
		const char *src, *dst, *want;
		size_t len;
	} rows[] = {
		{ "198.18.3.7:40112", "203.0.113.9:25", S(SIGNATURE
			"\x21\x11\x00\x0c\xc6\x12\x03\x07\xcb\x00\x71\x09"
			"\x9c\xb0\x00\x19") },
		{ "[2001:db8::7]:1", "[2001:db8:1::9]:25", S(SIGNATURE
			"\x21\x21\x00\x24\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0"
			"\x07\x20\x01\x0d\xb8\x00\x01\0\0\0\0\0\0\0\0\0\x09"
			"\x00\x01\x00\x19") },
		{ "198.18.3.7:1", "[2001:db8::9]:25", S(SIGNATURE
			"\x20\x00\x00\x00") },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint8_t out[PROXY_HEADER_MAX];
		struct addr src, dst;

		assert_int_equal(addr_parse(&src, rows[i].src), 0);
		assert_int_equal(addr_parse(&dst, rows[i].dst), 0);
		assert_int_equal(identity_proxy(out, &src, &dst), rows[i].len);
		assert_memory_equal(out, rows[i].want, rows[i].len);
	}
}

/* 2.2.6: the client is in TLS, its version; no certificate of its own. */
static void
proxy_tls(void **state)
{
	static const struct {
		const char *src, *dst;
		int tls;
		const char *want;
		size_t len;
	} rows[] = {
		{ "198.18.3.7:40112", "203.0.113.9:995", 13, S(SIGNATURE
			"\x21\x11\x00\x1e\xc6\x12\x03\x07\xcb\x00\x71\x09"
			"\x9c\xb0\x03\xe3\x20\x00\x0f\x01\0\0\0\x01\x21\x00\x07"
			"TLSv1.3") },
		{ "[2001:db8::7]:1", "[2001:db8:1::9]:25", 12, S(SIGNATURE
			"\x21\x21\x00\x36\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0"
			"\x07\x20\x01\x0d\xb8\x00\x01\0\0\0\0\0\0\0\0\0\x09"
			"\x00\x01\x00\x19\x20\x00\x0f\x01\0\0\0\x01\x21\x00\x07"
			"TLSv1.2") },
		{ "198.18.3.7:40112", "203.0.113.9:110", 0, S(SIGNATURE
			"\x21\x11\x00\x0c\xc6\x12\x03\x07\xcb\x00\x71\x09"
			"\x9c\xb0\x00\x6e") },
		{ "198.18.3.7:1", "[2001:db8::9]:25", 13, S(SIGNATURE
			"\x20\x00\x00\x00") },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint8_t out[PROXY_HEADER_MAX];
		struct addr src, dst;

		assert_int_equal(addr_parse(&src, rows[i].src), 0);
		assert_int_equal(addr_parse(&dst, rows[i].dst), 0);
		assert_int_equal(identity_proxy_tls(out, &src, &dst,
			rows[i].tls), rows[i].len);
		assert_memory_equal(out, rows[i].want, rows[i].len);
	}
}

static void
xclient(void **state)
{
	static const struct {
		const char *list, *client, *want;
	} rows[] = {
		{ "NAME ADDR PROTO HELO REVERSE_NAME PORT LOGIN DESTADDR",
			"198.18.3.7:40112", "XCLIENT ADDR=198.18.3.7 PORT=40112 "
			"NAME=[UNAVAILABLE]\r\n" },
		{ "addr port", "[2001:db8::7]:1",
			"XCLIENT ADDR=IPV6:2001:db8::7 PORT=1\r\n" },
		{ "ADDR", "198.18.3.7:1", "XCLIENT ADDR=198.18.3.7\r\n" },
		{ "PORT NAME DESTADDR ADDRS ADD", "198.18.3.7:1", NULL },
		{ "", "198.18.3.7:1", NULL },
		{ "LOGIN PORT", "198.18.3.7:1", NULL },
		{ "ADDR LOGIN", "198.18.3.7:1", "XCLIENT ADDR=198.18.3.7\r\n" },
		{ "  ADDR  ", "[2001:db8:1111:2222:3333:4444:5555:6666]:65535",
			"XCLIENT ADDR=IPV6:2001:db8:1111:2222:3333:4444:5555:"
			"6666\r\n" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint8_t room[512];
		struct sink out = { .p = room, .cap = sizeof(room) };
		uint32_t set = identity_attributes(
			(const uint8_t *)rows[i].list, strlen(rows[i].list));
		struct addr client;

		assert_int_equal(addr_parse(&client, rows[i].client), 0);
		assert_int_equal(identity_xclient(set, &client, &out),
			rows[i].want != NULL ? 0 : -1);
		assert_int_equal(out.len, rows[i].want != NULL ?
			strlen(rows[i].want) : 0);
		if (rows[i].want != NULL)
			assert_memory_equal(room, rows[i].want, out.len);
	}
}

static void
login(void **state)
{
	static const struct {
		const char *user, *want;
	} rows[] = {
		{ "kenji@isp.example", "XCLIENT LOGIN=kenji@isp.example\r\n" },
		{ "a+b=c", "XCLIENT LOGIN=a+2Bb+3Dc\r\n" },
		{ "a b\r\n\x7f", "XCLIENT LOGIN=a+20b+0D+0A+7F\r\n" },
	};
	char longest[POP_USER_MAX + 1];
	uint8_t room[512];
	struct sink out = { .p = room, .cap = sizeof(room) };

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		out.len = 0;
		identity_login(rows[i].user, &out);
		assert_int_equal(out.len, strlen(rows[i].want));
		assert_memory_equal(room, rows[i].want, out.len);
	}
	memset(longest, '=', POP_USER_MAX);
	longest[POP_USER_MAX] = '\0';
	out.len = 0;
	identity_login(longest, &out);
	assert_int_equal(out.len, 14 + 3 * POP_USER_MAX + 2);
	assert_true(identity_has_login(identity_attributes(
		(const uint8_t *)"addr login", 10)));
	assert_false(identity_has_login(identity_attributes(
		(const uint8_t *)"ADDR LOGINS", 11)));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(proxy),
		cmocka_unit_test(proxy_tls),
		cmocka_unit_test(xclient),
		cmocka_unit_test(login),
	};

	return cmocka_run_group_tests_name("identity", tests, NULL, NULL);
}
