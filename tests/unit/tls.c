/*
 * tls.c - unit tests of proxyd/tls.c against a server in memory
 *
 * A key and a certificate made on the spot, OpenSSL's server at the other end
 * of a BIO pair. What must hold: no name but the certificate's is accepted,
 * also right behind a good session; only verified sessions leave tickets, each
 * for its own server and address; many addresses do not fill the memory; a
 * revocation list and pins are asked in addition to the name.
 */
#include "proxyd/tls.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "conf/conf.h"
#include "tests/cert.h"

#define NAME "mail.isp.example"

static EVP_PKEY *key;
static X509 *cert;
static SSL_CTX *server;
static char **pins;		/* of the server that visit() dials */
static size_t npins;
static char words[160];		/* what visit() heard of a refusal */
static bool blamed;		/* ... and was it the certificate? */
static char trust[] = "/tmp/sallyport-tls-XXXXXX";

static int
setup(void **state)
{
	(void)state;
	cert_make(NAME, &key, &cert);
	server = cert_server(trust, key, cert);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	unlink(trust);
	SSL_CTX_free(server);
	X509_free(cert);
	EVP_PKEY_free(key);
	return 0;
}

static struct addr
host(unsigned n)
{
	struct addr a = { .family = 2, .port = 465 };

	a.ip[0] = 203;
	a.ip[2] = (uint8_t)(n >> 8);
	a.ip[3] = (uint8_t)n;
	return a;
}

enum outcome { REFUSED, FULL, RESUMED };

/* One session: handshake and the tickets behind it. */
static enum outcome
visit(struct tls *t, const char *name, unsigned index, struct addr to)
{
	BIO *near, *far;
	enum outcome outcome = REFUSED;
	char why[160];
	uint8_t octet;

	const struct server_conf known = { .name = (char *)(uintptr_t)name,
		.pins = pins, .npins = npins };

	assert_int_equal(BIO_new_bio_pair(&near, 1 << 20, &far, 1 << 20), 1);
	SSL *client = tls_open(t, &known, name, index, &to, near);
	SSL *other = SSL_new(server);
	assert_non_null(client);
	assert_non_null(other);
	SSL_set_bio(other, far, far);
	SSL_set_accept_state(other);
	for (int i = 0; i < 10; i++) {
		ERR_clear_error();
		int a = SSL_do_handshake(client);
		if (a == -1 && SSL_get_error(client, a) == SSL_ERROR_SSL) {
			tls_failure(t, client, words, sizeof(words), &blamed);
			break;
		}
		int b = SSL_do_handshake(other);

		if (a == 1 && b == 1) {
			(void)SSL_read(client, &octet, 1);
			if (tls_verified(client, why, sizeof(why)) == 0)
				outcome = SSL_session_reused(client) ?
					RESUMED : FULL;
			break;
		}
	}
	tls_close(&client);
	SSL_set_shutdown(other, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
	SSL_free(other);
	return outcome;
}

static struct tls *
make(void)
{
	struct tls *t = tls_new(trust, NULL, TLS1_2_VERSION);

	assert_non_null(t);
	return t;
}

static void
each_on_its_own(int version)
{
	struct tls *t = make();

	SSL_CTX_set_min_proto_version(server, version);
	SSL_CTX_set_max_proto_version(server, version);
	assert_int_equal(visit(t, NAME, 0, host(1)), FULL);
	for (int i = 0; i < 5; i++)
		assert_int_equal(visit(t, NAME, 0, host(1)), RESUMED);
	/* Another address, another port, another server: nothing shared. */
	struct addr port = host(1);
	port.port = 995;
	assert_int_equal(visit(t, NAME, 0, host(2)), FULL);
	assert_int_equal(visit(t, NAME, 0, port), FULL);
	assert_int_equal(visit(t, NAME, 1, host(1)), FULL);
	tls_free(&t);
	assert_null(t);
}

static void
tickets(void **state)
{
	(void)state;
	each_on_its_own(TLS1_2_VERSION);
	each_on_its_own(TLS1_3_VERSION);
}

static void
wrong_name(void **state)
{
	(void)state;
	SSL_CTX_set_min_proto_version(server, TLS1_2_VERSION);
	for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION;
		version++) {
		struct tls *t = make();

		SSL_CTX_set_max_proto_version(server, version);
		assert_int_equal(visit(t, "pop.isp.example", 7, host(1)),
			REFUSED);
		assert_int_equal(tls_tickets(t), 0);
		/* With a good ticket, but for another name. */
		assert_int_equal(visit(t, NAME, 0, host(1)), FULL);
		assert_int_equal(visit(t, NAME, 0, host(1)), RESUMED);
		assert_int_equal(visit(t, "pop.isp.example", 0, host(1)),
			REFUSED);
		tls_free(&t);
	}
}

