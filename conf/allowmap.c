/*
 * allowmap.c - a changing set of allow entries, by prefix
 *
 * A dense array of entries and a longest-prefix table of their places: walking
 * over half a million costs no more than reading them, and a change no more
 * than a hash. Does not: know the allow file (conf->allow), the kernel or the
 * ledger.
 *
 * Used by relays, parent, control and the command line. An operator controls
 * what is in it, a subscriber which addresses are looked up; the table below is
 * keyed for that.
 *
 * Must hold: item n of the array is what the table says about its prefix.
 */
#include "conf/allowmap.h"

#include <stdlib.h>
#include <string.h>

#include "conf/lpm.h"

struct allowmap {
	struct lpm *lpm;	/* prefix -> place in item */
	struct allow_item *item;
	size_t n, cap;
};

_Static_assert(sizeof(struct allow_item) == 32, "no hidden byte");

struct allowmap *
allowmap_new(void)
{
	struct allowmap *m = calloc(1, sizeof(*m));

	if (m != NULL && (m->lpm = lpm_new()) == NULL) {
		free(m);
		m = NULL;
	}
	return m;
}

void
allowmap_free(struct allowmap **m)
{
	if (*m == NULL)
		return;
	lpm_free(&(*m)->lpm);
	free((*m)->item);
	free(*m);
	*m = NULL;
}

bool
allow_rest_valid(const struct allow_item *i)
{
	static const uint8_t zero[sizeof(i->pad)];

	return i->until >= 0 && i->from_file == 0 &&
		memcmp(i->pad, zero, sizeof(zero)) == 0 &&
		(i->action == ACTION_PASS || i->action == ACTION_WATCH ||
		i->action == ACTION_RELAY || i->action == ACTION_SUBMIT);
}

bool
allow_item_valid(const struct allow_item *i)
{
	const struct prefix *p = &i->prefix;
	struct addr a = { .family = p->family };
	struct prefix clean;

	if ((p->family != AF_INET && p->family != AF_INET6) || p->len == 0 ||
	    p->len > (p->family == AF_INET ? 32 : 128) || !allow_rest_valid(i))
		return false;
	memcpy(a.ip, p->ip, sizeof(a.ip));
	prefix_of_addr(&clean, &a, p->len);
	return memcmp(clean.ip, p->ip, sizeof(clean.ip)) == 0;
}

static int
grow(struct allowmap *m)
{
	size_t cap = m->cap == 0 ? 64 : m->cap * 2;
	struct allow_item *item = reallocarray(m->item, cap, sizeof(*item));

	if (item == NULL)
		return -1;
	m->item = item;
	m->cap = cap;
	return 0;
}

int
allowmap_put(struct allowmap *m, const struct allow_item *i)
{
	int32_t at = lpm_get(m->lpm, &i->prefix);

	if (at >= 0) {
		m->item[at] = *i;
		return 0;
	}
	if (m->n >= ALLOWMAP_MAX || (m->n == m->cap && grow(m) < 0) ||
	    lpm_set(m->lpm, &i->prefix, (int32_t)m->n) < 0)
		return -1;
	m->item[m->n++] = *i;
	return 0;
}

int
allowmap_del(struct allowmap *m, const struct prefix *p)
{
	int32_t at = lpm_del(m->lpm, p);

	if (at < 0)
		return 0;
	if ((size_t)at != --m->n) {
		m->item[at] = m->item[m->n];
		/* cannot fail: it is there already */
		(void)lpm_set(m->lpm, &m->item[at].prefix, at);
	}
	return 1;
}

const struct allow_item *
allowmap_get(const struct allowmap *m, const struct prefix *p)
{
	int32_t at = lpm_get(m->lpm, p);

	return at < 0 ? NULL : &m->item[at];
}

static const struct allow_item *
find_within(const struct allowmap *m, const struct addr *a, unsigned max_len,
	int64_t now)
{
	struct prefix matched;

	for (;;) {
		int32_t at = lpm_find_within(m->lpm, a, max_len, &matched);

		if (at < 0)
			return NULL;
		if (m->item[at].until == 0 || m->item[at].until > now)
			return &m->item[at];
		if (matched.len == 0)
			return NULL;
		max_len = matched.len - 1u;
	}
}

const struct allow_item *
allowmap_find(const struct allowmap *m, const struct addr *a, int64_t now)
{
	return find_within(m, a, 128, now);
}

const struct allow_item *
allowmap_around(const struct allowmap *m, const struct prefix *p, int64_t now)
{
	struct addr a = { .family = p->family };

	memcpy(a.ip, p->ip, sizeof(a.ip));
	return p->len == 0 ? NULL : find_within(m, &a, p->len - 1u, now);
}

const struct allow_item *
allowmap_all(const struct allowmap *m, size_t *n_r)
{
	*n_r = m->n;
	return m->item;
}
