/*
 * rules.c - unit tests of rules/: set contents, rules as text, changes, kernel
 *
 * The first half is pure: golden tables of what the sets must contain, rules
 * for combinations of options, and inputs for iptables-restore against texts of
 * iptables-save. The second half runs in a network namespace of its own, made
 * here (a user namespace too when not root): the kernel must accept every
 * combination, verify must then find no difference and name each one that is
 * made, remove must leave nothing, and the gate must know "there", "not there"
 * and "no such set" apart.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <cmocka.h>

#include "conf/conf.h"
#include "rules/rules.h"
#include "rules/run.h"
#include "rules/sets.h"
#include "rules/tables.h"

#define N(a) (sizeof(a) / sizeof((a)[0]))
#define NOW 1000000

/* ---- a configuration by hand ---- */

#define CLASSES_MAX 8
#define PREFIXES_MAX 8

struct fixture {
	struct conf c;
	struct class_conf classes[CLASSES_MAX];
	struct prefix prefixes[CLASSES_MAX][PREFIXES_MAX];
	struct allow_entry allow[PREFIXES_MAX];
	struct prefix never[PREFIXES_MAX], pass[PREFIXES_MAX];
	struct prefix destinations[PREFIXES_MAX];
	struct server_conf servers[1];
	struct publish_conf publish[3];
	struct addr own[2];
	char *interfaces[2];
};

static struct prefix
prefix(const char *text)
{
	const char *why;
	struct prefix p;

	if (prefix_parse(&p, text, &why) < 0)
		fail_msg("%s: %s", text, why);
	return p;
}

static void
fixture_open(struct fixture *f)
{
	memset(f, 0, sizeof(*f));
	f->c.mark = 0x2500;
	f->c.mark_mask = 0xff00;
	f->c.mark_own = 0x2600;
	f->c.mark_reset = 0x2700;
	f->c.table = f->c.priority = f->c.listen_port = 2525;
	f->c.classes = f->classes;
	f->c.allow = f->allow;
	f->c.never = f->never;
	f->c.pass_prefixes = f->pass;
	f->c.servers = f->servers;
	f->c.interfaces = f->interfaces;
}

/* prefixes: words apart by one space */
static void
add_class(struct fixture *f, enum action effective, const char *prefixes)
{
	struct class_conf *k = &f->classes[f->c.nclasses];
	char text[256], *word, *rest = text;

	k->port25 = k->effective = effective;
	k->enforce = ENFORCE_ALL;
	k->count = effective != ACTION_PASS && effective < ACTION_RESET;
	k->prefixes = f->prefixes[f->c.nclasses++];
	snprintf(text, sizeof(text), "%s", prefixes);
	while ((word = strsep(&rest, " ")) != NULL)
		k->prefixes[k->nprefixes++] = prefix(word);
}

static void
add_allow(struct fixture *f, const char *text, enum action action,
	int64_t until)
{
	struct allow_entry *e = &f->allow[f->c.nallow++];

	e->prefix = prefix(text);
	e->action = action;
	e->until = until;
}

/* "PREFIX", "!PREFIX" for a hole, "PREFIX@UNTIL", apart by one space */
static void
contents(const struct fixture *f, const char *base, uint8_t family,
	char *out, size_t size)
{
	struct sets sets;
	char text[ADDR_STRLEN];
	size_t used = 0;

	assert_int_equal(sets_compute(&f->c, NOW, &sets), 0);
	out[0] = '\0';
	for (size_t i = 0; i < sets.n; i++) {
		if (strcmp(sets.all[i].base, base) != 0 ||
		    sets.all[i].family != family)
			continue;
		for (size_t j = 0; j < sets.all[i].nentries; j++) {
			const struct set_entry *e = &sets.all[i].entries[j];

			used += (size_t)snprintf(out + used, size - used,
				"%s%s%s", used > 0 ? " " : "",
				e->nomatch ? "!" : "",
				prefix_format(&e->prefix, text));
			if (e->until != 0)
				used += (size_t)snprintf(out + used,
					size - used, "@%lld",
					(long long)e->until);
		}
	}
	sets_free(&sets);
}

/* ---- sets ---- */

static void
nested_classes(void **state)
{
	static const struct {
		const char *base;
		uint8_t family;
		const char *want;
	} rows[] = {
		{ SET_SUB, AF_INET, "198.18.0.0/16 198.18.4.0/22 "
			"198.18.5.0/24 198.18.5.64/26 198.18.5.65/32 "
			"198.19.0.0/24" },
		{ SET_BLOCK, AF_INET, "198.18.0.0/16 !198.18.4.0/22 "
			"198.18.5.64/26 !198.18.5.65/32" },
		{ SET_CARRY, AF_INET, "198.18.4.0/22 198.18.5.0/24 "
			"!198.18.5.64/26" },
		{ SET_RESET, AF_INET, "198.19.0.0/24" },
		{ SET_DROP, AF_INET, "" },
		{ SET_BLOCK, AF_INET6, "2001:db8:1::/48 "
			"!2001:db8:1:ff00::/56" },
		{ SET_DROP, AF_INET6, "2001:db8:1:ff00::/56" },
		{ SET_CARRY, AF_INET6, "" },
		{ SET_FIRST, AF_INET, "198.18.0.0/16 198.18.4.0/22 "
			"198.18.5.0/24 198.18.5.64/26 198.18.5.65/32" },
		{ SET_FIRST, AF_INET6, "2001:db8:1::/48 "
			"!2001:db8:1:ff00::/56" },
		{ SET_BYPASS, AF_INET, "" },
		{ SET_CALMD, AF_INET6, "" },
	};
	struct fixture f;
	char got[1024];

	(void)state;
	fixture_open(&f);
	add_class(&f, ACTION_BLOCK,
		"198.18.0.0/16 198.18.5.64/26 2001:db8:1::/48");
	add_class(&f, ACTION_RELAY, "198.18.4.0/22");
	add_class(&f, ACTION_SUBMIT, "198.18.5.0/24");
	add_class(&f, ACTION_WATCH, "198.18.5.65");
	add_class(&f, ACTION_RESET, "198.19.0.0/24");
	add_class(&f, ACTION_DROP, "2001:db8:1:ff00::/56");
	for (size_t i = 0; i < N(rows); i++) {
		contents(&f, rows[i].base, rows[i].family, got, sizeof(got));
		assert_string_equal(got, rows[i].want);
	}
}

