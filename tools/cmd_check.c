/*
 * cmd_check.c - sallyport check: what the configuration says and will do
 *
 * Loads the configuration as the daemon would and prints either every error,
 * or the effective options and then, in sentences, what each class of lines
 * will meet. Also prints the option table: all defaults, and the section of
 * the manual that the build puts into sallyport.conf(5).
 *
 * Called by the command line's main. Needs no privilege and no running daemon,
 * touches nothing. Exit status: 0 correct, 2 errors or wrong usage.
 */
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/conf.h"
#include "tools/cmd.h"

static const char usage[] =
	"usage: sallyport [-c FILE] check [--json]\n"
	"       sallyport check --defaults | --man\n"
	"\n"
	"Prints the effective configuration and what will happen to each class.\n"
	"  --defaults  every option with its default and meaning\n"
	"  --man       the option section of sallyport.conf(5)\n"
	"  --json      one JSON object\n"
	"Exit status: 0 correct, 2 errors in the configuration.\n";

/* The errors, one a line, as the object that takes the configuration's place. */
static void
print_errors_json(const char *path, char *errors)
{
	json_t *lines = json_array(), *whole;
	char *line;

	while ((line = strsep(&errors, "\n")) != NULL)
		if (line[0] != '\0')
			json_array_append_new(lines, json_string(line));
	whole = json_pack("{s:s, s:o}", "file", path, "errors", lines);
	json_dumpf(whole, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(whole);
}

static int
check_json(const char *path)
{
	char *errors = NULL;
	size_t len;
	FILE *err = open_memstream(&errors, &len);
	struct conf *conf;
	int rc = 0;

	if (err == NULL) {
		perror("sallyport");
		return 1;
	}
	conf = conf_load(path, err);
	if (conf != NULL && conf_check_secrets(conf, err) == -1)
		conf_free(&conf);
	fclose(err);
	if (conf == NULL) {
		print_errors_json(path, errors);
		rc = 2;
	} else if (conf_print_json(conf, stdout) < 0) {
		rc = 1;
	}
	conf_free(&conf);
	free(errors);
	return rc;
}

static int
check_text(const char *path)
{
	struct conf *conf = conf_load(path, stderr);
	int rc;

	if (conf == NULL)
		return 2;
	printf("# %s: effective configuration\n", path);
	conf_print(conf, stdout);
	putchar('\n');
	conf_explain(conf, stdout);
	rc = conf_check_secrets(conf, stderr) == -1 ? 2 : 0;
	conf_free(&conf);
	return rc;
}

int
cmd_check(int argc, char **argv, const char *config_path, bool json)
{
	static const struct option longopts[] = {
		{ "defaults", no_argument, NULL, 'd' },
		{ "man", no_argument, NULL, 'm' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int opt;

	optind = 0;	/* main has used getopt before */
	while ((opt = getopt_long(argc, argv, "+h", longopts, NULL)) != -1) {
		switch (opt) {
		case 'd':
			conf_print_defaults(stdout);
			return 0;
		case 'm':
			conf_print_man(stdout);
			return 0;
		case 'j':
			json = true;
			break;
		case 'h':
			fputs(usage, stdout);
			return 0;
		default:
			fputs(usage, stderr);
			return 2;
		}
	}
	if (optind != argc) {
		fprintf(stderr, "sallyport: check takes no argument; '%s' is "
			"too much\n%s", argv[optind], usage);
		return 2;
	}
	return json ? check_json(config_path) : check_text(config_path);
}
