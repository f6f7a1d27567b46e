/*
 * allow.c - the allowlist and files of prefixes
 *
 * Reads both, checks each line, and builds the allowlist's longest-prefix
 * table. Entries that have expired are kept (`sallyport check` shows them);
 * whether one still counts is decided at each look-up by conf_policy().
 *
 * Called by conf_load(). The files are written by provisioning scripts, half a
 * million lines long, and may be half written or the wrong file altogether:
 * the first errors are shown, the rest counted. A line that is not understood
 * makes the whole load fail, since an exemption silently lost is a customer
 * whose mail stops.
 */
#include "conf/allow.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "conf/lpm.h"
#include "conf/option.h"

/* Errors shown for one file; more are counted. */
#define ERRORS_SHOWN 20

/* Text of the longest useful line; a longer one is not a list. */
#define LINE_BYTES 1024

FILE *
list_open(const char *path, const char **why_r)
{
	/* A FIFO or a terminal would hold the start for ever. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;
	FILE *f;

	if (fd < 0) {
		*why_r = strerror(errno);
		return NULL;
	}
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		*why_r = "not a regular file";
		close(fd);
		return NULL;
	}
	if ((f = fdopen(fd, "r")) == NULL) {
		*why_r = strerror(errno);
		close(fd);
	}
	return f;
}

/* n digits at *text, which moves on; -1 when they are not all there. */
static int
digits(const char **text, unsigned n)
{
	int value = 0;

	for (; n > 0; n--, (*text)++) {
		if (**text < '0' || **text > '9')
			return -1;
		value = value * 10 + (**text - '0');
	}
	return value;
}

static bool
eat(const char **text, const char *one_of)
{
	if (**text == '\0' || strchr(one_of, **text) == NULL)
		return false;
	(*text)++;
	return true;
}

static bool
date_is_valid(const struct tm *tm)
{
	static const int days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30,
		31 };
	int year = tm->tm_year + 1900, max;

	if (tm->tm_mon < 0 || tm->tm_mon > 11 || tm->tm_year < 0)
		return false;
	max = days[tm->tm_mon];
	if (tm->tm_mon == 1 && year % 4 == 0 &&
		(year % 100 != 0 || year % 400 == 0))
		max = 29;
	return tm->tm_mday >= 1 && tm->tm_mday <= max && tm->tm_hour >= 0 &&
		tm->tm_hour <= 23 && tm->tm_min >= 0 && tm->tm_min <= 59 &&
		tm->tm_sec >= 0 && tm->tm_sec <= 60;
}

/* "Z", "+09:00": seconds east of Greenwich. */
static int
zone(const char **text, int *seconds_r)
{
	int sign = **text == '-' ? -1 : 1, hours, minutes;

	*seconds_r = 0;
	if (eat(text, "Zz"))
		return 0;
	if (!eat(text, "+-"))
		return -1;
	hours = digits(text, 2);
	if (hours < 0 || hours > 23 || !eat(text, ":"))
		return -1;
	minutes = digits(text, 2);
	if (minutes < 0 || minutes > 59)
		return -1;
	*seconds_r = sign * (hours * 3600 + minutes * 60);
	return 0;
}

int
allow_time(const char *text, int64_t *time_r)
{
	struct tm tm = { 0 };
	int east;

	tm.tm_year = digits(&text, 4) - 1900;
	if (!eat(&text, "-"))
		return -1;
	tm.tm_mon = digits(&text, 2) - 1;
	if (!eat(&text, "-"))
		return -1;
	tm.tm_mday = digits(&text, 2);
	if (!eat(&text, "Tt"))
		return -1;
	tm.tm_hour = digits(&text, 2);
	if (!eat(&text, ":"))
		return -1;
	tm.tm_min = digits(&text, 2);
	if (!eat(&text, ":"))
		return -1;
	tm.tm_sec = digits(&text, 2);
	if (eat(&text, ".") && digits(&text, 1) < 0)
		return -1;
	while (*text >= '0' && *text <= '9')
		text++;
	if (!date_is_valid(&tm) || zone(&text, &east) < 0 || *text != '\0')
		return -1;
	*time_r = (int64_t)timegm(&tm) - east;
	return 0;
}

