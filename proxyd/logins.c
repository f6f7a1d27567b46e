/*
 * logins.c - which user of a line has just logged in by POP3, in all relays
 *
 * Does: one entry for each line and server, in buckets of WAYS entries that all
 * relays share. An entry is sixteen words; the last is a keyed hash of the
 * others. Does not: lock, allocate after the start, or look at what a user name
 * is.
 *
 * Made by parent.c, used by the sessions of every relay. A relay may be killed
 * in the middle of an entry, and two may write one at once: what then lies there
 * does not fit its hash, is nobody's login, and is written over. A seqlock would
 * be left odd by the first, for ever. Lines choose their addresses, so buckets
 * are keyed. A taken-over relay has the key and can write a login for any line;
 * it could assert one to the server just as well without.
 */
#include "proxyd/logins.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "lib/shared.h"
#include "zombie/siphash.h"

#define WAYS 8
#define BUCKETS UINT64_C(4096)		/* 32,768 logins in 4 MiB */
#define WORDS 16
#define BYTES (BUCKETS * WAYS * WORDS * sizeof(uint64_t))

struct entry {
	struct line_key line;
	uint32_t until;		/* 0: nothing is here */
	uint64_t server;	/* keyed hash of its name and the customer */
	char user[POP_USER_MAX + 4];	/* zeros behind it */
	uint64_t seal;
};

_Static_assert(sizeof(struct entry) == WORDS * sizeof(uint64_t) &&
	offsetof(struct entry, seal) == (WORDS - 1) * sizeof(uint64_t),
	"the seal is the last word, and nothing is between the others");

struct logins {
	_Atomic uint64_t *word;
	uint64_t key[2];
};

struct logins *
logins_new(void)
{
	struct logins *t = calloc(1, sizeof(*t));

	if (t != NULL && (t->word = shared_new(BYTES, t->key)) == NULL) {
		free(t);
		return NULL;
	}
	return t;
}

void
logins_free(struct logins **t)
{
	if (*t == NULL)
		return;
	munmap((void *)(*t)->word, BYTES);
	free(*t);
	*t = NULL;
}

static uint64_t
seal_of(const struct logins *t, const struct entry *e)
{
	return siphash(t->key, e, offsetof(struct entry, seal));
}

static uint64_t
hash_of(const struct logins *t, uint32_t customer, const char *server)
{
	uint64_t of_server = siphash(t->key, server, strlen(server));
	const uint64_t both[2] = { of_server, customer };

	return siphash(t->key, both, sizeof(both));
}

static _Atomic uint64_t *
bucket_of(const struct logins *t, const struct line_key *line, uint64_t server)
{
	uint8_t octets[sizeof(*line) + sizeof(server)];

	memcpy(octets, line, sizeof(*line));
	memcpy(octets + sizeof(*line), &server, sizeof(server));
	return t->word + (siphash(t->key, octets, sizeof(octets)) &
		(BUCKETS - 1)) * WAYS * WORDS;
}

/* false: nobody's, or half of two. */
static bool
load(const struct logins *t, const _Atomic uint64_t *from, struct entry *e)
{
	uint64_t w[WORDS];

	for (int i = 0; i < WORDS; i++)
		w[i] = atomic_load_explicit(&from[i], memory_order_relaxed);
	memcpy(e, w, sizeof(*e));
	return e->until != 0 && e->seal == seal_of(t, e);
}

static void
store(_Atomic uint64_t *to, const struct entry *e)
{
	uint64_t w[WORDS];

	memcpy(w, e, sizeof(w));
	for (int i = 0; i < WORDS; i++)
		atomic_store_explicit(&to[i], w[i], memory_order_relaxed);
}

static bool
is_of(const struct entry *e, const struct line_key *line, uint64_t server)
{
	return line_key_same(&e->line, line) && e->server == server;
}

void
logins_note(struct logins *t, const struct line_key *line, uint32_t customer,
	const char *server, const char *user, uint32_t until)
{
	struct entry new, old;
	_Atomic uint64_t *bucket, *at = NULL;
	uint32_t first = UINT32_MAX;

	memset(&new, 0, sizeof(new));
	new.line = *line;
	new.until = until;
	new.server = hash_of(t, customer, server);
	memcpy(new.user, user, strnlen(user, POP_USER_MAX));
	new.seal = seal_of(t, &new);
	bucket = bucket_of(t, line, new.server);
	for (int i = 0; i < WAYS; i++) {
		_Atomic uint64_t *here = bucket + i * WORDS;
		bool is_whole = load(t, here, &old);

		if (is_whole && is_of(&old, line, new.server)) {
			at = here;
			break;
		}
		if (!is_whole)
			old.until = 0;
		if (at == NULL || old.until < first) {
			first = old.until;
			at = here;
		}
	}
	store(at, &new);
}

bool
logins_find(const struct logins *t, const struct line_key *line,
	uint32_t customer, const char *server, uint32_t now, char user[POP_USER_MAX + 1])
{
	const uint64_t hash = hash_of(t, customer, server);
	const _Atomic uint64_t *bucket = bucket_of(t, line, hash);
	struct entry e;

	for (int i = 0; i < WAYS; i++) {
		if (!load(t, bucket + i * WORDS, &e) || e.until <= now ||
		    !is_of(&e, line, hash))
			continue;
		memcpy(user, e.user, POP_USER_MAX);
		user[POP_USER_MAX] = '\0';
		return true;
	}
	return false;
}
