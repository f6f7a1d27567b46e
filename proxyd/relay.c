/*
 * relay.c - the process that touches bytes of lines and servers
 *
 * Has no capability and may not call socket(2): it accepts on the listeners it
 * was born with, gets upstream sockets and the gateway's own addresses from the
 * parent, server addresses from control, and tells control what happened. One
 * loop; after each turn the queued events leave in one write.
 *
 * It never pauses accepting (a member of a REUSEPORT group keeps getting its
 * share): beyond its sessions it accepts, says 421 and closes. But it begins
 * only when it knows the servers and the gateway's own addresses: to a relay
 * without them a listed server is a stranger, refused or passed in clear. When
 * it leaves, the listeners go out of its epoll set first, since they are shared
 * with its successor. When the parent is gone it leaves too.
 */
#include "proxyd/relay.h"

#include <errno.h>
#include <linux/netfilter_ipv4.h>
#include <linux/netfilter_ipv6/ip6_tables.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "conf/conf.h"
#include "lib/ipc.h"
#include "lib/log.h"
#include "proxyd/lines.h"
#include "proxyd/offer.h"
#include "proxyd/origin.h"
#include "proxyd/places.h"
#include "proxyd/roles.h"
#include "proxyd/sandbox.h"
#include "proxyd/serve.h"
#include "proxyd/session.h"
#include "proxyd/tls.h"
#include "zombie/table.h"

/* Connections taken from a listener before others get their turn. */
#define ACCEPT_BATCH 64
/* Records that may wait for control: about half a megabyte. */
#define RECORDS_MAX 1024
/* Descriptors that are not sessions': listeners, channels, pools, loop. */
#define DESCRIPTORS_OTHER (16 + 4 * SOCKET_BATCH)
/* Kept free for those who get a 421 (DESIGN.md section 4). */
#define DESCRIPTORS_RESERVE 64

/* A listener of a published server. */
struct published {
	struct process *process;
	const struct publish_place *place;
	int fd;			/* -1: closed */
	struct event *listen;
};

struct process {
	struct relay relay;
	struct conf conf;	/* the parent's, with this relay's own ledger */
	struct allowmap *ledger, *ledger_new;	/* in force; being sent */
	const struct relay_start *start;
	int listener[2];
	struct published *published;
	size_t n_published;
	struct event *listen[2], *parent, *control, *second, *leave;
	int control_fd;
	struct record records[RECORDS_MAX];
	unsigned n_records;
	size_t record_sent;	/* octets of the first record already written */
	struct record in;	/* from control, as far as it has arrived */
	size_t in_len;
	struct counters told;
	uint64_t sessions_max;
	bool accepting;		/* has begun to, once */
	bool done;
};

static struct process *self;

int64_t
relay_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

uint64_t
relay_event_id(struct relay *r)
{
	/* Seconds since 1970, 8 bits of slot, 20 of sequence: unique while one
	 * relay sees fewer than a million sessions a second. */
	return ((uint64_t)time(NULL) << 28) | ((uint64_t)(r->slot & 0xff) << 20) |
		(r->sequence++ & 0xfffff);
}

/* ---- records to and from control ---- */

static struct record *
new_record(struct process *p, uint32_t type)
{
	struct record *rec;

	if (p->n_records == RECORDS_MAX) {
		p->relay.counters.events_lost++;
		return NULL;
	}
	rec = &p->records[p->n_records++];
	memset(rec, 0, sizeof(*rec));
	rec->type = type;
	return rec;
}

void
relay_event(struct relay *r, const struct report *e)
{
	struct record *rec = new_record(self, RECORD_EVENT);

	r->counters.by_kind[e->kind]++;
	if (rec != NULL)
		rec->u.event = *e;
}

static void
cut_control(struct process *p)
{
	if (p->control_fd == -1)
		return;
	event_free(p->control);
	p->control = NULL;
	close(p->control_fd);
	p->control_fd = -1;
	p->in_len = p->record_sent = 0;
	allowmap_free(&p->ledger_new);
}

static void
flush_records(struct process *p)
{
	size_t size = sizeof(struct record) * p->n_records;
	const uint8_t *from = (const uint8_t *)p->records;
	ssize_t n;

	if (p->n_records == 0 || p->control_fd == -1)
		return;
	n = send(p->control_fd, from + p->record_sent, size - p->record_sent,
		MSG_NOSIGNAL);
	if (n == -1) {
		if (errno != EAGAIN && errno != EINTR)
			cut_control(p);
		return;
	}
	p->record_sent += (size_t)n;
	unsigned whole = (unsigned)(p->record_sent / sizeof(struct record));
	if (whole == 0)
		return;
	memmove(p->records, p->records + whole,
		sizeof(struct record) * (p->n_records - whole));
	p->n_records -= whole;
	p->record_sent -= whole * sizeof(struct record);
}

