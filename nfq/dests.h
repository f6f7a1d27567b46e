/*
 * dests.h - where the lines of a class in `watch' go
 *
 * For each class the destinations that were tried most, in memory shared by
 * parent, nfq and control: written by nfq only, read by control. It outlives
 * nfq, not the daemon. Fixed size, 1 MB in all, whoever sends what.
 *
 * Space-Saving (Metwally, Agrawal and El Abbadi, 2005), set-associative so that
 * an update looks at eight entries: a destination that finds no room takes the
 * place of the smallest of its set and inherits its count as error. The truth
 * lies between attempts - error and attempts. Sets are chosen by a keyed hash,
 * because bots choose destinations.
 */
#ifndef SALLYPORT_DESTS_H
#define SALLYPORT_DESTS_H

#include <stddef.h>
#include <stdint.h>

#include "lib/addr.h"

/* Classes that can be kept apart, and destinations of one. A class beyond that
 * is counted in the table of lines, without destinations. */
#define DESTS_CLASSES 64
#define DESTS_EACH 256

struct dests;

struct dest {
	struct addr addr;	/* port 0, NAT64 decoded */
	uint64_t attempts;	/* first packets, retransmissions apart */
	uint64_t error;		/* at most so many of them are others' */
	double lines;		/* distinct lines, linear counting: at 128 bits
				 * ends at 621 (Whang et al., 1990) */
};

/* For the parent, before it forks. NULL without memory. */
struct dests *dests_new(void);

/* Unix time since which it counts. */
int64_t dests_since(const struct dests *d);

/* The place of a class, made when there is none; it stays with the name over a
 * reload. -1: all are taken. For the writer. */
int dests_place(struct dests *d, const char *class);

/* One first packet. line: any hash of the line that a sender cannot choose. */
void dests_count(struct dests *d, int place, const struct addr *to,
	uint32_t line);

/* The destinations of a class, most attempts first; *all_r: attempts at all
 * destinations. How many were written, at most DESTS_EACH. */
size_t dests_list(const struct dests *d, const char *class,
	struct dest out[DESTS_EACH], uint64_t *all_r);

#endif
