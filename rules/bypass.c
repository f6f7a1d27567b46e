/*
 * bypass.c - leave lines, destinations or everybody alone for a while
 *
 * Does: adds and deletes elements with a timeout in the sets that every chain
 * of ours asks first, and reads them back. The kernel keeps the time, so that
 * nothing of us has to be alive when it is over. Each element has a twin that
 * lives BYPASS_GRACE longer: while that is there only SYNs are captured, so
 * that sessions that ran directly at the end are not torn. A record in /run
 * brings them back when somebody destroys the sets.
 * Does not: ask the daemon, read the configuration, change a rule.
 *
 * Called by the CLI as root; must work when everything else does not. All
 * text for ipset is made from struct prefix and numbers.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "rules/reconcile.h"
#include "rules/record.h"
#include "rules/rules.h"
#include "rules/run.h"
#include "rules/setdiff.h"

/* What may be captured or queued. */
static const uint16_t ports[] = { 25, 110, 143, 465, 587 };
#define NPORTS (sizeof(ports) / sizeof(ports[0]))

static const char *
base_of(enum bypass_kind kind, bool twin)
{
	switch (kind) {
	case BYPASS_LINE:
		return twin ? SET_CALM : SET_BYPASS;
	case BYPASS_DESTINATION:
		return twin ? SET_CALMD : SET_BYPASSD;
	default:
		return twin ? SET_CALMP : SET_OFF;
	}
}

static int
tool(struct run *r, const char *const argv[], const char *input, FILE *err)
{
	if (run(r, argv, input, input != NULL ? strlen(input) : 0) == 0 &&
	    r->status == 0)
		return 0;
	if (r->err != NULL && strstr(r->err, "name does not exist") != NULL)
		fputs("error: no rules are applied that could be bypassed; "
			"see `sallyport rules verify'\n", err);
	else
		fprintf(err, "error: %s\n", run_why(r));
	return -1;
}

static int
restore(const char *text, FILE *err)
{
	const char *const argv[] = { "ipset", "restore", NULL };
	struct run r;
	int result = tool(&r, argv, text, err);

	run_free(&r);
	return result;
}

/* "VERB SET ELEMENT ", for a port or a prefix. */
static void
write_element(FILE *f, const char *verb, const struct bypass *b, size_t port,
	bool twin)
{
	const struct set_entry e = { .prefix = b->prefix };
	bool all = b->kind == BYPASS_ALL;
	char name[SET_NAME_SIZE];

	fprintf(f, "%s %s ", verb, set_name(name, base_of(b->kind, twin),
		all ? 0 : b->prefix.family));
	if (all)
		fprintf(f, "%u", ports[port]);
	else
		render_entry(f, &e);
}

/* The twins first: at no moment may the one be there without the other. */
static void
write_bypass(FILE *f, const struct bypass *b, bool end)
{
	const size_t n = b->kind == BYPASS_ALL ? NPORTS : 1;
	long long seconds = end ? 0 : b->seconds;

	for (size_t i = 0; i < n; i++) {
		write_element(f, "add", b, i, true);
		fprintf(f, " timeout %lld -exist\n", seconds + BYPASS_GRACE);
	}
	for (size_t i = 0; i < n; i++) {
		write_element(f, end ? "del" : "add", b, i, false);
		if (!end)
			fprintf(f, " timeout %lld", seconds);
		fputs(" -exist\n", f);
	}
}

static int
change(const struct bypass *list, size_t n, bool end, FILE *err)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);
	int result = -1;

	if (f == NULL)
		return -1;
	for (size_t i = 0; i < n; i++)
		write_bypass(f, &list[i], end);
	if (fclose(f) == 0)
		result = restore(text, err);
	free(text);
	return result;
}

static int
change_and_record(const struct bypass *list, size_t n, bool end, FILE *err)
{
	if (change(list, n, end, err) < 0)
		return -1;
	if (record_bypass(list, n, end) < 0)
		fprintf(err, "warning: /run: %s: forgotten when the rules have "
			"to be applied again\n", strerror(errno));
	return 0;
}

int
bypass_add(const struct bypass *list, size_t n, FILE *err)
{
	return change_and_record(list, n, false, err);
}

