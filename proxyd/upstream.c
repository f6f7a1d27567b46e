/*
 * upstream.c - which server an origin is, and how a relay gets there
 *
 * Sockets wait in one stack per family; below a batch another is asked for.
 * With source = "client", for all or for one server, the port is bound
 * explicitly inside source_ports, outside the range that clients' own systems
 * use, so that our connection can never be the twin of a direct one of the same
 * line; ports are tried in a keyed order until bind and connect both succeed.
 *
 * A client chooses the address that is dialled: upstream_allowed() is asked
 * before every connect, and the kernel's OUTPUT jail on the mark stands behind
 * it. Snapshots come from control; each index was checked there and is checked
 * again here.
 */
#include "proxyd/upstream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "conf/conf.h"
#include "conf/lpm.h"
#include "lib/log.h"
#include "proxyd/msg.h"

/* Bind attempts before a connection is given up: a line would need this many
 * neighbouring ports in use towards the same server. */
#define BIND_TRIES 64
#define POOL_MAX (2 * SOCKET_BATCH)

struct pool {
	int fd[POOL_MAX];
	int n;
	bool asked;
};

/* Addresses of one submission_host; port 0. */
struct host {
	struct addr *addr;
	size_t n;
};

struct upstream {
	const struct conf *conf;
	bool (*need)(void *arg, unsigned family);
	void *arg;
	struct pool pool[2];	/* IPv4, IPv6 */
	struct lpm *servers, *servers_next;
	struct host *hosts, *hosts_next;	/* a server each; NULL: none yet */
	struct lpm *own, *own_next;
	struct lpm *never;
	uint32_t next_port, next_address;
	TAILQ_HEAD(waiter_list, upstream_waiter) waiters[2];
};

static struct pool *
pool_of(struct upstream *u, const struct addr *a)
{
	return &u->pool[a->family == AF_INET6];
}

struct upstream *
upstream_new(const struct conf *conf, bool (*need)(void *arg, unsigned family),
	void *arg)
{
	struct upstream *u = calloc(1, sizeof(*u));

	if (u == NULL)
		return NULL;
	u->conf = conf;
	u->need = need;
	u->arg = arg;
	TAILQ_INIT(&u->waiters[0]);
	TAILQ_INIT(&u->waiters[1]);
	u->never = lpm_new();
	if (u->never == NULL ||
	    getrandom(&u->next_port, sizeof(u->next_port), 0) !=
		sizeof(u->next_port)) {
		upstream_free(&u);
		return NULL;
	}
	for (size_t i = 0; i < conf->nnever; i++)
		if (lpm_add(u->never, &conf->never[i], 0, NULL) == -1) {
			upstream_free(&u);
			return NULL;
		}
	return u;
}

static void
hosts_free(const struct upstream *u, struct host **hosts)
{
	for (size_t i = 0; *hosts != NULL && i < u->conf->nservers; i++)
		free((*hosts)[i].addr);
	free(*hosts);
	*hosts = NULL;
}

void
upstream_free(struct upstream **u)
{
	if (*u == NULL)
		return;
	for (int i = 0; i < 2; i++)
		while ((*u)->pool[i].n > 0)
			close((*u)->pool[i].fd[--(*u)->pool[i].n]);
	lpm_free(&(*u)->servers);
	lpm_free(&(*u)->servers_next);
	hosts_free(*u, &(*u)->hosts);
	hosts_free(*u, &(*u)->hosts_next);
	lpm_free(&(*u)->own);
	lpm_free(&(*u)->own_next);
	lpm_free(&(*u)->never);
	free(*u);
	*u = NULL;
}

/* One step of a snapshot that replaces *now by *next when it is complete. */
static void
snapshot(struct lpm **now, struct lpm **next, uint32_t op,
	const struct addr *a, int32_t value)
{
	struct prefix host;

	switch (op) {
	case SNAPSHOT_FIRST:
		lpm_free(next);
		*next = lpm_new();
		break;
	case SNAPSHOT_ADD:
		if (*next == NULL || (a->family != AF_INET &&
			a->family != AF_INET6))
			break;
		prefix_of_addr(&host, a, a->family == AF_INET ? 32 : 128);
		(void)lpm_add(*next, &host, value, NULL);
		break;
	case SNAPSHOT_LAST:
		if (*next == NULL)
			break;
		lpm_free(now);
		*now = *next;
		*next = NULL;
		break;
	default:
		break;
	}
}

