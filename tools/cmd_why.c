/*
 * cmd_why.c - sallyport why ADDRESS[:PORT] [DESTINATION] [--at TIME]
 *
 * Does: ask the daemon for the whole path of a decision and say it in words that
 * can be read to a person on the phone, one step a paragraph: whose line it is,
 * which entry of the allowlist counts, which level it has and on what evidence,
 * what its next connection gets. With a time: what was then. Does not: decide.
 *
 * Called by the command line's main, and for each finding by cmd_complaint.c. Exit
 * status: 0 said, 1 failed, 2 usage, 3 the daemon does not answer.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "conf/allow.h"
#include "lib/addr.h"
#include "tools/answer.h"
#include "tools/cmd.h"
#include "tools/why.h"
#include "tools/zombie_words.h"

#define SECONDS 15

static const char *const level_word[] = { "clean", "suspect", "probable",
	"zombie" };

static const char *
level_of(int64_t n)
{
	return n < 0 || n > 3 ? "?" : level_word[n];
}

/* ---- whose line it is ---- */

static void
print_line(const json_t *a)
{
	const json_t *holder = json_object_get(a, "holder");
	bool past = json_is_true(json_object_get(a, "past"));
	char since[32], until[32], at[32];

	if (past)
		printf("At %s: ", answer_when(answer_number(a, "at"), at));
	printf("%s is %s%s of class %s", answer_text(a, "address"),
		answer_text(a, "line")[0] != '\0' ? "line " :
		"an address with many lines behind it", answer_text(a, "line"),
		answer_text(a, "class"));
	if (answer_text(a, "line")[0] == '\0') {
		printf("; ask with a port, ADDRESS:PORT\n");
		return;
	}
	if (!json_is_object(holder)) {
		printf("; no lease says whose it %s\n", past ? "was" : "is");
		return;
	}
	printf("; customer %s has had it since %s", answer_text(holder,
		"customer"), answer_when(answer_number(holder, "since"), since));
	if (answer_number(holder, "until") != 0)
		printf(" and until %s", answer_when(answer_number(holder,
			"until"), until));
	putchar('\n');
}

/* ---- the allowlist ---- */

/* The last change up to a time, of those in order of time. */
static const json_t *
last_change(const json_t *changes, int64_t at)
{
	const json_t *one, *last = NULL;
	size_t i;

	json_array_foreach(changes, i, one)
		if (answer_number(one, "at") <= at &&
		    json_object_get(one, "prefix") != NULL)
			last = one;
	return last;
}

static void
print_change(const json_t *change)
{
	static const char *const words[][2] = { { "add", "added" },
		{ "change", "changed" }, { "del", "deleted" },
		{ "expire", "ended" }, { "import", "imported" } };
	const char *op = answer_text(change, "op");
	char at[32];

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strcmp(op, words[i][0]) == 0)
			op = words[i][1];
	printf("  %s was %s %s by %s", answer_text(change, "prefix"), op,
		answer_when(answer_number(change, "at"), at),
		answer_text(change, "who"));
	if (answer_text(change, "why")[0] != '\0')
		printf(": %s", answer_text(change, "why"));
	putchar('\n');
}

static void
print_entry(const json_t *a)
{
	const json_t *entry = json_object_get(a, "entry");
	const json_t *last = last_change(json_object_get(a, "allow"),
		answer_number(a, "at"));
	char until[32];

	if (json_is_true(json_object_get(a, "past")))
		printf("Allowlist: what is written about it until then:\n");
	else if (json_is_object(entry)) {
		printf("Allowlist: %s says port25=%s, %s%s",
			answer_text(entry, "prefix"), answer_text(entry,
			"action"), answer_number(entry, "until") == 0 ?
			"for ever" : "until ", answer_number(entry, "until") ==
			0 ? "" : answer_when(answer_number(entry, "until"),
			until));
		if (answer_number(entry, "line") != 0)
			printf(" (line %lld of the allow file)\n",
				(long long)answer_number(entry, "line"));
		else
			printf(" (ledger)\n");
	} else
		printf("Allowlist: no entry counts for it\n");
	if (last != NULL)
		print_change(last);
	else if (json_is_true(json_object_get(a, "past")))
		printf("  nothing\n");
}

