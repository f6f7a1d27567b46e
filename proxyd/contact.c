/*
 * contact.c - what an accepted connection tells the table of lines
 *
 * The SYN that the kernel kept (TCP_SAVE_SYN) gives the fingerprint and the
 * identity of the attempt; the completed handshake makes it a voice, which
 * nobody can forge for a neighbour. Port 25 only: mail that is fetched says
 * nothing about a line.
 *
 * The client controls every octet of the SYN; packet_parse() takes any.
 */
#include "proxyd/contact.h"

#include <netinet/tcp.h>
#include <stdatomic.h>
#include <sys/socket.h>

#include "conf/conf.h"
#include "nfq/packet.h"
#include "nfq/verdict.h"
#include "zombie/table.h"

/* IPv6 and TCP headers with all options, and some extension headers. */
#define SYN_OCTETS 256

enum level
contact_note(struct table *t, const struct detect *d, const struct conf *conf, int class_index,
	int fd, const struct addr *src, const struct addr *origin,
	bool is_counted)
{
	const struct class_conf *class = class_index < 0 ? NULL :
		&conf->classes[class_index];
	uint8_t octets[SYN_OCTETS];
	socklen_t len = sizeof(octets);
	struct line_record *r;
	struct line_key key;
	struct packet syn;
	uint32_t tuple = 0;
	enum level lifted;

	if (t == NULL || class == NULL)
		return LEVEL_CLEAN;
	line_key_of(src, class->line_len6, class->port_block, &key);
	r = table_enter(t, &key, table_now(t));
	if (r == NULL)
		return LEVEL_CLEAN;
	if (getsockopt(fd, SOL_TCP, TCP_SAVED_SYN, octets, &len) == 0 &&
	    packet_parse(octets, len, &syn) == PACKET_OK && syn.syn != 0) {
		atomic_store_explicit(&r->syn, syn.syn, memory_order_relaxed);
		if (!is_counted)
			tuple = verdict_tuple(t, &syn);
	}
	(void)detect_contact(d, t, r, table_now(t), origin, tuple, true,
		&lifted);
	return lifted;
}
