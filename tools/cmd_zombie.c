/*
 * cmd_zombie.c - sallyport zombies, sallyport zombie show|clear|pin|add
 *
 * Does: ask the daemon for lines with a level, or for one line and its evidence,
 * and say it in words that can be read to a person on the phone; ask it to
 * change a level. Does not: judge.
 *
 * Called by the command line's main. Exit status: 0 done, 1 refused or failed, 2
 * usage, 3 the daemon does not answer.
 */
#include <stdio.h>
#include <string.h>

#include "tools/answer.h"
#include "tools/cmd.h"
#include "tools/zombie_words.h"

#define SECONDS 15
#define LINE_MAX_CHARS 80
#define WHY_MAX 200

static const struct {
	const char *name, *label, *says;
} kinds[] = {
	{ "first_contact", "new destinations",
	  "connections went to networks it had not talked to lately" },
	{ "unknown_user", "unknown users",
	  "recipients did not exist at the server" },
	{ "refusal", "refusals",
	  "connections or commands failed or were refused" },
	{ "null_sender", "null senders", "messages had no sender" },
	{ "helo", "HELO names",
	  "names it introduced itself with were wrong or new each time" },
};

/* ---- zombies ---- */

static void
print_lines(const json_t *answer, const char *asked)
{
	const json_t *lines = json_object_get(answer, "lines"), *one;
	size_t i;

	(void)asked;
	printf("%lld zombies, %lld probable, %lld suspect; zombie.action = "
		"\"%s\"\n", (long long)answer_number(answer, "zombie"),
		(long long)answer_number(answer, "probable"),
		(long long)answer_number(answer, "suspect"),
		answer_text(answer, "action"));
	if (json_array_size(lines) > 0)
		printf("%-28s %-10s %-9s %-21s %6s %6s\n", "line", "class",
			"level", "since", "dest/h", "att/h");
	json_array_foreach(lines, i, one) {
		char since[32];

		printf("%-28s %-10s %-9s %-21s %6lld %6lld%s\n",
			answer_text(one, "line"), answer_text(one, "class"),
			answer_text(one, "level"), answer_when(answer_number(one,
				"since"), since),
			(long long)answer_number(one, "destinations"),
			(long long)answer_number(one, "rate"), json_is_true(
				json_object_get(one, "pinned")) ?
			"  pinned" : json_is_true(json_object_get(one,
				"rolled_up")) ? "  its lines together" : "");
	}
}

int
cmd_zombies(int argc, char **argv, const char *config, bool json)
{
	if (argc > 1) {
		fprintf(stderr, "sallyport zombies: '%s' is not understood; "
			"expected no word\n", argv[1]);
		return 2;
	}
	return answer_command("zombies", config, "zombies\n", SECONDS, json,
		print_lines, NULL);
}

/* ---- one line ---- */

static void
print_kind(const json_t *line, size_t i)
{
	const json_t *kind = json_object_get(json_object_get(line, "evidence"),
		kinds[i].name);
	const char *mode = answer_text(kind, "mode");
	long long all = (long long)answer_number(kind, "all");

	if (all == 0)
		return;
	printf("  %-17s score %5.1f  %lld of %lld %s%s\n", kinds[i].label,
		json_number_value(json_object_get(kind, "score")),
		(long long)answer_number(kind, "bad"), all, kinds[i].says,
		json_is_true(json_object_get(kind, "heard")) ?
		" (only heard: no handshake vouches for it)" :
		strcmp(mode, "count") == 0 ? "" :
		" (no part in levels: its count option says so)");
}

/* "3 of its lines are suspect: A, B, C" of a parent. */
static void
print_suspects(const json_t *parent)
{
	const json_t *list = json_object_get(parent, "suspects"), *one;
	long long n = (long long)answer_number(parent, "lines");
	size_t i;

	printf("%lld of its lines are suspect or more%s", n, n > 0 ? ": " : "");
	json_array_foreach(list, i, one)
		printf("%s%s", i > 0 ? ", " : "", json_string_value(one) ?
			json_string_value(one) : "");
	if (n > (long long)json_array_size(list))
		printf(" and %lld more", n - (long long)json_array_size(list));
	putchar('\n');
}

