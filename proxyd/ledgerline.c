/*
 * ledgerline.c - entries of customers: which lines they stand for
 *
 * Does: say what counts for a line, from the entry of its prefix and those of
 * the customer who has it, in ledger and allow file; tell all lines that
 * customers' entries stand for; tell what a change of an entry or of a lease
 * has made of the lines it touches. Does not: change anything.
 *
 * Called by scribe.c in a thread of its own, and by the command line, which
 * reads. Ids and lines have been checked when they were written; a lease that
 * is no line of any class any more is left out.
 *
 * Of two entries that are as long, the first of these counts: the ledger's for
 * the prefix, the ledger's for the customer, the file's for the prefix, the
 * file's for the customer. A block of ports behind CGN shares its address with
 * other customers: the kernel's sets cannot tell them apart, so that nothing
 * counts for it.
 */
#include <stdlib.h>
#include <string.h>

#include "conf/lpm.h"
#include "proxyd/lease.h"
#include "proxyd/ledger_impl.h"

static bool
is_in_force(int64_t until, int64_t now)
{
	return until == 0 || until > now;
}

static int
of_file(const struct conf *conf, const struct prefix *p, const char *customer,
	int64_t now, struct ledger_entry *e_r)
{
	const struct allow_entry *e = conf_allow_of(conf, customer, now);
	int32_t exact = e == NULL ? -1 : lpm_get(conf->allow_lpm, p);

	if (e == NULL || (exact >= 0 &&
		    is_in_force(conf->allow[exact].until, now)))
		return 0;
	memset(e_r, 0, sizeof(*e_r));
	e_r->item.action = (uint8_t)e->action;
	e_r->item.until = e->until;
	return 1;
}

/* As ledger_get(), but a row that nobody here wrote is none. */
static int
get(struct ledger *l, const struct ledger_entry *of, struct ledger_entry *e_r)
{
	int rc = ledger_get(l, of, e_r);

	return rc == 1 && !allow_rest_valid(&e_r->item) ? 0 : rc;
}

/* What the ledger's map should have for a prefix that a customer has ("":
 * nobody): 1 and *e_r (customer NULL: the prefix's own), 0 nothing, -1. */
static int
find(struct ledger *l, const struct conf *conf, const struct prefix *p,
	const char *customer, int64_t now, struct ledger_entry *e_r)
{
	struct ledger_entry of = { .item.prefix = *p };
	int rc = get(l, &of, e_r);

	if (rc != 0 || customer[0] == '\0')
		return rc;
	of = (struct ledger_entry){ .customer = customer };
	rc = get(l, &of, e_r);
	if (rc == 0)
		rc = of_file(conf, p, customer, now, e_r);
	if (rc == 1) {
		e_r->item.prefix = *p;
		e_r->customer = customer;
		e_r->who = e_r->why = "";
	}
	return rc;
}

/* The prefix of a lease. 1, or 0: no line any more, or (shared) not alone. */
static int
prefix_of(const struct conf *conf, const char *text, struct prefix *p_r,
	bool *shared_r)
{
	char line[LINE_STRLEN], why[160];
	struct line_key k;

	*shared_r = false;
	if (lease_line(conf, text, &k, line, why) != NULL)
		return 0;
	*shared_r = k.block != 0;
	line_key_prefix(&k, p_r);
	return !*shared_r;
}

/* ---- all of them ---- */

struct walk {
	struct ledger *l;
	const struct conf *conf;
	int64_t now;
	/* one line of the customer; 0, or -1: enough, or an error */
	int (*line)(struct walk *w, const struct prefix *p, bool shared,
		const char *customer);
	void (*each)(void *arg, const struct ledger_entry *e);
	void *arg;
};

static int
walk_customer(struct walk *w, const char *customer)
{
	sqlite3_stmt *st = ledgerdb_statement(w->l, LEASE_LINES);
	struct prefix p;
	bool shared;
	int rc, bad = 0;

	if (st == NULL)
		return -1;
	ledgerdb_bind_text(st, 1, customer, CONF_CUSTOMER_MAX);
	while ((rc = sqlite3_step(st)) == SQLITE_ROW && bad == 0)
		if (prefix_of(w->conf, ledgerdb_text(st, 0), &p, &shared) == 1 ||
		    shared)
			bad = w->line(w, &p, shared, customer);
	if (rc != SQLITE_DONE && rc != SQLITE_ROW)
		bad = ledgerdb_failed(w->l, "read a customer's lines");
	sqlite3_reset(st);
	return bad;
}

static int
tell_line(struct walk *w, const struct prefix *p, bool shared,
	const char *customer)
{
	struct ledger_entry e;
	int rc = shared ? 0 : find(w->l, w->conf, p, customer, w->now, &e);

	if (rc == 1 && e.customer != NULL)
		w->each(w->arg, &e);
	return rc < 0 ? -1 : 0;
}

