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

struct tls;

/* trust: PEM bundle. NULL: message logged. Reads files: before the sandbox. */
struct tls *tls_new(const char *trust, unsigned min_version);
void tls_free(struct tls **t);

/*
 * A client connection object: SNI and verification for name, a ticket of that
 * server and address if there is one. bio becomes its transport and is freed
 * with it. NULL: no memory (bio freed).
 */
SSL *tls_open(struct tls *t, const char *name, unsigned server,
	const struct addr *to, BIO *bio);

/* After the handshake: 0, or -1 and the reason as words in why. */
int tls_verified(SSL *ssl, char *why, size_t cap);

/* Why the handshake failed, as words; *certificate_r: it was the certificate. */
void tls_failure(SSL *ssl, char *why, size_t cap, bool *certificate_r);

/* Tickets held, of all servers. */
size_t tls_tickets(const struct tls *t);

/* 12 or 13. */
int tls_version(const SSL *ssl);

/* Free; the tickets the connection brought stay usable. */
void tls_close(SSL **ssl);

#endif
