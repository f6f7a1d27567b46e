/*
 * replay_read.c - a line of the daemon's log as a session's evidence
 *
 * Does: find the event of a line behind whatever syslog has put in front, take the
 * fields that evidence needs: line, at and evidence; class, dst, helo, code and
 * sessions where they are. Understands both forms of lib/kv.c. Does not: know other
 * programs' lines; they are REPLAY_OTHER, as is all that has no evidence.
 *
 * Called by sim_replay.c for every line of a file that anybody may have written or
 * cut. Texts of peers stand in quotes, so a HELO that looks like a pair is none.
 */
#include "tools/replay.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/conf.h"
#include "zombie/line.h"

/* A summary has so many events of one kind at most (16 bits). */
#define COUNT_MAX 65535u
#define SESSIONS_MAX 1000000u

/* In the order of enum evidence, as event.c writes them. */
static const char *const kind_word[EVIDENCE_COUNT] = { "contact", "unknown",
	"refusal", "null", "helo" };
static const char *const session_word[] = { "relay", "block", "submit",
	"tunnel", "reset" };

/* ---- fields ---- */

static void
wrong(struct replay_event *e, const char *field, const char *value,
	const char *expected)
{
	/* of several the first */
	if (e->kind == REPLAY_WRONG)
		return;
	e->kind = REPLAY_WRONG;
	snprintf(e->why, sizeof(e->why), "%s=%.40s; expected %s", field, value,
		expected);
	for (char *c = e->why; *c != '\0'; c++)
		if (*c < ' ' || *c > '~')
			*c = '?';
}

/* A whole number and nothing else. */
static bool
number(const char *text, unsigned long long most, unsigned long long *n_r)
{
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	*n_r = strtoull(text, &end, 10);
	return errno == 0 && *end == '\0' && *n_r <= most;
}

/* "1/3" */
static bool
ratio(char *text, unsigned *bad_r, unsigned *all_r)
{
	char *slash = strchr(text, '/');
	unsigned long long bad, all;

	if (slash == NULL)
		return false;
	*slash = '\0';
	/* good and bad are 16 bits each */
	if (!number(text, COUNT_MAX, &bad) ||
	    !number(slash + 1, 2 * COUNT_MAX, &all) || bad > all)
		return false;
	*bad_r = (unsigned)bad;
	*all_r = (unsigned)all;
	return true;
}

/* "contact:1/1,helo:0/1" */
static bool
evidence(struct replay_event *e, char *text)
{
	char *rest = text, *one;

	while ((one = strsep(&rest, ",")) != NULL) {
		char *colon = strchr(one, ':');
		size_t i = 0;

		if (colon == NULL)
			return false;
		*colon = '\0';
		while (i < EVIDENCE_COUNT && strcmp(one, kind_word[i]) != 0)
			i++;
		if (i == EVIDENCE_COUNT || !ratio(colon + 1, &e->bad[i],
			    &e->all[i]))
			return false;
	}
	e->kind = e->kind == REPLAY_WRONG ? REPLAY_WRONG : REPLAY_SESSION;
	return true;
}

static void
take_line(struct replay_event *e, const char *value)
{
	struct line_text l;
	const char *why;

	if (strlen(value) >= sizeof(e->line) ||
	    line_parse(&l, value, &why) != 0)
		wrong(e, "line", value, "a line, like 198.18.3.7");
	else
		snprintf(e->line, sizeof(e->line), "%s", value);
}

static void
take_numbers(struct replay_event *e, const char *key, const char *value)
{
	unsigned long long n = 0;

	if (strcmp(key, "at") == 0) {
		if (!number(value, INT32_MAX * 2ull, &n) || n == 0)
			wrong(e, key, value, "a Unix time");
		e->at = (int64_t)n;
	} else if (strcmp(key, "code") == 0) {
		if (!number(value, 999, &n))
			wrong(e, key, value, "a reply's code");
		e->code = (unsigned)n;
	} else if (strcmp(key, "sessions") == 0) {
		if (!number(value, SESSIONS_MAX, &n) || n == 0)
			wrong(e, key, value, "a number of sessions");
		e->sessions = (unsigned)n;
	}
}

static void
take(struct replay_event *e, const char *key, char *value)
{
	if (strcmp(key, "line") == 0)
		take_line(e, value);
	else if (strcmp(key, "class") == 0)
		snprintf(e->class, sizeof(e->class), "%.*s",
			(int)sizeof(e->class) - 1, value);
	else if (strcmp(key, "helo") == 0)
		snprintf(e->helo, sizeof(e->helo), "%.*s",
			(int)sizeof(e->helo) - 1, value);
	else if (strcmp(key, "dst") == 0) {
		if (strcmp(value, "-") != 0 && addr_parse(&e->dst, value) != 0)
			wrong(e, key, value, "an address");
	} else if (strcmp(key, "evidence") == 0) {
		char shown[48];

		snprintf(shown, sizeof(shown), "%.47s", value);
		if (!evidence(e, value))
			wrong(e, key, shown, "counts like contact:1/1,helo:0/1");
	} else
		take_numbers(e, key, value);
}

