/*
 * hookkeeper.c - the operator's program that hears of each change of a level
 *
 * Does: take what control wants to tell, a sealed file in memory, give it to
 * zombie.hook as standard input in a process of zombie.hook_user without any
 * capability, environment or other descriptor, end it and what it has started
 * after HOOK_MS, say how it ended. One at a time: who asks meanwhile is told so
 * and asks again. Does not: read a byte of that file, or put anything but the
 * configured path on a command line.
 *
 * Called from the parent's loop: by a message of control, each second, and when a
 * child has ended. A control process that was taken over can have the program
 * started again and again with an input of its own making, never another program
 * or as another user.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/log.h"
#include "proxyd/parent.h"
#include "proxyd/sandbox.h"

#define HOOK_MS 30000
/* Failures of one kind are said once in this time, with their number. */
#define SAY_MS 60000
/* Programs that walk through all descriptors there may be. */
#define FILES 1024
/* What a shell says of a program that cannot be started. */
#define NOT_STARTED 127

/* ---- the process ---- */

/* Standard input the file, output nowhere, nothing else. */
static int
take_descriptors(int fd)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0 || dup2(fd, STDIN_FILENO) < 0 ||
	    dup2(null, STDOUT_FILENO) < 0 || dup2(null, STDERR_FILENO) < 0)
		return -1;
	return close_range(3, ~0U, 0);
}

static void __attribute__((noreturn))
become_hook(const struct conf *c, int fd)
{
	char *const argv[] = { c->hook, NULL };
	char *const environment[] = { NULL };
	struct rlimit files;

	daemon_default_signals();
	if (setsid() < 0 || sandbox_program(c->hook_user != NULL ?
		c->hook_user : c->user_control) != 0)
		_exit(NOT_STARTED);
	/* after the change of user, which would take it back */
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur > FILES) {
		files.rlim_cur = FILES;
		(void)setrlimit(RLIMIT_NOFILE, &files);
	}
	(void)umask(077);
	if (chdir("/") == 0 && take_descriptors(fd) == 0)
		execve(c->hook, argv, environment);
	_exit(NOT_STARTED);
}

/* What its writer cannot change any more, and no more than control ever tells. */
static bool
is_telling(int fd)
{
	const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
	int sealed = fd < 0 ? -1 : fcntl(fd, F_GET_SEALS);
	struct stat st;

	return sealed >= 0 && (sealed & seals) == seals &&
		fstat(fd, &st) == 0 && st.st_size <= HOOK_OCTETS &&
		lseek(fd, 0, SEEK_SET) == 0;
}

static int
start(struct parent *p, int fd)
{
	sigset_t all, before;
	pid_t pid;

	/* no handler of ours may run in the child */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	pid = fork();
	if (pid == 0)
		become_hook(p->conf, fd);
	sigprocmask(SIG_SETMASK, &before, NULL);
	if (pid < 0) {
		log_error("zombie.hook: fork: %s", strerror(errno));
		return -1;
	}
	p->hook.pid = pid;
	p->hook.began = parent_now();
	p->hook.is_late = false;
	return 0;
}

int
hookkeeper_ask(struct child *c, const struct msg *m, int fd)
{
	struct parent *p = c->parent;
	enum hook_answer answer = HOOK_BUSY;

	(void)m;
	if (!is_telling(fd))
		return -1;
	if (p->conf->hook == NULL)
		answer = HOOK_NONE;
	else if (p->hook.pid == 0 && !p->stopping && start(p, fd) == 0) {
		p->hook.asker = c->pid;
		return 0;
	}
	child_send_simple(c, MSG_HOOKED, answer, 0);
	return 0;
}

/* ---- its end ---- */

static void
say_failed(struct parent *p, int status)
{
	struct hook *h = &p->hook;
	int64_t now = parent_now();
	char cause[80];

	h->failed++;
	if (h->said_at != 0 && h->said == status && now - h->said_at < SAY_MS)
		return;
	if (h->is_late)
		snprintf(cause, sizeof(cause), "killed after %d s",
			HOOK_MS / 1000);
	else if (WIFSIGNALED(status))
		snprintf(cause, sizeof(cause), "signal %d", WTERMSIG(status));
	else
		snprintf(cause, sizeof(cause), "exit status %d%s",
			WEXITSTATUS(status), WEXITSTATUS(status) ==
			NOT_STARTED ? ", perhaps it cannot be started" : "");
	log_warn("zombie.hook: %s: %s (failures since the last such line: %u)",
		p->conf->hook != NULL ? p->conf->hook : "(no more)", cause,
		h->failed);
	h->said_at = now;
	h->said = status;
	h->failed = 0;
}

bool
hookkeeper_reaped(struct parent *p, pid_t pid, int status)
{
	struct hook *h = &p->hook;

	if (h->pid == 0 || h->pid != pid)
		return false;
	/* what it has left behind: its group, which has this number as long as
	 * somebody is in it */
	(void)kill(-pid, SIGKILL);
	h->pid = 0;
	if (status != 0 && !p->stopping)
		say_failed(p, status);
	for (struct child *c = p->children; c != NULL; c = c->next)
		if (c->pid == h->asker && c->slot == SLOT_CONTROL)
			child_send_simple(c, MSG_HOOKED, HOOK_RAN, 0);
	return true;
}

void
hookkeeper_tick(struct parent *p)
{
	struct hook *h = &p->hook;

	if (h->pid == 0 || parent_now() - h->began < HOOK_MS)
		return;
	h->is_late = true;
	(void)kill(-h->pid, SIGKILL);
	(void)kill(h->pid, SIGKILL);
}

void
hookkeeper_reload(struct parent *p)
{
	p->hook.said_at = 0;
	p->hook.failed = 0;
}

void
hookkeeper_close(struct parent *p)
{
	if (p->hook.pid == 0)
		return;
	(void)kill(-p->hook.pid, SIGKILL);
	(void)kill(p->hook.pid, SIGKILL);
	p->hook.pid = 0;
}
