/*
 * smtp_block.c - port 25 is closed, said so that a person reads it
 *
 * Plays a mail server that takes MAIL and refuses every RCPT with the
 * operator's text, URL and the event's id, and goes on answering until QUIT,
 * under a limit of commands. Lines whose mail programs left after EHLO are
 * refused at EHLO instead (context.refuse_at_ehlo; adaptive.h). The operator may
 * have MAIL or the connection itself refused; never with 521 (RFC 7504), and
 * 5xx as a greeting Postfix makes temporary, so that no bounce is seen. Until
 * the end of a soft beginning the policy's refusal is temporary.
 * AUTH gets the text as 503, not 535, or mail programs ask for a password.
 *
 * There is no upstream. The client controls every line. A body that a client
 * sends without waiting for 354 arrives here as unknown commands and ends at
 * the limits.
 */
#include <stdio.h>
#include <string.h>

#include "conf/blocktext.h"
#include "proxyd/smtp.h"

/* Whether url and id still have to be said after the operator's lines. */
static void
said(const struct block_conf *b, bool *url_r, bool *event_r)
{
	*url_r = b->url == NULL;
	*event_r = false;
	for (size_t i = 0; i < b->ntext; i++) {
		*url_r = *url_r || blocktext_has(b->text[i], "{url}");
		*event_r = *event_r || blocktext_has(b->text[i], "{event}");
	}
}

/* One reply line; esc "" where RFC 2034 has none: in a greeting. */
static void
say(struct sink *out, unsigned code, bool is_last, const char *esc,
	const char *text)
{
	sink_text(out, "%u%c%s%s%s\r\n", code, is_last ? ' ' : '-', esc,
		esc[0] != '\0' ? " " : "", text);
}

/* The refusal, as a multi-line reply with this code. */
static void
refuse(struct machine *m, unsigned code, const char *esc, struct sink *out)
{
	const struct block_conf *b = m->context->block;
	const struct blocktext values = { m->context->client, m->context->id,
		b->url };
	char line[BLOCK_TEXT_MAX + 1];
	bool has_url, has_event;

	said(b, &has_url, &has_event);
	for (size_t i = 0; i < b->ntext; i++) {
		blocktext_fill(b->text[i], &values, line, sizeof(line));
		say(out, code, i + 1 == b->ntext && has_url && has_event, esc,
			line);
	}
	if (!has_url && has_event)
		snprintf(line, sizeof(line), "See %s", b->url);
	else if (!has_url)
		snprintf(line, sizeof(line), "See %s (ref %s)", b->url,
			m->context->id);
	else
		snprintf(line, sizeof(line), "(ref %s)", m->context->id);
	if (!has_url || !has_event)
		say(out, code, true, esc, line);
	smtp_note_refusal(&m->notes, code, esc);
	/* The session may have a more exact one: unknown-origin. */
	if (m->reason == REASON_NONE)
		m->reason = REASON_POLICY;
}

/* The policy's own refusal: permanent, or still soft. */
static void
refuse_policy(struct machine *m, struct sink *out)
{
	const struct block_conf *b = m->context->block;
	char esc[sizeof(b->esc)];

	memcpy(esc, b->esc, sizeof(esc));
	if (m->context->is_soft)
		esc[0] = '4';
	refuse(m, m->context->is_soft ? 451 : b->code, esc, out);
}

static enum act
block_greet(struct machine *m, struct sink out[2])
{
	m->u.smtp.state = SMTP_BLOCKED;
	m->expect[CLIENT] = EXPECT_LINE;
	m->notes.stage = STAGE_GREETING;
	if (m->context->block->stage != BLOCK_GREETING) {
		sink_text(&out[CLIENT], "220 %s ESMTP\r\n",
			m->context->gateway);
		return ACT_NONE;
	}
	/* 554 and 421 are what RFC 5321 section 4.3.2 knows besides 220; after
	 * 554 the client says QUIT (3.1), after 421 nothing. */
	refuse(m, m->context->is_soft ? 421 : 554, "", &out[CLIENT]);
	return m->context->is_soft ? ACT_CLOSE : ACT_NONE;
}

