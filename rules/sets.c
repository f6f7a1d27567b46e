/*
 * sets.c - what each kernel set must contain
 *
 * Does: turns classes, allowlist, pass_destinations and the list of special
 * addresses into the entries of hash:net sets, so that one look-up of the
 * kernel, in which the longest prefix wins, gives the same answer as the
 * configuration. A set says yes or no; where a more specific prefix belongs
 * to something else it becomes a `nomatch' entry, but only inside a prefix of
 * this set (a hole needs something around it).
 * Does not: talk to the kernel, read files, resolve names.
 *
 * Called by render.c (show, apply) and verify.c. The prefixes have no host
 * bits set and classes have no prefix in common; both were checked by conf/.
 * An attacker controls nothing here; the operator's files do.
 */
#include "rules/sets.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/allowmap.h"
#include "conf/conf.h"

/* A prefix and what the configuration makes of it. */
struct owner {
	struct prefix prefix;
	int64_t until;
	unsigned kinds;		/* bits: in which sets it is a match */
	size_t order;		/* position in the configuration */
};

struct owners {
	struct owner *all;
	size_t n, cap;
};

enum {
	KIND_SUB = 1 << 0,
	KIND_BLOCK = 1 << 1,
	KIND_CARRY = 1 << 2,
	KIND_RESET = 1 << 3,
	KIND_DROP = 1 << 4,
	KIND_ALLOW = 1 << 5,
	KIND_ACARRY = 1 << 6,
	KIND_PLAIN = 1 << 7,	/* pass, never, own, pop3, imap, bypass */
	KIND_FIRST = 1 << 8,
};

static const struct {
	const char *base;
	const char *purpose;
	unsigned kind;
	bool timeout;
	bool filled_by_daemon;
} kinds[] = {
	{ SET_SUB, "every subscriber prefix", KIND_SUB, false, false },
	{ SET_BLOCK, "lines whose port 25 is answered with the refusal",
		KIND_BLOCK, false, false },
	{ SET_CARRY, "lines whose port 25 is relayed or submitted",
		KIND_CARRY, false, false },
	{ SET_RESET, "lines whose port 25 is reset", KIND_RESET, false, false },
	{ SET_DROP, "lines whose port 25 is dropped", KIND_DROP, false, false },
	{ SET_ALLOW, "allowlist: lines that send directly",
		KIND_ALLOW, true, false },
	{ SET_ACARRY, "allowlist: lines that are relayed or submitted",
		KIND_ACARRY, true, false },
	{ SET_PASS, "pass_destinations given as prefixes",
		KIND_PLAIN, false, false },
	{ SET_NEVER, "destinations never captured nor connected to",
		KIND_PLAIN, false, false },
	{ SET_OWN, "the provider's own hosts, kept by the daemon",
		KIND_PLAIN, false, true },
	{ SET_POP3, "POP3 servers to wrap, kept by the daemon",
		KIND_PLAIN, false, true },
	{ SET_IMAP, "IMAP servers to wrap, kept by the daemon",
		KIND_PLAIN, false, true },
	{ SET_FIRST, "lines whose first packets are queued",
		KIND_FIRST, false, false },
	{ SET_BYPASS, "bypassed lines", KIND_PLAIN, true, true },
	{ SET_BYPASSD, "bypassed destinations", KIND_PLAIN, true, true },
	{ SET_CALM, "lines whose running sessions a bypass has let pass",
		KIND_PLAIN, true, true },
	{ SET_CALMD, "the same of destinations", KIND_PLAIN, true, true },
};
#define NKINDS (sizeof(kinds) / sizeof(kinds[0]))

static const struct {
	const char *base;
	const char *purpose;
} bitmaps[] = {
	{ SET_LIVE, "the gate: ports captured while the daemon is well" },
	{ SET_ALL, "ports captured beyond the first packet" },
	{ SET_NFQ, "the gate of nfq: ports whose first packets are queued" },
	{ SET_OFF, "ports bypassed for everybody" },
	{ SET_CALMP, "ports whose running sessions a bypass has let pass" },
	{ SET_REDIRECT, "a sign: connections are redirected; stays empty" },
};
#define NBITMAPS (sizeof(bitmaps) / sizeof(bitmaps[0]))

