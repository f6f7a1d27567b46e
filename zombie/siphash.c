/*
 * siphash.c - keyed hash that a sender of addresses cannot predict
 *
 * SipHash-2-4 over octets in memory. Keeps no state and allocates nothing; the
 * result is the same on machines of either byte order.
 *
 * Called by the line table for slots, bitmaps and retransmissions. Subscribers
 * choose what is hashed (their addresses, ports, destinations) and would like
 * it to collide; without the key they cannot. 2-4 and not the quicker 1-3: the
 * difference is a few nanoseconds a packet, the margin is the published one.
 */
#include "zombie/siphash.h"

static uint64_t
rotate(uint64_t x, unsigned n)
{
	return x << n | x >> (64 - n);
}

static void
rounds(uint64_t v[4], unsigned n)
{
	for (; n > 0; n--) {
		v[0] += v[1];
		v[2] += v[3];
		v[1] = rotate(v[1], 13) ^ v[0];
		v[3] = rotate(v[3], 16) ^ v[2];
		v[0] = rotate(v[0], 32);
		v[2] += v[1];
		v[0] += v[3];
		v[1] = rotate(v[1], 17) ^ v[2];
		v[3] = rotate(v[3], 21) ^ v[0];
		v[2] = rotate(v[2], 32);
	}
}

static uint64_t
word(const uint8_t *p, size_t n)
{
	uint64_t w = 0;

	while (n-- > 0)
		w = w << 8 | p[n];
	return w;
}

uint64_t
siphash(const uint64_t key[2], const void *octets, size_t n)
{
	const uint8_t *p = octets;
	uint64_t v[4] = {
		key[0] ^ 0x736f6d6570736575u, key[1] ^ 0x646f72616e646f6du,
		key[0] ^ 0x6c7967656e657261u, key[1] ^ 0x7465646279746573u
	};
	uint64_t m, total = (uint64_t)n << 56;

	for (; n >= 8; n -= 8, p += 8) {
		m = word(p, 8);
		v[3] ^= m;
		rounds(v, 2);
		v[0] ^= m;
	}
	m = total | word(p, n);
	v[3] ^= m;
	rounds(v, 2);
	v[0] ^= m;
	v[2] ^= 0xff;
	rounds(v, 4);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}