/* The last class acts towards listed destinations only. */
static void
make_listed(struct fixture *f)
{
	struct class_conf *k = &f->classes[f->c.nclasses - 1];

	k->enforce = ENFORCE_LISTED;
	k->destinations = f->destinations;
	f->destinations[k->ndestinations++] = prefix("203.0.113.0/26");
	f->destinations[k->ndestinations++] = prefix("2001:db8:f::/48");
	f->destinations[k->ndestinations++] = prefix("203.0.113.0/26");
}

static void
listed_classes(void **state)
{
	static const struct {
		const char *base;
		uint8_t family;
		const char *want;
	} rows[] = {
		{ SET_LINE "1_", AF_INET, "198.18.4.0/22 !198.18.5.0/24" },
		{ SET_LINE "1_", AF_INET6, "" },
		{ SET_DST "1_", AF_INET, "203.0.113.0/26" },
		{ SET_DST "1_", AF_INET6, "64:ff9b::cb00:7100/122 "
			"2001:db8:f::/48" },
		{ SET_RESET, AF_INET, "" },
		{ SET_BLOCK, AF_INET, "198.18.0.0/16 !198.18.4.0/22 "
			"198.18.5.0/24" },
		{ SET_SUB, AF_INET, "198.18.0.0/16 198.18.4.0/22 "
			"198.18.5.0/24" },
		/* other destinations are watched, and that is counted */
		{ SET_FIRST, AF_INET, "198.18.0.0/16 198.18.4.0/22 "
			"198.18.5.0/24" },
	};
	struct fixture f;
	char got[1024];

	(void)state;
	fixture_open(&f);
	add_class(&f, ACTION_BLOCK, "198.18.0.0/16 198.18.5.0/24");
	add_class(&f, ACTION_RESET, "198.18.4.0/22");
	make_listed(&f);
	for (size_t i = 0; i < N(rows); i++) {
		contents(&f, rows[i].base, rows[i].family, got, sizeof(got));
		assert_string_equal(got, rows[i].want);
	}
}

static void
nested_allow(void **state)
{
	struct fixture f;
	char got[1024];

	(void)state;
	fixture_open(&f);
	add_allow(&f, "198.18.4.0/24", ACTION_PASS, NOW + 100);
	add_allow(&f, "198.18.4.5", ACTION_RELAY, 0);
	add_allow(&f, "198.18.4.6", ACTION_SUBMIT, NOW);	/* over */
	add_allow(&f, "198.18.4.7", ACTION_WATCH, 0);
	add_allow(&f, "198.18.4.5", ACTION_PASS, 0);	/* second: ignored */
	contents(&f, SET_ALLOW, AF_INET, got, sizeof(got));
	assert_string_equal(got, "198.18.4.0/24@1000100 !198.18.4.5/32 "
		"198.18.4.7/32");
	contents(&f, SET_ACARRY, AF_INET, got, sizeof(got));
	assert_string_equal(got, "198.18.4.5/32");
}

/* hash:net has no /0; a configured half wins over the half of a whole. */
static void
everything(void **state)
{
	struct fixture f;
	char got[1024];

	(void)state;
	fixture_open(&f);
	add_class(&f, ACTION_BLOCK, "0.0.0.0/0 ::/0");
	add_class(&f, ACTION_RELAY, "128.0.0.0/1");
	contents(&f, SET_BLOCK, AF_INET, got, sizeof(got));
	assert_string_equal(got, "0.0.0.0/1");
	contents(&f, SET_CARRY, AF_INET, got, sizeof(got));
	assert_string_equal(got, "128.0.0.0/1");
	contents(&f, SET_BLOCK, AF_INET6, got, sizeof(got));
	assert_string_equal(got, "::/1 8000::/1");
}

static void
servers_of_the_configuration(void **state)
{
	struct fixture f;
	char got[1024];

	(void)state;
	fixture_open(&f);
	assert_int_equal(addr_parse(&f.own[0], "203.0.113.80"), 0);
	assert_int_equal(addr_parse(&f.own[1], "2001:db8::80"), 0);
	f.servers[0].own = true;
	f.servers[0].addresses = f.own;
	f.servers[0].naddresses = 2;
	f.c.nservers = 1;
	contents(&f, SET_OWN, AF_INET, got, sizeof(got));
	assert_string_equal(got, "203.0.113.80/32");
	contents(&f, SET_POP3, AF_INET, got, sizeof(got));
	assert_string_equal(got, "");
	f.servers[0].pop3 = (struct endpoint){ TLS_IMPLICIT, 995 };
	contents(&f, SET_POP3, AF_INET6, got, sizeof(got));
	assert_string_equal(got, "2001:db8::80/128");
	contents(&f, SET_IMAP, AF_INET6, got, sizeof(got));
	assert_string_equal(got, "");
	f.servers[0].imap = (struct endpoint){ TLS_STARTTLS, 143 };
	contents(&f, SET_IMAP, AF_INET, got, sizeof(got));
	assert_string_equal(got, "203.0.113.80/32");
}

/* What the kernel would say: the longest prefix decides. */
static bool
set_matches(const struct set *s, const struct addr *a)
{
	const struct set_entry *best = NULL;

	for (size_t i = 0; i < s->nentries; i++)
		if (prefix_contains(&s->entries[i].prefix, a) && (best == NULL
			    || s->entries[i].prefix.len > best->prefix.len))
			best = &s->entries[i];
	return best != NULL && !best->nomatch;
}

static void
same_answer(const struct set *s, const struct addr *a)
{
	char text[ADDR_STRLEN];

	if (set_matches(s, a) != (addr_special(a) != NULL))
		fail_msg("%s: set says %d, addr_special %s",
			addr_format(a, text), set_matches(s, a),
			addr_special(a) != NULL ? addr_special(a) : "ordinary");
}

/* First and last address of each prefix, and their neighbours. */
static void
same_at_the_edges(const struct set *s, const struct prefix *p)
{
	struct addr a = { .family = p->family };
	const int bytes = p->family == AF_INET ? 4 : 16;

	for (int last = 0; last < 2; last++) {
		memcpy(a.ip, p->ip, sizeof(a.ip));
		for (int bit = p->len; last && bit < bytes * 8; bit++)
			a.ip[bit / 8] |= (uint8_t)(0x80 >> bit % 8);
		same_answer(s, &a);
		for (int i = bytes - 1; i >= 0; i--) {
			a.ip[i] = (uint8_t)(a.ip[i] + (last ? 1 : -1));
			if (a.ip[i] != (last ? 0 : 255))
				break;
		}
		same_answer(s, &a);
	}
}

