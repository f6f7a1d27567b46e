/*
 * addr.c - unit tests of lib/addr.c
 *
 * Tables of {text, want}. Text comes from people (configuration) and from
 * peers (DNS), so what must be refused matters as much as what is accepted.
 * The list of special addresses is the boundary that keeps a subscriber from
 * reaching the gateway's own services; each range is tried at both ends and
 * just outside.
 */
#include "lib/addr.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#define N(a) (sizeof(a) / sizeof((a)[0]))

static void
parse(void **state)
{
	static const struct {
		const char *text;
		const char *want;	/* addr_format_port; NULL: refused */
	} rows[] = {
		{ "203.0.113.9", "203.0.113.9:0" },
		{ "203.0.113.9:25", "203.0.113.9:25" },
		{ "0.0.0.0", "0.0.0.0:0" },
		{ "255.255.255.255:65535", "255.255.255.255:65535" },
		{ "2001:db8::1", "[2001:db8::1]:0" },
		{ "2001:DB8:0:0::1", "[2001:db8::1]:0" },
		{ "[2001:db8::1]:25", "[2001:db8::1]:25" },
		{ "::ffff:192.0.2.1", "[::ffff:192.0.2.1]:0" },
		{ "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255",
		  "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:0" },
		{ "", NULL },
		{ "203.0.113", NULL },
		{ "203.0.113.256", NULL },
		{ "203.0.113.09", NULL },
		{ "203.0.113.9:", NULL },
		{ "203.0.113.9:0", NULL },
		{ "203.0.113.9:65536", NULL },
		{ "203.0.113.9:99999999999999999999", NULL },
		{ "203.0.113.9:+25", NULL },
		{ "203.0.113.9:25 ", NULL },
		{ " 203.0.113.9", NULL },
		{ "203.0.113.9/32", NULL },
		{ "[203.0.113.9]:25", NULL },
		{ "[2001:db8::1]", NULL },
		{ "[2001:db8::1]25", NULL },
		{ "[2001:db8::1", NULL },
		{ "[]:25", NULL },
		{ "[", NULL },
		{ ":25", NULL },
		{ ":", NULL },
		{ "2001:db8::1::2", NULL },
		{ "fe80::1%eth0", NULL },
		{ "mail.isp.example", NULL },
		{ "1111111111111111111111111111111111111111111111111111111111",
		  NULL },
	};
	struct addr a;
	char text[ADDR_STRLEN];

	(void)state;
	for (size_t i = 0; i < N(rows); i++) {
		int rc = addr_parse(&a, rows[i].text);

		if (rows[i].want == NULL) {
			if (rc != -1)
				fail_msg("'%s' was accepted", rows[i].text);
			continue;
		}
		if (rc != 0)
			fail_msg("'%s' was refused", rows[i].text);
		assert_string_equal(addr_format_port(&a, text), rows[i].want);
	}
}

static void
prefixes(void **state)
{
	static const struct {
		const char *text, *want, *why;
	} rows[] = {
		{ "198.18.0.0/16", "198.18.0.0/16", NULL },
		{ "198.18.3.7", "198.18.3.7/32", NULL },
		{ "0.0.0.0/0", "0.0.0.0/0", NULL },
		{ "198.18.3.8/29", "198.18.3.8/29", NULL },
		{ "2001:db8::/32", "2001:db8::/32", NULL },
		{ "2001:db8::1", "2001:db8::1/128", NULL },
		{ "::/0", "::/0", NULL },
		{ "2001:db8:8000::/33", "2001:db8:8000::/33", NULL },
		{ "198.18.0.1/16", NULL, "host bits set" },
		{ "198.18.3.9/29", NULL, "host bits set" },
		{ "2001:db8:8000::/32", NULL, "host bits set" },
		{ "198.18.0.0/33", NULL, "prefix length is not 0 to 32" },
		{ "198.18.0.0/", NULL, "prefix length is not 0 to 32" },
		{ "198.18.0.0/-1", NULL, "prefix length is not 0 to 32" },
		{ "198.18.0.0/016", NULL, "prefix length is not 0 to 32" },
		{ "198.18.0.0/16/16", NULL, "prefix length is not 0 to 32" },
		{ "2001:db8::/129", NULL, "prefix length is not 0 to 128" },
		{ "198.18.0.0:25/16", NULL, "not an IP address or prefix" },
		{ "/16", NULL, "not an IP address or prefix" },
		{ "", NULL, "not an IP address or prefix" },
		{ "isp.example/16", NULL, "not an IP address or prefix" },
	};
	struct prefix p;
	const char *why;
	char text[ADDR_STRLEN];

	(void)state;
	for (size_t i = 0; i < N(rows); i++) {
		int rc = prefix_parse(&p, rows[i].text, &why);

		if (rows[i].want == NULL) {
			if (rc != -1)
				fail_msg("'%s' was accepted", rows[i].text);
			assert_string_equal(why, rows[i].why);
			continue;
		}
		if (rc != 0)
			fail_msg("'%s' was refused: %s", rows[i].text, why);
		assert_null(why);
		assert_string_equal(prefix_format(&p, text), rows[i].want);
	}
}

