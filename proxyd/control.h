/*
 * control.h - the parts of the control process, for its own files only
 *
 * control.c  loop, messages of the parent, streams of the relays, events
 * ctlsock.c  operators: the control socket
 * ctlallow.c operators: live entries of the allowlist, and their ledger
 * ctllease.c operators: which customer has which line
 * ctlwords.c operators: the words of such a request
 * ctlplan.c  operators: what enforcing would change
 * ctlzombie.c levels of lines, and operators who ask for them
 * ctlhook.c  the operator's program that hears of them
 * ctlsample.c one session of a line, as an example
 * ctlrollup.c levels of /56s whose lines are longer
 * ctlhour.c  hourly totals
 * names.c    names of servers (names.h)
 */
#ifndef SALLYPORT_CONTROL_H
#define SALLYPORT_CONTROL_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "conf/conf.h"
#include "proxyd/msg.h"
#include "proxyd/names.h"
#include "proxyd/scribe.h"
#include "zombie/rollup.h"

struct event;
struct event_base;
struct logbook;
struct dests;
struct nfq_counts;
struct table;

#define RELAYS_MAX 250
#define CLIENTS_MAX 32
#define REQUEST_MAX 512
/* Changes that wait for zombie.hook. */
#define HOOKS_WAITING 256

struct relay {			/* a slot as control sees it */
	struct control *control;
	int fd;			/* stream, -1: none */
	struct event *readable, *writable;
	struct event *rested;	/* instead of readable: time for a look */
	uint8_t *in;		/* a record that is not whole yet, and room */
	size_t nin;
	uint8_t *out;		/* the snapshot that is being sent */
	size_t nout, out_at;
	bool stale;		/* another snapshot has to follow */
	bool allow_stale;	/* ... with the entries of the ledger */
	pid_t pid;		/* 0: not running */
	unsigned restarts;
	struct counters now;	/* of the running process */
	struct counters past;	/* of its predecessors, sums */
};

struct gate_view {
	uint16_t port;		/* 0: unused */
	uint8_t state;		/* of MSG_GATE */
};

/* Event lines that are kept for who asks later. */
#define EVENTS_KEPT 512

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
	uint64_t serial;	/* never used again, unlike an address */
	int passed;		/* a descriptor that came along, or -1 */
	const char *patience;	/* said when what it waits for does not come */
	bool waits_for_reload;
	uint32_t cookie;	/* of the MSG_ALLOWED that answer_then waits for */
	size_t due;		/* so many of them */
	uint32_t worst;		/* of their states */
	json_t *answer_then;
	struct evbuffer *stream;	/* ctlevents.c: a follower's; else NULL */
	uint64_t missed;	/* lines it was too slow for */
};

/* Parents that wait to be looked at (ctlrollup.c). */
#define ROLLUP_QUEUE 1024

struct rollup_queue {
	struct line_key parent[ROLLUP_QUEUE];
	size_t n;
	bool walk, walking;	/* over all levels: soon, now */
	size_t at;
	unsigned seconds;
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
	bool is_last;		/* draining, and there is no successor */
	struct relay relay[RELAYS_MAX];
	size_t nrelays;		/* highest slot in use + 1 */
	struct gate_view gate[4];
	pid_t parent_pid;
	unsigned restarts;	/* of control itself */
	pid_t nfq_pid;
	unsigned nfq_restarts;
	pid_t keeper_pid;	/* 0: not running */
	unsigned keeper_restarts;
	struct table *table;	/* NULL: none is kept */
	const struct nfq_counts *nfq_counts;	/* NULL: no queue is read */
	const struct dests *dests;	/* the same */
	struct logbook *logbook;
	struct event *ev_logbook;
	uint64_t events;	/* sessions, told to this process */
	struct client *clients;
	size_t nclients;
	uint64_t serial;

	/* ctlallow.c */
	struct scribe *scribe;	/* NULL: no thread */
	struct allowmap *allow;	/* the ledger's entries; NULL: not loaded yet */
	struct event *ev_allow;
	int all_memfd;		/* waits to be sent to the parent, or -1 */
	uint32_t all_cookie, cookie;
	uint32_t again, all_again;	/* of MSG_ALLOW_AGAIN: heard, heeded */
	bool load_again;	/* what is being loaded is too old already */
	bool loading, expiring, watching, ledger_ok;
	const struct scribe_job *import;	/* under way, or NULL */
	uint64_t ledger_errors;
	int64_t ledger_alarm;	/* Unix time of the last one */
	unsigned seconds;

