/*
 * publish.c - the groups of the option publish: certificates and places
 *
 * Does: read certificates and keys, say which belongs to which name, and check
 * what no single option can say: a key that is not the certificate's, or that
 * others may read; a name without a certificate; the same address and port
 * twice; a group that would lead to itself. Does not: keep a key. It is read
 * here to be compared, and once more by the parent, which gives it to relays.
 *
 * Called by conf.c at load, by explain.c, and for names and files by the
 * daemon. The files are the operator's and may be wrong in any way; the name
 * that a certificate is looked up for is a client's.
 */
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "conf/conf.h"
#include "conf/option.h"

/* A chain is some kilobytes. */
#define PEM_MAX (256 * 1024)

const char *const publish_service_name[PUBLISH_SERVICES] = {
	"pop3s", "imaps", "submissions", "pop3", "imap", "submission",
};

/* ---- files ---- */

/* Whoever else can read a key can be this server. */
static int
check_secret(const char *path, const struct stat *st, char why[256])
{
	if (st->st_uid != 0 && st->st_uid != geteuid())
		snprintf(why, 256, "belongs to user %u; expected chown root %s",
			(unsigned)st->st_uid, path);
	else if ((st->st_mode & 077) != 0)
		snprintf(why, 256, "may be read by others (mode %04o); "
			"expected chmod 600 %s", (unsigned)st->st_mode & 07777,
			path);
	else
		return 0;
	errno = EINVAL;
	return -1;
}

/* The file as a text. NULL, with errno and the reason as words. */
static char *
pem_read(const char *path, bool is_secret, char why[256])
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), saved;
	struct stat st;
	char *text = NULL;
	ssize_t n = -1;

	if (fd < 0 || fstat(fd, &st) != 0) {
		saved = errno;
		snprintf(why, 256, "cannot be read: %s", strerror(errno));
		goto out;
	}
	saved = EINVAL;
	if (!S_ISREG(st.st_mode) || st.st_size > PEM_MAX) {
		snprintf(why, 256, "is not a PEM file");
		goto out;
	}
	if (is_secret && check_secret(path, &st, why) != 0)
		goto out;
	text = calloc(1, PEM_MAX + 1);
	if (text != NULL)
		n = read(fd, text, PEM_MAX);
	saved = errno;
	if (n < 0) {
		snprintf(why, 256, "cannot be read: %s", strerror(errno));
		free(text);
		text = NULL;
	}
out:
	if (fd >= 0)
		close(fd);
	errno = saved;
	return text;
}

int
conf_certificate_pem(const struct certificate_conf *c, char **chain_r,
	char **key_r, char why[256])
{
	const char *key = c->key != NULL ? c->key : c->chain;
	char words[256];

	*key_r = NULL;
	*chain_r = pem_read(c->chain, false, words);
	if (*chain_r == NULL) {
		snprintf(why, 256, "%.90s %.160s", c->chain, words);
		return -1;
	}
	*key_r = pem_read(key, true, words);
	if (*key_r != NULL)
		return 0;
	snprintf(why, 256, "%.90s %.160s", key, words);
	free(*chain_r);
	*chain_r = NULL;
	return -1;
}

/* ---- names ---- */

/* "*.isp.example" stands for one label (RFC 6125 section 6.4.3). */
static bool
is_wild_for(const char *pattern, const char *name)
{
	const char *dot = strchr(name, '.');

	return pattern[0] == '*' && pattern[1] == '.' && dot != NULL &&
		dot != name && strcasecmp(pattern + 1, dot) == 0;
}

int
conf_certificate_for(const struct publish_conf *p, const char *name)
{
	int wild = -1;

	for (size_t i = 0; i < p->ncertificates; i++) {
		const struct certificate_conf *c = &p->certificates[i];

		for (size_t k = 0; k < c->nnames; k++) {
			if (strcasecmp(c->names[k], name) == 0)
				return (int)i;
			if (wild == -1 && is_wild_for(c->names[k], name))
				wild = (int)i;
		}
	}
	return wild;
}

/* Whatever else stands in a certificate is a name that nobody asks for. */
static void
name_add(struct certificate_conf *c, const GENERAL_NAME *name)
{
	const char *text;
	char *copy;

	if (name->type != GEN_DNS)
		return;
	text = (const char *)ASN1_STRING_get0_data(name->d.dNSName);
	if (strlen(text) != (size_t)ASN1_STRING_length(name->d.dNSName) ||
		!host_is_valid(text + (strncmp(text, "*.", 2) == 0 ? 2 : 0)) ||
		(copy = strdup(text)) == NULL)
		return;
	for (char *p = copy; *p != '\0'; p++)
		if (*p >= 'A' && *p <= 'Z')
			*p = (char)(*p - 'A' + 'a');
	c->names[c->nnames++] = copy;
}

