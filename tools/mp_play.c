/*
 * mp_play.c - play a scenario, step after step, until something differs
 *
 * Does: each step's comparison, the deadline of each, and the conversation as
 * text. Does not: touch sockets; mp_peer.c does.
 *
 * What a step does not expect is a difference too: octets that nobody has asked
 * for stay unread, and whoever then sends, ends or is ended with some left has
 * found one. So a scenario also says what is not sent.
 *
 * Called by mailpeer.c. Whatever peers say is written to the conversation with
 * everything escaped that is not printable ASCII.
 */
#include <errno.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>

#include "proxyd/frame.h"
#include "tools/mailpeer.h"

/* Of one line or step, in the conversation. */
#define SHOWN 400
/* Sent by octets, at most: the rest of a flood comes as it is. */
#define BY_OCTETS 4096

struct player {
	const struct mp_play *play;
	struct mp_peer peer[MP_PEERS];
	const struct mp_step *step;
	struct mp_peer *p;	/* of that step */
	int64_t deadline;
};

/* ---- the conversation ---- */

static void
show(const struct player *y, const char *mark, const uint8_t *text, size_t n)
{
	FILE *f = y->play->talk;

	fprintf(f, "%s %s ", y->p->name, mark);
	for (size_t i = 0; i < n && i < SHOWN; i++) {
		if (text[i] == '\r')
			fputs("\\r", f);
		else if (text[i] == '\n')
			fputs("\\n", f);
		else if (text[i] < ' ' || text[i] > '~')
			fprintf(f, "\\x%02x", text[i]);
		else
			fputc(text[i], f);
	}
	if (n > SHOWN)
		fprintf(f, "... (%zu octets)", n);
	fputc('\n', f);
}

/* The step is not what happened. Always -1. */
static int
differs(const struct player *y, const char *what)
{
	const struct mp_step *s = y->step;

	fprintf(y->play->talk, "%s:%u: %s %s", s->file, s->line, y->p->name,
		mp_verb_word[s->verb]);
	if (s->times > 1)
		fprintf(y->play->talk, " *%u", s->times);
	if (s->len > 0)
		fprintf(y->play->talk, " %.*s%s", (int)(s->len < SHOWN ?
			s->len : SHOWN), (const char *)s->text,
			s->len < SHOWN ? "" : "...");
	fprintf(y->play->talk, "\n    but %s\n", what);
	return -1;
}

static int
differs_end(const struct player *y)
{
	return differs(y, y->p->fd == -1 ? "it has no connection" :
		y->p->end == PEER_EOF ? "the other side has closed it" :
		y->p->end == PEER_RESET ? "the other side has reset it" :
		"nothing came in time");
}

/* Unread octets, if there are any: said. -1: there are. */
static int
nothing_left(const struct player *y)
{
	struct mp_peer *p = y->p;

	if (p->skip || p->seen == p->n)
		return 0;
	show(y, "<", p->in + p->seen, p->n - p->seen);
	return differs(y, "this was not expected");
}

/* ---- comparisons ---- */

/* '*': any octets, none as well. */
static bool
is_like(const uint8_t *text, size_t n, const uint8_t *glob, size_t g)
{
	const uint8_t *star = NULL, *retry = NULL, *end = text + n;
	const uint8_t *last = glob + g;

	while (text < end) {
		if (glob < last && *glob == '*') {
			star = glob++;
			retry = text;
		} else if (glob < last && *glob == *text) {
			glob++;
			text++;
		} else if (star != NULL) {
			glob = star + 1;
			text = ++retry;
		} else {
			return false;
		}
	}
	while (glob < last && *glob == '*')
		glob++;
	return glob == last;
}

/* The next line, shown and consumed. 0 or -1. */
static int
next_line(const struct player *y, struct line *l)
{
	struct mp_peer *p = y->p;
	int found;

	while ((found = frame_line(p->in + p->seen, p->n - p->seen, l)) == 0)
		if (peer_fill(p, y->deadline) != 1) {
			if (nothing_left(y) == -1)
				return -1;
			return differs_end(y);
		}
	if (found == -1)
		return differs(y, "a line is longer than any may be");
	show(y, "<", l->text, l->len);
	p->seen += l->total;
	return 0;
}

