/*
 * envelope.c - the addresses of a mail, for the log of who wants them there
 *
 * Does: take the path out of MAIL and RCPT, shorten it, make a pseudonym of it.
 * Does not: judge an address or decide whether it is logged.
 *
 * envelope_note is called with a client's own octets, envelope_text with what
 * a relay, which may be taken over, says they were: both are only copied. The
 * caller escapes.
 */
#include "proxyd/envelope.h"

#include <ctype.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "proxyd/smtp.h"

#define DAY 86400

/* "TO:<a@b>", "TO: a@b NOTIFY=NEVER": the path, in place; 0: none. */
static size_t
find_path(const struct command *c, const char *word, const uint8_t **path_r)
{
	const uint8_t *p = c->arg, *stop;
	size_t n = c->arg_len, skip = strlen(word);
	bool is_quoted;

	if (n < skip || strncasecmp((const char *)p, word, skip) != 0)
		return 0;
	while (skip < n && p[skip] == ' ')
		skip++;
	is_quoted = skip < n && p[skip] == '<';
	p += skip + is_quoted;
	n -= skip + is_quoted;
	if (n == 0)
		return 0;
	stop = memchr(p, is_quoted ? '>' : ' ', n);
	if (stop == p && is_quoted) {	/* the null sender stays visible */
		*path_r = p - 1;
		return 2;
	}
	*path_r = p;
	return stop != NULL ? (size_t)(stop - p) : n;
}

void
envelope_note(struct envelope *v, const struct command *c)
{
	struct envelope_address *a = c->verb == VERB_MAIL ? &v->from : &v->to;
	const uint8_t *p = NULL;
	size_t n;

	if ((c->verb != VERB_MAIL && c->verb != VERB_RCPT) || a->len > 0)
		return;
	n = find_path(c, c->verb == VERB_MAIL ? "FROM:" : "TO:", &p);
	if (n == 0)
		return;
	if (n > sizeof(a->text))
		n = sizeof(a->text);
	memcpy(a->text, p, n);
	a->len = (uint8_t)n;
}

static void
pseudonym(const char *text, size_t n, const struct envelope_key *k,
	char out[ENVELOPE_MAX + 1])
{
	uint8_t lower[ENVELOPE_MAX], mac[EVP_MAX_MD_SIZE];
	unsigned len = 0;

	for (size_t i = 0; i < n; i++)
		lower[i] = (uint8_t)tolower((unsigned char)text[i]);
	if (HMAC(EVP_sha256(), k->key, sizeof(k->key), lower, n, mac, &len) ==
	    NULL)
		return;
	for (size_t i = 0; i < 8; i++)
		snprintf(out + 2 * i, 3, "%02x", mac[i]);
}

void
envelope_text(const struct envelope_address *a, enum log_envelope how,
	struct envelope_key *k, int64_t now, char out[ENVELOPE_MAX + 1])
{
	const char *at = NULL;
	size_t n = a->len;

	out[0] = '\0';
	if (n == 0 || how == LOG_ENVELOPE_NONE)
		return;
	for (size_t i = 0; i < n; i++)
		if (a->text[i] == '@')
			at = a->text + i + 1;
	if (how == LOG_ENVELOPE_FULL || (n == 2 && memcmp(a->text, "<>", 2) == 0)) {
		memcpy(out, a->text, n);
		out[n] = '\0';
	} else if (how == LOG_ENVELOPE_DOMAIN && at != NULL) {
		n -= (size_t)(at - a->text);
		memcpy(out, at, n);
		out[n] = '\0';
	} else if (how == LOG_ENVELOPE_HASH) {
		if (k->day != now / DAY && RAND_bytes(k->key, sizeof(k->key)) == 1)
			k->day = now / DAY;
		if (k->day == now / DAY)
			pseudonym(a->text, n, k, out);
	}
}
