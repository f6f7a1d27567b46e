/*
 * children.c - fork and supervision of the other roles
 *
 * Does: start a relay or another role in its slot, connect it to the rest (channel
 * to the parent, stream between control and each relay), ping it each second,
 * kill it when it is silent, collect it when it is dead and start a successor.
 * Does not: talk (channel.c), decide when the kernel hands us connections
 * (gatekeeper.c) or know what a child does.
 *
 * Called from the parent's loop. A child may be taken over: nothing it does or
 * fails to do is fatal to the parent or to another child. A child in a slot is
 * in charge until it dies or is told to drain ("leaving"); a leaving one is
 * only waited for.
 */
#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/ipc.h"
#include "lib/kv.h"
#include "lib/log.h"
#include "nfq/nfq.h"
#include "proxyd/keeper.h"
#include "proxyd/parent.h"
#include "proxyd/places.h"
#include "proxyd/roles.h"
#include "zombie/table.h"

/* A process that lived longer than this did not die "in a row". */
#define QUIET_MS 10000
#define RAPID_FREE 3
#define BACKOFF_MAX_MS 30000

static const char *
name_of(int slot, char out[32])
{
	if (slot == SLOT_CONTROL)
		snprintf(out, 32, "control");
	else if (slot == SLOT_NFQ)
		snprintf(out, 32, "nfq");
	else if (slot == SLOT_KEEPER)
		snprintf(out, 32, "keeper");
	else
		snprintf(out, 32, "relay %d", slot);
	return out;
}

static struct slot *
slot_of(struct parent *p, int slot)
{
	return slot == SLOT_CONTROL ? &p->control_slot :
		slot == SLOT_NFQ ? &p->nfq_slot :
		slot == SLOT_KEEPER ? &p->keeper_slot : &p->slot[slot];
}

struct child *
child_of(struct parent *p, int slot)
{
	for (struct child *c = p->children; c != NULL; c = c->next)
		if (c->slot == slot && !c->leaving)
			return c;
	return NULL;
}

void
child_condemn(struct child *c, const char *why)
{
	char name[32];

	if (c->condemned)
		return;
	c->condemned = true;
	log_warn("%s (pid %d) is killed: %s", name_of(c->slot, name),
		(int)c->pid, why);
	kill(c->pid, SIGKILL);
}

static void
tell_proc(struct child *control, int slot, unsigned restarts, pid_t pid)
{
	const struct msg m = { .type = MSG_PROC, .n = (uint32_t)slot,
		.m = restarts, .pid = pid };

	if (control != NULL)
		child_send(control, &m, NULL, 0);
}

/* ---- starting ---- */

/* Only the named descriptors stay open. */
static void
close_others(int *keep, int n)
{
	unsigned from = 3;

	for (int i = 1; i < n; i++)
		for (int j = i; j > 0 && keep[j] < keep[j - 1]; j--) {
			int swap = keep[j];

			keep[j] = keep[j - 1];
			keep[j - 1] = swap;
		}
	for (int i = 0; i < n; i++) {
		if (keep[i] < (int)from)
			continue;
		if (keep[i] > (int)from)
			(void)close_range(from, (unsigned)keep[i] - 1, 0);
		from = (unsigned)keep[i] + 1;
	}
	(void)close_range(from, ~0U, 0);
}

