/*
 * ctllease.c - leases: from operator to ledger to the table of lines
 *
 * Does: have the scribe write down what `lease ...' requests ask for, then move
 * what the table knows of the lines that changed hands: with a customer who has
 * another line, there; with one who has none, into the ledger, from where it
 * comes back with his next lease. Does not: wait for the disk, or let anything
 * of the table decide where a history goes: the ledger says who had a line.
 *
 * Called by ctlsock.c and ctlallow.c. Operators control lines and ids, which
 * leaseread.c checks; ids reach SQL by binding and the log by escaping.
 *
 * Must hold: one batch at a time is between its transaction and its moves, so
 * that what is taken for one is with the scribe before the next one asks for it.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "lib/kv.h"
#include "lib/log.h"
#include "proxyd/control.h"
#include "zombie/history.h"

#define WAIT_SECONDS 10
#define FILE_SECONDS 60

/* ---- the table follows ---- */

static void
take(struct control *c, struct lease *e)
{
	struct line_history h;

	history_take(c->table, &e->key, history_customer(c->table,
		e->customer), &h);
	/* nobody's: whoever gets a line brings his own history, no other */
	if (e->was[0] == '\0' || history_is_empty(&h))
		return;
	e->taken = malloc(sizeof(*e->taken));
	if (e->taken != NULL)
		*e->taken = h;
	else
		c->lease_lost++;
}

/* To the former customer's other line; else it stays, for the ledger. */
static void
give_taken(struct control *c, struct lease *e)
{
	struct line_key heir;
	char line[LINE_STRLEN], why[160];

	if (e->taken == NULL || e->heir[0] == '\0' ||
	    lease_line(c->conf, e->heir, &heir, line, why) != NULL ||
	    history_give(c->table, &heir, history_customer(c->table, e->was),
		    e->taken) != 0)
		return;
	ctlrollup_touch(c, &heir);
	free(e->taken);
	e->taken = NULL;
}

static void
give_stored(struct control *c, struct lease *e)
{
	uint32_t customer = history_customer(c->table, e->customer);

	for (size_t i = 0; i < e->nstored; i++)
		if (history_give(c->table, &e->key, customer,
			    &e->stored[i]) != 0)
			c->lease_lost++;
}

static void
move(struct control *c, struct lease_list *l)
{
	if (c->table == NULL)
		return;
	/* lines may change hands in a circle: all are emptied first */
	for (size_t i = 0; i < l->n; i++)
		if (l->lease[i].is_changed)
			take(c, &l->lease[i]);
	for (size_t i = 0; i < l->n; i++) {
		give_taken(c, &l->lease[i]);
		give_stored(c, &l->lease[i]);
		if (l->lease[i].is_changed)
			ctlrollup_touch(c, &l->lease[i].key);
	}
}

/* ---- jobs, one after the other ---- */

static void
next_batch(struct control *c)
{
	struct scribe_job *j = c->lease_waits;

	if (c->lease_busy || j == NULL)
		return;
	c->lease_waits = j->next;
	if (c->lease_waits == NULL)
		c->lease_waits_end = &c->lease_waits;
	if (c->scribe != NULL && scribe_post(c->scribe, j) == 0) {
		c->lease_busy = true;
		return;
	}
	/* freed; who waits for it is told when his patience ends */
	if (c->import == j)
		c->import = NULL;
	ctlallow_alarm(c, "too many requests wait for it");
}

/* What was taken to the ledger, and the notes out of it. */
static void
settle(struct control *c, struct lease_list **l)
{
	struct scribe_job *j = scribe_job_new(SCRIBE_SETTLE);

	if (j != NULL) {
		j->leases = *l;
		*l = NULL;
	}
	if (j == NULL || scribe_post(c->scribe, j) != 0)
		ctlallow_alarm(c, "no memory, or it does not keep up");
}

/* ---- what is told ---- */

static void
note(const struct scribe_job *j)
{
	const struct lease_list *l = j->leases;
	char line[512];
	struct kv k;

	kv_open(&k, line, sizeof(line), "lease");
	kv_word(&k, "op", l->is_release ? "release" : "bind");
	if (l->n == 1) {
		const struct lease *e = &l->lease[0];
		const char *who = l->is_release ? e->was : e->customer;

		kv_word(&k, "line", e->line);
		kv_text(&k, "customer", who, strlen(who));
		if (!l->is_release && e->was[0] != '\0')
			kv_text(&k, "was", e->was, strlen(e->was));
	} else {
		kv_uint(&k, "changed", l->changed);
		kv_uint(&k, "same", l->same);
	}
	kv_text(&k, "who", j->who, strlen(j->who));
	log_line(LOG_INFO, line);
}

