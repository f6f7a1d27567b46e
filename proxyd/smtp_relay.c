/*
 * smtp_relay.c - watch a port-25 dialogue that passes unchanged
 *
 * Bytes are copied by the session before and whatever happens here. This file
 * follows the dialogue beside them: verbs, replies in order (a bounded FIFO of
 * expected replies, for pipelining), the payload's end, BDAT chunks; it counts
 * recipients, refusals and accepted messages for the log. At STARTTLS's 220, or
 * at anything it does not understand, it stops looking and the session goes on.
 * It never closes, answers or changes anything.
 *
 * Remembers at most WATCH_LINE bytes of a line a side; all input is hostile.
 */
#include <string.h>
#include <strings.h>

#include "proxyd/smtp.h"

/* Not a command: the server's greeting, and the reply to a payload. */
enum { EXPECT_GREETING = VERB_UNKNOWN + 1, EXPECT_FINAL };

static enum act
relay_greet(struct machine *m, struct sink out[2])
{
	(void)out;
	m->dial.mode = TLS_NONE;
	m->dial.port = 0;	/* the port the client dialled */
	m->server_wait = SMTP_WAIT_OPAQUE;
	return ACT_DIAL;
}

/* POP3 and IMAP that go to a server without TLS, unchanged. */
static bool
is_no_smtp(uint16_t port)
{
	return port == 110 || port == 143;
}

static enum act
relay_upstream(struct machine *m, struct sink out[2])
{
	(void)out;
	m->expect[CLIENT] = EXPECT_RAW;
	m->expect[SERVER] = EXPECT_RAW;
	m->client_wait = m->server_wait = SMTP_WAIT_OPAQUE;
	m->notes.stage = STAGE_GREETING;
	m->u.watch.opaque = is_no_smtp(m->context->origin.port);
	if (!m->u.watch.opaque && !m->context->read_replies)
		evidence_reached(m, true);
	return ACT_NONE;
}

static void
go_opaque(struct watch *w)
{
	w->opaque = true;
}

static void
push(struct watch *w, unsigned what)
{
	if (w->n_expected == WATCH_FIFO) {
		go_opaque(w);
		return;
	}
	w->expected[(w->first_expected + w->n_expected++) % WATCH_FIFO] =
		(uint8_t)what;
}

/* Commands whose reply did not come before the next one. */
static void
note_impatience(struct machine *m)
{
	const struct watch *w = &m->u.watch;
	unsigned before;

	if (w->n_expected == 0)
		return;
	before = w->expected[(w->first_expected + w->n_expected - 1u) %
		WATCH_FIFO];
	if (w->expected[w->first_expected] == EXPECT_GREETING)
		m->notes.witness.habits |= HABIT_EARLY;
	else if (before != EXPECT_FINAL)
		evidence_unasked(m, before);
}

/* "BDAT n LAST": the reply is about the mail, not about a part of it. */
static bool
is_last_chunk(const struct command *c)
{
	return c->arg_len > 5 && strncasecmp((const char *)c->arg +
		c->arg_len - 5, " LAST", 5) == 0;
}

static void
watch_command(struct machine *m, const struct line *l)
{
	struct watch *w = &m->u.watch;
	struct command c;
	uint64_t n;

	smtp_command(l, &c);
	note_impatience(m);
	evidence_command(m, l, &c);
	switch (c.verb) {
	case VERB_EHLO:
	case VERB_HELO:
		smtp_note_helo(&m->notes, &c);
		break;
	case VERB_MAIL:
		m->notes.stage = STAGE_MAIL;
		break;
	case VERB_RCPT:
		m->notes.stage = STAGE_RCPT_TO;
		m->notes.rcpts++;
		break;
	case VERB_DATA:
		w->wait_data = true;
		break;
	case VERB_BDAT:
		m->notes.stage = STAGE_DATA;
		if (smtp_chunk_size(&c, &n) == -1) {
			go_opaque(w);
			return;
		}
		w->chunk = n;
		if (is_last_chunk(&c)) {
			push(w, EXPECT_FINAL);
			return;
		}
		break;
	case VERB_AUTH:
		/* Its lines look like commands; who authenticates on port 25
		 * is not looked at. */
		go_opaque(w);
		return;
	default:
		break;
	}
	push(w, c.verb);
}

