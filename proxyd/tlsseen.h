/*
 * tlsseen.h - what is known of TLS at servers that nobody has listed
 *
 * One memory for all relays: which of a host's plain ports has a TLS port beside
 * it, whether its certificate was one that a trusted authority vouches for, and
 * under which names. Clients choose the hosts; somebody on the way can lose a
 * packet or answer in the host's place. So (DESIGN.md section 7, TRAPS 57): that
 * there is no TLS is believed after two refusals a minute apart, never after
 * silence; that there is some is never forgotten for the sake of another host.
 */
#ifndef SALLYPORT_TLSSEEN_H
#define SALLYPORT_TLSSEEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/addr.h"

/* Seconds between two refusals that are believed; for how long silence, an alert
 * or nonsense lets sessions go on in the clear; how long "none" stands until it is
 * looked at again; between two alarms about one host. */
#define TLSSEEN_APART 60
#define TLSSEEN_UNCLEAR 60
#define TLSSEEN_NONE (6 * 3600)
#define TLSSEEN_ALARM 60

/* Names of a certificate that are looked at, and those that are kept. */
#define TLSSEEN_NAMES 64
#define TLSSEEN_KEPT 4

enum tls_plan {
	PLAN_CLEAR,	/* as if we were not there */
	PLAN_TRY,	/* TLS; in the clear if that is not to be had */
	PLAN_TLS	/* TLS or nothing */
};

enum tls_outcome {
	OUTCOME_VALID,		/* a trusted chain */
	OUTCOME_UNVERIFIED,	/* TLS, with a certificate nobody vouches for */
	OUTCOME_REFUSED,	/* the connection was */
	OUTCOME_UNCLEAR		/* silence, an alert, no mail server behind it */
};

enum tls_answer {
	ANSWER_GO_ON,
	ANSWER_REFUSE,		/* no TLS for now, where there was some */
	ANSWER_ALARM,		/* worse than before: refuse, and say so */
	ANSWER_ALARMED		/* the same, said within the last minute */
};

/* Hashes of the names of one certificate, in any order. */
struct tls_names {
	uint32_t hash[TLSSEEN_NAMES];
	size_t n;
};

struct tlsseen;

/* Shared anonymous memory, made by the parent before it forks; NULL: none. */
struct tlsseen *tlsseen_new(void);
void tlsseen_free(struct tlsseen **t);

/* One more name, of any case; what finds no room is left out. */
void tlsseen_name(const struct tlsseen *t, struct tls_names *names,
	const void *text, size_t len);

/* What to do about host (its plain port with it). now: seconds of
 * CLOCK_MONOTONIC. *is_new_r: nothing is known of it. */
enum tls_plan tlsseen_plan(const struct tlsseen *t, const struct addr *host,
	uint32_t now, bool *is_new_r);

/* What came of it, and what that means; names NULL: none, of OUTCOME_VALID
 * only. */
enum tls_answer tlsseen_note(struct tlsseen *t, const struct addr *host,
	enum tls_outcome outcome, const struct tls_names *names, uint32_t now);

#endif
