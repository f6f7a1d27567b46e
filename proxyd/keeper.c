/*
 * keeper.c - the process that knows the passwords of accounts
 *
 * Does: read the files whose descriptors the parent hands over, when it starts
 * and when one has changed, and answer the relays' questions (keeper_sasl.c).
 * Does not: open a file or a socket, decide whose session may ask, or log
 * anything of what it holds.
 *
 * Own user, no capability, empty root, seccomp without socket(2) and open(2).
 * Secrets lie in pages of their own that no core dump has and, where the limit
 * allows, no swap; they are wiped when they are replaced and at the end. A relay
 * may be taken over: it can ask about every account, as fast as it likes, and
 * each question costs it an answer. What it sends is checked in every field; one
 * that cannot be ends its channel, and nobody else's.
 *
 * Leaving (a reload): until the last relay of its generation is gone, since only
 * these know which account is which index.
 */
#include "proxyd/keeper.h"

#include <errno.h>
#include <event2/event.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/ipc.h"
#include "lib/log.h"
#include "proxyd/msg.h"
#include "proxyd/sandbox.h"
#include "zombie/table.h"

/* Questions of one relay before others get their turn. */
#define BATCH 64

struct held {
	size_t len;		/* 0: none */
	char text[SECRET_MAX + 1];
};

struct channel {		/* to one relay */
	struct channel *next;
	struct keeper *keeper;
	int fd;
	struct event *readable;
};

struct keeper {
	const struct keeper_start *start;
	struct event_base *base;
	struct event *parent;
	struct channel *channels;
	struct held *held;	/* conf->naccounts of them */
	bool leaving;
};

/* ---- secrets ---- */

static size_t
held_size(const struct keeper *k)
{
	return k->start->conf->naccounts * sizeof(*k->held);
}