/* The parent's loop, without touching the kernel objects both now share. */
static void
forget_parent(struct parent *p, int channel, int slot)
{
	int keep[7 + PUBLISH_PLACES_MAX] = { channel, log_fd(), -1, -1, -1, -1,
		-1 };
	int n = 7;
	static const int ignored[] = { SIGINT, SIGTERM, SIGHUP, SIGPIPE };
	sigset_t none;

	event_reinit(p->base);
	event_base_free(p->base);
	p->base = NULL;
	if (slot == SLOT_CONTROL) {
		keep[2] = p->control_listener;
	} else if (slot == SLOT_NFQ) {
		keep[2] = p->queue;
	} else if (slot != SLOT_KEEPER) {
		keep[2] = p->slot[slot].listener4;
		keep[3] = p->slot[slot].listener6;
		keep[6] = p->places->bundle;
		for (size_t i = 0; i < p->places->n; i++)
			keep[n++] = p->places->fd[i * p->places->workers +
				(unsigned)slot];
	}
	if (p->table != NULL)	/* a child may give its rights away with it */
		table_fds_read_only(p->table, &keep[4], &keep[5]);
	close_others(keep, n);
	/* a Ctrl-C reaches the whole group; the parent says when to leave */
	for (size_t i = 0; i < sizeof(ignored) / sizeof(*ignored); i++)
		signal(ignored[i], SIG_IGN);
	signal(SIGCHLD, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static int
run_control(struct parent *p, int channel)
{
	const struct control_start s = { .conf = p->conf,
		.listener = p->control_listener, .parent = channel,
		.table = p->table, .nfq_counts = p->nfq_counts,
		.dests = p->dests,
		.foreground = p->foreground, .started = p->started };

	return control_main(&s);
}

static int
run_relay(struct parent *p, int channel, int slot, uint8_t owner)
{
	const struct relay_start s = { .conf = p->conf, .slot = slot,
		.listener4 = p->slot[slot].listener4,
		.listener6 = p->slot[slot].listener6, .parent = channel,
		.adaptive = p->adaptive, .lines = p->lines, .tally = p->tally,
		.tlsseen = p->tlsseen,
		.logins = p->logins,
		.owner = owner, .table = p->table, .places = p->places,
		.foreground = p->foreground };

	return relay_main(&s);
}

static int
run_nfq(struct parent *p, int channel)
{
	const struct nfq_start s = { .conf = p->conf, .table = p->table,
		.counts = p->nfq_counts, .dests = p->dests,
		.queue = sockets_queue_conf(p->conf),
		.queue_fd = p->queue, .parent = channel,
		.user = p->conf->user_control,
		.return_path = p->conf->return_path,
		.foreground = p->foreground };

	return nfq_main(&s);
}

static int
run_keeper(struct parent *p, int channel)
{
	const struct keeper_start s = { .conf = p->conf, .table = p->table,
		.parent = channel };

	return keeper_main(&s);
}

static void __attribute__((noreturn))
run_child(struct parent *p, int channel, int slot, uint8_t owner)
{
	char name[32], title[48];
	int status;

	forget_parent(p, channel, slot);
	name_of(slot, name);
	log_set_ident(name);
	/* 15 bytes are kept: "sallyport:r250" fits, "sallyportd: " does not */
	if (slot == SLOT_CONTROL)
		snprintf(title, sizeof(title), "sallyport:ctl");
	else if (slot == SLOT_NFQ)
		snprintf(title, sizeof(title), "sallyport:nfq");
	else if (slot == SLOT_KEEPER)
		snprintf(title, sizeof(title), "sallyport:keep");
	else
		snprintf(title, sizeof(title), "sallyport:r%d", slot);
	prctl(PR_SET_NAME, title, 0, 0, 0);
	status = slot == SLOT_CONTROL ? run_control(p, channel) :
		slot == SLOT_NFQ ? run_nfq(p, channel) :
		slot == SLOT_KEEPER ? run_keeper(p, channel) :
		run_relay(p, channel, slot, owner);
#ifdef SANITIZED
	exit(status); /* that is when leaks are looked for */
#endif
	_exit(status);
}

/* Give a relay and control the two ends of a new stream. */
static void
connect_relay(struct child *relay, struct child *control)
{
	struct msg to_relay = { .type = MSG_CONTROL };
	struct msg to_control = { .type = MSG_RELAY };
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0,
			pair) != 0) {
		log_error("stream between relay and control: %s",
			strerror(errno));
		return;
	}
	to_control.n = (uint32_t)relay->slot;
	child_send(relay, &to_relay, &pair[0], 1);
	child_send(control, &to_control, &pair[1], 1);
}

/* All that a new child has to hear first. */
static void
introduce(struct child *c)
{
	struct parent *p = c->parent;
	struct child *control = child_of(p, SLOT_CONTROL);
	struct child *keeper = child_of(p, SLOT_KEEPER);

	child_send_simple(c, MSG_PING, c->pinged, 0);
	if (c->slot == SLOT_KEEPER)
		keyring_introduce(c);
	if (c->slot < WORKERS_MAX) {
		ticketkeeper_introduce(c);
		children_send_own(p, c);
		if (control != NULL)
			connect_relay(c, control);
		if (keeper != NULL)
			keyring_connect(c, keeper);
	}
	if (c->slot != SLOT_CONTROL) {
		tell_proc(control, c->slot, slot_of(p, c->slot)->restarts,
			c->pid);
		return;
	}
	tell_proc(c, SLOT_PARENT, 0, getpid());
	tell_proc(c, SLOT_CONTROL, p->control_slot.restarts, c->pid);
	gatekeeper_announce(p, c);
	for (struct child *r = p->children; r != NULL; r = r->next) {
		if (r->slot == SLOT_CONTROL || r->leaving)
			continue;
		if (r->slot < WORKERS_MAX)
			connect_relay(r, c);
		tell_proc(c, r->slot, slot_of(p, r->slot)->restarts, r->pid);
	}
}

