/*
 * imap.c - IMAP in clear towards the client, in TLS towards its server
 *
 * The session dials at accept. A greeting inside TLS passes with its list of
 * capabilities edited; behind STARTTLS it is ours, with the list asked inside
 * TLS, for what came before proves nothing. Until the login succeeds, commands
 * go one at a time (lockstep), literals as octets, and capabilities are edited
 * wherever the server names them. After the login (or COMPRESS) the session is
 * opaque: nothing is parsed, nothing is held, IDLE lives as long as the server
 * lets it.
 *
 * STARTTLS is shown exactly when the port that the client dialled has it; a
 * client that uses it is taken to that port, end to end.
 *
 * Every end of ours carries [UNAVAILABLE] (RFC 5530), as NO where a login
 * waits: anything else makes mail programs throw the saved password away. Both
 * sides are hostile; a server line that is no response ends the session, and
 * so does PREAUTH: nobody has logged in (TRAPS 3).
 */
#include "proxyd/imap.h"

#include <string.h>

#include "proxyd/sasl.h"

/* RFC 9051 section 5.4: an autologout timer is at least thirty minutes; a little
 * more, so that the server's own comes first, with its own words. */
#define IMAP_WAIT_OPAQUE 2100
/* The same section lets it be shorter before the login. */
#define IMAP_WAIT_COMMAND 600
#define IMAP_WAIT_REPLY 300
/* From accept to the greeting the client sees. */
#define IMAP_WAIT_UPSTREAM 25
#define IMAP_ERRORS_MAX 20
/* Lines of the server before login that follow one command. */
#define IMAP_LINES_MAX 200
/* LOGIN has two, ID a few. */
#define IMAP_LITERALS_MAX 64

/* Our own tags; a server sees no other ones of ours. */
#define TAG_STARTTLS "sp0"
#define TAG_LIST "sp1"

static bool
is_login(const struct imap *s)
{
	return s->tag_len > 0 &&
		(s->verb == IMAP_LOGIN || s->verb == IMAP_AUTHENTICATE);
}

/* During a login no word of a server's reaches a log but the code. */
static enum act
fail(struct machine *m, enum reason why, const struct line *l)
{
	if (m->notes.stage == STAGE_LOGIN)
		l = NULL;
	notes_detail(&m->notes, l != NULL ? l->text : NULL,
		l != NULL ? l->len : 0);
	m->reason = why;
	return ACT_FAIL;
}

static void
become_ready(struct machine *m)
{
	m->u.imap.state = IMAP_READY;
	m->u.imap.tag_len = 0;
	m->u.imap.asked_leave = false;
	m->u.imap.lines = 0;
	m->expect[CLIENT] = EXPECT_LINE;
	m->expect[SERVER] = EXPECT_LINE;
	m->client_wait = IMAP_WAIT_COMMAND;
	m->dialling = false;
}

/* The server's turn; the client's further octets stay where they are. */
static void
await_server(struct machine *m, enum imap_state state)
{
	m->u.imap.state = state;
	m->u.imap.lines = 0;
	m->expect[CLIENT] = EXPECT_NONE;
	m->expect[SERVER] = EXPECT_LINE;
	m->server_wait = IMAP_WAIT_REPLY;
}

/* The client's turn inside a command; the server is heard when it is whole. */
static void
await_client(struct machine *m, enum imap_state state, enum expect expect)
{
	m->u.imap.state = state;
	m->expect[CLIENT] = expect;
	m->expect[SERVER] = EXPECT_NONE;
	m->client_wait = IMAP_WAIT_COMMAND;
}

static void
become_opaque(struct machine *m)
{
	m->u.imap.state = IMAP_OPAQUE;
	m->expect[CLIENT] = EXPECT_RAW;
	m->expect[SERVER] = EXPECT_RAW;
	m->client_wait = m->server_wait = IMAP_WAIT_OPAQUE;
}

