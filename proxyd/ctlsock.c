/*
 * ctlsock.c - operators at the control socket
 *
 * Does: one request line ("status", "healthy", "reload", "plan", "allow ..."), one JSON
 * object as the answer, close. Does not: keep a connection, or decide who may ask: the
 * directory of the socket (0750) and the socket itself (0660) do; the user is
 * read with SO_PEERCRED and named in the log where something is changed.
 *
 * Called by control.c. A client controls its bytes and how slowly it sends or
 * reads them: a request is at most REQUEST_MAX bytes, a client has
 * CLIENT_SECONDS (a reload RELOAD_SECONDS), and there are CLIENTS_MAX.
 */
#include <errno.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "lib/log.h"
#include "nfq/counts.h"
#include "proxyd/control.h"
#include "zombie/table.h"

#define CLIENT_SECONDS 5
#define RELOAD_SECONDS 30

static const struct timeval client_time = { CLIENT_SECONDS, 0 };
static const char *const gate_word[] = { "shut", "syn", "all", "no-rules" };

/* ---- what is shown ---- */

static json_t *
show_counters(const struct relay *r)
{
	struct counters sum = r->past;
	json_t *kinds = json_object();

	for (size_t i = 0; i < EVENT_COUNT; i++) {
		sum.by_kind[i] += r->now.by_kind[i];
		json_object_set_new(kinds, event_word[i],
			json_integer((json_int_t)sum.by_kind[i]));
	}
#define SUM(field) (json_int_t)(sum.field + r->now.field)
	return json_pack("{s:I,s:I,s:o,s:I,s:I,s:I,s:I,s:I}",
		"sessions_now", (json_int_t)r->now.sessions_now,
		"sessions_total", SUM(sessions_total),
		"by_kind", kinds,
		"refused_descriptors", SUM(refused_descriptors),
		"refused_per_line", SUM(refused_per_line),
		"tls_full", SUM(tls_full),
		"tls_resumed", SUM(tls_resumed),
		"events_lost", SUM(events_lost));
#undef SUM
}

static json_t *
show_relays(const struct control *c)
{
	json_t *list = json_array();

	for (size_t i = 0; i < c->nrelays; i++) {
		const struct relay *r = &c->relay[i];
		json_t *one = show_counters(r);

		json_object_set_new(one, "slot", json_integer((json_int_t)i));
		json_object_set_new(one, "pid", json_integer(r->pid));
		json_object_set_new(one, "restarts", json_integer(r->restarts));
		json_array_append_new(list, one);
	}
	return list;
}

static json_t *
show_gate(const struct control *c)
{
	json_t *list = json_array();

	for (size_t i = 0; i < 4 && c->gate[i].port != 0; i++)
		json_array_append_new(list, json_pack("{s:i,s:s}",
			"port", c->gate[i].port,
			"state", gate_word[c->gate[i].state & 3]));
	return list;
}

static json_t *
show_address(const struct known_addr *k, int64_t now)
{
	char text[ADDR_STRLEN];
	json_t *one = json_pack("{s:s,s:s}", "address",
		addr_format(&k->addr, text), "from", k->literal ? "configuration" : "dns");

	if (!k->literal)
		json_object_set_new(one, "age", json_integer(
			(json_int_t)(now > k->seen ? now - k->seen : 0)));
	if (k->refused)
		json_object_set_new(one, "refused", json_true());
	if (k->shared)
		json_object_set_new(one, "shared", json_true());
	return one;
}

/* A server, or the host that takes its submissions. */
static json_t *
show_host(const struct control *c, size_t host, int64_t now)
{
	size_t n;
	const struct known_addr *k = names_list(c->names, host, &n);
	int64_t failing = names_failing(c->names, host);
	json_t *addresses = json_array();
	json_t *one = json_pack("{s:s,s:o}", "name", conf_host(c->conf, host),
		"addresses", addresses);

	for (size_t j = 0; j < n; j++)
		json_array_append_new(addresses, show_address(&k[j], now));
	if (failing >= 0)
		json_object_set_new(one, "failing",
			json_integer((json_int_t)failing));
	return one;
}

