/*
 * smtp_submit.c - an old mail program's session, carried to submission
 *
 * Greets by itself, has smtp_upstream.c dial at the first EHLO and show the
 * server's list, and then passes commands one at a time, each behind the reply
 * to the one before (lockstep): every command has exactly one reply, in order,
 * ours included. Pipelined commands simply wait in the session's buffer.
 *
 * What must hold: no MAIL before 235, whatever the server would allow; only
 * verbs of our table reach the server, since it may trust our address (TRAPS
 * 46); the payload is cleaned by frame.c, chunks are smtp_chunk.c's; a message
 * is acknowledged only by the server. Client and server are both hostile; a
 * reply that is none ends the session with 421.
 */
#include <string.h>

#include "proxyd/sasl.h"
#include "proxyd/smtp.h"

/* RFC 5321 allows 512, extensions add to MAIL and RCPT; AUTH is longer. */
#define COMMAND_MAX 2048

/* l: the server's line, for the log; but some servers repeat what they did not
 * like, and during AUTH that is a password. */
enum act
submit_fail(struct machine *m, enum reason why, const struct line *l)
{
	if (m->u.smtp.state == SMTP_AUTH_SERVER ||
	    m->u.smtp.state == SMTP_AUTH_CLIENT ||
	    m->u.smtp.state == SMTP_ACCOUNT)
		l = NULL;
	notes_detail(&m->notes, l != NULL ? l->text : NULL,
		l != NULL ? l->len : 0);
	m->reason = why;
	return ACT_FAIL;
}

/* The client's turn, and only complete commands from it. */
void
submit_become_ready(struct machine *m)
{
	m->u.smtp.state = SMTP_READY;
	m->u.smtp.first_seen = false;
	m->expect[CLIENT] = EXPECT_LINE;
	m->expect[SERVER] = EXPECT_LINE;
	m->client_wait = smtp_limits(m->context)->command_time;
	m->dialling = false;
}

/* The server's turn; the client's further bytes stay where they are. */
void
submit_await(struct machine *m, enum smtp_state state, unsigned wait)
{
	m->u.smtp.state = state;
	m->u.smtp.first_seen = false;
	m->u.smtp.replies = 0;
	m->u.smtp.code = 0;
	m->expect[CLIENT] = EXPECT_NONE;
	m->expect[SERVER] = EXPECT_LINE;
	m->server_wait = wait;
}

/* The transaction is over, or never was. */
void
submit_forget_mail(struct smtp *s)
{
	s->has_mail = s->has_rcpt = s->is_binary = false;
	s->chunked = 0;
}

static void
send_line(struct sink *to, const uint8_t *p, size_t n)
{
	sink_bytes(to, p, n);
	sink_bytes(to, "\r\n", 2);
}

static enum act
submit_greet(struct machine *m, struct sink out[2])
{
	if (!m->context->greeted)
		sink_text(&out[CLIENT], "220 %s ESMTP\r\n",
			m->context->server->name);
	m->u.smtp.state = SMTP_GREET;
	m->expect[CLIENT] = EXPECT_LINE;
	m->notes.stage = STAGE_GREETING;
	return ACT_NONE;
}

/* ---- the client's commands ---- */

static enum act
submit_hello(struct machine *m, const struct command *c, struct sink out[2])
{
	struct smtp *s = &m->u.smtp;

	if (!smtp_is_helo_name(c->arg, c->arg_len)) {
		sink_text(&out[CLIENT],
			"501 5.5.4 EHLO wants a name or an address literal\r\n");
		s->errors++;
		return ACT_NONE;
	}
	smtp_note_helo(&m->notes, c);
	s->is_ehlo = c->verb == VERB_EHLO;
	memcpy(m->context->hello, c->arg, c->arg_len);
	s->hello_len = c->arg_len;
	if (s->state == SMTP_GREET)
		return submit_dial(m, m->context->server->submission, false);
	submit_send_ehlo(m, out);
	return ACT_NONE;
}

