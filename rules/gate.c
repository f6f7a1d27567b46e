/*
 * gate.c - single elements of our kernel sets, by netlink
 *
 * Does: adds, tests and deletes one port or one address in a set that `rules
 * apply' has created. Four short messages of the kernel's ipset protocol are
 * written here by hand on libmnl. libipset was rejected: it reports by text,
 * so that "no such set" and "no such element" cannot be told apart, it prints
 * to stdout when nobody stops it, and it keeps a cache of set types that goes
 * stale when sets are swapped behind its back.
 * Does not: create, fill, swap or destroy sets, and starts no process.
 *
 * Called by the parent of the daemon each second (the gate) and whenever a
 * server's addresses change; by the tests. One socket, one request at a time,
 * one acknowledgement each; a kernel that does not answer within a second is
 * an error, never a hang. CAP_NET_ADMIN must be held.
 *
 * An attacker controls nothing here: ports are ours, addresses come from the
 * control process as struct addr, and only one element of one family can be
 * named by it.
 */
#include "rules/rules.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter/ipset/ip_set.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "lib/log.h"
#include "rules/gate_impl.h"
#include "rules/sets.h"

#define NEWGEN (NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWGEN)

struct gate *
gate_open(void)
{
	const struct timeval limit = { .tv_sec = 1 };
	struct gate *g = calloc(1, sizeof(*g));

	if (g == NULL)
		return NULL;
	g->nl = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC);
	if (g->nl == NULL || mnl_socket_bind(g->nl, 0, MNL_SOCKET_AUTOPID) < 0 ||
	    setsockopt(mnl_socket_get_fd(g->nl), SOL_SOCKET, SO_RCVTIMEO,
		    &limit, sizeof(limit)) < 0) {
		log_error("gate: no netfilter netlink socket: %s",
			strerror(errno));
		gate_close(&g);
		return NULL;
	}
	g->seq = (uint32_t)time(NULL);
	return g;
}

void
gate_close(struct gate **g)
{
	if (*g == NULL)
		return;
	if ((*g)->nl != NULL)
		mnl_socket_close((*g)->nl);
	free(*g);
	*g = NULL;
}

/* Protocol 6 is spoken by every kernel since 2.6.39 and means the same here. */
struct nlmsghdr *
gate_message(void *mem, struct gate *g, enum ipset_cmd cmd, uint8_t family,
	const char *set, int flags)
{
	struct nlmsghdr *head = mnl_nlmsg_put_header(mem);
	struct nfgenmsg *nf;

	head->nlmsg_type = (uint16_t)((NFNL_SUBSYS_IPSET << 8) | cmd);
	head->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags);
	head->nlmsg_seq = ++g->seq;
	nf = mnl_nlmsg_put_extra_header(head, sizeof(*nf));
	nf->nfgen_family = family;
	nf->version = NFNETLINK_V0;
	nf->res_id = 0;
	mnl_attr_put_u8(head, IPSET_ATTR_PROTOCOL, IPSET_PROTOCOL_MIN);
	mnl_attr_put_strz(head, IPSET_ATTR_SETNAME, set);
	return head;
}

static void
request_open(struct request *r, struct gate *g, enum ipset_cmd cmd,
	uint8_t family, const char *set, int flags)
{
	memset(r->mem, 0, sizeof(r->mem));
	r->head = gate_message(r->mem, g, cmd, family, set, flags);
	r->data = mnl_attr_nest_start(r->head, IPSET_ATTR_DATA);
}

int
gate_exchange(struct gate *g, const struct nlmsghdr *head, char *answer,
	size_t size)
{
	ssize_t n;

	if (mnl_socket_sendto(g->nl, head, head->nlmsg_len) < 0)
		return errno;
	for (;;) {
		const struct nlmsghdr *h = (const void *)answer;
		const struct nlmsgerr *e;

		n = mnl_socket_recvfrom(g->nl, answer, size);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? ETIMEDOUT : errno;
		if (!mnl_nlmsg_ok(h, (int)n) || h->nlmsg_seq != head->nlmsg_seq)
			continue;	/* the late answer to an older request */
		if (h->nlmsg_type == (NFNL_SUBSYS_IPSET << 8 |
			    IPSET_CMD_HEADER) || h->nlmsg_type ==
		    (NFNL_SUBSYS_IPSET << 8 | IPSET_CMD_LIST) ||
		    h->nlmsg_type == NEWGEN)
			return 0;
		if (h->nlmsg_type != NLMSG_ERROR ||
		    h->nlmsg_len < mnl_nlmsg_size(sizeof(*e)))
			continue;
		e = mnl_nlmsg_get_payload(h);
		return -e->error;
	}
}

/* 0, or the kernel's error as a positive number (errno or IPSET_ERR_...). */
static int
request_send(struct request *r, struct gate *g)
{
	char answer[1024];

	mnl_attr_nest_end(r->head, r->data);
	return gate_exchange(g, r->head, answer, sizeof(answer));
}

