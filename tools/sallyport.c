/*
 * sallyport.c - the command line: find the command, hand it its words
 *
 * Does: parses the global options wherever they stand before the command's own
 * arguments, finds the command in the grammar below (commands are given as
 * strings, after OpenSMTPD's smtpctl), prints help, and for an unknown word
 * suggests the nearest command.
 * Does not: do any of the work; tools/cmd_*.c do.
 *
 * Called by operators and their scripts: exit status 0 is success, 1 "it
 * failed" or "there is a difference", 2 a mistake in the words or in the
 * configuration. Started as root in most uses; nothing in argv is passed to a
 * shell or used as a format.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/cmd.h"

#define CONFIG "/etc/sallyport/sallyport.conf"
#define WORDS_MAX 3

struct command {
	const char *words;	/* "rules show" */
	const char *arguments;	/* for the usage line */
	int (*run)(int argc, char **argv, const char *config, bool json);
	const char *help;
	const char *more;	/* second half of --help */
};

static const struct command commands[] = {
	{ "check", "[--defaults]", cmd_check,
		"read the configuration and say what it means",
		"Reads the configuration and all it names, prints it as it is "
		"understood\nand, in words, what will happen to each class. "
		"With --defaults prints\nevery option with its default. Exit "
		"status 2 when it has a mistake.\n" },
	{ "rules show", "", cmd_rules_show,
		"print the kernel rules that apply would make",
		"Prints policy routes, sets and rules, each with its purpose. "
		"Changes\nnothing and needs no privilege.\n" },
	{ "rules apply", "", cmd_rules_apply,
		"bring the kernel's rules to what the configuration says",
		"Checks first, and refuses with the reason and without having "
		"changed\nanything. May be repeated at any time. Foreign rules "
		"are left alone.\nNothing is captured before the daemon opens "
		"the gate.\n" },
	{ "rules verify", "", cmd_rules_verify,
		"compare the kernel's rules with the configuration",
		"Names each difference. Exit status 0: none, 1: some. Notes "
		"about foreign\nrules that proxied traffic does not meet are "
		"no difference.\n" },
	{ "rules remove", "", cmd_rules_remove,
		"take everything of ours out of the kernel",
		"Finds it by name, needs no configuration, and also cleans up "
		"after an\napply that was interrupted. Says nothing when there "
		"is nothing.\n" },
	{ "allow add", "PREFIX|line:CUSTOMER [port25=ACTION] [--until TIME | --for SPAN | "
		"--pin] [--why TEXT]", cmd_allow_add,
		"exempt a line or a prefix at once, and write it down",
		"In force and on the disk when it returns. A single line is "
		"exempt for 24\nhours unless --until, --for (90m, 24h, 7d) or "
		"--pin says otherwise.\nAn entry of a customer counts for "
		"the lines that `lease bind' gave him, and\nfollows him.\n"
		"Adding what is there is no error. Exit "
		"status 3: the daemon does not\nanswer.\n" },
	{ "allow del", "PREFIX|line:CUSTOMER [--why TEXT]", cmd_allow_del,
		"take an entry of `allow add' or `allow import' back",
		"Deleting what is not there is no error; what stands in the "
		"allow file has\nto be deleted there.\n" },
	{ "allow list", "", cmd_allow_list,
		"all entries, each with where it comes from",
		"The allow file and the ledger. On the same prefix the ledger "
		"wins. Behind\nthem the lines that entries of customers stand "
		"for at the moment.\n" },
	{ "allow import", "FILE", cmd_allow_import,
		"add all lines of a file in the allow file's syntax",
		"All or nothing: a mistake is shown with its line and nothing "
		"changes. FILE\n- is standard input.\n" },
	{ "allow export", "", cmd_allow_export,
		"the ledger's entries in the allow file's syntax",
		"What import reads.\n" },
	{ "allow audit", "[PREFIX|line:CUSTOMER]", cmd_allow_audit,
		"who added, changed or deleted what, when and why",
		"Also what has expired.\n" },
	{ "lease bind", "LINE CUSTOMER | --file FILE", cmd_lease_bind,
		"note which customer has a line",
		"What is known of the customer comes along from the line he had "
		"before; the\nline's next owner starts clean. FILE: LINE "
		"CUSTOMER, one a line, all or\nnothing; - is standard input. "
		"Binding what is bound is no error.\n" },
	{ "lease release", "LINE [CUSTOMER] | --file FILE", cmd_lease_release,
		"note that a customer no longer has a line",
		"What is known of him is kept 30 days, for his next line. With "
		"CUSTOMER only\nif the line is his. Releasing what is not bound "
		"is no error.\n" },
	{ "zombies", "", cmd_zombies,
		"lines that look like, or are, zombie PCs",
		"The highest levels first; `since' is known to the hour, the "
		"log has it exactly.\n" },
	{ "zombie show", "LINE", cmd_zombie_show,
		"what is known of a line, with the evidence",
		"LINE, or any address of it; behind CGN with a port, "
		"ADDRESS:PORT.\n" },
	{ "zombie clear", "LINE [--why TEXT]", cmd_zombie_clear,
		"a line is clean: its level ends, its scores begin at 0",
		"What was counted stays. Clearing a clean line is no error.\n" },
	{ "zombie pin", "LINE [--why TEXT]", cmd_zombie_pin,
		"a line keeps its level until it is cleared",
		"It does not decay, nor expire, and outlives the daemon.\n" },
	{ "zombie add", "LINE [--why TEXT]", cmd_zombie_add,
		"a line is a zombie, because you say so; pinned",
		"zombie.action applies to it at once.\n" },
	{ "events", "[--follow] [EVENT...]", cmd_events,
		"what the daemon logs, as it happens",
		"The last 512 lines, as log.format has them; with --follow "
		"each new one,\nalso over reloads. EVENT is block, submit, "
		"zombie, allow ...: only those.\n" },
	{ "report", "[--since TIME] [--csv | --html | --xarf [--output FOLDER]]",
		cmd_report,
		"lines that had a level, with evidence, from the ledger",
		"Of the last seven days, or since a time like "
		"2026-11-25T18:14:00Z; one row a\nline. --html is one file "
		"that needs no other. --xarf: each line that became a\nzombie "
		"as X-ARF 4, one JSON object a line, or into FOLDER one mail "
		"each, ready to\nsend. Needs no daemon, but the rights of the "
		"ledger's owner, or root.\n" },
	{ "why", "ADDR[:PORT] [DESTINATION] [--at TIME]", cmd_why,
		"why a line gets what it gets, step by step",
		"Whose line it is, which entry of the allowlist counts, which "
		"level it has on\nwhat evidence, what its next connection gets. "
		"DESTINATION is a server's\naddress. With --at "
		"2026-11-25T18:14:00Z: who had it then, and what is\nwritten "
		"about it until then (ledger.days).\n" },
	{ "complaint", "< MAIL", cmd_complaint,
		"whom a complaint is about, why, and the draft of a reply",
		"Reads one mail: an ARF or X-ARF report, or prose. Asks as "
		"`why' does about each\naddress of yours with its port and "
		"time, names the line of the log to look\nfor, drafts a reply; "
		"sends nothing. Exit status 1: nothing of yours is in it.\n" },
	{ "bypass list", "", cmd_bypass_list,
		"show what is bypassed, and for how long",
		"Asks the kernel; needs root.\n" },
	{ "bypass end", "all|ADDR|PREFIX|NAME", cmd_bypass_end,
		"end a bypass before its time",
		"Exit status 1 when there is no such bypass.\n" },
	{ "bypass", "all|ADDR|PREFIX|NAME --for TIME [--line|--destination]",
		cmd_bypass, "leave lines or destinations alone for a while",
		"TIME is a number with s, m, h or d. An address inside of the "
		"subscribers'\nprefixes is a line, any other, or the name of "
		"a server, a destination;\n--line and --destination say so. "
		"Changes the kernel's sets at once, with or\nwithout a "
		"daemon; needs root. Sessions that the daemon holds go on.\n" },
	{ "plan", "[CLASS] [--probe[=N]]", cmd_plan,
		"what enforcing each class would change, from what was seen",
		"Asks the daemon for what it has counted: lines that tried, how "
		"they look,\nand where they went. --probe asks the secure ports "
		"of the N destinations\ndialled most (20; see probe). Exit "
		"status 3: the daemon does not answer.\n" },
	{ "probe", "ADDR|NAME ...", cmd_probe,
		"do a server's secure mail ports answer, with whose certificate",
		"Asks 587 (STARTTLS), 465, 993 and 995 of each address once: a "
		"greeting, TLS,\na goodbye; no login, no mail. Exit status 0: "
		"each can be used for\nsubmission under a name that is "
		"configured or said here.\n" },
	{ "simulate", "[--set NAME=VALUE]... [--seeds N] [--lines N] [--days N] "
		"[-j N] | --replay FILE", cmd_simulate,
		"what zombie detection does to invented lines, or to a log",
		"Runs the daemon's detector on invented lines and prints how "
		"many bots it\nnames and how fast, how many innocent lines it "
		"hits, and the same for three\ncommon rules. NAME is an option "
		"of the zombie group: --set zombie=12. Exit\nstatus 1: a line "
		"of what must hold is missed.\n--replay runs it on the daemon's "
		"own log (- is standard input) and prints\nwhich lines would "
		"have had which level, and when; status 1: lines of it are\n"
		"damaged.\n" },
	{ "status", "", cmd_status, "what the running daemon is doing",
		"Asks the daemon on its control socket. Exit status 3 when it "
		"does not\nanswer.\n" },
	{ "reload", "", cmd_reload,
		"let the running daemon read its configuration again",
		"A configuration with a mistake is refused and the old one "
		"stays.\n" },
	{ "healthy", "", cmd_healthy,
		"exit status 0 while the daemon serves traffic",
		"For keepalived, BGP speakers and monitoring.\n" },
};
#define NCOMMANDS (sizeof(commands) / sizeof(commands[0]))

