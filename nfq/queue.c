/*
 * queue.c - the netfilter queue: packets in, verdicts out, many at a time
 *
 * Does: bind and set up the queue, take up to 64 datagrams with one recvmmsg,
 * have them judged, send all verdicts with one send. Does not: look into a
 * packet or decide; the caller owns the loop.
 *
 * The wait for packets is inside recvmmsg, so that a turn is two system calls
 * however few packets it has; every QUEUE_WAIT_MS without one the caller gets
 * its turn all the same.
 *
 * The peer is the kernel (netlink lets nobody without CAP_NET_ADMIN write to a
 * NETLINK_NETFILTER socket), but lengths are checked all the same. What must
 * hold: every packet gets a verdict. So
 * - the commonest verdict of a batch is sent as NFQNL_MSG_VERDICT_BATCH, which
 *   covers all older packets; the others are sent singly in front of it;
 * - a packet that cannot be read but has an id is accepted;
 * - what a predecessor received and never judged is accepted first;
 * - verdicts that the kernel would not take are kept and sent again before
 *   anything else is received.
 *
 * NETLINK_NO_ENOBUFS: a full socket buffer is not an error to wake up for;
 * what is lost shows as a gap in the packet ids, and fail-open has let it pass.
 * GSO flag: packets come as they are, which spares checksumming and cutting.
 */
#include "nfq/queue.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <libnetfilter_queue/libnetfilter_queue.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <linux/netlink.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/log.h"

/* A packet message: headers and attributes are below 200 octets. */
#define MESSAGE_MAX (PACKET_COPY + 352)
/* One verdict with a mark. */
#define VERDICT_MAX 48
#define RECEIVE_BUFFER (16 << 20)
#define QUEUE_MAXLEN 65536

struct outcome {
	uint32_t id;
	uint32_t mark;
};

struct queue {
	int fd;
	uint16_t number;
	uint32_t mark_reset, mark_mask;
	struct nfq_counts *counts;
	queue_judge *judge;
	void *arg;

	bool has_last;
	bool has_let_go;		/* of what a predecessor may have left */
	uint32_t last;			/* id of the newest packet received */
	int broken;			/* errno the kernel answered a verdict with */

	size_t n;			/* packets of this turn */
	struct queued packet[QUEUE_BATCH];
	struct outcome outcome[QUEUE_BATCH];
	enum verdict verdict[QUEUE_BATCH];

	size_t unsent;			/* octets of out that wait */
	struct mmsghdr header[QUEUE_BATCH];
	struct iovec iov[QUEUE_BATCH];
	_Alignas(8) uint8_t in[QUEUE_BATCH][MESSAGE_MAX];
	_Alignas(8) char out[(QUEUE_BATCH + 1) * VERDICT_MAX];
};

