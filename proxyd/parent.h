/*
 * parent.h - the parts of the privileged process, for its own files only
 *
 * parent.c      start, signals, the one-second tick, reload, end
 * children.c    fork and supervision of the others
 * channel.c     messages between the parent and a child
 * gatekeeper.c  when the kernel may hand us connections; address sets
 * sockets.c     listeners, control socket, upstream sockets, own addresses
 * allowkeeper.c the allowlist's sets: file and ledger
 * rulekeeper.c  rules that somebody else takes away
 * hookkeeper.c  the operator's program that hears of levels
 * keyring.c     secrets of accounts on their way to the keeper
 * places.c      listeners of published servers, their certificates
 * ticketkeeper.c keys of their session tickets
 * daemon.c      leaving the terminal, telling the service manager
 *
 * One struct parent exists. All times are milliseconds of CLOCK_MONOTONIC.
 */
#ifndef SALLYPORT_PARENT_H
#define SALLYPORT_PARENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "conf/conf.h"
#include "lib/addr.h"
#include "nfq/queue.h"
#include "proxyd/adaptive.h"
#include "proxyd/lines.h"
#include "proxyd/logins.h"
#include "proxyd/tally.h"
#include "proxyd/tlsseen.h"
#include "proxyd/msg.h"
#include "rules/rules.h"

struct dests;
struct event;
struct event_base;
struct nfq_counts;
struct table;

/* Slots of MSG_PROC that are no relay; workers stay below. */
#define SLOT_CONTROL 255
#define SLOT_PARENT 254
#define SLOT_NFQ 253
#define SLOT_KEEPER 252
#define WORKERS_MAX 250

/* A child that has not answered a ping for this long is killed. */
#define SILENCE_MS 2000
#define START_MS 10000	/* the same, before its first answer */
#define TICK_MS 1000

struct unsent {			/* a message its child has no room for yet */
	struct unsent *next;
	struct msg msg;
	int nfds;
	int fds[SOCKET_BATCH];
};

struct child {
	struct child *next;
	struct parent *parent;
	int slot;		/* relay slot, or SLOT_* */
	uint8_t owner;		/* a relay's, lines.h; 0: none */
	pid_t pid;
	int fd;			/* channel, -1 once cut */
	struct event *readable, *writable;
	struct unsent *out, **out_end;
	size_t nout;
	bool leaving;		/* told to drain; not restarted */
	bool condemned;		/* SIGKILL is on its way */
	uint32_t pinged, ponged;	/* sequence numbers, 0: never */
	int64_t pinged_at, born;
	int64_t leave_by;	/* leaving: killed at this time */
	uint32_t sessions;	/* as of its last pong */
	unsigned needs;		/* MSG_NEED since the last tick */
};

struct slot {			/* what outlives the process in it */
	int listener4, listener6;	/* -1: none */
	unsigned restarts;
	unsigned rapid;		/* deaths in a row, each soon after the start */
	int64_t died_at;
	int64_t start_at;	/* 0: running; else when to fork again */
	pid_t dead_pid;		/* for the message about its successor */
	uint32_t dead_sessions;
	int dead_status;	/* of waitpid(2) */
};

struct server_known {
	struct addr *addr;	/* literal ones first */
	size_t n, nliteral;
};

enum gate_state {	/* as in MSG_GATE */
	GATE_SHUT, GATE_SYN, GATE_ALL, GATE_NO_RULES
};

struct port {
	uint16_t port;
	bool used;
	bool filled;		/* addresses are in the sets since the opening */
	enum gate_state state;
	int64_t opened_at;
};

struct probe {			/* a connection to our own listener */
	int fd;			/* -1: none under way */
	bool ok;		/* the last one was accepted and closed */
};

#define PORTS 3

struct hook {			/* hookkeeper.c */
	pid_t pid;		/* of the program, 0: none runs */
	pid_t asker;		/* the control that hears of its end */
	int64_t began, said_at;
	bool is_late;		/* it was killed */
	int said;		/* status of the failure that was said last */
	unsigned failed;	/* since then */
};

