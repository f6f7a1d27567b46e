/*
 * value.c - the types of options: read one value, write it back, free it
 *
 * Each type has a reader (setting to structure member, checked), a writer
 * (member to setting) and a description of what it accepts; the three stand
 * beside each other so that `sallyport check` prints what would be read.
 * Does not know which options exist: offsets, ranges and words come from the
 * row. Opens no file, except that the trust file is tried by conf.c.
 *
 * Called by option.c. Values come from the operator's file.
 *
 * Must hold: after a refused element of a list its place stays, all zero, so
 * that elements and settings can be walked side by side; the configuration is
 * not used after an error.
 */
#include <openssl/ssl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "conf/allow.h"
#include "conf/conf.h"
#include "conf/option.h"

static void *
member(const struct option *o, void *owner)
{
	return (char *)owner + o->offset;
}

static const void *
member_of(const struct option *o, const void *owner)
{
	return (const char *)owner + o->offset;
}

const char *
word_at(const char *words, unsigned n, char out[32], bool *later_r)
{
	size_t len;

	while (n-- > 0) {
		words += strcspn(words, " ");
		words += strspn(words, " ");
	}
	*later_r = *words == '!';
	words += *later_r;
	len = strcspn(words, " ");
	if (len == 0 || len > 31)
		return NULL;
	memcpy(out, words, len);
	out[len] = '\0';
	return out;
}

/* ---- what is accepted, in words ---- */

static void
words_expected(const struct option *o, char *out, size_t cap)
{
	char word[32];
	bool later;
	size_t len = 0;

	out[0] = '\0';
	for (unsigned i = 0; word_at(o->words, i, word, &later) != NULL; i++)
		if (!later && len < cap)
			len += (size_t)snprintf(out + len, cap - len, "%s\"%s\"",
				len == 0 ? "" : ", ", word);
}

const char *
option_expects(const struct option *o, char *out, size_t cap)
{
	static const char *const text[] = {
		[GROUP] = "a group { ... }",
		[GROUPS] = "a list of groups ( { ... }, { ... } )",
		[LATER] = "nothing: not available in this version",
		[BOOL] = "true or false",
		[TEXT] = "1 to 200 characters of printable ASCII",
		[MAILBOX] = "one mail address like abuse@isp.example",
		[HOST] = "a host name",
		[USER] = "a user name, not root",
		[PATH] = "the path of a file",
		[SOCKET] = "an absolute path of at most 107 characters",
		[URL] = "an address that begins with https:// or http://",
		[LINES] = ("a list of 1 to 8 texts, each 1 to 400 characters "
			"of printable ASCII"),
		[INTERFACES] = ("a list of interface names like ( \"eth1\", "
			"\"ppp+\" )"),
		[PREFIXES] = ("a list of prefixes like ( \"198.18.0.0/16\", "
			"\"2001:db8::/32\" )"),
		[ADDRESSES] = ("a list of ordinary addresses like "
			"( \"203.0.113.25\", \"2001:db8::25\" )"),
		[PLACES] = ("a list of hosts' addresses like "
			"( \"203.0.113.25\", \"2001:db8::25\" )"),
		[PLACE] = "the address of a host, without port",
		[DESTINATIONS] = "a list of \"own\" and prefixes",
		[PORTS] = "\"LOW-HIGH\" with 1024 <= LOW <= HIGH <= 65535",
		[MARK] = ("\"VALUE/MASK\" like \"0x2500/0xff00\", VALUE not "
			"zero and inside MASK, also after adding once and twice "
			"MASK's lowest bit"),
		[CODE] = "\"5yz 5.y.z\" like \"550 5.7.1\"",
		[SOFT] = ("\"0h\", or an instant of RFC 3339 like "
			"\"2026-07-01T06:00:00Z\""),
		[TRUST] = "\"system\" or the path of a PEM file",
		[LOGIN] = ("1 to 254 characters of printable ASCII"),
		[PINS] = ("a list of 2 to 8 texts like \"sha256/BASE64\", the "
			"SHA-256 of a public key"),
	};

	if (o->type == UINT || o->type == PORT)
		snprintf(out, cap, "a whole number from %ld to %ld", o->min,
			o->max);
	else if (o->type == TENTHS)
		snprintf(out, cap, "a number from %ld to %ld, like 9.2",
			o->min / 10, o->max / 10);
	else if (o->type == NAME)
		snprintf(out, cap, "1 to %ld letters, digits, - and _", o->max);
	else if (o->type == ENDPOINT)
		snprintf(out, cap, "\"tls:PORT\"%s",
			strstr(o->words, "plain") != NULL ?
			", \"starttls:PORT\" or, with addresses, \"plain:PORT\"" :
			" or \"starttls:PORT\"");
	else if (o->type == WORD || o->type == FLAG || o->type == TLS_VERSION)
		words_expected(o, out, cap);
	else
		snprintf(out, cap, "%s", text[o->type]);
	return out;
}