static void
send_line(struct sink *to, const struct line *l)
{
	sink_bytes(to, l->text, l->len);
	sink_bytes(to, "\r\n", 2);
}

/* ---- upstream: from the connection to the client's greeting ---- */

static enum act
dial(struct machine *m, struct endpoint to)
{
	m->dial = to;
	m->u.imap.clear = to.mode == TLS_STARTTLS;
	m->dialling = true;
	m->expect[CLIENT] = EXPECT_NONE;
	m->expect[SERVER] = EXPECT_NONE;
	m->server_wait = IMAP_WAIT_UPSTREAM;
	return ACT_DIAL;
}

static enum act
imap_greet(struct machine *m, struct sink out[2])
{
	(void)out;
	return dial(m, m->context->server->imap);
}

static void
ask_list(struct machine *m, struct sink out[2])
{
	sink_text(&out[SERVER], TAG_LIST " CAPABILITY\r\n");
	await_server(m, IMAP_U_LIST);
}

static enum act
imap_offered(struct machine *m, struct sink out[2])
{
	(void)out;
	await_server(m, IMAP_GREETING);
	return ACT_NONE;
}

static enum act
imap_upstream(struct machine *m, struct sink out[2])
{
	struct imap *s = &m->u.imap;

	if (s->state == IMAP_T_GREETING) {
		await_server(m, IMAP_T_GREETING);
		return ACT_NONE;
	}
	if (s->state == IMAP_U_STARTTLS) {	/* TLS stands on this connection */
		s->clear = false;
		ask_list(m, out);
		return ACT_NONE;
	}
	m->notes.stage = STAGE_GREETING;
	if (m->offer != OFFER_UNKNOWN)
		return imap_offered(m, out);
	s->state = IMAP_ASKED;
	return ACT_ASK;
}

static bool
is_offered(const struct machine *m)
{
	return m->offer == OFFER_STARTTLS;
}

/* is_known: the client sees what it has seen before; else this is what is
 * listed behind a login. */
static unsigned
shown(const struct machine *m, bool is_known)
{
	return (is_known && is_offered(m) ? IMAP_SHOW_STARTTLS : 0) |
		(m->context->needs_tls ? IMAP_SHOW_NO_LOGIN : 0) |
		(m->context->is_published ? IMAP_SHOW_TLS : 0);
}

static enum act
server_greeting(struct machine *m, const struct line *l,
	const struct imap_response *r, struct sink out[2])
{
	if (r->kind != IMAP_STATUS || r->tagged || r->status != IMAP_OK)
		return fail(m, REASON_SERVER_GREETING, l);
	if (m->u.imap.clear) {
		sink_text(&out[SERVER], TAG_STARTTLS " STARTTLS\r\n");
		await_server(m, IMAP_U_STARTTLS);
		return ACT_NONE;
	}
	if (m->u.imap.greeted) {	/* before STARTTLS */
		become_ready(m);
		return ACT_NONE;
	}
	/* Some programs want the list inside the greeting. */
	if (r->list == NULL && (r->text_len == 0 || r->text[0] != '[')) {
		ask_list(m, out);
		return ACT_NONE;
	}
	imap_print_response(l, r, shown(m, true), &out[CLIENT]);
	become_ready(m);
	return ACT_NONE;
}

static bool
is_tag(const struct imap_response *r, const char *tag, size_t n)
{
	return r->tagged && r->tag_len == n && memcmp(r->tag, tag, n) == 0;
}

static enum act
server_starttls(struct machine *m, const struct line *l,
	const struct imap_response *r)
{
	if (r->kind != IMAP_STATUS)
		return r->kind == IMAP_DATA || r->kind == IMAP_CAPABILITY ?
			ACT_NONE : fail(m, REASON_SERVER_PROTOCOL, l);
	if (!r->tagged)
		return r->status < IMAP_BYE ? ACT_NONE :
			fail(m, REASON_SERVER_GREETING, l);
	if (!is_tag(r, TAG_STARTTLS, strlen(TAG_STARTTLS)))
		return fail(m, REASON_SERVER_PROTOCOL, l);
	return r->status == IMAP_OK ? ACT_TLS : fail(m, REASON_NO_STARTTLS, l);
}

