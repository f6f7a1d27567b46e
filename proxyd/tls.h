/*
 * tls.h - TLS towards mail servers: verified by name, resumed by ticket
 *
 * One struct tls a relay. Verification happens on every handshake: a full one
 * is checked by OpenSSL against name and trust store, a resumed one carries
 * the verdict of its first and is checked again for name and dates. Tickets are
 * kept per (server, address, port), used once each and not longer than a day.
 */
#ifndef SALLYPORT_TLS_H
#define SALLYPORT_TLS_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>

#include "lib/addr.h"

struct server_conf;
struct tls;

/*
 * trust: PEM bundle; crl: PEM file of revocation lists, or NULL. NULL: message
 * logged. Reads files: before the sandbox.
 */
struct tls *tls_new(const char *trust, const char *crl, unsigned min_version);
void tls_free(struct tls **t);

/*
 * A client connection object: SNI and verification for name (the server's, or
 * its submission_host), the server's pins, a ticket of that host and address if
 * there is one. index: of the host in the configuration (conf_host()). bio
 * becomes its transport and is freed with it. NULL: no memory (bio freed). server
 * must outlive the handshake.
 */
SSL *tls_open(struct tls *t, const struct server_conf *server,
	const char *name, unsigned index, const struct addr *to, BIO *bio);

/*
 * Offer an application protocol (ALPN, RFC 7301: "pop3", "imap"), unless this
 * server has refused one. Most servers ignore what they do not know; some end
 * the handshake. Before the handshake.
 */
void tls_offer(SSL *ssl, const char *protocol);
/* A handshake failed that had offered one, to a server that has never taken
 * any with an offer in it: worth another attempt without. */
bool tls_offer_failed(SSL *ssl);
/* That attempt went well: never offer to this server again. */
void tls_offer_never(SSL *ssl);

/* After the handshake: 0, or -1 and the reason as words in why. */
int tls_verified(SSL *ssl, char *why, size_t cap);
/* The same of a server with is_opportune, of which any certificate is taken: does
 * its chain end at a trusted authority? */
int tls_chain(const SSL *ssl, char *why, size_t cap);
/* The names and addresses that the server's certificate is for, as they stand in
 * it (not NUL-terminated, of the server's choice). */
void tls_names(const SSL *ssl, void (*each)(void *arg, const void *name,
	size_t len), void *arg);

/*
 * Why the handshake that has just failed did, as words; *certificate_r: it was
 * the certificate. Then the words name it: subject and dates.
 */
void tls_failure(const struct tls *t, SSL *ssl, char *why, size_t cap,
	bool *certificate_r);

/* Tickets held, of all servers. */
size_t tls_tickets(const struct tls *t);

/* 12 or 13. */
int tls_version(const SSL *ssl);

/* Free; the tickets the connection brought stay usable. */
void tls_close(SSL **ssl);

#endif
