/*
 * packet.c - the headers of one packet as values
 *
 * Does: IPv4 with options, IPv6 with extension headers, first fragments, the
 * TCP header. Does not: checksums (the kernel's rules and the receiver have
 * their own opinion), payload, state, allocation, logging, time.
 *
 * Called by nfq for every queued packet and by relays for saved SYNs. The
 * sender controls every octet and the cut comes from the copy range, so each
 * length is checked against what is there *and* against the header around it:
 * octets behind the IP packet's own end are not part of it.
 *
 * What cannot be read is never a reason to refuse: the caller accepts it, as
 * bypass would. A SYN whose options alone are cut off is still a SYN, since
 * padding with extension headers must not hide it.
 */
#include "nfq/packet.h"

#include <string.h>

#include "nfq/syn.h"

#define TCP_BASE 20

/* IANA protocol numbers */
enum {
	NEXT_HOP_BY_HOP = 0, NEXT_TCP = 6, NEXT_ROUTING = 43,
	NEXT_FRAGMENT = 44, NEXT_AUTH = 51, NEXT_DESTINATION = 60
};

/* What is left to read, and how much of it the packet claims to have. */
struct rest {
	const uint8_t *at;
	size_t here;		/* octets we have */
	size_t claimed;		/* octets the IP header promises, >= here */
	uint8_t ttl;
	bool is_first;		/* a first fragment */
};

static uint16_t
be16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t
be32(const uint8_t *p)
{
	return (uint32_t)be16(p) << 16 | be16(p + 2);
}

static void
advance(struct rest *r, size_t n)
{
	r->at += n;
	r->here -= n;
	r->claimed -= n;
}

static enum packet_status
read_tcp(const struct rest *r, struct packet *p)
{
	const uint8_t *t = r->at;
	size_t len;

	if (r->here < TCP_BASE || r->claimed < TCP_BASE)
		return r->is_first ? PACKET_FRAGMENT :
			r->claimed < TCP_BASE ? PACKET_BAD : PACKET_CUT;
	len = (size_t)(t[12] >> 4) * 4;
	if (len < TCP_BASE)
		return PACKET_BAD;
	if (len > r->claimed)
		return r->is_first ? PACKET_FRAGMENT : PACKET_BAD;
	p->src.port = be16(t);
	p->dst.port = be16(t + 2);
	p->seq = be32(t + 4);
	p->flags = t[13];
	switch (p->flags & (PACKET_SYN | PACKET_ACK | PACKET_FIN | PACKET_RST)) {
	case PACKET_SYN:
		p->is_syn = true;
		if (len <= r->here)
			p->syn = syn_of(r->ttl, t, len);
		break;
	case PACKET_SYN | PACKET_ACK:
		p->is_synack = true;
		break;
	}
	return PACKET_OK;
}

static enum packet_status
read_ip4(struct rest *r, struct packet *p)
{
	const uint8_t *h = r->at;
	unsigned fragment;
	size_t len, total;

	if (r->here < 20)
		return PACKET_CUT;
	len = (size_t)(h[0] & 15) * 4;
	total = be16(h + 2);
	if (len < 20 || total < len)
		return PACKET_BAD;
	if (r->here < len)
		return PACKET_CUT;
	fragment = be16(h + 6);
	if ((fragment & 0x1fff) != 0)
		return PACKET_FRAGMENT;
	if (h[9] != NEXT_TCP)
		return PACKET_OTHER;
	p->src.family = p->dst.family = AF_INET;
	memcpy(p->src.ip, h + 12, 4);
	memcpy(p->dst.ip, h + 16, 4);
	r->ttl = h[8];
	r->is_first = (fragment & 0x2000) != 0;
	r->claimed = total;
	if (r->here > total)
		r->here = total;
	advance(r, len);
	return read_tcp(r, p);
}

/* Length of an extension header; 0: not one that is walked. */
static size_t
extension_len(uint8_t next, const uint8_t *h)
{
	switch (next) {
	case NEXT_HOP_BY_HOP:
	case NEXT_ROUTING:
	case NEXT_DESTINATION:
		return ((size_t)h[1] + 1) * 8;
	case NEXT_AUTH:
		return ((size_t)h[1] + 2) * 4;
	case NEXT_FRAGMENT:
		return 8;
	}
	return 0;
}

/* From behind the fixed IPv6 header to the TCP header. */
static enum packet_status
walk_extensions(struct rest *r, uint8_t next)
{
	for (unsigned i = 0; i < PACKET_EXTENSIONS && next != NEXT_TCP; i++) {
		size_t len;

		if (r->here < 8)
			return extension_len(next, (const uint8_t[2]){ 0 }) == 0
				? PACKET_OTHER : PACKET_CUT;
		len = extension_len(next, r->at);
		if (len == 0)
			return PACKET_OTHER;
		if (next == NEXT_FRAGMENT) {
			unsigned fragment = be16(r->at + 2);

			if ((fragment & 0xfff8) != 0)
				return PACKET_FRAGMENT;
			r->is_first = (fragment & 1) != 0;
		}
		if (len > r->claimed)
			return PACKET_BAD;
		if (len > r->here)
			return PACKET_CUT;
		next = r->at[0];
		advance(r, len);
	}
	return next == NEXT_TCP ? PACKET_OK : PACKET_BAD;
}

static enum packet_status
read_ip6(struct rest *r, struct packet *p)
{
	const uint8_t *h = r->at;
	enum packet_status status;

	if (r->here < 40)
		return PACKET_CUT;
	/* a jumbogram says 0: it is no first packet of anything */
	r->claimed = 40 + (size_t)be16(h + 4);
	if (r->here > r->claimed)
		r->here = r->claimed;
	r->ttl = h[7];
	p->src.family = p->dst.family = AF_INET6;
	memcpy(p->src.ip, h + 8, 16);
	memcpy(p->dst.ip, h + 24, 16);
	advance(r, 40);
	status = walk_extensions(r, h[6]);
	return status == PACKET_OK ? read_tcp(r, p) : status;
}

enum packet_status
packet_parse(const uint8_t *data, size_t n, struct packet *p_r)
{
	struct rest r = { .at = data, .here = n, .claimed = n };
	enum packet_status status = PACKET_BAD;

	memset(p_r, 0, sizeof(*p_r));
	if (n == 0)
		return PACKET_CUT;
	if (data[0] >> 4 == 4)
		status = read_ip4(&r, p_r);
	else if (data[0] >> 4 == 6)
		status = read_ip6(&r, p_r);
	if (status != PACKET_OK)
		memset(p_r, 0, sizeof(*p_r));
	return status;
}
