/*
 * record.c - count first packets in a line's record
 *
 * Attempts, retransmissions, decayed rate and first contact: integer
 * arithmetic on one record, a few single-word atomics, no lock, no clock. The
 * verdict on what was counted is not here (detect.c).
 *
 * Called by nfq for each SYN and by the relays for each accepted connection;
 * the two functions that return doubles are for people (why, plan, reports).
 *
 * A line chooses what it dials, when, and how often; the bits of the map are
 * chosen by a keyed hash, so it cannot aim at bits. A neighbour can forge what
 * is only heard, therefore heard packets leave 3/8 of a map empty: however many
 * he sends, the rule of 3/4 needs handshakes of the line itself.
 */
#include "zombie/table.h"

#include <math.h>
#include <string.h>

#include "zombie/region.h"
#include "zombie/siphash.h"

#define MAP_WORDS (MAP_BITS / 64)
#define MAP_FULL (MAP_BITS * 3 / 4)
#define MAP_HEARD (MAP_BITS * 5 / 8)
#define RATE_ONE 4096u
#define HALF_LIFE 3600u

uint32_t
table_hash(const struct table *t, const void *p, size_t n)
{
	return (uint32_t)siphash(t->secret, p, n);
}

void
table_count(_Atomic uint16_t *counter)
{
	uint16_t n = atomic_load_explicit(counter, memory_order_relaxed);

	while (n < UINT16_MAX && !atomic_compare_exchange_weak_explicit(counter,
		    &n, (uint16_t)(n + 1), memory_order_relaxed,
		    memory_order_relaxed))
		;
}

static void
count32(_Atomic uint32_t *counter)
{
	uint32_t n = atomic_load_explicit(counter, memory_order_relaxed);

	while (n < UINT32_MAX && !atomic_compare_exchange_weak_explicit(counter,
		    &n, n + 1, memory_order_relaxed, memory_order_relaxed))
		;
}

/* 2^(-2^i/3600) in 1/2^32, for the bits of a time below one half-life. */
static const uint32_t decay_bit[12] = {
	4294140419u, 4293313701u, 4291660742u, 4288356734u, 4281756347u,
	4268586033u, 4242366814u, 4190410531u, 4088399098u, 3891765881u,
	3526416065u, 2895391143u
};

uint32_t
record_decayed(uint32_t rate, uint32_t seconds)
{
	uint32_t halves = seconds / HALF_LIFE, rest = seconds % HALF_LIFE;
	uint64_t r = rate;

	if (halves > 31)
		return 0;
	for (unsigned bit = 0; rest >> bit != 0; bit++)
		if (rest >> bit & 1)
			r = (r * decay_bit[bit] + 0x80000000u) >> 32;
	return (uint32_t)(r >> halves);
}

/*
 * The line was heard of now: decay the rate over the time since last, and add.
 * Each second between two values of last is taken by the one process that moved
 * it; one that is killed right after leaves the rate undecayed by that time.
 */
static void
touch(struct line_record *r, uint32_t now, uint32_t add)
{
	uint32_t last = atomic_load_explicit(&r->last, memory_order_relaxed);
	uint32_t seconds = 0, old, new;

	while ((int32_t)(now - last) > 0)
		if (atomic_compare_exchange_weak_explicit(&r->last, &last, now,
			    memory_order_relaxed, memory_order_relaxed)) {
			seconds = now - last;
			break;
		}
	if (seconds == 0 && add == 0)
		return;
	old = atomic_load_explicit(&r->rate, memory_order_relaxed);
	do {
		new = record_decayed(old, seconds);
		new = new > UINT32_MAX - add ? UINT32_MAX : new + add;
	} while (!atomic_compare_exchange_weak_explicit(&r->rate, &old, new,
		    memory_order_relaxed, memory_order_relaxed));
}

/* Is this tuple one of the latest two? If not, it becomes the latest. */
static bool
seen_lately(struct line_record *r, uint32_t tuple)
{
	/* 0 is the empty place */
	uint16_t h = (uint16_t)(tuple ^ tuple >> 16);
	uint16_t newest;

	h = h != 0 ? h : 1;
	newest = atomic_load_explicit(&r->recent[0], memory_order_relaxed);
	if (newest == h || atomic_load_explicit(&r->recent[1],
		    memory_order_relaxed) == h)
		return true;
	atomic_store_explicit(&r->recent[1], newest, memory_order_relaxed);
	atomic_store_explicit(&r->recent[0], h, memory_order_relaxed);
	return false;
}

int
table_attempt(struct line_record *r, uint32_t now, uint32_t tuple)
{
	if (seen_lately(r, tuple)) {
		table_count(&r->retransmissions);
		touch(r, now, 0);
		return -1;
	}
	count32(&r->attempts);
	touch(r, now, RATE_ONE);
	return 0;
}

static void
map_clear(_Atomic uint64_t map[MAP_WORDS])
{
	for (unsigned i = 0; i < MAP_WORDS; i++)
		atomic_store_explicit(&map[i], 0, memory_order_relaxed);
}

