/*
 * history.c - unit tests of zombie/history.c
 *
 * What a customer did is with the customer after a lease change, the address's
 * next owner starts clean; the sum of all records is what all writers counted,
 * while other processes count and are killed.
 */
#include "zombie/history.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

static struct line_key
line(uint8_t n)
{
	struct line_key k = { .family = AF_INET, .len = 32,
		.ip = { 198, 18, 3, n } };

	return k;
}

static void
dial(struct table *t, const struct line_key *k, unsigned first, unsigned count)
{
	struct line_record *r = table_enter(t, k, table_now(t));

	assert_non_null(r);
	for (unsigned i = first; i < first + count; i++) {
		struct addr dst = { .family = AF_INET,
			.ip = { 203, (uint8_t)(i >> 8), (uint8_t)i, 9 } };

		(void)table_contact(t, r, table_now(t), &dst, 1 + i, true);
	}
}

/* Does the record say that this destination was seen? */
static bool
knows(struct table *t, const struct line_key *k, unsigned i)
{
	struct addr dst = { .family = AF_INET,
		.ip = { 203, (uint8_t)(i >> 8), (uint8_t)i, 9 } };

	return table_contact(t, table_enter(t, k, table_now(t)), table_now(t),
		&dst, 0, true) == 0;
}

static void
follows_the_customer(void **state)
{
	struct table *t = table_new(1000);
	struct line_key a = line(1), b = line(2);
	uint32_t anna = history_customer(t, "anna");
	struct line_history h, none;
	struct line_record *r;
	double rate;

	(void)state;
	dial(t, &a, 0, 40);
	r = table_find(t, &a);
	atomic_store(&r->score[EVIDENCE_CONTACT], 1800);
	atomic_store(&r->bad[EVIDENCE_CONTACT], 40);
	atomic_store(&r->helo, 0x5a);
	atomic_store(&r->outcomes, 0x0305);
	atomic_store(&r->hits, 2);
	atomic_store(&r->bad_hour, 1);
	assert_int_equal(table_set_level(t, r, &a, 2), 0);
	rate = table_rate(r, table_now(t));
	history_take(t, &a, 0, &h);
	assert_false(history_is_empty(&h));
	assert_true(history_valid(&h));
	/* the next owner */
	assert_int_equal(atomic_load(&r->attempts), 0);
	assert_int_equal(atomic_load(&r->score[EVIDENCE_CONTACT]), 0);
	assert_int_equal(table_level(t, r), 0);
	assert_true(table_destinations(r) == 0);
	assert_false(knows(t, &a, 3));
	/* the customer, elsewhere */
	assert_int_equal(history_give(t, &b, anna, &h), 0);
	r = table_find(t, &b);
	assert_int_equal(atomic_load(&r->attempts), 40);
	assert_int_equal(atomic_load(&r->sessions), 40);
	assert_int_equal(atomic_load(&r->score[EVIDENCE_CONTACT]), 1800);
	assert_int_equal(atomic_load(&r->bad[EVIDENCE_CONTACT]), 40);
	assert_int_equal(atomic_load(&r->helo), 0x5a);
	assert_int_equal(atomic_load(&r->outcomes), 0x0305);
	assert_int_equal(atomic_load(&r->hits), 2);
	assert_int_equal(atomic_load(&r->bad_hour), 1);
	assert_int_equal(atomic_load(&r->customer), anna);
	assert_int_equal(table_level(t, r), 2 | 1 << LEVEL_HOUR_SHIFT);
	assert_true(table_rate(r, table_now(t)) > rate * .99);
	/* those and no others; a single other one may share a bit with them */
	assert_in_range(table_ones(r), 1, 40);
	assert_true(knows(t, &b, 3) && knows(t, &b, 39));
	/* a line nobody has heard of has nothing to give */
	a = line(9);
	history_take(t, &a, 0, &none);
	assert_true(history_is_empty(&none));
	assert_null(table_find(t, &a));
	table_free(&t);
}