int
bypass_end(const struct bypass *list, size_t n, FILE *err)
{
	return change_and_record(list, n, true, err);
}

int
bypass_recall(FILE *err)
{
	struct bypass *list;
	size_t n;
	int result = record_bypass_read(&list, &n);

	/* one by one: IPv6 may have been switched off meanwhile */
	for (size_t i = 0; i < n; i++)
		if (change(&list[i], 1, false, err) < 0)
			result = -1;
	free(list);
	return result;
}

static int
keep(struct bypass **list, size_t *n, const struct bypass *b)
{
	struct bypass *more = reallocarray(*list, *n + 1, sizeof(*more));

	if (more == NULL)
		return -1;
	*list = more;
	more[(*n)++] = *b;
	return 0;
}

/* "add sallyport_off 25 timeout 99": everybody is one bypass, not four. */
static bool
port_parse(const struct line *l, struct bypass *b)
{
	static const char head[] = "add " SET_OFF " 25 timeout ";

	if (!line_begins(l, head))
		return false;
	b->seconds = strtoll(l->p + strlen(head), NULL, 10);
	return true;
}

static int
list_set(enum bypass_kind kind, uint8_t family, struct bypass **list,
	size_t *n, FILE *err)
{
	char name[SET_NAME_SIZE];
	const char *const argv[] = { "ipset", "save", name, NULL };
	struct set_entry e;
	struct line l;
	struct run r;
	const char *at;
	int result;

	set_name(name, base_of(kind, false), family);
	result = tool(&r, argv, NULL, err);
	for (at = r.out; result == 0 && line_next(&at, &l);) {
		struct bypass b = { .kind = kind };

		if (kind != BYPASS_ALL) {
			if (set_entry_parse(&l, name, &e) < 0)
				continue;
			b.prefix = e.prefix;
			b.seconds = e.until;
		} else if (!port_parse(&l, &b)) {
			continue;
		}
		result = keep(list, n, &b);
	}
	run_free(&r);
	return result;
}

/* Without IPv6 in the kernel there are no sets of it. */
static bool
set_exists(enum bypass_kind kind, uint8_t family)
{
	char name[SET_NAME_SIZE];
	const char *const argv[] = { "ipset", "list", "-n", name, NULL };
	struct run r;
	bool there;

	set_name(name, base_of(kind, false), family);
	there = run(&r, argv, NULL, 0) == 0 && r.status == 0;
	run_free(&r);
	return there;
}

int
bypass_list(struct bypass **list_r, size_t *n_r, FILE *err)
{
	int result;

	*list_r = NULL;
	*n_r = 0;
	result = list_set(BYPASS_ALL, 0, list_r, n_r, err);
	for (int kind = BYPASS_LINE; kind <= BYPASS_DESTINATION; kind++) {
		if (result == 0)
			result = list_set(kind, AF_INET, list_r, n_r, err);
		if (result == 0 && set_exists(kind, AF_INET6))
			result = list_set(kind, AF_INET6, list_r, n_r, err);
	}
	if (result < 0) {
		free(*list_r);
		*list_r = NULL;
		*n_r = 0;
	}
	return result;
}

int
bypass_is_line(const struct prefix *p, FILE *err)
{
	struct addr a = { .family = p->family };
	char name[SET_NAME_SIZE], text[ADDR_STRLEN];
	const char *const argv[] = { "ipset", "test", name, text, NULL };
	struct run r;
	int result;

	memcpy(a.ip, p->ip, sizeof(a.ip));
	set_name(name, SET_SUB, p->family);
	addr_format(&a, text);
	if (run(&r, argv, NULL, 0) == 0 && r.status == 1 && r.err != NULL &&
	    strstr(r.err, "is NOT in set") != NULL)
		result = 0;
	else if (r.status == 0)
		result = 1;
	else
		result = -1;
	if (result < 0 && strstr(r.err != NULL ? r.err : "",
		    "name does not exist") != NULL)
		fputs("error: no rules are applied that could be bypassed; "
			"see `sallyport rules verify'\n", err);
	else if (result < 0)
		fprintf(err, "error: %s\n", run_why(&r));
	run_free(&r);
	return result;
}