static void
answer(const struct scribe_job *j, struct client *cl)
{
	const struct lease_list *l = j->leases;
	json_t *o = json_pack("{s:b,s:I,s:I}", "ok", 1, "changed",
		(json_int_t)l->changed, "same", (json_int_t)l->same);

	if (l->n == 1) {
		const struct lease *e = &l->lease[0];

		json_object_set_new(o, "line", json_string(e->line));
		json_object_set_new(o, "customer", json_string(e->customer));
		json_object_set_new(o, "was", json_string(e->was));
	}
	ctlsock_answer(cl, o);
}

static void
batch_done(struct control *c, struct scribe_job *j, struct client *cl)
{
	if (j->leases->changed > 0) {
		note(j);
		/* what his entry lets out first: mail of his waits for it */
		(void)ctlallow_spread(c, &j->effects, 0);
		move(c, j->leases);
	}
	if (cl != NULL)
		answer(j, cl);
	if (j->leases->changed > 0)
		settle(c, &j->leases);
}

/* Made good: a control before this one was killed before its table followed. */
static void
take_unsettled(struct control *c, struct scribe_job *j)
{
	struct lease_list *l = j->leases;
	char line[LINE_STRLEN], why[160];

	for (size_t i = 0; i < l->n; i++)
		/* of a class that was: there is no such line any more */
		l->lease[i].is_changed = lease_line(c->conf, l->lease[i].line,
			&l->lease[i].key, line, why) == NULL;
	if (l->n == 0)
		return;
	log_info("%zu lines changed hands while control was away", l->n);
	move(c, l);
	settle(c, &j->leases);
}

void
ctllease_done(struct control *c, struct scribe_job *j, struct client *cl)
{
	char text[256];

	if (j->op != SCRIBE_SETTLE)
		c->lease_busy = false;
	if (j->op == SCRIBE_LEASE && j->rc < 0 && j->import.errors > 0)
		ctlallow_refused(cl, j);
	else if (j->rc < 0) {
		ctlallow_alarm(c, j->error);
		snprintf(text, sizeof(text), "the ledger: %s", j->error);
		if (cl != NULL)
			ctlsock_error(cl, text);
	} else if (j->op == SCRIBE_LEASE)
		batch_done(c, j, cl);
	else if (j->op == SCRIBE_UNSETTLED)
		take_unsettled(c, j);
	next_batch(c);
}

/* ---- requests ---- */

static void
queue(struct control *c, struct scribe_job *j)
{
	j->next = NULL;
	*c->lease_waits_end = j;
	c->lease_waits_end = &j->next;
	next_batch(c);
}

/* NULL, or what is wrong with it. */
static const char *
take_words(struct client *cl, struct scribe_job *j, const char *rest,
	char why[160])
{
	struct lease *e;

	if (strcmp(rest, "-") == 0)
		return ctlwords_file(cl, j);
	if ((e = lease_list_add(j->leases)) == NULL)
		return "no memory";
	return lease_parse(cl->control->conf, j->leases->is_release, rest, e,
		why) == 1 ? NULL : why;
}

void
ctllease_request(struct client *cl, char *rest)
{
	const char *verb = ctlwords_next(&rest), *wrong = "unknown request";
	bool is_release = strcmp(verb, "release") == 0;
	struct scribe_job *j = scribe_job_new(SCRIBE_LEASE);
	char why[160] = "";

	if (j != NULL)
		j->leases = calloc(1, sizeof(*j->leases));
	if (cl->control->scribe == NULL || j == NULL || j->leases == NULL)
		wrong = "the ledger is not there";
	else if (is_release || strcmp(verb, "bind") == 0) {
		j->client = cl->serial;
		j->leases->is_release = is_release;
		ctlwords_who(cl->uid, j->who);
		wrong = take_words(cl, j, rest, why);
	}
	if (wrong != NULL) {
		scribe_job_free(j);
		ctlsock_error(cl, wrong);
		return;
	}
	ctlsock_wait(cl, j->fd >= 0 ? FILE_SECONDS : WAIT_SECONDS,
		"the ledger does not answer; the same request later does no "
		"harm");
	queue(cl->control, j);
}

void
ctllease_open(struct control *c)
{
	struct scribe_job *j = scribe_job_new(SCRIBE_UNSETTLED);

	c->lease_waits_end = &c->lease_waits;
	if (j != NULL)
		j->leases = calloc(1, sizeof(*j->leases));
	if (j != NULL && j->leases != NULL)
		queue(c, j);
	else
		scribe_job_free(j);
}

void
ctllease_close(struct control *c)
{
	struct scribe_job *j;

	while ((j = c->lease_waits) != NULL) {
		c->lease_waits = j->next;
		scribe_job_free(j);
	}
}
