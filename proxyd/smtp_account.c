/*
 * smtp_account.c - submit for a line that has an account and no password
 *
 * A client that says MAIL without having logged in (a printer) is logged in by
 * us, if its line has an account: its MAIL waits, AUTH goes to the server with
 * the answers that the keeper gives, and behind 235 the MAIL follows, with the
 * account's sender in the place of whatever the client named. A client that
 * says AUTH is none of our business: its own login wins. The vouch_ functions
 * at the end are the door to this file and to smtp_pop.c.
 *
 * What must hold: AUTH only inside the TLS that smtp_submit.c has (TRAPS 13);
 * one attempt a MAIL, so that a wrong password is not tried in every mechanism;
 * nothing of an answer, and no word of the server's about it, in a log; at level
 * suspect no login, and no further mail through one that stands. The client
 * controls its MAIL, of which only the parameters go on; the server controls
 * its challenges, and asking too often or too long ends the session.
 */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "proxyd/keeper.h"
#include "proxyd/sasl.h"
#include "proxyd/smtp.h"

static const char *const sasl_name[MECHANISM_COUNT] = {
	[MECHANISM_PLAIN] = "PLAIN", [MECHANISM_LOGIN] = "LOGIN",
	[MECHANISM_CRAM_MD5] = "CRAM-MD5", [MECHANISM_XOAUTH2] = "XOAUTH2",
};

static bool
account_permits(struct machine *m)
{
	struct account_use *use = m->context->account;

	if (m->u.smtp.has_auth && !use->is_ours)
		return true;
	if (m->u.smtp.state == SMTP_GREET || use->is_suspect(use->arg))
		return false;
	use->is_ours = true;
	return true;
}

bool
account_has_quota(const struct context *x, enum tally_kind kind)
{
	const struct account_use *use = x->account;

	if (use == NULL || !use->is_ours)
		return false;
	return kind == TALLY_RCPTS ? use->conf->rcpts != 0 :
		kind == TALLY_MESSAGES && use->conf->messages != 0;
}

/* ---- MAIL ---- */

/* Behind the path of "FROM:<path>"; NULL: there is none. */
static const uint8_t *
behind_path(const struct command *c)
{
	static const char key[] = "FROM:";
	const uint8_t *p = c->arg, *end = c->arg + c->arg_len;
	bool quoted = false;

	if (c->arg_len < sizeof(key) - 1 ||
	    strncasecmp(key, (const char *)p, sizeof(key) - 1) != 0)
		return NULL;
	p += sizeof(key) - 1;
	while (p < end && *p == ' ')
		p++;
	if (p == end)
		return NULL;
	if (*p != '<') {	/* some programs leave the brackets out */
		while (p < end && *p != ' ')
			p++;
		return p;
	}
	for (; p < end; p++) {
		if (quoted && *p == '\\' && p + 1 < end)
			p++;
		else if (*p == '"')
			quoted = !quoted;
		else if (*p == '>' && !quoted)
			return p + 1;
	}
	return NULL;
}

/* Parameters that go on: all but AUTH=, which speaks of another sender (RFC
 * 4954 section 5). -1: they are too long, or no parameters. */
static int
keep_parameters(struct account_use *use, const uint8_t *p, size_t n)
{
	size_t i = 0;

	use->parameters_len = 0;
	if (n > 0 && p[0] != ' ')
		return -1;
	while (i < n) {
		size_t start = i + 1;

		for (i = start; i < n && p[i] != ' ';)
			i++;
		if (i == start || (i - start >= 5 && strncasecmp("AUTH=",
			(const char *)p + start, 5) == 0))
			continue;
		if (i - start + 1 > sizeof(use->parameters) -
			use->parameters_len)
			return -1;
		use->parameters[use->parameters_len++] = ' ';
		memcpy(use->parameters + use->parameters_len, p + start,
			i - start);
		use->parameters_len += i - start;
	}
	return 0;
}

static void
send_mail(struct machine *m, struct sink out[2])
{
	const struct account_use *use = m->context->account;

	sink_text(&out[SERVER], "MAIL FROM:<%s>%.*s\r\n", use->conf->sender,
		(int)use->parameters_len, use->parameters);
	m->u.smtp.verb = VERB_MAIL;
	submit_await(m, SMTP_REPLY, SMTP_WAIT_REPLY);
}

/* What the account may use and the server offers; AUTO: nothing. */
static enum account_mechanism
choose(const struct machine *m, const struct account_conf *a)
{
	for (int i = MECHANISM_PLAIN; i < MECHANISM_COUNT; i++) {
		const char *name = sasl_name[i];

		if ((i == MECHANISM_XOAUTH2) == (a->token_file != NULL) &&
		    (a->mechanism == MECHANISM_AUTO ||
			a->mechanism == (enum account_mechanism)i) &&
		    (m->u.smtp.ehlo.mechs & sasl_mechanism(
			(const uint8_t *)name, strlen(name))) != 0)
			return (enum account_mechanism)i;
	}
	return MECHANISM_AUTO;
}

