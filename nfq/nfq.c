/*
 * nfq.c - the process that sees every first packet
 *
 * Does: open what it needs, give its privileges away, and then one loop over
 * the queue and the channel to the parent. Does not: read packets (packet.c),
 * decide (verdict.c), speak netlink (queue.c).
 *
 * CAP_NET_ADMIN stays, because the kernel checks it at every verdict; all else
 * goes: own user, empty root, no other capability, seccomp without socket(2),
 * levels of the line table read-only. The sender of a packet controls its
 * octets and its rate; nothing here grows with either, and nothing is logged
 * per packet.
 *
 * Packets are waited for by the call that reads them; a message of the parent
 * interrupts it (SIGIO), and ten times a second everybody is listened to all the
 * same: what a packet costs by itself is the wake-up and two system calls. To let
 * a handful gather for 200 us first cost more than it saved, at every rate.
 */
#include "nfq/nfq.h"

#include <errno.h>
#include <fcntl.h>
#include <libnfnetlink/libnfnetlink.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lib/ipc.h"
#include "lib/log.h"
#include "nfq/dests.h"
#include "nfq/packet.h"
#include "proxyd/msg.h"
#include "proxyd/sandbox.h"
#include "zombie/detect.h"
#include "zombie/table.h"

#define LISTEN_NS (QUEUE_WAIT_MS * 1000000LL)	/* to parent and interfaces */
#define RETRY_NS 200000		/* until verdicts are offered again */
#define UNPARSEABLE_LOG_S 60	/* seconds between two such lines */

struct nfq {
	const struct nfq_start *start;
	struct judge judge;
	struct detect detect;
	struct queue *queue;
	int queue_fd;
	struct nlif_handle *interfaces;	/* NULL: indexes are not named */
	bool done;
	int status;

	int64_t listened;		/* ns of CLOCK_MONOTONIC */
	time_t unparseable_logged;

	/* of the batch that is being judged */
	struct packet packet[QUEUE_BATCH];
	struct look look[QUEUE_BATCH];
};

/* A message has come: listen now. Lost between a look at it and the wait for
 * packets, it is heard a tenth of a second later. */
static volatile sig_atomic_t is_called;

/* ---- judging ---- */

static const char *
interface_name(const struct nfq *n, uint32_t index, char out[IFNAMSIZ])
{
	if (n->interfaces == NULL ||
		nlif_index2name(n->interfaces, index, out) < 0)
		snprintf(out, IFNAMSIZ, "%u", index);
	return out;
}

/* Once a minute: a broken tunnel shows, a flood does not fill the log. */
static void
tell_unparseable(struct nfq *n, const struct queued *p,
	enum packet_status status)
{
	static const char *const reason[] = {
		[PACKET_FRAGMENT] = "a fragment", [PACKET_OTHER] = "no TCP",
		[PACKET_CUT] = "cut before its ports",
		[PACKET_BAD] = "malformed",
	};
	char name[IFNAMSIZ];

	atomic_fetch_add_explicit(&n->start->counts->unparseable, 1,
		memory_order_relaxed);
	if (n->unparseable_logged != 0 && n->judge.unix_now <
		n->unparseable_logged + UNPARSEABLE_LOG_S)
		return;
	n->unparseable_logged = (time_t)n->judge.unix_now;
	log_info("a queued packet on %s is %s; accepted (%llu so far)",
		interface_name(n, p->in, name), reason[status],
		(unsigned long long)atomic_load(&n->start->counts->unparseable));
}

static void
judge(void *arg, const struct queued *p, size_t n_packets,
	enum verdict *verdict_r)
{
	struct nfq *n = arg;
	unsigned again = 0;

	n->judge.now = table_now(n->judge.table);
	n->judge.unix_now = time(NULL);
	for (size_t i = 0; i < n_packets; i++) {
		enum packet_status status = packet_parse(p[i].data, p[i].len,
			&n->packet[i]);

		if (status != PACKET_OK)
			tell_unparseable(n, &p[i], status);
		verdict_look(&n->judge, &n->packet[i], &n->look[i]);
	}
	for (size_t i = 0; i < n_packets; i++)
		verdict_near(&n->judge, &n->look[i]);
	for (size_t i = 0; i < n_packets; i++) {
		bool is_again;

		verdict_r[i] = verdict_of(&n->judge, &n->packet[i],
			&n->look[i], &is_again);
		again += is_again;
	}
	if (again > 0)
		atomic_fetch_add_explicit(&n->start->counts->retransmissions,
			again, memory_order_relaxed);
}

/* ---- the loop ---- */

static int64_t
monotonic_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void
leave(struct nfq *n, int status)
{
	n->done = true;
	n->status = status;
}