static void
names_read(struct certificate_conf *c, X509 *cert)
{
	GENERAL_NAMES *all = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL,
		NULL);
	int n = all == NULL ? 0 : sk_GENERAL_NAME_num(all);

	c->names = n > 0 ? calloc((size_t)n, sizeof(*c->names)) : NULL;
	for (int i = 0; c->names != NULL && i < n; i++)
		name_add(c, sk_GENERAL_NAME_value(all, i));
	GENERAL_NAMES_free(all);
}

/* ---- one certificate ---- */

static int
no_passphrase(char *out, int size, int writing, void *arg)
{
	(void)writing;
	(void)arg;
	if (size > 0)
		out[0] = '\0';
	return -1;
}

/* The first of a chain; *whole_r: what follows it is sound too; *fits_r: each has
 * signed the one before. */
static X509 *
chain_read(const char *pem, bool *whole_r, bool *fits_r)
{
	BIO *bio = BIO_new_mem_buf(pem, -1);
	X509 *first = bio == NULL ? NULL : PEM_read_bio_X509(bio, NULL,
		no_passphrase, NULL), *last = first, *next = NULL;

	ERR_clear_error();
	*fits_r = true;
	while (first != NULL && (next = PEM_read_bio_X509(bio, NULL,
			no_passphrase, NULL)) != NULL) {
		if (X509_check_issued(next, last) != X509_V_OK)
			*fits_r = false;
		if (last != first)
			X509_free(last);
		last = next;
	}
	if (last != first)
		X509_free(last);
	*whole_r = ERR_GET_REASON(ERR_peek_last_error()) ==
		PEM_R_NO_START_LINE;
	ERR_clear_error();
	BIO_free(bio);
	return first;
}

static EVP_PKEY *
key_read(const char *pem)
{
	BIO *bio = BIO_new_mem_buf(pem, -1);
	EVP_PKEY *key = bio == NULL ? NULL : PEM_read_bio_PrivateKey(bio, NULL,
		no_passphrase, NULL);

	ERR_clear_error();
	BIO_free(bio);
	return key;
}

static int64_t
unix_time(const ASN1_TIME *at)
{
	struct tm tm = { 0 };

	return ASN1_TIME_to_tm(at, &tm) == 1 ? (int64_t)timegm(&tm) : 0;
}

static const char *
day_of(int64_t at, char out[16])
{
	const time_t t = (time_t)at;
	struct tm tm;

	strftime(out, 16, "%Y-%m-%d", gmtime_r(&t, &tm));
	return out;
}

static void
check_dates(struct load *l, config_setting_t *s, struct certificate_conf *c,
	const X509 *cert)
{
	int64_t from = unix_time(X509_get0_notBefore(cert)), now = time(NULL);
	char day[16];

	c->until = unix_time(X509_get0_notAfter(cert));
	if (c->until <= now)
		warn_at(l, s, "the certificate in %s has expired on %s; "
			"clients will refuse it", c->chain,
			day_of(c->until, day));
	if (from > now)
		warn_at(l, s, "the certificate in %s is valid from %s on; "
			"clients will refuse it", c->chain, day_of(from, day));
}

/* Whoever runs `sallyport check' may not be allowed to see the files. */
static bool
is_hidden(struct load *l, config_setting_t *s, const char *path)
{
	if (errno != EACCES || geteuid() == 0)
		return false;
	warn_at(l, s, "%s is not checked: only root may read it", path);
	return true;
}

static void
check_key(struct load *l, config_setting_t *s, const struct certificate_conf *c,
	X509 *cert)
{
	const char *path = c->key != NULL ? c->key : c->chain;
	char why[256];
	char *pem = pem_read(path, true, why);
	EVP_PKEY *key;

	if (pem == NULL && is_hidden(l, s, path))
		return;
	if (pem == NULL) {
		complain_at(l, s, "publish.certificates.key: %s %s%s", path,
			why, strstr(why, "expected") != NULL ? "" :
			"; expected a private key in PEM");
		return;
	}
	key = key_read(pem);
	if (key == NULL)
		complain_at(l, s, "publish.certificates.key: %s holds no key "
			"that can be used; expected a private key in PEM, "
			"without passphrase", path);
	else if (X509_check_private_key(cert, key) != 1)
		complain_at(l, s, "the key in %s is not that of the "
			"certificate in %s; expected a pair", path, c->chain);
	ERR_clear_error();
	EVP_PKEY_free(key);
	explicit_bzero(pem, PEM_MAX);
	free(pem);
}

