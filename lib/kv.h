/*
 * kv.h - the one writer and escaper of log lines: key=value, or JSON
 *
 * A value that came from a peer is always written by kv_text, which quotes it
 * and turns every byte that is not printable ASCII, and '"' and '\', into an
 * escape: a log line can neither be split nor forged from outside.
 *
 * In JSON a line is one object with dotted names: those of the Elastic Common
 * Schema (ECS 8) where it has one, "sallyport.KEY" for every other key.
 */
#ifndef SALLYPORT_KV_H
#define SALLYPORT_KV_H

#include <stddef.h>
#include <stdint.h>

struct addr;

enum kv_form { KV_PAIRS, KV_JSON };

struct kv {
	char *out;	/* caller's memory, always NUL-terminated */
	size_t cap;
	size_t len;
	int cut;	/* 1 when something did not fit */
	enum kv_form form;
};

/* Of the lines that this process opens from now on. */
void kv_set_form(enum kv_form form);
enum kv_form kv_form(void);

void kv_open(struct kv *k, char *out, size_t cap, const char *event);
/* A word that is NULL or empty, an address of no family: "-"; in JSON absent. */
void kv_word(struct kv *k, const char *key, const char *word);	/* our own words */
void kv_uint(struct kv *k, const char *key, uint64_t n);
void kv_tenths(struct kv *k, const char *key, uint64_t ms);	/* 5210 ms:
	 * 5.2; in JSON nanoseconds, as ECS has it */
void kv_addr(struct kv *k, const char *key, const struct addr *a);
void kv_addr_port(struct kv *k, const char *key, const struct addr *a);
void kv_text(struct kv *k, const char *key, const char *text, size_t len);

#endif
