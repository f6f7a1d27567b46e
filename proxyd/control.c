/*
 * control.c - the process that knows: names, events, state for operators
 *
 * Does: read events and counters from the relays, check and write them; send
 * every relay the addresses of the servers; answer the parent; hold the state
 * that ctlsock.c shows. Does not: touch a session, or stand in the way of one:
 * relays never wait for this process.
 *
 * Forked by the parent, without any capability. A relay may be taken over and
 * controls every byte of its stream: a record that is impossible is said and
 * ends that stream; the others go on. Log lines carry peers' words only
 * through event_render.
 *
 * Must hold: a bad relay, a bad operator or a silent syslog never ends this
 * process or keeps it from answering the parent's ping.
 */
#include "proxyd/control.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "lib/ipc.h"
#include "lib/log.h"
#include "proxyd/logbook.h"
#include "proxyd/roles.h"
#include "proxyd/sandbox.h"

/* Whole records only, read at most this many before others have their turn. */
#define IN_RECORDS 64
#define REST_MS 20		/* between two looks at a relay's events */
#define READS_A_TURN 16
#define IN_BYTES (IN_RECORDS * sizeof(struct record))

/* ---- snapshots to relays ---- */

static size_t
count_usable(const struct control *c)
{
	size_t total = 0;

	for (size_t i = 0; i < conf_hosts(c->conf); i++) {
		size_t n;
		const struct known_addr *k = names_list(c->names, i, &n);

		for (size_t j = 0; j < n; j++)
			total += !k[j].refused && !k[j].shared;
	}
	return total;
}

static struct record *
put_record(struct record *at, enum snapshot_op op, size_t server,
	const struct addr *a)
{
	memset(at, 0, sizeof(*at));
	at->type = RECORD_SERVER;
	at->u.server.op = op;
	at->u.server.server = (uint32_t)server;
	if (a != NULL)
		at->u.server.addr = *a;
	return at + 1;
}

/* Entries that let a connection come to a relay. */
static bool
is_for_relays(const struct allow_item *i)
{
	return i->action != ACTION_PASS;
}

static size_t
count_allow(const struct control *c)
{
	size_t n, total = 0;
	const struct allow_item *i = allowmap_all(c->allow, &n);

	for (; n > 0; n--, i++)
		total += is_for_relays(i);
	return total / ALLOW_RECORD_MAX + 3;
}

static struct record *
put_allow(const struct control *c, struct record *at)
{
	size_t n;
	const struct allow_item *i = allowmap_all(c->allow, &n);

	at->type = RECORD_ALLOW;
	at->u.allow.op = SNAPSHOT_FIRST;
	for (at++; n > 0; n--, i++) {
		if (!is_for_relays(i))
			continue;
		at->type = RECORD_ALLOW;
		at->u.allow.op = SNAPSHOT_ADD;
		at->u.allow.item[at->u.allow.n++] = *i;
		at += at->u.allow.n == ALLOW_RECORD_MAX;
	}
	at += at->type != 0;
	at->type = RECORD_ALLOW;
	at->u.allow.op = SNAPSHOT_LAST;
	return at + 1;
}

static void
build_snapshot(struct relay *r)
{
	const struct control *c = r->control;
	bool allow = r->allow_stale && c->allow != NULL;
	size_t total = count_usable(c) + 2 + (allow ? count_allow(c) : 0);
	struct record *first = calloc(total, sizeof(*first));
	struct record *at = first;

	if (first == NULL)
		return; /* still stale: the next change tries again */
	if (allow)
		at = put_allow(c, at);
	at = put_record(at, SNAPSHOT_FIRST, 0, NULL);
	for (size_t i = 0; i < conf_hosts(c->conf); i++) {
		size_t n;
		const struct known_addr *k = names_list(c->names, i, &n);

		for (size_t j = 0; j < n; j++)
			if (!k[j].refused && !k[j].shared)
				at = put_record(at, SNAPSHOT_ADD, i, &k[j].addr);
	}
	at = put_record(at, SNAPSHOT_LAST, 0, NULL);
	r->out = (uint8_t *)first;
	r->nout = (size_t)(at - first) * sizeof(*first);
	r->out_at = 0;
	r->stale = false;
	if (allow)
		r->allow_stale = false;
}

/* A snapshot that has begun is ended before the next one starts. */
static void
send_snapshots(struct relay *r)
{
	while (r->fd >= 0) {
		ssize_t n;

		if (r->out == NULL && r->stale)
			build_snapshot(r);
		if (r->out == NULL)
			return;
		n = send(r->fd, r->out + r->out_at, r->nout - r->out_at,
			MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
			event_add(r->writable, NULL);
			return;
		}
		if (n < 0)
			return; /* the reading side sees the end */
		r->out_at += (size_t)n;
		if (r->out_at == r->nout) {
			free(r->out);
			r->out = NULL;
		}
	}
}

