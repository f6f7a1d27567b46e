/*
 * account.c - a session that logs in by itself
 *
 * Does: find the account of a line, or a POP3 login that counts for it; carry
 * the machine's questions to the keeper and its answers back; look at the
 * line's level when the machine wants to know. Does not: see a password file,
 * choose a mechanism, or speak SMTP.
 *
 * Called by session.c, and by the loop when the keeper answers. The keeper is
 * one of our own, and dead for a moment when it was killed: who waits for it
 * then fails with REASON_KEEPER, and so does who waits too long (session.c).
 * Which account is asked for follows from the line's address alone; nothing a
 * client says is in a question. Of an answer this file leaves no copy.
 */
#include "proxyd/account.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "conf/conf.h"
#include "lib/ipc.h"
#include "lib/log.h"
#include "proxyd/keeper.h"
#include "proxyd/logins.h"
#include "proxyd/policy.h"
#include "proxyd/session.h"
#include "zombie/detect.h"
#include "zombie/siphash.h"

LIST_HEAD(waiters, keeper_waiter);

struct keeper_link {
	struct event_base *base;
	struct event *readable;
	int fd;			/* -1: no keeper */
	uint32_t last;		/* number of a question */
	struct waiters waiting;
};

static struct session *
session_of(struct keeper_waiter *w)
{
	return (struct session *)((char *)w - offsetof(struct session, keeper));
}

/* ---- the channel ---- */

static void
cut(struct keeper_link *k)
{
	struct keeper_waiter *w;

	if (k->readable != NULL)
		event_free(k->readable);
	k->readable = NULL;
	if (k->fd != -1)
		close(k->fd);
	k->fd = -1;
	while ((w = LIST_FIRST(&k->waiting)) != NULL) {
		struct session *s = session_of(w);

		account_forget(s);
		session_fail(s, REASON_KEEPER, "the keeper has ended");
		session_leave(s);
	}
}

/* One line of base64, and nothing that could be two. */
static bool
is_line(const struct keeper_answer *a)
{
	if (a->len > sizeof(a->line))
		return false;
	for (uint32_t i = 0; i < a->len; i++)
		if (a->line[i] < 0x21 || a->line[i] > 0x7e)
			return false;
	return true;
}

static void
answered(struct session *s, const struct keeper_answer *a)
{
	static const char *const words[KEEPER_STATUS_COUNT] = {
		[KEEPER_NO_SECRET] = "its secret cannot be read",
		[KEEPER_REFUSED] = "it must not use this mechanism",
		[KEEPER_CHALLENGE] = "the server's challenge is none",
		[KEEPER_FAILED] = "out of memory",
	};
	struct sink out[2];
	enum act act;

	session_phase(s, PHASE_TALK);
	if (a->status >= KEEPER_STATUS_COUNT || !is_line(a)) {
		session_fail(s, REASON_KEEPER, "an answer that is none");
		return;
	}
	if (a->status != KEEPER_OK) {
		session_fail(s, REASON_KEEPER, words[a->status]);
		return;
	}
	session_open_sinks(s, out);
	act = s->machine.ops->answered(&s->machine, a->line, a->len, out);
	session_flush_sinks(s, out);
	explicit_bzero(out[SERVER].p, out[SERVER].len);
	session_act(s, act);
}

static struct session *
waits_for(const struct keeper_link *k, uint32_t number)
{
	struct keeper_waiter *w;

	LIST_FOREACH(w, &k->waiting, link)
		if (w->number == number)
			return session_of(w);
	return NULL;
}

static void
on_answer(evutil_socket_t fd, short what, void *arg)
{
	struct keeper_link *k = arg;
	struct keeper_answer a;
	int rc;

	(void)what;
	while ((rc = ipc_recv(fd, &a, sizeof(a), NULL, NULL)) == 1) {
		struct session *s = waits_for(k, a.number);

		if (s == NULL)
			continue;	/* it is gone */
		account_forget(s);
		answered(s, &a);
		session_leave(s);
	}
	explicit_bzero(&a, sizeof(a));
	if (rc < 0)
		cut(k);
}

struct keeper_link *
keeper_link_new(struct event_base *base)
{
	struct keeper_link *k = calloc(1, sizeof(*k));

	if (k == NULL)
		return NULL;
	k->base = base;
	k->fd = -1;
	LIST_INIT(&k->waiting);
	return k;
}

void
keeper_link_free(struct keeper_link **k)
{
	if (*k == NULL)
		return;
	cut(*k);
	free(*k);
	*k = NULL;
}

