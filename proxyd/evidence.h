/*
 * evidence.h - what an SMTP dialogue tells about the line it comes from
 *
 * The machines say what they read; evidence.c judges it by itself, without a
 * clock, a table or a log, and leaves events and habits in struct witness. The
 * session takes the events out after every call of a machine and gives them to
 * contact_evidence() (contact.h), the one place that writes them into the
 * line's record; habits go there when the session ends.
 *
 * Our own answers are no evidence. A remote reply feeds one kind: a recipient
 * refused as unknown is no refusal besides.
 */
#ifndef SALLYPORT_EVIDENCE_H
#define SALLYPORT_EVIDENCE_H

#include <stdbool.h>
#include <stdint.h>

#include "zombie/detect.h"

struct command;
struct line;
struct machine;

/* No kind of evidence of their own; they are part of the dialect. */
enum habit {
	HABIT_EARLY = 1,	/* spoke before the greeting */
	HABIT_PIPELINED = 2,	/* did not wait where it must (RFC 2920 3.1) */
	HABIT_QUIT = 4,
	HABIT_ALL = 7
};

/* Events that one call of a machine may leave; relay's watcher follows no more
 * replies than that. One that does not fit is dropped. */
#define WITNESS_EVENTS 64

struct witness {
	uint8_t habits;		/* enum habit */
	uint8_t tokens;		/* of the dialect so far */
	uint8_t n_events;
	bool has_helo;		/* judged: once a session */
	bool unknown;		/* a line of this reply says "no such user" */
	bool accepted;		/* the session has its good outcome */
	bool hello_old;		/* HELO: PIPELINING was not offered */
	uint8_t events[WITNESS_EVENTS];	/* kind << 2 | enum mark */
	uint16_t good[EVIDENCE_COUNT], bad[EVIDENCE_COUNT];
	uint64_t domains;	/* 64-bit map of MAIL FROM domains */
	uint64_t dialect, token;	/* keyed hashes: all so far, the last */
	uint64_t greeting;	/* of the server's own name; 0: not read */
};

/* Take the events out, oldest first: how many of events[]. */
unsigned evidence_take(struct witness *w, uint8_t events[WITNESS_EVENTS]);
#define EVENT_EVIDENCE(e) ((enum evidence)((e) >> 2))
#define EVENT_MARK(e) ((enum mark)((e) & 3))

/* A command of the client's, whole or (relay) its start. */
void evidence_command(struct machine *m, const struct line *l,
	const struct command *c);

/* The client goes on without the reply to this verb: is it allowed to? */
void evidence_unasked(struct machine *m, unsigned verb);

/* A line of a reply of the server's. what: enum smtp_verb of the command, or
 * VERB_UNKNOWN for the greeting; others than MAIL and RCPT tell nothing. */
void evidence_reply(struct machine *m, unsigned what, unsigned code, bool last,
	const struct line *l);

/* The server has been reached, or not, and no reply says more: the session's
 * outcome. The first good one counts. */
void evidence_reached(struct machine *m, bool is_reached);

/* 16 bits for the record: dialect and habits of the session so far; 0: it said
 * nothing. */
uint16_t evidence_dialect(const struct machine *m);

/* Does this refusal of a recipient mean that there is no such one? By the
 * enhanced code, or by the usual words where there is none. */
bool evidence_is_unknown(unsigned code, const struct line *l);

#endif
