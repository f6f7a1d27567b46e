/*
 * ctlplan.c - operators: what has been seen of every class
 *
 * Does: walk the table of lines in slices, so that a million lines never keep
 * control from its other work, and answer with counts per class, its lines
 * sorted by what they look like, and the destinations that nfq has kept.
 * Of a class that relays and reads replies, what the detector has named is held
 * against what remote servers did with the same lines: its precision on the
 * operator's own network, before anything is done about a line.
 * Does not: judge a line. What a line looks like here is said about a class, on
 * what can be forged; detectors act on handshakes, this acts on nothing.
 *
 * Called by ctlsock.c; tools/cmd_plan.c puts the answer into words. Operators
 * control nothing but the moment; senders of SYNs control the counts.
 */
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "conf/lpm.h"
#include "nfq/dests.h"
#include "proxyd/control.h"
#include "zombie/table.h"

/* Records of one slice: a millisecond or two. */
#define SLICE 8192
#define PLAN_SECONDS 60

/* DETECTION.md sections 1 and 4: `rate_limit' is 60 destinations or 300
 * attempts an hour; people and devices (L1, L4) dial one or two destinations,
 * home servers (L2) up to eight, and the usual router rule is 30 an hour. */
#define BOT_DESTINATIONS 60
#define BOT_RATE 300
#define CALM_DESTINATIONS 8
#define CALM_RATE 30

/*
 * Shadow: what servers did with a line says something from five outcomes on, as
 * rule 7 of detect.h has it. A line looks innocent when they took half of them or
 * more; one that the detector has not named looks missed when they refused nine of
 * ten: of bots' messages servers refuse 70 %, of honest senders' 2 to 10 %
 * (DETECTION.md sections 1 and 4).
 */
#define SHADOW_OUTCOMES 5
#define SHADOW_SHOWN 20

enum looks { LOOKS_CALM, LOOKS_BETWEEN, LOOKS_BOT, LOOKS_COUNT };

static const char *const looks_word[LOOKS_COUNT] = {
	"calm", "between", "bot",
};

struct shadow {
	uint64_t named, judged;	/* lines: at level zombie; and known to servers */
	uint64_t accepted, refused;	/* outcomes of the judged */
	uint64_t innocent, others, missed;	/* others: judged, not named */
	json_t *lines;		/* the first innocent ones */
};

struct seen {			/* of one class */
	struct shadow shadow;
	uint64_t lines[LOOKS_COUNT], attempts[LOOKS_COUNT];
	uint64_t heard;		/* attempts without a handshake of ours */
	uint64_t retransmissions, submission;
	uint32_t first, last;	/* 0: nothing */
};

struct walk {
	struct control *control;
	const struct conf *conf;	/* as of its start */
	uint64_t serial;		/* of the client */
	struct event *ev;
	size_t at;
	struct seen *seen;		/* by class */
};

static enum looks
looks_of(const struct line_record *r)
{
	/* as it was when the line was last heard of */
	double rate = table_rate(r, atomic_load(&r->last));
	double destinations = table_destinations(r);

	if (destinations >= BOT_DESTINATIONS || rate >= BOT_RATE)
		return LOOKS_BOT;
	if (destinations <= CALM_DESTINATIONS + .5 && rate <= CALM_RATE)
		return LOOKS_CALM;
	return LOOKS_BETWEEN;
}

/* Is what servers answer to the lines of this class in their records? */
static bool
has_shadow(const struct walk *w, size_t class)
{
	const struct detect *d = &w->control->detect;

	return w->conf->classes[class].effective == ACTION_RELAY &&
		w->conf->read_replies &&
		d->kind[EVIDENCE_REFUSAL].mode != KIND_OFF &&
		d->kind[EVIDENCE_UNKNOWN_USER].mode != KIND_OFF;
}

static void
note_innocent(const struct walk *w, struct shadow *s,
	const struct line_record *r, const struct line_key *k,
	unsigned accepted, unsigned refused)
{
	char text[LINE_STRLEN];

	s->innocent++;
	if (s->lines == NULL)
		s->lines = json_array();
	if (json_array_size(s->lines) >= SHADOW_SHOWN)
		return;
	ctlzombie_text(w->control, k, text);
	json_array_append_new(s->lines, json_pack("{s:s,s:i,s:i,s:I,s:b}",
		"line", text, "accepted", (int)accepted, "refused",
		(int)refused, "since", (json_int_t)ctlzombie_since(w->control,
		table_level(w->control->table, r)), "pinned",
		(table_level(w->control->table, r) & LEVEL_PINNED) != 0));
}

