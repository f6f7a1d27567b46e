/*
 * allow.c - fuzz target: lines of an allowlist
 *
 * The input is a file; each of its lines is parsed. An entry that was accepted
 * lets mail through, has no host bits, and its prefix reads back as itself; a
 * line that was refused has a reason that fits one line.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "conf/allow.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_entry(const struct allow_entry *e)
{
	char text[ADDR_STRLEN];
	struct prefix again;
	const char *why;

	if (e->action != ACTION_PASS && e->action != ACTION_WATCH &&
		e->action != ACTION_RELAY && e->action != ACTION_SUBMIT)
		abort();
	if (prefix_parse(&again, prefix_format(&e->prefix, text), &why) < 0 ||
		!prefix_equal(&again, &e->prefix))
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *whole = malloc(size + 1), *rest = whole, *line;
	struct allow_entry e;

	if (whole == NULL)
		abort();
	memcpy(whole, data, size);
	whole[size] = '\0';
	while ((line = strsep(&rest, "\n")) != NULL) {
		char why[160] = "";
		int rc = allow_parse(line, &e, why);

		if (rc > 0 && e.customer == NULL)
			check_entry(&e);
		if (rc > 0 && e.customer != NULL &&
		    (!conf_customer_valid(e.customer) || e.prefix.family != 0))
			abort();
		if (rc <= 0 && e.customer != NULL)
			abort();
		if (rc < 0 && (why[0] == '\0' || strlen(why) > 158))
			abort();
		allow_forget(&e);
	}
	free(whole);
	return 0;
}