void
keeper_link_connect(struct keeper_link *k, int fd)
{
	cut(k);
	k->fd = fd;
	k->readable = event_new(k->base, fd, EV_READ | EV_PERSIST, on_answer, k);
	if (k->readable != NULL && event_add(k->readable, NULL) == 0)
		return;
	log_error("cannot watch the channel to the keeper");
	cut(k);
}

/* ---- sessions ---- */

/* The account ends at level suspect. */
static bool
is_suspect(void *arg)
{
	const struct session *s = arg;

	return policy_level(s->relay->conf, s->relay->table, &s->line) >= LEVEL_SUSPECT;
}

int
account_open(struct session *s, const struct decision *d)
{
	const struct conf *c = s->relay->conf;
	struct account_use *use;
	int i;

	if (d->treatment != TREAT_SUBMIT)
		return 0;
	i = conf_account(c, &s->src, d->class_index, d->server);
	if (i == -1)
		return 0;
	if ((use = calloc(1, sizeof(*use))) == NULL)
		return -1;
	use->conf = &c->accounts[i];
	use->is_suspect = is_suspect;
	use->arg = s;
	s->context.account = use;
	return 0;
}

/* ---- pop-before-smtp ---- */

/* Whose line it is now: after a change of lease, somebody else's. */
static uint32_t
customer_of(const struct session *s)
{
	const struct table *t = s->relay->table;
	const struct line_record *r = t == NULL ? NULL :
		table_find(t, &s->line);

	return r == NULL ? 0 : atomic_load(&r->customer);
}

static void
pop_accepted(void *arg, const char *user)
{
	struct session *s = arg;
	const struct conf *c = s->relay->conf;

	logins_note(s->relay->logins, &s->line, customer_of(s),
		s->context.server->name, user,
		(uint32_t)(relay_now() / 1000) + 60 * c->pop_minutes);
}

/* It ends where an account does. */
static bool
pop_find(void *arg, char user[POP_USER_MAX + 1])
{
	struct session *s = arg;

	return !is_suspect(s) && logins_find(s->relay->logins, &s->line,
		customer_of(s), s->context.server->name, (uint32_t)(relay_now() / 1000), user);
}

int
pop_open(struct session *s, const struct decision *d)
{
	struct context *x = &s->context;

	if (!conf_pop_counts(s->relay->conf, d->class_index, d->server))
		return 0;
	if (d->treatment == TREAT_POP3) {
		if ((x->pop_login = calloc(1, sizeof(*x->pop_login))) == NULL)
			return -1;
		x->pop_login->accepted = pop_accepted;
		x->pop_login->arg = s;
	} else if (d->treatment == TREAT_SUBMIT) {
		if ((x->pop = calloc(1, sizeof(*x->pop))) == NULL)
			return -1;
		x->pop->find = pop_find;
		x->pop->arg = s;
	}
	return 0;
}

/* ---- the keeper, for one session ---- */

void
account_ask(struct session *s)
{
	const struct account_use *use = s->context.account;
	struct keeper_link *k = s->relay->keeper;
	struct keeper_ask ask;

	memset(&ask, 0, sizeof(ask));
	ask.number = ++k->last != 0 ? k->last : ++k->last;
	ask.account = (uint32_t)(use->conf - s->relay->conf->accounts);
	ask.mechanism = use->mechanism;
	ask.step = use->step;
	ask.len = use->challenge_len;
	memcpy(ask.challenge, use->challenge, use->challenge_len);
	if (k->fd == -1 ||
	    ipc_send(k->fd, &ask, sizeof(ask), NULL, 0) != 1) {
		session_fail(s, REASON_KEEPER, k->fd == -1 ?
			"no keeper is running" : "the keeper is busy");
		return;
	}
	s->keeper.number = ask.number;
	LIST_INSERT_HEAD(&k->waiting, &s->keeper, link);
	session_phase(s, PHASE_KEEPER);
}

uint16_t
account_used(const struct session *s)
{
	const struct account_use *use = s->context.account;

	return use == NULL || !use->is_ours ? 0 :
		(uint16_t)(use->conf - s->relay->conf->accounts + 1);
}

/* By name, which a reload leaves as it is, and not by index. */
void
account_key(const struct session *s, struct line_key *key_r)
{
	static const uint64_t no_key[2];
	const char *name = s->context.account->conf->name;
	uint64_t h = siphash(no_key, name, strlen(name));

	memset(key_r, 0, sizeof(*key_r));	/* family 0: no line has it */
	memcpy(key_r->ip, &h, sizeof(h));
}

void
account_forget(struct session *s)
{
	if (s->keeper.number != 0)
		LIST_REMOVE(&s->keeper, link);
	s->keeper.number = 0;
}