/* Only what lets mail through: a list of exemptions must not punish. */
static int
parse_action(const char *text, enum action *action_r)
{
	static const enum action allowed[] = { ACTION_PASS, ACTION_WATCH,
		ACTION_RELAY, ACTION_SUBMIT };

	for (size_t i = 0; i < sizeof(allowed) / sizeof(allowed[0]); i++)
		if (strcmp(text, action_name[allowed[i]]) == 0) {
			*action_r = allowed[i];
			return 0;
		}
	return -1;
}

/* One "key=value" of an entry. */
static int
parse_field(const char *field, struct allow_entry *entry, unsigned *seen,
	char why[160])
{
	unsigned bit = strncmp(field, "until=", 6) == 0 ? 2 : 1;

	if (strncmp(field, "port25=", 7) != 0 && bit == 1) {
		snprintf(why, 160, "'%.40s'; expected port25=ACTION, "
			"until=TIME or # reason", field);
		return -1;
	}
	if ((*seen & bit) != 0) {
		snprintf(why, 160, "'%.40s'; expected only one of its kind",
			field);
		return -1;
	}
	*seen |= bit;
	if (bit == 1 && parse_action(field + 7, &entry->action) < 0) {
		snprintf(why, 160, "'%.40s'; expected port25=pass, watch, "
			"relay or submit", field);
		return -1;
	}
	if (bit == 2 && allow_time(field + 6, &entry->until) < 0) {
		snprintf(why, 160, "'%.40s'; expected a time like "
			"until=2026-12-31T23:59:59Z", field);
		return -1;
	}
	return 0;
}

static int
parse_prefix(const char *text, struct prefix *p, char why[160])
{
	const char *reason;

	if (prefix_parse(p, text, &reason) < 0) {
		snprintf(why, 160, "'%.50s': %s; expected a prefix like "
			"198.18.3.7 or 2001:db8:1:9900::/56", text, reason);
		return -1;
	}
	if (p->len == 0) {
		snprintf(why, 160, "'%.40s': covers every address; expected "
			"single lines or prefixes", text);
		return -1;
	}
	return 0;
}

bool
conf_customer_valid(const char *text)
{
	if (text[0] == '\0' || strlen(text) >= CONF_CUSTOMER_MAX)
		return false;
	for (; *text != '\0'; text++)
		if (*text <= ' ' || *text > '~' || *text == '"' || *text == '#')
			return false;
	return true;
}

/* Whose entry it is: of a prefix, or of a customer's lines. */
static int
parse_subject(const char *text, struct allow_entry *entry, char why[160])
{
	if (strncmp(text, "line:", 5) != 0)
		return parse_prefix(text, &entry->prefix, why);
	if (!conf_customer_valid(text + 5)) {
		snprintf(why, 160, "'%.80s': expected line: and a customer's "
			"id of at most 63 printable characters", text);
		return -1;
	}
	if ((entry->customer = strdup(text + 5)) != NULL)
		return 0;
	snprintf(why, 160, "out of memory");
	return -1;
}

void
allow_forget(struct allow_entry *entry)
{
	free(entry->reason);
	free(entry->customer);
	entry->reason = entry->customer = NULL;
}

/* The next word at *text, which moves on; NULL: no more. */
static char *
next_word(char **text)
{
	char *word = *text + strspn(*text, " \t");

	if (*word == '\0')
		return NULL;
	*text = word + strcspn(word, " \t");
	if (**text != '\0')
		*(*text)++ = '\0';
	return word;
}

/* Cut the comment off; returns it without leading blanks, or NULL. */
static char *
cut_comment(char *text)
{
	char *hash = strchr(text, '#');

	if (hash == NULL)
		return NULL;
	*hash++ = '\0';
	return hash + strspn(hash, " \t");
}

