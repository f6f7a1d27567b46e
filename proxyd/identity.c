/*
 * identity.c - whose connection it is, told to a server
 *
 * For servers that would otherwise see only the gateway's address: the binary
 * header of the PROXY protocol (haproxy.org, proxy-protocol.txt, section 2.2)
 * and Postfix's XCLIENT. Addresses are those we accepted, printed by us; the
 * one value that a client said is LOGIN, in xtext, after the server itself has
 * accepted that login (smtp_pop.c). NAME is said to be unknown, or the server
 * would keep the gateway's own for the line.
 */
#include "proxyd/identity.h"

#include <string.h>
#include <strings.h>

#include "proxyd/proto.h"

static const uint8_t signature[12] = "\r\n\r\n\0\r\nQUIT\n";

#define VERSION_LOCAL 0x20
#define VERSION_PROXY 0x21
#define TCP_OVER_IPV4 0x11
#define TCP_OVER_IPV6 0x21

static uint8_t *
put_port(uint8_t *o, uint16_t port)
{
	*o++ = (uint8_t)(port >> 8);
	*o++ = (uint8_t)port;
	return o;
}

size_t
identity_proxy(uint8_t out[PROXY_HEADER_MAX], const struct addr *src,
	const struct addr *dst)
{
	size_t ip = src->family == AF_INET6 ? 16 : 4;
	uint8_t *o = out;

	memcpy(o, signature, sizeof(signature));
	o += sizeof(signature);
	if (src->family != dst->family) {
		*o++ = VERSION_LOCAL;
		*o++ = 0;
		return (size_t)(put_port(o, 0) - out);
	}
	*o++ = VERSION_PROXY;
	*o++ = ip == 16 ? TCP_OVER_IPV6 : TCP_OVER_IPV4;
	o = put_port(o, (uint16_t)(2 * ip + 4));	/* length: same form */
	memcpy(o, src->ip, ip);
	memcpy(o + ip, dst->ip, ip);
	o = put_port(o + 2 * ip, src->port);
	return (size_t)(put_port(o, dst->port) - out);
}

/* PROXY protocol, 2.2.6: type, length, client flags, no certificate verified, and
 * the version as a text. */
size_t
identity_proxy_tls(uint8_t out[PROXY_HEADER_MAX], const struct addr *src,
	const struct addr *dst, int tls)
{
	static const uint8_t begin[] = { 0x20, 0, 15, 0x01, 0, 0, 0, 1,
		0x21, 0, 7 };
	size_t n = identity_proxy(out, src, dst), more = sizeof(begin) + 7;

	if (tls == 0 || out[12] != VERSION_PROXY)
		return n;
	memcpy(out + n, begin, sizeof(begin));
	memcpy(out + n + sizeof(begin), tls == 13 ? "TLSv1.3" : "TLSv1.2", 7);
	(void)put_port(out + 14, (uint16_t)(n - 16 + more));
	return n + more;
}

enum {
	ATTRIBUTE_ADDR, ATTRIBUTE_PORT, ATTRIBUTE_NAME, ATTRIBUTE_LOGIN,
	ATTRIBUTES
};

static const char *const attribute[ATTRIBUTES] = { "ADDR", "PORT", "NAME",
	"LOGIN" };

#define HAS(set, which) (((set) & (UINT32_C(1) << (which))) != 0)

uint32_t
identity_attributes(const uint8_t *p, size_t n)
{
	uint32_t set = 0;
	size_t i = 0;

	while (i < n) {
		size_t start = i;

		while (i < n && p[i] != ' ')
			i++;
		for (int k = 0; k < ATTRIBUTES; k++)
			if (strlen(attribute[k]) == i - start &&
			    strncasecmp(attribute[k], (const char *)p + start,
				    i - start) == 0)
				set |= UINT32_C(1) << k;
		i++;
	}
	return set;
}

int
identity_xclient(uint32_t attributes, const struct addr *client,
	struct sink *out)
{
	char text[ADDR_STRLEN];

	if (!HAS(attributes, ATTRIBUTE_ADDR))
		return -1;
	sink_text(out, "XCLIENT ADDR=%s%s", client->family == AF_INET6 ?
		"IPV6:" : "", addr_format(client, text));
	if (HAS(attributes, ATTRIBUTE_PORT))
		sink_text(out, " PORT=%u", client->port);
	if (HAS(attributes, ATTRIBUTE_NAME))
		sink_text(out, " NAME=[UNAVAILABLE]");
	sink_text(out, "\r\n");
	return 0;
}

bool
identity_has_login(uint32_t attributes)
{
	return HAS(attributes, ATTRIBUTE_LOGIN);
}

void
identity_login(const char *user, struct sink *out)
{
	sink_text(out, "XCLIENT LOGIN=");
	for (; *user != '\0'; user++) {
		uint8_t c = (uint8_t)*user;

		/* RFC 3461 section 4 */
		if (c <= ' ' || c >= 0x7f || c == '+' || c == '=')
			sink_text(out, "+%02X", c);
		else
			sink_bytes(out, &c, 1);
	}
	sink_text(out, "\r\n");
}
