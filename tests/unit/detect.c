/*
 * detect.c - unit tests of scores, voices and levels
 *
 * The run lengths of DETECTION.md section 1 by Monte-Carlo, with fixed seeds;
 * that the detector takes the same steps; each rule of detect.h as rows of
 * events with the level they end at.
 */
#include "zombie/detect.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "conf/conf.h"

enum { HOUR = 3600, START = 7200 };

static uint64_t seed;

static uint32_t
rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)(seed >> 32);
}

struct place {
	struct detect d;
	struct table *t;
	struct line_record *r;
	uint32_t now, line;
};

static void
another_line(struct place *p)
{
	struct line_key k = { .family = AF_INET, .len = 32 };

	p->line++;
	memcpy(k.ip, &p->line, sizeof(p->line));
	p->now = START;
	p->r = table_enter(p->t, &k, p->now);
	assert_non_null(p->r);
}

static int
setup(void **state)
{
	static const char *const on[] = { "unknown_user.count=count",
		"refusal.count=count" };
	struct place *p = calloc(1, sizeof(*p));
	struct zombie_conf z;

	assert_non_null(p);
	*state = p;
	if (conf_zombie(&z, on, 2, stderr) != 0 ||
		(p->t = table_new(1000)) == NULL)
		return -1;
	detect_load(&p->d, &z);
	another_line(p);
	return 0;
}

static int
teardown(void **state)
{
	struct place *p = *state;

	table_free(&p->t);
	free(p);
	return 0;
}

/* The n-th of many networks, each in a bit of its own while n is below 200. */
static struct addr
network(struct place *p, unsigned n)
{
	struct addr a = { .family = AF_INET };

	for (uint32_t i = 0;; i++) {
		a.ip[0] = 203;
		a.ip[1] = (uint8_t)(i >> 8);
		a.ip[2] = (uint8_t)i;
		if (table_network(p->t, &a) == n % MAP_BITS)
			return a;
	}
}

/* ---- run lengths ---- */

static const struct {
	enum evidence kind;
	double t0, t1, innocent[3], infected[3];	/* DETECTION.md section 1 */
} arl[] = {
	/* the last by its closed form: nine steps of a walk with e(0) = 5,
	 * e(i) = 5 + 4 e(i-1); the 5.2e5 of the table is 11 % below */
	{ EVIDENCE_CONTACT, .20, .80, { 2.3e3, 3.7e4, 5.825e5 },
		{ 7.8, 11.1, 14.5 } },
	{ EVIDENCE_UNKNOWN_USER, .05, .35, { 8.6e3, 1.0e5, 9.5e5 },
		{ 15.7, 21.2, 26.5 } },
	{ EVIDENCE_REFUSAL, .10, .70, { 5.2e3, 4.1e4, 4.7e5 },
		{ 7.1, 9.1, 11.5 } },
	{ EVIDENCE_NULL_SENDER, .02, .50, { 9.2e3, 6.5e4, 5.4e5 },
		{ 6.3, 7.8, 9.4 } },
	{ EVIDENCE_HELO, .30, .80, { 5.0e3, 4.4e4, 4.7e5 },
		{ 13.1, 17.1, 21.5 } },
};

/* Mean events to the alarm, in the detector's own steps. */
static double
run_length(const struct detect *d, enum evidence kind, double p_bad, int h,
	unsigned runs)
{
	int up = d->kind[kind].up, down = d->kind[kind].down;
	uint32_t limit = (uint32_t)(p_bad * 4294967296.0);
	double events = 0;

	for (unsigned i = 0; i < runs; i++) {
		uint32_t n = 0;

		for (int s = 0; s < h; n++) {
			s += rnd() < limit ? up : down;
			s = s < 0 ? 0 : s;
		}
		events += n;
	}
	return events / runs;
}

