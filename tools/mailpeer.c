/*
 * mailpeer.c - peers of a mail session that do as a file says
 *
 * Clients and servers that no mail program is: a scenario names what each of
 * them says, expects, and how it ends. Between them stands what is tested. Plays
 * files one after the other; silent when everything is as written, else the
 * conversation and what differed. mailpeer(8) has the language.
 *
 * Run by people and by tests/lab/test_scenarios.py. Connects where the file
 * says, with the rights of whoever runs it; never part of the daemon.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "tools/mailpeer.h"

#define LIMIT_SECONDS 10

struct options {
	struct mp_settings set, ns;
	const char *trust;
	size_t octets;
	unsigned limit;
	bool verbose, check;
};

static int
usage(FILE *f)
{
	fputs("usage: mailpeer [-cv] [-b OCTETS] [-D NAME=VALUE] [-n PEER=NETNS]"
		" [-T PEM] [-t SECONDS] FILE...\n\n"
		"  -b OCTETS      send so many octets at a time\n"
		"  -c             only check the files\n"
		"  -D NAME=VALUE  $NAME in the files\n"
		"  -n PEER=NETNS  this peer's sockets live in that namespace\n"
		"  -T PEM         whom clients trust in TLS\n"
		"  -t SECONDS     that a step may take (10)\n"
		"  -v             show the conversation always\n\n"
		"A line of a file is: PEER VERB TEXT, where VERB is\n", f);
#define VERB(sym, word, text, help)					\
	fprintf(f, "  %-8s %s\n", word, help);
	MP_VERBS(VERB)
#undef VERB
	fputs("or: define NAME VALUE, include FILE, # comment.\n\n"
		"Exit status: 0 as written, 1 it differs, 2 usage or a file "
		"that is wrong.\n", f);
	return f == stdout ? 0 : 2;
}

/* 1..max, or 0. */
static unsigned long
number(const char *text, unsigned long max)
{
	char *end;
	unsigned long n;

	errno = 0;
	n = strtoul(text, &end, 10);
	return errno == 0 && *end == '\0' && text[0] != '-' && n <= max ? n : 0;
}

/* 0: go on; else what main returns, plus one. */
static int
option(struct options *o, int letter)
{
	switch (letter) {
	case 'b':
		o->octets = number(optarg, 65536);
		return o->octets > 0 ? 0 : 1 + usage(stderr);
	case 'c':
		o->check = true;
		return 0;
	case 'D':
		return mp_setting_add(&o->set, optarg) == 0 ? 0 :
			1 + usage(stderr);
	case 'n':
		return mp_setting_add(&o->ns, optarg) == 0 ? 0 :
			1 + usage(stderr);
	case 'T':
		o->trust = optarg;
		return 0;
	case 't':
		o->limit = (unsigned)number(optarg, 86400);
		return o->limit > 0 ? 0 : 1 + usage(stderr);
	case 'v':
		o->verbose = true;
		return 0;
	case 'h':
		return 1 + usage(stdout);
	default:
		return 1 + usage(stderr);
	}
}

static int
play(const struct options *o, const char *path)
{
	struct mp_script script;
	struct mp_play p = { .script = &script, .ns = &o->ns,
		.trust = o->trust, .octets = o->octets,
		.limit = o->limit * 1000 };
	char *text = NULL;
	size_t n = 0;
	int rc = 2;

	if (mp_script_read(&script, path, &o->set) == 0) {
		p.talk = o->check ? NULL : open_memstream(&text, &n);
		rc = o->check ? 0 : 2;
	}
	if (p.talk != NULL) {
		rc = mp_play(&p);
		fclose(p.talk);
		if (rc != 0 || o->verbose)
			printf("# %s: %s\n%s", path, rc == 0 ? "as written" :
				"differs", text);
	}
	free(text);
	mp_script_free(&script);
	return rc;
}

int
main(int argc, char **argv)
{
	static const struct option words[] = { { "help", no_argument, NULL, 'h' },
		{ 0 } };
	struct options o = { .limit = LIMIT_SECONDS };
	int letter, rc, worst = 0;

	while ((letter = getopt_long(argc, argv, "b:cD:hn:T:t:v", words,
		NULL)) != -1)
		if ((rc = option(&o, letter)) != 0)
			return rc - 1;
	if (optind == argc)
		return usage(stderr);
	signal(SIGPIPE, SIG_IGN);	/* OpenSSL writes without MSG_NOSIGNAL */
	for (; optind < argc; optind++) {
		rc = play(&o, argv[optind]);
		worst = rc > worst ? rc : worst;
	}
	return worst;
}
