/*
 * parent.c - the privileged process: start, signals, tick, reload, end
 *
 * Does: make everything the children inherit, fork them, and then run one
 * loop that restarts the dead, keeps the gate open while all is well, reads
 * the configuration again on request and ends in order. Does not: read a byte
 * that came over a network; what it reads are its own configuration files and
 * fixed-size messages from its children.
 *
 * Called by main.c. After parent_start() nothing in here is fatal. Operators
 * control the signals: SIGTERM and SIGINT drain (a second one ends at once),
 * SIGHUP reloads.
 *
 * Must hold: the tick neither blocks nor waits for a child. A daemon that was
 * stopped and continued measures it here, and blames nobody but itself.
 */
#include <errno.h>
#include <event2/event.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "lib/kv.h"
#include "lib/log.h"
#include "nfq/dests.h"
#include "nfq/nfq.h"
#include "proxyd/parent.h"
#include "proxyd/places.h"
#include "proxyd/roles.h"
#include "proxyd/sandbox.h"
#include "zombie/table.h"

#define OWN_TICKS 10
/* Longer between two ticks than this: we were away, not the children. */
#define AWAY_MS (TICK_MS + TICK_MS / 2)

int64_t
parent_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* ---- reload ---- */

static bool
differs(const char *a, const char *b)
{
	return strcmp(a, b) != 0;
}

/* What listeners, marks, rules and users were made from: the option that
 * changed, or NULL. */
static const char *
needs_restart(const struct conf *a, const struct conf *b)
{
	if (a->listen_port != b->listen_port)
		return "gateway.listen_port";
	if (a->capture != b->capture)
		return "gateway.capture";
	if (a->workers != b->workers)
		return "gateway.workers";
	if (a->mark != b->mark || a->mark_mask != b->mark_mask)
		return "gateway.mark";
	if (a->table != b->table)
		return "gateway.table";
	if (a->nfq_queue != b->nfq_queue)
		return "nfq.queue";
	if (a->nfq_lines != b->nfq_lines)
		return "nfq.lines";
	if (a->priority != b->priority)
		return "gateway.priority";
	if (differs(a->user_relay, b->user_relay))
		return "gateway.user_relay";
	if (differs(a->user_control, b->user_control))
		return "gateway.user_control";
	if (differs(a->user_keeper, b->user_keeper))
		return "gateway.user_keeper";
	if (differs(a->control_socket, b->control_socket))
		return "control.socket";
	if (differs(a->ledger_file, b->ledger_file))
		return "ledger.file";
	if (a->log_syslog != b->log_syslog)
		return "log.target";
	return NULL;
}

static int
check_user(const char *option, const char *user)
{
	const struct passwd *pw = getpwnam(user);

	if (pw != NULL && pw->pw_uid != 0)
		return 0;
	log_error("%s: user \"%s\" %s; an unprivileged system user is "
		"expected", option, user,
		pw == NULL ? "does not exist" : "is root");
	return -1;
}

/* Who has no accounts needs no user for them. */
static int
check_keeper_user(const struct conf *conf)
{
	return conf->naccounts == 0 ? 0 :
		check_user("gateway.user_keeper", conf->user_keeper);
}

static void
log_each_line(const char *text, bool is_error)
{
	while (*text != '\0') {
		size_t len = strcspn(text, "\n");

		if (is_error)
			log_error("%.*s", (int)len, text);
		else
			log_warn("%.*s", (int)len, text);
		text += len + (text[len] == '\n');
	}
}

/* NULL, after saying why, when the running configuration has to stay. */
static struct conf *
load_again(struct parent *p)
{
	const char *option;
	struct conf *conf;
	char *text = NULL;
	size_t len = 0;
	FILE *err = open_memstream(&text, &len);

	if (err == NULL)
		return NULL;
	conf = conf_load(p->path, err);
	fclose(err);
	log_each_line(text, conf == NULL);
	free(text);
	if (conf == NULL)
		return NULL;
	option = needs_restart(p->conf, conf);
	if (option != NULL) {
		log_error("%s: %s has changed; that needs a restart", p->path,
			option);
		conf_free(&conf);
	} else if (check_keeper_user(conf) != 0) {
		conf_free(&conf);
	}
	return conf;
}

static void
start_children(struct parent *p)
{
	int64_t later = parent_now() + TICK_MS;

	/* Its predecessor has to leave first: children_restart() knows. */
	if (p->queue >= 0)
		p->nfq_slot.start_at = later - TICK_MS;
	/* what cannot be forked now is tried again by the tick */
	p->control_slot.start_at = 0;
	if (child_start(p, SLOT_CONTROL) != 0)
		p->control_slot.start_at = later;
	p->keeper_slot.start_at = 0;
	if (p->conf->naccounts > 0 && child_start(p, SLOT_KEEPER) != 0)
		p->keeper_slot.start_at = later;
	for (unsigned i = 0; i < p->conf->workers; i++) {
		p->slot[i].start_at = 0;
		if (child_start(p, (int)i) != 0)
			p->slot[i].start_at = later;
	}
	children_restart(p);
}

