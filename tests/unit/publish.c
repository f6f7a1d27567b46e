/*
 * publish.c - unit tests of conf/publish.c and proxyd/serve.c
 *
 * Certificates are made on the spot and written into a folder of their own.
 * Every row of `refused` is one mistake and what has to be said about it. TLS is
 * OpenSSL's own client against serve.c over memory, so that what is shown and
 * what is resumed is what a real client gets.
 */
#include "proxyd/serve.h"

#include <dirent.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "conf/conf.h"
#include "proxyd/msg.h"

#define N(a) (sizeof(a) / sizeof((a)[0]))

static char dir[256];

static const char *
in_dir(const char *name, char out[512])
{
	snprintf(out, 512, "%s/%s", dir, name);
	return out;
}

/* ---- certificates ---- */

static void
add_names(X509 *cert, const char *names)
{
	X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, NULL,
		NID_subject_alt_name, names);

	assert_non_null(ext);
	assert_int_equal(X509_add_ext(cert, ext, -1), 1);
	X509_EXTENSION_free(ext);
}

/* NAME.pem and NAME.key; days: of its life from now, may be in the past. */
static void
make(const char *name, const char *names, long from, long days)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = X509_new();
	char file[64], path[512];
	FILE *f;

	assert_non_null(key);
	X509_set_version(cert, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(cert), 7);
	X509_gmtime_adj(X509_getm_notBefore(cert), from * 86400);
	X509_gmtime_adj(X509_getm_notAfter(cert), days * 86400);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN",
		MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0);
	X509_set_issuer_name(cert, X509_get_subject_name(cert));
	X509_set_pubkey(cert, key);
	if (names != NULL)
		add_names(cert, names);
	assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
	snprintf(file, sizeof(file), "%s.pem", name);
	f = fopen(in_dir(file, path), "w");
	assert_true(PEM_write_X509(f, cert));
	fclose(f);
	snprintf(file, sizeof(file), "%s.key", name);
	f = fopen(in_dir(file, path), "w");
	assert_int_equal(fchmod(fileno(f), 0600), 0);
	assert_true(PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL));
	fclose(f);
	X509_free(cert);
	EVP_PKEY_free(key);
}

static void
put(const char *name, const char *text, mode_t mode)
{
	char path[512];
	FILE *f = fopen(in_dir(name, path), "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
	assert_int_equal(chmod(path, mode), 0);
}

/* both in one file; a key that others may read; one with a passphrase */
static void
make_odd_files(void)
{
	char path[512], text[8192];
	EVP_PKEY *key = EVP_EC_gen("P-256");
	size_t n;
	FILE *f = fopen(in_dir("a.key", path), "r");

	n = fread(text, 1, 4096, f);
	fclose(f);
	text[n] = '\0';
	put("open.key", text, 0640);
	f = fopen(in_dir("a.pem", path), "r");
	text[n + fread(text + n, 1, 4096, f)] = '\0';
	fclose(f);
	put("both.pem", text, 0600);
	put("empty.pem", "", 0600);
	put("torn.pem", "-----BEGIN CERTIFICATE-----\nMII\n", 0600);
	f = fopen(in_dir("locked.key", path), "w");
	assert_int_equal(fchmod(fileno(f), 0600), 0);
	assert_true(PEM_write_PrivateKey(f, key, EVP_aes_128_cbc(),
		(const unsigned char *)"word", 4, NULL, NULL));
	fclose(f);
	EVP_PKEY_free(key);
}

/* ---- configuration ---- */

#define CLASS "tls = { trust = \"a.pem\"; };\nsubscribers = ( { class = \"a\"; " \
	"prefixes = ( \"198.18.0.0/16\" ); port25 = \"watch\"; } );\n"
#define PAIR(name) "{ chain = \"" name ".pem\"; key = \"" name ".key\"; }"
#define GROUP(more, certificates) "{ name = \"mail.isp.example\"; listen = ( " \
	"\"203.0.113.25\" );\n" more "\ncertificates = ( " certificates " ); }"
#define PUBLISH(more, certificates) CLASS "publish = ( " GROUP(more, \
	certificates) " );\n"

static struct conf *
load(const char *text, char **said_r)
{
	char path[512], *raw = NULL, *at;
	struct conf *c;
	size_t len;
	FILE *err;

	put("s.conf", text, 0600);
	err = open_memstream(&raw, &len);
	c = conf_load(in_dir("s.conf", path), err);
	fclose(err);
	while ((at = strstr(raw, dir)) != NULL) {
		at[0] = 'F';
		memmove(at + 1, at + strlen(dir), strlen(at + strlen(dir)) + 1);
	}
	*said_r = raw;
	return c;
}

