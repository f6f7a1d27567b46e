/*
 * kv.h - the one writer and escaper of key=value log lines
 *
 * A value that came from a peer is always written by kv_text, which quotes it
 * and turns every byte that is not printable ASCII, and '"' and '\', into an
 * escape: a log line can neither be split nor forged from outside.
 */
#ifndef SALLYPORT_KV_H
#define SALLYPORT_KV_H

#include <stddef.h>
#include <stdint.h>

struct addr;

struct kv {
	char *out;	/* caller's memory, always NUL-terminated */
	size_t cap;
	size_t len;
	int cut;	/* 1 when something did not fit */
};

void kv_open(struct kv *k, char *out, size_t cap, const char *event);
void kv_word(struct kv *k, const char *key, const char *word);	/* our own words */
void kv_uint(struct kv *k, const char *key, uint64_t n);
void kv_tenths(struct kv *k, const char *key, uint64_t ms);	/* 5210 ms: 5.2 */
void kv_addr(struct kv *k, const char *key, const struct addr *a);
void kv_addr_port(struct kv *k, const char *key, const struct addr *a);
void kv_text(struct kv *k, const char *key, const char *text, size_t len);

#endif
