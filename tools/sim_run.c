/*
 * sim_run.c - lead invented lines past the detector and three baselines
 *
 * One record of a small table is used again for each line, begun anew; the
 * calls are those of the relay and of the SMTP evidence. Innocent lines have
 * been lines for two days before their days count; a bot is met fresh and is
 * watched until everything has named it, or for a day.
 *
 * The baselines: 30 sessions within an hour, 10 at once, and the sequential
 * probability ratio test (0.2, 0.9, error rates 0.01) on the same events, which
 * begins again when it has accepted.
 */
#include "tools/sim.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { DAY = 86400, START = 7200, WARM_DAYS = 2, HOUR_LIMIT = 30,
	ONCE_LIMIT = 10 };

struct baselines {
	double times[HOUR_LIMIT], ends[ONCE_LIMIT];
	unsigned at;
	double ratio;
};

struct course {
	const struct sim_work *work;
	const struct detect *detect;
	enum sim_mode mode;
	struct table *table;
	struct line_record *record;
	struct sim_line line;
	struct baselines base;
	enum level level;
	uint32_t since;
	unsigned events;
};

static struct line_record *
fresh_record(struct table *t)
{
	static const struct line_key key = { .family = AF_INET, .len = 32,
		.ip = { 198, 18, 0, 1 } };
	struct line_record *r = table_enter(t, &key, START);

	if (r == NULL)
		return NULL;
	/* a record without a key is begun again */
	memset((void *)r, 0, sizeof(*r));
	return table_enter(t, &key, START);
}

static void
lift(struct course *c, enum level level, uint32_t now)
{
	if (level > c->level) {
		c->level = level;
		c->since = now;
	}
}

static void
event(struct course *c, enum evidence kind, enum mark mark,
	const struct addr *dst, uint32_t now)
{
	lift(c, detect_event(c->detect, c->table, c->record, kind, mark, dst,
			now, true), now);
}

/* What the servers said, as far as it can be read. True: something bad. */
static bool
replies(struct course *c, const struct sim_session *s, const struct addr *dst,
	uint32_t now)
{
	static const double readable[SIM_MODES] = { 0, 1, .5, .1 };
	bool is_read = sim_random(&c->line.random) < readable[c->mode];

	if (s->refused && (s->at_connect || is_read)) {
		event(c, EVIDENCE_REFUSAL, s->deferred ? MARK_DEFERRED :
			MARK_BAD, dst, now);
		return true;
	}
	if (is_read)
		for (unsigned i = 0; i < s->recipients; i++)
			event(c, EVIDENCE_UNKNOWN_USER, i < s->unknown ?
				MARK_BAD : MARK_GOOD, dst, now);
	if (!is_read || s->unknown < s->recipients)
		event(c, EVIDENCE_REFUSAL, MARK_GOOD, dst, now);
	return is_read && s->unknown > 0;
}

/* One session through the detector. True: an SPRT would call it bad. */
static bool
observe(struct course *c, const struct sim_session *s, uint32_t now)
{
	struct addr dst = { .family = AF_INET, .port = 25 };
	enum level lifted;
	bool bad;

	memcpy(dst.ip, &s->network, sizeof(s->network));
	bad = detect_contact(c->detect, c->table, c->record, now, &dst,
		c->events + 1, true, &lifted) == 1;
	lift(c, lifted, now);
	if (s->helo != 0) {
		lift(c, detect_helo(c->detect, c->table, c->record, &s->helo,
			sizeof(s->helo), s->helo_bad, &dst, now), now);
		event(c, EVIDENCE_NULL_SENDER, s->null_sender ? MARK_BAD :
			MARK_GOOD, &dst, now);
	}
	if (c->mode != SIM_BLOCK)
		bad = replies(c, s, &dst, now);
	return bad;
}

/* Which baselines convict at this session, a bit each. */
static unsigned
baselines(struct baselines *b, const struct sim_session *s, bool bad)
{
	double *oldest = &b->times[b->at++ % HOUR_LIMIT], first = b->ends[0];
	unsigned fired = 0, place = 0, running = 1;

	if (*oldest > 0 && s->at - *oldest < 3600)
		fired |= 1u << BASE_HOUR;
	*oldest = s->at;
	for (unsigned i = 0; i < ONCE_LIMIT; i++) {
		running += b->ends[i] > s->at;
		if (b->ends[i] < first) {
			first = b->ends[i];
			place = i;
		}
	}
	b->ends[place] = s->at + s->lasts;
	if (running >= ONCE_LIMIT)
		fired |= 1u << BASE_ONCE;
	b->ratio += bad ? log(.9 / .2) : log(.1 / .8);
	if (b->ratio >= log(.99 / .01)) {
		fired |= 1u << BASE_SPRT;
		b->ratio = 0;
	} else if (b->ratio <= log(.01 / .99)) {
		b->ratio = 0;
	}
	return fired;
}

