/*
 * tlsseen.c - what is known of TLS at servers that nobody has listed
 *
 * Does: keep one slot a host and port in memory that all relays share, judge what
 * a session has found by what was found before. Does not: dial, verify, look at a
 * clock.
 *
 * Called by opportune.c. A slot is four words, each changed by compare and swap:
 * a process may die anywhere. Two relays that meet a host at the same moment may
 * give it two slots of a bucket; the first one counts. Clients choose which hosts
 * are in here (opportune.c bounds how many new ones a line may bring), so slots
 * are found by a keyed hash, and where TLS was seen they are never given to
 * another host: a full bucket goes without memory.
 */
#include "proxyd/tlsseen.h"

#include <ctype.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "lib/shared.h"
#include "zombie/siphash.h"

#define BUCKETS 4096u
#define WAYS 4u
#define BYTES (BUCKETS * WAYS * sizeof(struct slot))
/* Tags: a slot that is empty, and one that is changing hands. */
#define TAG_EMPTY UINT64_C(0)
#define TAG_BUSY UINT64_C(1)

enum kind { KIND_UNTRIED, KIND_NONE, KIND_UNVERIFIED, KIND_VALID };

struct slot {
	_Atomic uint64_t tag;
	_Atomic uint64_t state;
	_Atomic uint64_t names[TLSSEEN_KEPT / 2];
};

struct tlsseen {
	struct slot *slot;
	uint64_t key[2];
};

/* A state in one word: kind 2 bits, then 31 for each time. until: of KIND_NONE,
 * and of UNTRIED how long not to try; where TLS was seen, the last alarm. */
struct state {
	enum kind kind;
	uint32_t refused;	/* the first of refusals in a row; 0: none */
	uint32_t until;
};

#define TIME_BITS 31
#define TIME_MASK ((UINT32_C(1) << TIME_BITS) - 1)

static uint64_t
pack(struct state s)
{
	return (uint64_t)s.kind << 2 * TIME_BITS |
		(uint64_t)(s.refused & TIME_MASK) << TIME_BITS |
		(s.until & TIME_MASK);
}

static struct state
unpack(uint64_t word)
{
	return (struct state){ .kind = (enum kind)(word >> 2 * TIME_BITS),
		.refused = (uint32_t)(word >> TIME_BITS) & TIME_MASK,
		.until = (uint32_t)word & TIME_MASK };
}

struct tlsseen *
tlsseen_new(void)
{
	struct tlsseen *t = calloc(1, sizeof(*t));

	if (t != NULL && (t->slot = shared_new(BYTES, t->key)) == NULL) {
		free(t);
		return NULL;
	}
	return t;
}

void
tlsseen_free(struct tlsseen **t)
{
	if (*t == NULL)
		return;
	munmap((*t)->slot, BYTES);
	free(*t);
	*t = NULL;
}

/* ---- names ---- */

void
tlsseen_name(const struct tlsseen *t, struct tls_names *names,
	const void *text, size_t len)
{
	uint8_t lower[256];
	uint32_t hash;

	if (names->n == TLSSEEN_NAMES || len > sizeof(lower))
		return;
	for (size_t i = 0; i < len; i++)
		lower[i] = (uint8_t)tolower(((const uint8_t *)text)[i]);
	hash = (uint32_t)siphash(t->key, lower, len);
	names->hash[names->n++] = hash != 0 ? hash : 1;
}

static uint32_t
kept(const struct slot *s, unsigned i)
{
	return (uint32_t)(atomic_load(&s->names[i / 2]) >> i % 2 * 32);
}

/* A certificate is renewed with a name more or less; another host has none of
 * them. One without names is like any other without. */
static bool
is_same_host(const struct slot *s, const struct tls_names *names)
{
	bool any = false;

	for (unsigned i = 0; i < TLSSEEN_KEPT; i++) {
		uint32_t name = kept(s, i);

		for (size_t k = 0; name != 0 && k < names->n; k++)
			if (names->hash[k] == name)
				return true;
		any = any || name != 0;
	}
	return !any && names->n == 0;
}

