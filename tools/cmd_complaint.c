/*
 * cmd_complaint.c - sallyport complaint < mail
 *
 * Does: read one complaint, find which of our addresses it is about, with which
 * port and when, ask the daemon about each as `sallyport why' does, and say which
 * line of the log is that session; then draft a reply. Does not: send anything.
 *
 * Called by the command line's main, by people and by a ticket system. Exit status:
 * 0 an address of ours was found, 1 nothing of ours is in it, 2 no mail, usage or
 * configuration, 3 the daemon does not answer.
 *
 * The mail is hostile (complaint_mail.c). What the desk reads may name customer
 * and reasons; the draft is for a stranger, so it is made of our own words and of
 * what he wrote himself: no customer, no line, no reason, no envelope.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "conf/conf.h"
#include "conf/lpm.h"
#include "tools/answer.h"
#include "tools/cmd.h"
#include "tools/complaint.h"
#include "tools/why.h"

static const char *const form_name[] = { [COMPLAINT_PROSE] = "prose",
	[COMPLAINT_ARF] = "ARF", [COMPLAINT_XARF] = "X-ARF" };

/* ---- whose address, whose port ---- */

/* An address that connections of many lines come from. */
static bool
is_gateway(const struct conf *c, const struct addr *a)
{
	for (size_t i = 0; i < c->naddresses; i++)
		if (conf_has_source(c, SOURCE_GATEWAY) &&
		    addr_same_host(&c->addresses[i], a))
			return true;
	return false;
}

static const struct class_conf *
class_of(const struct conf *c, const struct addr *a)
{
	int32_t n = lpm_find(c->class_lpm, a, NULL);

	return n < 0 ? NULL : &c->classes[n];
}

static bool
is_ours(const void *arg, const struct addr *a)
{
	return class_of(arg, a) != NULL || is_gateway(arg, a);
}

/* May the port be one that we chose for a connection to the server? */
static bool
is_upstream(const struct conf *c, const struct addr *a)
{
	return a->port != 0 && (is_gateway(c, a) ||
		(conf_has_source(c, SOURCE_CLIENT) && a->port >= c->port_lo &&
		a->port <= c->port_hi));
}

/* What stands in the line of the log that is this session; "" without a port. */
static void
log_words(const struct conf *c, const struct addr *a, char out[80])
{
	char text[ADDR_STRLEN];

	out[0] = '\0';
	if (a->port != 0)
		snprintf(out, 80, "%s=%s", is_upstream(c, a) ? "out" : "src",
			addr_format_port(a, text));
}

/* ---- one finding ---- */

struct case_of {
	struct finding f;
	const struct conf *conf;
	json_t *why;		/* NULL: the gateway's own address */
	bool future;		/* asked as of now */
	/* the port is perhaps ours, so that it names no block of ports */
	bool port_unsure;
};

static const char *
when_text(int64_t t, char out[32])
{
	time_t clock = (time_t)t;
	struct tm tm;

	if (gmtime_r(&clock, &tm) == NULL ||
	    strftime(out, 32, "%Y-%m-%d %H:%M:%S UTC", &tm) == 0)
		snprintf(out, 32, "?");
	return out;
}

static int
ask(struct case_of *k, const char *config, int64_t now, int *status_r)
{
	const struct class_conf *class = class_of(k->conf, &k->f.who);
	struct addr who = k->f.who;
	char text[ADDR_STRLEN];
	int64_t at = k->f.when.at;

	k->future = at > now;
	if (class == NULL)
		return 0;
	k->port_unsure = class->port_block != 0 && who.family == AF_INET &&
		is_upstream(k->conf, &who);
	if (k->port_unsure)
		who.port = 0;
	k->why = why_ask("complaint", config, who.port == 0 ? addr_format(&who,
		text) : addr_format_port(&who, text), NULL, k->future ? 0 : at,
		status_r);
	return k->why == NULL ? -1 : 0;
}

