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
	DRIVE_CHECK(memcmp(&a.m.notes, &b.m.notes, sizeof(a.m.notes)) == 0);
	drive_close(&a);
	drive_close(&b);
	return 0;
}
