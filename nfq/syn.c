/*
 * syn.c - what the first packet says about the system that sent it
 *
 * Does: pack window, initial TTL, MSS, window scale and option order of a SYN
 * into one word, take it apart again and print it. Does not: name operating
 * systems, decide anything, read outside the octets it is given.
 *
 * Called by packet.c with a TCP header that is completely there, and by the
 * command line with words from the line table. The sender controls every
 * octet; an option with an impossible length ends the walk.
 *
 * The option order is kept as codes and not as a hash: an operator can read
 * it, and eight options of three bits take no more room than a useful hash.
 *
 * bits  0..15 window  16..31 MSS  32..35 scale  36..37 TTL  38..61 options
 * bit  63     always set, so that 0 means "none seen"
 */
#include "nfq/syn.h"

#include <stdio.h>

#define SYN_SET (UINT64_C(1) << 63)

static const uint8_t ttl_class[4] = { 32, 64, 128, 255 };
static const char option_letter[8] = "-NMWSTFX";

static uint64_t
pack_ttl(uint8_t ttl)
{
	uint64_t i = 0;

	while (i < 3 && ttl > ttl_class[i])
		i++;
	return i;
}

static enum syn_option
code_of(uint8_t kind)
{
	switch (kind) {		/* IANA TCP option kinds */
	case 1:
		return SYN_OPTION_NOP;
	case 2:
		return SYN_OPTION_MSS;
	case 3:
		return SYN_OPTION_SCALE;
	case 4:
		return SYN_OPTION_SACK;
	case 8:
		return SYN_OPTION_TIME;
	case 34:
		return SYN_OPTION_FASTOPEN;
	}
	return SYN_OPTION_OTHER;
}

uint64_t
syn_of(uint8_t ttl, const uint8_t *tcp, size_t len)
{
	uint64_t window = (uint64_t)tcp[14] << 8 | tcp[15];
	uint64_t mss = 0, scale = SYN_NO_SCALE, order = 0;
	unsigned seen = 0;

	for (size_t at = 20; at < len && tcp[at] != 0; ) {
		enum syn_option code = code_of(tcp[at]);
		size_t size = 1;

		if (code != SYN_OPTION_NOP) {
			if (at + 1 >= len || tcp[at + 1] < 2 ||
				tcp[at + 1] > len - at)
				break;
			size = tcp[at + 1];
		}
		if (code == SYN_OPTION_MSS && size == 4)
			mss = (uint64_t)tcp[at + 2] << 8 | tcp[at + 3];
		else if (code == SYN_OPTION_SCALE && size == 3)
			scale = tcp[at + 2] > 14 ? 14 : tcp[at + 2];
		if (seen < SYN_OPTIONS)
			order |= (uint64_t)code << 3 * seen++;
		at += size;
	}
	return SYN_SET | window | mss << 16 | scale << 32 |
		pack_ttl(ttl) << 36 | order << 38;
}

int
syn_unpack(uint64_t word, struct syn *s_r)
{
	if ((word & SYN_SET) == 0)
		return -1;
	s_r->window = (uint16_t)word;
	s_r->mss = (uint16_t)(word >> 16);
	s_r->scale = word >> 32 & 15;
	s_r->ttl = ttl_class[word >> 36 & 3];
	for (unsigned i = 0; i < SYN_OPTIONS; i++)
		s_r->option[i] = word >> (38 + 3 * i) & 7;
	return 0;
}

const char *
syn_format(uint64_t word, char out[SYN_STRLEN])
{
	char order[2 * SYN_OPTIONS + 1] = "-", scale[4] = "-";
	struct syn s;

	if (syn_unpack(word, &s) != 0) {
		snprintf(out, SYN_STRLEN, "-");
		return out;
	}
	for (unsigned i = 0; i < SYN_OPTIONS; i++) {
		if (s.option[i] == SYN_OPTION_NONE)
			break;
		if (i > 0)
			order[2 * i - 1] = ',';
		order[2 * i] = option_letter[s.option[i] & 7];
		order[2 * i + 1] = '\0';
	}
	if (s.scale != SYN_NO_SCALE)
		snprintf(scale, sizeof(scale), "%u", s.scale & 15u);
	snprintf(out, SYN_STRLEN, "ttl=%u win=%u mss=%u scale=%s opt=%s",
		s.ttl, s.window, s.mss, scale, order);
	return out;
}