void
control_allow_snapshot(struct control *c)
{
	for (size_t i = 0; i < c->nrelays; i++) {
		c->relay[i].stale = c->relay[i].allow_stale = true;
		send_snapshots(&c->relay[i]);
	}
}

/* A record of its own when nothing else is on its way. `pass' is told as a
 * deletion: the relay may know another action of the same prefix. */
static void
send_one(struct relay *r, const struct allow_item *item, bool add)
{
	struct record *one = NULL;

	if (r->fd < 0)
		return;
	if (r->out == NULL && !r->stale && !r->allow_stale)
		one = calloc(1, sizeof(*one));
	if (one == NULL) {
		r->stale = r->allow_stale = true;
	} else {
		one->type = RECORD_ALLOW;
		one->u.allow.op = add && is_for_relays(item) ? SNAPSHOT_ADD :
			SNAPSHOT_DELETE;
		one->u.allow.n = 1;
		one->u.allow.item[0] = *item;
		r->out = (uint8_t *)one;
		r->nout = sizeof(*one);
		r->out_at = 0;
	}
	send_snapshots(r);
}

void
control_allow_one(struct control *c, const struct allow_item *i, bool add)
{
	for (size_t n = 0; n < c->nrelays; n++)
		send_one(&c->relay[n], i, add);
}

static void
on_relay_writable(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	send_snapshots(arg);
}

/* ---- records from relays ---- */

static void
add_counters(struct counters *sum, const struct counters *one)
{
	sum->sessions_total += one->sessions_total;
	for (size_t i = 0; i < EVENT_COUNT; i++)
		sum->by_kind[i] += one->by_kind[i];
	sum->refused_descriptors += one->refused_descriptors;
	sum->refused_per_line += one->refused_per_line;
	sum->tls_full += one->tls_full;
	sum->tls_resumed += one->tls_resumed;
	sum->events_lost += one->events_lost;
}

static void
write_event(struct control *c, const struct report *e)
{
	ctlsample_note(c, e);
	logbook_take(c->logbook, e, time(NULL));
	ctlhour_note(c, e);
	c->events++;
}

static void
write_line(void *arg, int level, const char *line)
{
	(void)arg;
	log_line(level, line);
}

static void
on_logbook(evutil_socket_t fd, short what, void *arg)
{
	struct control *c = arg;

	(void)fd;
	(void)what;
	logbook_tick(c->logbook, time(NULL));
}

static int
start_logbook(struct control *c)
{
	const struct timeval often = { 2, 0 };

	c->logbook = logbook_new(c->conf, write_line, NULL);
	c->ev_logbook = event_new(c->base, -1, EV_PERSIST, on_logbook, c);
	return c->logbook == NULL || c->ev_logbook == NULL ? -1 :
		event_add(c->ev_logbook, &often);
}

static int
take_record(struct relay *r, const struct record *rec)
{
	switch (rec->type) {
	case RECORD_EVENT:
		if (event_check(&rec->u.event, r->control->conf) != 0)
			return -1;
		write_event(r->control, &rec->u.event);
		return 0;
	case RECORD_COUNTERS:
		r->now = rec->u.counters;
		return 0;
	default:
		return -1;
	}
}

static void
close_stream(struct relay *r)
{
	if (r->fd < 0)
		return;
	if (r->readable != NULL)
		event_free(r->readable);
	if (r->rested != NULL)
		event_free(r->rested);
	if (r->writable != NULL)
		event_free(r->writable);
	close(r->fd);
	free(r->in);
	free(r->out);
	r->readable = r->rested = r->writable = NULL;
	r->in = r->out = NULL;
	r->nin = 0;
	r->fd = -1;
	add_counters(&r->past, &r->now);
	memset(&r->now, 0, sizeof(r->now));
}

/* 1 something was read, 0 nothing there, -1 the stream is over. */
static int
read_records(struct relay *r)
{
	struct record rec;
	size_t at = 0;
	ssize_t n = recv(r->fd, r->in + r->nin, IN_BYTES - r->nin, MSG_DONTWAIT);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -1;
	if (n == 0)
		return -1;
	r->nin += (size_t)n;
	for (; r->nin - at >= sizeof(rec); at += sizeof(rec)) {
		memcpy(&rec, r->in + at, sizeof(rec));
		if (take_record(r, &rec) != 0) {
			log_error("relay %d sent an impossible record; its "
				"events are no longer read",
				(int)(r - r->control->relay));
			return -1;
		}
	}
	memmove(r->in, r->in + at, r->nin - at);
	r->nin -= at;
	return 1;
}

