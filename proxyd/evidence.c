/*
 * evidence.c - what an SMTP dialogue tells about the line it comes from
 *
 * Does: judge HELO's argument, MAIL's sender, replies to greeting, MAIL and
 * RCPT, speech out of turn; hash the dialect, that is verbs and spacing exactly
 * as sent. Does not: count, score, store or log; nothing here knows other
 * sessions of the line.
 *
 * Called by the three SMTP machines. Every octet is the client's or a server's,
 * and either may want to look innocent or to convict somebody: hashes are keyed,
 * and the rules against a hostile server are in the detector.
 *
 * A bare word is a name: PCs and printers have no other. An address literal out
 * of private space is its own: NAT stands before most lines.
 */
#include "proxyd/evidence.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "proxyd/smtp.h"
#include "zombie/siphash.h"

/* Verbs of the dialect: what follows is repetition. */
#define TOKENS_MAX 24

#define N(a) (sizeof(a) / sizeof((a)[0]))

unsigned
evidence_take(struct witness *w, uint8_t events[WITNESS_EVENTS])
{
	unsigned n = w->n_events;

	memcpy(events, w->events, n);
	w->n_events = 0;
	return n;
}

static void
tell(struct witness *w, enum evidence kind, enum mark mark)
{
	uint16_t *n = mark == MARK_GOOD ? &w->good[kind] : &w->bad[kind];

	*n += *n < UINT16_MAX;
	if (w->n_events < WITNESS_EVENTS)
		w->events[w->n_events++] = (uint8_t)(kind << 2 | mark);
}

/* Keyed, and the same for ISP.example and isp.EXAMPLE. */
static uint64_t
name_hash(const struct machine *m, const uint8_t *p, size_t n)
{
	uint8_t lower[255];

	if (n > sizeof(lower))
		n = sizeof(lower);
	for (size_t i = 0; i < n; i++)
		lower[i] = (uint8_t)tolower(p[i]);
	return siphash(m->context->key, lower, n);
}

/* ---- HELO ---- */

static bool
same_name(const uint8_t *p, size_t n, const char *name)
{
	return name != NULL && strlen(name) == n &&
		strncasecmp((const char *)p, name, n) == 0;
}

/* [192.0.2.1], [IPv6:2001:db8::1]: the client's own, or out of private space. */
static bool
is_own_literal(const struct context *x, const uint8_t *p, size_t n)
{
	char text[ADDR_STRLEN];
	struct addr a;

	if (n < 3 || p[n - 1] != ']')
		return false;
	p++;
	n -= 2;
	if (n > 5 && strncasecmp((const char *)p, "IPv6:", 5) == 0) {
		p += 5;
		n -= 5;
	}
	if (n >= sizeof(text))
		return false;
	memcpy(text, p, n);
	text[n] = '\0';
	if (addr_parse(&a, text) == -1 || a.port != 0)
		return false;
	return addr_same_host(&a, &x->src) || addr_special(&a) != NULL;
}

/* Labels of letters, digits, '-' and '_', not digits alone. */
static bool
is_name(const uint8_t *p, size_t n)
{
	bool letter = false;

	for (size_t i = 0; i < n; i++) {
		if (p[i] == '.' && (i == 0 || p[i - 1] == '.'))
			return false;
		if (!isalnum(p[i]) && strchr("-_.", p[i]) == NULL)
			return false;
		letter = letter || isalpha(p[i]);
	}
	return letter;
}

static bool
is_bad_helo(const struct machine *m, const uint8_t *p, size_t n)
{
	const struct context *x = m->context;
	const struct witness *w = &m->notes.witness;

	if (n > 0 && p[0] == '[')
		return !is_own_literal(x, p, n);
	if (n == 0 || n > 255 || memchr(p, '\0', n) != NULL || !is_name(p, n))
		return true;
	if (n >= 9 && strncasecmp((const char *)p, "localhost", 9) == 0 &&
	    (n == 9 || p[9] == '.'))
		return true;
	return same_name(p, n, x->gateway) ||
		(x->server != NULL && same_name(p, n, x->server->name)) ||
		(w->greeting != 0 && name_hash(m, p, n) == w->greeting);
}

