/*
 * drive.h - one protocol machine between two streams of bytes, without sockets
 *
 * What session.c and pump.c do to a machine, for unit tests and fuzzers: cut
 * the streams as machine.expect[] asks, server first, give units to the
 * machine, obey its actions, keep what it wrote for each side. The promises of
 * proto.h are checked at every call; a broken one aborts.
 *
 * Two ways in. Unit tests play a script (drive_play), an array of strings:
 *
 *	"C text"   client sends text and CRLF ("\n" inside: CRLF too)
 *	"S text"   server sends the same way
 *	"X text"   client sends exactly text, with '~' for a NUL
 *	"Y text"   server sends exactly text
 *	"c text"   next lines the client gets; "s text": the server gets
 *	"y text"   server gets exactly text, no CRLF added
 *	"z text"   client gets exactly text
 *	"! words"  next event: dial tls:465, tls, ask, tunnel, accept, hangup,
 *	           keeper MECHANISM STEP CHALLENGE (MECHANISM: a number),
 *	           fail REASON, close REASON
 *	"U"        the dial or the TLS asked for succeeded
 *	"O yes"    the answer to ask: the plain port offers STARTTLS ("O no")
 *	"K line"   the keeper's answer
 *	"F REASON detail"  the session fails from outside
 *	"E"        the server's end of file, as pump.c treats it
 *	"x CS"     what is expected from client and server: N L C D R
 *
 * What is sent can be cut in many ways (drive_ways), none of which may matter.
 * Nothing may be left unread when a script sends or ends, so each script also
 * says what is not sent. Fuzzers give records (drive_records): a byte with the
 * side in bit 7 and a length in the others (127: two more bytes have it), then
 * that many octets; a server's record of length 0 fails the session.
 */
#ifndef SALLYPORT_TESTS_DRIVE_H
#define SALLYPORT_TESTS_DRIVE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxyd/proto.h"
#include "proxyd/relay.h"

#define DRIVE_CHECK(what) do {						\
	if (!(what)) {							\
		fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #what); \
		abort();						\
	}								\
} while (0)

struct drive_bytes {
	uint8_t *p;
	size_t len, cap, seen;
};

struct drive {
	struct machine m;
	struct drive_bytes in[2], out[2], events;
	uint8_t *sink[2];
	bool up;		/* there is a server side */
	bool waiting;		/* for U */
	bool asking;		/* for O */
	bool keeping;		/* for K */
	bool answers;		/* fuzzers: K at once */
	enum offer offer;	/* fuzzers: what is answered at once */
	bool secure;		/* the server side is in TLS */
	bool closed;
	bool guard;		/* submit: nothing but TLS is asked for in clear */
	size_t sent;		/* octets of both sides so far */
	size_t split;		/* the one that begins a new piece; 0: none */
	/* Looks at each call's output; may be NULL. */
	void (*look)(struct drive *d, enum side from, const struct line *l,
		enum smtp_state before, const struct sink out[2]);
};

static inline void
drive_append(struct drive_bytes *b, const void *p, size_t n)
{
	if (b->len + n > b->cap) {
		b->cap = 2 * (b->len + n) + 64;
		b->p = realloc(b->p, b->cap);
		DRIVE_CHECK(b->p != NULL);
	}
	if (n > 0)
		memcpy(b->p + b->len, p, n);
	b->len += n;
}

static inline void
drive_event(struct drive *d, const char *what, const char *more)
{
	drive_append(&d->events, what, strlen(what));
	if (more[0] != '\0')
		drive_append(&d->events, " ", 1);
	drive_append(&d->events, more, strlen(more));
	drive_append(&d->events, "\n", 1);
}

static inline void
drive_open(struct drive *d)
{
	memset(d, 0, sizeof(*d));
	for (int i = 0; i < 2; i++) {
		d->sink[i] = malloc(SINK_SIZE);
		DRIVE_CHECK(d->sink[i] != NULL);
	}
}

static inline void
drive_close(struct drive *d)
{
	for (int i = 0; i < 2; i++) {
		free(d->sink[i]);
		free(d->in[i].p);
		free(d->out[i].p);
	}
	free(d->events.p);
}

static inline size_t
drive_left(const struct drive_bytes *b)
{
	return b->len - b->seen;
}

