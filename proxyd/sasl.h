/*
 * sasl.h - which SASL mechanisms survive two TLS legs
 *
 * One table for SMTP, one rule for POP3 and IMAP. A mechanism is carried when its exchange is text
 * the proxy can pass on unread, and when nothing in it depends on the TLS
 * channel (the "-PLUS" family, RFC 5929) or starts a security layer of its own
 * (GSSAPI, DIGEST-MD5, SRP): those are not offered.
 */
#ifndef SALLYPORT_SASL_H
#define SALLYPORT_SASL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sink;

/* Bit of the mechanism whose name is exactly these bytes (any case), or 0. */
uint32_t sasl_mechanism(const uint8_t *name, size_t len);

/*
 * For protocols that are opaque after the login (POP3, IMAP): any mechanism, also
 * an unknown one or one with a security layer, passes unread, except where the
 * proof lies in the client's own TLS: "-PLUS" and EXTERNAL.
 */
bool sasl_passes(const uint8_t *name, size_t len);

/*
 * A list, separated by spaces, that has a "-PLUS" in it (IMAP's words "AUTH=..."
 * too): its server binds SCRAM to a channel. A client that speaks TLS with us
 * and could do the same, but is not shown it, says so in plain SCRAM ("y",
 * RFC 5802 section 6), and that server then has to refuse the right password:
 * it is not shown plain SCRAM either.
 */
bool sasl_binds(const uint8_t *list, size_t n);
bool sasl_is_scram(const uint8_t *name, size_t len);
/* Without these, of a set of bits. */
uint32_t sasl_without_scram(uint32_t mechs);

/* Bits of all carried mechanisms in a list separated by spaces. */
uint32_t sasl_list(const uint8_t *list, size_t len);

/* Octets in base64 (RFC 4648), one at least, with nothing before or behind. */
bool sasl_is_base64(const uint8_t *p, size_t n);

/* Their names, each behind a space, in the table's order. */
void sasl_print(uint32_t mechs, struct sink *out);

#endif
