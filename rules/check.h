/*
 * check.h - can the rules work on this machine at all?
 *
 * Internal to rules/ (the CLI side).
 */
#ifndef SALLYPORT_RULES_CHECK_H
#define SALLYPORT_RULES_CHECK_H

#include "rules/report.h"

struct conf;

/* Privilege and tools: without these nothing can be looked at. Each reason is
 * an error in the report. 0 or -1. */
int check_tools(struct report *r);

/* Forwarding, reverse path filter, number of ports, bridges, the pool of
 * addresses. 0 or -1. */
int check_machine(const struct conf *c, int families, struct report *r);

#endif
