/*
 * conf.c - load the configuration: parse, read by table, check what belongs
 * together
 *
 * libconfig parses, option.c reads every row of the table, this file does what
 * no single option can say: a prefix in two classes, a submit class without a
 * server to submit to, a trust file without certificates. Files that the
 * configuration names (prefixes, allowlist, trust) are read here, once; the
 * result is immutable and shared by all processes.
 *
 * Called by conf_load()'s users only: the parent at start and reload, and the
 * command line. The files belong to the operator; they may be wrong in any
 * way. All errors are reported, each with its place, and a configuration with
 * an error is never used.
 */
#include "conf/conf.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf/allow.h"
#include "conf/blocktext.h"
#include "conf/lpm.h"
#include "conf/option.h"

/* ---- classes ---- */

/* Where a class's prefix was written; found again when it comes twice. */
struct origin {
	const char *file;
	unsigned line;
	int class;
};

struct origins {
	struct lpm *seen;	/* prefix -> index into all */
	struct origin *all;
	size_t n, cap;
};

config_setting_t *
setting_in(config_setting_t *group, const char *name)
{
	return group != NULL ? config_setting_get_member(group, name) : NULL;
}

/* Private lines exist (CGN); these never are one. */
static bool
is_no_subscriber(const struct prefix *p)
{
	struct addr a = { .family = p->family };
	const char *word;

	memcpy(a.ip, p->ip, sizeof(a.ip));
	word = addr_special(&a);
	return word != NULL && strcmp(word, "private") != 0;
}

static int
origins_grow(struct origins *o)
{
	struct origin *bigger;

	if (o->n < o->cap)
		return 0;
	o->cap = o->cap != 0 ? o->cap * 2 : 64;
	bigger = reallocarray(o->all, o->cap, sizeof(*bigger));
	if (bigger == NULL)
		return -1;
	o->all = bigger;
	return 0;
}

static void
prefix_claim(struct load *l, struct origins *o, const struct prefix *p,
	struct origin at)
{
	char text[ADDR_STRLEN];
	const struct origin *first;
	int32_t old;
	int rc = -1;

	if (p->family == 0)
		return;		/* refused when it was read */
	prefix_format(p, text);
	if (is_no_subscriber(p))
		complain(l, at.file, at.line, "%s are not subscribers' "
			"addresses; expected prefixes of lines", text);
	if (origins_grow(o) == 0)
		rc = lpm_add(o->seen, p, (int32_t)o->n, &old);
	if (rc == 0 && lpm_add(l->conf->class_lpm, p, at.class, NULL) == 0) {
		o->all[o->n++] = at;
		return;
	}
	if (rc <= 0) {
		complain(l, at.file, at.line, "out of memory");
		return;
	}
	first = &o->all[old];
	complain(l, at.file, at.line, "%s is already in class \"%s\" (%s:%u); "
		"expected each prefix in one class, once", text,
		l->conf->classes[first->class].name != NULL ?
			l->conf->classes[first->class].name : "?",
		first->file, first->line);
}

static void
class_prefixes(struct load *l, struct origins *o, int i, config_setting_t *s)
{
	struct class_conf *k = &l->conf->classes[i];
	config_setting_t *list = setting_in(s, "prefixes");
	unsigned *lines;

	if (k->nlisted != 0) {
		k->prefixes = reallocarray(NULL, k->nlisted,
			sizeof(*k->prefixes));
		if (k->prefixes == NULL) {
			complain_at(l, s, "out of memory");
			return;
		}
		memcpy(k->prefixes, k->listed, k->nlisted * sizeof(*k->listed));
		k->nprefixes = k->nlisted;
	}
	for (size_t p = 0; p < k->nlisted; p++) {
		const config_setting_t *elem =
			config_setting_get_elem(list, (unsigned)p);

		prefix_claim(l, o, &k->listed[p], (struct origin){
			setting_file(l, elem),
			(unsigned)config_setting_source_line(elem), i });
	}
	if (k->prefixes_file != NULL) {
		prefix_file_load(l, setting_in(s, "prefixes_file"), k->prefixes_file,
			&k->prefixes, &k->nprefixes, &lines);
		for (size_t p = k->nlisted; p < k->nprefixes; p++)
			prefix_claim(l, o, &k->prefixes[p], (struct origin){
				k->prefixes_file, lines[p - k->nlisted], i });
		free(lines);
	}
	if (k->nprefixes == 0)
		complain_at(l, s, "class \"%s\" has no prefix; expected "
			"prefixes or prefixes_file", k->name != NULL ?
			k->name : "?");
}

