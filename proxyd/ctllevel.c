/*
 * ctllevel.c - levels of lines, to the ledger and back
 *
 * Does: collect what ctlzombie.c has changed and have the scribe write it, once a
 * second; look now and then whether the levels that hold are those that are
 * written, since decay, expiry and leases change them too; bring those of an
 * earlier table back when the daemon has been restarted. Does not: decide about a
 * level, or wait for the disk: what finds no room is counted and said.
 *
 * Called by ctlzombie.c and ctlallow.c, in control's loop. What comes out of the
 * ledger is checked against the configuration like any word of an operator: a
 * line that is none of a class any more has no level.
 *
 * Must hold: nothing is written over the levels of an earlier table before they
 * have been read.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/log.h"
#include "proxyd/control.h"
#include "zombie/detect.h"
#include "zombie/siphash.h"

/* Changes that wait for a second to end. */
#define ROWS_MAX 1024
/* Seconds between looks whether what is written is what holds. */
#define LOOK_SECONDS 10
/* What is written is another thing than what holds. */
#define NOT_KNOWN UINT64_MAX

void
ctllevel_note(struct control *c, const struct ledger_level *change,
	char *evidence)
{
	struct ledger_levels *w = &c->level_rows;

	if (w->row == NULL)
		w->row = calloc(ROWS_MAX, sizeof(*w->row));
	if (w->row == NULL || w->n == ROWS_MAX || evidence == NULL) {
		c->levels_lost++;
		free(evidence);
		return;
	}
	w->row[w->n] = *change;
	w->row[w->n++].evidence = evidence;
	c->levels_look = true;
}

/* ---- to the ledger ---- */

/* Of all levels together, whatever their order. */
static uint64_t
fingerprint(const struct control *c, size_t *n_r)
{
	static const uint64_t key[2] = { 0, 0 };	/* nobody's secret */
	uint64_t sum = 0;
	size_t at = 0, n = 0;
	struct line_record *r;

	while ((r = table_next_level(c->table, &at)) != NULL) {
		struct {
			struct line_key k;
			uint32_t word;
		} one = { .word = 0 };

		if (!table_key(c->table, r, &one.k))
			continue;
		one.word = table_level(c->table, r);
		sum += siphash(key, &one, sizeof(one));
		n++;
	}
	*n_r = n;
	return sum;
}

/* All levels of now, as the ledger has them. */
static int
collect(const struct control *c, struct ledger_levels *w, size_t most)
{
	size_t at = 0;
	struct line_record *r;
	struct line_key k;

	w->now = calloc(most > 0 ? most : 1, sizeof(*w->now));
	if (w->now == NULL)
		return -1;
	while (w->nnow < most &&
	    (r = table_next_level(c->table, &at)) != NULL) {
		struct ledger_now *e = &w->now[w->nnow];
		uint32_t word = table_level(c->table, r);

		if (!table_key(c->table, r, &k) || (word & LEVEL_MASK) == 0)
			continue;
		ctlzombie_text(c, &k, e->line);
		e->level = word & LEVEL_MASK;
		e->pinned = (word & LEVEL_PINNED) != 0;
		e->since = ctlzombie_since(c, word);
		w->nnow++;
	}
	w->has_now = true;
	w->table = table_id(c->table);
	return 0;
}

/* Without memory the rows wait for the next second. */
static void
write_down(struct control *c, bool all, size_t most)
{
	struct scribe_job *j = c->scribe == NULL ? NULL :
		scribe_job_new(SCRIBE_LEVELS);
	size_t lost;

	if (j == NULL || (all && collect(c, &j->levels, most) != 0)) {
		scribe_job_free(j);
		c->levels_print = NOT_KNOWN;
		return;
	}
	/* the rows are the job's now */
	j->levels.row = c->level_rows.row;
	j->levels.n = c->level_rows.n;
	memset(&c->level_rows, 0, sizeof(c->level_rows));
	c->levels_busy = true;
	lost = j->levels.n;
	if (scribe_post(c->scribe, j) != 0) {
		c->levels_lost += lost;
		c->levels_busy = false;
		c->levels_print = NOT_KNOWN;
		ctlallow_alarm(c, "no memory, or it does not keep up");
	}
}

/* Levels of an earlier table, asked for. */
static void
restore(struct control *c)
{
	struct scribe_job *j;

	if (c->scribe == NULL || c->draining)
		return;
	if ((j = scribe_job_new(SCRIBE_RESTORE)) == NULL)
		return;
	j->levels.table = table_id(c->table);
	c->levels_busy = scribe_post(c->scribe, j) == 0;
}

void
ctllevel_second(struct control *c)
{
	bool look = c->levels_look || c->levels_seconds++ % LOOK_SECONDS == 0;
	uint64_t print = c->levels_print;
	size_t n = 0;
	bool is_other;

	if (c->table == NULL || c->levels_busy)
		return;
	if (!c->levels_restored) {
		restore(c);
		return;
	}
	/* one that leaves writes its changes; which levels hold its successor
	 * knows better */
	if (look && (!c->draining || c->is_last))
		print = fingerprint(c, &n);
	c->levels_look = false;
	if (print == c->levels_print && c->level_rows.n == 0)
		return;
	is_other = print != c->levels_print;
	c->levels_print = print;
	write_down(c, is_other, n < LEVELS_NOW_MAX ? n : LEVELS_NOW_MAX);
}

/* ---- and back ---- */

static bool
bring_back(struct control *c, const struct ledger_now *e)
{
	struct line_record *r;
	char why[160];
	struct line_key k;

	if (e->level == LEVEL_CLEAN || e->level > LEVEL_ZOMBIE ||
	    ctlzombie_line(c, e->line, &k, why) != NULL)
		return false;
	r = table_enter(c->table, &k, table_now(c->table));
	/* an operator may have been faster than the ledger */
	if (r == NULL || (table_level(c->table, r) & LEVEL_MASK) != 0)
		return false;
	return ctlzombie_bring_back(c, r, &k, e->level, e->pinned) == 0;
}

void
ctllevel_done(struct control *c, struct scribe_job *j)
{
	size_t back = 0;

	c->levels_busy = false;
	if (j->rc < 0) {
		/* what holds is written again, what was is lost */
		c->levels_lost += j->op == SCRIBE_LEVELS ? j->levels.n : 0;
		c->levels_print = NOT_KNOWN;
		ctlallow_alarm(c, j->error);
		return;
	}
	if (j->op != SCRIBE_RESTORE)
		return;
	for (size_t i = 0; i < j->levels.nnow; i++)
		back += bring_back(c, &j->levels.now[i]);
	c->levels_restored = c->levels_look = true;
	if (j->levels.nnow > 0)
		c->levels_print = NOT_KNOWN;
	if (j->levels.nnow > 0)
		log_info("%zu of %zu levels of lines are back from the ledger",
			back, j->levels.nnow);
}

void
ctllevel_close(struct control *c)
{
	/* whether one is under way or not: they are done in order */
	c->levels_busy = false;
	c->levels_look = true;
	if (c->levels_restored)
		ctllevel_second(c);
	scribe_levels_free(&c->level_rows);
}
