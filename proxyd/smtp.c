/*
 * smtp.c - the grammar of SMTP commands and replies
 *
 * Cuts a command line into verb and argument and a reply line into code and
 * text, for the machines in smtp_block.c, smtp_submit.c and smtp_relay.c.
 * Decides nothing and writes nothing. All input is attacker-controlled; every
 * function accepts any bytes of any length up to LINE_MAX_OCTETS.
 */
#include "proxyd/smtp.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

static const struct {
	const char *word;
	enum smtp_verb verb;
} verb_table[] = {
	{ "EHLO", VERB_EHLO }, { "HELO", VERB_HELO }, { "MAIL", VERB_MAIL },
	{ "RCPT", VERB_RCPT }, { "DATA", VERB_DATA }, { "BDAT", VERB_BDAT },
	{ "RSET", VERB_RSET }, { "NOOP", VERB_NOOP }, { "QUIT", VERB_QUIT },
	{ "AUTH", VERB_AUTH }, { "STARTTLS", VERB_STARTTLS },
	{ "VRFY", VERB_VRFY }, { "EXPN", VERB_EXPN }, { "HELP", VERB_HELP },
};

void
smtp_command(const struct line *l, struct command *c_r)
{
	size_t n = 0;

	c_r->verb = VERB_UNKNOWN;
	c_r->text = l->text;
	c_r->len = l->len;
	while (n < l->len && l->text[n] != ' ')
		n++;
	for (size_t i = 0; i < sizeof(verb_table) / sizeof(verb_table[0]); i++)
		if (strlen(verb_table[i].word) == n &&
		    strncasecmp(verb_table[i].word, (const char *)l->text,
			    n) == 0)
			c_r->verb = verb_table[i].verb;
	while (n < l->len && l->text[n] == ' ')
		n++;
	c_r->arg = l->text + n;
	c_r->arg_len = l->len - n;
	while (c_r->arg_len > 0 && c_r->arg[c_r->arg_len - 1] == ' ')
		c_r->arg_len--;
}

static bool
is_digit(uint8_t c)
{
	return c >= '0' && c <= '9';
}

int
smtp_reply(const struct line *l, unsigned *code_r, bool *last_r)
{
	const uint8_t *t = l->text;

	if (l->len < 3 || t[0] < '2' || t[0] > '5' || !is_digit(t[1]) ||
	    !is_digit(t[2]))
		return -1;
	if (l->len > 3 && t[3] != ' ' && t[3] != '-')
		return -1;
	*code_r = (unsigned)(t[0] - '0') * 100 + (unsigned)(t[1] - '0') * 10 +
		(unsigned)(t[2] - '0');
	*last_r = l->len == 3 || t[3] == ' ';
	return 0;
}

/* A number of one to three digits at p; its length, 0: none, or a longer one. */
static size_t
short_number(const uint8_t *p, size_t n)
{
	size_t i = 0;

	while (i < n && i < 4 && is_digit(p[i]))
		i++;
	return i < 4 ? i : 0;
}

/* RFC 3463 section 2: class "." subject "." detail, then a blank or nothing. */
void
smtp_enhanced(const struct line *l, char out[12])
{
	const uint8_t *t = l->text + 4;
	size_t left, subject, detail, n;

	out[0] = '\0';
	if (l->len < 9 || !is_digit(t[0]) || t[1] != '.')
		return;
	left = l->len - 4;
	subject = short_number(t + 2, left - 2);
	n = 2 + subject;
	if (subject == 0 || n >= left || t[n] != '.')
		return;
	n++;
	detail = short_number(t + n, left - n);
	n += detail;
	if (detail == 0 || (n < left && t[n] != ' '))
		return;
	memcpy(out, t, n);
	out[n] = '\0';
}

void
smtp_note_refusal(struct notes *n, unsigned code, const char *esc)
{
	n->code = (uint16_t)code;
	snprintf(n->esc, sizeof(n->esc), "%s", esc);
}

