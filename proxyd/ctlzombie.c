/*
 * ctlzombie.c - levels of lines: who is raised, lowered, cleared, and who asks
 *
 * Does: look at lines that relays have noticed, set the level that their record
 * says (zombie/detect.h), let it decay and expire, tell each change in one log
 * line with the evidence, answer `zombies' and `zombie ...'. Does not: score
 * anything; nobody else sets a level.
 *
 * Called by control.c and ctlsock.c. A relay that was taken over can write any
 * count, and so raise a line whose key it finds in the table. It cannot set, pin
 * or clear a level; by what it writes of bad hours and customers one can end a
 * day after it was set, or not end by itself.
 *
 * All that counts of a level is its word in the table: which, since which hour,
 * pinned or not. It outlives this process and moves with the line's lease; the
 * words are looked through now and then. ctllevel.c keeps them over a restart.
 */
#include <event2/event.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "conf/lpm.h"
#include "lib/kv.h"
#include "lib/log.h"
#include "proxyd/control.h"
#include "proxyd/lease.h"
#include "zombie/detect.h"

/* Seconds between looks at every level. */
#define SWEEP_SECONDS 10
/* Notices of one second: more than the ring holds, whoever writes into it. */
#define NOTICES_MAX 1024
/* Records of one look, when every one has to be looked at: some milliseconds, so
 * that a million lines keep nobody waiting. */
#define SLICE 65536
#define HOUR 3600
/* Lines of one answer; the highest levels come first. */
#define SHOWN_MAX 10000

struct who {			/* who changes a level */
	const char *name;	/* "evidence", "decay", "expiry", or a user */
	const char *why;	/* his words, or "" */
};

/* The class that a line is of now, or NULL: it is none's. */
static const struct class_conf *
class_of(const struct control *c, const struct line_key *k)
{
	struct prefix p;
	struct addr a = { .family = k->family };
	int32_t class;

	line_key_prefix(k, &p);
	memcpy(a.ip, p.ip, sizeof(a.ip));
	class = lpm_find(c->conf->class_lpm, &a, NULL);
	return class < 0 ? NULL : &c->conf->classes[class];
}

void
ctlzombie_text(const struct control *c, const struct line_key *k,
	char out[LINE_STRLEN])
{
	const struct class_conf *class = class_of(c, k);

	line_format(k, class == NULL ? 0 : class->port_block, out);
}

/* ---- what is told ---- */

static json_t *show_line(const struct control *c, const struct line_record *r,
	const struct line_key *k);

static void
put_score(struct kv *k, const struct line_record *r, enum evidence kind)
{
	unsigned good = atomic_load(&r->good[kind]);
	unsigned bad = atomic_load(&r->bad[kind]);
	char text[48];

	if (good + bad == 0)
		return;
	snprintf(text, sizeof(text), "%.1f,%u/%u",
		fabs(atomic_load(&r->score[kind]) / (double)SCORE_ONE), bad,
		bad + good);
	kv_word(k, evidence_name[kind], text);
}

static void
put_numbers(const struct control *c, struct kv *k, const struct line_record *r)
{
	unsigned accepted, known = detect_outcomes(r, &accepted);
	char text[24];

	for (unsigned i = 0; i < EVIDENCE_COUNT; i++)
		put_score(k, r, i);
	if (known > 0) {
		snprintf(text, sizeof(text), "%u/%u", accepted, known);
		kv_word(k, "accepted", text);
	}
	kv_uint(k, "destinations", (uint64_t)lround(table_destinations(r)));
	kv_uint(k, "rate", (uint64_t)lround(table_rate(r,
		table_now(c->table))));
	kv_uint(k, "attempts", atomic_load(&r->attempts));
	kv_uint(k, "sessions", atomic_load(&r->sessions));
	kv_uint(k, "first", (uint64_t)table_unix(c->table,
		atomic_load(&r->first)));
	kv_uint(k, "last", (uint64_t)table_unix(c->table,
		atomic_load(&r->last)));
	if (atomic_load(&r->dialect) != 0) {
		snprintf(text, sizeof(text), "%04x",
			(unsigned)atomic_load(&r->dialect));
		kv_word(k, "dialect", text);
	}
}

/* "clear" for what is called clean. */
static const char *
event_name(enum level level)
{
	return level == LEVEL_CLEAN ? "clear" : level_name[level];
}

/* The same for the operator's program, with the words of the log. */
static void
tell_hook(struct control *c, json_t *shown, const struct ledger_level *e)
{
	json_t *o = json_pack("{s:s,s:I,s:s,s:s,s:s}",
		"event", event_name(e->is), "at", (json_int_t)e->at,
		"was", level_name[e->was], "who", e->who, "why", e->why);

	if (c->conf->hook == NULL)
		json_decref(o);
	else {
		json_object_update(o, shown);
		ctlhook_note(c, o);
	}
}

