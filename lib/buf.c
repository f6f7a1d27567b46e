/*
 * buf.c - a bounded byte queue
 *
 * Holds what could not be written yet. Does no I/O and interprets nothing.
 * Called by the channels of a session (proxyd/) and by the pipes between our
 * processes. The bytes come from peers and may be passwords: memory is wiped
 * before it is given back, also when the queue moves to a larger block, which
 * is why realloc(3) is not used.
 *
 * Invariant: mem == NULL exactly when len == 0 (and then off == cap == 0);
 * off + len <= cap <= BUF_MAX.
 */
#include "lib/buf.h"

#include <stdlib.h>
#include <string.h>

#define BUF_FIRST 1024u

void
buf_clear(struct buf *b)
{
	if (b->mem != NULL) {
		explicit_bzero(b->mem, b->cap);
		free(b->mem);
	}
	memset(b, 0, sizeof(*b));
}

/* A larger block with the unread bytes at its beginning. */
static int
buf_grow(struct buf *b, uint32_t need)
{
	uint32_t cap = b->cap != 0 ? b->cap : BUF_FIRST;
	uint32_t len = b->len;
	uint8_t *mem;

	while (cap < need)
		cap *= 2;
	if ((mem = malloc(cap)) == NULL)
		return -1;
	if (len != 0)
		memcpy(mem, b->mem + b->off, len);
	buf_clear(b);
	b->mem = mem;
	b->len = len;
	b->cap = cap;
	return 0;
}

int
buf_append(struct buf *b, const void *p, size_t n)
{
	uint32_t need;

	if (n == 0)
		return 0;
	if (n > BUF_MAX - b->len)
		return -1;
	need = b->len + (uint32_t)n;
	if (need > b->cap) {
		if (buf_grow(b, need) < 0)
			return -1;
	} else if (need > b->cap - b->off) {
		memmove(b->mem, b->mem + b->off, b->len);
		b->off = 0;
	}
	memcpy(b->mem + b->off + b->len, p, n);
	b->len = need;
	return 0;
}

void
buf_consume(struct buf *b, size_t n)
{
	if (n >= b->len) {
		buf_clear(b);
		return;
	}
	b->off += (uint32_t)n;
	b->len -= (uint32_t)n;
}
