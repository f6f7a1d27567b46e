/*
 * control.h - the parts of the control process, for its own files only
 *
 * control.c  loop, messages of the parent, streams of the relays, events
 * ctlsock.c  operators: the control socket
 * names.c    names of servers (names.h)
 */
#ifndef SALLYPORT_CONTROL_H
#define SALLYPORT_CONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "conf/conf.h"
#include "proxyd/msg.h"
#include "proxyd/names.h"

struct event;
struct event_base;
struct nfq_counts;
struct table;

#define RELAYS_MAX 250
#define CLIENTS_MAX 32
#define REQUEST_MAX 128

struct relay {			/* a slot as control sees it */
	struct control *control;
	int fd;			/* stream, -1: none */
	struct event *readable, *writable;
	uint8_t *in;		/* a record that is not whole yet, and room */
	size_t nin;
	uint8_t *out;		/* the snapshot that is being sent */
	size_t nout, out_at;
	bool stale;		/* another snapshot has to follow */
	pid_t pid;		/* 0: not running */
	unsigned restarts;
	struct counters now;	/* of the running process */
	struct counters past;	/* of its predecessors, sums */
};

struct gate_view {
	uint16_t port;		/* 0: unused */
	uint8_t state;		/* of MSG_GATE */
};

struct client {
	struct client *next;
	struct control *control;
	int fd;
	struct event *ev;
	uid_t uid;
	char request[REQUEST_MAX];
	size_t nrequest;
	char *answer;
	size_t nanswer, answer_at;
	bool waits_for_reload;
};

struct control {
	struct event_base *base;
	const struct conf *conf;
	int64_t started;	/* of the daemon, ms of CLOCK_MONOTONIC */
	int parent;
	struct event *ev_parent, *ev_listener, *ev_retry;
	int listener;
	struct names *names;
	bool must_say_known;
	bool draining;
	struct relay relay[RELAYS_MAX];
	size_t nrelays;		/* highest slot in use + 1 */
	struct gate_view gate[4];
	pid_t parent_pid;
	unsigned restarts;	/* of control itself */
	pid_t nfq_pid;
	unsigned nfq_restarts;
	struct table *table;	/* NULL: none is kept */
	const struct nfq_counts *nfq_counts;	/* NULL: no queue is read */
	uint64_t events;	/* written by this process */
	struct client *clients;
	size_t nclients;
};

/* ---- control.c ---- */

/* Ask the parent; -1: it takes no message now. */
int control_ask(struct control *c, enum msg_type type);
/* A client has gone: perhaps nothing is left to wait for. */
void control_check_drained(struct control *c);

/* ---- ctlsock.c ---- */

/* Begin to take operators on c->listener. 0 or -1. */
int ctlsock_open(struct control *c);
/* Take no more; those that wait for an answer still get it. */
void ctlsock_shut(struct control *c);
void ctlsock_close(struct control *c);
/* The parent has answered a reload. */
void ctlsock_reloaded(struct control *c, bool done);

#endif