/* What the detector says of a line, and what servers said to it. */
static void
hold_against(const struct walk *w, struct shadow *s,
	const struct line_record *r, const struct line_key *k)
{
	bool named = rollup_level(w->conf, w->control->table, k) ==
		LEVEL_ZOMBIE;
	unsigned accepted = atomic_load(&r->good[EVIDENCE_REFUSAL]);
	unsigned refused = atomic_load(&r->bad[EVIDENCE_REFUSAL]) +
		(unsigned)atomic_load(&r->bad[EVIDENCE_UNKNOWN_USER]);

	s->named += named;
	if (accepted + refused < SHADOW_OUTCOMES)
		return;
	if (!named) {
		s->others++;
		s->missed += refused * 10 >= (accepted + refused) * 9;
		return;
	}
	s->judged++;
	s->accepted += accepted;
	s->refused += refused;
	if (accepted >= refused)
		note_innocent(w, s, r, k, accepted, refused);
}

static void
take_line(struct walk *w, const struct line_record *r)
{
	struct line_key key;
	struct prefix prefix;
	struct addr a = { .family = 0 };
	uint32_t first = atomic_load(&r->first), last = atomic_load(&r->last);
	uint32_t attempts = atomic_load(&r->attempts);
	enum looks looks;
	struct seen *s;
	int32_t class;

	if (!table_key(w->control->table, r, &key))
		return;
	line_key_prefix(&key, &prefix);
	a.family = prefix.family;
	memcpy(a.ip, prefix.ip, sizeof(a.ip));
	class = lpm_find(w->conf->class_lpm, &a, NULL);
	/* of a class that was, or a parent: its lines are counted */
	if (class < 0 || !line_key_valid(&key,
		    w->conf->classes[class].line_len6,
		    w->conf->classes[class].port_block))
		return;
	s = &w->seen[class];
	s->submission += atomic_load(&r->submission);
	if (attempts == 0)
		return;
	if (has_shadow(w, (size_t)class))
		hold_against(w, &s->shadow, r, &key);
	looks = looks_of(r);
	s->lines[looks]++;
	s->attempts[looks] += attempts;
	s->heard += table_heard(r);
	s->retransmissions += atomic_load(&r->retransmissions);
	if (s->first == 0 || first < s->first)
		s->first = first;
	if (last > s->last)
		s->last = last;
}

/* The listed server with this address, or NULL. */
static const struct server_conf *
server_at(const struct control *c, const struct addr *a)
{
	for (size_t s = 0; s < c->conf->nservers; s++) {
		size_t n;
		const struct known_addr *k = names_list(c->names, s, &n);

		for (size_t i = 0; i < n; i++)
			if (addr_same_host(&k[i].addr, a))
				return &c->conf->servers[s];
	}
	return NULL;
}

static json_t *
show_destinations(const struct control *c, const char *class, json_int_t *all_r)
{
	static struct dest list[DESTS_EACH];
	json_t *all = json_array();
	uint64_t attempts = 0;
	size_t n = c->dests == NULL ? 0 :
		dests_list(c->dests, class, list, &attempts);

	*all_r = (json_int_t)attempts;
	for (size_t i = 0; i < n; i++) {
		const struct server_conf *s = server_at(c, &list[i].addr);
		char text[ADDR_STRLEN];

		json_array_append_new(all, json_pack(
			"{s:s,s:I,s:I,s:I,s:s?,s:b}",
			"address", addr_format(&list[i].addr, text),
			"attempts", (json_int_t)list[i].attempts,
			"error", (json_int_t)list[i].error,
			"lines", (json_int_t)(list[i].lines + .5),
			"server", s != NULL ? s->name : NULL,
			"submission", s != NULL &&
				s->submission.mode != TLS_NONE));
	}
	return all;
}

/* NULL: the class does not relay, or replies are not read. */
static json_t *
show_shadow(const struct walk *w, size_t i)
{
	const struct shadow *s = &w->seen[i].shadow;

	if (!has_shadow(w, i))
		return NULL;
	return json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:o}",
		"named", (json_int_t)s->named, "judged", (json_int_t)s->judged,
		"accepted", (json_int_t)s->accepted,
		"refused", (json_int_t)s->refused,
		"innocent", (json_int_t)s->innocent,
		"others", (json_int_t)s->others,
		"missed", (json_int_t)s->missed, "lines", s->lines != NULL ?
		json_incref(s->lines) : json_array());
}

