/*
 * mp_script.c - a scenario's file becomes steps
 *
 * Does: lines to steps, $variables, escapes, include. Does not: know what a step
 * does, or whether it makes sense at its place.
 *
 *	# comment
 *	define NAME VALUE	unless the command line has set it
 *	include FILE		beside the file it stands in
 *	PEER VERB [TEXT]	mailpeer.h has the verbs
 *
 * Everything behind the one blank after the verb is text, trailing blanks too.
 * Called by mailpeer.c. Files are the operator's own; still everything wrong
 * with them is said with its place, and nothing is guessed.
 */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tools/mailpeer.h"

#define LINE_LEN 8192
#define DEPTH 8		/* of includes */
#define TIMES_MAX 10000000ul

const char *const mp_verb_word[MP_VERB_COUNT] = {
#define VERB(sym, word, text, help) [MP_##sym] = word,
	MP_VERBS(VERB)
#undef VERB
};

static const enum mp_text verb_text[MP_VERB_COUNT] = {
#define VERB(sym, word, text, help) [MP_##sym] = TEXT_##text,
	MP_VERBS(VERB)
#undef VERB
};

struct reader {
	struct mp_script *script;
	struct mp_settings set;
	const char *file;
	unsigned line, depth;
};

static int read_file(struct reader *r, const char *path);

static int
wrong(const struct reader *r, const char *what, const char *word)
{
	fprintf(stderr, "%s:%u: %s%s%s\n", r->file, r->line, what,
		word[0] != '\0' ? ": " : "", word);
	return -1;
}

/* ---- variables ---- */

static bool
is_name(char c)
{
	return isalnum((unsigned char)c) || c == '_';
}

int
mp_setting_add(struct mp_settings *s, const char *text)
{
	size_t n = 0;

	while (is_name(text[n]))
		n++;
	if (n == 0 || n >= MP_NAME || text[n] != '=' || s->n == MP_SETTINGS)
		return -1;
	memcpy(s->one[s->n].name, text, n);
	s->one[s->n].name[n] = '\0';
	s->one[s->n++].value = text + n + 1;
	return 0;
}

const char *
mp_setting_find(const struct mp_settings *s, const char *name, size_t len)
{
	for (size_t i = 0; i < s->n; i++)
		if (strlen(s->one[i].name) == len &&
		    memcmp(s->one[i].name, name, len) == 0)
			return s->one[i].value;
	return NULL;
}

/* $name becomes its value, $$ a dollar. */
static int
substitute(const struct reader *r, const char *in, char out[LINE_LEN])
{
	size_t n = 0;

	while (*in != '\0') {
		const char *value = in;
		size_t len = 1, name = 0;

		if (*in == '$') {
			while (is_name(in[1 + name]))
				name++;
			value = name > 0 ? mp_setting_find(&r->set, in + 1,
				name) : in[1] == '$' ? "$" : NULL;
			if (value == NULL)
				return wrong(r, "no such variable", in);
			len = strlen(value);
			in += name > 0 ? name : 1;
		}
		if (n + len >= LINE_LEN)
			return wrong(r, "the line is too long", "");
		memcpy(out + n, value, len);
		n += len;
		in++;
	}
	out[n] = '\0';
	return 0;
}

/* ---- text ---- */

/* \r \n \t \s (a blank) \0 \\ \xNN, in place. The length, or -1. */
static ssize_t
unescape(char *text)
{
	static const char letter[] = "rnts0\\", octet[] = "\r\n\t \0\\";
	char *out = text, *end;
	const char *found;

	for (const char *in = text; *in != '\0'; in++) {
		if (*in != '\\') {
			*out++ = *in;
			continue;
		}
		in++;
		if (*in == 'x' && isxdigit((unsigned char)in[1]) &&
		    isxdigit((unsigned char)in[2])) {
			const char hex[] = { in[1], in[2], '\0' };

			*out++ = (char)strtol(hex, &end, 16);
			in += 2;
		} else if (*in != '\0' &&
		    (found = strchr(letter, *in)) != NULL) {
			*out++ = octet[found - letter];
		} else {
			return -1;
		}
	}
	*out = '\0';
	return out - text;
}

/* "*N TEXT": behind it, and N. */
static char *
repeated(char *text, unsigned *times_r)
{
	unsigned long n;
	char *end;

	if (text[0] != '*' || !isdigit((unsigned char)text[1]))
		return text;
	n = strtoul(text + 1, &end, 10);
	if (n == 0 || n > TIMES_MAX || *end != ' ')
		return text;
	*times_r = (unsigned)n;
	return end + 1;
}

/* ---- steps ---- */

static int
peer_of(struct reader *r, const char *name, unsigned *peer_r)
{
	struct mp_script *s = r->script;

	for (*peer_r = 0; *peer_r < s->npeers; (*peer_r)++)
		if (strcmp(s->peer[*peer_r], name) == 0)
			return 0;
	if (s->npeers == MP_PEERS || strlen(name) >= MP_NAME)
		return wrong(r, "no room for this peer", name);
	memcpy(s->peer[s->npeers++], name, strlen(name) + 1);
	return 0;
}

