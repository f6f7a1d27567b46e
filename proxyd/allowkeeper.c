/*
 * allowkeeper.c - the allowlist in the kernel: file and ledger, merged
 *
 * Does: bring every change into the kernel's two sets within the message that
 * brings it, replace the sets as a whole when much has changed, take out what
 * has expired, and look every ten seconds whether somebody else has emptied the
 * sets. Does not: read the ledger (control does) or create the sets (`rules
 * apply' does). Its rooms: allowkeeper_impl.h.
 *
 * Called from the parent's loop. Items come from control, which had them from
 * operators: every field is checked here, their number is bounded, and all they
 * can become is elements of our own sets.
 */
#include "proxyd/allowkeeper_impl.h"

#include <event2/event.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Longer timeouts than a set can count are begun anew this often. */
#define REARM_SECONDS 86400
#define KERNEL_SECONDS 2147483

/* ---- changes ---- */

static bool
both_kinds(const struct allowkeeper *k, uint8_t family)
{
	return k->kinds[allowsets_index(ALLOW_SET_DIRECT, family)] > 0 &&
		k->kinds[allowsets_index(ALLOW_SET_CARRY, family)] > 0;
}

static bool
is_inside(const struct prefix *inner, const struct prefix *outer)
{
	struct addr a = { .family = inner->family };

	memcpy(a.ip, inner->ip, sizeof(a.ip));
	return inner->len > outer->len && prefix_contains(outer, &a);
}

/* After a change of p: itself, and what lies in it, which may have become a
 * hole or ceased to be one. */
static int
changed(struct allowkeeper *k, const struct prefix *p, bool mixed)
{
	int rc = allowjob_touch(k, p);
	size_t n, done = 0;
	const struct allow_item *all = allowmap_all(k->merged, &n);

	if (!mixed || p->len == (p->family == AF_INET ? 32 : 128))
		return rc;
	for (size_t i = 0; i < n; i++) {
		if (!is_inside(&all[i].prefix, p))
			continue;
		if (++done > SINGLY_MAX) {
			allowjob_start(k);
			return rc;
		}
		rc |= allowjob_touch(k, &all[i].prefix);
	}
	return rc;
}

static int
put(struct allowkeeper *k, const struct allow_item *i)
{
	bool mixed = both_kinds(k, i->prefix.family);

	if (allowsets_put(k, i) != 0)
		return -2;
	return changed(k, &i->prefix, mixed || both_kinds(k, i->prefix.family));
}

/* Out of the ledger, or over: what the file says counts again. */
static int
take_out(struct allowkeeper *k, const struct prefix *which)
{
	const struct prefix p = *which;	/* the map moves */
	bool mixed = both_kinds(k, p.family);
	struct allow_item i;
	size_t n;
	const struct allow_item *all = allowmap_all(k->merged, &n);
	struct prefix last;

	if (n > 0)
		last = all[n - 1].prefix;
	if (allowsets_of_file(k->p->conf, &p, time(NULL), &i))
		return put(k, &i);
	allowsets_del(k, &p);
	/* it moved to a place that may have been filled already */
	if (k->filling && n > 0 && k->ntouched < SINGLY_MAX)
		k->touched[k->ntouched++] = last;
	return changed(k, &p, mixed);
}

/* ---- each second ---- */

static void
expire(struct allowkeeper *k, int64_t now)
{
	int64_t next = 0;
	size_t n, i = 0;

	for (;;) {
		const struct allow_item *all = allowmap_all(k->merged, &n);

		if (i >= n)
			break;
		if (allowsets_is_over(&all[i], now)) {
			(void)take_out(k, &all[i].prefix);
			continue;	/* another one has its place */
		}
		if (all[i].until != 0 && (next == 0 || all[i].until < next))
			next = all[i].until;
		i++;
	}
	k->next_expiry = next;
}

/* Timeouts that the kernel cannot count in full. */
static void
rearm(struct allowkeeper *k, int64_t now)
{
	size_t n, many = 0;
	const struct allow_item *all = allowmap_all(k->merged, &n);

	k->rearm_at = now + REARM_SECONDS;
	for (size_t i = 0; i < n; i++) {
		if (all[i].until <= now + KERNEL_SECONDS - 2 * REARM_SECONDS)
			continue;
		if (++many > SINGLY_MAX) {
			allowjob_start(k);
			return;
		}
		(void)allowjob_touch(k, &all[i].prefix);
	}
}

