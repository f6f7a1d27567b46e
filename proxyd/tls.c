/*
 * tls.c - TLS towards mail servers: verified by name, resumed by ticket
 *
 * A TLS 1.3 session is spent by one handshake (OpenSSL 3.0), so tickets wait in
 * a FIFO per server name, address and port; the last one is duplicated before
 * use, never given away. OpenSSL lets an unverified session resume under
 * VERIFY_PEER, which is why the key carries the name, why only verified
 * sessions are stored, and why the certificate in a resumed session is checked
 * for name and dates again. Revocation lists and pins are checked inside the
 * full handshake, so no ticket exists of a server that failed them; a reload
 * brings new lists, new relays and with them an empty store. SSL_free without
 * a shutdown state would kill the ticket it has just stored: tls_close sets it.
 *
 * ALPN is offered until a server ends a handshake over it: what the same server
 * takes without is remembered for the life of this process.
 *
 * The server controls the certificate chain and the tickets; the client
 * controls nothing here.
 */
#include "proxyd/tls.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "conf/conf.h"
#include "lib/log.h"

/* PERFORMANCE.md: a FIFO of up to 256 single-use sessions per server. */
#define TICKETS_MAX 256
/* DESIGN.md section 8: a ticket is used within 24 hours. */
#define TICKET_SECONDS (24 * 3600)
/* Server and address pairs remembered. */
#define STORES_MAX 1024
/* Of all together: a ticket keeps its server's chain, some kilobytes, and who
 * dials chooses among all addresses of a server. */
#define TICKETS_ALL 4096

/* What is known of a server and ALPN. */
enum alpn { ALPN_UNTRIED, ALPN_TAKEN, ALPN_REFUSED };

struct store {
	struct tls *tls;
	enum alpn alpn;
	unsigned server;
	struct addr to;
	unsigned first, n;
	SSL_SESSION *ticket[TICKETS_MAX];
};

struct tls {
	SSL_CTX *ctx;
	struct store *store[STORES_MAX];
	size_t tickets;		/* in all stores */
	char refused[112];	/* the certificate refused last: subject, dates;
				 * read in the same turn of the loop */
};

static int ex_store = -1;	/* SSL -> struct store, for new tickets */
static int ex_server = -1;	/* SSL -> struct server_conf, for pins */
static int ex_tls = -1;		/* SSL_CTX -> struct tls */
static int ex_offer = -1;	/* SSL -> anything: ALPN is in its hello */

static struct store *
store_find(struct tls *t, unsigned server, const struct addr *to)
{
	/* Any spread will do: few servers, and no outsider chooses them. */
	unsigned h = server * 31u + to->port;

	for (int i = 0; i < 16; i++)
		h = h * 33u + to->ip[i];
	for (unsigned i = 0; i < 8; i++) {
		struct store **s = &t->store[(h + i) % STORES_MAX];

		if (*s == NULL) {
			*s = calloc(1, sizeof(**s));
			if (*s != NULL) {
				(*s)->tls = t;
				(*s)->server = server;
				(*s)->to = *to;
			}
			return *s;
		}
		if ((*s)->server == server && (*s)->to.port == to->port &&
		    addr_same_host(&(*s)->to, to))
			return *s;
	}
	/* A full neighbourhood: this server goes without resumption. */
	return NULL;
}

static SSL_SESSION *
store_take(struct store *s)
{
	SSL_SESSION *ticket = s->ticket[s->first];

	s->first = (s->first + 1) % TICKETS_MAX;
	s->n--;
	s->tls->tickets--;
	return ticket;
}

static void
store_push(struct store *s, SSL_SESSION *ticket)
{
	/* Beyond the common bound each store keeps what it has, one at least. */
	if (s->n == TICKETS_MAX || (s->n > 0 && s->tls->tickets >= TICKETS_ALL))
		SSL_SESSION_free(store_take(s));
	s->ticket[(s->first + s->n) % TICKETS_MAX] = ticket;
	s->n++;
	s->tls->tickets++;
}

static bool
is_fresh(const SSL_SESSION *ticket)
{
	long age = (long)time(NULL) - SSL_SESSION_get_time(ticket);
	long limit = SSL_SESSION_get_timeout(ticket);

	return age >= 0 && age < limit && age < TICKET_SECONDS;
}

/* The oldest usable ticket, now the caller's; NULL: none. The last one stays
 * and a copy of it is given away. */
