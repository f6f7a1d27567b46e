/*
 * identity.h - whose connection it is, told to a server
 *
 * Two forms for servers that trust this gateway: the PROXY protocol's header
 * before everything else, and XCLIENT's attributes inside SMTP. Pure.
 */
#ifndef SALLYPORT_IDENTITY_H
#define SALLYPORT_IDENTITY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/addr.h"

struct sink;

/* 16 octets, two IPv6 addresses with their ports, and what is said of TLS: PROXY
 * protocol, 2.2. */
#define PROXY_HEADER_MAX 80

/* The version 2 header of a TCP connection from src to dst; its length. Where
 * the families differ it says LOCAL, which names nobody. */
size_t identity_proxy(uint8_t out[PROXY_HEADER_MAX], const struct addr *src,
	const struct addr *dst);

/* The same of a connection whose client speaks TLS with us; tls: 12 or 13, 0: it
 * does not. A server that takes it allows a login with a password. */
size_t identity_proxy_tls(uint8_t out[PROXY_HEADER_MAX], const struct addr *src,
	const struct addr *dst, int tls);

/* Bits of XCLIENT's attributes in the server's list ("NAME ADDR PORT ..."). */
uint32_t identity_attributes(const uint8_t *p, size_t n);

/* An XCLIENT command with those of ADDR, PORT and NAME that the server lists;
 * always shorter than the 512 octets that are allowed. Nothing without ADDR:
 * -1. */
int identity_xclient(uint32_t attributes, const struct addr *client,
	struct sink *out);

/* Is LOGIN among the attributes? */
bool identity_has_login(uint32_t attributes);
/* An XCLIENT command with it: in xtext three octets for each of the name's at
 * most. */
void identity_login(const char *user, struct sink *out);

#endif
