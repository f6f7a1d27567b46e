/*
 * sim_replay.c - `sallyport simulate --replay FILE': the detector on a log
 *
 * Does: read the daemon's own log, lead each session's evidence past the daemon's
 * detector with the options of now, let levels rise, decay and expire as control
 * does, and print which lines would have had which level and when, beside what the
 * log says they had. Does not: need the daemon, its configuration or a network.
 *
 * What it cannot see is what a log does not say: the order of the events inside a
 * session (the bad ones are spread among the good ones), which refusals were for
 * the moment (a session whose last code is 4xx), the destinations of a summary or
 * behind log.destination = "none" (each that was new is taken as another one),
 * first packets without a session, leases, and /56s (zombie/rollup.h). Windows of an
 * hour begin with the file's first session. The maps are keyed with a secret that
 * everybody knows: the same file gives the same answer.
 *
 * Called by cmd_simulate.c. The file may be anything: each damaged line is named
 * with its number, the rest counts.
 */
#include "tools/replay.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf/conf.h"
#include "tools/answer.h"

#define HOUR 3600
/* Time of the detector at the first session: beyond its first windows. */
#define START (2 * HOUR)
#define ERRORS_SHOWN 10
/* Nobody keeps a log so long; and the detector's time has 32 bits. */
#define GAP (366 * 86400)
/* Lines of the log between two words about progress. */
#define PROGRESS 65536

struct course {			/* of one line */
	struct line_record record;
	char line[LINE_STRLEN], class[REPLAY_CLASS_MAX];
	struct addr last;	/* where it went to */
	enum level level, worst, logged;
	uint32_t since;		/* of the level, the detector's time */
	int64_t reached[LEVEL_ZOMBIE + 1];	/* first, Unix time; 0: never */
	json_t *changes;
};

struct replay {
	const char *path;
	FILE *in;
	struct detect d;
	unsigned expiry;	/* hours; 0: never */
	struct table *t;	/* of its keys alone */
	struct course **slot;	/* open addressing, a power of two */
	size_t slots, n;
	int64_t first, now;	/* Unix time; 0: no session yet */
	uint32_t fresh;		/* destinations that were made up */
	uint64_t read, sessions, others, damaged, size;
	bool no_memory;
};

/* ---- lines ---- */

static size_t
place(const struct replay *p, const char *line)
{
	size_t at = table_hash(p->t, line, strlen(line)) & (p->slots - 1);

	while (p->slot[at] != NULL && strcmp(p->slot[at]->line, line) != 0)
		at = (at + 1) & (p->slots - 1);
	return at;
}

static int
grow(struct replay *p)
{
	struct course **old = p->slot;
	size_t n = p->slots;

	p->slots = n == 0 ? 1024 : 2 * n;
	p->slot = calloc(p->slots, sizeof(struct course *));
	if (p->slot == NULL) {
		p->slot = old;
		p->slots = n;
		return -1;
	}
	for (size_t i = 0; i < n; i++)
		if (old[i] != NULL)
			p->slot[place(p, old[i]->line)] = old[i];
	free(old);
	return 0;
}

static struct course *
course_of(struct replay *p, const struct replay_event *e)
{
	struct course *c;
	size_t at;

	if (2 * (p->n + 1) > p->slots && grow(p) != 0)
		return NULL;
	at = place(p, e->line);
	c = p->slot[at];
	if (c == NULL) {
		c = calloc(1, sizeof(*c));
		if (c == NULL)
			return NULL;
		snprintf(c->line, sizeof(c->line), "%s", e->line);
		c->changes = json_array();
		p->slot[at] = c;
		p->n++;
	}
	if (e->class[0] != '\0')
		snprintf(c->class, sizeof(c->class), "%s", e->class);
	return c;
}

/* ---- levels ---- */

static uint32_t
clock_of(const struct replay *p)
{
	return START + (uint32_t)(p->now - p->first);
}

static void
change(const struct replay *p, struct course *c, enum level level,
	const char *who)
{
	json_array_append_new(c->changes, json_pack("{s:I,s:s,s:s,s:s}", "at",
		(json_int_t)p->now, "level", level_name[level], "was",
		level_name[c->level], "who", who));
	c->level = level;
	c->since = clock_of(p);
	c->worst = level > c->worst ? level : c->worst;
	if (c->reached[level] == 0)
		c->reached[level] = p->now;
}