/* Entries that did not fit in memory are not known here: such a line gets its
 * class's action, which is the safe side. */
static void
take_allow(struct process *p, const struct allow_record *a)
{
	struct allowmap *into = p->ledger_new != NULL ? p->ledger_new :
		p->ledger;

	if (a->op == SNAPSHOT_FIRST) {
		allowmap_free(&p->ledger_new);
		p->ledger_new = allowmap_new();
		return;
	}
	if (a->op == SNAPSHOT_LAST && p->ledger_new != NULL) {
		allowmap_free(&p->ledger);
		p->ledger = p->ledger_new;
		p->ledger_new = NULL;
		p->conf.ledger = p->ledger;
		return;
	}
	for (uint32_t i = 0; into != NULL && i < a->n &&
		i < ALLOW_RECORD_MAX; i++) {
		if (!allow_item_valid(&a->item[i]))
			log_warn("control sent an impossible entry; ignored");
		else if (a->op == SNAPSHOT_DELETE)
			(void)allowmap_del(into, &a->item[i].prefix);
		else if (a->op == SNAPSHOT_ADD)
			(void)allowmap_put(into, &a->item[i]);
	}
}

static void
on_control(evutil_socket_t fd, short what, void *arg)
{
	struct process *p = arg;

	(void)what;
	for (;;) {
		ssize_t n = recv(fd, (uint8_t *)&p->in + p->in_len,
			sizeof(p->in) - p->in_len, 0);

		if (n == 0 || (n == -1 && errno != EAGAIN && errno != EINTR)) {
			cut_control(p);
			return;
		}
		if (n == -1)
			return;
		p->in_len += (size_t)n;
		if (p->in_len < sizeof(p->in))
			continue;
		p->in_len = 0;
		if (p->in.type == RECORD_SERVER)
			upstream_server(p->relay.upstream, &p->in.u.server);
		else if (p->in.type == RECORD_ALLOW)
			take_allow(p, &p->in.u.allow);
		else
			log_warn("control sent a record of type %u; ignored",
				p->in.type);
	}
}

static void
new_control(struct process *p, int fd)
{
	cut_control(p);
	p->control_fd = fd;
	p->control = event_new(p->relay.base, fd, EV_READ | EV_PERSIST,
		on_control, p);
	if (p->control == NULL || event_add(p->control, NULL) == -1)
		log_error("cannot watch the stream to control");
	/* A new control knows nothing: tell it at the next second. */
	memset(&p->told, 0xff, sizeof(p->told));
}

/* What runs on a line that has become a zombie's ends, and not only what comes:
 * a session may last for hours. */
static void
end_zombies(struct relay *r)
{
	struct session *s, *next;

	if (r->conf->zombie.action == ZOMBIE_LOG)
		return;
	for (s = TAILQ_FIRST(&r->sessions); s != NULL; s = next) {
		next = TAILQ_NEXT(s, link);
		if (s->is_policed && s->kind != EVENT_BLOCK &&
		    s->phase != PHASE_LINGER &&
		    policy_is_zombie(r->conf, r->table, &s->line))
			session_end(s, REASON_ZOMBIE);
	}
}

static void
on_second(evutil_socket_t fd, short what, void *arg)
{
	struct process *p = arg;
	struct record *rec;

	(void)fd;
	(void)what;
	end_zombies(&p->relay);
	if (memcmp(&p->told, &p->relay.counters, sizeof(p->told)) == 0)
		return;
	rec = new_record(p, RECORD_COUNTERS);
	if (rec == NULL)
		return;
	rec->u.counters = p->relay.counters;
	p->told = p->relay.counters;
}

/* ---- accepting ---- */

/* Out of room: an answer and a close, never silence. */
static void
turn_away(struct relay *r, int fd, enum publish_protocol protocol)
{
	char words[256];
	int n;

	if (protocol == PUBLISH_POP3)
		n = snprintf(words, sizeof(words),
			"-ERR [SYS/TEMP] %s: too busy\r\n", r->conf->name);
	else if (protocol == PUBLISH_IMAP)
		n = snprintf(words, sizeof(words),
			"* BYE [UNAVAILABLE] %s: too busy\r\n", r->conf->name);
	else
		n = snprintf(words, sizeof(words),
			"421 4.3.2 %s: too busy, try again later\r\n",
			r->conf->name);
	if (n > 0)
		(void)send(fd, words, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT);
	r->counters.refused_descriptors++;
	close(fd);
}

