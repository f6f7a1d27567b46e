/*
 * sim_report.c - figures of a simulation, with intervals, against what must hold
 *
 * Shares have Wilson's 95 % interval. What must hold is DETECTION.md section 5,
 * as rows; the figure is compared, the interval is shown beside it, because a
 * figure without enough lines behind it proves nothing. Precision weighs the
 * classes by their shares, one line in a hundred infected; L3 "should be
 * allowlisted" and is left out of it, and shown with it as well.
 */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tools/sim.h"

static const char *const mode_name[SIM_MODES] = {
	"block", "relay-100", "relay-50", "relay-10"
};
static const char *const base_name[BASES] = {
	"30 an hour", "10 at once", "SPRT .2/.9/.01"
};

struct share {
	double value, lo, hi;
};

static struct share
share(uint32_t hits, uint32_t of)
{
	const double z = 1.959964;
	double n = of, p, middle, half;
	struct share s = { 0, 0, 1 };

	if (of == 0)
		return s;
	p = hits / n;
	middle = (p + z * z / (2 * n)) / (1 + z * z / n);
	half = z / (1 + z * z / n) * sqrt(p * (1 - p) / n + z * z / (4 * n * n));
	s.value = p;
	s.lo = hits == 0 ? 0 : middle - half;
	s.hi = hits == of ? 1 : middle + half;
	return s;
}