static enum act
submit_starttls(struct machine *m, const struct command *c, struct sink *to)
{
	const struct server_conf *server = m->context->server;
	struct endpoint plain = { TLS_NONE, server->starttls };

	if (m->context->offers_tls && !m->u.smtp.has_auth && c->arg_len == 0) {
		/* behind our answer only a hello may come */
		if (m->more)
			return submit_fail(m, REASON_TLS_INJECTION, NULL);
		sink_text(to, "220 2.0.0 Ready to start TLS\r\n");
		return ACT_ACCEPT;
	}
	if (server->starttls == 0 && !m->context->offers_tls) {
		sink_text(to, "502 5.5.1 STARTTLS is not offered\r\n");
	} else if (m->u.smtp.has_auth || c->arg_len != 0) {
		sink_text(to, "503 5.5.1 STARTTLS is not possible here\r\n");
	} else {
		return submit_dial(m, plain, true);
	}
	m->u.smtp.errors++;
	return ACT_NONE;
}

static enum act
submit_auth(struct machine *m, const struct command *c, struct sink out[2])
{
	size_t n = 0;

	while (n < c->arg_len && c->arg[n] != ' ')
		n++;
	if (m->context->needs_tls) {
		submit_wants_login(m, &out[CLIENT]);
		return ACT_NONE;
	}
	if (m->u.smtp.has_auth) {
		sink_text(&out[CLIENT], "503 5.5.1 Already authenticated\r\n");
	} else if ((sasl_mechanism(c->arg, n) & m->u.smtp.ehlo.mechs) == 0) {
		sink_text(&out[CLIENT],
			"504 5.5.4 Mechanism is not offered here\r\n");
	} else if (smtp_is_over(m->context, TALLY_GUESSES, 0)) {
		return submit_fail(m, REASON_PASSWORD_GUESSES, NULL);
	} else {
		vouch_withdraw(m);
		m->notes.stage = STAGE_AUTH;
		send_line(&out[SERVER], c->text, c->len);
		submit_await(m, SMTP_AUTH_SERVER, SMTP_WAIT_REPLY);
		return ACT_NONE;
	}
	m->u.smtp.errors++;
	return ACT_NONE;
}

void
submit_wants_login(struct machine *m, struct sink *to)
{
	sink_text(to, "530 5.7.0 %s (ref %s)\r\n", m->context->needs_tls ?
		"Must issue a STARTTLS command first" :
		"Authentication required; set user name and password for "
		"outgoing mail", m->context->id);
	smtp_note_refusal(&m->notes, 530, "5.7.0");
	m->u.smtp.errors++;
}

/* Commands that would do harm at a server that takes them. true: answered. */
static bool
submit_refuses(struct machine *m, const struct command *c, struct sink *to)
{
	/* Its promise was broken before we heard it (RFC 8689 section 4.1). */
	if (c->verb == VERB_MAIL && smtp_has_parameter(c, "REQUIRETLS")) {
		sink_text(to, "555 5.5.4 REQUIRETLS is not offered\r\n");
		m->u.smtp.errors++;
		return true;
	}
	/* RFC 3030 section 3; and its octets would not survive our cleaning. */
	if (c->verb == VERB_DATA && m->u.smtp.is_binary) {
		sink_text(to, "503 5.5.1 BINARYMIME needs BDAT\r\n");
		m->u.smtp.errors++;
		return true;
	}
	return false;
}

/* A limit of ours against a command that would go to the server: answered. */
static bool
is_over_limit(struct machine *m, const struct command *c, struct sink *to)
{
	const unsigned most = smtp_limits(m->context)->size;
	const char *code = "450", *esc = "4.7.1", *words;
	uint64_t size;

	if (c->verb == VERB_MAIL && most != 0 &&
	    smtp_declared_size(c, &size) && size > most) {
		code = "552";
		esc = "5.3.4";
		words = "The message is larger than this access takes";
	} else if (c->verb == VERB_MAIL &&
	    smtp_is_over(m->context, TALLY_MESSAGES, 0)) {
		words = "Your line has sent all the messages it may send in "
			"an hour; try again later";
	} else if (c->verb == VERB_RCPT &&
	    smtp_is_over(m->context, TALLY_RCPTS, 1)) {
		words = "Your line has named all the recipients it may name in "
			"an hour; try again later";
	} else {
		return false;
	}
	sink_text(to, "%s %s %s (ref %s)\r\n", code, esc, words,
		m->context->id);
	smtp_note_refusal(&m->notes, code[0] == '5' ? 552 : 450, esc);
	return true;
}

