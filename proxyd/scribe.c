/*
 * scribe.c - the thread of control that writes the ledger
 *
 * Does: take jobs from a bounded queue, do them on the ledger one after the
 * other, hand each back to the loop through an eventfd. Does not: log, talk to
 * anybody or touch what belongs to the loop; a job is owned by one side at a
 * time.
 *
 * Called by ctlallow.c. Only the operator's words come in here. A ledger that
 * cannot be opened is tried again with each job, so that space on a full disk
 * is all that an operator has to provide.
 */
#include "proxyd/scribe.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/* For the jobs that wait when control ends; a disk may hang. */
#define LAST_SECONDS 3

struct scribe {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct scribe_job *todo, **todo_end, *done;
	unsigned waiting;
	bool leaving;
	int bell;		/* eventfd: done is not empty */
	struct event *ev;
	const struct conf *conf;	/* read by both sides, changed by none */
	struct ledger *ledger;	/* the thread's */
	void (*tell)(void *arg, struct scribe_job *j);
	void *arg;
};

void
scribe_levels_free(struct ledger_levels *w)
{
	for (size_t i = 0; i < w->n; i++)
		free((char *)w->row[i].evidence);
	free(w->row);
	free(w->now);
	memset(w, 0, sizeof(*w));
}

struct scribe_job *
scribe_job_new(enum scribe_op op)
{
	struct scribe_job *j = calloc(1, sizeof(*j));

	if (j == NULL)
		return NULL;
	j->op = op;
	j->fd = j->memfd = -1;
	j->now = time(NULL);
	return j;
}

void
scribe_job_free(struct scribe_job *j)
{
	if (j == NULL)
		return;
	if (j->fd >= 0)
		close(j->fd);
	if (j->memfd >= 0)
		close(j->memfd);
	allowmap_free(&j->map);
	lease_list_free(&j->leases);
	free(j->import.text);
	free(j->gone);
	scribe_levels_free(&j->levels);
	free(j->hours.row);
	free(j->hours.dialect);
	free(j->effects.effect);
	free(j->text);
	free(j);
}

/* ---- in the thread ---- */

static int
fail(struct scribe_job *j, const char *doing)
{
	snprintf(j->error, sizeof(j->error), "%s: %s", doing, strerror(errno));
	return -1;
}

