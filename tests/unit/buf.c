/*
 * buf.c - unit tests of lib/buf.c
 *
 * The queue is compared with a plain array that never moves, over a few
 * thousand appends and reads of pseudo-random sizes; the bound and the promise
 * that an empty queue owns no memory are tested by themselves.
 */
#include "lib/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void
order(void **state)
{
	enum { TOTAL = 1 << 20 };
	uint8_t *all = malloc(TOTAL);
	struct buf b = { 0 };
	uint32_t seed = 25;
	size_t in = 0, out = 0;

	(void)state;
	assert_non_null(all);
	for (size_t i = 0; i < TOTAL; i++)
		all[i] = (uint8_t)(i * 31 + i / 251);
	while (out < TOTAL) {
		size_t n;

		seed = seed * 1664525u + 1013904223u;
		n = (seed >> 16) % 5000;
		if (n > TOTAL - in)
			n = TOTAL - in;
		if (n <= BUF_MAX - b.len) {
			assert_int_equal(buf_append(&b, all + in, n), 0);
			in += n;
		} else {
			assert_int_equal(buf_append(&b, all + in, n), -1);
		}
		assert_int_equal(b.len, in - out);
		if (b.len != 0)
			assert_memory_equal(buf_data(&b), all + out, b.len);
		seed = seed * 1664525u + 1013904223u;
		n = (seed >> 16) % 4900;
		if (n > b.len)
			n = b.len;
		buf_consume(&b, n);
		out += n;
		assert_true(b.len != 0 || b.mem == NULL);
	}
	assert_null(b.mem);
	free(all);
}

static void
bound(void **state)
{
	static uint8_t block[BUF_MAX];
	struct buf b = { 0 };

	(void)state;
	assert_int_equal(buf_append(&b, block, 0), 0);
	assert_null(b.mem);
	assert_int_equal(buf_append(&b, block, BUF_MAX), 0);
	assert_int_equal(buf_append(&b, "x", 1), -1);
	assert_int_equal(b.len, BUF_MAX);
	assert_int_equal(b.cap, BUF_MAX);
	buf_consume(&b, 1);
	assert_int_equal(buf_append(&b, "x", 1), 0);
	assert_int_equal(buf_append(&b, "x", SIZE_MAX), -1);
	assert_int_equal(buf_data(&b)[BUF_MAX - 1], 'x');
	buf_clear(&b);
	assert_null(b.mem);
	assert_int_equal(b.len + b.cap + b.off, 0);
	buf_clear(&b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(order),
		cmocka_unit_test(bound),
	};

	return cmocka_run_group_tests_name("buf", tests, NULL, NULL);
}
