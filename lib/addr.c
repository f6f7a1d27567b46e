/*
 * addr.c - IP addresses, ports and prefixes as plain values
 *
 * Parses and formats text, converts socket addresses, compares, and knows
 * which addresses nobody may be connected to. Never resolves a name, never
 * allocates, keeps no state.
 *
 * Called by everything. Text comes from the configuration, the allowlist, the
 * command line and DNS helpers; socket addresses come from accept(2) and are
 * chosen by the peer. Every struct addr made here has its unused bytes zero,
 * so that addresses may be hashed and compared as memory.
 *
 * addr_special() is a security boundary: a subscriber chooses the address that
 * is dialled, and everything this function lets through may be connected to
 * with the gateway's routing. New forms that embed an IPv4 address belong in
 * its table, judged by the address they embed.
 */
#include "lib/addr.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

/* Decimal without sign, spaces or leading zeros; -1 when it is not 0..max. */
static long
number(const char *text, long max)
{
	long n = 0;

	if (text[0] == '\0' || (text[0] == '0' && text[1] != '\0'))
		return -1;
	for (; *text != '\0'; text++) {
		if (*text < '0' || *text > '9')
			return -1;
		n = n * 10 + (*text - '0');
		if (n > max)
			return -1;
	}
	return n;
}

static int
host_parse(struct addr *a, const char *text)
{
	memset(a, 0, sizeof(*a));
	if (inet_pton(AF_INET, text, a->ip) == 1)
		a->family = AF_INET;
	else if (inet_pton(AF_INET6, text, a->ip) == 1)
		a->family = AF_INET6;
	else
		return -1;
	return 0;
}

int
addr_parse(struct addr *a, const char *text)
{
	char host[ADDR_STRLEN];
	size_t len = strlen(text);
	const char *colon, *port = NULL;
	long n = 0;

	if (len >= sizeof(host))
		return -1;
	memcpy(host, text, len + 1);
	colon = strrchr(host, ':');
	if (host[0] == '[') {
		/* "[v6]:port": the bracket right before the last colon */
		if (colon == NULL || colon[-1] != ']')
			return -1;
		host[colon - host - 1] = '\0';
		port = colon + 1;
		memmove(host, host + 1, (size_t)(colon - host) - 1);
	} else if (colon != NULL && strchr(host, ':') == colon) {
		/* one colon only: "v4:port" */
		host[colon - host] = '\0';
		port = colon + 1;
	}
	if (port != NULL && (n = number(text + (port - host), 65535)) < 1)
		return -1;
	if (host_parse(a, host) < 0)
		return -1;
	if (port != NULL && a->family != (text[0] == '[' ? AF_INET6 : AF_INET))
		return -1;
	a->port = (uint16_t)n;
	return 0;
}

static unsigned
family_bits(uint8_t family)
{
	return family == AF_INET ? 32 : 128;
}

/* Zero everything after the first len bits. */
static void
ip_mask(uint8_t ip[16], unsigned len)
{
	for (unsigned i = 0; i < 16; i++) {
		if (len >= (i + 1) * 8)
			continue;
		if (len <= i * 8)
			ip[i] = 0;
		else
			ip[i] &= (uint8_t)(0xff << (8 - len % 8));
	}
}

int
prefix_parse(struct prefix *p, const char *text, const char **why_r)
{
	char host[ADDR_STRLEN];
	const char *slash = strchr(text, '/');
	size_t len = slash != NULL ? (size_t)(slash - text) : strlen(text);
	struct addr a;
	long bits;

	*why_r = "not an IP address or prefix";
	if (len >= sizeof(host))
		return -1;
	memcpy(host, text, len);
	host[len] = '\0';
	if (host_parse(&a, host) < 0)
		return -1;
	bits = family_bits(a.family);
	if (slash != NULL && (bits = number(slash + 1, bits)) < 0) {
		*why_r = a.family == AF_INET ? "prefix length is not 0 to 32" :
			"prefix length is not 0 to 128";
		return -1;
	}
	prefix_of_addr(p, &a, (unsigned)bits);
	if (memcmp(p->ip, a.ip, sizeof(a.ip)) != 0) {
		*why_r = "host bits set";
		return -1;
	}
	*why_r = NULL;
	return 0;
}

