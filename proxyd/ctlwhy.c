/*
 * ctlwhy.c - why a line gets what it gets: the whole path of a decision
 *
 * Does: for an address, perhaps with a port, a destination and a time, find the
 * line, its class and customer, the entry of the allowlist that decides, the level
 * with its evidence and its history, and what the next connection to port 25 gets.
 * For a time that was: who had the line then, and what was written of it. Does
 * not: say it in words; that is the command's (tools/cmd_why.c).
 *
 * Called by ctlsock.c and ctlallow.c. Operators control the words; what comes from
 * the ledger went in checked and goes out as JSON.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "conf/lpm.h"
#include "proxyd/control.h"
#include "proxyd/policy.h"
#include "zombie/table.h"

#define WAIT_SECONDS 10

/* ---- the words ---- */

static const char *
parse_time(const char *text, struct scribe_why *w)
{
	char *end;

	w->at = time(NULL);
	if (strcmp(text, "-") == 0 || text[0] == '\0')
		return NULL;
	w->at = strtoll(text, &end, 10);
	w->is_past = true;
	return *end != '\0' || w->at <= 0 || w->at > time(NULL) + 1 ?
		"a time that has been is expected" : NULL;
}

/* NULL, or what is wrong with them. */
static const char *
parse_words(char *rest, struct scribe_why *w)
{
	const char *src = ctlwords_next(&rest), *dst = ctlwords_next(&rest);

	if (addr_parse(&w->src, src) != 0)
		return "expected an address, perhaps with a port";
	if (strcmp(dst, "-") != 0 && dst[0] != '\0' &&
	    addr_parse(&w->dst, dst) != 0)
		return "expected an address as destination";
	return parse_time(ctlwords_next(&rest), w);
}

static const struct class_conf *
class_of(const struct control *c, const struct addr *a)
{
	int32_t n = lpm_find(c->conf->class_lpm, a, NULL);

	return n < 0 ? NULL : &c->conf->classes[n];
}

/* The line of an address; false: behind it there are many, and no port says
 * which. */
static bool
line_of(const struct class_conf *k, const struct addr *a,
	struct line_key *key_r)
{
	if (k == NULL || (k->port_block != 0 && a->family == AF_INET &&
	    a->port == 0))
		return false;
	line_key_of(a, k->line_len6, k->port_block, key_r);
	return true;
}

/* ---- the present ---- */

/* The listed server that has this address; -1: none. */
static int
server_of(const struct control *c, const struct addr *a)
{
	for (size_t s = 0; a->family != 0 && s < c->conf->nservers; s++) {
		size_t n;
		const struct known_addr *known = names_list(c->names, s, &n);

		for (size_t i = 0; i < n; i++)
			if (addr_same_host(&known[i].addr, a))
				return (int)s;
	}
	return a->family == 0 ? -1 : conf_server_at(c->conf, a);
}

static void
put_entry(json_t *o, const struct prefix *p, unsigned action, int64_t until,
	const char *origin, unsigned line)
{
	char text[ADDR_STRLEN];

	json_object_set_new(o, "entry", json_pack("{s:s,s:s,s:I,s:s,s:i}",
		"prefix", prefix_format(p, text), "action", action_name[action],
		"until", (json_int_t)until, "origin", origin, "line",
		(int)line));
}

/* What a relay would do, asked as a relay asks. */
static void
put_treatment(const struct conf *conf, const struct table *t,
	enum action action, const struct addr *dst, struct decision *d,
	json_t *o)
{
	static const char *const word[] = { [TREAT_RELAY] = "relay",
		[TREAT_BLOCK] = "block", [TREAT_SUBMIT] = "submit",
		[TREAT_RESET] = "reset" };

	policy_port25(conf, t, action, dst, d);
	json_object_set_new(o, "treatment", json_string(word[d->treatment]));
	json_object_set_new(o, "zombie_refused", json_boolean(d->reason ==
		REASON_ZOMBIE));
	json_object_set_new(o, "slow", json_boolean(d->is_slow));
	json_object_set_new(o, "server", d->server == -1 ? json_null() :
		json_string(conf->servers[d->server].name));
	if (d->server != -1 &&
	    conf->servers[d->server].submission_host != NULL)
		json_object_set_new(o, "submission_host", json_string(
			conf->servers[d->server].submission_host));
	json_object_set_new(o, "pass_destination", json_boolean(
		policy_is_pass_destination(conf, dst, d->server)));
}

