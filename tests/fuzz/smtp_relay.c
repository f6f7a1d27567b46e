/*
 * smtp_relay.c - fuzz target: a dialogue that only passes
 *
 * Records as tests/drive.h reads them, played twice: as they are cut, and an
 * octet at a time. Every octet passes unchanged, and where a read ends changes
 * nothing of what was seen.
 */
#include <stdint.h>

#include "tests/drive.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
play(struct drive *d, const struct context *x, const uint8_t *p, size_t n,
	size_t step)
{
	drive_open(d);
	smtp_relay_init(&d->m, x);
	drive_greet(d);
	drive_upstream(d);
	while (n > 0) {
		enum side from = *p & 0x80 ? SERVER : CLIENT;
		size_t len = *p & 0x7f;

		p++;
		n--;
		len = len < n ? len : n;
		drive_send(d, from, p, len, step);
		p += len;
		n -= len;
	}
}

static void
check_witness(const struct witness *a, const struct witness *b)
{
	DRIVE_CHECK(a->habits == b->habits);
	DRIVE_CHECK(a->n_events == b->n_events);
	DRIVE_CHECK(memcmp(a->events, b->events, a->n_events) == 0);
	DRIVE_CHECK(memcmp(a->good, b->good, sizeof(a->good)) == 0);
	DRIVE_CHECK(memcmp(a->bad, b->bad, sizeof(a->bad)) == 0);
	DRIVE_CHECK(a->domains == b->domains);
	DRIVE_CHECK(a->dialect == b->dialect);
	DRIVE_CHECK(a->token == b->token);
}

static void
check_notes(const struct notes *a, const struct notes *b)
{
	check_witness(&a->witness, &b->witness);
	DRIVE_CHECK(a->helo_len == b->helo_len);
	DRIVE_CHECK(a->stage == b->stage);
	DRIVE_CHECK(a->code == b->code);
	DRIVE_CHECK(a->rcpts == b->rcpts);
	DRIVE_CHECK(a->messages == b->messages);
	DRIVE_CHECK(memcmp(a->esc, b->esc, sizeof(a->esc)) == 0);
	DRIVE_CHECK(memcmp(a->helo, b->helo, sizeof(a->helo)) == 0);
	DRIVE_CHECK(memcmp(a->detail, b->detail, sizeof(a->detail)) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct context x = { .gateway = "gw1", .id = "ID0" };
	struct drive a, b;

	play(&a, &x, data, size, 0);
	play(&b, &x, data, size, 1);
	for (int side = 0; side < 2; side++) {
		DRIVE_CHECK(a.out[!side].len == a.in[side].len);
		DRIVE_CHECK(a.in[side].len == 0 || memcmp(a.out[!side].p,
			a.in[side].p, a.in[side].len) == 0);
	}
	DRIVE_CHECK(a.m.u.watch.opaque == b.m.u.watch.opaque);
	DRIVE_CHECK(a.m.u.watch.n_expected == b.m.u.watch.n_expected);
	check_notes(&a.m.notes, &b.m.notes);
	drive_close(&a);
	drive_close(&b);
	return 0;
}