/* A number that no living relay counts under. 0: all are taken, which more
 * relays than 255, leaving ones included, would need. */
static uint8_t
free_owner(const struct parent *p)
{
	bool taken[256] = { false };
	unsigned n = 1;

	for (const struct child *c = p->children; c != NULL; c = c->next)
		taken[c->owner] = true;
	while (n < 256 && taken[n])
		n++;
	return (uint8_t)(n < 256 ? n : 0);
}

static struct child *
child_new(struct parent *p, int slot, int fd)
{
	struct child *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return NULL;
	c->parent = p;
	c->slot = slot;
	if (slot < WORKERS_MAX)
		c->owner = free_owner(p);
	if (channel_open(c, fd) != 0) {
		free(c);
		return NULL;
	}
	return c;
}

int
child_start(struct parent *p, int slot)
{
	struct child *c;
	sigset_t all, before;
	int pair[2];
	char name[32];

	name_of(slot, name);
	if (ipc_pair(pair) != 0) {
		log_error("channel to %s: %s", name, strerror(errno));
		return -1;
	}
	c = child_new(p, slot, pair[0]);
	if (c == NULL) {
		close(pair[1]);
		log_error("no memory to start %s", name);
		return -1;
	}
	c->next = p->children;
	p->children = c;
	/* no handler of ours may run in the child */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	c->pid = fork();
	if (c->pid == 0)
		run_child(p, pair[1], slot, c->owner);
	sigprocmask(SIG_SETMASK, &before, NULL);
	close(pair[1]);
	if (c->pid < 0) {
		log_error("fork of %s: %s", name, strerror(errno));
		p->children = c->next;	/* said here for who checks this */
		child_free(c);
		return -1;
	}
	c->pinged = ++p->sequence;
	c->pinged_at = c->born = parent_now();
	introduce(c);
	return 0;
}

void
child_free(struct child *c)
{
	struct parent *p = c->parent;

	for (struct child **at = &p->children; *at != NULL; at = &(*at)->next)
		if (*at == c) {
			*at = c->next;
			break;
		}
	channel_cut(c);
	free(c);
}

/* ---- dying ---- */

static const char *
cause_of(int status, char out[32])
{
	if (WIFSIGNALED(status))
		snprintf(out, 32, "signal %d", WTERMSIG(status));
	else
		snprintf(out, 32, "exit status %d", WEXITSTATUS(status));
	return out;
}

static int64_t
back_off(struct slot *s, int64_t born, int64_t now)
{
	int64_t wait = TICK_MS;

	s->rapid = now - born < QUIET_MS ? s->rapid + 1 : 1;
	s->died_at = now;
	if (s->rapid <= RAPID_FREE)
		return now;
	for (unsigned i = RAPID_FREE + 1; i < s->rapid; i++)
		if ((wait *= 2) >= BACKOFF_MAX_MS)
			return now + BACKOFF_MAX_MS;
	return now + wait;
}

static void
bury(struct child *c, int status)
{
	struct parent *p = c->parent;
	char name[32], cause[32];
	struct slot *s;

	name_of(c->slot, name);
	cause_of(status, cause);
	lines_release(p->lines, c->owner);
	if (c->leaving || p->stopping) {
		if (status == 0)
			log_info("%s (pid %d) has left", name, (int)c->pid);
		else
			log_warn("%s (pid %d) was leaving and died: %s, "
				"%u sessions lost", name, (int)c->pid, cause,
				c->sessions);
		child_free(c);
		return;
	}
	s = slot_of(p, c->slot);
	s->start_at = back_off(s, c->born, parent_now());
	s->dead_pid = c->pid;
	s->dead_sessions = c->sessions;
	s->dead_status = status;
	s->restarts++;
	tell_proc(child_of(p, SLOT_CONTROL), c->slot, s->restarts, 0);
	if (s->start_at > s->died_at)
		log_error("%s (pid %d) died: %s; the %uth time in a row, next "
			"start in %lld s", name, (int)c->pid, cause, s->rapid,
			(long long)(s->start_at - s->died_at) / 1000);
	child_free(c);
}

