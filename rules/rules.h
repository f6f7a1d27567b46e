/*
 * rules.h - everything Sallyport owns in the kernel
 *
 * Two users. The CLI applies, verifies and removes the whole installation
 * (chains, sets, policy routes) with iptables-restore, ipset and ip. The
 * parent of the daemon touches only elements of our own sets, through netlink
 * and without starting a process: the gate each second, server addresses when
 * names change.
 *
 * Names of what we own: chains and sets begin with "sallyport". Sets come in
 * pairs NAME4 (family inet) and NAME6 (inet6), except the two port bitmaps.
 */
#ifndef SALLYPORT_RULES_H
#define SALLYPORT_RULES_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "lib/addr.h"

struct conf;

/* bitmap:port sets: captured at all; captured beyond the SYN; first packets
 * queued to nfq. The last holds the far end's port: 25, and with nfq.submission
 * 465 and 587; refreshed only while nfq answers. */
#define SET_LIVE "sallyport_live"
#define SET_ALL "sallyport_all"
#define SET_NFQ "sallyport_nfq"

/* Always empty. It exists while the rules are those of capture = "redirect", so
 * that a daemon sees whether what they would hand it is what it can take. */
#define SET_REDIRECT "sallyport_redirect"

/* A port leaves the gate this many seconds after its last refresh. */
#define GATE_SECONDS 5

/* hash:net sets the daemon fills (address families appended by the code). */
enum addr_set {
	ADDR_SET_OWN,	/* sallyport_own: the provider's hosts, pass_destinations */
	ADDR_SET_POP3,	/* sallyport_pop3: listed servers with pop3 */
	ADDR_SET_IMAP,	/* sallyport_imap: listed servers with imap */
	ADDR_SET_COUNT
};

/* ---- CLI side: each returns the process exit status (0 ok, 1 failed or
 * differs, 2 usage/configuration) and explains itself on err. ---- */

struct rules_options {
	bool json;
	const char *program;	/* for "run `sallyport ... '" hints */
};

/* Exactly what apply would do, each rule with its purpose. */
int rules_show(const struct conf *c, const struct rules_options *o, FILE *out);
int rules_apply(const struct conf *c, const struct rules_options *o, FILE *out,
	FILE *err);
/* Names each difference between what should be and what is; warnings about
 * foreign rules that no longer see proxied traffic (FORWARD drops, MSS clamps)
 * do not change the exit status. */
int rules_verify(const struct conf *c, const struct rules_options *o, FILE *out,
	FILE *err);
/* Needs no valid configuration of our own; removes what is ours by name. */
int rules_remove(const struct conf *c, const struct rules_options *o, FILE *out,
	FILE *err);

/* ---- bypass: traffic that is left alone for a while. Works on the kernel's
 * sets directly, with or without a daemon or a readable configuration. ---- */

enum bypass_kind { BYPASS_LINE, BYPASS_DESTINATION, BYPASS_ALL };

struct bypass {
	enum bypass_kind kind;
	struct prefix prefix;	/* not of BYPASS_ALL */
	int64_t seconds;	/* left */
};

/* When a bypass ends only new connections are captured for so long, as after
 * an opening of the gate (the default of gateway.grace). */
#define BYPASS_GRACE 120
/* The most seconds of one: what a set can count, less the grace. */
#define BYPASS_MAX (2147483 - BYPASS_GRACE)

/* 0, or -1 with the reason on err: no rules, no privilege. Adding what is
 * there gives it the new time. */
int bypass_add(const struct bypass *list, size_t n, FILE *err);
int bypass_end(const struct bypass *list, size_t n, FILE *err);

/* All that hold now; the caller frees *list_r. */
int bypass_list(struct bypass **list_r, size_t *n_r, FILE *err);

/* Is the first address of p a subscriber's, by the rules that are applied?
 * 1, 0 or -1. */
int bypass_is_line(const struct prefix *p, FILE *err);

/* ---- daemon side: is what was applied still there? Both start tools and wait
 * for them, and for whoever changes rules just now: a process of its own. ---- */