static void
hello(struct machine *m, const struct command *c)
{
	struct witness *w = &m->notes.witness;

	w->hello_old = c->verb == VERB_HELO;
	if (w->has_helo)
		return;
	w->has_helo = true;
	tell(w, EVIDENCE_HELO, (w->habits & HABIT_EARLY) != 0 ||
		is_bad_helo(m, c->arg, c->arg_len) ? MARK_BAD : MARK_GOOD);
}

/* ---- MAIL ---- */

static void
sender(struct machine *m, const struct command *c)
{
	struct witness *w = &m->notes.witness;
	const uint8_t *p = c->arg, *end, *at = NULL;
	size_t n = c->arg_len;

	if (n < 5 || strncasecmp((const char *)p, "FROM:", 5) != 0)
		return;
	for (p += 5, n -= 5; n > 0 && *p == ' '; p++)
		n--;
	tell(w, EVIDENCE_NULL_SENDER, n >= 2 && p[0] == '<' && p[1] == '>' ?
		MARK_BAD : MARK_GOOD);
	end = memchr(p, '>', n);
	if (end == NULL && (end = memchr(p, ' ', n)) == NULL)
		end = p + n;
	for (const uint8_t *i = p; i < end; i++)
		if (*i == '@')
			at = i + 1;
	if (at != NULL && at < end)
		w->domains |= (uint64_t)1 << name_hash(m, at,
			(size_t)(end - at)) % 64;
}

/* ---- the dialect ---- */

struct token {
	uint8_t text[48];
	size_t len;
};

static void
put(struct token *t, const uint8_t *p, size_t n)
{
	if (n > sizeof(t->text) - t->len)
		n = sizeof(t->text) - t->len;
	memcpy(t->text + t->len, p, n);
	t->len += n;
}

/* "FROM: <" and " SIZE= BODY=" of "FROM: <a@b.example> SIZE=10 BODY=7BIT". */
static void
put_path(struct token *t, const uint8_t *p, size_t n)
{
	const uint8_t *end = p + n, *i = memchr(p, ':', n);
	bool in_key = true;

	if (i == NULL)
		return;
	for (i++; i < end && (*i == ' ' || *i == '<'); i++)
		;
	put(t, p, (size_t)(i - p));
	while (i < end && *i != '>' && *i != ' ')
		i++;
	for (; i < end; i++) {
		in_key = in_key || *i == ' ';
		if (in_key)
			put(t, i, 1);
		in_key = in_key && *i != '=';
	}
}

static void
dialect(struct machine *m, const struct line *l, const struct command *c)
{
	struct witness *w = &m->notes.witness;
	struct token t = { .len = 0 };
	size_t n = (size_t)(c->arg - c->text);
	uint64_t mix[2];

	if (w->tokens == TOKENS_MAX)
		return;
	put(&t, c->text, n < 24 ? n : 24);
	if (c->verb == VERB_MAIL || c->verb == VERB_RCPT)
		put_path(&t, c->arg, c->arg_len);
	/* what stands behind the argument, and how the line ends */
	put(&t, c->arg + c->arg_len, (size_t)(c->text + c->len -
		(c->arg + c->arg_len)));
	if (l->flags & LINE_BARE_LF)
		put(&t, (const uint8_t *)"\n", 1);
	mix[0] = siphash(m->context->key, t.text, t.len);
	/* The second recipient is the first one again. */
	if (mix[0] == w->token)
		return;
	w->token = mix[0];
	w->tokens++;
	mix[1] = w->dialect;
	w->dialect = siphash(m->context->key, mix, sizeof(mix));
}

uint16_t
evidence_dialect(const struct machine *m)
{
	const struct witness *w = &m->notes.witness;
	uint64_t mix[2] = { w->dialect, w->habits };
	uint64_t h = siphash(m->context->key, mix, sizeof(mix));

	return w->tokens == 0 ? 0 : (uint16_t)(h % UINT16_MAX + 1);
}

/* ---- what the client says ---- */

void
evidence_command(struct machine *m, const struct line *l,
	const struct command *c)
{
	if (c->verb == VERB_EHLO || c->verb == VERB_HELO)
		hello(m, c);
	else if (c->verb == VERB_MAIL)
		sender(m, c);
	else if (c->verb == VERB_QUIT)
		m->notes.witness.habits |= HABIT_QUIT;
	if (m->context->envelope != NULL)
		envelope_note(m->context->envelope, c);
	dialect(m, l, c);
}

