/*
 * publish.c - a session with a published server, where it differs
 *
 * TLS with the client comes first: nothing is dialled and no word of a protocol
 * is said before it stands, so whoever only knocks costs the server behind
 * nothing. Then the same machines as for captured connections do the same work
 * towards a server that speaks in clear. Where a connection begins in clear, they
 * do it with a login that is not shown; at STARTTLS everything is thrown away,
 * the connection to the server with it, and a new machine begins in TLS.
 *
 * Called by session.c. The client controls its hello and how slowly it comes:
 * the handshake has ten seconds as a whole.
 */
#include <string.h>

#include "proxyd/serve.h"
#include "proxyd/session.h"
#include "proxyd/tls.h"

const struct publish_conf *
publish_of(const struct session *s)
{
	return &s->relay->conf->publish[s->place->publish];
}

/* Who the client is matters for the log and for counting only. */
void
publish_decide(const struct relay *r, const struct addr *src,
	const struct publish_place *place, struct decision *d_r)
{
	static const enum treatment treatment[PUBLISH_PROTOCOLS] = {
		TREAT_POP3, TREAT_IMAP, TREAT_SUBMIT };
	const struct class_conf *class;

	memset(d_r, 0, sizeof(*d_r));
	d_r->treatment = treatment[publish_protocol(place->service)];
	d_r->reason = REASON_NONE;
	d_r->server = -1;
	(void)conf_policy(r->conf, src, 0, &d_r->class_index, NULL);
	class = d_r->class_index == -1 ? NULL :
		&r->conf->classes[d_r->class_index];
	line_key_of(src, class == NULL ? CONF_LINE_LEN6 : class->line_len6,
		class == NULL ? 0 : class->port_block, &d_r->line);
}

void
publish_context(struct session *s)
{
	struct context *x = &s->context;

	x->server = &publish_of(s)->server;
	x->is_published = true;
	x->offers_tls = s->place->service >= PUBLISH_CLEAR;
	x->needs_tls = x->offers_tls && publish_of(s)->require_tls;
}

void
publish_hello(struct session *s)
{
	if (chan_serve(&s->side[CLIENT], s->relay->serve, s->place) == -1) {
		session_fail(s, REASON_NO_MEMORY, "");
		return;
	}
	session_phase(s, PHASE_HELLO);
	publish_continue(s);
}

void
publish_continue(struct session *s)
{
	struct chan *c = &s->side[CLIENT];
	char why[EVENT_DETAIL_MAX];
	int result = chan_handshake(c);

	if (result == 0)
		return;
	if (result == 1) {
		s->tls = (uint8_t)tls_version(c->ssl);
		session_greet(s);
		return;
	}
	serve_failure(why, sizeof(why));
	session_fail(s, c->reset ? REASON_CLIENT_RESET : c->eof ?
		REASON_CLIENT_EOF : REASON_CLIENT_TLS, why);
}

void
publish_starttls(struct session *s)
{
	static void (*const init[PUBLISH_PROTOCOLS])(struct machine *m,
		const struct context *x) = { pop3_init, imap_init,
		smtp_submit_init };

	if (session_is_early(s)) {
		session_fail(s, REASON_TLS_INJECTION, "");
		return;
	}
	session_act(s, ACT_HANGUP);
	s->context.offers_tls = s->context.needs_tls = false;
	s->context.greeted = true;
	init[publish_protocol(s->place->service)](&s->machine, &s->context);
	publish_hello(s);
}