/* sallyport_never is addr_special() in the kernel's words. */
static void
never_is_special(void **state)
{
	struct sets sets;
	struct fixture f;
	size_t tried = 0;

	(void)state;
	fixture_open(&f);
	assert_int_equal(sets_compute(&f.c, NOW, &sets), 0);
	srandom(25);
	for (size_t i = 0; i < sets.n; i++) {
		struct addr a = { .family = sets.all[i].family };

		if (strcmp(sets.all[i].base, SET_NEVER) != 0)
			continue;
		for (size_t j = 0; j < sets.all[i].nentries; j++, tried++)
			same_at_the_edges(&sets.all[i], &sets.all[i].entries[j].prefix);
		for (int n = 0; n < 20000; n++) {
			for (int b = 0; b < (a.family == AF_INET ? 4 : 16); b++)
				a.ip[b] = (uint8_t)(random() >> 7);
			/* half of them where embedded addresses are */
			if (a.family == AF_INET6 && n % 2 == 0)
				memcpy(a.ip, n % 4 == 0 ? "\x20\x02" :
					"\0\x64\xff\x9b\0\0\0\0\0\0\0\0",
					n % 4 == 0 ? 2 : 12);
			same_answer(&sets.all[i], &a);
		}
	}
	sets_free(&sets);
	assert_true(tried > 30);
}

/* gateway.never also in the words of a translator. */
static void
never_is_translated(void **state)
{
	static const char *const want[] = { "203.0.113.66/32",
		"64:ff9b::cb00:7142/128", "2002:cb00:7142::/48" };
	struct sets sets;
	struct fixture f;
	size_t found = 0;

	(void)state;
	fixture_open(&f);
	f.never[0] = prefix("203.0.113.66");
	f.c.nnever = 1;
	assert_int_equal(sets_compute(&f.c, NOW, &sets), 0);
	for (size_t i = 0; i < sets.n; i++)
		for (size_t j = 0; strcmp(sets.all[i].base, SET_NEVER) == 0 &&
			j < sets.all[i].nentries; j++)
			for (size_t k = 0; k < 3; k++) {
				struct prefix p = prefix(want[k]);

				found += prefix_equal(&p,
					&sets.all[i].entries[j].prefix) &&
					!sets.all[i].entries[j].nomatch;
			}
	assert_int_equal(found, 3);
	sets_free(&sets);
}

/* ---- rules ---- */

static bool
has_rule(const struct ruleset *r, const char *chain, const char *part)
{
	for (size_t i = 0; i < r->n; i++)
		if (strcmp(r->rules[i].chain, chain) == 0 &&
		    strstr(r->rules[i].text, part) != NULL)
			return true;
	return false;
}

static void
rules_follow_options(void **state)
{
	static char eth[] = "eth1", ppp[] = "ppp+";
	struct ruleset r;
	struct fixture f;

	(void)state;
	fixture_open(&f);
	assert_int_equal(render_table(&f.c, AF_INET, TABLE_MANGLE, &r), 0);
	assert_false(has_rule(&r, "sallyport_select", SET_POP3));
	assert_false(has_rule(&r, "sallyport_select", SET_OWN));
	assert_true(has_rule(&r, "sallyport_pre", "--dports 25 "));
	assert_false(has_rule(&r, "sallyport_select", SET_IMAP));
	assert_true(has_rule(&r, "sallyport_capture", "--on-ip 127.0.0.1"));
	ruleset_free(&r);
	assert_int_equal(render_table(&f.c, AF_INET, TABLE_NAT, &r), 0);
	assert_int_equal(r.n, 0);
	ruleset_free(&r);

	f.c.pop3_wrap = f.c.imap_wrap = WRAP_LISTED;
	f.c.pass_own = true;
	f.interfaces[0] = eth;
	f.interfaces[1] = ppp;
	f.c.ninterfaces = 2;
	assert_int_equal(render_table(&f.c, AF_INET6, TABLE_MANGLE, &r), 0);
	assert_true(has_rule(&r, "sallyport_select", SET_POP3 "6 dst"));
	assert_true(has_rule(&r, "sallyport_select", SET_IMAP "6 dst"));
	assert_true(has_rule(&r, "sallyport_pre", "--dports 25,110,143 "));
	assert_true(has_rule(&r, "sallyport_select", SET_OWN "6 dst"));
	assert_true(has_rule(&r, "sallyport_pre", "-i eth1 -p tcp"));
	assert_true(has_rule(&r, "sallyport_pre", "-i ppp+ -p tcp"));
	assert_true(has_rule(&r, "sallyport_capture", "--on-ip ::1"));
	ruleset_free(&r);

	assert_int_equal(render_table(&f.c, AF_INET, TABLE_FILTER, &r), 0);
	assert_false(has_rule(&r, "sallyport_refuse", SET_LIVE));
	ruleset_free(&r);
	f.c.fail_closed = true;
	assert_int_equal(render_table(&f.c, AF_INET, TABLE_FILTER, &r), 0);
	assert_true(has_rule(&r, "sallyport_refuse", "! --match-set "
		SET_LIVE));
	ruleset_free(&r);
}

/* The same choice in another table, and nothing of TPROXY. */
static void
rules_that_redirect(void **state)
{
	struct ruleset r, tproxy;
	struct fixture f;
	size_t choices = 0;

	(void)state;
	fixture_open(&f);
	add_class(&f, ACTION_BLOCK, "198.18.0.0/16");
	assert_int_equal(render_table(&f.c, AF_INET, TABLE_MANGLE, &tproxy), 0);
	f.c.capture = CAPTURE_REDIRECT;
	f.c.source = SOURCE_GATEWAY;
	assert_int_equal(render_table(&f.c, AF_INET, TABLE_NAT, &r), 0);
	assert_true(has_rule(&r, "PREROUTING", "-j sallyport_select"));
	assert_false(has_rule(&r, "OUTPUT", ""));
	assert_true(has_rule(&r, "sallyport_capture", SET_LIVE " dst"));
	assert_true(has_rule(&r, "sallyport_capture", "REDIRECT --to-ports "
		"2525"));
	for (size_t i = 0; i < tproxy.n; i++) {
		if (strcmp(tproxy.rules[i].chain, "sallyport_select") != 0)
			continue;
		assert_true(has_rule(&r, "sallyport_select",
			tproxy.rules[i].text));
		choices++;
	}
	assert_true(choices > 5);
	ruleset_free(&tproxy);
	ruleset_free(&r);
	assert_int_equal(render_table(&f.c, AF_INET, TABLE_MANGLE, &r), 0);
	assert_false(has_rule(&r, "PREROUTING", ""));
	ruleset_free(&r);
	assert_int_equal(render_table(&f.c, AF_INET, TABLE_FILTER, &r), 0);
	assert_true(has_rule(&r, "sallyport_in", "! --ctstate DNAT"));
	assert_false(has_rule(&r, "sallyport_jail", SET_SUB));
	assert_false(has_rule(&r, "sallyport_out", ""));
	ruleset_free(&r);
	/* one server that sees the lines is reason enough to let them out */
	f.servers[0].source = FROM_CLIENT;
	f.c.nservers = 1;
	assert_int_equal(render_table(&f.c, AF_INET, TABLE_FILTER, &r), 0);
	assert_true(has_rule(&r, "sallyport_jail", SET_SUB));
	f.c.nservers = 0;
	ruleset_free(&r);

	/* programs of this machine, but for the relays */
	f.c.local = true;
	assert_int_equal(render_table(&f.c, AF_INET6, TABLE_NAT, &r), 0);
	assert_true(has_rule(&r, "OUTPUT", "-m mark ! --mark 0x2600/0xff00"));
	ruleset_free(&r);
	assert_int_equal(render_table(&f.c, AF_INET6, TABLE_FILTER, &r), 0);
	assert_true(has_rule(&r, "sallyport_out", "-g sallyport_refuse"));
	ruleset_free(&r);
}

