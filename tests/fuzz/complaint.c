/*
 * complaint.c - fuzz target: a mail to the abuse desk
 *
 * Reads the input as one complaint. Whatever it is: findings are ours, with a time
 * that has been or will be, no two the same, and what goes to a terminal is
 * printable. Then the input is prose, without a mail around it, read twice: the
 * same text says the same.
 */
#include "tools/complaint.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check(bool ok)
{
	if (!ok)
		abort();
}

/* 198.0.0.0/8, 10.0.0.0/8 and 2001::/16. */
static bool
is_ours(const void *arg, const struct addr *a)
{
	(void)arg;
	check(a->port == 0);
	return a->family == AF_INET ? a->ip[0] == 198 || a->ip[0] == 10 :
		a->ip[0] == 0x20 && a->ip[1] == 0x01;
}

static void
check_clean(const char *text)
{
	check(strlen(text) < COMPLAINT_TEXT);
	for (; *text != '\0'; text++)
		check(*text >= ' ' && *text <= '~');
}

static void
check_findings(const struct complaint *c)
{
	check(c->n <= COMPLAINT_FINDINGS);
	check(c->lost == 0 || c->n > 0 || c->form == COMPLAINT_PROSE);
	for (size_t i = 0; i < c->n; i++) {
		const struct finding *f = &c->finding[i];
		struct addr host = f->who;

		host.port = 0;
		check(is_ours(NULL, &host));
		check(f->when.at >= 0);
		check(f->when.at != 0 || (!f->when.no_year &&
			!f->when.no_zone));
		for (size_t j = 0; j < i; j++)
			check(!addr_same_host(&c->finding[j].who, &f->who) ||
				c->finding[j].who.port != f->who.port ||
				c->finding[j].when.at != f->when.at);
	}
	check_clean(c->from);
	check_clean(c->subject);
}

static void
check_same(const struct complaint *a, const struct complaint *b)
{
	check(a->n == b->n && a->lost == b->lost);
	for (size_t i = 0; i < a->n; i++) {
		const struct finding *f = &a->finding[i], *g = &b->finding[i];

		check(addr_same_host(&f->who, &g->who));
		check(f->who.port == g->who.port && f->when.at == g->when.at);
		check(f->many_ports == g->many_ports &&
			f->many_times == g->many_times);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct ours ours = { is_ours, NULL, 1795651200 };
	static struct complaint c, again;
	char *mail = malloc(size > 0 ? size : 1);
	const char *why = NULL;
	int rc;

	check(mail != NULL);
	memcpy(mail, data, size);
	rc = complaint_read(mail, size, &ours, &c, &why);
	check(rc == 0 || (rc == -1 && why != NULL));
	check_findings(&c);
	memcpy(mail, data, size);
	memset(&c, 0, sizeof(c));
	memset(&again, 0, sizeof(again));
	complaint_prose(&c, &ours, mail, size);
	complaint_prose(&again, &ours, mail, size);
	check_findings(&c);
	check_same(&c, &again);
	free(mail);
	return 0;
}