static void
bot(struct course *c, struct sim_tally *t)
{
	unsigned fired = 0, all = (1u << BASES) - 1;
	bool is_named = false;
	double first = c->line.at;
	struct sim_session s;

	while (c->line.at - first < DAY && !(is_named && fired == all)) {
		sim_line_next(&c->line, c->mode == SIM_BLOCK, &s);
		c->events++;
		fired |= baselines(&c->base, &s, observe(c, &s,
				START + (uint32_t)s.at));
		if (c->level == LEVEL_ZOMBIE && !is_named) {
			is_named = true;
			t->events[t->count] = c->events;
			t->seconds[t->count++] = (uint32_t)(s.at - first);
		}
		/* what a baseline has not found in so many it does not find */
		if (is_named && c->events >= 20000)
			break;
	}
	t->lines++;
	t->probable += c->level >= LEVEL_PROBABLE;
	t->zombie += is_named;
	for (unsigned i = 0; i < BASES; i++)
		t->base[i] += fired >> i & 1;
}

static void
end_day(long day, enum level top, unsigned fired, struct sim_tally *t)
{
	if (day < WARM_DAYS)
		return;
	t->line_days++;
	t->probable_days += top >= LEVEL_PROBABLE;
	t->zombie_days += top >= LEVEL_ZOMBIE;
	for (unsigned i = 0; i < BASES; i++)
		t->base_days[i] += fired >> i & 1;
}

static void
innocent(struct course *c, struct sim_tally *t)
{
	long day = -1, last = (long)c->work->days + WARM_DAYS;
	enum level top = LEVEL_CLEAN;
	unsigned fired = 0;
	struct sim_session s;

	while ((long)(c->line.at / DAY) < last) {
		uint32_t now = START + (uint32_t)c->line.at;

		if ((long)(c->line.at / DAY) != day) {
			end_day(day, top, fired, t);
			day = (long)(c->line.at / DAY);
			top = detect_decay(c->detect, c->record, c->level,
				c->since, now);
			c->since = top < c->level ? now : c->since;
			c->level = top;
			fired = 0;
		}
		sim_line_next(&c->line, c->mode == SIM_BLOCK, &s);
		c->events++;
		fired |= baselines(&c->base, &s, observe(c, &s, now));
		top = c->level > top ? c->level : top;
	}
	end_day(day, top, fired, t);
}

int
sim_run(const struct sim_work *w, enum sim_class class, enum sim_mode mode,
	struct sim_tally *tally_r)
{
	unsigned n = class == SIM_L1 || class == SIM_L4 ? w->lines * 2 :
		class == SIM_L3 ? w->lines / 4 + 1 : w->lines;
	struct table *t = table_new(64);

	memset(tally_r, 0, sizeof(*tally_r));
	for (unsigned i = 0; t != NULL && i < n; i++) {
		struct course c = { .work = w, .mode = mode, .table = t,
			.detect = &w->detect[mode != SIM_BLOCK] };

		c.record = fresh_record(t);
		/* the same lines in every mode */
		sim_line_draw(&c.line, class, w->seed * 1000003u +
			(uint64_t)class * 100000007u + i * 7919u);
		if (SIM_IS_BOT(class))
			bot(&c, tally_r);
		else
			innocent(&c, tally_r);
	}
	if (t == NULL)
		return -1;
	table_free(&t);
	return 0;
}

void
sim_add(struct sim_tally *a, const struct sim_tally *b)
{
	a->line_days += b->line_days;
	a->probable_days += b->probable_days;
	a->zombie_days += b->zombie_days;
	a->lines += b->lines;
	a->probable += b->probable;
	a->zombie += b->zombie;
	for (unsigned i = 0; i < BASES; i++) {
		a->base_days[i] += b->base_days[i];
		a->base[i] += b->base[i];
	}
	for (uint32_t i = 0; i < b->count && a->count < SIM_LINES_MAX; i++) {
		a->events[a->count] = b->events[i];
		a->seconds[a->count++] = b->seconds[i];
	}
}
