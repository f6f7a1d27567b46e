/*
 * opportune.c - TLS to POP3 and IMAP servers that nobody has listed
 *
 * Does: make up the server of a session whose origin is not listed, look at the
 * certificate, remember what the host has, turn a session whose client has not
 * been greeted yet into one that is carried in the clear. Does not: dial, or
 * decide what a memory means; dial.c and tlsseen.c do.
 *
 * Called by session.c and dial.c. Clients choose the hosts; servers, and whoever
 * stands on the way, choose the answers. Nothing of the client's is sent before
 * the certificate has been compared with what the host had before.
 */
#include "proxyd/opportune.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/conf.h"
#include "proxyd/session.h"
#include "proxyd/smtp.h"
#include "proxyd/tls.h"

#define PORT_IMAP 143
#define PORT_POP3S 995		/* RFC 8314 section 7 */
#define PORT_IMAPS 993

static uint32_t
seconds(void)
{
	return (uint32_t)(relay_now() / 1000);
}

/* Who dials hosts all over the world is no mail program. */
static bool
may_have_another(struct session *s)
{
	return tally_add(s->relay->tally, &s->line, TALLY_HOSTS, seconds(),
		1) <= OPPORTUNE_NEW_MAX;
}

int
opportune_open(struct session *s)
{
	const bool imap = s->origin.port == PORT_IMAP;
	const struct endpoint to = { .mode = TLS_IMPLICIT,
		.port = imap ? PORT_IMAPS : PORT_POP3S };
	struct origin_server *u;
	bool is_new;
	enum tls_plan plan = tlsseen_plan(s->relay->tlsseen, &s->origin,
		seconds(), &is_new);

	if (plan == PLAN_CLEAR || (is_new && !may_have_another(s)))
		return 1;
	u = session_server(s);
	if (u == NULL)
		return -1;
	u->opportune = plan == PLAN_TLS ? OPPORTUNE_MUST : OPPORTUNE_TRIES;
	u->conf.is_opportune = true;
	*(imap ? &u->conf.imap : &u->conf.pop3) = to;
	return 0;
}

bool
opportune_is_trying(const struct session *s)
{
	return s->unlisted != NULL && s->unlisted->opportune == OPPORTUNE_TRIES;
}

static bool
is_pending(const struct session *s)
{
	return s->unlisted != NULL && s->unlisted->opportune != OPPORTUNE_NOT &&
		s->machine.dialling;
}

static enum tls_answer
note(struct session *s, enum tls_outcome outcome)
{
	return tlsseen_note(s->relay->tlsseen, &s->origin, outcome,
		&s->unlisted->names, seconds());
}

/* ---- the certificate ---- */

static void
add_name(void *arg, const void *text, size_t len)
{
	struct session *s = arg;

	tlsseen_name(s->relay->tlsseen, &s->unlisted->names, text, len);
}

int
opportune_check(struct session *s)
{
	struct origin_server *u = s->unlisted;
	const SSL *ssl = s->side[SERVER].ssl;
	char why[EVENT_DETAIL_MAX], detail[EVENT_DETAIL_MAX + 16];
	enum tls_answer answer;

	u->is_valid = tls_chain(ssl, why, sizeof(why)) == 0;
	u->names.n = 0;
	tls_names(ssl, add_name, s);
	if (!u->is_valid) {
		snprintf(detail, sizeof(detail), "not verified: %s", why);
		notes_detail(&s->machine.notes, (const uint8_t *)detail,
			strlen(detail));
	}
	if (u->opportune == OPPORTUNE_TRIES)
		return 0;	/* remembered when a mail server greets */
	answer = note(s, u->is_valid ? OUTCOME_VALID : OUTCOME_UNVERIFIED);
	if (answer == ANSWER_GO_ON)
		return 0;
	if (answer == ANSWER_ALARM)
		s->kind = EVENT_ALARM;
	session_fail(s, REASON_TLS_CHANGED, u->is_valid ?
		"its certificate has none of the names it had" : why);
	return -1;
}

void
opportune_stands(struct session *s)
{
	struct origin_server *u = s->unlisted;

	if (u->opportune == OPPORTUNE_TRIES)
		(void)note(s, u->is_valid ? OUTCOME_VALID : OUTCOME_UNVERIFIED);
	u->opportune = OPPORTUNE_NOT;
}

/* ---- what fails ---- */

/* Of the server, or of the way to it; a client's own end is none of these. */
static bool
outcome_of(enum reason why, enum tls_outcome *outcome_r)
{
	static const enum reason unclear[] = { REASON_CONNECT_TIMEOUT,
		REASON_TLS_FAILED, REASON_TLS_TIMEOUT, REASON_SERVER_GREETING,
		REASON_SERVER_PROTOCOL, REASON_SERVER_TIMEOUT,
		REASON_SERVER_EOF, REASON_SERVER_RESET, REASON_LINE_TOO_LONG };

	*outcome_r = OUTCOME_REFUSED;
	if (why == REASON_CONNECT_FAILED)
		return true;
	*outcome_r = OUTCOME_UNCLEAR;
	for (size_t i = 0; i < sizeof(unclear) / sizeof(unclear[0]); i++)
		if (why == unclear[i])
			return true;
	return false;
}

/* As if we had never looked: the client has not heard a word yet. */
static void
become_clear(struct session *s)
{
	struct sink out[2];
	enum act act;

	session_act(s, ACT_HANGUP);
	s->unlisted->opportune = OPPORTUNE_NOT;
	s->context.server = NULL;
	s->kind = EVENT_RELAY;
	s->tls = 0;
	memset(&s->out, 0, sizeof(s->out));
	smtp_relay_init(&s->machine, &s->context);
	session_phase(s, PHASE_TALK);
	session_open_sinks(s, out);
	act = s->machine.ops->greet(&s->machine, out);
	session_flush_sinks(s, out);
	session_act(s, act);
}

bool
opportune_failed(struct session *s, enum reason why)
{
	enum tls_outcome outcome;
	enum tls_answer answer;

	if (!is_pending(s) || s->kind != EVENT_WRAP ||
	    !outcome_of(why, &outcome))
		return false;
	answer = note(s, outcome);
	if (s->unlisted->opportune == OPPORTUNE_MUST) {
		s->unlisted->opportune = OPPORTUNE_NOT;
		if (answer == ANSWER_ALARM)
			s->kind = EVENT_ALARM;
		return false;
	}
	/* another session has found TLS meanwhile: so must this one */
	if (answer != ANSWER_GO_ON)
		return false;
	become_clear(s);
	return true;
}
