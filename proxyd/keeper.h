/*
 * keeper.h - the process that knows the passwords of accounts
 *
 * Forked from the parent, like the roles of roles.h, when the configuration has
 * accounts. A relay asks it for one line of a SASL exchange and sends that line
 * to the account's server; it never gets a secret as such, though PLAIN, LOGIN
 * and XOAUTH2 are nothing else in base64 (THREATS.md).
 */
#ifndef SALLYPORT_KEEPER_H
#define SALLYPORT_KEEPER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf/conf.h"
#include "conf/secret.h"
#include "proxyd/proto.h"

struct table;

/* A challenge as it stands behind "334 "; CRAM-MD5's are about 60 octets. */
#define KEEPER_CHALLENGE_MAX ACCOUNT_CHALLENGE_MAX
/* An answer: a token with its user (RFC 7628) in base64. */
#define KEEPER_LINE_MAX 6144

/* relay -> keeper, SEQPACKET (ipc.h) */
struct keeper_ask {
	uint32_t number;	/* the relay's, returned with the answer */
	uint32_t account;	/* index into conf->accounts */
	uint32_t mechanism;	/* enum account_mechanism, not AUTO */
	uint32_t step;		/* challenges answered before this one */
	uint32_t len;
	char challenge[KEEPER_CHALLENGE_MAX];
};

enum keeper_status {
	KEEPER_OK,
	KEEPER_NO_SECRET,	/* its file could not be read */
	KEEPER_REFUSED,		/* the account does not use this mechanism */
	KEEPER_CHALLENGE,	/* not one of this mechanism's */
	KEEPER_FAILED,		/* out of memory */
	KEEPER_STATUS_COUNT
};

/* keeper -> relay */
struct keeper_answer {
	uint32_t number;
	uint32_t status;	/* enum keeper_status */
	uint32_t len;		/* of the line, without its end */
	char line[KEEPER_LINE_MAX];
};

/* ---- keeper_sasl.c: the answers, without any process ---- */

/* How many challenges of a login are answered. */
unsigned keeper_steps(enum account_mechanism mechanism);

/* Answer a question about this account; secret: what its file holds, len 0:
 * nothing. ask has been checked for nothing yet. */
void keeper_answer(const struct account_conf *a, const char *secret, size_t len,
	const struct keeper_ask *ask, struct keeper_answer *answer_r);

/* ---- keeper.c ---- */

struct keeper_start {
	const struct conf *conf;
	struct table *table;	/* only to give up the right to write it */
	int parent;		/* SEQPACKET, struct msg */
};

int keeper_main(const struct keeper_start *s);

#endif
