/*
 * smtp_ehlo.c - the EHLO list: what we learn from a server, what we show
 *
 * The list shown to a client is written from this table, never copied from the
 * server: an extension the table does not know is not offered, because a
 * client that used it would send what the proxy cannot carry. Keywords compare
 * exactly. The last line gets its space because it is the last one written.
 *
 * The server controls every byte that ehlo_learn reads; nothing of it but
 * numbers and table rows survives.
 */
#include <string.h>
#include <strings.h>

#include "proxyd/sasl.h"
#include "proxyd/smtp.h"

enum cap {
	CAP_PIPELINING, CAP_SIZE, CAP_8BITMIME, CAP_SMTPUTF8, CAP_DSN,
	CAP_ENHANCED, CAP_AUTH, CAP_AUTH_OLD, CAP_STARTTLS, CAP_COUNT
};

static const struct {
	const char *keyword;
	bool carried;		/* shown as it is when the server has it */
	bool block;		/* shown in block */
} cap_table[CAP_COUNT] = {
	[CAP_PIPELINING] = { "PIPELINING", true, true },	/* RFC 2920 */
	[CAP_SIZE] = { "SIZE", false, true },		/* RFC 1870, printed below */
	[CAP_8BITMIME] = { "8BITMIME", true, true },	/* RFC 6152 */
	[CAP_SMTPUTF8] = { "SMTPUTF8", true, true },	/* RFC 6531 */
	[CAP_DSN] = { "DSN", true, true },		/* RFC 3461 */
	[CAP_ENHANCED] = { "ENHANCEDSTATUSCODES", true, true },	/* RFC 2034 */
	[CAP_AUTH] = { "AUTH", false, false },		/* RFC 4954 */
	[CAP_AUTH_OLD] = { "", false, false },		/* "AUTH=", pre-standard */
	[CAP_STARTTLS] = { "STARTTLS", false, false },	/* RFC 3207 */
};

#define BIT(cap) (UINT32_C(1) << (cap))

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
		e->caps |= BIT(i);
		if (i == CAP_SIZE)
			learn_size(e, arg, arg_len);
		if (i == CAP_AUTH) {
			e->mechs |= sasl_list(arg, arg_len);
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
		if (!(e->caps & BIT(i)) || !cap_table[i].carried)
			continue;
		next_line(out);
		sink_text(out, "%s", cap_table[i].keyword);
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