static void
check_run_length(const struct place *p, size_t row, unsigned at, bool is_bot)
{
	const int h[3] = { p->d.suspect, p->d.probable, p->d.zombie };
	static const unsigned runs[3] = { 20000, 6000, 400 };
	double want = is_bot ? arl[row].infected[at] : arl[row].innocent[at];
	double got;

	seed = 0x5a11u + row;
	got = run_length(&p->d, arl[row].kind, is_bot ? arl[row].t1 :
		arl[row].t0, h[at], is_bot ? 20000 : runs[at]);

	if (fabs(got / want - 1) > 0.1)
		fail_msg("%s at %d: %.1f events, expected %.1f",
			evidence_name[arl[row].kind], h[at], got, want);
}

static void
run_lengths(void **state)
{
	const struct place *p = *state;

	for (size_t i = 0; i < sizeof(arl) / sizeof(arl[0]); i++)
		for (unsigned at = 0; at < 3; at++) {
			check_run_length(p, i, at, true);
#ifdef SANITIZED
			if (at == 2)	/* half a minute with sanitizers */
				continue;
#endif
			check_run_length(p, i, at, false);
		}
}

/* The same steps are what detect_event() does. */
static void
steps(void **state)
{
	struct place *p = *state;

	seed = 0x1234;
	p->d.decay = 0;
	for (unsigned kind = 0; kind < EVIDENCE_COUNT; kind++) {
		int s = 0, top = p->d.zombie + SCORE_ABOVE;

		another_line(p);
		for (unsigned i = 0; i < 2000; i++) {
			bool bad = rnd() % 3 == 0;
			struct addr dst = network(p, rnd());

			/* few enough an hour for rule 6 */
			p->now += HOUR / 4;
			(void)detect_event(&p->d, p->t, p->r, kind, bad ?
				MARK_BAD : MARK_GOOD, &dst, p->now, true);
			s += bad ? p->d.kind[kind].up : p->d.kind[kind].down;
			s = s < 0 ? 0 : s > top ? top : s;
			assert_int_equal(atomic_load(&p->r->score[kind]), s);
		}
	}
}

/* The highest thresholds that can be set fit into a score. */
static void
highest(void **state)
{
	static const char *const set[] = { "zombie=60", "null_sender.innocent=1",
		"null_sender.infected=99" };
	struct place *p = *state;
	struct addr dst = network(p, 0);
	struct zombie_conf z;

	assert_int_equal(conf_zombie(&z, set, 3, stderr), 0);
	detect_load(&p->d, &z);
	for (unsigned i = 0; i < 100; i++) {
		detect_event(&p->d, p->t, p->r, EVIDENCE_NULL_SENDER, MARK_BAD,
			&dst, p->now, true);
		assert_true(atomic_load(&p->r->score[EVIDENCE_NULL_SENDER]) >
			0);
	}
	assert_int_equal(atomic_load(&p->r->score[EVIDENCE_NULL_SENDER]),
		60 * SCORE_ONE + SCORE_ABOVE);
}

/* ---- the rules ---- */

/*
 * A row is a story: letters of what happens, one after the other.
 *   c  session with a new destination     o  ... with the first one again
 *   w  first packet heard, new destination
 *   h  bad HELO          H  good HELO     n  null sender   N  another sender
 *   r  refusal by a new network           R  by the same one each time
 *   d  deferred (4xx) by a new network    a  accepted
 *   u  unknown user at a new network      U  known user
 *   .  four minutes pass                  :  an hour passes   D  a day passes
 */
