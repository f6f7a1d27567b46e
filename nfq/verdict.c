/*
 * verdict.c - what becomes of a first packet, and what is written down
 *
 * Does: find the line, count into its record, decide. Does not: read the
 * packet (packet.c), talk to the kernel (queue.c), look at a clock, allocate,
 * log. Its only outputs are the verdict and the shared record.
 *
 * Called for every queued packet, three times: verdict_look() for a whole batch,
 * then verdict_near(), so that the cache misses of 64 lines overlap, and at
 * last verdict_of(). Anybody can
 * send a SYN with any source address, so all that is counted here is hearsay:
 * the table never lifts a line above suspect for it, and only addresses inside
 * configured classes get a record at all.
 *
 * The allowlist costs a second look-up, so it is asked only where the packet
 * would be refused. The kernel's set has answered for allowed lines before;
 * the question is asked again because set and configuration change at
 * different moments, and a wrong reset is worse than 0.2 us.
 *
 * Destinations and fingerprints are taken here for classes in `watch` only.
 * For proxied lines a relay takes them at accept, where a handshake vouches
 * for them; taken here first they would no longer be new to it.
 */
#include "nfq/verdict.h"

#include <string.h>

#include "conf/conf.h"
#include "conf/lpm.h"
#include "nfq/dests.h"
#include "zombie/detect.h"

enum { PORT_SMTP = 25, PORT_SUBMISSIONS = 465, PORT_SUBMISSION = 587 };

enum verdict
verdict_decide(unsigned action, uint32_t level)
{
	if (action == ACTION_PASS)
		return VERDICT_ACCEPT;
	if (action == ACTION_DROP || (level & LEVEL_ACTION_DROP) != 0)
		return VERDICT_DROP;
	if (action == ACTION_RESET || (level & LEVEL_ACTION_RESET) != 0)
		return VERDICT_RESET;
	return VERDICT_ACCEPT;
}

uint32_t
verdict_tuple(const struct table *t, const struct packet *p)
{
	size_t size = p->src.family == AF_INET ? 4 : 16;
	uint8_t octets[2 * 16 + 8], *at = octets;
	uint32_t hash;

	memcpy(at, p->src.ip, size);
	memcpy(at + size, p->dst.ip, size);
	at += 2 * size;
	memcpy(at, &p->src.port, 2);
	memcpy(at + 2, &p->dst.port, 2);
	memcpy(at + 4, &p->seq, 4);
	hash = table_hash(t, octets, 2 * size + 8);
	return hash != 0 ? hash : 1;
}

static enum matter
matter_of(const struct judge *j, const struct packet *p)
{
	if (p->is_synack && p->src.port == PORT_SMTP)
		return j->return_path == RETURN_OFF ? MATTER_NONE : MATTER_BACK;
	if (!p->is_syn)
		return MATTER_NONE;
	switch (p->dst.port) {
	case PORT_SMTP:
		return MATTER_FIRST;
	case PORT_SUBMISSION:
	case PORT_SUBMISSIONS:
		return MATTER_SUBMISSION;
	}
	return MATTER_NONE;
}

void
verdict_look(const struct judge *j, const struct packet *p, struct look *l_r)
{
	const struct addr *owner;
	const struct class_conf *class;

	l_r->class = -1;
	l_r->matter = matter_of(j, p);
	if (l_r->matter == MATTER_NONE)
		return;
	owner = l_r->matter == MATTER_BACK ? &p->dst : &p->src;
	l_r->class = lpm_find(j->conf->class_lpm, owner, NULL);
	if (l_r->class < 0) {
		l_r->matter = MATTER_NONE;
		return;
	}
	class = &j->conf->classes[l_r->class];
	if (class->effective == ACTION_PASS || (l_r->matter == MATTER_BACK &&
			conf_class_action(class, &p->src) != ACTION_BLOCK)) {
		l_r->matter = MATTER_NONE;
		return;
	}
	line_key_of(owner, class->line_len6, class->port_block,
		&l_r->key);
	table_aim(j->table, &l_r->key, &l_r->aim);
}

void
verdict_near(const struct judge *j, const struct look *l)
{
	if (l->matter != MATTER_NONE)
		table_near(j->table, &l->aim);
}

/* An exemption, asked only for what would be refused. */
static bool
is_allowed(const struct judge *j, const struct addr *line)
{
	const struct allow_entry *entry = NULL;

	conf_policy(j->conf, line, j->unix_now, NULL, &entry);
	return entry != NULL;
}

/* A first packet in `watch': the line's record, and where it went. True: a
 * retransmission, counted as such only. */
static bool
watch(const struct judge *j, const struct packet *p, const struct look *l,
	struct line_record *r, uint32_t tuple)
{
	enum level lifted;	/* what is only heard is shown, not reported */
	int found = j->detect == NULL ?
		table_contact(j->table, r, j->now, &p->dst, tuple, false) :
		detect_contact(j->detect, j->table, r, j->now, &p->dst, tuple,
			false, &lifted);

	if (p->syn != 0)
		atomic_store_explicit(&r->syn, p->syn, memory_order_relaxed);
	if (found != -1 && j->dests != NULL && j->place[l->class] >= 0)
		dests_count(j->dests, j->place[l->class], &p->dst,
			(uint32_t)l->aim.tag);
	return found == -1;
}

static enum verdict
first_packet(const struct judge *j, const struct packet *p,
	const struct look *l, struct line_record *r, bool *again_r)
{
	enum action action = conf_class_action(&j->conf->classes[l->class],
		&p->dst);
	uint32_t level = 0;
	enum verdict v;

	if (r != NULL) {
		uint32_t tuple = verdict_tuple(j->table, p);

		if (action != ACTION_WATCH)
			*again_r = table_attempt(r, j->now, tuple) == -1;
		else
			*again_r = watch(j, p, l, r, tuple);
		level = table_level(j->table, r);
	}
	v = verdict_decide(action, level);
	if (v != VERDICT_ACCEPT && is_allowed(j, &p->src))
		v = VERDICT_ACCEPT;
	return v;
}

enum verdict
verdict_of(const struct judge *j, const struct packet *p, const struct look *l,
	bool *again_r)
{
	struct line_record *r;

	*again_r = false;
	if (l->matter == MATTER_NONE)
		return VERDICT_ACCEPT;
	/* NULL: no room for this line; the class's action holds all the same */
	r = table_enter_at(j->table, &l->aim, &l->key, j->now);
	switch (l->matter) {
	case MATTER_FIRST:
		return first_packet(j, p, l, r, again_r);
	case MATTER_SUBMISSION:
		if (r != NULL)
			table_count(&r->submission);
		break;
	case MATTER_BACK:
		/* A server answers a line that asked nothing: somebody else
		 * sends with the line's address (triangular spamming). */
		if (r != NULL)
			table_count(&r->back);
		if (j->return_path == RETURN_DROP && !is_allowed(j, &p->dst))
			return VERDICT_DROP;
		break;
	case MATTER_NONE:
		break;
	}
	return VERDICT_ACCEPT;
}
