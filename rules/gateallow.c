/*
 * gateallow.c - the allowlist's kernel sets, by netlink
 *
 * Does: adds and deletes single prefixes of sallyport_allow and
 * sallyport_acarry, and replaces a whole set: a second one is created, filled a
 * thousand elements a message, and swapped in, so that no packet is ever judged
 * by half a list. Uses the messages of gate.c.
 * Does not: know what belongs into a set (proxyd/allowkeeper.c), or create one
 * that `rules apply' has not created: without rules there is nothing to swap.
 *
 * Called by the parent. Prefixes come from the operator through the control
 * process and were checked; each names one element.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "rules/gate_impl.h"
#include "rules/sets.h"

/* Newest first; from 2 on a set knows nomatch. Not in the kernel's headers. */
#define REVISION_NEWEST 7
#define REVISION_OLDEST 2
/* IPSET_ERR_FIND_TYPE: the kernel has no such type or revision. */

/* Not the second sets of `rules apply': both may be at work at once. */
#define SECOND SET_FILLING

static const char *
name_of(char out[SET_NAME_SIZE + sizeof(SECOND)], enum allow_set set,
	uint8_t family, bool second)
{
	set_name(out, set == ALLOW_SET_DIRECT ? SET_ALLOW : SET_ACARRY, family);
	if (second)
		memcpy(out + strlen(out), SECOND, sizeof(SECOND));
	return out;
}

static void
put_u32(struct nlmsghdr *head, uint16_t type, uint32_t value)
{
	mnl_attr_put_u32(head, type | NLA_F_NET_BYTEORDER, htonl(value));
}

static void
put_element(struct nlmsghdr *head, const struct prefix *p, bool hole,
	bool timeout, int64_t seconds)
{
	struct nlattr *ip = mnl_attr_nest_start(head, IPSET_ATTR_IP);
	bool v4 = p->family == AF_INET;

	mnl_attr_put(head, (uint16_t)((v4 ? IPSET_ATTR_IPADDR_IPV4 :
		IPSET_ATTR_IPADDR_IPV6) | NLA_F_NET_BYTEORDER), v4 ? 4 : 16,
		p->ip);
	mnl_attr_nest_end(head, ip);
	mnl_attr_put_u8(head, IPSET_ATTR_CIDR, p->len);
	if (timeout)
		put_u32(head, IPSET_ATTR_TIMEOUT, seconds > SET_TIMEOUT_MAX ?
			SET_TIMEOUT_MAX : (uint32_t)seconds);
	if (hole)
		put_u32(head, IPSET_ATTR_CADT_FLAGS, IPSET_FLAG_NOMATCH);
}

int
gate_allow(struct gate *g, enum allow_set set, bool second,
	const struct prefix *p, enum element element, int64_t seconds)
{
	char name[SET_NAME_SIZE + sizeof(SECOND)], mem[512], answer[1024];
	bool add = element != ELEMENT_NONE;
	struct nlmsghdr *head;
	struct nlattr *data;
	int error;

	name_of(name, set, p->family, second);
	head = gate_message(mem, g, add ? IPSET_CMD_ADD : IPSET_CMD_DEL,
		p->family, name, 0);
	data = mnl_attr_nest_start(head, IPSET_ATTR_DATA);
	put_element(head, p, element == ELEMENT_HOLE, true, add ? seconds : 0);
	mnl_attr_nest_end(head, data);
	error = gate_exchange(g, head, answer, sizeof(answer));
	/* deleting what is not there; ENOENT is a set that does not exist */
	if (error == 0 || (!add && error == IPSET_ERR_EXIST))
		return 0;
	return gate_refused(g, name, error);
}

static int
find_count(const struct nlattr *attr, void *arg)
{
	int64_t *count = arg;

	if (mnl_attr_get_type(attr) == IPSET_ATTR_ELEMENTS &&
	    mnl_attr_validate(attr, MNL_TYPE_U32) >= 0)
		*count = ntohl(mnl_attr_get_u32(attr));
	return MNL_CB_OK;
}

static int
find_data(const struct nlattr *attr, void *arg)
{
	if (mnl_attr_get_type(attr) == IPSET_ATTR_DATA)
		(void)mnl_attr_parse_nested(attr, find_count, arg);
	return MNL_CB_OK;
}

int64_t
gate_set_count(struct gate *g, const char *name, uint8_t family)
{
	char mem[256], answer[8192];
	const struct nlmsghdr *h = (const void *)answer;
	struct nlmsghdr *head;
	int64_t count = -1;
	int error;

	head = gate_message(mem, g, IPSET_CMD_LIST, family, name, NLM_F_DUMP);
	put_u32(head, IPSET_ATTR_FLAGS, IPSET_FLAG_LIST_HEADER);
	error = gate_exchange(g, head, answer, sizeof(answer));
	if (error != 0)
		return gate_refused(g, name, error);
	(void)mnl_attr_parse(h, sizeof(struct nfgenmsg), find_data, &count);
	return count;
}