/* ---- readers ---- */

static int
refuse(struct load *l, const struct option *o, const config_setting_t *s,
	const char *why)
{
	complain_value(l, o, s, why);
	return -1;
}

static int
read_number(struct load *l, const struct option *o, config_setting_t *s,
	void *owner)
{
	int type = config_setting_type(s);
	long long n = config_setting_get_int64(s);

	if (type != CONFIG_TYPE_INT && type != CONFIG_TYPE_INT64)
		return refuse(l, o, s, NULL);
	if (n < o->min || n > o->max)
		return refuse(l, o, s, "out of range");
	if (o->type == PORT)
		*(uint16_t *)member(o, owner) = (uint16_t)n;
	else
		*(unsigned *)member(o, owner) = (unsigned)n;
	return 0;
}

static int
read_tenths(struct load *l, const struct option *o, config_setting_t *s,
	void *owner)
{
	double x = config_setting_type(s) == CONFIG_TYPE_FLOAT ?
		config_setting_get_float(s) : (double)config_setting_get_int64(s);

	if (!config_setting_is_number(s))
		return refuse(l, o, s, NULL);
	if (!(x * 10 > (double)o->min - 0.5 && x * 10 < (double)o->max + 0.5))
		return refuse(l, o, s, "out of range");
	*(unsigned *)member(o, owner) = (unsigned)(x * 10 + 0.5);
	return 0;
}

static int
read_word(struct load *l, const struct option *o, config_setting_t *s,
	void *owner)
{
	const char *text = config_setting_get_string(s);
	char word[32], expects[256];
	bool later;
	int i = 0;

	if (text == NULL)
		return refuse(l, o, s, NULL);
	while (word_at(o->words, (unsigned)i, word, &later) != NULL &&
		strcmp(word, text) != 0)
		i++;
	if (word_at(o->words, (unsigned)i, word, &later) == NULL)
		return refuse(l, o, s, NULL);
	if (later) {
		complain_at(l, s, "%s = \"%s\" is not available in this "
			"version; remove it, or use %s", o->path, text,
			option_expects(o, expects, sizeof(expects)));
		return -1;
	}
	if (o->offset == NOWHERE)
		return 0;
	if (o->type == FLAG)
		*(bool *)member(o, owner) = i != 0;
	else if (o->type == TLS_VERSION)
		*(unsigned *)member(o, owner) = i == 0 ? TLS1_2_VERSION :
			TLS1_3_VERSION;
	else
		*(int *)member(o, owner) = i;
	return 0;
}

static int
read_text(struct load *l, const struct option *o, config_setting_t *s,
	void *owner)
{
	const char *text = config_setting_get_string(s), *why;
	char **slot = member(o, owner);

	if (text == NULL)
		return refuse(l, o, s, NULL);
	if ((why = text_wrong(o, text)) != NULL)
		return refuse(l, o, s, why);
	free(*slot);
	*slot = NULL;
	if (o->type == URL && text[0] == '\0')
		return 0;
	if (o->type == PATH || (o->type == TRUST && strcmp(text, "system") != 0))
		*slot = path_resolve(l, text);
	else
		*slot = strdup(text);
	if (*slot == NULL)
		return refuse(l, o, s, "out of memory");
	/* Names are compared and looked up as they are kept. */
	for (char *c = *slot; o->type == HOST && *c != '\0'; c++)
		if (*c >= 'A' && *c <= 'Z')
			*c = (char)(*c - 'A' + 'a');
	return 0;
}

/* "N" in a base, whole text. */
static int
whole_number(const char *text, size_t len, int base, unsigned long max,
	unsigned long *n_r)
{
	char digits[24], *end;

	if (len == 0 || len >= sizeof(digits) ||
		strchr("0123456789", text[0]) == NULL)
		return -1;
	memcpy(digits, text, len);
	digits[len] = '\0';
	*n_r = strtoul(digits, &end, base);
	return *end != '\0' || *n_r > max ? -1 : 0;
}

