/*
 * detect.c - what the counts of one line mean: scores, voices, a level
 *
 * Does: keep the five scores, the pace, the outcomes and the bad replies of one
 * record, and make a level of them by the rules of detect.h. Does not: find
 * records (slots.c), count packets (record.c), set levels, read clocks, log.
 *
 * Called by nfq and the relays for every observation, by control to confirm, by
 * `sallyport simulate`. Single-word atomics on memory that others write at the
 * same moment; an update that is lost between two processes is one event of one
 * line.
 *
 * A line chooses what it says and dials, a server what it answers, a neighbour
 * what is only heard: rules 5 to 8 are about what each could do to a victim.
 */
#include "zombie/detect.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "conf/conf.h"
#include "zombie/region.h"
#include "zombie/rollup.h"

_Static_assert(CONF_ZOMBIE_KINDS == EVIDENCE_COUNT, "a group for each kind");

enum {
	OTHERS = 3,		/* rule 5, and names in detect_helo() */
	BAD_PER_NETWORK = 5,	/* rule 6: bad replies of one network an hour */
	NETWORKS = 3,		/* rule 6: so many must have refused */
	CELLS = 5, CELL_BITS = 3,	/* line_record.hits */
	OUTCOMES = 50, OUTCOMES_MIN = 5,	/* rule 7 */
	PACE_SECONDS = 240,	/* rule 3 */
	HOUR = 3600,
	CHILDREN = ROLLUP_LINES	/* DETECTION.md 3 */
};

const char *const level_name[LEVEL_ZOMBIE + 1] = {
	"clean", "suspect", "probable", "zombie"
};

const char *const evidence_name[EVIDENCE_COUNT] = {
	[EVIDENCE_CONTACT] = "first_contact",
	[EVIDENCE_UNKNOWN_USER] = "unknown_user",
	[EVIDENCE_REFUSAL] = "refusal",
	[EVIDENCE_NULL_SENDER] = "null_sender",
	[EVIDENCE_HELO] = "helo",
};

static int16_t
fixed(double x)
{
	return (int16_t)lround(x * SCORE_ONE);
}

void
detect_load(struct detect *d, const struct zombie_conf *z)
{
	memset(d, 0, sizeof(*d));
	for (unsigned i = 0; i < EVIDENCE_COUNT; i++) {
		double t0 = z->kind[i].innocent / 100.0;
		double t1 = z->kind[i].infected / 100.0;

		d->kind[i].mode = (enum kind_mode)z->kind[i].mode;
		d->kind[i].up = fixed(log(t1 / t0));
		d->kind[i].down = fixed(log((1 - t1) / (1 - t0)));
	}
	d->suspect = fixed(z->suspect / 10.0);
	d->probable = fixed(z->probable / 10.0);
	d->zombie = fixed(z->zombie / 10.0);
	d->pace = (uint8_t)((z->rate_attempts * PACE_SECONDS + HOUR - 1) / HOUR);
	/* linear counting the other way round: n destinations set so many bits */
	d->spread = (unsigned)lround(MAP_BITS *
		(1 - exp(-(double)z->rate_destinations / MAP_BITS)));
	d->decay = (uint16_t)z->decay;
}

/* ---- single words of a record ---- */

static uint16_t
get16(const _Atomic uint16_t *word)
{
	return atomic_load_explicit(word, memory_order_relaxed);
}

static void
set16(_Atomic uint16_t *word, uint16_t value)
{
	atomic_store_explicit(word, value, memory_order_relaxed);
}

static int16_t
score_of(const struct line_record *r, enum evidence kind)
{
	return atomic_load_explicit(&r->score[kind], memory_order_relaxed);
}

uint16_t
detect_hour(uint32_t now)
{
	return (uint16_t)(now / HOUR + 1);
}

/*
 * Sums of other days are over (rule 9). A score below 0 is what was heard: it
 * is not measured by the line's own bad events.
 */
