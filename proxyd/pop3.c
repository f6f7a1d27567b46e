/*
 * pop3.c - POP3 in clear towards the client, in TLS towards its server
 *
 * The session dials at accept. The greeting passes byte for byte, because APOP
 * digests its time stamp; behind STARTTLS only that stamp is the server's, for
 * what came before TLS proves nothing. Until the login succeeds, commands go
 * one at a time (lockstep); CAPA and the list of a bare AUTH are edited:
 * mechanisms that cannot cross two TLS legs are left out, STLS is shown exactly
 * when the port that the client dialled has it, and a client that uses it is
 * taken to that port, end to end. After the login the session is opaque:
 * nothing is parsed, nothing is held.
 *
 * Every end of ours carries [SYS/TEMP] (RFC 3206): a bare -ERR at login makes
 * mail programs throw the saved password away. A mechanism or command that is
 * not there gets the bare -ERR that makes them try the next one. Both sides are hostile; a
 * server line that is no reply ends the session.
 */
#include <string.h>
#include <strings.h>

#include "proxyd/proto.h"
#include "proxyd/sasl.h"

/* RFC 1939 section 3: an autologout timer is at least ten minutes. */
#define POP3_WAIT_COMMAND 600
#define POP3_WAIT_REPLY 300
/* From accept to the greeting the client sees. */
#define POP3_WAIT_UPSTREAM 25
#define POP3_ERRORS_MAX 20
/* Lines of a list before login; Dovecot sends about a dozen. */
#define POP3_LIST_MAX 200

enum pop3_verb {
	POP_CAPA, POP_USER, POP_AUTH, POP_AUTH_LIST, POP_PASS, POP_APOP, POP_QUIT,
	POP_STLS, POP_LANG_LIST, POP_OTHER
};

static bool
has_word(const struct line *l, const char *word, size_t *after_r)
{
	size_t n = strlen(word);

	if (l->len < n || strncasecmp((const char *)l->text, word, n) != 0)
		return false;
	if (l->len > n && l->text[n] != ' ')
		return false;
	while (n < l->len && l->text[n] == ' ')
		n++;
	*after_r = n;
	return true;
}

static enum pop3_verb
pop3_verb(const struct line *l, size_t *after_r)
{
	static const struct {
		const char *word;
		enum pop3_verb verb, bare;	/* bare: without argument */
	} table[] = {
		{ "CAPA", POP_CAPA, POP_CAPA },
		{ "AUTH", POP_AUTH, POP_AUTH_LIST },
		{ "USER", POP_USER, POP_USER },
		{ "PASS", POP_PASS, POP_PASS },
		{ "APOP", POP_APOP, POP_OTHER },
		{ "QUIT", POP_QUIT, POP_QUIT },
		{ "STLS", POP_STLS, POP_STLS },
		{ "LANG", POP_OTHER, POP_LANG_LIST },	/* RFC 6856 */
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (has_word(l, table[i].word, after_r))
			return *after_r == l->len ? table[i].bare :
				table[i].verb;
	*after_r = 0;
	return POP_OTHER;
}

static bool
starts_with(const struct line *l, const char *word)
{
	return l->len >= strlen(word) &&
		memcmp(l->text, word, strlen(word)) == 0;
}

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
	m->u.pop3.state = POP3_READY;
	m->expect[CLIENT] = EXPECT_LINE;
	m->expect[SERVER] = EXPECT_LINE;
	m->client_wait = POP3_WAIT_COMMAND;
	m->dialling = false;
}

static void
await_server(struct machine *m)
{
	m->u.pop3.state = POP3_REPLY;
	m->u.pop3.lines = 0;
	m->expect[CLIENT] = EXPECT_NONE;
	m->server_wait = POP3_WAIT_REPLY;
}

/* ---- upstream: from the connection to the client's greeting ---- */

static enum act
dial(struct machine *m, struct endpoint to)
{
	m->dial = to;
	m->u.pop3.clear = to.mode == TLS_STARTTLS;
	m->dialling = true;
	m->expect[CLIENT] = EXPECT_NONE;
	m->expect[SERVER] = EXPECT_NONE;
	m->server_wait = POP3_WAIT_UPSTREAM;
	return ACT_DIAL;
}

static enum act
pop3_greet(struct machine *m, struct sink out[2])
{
	(void)out;
	return dial(m, m->context->server->pop3);
}

/* After STLS the server does not greet again (RFC 2595 section 4). */
static void
print_greeting(struct machine *m, struct sink *out)
{
	const struct pop3 *s = &m->u.pop3;

	sink_text(out, "+OK %s ready%s%.*s\r\n", m->context->server->name,
		s->stamp_len > 0 ? " " : "", (int)s->stamp_len, s->stamp);
}

