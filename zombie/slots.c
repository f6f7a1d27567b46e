/*
 * slots.c - find, make and displace the records of lines
 *
 * A line may stand in three buckets of eight slots, all three chosen by its
 * tag. With one choice a table that is 9/10 full loses a tenth of the lines,
 * with three a thousandth. The first bucket is taken unless it is nearly full,
 * so that most lookups touch one cache line of tags.
 *
 * No lock, and a process may be killed between any two instructions:
 *   displace  tag := 0 by CAS; what the record holds is void from here on
 *   make      a free slot is claimed by CAS of its tag, the record is wiped,
 *             the key is written last
 * The key says whether a record is valid: while it is not the key of the tag,
 * whoever enters the line begins the record again. Two processes that make the
 * same line at the same moment both look again after their CAS; the slot that a
 * lookup meets first wins and either of them empties the other. What may be
 * lost is an update or two of that line.
 *
 * Called by nfq and the relays for every first packet, by control and the CLI
 * for reading. Subscribers choose the keys, not the secret: they cannot choose
 * where a key falls.
 */
#include "zombie/table.h"

#include <string.h>

#include "zombie/region.h"
#include "zombie/siphash.h"

#define CHOICES 3
/* The first bucket is preferred until this many of its slots are taken. */
#define PREFER 6
#define NONE ((size_t)-1)

static uint64_t
tag_of(const struct table *t, const struct line_key *k)
{
	uint64_t tag = siphash(t->secret, k, sizeof(*k));

	return tag != 0 ? tag : 1;
}

/* The first slot of the bucket that 32 random bits choose. */
static uint32_t
bucket(const struct table *t, uint64_t bits)
{
	uint64_t buckets = t->slots / BUCKET_SLOTS;

	return (uint32_t)((bits & 0xffffffffu) * buckets >> 32) * BUCKET_SLOTS;
}

static uint32_t
next_bucket(const struct table *t, uint32_t slot)
{
	return slot + BUCKET_SLOTS < t->slots ? slot + BUCKET_SLOTS : 0;
}

/*
 * Three different buckets. A slot met twice in one lookup would have two places
 * in its order, and of two processes that settle each could remove the other's.
 */
static struct table_aim
aim_at(const struct table *t, const struct line_key *k)
{
	struct table_aim p;

	p.tag = tag_of(t, k);
	p.slot[0] = bucket(t, p.tag);
	p.slot[1] = bucket(t, p.tag >> 32);
	p.slot[2] = bucket(t, p.tag * 0x9e3779b97f4a7c15u >> 32);
	if (p.slot[1] == p.slot[0])
		p.slot[1] = next_bucket(t, p.slot[1]);
	while (p.slot[2] == p.slot[0] || p.slot[2] == p.slot[1])
		p.slot[2] = next_bucket(t, p.slot[2]);
	return p;
}

/* The i-th slot in lookup order. */
static size_t
slot_at(const struct table_aim *p, unsigned i)
{
	return p->slot[i / BUCKET_SLOTS] + i % BUCKET_SLOTS;
}

static size_t
lookup(const struct table *t, const struct table_aim *p)
{
	for (unsigned i = 0; i < CHOICES * BUCKET_SLOTS; i++) {
		size_t slot = slot_at(p, i);

		if (atomic_load_explicit(&t->tags[slot],
			    memory_order_acquire) == p->tag)
			return slot;
	}
	return NONE;
}

void
table_aim(const struct table *t, const struct line_key *k,
	struct table_aim *aim_r)
{
	*aim_r = aim_at(t, k);
	/* the third is looked at rarely */
	__builtin_prefetch((const void *)&t->tags[aim_r->slot[0]]);
	__builtin_prefetch((const void *)&t->tags[aim_r->slot[1]]);
}

void
table_prefetch(const struct table *t, const struct line_key *k)
{
	struct table_aim aim;

	table_aim(t, k, &aim);
}