/* The parent gets every entry in memory that nobody can change any more. */
static int
share(struct scribe_job *j)
{
	size_t n, at = 0;
	const char *from = (const char *)allowmap_all(j->map, &n);

	n *= sizeof(struct allow_item);
	j->memfd = memfd_create("allow", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (j->memfd < 0)
		return fail(j, "memfd_create");
	while (at < n) {
		ssize_t put = write(j->memfd, from + at, n - at);

		if (put < 0 && errno != EINTR)
			return fail(j, "write to memory");
		at += put > 0 ? (size_t)put : 0;
	}
	if (fcntl(j->memfd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW |
		    F_SEAL_WRITE | F_SEAL_SEAL) != 0)
		return fail(j, "seal memory");
	return 0;
}

static int
load(struct ledger *l, const struct conf *conf, struct scribe_job *j)
{
	(void)ledger_is_changed(l);
	j->map = ledger_load(l, conf, j->now);
	return j->map == NULL ? -1 : share(j);
}

static int
import(struct ledger *l, const struct conf *conf, struct scribe_job *j)
{
	FILE *f = fdopen(j->fd, "r");
	int rc;

	if (f == NULL)
		return fail(j, "fdopen");
	j->fd = -1;
	rc = ledger_import(l, f, j->who, j->now, j->has_submission,
		&j->progress, &j->import);
	fclose(f);
	return rc == 0 ? load(l, conf, j) : -1;
}

static int
lease(struct ledger *l, const struct conf *conf, struct scribe_job *j)
{
	FILE *f = j->fd < 0 ? NULL : fdopen(j->fd, "r");
	int64_t bad = 0;

	if (j->fd >= 0) {
		if (f == NULL)
			return fail(j, "fdopen");
		j->fd = -1;
		bad = lease_read(conf, f, j->leases, &j->progress,
			&j->import.text);
		if (bad < 0)
			(void)fail(j, "read the file");
		fclose(f);
	}
	j->import.errors = bad > 0 ? (uint64_t)bad : 0;
	if (bad != 0 || ledger_lease(l, j->leases, j->now) != 0)
		return -1;
	/* what is bound is bound: all is loaded again if this fails */
	if (ledger_effects_of_leases(l, conf, j->leases, j->now,
		    &j->effects) != 0)
		j->effects.many = true;
	return 0;
}

/* What is written is written: all is loaded again if this fails. */
static int
with_effects(struct ledger *l, const struct conf *conf, struct scribe_job *j,
	int rc)
{
	if (rc >= 0 && ledger_effects(l, conf, &j->entry, j->now,
		    &j->effects) != 0)
		j->effects.many = true;
	return rc;
}

static int
put(struct ledger *l, const struct conf *conf, struct scribe_job *j)
{
	struct ledger_entry old;
	int was = j->keep_until ? ledger_get(l, &j->entry, &old) : 0;

	if (was < 0)
		return -1;
	if (was == 1 && old.item.action == j->entry.item.action &&
	    (old.item.until == 0 || old.item.until > j->now)) {
		j->entry.item.until = old.item.until;
		j->entry.pinned = old.pinned;
	}
	return with_effects(l, conf, j, ledger_put(l, &j->entry));
}

static void
note_gone(void *arg, const struct ledger_entry *e)
{
	struct scribe_job *j = arg;
	/* one more than are told at once never comes */
	struct scribe_gone *g = &j->gone[j->rc++];

	g->item = e->item;
	if (e->customer != NULL)
		snprintf(g->customer, sizeof(g->customer), "%s", e->customer);
}

static int
expire(struct ledger *l, const struct conf *conf, struct scribe_job *j)
{
	int n;

	j->gone = calloc(LEDGER_GONE_MAX, sizeof(*j->gone));
	if (j->gone == NULL)
		return fail(j, "memory");
	n = ledger_expire(l, j->now, note_gone, j);
	for (int i = 0; i < n && !j->effects.many; i++) {
		struct ledger_entry e = { .item = j->gone[i].item };

		if (e.item.prefix.family == 0)
			e.customer = j->gone[i].customer;
		if (ledger_effects(l, conf, &e, j->now, &j->effects) != 0)
			j->effects.many = true;
	}
	return n;
}

static void
list_one(void *arg, const struct ledger_entry *e)
{
	char text[LEDGER_NAME_MAX];
	json_t *one = json_pack("{s:s,s:s,s:I,s:b,s:I,s:s,s:s}",
		"prefix", ledger_name(e, text),
		"action", action_name[e->item.action],
		"until", (json_int_t)e->item.until, "pinned", e->pinned,
		"since", (json_int_t)e->since, "who", e->who, "why", e->why);

	if (e->customer != NULL && e->item.prefix.family != 0)
		json_object_set_new(one, "customer", json_string(e->customer));
	json_array_append_new(arg, one);
}

static void
audit_one(void *arg, const struct ledger_audit *a)
{
	const struct ledger_entry *e = &a->entry;
	char text[LEDGER_NAME_MAX];
	json_t *one = json_pack("{s:I,s:s,s:s,s:s,s:I}", "at",
		(json_int_t)a->at, "op", a->op, "who", e->who, "why", e->why,
		"entries", (json_int_t)a->count);

	if (one != NULL && a->has_entry) {
		json_object_set_new(one, "prefix", json_string(
			ledger_name(e, text)));
		json_object_set_new(one, "action", json_string(
			action_name[e->item.action]));
		json_object_set_new(one, "until", json_integer(e->item.until));
	}
	json_array_append_new(arg, one);
}

static int
show(struct ledger *l, const struct conf *conf, struct scribe_job *j)
{
	json_t *array = json_array();
	const struct ledger_entry *of = &j->entry;
	int rc;

	if (of->item.prefix.family == 0 && of->customer == NULL)
		of = NULL;
	if (j->op == SCRIBE_AUDIT)
		rc = ledger_each_audit(l, of, audit_one, array);
	else if ((rc = ledger_each(l, list_one, array)) == 0)
		rc = ledger_each_line(l, conf, j->now, list_one, array);
	if (rc == 0 && (j->text = json_dumps(array, JSON_COMPACT |
			    JSON_ENSURE_ASCII)) == NULL)
		rc = fail(j, "memory");
	json_decref(array);
	return rc;
}

static void
why_level(void *arg, const struct ledger_level *e, const char *customer)
{
	json_t *evidence = json_loads(e->evidence, 0, NULL);

	json_array_append_new(arg, json_pack("{s:I,s:s,s:i,s:i,s:b,s:s,s:s,s:o?}",
		"at", (json_int_t)e->at, "customer", customer, "was", e->was,
		"is", e->is, "pinned", e->pinned, "who", e->who, "why", e->why,
		"evidence", evidence));
}

static json_t *
why_holder(struct ledger *l, const struct scribe_job *j)
{
	char customer[LEASE_CUSTOMER_MAX];
	int64_t since, until;

	if (j->about.line[0] == '\0' || ledger_holder(l, j->about.line,
		    j->about.at, customer, &since, &until) != 1)
		return json_null();
	return json_pack("{s:s,s:I,s:I}", "customer", customer, "since",
		(json_int_t)since, "until", (json_int_t)until);
}

/* Changes of entries for exactly the line, and of its customer. */
static json_t *
why_allow(struct ledger *l, const struct scribe_job *j, const char *customer)
{
	const struct ledger_entry of = { .customer = customer };
	json_t *array = json_array();

	if (j->entry.item.prefix.family != 0)
		(void)ledger_each_audit(l, &j->entry, audit_one, array);
	if (customer != NULL)
		(void)ledger_each_audit(l, &of, audit_one, array);
	return array;
}

/* What is written down about a line, at a time. */
static int
why(struct ledger *l, struct scribe_job *j)
{
	json_t *levels = json_array(), *above = json_array();
	json_t *holder = why_holder(l, j), *o;
	const char *customer = json_string_value(json_object_get(holder,
		"customer"));
	int rc = 0;

	if (j->about.line[0] != '\0')
		rc = ledger_each_level(l, j->about.line, j->about.at, 5,
			why_level, levels);
	if (rc == 0 && j->about.parent[0] != '\0')
		rc = ledger_each_level(l, j->about.parent, j->about.at, 5,
			why_level, above);
	o = json_pack("{s:o,s:o,s:o,s:s,s:o}", "levels", levels, "allow",
		why_allow(l, j, customer), "holder", holder, "parent_line",
		j->about.parent, "parent_levels", above);
	if (rc == 0 && (o == NULL || (j->text = json_dumps(o, JSON_COMPACT |
			    JSON_ENSURE_ASCII)) == NULL))
		rc = fail(j, "memory");
	json_decref(o);
	return rc;
}

static void
restore_one(void *arg, const struct ledger_now *e)
{
	struct ledger_levels *w = arg;
	struct ledger_now *more;

	if (w->nnow == LEVELS_NOW_MAX)
		return;
	/* an array that doubles */
	if ((w->nnow & (w->nnow - 1)) == 0) {
		more = reallocarray(w->now, w->nnow == 0 ? 1 : 2 * w->nnow,
			sizeof(*more));
		if (more == NULL)
			return;
		w->now = more;
	}
	w->now[w->nnow++] = *e;
}

static int
perform(struct scribe *s, struct scribe_job *j)
{
	const struct conf *conf = s->conf;
	struct ledger *l = s->ledger;

	j->entry.who = j->who;
	j->entry.why = j->why;
	j->entry.since = j->now;
	switch (j->op) {
	case SCRIBE_LOAD:
		return load(l, conf, j);
	case SCRIBE_PUT:
		return put(l, conf, j);
	case SCRIBE_DEL:
		return with_effects(l, conf, j, ledger_del(l, &j->entry));
	case SCRIBE_IMPORT:
		return import(l, conf, j);
	case SCRIBE_EXPIRE:
		return expire(l, conf, j);
	case SCRIBE_LIST:
	case SCRIBE_AUDIT:
		return show(l, conf, j);
	case SCRIBE_WATCH:
		return ledger_is_changed(l);
	case SCRIBE_LEASE:
		return lease(l, conf, j);
	case SCRIBE_SETTLE:
		return ledger_lease_settle(l, j->leases, j->now);
	case SCRIBE_UNSETTLED:
		return ledger_lease_unsettled(l, j->leases);
	case SCRIBE_LEVELS:
		return ledger_levels(l, &j->levels, j->now, conf->ledger_days);
	case SCRIBE_RESTORE:
		return ledger_each_now(l, j->levels.table, restore_one,
			&j->levels);
	case SCRIBE_HOUR:
		return ledger_hours(l, &j->hours, j->now, conf->ledger_days);
	case SCRIBE_WHY:
		return why(l, j);
	}
	return -1;
}

static void
work(struct scribe *s, struct scribe_job *j)
{
	if (s->ledger == NULL)
		s->ledger = ledger_open(s->conf->ledger_file, false, j->error);
	if (s->ledger == NULL) {
		j->rc = -1;
		return;
	}
	j->rc = 0;
	j->rc = perform(s, j);
	if (j->rc < 0 && j->error[0] == '\0')
		snprintf(j->error, sizeof(j->error), "%s",
			ledger_error(s->ledger));
}

static void *
run(void *arg)
{
	const uint64_t one = 1;
	struct scribe *s = arg;
	bool is_bulk;

	pthread_mutex_lock(&s->lock);
	/* what was posted before the end is done before it */
	while (!s->leaving || s->todo != NULL) {
		struct scribe_job *j = s->todo;

		if (j == NULL) {
			pthread_cond_wait(&s->wake, &s->lock);
			continue;
		}
		s->todo = j->next;
		if (s->todo == NULL)
			s->todo_end = &s->todo;
		is_bulk = j->op == SCRIBE_IMPORT;
		pthread_mutex_unlock(&s->lock);
		work(s, j);
		pthread_mutex_lock(&s->lock);
		j->next = s->done;
		s->done = j;
		/* cannot block: its counter is read before it is full */
		(void)!write(s->bell, &one, sizeof(one));
		if (!is_bulk || s->ledger == NULL)
			continue;
		/* j is the loop's now, and the kernel's sets are filled while
		 * the log of a big transaction is worked off */
		pthread_mutex_unlock(&s->lock);
		ledger_settle(s->ledger);
		pthread_mutex_lock(&s->lock);
	}
	pthread_mutex_unlock(&s->lock);
	ledger_close(&s->ledger);
	return NULL;
}

/* ---- in the loop ---- */

static void
on_bell(evutil_socket_t fd, short what, void *arg)
{
	struct scribe *s = arg;
	struct scribe_job *j, *next, *in_order = NULL;
	uint64_t n;

	(void)what;
	(void)!read(fd, &n, sizeof(n));
	pthread_mutex_lock(&s->lock);
	for (j = s->done; j != NULL; j = next) {
		next = j->next;
		j->next = in_order;
		in_order = j;
		s->waiting--;
	}
	s->done = NULL;
	pthread_mutex_unlock(&s->lock);
	for (j = in_order; j != NULL; j = next) {
		next = j->next;
		s->tell(s->arg, j);
		scribe_job_free(j);
	}
}

struct scribe *
scribe_start(struct event_base *base, const struct conf *conf,
	void (*done)(void *arg, struct scribe_job *j), void *arg)
{
	struct scribe *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return NULL;
	s->todo_end = &s->todo;
	s->tell = done;
	s->arg = arg;
	s->conf = conf;
	s->bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	s->ev = event_new(base, s->bell, EV_READ | EV_PERSIST, on_bell, s);
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->wake, NULL);
	if (s->bell >= 0 && s->ev != NULL &&
	    event_add(s->ev, NULL) == 0 &&
	    pthread_create(&s->thread, NULL, run, s) == 0)
		return s;
	if (s->ev != NULL)
		event_free(s->ev);
	if (s->bell >= 0)
		close(s->bell);
	free(s);
	return NULL;
}