static void
print_title(const struct case_of *k)
{
	const struct finding *f = &k->f;
	char text[ADDR_STRLEN], when[32];

	printf("%s", addr_format(&f->who, text));
	if (f->who.port != 0)
		printf(", port %u", f->who.port);
	else
		printf(", no port");
	printf(", %s\n", f->when.at == 0 ? "no time" : when_text(f->when.at,
		when));
}

static void
print_doubts(const struct case_of *k)
{
	const struct finding *f = &k->f;

	if (f->many_ports)
		puts("  The complaint names more than one port that may be "
			"meant; each is shown.");
	if (f->many_times)
		puts("  The complaint names more than one time that may be "
			"meant; each is shown.");
	if (f->when.no_year)
		puts("  The time has no year; the last one is taken.");
	if (f->when.no_zone)
		puts("  The time has no zone that is known; it is taken as "
			"UTC.");
	if (k->future)
		puts("  The time is in the future; this is what holds now.");
	else if (f->when.at == 0)
		puts("  Without a time this is what holds now; who had the "
			"line then is not known.");
}

static void
print_log(const struct case_of *k)
{
	char words[80], at[32];

	log_words(k->conf, &k->f.who, words);
	if (words[0] == '\0')
		printf("Log: without a port no line of it is certain\n");
	else
		printf("Log: look for %s%s%s\n", words, k->f.when.at == 0 ?
			"" : " around ", k->f.when.at == 0 ? "" :
			when_text(k->f.when.at, at));
	if (is_upstream(k->conf, &k->f.who))
		printf("  The port is of those that the proxy uses; the line's "
			"own stands there behind src=%s\n",
			is_gateway(k->conf, &k->f.who) ? "" :
			".\n  Without such a line the connection did not go "
			"through the proxy: look for src=");
	if (k->port_unsure)
		puts("  Which of the lines behind the address it was, only "
			"that line says.");
}

static void
print_case(const struct case_of *k)
{
	char text[ADDR_STRLEN];

	putchar('\n');
	print_title(k);
	print_doubts(k);
	if (k->why == NULL)
		puts("This is an address of the gateway, which many lines use; "
			"the log says whose it was.");
	else
		why_print(k->why, addr_format(&k->f.who, text));
	print_log(k);
}

/* ---- the draft ---- */

/* "zombie", "clean" ...; NULL: which line it was is not known. */
static const char *
level_then(const struct case_of *k)
{
	static const char *const word[] = { "clean", "suspect", "probable",
		"zombie" };
	const json_t *row;
	int64_t is;

	if (k->why == NULL || answer_text(k->why, "line")[0] == '\0')
		return NULL;
	if (!json_is_true(json_object_get(k->why, "past"))) {
		const char *level = answer_text(json_object_get(k->why,
			"record"), "level");

		return level[0] == '\0' ? "clean" : level;
	}
	row = json_array_get(json_object_get(k->why, "levels"), 0);
	is = answer_number(row, "is");
	return is >= 0 && is < 4 ? word[is] : "clean";
}

static void
draft_found(const struct case_of *k, FILE *out)
{
	const char *level = level_then(k);
	const char *action = k->why == NULL ? "" : answer_text(k->why,
		"action");

	if (level == NULL) {
		fprintf(out, "    Many customers share this address. Which of "
			"them it was we find by source port and\n    time in "
			"our own records.\n");
		return;
	}
	fprintf(out, "    %s\n", strcmp(level, "clean") == 0 ?
		"We had noticed nothing unusual about this line ourselves." :
		"We had noticed mail of the kind that infected computers send "
		"there ourselves.");
	if (strcmp(action, "block") == 0 || strcmp(action, "reset") == 0 ||
	    strcmp(action, "drop") == 0)
		fprintf(out, "    Its connections to port 25 are refused "
			"now.\n");
	else if (strcmp(action, "submit") == 0)
		fprintf(out, "    Its mail now leaves only with user name and "
			"password, through a submission server.\n");
}

