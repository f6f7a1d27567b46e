/*
 * origin.c - submission at servers that nobody has listed
 *
 * Does: remember which hosts have 465 or 587, choose the port of a session, try
 * the other one when the first fails, and hand a session over to the block
 * machine when both do: its client, greeted already, then reads the operator's
 * text and no riddle. Does not: dial, or verify; dial.c and tls.c do.
 *
 * Called by session.c and dial.c. Clients choose the hosts and servers how they
 * answer. A host that only answers in the clear, or with a certificate that no
 * trusted authority vouches for, is one without submission.
 */
#include "proxyd/origin.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "conf/conf.h"
#include "proxyd/session.h"
#include "proxyd/smtp.h"
#include "zombie/siphash.h"

#define SUBMISSIONS 465		/* RFC 8314 section 7.3 */
#define SUBMISSION 587		/* RFC 6409 section 3.1 */

/* ---- what hosts have ---- */

struct origins {
	uint64_t key[2];
	struct {
		uint8_t ip[16];
		uint8_t family, port;	/* family 0: empty */
		int64_t until;
	} host[ORIGINS_MAX];
};

struct origins *
origins_new(void)
{
	struct origins *o = calloc(1, sizeof(*o));

	if (o != NULL && getrandom(o->key, sizeof(o->key), 0) !=
	    sizeof(o->key)) {
		free(o);
		return NULL;
	}
	return o;
}

void
origins_free(struct origins **o)
{
	free(*o);
	*o = NULL;
}

static size_t
place(const struct origins *o, const struct addr *host)
{
	return siphash(o->key, host->ip, sizeof(host->ip)) % ORIGINS_MAX;
}

enum origin_port
origins_find(const struct origins *o, const struct addr *host, int64_t now)
{
	size_t i = place(o, host);

	if (o->host[i].family != host->family || o->host[i].until <= now ||
	    memcmp(o->host[i].ip, host->ip, sizeof(host->ip)) != 0)
		return ORIGIN_UNTRIED;
	return o->host[i].port;
}

void
origins_note(struct origins *o, const struct addr *host, enum origin_port port,
	int64_t now)
{
	size_t i = place(o, host);

	o->host[i].family = (uint8_t)host->family;
	memcpy(o->host[i].ip, host->ip, sizeof(host->ip));
	o->host[i].port = (uint8_t)port;
	o->host[i].until = now + (port == ORIGIN_NONE ? ORIGIN_NONE_SECONDS :
		ORIGIN_SECONDS);
}

/* ---- one session ---- */

static int64_t
seconds(void)
{
	return relay_now() / 1000;
}

/* STARTTLS is shown where 587 has it: the client may want to see the server's
 * certificate itself. */
static void
choose(struct origin_server *u, enum origin_port port)
{
	bool implicit = port != ORIGIN_587;

	u->conf.submission.mode = implicit ? TLS_IMPLICIT : TLS_STARTTLS;
	u->conf.submission.port = implicit ? SUBMISSIONS : SUBMISSION;
	u->conf.starttls = implicit ? 0 : SUBMISSION;
}

int
origin_open(struct session *s)
{
	enum origin_port known = origins_find(s->relay->origins, &s->origin,
		seconds());
	struct origin_server *u;

	if (known == ORIGIN_NONE)
		return 1;
	if ((u = session_server(s)) == NULL)
		return -1;
	choose(u, known);
	return 0;
}

void
origin_stands(struct session *s)
{
	if (s->unlisted != NULL && s->kind == EVENT_SUBMIT &&
	    s->machine.dialling &&
	    !s->machine.u.smtp.tunnel)
		origins_note(s->relay->origins, &s->origin,
			s->machine.dial.port == SUBMISSION ? ORIGIN_587 :
			ORIGIN_465, seconds());
}

/* What a host without submission does. */
static bool
is_theirs(enum reason why)
{
	static const enum reason theirs[] = { REASON_CONNECT_FAILED,
		REASON_CONNECT_TIMEOUT, REASON_FORBIDDEN, REASON_TLS_FAILED,
		REASON_TLS_TIMEOUT, REASON_CERTIFICATE, REASON_NO_STARTTLS,
		REASON_SERVER_GREETING, REASON_SERVER_PROTOCOL,
		REASON_SERVER_TIMEOUT, REASON_SERVER_EOF, REASON_SERVER_RESET };

	for (size_t i = 0; i < sizeof(theirs) / sizeof(theirs[0]); i++)
		if (why == theirs[i])
			return true;
	return false;
}

/* From here on the operator's text answers, beginning with the EHLO. */
static void
become_block(struct session *s)
{
	struct machine *m = &s->machine;
	struct context *x = &s->context;
	struct sink out[2];
	enum act act;

	x->block = &s->relay->conf->classes[s->class_index].block;
	x->is_soft = x->block->soft_until > time(NULL);
	/* what a greeting would have said, the answer to EHLO says */
	x->refuse_at_ehlo = x->block->stage == BLOCK_GREETING;
	x->server = NULL;
	s->kind = EVENT_BLOCK;
	s->tls = 0;
	memset(&s->out, 0, sizeof(s->out));
	session_phase(s, PHASE_TALK);
	session_open_sinks(s, out);
	act = smtp_block_take_over(m, out);
	session_flush_sinks(s, out);
	session_act(s, act);
}

bool
origin_failed(struct session *s, enum reason why)
{
	struct origin_server *u = s->unlisted;
	bool was_587;

	if (u == NULL || s->kind != EVENT_SUBMIT || !s->machine.dialling ||
	    s->machine.u.smtp.tunnel || !is_theirs(why))
		return false;
	session_act(s, ACT_HANGUP);
	if (!u->tried_both) {
		was_587 = s->machine.dial.port == SUBMISSION;
		u->tried_both = true;
		choose(u, was_587 ? ORIGIN_465 : ORIGIN_587);
		session_act(s, smtp_submit_redial(&s->machine));
		return true;
	}
	origins_note(s->relay->origins, &s->origin, ORIGIN_NONE, seconds());
	become_block(s);
	return true;
}