/* What the client dialled: with TPROXY the socket's own address, with REDIRECT
 * what connection tracking remembers. -1: it remembers nothing. */
static int
find_origin(const struct conf *c, int fd, uint8_t family, struct addr *origin_r)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	int rc;

	if (c->capture == CAPTURE_TPROXY)
		rc = getsockname(fd, (struct sockaddr *)&ss, &len);
	else if (family == AF_INET)
		rc = getsockopt(fd, SOL_IP, SO_ORIGINAL_DST, &ss, &len);
	else
		rc = getsockopt(fd, SOL_IPV6, IP6T_SO_ORIGINAL_DST, &ss, &len);
	return rc == -1 ? -1 :
		addr_from_sockaddr(origin_r, (struct sockaddr *)&ss);
}

static void
accepted_published(struct published *l, int fd, const struct sockaddr *sa)
{
	struct relay *r = &l->process->relay;
	struct addr src;

	if (addr_from_sockaddr(&src, sa) == -1) {
		close(fd);
	} else if (r->counters.sessions_now < l->process->sessions_max) {
		session_open(r, fd, &src, &l->place->at, l->place);
	} else if (l->place->service >= PUBLISH_CLEAR) {
		turn_away(r, fd, publish_protocol(l->place->service));
	} else {	/* words would be read as a part of a handshake */
		r->counters.refused_descriptors++;
		close(fd);
	}
}

static void
accepted(struct process *p, int fd, const struct sockaddr *sa)
{
	struct addr src, origin;

	if (addr_from_sockaddr(&src, sa) == -1 ||
	    find_origin(p->relay.conf, fd, src.family, &origin) == -1) {
		close(fd);
		return;
	}
	/* The parent's self-test, or somebody who dialled the listener itself:
	 * nothing was captured. */
	if (origin.port == p->relay.conf->listen_port) {
		close(fd);
		return;
	}
	if (p->relay.counters.sessions_now >= p->sessions_max)
		turn_away(&p->relay, fd, origin.port == 110 ? PUBLISH_POP3 :
			origin.port == 143 ? PUBLISH_IMAP : PUBLISH_SMTP);
	else
		session_open(&p->relay, fd, &src, &origin, NULL);
}

/* l: the listener's place, or NULL where connections are captured. */
static void
accept_some(struct process *p, int listener, struct published *l)
{
	for (int i = 0; i < ACCEPT_BATCH; i++) {
		struct sockaddr_storage ss;
		socklen_t len = sizeof(ss);
		int fd = accept4(listener, (struct sockaddr *)&ss, &len,
			SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd == -1 && (errno == EMFILE || errno == ENFILE)) {
			/* The limit was set from outside: make room. */
			int spare = upstream_spare(p->relay.upstream);

			if (spare == -1)
				return;
			close(spare);
			continue;
		}
		if (fd == -1)
			return;
		if (l != NULL)
			accepted_published(l, fd, (struct sockaddr *)&ss);
		else
			accepted(p, fd, (struct sockaddr *)&ss);
	}
}

static void
on_accept(evutil_socket_t listener, short what, void *arg)
{
	(void)what;
	accept_some(arg, listener, NULL);
}

static void
on_accept_published(evutil_socket_t listener, short what, void *arg)
{
	struct published *l = arg;

	(void)what;
	accept_some(l->process, listener, l);
}

static int
watch(struct process *p, struct event **ev, int fd, event_callback_fn fn)
{
	if (fd == -1)
		return 0;
	*ev = event_new(p->relay.base, fd, EV_READ | EV_PERSIST, fn, p);
	return *ev == NULL || event_add(*ev, NULL) == -1 ? -1 : 0;
}

static int
watch_published(struct process *p)
{
	for (size_t i = 0; i < p->n_published; i++) {
		struct published *l = &p->published[i];

		l->listen = event_new(p->relay.base, l->fd,
			EV_READ | EV_PERSIST, on_accept_published, l);
		if (l->listen == NULL || event_add(l->listen, NULL) == -1)
			return -1;
	}
	return 0;
}

/* After each turn, until it has: what queued meanwhile is served then. */
static void
start_accepting(struct process *p)
{
	if (p->accepting || p->relay.draining ||
	    !upstream_is_ready(p->relay.upstream))
		return;
	p->accepting = true;
	if (watch(p, &p->listen[0], p->listener[0], on_accept) == -1 ||
	    watch(p, &p->listen[1], p->listener[1], on_accept) == -1 ||
	    watch_published(p) == -1) {
		log_error("cannot watch the listeners");
		p->done = true;
	}
}

/* ---- the parent ---- */