/* Commands that go to the server once there is one. */
static enum act
submit_forward(struct machine *m, const struct command *c, struct sink out[2])
{
	struct smtp *s = &m->u.smtp;
	bool free_verb = c->verb == VERB_NOOP || c->verb == VERB_RSET ||
		c->verb == VERB_QUIT || c->verb == VERB_HELP;

	if (!free_verb && !vouch_permits(m, c)) {
		submit_wants_login(m, &out[CLIENT]);
		return ACT_NONE;
	}
	if (submit_refuses(m, c, &out[CLIENT]))
		return ACT_NONE;
	if (c->verb == VERB_MAIL) {
		m->notes.stage = STAGE_MAIL;
		s->asks_binary = smtp_has_parameter(c, "BODY=BINARYMIME");
	}
	if (c->verb == VERB_RCPT) {
		m->notes.stage = STAGE_RCPT_TO;
		m->notes.rcpts++;
	}
	if (is_over_limit(m, c, &out[CLIENT]))
		return ACT_NONE;
	if (c->verb == VERB_MAIL && vouch_is_ours(m))
		return vouch_mail(m, c, out);
	s->verb = (uint8_t)c->verb;
	send_line(&out[SERVER], c->text, c->len);
	submit_await(m, SMTP_REPLY, SMTP_WAIT_REPLY);
	return ACT_NONE;
}

/* Before the first EHLO there is no server: NOOP, RSET and QUIT are ours. */
static enum act
submit_alone(struct machine *m, const struct command *c, struct sink out[2])
{
	switch (c->verb) {
	case VERB_NOOP:
	case VERB_RSET:
		sink_text(&out[CLIENT], "250 2.0.0 Ok\r\n");
		return ACT_NONE;
	case VERB_QUIT:
		sink_text(&out[CLIENT], "221 2.0.0 Bye\r\n");
		m->reason = REASON_DONE;
		return ACT_CLOSE;
	case VERB_MAIL:
		return submit_forward(m, c, out);	/* our 530 */
	default:
		sink_text(&out[CLIENT], "503 5.5.1 Say EHLO first\r\n");
		m->u.smtp.errors++;
		return ACT_NONE;
	}
}

static enum act
submit_command(struct machine *m, const struct line *l, struct sink out[2])
{
	unsigned mended = m->context->strict ? LINE_BARE_LF : 0;
	struct smtp *s = &m->u.smtp;
	struct command c;

	smtp_command(l, &c);
	evidence_command(m, l, &c);
	if (m->more)
		evidence_unasked(m, c.verb);
	if (s->errors >= smtp_limits(m->context)->errors)
		return submit_fail(m, REASON_TOO_MANY_ERRORS, NULL);
	if ((l->flags & (LINE_BARE_CR | mended)) ||
	    (l->len > COMMAND_MAX && c.verb != VERB_AUTH)) {
		/* The octets behind it are no commands, and how many? */
		if (c.verb == VERB_BDAT)
			return submit_fail(m, REASON_CLIENT_PROTOCOL, NULL);
		sink_text(&out[CLIENT], "500 5.5.2 Line not understood\r\n");
		s->errors++;
		return ACT_NONE;
	}
	switch (c.verb) {
	case VERB_EHLO:
	case VERB_HELO:
		return submit_hello(m, &c, out);
	case VERB_BDAT:
		return chunk_command(m, &c, out);
	case VERB_UNKNOWN:
		sink_text(&out[CLIENT], "502 5.5.1 Command not implemented\r\n");
		s->errors++;
		return ACT_NONE;
	default:
		break;
	}
	if (s->state == SMTP_GREET)
		return submit_alone(m, &c, out);
	if (c.verb == VERB_STARTTLS)
		return submit_starttls(m, &c, &out[CLIENT]);
	if (c.verb == VERB_AUTH)
		return submit_auth(m, &c, out);
	return submit_forward(m, &c, out);
}