static void
watch_reply(struct machine *m, const struct line *l)
{
	struct watch *w = &m->u.watch;
	char esc[12];
	unsigned code, what;
	bool last;

	if (smtp_reply(l, &code, &last) == -1) {
		go_opaque(w);
		return;
	}
	if (w->n_expected == 0) {
		if (last && code != 421)
			go_opaque(w);
		return;
	}
	what = w->expected[w->first_expected];
	evidence_reply(m, what == EXPECT_GREETING ? VERB_UNKNOWN :
		what == VERB_UNKNOWN ? VERB_NOOP : what, code, last, l);
	if (!last)
		return;
	w->first_expected = (uint8_t)((w->first_expected + 1) % WATCH_FIFO);
	w->n_expected--;
	if (code >= 400) {
		smtp_enhanced(l, esc);
		smtp_note_refusal(&m->notes, code, esc);
	}
	if (what == VERB_STARTTLS && code == 220) {
		m->notes.stage = STAGE_TLS;
		evidence_reached(m, true);
		go_opaque(w);
	} else if (what == VERB_DATA) {
		w->wait_data = false;
		if (code == 354) {
			m->notes.stage = STAGE_DATA;
			w->in_data = true;
			w->dotted = 0;
			push(w, EXPECT_FINAL);
		}
	} else if (what == EXPECT_FINAL) {
		m->notes.messages += code >= 200 && code < 300;
	}
}

/* Bytes that are no lines: a payload or a chunk. How many of n. */
static size_t
watch_payload(struct watch *w, const uint8_t *p, size_t n)
{
	bool end;
	size_t used;

	if (w->chunk > 0) {
		used = n < w->chunk ? n : (size_t)w->chunk;
		w->chunk -= used;
		return used;
	}
	used = frame_dotted(&w->dotted, p, n, &end);
	w->in_data = !end;
	return used;
}

/* Collect the start of one line; how many of n bytes it took. */
static size_t
watch_line(struct machine *m, enum side from, const uint8_t *p, size_t n)
{
	struct watch *w = &m->u.watch;
	const uint8_t *lf = memchr(p, '\n', n);
	size_t used = lf != NULL ? (size_t)(lf - p) + 1 : n;
	size_t room = WATCH_LINE - w->len[from];
	size_t keep = used < room ? used : room;
	struct line l;

	memcpy(w->text[from] + w->len[from], p, keep);
	w->len[from] += keep;
	if (lf == NULL)
		return used;
	/* A long line keeps its start and gets an end for the parser. */
	w->text[from][w->len[from] - 1] = '\n';
	if (frame_line(w->text[from], w->len[from], &l) == 1) {
		if (from == CLIENT)
			watch_command(m, &l);
		else
			watch_reply(m, &l);
	}
	w->len[from] = 0;
	return used;
}

static void
relay_watch(struct machine *m, enum side from, const uint8_t *p, size_t n)
{
	struct watch *w = &m->u.watch;

	while (n > 0 && !w->opaque) {
		size_t used;

		if (from == CLIENT && (w->chunk > 0 || w->in_data)) {
			used = watch_payload(w, p, n);
		} else if (from == CLIENT && w->wait_data) {
			evidence_unasked(m, VERB_DATA);
			go_opaque(w);	/* a body before 354 */
			return;
		} else {
			used = watch_line(m, from, p, n);
		}
		p += used;
		n -= used;
	}
}

/* The client gets what it would get without us: nothing but a closed
 * connection. */
static void
relay_farewell(struct machine *m, enum reason why, const char *detail,
	struct sink out[2])
{
	(void)detail;
	(void)out;
	m->reason = why;
}

static const struct machine_ops relay_ops = {
	.kind = EVENT_RELAY,
	.greet = relay_greet,
	.upstream = relay_upstream,
	.farewell = relay_farewell,
	.watch = relay_watch,
};

void
smtp_relay_init(struct machine *m, const struct context *context)
{
	memset(m, 0, sizeof(*m));
	m->ops = &relay_ops;
	m->context = context;
	push(&m->u.watch, EXPECT_GREETING);
}
