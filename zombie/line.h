/*
 * line.h - what one subscriber's line is, and how it is written
 *
 * An IPv4 address, an IPv6 prefix as long as the class says, or, behind CGN, an
 * address and one block of its source ports. This key is the identity of a line
 * everywhere: first packets, sessions, limits, log, leases. It has no hidden
 * octet and is compared and hashed as memory.
 */
#ifndef SALLYPORT_LINE_H
#define SALLYPORT_LINE_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/addr.h"

struct line_key {
	uint8_t family;		/* AF_INET, AF_INET6, or 0: no line */
	uint8_t len;		/* prefix length: 32; IPv6: at most 64 */
	uint16_t block;		/* CGN: 1 + source port / block size; else 0 */
	uint8_t ip[8];		/* host bits 0; an IPv6 line is no longer */
};

/*
 * The line that a source address belongs to: IPv6 by its first len6 bits (64 at
 * most), IPv4 behind CGN by address and block of port_block source ports (0: no
 * CGN), other IPv4 by address. A NAT64 source stands for its IPv4 address.
 */
void line_key_of(const struct addr *src, unsigned len6, unsigned port_block,
	struct line_key *k_r);
/* ... as a prefix, without the port block: for display and for kernel sets. */
void line_key_prefix(const struct line_key *k, struct prefix *p_r);

bool line_key_same(const struct line_key *a, const struct line_key *b);

/* Could line_key_of() have made it, with this class? For keys that another
 * process sent. */
bool line_key_valid(const struct line_key *k, unsigned len6,
	unsigned port_block);

/*
 * The prefix of len bits that an IPv6 line lies in; false: the line is not
 * longer than that, or is IPv4.
 */
bool line_key_parent(const struct line_key *k, unsigned len,
	struct line_key *parent_r);

/* Longest text: "2001:db8:1234:1234::/64", "255.255.255.255:64512-65535". */
#define LINE_STRLEN 40

/* "198.18.3.7", "2001:db8:1:9900::/56", "198.18.64.1:1024-2047". Returns out.
 * port_block: of the class; not asked when k->block is 0. */
const char *line_format(const struct line_key *k, unsigned port_block,
	char out[LINE_STRLEN]);

/* The same text, before the class that it belongs to is known. */
struct line_text {
	struct prefix prefix;
	bool has_ports;
	uint16_t first, last;	/* source ports of the block */
};

/* 0, or -1 and *why_r is a sentence that says what was expected. */
int line_parse(struct line_text *l, const char *text, const char **why_r);

/* The line of it, in a class: NULL, or why it is not one of its lines, as a
 * sentence in why. */
const char *line_key_from(const struct line_text *l, unsigned len6,
	unsigned port_block, struct line_key *k_r, char why[120]);

#endif
