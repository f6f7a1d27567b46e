/*
 * nfq_batch.c - the batched bare loops: recvmmsg, then one sendmsg of verdicts
 *
 * Up to 64 packets are received; it waits for one at least. As nfq_batch, the
 * cheapest loop there is, nothing of them is looked at but the id of the last,
 * and one NFQNL_MSG_VERDICT_BATCH is the verdict on all, which no program with
 * a policy can give in general. Under the name nfq_each, every packet gets a
 * verdict of its own, all in one datagram. Ended by a signal; CPU time is read
 * from outside.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <libnetfilter_queue/libnetfilter_queue.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <stdbool.h>
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

static size_t
put(char *buf, const struct peer *p, int type, uint32_t id)
{
	struct nlmsghdr *nlh = nfq_nlmsg_put(buf, type, p->queue.number);

	nfq_nlmsg_verdict_put(nlh, (int)id,
		p->verdict == VERDICT_DROP ? NF_DROP : NF_ACCEPT);
	if (p->verdict == VERDICT_RESET)
		nfq_nlmsg_verdict_put_mark(nlh, p->queue.mark_reset);
	return NLMSG_ALIGN(nlh->nlmsg_len);
}

static size_t
answer(char *buf, const struct peer *p, const struct mmsghdr *header, int n,
	bool is_each)
{
	size_t len = 0;
	uint32_t id;

	if (!is_each)
		return id_of(in[n - 1], header[n - 1].msg_len, &id) != 0 ? 0 :
			put(buf, p, NFQNL_MSG_VERDICT_BATCH, id);
	for (int i = 0; i < n; i++)
		if (id_of(in[i], header[i].msg_len, &id) == 0)
			len += put(buf + len, p, NFQNL_MSG_VERDICT, id);
	return len;
}

int
main(int argc, char **argv)
{
	static struct mmsghdr header[QUEUE_BATCH];
	static struct iovec iov[QUEUE_BATCH];
	struct peer p = peer_start(argc, argv);
	bool is_each = strstr(argv[0], "nfq_each") != NULL;
	static _Alignas(8) char out[QUEUE_BATCH * 64];
	const struct timeval forever = { 0 };
	int fd = queue_bind(&p.queue);

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &forever,
			sizeof(forever)) != 0)
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
		if (n > 0) {
			size_t len = answer(out, &p, header, n, is_each);

			if (len > 0 && send(fd, out, len, 0) < 0)
				perror("send");
		}
	}
}