static enum act
pop3_upstream(struct machine *m, struct sink out[2])
{
	struct pop3 *s = &m->u.pop3;

	m->expect[SERVER] = EXPECT_LINE;
	if (s->state == POP3_T_GREETING)
		return ACT_NONE;
	if (s->state == POP3_U_STLS) {		/* TLS stands on this connection */
		s->clear = false;
		print_greeting(m, &out[CLIENT]);
		become_ready(m);
		return ACT_NONE;
	}
	s->state = POP3_GREETING;
	m->notes.stage = STAGE_GREETING;
	return ACT_NONE;
}

/* The time stamp that APOP digests, if there is one and it is plain text. */
static void
keep_stamp(struct pop3 *s, const struct line *l)
{
	const uint8_t *from = memchr(l->text, '<', l->len), *to;
	size_t n;

	s->stamp_len = 0;
	if (from == NULL)
		return;
	to = memchr(from, '>', l->len - (size_t)(from - l->text));
	n = to == NULL ? 0 : (size_t)(to + 1 - from);
	if (n == 0 || n > sizeof(s->stamp))
		return;
	for (size_t i = 0; i < n; i++)
		if (from[i] <= ' ' || from[i] >= 0x7f)
			return;
	memcpy(s->stamp, from, n);
	s->stamp_len = (uint16_t)n;
}

static enum act
server_greeting(struct machine *m, const struct line *l, struct sink out[2])
{
	if (!starts_with(l, "+OK"))
		return fail(m, REASON_SERVER_GREETING, l);
	if (m->u.pop3.clear) {
		keep_stamp(&m->u.pop3, l);
		sink_text(&out[SERVER], "STLS\r\n");
		await_server(m);
		m->u.pop3.state = POP3_U_STLS;
		return ACT_NONE;
	}
	/* The time stamp is that of a connection which STLS will end. */
	if (m->context->needs_tls)
		print_greeting(m, &out[CLIENT]);
	else if (!m->context->greeted)
		sink_bytes(&out[CLIENT], l->text, l->total);
	become_ready(m);
	return ACT_NONE;
}

static enum act
server_stls(struct machine *m, const struct line *l)
{
	return starts_with(l, "+OK") ? ACT_TLS :
		fail(m, REASON_NO_STARTTLS, l);
}

/* ---- the client's own STLS ---- */

static enum act
tunnel_greeting(struct machine *m, const struct line *l, struct sink out[2])
{
	if (!starts_with(l, "+OK"))
		return fail(m, REASON_SERVER_GREETING, l);
	sink_text(&out[SERVER], "STLS\r\n");
	await_server(m);
	m->u.pop3.state = POP3_T_STLS;
	return ACT_NONE;
}

static enum act
tunnel_stls(struct machine *m, const struct line *l, struct sink out[2])
{
	if (!starts_with(l, "+OK"))
		return fail(m, REASON_NO_STARTTLS, l);
	sink_text(&out[CLIENT], "+OK Begin TLS negotiation\r\n");
	m->u.pop3.state = POP3_OPAQUE;
	m->dialling = false;
	m->client_wait = m->server_wait = POP3_WAIT_COMMAND;
	return ACT_TUNNEL;
}

/* ---- client ---- */

static enum act
ours(struct machine *m, const char *words, struct sink *to)
{
	sink_text(to, "-ERR %s\r\n", words);
	m->u.pop3.errors++;
	return ACT_NONE;
}

/* STLS is ours: behind our answer only a hello may come. */
static enum act
accept_tls(struct machine *m, struct sink *to)
{
	if (m->more)
		return fail(m, REASON_TLS_INJECTION, NULL);
	sink_text(to, "+OK Begin TLS negotiation now\r\n");
	return ACT_ACCEPT;
}

/* A login that has no place here, or what might be one: answered. */
static bool
refuses_login(struct machine *m, enum pop3_verb verb, struct sink *to)
{
	const struct context *x = m->context;

	if (verb == POP_APOP && x->greeted) {
		(void)ours(m, "[SYS/PERM] APOP is not possible behind STLS", to);
		return true;
	}
	if (!x->needs_tls || verb == POP_CAPA || verb == POP_STLS ||
	    verb == POP_QUIT || verb == POP_LANG_LIST)
		return false;
	(void)ours(m, "[SYS/PERM] A login is possible inside TLS only; say STLS "
		"first", to);
	return true;
}

/* What the client's command needs to know is known now. */
static enum act
pop3_offered(struct machine *m, struct sink out[2])
{
	struct endpoint plain = { TLS_PLAIN, 0 };

	if (m->u.pop3.verb == POP_CAPA) {
		sink_text(&out[SERVER], "CAPA\r\n");
		await_server(m);
		return ACT_NONE;
	}
	if (m->context->offers_tls)
		return accept_tls(m, &out[CLIENT]);
	if (m->offer != OFFER_STARTTLS) {
		become_ready(m);
		return ours(m, "STLS is not offered", &out[CLIENT]);
	}
	m->u.pop3.state = POP3_T_GREETING;
	return dial(m, plain);
}