/* Twice the same destination is no mistake: lists are put together. */
static void
class_destinations(struct load *l, struct class_conf *k, config_setting_t *s)
{
	config_setting_t *file = setting_in(s, "destinations_file");
	unsigned *lines;

	if (k->destinations_file == NULL)
		return;
	prefix_file_load(l, file, k->destinations_file, &k->destinations,
		&k->ndestinations, &lines);
	free(lines);
	k->destination_lpm = lpm_new();
	for (size_t i = 0; i < k->ndestinations && k->destination_lpm != NULL;
		i++)
		if (lpm_add(k->destination_lpm, &k->destinations[i], 0,
				NULL) < 0)
			lpm_free(&k->destination_lpm);
	if (k->destination_lpm == NULL)
		complain_at(l, file, "out of memory");
	if (k->enforce == ENFORCE_LISTED && k->ndestinations == 0)
		complain_at(l, file, "%s names no destination; expected at "
			"least one prefix", k->destinations_file);
}

/* What a class's own block group leaves unset comes from smtp.block. */
static int
class_block(const struct block_conf *from, struct block_conf *b,
	config_setting_t *own)
{
	if (setting_in(own, "stage") == NULL)
		b->stage = from->stage;
	if (setting_in(own, "code") == NULL) {
		b->code = from->code;
		memcpy(b->esc, from->esc, sizeof(b->esc));
	}
	if (setting_in(own, "delay") == NULL)
		b->delay = from->delay;
	if (setting_in(own, "soft") == NULL)
		b->soft_until = from->soft_until;
	if (setting_in(own, "url") == NULL && from->url != NULL &&
		(b->url = strdup(from->url)) == NULL)
		return -1;
	if (setting_in(own, "text") != NULL || from->ntext == 0)
		return 0;
	if ((b->text = calloc(from->ntext, sizeof(*b->text))) == NULL)
		return -1;
	for (b->ntext = 0; b->ntext < from->ntext; b->ntext++) {
		/* a place that was refused has no text */
		const char *text = from->text[b->ntext];

		if (text != NULL && (b->text[b->ntext] = strdup(text)) == NULL)
			return -1;
	}
	return 0;
}

/* The longest refusal that the text can become still is lines of 512 octets,
 * and no placeholder is left without a value. s: the group it was written in. */
static void
block_text_check(struct load *l, const struct block_conf *b,
	config_setting_t *s)
{
	/* 45: the longest IPv6 address as text */
	const struct blocktext longest = {
		.client = "0000:0000:0000:0000:0000:0000:255.255.255.255",
		.event = "0123456789ABC", .url = b->url };
	config_setting_t *text = setting_in(s, "text");

	for (size_t i = 0; i < b->ntext; i++) {
		size_t len;

		if (b->text[i] == NULL)
			continue;	/* refused when it was read */
		len = blocktext_fill(b->text[i], &longest, NULL, 0);
		if (len > BLOCK_TEXT_MAX)
			complain_at(l, text != NULL ? text : s, "line %zu of "
				"the text may become %zu characters; expected "
				"at most %d with its placeholders filled in",
				i + 1, len, BLOCK_TEXT_MAX);
		if (b->url == NULL && blocktext_has(b->text[i], "{url}"))
			complain_at(l, text != NULL ? text : s, "line %zu of "
				"the text has {url}, and there is no url; "
				"expected both or none", i + 1);
	}
}

static void
class_policy(struct load *l, struct class_conf *k, config_setting_t *s)
{
	config_setting_t *port25 = setting_in(s, "port25");
	config_setting_t *enforce = setting_in(s, "enforce");

	/* relay has no weaker form; say so in what `check` prints */
	if (k->port25 == ACTION_RELAY && enforce == NULL)
		k->enforce = ENFORCE_ALL;
	k->effective = k->port25;
	if (k->port25 > ACTION_RELAY && k->enforce == ENFORCE_WATCH)
		k->effective = ACTION_WATCH;
	if (k->port25 <= ACTION_WATCH && k->enforce == ENFORCE_LISTED)
		complain_at(l, enforce, "enforce = \"listed\" has no effect on "
			"port25 = \"%s\"; expected another action, or no "
			"enforce", action_name[k->port25]);
	else if (k->enforce == ENFORCE_LISTED && k->destinations_file == NULL)
		complain_at(l, enforce, "enforce = \"listed\" without "
			"destinations; expected destinations_file");
	if (k->port25 == ACTION_RELAY && enforce != NULL &&
		k->enforce == ENFORCE_WATCH)
		complain_at(l, enforce, "enforce = \"watch\" has no effect on "
			"port25 = \"relay\"; expected port25 = \"watch\", or "
			"no enforce");
	if (k->port25 == ACTION_SUBMIT && port25 != NULL &&
		!conf_has_submission(l->conf))
		complain_at(l, port25, "port25 = \"submit\" without a server "
			"to submit to; expected an element of servers with "
			"submission");
}

