/*
 * cmd_probe.c - sallyport probe: what the servers people dial would answer
 *
 * Does: reads addresses and names, has them asked (probe.c), and says in words
 * or as JSON which of 587, 465, 993 and 995 answer with a valid certificate,
 * for which name, and who says that this is the name.
 * Does not: need the daemon or its rules, or change anything.
 *
 * Called by the command line's main, and its words by sallyport plan. Exit
 * status: 0 subscribers can be sent to every server asked, 1 not to all, 2
 * usage or configuration. What a server said is printable ASCII by now.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "conf/conf.h"
#include "tools/cmd.h"
#include "tools/probe.h"

static const char *const outcome_word[] = {
	[PROBE_VALID] = "valid", [PROBE_UNNAMED] = "unnamed",
	[PROBE_OTHER_NAME] = "other-name", [PROBE_UNTRUSTED] = "untrusted",
	[PROBE_NO_TLS] = "no-tls", [PROBE_REFUSED] = "refused",
	[PROBE_SILENT] = "silent", [PROBE_UNREACHABLE] = "unreachable",
	[PROBE_FORBIDDEN] = "forbidden",
};

static const char *const by_word[] = {
	[BY_NOBODY] = "nobody", [BY_LISTED] = "servers",
	[BY_OPERATOR] = "operator", [BY_PTR] = "reverse-dns",
};

static const char *const by_words[] = {
	[BY_NOBODY] = "no name is known",
	[BY_LISTED] = "listed in `servers'",
	[BY_OPERATOR] = "as you said",
	[BY_PTR] = "its reverse DNS says so",
};

bool
probe_is_covered(const struct probe_target *t,
	const struct probe_result result[PROBE_PORTS])
{
	if (t->by != BY_LISTED && t->by != BY_OPERATOR)
		return false;
	for (unsigned i = 0; i < PROBE_PORTS; i++)
		if ((probe_port[i] == 587 || probe_port[i] == 465) &&
		    result[i].outcome == PROBE_VALID)
			return true;
	return false;
}

static const char *
day_of(int64_t when, char out[16])
{
	time_t t = (time_t)when;
	struct tm tm;

	if (when == 0 || gmtime_r(&t, &tm) == NULL ||
	    strftime(out, 16, "%Y-%m-%d", &tm) == 0)
		snprintf(out, 16, "an unknown day");
	return out;
}

static void
print_port(FILE *f, const struct probe_target *t, uint16_t port,
	const struct probe_result *r)
{
	const char *names = r->names[0] != '\0' ? r->names : "no host";
	char day[16];

	day_of(r->until, day);
	fprintf(f, "    %u  ", (unsigned)port);
	switch (r->outcome) {
	case PROBE_VALID:
		fprintf(f, "answers, certificate valid for %s until %s\n",
			t->name, day);
		break;
	case PROBE_UNNAMED:
		fprintf(f, "answers, trusted certificate until %s; it names "
			"itself %s, and nobody else does\n", day, names);
		break;
	case PROBE_OTHER_NAME:
		fprintf(f, "answers, but the certificate is for %s\n", names);
		break;
	case PROBE_UNTRUSTED:
		fprintf(f, "answers, but its certificate is not trusted: %s\n",
			r->detail);
		break;
	case PROBE_NO_TLS:
		fprintf(f, "answers, but not with TLS: %s\n", r->detail);
		break;
	case PROBE_REFUSED:
		fprintf(f, "refused\n");
		break;
	case PROBE_SILENT:
		fprintf(f, "no answer in time%s%s\n",
			r->detail[0] != '\0' ? ": " : "", r->detail);
		break;
	case PROBE_UNREACHABLE:
		fprintf(f, "unreachable: %s\n", r->detail);
		break;
	case PROBE_FORBIDDEN:
		fprintf(f, "not asked: %s address\n", r->detail);
		break;
	}
}

void
probe_print(FILE *f, const struct probe_target *t,
	const struct probe_result result[PROBE_PORTS])
{
	char text[ADDR_STRLEN];

	fprintf(f, "%s  %s%s%s%s\n", addr_format(&t->addr, text), t->name,
		t->name[0] != '\0' ? " (" : "", by_words[t->by],
		t->name[0] != '\0' ? ")" : "");
	for (unsigned i = 0; i < PROBE_PORTS; i++)
		print_port(f, t, probe_port[i], &result[i]);
}

json_t *
probe_json(const struct probe_target *t,
	const struct probe_result result[PROBE_PORTS])
{
	json_t *ports = json_array();
	char text[ADDR_STRLEN];

	for (unsigned i = 0; i < PROBE_PORTS; i++)
		json_array_append_new(ports, json_pack(
			"{s:i, s:s, s:s, s:s, s:I}",
			"port", (int)probe_port[i],
			"outcome", outcome_word[result[i].outcome],
			"detail", result[i].detail,
			"names", result[i].names,
			"until", (json_int_t)result[i].until));
	return json_pack("{s:s, s:s, s:s, s:b, s:o}",
		"address", addr_format(&t->addr, text), "name", t->name,
		"name_by", by_word[t->by],
		"covered", probe_is_covered(t, result), "ports", ports);
}

static void
progress(size_t now, size_t of)
{
	fprintf(stderr, "\rprobe: %zu of %zu ports", now, of);
	if (now == of)
		fprintf(stderr, "\r\033[K");
}

int
probe_ask(const struct conf *conf, const struct probe_list *l,
	struct probe_result (*result)[PROBE_PORTS])
{
	return probe_run(conf, l->target, l->n, result,
		isatty(STDERR_FILENO) ? progress : NULL);
}

static int
answer(const struct conf *conf, const struct probe_list *l, bool json)
{
	struct probe_result (*result)[PROBE_PORTS] =
		calloc(l->n, sizeof(*result));
	json_t *all = json_array();
	int rc = 0;

	if (result == NULL || all == NULL || probe_ask(conf, l, result) < 0) {
		free(result);
		json_decref(all);
		return 1;
	}
	for (size_t i = 0; i < l->n; i++) {
		if (json)
			json_array_append_new(all,
				probe_json(&l->target[i], result[i]));
		else
			probe_print(stdout, &l->target[i], result[i]);
		if (!probe_is_covered(&l->target[i], result[i]))
			rc = 1;
	}
	if (json) {
		json_dumpf(all, stdout, JSON_INDENT(2));
		putchar('\n');
	}
	json_decref(all);
	free(result);
	return rc;
}

static int
take_words(int argc, char **argv, struct probe_list *l)
{
	struct addr a;

	for (int i = 1; i < argc; i++) {
		if (argv[i][0] == '-') {
			fprintf(stderr, "sallyport: probe: unexpected '%s'\n",
				argv[i]);
			return 2;
		}
		if (addr_parse(&a, argv[i]) < 0) {
			if (probe_list_name(l, argv[i]) < 0)
				return 2;
			continue;
		}
		if (a.port != 0) {
			fprintf(stderr, "sallyport: probe: '%s': an address "
				"without a port\n", argv[i]);
			return 2;
		}
		if (probe_list_addr(l, &a) < 0) {
			fprintf(stderr, "sallyport: probe: more than %d "
				"addresses\n", PROBE_MAX);
			return 2;
		}
	}
	return 0;
}

int
cmd_probe(int argc, char **argv, const char *config, bool json)
{
	struct probe_list list = { .n = 0 };
	struct conf *conf;
	int rc;

	if (argc < 2) {
		fprintf(stderr, "sallyport: probe: whom? an address or the "
			"name of a server\n");
		return 2;
	}
	conf = conf_load(config, stderr);
	if (conf == NULL)
		return 2;
	rc = probe_list_open(&list, conf) < 0 ? 1 :
		take_words(argc, argv, &list);
	if (rc == 0)
		rc = answer(conf, &list, json);
	probe_list_close(&list);
	conf_free(&conf);
	return rc;
}