void
allowkeeper_tick(struct parent *p)
{
	struct allowkeeper *k = p->allow;
	int64_t now = time(NULL);

	if (!k->known)
		return;
	if (k->next_expiry != 0 && k->next_expiry <= now)
		expire(k, now);
	if (k->filling)
		return;
	if (now >= k->rearm_at)
		rearm(k, now);
	if (!k->filling && (k->odd > 0 || p->ticks % CHECK_TICKS == 0))
		allowcheck_now(k);
}

/* ---- messages of control ---- */

/* A control that is leaving has changed the ledger. Its successor may have read
 * it before, so only what the successor reads now is the whole truth. Returns
 * the number of that; without a successor whoever comes reads all. */
static uint32_t
ask_successor(struct allowkeeper *k, pid_t *pid_r)
{
	struct child *control = child_of(k->p, SLOT_CONTROL);

	*pid_r = control == NULL ? 0 : control->pid;
	if (++k->again == 0)
		k->again++;
	if (control != NULL)
		child_send_simple(control, MSG_ALLOW_AGAIN, k->again, 0);
	return k->again;
}

static void
hand_over(struct child *c, uint32_t cookie)
{
	struct allowkeeper *k = c->parent->allow;
	struct debt debt = { .to = c->pid, .cookie = cookie };

	if (cookie == 0)
		return;		/* nobody waits; the successor looks itself */
	if (c->parent->stopping) {
		child_send_simple(c, MSG_ALLOWED, cookie, 3);
		return;
	}
	debt.after = ask_successor(k, &debt.successor);
	allowjob_owe(k, debt);
}

/* The debts of those that left which this list of c's is the answer to. */
static void
inherit(struct allowkeeper *k, const struct child *c, uint32_t again)
{
	for (size_t i = 0; i < DEBTS_MAX; i++) {
		struct debt *d = &k->debt[i];

		if (d->successor != c->pid || again - d->after < INT32_MAX)
			d->after = 0;
	}
}

int
allowkeeper_change(struct child *c, const struct msg *m)
{
	struct allowkeeper *k = c->parent->allow;
	int rc;

	if (m->n > 1 || !allow_item_valid(&m->allow))
		return -1;
	if (!k->known)
		rc = -2;
	else if (m->n == 1)
		rc = put(k, &m->allow);
	else
		rc = take_out(k, &m->allow.prefix);
	child_send_simple(c, MSG_ALLOWED, m->m, rc == 0 ? 0 : rc == -1 ? 1 : 2);
	if (c->leaving && !c->parent->stopping) {
		pid_t pid;

		(void)ask_successor(k, &pid);	/* it tells its relays */
	}
	return 0;
}

void
allowkeeper_check(struct parent *p)
{
	if (p->allow->known && !p->allow->filling)
		allowcheck_synchronise(p->allow);
}

/* The items in a memfd that nobody can change any more; NULL: not so. */
static const struct allow_item *
map_items(int fd, size_t n)
{
	const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
	struct stat st;
	void *at;

	if (fcntl(fd, F_GET_SEALS) < 0 ||
	    (fcntl(fd, F_GET_SEALS) & seals) != seals || fstat(fd, &st) != 0 ||
	    (size_t)st.st_size != n * sizeof(struct allow_item))
		return NULL;
	at = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	return at == MAP_FAILED ? NULL : at;
}

static bool
same(const struct allow_item *a, const struct allow_item *b)
{
	return b != NULL && b->from_file == 0 && a->action == b->action &&
		a->until == b->until;
}

/* What a list that was told again leaves out or says differently; stops
 * counting at SINGLY_MAX. */
static size_t
differences(const struct allowkeeper *k, const struct allowmap *other,
	const struct allow_item *item, size_t n)
{
	size_t count = 0, nold;
	const struct allow_item *old = allowmap_all(k->merged, &nold);

	for (size_t i = 0; i < n && count <= SINGLY_MAX; i++)
		count += !same(&item[i], allowmap_get(k->merged,
			&item[i].prefix));
	for (size_t i = 0; i < nold && count <= SINGLY_MAX; i++)
		count += old[i].from_file == 0 &&
			allowmap_get(other, &old[i].prefix) == NULL;
	return count;
}

/* Few: one after the other, the rest of the sets is right. */
static void
apply_differences(struct allowkeeper *k, const struct allowmap *other,
	const struct allow_item *item, size_t n)
{
	size_t i = 0, nold;

	for (;;) {
		const struct allow_item *old = allowmap_all(k->merged, &nold);

		if (i >= nold)
			break;
		if (old[i].from_file == 0 &&
		    allowmap_get(other, &old[i].prefix) == NULL) {
			size_t before = nold;

			(void)take_out(k, &old[i].prefix);
			(void)allowmap_all(k->merged, &nold);
			if (nold < before)
				continue;
		}
		i++;
	}
	for (i = 0; i < n; i++)
		if (!same(&item[i], allowmap_get(k->merged, &item[i].prefix)))
			(void)put(k, &item[i]);
}

