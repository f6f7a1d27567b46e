/*
 * allowcheck.c - are the allowlist's sets in the kernel as they should be?
 *
 * Does: count what each set should have and has; bring the whole list into
 * them, by element where that is little, else by replacing them; say so when
 * somebody else has changed them. Does not: look at the rest of the kernel's
 * rules.
 *
 * Called by allowkeeper.c in the parent, every ten seconds and whenever rules
 * were applied. Nothing here comes from a line.
 */
#include "proxyd/allowkeeper_impl.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "lib/kv.h"
#include "lib/log.h"

/* The kernel's timers and ours differ by a second: as many looks in a row. */
#define ODD_MAX 3

struct counts {
	int64_t want[SETS], have[SETS];
};

static bool
count_all(const struct allowkeeper *k, struct counts *c)
{
	int64_t now = time(NULL);
	size_t n;
	const struct allow_item *i = allowmap_all(k->merged, &n);
	bool there = false;

	memset(c, 0, sizeof(*c));
	for (; n > 0; n--, i++)
		for (int set = 0; set < ALLOW_SET_COUNT; set++)
			c->want[allowsets_index(set, i->prefix.family)] +=
				allowsets_wanted(k, set, i, now) != ELEMENT_NONE;
	for (unsigned s = 0; s < SETS; s++) {
		c->have[s] = gate_allow_count(k->p->gate, s / 2,
			allowsets_family(s));
		there |= c->have[s] >= 0;
	}
	return there;
}

/* The first set that is not as it should be, or -1. */
static int
find_odd(const struct counts *c)
{
	for (int s = 0; s < SETS; s++)
		if (c->have[s] >= 0 && c->have[s] != c->want[s])
			return s;
	return -1;
}

/* All of the map into the sets. Few are added to what is there, which leaves
 * sets that are right alone; if more is in them they are replaced. */
void
allowcheck_synchronise(struct allowkeeper *k)
{
	struct counts c;
	size_t n;
	const struct allow_item *i = allowmap_all(k->merged, &n);

	k->stale = !count_all(k, &c);
	if (k->stale) {
		allowjob_answer(k, 1);
		return;
	}
	if (n > SINGLY_MAX) {
		allowjob_start(k);
		return;
	}
	for (; n > 0; n--, i++)
		(void)allowsets_bring(k, &i->prefix, false);
	(void)count_all(k, &c);
	if (find_odd(&c) >= 0)
		allowjob_start(k);
	else
		allowjob_answer(k, 0);
}

static void
say_repair(int set, const struct counts *c)
{
	char line[256], name[64];
	struct kv k;

	snprintf(name, sizeof(name), "sallyport_%s%d",
		set / 2 == ALLOW_SET_CARRY ? "acarry" : "allow",
		allowsets_family((unsigned)set) == AF_INET ? 4 : 6);
	kv_open(&k, line, sizeof(line), "alarm");
	kv_word(&k, "what", "allow-set-changed");
	kv_word(&k, "set", name);
	kv_uint(&k, "elements", (uint64_t)c->have[set]);
	kv_uint(&k, "expected", (uint64_t)c->want[set]);
	log_line(LOG_WARNING, line);
	log_warn("allowlist: somebody else has changed set %s; it is brought "
		"back to the allow file of the running configuration and the "
		"ledger", name);
}

void
allowcheck_now(struct allowkeeper *k)
{
	struct counts c;
	int set;

	if (!count_all(k, &c)) {
		k->stale = true;
		k->odd = 0;
		return;
	}
	set = find_odd(&c);
	if (k->stale && set < 0) {
		allowcheck_synchronise(k);
		return;
	}
	k->odd = set < 0 ? 0 : k->odd + 1;
	if (k->odd < ODD_MAX)
		return;
	k->odd = 0;
	say_repair(set, &c);
	allowcheck_synchronise(k);
}
