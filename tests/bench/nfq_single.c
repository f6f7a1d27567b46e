/*
 * nfq_single.c - the loop everybody writes: one packet, one verdict
 *
 * libnetfilter_queue as its own example uses it: recv, nfq_handle_packet, a
 * callback, nfq_set_verdict. The receive buffer, the copy range and fail-open
 * are those of ours. Ended by a signal; CPU time is read from outside.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <libnetfilter_queue/libnetfilter_queue.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <sys/socket.h>

#include "nfq/packet.h"
#include "tests/bench/nfq_peer.h"

static int
on_packet(struct nfq_q_handle *queue, struct nfgenmsg *message,
	struct nfq_data *data, void *arg)
{
	const struct peer *p = arg;
	struct nfqnl_msg_packet_hdr *h = nfq_get_msg_packet_hdr(data);
	uint32_t id = h != NULL ? ntohl(h->packet_id) : 0;
	uint32_t mark = nfq_get_nfmark(data);

	(void)message;
	if (p->verdict != VERDICT_RESET)
		return nfq_set_verdict(queue, id, p->verdict == VERDICT_DROP ?
			NF_DROP : NF_ACCEPT, 0, NULL);
	return nfq_set_verdict2(queue, id, NF_ACCEPT,
		(mark & ~p->queue.mark_mask) | p->queue.mark_reset, 0, NULL);
}

int
main(int argc, char **argv)
{
	struct peer p = peer_start(argc, argv);
	struct nfq_handle *h = nfq_open();
	struct nfq_q_handle *queue = h == NULL ? NULL :
		nfq_create_queue(h, p.queue.number, on_packet, &p);
	int octets = 16 << 20, fd;
	_Alignas(8) char buf[4096];

	if (queue == NULL || nfq_set_mode(queue, NFQNL_COPY_PACKET,
			PACKET_COPY) < 0 ||
		nfq_set_queue_maxlen(queue, 65536) < 0 ||
		nfq_set_queue_flags(queue, NFQA_CFG_F_FAIL_OPEN |
			NFQA_CFG_F_GSO, NFQA_CFG_F_FAIL_OPEN |
			NFQA_CFG_F_GSO) < 0) {
		perror("queue");
		return 1;
	}
	fd = nfq_fd(h);
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &octets,
		sizeof(octets));
	puts("ready");
	fflush(stdout);
	for (;;) {
		ssize_t n = recv(fd, buf, sizeof(buf), 0);

		if (n >= 0)
			nfq_handle_packet(h, buf, (int)n);
		else if (errno != ENOBUFS && errno != EINTR) {
			perror("recv");
			return 1;
		}
	}
}