void
table_near(const struct table *t, const struct table_aim *aim)
{
	size_t slot = lookup(t, aim);
	const char *r;

	if (slot == NONE)
		return;
	if (t->levels != NULL)
		__builtin_prefetch((const void *)&t->levels[slot]);
	r = (const char *)&t->records[slot];
	/* what a first packet changes, wherever cache lines begin */
	__builtin_prefetch(r, 1);
	__builtin_prefetch(r + 64, 1);
	__builtin_prefetch(r + offsetof(struct line_record, good), 1);
}

struct line_record *
table_find(const struct table *t, const struct line_key *k)
{
	struct table_aim p = aim_at(t, k);
	size_t slot = lookup(t, &p);

	return slot != NONE ? &t->records[slot] : NULL;
}

static size_t
slot_of(const struct table *t, const struct line_record *r)
{
	return (size_t)(r - t->records);
}

uint32_t
table_level(const struct table *t, const struct line_record *r)
{
	return t->levels != NULL ? atomic_load_explicit(
		&t->levels[slot_of(t, r)], memory_order_relaxed) : 0;
}

static const struct line_key no_key;

static bool
key_is(const struct line_record *r, const struct line_key *k)
{
	return memcmp(&r->key, k, sizeof(*k)) == 0;
}

/*
 * A record whose key is not that of its slot's tag: new, left by the line before,
 * or by a process killed in this function. The key goes last.
 */