static enum act
submit_client_line(struct machine *m, const struct line *l, struct sink out[2])
{
	if (l->flags & LINE_NUL)
		return submit_fail(m, REASON_NUL_BYTE, NULL);
	if (m->u.smtp.state == SMTP_AUTH_CLIENT) {
		if (l->flags & (LINE_BARE_CR |
			(m->context->strict ? LINE_BARE_LF : 0)))
			return submit_fail(m, REASON_CLIENT_PROTOCOL, NULL);
		send_line(&out[SERVER], l->text, l->len);
		submit_await(m, SMTP_AUTH_SERVER, SMTP_WAIT_REPLY);
		return ACT_NONE;
	}
	return submit_command(m, l, out);
}

/* ---- the server's replies ---- */

static void
note_reply(struct machine *m, const struct line *l, unsigned code)
{
	char esc[12];

	if (code < 400)
		return;
	smtp_enhanced(l, esc);
	smtp_note_refusal(&m->notes, code, esc);
}

/* What a reply makes of the transaction. */
static void
note_mail(struct smtp *s, unsigned code)
{
	bool ok = code >= 200 && code < 300;

	if (s->verb == VERB_MAIL && ok) {
		submit_forget_mail(s);
		s->has_mail = true;
		s->is_binary = s->asks_binary;
	}
	s->has_rcpt = s->has_rcpt || (s->verb == VERB_RCPT && ok);
	/* After a refused chunk only RSET makes sense (RFC 3030 section 2). */
	if ((s->verb == VERB_RSET && ok) || s->state == SMTP_FINAL ||
	    (s->verb == VERB_BDAT && !ok))
		submit_forget_mail(s);
}

static enum act
reply_ended(struct machine *m, unsigned code)
{
	struct smtp *s = &m->u.smtp;

	if (code == 421 || s->verb == VERB_QUIT) {
		m->reason = code == 421 ? REASON_SERVER_EOF : REASON_DONE;
		return ACT_CLOSE;
	}
	if (s->verb == VERB_DATA && code == 354) {
		s->state = SMTP_DATA;
		payload_start(&s->payload, m->context->strict);
		s->octets = 0;
		m->notes.stage = STAGE_DATA;
		m->expect[CLIENT] = EXPECT_DATA;
		m->expect[SERVER] = EXPECT_NONE;
		m->client_wait = SMTP_WAIT_BLOCK;
		return ACT_NONE;
	}
	submit_become_ready(m);
	return ACT_NONE;
}

/* A line of a reply that belongs to the client. */
static enum act
pass_reply(struct machine *m, const struct line *l, unsigned code, bool last,
	struct sink out[2])
{
	struct smtp *s = &m->u.smtp;

	/* Nobody asked: only a goodbye makes sense. Anything else would be
	 * taken for the reply to the client's next command. */
	if (code != 421 && (s->state == SMTP_READY ||
		s->state == SMTP_AUTH_CLIENT))
		return submit_fail(m, REASON_SERVER_PROTOCOL, l);
	/* An invitation to send more that the command did not ask for. */
	if (code < 400 && code >= 300 &&
	    !(code == 334 && s->state == SMTP_AUTH_SERVER) &&
	    !(code == 354 && s->state == SMTP_REPLY && s->verb == VERB_DATA))
		return submit_fail(m, REASON_SERVER_PROTOCOL, l);
	send_line(&out[CLIENT], l->text, l->len);
	if (s->state == SMTP_REPLY)
		evidence_reply(m, s->verb, code, last, l);
	if (!last)
		return ACT_NONE;
	note_reply(m, l, code);
	note_mail(s, code);
	if (s->state == SMTP_AUTH_SERVER) {
		if (code == 334) {
			s->state = SMTP_AUTH_CLIENT;
			m->expect[CLIENT] = EXPECT_LINE;
			m->client_wait = smtp_limits(m->context)->command_time;
			return ACT_NONE;
		}
		s->verb = VERB_AUTH;
		s->has_auth = code == 235;
		if (code == 535)
			smtp_used(m->context, TALLY_GUESSES);
	} else if (s->state == SMTP_FINAL) {
		s->verb = VERB_UNKNOWN;
		if (code >= 200 && code < 300) {
			m->notes.messages++;
			smtp_used(m->context, TALLY_MESSAGES);
		}
	}
	return reply_ended(m, code);
}