	/* ctlevents.c: the last lines, slot number % EVENTS_KEPT */
	char *recent[EVENTS_KEPT];
	uint64_t nrecent;

	/* ctlzombie.c */
	struct detect detect;
	struct event *ev_zombies;
	uint64_t noticed;	/* for table_noticed() */
	bool look_again, looking;	/* at every record: soon, now */
	size_t look_at;
	unsigned zombie_seconds;

	/* ctlhook.c: a ring of what is to be told */
	char *hook[HOOKS_WAITING];
	unsigned hook_first, nhooks;
	bool hook_asked;	/* the parent has the first */
	uint64_t hooks_lost, hooks_said;
	int64_t hook_alarm;	/* Unix time of the last one */

	struct sample *samples;	/* ctlsample.c; NULL: none yet */

	/* ctlrollup.c */
	struct rollup_queue rollup;

	/* ctllevel.c */
	struct ledger_levels level_rows;	/* changes to be written */
	bool levels_busy, levels_look, levels_restored;
	uint64_t levels_print;	/* of the levels that are written; 0: none */
	uint64_t levels_lost;	/* changes that are not in the ledger */
	unsigned levels_seconds;

	/* ctlhour.c */
	struct hours *hours;	/* NULL: none are counted */

	/* ctllease.c */
	struct scribe_job *lease_waits, **lease_waits_end;
	bool lease_busy;	/* one is with the scribe */
	uint64_t lease_lost;	/* histories the table had no room for */
};

/* ---- control.c ---- */

/* Ask the parent; -1: it takes no message now. */
int control_ask(struct control *c, enum msg_type type);
/* A client has gone: perhaps nothing is left to wait for. */
void control_check_drained(struct control *c);

/* Entries of the ledger to the relays: all, or one change. */
void control_allow_snapshot(struct control *c);
void control_allow_one(struct control *c, const struct allow_item *i, bool add);

/* ---- ctlzombie.c ---- */

int ctlzombie_open(struct control *c);
void ctlzombie_close(struct control *c);
/* "zombies", and what followed "zombie " in a request. */
void ctlzombie_list(struct client *cl);
void ctlzombie_request(struct client *cl, char *rest);

/* A line as its class writes it; since when a level's word is. */
void ctlzombie_text(const struct control *c, const struct line_key *k,
	char out[LINE_STRLEN]);
int64_t ctlzombie_since(const struct control *c, uint32_t word);
/* The record of a line, and the thresholds, as members of o. */
void ctlzombie_show(const struct control *c, const struct line_key *k,
	json_t *o);
/* NULL and the line of a text, or of an address in it, or the /56 of lines that
 * are longer; or why it is none. */
const char *ctlzombie_line(const struct control *c, const char *text,
	struct line_key *k_r, char why[160]);
/* Set and tell a level that follows from others. 0, or -1: no room. */
int ctlzombie_set(struct control *c, struct line_record *r,
	const struct line_key *k, enum level level, const char *who,
	const char *why);
/* A level from before a restart, without a word in the log. 0 or -1. */
int ctlzombie_bring_back(struct control *c, struct line_record *r,
	const struct line_key *k, uint8_t level, bool pinned);

/* ---- ctlhook.c ---- */

/* Tell zombie.hook, which is configured; the object is taken. */
void ctlhook_note(struct control *c, json_t *o);
/* MSG_HOOKED. */
void ctlhook_answer(struct control *c, const struct msg *m);
void ctlhook_second(struct control *c);
void ctlhook_close(struct control *c);

/* ---- ctlsample.c ---- */

/* A session that has ended. */
void ctlsample_note(struct control *c, const struct report *e);
/* The latest of a line: at, src, dst, out; the caller's. NULL: none is known. */
json_t *ctlsample_object(const struct control *c, const struct line_key *k);
void ctlsample_close(struct control *c);

/* ---- ctlrollup.c ---- */

struct kv;

/* The level of this line has changed, or was moved here: its parent is looked at
 * in the next seconds. */
void ctlrollup_touch(struct control *c, const struct line_key *k);
void ctlrollup_second(struct control *c);
/* The suspect lines of a parent, to be cleared with it; 0: it is none. */
unsigned ctlrollup_clear(struct control *c, const struct line_key *k,
	struct line_record *line_r[ROLLUP_MOST]);
/* Of a parent its suspect lines: how many, and the first ones by name. */
void ctlrollup_log(const struct control *c, const struct line_key *k,
	struct kv *to);
