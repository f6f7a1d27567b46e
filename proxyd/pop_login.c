/*
 * pop_login.c - the name of the user who logs in by POP3
 *
 * For pop-before-smtp: reads it from USER, APOP and AUTH PLAIN as they pass, and
 * hands it on when the server has accepted the login. Other mechanisms carry a
 * name too, each in its own way; their logins count for nothing here. Keeps no
 * password: PLAIN's is decoded, looked past and wiped.
 *
 * Pure; called by pop3.c. The client controls every octet. What must hold: a name
 * is printable ASCII without blanks and short, or there is none, for it is going
 * to stand in an XCLIENT command; it belongs to the very command that the server
 * accepted, not to one before it that was refused; with PLAIN it is that of the
 * password, and who logs in as somebody else (authorization identity) is nobody.
 */
#include <openssl/evp.h>
#include <string.h>
#include <strings.h>

#include "proxyd/proto.h"
#include "proxyd/sasl.h"

/* Base64 of what may be in a name and a password; longer ones are not read. */
#define PLAIN_MAX 512

static void
take(struct pop_login *login, const uint8_t *p, size_t n)
{
	login->user[0] = '\0';
	if (n == 0 || n > POP_USER_MAX)
		return;
	for (size_t i = 0; i < n; i++)
		if (p[i] <= ' ' || p[i] >= 0x7f)
			return;
	memcpy(login->user, p, n);
	login->user[n] = '\0';
}

/* RFC 4616: [authzid] NUL authcid NUL passwd */
static void
take_clear(struct pop_login *login, const uint8_t *p, size_t n)
{
	const uint8_t *user = memchr(p, '\0', n), *end;
	size_t before = user == NULL ? 0 : (size_t)(user - p), len;

	if (user == NULL)
		return;
	user++;
	end = memchr(user, '\0', n - before - 1);
	if (end == NULL)
		return;
	len = (size_t)(end - user);
	if (before == 0 || (before == len && memcmp(p, user, len) == 0))
		take(login, user, len);
}

static void
take_plain(struct pop_login *login, const uint8_t *p, size_t n)
{
	uint8_t clear[PLAIN_MAX];
	int len;

	login->user[0] = '\0';
	if (n > PLAIN_MAX || !sasl_is_base64(p, n))
		return;
	len = EVP_DecodeBlock(clear, p, (int)n);
	if (len > 0)
		len -= (p[n - 1] == '=') + (p[n - 2] == '=');
	if (len > 0)
		take_clear(login, clear, (size_t)len);
	explicit_bzero(clear, sizeof(clear));
}

/* The word at *p, which moves behind it and one blank: two blanks are a name
 * that begins with one, to some servers. */
static size_t
word(const uint8_t **p, const uint8_t *end, const uint8_t **word_r)
{
	const uint8_t *at = *p;
	size_t n;

	*word_r = at;
	while (at < end && *at != ' ')
		at++;
	n = (size_t)(at - *word_r);
	*p = at < end ? at + 1 : end;
	return n;
}

static bool
is(const uint8_t *p, size_t n, const char *what)
{
	return n == strlen(what) && strncasecmp((const char *)p, what, n) == 0;
}

/* Nothing but a PASS may stand between a USER and its login: whatever else a
 * server makes of the name meanwhile, ours is then nobody's. */
void
pop_login_command(struct pop_login *login, const struct line *l)
{
	const uint8_t *p = l->text, *end = l->text + l->len, *verb, *arg, *more;
	size_t n = word(&p, end, &verb), len = word(&p, end, &arg), rest;

	login->is_plain = false;
	if (is(verb, n, "PASS"))
		return;
	login->user[0] = '\0';
	if (is(verb, n, "USER") && p == end && arg + len == end) {
		take(login, arg, len);
	} else if (is(verb, n, "APOP")) {
		rest = word(&p, end, &more);
		if (rest > 0 && more + rest == end)
			take(login, arg, len);
	} else if (is(verb, n, "AUTH") && is(arg, len, "PLAIN")) {
		rest = word(&p, end, &more);
		login->is_plain = arg + len == end;
		if (more + rest == end)
			take_plain(login, more, rest);
	}
}

void
pop_login_answer(struct pop_login *login, const struct line *l)
{
	login->user[0] = '\0';
	if (login->is_plain)
		take_plain(login, l->text, l->len);
	login->is_plain = false;
}

void
pop_login_refused(struct pop_login *login)
{
	login->user[0] = '\0';
	login->is_plain = false;
}

void
pop_login_accepted(const struct pop_login *login)
{
	if (login->user[0] != '\0')
		login->accepted(login->arg, login->user);
}