/* What time has done to a level since the line was seen last; the log of it is
 * as late as this look. */
static void
age(const struct replay *p, struct course *c)
{
	uint32_t now = clock_of(p);
	enum level left = detect_decay(&p->d, &c->record, c->level, c->since,
		now);

	if (c->level == LEVEL_CLEAN)
		return;
	if (p->expiry != 0 && now - c->since >= p->expiry * HOUR) {
		detect_forgive(&c->record);
		change(p, c, LEVEL_CLEAN, "expiry");
	} else if (left < c->level) {
		detect_forgive(&c->record);
		change(p, c, left, "decay");
	}
}

static void
consider(const struct replay *p, struct course *c)
{
	enum level level = detect_level(&p->d, &c->record, clock_of(p));

	if (level > c->level)
		change(p, c, level, "evidence");
}

static void
damaged(struct replay *p, const char *why)
{
	if (p->damaged++ < ERRORS_SHOWN)
		fprintf(stderr, "%s:%" PRIu64 ": %s\n", p->path, p->read, why);
	else if (p->damaged == ERRORS_SHOWN + 1)
		fprintf(stderr, "%s: and more\n", p->path);
}

/* ---- one session ---- */

/* Where it went: as the log says, else where it was before or somewhere new. */
static struct addr
destination(struct replay *p, struct course *c, const struct replay_event *e,
	bool is_new)
{
	struct addr a = { .family = AF_INET, .ip = { 10 } };

	if (e->dst.family != 0)
		c->last = e->dst;
	else if (is_new || c->last.family == 0) {
		p->fresh++;
		a.ip[0] = (uint8_t)(p->fresh >> 16);
		a.ip[1] = (uint8_t)(p->fresh >> 8);
		a.ip[2] = (uint8_t)p->fresh;
		c->last = a;
	}
	return c->last;
}

/* Is the i-th of all one of the bad ones, spread evenly? */
static bool
is_bad(unsigned i, unsigned bad, unsigned all)
{
	return (uint64_t)(i + 1) * bad / all > (uint64_t)i * bad / all;
}

static void
contacts(struct replay *p, struct course *c, const struct replay_event *e)
{
	unsigned all = e->all[EVIDENCE_CONTACT], bad = e->bad[EVIDENCE_CONTACT];
	enum level lifted;

	/* a kind that is off is not in the log; the handshake was */
	if (all == 0)
		all = e->sessions;
	for (unsigned i = 0; i < all; i++) {
		struct addr dst = destination(p, c, e, is_bad(i, bad, all));

		(void)detect_contact(&p->d, p->t, &c->record, clock_of(p), &dst,
			1, true, &lifted);
	}
	consider(p, c);
}

static void
said(struct replay *p, struct course *c, const struct replay_event *e,
	enum evidence kind)
{
	bool is_temporary = kind == EVIDENCE_REFUSAL && e->code / 100 == 4;
	uint32_t now = clock_of(p);

	for (unsigned i = 0; i < e->all[kind]; i++) {
		enum mark mark = !is_bad(i, e->bad[kind], e->all[kind]) ?
			MARK_GOOD : is_temporary ? MARK_DEFERRED : MARK_BAD;

		if (kind == EVIDENCE_HELO && e->helo[0] != '\0')
			(void)detect_helo(&p->d, p->t, &c->record, e->helo,
				strlen(e->helo), mark == MARK_BAD, &c->last,
				now);
		else
			(void)detect_event(&p->d, p->t, &c->record, kind, mark,
				&c->last, now, true);
	}
	consider(p, c);
}

static void
session(struct replay *p, const struct replay_event *e)
{
	struct course *c;

	if (p->first != 0 && e->at > p->now + GAP) {
		damaged(p, "at is over a year behind the session before");
		return;
	}
	c = course_of(p, e);
	if (c == NULL) {
		p->no_memory = true;
		return;
	}
	/* lines are written at a session's end: time never goes back */
	if (p->first == 0)
		p->first = p->now = e->at;
	p->now = e->at > p->now ? e->at : p->now;
	p->sessions += e->sessions;
	if (atomic_load(&c->record.first) == 0)
		atomic_store(&c->record.first, clock_of(p));
	age(p, c);
	contacts(p, c, e);
	/* in the order of a session */
	said(p, c, e, EVIDENCE_HELO);
	said(p, c, e, EVIDENCE_NULL_SENDER);
	said(p, c, e, EVIDENCE_UNKNOWN_USER);
	said(p, c, e, EVIDENCE_REFUSAL);
}

