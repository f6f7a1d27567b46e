/*
 * option.c - the option table and its generic users
 *
 * Walks groups of a parsed configuration along the rows of option.tbl: finds
 * unknown keys, reads what is there, takes the defaults of what is not (by
 * parsing the row's default with the same parser, so that there is one way in
 * for every value), and writes the same tree back. Types of single values are
 * value.c's; what options mean together is conf.c's.
 *
 * Called by conf.c and conf_print.c. The file is the operator's; it may be
 * wrong in any way, and every mistake in it gets a line of its own: reading
 * goes on after an error, only the result is thrown away.
 */
#include "conf/option.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "conf/conf.h"

#define STORE(s, m) .offset = offsetof(struct s, m), \
	.size = sizeof(((struct s *)0)->m)
#define LIST(s, m, n) .offset = offsetof(struct s, m), \
	.count_offset = offsetof(struct s, n), \
	.size = sizeof(*((struct s *)0)->m)
#define UNSTORED .offset = NOWHERE
#define OPTION(path_, type_, store, default_, min_, max_, words_, help_) \
	{ .path = (path_), .type = (type_), store, .deflt = (default_), \
	  .min = (min_), .max = (max_), .words = (words_), .help = (help_) },

const struct option options[] = {
#include "conf/option.tbl"
};
const size_t noptions = sizeof(options) / sizeof(options[0]);

static void
complain_v(struct load *l, const char *file, unsigned line, const char *fmt,
	va_list ap)
{
	char text[1024];

	vsnprintf(text, sizeof(text), fmt, ap);
	for (char *c = text; *c != '\0'; c++)
		if ((unsigned char)*c < 0x20 || (unsigned char)*c > 0x7e)
			*c = '?';
	if (line != 0)
		fprintf(l->err, "%s:%u: %s\n", file, line, text);
	else
		fprintf(l->err, "%s: %s\n", file, text);
	l->errors++;
}

void
complain(struct load *l, const char *file, unsigned line, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	complain_v(l, file, line, fmt, ap);
	va_end(ap);
}

const char *
setting_file(const struct load *l, const config_setting_t *s)
{
	const char *file = config_setting_source_file(s);

	return file != NULL ? file : l->path;
}

void
warn_at(struct load *l, const config_setting_t *s, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	complain_at(l, s, "warning: %s", text);
	l->errors--;
}

void
complain_at(struct load *l, const config_setting_t *s, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	complain_v(l, setting_file(l, s),
		(unsigned)config_setting_source_line(s), fmt, ap);
	va_end(ap);
}

static const char *
value_shown(const config_setting_t *s, char *out, size_t cap)
{
	switch (config_setting_type(s)) {
	case CONFIG_TYPE_INT:
	case CONFIG_TYPE_INT64:
		snprintf(out, cap, "%lld", config_setting_get_int64(s));
		break;
	case CONFIG_TYPE_FLOAT:
		snprintf(out, cap, "%g", config_setting_get_float(s));
		break;
	case CONFIG_TYPE_BOOL:
		return config_setting_get_bool(s) ? "true" : "false";
	case CONFIG_TYPE_STRING:
		snprintf(out, cap, "\"%.60s%s\"", config_setting_get_string(s),
			strlen(config_setting_get_string(s)) > 60 ? "..." : "");
		break;
	case CONFIG_TYPE_GROUP:
		return "a group { }";
	default:
		return "a list ( )";
	}
	return out;
}

void
complain_value(struct load *l, const struct option *o,
	const config_setting_t *s, const char *why)
{
	char shown[128], expects[512];

	complain_at(l, s, "%s = %s%s%s; expected %s", o->path,
		value_shown(s, shown, sizeof(shown)),
		why != NULL ? ": " : "", why != NULL ? why : "",
		option_expects(o, expects, sizeof(expects)));
}

const struct option *
option_at(const char *path)
{
	for (size_t i = 0; i < noptions; i++)
		if (strcmp(options[i].path, path) == 0)
			return &options[i];
	return NULL;
}

const char *
option_leaf(const struct option *o)
{
	const char *dot = strrchr(o->path, '.');

	return dot != NULL ? dot + 1 : o->path;
}

