/*
 * route.h - policy routing: packets with our mark are delivered here
 *
 * Internal to rules/ (the CLI side). One ip rule and one local default route
 * per family, marked with the routing protocol number OUR_PROTO, by which they
 * are found again whatever the configuration says today.
 */
#ifndef SALLYPORT_RULES_ROUTE_H
#define SALLYPORT_RULES_ROUTE_H

#include <stdbool.h>
#include <stdio.h>

struct conf;

#define ROUTE_OLD_MAX 8

struct routes {
	bool rule, route;	/* ours are there as configured */
	/* ours, but with another table, priority or mark */
	unsigned old_rule[ROUTE_OLD_MAX];	/* priorities */
	unsigned old_route[ROUTE_OLD_MAX];	/* tables */
	int nold_rules, nold_routes;
	char conflict[256];	/* why ours cannot be installed, or "" */
};

/* Does the configuration need any? Redirected packets find their own way. */
bool route_wanted(const struct conf *c);

/* Look. c = NULL: everything of ours is old; so it is when none is wanted, and
 * then none is missing. 0 or -1 (reason on err). */
int routes_look(struct routes *r, const struct conf *c, int family, FILE *err);

/* Add or delete what the configuration asks for. */
int route_rule(const struct conf *c, int family, bool add, FILE *err);
int route_local(const struct conf *c, int family, bool add, FILE *err);

/* Delete what is ours but old. Returns how many, or -1. */
int routes_delete_old(const struct routes *r, int family, FILE *err);

/* The arguments of ip, for show and for messages. */
void route_print(const struct conf *c, int family, FILE *out);

#endif