static void
begin_again(const struct detect *d, struct line_record *r, uint32_t now)
{
	uint16_t bad = get16(&r->bad_hour);

	if (d->decay == 0 || bad == 0 ||
		(uint16_t)(detect_hour(now) - bad) <= d->decay)
		return;
	for (unsigned i = 0; i < EVIDENCE_COUNT; i++)
		if (score_of(r, i) > 0)
			atomic_store_explicit(&r->score[i], 0,
				memory_order_relaxed);
	set16(&r->bad_hour, 0);
}

/* Move a score. What is heard is kept as a negative number (rule 8). */
static void
add(const struct detect *d, struct line_record *r, enum evidence kind, bool bad,
	bool is_voice)
{
	int step = bad ? d->kind[kind].up : d->kind[kind].down;
	int top = is_voice ? d->zombie + SCORE_ABOVE : d->suspect;
	int16_t old = score_of(r, kind);
	int s;

	do {
		if (!is_voice && old > 0)
			return;
		s = (is_voice ? (old > 0 ? old : 0) : -old) + step;
		s = s < 0 ? 0 : s > top ? top : s;
		s = is_voice ? s : -s;
	} while (!atomic_compare_exchange_weak_explicit(&r->score[kind], &old,
		    (int16_t)s, memory_order_relaxed, memory_order_relaxed));
}

/* Acceptances in the low octet, others in the high one; old ones fade. */
static void
outcome(struct line_record *r, bool accepted)
{
	uint16_t old = get16(&r->outcomes);
	unsigned good = old & 0xff, bad = old >> 8;

	if (good + bad >= OUTCOMES) {
		good = (good * 4 + 2) / 5;
		bad = (bad * 4 + 2) / 5;
	}
	good += accepted;
	bad += !accepted;
	set16(&r->outcomes, (uint16_t)(bad << 8 | good));
}

unsigned
detect_outcomes(const struct line_record *r, unsigned *accepted_r)
{
	uint16_t word = get16(&r->outcomes);

	*accepted_r = word & 0xff;
	return (word & 0xff) + (word >> 8);
}

/*
 * Rule 6: one more reply of this network. False: it has given its share of bad
 * ones, and then its good ones do not count either, or a bot with many replies
 * would look calmer. Five cells of three bits, emptied when the hour of bad_hour
 * is over.
 */
static bool
is_heeded(struct table *t, struct line_record *r, const struct addr *dst,
	bool bad, uint32_t now)
{
	unsigned shift = table_network(t, dst) / (MAP_BITS / CELLS + 1) *
		CELL_BITS;
	uint16_t hits = get16(&r->hits);

	if (get16(&r->bad_hour) != detect_hour(now))
		hits = 0;
	if ((hits >> shift & 7) >= BAD_PER_NETWORK) {
		set16(&r->hits, hits);
		return false;
	}
	if (bad)
		set16(&r->hits, (uint16_t)(hits + (1u << shift)));
	return true;
}

/* How many of the cells have refused in this hour. */
static unsigned
refusers(const struct line_record *r, uint32_t now)
{
	uint16_t hits = get16(&r->hits);
	unsigned n = 0;

	if (get16(&r->bad_hour) != detect_hour(now))
		return 0;
	for (unsigned i = 0; i < CELLS; i++)
		n += (hits >> i * CELL_BITS & 7) != 0;
	return n;
}

/* ---- the rate (rule 3) ---- */

static uint8_t
quarter(uint32_t now)
{
	return (uint8_t)(now / PACE_SECONDS);
}

/*
 * One more session in these four minutes: their number in the high octet, which
 * comes round after 17 hours, hence the look at the time before.
 */
static void
pace(struct line_record *r, uint32_t before, uint32_t now)
{
	uint16_t old = get16(&r->pace);
	unsigned n = old & 0xff;

	if (old >> 8 != quarter(now) || now - before > PACE_SECONDS)
		n = 0;
	n += n < UINT8_MAX;
	set16(&r->pace, (uint16_t)(quarter(now) << 8 | n));
}