bool
option_inside(const struct option *o, const char *group)
{
	size_t len = strlen(group);

	if (len == 0)
		return strchr(o->path, '.') == NULL;
	return strncmp(o->path, group, len) == 0 && o->path[len] == '.' &&
		strchr(o->path + len + 1, '.') == NULL;
}

/* Letters that differ, place by place, plus the difference in length: enough
 * to recognise a typing mistake. */
static size_t
unlike(const char *a, const char *b)
{
	size_t la = strlen(a), lb = strlen(b), n = la < lb ? la : lb;
	size_t head = 0, tail = 0;

	while (head < n && a[head] == b[head])
		head++;
	while (tail < n - head && a[la - 1 - tail] == b[lb - 1 - tail])
		tail++;
	return (la > lb ? la : lb) - head - tail;
}

static void
complain_unknown(struct load *l, const char *group, const config_setting_t *s)
{
	const char *name = config_setting_name(s);
	const char *dot = group[0] != '\0' ? "." : "";
	const struct option *best = NULL;
	size_t best_unlike = 3;
	char known[512] = "";
	size_t len = 0;

	for (size_t i = 0; i < noptions; i++) {
		const struct option *o = &options[i];

		if (!option_inside(o, group) || o->type == LATER)
			continue;
		if (unlike(name, option_leaf(o)) < best_unlike) {
			best_unlike = unlike(name, option_leaf(o));
			best = o;
		}
		if (len < sizeof(known))
			len += (size_t)snprintf(known + len,
				sizeof(known) - len, "%s%s",
				len != 0 ? ", " : "", option_leaf(o));
	}
	if (best != NULL)
		complain_at(l, s, "unknown option %s%s%s; expected %s?", group,
			dot, name, best->path);
	else
		complain_at(l, s, "unknown option %s%s%s; expected one of %s",
			group, dot, name, known);
}

static void
check_keys(struct load *l, const char *group, config_setting_t *setting)
{
	int n = config_setting_length(setting);

	for (int i = 0; i < n; i++) {
		const config_setting_t *s =
			config_setting_get_elem(setting, (unsigned)i);
		bool known = false;

		for (size_t o = 0; o < noptions && !known; o++)
			known = option_inside(&options[o], group) &&
				strcmp(option_leaf(&options[o]),
					config_setting_name(s)) == 0;
		if (!known)
			complain_unknown(l, group, s);
	}
}

static int
read_text(struct load *l, const struct option *o, const char *value, void *owner)
{
	char text[1024];
	config_t cfg;
	int rc = -1;

	config_init(&cfg);
	snprintf(text, sizeof(text), "v = %s;", value);
	if (config_read_string(&cfg, text) == CONFIG_TRUE)
		rc = value_read(l, o, config_lookup(&cfg, "v"), owner);
	else
		complain(l, o->path, 0, "value %s: %s", value,
			config_error_text(&cfg));
	config_destroy(&cfg);
	return rc;
}

void
option_set(struct load *l, const char *group, const char *word, void *owner)
{
	const char *equals = strchr(word, '=');
	const struct option *o;
	char path[128], value[128];

	snprintf(path, sizeof(path), "%s.%.*s", group,
		equals != NULL ? (int)(equals - word) : 0, word);
	o = option_at(path);
	if (o == NULL || o->type == GROUP || o->type == LATER) {
		complain(l, word, 0, "no option of the group %s; expected "
			"NAME=VALUE, see sallyport check --defaults", group);
		return;
	}
	snprintf(value, sizeof(value), o->type == WORD ? "\"%s\"" : "%s",
		equals + 1);
	(void)read_text(l, o, value, owner);
}

static void
read_default(struct load *l, const struct option *o, void *owner)
{
	(void)read_text(l, o, o->deflt, owner);
}