/* Which rules there are about first packets, and for whom. */
static void
rules_of_first_packets(void **state)
{
	struct ruleset r;
	struct fixture f;

	(void)state;
	fixture_open(&f);
	f.c.return_path = RETURN_DROP;
	add_class(&f, ACTION_DROP, "198.18.0.0/16");
	make_listed(&f);
	assert_int_equal(render_table(&f.c, AF_INET, TABLE_RAW, &r), 0);
	assert_int_equal(r.n, 0);
	ruleset_free(&r);
	assert_int_equal(render_table(&f.c, AF_INET, TABLE_MANGLE, &r), 0);
	assert_false(has_rule(&r, "sallyport_pre", "0x2700"));
	assert_false(has_rule(&r, "sallyport_back", "NFQUEUE"));
	assert_true(has_rule(&r, "sallyport_back", "DROP"));
	assert_false(has_rule(&r, "sallyport_select", SET_DST));
	ruleset_free(&r);

	f.c.nfq_queue = 7;
	f.c.return_path = RETURN_COUNT;
	assert_int_equal(render_table(&f.c, AF_INET6, TABLE_RAW, &r), 0);
	assert_true(has_rule(&r, "sallyport_queue", "--queue-num 7 "
		"--queue-bypass"));
	assert_true(has_rule(&r, "sallyport_first", SET_DST "0_6 dst"));
	assert_false(has_rule(&r, "PREROUTING", "465"));
	ruleset_free(&r);
	assert_int_equal(render_table(&f.c, AF_INET, TABLE_MANGLE, &r), 0);
	assert_true(has_rule(&r, "sallyport_pre", "0x2700/0xff00"));
	assert_true(has_rule(&r, "sallyport_back", "NFQUEUE"));
	assert_false(has_rule(&r, "sallyport_back", "DROP"));
	ruleset_free(&r);
	assert_int_equal(render_table(&f.c, AF_INET, TABLE_FILTER, &r), 0);
	assert_true(has_rule(&r, "sallyport_fwd", "0x2700/0xff00"));
	assert_true(has_rule(&r, "sallyport_in", "0x2700/0xff00"));
	assert_true(has_rule(&r, "sallyport_refuse", SET_LINE "0_4 src -m set "
		"--match-set " SET_DST "0_4 dst"));
	ruleset_free(&r);

	/* counted first: not decided by a set, and submission too */
	f.classes[0].count = f.c.nfq_submission = true;
	assert_int_equal(render_table(&f.c, AF_INET, TABLE_RAW, &r), 0);
	assert_false(has_rule(&r, "sallyport_first", SET_DST));
	assert_true(has_rule(&r, "PREROUTING", "--dports 465,587 "));
	ruleset_free(&r);
}

