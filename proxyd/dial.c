/*
 * dial.c - the server's side of a session comes to be
 *
 * A socket from the parent, the connection, TLS on it or a tunnel through it,
 * and the machine told when it stands. Whatever fails ends the session with the
 * reason; time limits are session.c's. Decides neither whom to dial nor what is
 * said: that is the machine's.
 *
 * Submission goes to the address dialled, or to the server's submission_host:
 * to its addresses one after the other, until one takes the connection.
 *
 * Called by session.c, and by the loop when a socket has come. The server
 * controls the handshake and its certificate; clear octets on either side of
 * a switch to TLS end the session (TRAPS 1 and 2).
 */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "conf/conf.h"
#include "proxyd/identity.h"
#include "proxyd/opportune.h"
#include "proxyd/origin.h"
#include "proxyd/session.h"
#include "proxyd/tls.h"

/* DESIGN.md section 6: 5 s an address, 15 s in all. */
#define ADDRESSES_TRIED 3

/* Where submission of this session goes instead of the address dialled. */
static const char *
other_host(const struct session *s)
{
	return s->kind == EVENT_SUBMIT && s->context.server != NULL ?
		s->context.server->submission_host : NULL;
}

static bool
find_host(const struct session *s, unsigned nth, struct addr *host_r)
{
	return upstream_host(s->relay->upstream, s->server, s->src.family,
		(unsigned)s->id, nth, host_r);
}

static struct addr
target(const struct session *s)
{
	struct addr to = s->place != NULL ? publish_of(s)->to :
		s->via.family != 0 ? s->via : s->origin;

	if (s->machine.dial.port != 0)
		to.port = s->machine.dial.port;
	return to;
}

static void
upstream_ready(struct session *s)
{
	struct sink out[2];
	enum act act;

	session_phase(s, PHASE_TALK);
	session_open_sinks(s, out);
	act = s->machine.ops->upstream(&s->machine, out);
	session_flush_sinks(s, out);
	session_act(s, act);
}

/* The first octets of a connection fit any socket's buffer. */
static int
send_proxy_header(struct session *s)
{
	enum proxy proxy = s->context.server != NULL ?
		s->context.server->proxy : PROXY_OFF;
	uint8_t header[PROXY_HEADER_MAX];
	size_t n;

	if (s->place != NULL) {
		n = identity_proxy_tls(header, &s->src, &s->origin, s->tls);
		return !publish_of(s)->proxy || send(s->side[SERVER].fd, header,
			n, MSG_NOSIGNAL) == (ssize_t)n ? 0 : -1;
	}
	if (proxy == PROXY_OFF || (proxy == PROXY_SUBMISSION &&
		s->kind != EVENT_SUBMIT) || s->kind == EVENT_RELAY)
		return 0;
	n = identity_proxy(header, &s->src, &s->origin);
	return send(s->side[SERVER].fd, header, n, MSG_NOSIGNAL) ==
		(ssize_t)n ? 0 : -1;
}

static void
connected(struct session *s)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	struct chan *c = &s->side[SERVER];

	if (getsockname(c->fd, (struct sockaddr *)&ss, &len) == 0)
		(void)addr_from_sockaddr(&s->out, (struct sockaddr *)&ss);
	if (send_proxy_header(s) == -1)
		session_fail(s, REASON_CONNECT_FAILED, strerror(errno));
	else if (s->machine.dial.mode == TLS_IMPLICIT)
		dial_tls(s);
	else
		upstream_ready(s);
}

static void
check_connect(struct session *s)
{
	struct chan *c = &s->side[SERVER];
	int error = 0;
	socklen_t len = sizeof(error);

	if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len) == -1)
		error = errno;
	if (error != 0)
		session_fail(s, error == ETIMEDOUT ? REASON_CONNECT_TIMEOUT :
			REASON_CONNECT_FAILED, strerror(error));
	else
		connected(s);
}

/* Lines' own addresses reach only hosts of their own family. */
static void
no_address(struct session *s, const char *host)
{
	char why[EVENT_DETAIL_MAX];

	snprintf(why, sizeof(why), "%.120s%s", host,
		conf_source(s->relay->conf, s->server) == SOURCE_GATEWAY ? "" :
		s->src.family == AF_INET6 ? ", IPv6" : ", IPv4");
	session_fail(s, REASON_NO_ADDRESS, why);
}

static enum dial
dial_out(struct session *s, const struct addr *to, const struct addr *from,
	int *fd_r)
{
	struct upstream *u = s->relay->upstream;

	if (s->place != NULL)
		return upstream_dial_inner(u, publish_of(s), to, &s->waiter,
			fd_r);
	/* Unchanged mail must not come from an address that is trusted. */
	return upstream_dial(u, to, from, s->kind == EVENT_RELAY ? -1 :
		s->server, &s->waiter, fd_r);
}