bool
detect_is_fast(const struct detect *d, const struct line_record *r,
	uint32_t now)
{
	uint16_t word = get16(&r->pace);
	uint32_t sessions = atomic_load_explicit(&r->sessions,
		memory_order_relaxed);

	if (word >> 8 == quarter(now) && (word & 0xff) >= d->pace)
		return true;
	/* the map may hold what was only heard: then it says nothing here */
	return table_heard(r) <= sessions && table_ones(r) >= d->spread;
}

/* ---- levels ---- */

/* Highest score of two kinds that count; what is heard is no part of it. */
static int
group(const struct detect *d, const struct line_record *r, enum evidence a,
	enum evidence b)
{
	int x = d->kind[a].mode == KIND_COUNT ? score_of(r, a) : 0;
	int y = d->kind[b].mode == KIND_COUNT ? score_of(r, b) : 0;

	return x > y ? x : y;
}

/* Rule 7. */
static bool
is_accepted(const struct line_record *r)
{
	unsigned accepted, known = detect_outcomes(r, &accepted);

	return known >= OUTCOMES_MIN && accepted * 10 >= known * 7;
}

static enum level
temper(const struct line_record *r, enum level level, bool speech)
{
	enum level most = speech ? LEVEL_PROBABLE : LEVEL_SUSPECT;

	return level > most && is_accepted(r) ? most : level;
}

enum level
detect_level(const struct detect *d, const struct line_record *r, uint32_t now)
{
	int network = group(d, r, EVIDENCE_CONTACT, EVIDENCE_CONTACT);
	int replies = group(d, r, EVIDENCE_UNKNOWN_USER, EVIDENCE_REFUSAL);
	int speech = group(d, r, EVIDENCE_NULL_SENDER, EVIDENCE_HELO);
	int lead = group(d, r, EVIDENCE_NULL_SENDER, EVIDENCE_NULL_SENDER);
	enum level level = LEVEL_CLEAN;
	unsigned groups;

	if (network >= d->suspect || replies >= d->suspect ||
		speech >= d->suspect || -network >= d->suspect)
		level = LEVEL_SUSPECT;
	if (replies >= d->suspect && refusers(r, now) < NETWORKS)
		replies = 0;
	groups = (network >= d->suspect) + (replies >= d->suspect) +
		(speech >= d->suspect);
	lead = replies > lead ? replies : lead;
	lead = network > lead ? network : lead;
	if (lead >= d->probable || groups >= 2)
		level = LEVEL_PROBABLE;
	if (groups >= 2 && speech > lead)
		lead = speech;
	if (lead >= d->zombie && (groups >= 2 || (network >= d->zombie &&
			detect_is_fast(d, r, now))))
		level = LEVEL_ZOMBIE;
	return temper(r, level, speech >= d->suspect);
}

enum level
detect_decay(const struct detect *d, const struct line_record *r,
	enum level level, uint32_t since, uint32_t now)
{
	uint16_t bad = get16(&r->bad_hour), set = detect_hour(since);
	unsigned steps;

	if (d->decay == 0)
		return level;
	if (bad == 0 || (int16_t)(bad - set) < 0 || is_accepted(r))
		bad = set;
	steps = (uint16_t)(detect_hour(now) - bad) / (d->decay + 1u);
	return steps >= level ? LEVEL_CLEAN : (enum level)(level - steps);
}

void
detect_forgive(struct line_record *r)
{
	for (unsigned i = 0; i < EVIDENCE_COUNT; i++)
		atomic_store_explicit(&r->score[i], 0, memory_order_relaxed);
	set16(&r->outcomes, 0);
	set16(&r->hits, 0);
	set16(&r->bad_hour, 0);
}

bool
detect_parent(unsigned suspect_children)
{
	return suspect_children >= CHILDREN;
}

/* ---- several lines as one ---- */

static uint32_t
get32(const _Atomic uint32_t *word)
{
	return atomic_load_explicit(word, memory_order_relaxed);
}

static void
join16(_Atomic uint16_t *sum, const _Atomic uint16_t *word)
{
	unsigned n = (unsigned)get16(sum) + get16(word);

	set16(sum, (uint16_t)(n < UINT16_MAX ? n : UINT16_MAX));
}

