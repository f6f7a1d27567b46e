/*
 * lines.c - unit tests of proxyd/lines.c
 *
 * The count of many lines against plain numbers, over pseudo-random coming and
 * going; family and port block tell lines apart.
 */
#include "proxyd/lines.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void
counts(void **state)
{
	enum { LINES = 20000, STEPS = 200000 };
	static unsigned held[LINES];
	struct lines *l = lines_new();
	uint32_t seed = 25;

	(void)state;
	assert_non_null(l);
	for (int i = 0; i < STEPS; i++) {
		struct line_key a = { .family = AF_INET, .len = 32 };
		unsigned which;

		seed = seed * 1664525u + 1013904223u;
		which = (seed >> 8) % LINES;
		a.ip[0] = 198;
		a.ip[1] = 18;
		a.ip[2] = (uint8_t)(which >> 8);
		a.ip[3] = (uint8_t)which;
		if ((seed & 0x80000000u) && held[which] > 0) {
			lines_leave(l, &a);
			held[which]--;
		} else {
			assert_int_equal(lines_enter(l, &a), ++held[which]);
		}
	}
	lines_free(&l);
	assert_null(l);
	lines_free(&l);
}

static void
kinds(void **state)
{
	struct line_key four = { .family = AF_INET, .len = 32,
		.ip = { 198, 18, 3, 7 } };
	struct line_key six = four, block = four;
	struct lines *l = lines_new();

	(void)state;
	six.family = AF_INET6;
	block.block = 2;
	assert_non_null(l);
	assert_int_equal(lines_enter(l, &four), 1);
	assert_int_equal(lines_enter(l, &four), 2);
	assert_int_equal(lines_enter(l, &six), 1);
	assert_int_equal(lines_enter(l, &block), 1);
	lines_leave(l, &six);
	lines_leave(l, &six);	/* one that is not there changes nothing */
	assert_int_equal(lines_enter(l, &six), 1);
	assert_int_equal(lines_enter(l, &four), 3);
	assert_int_equal(lines_enter(l, &block), 2);
	lines_free(&l);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(counts),
		cmocka_unit_test(kinds),
	};

	return cmocka_run_group_tests_name("lines", tests, NULL, NULL);
}