/* ---- the file ---- */

static void
take(struct replay *p, char *text)
{
	struct replay_event e;
	struct course *c;

	replay_parse(text, &e);
	switch (e.kind) {
	case REPLAY_SESSION:
		session(p, &e);
		break;
	case REPLAY_LEVEL:
		c = course_of(p, &e);
		p->no_memory |= c == NULL;
		if (c != NULL && e.level > c->logged)
			c->logged = e.level;
		break;
	case REPLAY_WRONG:
		damaged(p, e.why);
		break;
	case REPLAY_OTHER:
		p->others++;
		break;
	}
}

static void
progress(const struct replay *p)
{
	off_t at = ftello(p->in);

	if (!isatty(STDERR_FILENO))
		return;
	if (p->size > 0 && at >= 0)
		fprintf(stderr, "\r%" PRIu64 " lines, %u %% ", p->read,
			(unsigned)((uint64_t)at * 100 / p->size));
	else
		fprintf(stderr, "\r%" PRIu64 " lines ", p->read);
}

/* The rest of a line that is longer than any of ours. */
static void
skip_line(FILE *in)
{
	int c;

	while ((c = getc(in)) != '\n' && c != EOF)
		;
}

static int
read_all(struct replay *p)
{
	static char text[REPLAY_LINE_MAX + 2];

	while (!p->no_memory && fgets(text, sizeof(text), p->in) != NULL) {
		size_t len = strlen(text);

		p->read++;
		if (p->read % PROGRESS == 0)
			progress(p);
		if (len > 0 && text[len - 1] == '\n')
			text[--len] = '\0';
		else if (!feof(p->in)) {
			/* or there is a NUL in it, which is none of ours */
			if (len < sizeof(text) - 1)
				damaged(p, "an octet 0; expected text");
			else {
				skip_line(p->in);
				damaged(p, "longer than any line of a log");
			}
			continue;
		}
		if (len > 0 && text[len - 1] == '\r')
			text[--len] = '\0';
		take(p, text);
	}
	if (p->read >= PROGRESS && isatty(STDERR_FILENO))
		fputc('\n', stderr);
	return ferror(p->in) ? -1 : 0;
}

/* ---- what is printed ---- */

static int
by_level(const void *a, const void *b)
{
	const struct course *x = *(struct course *const *)a;
	const struct course *y = *(struct course *const *)b;

	if (x->worst != y->worst)
		return x->worst > y->worst ? -1 : 1;
	if (x->reached[x->worst] != y->reached[y->worst])
		return x->reached[x->worst] < y->reached[y->worst] ? -1 : 1;
	return strcmp(x->line, y->line);
}

/* All lines, the worst first, at the front of the slots; behind them NULL. */
static void
sort(struct replay *p, unsigned count_r[LEVEL_ZOMBIE + 1])
{
	size_t n = 0;

	memset(count_r, 0, (LEVEL_ZOMBIE + 1) * sizeof(*count_r));
	for (size_t i = 0; i < p->slots; i++)
		if (p->slot[i] != NULL) {
			struct course *c = p->slot[i];

			p->slot[i] = NULL;
			p->slot[n++] = c;
			count_r[c->worst]++;
		}
	if (n > 0)
		qsort(p->slot, n, sizeof(struct course *), by_level);
}

static void
print_text(const struct replay *p, const unsigned count[LEVEL_ZOMBIE + 1])
{
	char from[32], until[32];

	printf("%" PRIu64 " lines read: %" PRIu64 " sessions of %zu lines, %"
		PRIu64 " without evidence or not ours, %" PRIu64 " damaged\n",
		p->read, p->sessions, p->n, p->others, p->damaged);
	if (p->first != 0)
		printf("from %s to %s: %u zombies, %u probable, %u suspect\n",
			answer_when(p->first, from), answer_when(p->now, until),
			count[LEVEL_ZOMBIE], count[LEVEL_PROBABLE],
			count[LEVEL_SUSPECT]);
	for (size_t i = 0; i < p->slots && p->slot[i] != NULL; i++) {
		const struct course *c = p->slot[i];
		const char *behind = "";

		if (c->worst == LEVEL_CLEAN && c->logged == LEVEL_CLEAN)
			continue;
		printf("%-28s %-10s", c->line, c->class);
		for (unsigned l = LEVEL_SUSPECT; l <= LEVEL_ZOMBIE; l++)
			if (c->reached[l] != 0) {
				printf("%s %s %s", behind, level_name[l],
					answer_when(c->reached[l], from));
				behind = ",";
			}
		printf("%s now %s; the log says %s; %u sessions\n", behind,
			level_name[c->level], level_name[c->logged],
			(unsigned)atomic_load(&c->record.sessions));
	}
}

