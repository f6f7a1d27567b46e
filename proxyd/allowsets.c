/*
 * allowsets.c - what the allowlist's sets in the kernel should hold
 *
 * Does: hold what the allow file and the ledger say together (on the same
 * prefix the ledger wins), say what each set should have of an item, and bring
 * one prefix into the sets. Does not: know when; that is allowkeeper.c's, and
 * many at once are allowjob.c's.
 *
 * Called by the other files of the allowkeeper, in the parent. Items come from
 * control and were checked; all they can become is elements of our own sets.
 *
 * A set says yes or no; in which set a prefix matches depends on its action.
 * Where a prefix lies inside a shorter one of the other set, it is a hole there
 * (`nomatch').
 */
#include "proxyd/allowkeeper_impl.h"

#include <string.h>
#include <time.h>

#include "conf/lpm.h"

static unsigned
is_carried(unsigned action)
{
	return action == ACTION_RELAY || action == ACTION_SUBMIT;
}

unsigned
allowsets_index(enum allow_set set, uint8_t family)
{
	return (unsigned)set * 2 + (family == AF_INET6);
}

uint8_t
allowsets_family(unsigned set)
{
	return set % 2 == 0 ? AF_INET : AF_INET6;
}

bool
allowsets_is_over(const struct allow_item *i, int64_t now)
{
	return i->until != 0 && i->until <= now;
}

/* ---- the map ---- */

static void
count_kind(struct allowkeeper *k, const struct allow_item *i, bool more)
{
	size_t *n = &k->kinds[allowsets_index(is_carried(i->action),
		i->prefix.family)];

	*n = more ? *n + 1 : *n - 1;
}

int
allowsets_put(struct allowkeeper *k, const struct allow_item *i)
{
	const struct allow_item *old = allowmap_get(k->merged, &i->prefix);

	if (old != NULL)
		count_kind(k, old, false);
	if (allowmap_put(k->merged, i) != 0) {
		if (old != NULL)
			count_kind(k, old, true);
		return -1;
	}
	count_kind(k, i, true);
	if (i->until != 0 && (k->next_expiry == 0 || i->until < k->next_expiry))
		k->next_expiry = i->until;
	return 0;
}

void
allowsets_del(struct allowkeeper *k, const struct prefix *p)
{
	const struct allow_item *old = allowmap_get(k->merged, p);

	if (old != NULL)
		count_kind(k, old, false);
	(void)allowmap_del(k->merged, p);
}

/* What the file says about exactly this prefix. */
bool
allowsets_of_file(const struct conf *conf, const struct prefix *p, int64_t now,
	struct allow_item *i_r)
{
	int32_t n = lpm_get(conf->allow_lpm, p);

	if (n < 0)
		return false;
	memset(i_r, 0, sizeof(*i_r));
	i_r->prefix = *p;
	i_r->action = (uint8_t)conf->allow[n].action;
	i_r->until = conf->allow[n].until;
	i_r->from_file = 1;
	return !allowsets_is_over(i_r, now);
}

int
allowsets_add_file(struct allowkeeper *k, const struct conf *conf)
{
	int64_t now = time(NULL);
	struct allow_item i;

	for (size_t n = 0; n < conf->nallow; n++)
		if (allowmap_get(k->merged, &conf->allow[n].prefix) == NULL &&
		    allowsets_of_file(conf, &conf->allow[n].prefix, now, &i) &&
		    allowsets_put(k, &i) != 0)
			return -1;
	return 0;
}

/* ---- what the kernel should have ---- */

enum element
allowsets_wanted(const struct allowkeeper *k, enum allow_set set,
	const struct allow_item *i, int64_t now)
{
	const struct allow_item *around;

	if (allowsets_is_over(i, now))
		return ELEMENT_NONE;
	if (is_carried(i->action) == set)
		return ELEMENT_MATCH;
	if (k->kinds[allowsets_index(set, i->prefix.family)] == 0)
		return ELEMENT_NONE;
	around = allowmap_around(k->merged, &i->prefix, now);
	return around != NULL && is_carried(around->action) == set ?
		ELEMENT_HOLE : ELEMENT_NONE;
}

int64_t
allowsets_seconds(const struct allow_item *i, int64_t now)
{
	return i->until == 0 ? 0 : i->until > now ? i->until - now : 1;
}

int
allowsets_bring(struct allowkeeper *k, const struct prefix *p, bool second)
{
	const struct allow_item *i = allowmap_get(k->merged, p);
	int64_t now = time(NULL);
	int rc = 0;

	for (int set = 0; set < ALLOW_SET_COUNT; set++) {
		if (second && !k->made[allowsets_index(set, p->family)])
			continue;
		rc |= gate_allow(k->p->gate, set, second, p, i == NULL ?
			ELEMENT_NONE : allowsets_wanted(k, set, i, now),
			i == NULL ? 0 : allowsets_seconds(i, now));
	}
	return rc;
}
