/*
 * gatekeeper.c - when the kernel may hand us connections, and for which servers
 *
 * Does: each second, when every relay has answered its last ping, a connection
 * to our own listeners was taken, and the servers' addresses are known, keep
 * the ports in the kernel sets that the capture rules ask for; SYN only at
 * first, every packet after the grace time, so that sessions that run directly
 * at the opening survive it. Keep the addresses of servers in their sets. Does
 * not: close the gate in an emergency; it closes by itself when this file has
 * not run for GATE_SECONDS, whatever the reason (DESIGN.md section 11).
 *
 * Called from the parent's tick. Addresses come from control, which had them
 * from DNS: they are checked here again, counted, and only ever become
 * elements of sets; a set element that is wrong captures or passes a mail
 * port, it does not let anybody connect.
 *
 * Must hold: addresses are in the sets before a port is opened, or a provider's
 * own server would be refused for a second.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/log.h"
#include "proxyd/parent.h"

/* "Big providers rotate thousands of addresses": per server. */
#define ADDRESSES_MAX 4096
#define FIRST_ANSWERS_MS 5000
#define RECONCILE_TICKS 10

/* What the rules queue the first packets of, when nfq is there. */
static const uint16_t queued_ports[] = { 25, 465, 587 };

/* ---- server addresses ---- */

/* What is known of a submission_host is only kept for the next control. */
static bool
belongs(const struct conf *conf, size_t server, enum addr_set set)
{
	const struct server_conf *s;

	if (server >= conf->nservers)
		return false;
	s = &conf->servers[server];
	if (set == ADDR_SET_OWN)
		return s->own && conf->pass_own;
	if (set == ADDR_SET_POP3)
		return conf->pop3_wrap != WRAP_OFF && s->pop3.mode != TLS_NONE;
	return conf->imap_wrap != WRAP_OFF && s->imap.mode != TLS_NONE;
}

static bool
knows(const struct server_known *k, const struct addr *a)
{
	for (size_t i = 0; i < k->n; i++)
		if (addr_same_host(&k->addr[i], a))
			return true;
	return false;
}

/* Does any server want this address in the set? */
static bool
is_wanted(const struct parent *p, enum addr_set set, const struct addr *a)
{
	for (size_t i = 0; i < p->conf->nservers; i++)
		if (belongs(p->conf, i, set) && knows(&p->server[i], a))
			return true;
	return false;
}

/* A set that does not exist yet is no error: it is filled at the opening. */
static void
put_in_sets(struct parent *p, size_t server, const struct addr *a)
{
	for (int set = 0; p->gate != NULL && set < ADDR_SET_COUNT; set++)
		if (belongs(p->conf, server, set))
			(void)gate_addr(p->gate, set, a, true);
}

static bool
has_prefix(const struct conf *conf, enum addr_set set, const struct prefix *p)
{
	for (size_t i = 0; i < conf->nservers; i++)
		for (size_t j = 0; belongs(conf, i, set) &&
		    j < conf->servers[i].nprefixes; j++)
			if (prefix_equal(&conf->servers[i].prefixes[j], p))
				return true;
	return false;
}

/* Prefixes of all servers; but: of which a configuration there are none. */
static void
change_prefixes(struct parent *p, const struct conf *conf,
	const struct conf *but, bool add)
{
	for (size_t i = 0; p->gate != NULL && i < conf->nservers; i++)
		for (size_t j = 0; j < conf->servers[i].nprefixes; j++) {
			const struct prefix *one =
				&conf->servers[i].prefixes[j];

			for (int set = 0; set < ADDR_SET_COUNT; set++)
				if (belongs(conf, i, set) && (but == NULL ||
					!has_prefix(but, set, one)))
					(void)gate_prefix(p->gate, set, one,
						add);
		}
}

static void
fill_sets(struct parent *p)
{
	change_prefixes(p, p->conf, NULL, true);
	for (size_t i = 0; i < p->conf->nservers; i++)
		for (size_t j = 0; j < p->server[i].n; j++)
			put_in_sets(p, i, &p->server[i].addr[j]);
}

