/*
 * sasl.h - which SASL mechanisms survive two TLS legs
 *
 * One table for SMTP and POP3. A mechanism is carried when its exchange is text
 * the proxy can pass on unread, and when nothing in it depends on the TLS
 * channel (the "-PLUS" family, RFC 5929) or starts a security layer of its own
 * (GSSAPI, DIGEST-MD5, SRP): those are not offered.
 */
#ifndef SALLYPORT_SASL_H
#define SALLYPORT_SASL_H

#include <stddef.h>
#include <stdint.h>

struct sink;

/* Bit of the mechanism whose name is exactly these bytes (any case), or 0. */
uint32_t sasl_mechanism(const uint8_t *name, size_t len);

/* Bits of all carried mechanisms in a list separated by spaces. */
uint32_t sasl_list(const uint8_t *list, size_t len);

/* Their names, each behind a space, in the table's order. */
void sasl_print(uint32_t mechs, struct sink *out);

#endif
