/*
 * packet.c - fuzz target: headers of a queued packet, and the verdict on them
 *
 * The octets are a packet as NFQUEUE hands it over. What is read must be
 * complete or nothing; a copy that ends earlier must never read as another
 * packet; octets behind the packet's own end must not matter. Then it is judged
 * twice, with a return path that drops: the same verdict, and none but accept
 * for what is no first packet.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "conf/conf.h"
#include "conf/lpm.h"
#include "nfq/packet.h"
#include "nfq/syn.h"
#include "nfq/verdict.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check(bool ok)
{
	if (!ok)
		abort();
}

static bool
is_same(const struct packet *a, const struct packet *b)
{
	return a->flags == b->flags && a->seq == b->seq &&
		a->src.port == b->src.port && a->dst.port == b->dst.port &&
		addr_same_host(&a->src, &b->src) &&
		addr_same_host(&a->dst, &b->dst) && a->is_syn == b->is_syn &&
		a->is_synack == b->is_synack;
}

static void
check_packet(const struct packet *p, enum packet_status status)
{
	static const struct packet nothing;
	char text[SYN_STRLEN];
	struct syn s;

	if (status != PACKET_OK) {
		check(is_same(p, &nothing) && p->syn == 0);
		return;
	}
	check(p->src.family == AF_INET || p->src.family == AF_INET6);
	check(p->src.family == p->dst.family);
	check(!(p->is_syn && p->is_synack));
	check(p->syn == 0 || p->is_syn);
	check(strlen(syn_format(p->syn, text)) < SYN_STRLEN);
	if (p->syn != 0)
		check(syn_unpack(p->syn, &s) == 0 && s.scale <= SYN_NO_SCALE);
}

/* Copies of part of the packet, and one with more behind it. */
static void
check_lengths(const uint8_t *data, size_t size, const struct packet *whole,
	enum packet_status status)
{
	struct packet p;
	uint8_t *copy = malloc(size + 16);

	check(copy != NULL);
	for (size_t n = 0; n < size; n += 1 + n / 16) {
		uint8_t *part = malloc(n != 0 ? n : 1);

		check(part != NULL);
		memcpy(part, data, n);
		if (packet_parse(part, n, &p) == PACKET_OK)
			check(status == PACKET_OK && is_same(&p, whole));
		free(part);
	}
	memcpy(copy, data, size);
	memset(copy + size, 0xff, 16);
	if (status == PACKET_OK) {
		check(packet_parse(copy, size + 16, &p) == PACKET_OK);
		check(is_same(&p, whole));
		check(p.syn == whole->syn || whole->syn == 0);
	}
	free(copy);
}

/* One class over everything, that drops. */
static const struct judge *
judge_everything(void)
{
	static struct class_conf class = { .effective = ACTION_DROP,
		.line_len6 = 56 };
	static struct conf conf = { .classes = &class, .nclasses = 1 };
	static struct judge j = { .conf = &conf, .now = 100,
		.return_path = RETURN_DROP };
	const struct prefix four = { .family = AF_INET };
	const struct prefix six = { .family = AF_INET6 };

	if (j.table != NULL)
		return &j;
	j.table = table_new(1024);
	conf.class_lpm = lpm_new();
	conf.allow_lpm = lpm_new();
	check(j.table != NULL && conf.class_lpm != NULL &&
		conf.allow_lpm != NULL);
	check(lpm_add(conf.class_lpm, &four, 0, NULL) == 0);
	check(lpm_add(conf.class_lpm, &six, 0, NULL) == 0);
	return &j;
}

static void
check_verdict(const struct packet *p)
{
	const struct judge *j = judge_everything();
	bool is_first = p->is_syn && p->dst.port == 25, again;
	struct look l;

	for (int i = 0; i < 2; i++) {
		verdict_look(j, p, &l);
		check(verdict_of(j, p, &l, &again) ==
			(is_first ? VERDICT_DROP : VERDICT_ACCEPT));
		check(!again || is_first);
	}
	/* unless there was no room for the line */
	if (is_first && table_find(j->table, &l.key) != NULL)
		check(again);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct packet p;
	enum packet_status status;

	if (size > 1024)
		return 0;
	status = packet_parse(data, size, &p);
	check_packet(&p, status);
	check_lengths(data, size, &p, status);
	check_verdict(&p);
	return 0;
}