static int
step_add(struct reader *r, const char *peer, const char *verb, char *text)
{
	struct mp_script *s = r->script;
	struct mp_step step = { .file = r->file, .line = r->line, .times = 1 };
	struct mp_step *more;
	ssize_t n;

	while (step.verb < MP_VERB_COUNT &&
		strcmp(mp_verb_word[step.verb], verb) != 0)
		step.verb++;
	if (step.verb == MP_VERB_COUNT)
		return wrong(r, "no such verb", verb);
	if ((verb_text[step.verb] == TEXT_NONE && text[0] != '\0') ||
	    (verb_text[step.verb] == TEXT_WORDS && text[0] == '\0'))
		return wrong(r, text[0] != '\0' ? "this verb takes no text" :
			"this verb needs a text", verb);
	if (peer_of(r, peer, &step.peer) == -1)
		return -1;
	if (step.verb == MP_RAW || step.verb == MP_POUR ||
	    step.verb == MP_EXACT)
		text = repeated(text, &step.times);
	n = verb_text[step.verb] == TEXT_OCTETS ? unescape(text) :
		(ssize_t)strlen(text);
	if (n == -1)
		return wrong(r, "no such escape", text);
	more = realloc(s->step, (s->n + 1) * sizeof(*more));
	if (more == NULL)
		return wrong(r, "no memory", "");
	s->step = more;
	step.text = malloc((size_t)n + 1);
	if (step.text == NULL)
		return wrong(r, "no memory", "");
	memcpy(step.text, text, (size_t)n + 1);
	step.len = (size_t)n;
	s->step[s->n++] = step;
	return 0;
}

/* ---- files ---- */

static int
include(struct reader *r, const char *name)
{
	const char *slash = strrchr(r->file, '/');
	size_t n = slash == NULL || name[0] == '/' ? 0 :
		(size_t)(slash - r->file) + 1;
	struct reader inner = *r;
	char path[LINE_LEN];
	int rc;

	if (r->depth == DEPTH)
		return wrong(r, "too many files include each other", name);
	if (n + strlen(name) >= sizeof(path))
		return wrong(r, "the name is too long", name);
	memcpy(path, r->file, n);
	memcpy(path + n, name, strlen(name) + 1);
	inner.depth++;
	rc = read_file(&inner, path);
	r->set = inner.set;	/* what it has defined */
	return rc;
}

/* NAME VALUE; kept as long as the script is: among its files. */
static int
define(struct reader *r, char *text)
{
	char *blank = strchr(text, ' '), *kept;

	if (blank == NULL)
		return wrong(r, "expected NAME VALUE", text);
	if (mp_setting_find(&r->set, text, (size_t)(blank - text)) != NULL)
		return 0;
	*blank = '=';
	kept = r->script->nfiles < sizeof(r->script->file) /
		sizeof(r->script->file[0]) ? strdup(text) : NULL;
	if (kept == NULL)
		return wrong(r, "no room", text);
	r->script->file[r->script->nfiles++] = kept;
	return mp_setting_add(&r->set, kept) == 0 ? 0 :
		wrong(r, "expected NAME VALUE", kept);
}

/* Up to the next blank; *rest_r is behind that one blank. */
static char *
word(char *text, char **rest_r)
{
	char *end = text + strcspn(text, " \t");

	*rest_r = *end == '\0' ? end : end + 1;
	*end = '\0';
	return text;
}

static int
read_line(struct reader *r, char *line)
{
	char *first, *rest, *verb;

	line[strcspn(line, "\n")] = '\0';
	line += strspn(line, " \t");
	if (*line == '\0' || *line == '#')
		return 0;
	first = word(line, &rest);
	if (strcmp(first, "include") == 0)
		return include(r, rest);
	if (strcmp(first, "define") == 0)
		return define(r, rest);
	verb = word(rest, &rest);
	return step_add(r, first, verb, rest);
}

static int
read_lines(struct reader *r, FILE *f)
{
	char line[LINE_LEN], text[LINE_LEN];

	while (fgets(line, sizeof(line), f) != NULL) {
		r->line++;
		if (strchr(line, '\n') == NULL && !feof(f))
			return wrong(r, "the line is too long", "");
		/* a comment may speak of variables */
		if (line[strspn(line, " \t")] == '#')
			continue;
		if (substitute(r, line, text) == -1 || read_line(r, text) == -1)
			return -1;
	}
	return 0;
}

static int
read_file(struct reader *r, const char *path)
{
	struct mp_script *s = r->script;
	FILE *f = fopen(path, "re");
	unsigned i = 0;
	int rc;

	if (f == NULL) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		return -1;
	}
	while (i < s->nfiles && strcmp(s->file[i], path) != 0)
		i++;
	if (i == sizeof(s->file) / sizeof(s->file[0]) || (i == s->nfiles &&
	    (s->file[s->nfiles++] = strdup(path)) == NULL)) {
		fclose(f);
		return wrong(r, "too many files", path);
	}
	r->file = s->file[i];
	r->line = 0;
	rc = read_lines(r, f);
	fclose(f);
	return rc;
}

int
mp_script_read(struct mp_script *s, const char *path,
	const struct mp_settings *set)
{
	struct reader r = { .script = s, .set = *set, .file = path };

	memset(s, 0, sizeof(*s));
	if (read_file(&r, path) == -1)
		return -1;
	if (s->n > 0)
		return 0;
	fprintf(stderr, "%s: no step\n", path);
	return -1;
}

void
mp_script_free(struct mp_script *s)
{
	for (size_t i = 0; i < s->n; i++)
		free(s->step[i].text);
	free(s->step);
	for (unsigned i = 0; i < s->nfiles; i++)
		free(s->file[i]);
	memset(s, 0, sizeof(*s));
}
