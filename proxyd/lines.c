/*
 * lines.c - how many sessions a line has, in all relays together
 *
 * Does: an array of words in memory that all relays share. A word is the line's
 * 32-bit tag, the process that counts in it (its owner) and its count; a line's
 * words stand anywhere in a window of WINDOW, and their sum is its sessions.
 * Does not: lock, or allocate after the start.
 *
 * Made by parent.c, used by the sessions of every relay. Only its owner changes
 * a word, with one atomic operation, and only an empty one is ever taken; so a
 * relay may be killed between any two instructions, and what it counted goes
 * when the parent has seen it die (lines_release). Two lines share a count when
 * tag and place agree: once in 2^45 pairs. Lines choose their addresses, so the
 * hash is keyed, and the key stays in private memory, inherited by fork. A
 * taken-over relay can falsify counts, which only moves a limit.
 */
#include "proxyd/lines.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#include "zombie/siphash.h"

#define WORDS (UINT64_C(1) << 18)	/* 2 MiB; a quarter of a million lines */
#define WINDOW 32			/* four cache lines */
#define BYTES (WORDS * sizeof(uint64_t))
#define COUNT UINT64_C(0xffffff)

struct lines {
	_Atomic uint64_t *word;
	uint64_t key[2];
	uint8_t owner;
};

struct lines *
lines_new(void)
{
	struct lines *l = calloc(1, sizeof(*l));
	void *mem;

	if (l == NULL)
		return NULL;
	mem = mmap(NULL, BYTES, PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (mem == MAP_FAILED)
		goto fail;
	l->word = mem;
	if (getrandom(l->key, sizeof(l->key), 0) == sizeof(l->key))
		return l;
	munmap(mem, BYTES);
fail:
	free(l);
	return NULL;
}

void
lines_free(struct lines **l)
{
	if (*l == NULL)
		return;
	munmap((void *)(*l)->word, BYTES);
	free(*l);
	*l = NULL;
}

void
lines_own(struct lines *l, uint8_t owner)
{
	l->owner = owner;
}

static uint64_t
load(const struct lines *l, uint64_t at)
{
	return atomic_load_explicit(&l->word[at & (WORDS - 1)],
		memory_order_relaxed);
}

static uint8_t
owner_of(uint64_t word)
{
	return (uint8_t)(word >> 24);
}

static uint64_t
hash(const struct lines *l, const struct line_key *line)
{
	return siphash(l->key, line, sizeof(*line));
}

/* This owner's word of the line, or NULL; *sum_r: what all owners hold. */
static _Atomic uint64_t *
find(const struct lines *l, uint64_t h, unsigned *sum_r)
{
	_Atomic uint64_t *own = NULL;

	*sum_r = 0;
	for (uint64_t i = 0; i < WINDOW; i++) {
		uint64_t w = load(l, h + i);

		if (w == 0 || w >> 32 != h >> 32)
			continue;
		*sum_r += (unsigned)(w & COUNT);
		if (owner_of(w) == l->owner)
			own = &l->word[(h + i) & (WORDS - 1)];
	}
	return own;
}

unsigned
lines_enter(struct lines *l, const struct line_key *line)
{
	const uint64_t h = hash(l, line);
	_Atomic uint64_t *own;
	unsigned sum;

	if (l->owner == 0)
		return 0;
	own = find(l, h, &sum);
	if (own != NULL) {
		atomic_fetch_add_explicit(own, 1, memory_order_relaxed);
		return sum + 1;
	}
	for (uint64_t i = 0; i < WINDOW; i++) {
		uint64_t empty = 0;

		if (load(l, h + i) == 0 && atomic_compare_exchange_strong(
				&l->word[(h + i) & (WORDS - 1)], &empty,
				h >> 32 << 32 | (uint64_t)l->owner << 24 | 1))
			return sum + 1;
	}
	return 0;
}

void
lines_leave(struct lines *l, const struct line_key *line)
{
	unsigned sum;
	_Atomic uint64_t *own = find(l, hash(l, line), &sum);

	if (own == NULL || l->owner == 0)
		return;
	if ((atomic_load(own) & COUNT) > 1)
		atomic_fetch_sub_explicit(own, 1, memory_order_relaxed);
	else
		atomic_store_explicit(own, 0, memory_order_relaxed);
}

void
lines_release(struct lines *l, uint8_t owner)
{
	if (owner == 0)
		return;
	for (uint64_t i = 0; i < WORDS; i++) {
		uint64_t w = load(l, i);

		if (w != 0 && owner_of(w) == owner)
			atomic_store_explicit(&l->word[i], 0,
				memory_order_relaxed);
	}
}
