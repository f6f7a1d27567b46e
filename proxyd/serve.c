/*
 * serve.c - TLS towards the clients of published servers
 *
 * The certificate is chosen in the hello callback, before OpenSSL looks for a
 * session to resume: a session belongs to the place that was dialled, the name
 * that was asked for and the certificate that was shown, and its context, a
 * digest of the three, must be set by then. Tickets are stateless and sealed
 * with keys of our own, so that any relay takes what another has given, and so
 * that they end when the parent says so, not when a process does.
 *
 * load_pair() is the one place where a private key meets a context: whoever
 * takes keys out of the relays begins there. Until then a relay holds those of
 * all published names (THREATS.md).
 *
 * ALPN is not ignored: a hello that offers only other protocols is meant for
 * another kind of server, and is refused before anything of it could be taken
 * for mail.
 *
 * Called by relay.c and chan.c; serve_bundle() by the parent. The client
 * controls its hello, the name in it and any ticket; the files are the
 * operator's.
 */
#include "proxyd/serve.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf/conf.h"
#include "lib/log.h"
#include "proxyd/msg.h"

struct shown {			/* a certificate */
	SSL_CTX *ctx;
	uint8_t digest[SHA256_DIGEST_LENGTH];
};

struct group {			/* of the configuration */
	struct shown *shown;
};

struct serve {
	const struct conf *conf;
	struct group *group;
	struct ticket_key now, before;
	bool has_now, has_before;
};

static int ex_place = -1;	/* SSL -> struct publish_place */
static int ex_serve = -1;	/* SSL_CTX -> struct serve */

/* ---- the bundle ---- */

static bool
put(int fd, const void *p, size_t n)
{
	return write(fd, p, n) == (ssize_t)n;
}

static int
put_certificate(int fd, const struct certificate_conf *c)
{
	char *chain, *key, why[256];
	uint32_t len[2];
	bool ok;

	if (conf_certificate_pem(c, &chain, &key, why) != 0) {
		log_error("publish: %s", why);
		return -1;
	}
	len[0] = (uint32_t)strlen(chain);
	len[1] = (uint32_t)strlen(key);
	ok = put(fd, len, sizeof(len)) && put(fd, chain, len[0]) &&
		put(fd, key, len[1]);
	if (!ok)
		log_error("publish: memory for keys: %s", strerror(errno));
	explicit_bzero(chain, len[0]);	/* a key may be in it */
	explicit_bzero(key, len[1]);
	free(chain);
	free(key);
	return ok ? 0 : -1;
}

int
serve_bundle(const struct conf *conf)
{
	int fd = memfd_create("sallyport-keys", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int rc = 0;

	if (fd < 0 || fchmod(fd, 0600) != 0) {
		log_error("publish: memory for keys: %s", strerror(errno));
		rc = -1;
	}
	for (size_t i = 0; rc == 0 && i < conf->npublish; i++)
		for (size_t k = 0; rc == 0 && k < conf->publish[i].ncertificates;
			k++)
			rc = put_certificate(fd,
				&conf->publish[i].certificates[k]);
	if (rc == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW |
			F_SEAL_WRITE | F_SEAL_SEAL) == 0)
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

/* ---- tickets ---- */

static int
with_key(const struct ticket_key *key, const unsigned char *iv,
	EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int enc)
{
	char digest[] = "SHA256";
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY,
			(void *)(uintptr_t)key->mac, sizeof(key->mac)),
		OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest,
			0),
		OSSL_PARAM_construct_end(),
	};

	return EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), NULL, key->cipher,
		iv, enc) == 1 && EVP_MAC_CTX_set_params(mac, params) == 1;
}

/* As OpenSSL wants it: 1 taken, 2 taken and to be replaced, 0 not known (a full
 * handshake), -1 failed. */
static int
on_ticket(SSL *ssl, unsigned char *name, unsigned char *iv,
	EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int enc)
{
	const struct serve *v = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl),
		ex_serve);

	if (enc) {
		if (!v->has_now)
			return 0;
		memcpy(name, v->now.name, sizeof(v->now.name));
		if (RAND_bytes(iv, EVP_CIPHER_get_iv_length(
				EVP_aes_256_cbc())) != 1)
			return -1;
		return with_key(&v->now, iv, cipher, mac, 1) ? 1 : -1;
	}
	if (v->has_now && memcmp(name, v->now.name, sizeof(v->now.name)) == 0)
		return with_key(&v->now, iv, cipher, mac, 0) ? 1 : -1;
	if (v->has_before && memcmp(name, v->before.name,
			sizeof(v->before.name)) == 0)
		return with_key(&v->before, iv, cipher, mac, 0) ? 2 : -1;
	return 0;
}

void
serve_ticket_key(struct serve *v, const struct ticket_key *key, bool is_before)
{
	if (is_before) {
		v->before = *key;
		v->has_before = true;
		return;
	}
	if (v->has_now && memcmp(key->name, v->now.name,
			sizeof(key->name)) == 0)
		return;		/* heard already */
	if (v->has_now) {
		v->before = v->now;
		v->has_before = true;
	}
	v->now = *key;
	v->has_now = true;
}