static int
remember(struct server_known *k, const struct addr *a)
{
	struct addr *more;

	if (knows(k, a))
		return 0;
	if (k->n >= ADDRESSES_MAX)
		return -1;
	more = realloc(k->addr, (k->n + 1) * sizeof(*more));
	if (more == NULL)
		return -1;
	k->addr = more;
	k->addr[k->n] = *a;
	k->addr[k->n++].port = 0;
	return 0;
}

static void
forget(struct server_known *k, const struct addr *a)
{
	for (size_t i = k->nliteral; i < k->n; i++)
		if (addr_same_host(&k->addr[i], a)) {
			k->addr[i] = k->addr[--k->n];
			return;
		}
}

int
gatekeeper_server_addr(struct parent *p, const struct msg *m)
{
	const struct addr *a = &m->addr;

	if (m->n >= conf_hosts(p->conf) || m->m > 1 || a->port != 0 ||
		(a->family != AF_INET && a->family != AF_INET6) ||
		addr_special(a) != NULL)
		return -1;
	if (m->m == 1) {
		if (remember(&p->server[m->n], a) != 0)
			return -1;
		put_in_sets(p, m->n, a);
		return 0;
	}
	forget(&p->server[m->n], a);
	for (int set = 0; p->gate != NULL && set < ADDR_SET_COUNT; set++)
		if (belongs(p->conf, m->n, set) && !is_wanted(p, set, a))
			(void)gate_addr(p->gate, set, a, false);
	return 0;
}

void
gatekeeper_announce(struct parent *p, struct child *control)
{
	struct msg m = { .type = MSG_SERVER_ADDR, .m = 1 };

	for (size_t i = 0; i < PORTS; i++)
		if (p->port[i].used)
			child_send_simple(control, MSG_GATE, p->port[i].port,
				p->port[i].state);
	for (size_t i = 0; i < conf_hosts(p->conf); i++)
		for (size_t j = p->server[i].nliteral; j < p->server[i].n; j++) {
			m.n = (uint32_t)i;
			m.addr = p->server[i].addr[j];
			child_send(control, &m, NULL, 0);
		}
}

/* ---- opening and closing ---- */

static void
free_servers(struct server_known *server, size_t n)
{
	for (size_t i = 0; server != NULL && i < n; i++)
		free(server[i].addr);
	free(server);
}

/* The literal addresses of every server; NULL without memory. */
static struct server_known *
new_servers(const struct conf *conf)
{
	struct server_known *server = calloc(conf_hosts(conf) + 1,
		sizeof(*server));

	for (size_t i = 0; server != NULL && i < conf->nservers; i++) {
		struct server_known *k = &server[i];

		for (size_t j = 0; j < conf->servers[i].naddresses; j++)
			if (remember(k, &conf->servers[i].addresses[j]) != 0) {
				free_servers(server, conf_hosts(conf));
				return NULL;
			}
		k->nliteral = k->n;
	}
	return server;
}

static void
choose_ports(struct parent *p)
{
	p->port[0].port = 25;
	p->port[0].used = true;
	p->port[1].port = 110;
	p->port[1].used = p->conf->pop3_wrap != WRAP_OFF;
	p->port[2].port = 143;
	p->port[2].used = p->conf->imap_wrap != WRAP_OFF;
}

int
gatekeeper_open(struct parent *p)
{
	p->probe4.fd = p->probe6.fd = -1;
	p->server = new_servers(p->conf);
	if (p->server == NULL)
		return -1;
	choose_ports(p);
	p->gate = gate_open();
	return p->gate != NULL ? 0 : -1;
}

void
gatekeeper_close(struct parent *p)
{
	if (p->probe4.fd >= 0)
		close(p->probe4.fd);
	if (p->probe6.fd >= 0)
		close(p->probe6.fd);
	p->probe4.fd = p->probe6.fd = -1;
	free_servers(p->server, conf_hosts(p->conf));
	p->server = NULL;
	if (p->gate != NULL)
		gate_close(&p->gate);
}

static bool
is_same_host(const struct conf *old, size_t i, const struct conf *new, size_t j)
{
	const char *a = conf_host(old, i), *b = conf_host(new, j);

	return a != NULL && b != NULL && strcmp(a, b) == 0 &&
		(i < old->nservers) == (j < new->nservers);
}

