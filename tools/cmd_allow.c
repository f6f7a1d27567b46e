/*
 * cmd_allow.c - sallyport allow add | del | list | import | export | audit
 *
 * Does: check the words, ask the daemon, show the answer. The daemon decides
 * and writes; this side reads the allow file (list shows file and ledger
 * together) and, when the daemon is not running, the ledger.
 *
 * Called by the command line's main, by operators and provisioning scripts:
 * adding what is there and deleting what is not are no errors. Exit status: 0
 * done, 1 refused or failed, 2 usage or configuration, 3 the daemon does not
 * answer. A file is handed over open: the daemon reads it itself.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "conf/allow.h"
#include "conf/conf.h"
#include "tools/answer.h"
#include "tools/cmd.h"
#include "tools/ledger_read.h"

#define SECONDS 15
#define IMPORT_SECONDS 320

/* ---- words ---- */

static int
usage(const char *command, const char *what, const char *word)
{
	fprintf(stderr, "sallyport allow %s: %s%s%s%s\n", command, what,
		word != NULL ? " \"" : "", word != NULL ? word : "",
		word != NULL ? "\"" : "");
	return 2;
}

/* "90m", "24h", "7d": seconds, or -1. */
static int64_t
duration(const char *text)
{
	static const struct {
		char unit;
		int64_t seconds;
	} unit[] = { { 's', 1 }, { 'm', 60 }, { 'h', 3600 }, { 'd', 86400 },
		{ 'w', 7 * 86400 } };
	char *end;
	long long n;

	errno = 0;
	n = strtoll(text, &end, 10);
	if (errno != 0 || end == text || n <= 0 || n > 36500LL * 86400)
		return -1;
	for (size_t i = 0; i < sizeof(unit) / sizeof(unit[0]); i++)
		if (end[0] == unit[i].unit && end[1] == '\0')
			return n > 36500LL * 86400 / unit[i].seconds ? -1 :
				n * unit[i].seconds;
	return -1;
}

struct words {
	const char *prefix, *action, *why;
	char until[32];
};

/* An option that takes a value: 1 it is this one, 0 not, -1 without value. */
static int
option(const char *name, int argc, char **argv, int *i, const char **value)
{
	if (strcmp(argv[*i], name) != 0)
		return 0;
	if (++*i == argc)
		return -1;
	*value = argv[*i];
	return 1;
}

static int
take_end(struct words *w, const char *until, const char *span, bool pin)
{
	int64_t t = 0;

	if ((until != NULL) + (span != NULL) + pin > 1)
		return usage("add", "only one of --until, --for and --pin",
			NULL);
	if (until != NULL && allow_time(until, &t) != 0)
		return usage("add", "--until wants a time like "
			"2026-12-31T23:59:59Z, found", until);
	if (span != NULL && (t = duration(span)) < 0)
		return usage("add", "--for wants a time like 90m, 24h or 7d, "
			"found", span);
	if (span != NULL)
		t += time(NULL);
	if (pin)
		snprintf(w->until, sizeof(w->until), "pin");
	else if (t != 0)
		snprintf(w->until, sizeof(w->until), "%lld", (long long)t);
	else
		snprintf(w->until, sizeof(w->until), "default");
	return 0;
}

static int
take_words(const char *command, int argc, char **argv, struct words *w)
{
	bool add = strcmp(command, "add") == 0, pin = false;
	const char *until = NULL, *span = NULL;

	*w = (struct words){ .action = "pass", .why = "" };
	for (int i = 1; i < argc; i++) {
		const char *arg = argv[i];
		int rc = option("--why", argc, argv, &i, &w->why);

		if (rc == 0 && add)
			rc = option("--until", argc, argv, &i, &until);
		if (rc == 0 && add)
			rc = option("--for", argc, argv, &i, &span);
		if (rc < 0)
			return usage(command, "a value is expected behind", arg);
		if (rc > 0)
			continue;
		if (add && strcmp(arg, "--pin") == 0)
			pin = true;
		else if (add && strncmp(arg, "port25=", 7) == 0)
			w->action = arg + 7;
		else if (arg[0] == '-' || w->prefix != NULL)
			return usage(command, "unexpected argument", arg);
		else
			w->prefix = arg;
	}
	if (w->prefix == NULL)
		return usage(command, "a prefix or line:CUSTOMER is expected",
			NULL);
	if (strpbrk(w->prefix, " \n") != NULL ||
	    strpbrk(w->action, " \n") != NULL || strlen(w->prefix) >= LEDGER_NAME_MAX ||
	    strlen(w->action) > 20)
		return usage(command, "not understood:", w->prefix);
	if (strchr(w->why, '\n') != NULL || strlen(w->why) > 255)
		return usage(command, "--why: one line of at most 255 "
			"characters is expected", NULL);
	return take_end(w, until, span, pin);
}

