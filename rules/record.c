/*
 * record.c - what is meant to be in the kernel, besides what is there
 *
 * Does: remembers, in two files of /run, that rules were applied (and of which
 * configuration, by a fingerprint) and which bypasses hold, so that a set or a
 * chain that somebody else has destroyed can be told from one that was removed
 * on purpose. Does not: hold rules; they are made of the configuration again.
 *
 * Called by apply, remove and bypass as root, and by the daemon's look, which
 * may find /run closed for writing. A mark in the kernel was rejected: it would
 * be flushed together with what it speaks for. /run belongs to root; links are
 * not followed all the same. A line that cannot be read counts as none.
 */
#include "rules/record.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "rules/rules.h"

#define DIRECTORY "/run"
#define PATH_SIZE 64

/* The same number is never given twice while the machine is up, other than the
 * namespace's inode. 0, or -1: Linux before 5.14. */
static int
path_of(const char *what, char path[PATH_SIZE])
{
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int result = -1;

	if (fd < 0)
		return -1;
	if (getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &len) == 0)
		result = 0;
	close(fd);
	snprintf(path, PATH_SIZE, DIRECTORY "/sallyport-%s.%" PRIu64, what,
		cookie);
	return result;
}

/* The daemon may have /run read-only, and changes nothing then. */
static int
open_file(const char *path, bool create)
{
	int fd = open(path, O_CLOEXEC | O_NOFOLLOW | O_RDWR |
		(create ? O_CREAT : 0), 0600);

	if (fd < 0 && errno == EROFS)
		fd = open(path, O_CLOEXEC | O_NOFOLLOW | O_RDONLY);
	return fd;
}

static int
open_locked(const char *what, bool create)
{
	char path[PATH_SIZE];
	struct stat st;
	int fd;

	if (path_of(what, path) != 0)
		return -1;
	while ((fd = open_file(path, create)) >= 0) {
		if (flock(fd, LOCK_EX) != 0 || fstat(fd, &st) != 0) {
			close(fd);
			return -1;
		}
		/* else: it was unlinked while we waited */
		if (st.st_nlink > 0)
			return fd;
		close(fd);
	}
	return -1;
}

static int
write_text(int fd, const char *text, size_t len)
{
	if (ftruncate(fd, 0) != 0)
		return -1;
	return pwrite(fd, text, len, 0) == (ssize_t)len ? 0 : -1;
}

/* ---- rules ---- */

int
record_lock(struct record *r, bool create)
{
	char text[32] = "", *end;
	ssize_t n;

	r->applied = false;
	r->fingerprint = 0;
	r->fd = open_locked("rules", create);
	if (r->fd < 0)
		return -1;
	n = pread(r->fd, text, sizeof(text) - 1, 0);
	if (n == 17 && text[16] == '\n') {
		r->fingerprint = strtoull(text, &end, 16);
		r->applied = end == text + 16;
	}
	return 0;
}

int
record_applied(struct record *r, uint64_t fingerprint)
{
	char text[32];
	int len = snprintf(text, sizeof(text), "%016" PRIx64 "\n", fingerprint);

	if (r->applied && r->fingerprint == fingerprint)
		return 0;
	return write_text(r->fd, text, (size_t)len);
}

void
record_removed(struct record *r)
{
	static const char *const what[] = { "rules", "bypass" };
	char path[PATH_SIZE];

	for (size_t i = 0; i < 2; i++)
		if (path_of(what[i], path) == 0)
			(void)unlink(path);
	r->applied = false;
}

void
record_unlock(struct record *r)
{
	if (r->fd >= 0)
		close(r->fd);
	r->fd = -1;
}

/* ---- bypass ---- */

static const char *const kind_word[] = {
	[BYPASS_LINE] = "line", [BYPASS_DESTINATION] = "destination",
	[BYPASS_ALL] = "all",
};

/* "line PREFIX UNTIL", "all - UNTIL". False: none, or it is over. */
static bool
parse(char *text, int64_t now, struct bypass *b)
{
	char *kind = strsep(&text, " "), *prefix = strsep(&text, " ");
	int64_t until = text != NULL ? strtoll(text, NULL, 10) : 0;
	const char *why;

	if (until <= now || until - now > BYPASS_MAX)
		return false;
	memset(b, 0, sizeof(*b));
	b->seconds = until - now;
	for (int i = BYPASS_LINE; i <= BYPASS_ALL; i++)
		if (strcmp(kind, kind_word[i]) == 0) {
			b->kind = (enum bypass_kind)i;
			return i == BYPASS_ALL ||
				prefix_parse(&b->prefix, prefix, &why) == 0;
		}
	return false;
}

static bool
same(const struct bypass *a, const struct bypass *b)
{
	return a->kind == b->kind && (a->kind == BYPASS_ALL ||
		prefix_equal(&a->prefix, &b->prefix));
}

static bool
among(const struct bypass *b, const struct bypass *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (same(b, &list[i]))
			return true;
	return false;
}

static int
read_list(int fd, struct bypass **list_r, size_t *n_r)
{
	char line[128];
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	FILE *f = copy < 0 ? NULL : fdopen(copy, "r");
	int64_t now = time(NULL);
	struct bypass b, *more;

	if (f == NULL) {
		if (copy >= 0)
			close(copy);
		return -1;
	}
	while (fgets(line, sizeof(line), f) != NULL) {
		if (!parse(line, now, &b))
			continue;
		more = realloc(*list_r, (*n_r + 1) * sizeof(*more));
		if (more == NULL)
			break;
		*list_r = more;
		more[(*n_r)++] = b;
	}
	fclose(f);
	return 0;
}

static void
write_line(FILE *f, const struct bypass *b, int64_t now)
{
	char prefix[ADDR_STRLEN] = "-";

	if (b->kind != BYPASS_ALL)
		prefix_format(&b->prefix, prefix);
	fprintf(f, "%s %s %" PRId64 "\n", kind_word[b->kind], prefix,
		now + b->seconds);
}

int
record_bypass(const struct bypass *list, size_t n, bool end)
{
	struct bypass *old = NULL;
	size_t nold = 0, len;
	char *text = NULL;
	int64_t now = time(NULL);
	int fd = open_locked("bypass", true), result = -1;
	FILE *f = fd < 0 ? NULL : open_memstream(&text, &len);

	if (f != NULL && read_list(fd, &old, &nold) == 0) {
		for (size_t i = 0; i < nold; i++)
			if (!among(&old[i], list, n))
				write_line(f, &old[i], now);
		for (size_t i = 0; i < n && !end; i++)
			write_line(f, &list[i], now);
		if (fflush(f) == 0)
			result = write_text(fd, text, len);
	}
	if (f != NULL)
		fclose(f);
	free(text);
	free(old);
	if (fd >= 0)
		close(fd);
	return result;
}

int
record_bypass_read(struct bypass **list_r, size_t *n_r)
{
	int fd = open_locked("bypass", false);
	int result;

	*list_r = NULL;
	*n_r = 0;
	if (fd < 0)
		return errno == ENOENT ? 0 : -1;
	result = read_list(fd, list_r, n_r);
	close(fd);
	return result;
}