/* Every capture and queue asks its gate; no purpose has a character that is escaped. */
static void
rules_keep_their_form(void **state)
{
	struct ruleset r;
	struct fixture f;

	(void)state;
	fixture_open(&f);
	f.c.pop3_wrap = f.c.imap_wrap = WRAP_LISTED;
	f.c.pass_own = f.c.fail_closed = true;
	f.c.nfq_submission = true;
	f.c.nfq_queue = 2525;
	f.c.return_path = RETURN_COUNT;
	for (int n = 0; n < 2 * TABLE_COUNT; n++) {
		int t = n % TABLE_COUNT;

		f.c.capture = n < TABLE_COUNT ? CAPTURE_TPROXY :
			CAPTURE_REDIRECT;
		f.c.local = f.c.capture == CAPTURE_REDIRECT;
		assert_int_equal(render_table(&f.c, AF_INET, (enum table)t,
			&r), 0);
		assert_true(r.n > 10 || (t == TABLE_NAT && !f.c.local));
		for (size_t i = 0; i < r.n; i++) {
			const struct rule *rule = &r.rules[i];

			assert_int_equal(strspn(rule->purpose, "abcdefghijklm"
				"nopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				"0123456789 .,:_()"), strlen(rule->purpose));
			assert_null(strchr(rule->text, '{'));
			if (strstr(rule->text, "TPROXY") != NULL ||
			    strstr(rule->text, "REDIRECT") != NULL)
				assert_non_null(strstr(rule->text, SET_LIVE));
			/* raw asks at the jump into the chain */
			if (t == TABLE_RAW && rule->jump)
				assert_non_null(strstr(rule->text, SET_NFQ));
			if (strstr(rule->text, "NFQUEUE") != NULL) {
				assert_non_null(strstr(rule->text,
					"--queue-bypass"));
				assert_true(t == TABLE_RAW ||
					strstr(rule->text, SET_NFQ) != NULL);
			}
		}
		ruleset_free(&r);
	}
}

static void
ports_of_the_relays(void **state)
{
	struct fixture f;
	char text[128];

	(void)state;
	fixture_open(&f);
	assert_int_equal(render_ports(&f.c, text, sizeof(text)), 7);
	assert_string_equal(text, "25,110,143,465,587,993,995");
	f.servers[0].submission = (struct endpoint){ TLS_IMPLICIT, 2465 };
	f.servers[0].starttls = 587;
	f.servers[0].imap = (struct endpoint){ TLS_IMPLICIT, 993 };
	f.c.nservers = 1;
	assert_int_equal(render_ports(&f.c, text, sizeof(text)), 8);
	assert_string_equal(text, "25,110,143,465,587,993,995,2465");
}

/* ---- changes of a table ---- */

#define FOREIGN "-A FORWARD -s 10.0.0.0/8 -m comment --comment \"not " \
	"sallyport: x\" -j DROP\n"
#define JUMP "-A INPUT -m comment --comment \"sallyport: a\" -j sallyport_in\n"
#define OWN "-A sallyport_in -m comment --comment \"sallyport: b\" -j ACCEPT\n"
#define HEAD "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n"

static void
changes(void **state)
{
	static char jump_text[] = "-m comment --comment \"sallyport: a\" "
		"-j sallyport_in";
	static char own_text[] = "-m comment --comment \"sallyport: b\" "
		"-j ACCEPT";
	struct rule rules[] = {
		{ .chain = "INPUT", .text = jump_text, .jump = true,
			.first = true },
		{ .chain = "sallyport_in", .text = own_text },
	};
	const struct ruleset want = { rules, 2 }, none = { NULL, 0 };
	const struct {
		const char *saved;
		const struct ruleset *want;
		const char *change;	/* NULL: nothing to do */
	} rows[] = {
		{ HEAD FOREIGN "COMMIT\n", &none, NULL },
		{ "", &none, NULL },
		{ HEAD ":sallyport_in - [0:0]\n" FOREIGN JUMP OWN "COMMIT\n",
			&want, NULL },
		{ HEAD FOREIGN "COMMIT\n", &want,
			"*filter\n:sallyport_in - [0:0]\n-I INPUT 1 -m comment "
			"--comment \"sallyport: a\" -j sallyport_in\n" OWN
			"COMMIT\n" },
		{ HEAD ":sallyport_in - [0:0]\n" FOREIGN JUMP OWN "COMMIT\n",
			&none, "*filter\n-D INPUT -m comment --comment "
			"\"sallyport: a\" -j sallyport_in\n-F sallyport_in\n"
			"-X sallyport_in\nCOMMIT\n" },
		/* a jump twice, a chain from another version */
		{ HEAD ":sallyport_in - [0:0]\n:sallyport_old - [0:0]\n" JUMP
			FOREIGN JUMP OWN "-A sallyport_old -j DROP\nCOMMIT\n",
			&want, "*filter\n:sallyport_in - [0:0]\n-D INPUT -m "
			"comment --comment \"sallyport: a\" -j sallyport_in\n"
			OWN "-F sallyport_old\n-X sallyport_old\nCOMMIT\n" },
		/* only the jump is gone: our chain is not touched */
		{ HEAD ":sallyport_in - [0:0]\n" OWN "COMMIT\n", &want,
			"*filter\n-I INPUT 1 -m comment --comment "
			"\"sallyport: a\" -j sallyport_in\nCOMMIT\n" },
	};

	(void)state;
	for (size_t i = 0; i < N(rows); i++) {
		char *text = NULL;

		assert_int_equal(table_change(rows[i].saved, TABLE_FILTER,
			rows[i].want, &text), 0);
		if (rows[i].change == NULL)
			assert_null(text);
		else
			assert_string_equal(text, rows[i].change);
		free(text);
	}
}

/* ---- the kernel ---- */

static void
put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		fail_msg("%s: %s", path, strerror(errno));
	close(fd);
}

/* From here on the process lives in a network of its own. */
static int
own_network(void **state)
{
	const unsigned uid = geteuid(), gid = getegid();
	struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	char map[64];
	int fd;

	(void)state;
	if (unshare(CLONE_NEWNET | (uid == 0 ? 0 : CLONE_NEWUSER)) < 0)
		return -1;
	if (uid != 0) {
		put("/proc/self/setgroups", "deny");
		snprintf(map, sizeof(map), "0 %u 1", uid);
		put("/proc/self/uid_map", map);
		snprintf(map, sizeof(map), "0 %u 1", gid);
		put("/proc/self/gid_map", map);
	}
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &lo) < 0)
		return -1;
	close(fd);
	put("/proc/sys/net/ipv4/ip_forward", "1");
	put("/proc/sys/net/ipv6/conf/all/forwarding", "1");
	return 0;
}

/* Two ports of one server behind, one of them for two groups, and one more. */
static void
publish(struct fixture *f)
{
	static const char *const to[] = { "127.0.0.1", "127.0.0.1", "fd00::5" };

	for (size_t i = 0; i < N(to); i++) {
		struct publish_conf *p = &f->publish[i];

		assert_int_equal(addr_parse(&p->to, to[i]), 0);
		p->port_to[PUBLISH_POP3] = 110;
		p->port_to[PUBLISH_IMAP] = 143;
		p->port_to[PUBLISH_SMTP] = i == 1 ? 10587 : 110;
	}
	f->c.publish = f->publish;
	f->c.npublish = N(to);
}

static void
jail_lets_to_the_servers_behind(void **state)
{
	static const struct {
		uint8_t family;
		const char *match;
		unsigned n;
	} rows[] = {
		{ AF_INET, "-d 127.0.0.1/32 -p tcp -m tcp --dport 110 ", 1 },
		{ AF_INET, "-d 127.0.0.1/32 -p tcp -m tcp --dport 143 ", 1 },
		{ AF_INET, "-d 127.0.0.1/32 -p tcp -m tcp --dport 10587 ", 1 },
		{ AF_INET6, "-d fd00::5/128 -p tcp -m tcp --dport 110 ", 1 },
		{ AF_INET6, "-d fd00::5/128 -p tcp -m tcp --dport 143 ", 1 },
		{ AF_INET, "-d ", 3 }, { AF_INET6, "-d ", 2 },
	};
	struct fixture f;

	(void)state;
	fixture_open(&f);
	publish(&f);
	for (size_t i = 0; i < N(rows); i++) {
		struct ruleset r;
		unsigned n = 0;

		assert_int_equal(render_table(&f.c, rows[i].family,
			TABLE_FILTER, &r), 0);
		for (size_t k = 0; k < r.n; k++)
			n += strcmp(r.rules[k].chain, "sallyport_jail") == 0 &&
				strncmp(r.rules[k].text, rows[i].match,
					strlen(rows[i].match)) == 0;
		assert_int_equal(n, rows[i].n);
		ruleset_free(&r);
	}
}

static void
fixture_full(struct fixture *f)
{
	fixture_open(f);
	add_class(f, ACTION_BLOCK, "198.18.0.0/16 2001:db8:1::/48");
	add_class(f, ACTION_SUBMIT, "198.18.4.0/24 2001:db8:1:100::/56");
	add_class(f, ACTION_DROP, "198.19.0.0/24");
	add_class(f, ACTION_RESET, "198.19.1.0/24 2001:db8:7::/48");
	make_listed(f);
	add_allow(f, "198.18.3.99", ACTION_PASS, 0);
	add_allow(f, "2001:db8:1:9900::/56", ACTION_RELAY, (int64_t)1 << 40);
	f->pass[0] = prefix("203.0.113.128/25");
	f->never[0] = prefix("203.0.113.66");
	f->c.npass_prefixes = f->c.nnever = 1;
	publish(f);
}