static void
join32(_Atomic uint32_t *sum, uint32_t n)
{
	uint32_t was = get32(sum);

	atomic_store_explicit(sum, n > UINT32_MAX - was ? UINT32_MAX : was + n,
		memory_order_relaxed);
}

/* Decayed rates, each valid at its own time, at the later of the two. */
static void
join_times(struct line_record *sum, const struct line_record *r)
{
	uint32_t last = get32(&r->last), was = get32(&sum->last);
	uint32_t first = get32(&r->first), earliest = get32(&sum->first);
	uint32_t rate = get32(&r->rate), before = get32(&sum->rate);

	if ((int32_t)(last - was) > 0) {
		before = record_decayed(before, last - was);
		atomic_store_explicit(&sum->last, last, memory_order_relaxed);
	} else
		rate = record_decayed(rate, was - last);
	atomic_store_explicit(&sum->rate, before, memory_order_relaxed);
	join32(&sum->rate, rate);
	if (earliest == 0 || first < earliest)
		atomic_store_explicit(&sum->first, first, memory_order_relaxed);
}

/* The maps of this window and of the one before. */
static void
join_maps(struct line_record *sum, const struct line_record *r, uint32_t now)
{
	uint16_t current = (uint16_t)(now / MAP_WINDOW);
	uint16_t age = (uint16_t)(current - get16(&r->window));

	set16(&sum->window, current);
	for (unsigned parity = 0; parity < 2; parity++)
		for (unsigned i = 0; i < MAP_BITS / 64; i++)
			if (age == 0 || (age == 1 &&
				parity == (get16(&r->window) & 1)))
				atomic_fetch_or_explicit(&sum->map[parity][i],
					atomic_load_explicit(&r->map[parity][i],
					memory_order_relaxed),
					memory_order_relaxed);
}

/* Outcomes; sessions in these four minutes; who refused in this hour. */
static void
join_recent(struct line_record *sum, const struct line_record *r, uint32_t now)
{
	unsigned x = get16(&sum->outcomes), y = get16(&r->outcomes);
	unsigned good = (x & 0xff) + (y & 0xff), bad = (x >> 8) + (y >> 8);
	uint16_t hour = get16(&r->bad_hour), hits = 0;
	unsigned n = get16(&sum->pace) & 0xff;

	for (; good > UINT8_MAX || bad > UINT8_MAX; good /= 2, bad /= 2)
		;
	set16(&sum->outcomes, (uint16_t)(bad << 8 | good));
	if (get16(&r->pace) >> 8 == quarter(now))
		n += get16(&r->pace) & 0xff;
	set16(&sum->pace, (uint16_t)(quarter(now) << 8 |
		(n < UINT8_MAX ? n : UINT8_MAX)));
	for (unsigned i = 0; i < CELLS; i++) {
		unsigned of = get16(&sum->hits) >> i * CELL_BITS & 7;

		if (hour == detect_hour(now))
			of += get16(&r->hits) >> i * CELL_BITS & 7;
		hits |= (uint16_t)((of < 7 ? of : 7) << i * CELL_BITS);
	}
	set16(&sum->hits, hits);
	if (hour != 0 && (get16(&sum->bad_hour) == 0 ||
		(int16_t)(hour - get16(&sum->bad_hour)) > 0))
		set16(&sum->bad_hour, hour);
}

void
detect_join(const struct detect *d, struct line_record *sum,
	const struct line_record *r, uint32_t now)
{
	const int top = d->zombie + SCORE_ABOVE;

	/* first of all: what is 0 has not been joined with anything */
	if (get32(&sum->sessions) == 0 || get16(&sum->dialect) ==
		get16(&r->dialect))
		set16(&sum->dialect, get16(&r->dialect));
	else
		set16(&sum->dialect, 0);
	for (unsigned i = 0; i < EVIDENCE_COUNT; i++) {
		int s = score_of(sum, i) + (score_of(r, i) > 0 ?
			score_of(r, i) : 0);

		atomic_store_explicit(&sum->score[i], (int16_t)(s < top ? s :
			top), memory_order_relaxed);
		join16(&sum->good[i], &r->good[i]);
		join16(&sum->bad[i], &r->bad[i]);
	}
	join_times(sum, r);
	join_maps(sum, r, now);
	join_recent(sum, r, now);
	join32(&sum->attempts, get32(&r->attempts));
	join32(&sum->sessions, get32(&r->sessions));
	atomic_fetch_or_explicit(&sum->helo, get32(&r->helo),
		memory_order_relaxed);
	atomic_fetch_or_explicit(&sum->domains, get32(&r->domains),
		memory_order_relaxed);
	atomic_store_explicit(&sum->syn, atomic_load_explicit(&r->syn,
		memory_order_relaxed), memory_order_relaxed);
}

