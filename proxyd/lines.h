/*
 * lines.h - how many sessions a line has in this relay
 */
#ifndef SALLYPORT_LINES_H
#define SALLYPORT_LINES_H

#include "zombie/line.h"

struct lines;

struct lines *lines_new(void);
void lines_free(struct lines **l);

/* One more; the number now held, or 0 without memory. */
unsigned lines_enter(struct lines *l, const struct line_key *line);
void lines_leave(struct lines *l, const struct line_key *line);

#endif
