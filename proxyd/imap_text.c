/*
 * imap_text.c - the grammar of IMAP that a session needs before its login
 *
 * Cuts a client's line into tag, verb and first argument, a server's line into
 * its kind, status and capabilities, and writes lists of capabilities as the
 * client may see them. Does not decide anything, keeps nothing, and does not
 * know what a line means to the dialogue.
 *
 * Called by imap.c. Both sides control every octet. What is not understood is
 * IMAP_NONSENSE or false, never a guess; words compare whole, never by prefix.
 */
#include "proxyd/imap.h"

#include <string.h>
#include <strings.h>

#include "proxyd/sasl.h"

static size_t
word_len(const uint8_t *p, size_t n)
{
	size_t i = 0;

	while (i < n && p[i] != ' ')
		i++;
	return i;
}

static bool
is_word(const uint8_t *p, size_t n, const char *word)
{
	return n == strlen(word) && strncasecmp((const char *)p, word, n) == 0;
}

/* Past one word and the one space behind it. */
static void
skip_word(const uint8_t **p, size_t *n)
{
	size_t used = word_len(*p, *n);

	used += used < *n;
	*p += used;
	*n -= used;
}

/* RFC 9051: tag = 1*<any ASTRING-CHAR except "+">. */
static bool
is_tag(const uint8_t *p, size_t n)
{
	if (n == 0 || n > IMAP_TAG_MAX)
		return false;
	for (size_t i = 0; i < n; i++)
		if (p[i] <= ' ' || p[i] >= 0x7f || strchr("(){%*\"\\+", p[i]))
			return false;
	return true;
}

bool
imap_command(const struct line *l, struct imap_command *c_r)
{
	static const struct {
		const char *word;
		enum imap_verb verb;
	} table[] = {
		{ "LOGIN", IMAP_LOGIN },
		{ "AUTHENTICATE", IMAP_AUTHENTICATE },
		{ "STARTTLS", IMAP_STARTTLS },
		{ "LOGOUT", IMAP_LOGOUT },
		{ "COMPRESS", IMAP_COMPRESS },
	};
	const uint8_t *p = l->text;
	size_t n = l->len, verb_len;

	c_r->verb = IMAP_OTHER;
	c_r->tag = p;
	c_r->tag_len = word_len(p, n);
	if (!is_tag(p, c_r->tag_len))
		return false;
	skip_word(&p, &n);
	verb_len = word_len(p, n);
	if (verb_len == 0)
		return false;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (is_word(p, verb_len, table[i].word))
			c_r->verb = table[i].verb;
	skip_word(&p, &n);
	c_r->arg = p;
	c_r->arg_len = word_len(p, n);
	return true;
}

/* "[CAPABILITY list]" at the start of a status text (RFC 9051 section 7.1). */
static bool
find_code(struct imap_response *r)
{
	static const char code[] = "[CAPABILITY";
	const size_t n = sizeof(code) - 1;
	const uint8_t *end;

	if (r->text_len < n || strncasecmp((const char *)r->text, code, n) != 0)
		return true;
	if (r->text_len > n && r->text[n] != ' ' && r->text[n] != ']')
		return true;
	end = memchr(r->text, ']', r->text_len);
	if (end == NULL)
		return false;
	r->list = r->text + n;
	r->list_len = (size_t)(end - r->list);
	return true;
}

static bool
find_status(struct imap_response *r, const uint8_t *p, size_t n)
{
	static const char *const words[] = { "OK", "NO", "BAD", "BYE",
		"PREAUTH" };
	size_t len = word_len(p, n);

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (is_word(p, len, words[i])) {
			r->kind = IMAP_STATUS;
			r->status = (enum imap_status)i;
			skip_word(&p, &n);
			r->text = p;
			r->text_len = n;
			return true;
		}
	return false;
}

bool
imap_response(const struct line *l, struct imap_response *r_r)
{
	const uint8_t *p = l->text;
	size_t n = l->len;

	memset(r_r, 0, sizeof(*r_r));
	r_r->kind = IMAP_NONSENSE;
	if (n > 0 && p[0] == '+' && (n == 1 || p[1] == ' ')) {
		r_r->kind = IMAP_CONTINUATION;
		return true;
	}
	r_r->tag = p;
	r_r->tag_len = word_len(p, n);
	r_r->tagged = is_tag(p, r_r->tag_len);
	if (!r_r->tagged && !is_word(p, r_r->tag_len, "*"))
		return true;
	skip_word(&p, &n);
	if (find_status(r_r, p, n)) {
		/* PREAUTH and BYE are never tagged */
		if (r_r->tagged && r_r->status > IMAP_BAD)
			r_r->kind = IMAP_NONSENSE;
		return find_code(r_r);
	}
	if (r_r->tagged || n == 0)
		return true;
	r_r->kind = IMAP_DATA;
	if (!is_word(p, word_len(p, n), "CAPABILITY"))
		return true;
	r_r->kind = IMAP_CAPABILITY;
	skip_word(&p, &n);
	r_r->text = r_r->list = p;
	r_r->text_len = r_r->list_len = n;
	return true;
}

bool
imap_list_has(const uint8_t *list, size_t n, const char *word)
{
	while (n > 0) {
		if (is_word(list, word_len(list, n), word))
			return true;
		skip_word(&list, &n);
	}
	return false;
}

/* binds: sasl_binds() of the list, where it matters. */
static bool
is_shown(const uint8_t *p, size_t n, unsigned show, bool binds)
{
	const bool no_login = (show & IMAP_SHOW_NO_LOGIN) != 0;

	/* no atom (RFC 9051 section 9), and in a status text the end of the list:
	 * "STARTTLS]" would be read as offered by us */
	if (memchr(p, ']', n) != NULL || is_word(p, n, "STARTTLS"))
		return false;
	if (n < 5 || strncasecmp((const char *)p, "AUTH=", 5) != 0)
		return !no_login || !is_word(p, n, "LOGINDISABLED");
	if (no_login)
		return false;
	return sasl_passes(p + 5, n - 5) && !(binds && sasl_is_scram(p + 5,
		n - 5));
}

void
imap_print_list(const uint8_t *list, size_t n, unsigned show, struct sink *out)
{
	const bool binds = (show & IMAP_SHOW_TLS) && sasl_binds(list, n);

	while (n > 0) {
		size_t len = word_len(list, n);

		if (len > 0 && is_shown(list, len, show, binds)) {
			sink_bytes(out, " ", 1);
			sink_bytes(out, list, len);
		}
		skip_word(&list, &n);
	}
	if (show & IMAP_SHOW_STARTTLS)
		sink_text(out, " STARTTLS");
	if (show & IMAP_SHOW_NO_LOGIN)
		sink_text(out, " LOGINDISABLED");
}

void
imap_print_response(const struct line *l, const struct imap_response *r,
	unsigned show, struct sink *out)
{
	const uint8_t *end = l->text + l->len;

	if (r->list == NULL) {
		sink_bytes(out, l->text, l->len);
	} else if (r->kind == IMAP_CAPABILITY) {
		sink_text(out, "* CAPABILITY");
		imap_print_list(r->list, r->list_len, show, out);
	} else {
		const uint8_t *behind = r->list + r->list_len;

		sink_bytes(out, l->text, (size_t)(r->list - l->text));
		imap_print_list(r->list, r->list_len, show, out);
		sink_bytes(out, behind, (size_t)(end - behind));
	}
	sink_bytes(out, "\r\n", 2);
}
