/*
 * session.c - one connection from accept to its log line
 *
 * Opens the session for what policy decided, dials, starts TLS, keeps the time
 * limits and ends it: session_fail with words for the client, session_finish
 * without, session_abort with resets. All three may be called from anywhere
 * below; the session is freed only when control is back in the callback that
 * the loop called (session_leave()). Every end writes exactly one event.
 *
 * Both peers are hostile; what they can do here is to be slow, to vanish, and
 * to open sessions up to the limits of the line and of the relay.
 */
#include "proxyd/session.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "conf/conf.h"
#include "lib/log.h"
#include "proxyd/adaptive.h"
#include "proxyd/contact.h"
#include "proxyd/lines.h"
#include "proxyd/opportune.h"
#include "proxyd/origin.h"

/* DESIGN.md section 6, timers: milliseconds. */
#define LIMIT_CONNECT 5000
#define TARPIT_WINDOW 512	/* octets; a command is no longer */
#define LIMIT_TLS 10000
#define LIMIT_KEEPER 5000
#define LIMIT_LINGER 2000	/* last words are read, or not */
#define LIMIT_LINGER_FULL 10000	/* last words are not even sent */
#define LIMIT_HALF_CLOSED 120000	/* one side has ended */

static void on_timer(evutil_socket_t fd, short what, void *arg);

void
session_phase(struct session *s, enum phase phase)
{
	s->phase = phase;
	s->phase_since = relay_now();
	s->moved = true;
}

/* ---- output of the machine ---- */

void
session_open_sinks(struct session *s, struct sink out[2])
{
	for (int i = 0; i < 2; i++) {
		out[i].p = s->relay->sink[i];
		out[i].cap = SINK_SIZE;
		out[i].len = 0;
	}
}

void
session_flush_sinks(struct session *s, struct sink out[2])
{
	for (int i = 0; i < 2; i++)
		if (out[i].len > 0)
			(void)chan_write(&s->side[i], out[i].p, out[i].len);
}

/* ---- the end ---- */

/* What it says of the line, if it is one of ours. */
static void
report_habits(const struct session *s, struct report *e)
{
	const struct witness *w = &s->machine.notes.witness;

	if (s->place != NULL)
		return;
	e->habits = w->habits;
	e->dialect = evidence_dialect(&s->machine);
	e->domains = w->domains;
	memcpy(e->good, w->good, sizeof(e->good));
	memcpy(e->bad, w->bad, sizeof(e->bad));
}

static void
report(struct session *s)
{
	const struct notes *n = &s->machine.notes;
	struct report e;

	memset(&e, 0, sizeof(e));
	e.kind = (uint8_t)s->kind;
	e.reason = (uint8_t)s->reason;
	e.tls = s->tls;
	e.code = n->code;
	e.class_index = (int16_t)s->class_index;
	e.server_index = (int16_t)s->server;
	e.account = account_used(s);
	e.by_pop = s->context.pop != NULL && s->context.pop->is_ours;
	e.stage = n->stage;
	e.rcpts = n->rcpts;
	e.messages = n->messages;
	e.duration_ms = (uint32_t)(relay_now() - s->started);
	e.id = s->id;
	e.bytes_up = s->side[CLIENT].received;
	e.bytes_down = s->side[CLIENT].sent;
	e.at = time(NULL) - e.duration_ms / 1000;
	report_habits(s, &e);
	e.line = s->line;
	e.src = s->src;
	e.dst = s->origin;
	e.out = s->out;
	e.via = s->via;
	memcpy(e.esc, n->esc, sizeof(e.esc));
	e.helo_len = n->helo_len;
	memcpy(e.helo, n->helo, n->helo_len);
	e.detail_len = (uint16_t)strlen(n->detail);
	memcpy(e.detail, n->detail, e.detail_len);
	if (s->context.envelope != NULL)
		e.envelope = *s->context.envelope;
	relay_event(s->relay, &e);
}

void
session_evidence(struct session *s)
{
	/* what other ports answer is nobody's guilt */
	if (s->origin.port == 25 && s->machine.notes.witness.n_events > 0)
		contact_evidence(s->relay->table, &s->relay->detect,
			s->relay->conf, s->class_index, &s->machine);
}

