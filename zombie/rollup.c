/*
 * rollup.c - IPv6 lines longer than a /56, judged together
 *
 * Does: find the parent of a line and the suspect lines of a parent, judge them
 * together, say which level a line has for what is done about it. Does not: set a
 * level, remember anything, or look at a line that is not suspect.
 *
 * Called by the relays for each connection of such a line (rollup_level) and by
 * control at a change of level. Who has a /56 chooses which of its lines he uses;
 * he has no other's, and what was only heard of a line is no part of the sum.
 */
#include "zombie/rollup.h"

#include <string.h>
#include <sys/socket.h>

#include "conf/conf.h"
#include "conf/lpm.h"

_Static_assert(ROLLUP_LEN == TABLE_PARENT_LEN, "one length of parents");

static int32_t
class_of(const struct conf *c, const struct line_key *k)
{
	struct prefix p;
	struct addr a = { .family = k->family };

	line_key_prefix(k, &p);
	memcpy(a.ip, p.ip, sizeof(a.ip));
	return lpm_find(c->class_lpm, &a, NULL);
}

bool
rollup_is_parent(const struct conf *c, const struct line_key *k)
{
	int32_t class;

	if (k->family != AF_INET6 || k->len != ROLLUP_LEN)
		return false;
	class = class_of(c, k);
	return class >= 0 && c->classes[class].roll_up &&
		c->classes[class].line_len6 > ROLLUP_LEN;
}

bool
rollup_parent(const struct conf *c, const struct line_key *k,
	struct line_key *parent_r)
{
	return line_key_parent(k, ROLLUP_LEN, parent_r) &&
		rollup_is_parent(c, parent_r) &&
		class_of(c, k) == class_of(c, parent_r);
}

unsigned
rollup_lines(const struct conf *c, const struct table *t,
	const struct line_key *parent, struct line_record *line_r[ROLLUP_MOST])
{
	int32_t class = class_of(c, parent);
	unsigned n, kept = 0;
	struct line_key k;

	if (class < 0)
		return 0;
	n = table_suspects_below(t, parent, c->classes[class].line_len6,
		LEVEL_SUSPECT, line_r, ROLLUP_MOST);
	for (unsigned i = 0; i < n; i++)
		if (table_key(t, line_r[i], &k) && class_of(c, &k) == class)
			line_r[kept++] = line_r[i];
	return kept;
}

static uint32_t
customer_of(const struct line_record *r)
{
	return r == NULL ? 0 : atomic_load_explicit(&r->customer,
		memory_order_relaxed);
}

static bool
is_other(uint32_t a, uint32_t b)
{
	return a != 0 && b != 0 && a != b;
}

enum level
rollup_judge(const struct conf *c, const struct detect *d,
	const struct table *t, const struct line_key *parent, uint32_t now,
	struct line_record *sum_r)
{
	struct line_record *line[ROLLUP_MOST];
	unsigned n = rollup_lines(c, t, parent, line);
	uint32_t customer = 0;
	enum level level;

	memset(sum_r, 0, sizeof(*sum_r));
	if (!detect_parent(n))
		return LEVEL_CLEAN;
	for (unsigned i = 0; i < n; i++) {
		uint32_t his = customer_of(line[i]);

		if (is_other(customer, his))
			return LEVEL_CLEAN;
		customer = his != 0 ? his : customer;
		detect_join(d, sum_r, line[i], now);
	}
	atomic_store_explicit(&sum_r->customer, customer, memory_order_relaxed);
	level = detect_level(d, sum_r, now);
	return level > LEVEL_SUSPECT ? level : LEVEL_SUSPECT;
}

static enum level
level_of(const struct table *t, const struct line_record *r)
{
	return r == NULL ? LEVEL_CLEAN : table_level(t, r) & LEVEL_MASK;
}

enum level
rollup_level(const struct conf *c, const struct table *t,
	const struct line_key *k)
{
	const struct line_record *r = table_find(t, k), *above;
	enum level own = level_of(t, r), most;
	struct line_key parent;

	if (!line_key_parent(k, ROLLUP_LEN, &parent))
		return own;
	above = table_find(t, &parent);
	most = level_of(t, above);
	/* seldom further than this */
	if (most <= own || is_other(customer_of(r), customer_of(above)) ||
	    !rollup_parent(c, k, &parent))
		return own;
	return most;
}