/* The same for the ledger. */
static void
write_level(struct control *c, const struct line_record *r,
	const struct line_key *key, enum level level, enum level was,
	const struct who *who)
{
	struct ledger_level e = { .at = time(NULL), .was = (uint8_t)was,
		.is = (uint8_t)level, .pinned = (table_level(c->table, r) &
		LEVEL_PINNED) != 0 };
	json_t *shown = show_line(c, r, key);

	ctlrollup_lines(c, key, shown);
	ctlzombie_text(c, key, e.line);
	snprintf(e.who, sizeof(e.who), "%s", who->name);
	snprintf(e.why, sizeof(e.why), "%.*s", (int)sizeof(e.why) - 1,
		who->why);
	tell_hook(c, shown, &e);
	ctllevel_note(c, &e, json_dumps(shown, JSON_COMPACT |
		JSON_ENSURE_ASCII));
	json_decref(shown);
}

static void
tell(struct control *c, const struct line_record *r,
	const struct line_key *key, enum level level, enum level was,
	const struct who *who)
{
	const struct class_conf *class = class_of(c, key);
	char line[1024], text[LINE_STRLEN];
	struct kv k;

	ctlzombie_text(c, key, text);
	kv_open(&k, line, sizeof(line), event_name(level));
	kv_word(&k, "line", text);
	kv_word(&k, "class", class == NULL ? "" : class->name);
	kv_word(&k, "was", level_name[was]);
	if (table_level(c->table, r) & LEVEL_PINNED)
		kv_uint(&k, "pinned", 1);
	kv_text(&k, "who", who->name, strlen(who->name));
	if (who->why[0] != '\0')
		kv_text(&k, "why", who->why, strlen(who->why));
	ctlrollup_log(c, key, &k);
	put_numbers(c, &k, r);
	log_line(level == LEVEL_ZOMBIE ? LOG_NOTICE : LOG_INFO, line);
	write_level(c, r, key, level, was, who);
}

/* ---- levels ---- */

/* What nfq is to do with first packets. Only where the kernel has let
 * pass_destinations go before: elsewhere the relay, which knows them, resets. */
static uint32_t
flags_of(const struct control *c, const struct line_key *k, enum level level)
{
	const struct class_conf *class = class_of(c, k);

	/* nfq does not look for parents: the relay does */
	return level == LEVEL_ZOMBIE && class != NULL &&
		!rollup_is_parent(c->conf, k) &&
		c->conf->zombie.action == ZOMBIE_RESET &&
		class->effective == ACTION_BLOCK &&
		class->enforce == ENFORCE_ALL ? LEVEL_ACTION_RESET : 0;
}

/* Since when, to the hour that the table remembers. */
static uint32_t
since_of(uint32_t word)
{
	uint32_t hour = word >> LEVEL_HOUR_SHIFT;

	return hour == 0 ? 0 : (hour - 1) * HOUR;
}

int64_t
ctlzombie_since(const struct control *c, uint32_t word)
{
	return word == 0 ? 0 : table_unix(c->table, since_of(word));
}

int
ctlzombie_bring_back(struct control *c, struct line_record *r,
	const struct line_key *k, uint8_t level, bool pinned)
{
	ctlrollup_touch(c, k);
	return table_set_level(c->table, r, k, level | flags_of(c, k, level) |
		(pinned ? LEVEL_PINNED : 0) | (uint32_t)detect_hour(table_now(
		c->table)) << LEVEL_HOUR_SHIFT);
}

/* 0, or -1: the table has no room for the line. */
static int
set_level(struct control *c, struct line_record *r, const struct line_key *k,
	enum level level, uint32_t flags, const struct who *who)
{
	uint32_t now = table_now(c->table), word = 0;
	enum level was = table_level(c->table, r) & LEVEL_MASK;

	if (level != LEVEL_CLEAN)
		word = level | flags | flags_of(c, k, level) |
			(uint32_t)detect_hour(now) << LEVEL_HOUR_SHIFT;
	if (table_set_level(c->table, r, k, word) != 0) {
		r = table_enter(c->table, k, now);
		if (r == NULL || table_set_level(c->table, r, k, word) != 0)
			return -1;
	}
	if (level != was || flags != 0)
		tell(c, r, k, level, was, who);
	if (level != was)
		ctlrollup_touch(c, k);
	return 0;
}