static enum act
ask(struct machine *m, struct sink out[2])
{
	if (m->offer != OFFER_UNKNOWN)
		return pop3_offered(m, out);
	m->u.pop3.state = POP3_ASKED;
	m->expect[CLIENT] = EXPECT_NONE;
	m->server_wait = POP3_WAIT_REPLY;
	return ACT_ASK;
}

static bool
is_passing(const struct line *l, size_t after)
{
	size_t end = after;

	while (end < l->len && l->text[end] != ' ')
		end++;
	return sasl_passes(l->text + after, end - after);
}

static enum act
client_command(struct machine *m, const struct line *l, struct sink out[2])
{
	struct pop3 *s = &m->u.pop3;
	size_t after;

	if (s->errors >= POP3_ERRORS_MAX)
		return fail(m, REASON_TOO_MANY_ERRORS, NULL);
	s->verb = (uint8_t)pop3_verb(l, &after);
	if (refuses_login(m, (enum pop3_verb)s->verb, &out[CLIENT]))
		return ACT_NONE;
	switch (s->verb) {
	case POP_CAPA:
		return ask(m, out);
	case POP_STLS:
		return after == l->len ? ask(m, out) :
			ours(m, "STLS has no argument", &out[CLIENT]);
	case POP_AUTH:
		if (!is_passing(l, after))
			return ours(m, "Mechanism is not offered here",
				&out[CLIENT]);
		m->notes.stage = STAGE_LOGIN;
		break;
	case POP_PASS:
	case POP_APOP:
		m->notes.stage = STAGE_LOGIN;
		break;
	default:
		break;
	}
	if (m->context->pop_login != NULL)
		pop_login_command(m->context->pop_login, l);
	sink_bytes(&out[SERVER], l->text, l->len);
	sink_bytes(&out[SERVER], "\r\n", 2);
	await_server(m);
	return ACT_NONE;
}

static enum act
pop3_client_line(struct machine *m, const struct line *l, struct sink out[2])
{
	if (l->flags & (LINE_NUL | LINE_BARE_CR))
		return fail(m, l->flags & LINE_NUL ? REASON_NUL_BYTE :
			REASON_CLIENT_PROTOCOL, NULL);
	if (m->u.pop3.state != POP3_AUTH_CLIENT)
		return client_command(m, l, out);
	if (m->context->pop_login != NULL)
		pop_login_answer(m->context->pop_login, l);
	sink_bytes(&out[SERVER], l->text, l->len);
	sink_bytes(&out[SERVER], "\r\n", 2);
	await_server(m);
	return ACT_NONE;
}

/* ---- server ---- */

static bool
is_end(const struct line *l)
{
	return l->len == 1 && l->text[0] == '.';
}

/* CAPA's "SASL" without what cannot cross two legs; nothing left: no line. */
static void
pop3_mechanisms(const uint8_t *p, size_t n, bool is_published, struct sink *to)
{
	const bool binds = is_published && sasl_binds(p, n);
	bool any = false;

	while (n > 0) {
		size_t len = 0;

		while (len < n && p[len] != ' ')
			len++;
		if (sasl_passes(p, len) && !(binds && sasl_is_scram(p, len))) {
			sink_text(to, any ? " " : "SASL ");
			sink_bytes(to, p, len);
			any = true;
		}
		len += len < n;
		p += len;
		n -= len;
	}
	if (any)
		sink_text(to, "\r\n");
}

/* A line of CAPA's list, or a mechanism of a bare AUTH's. */
static void
pop3_list_line(struct machine *m, const struct line *l, struct sink *to)
{
	size_t after;

	if (m->u.pop3.verb == POP_CAPA && (has_word(l, "STLS", &after) ||
		(m->context->needs_tls && (has_word(l, "USER", &after) ||
		has_word(l, "SASL", &after)))))
		return;
	if (m->u.pop3.verb == POP_CAPA && has_word(l, "SASL", &after)) {
		pop3_mechanisms(l->text + after, l->len - after,
			m->context->is_published, to);
		return;
	}
	if (is_end(l) && m->u.pop3.verb == POP_CAPA &&
	    m->offer == OFFER_STARTTLS)
		sink_text(to, "STLS\r\n");
	/* What comes behind this line is not known yet: SCRAM only in CAPA. */
	if (m->u.pop3.verb == POP_AUTH_LIST && !is_end(l) &&
	    (!sasl_passes(l->text, l->len) || (m->context->is_published &&
		    sasl_is_scram(l->text, l->len))))
		return;
	sink_bytes(to, l->text, l->len);
	sink_bytes(to, "\r\n", 2);
}