/* What names answered before the reload, for the hosts that stay. */
static void
carry_over(struct parent *p, const struct conf *old,
	const struct server_known *before)
{
	for (size_t i = 0; i < conf_hosts(old); i++)
		for (size_t j = 0; j < conf_hosts(p->conf); j++)
			if (is_same_host(old, i, p->conf, j))
				for (size_t k = before[i].nliteral;
					k < before[i].n; k++)
					(void)remember(&p->server[j],
						&before[i].addr[k]);
}

static void
take_back(struct parent *p, const struct conf *old,
	const struct server_known *before)
{
	for (size_t i = 0; i < old->nservers; i++)
		for (size_t k = 0; k < before[i].n; k++)
			for (int set = 0; set < ADDR_SET_COUNT; set++)
				if (belongs(old, i, set) && !is_wanted(p, set,
						&before[i].addr[k]))
					(void)gate_addr(p->gate, set,
						&before[i].addr[k], false);
}

static void
shut(struct parent *p, struct port *port)
{
	(void)gate_shut(p->gate, SET_LIVE, port->port);
	(void)gate_shut(p->gate, SET_ALL, port->port);
}

int
gatekeeper_reload(struct parent *p, struct conf *conf)
{
	struct server_known *after = new_servers(conf);
	struct server_known *before = p->server;
	const struct conf *old = p->conf;

	if (after == NULL)
		return -1;
	if (allowkeeper_reload(p, conf) != 0) {
		free_servers(after, conf_hosts(conf));
		return -1;
	}
	p->conf = conf;
	p->server = after;
	carry_over(p, old, before);
	change_prefixes(p, old, conf, false);
	take_back(p, old, before);
	free_servers(before, conf_hosts(old));
	fill_sets(p);
	choose_ports(p);
	for (size_t i = 0; i < PORTS; i++)
		if (!p->port[i].used) {
			shut(p, &p->port[i]);
			p->port[i].state = GATE_SHUT;
			p->port[i].filled = false;
		}
	return 0;
}

/* ---- the self-test ---- */

/* A relay takes a connection that came straight to its listener and closes it
 * at once: end of file is proof that it accepts. */
static void
judge(struct probe *probe)
{
	char byte;
	ssize_t n;

	probe->ok = false;
	if (probe->fd < 0)
		return;
	n = recv(probe->fd, &byte, 1, MSG_DONTWAIT);
	probe->ok = n == 0 || (n < 0 && errno == ECONNRESET);
	close(probe->fd);
	probe->fd = -1;
}

static bool
listeners_answer(struct parent *p)
{
	judge(&p->probe4);
	judge(&p->probe6);
	p->probe4.fd = sockets_probe(AF_INET, p->conf->listen_port);
	if (p->slot[0].listener6 >= 0)
		p->probe6.fd = sockets_probe(AF_INET6, p->conf->listen_port);
	else
		p->probe6.ok = true;
	return p->probe4.ok && p->probe6.ok;
}

/* ---- each second ---- */

static const char *
state_text(enum gate_state state)
{
	switch (state) {
	case GATE_SHUT:
		return "shut";
	case GATE_SYN:
		return "open for new connections";
	case GATE_ALL:
		return "open";
	default:
		return "without rules";
	}
}

static void
enter_state(struct parent *p, struct port *port, enum gate_state state,
	const char *why)
{
	struct child *control = child_of(p, SLOT_CONTROL);

	if (port->state == state)
		return;
	/* shut although we did not stop: lines are not served */
	log_msg(state == GATE_SHUT && !p->stopping ? LOG_WARNING : LOG_INFO,
		"gate: port %u is %s%s%s", port->port, state_text(state),
		why != NULL ? ": " : "", why != NULL ? why : "");
	port->state = state;
	if (state == GATE_SHUT || state == GATE_NO_RULES)
		port->filled = false;
	if (control != NULL)
		child_send_simple(control, MSG_GATE, port->port, state);
}

static void
say_no_rules(struct parent *p, const char *why)
{
	if (!p->said_no_rules)
		log_msg(LOG_NOTICE, "%s; run `sallyport rules apply'", why);
	p->said_no_rules = true;
}

/* The other way of capturing leads to listeners that are not there: such a
 * connection would die. */
static bool
rules_fit(const struct parent *p)
{
	bool redirect = gate_test(p->gate, SET_REDIRECT, 25) >= 0;

	return redirect == (p->conf->capture == CAPTURE_REDIRECT);
}

