/*
 * logbook.h - what becomes of sessions' reports on their way to the log
 *
 * One line a session; after log.per_minute lines of one kind from one line in a
 * minute, one summary for the rest of it. Addresses are shortened as
 * log.destination and log.envelope say; successful wraps are left out unless
 * log.wraps. No clock, no descriptor: the caller has both.
 */
#ifndef SALLYPORT_LOGBOOK_H
#define SALLYPORT_LOGBOOK_H

#include <stdint.h>

#include "proxyd/event.h"

struct conf;
struct logbook;

/* write gets finished lines, with their syslog level. NULL: no memory. */
struct logbook *logbook_new(const struct conf *c,
	void (*write)(void *arg, int level, const char *line), void *arg);
/* Writes the summaries that are due, then frees. */
void logbook_free(struct logbook **b, int64_t now);

/* A checked report. now: Unix time; minutes are the clock's own. */
void logbook_take(struct logbook *b, const struct report *e, int64_t now);
/* Summaries of minutes that are over; to be called every few seconds. */
void logbook_tick(struct logbook *b, int64_t now);

#endif
