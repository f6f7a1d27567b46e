/*
 * explain.c - in words, what the configuration will do
 *
 * For `sallyport check`: a few sentences for each class and for what holds for
 * all, so that an operator sees before `rules apply` whom it will meet. Says
 * what will happen, not which option says so. Changes nothing.
 *
 * Called by the command line. Everything printed was checked by conf_load();
 * reply lines are printable ASCII.
 */
#include "conf/conf.h"

#include "conf/blocktext.h"
#include "conf/option.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

/* Prefixes named in a sentence; more are counted. */
#define PREFIXES_SHOWN 4

static void
explain_prefixes(const struct class_conf *k, FILE *out)
{
	char text[ADDR_STRLEN];
	size_t shown = k->nprefixes < PREFIXES_SHOWN ? k->nprefixes :
		PREFIXES_SHOWN;

	for (size_t i = 0; i < shown; i++)
		fprintf(out, "%s%s", i != 0 ? ", " : "",
			prefix_format(&k->prefixes[i], text));
	if (k->nprefixes > shown)
		fprintf(out, " and %zu more", k->nprefixes - shown);
}

/* "; at most N WHAT" for each limit that there is. */
static void
explain_quota(const struct smtp_limits *l, FILE *out)
{
	if (l->size != 0)
		fprintf(out, "    A message may have %u octets; more is refused "
			"with 552.\n", l->size);
	if (l->rcpts != 0)
		fprintf(out, "    A line may name %u recipients an hour; then "
			"450, and its mail program tries again.\n", l->rcpts);
	if (l->messages != 0)
		fprintf(out, "    A line may send %u messages an hour; then "
			"450, and its mail program tries again.\n",
			l->messages);
	if (l->guesses != 0)
		fprintf(out, "    After %u wrong passwords of a line in a "
			"quarter of an hour AUTH is answered with 421.\n",
			l->guesses);
}

static void
explain_submit(const struct conf *c, FILE *out)
{
	fputs("    Mail is carried to the submission port of the server that "
		"the line dialled,\n    over verified TLS, after the client's "
		"own user name and password:\n", out);
	for (size_t i = 0; i < c->nservers; i++) {
		const struct server_conf *v = &c->servers[i];

		if (v->submission.mode == TLS_NONE)
			continue;
		fprintf(out, "      %s", v->name);
		if (v->submission_host != NULL)
			fprintf(out, ": at %s", v->submission_host);
		fprintf(out, " port %u (%s)", v->submission.port,
			v->submission.mode == TLS_IMPLICIT ? "TLS" :
				"STARTTLS");
		if (v->starttls != 0)
			fprintf(out, "; clients that use STARTTLS are tunnelled "
				"to port %u", v->starttls);
		fputc('\n', out);
	}
	explain_quota(&c->limits, out);
	if (c->unknown_origin == UNKNOWN_ORIGIN)
		fputs("    To servers that are not listed it is carried to port "
			"465 or 587 of the same host, whose\n    certificate "
			"may be for any name of a trusted authority; where a "
			"host has neither, it is\n    refused as in block:\n",
			out);
	else
		fputs("    Servers that are not listed are refused as in "
			"block:\n", out);
}

/* Whose POP3 login counts, where. */
static void
explain_pop(const struct conf *c, const struct class_conf *k, FILE *out)
{
	const int class = (int)(k - c->classes);

	for (size_t i = 0; i < c->nservers; i++)
		if (conf_pop_counts(c, class, (int)i))
			fprintf(out, "    For %u minutes after a POP3 login at "
				"%s mail of the line goes there without AUTH,\n"
				"    as that user (XCLIENT LOGIN).\n",
				c->pop_minutes, c->servers[i].name);
}

/* What the choice of a stage means to who is refused. */
static const char *const stage_words[] = {
	[BLOCK_RCPT] = "each recipient is",
	[BLOCK_ADAPTIVE] = "each recipient (EHLO, for lines that gave up "
		"before) is",
	[BLOCK_MAIL] = "the sender is",
};

static void
explain_stage(const struct block_conf *b, FILE *out)
{
	if (b->stage != BLOCK_GREETING) {
		fprintf(out, "    Greeted after %u s, then %s refused with\n",
			b->delay, stage_words[b->stage]);
		return;
	}
	fprintf(out, "    After %u s refused by the greeting itself. Mail "
		"servers such as Postfix take that as\n    temporary: they try "
		"again for days and no bounce is seen; stage \"adaptive\" is "
		"read\n    by more people. Refused with\n", b->delay);
}