int
ctlzombie_set(struct control *c, struct line_record *r,
	const struct line_key *k, enum level level, const char *who,
	const char *why)
{
	const struct who by = { who, why };

	return set_level(c, r, k, level, level == LEVEL_CLEAN ? 0 :
		table_level(c->table, r) & LEVEL_PINNED, &by);
}

/* What the record says, when that is more than is known. Without a handshake
 * nothing is: what was only heard of a line anybody may have sent. */
static void
consider(struct control *c, struct line_record *r)
{
	static const struct who evidence = { "evidence", "" };
	const struct class_conf *class;
	struct line_key k;
	enum level level;

	if (atomic_load(&r->sessions) == 0)
		return;
	level = detect_level(&c->detect, r, table_now(c->table));
	if (level <= (table_level(c->table, r) & LEVEL_MASK))
		return;
	/* the key is any relay's word: one that no line has is left alone */
	if (!table_key(c->table, r, &k) || (class = class_of(c, &k)) == NULL ||
	    !line_key_valid(&k, class->line_len6, class->port_block))
		return;
	(void)set_level(c, r, &k, level, table_level(c->table, r) &
		LEVEL_PINNED, &evidence);
}

/* Nobody's line, for long enough: its next customer is somebody else. */
static bool
is_expired(const struct control *c, const struct line_record *r, uint32_t since,
	uint32_t now)
{
	return c->conf->zombie.expiry != 0 && atomic_load(&r->customer) == 0 &&
		now - since >= c->conf->zombie.expiry * HOUR;
}

static void
age(struct control *c, struct line_record *r)
{
	static const struct who decay = { "decay", "" };
	static const struct who expiry = { "expiry", "" };
	uint32_t now = table_now(c->table), word = table_level(c->table, r);
	uint32_t since = since_of(word);
	enum level level = word & LEVEL_MASK, left;
	struct line_key k;

	if (!table_key(c->table, r, &k))
		return;
	/* zombie.action is another one than it was */
	if ((word & LEVEL_ACTION_RESET) != flags_of(c, &k, level))
		(void)table_set_level(c->table, r, &k,
			word ^ LEVEL_ACTION_RESET);
	/* a parent's lines age, and take it along */
	if ((word & LEVEL_PINNED) != 0 || rollup_is_parent(c->conf, &k))
		return;
	left = detect_decay(&c->detect, r, level, since, now);
	if (is_expired(c, r, since, now)) {
		detect_forgive(r);
		(void)set_level(c, r, &k, LEVEL_CLEAN, 0, &expiry);
	} else if (left < level) {
		/* or the old scores would raise it at the next look at all */
		detect_forgive(r);
		(void)set_level(c, r, &k, left, 0, &decay);
	}
}

/* ---- the clock ---- */

/* Every record, a slice a second. If more notices are lost meanwhile, this round
 * is brought to its end and another one follows. */
static void
look_on(struct control *c)
{
	struct line_record *r;

	if (c->look_again && !c->looking) {
		c->look_again = false;
		c->looking = true;
		c->look_at = 0;
	}
	for (unsigned i = 0; c->looking && i < SLICE; i++)
		if ((r = table_next(c->table, &c->look_at)) != NULL)
			consider(c, r);
		else
			c->looking = false;
}

static void
sweep(struct control *c)
{
	struct line_record *r;
	size_t at = 0;

	while ((r = table_next_level(c->table, &at)) != NULL)
		age(c, r);
}

static void
on_zombies(evutil_socket_t fd, short what, void *arg)
{
	struct control *c = arg;
	struct line_record *r = NULL;
	int rc;

	(void)fd;
	(void)what;
	/* those that come meanwhile are for the next time */
	for (unsigned i = 0; i < NOTICES_MAX &&
	    (rc = table_noticed(c->table, &c->noticed, &r)) != 0; i++)
		if (rc > 0)
			consider(c, r);
		else
			c->look_again = true;
	look_on(c);
	if (c->zombie_seconds++ % SWEEP_SECONDS == 0)
		sweep(c);
	ctlrollup_second(c);
	ctlhour_second(c);
	ctllevel_second(c);
	ctlhook_second(c);
}

int
ctlzombie_open(struct control *c)
{
	const struct timeval second = { 1, 0 };

	if (c->table == NULL)
		return 0;
	detect_load(&c->detect, &c->conf->zombie);
	c->look_again = true;	/* what came while nobody looked */
	ctlhour_open(c);
	c->ev_zombies = event_new(c->base, -1, EV_PERSIST, on_zombies, c);
	return c->ev_zombies == NULL ? -1 : event_add(c->ev_zombies, &second);
}

