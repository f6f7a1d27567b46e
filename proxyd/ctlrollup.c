/*
 * ctlrollup.c - levels of /56s whose lines are longer (zombie/rollup.h)
 *
 * Does: look again at the parent of each line whose level has changed, raise it
 * or take its level away, say so with its lines; show parents and their lines to
 * who asks. Does not: judge, or touch what an operator has pinned.
 *
 * Called by ctlzombie.c, ctllevel.c and ctllease.c. One look costs 256 look-ups of
 * the table, so parents wait in a queue and so many a second have their turn; one
 * that finds no room is found by a walk over all levels, which happens once an
 * hour anyway: changes that nobody told of (a class that is another one after a
 * reload) end there. A customer chooses which lines of his /56 become suspect; he
 * can fill the queue with his own parents, at 256 lines each.
 *
 * Must hold: a parent has a level of evidence as long as ROLLUP_LINES of its lines
 * are suspect, and not longer; it does not age by itself.
 */
#include <jansson.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "lib/kv.h"
#include "proxyd/control.h"
#include "zombie/rollup.h"

/* Parents of one second: 15 ms at most. */
#define TURNS 256
#define WALK_SECONDS 3600
/* Levels that the walk looks at in a second. */
#define WALK_SLICE 4096
/* Lines that are named; all of them count. */
#define NAMED 8

/* ---- the queue ---- */

static bool
enqueue(struct control *c, const struct line_key *parent)
{
	struct rollup_queue *q = &c->rollup;

	for (size_t i = 0; i < q->n; i++)
		if (line_key_same(&q->parent[i], parent))
			return true;
	if (q->n == ROLLUP_QUEUE)
		return false;
	q->parent[q->n++] = *parent;
	return true;
}

void
ctlrollup_touch(struct control *c, const struct line_key *k)
{
	struct line_key parent;

	if (rollup_is_parent(c->conf, k))
		parent = *k;
	else if (!rollup_parent(c->conf, k, &parent))
		return;
	if (!enqueue(c, &parent))
		c->rollup.walk = true;
}

/* On with the walk, as long as there is room. */
static void
walk_on(struct control *c)
{
	struct rollup_queue *q = &c->rollup;

	if (q->seconds++ % WALK_SECONDS == 0)
		q->walk = true;
	if (q->walk && !q->walking) {
		q->walk = false;
		q->walking = true;
		q->at = 0;
	}
	for (unsigned i = 0; q->walking && i < WALK_SLICE &&
	    q->n < ROLLUP_QUEUE / 2; i++) {
		const struct line_record *r = table_next_level(c->table,
			&q->at);
		struct line_key k;

		if (r == NULL)
			q->walking = false;
		else if (table_key(c->table, r, &k))
			ctlrollup_touch(c, &k);
	}
}

/* ---- one parent ---- */

/* All but whose it is, which its place in the table says. */
static void
store(struct line_record *r, const struct line_record *sum)
{
	const size_t at = sizeof(r->key);

	/* a reader meets some words of before and some of now, as ever */
	memcpy((uint8_t *)r + at, (const uint8_t *)sum + at, sizeof(*r) - at);
}

static void
judge(struct control *c, const struct line_key *parent)
{
	struct line_record sum, *r = table_find(c->table, parent);
	uint32_t now = table_now(c->table);
	uint32_t word = r == NULL ? 0 : table_level(c->table, r);
	enum level was = word & LEVEL_MASK;
	enum level level = rollup_judge(c->conf, &c->detect, c->table, parent,
		now, &sum);

	if (level == LEVEL_CLEAN) {
		if (was == LEVEL_CLEAN || (word & LEVEL_PINNED) != 0)
			return;
		detect_forgive(r);
		(void)ctlzombie_set(c, r, parent, LEVEL_CLEAN, "evidence",
			"too few of its lines are suspect");
		return;
	}
	if (r == NULL)
		r = table_enter(c->table, parent, now);
	if (r == NULL)
		return;	/* counted there */
	store(r, &sum);
	if (level > was)
		(void)ctlzombie_set(c, r, parent, level, "evidence",
			"its lines together");
}

void
ctlrollup_second(struct control *c)
{
	struct rollup_queue *q = &c->rollup;
	size_t n = q->n < TURNS ? q->n : TURNS;
	struct line_key turn[TURNS];

	memcpy(turn, q->parent, n * sizeof(*turn));
	q->n -= n;
	memmove(q->parent, q->parent + n, q->n * sizeof(*turn));
	for (size_t i = 0; i < n; i++)
		judge(c, &turn[i]);
	walk_on(c);
}

unsigned
ctlrollup_clear(struct control *c, const struct line_key *k,
	struct line_record *line_r[ROLLUP_MOST])
{
	return rollup_is_parent(c->conf, k) ? rollup_lines(c->conf, c->table, k,
		line_r) : 0;
}

/* ---- what is told ---- */

/* Names of the first lines, and how many there are. */
static unsigned
name_lines(const struct control *c, const struct line_key *parent,
	char name_r[NAMED][LINE_STRLEN])
{
	struct line_record *line[ROLLUP_MOST];
	unsigned n = rollup_lines(c->conf, c->table, parent, line);
	struct line_key k;

	for (unsigned i = 0; i < NAMED; i++)
		if (i < n && table_key(c->table, line[i], &k))
			ctlzombie_text(c, &k, name_r[i]);
		else
			name_r[i][0] = '\0';
	return n;
}

void
ctlrollup_log(const struct control *c, const struct line_key *k, struct kv *to)
{
	char name[NAMED][LINE_STRLEN], all[NAMED * LINE_STRLEN] = "";
	size_t len = 0;

	if (!rollup_is_parent(c->conf, k))
		return;
	kv_uint(to, "lines", name_lines(c, k, name));
	for (unsigned i = 0; i < NAMED && name[i][0] != '\0'; i++)
		len += (size_t)snprintf(all + len, sizeof(all) - len, "%s%s",
			i > 0 ? " " : "", name[i]);
	if (len > 0)
		kv_text(to, "suspects", all, len);
}

void
ctlrollup_lines(const struct control *c, const struct line_key *k, json_t *o)
{
	char name[NAMED][LINE_STRLEN];
	json_t *list;
	unsigned n;

	if (!rollup_is_parent(c->conf, k))
		return;
	n = name_lines(c, k, name);
	list = json_array();
	for (unsigned i = 0; i < NAMED && name[i][0] != '\0'; i++)
		json_array_append_new(list, json_string(name[i]));
	json_object_set_new(o, "lines", json_integer(n));
	json_object_set_new(o, "suspects", list);
}

void
ctlrollup_parent(const struct control *c, const struct line_key *k, json_t *o)
{
	const struct line_record *r;
	char text[LINE_STRLEN];
	struct line_key parent;
	uint32_t word;
	json_t *p;

	if (!rollup_parent(c->conf, k, &parent) ||
	    (r = table_find(c->table, &parent)) == NULL ||
	    ((word = table_level(c->table, r)) & LEVEL_MASK) == 0)
		return;
	ctlzombie_text(c, &parent, text);
	p = json_pack("{s:s,s:s,s:I,s:b,s:s}", "line", text,
		"level", level_name[word & LEVEL_MASK],
		"since", (json_int_t)ctlzombie_since(c, word),
		"pinned", (word & LEVEL_PINNED) != 0,
		"together", level_name[rollup_level(c->conf, c->table, k)]);
	ctlrollup_lines(c, &parent, p);
	json_object_set_new(o, "parent", p);
}