/* A map of these items and the file's others in place of the one there. */
static int
rebuild(struct allowkeeper *k, const struct conf *conf,
	const struct allow_item *item, size_t n)
{
	struct allowkeeper new = { .merged = allowmap_new() };

	for (size_t i = 0; new.merged != NULL && i < n; i++)
		if (allowsets_put(&new, &item[i]) != 0)
			allowmap_free(&new.merged);
	if (new.merged == NULL || allowsets_add_file(&new, conf) != 0) {
		allowmap_free(&new.merged);
		return -1;
	}
	allowmap_free(&k->merged);
	k->merged = new.merged;
	memcpy(k->kinds, new.kinds, sizeof(k->kinds));
	k->next_expiry = new.next_expiry;
	return 0;
}

static int
take_items(struct allowkeeper *k, const struct allow_item *item, size_t n)
{
	struct allowmap *other = allowmap_new();
	bool few = false;
	int rc = 0;

	for (size_t i = 0; i < n && rc == 0; i++)
		if (!allow_item_valid(&item[i]))
			rc = -1;
	for (size_t i = 0; i < n && rc == 0 && other != NULL && k->known; i++)
		if (allowmap_put(other, &item[i]) != 0)
			rc = -2;
	if (rc == 0 && other == NULL)
		rc = -2;
	if (rc == 0 && k->known && !k->filling)
		few = differences(k, other, item, n) <= SINGLY_MAX;
	if (rc == 0 && few) {
		apply_differences(k, other, item, n);
		allowjob_answer(k, k->stale);
	} else if (rc == 0 && rebuild(k, k->p->conf, item, n) != 0)
		rc = -2;
	allowmap_free(&other);
	if (rc == 0 && !few) {
		k->known = true;
		allowjob_drop(k);	/* what was being filled is another list */
		allowcheck_synchronise(k);
	}
	return rc;
}

int
allowkeeper_replace(struct child *c, const struct msg *m, int fd)
{
	struct allowkeeper *k = c->parent->allow;
	const struct allow_item *item = NULL;
	int rc = 0;

	if (m->n > ALLOWMAP_MAX || fd < 0)
		return -1;
	if (c->leaving) {
		hand_over(c, m->m);
		return 0;
	}
	if (m->n > 0 && (item = map_items(fd, m->n)) == NULL)
		return -1;
	/* one that is overtaken is in this one too, and ends with it */
	inherit(k, c, m->again);
	allowjob_owe(k, (struct debt){ .to = c->pid, .cookie = m->m });
	rc = take_items(k, item, m->n);
	if (item != NULL)
		munmap((void *)item, m->n * sizeof(*item));
	if (rc == -2)
		allowjob_answer(k, 2);
	return rc == -1 ? -1 : 0;
}

/* ---- start, reload, end ---- */

int
allowkeeper_reload(struct parent *p, const struct conf *conf)
{
	struct allowkeeper *k = p->allow;
	size_t n, kept = 0;
	const struct allow_item *all = allowmap_all(k->merged, &n);
	struct allow_item *ledger = calloc(n + 1, sizeof(*ledger));
	int rc;

	if (ledger == NULL)
		return -1;
	for (size_t i = 0; i < n; i++)
		if (all[i].from_file == 0)
			ledger[kept++] = all[i];
	rc = rebuild(k, conf, ledger, kept);
	free(ledger);
	if (rc == 0 && k->known) {
		allowjob_drop(k);
		allowcheck_synchronise(k);
	}
	return rc;
}

const struct allowmap *
allowkeeper_list(const struct parent *p, bool *known_r)
{
	*known_r = p->allow->known;
	return p->allow->merged;
}

int
allowkeeper_open(struct parent *p)
{
	struct allowkeeper *k = calloc(1, sizeof(*k));

	if (k == NULL)
		return -1;
	p->allow = k;
	k->p = p;
	k->rearm_at = time(NULL) + REARM_SECONDS;
	k->merged = allowmap_new();
	k->touched = calloc(SINGLY_MAX, sizeof(*k->touched));
	k->job = evtimer_new(p->base, allowjob_turn, k);
	return k->merged == NULL || k->touched == NULL || k->job == NULL ?
		-1 : 0;
}

void
allowkeeper_close(struct parent *p)
{
	struct allowkeeper *k = p->allow;

	if (k == NULL)
		return;
	if (k->filling)
		allowjob_drop(k);
	if (k->job != NULL)
		event_free(k->job);
	allowmap_free(&k->merged);
	free(k->touched);
	free(k);
	p->allow = NULL;
}
