/*
 * lines.c - how many sessions a line has in this relay
 *
 * A chained hash keyed with a secret, since clients choose their addresses
 * (a botnet has all of its own). Entries exist only
 * while a session does, so the table is as bounded as the sessions are.
 */
#include "proxyd/lines.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/random.h>

#define BUCKETS 4096u

struct entry {
	SLIST_ENTRY(entry) link;
	struct line_key line;
	unsigned n;
};

struct lines {
	uint64_t key;
	SLIST_HEAD(entry_list, entry) bucket[BUCKETS];
};

struct lines *
lines_new(void)
{
	struct lines *l = calloc(1, sizeof(*l));

	if (l != NULL && getrandom(&l->key, sizeof(l->key), 0) !=
		sizeof(l->key))
		lines_free(&l);
	return l;
}

void
lines_free(struct lines **l)
{
	if (*l == NULL)
		return;
	for (unsigned i = 0; i < BUCKETS; i++)
		while (!SLIST_EMPTY(&(*l)->bucket[i])) {
			struct entry *e = SLIST_FIRST(&(*l)->bucket[i]);

			SLIST_REMOVE_HEAD(&(*l)->bucket[i], link);
			free(e);
		}
	free(*l);
	*l = NULL;
}

/* Two rounds of a 64-bit multiply-xorshift mix over the secret. */
static unsigned
bucket_of(const struct lines *l, const struct line_key *line)
{
	uint64_t half[2] = { 0 }, h = l->key;

	memcpy(half, line, sizeof(*line));
	for (int i = 0; i < 2; i++) {
		h = (h ^ half[i]) * UINT64_C(0x9e3779b97f4a7c15);
		h ^= h >> 32;
	}
	h = (h ^ l->key) * UINT64_C(0xd6e8feb86659fd93);
	return (unsigned)(h >> 52) % BUCKETS;
}

unsigned
lines_enter(struct lines *l, const struct line_key *line)
{
	unsigned b = bucket_of(l, line);
	struct entry *e;

	SLIST_FOREACH(e, &l->bucket[b], link)
		if (line_key_same(&e->line, line))
			return ++e->n;
	e = calloc(1, sizeof(*e));
	if (e == NULL)
		return 0;
	e->line = *line;
	e->n = 1;
	SLIST_INSERT_HEAD(&l->bucket[b], e, link);
	return 1;
}

void
lines_leave(struct lines *l, const struct line_key *line)
{
	unsigned b = bucket_of(l, line);
	struct entry *e;

	SLIST_FOREACH(e, &l->bucket[b], link) {
		if (!line_key_same(&e->line, line))
			continue;
		if (--e->n == 0) {
			SLIST_REMOVE(&l->bucket[b], e, entry, link);
			free(e);
		}
		return;
	}
}