static void
contains(void **state)
{
	static const struct {
		const char *prefix, *addr;
		bool want;
	} rows[] = {
		{ "198.18.0.0/16", "198.18.255.255", true },
		{ "198.18.0.0/16", "198.19.0.0", false },
		{ "198.18.0.0/15", "198.19.0.0", true },
		{ "198.18.3.8/29", "198.18.3.15", true },
		{ "198.18.3.8/29", "198.18.3.16", false },
		{ "0.0.0.0/0", "203.0.113.1", true },
		{ "0.0.0.0/0", "2001:db8::1", false },
		{ "::/0", "2001:db8::1", true },
		{ "::/0", "203.0.113.1", false },
		{ "2001:db8::/33", "2001:db8:7fff::1", true },
		{ "2001:db8::/33", "2001:db8:8000::1", false },
		{ "2001:db8::1", "2001:db8::1", true },
		{ "2001:db8::1", "2001:db8::2", false },
	};
	struct prefix p;
	struct addr a;
	const char *why;

	(void)state;
	for (size_t i = 0; i < N(rows); i++) {
		assert_int_equal(prefix_parse(&p, rows[i].prefix, &why), 0);
		assert_int_equal(addr_parse(&a, rows[i].addr), 0);
		if (prefix_contains(&p, &a) != rows[i].want)
			fail_msg("%s contains %s", rows[i].prefix, rows[i].addr);
	}
}

static void
of_addr(void **state)
{
	static const struct {
		const char *addr;
		unsigned len;
		const char *want;
	} rows[] = {
		{ "198.18.3.7", 32, "198.18.3.7/32" },
		{ "198.18.3.7", 128, "198.18.3.7/32" },
		{ "198.18.3.7", 30, "198.18.3.4/30" },
		{ "198.18.3.7", 0, "0.0.0.0/0" },
		{ "2001:db8:1:99ab::7", 56, "2001:db8:1:9900::/56" },
		{ "2001:db8:1:99ab::7", 61, "2001:db8:1:99a8::/61" },
		{ "2001:db8:1:99ab::7", 128, "2001:db8:1:99ab::7/128" },
	};
	struct prefix p;
	struct addr a;
	char text[ADDR_STRLEN];

	(void)state;
	for (size_t i = 0; i < N(rows); i++) {
		assert_int_equal(addr_parse(&a, rows[i].addr), 0);
		prefix_of_addr(&p, &a, rows[i].len);
		assert_string_equal(prefix_format(&p, text), rows[i].want);
	}
}

static void
sockaddrs(void **state)
{
	static const struct {
		const char *in, *want;
	} rows[] = {
		{ "203.0.113.9:25", "203.0.113.9:25" },
		{ "[2001:db8::1]:110", "[2001:db8::1]:110" },
		{ "[::ffff:203.0.113.9]:25", "203.0.113.9:25" },
	};
	struct sockaddr_storage ss;
	struct addr a, b;
	char text[ADDR_STRLEN];

	(void)state;
	for (size_t i = 0; i < N(rows); i++) {
		assert_int_equal(addr_parse(&a, rows[i].in), 0);
		assert_true(addr_to_sockaddr(&a, &ss) > 0);
		memset(&b, 0xff, sizeof(b));
		assert_int_equal(
			addr_from_sockaddr(&b, (struct sockaddr *)&ss), 0);
		assert_string_equal(addr_format_port(&b, text), rows[i].want);
		assert_int_equal(b.pad, 0);
	}
	ss.ss_family = AF_UNIX;
	assert_int_equal(addr_from_sockaddr(&b, (struct sockaddr *)&ss), -1);
	memset(&a, 0, sizeof(a));
	assert_int_equal(addr_to_sockaddr(&a, &ss), (socklen_t)-1);
	assert_string_equal(addr_format(&a, text), "-");
}