struct allowkeeper;
struct allowmap;
struct places;
struct rulekeeper;
struct seen;
struct tickets;

struct parent {
	struct event_base *base;
	struct conf *conf;
	const char *path;
	bool foreground;
	int64_t started;
	struct event *ev_tick, *ev_signal[4], *ev_reload;

	struct child *children;
	struct slot slot[WORKERS_MAX];	/* conf->workers of them */
	struct slot control_slot, nfq_slot, keeper_slot;
	struct seen *seen;	/* files of accounts: keyring.c */
	int control_listener;
	int queue;		/* netfilter queue, -1: none is read */
	struct adaptive *adaptive;
	struct lines *lines;
	struct tally *tally;
	struct tlsseen *tlsseen;
	struct logins *logins;
	struct table *table;
	struct nfq_counts *nfq_counts;
	struct dests *dests;

	int64_t ticked_at;
	uint32_t sequence;	/* of the last ping */
	unsigned ticks;
	bool stopping, reload_wanted;

	struct gate *gate;
	struct port port[PORTS];
	struct probe probe4, probe6;
	bool servers_known, said_no_rules;
	struct server_known *server;	/* conf->nservers of them */
	struct allowkeeper *allow;
	struct rulekeeper *rules;
	struct hook hook;
	struct places *places;	/* of publish */
	struct tickets *tickets;

	struct addr *own;
	size_t nown;
};

int64_t parent_now(void);

/* ---- children.c ---- */

/* Fork the relay of a slot, or control. 0, or -1 with a message. */
int child_start(struct parent *p, int slot);
/* SIGKILL, once, with the reason in the log. */
void child_condemn(struct child *c, const char *why);
/* The one in charge of a slot (not a leaving one), or NULL. */
struct child *child_of(struct parent *p, int slot);
/* After SIGCHLD: collect the dead and plan their successors. */
void children_reap(struct parent *p);
/* Fork every child whose time has come. */
void children_restart(struct parent *p);
/* Each tick: kill the silent (unless the parent itself was away), ping. */
void children_tick(struct parent *p, bool was_away);
/* Tell those now in charge to drain; they are no longer in charge. */
void children_retire(struct parent *p, unsigned seconds);
/* Has every relay answered its last ping? Else *slot_r is one that has not. */
bool children_answer(struct parent *p, int *slot_r);
/* Has this one, if there is one? */
bool child_answers(const struct child *c);
void children_send_own(struct parent *p, struct child *only);
/* Descriptors and memory of a child that is gone, or of all, in the parent. */
void child_free(struct child *c);

/* ---- channel.c ---- */

/* Begin to hear the child on fd. On -1 fd is closed. */
int channel_open(struct child *c, int fd);
/* Close the channel and forget what waits to be sent. */
void channel_cut(struct child *c);
/* Queue or send; a child whose queue is full is condemned. The descriptors
 * are closed here in every case. */
void child_send(struct child *c, const struct msg *m, const int *fds, int nfds);
void child_send_simple(struct child *c, enum msg_type type, uint32_t n,
	uint32_t m);

/* ---- gatekeeper.c ---- */

int gatekeeper_open(struct parent *p);
void gatekeeper_close(struct parent *p);
/* Each tick. was_away: every port counts as newly opened. */
void gatekeeper_tick(struct parent *p, bool was_away);
/* Shut every port now. */
void gatekeeper_shut(struct parent *p);
/* Put a new configuration in force (p->conf; the old one stays the caller's),
 * carry over what is known of servers that stay. -1: no memory, no change. */
int gatekeeper_reload(struct parent *p, struct conf *conf);
void gatekeeper_announce(struct parent *p, struct child *control);
/* MSG_SERVER_ADDR of control; -1: impossible, or more than is kept. */
int gatekeeper_server_addr(struct parent *p, const struct msg *m);

