/*
 * ticketkeeper.c - keys of the session tickets of published servers
 *
 * Does: make a key, tell every relay, replace it when tls.ticket_time is over
 * and keep the one before for one more period. Does not: store it anywhere. The
 * page is empty in every child (MADV_WIPEONFORK): relays hear the keys by
 * message, nobody else has them.
 *
 * Called from the parent's loop. A child that could forge tickets would have to
 * be a relay, which holds the certificates' keys as well.
 */
#include <openssl/rand.h>
#include <string.h>
#include <sys/mman.h>

#include "lib/log.h"
#include "proxyd/parent.h"

struct tickets {
	struct ticket_key now, before;
	bool has_before;
	int64_t made;		/* 0: none yet */
};

static void
tell(struct child *c, const struct ticket_key *key, bool is_before)
{
	struct msg m = { .type = MSG_TICKET_KEY, .n = is_before,
		.ticket = *key };

	child_send(c, &m, NULL, 0);
	explicit_bzero(&m, sizeof(m));
}

static bool
is_relay(const struct child *c)
{
	return c->slot < WORKERS_MAX;
}

int
ticketkeeper_open(struct parent *p)
{
	void *page = mmap(NULL, sizeof(*p->tickets), PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED)
		return -1;
	if (madvise(page, sizeof(*p->tickets), MADV_WIPEONFORK) != 0) {
		munmap(page, sizeof(*p->tickets));
		return -1;
	}
	p->tickets = page;
	return 0;
}

void
ticketkeeper_close(struct parent *p)
{
	if (p->tickets == NULL)
		return;
	explicit_bzero(p->tickets, sizeof(*p->tickets));
	munmap(p->tickets, sizeof(*p->tickets));
	p->tickets = NULL;
}

void
ticketkeeper_tick(struct parent *p)
{
	struct tickets *t = p->tickets;
	struct ticket_key fresh;
	int64_t now = parent_now();

	if (p->conf->npublish == 0 || (t->made != 0 &&
		now - t->made < 1000 * (int64_t)p->conf->ticket_time))
		return;
	if (RAND_bytes((unsigned char *)&fresh, sizeof(fresh)) != 1) {
		log_warn("no random octets for the key of tickets");
		return;
	}
	t->before = t->now;
	t->has_before = t->made != 0;
	t->now = fresh;
	t->made = now;
	explicit_bzero(&fresh, sizeof(fresh));
	for (struct child *c = p->children; c != NULL; c = c->next)
		if (is_relay(c) && !c->leaving)
			tell(c, &t->now, false);
}

void
ticketkeeper_introduce(struct child *c)
{
	const struct tickets *t;

	/* the first relays are older than the first tick */
	ticketkeeper_tick(c->parent);
	t = c->parent->tickets;
	if (c->parent->conf->npublish == 0 || t->made == 0)
		return;
	if (t->has_before)
		tell(c, &t->before, true);
	tell(c, &t->now, false);
}
