/*
 * adaptive.c - which lines never get as far as RCPT
 *
 * Does: a set of lines with expiry, in memory that all relays share. Buckets
 * of WAYS words; a word is the line's 32-bit tag above the 32-bit second at
 * which it expires, written with one atomic store. Does not: lock, allocate
 * after the start, or promise to remember: a full bucket loses its oldest
 * mark, and that line's next session reaches RCPT instead of EHLO.
 *
 * Made by parent.c, used by the sessions of every relay. A relay may be killed
 * between any two instructions: there is no state that spans two words. Lines
 * choose their addresses (a /48 has many), so the hash is keyed; the key stays
 * in private memory, inherited by fork. A taken-over relay can mark and clear
 * lines, which only moves the stage of a refusal.
 */
#include "proxyd/adaptive.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#define WAYS 8			/* one cache line */
#define BUCKETS 16384		/* 131,072 lines in 1 MiB; a power of two */
#define BYTES (BUCKETS * WAYS * sizeof(uint64_t))

struct adaptive {
	_Atomic uint64_t *word;
	uint64_t key[2];
};

struct adaptive *
adaptive_new(void)
{
	struct adaptive *a = calloc(1, sizeof(*a));
	void *mem;

	if (a == NULL)
		return NULL;
	mem = mmap(NULL, BYTES, PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (mem == MAP_FAILED)
		goto fail;
	a->word = mem;
	if (getrandom(a->key, sizeof(a->key), 0) != sizeof(a->key))
		goto fail_map;
	return a;
fail_map:
	munmap(mem, BYTES);
fail:
	free(a);
	return NULL;
}

void
adaptive_free(struct adaptive **a)
{
	if (*a == NULL)
		return;
	munmap((void *)(*a)->word, BYTES);
	free(*a);
	*a = NULL;
}

static inline uint64_t
rotl(uint64_t x, int n)
{
	return x << n | x >> (64 - n);
}

static inline void
sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[1] = rotl(v[1], 13) ^ v[0];
	v[0] = rotl(v[0], 32);
	v[2] += v[3];
	v[3] = rotl(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = rotl(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = rotl(v[1], 17) ^ v[2];
	v[2] = rotl(v[2], 32);
}

/* SipHash-1-3 over the key: two words. */
static uint64_t
hash(const struct adaptive *a, const struct line_key *line)
{
	uint64_t v[4] = {
		a->key[0] ^ 0x736f6d6570736575, a->key[1] ^ 0x646f72616e646f6d,
		a->key[0] ^ 0x6c7967656e657261, a->key[1] ^ 0x7465646279746573,
	};
	uint64_t m[2] = { 0 };

	memcpy(m, line, sizeof(*line));
	m[1] |= (uint64_t)sizeof(*line) << 56;
	for (int i = 0; i < 2; i++) {
		v[3] ^= m[i];
		sip_round(v);
		v[0] ^= m[i];
	}
	v[2] ^= 0xff;
	for (int i = 0; i < 3; i++)
		sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

void
adaptive_mark(struct adaptive *a, const struct line_key *line, uint32_t now)
{
	uint64_t h = hash(a, line);
	uint32_t tag = (uint32_t)(h >> 32);
	_Atomic uint64_t *bucket = a->word + (h & (BUCKETS - 1)) * WAYS;
	uint32_t oldest = UINT32_MAX;
	int victim = 0;

	for (int i = 0; i < WAYS; i++) {
		uint64_t w = atomic_load_explicit(&bucket[i],
			memory_order_relaxed);

		if (w != 0 && w >> 32 == tag) {
			victim = i;
			break;
		}
		if ((uint32_t)w < oldest) {
			oldest = (uint32_t)w;
			victim = i;
		}
	}
	atomic_store_explicit(&bucket[victim],
		(uint64_t)tag << 32 | (now + ADAPTIVE_SECONDS),
		memory_order_relaxed);
}

bool
adaptive_marked(const struct adaptive *a, const struct line_key *line, uint32_t now)
{
	uint64_t h = hash(a, line);
	uint32_t tag = (uint32_t)(h >> 32);
	_Atomic uint64_t *bucket = a->word + (h & (BUCKETS - 1)) * WAYS;

	for (int i = 0; i < WAYS; i++) {
		uint64_t w = atomic_load_explicit(&bucket[i],
			memory_order_relaxed);

		if (w >> 32 == tag && (uint32_t)w > now)
			return true;
	}
	return false;
}
