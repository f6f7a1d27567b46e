/*
 * contact.c - what a session tells the table of lines
 *
 * The SYN that the kernel kept (TCP_SAVE_SYN) gives the fingerprint and the
 * identity of the attempt; the completed handshake makes it a voice, which
 * nobody can forge for a neighbour. Port 25 only: mail that is fetched says
 * nothing about a line.
 *
 * What the machines find out while the session lives comes through
 * contact_evidence(), event by event.
 *
 * The client controls every octet of the SYN; packet_parse() takes any.
 */
#include "proxyd/contact.h"

#include <netinet/tcp.h>
#include <stdatomic.h>
#include <sys/socket.h>

#include "conf/conf.h"
#include "nfq/packet.h"
#include "nfq/verdict.h"
#include "proxyd/proto.h"
#include "zombie/table.h"

/* IPv6 and TCP headers with all options, and some extension headers. */
#define SYN_OCTETS 256

static struct line_record *
record_of(struct table *t, const struct conf *conf, int class_index,
	const struct addr *src)
{
	const struct class_conf *class = class_index < 0 ? NULL :
		&conf->classes[class_index];
	struct line_key key;

	if (t == NULL || class == NULL)
		return NULL;
	line_key_of(src, class->line_len6, class->port_block, &key);
	return table_enter(t, &key, table_now(t));
}

int
contact_note(struct table *t, const struct detect *d, const struct conf *conf,
	int class_index, int fd, const struct addr *src,
	const struct addr *origin, bool is_counted)
{
	struct line_record *r = record_of(t, conf, class_index, src);
	uint8_t octets[SYN_OCTETS];
	socklen_t len = sizeof(octets);
	struct packet syn;
	uint32_t tuple = 0;
	enum level lifted;
	int found;

	if (r == NULL)
		return -1;
	if (getsockopt(fd, SOL_TCP, TCP_SAVED_SYN, octets, &len) == 0 &&
	    packet_parse(octets, len, &syn) == PACKET_OK && syn.syn != 0) {
		atomic_store_explicit(&r->syn, syn.syn, memory_order_relaxed);
		if (!is_counted)
			tuple = verdict_tuple(t, &syn);
	}
	found = detect_contact(d, t, r, table_now(t), origin, tuple, true,
		&lifted);
	if (lifted != LEVEL_CLEAN)
		table_notice(t, r);
	return found;
}

/* Of HELO the detector knows the line's other names: the log says its word. */
static enum level
give_helo(struct table *t, const struct detect *d, struct line_record *r,
	struct machine *m, enum mark mark)
{
	struct notes *n = &m->notes;
	uint16_t bad = atomic_load_explicit(&r->bad[EVIDENCE_HELO],
		memory_order_relaxed);
	enum level lifted = detect_helo(d, t, r, n->helo, n->helo_len,
		mark == MARK_BAD, &m->context->origin, table_now(t));

	if (mark == MARK_GOOD && bad != atomic_load_explicit(
		    &r->bad[EVIDENCE_HELO], memory_order_relaxed)) {
		n->witness.good[EVIDENCE_HELO]--;
		n->witness.bad[EVIDENCE_HELO]++;
	}
	return lifted;
}

void
contact_evidence(struct table *t, const struct detect *d,
	const struct conf *conf, int class_index, struct machine *m)
{
	struct witness *w = &m->notes.witness;
	uint8_t events[WITNESS_EVENTS];
	unsigned n = evidence_take(w, events);
	struct line_record *r;

	if (n == 0)
		return;
	r = record_of(t, conf, class_index, &m->context->src);
	if (r == NULL)
		return;
	for (unsigned i = 0; i < n; i++) {
		enum evidence kind = EVENT_EVIDENCE(events[i]);
		enum mark mark = EVENT_MARK(events[i]);
		enum level lifted = kind == EVIDENCE_HELO ?
			give_helo(t, d, r, m, mark) :
			detect_event(d, t, r, kind, mark, &m->context->origin,
				table_now(t), true);

		/* control looks at the record itself */
		if (lifted != LEVEL_CLEAN)
			table_notice(t, r);
	}
}

void
contact_habits(struct table *t, const struct conf *conf, int class_index,
	const struct machine *m)
{
	const struct witness *w = &m->notes.witness;
	uint16_t dialect = evidence_dialect(m);
	struct line_record *r;

	if (dialect == 0)
		return;
	r = record_of(t, conf, class_index, &m->context->src);
	if (r == NULL)
		return;
	atomic_store_explicit(&r->dialect, dialect, memory_order_relaxed);
	/* the record has half as many bits */
	if (w->domains != 0)
		atomic_fetch_or_explicit(&r->domains,
			(uint32_t)(w->domains | w->domains >> 32),
			memory_order_relaxed);
}

void
contact_key(const struct table *t, uint64_t key[2])
{
	static const char *const label[4] = { "key0", "key1", "key2", "key3" };

	for (unsigned i = 0; i < 4; i++)
		key[i / 2] = key[i / 2] << 32 | (t == NULL ? 0 :
			table_hash(t, label[i], 4));
}
