/*
 * pop3.c - POP3 in clear towards the client, in TLS towards its server
 *
 * The session dials at accept. The greeting passes byte for byte, because APOP
 * digests its time stamp. Until the login succeeds, commands go one at a time
 * (lockstep); CAPA and the list of a bare AUTH are edited: STLS and mechanisms
 * that cannot cross two TLS legs are left out. After the login the session is
 * opaque: nothing is parsed, nothing is held.
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
	POP_CAPA, POP_AUTH, POP_AUTH_LIST, POP_PASS, POP_APOP, POP_QUIT,
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

/* Some servers repeat in their answer what they did not like: during a login
 * nothing of theirs may reach a log but the code (RFC 3206). */
static void
note_login(struct notes *n, const struct line *l)
{
	const uint8_t *end = NULL;
	size_t word = strlen("-ERR ");

	if (l->len > word && l->text[word] == '[')
		end = memchr(l->text, ']', l->len < 32 ? l->len : 32);
	notes_detail(n, l->text + word,
		end != NULL ? (size_t)(end + 1 - l->text) - word : 0);
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

static enum act
pop3_greet(struct machine *m, struct sink out[2])
{
	(void)out;
	m->dial = m->context->server->pop3;
	m->dialling = true;
	m->server_wait = POP3_WAIT_UPSTREAM;
	return ACT_DIAL;
}

static enum act
pop3_upstream(struct machine *m, struct sink out[2])
{
	(void)out;
	m->u.pop3.state = POP3_GREETING;
	m->expect[SERVER] = EXPECT_LINE;
	m->notes.stage = STAGE_GREETING;
	return ACT_NONE;
}

/* ---- client ---- */

static enum act
ours(struct machine *m, const char *words, struct sink *to)
{
	sink_text(to, "-ERR %s\r\n", words);
	m->u.pop3.errors++;
	return ACT_NONE;
}

static enum act
pop3_client_line(struct machine *m, const struct line *l, struct sink out[2])
{
	struct pop3 *s = &m->u.pop3;
	size_t after, word;

	if (l->flags & (LINE_NUL | LINE_BARE_CR))
		return fail(m, l->flags & LINE_NUL ? REASON_NUL_BYTE :
			REASON_CLIENT_PROTOCOL, NULL);
	if (s->errors >= POP3_ERRORS_MAX)
		return fail(m, REASON_TOO_MANY_ERRORS, NULL);
	if (s->state != POP3_AUTH_CLIENT) {
		s->verb = (uint8_t)pop3_verb(l, &after);
		if (s->verb == POP_STLS)
			return ours(m, "STLS is not offered", &out[CLIENT]);
		if (s->verb == POP_AUTH) {
			for (word = after; word < l->len &&
				l->text[word] != ' '; word++)
				;
			if (!sasl_mechanism(l->text + after, word - after))
				return ours(m, "Mechanism is not offered here",
					&out[CLIENT]);
		}
		if (s->verb == POP_PASS || s->verb == POP_AUTH ||
		    s->verb == POP_APOP)
			m->notes.stage = STAGE_LOGIN;
	}
	sink_bytes(&out[SERVER], l->text, l->len);
	sink_bytes(&out[SERVER], "\r\n", 2);
	await_server(m);
	return ACT_NONE;
}

/* ---- server ---- */

static enum act
pop3_greeting(struct machine *m, const struct line *l, struct sink out[2])
{
	if (!starts_with(l, "+OK"))
		return fail(m, REASON_SERVER_GREETING, l);
	sink_bytes(&out[CLIENT], l->text, l->total);
	become_ready(m);
	return ACT_NONE;
}

/* SASL mechanisms of a CAPA line or of a bare AUTH's line. */
static void
pop3_list_line(struct machine *m, const struct line *l, struct sink *to)
{
	size_t after;

	if (m->u.pop3.verb == POP_CAPA && has_word(l, "STLS", &after))
		return;
	if (m->u.pop3.verb == POP_AUTH_LIST &&
	    !starts_with(l, ".") && sasl_mechanism(l->text, l->len) == 0)
		return;
	if (m->u.pop3.verb == POP_CAPA && has_word(l, "SASL", &after)) {
		uint32_t mechs = sasl_list(l->text + after, l->len - after);

		if (mechs == 0)
			return;
		sink_text(to, "SASL");
		sasl_print(mechs, to);
		sink_text(to, "\r\n");
		return;
	}
	sink_bytes(to, l->text, l->len);
	sink_bytes(to, "\r\n", 2);
}

static enum act
pop3_login_done(struct machine *m)
{
	m->u.pop3.state = POP3_OPAQUE;
	m->notes.stage = STAGE_SESSION;
	m->expect[CLIENT] = EXPECT_RAW;
	m->expect[SERVER] = EXPECT_RAW;
	return ACT_NONE;
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
	if (!ok && m->notes.stage == STAGE_LOGIN)
		note_login(&m->notes, l);
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
		return pop3_greeting(m, l, out);
	case POP3_REPLY:
		return pop3_reply(m, l, out);
	case POP3_LIST:
		if (++s->lines > POP3_LIST_MAX)
			return fail(m, REASON_SERVER_PROTOCOL, NULL);
		pop3_list_line(m, l, &out[CLIENT]);
		if (l->len == 1 && l->text[0] == '.')
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

static const struct {
	enum reason reason;
	const char *words;
} farewell_table[] = {
	{ REASON_CONNECT_FAILED, "cannot be reached" },
	{ REASON_CONNECT_TIMEOUT, "does not answer" },
	{ REASON_FORBIDDEN, "is not a permitted destination" },
	{ REASON_TLS_FAILED, "TLS failed" },
	{ REASON_TLS_TIMEOUT, "TLS handshake timed out" },
	{ REASON_CERTIFICATE, "certificate not accepted" },
	{ REASON_SERVER_GREETING, "refuses service" },
	{ REASON_SERVER_PROTOCOL, "sent a reply that is none" },
	{ REASON_SERVER_EOF, "closed the connection" },
	{ REASON_SERVER_RESET, "closed the connection" },
	{ REASON_SERVER_TIMEOUT, "is silent" },
	{ REASON_CLIENT_TIMEOUT, "waited too long for you" },
	{ REASON_LINE_TOO_LONG, "line too long" },
	{ REASON_NUL_BYTE, "NUL byte in a command" },
	{ REASON_CLIENT_PROTOCOL, "command not understood" },
	{ REASON_TOO_MANY_ERRORS, "too many refused commands" },
	{ REASON_MAX_PER_LINE, "too many connections from your line" },
};

static void
pop3_farewell(struct machine *m, enum reason why, const char *detail,
	struct sink out[2])
{
	const char *words = "try again later";

	m->reason = why;
	for (size_t i = 0; i < sizeof(farewell_table) /
		sizeof(farewell_table[0]); i++)
		if (farewell_table[i].reason == why)
			words = farewell_table[i].words;
	/* In the middle of somebody else's data a word of ours would be read
	 * as part of a message. */
	if (m->u.pop3.state == POP3_OPAQUE || m->u.pop3.state == POP3_LIST)
		return;
	sink_text(&out[CLIENT], "-ERR [SYS/TEMP] %s: %s%s%.160s (ref %s)\r\n",
		m->context->server->name, words, detail[0] != '\0' ? ": " : "",
		detail, m->context->id);
}

static const struct machine_ops pop3_ops = {
	.kind = EVENT_WRAP,
	.greet = pop3_greet,
	.line = pop3_line,
	.upstream = pop3_upstream,
	.farewell = pop3_farewell,
};

void
pop3_init(struct machine *m, const struct context *context)
{
	memset(m, 0, sizeof(*m));
	m->ops = &pop3_ops;
	m->context = context;
	m->client_wait = POP3_WAIT_COMMAND;
}