/* "A<sep>B" of two numbers. */
static int
two_numbers(const char *text, char sep, int base, unsigned long max,
	unsigned long n_r[2])
{
	const char *at = text != NULL ? strchr(text, sep) : NULL;

	if (at == NULL || whole_number(text, (size_t)(at - text), base, max,
			&n_r[0]) < 0)
		return -1;
	return whole_number(at + 1, strlen(at + 1), base, max, &n_r[1]);
}

static int
read_ports(struct load *l, const struct option *o, config_setting_t *s,
	void *owner)
{
	uint16_t *port = member(o, owner);
	unsigned long n[2];

	if (two_numbers(config_setting_get_string(s), '-', 10, 65535, n) < 0)
		return refuse(l, o, s, NULL);
	if (n[0] < (unsigned long)o->min || n[0] > n[1])
		return refuse(l, o, s, "out of range");
	port[0] = (uint16_t)n[0];
	port[1] = (uint16_t)n[1];
	return 0;
}

static int
read_mark(struct load *l, const struct option *o, config_setting_t *s,
	void *owner)
{
	struct conf *c = owner;
	unsigned long n[2];
	uint64_t own, reset;

	if (two_numbers(config_setting_get_string(s), '/', 0, UINT32_MAX, n) < 0)
		return refuse(l, o, s, NULL);
	own = (uint64_t)n[0] + (n[1] & -n[1]);
	reset = own + (n[1] & -n[1]);
	if (n[0] == 0 || (n[0] & ~n[1]) != 0 ||
		((own | reset) & ~(uint64_t)n[1]) != 0)
		return refuse(l, o, s, "does not fit");
	c->mark = (uint32_t)n[0];
	c->mark_mask = (uint32_t)n[1];
	c->mark_own = (uint32_t)own;
	c->mark_reset = (uint32_t)reset;
	return 0;
}

/* "5.7.1": class 5, then two numbers of one to three digits (RFC 3463). */
static bool
esc_is_valid(const char *esc)
{
	unsigned long n[2];

	return strlen(esc) <= 9 && strncmp(esc, "5.", 2) == 0 &&
		two_numbers(esc + 2, '.', 10, 999, n) == 0;
}

static int
read_code(struct load *l, const struct option *o, config_setting_t *s,
	void *owner)
{
	/* the code is a member of a block_conf; so is what belongs to it */
	struct block_conf *b = (struct block_conf *)((char *)member(o, owner) -
		offsetof(struct block_conf, code));
	const char *text = config_setting_get_string(s);
	unsigned long code;

	if (text == NULL || strlen(text) < 5 || text[3] != ' ' ||
		whole_number(text, 3, 10, 599, &code) < 0 ||
		!esc_is_valid(text + 4))
		return refuse(l, o, s, NULL);
	/* RFC 5321 section 4.2: second digit 0 to 5 */
	if (code < 500 || code % 100 > 59)
		return refuse(l, o, s, "not a permanent reply code");
	if (code == 521)
		return refuse(l, o, s, "521 is for hosts that never take mail "
			"(RFC 7504)");
	if (code >= 530 && code <= 539)
		return refuse(l, o, s, "mail programs answer 53x by asking for "
			"the password again");
	b->code = (unsigned)code;
	snprintf(b->esc, sizeof(b->esc), "%s", text + 4);
	return 0;
}

/* A span alone would have to remember since when: say which instant it is. */
static int
read_soft(struct load *l, const struct option *o, config_setting_t *s,
	void *owner)
{
	const char *text = config_setting_get_string(s);
	int64_t *until = member(o, owner);
	unsigned long hours;
	char why[96];
	struct tm tm;
	time_t at;

	if (text == NULL)
		return refuse(l, o, s, NULL);
	if (strcmp(text, "0h") == 0) {
		*until = 0;
		return 0;
	}
	if (allow_time(text, until) == 0 && *until > 0)
		return 0;
	*until = 0;
	if (text[0] == '\0' || text[strlen(text) - 1] != 'h' ||
		whole_number(text, strlen(text) - 1, 10, 8760, &hours) < 0)
		return refuse(l, o, s, NULL);
	at = time(NULL) + (time_t)hours * 3600;
	strftime(why, sizeof(why), "a span has no beginning; from now on it "
		"ends at %Y-%m-%dT%H:%M:%SZ", gmtime_r(&at, &tm));
	return refuse(l, o, s, why);
}

