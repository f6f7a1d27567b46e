/*
 * run.h - start one system tool, feed it, collect what it says
 *
 * Internal to rules/ (the CLI side). No shell is ever involved.
 */
#ifndef SALLYPORT_RULES_RUN_H
#define SALLYPORT_RULES_RUN_H

#include <stdbool.h>
#include <stddef.h>

struct run {
	int status;	/* exit status; 128 + n after signal n */
	char *out, *err;	/* NUL-terminated, never NULL after run() = 0 */
	size_t out_len;
};

/*
 * Run argv[0] (looked for in the system directories only) with input on its
 * standard input (NULL: none) and wait for it. 0 when it ran, whatever its
 * status; -1 when it could not be started (r->err says why, errno is kept).
 * Free with run_free() in both cases.
 */
int run(struct run *r, const char *const argv[], const char *input, size_t len);
void run_free(struct run *r);

/* Is the tool installed? */
bool run_exists(const char *tool);

/* The first line of r->err without its end, for messages. */
const char *run_why(struct run *r);

#endif