/* Run one command of rules/, return its status and what it said. */
static int
command(int (*run_it)(const struct conf *, const struct rules_options *,
	FILE *, FILE *), const struct conf *c, char *said, size_t size)
{
	const struct rules_options o = { .program = "sallyport" };
	FILE *f = fmemopen(said, size, "w");
	int status;

	assert_non_null(f);
	said[0] = '\0';
	status = run_it(c, &o, f, f);
	fclose(f);
	return status;
}

static void
need(const char *const argv[])
{
	struct run r;

	if (run(&r, argv, NULL, 0) < 0 || r.status != 0)
		fail_msg("%s %s: %s", argv[0], argv[1], run_why(&r));
	run_free(&r);
}

static void
need_success(int status, const char *said)
{
	if (status != 0)
		fail_msg("status %d: %s", status, said);
}

static void
kernel_takes_every_combination(void **state)
{
	static char eth[] = "eth1", ppp[] = "ppp+";
	char said[16384];
	struct fixture f;

	(void)state;
	for (int bits = 0; bits < 128 + 32; bits++) {
		fixture_full(&f);
		f.c.pop3_wrap = bits & 1 ? WRAP_LISTED : bits & 4 ? WRAP_OFF :
			WRAP_OPPORTUNISTIC;
		f.c.imap_wrap = (bits & 1) == (bits / 2 & 1) ? WRAP_OFF :
			bits & 8 ? WRAP_LISTED : WRAP_OPPORTUNISTIC;
		f.c.pass_own = bits & 2;
		f.c.fail_closed = bits & 4;
		f.interfaces[0] = eth;
		f.interfaces[1] = ppp;
		f.c.ninterfaces = bits & 8 ? 2 : 0;
		f.c.nfq_queue = bits & 16 ? 2525 : 0;
		f.c.nfq_submission = bits & 16;
		f.c.return_path = (enum return_path)(bits / 32 % 3);
		f.c.capture = bits & 128 ? CAPTURE_REDIRECT : CAPTURE_TPROXY;
		f.c.source = bits & 128 ? SOURCE_GATEWAY : SOURCE_CLIENT;
		f.c.local = bits & 128 && bits & 1;
		f.classes[3].effective = bits & 64 ? ACTION_BLOCK :
			ACTION_RESET;
		need_success(command(rules_apply, &f.c, said, sizeof(said)),
			said);
		need_success(command(rules_verify, &f.c, said, sizeof(said)),
			said);
	}
	need_success(command(rules_remove, NULL, said, sizeof(said)), said);
	assert_int_equal(command(rules_verify, &f.c, said, sizeof(said)), 1);
	need_success(command(rules_remove, NULL, said, sizeof(said)), said);
	assert_string_equal(said, "");
}

static void
verify_names_the_difference(void **state)
{
	static const struct {
		const char *argv[12];
		const char *want;
	} rows[] = {
		{ { "ipset", "del", "sallyport_sub4", "198.18.0.0/16" },
			"missing: set sallyport_sub4: 198.18.0.0/16" },
		{ { "ipset", "add", "sallyport_block6", "2001:db8:5::/48" },
			"extra: set sallyport_block6: 2001:db8:5::/48" },
		{ { "ipset", "create", "sallyport_more", "hash:net" },
			"extra: set sallyport_more" },
		{ { "iptables", "-D", "sallyport_jail", "1" },
			"missing: IPv4 filter: -A sallyport_jail" },
		{ { "ip6tables", "-t", "mangle", "-A", "sallyport_select",
			"-j", "ACCEPT" },
			"extra: IPv6 mangle: -A sallyport_select -j ACCEPT" },
		{ { "iptables", "-t", "mangle", "-D", "PREROUTING", "1" },
			"missing: IPv4 mangle: jump -A PREROUTING" },
		{ { "iptables", "-t", "mangle", "-A", "sallyport_divert", "-m",
			"comment", "--comment", "sallyport: deliver here",
			"-j", "ACCEPT" }, "extra: IPv4 mangle: 2 times" },
		{ { "ip6tables", "-t", "raw", "-F", "sallyport_queue" },
			"missing: IPv6 raw: -A sallyport_queue" },
		{ { "ipset", "del", "sallyport_dst3_4", "203.0.113.0/26" },
			"missing: set sallyport_dst3_4: 203.0.113.0/26" },
		{ { "ip", "-6", "rule", "del", "priority", "2525" },
			"missing: IPv6: ip rule fwmark 0x2500/0xff00" },
		{ { "ip", "-4", "route", "flush", "table", "2525" },
			"missing: IPv4: ip route local default" },
	};
	char said[16384];
	struct fixture f;

	(void)state;
	fixture_full(&f);
	f.c.nfq_queue = 2525;
	for (size_t i = 0; i < N(rows); i++) {
		need_success(command(rules_apply, &f.c, said, sizeof(said)),
			said);
		need_success(command(rules_verify, &f.c, said, sizeof(said)),
			said);
		need(rows[i].argv);
		assert_int_equal(command(rules_verify, &f.c, said,
			sizeof(said)), 1);
		if (strstr(said, rows[i].want) == NULL)
			fail_msg("want '%s', got: %s", rows[i].want, said);
	}
	need_success(command(rules_apply, &f.c, said, sizeof(said)), said);
	need_success(command(rules_verify, &f.c, said, sizeof(said)), said);
	need_success(command(rules_remove, NULL, said, sizeof(said)), said);
}