const char *
set_name(char out[SET_NAME_SIZE], const char *base, uint8_t family)
{
	snprintf(out, SET_NAME_SIZE, "%s%s", base, family == AF_INET ? "4" :
		family == AF_INET6 ? "6" : "");
	return out;
}

static int
prefix_compare(const struct prefix *a, const struct prefix *b)
{
	int d = (a->family != AF_INET) - (b->family != AF_INET);

	if (d == 0)
		d = memcmp(a->ip, b->ip, sizeof(a->ip));
	return d != 0 ? d : (int)a->len - (int)b->len;
}

int
set_entry_compare(const void *a, const void *b)
{
	const struct set_entry *x = a, *y = b;

	return prefix_compare(&x->prefix, &y->prefix);
}

static int
owner_compare(const void *a, const void *b)
{
	const struct owner *x = a, *y = b;
	int d = prefix_compare(&x->prefix, &y->prefix);

	return d != 0 ? d : x->order < y->order ? -1 : x->order > y->order;
}

static int
owners_put(struct owners *o, const struct owner *new)
{
	if (o->n == o->cap) {
		size_t cap = o->cap == 0 ? 64 : o->cap * 2;
		struct owner *all = realloc(o->all, cap * sizeof(*all));

		if (all == NULL)
			return -1;
		o->all = all;
		o->cap = cap;
	}
	o->all[o->n] = *new;
	o->all[o->n].order = o->n;
	o->n++;
	return 0;
}

static int
owners_add(struct owners *o, const struct prefix *p, unsigned kind,
	int64_t until)
{
	struct owner new = { .prefix = *p, .until = until, .kinds = kind };

	if (p->len != 0)
		return owners_put(o, &new);
	/* hash:net has no /0: two halves. */
	new.prefix.len = 1;
	if (owners_put(o, &new) < 0)
		return -1;
	new.prefix.ip[0] = 0x80;
	/* a configured /1 must win over a half of /0 */
	return owners_put(o, &new);
}

/* Sort; of the same prefix twice the first in the configuration stays. */
static void
owners_sort(struct owners *o)
{
	size_t kept = 0;

	if (o->n == 0)
		return;
	qsort(o->all, o->n, sizeof(*o->all), owner_compare);
	for (size_t i = 1; i < o->n; i++)
		if (!prefix_equal(&o->all[i].prefix, &o->all[kept].prefix))
			o->all[++kept] = o->all[i];
	o->n = kept + 1;
}

static bool
prefix_inside(const struct prefix *inner, const struct prefix *outer)
{
	struct addr a = { .family = inner->family };

	memcpy(a.ip, inner->ip, sizeof(a.ip));
	return inner->len > outer->len && prefix_contains(outer, &a);
}

/*
 * The entries of one set: every owner of the kind, and a hole for every other
 * owner whose nearest enclosing prefix is one. Sorted order visits a prefix
 * right after those that contain it, so that a stack of at most one entry per
 * prefix length is enough.
 */
static int
set_fill(struct set *s, const struct owners *o, unsigned kind)
{
	const struct owner *around[129];
	size_t depth = 0;

	s->entries = calloc(o->n > 0 ? o->n : 1, sizeof(*s->entries));
	if (s->entries == NULL)
		return -1;
	for (size_t i = 0; i < o->n; i++) {
		const struct owner *w = &o->all[i];
		struct set_entry *e;

		while (depth > 0 && !prefix_inside(&w->prefix,
			    &around[depth - 1]->prefix))
			depth--;
		if (w->prefix.family == s->family && ((w->kinds & kind) != 0 ||
			    (depth > 0 &&
			    (around[depth - 1]->kinds & kind) != 0))) {
			e = &s->entries[s->nentries++];
			e->prefix = w->prefix;
			e->nomatch = (w->kinds & kind) == 0;
			e->until = w->until;
		}
		around[depth++] = w;
	}
	return 0;
}