static const struct {
	const char *name, *story;
	enum level want;
} rules[] = {
	{ "nothing", "", LEVEL_CLEAN },
	{ "1: below the threshold", "ccc" "cccc", LEVEL_CLEAN },
	{ "1: one score is suspect", "ccc" "ccccc", LEVEL_SUSPECT },
	{ "1: null sender", "nnn", LEVEL_PROBABLE },
	{ "2: first contact is probable", "ccc" "ccccccc", LEVEL_PROBABLE },
	{ "2: two groups suspect", "ccc" "ccccc" "hhhhhhhh", LEVEL_PROBABLE },
	{ "2: one group twice", "hhhhhhhh" "nn", LEVEL_SUSPECT },
	{ "3: first contact alone, slowly", "ccc" "ccc.ccc.ccc.ccc",
		LEVEL_PROBABLE },
	{ "3: with the pace", "cccccccccccccccccccc", LEVEL_ZOMBIE },
	{ "3: one session short of it", "ccccccccccccccccccc", LEVEL_PROBABLE },
	{ "3: with HELO", "hhhhhhhh" "ccc.ccc.ccc.ccc", LEVEL_ZOMBIE },
	{ "3: with refusals", "ccc.ccc.ccc.ccc." "rrrrr", LEVEL_ZOMBIE },
	{ "3: with unknown users", "ccc.ccc.ccc.ccc." "uuuu", LEVEL_ZOMBIE },
	{ "3: null sender with first contact", "ccc.ccccc." "nnnn",
		LEVEL_ZOMBIE },
	{ "3: no second voice below suspect", "ccc.ccc.ccc.ccc." "hhhhhhh",
		LEVEL_PROBABLE },
	{ "4: HELO alone", "hhhhhhhhhhhhhhhhhhhhhhhhh", LEVEL_SUSPECT },
	{ "4: HELO leads beside another", "hhhhhhhhhhhhhhhhhhhhhhh" "ccc" "ccccc",
		LEVEL_ZOMBIE },
	{ "5: one server, rarely", "o:::o:::o:::o:::o:::o:::o:::o:::o:::o:::o",
		LEVEL_CLEAN },
	{ "5: three servers", "ccc:::ccc:::ccc:::ccc:::ccc:::ccc:::ccc",
		LEVEL_CLEAN },
	{ "5: and one more each time", "cccccc:::cccccc:::cccccc",
		LEVEL_PROBABLE },
	{ "6: one server refuses a hundred",
		"RRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRR"
		"RRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRR",
		LEVEL_SUSPECT },
	{ "6: for hours", "RRRRRRRR:RRRRRRRR:RRRRRRRR:RRRRRRRR",
		LEVEL_SUSPECT },
	{ "6: it is no second voice", "hhhhhhhhh" "RRRRRRRR:RRRRRRRR",
		LEVEL_SUSPECT },
	{ "6: three refuse", "rrrrr", LEVEL_PROBABLE },
	{ "7: accepted lately", "aaaaa" "ccc.ccc.ccc.ccc.cccccccccccccccccccc",
		LEVEL_SUSPECT },
	{ "7: too few outcomes", "aaaa" "ccc" "cccccccccccccccccccc",
		LEVEL_ZOMBIE },
	{ "7: not mostly", "aaaaarrr" "ccc" "cccccccccccccccccccc",
		LEVEL_ZOMBIE },
	{ "7: deferred is no outcome", "aaaaaddd" "ccc" "cccccccccccccccccc",
		LEVEL_SUSPECT },
	{ "7: speech makes it probable", "aaaaa" "hhhhhhhh" "ccc.ccc.ccc.ccc",
		LEVEL_PROBABLE },
	{ "8: heard", "wwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwww",
		LEVEL_SUSPECT },
	{ "8: gives way to a voice", "wwwwwwwwwwwwwwwwwwwwwwww" "c",
		LEVEL_CLEAN },
	{ "8: no second voice", "hhhhhhhh" "wwwwwwwwwwwwwwwwwwwwwwww",
		LEVEL_SUSPECT },
	{ "9: a good day", "ccc" "cccccc" "D:H", LEVEL_CLEAN },
	{ "9: not yet a day", "nnnn" "::::N", LEVEL_PROBABLE },
	{ "good outcomes go down again", "nn" "NNNNNNNNNN", LEVEL_CLEAN },
};

struct step {
	enum evidence kind;
	enum mark mark;
	bool is_same;
};

static bool
step_of(char letter, struct step *s_r)
{
	static const struct { char letter; struct step step; } all[] = {
		{ 'h', { EVIDENCE_HELO, MARK_BAD, true } },
		{ 'H', { EVIDENCE_HELO, MARK_GOOD, true } },
		{ 'n', { EVIDENCE_NULL_SENDER, MARK_BAD, true } },
		{ 'N', { EVIDENCE_NULL_SENDER, MARK_GOOD, true } },
		{ 'r', { EVIDENCE_REFUSAL, MARK_BAD, false } },
		{ 'R', { EVIDENCE_REFUSAL, MARK_BAD, true } },
		{ 'd', { EVIDENCE_REFUSAL, MARK_DEFERRED, false } },
		{ 'a', { EVIDENCE_REFUSAL, MARK_GOOD, false } },
		{ 'u', { EVIDENCE_UNKNOWN_USER, MARK_BAD, false } },
		{ 'U', { EVIDENCE_UNKNOWN_USER, MARK_GOOD, false } },
	};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (all[i].letter == letter) {
			*s_r = all[i].step;
			return true;
		}
	return false;
}