void
children_reap(struct parent *p)
{
	pid_t pid;
	int status;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (rulekeeper_reaped(p, pid, status) ||
		    hookkeeper_reaped(p, pid, status))
			continue;
		for (struct child *c = p->children; c != NULL; c = c->next)
			/* the linter does not know that c->parent is p:
			 * NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
			if (c->pid == pid) {
				bury(c, status);
				break;
			}
	}
}

static void
say_restarted(int slot, const struct slot *s, pid_t pid)
{
	char name[32], cause[32], line[256];
	struct kv k;

	name_of(slot, name);
	cause_of(s->dead_status, cause);
	log_warn("%s (pid %d) died: %s; restarted as pid %d, %u sessions lost",
		name, (int)s->dead_pid, cause, (int)pid, s->dead_sessions);
	kv_open(&k, line, sizeof(line), "alarm");
	kv_word(&k, "what", "process-died");
	kv_text(&k, "process", name, strlen(name));
	kv_uint(&k, "pid", (uint64_t)s->dead_pid);
	kv_text(&k, "cause", cause, strlen(cause));
	kv_uint(&k, "restarted", (uint64_t)pid);
	kv_uint(&k, "lost", s->dead_sessions);
	log_line(LOG_WARNING, line);
}

static bool
is_leaving(const struct parent *p, int slot)
{
	for (const struct child *c = p->children; c != NULL; c = c->next)
		if (c->slot == slot && c->leaving)
			return true;
	return false;
}

static void
restart(struct parent *p, int slot, int64_t now)
{
	struct slot *s = slot_of(p, slot);

	if (s->start_at == 0 || now < s->start_at)
		return;
	if (slot == SLOT_NFQ && is_leaving(p, slot))
		return;	/* two of them must never read one queue */
	if (child_start(p, slot) != 0) {
		s->start_at = now + TICK_MS;
		return;
	}
	s->start_at = 0;
	if (s->dead_pid != 0)
		say_restarted(slot, s, child_of(p, slot)->pid);
	s->dead_pid = 0;
}

void
children_restart(struct parent *p)
{
	int64_t now = parent_now();

	if (p->stopping)
		return;
	/* control first: a new relay finds it there */
	restart(p, SLOT_CONTROL, now);
	restart(p, SLOT_NFQ, now);
	restart(p, SLOT_KEEPER, now);
	for (unsigned i = 0; i < p->conf->workers; i++)
		restart(p, (int)i, now);
}

/* ---- each second ---- */

/* Until its first answer it reads certificates and builds its sandbox; the gate
 * waits for it, lines do not. */
static int64_t
patience(const struct child *c)
{
	return c->ponged == 0 ? START_MS : SILENCE_MS;
}

static void
check(struct child *c, int64_t now, bool was_away)
{
	c->needs = 0;
	if (c->ponged == c->pinged) {
		c->pinged = ++c->parent->sequence;
		c->pinged_at = now;
		child_send_simple(c, MSG_PING, c->pinged, 0);
	} else if (was_away) {
		c->pinged_at = now; /* our absence was not its silence */
	} else if (now - c->pinged_at > patience(c) - TICK_MS / 10) {
		child_condemn(c, "it does not answer");
	}
	if (c->leaving && now > c->leave_by)
		child_condemn(c, "its time to leave is over");
}

void
children_tick(struct parent *p, bool was_away)
{
	int64_t now = parent_now();

	for (struct child *c = p->children; c != NULL; c = c->next) {
		if (c->leaving && was_away)
			c->leave_by += TICK_MS;
		check(c, now, was_away);
	}
}

bool
child_answers(const struct child *c)
{
	return c != NULL && !c->condemned && c->ponged == c->pinged;
}

bool
children_answer(struct parent *p, int *slot_r)
{
	for (unsigned i = 0; i < p->conf->workers; i++) {
		const struct child *c = child_of(p, (int)i);

		*slot_r = (int)i;
		if (!child_answers(c))
			return false;
	}
	return true;
}

void
children_retire(struct parent *p, unsigned seconds)
{
	int64_t now = parent_now();

	for (struct child *c = p->children; c != NULL; c = c->next) {
		if (c->leaving)
			continue;
		c->leaving = true;
		/* control and the keeper wait for the relays to go */
		c->leave_by = now + ((int64_t)seconds +
			(c->slot == SLOT_CONTROL || c->slot == SLOT_KEEPER ?
			4 : 2)) * 1000;
		child_send_simple(c, MSG_DRAIN, seconds, p->stopping);
	}
}

static void
send_own(struct parent *p, struct child *c)
{
	struct msg m = { .type = MSG_OWN, .n = SNAPSHOT_FIRST };

	child_send(c, &m, NULL, 0);
	m.n = SNAPSHOT_ADD;
	for (size_t i = 0; i < p->nown; i++) {
		m.addr = p->own[i];
		child_send(c, &m, NULL, 0);
	}
	m.n = SNAPSHOT_LAST;
	memset(&m.addr, 0, sizeof(m.addr));
	child_send(c, &m, NULL, 0);
}

void
children_send_own(struct parent *p, struct child *only)
{
	for (struct child *c = p->children; c != NULL; c = c->next)
		if (c->slot < WORKERS_MAX && (only == NULL || c == only))
			send_own(p, c);
}
