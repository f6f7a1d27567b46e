/*
 * allow.h - the files that conf names: allowlist and prefix files
 *
 * Both are text for people and version control, one entry a line, '#' begins
 * a comment. Inside conf/ only.
 */
#ifndef SALLYPORT_ALLOW_H
#define SALLYPORT_ALLOW_H

#include <libconfig.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "conf/conf.h"

struct load;

/*
 * One line of an allowlist (no line ending):
 *     PREFIX|line:CUSTOMER [port25=ACTION] [until=RFC3339] # reason
 * 1 an entry; 0 nothing on the line; -1 an error, with the reason in why.
 * The entry's reason and customer are allocated; line is left alone. text is
 * changed.
 */
int allow_parse(char *text, struct allow_entry *entry, char why[160]);

/* What allow_parse() allocated. */
void allow_forget(struct allow_entry *entry);

/* "2026-12-31T23:59:59+09:00" to Unix time. 0, or -1 when it is not one. */
int allow_time(const char *text, int64_t *time_r);

/* A regular file, opened for reading; NULL with the reason in *why_r. */
FILE *list_open(const char *path, const char **why_r);

/* Read conf's allow_file, named by this setting, into allow, allow_lpm and
 * allow_line; errors are reported in l. */
void allow_load(struct load *l, const config_setting_t *named);

/* Append the prefixes of the file, named by this setting, to *list of *n.
 * line_r gets an array of their line numbers, the caller's to free. */
void prefix_file_load(struct load *l, const config_setting_t *named,
	const char *path, struct prefix **list, size_t *n, unsigned **line_r);

#endif
