/*
 * tally.h - what a line has used of a quota, in all relays together
 *
 * Counts run in fixed windows of time: whoever spends one window's quota at its
 * end and the next one's at its beginning has twice the quota in a short while,
 * never more. A bucket that is full of other lines forgets the smallest count:
 * that line begins anew.
 */
#ifndef SALLYPORT_TALLY_H
#define SALLYPORT_TALLY_H

#include <stdint.h>

#include "zombie/line.h"

enum tally_kind {
	TALLY_RCPTS,		/* recipients named to a submission server */
	TALLY_MESSAGES,		/* messages that it took */
	TALLY_GUESSES,		/* passwords that it refused with 535 */
	TALLY_HOSTS,		/* new servers whose TLS port was tried */
	TALLY_COUNT
};

/* Seconds of a window: an hour for quotas, less for passwords, since a person
 * waits for its end. */
#define TALLY_HOUR 3600
#define TALLY_GUESS_WINDOW 900

struct tally;

/* Shared anonymous memory, made by the parent before it forks; NULL: none. */
struct tally *tally_new(void);
void tally_free(struct tally **t);

/* Count n more in the window of now (seconds of CLOCK_MONOTONIC); n 0: only
 * look. The count afterwards. */
unsigned tally_add(struct tally *t, const struct line_key *line,
	enum tally_kind kind, uint32_t now, unsigned n);

#endif