static void
take_messages(struct nfq *n)
{
	struct msg m, pong = { .type = MSG_PONG };
	int fds[IPC_FDS_MAX], nfds, rc;

	while ((rc = ipc_recv(n->start->parent, &m, sizeof(m), fds,
			&nfds)) == 1) {
		for (int i = 0; i < nfds; i++)
			close(fds[i]);
		if (m.type == MSG_PING) {
			pong.n = m.n;
			(void)ipc_send(n->start->parent, &pong, sizeof(pong),
				NULL, 0);
		} else if (m.type == MSG_DRAIN) {
			leave(n, 0);
			return;
		}
	}
	if (rc == -1) {
		log_error("the parent is gone; leaving");
		leave(n, 0);
	}
}

/* Hear what the parent and the kernel's list of interfaces have to say. */
static void
listen_to_others(struct nfq *n)
{
	struct pollfd fds[2] = {
		{ .fd = n->start->parent, .events = POLLIN },
		{ .fd = -1, .events = POLLIN },
	};

	if (n->interfaces != NULL)
		fds[1].fd = nlif_fd(n->interfaces);
	if (poll(fds, 2, 0) <= 0)
		return;
	if (fds[0].revents != 0)
		take_messages(n);
	/* -1: the kernel had more news than room; the names it knows stay */
	if (fds[1].revents != 0)
		(void)nlif_catch(n->interfaces);
}

static void
run(struct nfq *n)
{
	static const struct timespec retry = { .tv_nsec = RETRY_NS };

	while (!n->done) {
		int64_t now;

		if (queue_turn(n->queue) < 0) {
			leave(n, 1);
			return;
		}
		if (queue_unsent(n->queue))
			(void)nanosleep(&retry, NULL);
		now = monotonic_ns();
		if (is_called || now - n->listened >= LISTEN_NS) {
			is_called = 0;
			n->listened = now;
			listen_to_others(n);
		}
	}
	/* verdicts the kernel would not take: try once more */
	if (queue_unsent(n->queue))
		(void)queue_turn(n->queue);
}

/* ---- start and end ---- */

static void
on_message(int number)
{
	(void)number;
	is_called = 1;
}

/* Without it messages are heard ten times a second. */
static void
hear_at_once(int fd)
{
	/* a read with a time limit is interrupted all the same (signal(7)) */
	struct sigaction s = { .sa_handler = on_message,
		.sa_flags = SA_RESTART };
	int flags = fcntl(fd, F_GETFL);

	sigemptyset(&s.sa_mask);
	if (sigaction(SIGIO, &s, NULL) != 0 || flags < 0 ||
	    fcntl(fd, F_SETOWN, getpid()) != 0 ||
	    fcntl(fd, F_SETFL, flags | O_ASYNC) != 0)
		log_warn("messages of the parent: %s", strerror(errno));
}

/* Names are a convenience of the log: without them indexes are printed. */
static struct nlif_handle *
open_interfaces(void)
{
	struct nlif_handle *h = nlif_open();

	if (h != NULL && nlif_query(h) >= 0)
		return h;
	log_warn("interface names: %s", strerror(errno));
	if (h != NULL)
		nlif_close(h);
	return NULL;
}

static int
start(struct nfq *n)
{
	const struct nfq_start *s = n->start;

	n->queue_fd = s->queue_fd >= 0 ? s->queue_fd : queue_bind(&s->queue);
	if (n->queue_fd < 0)
		return -1;
	n->queue = queue_new(n->queue_fd, &s->queue, s->counts, judge, n);
	if (n->queue == NULL) {
		log_error("no memory for the netfilter queue");
		return -1;
	}
	n->interfaces = open_interfaces();
	hear_at_once(s->parent);
	if (table_drop_rights(s->table) != 0)
		return -1;
	return sandbox_enter(SANDBOX_NFQ, s->user);
}

/* Where the destinations of each class are kept; without memory they are not. */
static int *
open_places(const struct nfq_start *s)
{
	int *place = s->dests == NULL ? NULL :
		calloc(s->conf->nclasses, sizeof(*place));

	for (size_t i = 0; place != NULL && i < s->conf->nclasses; i++)
		place[i] = dests_place(s->dests, s->conf->classes[i].name);
	return place;
}

int
nfq_main(const struct nfq_start *s)
{
	static struct nfq n;	/* too big for a stack */
	const struct msg drained = { .type = MSG_DRAINED };
	int *place = open_places(s);

	n.start = s;
	n.queue_fd = -1;
	n.status = 1;
	n.judge.conf = s->conf;
	n.judge.table = s->table;
	detect_load(&n.detect, &s->conf->zombie);
	n.judge.detect = &n.detect;
	n.judge.return_path = s->return_path;
	n.judge.dests = place != NULL ? s->dests : NULL;
	n.judge.place = place;
	if (start(&n) == 0) {
		run(&n);
		if (n.status == 0)
			(void)ipc_send(s->parent, &drained, sizeof(drained),
				NULL, 0);
	}
	if (n.interfaces != NULL)
		nlif_close(n.interfaces);
	queue_free(&n.queue);
	free(place);
	if (n.queue_fd >= 0 && s->queue_fd < 0)
		close(n.queue_fd);
	return n.status;
}
