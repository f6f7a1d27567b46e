/*
 * cmd_lease.c - sallyport lease bind | release
 *
 * Does: check the number of words, ask the daemon, show the answer. The daemon
 * checks the line and the customer, decides and writes.
 *
 * Called by the command line's main, mostly by provisioning scripts: binding
 * what is bound and releasing what is not are no errors. Exit status: 0 done, 1
 * refused or failed, 2 usage, 3 the daemon does not answer.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tools/answer.h"
#include "tools/cmd.h"

#define SECONDS 15
#define FILE_SECONDS 70
#define WORD_MAX 120

static int
usage(const char *command, const char *what)
{
	fprintf(stderr, "sallyport lease %s: %s; expected LINE%s, or --file "
		"FILE\n", command, what, strcmp(command, "bind") == 0 ?
		" CUSTOMER" : " [CUSTOMER]");
	return 2;
}

static void
show(const char *command, const json_t *answer, const char *file)
{
	bool bind = strcmp(command, "bind") == 0;
	const char *line = answer_text(answer, "line");
	const char *was = answer_text(answer, "was");

	if (line[0] == '\0')
		printf("%s: %lld %s, %lld were so already\n", file,
			(long long)answer_number(answer, "changed"),
			bind ? "bound" : "released",
			(long long)answer_number(answer, "same"));
	else if (answer_number(answer, "changed") == 0 && bind)
		printf("%s: was bound to %s already\n", line, was);
	else if (answer_number(answer, "changed") == 0)
		printf("%s: was not bound%s%s\n", line, was[0] != '\0' ?
			" to this customer but to " : "", was);
	else
		printf("%s: %s %s%s%s%s\n", line, bind ? "bound to" :
			"released, was bound to", bind ?
			answer_text(answer, "customer") : was,
			bind && was[0] != '\0' ? " (was " : "",
			bind ? was : "", bind && was[0] != '\0' ? ")" : "");
}

static int
ask(const char *command, const char *request, const char *file, int fd,
	const char *config, bool json)
{
	char said[16];
	json_t *answer;
	int status;

	snprintf(said, sizeof(said), "lease %s", command);
	answer = answer_of(said, config, request, fd, file, fd >= 0 ?
		FILE_SECONDS : SECONDS, &status);
	if (answer == NULL)
		return status;
	if (json)
		answer_print(answer);
	else
		show(command, answer, file);
	json_decref(answer);
	return 0;
}

static int
ask_with_file(const char *command, const char *path, const char *config,
	bool json)
{
	char request[32];
	int fd = answer_file(path), status;

	if (fd < 0) {
		fprintf(stderr, "sallyport lease %s: %s: %s\n", command, path,
			strerror(errno));
		return 1;
	}
	snprintf(request, sizeof(request), "lease %s -\n", command);
	status = ask(command, request, path, fd, config, json);
	if (fd != STDIN_FILENO)
		close(fd);
	return status;
}

static int
run(const char *command, int argc, char **argv, const char *config, bool json)
{
	char request[2 * WORD_MAX + 32];

	if (argc >= 2 && strcmp(argv[1], "--file") == 0) {
		if (argc != 3)
			return usage(command, "one file is expected, or -");
		return ask_with_file(command, argv[2], config, json);
	}
	if (argc == 2 && strcmp(argv[1], "-") == 0)
		return ask_with_file(command, "-", config, json);
	if (argc > 3 || argc < (strcmp(command, "bind") == 0 ? 3 : 2))
		return usage(command, "too few or too many words");
	for (int i = 1; i < argc; i++)
		if (argv[i][0] == '-' || argv[i][0] == '\0' ||
		    strpbrk(argv[i], " \t\r\n#") != NULL ||
		    strlen(argv[i]) > WORD_MAX)
			return usage(command, "a word that is not understood");
	snprintf(request, sizeof(request), "lease %s %s %s\n", command,
		argv[1], argc == 3 ? argv[2] : "");
	return ask(command, request, "", -1, config, json);
}

int
cmd_lease_bind(int argc, char **argv, const char *config, bool json)
{
	return run("bind", argc, argv, config, json);
}

int
cmd_lease_release(int argc, char **argv, const char *config, bool json)
{
	return run("release", argc, argv, config, json);
}