static json_t *
show_servers(const struct control *c, int64_t now)
{
	json_t *list = json_array();

	for (size_t i = 0; i < c->conf->nservers; i++) {
		const struct server_conf *s = &c->conf->servers[i];
		json_t *one = show_host(c, i, now);

		json_object_set_new(one, "own", json_boolean(s->own));
		if (s->submission_host != NULL)
			json_object_set_new(one, "submission_host", show_host(c,
				c->conf->nservers + i, now));
		json_array_append_new(list, one);
	}
	return list;
}

/* NULL: all is well; else the first thing that is not. */
static const char *
complaint(const struct control *c)
{
	if (c->gate[0].port == 0)
		return "the gate is not known yet";
	for (size_t i = 0; i < 4 && c->gate[i].port != 0; i++) {
		if (c->gate[i].state == 3)
			return "rules are not applied";
		if (c->gate[i].state == 0)
			return "the gate is shut";
	}
	for (size_t i = 0; i < c->conf->workers; i++)
		if (c->relay[i].pid == 0)
			return "a relay is not running";
	if (c->nfq_counts != NULL && c->nfq_pid == 0)
		return "nfq is not running";
	if (c->conf->naccounts > 0 && c->keeper_pid == 0)
		return "the keeper is not running";
	return NULL;
}

/* NULL: no queue is read. */
static json_t *
show_nfq(const struct control *c)
{
	const struct nfq_counts *n = c->nfq_counts;

	if (n == NULL)
		return NULL;
	return json_pack("{s:i,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I}",
		"pid", (int)c->nfq_pid,
		"restarts", (json_int_t)c->nfq_restarts,
		"queued", (json_int_t)atomic_load(&n->queued),
		"accepted", (json_int_t)atomic_load(&n->accepted),
		"reset", (json_int_t)atomic_load(&n->reset),
		"dropped", (json_int_t)atomic_load(&n->dropped),
		"retransmissions", (json_int_t)atomic_load(&n->retransmissions),
		"unparseable", (json_int_t)atomic_load(&n->unparseable),
		"overruns", (json_int_t)atomic_load(&n->overruns));
}

/* NULL: there are no accounts. */
static json_t *
show_keeper(const struct control *c)
{
	if (c->conf->naccounts == 0)
		return NULL;
	return json_pack("{s:i,s:I,s:I}", "pid", (int)c->keeper_pid,
		"restarts", (json_int_t)c->keeper_restarts,
		"accounts", (json_int_t)c->conf->naccounts);
}

/* NULL: no table is kept. */
static json_t *
show_lines(const struct control *c)
{
	struct table_stats s;

	if (c->table == NULL)
		return NULL;
	table_stats(c->table, &s);
	return json_pack("{s:I,s:I,s:I,s:I,s:I}",
		"known", (json_int_t)s.lines, "room", (json_int_t)s.slots,
		"displaced", (json_int_t)s.displaced,
		"lost", (json_int_t)s.lost, "octets", (json_int_t)s.octets);
}

static json_t *
show_status(const struct control *c)
{
	struct timespec ts;
	int64_t now;
	const char *bad = complaint(c);

	clock_gettime(CLOCK_MONOTONIC, &ts);
	now = (int64_t)ts.tv_sec;
	return json_pack("{s:b,s:s,s:i,s:I,s:s,s:b,s:s?,s:{s:i,s:I,s:I,s:I},"
		"s:o,s:o,s:o,s:o*,s:o*,s:o*,s:o}",
		"ok", 1,
		"version", SALLYPORT_VERSION,
		"pid", (int)c->parent_pid,
		"uptime", (json_int_t)(now - c->started / 1000),
		"config", c->conf->path,
		"healthy", bad == NULL,
		"complaint", bad,
		"control", "pid", (int)getpid(),
		"restarts", (json_int_t)c->restarts,
		"events", (json_int_t)c->events,
		"log_lost", (json_int_t)log_lost(),
		"relays", show_relays(c),
		"gate", show_gate(c),
		"servers", show_servers(c, now),
		"nfq", show_nfq(c),
		"keeper", show_keeper(c),
		"lines", show_lines(c),
		"ledger", ctlallow_status(c));
}

/* ---- clients ---- */

static void
client_free(struct client *cl)
{
	struct control *c = cl->control;

	for (struct client **at = &c->clients; *at != NULL; at = &(*at)->next)
		if (*at == cl) {
			*at = cl->next;
			break;
		}
	c->nclients--;
	event_free(cl->ev);
	close(cl->fd);
	if (cl->passed >= 0)
		close(cl->passed);
	json_decref(cl->answer_then);
	if (cl->stream != NULL)
		evbuffer_free(cl->stream);
	free(cl->answer);
	free(cl);
}

