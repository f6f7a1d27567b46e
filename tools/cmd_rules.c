/*
 * cmd_rules.c - sallyport rules show | apply | verify | remove
 *
 * Does: loads the configuration and hands it to rules/. Takes no argument:
 * what is applied is what the configuration says.
 *
 * Called by the CLI's main with words that the grammar has matched. `remove'
 * works without a configuration, because what is ours says so by name; it must
 * also clean up after one that no longer loads.
 */
#include <stdio.h>

#include "conf/conf.h"
#include "rules/rules.h"
#include "tools/ask.h"
#include "tools/cmd.h"
#include "tools/ledger_read.h"

static int
no_arguments(int argc, char **argv)
{
	if (argc <= 1)
		return 0;
	fprintf(stderr, "sallyport: rules %s: unexpected '%s'\n", argv[0],
		argv[1]);
	return -1;
}

/* A daemon that runs may have been told of an entry while sets were replaced:
 * let it look at once, not within ten seconds. None runs: nothing to say. */
static void
look_now(const char *config)
{
	json_t *answer = ask_daemon_quietly(config, "allow check\n", 2);

	json_decref(answer);
}

int
cmd_rules_show(int argc, char **argv, const char *config, bool json)
{
	const struct rules_options o = { .json = json, .program = "sallyport" };
	struct allowmap *ledger;
	struct conf *c;
	int status;

	if (no_arguments(argc, argv) < 0)
		return 2;
	c = conf_load(config, stderr);
	if (c == NULL)
		return 2;
	ledger_attach(c, config, &ledger);
	status = rules_show(c, &o, stdout);
	conf_free(&c);
	allowmap_free(&ledger);
	return status;
}

int
cmd_rules_apply(int argc, char **argv, const char *config, bool json)
{
	const struct rules_options o = { .json = json, .program = "sallyport" };
	struct allowmap *ledger;
	struct conf *c;
	int status;

	if (no_arguments(argc, argv) < 0)
		return 2;
	c = conf_load(config, stderr);
	if (c == NULL)
		return 2;
	ledger_attach(c, config, &ledger);
	status = rules_apply(c, &o, stdout, stderr);
	if (status == 0)
		look_now(config);
	conf_free(&c);
	allowmap_free(&ledger);
	return status;
}

int
cmd_rules_verify(int argc, char **argv, const char *config, bool json)
{
	const struct rules_options o = { .json = json, .program = "sallyport" };
	struct allowmap *ledger;
	struct conf *c;
	int status;

	if (no_arguments(argc, argv) < 0)
		return 2;
	c = conf_load(config, stderr);
	if (c == NULL)
		return 2;
	ledger_attach(c, config, &ledger);
	status = rules_verify(c, &o, stdout, stderr);
	conf_free(&c);
	allowmap_free(&ledger);
	return status;
}

int
cmd_rules_remove(int argc, char **argv, const char *config, bool json)
{
	const struct rules_options o = { .json = json, .program = "sallyport" };

	(void)config;
	if (no_arguments(argc, argv) < 0)
		return 2;
	return rules_remove(NULL, &o, stdout, stderr);
}
