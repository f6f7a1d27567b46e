/*
 * ctlsample.c - one session of a line, for whoever has to find it again
 *
 * Does: remember the latest session on port 25 of as many lines as there are
 * slots, and give that of one line as an object: who complains, and whom one
 * complains to, needs address, port and time (RFC 6302), behind CGN above all.
 * Does not: keep envelopes or names; the destination only as log.destination
 * allows.
 *
 * Called by control.c for each session and by ctlzombie.c. A relay that was taken
 * over can write any session of any line. Lines that fall on one slot replace each
 * other; which do is the table's secret.
 */
#include <jansson.h>
#include <stdlib.h>

#include "proxyd/control.h"
#include "zombie/table.h"

#define SAMPLES 8192

struct sample {
	struct line_key line;	/* family 0: empty */
	struct addr src, dst, out;
	int64_t at;		/* begin, Unix time */
};

static struct sample *
slot_of(const struct control *c, const struct line_key *k)
{
	return &c->samples[table_hash(c->table, k, sizeof(*k)) % SAMPLES];
}

void
ctlsample_note(struct control *c, const struct report *e)
{
	struct sample *s;

	if (c->table == NULL || e->line.family == 0 || e->dst.port != 25)
		return;
	if (c->samples == NULL)
		c->samples = calloc(SAMPLES, sizeof(*c->samples));
	if (c->samples == NULL)
		return;		/* evidence without an example */
	s = slot_of(c, &e->line);
	*s = (struct sample){ e->line, e->src, e->dst, e->out, e->at };
}

static void
put_addr(json_t *o, const char *key, const struct addr *a)
{
	char text[ADDR_STRLEN];

	if (a->family != 0)
		json_object_set_new(o, key, json_string(addr_format_port(a,
			text)));
}

json_t *
ctlsample_object(const struct control *c, const struct line_key *k)
{
	const struct sample *s = c->samples == NULL ? NULL : slot_of(c, k);
	json_t *o;

	if (s == NULL || !line_key_same(&s->line, k) ||
	    (o = json_object()) == NULL)
		return NULL;
	json_object_set_new(o, "at", json_integer((json_int_t)s->at));
	put_addr(o, "src", &s->src);
	if (c->conf->log_destination == LOG_DESTINATION_FULL)
		put_addr(o, "dst", &s->dst);
	put_addr(o, "out", &s->out);
	return o;
}

void
ctlsample_close(struct control *c)
{
	free(c->samples);
	c->samples = NULL;
}
