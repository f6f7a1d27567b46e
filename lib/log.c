/*
 * log.c - operational messages of the processes
 *
 * Does: one line a message (text, or JSON when kv.h is told so), to the syslog
 * socket or to standard error; under systemd (JOURNAL_STREAM) a line on standard
 * error starts with "<N>", so that the journal knows its level. Does not: rotate,
 * batch or filter by level.
 *
 * Called by every process. A log that is not read must not hold mail: a write
 * waits at most WAIT_MS, after such a wait the next second is not waited for
 * at all, and what could not be written is counted. That, and a relay whose
 * filter knows no socket(2), is why syslog(3) is not used: it blocks without
 * limit and opens a new socket whenever the daemon behind /dev/log is
 * restarted. Here the one socket is connected again.
 *
 * Messages may carry words of a peer (a library's reason, a name from DNS):
 * every byte that is not printable ASCII becomes '?'.
 */
#include "lib/log.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "lib/kv.h"

/* A line is one write: it stays whole in a pipe as long as PIPE_BUF (4096). */
#define LINE_MAX_BYTES 4000
#define WAIT_MS 100

static struct {
	char ident[32];
	bool to_stderr;
	bool journal;		/* stderr is read by journald */
	int fd;			/* syslog socket, -1 */
	time_t patient_again;	/* CLOCK_MONOTONIC second */
	unsigned long lost;
} logger = { .fd = -1, .to_stderr = true };

static const char *const level_word[] = {
	"emerg", "alert", "critical", "error", "warning", "notice", "info",
	"debug",
};

/* systemd says which stream its journal reads; a descriptor that was
 * redirected since is another one. */
static bool
stderr_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	struct stat st;
	char mine[64];

	if (stream == NULL || fstat(STDERR_FILENO, &st) != 0)
		return false;
	snprintf(mine, sizeof(mine), "%ju:%ju", (uintmax_t)st.st_dev,
		(uintmax_t)st.st_ino);
	return strcmp(stream, mine) == 0;
}

static void
syslog_connect(void)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX,
		.sun_path = "/dev/log" };

	if (logger.fd < 0)
		logger.fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (logger.fd >= 0)
		(void)connect(logger.fd, (struct sockaddr *)&sun, sizeof(sun));
}

void
log_open(const char *ident, bool to_stderr)
{
	struct tm tm;
	time_t now = time(NULL);

	log_set_ident(ident);
	logger.to_stderr = to_stderr;
	logger.journal = to_stderr && stderr_is_journal();
	if (to_stderr)
		return;
	localtime_r(&now, &tm); /* reads the time zone while it can be read */
	syslog_connect();
}

void
log_set_ident(const char *ident)
{
	snprintf(logger.ident, sizeof(logger.ident), "%s", ident);
	logger.lost = 0; /* what a parent lost before the fork is not ours */
}

int
log_fd(void)
{
	return logger.fd;
}

unsigned long
log_lost(void)
{
	return logger.lost;
}

/* Is there room in fd, now or within WAIT_MS? */
static bool
wait_for_room(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	struct timespec now;
	bool patient;

	clock_gettime(CLOCK_MONOTONIC, &now);
	patient = now.tv_sec >= logger.patient_again;
	if (poll(&p, 1, patient ? WAIT_MS : 0) == 1)
		return true;
	if (patient)
		logger.patient_again = now.tv_sec + 2;
	return false;
}

static void
put_stderr(const char *line, size_t len)
{
	if (!wait_for_room(STDERR_FILENO) ||
		write(STDERR_FILENO, line, len) != (ssize_t)len)
		logger.lost++;
}

static void
put_syslog(const char *line, size_t len)
{
	const int flags = MSG_NOSIGNAL | MSG_DONTWAIT;

	if (logger.fd >= 0 && send(logger.fd, line, len, flags) >= 0)
		return;
	if (logger.fd >= 0 && errno == EAGAIN) {
		if (wait_for_room(logger.fd) &&
			send(logger.fd, line, len, flags) >= 0)
			return;
	} else {
		syslog_connect();
		if (logger.fd >= 0 && send(logger.fd, line, len, flags) >= 0)
			return;
	}
	logger.lost++;
}

