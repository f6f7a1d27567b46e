/*
 * frame.c - unit tests of proxyd/frame.c
 *
 * Lines are tables, each fed whole and cut at every octet. The payload has
 * tables for the sequences that mail was smuggled with and a property test
 * against a reader written here from RFC 5321 section 4.5.2 alone, over random
 * streams of the octets that matter, cut at random places.
 */
#include "proxyd/frame.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define N(a) (sizeof(a) / sizeof((a)[0]))
#define S(text) text, sizeof(text) - 1

static void
lines(void **state)
{
	static const struct {
		const char *in;
		size_t len;
		int want;
		size_t line, total;
		unsigned flags;
	} rows[] = {
		{ S(""), 0, 0, 0, 0 },
		{ S("a"), 0, 0, 0, 0 },
		{ S("a\r"), 0, 0, 0, 0 },
		{ S("\r\n"), 1, 0, 2, 0 },
		{ S("\n"), 1, 0, 1, LINE_BARE_LF },
		{ S("EHLO pc\r\n"), 1, 7, 9, 0 },
		{ S("EHLO pc\n"), 1, 7, 8, LINE_BARE_LF },
		{ S("a\rb\r\n"), 1, 3, 5, LINE_BARE_CR },
		{ S("a\r\r\n"), 1, 2, 4, LINE_BARE_CR },
		{ S("\r\r\n"), 1, 1, 3, LINE_BARE_CR },
		{ S("a\rb\n"), 1, 3, 4, LINE_BARE_CR | LINE_BARE_LF },
		{ S("a\0b\r\n"), 1, 3, 5, LINE_NUL },
		{ S("\0\n"), 1, 1, 2, LINE_NUL | LINE_BARE_LF },
		{ S("\0\r\r\n"), 1, 2, 4, LINE_NUL | LINE_BARE_CR },
		{ S("one\r\ntwo\r\n"), 1, 3, 5, 0 },
		{ S("one\ntwo\r\n"), 1, 3, 4, LINE_BARE_LF },
		{ S("one\r\n\0"), 1, 3, 5, 0 },
	};

	(void)state;
	for (size_t i = 0; i < N(rows); i++) {
		const uint8_t *p = (const uint8_t *)rows[i].in;
		struct line l;

		/* No prefix of a line is a line. */
		for (size_t cut = 0; cut < rows[i].total; cut++)
			assert_int_equal(frame_line(p, cut, &l), 0);
		assert_int_equal(frame_line(p, rows[i].len, &l), rows[i].want);
		if (rows[i].want != 1)
			continue;
		assert_ptr_equal(l.text, p);
		assert_int_equal(l.len, rows[i].line);
		assert_int_equal(l.total, rows[i].total);
		assert_int_equal(l.flags, rows[i].flags);
	}
}

static void
long_lines(void **state)
{
	static uint8_t p[LINE_MAX_OCTETS + 10];
	struct line l;

	(void)state;
	memset(p, 'a', sizeof(p));
	assert_int_equal(frame_line(p, LINE_MAX_OCTETS - 1, &l), 0);
	assert_int_equal(frame_line(p, LINE_MAX_OCTETS, &l), -1);
	assert_int_equal(frame_line(p, sizeof(p), &l), -1);
	p[LINE_MAX_OCTETS] = '\n';
	assert_int_equal(frame_line(p, sizeof(p), &l), -1);
	p[LINE_MAX_OCTETS - 1] = '\n';
	assert_int_equal(frame_line(p, sizeof(p), &l), 1);
	assert_int_equal(l.total, LINE_MAX_OCTETS);
	p[LINE_MAX_OCTETS - 2] = '\r';
	assert_int_equal(frame_line(p, LINE_MAX_OCTETS, &l), 1);
	assert_int_equal(l.len, LINE_MAX_OCTETS - 2);
	assert_int_equal(l.flags, 0);
}