/* Which entry decides, and what is done towards the destination. */
static void
put_decision(const struct control *c, const struct scribe_why *w,
	const struct line_key *line, json_t *o)
{
	struct decision d = { .reason = REASON_NONE, .line = *line };
	const struct allow_entry *entry = NULL;
	const struct allow_item *item = NULL;
	struct conf conf = *c->conf;
	int64_t now = time(NULL);
	enum action action;

	conf.ledger = c->allow;
	d.server = server_of(c, &w->dst);
	action = w->dst.family == 0 ?
		conf_policy(&conf, &w->src, now, &d.class_index, &entry) :
		conf_policy_to(&conf, &w->src, &w->dst, now, &d.class_index,
			&entry);
	if (entry == NULL && c->allow != NULL)
		item = allowmap_find(c->allow, &w->src, now);
	if (entry != NULL)
		put_entry(o, &entry->prefix, entry->action, entry->until,
			"file", entry->line);
	else if (item != NULL)
		put_entry(o, &item->prefix, item->action, item->until,
			"ledger", 0);
	json_object_set_new(o, "action", json_string(action_name[action]));
	put_treatment(&conf, c->table, action, &w->dst, &d, o);
}

static json_t *
answer_of(const struct control *c, const struct scribe_why *w)
{
	const struct class_conf *k = class_of(c, &w->src);
	json_t *o = json_pack("{s:b,s:s,s:I,s:b}", "ok", 1, "line", w->line,
		"at", (json_int_t)w->at, "past", w->is_past);
	struct line_key key = { 0 };
	char text[ADDR_STRLEN];
	struct addr host = w->src;
	bool has_line;

	host.port = 0;
	json_object_set_new(o, "address", json_string(addr_format(&host,
		text)));
	json_object_set_new(o, "class", k == NULL ? json_null() :
		json_string(k->name));
	json_object_set_new(o, "port_block", json_integer(k == NULL ||
		w->src.family != AF_INET ? 0 : k->port_block));
	if (w->dst.family != 0)
		json_object_set_new(o, "destination", json_string(addr_format(
			&w->dst, text)));
	if (k == NULL)
		return o;
	has_line = line_of(k, &w->src, &key);
	put_decision(c, w, &key, o);
	if (c->table != NULL && has_line)
		ctlzombie_show(c, &key, o);
	return o;
}

/* ---- request and answer ---- */

void
ctlwhy_done(struct control *c, struct scribe_job *j, struct client *cl)
{
	json_t *o, *written;

	if (cl == NULL)
		return;
	o = answer_of(c, &j->about);
	written = j->rc == 0 ? json_loads(j->text, 0, NULL) : NULL;
	if (written != NULL)
		json_object_update(o, written);
	else
		json_object_set_new(o, "ledger_error", json_string(j->error));
	json_decref(written);
	ctlsock_answer(cl, o);
}

/* Whose entries are to be looked up: of what decides, or of the line itself. */
static void
set_subject(const struct control *c, const struct line_key *key,
	struct scribe_job *j)
{
	const struct allow_item *item = c->allow == NULL ? NULL :
		allowmap_find(c->allow, &j->about.src, time(NULL));

	if (item != NULL && !j->about.is_past)
		j->entry.item.prefix = item->prefix;
	else if (key != NULL)
		line_key_prefix(key, &j->entry.item.prefix);
}

void
ctlwhy_request(struct client *cl, char *rest)
{
	struct control *c = cl->control;
	struct scribe_job *j = scribe_job_new(SCRIBE_WHY);
	const char *wrong = j == NULL ? "no memory" :
		parse_words(rest, &j->about);
	struct line_key key, parent;
	bool has_line;

	if (wrong != NULL) {
		scribe_job_free(j);
		ctlsock_error(cl, wrong);
		return;
	}
	j->client = cl->serial;
	has_line = line_of(class_of(c, &j->about.src), &j->about.src, &key);
	if (has_line)
		ctlzombie_text(c, &key, j->about.line);
	if (has_line && rollup_parent(c->conf, &key, &parent))
		ctlzombie_text(c, &parent, j->about.parent);
	set_subject(c, has_line ? &key : NULL, j);
	ctlsock_wait(cl, WAIT_SECONDS, "the ledger does not answer");
	if (c->scribe == NULL) {
		scribe_job_free(j);
		ctlsock_error(cl, "the ledger is not there");
	} else if (scribe_post(c->scribe, j) != 0)
		ctlsock_error(cl, "too many requests wait for the ledger");
}