static uint32_t
passing(char letter)
{
	return letter == '.' ? 240 : letter == ':' ? HOUR :
		letter == 'D' ? 24 * HOUR : 0;
}

/* Tell a story; the level at its end. lifted: highest that was reported. */
static enum level
tell(struct place *p, const char *story, enum level *lifted_r)
{
	unsigned n = 0;
	struct step s;

	*lifted_r = LEVEL_CLEAN;
	for (const char *c = story; *c != '\0'; c++) {
		enum level up = LEVEL_CLEAN;
		/* 52 apart: another cell of rule 6 as well */
		struct addr dst = network(p, *c == 'o' ? 0 : 52 * n + n / 5);

		n += *c != 'o';
		p->now += passing(*c);
		if (step_of(*c, &s)) {
			if (s.is_same)
				dst = network(p, 7);
			up = detect_event(&p->d, p->t, p->r, s.kind, s.mark,
				&dst, p->now, true);
		} else if (passing(*c) == 0) {
			detect_contact(&p->d, p->t, p->r, p->now, &dst,
				rnd() | 1, *c != 'w', &up);
		}
		if (up > *lifted_r)
			*lifted_r = up;
	}
	return detect_level(&p->d, p->r, p->now);
}

static void
rules_hold(void **state)
{
	struct place *p = *state;
	enum level lifted, got;

	seed = 0x77;
	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
		another_line(p);
		got = tell(p, rules[i].story, &lifted);
		if (got != rules[i].want)
			fail_msg("%s: %s, expected %s", rules[i].name,
				level_name[got], level_name[rules[i].want]);
		if (lifted < got)
			fail_msg("%s: reported only %s", rules[i].name,
				level_name[lifted]);
	}
}

/* off: nothing is counted; log: scored, but no part in levels. */
static void
modes(void **state)
{
	struct place *p = *state;
	enum level lifted;

	p->d.kind[EVIDENCE_NULL_SENDER].mode = KIND_LOG;
	assert_int_equal(tell(p, "nnnn", &lifted), LEVEL_CLEAN);
	assert_true(atomic_load(&p->r->score[EVIDENCE_NULL_SENDER]) > 0);
	assert_int_equal(atomic_load(&p->r->bad[EVIDENCE_NULL_SENDER]), 4);
	another_line(p);
	p->d.kind[EVIDENCE_NULL_SENDER].mode = KIND_OFF;
	p->d.kind[EVIDENCE_CONTACT].mode = KIND_OFF;
	assert_int_equal(tell(p, "nnnncccccccccccc", &lifted), LEVEL_CLEAN);
	assert_int_equal(atomic_load(&p->r->bad[EVIDENCE_NULL_SENDER]), 0);
	assert_int_equal(atomic_load(&p->r->score[EVIDENCE_CONTACT]), 0);
	/* the packets are counted all the same */
	assert_int_equal(atomic_load(&p->r->sessions), 12);
}

/* A million packets that name a victim, from anywhere. */
static void
spoofed(void **state)
{
	struct place *p = *state;
	struct addr dst = { .family = AF_INET };
	enum level lifted, most = LEVEL_CLEAN;

	seed = 0x99;
	for (unsigned i = 0; i < 1000000; i++) {
		uint32_t ip = rnd();

		memcpy(dst.ip, &ip, sizeof(ip));
		p->now += i % 300 == 0;
		detect_contact(&p->d, p->t, p->r, p->now, &dst, rnd() | 1,
			false, &lifted);
		most = lifted > most ? lifted : most;
	}
	assert_int_equal(most, LEVEL_SUSPECT);
	assert_int_equal(detect_level(&p->d, p->r, p->now), LEVEL_SUSPECT);
}

