/*
 * upstream.h - which server an origin is, and how a relay gets there
 *
 * A relay may not call socket(2): it uses sockets that the parent made (marked,
 * transparent) and handed over, and connects them only where
 * upstream_allowed() says so. Server addresses come from control as snapshots,
 * the gateway's own addresses from the parent.
 */
#ifndef SALLYPORT_UPSTREAM_H
#define SALLYPORT_UPSTREAM_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "lib/addr.h"

struct conf;
struct msg;
struct publish_conf;
struct server_addr;
struct upstream;

/* Somebody who waits for a socket; woken once, then no longer in the list. */
struct upstream_waiter {
	TAILQ_ENTRY(upstream_waiter) link;
	void (*wake)(struct upstream_waiter *w);
	bool waiting;
	bool six;
};

/* need: called to ask the parent for a batch (family 4 or 6); false: it could
 * not be asked, so the next dial asks again. */
struct upstream *upstream_new(const struct conf *conf,
	bool (*need)(void *arg, unsigned family), void *arg);
void upstream_free(struct upstream **u);

/* Snapshots. */
void upstream_server(struct upstream *u, const struct server_addr *a);
void upstream_own(struct upstream *u, const struct msg *m);
/* Takes the descriptors over. */
void upstream_sockets(struct upstream *u, unsigned family, const int *fds,
	int n);

/* Both snapshots have come: who an origin is can be said. */
bool upstream_is_ready(const struct upstream *u);

/*
 * The address of server's submission_host that is tried at the nth attempt
 * (0, 1, ...): those of family first, then, unless connections to the server
 * carry the lines' own addresses, the others. spread: which one comes first.
 * false: there is none, or no more.
 */
bool upstream_host(const struct upstream *u, int server, uint8_t family,
	unsigned spread, unsigned nth, struct addr *host_r);

/* Index of the listed server at this address, or -1. */
int upstream_find(const struct upstream *u, const struct addr *origin);

bool upstream_is_own(const struct upstream *u, const struct addr *a);

/* NULL: may be connected to. Otherwise why not, as a word. */
const char *upstream_allowed(const struct upstream *u, const struct addr *to);

enum dial {
	DIAL_STARTED,	/* *fd_r connects; writable or error says more */
	DIAL_WAIT,	/* no socket now: w is queued and will be woken */
	DIAL_FORBIDDEN,
	DIAL_FAILED	/* errno says why */
};

/*
 * Connect to to. source = "client": from the line's own address line and a port
 * of source_ports; else from the gateway's pool. server: index of the one whose
 * servers.source counts; -1: gateway.source does.
 */
enum dial upstream_dial(struct upstream *u, const struct addr *to,
	const struct addr *line, int server, struct upstream_waiter *w,
	int *fd_r);

/*
 * Connect to the server behind a published one, from wherever the routing table
 * says; to must be it and one of its ports, and may be on loopback or private,
 * where nobody else is let.
 */
enum dial upstream_dial_inner(struct upstream *u, const struct publish_conf *p,
	const struct addr *to, struct upstream_waiter *w, int *fd_r);

void upstream_forget(struct upstream *u, struct upstream_waiter *w);

/* A spare descriptor to close in need, or -1. */
int upstream_spare(struct upstream *u);

#endif