/* What would make it certain. */
static void
draft_questions(const struct complaint *c, FILE *out)
{
	bool port = false, time = false, zone = false;

	for (size_t i = 0; i < c->n; i++) {
		const struct finding *f = &c->finding[i];

		port |= f->who.port == 0 || f->many_ports;
		time |= f->when.at == 0 || f->many_times;
		zone |= f->when.no_zone || f->when.no_year;
	}
	if (!port && !time && !zone)
		return;
	fprintf(out, "To be certain we need from you:\n");
	if (port)
		fprintf(out, "  - the source port of each connection "
			"(RFC 6302)\n");
	if (time)
		fprintf(out, "  - the time of each connection\n");
	if (zone)
		fprintf(out, "  - times with year and time zone; we took them "
			"as UTC of the last year that fits\n");
	fputc('\n', out);
}

static void
draft(const struct complaint *c, const struct case_of *k, FILE *out)
{
	char text[ADDR_STRLEN], when[32];

	if (c->from[0] != '\0')
		fprintf(out, "To: %s\n", c->from);
	fprintf(out, "Subject: Re: %s\n\nThank you for your report. It is "
		"about our network:\n\n", c->subject[0] != '\0' ? c->subject :
		"your report");
	for (size_t i = 0; i < c->n; i++) {
		const struct finding *f = &c->finding[i];

		fprintf(out, "  %s", addr_format(&f->who, text));
		if (f->who.port != 0)
			fprintf(out, ", port %u", f->who.port);
		fprintf(out, "%s%s\n", f->when.at != 0 ? ", " : "",
			f->when.at != 0 ? when_text(f->when.at, when) : "");
		draft_found(&k[i], out);
	}
	fputc('\n', out);
	draft_questions(c, out);
	fprintf(out, "[What was done about it.]\n");
}

/* ---- as JSON ---- */

static json_t *
case_object(const struct case_of *k)
{
	const struct finding *f = &k->f;
	char text[ADDR_STRLEN], words[80];
	json_t *doubts = json_array();

	log_words(k->conf, &f->who, words);
	if (f->many_ports)
		json_array_append_new(doubts, json_string("port"));
	if (f->many_times)
		json_array_append_new(doubts, json_string("time"));
	if (f->when.no_year)
		json_array_append_new(doubts, json_string("year"));
	if (f->when.no_zone)
		json_array_append_new(doubts, json_string("zone"));
	if (k->future)
		json_array_append_new(doubts, json_string("future"));
	return json_pack("{s:s,s:i,s:I,s:o,s:b,s:s,s:O?}", "address",
		addr_format(&f->who, text), "port", (int)f->who.port, "at",
		(json_int_t)f->when.at, "doubts", doubts, "gateway",
		is_gateway(k->conf, &f->who), "log", words, "why", k->why);
}

static int
print_json(const struct complaint *c, const struct case_of *k)
{
	json_t *findings = json_array(), *o;
	char *reply = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&reply, &len);

	if (out == NULL) {
		json_decref(findings);
		return -1;
	}
	for (size_t i = 0; i < c->n; i++)
		json_array_append_new(findings, case_object(&k[i]));
	if (c->n > 0)
		draft(c, k, out);
	if (fclose(out) != 0) {
		json_decref(findings);
		return -1;
	}
	o = json_pack("{s:s,s:s,s:s,s:o,s:I,s:b,s:s}", "form",
		form_name[c->form], "from", c->from, "subject", c->subject,
		"findings", findings, "lost", (json_int_t)c->lost, "unread",
		c->unread, "reply", reply);
	free(reply);
	answer_print(o);
	json_decref(o);
	return 0;
}

/* ---- the command ---- */