void
ctlzombie_close(struct control *c)
{
	if (c->ev_zombies != NULL)
		event_free(c->ev_zombies);
	ctllevel_close(c);
	ctlhour_close(c);
}

/* ---- answers ---- */

static json_t *
show_kinds(const struct control *c, const struct line_record *r)
{
	static const char *const mode[] = { "off", "log", "count" };
	json_t *kinds = json_object();

	for (unsigned i = 0; i < EVIDENCE_COUNT; i++) {
		int score = atomic_load(&r->score[i]);
		unsigned bad = atomic_load(&r->bad[i]);
		unsigned good = atomic_load(&r->good[i]);

		json_object_set_new(kinds, evidence_name[i], json_pack(
			"{s:f,s:I,s:I,s:s,s:b}", "score",
			abs(score) / (double)SCORE_ONE, "bad", (json_int_t)bad,
			"all", (json_int_t)bad + good, "mode",
			mode[c->detect.kind[i].mode], "heard", score < 0));
	}
	return kinds;
}

static json_t *
show_line(const struct control *c, const struct line_record *r,
	const struct line_key *k)
{
	const struct class_conf *class = class_of(c, k);
	uint32_t now = table_now(c->table), word = table_level(c->table, r);
	unsigned accepted, known = detect_outcomes(r, &accepted);
	char text[LINE_STRLEN];
	json_t *o;

	ctlzombie_text(c, k, text);
	o = json_pack("{s:s,s:s,s:s,s:I,s:b,s:o,s:I,s:I,s:b,s:I,s:I,s:I,s:I,"
		"s:I,s:I,s:I,s:o*}",
		"line", text,
		"class", class == NULL ? "" : class->name,
		"level", level_name[word & LEVEL_MASK],
		"since", (json_int_t)ctlzombie_since(c, word),
		"pinned", (word & LEVEL_PINNED) != 0,
		"evidence", show_kinds(c, r),
		"destinations", (json_int_t)lround(table_destinations(r)),
		"rate", (json_int_t)lround(table_rate(r, now)),
		"fast", detect_is_fast(&c->detect, r, now),
		"accepted", (json_int_t)accepted, "outcomes", (json_int_t)known,
		"attempts", (json_int_t)atomic_load(&r->attempts),
		"sessions", (json_int_t)atomic_load(&r->sessions),
		"first", (json_int_t)table_unix(c->table,
			atomic_load(&r->first)),
		"last", (json_int_t)table_unix(c->table, atomic_load(&r->last)),
		"dialect", (json_int_t)atomic_load(&r->dialect),
		"example", ctlsample_object(c, k));
	/* whose keys made it; a dialect of another table is another thing */
	snprintf(text, sizeof(text), "%016llx", (unsigned long long)table_id(
		c->table));
	json_object_set_new(o, "table", json_string(text));
	if (rollup_is_parent(c->conf, k))
		json_object_set_new(o, "rolled_up", json_true());
	return o;
}

static const char *const action_word[] = { "log", "tarpit", "block", "reset" };

/* The lines with a level, the highest ones first. */
void
ctlzombie_list(struct client *cl)
{
	struct control *c = cl->control;
	json_t *list = json_array();
	json_int_t n[LEVEL_ZOMBIE + 1] = { 0 };

	for (int level = LEVEL_ZOMBIE; c->table != NULL && level > LEVEL_CLEAN;
	    level--) {
		struct line_record *r;
		size_t at = 0;

		while ((r = table_next_level(c->table, &at)) != NULL) {
			struct line_key k;

			if ((int)(table_level(c->table, r) & LEVEL_MASK) !=
			    level || !table_key(c->table, r, &k))
				continue;
			if (n[level]++ < SHOWN_MAX &&
			    json_array_size(list) < SHOWN_MAX)
				json_array_append_new(list, show_line(c, r, &k));
		}
	}
	ctlsock_answer(cl, json_pack("{s:b,s:s,s:I,s:I,s:I,s:o}", "ok", 1,
		"action", action_word[c->conf->zombie.action],
		"zombie", n[LEVEL_ZOMBIE], "probable", n[LEVEL_PROBABLE],
		"suspect", n[LEVEL_SUSPECT], "lines", list));
}

static bool
parse_parent(const struct control *c, const char *text, struct line_key *k_r)
{
	struct addr a = { .family = AF_INET6 };
	struct line_text l;
	const char *wrong;

	if (line_parse(&l, text, &wrong) != 0 || l.prefix.len != ROLLUP_LEN ||
	    l.prefix.family != AF_INET6)
		return false;
	memcpy(a.ip, l.prefix.ip, sizeof(a.ip));
	line_key_of(&a, ROLLUP_LEN, 0, k_r);
	return rollup_is_parent(c->conf, k_r);
}