static const struct {
	const char *name, *input, *want;
} refused[] = {
	{ "nothing is published", PUBLISH("", PAIR("a")),
	  "F/s.conf:3: this group publishes nothing; expected pop3s, imaps or "
	  "submissions\n" },
	{ "no certificate", PUBLISH("pop3s = 995;", ""),
	  "F/s.conf:5: publish.certificates is empty; expected at least one "
	  "group with chain and key\n" },
	{ "another's key", PUBLISH("pop3s = 995;",
		"{ chain = \"a.pem\"; key = \"wild.key\"; }"),
	  "F/s.conf:5: the key in F/wild.key is not that of the certificate in "
	  "F/a.pem; expected a pair\n" },
	{ "a key that others may read", PUBLISH("pop3s = 995;",
		"{ chain = \"a.pem\"; key = \"open.key\"; }"),
	  "F/s.conf:5: publish.certificates.key: F/open.key may be read by "
	  "others (mode 0640); expected chmod 600 F/open.key\n" },
	{ "a key with a passphrase", PUBLISH("pop3s = 995;",
		"{ chain = \"a.pem\"; key = \"locked.key\"; }"),
	  "F/s.conf:5: publish.certificates.key: F/locked.key holds no key that "
	  "can be used; expected a private key in PEM, without passphrase\n" },
	{ "no key", PUBLISH("pop3s = 995;", "{ chain = \"a.pem\"; }"),
	  "F/s.conf:5: publish.certificates.key: F/a.pem may be read by others "
	  "(mode 0644); expected chmod 600 F/a.pem\n" },
	{ "no such file", PUBLISH("pop3s = 995;",
		"{ chain = \"gone.pem\"; key = \"a.key\"; }"),
	  "F/s.conf:5: publish.certificates.chain: F/gone.pem cannot be read: No "
	  "such file or directory; expected a certificate and its authorities' "
	  "in PEM\n" },
	{ "an empty file", PUBLISH("pop3s = 995;",
		"{ chain = \"empty.pem\"; key = \"a.key\"; }"),
	  "F/s.conf:5: publish.certificates.chain: F/empty.pem holds no "
	  "certificate; expected a certificate and its authorities' in PEM\n" },
	{ "a folder", PUBLISH("pop3s = 995;", "{ chain = \".\"; key = \"a.key\"; }"),
	  "F/s.conf:5: publish.certificates.chain: F/. is not a PEM file; "
	  "expected a certificate and its authorities' in PEM\n" },
	{ "a certificate without a name", PUBLISH("pop3s = 995;", PAIR("none")),
	  "F/s.conf:5: the certificate in F/none.pem has no host name "
	  "(subjectAltName); expected one that clients ask for\n" },
	{ "no certificate for the name", PUBLISH("pop3s = 995;", PAIR("wild")),
	  "F/s.conf:3: no certificate of this group is for mail.isp.example; "
	  "expected one that has the name, or a wildcard for it\n" },
	{ "the same place twice", CLASS "publish = (\n" GROUP("pop3s = 995;",
		PAIR("a")) ",\n" GROUP("imaps = 995;", PAIR("a")) " );\n",
	  "F/s.conf:7: 203.0.113.25:995 is published already, as pop3s of the "
	  "group in line 4; expected each address and port once\n" },
	{ "two services in one place", PUBLISH("pop3s = 995; imaps = 995;",
		PAIR("a")),
	  "F/s.conf:3: 203.0.113.25:995 is published already, as pop3s of the "
	  "group in line 3; expected each address and port once\n" },
	{ "a loop", PUBLISH("imaps = 143; to = \"203.0.113.25\";", PAIR("a")),
	  "F/s.conf:3: 203.0.113.25:143 is published and is where a publish "
	  "group leads to: a loop; expected the server behind\n" },
	{ "port 25", PUBLISH("submissions = 25;", PAIR("a")),
	  "F/s.conf:3: publish.submissions = 25: mail between servers is not "
	  "published; expected another port\n" },
	{ "the daemon's own port", PUBLISH("submissions = 2525;", PAIR("a")),
	  "F/s.conf:3: publish.submissions = 2525: that is gateway.listen_port; "
	  "expected another port\n" },
	{ "no host's address", PUBLISH("pop3s = 995; to = \"224.0.0.1\";",
		PAIR("a")),
	  "F/s.conf:4: publish.to = \"224.0.0.1\": a multicast address; expected "
	  "the address of a host, without port\n" },
	{ "to with a port", PUBLISH("pop3s = 995; to = \"127.0.0.1:110\";",
		PAIR("a")),
	  "F/s.conf:4: publish.to = \"127.0.0.1:110\": not an IP address; "
	  "expected the address of a host, without port\n" },
	{ "no address", CLASS "publish = ( { name = \"mail.isp.example\"; "
	  "listen = ( ); pop3s = 995; certificates = ( " PAIR("a") " ); } );\n",
	  "F/s.conf:3: publish.listen = a list ( ): empty; expected a list of "
	  "hosts' addresses like ( \"203.0.113.25\", \"2001:db8::25\" )\n" },
	{ "what is required", CLASS "publish = ( { } );\n",
	  "F/s.conf:3: publish.name is missing; expected name = ... in this "
	  "group\nF/s.conf:3: publish.listen is missing; expected listen = ... in "
	  "this group\nF/s.conf:3: publish.certificates is missing; expected "
	  "certificates = ... in this group\nF/s.conf:3: this group publishes "
	  "nothing; expected pop3s, imaps or submissions\n" },
	{ "no group", CLASS "publish = ( 7 );\n",
	  "F/s.conf:3: publish = 7: an element of the list; expected a list of "
	  "groups ( { ... }, { ... } )\n" },
};