/*
 * Events there are, or a rest is over: read, and rest again. A wake-up costs more
 * than a dozen events, and nobody waits for them; meanwhile the stream holds them,
 * and the relay what does not fit there. Only after a rest without any is the
 * stream watched.
 */
static void
on_relay_stream(evutil_socket_t fd, short what, void *arg)
{
	static const struct timeval rest = { 0, REST_MS * 1000 };
	struct relay *r = arg;
	struct control *c = r->control;
	int rc = read_records(r);
	const bool is_quiet = rc == 0;

	(void)fd;
	(void)what;
	for (int i = 1; i < READS_A_TURN && rc > 0; i++)
		rc = read_records(r);
	if (rc >= 0)
		rc = is_quiet ? event_add(r->readable, NULL) :
			event_add(r->rested, &rest);
	if (rc < 0) {
		close_stream(r);
		control_check_drained(c);
	}
}

/* A new relay process in a slot; what its predecessor wrote comes first. */
static void
new_stream(struct control *c, size_t slot, int fd)
{
	struct relay *r = &c->relay[slot];

	if (r->fd >= 0) {
		while (read_records(r) > 0)
			continue;
		close_stream(r);
	}
	r->control = c;
	/* octets, not records: NOLINTNEXTLINE(clang-analyzer-unix.MallocSizeof) */
	r->in = malloc(IN_BYTES);
	r->readable = event_new(c->base, fd, EV_READ, on_relay_stream, r);
	r->rested = evtimer_new(c->base, on_relay_stream, r);
	r->writable = event_new(c->base, fd, EV_WRITE, on_relay_writable, r);
	r->fd = fd;
	if (r->in == NULL || r->readable == NULL || r->rested == NULL ||
		r->writable == NULL || event_add(r->readable, NULL) != 0) {
		log_error("no memory for the stream of relay %zu", slot);
		close_stream(r);
		return;
	}
	if (slot >= c->nrelays)
		c->nrelays = slot + 1;
	r->stale = r->allow_stale = true;
	send_snapshots(r);
}

/* ---- what names.c tells ---- */

static bool
announce(void *arg, size_t server, const struct addr *a, bool add)
{
	struct control *c = arg;
	const struct msg m = { .type = MSG_SERVER_ADDR, .n = (uint32_t)server,
		.m = add, .addr = *a };

	return ipc_send(c->parent, &m, sizeof(m), NULL, 0) == 1;
}

static void
changed(void *arg)
{
	struct control *c = arg;

	for (size_t i = 0; i < c->nrelays; i++) {
		c->relay[i].stale = true;
		send_snapshots(&c->relay[i]);
	}
}

static void
known(void *arg)
{
	struct control *c = arg;
	const struct timeval soon = { 0, 100000 };

	if (control_ask(c, MSG_SERVERS_KNOWN) == 0) {
		c->must_say_known = false;
		return;
	}
	c->must_say_known = true;
	evtimer_add(c->ev_retry, &soon);
}

static void
on_retry(evutil_socket_t fd, short what, void *arg)
{
	struct control *c = arg;

	(void)fd;
	(void)what;
	if (c->must_say_known)
		known(c);
}

/* ---- the parent ---- */

int
control_ask(struct control *c, enum msg_type type)
{
	const struct msg m = { .type = type };

	return ipc_send(c->parent, &m, sizeof(m), NULL, 0) == 1 ? 0 : -1;
}

/* Leaving: the relays of this generation still have events to send. */
void
control_check_drained(struct control *c)
{
	if (!c->draining || c->nclients > 0)
		return;
	for (size_t i = 0; i < c->nrelays; i++)
		if (c->relay[i].fd >= 0)
			return;
	(void)control_ask(c, MSG_DRAINED);
	event_base_loopbreak(c->base);
}

static void
drain(struct control *c)
{
	c->draining = true;
	ctlsock_shut(c);
	ctlevents_shut(c);
	control_check_drained(c);
}

static void
take_gate(struct control *c, const struct msg *m)
{
	for (size_t i = 0; i < sizeof(c->gate) / sizeof(*c->gate); i++)
		if (c->gate[i].port == 0 || c->gate[i].port == m->n) {
			c->gate[i].port = (uint16_t)m->n;
			c->gate[i].state = (uint8_t)m->m;
			return;
		}
}

static void
take_proc(struct control *c, const struct msg *m)
{
	if (m->n < RELAYS_MAX) {
		c->relay[m->n].pid = m->pid;
		c->relay[m->n].restarts = m->m;
		if (m->n >= c->nrelays)
			c->nrelays = m->n + 1;
	} else if (m->n == 253) {
		c->nfq_pid = m->pid;
		c->nfq_restarts = m->m;
	} else if (m->n == 252) {
		c->keeper_pid = m->pid;
		c->keeper_restarts = m->m;
	} else if (m->n == 254)
		c->parent_pid = m->pid;
	else
		c->restarts = m->m;
}

