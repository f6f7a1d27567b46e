/*
 * ledger.h - the database of allow entries, with who, when and why
 *
 * One SQLite file (WAL). What a call has changed is on the disk when it
 * returns. Only one process writes (control, in one thread); the command line
 * reads. Errors leave a sentence for the operator in ledger_error().
 */
#ifndef SALLYPORT_LEDGER_H
#define SALLYPORT_LEDGER_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "conf/allowmap.h"
#include "zombie/line.h"

struct ledger;

#define LEDGER_WHO_MAX 64
#define LEDGER_WHY_MAX 256	/* with NUL; a longer one is cut */

struct ledger_entry {
	struct allow_item item;	/* prefix.family 0: of a customer's lines */
	const char *customer;	/* NULL: of a prefix. A line that a customer's
				 * entry stands for has both */
	bool pinned;
	int64_t since;
	const char *who, *why;	/* as customer: valid inside of a callback */
};

/* "198.18.3.7", "line:customer-4711": of a prefix, or of a customer. */
#define LEDGER_NAME_MAX 72
const char *ledger_name(const struct ledger_entry *e,
	char out[LEDGER_NAME_MAX]);
/* The other way; customer points into text. 0, or -1 and *why_r. */
int ledger_named(struct ledger_entry *e, const char *text, const char **why_r);

struct ledger_audit {
	int64_t at;
	const char *op;		/* add, change, del, expire, import */
	bool has_entry;		/* import: a number, no prefix */
	struct ledger_entry entry;	/* who, why; pinned and since not set */
	int64_t count;
};

/* NULL, with the reason in why: cannot be opened, damaged, or of a later
 * version. Never changes or replaces a file that it does not understand. */
struct ledger *ledger_open(const char *path, bool readonly, char why[200]);
void ledger_close(struct ledger **l);
const char *ledger_error(const struct ledger *l);

/* 1 added, 2 changed, 0 was there just so, -1 error. */
int ledger_put(struct ledger *l, const struct ledger_entry *e);
/* 1 deleted, 0 was not there, -1 error. e: prefix, who, why, since = now. */
int ledger_del(struct ledger *l, const struct ledger_entry *e);
/* Exactly of this prefix or customer: 1 and *e_r (who and why NULL), 0 none, -1
 * error. */
int ledger_get(struct ledger *l, const struct ledger_entry *of,
	struct ledger_entry *e_r);
/* Take out what is over, LEDGER_GONE_MAX at once, telling each (item and
 * customer only); how many, or -1. */
#define LEDGER_GONE_MAX 10000
int ledger_expire(struct ledger *l, int64_t now,
	void (*each)(void *arg, const struct ledger_entry *e), void *arg);

/* In order of family, address, length. 0 or -1. */
int ledger_each(struct ledger *l,
	void (*each)(void *arg, const struct ledger_entry *e), void *arg);
/* The latest last, of one prefix or customer (and of imports) or, NULL, of
 * all. */
int ledger_each_audit(struct ledger *l, const struct ledger_entry *of,
	void (*each)(void *arg, const struct ledger_audit *a), void *arg);
/* What counts now: all entries of prefixes, and the lines that those of
 * customers stand for, the allow file's too. As a new map; NULL: error. */
struct allowmap *ledger_load(struct ledger *l, const struct conf *conf,
	int64_t now);

/* ---- ledgerline.c: entries of customers, by the lines they have now ---- */

/* Each line that one stands for and where nothing stronger does, the allow
 * file's too. 0 or -1. */
int ledger_each_line(struct ledger *l, const struct conf *conf, int64_t now,
	void (*each)(void *arg, const struct ledger_entry *e), void *arg);

/* What is now right for a prefix. */
struct ledger_effect {
	struct allow_item item;
	bool counts;		/* false: nothing does, in the ledger */
};

#define LEDGER_EFFECTS_MAX 1000

struct ledger_effects {
	struct ledger_effect *effect;	/* the caller's to free */
	size_t n;
	unsigned shared;	/* lines left out: ports of an address */
	bool many;		/* more than are here: load all */
};

/* After a change of this entry, or of these leases: added to *out. 0 or -1. */
int ledger_effects(struct ledger *l, const struct conf *conf,
	const struct ledger_entry *e, int64_t now, struct ledger_effects *out);
struct lease_list;
int ledger_effects_of_leases(struct ledger *l, const struct conf *conf,
	const struct lease_list *list, int64_t now, struct ledger_effects *out);

/* ---- ledgerlevel.c: levels of lines, and who had them ---- */

