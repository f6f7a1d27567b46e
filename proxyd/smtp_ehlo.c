/*
 * smtp_ehlo.c - the EHLO list: what we learn from a server, what we show
 *
 * One table of rules. The list shown to a client is written from it, never
 * copied from the server: an extension the table does not know is not offered,
 * because a client that used it would send what the proxy cannot carry. Absent
 * with a reason: REQUIRETLS (a promise the client's clear leg has broken
 * already), BURL (the server would fetch with rights that are ours), XCLIENT
 * and XFORWARD (it would take them from the client as ours), ETRN, ATRN, VRFY
 * (no business of a mail program). Keywords compare exactly. The last line
 * gets its space because it is the last one written.
 *
 * The server controls every byte that ehlo_learn reads; of it survive numbers,
 * table rows and, for four extensions, a short word list of harmless octets.
 */
#include <string.h>
#include <strings.h>

#include "proxyd/identity.h"
#include "proxyd/sasl.h"
#include "proxyd/smtp.h"

enum cap {
	CAP_PIPELINING, CAP_SIZE, CAP_8BITMIME, CAP_SMTPUTF8, CAP_DSN,
	CAP_ENHANCED, CAP_CHUNKING, CAP_BINARYMIME, CAP_LIMITS,
	CAP_MT_PRIORITY, CAP_DELIVERBY, CAP_FUTURERELEASE,
	CAP_AUTH, CAP_AUTH_OLD, CAP_STARTTLS, CAP_XCLIENT, CAP_COUNT
};

enum rule {
	RULE_OWN,	/* printed by a function of its own, below */
	RULE_WORD,	/* shown, its words forgotten */
	RULE_WORDS	/* shown with its words, or not at all */
};

#define BIT(cap) (UINT32_C(1) << (cap))

static const struct {
	const char *keyword;
	enum rule rule;
	bool block;		/* shown in block */
	uint32_t needs;		/* makes no sense without these */
} cap_table[CAP_COUNT] = {
	[CAP_PIPELINING] = { "PIPELINING", RULE_WORD, true, 0 }, /* RFC 2920 */
	[CAP_SIZE] = { "SIZE", RULE_OWN, true, 0 },	/* RFC 1870 */
	[CAP_8BITMIME] = { "8BITMIME", RULE_WORD, true, 0 }, /* RFC 6152 */
	[CAP_SMTPUTF8] = { "SMTPUTF8", RULE_WORD, true, 0 }, /* RFC 6531 */
	[CAP_DSN] = { "DSN", RULE_WORD, true, 0 },	/* RFC 3461 */
	[CAP_ENHANCED] = { "ENHANCEDSTATUSCODES", RULE_WORD, true, 0 },
							/* RFC 2034 */
	[CAP_CHUNKING] = { "CHUNKING", RULE_WORD, false, 0 }, /* RFC 3030 */
	[CAP_BINARYMIME] = { "BINARYMIME", RULE_WORD, false,
		BIT(CAP_CHUNKING) },			/* RFC 3030 */
	[CAP_LIMITS] = { "LIMITS", RULE_WORDS, false, 0 }, /* RFC 9422 */
	[CAP_MT_PRIORITY] = { "MT-PRIORITY", RULE_WORDS, false, 0 },
							/* RFC 6710 */
	[CAP_DELIVERBY] = { "DELIVERBY", RULE_WORDS, false, 0 }, /* RFC 2852 */
	[CAP_FUTURERELEASE] = { "FUTURERELEASE", RULE_WORDS, false, 0 },
							/* RFC 4865 */
	[CAP_AUTH] = { "AUTH", RULE_OWN, false, 0 },	/* RFC 4954 */
	[CAP_AUTH_OLD] = { "", RULE_OWN, false, 0 },	/* "AUTH=", pre-standard */
	[CAP_STARTTLS] = { "STARTTLS", RULE_OWN, false, 0 }, /* RFC 3207 */
	[CAP_XCLIENT] = { "XCLIENT", RULE_OWN, false, 0 }, /* never shown */
};

_Static_assert(CAP_FUTURERELEASE - CAP_LIMITS + 1 == EHLO_WORDS,
	"one slot for each row of RULE_WORDS");

/* Numbers, names, dates and lists of them; nothing a terminal or a reply's
 * grammar could stumble over. */
static bool
is_harmless(uint8_t c)
{
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
		(c >= 'a' && c <= 'z') || (c != '\0' &&
		strchr(" =-_:.,;+", c) != NULL);
}

/* false: not to be shown, and without its words it would mislead. */
static bool
learn_words(struct ehlo *e, int cap, const uint8_t *p, size_t n)
{
	char *words = e->words[cap - CAP_LIMITS];

	if (n >= EHLO_WORDS_MAX)
		return false;
	for (size_t i = 0; i < n; i++)
		if (!is_harmless(p[i]))
			return false;
	memcpy(words, p, n);
	words[n] = '\0';
	return true;
}

