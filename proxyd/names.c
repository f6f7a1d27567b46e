/*
 * names.c - which addresses the configured servers have
 *
 * Does: ask for A and AAAA of every server by c-ares, again when the smallest
 * TTL is over; keep answers for a week; give each address to one server, the
 * first of the configuration that has it; tell the owner about differences.
 * Does not: decide where anybody connects; certificates are verified by name,
 * so a forged answer costs a refused session, never a credential (DESIGN.md
 * section 8).
 *
 * Called by control.c. Answers are written by whoever can answer a DNS query:
 * special addresses are refused, the number per server is bounded, the oldest
 * goes first. A failure keeps what is known: one warning when it begins, one
 * line when it ends.
 */
#include "proxyd/names.h"

#include <ares.h>
#include <event2/event.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "conf/conf.h"
#include "lib/log.h"

#define KEEP_SECONDS (7 * 24 * 3600)
#define TTL_MIN 30
#define TTL_MAX 3600
#define RETRY_FIRST 5
#define RETRY_MAX 300
#define ADDRESSES_MAX 4096	/* per server; the parent's bound too */
#define QUERY_MS 2000
#define RESOLV_CONF "/etc/resolv.conf"

struct server {
	struct names *names;
	const char *name;	/* NULL: this number is no host */
	struct known_addr *addr;
	size_t n;
	struct event *due;
	unsigned retry;		/* seconds until the next try after a failure */
	int64_t failing_since;	/* 0: the last answer was good */
	bool answered;		/* or failed, once */
	bool asking;
};

struct watch {			/* a socket of c-ares */
	struct watch *next;
	struct names *names;
	ares_socket_t fd;
	struct event *ev;
};

struct names {
	struct event_base *base;
	const struct conf *conf;
	struct names_calls calls;
	void *arg;
	ares_channel channel;
	bool has_channel;
	bool closing;
	bool said_known;
	struct stat resolv;	/* as of the channel */
	size_t asking;
	struct watch *watches;
	struct event *ev_timeout, *ev_settle;
	struct server *server;
};

static int64_t
now_seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	/* never 0, which means "not failing" */
	return (int64_t)ts.tv_sec + 1;
}

static void
after(struct event *ev, unsigned seconds)
{
	const struct timeval tv = { (time_t)seconds, 0 };

	evtimer_add(ev, &tv);
}

/* ---- whose address is it ---- */

static struct known_addr *
find(const struct server *s, const struct addr *a)
{
	for (size_t i = 0; i < s->n; i++)
		if (addr_same_host(&s->addr[i].addr, a))
			return &s->addr[i];
	return NULL;
}

/* Of the addresses that people dial; a submission_host's are only dialled by
 * us, and may well be another server's too. */
static const struct server *
earlier_owner(const struct names *n, size_t server, const struct addr *a)
{
	for (size_t i = 0; server < n->conf->nservers && i < server; i++)
		if (find(&n->server[i], a) != NULL)
			return &n->server[i];
	return NULL;
}

static bool
announce(struct names *n, size_t server, struct known_addr *k, bool add)
{
	if (k->literal || k->announced == add)
		return true;
	if (!n->calls.announce(n->arg, server, &k->addr, add))
		return false;
	k->announced = add;
	return true;
}

static bool
settle_one(struct names *n, size_t server, struct known_addr *k, int64_t now)
{
	struct server *s = &n->server[server];
	const struct server *owner = earlier_owner(n, server, &k->addr);
	char text[ADDR_STRLEN];

	if (owner != NULL && !k->shared)
		log_warn("%s has the address %s of %s too; it belongs to %s",
			s->name, addr_format(&k->addr, text), owner->name,
			owner->name);
	k->shared = owner != NULL;
	return announce(n, server, k, !k->refused && !k->shared &&
		(k->literal || now - k->seen <= KEEP_SECONDS));
}