/* Rules are about to be brought back: as after an opening of the gate. */
void gatekeeper_grace(struct parent *p);
/* They are back: the servers' addresses into sets that may be new. */
void gatekeeper_refill(struct parent *p);

/* ---- rulekeeper.c ---- */

int rulekeeper_open(struct parent *p);
void rulekeeper_close(struct parent *p);
void rulekeeper_tick(struct parent *p);
/* There is a reason to look. */
void rulekeeper_soon(struct parent *p);
/* Was it the process of the rulekeeper that ended? */
bool rulekeeper_reaped(struct parent *p, pid_t pid, int status);

/* ---- hookkeeper.c ---- */

/* MSG_HOOK; fd stays the caller's. -1: it cannot be. */
int hookkeeper_ask(struct child *c, const struct msg *m, int fd);
void hookkeeper_tick(struct parent *p);
/* Another program, perhaps: whatever it does is news. */
void hookkeeper_reload(struct parent *p);
/* Was it the program that ended? */
bool hookkeeper_reaped(struct parent *p, pid_t pid, int status);
void hookkeeper_close(struct parent *p);

/* ---- keyring.c ---- */

/* A new keeper: the files of all accounts, the channels to all relays. */
void keyring_introduce(struct child *keeper);
/* A channel between these two. */
void keyring_connect(struct child *relay, struct child *keeper);
/* Each second: files that have changed. */
void keyring_tick(struct parent *p);
void keyring_close(struct parent *p);

/* ---- allowkeeper.c ---- */

int allowkeeper_open(struct parent *p);
void allowkeeper_close(struct parent *p);
/* Each second: what expires, what somebody else changed. */
void allowkeeper_tick(struct parent *p);
/* The allow file of another configuration. -1: no memory, no change. */
int allowkeeper_reload(struct parent *p, const struct conf *conf);
/* MSG_ALLOW, MSG_ALLOW_ALL (fd stays the caller's), MSG_ALLOW_CHECK; -1: it
 * cannot be. All but the last are answered with MSG_ALLOWED. */
int allowkeeper_change(struct child *c, const struct msg *m);
int allowkeeper_replace(struct child *c, const struct msg *m, int fd);
void allowkeeper_check(struct parent *p);
/* File and ledger, merged; whether control has told the ledger's yet. */
const struct allowmap *allowkeeper_list(const struct parent *p, bool *known_r);

/* ---- sockets.c ---- */

/* All listeners and the control socket; -1 with a message. */
int sockets_open(struct parent *p);
void sockets_close(struct parent *p);
/* Up to SOCKET_BATCH upstream sockets of a family (4 or 6) into fds[]; how
 * many, 0 with a message when there are none to be had. */
int sockets_upstream(const struct conf *conf, int family, int fds[SOCKET_BATCH]);
/* Read the gateway's own addresses again; true when they changed. */
bool sockets_own_addresses(struct parent *p);
/* How the netfilter queue is bound and what a reset is marked with. */
struct queue_conf sockets_queue_conf(const struct conf *conf);
/* Non-blocking connection to our own listener, -1. */
int sockets_probe(int family, uint16_t port);

/* ---- ticketkeeper.c ---- */

int ticketkeeper_open(struct parent *p);
void ticketkeeper_close(struct parent *p);
/* Each tick: a new key when it is time, for every relay. */
void ticketkeeper_tick(struct parent *p);
/* What a new relay has to know before it accepts. */
void ticketkeeper_introduce(struct child *c);

/* ---- daemon.c ---- */

/* Go into the background. Returns in the daemon only; the caller's process
 * waits for daemon_ready() and exits 0, or 1 when the daemon ends before. */
void daemon_detach(void);
/* Everything that can fail has been done: let the waiting process go, leave the
 * terminal (keep_stderr: but for standard error), tell systemd. */
void daemon_ready(bool keep_stderr);
/* In a process that starts programs: no handler and no mask of ours. */
void daemon_default_signals(void);
/* A line of sd_notify(3), "STOPPING=1"; nothing without NOTIFY_SOCKET. */
void daemon_notify(const char *state);

#endif