struct nfq_counts *
nfq_counts_new(void)
{
	void *p = mmap(NULL, sizeof(struct nfq_counts), PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static void
count(_Atomic uint64_t *counter, uint64_t n)
{
	if (n > 0)
		atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

/* ---- binding ---- */

/* Send one message of the set-up and wait for the kernel's answer: 0 or its
 * errno. The answer is there when sendto returns. */
static int
command(int fd, struct nlmsghdr *nlh, unsigned seq)
{
	_Alignas(8) uint8_t answer[4096];
	ssize_t n;

	nlh->nlmsg_flags |= NLM_F_ACK;
	nlh->nlmsg_seq = seq;
	if (send(fd, nlh, nlh->nlmsg_len, 0) < 0)
		return errno;
	for (;;) {
		const struct nlmsghdr *a = (const struct nlmsghdr *)answer;
		struct nlmsgerr e;

		n = recv(fd, answer, sizeof(answer), 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno;
		if (!mnl_nlmsg_ok(a, (int)n) || a->nlmsg_type != NLMSG_ERROR ||
			a->nlmsg_seq != seq ||
			mnl_nlmsg_get_payload_len(a) < sizeof(e))
			continue;
		memcpy(&e, mnl_nlmsg_get_payload(a), sizeof(e));
		return -e.error;
	}
}

static const char *
why(int error)
{
	switch (error) {
	case EPERM:
		return "another program reads this queue (see "
			"/proc/net/netfilter/nfnetlink_queue), or "
			"CAP_NET_ADMIN is missing";
	case EINVAL:
	case ENOENT:
	case EPROTONOSUPPORT:
		return "this kernel has no nfnetlink_queue";
	}
	return strerror(error);
}

static int
set_up(int fd, const struct queue_conf *conf)
{
	const uint32_t flags = NFQA_CFG_F_FAIL_OPEN | NFQA_CFG_F_GSO;
	char buf[256];
	struct nlmsghdr *nlh;
	int error;

	nlh = nfq_nlmsg_put(buf, NFQNL_MSG_CONFIG, conf->number);
	nfq_nlmsg_cfg_put_cmd(nlh, AF_UNSPEC, NFQNL_CFG_CMD_BIND);
	error = command(fd, nlh, 1);
	if (error != 0) {
		log_error("bind netfilter queue %u: %s", conf->number,
			why(error));
		return -1;
	}
	nlh = nfq_nlmsg_put(buf, NFQNL_MSG_CONFIG, conf->number);
	nfq_nlmsg_cfg_put_params(nlh, NFQNL_COPY_PACKET, PACKET_COPY);
	mnl_attr_put_u32(nlh, NFQA_CFG_FLAGS, htonl(flags));
	mnl_attr_put_u32(nlh, NFQA_CFG_MASK, htonl(flags));
	nfq_nlmsg_cfg_put_qmaxlen(nlh,
		conf->maxlen != 0 ? conf->maxlen : QUEUE_MAXLEN);
	error = command(fd, nlh, 2);
	if (error != 0)
		log_error("set up netfilter queue %u (headers only, fail-open): "
			"%s", conf->number, strerror(error));
	return error == 0 ? 0 : -1;
}

static void
options(int fd)
{
	const struct timeval wait = { .tv_usec = QUEUE_WAIT_MS * 1000 };
	int octets = RECEIVE_BUFFER, one = 1;

	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &octets,
			sizeof(octets)) != 0 &&
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &octets,
			sizeof(octets)) != 0)
		log_warn("receive buffer of the netfilter queue: %s",
			strerror(errno));
	if (setsockopt(fd, SOL_NETLINK, NETLINK_NO_ENOBUFS, &one,
			sizeof(one)) != 0)
		log_warn("NETLINK_NO_ENOBUFS: %s", strerror(errno));
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)) != 0)
		log_warn("SO_RCVTIMEO: %s", strerror(errno));
	/* an error message does not carry the whole batch back */
	(void)setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &one, sizeof(one));
}

int
queue_bind(const struct queue_conf *conf)
{
	struct sockaddr_nl self = { .nl_family = AF_NETLINK };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC,
		NETLINK_NETFILTER);

	if (fd < 0) {
		log_error("netfilter socket: %s", why(errno));
		return -1;
	}
	if (bind(fd, (struct sockaddr *)&self, sizeof(self)) != 0) {
		log_error("bind netfilter socket: %s", strerror(errno));
		close(fd);
		return -1;
	}
	options(fd);
	if (set_up(fd, conf) != 0) {
		close(fd);
		return -1;
	}
	return fd;
}

struct queue *
queue_new(int fd, const struct queue_conf *conf, struct nfq_counts *counts,
	queue_judge *judge, void *arg)
{
	struct queue *q = calloc(1, sizeof(*q));

	if (q == NULL)
		return NULL;
	q->fd = fd;
	q->number = conf->number;
	q->mark_reset = conf->mark_reset;
	q->mark_mask = conf->mark_mask;
	q->counts = counts;
	q->judge = judge;
	q->arg = arg;
	for (size_t i = 0; i < QUEUE_BATCH; i++) {
		q->iov[i].iov_base = q->in[i];
		q->iov[i].iov_len = MESSAGE_MAX;
		q->header[i].msg_hdr.msg_iov = &q->iov[i];
		q->header[i].msg_hdr.msg_iovlen = 1;
	}
	return q;
}

void
queue_free(struct queue **q)
{
	free(*q);
	*q = NULL;
}

/* ---- receiving ---- */

static void
take_error(struct queue *q, const uint8_t *p, size_t n)
{
	int error;

	if (n < sizeof(error))
		return;
	memcpy(&error, p, sizeof(error));
	/* nothing left that this verdict is about: no predecessor, mostly */
	if (error == 0 || error == -ENOENT)
		return;
	count(&q->counts->errors, 1);
	/* never again will a verdict be taken, and packets would pile up */
	if (error == -EPERM || error == -ENODEV)
		q->broken = -error;
}

