/*
 * policy.c - what a captured connection gets
 *
 * Pure: configuration, server table, levels and two addresses in, a decision
 * out. The same order as the kernel's rules: allowlist, class, then the exception
 * for the provider's own hosts. A submit line that dials a server which is not
 * listed is treated as block, own hosts included in the exception; or, by
 * smtp.unknown_origin, carried to that host's own submission (origin.c).
 *
 * The client chooses both addresses, within what the kernel captured.
 */
#include "proxyd/policy.h"

#include <string.h>

#include "conf/conf.h"
#include "proxyd/upstream.h"
#include "zombie/rollup.h"

/* RFC 1939, RFC 9051 */
#define PORT_POP3 110
#define PORT_IMAP 143

bool
policy_is_pass_destination(const struct conf *conf, const struct addr *origin,
	int server)
{
	if (conf->pass_own && server != -1 && conf->servers[server].own)
		return true;
	for (size_t i = 0; i < conf->npass_prefixes; i++)
		if (prefix_contains(&conf->pass_prefixes[i], origin))
			return true;
	return false;
}

static bool
is_literal(const struct server_conf *s, const struct addr *origin)
{
	for (size_t i = 0; i < s->naddresses; i++)
		if (addr_same_host(&s->addresses[i], origin))
			return true;
	return false;
}

/* Without TLS nothing proves who answers: only where the operator's own file
 * says so, not where a name leads. */
static void
decide_wrap(const struct conf *conf, const struct addr *origin,
	struct decision *d)
{
	bool imap = origin->port == PORT_IMAP;
	const struct server_conf *s = d->server == -1 ? NULL :
		&conf->servers[d->server];
	enum wrap wrap = imap ? conf->imap_wrap : conf->pop3_wrap;
	enum tls_mode mode = s == NULL ? TLS_NONE :
		imap ? s->imap.mode : s->pop3.mode;

	if (!(s == NULL && wrap == WRAP_OPPORTUNISTIC) &&
	    (wrap == WRAP_OFF || mode == TLS_NONE ||
		    (mode == TLS_PLAIN && !is_literal(s, origin))))
		d->treatment = TREAT_RELAY;
	else
		d->treatment = imap ? TREAT_IMAP : TREAT_POP3;
}

static void
decide_block(const struct conf *conf, const struct addr *origin,
	enum reason why, struct decision *d)
{
	if (policy_is_pass_destination(conf, origin, d->server)) {
		d->treatment = TREAT_RELAY;
		return;
	}
	d->treatment = TREAT_BLOCK;
	d->reason = why;
}

enum level
policy_level(const struct conf *conf, const struct table *t,
	const struct line_key *line)
{
	return t == NULL ? LEVEL_CLEAN : rollup_level(conf, t, line);
}

bool
policy_is_zombie(const struct conf *conf, const struct table *t,
	const struct line_key *line)
{
	return conf->zombie.action != ZOMBIE_LOG &&
		policy_level(conf, t, line) == LEVEL_ZOMBIE;
}

/* Answered by us, or at our pace: may take its time. */
static void
decide_slow(const struct conf *conf, const struct table *t, struct decision *d)
{
	if (conf->zombie.slow != 0 && (d->treatment == TREAT_BLOCK ||
		    d->treatment == TREAT_SUBMIT))
		d->is_slow = (int)policy_level(conf, t, &d->line) >= conf->zombie.slow;
}

/* Port 25 of a class that does not let it pass: false when nothing is to be
 * done about its line. */
static bool
decide_zombie(const struct conf *conf, const struct table *t,
	const struct addr *origin, struct decision *d)
{
	if (!policy_is_zombie(conf, t, &d->line) ||
	    policy_is_pass_destination(conf, origin, d->server))
		return false;
	d->treatment = conf->zombie.action == ZOMBIE_RESET ? TREAT_RESET :
		TREAT_BLOCK;
	d->reason = REASON_ZOMBIE;
	d->is_slow = conf->zombie.action == ZOMBIE_TARPIT;
	return true;
}

static void
decide_submit(const struct conf *conf, const struct addr *origin,
	struct decision *d)
{
	if (d->server == -1 ? conf->unknown_origin == UNKNOWN_ORIGIN &&
	    !policy_is_pass_destination(conf, origin, -1) :
	    conf->servers[d->server].submission.mode != TLS_NONE)
		d->treatment = TREAT_SUBMIT;
	else
		decide_block(conf, origin, REASON_UNKNOWN_ORIGIN, d);
}

void
policy_port25(const struct conf *conf, const struct table *t,
	enum action action, const struct addr *origin, struct decision *d)
{
	if ((action == ACTION_BLOCK || action == ACTION_SUBMIT ||
		    action == ACTION_RELAY) && d->class_index != -1) {
		if (decide_zombie(conf, t, origin, d))
			return;
		d->is_policed = !policy_is_pass_destination(conf, origin,
			d->server);
	}
	switch (action) {
	case ACTION_BLOCK:
		decide_block(conf, origin, REASON_POLICY, d);
		break;
	case ACTION_SUBMIT:
		decide_submit(conf, origin, d);
		break;
	case ACTION_RESET:
	case ACTION_DROP:
		d->treatment = TREAT_RESET;
		d->reason = REASON_POLICY;
		break;
	default:
		d->treatment = TREAT_RELAY;
		break;
	}
	decide_slow(conf, t, d);
}

void
policy_decide(const struct conf *conf, const struct upstream *u,
	const struct table *t, const struct addr *src, const struct addr *origin, int64_t now,
	struct decision *d_r)
{
	enum action action;
	const struct class_conf *class;

	memset(d_r, 0, sizeof(*d_r));
	d_r->reason = REASON_NONE;
	d_r->server = upstream_find(u, origin);
	action = conf_policy_to(conf, src, origin, now, &d_r->class_index,
		NULL);
	class = d_r->class_index == -1 ? NULL :
		&conf->classes[d_r->class_index];
	line_key_of(src, class == NULL ? CONF_LINE_LEN6 : class->line_len6,
		class == NULL ? 0 : class->port_block, &d_r->line);

	/* our own connections are never captured: gateway.local is for what
	 * other programs of this machine dial */
	if ((upstream_is_own(u, src) && !conf->local) ||
	    upstream_is_own(u, origin)) {
		d_r->treatment = TREAT_RESET;
		d_r->reason = REASON_LOOP;
		return;
	}
	if (origin->port == PORT_POP3 || origin->port == PORT_IMAP) {
		decide_wrap(conf, origin, d_r);
		return;
	}
	policy_port25(conf, t, action, origin, d_r);
}
