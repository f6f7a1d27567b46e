/*
 * rulekeeper.c - rules that somebody else takes away are brought back
 *
 * Does: every few seconds, and at once when the kernel's tables have changed or
 * a set of ours is gone, let a short-lived process compare the kernel with what
 * was applied; raise one alarm when something is missing, and let another one
 * apply it again. Does not: start a tool or wait for one in the parent; touch
 * rules that were never applied, or removed by `rules remove' (record.h).
 *
 * Called from the parent's tick and when a child has ended. The processes are
 * copies of the parent with its privileges and live for a moment; they read the
 * configuration in memory, the kernel's answers and the tools' output, nothing
 * of a line. What they say is a struct of fixed size.
 *
 * Must hold: before capture comes back only new connections are captured, or
 * sessions that began directly meanwhile would be torn.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/kv.h"
#include "lib/log.h"
#include "proxyd/parent.h"

/* At least this long between two looks; longer where a look is dear, so that all
 * of them stay below a hundredth of one CPU. */
#define LOOK_MS 5000
#define LOOK_SHARE 100
/* The same when there is a reason. */
#define SOON_MS 500
#define SOON_SHARE 10
/* A tool that waits for a lock for ever. */
#define HELPER_MS 60000
/* Between two attempts that fail: doubled up to this. */
#define RETRY_MAX_MS 300000
/* The ledger's entries are known by then, or will not be. */
#define LEDGER_MS 15000

struct answer {
	enum rules_state state;
	int64_t cpu;		/* ms that it has cost, tools included */
	struct rules_loss loss;
};

struct rulekeeper {
	pid_t pid;		/* of the process under way, 0: none */
	int pipe[2];		/* for the answer; kept, so that no descriptor
				 * comes and goes */
	bool repairing;
	bool lost;		/* said, and not repaired yet */
	unsigned failed;	/* attempts in a row */
	int64_t began, took, cpu, next_at;
	int64_t generation;	/* of the kernel's tables when a look began */
};

/* ---- the process ---- */

