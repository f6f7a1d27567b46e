/*
 * report.h - what `sallyport report' knows, for its own files only
 *
 * cmd_report.c   the command; text, CSV and JSON
 * report_read.c  out of the ledger: lines, lines that speak alike, hours
 * report_html.c  the HTML file
 */
#ifndef SALLYPORT_TOOLS_REPORT_H
#define SALLYPORT_TOOLS_REPORT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proxyd/ledger.h"

#define HOUR 3600
#define DAY 86400
#define DAYS_SHOWN 92
#define HOURS_SHOWN (14 * 24)	/* in one plot */
#define ZOMBIE 3
/* Five kinds, and the lines of a /56. */
#define EVIDENCE_CHARS 1024
/*
 * So many lines of a dialect are a group. Dialects are 16 bits: of a thousand
 * lines with a rare one, eight pairs are alike by chance, but three at once only
 * in one report of 25.
 */
#define GROUP_LINES 3
/* Table and dialect. */
#define DIALECT_CHARS 24

/* In the order of zombie/table.h. */
#define KINDS 5
extern const char *const report_level[LEDGER_LEVELS];
extern const char *const report_kind[KINDS];

struct row {
	char line[LINE_STRLEN], customer[CONF_CUSTOMER_MAX];
	unsigned worst, now, changes;
	int64_t first, last;	/* changes of level */
	char who[LEDGER_WHO_MAX], why[LEDGER_WHY_MAX];	/* of the worst */
	json_t *evidence;	/* of the worst; NULL: none */
	char dialect[DIALECT_CHARS];	/* "TABLE:c6a2", the latest; "": none */
	bool is_alike;		/* of a group */
};

struct group {			/* lines that speak the same rare dialect */
	char dialect[DIALECT_CHARS];
	unsigned lines;
};

struct report {
	int64_t since, now;
	struct row *row;
	size_t n, cap;
	json_t *index;		/* line: place in row */
	unsigned by_day[DAYS_SHOWN];	/* lines that became zombies */
	struct group *group;	/* the greatest first */
	size_t ngroups;
	unsigned unknown;	/* lines whose dialect nobody has counted yet */
	json_t *common;		/* dialects of many lines; tables, counted */
	struct ledger_hour *hour;
	size_t nhours, hours_cap;
	bool no_memory;
};

/* For ledger_with(): all of it since r->since, the worst lines first. 0 or -1. */
struct ledger;
int report_read(struct ledger *l, void *arg);
void report_free(struct report *r);

unsigned report_count(const struct report *r, unsigned level);
/* "first_contact 15.5 (52 of 58), helo ..." of the kinds that were seen. */
void report_evidence(const struct row *w, char *out, size_t cap);
/* "c6a2" of a row's or a group's dialect. */
const char *report_dialect(const char *dialect);

void report_html(const struct report *r);

#endif
