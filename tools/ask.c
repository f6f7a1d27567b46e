/*
 * ask.c - one request to the running daemon, one answer
 *
 * Does: find the control socket, connect, send a line (with a descriptor, for
 * an import), read the JSON object that comes back, say on standard error why
 * none came. Does not: interpret the answer.
 *
 * Called by the subcommands that need the daemon. One that is stopped or hung
 * must not hang them: every wait has an end.
 */
#include "tools/ask.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "conf/conf.h"

#define DEFAULT_SOCKET "/run/sallyport/control"
#define ANSWER_MAX (512u * 1024u * 1024u)

/* The socket that the file names, else the usual one: status has to work while
 * somebody is editing it, and one `allow add' must not read half a million
 * entries for it. */
static char *
socket_path(const char *config)
{
	char *path = conf_socket(config);

	return path != NULL ? path : strdup(DEFAULT_SOCKET);
}

static int
connect_to(const char *path, int seconds)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	const struct timeval limit = { seconds, 0 };
	int fd;

	if (strlen(path) >= sizeof(sun.sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(sun.sun_path, path, strlen(path));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	if (connect(fd, (struct sockaddr *)&sun, sizeof(sun)) == 0)
		return fd;
	close(fd);
	return -1;
}

/* "{"progress":1234}" alone in a piece: for a person who waits. */
static void
show_progress(const char *piece, size_t len)
{
	static const char head[] = "{\"progress\":";

	if (len > sizeof(head) && memcmp(piece, head, sizeof(head) - 1) == 0 &&
	    isatty(STDERR_FILENO))
		fprintf(stderr, "\r%llu lines ", strtoull(piece +
			sizeof(head) - 1, NULL, 10));
}

/* All until end of file; NULL: nothing, too much, or not in time. */
static char *
read_all(int fd)
{
	size_t n = 0, cap = 65536;
	char *text = malloc(cap + 1);

	while (text != NULL) {
		ssize_t got = recv(fd, text + n, cap - n, 0);

		if (got < 0 && errno == EINTR)
			continue;
		if (got == 0 && n > 0) {
			text[n] = '\0';
			return text;
		}
		if (got == 0)
			errno = ENODATA;
		if (got <= 0)
			break;
		show_progress(text + n, (size_t)got);
		n += (size_t)got;
		if (n == cap) {
			char *more = cap < ANSWER_MAX ?
				realloc(text, cap * 2 + 1) : NULL;

			if (more == NULL)
				break;
			text = more;
			cap *= 2;
		}
	}
	free(text);
	return NULL;
}

static const char *
why_not(int error)
{
	switch (error) {
	case ENOENT:
	case ECONNREFUSED:
		return "not running";
	case EACCES:
	case EPERM:
		return "no permission (root, or the group of the socket)";
	case ENODATA:
	case ECONNRESET:
	case EPIPE:
		return "it closed the connection without an answer; whether "
			"it was done shows `sallyport status' or the log";
	case EBADMSG:
		return "the answer was not understood";
	case EAGAIN:
	case EINPROGRESS:
		return "running, but it does not answer";
	default:
		return strerror(error);
	}
}

/* The request, and a descriptor unless it is -1. */
static bool
send_request(int to, const char *request, int fd)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(int))];
	} space = { .room = { 0 } };
	struct iovec iov = { .iov_base = (void *)request,
		.iov_len = strlen(request) };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (fd >= 0) {
		struct cmsghdr *c;

		mh.msg_control = space.room;
		mh.msg_controllen = sizeof(space.room);
		c = CMSG_FIRSTHDR(&mh);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(fd));
		memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	}
	return sendmsg(to, &mh, MSG_NOSIGNAL) > 0;
}

/* Progress comes in lines before the answer, which is the last one. */
static const char *
last_line(const char *text)
{
	const char *at;

	while ((at = strchr(text, '\n')) != NULL && at[1] != '\0')
		text = at + 1;
	return text;
}

/* NULL: errno says why, EBADMSG: what came is no answer. */
static json_t *
converse(const char *path, const char *request, int with, int seconds)
{
	int fd = connect_to(path, seconds), why;
	json_t *answer = NULL;
	char *text = NULL;

	if (fd >= 0 && send_request(fd, request, with))
		text = read_all(fd);
	why = errno;
	if (text != NULL) {
		answer = json_loads(last_line(text), 0, NULL);
		why = EBADMSG;
	}
	if (json_object_get(answer, "progress") != NULL) {
		json_decref(answer);
		answer = NULL;
		why = ENODATA;	/* it was still at work */
	}
	if (fd >= 0)
		close(fd);
	free(text);
	errno = why;
	return answer;
}

json_t *
ask_daemon_with(const char *config, const char *request, int with, int seconds)
{
	char *path = socket_path(config);
	json_t *answer;

	if (path == NULL) {
		fprintf(stderr, "sallyport: no memory\n");
		return NULL;
	}
	answer = converse(path, request, with, seconds);
	if (answer == NULL)
		fprintf(stderr, "sallyportd (%s): %s\n", path,
			why_not(errno));
	free(path);
	return answer;
}

json_t *
ask_daemon_quietly(const char *config, const char *request, int seconds)
{
	char *path = socket_path(config);
	json_t *answer = path == NULL ? NULL :
		converse(path, request, -1, seconds);

	free(path);
	return answer;
}

json_t *
ask_daemon(const char *config, const char *request, int seconds)
{
	return ask_daemon_with(config, request, -1, seconds);
}

/* Why a request was refused, into text; false: this is no refusal. */
static bool
read_refusal(const char *line, char *text, size_t cap)
{
	json_t *answer = json_loads(line, 0, NULL);
	const char *why = json_string_value(json_object_get(answer, "error"));

	if (why != NULL)
		snprintf(text, cap, "%s", why);
	json_decref(answer);
	return why != NULL;
}

/* The first line says that it is understood; the rest may take its time. NULL
 * and EPROTO: it was refused, in the words of refusal. */
static FILE *
open_stream(const char *path, const char *request, int seconds,
	char refusal[128])
{
	const struct timeval for_ever = { 0, 0 };
	int fd = connect_to(path, seconds), why;
	char first[256];
	FILE *f = NULL;

	if (fd >= 0 && send_request(fd, request, -1))
		f = fdopen(fd, "r");
	if (f == NULL) {
		why = errno;
		if (fd >= 0)
			close(fd);
		errno = why;
		return NULL;
	}
	if (fgets(first, sizeof(first), f) == NULL ||
	    strcmp(first, "{\"ok\":true}\n") != 0) {
		why = feof(f) ? ENODATA : ferror(f) ? errno :
			read_refusal(first, refusal, 128) ? EPROTO : EBADMSG;
		fclose(f);
		errno = why;
		return NULL;
	}
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &for_ever,
		sizeof(for_ever));
	return f;
}

FILE *
ask_stream(const char *config, const char *request, int seconds, bool loud)
{
	char *path = socket_path(config), refusal[128];
	FILE *f = path == NULL ? NULL : open_stream(path, request, seconds,
		refusal);
	int why = errno;

	if (f == NULL && loud)
		fprintf(stderr, "sallyportd (%s): %s\n", path == NULL ? "?" :
			path, why == EPROTO ? refusal : why_not(why));
	free(path);
	errno = why;
	return f;
}