static void
explain_soft(const struct block_conf *b, FILE *out)
{
	const time_t at = (time_t)b->soft_until;
	char text[32];
	struct tm tm;

	if (at == 0)
		return;
	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&at, &tm));
	if (at <= time(NULL))
		fprintf(out, "    (soft ended at %s.)\n", text);
	else
		fprintf(out, "    Until %s the code is %u (soft): mail waits at "
			"its sender and does not bounce.\n", text,
			b->stage == BLOCK_GREETING ? 421u : 451u);
}

static void
explain_block(const struct block_conf *b, FILE *out)
{
	const struct blocktext values = { .url = b->url };
	const bool greets = b->stage == BLOCK_GREETING;
	char line[BLOCK_TEXT_MAX + 1];
	bool has_url = b->url == NULL;

	explain_stage(b, out);
	for (size_t i = 0; i < b->ntext; i++)
		has_url = has_url || blocktext_has(b->text[i], "{url}");
	for (size_t i = 0; i < b->ntext; i++) {
		blocktext_fill(b->text[i], &values, line, sizeof(line));
		fprintf(out, "      %u%c%s%s%s\n", greets ? 554u : b->code,
			i + 1 < b->ntext || !has_url ? '-' : ' ',
			greets ? "" : b->esc, greets ? "" : " ", line);
	}
	if (!has_url)
		fprintf(out, "      %u %s%s%s\n", greets ? 554u : b->code,
			greets ? "" : b->esc, greets ? "" : " ", b->url);
	explain_soft(b, out);
}

static void
explain_action(const struct conf *c, const struct class_conf *k,
	enum action action, FILE *out)
{
	switch (action) {
	case ACTION_PASS:
		fputs("    Port 25 is forwarded and not counted.\n", out);
		break;
	case ACTION_WATCH:
		fputs("    Port 25 is forwarded; connections are counted.\n",
			out);
		break;
	case ACTION_RELAY:
		fprintf(out, "    Port 25 is relayed unchanged to the address "
			"that was dialled, from %s.\n",
			c->source == SOURCE_CLIENT ? "the line's own address" :
			"the gateway's address (which no server may trust)");
		break;
	case ACTION_BLOCK:
		explain_block(&k->block, out);
		break;
	case ACTION_SUBMIT:
		explain_submit(c, out);
		explain_pop(c, k, out);
		explain_block(&k->block, out);
		break;
	case ACTION_RESET:
		fputs("    Port 25 is answered with a TCP reset.\n", out);
		break;
	default:
		fputs("    Packets to port 25 are dropped.\n", out);
		break;
	}
}

/* What a level changes, where the class hands us its connections. */
static void
explain_zombie(const struct conf *c, FILE *out)
{
	if (c->zombie.action == ZOMBIE_BLOCK ||
	    c->zombie.action == ZOMBIE_TARPIT)
		fprintf(out, "A line at level zombie: port 25 is refused with "
			"zombie.text, also where its class relays or "
			"submits%s.\n", c->zombie.action == ZOMBIE_TARPIT ?
			", and slowly" : "");
	else if (c->zombie.action == ZOMBIE_RESET)
		fputs("A line at level zombie: connections to port 25 are "
			"reset.\n", out);
	else
		fputs("A line at level zombie is logged and left as it is.\n",
			out);
	if (c->hook != NULL)
		fprintf(out, "Each change of a level starts %s as user %s.\n",
			c->hook, c->hook_user != NULL ? c->hook_user :
			c->user_control);
	if (c->zombie.slow != 0)
		fprintf(out, "From level %s on, sessions of block and submit "
			"wait %u s before each answer.\n", c->zombie.slow == 1 ?
			"suspect" : "probable", c->zombie.tarpit_delay);
}

static void
explain_class(const struct conf *c, const struct class_conf *k, FILE *out)
{
	fprintf(out, "class %s (", k->name);
	explain_prefixes(k, out);
	fprintf(out, "): %s\n", action_name[k->port25]);
	if (k->effective != k->port25) {
		fputs("    Not enforced: port 25 is forwarded, connections are "
			"counted.\n    With enforce = \"all\":\n", out);
		explain_action(c, k, k->port25, out);
		return;
	}
	if (k->enforce == ENFORCE_LISTED)
		fprintf(out, "    Towards the %zu %s of %s only;\n    to others "
			"port 25 is forwarded, connections are counted:\n",
			k->ndestinations, k->ndestinations == 1 ?
			"destination" : "destinations", k->destinations_file);
	explain_action(c, k, k->effective, out);
	if (k->port_block != 0)
		fprintf(out, "    A line is an address and %u source ports.\n",
			k->port_block);
	/* what differs from the default of the action */
	if (c->nfq_queue != 0 && k->enforce != ENFORCE_LISTED &&
	    k->effective >= ACTION_RESET && k->count)
		fputs("    Attempts are counted.\n", out);
}

