/*
 * text.c - what a text in the configuration may look like
 *
 * Rules for names, host names, mail addresses, users, paths, addresses of web pages, reply
 * lines and interface patterns, each answered with the reason in words or
 * NULL. Changes nothing, opens nothing.
 *
 * Called by value.c for every text option. The configuration is trusted to
 * mean well but not to be right: many of these texts are later written into
 * SMTP replies, log lines, kernel rules and certificates' checks, where a CR,
 * a quote or a space would change the meaning of what follows. Refused here,
 * none of those places has to escape them.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "conf/blocktext.h"
#include "conf/option.h"

/* A reply line is "550-5.7.1 " + text + CRLF, at most 512 bytes (RFC 5321
 * section 4.5.3.1.5); 400 leaves room for the longest codes and an event id. */
#define LINE_MAX_TEXT 400

static const char letters_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	"abcdefghijklmnopqrstuvwxyz0123456789";

static bool
only(const char *text, const char *extra)
{
	for (; *text != '\0'; text++)
		if (strchr(letters_digits, *text) == NULL &&
			strchr(extra, *text) == NULL)
			return false;
	return true;
}

static bool
printable(const char *text)
{
	for (; *text != '\0'; text++)
		if ((unsigned char)*text < 0x20 || (unsigned char)*text > 0x7e)
			return false;
	return true;
}

/* RFC 1123 labels; the last one not all digits: that would be an address. */
bool
host_is_valid(const char *name)
{
	size_t len = strlen(name);
	const char *label = name, *dot = NULL;

	if (len == 0 || len > 253 || !only(name, "-."))
		return false;
	do {
		size_t n;

		if (dot != NULL)
			label = dot + 1;
		dot = strchr(label, '.');
		n = dot != NULL ? (size_t)(dot - label) : strlen(label);
		if (n == 0 || n > 63 || label[0] == '-' || label[n - 1] == '-')
			return false;
		if (dot == NULL && strspn(label, "0123456789") == n)
			return false;
	} while (dot != NULL);
	return true;
}

static const char *
line_wrong(const char *text)
{
	if (!printable(text))
		return "only printable ASCII without line breaks can be sent in "
			"a reply";
	if (strlen(text) > LINE_MAX_TEXT)
		return "a line of the text may have 400 characters";
	if (text[0] == '\0')
		return "an empty line";
	if (!blocktext_is_valid(text))
		return "an opening brace begins " BLOCKTEXT_NAMES;
	return NULL;
}

static const char *
url_wrong(const char *text)
{
	if (text[0] == '\0')
		return NULL;	/* none, e.g. in a class of its own */
	if (!printable(text) || strchr(text, ' ') != NULL)
		return "only printable ASCII without spaces and line breaks can "
			"be sent in a reply";
	if (strlen(text) > LINE_MAX_TEXT)
		return "longer than 400 characters";
	if (strncasecmp(text, "https://", 8) != 0 &&
		strncasecmp(text, "http://", 7) != 0)
		return "not an address of a web page";
	return NULL;
}

/* An addr-spec of RFC 5321 without quotes and literals: it goes into headers and
 * JSON as it is. */
static const char *
mailbox_wrong(const struct option *o, const char *text)
{
	const char *at = strrchr(text, '@');
	char local[65];

	if (at == NULL || at == text || (size_t)(at - text) >= sizeof(local) ||
	    (o->max != 0 && strlen(text) > (size_t)o->max) ||
	    !host_is_valid(at + 1))
		return "not a mail address";
	memcpy(local, text, (size_t)(at - text));
	local[at - text] = '\0';
	return only(local, "!#$%&'*+-/=?^_`{|}~.") && local[0] != '.' &&
		strstr(text, "..") == NULL && at[-1] != '.' ? NULL :
		"not a mail address";
}

/* IFNAMSIZ is 16 with the NUL; "+" alone would be every interface. */
static const char *
interface_wrong(const char *text)
{
	size_t len = strlen(text);

	if (len > 15)
		return "interface names have at most 15 characters";
	if (len == 0 || text[0] == '+' || text[0] == '-' ||
		!only(text, "._-:@+") || strcspn(text, "+") + 1 < len)
		return "not the name of an interface";
	return NULL;
}

static const char *
user_wrong(const char *text)
{
	size_t len = strlen(text);

	if (len == 0 || len > 32 || !only(text, "_-") || text[0] == '-' ||
		isdigit((unsigned char)text[0]))
		return "not a user name";
	if (strcmp(text, "root") == 0)
		return "these processes never run as root";
	return NULL;
}

static const char *
path_wrong(const struct option *o, const char *text)
{
	if (text[0] == '\0' || !printable(text))
		return "not a path";
	if (o->type == SOCKET && text[0] != '/')
		return "not an absolute path";
	if (o->max != 0 && strlen(text) > (size_t)o->max)
		return "too long for a socket";
	return NULL;
}

/* RFC 7469 writes pins like this: 32 octets in base64 are 43 characters and a
 * "=". */
static const char *
pin_wrong(const char *text)
{
	const char *base64 = text + 7;

	if (strncmp(text, "sha256/", 7) != 0)
		return "does not begin with sha256/";
	if (strlen(base64) != 44 || base64[43] != '=' ||
	    strspn(base64, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
		"0123456789+/") != 43 || strchr("AEIMQUYcgkosw048",
		base64[42]) == NULL)
		return "not the base64 of 32 octets";
	return NULL;
}

/* It stands between NULs and ^As, and in an answer to AUTH LOGIN. */
static const char *
login_wrong(const struct option *o, const char *text)
{
	if (text[0] == '\0' || !printable(text) ||
		strlen(text) > (size_t)o->max)
		return "not a user name";
	return NULL;
}

const char *
text_wrong(const struct option *o, const char *text)
{
	switch (o->type) {
	case NAME:
		if (text[0] == '\0' || strlen(text) > (size_t)o->max ||
			!only(text, "_-"))
			return "not a name";
		return NULL;
	case TEXT:
		return text[0] == '\0' || strlen(text) > (size_t)o->max ||
			!printable(text) ? "not such a text" : NULL;
	case MAILBOX:
		return mailbox_wrong(o, text);
	case HOST:
		return host_is_valid(text) ? NULL : "not a host name";
	case USER:
		return user_wrong(text);
	case PATH:
	case SOCKET:
	case TRUST:
		return path_wrong(o, text);
	case URL:
		return url_wrong(text);
	case LINES:
		return line_wrong(text);
	case INTERFACES:
		return interface_wrong(text);
	case PINS:
		return pin_wrong(text);
	case LOGIN:
		return login_wrong(o, text);
	default:
		return NULL;
	}
}

char *
path_resolve(const struct load *l, const char *path)
{
	size_t dir_len = strlen(l->dir), len = strlen(path) + 1;
	char *whole;

	if (path[0] == '/')
		return strdup(path);
	if ((whole = malloc(dir_len + 1 + len)) == NULL)
		return NULL;
	memcpy(whole, l->dir, dir_len);
	whole[dir_len] = '/';
	memcpy(whole + dir_len + 1, path, len);
	return whole;
}