/* Forget the old, give every address to one server, tell the differences. */
static void
settle(struct names *n)
{
	int64_t now = now_seconds();
	bool told = true;

	for (size_t i = 0; i < conf_hosts(n->conf); i++) {
		struct server *s = &n->server[i];

		for (size_t j = 0; j < s->n; j++)
			told &= settle_one(n, i, &s->addr[j], now);
		for (size_t j = 0; j < s->n; )
			if (!s->addr[j].literal && !s->addr[j].announced &&
				now - s->addr[j].seen > KEEP_SECONDS)
				s->addr[j] = s->addr[--s->n];
			else
				j++;
	}
	if (!told)
		after(n->ev_settle, 1);
	n->calls.changed(n->arg);
}

static void
on_settle(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	settle(arg);
}

/* ---- adding ---- */

/* The one that was seen longest ago, to make room. */
static struct known_addr *
oldest(struct server *s)
{
	struct known_addr *old = NULL;

	for (size_t i = 0; i < s->n; i++)
		/* addr is NULL only while n is 0:
		 * NOLINTNEXTLINE(clang-analyzer-core.NullDereference) */
		if (!s->addr[i].literal &&
			(old == NULL || s->addr[i].seen < old->seen))
			old = &s->addr[i];
	return old;
}

static struct known_addr *
room(struct server *s)
{
	struct known_addr *more;

	if (s->n >= ADDRESSES_MAX) {
		struct known_addr *old = oldest(s);
		size_t server = (size_t)(s - s->names->server);

		if (old == NULL || !announce(s->names, server, old, false))
			return NULL;
		return old;
	}
	more = realloc(s->addr, (s->n + 1) * sizeof(*more));
	if (more == NULL)
		return NULL;
	s->addr = more;
	return &s->addr[s->n++];
}

/* true: something is new. */
static bool
add(struct server *s, const struct addr *a, bool literal)
{
	struct known_addr *k = find(s, a);
	const char *special;
	char text[ADDR_STRLEN];

	if (k != NULL) {
		k->seen = now_seconds();
		return false;
	}
	k = room(s);
	if (k == NULL)
		return false;
	memset(k, 0, sizeof(*k));
	k->addr = *a;
	k->addr.port = 0;
	k->literal = literal;
	k->seen = literal ? 0 : now_seconds();
	special = literal ? NULL : addr_special(a);
	if (special != NULL) {
		k->refused = true;
		log_warn("%s resolves to %s, which is %s: not used",
			s->name, addr_format(a, text), special);
	}
	return true;
}

void
names_learn(struct names *n, size_t server, const struct addr *a)
{
	if (server < conf_hosts(n->conf) && add(&n->server[server], a, false)) {
		/* who taught it knows it already */
		struct known_addr *k = find(&n->server[server], a);

		k->announced = !k->refused;
		after(n->ev_settle, 0);
	}
}

/* ---- asking ---- */

static void
arm_timeout(struct names *n)
{
	struct timeval tv;

	if (ares_timeout(n->channel, NULL, &tv) != NULL)
		evtimer_add(n->ev_timeout, &tv);
	else
		evtimer_del(n->ev_timeout);
}

