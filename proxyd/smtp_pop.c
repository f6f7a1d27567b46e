/*
 * smtp_pop.c - submit for a line that has just logged in by POP3
 *
 * pop-before-smtp: a client that says MAIL without AUTH, from a line with a
 * recent POP3 login at the same server of the provider's own, is vouched for by
 * us. Its MAIL waits, XCLIENT LOGIN=user goes to the server, which greets anew,
 * EHLO follows, and then the MAIL as it was. A client that says AUTH never gets
 * that far: servers refuse a second login.
 *
 * What must hold: XCLIENT only to a server listed with it that offers LOGIN in
 * its list; the name is the one that the server accepted, in xtext; looked up at
 * each MAIL, so that what is over is over for sessions that run as well. A
 * server that does not take our word is not asked twice.
 */
#include <string.h>

#include "proxyd/identity.h"
#include "proxyd/smtp.h"

bool
pop_permits(struct machine *m, const struct command *c)
{
	struct pop_use *use = m->context->pop;
	const struct smtp *s = &m->u.smtp;
	char user[POP_USER_MAX + 1];

	if (s->has_auth && !use->is_ours)
		return true;
	if (s->state == SMTP_GREET || use->is_refused ||
	    c->len > sizeof(use->mail) || !m->context->server->xclient ||
	    !identity_has_login(s->ehlo.xclient) || !use->find(use->arg, user))
		return false;
	use->is_known = use->is_ours && s->has_auth &&
		strcmp(user, use->user) == 0;
	memcpy(use->user, user, sizeof(user));
	use->is_ours = true;
	return true;
}

static void
send_mail(struct machine *m, const void *mail, size_t n, struct sink out[2])
{
	sink_bytes(&out[SERVER], mail, n);
	sink_text(&out[SERVER], "\r\n");
	m->u.smtp.verb = VERB_MAIL;
	submit_await(m, SMTP_REPLY, SMTP_WAIT_REPLY);
}

enum act
pop_mail(struct machine *m, const struct command *c, struct sink out[2])
{
	struct pop_use *use = m->context->pop;

	if (use->is_known) {	/* said already, on this connection */
		send_mail(m, c->text, c->len, out);
		return ACT_NONE;
	}
	memcpy(use->mail, c->text, c->len);
	use->mail_len = c->len;
	identity_login(use->user, &out[SERVER]);
	submit_await(m, SMTP_POP_XCLIENT, SMTP_WAIT_REPLY);
	return ACT_NONE;
}

/* The answer to XCLIENT: it greets anew, or it does not believe us. */
static enum act
greeted(struct machine *m, unsigned code, struct sink out[2])
{
	struct smtp *s = &m->u.smtp;

	s->has_auth = false;
	if (code == 421)
		return submit_fail(m, REASON_SERVER_EOF, NULL);
	if (code == 220) {
		memset(&s->ehlo, 0, sizeof(s->ehlo));
		sink_text(&out[SERVER], "EHLO %.*s\r\n", (int)s->hello_len,
			m->context->hello);
		submit_await(m, SMTP_POP_EHLO, SMTP_WAIT_REPLY);
		return ACT_NONE;
	}
	m->context->pop->is_refused = true;
	m->context->pop->is_ours = false;
	submit_become_ready(m);
	submit_wants_login(m, &out[CLIENT]);
	return ACT_NONE;
}

enum act
pop_reply(struct machine *m, const struct line *l, unsigned code, bool last,
	struct sink out[2])
{
	const struct pop_use *use = m->context->pop;
	struct smtp *s = &m->u.smtp;

	if (s->state == SMTP_POP_XCLIENT)
		return last ? greeted(m, code, out) : ACT_NONE;
	if (s->first_seen)
		ehlo_learn(&s->ehlo, l);
	s->first_seen = true;
	if (!last)
		return ACT_NONE;
	if (code != 250)
		return submit_fail(m, REASON_SERVER_GREETING, l);
	ehlo_limit_size(&s->ehlo, smtp_limits(m->context)->size);
	s->has_auth = true;
	send_mail(m, use->mail, use->mail_len, out);
	return ACT_NONE;
}