static inline void
drive_sinks(struct drive *d, struct sink out[2])
{
	for (int i = 0; i < 2; i++) {
		out[i].p = d->sink[i];
		out[i].cap = SINK_SIZE;
		out[i].len = 0;
	}
}

/* No octet of the client's before TLS. */
static inline void
drive_guard(const struct drive *d, const struct sink *k)
{
	char hello[300];

	snprintf(hello, sizeof(hello), "EHLO %s\r\n", d->m.context->gateway);
	DRIVE_CHECK(k->len == 0 || (k->len == strlen(hello) &&
		memcmp(k->p, hello, k->len) == 0) || (k->len == 10 &&
		memcmp(k->p, "STARTTLS\r\n", 10) == 0));
}

/* session_flush_sinks, with what every machine promises. */
static inline void
drive_flush(struct drive *d, const struct sink out[2], size_t room)
{
	if (d->guard && !d->secure)
		drive_guard(d, &out[SERVER]);
	for (int i = 0; i < 2; i++) {
		DRIVE_CHECK(out[i].len <= out[i].cap);
		DRIVE_CHECK(out[i].len <= room);
		if (i == CLIENT || d->up)
			drive_append(&d->out[i], out[i].p, out[i].len);
	}
}

/* session_fail */
static inline void
drive_fail(struct drive *d, enum reason why, const char *detail)
{
	struct sink out[2];

	if (d->closed)
		return;
	if (detail[0] != '\0')
		notes_detail(&d->m.notes, (const uint8_t *)detail,
			strlen(detail));
	drive_event(d, "fail", reason_word[why]);
	drive_sinks(d, out);
	d->m.ops->farewell(&d->m, why, d->m.notes.detail, out);
	out[SERVER].len = 0;
	drive_flush(d, out, SINK_ROOM);
	d->closed = true;
}

static inline void
drive_dial(struct drive *d)
{
	static const char *const mode[] = { "plain", "tls", "starttls",
		"plain" };
	char where[32];

	if (d->up && drive_left(&d->in[CLIENT]) > 0) {
		drive_fail(d, REASON_TLS_INJECTION, "");
		return;
	}
	d->up = d->secure = false;
	d->in[SERVER].seen = d->in[SERVER].len;
	d->waiting = true;
	snprintf(where, sizeof(where), "%s:%u", mode[d->m.dial.mode],
		d->m.dial.port);
	drive_event(d, "dial", where);
}

static inline void
drive_act(struct drive *d, enum act act);

/* dial_offered */
static inline void
drive_offered(struct drive *d, enum offer offer)
{
	struct sink out[2];
	enum act act;

	DRIVE_CHECK(offer != OFFER_UNKNOWN);
	d->asking = false;
	d->m.offer = offer;
	drive_sinks(d, out);
	act = d->m.ops->offered(&d->m, out);
	drive_flush(d, out, SINK_ROOM);
	drive_act(d, act);
}

/* account.c: answered */
static inline void
drive_answered(struct drive *d, const char *line)
{
	struct sink out[2];
	enum act act;

	DRIVE_CHECK(d->keeping);
	d->keeping = false;
	drive_sinks(d, out);
	act = d->m.ops->answered(&d->m, line, strlen(line), out);
	drive_flush(d, out, SINK_ROOM);
	drive_act(d, act);
}

/* account_ask */
static inline void
drive_keeper(struct drive *d)
{
	const struct account_use *use = d->m.context->account;
	char question[ACCOUNT_CHALLENGE_MAX + 32];

	DRIVE_CHECK(d->secure && use != NULL);
	DRIVE_CHECK(use->mechanism > MECHANISM_AUTO &&
		use->mechanism < MECHANISM_COUNT);
	DRIVE_CHECK(use->challenge_len <= sizeof(use->challenge));
	snprintf(question, sizeof(question), "%d %u %.*s", (int)use->mechanism,
		use->step, (int)use->challenge_len, use->challenge);
	drive_event(d, "keeper", question);
	d->keeping = true;
	if (d->answers)
		drive_answered(d, "QUJD");
}