#define LEDGER_EVIDENCE_MAX 2048	/* JSON, with NUL */

struct ledger_level {		/* a change */
	int64_t at;
	char line[LINE_STRLEN];
	uint8_t was, is;	/* enum level */
	bool pinned;
	char who[LEDGER_WHO_MAX], why[LEDGER_WHY_MAX];
	const char *evidence;	/* JSON object */
};

struct ledger_now {		/* a level that holds */
	char line[LINE_STRLEN];
	uint8_t level;
	bool pinned;
	int64_t since;		/* Unix time */
};

struct ledger_levels {
	struct ledger_level *row;
	size_t n;
	struct ledger_now *now;	/* has_now: all there are, replaces the rest */
	size_t nnow;
	bool has_now;
	uint64_t table;		/* where they come from: table_id() */
};

/* Changes, and the levels of now, in one transaction; what is older than so many
 * days goes. 0 or -1. */
int ledger_levels(struct ledger *l, const struct ledger_levels *w, int64_t now,
	unsigned days);
/* The levels of now that come from another table than this: before a restart. */
int ledger_each_now(struct ledger *l, uint64_t table,
	void (*each)(void *arg, const struct ledger_now *e), void *arg);
/* The latest n changes of a line up to a time, latest first, with the customer
 * who had it then ("" nobody). */
int ledger_each_level(struct ledger *l, const char *line, int64_t until,
	unsigned n, void (*each)(void *arg, const struct ledger_level *e,
		const char *customer), void *arg);
/* Every change since a time, in order. */
int ledger_each_change(struct ledger *l, int64_t since,
	void (*each)(void *arg, const struct ledger_level *e,
		const char *customer), void *arg);
/* Who had a line at a time: 1, from since to until (0: still), 0 nobody that is
 * remembered, -1. */
int ledger_holder(struct ledger *l, const char *line, int64_t at,
	char customer_r[CONF_CUSTOMER_MAX], int64_t *since_r, int64_t *until_r);

/* ---- ledgerhour.c: hourly totals of lines that tried port 25 ---- */

#define LEDGER_CLASS_MAX 64
#define LEDGER_LEVELS 4		/* as enum level */

struct ledger_hour {		/* of one class */
	int64_t at;		/* its beginning */
	char class[LEDGER_CLASS_MAX];
	uint32_t lines;		/* that tried */
	uint64_t attempts;
	uint64_t destinations;	/* networks, each line's own: the sum */
	uint64_t blocked;	/* sessions that we refused */
	uint32_t level[LEDGER_LEVELS];	/* of these lines, at its end */
};

/* One that is common (ctlhour.c says when), or 0: lines that spoke at all. */
struct ledger_dialect {
	uint16_t dialect;
	uint32_t lines;
};

struct ledger_hours {
	struct ledger_hour *row;
	size_t n;
	struct ledger_dialect *dialect;
	size_t ndialects;
	int64_t at;		/* of the dialects */
	uint64_t table;		/* whose keys made them: table_id() */
};

/* Attempts and blocked are added to those of the same hour and class, of the rest
 * the greater one stays; what is older than so many days goes. 0 or -1. */
int ledger_hours(struct ledger *l, const struct ledger_hours *h, int64_t now,
	unsigned days);
/* In order of time and class. 0 or -1. */
int ledger_each_hour(struct ledger *l, int64_t since,
	void (*each)(void *arg, const struct ledger_hour *e), void *arg);
/* Each once, with the most lines there were. 0 or -1. */
int ledger_each_dialect(struct ledger *l, int64_t since,
	void (*each)(void *arg, uint64_t table,
		const struct ledger_dialect *e), void *arg);

struct ledger_import {
	uint64_t added, changed, same;
	uint64_t errors;	/* lines; nothing was changed when there are any */
	char *text;		/* "LINE: reason" for the first, or NULL; the
				 * caller's to free */
};

/*
 * All lines of a file in the allow file's syntax, in one transaction: all or
 * nothing. has_submission: `port25=submit' is accepted. progress, which may be
 * NULL, is raised as lines are read. 0, or -1 (r->errors > 0: the file; else
 * ledger_error()).
 */
int ledger_import(struct ledger *l, FILE *f, const char *who, int64_t now,
	bool has_submission, volatile uint64_t *progress,
	struct ledger_import *r);

/* Has another connection changed something since this was asked last? */
bool ledger_is_changed(struct ledger *l);

/* After an import has been answered: move the log, which holds it durably, into
 * the database. Takes as long as the import was big. */
void ledger_settle(struct ledger *l);

#endif
