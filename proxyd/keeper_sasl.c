/*
 * keeper_sasl.c - what an account answers to a SASL challenge
 *
 * PLAIN (RFC 4616), LOGIN, CRAM-MD5 (RFC 2195) and XOAUTH2, each as one line of
 * base64. Pure: account, secret and challenge in, a line out; nothing is kept,
 * and what was put together on the way is wiped.
 *
 * Called by keeper.c. The question comes from a relay, which may have been taken
 * over, and its challenge from a server: any octets. What must hold: an account
 * answers only in a mechanism that the configuration lets it use, so that with
 * cram-md5 nobody can ask for the password.
 */
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <string.h>

#include "proxyd/keeper.h"
#include "proxyd/sasl.h"

/* "user=U^Aauth=Bearer T^A^A" with the longest U and T. */
#define CLEAR_MAX (SECRET_MAX + 254 + 32)

_Static_assert(4 * ((CLEAR_MAX + 2) / 3) < KEEPER_LINE_MAX,
	"the longest answer and its NUL have room");

struct clear {
	uint8_t octets[CLEAR_MAX];
	size_t len;
};

static void
put(struct clear *c, const char *p, size_t n)
{
	if (n > sizeof(c->octets) - c->len)
		n = sizeof(c->octets) - c->len;
	memcpy(c->octets + c->len, p, n);
	c->len += n;
}

static void
put_text(struct clear *c, const char *text)
{
	put(c, text, strlen(text));
}

/* The octets behind a challenge; -1: none. */
static int
decode(const struct keeper_ask *ask, uint8_t out[KEEPER_CHALLENGE_MAX])
{
	const char *p = ask->challenge;
	int n;

	if (!sasl_is_base64((const uint8_t *)p, ask->len))
		return -1;
	n = EVP_DecodeBlock(out, (const uint8_t *)p, (int)ask->len);
	if (n < 0)
		return -1;
	n -= p[ask->len - 1] == '=';
	n -= p[ask->len - 2] == '=';
	return n;
}

/* RFC 2195: user, blank, keyed MD5 of the challenge in hexadecimal. */
static enum keeper_status
cram_md5(const struct account_conf *a, const char *secret, size_t len,
	const struct keeper_ask *ask, struct clear *c)
{
	uint8_t challenge[KEEPER_CHALLENGE_MAX], digest[EVP_MAX_MD_SIZE];
	int n = decode(ask, challenge);
	unsigned size = 0;
	char hex[3];

	if (n <= 0)
		return KEEPER_CHALLENGE;
	if (HMAC(EVP_md5(), secret, (int)len, challenge, (size_t)n, digest,
		&size) == NULL)
		return KEEPER_FAILED;
	put_text(c, a->user);
	put_text(c, " ");
	for (unsigned i = 0; i < size; i++) {
		snprintf(hex, sizeof(hex), "%02x", digest[i]);
		put_text(c, hex);
	}
	explicit_bzero(digest, sizeof(digest));
	return KEEPER_OK;
}

static enum keeper_status
compose(const struct account_conf *a, const char *secret, size_t len,
	const struct keeper_ask *ask, struct clear *c)
{
	switch (ask->mechanism) {
	case MECHANISM_PLAIN:
		put(c, "", 1);
		put_text(c, a->user);
		put(c, "", 1);
		put(c, secret, len);
		return KEEPER_OK;
	case MECHANISM_LOGIN:	/* whatever the two questions are called */
		if (ask->step == 0)
			put_text(c, a->user);
		else
			put(c, secret, len);
		return KEEPER_OK;
	case MECHANISM_CRAM_MD5:
		return cram_md5(a, secret, len, ask, c);
	default:
		put_text(c, "user=");
		put_text(c, a->user);
		put_text(c, "\001auth=Bearer ");
		put(c, secret, len);
		put_text(c, "\001\001");
		return KEEPER_OK;
	}
}

unsigned
keeper_steps(enum account_mechanism mechanism)
{
	return mechanism == MECHANISM_LOGIN ? 2 : 1;
}

/* May this account be asked for that? */
static bool
is_its_own(const struct account_conf *a, uint32_t mechanism)
{
	if (mechanism == MECHANISM_AUTO || mechanism >= MECHANISM_COUNT ||
	    (mechanism == MECHANISM_XOAUTH2) != (a->token_file != NULL))
		return false;
	return a->mechanism == MECHANISM_AUTO || a->mechanism == mechanism;
}

void
keeper_answer(const struct account_conf *a, const char *secret, size_t len,
	const struct keeper_ask *ask, struct keeper_answer *answer_r)
{
	struct clear clear = { .len = 0 };

	memset(answer_r, 0, sizeof(*answer_r));
	answer_r->number = ask->number;
	if (!is_its_own(a, ask->mechanism))
		answer_r->status = KEEPER_REFUSED;
	else if (ask->len > sizeof(ask->challenge) || ask->step >=
		keeper_steps((enum account_mechanism)ask->mechanism))
		answer_r->status = KEEPER_CHALLENGE;
	else if (len == 0 || len > account_secret_max(a))
		answer_r->status = KEEPER_NO_SECRET;
	else
		answer_r->status = compose(a, secret, len, ask, &clear);
	if (answer_r->status == KEEPER_OK)
		answer_r->len = (uint32_t)EVP_EncodeBlock(
			(uint8_t *)answer_r->line, clear.octets,
			(int)clear.len);
	explicit_bzero(&clear, sizeof(clear));
}