static void
client_done(struct client *cl)
{
	struct control *c = cl->control;
	char rest[1024];

	/* closing with words unread would take the answer back; bounded */
	for (int i = 0; i < 64; i++)
		if (recv(cl->fd, rest, sizeof(rest), MSG_DONTWAIT) <= 0)
			break;
	client_free(cl);
	control_check_drained(c);
}

static void
on_answer(evutil_socket_t fd, short what, void *arg)
{
	struct client *cl = arg;
	ssize_t n;

	if (what & EV_TIMEOUT) {
		client_done(cl);
		return;
	}
	n = send(fd, cl->answer + cl->answer_at, cl->nanswer - cl->answer_at,
		MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0)
		cl->answer_at += (size_t)n;
	if (n < 0 || cl->answer_at == cl->nanswer)
		client_done(cl);
}

static void
answer_octets(struct client *cl, char *text, size_t len)
{
	cl->answer = text;
	cl->nanswer = len;
	event_del(cl->ev);
	event_assign(cl->ev, cl->control->base, cl->fd, EV_WRITE | EV_PERSIST,
		on_answer, cl);
	event_add(cl->ev, &client_time);
}

void
ctlsock_answer_text(struct client *cl, char *text)
{
	answer_octets(cl, text, strlen(text));
}

void
ctlsock_answer(struct client *cl, json_t *object)
{
	char *text = json_dumps(object, JSON_COMPACT | JSON_ENSURE_ASCII);
	size_t len;

	json_decref(object);
	if (text == NULL) {
		client_done(cl);
		return;
	}
	len = strlen(text);
	text[len++] = '\n'; /* in place of the NUL; nanswer bounds it */
	answer_octets(cl, text, len);
}

void
ctlsock_error(struct client *cl, const char *why)
{
	ctlsock_answer(cl, json_pack("{s:b,s:s}", "ok", 0, "error", why));
}

static void
on_patience(evutil_socket_t fd, short what, void *arg)
{
	struct client *cl = arg;
	char byte;

	if (what & EV_TIMEOUT) {
		cl->waits_for_reload = false;
		cl->serial = 0;	/* what comes now comes too late */
		json_decref(cl->answer_then);
		cl->answer_then = NULL;
		ctlsock_error(cl, cl->patience);
		return;
	}
	/* gone, or still talking: what it asked for is under way anyway */
	if (recv(fd, &byte, 1, MSG_DONTWAIT) <= 0)
		client_done(cl);
}

void
ctlsock_wait(struct client *cl, unsigned seconds, const char *late)
{
	const struct timeval limit = { (time_t)seconds, 0 };

	cl->patience = late;
	event_del(cl->ev);
	event_assign(cl->ev, cl->control->base, cl->fd, EV_READ | EV_PERSIST,
		on_patience, cl);
	event_add(cl->ev, &limit);
}

void
ctlsock_end(struct client *cl)
{
	client_done(cl);
}

struct client *
ctlsock_find(struct control *c, uint64_t serial)
{
	struct client *cl = serial == 0 ? NULL : c->clients;

	while (cl != NULL && cl->serial != serial)
		cl = cl->next;
	return cl;
}

static void
ask_reload(struct client *cl)
{
	log_info("reload asked for by user %u", (unsigned)cl->uid);
	if (control_ask(cl->control, MSG_RELOAD) != 0) {
		ctlsock_error(cl, "the parent takes no request");
		return;
	}
	cl->waits_for_reload = true;
	ctlsock_wait(cl, RELOAD_SECONDS, "no answer from the parent");
}

void
ctlsock_reloaded(struct control *c, bool done)
{
	struct client *next;

	for (struct client *cl = c->clients; cl != NULL; cl = next) {
		next = cl->next;
		if (!cl->waits_for_reload)
			continue;
		cl->waits_for_reload = false;
		if (done)
			ctlsock_answer(cl, json_pack("{s:b}", "ok", 1));
		else
			ctlsock_error(cl, "the new configuration was refused; "
				"the running one stays (see the log)");
	}
}

