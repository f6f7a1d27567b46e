/*
 * nfq_batch.c - the cheapest bare loop: recvmmsg, then one batch verdict
 *
 * Up to 64 packets are received, nothing of them is looked at but the id of the
 * last and, where a mark has to be set, nothing else either: one
 * NFQNL_MSG_VERDICT_BATCH is the verdict on all. It waits in recvmmsg, for one
 * packet at least. Ended by a signal; CPU time is read from outside.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <libnetfilter_queue/libnetfilter_queue.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <sys/socket.h>

#include "nfq/packet.h"
#include "tests/bench/nfq_peer.h"

static _Alignas(8) uint8_t in[QUEUE_BATCH][PACKET_COPY + 352];

/* The packet header is the first attribute the kernel writes. */
static int
id_of(const uint8_t *message, size_t n, uint32_t *id_r)
{
	const size_t at = NLMSG_HDRLEN + NLMSG_ALIGN(sizeof(struct nfgenmsg)) +
		NLA_HDRLEN;
	const struct nlmsghdr *h = (const struct nlmsghdr *)message;

	if (n < at + sizeof(*id_r) || h->nlmsg_type == NLMSG_ERROR)
		return -1;
	memcpy(id_r, message + at, sizeof(*id_r));
	*id_r = ntohl(*id_r);
	return 0;
}

static int
answer(int fd, const struct peer *p, uint32_t id)
{
	_Alignas(8) char buf[256];
	struct nlmsghdr *nlh = nfq_nlmsg_put(buf, NFQNL_MSG_VERDICT_BATCH,
		p->queue.number);

	nfq_nlmsg_verdict_put(nlh, (int)id,
		p->verdict == VERDICT_DROP ? NF_DROP : NF_ACCEPT);
	if (p->verdict == VERDICT_RESET)
		nfq_nlmsg_verdict_put_mark(nlh, p->queue.mark_reset);
	return send(fd, nlh, nlh->nlmsg_len, 0) < 0 ? -1 : 0;
}

int
main(int argc, char **argv)
{
	static struct mmsghdr header[QUEUE_BATCH];
	static struct iovec iov[QUEUE_BATCH];
	struct peer p = peer_start(argc, argv);
	int fd = queue_bind(&p.queue);
	uint32_t id;

	if (fd < 0 || fcntl(fd, F_SETFL, 0) != 0)
		return 1;
	for (size_t i = 0; i < QUEUE_BATCH; i++) {
		iov[i].iov_base = in[i];
		iov[i].iov_len = sizeof(in[i]);
		header[i].msg_hdr.msg_iov = &iov[i];
		header[i].msg_hdr.msg_iovlen = 1;
	}
	puts("ready");
	fflush(stdout);
	for (;;) {
		int n = recvmmsg(fd, header, QUEUE_BATCH, MSG_WAITFORONE, NULL);

		if (n < 0 && errno != EINTR && errno != ENOBUFS) {
			perror("recvmmsg");
			return 1;
		}
		if (n > 0 && id_of(in[n - 1], header[n - 1].msg_len, &id) == 0
			&& answer(fd, &p, id) != 0)
			perror("send");
	}
}
