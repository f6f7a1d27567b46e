/*
 * why.h - why a line gets what it gets: asked, and said in words
 */
#ifndef SALLYPORT_TOOLS_WHY_H
#define SALLYPORT_TOOLS_WHY_H

#include <jansson.h>
#include <stdint.h>

/*
 * Ask the daemon about an address, perhaps with a port; dst: a server's address,
 * or NULL; at: Unix time, 0 for now. The caller's object; NULL with the exit status
 * in *status_r, after saying why in the name of command.
 */
json_t *why_ask(const char *command, const char *config, const char *src,
	const char *dst, int64_t at, int *status_r);

/* The answer in words, on standard output; asked: src. */
void why_print(const json_t *answer, const char *asked);

#endif
