/*
 * report_xarf.c - sallyport report --xarf: listings for machines elsewhere
 *
 * Does: of each line that became a zombie make one X-ARF report, either as an
 * object of JSON a line, or as a mail that a mailer can take as it is. Does not:
 * send. The fields are those that the published schema of X-ARF 4 asks for
 * (github.com/xarf/xarf-spec, schemas/v4): of xarf-core.json xarf_version,
 * report_id, timestamp, reporter, sender (org, contact, domain each),
 * source_identifier, source_port, category, type, evidence_source, evidence
 * (content_type, description, payload, hash, size), description; of
 * types/connection-infected-host.json protocol, bot_type, first_seen, last_seen,
 * destination_ip, destination_port, total_requests. The mail is that of the format's
 * authors (github.com/abusix/xarf, "XARF via SMTP"): multipart/report as RFC 5965
 * has it, with Feedback-Type xarf and the object as third part.
 *
 * Called by cmd_report.c. Evidence comes out of the ledger: numbers and addresses
 * in words of ours, never an envelope. Options are checked texts; nothing in them
 * ends a header.
 */
#include "tools/report_xarf.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tools/answer.h"
#include "tools/ledger_read.h"
#include "zombie/detect.h"

#define XARF_VERSION "4.2.0"
#define SMTP_PORT 25
#define UUID_LEN 37
#define WIDTH 76	/* of base64 in mails, RFC 2045 section 6.8 */

struct collecting {
	const struct conf *conf;
	int64_t since;
	json_t *list;		/* { "xarf": ..., "to": ... } */
	bool failed;
};

/* ---- pieces ---- */