int
ledger_each_line(struct ledger *l, const struct conf *conf, int64_t now,
	void (*each)(void *arg, const struct ledger_entry *e), void *arg)
{
	struct walk w = { .l = l, .conf = conf, .now = now, .line = tell_line,
		.each = each, .arg = arg };
	sqlite3_stmt *st = ledgerdb_statement(l, CUSTOMERS);
	char customer[CONF_CUSTOMER_MAX];
	struct ledger_entry e;
	int rc, bad = 0;

	if (st == NULL)
		return -1;
	while ((rc = sqlite3_step(st)) == SQLITE_ROW && bad == 0)
		if (ledgerdb_entry(st, 0, &e, customer))
			bad = walk_customer(&w, customer);
	if (rc != SQLITE_DONE && bad == 0)
		bad = ledgerdb_failed(l, "read");
	sqlite3_reset(st);
	for (size_t i = 0; i < conf->nallow_line && bad == 0; i++) {
		const struct ledger_entry of = {
			.customer = conf->allow_line[i].customer };

		/* told above */
		if ((rc = get(l, &of, &e)) == 1)
			continue;
		bad = rc < 0 ? -1 : walk_customer(&w, of.customer);
	}
	return bad;
}

/* ---- what a change has made of it ---- */

static int
add_effect(struct walk *w, const struct prefix *p, bool shared,
	const char *customer)
{
	struct ledger_effects *out = w->arg;
	struct ledger_effect *f = &out->effect[out->n];
	struct ledger_entry e;
	int rc;

	if (shared) {
		out->shared++;
		return 0;
	}
	if (out->n == LEDGER_EFFECTS_MAX) {
		out->many = true;
		return 0;
	}
	rc = find(w->l, w->conf, p, customer, w->now, &e);
	if (rc < 0)
		return -1;
	memset(f, 0, sizeof(*f));
	f->counts = rc == 1;
	if (f->counts)
		f->item = e.item;
	else {
		f->item.prefix = *p;
		f->item.action = ACTION_PASS;
	}
	out->n++;
	return 0;
}

static int
make_room(struct ledger *l, struct ledger_effects *out)
{
	if (out->effect == NULL)
		out->effect = calloc(LEDGER_EFFECTS_MAX, sizeof(*out->effect));
	if (out->effect != NULL)
		return 0;
	snprintf(l->error, sizeof(l->error), "no memory");
	return -1;
}

int
ledger_effects(struct ledger *l, const struct conf *conf,
	const struct ledger_entry *e, int64_t now, struct ledger_effects *out)
{
	struct walk w = { .l = l, .conf = conf, .now = now,
		.line = add_effect, .arg = out };
	char text[ADDR_STRLEN], line[LINE_STRLEN], why[160];
	char customer[LEASE_CUSTOMER_MAX] = "";
	struct line_key k;

	if (make_room(l, out) != 0)
		return -1;
	if (e->customer != NULL)
		return walk_customer(&w, e->customer);
	/* a prefix that is no line has no customer */
	if (lease_line(conf, prefix_format(&e->item.prefix, text), &k, line,
		    why) == NULL && ledger_lease_of(l, line, customer) < 0)
		return -1;
	return add_effect(&w, &e->item.prefix, false, customer);
}

/* Has he an entry? 1, 0, -1. */
static int
is_allowed(struct ledger *l, const struct conf *conf, const char *customer,
	int64_t now)
{
	const struct ledger_entry of = { .customer = customer };
	struct ledger_entry e;

	if (customer[0] == '\0')
		return 0;
	if (conf_allow_of(conf, customer, now) != NULL)
		return 1;
	return get(l, &of, &e);
}

static int
has_customers(struct ledger *l)
{
	sqlite3_stmt *st = ledgerdb_statement(l, CUSTOMERS);
	int rc = st == NULL ? SQLITE_ERROR : sqlite3_step(st);

	if (rc != SQLITE_ROW && rc != SQLITE_DONE)
		return ledgerdb_failed(l, "read");
	sqlite3_reset(st);
	return rc == SQLITE_ROW;
}

int
ledger_effects_of_leases(struct ledger *l, const struct conf *conf,
	const struct lease_list *list, int64_t now, struct ledger_effects *out)
{
	struct walk w = { .l = l, .conf = conf, .now = now, .arg = out };
	int rc = conf->nallow_line > 0 ? 1 : has_customers(l);

	if (rc <= 0)
		return rc;
	if (make_room(l, out) != 0)
		return -1;
	rc = 0;
	for (size_t i = 0; i < list->n && rc >= 0; i++) {
		const struct lease *e = &list->lease[i];
		const char *has = list->is_release ? "" : e->customer;
		struct prefix p;

		if (!e->is_changed || e->key.block != 0)
			continue;
		rc = is_allowed(l, conf, e->was, now);
		if (rc == 0)
			rc = is_allowed(l, conf, has, now);
		line_key_prefix(&e->key, &p);
		if (rc == 1)
			rc = add_effect(&w, &p, false, has);
	}
	return rc < 0 ? -1 : 0;
}