static void
usage(FILE *f)
{
	fprintf(f, "usage: sallyport [-c FILE] [--json] COMMAND\n\n");
	for (size_t i = 0; i < NCOMMANDS; i++)
		fprintf(f, "  %-14s %s\n", commands[i].words, commands[i].help);
	fprintf(f, "\n  -c FILE        configuration (" CONFIG ")\n"
		"  --json         answer as JSON\n"
		"  --help         this, or behind a command its own help\n"
		"  --version      version\n");
}

static int
command_help(const struct command *c)
{
	printf("usage: sallyport [-c FILE] [--json] %s%s%s\n\n%s: %s.\n%s",
		c->words, c->arguments[0] != '\0' ? " " : "", c->arguments,
		c->words, c->help, c->more);
	return 0;
}

/* How many words of the command stand at argv; 0: another command. */
static int
match(const char *words, int argc, char **argv)
{
	int n = 0;

	while (*words != '\0') {
		size_t len = strcspn(words, " ");

		if (n == argc || strlen(argv[n]) != len ||
		    memcmp(argv[n], words, len) != 0)
			return 0;
		n++;
		words += len + (words[len] == ' ');
	}
	return n;
}

/* Letters to change, add or leave out to make b of a (Levenshtein). */
static size_t
distance(const char *a, const char *b)
{
	size_t row[64], lb = strlen(b);

	if (lb >= 64)
		return SIZE_MAX;
	for (size_t j = 0; j <= lb; j++)
		row[j] = j;
	for (size_t i = 1; a[i - 1] != '\0'; i++) {
		size_t left_above = row[0];

		row[0] = i;
		for (size_t j = 1; j <= lb; j++) {
			size_t above = row[j], best = left_above +
				(a[i - 1] != b[j - 1]);

			if (above + 1 < best)
				best = above + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			left_above = above;
			row[j] = best;
		}
	}
	return row[lb];
}

