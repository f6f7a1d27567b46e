/*
 * gate_impl.h - what gate.c and gateallow.c share
 */
#ifndef SALLYPORT_RULES_GATE_IMPL_H
#define SALLYPORT_RULES_GATE_IMPL_H

#include <libmnl/libmnl.h>
#include <linux/netfilter/ipset/ip_set.h>
#include <linux/netfilter/nfnetlink.h>
#include <stddef.h>
#include <stdint.h>

#include "rules/rules.h"

struct gate {
	struct mnl_socket *nl;
	uint32_t seq;
	int logged;	/* errno last complained about: once, not each second */
	bool no_generation;	/* nf_tables is not there */
	int revision;	/* of hash:net that this kernel creates; 0: not tried */
};

struct request {
	struct nlmsghdr *head;
	struct nlattr *data;
	char mem[256];
};

/* Begin a message about a set in mem, which has room and is 4-aligned. */
struct nlmsghdr *gate_message(void *mem, struct gate *g, enum ipset_cmd cmd,
	uint8_t family, const char *set, int flags);
/* Send and wait for the first message of the answer. 0, or the kernel's error
 * as a positive number (errno or IPSET_ERR_...). */
int gate_exchange(struct gate *g, const struct nlmsghdr *head, char *answer,
	size_t size);
/* Log an error once; returns -1. */
int gate_refused(struct gate *g, const char *set, int error);

#endif
