/*
 * probetarget.c - which address is asked, under which name, and whether at all
 *
 * Does: turns the operator's words into addresses; finds the name that a
 * certificate must have (a listed server's, else the one the operator said,
 * else reverse DNS that leads back to the same address); applies the rule of
 * the relays (upstream_allowed): no private, loopback, own or `never' address.
 * Does not: connect anywhere but to the system's resolver.
 *
 * Called by sallyport probe and sallyport plan. Whoever holds the reverse zone
 * of an address controls the name of BY_PTR: it is only ever shown with that
 * origin, and is believed as much as the zone is.
 */
#include <ifaddrs.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/conf.h"
#include "proxyd/msg.h"
#include "proxyd/upstream.h"
#include "tools/probe.h"

/* Addresses of listed servers that are remembered. */
#define LISTED_MAX 512

struct asker {
	const struct conf *conf;
	struct upstream *upstream;
	struct addr listed[LISTED_MAX];
	unsigned server[LISTED_MAX];
	size_t nlisted;
};

static bool
no_sockets(void *arg, unsigned family)
{
	(void)arg;
	(void)family;
	return false;
}

static void
learn_own(struct upstream *u)
{
	struct msg m = { .n = SNAPSHOT_FIRST };
	struct ifaddrs *all;

	upstream_own(u, &m);
	m.n = SNAPSHOT_ADD;
	if (getifaddrs(&all) == 0) {
		for (struct ifaddrs *i = all; i != NULL; i = i->ifa_next)
			if (i->ifa_addr != NULL &&
			    addr_from_sockaddr(&m.addr, i->ifa_addr) == 0)
				upstream_own(u, &m);
		freeifaddrs(all);
	}
	m.n = SNAPSHOT_LAST;
	upstream_own(u, &m);
}

/* Addresses of a name, ports 0. How many; -1: gai_strerror said why. */
static int
resolve(const char *name, struct addr *out, size_t cap, const char **why_r)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
	struct addrinfo *all;
	size_t n = 0;
	int error = getaddrinfo(name, NULL, &hints, &all);

	if (error != 0) {
		*why_r = gai_strerror(error);
		return -1;
	}
	for (struct addrinfo *i = all; i != NULL && n < cap; i = i->ai_next)
		if (addr_from_sockaddr(&out[n], i->ai_addr) == 0)
			out[n++].port = 0;
	freeaddrinfo(all);
	return (int)n;
}

static void
learn_listed(struct asker *k)
{
	struct addr found[32];
	const char *why;

	for (unsigned s = 0; s < k->conf->nservers; s++) {
		const struct server_conf *server = &k->conf->servers[s];
		int n = resolve(server->name, found, 32, &why);

		for (size_t i = 0; i < server->naddresses &&
			k->nlisted < LISTED_MAX; i++) {
			k->server[k->nlisted] = s;
			k->listed[k->nlisted++] = server->addresses[i];
		}
		for (int i = 0; i < n && k->nlisted < LISTED_MAX; i++) {
			k->server[k->nlisted] = s;
			k->listed[k->nlisted++] = found[i];
		}
	}
}

int
probe_list_open(struct probe_list *l, const struct conf *conf)
{
	struct asker *k = calloc(1, sizeof(*k));

	memset(l, 0, sizeof(*l));
	if (k != NULL)
		k->upstream = upstream_new(conf, no_sockets, NULL);
	if (k == NULL || k->upstream == NULL) {
		fprintf(stderr, "sallyport: no memory\n");
		free(k);
		return -1;
	}
	/* resolv.conf(5): ours to wait for, address by address. */
	setenv("RES_OPTIONS", "timeout:2 attempts:1", 0);
	k->conf = conf;
	l->asker = k;
	learn_own(k->upstream);
	learn_listed(k);
	return 0;
}

void
probe_list_close(struct probe_list *l)
{
	if (l->asker == NULL)
		return;
	upstream_free(&l->asker->upstream);
	free(l->asker);
	l->asker = NULL;
}

/* The name in reverse DNS, if it has this very address. */
static bool
confirmed_ptr(const struct addr *a, char name[PROBE_NAME])
{
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(a, &ss);
	struct addr found[32];
	const char *why;
	int n;

	if (getnameinfo((const struct sockaddr *)&ss, len, name, PROBE_NAME,
		NULL, 0, NI_NAMEREQD) != 0)
		return false;
	for (const char *p = name; *p != '\0'; p++)
		if (strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
			"0123456789.-_", *p) == NULL)
			return false;
	n = resolve(name, found, 32, &why);
	for (int i = 0; i < n; i++)
		if (addr_same_host(&found[i], a))
			return true;
	return false;
}

static void
find_name(const struct asker *k, struct probe_target *t, const char *said)
{
	for (size_t i = 0; i < k->nlisted; i++) {
		const char *name = k->conf->servers[k->server[i]].name;

		/* A name that was said is never changed for another. */
		if (!addr_same_host(&k->listed[i], &t->addr) ||
		    (said != NULL && strcasecmp(said, name) != 0))
			continue;
		snprintf(t->name, sizeof(t->name), "%s", name);
		t->by = BY_LISTED;
		return;
	}
	if (said != NULL) {
		snprintf(t->name, sizeof(t->name), "%s", said);
		t->by = BY_OPERATOR;
	} else if (t->forbidden == NULL && confirmed_ptr(&t->addr, t->name)) {
		t->by = BY_PTR;
	} else {
		t->name[0] = '\0';
		t->by = BY_NOBODY;
	}
}

static int
add(struct probe_list *l, const struct addr *a, const char *said)
{
	struct probe_target *t = &l->target[l->n];

	for (size_t i = 0; i < l->n; i++)
		if (addr_same_host(&l->target[i].addr, a))
			return 0;
	if (l->n == PROBE_MAX)
		return -1;
	memset(t, 0, sizeof(*t));
	t->addr = *a;
	t->addr.port = 0;
	t->forbidden = upstream_allowed(l->asker->upstream, &t->addr);
	find_name(l->asker, t, said);
	l->n++;
	return 0;
}

int
probe_list_addr(struct probe_list *l, const struct addr *a)
{
	return add(l, a, NULL);
}

int
probe_list_name(struct probe_list *l, const char *name)
{
	struct addr found[32];
	const char *why = "no address";
	int n;

	if (strlen(name) >= PROBE_NAME) {
		fprintf(stderr, "sallyport: probe: the name is too long\n");
		return -1;
	}
	n = resolve(name, found, 32, &why);
	if (n <= 0) {
		fprintf(stderr, "sallyport: probe: %s: %s\n", name, why);
		return -1;
	}
	for (int i = 0; i < n; i++)
		if (add(l, &found[i], name) < 0) {
			fprintf(stderr, "sallyport: probe: more than %d "
				"addresses\n", PROBE_MAX);
			return -1;
		}
	return 0;
}
