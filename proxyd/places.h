/*
 * places.h - the listeners of published servers, and what is shown there
 *
 * Internal to the parent; relays are told with struct relay_start.
 */
#ifndef SALLYPORT_PLACES_H
#define SALLYPORT_PLACES_H

#include <stddef.h>

#include "conf/conf.h"

struct places {
	size_t n;
	unsigned workers;
	struct publish_place *place;
	int *fd;		/* of place i and slot s: fd[i * workers + s] */
	int bundle;		/* certificates and keys: serve.h; -1: none */
};

/*
 * All places of a configuration with a listener for each of its relay slots.
 * What old has as well is the same open file: nothing queued there is lost.
 * Messages that name who is in the way, and NULL. old stays as it is.
 */
struct places *places_open(const struct conf *conf, const struct places *old);
void places_close(struct places **p);

#endif