static void
take_message(struct control *c, const struct msg *m, int fd)
{
	struct msg pong = { .type = MSG_PONG, .n = m->n };

	switch (m->type) {
	case MSG_PING:
		(void)ipc_send(c->parent, &pong, sizeof(pong), NULL, 0);
		break;
	case MSG_DRAIN:
		c->is_last = m->m != 0;
		drain(c);
		break;
	case MSG_RELAY:
		if (m->n < RELAYS_MAX && fd >= 0) {
			new_stream(c, m->n, fd);
			return;
		}
		break;
	case MSG_GATE:
		take_gate(c, m);
		break;
	case MSG_PROC:
		take_proc(c, m);
		break;
	case MSG_SERVER_ADDR:
		names_learn(c->names, m->n, &m->addr);
		break;
	case MSG_ALLOWED:
		ctlallow_answer(c, m);
		break;
	case MSG_ALLOW_AGAIN:
		ctlallow_again(c, m->n);
		break;
	case MSG_HOOKED:
		ctlhook_answer(c, m);
		break;
	case MSG_RELOADED:
		ctlsock_reloaded(c, m->n == 1);
		break;
	}
	if (fd >= 0)
		close(fd);
}

static void
on_parent(evutil_socket_t fd, short what, void *arg)
{
	struct control *c = arg;
	int fds[IPC_FDS_MAX], nfds, rc;
	struct msg m;

	(void)what;
	while ((rc = ipc_recv(fd, &m, sizeof(m), fds, &nfds)) == 1) {
		for (int i = 1; i < nfds; i++)
			close(fds[i]);
		take_message(c, &m, nfds > 0 ? fds[0] : -1);
	}
	if (rc == 0 || rc == -2)
		return;
	/* the parent is dead: what still comes is written, then we go too */
	event_del(c->ev_parent);
	if (!c->draining) {
		log_error("the parent is gone; leaving");
		drain(c);
	}
}

/* ---- start and end ---- */

static int
start(struct control *c)
{
	static const struct names_calls calls = {
		.announce = announce, .changed = changed, .known = known,
	};

	c->base = event_base_new();
	if (c->base == NULL)
		return -1;
	c->ev_retry = evtimer_new(c->base, on_retry, c);
	c->ev_parent = event_new(c->base, c->parent, EV_READ | EV_PERSIST,
		on_parent, c);
	if (c->ev_retry == NULL || c->ev_parent == NULL || start_logbook(c) != 0)
		return -1;
	c->names = names_new(c->base, c->conf, &calls, c);
	ctlevents_open(c);
	if (c->names == NULL || ctlallow_open(c) != 0 || ctlzombie_open(c) != 0 ||
		ctlsock_open(c) != 0)
		return -1;
	return event_add(c->ev_parent, NULL);
}

static void
finish(struct control *c)
{
	for (size_t i = 0; i < c->nrelays; i++)
		close_stream(&c->relay[i]);
	logbook_free(&c->logbook, time(NULL));
	if (c->ev_logbook != NULL)
		event_free(c->ev_logbook);
	ctlsock_close(c);
	/* before the scribe ends: it still has something for it */
	ctlzombie_close(c);
	ctlsample_close(c);
	ctlhook_close(c);
	ctlallow_close(c);
	ctlevents_close(c);
	names_free(&c->names);
	if (c->ev_parent != NULL)
		event_free(c->ev_parent);
	if (c->ev_retry != NULL)
		event_free(c->ev_retry);
	if (c->base != NULL)
		event_base_free(c->base);
	if (log_lost() > 0)
		log_warn("%lu log lines were lost", log_lost());
}

int
control_main(const struct control_start *s)
{
	static struct control c;	/* too big for a stack */
	int status = 1;

	c.conf = s->conf;
	c.started = s->started;
	c.parent = s->parent;
	c.listener = s->listener;
	c.table = s->table;
	c.nfq_counts = s->nfq_counts;
	c.dests = s->dests;
	for (size_t i = 0; i < RELAYS_MAX; i++) {
		c.relay[i].control = &c;
		c.relay[i].fd = -1;
	}
	sandbox_writable(s->conf->ledger_file);
	if (sandbox_enter(SANDBOX_CONTROL, s->conf->user_control) != 0)
		return 1;
	if (start(&c) == 0)
		status = event_base_dispatch(c.base) < 0;
	else
		log_error("control cannot start: %s", strerror(errno));
	finish(&c);
	return status;
}