static void
print_greeting(struct machine *m, const struct imap_response *r,
	struct sink *out)
{
	sink_text(out, "* OK ");
	if (r->list != NULL) {
		sink_text(out, "[CAPABILITY");
		imap_print_list(r->list, r->list_len, shown(m, true), out);
		sink_text(out, "] ");
	}
	sink_text(out, "%s ready\r\n", m->context->server->name);
	m->u.imap.greeted = true;
}

static enum act
server_list(struct machine *m, const struct line *l,
	const struct imap_response *r, struct sink out[2])
{
	if (r->kind == IMAP_CAPABILITY && !m->u.imap.greeted)
		print_greeting(m, r, &out[CLIENT]);
	if (r->kind == IMAP_DATA || r->kind == IMAP_CAPABILITY)
		return ACT_NONE;
	if (r->kind != IMAP_STATUS)
		return fail(m, REASON_SERVER_PROTOCOL, l);
	if (!r->tagged)
		return r->status < IMAP_BYE ? ACT_NONE :
			fail(m, REASON_SERVER_GREETING, l);
	if (!is_tag(r, TAG_LIST, strlen(TAG_LIST)))
		return fail(m, REASON_SERVER_PROTOCOL, l);
	if (!m->u.imap.greeted)
		print_greeting(m, r, &out[CLIENT]);
	become_ready(m);
	return ACT_NONE;
}

/* ---- the client's own STARTTLS ---- */

static enum act
tunnel_greeting(struct machine *m, const struct line *l,
	const struct imap_response *r, struct sink out[2])
{
	const struct imap *s = &m->u.imap;

	if (r->kind != IMAP_STATUS || r->tagged || r->status != IMAP_OK)
		return fail(m, REASON_SERVER_GREETING, l);
	sink_text(&out[SERVER], "%.*s STARTTLS\r\n", (int)s->tag_len, s->tag);
	await_server(m, IMAP_T_STARTTLS);
	return ACT_NONE;
}

static enum act
tunnel_starttls(struct machine *m, const struct line *l,
	const struct imap_response *r, struct sink out[2])
{
	struct imap *s = &m->u.imap;

	if (r->kind == IMAP_DATA || r->kind == IMAP_CAPABILITY ||
	    (r->kind == IMAP_STATUS && !r->tagged && r->status < IMAP_BYE))
		return ACT_NONE;
	if (r->kind != IMAP_STATUS || !is_tag(r, s->tag, s->tag_len))
		return fail(m, REASON_SERVER_PROTOCOL, l);
	if (r->status != IMAP_OK)
		return fail(m, REASON_NO_STARTTLS, l);
	sink_text(&out[CLIENT], "%.*s OK Begin TLS negotiation now\r\n",
		(int)s->tag_len, s->tag);
	m->dialling = false;
	become_opaque(m);
	return ACT_TUNNEL;
}

/* ---- client ---- */

static enum act
ours(struct machine *m, const struct line *l, const char *tag, size_t tag_len,
	const char *words, struct sink *to)
{
	uint32_t n;
	bool wait;

	/* Octets that come unasked would be read as commands. */
	if (frame_literal(l, &n, &wait) && !wait)
		return fail(m, REASON_CLIENT_PROTOCOL, NULL);
	sink_text(to, "%.*s %s\r\n", (int)tag_len, tag, words);
	m->u.imap.errors++;
	return ACT_NONE;
}

