/*
 * conf_policy.c - what a line gets on port 25
 *
 * The only place that joins classes, enforcement, allowlist and time. Reads
 * the configuration and its longest-prefix tables; no state, no allocation.
 *
 * Called by the relays for every captured connection, by the kernel rules'
 * author for the sets, and by the command line. The line's address comes from
 * the packet; the prefix tables are keyed against chosen addresses.
 */
#include "conf/allowmap.h"
#include "conf/conf.h"
#include "conf/lpm.h"

const char *const action_name[ACTION_COUNT] = {
	[ACTION_PASS] = "pass",
	[ACTION_WATCH] = "watch",
	[ACTION_RELAY] = "relay",
	[ACTION_BLOCK] = "block",
	[ACTION_SUBMIT] = "submit",
	[ACTION_RESET] = "reset",
	[ACTION_DROP] = "drop",
};

/* The longest entry of the file that has not expired. */
static const struct allow_entry *
allow_find(const struct conf *conf, const struct addr *line, int64_t now)
{
	unsigned max_len = 128;
	struct prefix matched;

	for (;;) {
		int32_t i = lpm_find_within(conf->allow_lpm, line, max_len,
			&matched);

		if (i < 0)
			return NULL;
		if (conf->allow[i].until == 0 || conf->allow[i].until > now)
			return &conf->allow[i];
		if (matched.len == 0)
			return NULL;
		max_len = matched.len - 1u;
	}
}

/* Who decides about a line: an entry of the file, one of the ledger, which wins
 * on the same prefix, or neither: then its class. */
struct decider {
	int class;			/* -1: not a subscriber */
	const struct allow_entry *entry;
	const struct allow_item *item;
};

static void
find_decider(const struct conf *conf, const struct addr *line, int64_t now,
	struct decider *d_r)
{
	d_r->class = lpm_find(conf->class_lpm, line, NULL);
	d_r->entry = NULL;
	d_r->item = NULL;
	if (d_r->class < 0)
		return;
	d_r->entry = allow_find(conf, line, now);
	if (conf->ledger != NULL)
		d_r->item = allowmap_find(conf->ledger, line, now);
	if (d_r->item != NULL && d_r->entry != NULL &&
	    d_r->item->prefix.len < d_r->entry->prefix.len)
		d_r->item = NULL;
	if (d_r->item != NULL)
		d_r->entry = NULL;
}

enum action
conf_class_action(const struct class_conf *k, const struct addr *destination)
{
	struct addr plain;

	if (k->enforce != ENFORCE_LISTED)
		return k->effective;
	addr_nat64(&plain, destination);
	return lpm_find(k->destination_lpm, &plain, NULL) >= 0 ?
		k->effective : ACTION_WATCH;
}

/* destination NULL: towards anybody. */
static enum action
decide(const struct conf *conf, const struct addr *line,
	const struct addr *destination, int64_t now, int *class_r,
	const struct allow_entry **allow_r)
{
	struct decider d;

	find_decider(conf, line, now, &d);
	if (class_r != NULL)
		*class_r = d.class;
	if (allow_r != NULL)
		*allow_r = d.entry;
	if (d.class < 0)
		return ACTION_PASS;
	if (d.item != NULL)
		return (enum action)d.item->action;
	if (d.entry != NULL)
		return d.entry->action;
	return destination == NULL ? conf->classes[d.class].effective :
		conf_class_action(&conf->classes[d.class], destination);
}

enum action
conf_policy(const struct conf *conf, const struct addr *line, int64_t now,
	int *class_r, const struct allow_entry **allow_r)
{
	return decide(conf, line, NULL, now, class_r, allow_r);
}

enum action
conf_policy_to(const struct conf *conf, const struct addr *line,
	const struct addr *destination, int64_t now, int *class_r,
	const struct allow_entry **allow_r)
{
	return decide(conf, line, destination, now, class_r, allow_r);
}

bool
conf_class_counts(const struct class_conf *k)
{
	if (k->port25 == ACTION_PASS)
		return false;
	/* what is only watched was made a watch class to be counted */
	if (k->effective != k->port25 || k->enforce == ENFORCE_LISTED)
		return true;
	return k->count;
}

bool
conf_nfq_saw(const struct conf *conf, int class)
{
	const struct class_conf *k = &conf->classes[class];

	return conf->nfq_queue != 0 && (k->count || k->effective != k->port25);
}

size_t
conf_hosts(const struct conf *conf)
{
	return 2 * conf->nservers;
}

const char *
conf_host(const struct conf *conf, size_t host)
{
	return host < conf->nservers ? conf->servers[host].name :
		conf->servers[host - conf->nservers].submission_host;
}

enum source
conf_source(const struct conf *conf, int server)
{
	if (server < 0 || (size_t)server >= conf->nservers ||
	    conf->servers[server].source == FROM_DEFAULT)
		return conf->source;
	return conf->servers[server].source == FROM_CLIENT ? SOURCE_CLIENT :
		SOURCE_GATEWAY;
}

bool
conf_has_source(const struct conf *conf, enum source source)
{
	if (conf->source == source)
		return true;
	for (size_t i = 0; i < conf->nservers; i++)
		if (conf_source(conf, (int)i) == source)
			return true;
	return false;
}