static void
learn_size(struct ehlo *e, const uint8_t *p, size_t n)
{
	uint64_t size = 0;
	size_t i = 0;

	while (i < n && i < 18 && p[i] >= '0' && p[i] <= '9')
		size = size * 10 + (uint64_t)(p[i++] - '0');
	e->size_given = i > 0 && i == n;
	e->size = e->size_given ? size : 0;
}

void
ehlo_learn(struct ehlo *e, const struct line *l)
{
	const uint8_t *p = l->text + (l->len < 4 ? l->len : 4);
	size_t n = l->len < 4 ? 0 : l->len - 4;
	size_t word = 0;

	while (n > 0 && *p == ' ') {	/* "250- SIZE" exists */
		p++;
		n--;
	}
	while (word < n && p[word] != ' ' && p[word] != '=')
		word++;
	for (int i = 0; i < CAP_COUNT; i++) {
		const char *key = cap_table[i].keyword;

		if (strlen(key) != word || word == 0 ||
		    strncasecmp(key, (const char *)p, word) != 0)
			continue;
		const uint8_t *arg = p + word;
		size_t arg_len = n - word;
		bool old = arg_len > 0 && *arg == '=';
		if (arg_len > 0) {
			arg++;
			arg_len--;
		}
		while (arg_len > 0 && arg[arg_len - 1] == ' ')
			arg_len--;
		if (cap_table[i].rule == RULE_WORDS &&
		    !learn_words(e, i, arg, arg_len))
			continue;
		e->caps |= BIT(i);
		if (i == CAP_SIZE)
			learn_size(e, arg, arg_len);
		if (i == CAP_XCLIENT)
			e->xclient |= identity_attributes(arg, arg_len);
		if (i == CAP_AUTH) {
			e->mechs |= sasl_list(arg, arg_len);
			e->binds |= sasl_binds(arg, arg_len);
			if (old)
				e->caps |= BIT(CAP_AUTH_OLD);
		}
	}
}

bool
ehlo_has_starttls(const struct ehlo *e)
{
	return (e->caps & BIT(CAP_STARTTLS)) != 0;
}

void
ehlo_limit_size(struct ehlo *e, uint64_t most)
{
	/* "SIZE 0" and "SIZE" alone: no limit known (RFC 1870 section 4) */
	if (most == 0 || !(e->caps & BIT(CAP_SIZE)) ||
	    (e->size_given && e->size != 0 && e->size <= most))
		return;
	e->size = most;
	e->size_given = true;
}

bool
ehlo_has_chunking(const struct ehlo *e)
{
	return (e->caps & BIT(CAP_CHUNKING)) != 0;
}

/* The line before is finished as "250-..." and the new one begun. */
static void
next_line(struct sink *out)
{
	sink_text(out, "\r\n250-");
}

/* Turn the '-' of the line that was begun last into the space of a last one. */
static void
end_list(struct sink *out, size_t start)
{
	size_t i = out->len;

	while (i > start && out->p[i - 1] != '\n')
		i--;
	if (i + 3 < out->len)
		out->p[i + 3] = ' ';
	sink_text(out, "\r\n");
}

void
ehlo_print(const struct ehlo *e, const char *name, bool starttls,
	struct sink *out)
{
	size_t start = out->len;

	sink_text(out, "250-%s", name);
	for (int i = 0; i < CAP_COUNT; i++) {
		if (!(e->caps & BIT(i)) || cap_table[i].rule == RULE_OWN ||
		    (cap_table[i].needs & ~e->caps) != 0)
			continue;
		next_line(out);
		sink_text(out, "%s", cap_table[i].keyword);
		if (cap_table[i].rule == RULE_WORDS &&
		    e->words[i - CAP_LIMITS][0] != '\0')
			sink_text(out, " %s", e->words[i - CAP_LIMITS]);
	}
	if (e->caps & BIT(CAP_SIZE)) {
		next_line(out);
		sink_text(out, "SIZE");
		if (e->size_given)
			sink_text(out, " %llu", (unsigned long long)e->size);
	}
	if (e->mechs != 0) {
		next_line(out);
		sink_text(out, "AUTH");
		sasl_print(e->mechs, out);
	}
	if (e->mechs != 0 && (e->caps & BIT(CAP_AUTH_OLD))) {
		size_t at;

		next_line(out);
		sink_text(out, "AUTH");
		at = out->len;
		sasl_print(e->mechs, out);
		if (at < out->len)
			out->p[at] = '=';
	}
	if (starttls) {
		next_line(out);
		sink_text(out, "STARTTLS");
	}
	end_list(out, start);
}

void
ehlo_print_block(const char *name, struct sink *out)
{
	size_t start = out->len;

	sink_text(out, "250-%s", name);
	for (int i = 0; i < CAP_COUNT; i++) {
		if (!cap_table[i].block)
			continue;
		next_line(out);
		sink_text(out, "%s", cap_table[i].keyword);
	}
	end_list(out, start);
}
