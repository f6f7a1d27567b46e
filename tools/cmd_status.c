/*
 * cmd_status.c - status, healthy, reload: ask the running daemon
 *
 * Does: one request over the control socket, one JSON object back, shown as a
 * table or as it is. Does not: judge; what "healthy" means is decided in the
 * daemon. A reload is checked here first, so that whoever typed it sees the
 * mistakes; the daemon reads the file again and decides for itself.
 *
 * Called by the command line's main, by operators and by scripts (keepalived,
 * monitoring). A daemon that is stopped or hung must not hang them: every wait
 * has an end. Exit status: 0 running (healthy, reloaded), 1 not healthy or
 * failed, 2 configuration or usage, 3 not running.
 */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "conf/conf.h"
#include "tools/ask.h"
#include "tools/cmd.h"


static int
no_words(int argc, char **argv)
{
	if (argc <= 1)
		return 0;
	fprintf(stderr, "sallyport %s: unexpected argument \"%s\"\n", argv[0],
		argv[1]);
	return 2;
}

static void
print_json(const json_t *object)
{
	json_dumpf(object, stdout, JSON_INDENT(2));
	putchar('\n');
}

/* ---- showing ---- */

static const char *
text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text != NULL ? text : "-";
}

static long long
number_of(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

/* "3d 04:05:06", "45 s" */
static const char *
duration(long long s, char out[32])
{
	if (s < 60)
		snprintf(out, 32, "%lld s", s);
	else if (s < 86400)
		snprintf(out, 32, "%02lld:%02lld:%02lld", s / 3600,
			s / 60 % 60, s % 60);
	else
		snprintf(out, 32, "%lldd %02lld:%02lld:%02lld", s / 86400,
			s / 3600 % 24, s / 60 % 60, s % 60);
	return out;
}

static void
show_head(const json_t *status)
{
	char up[32];

	printf("sallyportd %s, pid %lld, up %s, %s\n",
		text_of(status, "version"), number_of(status, "pid"),
		duration(number_of(status, "uptime"), up),
		text_of(status, "config"));
	if (json_is_true(json_object_get(status, "healthy")))
		printf("healthy\n\n");
	else
		printf("NOT healthy: %s\n\n", text_of(status, "complaint"));
}

static void
show_gate(const json_t *status)
{
	static const struct {
		const char *word, *text;
	} row[] = {
		{ "all", "open" },
		{ "syn", "open for new connections (grace time)" },
		{ "shut", "shut: traffic goes direct" },
		{ "no-rules", "no rules: run `sallyport rules apply'" },
	};
	size_t i;
	json_t *one;

	json_array_foreach(json_object_get(status, "gate"), i, one) {
		const char *state = text_of(one, "state");

		for (size_t j = 0; j < sizeof(row) / sizeof(*row); j++)
			if (strcmp(state, row[j].word) == 0)
				state = row[j].text;
		printf("port %-4lld %s\n", number_of(one, "port"), state);
	}
	putchar('\n');
}

static void
show_relays(const json_t *status)
{
	const char *kind;
	size_t i;
	json_t *one, *count;

	printf("%-6s %8s %8s %10s %9s %6s  %s\n", "relay", "pid", "now",
		"total", "restarts", "lost", "by kind");
	json_array_foreach(json_object_get(status, "relays"), i, one) {
		printf("%-6lld %8lld %8lld %10lld %9lld %6lld ",
			number_of(one, "slot"), number_of(one, "pid"),
			number_of(one, "sessions_now"),
			number_of(one, "sessions_total"),
			number_of(one, "restarts"), number_of(one, "events_lost"));
		json_object_foreach(json_object_get(one, "by_kind"), kind, count)
			if (json_integer_value(count) > 0)
				printf(" %s=%lld", kind,
					(long long)json_integer_value(count));
		putchar('\n');
	}
	one = json_object_get(status, "control");
	printf("control: pid %lld, %lld restarts, %lld events written, "
		"%lld log lines lost\n\n", number_of(one, "pid"),
		number_of(one, "restarts"), number_of(one, "events"),
		number_of(one, "log_lost"));
}

static void
show_address(const json_t *one)
{
	char age[32];

	printf("    %-40s ", text_of(one, "address"));
	if (json_object_get(one, "age") != NULL)
		printf("seen %s ago", duration(number_of(one, "age"), age));
	else
		printf("configured");
	if (json_object_get(one, "refused") != NULL)
		printf(", refused: a special address");
	if (json_object_get(one, "shared") != NULL)
		printf(", belongs to an earlier server");
	putchar('\n');
}

static void
show_host(const json_t *host)
{
	char since[32];
	size_t i;
	json_t *one;

	if (json_object_get(host, "failing") != NULL)
		printf("    does not resolve, since %s\n",
			duration(number_of(host, "failing"), since));
	json_array_foreach(json_object_get(host, "addresses"), i, one)
		show_address(one);
}

static void
show_servers(const json_t *status)
{
	size_t i;
	json_t *server;

	json_array_foreach(json_object_get(status, "servers"), i, server) {
		const json_t *other = json_object_get(server, "submission_host");

		printf("server %s%s\n", text_of(server, "name"),
			json_is_true(json_object_get(server, "own")) ?
			" (own)" : "");
		show_host(server);
		if (other != NULL) {
			printf("  its submission_host %s\n",
				text_of(other, "name"));
			show_host(other);
		}
	}
}

static void
show_first_packets(const json_t *status)
{
	const json_t *nfq = json_object_get(status, "nfq");
	const json_t *keeper = json_object_get(status, "keeper");
	const json_t *lines = json_object_get(status, "lines");

	if (nfq != NULL)
		printf("first packets: %lld queued, %lld accepted, %lld reset, "
			"%lld dropped, %lld retransmissions, %lld overruns\n"
			"nfq: pid %lld, %lld restarts\n",
			number_of(nfq, "queued"), number_of(nfq, "accepted"),
			number_of(nfq, "reset"), number_of(nfq, "dropped"),
			number_of(nfq, "retransmissions"),
			number_of(nfq, "overruns"), number_of(nfq, "pid"),
			number_of(nfq, "restarts"));
	if (keeper != NULL)
		printf("keeper: pid %lld, %lld restarts, %lld accounts\n",
			number_of(keeper, "pid"), number_of(keeper, "restarts"),
			number_of(keeper, "accounts"));
	if (lines != NULL)
		printf("lines: %lld known, room for %lld, %lld displaced, "
			"%lld lost\n\n", number_of(lines, "known"),
			number_of(lines, "room"), number_of(lines, "displaced"),
			number_of(lines, "lost"));
}

/* ---- the commands ---- */

int
cmd_status(int argc, char **argv, const char *config, bool json)
{
	json_t *status;

	if (no_words(argc, argv) != 0)
		return 2;
	status = ask_daemon(config, "status\n", 2);
	if (status == NULL)
		return NOT_RUNNING;
	if (json)
		print_json(status);
	else {
		show_head(status);
		show_gate(status);
		show_relays(status);
		show_first_packets(status);
		show_servers(status);
	}
	json_decref(status);
	return 0;
}

int
cmd_healthy(int argc, char **argv, const char *config, bool json)
{
	json_t *status;
	bool healthy;

	if (no_words(argc, argv) != 0)
		return 2;
	status = ask_daemon(config, "healthy\n", 2);
	if (status == NULL)
		return 1;
	healthy = json_is_true(json_object_get(status, "healthy"));
	if (json)
		print_json(status);
	else
		puts(healthy ? "healthy" : text_of(status, "complaint"));
	json_decref(status);
	return healthy ? 0 : 1;
}

int
cmd_reload(int argc, char **argv, const char *config, bool json)
{
	struct conf *conf;
	json_t *answer;
	bool ok;

	if (no_words(argc, argv) != 0)
		return 2;
	conf = conf_load(config, stderr);
	if (conf == NULL)
		return 2;
	conf_free(&conf);
	answer = ask_daemon(config, "reload\n", 35);
	if (answer == NULL)
		return NOT_RUNNING;
	ok = json_is_true(json_object_get(answer, "ok"));
	if (json)
		print_json(answer);
	else if (ok)
		puts("reloaded");
	else
		fprintf(stderr, "sallyportd: %s\n", text_of(answer, "error"));
	json_decref(answer);
	return ok ? 0 : 2;
}