static void
host_add(struct host *h, const struct addr *a)
{
	struct addr *more;

	if (a->family != AF_INET && a->family != AF_INET6)
		return;
	more = realloc(h->addr, (h->n + 1) * sizeof(*more));
	if (more == NULL)
		return;
	h->addr = more;
	h->addr[h->n++] = *a;
}

/* The same three steps for the addresses of submission hosts. */
static void
snapshot_hosts(struct upstream *u, const struct server_addr *a)
{
	size_t n = u->conf->nservers;

	if (a->op == SNAPSHOT_FIRST) {
		hosts_free(u, &u->hosts_next);
		u->hosts_next = calloc(n + 1, sizeof(*u->hosts_next));
	} else if (a->op == SNAPSHOT_ADD && u->hosts_next != NULL) {
		host_add(&u->hosts_next[a->server - n], &a->addr);
	} else if (a->op == SNAPSHOT_LAST && u->hosts_next != NULL) {
		hosts_free(u, &u->hosts);
		u->hosts = u->hosts_next;
		u->hosts_next = NULL;
	}
}

void
upstream_server(struct upstream *u, const struct server_addr *a)
{
	bool adds = a->op == SNAPSHOT_ADD;

	if (adds && a->server >= conf_hosts(u->conf))
		return;
	if (!adds || a->server >= u->conf->nservers)
		snapshot_hosts(u, a);
	if (adds && a->server >= u->conf->nservers)
		return;
	snapshot(&u->servers, &u->servers_next, a->op, &a->addr,
		(int32_t)a->server);
}

void
upstream_own(struct upstream *u, const struct msg *m)
{
	snapshot(&u->own, &u->own_next, m->n, &m->addr, 0);
}

void
upstream_sockets(struct upstream *u, unsigned family, const int *fds, int n)
{
	int which = family == 6;
	struct pool *p = &u->pool[which];

	p->asked = false;
	for (int i = 0; i < n; i++) {
		if (p->n < POOL_MAX)
			p->fd[p->n++] = fds[i];
		else
			close(fds[i]);
	}
	while (p->n > 0 && !TAILQ_EMPTY(&u->waiters[which])) {
		struct upstream_waiter *w = TAILQ_FIRST(&u->waiters[which]);

		upstream_forget(u, w);
		w->wake(w);
	}
}

bool
upstream_is_ready(const struct upstream *u)
{
	return u->servers != NULL && u->own != NULL;
}

int
upstream_find(const struct upstream *u, const struct addr *origin)
{
	int32_t server;

	if (u->servers == NULL)
		return -1;
	server = lpm_find(u->servers, origin, NULL);
	return server != -1 ? server : conf_server_at(u->conf, origin);
}

/* The nth of those addresses whose family is, or is not, this one. */
static bool
host_pick(const struct host *h, uint8_t family, bool is, unsigned spread,
	unsigned *nth, struct addr *host_r)
{
	unsigned n = 0;

	for (size_t i = 0; i < h->n; i++)
		n += (h->addr[i].family == family) == is;
	if (*nth >= n) {
		*nth -= n;
		return false;
	}
	n = (spread % n + *nth) % n;
	for (size_t i = 0; i < h->n; i++)
		if ((h->addr[i].family == family) == is && n-- == 0) {
			*host_r = h->addr[i];
			return true;
		}
	return false;
}

bool
upstream_host(const struct upstream *u, int server, uint8_t family,
	unsigned spread, unsigned nth, struct addr *host_r)
{
	const struct host *h;

	if (u->hosts == NULL || server < 0 ||
	    (size_t)server >= u->conf->nservers)
		return false;
	h = &u->hosts[server];
	return host_pick(h, family, true, spread, &nth, host_r) ||
		(conf_source(u->conf, server) == SOURCE_GATEWAY &&
		host_pick(h, family, false, spread, &nth, host_r));
}

bool
upstream_is_own(const struct upstream *u, const struct addr *a)
{
	return u->own != NULL && lpm_find(u->own, a, NULL) != -1;
}

