/*
 * route.c - policy routing: packets with our mark are delivered here
 *
 * Does: looks at, adds and deletes one ip rule and one local route per family
 * with ip(8), in numbers and JSON. Ours carry the protocol number OUR_PROTO;
 * whatever has another one is foreign and never touched.
 * Does not: read names from /etc/iproute2 (ip -N), so that an operator's names
 * for tables and protocols change nothing.
 *
 * Called by apply.c, verify.c and remove.c. A foreign rule that uses our
 * priority, our table or any bit of our mark is a conflict: one of the two
 * would then route packets that the other meant to.
 */
#include "rules/route.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "conf/conf.h"
#include "rules/render.h"
#include "rules/run.h"

static const char *
option(int family)
{
	return family == 0 ? "-4" : "-6";
}

/* NULL with *none_r: ip has nothing to show (a table that does not exist). */
static json_t *
ask(const char *const argv[], FILE *err)
{
	struct run r;
	json_error_t error;
	json_t *list = NULL;

	if (run(&r, argv, NULL, 0) < 0) {
		fprintf(err, "%s\n", run_why(&r));
		run_free(&r);
		return NULL;
	}
	/* an empty routing table is "does not exist" and half a list */
	if (r.status != 0 && strstr(r.err, "FIB table does not exist") != NULL)
		list = json_array();
	else if (r.status == 0)
		list = r.out[0] == '\0' ? json_array() :
			json_loads(r.out, 0, &error);
	if (list == NULL)
		fprintf(err, "%s %s: %s\n", argv[0], argv[4], run_why(&r));
	run_free(&r);
	return list;
}

/* Numbers arrive as text, decimal or 0x; absent means what the kernel means. */
static unsigned long
number(const json_t *o, const char *key, unsigned long absent)
{
	const json_t *v = json_object_get(o, key);

	if (json_is_integer(v))
		return (unsigned long)json_integer_value(v);
	if (json_is_string(v))
		return strtoul(json_string_value(v), NULL, 0);
	return absent;
}

static void
conflict(struct routes *r, const char *what, unsigned long n, const char *how)
{
	if (r->conflict[0] == '\0')
		snprintf(r->conflict, sizeof(r->conflict), "%s %lu %s", what, n,
			how);
}

static void
look_at_rule(struct routes *r, const struct conf *c, const json_t *o)
{
	unsigned long priority = number(o, "priority", 0);
	unsigned long table = number(o, "table", 0);
	unsigned long mark = number(o, "fwmark", 0);
	unsigned long mask = number(o, "fwmask", 0xffffffff);

	if (number(o, "protocol", 0) == OUR_PROTO) {
		if (c != NULL && priority == c->priority && table == c->table
		    && mark == c->mark && mask == c->mark_mask && !r->rule)
			r->rule = true;
		else if (r->nold_rules < ROUTE_OLD_MAX)
			r->old_rule[r->nold_rules++] = (unsigned)priority;
		return;
	}
	if (c == NULL)
		return;
	if (priority == c->priority)
		conflict(r, "priority", priority, "is taken by a foreign ip "
			"rule; set gateway.priority to another");
	else if (table == c->table)
		conflict(r, "routing table", table, "is used by a foreign ip "
			"rule; set gateway.table to another");
	else if ((mark & mask & c->mark_mask) != 0)
		conflict(r, "the ip rule of priority", priority, "uses bits of "
			"our mark; set gateway.mark to others");
}

static void
look_at_route(struct routes *r, const struct conf *c, const json_t *o)
{
	const char *dst = json_string_value(json_object_get(o, "dst"));
	const char *dev = json_string_value(json_object_get(o, "dev"));
	bool is_local = number(o, "type", 1) == 2;

	if (dst != NULL && strcmp(dst, "default") == 0 && dev != NULL &&
	    strcmp(dev, "lo") == 0 && is_local &&
	    number(o, "protocol", 0) == OUR_PROTO)
		r->route = true;
	else
		conflict(r, "routing table", c->table,
			"holds foreign routes; set gateway.table to another");
}

static int
look_at_rules(struct routes *r, const struct conf *c, int family, FILE *err)
{
	const char *const argv[] = { "ip", option(family), "-N", "-j", "rule",
		"show", NULL };
	json_t *list = ask(argv, err);

	if (list == NULL)
		return -1;
	for (size_t i = 0; i < json_array_size(list); i++)
		look_at_rule(r, c, json_array_get(list, i));
	json_decref(list);
	return 0;
}

