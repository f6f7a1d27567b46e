/*
 * opportune.h - TLS to POP3 and IMAP servers that nobody has listed
 *
 * pop3.wrap, imap.wrap = "opportunistic": a session to such a server tries the TLS
 * port beside the one that was dialled, for two seconds, and is carried in the
 * clear where there is none. No name is known, so an unverified certificate is
 * taken too; but what a host once had it has to go on having (tlsseen.h).
 */
#ifndef SALLYPORT_OPPORTUNE_H
#define SALLYPORT_OPPORTUNE_H

#include <stdbool.h>

#include "proxyd/event.h"

struct session;

/* Milliseconds from the dialling until TLS stands, where it need not. */
#define OPPORTUNE_LIMIT 2000
/* New hosts of a line in an hour; further ones are carried in the clear. */
#define OPPORTUNE_NEW_MAX 20

/* Make the server_conf of its origin. 0; 1: in the clear; -1: no memory. */
int opportune_open(struct session *s);
/* Is it one that may still become a clear session? */
bool opportune_is_trying(const struct session *s);
/* The handshake is over: 0, or -1 when this is not what the host had; the session
 * has failed then. */
int opportune_check(struct session *s);
/* The client has been greeted. */
void opportune_stands(struct session *s);
/* The connection or what it was to become has failed: true when the session goes
 * on in the clear. */
bool opportune_failed(struct session *s, enum reason why);

#endif
