/*
 * answer.c - answers of the daemon to commands that change something
 *
 * Does: turn a refusal into words and an exit status, open what the daemon is to
 * read. Does not: know what was asked.
 *
 * Called by the subcommands that hand lines or files to the daemon. A file may
 * be anything; the daemon reads and checks it.
 */
#include "tools/answer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

const char *
answer_text(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text != NULL ? text : "";
}

int64_t
answer_number(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

/* The daemon's refusal, with the file's name in front of its lines. */
static int
refused(const char *command, const json_t *answer, const char *file)
{
	const char *errors = answer_text(answer, "errors");
	int64_t lines = answer_number(answer, "lines");

	for (unsigned n = 0; errors[0] != '\0'; n++) {
		size_t len = strcspn(errors, "\n");

		fprintf(stderr, "%s:%.*s\n", file, (int)len, errors);
		errors += len + (errors[len] == '\n');
		lines--;
	}
	if (lines > 0)
		fprintf(stderr, "%s: %lld more lines with mistakes\n", file,
			(long long)lines);
	fprintf(stderr, "sallyport %s: %s\n", command,
		answer_text(answer, "error"));
	return 1;
}

/* NULL, with the exit status in *status_r, unless the answer is "ok". */
json_t *
answer_of(const char *command, const char *config, const char *request, int with,
	const char *file, int seconds, int *status_r)
{
	json_t *answer = ask_daemon_with(config, request, with, seconds);

	*status_r = 0;
	if (answer == NULL)
		*status_r = NOT_RUNNING;
	else if (!json_is_true(json_object_get(answer, "ok")))
		*status_r = refused(command, answer, file);
	if (*status_r == 0)
		return answer;
	json_decref(answer);
	return NULL;
}

void
answer_print(const json_t *object)
{
	json_dumpf(object, stdout, JSON_INDENT(2));
	putchar('\n');
}

const char *
answer_when(int64_t t, char out[32])
{
	time_t clock = (time_t)t;
	struct tm tm;

	if (t == 0 || gmtime_r(&clock, &tm) == NULL ||
	    strftime(out, 32, "%Y-%m-%d %H:%M UTC", &tm) == 0)
		snprintf(out, 32, "never");
	return out;
}

int
answer_command(const char *command, const char *config, const char *request,
	int seconds, bool json,
	void (*show)(const json_t *answer, const char *asked),
	const char *asked)
{
	int status;
	json_t *answer = answer_of(command, config, request, -1, "", seconds,
		&status);

	if (answer == NULL)
		return status;
	if (json)
		answer_print(answer);
	else
		show(answer, asked);
	json_decref(answer);
	return 0;
}

/* What is no regular file (a pipe, "-") is read into memory first. */
static int
swallow(int from)
{
	int to = memfd_create("import", MFD_CLOEXEC);
	char piece[65536];
	ssize_t n;

	while (to >= 0 && (n = read(from, piece, sizeof(piece))) != 0)
		if (n < 0 ? errno != EINTR : write(to, piece, (size_t)n) != n) {
			close(to);
			return -1;
		}
	if (to >= 0)
		(void)lseek(to, 0, SEEK_SET);
	return to;
}

int
answer_file(const char *path)
{
	bool standard = strcmp(path, "-") == 0;
	int fd = standard ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
	int copy;
	struct stat st;

	if (fd < 0 || (fstat(fd, &st) == 0 && S_ISREG(st.st_mode)))
		return fd;
	copy = swallow(fd);
	if (!standard)
		close(fd);
	return copy;
}