/* ---- the client's hello ---- */

/* The host name asked for (RFC 6066 section 3), in lower case; "": none. */
static void
name_asked(SSL *ssl, char name[256])
{
	const unsigned char *p;
	size_t n, len;

	name[0] = '\0';
	if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &p, &n) !=
		1 || n < 5 || p[2] != TLSEXT_NAMETYPE_host_name)
		return;
	len = (size_t)p[3] << 8 | p[4];
	if (len > n - 5 || len > 255 || memchr(p + 5, '\0', len) != NULL)
		return;
	for (size_t i = 0; i < len; i++)
		name[i] = (char)(p[5 + i] >= 'A' && p[5 + i] <= 'Z' ?
			p[5 + i] - 'A' + 'a' : p[5 + i]);
	name[len] = '\0';
}

/* What a session may be resumed for. */
static int
set_context(SSL *ssl, const struct publish_place *place, const char *name,
	const struct shown *shown)
{
	uint8_t id[SHA256_DIGEST_LENGTH];
	char at[ADDR_STRLEN];
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	int ok;

	addr_format_port(&place->at, at);
	ok = md != NULL && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1 &&
		EVP_DigestUpdate(md, at, strlen(at) + 1) == 1 &&
		EVP_DigestUpdate(md, name, strlen(name) + 1) == 1 &&
		EVP_DigestUpdate(md, shown->digest, sizeof(shown->digest)) ==
			1 && EVP_DigestFinal_ex(md, id, NULL) == 1 &&
		SSL_set_session_id_context(ssl, id, sizeof(id)) == 1;
	EVP_MD_CTX_free(md);
	return ok;
}

static int
on_hello(SSL *ssl, int *alert, void *arg)
{
	const struct publish_place *place = SSL_get_ex_data(ssl, ex_place);
	const struct serve *v = arg;
	const struct shown *shown = v->group[place->publish].shown;
	char name[256];
	int which;

	name_asked(ssl, name);
	which = conf_certificate_for(&v->conf->publish[place->publish], name);
	shown += which == -1 ? 0 : which;
	if (SSL_set_SSL_CTX(ssl, shown->ctx) != NULL &&
		set_context(ssl, place, name, shown))
		return SSL_CLIENT_HELLO_SUCCESS;
	*alert = SSL_AD_INTERNAL_ERROR;
	return SSL_CLIENT_HELLO_ERROR;
}

/* IANA has pop3 and imap; some programs say smtp. */
static int
on_alpn(SSL *ssl, const unsigned char **out, unsigned char *outlen,
	const unsigned char *in, unsigned inlen, void *arg)
{
	static const char *const protocol[PUBLISH_PROTOCOLS] = { "pop3", "imap",
		"smtp" };
	const struct publish_place *place = SSL_get_ex_data(ssl, ex_place);
	const char *want = protocol[publish_protocol(place->service)];

	(void)arg;
	for (unsigned i = 0; i < inlen && i + 1 + in[i] <= inlen; i += 1 + in[i])
		if (in[i] == strlen(want) && memcmp(in + i + 1, want,
				in[i]) == 0) {
			*out = in + i + 1;
			*outlen = in[i];
			return SSL_TLSEXT_ERR_OK;
		}
	return SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* ---- contexts ---- */

static int
no_passphrase(char *out, int size, int writing, void *arg)
{
	(void)out;
	(void)size;
	(void)writing;
	(void)arg;
	return -1;
}

/* The certificate, its chain and its private key, into the context. */
static bool
load_pair(struct shown *s, BIO *chain, BIO *key)
{
	X509 *cert = PEM_read_bio_X509(chain, NULL, no_passphrase, NULL), *next;
	EVP_PKEY *secret = PEM_read_bio_PrivateKey(key, NULL, no_passphrase,
		NULL);
	bool ok = cert != NULL && secret != NULL &&
		SSL_CTX_use_certificate(s->ctx, cert) == 1 &&
		SSL_CTX_use_PrivateKey(s->ctx, secret) == 1 &&
		SSL_CTX_check_private_key(s->ctx) == 1 &&
		X509_digest(cert, EVP_sha256(), s->digest, NULL) == 1;

	while (ok && (next = PEM_read_bio_X509(chain, NULL, no_passphrase,
			NULL)) != NULL)
		if (SSL_CTX_add0_chain_cert(s->ctx, next) != 1) {
			X509_free(next);
			ok = false;
		}
	X509_free(cert);
	EVP_PKEY_free(secret);
	if (ok)
		ERR_clear_error();	/* the end of the file is one */
	return ok;
}

static SSL_CTX *
context_new(struct serve *v)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());

	if (ctx == NULL || SSL_CTX_set_ex_data(ctx, ex_serve, v) != 1) {
		SSL_CTX_free(ctx);
		return NULL;
	}
	SSL_CTX_set_min_proto_version(ctx, (int)v->conf->tls_min_client);
	SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS |
		SSL_MODE_ENABLE_PARTIAL_WRITE |
		SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION |
		SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE |
		SSL_OP_PRIORITIZE_CHACHA);
	SSL_CTX_set_ciphersuites(ctx, "TLS_AES_128_GCM_SHA256:"
		"TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256");
	SSL_CTX_set1_groups_list(ctx, "X25519:P-256:P-384");
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	/* no longer than both keys are known */
	SSL_CTX_set_timeout(ctx, v->conf->ticket_time);
	SSL_CTX_set_client_hello_cb(ctx, on_hello, v);
	SSL_CTX_set_alpn_select_cb(ctx, on_alpn, NULL);
	SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, on_ticket);
	return ctx;
}