/*
 * What is carried reaches a relay, which counts it at accept, where nobody can
 * forge it, and resets it if need be; what is always refused is decided by a
 * set. Neither has to wake up nfq.
 */
static bool
counts_by_default(const struct class_conf *k)
{
	return k->port25 == ACTION_WATCH || k->port25 == ACTION_BLOCK;
}

static void
class_first_packets(struct load *l, struct class_conf *k, config_setting_t *s)
{
	config_setting_t *count = setting_in(s, "count");

	if (count == NULL)
		k->count = counts_by_default(k);
	else if (k->count && k->port25 == ACTION_PASS)
		complain_at(l, count, "count = true has no effect on port25 = "
			"\"pass\"; expected port25 = \"watch\", or no count");
	if (k->port_block > 0 && k->port_block < 64)
		complain_at(l, setting_in(s, "port_block"), "port_block = %u; "
			"expected 0 or a number from 64 to 32768",
			k->port_block);
}

static void
classes_check(struct load *l, config_setting_t *list)
{
	struct conf *c = l->conf;
	struct origins o = { .seen = lpm_new() };

	for (size_t i = 0; i < c->nclasses && o.seen != NULL; i++) {
		struct class_conf *k = &c->classes[i];
		config_setting_t *s = config_setting_get_elem(list, (unsigned)i);

		if (!config_setting_is_group(s))
			continue;
		for (size_t j = 0; j < i && k->name != NULL; j++)
			if (c->classes[j].name != NULL &&
				strcmp(c->classes[j].name, k->name) == 0)
				complain_at(l, setting_in(s, "class"), "a second "
					"class \"%s\"; expected names that "
					"differ", k->name);
		class_prefixes(l, &o, (int)i, s);
		class_policy(l, k, s);
		class_destinations(l, k, s);
		class_first_packets(l, k, s);
		if (class_block(&c->block, &k->block, setting_in(s, "block")) < 0)
			complain_at(l, s, "out of memory");
		else if (setting_in(s, "block") != NULL)
			block_text_check(l, &k->block, setting_in(s, "block"));
	}
	if (o.seen == NULL)
		complain(l, l->path, 1, "out of memory");
	lpm_free(&o.seen);
	free(o.all);
}

/* ---- gateway ---- */

static unsigned
cores(void)
{
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set) < 0)
		return 1;
	return (unsigned)CPU_COUNT(&set);
}

/* Capture, translation and source depend on each other: what is not written
 * follows from the others, what contradicts them is refused. */
static void
topology_check(struct load *l, config_setting_t *gateway)
{
	struct conf *c = l->conf;
	const bool redirect = c->capture == CAPTURE_REDIRECT;

	if (c->local && !redirect)
		complain_at(l, setting_in(gateway, "local"), "gateway.local without "
			"capture = \"redirect\"; expected both or none");
	if (redirect && !c->nat && setting_in(gateway, "nat") != NULL)
		complain_at(l, setting_in(gateway, "nat"), "gateway.nat = false "
			"with capture = \"redirect\", which translates "
			"addresses; expected true, or no nat");
	c->nat = c->nat || redirect;
	if (c->nat && setting_in(gateway, "source") == NULL)
		c->source = SOURCE_GATEWAY;
	if (c->nat && c->source == SOURCE_CLIENT)
		complain_at(l, setting_in(gateway, "source"), "gateway.source = "
			"\"client\" with %s: servers never see the lines' own "
			"addresses; expected \"gateway\", or no source",
			redirect ? "capture = \"redirect\"" : "nat = true");
	if (c->naddresses != 0 && !conf_has_source(c, SOURCE_GATEWAY))
		complain_at(l, setting_in(gateway, "addresses"), "gateway.addresses "
			"without source = \"gateway\"; expected both or none");
}

