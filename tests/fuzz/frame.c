/*
 * frame.c - fuzz target: lines and payloads
 *
 * The first octet seeds where the rest is cut. The same octets are read as
 * lines and as a payload, whole and cut: what is found must not depend on the
 * cuts, both readers of a payload must agree on its end, and what payload_clean
 * writes must have one line ending, no NUL and one end, for every reader.
 *
 * Differential: beside the machines stands a reader of RFC 5321 written here from
 * its text, which searches instead of counting states. Both must see the same end
 * of data, and it must read the same message out of what came and of what we
 * send on, but for what is mended.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proxyd/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check(bool ok)
{
	if (!ok)
		abort();
}

static void
check_lines(const uint8_t *p, size_t n)
{
	struct line l, again;

	while (n > 0) {
		int found = frame_line(p, n, &l);

		check(found == 1 || (found == 0 && n < LINE_MAX_OCTETS) ||
			(found == -1 && n >= LINE_MAX_OCTETS));
		if (found != 1)
			return;
		check(l.text == p && l.total <= n && l.total > l.len);
		check(l.total <= LINE_MAX_OCTETS && p[l.total - 1] == '\n');
		check(memchr(p, '\n', l.len) == NULL);
		check(!(l.flags & LINE_BARE_CR) ==
			(memchr(p, '\r', l.len) == NULL));
		check(!(l.flags & LINE_NUL) == (memchr(p, 0, l.len) == NULL));
		check(frame_line(p, l.total - 1, &again) == 0);
		p += l.total;
		n -= l.total;
	}
}

/* Clean in pieces; memory of exactly the promised size for each. */
static enum payload_status
clean(const uint8_t *p, size_t n, unsigned seed, uint8_t *out, size_t *in_r,
	size_t *out_r)
{
	enum payload_status status = PAYLOAD_MORE;
	struct payload s;

	payload_start(&s, false);
	*in_r = *out_r = 0;
	while (*in_r < n && status == PAYLOAD_MORE) {
		size_t left = n - *in_r, take = left, used, got;
		uint8_t *room;

		if (seed != 0) {
			seed = seed * 1103515245u + 12345u;
			take = 1 + (seed >> 16) % 7;
			take = take < left ? take : left;
		}
		room = malloc(PAYLOAD_ROOM(take));
		check(room != NULL);
		status = payload_clean(&s, p + *in_r, take, room, &used, &got);
		check(used <= take && got <= PAYLOAD_ROOM(take));
		check(status != PAYLOAD_MORE || used == take);
		memcpy(out + *out_r, room, got);
		free(room);
		*in_r += used;
		*out_r += got;
	}
	return status;
}

/* Where a line of one dot stands, if LF or CR alone may end a line too. */
static size_t
first_end(const uint8_t *p, size_t n)
{
	size_t start = 0;

	for (size_t i = 0; i < n; i++) {
		if (p[i] != '\n' && p[i] != '\r')
			continue;
		if (i - start == 1 && p[start] == '.')
			return i;
		start = i + 1;
	}
	return n;
}

/*
 * The reference. "The sequence <CRLF>.<CRLF>" ends the data, and the CRLF may be
 * the one that ended DATA itself (sections 4.1.1.4, 4.5.2). Where it ends, or n
 * and *end_r is false.
 */
static size_t
reference_end(const uint8_t *p, size_t n, bool *end_r)
{
	const uint8_t *at;

	*end_r = true;
	if (n >= 3 && memcmp(p, ".\r\n", 3) == 0)
		return 3;
	at = memmem(p, n, "\r\n.\r\n", 5);
	*end_r = at != NULL;
	return at == NULL ? n : (size_t)(at - p) + 5;
}

/*
 * The message in it: "if the first character of a line is a period and there are
 * other characters on the line, the first character is deleted" (4.5.2); with
 * mend, a lone LF as CRLF and a lone CR as a blank. Its length.
 */
static size_t
reference_text(const uint8_t *p, size_t n, bool mend, uint8_t *out)
{
	size_t len = 0;

	for (size_t i = 0; i < n; i++) {
		bool starts = i == 0 || (i >= 2 && p[i - 2] == '\r' &&
			p[i - 1] == '\n');
		bool pair = i + 1 < n && p[i] == '\r' && p[i + 1] == '\n';

		if (starts && p[i] == '.' && i + 1 < n)
			continue;
		if (pair || (mend && p[i] == '\n')) {
			out[len++] = '\r';
			out[len++] = '\n';
			i += pair;
		} else
			out[len++] = mend && p[i] == '\r' ? ' ' : p[i];
	}
	return len;
}

/* Of a payload with its end: in as it came, out as we send it on. */
static void
check_same_message(const uint8_t *in, size_t n, const uint8_t *out, size_t m)
{
	uint8_t *a = malloc(2 * n + 8), *b = malloc(2 * m + 8);
	size_t alen, blen;

	check(a != NULL && b != NULL);
	alen = reference_text(in, n - 3, true, a);
	blen = reference_text(out, m - 3, false, b);
	check(alen == blen && memcmp(a, b, alen) == 0);
	free(a);
	free(b);
}

static void
check_payload(const uint8_t *p, size_t n, unsigned seed)
{
	uint8_t *out = malloc(4 * n + 64), *again = malloc(4 * n + 64);
	uint8_t dotted = 0;
	size_t used, got, used2, got2, at;
	enum payload_status status;
	bool end, found;

	check(out != NULL && again != NULL);
	status = clean(p, n, 0, out, &used, &got);
	check(clean(p, n, seed | 1, again, &used2, &got2) == status);
	check(used == used2 && got == got2 && memcmp(out, again, got) == 0);
	at = frame_dotted(&dotted, p, n, &end);
	if (status == PAYLOAD_NUL)
		check(used < at && p[used] == '\0');
	else
		check(at == used && end == (status == PAYLOAD_END));
	for (size_t i = 0; i < got; i++) {
		check(out[i] != '\0');
		check(out[i] != '\n' || (i > 0 && out[i - 1] == '\r'));
		check(out[i] != '\r' || (i + 1 < got && out[i + 1] == '\n'));
	}
	check(reference_end(p, n, &found) == at && found == end);
	if (status == PAYLOAD_END)
		check_same_message(p, used, out, got);
	check(first_end(out, got) == (status == PAYLOAD_END ? got - 2 : got));
	/* Clean is clean: a second time changes nothing. */
	check(clean(out, got, 0, again, &used2, &got2) ==
		(status == PAYLOAD_END ? PAYLOAD_END : PAYLOAD_MORE));
	if (status == PAYLOAD_END)
		check(got2 == got && memcmp(out, again, got) == 0);
	free(out);
	free(again);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	check_lines(data + 1, size - 1);
	check_payload(data + 1, size - 1, data[0]);
	return 0;
}