void
evidence_unasked(struct machine *m, unsigned verb)
{
	struct witness *w = &m->notes.witness;

	if (!w->has_helo || w->hello_old || (verb != VERB_MAIL &&
		verb != VERB_RCPT && verb != VERB_RSET && verb != VERB_BDAT))
		w->habits |= HABIT_PIPELINED;
}

/* ---- what a server says ---- */

/* RFC 3463 and its registry; 5.1.10 and 5.4.1 are Exchange's "not found". */
static const char *const unknown_code[] = {
	"5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10", "5.2.1", "5.4.1"
};

/* In lower case. */
static const char *const unknown_words[] = {
	"user unknown", "unknown user", "user not found", "no such user",
	"no such recipient", "no such mailbox", "no such person",
	"no such address", "no such account", "no such local user",
	"no mailbox here", "unknown recipient", "unknown mailbox",
	"unknown local part", "unknown address", "recipient unknown",
	"recipient not found", "mailbox not found", "mailbox unavailable",
	"mailbox unknown", "mailbox does not exist", "address unknown",
	"address not found", "does not exist", "doesn't exist",
	"does not have an account", "doesn't have a", "invalid recipient",
	"invalid mailbox", "invalid user", "not a valid mailbox",
	"not a valid user", "not a known user", "unrouteable address",
	"unroutable address", "account has been disabled",
	"account is disabled", "mailbox disabled", "not our customer",
};

bool
evidence_is_unknown(unsigned code, const struct line *l)
{
	char esc[12], text[256];
	size_t n = l->len < sizeof(text) - 1 ? l->len : sizeof(text) - 1;

	if (code < 500)
		return false;
	smtp_enhanced(l, esc);
	for (size_t i = 0; esc[0] != '\0' && i < N(unknown_code); i++)
		if (strcmp(esc, unknown_code[i]) == 0)
			return true;
	if (esc[0] != '\0')
		return false;
	for (size_t i = 0; i < n; i++)
		text[i] = l->text[i] == '\0' ? ' ' : (char)tolower(l->text[i]);
	text[n] = '\0';
	for (size_t i = 0; i < N(unknown_words); i++)
		if (strstr(text, unknown_words[i]) != NULL)
			return true;
	return false;
}

/* The name a server gives itself: who says it to that server is lying. */
static void
learn_name(struct machine *m, const struct line *l)
{
	size_t n = 4;

	while (n < l->len && l->text[n] != ' ')
		n++;
	if (n > 4 && m->notes.witness.greeting == 0)
		m->notes.witness.greeting = name_hash(m, l->text + 4, n - 4);
}

void
evidence_reached(struct machine *m, bool is_reached)
{
	struct witness *w = &m->notes.witness;

	if (is_reached && w->accepted)
		return;
	w->accepted = w->accepted || is_reached;
	tell(w, EVIDENCE_REFUSAL, is_reached ? MARK_GOOD : MARK_BAD);
}

void
evidence_reply(struct machine *m, unsigned what, unsigned code, bool last,
	const struct line *l)
{
	struct witness *w = &m->notes.witness;
	enum mark mark = code >= 500 ? MARK_BAD : MARK_DEFERRED;

	if (m->ops->kind == EVENT_RELAY && !m->context->read_replies)
		return;
	/* A listed server in trouble says nothing about the lines it serves. */
	if (m->ops->kind == EVENT_SUBMIT && code >= 400 && code < 500)
		return;
	if (what == VERB_UNKNOWN && code == 220)
		learn_name(m, l);
	if (what == VERB_RCPT && evidence_is_unknown(code, l))
		w->unknown = true;
	if (!last)
		return;
	if (what == VERB_RCPT && code < 300) {
		tell(w, EVIDENCE_UNKNOWN_USER, MARK_GOOD);
		evidence_reached(m, true);
	} else if (what == VERB_RCPT && w->unknown) {
		tell(w, EVIDENCE_UNKNOWN_USER, MARK_BAD);
	} else if (code >= 400 && (what == VERB_UNKNOWN || what == VERB_MAIL ||
		what == VERB_RCPT)) {
		tell(w, EVIDENCE_REFUSAL, mark);
	}
	w->unknown = false;
}