/* session_act */
static inline void
drive_act(struct drive *d, enum act act)
{
	if (d->closed)
		return;
	switch (act) {
	case ACT_DIAL:
		drive_dial(d);
		break;
	case ACT_TLS:
		if (drive_left(&d->in[SERVER]) > 0) {
			drive_fail(d, REASON_TLS_INJECTION, "");
			break;
		}
		d->waiting = true;
		drive_event(d, "tls", "");
		break;
	case ACT_TUNNEL:
		if (drive_left(&d->in[SERVER]) > 0 ||
		    drive_left(&d->in[CLIENT]) > 0) {
			drive_fail(d, REASON_TLS_INJECTION, "");
			break;
		}
		d->m.expect[CLIENT] = d->m.expect[SERVER] = EXPECT_RAW;
		drive_event(d, "tunnel", "");
		break;
	case ACT_ACCEPT:
		if (drive_left(&d->in[CLIENT]) > 0) {
			drive_fail(d, REASON_TLS_INJECTION, "");
			break;
		}
		drive_event(d, "accept", "");
		d->up = false;
		d->closed = true;
		break;
	case ACT_ASK:
		d->asking = true;
		drive_event(d, "ask", "");
		if (d->offer != OFFER_UNKNOWN)
			drive_offered(d, d->offer);
		break;
	case ACT_KEEPER:
		drive_keeper(d);
		break;
	case ACT_HANGUP:
		d->up = false;
		d->in[SERVER].seen = d->in[SERVER].len;
		drive_event(d, "hangup", "");
		break;
	case ACT_FAIL:
		drive_fail(d, d->m.reason, d->m.notes.detail);
		break;
	case ACT_CLOSE:
		drive_event(d, "close", reason_word[d->m.reason]);
		d->closed = true;
		break;
	default:
		break;
	}
}

static inline void
drive_greet(struct drive *d)
{
	struct sink out[2];
	enum act act;

	drive_sinks(d, out);
	act = d->m.ops->greet(&d->m, out);
	drive_flush(d, out, SINK_ROOM);
	drive_act(d, act);
}

/* upstream_ready */
static inline void
drive_upstream(struct drive *d)
{
	struct sink out[2];
	enum act act;

	DRIVE_CHECK(d->waiting);
	d->waiting = false;
	d->secure = d->up || d->m.dial.mode == TLS_IMPLICIT;
	d->up = true;
	drive_sinks(d, out);
	act = d->m.ops->upstream(&d->m, out);
	drive_flush(d, out, SINK_ROOM);
	drive_act(d, act);
}

static inline bool
drive_line(struct drive *d, enum side from)
{
	struct drive_bytes *b = &d->in[from];
	enum smtp_state before = d->m.u.smtp.state;
	struct sink out[2];
	struct line l;
	enum act act;
	int found = frame_line(b->p + b->seen, drive_left(b), &l);

	if (found == -1)
		drive_fail(d, from == CLIENT ? REASON_LINE_TOO_LONG :
			REASON_SERVER_PROTOCOL, "");
	if (found != 1)
		return found == -1;
	DRIVE_CHECK(l.total > 0 && l.total <= drive_left(b));
	DRIVE_CHECK(l.len < l.total);
	drive_sinks(d, out);
	d->m.more = from == CLIENT && drive_left(b) > l.total;
	act = d->m.ops->line(&d->m, from, &l, out);
	if (d->look != NULL)
		d->look(d, from, &l, before, out);
	b->seen += l.total;
	drive_flush(d, out, SINK_ROOM);
	drive_act(d, act);
	return true;
}

static inline bool
drive_data(struct drive *d, enum side from)
{
	struct drive_bytes *b = &d->in[from];
	enum smtp_state before = d->m.u.smtp.state;
	enum expect expect = d->m.expect[from];
	size_t used, n = drive_left(b);
	struct sink out[2];
	enum act act;

	drive_sinks(d, out);
	act = d->m.ops->data(&d->m, b->p + b->seen, n, &used, out);
	DRIVE_CHECK(used <= n);
	DRIVE_CHECK(used > 0 || act != ACT_NONE ||
		d->m.expect[from] != expect);
	DRIVE_CHECK(out[SERVER].len <= PAYLOAD_ROOM(n));
	if (d->look != NULL)
		d->look(d, from, NULL, before, out);
	b->seen += used;
	drive_flush(d, out, SINK_SIZE);
	drive_act(d, act);
	return true;
}

static inline void
drive_raw(struct drive *d, enum side from)
{
	struct drive_bytes *b = &d->in[from];
	enum side to = from == CLIENT ? SERVER : CLIENT;

	if (d->m.ops->watch != NULL)
		d->m.ops->watch(&d->m, from, b->p + b->seen, drive_left(b));
	if (to == CLIENT || d->up)
		drive_append(&d->out[to], b->p + b->seen, drive_left(b));
	b->seen = b->len;
}

