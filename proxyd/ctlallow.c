/*
 * ctlallow.c - live entries of the allowlist: from operator to ledger to kernel
 *
 * Does: have the scribe write down what `allow ...' requests of the control
 * socket ask for, then tell the parent (kernel sets) and the relays, and only
 * then answer the operator; note in the log who did what and why; take out
 * what has expired; send everything again when somebody else has changed the
 * ledger. Does not: wait for the disk (scribe.c does, in its thread), or give
 * up anything when the ledger fails: what is in force stays in force.
 *
 * Called by ctlsock.c and control.c. Operators control the words of a request;
 * ctlwords.c checks every one, and nothing of it reaches SQL or a log line but
 * through binding and escaping.
 *
 * Must hold: an answer "ok" means: on the disk, and with "in_force" true in the
 * kernel too.
 */
#include <event2/event.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "conf/lpm.h"
#include "lib/ipc.h"
#include "lib/kv.h"
#include "lib/log.h"
#include "proxyd/control.h"

#define WATCH_SECONDS 5
#define ALARM_SECONDS 60
#define WAIT_SECONDS 10
#define IMPORT_SECONDS 300

/* ---- what is told: log, parent, relays ---- */

static const char *
when(int64_t t, char out[32])
{
	time_t clock = (time_t)t;
	struct tm tm;

	if (t == 0 || gmtime_r(&clock, &tm) == NULL ||
	    strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
		snprintf(out, 32, "-");
	return out;
}

static void
note(const char *op, const struct ledger_entry *e, const char *who,
	const char *why)
{
	char line[1024], name[LEDGER_NAME_MAX], until[32];
	struct kv k;

	kv_open(&k, line, sizeof(line), "allow");
	kv_word(&k, "op", op);
	ledger_name(e, name);
	if (e->customer == NULL)
		kv_word(&k, "prefix", name);
	else
		kv_text(&k, "prefix", name, strlen(name));
	kv_word(&k, "action", action_name[e->item.action]);
	kv_word(&k, "until", when(e->item.until, until));
	kv_text(&k, "who", who, strlen(who));
	kv_text(&k, "why", why, strlen(why));
	log_line(LOG_INFO, line);
}

/* The ledger has failed: counted each time, said once a minute. */
void
ctlallow_alarm(struct control *c, const char *why)
{
	char line[512];
	struct kv k;
	int64_t now = time(NULL);

	c->ledger_errors++;
	if (c->ledger_alarm != 0 && now < c->ledger_alarm + ALARM_SECONDS)
		return;
	c->ledger_alarm = now;
	kv_open(&k, line, sizeof(line), "alarm");
	kv_word(&k, "what", "ledger");
	kv_text(&k, "file", c->conf->ledger_file, strlen(c->conf->ledger_file));
	kv_text(&k, "error", why, strlen(why));
	kv_uint(&k, "failures", c->ledger_errors);
	log_line(LOG_WARNING, line);
}

static void
post(struct control *c, struct scribe_job *j)
{
	if (j == NULL || c->scribe == NULL || scribe_post(c->scribe, j) != 0)
		ctlallow_alarm(c, "no memory, or it does not keep up");
}

static void
reload_all(struct control *c)
{
	struct scribe_job *j;

	if (c->loading)
		return;
	c->loading = true;
	j = scribe_job_new(SCRIBE_LOAD);
	if (j != NULL)
		j->again = c->again;
	post(c, j);
}

void
ctlallow_again(struct control *c, uint32_t number)
{
	c->again = number;
	c->load_again = c->loading;
	reload_all(c);
}

/* All entries to the parent. What it has no room for is sent again. */
static void
tell_parent_all(struct control *c)
{
	struct msg m = { .type = MSG_ALLOW_ALL, .m = c->all_cookie,
		.again = c->all_again };
	size_t n;

	if (c->all_memfd < 0)
		return;
	(void)allowmap_all(c->allow, &n);
	m.n = (uint32_t)n;
	if (ipc_send(c->parent, &m, sizeof(m), &c->all_memfd, 1) != 1)
		return;
	close(c->all_memfd);
	c->all_memfd = -1;
}

/* One change; -1: the parent takes no message now, all follows later. */
static int
tell_parent(struct control *c, const struct allow_item *i, bool add,
	uint32_t cookie)
{
	const struct msg m = { .type = MSG_ALLOW, .n = add, .m = cookie,
		.allow = *i };

	if (c->all_memfd < 0 &&
	    ipc_send(c->parent, &m, sizeof(m), NULL, 0) == 1)
		return 0;
	reload_all(c);
	return -1;
}

static void
take_all(struct control *c, struct scribe_job *j, uint32_t cookie)
{
	allowmap_free(&c->allow);
	c->allow = j->map;
	j->map = NULL;
	if (c->all_memfd >= 0) {
		close(c->all_memfd);
		if (cookie == 0)
			cookie = c->all_cookie;	/* it is in this one too */
	}
	c->all_memfd = j->memfd;
	c->all_cookie = cookie;
	c->all_again = j->again;
	j->memfd = -1;
	tell_parent_all(c);
	control_allow_snapshot(c);
}

/* A change that is written: everywhere else. The map of an earlier load. */
int
ctlallow_spread(struct control *c, const struct ledger_effects *e,
	uint32_t cookie)
{
	int rc = 0;

	if (c->allow == NULL || e->many) {
		reload_all(c);
		return -1;
	}
	for (size_t n = 0; n < e->n; n++) {
		const struct allow_item *i = &e->effect[n].item;
		bool add = e->effect[n].counts;

		if (!add)
			(void)allowmap_del(c->allow, &i->prefix);
		else if (allowmap_put(c->allow, i) != 0)
			reload_all(c);
		control_allow_one(c, i, add);
		if (tell_parent(c, i, add, cookie) != 0)
			rc = -1;
	}
	return rc;
}

/* ---- answers of the scribe ---- */

static void
describe_class(const struct control *c, const struct prefix *p, json_t *answer)
{
	struct addr a = { .family = p->family };
	int32_t class;

	memcpy(a.ip, p->ip, sizeof(a.ip));
	class = lpm_find(c->conf->class_lpm, &a, NULL);
	json_object_set_new(answer, "class", class < 0 ? json_null() :
		json_string(c->conf->classes[class].name));
}

/* The lines of a customer that the change is about. */
static void
describe_lines(const struct ledger_effects *e, json_t *answer)
{
	json_t *lines = json_array();
	char text[ADDR_STRLEN];

	for (size_t n = 0; n < e->n; n++)
		json_array_append_new(lines, json_string(prefix_format(
			&e->effect[n].item.prefix, text)));
	json_object_set_new(answer, "lines", lines);
	json_object_set_new(answer, "shared", json_integer(e->shared));
}

static json_t *
describe(const struct control *c, const struct scribe_job *j)
{
	const struct allow_item *i = &j->entry.item;
	char name[LEDGER_NAME_MAX];
	json_t *answer = json_pack("{s:b,s:s,s:s,s:I}", "ok", 1,
		"prefix", ledger_name(&j->entry, name),
		"action", action_name[i->action], "until",
		(json_int_t)i->until);

	if (j->entry.customer != NULL)
		describe_lines(&j->effects, answer);
	else
		describe_class(c, &i->prefix, answer);
	return answer;
}

/* The client is answered when the parent has said so too. */
static void
wait_for_parent(struct client *cl, json_t *answer, uint32_t cookie, bool told,
	size_t due)
{
	if (cl == NULL) {
		json_decref(answer);
		return;
	}
	if (!told) {
		json_object_set_new(answer, "in_force", json_false());
		json_object_set_new(answer, "note", json_string("written; it "
			"comes into force within seconds"));
		ctlsock_answer(cl, answer);
		return;
	}
	if (due == 0) {
		json_object_set_new(answer, "in_force", json_true());
		ctlsock_answer(cl, answer);
		return;
	}
	cl->cookie = cookie;
	cl->due = due;
	cl->worst = 0;
	cl->answer_then = answer;
}

static void
put_done(struct control *c, struct scribe_job *j, struct client *cl)
{
	static const char *const word[] = { "same", "added", "changed" };
	json_t *answer = describe(c, j);
	uint32_t cookie = ++c->cookie;
	int rc;

	json_object_set_new(answer, "result", json_string(word[j->rc]));
	if (j->rc > 0)
		note(j->rc == 1 ? "add" : "change", &j->entry, j->who, j->why);
	rc = ctlallow_spread(c, &j->effects, cookie);
	wait_for_parent(cl, answer, cookie, rc == 0, j->effects.n);
}

/* What the allow file says of it; NULL: nothing. */
static const struct allow_entry *
in_file(const struct control *c, const struct ledger_entry *e)
{
	int32_t n;

	if (e->customer != NULL)
		return conf_allow_of(c->conf, e->customer, time(NULL));
	n = lpm_get(c->conf->allow_lpm, &e->item.prefix);
	return n < 0 ? NULL : &c->conf->allow[n];
}

static void
del_done(struct control *c, struct scribe_job *j, struct client *cl)
{
	const struct allow_entry *file = in_file(c, &j->entry);
	uint32_t cookie = ++c->cookie;
	char text[512];
	json_t *answer;
	int rc;

	if (j->rc == 0 && file != NULL && cl != NULL) {
		snprintf(text, sizeof(text), "not in the ledger; it is line %u "
			"of %s: delete it there and reload", file->line,
			c->conf->allow_file);
		ctlsock_error(cl, text);
		return;
	}
	answer = describe(c, j);
	json_object_set_new(answer, "result", json_string(j->rc == 1 ?
		"deleted" : "absent"));
	if (file != NULL)
		json_object_set_new(answer, "file_line",
			json_integer(file->line));
	if (j->rc == 1)
		note("del", &j->entry, j->who, j->why);
	rc = ctlallow_spread(c, &j->effects, cookie);
	wait_for_parent(cl, answer, cookie, rc == 0, j->effects.n);
}

static void
import_done(struct control *c, struct scribe_job *j, struct client *cl)
{
	const struct ledger_import *r = &j->import;
	uint32_t cookie = ++c->cookie;
	char line[256];
	json_t *answer;
	struct kv k;

	answer = json_pack("{s:b,s:I,s:I,s:I}", "ok", 1,
		"added", (json_int_t)r->added,
		"changed", (json_int_t)r->changed, "same", (json_int_t)r->same);
	kv_open(&k, line, sizeof(line), "allow");
	kv_word(&k, "op", "import");
	kv_uint(&k, "added", r->added);
	kv_uint(&k, "changed", r->changed);
	kv_uint(&k, "same", r->same);
	kv_text(&k, "who", j->who, strlen(j->who));
	log_line(LOG_INFO, line);
	take_all(c, j, cookie);
	wait_for_parent(cl, answer, cookie, true, 1);
}

void
ctlallow_refused(struct client *cl, const struct scribe_job *j)
{
	if (cl != NULL)
		ctlsock_answer(cl, json_pack("{s:b,s:s,s:I,s:s}", "ok", 0,
			"error", "the file has mistakes; nothing was changed",
			"lines", (json_int_t)j->import.errors, "errors",
			j->import.text == NULL ? "" : j->import.text));
}

/* Lines that customers' entries of the allow file stood for. */
static void
drop_over(struct control *c)
{
	int64_t now = time(NULL);
	size_t n = 0, all;

	if (c->allow == NULL || c->conf->nallow_line == 0)
		return;
	(void)allowmap_all(c->allow, &n);
	while (n > 0) {
		const struct allow_item i = allowmap_all(c->allow, &all)[--n];

		if (i.until == 0 || i.until > now)
			continue;
		/* the last, which was looked at, takes its place */
		(void)allowmap_del(c->allow, &i.prefix);
		control_allow_one(c, &i, false);
	}
}

static void
expired(struct control *c, struct scribe_job *j)
{
	for (int n = 0; n < j->rc; n++) {
		struct ledger_entry e = { .item = j->gone[n].item };

		if (e.item.prefix.family == 0)
			e.customer = j->gone[n].customer;
		note("expire", &e, "sallyportd", "");
	}
	(void)ctlallow_spread(c, &j->effects, 0);
	drop_over(c);
}

static void
show_done(struct scribe_job *j, struct client *cl)
{
	char *text = NULL;

	if (cl == NULL)
		return;
	if (asprintf(&text, "{\"ok\":true,\"entries\":%s}\n", j->text) < 0)
		ctlsock_error(cl, "no memory");
	else
		ctlsock_answer_text(cl, text);
}

static void
job_failed(struct control *c, struct scribe_job *j, struct client *cl)
{
	char text[256];

	if (j->op == SCRIBE_IMPORT && j->import.errors > 0) {
		ctlallow_refused(cl, j);
		return;
	}
	c->ledger_ok = false;
	ctlallow_alarm(c, j->error);
	if (cl == NULL)
		return;
	snprintf(text, sizeof(text), "the ledger: %s", j->error);
	ctlsock_error(cl, text);
}

static void
forget_job(struct control *c, const struct scribe_job *j)
{
	if (j->op == SCRIBE_LOAD) {
		c->loading = false;
		if (c->load_again)
			reload_all(c);
		c->load_again = false;
	}
	if (j->op == SCRIBE_WATCH)
		c->watching = false;
	if (j->op == SCRIBE_EXPIRE)
		c->expiring = false;
	if (j == c->import)
		c->import = NULL;
}

static void
job_done(void *arg, struct scribe_job *j)
{
	struct control *c = arg;
	struct client *cl = ctlsock_find(c, j->client);

	forget_job(c, j);
	if (j->leases != NULL) {
		ctllease_done(c, j, cl);
		return;
	}
	if (j->op == SCRIBE_WHY) {
		ctlwhy_done(c, j, cl);
		return;
	}
	if (j->op == SCRIBE_HOUR) {
		if (j->rc < 0)
			ctlallow_alarm(c, j->error);
		return;
	}
	if (j->op == SCRIBE_LEVELS || j->op == SCRIBE_RESTORE) {
		ctllevel_done(c, j);
		return;
	}
	if (j->rc < 0) {
		job_failed(c, j, cl);
		return;
	}
	c->ledger_ok = true;
	switch (j->op) {
	case SCRIBE_LOAD:
		take_all(c, j, 0);
		break;
	case SCRIBE_PUT:
		put_done(c, j, cl);
		break;
	case SCRIBE_DEL:
		del_done(c, j, cl);
		break;
	case SCRIBE_IMPORT:
		import_done(c, j, cl);
		break;
	case SCRIBE_EXPIRE:
		expired(c, j);
		break;
	case SCRIBE_LIST:
	case SCRIBE_AUDIT:
		show_done(j, cl);
		break;
	case SCRIBE_WATCH:
		if (j->rc == 1)
			reload_all(c);
		break;
	default:
		break;
	}
}

static const char *
not_in_force(uint32_t state)
{
	switch (state) {
	case 1:
		return "written; the kernel has no rules (`sallyport rules "
			"apply')";
	case 3:
		return "written; the daemon is leaving, it counts from its "
			"next start on";
	default:
		return "written, but the kernel's set did not take it (see "
			"the log)";
	}
}

void
ctlallow_answer(struct control *c, const struct msg *m)
{
	for (struct client *cl = c->clients; cl != NULL; cl = cl->next) {
		json_t *answer = cl->answer_then;

		if (answer == NULL || cl->cookie != m->n)
			continue;
		if (m->m > cl->worst)
			cl->worst = m->m;
		if (--cl->due > 0)
			return;
		cl->answer_then = NULL;
		json_object_set_new(answer, "in_force",
			json_boolean(cl->worst == 0));
		if (cl->worst != 0)
			json_object_set_new(answer, "note",
				json_string(not_in_force(cl->worst)));
		ctlsock_answer(cl, answer);
		return;
	}
}

/* ---- requests ---- */

static const struct {
	const char *word;
	enum scribe_op op;
} verb[] = {
	{ "add", SCRIBE_PUT }, { "del", SCRIBE_DEL },
	{ "import", SCRIBE_IMPORT }, { "list", SCRIBE_LIST },
	{ "audit", SCRIBE_AUDIT },
};

static void
start(struct client *cl, enum scribe_op op, char *rest)
{
	struct control *c = cl->control;
	struct scribe_job *j = scribe_job_new(op);
	const char *why;

	if (j == NULL || c->scribe == NULL) {
		scribe_job_free(j);
		ctlsock_error(cl, "the ledger is not there");
		return;
	}
	j->client = cl->serial;
	j->again = c->again;
	why = ctlwords_job(cl, j, rest);
	if (why != NULL) {
		scribe_job_free(j);
		ctlsock_error(cl, why);
		return;
	}
	ctlsock_wait(cl, op == SCRIBE_IMPORT ? IMPORT_SECONDS : WAIT_SECONDS,
		"the ledger does not answer; whether this is written shows "
		"`sallyport allow list' later");
	if (scribe_post(c->scribe, j) != 0) {
		if (op == SCRIBE_IMPORT)
			c->import = NULL;
		ctlallow_alarm(c, "too many requests wait for it");
		ctlsock_error(cl, "too many requests wait for the ledger");
	}
}

void
ctlallow_request(struct client *cl, char *rest)
{
	const char *first = ctlwords_next(&rest);

	if (strcmp(first, "check") == 0) {
		(void)control_ask(cl->control, MSG_ALLOW_CHECK);
		ctlsock_answer(cl, json_pack("{s:b}", "ok", 1));
		return;
	}
	for (size_t i = 0; i < sizeof(verb) / sizeof(verb[0]); i++)
		if (strcmp(first, verb[i].word) == 0) {
			start(cl, verb[i].op, rest);
			return;
		}
	ctlsock_error(cl, "unknown request");
}

json_t *
ctlallow_status(const struct control *c)
{
	size_t n = 0;

	if (c->allow != NULL)
		(void)allowmap_all(c->allow, &n);
	return json_pack("{s:s,s:b,s:I,s:I,s:I}", "file", c->conf->ledger_file,
		"ok", c->ledger_ok, "entries", (json_int_t)n, "failures",
		(json_int_t)c->ledger_errors, "levels_lost",
		(json_int_t)c->levels_lost);
}

/* ---- each second ---- */

static bool
something_is_over(const struct control *c)
{
	int64_t now = time(NULL);
	size_t n = 0;
	const struct allow_item *i = c->allow == NULL ? NULL :
		allowmap_all(c->allow, &n);

	for (; n > 0; n--, i++)
		if (i->until != 0 && i->until <= now)
			return true;
	return false;
}

static void
tell_progress(struct control *c)
{
	struct client *cl = c->import == NULL ? NULL :
		ctlsock_find(c, c->import->client);
	char text[64];
	int n;

	if (cl == NULL)
		return;
	n = snprintf(text, sizeof(text), "{\"progress\":%llu}\n",
		(unsigned long long)c->import->progress);
	(void)send(cl->fd, text, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void
on_second(evutil_socket_t fd, short what, void *arg)
{
	struct control *c = arg;

	(void)fd;
	(void)what;
	tell_progress(c);
	tell_parent_all(c);
	if (c->draining)
		return;
	if (!c->expiring && something_is_over(c)) {
		c->expiring = true;
		post(c, scribe_job_new(SCRIBE_EXPIRE));
	}
	if (++c->seconds % WATCH_SECONDS != 0)
		return;
	if (c->allow == NULL)
		reload_all(c);
	else if (!c->watching) {
		c->watching = true;
		post(c, scribe_job_new(SCRIBE_WATCH));
	}
}

int
ctlallow_open(struct control *c)
{
	const struct timeval second = { 1, 0 };

	c->all_memfd = -1;
	c->scribe = scribe_start(c->base, c->conf, job_done, c);
	c->ev_allow = event_new(c->base, -1, EV_PERSIST, on_second, c);
	if (c->ev_allow == NULL || event_add(c->ev_allow, &second) != 0)
		return -1;
	reload_all(c);
	ctllease_open(c);
	return 0;
}

void
ctlallow_close(struct control *c)
{
	scribe_stop(&c->scribe);
	ctllease_close(c);
	if (c->ev_allow != NULL)
		event_free(c->ev_allow);
	if (c->all_memfd >= 0)
		close(c->all_memfd);
	allowmap_free(&c->allow);
}
