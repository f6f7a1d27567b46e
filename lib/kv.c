/*
 * kv.c - the one writer and escaper of key=value log lines
 *
 * Builds a line in the caller's memory: an event word, then " key=value"
 * pairs in the order of the calls. Does not write it anywhere and does not
 * allocate.
 *
 * Called for session events and operational messages. A helper name, a HELO
 * argument or a server's reply is chosen by an attacker who would like to end
 * the line or to add a pair; kv_text is the only way such bytes get in.
 *
 * Must hold: the line is NUL-terminated after every call; a pair either is
 * whole or is absent, except a text, which may be shortened and is still
 * closed by its quote. What did not fit sets cut.
 */
#include "lib/kv.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "lib/addr.h"

/* Append n bytes or nothing. */
static int
put(struct kv *k, const char *s, size_t n)
{
	if (k->cap == 0 || n > k->cap - 1 - k->len) {
		k->cut = 1;
		return -1;
	}
	memcpy(k->out + k->len, s, n);
	k->len += n;
	k->out[k->len] = '\0';
	return 0;
}

/* Take back a pair that did not fit. */
static void
rewind_to(struct kv *k, size_t len)
{
	k->len = len;
	if (k->cap != 0)
		k->out[len] = '\0';
}

static int
put_key(struct kv *k, const char *key)
{
	if (put(k, " ", 1) < 0 || put(k, key, strlen(key)) < 0)
		return -1;
	return put(k, "=", 1);
}

static void
pair(struct kv *k, const char *key, const char *value)
{
	size_t start = k->len;

	if (put_key(k, key) < 0 || put(k, value, strlen(value)) < 0)
		rewind_to(k, start);
}

void
kv_open(struct kv *k, char *out, size_t cap, const char *event)
{
	k->out = out;
	k->cap = cap;
	k->len = 0;
	k->cut = 0;
	rewind_to(k, 0);
	put(k, event, strlen(event));
}

void
kv_word(struct kv *k, const char *key, const char *word)
{
	pair(k, key, word != NULL && word[0] != '\0' ? word : "-");
}

void
kv_uint(struct kv *k, const char *key, uint64_t n)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, n);
	pair(k, key, text);
}

void
kv_tenths(struct kv *k, const char *key, uint64_t ms)
{
	char text[32];

	snprintf(text, sizeof(text), "%" PRIu64 ".%u", ms / 1000,
		(unsigned)(ms % 1000 / 100));
	pair(k, key, text);
}

void
kv_addr(struct kv *k, const char *key, const struct addr *a)
{
	char text[ADDR_STRLEN];

	pair(k, key, a->family != 0 ? addr_format(a, text) : "-");
}

void
kv_addr_port(struct kv *k, const char *key, const struct addr *a)
{
	char text[ADDR_STRLEN];

	pair(k, key, a->family != 0 ? addr_format_port(a, text) : "-");
}

/* One byte as it appears between quotes. Returns its length. */
static size_t
escape(unsigned char c, char out[4])
{
	static const char hex[] = "0123456789abcdef";

	if (c == '"' || c == '\\') {
		out[0] = '\\';
		out[1] = (char)c;
		return 2;
	}
	if (c >= 0x20 && c < 0x7f) {
		out[0] = (char)c;
		return 1;
	}
	out[0] = '\\';
	out[1] = 'x';
	out[2] = hex[c >> 4];
	out[3] = hex[c & 15];
	return 4;
}

void
kv_text(struct kv *k, const char *key, const char *text, size_t len)
{
	size_t start = k->len;
	char esc[4];

	if (put_key(k, key) < 0 || put(k, "\"", 1) < 0 || k->len + 1 >= k->cap) {
		k->cut = 1;
		rewind_to(k, start);
		return;
	}
	k->cap--;	/* keep the room of the closing quote */
	for (size_t i = 0; i < len; i++)
		if (put(k, esc, escape((unsigned char)text[i], esc)) < 0)
			break;
	k->cap++;
	put(k, "\"", 1);
}
