/*
 * allowjob.c - the allowlist's sets replaced as a whole
 *
 * Does: fill second sets in slices, so that the tick and the gate go on, bring
 * what changes meanwhile into them too, and swap all four at once: no packet
 * is judged by half a list. Tell control how a list it sent has ended. Does
 * not: decide when that is worth it.
 *
 * Called by the other files of the allowkeeper, in the parent; one job at a
 * time, a new one begins from the start. Somebody who lists a set holds it:
 * the swap waits for him, five seconds at most, and fails with what there was
 * left in force.
 */
#include "proxyd/allowkeeper_impl.h"

#include <event2/event.h>
#include <string.h>
#include <time.h>

#include "lib/log.h"

/* Items looked at in one turn of the loop while sets are filled. */
#define SLICE_ITEMS 16384
/* A swap that is refused while a set is being listed: how often, how long. */
#define SWAP_WAITS_MAX 500
#define SWAP_WAIT_US 10000

static void
settle(struct allowkeeper *k, struct debt *d, uint32_t state)
{
	struct child *c = k->p->children;

	while (c != NULL && c->pid != d->to)
		c = c->next;
	if (c != NULL)
		child_send_simple(c, MSG_ALLOWED, d->cookie, state);
	memset(d, 0, sizeof(*d));
}

void
allowjob_owe(struct allowkeeper *k, struct debt debt)
{
	struct debt *free = NULL;

	for (size_t i = 0; i < DEBTS_MAX && free == NULL; i++)
		if (k->debt[i].to == 0)
			free = &k->debt[i];
	if (free != NULL)
		*free = debt;
	else
		settle(k, &debt, 2);
}

void
allowjob_answer(struct allowkeeper *k, uint32_t state)
{
	for (size_t i = 0; i < DEBTS_MAX; i++)
		if (k->debt[i].to != 0 && k->debt[i].after == 0)
			settle(k, &k->debt[i], state);
}

void
allowjob_drop(struct allowkeeper *k)
{
	for (unsigned s = 0; s < SETS; s++)
		if (k->made[s])
			gate_allow_drop(k->p->gate, s / 2, allowsets_family(s));
	memset(k->made, 0, sizeof(k->made));
	memset(k->swapped, 0, sizeof(k->swapped));
	k->waits = 0;
	k->filling = false;
	k->ntouched = 0;
}

static void
job_next(struct allowkeeper *k)
{
	const struct timeval now = { 0, 0 };

	/* a timer, not event_active(): others get their turn */
	evtimer_add(k->job, &now);
}

void
allowjob_start(struct allowkeeper *k)
{
	size_t n;

	(void)allowmap_all(k->merged, &n);
	allowjob_drop(k);
	for (unsigned s = 0; s < SETS; s++) {
		/* without IPv6 in the kernel, or without rules */
		if (gate_allow_count(k->p->gate, s / 2, allowsets_family(s)) < 0)
			continue;
		if (gate_allow_create(k->p->gate, s / 2, allowsets_family(s),
			    k->kinds[s]) != 0) {
			allowjob_drop(k);
			k->stale = true;
			allowjob_answer(k, 2);
			return;
		}
		k->made[s] = true;
	}
	k->filling = true;
	k->set = 0;
	k->at = 0;
	job_next(k);
}

/* An `ipset list' of half a million elements holds its set for a while. */
static bool
job_waits(struct allowkeeper *k)
{
	const struct timeval soon = { 0, SWAP_WAIT_US };

	if (++k->waits > SWAP_WAITS_MAX) {
		log_error("allowlist: a set is held by somebody who lists it");
		return false;
	}
	evtimer_add(k->job, &soon);
	return true;
}

static void
job_finish(struct allowkeeper *k)
{
	bool there = false;
	int rc = 0;

	for (size_t i = 0; i < k->ntouched; i++)
		rc |= allowsets_bring(k, &k->touched[i], true);
	for (unsigned s = 0; s < SETS && rc == 0; s++) {
		there = there || k->made[s];
		if (!k->made[s] || k->swapped[s])
			continue;
		rc = gate_allow_swap(k->p->gate, s / 2, allowsets_family(s));
		k->swapped[s] = rc == 0;
	}
	if (rc == 1 && job_waits(k))
		return;
	allowjob_drop(k);
	k->stale = rc != 0 || !there;
	k->odd = 0;
	allowjob_answer(k, rc != 0 ? 2 : there ? 0 : 1);
}

/* Up to SLICE_ITEMS items of the set in turn. -1: the kernel refused. */
static int
job_slice(struct allowkeeper *k)
{
	static struct allow_element batch[ALLOW_FILL_MAX];
	const uint8_t family = allowsets_family(k->set);
	int64_t now = time(NULL);
	size_t n, many = 0, end;
	const struct allow_item *all = allowmap_all(k->merged, &n);
	int rc = 0;

	end = n - k->at > SLICE_ITEMS ? k->at + SLICE_ITEMS : n;
	for (; k->at < end && rc == 0; k->at++) {
		const struct allow_item *i = &all[k->at];

		if (i->prefix.family != family)
			continue;
		batch[many].element = allowsets_wanted(k, k->set / 2, i, now);
		if (batch[many].element == ELEMENT_NONE)
			continue;
		batch[many].prefix = i->prefix;
		batch[many].seconds = allowsets_seconds(i, now);
		if (++many == ALLOW_FILL_MAX) {
			rc = gate_allow_fill(k->p->gate, k->set / 2, family,
				batch, many);
			many = 0;
		}
	}
	if (many > 0 && rc == 0)
		rc = gate_allow_fill(k->p->gate, k->set / 2, family, batch,
			many);
	return rc;
}

void
allowjob_turn(evutil_socket_t fd, short what, void *arg)
{
	struct allowkeeper *k = arg;
	size_t n;

	(void)fd;
	(void)what;
	if (!k->filling)
		return;
	(void)allowmap_all(k->merged, &n);
	while (k->set < SETS && (!k->made[k->set] || k->at >= n)) {
		k->set++;
		k->at = 0;
	}
	if (k->set == SETS) {
		job_finish(k);
		return;
	}
	if (job_slice(k) != 0) {
		log_error("allowlist: the sets cannot be filled; the next try "
			"is in %d s", CHECK_TICKS);
		allowjob_drop(k);
		k->stale = true;
		allowjob_answer(k, 2);
		return;
	}
	job_next(k);
}

/* One prefix into the sets in use, and into those being filled. */
int
allowjob_touch(struct allowkeeper *k, const struct prefix *p)
{
	if (k->filling && k->ntouched < SINGLY_MAX)
		k->touched[k->ntouched++] = *p;
	else if (k->filling)
		allowjob_start(k);	/* from the beginning, with all of it */
	return allowsets_bring(k, p, false);
}