static void
bounded(void **state)
{
	struct tls *t = make();
	size_t most = 0;

	(void)state;
	SSL_CTX_set_min_proto_version(server, TLS1_3_VERSION);
	SSL_CTX_set_max_proto_version(server, TLS1_3_VERSION);
	SSL_CTX_set_num_tickets(server, 200);
	for (unsigned i = 0; i < 40; i++) {
		assert_int_equal(visit(t, NAME, 0, host(i)), FULL);
		assert_int_equal(visit(t, NAME, 0, host(i)), RESUMED);
		most = tls_tickets(t) > most ? tls_tickets(t) : most;
	}
	assert_in_range(most, 4096, 4096 + 40);
	/* The first and the last still resume. */
	assert_int_equal(visit(t, NAME, 0, host(0)), RESUMED);
	assert_int_equal(visit(t, NAME, 0, host(39)), RESUMED);
	SSL_CTX_set_num_tickets(server, 2);
	tls_free(&t);
}

static void
pinned(void **state)
{
	/* 44 characters of base64 for the key's SHA-256, and one of nobody. */
	char right[64] = "sha256/";
	char nobody[] = "sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
	char *spare[] = { nobody, right }, *wrong[] = { nobody, nobody };
	unsigned char digest[32], *der = NULL;
	struct tls *t = make();

	(void)state;
	int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &der);
	assert_true(len > 0);
	assert_int_equal(EVP_Q_digest(NULL, "SHA256", NULL, der, (size_t)len,
		digest, NULL), 1);
	OPENSSL_free(der);
	EVP_EncodeBlock((unsigned char *)right + 7, digest, 32);
	SSL_CTX_set_max_proto_version(server, TLS1_3_VERSION);
	npins = 2;
	pins = wrong;
	assert_int_equal(visit(t, NAME, 0, host(1)), REFUSED);
	assert_true(blamed);
	assert_non_null(strstr(words, "no key of the chain is pinned; it is "
		"/CN=" NAME ", 2"));
	assert_int_equal(tls_tickets(t), 0);
	pins = spare;
	assert_int_equal(visit(t, NAME, 0, host(1)), FULL);
	assert_int_equal(visit(t, NAME, 0, host(1)), RESUMED);
	/* Pins come on top of the name, they do not replace it. */
	assert_int_equal(visit(t, "pop.isp.example", 1, host(1)), REFUSED);
	assert_non_null(strstr(words, "ostname mismatch"));
	npins = 0;
	tls_free(&t);
}

static void
old_version(void **state)
{
	struct tls *t = tls_new(trust, NULL, TLS1_3_VERSION);

	(void)state;
	assert_non_null(t);
	SSL_CTX_set_min_proto_version(server, TLS1_2_VERSION);
	SSL_CTX_set_max_proto_version(server, TLS1_2_VERSION);
	assert_int_equal(visit(t, NAME, 0, host(1)), REFUSED);
	SSL_CTX_set_max_proto_version(server, TLS1_3_VERSION);
	assert_int_equal(visit(t, NAME, 0, host(1)), FULL);
	tls_free(&t);
}

static X509_CRL *
make_list(bool revokes, long ends)
{
	X509_CRL *list = X509_CRL_new();
	ASN1_TIME *time = ASN1_TIME_new();

	assert_non_null(list);
	assert_non_null(time);
	X509_CRL_set_version(list, 1);
	X509_CRL_set_issuer_name(list, X509_get_subject_name(cert));
	X509_gmtime_adj(time, -7200);
	X509_CRL_set1_lastUpdate(list, time);
	if (revokes) {
		X509_REVOKED *one = X509_REVOKED_new();

		X509_REVOKED_set_serialNumber(one,
			X509_get_serialNumber(cert));
		X509_REVOKED_set_revocationDate(one, time);
		X509_CRL_add0_revoked(list, one);
	}
	X509_gmtime_adj(time, ends);
	X509_CRL_set1_nextUpdate(list, time);
	ASN1_TIME_free(time);
	assert_true(X509_CRL_sign(list, key, EVP_sha256()) > 0);
	return list;
}