static void
record_begin(struct line_record *r, const struct line_key *k, uint32_t now)
{
	const size_t body = offsetof(struct line_record, attempts);

	/* last is never 0 in between: the line would look idle for ever */
	if (!key_is(r, &no_key))
		memset((char *)r + body, 0, sizeof(*r) - body);
	atomic_store_explicit(&r->last, now, memory_order_relaxed);
	atomic_store_explicit(&r->first, now, memory_order_relaxed);
	atomic_store_explicit(&r->window, (uint16_t)(now / MAP_WINDOW),
		memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
	r->key = *k;
}

/* Which of the buckets to fill, or NONE: all are full. */
static size_t
bucket_for(const struct table *t, const struct table_aim *p)
{
	size_t best = NONE;
	unsigned least = BUCKET_SLOTS;

	for (unsigned c = 0; c < CHOICES; c++) {
		unsigned used = 0;

		for (unsigned i = 0; i < BUCKET_SLOTS; i++)
			used += atomic_load_explicit(&t->tags[p->slot[c] + i],
				memory_order_relaxed) != 0;
		if (c == 0 && used < PREFER)
			return p->slot[0];
		if (used < least) {
			least = used;
			best = p->slot[c];
		}
	}
	return best;
}

/* Claim a free slot of this bucket, or NONE. */
static size_t
claim(struct table *t, size_t first, uint64_t tag, uint32_t now)
{
	for (size_t slot = first; slot < first + BUCKET_SLOTS; slot++) {
		uint64_t free_tag = 0;

		if (atomic_load(&t->tags[slot]) != 0 ||
			table_level(t, &t->records[slot]) != 0)
			continue;
		/* or somebody would find it idle right after the claim */
		atomic_store_explicit(&t->records[slot].last, now,
			memory_order_relaxed);
		if (atomic_compare_exchange_strong(&t->tags[slot], &free_tag,
			    tag))
			return slot;
	}
	return NONE;
}

/* Seconds that a clean line has been idle; 0: it may not go. */
static uint32_t
idle(const struct table *t, size_t slot, uint32_t now)
{
	int32_t seconds;

	/* without the levels nobody can tell: then nothing is displaced */
	if (t->levels == NULL || atomic_load(&t->levels[slot]) != 0)
		return 0;
	seconds = (int32_t)(now - atomic_load_explicit(&t->records[slot].last,
			memory_order_relaxed));
	return seconds > TABLE_IDLE ? (uint32_t)seconds : 0;
}

/*
 * Empty the slot of the clean line that was idle longest; its bucket, or NONE.
 * The tag is read before the record, so that a line which takes the slot in
 * the meantime is not the one that goes.
 *
 * Control may raise the line at this moment: it writes the level, then looks at
 * the tag; here the tag goes first, then the level is looked at. One of the two
 * sees the other.
 */
static size_t
displace(struct table *t, const struct table_aim *p, uint32_t now)
{
	size_t oldest = NONE;
	uint32_t longest = 0;
	uint64_t tag = 0, gone = 0;

	for (unsigned i = 0; i < CHOICES * BUCKET_SLOTS; i++) {
		size_t slot = slot_at(p, i);
		uint64_t holder = atomic_load(&t->tags[slot]);
		uint32_t seconds = idle(t, slot, now);

		if (holder == 0 && table_level(t, &t->records[slot]) == 0)
			return slot / BUCKET_SLOTS * BUCKET_SLOTS;
		if (holder != 0 && seconds > longest) {
			longest = seconds;
			oldest = slot;
			tag = holder;
		}
	}
	if (oldest == NONE)
		return NONE;
	if (atomic_compare_exchange_strong(&t->tags[oldest], &tag, 0)) {
		if (atomic_load(&t->levels[oldest]) != 0) {
			atomic_compare_exchange_strong(&t->tags[oldest], &gone,
				tag);
			return NONE;
		}
		atomic_fetch_add_explicit(&t->head->displaced, 1,
			memory_order_relaxed);
	}
	return oldest / BUCKET_SLOTS * BUCKET_SLOTS;
}

/* Remove all but the first of a line's slots; the one that stays. */
static size_t
settle(struct table *t, const struct table_aim *p)
{
	size_t winner = NONE;

	for (unsigned i = 0; i < CHOICES * BUCKET_SLOTS; i++) {
		size_t slot = slot_at(p, i);
		uint64_t tag = p->tag;

		if (atomic_load(&t->tags[slot]) != tag || slot == winner)
			continue;
		if (winner == NONE)
			winner = slot;
		else if (t->levels == NULL || atomic_load(&t->levels[slot]) == 0)
			atomic_compare_exchange_strong(&t->tags[slot], &tag, 0);
	}
	return winner;
}

static size_t
make(struct table *t, const struct table_aim *p, uint32_t now)
{
	size_t slot;

	/* each turn another process took the slot that was meant */
	for (unsigned turn = 0; turn < CHOICES * BUCKET_SLOTS; turn++) {
		size_t first = bucket_for(t, p);

		if (first == NONE)
			first = displace(t, p, now);
		if (first == NONE)
			break;
		if (claim(t, first, p->tag, now) != NONE &&
			(slot = settle(t, p)) != NONE)
			return slot;
	}
	atomic_fetch_add_explicit(&t->head->lost, 1, memory_order_relaxed);
	return NONE;
}

struct line_record *
table_enter_at(struct table *t, const struct table_aim *aim,
	const struct line_key *k, uint32_t now)
{
	size_t slot = lookup(t, aim);
	struct line_record *r;

	if (slot == NONE && (slot = make(t, aim, now)) == NONE)
		return NULL;
	r = &t->records[slot];
	if (!key_is(r, k))
		record_begin(r, k, now);
	return r;
}

struct line_record *
table_enter(struct table *t, const struct line_key *k, uint32_t now)
{
	struct table_aim p = aim_at(t, k);

	return table_enter_at(t, &p, k, now);
}

bool
table_key(const struct table *t, const struct line_record *r,
	struct line_key *k_r)
{
	*k_r = r->key;
	return k_r->family != 0 &&
		atomic_load(&t->tags[slot_of(t, r)]) == tag_of(t, k_r);
}

int
table_set_level(struct table *t, struct line_record *r,
	const struct line_key *k, uint32_t level)
{
	size_t slot = slot_of(t, r);

	atomic_store(&t->levels[slot], level);
	if (atomic_load(&t->tags[slot]) == tag_of(t, k))
		return 0;
	atomic_store(&t->levels[slot], 0);
	return -1;
}

struct line_record *
table_next(const struct table *t, size_t *at)
{
	while (*at < t->slots) {
		size_t slot = (*at)++;

		if (atomic_load_explicit(&t->tags[slot],
			    memory_order_relaxed) != 0)
			return &t->records[slot];
	}
	return NULL;
}

struct line_record *
table_next_level(const struct table *t, size_t *at)
{
	while (t->levels != NULL && *at < t->slots) {
		size_t slot = (*at)++;

		if (atomic_load_explicit(&t->levels[slot],
			    memory_order_relaxed) != 0)
			return &t->records[slot];
	}
	return NULL;
}

void
table_notice(struct table *t, const struct line_record *r)
{
	uint64_t n = atomic_fetch_add_explicit(&t->head->noticed, 1,
		memory_order_relaxed);

	atomic_store_explicit(&t->head->notice[n % NOTICES],
		(uint32_t)slot_of(t, r) + 1, memory_order_release);
}

/* The words are any relay's: a slot that is none is like one half written. */
int
table_noticed(struct table *t, uint64_t *at, struct line_record **r_r)
{
	uint64_t head = atomic_load_explicit(&t->head->noticed,
		memory_order_acquire);
	uint32_t slot;

	if (*at == head)
		return 0;
	if (head - *at > NOTICES) {
		*at = head;
		return -1;
	}
	slot = atomic_exchange(&t->head->notice[(*at)++ % NOTICES], 0);
	if (slot == 0 || slot > t->slots)
		return -1;
	*r_r = &t->records[slot - 1];
	return 1;
}

unsigned
table_suspects_below(const struct table *t, const struct line_key *parent,
	unsigned len, uint32_t level, struct line_record **line_r,
	unsigned enough)
{
	unsigned found = 0, bits = len > parent->len ? len - parent->len : 0;
	uint64_t top = 0;

	if (parent->family != AF_INET6 || len > 64 || bits > 16)
		return 0;
	for (unsigned i = 0; i < sizeof(parent->ip); i++)
		top = top << 8 | parent->ip[i];
	for (uint64_t n = 0; n >> bits == 0 && found < enough; n++) {
		struct line_key k = { .family = AF_INET6, .len = (uint8_t)len };
		uint64_t ip = top | n << (64 - len);
		struct line_record *r;

		for (unsigned i = sizeof(k.ip); i-- > 0; ip >>= 8)
			k.ip[i] = (uint8_t)ip;
		r = table_find(t, &k);
		if (r != NULL && (table_level(t, r) & LEVEL_MASK) >= level)
			line_r[found++] = r;
	}
	return found;
}

size_t
table_repair(struct table *t)
{
	size_t removed = 0;

	for (size_t slot = 0; slot < t->slots; slot++) {
		struct line_record *r = &t->records[slot];
		struct line_key k = r->key;
		struct table_aim p = aim_at(t, &k);
		uint64_t tag = atomic_load(&t->tags[slot]);

		if (tag == 0 && t->may_set && atomic_load(&t->levels[slot]) != 0)
			atomic_store(&t->levels[slot], 0);
		if (tag == p.tag && lookup(t, &p) != slot &&
			settle(t, &p) != slot)
			removed++;
	}
	return removed;
}

void
table_stats(const struct table *t, struct table_stats *s_r)
{
	size_t at = 0;

	memset(s_r, 0, sizeof(*s_r));
	while (table_next(t, &at) != NULL)
		s_r->lines++;
	s_r->slots = t->slots;
	s_r->displaced = atomic_load(&t->head->displaced);
	s_r->lost = atomic_load(&t->head->lost);
	s_r->octets = t->counts_octets + t->levels_octets;
}
