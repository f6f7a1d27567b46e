/*
 * proto.c - the few things all protocol machines share
 *
 * Output sinks and notes. A sink that is full drops what does not fit: the
 * session guarantees room, so that cannot happen unless a machine writes more
 * than SINK_ROOM for one unit, which tests look for.
 */
#include "proxyd/proto.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void
sink_bytes(struct sink *k, const void *p, size_t n)
{
	if (n > k->cap - k->len)
		n = k->cap - k->len;
	if (n > 0)
		memcpy(k->p + k->len, p, n);
	k->len += n;
}

void
sink_text(struct sink *k, const char *fmt, ...)
{
	char text[1024];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (n > 0)
		sink_bytes(k, text, (size_t)n < sizeof(text) ? (size_t)n :
			sizeof(text) - 1);
}

void
notes_detail(struct notes *n, const uint8_t *p, size_t len)
{
	size_t i;

	if (len >= sizeof(n->detail))
		len = sizeof(n->detail) - 1;
	for (i = 0; i < len; i++)
		n->detail[i] = p[i] >= 0x20 && p[i] < 0x7f ? (char)p[i] : '?';
	n->detail[len] = '\0';
}