/* A line of a command goes on its way; what it announces is next. */
static enum act
forward(struct machine *m, const struct line *l, struct sink out[2])
{
	struct imap *s = &m->u.imap;
	uint32_t n;
	bool wait;

	send_line(&out[SERVER], l);
	if (!frame_literal(l, &n, &wait)) {
		await_server(m, IMAP_REPLY);
		return ACT_NONE;
	}
	if (n > LITERAL_MAX_OCTETS || ++s->literals > IMAP_LITERALS_MAX)
		return fail(m, REASON_LINE_TOO_LONG, NULL);
	if (wait) {
		s->asked_leave = true;
		s->literal = n;
		await_server(m, IMAP_REPLY);
	} else if (n > 0) {
		m->counted = n;
		await_client(m, IMAP_LITERAL, EXPECT_COUNTED);
	} else {
		await_client(m, IMAP_ARGUMENT, EXPECT_LINE);
	}
	return ACT_NONE;
}

/* STARTTLS is ours: behind our answer only a hello may come. */
static enum act
accept_tls(struct machine *m, const struct imap_command *c, struct sink *to)
{
	m->u.imap.verb = IMAP_STARTTLS;
	if (m->more)
		return fail(m, REASON_TLS_INJECTION, NULL);
	sink_text(to, "%.*s OK Begin TLS negotiation now\r\n", (int)c->tag_len,
		c->tag);
	return ACT_ACCEPT;
}

static enum act
client_starttls(struct machine *m, const struct line *l,
	const struct imap_command *c, struct sink out[2])
{
	struct imap *s = &m->u.imap;
	struct endpoint plain = { TLS_PLAIN, 0 };

	if (m->context->offers_tls && c->arg_len == 0)
		return accept_tls(m, c, &out[CLIENT]);
	if (!is_offered(m) || c->arg_len != 0)
		return ours(m, l, (const char *)c->tag, c->tag_len,
			"BAD STARTTLS is not offered", &out[CLIENT]);
	s->verb = IMAP_STARTTLS;
	s->state = IMAP_T_GREETING;
	return dial(m, plain);
}

static enum act
client_command(struct machine *m, const struct line *l, struct sink out[2])
{
	struct imap *s = &m->u.imap;
	struct imap_command c;

	if (s->errors >= IMAP_ERRORS_MAX)
		return fail(m, REASON_TOO_MANY_ERRORS, NULL);
	if (!imap_command(l, &c))
		return ours(m, l, "*", 1, "BAD A command has a tag",
			&out[CLIENT]);
	/* RFC 5530: a program that reads the code keeps its password. */
	if (m->context->needs_tls && (c.verb == IMAP_LOGIN ||
		c.verb == IMAP_AUTHENTICATE))
		return ours(m, l, (const char *)c.tag, c.tag_len,
			"NO [PRIVACYREQUIRED] A login is possible inside TLS "
			"only; say STARTTLS first", &out[CLIENT]);
	if (c.verb == IMAP_AUTHENTICATE && !sasl_passes(c.arg, c.arg_len))
		return ours(m, l, (const char *)c.tag, c.tag_len,
			"NO Mechanism is not offered here", &out[CLIENT]);
	s->verb = (uint8_t)c.verb;
	s->literals = 0;
	memcpy(s->tag, c.tag, c.tag_len);
	s->tag_len = (uint8_t)c.tag_len;
	if (c.verb == IMAP_STARTTLS)
		return client_starttls(m, l, &c, out);
	if (is_login(s))
		m->notes.stage = STAGE_LOGIN;
	return forward(m, l, out);
}

static enum act
client_line(struct machine *m, const struct line *l, struct sink out[2])
{
	if (l->flags & (LINE_NUL | LINE_BARE_CR))
		return fail(m, l->flags & LINE_NUL ? REASON_NUL_BYTE :
			REASON_CLIENT_PROTOCOL, NULL);
	switch (m->u.imap.state) {
	case IMAP_ARGUMENT:
		return forward(m, l, out);
	case IMAP_AUTH_CLIENT:
		send_line(&out[SERVER], l);
		await_server(m, IMAP_REPLY);
		return ACT_NONE;
	default:
		return client_command(m, l, out);
	}
}