static const char *
utc(int64_t t, char out[32])
{
	time_t clock = (time_t)t;
	struct tm tm;

	if (gmtime_r(&clock, &tm) == NULL ||
	    strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
		snprintf(out, 32, "1970-01-01T00:00:00Z");
	return out;
}

/* The form of a random UUID, but of the listing: the same report has the same
 * name whenever it is made, and who gets it twice can tell. */
static int
uuid(const struct conf *c, const struct ledger_level *e, char out[UUID_LEN])
{
	unsigned char hash[EVP_MAX_MD_SIZE];
	char text[512];
	int n = snprintf(text, sizeof(text), "%s %s %lld", c->report_domain !=
		NULL ? c->report_domain : c->report_contact, e->line,
		(long long)e->at);

	if (n < 0 || (size_t)n >= sizeof(text) || EVP_Digest(text, (size_t)n,
		hash, NULL, EVP_sha256(), NULL) != 1)
		return -1;
	hash[6] = (unsigned char)((hash[6] & 0x0f) | 0x40);
	hash[8] = (unsigned char)((hash[8] & 0x3f) | 0x80);
	n = 0;
	for (int i = 0; i < 16; i++)
		n += snprintf(out + n, (size_t)(UUID_LEN - n), "%s%02x",
			i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "",
			hash[i]);
	return 0;
}

/* The caller's; NULL: no memory. */
static char *
base64(const char *text, size_t len)
{
	char *out = malloc((len + 2) / 3 * 4 + 1);

	if (out != NULL)
		EVP_EncodeBlock((unsigned char *)out,
			(const unsigned char *)text, (int)len);
	return out;
}

static json_t *
evidence_items(const char *text)
{
	unsigned char hash[EVP_MAX_MD_SIZE];
	char digest[80] = "sha256:", *payload;
	size_t len = strlen(text);
	json_t *item;

	if (EVP_Digest(text, len, hash, NULL, EVP_sha256(), NULL) != 1 ||
	    (payload = base64(text, len)) == NULL)
		return NULL;
	for (size_t i = 0; i < 32; i++)
		snprintf(digest + 7 + 2 * i, 3, "%02x", hash[i]);
	item = json_pack("[{s:s,s:s,s:s,s:s,s:I}]", "content_type",
		"application/json", "description", "What the gateway counted "
		"of this line, and its latest session", "payload", payload,
		"hash", digest, "size", (json_int_t)len);
	free(payload);
	return item;
}

static json_t *
who(const struct conf *c)
{
	return json_pack("{s:s,s:s,s:s}", "org", c->report_org, "contact",
		c->report_contact, "domain", c->report_domain != NULL ?
		c->report_domain : strrchr(c->report_contact, '@') + 1);
}

/* ---- one listing ---- */

/* The session that is shown as an example says address and port; without one
 * the line's name has to do. */
static void
put_source(json_t *o, const char *line, const json_t *example)
{
	struct addr src, dst;
	char text[ADDR_STRLEN];

	if (addr_parse(&src, answer_text(example, "src")) != 0) {
		/* "198.18.64.1:1024-2047": the ports are a block, not one */
		snprintf(text, sizeof(text), "%s", line);
		if (strchr(text, '.') != NULL)
			text[strcspn(text, ":")] = '\0';
		json_object_set_new(o, "source_identifier", json_string(text));
		return;
	}
	json_object_set_new(o, "source_identifier", json_string(addr_format(
		&src, text)));
	if (src.port != 0)
		json_object_set_new(o, "source_port", json_integer(src.port));
	if (addr_parse(&dst, answer_text(example, "dst")) == 0)
		json_object_set_new(o, "destination_ip", json_string(
			addr_format(&dst, text)));
}

static void
put_words(json_t *o, const struct ledger_level *e, const json_t *shown)
{
	const char *out = answer_text(json_object_get(shown, "example"), "out");
	char text[600];

	snprintf(text, sizeof(text), "The gateway of this line found it to "
		"send mail as infected hosts do (port %d): %lld sessions, "
		"%lld destinations in the hour, %lld attempts an hour. Listed "
		"by %s%s%s.", SMTP_PORT,
		(long long)answer_number(shown, "sessions"),
		(long long)answer_number(shown, "destinations"),
		(long long)answer_number(shown, "rate"),
		strcmp(e->who, "evidence") == 0 ? "evidence" : "an operator",
		out[0] != '\0' ? "; servers saw the session shown from " : "",
		out);
	json_object_set_new(o, "description", json_string(text));
}

static json_t *
report_of(const struct conf *c, const struct ledger_level *e)
{
	json_t *shown = json_loads(e->evidence, 0, NULL), *o;
	const json_t *example = json_object_get(shown, "example");
	int64_t first = answer_number(shown, "first");
	int64_t last = answer_number(shown, "last");
	int64_t at = answer_number(example, "at");
	char id[UUID_LEN], when[32];

	if (uuid(c, e, id) != 0)
		return NULL;
	/* the time of the port that is shown, else of the listing */
	o = json_pack("{s:s,s:s,s:s,s:o,s:o}", "xarf_version", XARF_VERSION,
		"report_id", id, "timestamp", utc(at != 0 ? at : e->at, when),
		"reporter", who(c), "sender", who(c));
	put_source(o, e->line, example);
	json_object_update_new(o, json_pack("{s:s,s:s,s:s,s:s,s:i,s:s}",
		"category", "connection", "type", "infected_host", "protocol",
		"tcp", "bot_type", "malicious", "destination_port", SMTP_PORT,
		"evidence_source", "traffic_analysis"));
	json_object_set_new(o, "first_seen", json_string(utc(first != 0 ?
		first : e->at, when)));
	json_object_set_new(o, "last_seen", json_string(utc(last != 0 ? last :
		e->at, when)));
	if (answer_number(shown, "sessions") > 0)
		json_object_set_new(o, "total_requests", json_integer(
			answer_number(shown, "sessions")));
	put_words(o, e, shown);
	if (shown != NULL)
		json_object_set_new(o, "evidence", evidence_items(
			e->evidence));
	json_decref(shown);
	return o;
}

/* Of the class that the line had then, if there is still one of that name. */
static const char *
contact_of(const struct conf *c, const struct ledger_level *e)
{
	json_t *shown = json_loads(e->evidence, 0, NULL);
	const char *to = c->report_contact;

	for (size_t i = 0; i < c->nclasses; i++)
		if (strcmp(c->classes[i].name, answer_text(shown, "class")) ==
		    0 && c->classes[i].abuse_contact != NULL)
			to = c->classes[i].abuse_contact;
	json_decref(shown);
	return to;
}

static void
note_listing(void *arg, const struct ledger_level *e, const char *customer)
{
	struct collecting *all = arg;
	json_t *o;

	(void)customer;		/* nobody else's business */
	if (e->is != LEVEL_ZOMBIE || e->was == LEVEL_ZOMBIE)
		return;
	o = report_of(all->conf, e);
	if (o == NULL || json_array_append_new(all->list, json_pack("{s:o,s:s}",
		"xarf", o, "to", contact_of(all->conf, e))) != 0)
		all->failed = true;
}

static int
collect(struct ledger *l, void *arg)
{
	const struct collecting *all = arg;

	return ledger_each_change(l, all->since, note_listing, arg);
}

/* ---- as a mail ---- */

/* "Example \"ISP\"" */
static void
quoted(FILE *f, const char *text)
{
	fputc('"', f);
	for (; *text != '\0'; text++) {
		if (*text == '"' || *text == '\\')
			fputc('\\', f);
		fputc(*text, f);
	}
	fputc('"', f);
}

static void
mail_header(FILE *f, const struct conf *c, const json_t *o, const char *to)
{
	const json_t *reporter = json_object_get(o, "reporter");
	const char *id = answer_text(o, "report_id");
	time_t now = time(NULL);
	char date[64];
	struct tm tm;

	fprintf(f, "From: ");
	quoted(f, c->report_org);
	fprintf(f, " <%s>\r\nTo: <%s>\r\nSubject: Infected host %s at %s\r\n",
		c->report_contact, to, answer_text(o, "source_identifier"),
		answer_text(o, "timestamp"));
	if (gmtime_r(&now, &tm) != NULL && strftime(date, sizeof(date),
		"%a, %d %b %Y %H:%M:%S +0000", &tm) > 0)
		fprintf(f, "Date: %s\r\n", date);
	fprintf(f, "Message-ID: <%s@%s>\r\nAuto-Submitted: auto-generated\r\n"
		"X-XARF: PLAIN\r\nMIME-Version: 1.0\r\n"
		"Content-Type: multipart/report; "
		"report-type=feedback-report;\r\n boundary=\"%s\"\r\n\r\n", id,
		answer_text(reporter, "domain"), id);
}

static void
mail_words(FILE *f, const json_t *o)
{
	int64_t port = answer_number(o, "source_port");

	fprintf(f, "--%s\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n"
		"This is a report about an infected host.\r\n\r\n"
		"Address: %s\r\n", answer_text(o, "report_id"),
		answer_text(o, "source_identifier"));
	if (port != 0)
		fprintf(f, "Source port: %lld\r\n", (long long)port);
	fprintf(f, "Time: %s\r\n\r\n%s\r\n", answer_text(o, "timestamp"),
		answer_text(o, "description"));
}

/* RFC 5965 section 3.1, Source-Port of RFC 6692; the times are RFC 5322's. */
static void
mail_fields(FILE *f, const json_t *o)
{
	int64_t port = answer_number(o, "source_port");
	char date[64] = "";
	struct tm tm = { 0 };
	struct addr a;

	fprintf(f, "--%s\r\nContent-Type: message/feedback-report\r\n\r\n"
		"Feedback-Type: xarf\r\nUser-Agent: Sallyport/"
		SALLYPORT_VERSION "\r\nVersion: 1\r\n",
		answer_text(o, "report_id"));
	if (addr_parse(&a, answer_text(o, "source_identifier")) == 0)
		fprintf(f, "Source-IP: %s\r\n", answer_text(o,
			"source_identifier"));
	if (port != 0)
		fprintf(f, "Source-Port: %lld\r\n", (long long)port);
	if (strptime(answer_text(o, "timestamp"), "%Y-%m-%dT%H:%M:%SZ", &tm) !=
	    NULL && strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S +0000",
		&tm) > 0)
		fprintf(f, "Arrival-Date: %s\r\n", date);
	fprintf(f, "\r\n");
}