/* A class that is enforced towards listed destinations has a set of its own:
 * see listed_sets(). */
static unsigned
class_kinds(const struct class_conf *k)
{
	unsigned first = conf_class_counts(k) ? KIND_FIRST : 0;

	if (k->enforce == ENFORCE_LISTED)
		return KIND_SUB | first;
	switch (k->effective) {
	case ACTION_BLOCK:
		return KIND_SUB | KIND_BLOCK | first;
	case ACTION_RELAY:
	case ACTION_SUBMIT:
		return KIND_SUB | KIND_CARRY | first;
	case ACTION_RESET:
		return KIND_SUB | KIND_RESET | first;
	case ACTION_DROP:
		return KIND_SUB | KIND_DROP | first;
	case ACTION_PASS:
	case ACTION_WATCH:
	case ACTION_COUNT:
		break;
	}
	return KIND_SUB | first;
}

/* only: who is in this class, and nothing else. Longer first: the sort keeps
 * the first of two, and a /1 that is configured must not lose to the half of a
 * /0. */
static int
classes_collect(const struct conf *c, const struct class_conf *only,
	struct owners *o)
{
	for (int all = 0; all < 2; all++) {
		for (size_t i = 0; i < c->nclasses; i++) {
			const struct class_conf *k = &c->classes[i];

			for (size_t j = 0; j < k->nprefixes; j++)
				if ((k->prefixes[j].len == 0) == (all == 1) &&
				    owners_add(o, &k->prefixes[j],
					    only == NULL ? class_kinds(k) :
					    k == only ? KIND_PLAIN : 0, 0) < 0)
					return -1;
		}
	}
	owners_sort(o);
	return 0;
}

static unsigned
allow_kind(unsigned action)
{
	return action == ACTION_RELAY || action == ACTION_SUBMIT ?
		KIND_ACARRY : KIND_ALLOW;
}

static int
ledger_collect(const struct conf *c, int64_t now, struct owners *o)
{
	size_t n;
	const struct allow_item *i = allowmap_all(c->ledger, &n);

	for (; n > 0; n--, i++)
		if ((i->until == 0 || i->until > now) && owners_add(o,
			    &i->prefix, allow_kind(i->action), i->until) < 0)
			return -1;
	return 0;
}

/* The ledger first: of the same prefix twice the sort keeps the first. */
static int
allow_collect(const struct conf *c, int64_t now, struct owners *o)
{
	if (c->ledger != NULL && ledger_collect(c, now, o) < 0)
		return -1;
	for (int all = 0; all < 2; all++) {
		for (size_t i = 0; i < c->nallow; i++) {
			const struct allow_entry *e = &c->allow[i];

			if ((e->until != 0 && e->until <= now) ||
			    (e->prefix.len == 0) != (all == 1))
				continue;
			if (owners_add(o, &e->prefix, allow_kind(e->action),
				    e->until) < 0)
				return -1;
		}
	}
	owners_sort(o);
	return 0;
}

static int
plain_collect(const struct prefix *p, size_t n, struct owners *o)
{
	for (size_t i = 0; i < n; i++)
		if (owners_add(o, &p[i], KIND_PLAIN, 0) < 0)
			return -1;
	return 0;
}

/* addr_special() of lib/addr.c as prefixes; a test compares the two. IPv6
 * outside of 2000::/3 is not assigned to anybody. */
static const char *const special4[] = {
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8",
	"169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.88.99.0/24",
	"192.168.0.0/16", "224.0.0.0/4", "240.0.0.0/4",
};
static const char *const special6[] = {
	"::/3", "4000::/2", "8000::/1", "2001::/32", "2001:10::/28",
	"2001:20::/28",
};
/* Translators: what is in front of the embedded IPv4 address. The first lies
 * inside of ::/3 and is a hole there, for ordinary addresses. */
