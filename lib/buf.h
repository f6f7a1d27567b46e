/*
 * buf.h - a bounded byte queue: append at the end, consume from the front
 *
 * Empty buffers own no memory, so that an idle session holds none. The bound
 * is the caller's: buf_append refuses to grow beyond BUF_MAX only as a last
 * line of defence.
 */
#ifndef SALLYPORT_BUF_H
#define SALLYPORT_BUF_H

#include <stddef.h>
#include <stdint.h>

/* No queue of one session ever needs more: 4 scratch buffers. */
#define BUF_MAX (256u * 1024u)

struct buf {
	uint8_t *mem;	/* NULL when empty */
	uint32_t off;	/* first unread byte */
	uint32_t len;	/* unread bytes */
	uint32_t cap;
};

/* Copy n bytes to the end. -1: no memory, or beyond BUF_MAX (nothing added). */
int buf_append(struct buf *b, const void *p, size_t n);

/* Drop n bytes (<= len) from the front; frees the memory when empty. */
void buf_consume(struct buf *b, size_t n);

/* Wipe and free. */
void buf_clear(struct buf *b);

static inline const uint8_t *
buf_data(const struct buf *b)
{
	return b->mem + b->off;
}

#endif
