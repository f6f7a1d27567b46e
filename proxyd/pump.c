/*
 * pump.c - move bytes between the two sides of a session and its machine
 *
 * For each side: read what is there (unless the other side's output is full),
 * cut it as the machine expects, give it to the machine or copy it across, do
 * what the machine asks. Repeats until nothing moves. The server goes first,
 * so that a reply releases the client's next command in the same turn. What
 * was written goes out at the end, and when that makes room it begins again.
 *
 * Must hold: no side is read while the machine expects nothing from it or while
 * the other side has CHAN_HIGH octets waiting; end of file is acted on only
 * when everything before it has been consumed.
 */
#include <string.h>

#include "proxyd/session.h"

/* A payload block: RFC 5321's 180 s are for 64 KB buffers of 1982; a client
 * slower than this many octets a limit is dripping. */
#define PROGRESS_OCTETS 2048

/* Rounds of at most SCRATCH octets a side before others get their turn: two
 * fast peers would keep a relay from its other sessions, and from answering
 * its parent, for as long as they like. */
#define TURN_ROUNDS 16

/* Room behind which reading from this side would only pile up. */
static bool
is_blocked(const struct session *s, enum side from)
{
	enum side to = from == CLIENT ? SERVER : CLIENT;

	if (s->machine.expect[from] == EXPECT_DISCARD)
		return false;
	if (from == CLIENT && s->is_slow && s->slow_until > relay_now())
		return true;
	return chan_pending(&s->side[to]) >= CHAN_HIGH ||
		(s->machine.expect[from] != EXPECT_RAW &&
			chan_pending(&s->side[from]) >= CHAN_HIGH);
}

static void
note_progress(struct session *s, size_t n)
{
	s->progress += n;
	if (s->progress >= PROGRESS_OCTETS) {
		s->progress = 0;
		s->moved = true;
	}
}

static bool
feed_raw(struct session *s, enum side from)
{
	enum side to = from == CLIENT ? SERVER : CLIENT;
	struct chan *c = &s->side[from];
	size_t n = c->view_len;

	if (s->machine.ops->watch != NULL && s->kind == EVENT_RELAY)
		s->machine.ops->watch(&s->machine, from, c->view, n);
	session_evidence(s);
	if (s->side[to].shut)
		;	/* half-closed: nobody there to read it */
	else
		(void)chan_write(&s->side[to], c->view, n);
	chan_consume(c, n);
	s->moved = true;
	return true;
}

static bool
feed_line(struct session *s, enum side from)
{
	struct chan *c = &s->side[from];
	struct sink out[2];
	struct line l;
	enum act act;
	int found = frame_line(c->view, c->view_len, &l);

	if (from == CLIENT && frame_is_tls(c->view, c->view_len)) {
		session_fail(s, REASON_CLIENT_PROTOCOL, "a TLS hello");
		return true;
	}
	if (found == 0)
		return false;
	if (found == -1) {
		session_fail(s, from == CLIENT ? REASON_LINE_TOO_LONG :
			REASON_SERVER_PROTOCOL, "");
		return true;
	}
	session_open_sinks(s, out);
	s->machine.more = from == CLIENT && c->view_len > l.total;
	act = s->machine.ops->line(&s->machine, from, &l, out);
	session_evidence(s);
	chan_consume(c, l.total);
	session_flush_sinks(s, out);
	/* The limit is for a command, not for each line of its reply. */
	if (from == CLIENT || s->machine.expect[CLIENT] != EXPECT_NONE)
		s->moved = true;
	if (from == CLIENT && s->is_slow)
		session_slow(s);
	session_act(s, act);
	return true;
}

static bool
feed_data(struct session *s, enum side from)
{
	struct chan *c = &s->side[from];
	struct sink out[2];
	size_t used;
	enum act act;

	session_open_sinks(s, out);
	act = s->machine.ops->data(&s->machine, c->view, c->view_len, &used,
		out);
	chan_consume(c, used);
	session_flush_sinks(s, out);
	note_progress(s, used);
	if (s->machine.expect[from] != EXPECT_DATA &&
	    s->machine.expect[from] != EXPECT_COUNTED)
		s->moved = true;
	session_act(s, act);
	return used > 0 || act != ACT_NONE;
}

