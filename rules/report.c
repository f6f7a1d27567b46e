/*
 * report.c - what a command has to say, as lines or as one JSON object
 *
 * Does: prints "KIND: text" lines as they come, errors on the error stream, or
 * collects the same as JSON; counts what makes the exit status 1.
 * Does not: decide what is worth saying.
 *
 * Called by apply.c, verify.c and remove.c. Text may quote foreign rules;
 * iptables has printed them on one line, and jansson escapes them.
 */
#include "rules/report.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "rules/rules.h"

void
report_open(struct report *r, const struct rules_options *o, FILE *out,
	FILE *err)
{
	memset(r, 0, sizeof(*r));
	r->out = out;
	r->err = err;
	if (o->json)
		r->items = json_array();
}

static void
say(struct report *r, const char *kind, const char *text)
{
	bool is_error = strcmp(kind, "error") == 0;

	if (is_error)
		r->errors++;
	else if (strcmp(kind, "note") != 0 && strcmp(kind, "done") != 0)
		r->differences++;
	if (r->items != NULL)
		json_array_append_new(r->items, json_pack("{s:s,s:s%}", "kind",
			kind, "text", text, strlen(text)));
	if (is_error)
		fprintf(r->err, "error: %s\n", text);
	else if (r->items == NULL)
		fprintf(r->out, "%s: %s\n", kind, text);
}

void
report_add(struct report *r, const char *kind, const char *fmt, ...)
{
	va_list args;
	char *text;
	int n;

	va_start(args, fmt);
	n = vasprintf(&text, fmt, args);
	va_end(args);
	if (n < 0)
		return;
	say(r, kind, text);
	free(text);
}

void
report_lines(struct report *r, const char *kind, char *text)
{
	char *line, *rest = text;

	while (rest != NULL && *rest != '\0') {
		line = rest;
		rest = strchr(line, '\n');
		if (rest != NULL)
			*rest++ = '\0';
		if (*line != '\0')
			say(r, kind, line);
	}
	free(text);
}

int
report_close(struct report *r)
{
	bool ok = r->errors == 0 && r->differences == 0;
	json_t *all;

	if (r->items != NULL) {
		all = json_pack("{s:b,s:o}", "ok", ok, "items", r->items);
		json_dumpf(all, r->out, JSON_INDENT(2));
		fputc('\n', r->out);
		json_decref(all);
		r->items = NULL;
	}
	fflush(r->out);
	return ok ? 0 : 1;
}