int64_t
gate_allow_count(struct gate *g, enum allow_set set, uint8_t family)
{
	char name[SET_NAME_SIZE + sizeof(SECOND)];

	name_of(name, set, family, false);
	return gate_set_count(g, name, family);
}

/* ---- replacing a whole set ---- */

static size_t
power_of_two(size_t least, size_t n)
{
	while (least < n)
		least *= 2;
	return least;
}

static int
create(struct gate *g, const char *name, uint8_t family, size_t n,
	uint8_t revision)
{
	char mem[512], answer[1024];
	struct nlmsghdr *head = gate_message(mem, g, IPSET_CMD_CREATE, family,
		name, NLM_F_CREATE | NLM_F_EXCL);
	struct nlattr *data;

	mnl_attr_put_strz(head, IPSET_ATTR_TYPENAME, "hash:net");
	mnl_attr_put_u8(head, IPSET_ATTR_REVISION, revision);
	mnl_attr_put_u8(head, IPSET_ATTR_FAMILY, family);
	data = mnl_attr_nest_start(head, IPSET_ATTR_DATA);
	/* as render.c has it for the same number of entries */
	put_u32(head, IPSET_ATTR_HASHSIZE, (uint32_t)power_of_two(1024, n));
	put_u32(head, IPSET_ATTR_MAXELEM,
		(uint32_t)power_of_two((size_t)1 << 21, n * 2));
	put_u32(head, IPSET_ATTR_TIMEOUT, 0);
	mnl_attr_nest_end(head, data);
	return gate_exchange(g, head, answer, sizeof(answer));
}

int
gate_allow_create(struct gate *g, enum allow_set set, uint8_t family, size_t n)
{
	char name[SET_NAME_SIZE + sizeof(SECOND)];
	int error = IPSET_ERR_FIND_TYPE;

	name_of(name, set, family, true);
	gate_allow_drop(g, set, family);
	if (g->revision != 0)
		error = create(g, name, family, n, (uint8_t)g->revision);
	else
		for (g->revision = REVISION_NEWEST; g->revision >=
			REVISION_OLDEST; g->revision--) {
			error = create(g, name, family, n,
				(uint8_t)g->revision);
			if (error != IPSET_ERR_FIND_TYPE)
				break;
		}
	if (error == 0)
		return 0;
	g->revision = 0;
	return gate_refused(g, name, error);
}

int
gate_fill(struct gate *g, const char *name, uint8_t family, bool timeout,
	const struct allow_element *e, size_t n)
{
	/* 64 octets an element; a nested attribute ends at 65535 */
	static char mem[ALLOW_FILL_MAX * 64 + 512]
		__attribute__((aligned(4)));
	struct nlattr *all, *data;
	struct nlmsghdr *head;
	char answer[1024];
	int error;

	if (n > ALLOW_FILL_MAX)
		return -1;
	head = gate_message(mem, g, IPSET_CMD_ADD, family, name, 0);
	put_u32(head, IPSET_ATTR_LINENO, 0);
	all = mnl_attr_nest_start(head, IPSET_ATTR_ADT);
	for (size_t i = 0; i < n; i++) {
		data = mnl_attr_nest_start(head, IPSET_ATTR_DATA);
		put_element(head, &e[i].prefix, e[i].element == ELEMENT_HOLE,
			timeout, e[i].seconds);
		mnl_attr_nest_end(head, data);
	}
	mnl_attr_nest_end(head, all);
	error = gate_exchange(g, head, answer, sizeof(answer));
	return error == 0 ? 0 : gate_refused(g, name, error);
}

int
gate_allow_fill(struct gate *g, enum allow_set set, uint8_t family,
	const struct allow_element *e, size_t n)
{
	char name[SET_NAME_SIZE + sizeof(SECOND)];

	return gate_fill(g, name_of(name, set, family, true), family, true, e,
		n);
}

int
gate_allow_swap(struct gate *g, enum allow_set set, uint8_t family)
{
	char one[SET_NAME_SIZE + sizeof(SECOND)];
	char two[SET_NAME_SIZE + sizeof(SECOND)], mem[256], answer[1024];
	struct nlmsghdr *head;
	int error;

	name_of(one, set, family, true);
	name_of(two, set, family, false);
	head = gate_message(mem, g, IPSET_CMD_SWAP, family, one, 0);
	mnl_attr_put_strz(head, IPSET_ATTR_SETNAME2, two);
	error = gate_exchange(g, head, answer, sizeof(answer));
	if (error == EBUSY)
		return 1;
	return error == 0 ? 0 : gate_refused(g, two, error);
}

void
gate_allow_drop(struct gate *g, enum allow_set set, uint8_t family)
{
	char name[SET_NAME_SIZE + sizeof(SECOND)], mem[256], answer[1024];

	name_of(name, set, family, true);
	(void)gate_exchange(g, gate_message(mem, g, IPSET_CMD_DESTROY, family,
		name, 0), answer, sizeof(answer));
}