/* Of the lines of this process and of the children it forks. */
static void
set_form(const struct conf *conf)
{
	kv_set_form(conf->log_format == LOG_FORMAT_JSON ? KV_JSON : KV_PAIRS);
}

/* A new generation on the same listeners; the old one finishes what it has. */
static bool
replace_children(struct parent *p, struct conf *conf)
{
	struct conf *old = p->conf;
	struct places *places = places_open(conf, p->places);

	if (places == NULL || gatekeeper_reload(p, conf) != 0) {
		if (places != NULL)
			log_error("reload: no memory");
		places_close(&places);
		conf_free(&conf);
		return false;
	}
	places_close(&p->places);
	p->places = places;
	conf_free(&old);
	set_form(conf);
	hookkeeper_reload(p);
	children_retire(p, p->conf->drain_max);
	start_children(p);
	return true;
}

/* Behind MSG_DRAIN: who is told that it is done finds the successor at the
 * socket. A control that is leaving still answers its clients. */
static void
tell_reloaded(struct parent *p, bool done)
{
	for (struct child *c = p->children; c != NULL; c = c->next)
		if (c->slot == SLOT_CONTROL)
			child_send_simple(c, MSG_RELOADED, done, 0);
}

static void
on_reload(evutil_socket_t fd, short what, void *arg)
{
	struct parent *p = arg;
	struct conf *conf;
	bool done;

	(void)fd;
	(void)what;
	if (!p->reload_wanted)
		return;
	p->reload_wanted = false;
	if (p->stopping) {
		tell_reloaded(p, false);
		return;
	}
	daemon_notify("RELOADING=1");
	conf = load_again(p);
	done = conf != NULL && replace_children(p, conf);
	tell_reloaded(p, done);
	if (done)
		log_info("%s is in force", p->path);
	else
		log_error("reload refused; the running configuration stays");
	daemon_notify("READY=1");
}

/* ---- signals and tick ---- */

static void
stop(struct parent *p)
{
	if (p->stopping) {
		for (struct child *c = p->children; c != NULL; c = c->next)
			child_condemn(c, "asked to stop twice");
		return;
	}
	p->stopping = true;
	log_info("leaving: draining for at most %u s", p->conf->drain_max);
	daemon_notify("STOPPING=1");
	gatekeeper_shut(p);
	children_retire(p, p->conf->drain_max);
}

static void
leave_when_alone(struct parent *p)
{
	if (p->stopping && p->children == NULL)
		event_base_loopbreak(p->base);
}

static void
on_signal(evutil_socket_t number, short what, void *arg)
{
	struct parent *p = arg;

	(void)what;
	switch (number) {
	case SIGTERM:
	case SIGINT:
		stop(p);
		break;
	case SIGHUP:
		p->reload_wanted = true;
		event_active(p->ev_reload, EV_TIMEOUT, 0);
		break;
	case SIGCHLD:
		children_reap(p);
		children_restart(p);
		break;
	}
	leave_when_alone(p);
}

static void
on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct parent *p = arg;
	int64_t now = parent_now();
	int64_t gap = now - p->ticked_at;

	(void)fd;
	(void)what;
	p->ticked_at = now;
	p->ticks++;
	children_reap(p);
	children_restart(p);
	if (!p->stopping) {
		gatekeeper_tick(p, gap > GATE_SECONDS * 1000);
		allowkeeper_tick(p);
		rulekeeper_tick(p);
		keyring_tick(p);
		ticketkeeper_tick(p);
	}
	hookkeeper_tick(p);
	children_tick(p, gap > AWAY_MS);
	if (p->ticks % OWN_TICKS == 0 && sockets_own_addresses(p))
		children_send_own(p, NULL);
	leave_when_alone(p);
}

/* ---- start and end ---- */

static int
add_events(struct parent *p)
{
	static const int number[] = { SIGTERM, SIGINT, SIGHUP, SIGCHLD };
	const struct timeval second = { TICK_MS / 1000, 0 };

	p->base = event_base_new();
	if (p->base == NULL)
		return -1;
	for (size_t i = 0; i < 4; i++) {
		p->ev_signal[i] = evsignal_new(p->base, number[i], on_signal, p);
		if (p->ev_signal[i] == NULL ||
			event_add(p->ev_signal[i], NULL) != 0)
			return -1;
	}
	p->ev_tick = event_new(p->base, -1, EV_PERSIST, on_tick, p);
	p->ev_reload = event_new(p->base, -1, 0, on_reload, p);
	if (p->ev_tick == NULL || p->ev_reload == NULL)
		return -1;
	return event_add(p->ev_tick, &second);
}

static void
free_event(struct event **ev)
{
	if (*ev != NULL)
		event_free(*ev);
	*ev = NULL;
}

