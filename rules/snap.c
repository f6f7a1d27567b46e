/*
 * snap.c - what is in the kernel now
 *
 * Does: asks iptables-save, ip6tables-save and ipset for everything once, and
 * offers the lines of it; decides from names alone which of it is ours (a
 * chain or set named sallyport_*, a rule with our comment or leading into one
 * of our chains).
 * Does not: change anything.
 *
 * Called by apply.c, verify.c, remove.c and reconcile.c. The text comes from the system's
 * own tools; foreign rules in it may contain anything an operator can write,
 * quoted comments too, so that a match on our comment demands its opening
 * quote.
 */
#include "rules/snap.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "rules/run.h"

const char *
tool_save(int family)
{
	return family == 0 ? "iptables-save" : "ip6tables-save";
}

const char *
tool_restore(int family)
{
	return family == 0 ? "iptables-restore" : "ip6tables-restore";
}

/* Compiled in, and not switched off where the local route has to go. */
static bool
has_ipv6(void)
{
	char value = '1';
	FILE *f = fopen("/proc/sys/net/ipv6/conf/lo/disable_ipv6", "re");

	if (f == NULL)
		return false;
	if (fread(&value, 1, 1, f) != 1)
		value = '1';
	fclose(f);
	return value == '0';
}

static char *
ask(const char *const argv[], FILE *err)
{
	struct run r;
	char *out = NULL;

	if (run(&r, argv, NULL, 0) < 0 || r.status != 0) {
		fprintf(err, "%s failed: %s\n", argv[0], run_why(&r));
	} else {
		out = r.out;
		r.out = NULL;
	}
	run_free(&r);
	return out;
}

/* "*TABLE" to "COMMIT" of everything; "" when the table is not there. */
static char *
section(const char *all, const char *table)
{
	const char *at = all, *from = NULL;
	struct line l;

	while (line_next(&at, &l)) {
		if (from == NULL && l.len > 0 && l.p[0] == '*' &&
		    l.len - 1 == strlen(table) &&
		    memcmp(l.p + 1, table, l.len - 1) == 0)
			from = l.p;
		else if (from != NULL && line_is(&l, "COMMIT"))
			return strndup(from, (size_t)(at - from));
	}
	return strdup("");
}

/* Not table by table: asking for one by name makes the kernel load it, and the
 * nat table brings connection tracking with it. */
static int
take_tables(struct snap *s, int family, FILE *err)
{
	const char *const argv[] = { tool_save(family), NULL };
	char *all = ask(argv, err);

	if (all == NULL)
		return -1;
	for (int t = 0; t < TABLE_COUNT; t++) {
		s->save[family][t] = section(all, table_name[t]);
		if (s->save[family][t] == NULL)
			break;
	}
	free(all);
	return s->save[family][TABLE_COUNT - 1] == NULL ? -1 : 0;
}

/* ipset prints a set's entries right behind the line that creates it. */
static int
index_sets(struct snap *s)
{
	const char *at = s->ipset;
	struct saved_set *now = NULL;
	struct line l;
	size_t n = 0;

	while (line_next(&at, &l))
		n += line_begins(&l, "create " OUR_NAME);
	s->sets = calloc(n + 1, sizeof(*s->sets));
	if (s->sets == NULL)
		return -1;
	for (at = s->ipset; line_next(&at, &l);) {
		if (line_begins(&l, "create " OUR_NAME)) {
			now = &s->sets[s->nsets++];
			now->create = l;
			now->name.p = l.p + strlen("create ");
			now->name.len = strcspn(now->name.p, " \n");
			now->entries.p = at;
		} else if (line_begins(&l, "create ")) {
			now = NULL;
		} else if (now != NULL) {
			now->entries.len = (size_t)(at - now->entries.p);
		}
	}
	return 0;
}

int
snap_tables(struct snap *s, FILE *err)
{
	memset(s, 0, sizeof(*s));
	s->families = has_ipv6() ? 2 : 1;
	for (int f = 0; f < s->families; f++)
		if (take_tables(s, f, err) < 0) {
			snap_free(s);
			return -1;
		}
	return 0;
}

int
snap_take(struct snap *s, FILE *err)
{
	const char *const save[] = { "ipset", "save", NULL };

	if (snap_tables(s, err) < 0)
		return -1;
	s->ipset = ask(save, err);
	if (s->ipset != NULL && index_sets(s) == 0)
		return 0;
	snap_free(s);
	return -1;
}

void
snap_free(struct snap *s)
{
	for (int f = 0; f < FAMILIES; f++)
		for (int t = 0; t < TABLE_COUNT; t++)
			free(s->save[f][t]);
	free(s->sets);
	free(s->ipset);
	memset(s, 0, sizeof(*s));
}

bool
line_next(const char **at, struct line *line_r)
{
	if (**at == '\0')
		return false;
	line_r->p = *at;
	line_r->len = strcspn(*at, "\n");
	*at += line_r->len + ((*at)[line_r->len] == '\n');
	return true;
}

bool
line_is(const struct line *l, const char *text)
{
	return l->len == strlen(text) && memcmp(l->p, text, l->len) == 0;
}

bool
line_begins(const struct line *l, const char *text)
{
	size_t len = strlen(text);

	return l->len >= len && memcmp(l->p, text, len) == 0;
}

static bool
line_contains(const struct line *l, const char *text)
{
	return memmem(l->p, l->len, text, strlen(text)) != NULL;
}

bool
line_rule(const struct line *l, struct saved_rule *r)
{
	const char *space;

	if (!line_begins(l, "-A "))
		return false;
	r->chain.p = l->p + 3;
	space = memchr(r->chain.p, ' ', l->len - 3);
	if (space == NULL)
		return false;
	r->chain.len = (size_t)(space - r->chain.p);
	r->text.p = space + 1;
	r->text.len = l->len - (size_t)(r->text.p - l->p);
	r->ours = line_begins(&r->chain, OUR_NAME);
	r->to_ours = !r->ours && (line_contains(&r->text, OUR_COMMENT) ||
		line_contains(&r->text, "-j " OUR_NAME) ||
		line_contains(&r->text, "-g " OUR_NAME));
	return true;
}

const struct saved_set *
snap_set(const struct snap *s, const char *name)
{
	for (size_t i = 0; i < s->nsets; i++)
		if (line_is(&s->sets[i].name, name))
			return &s->sets[i];
	return NULL;
}

bool
snap_set_filling(const struct saved_set *s)
{
	const size_t len = strlen(SET_FILLING);

	return s->name.len > len && memcmp(s->name.p + s->name.len - len,
		SET_FILLING, len) == 0;
}

bool
snap_has_ours(const struct snap *s, int family, enum table t)
{
	const char *at = s->save[family][t];
	struct saved_rule r;
	struct line l;

	while (line_next(&at, &l))
		if (line_begins(&l, ":" OUR_NAME) ||
		    (line_rule(&l, &r) && r.to_ours))
			return true;
	return false;
}
