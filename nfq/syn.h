/*
 * syn.h - what the first packet says about the system that sent it
 *
 * A fingerprint is one 64-bit word, so that it fits a record of the line table
 * as a single atomic: initial TTL, window, MSS, window scale and the order of
 * the first eight TCP options. Shown by `why`; more than one system behind a
 * line hints at NAT. Never evidence by itself: it is trivial to imitate.
 *
 * nfq takes it from queued packets; relays from TCP_SAVE_SYN, whose octets go
 * through packet_parse() (packet.h) in the same way.
 */
#ifndef SALLYPORT_SYN_H
#define SALLYPORT_SYN_H

#include <stddef.h>
#include <stdint.h>

/* No window scale option; 14 is the largest legal value (RFC 7323 2.3). */
#define SYN_NO_SCALE 15

/* Option kinds as they stand in the word, three bits each, first lowest. */
enum syn_option {
	SYN_OPTION_NONE, SYN_OPTION_NOP, SYN_OPTION_MSS, SYN_OPTION_SCALE,
	SYN_OPTION_SACK, SYN_OPTION_TIME, SYN_OPTION_FASTOPEN,
	SYN_OPTION_OTHER
};

#define SYN_OPTIONS 8

struct syn {
	uint16_t window;
	uint16_t mss;		/* 0: not said */
	uint8_t ttl;		/* initial: 32, 64, 128 or 255 */
	uint8_t scale;		/* 0..14 or SYN_NO_SCALE */
	uint8_t option[SYN_OPTIONS];	/* enum syn_option */
};

/* Longest text of syn_format() with its NUL. */
#define SYN_STRLEN 64

/*
 * The fingerprint of a TCP header with its options; len is the header's own
 * length and all of it is there (20..60). ttl: as it arrived. Never 0.
 */
uint64_t syn_of(uint8_t ttl, const uint8_t *tcp, size_t len);

/* The word taken apart. 0, or -1 when it is no fingerprint (0). */
int syn_unpack(uint64_t word, struct syn *s_r);

/* "ttl=64 win=64240 mss=1460 scale=7 opt=M,S,T,N,W", or "-". Returns out. */
const char *syn_format(uint64_t word, char out[SYN_STRLEN]);

#endif