enum rules_state {
	RULES_NONE,	/* never applied, removed on purpose, or for another
			 * gateway.capture */
	RULES_GOOD,
	RULES_LOST,	/* somebody else took or changed some of them */
	RULES_UNKNOWN	/* it could not be found out */
};

struct rules_loss {
	int n;			/* differences */
	char first[200];	/* the first, or what went wrong */
};

enum rules_state rules_look(const struct conf *c, struct rules_loss *loss_r);
/* Apply again, if they are meant to be there. 0, or -1 with what went wrong. */
int rules_repair(const struct conf *c, struct rules_loss *why_r);

/* ---- daemon side ---- */

struct gate;

/* NULL: no netfilter netlink (message logged). Needs CAP_NET_ADMIN. */
struct gate *gate_open(void);
void gate_close(struct gate **g);

/*
 * Keep a port in the set for another GATE_SECONDS. 1: it was there; 0: it was
 * not (the gate has just been opened); -1: the set does not exist or the
 * kernel refused (rules not applied).
 */
int gate_refresh(struct gate *g, const char *set, uint16_t port);
/* Is the port in the set now? 1, 0, or -1 as above. */
int gate_test(struct gate *g, const char *set, uint16_t port);
/* Take a port out at once. 0, also when it was not there; -1 no such set. */
int gate_shut(struct gate *g, const char *set, uint16_t port);

/* Elements of any set, by its name and family; -1: no such set. */
int64_t gate_set_count(struct gate *g, const char *name, uint8_t family);

/* A number that changes whenever rules of nftables (also iptables-nft) do; -1:
 * this kernel cannot say. */
int64_t gate_generation(struct gate *g);

/* Add or delete one address of a set; adding twice and deleting what is not
 * there are no errors. 0 or -1. */
int gate_addr(struct gate *g, enum addr_set set, const struct addr *a, bool add);
int gate_prefix(struct gate *g, enum addr_set set, const struct prefix *p,
	bool add);

/* ---- daemon side: the allowlist (gateallow.c) ---- */

enum allow_set {
	ALLOW_SET_DIRECT,	/* sallyport_allow */
	ALLOW_SET_CARRY,	/* sallyport_acarry */
	ALLOW_SET_COUNT
};

enum element {
	ELEMENT_NONE, ELEMENT_MATCH,
	ELEMENT_HOLE	/* nomatch: something shorter matches around it */
};

/*
 * Bring one element of a set to a state. seconds: until it expires, 0: never;
 * more than the kernel counts is cut. second: in the set that is being filled
 * (below). 0, also when it was so; -1 no such set, or refused.
 */
int gate_allow(struct gate *g, enum allow_set set, bool second,
	const struct prefix *p, enum element element, int64_t seconds);
/* Elements that have not expired; -1: no such set. */
int64_t gate_allow_count(struct gate *g, enum allow_set set, uint8_t family);

/*
 * Replace all: create a second, empty set for n elements, fill it with
 * gate_allow_fill() in as many turns as the caller likes, swap it with the
 * one in use, and drop it. Each 0 or -1; the swap also 1: somebody lists one of
 * the two just now, and the kernel wants it asked again.
 */
int gate_allow_create(struct gate *g, enum allow_set set, uint8_t family,
	size_t n);
int gate_allow_swap(struct gate *g, enum allow_set set, uint8_t family);
void gate_allow_drop(struct gate *g, enum allow_set set, uint8_t family);

struct allow_element {
	struct prefix prefix;
	enum element element;	/* not NONE */
	int64_t seconds;
};

/* At most this many elements in one call. */
#define ALLOW_FILL_MAX 1024
int gate_allow_fill(struct gate *g, enum allow_set set, uint8_t family,
	const struct allow_element *e, size_t n);
/* The same for any hash:net; timeout: its elements may expire. */
int gate_fill(struct gate *g, const char *set, uint8_t family, bool timeout,
	const struct allow_element *e, size_t n);

#endif
