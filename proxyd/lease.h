/*
 * lease.h - which customer has which line
 *
 * A lease binds a line (zombie/line.h) to a customer's id, a text of the
 * provider's own. The ledger is the only authority on leases; control the only
 * process that writes it. See zombie/history.h for what a change moves.
 */
#ifndef SALLYPORT_LEASE_H
#define SALLYPORT_LEASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "conf/conf.h"
#include "zombie/history.h"

struct ledger;

#define LEASE_CUSTOMER_MAX CONF_CUSTOMER_MAX	/* with NUL */
/* Lines of one file; a BRAS that restarts brings 50,000 a minute. */
#define LEASE_FILE_MAX 100000
#define LEASE_ERRORS_SHOWN 20

struct lease {
	struct line_key key;
	bool is_changed;	/* by ledger_lease() */
	char line[LINE_STRLEN];
	char customer[LEASE_CUSTOMER_MAX];	/* "" nobody; of a release: only
						 * if it is his, "": whoever's */
	char was[LEASE_CUSTOMER_MAX];	/* who had the line, "" nobody */
	char heir[LINE_STRLEN];	/* another line of his, "": none */
	struct line_history *stored;	/* of the new customer, out of the ledger */
	size_t nstored;
	struct line_history *taken;	/* of the former one, for the ledger */
};

struct lease_list {
	bool is_release;
	struct lease *lease;
	size_t n, cap;
	uint64_t changed, same;
};

void lease_list_free(struct lease_list **l);
/* Room for one more at the end, zeroed; NULL without memory. */
struct lease *lease_list_add(struct lease_list *l);

/* ---- leaseread.c ---- */

/* The line of a text in its class, and its canonical text. NULL, or why not. */
const char *lease_line(const struct conf *c, const char *text,
	struct line_key *k_r, char line_r[LINE_STRLEN], char why[160]);

/*
 * "LINE CUSTOMER", of a release "LINE [CUSTOMER]"; # begins a comment. 1 a
 * lease, 0 nothing on the line, -1 a mistake, with the reason in why.
 */
int lease_parse(const struct conf *c, bool is_release, const char *text,
	struct lease *l_r, char why[160]);

/*
 * A whole file of them. How many lines have mistakes (0: none), or -1 without
 * memory or when it cannot be read; *text_r, the caller's to free, has the first
 * ones, each "LINE: reason". progress is raised as lines are read.
 */
int64_t lease_read(const struct conf *c, FILE *f, struct lease_list *l,
	volatile uint64_t *progress, char **text_r);

/* ---- ledgerlease.c ---- */

/*
 * All of them in one transaction: what is changed, who had the lines, what is
 * stored of their new customers (taken out), which other line a former customer
 * has. Until ledger_lease_settle() each changed line is noted as not settled.
 * 0 or -1 (nothing was changed).
 */
int ledger_lease(struct ledger *l, struct lease_list *list, int64_t now);
/*
 * The table has followed: store what was taken, forget the notes, and what has
 * been stored for more than LEASE_STORED_DAYS. 0 or -1.
 */
int ledger_lease_settle(struct ledger *l, const struct lease_list *list,
	int64_t now);
#define LEASE_STORED_DAYS 30
/* What another control left unsettled, as changes. 0 or -1. */
int ledger_lease_unsettled(struct ledger *l, struct lease_list *list);
/* Who has this line now: 1 and his id, 0 nobody, -1 error. */
int ledger_lease_of(struct ledger *l, const char *line,
	char customer_r[LEASE_CUSTOMER_MAX]);

#endif