static void
read_groups(struct load *l, const struct option *o, config_setting_t *s,
	void *owner)
{
	char *base;
	size_t n;

	if (!config_setting_is_list(s)) {
		complain_value(l, o, s, NULL);
		return;
	}
	n = (size_t)config_setting_length(s);
	if (n == 0)
		return;
	if ((base = calloc(n, o->size)) == NULL) {
		complain_at(l, s, "out of memory");
		return;
	}
	memcpy((char *)owner + o->offset, &base, sizeof(base));
	memcpy((char *)owner + o->count_offset, &n, sizeof(n));
	for (size_t i = 0; i < n; i++) {
		config_setting_t *elem = config_setting_get_elem(s, (unsigned)i);

		if (config_setting_is_group(elem))
			option_read_group(l, o->path, elem, base + i * o->size);
		else
			complain_value(l, o, elem, "an element of the list");
	}
}

static void
read_option(struct load *l, const struct option *o, config_setting_t *group,
	void *owner)
{
	config_setting_t *s = group == NULL ? NULL :
		config_setting_get_member(group, option_leaf(o));

	if (o->type == GROUP && s != NULL && !config_setting_is_group(s))
		complain_value(l, o, s, NULL);
	else if (o->type == GROUP)
		option_read_group(l, o->path, s, owner);
	else if (s != NULL && o->type == LATER)
		complain_at(l, s, "%s is not available in this version; "
			"remove it", o->path);
	else if (s != NULL && o->type == GROUPS)
		read_groups(l, o, s, owner);
	else if (s != NULL)
		value_read(l, o, s, owner);
	else if (o->deflt == OPTIONAL || strcmp(o->deflt, "()") == 0)
		return;		/* stays as it is: zero, or inherited */
	else if (o->deflt[0] != '\0')
		read_default(l, o, owner);
	else if (group != NULL && !config_setting_is_root(group))
		complain_at(l, group, "%s is missing; expected %s = ... in "
			"this group", o->path, option_leaf(o));
	else
		complain(l, l->path, 1, "%s is missing; it is required",
			o->path);
}

void
option_read_group(struct load *l, const char *group,
	config_setting_t *setting, void *owner)
{
	if (setting != NULL)
		check_keys(l, group, setting);
	for (size_t i = 0; i < noptions; i++)
		if (option_inside(&options[i], group))
			read_option(l, &options[i], setting, owner);
}

static int
write_groups(const struct option *o, const void *owner,
	config_setting_t *group)
{
	config_setting_t *list, *elem;
	const char *base;
	size_t n;

	memcpy(&base, (const char *)owner + o->offset, sizeof(base));
	memcpy(&n, (const char *)owner + o->count_offset, sizeof(n));
	list = config_setting_add(group, option_leaf(o), CONFIG_TYPE_LIST);
	if (list == NULL)
		return -1;
	for (size_t i = 0; i < n; i++) {
		elem = config_setting_add(list, NULL, CONFIG_TYPE_GROUP);
		if (elem == NULL || option_write_group(o->path,
				base + i * o->size, elem) < 0)
			return -1;
	}
	return 0;
}

int
option_write_group(const char *group, const void *owner,
	config_setting_t *setting)
{
	for (size_t i = 0; i < noptions; i++) {
		const struct option *o = &options[i];
		config_setting_t *inner;

		if (!option_inside(o, group) || o->type == LATER)
			continue;
		if (o->type == GROUPS) {
			if (write_groups(o, owner, setting) < 0)
				return -1;
		} else if (o->type == GROUP) {
			inner = config_setting_add(setting, option_leaf(o),
				CONFIG_TYPE_GROUP);
			if (inner == NULL ||
				option_write_group(o->path, owner, inner) < 0)
				return -1;
		} else if (value_write(o, owner, setting) < 0) {
			return -1;
		}
	}
	return 0;
}

void
option_free_group(const char *group, void *owner)
{
	for (size_t i = 0; i < noptions; i++) {
		const struct option *o = &options[i];
		char *base;
		size_t n;

		if (!option_inside(o, group))
			continue;
		if (o->type == GROUP)
			option_free_group(o->path, owner);
		else if (o->type != GROUPS)
			value_free(o, owner);
		else {
			memcpy(&base, (char *)owner + o->offset, sizeof(base));
			memcpy(&n, (char *)owner + o->count_offset, sizeof(n));
			for (size_t k = 0; k < n; k++)
				option_free_group(o->path, base + k * o->size);
			free(base);
		}
	}
}