static int
play_expect(const struct player *y)
{
	const struct mp_step *s = y->step;
	struct line l;

	do {
		if (next_line(y, &l) == -1)
			return -1;
		if (is_like(l.text, l.len, s->text, s->len))
			return l.flags & LINE_BARE_LF ?
				differs(y, "it ends in a bare LF") : 0;
	} while (s->verb == MP_UNTIL);
	return differs(y, "the line is another");
}

static int
play_exact(const struct player *y)
{
	const struct mp_step *s = y->step;
	struct mp_peer *p = y->p;

	for (unsigned i = 0; i < s->times; i++) {
		size_t same = 0;

		while (p->n - p->seen < s->len)
			if (peer_fill(p, y->deadline) != 1)
				return nothing_left(y) == -1 ? -1 :
					differs_end(y);
		while (same < s->len && p->in[p->seen + same] == s->text[same])
			same++;
		if (same < s->len) {
			show(y, "<", p->in + p->seen, p->n - p->seen);
			return differs(y, "the octets are others");
		}
		if (i == 0)
			show(y, "<", s->text, s->len);
		p->seen += s->len;
	}
	return 0;
}

static int
play_never(const struct player *y)
{
	const struct mp_step *s = y->step;
	const struct mp_peer *p = y->p;

	return p->n == 0 || memmem(p->in, p->n, s->text, s->len) == NULL ? 0 :
		differs(y, "it was received");
}

/* ---- sending ---- */

static int
send_octets(const struct player *y, const uint8_t *text, size_t n)
{
	size_t step = y->play->octets;

	for (size_t at = 0; at < n; ) {
		size_t take = step == 0 || n - at < step || at >= BY_OCTETS ?
			n - at : step;

		if (peer_send(y->p, text + at, take, y->step->verb == MP_WIRE,
			y->deadline) == -1)
			return -1;
		at += take;
	}
	return 0;
}

static int
play_send(const struct player *y)
{
	const struct mp_step *s = y->step;
	size_t tail = s->verb == MP_SEND ? 2 : 0;
	size_t one = s->len + tail, n = one * s->times;
	uint8_t *all;
	int rc;

	if (nothing_left(y) == -1)
		return -1;
	all = n <= MP_RECEIVED_MAX ? calloc(1, n + 1) : NULL;
	if (all == NULL)
		return differs(y, "there is no room for so much");
	for (unsigned i = 0; i < s->times; i++) {
		memcpy(all + i * one, s->text, s->len);
		memcpy(all + i * one + s->len, "\r\n", tail);
	}
	show(y, ">", all, tail > 0 ? s->len : n);
	rc = send_octets(y, all, n);
	free(all);
	return rc == 0 || s->verb == MP_POUR ? 0 :
		differs(y, "it could not be sent");
}

/* ---- connections ---- */

static int
play_address(struct player *y)
{
	const struct mp_step *s = y->step;
	const char *text = (const char *)s->text;
	const char *more = strstr(text, " from ");
	char first[ADDR_STRLEN], why[200];
	struct addr to, from;
	size_t n = more != NULL ? (size_t)(more - text) : s->len;
	int rc;

	if (n >= sizeof(first))
		return differs(y, "this is no address with a port");
	memcpy(first, text, n);
	first[n] = '\0';
	if (addr_parse(&to, first) == -1 || to.port == 0 ||
	    (more != NULL && addr_parse(&from, more + 6) == -1))
		return differs(y, "this is no address with a port");
	rc = s->verb == MP_LISTEN ? peer_listen(y->p, &to, why, sizeof(why)) :
		peer_connect(y->p, &to, more != NULL ? &from : NULL,
			y->deadline, why, sizeof(why));
	if (rc == -1)
		return differs(y, why);
	fprintf(y->play->talk, "%s %s %s\n", y->p->name,
		mp_verb_word[s->verb], text);
	return 0;
}

