/*
 * accounts.c - lines whose mail program knows no password
 *
 * What belongs together in accounts: single lines of a class whose addresses
 * stay (subscribers.accounts), a listed server that takes submissions, one file
 * with a secret and a mechanism it is good for. Looks at a secret's file from
 * outside; what is in it only the keeper reads, and `sallyport check'. Finds
 * the account of a line. The same for POP3 logins that count for mail
 * (subscribers.pop_before_smtp).
 *
 * Called by conf.c when everything else is read, and by the relays for each
 * session of the submit action. The configuration and its files are the
 * operator's; they may be wrong in any way.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf/conf.h"
#include "conf/lpm.h"
#include "conf/option.h"
#include "conf/secret.h"

/* Their files are looked at each second. */
#define ACCOUNTS_MAX 10000

/* The place of an option that may be missing: then its group's. */
static config_setting_t *
place(config_setting_t *group, const char *name)
{
	config_setting_t *s = config_setting_get_member(group, name);

	return s != NULL ? s : group;
}

static const char *
name_of(const struct account_conf *a)
{
	return a->name != NULL ? a->name : "?";
}

/* ---- lines ---- */

/* A class for which an account may stand; NULL, or why not. */
static const char *
class_wrong(const struct class_conf *k)
{
	if (!k->accounts)
		return "gives its addresses to one subscriber after the other; "
			"expected a class with accounts = true";
	if (k->port_block != 0)
		return "has lines that share addresses (port_block); expected "
			"a line with an address of its own";
	if (k->port25 != ACTION_SUBMIT)
		return "does not carry mail to submission; expected port25 = "
			"\"submit\"";
	return NULL;
}

static void
prefix_check(struct load *l, size_t i, const struct prefix *p,
	config_setting_t *at)
{
	struct conf *c = l->conf;
	struct addr a = { .family = p->family };
	char text[ADDR_STRLEN];
	const struct class_conf *k;
	struct prefix matched;
	const char *why;
	int32_t class;
	int rc;

	if (p->family == 0)
		return;		/* refused when it was read */
	memcpy(a.ip, p->ip, sizeof(a.ip));
	prefix_format(p, text);
	class = lpm_find(c->class_lpm, &a, &matched);
	if (class < 0) {
		complain_at(l, at, "account \"%s\": %s is in no class of "
			"subscribers", name_of(&c->accounts[i]), text);
		return;
	}
	k = &c->classes[class];
	why = class_wrong(k);
	if (why == NULL && p->len < (p->family == AF_INET ? 32 :
		k->line_len6))
		why = "has longer lines; expected a single line, an address or "
			"an IPv6 prefix as long as line_len6";
	if (why != NULL)
		complain_at(l, at, "account \"%s\", %s: class \"%s\" %s",
			name_of(&c->accounts[i]), text,
			k->name != NULL ? k->name : "?", why);
	rc = lpm_add(c->account_lpm, p, (int32_t)i, NULL);
	if (rc != 0)
		complain_at(l, at, rc < 0 ? "out of memory" :
			"%s has an account already; expected one for each line",
			text);
}

static void
lines_check(struct load *l, size_t i, config_setting_t *s)
{
	const struct account_conf *a = &l->conf->accounts[i];
	config_setting_t *list = config_setting_get_member(s, "prefixes");

	if (a->nprefixes == 0)
		complain_at(l, place(s, "prefixes"), "account \"%s\" has no "
			"line; expected prefixes", name_of(a));
	for (size_t p = 0; p < a->nprefixes; p++)
		prefix_check(l, i, &a->prefixes[p],
			config_setting_get_elem(list, (unsigned)p));
}

/* ---- server and secret ---- */

static void
server_check(struct load *l, struct account_conf *a, config_setting_t *s)
{
	const struct conf *c = l->conf;

	if (a->server_name == NULL)
		return;		/* refused when it was read */
	for (size_t i = 0; i < c->nservers; i++) {
		const struct server_conf *v = &c->servers[i];

		if (v->name == NULL || strcmp(v->name, a->server_name) != 0)
			continue;
		a->server = i;
		if (v->submission.mode == TLS_NONE)
			complain_at(l, place(s, "server"), "accounts.server = "
				"\"%s\" takes no submissions; expected a "
				"server with submission", v->name);
		return;
	}
	complain_at(l, place(s, "server"), "accounts.server = \"%s\" is not in "
		"servers; expected the name of one", a->server_name);
}

const char *
account_file(const struct account_conf *a)
{
	return a->token_file != NULL ? a->token_file : a->password_file;
}

/* Where a file is, only root may see: others leave that to root. */
static void
file_check(struct load *l, const struct account_conf *a, config_setting_t *s)
{
	const char *option = a->token_file != NULL ? "token_file" :
		"password_file";
	const char *file = account_file(a), *why;
	struct stat st;

	if (stat(file, &st) == -1) {
		if (errno == EACCES && geteuid() != 0)
			return;
		complain_at(l, place(s, option), "accounts.%s: %s: %s; "
			"expected a file with one line, of root and mode 0600",
			option, file, strerror(errno));
		return;
	}
	if ((why = secret_file_wrong(&st)) != NULL)
		complain_at(l, place(s, option), "accounts.%s: %s %s (owner "
			"%u, mode %04o); expected chown root and chmod 600 of "
			"it", option, file, why, (unsigned)st.st_uid,
			(unsigned)st.st_mode & 07777);
}

