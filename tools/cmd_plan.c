/*
 * cmd_plan.c - sallyport plan: what enforcing would change
 *
 * Does: asks the running daemon what it has seen of each class, says in words
 * whom the class's action would meet (people or bots, by how they behave) and
 * which servers they dial, and with --probe what these servers answer on their
 * secure ports. Does not: change anything, or count what the kernel decided
 * before the daemon saw it; that it says.
 *
 * Called by the command line's main. Exit status: 0 said, 1 failed, 2 usage or
 * configuration, 3 not running. The daemon's answer is ours; what servers say
 * comes printable from probe.c.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "conf/conf.h"
#include "tools/answer.h"
#include "tools/cmd.h"
#include "tools/probe.h"

/* Destinations of a class that are printed; --json has all. */
#define SHOWN 20
#define PROBED 20
#define WAIT_SECONDS 60

struct words {
	const char *class;	/* NULL: all */
	unsigned probe;		/* destinations, 0: none */
};

static long long
number(const json_t *o, const char *key)
{
	return json_integer_value(json_object_get(o, key));
}

static const char *
text(const json_t *o, const char *key)
{
	return json_string_value(json_object_get(o, key));
}

static int
wrong(const char *what, const char *word)
{
	fprintf(stderr, "sallyport: plan: %s '%s'\n", what, word);
	return 2;
}

static int
take_words(int argc, char **argv, struct words *w)
{
	char *end;

	memset(w, 0, sizeof(*w));
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--probe") == 0) {
			w->probe = PROBED;
		} else if (strncmp(argv[i], "--probe=", 8) == 0) {
			unsigned long n = strtoul(argv[i] + 8, &end, 10);

			if (argv[i][8] < '1' || argv[i][8] > '9' ||
			    *end != '\0' || n > PROBE_MAX)
				return wrong("--probe wants a number from 1 to "
					"100, not", argv[i] + 8);
			w->probe = (unsigned)n;
		} else if (argv[i][0] == '-' || w->class != NULL) {
			return wrong("unexpected", argv[i]);
		} else {
			w->class = argv[i];
		}
	}
	return 0;
}

/* ---- one class in words ---- */

/* Is what the class is configured to do not yet done everywhere? */
static bool
is_pending(const json_t *class)
{
	return strcmp(text(class, "enforce"), "all") != 0 &&
		strcmp(text(class, "port25"), "watch") != 0 &&
		strcmp(text(class, "port25"), "pass") != 0 &&
		strcmp(text(class, "port25"), "relay") != 0;
}

static void
print_change(const json_t *class)
{
	const char *action = text(class, "port25");

	if (strcmp(text(class, "now"), "pass") == 0)
		printf("  pass: nothing is counted, nothing would change\n");
	else if (!is_pending(class))
		printf("  %s is in force\n", action);
	else if (strcmp(text(class, "enforce"), "listed") == 0)
		printf("  %s is in force towards %lld listed destinations; "
			"enforce = \"all\" would extend it to:\n", action,
			number(class, "listed"));
	else
		printf("  watched; enforce = \"all\" would bring %s to:\n",
			action);
}

static void
print_lines(const json_t *class)
{
	static const char *const words[][2] = {
		{ "calm", "like people and devices (at most 8 destinations and "
			"30 attempts an hour)" },
		{ "between", "in between (mail servers, newsletters, slow "
			"bots)" },
		{ "bot", "like bots (60 destinations or 300 attempts an hour, "
			"or more)" },
	};
	const json_t *lines = json_object_get(class, "lines");
	const json_t *attempts = json_object_get(class, "attempts");
	char first[32], last[32];

	for (size_t i = 0; i < 3; i++)
		printf("    %7lld lines, %9lld attempts  %s\n",
			number(lines, words[i][0]),
			number(attempts, words[i][0]), words[i][1]);
	if (number(class, "last") != 0)
		printf("    from %s to %s; %lld retransmissions apart\n",
			answer_when(number(class, "first"), first),
			answer_when(number(class, "last"), last),
			number(class, "retransmissions"));
	if (number(class, "submission") != 0)
		printf("    %lld connections to 587 and 465 besides\n",
			number(class, "submission"));
}