/* One of the bundle; *at moves behind it. */
static bool
shown_load(struct serve *v, struct shown *s, const uint8_t *p, size_t n,
	size_t *at)
{
	uint32_t len[2];
	BIO *chain, *key;
	bool ok = false;

	if (n - *at < sizeof(len))
		return false;
	memcpy(len, p + *at, sizeof(len));
	*at += sizeof(len);
	if (len[0] > n - *at || len[1] > n - *at - len[0])
		return false;
	s->ctx = context_new(v);
	chain = BIO_new_mem_buf(p + *at, (int)len[0]);
	key = BIO_new_mem_buf(p + *at + len[0], (int)len[1]);
	if (s->ctx != NULL && chain != NULL && key != NULL)
		ok = load_pair(s, chain, key);
	BIO_free(chain);
	BIO_free(key);
	*at += (size_t)len[0] + len[1];
	return ok;
}

static bool
load_all(struct serve *v, const uint8_t *p, size_t n)
{
	const struct conf *c = v->conf;
	size_t at = 0;
	char words[256];

	for (size_t i = 0; i < c->npublish; i++) {
		struct group *g = &v->group[i];

		g->shown = calloc(c->publish[i].ncertificates,
			sizeof(*g->shown));
		for (size_t k = 0; k < c->publish[i].ncertificates; k++) {
			if (g->shown != NULL &&
				shown_load(v, &g->shown[k], p, n, &at))
				continue;
			ERR_error_string_n(ERR_get_error(), words,
				sizeof(words));
			log_error("publish: certificate %s: %s",
				c->publish[i].certificates[k].chain, words);
			return false;
		}
	}
	return true;
}

struct serve *
serve_new(const struct conf *conf, int bundle)
{
	struct serve *v = calloc(1, sizeof(*v));
	off_t n = lseek(bundle, 0, SEEK_END);
	void *p;
	bool ok;

	if (ex_place == -1)
		ex_place = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
	if (ex_serve == -1)
		ex_serve = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, NULL);
	if (v == NULL || n <= 0 || ex_place == -1 || ex_serve == -1 ||
		(v->group = calloc(conf->npublish, sizeof(*v->group))) == NULL)
		goto fail;
	v->conf = conf;
	p = mmap(NULL, (size_t)n, PROT_READ, MAP_PRIVATE, bundle, 0);
	if (p == MAP_FAILED)
		goto fail;
	ok = load_all(v, p, (size_t)n);
	munmap(p, (size_t)n);
	if (ok)
		return v;
fail:
	if (v != NULL && v->group == NULL)
		free(v);
	else
		serve_free(&v);
	return NULL;
}

void
serve_free(struct serve **v)
{
	const struct conf *c;

	if (*v == NULL)
		return;
	c = (*v)->conf;
	for (size_t i = 0; i < c->npublish; i++) {
		struct shown *s = (*v)->group[i].shown;

		for (size_t k = 0; s != NULL && k < c->publish[i].ncertificates;
			k++)
			SSL_CTX_free(s[k].ctx);
		free(s);
	}
	free((*v)->group);
	explicit_bzero(*v, sizeof(**v));
	free(*v);
	*v = NULL;
}

/* ---- a connection ---- */

SSL *
serve_open(struct serve *v, const struct publish_place *place, BIO *bio)
{
	SSL *ssl = SSL_new(v->group[place->publish].shown[0].ctx);

	if (ssl == NULL || SSL_set_ex_data(ssl, ex_place,
			(void *)(uintptr_t)place) != 1) {
		SSL_free(ssl);
		BIO_free(bio);
		return NULL;
	}
	SSL_set_bio(ssl, bio, bio);
	SSL_set_accept_state(ssl);
	return ssl;
}

void
serve_failure(char *why, size_t cap)
{
	unsigned long code = ERR_peek_last_error();
	const char *words = code == 0 ? NULL : ERR_reason_error_string(code);

	snprintf(why, cap, "%s", words != NULL ? words :
		"connection closed during the handshake");
	ERR_clear_error();
}