void ctlrollup_lines(const struct control *c, const struct line_key *k,
	json_t *o);
/* Of a line its parent, when that has a level, as the member "parent". */
void ctlrollup_parent(const struct control *c, const struct line_key *k,
	json_t *o);

/* ---- ctlhour.c ---- */

struct report;

void ctlhour_open(struct control *c);
void ctlhour_second(struct control *c);
/* A session has ended. */
void ctlhour_note(struct control *c, const struct report *e);
void ctlhour_close(struct control *c);

/* ---- ctllevel.c ---- */

/* A change, for the ledger; evidence (malloc) is taken, NULL: no memory. */
void ctllevel_note(struct control *c, const struct ledger_level *change,
	char *evidence);
void ctllevel_second(struct control *c);
/* A job of the scribe about levels, done or failed. */
void ctllevel_done(struct control *c, struct scribe_job *j);
void ctllevel_close(struct control *c);

/* ---- ctlevents.c ---- */

void ctlevents_open(struct control *c);
/* What followed "events " in a request. */
void ctlevents_request(struct client *cl, const char *rest);
/* Followers go: they come back to the successor. */
void ctlevents_shut(struct control *c);
void ctlevents_close(struct control *c);

/* ---- ctlwhy.c ---- */

/* What followed "why " in a request; answers in time. */
void ctlwhy_request(struct client *cl, char *rest);
void ctlwhy_done(struct control *c, struct scribe_job *j, struct client *cl);

/* ---- ctlallow.c ---- */

/* 0, also when there is no ledger: that is told to those who ask for it. */
int ctlallow_open(struct control *c);
void ctlallow_close(struct control *c);
/* What followed "allow " in a request; answers in time. */
void ctlallow_request(struct client *cl, char *rest);
/* What a change has made of prefixes, to parent and relays. 0: the parent will
 * say MSG_ALLOWED with cookie for each; -1: all of it follows within seconds. */
int ctlallow_spread(struct control *c, const struct ledger_effects *e,
	uint32_t cookie);
/* MSG_ALLOWED. */
void ctlallow_answer(struct control *c, const struct msg *m);
/* MSG_ALLOW_AGAIN. */
void ctlallow_again(struct control *c, uint32_t number);
json_t *ctlallow_status(const struct control *c);

/* Count and, once a minute, say that the ledger has failed. */
void ctlallow_alarm(struct control *c, const char *why);
/* A file that was refused: its first mistakes; cl may be NULL. */
void ctlallow_refused(struct client *cl, const struct scribe_job *j);

/* ---- ctllease.c ---- */

void ctllease_open(struct control *c);
void ctllease_close(struct control *c);
/* What followed "lease " in a request; answers in time. */
void ctllease_request(struct client *cl, char *rest);
/* A job of the scribe about leases, done or failed. */
void ctllease_done(struct control *c, struct scribe_job *j, struct client *cl);

/* ---- ctlplan.c ---- */

/* The request "plan"; answers in time. */
void ctlplan_request(struct client *cl);

/* ---- ctlwords.c ---- */

/* The next word, cut off; "" at the end. */
char *ctlwords_next(char **rest);
/* The name of who asks. */
void ctlwords_who(uid_t uid, char out[LEDGER_WHO_MAX]);
/* The file that came along into j->fd. NULL, or why not. */
const char *ctlwords_file(struct client *cl, struct scribe_job *j);
/* The rest of a request into the job that j->op says, and who asks. NULL, or
 * what is wrong with it. An import takes cl->passed. */
const char *ctlwords_job(struct client *cl, struct scribe_job *j, char *rest);

/* ---- ctlsock.c ---- */

/* Each ends the request; object and text are taken. */
void ctlsock_answer(struct client *cl, json_t *object);
void ctlsock_answer_text(struct client *cl, char *text);
void ctlsock_error(struct client *cl, const char *why);
/* The answer comes later; after so many seconds it is `late'. */
void ctlsock_wait(struct client *cl, unsigned seconds, const char *late);
/* Closed and forgotten, whatever was asked. */
void ctlsock_end(struct client *cl);
struct client *ctlsock_find(struct control *c, uint64_t serial);

/* Begin to take operators on c->listener. 0 or -1. */
int ctlsock_open(struct control *c);
/* Take no more; those that wait for an answer still get it. */
void ctlsock_shut(struct control *c);
void ctlsock_close(struct control *c);
/* The parent has answered a reload. */
void ctlsock_reloaded(struct control *c, bool done);

#endif