static int
read_endpoint(struct load *l, const struct option *o, config_setting_t *s,
	void *owner)
{
	struct endpoint *e = member(o, owner);
	const char *text = config_setting_get_string(s);
	const char *colon = text != NULL ? strchr(text, ':') : NULL;
	unsigned long port;
	char word[32];
	bool later;

	if (colon == NULL || whole_number(colon + 1, strlen(colon + 1), 10,
			65535, &port) < 0 || port == 0)
		return refuse(l, o, s, NULL);
	if (port == 25)
		return refuse(l, o, s, "port 25 is no such service's port");
	/* the words are in the order of enum tls_mode, behind TLS_NONE */
	for (unsigned i = 0; word_at(o->words, i, word, &later) != NULL; i++)
		if (strlen(word) == (size_t)(colon - text) &&
			strncmp(text, word, strlen(word)) == 0) {
			e->mode = (enum tls_mode)(i + 1);
			e->port = (uint16_t)port;
			return 0;
		}
	return refuse(l, o, s, NULL);
}

/* ---- lists ---- */

/* One element into its slot: 1 kept, 0 kept elsewhere, -1 refused. */
typedef int element_reader(struct load *l, const struct option *o,
	config_setting_t *elem, void *slot);

static int
read_prefix(struct load *l, const struct option *o, config_setting_t *elem,
	void *slot)
{
	struct prefix *p = slot;
	const char *why;

	if (prefix_parse(p, config_setting_get_string(elem), &why) < 0)
		return refuse(l, o, elem, why);
	if (p->len == 0) {
		memset(p, 0, sizeof(*p));
		return refuse(l, o, elem, "covers every address");
	}
	return 1;
}

static int
read_destination(struct load *l, const struct option *o,
	config_setting_t *elem, void *slot)
{
	if (strcmp(config_setting_get_string(elem), "own") != 0)
		return read_prefix(l, o, elem, slot);
	l->conf->pass_own = true;
	return 0;
}

static int
read_address(struct load *l, const struct option *o, config_setting_t *elem,
	void *slot)
{
	struct addr *a = slot, parsed;
	char why[64];

	if (addr_parse(&parsed, config_setting_get_string(elem)) < 0 ||
		parsed.port != 0)
		return refuse(l, o, elem, "not an IP address");
	if (addr_special(&parsed) != NULL) {
		snprintf(why, sizeof(why), "a %s address",
			addr_special(&parsed));
		return refuse(l, o, elem, why);
	}
	*a = parsed;
	return 1;
}

/* Inside a network of one's own private addresses and loopback are ordinary. */
static int
read_place(struct load *l, const struct option *o, config_setting_t *elem,
	void *slot)
{
	const char *text = config_setting_get_string(elem), *special;
	struct addr parsed;
	char why[64];

	if (text == NULL || addr_parse(&parsed, text) < 0 || parsed.port != 0)
		return refuse(l, o, elem, "not an IP address");
	special = addr_special(&parsed);
	if (special != NULL && strcmp(special, "private") != 0 &&
		strcmp(special, "loopback") != 0) {
		snprintf(why, sizeof(why), "a %s address", special);
		return refuse(l, o, elem, why);
	}
	*(struct addr *)slot = parsed;
	return 1;
}

static int
read_line(struct load *l, const struct option *o, config_setting_t *elem,
	void *slot)
{
	const char *text = config_setting_get_string(elem);
	const char *why = text_wrong(o, text);
	char *copy;

	if (why != NULL)
		return refuse(l, o, elem, why);
	if ((copy = strdup(text)) == NULL)
		return refuse(l, o, elem, "out of memory");
	*(char **)slot = copy;
	return 1;
}