/* ---- observations ---- */

/* Count and score. False: it had no weight. */
static void
observe(const struct detect *d, struct line_record *r, enum evidence kind,
	bool bad, uint32_t now, bool is_voice)
{
	table_count(bad ? &r->bad[kind] : &r->good[kind]);
	add(d, r, kind, bad, is_voice);
	if (bad && is_voice)
		set16(&r->bad_hour, detect_hour(now));
}

static enum level
lifted(const struct detect *d, const struct line_record *r, uint32_t now,
	enum level before)
{
	enum level after = detect_level(d, r, now);

	return after > before ? after : LEVEL_CLEAN;
}

enum level
detect_event(const struct detect *d, struct table *t, struct line_record *r,
	enum evidence kind, enum mark mark, const struct addr *dst,
	uint32_t now, bool is_voice)
{
	bool is_reply = kind == EVIDENCE_UNKNOWN_USER ||
		kind == EVIDENCE_REFUSAL;
	enum level before;

	if (d->kind[kind].mode == KIND_OFF)
		return LEVEL_CLEAN;
	begin_again(d, r, now);
	before = detect_level(d, r, now);
	if (is_reply && !is_heeded(t, r, dst, mark != MARK_GOOD, now)) {
		table_count(mark != MARK_GOOD ? &r->bad[kind] :
			&r->good[kind]);
		return LEVEL_CLEAN;
	}
	if (is_voice && is_reply && (mark == MARK_BAD ||
			(mark == MARK_GOOD && kind == EVIDENCE_REFUSAL)))
		outcome(r, mark == MARK_GOOD);
	observe(d, r, kind, mark != MARK_GOOD, now, is_voice);
	return lifted(d, r, now, before);
}

int
detect_contact(const struct detect *d, struct table *t, struct line_record *r,
	uint32_t now, const struct addr *dst, uint32_t tuple, bool is_voice,
	enum level *lifted_r)
{
	uint32_t last = atomic_load_explicit(&r->last, memory_order_relaxed);
	enum level before;
	int found;

	*lifted_r = LEVEL_CLEAN;
	if (d->kind[EVIDENCE_CONTACT].mode == KIND_OFF)
		return table_contact(t, r, now, dst, tuple, is_voice);
	begin_again(d, r, now);
	before = detect_level(d, r, now);
	found = table_contact(t, r, now, dst, tuple, is_voice);
	if (found < 0)
		return found;
	if (is_voice)
		pace(r, last, now);
	/* rule 5: itself and three others */
	if (found == 0 || table_spread(r) > OTHERS)
		observe(d, r, EVIDENCE_CONTACT, found == 1, now, is_voice);
	*lifted_r = lifted(d, r, now, before);
	return found;
}

enum level
detect_helo(const struct detect *d, struct table *t, struct line_record *r,
	const void *name, size_t len, bool is_bad, const struct addr *dst,
	uint32_t now)
{
	uint32_t bit = 1u << table_hash(t, name, len) % 32;
	uint32_t known = atomic_fetch_or_explicit(&r->helo, bit,
		memory_order_relaxed);

	/* a household has a few machines, each with its name; a map that is
	 * 3/4 full has seen too many to know any */
	if (((known & bit) == 0 && __builtin_popcount(known) >= OTHERS) ||
		__builtin_popcount(known) > 24)
		is_bad = true;
	return detect_event(d, t, r, EVIDENCE_HELO,
		is_bad ? MARK_BAD : MARK_GOOD, dst, now, true);
}