static void
note_id(struct queue *q, uint32_t id)
{
	if (q->has_last)
		count(&q->counts->overruns, (uint32_t)(id - q->last - 1));
	q->last = id;
	q->has_last = true;
}

/* The attributes of a packet message, by hand: libmnl's callback for each of
 * them costs 4 % of a verdict. */
static void
take_packet(struct queue *q, const uint8_t *p, size_t n)
{
	struct queued *packet = &q->packet[q->n];
	struct outcome *o = &q->outcome[q->n];
	bool has_id = false;

	*packet = (struct queued){ 0 };
	*o = (struct outcome){ 0 };
	while (n >= sizeof(struct nlattr)) {
		struct nlattr a;
		const uint8_t *value = p + sizeof(a);
		size_t len, step;

		memcpy(&a, p, sizeof(a));
		if (a.nla_len < sizeof(a) || a.nla_len > n)
			break;
		len = a.nla_len - sizeof(a);
		switch (a.nla_type & NLA_TYPE_MASK) {
		case NFQA_PACKET_HDR:
			if (len >= sizeof(o->id)) {
				memcpy(&o->id, value, sizeof(o->id));
				has_id = true;
			}
			break;
		case NFQA_MARK:
			if (len == sizeof(o->mark))
				memcpy(&o->mark, value, sizeof(o->mark));
			break;
		case NFQA_IFINDEX_INDEV:
			if (len == sizeof(packet->in))
				memcpy(&packet->in, value, sizeof(packet->in));
			break;
		case NFQA_PAYLOAD:
			packet->data = value;
			packet->len = len;
			break;
		}
		step = NLA_ALIGN(a.nla_len);
		if (step > n)
			break;
		p += step;
		n -= step;
	}
	if (!has_id)
		return;
	o->id = ntohl(o->id);
	o->mark = ntohl(o->mark);
	packet->in = ntohl(packet->in);
	note_id(q, o->id);
	q->n++;
}

static void
take_datagram(struct queue *q, const uint8_t *p, size_t n)
{
	const size_t head = NLMSG_HDRLEN + NLMSG_ALIGN(sizeof(struct nfgenmsg));
	struct nlmsghdr h;

	if (n < sizeof(h))
		return;
	memcpy(&h, p, sizeof(h));
	if (h.nlmsg_len < sizeof(h))
		return;
	/* one that was cut off still has its id in front */
	if (h.nlmsg_len < n)
		n = h.nlmsg_len;
	if (h.nlmsg_type == NLMSG_ERROR)
		take_error(q, p + NLMSG_HDRLEN, n - NLMSG_HDRLEN);
	else if (h.nlmsg_type == (NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_PACKET) &&
		n >= head)
		take_packet(q, p + head, n - head);
}

/* Datagrams received, 0 none in time or a signal, -1 error. */
static int
receive(struct queue *q)
{
	int n = recvmmsg(q->fd, q->header, QUEUE_BATCH, MSG_WAITFORONE, NULL);

	if (n >= 0)
		return n;
	if (errno == EAGAIN || errno == EINTR)
		return 0;
	if (errno == ENOBUFS || errno == ENOMEM) {
		count(&q->counts->errors, 1);
		return 0;
	}
	log_error("read netfilter queue %u: %s", q->number, strerror(errno));
	return -1;
}

/* ---- verdicts ---- */

static struct nlmsghdr *
put(struct queue *q, int type, uint32_t id, enum verdict v, uint32_t mark)
{
	struct nlmsghdr *nlh = nfq_nlmsg_put(q->out + q->unsent, type,
		q->number);

	nfq_nlmsg_verdict_put(nlh, (int)id,
		v == VERDICT_DROP ? NF_DROP : NF_ACCEPT);
	if (v == VERDICT_RESET)
		nfq_nlmsg_verdict_put_mark(nlh, mark);
	q->unsent += NLMSG_ALIGN(nlh->nlmsg_len);
	return nlh;
}

/* The mark of a packet that is to be reset: other people's bits stay. */
static uint32_t
reset_mark(const struct queue *q, const struct outcome *o)
{
	return (o->mark & ~q->mark_mask) | (q->mark_reset & q->mark_mask);
}