const char *
upstream_allowed(const struct upstream *u, const struct addr *to)
{
	const char *special = addr_special(to);
	struct addr inside;

	if (special != NULL)
		return special;
	/* A translator must not lead around the operator's own list. */
	if (addr_embedded(to, &inside) &&
	    (special = upstream_allowed(u, &inside)) != NULL)
		return special;
	if (upstream_is_own(u, to))
		return "own";
	if (lpm_find(u->never, to, NULL) != -1)
		return "never";
	return NULL;
}

void
upstream_forget(struct upstream *u, struct upstream_waiter *w)
{
	if (!w->waiting)
		return;
	TAILQ_REMOVE(&u->waiters[w->six], w, link);
	w->waiting = false;
}

/* Bind where the connection to an address of this family shall come from. 0, or
 * -1 with errno. */
static int
bind_source(struct upstream *u, int fd, uint8_t family,
	const struct addr *line, enum source source)
{
	const struct conf *c = u->conf;
	struct addr from = *line;
	struct sockaddr_storage ss;
	socklen_t len;

	if (source == SOURCE_CLIENT) {
		uint32_t span = (uint32_t)(c->port_hi - c->port_lo) + 1;

		from.port = (uint16_t)(c->port_lo + u->next_port++ % span);
	} else {
		size_t tried;

		from.port = 0;
		for (tried = 0; tried < c->naddresses; tried++) {
			from = c->addresses[u->next_address++ % c->naddresses];
			if (from.family == family)
				break;
		}
		if (tried == c->naddresses)
			return 0;	/* no pool: the routing table decides */
		from.port = 0;
	}
	len = addr_to_sockaddr(&from, &ss);
	return bind(fd, (struct sockaddr *)&ss, len);
}

/* line NULL: from no address in particular. */
static enum dial
connect_from(struct upstream *u, const struct addr *to, const struct addr *line,
	enum source source, struct upstream_waiter *w, int *fd_r)
{
	struct pool *p = pool_of(u, to);
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(to, &ss);

	if (p->n < SOCKET_BATCH && !p->asked) {
		p->asked = u->need(u->arg, to->family == AF_INET6 ? 6 : 4);
	}
	for (int tries = 0; tries < BIND_TRIES; tries++) {
		int fd;

		if (p->n == 0) {
			w->six = to->family == AF_INET6;
			w->waiting = true;
			TAILQ_INSERT_TAIL(&u->waiters[w->six], w, link);
			return DIAL_WAIT;
		}
		fd = p->fd[p->n - 1];
		if (line != NULL && bind_source(u, fd, to->family, line, source) == -1) {
			int why = errno;

			if (why == EADDRINUSE)
				continue;	/* the same socket, next port */
			close(p->fd[--p->n]);
			errno = why;
			return DIAL_FAILED;
		}
		p->n--;
		if (connect(fd, (struct sockaddr *)&ss, len) == 0 ||
		    errno == EINPROGRESS) {
			*fd_r = fd;
			return DIAL_STARTED;
		}
		int error = errno;
		close(fd);
		errno = error;
		if (error != EADDRNOTAVAIL && error != EADDRINUSE)
			return DIAL_FAILED;
	}
	errno = EADDRNOTAVAIL;
	return DIAL_FAILED;
}

enum dial
upstream_dial(struct upstream *u, const struct addr *to,
	const struct addr *line, int server, struct upstream_waiter *w,
	int *fd_r)
{
	if (upstream_allowed(u, to) != NULL)
		return DIAL_FORBIDDEN;
	return connect_from(u, to, line, conf_source(u->conf, server), w, fd_r);
}

enum dial
upstream_dial_inner(struct upstream *u, const struct publish_conf *p,
	const struct addr *to, struct upstream_waiter *w, int *fd_r)
{
	if (!conf_is_inner(p, to))
		return DIAL_FORBIDDEN;
	return connect_from(u, to, NULL, SOURCE_GATEWAY, w, fd_r);
}

int
upstream_spare(struct upstream *u)
{
	for (int i = 0; i < 2; i++)
		if (u->pool[i].n > 0)
			return u->pool[i].fd[--u->pool[i].n];
	return -1;
}