/* Run payload_clean over the whole in pieces; where it stopped. */
static enum payload_status
clean(const uint8_t *p, size_t n, const size_t *cut, size_t ncut, uint8_t *out,
	size_t *in_r, size_t *out_r)
{
	enum payload_status status = PAYLOAD_MORE;
	struct payload s;
	size_t at = 0, written = 0;

	payload_start(&s, false);
	for (size_t i = 0; i <= ncut && status == PAYLOAD_MORE; i++) {
		size_t end = i < ncut ? cut[i] : n, used, got;
		uint8_t *room = malloc(PAYLOAD_ROOM(end - at));

		assert_non_null(room);
		status = payload_clean(&s, p + at, end - at, room, &used, &got);
		assert_true(used <= end - at);
		assert_true(got <= PAYLOAD_ROOM(used));
		assert_true(status != PAYLOAD_MORE || used == end - at);
		memcpy(out + written, room, got);
		free(room);
		written += got;
		at += used;
	}
	*in_r = at;
	*out_r = written;
	return status;
}

static void
smuggling(void **state)
{
	/* in: what follows 354; end: octets up to the end of data, 0 none. */
	static const struct {
		const char *name, *in;
		size_t len, end;
		enum payload_status status;
		const char *want;
		size_t want_len;
	} rows[] = {
		{ "empty", S(".\r\n"), 3, PAYLOAD_END, S(".\r\n") },
		{ "plain", S("a\r\n.\r\n"), 6, PAYLOAD_END, S("a\r\n.\r\n") },
		{ "behind the end", S("a\r\n.\r\nMAIL"), 6, PAYLOAD_END,
			S("a\r\n.\r\n") },
		{ "LF.LF", S("a\n.\nb\r\n.\r\n"), 10, PAYLOAD_END,
			S("a\r\n..\r\nb\r\n.\r\n") },
		{ "LF.CRLF", S("a\n.\r\nb\r\n.\r\n"), 11, PAYLOAD_END,
			S("a\r\n..\r\nb\r\n.\r\n") },
		{ "CR.CR", S("a\r.\rb\r\n.\r\n"), 10, PAYLOAD_END,
			S("a . b\r\n.\r\n") },
		{ "CRLF.LF", S("a\r\n.\nb\r\n.\r\n"), 11, PAYLOAD_END,
			S("a\r\n\r\nb\r\n.\r\n") },
		{ "CRLF.CR", S("a\r\n.\rb\r\n.\r\n"), 11, PAYLOAD_END,
			S("a\r\n b\r\n.\r\n") },
		{ "CRLF.CRCRLF", S("a\r\n.\r\r\nb\r\n.\r\n"), 13, PAYLOAD_END,
			S("a\r\n \r\nb\r\n.\r\n") },
		{ "CR.CRLF", S("a\r.\r\nb\r\n.\r\n"), 11, PAYLOAD_END,
			S("a .\r\nb\r\n.\r\n") },
		{ "CRCRLF.CRLF", S("a\r\r\n.\r\n"), 7, PAYLOAD_END,
			S("a \r\n.\r\n") },
		{ "LFCR.CRLF", S("a\n\r.\r\n.\r\n"), 9, PAYLOAD_END,
			S("a\r\n .\r\n.\r\n") },
		{ "NUL before the dot", S("a\r\n\0.\r\nb"), 0, PAYLOAD_NUL,
			S("a\r\n") },
		{ "NUL behind the dot", S("a\r\n.\0\r\nb"), 0, PAYLOAD_NUL,
			S("a\r\n") },
		{ "NUL inside the end", S("a\r\n.\r\0\nb"), 0, PAYLOAD_NUL,
			S("a\r\n") },
		{ "NUL in text", S("ab\0cd\r\n.\r\n"), 10, PAYLOAD_NUL,
			S("ab") },
		{ "stuffed", S("..\r\n..a\r\n.\r\n"), 12, PAYLOAD_END,
			S("..\r\n..a\r\n.\r\n") },
		{ "stuffed twice", S("...\r\n.\r\n"), 8, PAYLOAD_END,
			S("...\r\n.\r\n") },
		{ "needless dot", S(".a\r\n.\r\n"), 7, PAYLOAD_END,
			S("a\r\n.\r\n") },
		{ "needless dot, then LF and dots", S(".\n..\r\n.\r\n"), 9,
			PAYLOAD_END, S("\r\n...\r\n.\r\n") },
		{ "dot inside", S("a.\r\n.\r\n"), 7, PAYLOAD_END,
			S("a.\r\n.\r\n") },
		{ "not over", S("a\r\n.\r"), 0, PAYLOAD_MORE, S("a\r\n") },
		{ "open dot", S("a\r\n."), 0, PAYLOAD_MORE, S("a\r\n") },
		{ "open CR", S("a\r"), 0, PAYLOAD_MORE, S("a") },
	};

	(void)state;
	for (size_t i = 0; i < N(rows); i++) {
		const uint8_t *p = (const uint8_t *)rows[i].in;

		for (size_t cut = 0; cut <= rows[i].len; cut++) {
			uint8_t out[64];
			size_t used, got, at;
			uint8_t dotted = 0;
			bool end;

			if (clean(p, rows[i].len, &cut, 1, out, &used, &got) !=
				rows[i].status || got != rows[i].want_len ||
			    memcmp(out, rows[i].want, got) != 0)
				fail_msg("%s, cut at %zu: \"%.*s\"",
					rows[i].name, cut, (int)got, out);
			at = frame_dotted(&dotted, p, cut, &end);
			if (!end)
				at += frame_dotted(&dotted, p + cut,
					rows[i].len - cut, &end);
			if (at != (rows[i].end != 0 ? rows[i].end :
				rows[i].len) || end != (rows[i].end != 0))
				fail_msg("%s, cut at %zu: dotted says %zu",
					rows[i].name, cut, at);
			if (rows[i].status == PAYLOAD_END)
				assert_int_equal(used, rows[i].end);
		}
	}
}