static int
look_at_table(struct routes *r, const struct conf *c, int family, FILE *err)
{
	char table[16];
	const char *const argv[] = { "ip", option(family), "-N", "-j", "route",
		"show", "table", table, NULL };
	json_t *list;

	snprintf(table, sizeof(table), "%u", c->table);
	list = ask(argv, err);
	if (list == NULL)
		return -1;
	for (size_t i = 0; i < json_array_size(list); i++)
		look_at_route(r, c, json_array_get(list, i));
	json_decref(list);
	return 0;
}

static int
look_for_old_routes(struct routes *r, const struct conf *c, int family,
	FILE *err)
{
	char proto[16];
	const char *const argv[] = { "ip", option(family), "-N", "-j", "route",
		"show", "table", "all", "proto", proto, NULL };
	json_t *list;

	snprintf(proto, sizeof(proto), "%d", OUR_PROTO);
	list = ask(argv, err);
	if (list == NULL)
		return -1;
	for (size_t i = 0; i < json_array_size(list); i++) {
		unsigned long table = number(json_array_get(list, i), "table",
			254);

		if ((c == NULL || table != c->table) &&
		    r->nold_routes < ROUTE_OLD_MAX)
			r->old_route[r->nold_routes++] = (unsigned)table;
	}
	json_decref(list);
	return 0;
}

bool
route_wanted(const struct conf *c)
{
	return c->capture == CAPTURE_TPROXY;
}

int
routes_look(struct routes *r, const struct conf *c, int family, FILE *err)
{
	memset(r, 0, sizeof(*r));
	if (c != NULL && !route_wanted(c)) {
		r->rule = r->route = true;
		c = NULL;
	}
	if (look_at_rules(r, c, family, err) < 0 ||
	    (c != NULL && look_at_table(r, c, family, err) < 0))
		return -1;
	return look_for_old_routes(r, c, family, err);
}

static int
ip(const char *const argv[], FILE *err)
{
	struct run r;
	int result = 0;

	if (run(&r, argv, NULL, 0) < 0 || r.status != 0) {
		fprintf(err, "%s %s %s %s failed: %s\n", argv[0], argv[1],
			argv[2], argv[3], run_why(&r));
		result = -1;
	}
	run_free(&r);
	return result;
}

int
route_rule(const struct conf *c, int family, bool add, FILE *err)
{
	char mark[32], table[16], priority[16], proto[16];
	const char *const argv[] = { "ip", option(family), "rule",
		add ? "add" : "del", "fwmark", mark, "lookup", table,
		"priority", priority, "protocol", proto, NULL };

	snprintf(mark, sizeof(mark), "0x%x/0x%x", c->mark, c->mark_mask);
	snprintf(table, sizeof(table), "%u", c->table);
	snprintf(priority, sizeof(priority), "%u", c->priority);
	snprintf(proto, sizeof(proto), "%d", OUR_PROTO);
	return ip(argv, err);
}

static int
local_route(unsigned table_number, int family, bool add, FILE *err)
{
	char table[16], proto[16];
	const char *const argv[] = { "ip", option(family), "route",
		add ? "add" : "del", "local", "default", "dev", "lo", "table",
		table, "proto", proto, NULL };

	snprintf(table, sizeof(table), "%u", table_number);
	snprintf(proto, sizeof(proto), "%d", OUR_PROTO);
	return ip(argv, err);
}

int
route_local(const struct conf *c, int family, bool add, FILE *err)
{
	return local_route(c->table, family, add, err);
}

static int
old_rule_delete(unsigned number_of, int family, FILE *err)
{
	char priority[16], proto[16];
	const char *const argv[] = { "ip", option(family), "rule", "del",
		"priority", priority, "protocol", proto, NULL };

	snprintf(priority, sizeof(priority), "%u", number_of);
	snprintf(proto, sizeof(proto), "%d", OUR_PROTO);
	return ip(argv, err);
}

int
routes_delete_old(const struct routes *r, int family, FILE *err)
{
	for (int i = 0; i < r->nold_rules; i++)
		if (old_rule_delete(r->old_rule[i], family, err) < 0)
			return -1;
	for (int i = 0; i < r->nold_routes; i++)
		if (local_route(r->old_route[i], family, false, err) < 0)
			return -1;
	return r->nold_rules + r->nold_routes;
}

void
route_print(const struct conf *c, int family, FILE *out)
{
	fprintf(out, "ip %s rule add fwmark 0x%x/0x%x lookup %u priority %u "
		"protocol %d\n", option(family), c->mark, c->mark_mask,
		c->table, c->priority, OUR_PROTO);
	fprintf(out, "ip %s route add local default dev lo table %u proto "
		"%d\n", option(family), c->table, OUR_PROTO);
}