/* Whose mail goes without a password of his own. */
static void
explain_accounts(const struct conf *c, FILE *out)
{
	static const char *const how[MECHANISM_COUNT] = {
		[MECHANISM_AUTO] = "what the server offers",
		[MECHANISM_PLAIN] = "PLAIN", [MECHANISM_LOGIN] = "LOGIN",
		[MECHANISM_CRAM_MD5] = "CRAM-MD5",
		[MECHANISM_XOAUTH2] = "XOAUTH2",
	};
	char text[ADDR_STRLEN];

	for (size_t i = 0; i < c->naccounts; i++) {
		const struct account_conf *a = &c->accounts[i];

		fprintf(out, "Account %s:", a->name);
		for (size_t p = 0; p < a->nprefixes; p++)
			fprintf(out, "%s %s", p != 0 ? "," : "",
				prefix_format(&a->prefixes[p], text));
		fprintf(out, " may send to %s without a password,\n    as "
			"user %s (by %s, %s from %s),\n    sender <%s>",
			a->server_name, a->user, a->token_file != NULL ?
			"XOAUTH2" : how[a->mechanism],
			a->token_file != NULL ? "token" : "password",
			account_file(a), a->sender);
		if (a->rcpts != 0)
			fprintf(out, ", %u recipients an hour", a->rcpts);
		if (a->messages != 0)
			fprintf(out, ", %u messages an hour", a->messages);
		fputs(".\n", out);
	}
	if (c->naccounts > 0)
		fputs("    A line that is suspect loses its account until it is "
			"clear again.\n", out);
}

static void
explain_allow(const struct conf *c, FILE *out)
{
	size_t expired = 0;
	int64_t now = (int64_t)time(NULL);

	if (c->allow_file == NULL) {
		fputs("No allowlist.\n", out);
		return;
	}
	for (size_t i = 0; i < c->nallow; i++)
		expired += c->allow[i].until != 0 && c->allow[i].until <= now;
	fprintf(out, "Allowlist %s: %zu %s, %zu expired.\n", c->allow_file,
		c->nallow, c->nallow == 1 ? "entry" : "entries", expired);
	if (c->nallow_line > 0)
		fprintf(out, "    and %zu of customers (line:ID), for the lines "
			"that they have at the time.\n", c->nallow_line);
}

static void
explain_destinations(const struct conf *c, FILE *out)
{
	size_t own = 0;

	for (size_t i = 0; i < c->nservers; i++)
		own += c->pass_own && c->servers[i].own;
	fputs("Every line still reaches on port 25:", out);
	for (size_t i = 0, n = 0; own != 0 && i < c->nservers; i++)
		if (c->servers[i].own)
			fprintf(out, "%s %s", n++ != 0 ? "," : "",
				c->servers[i].name);
	if (c->npass_prefixes != 0)
		fprintf(out, "%s %zu %s", own != 0 ? " and" : "",
			c->npass_prefixes,
			c->npass_prefixes == 1 ? "prefix" : "prefixes");
	fputs(own + c->npass_prefixes == 0 ? " nothing.\n" : ".\n", out);
}

static void
explain_nfq(const struct conf *c, FILE *out)
{
	static const char *const back[] = {
		[RETURN_OFF] = "",
		[RETURN_COUNT] = "\nAnswers of port 25 that a blocked line did "
			"not ask for are counted.",
		[RETURN_DROP] = "\nAnswers of port 25 that a blocked line did "
			"not ask for are dropped.",
	};

	if (c->nfq_queue == 0)
		fputs("First packets are not counted (nfq.queue = 0).", out);
	else
		fprintf(out, "First packets are counted by line (queue %u, %u "
			"lines)%s.", c->nfq_queue, c->nfq_lines,
			c->nfq_submission ? ", to ports 465 and 587 too" : "");
	fprintf(out, "%s\n", back[c->return_path]);
}

static const struct endpoint *
service_of(const struct server_conf *v, bool imap)
{
	return imap ? &v->imap : &v->pop3;
}

static void
explain_endpoint(const struct server_conf *v, const struct endpoint *e,
	FILE *out)
{
	static const char *const how[] = {
		[TLS_NONE] = "",
		[TLS_IMPLICIT] = "",
		[TLS_STARTTLS] = " (STARTTLS)",
		[TLS_PLAIN] = " (WITHOUT TLS, at its literal addresses)",
	};

	fprintf(out, " %s port %u%s", v->name, e->port, how[e->mode]);
}

