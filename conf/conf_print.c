/*
 * conf_print.c - the configuration and the option table, printed
 *
 * The effective configuration goes back into a libconfig tree through the
 * table's writers; libconfig prints it (and escapes), or it is turned into
 * JSON. What is printed can be loaded again and means the same. Defaults and
 * the manual's option section come straight from the table.
 *
 * Called by `sallyport check` and by the build, for the manual. Values were
 * checked by conf_load(); nothing here comes from a peer.
 */
#include "conf/conf.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "conf/option.h"

void
conf_print(const struct conf *conf, FILE *out)
{
	config_t cfg;

	config_init(&cfg);
	config_set_options(&cfg, CONFIG_OPTION_SEMICOLON_SEPARATORS);
	config_set_tab_width(&cfg, 2);
	if (option_write_group("", conf, config_root_setting(&cfg)) == 0)
		config_write(&cfg, out);
	else
		fputs("out of memory\n", out);
	config_destroy(&cfg);
}

/* ---- JSON ---- */

static json_t *
json_of(const config_setting_t *s)
{
	bool is_group = config_setting_is_group(s);
	json_t *all;

	switch (config_setting_type(s)) {
	case CONFIG_TYPE_INT:
	case CONFIG_TYPE_INT64:
		return json_integer(config_setting_get_int64(s));
	case CONFIG_TYPE_FLOAT:
		return json_real(config_setting_get_float(s));
	case CONFIG_TYPE_BOOL:
		return json_boolean(config_setting_get_bool(s));
	case CONFIG_TYPE_STRING:
		return json_string(config_setting_get_string(s));
	default:
		break;
	}
	all = is_group ? json_object() : json_array();
	for (int i = 0; all != NULL && i < config_setting_length(s); i++) {
		const config_setting_t *elem =
			config_setting_get_elem(s, (unsigned)i);
		int rc = is_group ? json_object_set_new(all,
				config_setting_name(elem), json_of(elem)) :
			json_array_append_new(all, json_of(elem));

		if (rc < 0) {
			json_decref(all);
			return NULL;
		}
	}
	return all;
}

/* The sentences of conf_explain, one array element a line. */
static json_t *
json_explained(const struct conf *conf)
{
	json_t *lines = json_array();
	char *text = NULL, *rest, *line;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	if (f == NULL)
		return lines;
	conf_explain(conf, f);
	fclose(f);
	for (rest = text; (line = strsep(&rest, "\n")) != NULL;)
		if (line[0] != '\0')
			json_array_append_new(lines, json_string(line));
	free(text);
	return lines;
}

static json_t *
json_classes(const struct conf *conf)
{
	static const char *const enforce[] = {
		[ENFORCE_WATCH] = "watch",
		[ENFORCE_ALL] = "all",
		[ENFORCE_LISTED] = "listed",
	};
	json_t *all = json_array();

	for (size_t i = 0; i < conf->nclasses; i++) {
		const struct class_conf *k = &conf->classes[i];

		json_array_append_new(all, json_pack("{s:s, s:s, s:s, s:s, s:I, "
			"s:I, s:b}",
			"class", k->name, "port25", action_name[k->port25],
			"enforce", enforce[k->enforce],
			"effective", action_name[k->effective],
			"prefixes", (json_int_t)k->nprefixes,
			"destinations", (json_int_t)k->ndestinations,
			"counted", conf_class_counts(k)));
	}
	return all;
}

int
conf_print_json(const struct conf *conf, FILE *out)
{
	json_t *whole = NULL;
	config_t cfg;
	int rc = -1;

	config_init(&cfg);
	if (option_write_group("", conf, config_root_setting(&cfg)) == 0)
		whole = json_pack("{s:s, s:o, s:o, s:o}",
			"file", conf->path,
			"configuration", json_of(config_root_setting(&cfg)),
			"classes", json_classes(conf),
			"explanation", json_explained(conf));
	if (whole != NULL)
		rc = json_dumpf(whole, out, JSON_INDENT(2) |
			JSON_REAL_PRECISION(6));
	if (rc == 0)
		fputc('\n', out);
	json_decref(whole);
	config_destroy(&cfg);
	return rc;
}

/* ---- the table ---- */

static const char *
default_shown(const struct option *o)
{
	if (o->deflt == OPTIONAL)
		return "unset";
	return o->deflt[0] == '\0' ? "required" : o->deflt;
}

void
conf_print_defaults(FILE *out)
{
	char expects[512];

	for (size_t i = 0; i < noptions; i++) {
		const struct option *o = &options[i];

		if (o->type == LATER)
			fprintf(out, "%s: not available in this version\n",
				o->path);
		else if (o->type == GROUP || o->type == GROUPS)
			fprintf(out, "\n%s: %s%s\n", o->path, o->help,
				o->deflt != OPTIONAL && o->deflt[0] == '\0' ?
					" Required." : "");
		else
			fprintf(out, "%s = %s\n\t%s\n\texpects %s\n", o->path,
				default_shown(o), o->help,
				option_expects(o, expects, sizeof(expects)));
	}
}

/* Text for roff: no escapes, no hyphens that become dashes, no requests. */
static void
roff(FILE *out, const char *text)
{
	if (*text == '.' || *text == '\'')
		fputs("\\&", out);
	for (; *text != '\0'; text++) {
		if (*text == '\\')
			fputs("\\e", out);
		else if (*text == '-')
			fputs("\\-", out);
		else
			fputc(*text, out);
	}
	fputc('\n', out);
}

static void
man_option(FILE *out, const struct option *o)
{
	char expects[512], line[2048];

	fprintf(out, ".TP\n.B %s\n", o->path);
	roff(out, o->help);
	option_expects(o, expects, sizeof(expects));
	if (o->deflt == OPTIONAL)
		snprintf(line, sizeof(line), "Expects %s.", expects);
	else if (o->deflt[0] == '\0')
		snprintf(line, sizeof(line), "Expects %s; required.", expects);
	else
		snprintf(line, sizeof(line), "Expects %s. Default: %s", expects,
			o->deflt);
	fputs(".br\n", out);
	roff(out, line);
}

void
conf_print_man(FILE *out)
{
	for (size_t i = 0; i < noptions; i++) {
		const struct option *o = &options[i];

		if (o->type == GROUP || o->type == GROUPS) {
			fprintf(out, ".SS %s\n", o->path);
			roff(out, o->help);
		} else if (o->type != LATER) {
			man_option(out, o);
		}
	}
	fputs(".SS Not available in this version\n"
		"These are known and refused:\n", out);
	for (size_t i = 0, n = 0; i < noptions; i++)
		if (options[i].type == LATER)
			fprintf(out, "%s%s", n++ != 0 ? ",\n" : "",
				options[i].path);
	fputs(".\n", out);
}