/* Sessions with published servers are counted apart from captured ones, so that
 * a household's IMAP does not use up what it may have on port 25. */
static struct line_key
counted_as(const struct session *s)
{
	struct line_key key = s->line;

	if (s->place != NULL)
		key.len |= 0x80;	/* of no line: at most 64 */
	return key;
}

/* A mail program that left after EHLO has not read the operator's text. */
static void
remember_adaptive(struct session *s)
{
	if (s->kind == EVENT_BLOCK && s->machine.notes.stage == STAGE_EHLO &&
	    s->context.block->stage == BLOCK_ADAPTIVE)
		adaptive_mark(s->relay->adaptive, &s->line,
			(uint32_t)(relay_now() / 1000));
}

static void
destroy(struct session *s)
{
	const struct line_key key = counted_as(s);
	struct relay *r = s->relay;

	remember_adaptive(s);
	session_evidence(s);
	if (s->origin.port == 25)
		contact_habits(r->table, r->conf, s->class_index, &s->machine);
	report(s);
	chan_close(&s->side[SERVER], false);
	chan_close(&s->side[CLIENT], false);
	upstream_forget(r->upstream, &s->waiter);
	offers_forget(&s->asked);
	account_forget(s);
	event_del(&s->timer);
	if (s->counted)
		lines_leave(r->lines, &key);
	r->slow_now -= s->is_slow;
	TAILQ_REMOVE(&r->sessions, s, link);
	r->counters.sessions_now--;
	free(s->context.hello);
	free(s->context.envelope);
	free(s->context.account);
	free(s->context.pop_login);
	free(s->context.pop);
	free(s->unlisted);
	free(s);
}

/* Nothing more to say to the server; the client still gets what is queued. */
static void
close_server(struct session *s, bool abort)
{
	struct chan *c = &s->side[SERVER];

	upstream_forget(s->relay->upstream, &s->waiter);
	offers_forget(&s->asked);
	account_forget(s);
	if (c->fd == -1)
		return;
	if (!abort && !c->eof && chan_flush_last(c) == 1)
		chan_shut(c);
	chan_close(c, abort);
}

void
session_finish(struct session *s, enum reason why)
{
	struct chan *c = &s->side[CLIENT];
	int flushed;

	if (s->phase == PHASE_DEAD || s->phase == PHASE_LINGER)
		return;
	s->reason = why;
	close_server(s, false);
	flushed = chan_flush_last(c);
	if (flushed == -1 || (flushed == 1 && (chan_ended(c) ||
		(why == REASON_DONE && c->view_len == 0)))) {
		session_phase(s, PHASE_DEAD);
		return;
	}
	s->machine.expect[CLIENT] = EXPECT_DISCARD;
	s->machine.expect[SERVER] = EXPECT_NONE;
	session_phase(s, PHASE_LINGER);
	if (flushed == 1)
		chan_shut(c);
}

void
session_abort(struct session *s, enum reason why)
{
	if (s->phase == PHASE_DEAD || s->phase == PHASE_LINGER)
		return;
	s->reason = why;
	close_server(s, true);
	chan_close(&s->side[CLIENT], true);
	session_phase(s, PHASE_DEAD);
}

void
session_fail(struct session *s, enum reason why, const char *detail)
{
	struct sink out[2];

	if (s->phase == PHASE_DEAD || s->phase == PHASE_LINGER ||
	    origin_failed(s, why) || opportune_failed(s, why) ||
	    dial_next(s, why))
		return;
	if (detail != s->machine.notes.detail)
		notes_detail(&s->machine.notes, (const uint8_t *)detail,
			strlen(detail));
	/* Unchanged means unchanged: no server, no connection. Inside somebody
	 * else's TLS there is nothing to be said either. */
	if (s->kind == EVENT_RELAY || s->kind == EVENT_RESET ||
	    s->kind == EVENT_TUNNEL) {
		if (s->kind == EVENT_RELAY && s->origin.port == 25 &&
		    (why == REASON_CONNECT_FAILED ||
			why == REASON_CONNECT_TIMEOUT))
			evidence_reached(&s->machine, false);
		session_abort(s, why);
		return;
	}
	/* Words would be read as a part of the handshake. */
	if (s->phase == PHASE_HELLO) {
		session_finish(s, why);
		return;
	}
	session_open_sinks(s, out);
	s->machine.ops->farewell(&s->machine, why, s->machine.notes.detail, out);
	out[SERVER].len = 0;
	session_flush_sinks(s, out);
	session_finish(s, why);
}

