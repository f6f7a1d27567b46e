/*
 * table.c - what the line table and the detector cost
 *
 * For tables holding 10^3, 10^5 and 10^6 lines: nanoseconds of table_enter and
 * table_contact for a line drawn at random (a SYN of a known line), the same
 * in the three steps of a batch reader (32 packets), the cost of making a
 * record, memory, and the lines that found no place.
 *
 * Then an event of the detector with its look-up, all kinds that read replies
 * counting: of a line drawn at random each time (with 10^6 lines neither tag nor
 * record is in the cache), and four of one line in a row, as a relay has them from
 * a session: contact, HELO, sender, reply.
 *
 * One process, one core; the best and the median of five runs. Prints tables,
 * judges nothing.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "conf/conf.h"
#include "zombie/detect.h"

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

/* ---- the detector ---- */

static struct detect detector;

/* Kind and destination change with i; one event in four is bad. */
static void
event(struct table *t, struct line_record *r, size_t i)
{
	struct addr dst = { .family = AF_INET, .ip = { 203, 0, 113, 25 } };
	char name[] = "pc0.example";
	enum mark mark = (i >> 2) % 4 == 3 ? MARK_BAD : MARK_GOOD;
	enum level lifted = LEVEL_CLEAN;

	dst.ip[1] = (uint8_t)(i >> 2 & 7);
	if (r == NULL)
		return;
	switch (i % 4) {
	case 0:
		(void)detect_contact(&detector, t, r, 100, &dst, 1, true,
			&lifted);
		break;
	case 1:
		name[2] = (char)('0' + (i >> 2) % 2);
		lifted = detect_helo(&detector, t, r, name, sizeof(name) - 1,
			mark == MARK_BAD, &dst, 100);
		break;
	case 2:
		lifted = detect_event(&detector, t, r, EVIDENCE_NULL_SENDER,
			mark, &dst, 100, true);
		break;
	default:
		lifted = detect_event(&detector, t, r, EVIDENCE_REFUSAL, mark,
			&dst, 100, true);
	}
	sink += lifted;
}

/* Nanoseconds an event; so many of one line in a row. */
static double
events(struct table *t, size_t in_a_row)
{
	double start = now_ns();

	for (size_t i = 0; i < PACKETS; i++)
		event(t, table_enter(t, &keys[i / in_a_row], 100), i);
	return (now_ns() - start) / PACKETS;
}

static void
bench_detector(size_t n)
{
	struct table *t = table_new(ROOM);
	uint32_t *lines = malloc(n * sizeof(*lines));
	double random[RUNS], session[RUNS];
	struct line_key k;

	if (t == NULL || lines == NULL)
		exit(1);
	for (size_t i = 0; i < n; i++) {
		lines[i] = rnd();
		key_of(&k, lines[i]);
		table_enter(t, &k, 100);
	}
	for (unsigned i = 0; i < RUNS; i++) {
		draw(lines, n);
		random[i] = events(t, 1);
		session[i] = events(t, 4);
	}
	qsort(random, RUNS, sizeof(random[0]), by_size);
	qsort(session, RUNS, sizeof(session[0]), by_size);
	printf("%9zu %9.0f %9.0f %9.0f %9.0f %9s\n", n, random[0],
		random[RUNS / 2], session[0], session[RUNS / 2],
		n <= 1000 ? "150" : n < ROOM ? "" : "400");
	free(lines);
	table_free(&t);
}

static void
load_detector(void)
{
	static const char *const on[] = { "unknown_user.count=count",
		"refusal.count=count" };
	struct zombie_conf z;

	if (conf_zombie(&z, on, 2, stderr) != 0)
		exit(1);
	detect_load(&detector, &z);
}

int
main(void)
{
	printf("%9s %9s %9s %9s %9s %9s %9s %9s %9s\n", "lines", "make ns",
		"best ns", "median", "batch", "median", "resident", "lost", "MB");
	bench(1000);
	bench(100000);
	bench(1000000);
	load_detector();
	printf("\n%9s %9s %9s %9s %9s %9s\n", "lines", "event ns", "median",
		"session", "median", "wanted");
	bench_detector(1000);
	bench_detector(100000);
	bench_detector(1000000);
	return 0;
}