static void
check_certificate(struct load *l, config_setting_t *s,
	struct certificate_conf *c)
{
	config_setting_t *place = config_setting_get_member(s, "chain");
	config_setting_t *key = config_setting_get_member(s, "key");
	char why[256], *pem;
	bool whole, fits;
	X509 *cert;

	if (c->chain == NULL)
		return;		/* refused when it was read */
	pem = pem_read(c->chain, false, why);
	if (pem == NULL && is_hidden(l, place, c->chain)) {
		c->is_hidden = true;
		return;
	}
	if (pem == NULL) {
		complain_at(l, place, "publish.certificates.chain: %s %s; "
			"expected a certificate and its authorities' in PEM",
			c->chain, why);
		return;
	}
	cert = chain_read(pem, &whole, &fits);
	/* a key may be in it */
	explicit_bzero(pem, PEM_MAX);
	free(pem);
	if (cert == NULL || !whole) {
		complain_at(l, place, "publish.certificates.chain: %s holds %s; "
			"expected a certificate and its authorities' in PEM",
			c->chain, cert == NULL ? "no certificate" :
			"a damaged certificate");
		X509_free(cert);
		return;
	}
	names_read(c, cert);
	if (c->nnames == 0)
		complain_at(l, place, "the certificate in %s has no host name "
			"(subjectAltName); expected one that clients ask for",
			c->chain);
	if (!fits)
		warn_at(l, place, "the certificates in %s do not follow each "
			"other, each signed by the next; clients may refuse "
			"the first", c->chain);
	check_dates(l, place, c, cert);
	check_key(l, key != NULL ? key : place, c, cert);
	X509_free(cert);
}

static void
check_certificates(struct load *l, config_setting_t *s, struct publish_conf *p)
{
	config_setting_t *list = config_setting_get_member(s, "certificates");
	unsigned before = l->errors;
	bool hidden = false;

	if (list == NULL || !config_setting_is_list(list))
		return;		/* said already */
	if (p->ncertificates == 0)
		complain_at(l, list, "publish.certificates is empty; expected "
			"at least one group with chain and key");
	for (size_t i = 0; i < p->ncertificates; i++) {
		config_setting_t *one = config_setting_get_elem(list,
			(unsigned)i);

		if (config_setting_is_group(one))
			check_certificate(l, one, &p->certificates[i]);
		hidden = hidden || p->certificates[i].is_hidden;
	}
	if (p->ncertificates > 0 && l->errors == before && !hidden &&
		p->name != NULL && conf_certificate_for(p, p->name) == -1)
		complain_at(l, config_setting_get_member(s, "name"),
			"no certificate of this group is for %s; expected one "
			"that has the name, or a wildcard for it", p->name);
}

/* ---- places ---- */

bool
conf_publish_place(const struct conf *c, size_t n, struct publish_place *place_r)
{
	for (size_t i = 0; i < c->npublish; i++)
		for (size_t a = 0; a < c->publish[i].nlisten; a++)
			for (int k = 0; k < PUBLISH_SERVICES; k++) {
				if (c->publish[i].port[k] == 0 || n-- > 0)
					continue;
				place_r->at = c->publish[i].listen[a];
				place_r->at.port = c->publish[i].port[k];
				place_r->publish = (unsigned)i;
				place_r->service = (enum publish_service)k;
				return true;
			}
	return false;
}

static bool
is_same(const struct addr *a, const struct addr *b)
{
	return a->port == b->port && addr_same_host(a, b);
}

bool
conf_is_inner(const struct publish_conf *p, const struct addr *to)
{
	if (!addr_same_host(&p->to, to))
		return false;
	for (int i = 0; i < PUBLISH_PROTOCOLS; i++)
		if (p->port_to[i] == to->port)
			return true;
	return false;
}

static config_setting_t *
group_of(config_setting_t *list, unsigned publish)
{
	return config_setting_get_elem(list, publish);
}

