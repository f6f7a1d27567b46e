/*
 * history.c - move the content of a line's record to another line
 *
 * Does: empty a record with one atomic exchange a field, add such content to a
 * record with atomics that cannot wrap. Does not: know leases (proxyd/
 * ctllease.c, ledgerlease.c), lock, or wait for the processes that count.
 *
 * Called by control alone, while nfq and the relays count in the same records.
 * Each field is exact: an increment is before the exchange or after it. Fields
 * differ from each other by what was counted in between, as for every reader of
 * the table. A history out of the ledger is checked by history_valid(); what a
 * relay has falsified in a record is carried like the rest.
 */
#include "zombie/history.h"

#include <string.h>

#include "zombie/detect.h"
#include "zombie/region.h"

#define WORDS (MAP_BITS / 64)

_Static_assert(sizeof(struct line_history) == 168, "no hidden octet");

uint32_t
history_customer(const struct table *t, const char *id)
{
	uint32_t hash = id[0] == '\0' ? 0 : table_hash(t, id, strlen(id));

	return hash != 0 || id[0] == '\0' ? hash : 1;
}

bool
history_is_empty(const struct line_history *h)
{
	static const struct line_history none;
	struct line_history bare = *h;

	bare.table = none.table;
	bare.first = bare.last = 0;
	bare.version = 0;
	return memcmp(&bare, &none, sizeof(bare)) == 0;
}

bool
history_valid(const struct line_history *h)
{
	return h->version == HISTORY_VERSION && h->first >= 0 &&
		h->last >= h->first && (h->level & LEVEL_MASK) <= LEVEL_ZOMBIE;
}

/* ---- take ---- */

#define TAKE(field) atomic_exchange_explicit(&(field), 0, memory_order_relaxed)

static void
take_counts(struct line_record *r, struct line_history *h)
{
	h->attempts = TAKE(r->attempts);
	h->sessions = TAKE(r->sessions);
	h->rate = TAKE(r->rate);
	h->retransmissions = TAKE(r->retransmissions);
	h->submission = TAKE(r->submission);
	h->back = TAKE(r->back);
	h->dialect = TAKE(r->dialect);
	h->helo = TAKE(r->helo);
	h->domains = TAKE(r->domains);
	h->syn = TAKE(r->syn);
	h->outcomes = TAKE(r->outcomes);
	h->hits = TAKE(r->hits);
	h->pace = TAKE(r->pace);
	h->bad_hour = TAKE(r->bad_hour);
	(void)TAKE(r->recent[0]);
	(void)TAKE(r->recent[1]);
	for (unsigned i = 0; i < EVIDENCE_COUNT; i++) {
		h->good[i] = TAKE(r->good[i]);
		h->bad[i] = TAKE(r->bad[i]);
		h->score[i] = TAKE(r->score[i]);
	}
}

/* map[0] is the window of `last', map[1] the one before; older bits go. */
static void
take_maps(struct line_record *r, uint32_t last, struct line_history *h)
{
	uint16_t window = atomic_load_explicit(&r->window,
		memory_order_relaxed);
	uint16_t age = (uint16_t)(last / MAP_WINDOW) - window;

	for (unsigned i = 0; i < WORDS; i++) {
		uint64_t newest = TAKE(r->map[window & 1][i]);
		uint64_t before = TAKE(r->map[(window & 1) ^ 1][i]);

		h->map[0][i] = age == 0 ? newest : 0;
		h->map[1][i] = age == 0 ? before : age == 1 ? newest : 0;
	}
}

void
history_take(struct table *t, const struct line_key *k, uint32_t customer,
	struct line_history *h_r)
{
	struct line_record *r = table_find(t, k);
	struct line_key holder;
	uint32_t last;

	memset(h_r, 0, sizeof(*h_r));
	h_r->version = HISTORY_VERSION;
	h_r->table = t->head->id;
	if (r == NULL || !table_key(t, r, &holder) || !line_key_same(&holder, k))
		return;
	last = atomic_load_explicit(&r->last, memory_order_relaxed);
	h_r->last = table_unix(t, last);
	h_r->first = table_unix(t, atomic_exchange_explicit(&r->first,
		table_now(t), memory_order_relaxed));
	if (h_r->first > h_r->last)
		h_r->first = h_r->last;
	take_counts(r, h_r);
	take_maps(r, last, h_r);
	h_r->level = table_level(t, r);
	if (h_r->level != 0)
		(void)table_set_level(t, r, k, 0);
	atomic_store_explicit(&r->customer, customer, memory_order_relaxed);
}

/* ---- give ---- */

static void
add32(_Atomic uint32_t *to, uint32_t n)
{
	uint32_t old = atomic_load_explicit(to, memory_order_relaxed);

	while (n > 0 && !atomic_compare_exchange_weak_explicit(to, &old,
		    old > UINT32_MAX - n ? UINT32_MAX : old + n,
		    memory_order_relaxed, memory_order_relaxed))
		;
}