/* "198.18.3.7 (12 of 14)": what servers took of a line that was named. */
static void
print_innocent(const json_t *shadow)
{
	const json_t *lines = json_object_get(shadow, "lines"), *one;
	size_t i;

	printf("    %lld of them look%s innocent, servers took half or more:",
		number(shadow, "innocent"), number(shadow, "innocent") == 1 ?
		"s" : "");
	json_array_foreach((json_t *)lines, i, one)
		printf("%s %s (%lld of %lld%s)", i > 0 ? "," : "",
			text(one, "line"), number(one, "accepted"),
			number(one, "accepted") + number(one, "refused"),
			json_is_true(json_object_get(one, "pinned")) ?
			", named by an operator" : "");
	if ((size_t)number(shadow, "innocent") > json_array_size(lines))
		printf(" and more");
	putchar('\n');
}

/* What the detector has named, beside what servers did with it. */
static void
print_shadow(const json_t *class)
{
	const json_t *shadow = json_object_get(class, "shadow");
	long long named = number(shadow, "named");
	long long judged = number(shadow, "judged");
	long long outcomes = number(shadow, "accepted") + number(shadow,
		"refused");

	if (strcmp(text(class, "now"), "relay") != 0)
		return;
	if (!json_is_object(shadow)) {
		printf("  what servers answer is not known: it takes smtp."
			"read_replies, and log or count in\n  zombie.unknown_user "
			"and zombie.refusal\n");
		return;
	}
	printf("  detector: %lld zombies", named);
	if (judged > 0)
		printf("; servers refused %lld %% of what %lld of them tried",
			number(shadow, "refused") * 100 / outcomes, judged);
	putchar('\n');
	if (named > judged)
		printf("    of %lld too little could be read (fewer than five "
			"answers)\n", named - judged);
	if (number(shadow, "innocent") > 0)
		print_innocent(shadow);
	if (number(shadow, "missed") > 0)
		printf("    %lld of %lld other lines were refused nine times in "
			"ten or more, and are no zombies\n",
			number(shadow, "missed"), number(shadow, "others"));
}

static void
print_destinations(const json_t *class)
{
	const json_t *all = json_object_get(class, "destinations"), *d;
	size_t i;

	if (json_array_size(all) == 0)
		return;
	printf("  destinations while watched, %lld attempts in all:\n",
		number(class, "destination_attempts"));
	json_array_foreach((json_t *)all, i, d) {
		const char *server = text(d, "server");
		char sure[64] = "";

		if (i == SHOWN) {
			printf("    ... and %zu more\n",
				json_array_size(all) - SHOWN);
			return;
		}
		if (number(d, "error") > 0)
			snprintf(sure, sizeof(sure), " (%lld at least)",
				number(d, "attempts") - number(d, "error"));
		printf("    %-39s %9lld attempts%s, %lld%s lines  %s%s\n",
			text(d, "address"), number(d, "attempts"), sure,
			number(d, "lines"), number(d, "lines") >= 621 ? "+" : "",
			server != NULL ? server : "not in `servers'",
			server != NULL && !json_is_true(json_object_get(d,
				"submission")) ? ", no submission" : "");
	}
}

/* ---- the probe ---- */

static int
most(const void *a, const void *b)
{
	long long x = number(*(json_t *const *)a, "attempts");
	long long y = number(*(json_t *const *)b, "attempts");

	return x < y ? 1 : x > y ? -1 : 0;
}

