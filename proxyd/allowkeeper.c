/*
 * allowkeeper.c - the allowlist in the kernel: file and ledger, merged
 *
 * Does: hold what the allow file and the ledger say together (on the same
 * prefix the ledger wins), bring every change into the kernel's two sets within
 * the message that brings it, replace the sets as a whole when much has
 * changed, take out what has expired, and look every ten seconds whether
 * somebody else has emptied the sets. Does not: read the ledger (control does)
 * or create the sets (`rules apply' does).
 *
 * Called from the parent's loop. Items come from control, which had them from
 * operators: every field is checked here, their number is bounded, and all they
 * can become is elements of our own sets.
 *
 * A set says yes or no; in which set a prefix matches depends on its action.
 * Where a prefix lies inside a shorter one of the other set, it is a hole there
 * (`nomatch'). Replacing fills second sets in slices, so that the tick and the
 * gate go on, and swaps all four at once: no packet is judged by half a list.
 */
#include <event2/event.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "conf/allowmap.h"
#include "conf/lpm.h"
#include "lib/kv.h"
#include "lib/log.h"
#include "proxyd/parent.h"

/* More changes than this at once: the sets are replaced. */
#define SINGLY_MAX 1000
/* Items looked at in one turn of the loop while sets are filled. */
#define SLICE_ITEMS 16384
#define CHECK_TICKS 10
/* A swap that is refused while a set is being listed: how often, how long. */
#define SWAP_WAITS_MAX 500
#define SWAP_WAIT_US 10000
/* The kernel's timers and ours differ by a second: as many looks in a row. */
#define ODD_MAX 3
/* Longer timeouts than a set can count are begun anew this often. */
#define REARM_SECONDS 86400
#define KERNEL_SECONDS 2147483

#define SETS 4	/* two, each in two families */

struct allowkeeper {
	struct parent *p;
	struct allowmap *merged;
	bool known;		/* control has told the ledger's content */
	bool stale;		/* the sets were not there when it changed */
	size_t kinds[SETS];	/* items that match in it */
	int64_t next_expiry;	/* Unix time, 0: none */
	int64_t rearm_at;
	unsigned odd;		/* looks in a row that found a difference */

	struct event *job;	/* replacing is under way when `filling' */
	bool filling;
	unsigned set;		/* being filled, SETS: all are */
	size_t at;
	bool made[SETS];
	bool swapped[SETS];
	unsigned waits;		/* for somebody who lists a set */
	struct prefix *touched;	/* changed meanwhile */
	size_t ntouched;
	bool owes;		/* the answer to a replacement */
	uint32_t cookie;
};

static unsigned
is_carried(unsigned action)
{
	return action == ACTION_RELAY || action == ACTION_SUBMIT;
}

static unsigned
set_of(enum allow_set set, uint8_t family)
{
	return (unsigned)set * 2 + (family == AF_INET6);
}

static uint8_t
family_of(unsigned set)
{
	return set % 2 == 0 ? AF_INET : AF_INET6;
}

static bool
is_over(const struct allow_item *i, int64_t now)
{
	return i->until != 0 && i->until <= now;
}

/* ---- the map ---- */

static void
count_kind(struct allowkeeper *k, const struct allow_item *i, bool more)
{
	size_t *n = &k->kinds[set_of(is_carried(i->action), i->prefix.family)];

	*n = more ? *n + 1 : *n - 1;
}

static int
map_put(struct allowkeeper *k, const struct allow_item *i)
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

static void
map_del(struct allowkeeper *k, const struct prefix *p)
{
	const struct allow_item *old = allowmap_get(k->merged, p);

	if (old != NULL)
		count_kind(k, old, false);
	(void)allowmap_del(k->merged, p);
}

/* What the file says about exactly this prefix. */
static bool
of_file(const struct conf *conf, const struct prefix *p, int64_t now,
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
	return !is_over(i_r, now);
}

static int
add_file(struct allowkeeper *k, const struct conf *conf)
{
	int64_t now = time(NULL);
	struct allow_item i;

	for (size_t n = 0; n < conf->nallow; n++)
		if (allowmap_get(k->merged, &conf->allow[n].prefix) == NULL &&
		    of_file(conf, &conf->allow[n].prefix, now, &i) &&
		    map_put(k, &i) != 0)
			return -1;
	return 0;
}

/* ---- what the kernel should have ---- */

