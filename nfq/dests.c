/*
 * dests.c - where the lines of a class in `watch' go
 *
 * Does: count first packets by destination in bounded shared memory, and read
 * them for `sallyport plan'. Does not: know packets, verdicts or the log.
 *
 * dests_count() is on the path of every first packet of a watched class: one
 * SipHash, one cache line to look for, no loop over more than eight entries.
 * Whoever sends SYNs chooses addresses, but not the set they fall into, and can
 * push small destinations out, which shows as error.
 *
 * Must hold: nfq may be killed anywhere. Single-word atomics only; an entry's
 * tag is the hash of its address, 0 while it is being replaced, and a reader
 * believes an entry only when tag and address agree.
 */
#include "nfq/dests.h"

#include <math.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>

#include "zombie/siphash.h"

#define WAYS 8
#define SETS (DESTS_EACH / WAYS)
#define LINE_BITS 128

struct entry {			/* one cache line */
	_Alignas(64) _Atomic uint64_t tag;
	_Atomic uint64_t ip[2];		/* as IPv6, IPv4 mapped */
	_Atomic uint64_t attempts, error;
	_Atomic uint64_t lines[LINE_BITS / 64];
};
_Static_assert(sizeof(struct entry) == 64, "an entry is a cache line");

struct place {
	_Atomic uint64_t class;		/* hash of its name, 0: free */
	_Atomic uint64_t attempts;
	struct entry entry[SETS][WAYS];
};

struct dests {
	uint64_t key[2];
	int64_t since;
	struct place place[DESTS_CLASSES];
};

#define GET(x) atomic_load_explicit(&(x), memory_order_relaxed)
#define SET(x, to) atomic_store_explicit(&(x), (to), memory_order_relaxed)

struct dests *
dests_new(void)
{
	struct dests *d = mmap(NULL, sizeof(*d), PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (d == MAP_FAILED)
		return NULL;
	if (getrandom(d->key, sizeof(d->key), 0) != sizeof(d->key)) {
		munmap(d, sizeof(*d));
		return NULL;
	}
	d->since = time(NULL);
	return d;
}

int64_t
dests_since(const struct dests *d)
{
	return d->since;
}

static uint64_t
hash(const struct dests *d, const void *p, size_t n)
{
	uint64_t h = siphash(d->key, p, n);

	return h != 0 ? h : 1;
}

static int
find_place(const struct dests *d, uint64_t class)
{
	for (int i = 0; i < DESTS_CLASSES; i++)
		if (GET(d->place[i].class) == class)
			return i;
	return -1;
}

int
dests_place(struct dests *d, const char *class)
{
	const uint64_t name = hash(d, class, strlen(class));
	int i = find_place(d, name);

	if (i == -1 && (i = find_place(d, 0)) != -1)
		SET(d->place[i].class, name);
	return i;
}

static void
to_words(const struct addr *a, uint64_t ip[2])
{
	uint8_t octets[16] = { [10] = 0xff, [11] = 0xff };
	struct addr v;

	addr_nat64(&v, a);
	if (v.family == AF_INET)
		memcpy(octets + 12, v.ip, 4);
	else
		memcpy(octets, v.ip, 16);
	memcpy(ip, octets, 16);
}

static void
from_words(const uint64_t ip[2], struct addr *a)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	uint8_t octets[16];

	memcpy(octets, ip, 16);
	memset(a, 0, sizeof(*a));
	if (memcmp(octets, mapped, 12) == 0) {
		a->family = AF_INET;
		memcpy(a->ip, octets + 12, 4);
	} else {
		a->family = AF_INET6;
		memcpy(a->ip, octets, 16);
	}
}

/* The entry of a destination, made in the place of the smallest if need be. */
static struct entry *
enter(struct entry set[WAYS], uint64_t tag, const uint64_t ip[2])
{
	struct entry *least = &set[0];

	for (unsigned i = 0; i < WAYS; i++) {
		if (GET(set[i].tag) == tag)
			return &set[i];
		if (GET(set[i].attempts) < GET(least->attempts))
			least = &set[i];
	}
	atomic_store(&least->tag, 0);
	SET(least->error, GET(least->attempts));
	for (unsigned i = 0; i < LINE_BITS / 64; i++)
		SET(least->lines[i], 0);
	SET(least->ip[0], ip[0]);
	SET(least->ip[1], ip[1]);
	atomic_store(&least->tag, tag);
	return least;
}

void
dests_count(struct dests *d, int place, const struct addr *to, uint32_t line)
{
	struct place *p = &d->place[place];
	uint64_t ip[2], tag;
	struct entry *e;

	to_words(to, ip);
	tag = hash(d, ip, sizeof(ip));
	e = enter(p->entry[tag % SETS], tag, ip);
	line %= LINE_BITS;
	SET(e->lines[line / 64], GET(e->lines[line / 64]) |
		UINT64_C(1) << line % 64);
	SET(e->attempts, GET(e->attempts) + 1);
	SET(p->attempts, GET(p->attempts) + 1);
}

/* n = -m ln(Z/m), Z: bits still 0 (Whang, Vander-Zanden and Taylor, 1990). */
static double
lines_of(const struct entry *e)
{
	int zero = LINE_BITS;

	for (unsigned i = 0; i < LINE_BITS / 64; i++)
		zero -= __builtin_popcountll(GET(e->lines[i]));
	return LINE_BITS * log((double)LINE_BITS / (zero > 0 ? zero : 1));
}

static bool
read_entry(const struct dests *d, const struct entry *e, struct dest *out)
{
	uint64_t ip[2] = { GET(e->ip[0]), GET(e->ip[1]) };

	out->attempts = GET(e->attempts);
	out->error = GET(e->error);
	out->lines = lines_of(e);
	from_words(ip, &out->addr);
	return atomic_load(&e->tag) == hash(d, ip, sizeof(ip));
}

static int
by_attempts(const void *a, const void *b)
{
	uint64_t x = ((const struct dest *)a)->attempts;
	uint64_t y = ((const struct dest *)b)->attempts;

	return x < y ? 1 : x > y ? -1 : 0;
}

size_t
dests_list(const struct dests *d, const char *class,
	struct dest out[DESTS_EACH], uint64_t *all_r)
{
	int i = find_place(d, hash(d, class, strlen(class)));
	const struct place *p = &d->place[i == -1 ? 0 : i];
	size_t n = 0;

	*all_r = i == -1 ? 0 : GET(p->attempts);
	for (unsigned e = 0; i != -1 && e < DESTS_EACH; e++)
		if (read_entry(d, &p->entry[e / WAYS][e % WAYS], &out[n]))
			n++;
	qsort(out, n, sizeof(*out), by_attempts);
	return n;
}
