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

enum offer
offer_known(const struct context *x)
{
	if (!x->is_published)
		return OFFER_UNKNOWN;
	return x->offers_tls ? OFFER_STARTTLS : OFFER_NONE;
}

const char *
farewell_words(enum reason why)
{
	static const struct {
		enum reason reason;
		const char *words;
	} table[] = {
		{ REASON_CONNECT_FAILED, "cannot be reached" },
		{ REASON_CONNECT_TIMEOUT, "does not answer" },
		{ REASON_FORBIDDEN, "is not a permitted destination" },
		{ REASON_TLS_FAILED, "TLS failed" },
		{ REASON_TLS_TIMEOUT, "TLS handshake timed out" },
		{ REASON_TLS_INJECTION, "clear octets where TLS begins" },
		{ REASON_NO_STARTTLS, "does not offer STARTTLS" },
		{ REASON_CERTIFICATE, "certificate not accepted" },
		{ REASON_SERVER_GREETING, "refuses service" },
		{ REASON_SERVER_PROTOCOL, "sent a reply that is none" },
		{ REASON_SERVER_EOF, "closed the connection" },
		{ REASON_SERVER_RESET, "closed the connection" },
		{ REASON_SERVER_TIMEOUT, "is silent" },
		{ REASON_CLIENT_TIMEOUT, "waited too long for you" },
		{ REASON_LINE_TOO_LONG, "line too long" },
		{ REASON_NUL_BYTE, "NUL byte in a command" },
		{ REASON_CLIENT_PROTOCOL, "command not understood" },
		{ REASON_TOO_MANY_ERRORS, "too many refused commands" },
		{ REASON_MAX_PER_LINE, "too many connections from your line" },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (table[i].reason == why)
			return table[i].words;
	return "try again later";
}

void
notes_code(struct notes *n, const uint8_t *p, size_t len)
{
	const uint8_t *end = len > 0 && p[0] == '[' ?
		memchr(p, ']', len < NOTES_CODE_MAX ? len : NOTES_CODE_MAX) :
		NULL;

	notes_detail(n, p, end != NULL ? (size_t)(end + 1 - p) : 0);
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