/* Octets of a literal, of whichever side has announced one. */
static enum act
imap_data(struct machine *m, const uint8_t *p, size_t n, size_t *used_r,
	struct sink out[2])
{
	struct imap *s = &m->u.imap;

	if (n > m->counted)
		n = (size_t)m->counted;
	if (n > LINE_MAX_OCTETS)
		n = LINE_MAX_OCTETS;
	sink_bytes(&out[s->in_literal ? CLIENT : SERVER], p, n);
	*used_r = n;
	m->counted -= n;
	if (m->counted > 0)
		return ACT_NONE;
	if (s->in_literal) {
		s->in_literal = false;
		m->expect[SERVER] = EXPECT_LINE;
	} else {
		await_client(m, IMAP_ARGUMENT, EXPECT_LINE);
	}
	return ACT_NONE;
}

/* ---- server ---- */

static enum act
server_leave(struct machine *m, const struct line *l, struct sink out[2])
{
	struct imap *s = &m->u.imap;

	if (s->state != IMAP_REPLY ||
	    !(s->asked_leave || s->verb == IMAP_AUTHENTICATE))
		return fail(m, REASON_SERVER_PROTOCOL, l);
	send_line(&out[CLIENT], l);
	if (!s->asked_leave) {
		s->state = IMAP_AUTH_CLIENT;
		m->expect[CLIENT] = EXPECT_LINE;
		m->client_wait = IMAP_WAIT_COMMAND;
		return ACT_NONE;
	}
	s->asked_leave = false;
	m->counted = s->literal;
	if (s->literal > 0)
		await_client(m, IMAP_LITERAL, EXPECT_COUNTED);
	else
		await_client(m, IMAP_ARGUMENT, EXPECT_LINE);
	return ACT_NONE;
}

static enum act
server_done(struct machine *m, const struct line *l,
	const struct imap_response *r, struct sink out[2])
{
	struct imap *s = &m->u.imap;
	bool ok = r->status == IMAP_OK, login = is_login(s);

	if (s->tag_len == 0 || !is_tag(r, s->tag, s->tag_len))
		return fail(m, REASON_SERVER_PROTOCOL, l);
	imap_print_response(l, r, shown(m, !(login && ok)), &out[CLIENT]);
	if (ok && s->verb == IMAP_LOGOUT) {
		m->reason = REASON_DONE;
		return ACT_CLOSE;
	}
	if (ok && (login || s->verb == IMAP_COMPRESS)) {
		become_opaque(m);
		m->notes.stage = STAGE_SESSION;
		return ACT_NONE;
	}
	if (login)
		notes_code(&m->notes, r->text, r->text_len);
	become_ready(m);
	return ACT_NONE;
}

/* Untagged data, or the rest of its line behind a literal: ID is such. */
static enum act
server_data(struct machine *m, const struct line *l, struct sink out[2])
{
	struct imap *s = &m->u.imap;
	uint32_t n;
	bool wait;

	send_line(&out[CLIENT], l);
	if (!frame_literal(l, &n, &wait)) {
		if (s->in_line)
			m->expect[CLIENT] = (enum expect)s->client_expect;
		s->in_line = false;
		return ACT_NONE;
	}
	if (n > LITERAL_MAX_OCTETS)
		return fail(m, REASON_SERVER_PROTOCOL, NULL);
	if (!s->in_line)
		s->client_expect = (uint8_t)m->expect[CLIENT];
	s->in_line = true;
	m->expect[CLIENT] = EXPECT_NONE;
	if (n > 0) {
		s->in_literal = true;
		m->counted = n;
		m->expect[SERVER] = EXPECT_COUNTED;
	}
	return ACT_NONE;
}