static void
gateway_check(struct load *l, config_setting_t *gateway)
{
	struct conf *c = l->conf;
	char name[256] = "";

	if (c->workers == 0)
		c->workers = cores();
	topology_check(l, gateway);
	if (c->listen_port == 25 || c->listen_port == 110 ||
		c->listen_port == 143)
		complain_at(l, setting_in(gateway, "listen_port"),
			"gateway.listen_port = %u is a captured port; expected "
			"a port of its own", c->listen_port);
	if (setting_in(gateway, "name") != NULL)
		return;
	gethostname(name, sizeof(name) - 1);
	if (!host_is_valid(name))
		complain(l, l->path, 1, "this machine's name '%s' is not a "
			"host name; expected gateway.name", name);
	else if ((c->name = strdup(name)) == NULL)
		complain(l, l->path, 1, "out of memory");
}

/* ---- nfq ---- */

static void
nfq_check(struct load *l, config_setting_t *nfq)
{
	const struct conf *c = l->conf;

	if (c->nfq_queue != 0)
		return;
	/* dropped they can be without it, by the kernel alone */
	if (c->return_path == RETURN_COUNT)
		complain_at(l, setting_in(nfq, "return_path"), "nfq.return_path = "
			"\"count\" with nfq.queue = 0; expected a queue, or "
			"\"off\"");
	if (c->nfq_submission)
		complain_at(l, setting_in(nfq, "submission"), "nfq.submission with "
			"nfq.queue = 0; expected a queue, or no submission");
}

/* ---- trust ---- */

