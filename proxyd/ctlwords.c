/*
 * ctlwords.c - what an operator's words ask of the ledger
 *
 * Does: turn the words of an `allow ...' request into a job of the scribe, with
 * the name of who asks, or say which word is wrong and what was expected. Does
 * not: do anything about it.
 *
 * Called by ctlallow.c. Operators control every word and the file of an import;
 * who asks comes from the socket, not from them.
 */
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "conf/lpm.h"
#include "proxyd/control.h"

#define DAY 86400
#define IMPORT_BYTES (256 << 20)

void
ctlwords_who(uid_t uid, char out[LEDGER_WHO_MAX])
{
	const struct passwd *pw = getpwuid(uid);

	if (pw != NULL)
		snprintf(out, LEDGER_WHO_MAX, "%s", pw->pw_name);
	else
		snprintf(out, LEDGER_WHO_MAX, "uid %u", (unsigned)uid);
}

char *
ctlwords_next(char **rest)
{
	char *w = *rest + strspn(*rest, " "), *end = w + strcspn(w, " ");

	*rest = *end == '\0' ? end : end + 1;
	*end = '\0';
	return w;
}

static bool
is_printable(const char *text)
{
	for (; *text != '\0'; text++)
		if ((unsigned char)*text < ' ' || *text == 0x7f)
			return false;
	return true;
}

/* Is it one line, whose next customer is somebody else? */
static bool
is_line(const struct conf *conf, const struct prefix *p)
{
	struct addr a = { .family = p->family };
	int32_t class;

	/* a customer's entry follows him */
	if (p->family == 0)
		return false;
	if (p->family == AF_INET)
		return p->len == 32;
	memcpy(a.ip, p->ip, sizeof(a.ip));
	class = lpm_find(conf->class_lpm, &a, NULL);
	return p->len >= (class < 0 ? CONF_LINE_LEN6 :
		conf->classes[class].line_len6);
}

/* "default", "pin" or a time. NULL, or what is wrong. */
static const char *
set_until(const struct conf *conf, struct scribe_job *j, const char *text)
{
	struct allow_item *i = &j->entry.item;
	char *end;

	if (strcmp(text, "pin") == 0) {
		j->entry.pinned = true;
		return NULL;
	}
	if (strcmp(text, "default") == 0) {
		j->keep_until = true;
		i->until = is_line(conf, &i->prefix) ? j->now + DAY : 0;
		return NULL;
	}
	errno = 0;
	i->until = strtoll(text, &end, 10);
	if (errno != 0 || *end != '\0' || i->until <= j->now)
		return "until: a time in the future is expected";
	return NULL;
}

static const char *
set_action(const struct conf *conf, struct allow_item *i, const char *text)
{
	size_t n = 0;

	while (n < ACTION_COUNT && strcmp(action_name[n], text) != 0)
		n++;
	i->action = (uint8_t)n;
	if (n == ACTION_COUNT || !allow_rest_valid(i))
		return "port25: pass, watch, relay or submit is expected";
	if (n == ACTION_SUBMIT && !conf_has_submission(conf))
		return "port25=submit without a server to submit to";
	return NULL;
}

/* Whose entry it is. NULL, or what is wrong. */
static const char *
set_subject(struct scribe_job *j, const char *text)
{
	const char *why;

	if (ledger_named(&j->entry, text, &why) != 0)
		return why;
	if (j->entry.customer != NULL) {
		snprintf(j->customer, sizeof(j->customer), "%s",
			j->entry.customer);
		j->entry.customer = j->customer;
	}
	return NULL;
}

/* The words of add or del into the job. NULL, or what is wrong. */
static const char *
set_entry(struct client *cl, struct scribe_job *j, char *rest)
{
	const struct conf *conf = cl->control->conf;
	struct allow_item *i = &j->entry.item;
	const char *why = set_subject(j, ctlwords_next(&rest));

	if (why != NULL)
		return why;
	if (i->prefix.family != 0 && i->prefix.len == 0)
		return "a prefix that covers every address";
	i->action = ACTION_PASS;
	if (j->op == SCRIBE_PUT) {
		if ((why = set_action(conf, i, ctlwords_next(&rest))) != NULL ||
		    (why = set_until(conf, j, ctlwords_next(&rest))) != NULL)
			return why;
	}
	if (!is_printable(rest))
		return "why: printable characters are expected";
	snprintf(j->why, sizeof(j->why), "%.*s", (int)sizeof(j->why) - 1, rest);
	return NULL;
}

const char *
ctlwords_file(struct client *cl, struct scribe_job *j)
{
	struct stat st;
	int fd = cl->passed;

	cl->passed = -1;
	j->fd = fd;
	if (cl->control->import != NULL)
		return "another import is under way";
	/* a pipe could hold the ledger for ever */
	if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) ||
	    (fcntl(fd, F_GETFL) & O_ACCMODE) == O_WRONLY)
		return "a readable file is expected";
	if (st.st_size > IMPORT_BYTES)
		return "the file is larger than 256 MB";
	cl->control->import = j;
	return NULL;
}

static const char *
set_audit(struct scribe_job *j, char *rest)
{
	const char *text = ctlwords_next(&rest);

	return text[0] == '\0' ? NULL : set_subject(j, text);
}

const char *
ctlwords_job(struct client *cl, struct scribe_job *j, char *rest)
{
	ctlwords_who(cl->uid, j->who);
	switch (j->op) {
	case SCRIBE_PUT:
	case SCRIBE_DEL:
		return set_entry(cl, j, rest);
	case SCRIBE_IMPORT:
		j->has_submission = conf_has_submission(cl->control->conf);
		return ctlwords_file(cl, j);
	case SCRIBE_AUDIT:
		return set_audit(j, rest);
	default:
		return NULL;
	}
}