static enum act
server_untagged(struct machine *m, const struct line *l,
	const struct imap_response *r, struct sink out[2])
{
	struct imap *s = &m->u.imap;

	if (r->status == IMAP_PREAUTH)
		return fail(m, REASON_SERVER_PROTOCOL, l);
	imap_print_response(l, r, shown(m, !is_login(s)), &out[CLIENT]);
	if (r->status != IMAP_BYE ||
	    (s->tag_len > 0 && s->verb == IMAP_LOGOUT))
		return ACT_NONE;
	m->reason = REASON_SERVER_EOF;
	return ACT_CLOSE;
}

static enum act
server_response(struct machine *m, const struct line *l,
	const struct imap_response *r, struct sink out[2])
{
	switch (r->kind) {
	case IMAP_CONTINUATION:
		return server_leave(m, l, out);
	case IMAP_CAPABILITY:
		imap_print_response(l, r, shown(m, !is_login(&m->u.imap)),
			&out[CLIENT]);
		return ACT_NONE;
	case IMAP_DATA:
		return server_data(m, l, out);
	case IMAP_STATUS:
		return r->tagged ? server_done(m, l, r, out) :
			server_untagged(m, l, r, out);
	default:
		return fail(m, REASON_SERVER_PROTOCOL, l);
	}
}

static enum act
server_line(struct machine *m, const struct line *l, struct sink out[2])
{
	struct imap *s = &m->u.imap;
	struct imap_response r;

	if ((l->flags & (LINE_NUL | LINE_BARE_CR)) ||
	    ++s->lines > IMAP_LINES_MAX)
		return fail(m, REASON_SERVER_PROTOCOL, l);
	if (s->in_line)
		return server_data(m, l, out);
	if (!imap_response(l, &r))
		return fail(m, REASON_SERVER_PROTOCOL, l);
	switch (s->state) {
	case IMAP_GREETING:
		return server_greeting(m, l, &r, out);
	case IMAP_U_STARTTLS:
		return server_starttls(m, l, &r);
	case IMAP_U_LIST:
		return server_list(m, l, &r, out);
	case IMAP_T_GREETING:
		return tunnel_greeting(m, l, &r, out);
	case IMAP_T_STARTTLS:
		return tunnel_starttls(m, l, &r, out);
	default:
		return server_response(m, l, &r, out);
	}
}

static enum act
imap_line(struct machine *m, enum side from, const struct line *l,
	struct sink out[2])
{
	return from == CLIENT ? client_line(m, l, out) :
		server_line(m, l, out);
}

/* In the middle of somebody else's data a word of ours would be read as part of
 * it. */
static void
imap_farewell(struct machine *m, enum reason why, const char *detail,
	struct sink out[2])
{
	const struct imap *s = &m->u.imap;
	const char *words = farewell_words(why);

	m->reason = why;
	if (s->state == IMAP_OPAQUE || s->in_line)
		return;
	if (is_login(s) || (s->tag_len > 0 && s->verb == IMAP_STARTTLS))
		sink_text(&out[CLIENT], "%.*s NO [UNAVAILABLE] %s: %s%s%.160s "
			"(ref %s)\r\n", (int)s->tag_len, s->tag,
			m->context->server->name, words,
			detail[0] != '\0' ? ": " : "", detail,
			m->context->id);
	sink_text(&out[CLIENT], "* BYE [UNAVAILABLE] %s: %s%s%.160s (ref %s)"
		"\r\n", m->context->server->name, words,
		detail[0] != '\0' ? ": " : "", detail, m->context->id);
}

static const struct machine_ops imap_ops = {
	.kind = EVENT_WRAP,
	.greet = imap_greet,
	.line = imap_line,
	.data = imap_data,
	.upstream = imap_upstream,
	.offered = imap_offered,
	.farewell = imap_farewell,
};

void
imap_init(struct machine *m, const struct context *context)
{
	memset(m, 0, sizeof(*m));
	m->ops = &imap_ops;
	m->context = context;
	m->alpn = "imap";
	m->offer = offer_known(context);
	m->u.imap.greeted = context->greeted;
	m->client_wait = IMAP_WAIT_COMMAND;
}