/* ENOENT is what "rules not applied" looks like: not worth a line a second. */
int
gate_refused(struct gate *g, const char *set, int error)
{
	if (error != ENOENT && error != g->logged)
		log_error("gate: set %s: kernel error %d (%s)", set, error,
			error < IPSET_ERR_PRIVATE ? strerror(error) : "ipset");
	g->logged = error;
	return -1;
}

static int
port_request(struct gate *g, enum ipset_cmd cmd, const char *set,
	uint16_t port, int flags)
{
	struct request r;

	request_open(&r, g, cmd, AF_INET, set, flags);
	mnl_attr_put_u16(r.head, IPSET_ATTR_PORT | NLA_F_NET_BYTEORDER,
		htons(port));
	if (cmd == IPSET_CMD_ADD)
		mnl_attr_put_u32(r.head, IPSET_ATTR_TIMEOUT |
			NLA_F_NET_BYTEORDER, htonl(GATE_SECONDS));
	return request_send(&r, g);
}

int
gate_refresh(struct gate *g, const char *set, uint16_t port)
{
	int error = port_request(g, IPSET_CMD_ADD, set, port, NLM_F_EXCL);

	if (error == 0)
		return 0;
	if (error == IPSET_ERR_EXIST) {
		error = port_request(g, IPSET_CMD_ADD, set, port, 0);
		if (error == 0) {
			g->logged = 0;
			return 1;
		}
	}
	return gate_refused(g, set, error);
}

int
gate_test(struct gate *g, const char *set, uint16_t port)
{
	int error = port_request(g, IPSET_CMD_TEST, set, port, 0);

	if (error == 0)
		return 1;
	if (error == IPSET_ERR_EXIST)
		return 0;
	return gate_refused(g, set, error);
}

int
gate_shut(struct gate *g, const char *set, uint16_t port)
{
	int error = port_request(g, IPSET_CMD_DEL, set, port, 0);

	if (error == 0 || error == IPSET_ERR_EXIST)
		return 0;
	return gate_refused(g, set, error);
}

static const char *const addr_set_base[ADDR_SET_COUNT] = {
	[ADDR_SET_OWN] = SET_OWN,
	[ADDR_SET_POP3] = SET_POP3,
	[ADDR_SET_IMAP] = SET_IMAP,
};

int
gate_prefix(struct gate *g, enum addr_set set, const struct prefix *p, bool add)
{
	char name[SET_NAME_SIZE];
	struct request r;
	struct nlattr *ip;
	bool v4 = p->family == AF_INET;
	int error;

	/* of a /0 the kernel wants halves; no server has it */
	if (set >= ADDR_SET_COUNT || (!v4 && p->family != AF_INET6) ||
	    p->len == 0)
		return -1;
	set_name(name, addr_set_base[set], p->family);
	request_open(&r, g, add ? IPSET_CMD_ADD : IPSET_CMD_DEL, p->family,
		name, 0);
	ip = mnl_attr_nest_start(r.head, IPSET_ATTR_IP);
	mnl_attr_put(r.head, (uint16_t)((v4 ? IPSET_ATTR_IPADDR_IPV4 :
		IPSET_ATTR_IPADDR_IPV6) | NLA_F_NET_BYTEORDER), v4 ? 4 : 16,
		p->ip);
	mnl_attr_nest_end(r.head, ip);
	mnl_attr_put_u8(r.head, IPSET_ATTR_CIDR, p->len);
	error = request_send(&r, g);
	if (error == 0 || error == IPSET_ERR_EXIST)
		return 0;
	return gate_refused(g, name, error);
}

int
gate_addr(struct gate *g, enum addr_set set, const struct addr *a, bool add)
{
	struct prefix p;

	if (a->family != AF_INET && a->family != AF_INET6)
		return -1;
	prefix_of_addr(&p, a, a->family == AF_INET ? 32 : 128);
	return gate_prefix(g, set, &p, add);
}

static int
find_generation(const struct nlattr *attr, void *arg)
{
	int64_t *generation = arg;

	if (mnl_attr_get_type(attr) == NFTA_GEN_ID &&
	    mnl_attr_validate(attr, MNL_TYPE_U32) >= 0)
		*generation = ntohl(mnl_attr_get_u32(attr));
	return MNL_CB_OK;
}

int64_t
gate_generation(struct gate *g)
{
	char mem[64], answer[1024];
	struct nlmsghdr *head = mnl_nlmsg_put_header(mem);
	struct nfgenmsg *nf;
	int64_t generation = -1;

	/* asking again would try to load the module each time */
	if (g->no_generation)
		return -1;
	head->nlmsg_type = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETGEN;
	head->nlmsg_flags = NLM_F_REQUEST;
	head->nlmsg_seq = ++g->seq;
	nf = mnl_nlmsg_put_extra_header(head, sizeof(*nf));
	nf->nfgen_family = AF_UNSPEC;
	nf->version = NFNETLINK_V0;
	nf->res_id = 0;
	if (gate_exchange(g, head, answer, sizeof(answer)) == 0)
		(void)mnl_attr_parse((const void *)answer,
			sizeof(struct nfgenmsg), find_generation, &generation);
	g->no_generation = generation < 0;
	return generation;
}