/* pump_run: one side, as far as it goes. */
static inline bool
drive_side(struct drive *d, enum side from)
{
	bool any = false, more = true;

	while (more && !d->closed && !d->waiting && !d->keeping &&
	    drive_left(&d->in[from]) > 0 && (from == CLIENT || d->up)) {
		switch (d->m.expect[from]) {
		case EXPECT_LINE:
			more = drive_line(d, from);
			break;
		case EXPECT_DATA:
		case EXPECT_COUNTED:
			more = drive_data(d, from);
			break;
		case EXPECT_RAW:
			drive_raw(d, from);
			break;
		default:
			more = false;
			break;
		}
		any = any || more;
	}
	return any;
}

static inline void
drive_run(struct drive *d)
{
	bool any = true;

	while (any && !d->closed) {
		any = drive_side(d, SERVER);
		any = drive_side(d, CLIENT) || any;
	}
}

/* step: octets at a time, 0: all at once. */
static inline void
drive_send(struct drive *d, enum side from, const void *p, size_t n,
	size_t step)
{
	const uint8_t *at = p;

	if (from == SERVER && !d->up)
		return;
	while (n > 0 && !d->closed) {
		size_t take = step == 0 || n < step ? n : step;

		if (d->split > d->sent && d->split < d->sent + take)
			take = d->split - d->sent;
		drive_append(&d->in[from], at, take);
		drive_run(d);
		at += take;
		n -= take;
		d->sent += take;
	}
	drive_run(d);
}

/* ---- scripts ---- */

static inline int
drive_wrong(const char *step, const char *what, const struct drive_bytes *b)
{
	fprintf(stderr, "# at \"%s\": %s:\n", step, what);
	for (size_t i = b->seen; i < b->len && i < b->seen + 2000; i++) {
		if (b->p[i] == '\0')
			fputc('~', stderr);
		else
			fputc(b->p[i], stderr);
		if (b->p[i] == '\n')
			fputs("# ", stderr);
	}
	fputc('\n', stderr);
	return -1;
}

/* Script text to octets; raw: only '~' is special. Caller frees. */
static inline size_t
drive_text(const char *text, bool raw, uint8_t **out_r)
{
	struct drive_bytes b = { 0 };

	for (; *text != '\0'; text++) {
		if (raw && *text == '~')
			drive_append(&b, "", 1);
		else if (!raw && *text == '\n')
			drive_append(&b, "\r\n", 2);
		else
			drive_append(&b, text, 1);
	}
	if (!raw)
		drive_append(&b, "\r\n", 2);
	*out_r = b.p;
	return b.len;
}

static inline int
drive_expect(const char *step, struct drive_bytes *b, const char *text,
	bool raw)
{
	uint8_t *want;
	size_t n = drive_text(text, raw, &want);
	bool same = drive_left(b) >= n &&
		(n == 0 || memcmp(b->p + b->seen, want, n) == 0);

	free(want);
	if (!same)
		return drive_wrong(step, "got instead", b);
	b->seen += n;
	return 0;
}

static inline enum reason
drive_reason(const char *word, size_t n)
{
	for (int i = 0; i < REASON_COUNT; i++)
		if (strlen(reason_word[i]) == n &&
		    strncmp(reason_word[i], word, n) == 0)
			return (enum reason)i;
	DRIVE_CHECK(!"a reason of reason.tbl");
	return REASON_NONE;
}

static inline int
drive_quiet(const struct drive *d, const char *step)
{
	if (drive_left(&d->out[CLIENT]) > 0)
		return drive_wrong(step, "the client also got",
			&d->out[CLIENT]);
	if (drive_left(&d->out[SERVER]) > 0)
		return drive_wrong(step, "the server also got",
			&d->out[SERVER]);
	if (drive_left(&d->events) > 0)
		return drive_wrong(step, "unforeseen event", &d->events);
	return 0;
}

static inline int
drive_event_step(struct drive *d, const char *step)
{
	char line[80];
	struct drive_bytes *b = &d->events;

	snprintf(line, sizeof(line), "%s\n", step + 2);
	if (drive_left(b) < strlen(line) ||
	    memcmp(b->p + b->seen, line, strlen(line)) != 0)
		return drive_wrong(step, "event instead", b);
	b->seen += strlen(line);
	return 0;
}

