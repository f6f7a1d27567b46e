/*
 * sim.h - `sallyport simulate': the daemon's detector on invented lines
 *
 * sim_model.c draws lines and their sessions (DETECTION.md section 4), sim_run.c
 * leads them past zombie/detect.c and three baselines and counts, sim_report.c
 * makes figures and compares them with what must hold (section 5).
 * cmd_simulate.c has the options and one process a seed.
 */
#ifndef SALLYPORT_TOOLS_SIM_H
#define SALLYPORT_TOOLS_SIM_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "conf/conf.h"
#include "zombie/detect.h"

enum sim_class {
	SIM_L1, SIM_L2, SIM_L3, SIM_L4, SIM_Z1, SIM_Z2, SIM_Z3, SIM_Z4,
	SIM_CLASSES
};
enum sim_mode { SIM_BLOCK, SIM_RELAY_100, SIM_RELAY_50, SIM_RELAY_10, SIM_MODES };
enum sim_base { BASE_HOUR, BASE_ONCE, BASE_SPRT, BASES };

#define SIM_IS_BOT(c) ((c) >= SIM_Z1)
#define SIM_LINES_MAX 5000

struct sim_session {
	double at;		/* seconds since the line's beginning */
	double lasts;		/* seconds */
	uint32_t network;	/* identity of the destination's /24 */
	uint32_t helo;		/* identity of the name; 0: hung up before */
	bool helo_bad;		/* by its text, or early talk */
	bool null_sender;
	bool refused, at_connect, deferred;	/* the last two: how */
	unsigned recipients, unknown;	/* of an unrefused session */
};

struct sim_line {
	enum sim_class class;
	uint64_t random;
	double rate;		/* sessions an hour while active */
	unsigned pool;		/* destinations an hour */
	double refusal;
	bool helo_bad;
	double at;		/* of the next session */
	unsigned retries;	/* still to come, to the same destination */
	uint32_t network, id;
};

extern const char *const sim_class_name[SIM_CLASSES];
extern const double sim_share[SIM_CLASSES];	/* among legitimate, among bots */

void sim_line_draw(struct sim_line *l, enum sim_class class, uint64_t seed);
/* The next session of the line, in order of time. */
void sim_line_next(struct sim_line *l, bool is_block, struct sim_session *s_r);
/* Uniform in [0, 1). */
double sim_random(uint64_t *state);

/* What one class did in one mode. */
struct sim_tally {
	uint32_t line_days, probable_days, zombie_days, base_days[BASES];
	uint32_t lines, probable, zombie, base[BASES];	/* bots within a day */
	uint32_t count;		/* of the two lists: bots named zombie */
	uint32_t events[SIM_LINES_MAX], seconds[SIM_LINES_MAX];
};

struct sim_work {
	struct detect detect[2];	/* for block, for relay */
	unsigned lines;		/* bots of a class; twice as many L1 and L4 */
	unsigned days;
	uint64_t seed;
};

/* Run one class in one mode. -1: no memory. */
int sim_run(const struct sim_work *w, enum sim_class class, enum sim_mode mode,
	struct sim_tally *tally_r);

/* b is added to a. Lists that would grow too long keep what is there. */
void sim_add(struct sim_tally *a, const struct sim_tally *b);

/* Print everything; returns how many lines of section 5 do not hold. */
unsigned sim_report(struct sim_tally tally[SIM_MODES][SIM_CLASSES], bool json,
	FILE *out);

#endif
