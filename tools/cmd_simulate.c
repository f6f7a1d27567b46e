/*
 * cmd_simulate.c - `sallyport simulate': what the detector would do
 *
 * Does: the words of the command, one process a seed (-j at once), the sum of
 * what they found; with --replay a recorded log instead of invented lines
 * (sim_replay.c). The lines, the run and the figures are sim_*.c. Needs no
 * daemon, no privilege and no configuration file: the options of the zombie
 * group have their defaults, --set changes them. The kinds that read replies,
 * off by default, count in the relay modes unless --set says otherwise.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/cmd.h"
#include "tools/replay.h"
#include "tools/sim.h"

enum { SETS_MAX = 32, JOBS_MAX = 64 };

struct request {
	const char *set[SETS_MAX + 2];
	size_t nset;
	unsigned seeds, jobs, lines, days;
	const char *replay;	/* a log, or NULL */
	const char *invented;	/* a word that is about invented lines, or NULL */
};

typedef struct sim_tally tallies[SIM_MODES][SIM_CLASSES];

/* ---- one process a seed ---- */

static int
write_all(int fd, const char *at, size_t left)
{
	while (left > 0) {
		ssize_t n = write(fd, at, left);

		if (n < 0 && errno != EINTR)
			return -1;
		at += n > 0 ? n : 0;
		left -= n > 0 ? (size_t)n : 0;
	}
	return 0;
}

static int
read_all(int fd, char *at, size_t left)
{
	while (left > 0) {
		ssize_t n = read(fd, at, left);

		if (n == 0 || (n < 0 && errno != EINTR))
			return -1;
		at += n > 0 ? n : 0;
		left -= n > 0 ? (size_t)n : 0;
	}
	return 0;
}

static _Noreturn void
child(const struct sim_work *w, int fd)
{
	static struct sim_tally t;

	for (unsigned m = 0; m < SIM_MODES; m++)
		for (unsigned c = 0; c < SIM_CLASSES; c++)
			if (sim_run(w, c, m, &t) < 0 || write_all(fd,
				    (const char *)&t, sizeof(t)) < 0)
				_exit(1);
	_exit(0);
}

static pid_t
start(struct sim_work *w, uint64_t seed, int *fd_r)
{
	int ends[2];
	pid_t pid;

	if (pipe(ends) < 0)
		return -1;
	w->seed = seed;
	pid = fork();
	if (pid == 0) {
		close(ends[0]);
		child(w, ends[1]);
	}
	close(ends[1]);
	*fd_r = ends[0];
	if (pid < 0)
		close(ends[0]);
	return pid;
}

static int
gather(int fd, tallies sum)
{
	static struct sim_tally t;

	for (unsigned m = 0; m < SIM_MODES; m++)
		for (unsigned c = 0; c < SIM_CLASSES; c++) {
			if (read_all(fd, (char *)&t, sizeof(t)) < 0)
				return -1;
			sim_add(&sum[m][c], &t);
		}
	return 0;
}

/* Seeds in groups of -j; each is waited for before the next group. */
static int
run(const struct request *q, struct sim_work *w, tallies sum)
{
	int rc = 0;

	for (unsigned done = 0; done < q->seeds && rc == 0;) {
		unsigned n = q->seeds - done < q->jobs ? q->seeds - done :
			q->jobs;
		pid_t pid[JOBS_MAX];
		int fd[JOBS_MAX], status;

		for (unsigned i = 0; i < n; i++)
			pid[i] = start(w, done + i + 1, &fd[i]);
		for (unsigned i = 0; i < n; i++) {
			if (pid[i] < 0 || gather(fd[i], sum) < 0)
				rc = -1;
			if (pid[i] < 0)
				continue;
			close(fd[i]);
			waitpid(pid[i], &status, 0);
			if (isatty(STDERR_FILENO))
				fprintf(stderr, "\rseed %u of %u ", done + i +
					1, q->seeds);
		}
		done += n;
	}
	if (isatty(STDERR_FILENO))
		fputc('\n', stderr);
	if (rc < 0)
		fprintf(stderr, "sallyport simulate: a seed's process: %s\n",
			strerror(errno));
	return rc;
}

/* ---- words ---- */

static int
number(const char *name, const char *text, unsigned max, unsigned *n_r)
{
	char *end;
	unsigned long n;

	errno = 0;
	n = text != NULL ? strtoul(text, &end, 10) : 0;
	if (text == NULL || errno != 0 || end == text || *end != '\0' ||
		*text == '-' || n < 1 || n > max) {
		fprintf(stderr, "sallyport simulate: %s %s; expected a whole "
			"number from 1 to %u\n", name, text != NULL ? text :
			"without a value", max);
		return -1;
	}
	*n_r = (unsigned)n;
	return 0;
}

static int
words(int argc, char **argv, struct request *q)
{
	const struct { const char *name; unsigned max, *n; } numbers[] = {
		{ "--seeds", 1000, &q->seeds }, { "-j", JOBS_MAX, &q->jobs },
		{ "--lines", SIM_LINES_MAX, &q->lines },
		{ "--days", 365, &q->days },
	};

	for (int i = 1; i < argc; i++) {
		size_t k = 0;

		while (k < 4 && strcmp(argv[i], numbers[k].name) != 0)
			k++;
		if (k < 4) {
			if (number(argv[i], argv[i + 1], numbers[k].max,
				    numbers[k].n) < 0)
				return -1;
			q->invented = argv[i++];
		} else if (strcmp(argv[i], "--replay") == 0 && i + 1 < argc &&
			q->replay == NULL) {
			q->replay = argv[++i];
		} else if (strcmp(argv[i], "--set") == 0 && i + 1 < argc &&
			q->nset < SETS_MAX + 2) {
			q->set[q->nset++] = argv[++i];
		} else {
			fprintf(stderr, "sallyport simulate: %s; expected "
				"--set NAME=VALUE, --seeds, --lines, --days "
				"or -j with a number, or --replay FILE\n",
				argv[i]);
			return -1;
		}
	}
	if (q->replay != NULL && q->invented != NULL) {
		fprintf(stderr, "sallyport simulate: --replay and %s; expected "
			"one of them: a log has its own lines\n", q->invented);
		return -1;
	}
	return 0;
}

int
cmd_simulate(int argc, char **argv, const char *config, bool json)
{
	/* what the operator sets comes later and wins */
	struct request q = { .set = { "unknown_user.count=count",
		"refusal.count=count" }, .nset = 2, .seeds = 10, .jobs = 2,
		.lines = 300, .days = 28 };
	static tallies sum;
	struct sim_work w;
	struct zombie_conf z;

	(void)config;
	if (words(argc, argv, &q) < 0 ||
		conf_zombie(&z, q.set, q.nset, stderr) < 0)
		return 2;
	if (q.replay != NULL)
		return replay_run(&z, q.replay, json);
	detect_load(&w.detect[0], &z);
	w.detect[1] = w.detect[0];
	w.lines = q.lines;
	w.days = q.days;
	if (run(&q, &w, sum) < 0)
		return 2;
	if (!json)
		printf("%u seeds, %u lines of a class, %u days\n", q.seeds,
			q.lines, q.days);
	return sim_report(sum, json, stdout) > 0;
}