static void
refusals(void **state)
{
	unsigned bad = 0;

	(void)state;
	for (size_t i = 0; i < N(refused); i++) {
		char *said;
		struct conf *c = load(refused[i].input, &said);

		if (c != NULL || strcmp(said, refused[i].want) != 0) {
			print_message("# %s: said\n%swanted\n%s",
				refused[i].name, said, refused[i].want);
			bad++;
		}
		conf_free(&c);
		free(said);
	}
	assert_int_equal(bad, 0);
}

static void
warnings(void **state)
{
	static const struct {
		const char *input, *want;
	} rows[] = {
		{ PUBLISH("pop3s = 995;", PAIR("old")),
		  ":5: warning: the certificate in F/old.pem has expired on " },
		{ PUBLISH("pop3s = 995;", PAIR("early")),
		  ":5: warning: the certificate in F/early.pem is valid from " },
		{ PUBLISH("pop3s = 995;", PAIR("a")), NULL },
		{ PUBLISH("pop3s = 995;", "{ chain = \"both.pem\"; }"), NULL },
	};

	(void)state;
	for (size_t i = 0; i < N(rows); i++) {
		char *said;
		struct conf *c = load(rows[i].input, &said);

		assert_non_null(c);
		if (rows[i].want == NULL)
			assert_string_equal(said, "");
		else
			assert_non_null(strstr(said, rows[i].want));
		conf_free(&c);
		free(said);
	}
}

/* What is printed loads again and means the same. */
static void
printed(void **state)
{
	char *said, *first = NULL, *second = NULL, *words = NULL;
	struct conf *c = load(PUBLISH("pop3s = 995; submissions = 465; proxy = "
		"true; to = \"::1\"; pop3_to = 1110;", PAIR("a") ", "
		PAIR("wild")), &said), *again;
	size_t n;
	FILE *f = open_memstream(&first, &n);

	(void)state;
	assert_non_null(c);
	free(said);
	conf_print(c, f);
	fclose(f);
	again = load(first, &said);
	assert_non_null(again);
	f = open_memstream(&second, &n);
	conf_print(again, f);
	fclose(f);
	assert_string_equal(first, second);
	f = open_memstream(&words, &n);
	conf_explain(again, f);
	fclose(f);
	assert_non_null(strstr(words, "mail.isp.example is published on "
		"203.0.113.25:\n    POP3 on port 995, in TLS from the first "
		"octet, goes on to [::1]:1110 in clear.\n    submission on port "
		"465, in TLS from the first octet, goes on to [::1]:587 in "
		"clear.\n    The server behind is told the client's address "
		"(PROXY).\n"));
	free(first);
	free(second);
	free(words);
	free(said);
	conf_free(&c);
	conf_free(&again);
}