static int
mail_object(FILE *f, const json_t *o)
{
	char *text = json_dumps(o, JSON_INDENT(2) | JSON_ENSURE_ASCII);
	char *coded = text == NULL ? NULL : base64(text, strlen(text));

	free(text);
	if (coded == NULL)
		return -1;
	fprintf(f, "--%s\r\nContent-Type: application/json; name=xarf.json\r\n"
		"Content-Transfer-Encoding: base64\r\n"
		"Content-Disposition: attachment; filename=xarf.json\r\n\r\n",
		answer_text(o, "report_id"));
	for (size_t at = 0, len = strlen(coded); at < len; at += WIDTH)
		fprintf(f, "%.*s\r\n", WIDTH, coded + at);
	fprintf(f, "--%s--\r\n", answer_text(o, "report_id"));
	free(coded);
	return 0;
}

/* Whole or not at all: who takes mails out of the folder sees no half one. 1
 * written, 0 was there, -1 with errno. */
static int
write_mail(int dir, const struct conf *c, const json_t *o, const char *to)
{
	char name[64], part[64];
	int fd, rc = -1;
	FILE *f;

	snprintf(name, sizeof(name), "%s.eml", answer_text(o, "report_id"));
	snprintf(part, sizeof(part), ".%s.part", answer_text(o, "report_id"));
	if (faccessat(dir, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return 0;
	(void)unlinkat(dir, part, 0);
	fd = openat(dir, part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
	if (fd < 0 || (f = fdopen(fd, "w")) == NULL) {
		if (fd >= 0)
			close(fd);
		return -1;
	}
	mail_header(f, c, o, to);
	mail_words(f, o);
	mail_fields(f, o);
	rc = mail_object(f, o);
	if (fflush(f) != 0 || ferror(f) || fsync(fd) != 0)
		rc = -1;
	if (fclose(f) != 0)
		rc = -1;
	if (rc == 0)
		rc = linkat(dir, part, dir, name, 0) == 0 ? 1 :
			errno == EEXIST ? 0 : -1;
	(void)unlinkat(dir, part, 0);
	return rc;
}

static int
write_mails(const struct conf *c, const json_t *list, const char *path)
{
	int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	size_t i, written = 0;
	const json_t *one;
	int rc = dir < 0 ? -1 : 0;

	json_array_foreach(list, i, one) {
		if (rc >= 0)
			rc = write_mail(dir, c, json_object_get(one, "xarf"),
				answer_text(one, "to"));
		written += rc > 0;
	}
	if (rc < 0)
		fprintf(stderr, "sallyport report: %s: %s\n", path,
			strerror(errno));
	else
		printf("%zu reports written, %zu were there\n", written,
			json_array_size(list) - written);
	if (dir >= 0)
		close(dir);
	return rc < 0;
}

/* ---- the command ---- */

static int
print_objects(const json_t *list)
{
	const json_t *one;
	size_t i;

	json_array_foreach(list, i, one) {
		json_dumpf(json_object_get(one, "xarf"), stdout, JSON_COMPACT |
			JSON_ENSURE_ASCII);
		putchar('\n');
	}
	return fflush(stdout) != 0;
}

int
report_xarf(const struct conf *c, int64_t since, const char *dir)
{
	struct collecting all = { .conf = c, .since = since,
		.list = json_array() };
	char why[200] = "";
	int rc;

	if (c->report_org == NULL || c->report_contact == NULL) {
		fprintf(stderr, "sallyport report: X-ARF names who reports; "
			"report.org and report.contact are not set\n");
		json_decref(all.list);
		return 2;
	}
	rc = ledger_with(c, collect, &all, why);
	if (rc < 0 || all.failed)
		fprintf(stderr, "sallyport report: %s: %s\n", c->ledger_file,
			rc < 0 ? why : "out of memory");
	if (rc < 0 || all.failed)
		rc = 1;
	else
		rc = dir == NULL ? print_objects(all.list) : write_mails(c,
			all.list, dir);
	json_decref(all.list);
	return rc;
}
