/*
 * packet.h - the headers of one packet as values
 *
 * For what NFQUEUE hands over (the first octets of an IP packet, cut at the
 * copy range) and for what TCP_SAVE_SYN keeps (IP and TCP header of a SYN).
 */
#ifndef SALLYPORT_PACKET_H
#define SALLYPORT_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/addr.h"

/* Octets worth copying: IPv4 and TCP with all options are 120; IPv6 and TCP
 * with all options are 100, which leaves 60 for extension headers. */
#define PACKET_COPY 160
/* Extension headers walked before a packet is given up. */
#define PACKET_EXTENSIONS 8

enum packet_status {
	PACKET_OK,
	PACKET_FRAGMENT,	/* not the first, or without a whole TCP header */
	PACKET_OTHER,		/* IP, but no TCP */
	PACKET_CUT,		/* ends before the ports are known */
	PACKET_BAD		/* a length or version that cannot be */
};

#define PACKET_FIN 0x01
#define PACKET_SYN 0x02
#define PACKET_RST 0x04
#define PACKET_ACK 0x10

struct packet {
	struct addr src, dst;	/* with ports, exactly as sent: NAT64 addresses
				 * are not decoded here */
	uint32_t seq;
	uint8_t flags;		/* the low octet of the TCP flags */
	bool is_syn;		/* of SYN, ACK, FIN, RST only SYN is set */
	bool is_synack;		/* ... only SYN and ACK */
	uint64_t syn;		/* fingerprint (syn.h) of a plain SYN; 0: none, or
				 * its options were cut off */
};

/* Read n octets that begin with an IP header. *p_r is set completely when
 * PACKET_OK is returned, and zero otherwise. */
enum packet_status packet_parse(const uint8_t *data, size_t n,
	struct packet *p_r);

#endif
