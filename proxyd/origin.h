/*
 * origin.h - submission at servers that nobody has listed
 *
 * smtp.unknown_origin = "origin": a session of the submit action is carried to
 * port 465 or else 587 of the very host that the client dialled. Nobody knows its
 * name, so its certificate has to end at a trusted authority and may be for any
 * name; in the clear nothing goes there. What a host has is remembered; where it
 * has neither, the session and those of the next minutes are treated as block.
 */
#ifndef SALLYPORT_ORIGIN_H
#define SALLYPORT_ORIGIN_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/addr.h"
#include "proxyd/event.h"

struct session;
struct origins;

enum origin_port { ORIGIN_UNTRIED, ORIGIN_465, ORIGIN_587, ORIGIN_NONE };

/* How long an answer counts: mail programs come back for years, a server that
 * was down for minutes should not be taken for one without submission. */
#define ORIGIN_SECONDS (24 * 3600)
#define ORIGIN_NONE_SECONDS (15 * 60)

/* Hosts remembered by one relay; who dials many pushes out others, which costs
 * those one more attempt. */
#define ORIGINS_MAX 4096

/* NULL: no memory. */
struct origins *origins_new(void);
void origins_free(struct origins **o);
/* now: seconds of CLOCK_MONOTONIC. The port of host is not looked at. */
enum origin_port origins_find(const struct origins *o, const struct addr *host,
	int64_t now);
void origins_note(struct origins *o, const struct addr *host,
	enum origin_port port, int64_t now);

/* ---- a session of the submit action whose server is not listed ---- */

/* Make the server_conf of its origin. 0; 1: the host has no submission, block;
 * -1: no memory. */
int origin_open(struct session *s);
/* The connection to the server, or what it was to become, has failed: true when
 * something else goes on instead, false when that is not for us to mend. */
bool origin_failed(struct session *s, enum reason why);
/* TLS stands, and the certificate has been accepted. */
void origin_stands(struct session *s);

#endif
