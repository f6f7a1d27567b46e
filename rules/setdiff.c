/*
 * setdiff.c - is a set in the kernel as it should be?
 *
 * Does: parses what `ipset save' printed of one set, sorts it and walks along
 * what it should contain; a million entries cost a sort. An element that the
 * daemon has added to a set of its own is no difference.
 * Does not: ask the kernel, or change anything.
 *
 * Called by verify.c, which wants every difference named, and by apply.c,
 * which wants to know whether it may leave the set alone: replacing one costs
 * the kernel some 20 ms each.
 */
#include "rules/setdiff.h"

#include <stdlib.h>
#include <string.h>

/* Kernel timers and our clock may differ by the time an apply takes. */
#define TIMEOUT_SLACK 60

/* More differences of one set than this are summed up. */
#define NAMED_MAX 20

/* "add NAME 10.0.0.0/8 timeout 99 nomatch" */
int
set_entry_parse(const struct line *l, const char *name, struct set_entry *e)
{
	char text[256], *word, *rest = text;
	const char *why;

	if (!line_begins(l, "add ") || l->len >= sizeof(text))
		return -1;
	memcpy(text, l->p, l->len);
	text[l->len] = '\0';
	memset(e, 0, sizeof(*e));
	strsep(&rest, " ");
	word = strsep(&rest, " ");
	if (word == NULL || strcmp(word, name) != 0 || rest == NULL)
		return -1;
	word = strsep(&rest, " ");
	if (prefix_parse(&e->prefix, word, &why) < 0)
		return -1;
	while ((word = strsep(&rest, " ")) != NULL) {
		if (strcmp(word, "nomatch") == 0)
			e->nomatch = true;
		else if (strcmp(word, "timeout") == 0 && rest != NULL)
			e->until = strtoll(strsep(&rest, " "), NULL, 10);
	}
	return 0;
}

static bool
same_entry(const struct set_entry *want, const struct set_entry *have,
	int64_t now)
{
	int64_t left = want->until - now;

	if (want->nomatch != have->nomatch ||
	    (want->until == 0) != (have->until == 0))
		return false;
	if (want->until == 0)
		return true;
	/* cut to what a set can count, and running since */
	if (left > SET_TIMEOUT_MAX)
		return true;
	return llabs(left - have->until) <= TIMEOUT_SLACK;
}

struct named {
	struct report *r;	/* NULL: only count */
	const char *set;
	size_t n;
};

static void
name_entry(struct named *n, const char *kind, const struct set_entry *e)
{
	char text[ADDR_STRLEN];

	if (n->n++ < NAMED_MAX && n->r != NULL)
		report_add(n->r, kind, "set %s: %s%s", n->set,
			prefix_format(&e->prefix, text),
			e->nomatch ? " nomatch" : "");
}

/* Both sorted by the same order: one walk finds all. */
static size_t
entries_compare(const struct set *s, const char *name,
	const struct set_entry *have, size_t nhave, int64_t now,
	struct report *r)
{
	struct named n = { .r = r, .set = name };
	size_t i = 0, j = 0;

	while (i < s->nentries || j < nhave) {
		int d = i == s->nentries ? 1 : j == nhave ? -1 :
			set_entry_compare(&s->entries[i], &have[j]);

		if (d < 0) {
			name_entry(&n, "missing", &s->entries[i++]);
		} else if (d > 0) {
			if (!s->filled_by_daemon)
				name_entry(&n, "extra", &have[j]);
			j++;
		} else {
			if (!same_entry(&s->entries[i], &have[j], now))
				name_entry(&n, "different", &s->entries[i]);
			i++;
			j++;
		}
	}
	if (n.n > NAMED_MAX && r != NULL)
		report_add(r, "different", "set %s: %zu differences more",
			name, n.n - NAMED_MAX);
	return n.n;
}

static bool
header_fits(const struct line *l, const struct set *s, const char *name)
{
	char want[128];
	bool timeout = memmem(l->p, l->len, " timeout ", 9) != NULL;

	if (s->family == 0)
		snprintf(want, sizeof(want), "create %s bitmap:port range "
			"1-1023 timeout %d", name, GATE_SECONDS);
	else
		snprintf(want, sizeof(want), "create %s hash:net family %s ",
			name, s->family == AF_INET ? "inet" : "inet6");
	return line_begins(l, want) && timeout == s->timeout;
}

size_t
set_compare(const struct set *s, const struct saved_set *saved, int64_t now,
	struct report *r)
{
	char name[SET_NAME_SIZE];
	struct set_entry *have;
	const char *at;
	size_t n = 0, different = 0;
	struct line l;

	set_name(name, s->base, s->family);
	if (saved == NULL) {
		if (r != NULL)
			report_add(r, "missing", "set %s (%s)", name,
				s->purpose);
		return 1;
	}
	if (!header_fits(&saved->create, s, name)) {
		if (r != NULL)
			report_add(r, "different", "set %s is of another kind: "
				"%.*s", name, (int)saved->create.len,
				saved->create.p);
		return 1;
	}
	if (s->family == 0)
		return 0;
	for (at = saved->entries.p; at < saved->entries.p + saved->entries.len;
	    n++)
		line_next(&at, &l);
	have = calloc(n + 1, sizeof(*have));
	if (have == NULL) {
		if (r != NULL)
			report_add(r, "error", "out of memory");
		return 1;
	}
	n = 0;
	for (at = saved->entries.p;
	    at < saved->entries.p + saved->entries.len;)
		if (line_next(&at, &l) &&
		    set_entry_parse(&l, name, &have[n]) == 0)
			n++;
	qsort(have, n, sizeof(*have), set_entry_compare);
	different = entries_compare(s, name, have, n, now, r);
	free(have);
	return different;
}
