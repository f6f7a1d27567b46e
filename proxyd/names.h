/*
 * names.h - which addresses the configured servers have
 *
 * Every host of the configuration (conf_host(): a server, or its
 * submission_host) is one `server' here. Its name is resolved (A and AAAA) and
 * resolved again when its TTL is over; an address stays known for seven days
 * after it was last seen, for big providers rotate thousands and another resolver
 * gives others. Literal addresses of the configuration are always known. Control
 * only.
 */
#ifndef SALLYPORT_NAMES_H
#define SALLYPORT_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/addr.h"

struct conf;
struct event_base;
struct names;

struct known_addr {
	struct addr addr;	/* port 0 */
	int64_t seen;		/* CLOCK_MONOTONIC seconds; literal: 0 */
	bool literal;		/* from the configuration */
	bool refused;		/* nobody is connected to such an address */
	bool shared;		/* an earlier server has it; this one lost it */
	bool announced;		/* the callback has been told */
};

struct names_calls {
	/* An address begins or ceases to belong to a server or host. false: could not
	 * be passed on, ask again later. Literal ones are not announced. */
	bool (*announce)(void *arg, size_t server, const struct addr *a,
		bool add);
	/* The list of some server has changed. */
	void (*changed)(void *arg);
	/* Each name has been answered, or has failed, once. */
	void (*known)(void *arg);
};

/* NULL: no memory or no resolver (message logged). The first queries leave at
 * once; calls are made from the loop. */
struct names *names_new(struct event_base *base, const struct conf *conf,
	const struct names_calls *calls, void *arg);
void names_free(struct names **n);

/* An address the predecessor of this process knew; counts as seen now. */
void names_learn(struct names *n, size_t server, const struct addr *a);

/* All known of a server, refused and shared ones included. */
const struct known_addr *names_list(const struct names *n, size_t server,
	size_t *count_r);

/* Seconds for which this name has failed to resolve, -1: it resolves. */
int64_t names_failing(const struct names *n, size_t server);

#endif
