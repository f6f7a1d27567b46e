/*
 * main.c - sallyportd: options, configuration, then the parent's loop
 *
 * Does: read the command line and the configuration, say what is wrong with
 * either (exit 2), go into the background unless told not to. Does not: know
 * anything of what follows; parent.c is the daemon.
 *
 * Called by an operator or a service manager, with privileges; nobody else
 * controls anything here.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "conf/conf.h"
#include "lib/log.h"
#include "proxyd/parent.h"
#include "proxyd/roles.h"

#define DEFAULT_CONF "/etc/sallyport/sallyport.conf"

static const char usage[] =
	"usage: sallyportd [-dhtV] [-c FILE]\n"
	"  -c FILE  configuration (" DEFAULT_CONF ")\n"
	"  -d       stay in front, log to standard error\n"
	"  -t       check the configuration and exit: 0 good, 2 bad\n"
	"  -V       print the version\n"
	"  -h       print this\n";

struct options {
	const char *path;
	bool foreground, test;
};

/* -1: go on; else the exit status. */
static int
read_options(int argc, char **argv, struct options *o)
{
	int c;

	while ((c = getopt(argc, argv, "c:dhtV")) != -1)
		switch (c) {
		case 'c':
			o->path = optarg;
			break;
		case 'd':
			o->foreground = true;
			break;
		case 't':
			o->test = true;
			break;
		case 'V':
			puts("sallyportd " SALLYPORT_VERSION);
			return 0;
		case 'h':
			fputs(usage, stdout);
			return 0;
		default:
			fputs(usage, stderr);
			return 2;
		}
	if (optind < argc) {
		fprintf(stderr, "sallyportd: unexpected argument \"%s\"\n%s",
			argv[optind], usage);
		return 2;
	}
	return -1;
}

/* A reload has to find the file after the daemon has changed to "/"; symbolic
 * links are followed then, not now. */
static char *
absolute(const char *path)
{
	char *dir, *whole = NULL;

	if (path[0] == '/')
		return strdup(path);
	dir = getcwd(NULL, 0);
	if (dir != NULL && asprintf(&whole, "%s/%s", dir, path) < 0)
		whole = NULL;
	free(dir);
	return whole;
}

int
main(int argc, char **argv)
{
	struct options o = { .path = DEFAULT_CONF };
	int status = read_options(argc, argv, &o);
	struct conf *conf;
	char *path;

	if (status >= 0)
		return status;
	/* whatever the starting shell had open is none of our business */
	(void)close_range(STDERR_FILENO + 1, ~0U, 0);
	log_open("sallyportd", true);
	conf = conf_load(o.path, stderr);
	if (conf == NULL)
		return 2;
	if (o.test) {
		printf("%s: no error\n", o.path);
		conf_free(&conf);
		return 0;
	}
	path = absolute(o.path);
	if (path == NULL)
		fatal("no memory");
	if (!o.foreground)
		daemon_detach();
	status = parent_main(conf, path, o.foreground);
	free(path);
	return status;
}
