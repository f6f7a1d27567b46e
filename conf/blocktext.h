/*
 * blocktext.h - a line of the operator's text with what differs each time
 *
 * {client} stands for the address of who dialled, {event} for the id of the
 * session's log line, {url} for the page with help. Braces mean nothing else:
 * any other word in them is refused by the configuration.
 */
#ifndef SALLYPORT_BLOCKTEXT_H
#define SALLYPORT_BLOCKTEXT_H

#include <stdbool.h>
#include <stddef.h>

#define BLOCKTEXT_NAMES "{client}, {event} or {url}"

struct blocktext {
	const char *client, *event;	/* NULL: the placeholder stays as it is */
	const char *url;		/* the same */
};

/* Every opening brace begins one of the names? */
bool blocktext_is_valid(const char *text);

/* Is this one, with its braces, in the text? */
bool blocktext_has(const char *text, const char *name);

/* The text with the values, NUL-terminated and cut at cap - 1 octets. Returns
 * its length before cutting. out may be NULL when cap is 0. */
size_t blocktext_fill(const char *text, const struct blocktext *values,
	char *out, size_t cap);

#endif
