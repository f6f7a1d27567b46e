/*
 * event.c - check an event that came from a relay and write its log line
 *
 * Does: the range check of every field, the kv line, the text of an id. Does
 * not: read, store, count or send anything; pure functions over one record.
 *
 * event_check and event_render are called by control.c with bytes that a
 * relay wrote. The relay may have been taken over, and in an honest one helo
 * and detail are still the peers' own bytes: event_check must have accepted a
 * record before event_render sees it, and those two fields only ever pass
 * through kv_text, which escapes.
 *
 * The order of the keys is fixed, ours before the client's: whoever parses
 * from the left never meets a forged key before the real one.
 */
#include "proxyd/event.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <syslog.h>

#include "conf/conf.h"
#include "proxyd/evidence.h"
#include "lib/kv.h"

const char *const event_word[EVENT_COUNT] = {
#define EVENT(sym, word, level, help) [EVENT_##sym] = word,
#include "proxyd/event.tbl"
#undef EVENT
};

const int event_level[EVENT_COUNT] = {
#define EVENT(sym, word, level, help) [EVENT_##sym] = level,
#include "proxyd/event.tbl"
#undef EVENT
};

const char *const reason_word[REASON_COUNT] = {
#define REASON(sym, word, help) [REASON_##sym] = word,
#include "proxyd/reason.tbl"
#undef REASON
};

const char *const reason_help[REASON_COUNT] = {
#define REASON(sym, word, help) [REASON_##sym] = help,
#include "proxyd/reason.tbl"
#undef REASON
};

const char *const event_stage_word[EVENT_STAGE_COUNT] = {
	[STAGE_NONE] = "none",		[STAGE_CONNECT] = "connect",
	[STAGE_TLS] = "tls",		[STAGE_GREETING] = "greeting",
	[STAGE_EHLO] = "ehlo",		[STAGE_AUTH] = "auth",
	[STAGE_MAIL] = "mail",		[STAGE_RCPT_TO] = "rcpt",
	[STAGE_DATA] = "data",		[STAGE_LOGIN] = "login",
	[STAGE_SESSION] = "session",
};

