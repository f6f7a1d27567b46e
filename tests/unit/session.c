/*
 * session.c - unit tests of proxyd/session.c: a session's time
 *
 * A whole session from accept to its event, with the clock in the test's hands:
 * relay_now() is a variable here, and the session's timer is made to fire after
 * each simulated minute, as the loop would. The server is a socket pair, reached
 * by a dial of the test's own (`plain:', so that no TLS is in the way).
 */
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
static int server_fd, client_fd;
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
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd) == -1)
		return DIAL_FAILED;
	server_fd = fd[1];
	*fd_r = fd[0];
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

static void
turn(void)
{
	for (int i = 0; i < 4; i++)
		assert_true(event_base_loop(relay.base, EVLOOP_NONBLOCK) >= 0);
}

/* Time goes on; at its end the session looks at it. */
static void
pass(int64_t seconds)
{
	struct session *s = TAILQ_FIRST(&relay.sessions);

	now += seconds * 1000;
	if (s != NULL)
		event_active(&s->timer, EV_TIMEOUT, 0);
	turn();
}

static void
say(int fd, const char *text)
{
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	turn();
}

static void
hear(int fd, const char *text)
{
	char got[512];
	ssize_t n = read(fd, got, sizeof(got) - 1);

	got[n > 0 ? n : 0] = '\0';
	assert_string_equal(got, text);
}

static bool
is_alive(void)
{
	return TAILQ_FIRST(&relay.sessions) != NULL;
}

static int
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

static int
teardown(void **state)
{
	(void)state;
	close(client_fd);
	close(server_fd);
	event_base_free(relay.base);
	lines_free(&relay.lines);
	lpm_free(&conf.class_lpm);
	lpm_free(&conf.allow_lpm);
	free(relay.scratch);
	free(relay.sink[0]);
	free(relay.sink[1]);
	return 0;
}

/* A client that dialled port, and a server that has not spoken yet. */
static void
begin(uint16_t port)
{
	struct addr src;
	int fd[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd),
		0);
	client_fd = fd[1];
	assert_int_equal(addr_parse(&src, "198.18.3.7:40000"), 0);
	assert_int_equal(addr_parse(&origin, "203.0.113.80"), 0);
	origin.port = port;
	server.pop3 = (struct endpoint){ TLS_PLAIN, 1110 };
	server.imap = (struct endpoint){ TLS_PLAIN, 1143 };
	session_open(&relay, fd[0], &src, &origin, NULL);
	turn();
}

/* IDLE: programs renew it after 29 minutes (RFC 2177), servers end it after 30;
 * with neither, we do, later. */
static void
idle_for_half_an_hour(void **state)
{
	(void)state;
	begin(143);
	say(server_fd, "* OK [CAPABILITY IMAP4rev1] hi\r\n");
	hear(client_fd, "* OK [CAPABILITY IMAP4rev1] hi\r\n");
	say(client_fd, "a LOGIN k s\r\n");
	hear(server_fd, "a LOGIN k s\r\n");
	say(server_fd, "a OK in\r\n");
	hear(client_fd, "a OK in\r\n");
	for (int round = 0; round < 3; round++) {
		say(client_fd, "b IDLE\r\n");
		hear(server_fd, "b IDLE\r\n");
		say(server_fd, "+ idling\r\n");
		hear(client_fd, "+ idling\r\n");
		for (int minute = 0; minute < 29; minute++) {
			pass(60);
			assert_true(is_alive());
		}
		say(client_fd, "DONE\r\n");
		hear(server_fd, "DONE\r\n");
	}
	for (int minute = 0; minute < 34; minute++) {
		pass(60);
		assert_true(is_alive());
	}
	assert_int_equal(reports, 0);
	pass(60);
	pass(10);
	assert_false(is_alive());
	assert_int_equal(reports, 1);
	assert_int_equal(last.reason, REASON_CLIENT_TIMEOUT);
	assert_int_equal(last.kind, EVENT_WRAP);
}

/* RFC 1939 section 3: ten minutes. */
static void
pop3_for_ten_minutes(void **state)
{
	(void)state;
	begin(110);
	say(server_fd, "+OK hi\r\n");
	hear(client_fd, "+OK hi\r\n");
	say(client_fd, "PASS x\r\n");
	hear(server_fd, "PASS x\r\n");
	say(server_fd, "+OK\r\n");
	hear(client_fd, "+OK\r\n");
	for (int minute = 0; minute < 9; minute++)
		pass(60);
	pass(59);
	assert_true(is_alive());
	pass(2);
	pass(10);
	assert_false(is_alive());
	assert_int_equal(last.reason, REASON_CLIENT_TIMEOUT);
}

/* A server that never greets: our answer within 25 seconds of the accept. */
static void
greeting_in_time(void **state)
{
	(void)state;
	begin(143);
	pass(24);
	assert_true(is_alive());
	hear(client_fd, "");
	pass(2);
	char got[64];
	assert_true(read(client_fd, got, sizeof(got)) > 20);
	assert_memory_equal(got, "* BYE [UNAVAILABLE] ", 20);
	pass(10);
	assert_false(is_alive());
	assert_int_equal(last.reason, REASON_SERVER_TIMEOUT);
}

/* The login waits for the server, not for ever: NO, and the password stays. */
static void
login_in_time(void **state)
{
	(void)state;
	begin(143);
	say(server_fd, "* OK [X] hi\r\n");
	hear(client_fd, "* OK [X] hi\r\n");
	say(client_fd, "a LOGIN k s\r\n");
	hear(server_fd, "a LOGIN k s\r\n");
	pass(299);
	assert_true(is_alive());
	pass(2);
	char got[64];
	assert_true(read(client_fd, got, sizeof(got)) > 20);
	assert_memory_equal(got, "a NO [UNAVAILABLE] ", 19);
	pass(10);
	assert_false(is_alive());
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(idle_for_half_an_hour, setup,
			teardown),
		cmocka_unit_test_setup_teardown(pop3_for_ten_minutes, setup,
			teardown),
		cmocka_unit_test_setup_teardown(greeting_in_time, setup,
			teardown),
		cmocka_unit_test_setup_teardown(login_in_time, setup, teardown),
	};

	return cmocka_run_group_tests_name("session", tests, NULL, NULL);
}