static int
read_list(struct load *l, const struct option *o, config_setting_t *s,
	void *owner, element_reader *read)
{
	size_t n, kept = 0;
	int rc = 0;
	char *base;

	if (!config_setting_is_list(s) && !config_setting_is_array(s))
		return refuse(l, o, s, NULL);
	n = (size_t)config_setting_length(s);
	if ((o->max != 0 && n > (size_t)o->max) ||
		((o->type == LINES || o->type == PLACES) && n == 0))
		return refuse(l, o, s, n == 0 ? "empty" : "too many elements");
	if (n != 0 && n < (size_t)o->min)
		return refuse(l, o, s, "too few elements");
	value_free(o, owner);
	if (n == 0)
		return 0;
	if ((base = calloc(n, o->size)) == NULL)
		return refuse(l, o, s, "out of memory");
	for (size_t i = 0; i < n; i++) {
		config_setting_t *elem = config_setting_get_elem(s, (unsigned)i);
		int got = config_setting_get_string(elem) == NULL ?
			refuse(l, o, elem, "not a text") :
			read(l, o, elem, base + kept * o->size);

		if (got < 0)
			rc = -1;
		kept += got != 0;
	}
	memcpy(member(o, owner), &base, sizeof(base));
	memcpy((char *)owner + o->count_offset, &kept, sizeof(kept));
	return rc;
}

int
value_read(struct load *l, const struct option *o, config_setting_t *s,
	void *owner)
{
	switch (o->type) {
	case BOOL:
		if (config_setting_type(s) != CONFIG_TYPE_BOOL)
			return refuse(l, o, s, NULL);
		*(bool *)member(o, owner) = config_setting_get_bool(s) != 0;
		return 0;
	case UINT:
	case PORT:
		return read_number(l, o, s, owner);
	case TENTHS:
		return read_tenths(l, o, s, owner);
	case WORD:
	case FLAG:
	case TLS_VERSION:
		return read_word(l, o, s, owner);
	case PREFIXES:
		return read_list(l, o, s, owner, read_prefix);
	case DESTINATIONS:
		return read_list(l, o, s, owner, read_destination);
	case ADDRESSES:
		return read_list(l, o, s, owner, read_address);
	case PLACES:
		return read_list(l, o, s, owner, read_place);
	case PLACE:
		return read_place(l, o, s, member(o, owner)) < 0 ? -1 : 0;
	case LINES:
	case INTERFACES:
	case PINS:
		return read_list(l, o, s, owner, read_line);
	case PORTS:
		return read_ports(l, o, s, owner);
	case MARK:
		return read_mark(l, o, s, owner);
	case CODE:
		return read_code(l, o, s, owner);
	case SOFT:
		return read_soft(l, o, s, owner);
	case ENDPOINT:
		return read_endpoint(l, o, s, owner);
	default:
		return read_text(l, o, s, owner);
	}
}

void
value_free(const struct option *o, void *owner)
{
	bool is_texts = o->type == LINES || o->type == INTERFACES ||
		o->type == PINS;
	size_t n = 0;
	char **base;

	switch (o->type) {
	case NAME: case TEXT: case MAILBOX: case HOST: case USER: case PATH: case SOCKET: case URL:
	case TRUST: case LOGIN:
		free(*(char **)member(o, owner));
		*(char **)member(o, owner) = NULL;
		return;
	case LINES: case INTERFACES: case PINS: case PREFIXES: case ADDRESSES:
	case PLACES: case DESTINATIONS:
		memcpy(&base, member(o, owner), sizeof(base));
		memcpy(&n, (char *)owner + o->count_offset, sizeof(n));
		for (size_t i = 0; is_texts && i < n; i++)
			free(base[i]);
		free(base);
		memset(member(o, owner), 0, sizeof(base));
		memset((char *)owner + o->count_offset, 0, sizeof(n));
		return;
	default:
		return;
	}
}

/* ---- writers ---- */

static int
put_text(const struct option *o, config_setting_t *group, const char *text)
{
	config_setting_t *s = config_setting_add(group, option_leaf(o),
		CONFIG_TYPE_STRING);

	return s != NULL && config_setting_set_string(s, text) ? 0 : -1;
}

static int
put_number(const struct option *o, config_setting_t *group, long n)
{
	config_setting_t *s = config_setting_add(group, option_leaf(o),
		CONFIG_TYPE_INT);

	return s != NULL && config_setting_set_int(s, (int)n) ? 0 : -1;
}

static int
put_word(const struct option *o, const void *owner, config_setting_t *group)
{
	char word[32];
	bool later;
	unsigned i = 0;

	if (o->offset != NOWHERE && o->type == FLAG)
		i = *(const bool *)member_of(o, owner);
	else if (o->offset != NOWHERE && o->type == TLS_VERSION)
		i = *(const unsigned *)member_of(o, owner) == TLS1_3_VERSION;
	else if (o->offset != NOWHERE)
		i = (unsigned)*(const int *)member_of(o, owner);
	return put_text(o, group, word_at(o->words, i, word, &later));
}

