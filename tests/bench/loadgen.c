/*
 * loadgen.c - the mail programs of the bench: many at once, each verified
 *
 *   loadgen pop3|retr|smtp|hold|idle ADDRESS PORT SESSIONS AT-ONCE
 *	MESSAGE-OCTETS
 *
 * pop3: CAPA USER PASS STAT QUIT. retr: a RETR before the QUIT, every octet of
 * the message compared. smtp: one mail of MESSAGE-OCTETS. hold: logs in, says
 * {"held": n}, waits for a line on standard input, then QUITs everywhere.
 * idle: the same with IMAP, in IDLE while it waits. A session counts as done
 * when every reply was the expected one and the other side then closed; anything
 * else is a loss, and the first complaint is told.
 *
 * The last line on standard output is the result as JSON. One process, one
 * epoll loop. Gives up when nothing moves for STALL_MS.
 *
 * Lives in a namespace of the lab; the proxies that answer it are trusted not
 * to attack it, but not to be right.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tests/bench/message.h"

#define STALL_MS 15000
#define LATENCIES 65536

/* What ends an answer. */
enum answer { LINE, DOTTED, REPLY, MESSAGE, TAGGED };

struct step {
	const char *command;	/* NULL: wait for the greeting */
	const char *want;
	enum answer answer;
};

static const struct step pop3_steps[] = {
	{ NULL, "+OK", LINE },
	{ "CAPA\r\n", "+OK", DOTTED },
	{ "USER load@isp.example\r\n", "+OK", LINE },
	{ "PASS Umeboshi-9Zq7-tea-house\r\n", "+OK", LINE },
	{ "STAT\r\n", "+OK", LINE },
	{ "QUIT\r\n", "+OK", LINE },
	{ NULL, NULL, LINE }
};
static const struct step retr_steps[] = {
	{ NULL, "+OK", LINE },
	{ "CAPA\r\n", "+OK", DOTTED },
	{ "USER load@isp.example\r\n", "+OK", LINE },
	{ "PASS Umeboshi-9Zq7-tea-house\r\n", "+OK", LINE },
	{ "STAT\r\n", "+OK", LINE },
	{ "RETR 1\r\n", "+OK", MESSAGE },
	{ "QUIT\r\n", "+OK", LINE },
	{ NULL, NULL, LINE }
};
static struct step smtp_steps[] = {
	{ NULL, "220", REPLY },
	{ "EHLO load.example\r\n", "250", REPLY },
	{ "MAIL FROM:<load@isp.example>\r\n", "250", REPLY },
	{ "RCPT TO:<info@alpha.example>\r\n", "250", REPLY },
	{ "DATA\r\n", "354", REPLY },
	{ NULL, "250", REPLY },	/* the message: filled in by main */
	{ "QUIT\r\n", "221", REPLY },
	{ NULL, NULL, LINE }
};
static const struct step imap_steps[] = {
	{ NULL, "* OK", LINE },
	{ "0 CAPABILITY\r\n", "0 OK", TAGGED },
	{ "a LOGIN load@isp.example Umeboshi-9Zq7-tea-house\r\n", "a OK",
		TAGGED },
	{ "b SELECT INBOX\r\n", "b OK", TAGGED },
	{ "c IDLE\r\n", "+ i", LINE },
	{ "DONE\r\n", "c OK", TAGGED },
	{ "d NOOP\r\n", "d OK", TAGGED },
	{ "e LOGOUT\r\n", "e OK", TAGGED },
	{ NULL, NULL, LINE }
};
/* hold and idle stop before this command of theirs. */
#define HOLD_BEFORE 5

struct session {
	int fd;
	unsigned step;
	bool first;		/* the next line begins the answer */
	bool held;
	char line[8];		/* what of a line must be looked at */
	size_t line_len;
	size_t at;		/* in the message */
	int64_t began;
};

static const struct step *steps;
static struct session *sessions;
static struct sockaddr_in target;
static unsigned total, started, done, lost, held;
static bool hold;
static uint8_t *message;
static size_t message_len;
static unsigned long long received, sent;
static int poller;
static char complaint[200];
static int32_t latency[LATENCIES];	/* microseconds */