static int
play_accept(struct player *y)
{
	char why[200];

	if (peer_accept(y->p, y->deadline, why, sizeof(why)) == -1)
		return differs(y, why);
	fprintf(y->play->talk, "%s accepts\n", y->p->name);
	return 0;
}

static int
play_tls(struct player *y)
{
	char why[200];

	if (peer_tls(y->p, (const char *)y->step->text, y->play->trust,
		y->deadline, why, sizeof(why)) == -1)
		return differs(y, why);
	fprintf(y->play->talk, "%s is in %s\n", y->p->name,
		SSL_get_version(y->p->ssl));
	return 0;
}

static int
play_quiet(const struct player *y)
{
	(void)peer_fill(y->p, mp_now());
	return nothing_left(y);
}

static int
play_end(const struct player *y)
{
	const struct mp_step *s = y->step;
	struct mp_peer *p = y->p;
	int rc;

	while ((rc = peer_fill(p, y->deadline)) == 1)
		if (p->skip)
			p->seen = p->n;
	if (nothing_left(y) == -1)
		return -1;
	if (rc == 0 || p->fd == -1)
		return differs_end(y);
	if ((strcmp((const char *)s->text, "eof") == 0 &&
		p->end != PEER_EOF) ||
	    (strcmp((const char *)s->text, "reset") == 0 &&
		p->end != PEER_RESET))
		return differs_end(y);
	fprintf(y->play->talk, "%s < [%s]\n", p->name,
		p->end == PEER_EOF ? "end" : "reset");
	return 0;
}

static int
play_leave(const struct player *y)
{
	if (play_quiet(y) == -1)
		return -1;
	if (y->p->fd == -1)
		return differs_end(y);
	fprintf(y->play->talk, "%s %s\n", y->p->name,
		mp_verb_word[y->step->verb]);
	peer_end(y->p, y->step->verb);
	return 0;
}

/* ---- one after the other ---- */

static int
play_step(struct player *y)
{
	switch (y->step->verb) {
	case MP_CONNECT: case MP_LISTEN:
		return play_address(y);
	case MP_ACCEPT:
		return play_accept(y);
	case MP_TLS:
		return play_tls(y);
	case MP_SEND: case MP_RAW: case MP_POUR: case MP_WIRE:
		return play_send(y);
	case MP_EXPECT: case MP_UNTIL:
		return play_expect(y);
	case MP_EXACT:
		return play_exact(y);
	case MP_NEVER:
		return play_never(y);
	case MP_QUIET:
		return play_quiet(y);
	case MP_SKIP:
		y->p->skip = true;
		return 0;
	case MP_END:
		return play_end(y);
	default:
		return play_leave(y);
	}
}

/* Everybody who is still there at the end has read everything. */
static int
play_all(struct player *y)
{
	const struct mp_script *s = y->play->script;

	for (size_t i = 0; i < s->n; i++) {
		y->step = &s->step[i];
		y->p = &y->peer[y->step->peer];
		y->deadline = mp_now() + y->play->limit;
		if (play_step(y) == -1)
			return 1;
	}
	for (unsigned i = 0; i < s->npeers; i++) {
		y->p = &y->peer[i];
		if (y->p->fd != -1 && play_quiet(y) == -1)
			return 1;
	}
	return 0;
}

int
mp_play(const struct mp_play *play)
{
	struct player y = { .play = play };
	int rc;

	for (unsigned i = 0; i < play->script->npeers; i++) {
		const char *name = play->script->peer[i];

		y.peer[i].name = name;
		y.peer[i].ns = mp_setting_find(play->ns, name, strlen(name));
		y.peer[i].fd = y.peer[i].listener = -1;
	}
	rc = play_all(&y);
	for (unsigned i = 0; i < play->script->npeers; i++)
		peer_free(&y.peer[i]);
	return rc;
}
