/*
 * serve.h - TLS towards the clients of published servers
 *
 * One struct serve a relay: a context for each certificate, chosen by the name
 * in the client's hello, and the keys of session tickets, which come from the
 * parent and are the same in all relays.
 */
#ifndef SALLYPORT_SERVE_H
#define SALLYPORT_SERVE_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct conf;
struct publish_place;
struct serve;
struct ticket_key;

/* What the parent has read of certificates and keys, for relays: in the order
 * of the configuration, chain and key as PEM, each with its length. In a sealed
 * memfd, so that no other process inherits it. -1: message logged. */
int serve_bundle(const struct conf *conf);

/* Before the sandbox, with such a descriptor, which stays the caller's. NULL:
 * message logged. conf must outlive it. */
struct serve *serve_new(const struct conf *conf, int bundle);
void serve_free(struct serve **v);

/* A key from now on; the one before is still taken. is_before: this is that
 * one. */
void serve_ticket_key(struct serve *v, const struct ticket_key *key,
	bool is_before);

/* A server connection object; bio becomes its transport and is freed with it.
 * place must outlive it. NULL: no memory (bio freed). */
SSL *serve_open(struct serve *v, const struct publish_place *place, BIO *bio);

/* Why the handshake that has just failed did, as words. */
void serve_failure(char *why, size_t cap);

#endif