static int
unknown(int argc, char **argv)
{
	char said[128] = "";
	const struct command *near = NULL;
	size_t best = SIZE_MAX, used = 0;

	for (int i = 0; i < argc && i < WORDS_MAX && used < sizeof(said) &&
	    argv[i][0] != '-'; i++)
		used += (size_t)snprintf(said + used, sizeof(said) - used,
			"%s%s", i > 0 ? " " : "", argv[i]);
	for (size_t i = 0; i < NCOMMANDS; i++) {
		size_t d = distance(said, commands[i].words);

		if (d < best) {
			best = d;
			near = &commands[i];
		}
	}
	fprintf(stderr, "sallyport: unknown command '%s'", said);
	if (near != NULL && best <= strlen(near->words) / 2)
		fprintf(stderr, "; did you mean '%s'?", near->words);
	fprintf(stderr, "\nsallyport --help lists the commands\n");
	return 2;
}

struct options {
	const char *config;
	bool json, help;
};

/* Take the global options out of argv, keep the rest in order. -1: mistake. */
static int
options_take(int *argc, char **argv, struct options *o)
{
	int kept = 0;

	for (int i = 0; i < *argc; i++) {
		if (strcmp(argv[i], "-c") == 0) {
			if (++i == *argc) {
				fprintf(stderr, "sallyport: -c wants a file\n");
				return -1;
			}
			o->config = argv[i];
		} else if (strcmp(argv[i], "--json") == 0) {
			o->json = true;
		} else if (strcmp(argv[i], "--help") == 0 ||
		    strcmp(argv[i], "-h") == 0) {
			o->help = true;
		} else {
			argv[kept++] = argv[i];
		}
	}
	argv[kept] = NULL;
	*argc = kept;
	return 0;
}

/* "rules" alone: the commands that begin with it. False: there are none. */
static bool
group_help(const char *word, FILE *f)
{
	size_t len = strlen(word), found = 0;

	for (size_t i = 0; i < NCOMMANDS; i++) {
		if (strncmp(commands[i].words, word, len) == 0 &&
		    commands[i].words[len] == ' ') {
			fprintf(f, "sallyport %-14s %s\n", commands[i].words,
				commands[i].help);
			found++;
		}
	}
	return found > 0;
}

int
main(int argc, char **argv)
{
	struct options o = { .config = CONFIG };

	argc--;
	argv++;
	if (options_take(&argc, argv, &o) < 0)
		return 2;
	if (argc == 1 && strcmp(argv[0], "--version") == 0) {
		puts("sallyport " SALLYPORT_VERSION);
		return 0;
	}
	if (argc == 0) {
		usage(o.help ? stdout : stderr);
		return o.help ? 0 : 2;
	}
	for (size_t i = 0; i < NCOMMANDS; i++) {
		int n = match(commands[i].words, argc, argv);

		if (n > 0)
			return o.help ? command_help(&commands[i]) :
				commands[i].run(argc - n + 1, argv + n - 1,
					o.config, o.json);
	}
	if (argc == 1 && group_help(argv[0], o.help ? stdout : stderr))
		return o.help ? 0 : 2;
	return unknown(argc, argv);
}