void
zombie_parent_words(const json_t *answer)
{
	const json_t *parent = json_object_get(answer, "parent");
	char since[32];

	if (!json_is_object(parent))
		return;
	printf("Its network %s: %s since %s%s; ", answer_text(parent, "line"),
		answer_text(parent, "level"), answer_when(answer_number(parent,
			"since"), since), json_is_true(json_object_get(parent,
			"pinned")) ? ", pinned by an operator" : "");
	print_suspects(parent);
	printf("  so this line is treated as %s\n", answer_text(parent,
		"together"));
}

void
zombie_words(const json_t *answer, const json_t *line)
{
	char first[32], last[32];

	if (json_object_get(line, "suspects") != NULL) {
		printf("  ");
		print_suspects(line);
	}
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		print_kind(line, i);
	printf("  suspect from %.1f, probable from %.1f, zombie from %.1f with "
		"a second voice\n",
		json_number_value(json_object_get(answer, "suspect")),
		json_number_value(json_object_get(answer, "probable")),
		json_number_value(json_object_get(answer, "zombie")));
	printf("%lld destinations in this hour, %lld attempts an hour%s; %lld "
		"attempts and %lld sessions in all\n",
		(long long)answer_number(line, "destinations"),
		(long long)answer_number(line, "rate"),
		json_is_true(json_object_get(line, "fast")) ?
		" (faster than people are)" : "",
		(long long)answer_number(line, "attempts"),
		(long long)answer_number(line, "sessions"));
	if (answer_number(line, "outcomes") > 0)
		printf("of its last %lld outcomes, servers accepted %lld\n",
			(long long)answer_number(line, "outcomes"),
			(long long)answer_number(line, "accepted"));
	printf("seen from %s to %s\n", answer_when(answer_number(line, "first"), first),
		answer_when(answer_number(line, "last"), last));
}

static void
print_line(const json_t *answer, const char *asked)
{
	const json_t *line = json_object_get(answer, "line");
	const char *level = answer_text(line, "level");
	char since[32];

	if (!json_is_object(line)) {
		printf("%s: nothing is known of this line\n", asked);
		zombie_parent_words(answer);
		return;
	}
	printf("%s, class %s: %s", answer_text(line, "line"),
		answer_text(line, "class"), level);
	if (answer_number(line, "since") != 0)
		printf(" since %s", answer_when(answer_number(line, "since"), since));
	if (json_is_true(json_object_get(line, "pinned")))
		printf(", pinned");
	printf("\n");
	if (strcmp(level, "zombie") == 0)
		printf("port 25: zombie.action = \"%s\"\n",
			answer_text(answer, "action"));
	zombie_words(answer, line);
	zombie_parent_words(answer);
}

static int
usage(const char *verb, const char *what)
{
	fprintf(stderr, "sallyport zombie %s: %s; expected LINE, or an address "
		"of it%s\n", verb, what, strcmp(verb, "show") == 0 ? "" :
		", and perhaps --why TEXT");
	return 2;
}

static int
run(const char *verb, int argc, char **argv, const char *config, bool json)
{
	char request[LINE_MAX_CHARS + WHY_MAX + 32], said[24];
	const char *why = "";

	if (argc == 4 && strcmp(argv[2], "--why") == 0 &&
	    strcmp(verb, "show") != 0)
		why = argv[3];
	else if (argc != 2)
		return usage(verb, "too few or too many words");
	if (argv[1][0] == '\0' || strpbrk(argv[1], " \t\r\n") != NULL ||
	    strlen(argv[1]) > LINE_MAX_CHARS)
		return usage(verb, "this is no line");
	if (strpbrk(why, "\r\n") != NULL || strlen(why) > WHY_MAX)
		return usage(verb, "the reason is too long, or not one line");
	snprintf(request, sizeof(request), "zombie %s %s %s\n", verb, argv[1],
		why);
	snprintf(said, sizeof(said), "zombie %s", verb);
	return answer_command(said, config, request, SECONDS, json, print_line,
		argv[1]);
}

int
cmd_zombie_show(int argc, char **argv, const char *config, bool json)
{
	return run("show", argc, argv, config, json);
}

int
cmd_zombie_clear(int argc, char **argv, const char *config, bool json)
{
	return run("clear", argc, argv, config, json);
}

int
cmd_zombie_pin(int argc, char **argv, const char *config, bool json)
{
	return run("pin", argc, argv, config, json);
}

int
cmd_zombie_add(int argc, char **argv, const char *config, bool json)
{
	return run("add", argc, argv, config, json);
}