static const char *
system_bundle(void)
{
	static const char *const known[] = {
		"/etc/ssl/certs/ca-certificates.crt",
		"/etc/pki/tls/certs/ca-bundle.crt",
		"/etc/ssl/cert.pem",
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (access(known[i], R_OK) == 0)
			return known[i];
	return X509_get_default_cert_file();
}

/* What a PEM file holds; -1: something in it is damaged. */
static int
count_pem(FILE *f, size_t *certificates_r, size_t *lists_r)
{
	STACK_OF(X509_INFO) *all = PEM_X509_INFO_read(f, NULL, NULL, NULL);

	*certificates_r = *lists_r = 0;
	ERR_clear_error();
	if (all == NULL)
		return -1;
	for (int i = 0; i < sk_X509_INFO_num(all); i++) {
		const X509_INFO *one = sk_X509_INFO_value(all, i);

		*certificates_r += one->x509 != NULL;
		*lists_r += one->crl != NULL;
	}
	sk_X509_INFO_pop_free(all, X509_INFO_free);
	return 0;
}

static void
trust_check(struct load *l, config_setting_t *s)
{
	struct conf *c = l->conf;
	const char *why;
	unsigned line = s != NULL ?
		(unsigned)config_setting_source_line(s) : 1;
	const char *file = s != NULL ? setting_file(l, s) : l->path;
	size_t n, lists;
	bool damaged;
	FILE *f;

	if (c->trust == NULL)
		return;		/* refused when it was read */
	if (strcmp(c->trust, "system") == 0) {
		free(c->trust);
		if ((c->trust = strdup(system_bundle())) == NULL) {
			complain(l, file, line, "out of memory");
			return;
		}
	}
	if ((f = list_open(c->trust, &why)) == NULL) {
		complain(l, file, line, "tls.trust: %s cannot be read: %s; "
			"expected a PEM file (for \"system\", install "
			"ca-certificates)", c->trust, why);
		return;
	}
	damaged = count_pem(f, &n, &lists) == -1;
	fclose(f);
	if (damaged || n == 0)
		complain(l, file, line, "tls.trust: %s holds %s; expected "
			"certificates in PEM", c->trust,
			damaged ? "a damaged certificate" : "no certificate");
}

static void
crl_check(struct load *l, config_setting_t *s)
{
	const char *path = l->conf->crl, *why;
	size_t certificates, n;
	bool damaged;
	FILE *f;

	if (path == NULL)
		return;
	if ((f = list_open(path, &why)) == NULL) {
		complain_at(l, s, "tls.crl: %s cannot be read: %s; expected a "
			"PEM file of revocation lists", path, why);
		return;
	}
	damaged = count_pem(f, &certificates, &n) == -1;
	fclose(f);
	if (damaged || n == 0)
		complain_at(l, s, "tls.crl: %s holds %s; expected revocation "
			"lists in PEM", path, damaged ?
			"a damaged revocation list" : "no revocation list");
}

/* ---- the hook ---- */

static void
hook_check(struct load *l, config_setting_t *s)
{
	const char *path = l->conf->hook, *wrong = NULL;
	struct stat st;

	if (path == NULL)
		return;
	if (stat(path, &st) != 0)
		wrong = strerror(errno);
	else if (!S_ISREG(st.st_mode) || (st.st_mode & 0111) == 0)
		wrong = "it is no program";
	else if ((st.st_mode & (S_IWGRP | S_IWOTH)) != 0)
		wrong = "others than its owner may write to it";
	if (wrong != NULL)
		complain_at(l, s, "zombie.hook: %s: %s; expected a program "
			"that only its owner can change", path, wrong);
}

/* ---- allowlist ---- */

/* The first that needs a server that there is not. */
static void
need_submission(struct load *l, const struct allow_entry *e, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (e[i].action == ACTION_SUBMIT) {
			complain(l, l->conf->allow_file, e[i].line,
				"port25=submit without a server to submit to; "
				"expected an element of servers with "
				"submission");
			return;
		}
}

static void
allow_check(struct load *l, const config_setting_t *file)
{
	struct conf *c = l->conf;

	if (c->allow_file == NULL)
		return;
	allow_load(l, file);
	if (conf_has_submission(c))
		return;
	need_submission(l, c->allow, c->nallow);
	need_submission(l, c->allow_line, c->nallow_line);
}

/* ---- the whole ---- */

static int
parse(struct load *l, config_t *cfg)
{
	const char *why, *file;
	FILE *f = list_open(l->path, &why);

	if (f == NULL) {
		complain(l, l->path, 0, "cannot be read: %s; expected a "
			"configuration file, see sallyport.conf(5)", why);
		return -1;
	}
	config_set_include_dir(cfg, l->dir);
	if (config_read(cfg, f) != CONFIG_TRUE) {
		file = config_error_file(cfg);
		complain(l, file != NULL ? file : l->path,
			(unsigned)config_error_line(cfg), "%s; expected the "
			"syntax of sallyport.conf(5): name = value;",
			config_error_text(cfg));
		fclose(f);
		return -1;
	}
	fclose(f);
	return 0;
}

/* The place to complain about an option of this group, or of the group. */
static config_setting_t *
child_or(config_setting_t *group, const char *name, config_setting_t *other)
{
	config_setting_t *s = setting_in(group, name);

	return s != NULL ? s : group != NULL ? group : other;
}

static void
zombie_check(struct load *l, config_setting_t *root)
{
	static const char *const kind[CONF_ZOMBIE_KINDS] = { "first_contact",
		"unknown_user", "refusal", "null_sender", "helo" };
	const struct zombie_conf *z = &l->conf->zombie;
	config_setting_t *group = setting_in(root, "zombie");

	if (l->errors != 0)	/* what was refused is 0 */
		return;
	if (z->suspect > z->probable || z->probable > z->zombie)
		complain_at(l, child_or(group, "zombie", root), "zombie: "
			"suspect %.1f, probable %.1f, zombie %.1f; expected "
			"each at least as high as the one before",
			z->suspect / 10.0, z->probable / 10.0,
			z->zombie / 10.0);
	for (unsigned i = 0; i < CONF_ZOMBIE_KINDS; i++)
		if (z->kind[i].innocent >= z->kind[i].infected)
			complain_at(l, child_or(setting_in(group, kind[i]),
				"innocent", root), "zombie.%s: innocent %u, "
				"infected %u; expected innocent below infected",
				kind[i], z->kind[i].innocent,
				z->kind[i].infected);
}

/* A zombie's line reads its own text; the rest is as smtp.block has it. */
static void
zombie_block(struct load *l, config_setting_t *root)
{
	struct conf *c = l->conf;
	struct block_conf *b = &c->zombie_block;

	b->stage = c->block.stage;
	b->code = c->block.code;
	memcpy(b->esc, c->block.esc, sizeof(b->esc));
	b->delay = c->block.delay;
	if (b->url == NULL && c->block.url != NULL &&
	    (b->url = strdup(c->block.url)) == NULL)
		complain_at(l, root, "out of memory");
	block_text_check(l, b, setting_in(root, "zombie") != NULL ?
		setting_in(root, "zombie") : root);
}

int
conf_zombie(struct zombie_conf *z_r, const char *const *set, size_t n, FILE *err)
{
	char here[] = ".";
	struct load l = { .err = err, .path = "--set", .dir = here };
	struct conf *conf = calloc(1, sizeof(*conf));
	config_t cfg;

	if (conf == NULL)
		return -1;
	l.conf = conf;
	config_init(&cfg);
	option_read_group(&l, "zombie", NULL, conf);
	for (size_t i = 0; i < n && l.errors == 0; i++)
		option_set(&l, "zombie", set[i], conf);
	if (l.errors == 0)
		zombie_check(&l, config_root_setting(&cfg));
	*z_r = conf->zombie;
	option_free_group("zombie", conf);
	config_destroy(&cfg);
	free(conf);
	return l.errors == 0 ? 0 : -1;
}

static void
check(struct load *l, config_t *cfg)
{
	config_setting_t *root = config_root_setting(cfg);
	config_setting_t *list = setting_in(root, "subscribers");

	option_read_group(l, "", root, l->conf);
	gateway_check(l, setting_in(root, "gateway"));
	nfq_check(l, setting_in(root, "nfq"));
	zombie_check(l, root);
	zombie_block(l, root);
	servers_check(l, setting_in(root, "servers"));
	if (setting_in(setting_in(root, "smtp"), "block") != NULL)
		block_text_check(l, &l->conf->block,
			setting_in(setting_in(root, "smtp"), "block"));
	publish_check(l, setting_in(root, "publish"));
	classes_check(l, list);
	if (list != NULL && config_setting_is_list(list) &&
		l->conf->nclasses == 0)
		complain_at(l, list, "no subscribers; expected at least one "
			"class");
	accounts_check(l, root);
	allow_check(l, setting_in(setting_in(root, "allow"), "file"));
	trust_check(l, setting_in(setting_in(root, "tls"), "trust"));
	crl_check(l, setting_in(setting_in(root, "tls"), "crl"));
	hook_check(l, setting_in(setting_in(root, "zombie"), "hook"));
}

static char *
folder_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	if (slash == NULL)
		return strdup(".");
	if (slash == path)
		return strdup("/");
	return strndup(path, (size_t)(slash - path));
}

