/*
 * lines.h - how many sessions a line has, in all relays together
 */
#ifndef SALLYPORT_LINES_H
#define SALLYPORT_LINES_H

#include <stdint.h>

#include "zombie/line.h"

struct lines;

/* Shared anonymous memory, made by the parent before it forks; NULL: none. */
struct lines *lines_new(void);
void lines_free(struct lines **l);

/* In a relay: whose counts the following are. 1 to 255, of no other living
 * process; 0: none was left, and nothing is counted. */
void lines_own(struct lines *l, uint8_t owner);

/* One more; what all relays now hold, or 0 when there is no room to count. */
unsigned lines_enter(struct lines *l, const struct line_key *line);
/* One less of this owner's. */
void lines_leave(struct lines *l, const struct line_key *line);

/* In the parent: that process is dead, its sessions are gone. */
void lines_release(struct lines *l, uint8_t owner);

#endif
