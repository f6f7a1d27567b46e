/*
 * ctlhour.c - hourly totals of lines that tried port 25, to the ledger
 *
 * Does: after each hour walk the table once, in slices, and have the scribe write
 * per class how many lines tried, their attempts, their destinations, the sessions
 * we refused, and which levels these lines have; and which dialects are common
 * among all lines that ever spoke, so that a report can tell rare ones. Does not:
 * keep anything of a single line: a row an hour and class is all there is, however
 * many lines.
 *
 * Called by ctlzombie.c once a second and by control.c for each event. An hour is
 * a first-contact window of the table, since its maps are what destinations are
 * counted from; it begins when the table did, not with the clock's. A control that
 * leaves writes its part of the hour, its successor adds the rest; of one that is
 * killed the part is lost. Senders of SYNs control the counts, as everywhere.
 *
 * Must hold: a walk takes milliseconds at a time, and a scribe that does not keep
 * up costs an hour's rows, nothing else.
 */
#include <stdlib.h>
#include <string.h>

#include "conf/lpm.h"
#include "lib/log.h"
#include "proxyd/control.h"
#include "zombie/table.h"

/* Records of one slice. */
#define SLICE 65536
/*
 * A dialect is common when more lines than DIALECT_FEW and more than one in
 * DIALECT_SHARE of those that ever spoke have it: each of the dozen mail programs
 * and devices that people have is more than a fiftieth of a network, one family of
 * bots on the one line in a hundred that is infected is less; and no more than 50
 * can be common, so the rows are few. In a small network a fiftieth is nobody:
 * twenty lines are few anywhere.
 */
#define DIALECT_FEW 20
#define DIALECT_SHARE 50
#define DIALECTS 65536

struct class_hour {
	uint32_t lines, level[LEVEL_ZOMBIE + 1];
	uint64_t attempts;
	double destinations;
};

/* What a slot's line had at the last walk. */
struct former {
	uint32_t line;		/* hash of the key and its customer; 0: none */
	uint32_t attempts;
};

struct hours {
	struct former *former;
	size_t slots;
	struct class_hour *class;	/* of the walk */
	uint64_t *blocked;		/* since the last rows */
	uint32_t *speakers;		/* by dialect; 0: of any */
	uint32_t window;		/* that is running */
	uint32_t of;			/* that is walked over */
	size_t at;
	bool walking, is_first, is_over;
};

/* ---- the walk ---- */

static uint32_t
identity(const struct table *t, const struct line_key *k,
	const struct line_record *r)
{
	struct {
		struct line_key key;
		uint32_t customer;
	} who = { *k, atomic_load(&r->customer) };
	uint32_t hash = table_hash(t, &who, sizeof(who));

	return hash != 0 ? hash : 1;
}

static int32_t
class_of(const struct control *c, const struct line_key *k)
{
	struct prefix p;
	struct addr a = { .family = k->family };
	int32_t class;

	line_key_prefix(k, &p);
	memcpy(a.ip, p.ip, sizeof(a.ip));
	class = lpm_find(c->conf->class_lpm, &a, NULL);
	/* a parent is no line */
	return class >= 0 && line_key_valid(k,
		c->conf->classes[class].line_len6,
		c->conf->classes[class].port_block) ? class : -1;
}

/* Attempts since the last walk. A line that was not in this slot then has all of
 * its own, if it is new; what came from another line with a lease is none. */
static uint32_t
attempts_of(const struct hours *h, const struct line_record *r,
	const struct former *was, const struct former *is)
{
	if (was->line == is->line && is->attempts >= was->attempts)
		return is->attempts - was->attempts;
	return atomic_load(&r->first) >= h->of * MAP_WINDOW ? is->attempts : 0;
}

static void
take_line(struct control *c, struct hours *h, const struct line_record *r,
	size_t slot)
{
	struct former is, was = h->former[slot];
	struct line_key k;
	struct class_hour *sum;
	uint32_t n;
	int32_t class;

	if (!table_key(c->table, r, &k) || (class = class_of(c, &k)) < 0)
		return;
	if (atomic_load(&r->dialect) != 0) {
		h->speakers[0]++;
		h->speakers[atomic_load(&r->dialect)]++;
	}
	is.line = identity(c->table, &k, r);
	is.attempts = atomic_load(&r->attempts);
	h->former[slot] = is;
	n = attempts_of(h, r, &was, &is);
	if (h->is_first || n == 0)
		return;
	sum = &h->class[class];
	sum->lines++;
	sum->attempts += n;
	sum->destinations += table_destinations_in(r, (uint16_t)h->of);
	sum->level[table_level(c->table, r) & LEVEL_MASK]++;
}

/* ---- to the ledger ---- */

/* When it began; to the minute, so that a clock that is set a little does not make
 * two hours of one. */
static int64_t
beginning(const struct control *c, const struct hours *h)
{
	return (table_unix(c->table, h->of * MAP_WINDOW) + 30) / 60 * 60;
}

static struct ledger_hour *
rows_of(const struct control *c, const struct hours *h, size_t *n_r)
{
	struct ledger_hour *row = calloc(c->conf->nclasses, sizeof(*row));

	*n_r = 0;
	for (size_t i = 0; row != NULL && i < c->conf->nclasses; i++) {
		const struct class_hour *s = &h->class[i];
		struct ledger_hour *e = &row[*n_r];

		if (s->lines == 0 && h->blocked[i] == 0)
			continue;
		e->at = beginning(c, h);
		snprintf(e->class, sizeof(e->class), "%s",
			c->conf->classes[i].name);
		e->lines = s->lines;
		e->attempts = s->attempts;
		e->destinations = (uint64_t)(s->destinations + .5);
		e->blocked = h->blocked[i];
		for (unsigned l = 0; l <= LEVEL_ZOMBIE; l++)
			e->level[l] = s->level[l];
		(*n_r)++;
	}
	return row;
}