/* From one way of capturing to the other and back; nothing of the first stays. */
static void
capture_can_be_changed(void **state)
{
	static const char *const routes[] = { "ip", "rule", "show", "priority",
		"2525", NULL };
	struct gate *g = gate_open();
	char said[16384];
	struct fixture f;
	struct run ip;

	(void)state;
	assert_non_null(g);
	fixture_full(&f);
	f.c.nfq_queue = 2525;
	for (int i = 0; i < 3; i++) {
		bool redirect = i % 2 == 1;

		f.c.capture = redirect ? CAPTURE_REDIRECT : CAPTURE_TPROXY;
		if (i > 0)
			assert_int_equal(command(rules_verify, &f.c, said,
				sizeof(said)), 1);
		need_success(command(rules_apply, &f.c, said, sizeof(said)),
			said);
		need_success(command(rules_verify, &f.c, said, sizeof(said)),
			said);
		assert_int_equal(run(&ip, routes, NULL, 0), 0);
		assert_int_equal(strstr(ip.out, "2525") == NULL, redirect);
		run_free(&ip);
		/* by this the daemon knows whether they are for it */
		assert_int_equal(gate_test(g, SET_REDIRECT, 25), redirect - 1);
		if (!redirect)
			continue;
		need((const char *[]){ "ip6tables", "-t", "nat", "-D",
			"sallyport_capture", "1", NULL });
		need((const char *[]){ "iptables", "-t", "nat", "-D",
			"PREROUTING", "1", NULL });
		need((const char *[]){ "iptables", "-t", "raw", "-A",
			"PREROUTING", "-p", "tcp", "-j", "CT", "--notrack",
			NULL });
		assert_int_equal(command(rules_verify, &f.c, said,
			sizeof(said)), 1);
		assert_non_null(strstr(said, "missing: IPv6 nat: -A "
			"sallyport_capture"));
		assert_non_null(strstr(said, "missing: IPv4 nat: jump -A "
			"PREROUTING"));
		assert_non_null(strstr(said, "are not redirected: -A "
			"PREROUTING"));
		need((const char *[]){ "iptables", "-t", "raw", "-D",
			"PREROUTING", "-p", "tcp", "-j", "CT", "--notrack",
			NULL });
	}
	need_success(command(rules_remove, NULL, said, sizeof(said)), said);
	gate_close(&g);
}

/* What the machine is, and what is said about it. */
static void
machine_is_judged(void **state)
{
	static char port[] = "lab-port", bridge[] = "lab-br+";
	char said[16384];
	struct fixture f;

	(void)state;
	need((const char *[]){ "ip", "link", "add", "lab-br0", "type", "bridge",
		NULL });
	need((const char *[]){ "ip", "link", "add", "lab-port", "type", "veth",
		"peer", "name", "lab-peer", NULL });
	need((const char *[]){ "ip", "link", "set", "lab-port", "master",
		"lab-br0", NULL });
	fixture_full(&f);
	f.interfaces[0] = port;
	f.c.ninterfaces = 1;
	assert_int_equal(command(rules_apply, &f.c, said, sizeof(said)), 1);
	assert_non_null(strstr(said, "lab-port is a port of the bridge "
		"lab-br0"));
	f.interfaces[0] = bridge;
	need_success(command(rules_apply, &f.c, said, sizeof(said)), said);

	/* an address of the pool that is elsewhere is a note */
	f.c.source = SOURCE_GATEWAY;
	f.c.addresses = f.own;
	assert_int_equal(addr_parse(&f.own[0], "203.0.113.9"), 0);
	assert_int_equal(addr_parse(&f.own[1], "127.0.0.5"), 0);
	f.c.naddresses = 2;
	need_success(command(rules_apply, &f.c, said, sizeof(said)), said);
	assert_non_null(strstr(said, "gateway.addresses: 203.0.113.9 is not"));
	assert_null(strstr(said, "127.0.0.5"));
	f.c.naddresses = 0;

	/* only a machine of its own programs need not forward */
	put("/proc/sys/net/ipv4/ip_forward", "0");
	put("/proc/sys/net/ipv6/conf/all/forwarding", "0");
	f.c.capture = CAPTURE_REDIRECT;
	assert_int_equal(command(rules_apply, &f.c, said, sizeof(said)), 1);
	assert_non_null(strstr(said, "ip_forward is 0"));
	assert_non_null(strstr(said, "forwarding is 0"));
	f.c.local = true;
	need_success(command(rules_apply, &f.c, said, sizeof(said)), said);
	put("/proc/sys/net/ipv4/ip_forward", "1");
	put("/proc/sys/net/ipv6/conf/all/forwarding", "1");
	need_success(command(rules_remove, NULL, said, sizeof(said)), said);
	need((const char *[]){ "ip", "link", "del", "lab-port", NULL });
	need((const char *[]){ "ip", "link", "del", "lab-br0", NULL });
}

static void
gate_knows_three_answers(void **state)
{
	struct gate *g = gate_open();
	struct addr four, six;
	struct fixture f;
	char said[16384];

	(void)state;
	assert_non_null(g);
	assert_int_equal(addr_parse(&four, "203.0.113.80"), 0);
	assert_int_equal(addr_parse(&six, "2001:db8::80"), 0);
	assert_int_equal(gate_refresh(g, SET_LIVE, 25), -1);
	assert_int_equal(gate_test(g, SET_LIVE, 25), -1);
	assert_int_equal(gate_shut(g, SET_LIVE, 25), -1);
	assert_int_equal(gate_addr(g, ADDR_SET_OWN, &four, true), -1);

	fixture_full(&f);
	need_success(command(rules_apply, &f.c, said, sizeof(said)), said);
	assert_int_equal(gate_test(g, SET_LIVE, 25), 0);
	assert_int_equal(gate_refresh(g, SET_LIVE, 25), 0);
	assert_int_equal(gate_refresh(g, SET_LIVE, 25), 1);
	assert_int_equal(gate_test(g, SET_LIVE, 25), 1);
	assert_int_equal(gate_test(g, SET_LIVE, 110), 0);
	assert_int_equal(gate_test(g, SET_ALL, 25), 0);
	assert_int_equal(gate_shut(g, SET_LIVE, 25), 0);
	assert_int_equal(gate_shut(g, SET_LIVE, 25), 0);
	assert_int_equal(gate_test(g, SET_LIVE, 25), 0);

	for (int i = 0; i < 2; i++) {
		assert_int_equal(gate_addr(g, ADDR_SET_OWN, &four, true), 0);
		assert_int_equal(gate_addr(g, ADDR_SET_POP3, &six, true), 0);
		assert_int_equal(gate_addr(g, ADDR_SET_IMAP, &four, true), 0);
	}
	need((const char *[]){ "ipset", "test", "sallyport_imap4",
		"203.0.113.80", NULL });
	need((const char *[]){ "ipset", "test", "sallyport_own4",
		"203.0.113.80", NULL });
	need((const char *[]){ "ipset", "test", "sallyport_pop36",
		"2001:db8::80", NULL });
	/* a second apply keeps what the daemon has put there */
	need_success(command(rules_apply, &f.c, said, sizeof(said)), said);
	need((const char *[]){ "ipset", "test", "sallyport_own4",
		"203.0.113.80", NULL });
	for (int i = 0; i < 2; i++)
		assert_int_equal(gate_addr(g, ADDR_SET_OWN, &four, false), 0);

	need_success(command(rules_remove, NULL, said, sizeof(said)), said);
	assert_int_equal(gate_refresh(g, SET_LIVE, 25), -1);
	gate_close(&g);
	assert_null(g);
}