static enum act
submit_server_line(struct machine *m, const struct line *l, struct sink out[2])
{
	struct smtp *s = &m->u.smtp;
	unsigned code;
	bool last;

	if (smtp_reply(l, &code, &last) == -1 ||
	    (l->flags & (LINE_NUL | LINE_BARE_CR)) ||
	    ++s->replies > SMTP_REPLY_LINES_MAX ||
	    (s->code != 0 && code != s->code))
		return submit_fail(m, REASON_SERVER_PROTOCOL, l);
	s->code = last ? 0 : (uint16_t)code;
	if (s->state >= SMTP_U_GREETING && s->state <= SMTP_U_XCLIENT)
		return submit_upstream_line(m, l, code, last, out);
	if (s->state == SMTP_ACCOUNT)
		return account_reply(m, l, code, last, out);
	if (s->state == SMTP_POP_XCLIENT || s->state == SMTP_POP_EHLO)
		return pop_reply(m, l, code, last, out);
	return pass_reply(m, l, code, last, out);
}

static enum act
submit_line(struct machine *m, enum side from, const struct line *l,
	struct sink out[2])
{
	return from == CLIENT ? submit_client_line(m, l, out) :
		submit_server_line(m, l, out);
}

/* ---- the payload ---- */

static enum act
skip_payload(struct machine *m, const uint8_t *p, size_t n, size_t *used_r,
	struct sink out[2])
{
	bool end;

	*used_r = frame_dotted(&m->u.smtp.payload.state, p, n, &end);
	if (!end)
		return ACT_NONE;
	if (m->reason == REASON_TOO_LARGE) {
		sink_text(&out[CLIENT], "552 5.3.4 The message is larger than "
			"this access takes; not sent (ref %s)\r\n",
			m->context->id);
		smtp_note_refusal(&m->notes, 552, "5.3.4");
		return ACT_CLOSE;
	}
	sink_text(&out[CLIENT],
		"554 5.6.0 The message holds a %s; not sent (ref %s)\r\n",
		m->u.smtp.is_bare ? "bare CR or LF" : "NUL byte",
		m->context->id);
	smtp_note_refusal(&m->notes, 554, "5.6.0");
	m->reason = m->u.smtp.is_bare ? REASON_BARE_LINE_END : REASON_NUL_BYTE;
	return ACT_CLOSE;
}

static enum act
carry_payload(struct machine *m, const uint8_t *p, size_t n, size_t *used_r,
	struct sink out[2])
{
	struct sink *to = &out[SERVER];
	size_t room = (to->cap - to->len - 8) / 2;
	const unsigned most = smtp_limits(m->context)->size;
	struct payload before = m->u.smtp.payload;
	enum payload_status status;
	size_t written;

	status = payload_clean(&m->u.smtp.payload, p, n < room ? n : room,
		to->p + to->len, used_r, &written);
	to->len += written;
	if (status == PAYLOAD_NUL || status == PAYLOAD_BARE) {
		m->u.smtp.is_bare = status == PAYLOAD_BARE;
		/* Never finish what the server has begun to read. */
		to->len = 0;
		m->u.smtp.state = SMTP_SKIP;
		return ACT_HANGUP;
	}
	m->u.smtp.octets += written;
	/* stuffed dots and the last one included: a few octets early */
	if (most != 0 && m->u.smtp.octets > (uint64_t)most + 3) {
		to->len = 0;
		m->u.smtp.payload = before;
		*used_r = 0;
		m->u.smtp.state = SMTP_SKIP;
		m->reason = REASON_TOO_LARGE;
		return ACT_HANGUP;
	}
	if (status == PAYLOAD_END)
		submit_await(m, SMTP_FINAL, SMTP_WAIT_FINAL);
	return ACT_NONE;
}

static enum act
submit_data(struct machine *m, const uint8_t *p, size_t n, size_t *used_r,
	struct sink out[2])
{
	if (m->u.smtp.state == SMTP_DATA)
		return carry_payload(m, p, n, used_r, out);
	if (m->u.smtp.state == SMTP_SKIP)
		return skip_payload(m, p, n, used_r, out);
	return chunk_data(m, p, n, used_r, out);
}