const char *
addr_format(const struct addr *a, char out[ADDR_STRLEN])
{
	if (inet_ntop(a->family, a->ip, out, ADDR_STRLEN) == NULL)
		snprintf(out, ADDR_STRLEN, "-");
	return out;
}

const char *
addr_format_port(const struct addr *a, char out[ADDR_STRLEN])
{
	char host[ADDR_STRLEN];

	addr_format(a, host);
	/* 46 covers INET6_ADDRSTRLEN and lets the compiler see the bound */
	if (a->family == AF_INET6)
		snprintf(out, ADDR_STRLEN, "[%.46s]:%u", host, a->port);
	else
		snprintf(out, ADDR_STRLEN, "%.46s:%u", host, a->port);
	return out;
}

const char *
prefix_format(const struct prefix *p, char out[ADDR_STRLEN])
{
	char host[ADDR_STRLEN];

	if (inet_ntop(p->family, p->ip, host, sizeof(host)) == NULL)
		snprintf(out, ADDR_STRLEN, "-");
	else
		snprintf(out, ADDR_STRLEN, "%.46s/%u", host, p->len);
	return out;
}

static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

int
addr_from_sockaddr(struct addr *a, const struct sockaddr *sa)
{
	struct sockaddr_in in;
	struct sockaddr_in6 in6;

	memset(a, 0, sizeof(*a));
	if (sa->sa_family == AF_INET) {
		memcpy(&in, sa, sizeof(in));
		a->family = AF_INET;
		a->port = ntohs(in.sin_port);
		memcpy(a->ip, &in.sin_addr, 4);
		return 0;
	}
	if (sa->sa_family != AF_INET6)
		return -1;
	memcpy(&in6, sa, sizeof(in6));
	a->port = ntohs(in6.sin6_port);
	if (memcmp(&in6.sin6_addr, mapped, sizeof(mapped)) == 0) {
		a->family = AF_INET;
		memcpy(a->ip, in6.sin6_addr.s6_addr + 12, 4);
	} else {
		a->family = AF_INET6;
		memcpy(a->ip, &in6.sin6_addr, 16);
	}
	return 0;
}

socklen_t
addr_to_sockaddr(const struct addr *a, struct sockaddr_storage *ss)
{
	struct sockaddr_in *in = (struct sockaddr_in *)ss;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ss;

	memset(ss, 0, sizeof(*ss));
	if (a->family == AF_INET) {
		in->sin_family = AF_INET;
		in->sin_port = htons(a->port);
		memcpy(&in->sin_addr, a->ip, 4);
		return sizeof(*in);
	}
	if (a->family != AF_INET6)
		return (socklen_t)-1;
	in6->sin6_family = AF_INET6;
	in6->sin6_port = htons(a->port);
	memcpy(&in6->sin6_addr, a->ip, 16);
	return sizeof(*in6);
}

bool
addr_same_host(const struct addr *a, const struct addr *b)
{
	return a->family == b->family &&
		memcmp(a->ip, b->ip, sizeof(a->ip)) == 0;
}

void
prefix_of_addr(struct prefix *p, const struct addr *a, unsigned len)
{
	if (len > family_bits(a->family))
		len = family_bits(a->family);
	p->family = a->family;
	p->len = (uint8_t)len;
	memcpy(p->ip, a->ip, sizeof(p->ip));
	ip_mask(p->ip, len);
}

static bool
bits_equal(const uint8_t *a, const uint8_t *b, unsigned len)
{
	unsigned bytes = len / 8, rest = len % 8;

	if (memcmp(a, b, bytes) != 0)
		return false;
	return rest == 0 || ((a[bytes] ^ b[bytes]) >> (8 - rest)) == 0;
}

static const uint8_t nat64[12] = { 0, 0x64, 0xff, 0x9b };	/* RFC 6052 */

void
addr_nat64(struct addr *out, const struct addr *a)
{
	struct addr in = *a;

	*out = in;
	if (in.family != AF_INET6 || memcmp(in.ip, nat64, sizeof(nat64)) != 0)
		return;
	out->family = AF_INET;
	memset(out->ip, 0, sizeof(out->ip));
	memcpy(out->ip, in.ip + 12, 4);
}

