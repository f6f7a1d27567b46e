/*
 * message.h - the message that the bench's server sends and its clients check
 *
 * Both ends make it from its length alone, so that every octet that arrives
 * can be compared. No line begins with a dot: nothing is stuffed.
 */
#ifndef SALLYPORT_BENCH_MESSAGE_H
#define SALLYPORT_BENCH_MESSAGE_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#define MESSAGE_LINE 78u

/* size octets of CRLF lines, the last one whole; size > 1. NULL: no memory. */
static inline uint8_t *
message_make(size_t size)
{
	uint8_t *p = malloc(size);

	if (p == NULL)
		return NULL;
	for (size_t i = 0; i < size; i++) {
		size_t column = i % MESSAGE_LINE;

		p[i] = (uint8_t)('A' + (i / MESSAGE_LINE + column) % 26);
		if (column == MESSAGE_LINE - 2)
			p[i] = '\r';
		if (column == MESSAGE_LINE - 1)
			p[i] = '\n';
	}
	if (size > 1) {
		p[size - 2] = '\r';
		p[size - 1] = '\n';
	}
	return p;
}

#endif
