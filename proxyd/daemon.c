/*
 * daemon.c - leave the terminal, and say when the daemon is ready
 *
 * Does: fork into the background such that the starting process exits only
 * when the daemon works or has failed; the three lines of the sd_notify
 * protocol that a service of Type=notify needs. Does not: write a pid file;
 * the control socket and the service manager know the process.
 *
 * Called by main.c and parent.c, before anything from outside is read. The
 * environment (NOTIFY_SOCKET) is the service manager's.
 */
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/log.h"
#include "proxyd/parent.h"

static int ready_pipe = -1;

/* In the process that was started: wait for one byte, or for the end. */
static void __attribute__((noreturn))
wait_for_daemon(int fd, pid_t first)
{
	char byte;
	int status;

	(void)waitpid(first, &status, 0);
	_exit(read(fd, &byte, 1) == 1 ? 0 : 1);
}

void
daemon_detach(void)
{
	int pair[2];
	pid_t pid;

	if (pipe2(pair, O_CLOEXEC) != 0)
		fatal("pipe to the starting process");
	pid = fork();
	if (pid < 0)
		fatal("fork into the background");
	if (pid > 0) {
		close(pair[1]);
		wait_for_daemon(pair[0], pid);
	}
	close(pair[0]);
	ready_pipe = pair[1];
	/* a second fork: a session leader could get a terminal again */
	if (setsid() < 0 || (pid = fork()) < 0)
		fatal("leave the session");
	if (pid > 0)
		_exit(0);
	if (chdir("/") != 0)
		fatal("change to /");
}

static void
leave_terminal(bool keep_stderr)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0)
		return;
	(void)dup2(null, STDIN_FILENO);
	(void)dup2(null, STDOUT_FILENO);
	if (!keep_stderr)
		(void)dup2(null, STDERR_FILENO);
	if (null > STDERR_FILENO)
		close(null);
}

void
daemon_ready(bool keep_stderr)
{
	if (ready_pipe >= 0) {
		ssize_t n = write(ready_pipe, "1", 1);

		(void)n; /* the starting process is gone: nobody waits */
		close(ready_pipe);
		ready_pipe = -1;
		leave_terminal(keep_stderr);
	}
	daemon_notify("READY=1");
}

void
daemon_notify(const char *state)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	socklen_t len;
	int fd;

	if (path == NULL || (path[0] != '/' && path[0] != '@') ||
		strlen(path) >= sizeof(sun.sun_path))
		return;
	memcpy(sun.sun_path, path, strlen(path));
	len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
	if (path[0] == '@')
		sun.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	(void)sendto(fd, state, strlen(state), MSG_NOSIGNAL,
		(struct sockaddr *)&sun, len);
	close(fd);
}

void
daemon_default_signals(void)
{
	sigset_t none;

	for (int number = 1; number < NSIG; number++)
		(void)signal(number, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}
