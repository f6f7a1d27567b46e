/*
 * report.h - what a command has to say, as lines or as one JSON object
 *
 * Internal to rules/ (the CLI side).
 */
#ifndef SALLYPORT_RULES_REPORT_H
#define SALLYPORT_RULES_REPORT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

struct rules_options;

struct report {
	FILE *out;	/* lines, or the JSON object at the end */
	FILE *err;	/* errors, as lines */
	json_t *items;	/* NULL: lines */
	int differences;
	int errors;
};

void report_open(struct report *r, const struct rules_options *o, FILE *out,
	FILE *err);

/* kind: "done", "note", "error" (to err, counted), or a word for a difference:
 * "missing", "extra", "different", "order" (counted). */
void report_add(struct report *r, const char *kind, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Report each line that a callee wrote, and free the text. */
void report_lines(struct report *r, const char *kind, char *text);

/* Print the object {"ok": ..., "items": [...]} and return the exit status: 0,
 * or 1 when there was an error or a difference. */
int report_close(struct report *r);

#endif
