/*
 * adaptive.h - which lines never get as far as RCPT
 *
 * Mail programs that want AUTH or TLS leave after EHLO with words of their own
 * and never read the operator's text. When a line's session ends so, its next
 * sessions for 15 minutes are refused at EHLO (DESIGN.md section 6, block).
 * Shared by all relays: one array of 64-bit words, hash and expiry together in
 * one atomic word, so that a relay may die anywhere and no lock exists.
 */
#ifndef SALLYPORT_ADAPTIVE_H
#define SALLYPORT_ADAPTIVE_H

#include <stdbool.h>
#include <stdint.h>

#include "zombie/line.h"

/* How long a line stays marked; DESIGN.md section 6. */
#define ADAPTIVE_SECONDS (15 * 60)

struct adaptive;

/* Shared anonymous memory, made by the parent before it forks; NULL: none. */
struct adaptive *adaptive_new(void);
void adaptive_free(struct adaptive **a);

/* now: seconds of CLOCK_MONOTONIC. A newer mark may displace an older one. */
void adaptive_mark(struct adaptive *a, const struct line_key *line, uint32_t now);
bool adaptive_marked(const struct adaptive *a, const struct line_key *line,
	uint32_t now);

#endif
