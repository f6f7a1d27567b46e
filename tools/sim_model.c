/*
 * sim_model.c - invented lines and what they send (DETECTION.md section 4)
 *
 * Rates are lognormal between the bounds of the table, gaps exponential for
 * bots and Weibull with a long tail for people; half of a home server's
 * destinations and a quarter of a bot's stay from hour to hour. What the table
 * leaves open is decided here:
 *   - people's lines are active eight hours a day, a newsletter goes out once a
 *     day for half an hour;
 *   - of refusals, half of bots' and 3/10 of others' happen before RCPT; of the
 *     rest 1/5 of bots' and 3/10 of others' are temporary, and of a home
 *     server's all that exceed 5 % (greylisting);
 *   - in block 3/10 of bots hang up before the greeting comes;
 *   - a home server bounces one message in 200, with the null sender;
 *   - half of Z2's constant HELOs are good ones, half of L1's are bare words.
 * Deterministic: everything comes from the seed.
 */
#include "tools/sim.h"

#include <math.h>
#include <string.h>

const char *const sim_class_name[SIM_CLASSES] = {
	"L1", "L2", "L3", "L4", "Z1", "Z2", "Z3", "Z4"
};
const double sim_share[SIM_CLASSES] = { .60, .10, .03, .27, .4, .3, .2, .1 };

enum { DAY = 86400, HOUR = 3600 };

static const struct {
	double rate_lo, rate_hi, pool_lo, pool_hi, unknown, refusal_lo,
		refusal_hi, recipients, active;	/* active: hours a day */
} model[SIM_CLASSES] = {
	[SIM_L1] = { .5, 6, 1, 2, .01, .02, .02, 1.3, 8 },
	[SIM_L2] = { 1, 10, 2, 8, .02, .05, .30, 1.1, 24 },
	[SIM_L3] = { 200, 2000, 50, 300, .05, .05, .09, 1, .5 },
	[SIM_L4] = { .1, 2, 1, 1, 0, .01, .01, 1, 24 },
	[SIM_Z1] = { 2000, 25000, 100, 2000, .37, .70, .70, 1, 24 },
	[SIM_Z2] = { 500, 4500, 50, 500, .37, .70, .70, 7, 24 },
	[SIM_Z3] = { 5, 30, 4, 25, .35, .60, .60, 1, 24 },
	[SIM_Z4] = { 100, 1000, 30, 300, .30, .65, .65, 8, 24 },
};

double
sim_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;

	/* splitmix64 */
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}

static bool
chance(struct sim_line *l, double p)
{
	return sim_random(&l->random) < p;
}

/* 95 % of a lognormal lie between the bounds; the rest is drawn again. */
static double
between(struct sim_line *l, double lo, double hi)
{
	double mid = (log(lo) + log(hi)) / 2, sd = (log(hi) - log(lo)) / 4;
	double x;

	do {
		double u = 1 - sim_random(&l->random);
		double v = sim_random(&l->random);

		x = exp(mid + sd * sqrt(-2 * log(u)) * cos(2 * M_PI * v));
	} while (x < lo * 0.999 || x > hi * 1.001);
	return x;
}

static double
gap(struct sim_line *l)
{
	double u = 1 - sim_random(&l->random), mean = HOUR / l->rate;

	if (SIM_IS_BOT(l->class) || l->class == SIM_L3)
		return -log(u) * mean;
	/* Weibull of shape 0.6; its mean is 1.505 */
	return pow(-log(u), 1 / 0.6) * mean / 1.505;
}

/* Moves a time into the hours in which the line is used. */
static double
awake(const struct sim_line *l, double at)
{
	double day = floor(at / DAY), open = model[l->class].active * HOUR;

	return at - day * DAY < open ? at : (day + 1) * DAY;
}

/*
 * How many destinations to draw from, so that n sessions reach d different ones
 * in the mean: p (1 - exp(-n/p)) = d.
 */