static void
block_hello(struct machine *m, const struct command *c, struct sink *out)
{
	smtp_note_helo(&m->notes, c);
	if (m->context->refuse_at_ehlo) {
		refuse_policy(m, out);
		return;
	}
	m->u.smtp.is_ehlo = true;
	m->u.smtp.has_mail = false;
	if (c->verb == VERB_EHLO)
		ehlo_print_block(m->context->gateway, out);
	else
		sink_text(out, "250 %s\r\n", m->context->gateway);
}

enum act
smtp_block_take_over(struct machine *m, struct sink out[2])
{
	struct notes notes = m->notes;
	struct smtp s = m->u.smtp;
	struct command c = { .verb = s.is_ehlo ? VERB_EHLO : VERB_HELO,
		.arg = (const uint8_t *)m->context->hello,
		.arg_len = s.hello_len };

	smtp_block_init(m, m->context);
	m->notes = notes;
	m->notes.stage = STAGE_GREETING;
	m->reason = REASON_UNKNOWN_ORIGIN;
	m->u.smtp.state = SMTP_BLOCKED;
	m->u.smtp.commands = 1;
	m->u.smtp.errors = s.errors;
	m->expect[CLIENT] = EXPECT_LINE;
	block_hello(m, &c, &out[CLIENT]);
	return ACT_NONE;
}

/* Everything that needs an EHLO which was not refused. */
static void
block_mail(struct machine *m, const struct command *c, struct sink *out)
{
	struct smtp *s = &m->u.smtp;

	if (m->context->refuse_at_ehlo) {
		refuse_policy(m, out);
		s->errors++;
	} else if (!s->is_ehlo) {
		sink_text(out, "503 5.5.1 Say EHLO first\r\n");
		s->errors++;
	} else if (c->verb == VERB_MAIL) {
		if (s->has_mail) {
			sink_text(out, "503 5.5.1 Nested MAIL\r\n");
			s->errors++;
			return;
		}
		m->notes.stage = STAGE_MAIL;
		if (m->context->block->stage == BLOCK_MAIL) {
			refuse_policy(m, out);
			return;
		}
		s->has_mail = true;
		sink_text(out, "250 2.1.0 Ok\r\n");
	} else if (!s->has_mail) {
		sink_text(out, "503 5.5.1 Say MAIL first\r\n");
		s->errors++;
	} else {
		m->notes.stage = STAGE_RCPT_TO;
		m->notes.rcpts++;
		refuse_policy(m, out);
	}
}

static void
block_other(struct machine *m, const struct command *c, struct sink *out)
{
	struct smtp *s = &m->u.smtp;

	switch (c->verb) {
	case VERB_RSET:
		s->has_mail = false;
		sink_text(out, "250 2.0.0 Ok\r\n");
		break;
	case VERB_NOOP:
		sink_text(out, "250 2.0.0 Ok\r\n");
		break;
	case VERB_VRFY:
	case VERB_HELP:
		sink_text(out, "252 2.0.0 Outbound port 25 is closed here\r\n");
		break;
	case VERB_AUTH:
		refuse(m, 503, "5.5.1", out);
		s->errors++;
		break;
	case VERB_STARTTLS:
		refuse(m, 502, "5.5.1", out);
		s->errors++;
		break;
	case VERB_DATA:
		sink_text(out, "503 5.5.1 No valid recipients\r\n");
		s->errors++;
		break;
	default:
		sink_text(out, "500 5.5.2 Command not recognized\r\n");
		s->errors++;
		break;
	}
}

/* A chunk is eaten whatever we think of it; its reply comes behind it. */
static enum act
block_bdat(struct machine *m, const struct command *c, struct sink *out)
{
	uint64_t n;

	if (smtp_chunk_size(c, &n) == -1) {
		sink_text(out, "501 5.5.4 BDAT wants a size\r\n");
		m->u.smtp.errors++;
		return ACT_NONE;
	}
	m->u.smtp.errors++;
	if (n == 0) {
		sink_text(out, "503 5.5.1 No valid recipients\r\n");
		return ACT_NONE;
	}
	m->counted = n;
	m->expect[CLIENT] = EXPECT_COUNTED;
	return ACT_NONE;
}