static enum act
pop3_login_done(struct machine *m)
{
	if (m->context->pop_login != NULL)
		pop_login_accepted(m->context->pop_login);
	m->u.pop3.state = POP3_OPAQUE;
	m->notes.stage = STAGE_SESSION;
	m->expect[CLIENT] = EXPECT_RAW;
	m->expect[SERVER] = EXPECT_RAW;
	return ACT_NONE;
}

/* During a login nothing of theirs may reach a log but the code. */
static void
note_login(struct machine *m, const struct line *l)
{
	size_t skip = l->len < 5 ? l->len : 5;	/* "-ERR " */

	notes_code(&m->notes, l->text + skip, l->len - skip);
}

static enum act
pop3_reply(struct machine *m, const struct line *l, struct sink out[2])
{
	struct pop3 *s = &m->u.pop3;
	bool ok = starts_with(l, "+OK");
	bool more = !ok && s->verb == POP_AUTH && starts_with(l, "+");

	if (!ok && !more && !starts_with(l, "-ERR"))
		return fail(m, REASON_SERVER_PROTOCOL, l);
	sink_bytes(&out[CLIENT], l->text, l->len);
	sink_bytes(&out[CLIENT], "\r\n", 2);
	if (more) {
		s->state = POP3_AUTH_CLIENT;
		m->expect[CLIENT] = EXPECT_LINE;
		m->client_wait = POP3_WAIT_COMMAND;
		return ACT_NONE;
	}
	if (s->verb == POP_QUIT) {
		m->reason = REASON_DONE;
		return ACT_CLOSE;
	}
	if (ok && (s->verb == POP_PASS || s->verb == POP_APOP ||
		s->verb == POP_AUTH))
		return pop3_login_done(m);
	if (ok && (s->verb == POP_CAPA || s->verb == POP_AUTH_LIST ||
		s->verb == POP_LANG_LIST)) {
		s->state = POP3_LIST;
		return ACT_NONE;
	}
	if (!ok && m->context->pop_login != NULL)
		pop_login_refused(m->context->pop_login);
	if (!ok && m->notes.stage == STAGE_LOGIN)
		note_login(m, l);
	become_ready(m);
	return ACT_NONE;
}

static enum act
pop3_server_line(struct machine *m, const struct line *l, struct sink out[2])
{
	struct pop3 *s = &m->u.pop3;

	if (l->flags & (LINE_NUL | LINE_BARE_CR))
		return fail(m, REASON_SERVER_PROTOCOL, l);
	switch (s->state) {
	case POP3_GREETING:
		return server_greeting(m, l, out);
	case POP3_U_STLS:
		return server_stls(m, l);
	case POP3_T_GREETING:
		return tunnel_greeting(m, l, out);
	case POP3_T_STLS:
		return tunnel_stls(m, l, out);
	case POP3_REPLY:
		return pop3_reply(m, l, out);
	case POP3_LIST:
		if (++s->lines > POP3_LIST_MAX)
			return fail(m, REASON_SERVER_PROTOCOL, NULL);
		pop3_list_line(m, l, &out[CLIENT]);
		if (is_end(l))
			become_ready(m);
		return ACT_NONE;
	default:
		/* Unasked for: dovecot says goodbye with -ERR before it closes. */
		if (!starts_with(l, "-ERR"))
			return fail(m, REASON_SERVER_PROTOCOL, l);
		sink_bytes(&out[CLIENT], l->text, l->total);
		m->reason = REASON_SERVER_EOF;
		return ACT_CLOSE;
	}
}

static enum act
pop3_line(struct machine *m, enum side from, const struct line *l,
	struct sink out[2])
{
	return from == CLIENT ? pop3_client_line(m, l, out) :
		pop3_server_line(m, l, out);
}

static void
pop3_farewell(struct machine *m, enum reason why, const char *detail,
	struct sink out[2])
{
	m->reason = why;
	/* In the middle of somebody else's data a word of ours would be read
	 * as part of a message. */
	if (m->u.pop3.state == POP3_OPAQUE || m->u.pop3.state == POP3_LIST)
		return;
	sink_text(&out[CLIENT], "-ERR [SYS/TEMP] %s: %s%s%.160s (ref %s)\r\n",
		m->context->server->name, farewell_words(why),
		detail[0] != '\0' ? ": " : "", detail, m->context->id);
}

static const struct machine_ops pop3_ops = {
	.kind = EVENT_WRAP,
	.greet = pop3_greet,
	.line = pop3_line,
	.upstream = pop3_upstream,
	.offered = pop3_offered,
	.farewell = pop3_farewell,
};

void
pop3_init(struct machine *m, const struct context *context)
{
	memset(m, 0, sizeof(*m));
	m->ops = &pop3_ops;
	m->context = context;
	m->alpn = "pop3";
	m->offer = offer_known(context);
	m->client_wait = POP3_WAIT_COMMAND;
}