static void
names(void **state)
{
	static const struct {
		const char *name;
		int want;
	} rows[] = {
		{ "mail.isp.example", 0 }, { "MAIL.ISP.EXAMPLE", 0 },
		{ "a.hosted.example", 1 }, { "A.Hosted.Example", 1 },
		{ "hosted.example", -1 }, { ".hosted.example", -1 },
		{ "a.b.hosted.example", -1 }, { "special.hosted.example", 2 },
		{ "*.hosted.example", 1 }, { "", -1 }, { ".", -1 },
		{ "mail.isp.example.", -1 }, { "xmail.isp.example", -1 },
		{ "hosted", -1 },
	};
	char *said;
	struct conf *c = load(PUBLISH("pop3s = 995;", PAIR("a") ", "
		PAIR("wild") ", " PAIR("special")), &said);

	(void)state;
	assert_non_null(c);
	for (size_t i = 0; i < N(rows); i++)
		assert_int_equal(conf_certificate_for(&c->publish[0],
			rows[i].name), rows[i].want);
	free(said);
	conf_free(&c);
}

static void
inner(void **state)
{
	static const struct {
		const char *to;
		bool want;
	} rows[] = {
		{ "127.0.0.1:1110", true }, { "127.0.0.1:143", true },
		{ "127.0.0.1:587", true }, { "127.0.0.1:110", false },
		{ "127.0.0.1:25", false }, { "127.0.0.2:143", false },
		{ "[::1]:143", false }, { "10.0.0.1:143", false },
	};
	char *said;
	struct conf *c = load(PUBLISH("pop3s = 995; pop3_to = 1110;",
		PAIR("a")), &said);

	(void)state;
	assert_non_null(c);
	for (size_t i = 0; i < N(rows); i++) {
		struct addr to;

		assert_int_equal(addr_parse(&to, rows[i].to), 0);
		assert_int_equal(conf_is_inner(&c->publish[0], &to),
			rows[i].want);
	}
	free(said);
	conf_free(&c);
}

/* ---- TLS ---- */

static SSL_SESSION *ticket;

static int
on_session(SSL *ssl, SSL_SESSION *session)
{
	(void)ssl;
	SSL_SESSION_free(ticket);
	ticket = session;
	return 1;
}

struct shaken {
	bool done, reused;
	char subject[64];
};

static struct shaken
shake(struct serve *v, const struct publish_place *place, int version,
	const char *name, SSL_SESSION *with)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	BIO *left, *right;
	struct shaken r = { 0 };
	SSL *client, *server;
	X509 *cert;
	char octet;

	SSL_CTX_set_min_proto_version(ctx, version);
	SSL_CTX_set_max_proto_version(ctx, version);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT |
		SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(ctx, on_session);
	client = SSL_new(ctx);
	assert_int_equal(BIO_new_bio_pair(&left, 0, &right, 0), 1);
	server = serve_open(v, place, right);
	assert_non_null(server);
	SSL_set_bio(client, left, left);
	SSL_set_connect_state(client);
	if (name != NULL)
		SSL_set_tlsext_host_name(client, name);
	if (with != NULL)
		SSL_set_session(client, with);
	for (int i = 0; i < 20; i++) {
		(void)SSL_do_handshake(client);
		(void)SSL_do_handshake(server);
	}
	(void)SSL_read(client, &octet, 1);	/* tickets of TLS 1.3 */
	r.done = SSL_is_init_finished(client) && SSL_is_init_finished(server);
	r.reused = SSL_session_reused(server) != 0;
	cert = SSL_get0_peer_certificate(client);
	if (cert != NULL)
		X509_NAME_get_text_by_NID(X509_get_subject_name(cert),
			NID_commonName, r.subject, sizeof(r.subject));
	SSL_set_shutdown(client, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
	SSL_set_shutdown(server, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
	SSL_free(client);
	SSL_free(server);
	SSL_CTX_free(ctx);
	return r;
}

struct world {
	struct conf *conf;
	struct serve *serve;
	struct publish_place place[2];	/* pop3s, imaps */
};

static struct world
raise(void)
{
	struct world w = { 0 };
	char *said;
	int fd;

	w.conf = load(PUBLISH("pop3s = 995; imaps = 993;", PAIR("a") ", "
		PAIR("wild")), &said);
	assert_non_null(w.conf);
	free(said);
	fd = serve_bundle(w.conf);
	assert_true(fd >= 0);
	w.serve = serve_new(w.conf, fd);
	assert_non_null(w.serve);
	close(fd);
	assert_true(conf_publish_place(w.conf, 0, &w.place[0]));
	assert_true(conf_publish_place(w.conf, 1, &w.place[1]));
	return w;
}

static void
lower(struct world *w)
{
	SSL_SESSION_free(ticket);
	ticket = NULL;
	serve_free(&w->serve);
	conf_free(&w->conf);
}

static void
turn_key(struct serve *v)
{
	struct ticket_key key;

	assert_int_equal(RAND_bytes((unsigned char *)&key, sizeof(key)), 1);
	serve_ticket_key(v, &key, false);
	/* heard twice, it is still one key */
	serve_ticket_key(v, &key, false);
}

static void
shown(void **state)
{
	static const struct {
		const char *name, *want;
	} rows[] = {
		{ "mail.isp.example", "a" }, { "x.hosted.example", "wild" },
		{ "X.HOSTED.example", "wild" }, { "elsewhere.example", "a" },
		{ NULL, "a" },
	};
	struct world w = raise();

	(void)state;
	for (size_t i = 0; i < N(rows); i++)
		for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION;
			version++) {
			struct shaken r = shake(w.serve, &w.place[i % 2],
				version, rows[i].name, NULL);

			assert_true(r.done);
			assert_string_equal(r.subject, rows[i].want);
		}
	assert_false(shake(w.serve, &w.place[0], TLS1_1_VERSION,
		"mail.isp.example", NULL).done);
	lower(&w);
}

