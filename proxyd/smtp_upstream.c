/*
 * smtp_upstream.c - submit's way to a server: from the dial to its list
 *
 * Dials at the client's first EHLO, speaks STARTTLS where the server wants it
 * or the client asked for a tunnel, says whose connection it is, and answers
 * the client's EHLO with the server's list as edited by smtp_ehlo.c. What comes
 * before and behind is smtp_submit.c's.
 *
 * What must hold: nothing but EHLO and STARTTLS reaches the server before TLS,
 * and nothing learned before it survives. Called by smtp_submit.c, which has
 * checked that a reply is one. The server controls every octet of it; one that
 * does not fit ends the session with 421.
 */
#include <string.h>

#include "proxyd/identity.h"
#include "proxyd/sasl.h"
#include "proxyd/smtp.h"

enum act
submit_dial(struct machine *m, struct endpoint to, bool tunnel)
{
	m->dial = to;
	m->u.smtp.tunnel = tunnel;
	m->u.smtp.identified = false;
	m->u.smtp.in_tls = false;
	m->dialling = true;
	m->expect[CLIENT] = EXPECT_NONE;
	m->expect[SERVER] = EXPECT_NONE;
	m->server_wait = SMTP_WAIT_UPSTREAM;
	return ACT_DIAL;
}

enum act
smtp_submit_redial(struct machine *m)
{
	m->u.smtp.state = SMTP_GREET;
	return submit_dial(m, m->context->server->submission, false);
}

void
submit_send_ehlo(struct machine *m, struct sink out[2])
{
	struct smtp *s = &m->u.smtp;

	memset(&s->ehlo, 0, sizeof(s->ehlo));
	sink_text(&out[SERVER], "EHLO %.*s\r\n", (int)s->hello_len,
		m->context->hello);
	submit_await(m, SMTP_U_EHLO, SMTP_WAIT_REPLY);
}

enum act
submit_upstream(struct machine *m, struct sink out[2])
{
	struct smtp *s = &m->u.smtp;

	if (s->state == SMTP_U_STARTTLS) {	/* TLS stands on this connection */
		s->in_tls = true;
		submit_send_ehlo(m, out);
		return ACT_NONE;
	}
	s->in_tls = m->dial.mode == TLS_IMPLICIT;
	submit_await(m, SMTP_U_GREETING, SMTP_WAIT_REPLY);
	return ACT_NONE;
}

static enum act
upstream_greeting(struct machine *m, const struct line *l, unsigned code,
	struct sink out[2])
{
	if (code != 220)
		return submit_fail(m, REASON_SERVER_GREETING, l);
	if (m->u.smtp.in_tls || m->dial.mode == TLS_PLAIN) {
		submit_send_ehlo(m, out);
		return ACT_NONE;
	}
	memset(&m->u.smtp.ehlo, 0, sizeof(m->u.smtp.ehlo));
	sink_text(&out[SERVER], "EHLO %s\r\n", m->context->gateway);
	submit_await(m, SMTP_U_EHLO_CLEAR, SMTP_WAIT_REPLY);
	return ACT_NONE;
}

static enum act
upstream_clear_list(struct machine *m, const struct line *l, unsigned code,
	struct sink out[2])
{
	if (code != 250 || !ehlo_has_starttls(&m->u.smtp.ehlo))
		return submit_fail(m, REASON_NO_STARTTLS, l);
	sink_text(&out[SERVER], "STARTTLS\r\n");
	submit_await(m, SMTP_U_STARTTLS, SMTP_WAIT_REPLY);
	return ACT_NONE;
}

static enum act
upstream_starttls(struct machine *m, const struct line *l, unsigned code,
	struct sink out[2])
{
	if (code != 220)
		return submit_fail(m, REASON_NO_STARTTLS, l);
	if (!m->u.smtp.tunnel)
		return ACT_TLS;
	sink_text(&out[CLIENT], "220 2.0.0 Ready to start TLS\r\n");
	m->u.smtp.state = SMTP_OPAQUE;
	m->dialling = false;
	m->client_wait = m->server_wait = SMTP_WAIT_OPAQUE;
	return ACT_TUNNEL;
}

static enum act
upstream_list(struct machine *m, const struct line *l, unsigned code,
	struct sink out[2])
{
	const struct server_conf *server = m->context->server;
	struct smtp *s = &m->u.smtp;

	if (code != 250)
		return submit_fail(m, REASON_SERVER_GREETING, l);
	if (m->context->is_published && s->ehlo.binds)
		s->ehlo.mechs = sasl_without_scram(s->ehlo.mechs);
	if (m->context->needs_tls)
		s->ehlo.mechs = 0;
	ehlo_limit_size(&s->ehlo, smtp_limits(m->context)->size);
	if (server->xclient && !s->identified && identity_xclient(
		s->ehlo.xclient, &m->context->src, &out[SERVER]) == 0) {
		s->identified = true;
		submit_await(m, SMTP_U_XCLIENT, SMTP_WAIT_REPLY);
		return ACT_NONE;
	}
	if (s->is_ehlo)
		ehlo_print(&s->ehlo, server->name,
			(server->starttls != 0 || m->context->offers_tls) &&
			!s->has_auth, &out[CLIENT]);
	else
		sink_text(&out[CLIENT], "250 %s\r\n", server->name);
	submit_forget_mail(s);
	submit_become_ready(m);
	return ACT_NONE;
}

enum act
submit_upstream_line(struct machine *m, const struct line *l, unsigned code,
	bool last, struct sink out[2])
{
	struct smtp *s = &m->u.smtp;

	if (s->state == SMTP_U_EHLO || s->state == SMTP_U_EHLO_CLEAR) {
		if (s->first_seen)
			ehlo_learn(&s->ehlo, l);
		s->first_seen = true;
	}
	if (!last)
		return ACT_NONE;
	switch (s->state) {
	case SMTP_U_EHLO_CLEAR:
		return upstream_clear_list(m, l, code, out);
	case SMTP_U_STARTTLS:
		return upstream_starttls(m, l, code, out);
	case SMTP_U_EHLO:
		return upstream_list(m, l, code, out);
	default:	/* XCLIENT: back to where it began: in TLS, EHLO again */
		return upstream_greeting(m, l, code, out);
	}
}
