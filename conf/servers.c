/*
 * servers.c - the servers of the configuration: what belongs together
 *
 * Does: check what no single option of a server can say: two with one name or
 * one address, a service without TLS at addresses that nobody wrote down, a host
 * for submission that is the server itself; read the files of prefixes. Does
 * not: ask DNS; proxyd/names.c does.
 *
 * Called by conf.c at load. The files are the operator's and may be wrong in any
 * way.
 */
#include <stdlib.h>
#include <string.h>

#include "conf/allow.h"
#include "conf/conf.h"
#include "conf/lpm.h"
#include "conf/option.h"

int
conf_server_at(const struct conf *c, const struct addr *a)
{
	/* tests and the CLI make configurations without */
	return c->server_lpm == NULL ? -1 : lpm_find(c->server_lpm, a, NULL);
}

bool
conf_has_submission(const struct conf *c)
{
	if (c->unknown_origin == UNKNOWN_ORIGIN)
		return true;
	for (size_t i = 0; i < c->nservers; i++)
		if (c->servers[i].submission.mode != TLS_NONE)
			return true;
	return false;
}

static void
server_addresses(struct load *l, size_t i, config_setting_t *list)
{
	const struct conf *c = l->conf;
	const struct server_conf *v = &c->servers[i];
	char text[ADDR_STRLEN];

	for (size_t a = 0; a < v->naddresses; a++)
		for (size_t j = 0; j < i; j++)
			for (size_t b = 0; b < c->servers[j].naddresses; b++) {
				const struct addr *x = &v->addresses[a];

				if (x->family == 0 || !addr_same_host(x,
						&c->servers[j].addresses[b]))
					continue;
				complain_at(l, config_setting_get_elem(list,
						(unsigned)a),
					"%s is already an address of another "
					"server; expected one name for each",
					addr_format(x, text));
			}
}

/* Without TLS nothing is verified, so that a forged DNS answer would get the
 * passwords: only addresses that the operator wrote down. */
static void
server_plain(struct load *l, const struct server_conf *v, config_setting_t *s,
	const struct endpoint *e, const char *service)
{
	if (e->mode == TLS_PLAIN && v->naddresses == 0)
		complain_at(l, setting_in(s, service), "servers.%s = \"plain:%u\" "
			"without addresses would trust what DNS says; expected "
			"addresses = ( ... ) in this group, or tls", service,
			e->port);
}

/* A name on more addresses than DNS tells at once. */
static void
server_prefixes(struct load *l, struct server_conf *v, int i,
	config_setting_t *s)
{
	config_setting_t *file = setting_in(s, "prefixes_file");
	char text[ADDR_STRLEN];
	unsigned *lines;

	if (v->prefixes_file == NULL)
		return;
	prefix_file_load(l, file, v->prefixes_file, &v->prefixes,
		&v->nprefixes, &lines);
	for (size_t p = 0; p < v->nprefixes; p++) {
		int32_t old = i;
		int rc = lpm_add(l->conf->server_lpm, &v->prefixes[p], i, &old);

		prefix_format(&v->prefixes[p], text);
		if (rc < 0)
			complain(l, v->prefixes_file, lines[p],
				"out of memory");
		else if (rc > 0 && old != i)
			complain(l, v->prefixes_file, lines[p], "%s is already "
				"a prefix of server \"%s\"; expected one name "
				"for each", text, l->conf->servers[old].name);
	}
	free(lines);
}

static void
server_host(struct load *l, const struct server_conf *v, config_setting_t *s)
{
	if (v->submission_host == NULL)
		return;
	if (setting_in(s, "submission") == NULL)
		complain_at(l, setting_in(s, "submission_host"),
			"servers.submission_host without submission; expected "
			"submission = \"tls:465\" or \"starttls:587\" too");
	if (v->name != NULL && strcmp(v->submission_host, v->name) == 0)
		complain_at(l, setting_in(s, "submission_host"),
			"servers.submission_host is the server itself; expected "
			"another host, or no submission_host");
}

void
servers_check(struct load *l, config_setting_t *list)
{
	struct conf *c = l->conf;

	for (size_t i = 0; i < c->nservers; i++) {
		struct server_conf *v = &c->servers[i];
		config_setting_t *s = config_setting_get_elem(list, (unsigned)i);

		if (!config_setting_is_group(s))
			continue;
		for (size_t j = 0; j < i && v->name != NULL; j++)
			if (c->servers[j].name != NULL &&
				strcmp(c->servers[j].name, v->name) == 0)
				complain_at(l, setting_in(s, "name"), "a second "
					"server \"%s\"; expected names that "
					"differ", v->name);
		if (v->submission.mode == TLS_STARTTLS &&
			setting_in(s, "starttls") == NULL)
			v->starttls = v->submission.port;
		if (v->starttls == 25)
			complain_at(l, setting_in(s, "starttls"), "servers.starttls "
				"= 25 would be a tunnel for spam; expected the "
				"submission port, 587");
		if (setting_in(s, "submission") == NULL && setting_in(s, "pop3") == NULL
			&& setting_in(s, "imap") == NULL && v->starttls == 0 &&
			!v->own)
			complain_at(l, s, "server \"%s\" has no service; "
				"expected submission, starttls, pop3, imap or "
				"own", v->name != NULL ? v->name : "?");
		server_host(l, v, s);
		server_plain(l, v, s, &v->pop3, "pop3");
		server_plain(l, v, s, &v->imap, "imap");
		if (c->nat && v->source == FROM_CLIENT)
			complain_at(l, setting_in(s, "source"), "servers.source = "
				"\"client\" behind address translation: servers "
				"never see the lines' own addresses; expected "
				"\"gateway\", or no source");
		server_addresses(l, i, setting_in(s, "addresses"));
		server_prefixes(l, v, (int)i, s);
	}
}