static int
by_value(const void *a, const void *b)
{
	const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

/* The least of them: whichever order a certificate has them in. */
static void
keep(struct slot *s, const struct tls_names *names)
{
	struct tls_names sorted = *names;
	uint32_t least[TLSSEEN_KEPT] = { 0 };

	qsort(sorted.hash, sorted.n, sizeof(sorted.hash[0]), by_value);
	for (size_t i = 0; i < TLSSEEN_KEPT && i < sorted.n; i++)
		least[i] = sorted.hash[i];
	for (unsigned i = 0; i < TLSSEEN_KEPT / 2; i++)
		atomic_store(&s->names[i], (uint64_t)least[2 * i + 1] << 32 |
			least[2 * i]);
}

/* ---- slots ---- */

static uint64_t
tag_of(const struct tlsseen *t, const struct addr *host)
{
	uint8_t octets[sizeof(host->ip) + 3];
	uint64_t tag;

	memcpy(octets, host->ip, sizeof(host->ip));
	octets[sizeof(host->ip)] = (uint8_t)host->family;
	octets[sizeof(host->ip) + 1] = (uint8_t)(host->port >> 8);
	octets[sizeof(host->ip) + 2] = (uint8_t)host->port;
	tag = siphash(t->key, octets, sizeof(octets));
	return tag > TAG_BUSY ? tag : tag + 2;
}

static struct slot *
bucket_of(const struct tlsseen *t, uint64_t tag)
{
	return t->slot + (tag >> 32) % BUCKETS * WAYS;
}

static struct slot *
find(const struct tlsseen *t, uint64_t tag)
{
	struct slot *bucket = bucket_of(t, tag);

	for (unsigned i = 0; i < WAYS; i++)
		if (atomic_load(&bucket[i].tag) == tag)
			return &bucket[i];
	return NULL;
}

/* What is lost when this slot goes to another host; the most: never. */
static uint32_t
worth(const struct slot *s)
{
	struct state is = unpack(atomic_load(&s->state));

	if (atomic_load(&s->tag) <= TAG_BUSY)
		return 0;
	if (is.kind >= KIND_UNVERIFIED)
		return UINT32_MAX;
	return 1 + (is.until > is.refused ? is.until : is.refused);
}

/* A slot for a host that has none; NULL: all are of hosts with TLS. */
static struct slot *
enter(struct tlsseen *t, uint64_t tag)
{
	struct slot *bucket = bucket_of(t, tag);

	for (unsigned tries = 0; tries < WAYS; tries++) {
		struct slot *least = bucket;
		uint64_t was;

		for (unsigned i = 1; i < WAYS; i++)
			if (worth(&bucket[i]) < worth(least))
				least = &bucket[i];
		was = atomic_load(&least->tag);
		if (worth(least) == UINT32_MAX)
			return NULL;
		if (!atomic_compare_exchange_strong(&least->tag, &was, TAG_BUSY))
			continue;
		atomic_store(&least->state, 0);
		for (unsigned i = 0; i < TLSSEEN_KEPT / 2; i++)
			atomic_store(&least->names[i], 0);
		atomic_store(&least->tag, tag);
		return least;
	}
	return NULL;
}

/* ---- what follows from it ---- */

enum tls_plan
tlsseen_plan(const struct tlsseen *t, const struct addr *host, uint32_t now,
	bool *is_new_r)
{
	const struct slot *s = find(t, tag_of(t, host));
	struct state is;

	*is_new_r = s == NULL;
	if (s == NULL)
		return PLAN_TRY;
	is = unpack(atomic_load(&s->state));
	if (is.kind >= KIND_UNVERIFIED)
		return PLAN_TLS;
	return is.until > now ? PLAN_CLEAR : PLAN_TRY;
}

/* One more refusal: true when it is to be believed. */
static bool
is_believed(struct state *s, uint32_t now)
{
	if (s->refused == 0)
		s->refused = now;
	return now - s->refused >= TLSSEEN_APART;
}

static enum tls_answer
alarm_about(struct state *s, uint32_t now)
{
	if (s->until != 0 && now < s->until + TLSSEEN_ALARM)
		return ANSWER_ALARMED;
	s->until = now;
	return ANSWER_ALARM;
}

/* TLS has never been seen there. */
static void
learn(struct state *s, enum tls_outcome outcome, uint32_t now)
{
	switch (outcome) {
	case OUTCOME_VALID:
	case OUTCOME_UNVERIFIED:
		*s = (struct state){ .kind = outcome == OUTCOME_VALID ?
			KIND_VALID : KIND_UNVERIFIED };
		break;
	case OUTCOME_REFUSED:
		if (is_believed(s, now)) {
			s->kind = KIND_NONE;
			s->until = now + TLSSEEN_NONE;
		}
		break;
	case OUTCOME_UNCLEAR:
		s->until = now + TLSSEEN_UNCLEAR;
		break;
	}
}

/* TLS has been seen there: nothing may be worse than it was. */
static enum tls_answer
compare(struct state *s, enum tls_outcome outcome, bool same_host, uint32_t now)
{
	switch (outcome) {
	case OUTCOME_VALID:
		if (s->kind == KIND_VALID && !same_host)
			return alarm_about(s, now);
		s->kind = KIND_VALID;
		s->refused = 0;
		return ANSWER_GO_ON;
	case OUTCOME_UNVERIFIED:
		if (s->kind == KIND_VALID)
			return alarm_about(s, now);
		s->refused = 0;
		return ANSWER_GO_ON;
	case OUTCOME_REFUSED:
		return is_believed(s, now) ? alarm_about(s, now) :
			ANSWER_REFUSE;
	default:
		return ANSWER_REFUSE;
	}
}

enum tls_answer
tlsseen_note(struct tlsseen *t, const struct addr *host,
	enum tls_outcome outcome, const struct tls_names *names, uint32_t now)
{
	static const struct tls_names nobody;
	const uint64_t tag = tag_of(t, host);
	struct slot *slot = find(t, tag);
	enum tls_answer answer = ANSWER_GO_ON;
	struct state s;
	uint64_t old;

	if (slot == NULL && (slot = enter(t, tag)) == NULL)
		return ANSWER_GO_ON;
	if (names == NULL)
		names = &nobody;
	old = atomic_load(&slot->state);
	/* names first: without them it would look like another host's */
	if (outcome == OUTCOME_VALID && unpack(old).kind != KIND_VALID)
		keep(slot, names);
	do {
		s = unpack(old);
		if (s.kind >= KIND_UNVERIFIED)
			answer = compare(&s, outcome, is_same_host(slot, names),
				now);
		else
			learn(&s, outcome, now);
	} while (!atomic_compare_exchange_weak(&slot->state, &old, pack(s)));
	if (outcome == OUTCOME_VALID && answer == ANSWER_GO_ON)
		keep(slot, names);
	return answer;
}
