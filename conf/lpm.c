/*
 * lpm.c - longest-prefix match for IPv4 and IPv6
 *
 * One open-addressing hash table for each prefix length in use; a look-up
 * masks the address to each of those lengths, longest first, so that it costs
 * the same with five prefixes as with half a million. A trie was rejected: its
 * cost follows the depth of the data, and an operator's list of single
 * addresses is as deep as it gets.
 *
 * Built by conf_load() and only read afterwards; the map of the ledger's entries
 * (allowmap.c) also changes and removes. A subscriber chooses the addresses that
 * are looked up (within a prefix of its own), therefore the hash is keyed
 * (SipHash-1-3) with random bytes of each table's birth.
 *
 * Must hold: a table is at most half full, so that a probe ends.
 */
#include "conf/lpm.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define SLOTS_FIRST 16u
#define LENGTHS 129

struct slot {
	uint8_t ip[16];
	int32_t value;	/* -1: empty */
};

struct table {
	struct slot *slots;
	uint32_t mask;	/* number of slots - 1 */
	uint32_t used;
};

struct family {
	struct table table[LENGTHS];
	uint8_t lens[LENGTHS];	/* lengths in use, longest first */
	unsigned nlens;
};

struct lpm {
	uint64_t key[2];
	size_t count;
	struct family family[2];	/* IPv4, IPv6 */
};

static inline uint64_t
rotl(uint64_t x, unsigned n)
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