static int
hold(struct keeper *k)
{
	void *mem = mmap(NULL, held_size(k), PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (mem == MAP_FAILED)
		return -1;
	k->held = mem;
	(void)madvise(mem, held_size(k), MADV_DONTDUMP);
	(void)mlock(mem, held_size(k));
	return 0;
}

static void
take_secret(struct keeper *k, const struct msg *m, int fd)
{
	const struct account_conf *a = &k->start->conf->accounts[m->n];
	struct held *h = &k->held[m->n];
	const char *why = NULL;
	int n = -1;

	explicit_bzero(h, sizeof(*h));
	if (fd == -1)
		return;		/* the parent has said why */
	n = secret_read(fd, h->text, account_secret_max(a), &why);
	if (n > 0)
		h->len = (size_t)n;
	else
		log_error("account %s: %s %s; expected one line. Until then "
			"its lines cannot send", a->name, account_file(a),
			why);
}

/* ---- relays ---- */

static void
cut(struct channel *c)
{
	for (struct channel **at = &c->keeper->channels; *at != NULL;
		at = &(*at)->next)
		if (*at == c) {
			*at = c->next;
			break;
		}
	event_free(c->readable);
	close(c->fd);
	free(c);
}

static void
answer(const struct keeper *k, int fd, const struct keeper_ask *ask)
{
	const struct held *h = &k->held[ask->account];
	struct keeper_answer out;

	keeper_answer(&k->start->conf->accounts[ask->account], h->text, h->len,
		ask, &out);
	/* no room: the relay does not read, and waits no longer than it likes */
	(void)ipc_send(fd, &out, sizeof(out), NULL, 0);
	explicit_bzero(&out, sizeof(out));
}

static void
on_relay(evutil_socket_t fd, short what, void *arg)
{
	struct channel *c = arg;
	struct keeper *k = c->keeper;
	struct keeper_ask ask;

	(void)what;
	for (int i = 0; i < BATCH; i++) {
		int rc = ipc_recv(fd, &ask, sizeof(ask), NULL, NULL);

		if (rc == 0)
			return;
		if (rc == 1 && ask.account < k->start->conf->naccounts) {
			answer(k, fd, &ask);
			continue;
		}
		if (rc != -1)
			log_warn("a relay asked what cannot be; it is not "
				"heard any more");
		cut(c);
		return;
	}
}

static void
new_relay(struct keeper *k, int fd)
{
	struct channel *c = calloc(1, sizeof(*c));

	if (c == NULL)
		goto fail;
	c->keeper = k;
	c->fd = fd;
	c->readable = event_new(k->base, fd, EV_READ | EV_PERSIST, on_relay, c);
	if (c->readable == NULL || event_add(c->readable, NULL) == -1)
		goto fail;
	c->next = k->channels;
	k->channels = c;
	return;
fail:
	log_error("no memory for the channel to a relay");
	if (c != NULL && c->readable != NULL)
		event_free(c->readable);
	free(c);
	close(fd);
}

/* ---- the parent ---- */

static void
handle(struct keeper *k, const struct msg *m, int fd)
{
	const struct msg pong = { .type = MSG_PONG, .n = m->n };

	switch (m->type) {
	case MSG_PING:
		(void)ipc_send(k->start->parent, &pong, sizeof(pong), NULL, 0);
		break;
	case MSG_RELAY:
		if (fd != -1)
			new_relay(k, fd);
		return;
	case MSG_SECRET:
		if (m->n < k->start->conf->naccounts)
			take_secret(k, m, fd);
		break;
	case MSG_DRAIN:
		k->leaving = true;
		break;
	default:
		log_warn("the parent sent a message of type %u; ignored",
			m->type);
		break;
	}
	if (fd != -1)
		close(fd);
}

static void
on_parent(evutil_socket_t fd, short what, void *arg)
{
	struct keeper *k = arg;
	int fds[IPC_FDS_MAX], nfds, rc;
	struct msg m;

	(void)what;
	while ((rc = ipc_recv(fd, &m, sizeof(m), fds, &nfds)) != 0) {
		if (rc == -2)
			continue;
		if (rc == -1) {	/* the parent is gone: relays may yet ask */
			event_free(k->parent);
			k->parent = NULL;
			k->leaving = true;
			return;
		}
		for (int i = 1; i < nfds; i++)
			close(fds[i]);
		handle(k, &m, nfds > 0 ? fds[0] : -1);
	}
}

/* ---- life ---- */

/* So that nothing is looked for in files behind the sandbox. */
static void
warm_up(void)
{
	uint8_t digest[EVP_MAX_MD_SIZE];
	unsigned n;

	if (HMAC(EVP_md5(), "k", 1, (const uint8_t *)"c", 1, digest,
		&n) == NULL)
		log_warn("this OpenSSL has no MD5: accounts cannot use "
			"cram-md5");
}

static int
prepare(struct keeper *k)
{
	const struct keeper_start *s = k->start;

	k->base = event_base_new();
	if (k->base == NULL || hold(k) == -1)
		return -1;
	warm_up();
	k->parent = event_new(k->base, s->parent, EV_READ | EV_PERSIST,
		on_parent, k);
	if (k->parent == NULL || event_add(k->parent, NULL) == -1)
		return -1;
	if (s->table != NULL && table_drop_rights(s->table) == -1)
		return -1;
	return sandbox_enter(SANDBOX_KEEPER, s->conf->user_keeper);
}

static void
dispose(struct keeper *k)
{
	for (struct channel *c = k->channels, *next; c != NULL; c = next) {
		next = c->next;
		cut(c);
	}
	if (k->held != NULL) {
		explicit_bzero(k->held, held_size(k));
		(void)munmap(k->held, held_size(k));
	}
	if (k->parent != NULL)
		event_free(k->parent);
	if (k->base != NULL)
		event_base_free(k->base);
}

int
keeper_main(const struct keeper_start *s)
{
	const struct msg drained = { .type = MSG_DRAINED };
	struct keeper k = { .start = s };
	int status = 1;

	if (prepare(&k) == 0) {
		while (!(k.leaving && k.channels == NULL) &&
		    event_base_loop(k.base, EVLOOP_ONCE) != -1)
			;
		if (k.parent != NULL)
			(void)ipc_send(s->parent, &drained, sizeof(drained),
				NULL, 0);
		status = 0;
	} else {
		log_error("the keeper cannot start");
	}
	dispose(&k);
	return status;
}