static unsigned
pool_for(double n, double d)
{
	double lo = d, hi = 50 * d;

	if (d <= 2)
		return (unsigned)lround(d);
	d = d > 0.9 * n ? 0.9 * n : d;
	for (unsigned i = 0; i < 40; i++) {
		double p = (lo + hi) / 2;

		*(p * (1 - exp(-n / p)) < d ? &lo : &hi) = p;
	}
	return (unsigned)lround(hi);
}

void
sim_line_draw(struct sim_line *l, enum sim_class class, uint64_t seed)
{
	memset(l, 0, sizeof(*l));
	l->class = class;
	l->random = seed;
	l->id = (uint32_t)(sim_random(&l->random) * 0x1p32);
	l->rate = between(l, model[class].rate_lo, model[class].rate_hi);
	/* a fast line has many destinations */
	l->pool = pool_for(l->rate, model[class].pool_lo *
		pow(model[class].pool_hi / model[class].pool_lo,
			log(l->rate / model[class].rate_lo) /
			log(model[class].rate_hi / model[class].rate_lo)));
	l->refusal = model[class].refusal_lo + sim_random(&l->random) *
		(model[class].refusal_hi - model[class].refusal_lo);
	l->helo_bad = class == SIM_L4 || ((class == SIM_L1 ||
			class == SIM_Z2) && chance(l, .5));
	l->at = sim_random(&l->random) * HOUR / l->rate;
}

static uint32_t
mix(uint32_t a, uint32_t b)
{
	uint64_t state = (uint64_t)a << 32 | b;

	return (uint32_t)(sim_random(&state) * 0x1p32);
}

static uint32_t
destination(struct sim_line *l)
{
	unsigned n = (unsigned)(sim_random(&l->random) * l->pool);
	bool stays = l->class == SIM_L1 || l->class == SIM_L3 ||
		l->class == SIM_L4 ||
		n % (SIM_IS_BOT(l->class) ? 4 : 2) == 0;

	return mix(l->id, stays ? n : n + 4096 *
		(unsigned)(1 + l->at / HOUR));
}

static void
answers(struct sim_line *l, struct sim_session *s)
{
	bool is_bot = SIM_IS_BOT(l->class);
	double hard = l->class == SIM_L2 ? .05 : l->refusal;

	s->refused = chance(l, l->refusal);
	if (s->refused && hard < l->refusal && chance(l, 1 - hard / l->refusal))
		s->deferred = true;
	else if (s->refused && chance(l, is_bot ? .5 : .3))
		s->at_connect = true;
	else if (s->refused)
		s->deferred = chance(l, is_bot ? .2 : .3);
	s->recipients = 1;
	while (chance(l, 1 - 1 / model[l->class].recipients) &&
		s->recipients < 50)
		s->recipients++;
	for (unsigned i = 0; i < s->recipients; i++)
		s->unknown += chance(l, model[l->class].unknown);
}

static void
speech(struct sim_line *l, bool is_block, struct sim_session *s)
{
	bool differs = l->class == SIM_Z1 || l->class == SIM_Z4;

	s->helo = differs ? 1 + (uint32_t)(sim_random(&l->random) * 1e9) : 1;
	s->helo_bad = l->helo_bad || (l->class == SIM_Z1 && chance(l, .5));
	if (SIM_IS_BOT(l->class) && is_block && chance(l, .3))
		s->helo = 0;
	s->null_sender = l->class == SIM_L2 && chance(l, .005);
}

void
sim_line_next(struct sim_line *l, bool is_block, struct sim_session *s_r)
{
	memset(s_r, 0, sizeof(*s_r));
	s_r->at = l->at;
	if (l->retries > 0)
		l->retries--;
	else
		l->network = destination(l);
	s_r->network = l->network;
	s_r->lasts = -log(1 - sim_random(&l->random)) *
		(SIM_IS_BOT(l->class) ? 10 : 6);
	answers(l, s_r);
	speech(l, is_block, s_r);
	/* mail programs try again every few minutes */
	if (l->class == SIM_L1 && l->retries == 0 &&
		(is_block || s_r->refused) && chance(l, .3))
		l->retries = 3;
	l->at = awake(l, l->at + (l->retries > 0 ? 300 : gap(l)));
}