static void
same_host(void **state)
{
	struct addr a, b;

	(void)state;
	addr_parse(&a, "203.0.113.9:25");
	addr_parse(&b, "203.0.113.9:26");
	assert_true(addr_same_host(&a, &b));
	addr_parse(&b, "203.0.113.8:25");
	assert_false(addr_same_host(&a, &b));
	/* the same sixteen bytes in the other family */
	b = a;
	b.family = AF_INET6;
	assert_false(addr_same_host(&a, &b));
}

static void
special(void **state)
{
	static const struct {
		const char *addr, *want;
	} rows[] = {
		{ "0.0.0.0", "unspecified" }, { "0.255.255.255", "unspecified" },
		{ "1.0.0.0", NULL }, { "9.255.255.255", NULL },
		{ "10.0.0.0", "private" }, { "10.255.255.255", "private" },
		{ "11.0.0.0", NULL }, { "100.63.255.255", NULL },
		{ "100.64.0.0", "private" }, { "100.127.255.255", "private" },
		{ "100.128.0.0", NULL }, { "126.255.255.255", NULL },
		{ "127.0.0.1", "loopback" }, { "127.255.255.255", "loopback" },
		{ "128.0.0.0", NULL }, { "169.253.255.255", NULL },
		{ "169.254.169.254", "link-local" }, { "169.255.0.0", NULL },
		{ "172.15.255.255", NULL }, { "172.16.0.0", "private" },
		{ "172.31.255.255", "private" }, { "172.32.0.0", NULL },
		{ "192.0.0.1", "reserved" }, { "192.0.1.0", NULL },
		{ "192.0.2.1", NULL }, { "192.88.99.1", "reserved" },
		{ "192.167.255.255", NULL }, { "192.168.0.0", "private" },
		{ "192.168.255.255", "private" }, { "192.169.0.0", NULL },
		{ "198.18.0.1", NULL }, { "198.51.100.1", NULL },
		{ "203.0.113.1", NULL }, { "223.255.255.255", NULL },
		{ "224.0.0.1", "multicast" }, { "239.255.255.255", "multicast" },
		{ "240.0.0.0", "reserved" }, { "255.255.255.255", "reserved" },
		{ "::", "unspecified" }, { "::1", "loopback" },
		{ "::2", "reserved" }, { "::127.0.0.1", "reserved" },
		{ "::ffff:127.0.0.1", "mapped" },
		{ "::ffff:203.0.113.1", "mapped" },
		{ "64:ff9b::127.0.0.1", "nat64" },
		{ "64:ff9b::10.0.0.1", "nat64" },
		{ "64:ff9b::169.254.169.254", "nat64" },
		{ "64:ff9b::203.0.113.1", NULL },
		{ "64:ff9b:1::1", "nat64" },
		{ "2002:7f00:1::1", "6to4" }, { "2002:a00:1::1", "6to4" },
		{ "2002:cb00:7101::1", NULL },
		{ "2001::1", "reserved" }, { "2001:0:4136:e378::1", "reserved" },
		{ "2001:10::1", "reserved" }, { "2001:20::1", "reserved" },
		{ "2001:db8::1", NULL }, { "2000::", NULL },
		{ "2a00:1450:4001::1a", NULL },
		{ "3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", NULL },
		{ "4000::", "reserved" }, { "100::1", "reserved" },
		{ "fbff::1", "reserved" }, { "fc00::", "private" },
		{ "fdff::1", "private" }, { "fe80::1", "link-local" },
		{ "febf::1", "link-local" }, { "fec0::1", "private" },
		{ "ff02::1", "multicast" },
	};
	struct addr a;

	(void)state;
	for (size_t i = 0; i < N(rows); i++) {
		const char *got;

		assert_int_equal(addr_parse(&a, rows[i].addr), 0);
		got = addr_special(&a);
		if ((got == NULL) != (rows[i].want == NULL) ||
			(got != NULL && strcmp(got, rows[i].want) != 0))
			fail_msg("%s: %s, not %s", rows[i].addr,
				got != NULL ? got : "ordinary",
				rows[i].want != NULL ? rows[i].want : "ordinary");
	}
	memset(&a, 0, sizeof(a));
	assert_string_equal(addr_special(&a), "no-address");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parse),
		cmocka_unit_test(prefixes),
		cmocka_unit_test(contains),
		cmocka_unit_test(of_addr),
		cmocka_unit_test(sockaddrs),
		cmocka_unit_test(same_host),
		cmocka_unit_test(special),
	};

	return cmocka_run_group_tests_name("addr", tests, NULL, NULL);
}