static void
revoked(void **state)
{
	static const struct {
		const char *name;
		bool revokes;
		long ends;
		const char *want;	/* NULL: accepted */
	} rows[] = {
		{ "not on the list", false, 3600, NULL },
		{ "on the list", true, 3600, "certificate revoked; it is /CN=" },
		{ "old list", false, -60, "CRL has expired; it is /CN=" },
	};
	char path[] = "/tmp/sallyport-crl-XXXXXX";
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		X509_CRL *list = make_list(rows[i].revokes, rows[i].ends);
		FILE *f = fopen(path, "w");

		print_message("# %s\n", rows[i].name);
		assert_non_null(f);
		PEM_write_X509_CRL(f, list);
		fclose(f);
		X509_CRL_free(list);
		struct tls *t = tls_new(trust, path, TLS1_2_VERSION);
		assert_non_null(t);
		assert_int_equal(visit(t, NAME, 0, host(1)),
			rows[i].want == NULL ? FULL : REFUSED);
		if (rows[i].want != NULL) {
			assert_true(blamed);
			assert_non_null(strstr(words, rows[i].want));
			assert_int_equal(tls_tickets(t), 0);
		}
		tls_free(&t);
	}
	close(fd);
	/* A file that is there for the check and gone for the relay. */
	unlink(path);
	assert_null(tls_new(trust, path, TLS1_2_VERSION));
}


/* A server that ends the handshake over a protocol it does not know. */
static int
refuse_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_len,
	const unsigned char *in, unsigned in_len, void *arg)
{
	(void)ssl;
	(void)out;
	(void)out_len;
	(void)arg;
	assert_int_equal(in_len, 5);
	assert_memory_equal(in, "\4imap", 5);
	return SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* One handshake with an offer, or without. true: it stands. */
static bool
try_offer(struct tls *t, struct addr to, bool offer, bool never, bool *again_r)
{
	const struct server_conf named = { .name = (char[]){ NAME } };
	BIO *near, *far;
	char why[160];
	bool certificate, stands = false;
	SSL *other = SSL_new(server), *client;

	assert_int_equal(BIO_new_bio_pair(&near, 1 << 20, &far, 1 << 20), 1);
	client = tls_open(t, &named, NAME, 0, &to, near);
	assert_non_null(client);
	if (offer)
		tls_offer(client, "imap");
	SSL_set_bio(other, far, far);
	SSL_set_accept_state(other);
	for (int i = 0; i < 10 && !stands; i++) {
		ERR_clear_error();
		int a = SSL_do_handshake(client);
		int b = SSL_do_handshake(other);

		stands = a == 1 && b == 1;
	}
	if (stands)
		assert_int_equal(tls_verified(client, why, sizeof(why)), 0);
	else
		tls_failure(t, client, why, sizeof(why), &certificate);
	*again_r = tls_offer_failed(client);
	if (never)
		tls_offer_never(client);
	tls_close(&client);
	SSL_set_shutdown(other, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
	SSL_free(other);
	return stands;
}

static void
offers(void **state)
{
	struct tls *t = make();
	bool again;

	(void)state;
	/* ignored by who does not know it */
	assert_true(try_offer(t, host(1), true, false, &again));
	assert_false(again);
	SSL_CTX_set_alpn_select_cb(server, refuse_protocol, NULL);
	/* who has taken it once is down today, not refusing */
	assert_false(try_offer(t, host(1), true, false, &again));
	assert_false(again);
	/* refused: without it goes, and later ones do without */
	assert_false(try_offer(t, host(2), true, false, &again));
	assert_true(again);
	assert_true(try_offer(t, host(2), false, true, &again));
	assert_true(try_offer(t, host(2), true, false, &again));
	assert_false(again);
	SSL_CTX_set_alpn_select_cb(server, NULL, NULL);
	tls_free(&t);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tickets),
		cmocka_unit_test(wrong_name),
		cmocka_unit_test(bounded),
		cmocka_unit_test(pinned),
		cmocka_unit_test(old_version),
		cmocka_unit_test(revoked),

		cmocka_unit_test(offers),
	};

	return cmocka_run_group_tests_name("tls", tests, setup, teardown);
}