static void
explain_wrap(const struct conf *c, bool imap, FILE *out)
{
	const char *name = imap ? "IMAP" : "POP3";
	const enum wrap wrap = imap ? c->imap_wrap : c->pop3_wrap;
	size_t n = 0;

	for (size_t i = 0; i < c->nservers; i++)
		n += service_of(&c->servers[i], imap)->mode != TLS_NONE;
	if (wrap == WRAP_OFF || (n == 0 && wrap == WRAP_LISTED)) {
		fprintf(out, "%s is not touched.\n", name);
		return;
	}
	if (n == 0) {
		fprintf(out, "Plain %s (port %s) is carried over TLS to servers "
			"that have it on port %s, in the clear to others.\n",
			name, imap ? "143" : "110", imap ? "993" : "995");
		return;
	}
	fprintf(out, "Plain %s (port %s) is carried over verified TLS to",
		name, imap ? "143" : "110");
	for (size_t i = 0, k = 0; i < c->nservers; i++) {
		const struct endpoint *e = service_of(&c->servers[i], imap);

		if (e->mode == TLS_NONE)
			continue;
		if (k++ != 0)
			fputc(',', out);
		explain_endpoint(&c->servers[i], e, out);
	}
	if (wrap == WRAP_LISTED)
		fputs("; other servers are not touched.\n", out);
	else
		fprintf(out, "; to other servers over TLS where they have it on "
			"port %s, in the clear where not.\n",
			imap ? "993" : "995");
}

static void
explain_pool(const struct conf *c, uint8_t family, const char *name, FILE *out)
{
	size_t n = 0;

	for (size_t i = 0; i < c->naddresses; i++)
		n += c->addresses[i].family == family;
	if (n == 0)
		fprintf(out, " %s as routed", name);
	else
		fprintf(out, " %s %zu in turn", name, n);
}

/* Servers whose own word differs. */
static void
explain_others(const struct conf *c, FILE *out)
{
	for (size_t i = 0; i < c->nservers; i++)
		if (conf_source(c, (int)i) != c->source)
			fprintf(out, "    But %s sees %s.\n",
				c->servers[i].name, c->source == SOURCE_CLIENT ?
				"an address of this gateway" :
				"the line's own address");
}

/* Linux gives out 28,232 ports (net.ipv4.ip_local_port_range), and each pair of
 * an address of ours and a server's address and port has them for itself;
 * beyond 12,000 the kernel searches longer for a free one. */
static void
explain_source(const struct conf *c, FILE *out)
{
	if (c->source == SOURCE_CLIENT) {
		fputs("Servers see the line's own address.\n", out);
		explain_others(c, out);
		return;
	}
	fputs("Servers see an address of this gateway:", out);
	explain_pool(c, AF_INET, "IPv4", out);
	fputc(',', out);
	explain_pool(c, AF_INET6, "IPv6", out);
	fputs(".\n", out);
	fputs("One address holds about 28,000 sessions to one server at a "
		"time, all lines together,\n    and is slower beyond "
		"12,000; gateway.addresses may name more.\n", out);
	explain_others(c, out);
}

static void
explain_capture(const struct conf *c, FILE *out)
{
	if (c->capture == CAPTURE_TPROXY)
		fputs("Connections are captured by policy routing (TPROXY). ",
			out);
	else
		fprintf(out, "Connections are captured by address translation "
			"(REDIRECT)%s. ", c->local ? ",\n    also those of this "
			"machine's own programs, whose address is in a class" :
			"");
	explain_source(c, out);
}

/* A server that takes mail from our address for nothing would take it from
 * every line. */
static void
warn_relay(const struct conf *c, FILE *out)
{
	bool relays = false;

	for (size_t i = 0; i < c->nclasses; i++)
		relays |= c->classes[i].effective == ACTION_RELAY;
	for (size_t i = 0; i < c->nallow; i++)
		relays |= c->allow[i].action == ACTION_RELAY;
	for (size_t i = 0; i < c->nallow_line; i++)
		relays |= c->allow_line[i].action == ACTION_RELAY;
	if (relays && c->source == SOURCE_GATEWAY)
		fputs("Warning: relay from the gateway's address needs an "
			"address that no server trusts: to a server\n    that "
			"takes mail from it without a password, every line of "
			"that class is the gateway.\n", out);
}

void
conf_explain(const struct conf *conf, FILE *out)
{
	for (size_t i = 0; i < conf->nclasses; i++)
		explain_class(conf, &conf->classes[i], out);
	fputs("Whoever is in no class is not touched.\n", out);
	explain_zombie(conf, out);
	explain_accounts(conf, out);
	explain_allow(conf, out);
	explain_destinations(conf, out);
	explain_wrap(conf, false, out);
	explain_wrap(conf, true, out);
	publish_explain(conf, out);
	explain_nfq(conf, out);
	explain_capture(conf, out);
	warn_relay(conf, out);
	fprintf(out, "While the daemon is down or hung, port 25 is %s.\n",
		conf->fail_closed ? "reset" : "forwarded");
}