/* To a line that has a history of its own: sums, unions, the greater one. */
static void
joins(void **state)
{
	struct table *t = table_new(1000);
	struct line_key a = line(1), b = line(2);
	struct line_history h;
	struct line_record *r;

	(void)state;
	dial(t, &a, 0, 20);
	dial(t, &b, 10, 30);
	r = table_find(t, &b);
	atomic_store(&r->score[EVIDENCE_HELO], 900);
	atomic_store(&r->bad[EVIDENCE_HELO], UINT16_MAX - 1);
	assert_int_equal(table_set_level(t, r, &b, 1 | LEVEL_ACTION_RESET), 0);
	r = table_find(t, &a);
	atomic_store(&r->score[EVIDENCE_HELO], 400);
	atomic_store(&r->bad[EVIDENCE_HELO], 7);
	assert_int_equal(table_set_level(t, r, &a, 3), 0);
	history_take(t, &a, 0, &h);
	assert_int_equal(history_give(t, &b, 5, &h), 0);
	r = table_find(t, &b);
	assert_int_equal(atomic_load(&r->attempts), 50);
	assert_int_equal(atomic_load(&r->score[EVIDENCE_HELO]), 900);
	assert_int_equal(atomic_load(&r->bad[EVIDENCE_HELO]), UINT16_MAX);
	assert_int_equal(table_level(t, r), 3 | LEVEL_ACTION_RESET |
		1 << LEVEL_HOUR_SHIFT);
	assert_true(knows(t, &b, 0) && knows(t, &b, 39));
	table_free(&t);
}

/* Out of the ledger, after a restart: another secret made those bits. */
static void
another_table(void **state)
{
	struct table *t = table_new(1000), *u = table_new(1000);
	struct line_key a = line(1);
	struct line_history h;
	struct line_record *r;

	(void)state;
	dial(t, &a, 0, 40);
	history_take(t, &a, 0, &h);
	h.first -= 86400;
	h.last -= 7200;
	assert_int_equal(history_give(u, &a, 1, &h), 0);
	r = table_find(u, &a);
	assert_int_equal(atomic_load(&r->attempts), 40);
	assert_true(table_destinations(r) == 0);
	assert_true(atomic_load(&r->rate) < h.rate / 3);
	assert_int_equal(atomic_load(&r->helo), 0);
	assert_int_equal(atomic_load(&r->outcomes), 0);
	assert_int_equal(atomic_load(&r->hits), 0);
	h.level = 3 | LEVEL_PINNED | 7u << LEVEL_HOUR_SHIFT;
	assert_true(history_valid(&h));
	h.level = 4;	/* there is none */
	assert_false(history_valid(&h));
	h.level = 0;
	h.version++;
	assert_false(history_valid(&h));
	table_free(&t);
	table_free(&u);
}

enum { WRITERS = 3, MOVES = 20000, LINES = 4 };

static void
count_for_ever(struct table *t, _Atomic uint64_t *counted)
{
	for (uint64_t n = 0;; n++) {
		struct line_key k = line((uint8_t)(n % LINES));
		struct line_record *r = table_enter(t, &k, table_now(t));

		(void)table_attempt(r, table_now(t), (uint32_t)n * 2 + 3);
		atomic_fetch_add(counted, 1);
	}
}

/* Others count while control moves, and die anywhere: each attempt or
 * retransmission is in one record, or the one that the killed were at. */
static void
writers_and_kills(void **state)
{
	struct table *t = table_new(1000);
	_Atomic uint64_t *counted = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t pid[WRITERS];
	uint64_t sum = 0;

	(void)state;
	assert_ptr_not_equal(counted, MAP_FAILED);
	/* none of a 16-bit counter's stops in the way: attempts only */
	for (int i = 0; i < WRITERS; i++) {
		pid[i] = fork();
		if (pid[i] == 0)
			count_for_ever(t, &counted[i]);
		assert_true(pid[i] > 0);
	}
	for (unsigned n = 0; n < MOVES; n++) {
		struct line_key from = line((uint8_t)(n % LINES));
		struct line_key to = line((uint8_t)((n + 1) % LINES));
		struct line_history h;

		history_take(t, &from, 1, &h);
		sum += h.retransmissions;
		h.retransmissions = 0;
		assert_int_equal(history_give(t, &to, 2, &h), 0);
	}
	for (int i = 0; i < WRITERS; i++) {
		kill(pid[i], SIGKILL);
		assert_int_equal(waitpid(pid[i], NULL, 0), pid[i]);
		sum -= atomic_load(&counted[i]);
	}
	for (unsigned i = 0; i < LINES; i++) {
		struct line_key k = line((uint8_t)i);
		struct line_history h;

		history_take(t, &k, 0, &h);
		assert_int_not_equal(h.retransmissions, UINT16_MAX);
		sum += h.attempts + h.retransmissions;
	}
	/* each writer died at most once between two counts */
	assert_in_range((int64_t)sum + WRITERS, 0, 2 * WRITERS);
	munmap((void *)counted, 4096);
	table_free(&t);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(follows_the_customer),
		cmocka_unit_test(joins),
		cmocka_unit_test(another_table),
		cmocka_unit_test(writers_and_kills),
	};

	return cmocka_run_group_tests_name("history", tests, NULL, NULL);
}
