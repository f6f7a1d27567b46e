/*
 * offer.c - unit tests of proxyd/offer.c: the conversation, line by line
 *
 * What a plain port may answer, and what is made of it; the table and the
 * sessions that wait are the lab's (test_imap.py).
 */
#include "proxyd/offer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define N(a) (sizeof(a) / sizeof((a)[0]))

static const struct {
	bool imap;
	const char *lines[8];
	const char *said;	/* by us */
	int over;		/* after the last line */
	bool found;
} rows[] = {
	{ false, { "+OK hi", "+OK", "TOP", "STLS", "." }, "CAPA\r\nQUIT\r\n",
		1, true },
	{ false, { "+OK", "+OK", "stls", "." }, "CAPA\r\nQUIT\r\n", 1, true },
	{ false, { "+OK", "+OK", "STLSX", "XSTLS", "SASL STLS", "." },
		"CAPA\r\nQUIT\r\n", 1, false },
	{ false, { "+OK", "+OK", "." }, "CAPA\r\nQUIT\r\n", 1, false },
	{ false, { "+OK", "-ERR what?" }, "CAPA\r\nQUIT\r\n", 1, false },
	{ false, { "+OK", "STLS" }, "CAPA\r\n", -1, false },
	{ false, { "-ERR no" }, "", -1, false },
	{ false, { "* OK" }, "", -1, false },
	{ false, { "" }, "", -1, false },
	{ false, { "+OK", "+OK", "STLS" }, "CAPA\r\n", 0, true },
	{ true, { "* OK hi", "* CAPABILITY IMAP4rev1 STARTTLS", "sp1 OK" },
		"sp1 CAPABILITY\r\nsp2 LOGOUT\r\n", 1, true },
	{ true, { "* OK [CAPABILITY STARTTLS] hi", "* CAPABILITY IMAP4rev1",
		"sp1 OK" }, "sp1 CAPABILITY\r\nsp2 LOGOUT\r\n", 1, false },
	{ true, { "* OK", "* CAPABILITY XSTARTTLS", "* OK x", "sp1 BAD" },
		"sp1 CAPABILITY\r\nsp2 LOGOUT\r\n", 1, false },
	{ true, { "* OK", "* BYE" }, "sp1 CAPABILITY\r\n", -1, false },
	{ true, { "* PREAUTH hi" }, "", -1, false },
	{ true, { "sp1 OK" }, "", -1, false },
	{ true, { "+OK" }, "", -1, false },
	{ true, { "* OK", "nonsense" }, "sp1 CAPABILITY\r\n", -1, false },
};

static void
answers(void **state)
{
	(void)state;
	for (size_t i = 0; i < N(rows); i++) {
		struct offer_talk t = { .imap = rows[i].imap };
		uint8_t text[128];
		struct sink out = { text, 0, sizeof(text) };
		int over = 0;

		for (size_t k = 0; rows[i].lines[k] != NULL; k++) {
			struct line l = {
				.text = (const uint8_t *)rows[i].lines[k],
				.len = strlen(rows[i].lines[k]),
			};

			assert_int_equal(over, 0);
			over = offer_line(&t, &l, &out);
		}
		if (over != rows[i].over || t.found != rows[i].found ||
		    out.len != strlen(rows[i].said) ||
		    memcmp(text, rows[i].said, out.len) != 0)
			fail_msg("row %zu: %d %d %.*s", i, over, t.found,
				(int)out.len, (const char *)text);
	}
}

/* A list without an end is no answer. */
static void
flood(void **state)
{
	struct offer_talk t = { .imap = false };
	struct line l = { .text = (const uint8_t *)"+OK", .len = 3 };
	uint8_t text[64];
	struct sink out = { text, 0, sizeof(text) };
	int n = 0;

	(void)state;
	while (offer_line(&t, &l, &out) == 0 && n < 1000)
		n++;
	assert_int_equal(n, 200);
	assert_false(t.found);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers),
		cmocka_unit_test(flood),
	};

	return cmocka_run_group_tests_name("offer", tests, NULL, NULL);
}
