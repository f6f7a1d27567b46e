/*
 * tally.c - what a line has used of a quota, in all relays together
 *
 * Does: counts by line and kind in memory that all relays share. Buckets of
 * WAYS words; a word is a 32-bit tag of line and kind, the number of the window
 * (12 bits: it comes round after 42 days of quarter hours, when a word that
 * nobody took meanwhile would count again) and the count, changed by one
 * compare-and-swap. Does not: lock, allocate after the start, or decide what is
 * too much.
 *
 * Made by parent.c, used by the sessions of every relay. A relay may be killed
 * between any two instructions: there is no state that spans two words. Lines
 * choose their addresses, so the hash is keyed; the key stays in private memory,
 * inherited by fork. A taken-over relay can falsify counts: a line of its
 * choice is told to come later, or has no quota.
 */
#include "proxyd/tally.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "lib/shared.h"
#include "zombie/siphash.h"

#define WAYS 8				/* one cache line */
#define BUCKETS UINT64_C(16384)		/* 131,072 counts in 1 MiB */
#define BYTES (BUCKETS * WAYS * sizeof(uint64_t))
#define COUNT UINT32_C(0xfffff)
#define WINDOWS UINT32_C(0xfff)

struct tally {
	_Atomic uint64_t *word;
	uint64_t key[2];
};

struct tally *
tally_new(void)
{
	struct tally *t = calloc(1, sizeof(*t));

	if (t != NULL && (t->word = shared_new(BYTES, t->key)) == NULL) {
		free(t);
		return NULL;
	}
	return t;
}

void
tally_free(struct tally **t)
{
	if (*t == NULL)
		return;
	munmap((void *)(*t)->word, BYTES);
	free(*t);
	*t = NULL;
}

static uint64_t
hash(const struct tally *t, const struct line_key *line, enum tally_kind kind)
{
	uint8_t octets[1 + sizeof(*line)];

	octets[0] = (uint8_t)kind;
	memcpy(octets + 1, line, sizeof(*line));
	return siphash(t->key, octets, sizeof(octets));
}

static uint32_t
window_of(enum tally_kind kind, uint32_t now)
{
	return now / (kind == TALLY_GUESSES ? TALLY_GUESS_WINDOW :
		TALLY_HOUR) & WINDOWS;
}

/* What a word is worth in this window, of whichever kind it is: to displace
 * something costs least where this is 0. */
static uint32_t
worth(uint64_t word, uint32_t now)
{
	uint32_t window = (uint32_t)word >> 20;

	return window == window_of(TALLY_RCPTS, now) ||
		window == window_of(TALLY_GUESSES, now) ?
		(uint32_t)word & COUNT : 0;
}

/* The line's word of the bucket, else the one that is worth least. */
static unsigned
choose(const _Atomic uint64_t *bucket, uint32_t tag, uint32_t now)
{
	uint32_t least = UINT32_MAX;
	unsigned at = 0;

	for (unsigned i = 0; i < WAYS; i++) {
		uint64_t w = atomic_load(&bucket[i]);

		if (w != 0 && w >> 32 == tag)
			return i;
		if (worth(w, now) < least) {
			least = worth(w, now);
			at = i;
		}
	}
	return at;
}

unsigned
tally_add(struct tally *t, const struct line_key *line, enum tally_kind kind,
	uint32_t now, unsigned n)
{
	const uint64_t h = hash(t, line, kind);
	const uint32_t tag = (uint32_t)(h >> 32), window = window_of(kind, now);
	_Atomic uint64_t *bucket = t->word + (h & (BUCKETS - 1)) * WAYS;
	uint64_t old, new;
	uint32_t count;

	do {
		unsigned at = choose(bucket, tag, now);

		old = atomic_load(&bucket[at]);
		count = old >> 32 == tag && (uint32_t)old >> 20 == window ?
			(uint32_t)old & COUNT : 0;
		if (n == 0)
			return count;
		count = n < COUNT - count ? count + n : COUNT;
		new = (uint64_t)tag << 32 | window << 20 | count;
		if (atomic_compare_exchange_strong(&bucket[at], &old, new))
			return count;
	} while (true);
}
