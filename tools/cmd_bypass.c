/*
 * cmd_bypass.c - sallyport bypass | bypass list | bypass end
 *
 * Does: understands what is to be left alone and for how long (an address of a
 * subscriber is a line, another address or the name of a server a
 * destination), has it done by rules/, and says what was done.
 * Does not: ask the daemon. The configuration is read for one thing only, the
 * length of an IPv6 line, and a bypass goes on without it.
 *
 * Called by the CLI's main with words that the grammar has matched. A name is
 * resolved here and now; its addresses are what is bypassed.
 */
#include <errno.h>
#include <jansson.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/conf.h"
#include "conf/lpm.h"
#include "rules/rules.h"
#include "tools/cmd.h"

/* Addresses of one name. */
#define WHAT_MAX 64

struct words {
	const char *what;
	const char *time;	/* NULL: not said */
	bool line, destination;
};

/* Exit status of a mistake in the words. */
#define USAGE 2

static int
wrong(const char *text, const char *word)
{
	fprintf(stderr, "sallyport: bypass: %s%s%s%s\n", text,
		word != NULL ? " '" : "", word != NULL ? word : "",
		word != NULL ? "'" : "");
	return USAGE;
}

static int
words_take(int argc, char **argv, bool with_time, struct words *w)
{
	memset(w, 0, sizeof(*w));
	for (int i = 1; i < argc; i++) {
		if (with_time && strcmp(argv[i], "--for") == 0) {
			if (++i == argc)
				return wrong("--for wants a time like 30m",
					NULL);
			w->time = argv[i];
		} else if (strcmp(argv[i], "--line") == 0) {
			w->line = true;
		} else if (strcmp(argv[i], "--destination") == 0) {
			w->destination = true;
		} else if (argv[i][0] == '-' || w->what != NULL) {
			return wrong("unexpected", argv[i]);
		} else {
			w->what = argv[i];
		}
	}
	if (w->what == NULL)
		return wrong("what? all, an address, a prefix or the name of a "
			"server", NULL);
	if (w->line && w->destination)
		return wrong("--line and --destination exclude each other",
			NULL);
	return 0;
}

/* "30m" to seconds. -1 when it is none. */
static int64_t
seconds_of(const char *text)
{
	static const struct { char unit; int64_t seconds; } units[] = {
		{ 's', 1 }, { 'm', 60 }, { 'h', 3600 }, { 'd', 86400 },
	};
	int64_t n = 0;
	size_t i = 0;

	for (; text[i] >= '0' && text[i] <= '9' && i < 8; i++)
		n = n * 10 + (text[i] - '0');
	if (i == 0 || text[i] == '\0' || text[i + 1] != '\0')
		return -1;
	for (size_t u = 0; u < sizeof(units) / sizeof(units[0]); u++)
		if (units[u].unit == text[i])
			return n * units[u].seconds;
	return -1;
}

/* A single IPv6 address stands for its line, since it will not stay. */
static void
widen(struct prefix *p, const char *config)
{
	unsigned len = CONF_LINE_LEN6;
	struct addr a = { .family = p->family };
	FILE *nowhere = fopen("/dev/null", "we");
	struct conf *c = nowhere != NULL ? conf_load(config, nowhere) : NULL;
	int32_t class;

	memcpy(a.ip, p->ip, sizeof(a.ip));
	if (c != NULL) {
		class = lpm_find(c->class_lpm, &a, NULL);
		if (class >= 0)
			len = c->classes[class].line_len6;
	}
	prefix_of_addr(p, &a, len);
	conf_free(&c);
	if (nowhere != NULL)
		fclose(nowhere);
}

static int
resolve(const char *name, struct bypass list[WHAT_MAX])
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
	struct addrinfo *all, *i;
	struct addr a;
	int error = getaddrinfo(name, NULL, &hints, &all), n = 0;

	if (error != 0) {
		fprintf(stderr, "error: %s: %s\n", name, gai_strerror(error));
		return -1;
	}
	for (i = all; i != NULL && n < WHAT_MAX; i = i->ai_next) {
		if (addr_from_sockaddr(&a, i->ai_addr) < 0)
			continue;
		list[n].kind = BYPASS_DESTINATION;
		prefix_of_addr(&list[n].prefix, &a, 128);
		n++;
	}
	freeaddrinfo(all);
	return n;
}

/* A host name, not a mistyped address: has a letter and no slash or colon. */
static bool
is_name(const char *text)
{
	return strpbrk(text, "/:") == NULL && strlen(text) <= 253 &&
		strcspn(text, "abcdefghijklmnopqrstuvwxyz"
			"ABCDEFGHIJKLMNOPQRSTUVWXYZ") < strlen(text);
}

/* What is meant: the number of list's elements filled; -1 failed, -USAGE. */
static int
understand(const struct words *w, const char *config,
	struct bypass list[WHAT_MAX])
{
	const char *why;
	int line = w->line;

