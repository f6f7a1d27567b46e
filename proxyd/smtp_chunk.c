/*
 * smtp_chunk.c - BDAT through submit
 *
 * A chunk is sent on octet for octet, its command written anew so that we and
 * the server mean the same number; or it is eaten and refused by us: where the
 * list did not offer CHUNKING, before the login, outside a transaction, above
 * the size the server announced. Either way every octet of it is consumed
 * before the reply, so nothing inside a chunk is ever read as a command (TRAPS
 * 9). Lockstep holds: a chunk's reply comes before the next command is read.
 *
 * What must hold: a size that is none ends the session, for nobody knows where
 * the next command begins; after LAST only the server acknowledges. Called by
 * smtp_submit.c. The client controls size and octets.
 */
#include "proxyd/smtp.h"

/* A chunk that is not sent on is eaten up to this size: larger than what big
 * providers take as a message. */
#define CHUNK_MAX (100u * 1024 * 1024)

enum fate {
	FATE_SENT, FATE_HIDDEN, FATE_NO_LOGIN, FATE_NO_MAIL, FATE_NO_RCPT,
	FATE_TOO_BIG, FATE_COUNT
};

static const struct {
	unsigned code;
	const char *esc, *words;
} refusal[FATE_COUNT] = {
	[FATE_HIDDEN] = { 502, "5.5.1", "BDAT is not offered" },
	[FATE_NO_MAIL] = { 503, "5.5.1", "No mail to add a chunk to" },
	[FATE_NO_RCPT] = { 554, "5.5.1", "No valid recipients" },
	[FATE_TOO_BIG] = { 552, "5.3.4", "The message is too big" },
};

static enum fate
choose_fate(const struct smtp *s, uint64_t n)
{
	if (s->state == SMTP_GREET || !ehlo_has_chunking(&s->ehlo))
		return FATE_HIDDEN;
	if (!s->has_auth)
		return FATE_NO_LOGIN;
	if (!s->has_mail)
		return FATE_NO_MAIL;
	if (!s->has_rcpt)
		return FATE_NO_RCPT;
	if (s->ehlo.size != 0 && (n > s->ehlo.size ||
		s->chunked > s->ehlo.size - n))
		return FATE_TOO_BIG;
	return FATE_SENT;
}

static void
refuse(struct machine *m, struct sink *to)
{
	enum fate fate = m->u.smtp.chunk_fate;

	if (fate == FATE_NO_LOGIN) {
		submit_wants_login(m, to);
		return;
	}
	if (fate == FATE_HIDDEN)
		m->u.smtp.errors++;
	if (fate == FATE_TOO_BIG) {
		/* What the server has of it must not become a mail. */
		m->u.smtp.has_mail = false;
		smtp_note_refusal(&m->notes, refusal[fate].code,
			refusal[fate].esc);
	}
	sink_text(to, "%u %s %s\r\n", refusal[fate].code, refusal[fate].esc,
		refusal[fate].words);
}

/* Every octet of the chunk is consumed. */
static void
end_chunk(struct machine *m, struct sink out[2])
{
	struct smtp *s = &m->u.smtp;

	if (s->chunk_fate == FATE_SENT) {
		if (s->chunk_last)
			submit_await(m, SMTP_FINAL, SMTP_WAIT_FINAL);
		else
			submit_await(m, SMTP_REPLY, SMTP_WAIT_REPLY);
		return;
	}
	refuse(m, &out[CLIENT]);
	m->expect[CLIENT] = EXPECT_LINE;
	m->client_wait = SMTP_WAIT_COMMAND;
}

enum act
chunk_command(struct machine *m, const struct command *c, struct sink out[2])
{
	struct smtp *s = &m->u.smtp;
	uint64_t n;

	if (smtp_chunk(c, &n, &s->chunk_last) == -1)
		return submit_fail(m, REASON_CLIENT_PROTOCOL, NULL);
	s->chunk_fate = (uint8_t)choose_fate(s, n);
	if (s->chunk_fate == FATE_SENT) {
		sink_text(&out[SERVER], "BDAT %llu%s\r\n",
			(unsigned long long)n, s->chunk_last ? " LAST" : "");
		s->verb = VERB_BDAT;
		s->state = SMTP_CHUNK;
		s->chunked += n;
		m->expect[SERVER] = EXPECT_NONE;
		m->notes.stage = STAGE_DATA;
	} else if (n > CHUNK_MAX) {
		refuse(m, &out[CLIENT]);
		m->reason = REASON_CLIENT_PROTOCOL;
		return ACT_CLOSE;
	}
	m->counted = n;
	m->expect[CLIENT] = EXPECT_COUNTED;
	m->client_wait = SMTP_WAIT_BLOCK;
	if (n == 0)
		end_chunk(m, out);
	return ACT_NONE;
}

enum act
chunk_data(struct machine *m, const uint8_t *p, size_t n, size_t *used_r,
	struct sink out[2])
{
	struct sink *to = &out[SERVER];
	size_t room = to->cap - to->len;

	if (n > m->counted)
		n = (size_t)m->counted;
	if (m->u.smtp.chunk_fate == FATE_SENT) {
		n = n < room ? n : room;
		sink_bytes(to, p, n);
	}
	*used_r = n;
	m->counted -= n;
	if (m->counted == 0)
		end_chunk(m, out);
	return ACT_NONE;
}
