/*
 * relay.h - what the sessions of one relay process share
 */
#ifndef SALLYPORT_RELAY_H
#define SALLYPORT_RELAY_H

#include <event2/event.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "proxyd/chan.h"
#include "proxyd/event.h"
#include "proxyd/msg.h"
#include "proxyd/proto.h"
#include "zombie/detect.h"

struct adaptive;
struct conf;
struct lines;
struct logins;
struct offers;
struct serve;
struct session;
struct table;
struct tally;
struct tlsseen;
struct tls;
struct upstream;

/* Output of one machine call: see proto.h, SINK_ROOM. */
#define SINK_SIZE (64u * 1024u)

TAILQ_HEAD(session_list, session);

struct relay {
	const struct conf *conf;
	struct event_base *base;
	struct upstream *upstream;
	struct tls *tls;
	struct serve *serve;	/* NULL: nothing is published */
	struct adaptive *adaptive;
	struct offers *offers;
	struct keeper_link *keeper;
	unsigned slow_now;	/* sessions in the tarpit */
	struct origins *origins;	/* NULL: smtp.unknown_origin = "block" */
	struct lines *lines;	/* shared, like the next */
	struct tally *tally;
	struct tlsseen *tlsseen;
	struct logins *logins;
	struct table *table;	/* of lines; NULL: none is kept */
	struct detect detect;
	struct scratch *scratch;
	uint8_t *sink[2];
	struct session_list sessions;
	struct counters counters;
	int slot;
	uint32_t sequence;	/* of event ids */
	bool draining;
};

/* Milliseconds of CLOCK_MONOTONIC. */
int64_t relay_now(void);

/* A new event id: time, slot and sequence. */
uint64_t relay_event_id(struct relay *r);

/* Queue the event for control; lost and counted when the stream is full. */
void relay_event(struct relay *r, const struct report *e);

#endif
