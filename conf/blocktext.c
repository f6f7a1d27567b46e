/*
 * blocktext.c - a line of the operator's text with what differs each time
 *
 * Pure: text and values in, a line out. The one place that knows the names, for
 * the check of the configuration (with the longest values there can be), for
 * `sallyport check` and for the refusal itself. Values are put in once and not
 * looked at again: an address or a page cannot bring a placeholder along.
 *
 * The text is the operator's, checked when it was read; client and event are
 * written by us, so nothing here is chosen by an attacker.
 */
#include "conf/blocktext.h"

#include <string.h>

static const char *const names[] = { "{client}", "{event}", "{url}" };

#define NAMES (sizeof(names) / sizeof(names[0]))

/* Which of the names begins here; NAMES: none. */
static size_t
name_at(const char *text)
{
	size_t i = 0;

	while (i < NAMES && strncmp(text, names[i], strlen(names[i])) != 0)
		i++;
	return i;
}

bool
blocktext_is_valid(const char *text)
{
	for (; (text = strchr(text, '{')) != NULL; text++)
		if (name_at(text) == NAMES)
			return false;
	return true;
}

bool
blocktext_has(const char *text, const char *name)
{
	return strstr(text, name) != NULL;
}

size_t
blocktext_fill(const char *text, const struct blocktext *values, char *out,
	size_t cap)
{
	const char *const value[NAMES] = { values->client, values->event,
		values->url };
	size_t len = 0;

	while (*text != '\0') {
		size_t name = name_at(text), skip = 1, n = 1;
		const char *from = text;

		if (name < NAMES && value[name] != NULL) {
			from = value[name];
			n = strlen(from);
			skip = strlen(names[name]);
		}
		for (size_t i = 0; i < n; i++, len++)
			if (len + 1 < cap)
				out[len] = from[i];
		text += skip;
	}
	if (cap > 0)
		out[len < cap ? len : cap - 1] = '\0';
	return len;
}
