/*
 * table.c - what the line table costs for one first packet
 *
 * For tables holding 10^3, 10^5 and 10^6 lines: nanoseconds of table_enter and
 * table_contact for a line drawn at random (a SYN of a known line), the same
 * in the three steps of a batch reader (32 packets), the cost of making a
 * record, memory, and the lines that found no place. One process, one core; the
 * best and the median of five runs. Prints a table, judges nothing.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "zombie/table.h"

enum { RUNS = 5, BATCH = 32, PACKETS = 1 << 20, ROOM = 1000000 };

static uint64_t seed = 0x5a11;

static uint32_t
rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)(seed * 0x2545f4914f6cdd1du >> 32);
}

static double
now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static void
key_of(struct line_key *k, uint32_t n)
{
	memset(k, 0, sizeof(*k));
	k->family = AF_INET;
	k->len = 32;
	memcpy(k->ip, &n, sizeof(n));
}

static int
by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static volatile unsigned sink;

static struct line_key keys[PACKETS];

static void
draw(const uint32_t *lines, size_t n)
{
	for (size_t i = 0; i < PACKETS; i++)
		key_of(&keys[i], lines[rnd() % n]);
}

static void
packet(struct table *t, struct line_record *r, size_t i)
{
	struct addr dst = { .family = AF_INET, .ip = { 203, 0, 113, 25 } };

	dst.ip[1] = (uint8_t)(i & 7);
	if (r != NULL)
		sink += table_contact(t, r, 100, &dst, (uint32_t)i, false) == 1;
}

/* Nanoseconds a packet. */
static double
one_by_one(struct table *t)
{
	double start = now_ns();

	for (size_t i = 0; i < PACKETS; i++)
		packet(t, table_enter(t, &keys[i], 100), i);
	return (now_ns() - start) / PACKETS;
}

static double
batched(struct table *t)
{
	struct table_aim aim[BATCH];
	double start = now_ns();

	for (size_t i = 0; i < PACKETS; i += BATCH) {
		for (size_t j = 0; j < BATCH; j++)
			table_aim(t, &keys[i + j], &aim[j]);
		for (size_t j = 0; j < BATCH; j++)
			table_near(t, &aim[j]);
		for (size_t j = 0; j < BATCH; j++)
			packet(t, table_enter_at(t, &aim[j], &keys[i + j], 100),
				i + j);
	}
	return (now_ns() - start) / PACKETS;
}

static void
bench(size_t n)
{
	struct table *t = table_new(ROOM);
	uint32_t *lines = malloc(n * sizeof(*lines));
	double plain[RUNS], batch[RUNS], start, make;
	struct table_stats s;
	struct line_key k;

	if (t == NULL || lines == NULL)
		exit(1);
	for (size_t i = 0; i < n; i++)
		lines[i] = rnd();
	start = now_ns();
	for (size_t i = 0; i < n; i++) {
		key_of(&k, lines[i]);
		table_enter(t, &k, 100);
	}
	make = (now_ns() - start) / (double)n;
	table_stats(t, &s);
	for (unsigned i = 0; i < RUNS; i++) {
		draw(lines, n);
		plain[i] = one_by_one(t);
		draw(lines, n);
		batch[i] = batched(t);
	}
	qsort(plain, RUNS, sizeof(plain[0]), by_size);
	qsort(batch, RUNS, sizeof(batch[0]), by_size);
	printf("%9zu %9.0f %9.0f %9.0f %9.0f %9.0f %9zu %9llu %9.1f\n", n, make,
		plain[0], plain[RUNS / 2], batch[0], batch[RUNS / 2], s.lines,
		(unsigned long long)s.lost, (double)s.octets / 1e6);
	free(lines);
	table_free(&t);
}

int
main(void)
{
	printf("%9s %9s %9s %9s %9s %9s %9s %9s %9s\n", "lines", "make ns",
		"best ns", "median", "batch", "median", "resident", "lost", "MB");
	bench(1000);
	bench(100000);
	bench(1000000);
	return 0;
}