static void
check_places(struct load *l, config_setting_t *list)
{
	const struct conf *c = l->conf;
	struct publish_place one, other;
	char text[ADDR_STRLEN];
	size_t n;

	for (n = 0; conf_publish_place(c, n, &one); n++) {
		config_setting_t *s = group_of(list, one.publish);

		if (one.at.family == 0)
			continue;	/* refused when it was read */
		for (size_t k = 0; k < n; k++)
			if (conf_publish_place(c, k, &other) &&
				is_same(&one.at, &other.at))
				complain_at(l, s, "%s is published already, as "
					"%s of the group in line %u; expected "
					"each address and port once",
					addr_format_port(&one.at, text),
					publish_service_name[other.service],
					(unsigned)config_setting_source_line(
						group_of(list, other.publish)));
		for (size_t i = 0; i < c->npublish; i++)
			if (conf_is_inner(&c->publish[i], &one.at))
				complain_at(l, s, "%s is published and is where "
					"a publish group leads to: a loop; "
					"expected the server behind",
					addr_format_port(&one.at, text));
		if (one.at.port == 25 || one.at.port == c->listen_port)
			complain_at(l, s, "publish.%s = %u: %s; expected "
				"another port", publish_service_name[
				one.service], one.at.port, one.at.port == 25 ?
				"mail between servers is not published" :
				"that is gateway.listen_port");
	}
	if (n > PUBLISH_PLACES_MAX)
		complain_at(l, list, "%zu addresses and ports are published; "
			"expected at most %d", n, PUBLISH_PLACES_MAX);
}

static bool
has_service(const struct publish_conf *p)
{
	for (int i = 0; i < PUBLISH_SERVICES; i++)
		if (p->port[i] != 0)
			return true;
	return false;
}

/* The machines know a server that speaks in clear. */
static void
make_server(struct publish_conf *p)
{
	const struct endpoint plain = { TLS_PLAIN, 0 };

	p->server.name = p->name;
	p->server.pop3 = p->server.imap = p->server.submission = plain;
	p->server.pop3.port = p->port_to[PUBLISH_POP3];
	p->server.imap.port = p->port_to[PUBLISH_IMAP];
	p->server.submission.port = p->port_to[PUBLISH_SMTP];
}

void
publish_check(struct load *l, config_setting_t *list)
{
	struct conf *c = l->conf;

	for (size_t i = 0; i < c->npublish; i++) {
		struct publish_conf *p = &c->publish[i];
		config_setting_t *s = group_of(list, (unsigned)i);

		if (!config_setting_is_group(s))
			continue;
		make_server(p);
		if (!has_service(p))
			complain_at(l, s, "this group publishes nothing; "
				"expected pop3s, imaps, submissions, pop3, "
				"imap or submission");
		check_certificates(l, s, p);
	}
	check_places(l, list);
}

void
publish_free(struct conf *c)
{
	for (size_t i = 0; i < c->npublish; i++)
		for (size_t k = 0; k < c->publish[i].ncertificates; k++) {
			struct certificate_conf *one =
				&c->publish[i].certificates[k];

			for (size_t n = 0; n < one->nnames; n++)
				free(one->names[n]);
			free(one->names);
		}
}

/* ---- in words ---- */

static void
explain_service(const struct publish_conf *p, int service, FILE *out)
{
	static const char *const words[PUBLISH_PROTOCOLS] = { "POP3", "IMAP",
		"submission" };
	enum publish_protocol protocol = publish_protocol(
		(enum publish_service)service);
	struct addr to = p->to;
	char text[ADDR_STRLEN];

	to.port = p->port_to[protocol];
	fprintf(out, "    %s on port %u, %s, goes on to %s in clear.\n",
		words[protocol], p->port[service], service < PUBLISH_CLEAR ?
		"in TLS from the first octet" : p->require_tls ?
		"with STARTTLS before any login" :
		"with STARTTLS or, where the server behind allows it, without",
		addr_format_port(&to, text));
}

static void
explain_certificate(const struct certificate_conf *c, bool is_first, FILE *out)
{
	char day[16];

	if (c->is_hidden) {
		fprintf(out, "    Certificate %s, which was not read.\n",
			c->chain);
		return;
	}
	fprintf(out, "    Certificate %s, until %s, for", c->chain,
		day_of(c->until, day));
	for (size_t i = 0; i < c->nnames; i++)
		fprintf(out, "%s %s", i > 0 ? "," : "", c->names[i]);
	fprintf(out, "%s.\n", is_first ?
		"; also for any other name and for none" : "");
}

void
publish_explain(const struct conf *c, FILE *out)
{
	char text[ADDR_STRLEN];

	for (size_t i = 0; i < c->npublish; i++) {
		const struct publish_conf *p = &c->publish[i];

		fprintf(out, "%s is published on", p->name);
		for (size_t a = 0; a < p->nlisten; a++)
			fprintf(out, "%s %s", a > 0 ? "," : "",
				addr_format(&p->listen[a], text));
		fputs(":\n", out);
		for (int k = 0; k < PUBLISH_SERVICES; k++)
			if (p->port[k] != 0)
				explain_service(p, k, out);
		fprintf(out, "    The server behind %s.\n", p->proxy ?
			"is told the client's address (PROXY)" :
			"sees this machine's address");
		for (size_t k = 0; k < p->ncertificates; k++)
			explain_certificate(&p->certificates[k], k == 0, out);
	}
}