static json_t *
show_class(const struct walk *w, size_t i)
{
	static const char *const enforce[] = { "watch", "all", "listed" };
	const struct control *c = w->control;
	const struct class_conf *k = &w->conf->classes[i];
	const struct seen *s = &w->seen[i];
	json_t *lines = json_object(), *attempts = json_object(), *to;
	json_int_t to_all;

	for (size_t l = 0; l < LOOKS_COUNT; l++) {
		json_object_set_new(lines, looks_word[l],
			json_integer((json_int_t)s->lines[l]));
		json_object_set_new(attempts, looks_word[l],
			json_integer((json_int_t)s->attempts[l]));
	}
	to = show_destinations(c, k->name, &to_all);
	return json_pack("{s:s,s:s,s:s,s:s,s:I,s:o,s:o,s:I,s:I,s:I,s:I,s:I,"
		"s:o,s:I,s:o?}",
		"class", k->name, "port25", action_name[k->port25],
		"now", action_name[k->effective],
		"enforce", enforce[k->enforce],
		"listed", (json_int_t)k->ndestinations,
		"lines", lines, "attempts", attempts,
		"heard", (json_int_t)s->heard,
		"retransmissions", (json_int_t)s->retransmissions,
		"submission", (json_int_t)s->submission,
		"first", s->first == 0 ? (json_int_t)0 :
			(json_int_t)table_unix(c->table, s->first),
		"last", s->last == 0 ? (json_int_t)0 :
			(json_int_t)table_unix(c->table, s->last),
		"destinations", to, "destination_attempts", to_all,
		"shadow", show_shadow(w, i));
}

static void
walk_end(struct walk *w, const char *error)
{
	struct client *cl = ctlsock_find(w->control, w->serial);
	json_t *classes = json_array();

	for (size_t i = 0; error == NULL && i < w->conf->nclasses; i++)
		json_array_append_new(classes, show_class(w, i));
	if (cl != NULL && error != NULL)
		ctlsock_error(cl, error);
	else if (cl != NULL)
		ctlsock_answer(cl, json_pack("{s:b,s:I,s:I,s:O}", "ok", 1,
			"since", w->control->dests == NULL ? (json_int_t)0 :
				(json_int_t)dests_since(w->control->dests),
			"allowed", (json_int_t)(w->conf->nallow),
			"classes", classes));
	json_decref(classes);
	for (size_t i = 0; i < w->conf->nclasses; i++)
		json_decref(w->seen[i].shadow.lines);
	event_free(w->ev);
	free(w->seen);
	free(w);
}

static void
on_slice(evutil_socket_t fd, short what, void *arg)
{
	static const struct timeval soon = { 0, 0 };
	struct walk *w = arg;
	const struct line_record *r = NULL;

	(void)fd;
	(void)what;
	if (ctlsock_find(w->control, w->serial) == NULL) {
		walk_end(w, "nobody waits");
		return;
	}
	for (size_t i = 0; i < SLICE; i++) {
		r = table_next(w->control->table, &w->at);
		if (r == NULL)
			break;
		take_line(w, r);
	}
	if (r == NULL)
		walk_end(w, NULL);
	else if (event_add(w->ev, &soon) != 0)
		walk_end(w, "no memory");
}

void
ctlplan_request(struct client *cl)
{
	struct control *c = cl->control;
	static const struct timeval soon = { 0, 0 };
	struct walk *w;

	if (c->table == NULL) {
		ctlsock_error(cl, "no table of lines is kept");
		return;
	}
	w = calloc(1, sizeof(*w));
	if (w != NULL) {
		w->control = c;
		w->conf = c->conf;
		w->serial = cl->serial;
		w->seen = calloc(c->conf->nclasses, sizeof(*w->seen));
		w->ev = evtimer_new(c->base, on_slice, w);
	}
	if (w == NULL || w->seen == NULL || w->ev == NULL ||
	    event_add(w->ev, &soon) != 0) {
		if (w != NULL && w->ev != NULL)
			event_free(w->ev);
		if (w != NULL)
			free(w->seen);
		free(w);
		ctlsock_error(cl, "no memory");
		return;
	}
	ctlsock_wait(cl, PLAN_SECONDS, "the walk over the lines takes too long");
}