static void
print_words(const struct complaint *c, const struct case_of *k)
{
	printf("Complaint (%s) from %s: %s\n", form_name[c->form],
		c->from[0] != '\0' ? c->from : "nobody named",
		c->subject[0] != '\0' ? c->subject : "(no subject)");
	if (c->unread)
		puts("Parts of it are nested too deeply, or too many, and were "
			"not read.");
	for (size_t i = 0; i < c->n; i++)
		print_case(&k[i]);
	if (c->lost > 0)
		printf("\n%zu more findings have no room here.\n", c->lost);
	puts("\n---- draft of the reply, for the complainant ----\n");
	draft(c, k, stdout);
}

static int
print_none(const struct complaint *c, bool json)
{
	char text[ADDR_STRLEN];

	if (json)
		return print_json(c, NULL) != 0 ? 2 : 1;
	if (c->other.family != 0)
		printf("Nothing of ours is in it; it names %s, for one.\n",
			addr_format(&c->other, text));
	else
		printf("No address is in it.\n");
	if (c->unread)
		puts("Parts of it are nested too deeply, or too many, and were "
			"not read.");
	return 1;
}

/* Nobody says more about them now. */
static void
print_unanswered(const struct conf *conf, const struct complaint *c)
{
	for (size_t i = 0; i < c->n; i++) {
		const struct case_of k = { .f = c->finding[i], .conf = conf };

		printf("Found: ");
		print_title(&k);
		print_log(&k);
	}
}

static int
answer_all(const struct conf *conf, const struct complaint *c,
	const char *config, int64_t now, bool json)
{
	struct case_of *k = calloc(c->n, sizeof(*k));
	int status = 0;
	size_t n = 0;

	if (k == NULL) {
		fprintf(stderr, "sallyport complaint: out of memory\n");
		return 2;
	}
	for (; n < c->n && status == 0; n++) {
		k[n].f = c->finding[n];
		k[n].conf = conf;
		/* 1 would say that nothing is ours */
		if (ask(&k[n], config, now, &status) != 0)
			status = NOT_RUNNING;
	}
	if (status != 0 && !json)
		print_unanswered(conf, c);
	else if (status == 0 && json)
		status = print_json(c, k) != 0 ? 2 : 0;
	else if (status == 0)
		print_words(c, k);
	for (size_t i = 0; i < n; i++)
		json_decref(k[i].why);
	free(k);
	return status;
}

/* One octet more than there may be, so that too much is seen. */
static char *
read_all(size_t *len_r)
{
	char *mail = malloc(COMPLAINT_MAX + 1);
	ssize_t n = 1;

	for (*len_r = 0; mail != NULL && n > 0 && *len_r <= COMPLAINT_MAX;
		*len_r += n > 0 ? (size_t)n : 0)
		n = read(STDIN_FILENO, mail + *len_r, COMPLAINT_MAX + 1 -
			*len_r);
	if (n >= 0)
		return mail;
	free(mail);
	return NULL;
}

int
cmd_complaint(int argc, char **argv, const char *config, bool json)
{
	struct ours ours = { is_ours, NULL, time(NULL) };
	struct complaint c;
	struct conf *conf;
	const char *why;
	size_t len;
	char *mail;
	int status = 2;

	if (argc > 1) {
		fprintf(stderr, "sallyport complaint: '%s' is not understood; "
			"the mail is expected on standard input\n", argv[1]);
		return 2;
	}
	if ((conf = conf_load(config, stderr)) == NULL)
		return 2;
	ours.arg = conf;
	mail = read_all(&len);
	if (mail == NULL)
		fprintf(stderr, "sallyport complaint: standard input cannot be "
			"read\n");
	else if (complaint_read(mail, len, &ours, &c, &why) != 0)
		fprintf(stderr, "sallyport complaint: %s\n", why);
	else
		status = c.n == 0 ? print_none(&c, json) : answer_all(conf, &c,
			config, ours.now, json);
	free(mail);
	conf_free(&conf);
	return status;
}