/* The port is not in the set, or this process does not know since when. */
static void
reopen(struct parent *p, struct port *port, int64_t now, bool continues)
{
	if (!continues)
		(void)gate_shut(p->gate, SET_ALL, port->port);
	fill_sets(p);
	port->filled = true;
	/* a daemon restarted within GATE_SECONDS takes over an open gate */
	port->opened_at = continues ? now - (int64_t)p->conf->grace * 1000 : now;
}

static void
keep_open(struct parent *p, struct port *port, int64_t now)
{
	int there = gate_test(p->gate, SET_LIVE, port->port);

	if (there < 0 || !rules_fit(p)) {
		say_no_rules(p, there < 0 ? "rules are not applied" :
			"the rules are for another gateway.capture");
		if (there < 0)
			rulekeeper_soon(p);
		enter_state(p, port, GATE_NO_RULES, NULL);
		return;
	}
	p->said_no_rules = false;
	if (there == 0 || !port->filled)
		reopen(p, port, now, there == 1 &&
			gate_test(p->gate, SET_ALL, port->port) == 1);
	there = gate_refresh(p->gate, SET_LIVE, port->port);
	if (there == 0)
		port->opened_at = now;
	if (there < 0 || now - port->opened_at < (int64_t)p->conf->grace * 1000) {
		enter_state(p, port, there < 0 ? GATE_NO_RULES : GATE_SYN, NULL);
		return;
	}
	if (gate_refresh(p->gate, SET_ALL, port->port) >= 0)
		enter_state(p, port, GATE_ALL, NULL);
}

/* Not refreshed: has the kernel shut it already? */
static void
watch_closing(struct parent *p, struct port *port, const char *why)
{
	if (port->state != GATE_SYN && port->state != GATE_ALL)
		return;
	if (gate_test(p->gate, SET_LIVE, port->port) == 0)
		enter_state(p, port, GATE_SHUT, why);
}

/* NULL: refresh; else the reason not to. */
static const char *
obstacle(struct parent *p)
{
	bool listeners = listeners_answer(p);
	int slot;

	if (!children_answer(p, &slot))
		return "a relay does not answer";
	if (!listeners)
		return "a listener does not answer";
	if (!p->servers_known && parent_now() - p->started < FIRST_ANSWERS_MS)
		return "names are not resolved yet";
	return NULL;
}

/* First packets are queued only while somebody gives verdicts: a stopped nfq
 * would hold them. */
static void
keep_queue_open(struct parent *p)
{
	for (size_t i = 0; i < sizeof(queued_ports) / sizeof(*queued_ports);
		i++)
		(void)gate_refresh(p->gate, SET_NFQ, queued_ports[i]);
}

void
gatekeeper_tick(struct parent *p, bool was_away)
{
	int64_t now = parent_now();
	const char *why = obstacle(p);

	for (size_t i = 0; i < PORTS; i++) {
		struct port *port = &p->port[i];

		if (!port->used)
			continue;
		if (was_away) {
			port->filled = false;
			(void)gate_shut(p->gate, SET_ALL, port->port);
		}
		if (why == NULL)
			keep_open(p, port, now);
		else
			watch_closing(p, port, why);
	}
	if (p->queue >= 0 && child_answers(child_of(p, SLOT_NFQ)))
		keep_queue_open(p);
	if (p->ticks % RECONCILE_TICKS == 0 && p->port[0].filled)
		fill_sets(p);
}

void
gatekeeper_grace(struct parent *p)
{
	for (size_t i = 0; i < PORTS; i++) {
		if (!p->port[i].used)
			continue;
		(void)gate_shut(p->gate, SET_ALL, p->port[i].port);
		p->port[i].opened_at = parent_now();
	}
}

void
gatekeeper_refill(struct parent *p)
{
	fill_sets(p);
}

void
gatekeeper_shut(struct parent *p)
{
	for (size_t i = 0; i < sizeof(queued_ports) / sizeof(*queued_ports);
		i++)
		(void)gate_shut(p->gate, SET_NFQ, queued_ports[i]);
	for (size_t i = 0; i < PORTS; i++) {
		if (!p->port[i].used)
			continue;
		shut(p, &p->port[i]);
		enter_state(p, &p->port[i], GATE_SHUT, "the daemon is leaving");
	}
}