/* The common ones, and how many spoke at all; of a table where nobody has, none:
 * it has not been counted. */
static struct ledger_dialect *
dialects_of(const struct hours *h, size_t *n_r)
{
	struct ledger_dialect *row = calloc(DIALECT_SHARE + 1, sizeof(*row));
	uint32_t share = h->speakers[0] / DIALECT_SHARE;

	*n_r = 0;
	for (unsigned i = 0; row != NULL && i < DIALECTS &&
	    *n_r <= DIALECT_SHARE; i++)
		if (h->speakers[i] > (i == 0 ? 0 : DIALECT_FEW) &&
		    (i == 0 || h->speakers[i] > share))
			row[(*n_r)++] = (struct ledger_dialect){
				(uint16_t)i, h->speakers[i] };
	return row;
}

static void
write_down(struct control *c, struct hours *h)
{
	struct scribe_job *j = scribe_job_new(SCRIBE_HOUR);

	if (j == NULL)
		return;
	j->hours.row = rows_of(c, h, &j->hours.n);
	j->hours.dialect = dialects_of(h, &j->hours.ndialects);
	j->hours.at = beginning(c, h);
	j->hours.table = table_id(c->table);
	memset(h->blocked, 0, c->conf->nclasses * sizeof(*h->blocked));
	if (j->hours.row == NULL || j->hours.dialect == NULL ||
	    c->scribe == NULL) {
		scribe_job_free(j);
		return;
	}
	/* a job that finds no room is freed: that hour is not written */
	if (scribe_post(c->scribe, j) != 0)
		ctlallow_alarm(c, "it does not keep up; an hour's totals are lost");
}

static void
begin(struct control *c, struct hours *h, uint32_t window)
{
	h->walking = true;
	h->at = 0;
	h->of = window;
	memset(h->class, 0, c->conf->nclasses * sizeof(*h->class));
	memset(h->speakers, 0, DIALECTS * sizeof(*h->speakers));
}

static void
walk_on(struct control *c, struct hours *h, size_t most)
{
	for (size_t i = 0; h->walking && i < most; i++) {
		const struct line_record *r = table_next(c->table, &h->at);

		if (r == NULL) {
			h->walking = false;
			write_down(c, h);
			h->is_first = false;
		} else if (h->at <= h->slots)
			take_line(c, h, r, h->at - 1);
	}
}

/* ---- the clock ---- */

static struct hours *
hours_new(struct control *c)
{
	struct hours *h = calloc(1, sizeof(*h));
	struct table_stats s;

	if (h == NULL)
		return NULL;
	table_stats(c->table, &s);
	h->slots = s.slots;
	h->former = calloc(s.slots, sizeof(*h->former));
	h->class = calloc(c->conf->nclasses, sizeof(*h->class));
	h->blocked = calloc(c->conf->nclasses, sizeof(*h->blocked));
	h->speakers = calloc(DIALECTS, sizeof(*h->speakers));
	if (h->former == NULL || h->class == NULL || h->blocked == NULL ||
	    h->speakers == NULL) {
		free(h->former);
		free(h->class);
		free(h->blocked);
		free(h->speakers);
		free(h);
		return NULL;
	}
	h->window = table_now(c->table) / MAP_WINDOW;
	h->is_first = true;
	begin(c, h, h->window);
	return h;
}

void
ctlhour_open(struct control *c)
{
	c->hours = hours_new(c);
	if (c->hours == NULL)
		log_warn("no memory for hourly totals; none are written");
	else	/* what comes from now on is to be counted */
		walk_on(c, c->hours, SLICE);
}

void
ctlhour_note(struct control *c, const struct report *e)
{
	if (c->hours != NULL && e->kind == EVENT_BLOCK && e->class_index >= 0)
		c->hours->blocked[e->class_index]++;
}

/* All that is left to this process of the running hour. */
static void
finish(struct control *c, struct hours *h)
{
	if (h->is_over || h->is_first) {
		/* nothing to compare with: only what we refused */
		begin(c, h, h->window);
		h->walking = false;
		for (size_t i = 0; i < c->conf->nclasses; i++)
			if (h->blocked[i] != 0) {
				write_down(c, h);
				break;
			}
	} else {
		walk_on(c, h, SIZE_MAX);
		begin(c, h, h->window);
		walk_on(c, h, SIZE_MAX);
	}
	h->is_over = true;
}

void
ctlhour_second(struct control *c)
{
	struct hours *h = c->hours;
	uint32_t window = table_now(c->table) / MAP_WINDOW;

	if (h == NULL || h->is_over)
		return;
	walk_on(c, h, SLICE);
	if (c->draining) {
		/* its successor counts from now on */
		finish(c, h);
	} else if (!h->walking && window != h->window) {
		begin(c, h, h->window);
		h->window = window;
	}
}

void
ctlhour_close(struct control *c)
{
	struct hours *h = c->hours;

	if (h == NULL)
		return;
	finish(c, h);
	free(h->former);
	free(h->class);
	free(h->blocked);
	free(h->speakers);
	free(h);
	c->hours = NULL;
}