static void
add16(_Atomic uint16_t *to, unsigned n)
{
	uint16_t old = atomic_load_explicit(to, memory_order_relaxed);

	while (n > 0 && !atomic_compare_exchange_weak_explicit(to, &old,
		    (uint16_t)(old + n > UINT16_MAX ? UINT16_MAX : old + n),
		    memory_order_relaxed, memory_order_relaxed))
		;
}

static void
raise16(_Atomic int16_t *to, int16_t n)
{
	int16_t old = atomic_load_explicit(to, memory_order_relaxed);

	while (n > old && !atomic_compare_exchange_weak_explicit(to, &old, n,
		    memory_order_relaxed, memory_order_relaxed))
		;
}

/* Words that cannot be added up: the line's own, if it has one. */
static void
fill16(_Atomic uint16_t *to, uint16_t n)
{
	uint16_t none = 0;

	(void)atomic_compare_exchange_strong(to, &none, n);
}

static void
give_counts(struct line_record *r, const struct line_history *h)
{
	add32(&r->attempts, h->attempts);
	add32(&r->sessions, h->sessions);
	add16(&r->retransmissions, h->retransmissions);
	add16(&r->submission, h->submission);
	add16(&r->back, h->back);
	fill16(&r->dialect, h->dialect);
	fill16(&r->outcomes, h->outcomes);
	for (unsigned i = 0; i < EVIDENCE_COUNT; i++) {
		add16(&r->good[i], h->good[i]);
		add16(&r->bad[i], h->bad[i]);
		raise16(&r->score[i], h->score[i]);
	}
}

/* Bits that this table's secret has made, in the window they belong to. */
static void
give_bits(struct line_record *r, unsigned windows_ago,
	const struct line_history *h)
{
	uint16_t window = atomic_load_explicit(&r->window,
		memory_order_relaxed);
	uint64_t no_syn = 0;

	atomic_fetch_or_explicit(&r->helo, h->helo, memory_order_relaxed);
	atomic_fetch_or_explicit(&r->domains, h->domains,
		memory_order_relaxed);
	(void)atomic_compare_exchange_strong(&r->syn, &no_syn, h->syn);
	for (unsigned m = 0; m + windows_ago < 2; m++)
		for (unsigned i = 0; i < WORDS; i++)
			atomic_fetch_or_explicit(
				&r->map[(window & 1) ^ (m + windows_ago)][i],
				h->map[m][i], memory_order_relaxed);
}

/* The hour of the latest bad event, and the bad replies counted in it. */
static void
give_hour(struct line_record *r, bool same_table, uint32_t now,
	const struct line_history *h)
{
	uint16_t hour = same_table ? h->bad_hour : detect_hour(now);
	uint16_t old = atomic_load_explicit(&r->bad_hour,
		memory_order_relaxed);

	if (h->bad_hour == 0)
		return;
	if (same_table && old == 0) {
		fill16(&r->hits, h->hits);
		fill16(&r->pace, h->pace);
	}
	while ((old == 0 || (int16_t)(uint16_t)(hour - old) > 0) &&
		!atomic_compare_exchange_weak_explicit(&r->bad_hour, &old,
			hour, memory_order_relaxed, memory_order_relaxed))
		;
}

static uint32_t
seconds_since(const struct table *t, int64_t when, uint32_t now)
{
	int64_t ago = table_unix(t, now) - when;

	return ago <= 0 ? 0 : ago >= UINT32_MAX ? UINT32_MAX : (uint32_t)ago;
}

static void
give_level(struct table *t, const struct line_key *k, struct line_record *r,
	uint32_t level, uint32_t now)
{
	uint32_t is = table_level(t, r);
	uint32_t flags = (is | level) & LEVEL_FLAGS;

	if ((level & LEVEL_MASK) <= (is & LEVEL_MASK))
		level = flags | (is & ~LEVEL_FLAGS);
	else	/* on this line since now */
		level = (level & LEVEL_MASK) | flags |
			(uint32_t)detect_hour(now) << LEVEL_HOUR_SHIFT;
	/* displaced in between: it is entered again, a clean line goes */
	while (level != is && r != NULL &&
		table_set_level(t, r, k, level) != 0)
		r = table_enter(t, k, now);
}

int
history_give(struct table *t, const struct line_key *k, uint32_t customer,
	const struct line_history *h)
{
	uint32_t now = table_now(t), age = seconds_since(t, h->last, now);
	uint32_t of_first = seconds_since(t, h->first, now);
	struct line_record *r = table_enter(t, k, now);

	if (r == NULL)
		return -1;
	record_advance(r, now);
	if (h->table == t->head->id && age < now)
		give_bits(r, now / MAP_WINDOW - (now - age) / MAP_WINDOW, h);
	add32(&r->rate, record_decayed(h->rate, age));
	give_counts(r, h);
	give_hour(r, h->table == t->head->id, now, h);
	if (of_first < now && now - of_first < atomic_load(&r->first))
		atomic_store_explicit(&r->first, now - of_first,
			memory_order_relaxed);
	atomic_store_explicit(&r->customer, customer, memory_order_relaxed);
	give_level(t, k, r, h->level, now);
	return 0;
}
