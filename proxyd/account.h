/*
 * account.h - a session that logs in by itself
 *
 * The relay's side of the keeper: one channel, and the sessions that wait for an
 * answer. What is said to the server is smtp_account.c's.
 */
#ifndef SALLYPORT_ACCOUNT_H
#define SALLYPORT_ACCOUNT_H

#include <event2/event.h>
#include <stdint.h>
#include <sys/queue.h>

#include "zombie/line.h"

struct decision;
struct keeper_link;
struct session;

struct keeper_waiter {
	LIST_ENTRY(keeper_waiter) link;
	uint32_t number;	/* 0: waits for nothing */
};

/* NULL: no memory. Without a channel every question fails. */
struct keeper_link *keeper_link_new(struct event_base *base);
void keeper_link_free(struct keeper_link **k);
/* A channel from the parent, in the place of the one before; consumed. */
void keeper_link_connect(struct keeper_link *k, int fd);

/* ---- a session of the submit action ---- */

/* If its line has an account at its server, the session may use it. 0, or -1
 * without memory. */
int account_open(struct session *s, const struct decision *d);
/* May its login vouch for mail, or one before it for its own? (POP3, submit)
 * 0, or -1 without memory. */
int pop_open(struct session *s, const struct decision *d);
/* Put context.account's question; machine.answered() is told the answer, or the
 * session fails. */
void account_ask(struct session *s);
/* 1 + index of the account that it has tried to use; 0: none. */
uint16_t account_used(const struct session *s);
/* A key for the quotas of its account, which is no line's. */
void account_key(const struct session *s, struct line_key *key_r);
/* The answer is not wanted any more. */
void account_forget(struct session *s);

#endif