int
allow_parse(char *text, struct allow_entry *entry, char why[160])
{
	char *reason = cut_comment(text), *field;
	unsigned seen = 0;

	memset(entry, 0, sizeof(*entry));
	if ((field = next_word(&text)) == NULL)
		return 0;
	entry->action = ACTION_PASS;
	if (parse_subject(field, entry, why) < 0)
		return -1;
	while ((field = next_word(&text)) != NULL)
		if (parse_field(field, entry, &seen, why) < 0) {
			allow_forget(entry);
			return -1;
		}
	if (reason == NULL || reason[0] == '\0')
		return 1;
	if ((entry->reason = strdup(reason)) == NULL) {
		snprintf(why, 160, "out of memory");
		allow_forget(entry);
		return -1;
	}
	return 1;
}

/* A list file being read: its lines, and errors up to a bound. */
struct list {
	struct load *l;
	const char *path;
	FILE *f;
	char *text;
	size_t text_cap;
	unsigned line;
	unsigned errors;
};

static void
list_error(struct list *list, const char *why)
{
	if (list->errors++ < ERRORS_SHOWN)
		complain(list->l, list->path, list->line, "%s", why);
	else
		list->l->errors++;
}

/* The next line without its ending, or NULL. */
static char *
list_next(struct list *list)
{
	ssize_t n;

	while ((n = getline(&list->text, &list->text_cap, list->f)) >= 0) {
		list->line++;
		if (n > 0 && list->text[n - 1] == '\n')
			list->text[--n] = '\0';
		if (n > 0 && list->text[n - 1] == '\r')
			list->text[--n] = '\0';
		if ((size_t)n != strlen(list->text))
			list_error(list, "a NUL byte; expected text");
		else if (n > LINE_BYTES)
			list_error(list, "a line of more than 1024 characters; "
				"expected one entry a line");
		else
			return list->text;
	}
	return NULL;
}

static int
list_begin(struct list *list, struct load *l, const config_setting_t *named,
	const char *path)
{
	const char *why;

	memset(list, 0, sizeof(*list));
	list->l = l;
	list->path = path;
	if ((list->f = list_open(path, &why)) == NULL) {
		complain_at(l, named, "%s cannot be read: %s; expected a "
			"readable text file", path, why);
		return -1;
	}
	return 0;
}

static void
list_end(struct list *list)
{
	if (list->errors > ERRORS_SHOWN)
		fprintf(list->l->err, "%s:%u: %u more lines with errors\n",
			list->path, list->line, list->errors - ERRORS_SHOWN);
	if (ferror(list->f))
		complain(list->l, list->path, list->line, "cannot be read to "
			"its end; expected a readable text file");
	free(list->text);
	fclose(list->f);
}

/* Room for one more element of an array that doubles. */
static void *
grow(void *base, size_t n, size_t size)
{
	if (n < 64 ? n != 0 : (n & (n - 1)) != 0)
		return base;
	return reallocarray(base, n < 64 ? 64 : n * 2, size);
}

static void
allow_add_line(struct list *list, struct allow_entry *entry)
{
	struct conf *c = list->l->conf;
	struct allow_entry *bigger = grow(c->allow_line, c->nallow_line,
		sizeof(*bigger));

	if (bigger == NULL) {
		allow_forget(entry);
		list_error(list, "out of memory");
		return;
	}
	c->allow_line = bigger;
	c->allow_line[c->nallow_line++] = *entry;
}

static int
by_customer(const void *a, const void *b)
{
	const struct allow_entry *x = a, *y = b;
	int order = strcmp(x->customer, y->customer);

	return order != 0 ? order : x->line < y->line ? -1 : 1;
}