static int
put_list(const struct option *o, const void *owner, config_setting_t *group)
{
	config_setting_t *list = config_setting_add(group, option_leaf(o),
		CONFIG_TYPE_LIST);
	char text[ADDR_STRLEN];
	const char *base, *word;
	size_t n;

	if (list == NULL)
		return -1;
	if (o->type == DESTINATIONS && ((const struct conf *)owner)->pass_own)
		config_setting_set_string_elem(list, -1, "own");
	memcpy(&base, member_of(o, owner), sizeof(base));
	memcpy(&n, (const char *)owner + o->count_offset, sizeof(n));
	for (size_t i = 0; i < n; i++, base += o->size) {
		if (o->type == ADDRESSES || o->type == PLACES)
			word = addr_format((const struct addr *)(const void *)
				base, text);
		else if (o->type == PREFIXES || o->type == DESTINATIONS)
			word = prefix_format((const struct prefix *)
				(const void *)base, text);
		else
			memcpy(&word, base, sizeof(word));
		if (config_setting_set_string_elem(list, -1, word) == NULL)
			return -1;
	}
	return 0;
}

static int
put_endpoint(const struct option *o, const void *owner, config_setting_t *group)
{
	const struct endpoint *e = member_of(o, owner);
	char text[64], word[32];
	bool later;

	if (e->mode == TLS_NONE)
		return 0;
	snprintf(text, sizeof(text), "%s:%u",
		word_at(o->words, e->mode - 1u, word, &later), e->port);
	return put_text(o, group, text);
}

static int
put_code(const struct option *o, const void *owner, config_setting_t *group)
{
	const struct block_conf *b = (const struct block_conf *)
		(const void *)((const char *)member_of(o, owner) -
		offsetof(struct block_conf, code));
	char text[32];

	snprintf(text, sizeof(text), "%u %s", b->code, b->esc);
	return put_text(o, group, text);
}

static int
put_soft(const struct option *o, const void *owner, config_setting_t *group)
{
	const time_t at = (time_t)*(const int64_t *)member_of(o, owner);
	char text[32] = "0h";
	struct tm tm;

	if (at != 0)
		strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ",
			gmtime_r(&at, &tm));
	return put_text(o, group, text);
}

int
value_write(const struct option *o, const void *owner, config_setting_t *group)
{
	const struct conf *c = owner;
	const uint16_t *ports;
	config_setting_t *s;
	const char *text;
	char two[32], place[ADDR_STRLEN];

	switch (o->type) {
	case BOOL:
		s = config_setting_add(group, option_leaf(o), CONFIG_TYPE_BOOL);
		return s != NULL && config_setting_set_bool(s,
			*(const bool *)member_of(o, owner)) ? 0 : -1;
	case UINT:
		return put_number(o, group,
			*(const unsigned *)member_of(o, owner));
	case TENTHS:
		s = config_setting_add(group, option_leaf(o),
			CONFIG_TYPE_FLOAT);
		return s != NULL && config_setting_set_float(s,
			*(const unsigned *)member_of(o, owner) / 10.0) ? 0 : -1;
	case PORT:
		return put_number(o, group,
			*(const uint16_t *)member_of(o, owner));
	case WORD: case FLAG: case TLS_VERSION:
		return put_word(o, owner, group);
	case PREFIXES: case DESTINATIONS: case ADDRESSES: case PLACES:
	case LINES: case INTERFACES: case PINS:
		return put_list(o, owner, group);
	case PLACE:
		return put_text(o, group, addr_format(member_of(o, owner),
			place));
	case PORTS:
		ports = member_of(o, owner);
		snprintf(two, sizeof(two), "%u-%u", ports[0], ports[1]);
		return put_text(o, group, two);
	case MARK:
		snprintf(two, sizeof(two), "0x%x/0x%x", c->mark, c->mark_mask);
		return put_text(o, group, two);
	case CODE:
		return put_code(o, owner, group);
	case SOFT:
		return put_soft(o, owner, group);
	case ENDPOINT:
		return put_endpoint(o, owner, group);
	default:
		memcpy(&text, member_of(o, owner), sizeof(text));
		if (text == NULL && o->type != URL)
			return 0;
		return put_text(o, group, text != NULL ? text : "");
	}
}
