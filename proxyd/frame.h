/*
 * frame.h - cut a byte stream into protocol units
 *
 * The only room that knows CR and LF, and which line is not yet a whole one.
 * Nothing here keeps memory of its own; the caller says what kind of unit comes
 * next.
 */
#ifndef SALLYPORT_FRAME_H
#define SALLYPORT_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Longest line accepted before a session is opaque, terminator included.
 * RFC 4954 section 4 wants 12,288 octets for AUTH; tickets of large Windows
 * domains need more.
 */
#define LINE_MAX_OCTETS 16384

enum line_flag {
	LINE_BARE_LF = 1,	/* ended in LF without CR */
	LINE_BARE_CR = 2,	/* a CR inside the line */
	LINE_NUL = 4
};

struct line {
	const uint8_t *text;	/* without terminator */
	size_t len;
	size_t total;		/* terminator included */
	unsigned flags;
};

/* 1: a line; 0: not whole yet; -1: longer than LINE_MAX_OCTETS. */
int frame_line(const uint8_t *p, size_t n, struct line *line_r);

/*
 * The line announces a literal of IMAP (RFC 9051 section 4.3, RFC 7888): "{n}",
 * "{n+}" or "~{n}" at its end; n octets follow it, and then the rest of the
 * line. *wait_r: whoever sends it first waits for leave. A number beyond
 * LITERAL_MAX_OCTETS is given as one more than that.
 */
#define LITERAL_MAX_OCTETS 65536u
bool frame_literal(const struct line *line, uint32_t *n_r, bool *wait_r);

/* These octets begin a TLS record of the handshake kind (RFC 8446 section 5.1):
 * no line of text, and perhaps never an end of line. */
static inline bool
frame_is_tls(const uint8_t *p, size_t n)
{
	return n >= 2 && p[0] == 22 && p[1] == 3;
}

/*
 * DOTTED, for those who only watch: how many of n bytes belong to the payload
 * up to and including CRLF.CRLF. Start with state 0 at the first byte after
 * the reply 354. *end_r: the end was seen.
 */
size_t frame_dotted(uint8_t *state, const uint8_t *p, size_t n, bool *end_r);

/*
 * DOTTED, for those who carry: undo the dot-stuffing as a strict reader does
 * (only CRLF ends a line, only CRLF.CRLF ends the payload), mend what no
 * receiver reads alike (bare LF -> CRLF, bare CR -> space) and stuff again.
 * What comes out means the same to every reader, strict or lenient.
 */
enum payload_status {
	PAYLOAD_MORE,	/* all input eaten, or no room left */
	PAYLOAD_END,	/* end of data, its CRLF.CRLF is in the output */
	PAYLOAD_NUL,	/* a NUL byte; nothing after it was read */
	PAYLOAD_BARE	/* strict: a CR without LF, or an LF without CR */
};

struct payload {
	uint8_t state;
	bool in_line;	/* the output is not at the start of a line */
	bool strict;	/* do not mend: PAYLOAD_BARE */
};

/* At most this much output for n bytes of input. */
#define PAYLOAD_ROOM(n) (2 * (n) + 8)

void payload_start(struct payload *s, bool strict);

/* Eats *in_r bytes of p, writes *out_r bytes to out (PAYLOAD_ROOM(n) large). */
enum payload_status payload_clean(struct payload *s, const uint8_t *p, size_t n,
	uint8_t *out, size_t *in_r, size_t *out_r);

#endif