static int64_t
now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void open_next(void);

static void
lose(struct session *s, const char *why)
{
	if (complaint[0] == '\0')
		snprintf(complaint, sizeof(complaint), "step %u: %s (%.6s)",
			s->step, why, s->line_len > 0 ? s->line : "");
	close(s->fd);
	s->fd = -1;
	lost++;
	if (!s->held)
		open_next();
}

static void
complete(struct session *s)
{
	close(s->fd);
	s->fd = -1;
	latency[done % LATENCIES] = (int32_t)(now_us() - s->began);
	done++;
	if (!s->held)
		open_next();
}

static void
command(struct session *s)
{
	const char *text = steps[s->step].command;
	size_t n = text == NULL ? 0 : strlen(text);

	s->first = true;
	s->at = 0;
	if (n == 0)
		return;
	if (send(s->fd, text, n, MSG_NOSIGNAL) != (ssize_t)n) {
		lose(s, "short send");
		return;
	}
	sent += n;
}

static void
advance(struct session *s)
{
	s->step++;
	if (steps[s->step].want == NULL)
		return;		/* only the end is left */
	if (hold && s->step == HOLD_BEFORE) {
		s->held = true;
		held++;
		open_next();
		return;
	}
	command(s);
}

/* A whole line, of which the first octets are in s->line. */
static void
on_line(struct session *s)
{
	const struct step *step = &steps[s->step];

	if (step->want == NULL) {
		lose(s, "words after the last reply");
		return;
	}
	if (step->answer == TAGGED && s->line[0] == '*')
		return;
	if (s->first || step->answer == REPLY) {
		if (strncmp(s->line, step->want, 3) != 0) {
			lose(s, "unexpected reply");
			return;
		}
	}
	if (step->answer == LINE || step->answer == TAGGED ||
	    (step->answer == REPLY && s->line[3] == ' ') ||
	    (step->answer != REPLY && !s->first &&
		strncmp(s->line, ".\r\n", 4) == 0))
		advance(s);
	else
		s->first = false;
}

/* Octets of the retrieved message; 0: the session is lost. */
static size_t
on_message(struct session *s, const uint8_t *p, size_t n)
{
	size_t left = message_len - s->at;
	size_t use = n < left ? n : left;

	if (memcmp(p, message + s->at, use) != 0) {
		lose(s, "octets of the message are wrong");
		return 0;
	}
	s->at += use;
	return use;
}

static void
take(struct session *s, const uint8_t *p, size_t n)
{
	received += n;
	while (n > 0 && s->fd != -1) {
		const uint8_t *end;
		size_t used;

		if (steps[s->step].answer == MESSAGE && !s->first &&
		    s->at < message_len) {
			used = on_message(s, p, n);
			p += used;
			n -= used;
			continue;
		}
		end = memchr(p, '\n', n);
		used = end == NULL ? n : (size_t)(end - p) + 1;
		for (size_t i = 0; i < used &&
		    s->line_len < sizeof(s->line) - 1; i++)
			s->line[s->line_len++] = (char)p[i];
		s->line[s->line_len] = '\0';
		p += used;
		n -= used;
		if (end == NULL)
			return;
		on_line(s);
		s->line_len = 0;
	}
}

static void
on_event(struct session *s)
{
	static uint8_t in[262144];

	while (s->fd != -1) {
		ssize_t n = recv(s->fd, in, sizeof(in), 0);

		if (n > 0) {
			take(s, in, (size_t)n);
			continue;
		}
		if (n == -1 && errno == EAGAIN)
			return;
		if (n == 0 && steps[s->step].want == NULL)
			complete(s);
		else
			lose(s, n == 0 ? "closed too early" : strerror(errno));
	}
}

