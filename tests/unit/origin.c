/*
 * origin.c - unit tests of what proxyd/origin.c remembers of hosts
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "proxyd/origin.h"

static struct addr
host(const char *text)
{
	struct addr a;

	assert_int_equal(addr_parse(&a, text), 0);
	return a;
}

static void
remembers_for_a_time(void **state)
{
	struct origins *o = origins_new();
	struct addr a = host("203.0.113.9"), b = host("2001:db8::9");

	(void)state;
	assert_non_null(o);
	assert_int_equal(origins_find(o, &a, 100), ORIGIN_UNTRIED);
	origins_note(o, &a, ORIGIN_587, 100);
	origins_note(o, &b, ORIGIN_NONE, 100);
	a.port = 25;	/* which port was dialled is no matter */
	assert_int_equal(origins_find(o, &a, 100 + ORIGIN_SECONDS - 1),
		ORIGIN_587);
	assert_int_equal(origins_find(o, &a, 100 + ORIGIN_SECONDS),
		ORIGIN_UNTRIED);
	assert_int_equal(origins_find(o, &b, 100 + ORIGIN_NONE_SECONDS - 1),
		ORIGIN_NONE);
	assert_int_equal(origins_find(o, &b, 100 + ORIGIN_NONE_SECONDS),
		ORIGIN_UNTRIED);
	origins_note(o, &a, ORIGIN_465, 200);
	assert_int_equal(origins_find(o, &a, 201), ORIGIN_465);
	origins_free(&o);
	assert_null(o);
}

/* An IPv4 address is none of the IPv6 addresses that begin alike. */
static void
families_are_apart(void **state)
{
	struct origins *o = origins_new();
	struct addr a = host("32.1.13.184"), b = host("2001:db8::");

	(void)state;
	origins_note(o, &a, ORIGIN_465, 0);
	assert_int_equal(origins_find(o, &b, 1), ORIGIN_UNTRIED);
	origins_free(&o);
}

/* Whoever dials many hosts makes it forget, never mistake one for another. */
static void
many_hosts(void **state)
{
	struct origins *o = origins_new();
	struct addr a = host("203.0.113.9");
	unsigned kept = 0;

	(void)state;
	for (unsigned i = 0; i < 4 * ORIGINS_MAX; i++) {
		memcpy(a.ip, &i, sizeof(i));
		origins_note(o, &a, i % 2 ? ORIGIN_465 : ORIGIN_NONE, 0);
	}
	for (unsigned i = 0; i < 4 * ORIGINS_MAX; i++) {
		enum origin_port port;

		memcpy(a.ip, &i, sizeof(i));
		port = origins_find(o, &a, 1);
		assert_true(port == ORIGIN_UNTRIED ||
			port == (i % 2 ? ORIGIN_465 : ORIGIN_NONE));
		kept += port != ORIGIN_UNTRIED;
	}
	assert_in_range(kept, ORIGINS_MAX / 2, ORIGINS_MAX);
	origins_free(&o);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(remembers_for_a_time),
		cmocka_unit_test(families_are_apart),
		cmocka_unit_test(many_hosts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
