/*
 * logbook.c - what becomes of sessions' reports on their way to the log
 *
 * Does: let a line's first reports of a minute through, add the others up, take
 * out what the operator does not want to keep. Does not: read the clock, write
 * or escape anything (event.c).
 *
 * Called by control.c with reports of relays. A bot opens sessions as fast as it
 * likes; what it can make of them here is log.per_minute lines and one more. Who
 * has many lines pushes others' sums out before their minute ends: each report
 * writes two lines at most, whatever he does. The place of a line is keyed.
 */
#include "proxyd/logbook.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <syslog.h>

#include "conf/conf.h"
#include "zombie/siphash.h"

#define SETS 256
#define WAYS 4
#define MINUTE 60

struct entry {
	int64_t minute;		/* of Unix time; 0: unused */
	unsigned seen;		/* reports in it */
	struct report sum;	/* of those that were not written; sum.sessions */
};

struct logbook {
	const struct conf *conf;
	void (*write)(void *arg, int level, const char *line);
	void *arg;
	uint64_t key[2];
	int64_t ticked;		/* the minute last looked through */
	struct envelope_key pseudonyms;
	struct entry entry[SETS][WAYS];
};

struct logbook *
logbook_new(const struct conf *c,
	void (*write)(void *arg, int level, const char *line), void *arg)
{
	struct logbook *b = calloc(1, sizeof(*b));

	if (b == NULL)
		return NULL;
	b->conf = c;
	b->write = write;
	b->arg = arg;
	if (getrandom(b->key, sizeof(b->key), 0) == sizeof(b->key))
		return b;
	free(b);
	return NULL;
}

/* ---- one line ---- */

/* A server's words may quote an address: "550 <bob@example.org> unknown". */
static void
hide_addresses(struct report *e)
{
	size_t n = 0;

	for (size_t i = 0; i < e->detail_len;) {
		size_t end = i;

		while (end < e->detail_len && !isspace((unsigned char)e->detail[end]))
			end++;
		if (memchr(e->detail + i, '@', end - i) != NULL)
			e->detail[n++] = '@';
		else {
			memmove(e->detail + n, e->detail + i, end - i);
			n += end - i;
		}
		if (end < e->detail_len)
			e->detail[n++] = ' ';
		i = end + 1;
	}
	e->detail_len = (uint16_t)n;
}

/* The provider's own server is no secret of the subscriber's; what an unlisted
 * one says of itself, or its certificate, would name it. */
static void
hide_destination(struct report *e, enum log_destination how)
{
	static const struct addr none;
	struct addr *told[] = { &e->dst, &e->via };

	if (how == LOG_DESTINATION_FULL)
		return;
	for (size_t i = 0; i < sizeof(told) / sizeof(told[0]); i++) {
		struct addr *a = told[i];
		size_t keep = a->family == AF_INET ? 3 : 6; /* /24, /48 */

		if (how == LOG_DESTINATION_NONE)
			*a = none;
		else if (a->family != 0)
			memset(a->ip + keep, 0, sizeof(a->ip) - keep);
	}
	if (e->server_index < 0)
		e->detail_len = 0;
}

static void
put(struct logbook *b, const struct report *whole, int64_t now)
{
	enum log_envelope how = b->conf->log_envelope;
	char from[ENVELOPE_MAX + 1], to[ENVELOPE_MAX + 1], line[2560];
	struct report e = *whole;

	hide_destination(&e, b->conf->log_destination);
	if (how != LOG_ENVELOPE_FULL)
		hide_addresses(&e);
	envelope_text(&e.envelope.from, how, &b->pseudonyms, now, from);
	envelope_text(&e.envelope.to, how, &b->pseudonyms, now, to);
	event_render(&e, b->conf, from, to, line, sizeof(line));
	b->write(b->arg, event_level[e.kind], line);
}

/* ---- sums ---- */

static uint16_t
sum16(uint16_t a, uint16_t b)
{
	return a + b > UINT16_MAX ? UINT16_MAX : (uint16_t)(a + b);
}