int
scribe_post(struct scribe *s, struct scribe_job *j)
{
	pthread_mutex_lock(&s->lock);
	if (s->waiting >= SCRIBE_JOBS_MAX) {
		pthread_mutex_unlock(&s->lock);
		scribe_job_free(j);
		return -1;
	}
	s->waiting++;
	j->next = NULL;
	*s->todo_end = j;
	s->todo_end = &j->next;
	pthread_cond_signal(&s->wake);
	pthread_mutex_unlock(&s->lock);
	return 0;
}

void
scribe_stop(struct scribe **sp)
{
	struct scribe *s = *sp;
	struct timespec limit;
	struct scribe_job *j;

	if (s == NULL)
		return;
	*sp = NULL;
	event_free(s->ev);
	pthread_mutex_lock(&s->lock);
	s->leaving = true;
	pthread_cond_signal(&s->wake);
	pthread_mutex_unlock(&s->lock);
	clock_gettime(CLOCK_REALTIME, &limit);
	limit.tv_sec += LAST_SECONDS;
	/* one that hangs on its disk keeps its memory; the process ends */
	if (pthread_timedjoin_np(s->thread, NULL, &limit) != 0)
		return;
	while ((j = s->todo) != NULL) {
		s->todo = j->next;
		scribe_job_free(j);
	}
	while ((j = s->done) != NULL) {
		s->done = j->next;
		scribe_job_free(j);
	}
	close(s->bell);
	pthread_mutex_destroy(&s->lock);
	pthread_cond_destroy(&s->wake);
	free(s);
}