const char *
ctlzombie_line(const struct control *c, const char *text, struct line_key *k_r,
	char why[160])
{
	char line[LINE_STRLEN];
	const struct class_conf *class;
	struct addr a;
	int32_t at;

	if (parse_parent(c, text, k_r))
		return NULL;
	if (addr_parse(&a, text) != 0)
		return lease_line(c->conf, text, k_r, line, why);
	at = lpm_find(c->conf->class_lpm, &a, NULL);
	if (at < 0)
		return "this address is in no class of subscribers";
	class = &c->conf->classes[at];
	if (class->port_block != 0 && a.family == AF_INET && a.port == 0)
		return "behind this address there are many lines; expected it "
			"with a port, ADDRESS:PORT";
	line_key_of(&a, class->line_len6, class->port_block, k_r);
	return NULL;
}

/* A line; a parent together with its lines, or they would raise it again. */
static void
clear(struct control *c, struct line_record *r, const struct line_key *k,
	const struct who *who)
{
	struct line_record *line[ROLLUP_MOST];
	unsigned n = ctlrollup_clear(c, k, line);
	struct line_key below;

	for (unsigned i = 0; i < n; i++)
		if (table_key(c->table, line[i], &below)) {
			detect_forgive(line[i]);
			(void)set_level(c, line[i], &below, LEVEL_CLEAN, 0, who);
		}
	if (r == NULL)
		return;
	detect_forgive(r);
	if (table_level(c->table, r) != 0)
		(void)set_level(c, r, k, LEVEL_CLEAN, 0, who);
}

static const char *
change(struct control *c, const char *verb, const struct line_key *k,
	const struct who *who)
{
	struct line_record *r = table_find(c->table, k);
	uint32_t word = r == NULL ? 0 : table_level(c->table, r);

	if (strcmp(verb, "add") == 0) {
		if (r == NULL)
			r = table_enter(c->table, k, table_now(c->table));
		return r == NULL || set_level(c, r, k, LEVEL_ZOMBIE,
			LEVEL_PINNED, who) != 0 ?
			"the table of lines has no room for it" : NULL;
	}
	if (strcmp(verb, "clear") == 0) {
		clear(c, r, k, who);
		return NULL;
	}
	if (word == 0)
		return "the line has no level that could be pinned";
	return set_level(c, r, k, word & LEVEL_MASK, LEVEL_PINNED, who) == 0 ?
		NULL : "the table of lines has no room for it";
}

void
ctlzombie_show(const struct control *c, const struct line_key *k, json_t *o)
{
	const struct line_record *r = table_find(c->table, k);
	json_t *record = r == NULL ? json_null() : show_line(c, r, k);

	json_object_set_new(o, "suspect", json_real(c->detect.suspect /
		(double)SCORE_ONE));
	json_object_set_new(o, "probable", json_real(c->detect.probable /
		(double)SCORE_ONE));
	json_object_set_new(o, "zombie", json_real(c->detect.zombie /
		(double)SCORE_ONE));
	if (r != NULL)
		ctlrollup_lines(c, k, record);
	json_object_set_new(o, "record", record);
	ctlrollup_parent(c, k, o);
}

/* "show LINE", "clear|pin|add LINE [WHY...]". */
void
ctlzombie_request(struct client *cl, char *rest)
{
	struct control *c = cl->control;
	const char *verb = ctlwords_next(&rest), *line = ctlwords_next(&rest);
	const char *wrong = NULL;
	char name[LEDGER_WHO_MAX], why[160] = "";
	const struct who who = { name, rest };
	struct line_key k;
	json_t *answer;

	ctlwords_who(cl->uid, name);
	if (strcmp(verb, "show") != 0 && strcmp(verb, "clear") != 0 &&
	    strcmp(verb, "pin") != 0 && strcmp(verb, "add") != 0)
		wrong = "unknown request";
	else if (c->table == NULL)
		wrong = "no table of lines is kept (nfq.lines)";
	else
		wrong = ctlzombie_line(c, line, &k, why);
	if (wrong == NULL && strcmp(verb, "show") != 0)
		wrong = change(c, verb, &k, &who);
	if (wrong != NULL) {
		ctlsock_error(cl, wrong);
		return;
	}
	answer = json_pack("{s:b,s:s}", "ok", 1, "action",
		action_word[c->conf->zombie.action]);
	ctlzombie_show(c, &k, answer);
	/* its name in this answer since the first version */
	json_object_set(answer, "line", json_object_get(answer, "record"));
	json_object_del(answer, "record");
	ctlsock_answer(cl, answer);
}
