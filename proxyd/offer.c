/*
 * offer.c - does a server's own plain port offer STARTTLS?
 *
 * Does: connect to the address and port that a client dialled, read the
 * greeting, ask for the capabilities, look for STLS or STARTTLS, say goodbye;
 * remember the answer; let sessions wait for it. Does not: send anything of a
 * client's, or start TLS; the answer only decides what clients are shown, who
 * then verify the server themselves.
 *
 * Called by dial.c. The server controls what is answered, somebody on the way
 * whether anything is: so a failure is remembered for a minute only and never
 * wins over an answer (TRAPS 57). Clients choose among the addresses of listed
 * servers; the table is bounded, and full neighbourhoods go without memory.
 */
#include "proxyd/offer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "proxyd/chan.h"
#include "proxyd/imap.h"
#include "proxyd/relay.h"
#include "proxyd/upstream.h"

#define SLOTS 1024
#define NEIGHBOURS 8
/* Milliseconds: the whole conversation; DESIGN.md section 7 gives it 2 s. */
#define LIMIT 2000
#define FRESH (3600 * INT64_C(1000))
#define FAILED (60 * INT64_C(1000))
/* How long a definite answer stands when asking again fails. */
#define STANDS (24 * FRESH)
#define LINES_MAX 200
#define PORT_IMAP 143
/* Questions at once: they live on descriptors that are nobody's else. */
#define RUNNING_MAX 32

struct slot {
	struct addr origin;	/* family 0: free */
	enum offer answer;	/* UNKNOWN: never heard */
	int64_t heard;		/* when it was definite; 0: it is not */
	int64_t again;		/* ask when a session comes after this */
	struct question *question;	/* under way */
};

struct question {
	struct offers *offers;
	struct slot *slot;
	struct chan chan;
	struct event timer;
	struct upstream_waiter socket;
	struct offer_talk talk;
	struct addr line;
	bool connected;
	TAILQ_HEAD(offer_waiters, offer_waiter) waiters;
};

struct offers {
	struct relay *relay;
	unsigned running;	/* questions */
	struct slot slot[SLOTS];
};

/* ---- the conversation ---- */

enum { STEP_GREETING, STEP_ANSWER, STEP_LIST };

static bool
is_start(const struct line *l, const char *word)
{
	return l->len >= strlen(word) &&
		memcmp(l->text, word, strlen(word)) == 0;
}

static int
pop3_line(struct offer_talk *t, const struct line *l, struct sink *out)
{
	static const char stls[] = "STLS";

	switch (t->step) {
	case STEP_GREETING:
		if (!is_start(l, "+OK"))
			return -1;
		sink_text(out, "CAPA\r\n");
		t->step = STEP_ANSWER;
		return 0;
	case STEP_ANSWER:
		t->step = STEP_LIST;
		if (is_start(l, "+OK"))
			return 0;
		/* an old server, without CAPA or STLS */
		return is_start(l, "-ERR") ? 1 : -1;
	default:
		if (l->len == sizeof(stls) - 1 &&
		    strncasecmp((const char *)l->text, stls, l->len) == 0)
			t->found = true;
		return l->len == 1 && l->text[0] == '.';
	}
}

static int
imap_line(struct offer_talk *t, const struct line *l, struct sink *out)
{
	struct imap_response r;

	if (!imap_response(l, &r) || r.kind == IMAP_NONSENSE)
		return -1;
	if (t->step == STEP_GREETING) {
		if (r.kind != IMAP_STATUS || r.tagged || r.status != IMAP_OK)
			return -1;
		sink_text(out, "sp1 CAPABILITY\r\n");
		t->step = STEP_LIST;
		return 0;
	}
	if (r.kind == IMAP_CAPABILITY &&
	    imap_list_has(r.list, r.list_len, "STARTTLS"))
		t->found = true;
	if (r.kind == IMAP_STATUS && r.status == IMAP_BYE)
		return -1;
	return r.tagged;
}

int
offer_line(struct offer_talk *t, const struct line *l, struct sink *out)
{
	int over = ++t->lines > LINES_MAX ? -1 :
		t->imap ? imap_line(t, l, out) : pop3_line(t, l, out);

	if (over == 1)
		sink_text(out, t->imap ? "sp2 LOGOUT\r\n" : "QUIT\r\n");
	return over;
}

/* ---- the table ---- */

static struct slot *
slot_find(struct offers *o, const struct addr *origin)
{
	/* Any spread will do: outsiders do not choose servers' addresses. */
	unsigned h = origin->port;
	struct slot *spare = NULL;

	for (int i = 0; i < 16; i++)
		h = h * 33u + origin->ip[i];
	for (unsigned i = 0; i < NEIGHBOURS; i++) {
		struct slot *s = &o->slot[(h + i) % SLOTS];

		if (s->origin.port == origin->port &&
		    addr_same_host(&s->origin, origin))
			return s;
		if (s->question == NULL && (spare == NULL ||
			s->again < spare->again))
			spare = s;
	}
	if (spare != NULL) {
		memset(spare, 0, sizeof(*spare));
		spare->origin = *origin;
	}
	return spare;
}

static void
slot_answer(struct slot *s, enum offer answer)
{
	int64_t now = relay_now();

	s->again = now + (answer == OFFER_UNKNOWN ? FAILED : FRESH);
	if (answer != OFFER_UNKNOWN) {
		s->answer = answer;
		s->heard = now;
	} else if (s->heard == 0 || now - s->heard > STANDS) {
		s->answer = OFFER_NONE;
		s->heard = 0;
	}
}