static int64_t
cpu_of(int who)
{
	struct rusage r;

	if (getrusage(who, &r) != 0)
		return 0;
	return (r.ru_utime.tv_sec + r.ru_stime.tv_sec) * (int64_t)1000 +
		(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1000;
}

static void __attribute__((noreturn))
help(struct parent *p, int fd, bool repair)
{
	struct answer a = { .state = RULES_UNKNOWN };
	bool known;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	(void)prctl(PR_SET_NAME, "sallyport:rules", 0, 0, 0);
	(void)setpgid(0, 0);	/* its tools end with it */
	daemon_default_signals();
	/* in this copy only: what apply puts into the allowlist's sets */
	p->conf->ledger = allowkeeper_list(p, &known);
	if (!repair)
		a.state = rules_look(p->conf, &a.loss);
	else if (rules_repair(p->conf, &a.loss) == 0)
		a.state = RULES_GOOD;
	a.cpu = cpu_of(RUSAGE_SELF) + cpu_of(RUSAGE_CHILDREN);
	_exit(write(fd, &a, sizeof(a)) != (ssize_t)sizeof(a));
}

static void
start(struct parent *p, bool repair)
{
	struct rulekeeper *k = p->rules;
	sigset_t all, before;

	k->repairing = repair;
	k->began = parent_now();
	k->generation = gate_generation(p->gate);
	/* no handler of ours may run in the child */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	k->pid = fork();
	if (k->pid == 0)
		help(p, k->pipe[1], repair);
	sigprocmask(SIG_SETMASK, &before, NULL);
	if (k->pid > 0)
		return;
	log_error("rules: fork: %s", strerror(errno));
	k->pid = 0;
	k->next_at = k->began + LOOK_MS;
}

/* ---- what it says ---- */

static void
say_lost(const struct parent *p, const struct rules_loss *loss)
{
	char line[512];
	struct kv k;

	kv_open(&k, line, sizeof(line), "alarm");
	kv_word(&k, "what", "rules-changed");
	kv_uint(&k, "differences", (uint64_t)loss->n);
	kv_text(&k, "first", loss->first, strlen(loss->first));
	log_line(LOG_WARNING, line);
	if (p->conf->repair)
		log_warn("rules: somebody else has changed what `sallyport "
			"rules apply' put there; it is applied again");
	else
		log_warn("rules: somebody else has changed what `sallyport "
			"rules apply' put there; gateway.repair is false: they "
			"stay so until you apply them");
}

static void
looked(struct parent *p, const struct answer *a)
{
	struct rulekeeper *k = p->rules;

	if (a->state == RULES_LOST) {
		if (!k->lost)
			say_lost(p, &a->loss);
		k->lost = true;
		if (!p->conf->repair)
			return;
		gatekeeper_grace(p);
		start(p, true);
	} else if (a->state != RULES_UNKNOWN) {
		k->lost = false;
		k->failed = 0;
	}
}

static void
repaired(struct parent *p, const struct answer *a)
{
	struct rulekeeper *k = p->rules;
	int64_t wait = LOOK_MS;

	if (a->state == RULES_GOOD) {
		k->lost = false;
		k->failed = 0;
		log_info("rules: applied again in %lld ms; for %u s only new "
			"connections are captured", (long long)k->took,
			p->conf->grace);
		gatekeeper_refill(p);
		allowkeeper_check(p);
		return;
	}
	for (unsigned i = 0; i < k->failed && wait < RETRY_MAX_MS; i++)
		wait *= 2;
	k->failed++;
	k->next_at = parent_now() + wait;
	log_error("rules: they cannot be applied again: %s; the next attempt "
		"is in %lld s", a->loss.first, (long long)wait / 1000);
}

bool
rulekeeper_reaped(struct parent *p, pid_t pid, int status)
{
	struct rulekeeper *k = p->rules;
	struct answer a;

	if (k == NULL || k->pid != pid)
		return false;
	/* one that was killed has written all of it or nothing */
	if (read(k->pipe[0], &a, sizeof(a)) != (ssize_t)sizeof(a) ||
	    status != 0)
		a = (struct answer){ .state = RULES_UNKNOWN,
			.loss.first = "the process died" };
	k->pid = 0;
	k->took = parent_now() - k->began;
	k->cpu = a.cpu;
	k->next_at = k->began + (k->cpu * LOOK_SHARE > LOOK_MS ?
		k->cpu * LOOK_SHARE : LOOK_MS);
	if (p->stopping)
		return true;
	if (k->repairing)
		repaired(p, &a);
	else
		looked(p, &a);
	return true;
}

/* ---- each second ---- */

void
rulekeeper_soon(struct parent *p)
{
	struct rulekeeper *k = p->rules;
	int64_t at = k->began + k->took + SOON_MS + k->cpu * SOON_SHARE;

	if (k->failed == 0 && at < k->next_at)
		k->next_at = at;
}

void
rulekeeper_tick(struct parent *p)
{
	struct rulekeeper *k = p->rules;
	int64_t now = parent_now();
	bool known;

	if (k->pid != 0) {
		if (now - k->began > HELPER_MS)
			(void)kill(-k->pid, SIGKILL);
		return;
	}
	/* rules brought back without the ledger's entries would block them */
	(void)allowkeeper_list(p, &known);
	if (!known && now - p->started < LEDGER_MS)
		return;
	if (gate_generation(p->gate) != k->generation)
		rulekeeper_soon(p);
	if (now >= k->next_at)
		start(p, false);
}

int
rulekeeper_open(struct parent *p)
{
	p->rules = calloc(1, sizeof(*p->rules));
	if (p->rules == NULL)
		return -1;
	if (pipe2(p->rules->pipe, O_CLOEXEC | O_NONBLOCK) == 0)
		return 0;
	log_error("rules: pipe: %s", strerror(errno));
	free(p->rules);
	p->rules = NULL;
	return -1;
}

void
rulekeeper_close(struct parent *p)
{
	if (p->rules == NULL)
		return;
	if (p->rules->pid != 0)
		(void)kill(-p->rules->pid, SIGKILL);
	close(p->rules->pipe[0]);
	close(p->rules->pipe[1]);
	free(p->rules);
	p->rules = NULL;
}
