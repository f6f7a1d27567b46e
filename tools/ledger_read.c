/*
 * ledger_read.c - the ledger for the command line, running daemon or not
 *
 * Does: open the ledger's file as the user it belongs to, or ask the daemon
 * when that is not permitted, and tell its entries. Does not: write.
 *
 * Called by `allow list', `allow export' and by those who need the whole
 * allowlist (`rules apply'). The file's directory belongs to the control
 * process: root reads it with that user's rights only, so that a link left
 * there leads nowhere and SQLite's side files get the right owner.
 */
#include "tools/ledger_read.h"

#include <errno.h>
#include <grp.h>
#include <jansson.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tools/ask.h"

#define SECONDS 15

/* Become the owner for a while; -1: not permitted. Not root: stay. */
static int
become(const struct conf *c)
{
	const struct passwd *pw;

	if (geteuid() != 0)
		return 0;
	pw = getpwnam(c->user_control);
	if (pw == NULL || setegid(pw->pw_gid) != 0)
		return -1;
	if (seteuid(pw->pw_uid) == 0)
		return 0;
	if (setegid(getgid()) != 0)
		abort();
	return -1;
}

static void
return_to_self(void)
{
	if (seteuid(getuid()) != 0 || setegid(getgid()) != 0)
		abort();
}

int
ledger_with(const struct conf *c, int (*use)(struct ledger *l, void *arg),
	void *arg, char why[200])
{
	struct ledger *l;
	int rc = -1;

	if (access(c->ledger_file, F_OK) != 0 && errno == ENOENT)
		return 1;
	if (become(c) != 0) {
		snprintf(why, 200, "cannot become user %s", c->user_control);
		return -1;
	}
	if (access(c->ledger_file, R_OK) != 0) {
		rc = errno == ENOENT ? 1 : -1;
		snprintf(why, 200, "%s", strerror(errno));
	} else if ((l = ledger_open(c->ledger_file, true, why)) != NULL) {
		rc = use(l, arg);
		snprintf(why, 200, "%s", ledger_error(l));
		ledger_close(&l);
	}
	return_to_self();
	return rc;
}

struct telling {
	const struct conf *conf;
	void (*each)(void *arg, const struct ledger_entry *e);
	void *arg;
};

static int
tell_all(struct ledger *l, void *arg)
{
	const struct telling *t = arg;
	int rc = ledger_each(l, t->each, t->arg);

	return rc != 0 ? rc : ledger_each_line(l, t->conf, time(NULL), t->each,
		t->arg);
}

static void
tell(const json_t *one,
	void (*each)(void *arg, const struct ledger_entry *e), void *arg)
{
	const char *prefix = json_string_value(json_object_get(one, "prefix"));
	const char *action = json_string_value(json_object_get(one, "action"));
	struct ledger_entry e = { .pinned = json_is_true(json_object_get(one,
		"pinned")) };
	const char *why;

	if (prefix == NULL || action == NULL ||
	    ledger_named(&e, prefix, &why) != 0)
		return;
	if (e.customer == NULL)
		e.customer = json_string_value(json_object_get(one,
			"customer"));
	while (e.item.action < ACTION_COUNT &&
		strcmp(action_name[e.item.action], action) != 0)
		e.item.action++;
	e.item.until = json_integer_value(json_object_get(one, "until"));
	e.since = json_integer_value(json_object_get(one, "since"));
	e.who = json_string_value(json_object_get(one, "who"));
	e.why = json_string_value(json_object_get(one, "why"));
	if (e.who != NULL && e.why != NULL && (e.item.prefix.family == 0 ?
	    allow_rest_valid(&e.item) : allow_item_valid(&e.item)))
		each(arg, &e);
}

static int
ask_list(const char *config,
	void (*each)(void *arg, const struct ledger_entry *e), void *arg)
{
	json_t *answer = ask_daemon(config, "allow list\n", SECONDS), *one;
	size_t n;

	if (answer == NULL)
		return NOT_RUNNING;
	if (!json_is_true(json_object_get(answer, "ok"))) {
		const char *error = json_string_value(json_object_get(answer,
			"error"));

		fprintf(stderr, "sallyport: %s\n", error != NULL ? error : "?");
		json_decref(answer);
		return 1;
	}
	json_array_foreach(json_object_get(answer, "entries"), n, one)
		tell(one, each, arg);
	json_decref(answer);
	return 0;
}

int
ledger_read(const struct conf *c, const char *config,
	void (*each)(void *arg, const struct ledger_entry *e), void *arg)
{
	char why[200] = "";
	struct telling t = { c, each, arg };
	int rc = ledger_with(c, tell_all, &t, why);

	if (rc >= 0)
		return 0;
	if (geteuid() != 0)
		return ask_list(config, each, arg);
	fprintf(stderr, "sallyport: %s: %s\n", c->ledger_file, why);
	return 1;
}

static void
attach_one(void *arg, const struct ledger_entry *e)
{
	/* of a customer's entry the lines, which come behind it */
	if (e->item.prefix.family != 0)
		(void)allowmap_put(arg, &e->item);
}

void
ledger_attach(struct conf *c, const char *config, struct allowmap **map_r)
{
	*map_r = allowmap_new();
	if (*map_r == NULL || ledger_read(c, config, attach_one, *map_r) != 0)
		fprintf(stderr, "warning: without the entries of the ledger\n");
	c->ledger = *map_r;
}
