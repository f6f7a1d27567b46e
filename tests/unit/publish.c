/*
 * publish.c - unit tests of conf/publish.c and proxyd/serve.c
 *
 * Certificates are made on the spot and written into a folder of their own.
 * Every row of `refused` is one mistake and what has to be said about it. TLS is
 * OpenSSL's own client against serve.c over memory, so that what is shown and
 * what is resumed is what a real client gets. Of the machines only what is
 * different for a published server is played here (tests/drive.h).
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
#include "tests/drive.h"

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
	/* a certificate that has nothing to do with the one before */
	f = fopen(in_dir("wild.pem", path), "r");
	n = strlen(text);
	text[n + fread(text + n, 1, 2048, f)] = '\0';
	fclose(f);
	put("mixed.pem", text, 0600);
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
	  "F/s.conf:3: this group publishes nothing; expected pop3s, imaps, "
	  "submissions, pop3, imap or submission\n" },
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
	  "nothing; expected pop3s, imaps, submissions, pop3, imap or "
	  "submission\n" },
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
		{ PUBLISH("pop3s = 995;", "{ chain = \"mixed.pem\"; }"),
		  ":5: warning: the certificates in F/mixed.pem do not follow " },
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

/* The same, of a ticket that was kept. */
static bool
again(struct world *w, int version, SSL_SESSION *kept, int place,
	const char *name)
{
	SSL_SESSION_free(ticket);
	ticket = SSL_SESSION_dup(kept);
	return resumes(w, version, place, name);
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
		assert_false(again(&w, version, kept, 1, "x.hosted.example"));
		assert_false(again(&w, version, kept, 0, "y.hosted.example"));
		assert_false(again(&w, version, kept, 0, "mail.isp.example"));
		assert_false(again(&w, version, kept, 0, NULL));
		assert_true(again(&w, version, kept, 0, "x.hosted.example"));
		/* one period later still, two later no more */
		turn_key(w.serve);
		assert_true(again(&w, version, kept, 0, "x.hosted.example"));
		turn_key(w.serve);
		assert_false(again(&w, version, kept, 0, "x.hosted.example"));
		SSL_SESSION_free(kept);
		lower(&w);
	}
}

/* ---- the machines ---- */

/* Where the client is: in TLS from the first octet; in clear, where it must and
 * where it may begin TLS; in TLS that it began. */
enum leg { SECURE, MUST, MAY, BEGUN };

static struct server_conf behind = {
	.name = (char[]){ "mail.isp.example" },
	.pop3 = { TLS_PLAIN, 110 }, .imap = { TLS_PLAIN, 143 },
	.submission = { TLS_PLAIN, 587 },
};

#define P_OPEN "! dial plain:110", "U", "S +OK <1@x> ready"
#define P_CAPA "C CAPA", "s CAPA", "S +OK\nTOP\nUSER\nSTLS\n" \
	"SASL PLAIN SCRAM-SHA-1\nUIDL\n.",
#define I_OPEN "! dial plain:143", "U", \
	"S * OK [CAPABILITY IMAP4rev1 STARTTLS AUTH=PLAIN AUTH=SCRAM-SHA-1] Hi"
#define M_LIST "! dial plain:587", "U", "S 220 x", "s EHLO pc", \
	"S 250-x\n250-SIZE 1\n250-STARTTLS\n250 AUTH PLAIN SCRAM-SHA-1"
#define SHUT "[SYS/PERM] A login is possible inside TLS only; say STLS first"

