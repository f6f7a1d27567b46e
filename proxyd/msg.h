/*
 * msg.h - what the processes say to each other
 *
 * parent <-> relay and parent <-> control: struct msg over SEQPACKET (ipc.h).
 * relay <-> keeper: keeper.h, over SEQPACKET too.
 * relay <-> control: struct record over a stream, written once per loop turn.
 * All sizes are fixed; a receiver checks every field and treats an impossible
 * one as a broken peer: it says so and cuts the channel, it never dies of it.
 */
#ifndef SALLYPORT_MSG_H
#define SALLYPORT_MSG_H

#include <stdint.h>

#include "conf/allowmap.h"
#include "lib/addr.h"
#include "proxyd/event.h"

/* Sockets the parent hands over at once, and what a relay keeps ready. */
#define SOCKET_BATCH 64

enum msg_type {
	/* parent -> any child */
	MSG_PING = 1,		/* n: sequence; answered by MSG_PONG within 2 s */
	MSG_DRAIN,		/* n: seconds: stop accepting, end what runs;
				 * m: 1 nobody succeeds, the daemon ends */
	/* parent -> relay */
	MSG_SOCKETS,		/* n: 4 or 6; descriptors: fresh upstream sockets */
	MSG_CONTROL,		/* one descriptor: stream to control (replaces) */
	MSG_OWN,		/* n: enum snapshot_op; addr: with ADD, an address
				 * of this gateway */
	MSG_KEEPER,		/* one descriptor: channel to the keeper
				 * (replaces); keeper.h */
	/* parent -> control, keeper */
	MSG_RELAY,		/* n: slot; one descriptor: stream, or channel,
				 * to that relay */
	/* parent -> keeper */
	MSG_SECRET,		/* n: index of an account; one descriptor: its
				 * file, or none: it cannot be read */
	MSG_TICKET_KEY,		/* n: 1 it is the one before; ticket: from now on */
	/* parent -> control */
	MSG_GATE,		/* n: port; m: 0 shut, 1 SYN only, 2 all, 3 the
				 * rules are not applied */
	MSG_PROC,		/* n: slot (255 control, 254 parent, 253 nfq,
				 * 252 keeper); m: restarts;
				 * pid: process id, 0: not running */
	/* child -> parent */
	MSG_PONG,		/* n: the ping's; m: sessions held */
	MSG_NEED,		/* n: 4 or 6: send a batch of upstream sockets */
	MSG_DRAINED,		/* nothing left, about to exit 0 */
	/* control -> parent */
	MSG_SERVER_ADDR,	/* n: conf_host(); m: 1 add, 0 delete; addr.
				 * The other way: what an earlier control knew */
	MSG_SERVERS_KNOWN,	/* the first answers are in: the gate may open */
	MSG_RELOAD,		/* an operator asked for a reload */
	MSG_ALLOW,		/* n: 1 add, 0 delete; allow; m: cookie */
	MSG_ALLOW_ALL,		/* n: items; m: cookie; one descriptor: a sealed
				 * memfd with that many struct allow_item, all of
				 * the ledger's entries; again: the last
				 * MSG_ALLOW_AGAIN that was heard before the
				 * ledger was read */
	MSG_ALLOW_CHECK,	/* rules were applied: look at the sets now */
	MSG_HOOK,		/* one descriptor: a sealed memfd, at most
				 * HOOK_OCTETS, for zombie.hook to read */
	/* parent -> control */
	MSG_RELOADED,		/* the answer; n: 1 done, 0 refused (see log) */
	MSG_ALLOWED,		/* n: cookie; m: 0 in force, 1 rules are not
				 * applied, 2 the sets refused it, 3 the daemon
				 * is leaving */
	MSG_ALLOW_AGAIN,	/* n: number; a control that is leaving has
				 * changed the ledger: read it, tell all of it */
	MSG_HOOKED		/* n: enum hook_answer, to each MSG_HOOK */
};

/* What became of it: the program has ended, however; another one is running; it
 * is configured no more. */
enum hook_answer { HOOK_RAN, HOOK_BUSY, HOOK_NONE };

#define HOOK_OCTETS 8192

/* Of session tickets of published servers: AES-256-CBC, HMAC-SHA-256; name tells
 * which key it was. */
struct ticket_key {
	uint8_t name[16];
	uint8_t cipher[32];
	uint8_t mac[32];
};

struct msg {
	uint32_t type;
	uint32_t n;
	uint32_t m;
	int32_t pid;
	struct addr addr;
	uint32_t again;
	struct allow_item allow;
	struct ticket_key ticket;
};

enum record_type {
	RECORD_EVENT = 1,	/* relay -> control */
	RECORD_COUNTERS,	/* relay -> control, once a second when changed */
	RECORD_SERVER,		/* control -> relay: u.server; a snapshot is
				 * FIRST, any number of ADD, then LAST */
	RECORD_ALLOW		/* control -> relay: u.allow: entries of the
				 * ledger that are not `pass' (those never reach
				 * a relay). A snapshot as above, before that of
				 * the servers; single ADD and DELETE later */
};

enum snapshot_op {
	SNAPSHOT_FIRST = 1, SNAPSHOT_ADD, SNAPSHOT_LAST, SNAPSHOT_DELETE
};

struct counters {
	uint64_t sessions_now, sessions_total;
	uint64_t by_kind[EVENT_COUNT];
	uint64_t refused_descriptors, refused_per_line;
	uint64_t tls_full, tls_resumed;
	uint64_t events_lost;	/* the stream to control was full */
};

struct server_addr {
	uint32_t op;		/* enum snapshot_op */
	uint32_t server;	/* conf_host() (ADD) */
	struct addr addr;
};

#define ALLOW_RECORD_MAX 12

struct allow_record {
	uint32_t op;		/* enum snapshot_op */
	uint32_t n;		/* items of an ADD or DELETE */
	struct allow_item item[ALLOW_RECORD_MAX];
};

struct record {
	uint32_t type;
	uint32_t pad;
	union {
		struct report event;
		struct counters counters;
		struct server_addr server;
		struct allow_record allow;
	} u;
};

#endif