static int
by_size(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static uint32_t
median(uint32_t *list, uint32_t n)
{
	if (n == 0)
		return 0;
	qsort(list, n, sizeof(*list), by_size);
	return list[n / 2];
}

/* ---- what must hold ---- */

enum figure { F_ZOMBIE, F_PROBABLE, F_EVENTS, F_SECONDS };

static const struct {
	enum sim_class class;
	enum figure figure;
	double want[SIM_MODES];		/* 0: reported only */
} goals[] = {
	{ SIM_Z1, F_ZOMBIE, { .999, .999, .999, .999 } },
	{ SIM_Z2, F_ZOMBIE, { .999, .999, .999, .999 } },
	{ SIM_Z1, F_EVENTS, { 25, 15, 20, 25 } },
	{ SIM_Z2, F_EVENTS, { 25, 15, 20, 25 } },
	{ SIM_Z1, F_SECONDS, { 60, 0, 0, 0 } },
	{ SIM_Z2, F_SECONDS, { 60, 0, 0, 0 } },
	{ SIM_Z4, F_ZOMBIE, { .99, .999, .999, .999 } },
	{ SIM_Z4, F_EVENTS, { 30, 0, 0, 0 } },
	{ SIM_Z3, F_PROBABLE, { .95, .98, .98, .98 } },
	{ SIM_Z3, F_ZOMBIE, { 0, .90, .75, 0 } },
	{ SIM_L1, F_ZOMBIE, { 1e-4, 1e-5, 1e-5, 1e-5 } },
	{ SIM_L4, F_ZOMBIE, { 1e-4, 1e-5, 1e-5, 1e-5 } },
	{ SIM_L1, F_PROBABLE, { 1e-3, 1e-4, 1e-4, 1e-4 } },
	{ SIM_L4, F_PROBABLE, { 1e-3, 1e-4, 1e-4, 1e-4 } },
	{ SIM_L2, F_ZOMBIE, { 1e-3, 1e-4, 1e-4, 1e-4 } },
	{ SIM_L2, F_PROBABLE, { 0, 5e-3, 5e-3, 5e-3 } },
	{ SIM_L3, F_ZOMBIE, { 0, .01, .01, .01 } },
};

static const char *const figure_name[] = {
	"zombie", "probable", "median events", "median seconds"
};

static struct share
figure(struct sim_tally *t, enum sim_class class, enum figure f)
{
	bool is_bot = SIM_IS_BOT(class);
	struct share s = { 0 };

	switch (f) {
	case F_ZOMBIE:
		return share(is_bot ? t->zombie : t->zombie_days, is_bot ?
			t->lines : t->line_days);
	case F_PROBABLE:
		return share(is_bot ? t->probable : t->probable_days, is_bot ?
			t->lines : t->line_days);
	case F_EVENTS:
		s.value = median(t->events, t->count);
		break;
	case F_SECONDS:
		s.value = median(t->seconds, t->count);
		break;
	}
	s.lo = s.hi = s.value;
	return s;
}

/* At least for what bots must reach, at most for everything else. */
static bool
is_held(enum sim_class class, enum figure f, double value, double want)
{
	if (want == 0)
		return true;
	return SIM_IS_BOT(class) && f <= F_PROBABLE ? value >= want :
		value <= want;
}

static void
put_figure(json_t *all, FILE *out, enum sim_mode mode, size_t row,
	struct share s)
{
	enum sim_class class = goals[row].class;
	enum figure f = goals[row].figure;
	double want = goals[row].want[mode];
	bool held = is_held(class, f, s.value, want);
	const char *word = want == 0 ? "reported" : held ? "holds" : "MISSED";

	if (all != NULL) {
		json_array_append_new(all, json_pack("{s:s, s:s, s:s, s:f, "
			"s:f, s:f, s:f, s:s}", "mode", mode_name[mode],
			"class", sim_class_name[class], "figure",
			figure_name[f], "value", s.value, "low", s.lo, "high",
			s.hi, "want", want, "verdict", word));
	} else if (f <= F_PROBABLE) {
		fprintf(out, "  %-3s %-15s %10.4f %% (%8.4f .. %8.4f) ",
			sim_class_name[class], figure_name[f], 100 * s.value,
			100 * s.lo, 100 * s.hi);
		fprintf(out, want != 0 ? "%s %g %%  %s\n" : "%.0s%.0g%s\n",
			SIM_IS_BOT(class) ? ">=" : "<=", 100 * want, word);
	} else {
		fprintf(out, "  %-3s %-15s %10.0f %25s", sim_class_name[class],
			figure_name[f], s.value, "");
		fprintf(out, want != 0 ? "%s %g  %s\n" : "%.0s%.0g%s\n",
			"<=", want, word);
	}
}

/* ---- precision and baselines ---- */

/* Who names lines: the detector at two levels, and the baselines. */
enum { AT_ZOMBIE = -2, AT_PROBABLE = -1 };

/* Share of lines that are named in a day, weighted by class. */
static double
named(const struct sim_tally t[SIM_CLASSES], bool bots, int who, bool with_l3)
{
	double sum = 0;

	for (unsigned c = 0; c < SIM_CLASSES; c++) {
		uint32_t days = who == AT_ZOMBIE ? t[c].zombie_days :
			who == AT_PROBABLE ? t[c].probable_days :
			t[c].base_days[who];
		uint32_t lines = who == AT_ZOMBIE ? t[c].zombie :
			who == AT_PROBABLE ? t[c].probable : t[c].base[who];

		if (SIM_IS_BOT(c) != bots || (c == SIM_L3 && !with_l3))
			continue;
		sum += sim_share[c] * (bots ? share(lines, t[c].lines).value :
			share(days, t[c].line_days).value);
	}
	return sum;
}

static double
precision(const struct sim_tally t[SIM_CLASSES], int who, bool with_l3)
{
	double right = 0.01 * named(t, true, who, with_l3);
	double wrong = 0.99 * named(t, false, who, with_l3);

	return right + wrong > 0 ? right / (right + wrong) : 0;
}

/* Does the detector at this level miss no more and hit no more, and one less? */
static bool
is_better(const struct sim_tally t[SIM_CLASSES], int level, int base)
{
	double found = named(t, true, level, false) - named(t, true, base, false);
	double hit = named(t, false, level, false) - named(t, false, base, false);

	return found >= 0 && hit <= 0 && (found > 0 || hit < 0);
}

static const char *
verdict(const struct sim_tally t[SIM_CLASSES], enum sim_mode mode, int who)
{
	if (who == AT_ZOMBIE)
		return precision(t, who, false) >=
			(mode == SIM_BLOCK ? .99 : .999) ? "holds" : "MISSED";
	if (who == AT_PROBABLE)
		return "reported";
	return is_better(t, AT_ZOMBIE, who) ? "holds" :
		is_better(t, AT_PROBABLE, who) ? "holds at probable" : "MISSED";
}

static unsigned
compare(const struct sim_tally t[SIM_CLASSES], enum sim_mode mode, json_t *all,
	FILE *out)
{
	unsigned missed = 0;

	if (all == NULL)
		fprintf(out, "  %-15s %12s %12s %10s   %s\n", "", "bots missed",
			"innocent", "precision", "with L3: innocent, precision");
	for (int w = AT_ZOMBIE; w < BASES; w++) {
		double lost = 1 - named(t, true, w, false);
		const char *name = w == AT_ZOMBIE ? "zombie" :
			w == AT_PROBABLE ? "probable" : base_name[w];
		const char *word = verdict(t, mode, w);

		missed += strcmp(word, "MISSED") == 0;
		if (all != NULL)
			json_array_append_new(all, json_pack("{s:s, s:s, s:f, "
				"s:f, s:f, s:f, s:f, s:s}", "mode",
				mode_name[mode], "who", name, "bots_missed",
				lost, "innocent", named(t, false, w, false),
				"precision", precision(t, w, false),
				"innocent_with_l3", named(t, false, w, true),
				"precision_with_l3", precision(t, w, true),
				"verdict", word));
		else
			fprintf(out, "  %-15s %10.4f %% %10.4f %% %8.3f %%   "
				"%8.4f %%, %7.3f %%  %s\n", name, 100 * lost,
				100 * named(t, false, w, false),
				100 * precision(t, w, false),
				100 * named(t, false, w, true),
				100 * precision(t, w, true), word);
	}
	return missed;
}

unsigned
sim_report(struct sim_tally tally[SIM_MODES][SIM_CLASSES], bool json, FILE *out)
{
	json_t *figures = json ? json_array() : NULL;
	json_t *others = json ? json_array() : NULL, *whole;
	unsigned missed = 0;

	for (unsigned m = 0; m < SIM_MODES; m++) {
		if (!json)
			fprintf(out, "\n%s\n", mode_name[m]);
		for (size_t i = 0; i < sizeof(goals) / sizeof(goals[0]); i++) {
			struct share s = figure(&tally[m][goals[i].class],
				goals[i].class, goals[i].figure);

			missed += !is_held(goals[i].class, goals[i].figure,
				s.value, goals[i].want[m]);
			put_figure(figures, out, m, i, s);
		}
		missed += compare(tally[m], m, others, out);
	}
	if (json) {
		whole = json_pack("{s:o, s:o, s:i}", "figures", figures,
			"compared", others, "missed", (int)missed);
		json_dumpf(whole, out, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
		fputc('\n', out);
		json_decref(whole);
	} else {
		fprintf(out, "\n%u of the lines above missed\n", missed);
	}
	return missed;
}