/* ---- the level ---- */

/* of: whose, when it is not the line's own */
static void
print_history(const json_t *levels, const char *of)
{
	const json_t *one;
	char at[32];
	size_t i;

	json_array_foreach(levels, i, one) {
		const char *who = answer_text(one, "who");
		const char *customer = answer_text(one, "customer");

		printf("  %s: %s%s%s, was %s%s, by %s", answer_when(
			answer_number(one, "at"), at), of == NULL ? "" : of,
			of == NULL ? "" : " ", level_of(answer_number(one, "is")),
			level_of(answer_number(one, "was")), json_is_true(
			json_object_get(one, "pinned")) ? ", pinned" : "", who);
		if (answer_text(one, "why")[0] != '\0')
			printf(": %s", answer_text(one, "why"));
		if (customer[0] != '\0')
			printf(" (customer %s)", customer);
		putchar('\n');
	}
}

static void
print_past_level(const json_t *a)
{
	const json_t *levels = json_object_get(a, "levels");
	const json_t *then = json_array_get(levels, 0), *above;

	printf("Level then: %s\n", then == NULL ? "clean, as far as is written" :
		level_of(answer_number(then, "is")));
	print_history(levels, NULL);
	if (json_is_object(json_object_get(then, "evidence"))) {
		printf("Evidence at that change (thresholds of today):\n");
		zombie_words(a, json_object_get(then, "evidence"));
	}
	above = json_array_get(json_object_get(a, "parent_levels"), 0);
	if (above != NULL)
		printf("Its network %s then: %s\n", answer_text(a,
			"parent_line"), level_of(answer_number(above, "is")));
	print_history(json_object_get(a, "parent_levels"), answer_text(a,
		"parent_line"));
}

/* The /56 of lines that are longer, if it has a level or had one. */
static void
print_parent(const json_t *a)
{
	zombie_parent_words(a);
	print_history(json_object_get(a, "parent_levels"), answer_text(a,
		"parent_line"));
}

static void
print_level(const json_t *a)
{
	const json_t *record = json_object_get(a, "record");
	char since[32];

	if (answer_text(a, "line")[0] == '\0')
		return;
	if (!json_is_object(record)) {
		printf("Level: clean; no connection of it has been seen\n");
		print_history(json_object_get(a, "levels"), NULL);
		print_parent(a);
		return;
	}
	printf("Level: %s", answer_text(record, "level"));
	if (answer_number(record, "since") != 0)
		printf(" since %s", answer_when(answer_number(record, "since"),
			since));
	printf("%s\n", json_is_true(json_object_get(record, "pinned")) ?
		", pinned by an operator" : "");
	print_history(json_object_get(a, "levels"), NULL);
	printf("Evidence:\n");
	zombie_words(a, record);
	print_parent(a);
}

/* ---- what it gets ---- */

static const char *
submit_words(const json_t *a)
{
	bool is_listed = answer_text(a, "server")[0] != '\0';

	if (answer_text(a, "destination")[0] == '\0')
		return "is carried to the submission port of the server dialled, "
			"after its own user name and password; to other servers "
			"it is refused with the operator's text";
	if (strcmp(answer_text(a, "treatment"), "submit") != 0)
		return is_listed ? "is refused with the operator's text: no "
			"submission port of this server is listed" :
			"is refused with the operator's text: this server is "
			"not listed";
	if (answer_text(a, "submission_host")[0] != '\0')
		return "is carried to the submission port of that server's "
			"submission_host, after its own user name and password";
	return is_listed ? "is carried to that server's submission port, after "
		"its own user name and password" :
		"is carried to port 465 or 587 of the same host, if it has one; "
		"else refused with the operator's text";
}

static const char *
action_words(const json_t *a)
{
	const char *action = answer_text(a, "action");
	static const struct {
		const char *action, *words;
	} words[] = {
		{ "pass", "goes straight to the server; we do not see it" },
		{ "watch", "goes straight to the server; it is counted" },
		{ "relay", "goes through us unchanged, from its own address" },
		{ "block", "is refused with the operator's text" },
		{ "reset", "is reset" },
		{ "drop", "gets no answer" },
	};

	if (strcmp(action, "submit") == 0)
		return submit_words(a);
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strcmp(action, words[i].action) == 0)
			return words[i].words;
	return action;
}