static const struct {
	const char *name;
	enum publish_protocol protocol;
	enum leg leg;
	bool whole;
	const char *script[40];
} dialogues[] = {
	{ "POP3 in TLS", PUBLISH_POP3, SECURE, false, { P_OPEN,
		"c +OK <1@x> ready", P_CAPA "c +OK\nTOP\nUSER\n"
		"SASL PLAIN SCRAM-SHA-1\nUIDL\n.", "C STLS",
		"c -ERR STLS is not offered", "C APOP a b", "s APOP a b",
		"S +OK", "c +OK", "x RR", NULL } },
	{ "POP3: a server that binds channels", PUBLISH_POP3, SECURE, false, {
		P_OPEN, "c +OK <1@x> ready", "C CAPA", "s CAPA",
		"S +OK\nSASL SCRAM-SHA-1 PLAIN SCRAM-SHA-256-PLUS SCRAM-SHA-256\n.",
		"c +OK\nSASL PLAIN\n.", "C AUTH", "s AUTH",
		"S +OK\nPLAIN\nSCRAM-SHA-1\nSCRAM-SHA-1-PLUS\n.",
		"c +OK\nPLAIN\n.", NULL } },
	{ "POP3 in clear", PUBLISH_POP3, MUST, false, { P_OPEN,
		"c +OK mail.isp.example ready", P_CAPA
		"c +OK\nTOP\nUIDL\nSTLS\n.", "C USER kenji", "c -ERR " SHUT,
		"C PASS x", "c -ERR " SHUT, "C AUTH PLAIN AGEAYg==",
		"c -ERR " SHUT, "C AUTH", "c -ERR " SHUT, "C APOP a b",
		"c -ERR " SHUT, "C APOP ", "c -ERR " SHUT, "C XLOGIN k s",
		"c -ERR " SHUT, "C STLS", "c +OK Begin TLS negotiation now",
		"! accept", NULL } },
	{ "POP3 in clear, where that may be", PUBLISH_POP3, MAY, false, {
		P_OPEN, "c +OK <1@x> ready", P_CAPA "c +OK\nTOP\nUSER\n"
		"SASL PLAIN SCRAM-SHA-1\nUIDL\nSTLS\n.", "C USER kenji",
		"s USER kenji", "S +OK", "c +OK", "C STLS",
		"c +OK Begin TLS negotiation now", "! accept", NULL } },
	{ "POP3: a command behind STLS", PUBLISH_POP3, MUST, true, { P_OPEN,
		"c +OK mail.isp.example ready", "C STLS\nUSER a",
		"! fail tls-injection", "c -ERR [SYS/TEMP] mail.isp.example: "
		"clear octets where TLS begins (ref ID0)", NULL } },
	{ "POP3 behind STLS", PUBLISH_POP3, BEGUN, false, { P_OPEN, "x LL",
		P_CAPA "c +OK\nTOP\nUSER\nSASL PLAIN SCRAM-SHA-1\nUIDL\n.",
		"C APOP a b", "c -ERR [SYS/PERM] APOP is not possible behind "
		"STLS", "C STLS", "c -ERR STLS is not offered", "C USER a",
		"s USER a", "S +OK", "c +OK", NULL } },
	{ "POP3 behind STLS, refused", PUBLISH_POP3, BEGUN, false, {
		"! dial plain:110", "U", "S -ERR full", "! fail server-greeting",
		"c -ERR [SYS/TEMP] mail.isp.example: refuses service: -ERR full "
		"(ref ID0)", NULL } },
	{ "IMAP in TLS", PUBLISH_IMAP, SECURE, false, { I_OPEN,
		"c * OK [CAPABILITY IMAP4rev1 AUTH=PLAIN AUTH=SCRAM-SHA-1] Hi",
		"C a STARTTLS", "c a BAD STARTTLS is not offered", "C b LOGIN k s",
		"s b LOGIN k s", "S b OK", "c b OK", "x RR", NULL } },
	{ "IMAP: a server that binds channels", PUBLISH_IMAP, SECURE, false, {
		"! dial plain:143", "U", "S * OK [CAPABILITY AUTH=SCRAM-SHA-1 "
		"AUTH=PLAIN auth=scram-sha-256-plus AUTH=SCRAM-SHA-256 ID] Hi",
		"c * OK [CAPABILITY AUTH=PLAIN ID] Hi", NULL } },
	{ "IMAP in clear", PUBLISH_IMAP, MUST, false, { I_OPEN,
		"c * OK [CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED] Hi",
		"C a LOGIN kenji secret", "c a NO [PRIVACYREQUIRED] A login is "
		"possible inside TLS only; say STARTTLS first",
		"C b AUTHENTICATE PLAIN", "c b NO [PRIVACYREQUIRED] A login is "
		"possible inside TLS only; say STARTTLS first", "C c CAPABILITY",
		"s c CAPABILITY", "S * CAPABILITY LOGINDISABLED IMAP4rev1 "
		"AUTH=PLAIN\nc OK", "c * CAPABILITY IMAP4rev1 STARTTLS "
		"LOGINDISABLED\nc OK", "C d STARTTLS",
		"c d OK Begin TLS negotiation now", "! accept", NULL } },
	{ "IMAP: a literal of a login that is refused", PUBLISH_IMAP, MUST,
		false, { I_OPEN, "c * OK [CAPABILITY IMAP4rev1 STARTTLS "
		"LOGINDISABLED] Hi", "C a LOGIN {5}", "c a NO [PRIVACYREQUIRED] "
		"A login is possible inside TLS only; say STARTTLS first",
		"C b LOGIN {5+}", "! fail client-protocol",
		"c * BYE [UNAVAILABLE] mail.isp.example: command not understood "
		"(ref ID0)", NULL } },
	{ "IMAP in clear, where that may be", PUBLISH_IMAP, MAY, false, { I_OPEN,
		"c * OK [CAPABILITY IMAP4rev1 AUTH=PLAIN AUTH=SCRAM-SHA-1 "
		"STARTTLS] Hi", "C a LOGIN k s", "s a LOGIN k s",
		"S a OK [CAPABILITY IMAP4rev1 STARTTLS] in",
		"c a OK [CAPABILITY IMAP4rev1] in", "x RR", NULL } },
	{ "IMAP: a command behind STARTTLS", PUBLISH_IMAP, MUST, true, { I_OPEN,
		"c * OK [CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED] Hi",
		"C a STARTTLS\nb LOGIN k s", "! fail tls-injection",
		"c a NO [UNAVAILABLE] mail.isp.example: clear octets where TLS "
		"begins (ref ID0)", "c * BYE [UNAVAILABLE] mail.isp.example: "
		"clear octets where TLS begins (ref ID0)", NULL } },
	{ "IMAP behind STARTTLS", PUBLISH_IMAP, BEGUN, false, { I_OPEN, "x LL",
		"C a CAPABILITY", "s a CAPABILITY",
		"S * CAPABILITY IMAP4rev1 STARTTLS AUTH=PLAIN\na OK",
		"c * CAPABILITY IMAP4rev1 AUTH=PLAIN\na OK", "C b LOGIN k s",
		"s b LOGIN k s", "S b OK", "c b OK", "x RR", NULL } },
	{ "IMAP behind STARTTLS, PREAUTH", PUBLISH_IMAP, BEGUN, false, {
		"! dial plain:143", "U", "S * PREAUTH hi",
		"! fail server-greeting", "c * BYE [UNAVAILABLE] "
		"mail.isp.example: refuses service: * PREAUTH hi (ref ID0)",
		NULL } },
	{ "submission in TLS", PUBLISH_SMTP, SECURE, false, {
		"c 220 mail.isp.example ESMTP", "C EHLO pc", M_LIST,
		"c 250-mail.isp.example\n250-SIZE 1\n250 AUTH SCRAM-SHA-1 PLAIN",
		"C STARTTLS", "c 502 5.5.1 STARTTLS is not offered",
		"C MAIL FROM:<>", "c 530 5.7.0 Authentication required; set user "
		"name and password for outgoing mail (ref ID0)", "C XCLIENT x",
		"c 502 5.5.1 Command not implemented", NULL } },
	{ "submission: a server that binds channels", PUBLISH_SMTP, SECURE,
		false, { "c 220 mail.isp.example ESMTP", "C EHLO pc",
		"! dial plain:587", "U", "S 220 x", "s EHLO pc",
		"S 250-x\n250 AUTH SCRAM-SHA-1 SCRAM-SHA-1-PLUS LOGIN",
		"c 250-mail.isp.example\n250 AUTH LOGIN",
		"C AUTH SCRAM-SHA-1 eSws", "c 504 5.5.4 Mechanism is not offered "
		"here", NULL } },
	{ "submission in clear", PUBLISH_SMTP, MUST, false, {
		"c 220 mail.isp.example ESMTP", "C EHLO pc", M_LIST,
		"c 250-mail.isp.example\n250-SIZE 1\n250 STARTTLS",
		"C AUTH PLAIN AGEAYg==", "c 530 5.7.0 Must issue a STARTTLS "
		"command first (ref ID0)", "C MAIL FROM:<>",
		"c 530 5.7.0 Must issue a STARTTLS command first (ref ID0)",
		"C STARTTLS now", "c 503 5.5.1 STARTTLS is not possible here",
		"C STARTTLS", "c 220 2.0.0 Ready to start TLS", "! accept",
		NULL } },
	{ "submission in clear, where that may be", PUBLISH_SMTP, MAY, false, {
		"c 220 mail.isp.example ESMTP", "C EHLO pc", M_LIST,
		"c 250-mail.isp.example\n250-SIZE 1\n250-AUTH SCRAM-SHA-1 PLAIN\n"
		"250 STARTTLS", "C AUTH PLAIN AGEAYg==", "s AUTH PLAIN AGEAYg==",
		"S 235 ok", "c 235 ok", "C STARTTLS",
		"c 503 5.5.1 STARTTLS is not possible here", NULL } },
	{ "submission: a command behind STARTTLS", PUBLISH_SMTP, MUST, true, {
		"c 220 mail.isp.example ESMTP", "C EHLO pc", M_LIST,
		"c 250-mail.isp.example\n250-SIZE 1\n250 STARTTLS",
		"C STARTTLS\nRSET", "! fail tls-injection", "c 421 4.7.5 "
		"mail.isp.example: bytes stood behind STARTTLS (ref ID0)",
		NULL } },
	{ "submission behind STARTTLS", PUBLISH_SMTP, BEGUN, false, {
		"x LN", "C MAIL FROM:<>", "c 530 5.7.0 Authentication required; "
		"set user name and password for outgoing mail (ref ID0)",
		"C EHLO pc", M_LIST, "c 250-mail.isp.example\n250-SIZE 1\n"
		"250 AUTH SCRAM-SHA-1 PLAIN", "C STARTTLS",
		"c 502 5.5.1 STARTTLS is not offered", NULL } },
};

static void
machines(void **state)
{
	static void (*const init[PUBLISH_PROTOCOLS])(struct machine *m,
		const struct context *x) = { pop3_init, imap_init,
		smtp_submit_init };
	unsigned bad = 0;

	(void)state;
	for (size_t i = 0; i < 2 * N(dialogues); i++) {
		enum leg leg = dialogues[i / 2].leg;
		char hello[HELLO_MAX];
		struct context x = { .gateway = "gw1.isp.example",
			.hello = hello, .server = &behind, .id = "ID0", .is_published = true,
			.offers_tls = leg == MUST || leg == MAY,
			.needs_tls = leg == MUST, .greeted = leg == BEGUN };
		struct drive d;

		if (i % 2 == 1 && dialogues[i / 2].whole)
			continue;
		drive_open(&d);
		init[dialogues[i / 2].protocol](&d.m, &x);
		if (drive_play(&d, dialogues[i / 2].script, i % 2) == -1) {
			print_message("# %s, in pieces of %zu\n",
				dialogues[i / 2].name, i % 2);
			bad++;
		}
		drive_close(&d);
	}
	assert_int_equal(bad, 0);
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
		cmocka_unit_test(machines),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