/* ---- the property test ---- */

/*
 * RFC 5321 section 4.5.2, read strictly: lines end in CRLF and nothing else; a
 * line that is "." ends the mail; of any other line that begins with a dot, the
 * dot goes. The lines with their CRLF go to out. Octets up to and including the
 * end, or 0.
 */
static size_t
reference(const uint8_t *p, size_t n, uint8_t *out, size_t *out_r)
{
	size_t start = 0;

	*out_r = 0;
	for (size_t i = 0; i + 1 < n; i++) {
		if (p[i] != '\r' || p[i + 1] != '\n')
			continue;
		size_t len = i - start;
		if (len == 1 && p[start] == '.')
			return i + 2;
		size_t skip = len > 0 && p[start] == '.';
		memcpy(out + *out_r, p + start + skip, len + 2 - skip);
		*out_r += len + 2 - skip;
		start = i + 2;
		i++;
	}
	return 0;
}

/* What mending has to make of content: bare LF -> CRLF, bare CR -> space. */
static size_t
mend(const uint8_t *p, size_t n, uint8_t *out)
{
	size_t o = 0;

	for (size_t i = 0; i < n; i++) {
		if (p[i] == '\r' && i + 1 < n && p[i + 1] == '\n') {
			out[o++] = '\r';
			out[o++] = '\n';
			i++;
		} else if (p[i] == '\r') {
			out[o++] = ' ';
		} else if (p[i] == '\n') {
			out[o++] = '\r';
			out[o++] = '\n';
		} else {
			out[o++] = p[i];
		}
	}
	return o;
}

/* Where a reader to whom LF (or CR, or either) ends a line sees a lone dot
 * first; n: nowhere. */
static size_t
lenient_end(const uint8_t *p, size_t n, bool lf, bool cr)
{
	size_t len = 0;
	bool dot = false;

	for (size_t i = 0; i < n; i++) {
		bool ends = (lf && p[i] == '\n') || (cr && p[i] == '\r');

		if (ends) {
			if (len == 1 && dot)
				return i;
			len = 0;
			continue;
		}
		if (p[i] == '\r' || p[i] == '\n')
			continue;	/* the other half of a line's end */
		dot = len == 0 && p[i] == '.';
		len++;
	}
	return n;
}

static void
check_output(const uint8_t *out, size_t got)
{
	for (size_t k = 0; k < got; k++) {
		assert_int_not_equal(out[k], 0);
		if (out[k] == '\n')
			assert_true(k > 0 && out[k - 1] == '\r');
		if (out[k] == '\r')
			assert_true(k + 1 < got && out[k + 1] == '\n');
	}
}

