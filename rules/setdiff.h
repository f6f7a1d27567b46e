/*
 * setdiff.h - is a set in the kernel as it should be?
 *
 * Internal to rules/ (the CLI side).
 */
#ifndef SALLYPORT_RULES_SETDIFF_H
#define SALLYPORT_RULES_SETDIFF_H

#include "rules/report.h"
#include "rules/snap.h"

/*
 * Compare a set with what it should contain at the time now. saved = NULL: it
 * does not exist. Returns the number of differences, each named in the report
 * when that is not NULL (the first NAMED_MAX of them).
 */
size_t set_compare(const struct set *s, const struct saved_set *saved,
	int64_t now, struct report *r);

/* One line "add NAME PREFIX [timeout N] [nomatch]" of ipset save; until
 * becomes the seconds left, 0: none. 0, or -1 for any other line. */
int set_entry_parse(const struct line *l, const char *name,
	struct set_entry *e);

#endif
