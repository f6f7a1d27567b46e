/*
 * addr.h - IP addresses, ports and prefixes as plain values
 *
 * An address is 20 bytes, copied freely, compared with memcmp-like helpers and
 * never allocated. IPv4 uses the first four bytes of ip[]; the rest is zero.
 */
#ifndef SALLYPORT_ADDR_H
#define SALLYPORT_ADDR_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

/* Longest text: "[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255]:65535" + NUL. */
#define ADDR_STRLEN 56

struct addr {
	uint8_t family;	/* AF_INET, AF_INET6, or 0: no address */
	uint8_t pad;	/* always 0 */
	uint16_t port;	/* host byte order; 0: none */
	uint8_t ip[16];	/* network byte order, unused bytes 0 */
};

struct prefix {
	uint8_t family;	/* AF_INET or AF_INET6 */
	uint8_t len;	/* 0..32 or 0..128 */
	uint8_t ip[16];	/* host bits are 0 */
};

/*
 * Text to address. Accepts "203.0.113.9", "203.0.113.9:25", "2001:db8::1" and
 * "[2001:db8::1]:25". 0, or -1 when the text is anything else.
 */
int addr_parse(struct addr *a, const char *text);

/*
 * Text to prefix: "198.18.0.0/16", "2001:db8::/32"; a bare address is /32 or
 * /128. On failure -1 and *why_r is a constant sentence ("host bits set", ...).
 */
int prefix_parse(struct prefix *p, const char *text, const char **why_r);

/* Address without port; with port ("a:p", "[a]:p"); prefix. Return out. */
const char *addr_format(const struct addr *a, char out[ADDR_STRLEN]);
const char *addr_format_port(const struct addr *a, char out[ADDR_STRLEN]);
const char *prefix_format(const struct prefix *p, char out[ADDR_STRLEN]);

/* Conversions; -1 for a family that is neither IPv4 nor IPv6. A v4-mapped IPv6
 * socket address becomes the IPv4 address it stands for. */
int addr_from_sockaddr(struct addr *a, const struct sockaddr *sa);
socklen_t addr_to_sockaddr(const struct addr *a, struct sockaddr_storage *ss);

/* Same family and address; the ports are not compared. */
bool addr_same_host(const struct addr *a, const struct addr *b);

/* out = a; an address of NAT64's 64:ff9b::/96 becomes the IPv4 address in it. */
void addr_nat64(struct addr *out, const struct addr *a);

/* The whole address as a prefix (/32, /128); the line an address belongs to. */
void prefix_of_addr(struct prefix *p, const struct addr *a, unsigned len);

bool prefix_contains(const struct prefix *p, const struct addr *a);
bool prefix_equal(const struct prefix *a, const struct prefix *b);

/*
 * Why nobody may be connected to at this address, as a word for the log
 * ("loopback", "private", "link-local", "multicast", "reserved", "mapped",
 * "nat64", ...), or NULL when it is an ordinary address. Documentation and
 * benchmark prefixes (RFC 5737, RFC 2544, RFC 3849) count as ordinary: they
 * are not routed, and the lab lives in them.
 */
const char *addr_special(const struct addr *a);

/* The IPv4 address that a translator would hand a on to (NAT64's well-known
 * prefix, 6to4). false: none inside. */
bool addr_embedded(const struct addr *a, struct addr *v4_r);

#endif