/* All destinations of the classes, most attempts first; NULL: none. */
static json_t **
gather(const json_t *classes, size_t *n_r)
{
	json_t **all = NULL, *class, *d;
	size_t n = 0, i, j;

	json_array_foreach((json_t *)classes, i, class)
		n += json_array_size(json_object_get(class, "destinations"));
	if (n > 0)
		all = calloc(n, sizeof(json_t *));
	n = 0;
	json_array_foreach((json_t *)classes, i, class)
		json_array_foreach(json_object_get(class, "destinations"), j, d)
			if (all != NULL)
				all[n++] = d;
	if (all != NULL)
		qsort(all, n, sizeof(json_t *), most);
	*n_r = n;
	return all;
}

static int
probe(const struct conf *conf, unsigned most_n, json_t *answer, bool json)
{
	static struct probe_result result[PROBE_MAX][PROBE_PORTS];
	struct probe_list list;
	json_t **all, *found = json_array();
	struct addr a;
	size_t n;
	int rc = -1;

	all = gather(json_object_get(answer, "classes"), &n);
	if (probe_list_open(&list, conf) == 0) {
		for (size_t i = 0; i < n && list.n < most_n; i++)
			if (addr_parse(&a, text(all[i], "address")) == 0)
				(void)probe_list_addr(&list, &a);
		rc = list.n == 0 ? 0 : probe_ask(conf, &list, result);
		if (rc == 0 && !json)
			printf("\nsecure ports of the %zu destinations dialled "
				"most:\n", list.n);
		for (size_t i = 0; rc == 0 && i < list.n; i++) {
			if (!json)
				probe_print(stdout, &list.target[i], result[i]);
			json_array_append_new(found,
				probe_json(&list.target[i], result[i]));
		}
	}
	probe_list_close(&list);
	free(all);
	json_object_set_new(answer, "probe", found);
	return rc == 0 ? 0 : 1;
}

/* ---- the whole ---- */

/* Leave the one class that was asked for. */
static int
narrow(json_t *answer, const char *name)
{
	json_t *kept = json_array(), *class;
	size_t i;

	json_array_foreach(json_object_get(answer, "classes"), i, class)
		if (name == NULL || strcmp(text(class, "class"), name) == 0)
			json_array_append(kept, class);
	if (json_array_size(kept) == 0) {
		json_decref(kept);
		return wrong("the running daemon has no class", name);
	}
	json_object_set_new(answer, "classes", kept);
	return 0;
}

static void
print_all(const json_t *answer)
{
	const json_t *classes = json_object_get(answer, "classes"), *class;
	char since[32];
	size_t i;

	printf("counted since %s; %lld entries in the allow file. Not in these "
		"numbers, because\nthe kernel lets them go first: allowlisted "
		"lines and pass_destinations.\n",
		answer_when(number(answer, "since"), since),
		number(answer, "allowed"));
	json_array_foreach((json_t *)classes, i, class) {
		printf("\nclass %s\n", text(class, "class"));
		print_change(class);
		if (strcmp(text(class, "now"), "pass") == 0)
			continue;
		print_lines(class);
		print_shadow(class);
		print_destinations(class);
	}
}

int
cmd_plan(int argc, char **argv, const char *config, bool json)
{
	struct conf *conf = NULL;
	struct words w;
	json_t *answer;
	int rc = take_words(argc, argv, &w);

	if (rc != 0)
		return rc;
	if (w.probe > 0 && (conf = conf_load(config, stderr)) == NULL)
		return 2;
	answer = ask_daemon(config, "plan\n", WAIT_SECONDS);
	if (answer == NULL) {
		conf_free(&conf);
		return NOT_RUNNING;
	}
	if (!json_is_true(json_object_get(answer, "ok"))) {
		fprintf(stderr, "sallyport: plan: %s\n", text(answer, "error"));
		rc = 1;
	} else {
		rc = narrow(answer, w.class);
	}
	if (rc == 0 && !json)
		print_all(answer);
	if (rc == 0 && conf != NULL)
		rc = probe(conf, w.probe, answer, json);
	if (rc == 0 && json) {
		json_dumpf(answer, stdout, JSON_INDENT(2));
		putchar('\n');
	}
	json_decref(answer);
	conf_free(&conf);
	return rc;
}