const char *
event_id_text(uint64_t id, char out[EVENT_ID_LEN])
{
	/* Crockford: no I, L, O, U; people read these ids over the telephone */
	static const char digit[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

	for (int i = EVENT_ID_LEN - 2; i >= 0; i--, id >>= 5)
		out[i] = digit[id & 31];
	out[EVENT_ID_LEN - 1] = '\0';
	return out;
}

static int
check_addr(const struct addr *a)
{
	static const uint8_t zero[16];

	if (a->pad != 0)
		return -1;
	switch (a->family) {
	case 0:
		return a->port == 0 && memcmp(a->ip, zero, 16) == 0 ? 0 : -1;
	case AF_INET:
		return memcmp(a->ip + 4, zero, 12) == 0 ? 0 : -1;
	case AF_INET6:
		return 0;
	default:
		return -1;
	}
}

static int
check_esc(const char *esc, size_t size)
{
	if (memchr(esc, '\0', size) == NULL)
		return -1;
	for (; *esc != '\0'; esc++)
		if (*esc != '.' && (*esc < '0' || *esc > '9'))
			return -1;
	return 0;
}

static int
check_line(const struct report *e, const struct conf *c)
{
	static const struct line_key none;
	const struct class_conf *k = e->class_index < 0 ? NULL :
		&c->classes[e->class_index];

	if (line_key_same(&e->line, &none))
		return 0;
	return line_key_valid(&e->line, k == NULL ? CONF_LINE_LEN6 :
		k->line_len6, k == NULL ? 0 : k->port_block) ? 0 : -1;
}

int
event_check(const struct report *e, const struct conf *c)
{
	if (e->kind >= EVENT_COUNT || e->reason >= REASON_COUNT ||
		e->reason == REASON_SUMMARY || e->sessions != 0 ||
		e->stage >= EVENT_STAGE_COUNT || e->habits > HABIT_ALL ||
		e->at < 0)
		return -1;
	if (e->tls != 0 && e->tls != 12 && e->tls != 13)
		return -1;
	if (e->code != 0 && (e->code < 200 || e->code > 599))
		return -1;
	if (e->class_index < -1 ||
		(e->class_index >= 0 && (size_t)e->class_index >= c->nclasses))
		return -1;
	if (e->server_index < -1 ||
		(e->server_index >= 0 && (size_t)e->server_index >= c->nservers))
		return -1;
	if (e->account > c->naccounts || e->by_pop > 1)
		return -1;
	if (e->helo_len > EVENT_HELO_MAX || e->detail_len > EVENT_DETAIL_MAX ||
		e->envelope.from.len > ENVELOPE_MAX ||
		e->envelope.to.len > ENVELOPE_MAX)
		return -1;
	if (check_line(e, c) != 0 || check_addr(&e->src) != 0 || check_addr(&e->dst) != 0 ||
		check_addr(&e->out) != 0 || check_addr(&e->via) != 0)
		return -1;
	return check_esc(e->esc, sizeof(e->esc));
}

static void
render_parties(struct kv *k, const struct report *e, const struct conf *c)
{
	char id[EVENT_ID_LEN], line[LINE_STRLEN];

	kv_word(k, "id", event_id_text(e->id, id));
	if (e->line.family != 0)
		kv_word(k, "line", line_format(&e->line, e->class_index < 0 ?
			0 : c->classes[e->class_index].port_block, line));
	if (e->class_index >= 0)
		kv_word(k, "class", c->classes[e->class_index].name);
	if (e->src.family != 0)
		kv_addr_port(k, "src", &e->src);
	if (e->dst.family != 0)
		kv_addr_port(k, "dst", &e->dst);
	if (e->out.family != 0)
		kv_addr_port(k, "out", &e->out);
	if (e->via.family != 0)
		kv_addr_port(k, "via", &e->via);
	if (e->server_index >= 0)
		kv_word(k, "server", c->servers[e->server_index].name);
	if (e->account > 0)
		kv_word(k, "account", c->accounts[e->account - 1].name);
	if (e->by_pop)
		kv_word(k, "login", "pop");
}

static unsigned
ones(uint64_t map)
{
	unsigned n = 0;

	for (; map != 0; map &= map - 1)
		n++;
	return n;
}

/* "contact:1/1,helo:0/1": bad events of all, for each kind that had any. */
static void
render_counts(struct kv *k, const struct report *e)
{
	static const char *const kind[EVIDENCE_COUNT] = {
		[EVIDENCE_CONTACT] = "contact",
		[EVIDENCE_UNKNOWN_USER] = "unknown",
		[EVIDENCE_REFUSAL] = "refusal",
		[EVIDENCE_NULL_SENDER] = "null",
		[EVIDENCE_HELO] = "helo",
	};
	char text[EVIDENCE_COUNT * 24];
	size_t n = 0;

	for (int i = 0; i < EVIDENCE_COUNT; i++)
		if (e->good[i] != 0 || e->bad[i] != 0)
			n += (size_t)snprintf(text + n, sizeof(text) - n,
				"%s%s:%u/%u", n > 0 ? "," : "", kind[i],
				(unsigned)e->bad[i],
				(unsigned)e->bad[i] + e->good[i]);
	if (n == 0)
		return;
	kv_uint(k, "at", (uint64_t)e->at);
	kv_word(k, "evidence", text);
}

static void
render_evidence(struct kv *k, const struct report *e)
{
	char hex[8];

	if (e->habits & HABIT_EARLY)
		kv_uint(k, "early", 1);
	if (e->habits & HABIT_PIPELINED)
		kv_uint(k, "pipelined", 1);
	if (e->dialect != 0) {
		kv_uint(k, "quit", (e->habits & HABIT_QUIT) != 0);
		snprintf(hex, sizeof(hex), "%04x", (unsigned)e->dialect);
		kv_word(k, "dialect", hex);
	}
	if (e->domains != 0)
		kv_uint(k, "domains", ones(e->domains));
	render_counts(k, e);
}

/* The peers' own words, behind all of ours. */
static void
render_words(struct kv *k, const struct report *e, const char *from,
	const char *to)
{
	if (from[0] != '\0')
		kv_text(k, "from", from, strlen(from));
	if (to[0] != '\0')
		kv_text(k, "to", to, strlen(to));
	if (e->helo_len > 0)
		kv_text(k, "helo", e->helo, e->helo_len);
	if (e->detail_len > 0)
		kv_text(k, "detail", e->detail, e->detail_len);
}

void
event_render(const struct report *e, const struct conf *c, const char *from,
	const char *to, char *out, size_t cap)
{
	struct kv k;

	kv_open(&k, out, cap, event_word[e->kind]);
	render_parties(&k, e, c);
	if (e->sessions > 0)
		kv_uint(&k, "sessions", e->sessions);
	else
		kv_word(&k, "stage", event_stage_word[e->stage]);
	if (e->code != 0) {
		kv_uint(&k, "code", e->code);
		if (e->esc[0] != '\0')
			kv_word(&k, "esc", e->esc);
	}
	kv_uint(&k, "rcpts", e->rcpts);
	kv_uint(&k, "msgs", e->messages);
	kv_uint(&k, "up", e->bytes_up);
	kv_uint(&k, "down", e->bytes_down);
	if (e->tls != 0)
		kv_word(&k, "tls", e->tls == 13 ? "1.3" : "1.2");
	kv_tenths(&k, "dur", e->duration_ms);
	kv_word(&k, "reason", reason_word[e->reason]);
	render_evidence(&k, e);
	render_words(&k, e, from, to);
}
