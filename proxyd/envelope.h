/*
 * envelope.h - the addresses of a mail, for the log of who wants them there
 *
 * log.envelope = "none" (the default): nothing is noted and no memory is taken.
 * Otherwise a session keeps the first sender and the first recipient that its
 * client names; control writes of them what the option says.
 */
#ifndef SALLYPORT_ENVELOPE_H
#define SALLYPORT_ENVELOPE_H

#include <stddef.h>
#include <stdint.h>

#include "conf/conf.h"

struct command;

/* RFC 5321 section 4.5.3.1.3 has 256 octets for a path; what is longer than
 * this is shortened: enough to tell who is meant. */
#define ENVELOPE_MAX 128

struct envelope_address {
	uint8_t len;		/* 0: none yet */
	char text[ENVELOPE_MAX];	/* without <>; the null sender is "<>" */
};

struct envelope {
	struct envelope_address from, to;
};

/* A MAIL or RCPT command; others leave nothing. */
void envelope_note(struct envelope *v, const struct command *c);

/* The key of one day's pseudonyms, which nobody can look up once it is gone. */
struct envelope_key {
	int64_t day;		/* of Unix time; 0: none made yet */
	uint8_t key[32];
};

/*
 * What the log says of an address: all of it, its domain, or a pseudonym: the
 * first 64 bits of HMAC-SHA256 over the address in lower case, in hexadecimal,
 * the same for one (UTC) day and one run of the process. k is made anew when
 * now lies in another day. "" when there is nothing to say.
 */
void envelope_text(const struct envelope_address *a, enum log_envelope how,
	struct envelope_key *k, int64_t now, char out[ENVELOPE_MAX + 1]);

#endif