void
smtp_note_helo(struct notes *n, const struct command *c)
{
	size_t len = c->arg_len < sizeof(n->helo) ? c->arg_len :
		sizeof(n->helo);

	memcpy(n->helo, c->arg, len);
	n->helo_len = (uint8_t)len;
	if (n->stage < STAGE_EHLO)
		n->stage = STAGE_EHLO;
}

bool
smtp_is_helo_name(const uint8_t *p, size_t n)
{
	if (n == 0 || n >= HELLO_MAX)
		return false;
	for (size_t i = 0; i < n; i++)
		if (p[i] <= ' ' || p[i] >= 0x7f)
			return false;
	return true;
}

bool
smtp_has_parameter(const struct command *c, const char *word)
{
	size_t want = strlen(word), i = 0;

	while (i < c->arg_len) {
		size_t start = i;

		while (i < c->arg_len && c->arg[i] != ' ')
			i++;
		if (i - start == want && strncasecmp(word,
			(const char *)c->arg + start, want) == 0)
			return true;
		i++;
	}
	return false;
}

int
smtp_chunk(const struct command *c, uint64_t *n_r, bool *last_r)
{
	size_t i = 0;

	if (smtp_chunk_size(c, n_r) == -1)
		return -1;
	while (i < c->arg_len && c->arg[i] != ' ')
		i++;
	*last_r = i < c->arg_len;
	while (i < c->arg_len && c->arg[i] == ' ')
		i++;
	if (*last_r && (c->arg_len - i != 4 ||
		strncasecmp("LAST", (const char *)c->arg + i, 4) != 0))
		return -1;
	return 0;
}

int
smtp_chunk_size(const struct command *c, uint64_t *n_r)
{
	uint64_t n = 0;
	size_t i = 0;

	while (i < c->arg_len && i < 18 && is_digit(c->arg[i]))
		n = n * 10 + (uint64_t)(c->arg[i++] - '0');
	if (i == 0 || (i < c->arg_len && c->arg[i] != ' '))
		return -1;
	*n_r = n;
	return 0;
}

/* ---- limits ---- */

const struct smtp_limits *
smtp_limits(const struct context *x)
{
	static const struct smtp_limits usual = {
		.commands = SMTP_COMMANDS_MAX, .errors = SMTP_ERRORS_MAX,
		.command_time = SMTP_WAIT_COMMAND,
	};

	return x->limits != NULL ? x->limits : &usual;
}

static unsigned
quota_of(const struct context *x, enum tally_kind kind)
{
	const struct smtp_limits *l = smtp_limits(x);

	if (x->quota == NULL)
		return 0;
	if (account_has_quota(x, kind))
		return kind == TALLY_RCPTS ? x->account->conf->rcpts :
			x->account->conf->messages;
	return kind == TALLY_RCPTS ? l->rcpts :
		kind == TALLY_MESSAGES ? l->messages : l->guesses;
}

bool
smtp_is_over(const struct context *x, enum tally_kind kind, unsigned n)
{
	unsigned most = quota_of(x, kind);

	if (most == 0)
		return false;
	if (x->quota(x->quota_arg, kind, 0) >= most)
		return true;
	if (n > 0)
		(void)x->quota(x->quota_arg, kind, n);
	return false;
}

void
smtp_used(const struct context *x, enum tally_kind kind)
{
	if (quota_of(x, kind) != 0)
		(void)x->quota(x->quota_arg, kind, 1);
}

bool
smtp_declared_size(const struct command *c, uint64_t *n_r)
{
	static const char key[] = " SIZE=";
	const size_t len = sizeof(key) - 1;

	/* behind the path: a quoted local part may say anything */
	for (size_t i = c->arg_len; i-- > 0 && c->arg[i] != '>';) {
		uint64_t n = 0;
		size_t at = i + len;

		if (c->arg_len - i < len || strncasecmp(key,
			(const char *)c->arg + i, len) != 0)
			continue;
		while (at < c->arg_len && at < i + len + 18 &&
		    is_digit(c->arg[at]))
			n = n * 10 + (uint64_t)(c->arg[at++] - '0');
		*n_r = n;
		return at > i + len;
	}
	return false;
}