bool
session_is_early(const struct session *s)
{
	const struct chan *c = &s->side[CLIENT];
	uint8_t octet;

	return c->view_len > 0 ||
		recv(c->fd, &octet, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

void
session_act(struct session *s, enum act act)
{
	if (s->phase == PHASE_DEAD || s->phase == PHASE_LINGER)
		return;
	switch (act) {
	case ACT_DIAL:
		if (s->side[SERVER].fd != -1 && s->side[CLIENT].view_len > 0) {
			session_fail(s, REASON_TLS_INJECTION, "");
			break;
		}
		close_server(s, false);
		s->dial_since = relay_now();
		s->tries = 0;
		dial_begin(s);
		break;
	case ACT_TLS:
		dial_tls(s);
		break;
	case ACT_TUNNEL:
		dial_tunnel(s);
		break;
	case ACT_ACCEPT:
		publish_starttls(s);
		break;
	case ACT_ASK:
		dial_ask(s);
		break;
	case ACT_KEEPER:
		account_ask(s);
		break;
	case ACT_HANGUP:
		close_server(s, true);
		break;
	case ACT_FAIL:
		session_fail(s, s->machine.reason, s->machine.notes.detail);
		break;
	case ACT_CLOSE:
		session_finish(s, s->machine.reason);
		break;
	default:
		break;
	}
}

/* ---- time ---- */

static int64_t
talk_deadline(const struct session *s)
{
	const struct machine *m = &s->machine;
	int64_t wait = 1000 * (int64_t)(m->expect[CLIENT] != EXPECT_NONE ?
		m->client_wait : m->server_wait);

	if (s->side[CLIENT].shut || s->side[SERVER].shut)
		wait = LIMIT_HALF_CLOSED;
	return s->moved_at + wait;
}

/* Of a blocked session as a whole. */
static int64_t
block_deadline(const struct session *s)
{
	return s->started +
		1000 * (int64_t)s->relay->conf->limits.block_time;
}

/* Seconds before the greeting. */
static unsigned
greeting_delay(const struct session *s)
{
	unsigned slow = s->is_slow ? s->relay->conf->zombie.tarpit_delay : 0;
	unsigned own = s->kind == EVENT_BLOCK ? s->context.block->delay : 0;

	return slow > own ? slow : own;
}

void
session_slow(struct session *s)
{
	s->slow_until = relay_now() + 1000 *
		(int64_t)s->relay->conf->zombie.tarpit_delay;
}

static int64_t
deadline_of(const struct session *s)
{
	int64_t at = 0, whole = INT64_MAX;

	switch (s->phase) {
	case PHASE_HELLO:
		return s->phase_since + LIMIT_TLS;
	case PHASE_DELAY:
		return s->started + 1000 * (int64_t)greeting_delay(s);
	case PHASE_SOCKET:
	case PHASE_CONNECT:
		at = s->phase_since + LIMIT_CONNECT;
		break;
	case PHASE_TLS:
		at = s->phase_since + LIMIT_TLS;
		break;
	case PHASE_KEEPER:
		at = s->phase_since + LIMIT_KEEPER;
		break;
	case PHASE_TALK:
		at = talk_deadline(s);
		break;
	case PHASE_LINGER:
		return s->phase_since + (s->side[CLIENT].shut ? LIMIT_LINGER :
			LIMIT_LINGER_FULL);
	case PHASE_DEAD:
		return s->phase_since;
	}
	if (s->machine.dialling)
		whole = s->dial_since + 1000 * (int64_t)s->machine.server_wait;
	if (opportune_is_trying(s) && s->phase != PHASE_TALK)
		whole = s->dial_since + OPPORTUNE_LIMIT;
	if (s->machine.dialling && s->phase == PHASE_TALK &&
	    s->machine.expect[SERVER] != EXPECT_NONE)
		whole = s->dial_since + 25000;
	if (s->kind == EVENT_BLOCK)
		whole = block_deadline(s);
	return at < whole ? at : whole;
}

/* One timer a session, moved only when it would be late: a limit that is
 * extended at every command costs nothing. */
static void
arm(struct session *s)
{
	int64_t now, left, wake;
	struct timeval tv;

	if (s->moved) {
		s->moved = false;
		s->moved_at = relay_now();
	}
	s->deadline = deadline_of(s);
	wake = s->deadline;
	if (s->is_slow && s->slow_until > relay_now() && s->slow_until < wake)
		wake = s->slow_until;
	if (s->unfinished) {
		/* Not event_active: that would come before the others' turn. */
		struct timeval at_once = { 0, 0 };

		if (event_add(&s->timer, &at_once) == 0)
			s->armed = relay_now();
		return;
	}
	if (s->armed != 0 && s->armed <= wake)
		return;
	now = relay_now();
	left = wake > now ? wake - now : 0;
	tv.tv_sec = left / 1000;
	tv.tv_usec = (left % 1000) * 1000;
	if (event_add(&s->timer, &tv) == 0)
		s->armed = wake;
}

void
session_greet(struct session *s)
{
	struct sink out[2];
	enum act act;

	session_phase(s, PHASE_TALK);
	session_open_sinks(s, out);
	act = s->machine.ops->greet(&s->machine, out);
	session_flush_sinks(s, out);
	session_act(s, act);
}

/* A client cannot go on while the server does not read what it sent. */
static bool
is_server_late(const struct session *s)
{
	return s->machine.expect[CLIENT] == EXPECT_NONE ||
		chan_pending(&s->side[SERVER]) > 0;
}

static void
expired(struct session *s)
{
	switch (s->phase) {
	case PHASE_HELLO:
		session_fail(s, REASON_CLIENT_TIMEOUT, "");
		break;
	case PHASE_DELAY:
		if (session_is_early(s))
			s->machine.notes.witness.habits |= HABIT_EARLY;
		session_greet(s);
		break;
	case PHASE_SOCKET:
		session_fail(s, REASON_NO_SOCKET, "");
		break;
	case PHASE_CONNECT:
		session_fail(s, REASON_CONNECT_TIMEOUT, "");
		break;
	case PHASE_TLS:
		session_fail(s, REASON_TLS_TIMEOUT, "");
		break;
	case PHASE_KEEPER:
		session_fail(s, REASON_KEEPER, "the keeper does not answer");
		break;
	case PHASE_TALK:
		if (s->side[CLIENT].shut || s->side[SERVER].shut)
			session_finish(s, REASON_DONE);
		else if (s->kind == EVENT_BLOCK &&
		    block_deadline(s) <= relay_now())
			session_fail(s, REASON_TIME_LIMIT, "");
		else
			session_fail(s, is_server_late(s) ?
				REASON_SERVER_TIMEOUT : REASON_CLIENT_TIMEOUT,
				"");
		break;
	default:
		session_phase(s, PHASE_DEAD);
		break;
	}
}

/* ---- the loop's callbacks: each ends in session_leave() ---- */

/* A turn ends: what can move moves, what was queued goes out; a session that is
 * over is gone after it. */
void
session_leave(struct session *s)
{
	struct chan *client = &s->side[CLIENT];

	s->unfinished = pump_run(s);
	if (s->unlisted != NULL && s->unlisted->opportune != OPPORTUNE_NOT &&
	    !s->machine.dialling)
		opportune_stands(s);
	if (s->phase == PHASE_LINGER && !client->shut && !client->reset &&
	    chan_pending(client) == 0)
		chan_shut(client);
	if (s->phase == PHASE_DEAD) {
		destroy(s);
		return;
	}
	chan_settle(&s->side[CLIENT]);
	chan_settle(&s->side[SERVER]);
	arm(s);
}

void
session_on_event(evutil_socket_t fd, short what, void *arg)
{
	struct session *s = arg;
	struct chan *c = fd == s->side[CLIENT].fd ? &s->side[CLIENT] :
		&s->side[SERVER];

	chan_notice(c, what);
	if (c == &s->side[SERVER] &&
	    (s->phase == PHASE_CONNECT || s->phase == PHASE_TLS))
		dial_continue(s);
	else if (c == &s->side[CLIENT] && s->phase == PHASE_HELLO)
		publish_continue(s);
	session_leave(s);
}

static void
on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct session *s = arg;

	(void)fd;
	(void)what;
	s->armed = 0;
	if (s->deadline <= relay_now())
		expired(s);
	session_leave(s);
}

void
session_end(struct session *s, enum reason why)
{
	session_fail(s, why, "");
	session_leave(s);
}

/* ---- birth ---- */

static unsigned
count_quota(void *arg, enum tally_kind kind, unsigned n)
{
	struct session *s = arg;
	struct line_key all;
	const bool is_account = account_has_quota(&s->context, kind);

	if (is_account)
		account_key(s, &all);
	/* quotas of sending are for lines; guessing is nobody's right */
	if (s->place != NULL && kind != TALLY_GUESSES)
		return 0;
	return tally_add(s->relay->tally, is_account ? &all : &s->line, kind,
		(uint32_t)(relay_now() / 1000), n);
}

struct origin_server *
session_server(struct session *s)
{
	struct origin_server *u = calloc(1, sizeof(*u));
	struct addr host = s->origin;
	char text[ADDR_STRLEN];

	if (u == NULL)
		return NULL;
	host.port = 0;
	/* RFC 5321 section 4.1.3 */
	snprintf(u->name, sizeof(u->name), "[%s%s]",
		host.family == AF_INET6 ? "IPv6:" : "",
		addr_format(&host, text));
	u->conf.name = u->name;
	u->conf.is_unlisted = true;
	s->unlisted = u;
	s->context.server = &u->conf;
	return u;
}

/* A server that is not listed: is there submission, or TLS, at the same host? */
static void
look_at_origin(struct session *s, struct decision *d)
{
	if (d->server != -1 || s->place != NULL)
		return;
	if (d->treatment == TREAT_SUBMIT && origin_open(s) != 0) {
		d->treatment = TREAT_BLOCK;
		d->reason = REASON_UNKNOWN_ORIGIN;
	} else if ((d->treatment == TREAT_POP3 || d->treatment == TREAT_IMAP) &&
	    opportune_open(s) != 0)
		d->treatment = TREAT_RELAY;
}

/* false: no memory. */
static bool
choose_machine(struct session *s, const struct decision *d)
{
	const struct conf *conf = s->relay->conf;
	struct context *x = &s->context;

	x->gateway = conf->name;
	x->limits = &conf->limits;
	x->quota = count_quota;
	x->quota_arg = s;
	x->strict = conf->strict;
	x->src = s->src;
	if (s->unlisted == NULL)
		x->server = d->server == -1 ? NULL : &conf->servers[d->server];
	x->read_replies = conf->read_replies;
	x->origin = s->origin;
	contact_key(s->relay->table, x->key);
	event_id_text(s->id, x->id);
	addr_format(&s->src, x->client);
	if (s->place != NULL)
		publish_context(s);
	if (conf->log_envelope != LOG_ENVELOPE_NONE &&
	    d->treatment != TREAT_POP3 && d->treatment != TREAT_IMAP)
		x->envelope = calloc(1, sizeof(*x->envelope));
	switch (d->treatment) {
	case TREAT_BLOCK:
		x->block = d->reason == REASON_ZOMBIE ? &conf->zombie_block :
			&conf->classes[d->class_index].block;
		x->is_soft = x->block->soft_until > time(NULL);
		x->refuse_at_ehlo = x->block->stage == BLOCK_ADAPTIVE &&
			adaptive_marked(s->relay->adaptive, &s->line,
				(uint32_t)(s->started / 1000));
		smtp_block_init(&s->machine, x);
		s->machine.reason = d->reason == REASON_UNKNOWN_ORIGIN ||
			d->reason == REASON_ZOMBIE ? d->reason : REASON_NONE;
		break;
	case TREAT_SUBMIT:
		x->hello = malloc(HELLO_MAX);
		smtp_submit_init(&s->machine, x);
		break;
	case TREAT_POP3:
		pop3_init(&s->machine, x);
		break;
	case TREAT_IMAP:
		imap_init(&s->machine, x);
		break;
	default:
		smtp_relay_init(&s->machine, x);
		break;
	}
	s->kind = s->machine.ops->kind;
	if (d->treatment == TREAT_RESET)
		s->kind = EVENT_RESET;
	if (s->place != NULL)
		s->kind = EVENT_PUBLISH;
	return d->treatment != TREAT_SUBMIT || x->hello != NULL;
}

/* Too many of one line; relay only counts (DESIGN.md section 6). */
static bool
enter_line(struct session *s)
{
	const struct line_key key = counted_as(s);
	unsigned held = lines_enter(s->relay->lines, &key);
	unsigned most = s->place != NULL ? publish_of(s)->max_per_line :
		s->relay->conf->max_per_line;

	s->counted = held > 0;
	if (held <= most || s->kind == EVENT_RELAY)
		return true;
	/* Its last words must not count against the next attempt. */
	if (s->counted)
		lines_leave(s->relay->lines, &key);
	s->counted = false;
	s->relay->counters.refused_per_line++;
	return false;
}

/* While there is room: whoever fills it must not make others wait. */
static void
enter_tarpit(struct session *s, const struct decision *d)
{
	const int window = TARPIT_WINDOW;

	if (!d->is_slow || s->relay->slow_now >= s->relay->conf->zombie.tarpit_max)
		return;
	s->is_slow = true;
	s->relay->slow_now++;
	/* a smaller one is what is asked for, not what a sender relies on */
	(void)setsockopt(s->side[CLIENT].fd, IPPROTO_TCP, TCP_WINDOW_CLAMP,
		&window, sizeof(window));
}

static void
begin(struct session *s, const struct decision *d)
{
	if (d->treatment == TREAT_RESET)
		session_abort(s, d->reason);
	else if (!enter_line(s))
		session_fail(s, REASON_MAX_PER_LINE, "");
	else if (s->phase == PHASE_HELLO)
		publish_hello(s);
	else {
		enter_tarpit(s, d);
		if (greeting_delay(s) > 0) {
			session_phase(s, PHASE_DELAY);
			return;
		}
		session_greet(s);
	}
}

void
session_open(struct relay *r, int fd, const struct addr *src,
	const struct addr *origin, const struct publish_place *place)
{
	struct session *s = calloc(1, sizeof(*s));
	struct decision d;
	int is_new = -1;
	bool has_memory;

	if (s == NULL) {
		close(fd);
		return;
	}
	if (place != NULL)
		publish_decide(r, src, place, &d);
	else
		policy_decide(r->conf, r->upstream, r->table, src, origin,
			time(NULL), &d);
	s->relay = r;
	s->place = place;
	s->phase = place != NULL && place->service < PUBLISH_CLEAR ?
		PHASE_HELLO : PHASE_DELAY;
	s->started = s->phase_since = s->moved_at = relay_now();
	s->id = relay_event_id(r);
	s->src = *src;
	s->origin = *origin;
	s->line = d.line;
	s->class_index = d.class_index;
	s->is_policed = d.is_policed;
	s->server = d.server;
	s->waiter.wake = dial_socket;
	s->asked.wake = dial_offered;
	chan_init(&s->side[CLIENT], r->scratch, CLIENT);
	chan_init(&s->side[SERVER], r->scratch, SERVER);
	event_assign(&s->timer, r->base, -1, 0, on_timer, s);
	TAILQ_INSERT_TAIL(&r->sessions, s, link);
	r->counters.sessions_now++;
	r->counters.sessions_total++;
	if (place == NULL && origin->port == 25 && d.class_index >= 0)
		is_new = contact_note(r->table, &r->detect, r->conf,
			d.class_index, fd, src, origin,
			conf_nfq_saw(r->conf, d.class_index));
	look_at_origin(s, &d);
	if (account_open(s, &d) == -1 || pop_open(s, &d) == -1)
		log_warn("no memory for the login of a line");
	has_memory = choose_machine(s, &d);
	s->machine.notes.witness.good[EVIDENCE_CONTACT] = is_new == 0;
	s->machine.notes.witness.bad[EVIDENCE_CONTACT] = is_new == 1;
	if (chan_watch(&s->side[CLIENT], fd, r->base, session_on_event,
		s) == -1 || !has_memory)
		session_abort(s, REASON_NO_MEMORY);
	else
		begin(s, &d);
	session_leave(s);
}