/* A ticket, taken again at the same place and name. */
static bool
resumes(struct world *w, int version, int place, const char *name)
{
	SSL_SESSION *with = ticket != NULL ? SSL_SESSION_dup(ticket) : NULL;
	struct shaken r = shake(w->serve, &w->place[place], version, name, with);

	SSL_SESSION_free(with);
	assert_true(r.done);
	return r.reused;
}

static void
resumed(void **state)
{
	(void)state;
	for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION;
		version++) {
		struct world w = raise();
		SSL_SESSION *kept;

		/* without a key no ticket can be used */
		assert_false(resumes(&w, version, 0, "x.hosted.example"));
		assert_false(resumes(&w, version, 0, "x.hosted.example"));
		turn_key(w.serve);
		assert_false(resumes(&w, version, 0, "x.hosted.example"));
		kept = SSL_SESSION_dup(ticket);
		assert_true(resumes(&w, version, 0, "x.hosted.example"));
#define AGAIN(place, name) (SSL_SESSION_free(ticket), \
		ticket = SSL_SESSION_dup(kept), resumes(&w, version, place, name))
		assert_false(AGAIN(1, "x.hosted.example"));
		assert_false(AGAIN(0, "y.hosted.example"));
		assert_false(AGAIN(0, "mail.isp.example"));
		assert_false(AGAIN(0, NULL));
		assert_true(AGAIN(0, "x.hosted.example"));
		/* one period later still, two later no more */
		turn_key(w.serve);
		assert_true(AGAIN(0, "x.hosted.example"));
		turn_key(w.serve);
		assert_false(AGAIN(0, "x.hosted.example"));
		SSL_SESSION_free(kept);
		lower(&w);
	}
}

/* ---- main ---- */

static int
set_up(void **state)
{
	const char *tmp = getenv("TMPDIR");

	(void)state;
	snprintf(dir, sizeof(dir), "%s/sallyport-publish.XXXXXX",
		tmp != NULL ? tmp : "/tmp");
	if (mkdtemp(dir) == NULL)
		return -1;
	make("a", "DNS:mail.isp.example,DNS:www.isp.example", -1, 30);
	make("wild", "DNS:*.hosted.example", -1, 30);
	make("special", "DNS:special.hosted.example,IP:192.0.2.1", -1, 30);
	make("old", "DNS:mail.isp.example", -9, -2);
	make("early", "DNS:mail.isp.example", 3, 9);
	make("none", "IP:192.0.2.1", -1, 30);
	make_odd_files();
	return 0;
}

static int
tear_down(void **state)
{
	char path[512];
	struct dirent *e;
	DIR *d = opendir(dir);

	(void)state;
	while (d != NULL && (e = readdir(d)) != NULL)
		if (e->d_name[0] != '.')
			unlink(in_dir(e->d_name, path));
	if (d != NULL)
		closedir(d);
	return rmdir(dir);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refusals),
		cmocka_unit_test(warnings),
		cmocka_unit_test(printed),
		cmocka_unit_test(names),
		cmocka_unit_test(inner),
		cmocka_unit_test(shown),
		cmocka_unit_test(resumed),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