static inline int
drive_expect_step(const struct drive *d, const char *step)
{
	static const char letter[] = "NLCDRX";
	char now[3] = { letter[d->m.expect[CLIENT]],
		letter[d->m.expect[SERVER]], '\0' };

	if (strcmp(now, step + 2) == 0)
		return 0;
	fprintf(stderr, "# at \"%s\": expects %s\n", step, now);
	return -1;
}

static inline int
drive_step(struct drive *d, const char *step, size_t pieces)
{
	const char *text = step[0] != '\0' && step[1] == ' ' ? step + 2 :
		step + 1;
	bool raw = strchr("XYyz", step[0]) != NULL;
	const char *space = strchr(text, ' ');
	uint8_t *p;
	size_t n;

	if (strchr("CSXYUOKFE", step[0]) != NULL &&
	    drive_quiet(d, step) == -1)
		return -1;
	switch (step[0]) {
	case 'C': case 'X': case 'S': case 'Y':
		n = drive_text(text, raw, &p);
		drive_send(d, step[0] == 'C' || step[0] == 'X' ? CLIENT :
			SERVER, p, n, pieces);
		free(p);
		return 0;
	case 'c': case 'z':
		return drive_expect(step, &d->out[CLIENT], text, raw);
	case 's': case 'y':
		return drive_expect(step, &d->out[SERVER], text, raw);
	case '!':
		return drive_event_step(d, step);
	case 'x':
		return drive_expect_step(d, step);
	case 'U':
		drive_upstream(d);
		drive_run(d);
		return 0;
	case 'O':
		DRIVE_CHECK(d->asking);
		drive_offered(d, strcmp(text, "yes") == 0 ? OFFER_STARTTLS :
			OFFER_NONE);
		drive_run(d);
		return 0;
	case 'K':
		drive_answered(d, text);
		drive_run(d);
		return 0;
	case 'F':
		drive_fail(d, drive_reason(text, space == NULL ?
			strlen(text) : (size_t)(space - text)),
			space == NULL ? "" : space + 1);
		return 0;
	case 'E':
		drive_fail(d, REASON_SERVER_EOF, "");
		return 0;
	default:
		DRIVE_CHECK(!"a step of a script");
		return -1;
	}
}

/* How many ways there are to cut what the script sends: 0, not at all; 1, into
 * octets; n, in two before the octet n - 1 of all that both sides send. */
static inline size_t
drive_ways(const char *const *script)
{
	size_t octets = 0;
	uint8_t *p;

	for (; *script != NULL; script++)
		if (strchr("CSXY", (*script)[0]) != NULL) {
			octets += drive_text(*script + 2, strchr("XY",
				(*script)[0]) != NULL, &p);
			free(p);
		}
	return octets + 1;
}

/* Play a script to its end, cut this way. The machine is greeted first. 0, or -1
 * with the conversation on stderr. */
static inline int
drive_play(struct drive *d, const char *const *script, size_t way)
{
	d->split = way > 1 ? way - 1 : 0;
	drive_greet(d);
	for (; *script != NULL; script++)
		if (drive_step(d, *script, way == 1) == -1) {
			fprintf(stderr, "# cut this way: %zu\n", way);
			return -1;
		}
	return drive_quiet(d, "the end");
}

/* ---- records ---- */

static inline void
drive_records(struct drive *d, const uint8_t *p, size_t n)
{
	drive_greet(d);
	while (n > 0 && !d->closed) {
		enum side from = *p & 0x80 ? SERVER : CLIENT;
		size_t len = *p & 0x7f;

		p++;
		n--;
		if (len == 127 && n >= 2) {
			len = (size_t)p[0] << 8 | p[1];
			p += 2;
			n -= 2;
		}
		if (len > n)
			len = n;
		if (from == SERVER && d->waiting && len > 0)
			drive_upstream(d);
		if (from == SERVER && len == 0)
			drive_fail(d, d->waiting ? REASON_CONNECT_FAILED :
				REASON_SERVER_EOF, "detail");
		drive_send(d, from, p, len, 0);
		p += len;
		n -= len;
	}
	drive_fail(d, REASON_DRAIN, "");
}

#endif