/* The client keeps its mail; its operator has to do something. */
static void
not_now(struct machine *m, const char *words, struct sink *to)
{
	sink_text(to, "454 4.7.0 The account of your line cannot be used: %s "
		"(ref %s)\r\n", words, m->context->id);
	smtp_note_refusal(&m->notes, 454, "4.7.0");
	notes_detail(&m->notes, (const uint8_t *)words, strlen(words));
	m->u.smtp.errors++;
}

static enum act
account_mail(struct machine *m, const struct command *c, struct sink out[2])
{
	struct account_use *use = m->context->account;
	const uint8_t *rest = behind_path(c);

	if (rest == NULL || keep_parameters(use, rest,
		c->arg_len - (size_t)(rest - c->arg)) == -1) {
		sink_text(&out[CLIENT], "501 5.5.4 MAIL not understood\r\n");
		m->u.smtp.errors++;
		return ACT_NONE;
	}
	if (m->u.smtp.has_auth) {
		send_mail(m, out);
		return ACT_NONE;
	}
	use->mechanism = choose(m, use->conf);
	use->step = 0;
	if (use->mechanism == MECHANISM_AUTO) {
		not_now(m, "the server offers no mechanism for it",
			&out[CLIENT]);
		return ACT_NONE;
	}
	if (smtp_is_over(m->context, TALLY_GUESSES, 0))
		return submit_fail(m, REASON_PASSWORD_GUESSES, NULL);
	sink_text(&out[SERVER], "AUTH %s\r\n", sasl_name[use->mechanism]);
	submit_await(m, SMTP_ACCOUNT, SMTP_WAIT_REPLY);
	return ACT_NONE;
}

/* ---- AUTH ---- */

static enum act
challenged(struct machine *m, const struct line *l, struct sink out[2])
{
	struct account_use *use = m->context->account;
	const size_t n = l->len > 4 ? l->len - 4 : 0;

	/* Not what we said is wrong, but what comes of it: XOAUTH2's error
	 * wants an empty line before the refusal (TRAPS 50). */
	if (use->mechanism == MECHANISM_XOAUTH2 && use->step == 1) {
		use->step++;
		sink_text(&out[SERVER], "\r\n");
		submit_await(m, SMTP_ACCOUNT, SMTP_WAIT_REPLY);
		return ACT_NONE;
	}
	if (use->step >= keeper_steps(use->mechanism) ||
	    n > sizeof(use->challenge))
		return submit_fail(m, REASON_SERVER_PROTOCOL, NULL);
	memcpy(use->challenge, l->text + l->len - n, n);
	use->challenge_len = (uint16_t)n;
	m->expect[CLIENT] = m->expect[SERVER] = EXPECT_NONE;
	return ACT_KEEPER;
}

enum act
account_answered(struct machine *m, const char *answer, size_t n,
	struct sink out[2])
{
	m->context->account->step++;
	sink_bytes(&out[SERVER], answer, n);
	sink_text(&out[SERVER], "\r\n");
	submit_await(m, SMTP_ACCOUNT, SMTP_WAIT_REPLY);
	return ACT_NONE;
}

enum act
account_reply(struct machine *m, const struct line *l, unsigned code,
	bool last, struct sink out[2])
{
	char words[48];

	if (!last)
		return ACT_NONE;
	switch (code) {
	case 334:
		return challenged(m, l, out);
	case 235:
		m->u.smtp.has_auth = true;
		send_mail(m, out);
		return ACT_NONE;
	case 421:
		return submit_fail(m, REASON_SERVER_EOF, NULL);
	case 535:
		smtp_used(m->context, TALLY_GUESSES);
		break;
	default:
		if (code < 400)
			return submit_fail(m, REASON_SERVER_PROTOCOL, NULL);
		break;
	}
	submit_become_ready(m);
	snprintf(words, sizeof(words), "the server refused it with %u", code);
	not_now(m, words, &out[CLIENT]);
	return ACT_NONE;
}

/* ---- logins that are ours: this file's, or smtp_pop.c's ---- */

bool
vouch_permits(struct machine *m, const struct command *c)
{
	if (c->verb == VERB_MAIL && m->context->account != NULL)
		return account_permits(m);
	if (c->verb == VERB_MAIL && m->context->pop != NULL)
		return pop_permits(m, c);
	return m->u.smtp.has_auth;
}

bool
vouch_is_ours(const struct machine *m)
{
	const struct context *x = m->context;

	return (x->account != NULL && x->account->is_ours) ||
		(x->pop != NULL && x->pop->is_ours);
}

enum act
vouch_mail(struct machine *m, const struct command *c, struct sink out[2])
{
	return m->context->account != NULL ? account_mail(m, c, out) :
		pop_mail(m, c, out);
}

void
vouch_withdraw(struct machine *m)
{
	if (m->context->account != NULL)
		m->context->account->is_ours = false;
	if (m->context->pop != NULL)
		m->context->pop->is_ours = false;
}