	memset(list, 0, WHAT_MAX * sizeof(*list));
	if (strcmp(w->what, "all") == 0) {
		if (w->line || w->destination) {
			wrong("all is neither --line nor --destination", NULL);
			return -USAGE;
		}
		list[0].kind = BYPASS_ALL;
		return 1;
	}
	if (is_name(w->what) && !w->line)
		return resolve(w->what, list);
	if (prefix_parse(&list[0].prefix, w->what, &why) < 0 ||
	    list[0].prefix.len == 0) {
		fprintf(stderr, "sallyport: bypass: '%s': expected all, an "
			"address, a prefix or the name of a server\n", w->what);
		return -USAGE;
	}
	if (!w->line && !w->destination) {
		line = bypass_is_line(&list[0].prefix, stderr);
		if (line < 0)
			return -1;
	}
	list[0].kind = line ? BYPASS_LINE : BYPASS_DESTINATION;
	if (line && list[0].prefix.family == AF_INET6 &&
	    list[0].prefix.len == 128)
		widen(&list[0].prefix, config);
	return 1;
}

/* ---- what is said ---- */

static const char *const kind_name[] = { "line", "destination", "all" };

static void
tell(const char *key, const struct bypass *list, size_t n, bool with_time,
	bool json)
{
	json_t *all = json_array(), *o;
	char text[ADDR_STRLEN];

	for (size_t i = 0; i < n; i++) {
		const struct bypass *b = &list[i];

		prefix_format(&b->prefix, text);
		if (!json) {
			printf("%s%s%s", kind_name[b->kind],
				b->kind != BYPASS_ALL ? " " : "",
				b->kind != BYPASS_ALL ? text : "");
			if (with_time)
				printf(" %lld s", (long long)b->seconds);
			puts(with_time ? "" : " ended");
			continue;
		}
		o = json_pack("{s:s}", "kind", kind_name[b->kind]);
		if (b->kind != BYPASS_ALL)
			json_object_set_new(o, "prefix", json_string(text));
		if (with_time)
			json_object_set_new(o, "seconds",
				json_integer(b->seconds));
		json_array_append_new(all, o);
	}
	if (json) {
		o = json_pack("{s:b, s:O}", "ok", 1, key, all);
		json_dumpf(o, stdout, JSON_INDENT(2));
		putchar('\n');
		json_decref(o);
	}
	json_decref(all);
}

/* ---- the commands ---- */

int
cmd_bypass(int argc, char **argv, const char *config, bool json)
{
	struct bypass list[WHAT_MAX];
	struct words w;
	int64_t seconds;
	int n;

	if (words_take(argc, argv, true, &w) != 0)
		return USAGE;
	if (w.time == NULL)
		return wrong("for how long? --for 30m", NULL);
	seconds = seconds_of(w.time);
	if (seconds < 1 || seconds > BYPASS_MAX)
		return wrong("expected 1s to 24d, not", w.time);
	n = understand(&w, config, list);
	if (n <= 0)
		return n == -USAGE ? USAGE : 1;
	for (int i = 0; i < n; i++)
		list[i].seconds = seconds;
	if (bypass_add(list, (size_t)n, stderr) < 0)
		return 1;
	tell("bypass", list, (size_t)n, true, json);
	return 0;
}

int
cmd_bypass_list(int argc, char **argv, const char *config, bool json)
{
	struct bypass *list;
	size_t n;

	(void)config;
	if (argc > 1)
		return wrong("unexpected", argv[1]);
	if (bypass_list(&list, &n, stderr) < 0)
		return 1;
	tell("bypass", list, n, true, json);
	free(list);
	return 0;
}

static bool
is_meant(const struct bypass *b, const struct bypass *meant, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (b->kind == meant[i].kind && (b->kind == BYPASS_ALL ||
			    prefix_equal(&b->prefix, &meant[i].prefix)))
			return true;
	return false;
}

int
cmd_bypass_end(int argc, char **argv, const char *config, bool json)
{
	struct bypass meant[WHAT_MAX], *list;
	size_t n, ended = 0;
	struct words w;
	int nmeant, status = 1;

	if (words_take(argc, argv, false, &w) != 0)
		return USAGE;
	nmeant = understand(&w, config, meant);
	if (nmeant <= 0)
		return nmeant == -USAGE ? USAGE : 1;
	if (bypass_list(&list, &n, stderr) < 0)
		return 1;
	for (size_t i = 0; i < n; i++)
		if (is_meant(&list[i], meant, (size_t)nmeant))
			list[ended++] = list[i];
	if (ended == 0)
		fprintf(stderr, "error: no bypass of %s; see `sallyport bypass "
			"list'\n", w.what);
	else if (bypass_end(list, ended, stderr) == 0)
		status = 0;
	if (status == 0)
		tell("ended", list, ended, false, json);
	free(list);
	return status;
}