static bool
need_sockets(void *arg, unsigned family)
{
	struct process *p = arg;
	struct msg m = { .type = MSG_NEED, .n = family };

	if (ipc_send(p->start->parent, &m, sizeof(m), NULL, 0) == 1)
		return true;
	log_warn("cannot ask for IPv%u sockets: %s", family,
		strerror(errno));
	return false;
}

/* Out of the epoll set first: the open file is shared with the successor. Then
 * closed, so that an orphan does not keep a share of the connections. */
static void
stop_accepting(struct process *p)
{
	for (int i = 0; i < 2; i++) {
		if (p->listen[i] != NULL)
			event_free(p->listen[i]);
		p->listen[i] = NULL;
		if (p->listener[i] != -1)
			close(p->listener[i]);
		p->listener[i] = -1;
	}
	for (size_t i = 0; i < p->n_published; i++) {
		struct published *l = &p->published[i];

		if (l->listen != NULL)
			event_free(l->listen);
		l->listen = NULL;
		if (l->fd != -1)
			close(l->fd);
		l->fd = -1;
	}
}

/* Everything that still runs when the time is up is told so, a few at a time:
 * a thousand mail programs must not all come back in the same second. */
static void
on_leave(evutil_socket_t fd, short what, void *arg)
{
	struct process *p = arg;
	struct timeval soon = { 0, 20000 };
	struct session *s, *next;
	unsigned n = 0, most = (unsigned)(p->relay.counters.sessions_now / 50) +
		1;

	(void)fd;
	(void)what;
	for (s = TAILQ_FIRST(&p->relay.sessions); s != NULL && n < most;
		s = next) {
		next = TAILQ_NEXT(s, link);
		if (s->phase == PHASE_LINGER)
			continue;
		session_end(s, REASON_DRAIN);
		n++;
	}
	event_add(p->leave, &soon);
}

static void
drain(struct process *p, unsigned seconds)
{
	struct timeval limit = { (time_t)seconds, 0 };

	if (p->relay.draining)
		return;
	p->relay.draining = true;
	stop_accepting(p);
	p->leave = evtimer_new(p->relay.base, on_leave, p);
	if (p->leave == NULL || event_add(p->leave, &limit) == -1)
		p->done = true;
}

static void
handle(struct process *p, const struct msg *m, const int *fds, int nfds)
{
	struct msg answer = { .type = MSG_PONG, .n = m->n };

	switch (m->type) {
	case MSG_PING:
		answer.m = (uint32_t)p->relay.counters.sessions_now;
		(void)ipc_send(p->start->parent, &answer, sizeof(answer), NULL,
			0);
		return;
	case MSG_SOCKETS:
		upstream_sockets(p->relay.upstream, m->n, fds, nfds);
		return;
	case MSG_CONTROL:
		if (nfds == 1) {
			new_control(p, fds[0]);
			return;
		}
		break;
	case MSG_KEEPER:
		if (nfds == 1) {
			keeper_link_connect(p->relay.keeper, fds[0]);
			return;
		}
		break;
	case MSG_OWN:
		upstream_own(p->relay.upstream, m);
		return;
	case MSG_DRAIN:
		drain(p, m->n);
		return;
	case MSG_TICKET_KEY:
		if (p->relay.serve != NULL)
			serve_ticket_key(p->relay.serve, &m->ticket,
				m->n == 1);
		return;
	default:
		log_warn("the parent sent a message of type %u; ignored",
			m->type);
		break;
	}
	for (int i = 0; i < nfds; i++)
		close(fds[i]);
}

static void
on_parent(evutil_socket_t fd, short what, void *arg)
{
	struct process *p = arg;
	int fds[IPC_FDS_MAX], nfds, got;
	struct msg m;

	(void)what;
	while ((got = ipc_recv(fd, &m, sizeof(m), fds, &nfds)) != 0) {
		if (got == -2)
			continue;
		if (got == -1) {	/* the parent is gone: so are we */
			event_free(p->parent);
			p->parent = NULL;
			drain(p, p->relay.conf->drain_max);
			return;
		}
		handle(p, &m, fds, nfds);
	}
}

/* ---- life ---- */

/* Before the sandbox: the certificates are read out of the parent's memory. */
static int
prepare_published(struct process *p)
{
	const struct places *from = p->start->places;

	if (from == NULL || from->n == 0)
		return 0;
	p->published = calloc(from->n, sizeof(*p->published));
	if (p->published == NULL)
		return -1;
	for (size_t i = 0; i < from->n; i++) {
		p->published[i].process = p;
		p->published[i].place = &from->place[i];
		p->published[i].fd = from->fd[i * from->workers +
			(unsigned)p->start->slot];
	}
	p->n_published = from->n;
	p->relay.serve = serve_new(&p->conf, from->bundle);
	close(from->bundle);
	return p->relay.serve == NULL ? -1 : 0;
}