/* What is one session's own is not in a sum. */
static void
begin_sum(struct report *s, const struct report *e)
{
	memset(s, 0, sizeof(*s));
	s->kind = e->kind;
	s->reason = REASON_SUMMARY;
	s->class_index = e->class_index;
	s->server_index = -1;
	s->id = e->id;
	s->at = e->at;
	s->line = e->line;
}

static void
add(struct report *s, const struct report *e)
{
	if (s->sessions == 0)
		begin_sum(s, e);
	s->sessions++;
	s->rcpts += e->rcpts;
	s->messages += e->messages;
	s->bytes_up += e->bytes_up;
	s->bytes_down += e->bytes_down;
	s->domains |= e->domains;
	if (e->code != 0)
		s->code = e->code;
	for (int i = 0; i < EVIDENCE_COUNT; i++) {
		s->good[i] = sum16(s->good[i], e->good[i]);
		s->bad[i] = sum16(s->bad[i], e->bad[i]);
	}
}

static void
end_minute(struct logbook *b, struct entry *n, int64_t now)
{
	if (n->sum.sessions > 0) {
		n->sum.duration_ms = now > n->sum.at ?
			(uint32_t)(now - n->sum.at) * 1000 : 0;
		put(b, &n->sum, now);
	}
	n->sum.sessions = 0;
	n->seen = 0;
}

static bool
is_of(const struct entry *n, const struct report *e)
{
	return n->minute != 0 && n->sum.kind == e->kind &&
		line_key_same(&n->sum.line, &e->line);
}

/* The line's own entry, or the one of its set that is missed least. */
static struct entry *
find(struct logbook *b, const struct report *e)
{
	struct entry *set = b->entry[siphash(b->key, &e->line,
		sizeof(e->line)) % SETS], *worst = set;

	for (struct entry *n = set; n < set + WAYS; n++) {
		if (is_of(n, e))
			return n;
		if (n->minute < worst->minute ||
		    (n->minute == worst->minute && n->seen < worst->seen))
			worst = n;
	}
	return worst;
}

/* Or a POP3 or IMAP session of a server without TLS, carried as it was. */
static bool
is_wrap_that_went_well(const struct report *e)
{
	bool is_wrap = (e->kind == EVENT_WRAP || e->kind == EVENT_PUBLISH) &&
		e->stage == STAGE_SESSION;
	bool is_clear = e->kind == EVENT_RELAY && e->dst.port != 25 &&
		e->dst.port != 0;

	return (is_wrap || is_clear) &&
		(e->reason == REASON_DONE || e->reason == REASON_CLIENT_EOF ||
		e->reason == REASON_SERVER_EOF);
}

void
logbook_take(struct logbook *b, const struct report *e, int64_t now)
{
	unsigned limit = b->conf->log_per_minute;
	struct entry *n;

	if (!b->conf->log_wraps && is_wrap_that_went_well(e))
		return;
	if (limit == 0 || e->kind == EVENT_ALARM) {
		put(b, e, now);
		return;
	}
	n = find(b, e);
	if (!is_of(n, e) || n->minute != now / MINUTE) {
		end_minute(b, n, now);
		begin_sum(&n->sum, e);
		n->minute = now / MINUTE;
	}
	n->seen++;
	if (n->seen <= limit)
		put(b, e, now);
	else
		add(&n->sum, e);
}

static void
end_minutes(struct logbook *b, int64_t before, int64_t now)
{
	for (unsigned set = 0; set < SETS; set++)
		for (unsigned way = 0; way < WAYS; way++)
			if (b->entry[set][way].minute < before)
				end_minute(b, &b->entry[set][way], now);
}

void
logbook_tick(struct logbook *b, int64_t now)
{
	if (now / MINUTE == b->ticked)
		return;
	b->ticked = now / MINUTE;
	end_minutes(b, b->ticked, now);
}

void
logbook_free(struct logbook **bp, int64_t now)
{
	struct logbook *b = *bp;

	if (b == NULL)
		return;
	*bp = NULL;
	end_minutes(b, INT64_MAX, now);
	free(b);
}
