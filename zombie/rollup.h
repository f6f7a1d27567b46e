/*
 * rollup.h - IPv6 lines longer than a /56, judged together
 *
 * Where the lines of a class are /64 (or anything longer than /56), one machine
 * can hop among those of its own /56 and leave each before its score says
 * anything. So ROLLUP_LINES or more suspect lines of a /56, their parent, are
 * read as one line whose scores are their sums (detect_join()): of the same steps
 * one line's score would have been no greater. The level that comes of it, at
 * least suspect, is the parent's; for what is done about its lines, each of them
 * has at least that level, also one that was never seen.
 *
 * - A /56 belongs to the class that its first address is in, and to that class's
 *   lines; those of another class inside of it are neither counted nor raised.
 * - Lines whose leases name different customers are different people: they have
 *   no parent, and one customer's parent raises no other customer's line.
 * - subscribers.roll_up = false: the class's lines have no parents, for networks
 *   that give each customer one /64.
 *
 * The parent's level stands in its own record of the table, set by control alone
 * (proxyd/ctlrollup.c). Reading it costs one more look-up for lines longer than
 * /56, none for others. record->customer is any relay's to write: one that was
 * taken over can keep a parent from being raised.
 */
#ifndef SALLYPORT_ROLLUP_H
#define SALLYPORT_ROLLUP_H

#include "zombie/detect.h"

struct conf;

#define ROLLUP_LEN 56
#define ROLLUP_LINES 3
/* Lines of one parent, /64 being the longest. */
#define ROLLUP_MOST 256

/* The parent of a line, if its class rolls up. */
bool rollup_parent(const struct conf *c, const struct line_key *k,
	struct line_key *parent_r);
/* Could it be one? No line of its own class is as short as that. */
bool rollup_is_parent(const struct conf *c, const struct line_key *k);

/* Its lines that are suspect or more. How many; 256 look-ups, 10 us to 60 us. */
unsigned rollup_lines(const struct conf *c, const struct table *t,
	const struct line_key *parent,
	struct line_record *line_r[ROLLUP_MOST]);
/*
 * What its lines say together: all of them in *sum_r, and the level of that;
 * LEVEL_CLEAN: too few, or of different customers.
 */
enum level rollup_judge(const struct conf *c, const struct detect *d,
	const struct table *t, const struct line_key *parent, uint32_t now,
	struct line_record *sum_r);

/* The level of a line for what is done about it: its own or its parent's. */
enum level rollup_level(const struct conf *c, const struct table *t,
	const struct line_key *k);

#endif