/* ---- showing ---- */

static const char *
when(int64_t t, char out[32])
{
	time_t clock = (time_t)t;
	struct tm tm;

	if (t == 0)
		return "for ever";
	if (gmtime_r(&clock, &tm) == NULL ||
	    strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
		return "?";
	return out;
}

static void
show_note(const json_t *answer)
{
	const char *note = answer_text(answer, "note");

	if (note[0] != '\0')
		printf("note: %s\n", note);
}

/* What an entry of a customer is about now. */
static void
show_lines(const json_t *answer)
{
	const json_t *lines = json_object_get(answer, "lines"), *one;
	long long shared = answer_number(answer, "shared");
	size_t n;

	if (lines == NULL)
		return;
	json_array_foreach(lines, n, one)
		printf("%s%s", n == 0 ? "his lines now: " : ", ",
			json_string_value(one));
	puts(n == 0 ? "he has no line now; it counts from his next lease on" :
		"");
	if (shared > 0)
		printf("note: of %lld more he has only ports, the address is "
			"others' too: it does not count there\n", shared);
}

static void
show_change(const json_t *answer, const char *asked)
{
	static const struct {
		const char *word, *text;
	} result[] = {
		{ "added", "added" }, { "changed", "changed" },
		{ "same", "was there already" }, { "deleted", "deleted" },
		{ "absent", "was not there" },
	};
	const char *what = answer_text(answer, "result");
	char until[32];

	(void)asked;
	for (size_t i = 0; i < sizeof(result) / sizeof(result[0]); i++)
		if (strcmp(what, result[i].word) == 0)
			printf("%s: %s", answer_text(answer, "prefix"),
				result[i].text);
	if (strcmp(what, "deleted") != 0 && strcmp(what, "absent") != 0)
		printf(", port25=%s, until %s", answer_text(answer, "action"),
			when(answer_number(answer, "until"), until));
	putchar('\n');
	show_lines(answer);
	if (json_is_null(json_object_get(answer, "class")))
		printf("note: this is in no class of subscribers; nothing "
			"changes for it\n");
	if (json_object_get(answer, "file_line") != NULL)
		printf("note: line %lld of the allow file is about the same "
			"and counts now\n", (long long)answer_number(answer,
			"file_line"));
	show_note(answer);
}

/* ---- add and del ---- */

static int
change(const char *command, int argc, char **argv, const char *config,
	bool json)
{
	char request[512], said[16];
	struct words w;
	int status = take_words(command, argc, argv, &w);

	if (status != 0)
		return status;
	if (strcmp(command, "add") == 0)
		snprintf(request, sizeof(request), "allow add %s %s %s %s\n",
			w.prefix, w.action, w.until, w.why);
	else
		snprintf(request, sizeof(request), "allow del %s %s\n",
			w.prefix, w.why);
	snprintf(said, sizeof(said), "allow %s", command);
	return answer_command(said, config, request, SECONDS, json, show_change,
		NULL);
}

int
cmd_allow_add(int argc, char **argv, const char *config, bool json)
{
	return change("add", argc, argv, config, json);
}

int
cmd_allow_del(int argc, char **argv, const char *config, bool json)
{
	return change("del", argc, argv, config, json);
}

/* ---- import ---- */

int
cmd_allow_import(int argc, char **argv, const char *config, bool json)
{
	json_t *answer;
	int fd, status;

	if (argc != 2)
		return usage("import", "one file is expected, or -", NULL);
	fd = answer_file(argv[1]);
	if (fd < 0) {
		fprintf(stderr, "sallyport allow import: %s: %s\n", argv[1],
			strerror(errno));
		return 1;
	}
	answer = answer_of("allow import", config, "allow import\n", fd, argv[1],
		IMPORT_SECONDS, &status);
	if (fd != STDIN_FILENO)
		close(fd);
	if (answer == NULL)
		return status;
	if (json) {
		answer_print(answer);
	} else {
		printf("%s: %lld added, %lld changed, %lld were there "
			"already\n", argv[1],
			(long long)answer_number(answer, "added"),
			(long long)answer_number(answer, "changed"),
			(long long)answer_number(answer, "same"));
		show_note(answer);
	}
	json_decref(answer);
	return 0;
}

/* ---- list, export, audit ---- */

struct output {
	bool json, export;
	json_t *array;
};

static void
show_one(struct output *o, const struct ledger_entry *e, const char *origin,
	unsigned line)
{
	char prefix[LEDGER_NAME_MAX], until[32], from[96], start[32];
	const struct allow_item *i = &e->item;
	const char *why = e->why;

	ledger_name(e, prefix);
	if (o->export) {
		printf("%s port25=%s", prefix, action_name[i->action]);
		if (i->until != 0)
			printf(" until=%s", when(i->until, until));
		printf(why[0] != '\0' ? " # %s\n" : "\n", why);
	} else if (o->json) {
		json_t *one = json_pack("{s:s,s:s,s:I,s:s,s:s}", "prefix",
			prefix, "action", action_name[i->action], "until",
			(json_int_t)i->until, "origin", origin, "why", why);

		if (line != 0)
			json_object_set_new(one, "line", json_integer(line));
		else if (strcmp(origin, "customer") == 0)
			json_object_set_new(one, "customer",
				json_string(e->customer));
		else {
			json_object_set_new(one, "who", json_string(e->who));
			json_object_set_new(one, "since",
				json_integer(e->since));
		}
		json_array_append_new(o->array, one);
	} else {
		if (line != 0)
			snprintf(from, sizeof(from), "file:%u", line);
		else if (strcmp(origin, "customer") == 0)
			snprintf(from, sizeof(from), "line:%s", e->customer);
		else
			snprintf(from, sizeof(from), "ledger (%s, %s)", e->who,
				when(e->since, start));
		printf("%-28s %-7s %-21s %s%s%s\n", prefix,
			action_name[i->action], when(i->until, until), from,
			why[0] != '\0' ? "  # " : "", why);
	}
}

static void
show_entry(void *arg, const struct ledger_entry *e)
{
	const struct output *o = arg;
	/* a line that a customer's entry stands for now */
	bool stands = e->customer != NULL && e->item.prefix.family != 0;

	if (!stands || !o->export)
		show_one(arg, e, stands ? "customer" : "ledger", 0);
}

static void
show_file(struct output *o, const struct allow_entry *e, size_t n)
{
	for (; n > 0; n--, e++) {
		const struct ledger_entry one = {
			.item = { .prefix = e->prefix, .until = e->until,
				.action = (uint8_t)e->action },
			.customer = e->customer,
			.why = e->reason != NULL ? e->reason : "" };

		show_one(o, &one, "file", e->line);
	}
}

static int
list(const char *command, int argc, const char *config, bool json, bool export)
{
	struct output o = { .json = json && !export, .export = export };
	struct conf *c;
	int rc;

	if (argc > 1)
		return usage(command, "no argument is expected", NULL);
	if ((c = conf_load(config, stderr)) == NULL)
		return 2;
	o.array = json_array();
	if (!export) {
		show_file(&o, c->allow, c->nallow);
		show_file(&o, c->allow_line, c->nallow_line);
	}
	rc = ledger_read(c, config, show_entry, &o);
	if (o.json && rc == 0)
		answer_print(o.array);
	json_decref(o.array);
	conf_free(&c);
	return rc;
}

int
cmd_allow_list(int argc, char **argv, const char *config, bool json)
{
	(void)argv;
	return list("list", argc, config, json, false);
}

int
cmd_allow_export(int argc, char **argv, const char *config, bool json)
{
	(void)argv;
	return list("export", argc, config, json, true);
}

int
cmd_allow_audit(int argc, char **argv, const char *config, bool json)
{
	char request[128], at[32], until[32];
	json_t *answer, *entries, *one;
	size_t n;
	int status;

	if (argc > 2 || (argc == 2 && strlen(argv[1]) >= LEDGER_NAME_MAX))
		return usage("audit", "at most one prefix or line:CUSTOMER is expected", NULL);
	snprintf(request, sizeof(request), "allow audit %s\n",
		argc == 2 ? argv[1] : "");
	answer = answer_of("allow audit", config, request, -1, "", SECONDS, &status);
	if (answer == NULL)
		return status;
	entries = json_object_get(answer, "entries");
	if (json)
		answer_print(entries);
	else
		json_array_foreach(entries, n, one)
			printf("%s %-7s %-28s %-7s until %s  %s%s%s\n",
				when(answer_number(one, "at"), at),
				answer_text(one, "op"), answer_text(one, "prefix"),
				answer_text(one, "action"),
				when(answer_number(one, "until"), until),
				answer_text(one, "who"),
				answer_text(one, "why")[0] != '\0' ? "  # " : "",
				answer_text(one, "why"));
	json_decref(answer);
	return 0;
}