/* Bits set in a map, without the instruction that not every machine has. */
static unsigned
map_ones(const _Atomic uint64_t map[MAP_WORDS])
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < MAP_WORDS; i++) {
		uint64_t x = atomic_load_explicit(&map[i], memory_order_relaxed);

		x -= x >> 1 & 0x5555555555555555u;
		x = (x & 0x3333333333333333u) + (x >> 2 & 0x3333333333333333u);
		sum += (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fu;
	}
	/* four words leave at most 32 in an octet, 256 in all: two octets */
	sum = (sum & 0x00ff00ff00ff00ffu) + (sum >> 8 & 0x00ff00ff00ff00ffu);
	return (unsigned)(sum * 0x0001000100010001u >> 48);
}

/*
 * Bring the maps to the window of now; its parity. Whoever moves the number
 * clears what is too old. A process with an older clock works in the older map.
 */
static unsigned
window_turn(struct line_record *r, uint32_t now)
{
	uint16_t current = (uint16_t)(now / MAP_WINDOW);
	uint16_t old = atomic_load_explicit(&r->window, memory_order_relaxed);

	while ((int16_t)(current - old) > 0)
		if (atomic_compare_exchange_weak_explicit(&r->window, &old,
			    current, memory_order_relaxed, memory_order_relaxed)) {
			map_clear(r->map[current & 1]);
			if ((uint16_t)(current - old) > 1)
				map_clear(r->map[(current & 1) ^ 1]);
			break;
		}
	return current & 1;
}

void
record_advance(struct line_record *r, uint32_t now)
{
	touch(r, now, 0);
	(void)window_turn(r, now);
}

unsigned
table_network(const struct table *t, const struct addr *dst)
{
	uint8_t net[7] = { 0 };
	struct addr a;

	addr_nat64(&a, dst);
	net[0] = a.family;
	memcpy(net + 1, a.ip, a.family == AF_INET ? 3 : 6);
	return table_hash(t, net, sizeof(net)) % MAP_BITS;
}

static bool
map_has(const _Atomic uint64_t map[MAP_WORDS], unsigned bit)
{
	return atomic_load_explicit(&map[bit / 64], memory_order_relaxed) >>
		bit % 64 & 1;
}

/*
 * First contact. A map over 3/4 full says "seen" to nearly everything, and a
 * fast bot would look calmer the more it sends: the current one then says
 * "new" to everything, the previous one is not asked.
 */
static int
contact(struct line_record *r, uint32_t now, unsigned bit, bool is_voice)
{
	unsigned parity = window_turn(r, now);
	_Atomic uint64_t *map = r->map[parity];
	const _Atomic uint64_t *before = r->map[parity ^ 1];
	unsigned ones = map_ones(map);
	bool seen = map_has(map, bit);

	if (ones > (is_voice ? MAP_FULL : MAP_HEARD))
		return 1;
	if (!seen)
		atomic_fetch_or_explicit(&map[bit / 64], (uint64_t)1 << bit % 64,
			memory_order_relaxed);
	if (!seen && map_has(before, bit))
		seen = map_ones(before) <= MAP_FULL;
	return seen ? 0 : 1;
}

int
table_contact(struct table *t, struct line_record *r, uint32_t now,
	const struct addr *dst, uint32_t tuple, bool is_voice)
{
	if (!is_voice) {
		if (table_attempt(r, now, tuple) < 0)
			return -1;
	} else {
		count32(&r->sessions);
		if (tuple != 0)
			count32(&r->attempts);
		touch(r, now, tuple != 0 ? RATE_ONE : 0);
	}
	return contact(r, now, table_network(t, dst), is_voice);
}

unsigned
table_ones(const struct line_record *r)
{
	unsigned window = atomic_load_explicit(&r->window, memory_order_relaxed);

	return map_ones(r->map[window & 1]);
}

unsigned
table_spread(const struct line_record *r)
{
	_Atomic uint64_t both[MAP_WORDS];

	for (unsigned i = 0; i < MAP_WORDS; i++)
		atomic_init(&both[i], atomic_load_explicit(&r->map[0][i],
			memory_order_relaxed) | atomic_load_explicit(
			&r->map[1][i], memory_order_relaxed));
	return map_ones(both);
}

uint32_t
table_heard(const struct line_record *r)
{
	uint32_t attempts = atomic_load_explicit(&r->attempts,
		memory_order_relaxed);
	uint32_t sessions = atomic_load_explicit(&r->sessions,
		memory_order_relaxed);

	return attempts > sessions ? attempts - sessions : 0;
}

static double
networks(unsigned ones)
{
	unsigned empty = MAP_BITS - ones;

	return MAP_BITS * log((double)MAP_BITS / (empty > 0 ? empty : 1));
}

double
table_destinations(const struct line_record *r)
{
	return networks(table_ones(r));
}

double
table_destinations_in(const struct line_record *r, uint16_t window)
{
	uint16_t latest = atomic_load_explicit(&r->window, memory_order_relaxed);

	return (uint16_t)(latest - window) > 1 ? 0 :
		networks(map_ones(r->map[window & 1]));
}

double
table_rate(const struct line_record *r, uint32_t now)
{
	uint32_t last = atomic_load_explicit(&r->last, memory_order_relaxed);
	double rate = (double)atomic_load_explicit(&r->rate,
		memory_order_relaxed) / RATE_ONE;
	double hours = (int32_t)(now - last) > 0 ?
		(double)(now - last) / HALF_LIFE : 0;

	/* n attempts an hour keep the counter at n / ln 2 */
	return rate * exp2(-hours) * log(2.0);
}