/* Two packets that one message can speak for. */
static bool
is_same(const struct queue *q, size_t i, size_t k)
{
	return q->verdict[i] == q->verdict[k] &&
		(q->verdict[i] != VERDICT_RESET || reset_mark(q,
			&q->outcome[i]) == reset_mark(q, &q->outcome[k]));
}

/* Verdicts of one turn, by kind. */
static void
tally(struct queue *q, size_t n[VERDICT_COUNT])
{
	for (size_t i = 0; i < q->n; i++)
		n[q->verdict[i]]++;
	count(&q->counts->queued, q->n);
	count(&q->counts->accepted, n[VERDICT_ACCEPT]);
	count(&q->counts->reset, n[VERDICT_RESET]);
	count(&q->counts->dropped, n[VERDICT_DROP]);
}

static void
build(struct queue *q)
{
	size_t n[VERDICT_COUNT] = { 0 }, common = 0;
	enum verdict most = VERDICT_ACCEPT;

	tally(q, n);
	for (enum verdict v = 0; v < VERDICT_COUNT; v++)
		if (n[v] > n[most])
			most = v;
	while (q->verdict[common] != most)
		common++;
	for (size_t i = 0; i < q->n; i++)
		if (!is_same(q, i, common))
			put(q, NFQNL_MSG_VERDICT, q->outcome[i].id,
				q->verdict[i], reset_mark(q, &q->outcome[i]));
	put(q, NFQNL_MSG_VERDICT_BATCH, q->last, most,
		reset_mark(q, &q->outcome[common]));
	count(&q->counts->batches, 1);
}

/* 0 sent, 1 not now, -1 never. */
static int
flush(struct queue *q)
{
	ssize_t n;

	if (q->unsent == 0)
		return 0;
	do
		n = send(q->fd, q->out, q->unsent, 0);
	while (n < 0 && errno == EINTR);
	if (n >= 0) {
		q->unsent = 0;
		atomic_store_explicit(&q->counts->last, q->last,
			memory_order_relaxed);
		return 0;
	}
	count(&q->counts->errors, 1);
	if (errno == ENOBUFS || errno == ENOMEM || errno == EAGAIN)
		return 1;
	log_error("send verdicts to netfilter queue %u: %s", q->number,
		strerror(errno));
	return -1;
}

int
queue_unsent(const struct queue *q)
{
	return q->unsent > 0;
}

/* Packets that somebody received on this socket before us and left. Ids begin
 * anew with each binding, so an older first one says nothing. */
static void
inherit(struct queue *q)
{
	uint32_t first = q->outcome[0].id;
	int32_t left = (int32_t)(first - 1 - atomic_load(&q->counts->last));

	if (left > 0)
		count(&q->counts->inherited, (uint64_t)left);
	put(q, NFQNL_MSG_VERDICT_BATCH, first - 1, VERDICT_ACCEPT, 0);
}

/* The same while no packet comes that would show how far it got: one batch at
 * most. None of these is in the socket's buffer, which was empty. */
static int
let_go(struct queue *q)
{
	q->has_let_go = true;
	q->last = atomic_load(&q->counts->last);
	put(q, NFQNL_MSG_VERDICT_BATCH, q->last + QUEUE_BATCH, VERDICT_ACCEPT,
		0);
	return flush(q) < 0 ? -1 : 0;
}

int
queue_turn(struct queue *q)
{
	int n, rc = flush(q);
	bool is_first = !q->has_last;

	if (rc != 0)
		return rc < 0 ? -1 : 0;
	n = receive(q);
	if (n == 0 && is_first && !q->has_let_go)
		return let_go(q);
	if (n <= 0)
		return n;
	q->n = 0;
	for (int i = 0; i < n; i++)
		take_datagram(q, q->in[i], q->header[i].msg_len);
	if (q->broken != 0) {
		log_error("netfilter queue %u takes no verdict: %s", q->number,
			strerror(q->broken));
		return -1;
	}
	if (q->n == 0)
		return n;
	if (is_first)
		inherit(q);
	q->judge(q->arg, q->packet, q->n, q->verdict);
	build(q);
	return flush(q) < 0 ? -1 : n;
}