static SSL_SESSION *
store_pop(struct store *s)
{
	while (s->n > 0) {
		SSL_SESSION *ticket = s->ticket[s->first];
		bool fresh = is_fresh(ticket);

		if (fresh && s->n == 1)
			return SSL_SESSION_dup(ticket);
		(void)store_take(s);
		if (fresh)
			return ticket;
		SSL_SESSION_free(ticket);
	}
	return NULL;
}

static int
on_new_ticket(SSL *ssl, SSL_SESSION *ticket)
{
	struct store *s = SSL_get_ex_data(ssl, ex_store);

	if (s == NULL || SSL_get_verify_result(ssl) != X509_V_OK ||
	    !SSL_SESSION_is_resumable(ticket))
		return 0;
	store_push(s, ticket);
	return 1;	/* the reference is ours */
}

/* ---- what is verified inside a handshake ---- */

static bool
is_pinned(const struct server_conf *server, X509 *cert)
{
	unsigned char digest[SHA256_DIGEST_LENGTH];
	unsigned char base64[45];
	unsigned char *der = NULL;
	int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &der);

	if (len <= 0)
		return false;
	SHA256(der, (size_t)len, digest);
	OPENSSL_free(der);
	EVP_EncodeBlock(base64, digest, sizeof(digest));
	for (size_t i = 0; i < server->npins; i++)
		if (strcmp(server->pins[i] + strlen("sha256/"),
			(const char *)base64) == 0)
			return true;
	return false;
}

/* RFC 7469 section 2.6: any key of the verified chain may be the pinned one. */
static bool
has_pin(const struct server_conf *server, X509_STORE_CTX *ctx)
{
	const STACK_OF(X509) *chain = X509_STORE_CTX_get0_chain(ctx);

	for (int i = 0; i < sk_X509_num(chain); i++)
		if (is_pinned(server, sk_X509_value(chain, i)))
			return true;
	return false;
}

/* "CN=mail.isp.example, 2026-01-01 to 2026-04-01": remote text, escaped by
 * whoever writes the log. */
static void
remember_refused(struct tls *t, X509 *cert)
{
	struct tm from = { 0 }, to = { 0 };
	char subject[72] = "", first[16], last[16];

	if (cert == NULL || X509_NAME_oneline(X509_get_subject_name(cert),
		subject, sizeof(subject)) == NULL)
		return;
	ASN1_TIME_to_tm(X509_get0_notBefore(cert), &from);
	ASN1_TIME_to_tm(X509_get0_notAfter(cert), &to);
	strftime(first, sizeof(first), "%Y-%m-%d", &from);
	strftime(last, sizeof(last), "%Y-%m-%d", &to);
	snprintf(t->refused, sizeof(t->refused), "%s, %s to %s", subject, first,
		last);
}

/*
 * OpenSSL asks for every certificate of the chain, the server's own last. An
 * issuer without a revocation list is not checked: the file holds the lists
 * that the operator has, not those of every authority in the world.
 */
static int
on_verify(int ok, X509_STORE_CTX *ctx)
{
	SSL *ssl = X509_STORE_CTX_get_ex_data(ctx,
		SSL_get_ex_data_X509_STORE_CTX_idx());
	const struct server_conf *server = SSL_get_ex_data(ssl, ex_server);
	int error = X509_STORE_CTX_get_error(ctx);

	if (!ok && error == X509_V_ERR_UNABLE_TO_GET_CRL) {
		X509_STORE_CTX_set_error(ctx, X509_V_OK);
		return 1;
	}
	if (ok && X509_STORE_CTX_get_error_depth(ctx) == 0 &&
	    server->npins > 0 && !has_pin(server, ctx)) {
		X509_STORE_CTX_set_error(ctx,
			X509_V_ERR_APPLICATION_VERIFICATION);
		ok = 0;
	}
	/* any is taken; tls_chain tells what is wrong with it */
	if (server->is_opportune)
		return 1;
	if (!ok)
		remember_refused(SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl),
			ex_tls), X509_STORE_CTX_get_current_cert(ctx));
	return ok;
}

static const char *
verdict_words(long verdict)
{
	return verdict == X509_V_ERR_APPLICATION_VERIFICATION ?
		"no key of the chain is pinned" :
		X509_verify_cert_error_string(verdict);
}

/* ---- the context ---- */

static bool
load_trust(SSL_CTX *ctx, const char *trust)
{
	char words[256];

	if (SSL_CTX_load_verify_file(ctx, trust) == 1)
		return true;
	ERR_error_string_n(ERR_get_error(), words, sizeof(words));
	log_error("cannot load trusted certificates from %s: %s", trust, words);
	return false;
}

