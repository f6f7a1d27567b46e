/*
 * cmd_events.c - sallyport events [--follow] [EVENT...]
 *
 * Does: print the last events that the daemon has logged, and with --follow each
 * one as it comes, over reloads and restarts. Does not: format; lines are the
 * log's own (log.format).
 *
 * Called by the command line's main. Exit status: 0 done, 1 refused or the reader
 * of our output is gone, 2 usage, 3 the daemon does not answer.
 */
#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/ask.h"
#include "tools/cmd.h"

#define SECONDS 15
/* A reload takes the daemon's socket away for moments, an upgrade for longer. */
#define PATIENCE 30

static bool
is_word(const char *text)
{
	for (; *text != '\0'; text++)
		if (!islower((unsigned char)*text))
			return false;
	return true;
}

/* One of the events asked for? In JSON the name is one of the members. */
static bool
is_wanted(const char *line, int n, char **events)
{
	char member[80];

	for (int i = 0; i < n; i++) {
		size_t len = strlen(events[i]);

		if (strncmp(line, events[i], len) == 0 && line[len] == ' ')
			return true;
		snprintf(member, sizeof(member), "\"event.action\":\"%.40s\"",
			events[i]);
		if (line[0] == '{' && strstr(line, member) != NULL)
			return true;
	}
	return n == 0 || line[0] == '#';
}

/* All that comes until the end; 0, or 1: nobody reads it. */
static int
copy(FILE *from, int n, char **events)
{
	char *line = NULL;
	size_t cap = 0;
	int status = 0;

	while (status == 0 && getline(&line, &cap, from) > 0) {
		if (is_wanted(line, n, events))
			fputs(line, stdout);
		if (fflush(stdout) != 0)
			status = 1;
	}
	free(line);
	return status;
}

static int
usage(void)
{
	fprintf(stderr, "sallyport events: expected perhaps --follow, and names "
		"of events like zombie or block\n");
	return 2;
}

int
cmd_events(int argc, char **argv, const char *config, bool json)
{
	bool follow = argc > 1 && strcmp(argv[1], "--follow") == 0;
	int first = 1 + follow, status;
	FILE *from;

	(void)json;
	for (int i = first; i < argc; i++)
		if (!is_word(argv[i]))
			return usage();
	from = ask_stream(config, follow ? "events follow\n" : "events recent\n",
		SECONDS, true);
	if (from == NULL)
		return errno == EPROTO ? 1 : NOT_RUNNING;
	signal(SIGPIPE, SIG_IGN);
	status = copy(from, argc - first, argv + first);
	fclose(from);
	for (int left = PATIENCE; follow && status == 0 && left > 0; left--) {
		sleep(1);
		from = ask_stream(config, "events follow\n", SECONDS, false);
		if (from == NULL)
			continue;
		status = copy(from, argc - first, argv + first);
		fclose(from);
		left = PATIENCE;
	}
	if (follow && status == 0)
		fprintf(stderr, "sallyport events: the daemon is gone\n");
	return follow && status == 0 ? NOT_RUNNING : status;
}
