/*
 * kv.c - the one writer and escaper of log lines: key=value, or JSON
 *
 * Builds a line in the caller's memory: an event word, then " key=value"
 * pairs, or the members of an object, in the order of the calls. Does not
 * write it anywhere and does not allocate.
 *
 * Called for session events and operational messages. A helper name, a HELO
 * argument or a server's reply is chosen by an attacker who would like to end
 * the line or to add a pair; kv_text is the only way such bytes get in.
 *
 * Must hold: the line is NUL-terminated after every call; a pair either is
 * whole or is absent, except a text, which may be shortened and is still
 * closed by its quote. What did not fit sets cut. An object is closed after
 * every call: its last byte is taken back by the next one.
 */
#include "lib/kv.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "lib/addr.h"

static enum kv_form form_now = KV_PAIRS;

/* Keys that have a name in the Elastic Common Schema. */
static const struct {
	const char *key, *name;
} ecs[] = {
	{ "id", "event.id" },		{ "reason", "event.reason" },
	{ "dur", "event.duration" },	{ "src", "source" },
	{ "up", "source.bytes" },	{ "out", "source.nat" },
	{ "dst", "destination" },	{ "down", "destination.bytes" },
	{ "via", "destination.nat" },
	{ "server", "destination.domain" },
	{ "tls", "tls.version" },	{ "detail", "error.message" },
	{ "error", "error.message" },	{ "who", "user.name" },
	{ "process", "process.name" },	{ "pid", "process.pid" },
	{ "file", "file.path" },	{ "message", "message" },
	{ "from", "email.from.address" },
	{ "to", "email.to.address" },
};

void
kv_set_form(enum kv_form form)
{
	form_now = form;
}

enum kv_form
kv_form(void)
{
	return form_now;
}

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

/* Texts, up to a NULL; not all of them may fit. */
static int
put_texts(struct kv *k, const char *const *text)
{
	for (; *text != NULL; text++)
		if (put(k, *text, strlen(*text)) < 0)
			return -1;
	return 0;
}

#define put_all(k, ...) put_texts(k, (const char *const[]){ __VA_ARGS__, NULL })

/* Take back a pair that did not fit. */
static void
rewind_to(struct kv *k, size_t len)
{
	k->len = len;
	if (k->cap != 0)
		k->out[len] = '\0';
}

/* The object's end, behind what counts; there is always room for it. */
static void
seal(struct kv *k)
{
	if (k->form != KV_JSON || k->cap == 0)
		return;
	k->out[k->len] = '}';
	k->out[k->len + 1] = '\0';
}

/* ,"name": with what distinguishes one of two members of a key. */
static int
put_name(struct kv *k, const char *key, const char *suffix)
{
	const char *own = "sallyport.", *name = key;

	for (size_t i = 0; i < sizeof(ecs) / sizeof(ecs[0]); i++)
		if (strcmp(key, ecs[i].key) == 0) {
			own = "";
			name = ecs[i].name;
		}
	return put_all(k, ",\"", own, name, suffix, "\":");
}

static int
put_key(struct kv *k, const char *key)
{
	if (k->form == KV_JSON)
		return put_name(k, key, "");
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
	seal(k);
}

/* A member whose value needs no escape. */
static void
member(struct kv *k, const char *key, const char *suffix, const char *value)
{
	size_t start = k->len;

	if (put_name(k, key, suffix) < 0 || put_all(k, "\"", value, "\"") < 0)
		rewind_to(k, start);
	seal(k);
}

void
kv_open(struct kv *k, char *out, size_t cap, const char *event)
{
	size_t room = form_now == KV_JSON ? 1 : 0; /* of the closing brace */

	k->out = out;
	k->cap = cap > room ? cap - room : 0;
	k->len = 0;
	k->cut = 0;
	k->form = form_now;
	if (cap > 0)
		out[0] = '\0';
	if (k->form == KV_PAIRS)
		put(k, event, strlen(event));
	else if (put_all(k, "{\"event.action\":\"", event, "\"") < 0) {
		rewind_to(k, 0);
		k->cap = 0; /* no object can come of it */
	}
	seal(k);
}

void
kv_word(struct kv *k, const char *key, const char *word)
{
	if (word == NULL || word[0] == '\0') {
		if (k->form == KV_PAIRS)
			pair(k, key, "-");
	} else if (k->form == KV_PAIRS)
		pair(k, key, word);
	else
		member(k, key, "", word);
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

	if (k->form == KV_JSON)
		snprintf(text, sizeof(text), "%" PRIu64, ms * 1000000);
	else
		snprintf(text, sizeof(text), "%" PRIu64 ".%u", ms / 1000,
			(unsigned)(ms % 1000 / 100));
	pair(k, key, text);
}

void
kv_addr(struct kv *k, const char *key, const struct addr *a)
{
	char text[ADDR_STRLEN];

	kv_word(k, key, a->family != 0 ? addr_format(a, text) : NULL);
}

void
kv_addr_port(struct kv *k, const char *key, const struct addr *a)
{
	char text[ADDR_STRLEN];
	size_t start = k->len;

	if (k->form == KV_PAIRS || a->family == 0) {
		kv_word(k, key, a->family != 0 ? addr_format_port(a, text) :
			NULL);
		return;
	}
	member(k, key, ".ip", addr_format(a, text));
	if (k->len == start)
		return;
	snprintf(text, sizeof(text), "%u", a->port);
	if (put_name(k, key, ".port") < 0 || put_all(k, text) < 0)
		rewind_to(k, start); /* both or none */
	seal(k);
}

/* One byte as it appears between quotes. Returns its length. */
static size_t
escape(unsigned char c, enum kv_form form, char out[6])
{
	static const char hex[] = "0123456789abcdef";
	size_t n;

	if (c == '"' || c == '\\') {
		out[0] = '\\';
		out[1] = (char)c;
		return 2;
	}
	if (c >= 0x20 && c < 0x7f) {
		out[0] = (char)c;
		return 1;
	}
	n = form == KV_JSON ? 4 : 2;
	memcpy(out, form == KV_JSON ? "\\u00" : "\\x", n);
	out[n] = hex[c >> 4];
	out[n + 1] = hex[c & 15];
	return n + 2;
}

void
kv_text(struct kv *k, const char *key, const char *text, size_t len)
{
	size_t start = k->len;
	char esc[6];

	if (put_key(k, key) < 0 || put(k, "\"", 1) < 0 || k->len + 1 >= k->cap) {
		k->cut = 1;
		rewind_to(k, start);
		seal(k);
		return;
	}
	k->cap--;	/* keep the room of the closing quote */
	for (size_t i = 0; i < len; i++)
		if (put(k, esc, escape((unsigned char)text[i], k->form, esc)) < 0)
			break;
	k->cap++;
	put(k, "\"", 1);
	seal(k);
}