static bool
load_crl(SSL_CTX *ctx, const char *crl)
{
	X509_STORE *store = SSL_CTX_get_cert_store(ctx);
	X509_LOOKUP *lookup;
	char words[256];

	if (crl == NULL)
		return true;
	lookup = X509_STORE_add_lookup(store, X509_LOOKUP_file());
	if (lookup != NULL &&
	    X509_load_crl_file(lookup, crl, X509_FILETYPE_PEM) > 0)
		return X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK |
			X509_V_FLAG_CRL_CHECK_ALL) == 1;
	ERR_error_string_n(ERR_get_error(), words, sizeof(words));
	log_error("cannot load revocation lists from %s: %s", crl, words);
	return false;
}

static bool
have_indexes(void)
{
	if (ex_store == -1)
		ex_store = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
	if (ex_server == -1)
		ex_server = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
	if (ex_offer == -1)
		ex_offer = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
	if (ex_tls == -1)
		ex_tls = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, NULL);
	return ex_store != -1 && ex_server != -1 && ex_offer != -1 &&
		ex_tls != -1;
}

struct tls *
tls_new(const char *trust, const char *crl, unsigned min_version)
{
	struct tls *t = calloc(1, sizeof(*t));

	if (t == NULL)
		return NULL;
	t->ctx = SSL_CTX_new(TLS_client_method());
	if (t->ctx == NULL || !have_indexes() ||
	    SSL_CTX_set_ex_data(t->ctx, ex_tls, t) != 1 ||
	    !load_trust(t->ctx, trust) || !load_crl(t->ctx, crl))
		goto fail;
	SSL_CTX_set_min_proto_version(t->ctx, (int)min_version);
	SSL_CTX_set_verify(t->ctx, SSL_VERIFY_PEER, on_verify);
	SSL_CTX_set_mode(t->ctx, SSL_MODE_RELEASE_BUFFERS |
		SSL_MODE_ENABLE_PARTIAL_WRITE |
		SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_options(t->ctx, SSL_OP_NO_RENEGOTIATION |
		SSL_OP_NO_COMPRESSION);
	/* Cheapest first; both ends of PERFORMANCE.md's table used it. */
	SSL_CTX_set_ciphersuites(t->ctx, "TLS_AES_128_GCM_SHA256:"
		"TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256");
	SSL_CTX_set1_groups_list(t->ctx, "X25519:P-256:P-384");
	SSL_CTX_set_session_cache_mode(t->ctx, SSL_SESS_CACHE_CLIENT |
		SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(t->ctx, on_new_ticket);
	return t;
fail:
	tls_free(&t);
	return NULL;
}

void
tls_free(struct tls **t)
{
	if (*t == NULL)
		return;
	for (unsigned i = 0; i < STORES_MAX; i++) {
		struct store *s = (*t)->store[i];

		for (unsigned j = 0; s != NULL && j < s->n; j++)
			SSL_SESSION_free(
				s->ticket[(s->first + j) % TICKETS_MAX]);
		free(s);
	}
	SSL_CTX_free((*t)->ctx);
	free(*t);
	*t = NULL;
}

/* Of a server that nobody has listed there is none: any name of a certificate
 * that a trusted authority vouches for will do. */
static int
set_name(SSL *ssl, const struct server_conf *server, const char *name)
{
	if (server->is_unlisted)
		return 0;
	return SSL_set_tlsext_host_name(ssl, name) == 1 &&
		SSL_set1_host(ssl, name) == 1 ? 0 : -1;
}

SSL *
tls_open(struct tls *t, const struct server_conf *server, const char *name,
	unsigned index, const struct addr *to, BIO *bio)
{
	/* who dials chooses among the hosts that nobody listed: they would take
	 * every store there is */
	struct store *s = server->is_unlisted ? NULL :
		store_find(t, index, to);
	SSL_SESSION *ticket = s != NULL ? store_pop(s) : NULL;
	SSL *ssl = SSL_new(t->ctx);

	if (ssl == NULL || set_name(ssl, server, name) != 0 ||
	    SSL_set_ex_data(ssl, ex_server, (void *)(uintptr_t)server) != 1) {
		SSL_free(ssl);
		SSL_SESSION_free(ticket);
		BIO_free(bio);
		return NULL;
	}
	SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	SSL_set_ex_data(ssl, ex_store, s);
	if (ticket != NULL) {
		SSL_set_session(ssl, ticket);
		SSL_SESSION_free(ticket);
	}
	SSL_set_bio(ssl, bio, bio);
	SSL_set_connect_state(ssl);
	return ssl;
}

void
tls_offer(SSL *ssl, const char *protocol)
{
	const struct store *s = SSL_get_ex_data(ssl, ex_store);
	unsigned char list[32];
	size_t n = strlen(protocol);

	/* without a store a refusal could not be remembered */
	if (s == NULL || s->alpn == ALPN_REFUSED || n >= sizeof(list))
		return;
	list[0] = (unsigned char)n;
	memcpy(list + 1, protocol, n);
	if (SSL_set_alpn_protos(ssl, list, (unsigned)n + 1) == 0)
		SSL_set_ex_data(ssl, ex_offer, ssl);
}

static bool
has_offered(const SSL *ssl)
{
	return SSL_get_ex_data(ssl, ex_offer) != NULL;
}

bool
tls_offer_failed(SSL *ssl)
{
	const struct store *s = SSL_get_ex_data(ssl, ex_store);

	return has_offered(ssl) && s != NULL && s->alpn == ALPN_UNTRIED;
}

void
tls_offer_never(SSL *ssl)
{
	struct store *s = SSL_get_ex_data(ssl, ex_store);

	if (s != NULL && s->alpn == ALPN_UNTRIED)
		s->alpn = ALPN_REFUSED;
}

int
tls_verified(SSL *ssl, char *why, size_t cap)
{
	struct store *s = SSL_get_ex_data(ssl, ex_store);
	long verdict = SSL_get_verify_result(ssl);
	X509 *cert = SSL_get0_peer_certificate(ssl);
	const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
	const struct server_conf *server = SSL_get_ex_data(ssl, ex_server);

	if (verdict != X509_V_OK) {
		snprintf(why, cap, "%s", verdict_words(verdict));
		return -1;
	}
	if (cert == NULL || (name == NULL && !server->is_unlisted)) {
		snprintf(why, cap, "no certificate");
		return -1;
	}
	if (s != NULL && has_offered(ssl))
		s->alpn = ALPN_TAKEN;
	/* never of an unlisted server: it has no store */
	if (!SSL_session_reused(ssl))
		return 0;
	if (X509_check_host(cert, name, 0,
		X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS, NULL) != 1) {
		snprintf(why, cap, "hostname mismatch (resumed session)");
		return -1;
	}
	if (X509_cmp_current_time(X509_get0_notAfter(cert)) < 0) {
		snprintf(why, cap, "certificate has expired (resumed session)");
		return -1;
	}
	return 0;
}

int
tls_chain(const SSL *ssl, char *why, size_t cap)
{
	long verdict = SSL_get_verify_result(ssl);

	if (verdict == X509_V_OK)
		return 0;
	snprintf(why, cap, "%s", verdict_words(verdict));
	return -1;
}

void
tls_names(const SSL *ssl, void (*each)(void *arg, const void *name, size_t len),
	void *arg)
{
	const X509 *cert = SSL_get0_peer_certificate(ssl);
	GENERAL_NAMES *names = cert == NULL ? NULL :
		X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);

	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
		int type;
		const ASN1_STRING *name = GENERAL_NAME_get0_value(
			sk_GENERAL_NAME_value(names, i), &type);

		if (type == GEN_DNS || type == GEN_IPADD)
			each(arg, ASN1_STRING_get0_data(name),
				(size_t)ASN1_STRING_length(name));
	}
	GENERAL_NAMES_free(names);
}

void
tls_failure(const struct tls *t, SSL *ssl, char *why, size_t cap,
	bool *certificate_r)
{
	long verdict = SSL_get_verify_result(ssl);
	unsigned long code = ERR_peek_last_error();

	*certificate_r = verdict != X509_V_OK;
	if (*certificate_r)
		snprintf(why, cap, "%s; it is %s", verdict_words(verdict),
			t->refused);
	else if (code != 0 && ERR_reason_error_string(code) != NULL)
		snprintf(why, cap, "%s", ERR_reason_error_string(code));
	else
		snprintf(why, cap, "connection closed during the handshake");
	ERR_clear_error();
}

size_t
tls_tickets(const struct tls *t)
{
	return t->tickets;
}

int
tls_version(const SSL *ssl)
{
	return SSL_version(ssl) == TLS1_3_VERSION ? 13 : 12;
}

void
tls_close(SSL **ssl)
{
	if (*ssl == NULL)
		return;
	SSL_set_shutdown(*ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
	SSL_free(*ssl);
	*ssl = NULL;
	ERR_clear_error();
}