/* In order, and each customer once. */
static void
order_lines(struct list *list)
{
	struct conf *c = list->l->conf;
	const struct allow_entry *e = c->allow_line;
	char why[160];

	if (c->nallow_line > 0)
		qsort(c->allow_line, c->nallow_line, sizeof(*e), by_customer);
	for (size_t i = 1; i < c->nallow_line; i++)
		if (strcmp(e[i].customer, e[i - 1].customer) == 0) {
			snprintf(why, sizeof(why), "line:%s is already in line "
				"%u; expected each customer once",
				e[i].customer, e[i - 1].line);
			list->line = e[i].line;
			list_error(list, why);
		}
}

const struct allow_entry *
conf_allow_of(const struct conf *conf, const char *customer, int64_t now)
{
	size_t lo = 0, hi = conf->nallow_line;

	while (lo < hi) {
		const struct allow_entry *e = &conf->allow_line[lo +
			(hi - lo) / 2];
		int order = strcmp(customer, e->customer);

		if (order == 0)
			return e->until == 0 || e->until > now ? e : NULL;
		if (order < 0)
			hi = (size_t)(e - conf->allow_line);
		else
			lo = (size_t)(e - conf->allow_line) + 1;
	}
	return NULL;
}

static void
allow_add(struct list *list, struct allow_entry *entry)
{
	struct conf *c = list->l->conf;
	struct allow_entry *bigger;
	char why[160], text[ADDR_STRLEN];
	int32_t old;
	int rc = -1;

	if (entry->customer != NULL) {
		allow_add_line(list, entry);
		return;
	}
	bigger = grow(c->allow, c->nallow, sizeof(*c->allow));
	if (bigger != NULL) {
		c->allow = bigger;
		rc = lpm_add(c->allow_lpm, &entry->prefix, (int32_t)c->nallow,
			&old);
	}
	if (rc == 0) {
		c->allow[c->nallow++] = *entry;
		return;
	}
	allow_forget(entry);
	if (rc < 0)
		snprintf(why, sizeof(why), "out of memory");
	else
		snprintf(why, sizeof(why), "%s is already in line %u; expected "
			"each prefix once",
			prefix_format(&entry->prefix, text),
			c->allow[old].line);
	list_error(list, why);
}

void
allow_load(struct load *l, const config_setting_t *named)
{
	struct allow_entry entry;
	struct list list;
	char why[160], *text;

	if (list_begin(&list, l, named, l->conf->allow_file) < 0)
		return;
	while ((text = list_next(&list)) != NULL) {
		int rc = allow_parse(text, &entry, why);

		entry.line = list.line;
		if (rc < 0)
			list_error(&list, why);
		else if (rc > 0)
			allow_add(&list, &entry);
	}
	order_lines(&list);
	list_end(&list);
}

static int
prefix_append(struct prefix **all, size_t *n, const struct prefix *p,
	unsigned **lines, size_t *nlines, unsigned line)
{
	struct prefix *bigger = *all;
	unsigned *more;

	/* the array began with what the configuration lists: no power of two */
	if (*nlines % 4096 == 0)
		bigger = reallocarray(bigger, *n + 4096, sizeof(*bigger));
	if (bigger == NULL)
		return -1;
	*all = bigger;
	if ((more = grow(*lines, *nlines, sizeof(*more))) == NULL)
		return -1;
	*lines = more;
	more[(*nlines)++] = line;
	bigger[(*n)++] = *p;
	return 0;
}

void
prefix_file_load(struct load *l, const config_setting_t *named,
	const char *path, struct prefix **all, size_t *n, unsigned **line_r)
{
	char why[160], *text, *field;
	struct prefix p;
	struct list list;
	size_t nlines = 0;

	*line_r = NULL;
	if (list_begin(&list, l, named, path) < 0)
		return;
	while ((text = list_next(&list)) != NULL) {
		cut_comment(text);
		if ((field = next_word(&text)) == NULL)
			continue;
		if (next_word(&text) != NULL)
			list_error(&list, "more than a prefix; expected one "
				"prefix a line");
		else if (parse_prefix(field, &p, why) < 0)
			list_error(&list, why);
		else if (prefix_append(all, n, &p, line_r, &nlines,
				list.line) < 0)
			list_error(&list, "out of memory");
	}
	list_end(&list);
}
