/*
 * line.c - a line's key: from a packet, from text, to text
 *
 * The only place that knows what makes two connections the same line. Pure: no
 * table, no configuration, no memory. A class's line length and port block come
 * with the call.
 *
 * Called for every first packet and session, and for operators' words. A
 * subscriber chooses address (IPv6) and source port of a packet: within his
 * prefix or port block he stays the same line. Text comes from operators and
 * provisioning scripts and may be anything.
 */
#include "zombie/line.h"

#include <stdio.h>
#include <string.h>

#define PORTS 65536u

static const uint8_t none[4];

_Static_assert(sizeof(struct line_key) == 12, "no hidden octet");

void
line_key_of(const struct addr *src, unsigned len6, unsigned port_block,
	struct line_key *k_r)
{
	struct addr a;
	struct prefix p;

	addr_nat64(&a, src);
	prefix_of_addr(&p, &a, a.family == AF_INET ? 32 : len6 < 64 ? len6 : 64);
	memset(k_r, 0, sizeof(*k_r));
	k_r->family = p.family;
	k_r->len = p.len;
	memcpy(k_r->ip, p.ip, sizeof(k_r->ip));
	if (a.family == AF_INET && port_block != 0)
		k_r->block = (uint16_t)(1 + a.port / port_block);
}

void
line_key_prefix(const struct line_key *k, struct prefix *p_r)
{
	memset(p_r, 0, sizeof(*p_r));
	p_r->family = k->family;
	p_r->len = k->len;
	memcpy(p_r->ip, k->ip, sizeof(k->ip));
}

bool
line_key_same(const struct line_key *a, const struct line_key *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

/* An address of the line, with the first port of its block. */
static void
address_of(const struct line_key *k, unsigned port_block, struct addr *a_r)
{
	memset(a_r, 0, sizeof(*a_r));
	a_r->family = k->family;
	memcpy(a_r->ip, k->ip, sizeof(k->ip));
	if (k->block != 0)
		a_r->port = (uint16_t)((k->block - 1u) * port_block);
}

bool
line_key_valid(const struct line_key *k, unsigned len6, unsigned port_block)
{
	struct prefix p;
	struct addr a;

	if (k->family != AF_INET && k->family != AF_INET6)
		return false;
	if ((k->block != 0) != (k->family == AF_INET && port_block != 0) ||
	    (k->block != 0 && (k->block - 1u) * port_block >= PORTS))
		return false;
	address_of(k, port_block, &a);
	prefix_of_addr(&p, &a, k->family == AF_INET ? 32 :
		len6 < 64 ? len6 : 64);
	return p.len == k->len && memcmp(p.ip, k->ip, sizeof(k->ip)) == 0 &&
		(k->family == AF_INET6 || memcmp(k->ip + 4, none, 4) == 0);
}

bool
line_key_parent(const struct line_key *k, unsigned len,
	struct line_key *parent_r)
{
	struct addr a;

	if (k->family != AF_INET6 || k->len <= len)
		return false;
	address_of(k, 0, &a);
	line_key_of(&a, len, 0, parent_r);
	return true;
}

const char *
line_format(const struct line_key *k, unsigned port_block,
	char out[LINE_STRLEN])
{
	char text[ADDR_STRLEN];
	struct prefix p;
	struct addr a;

	if (k->family == AF_INET6) {
		line_key_prefix(k, &p);
		snprintf(out, LINE_STRLEN, "%.39s", prefix_format(&p, text));
		return out;
	}
	address_of(k, port_block, &a);
	addr_format(&a, text);
	if (k->block == 0)
		snprintf(out, LINE_STRLEN, "%.39s", text);
	else
		snprintf(out, LINE_STRLEN, "%.15s:%u-%u", text, a.port,
			a.port + port_block > PORTS ? PORTS - 1 :
			a.port + port_block - 1);
	return out;
}

/* A port and nothing else; -1: not one. */
static int
port_of(const char *text, size_t len)
{
	int port = 0;

	if (len == 0 || len > 5)
		return -1;
	for (size_t i = 0; i < len; i++) {
		if (text[i] < '0' || text[i] > '9')
			return -1;
		port = port * 10 + (text[i] - '0');
	}
	return port < (int)PORTS ? port : -1;
}

/* "1024-2047" */
static int
parse_ports(struct line_text *l, const char *text)
{
	size_t len = strcspn(text, "-");
	int first = port_of(text, len), last;

	if (text[len] != '-')
		return -1;
	last = port_of(text + len + 1, strlen(text + len + 1));
	if (first < 0 || last < first)
		return -1;
	l->has_ports = true;
	l->first = (uint16_t)first;
	l->last = (uint16_t)last;
	return 0;
}

int
line_parse(struct line_text *l, const char *text, const char **why_r)
{
	const char *colon = strchr(text, ':');
	char address[ADDR_STRLEN];
	size_t len = colon == NULL ? 0 : (size_t)(colon - text);

	memset(l, 0, sizeof(*l));
	/* one colon behind a dot: IPv4 and ports */
	if (colon == NULL || memchr(text, '.', len) == NULL)
		return prefix_parse(&l->prefix, text, why_r);
	*why_r = "an address and its ports are expected, like "
		"198.18.64.1:1024-2047";
	if (len >= sizeof(address) || parse_ports(l, colon + 1) != 0)
		return -1;
	memcpy(address, text, len);
	address[len] = '\0';
	if (prefix_parse(&l->prefix, address, why_r) != 0)
		return -1;
	if (l->prefix.family == AF_INET && l->prefix.len == 32)
		return 0;
	*why_r = "ports belong to one IPv4 address";
	return -1;
}

const char *
line_key_from(const struct line_text *l, unsigned len6, unsigned port_block,
	struct line_key *k_r, char why[120])
{
	struct addr a = { .family = l->prefix.family, .port = l->first };
	bool is_cgn = l->prefix.family == AF_INET && port_block != 0;
	unsigned len = l->prefix.family == AF_INET ? 32 : len6 < 64 ? len6 : 64;
	unsigned first = is_cgn ? l->first / port_block * port_block : 0;
	unsigned last = first + port_block > PORTS ? PORTS - 1 :
		first + port_block - 1;

	memcpy(a.ip, l->prefix.ip, sizeof(a.ip));
	if (l->prefix.len != len)
		snprintf(why, 120, "a line of this class is a /%u, found /%u",
			len, l->prefix.len);
	else if (is_cgn && !l->has_ports)
		snprintf(why, 120, "a line of this class is an address and %u "
			"of its ports, like ADDRESS:%u-%u", port_block,
			first, last);
	else if (is_cgn && (l->first != first || l->last != last))
		snprintf(why, 120, "the blocks of this class are %u ports "
			"long; port %u is in %u-%u", port_block, l->first,
			first, last);
	else if (!is_cgn && l->has_ports)
		snprintf(why, 120, "a line of this class is a whole address; "
			"it has no port_block");
	else {
		line_key_of(&a, len6, port_block, k_r);
		return NULL;
	}
	return why;
}
