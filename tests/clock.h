/*
 * clock.h - a whole session from accept to its event, under a clock of the test
 *
 * relay_now() is a variable here, and the session's timer is made to fire after
 * time has passed, as the loop would. What relay.c, upstream.c and offer.c do
 * for a session is done here: its server is the other end of a socket pair, or
 * is never reached. For one program each: it defines their functions.
 */
#ifndef SALLYPORT_TESTS_CLOCK_H
#define SALLYPORT_TESTS_CLOCK_H

#include "proxyd/session.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "conf/lpm.h"
#include "proxyd/lines.h"

static int64_t now;		/* ms */
static struct report last;	/* event */
static unsigned reports;
static int server_fd = -1, client_fd = -1, hung_fd = -1;
/* What becomes of a dial: a connection, one that never comes to be, no socket. */
static enum { DIAL_GOES, DIAL_HANGS, DIAL_NO_SOCKET } dial_how;
static struct relay relay;
static struct addr origin;
static struct server_conf server = {
	.name = (char[]){ "mail" }, .addresses = &origin, .naddresses = 1,
};
static struct conf conf = { .servers = &server, .nservers = 1,
	.imap_wrap = WRAP_LISTED, .pop3_wrap = WRAP_LISTED, .max_per_line = 5,
	.name = (char[]){ "gw1" } };

/* ---- in the place of relay.c, upstream.c and offer.c ---- */

int64_t
relay_now(void)
{
	return now;
}

uint64_t
relay_event_id(struct relay *r)
{
	return ++r->sequence;
}

void
relay_event(struct relay *r, const struct report *e)
{
	(void)r;
	last = *e;
	reports++;
}

int
upstream_find(const struct upstream *u, const struct addr *a)
{
	(void)u;
	(void)a;
	return 0;
}

bool
upstream_host(const struct upstream *u, int index, uint8_t family,
	unsigned spread, unsigned nth, struct addr *host_r)
{
	(void)u;
	(void)index;
	(void)family;
	(void)spread;
	(void)nth;
	(void)host_r;
	return false;
}

bool
upstream_is_own(const struct upstream *u, const struct addr *a)
{
	(void)u;
	(void)a;
	return false;
}

const char *
upstream_allowed(const struct upstream *u, const struct addr *to)
{
	(void)u;
	(void)to;
	return NULL;
}

enum dial
upstream_dial(struct upstream *u, const struct addr *to, const struct addr *line,
	int index, struct upstream_waiter *w, int *fd_r)
{
	int fd[2];

	(void)u;
	(void)to;
	(void)line;
	(void)index;
	(void)w;
	if (dial_how == DIAL_NO_SOCKET)
		return DIAL_WAIT;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd) == -1)
		return DIAL_FAILED;
	*fd_r = fd[0];
	if (dial_how == DIAL_HANGS) {
		/* full, and so never writable: as if no SYN were answered */
		while (write(fd[0], "", 1) == 1)
			;
		hung_fd = fd[1];
		return DIAL_STARTED;
	}
	if (server_fd != -1)
		close(server_fd);
	server_fd = fd[1];
	return DIAL_STARTED;
}

enum dial
upstream_dial_inner(struct upstream *u, const struct publish_conf *p,
	const struct addr *to, struct upstream_waiter *w, int *fd_r)
{
	(void)p;
	return upstream_dial(u, to, NULL, -1, w, fd_r);
}

void
upstream_forget(struct upstream *u, struct upstream_waiter *w)
{
	(void)u;
	(void)w;
}

enum offer
offers_ask(struct offers *o, const struct addr *to, const struct addr *line,
	struct offer_waiter *w)
{
	(void)o;
	(void)to;
	(void)line;
	(void)w;
	return OFFER_NONE;
}

void
offers_forget(struct offer_waiter *w)
{
	(void)w;
}

/* ---- the test's own ---- */

static inline void
turn(void)
{
	for (int i = 0; i < 4; i++)
		assert_true(event_base_loop(relay.base, EVLOOP_NONBLOCK) >= 0);
}

/* Time goes on; at its end the session looks at it. */
static inline void
pass(int64_t seconds)
{
	struct session *s = TAILQ_FIRST(&relay.sessions);

	now += seconds * 1000;
	if (s != NULL)
		event_active(&s->timer, EV_TIMEOUT, 0);
	turn();
}

static inline void
say(int fd, const char *text)
{
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	turn();
}

static inline void
hear(int fd, const char *text)
{
	char got[512];
	ssize_t n = read(fd, got, sizeof(got) - 1);

	got[n > 0 ? n : 0] = '\0';
	assert_string_equal(got, text);
}

static inline bool
is_alive(void)
{
	return TAILQ_FIRST(&relay.sessions) != NULL;
}

/* A client dials port; what its server does is the test's. */
static inline void
dialled(uint16_t port)
{
	struct addr src;
	int fd[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd),
		0);
	client_fd = fd[1];
	assert_int_equal(addr_parse(&src, "198.18.3.7:40000"), 0);
	assert_int_equal(addr_parse(&origin, "203.0.113.80"), 0);
	origin.port = port;
	session_open(&relay, fd[0], &src, &origin, NULL);
	turn();
}

static inline int
setup(void **state)
{
	(void)state;
	memset(&relay, 0, sizeof(relay));
	conf.class_lpm = lpm_new();
	conf.allow_lpm = lpm_new();
	relay.conf = &conf;
	relay.base = event_base_new();
	relay.lines = lines_new();
	relay.scratch = calloc(1, sizeof(*relay.scratch));
	relay.sink[0] = malloc(SINK_SIZE);
	relay.sink[1] = malloc(SINK_SIZE);
	TAILQ_INIT(&relay.sessions);
	now = 1000000;
	reports = 0;
	return 0;
}

static inline int
teardown(void **state)
{
	(void)state;
	if (client_fd != -1)
		close(client_fd);
	if (server_fd != -1)
		close(server_fd);
	if (hung_fd != -1)
		close(hung_fd);
	client_fd = server_fd = hung_fd = -1;
	event_base_free(relay.base);
	lines_free(&relay.lines);
	lpm_free(&conf.class_lpm);
	lpm_free(&conf.allow_lpm);
	free(relay.scratch);
	free(relay.sink[0]);
	free(relay.sink[1]);
	return 0;
}

#endif