static int
prepare(struct process *p)
{
	struct relay *r = &p->relay;
	struct timeval second = { 1, 0 };
	rlim_t other = DESCRIPTORS_OTHER;
	struct rlimit limit;

	p->conf = *p->start->conf;
	p->conf.ledger = NULL;
	r->conf = &p->conf;
	detect_load(&r->detect, &r->conf->zombie);
	r->adaptive = p->start->adaptive;
	r->lines = p->start->lines;
	lines_own(r->lines, p->start->owner);
	r->tally = p->start->tally;
	r->tlsseen = p->start->tlsseen;
	r->logins = p->start->logins;
	r->table = p->start->table;
	r->slot = p->start->slot;
	p->control_fd = -1;
	TAILQ_INIT(&r->sessions);
	if (p->start->places != NULL)
		other += p->start->places->n;
	if (getrlimit(RLIMIT_NOFILE, &limit) == -1 || limit.rlim_cur <
		other + DESCRIPTORS_RESERVE + 2)
		return -1;
	p->sessions_max = (limit.rlim_cur - other - DESCRIPTORS_RESERVE) / 2;
	/* Before the sandbox: it reads files. */
	r->tls = tls_new(r->conf->trust, r->conf->crl,
		r->conf->tls_min_server);
	if (prepare_published(p) == -1)
		return -1;
	r->base = event_base_new();
	r->upstream = upstream_new(r->conf, need_sockets, p);
	r->offers = offers_new(r);
	r->keeper = r->base == NULL ? NULL : keeper_link_new(r->base);
	if (r->conf->unknown_origin == UNKNOWN_ORIGIN &&
	    (r->origins = origins_new()) == NULL)
		return -1;
	r->scratch = calloc(1, sizeof(*r->scratch));
	r->sink[0] = malloc(SINK_SIZE);
	r->sink[1] = malloc(SINK_SIZE);
	if (r->tls == NULL || r->base == NULL || r->upstream == NULL ||
	    r->offers == NULL || r->keeper == NULL || r->scratch == NULL ||
	    r->sink[0] == NULL || r->sink[1] == NULL ||
	    watch(p, &p->parent, p->start->parent, on_parent) == -1)
		return -1;
	p->second = event_new(r->base, -1, EV_PERSIST, on_second, p);
	return p->second == NULL || event_add(p->second, &second) == -1 ? -1 :
		0;
}

static void
dispose(struct process *p)
{
	struct relay *r = &p->relay;

	cut_control(p);
	stop_accepting(p);
	if (p->parent != NULL)
		event_free(p->parent);
	if (p->second != NULL)
		event_free(p->second);
	if (p->leave != NULL)
		event_free(p->leave);
	keeper_link_free(&r->keeper);
	offers_free(&r->offers);
	origins_free(&r->origins);
	upstream_free(&r->upstream);
	tls_free(&r->tls);
	serve_free(&r->serve);
	free(p->published);
	allowmap_free(&p->ledger);
	allowmap_free(&p->ledger_new);
	free(r->scratch);
	free(r->sink[0]);
	free(r->sink[1]);
	if (r->base != NULL)
		event_base_free(r->base);
	free(p);
	self = NULL;
}

int
relay_main(const struct relay_start *start)
{
	struct msg drained = { .type = MSG_DRAINED };
	struct process *p = calloc(1, sizeof(*p));
	int status = 1;

	self = p;
	if (p == NULL)
		return 1;
	p->start = start;
	p->listener[0] = start->listener4;
	p->listener[1] = start->listener6;
	if (prepare(p) == -1) {
		log_error("cannot start: out of memory or descriptors");
		goto out;
	}
	if (p->relay.table != NULL && table_drop_rights(p->relay.table) == -1)
		goto out;
	if (sandbox_enter(SANDBOX_RELAY, start->conf->user_relay) == -1)
		goto out;
	while (!p->done && event_base_loop(p->relay.base, EVLOOP_ONCE) != -1) {
		start_accepting(p);
		flush_records(p);
		if (p->relay.draining && TAILQ_EMPTY(&p->relay.sessions) &&
		    (p->n_records == 0 || p->control_fd == -1))
			p->done = true;
	}
	if (p->parent != NULL)
		(void)ipc_send(start->parent, &drained, sizeof(drained), NULL,
			0);
	status = 0;
out:
	dispose(p);
	return status;
}
