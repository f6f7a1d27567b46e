/*
 * logins.h - which user of a line has just logged in by POP3, in all relays
 *
 * For pop-before-smtp: line, customer, server and user name until an instant, never a
 * password. In memory that all relays share, so that any of them may have seen
 * the login. A bucket that is full of others forgets what ends first.
 */
#ifndef SALLYPORT_LOGINS_H
#define SALLYPORT_LOGINS_H

#include <stdbool.h>
#include <stdint.h>

#include "proxyd/proto.h"
#include "zombie/line.h"

struct logins;

/* Shared anonymous memory, made by the parent before it forks; NULL: none. */
struct logins *logins_new(void);
void logins_free(struct logins **t);

/* server: its name. customer: of the line's record, 0: nobody in particular; who
 * has the line after a change of lease has logged in nowhere. until: seconds of
 * CLOCK_MONOTONIC; a login before it of the same three is forgotten. user:
 * pop_login.c has checked it. */
void logins_note(struct logins *t, const struct line_key *line,
	uint32_t customer, const char *server, const char *user, uint32_t until);

/* Whose login counts now? false: nobody's. */
bool logins_find(const struct logins *t, const struct line_key *line,
	uint32_t customer, const char *server, uint32_t now, char user[POP_USER_MAX + 1]);

#endif
