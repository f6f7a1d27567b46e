/*
 * offer.h - does a server's own plain port offer STARTTLS?
 *
 * Asked once an address and port, by a short conversation of the relay's own,
 * and remembered: sessions show STARTTLS exactly when the port that the client
 * dialled has it (DESIGN.md section 7). A definite answer holds for an hour and
 * is then asked for again beside the sessions; a failure to ask holds for a
 * minute and never replaces a definite answer of the last day.
 */
#ifndef SALLYPORT_OFFER_H
#define SALLYPORT_OFFER_H

#include <sys/queue.h>

#include "proxyd/proto.h"

struct offers;
struct question;
struct relay;

/* Somebody who waits for an answer; woken once, never from offers_ask(). */
struct offer_waiter {
	TAILQ_ENTRY(offer_waiter) link;
	struct question *question;	/* NULL: does not wait */
	void (*wake)(struct offer_waiter *w, enum offer answer);
};

/* One a relay; NULL: no memory. */
struct offers *offers_new(struct relay *r);
void offers_free(struct offers **o);

/*
 * The answer for origin (port 110 or 143), or OFFER_UNKNOWN: w is woken with it
 * within seconds. w NULL: only begin to ask. line: whose session it is, without
 * port; the question comes from there as its session does.
 */
enum offer offers_ask(struct offers *o, const struct addr *origin,
	const struct addr *line, struct offer_waiter *w);

void offers_forget(struct offer_waiter *w);

/* ---- the conversation, pure ---- */

struct offer_talk {
	bool imap;
	uint8_t step;		/* begins with 0 */
	bool found;
	uint16_t lines;
};

/* One line of the server; what is to be said is appended to out. 1: over,
 * found is the answer; 0: goes on; -1: nothing that could be an answer. */
int offer_line(struct offer_talk *t, const struct line *l, struct sink *out);

#endif
