/*
 * siphash.h - keyed hash that a sender of addresses cannot predict
 *
 * SipHash-2-4 (Aumasson and Bernstein, 2012), 64-bit result.
 */
#ifndef SALLYPORT_SIPHASH_H
#define SALLYPORT_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

/* key: the 16 secret octets as two little-endian words. */
uint64_t siphash(const uint64_t key[2], const void *octets, size_t n);

#endif
