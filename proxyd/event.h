/*
 * event.h - what a session tells the operator when it ends
 *
 * One fixed-size record per session, from a relay to control through a stream;
 * control checks every field (a relay may be taken over) and writes the log
 * line. Kinds and reasons are rows of event.tbl and reason.tbl: enum, log word,
 * level, sentence, in one place.
 */
#ifndef SALLYPORT_EVENT_H
#define SALLYPORT_EVENT_H

#include <stddef.h>
#include <stdint.h>

#include "lib/addr.h"
#include "proxyd/envelope.h"
#include "zombie/table.h"

enum event_kind {
#define EVENT(sym, word, level, help) EVENT_##sym,
#include "proxyd/event.tbl"
#undef EVENT
	EVENT_COUNT
};

enum reason {
#define REASON(sym, word, help) REASON_##sym,
#include "proxyd/reason.tbl"
#undef REASON
	REASON_COUNT
};

#define EVENT_HELO_MAX 64
#define EVENT_DETAIL_MAX 160

struct report {
	uint8_t kind;		/* enum event_kind */
	uint8_t reason;		/* enum reason */
	uint8_t habits;		/* enum habit: evidence.h */
	uint8_t tls;		/* upstream leg: 0 none, 12 or 13 */
	uint16_t code;		/* last refusal code sent to the client, 0 none */
	int16_t class_index;	/* -1: none */
	int16_t server_index;	/* -1: none */
	uint16_t account;	/* 1 + index; 0: the session used none */
	uint8_t by_pop;		/* 1: its login was a POP3 login before it */
	uint16_t helo_len, detail_len;
	uint16_t stage;		/* enum event_stage: where the dialogue was */
	uint32_t rcpts, messages;
	uint32_t duration_ms;
	uint64_t id;
	int64_t at;		/* begin, Unix time */
	uint64_t domains;	/* map of MAIL FROM domains */
	uint16_t good[EVIDENCE_COUNT], bad[EVIDENCE_COUNT];
	uint16_t dialect;	/* 0: nothing was said */
	uint32_t sessions;	/* 0: one; a summary: how many (logbook.c) */
	uint64_t bytes_up, bytes_down;	/* client->server, server->client */
	struct line_key line;	/* family 0: none */
	struct addr src, dst, out;
	struct addr via;	/* of the server's submission_host, dialled for dst */
	char esc[12];		/* enhanced status code with code, or "" */
	char helo[EVENT_HELO_MAX];	/* as the client sent it, raw */
	char detail[EVENT_DETAIL_MAX];	/* library's or server's words, raw */
	struct envelope envelope;	/* the client's words, raw */
};

enum event_stage {
	STAGE_NONE, STAGE_CONNECT, STAGE_TLS, STAGE_GREETING, STAGE_EHLO,
	STAGE_AUTH, STAGE_MAIL, STAGE_RCPT_TO, STAGE_DATA, STAGE_LOGIN,
	STAGE_SESSION, EVENT_STAGE_COUNT
};

extern const char *const event_word[EVENT_COUNT];
extern const int event_level[EVENT_COUNT];
extern const char *const reason_word[REASON_COUNT];
extern const char *const reason_help[REASON_COUNT];
extern const char *const event_stage_word[EVENT_STAGE_COUNT];

/* Text of an event id; 13 characters of Crockford base 32 and NUL. */
#define EVENT_ID_LEN 14
const char *event_id_text(uint64_t id, char out[EVENT_ID_LEN]);

struct conf;

/* 0 when every field is in range, else -1. */
int event_check(const struct report *e, const struct conf *c);

/* The line of the session (DESIGN.md section 12), NUL-terminated. from, to: what
 * is to be said of the envelope, "" for nothing. */
void event_render(const struct report *e, const struct conf *c,
	const char *from, const char *to, char *out, size_t cap);

#endif