/* More than 3/4 full: every session is a first contact again. */
static void
full_map(void **state)
{
	struct place *p = *state;
	enum level lifted;

	for (unsigned n = 0; n < 200; n++) {
		struct addr dst = network(p, n);

		detect_contact(&p->d, p->t, p->r, p->now, &dst, 0, true,
			&lifted);
	}
	for (unsigned i = 0; i < 50; i++) {
		struct addr dst = network(p, i);

		assert_int_equal(detect_contact(&p->d, p->t, p->r, p->now, &dst,
				0, true, &lifted), 1);
	}
	assert_int_equal(detect_level(&p->d, p->r, p->now), LEVEL_ZOMBIE);
}

/* Sixty destinations in an hour are a voice without any haste. */
static void
many_destinations(void **state)
{
	struct place *p = *state;
	enum level lifted, got = LEVEL_CLEAN;
	unsigned n = 0;

	p->now = 10 * HOUR;
	while (n < 100 && got < LEVEL_ZOMBIE) {
		struct addr dst = network(p, n++);

		p->now += 30;
		detect_contact(&p->d, p->t, p->r, p->now, &dst, 1 + n, true,
			&lifted);
		got = detect_level(&p->d, p->r, p->now);
	}
	/* 53 bits of 256 are 59.4 destinations; here none shares a bit */
	assert_in_range(n, 52, 54);
}

/* Names of a household are known soon; one that changes each time is not. */
static void
helo_names(void **state)
{
	struct place *p = *state;
	struct addr dst = network(p, 0);
	char name[16];

	for (unsigned i = 0; i < 30; i++) {
		snprintf(name, sizeof(name), "pc%u.home", i % 3);
		detect_helo(&p->d, p->t, p->r, name, strlen(name), false, &dst,
			p->now);
	}
	assert_int_equal(atomic_load(&p->r->bad[EVIDENCE_HELO]), 0);
	for (unsigned i = 0; i < 30; i++) {
		snprintf(name, sizeof(name), "x%u.example", i * 77);
		detect_helo(&p->d, p->t, p->r, name, strlen(name), false, &dst,
			p->now);
	}
	assert_in_range(atomic_load(&p->r->bad[EVIDENCE_HELO]), 12, 29);
}

/* One step a day without a bad event, counted from the later of the two. */
static void
decay(void **state)
{
	static const struct {
		unsigned hours;
		enum level from, want;
	} rows[] = {
		{ 0, LEVEL_ZOMBIE, LEVEL_ZOMBIE },
		{ 24, LEVEL_ZOMBIE, LEVEL_ZOMBIE },
		{ 25, LEVEL_ZOMBIE, LEVEL_PROBABLE },
		{ 50, LEVEL_ZOMBIE, LEVEL_SUSPECT },
		{ 75, LEVEL_ZOMBIE, LEVEL_CLEAN },
		{ 25, LEVEL_SUSPECT, LEVEL_CLEAN },
		{ 500, LEVEL_PROBABLE, LEVEL_CLEAN },
	};
	struct place *p = *state;
	enum level lifted;

	(void)tell(p, "hh", &lifted);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		for (unsigned set = 0; set < 2; set++)
			assert_int_equal(detect_decay(&p->d, p->r, rows[i].from,
					START - set * HOUR, START +
					rows[i].hours * HOUR), rows[i].want);
	/* a new bad event begins the day again */
	p->now = START + 20 * HOUR;
	(void)tell(p, "h", &lifted);
	assert_int_equal(detect_decay(&p->d, p->r, LEVEL_ZOMBIE, START, START +
			40 * HOUR), LEVEL_ZOMBIE);
	p->d.decay = 0;
	assert_int_equal(detect_decay(&p->d, p->r, LEVEL_ZOMBIE, START, START +
			1000 * HOUR), LEVEL_ZOMBIE);
}

static void
parents(void **state)
{
	(void)state;
	assert_false(detect_parent(2));
	assert_true(detect_parent(3));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
		T(run_lengths), T(steps), T(highest), T(rules_hold), T(modes),
		T(spoofed), T(full_map), T(many_destinations), T(helo_names),
		T(decay), T(parents),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