/* A finished object, with the members in front that every line has. */
static void
put_object(int level, const char *text, char out[LINE_MAX_BYTES])
{
	struct timespec now;
	struct tm tm;
	char when[32];

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(out, LINE_MAX_BYTES, "{\"@timestamp\":\"%s.%03ldZ\","
		"\"log.level\":\"%s\",\"service.name\":\"sallyport\",%s", when,
		now.tv_nsec / 1000000, level_word[level], text + 1);
}

/* who: "ident: " or "" */
static void
put(int level, const char *who, const char *text)
{
	char line[LINE_MAX_BYTES], object[LINE_MAX_BYTES];
	char when[32];
	struct tm tm;
	time_t now;
	int n;

	if (text[0] == '{' && kv_form() == KV_JSON) {
		put_object(level, text, object);
		text = object;
	}
	if (logger.to_stderr) {
		const char *tag = "";
		char level_tag[16];

		if (logger.journal)
			snprintf(level_tag, sizeof(level_tag), "<%d>", level);
		else
			snprintf(level_tag, sizeof(level_tag), "%s ",
				level_word[level]);
		if (logger.journal || who[0] != '\0')
			tag = level_tag;
		n = snprintf(line, sizeof(line) - 1, "%s%s%s", tag, who, text);
	} else {
		now = time(NULL);
		localtime_r(&now, &tm);
		strftime(when, sizeof(when), "%b %e %H:%M:%S", &tm);
		n = snprintf(line, sizeof(line) - 1, "<%d>%s sallyportd[%d]: %s%s",
			LOG_MAIL | level, when, (int)getpid(), who, text);
	}
	if (n < 0)
		return;
	if ((size_t)n > sizeof(line) - 2)
		n = sizeof(line) - 2;
	if (logger.to_stderr) {
		line[n] = '\n';
		put_stderr(line, (size_t)n + 1);
	} else
		put_syslog(line, (size_t)n);
}

static void
put_formatted(int level, const char *fmt, va_list ap)
	__attribute__((format(printf, 2, 0)));

static void
put_formatted(int level, const char *fmt, va_list ap)
{
	char text[LINE_MAX_BYTES - 256], object[LINE_MAX_BYTES - 256];
	char who[sizeof(logger.ident) + 2] = "";

	if (vsnprintf(text, sizeof(text), fmt, ap) < 0)
		return;
	for (char *p = text; *p != '\0'; p++)
		if (*p < ' ' || *p > '~')
			*p = '?';
	if (kv_form() == KV_JSON) {
		struct kv k;

		kv_open(&k, object, sizeof(object), "message");
		kv_word(&k, "process", logger.ident);
		kv_text(&k, "message", text, strlen(text));
		put(level, "", object);
		return;
	}
	if (logger.ident[0] != '\0')
		snprintf(who, sizeof(who), "%s: ", logger.ident);
	put(level, who, text);
}

void
log_msg(int level, const char *fmt, ...)
{
	int saved = errno;
	va_list ap;

	va_start(ap, fmt);
	put_formatted(level & LOG_PRIMASK, fmt, ap);
	va_end(ap);
	errno = saved;
}

static void (*tee_to)(void *arg, const char *line);
static void *tee_arg;

void
log_tee(void (*tee)(void *arg, const char *line), void *arg)
{
	tee_to = tee;
	tee_arg = arg;
}

void
log_line(int level, const char *line)
{
	char object[LINE_MAX_BYTES];
	int saved = errno;

	put(level & LOG_PRIMASK, "", line);
	if (tee_to != NULL && line[0] == '{' && kv_form() == KV_JSON) {
		put_object(level & LOG_PRIMASK, line, object);
		tee_to(tee_arg, object);
	} else if (tee_to != NULL)
		tee_to(tee_arg, line);
	errno = saved;
}

void
fatal(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	put_formatted(LOG_CRIT, fmt, ap);
	va_end(ap);
	exit(1);
}
