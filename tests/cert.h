/*
 * cert.h - a key, and a certificate that vouches for itself
 */
#ifndef SALLYPORT_TESTS_CERT_H
#define SALLYPORT_TESTS_CERT_H

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

/* For name, good for an hour. */
static inline void
cert_make(const char *name, EVP_PKEY **key_r, X509 **cert_r)
{
	char alternative[256];
	X509_EXTENSION *names;
	X509 *cert = X509_new();
	EVP_PKEY *key = EVP_EC_gen("P-256");

	snprintf(alternative, sizeof(alternative), "DNS:%s", name);
	names = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name,
		alternative);
	assert_non_null(key);
	assert_non_null(cert);
	assert_non_null(names);
	X509_set_version(cert, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(cert), 25);
	X509_gmtime_adj(X509_getm_notBefore(cert), -60);
	X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
	X509_set_pubkey(cert, key);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN",
		MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0);
	X509_set_issuer_name(cert, X509_get_subject_name(cert));
	X509_add_ext(cert, names, -1);
	X509_EXTENSION_free(names);
	assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
	*key_r = key;
	*cert_r = cert;
}

/* A server that shows it; and the file at path (mkstemp(3)) holds whom to
 * trust. */
static inline SSL_CTX *
cert_server(char *path, EVP_PKEY *key, X509 *cert)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
	int fd = mkstemp(path);
	FILE *f = fdopen(fd, "w");

	assert_non_null(f);
	PEM_write_X509(f, cert);
	fclose(f);
	assert_non_null(ctx);
	SSL_CTX_use_certificate(ctx, cert);
	SSL_CTX_use_PrivateKey(ctx, key);
	SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"t", 1);
	return ctx;
}

#endif