/* What the event word says; REPLAY_OTHER: none of those. */
static void
begin(struct replay_event *e, const char *word, bool *is_ours_r)
{
	*is_ours_r = false;
	memset(e, 0, sizeof(*e));
	e->sessions = 1;
	for (size_t i = 0; i < sizeof(session_word) / sizeof(*session_word); i++)
		*is_ours_r |= strcmp(word, session_word[i]) == 0;
	for (int i = LEVEL_SUSPECT; i <= LEVEL_ZOMBIE; i++)
		if (strcmp(word, level_name[i]) == 0) {
			*is_ours_r = true;
			e->kind = REPLAY_LEVEL;
			e->level = (enum level)i;
		}
}

/* What evidence cannot do without. */
static void
finish(struct replay_event *e)
{
	if (e->kind == REPLAY_SESSION && e->at == 0)
		wrong(e, "at", "", "the session's begin, a Unix time");
	if ((e->kind == REPLAY_SESSION || e->kind == REPLAY_LEVEL) &&
	    e->line[0] == '\0')
		wrong(e, "line", "", "a line, like 198.18.3.7");
}

/* ---- key=value ---- */

/* The value at *text, ended there; false: a quote that is not closed. */
static bool
next_value(char **text, char **value_r)
{
	char *at = *text;

	if (*at != '"') {
		*value_r = at;
		at += strcspn(at, " ");
		*text = *at == '\0' ? at : at + 1;
		*at = '\0';
		return true;
	}
	*value_r = ++at;
	while (*at != '"' && *at != '\0')
		at += at[0] == '\\' && at[1] != '\0' ? 2 : 1;
	if (*at == '\0')
		return false;
	*at++ = '\0';
	*text = at + strspn(at, " ");
	return true;
}

static void
parse_pairs(char *text, struct replay_event *e)
{
	while (*text != '\0' && e->kind != REPLAY_WRONG) {
		char *equals = strchr(text, '='), *value, *key = text;

		if (equals == NULL || strcspn(text, " ") <
		    (size_t)(equals - text)) {
			text[strcspn(text, " ")] = '\0';
			wrong(e, text, "", "key=value");
			return;
		}
		*equals = '\0';
		text = equals + 1;
		if (!next_value(&text, &value)) {
			wrong(e, key, value, "a closing quote: is the line cut?");
			return;
		}
		take(e, key, value);
	}
	finish(e);
}

/* "id=" or "line=": what our session and level lines begin with. */
static bool
begins_ours(const char *text)
{
	return strncmp(text, "id=", 3) == 0 || strncmp(text, "line=", 5) == 0;
}

/*
 * The event is the first word, or stands behind our own name as syslog writes it:
 * "... gw1 sallyportd[71]: block id=", or with RFC 5424's three words between. Not
 * anywhere else: other programs log texts of peers, too.
 */
static void
find_pairs(char *text, struct replay_event *e)
{
	unsigned behind = 0;	/* words since our name; 0: not yet */
	char *word = text, *space;
	bool is_ours;

	if (*word == '<' && (space = strchr(word, '>')) != NULL &&
	    space - word < 5)
		word = text = space + 1;
	for (; (space = strchr(word, ' ')) != NULL; word = space + 1) {
		*space = '\0';
		begin(e, word, &is_ours);
		if (strchr(word, '=') != NULL)
			break;
		if (is_ours && begins_ours(space + 1) &&
		    (word == text || behind > 0)) {
			parse_pairs(space + 1, e);
			return;
		}
		if (strstr(word, "sallyport") != NULL)
			behind = 1;
		else if (behind > 0 && ++behind > 4)
			break;
	}
	memset(e, 0, sizeof(*e));
}

/* ---- JSON ---- */

/* Numbers may be numbers. */
static void
take_json(struct replay_event *e, const char *key, const json_t *value)
{
	char text[REPLAY_LINE_MAX];

	if (json_is_string(value))
		snprintf(text, sizeof(text), "%s", json_string_value(value));
	else if (json_is_integer(value))
		snprintf(text, sizeof(text), "%lld",
			(long long)json_integer_value(value));
	else
		return;
	take(e, key, text);
}

static void
parse_json(const char *text, struct replay_event *e)
{
	static const char *const names[][2] = {
		{ "line", "sallyport.line" }, { "class", "sallyport.class" },
		{ "at", "sallyport.at" }, { "code", "sallyport.code" },
		{ "sessions", "sallyport.sessions" },
		{ "dst", "destination.ip" }, { "helo", "sallyport.helo" },
		{ "evidence", "sallyport.evidence" },
	};
	json_error_t error;
	json_t *o = json_loads(text, 0, &error);
	const char *word = json_string_value(json_object_get(o,
		"event.action"));
	bool is_ours = false;

	memset(e, 0, sizeof(*e));
	if (o == NULL) {
		wrong(e, "JSON", error.text, "an object: is the line cut?");
		return;
	}
	if (word != NULL)
		begin(e, word, &is_ours);
	for (size_t i = 0; is_ours && i < sizeof(names) / sizeof(names[0]); i++)
		take_json(e, names[i][0], json_object_get(o, names[i][1]));
	if (is_ours)
		finish(e);
	json_decref(o);
}

void
replay_parse(char *text, struct replay_event *e_r)
{
	char *brace = strchr(text, '{');

	/* an object of ours begins with the time or with the event */
	if (brace != NULL && (strncmp(brace, "{\"@timestamp\"", 13) == 0 ||
		    strncmp(brace, "{\"event.action\"", 15) == 0))
		parse_json(brace, e_r);
	else
		find_pairs(text, e_r);
}