static void
secret_check(struct load *l, const struct account_conf *a, config_setting_t *s)
{
	const bool has_token = a->token_file != NULL;

	if (has_token == (a->password_file != NULL)) {
		complain_at(l, s, "account \"%s\" has %s; expected one of "
			"password_file and token_file", name_of(a), has_token ?
			"a password and a token" : "no secret");
		return;
	}
	if (a->mechanism != MECHANISM_AUTO &&
	    has_token != (a->mechanism == MECHANISM_XOAUTH2))
		complain_at(l, place(s, "mechanism"), "account \"%s\": this "
			"mechanism needs a %s; expected %s, or no mechanism",
			name_of(a), has_token ? "password" : "token",
			has_token ? "\"xoauth2\"" : "token_file");
	file_check(l, a, s);
}

/* ---- all of them ---- */

bool
conf_pop_counts(const struct conf *conf, int class, int server)
{
	const struct class_conf *k = class < 0 ? NULL : &conf->classes[class];
	const struct server_conf *v = server < 0 ? NULL :
		&conf->servers[server];

	return k != NULL && v != NULL && k->pop_before_smtp &&
		k->port_block == 0 && k->port25 == ACTION_SUBMIT &&
		conf->pop3_wrap != WRAP_OFF && v->own && v->xclient &&
		v->submission.mode != TLS_NONE && v->pop3.mode != TLS_NONE &&
		v->pop3.mode != TLS_PLAIN;
}

/* Why POP3 can vouch for nobody in this class, or NULL. */
static const char *
pop_wrong(const struct conf *c, size_t class)
{
	const struct class_conf *k = &c->classes[class];

	if (k->port_block != 0)
		return "has lines that share addresses (port_block); expected "
			"a line with an address of its own";
	if (k->port25 != ACTION_SUBMIT)
		return "does not carry mail to submission; expected port25 = "
			"\"submit\"";
	for (size_t i = 0; i < c->nservers; i++)
		if (conf_pop_counts(c, (int)class, (int)i))
			return NULL;
	return "has no server that it could hold for; expected pop3.wrap = "
		"\"listed\" and a server with own, xclient, submission and "
		"pop3 over TLS";
}

static void
pop_check(struct load *l, config_setting_t *list)
{
	for (size_t i = 0; i < l->conf->nclasses; i++) {
		const struct class_conf *k = &l->conf->classes[i];
		const char *why = k->pop_before_smtp ? pop_wrong(l->conf, i) :
			NULL;

		if (why != NULL)
			complain_at(l, config_setting_get_elem(list,
				(unsigned)i), "subscribers.pop_before_smtp: "
				"class \"%s\" %s", k->name != NULL ? k->name :
				"?", why);
	}
}

static void
classes_check(struct load *l, config_setting_t *list)
{
	for (size_t i = 0; i < l->conf->nclasses; i++) {
		const struct class_conf *k = &l->conf->classes[i];
		const char *why = k->accounts ? class_wrong(k) : NULL;

		if (why != NULL)
			complain_at(l, config_setting_get_elem(list,
				(unsigned)i), "subscribers.accounts: class "
				"\"%s\" %s", k->name != NULL ? k->name : "?",
				why);
	}
}

void
accounts_check(struct load *l, config_setting_t *root)
{
	config_setting_t *list = config_setting_get_member(root, "accounts");
	struct conf *c = l->conf;

	classes_check(l, config_setting_get_member(root, "subscribers"));
	pop_check(l, config_setting_get_member(root, "subscribers"));
	if (c->naccounts > ACCOUNTS_MAX)
		complain_at(l, list, "%zu accounts; expected at most %d",
			c->naccounts, ACCOUNTS_MAX);
	for (size_t i = 0; i < c->naccounts; i++) {
		struct account_conf *a = &c->accounts[i];
		config_setting_t *s = config_setting_get_elem(list, (unsigned)i);

		if (!config_setting_is_group(s))
			continue;
		for (size_t j = 0; j < i && a->name != NULL; j++)
			if (c->accounts[j].name != NULL &&
				strcmp(c->accounts[j].name, a->name) == 0)
				complain_at(l, place(s, "name"), "a second "
					"account \"%s\"; expected names that "
					"differ", a->name);
		lines_check(l, i, s);
		server_check(l, a, s);
		secret_check(l, a, s);
	}
}

int
conf_account(const struct conf *conf, const struct addr *line, int class,
	int server)
{
	int32_t i;

	if (class < 0 || server < 0 || conf->naccounts == 0 ||
	    class_wrong(&conf->classes[class]) != NULL)
		return -1;
	i = lpm_find(conf->account_lpm, line, NULL);
	return i >= 0 && conf->accounts[i].server == (size_t)server ? i : -1;
}

/* Opened, looked at, read and forgotten. */
static const char *
content_wrong(const struct account_conf *a)
{
	int fd = open(account_file(a), O_RDONLY | O_CLOEXEC | O_NONBLOCK |
		O_NOCTTY);
	char text[SECRET_MAX + 1];
	const char *why = NULL;

	if (fd == -1)
		return errno == EACCES && geteuid() != 0 ? NULL :
			strerror(errno);
	(void)secret_read(fd, text, account_secret_max(a), &why);
	explicit_bzero(text, sizeof(text));
	close(fd);
	return why;
}

size_t
account_secret_max(const struct account_conf *a)
{
	return a->token_file != NULL ? SECRET_MAX : SECRET_PASSWORD_MAX;
}

int
conf_check_secrets(const struct conf *conf, FILE *err)
{
	int rc = 0;

	for (size_t i = 0; i < conf->naccounts; i++) {
		const char *why = content_wrong(&conf->accounts[i]);

		if (why == NULL)
			continue;
		fprintf(err, "%s: account \"%s\": %s; expected one line\n",
			account_file(&conf->accounts[i]),
			conf->accounts[i].name, why);
		rc = -1;
	}
	return rc;
}