/* A whole, cleaned mail: every reader finds its end at the same place. */
static void
check_whole(const uint8_t *out, size_t got)
{
	uint8_t decoded[2048];
	size_t n;

	check_output(out, got);
	assert_int_equal(reference(out, got, decoded, &n), got);
	assert_int_equal(lenient_end(out, got, true, false), got - 1);
	assert_int_equal(lenient_end(out, got, false, true), got - 2);
	assert_int_equal(lenient_end(out, got, true, true), got - 2);
}

static uint32_t
next(uint32_t *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return *seed >> 16;
}

static size_t
random_cuts(uint32_t *seed, size_t n, size_t *cut)
{
	size_t ncut = 0;

	for (size_t at = 1; at < n && ncut < 64; at++)
		if (next(seed) % 3 == 0)
			cut[ncut++] = at;
	return ncut;
}

static void
properties(void **state)
{
	static const char alphabet[] = "\r\r\r\n\n\n...a\0";
	uint32_t seed = 5321;
	unsigned ended = 0, nul = 0;

	(void)state;
	for (int round = 0; round < 60000; round++) {
		uint8_t in[64], content[128], want[256], out[512], again[512];
		size_t cut[64], n = next(&seed) % 60, used, got, len, end, m;
		size_t letters = round % 4 == 0 ? 11 : 10;
		uint8_t dotted = 0;
		bool over;

		for (size_t i = 0; i < n; i++)
			in[i] = (uint8_t)alphabet[next(&seed) % letters];
		if (round % 2 == 0) {
			memcpy(in + n, "\r\n.\r\n", 5);
			n += 5;
		}
		size_t ncut = random_cuts(&seed, n, cut);
		enum payload_status status = clean(in, n, cut, ncut, out,
			&used, &got);
		end = reference(in, n, content, &len);
		m = frame_dotted(&dotted, in, n, &over);
		assert_int_equal(over, end != 0);
		assert_int_equal(m, end != 0 ? end : n);
		assert_true(got <= PAYLOAD_ROOM(n));
		const uint8_t *zero = memchr(in, '\0', end != 0 ? end : n);
		if (zero != NULL) {
			nul++;
			assert_int_equal(status, PAYLOAD_NUL);
			assert_int_equal(used, (size_t)(zero - in));
			check_output(out, got);
			continue;
		}
		assert_int_equal(status, end != 0 ? PAYLOAD_END : PAYLOAD_MORE);
		check_output(out, got);
		if (end == 0)
			continue;
		ended++;
		assert_int_equal(used, end);
		check_whole(out, got);
		/* The mail says what the strict reader read, mended. */
		m = mend(content, len, want);
		assert_int_equal(reference(out, got, again, &len), got);
		assert_int_equal(len, m);
		assert_memory_equal(again, want, m);
	}
	assert_true(ended > 10000);
	assert_true(nul > 1000);
}

/* Well-formed mail passes octet for octet, in any pieces. */
static void
well_formed(void **state)
{
	static const char *const word[] = { "a", "\r\n", "..", ".", " ", "b." };
	uint32_t seed = 821;

	(void)state;
	for (int round = 0; round < 20000; round++) {
		uint8_t in[256], out[520];
		size_t n = 0, cut[64], used, got, words = next(&seed) % 40;
		bool start = true;

		for (size_t i = 0; i < words; i++) {
			const char *w = word[next(&seed) % N(word)];

			if (start && w[0] == '.')
				w = "..";
			memcpy(in + n, w, strlen(w));
			n += strlen(w);
			start = w[0] == '\r';
		}
		if (!start) {
			memcpy(in + n, "\r\n", 2);
			n += 2;
		}
		memcpy(in + n, ".\r\n", 3);
		n += 3;
		size_t ncut = random_cuts(&seed, n, cut);
		assert_int_equal(clean(in, n, cut, ncut, out, &used, &got),
			PAYLOAD_END);
		assert_int_equal(used, n);
		assert_int_equal(got, n);
		assert_memory_equal(out, in, n);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines),
		cmocka_unit_test(long_lines),
		cmocka_unit_test(smuggling),
		cmocka_unit_test(properties),
		cmocka_unit_test(well_formed),
	};

	return cmocka_run_group_tests_name("frame", tests, NULL, NULL);
}