bool
prefix_contains(const struct prefix *p, const struct addr *a)
{
	return p->family == a->family && bits_equal(p->ip, a->ip, p->len);
}

bool
prefix_equal(const struct prefix *a, const struct prefix *b)
{
	return a->family == b->family && a->len == b->len &&
		memcmp(a->ip, b->ip, sizeof(a->ip)) == 0;
}

struct special {
	const char *word;	/* NULL: ordinary, stop looking */
	uint8_t ip[16];
	uint8_t len;
	uint8_t embeds;		/* offset of an IPv4 address that decides, or 0 */
};

/* IANA special-purpose registry; the first row that matches decides. */
static const struct special special4[] = {
	{ "unspecified", { 0 }, 8, 0 },
	{ "private", { 10 }, 8, 0 },
	{ "private", { 100, 64 }, 10, 0 },	/* RFC 6598, behind CGN */
	{ "loopback", { 127 }, 8, 0 },
	{ "link-local", { 169, 254 }, 16, 0 },
	{ "private", { 172, 16 }, 12, 0 },
	{ "reserved", { 192, 0, 0 }, 24, 0 },
	{ "reserved", { 192, 88, 99 }, 24, 0 },	/* 6to4 relays, RFC 7526 */
	{ "private", { 192, 168 }, 16, 0 },
	{ "multicast", { 224 }, 4, 0 },
	{ "reserved", { 240 }, 4, 0 },
};

static const struct special special6[] = {
	{ "loopback", { [15] = 1 }, 128, 0 },
	{ "unspecified", { 0 }, 128, 0 },
	{ "mapped", { [10] = 0xff, [11] = 0xff }, 96, 0 },
	{ "nat64", { 0, 0x64, 0xff, 0x9b }, 96, 12 },
	/* RFC 8215: where the IPv4 address sits is the operator's secret */
	{ "nat64", { 0, 0x64, 0xff, 0x9b, 0, 1 }, 48, 0 },
	{ "6to4", { 0x20, 0x02 }, 16, 2 },
	{ "reserved", { 0x20, 0x01, 0, 0 }, 32, 0 },	/* Teredo */
	{ "reserved", { 0x20, 0x01, 0, 0x10 }, 28, 0 },	/* ORCHID */
	{ "reserved", { 0x20, 0x01, 0, 0x20 }, 28, 0 },
	{ NULL, { 0x20 }, 3, 0 },			/* global unicast */
	{ "private", { 0xfc }, 7, 0 },
	{ "link-local", { 0xfe, 0x80 }, 10, 0 },
	{ "private", { 0xfe, 0xc0 }, 10, 0 },		/* site-local */
	{ "multicast", { 0xff }, 8, 0 },
	{ "reserved", { 0 }, 0, 0 },
};

static const struct special *
special_find(const struct special *row, size_t n, const uint8_t *ip)
{
	for (; n > 0; row++, n--)
		if (bits_equal(row->ip, ip, row->len))
			return row;
	return NULL;
}

bool
addr_embedded(const struct addr *a, struct addr *v4_r)
{
	const struct special *row = a->family != AF_INET6 ? NULL :
		special_find(special6, sizeof(special6) / sizeof(special6[0]),
			a->ip);

	if (row == NULL || row->embeds == 0)
		return false;
	memset(v4_r, 0, sizeof(*v4_r));
	v4_r->family = AF_INET;
	v4_r->port = a->port;
	memcpy(v4_r->ip, a->ip + row->embeds, 4);
	return true;
}

const char *
addr_special(const struct addr *a)
{
	const struct special *row = NULL;

	if (a->family == AF_INET)
		row = special_find(special4,
			sizeof(special4) / sizeof(special4[0]), a->ip);
	else if (a->family == AF_INET6)
		row = special_find(special6,
			sizeof(special6) / sizeof(special6[0]), a->ip);
	else
		return "no-address";
	if (row == NULL)
		return NULL;
	/* A translator would hand it on to the address inside. */
	if (row->embeds != 0 && special_find(special4,
		    sizeof(special4) / sizeof(special4[0]),
		    a->ip + row->embeds) == NULL)
		return NULL;
	return row->word;
}