static json_t *
show_evidence(const struct course *c)
{
	json_t *kinds = json_object();

	for (unsigned i = 0; i < EVIDENCE_COUNT; i++) {
		unsigned bad = atomic_load(&c->record.bad[i]);
		unsigned good = atomic_load(&c->record.good[i]);

		if (bad + good > 0)
			json_object_set_new(kinds, evidence_name[i], json_pack(
				"{s:f,s:i,s:i}", "score",
				atomic_load(&c->record.score[i]) /
				(double)SCORE_ONE, "bad", (int)bad, "all",
				(int)(bad + good)));
	}
	return kinds;
}

static void
print_json(const struct replay *p, const unsigned count[LEVEL_ZOMBIE + 1])
{
	json_t *lines = json_array(), *o;

	for (size_t i = 0; i < p->slots && p->slot[i] != NULL; i++) {
		const struct course *c = p->slot[i];

		if (c->worst != LEVEL_CLEAN || c->logged != LEVEL_CLEAN)
			json_array_append_new(lines, json_pack(
				"{s:s,s:s,s:s,s:s,s:s,s:I,s:o,s:O}",
				"line", c->line, "class", c->class,
				"worst", level_name[c->worst],
				"now", level_name[c->level],
				"logged", level_name[c->logged],
				"sessions", (json_int_t)atomic_load(
					&c->record.sessions),
				"evidence", show_evidence(c),
				"changes", c->changes));
	}
	o = json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:i,s:i,s:i,s:o}",
		"read", (json_int_t)p->read,
		"sessions", (json_int_t)p->sessions,
		"others", (json_int_t)p->others,
		"damaged", (json_int_t)p->damaged,
		"first", (json_int_t)p->first, "last", (json_int_t)p->now,
		"seen", (json_int_t)p->n,
		"zombie", (int)count[LEVEL_ZOMBIE],
		"probable", (int)count[LEVEL_PROBABLE],
		"suspect", (int)count[LEVEL_SUSPECT], "lines", lines);
	answer_print(o);
	json_decref(o);
}

/* ---- all of it ---- */

static int
open_all(struct replay *p, const struct zombie_conf *z)
{
	struct stat st;

	p->in = strcmp(p->path, "-") == 0 ? stdin : fopen(p->path, "re");
	if (p->in == NULL || fstat(fileno(p->in), &st) != 0)
		return -1;
	if (S_ISDIR(st.st_mode)) {
		errno = EISDIR;
		return -1;
	}
	p->size = S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
	if (p->in == stdin)
		p->path = "standard input";
	detect_load(&p->d, z);
	p->expiry = z->expiry;
	p->t = table_new(8);
	if (p->t == NULL)
		return -1;
	table_fix_secret(p->t);
	return 0;
}

static void
close_all(struct replay *p)
{
	for (size_t i = 0; i < p->slots; i++)
		if (p->slot[i] != NULL) {
			json_decref(p->slot[i]->changes);
			free(p->slot[i]);
		}
	free(p->slot);
	if (p->t != NULL)
		table_free(&p->t);
	if (p->in != NULL && p->in != stdin)
		fclose(p->in);
}

int
replay_run(const struct zombie_conf *z, const char *path, bool json)
{
	struct replay p = { .path = path };
	unsigned count[LEVEL_ZOMBIE + 1];
	int rc = 2;

	if (open_all(&p, z) != 0 || read_all(&p) != 0 || p.no_memory)
		fprintf(stderr, "sallyport simulate: %s: %s\n", path,
			p.no_memory ? "out of memory" : strerror(errno));
	else {
		for (size_t i = 0; i < p.slots; i++)
			if (p.slot[i] != NULL)
				age(&p, p.slot[i]);
		sort(&p, count);
		(json ? print_json : print_text)(&p, count);
		rc = p.damaged > 0;
	}
	close_all(&p);
	return rc;
}