static void
dial_target(struct session *s)
{
	struct addr to = target(s), from = s->src;
	struct chan *c = &s->side[SERVER];
	int fd;

	from.port = 0;
	s->machine.notes.stage = s->machine.notes.stage < STAGE_CONNECT ?
		STAGE_CONNECT : s->machine.notes.stage;
	switch (dial_out(s, &to, &from, &fd)) {
	case DIAL_STARTED:
		session_phase(s, PHASE_CONNECT);
		if (s->machine.ops->offered != NULL && s->place == NULL)
			(void)offers_ask(s->relay->offers, &s->origin, &from,
				NULL);
		if (chan_watch(c, fd, s->relay->base, session_on_event,
			s) == -1)
			session_fail(s, REASON_NO_MEMORY, "");
		break;
	case DIAL_WAIT:
		session_phase(s, PHASE_SOCKET);
		break;
	case DIAL_FORBIDDEN:
		session_fail(s, REASON_FORBIDDEN, s->place != NULL ? "" :
			upstream_allowed(s->relay->upstream, &to));
		break;
	default:
		session_fail(s, errno == EADDRNOTAVAIL || errno == EADDRINUSE ?
			REASON_NO_SOCKET : REASON_CONNECT_FAILED,
			strerror(errno));
		break;
	}
}

void
dial_begin(struct session *s)
{
	const char *host = other_host(s);

	if (host != NULL && !find_host(s, s->tries, &s->via)) {
		no_address(s, host);
		return;
	}
	if (host != NULL)
		s->via.port = s->machine.dial.port;
	dial_target(s);
}

bool
dial_next(struct session *s, enum reason why)
{
	struct addr next;

	if ((why != REASON_CONNECT_FAILED && why != REASON_CONNECT_TIMEOUT &&
		why != REASON_FORBIDDEN) || other_host(s) == NULL ||
	    s->tries + 1 >= ADDRESSES_TRIED || !find_host(s, s->tries + 1, &next))
		return false;
	session_act(s, ACT_HANGUP);
	s->tries++;
	dial_begin(s);
	return true;
}

static void
check_tls(struct session *s)
{
	struct chan *c = &s->side[SERVER];
	char why[EVENT_DETAIL_MAX];
	bool certificate = false;
	int result = chan_handshake(c);

	if (result == 0)
		return;
	if (result == -1) {
		tls_failure(s->relay->tls, c->ssl, why, sizeof(why),
			&certificate);
		if (!certificate && tls_offer_failed(c->ssl)) {
			s->no_alpn = true;
			chan_close(c, true);
			dial_begin(s);
			return;
		}
		/* The alert that says so is worth sending. */
		session_fail(s, certificate ? REASON_CERTIFICATE :
			REASON_TLS_FAILED, why);
		return;
	}
	if (s->context.server->is_opportune) {
		if (opportune_check(s) != 0)
			return;
	} else if (tls_verified(c->ssl, why, sizeof(why)) == -1) {
		session_fail(s, REASON_CERTIFICATE, why);
		return;
	}
	if (s->no_alpn)
		tls_offer_never(c->ssl);
	origin_stands(s);
	s->tls = (uint8_t)tls_version(c->ssl);
	if (SSL_session_reused(c->ssl))
		s->relay->counters.tls_resumed++;
	else
		s->relay->counters.tls_full++;
	upstream_ready(s);
}

void
dial_tls(struct session *s)
{
	struct chan *c = &s->side[SERVER];
	const struct server_conf *server = s->context.server;
	const char *host = other_host(s);
	struct addr to = target(s);
	size_t index = (size_t)s->server;

	if (host != NULL)
		index += s->relay->conf->nservers;
	if (c->view_len > 0) {
		session_fail(s, REASON_TLS_INJECTION, "");
		return;
	}
	if (chan_tls(c, s->relay->tls, server, host != NULL ? host :
		server->name, (unsigned)index, &to) == -1) {
		session_fail(s, REASON_NO_MEMORY, "");
		return;
	}
	/* Behind STARTTLS the port has said what it speaks. */
	if (s->machine.alpn != NULL && s->machine.dial.mode == TLS_IMPLICIT &&
	    !s->no_alpn)
		tls_offer(c->ssl, s->machine.alpn);
	session_phase(s, PHASE_TLS);
	check_tls(s);
}

void
dial_tunnel(struct session *s)
{
	if (s->side[SERVER].view_len > 0 || session_is_early(s)) {
		session_fail(s, REASON_TLS_INJECTION, "");
		return;
	}
	s->kind = EVENT_TUNNEL;
	s->machine.expect[CLIENT] = s->machine.expect[SERVER] = EXPECT_RAW;
	s->machine.notes.stage = STAGE_TLS;
}

void
dial_socket(struct upstream_waiter *w)
{
	struct session *s = (struct session *)((char *)w -
		offsetof(struct session, waiter));

	dial_begin(s);
	session_leave(s);
}

static void
offered(struct session *s, enum offer answer)
{
	struct sink out[2];
	enum act act;

	s->machine.offer = answer;
	session_open_sinks(s, out);
	act = s->machine.ops->offered(&s->machine, out);
	session_flush_sinks(s, out);
	session_act(s, act);
}

void
dial_ask(struct session *s)
{
	struct addr line = s->src;
	enum offer answer;

	line.port = 0;
	answer = offers_ask(s->relay->offers, &s->origin, &line, &s->asked);
	if (answer != OFFER_UNKNOWN)
		offered(s, answer);
}

void
dial_offered(struct offer_waiter *w, enum offer answer)
{
	struct session *s = (struct session *)((char *)w -
		offsetof(struct session, asked));

	offered(s, answer);
	session_leave(s);
}

void
dial_continue(struct session *s)
{
	if (s->phase == PHASE_CONNECT)
		check_connect(s);
	else
		check_tls(s);
}
