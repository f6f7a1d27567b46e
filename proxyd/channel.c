/*
 * channel.c - messages between the parent and one child
 *
 * Does: send at once or queue until the child reads, descriptors included;
 * receive, check every field and act. Does not: supervise (children.c).
 *
 * Called from the parent's loop. A relay may be taken over and controls all it
 * sends, control has seen answers from DNS: what cannot be is said, that child
 * is killed, and nobody else notices. No message is ever fatal, and none makes
 * the parent do more than the bounds below.
 */
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/ipc.h"
#include "proxyd/parent.h"

/* Room for every own address of a big gateway, twice. */
#define QUEUE_MAX 131072
/* Batches a second; 64,000 new sessions a second are more than a core does. */
#define NEEDS_MAX 1000

/* ---- sending ---- */

static void
close_all(const int *fds, int nfds)
{
	for (int i = 0; i < nfds; i++)
		close(fds[i]);
}

void
channel_cut(struct child *c)
{
	struct unsent *q;

	while ((q = c->out) != NULL) {
		c->out = q->next;
		close_all(q->fds, q->nfds);
		free(q);
	}
	c->out_end = &c->out;
	c->nout = 0;
	if (c->readable != NULL)
		event_free(c->readable);
	if (c->writable != NULL)
		event_free(c->writable);
	c->readable = c->writable = NULL;
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
}

static void
flush_queue(struct child *c)
{
	struct unsent *q;

	while ((q = c->out) != NULL) {
		int rc = ipc_send(c->fd, &q->msg, sizeof(q->msg), q->fds,
			q->nfds);

		if (rc == 0) {
			event_add(c->writable, NULL);
			return;
		}
		c->out = q->next;
		if (c->out == NULL)
			c->out_end = &c->out;
		c->nout--;
		close_all(q->fds, q->nfds);
		free(q);
		/* a broken channel shows as end of file on the reading side */
	}
}

static void
on_writable(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	flush_queue(arg);
}

void
child_send(struct child *c, const struct msg *m, const int *fds, int nfds)
{
	struct unsent *q;

	if (c->fd < 0 || c->condemned) {
		close_all(fds, nfds);
		return;
	}
	if (c->out == NULL &&
		ipc_send(c->fd, m, sizeof(*m), fds, nfds) != 0) {
		close_all(fds, nfds);
		return;
	}
	q = c->nout < QUEUE_MAX ? calloc(1, sizeof(*q)) : NULL;
	if (q == NULL) {
		close_all(fds, nfds);
		child_condemn(c, "it does not read its messages");
		return;
	}
	q->msg = *m;
	q->nfds = nfds;
	if (nfds > 0)
		memcpy(q->fds, fds, (size_t)nfds * sizeof(*fds));
	*c->out_end = q;
	c->out_end = &q->next;
	c->nout++;
	event_add(c->writable, NULL);
}

void
child_send_simple(struct child *c, enum msg_type type, uint32_t n, uint32_t m)
{
	const struct msg msg = { .type = type, .n = n, .m = m };

	child_send(c, &msg, NULL, 0);
}

/* ---- receiving ---- */

static void
send_sockets(struct child *c, uint32_t family)
{
	struct msg m = { .type = MSG_SOCKETS, .n = family };
	int fds[SOCKET_BATCH];
	int n = sockets_upstream(c->parent->conf, (int)family, fds);

	child_send(c, &m, fds, n);
}

/* 0, or -1: a message this child cannot have sent in its right mind. */
static int
relay_message(struct child *c, const struct msg *m)
{
	switch (m->type) {
	case MSG_NEED:
		if ((m->n != 4 && m->n != 6) || ++c->needs > NEEDS_MAX)
			return -1;
		send_sockets(c, m->n);
		return 0;
	default:
		return -1;
	}
}

static int
control_message(struct child *c, const struct msg *m, int fd)
{
	struct parent *p = c->parent;

	/* an operator who waits for it has been heard */
	if (m->type == MSG_ALLOW)
		return allowkeeper_change(c, m);
	if (m->type == MSG_ALLOW_ALL)
		return allowkeeper_replace(c, m, fd);
	if (m->type == MSG_HOOK)
		return hookkeeper_ask(c, m, fd);
	if (m->type == MSG_RELOAD) {
		p->reload_wanted = true;
		event_active(p->ev_reload, EV_TIMEOUT, 0);
		return 0;
	}
	/* a leaving control speaks of a configuration that is gone */
	if (c->leaving)
		return 0;
	switch (m->type) {
	case MSG_SERVER_ADDR:
		return gatekeeper_server_addr(p, m);
	case MSG_SERVERS_KNOWN:
		p->servers_known = true;
		return 0;
	case MSG_ALLOW_CHECK:
		allowkeeper_check(p);
		return 0;
	default:
		return -1;
	}
}

static int
message(struct child *c, const struct msg *m, int fd)
{
	switch (m->type) {
	case MSG_PONG:
		if (m->n != c->pinged)
			return m->n < c->pinged ? 0 : -1;
		c->ponged = m->n;
		c->sessions = m->m;
		return 0;
	case MSG_DRAINED:
		return c->leaving ? 0 : -1;
	default:
		if (c->slot == SLOT_NFQ || c->slot == SLOT_KEEPER)
			return -1;	/* it has nothing else to say */
		return c->slot == SLOT_CONTROL ? control_message(c, m, fd) :
			relay_message(c, m);
	}
}

static void
on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct child *c = arg;
	int fds[IPC_FDS_MAX], nfds;
	struct msg m;

	(void)what;
	/* bounded: the tick must not wait for a child that never stops */
	for (int i = 0; i < 256; i++) {
		int rc = ipc_recv(fd, &m, sizeof(m), fds, &nfds);

		if (rc == 0)
			return;
		if (rc == -1) {
			channel_cut(c); /* SIGCHLD tells the rest */
			return;
		}
		if (rc == 1)
			rc = message(c, &m, nfds > 0 ? fds[0] : -1);
		close_all(fds, nfds);
		if (rc != 0) {
			child_condemn(c, "it sent an impossible message");
			channel_cut(c);
			return;
		}
	}
}

int
channel_open(struct child *c, int fd)
{
	c->fd = fd;
	c->out_end = &c->out;
	c->readable = event_new(c->parent->base, fd, EV_READ | EV_PERSIST,
		on_readable, c);
	c->writable = event_new(c->parent->base, fd, EV_WRITE, on_writable, c);
	if (c->readable != NULL && c->writable != NULL &&
		event_add(c->readable, NULL) == 0)
		return 0;
	channel_cut(c);
	return -1;
}