static void
execute(struct client *cl)
{
	const char *why = complaint(cl->control);

	if (strcmp(cl->request, "status") == 0)
		ctlsock_answer(cl, show_status(cl->control));
	else if (strcmp(cl->request, "healthy") == 0)
		ctlsock_answer(cl, json_pack("{s:b,s:b,s:s?}", "ok", 1, "healthy",
			why == NULL, "complaint", why));
	else if (strcmp(cl->request, "reload") == 0)
		ask_reload(cl);
	else if (strcmp(cl->request, "plan") == 0)
		ctlplan_request(cl);
	else if (strncmp(cl->request, "events ", 7) == 0)
		ctlevents_request(cl, cl->request + 7);
	else if (strncmp(cl->request, "why ", 4) == 0)
		ctlwhy_request(cl, cl->request + 4);
	else if (strcmp(cl->request, "zombies") == 0)
		ctlzombie_list(cl);
	else if (strncmp(cl->request, "zombie ", 7) == 0)
		ctlzombie_request(cl, cl->request + 7);
	else if (strncmp(cl->request, "allow ", 6) == 0)
		ctlallow_request(cl, cl->request + 6);
	else if (strncmp(cl->request, "lease ", 6) == 0)
		ctllease_request(cl, cl->request + 6);
	else
		ctlsock_error(cl, "unknown request");
}

/* As recv(2); a descriptor that comes along is kept, one. */
static ssize_t
receive(struct client *cl, char *to, size_t room)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(int))];
	} space;
	struct iovec iov = { .iov_base = to, .iov_len = room };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = space.room, .msg_controllen = sizeof(space.room) };
	ssize_t n = recvmsg(cl->fd, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	struct cmsghdr *c = n < 0 ? NULL : CMSG_FIRSTHDR(&mh);
	int fd;

	/* what does not fit in the space the kernel has closed already */
	if (c == NULL || c->cmsg_level != SOL_SOCKET ||
	    c->cmsg_type != SCM_RIGHTS || c->cmsg_len != CMSG_LEN(sizeof(fd)))
		return n;
	memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	if (cl->passed >= 0)
		close(cl->passed);
	cl->passed = fd;
	return n;
}

static void
on_request(evutil_socket_t fd, short what, void *arg)
{
	struct client *cl = arg;
	size_t room = sizeof(cl->request) - cl->nrequest;
	char *end;
	ssize_t n;

	(void)fd;
	if (what & EV_TIMEOUT) {
		client_done(cl);
		return;
	}
	n = receive(cl, cl->request + cl->nrequest, room);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		client_done(cl);
		return;
	}
	cl->nrequest += (size_t)n;
	end = memchr(cl->request, '\n', cl->nrequest);
	if (end != NULL) {
		*end = '\0';
		execute(cl);
	} else if (cl->nrequest == sizeof(cl->request))
		ctlsock_error(cl, "the request is too long");
}

static void
on_client(evutil_socket_t listener, short what, void *arg)
{
	struct control *c = arg;
	struct ucred cred = { .uid = (uid_t)-1 };
	socklen_t len = sizeof(cred);
	struct client *cl;
	int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	(void)what;
	if (fd < 0)
		return;
	cl = c->nclients < CLIENTS_MAX ? calloc(1, sizeof(*cl)) : NULL;
	if (cl == NULL) {
		close(fd);
		return;
	}
	cl->passed = -1;
	cl->serial = ++c->serial;
	cl->ev = event_new(c->base, fd, EV_READ | EV_PERSIST, on_request, cl);
	if (cl->ev == NULL) {
		close(fd);
		free(cl);
		return;
	}
	(void)getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len);
	cl->uid = cred.uid;
	cl->control = c;
	cl->fd = fd;
	cl->next = c->clients;
	c->clients = cl;
	c->nclients++;
	event_add(cl->ev, &client_time);
}

int
ctlsock_open(struct control *c)
{
	c->ev_listener = event_new(c->base, c->listener, EV_READ | EV_PERSIST,
		on_client, c);
	if (c->ev_listener == NULL)
		return -1;
	return event_add(c->ev_listener, NULL);
}

void
ctlsock_shut(struct control *c)
{
	if (c->ev_listener != NULL)
		event_free(c->ev_listener);
	c->ev_listener = NULL;
	if (c->listener >= 0)
		close(c->listener);
	c->listener = -1;
}

void
ctlsock_close(struct control *c)
{
	struct client *next;

	ctlsock_shut(c);
	for (struct client *cl = c->clients; cl != NULL; cl = next) {
		next = cl->next;
		client_free(cl);
	}
}