/* A class that stops port 25 lets this destination pass. */
static bool
is_let_pass(const json_t *a)
{
	static const char *const stopped[] = { "block", "submit", "reset",
		"drop" };
	const char *action = answer_text(a, "action");

	if (!json_is_true(json_object_get(a, "pass_destination")) ||
	    strcmp(answer_text(a, "treatment"), "submit") == 0)
		return false;
	for (size_t i = 0; i < sizeof(stopped) / sizeof(stopped[0]); i++)
		if (strcmp(action, stopped[i]) == 0)
			return true;
	return false;
}

static void
print_next(const json_t *a)
{
	const char *to = answer_text(a, "destination");
	const char *server = answer_text(a, "server");
	const char *slowly = json_is_true(json_object_get(a, "slow")) ?
		", slowly" : "";

	if (json_is_true(json_object_get(a, "past")))
		return;
	printf("Its next connection to port 25%s%s", to[0] != '\0' ? " of " : "",
		to);
	if (server[0] != '\0')
		printf(" (%s)", server);
	if (is_let_pass(a))
		printf(" reaches it: pass_destinations\n");
	else if (json_is_true(json_object_get(a, "zombie_refused")))
		printf(" is %s%s: zombie.action\n", strcmp(answer_text(a,
			"treatment"), "reset") == 0 ? "reset" :
			"refused with the text for zombies", slowly);
	else
		printf(" %s%s\n", action_words(a), slowly);
}

void
why_print(const json_t *a, const char *asked)
{
	if (json_is_null(json_object_get(a, "class"))) {
		printf("%s is in no class of subscribers: nothing of it is "
			"captured\n", asked);
		return;
	}
	print_line(a);
	print_entry(a);
	if (json_is_true(json_object_get(a, "past")))
		print_past_level(a);
	else
		print_level(a);
	print_next(a);
	if (answer_text(a, "ledger_error")[0] != '\0')
		printf("The ledger could not be read: %s\n", answer_text(a,
			"ledger_error"));
}

/* ---- the command ---- */

json_t *
why_ask(const char *command, const char *config, const char *src,
	const char *dst, int64_t at, int *status_r)
{
	char request[192], when[24] = "-";

	if (at != 0)
		snprintf(when, sizeof(when), "%lld", (long long)at);
	snprintf(request, sizeof(request), "why %s %s %s\n", src,
		dst == NULL ? "-" : dst, when);
	return answer_of(command, config, request, -1, "", SECONDS, status_r);
}

static int
usage(const char *what)
{
	fprintf(stderr, "sallyport why: %s; expected ADDRESS[:PORT], perhaps "
		"the address of a server,\nand perhaps --at with a time like "
		"2026-11-25T18:14:00Z\n", what);
	return 2;
}

int
cmd_why(int argc, char **argv, const char *config, bool json)
{
	const char *src = NULL, *dst = NULL, *at = NULL;
	struct addr a;
	json_t *answer;
	int64_t t = 0;
	int status;

	for (int i = 1; i < argc; i++)
		if (strcmp(argv[i], "--at") == 0 && i + 1 < argc)
			at = argv[++i];
		else if (argv[i][0] == '-' || dst != NULL)
			return usage("too many words");
		else
			*(src == NULL ? &src : &dst) = argv[i];
	if (src == NULL || addr_parse(&a, src) != 0 ||
	    (dst != NULL && addr_parse(&a, dst) != 0))
		return usage("this is no address");
	if (at != NULL && (allow_time(at, &t) != 0 || t <= 0 ||
	    t > time(NULL)))
		return usage("this is no time that has been");
	answer = why_ask("why", config, src, dst, t, &status);
	if (answer == NULL)
		return status;
	if (json)
		answer_print(answer);
	else
		why_print(answer, src);
	json_decref(answer);
	return 0;
}