static void
finish(struct parent *p)
{
	while (p->children != NULL)
		child_free(p->children);
	hookkeeper_close(p);
	keyring_close(p);
	rulekeeper_close(p);
	allowkeeper_close(p);
	gatekeeper_close(p);
	places_close(&p->places);
	ticketkeeper_close(p);
	sockets_close(p);
	adaptive_free(&p->adaptive);
	lines_free(&p->lines);
	tally_free(&p->tally);
	tlsseen_free(&p->tlsseen);
	logins_free(&p->logins);
	if (p->queue >= 0)
		close(p->queue);
	table_free(&p->table);
	free(p->own);
	p->own = NULL;
	free_event(&p->ev_tick);
	free_event(&p->ev_reload);
	for (size_t i = 0; i < 4; i++)
		free_event(&p->ev_signal[i]);
	if (p->base != NULL)
		event_base_free(p->base);
	p->base = NULL;
	conf_free(&p->conf);
}

static void
raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &limit);
}

/* The table of lines and the queue that feeds it. Without a queue the relays
 * still write what they see. */
static int
open_first_packet(struct parent *p)
{
	const struct queue_conf queue = sockets_queue_conf(p->conf);

	p->table = table_new(p->conf->nfq_lines);
	if (p->table == NULL)
		return -1;
	if (p->conf->nfq_queue == 0)
		return 0;
	p->nfq_counts = nfq_counts_new();
	p->dests = dests_new();
	if (p->nfq_counts == NULL || p->dests == NULL)
		return -1;
	p->queue = queue_bind(&queue);
	return p->queue;
}

/* Where control will keep its ledger. Without it mail flows and operators are
 * told why nothing can be added. */
static void
ledger_directory(const struct conf *conf)
{
	const struct passwd *pw = getpwnam(conf->user_control);
	char *dir = strdup(conf->ledger_file);
	char *slash = dir == NULL ? NULL : strrchr(dir, '/');
	struct stat st;

	if (slash == NULL || slash == dir || pw == NULL) {
		free(dir);
		return;
	}
	*slash = '\0';
	/* one that is there stays as the operator made it */
	if (mkdir(dir, 0750) == 0) {
		if (chown(dir, pw->pw_uid, pw->pw_gid) != 0)
			log_warn("ledger.file: chown %s: %s", dir,
				strerror(errno));
	} else if (stat(dir, &st) != 0 || !S_ISDIR(st.st_mode))
		log_warn("ledger.file: mkdir %s: %s", dir, strerror(errno));
	free(dir);
}

/* Everything that may fail. */
static int
parent_start(struct parent *p)
{
	raise_descriptor_limit();
	signal(SIGPIPE, SIG_IGN);
	if (p->conf->workers < 1 || p->conf->workers > WORKERS_MAX) {
		log_error("gateway.workers: %u; 1 to %d are expected",
			p->conf->workers, WORKERS_MAX);
		return -1;
	}
	if (check_user("gateway.user_relay", p->conf->user_relay) != 0 ||
		check_user("gateway.user_control", p->conf->user_control) != 0 ||
		(p->conf->hook != NULL && p->conf->hook_user != NULL &&
		check_user("zombie.hook_user", p->conf->hook_user) != 0) ||
		check_keeper_user(p->conf) != 0)
		return -1;
	p->adaptive = adaptive_new();
	p->lines = lines_new();
	p->tally = tally_new();
	p->tlsseen = tlsseen_new();
	p->logins = logins_new();
	if (p->adaptive == NULL || p->lines == NULL || p->tally == NULL ||
	    p->tlsseen == NULL || p->logins == NULL ||
	    add_events(p) != 0) {
		log_error("start: %s", strerror(errno));
		return -1;
	}
	p->places = places_open(p->conf, NULL);
	if (p->places == NULL || ticketkeeper_open(p) != 0 ||
		sockets_open(p) != 0 || gatekeeper_open(p) != 0 ||
		open_first_packet(p) < 0 || allowkeeper_open(p) != 0 ||
		rulekeeper_open(p) != 0)
		return -1;
	ledger_directory(p->conf);
	(void)sockets_own_addresses(p);
	return sandbox_parent();
}

int
parent_main(struct conf *conf, const char *path, bool foreground)
{
	/* static: children look at it until they end, and so does a checker */
	static struct parent p;
	bool to_stderr = foreground || !conf->log_syslog;
	int status = 1;

	p.conf = conf;
	p.path = path;
	p.foreground = to_stderr;
	p.started = p.ticked_at = parent_now();
	p.control_listener = p.queue = -1;
	p.probe4.fd = p.probe6.fd = -1;
	log_open("parent", true);
	if (parent_start(&p) == 0) {
		log_open("parent", to_stderr);
		set_form(conf);
		daemon_ready(to_stderr);
		start_children(&p);
		log_info("sallyportd " SALLYPORT_VERSION " with %u relay%s on "
			"port %u", conf->workers, conf->workers == 1 ? "" : "s",
			conf->listen_port);
		event_base_dispatch(p.base);
		log_info("end");
		status = 0;
	}
	finish(&p);
	return status;
}