static void
open_next(void)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET };
	struct session *s;
	int one = 1;

	if (started == total)
		return;
	s = &sessions[started++];
	s->began = now_us();
	s->first = true;
	s->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	ev.data.ptr = s;
	if (s->fd == -1 ||
	    setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) ==
		-1 ||
	    (connect(s->fd, (struct sockaddr *)&target, sizeof(target)) == -1 &&
		errno != EINPROGRESS) ||
	    epoll_ctl(poller, EPOLL_CTL_ADD, s->fd, &ev) == -1) {
		perror("loadgen: connect");
		exit(1);
	}
}

static void
release_held(void)
{
	char line[16];
	unsigned n = held;

	printf("{\"held\": %u, \"lost\": %u}\n", held, lost);
	fflush(stdout);
	(void)!read(0, line, sizeof(line));
	hold = false;
	held = 0;
	for (unsigned i = 0; i < started && n > 0; i++)
		if (sessions[i].held && sessions[i].fd != -1)
			command(&sessions[i]);
}

static int
compare(const void *a, const void *b)
{
	const int32_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static double
latency_ms(unsigned rank)
{
	return latency[rank] / 1e3;
}

static void
result(int64_t took)
{
	unsigned n = done < LATENCIES ? done : LATENCIES;

	qsort(latency, n, sizeof(latency[0]), compare);
	printf("{\"done\": %u, \"lost\": %u, \"received\": %llu, "
		"\"sent\": %llu, \"seconds\": %.3f, \"p50_ms\": %.2f, "
		"\"p99_ms\": %.2f, \"complaint\": \"%s\"}\n", done, lost,
		received, sent, (double)took / 1e6,
		n > 0 ? latency_ms(n / 2) : 0.0,
		n > 0 ? latency_ms(n - 1 - n / 100) : 0.0, complaint);
}

static void
run(void)
{
	struct epoll_event ev[256];

	while (done + lost < total) {
		int n;

		if (hold && held + lost == total)
			release_held();
		n = epoll_wait(poller, ev, 256, STALL_MS);
		if (n == 0) {
			lost += total - done - lost;
			if (complaint[0] == '\0')
				snprintf(complaint, sizeof(complaint),
					"nothing moved for %d ms", STALL_MS);
		}
		for (int i = 0; i < n; i++)
			on_event(ev[i].data.ptr);
	}
}

/* The steps of a kind, with the message in its place. NULL: no such kind. */
static const struct step *
choose(const char *kind, size_t octets)
{
	char *mail;

	hold = strcmp(kind, "hold") == 0 || strcmp(kind, "idle") == 0;
	if (hold)
		return kind[0] == 'h' ? pop3_steps : imap_steps;
	if (strcmp(kind, "pop3") == 0)
		return pop3_steps;
	message_len = octets;
	message = message_make(octets);
	mail = malloc(octets + 4);
	if (message == NULL || mail == NULL) {
		free(mail);
		return NULL;
	}
	memcpy(mail, message, octets);
	memcpy(mail + octets, ".\r\n", 4);
	smtp_steps[5].command = mail;
	if (strcmp(kind, "retr") == 0)
		return retr_steps;
	return strcmp(kind, "smtp") == 0 ? smtp_steps : NULL;
}

int
main(int argc, char **argv)
{
	struct rlimit limit;
	unsigned at_once;
	int64_t began;

	steps = argc == 7 ? choose(argv[1], strtoul(argv[6], NULL, 10)) : NULL;
	if (steps == NULL || inet_pton(AF_INET, argv[2],
		&target.sin_addr) != 1) {
		fprintf(stderr, "usage: loadgen pop3|retr|smtp|hold|idle "
			"ADDRESS PORT SESSIONS AT-ONCE MESSAGE-OCTETS\n");
		return 2;
	}
	target.sin_family = AF_INET;
	target.sin_port = htons((uint16_t)strtoul(argv[3], NULL, 10));
	total = (unsigned)strtoul(argv[4], NULL, 10);
	at_once = (unsigned)strtoul(argv[5], NULL, 10);
	sessions = calloc(total + 1, sizeof(*sessions));
	poller = epoll_create1(0);
	if (sessions == NULL || poller == -1)
		return 1;
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
	began = now_us();
	while (at_once-- > 0)
		open_next();
	run();
	result(now_us() - began);
	return lost > 0;
}