static bool
feed(struct session *s, enum side from)
{
	struct chan *c = &s->side[from];
	bool any = false, more = true;

	while (more && c->view_len > 0 && !is_blocked(s, from) &&
	    (s->phase == PHASE_TALK || s->phase == PHASE_LINGER)) {
		switch (s->machine.expect[from]) {
		case EXPECT_LINE:
			more = feed_line(s, from);
			break;
		case EXPECT_DATA:
		case EXPECT_COUNTED:
			more = feed_data(s, from);
			break;
		case EXPECT_RAW:
			more = feed_raw(s, from);
			break;
		case EXPECT_DISCARD:
			chan_consume(c, c->view_len);
			break;
		default:
			more = false;
			break;
		}
		any = any || more;
	}
	return any;
}

/* A copied stream ends: pass the end on when everything before it is out. */
static bool
end_raw(struct session *s, enum side from)
{
	enum side to = from == CLIENT ? SERVER : CLIENT;
	struct chan *other = &s->side[to];

	/* Programs that quit do not read the last octets: no accident. */
	if (s->side[from].reset && chan_ended(other)) {
		session_finish(s, REASON_DONE);
		return true;
	}
	if (s->side[from].reset) {
		session_abort(s, from == CLIENT ? REASON_CLIENT_RESET :
			REASON_SERVER_RESET);
		return true;
	}
	if (chan_flush_last(other) == 0)
		return false;
	if (chan_ended(other) || s->side[from].shut ||
	    (from == SERVER && s->side[SERVER].ssl != NULL)) {
		session_finish(s, REASON_DONE);
		return true;
	}
	if (other->shut)
		return false;
	chan_shut(other);
	s->moved = true;
	return true;
}

/* A side has ended and all it sent is consumed, or it is reset. */
static bool
end_of(struct session *s, enum side from)
{
	enum reason said = s->machine.reason;

	if (s->phase == PHASE_LINGER) {
		/* Half-closed is not gone: it still reads. */
		if (!s->side[from].reset && chan_flush(&s->side[from]) == 0)
			return false;
		session_phase(s, PHASE_DEAD);
		return true;
	}
	if (s->machine.expect[from] == EXPECT_RAW)
		return end_raw(s, from);
	if (from == SERVER)
		session_fail(s, s->side[SERVER].reset ? REASON_SERVER_RESET :
			REASON_SERVER_EOF, "");
	else
		session_finish(s, said != REASON_NONE ? said :
			s->side[CLIENT].reset ? REASON_CLIENT_RESET :
			REASON_CLIENT_EOF);
	return true;
}

static bool
pump_side(struct session *s, enum side from)
{
	struct chan *c = &s->side[from];
	bool any = false;

	if (c->fd == -1 || s->machine.expect[from] == EXPECT_NONE)
		return false;
	/* More than a line is enough to go on with: beside a slow reader each
	 * turn would otherwise add more than it consumes. */
	if (!is_blocked(s, from) && c->view_len < LINE_MAX_OCTETS)
		any = chan_fill(c);
	if (c->view_len > 0 && !c->reset)
		any = feed(s, from) || any;
	if (c->fd == -1 || (s->phase != PHASE_TALK && s->phase != PHASE_LINGER))
		return any;
	/* What is left without an end of line will never get one. */
	if (c->reset || chan_ended(c) || (c->eof && c->view_len > 0 && !any &&
		s->machine.expect[from] == EXPECT_LINE && !is_blocked(s, from)))
		any = end_of(s, from) || any;
	return any;
}

/* Send what waits. true: some of it went, or a peer was found gone. */
static bool
flush_sides(struct session *s)
{
	bool any = false;

	for (int i = 0; i < 2 && s->phase != PHASE_DEAD; i++) {
		struct chan *c = &s->side[i];
		size_t before = chan_pending(c);
		bool was_reset = c->reset;

		(void)chan_flush(c);
		any = any || chan_pending(c) != before || c->reset != was_reset;
	}
	return any;
}

static bool
pump_sides(struct session *s)
{
	bool any = false;

	if (s->phase == PHASE_TALK || s->phase == PHASE_LINGER)
		any = pump_side(s, SERVER);
	if (s->phase == PHASE_TALK || s->phase == PHASE_LINGER)
		any = pump_side(s, CLIENT) || any;
	return any;
}

bool
pump_run(struct session *s)
{
	/* Flushing makes room, and what then moves has to be flushed as well:
	 * nothing else might happen that would do it. */
	for (int i = 0; i < TURN_ROUNDS; i++)
		if (!pump_sides(s) && !flush_sides(s))
			return false;
	(void)flush_sides(s);
	return s->phase != PHASE_DEAD;
}