#define NAT64 "64:ff9b::/96"
#define SIXTOFOUR "2002::/16"

static int
text_add(struct owners *o, const char *text, unsigned kind)
{
	const char *why;
	struct prefix p;

	if (prefix_parse(&p, text, &why) < 0)
		return -1;
	return owners_add(o, &p, kind, 0);
}

static int
embedded_add(struct owners *o, const char *translator,
	const struct prefix *inner)
{
	const char *why;
	struct prefix outer;

	if (prefix_parse(&outer, translator, &why) < 0)
		return -1;
	memcpy(outer.ip + outer.len / 8, inner->ip, 4);
	outer.len = (uint8_t)(outer.len + inner->len);
	return owners_add(o, &outer, KIND_PLAIN, 0);
}

/* What a translator would hand on to p. */
static int
translated_add(struct owners *o, const struct prefix *p)
{
	if (p->family != AF_INET)
		return 0;
	return embedded_add(o, NAT64, p) < 0 ||
		embedded_add(o, SIXTOFOUR, p) < 0 ? -1 : 0;
}

static int
never_collect(const struct conf *c, struct owners *o)
{
	if (plain_collect(c->never, c->nnever, o) < 0 ||
	    text_add(o, NAT64, 0) < 0)
		return -1;
	for (size_t i = 0; i < c->nnever; i++)
		if (translated_add(o, &c->never[i]) < 0)
			return -1;
	for (size_t i = 0; i < sizeof(special4) / sizeof(special4[0]); i++) {
		const char *why;
		struct prefix p;

		if (prefix_parse(&p, special4[i], &why) < 0 ||
		    owners_add(o, &p, KIND_PLAIN, 0) < 0 ||
		    translated_add(o, &p) < 0)
			return -1;
	}
	for (size_t i = 0; i < sizeof(special6) / sizeof(special6[0]); i++)
		if (text_add(o, special6[i], KIND_PLAIN) < 0)
			return -1;
	owners_sort(o);
	return 0;
}

static bool
is_in_set(const struct server_conf *s, const char *base)
{
	if (strcmp(base, SET_OWN) == 0)
		return s->own;
	return (strcmp(base, SET_POP3) == 0 ? &s->pop3 : &s->imap)->mode !=
		TLS_NONE;
}

/* Addresses of the configuration; what DNS says is added by the daemon. */
static int
servers_collect(const struct conf *c, const char *base, struct owners *o)
{
	struct prefix p;

	for (size_t i = 0; i < c->nservers; i++) {
		const struct server_conf *s = &c->servers[i];

		if (!is_in_set(s, base))
			continue;
		for (size_t j = 0; j < s->naddresses; j++) {
			prefix_of_addr(&p, &s->addresses[j], 128);
			if (owners_add(o, &p, KIND_PLAIN, 0) < 0)
				return -1;
		}
		if (plain_collect(s->prefixes, s->nprefixes, o) < 0)
			return -1;
	}
	owners_sort(o);
	return 0;
}

static int
owners_collect(const struct conf *c, int64_t now, const char *base,
	struct owners *o)
{
	if (strcmp(base, SET_ALLOW) == 0 || strcmp(base, SET_ACARRY) == 0)
		return allow_collect(c, now, o);
	if (strcmp(base, SET_NEVER) == 0)
		return never_collect(c, o);
	if (strcmp(base, SET_OWN) == 0 || strcmp(base, SET_POP3) == 0 ||
	    strcmp(base, SET_IMAP) == 0)
		return servers_collect(c, base, o);
	if (strncmp(base, SET_BYPASS, strlen(SET_BYPASS)) == 0 ||
	    strncmp(base, SET_CALM, strlen(SET_CALM)) == 0)
		return 0;
	if (strcmp(base, SET_PASS) != 0)
		return classes_collect(c, NULL, o);
	if (plain_collect(c->pass_prefixes, c->npass_prefixes, o) < 0)
		return -1;
	owners_sort(o);
	return 0;
}