/* ---- one question ---- */

static void
finish(struct question *q, enum offer answer)
{
	struct slot *s = q->slot;
	struct offer_waiter *w;

	(void)chan_flush(&q->chan);
	chan_close(&q->chan, false);
	event_del(&q->timer);
	upstream_forget(q->offers->relay->upstream, &q->socket);
	slot_answer(s, answer);
	answer = s->answer;
	s->question = NULL;
	q->offers->running--;
	while ((w = TAILQ_FIRST(&q->waiters)) != NULL) {
		offers_forget(w);
		w->wake(w, answer);
	}
	free(q);
}

/* Lines that are there. true: the question is over and gone. */
static bool
listen_to(struct question *q)
{
	struct chan *c = &q->chan;
	uint8_t text[64];
	struct line l;
	int found;

	while ((found = frame_line(c->view, c->view_len, &l)) == 1) {
		struct sink out = { .p = text, .cap = sizeof(text) };
		int over = offer_line(&q->talk, &l, &out);

		chan_consume(c, l.total);
		(void)chan_write(c, out.p, out.len);
		if (over == 0)
			continue;
		finish(q, over == -1 ? OFFER_UNKNOWN :
			q->talk.found ? OFFER_STARTTLS : OFFER_NONE);
		return true;
	}
	if (found == -1) {
		finish(q, OFFER_UNKNOWN);
		return true;
	}
	return false;
}

static void
on_event(evutil_socket_t fd, short what, void *arg)
{
	struct question *q = arg;
	struct chan *c = &q->chan;
	int error = 0;
	socklen_t len = sizeof(error);

	chan_notice(c, what);
	if (!q->connected && (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error,
			&len) == -1 || error != 0)) {
		finish(q, OFFER_UNKNOWN);
		return;
	}
	q->connected = true;
	while (chan_fill(c))
		if (listen_to(q))
			return;
	if (chan_ended(c) || c->eof || chan_flush(c) == -1) {
		finish(q, OFFER_UNKNOWN);
		return;
	}
	chan_settle(c);
}

static void
on_limit(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	finish(arg, OFFER_UNKNOWN);
}

/* true: it is on its way. */
static bool
connect_to(struct question *q)
{
	struct relay *r = q->offers->relay;
	int fd;

	switch (upstream_dial(r->upstream, &q->slot->origin, &q->line,
		upstream_find(r->upstream, &q->slot->origin), &q->socket, &fd)) {
	case DIAL_STARTED:
		return chan_watch(&q->chan, fd, r->base, on_event, q) == 0;
	case DIAL_WAIT:
		return true;
	default:
		return false;
	}
}

static void
on_socket(struct upstream_waiter *w)
{
	struct question *q = (struct question *)((char *)w -
		offsetof(struct question, socket));

	if (!connect_to(q))
		finish(q, OFFER_UNKNOWN);
}

static struct question *
question_new(struct offers *o, struct slot *s, const struct addr *line)
{
	struct timeval limit = { LIMIT / 1000, LIMIT % 1000 * 1000 };
	struct question *q = calloc(1, sizeof(*q));

	if (q == NULL)
		return NULL;
	q->offers = o;
	q->slot = s;
	q->line = *line;
	q->talk.imap = s->origin.port == PORT_IMAP;
	q->socket.wake = on_socket;
	TAILQ_INIT(&q->waiters);
	chan_init(&q->chan, o->relay->scratch, SERVER);
	event_assign(&q->timer, o->relay->base, -1, 0, on_limit, q);
	if (!connect_to(q) || event_add(&q->timer, &limit) == -1) {
		upstream_forget(o->relay->upstream, &q->socket);
		chan_close(&q->chan, false);
		free(q);
		return NULL;
	}
	s->question = q;
	o->running++;
	return q;
}

/* ---- the door ---- */

struct offers *
offers_new(struct relay *r)
{
	struct offers *o = calloc(1, sizeof(*o));

	if (o != NULL)
		o->relay = r;
	return o;
}

void
offers_free(struct offers **o)
{
	if (*o == NULL)
		return;
	for (size_t i = 0; i < SLOTS; i++)
		if ((*o)->slot[i].question != NULL)
			finish((*o)->slot[i].question, OFFER_UNKNOWN);
	free(*o);
	*o = NULL;
}

enum offer
offers_ask(struct offers *o, const struct addr *origin,
	const struct addr *line, struct offer_waiter *w)
{
	struct slot *s = slot_find(o, origin);

	if (s == NULL)
		return OFFER_NONE;
	if (s->question == NULL && s->again <= relay_now() &&
	    o->running < RUNNING_MAX && question_new(o, s, line) == NULL)
		slot_answer(s, OFFER_UNKNOWN);
	if (s->answer != OFFER_UNKNOWN &&
	    (s->question == NULL || s->heard != 0))
		return s->answer;
	if (s->question == NULL)
		return OFFER_NONE;	/* too many at once: not remembered */
	if (w != NULL) {
		w->question = s->question;
		TAILQ_INSERT_TAIL(&s->question->waiters, w, link);
	}
	return OFFER_UNKNOWN;
}

void
offers_forget(struct offer_waiter *w)
{
	if (w->question == NULL)
		return;
	TAILQ_REMOVE(&w->question->waiters, w, link);
	w->question = NULL;
}