/* SipHash-1-3 of exactly 16 bytes; byte order does not matter here. */
static uint64_t
hash(const uint64_t key[2], const uint8_t ip[16])
{
	uint64_t word[3] = { 0, 0, 16ull << 56 };
	uint64_t v[4] = {
		key[0] ^ 0x736f6d6570736575ull, key[1] ^ 0x646f72616e646f6dull,
		key[0] ^ 0x6c7967656e657261ull, key[1] ^ 0x7465646279746573ull,
	};

	memcpy(word, ip, 16);
	for (unsigned i = 0; i < 3; i++) {
		v[3] ^= word[i];
		sip_round(v);
		v[0] ^= word[i];
	}
	v[2] ^= 0xff;
	sip_round(v);
	sip_round(v);
	sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

struct lpm *
lpm_new(void)
{
	struct lpm *l = calloc(1, sizeof(*l));

	/* Blocks only before the kernel's pool is ready, early at boot. */
	if (l != NULL && getrandom(l->key, sizeof(l->key), 0) !=
		(ssize_t)sizeof(l->key)) {
		free(l);
		l = NULL;
	}
	return l;
}

void
lpm_free(struct lpm **l)
{
	if (*l == NULL)
		return;
	for (unsigned f = 0; f < 2; f++)
		for (unsigned len = 0; len < LENGTHS; len++)
			free((*l)->family[f].table[len].slots);
	free(*l);
	*l = NULL;
}

/* The slot that holds ip, or the empty one where it belongs. */
static struct slot *
slot_find(const struct table *t, const uint64_t key[2], const uint8_t ip[16])
{
	uint32_t i = (uint32_t)hash(key, ip) & t->mask;

	while (t->slots[i].value >= 0 && memcmp(t->slots[i].ip, ip, 16) != 0)
		i = (i + 1) & t->mask;
	return &t->slots[i];
}

static int
table_grow(struct table *t, const uint64_t key[2])
{
	uint32_t n = t->slots != NULL ? (t->mask + 1) * 2 : SLOTS_FIRST;
	struct table big = { .mask = n - 1, .used = t->used };

	if ((big.slots = malloc(n * sizeof(*big.slots))) == NULL)
		return -1;
	for (uint32_t i = 0; i < n; i++)
		big.slots[i].value = -1;
	for (uint32_t i = 0; t->slots != NULL && i <= t->mask; i++)
		if (t->slots[i].value >= 0)
			*slot_find(&big, key, t->slots[i].ip) = t->slots[i];
	free(t->slots);
	*t = big;
	return 0;
}

static void
length_add(struct family *f, uint8_t len)
{
	unsigned i = f->nlens++;

	for (; i > 0 && f->lens[i - 1] < len; i--)
		f->lens[i] = f->lens[i - 1];
	f->lens[i] = len;
}

/* The prefix's slot in a table with room for one more; NULL: no memory. */
static struct slot *
slot_make(struct lpm *l, const struct prefix *p)
{
	struct family *f = &l->family[p->family == AF_INET6];
	struct table *t = &f->table[p->len];

	if (t->slots == NULL || t->used * 2 > t->mask) {
		bool is_new = t->slots == NULL;

		if (table_grow(t, l->key) < 0)
			return NULL;
		if (is_new)
			length_add(f, p->len);
	}
	return slot_find(t, l->key, p->ip);
}

static void
slot_take(struct lpm *l, struct slot *slot, const struct prefix *p,
	int32_t value)
{
	memcpy(slot->ip, p->ip, sizeof(slot->ip));
	slot->value = value;
	l->family[p->family == AF_INET6].table[p->len].used++;
	l->count++;
}

int
lpm_add(struct lpm *l, const struct prefix *p, int32_t value, int32_t *old_r)
{
	struct slot *slot = slot_make(l, p);

	if (slot == NULL)
		return -1;
	if (slot->value >= 0) {
		if (old_r != NULL)
			*old_r = slot->value;
		return 1;
	}
	slot_take(l, slot, p, value);
	return 0;
}

int
lpm_set(struct lpm *l, const struct prefix *p, int32_t value)
{
	struct slot *slot = slot_make(l, p);

	if (slot == NULL)
		return -1;
	if (slot->value < 0)
		slot_take(l, slot, p, value);
	slot->value = value;
	return 0;
}

int32_t
lpm_get(const struct lpm *l, const struct prefix *p)
{
	const struct table *t = &l->family[p->family == AF_INET6]
		.table[p->len];

	return t->slots == NULL ? -1 : slot_find(t, l->key, p->ip)->value;
}

/* No tombstones: what was pushed past the hole moves back into it (Knuth,
 * 6.4, algorithm R). */
int32_t
lpm_del(struct lpm *l, const struct prefix *p)
{
	struct table *t = &l->family[p->family == AF_INET6].table[p->len];
	int32_t value = lpm_get(l, p);
	uint32_t hole, i;

	if (value < 0)
		return -1;
	hole = i = (uint32_t)(slot_find(t, l->key, p->ip) - t->slots);
	for (;;) {
		uint32_t home;

		t->slots[hole].value = -1;
		do {
			i = (i + 1) & t->mask;
			if (t->slots[i].value < 0) {
				t->used--;
				l->count--;
				return value;
			}
			home = (uint32_t)hash(l->key, t->slots[i].ip) & t->mask;
		} while (((i - home) & t->mask) < ((i - hole) & t->mask));
		t->slots[hole] = t->slots[i];
		hole = i;
	}
}

int32_t
lpm_find_within(const struct lpm *l, const struct addr *a, unsigned max_len,
	struct prefix *matched_r)
{
	const struct family *f = &l->family[a->family == AF_INET6];
	struct prefix p;

	for (unsigned i = 0; i < f->nlens; i++) {
		const struct slot *slot;

		if (f->lens[i] > max_len)
			continue;
		prefix_of_addr(&p, a, f->lens[i]);
		slot = slot_find(&f->table[p.len], l->key, p.ip);
		if (slot->value < 0)
			continue;
		if (matched_r != NULL)
			*matched_r = p;
		return slot->value;
	}
	return -1;
}

int32_t
lpm_find(const struct lpm *l, const struct addr *a, struct prefix *matched_r)
{
	return lpm_find_within(l, a, LENGTHS - 1, matched_r);
}

size_t
lpm_count(const struct lpm *l)
{
	return l->count;
}