static enum element
wanted(const struct allowkeeper *k, enum allow_set set,
	const struct allow_item *i, int64_t now)
{
	const struct allow_item *around;

	if (is_over(i, now))
		return ELEMENT_NONE;
	if (is_carried(i->action) == set)
		return ELEMENT_MATCH;
	if (k->kinds[set_of(set, i->prefix.family)] == 0)
		return ELEMENT_NONE;
	around = allowmap_around(k->merged, &i->prefix, now);
	return around != NULL && is_carried(around->action) == set ?
		ELEMENT_HOLE : ELEMENT_NONE;
}

static int64_t
seconds_of(const struct allow_item *i, int64_t now)
{
	return i->until == 0 ? 0 : i->until > now ? i->until - now : 1;
}

static int
bring(struct allowkeeper *k, const struct prefix *p, bool second)
{
	const struct allow_item *i = allowmap_get(k->merged, p);
	int64_t now = time(NULL);
	int rc = 0;

	for (int set = 0; set < ALLOW_SET_COUNT; set++) {
		if (second && !k->made[set_of(set, p->family)])
			continue;
		rc |= gate_allow(k->p->gate, set, second, p, i == NULL ?
			ELEMENT_NONE : wanted(k, set, i, now),
			i == NULL ? 0 : seconds_of(i, now));
	}
	return rc;
}

static void job_start(struct allowkeeper *k);

/* One prefix into the sets in use, and into those being filled. */
static int
touch(struct allowkeeper *k, const struct prefix *p)
{
	if (k->filling && k->ntouched < SINGLY_MAX)
		k->touched[k->ntouched++] = *p;
	else if (k->filling)
		job_start(k);	/* from the beginning, with all of it */
	return bring(k, p, false);
}

static bool
both_kinds(const struct allowkeeper *k, uint8_t family)
{
	return k->kinds[set_of(ALLOW_SET_DIRECT, family)] > 0 &&
		k->kinds[set_of(ALLOW_SET_CARRY, family)] > 0;
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
	int rc = touch(k, p);
	size_t n, done = 0;
	const struct allow_item *all = allowmap_all(k->merged, &n);

	if (!mixed || p->len == (p->family == AF_INET ? 32 : 128))
		return rc;
	for (size_t i = 0; i < n; i++) {
		if (!is_inside(&all[i].prefix, p))
			continue;
		if (++done > SINGLY_MAX) {
			job_start(k);
			return rc;
		}
		rc |= touch(k, &all[i].prefix);
	}
	return rc;
}

static int
put(struct allowkeeper *k, const struct allow_item *i)
{
	bool mixed = both_kinds(k, i->prefix.family);

	if (map_put(k, i) != 0)
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
	if (of_file(k->p->conf, &p, time(NULL), &i))
		return put(k, &i);
	map_del(k, &p);
	/* it moved to a place that may have been filled already */
	if (k->filling && n > 0 && k->ntouched < SINGLY_MAX)
		k->touched[k->ntouched++] = last;
	return changed(k, &p, mixed);
}

/* ---- replacing the sets ---- */

static void
say_done(struct allowkeeper *k, uint32_t state)
{
	struct child *control = child_of(k->p, SLOT_CONTROL);

	if (k->owes && control != NULL)
		child_send_simple(control, MSG_ALLOWED, k->cookie, state);
	k->owes = false;
}