static enum act
block_data(struct machine *m, const uint8_t *p, size_t n, size_t *used_r,
	struct sink out[2])
{
	(void)p;
	*used_r = n < m->counted ? n : (size_t)m->counted;
	m->counted -= *used_r;
	if (m->counted == 0) {
		sink_text(&out[CLIENT], "503 5.5.1 No valid recipients\r\n");
		m->expect[CLIENT] = EXPECT_LINE;
	}
	return ACT_NONE;
}

/* Not SMTP at all: a TLS hello, or HTTP. Recognised by its first bytes. */
static bool
is_foreign(const struct line *l)
{
	static const char *const http[] = { "GET ", "POST ", "HEAD ",
		"CONNECT ", "OPTIONS " };

	if (l->len > 0 && l->text[0] == 0x16)
		return true;
	for (size_t i = 0; i < sizeof(http) / sizeof(http[0]); i++)
		if (l->len >= strlen(http[i]) &&
		    memcmp(l->text, http[i], strlen(http[i])) == 0)
			return true;
	return false;
}

static enum act
block_close(struct machine *m, enum reason why, const char *text,
	struct sink *out)
{
	sink_text(out, "421 4.7.0 %s %s (ref %s)\r\n", m->context->gateway,
		text, m->context->id);
	m->reason = why;
	return ACT_CLOSE;
}

static enum act
block_line(struct machine *m, enum side from, const struct line *l,
	struct sink out[2])
{
	struct smtp *s = &m->u.smtp;
	struct sink *to = &out[CLIENT];
	struct command c;

	(void)from;
	if (is_foreign(l)) {
		notes_detail(&m->notes, l->text, l->len < 16 ? l->len : 16);
		return block_close(m, REASON_CLIENT_PROTOCOL,
			"This is not SMTP", to);
	}
	if (l->flags & LINE_NUL)
		return block_close(m, REASON_NUL_BYTE, "NUL byte in a command",
			to);
	smtp_command(l, &c);
	evidence_command(m, l, &c);
	if (m->more)
		evidence_unasked(m, c.verb);
	if (c.verb == VERB_QUIT) {
		sink_text(to, "221 2.0.0 Bye\r\n");
		if (m->reason == REASON_NONE)
			m->reason = REASON_DONE;
		return ACT_CLOSE;
	}
	if (++s->commands > smtp_limits(m->context)->commands ||
	    s->errors >= smtp_limits(m->context)->errors)
		return block_close(m, REASON_TOO_MANY_ERRORS,
			"Too many commands", to);
	if (m->context->block->stage == BLOCK_GREETING && c.verb != VERB_BDAT) {
		refuse(m, 503, "5.5.1", to);
		s->errors++;
		return ACT_NONE;
	}
	switch (c.verb) {
	case VERB_EHLO:
	case VERB_HELO:
		block_hello(m, &c, to);
		break;
	case VERB_MAIL:
	case VERB_RCPT:
		block_mail(m, &c, to);
		break;
	case VERB_BDAT:
		return block_bdat(m, &c, to);
	default:
		block_other(m, &c, to);
		break;
	}
	return ACT_NONE;
}

static void
block_farewell(struct machine *m, enum reason why, const char *detail,
	struct sink out[2])
{
	const char *text = why == REASON_CLIENT_TIMEOUT ? "Timeout" :
		why == REASON_CLIENT_PROTOCOL ? "This is not SMTP" :
		why == REASON_LINE_TOO_LONG ? "Line too long" :
		why == REASON_TIME_LIMIT ? "Time limit" :
		why == REASON_MAX_PER_LINE ? "Too many connections from your line" :
		"Try again later";

	(void)detail;
	block_close(m, why, text, &out[CLIENT]);
}

static const struct machine_ops block_ops = {
	.kind = EVENT_BLOCK,
	.greet = block_greet,
	.line = block_line,
	.data = block_data,
	.farewell = block_farewell,
};

void
smtp_block_init(struct machine *m, const struct context *context)
{
	memset(m, 0, sizeof(*m));
	m->ops = &block_ops;
	m->context = context;
	m->client_wait = smtp_limits(context)->command_time;
}
