/*
 * answer.h - answers of the daemon to commands that change something
 */
#ifndef SALLYPORT_TOOLS_ANSWER_H
#define SALLYPORT_TOOLS_ANSWER_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "tools/ask.h"

/* A member of an object: "" or 0 when there is none of that kind. */
const char *answer_text(const json_t *object, const char *key);
int64_t answer_number(const json_t *object, const char *key);
void answer_print(const json_t *object);
/* "2026-11-25 18:14 UTC"; "never" for 0. Returns out. */
const char *answer_when(int64_t t, char out[32]);

/*
 * Ask, with a descriptor (-1: none) that stays the caller's. The caller's
 * object when it is "ok"; else NULL and the exit status in *status_r, after
 * saying why; command ("allow add") and file are for that.
 */
json_t *answer_of(const char *command, const char *config, const char *request,
	int with, const char *file, int seconds, int *status_r);

/*
 * A whole command without a file: ask, then print the answer as JSON, or have it
 * shown in words, with asked for them. The exit status.
 */
int answer_command(const char *command, const char *config,
	const char *request, int seconds, bool json,
	void (*show)(const json_t *answer, const char *asked),
	const char *asked);

/* A file for the daemon to read, "-" for standard input; a pipe is read into
 * memory first. -1 with errno. */
int answer_file(const char *path);

#endif
