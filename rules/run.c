/*
 * run.c - start one system tool, feed it, collect what it says
 *
 * Does: finds iptables-restore, ipset or ip in the system directories, starts
 * it with posix_spawn(3), a fixed environment and three in-memory files as its
 * descriptors, and waits. Files instead of pipes: a tool that stops reading or
 * fills its output can then never block us, and half a million set entries
 * need no loop here.
 * Does not: use a shell, search $PATH, or interpret what the tool prints.
 *
 * Called by the rest of rules/ on the CLI side, and by the process that looks
 * after the rules for the daemon. Arguments are constants and numbers; all text
 * of the operator goes through standard input in a form that conf/ has checked.
 */
#include "rules/run.h"

#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *const directories[] = {
	"/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin",
};

static char *const environment[] = {
	"PATH=/usr/sbin:/sbin:/usr/bin:/bin", "LC_ALL=C", NULL,
};

static int
find(const char *tool, char *path, size_t size)
{
	for (size_t i = 0; i < sizeof(directories) / sizeof(directories[0]);
	    i++) {
		snprintf(path, size, "%s/%s", directories[i], tool);
		if (access(path, X_OK) == 0)
			return 0;
	}
	errno = ENOENT;
	return -1;
}

bool
run_exists(const char *tool)
{
	char path[256];

	return find(tool, path, sizeof(path)) == 0;
}

static int
write_all(int fd, const char *p, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, p, len);

		if (n < 0)
			return -1;
		p += n;
		len -= (size_t)n;
	}
	return lseek(fd, 0, SEEK_SET) < 0 ? -1 : 0;
}

static char *
read_all(int fd, size_t *len_r)
{
	struct stat st;
	char *text;
	size_t have = 0;

	if (fstat(fd, &st) < 0 || lseek(fd, 0, SEEK_SET) < 0)
		return NULL;
	text = malloc((size_t)st.st_size + 1);
	if (text == NULL)
		return NULL;
	while (have < (size_t)st.st_size) {
		ssize_t n = read(fd, text + have, (size_t)st.st_size - have);

		if (n <= 0)
			break;
		have += (size_t)n;
	}
	text[have] = '\0';
	*len_r = have;
	return text;
}

static int
start(const char *path, const char *const argv[], const int fd[3], pid_t *pid_r)
{
	posix_spawn_file_actions_t actions;
	int error;

	error = posix_spawn_file_actions_init(&actions);
	if (error != 0)
		return error;
	for (int i = 0; i < 3 && error == 0; i++)
		error = posix_spawn_file_actions_adddup2(&actions, fd[i], i);
	if (error == 0)
		error = posix_spawn(pid_r, path, &actions, NULL,
			(char *const *)argv, environment);
	posix_spawn_file_actions_destroy(&actions);
	return error;
}

static int
finish(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return 255;
	return WIFEXITED(status) ? WEXITSTATUS(status) :
		128 + WTERMSIG(status);
}

int
run(struct run *r, const char *const argv[], const char *input, size_t len)
{
	int fd[3] = { -1, -1, -1 }, error = 0;
	char path[256];
	size_t err_len;
	pid_t pid;

	memset(r, 0, sizeof(*r));
	if (find(argv[0], path, sizeof(path)) < 0)
		error = errno;
	for (int i = 0; i < 3 && error == 0; i++) {
		fd[i] = memfd_create(argv[0], MFD_CLOEXEC);
		if (fd[i] < 0)
			error = errno;
	}
	if (error == 0 && input != NULL && write_all(fd[0], input, len) < 0)
		error = errno;
	if (error == 0)
		error = start(path, argv, fd, &pid);
	if (error == 0) {
		r->status = finish(pid);
		r->out = read_all(fd[1], &r->out_len);
		r->err = read_all(fd[2], &err_len);
		if (r->out == NULL || r->err == NULL)
			error = ENOMEM;
	}
	for (int i = 0; i < 3; i++)
		if (fd[i] >= 0)
			close(fd[i]);
	if (error == 0)
		return 0;
	run_free(r);
	if (asprintf(&r->err, "%s: %s", argv[0], strerror(error)) < 0)
		r->err = NULL;
	r->status = 127;
	errno = error;
	return -1;
}

const char *
run_why(struct run *r)
{
	if (r->err == NULL)
		return "out of memory";
	r->err[strcspn(r->err, "\n")] = '\0';
	return r->err[0] != '\0' ? r->err : "no reason given";
}

void
run_free(struct run *r)
{
	free(r->out);
	free(r->err);
	r->out = r->err = NULL;
}