/* Destinations of a class, also in the words of a NAT64 translator. */
static int
destinations_collect(const struct class_conf *k, struct owners *o)
{
	if (plain_collect(k->destinations, k->ndestinations, o) < 0)
		return -1;
	for (size_t i = 0; i < k->ndestinations; i++)
		if (k->destinations[i].family == AF_INET &&
		    embedded_add(o, NAT64, &k->destinations[i]) < 0)
			return -1;
	owners_sort(o);
	return 0;
}

/* One set in both families. */
static int
sets_add(struct sets *sets, const struct set *like, const struct owners *o,
	unsigned kind)
{
	for (int v6 = 0; v6 < 2; v6++) {
		struct set *s = &sets->all[sets->n++];

		*s = *like;
		s->family = v6 ? AF_INET6 : AF_INET;
		if (set_fill(s, o, kind) < 0)
			return -1;
	}
	return 0;
}

static int
listed_sets(const struct conf *c, size_t i, struct sets *sets)
{
	struct owners lines = { 0 }, destinations = { 0 };
	struct set line = { .purpose = "lines of a class with enforce listed" };
	struct set dst = { .purpose = "and its destinations" };
	int result = -1;

	snprintf(line.base, sizeof(line.base), SET_LINE "%u_", (unsigned)i);
	snprintf(dst.base, sizeof(dst.base), SET_DST "%u_", (unsigned)i);
	if (classes_collect(c, &c->classes[i], &lines) == 0 &&
	    destinations_collect(&c->classes[i], &destinations) == 0 &&
	    sets_add(sets, &line, &lines, KIND_PLAIN) == 0)
		result = sets_add(sets, &dst, &destinations, KIND_PLAIN);
	free(lines.all);
	free(destinations.all);
	return result;
}

static int
kind_sets(const struct conf *c, int64_t now, size_t kind, struct sets *sets)
{
	struct set like = { .purpose = kinds[kind].purpose,
		.timeout = kinds[kind].timeout,
		.filled_by_daemon = kinds[kind].filled_by_daemon };
	struct owners o = { 0 };
	int result = -1;

	snprintf(like.base, sizeof(like.base), "%s", kinds[kind].base);
	if (owners_collect(c, now, kinds[kind].base, &o) == 0)
		result = sets_add(sets, &like, &o, kinds[kind].kind);
	free(o.all);
	return result;
}

int
sets_compute(const struct conf *c, int64_t now, struct sets *sets_r)
{
	size_t max = NKINDS * 2 + NBITMAPS + c->nclasses * 4;

	sets_r->n = 0;
	sets_r->all = calloc(max, sizeof(*sets_r->all));
	if (sets_r->all == NULL)
		return -1;
	for (size_t k = 0; k < NKINDS; k++)
		if (kind_sets(c, now, k, sets_r) < 0)
			goto fail;
	for (size_t i = 0; i < c->nclasses; i++)
		if (c->classes[i].enforce == ENFORCE_LISTED &&
		    listed_sets(c, i, sets_r) < 0)
			goto fail;
	for (size_t b = 0; b < NBITMAPS; b++) {
		struct set *s = &sets_r->all[sets_r->n];

		if (strcmp(bitmaps[b].base, SET_REDIRECT) == 0 &&
		    c->capture != CAPTURE_REDIRECT)
			continue;
		sets_r->n++;
		snprintf(s->base, sizeof(s->base), "%s", bitmaps[b].base);
		s->purpose = bitmaps[b].purpose;
		s->timeout = s->filled_by_daemon = true;
	}
	return 0;
fail:
	sets_free(sets_r);
	return -1;
}

void
sets_free(struct sets *sets)
{
	for (size_t i = 0; i < sets->n; i++)
		free(sets->all[i].entries);
	free(sets->all);
	sets->all = NULL;
	sets->n = 0;
}
