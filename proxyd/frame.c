/*
 * frame.c - cut a byte stream into protocol units
 *
 * LINE ends in LF, and says how it ended and what stood inside; COUNTED is so
 * many octets (of IMAP's literals, which a line announces); DOTTED runs
 * until CRLF . CRLF and comes in two kinds, one that only finds the end (for
 * sessions carried unchanged) and one that cleans (for sessions we answer for).
 *
 * Called by session.c and the protocol machines. Both directions are
 * attacker-controlled. A bare CR or LF in a line is reported, never repaired
 * here: two parsers that disagree about a line ending are how mail is smuggled.
 * A partial line is scanned again when more arrives; at 16 KB that costs less
 * than remembering where the scan stopped.
 */
#include "proxyd/frame.h"

#include <string.h>

int
frame_line(const uint8_t *p, size_t n, struct line *line_r)
{
	size_t limit = n < LINE_MAX_OCTETS ? n : LINE_MAX_OCTETS;
	const uint8_t *lf = n > 0 ? memchr(p, '\n', limit) : NULL;

	if (lf == NULL)
		return n >= LINE_MAX_OCTETS ? -1 : 0;

	size_t len = (size_t)(lf - p);
	line_r->text = p;
	line_r->total = len + 1;
	line_r->flags = 0;
	if (len > 0 && p[len - 1] == '\r')
		len--;
	else
		line_r->flags |= LINE_BARE_LF;
	line_r->len = len;
	if (len > 0 && memchr(p, '\r', len) != NULL)
		line_r->flags |= LINE_BARE_CR;
	if (len > 0 && memchr(p, '\0', len) != NULL)
		line_r->flags |= LINE_NUL;
	return 1;
}

bool
frame_literal(const struct line *line, uint32_t *n_r, bool *wait_r)
{
	const uint8_t *t = line->text;
	size_t end = line->len, i;
	uint32_t n = 0;

	if (end < 3 || t[end - 1] != '}')
		return false;
	end--;
	*wait_r = t[end - 1] != '+';
	if (!*wait_r)
		end--;
	for (i = end; i > 0 && t[i - 1] >= '0' && t[i - 1] <= '9'; i--)
		;
	if (i == end || i == 0 || t[i - 1] != '{')
		return false;
	for (; i < end; i++) {
		n = n * 10 + (uint32_t)(t[i] - '0');
		if (n > LITERAL_MAX_OCTETS)
			n = LITERAL_MAX_OCTETS + 1;
	}
	*n_r = n;
	return true;
}

/* Where a strict reader of DATA stands; the first is the start of a line. */
enum dotted_state { AT_START, AT_DOT, AT_DOT_CR, IN_TEXT, IN_CR };

size_t
frame_dotted(uint8_t *state, const uint8_t *p, size_t n, bool *end_r)
{
	size_t i = 0;

	*end_r = false;
	while (i < n) {
		if (*state == IN_TEXT) {
			const uint8_t *cr = memchr(p + i, '\r', n - i);

			if (cr == NULL)
				return n;
			i = (size_t)(cr - p);
		}
		uint8_t c = p[i++];
		switch (*state) {
		case AT_START:
			*state = c == '.' ? AT_DOT : c == '\r' ? IN_CR : IN_TEXT;
			break;
		case AT_DOT:
			*state = c == '\r' ? AT_DOT_CR : IN_TEXT;
			break;
		case AT_DOT_CR:
			if (c == '\n') {
				*end_r = true;
				return i;
			}
			*state = c == '\r' ? IN_CR : IN_TEXT;
			break;
		case IN_TEXT:
			*state = c == '\r' ? IN_CR : IN_TEXT;
			break;
		default:
			*state = c == '\n' ? AT_START :
				c == '\r' ? IN_CR : IN_TEXT;
			break;
		}
	}
	return n;
}

void
payload_start(struct payload *s, bool strict)
{
	s->strict = strict;
	s->state = AT_START;
	s->in_line = false;
}

/* Append content, stuffing a dot where the output begins a line. */
static uint8_t *
put_content(struct payload *s, uint8_t *o, const uint8_t *p, size_t n)
{
	if (n == 0)
		return o;
	if (!s->in_line && p[0] == '.')
		*o++ = '.';
	memcpy(o, p, n);
	s->in_line = true;
	return o + n;
}

static uint8_t *
put_eol(struct payload *s, uint8_t *o)
{
	*o++ = '\r';
	*o++ = '\n';
	s->in_line = false;
	return o;
}

/* Bytes searched at once: RFC 5321's longest line. Unbounded, a block of short
 * lines that lack their CR would be searched to its end for each of them. */
#define RUN_MAX 1000

/* Length of the run of ordinary bytes at p. */
static size_t
text_run(const uint8_t *p, size_t n)
{
	if (n > RUN_MAX)
		n = RUN_MAX;
	const uint8_t *stop = memchr(p, '\r', n);
	if (stop != NULL)
		n = (size_t)(stop - p);
	stop = memchr(p, '\n', n);
	if (stop != NULL)
		n = (size_t)(stop - p);
	stop = memchr(p, '\0', n);
	if (stop != NULL)
		n = (size_t)(stop - p);
	return n;
}

enum payload_status
payload_clean(struct payload *s, const uint8_t *p, size_t n, uint8_t *out,
	size_t *in_r, size_t *out_r)
{
	enum payload_status status = PAYLOAD_MORE;
	uint8_t *o = out;
	size_t i = 0;

	while (i < n) {
		uint8_t c = p[i];

		if (c == '\0') {
			status = PAYLOAD_NUL;
			break;
		}
		if (s->state == AT_START && c == '.') {
			s->state = AT_DOT;
			i++;
			continue;
		}
		if (s->state == AT_DOT && c == '\r') {
			s->state = AT_DOT_CR;
			i++;
			continue;
		}
		if (s->state == AT_DOT_CR && c == '\n') {
			/* A line only starts after CRLF, so the output is at
			 * the start of a line here as well. */
			memcpy(o, ".\r\n", 3);
			o += 3;
			i++;
			status = PAYLOAD_END;
			break;
		}
		if (s->state == IN_CR && c == '\n') {
			o = put_eol(s, o);
			s->state = AT_START;
			i++;
			continue;
		}
		if (s->strict && (c == '\n' || s->state == IN_CR ||
			s->state == AT_DOT_CR)) {
			status = PAYLOAD_BARE;
			break;
		}
		/* A CR that no LF followed. */
		if (s->state == IN_CR || s->state == AT_DOT_CR)
			o = put_content(s, o, (const uint8_t *)" ", 1);
		if (c == '\r') {
			s->state = IN_CR;
			i++;
			continue;
		}
		s->state = IN_TEXT;
		if (c == '\n') {
			o = put_eol(s, o);
			i++;
			continue;
		}
		size_t run = text_run(p + i, n - i);
		o = put_content(s, o, p + i, run);
		i += run;
	}
	*in_r = i;
	*out_r = (size_t)(o - out);
	return status;
}