static void
on_timeout(evutil_socket_t fd, short what, void *arg)
{
	struct names *n = arg;

	(void)fd;
	(void)what;
	ares_process_fd(n->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
	arm_timeout(n);
}

static void
on_socket(evutil_socket_t fd, short what, void *arg)
{
	struct names *n = ((struct watch *)arg)->names;

	ares_process_fd(n->channel, what & EV_READ ? fd : ARES_SOCKET_BAD,
		what & EV_WRITE ? fd : ARES_SOCKET_BAD);
	arm_timeout(n);
}

static void
unwatch(struct names *n, ares_socket_t fd)
{
	for (struct watch **at = &n->watches; *at != NULL; at = &(*at)->next)
		if ((*at)->fd == fd) {
			struct watch *w = *at;

			*at = w->next;
			event_free(w->ev);
			free(w);
			return;
		}
}

/* c-ares tells which of its sockets wait for what; 0, 0: about to close. */
static void
on_socket_state(void *arg, ares_socket_t fd, int readable, int writable)
{
	struct names *n = arg;
	struct watch *w;
	short what = (short)(EV_PERSIST | (readable ? EV_READ : 0) |
		(writable ? EV_WRITE : 0));

	unwatch(n, fd);
	if (!readable && !writable)
		return;
	w = calloc(1, sizeof(*w));
	if (w == NULL)
		return; /* this query times out */
	w->names = n;
	w->fd = fd;
	w->ev = event_new(n->base, fd, what, on_socket, w);
	if (w->ev == NULL || event_add(w->ev, NULL) != 0) {
		if (w->ev != NULL)
			event_free(w->ev);
		free(w);
		return;
	}
	w->next = n->watches;
	n->watches = w;
}

static bool
same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino &&
		a->st_size == b->st_size &&
		a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
		a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* The channel reads resolv.conf once; a changed file needs a new channel. */
static int
fresh_channel(struct names *n)
{
	struct ares_options o = {
		.flags = ARES_FLAG_NOSEARCH, .timeout = QUERY_MS, .tries = 2,
		.sock_state_cb = on_socket_state, .sock_state_cb_data = n,
	};
	struct stat st;
	int rc;

	memset(&st, 0, sizeof(st));
	(void)stat(RESOLV_CONF, &st);
	if (n->has_channel && (n->asking > 0 || same_file(&st, &n->resolv)))
		return 0;
	if (n->has_channel)
		ares_destroy(n->channel);
	n->resolv = st;
	rc = ares_init_options(&n->channel, &o, ARES_OPT_FLAGS |
		ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB);
	n->has_channel = rc == ARES_SUCCESS;
	if (rc == ARES_SUCCESS)
		return 0;
	log_error("resolver: %s", ares_strerror(rc));
	return -1;
}

/* Smallest TTL of all records, within bounds. */
static unsigned
take_answer(struct server *s, const struct ares_addrinfo *res, bool *new_r)
{
	int ttl = TTL_MAX;
	struct addr a;

	for (const struct ares_addrinfo_cname *c = res->cnames; c != NULL;
		c = c->next)
		if (c->ttl < ttl)
			ttl = c->ttl;
	for (const struct ares_addrinfo_node *i = res->nodes; i != NULL;
		i = i->ai_next) {
		if (addr_from_sockaddr(&a, i->ai_addr) != 0)
			continue;
		a.port = 0;
		*new_r |= add(s, &a, false);
		if (i->ai_ttl < ttl)
			ttl = i->ai_ttl;
	}
	return ttl < TTL_MIN ? TTL_MIN : (unsigned)ttl;
}

static void
took(struct server *s, unsigned ttl)
{
	if (s->failing_since != 0)
		log_info("%s resolves again", s->name);
	s->failing_since = 0;
	s->retry = RETRY_FIRST;
	after(s->due, ttl);
}

static void
failed(struct server *s, const char *why)
{
	if (s->failing_since == 0) {
		s->failing_since = now_seconds();
		log_warn("%s does not resolve: %s; %zu addresses stay known",
			s->name, why, s->n);
	}
	after(s->due, s->retry);
	s->retry = s->retry * 2 > RETRY_MAX ? RETRY_MAX : s->retry * 2;
}

static void
say_known(struct names *n)
{
	if (n->said_known)
		return;
	for (size_t i = 0; i < conf_hosts(n->conf); i++)
		if (n->server[i].name != NULL && !n->server[i].answered)
			return;
	n->said_known = true;
	n->calls.known(n->arg);
}

static void
on_answer(void *arg, int status, int timeouts, struct ares_addrinfo *res)
{
	struct server *s = arg;
	struct names *n = s->names;
	bool is_new = false;

	(void)timeouts;
	s->asking = false;
	n->asking--;
	if (n->closing || status == ARES_EDESTRUCTION) {
		if (res != NULL)
			ares_freeaddrinfo(res);
		return;
	}
	if (status == ARES_SUCCESS && res != NULL && res->nodes != NULL)
		took(s, take_answer(s, res, &is_new));
	else
		failed(s, status == ARES_SUCCESS ? "no address" :
			ares_strerror(status));
	if (res != NULL)
		ares_freeaddrinfo(res);
	if (is_new)
		settle(n);
	s->answered = true;
	say_known(n);
}

static void
on_due(evutil_socket_t fd, short what, void *arg)
{
	struct server *s = arg;
	struct names *n = s->names;
	const struct ares_addrinfo_hints hints = {
		.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM,
		.ai_flags = ARES_AI_NOSORT,
	};

	(void)fd;
	(void)what;
	if (s->asking)
		return;
	if (fresh_channel(n) != 0) {
		after(s->due, s->retry);
		return;
	}
	s->asking = true;
	n->asking++;
	ares_getaddrinfo(n->channel, s->name, NULL, &hints, on_answer, s);
	arm_timeout(n);
	/* addresses grow old also while answers never change */
	if (!evtimer_pending(n->ev_settle, NULL))
		after(n->ev_settle, TTL_MAX);
}

/* ---- start and end ---- */

static int
start_server(struct names *n, size_t i)
{
	struct server *s = &n->server[i];

	s->names = n;
	s->name = conf_host(n->conf, i);
	s->retry = RETRY_FIRST;
	if (s->name == NULL)
		return 0;
	for (size_t j = 0; i < n->conf->nservers &&
		j < n->conf->servers[i].naddresses; j++)
		(void)add(s, &n->conf->servers[i].addresses[j], true);
	s->due = evtimer_new(n->base, on_due, s);
	if (s->due == NULL)
		return -1;
	after(s->due, 0);
	return 0;
}

struct names *
names_new(struct event_base *base, const struct conf *conf,
	const struct names_calls *calls, void *arg)
{
	struct names *n = calloc(1, sizeof(*n));

	if (n == NULL)
		return NULL;
	n->base = base;
	n->conf = conf;
	n->calls = *calls;
	n->arg = arg;
	n->server = calloc(conf_hosts(conf) + 1, sizeof(*n->server));
	n->ev_timeout = evtimer_new(base, on_timeout, n);
	n->ev_settle = evtimer_new(base, on_settle, n);
	if (n->server == NULL || n->ev_timeout == NULL || n->ev_settle == NULL)
		goto fail;
	if (ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS ||
		fresh_channel(n) != 0)
		goto fail;
	for (size_t i = 0; i < conf_hosts(conf); i++)
		if (start_server(n, i) != 0)
			goto fail;
	after(n->ev_settle, 0);
	if (conf->nservers == 0)
		say_known(n);
	return n;
fail:
	names_free(&n);
	return NULL;
}

void
names_free(struct names **names)
{
	struct names *n = *names;

	if (n == NULL)
		return;
	n->closing = true;
	if (n->has_channel)
		ares_destroy(n->channel);
	while (n->watches != NULL)
		unwatch(n, n->watches->fd);
	for (size_t i = 0; n->server != NULL && i < conf_hosts(n->conf); i++) {
		if (n->server[i].due != NULL)
			event_free(n->server[i].due);
		free(n->server[i].addr);
	}
	if (n->ev_timeout != NULL)
		event_free(n->ev_timeout);
	if (n->ev_settle != NULL)
		event_free(n->ev_settle);
	free(n->server);
	free(n);
	ares_library_cleanup();
	*names = NULL;
}

const struct known_addr *
names_list(const struct names *n, size_t server, size_t *count_r)
{
	*count_r = n->server[server].n;
	return n->server[server].addr;
}

int64_t
names_failing(const struct names *n, size_t server)
{
	const struct server *s = &n->server[server];

	return s->failing_since == 0 ? -1 : now_seconds() - s->failing_since;
}