/* ---- the end before its time ---- */

static const struct {
	enum reason reason;
	const char *code, *words;
} farewell_table[] = {
	{ REASON_CONNECT_FAILED, "421 4.4.1", "cannot be reached" },
	{ REASON_CONNECT_TIMEOUT, "421 4.4.1", "does not answer" },
	{ REASON_FORBIDDEN, "421 4.4.1", "is not a permitted destination" },
	{ REASON_NO_ADDRESS, "421 4.4.3",
		"its submission host has no address for your line" },
	{ REASON_NO_SOCKET, "421 4.3.2", "cannot be dialled just now" },
	{ REASON_TLS_FAILED, "421 4.7.5", "TLS failed" },
	{ REASON_TLS_TIMEOUT, "421 4.7.5", "TLS handshake timed out" },
	{ REASON_TLS_INJECTION, "421 4.7.5", "bytes stood behind STARTTLS" },
	{ REASON_CERTIFICATE, "421 4.7.5", "certificate not accepted" },
	{ REASON_NO_STARTTLS, "421 4.7.5", "does not offer STARTTLS" },
	{ REASON_SERVER_GREETING, "421 4.3.2", "refuses service" },
	{ REASON_SERVER_PROTOCOL, "421 4.3.0", "sent a reply that is none" },
	{ REASON_SERVER_EOF, "421 4.4.2", "closed the connection" },
	{ REASON_SERVER_RESET, "421 4.4.2", "closed the connection" },
	{ REASON_SERVER_TIMEOUT, "421 4.4.2", "is silent" },
	{ REASON_CLIENT_TIMEOUT, "421 4.4.2", "waited too long for you" },
	{ REASON_LINE_TOO_LONG, "500 5.5.2", "line too long" },
	{ REASON_NUL_BYTE, "500 5.5.2", "NUL byte in a command" },
	{ REASON_CLIENT_PROTOCOL, "500 5.5.2", "command not understood" },
	{ REASON_TOO_MANY_ERRORS, "421 4.7.0", "too many refused commands" },
	{ REASON_PASSWORD_GUESSES, "421 4.7.0",
		"too many wrong passwords from your line, try again later" },
	{ REASON_KEEPER, "421 4.3.0",
		"the account of your line cannot be used just now" },
	{ REASON_MAX_PER_LINE, "421 4.7.0",
		"too many connections from your line" },
};

static void
submit_farewell(struct machine *m, enum reason why, const char *detail,
	struct sink out[2])
{
	const char *code = "421 4.3.2", *words = "try again later";

	m->reason = why;
	/* Some clients read only the code of a reply's first line: behind half of
	 * a final one that may say 250, our 451 would be part of it. Without an
	 * end it is no reply, and the message stays with the client. */
	if (m->u.smtp.state == SMTP_FINAL && m->u.smtp.code != 0)
		return;
	for (size_t i = 0; i < sizeof(farewell_table) /
		sizeof(farewell_table[0]); i++)
		if (farewell_table[i].reason == why) {
			code = farewell_table[i].code;
			words = farewell_table[i].words;
		}
	/* The payload is over at the server, its fate unknown: the client must
	 * keep the message. */
	if (m->u.smtp.state == SMTP_FINAL)
		code = "451 4.4.2";
	sink_text(&out[CLIENT], "%s %s: %s%s%.160s (ref %s)\r\n", code,
		m->context->server->name, words,
		detail[0] != '\0' ? ": " : "", detail, m->context->id);
	smtp_note_refusal(&m->notes, (unsigned)(code[0] - '0') * 100 +
		(unsigned)(code[1] - '0') * 10 + (unsigned)(code[2] - '0'),
		code + 4);
}

static const struct machine_ops submit_ops = {
	.kind = EVENT_SUBMIT,
	.greet = submit_greet,
	.line = submit_line,
	.data = submit_data,
	.upstream = submit_upstream,
	.answered = account_answered,
	.farewell = submit_farewell,
};

void
smtp_submit_init(struct machine *m, const struct context *context)
{
	memset(m, 0, sizeof(*m));
	m->ops = &submit_ops;
	m->context = context;
	m->client_wait = smtp_limits(m->context)->command_time;
}