struct conf *
conf_load(const char *path, FILE *err)
{
	struct load l = { .err = err, .path = path };
	config_t cfg;

	config_init(&cfg);
	l.dir = folder_of(path);
	if ((l.conf = calloc(1, sizeof(*l.conf))) == NULL || l.dir == NULL ||
		(l.conf->path = strdup(path)) == NULL ||
		(l.conf->class_lpm = lpm_new()) == NULL ||
		(l.conf->allow_lpm = lpm_new()) == NULL ||
		(l.conf->account_lpm = lpm_new()) == NULL ||
		(l.conf->server_lpm = lpm_new()) == NULL)
		complain(&l, path, 0, "out of memory");
	else if (parse(&l, &cfg) == 0)
		check(&l, &cfg);
	config_destroy(&cfg);
	free(l.dir);
	if (l.errors != 0)
		conf_free(&l.conf);
	return l.conf;
}

char *
conf_socket(const char *path)
{
	const char *text;
	char *copy = NULL;
	config_t cfg;

	config_init(&cfg);
	if (config_read_file(&cfg, path) == CONFIG_TRUE &&
		config_lookup_string(&cfg, "control.socket", &text) ==
		CONFIG_TRUE)
		copy = strdup(text);
	config_destroy(&cfg);
	return copy;
}

void
conf_free(struct conf **conf)
{
	struct conf *c = *conf;

	if (c == NULL)
		return;
	for (size_t i = 0; i < c->nclasses; i++) {
		free(c->classes[i].prefixes);
		free(c->classes[i].destinations);
		if (c->classes[i].destination_lpm != NULL)
			lpm_free(&c->classes[i].destination_lpm);
	}
	for (size_t i = 0; i < c->nservers; i++)
		free(c->servers[i].prefixes);
	for (size_t i = 0; i < c->nallow; i++)
		allow_forget(&c->allow[i]);
	for (size_t i = 0; i < c->nallow_line; i++)
		allow_forget(&c->allow_line[i]);
	publish_free(c);
	option_free_group("", c);
	free(c->allow);
	free(c->allow_line);
	free(c->path);
	lpm_free(&c->class_lpm);
	lpm_free(&c->allow_lpm);
	lpm_free(&c->account_lpm);
	lpm_free(&c->server_lpm);
	free(c);
	*conf = NULL;
}