static void
job_drop(struct allowkeeper *k)
{
	for (unsigned s = 0; s < SETS; s++)
		if (k->made[s])
			gate_allow_drop(k->p->gate, s / 2, family_of(s));
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

static void
job_start(struct allowkeeper *k)
{
	size_t n;

	(void)allowmap_all(k->merged, &n);
	job_drop(k);
	for (unsigned s = 0; s < SETS; s++) {
		/* without IPv6 in the kernel, or without rules */
		if (gate_allow_count(k->p->gate, s / 2, family_of(s)) < 0)
			continue;
		if (gate_allow_create(k->p->gate, s / 2, family_of(s),
			    k->kinds[s]) != 0) {
			job_drop(k);
			k->stale = true;
			say_done(k, 2);
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
		rc |= bring(k, &k->touched[i], true);
	for (unsigned s = 0; s < SETS && rc == 0; s++) {
		there = there || k->made[s];
		if (!k->made[s] || k->swapped[s])
			continue;
		rc = gate_allow_swap(k->p->gate, s / 2, family_of(s));
		k->swapped[s] = rc == 0;
	}
	if (rc == 1 && job_waits(k))
		return;
	job_drop(k);
	k->stale = rc != 0 || !there;
	k->odd = 0;
	say_done(k, rc != 0 ? 2 : there ? 0 : 1);
}

/* Up to SLICE_ITEMS items of the set in turn. -1: the kernel refused. */
static int
job_slice(struct allowkeeper *k)
{
	static struct allow_element batch[ALLOW_FILL_MAX];
	const uint8_t family = family_of(k->set);
	int64_t now = time(NULL);
	size_t n, many = 0, end;
	const struct allow_item *all = allowmap_all(k->merged, &n);
	int rc = 0;

	end = n - k->at > SLICE_ITEMS ? k->at + SLICE_ITEMS : n;
	for (; k->at < end && rc == 0; k->at++) {
		const struct allow_item *i = &all[k->at];

		if (i->prefix.family != family)
			continue;
		batch[many].element = wanted(k, k->set / 2, i, now);
		if (batch[many].element == ELEMENT_NONE)
			continue;
		batch[many].prefix = i->prefix;
		batch[many].seconds = seconds_of(i, now);
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

static void
on_job(evutil_socket_t fd, short what, void *arg)
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
		job_drop(k);
		k->stale = true;
		say_done(k, 2);
		return;
	}
	job_next(k);
}

/* ---- comparing with the kernel ---- */

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
			c->want[set_of(set, i->prefix.family)] +=
				wanted(k, set, i, now) != ELEMENT_NONE;
	for (unsigned s = 0; s < SETS; s++) {
		c->have[s] = gate_allow_count(k->p->gate, s / 2, family_of(s));
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
static void
synchronise(struct allowkeeper *k)
{
	struct counts c;
	size_t n;
	const struct allow_item *i = allowmap_all(k->merged, &n);

	k->stale = !count_all(k, &c);
	if (k->stale) {
		say_done(k, 1);
		return;
	}
	if (n > SINGLY_MAX) {
		job_start(k);
		return;
	}
	for (; n > 0; n--, i++)
		(void)bring(k, &i->prefix, false);
	(void)count_all(k, &c);
	if (find_odd(&c) >= 0)
		job_start(k);
	else
		say_done(k, 0);
}

static void
say_repair(int set, const struct counts *c)
{
	char line[256], name[64];
	struct kv k;

	snprintf(name, sizeof(name), "sallyport_%s%d",
		set / 2 == ALLOW_SET_CARRY ? "acarry" : "allow",
		family_of((unsigned)set) == AF_INET ? 4 : 6);
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

static void
check(struct allowkeeper *k)
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
		synchronise(k);
		return;
	}
	k->odd = set < 0 ? 0 : k->odd + 1;
	if (k->odd < ODD_MAX)
		return;
	k->odd = 0;
	say_repair(set, &c);
	synchronise(k);
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
		if (is_over(&all[i], now)) {
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
			job_start(k);
			return;
		}
		(void)touch(k, &all[i].prefix);
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
		check(k);
}

/* ---- messages of control ---- */

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
	return 0;
}

void
allowkeeper_check(struct parent *p)
{
	if (p->allow->known && !p->allow->filling)
		synchronise(p->allow);
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
		if (map_put(&new, &item[i]) != 0)
			allowmap_free(&new.merged);
	if (new.merged == NULL || add_file(&new, conf) != 0) {
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
		say_done(k, k->stale);
	} else if (rc == 0 && rebuild(k, k->p->conf, item, n) != 0)
		rc = -2;
	allowmap_free(&other);
	if (rc == 0 && !few) {
		k->known = true;
		job_drop(k);	/* what was being filled is another list */
		synchronise(k);
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
	if (m->n > 0 && (item = map_items(fd, m->n)) == NULL)
		return -1;
	say_done(k, 2);	/* an earlier one that is overtaken */
	k->owes = true;
	k->cookie = m->m;
	rc = take_items(k, item, m->n);
	if (item != NULL)
		munmap((void *)item, m->n * sizeof(*item));
	if (rc == -2)
		say_done(k, 2);
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
		job_drop(k);
		synchronise(k);
	}
	return rc;
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
	k->job = evtimer_new(p->base, on_job, k);
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
		job_drop(k);
	if (k->job != NULL)
		event_free(k->job);
	allowmap_free(&k->merged);
	free(k->touched);
	free(k);
	p->allow = NULL;
}