static size_t
bypasses(struct bypass *first_r)
{
	struct bypass *list;
	size_t n;

	assert_int_equal(bypass_list(&list, &n, stderr), 0);
	if (n > 0)
		*first_r = list[0];
	free(list);
	return n;
}

static void
bypass_is_kept_by_the_kernel(void **state)
{
	struct bypass want[] = {
		{ .kind = BYPASS_LINE, .seconds = BYPASS_MAX },
		{ .kind = BYPASS_DESTINATION, .seconds = 100 },
		{ .kind = BYPASS_ALL, .seconds = 100 },
	};
	struct bypass got = { .kind = BYPASS_LINE }, *list;
	char said[16384];
	struct fixture f;
	FILE *words = fmemopen(said, sizeof(said), "w");
	size_t n;

	(void)state;
	assert_non_null(words);
	want[0].prefix = prefix("198.18.7.0/24");
	want[1].prefix = prefix("2001:db8:f::25");
	assert_int_equal(bypass_add(want, N(want), words), -1);
	assert_int_equal(bypass_list(&list, &n, words), -1);
	assert_int_equal(bypass_is_line(&want[0].prefix, words), -1);
	fclose(words);
	assert_non_null(strstr(said, "no rules are applied"));

	fixture_full(&f);
	need_success(command(rules_apply, &f.c, said, sizeof(said)), said);
	assert_int_equal(bypass_is_line(&want[0].prefix, stderr), 1);
	assert_int_equal(bypass_is_line(&want[1].prefix, stderr), 0);
	assert_int_equal(bypasses(&got), 0);
	assert_int_equal(bypass_add(want, N(want), stderr), 0);
	assert_int_equal(bypass_add(want, N(want), stderr), 0);
	assert_int_equal(bypasses(&got), 3);
	assert_int_equal(got.kind, BYPASS_ALL);
	/* no difference, and none is lost by an apply */
	need_success(command(rules_verify, &f.c, said, sizeof(said)), said);
	need_success(command(rules_apply, &f.c, said, sizeof(said)), said);
	assert_int_equal(bypasses(&got), 3);
	assert_int_equal(bypass_end(&want[2], 1, stderr), 0);
	assert_int_equal(bypasses(&got), 2);
	assert_int_equal(got.kind, BYPASS_LINE);
	assert_true(prefix_equal(&got.prefix, &want[0].prefix));
	assert_in_range(got.seconds, BYPASS_MAX - 60, BYPASS_MAX);
	assert_int_equal(bypass_end(want, N(want), stderr), 0);
	assert_int_equal(bypasses(&got), 0);
	/* what ran directly is left alone a little longer */
	need((const char *[]){ "ipset", "test", "sallyport_calm4",
		"198.18.7.0/24", NULL });
	need_success(command(rules_remove, NULL, said, sizeof(said)), said);
}

/* What was applied comes back, what was removed does not. */
static void
loss_is_told_from_removal(void **state)
{
	struct fixture f, other;
	struct rules_loss loss;
	char said[4096];

	(void)state;
	if (access("/run", W_OK) != 0)
		skip();
	fixture_full(&f);
	fixture_full(&other);
	assert_int_equal(rules_look(&f.c, &loss), RULES_NONE);
	need_success(command(rules_apply, &f.c, said, sizeof(said)), said);
	assert_int_equal(rules_look(&f.c, &loss), RULES_GOOD);

	need((const char *[]){ "iptables", "-t", "mangle", "-F",
		"sallyport_pre", NULL });
	assert_int_equal(rules_look(&f.c, &loss), RULES_LOST);
	assert_true(loss.n > 0);
	assert_non_null(strstr(loss.first, "IPv4 mangle"));
	/* of another configuration only what is gone altogether is known */
	other.c.nallow = 0;
	assert_int_equal(rules_look(&other.c, &loss), RULES_LOST);
	other.c.fail_closed = !other.c.fail_closed;
	assert_int_equal(rules_look(&other.c, &loss), RULES_GOOD);
	assert_int_equal(rules_repair(&f.c, &loss), 0);
	need_success(command(rules_verify, &f.c, said, sizeof(said)), said);

	need((const char *[]){ "ipset", "flush", "sallyport_sub4", NULL });
	assert_int_equal(rules_look(&f.c, &loss), RULES_LOST);
	assert_string_equal(loss.first,
		"different: set sallyport_sub4 has 0 of 4 elements");
	/* what the daemon fills just now is nobody's but its own */
	need((const char *[]){ "ipset", "create", "sallyport_allow4_fill",
		"hash:net", NULL });
	need_success(command(rules_apply, &f.c, said, sizeof(said)), said);
	need_success(command(rules_verify, &f.c, said, sizeof(said)), said);
	assert_int_equal(rules_look(&f.c, &loss), RULES_GOOD);
	need((const char *[]){ "ipset", "list", "-n", "sallyport_allow4_fill",
		NULL });
	need_success(command(rules_remove, NULL, said, sizeof(said)), said);
	assert_int_equal(rules_look(&f.c, &loss), RULES_NONE);
	assert_int_equal(rules_repair(&f.c, &loss), 0);
	assert_int_equal(rules_look(&f.c, &loss), RULES_NONE);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nested_classes),
		cmocka_unit_test(listed_classes),
		cmocka_unit_test(nested_allow),
		cmocka_unit_test(everything),
		cmocka_unit_test(servers_of_the_configuration),
		cmocka_unit_test(never_is_special),
		cmocka_unit_test(never_is_translated),
		cmocka_unit_test(rules_follow_options),
		cmocka_unit_test(rules_that_redirect),
		cmocka_unit_test(rules_of_first_packets),
		cmocka_unit_test(rules_keep_their_form),
		cmocka_unit_test(ports_of_the_relays),
		cmocka_unit_test(changes),
		cmocka_unit_test(jail_lets_to_the_servers_behind),
		cmocka_unit_test(kernel_takes_every_combination),
		cmocka_unit_test(verify_names_the_difference),
		cmocka_unit_test(capture_can_be_changed),
		cmocka_unit_test(machine_is_judged),
		cmocka_unit_test(gate_knows_three_answers),
		cmocka_unit_test(bypass_is_kept_by_the_kernel),
		cmocka_unit_test(loss_is_told_from_removal),
	};

	return cmocka_run_group_tests(tests, own_network, NULL);
}
