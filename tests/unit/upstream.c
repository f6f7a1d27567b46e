/*
 * upstream.c - unit tests of proxyd/upstream.c
 *
 * Snapshots (an unfinished one counts for nothing, a broken one harms
 * nothing), where nobody may be connected to, and the pool of sockets with
 * those who wait for one. Connections themselves are the lab's.
 */
#include "proxyd/upstream.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "conf/conf.h"
#include "proxyd/msg.h"

#define N(a) (sizeof(a) / sizeof((a)[0]))

static struct server_conf servers[2];
static struct prefix never;
static unsigned asked[2];

static bool is_parent_deaf;

static bool
need(void *arg, unsigned family)
{
	(void)arg;
	asked[family == 6]++;
	return !is_parent_deaf;
}

static struct upstream *
make(void)
{
	static struct conf conf;
	struct upstream *u;
	const char *why;

	assert_int_equal(prefix_parse(&never, "192.0.2.0/25", &why), 0);
	memset(&conf, 0, sizeof(conf));
	conf.servers = servers;
	conf.nservers = N(servers);
	conf.never = &never;
	conf.nnever = 1;
	conf.port_lo = 10240;
	conf.port_hi = 32767;
	asked[0] = asked[1] = 0;
	u = upstream_new(&conf, need, NULL);
	assert_non_null(u);
	return u;
}

static struct addr
address(const char *text)
{
	struct addr a;

	assert_int_equal(addr_parse(&a, text), 0);
	return a;
}

static void
server(struct upstream *u, uint32_t op, uint32_t index, const char *text)
{
	struct server_addr a = { op, index, { 0 } };

	if (text != NULL)
		a.addr = address(text);
	upstream_server(u, &a);
}

static int
find(struct upstream *u, const char *text)
{
	struct addr a = address(text);

	return upstream_find(u, &a);
}

static void
snapshots(void **state)
{
	struct upstream *u = make();

	(void)state;
	assert_int_equal(find(u, "203.0.113.1:25"), -1);
	server(u, SNAPSHOT_ADD, 0, "203.0.113.1");	/* without FIRST */
	server(u, SNAPSHOT_LAST, 0, NULL);
	assert_int_equal(find(u, "203.0.113.1:25"), -1);
	server(u, SNAPSHOT_FIRST, 0, NULL);
	server(u, SNAPSHOT_ADD, 0, "203.0.113.1");
	server(u, SNAPSHOT_ADD, 1, "2001:db8::1");
	server(u, SNAPSHOT_ADD, 2, "203.0.113.3");	/* no such server */
	server(u, SNAPSHOT_ADD, 1, "203.0.113.1");	/* the first wins */
	server(u, SNAPSHOT_ADD, 0, NULL);		/* no address */
	server(u, 77, 0, "203.0.113.7");
	assert_int_equal(find(u, "203.0.113.1:25"), -1);
	server(u, SNAPSHOT_LAST, 0, NULL);
	assert_int_equal(find(u, "203.0.113.1:25"), 0);
	assert_int_equal(find(u, "203.0.113.1:110"), 0);
	assert_int_equal(find(u, "[2001:db8::1]:25"), 1);
	assert_int_equal(find(u, "203.0.113.3"), -1);
	assert_int_equal(find(u, "203.0.113.7"), -1);
	/* The next one replaces it, but only when it is whole. */
	server(u, SNAPSHOT_FIRST, 0, NULL);
	server(u, SNAPSHOT_ADD, 1, "203.0.113.9");
	assert_int_equal(find(u, "203.0.113.1"), 0);
	assert_int_equal(find(u, "203.0.113.9"), -1);
	server(u, SNAPSHOT_FIRST, 0, NULL);
	server(u, SNAPSHOT_ADD, 0, "203.0.113.8");
	server(u, SNAPSHOT_LAST, 0, NULL);
	assert_int_equal(find(u, "203.0.113.1"), -1);
	assert_int_equal(find(u, "203.0.113.9"), -1);
	assert_int_equal(find(u, "203.0.113.8"), 0);
	upstream_free(&u);
	assert_null(u);
	upstream_free(&u);
}

/* The nth choice of a line of family, or "none". */
static const char *
choice(struct upstream *u, int index, uint8_t family, unsigned spread,
	unsigned nth)
{
	static char text[ADDR_STRLEN];
	struct addr a;

	return upstream_host(u, index, family, spread, nth, &a) ?
		addr_format(&a, text) : "none";
}

/* Addresses of a submission_host: dialled by us, never known as an origin. */
static void
hosts(void **state)
{
	static const struct {
		const char *name;
		enum server_source source;
		int index;
		uint8_t family;
		unsigned spread, nth;
		const char *want;
	} rows[] = {
		{ "first", FROM_CLIENT, 1, AF_INET, 0, 0, "203.0.113.1" },
		{ "second", FROM_CLIENT, 1, AF_INET, 0, 1, "203.0.113.2" },
		{ "no third", FROM_CLIENT, 1, AF_INET, 0, 2, "none" },
		{ "spread", FROM_CLIENT, 1, AF_INET, 5, 0, "203.0.113.2" },
		{ "and the other", FROM_CLIENT, 1, AF_INET, 5, 1,
			"203.0.113.1" },
		{ "large spread", FROM_CLIENT, 1, AF_INET, UINT32_MAX, 1,
			"203.0.113.1" },
		{ "six", FROM_CLIENT, 1, AF_INET6, 3, 0, "2001:db8::1" },
		{ "only its own family", FROM_CLIENT, 1, AF_INET6, 0, 1,
			"none" },
		{ "its own first", FROM_GATEWAY, 1, AF_INET6, 0, 0,
			"2001:db8::1" },
		{ "then the other", FROM_GATEWAY, 1, AF_INET6, 0, 1,
			"203.0.113.1" },
		{ "to the last", FROM_GATEWAY, 1, AF_INET6, 0, 2,
			"203.0.113.2" },
		{ "none left", FROM_GATEWAY, 1, AF_INET6, 0, 3, "none" },
		{ "without a host", FROM_GATEWAY, 0, AF_INET, 0, 0, "none" },
		{ "not listed", FROM_GATEWAY, -1, AF_INET, 0, 0, "none" },
		{ "no such server", FROM_GATEWAY, N(servers), AF_INET, 0, 0,
			"none" },
	};
	struct upstream *u = make();

	(void)state;
	assert_string_equal(choice(u, 1, AF_INET, 0, 0), "none");
	server(u, SNAPSHOT_ADD, N(servers) + 1, "203.0.113.7"); /* no FIRST */
	server(u, SNAPSHOT_FIRST, 0, NULL);
	server(u, SNAPSHOT_ADD, 0, "198.51.100.1");
	server(u, SNAPSHOT_ADD, N(servers) + 1, "203.0.113.1");
	server(u, SNAPSHOT_ADD, N(servers) + 1, "2001:db8::1");
	server(u, SNAPSHOT_ADD, N(servers) + 1, "203.0.113.2");
	server(u, SNAPSHOT_ADD, N(servers) + 1, NULL);	/* no address */
	server(u, SNAPSHOT_ADD, 2 * N(servers), "203.0.113.3");
	assert_string_equal(choice(u, 1, AF_INET, 0, 0), "none");
	server(u, SNAPSHOT_LAST, 0, NULL);
	assert_int_equal(find(u, "203.0.113.1:25"), -1);
	assert_int_equal(find(u, "198.51.100.1:25"), 0);
	for (size_t i = 0; i < N(rows); i++) {
		servers[1].source = rows[i].source;
		if (strcmp(choice(u, rows[i].index, rows[i].family,
			rows[i].spread, rows[i].nth), rows[i].want) != 0)
			fail_msg("%s: %s", rows[i].name, choice(u,
				rows[i].index, rows[i].family, rows[i].spread,
				rows[i].nth));
	}
	servers[1].source = FROM_DEFAULT;
	/* The next snapshot replaces them. */
	server(u, SNAPSHOT_FIRST, 0, NULL);
	server(u, SNAPSHOT_LAST, 0, NULL);
	assert_string_equal(choice(u, 1, AF_INET, 0, 0), "none");
	upstream_free(&u);
}

static void
allowed(void **state)
{
	static const struct {
		const char *to, *why;
	} rows[] = {
		{ "203.0.113.1:465", NULL }, { "192.0.2.128:465", NULL },
		{ "[2001:db8::1]:465", NULL }, { "192.0.2.127:465", "never" },
		{ "203.0.113.254:465", "own" }, { "[2001:db8::fe]:465", "own" },
		{ "127.0.0.1:465", "loopback" }, { "[::1]:465", "loopback" },
		{ "10.1.2.3:465", "private" }, { "172.16.0.1", "private" },
		{ "192.168.1.1", "private" }, { "100.64.0.1", "private" },
		{ "169.254.1.1", "link-local" }, { "fe80::1", "link-local" },
		{ "fd00::1", "private" }, { "224.0.0.1", "multicast" },
		{ "ff02::1", "multicast" }, { "0.0.0.0", "unspecified" },
		{ "255.255.255.255", "reserved" }, { "240.0.0.1", "reserved" },
		{ "::", "unspecified" },
		{ "[64:ff9b::203.0.113.1]:465", NULL },
		{ "[64:ff9b::192.0.2.127]:465", "never" },
		{ "[64:ff9b::203.0.113.254]:465", "own" },
		{ "[64:ff9b::10.1.2.3]:465", "nat64" },
		{ "[2002:c000:027f::1]:465", "never" },
	};
	static const char *const own[] = { "203.0.113.254", "2001:db8::fe" };
	struct upstream *u = make();
	struct msg m = { .type = MSG_OWN, .n = SNAPSHOT_FIRST };

	(void)state;
	upstream_own(u, &m);
	for (size_t i = 0; i < N(own); i++) {
		m.n = SNAPSHOT_ADD;
		m.addr = address(own[i]);
		upstream_own(u, &m);
	}
	m.n = SNAPSHOT_LAST;
	upstream_own(u, &m);
	for (size_t i = 0; i < N(rows); i++) {
		struct addr to = address(rows[i].to);
		struct addr line = address(to.family == AF_INET ?
			"198.18.3.7" : "2001:db8:1::7");
		struct upstream_waiter w = { .wake = NULL };
		const char *why = upstream_allowed(u, &to);
		int fd;

		if (rows[i].why == NULL ? why != NULL : why == NULL ||
			strcmp(why, rows[i].why) != 0)
			fail_msg("%s: %s", rows[i].to, why);
		/* The pool is empty: allowed ones wait, others never do. */
		assert_int_equal(upstream_dial(u, &to, &line, -1, &w, &fd),
			why == NULL ? DIAL_WAIT : DIAL_FORBIDDEN);
		assert_int_equal(w.waiting, why == NULL);
		upstream_forget(u, &w);
		assert_false(w.waiting);
	}
	assert_int_equal(asked[0], 1);
	assert_int_equal(asked[1], 1);
	upstream_free(&u);
}

/* For a published session exactly the server behind, and for no other. */
static void
behind(void **state)
{
	static const struct {
		const char *to;
		bool allowed;
	} rows[] = {
		{ "127.0.0.1:110", true }, { "127.0.0.1:143", true },
		{ "127.0.0.1:10587", true }, { "127.0.0.1:25", false },
		{ "127.0.0.1:22", false }, { "127.0.0.2:110", false },
		{ "10.0.0.1:110", false }, { "203.0.113.1:110", false },
		{ "[::1]:110", false },
	};
	struct publish_conf p = { .port_to = { 110, 143, 10587 } };
	struct upstream *u = make();
	struct addr line = address("198.18.3.7");

	(void)state;
	p.to = address("127.0.0.1");
	for (size_t i = 0; i < N(rows); i++) {
		struct addr to = address(rows[i].to);
		struct upstream_waiter w = { .waiting = false };
		int fd;

		assert_int_equal(upstream_dial_inner(u, &p, &to, &w, &fd),
			rows[i].allowed ? DIAL_WAIT : DIAL_FORBIDDEN);
		upstream_forget(u, &w);
		if (rows[i].allowed)
			assert_int_equal(upstream_dial(u, &to, &line, -1, &w,
				&fd), DIAL_FORBIDDEN);
	}
	upstream_free(&u);
}

static unsigned woken;

/* Takes a socket, as a session that dials does. */
static void
wake_and_take(struct upstream_waiter *w)
{
	(void)w;
	woken++;
}

static int
open_fd(void)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	assert_true(fd != -1);
	return fd;
}

static void
waiters(void **state)
{
	struct upstream *u = make();
	struct addr to = address("203.0.113.1:465");
	struct addr line = address("198.18.3.7");
	struct upstream_waiter w[3] = { { .wake = wake_and_take },
		{ .wake = wake_and_take }, { .wake = wake_and_take } };
	int fds[2], fd;

	(void)state;
	woken = 0;
	/* A parent that could not be asked is asked again by the next dial. */
	is_parent_deaf = true;
	assert_int_equal(upstream_dial(u, &to, &line, -1, &w[0], &fd), DIAL_WAIT);
	upstream_forget(u, &w[0]);
	assert_int_equal(asked[0], 1);
	is_parent_deaf = false;
	asked[0] = 0;
	for (size_t i = 0; i < N(w); i++)
		assert_int_equal(upstream_dial(u, &to, &line, -1, &w[i], &fd),
			DIAL_WAIT);
	assert_int_equal(asked[0], 1);	/* once, not once for each */
	upstream_forget(u, &w[1]);
	upstream_forget(u, &w[1]);
	fds[0] = open_fd();
	upstream_sockets(u, 6, fds, 1);	/* the other family wakes nobody */
	assert_int_equal(woken, 0);
	fds[0] = open_fd();
	fds[1] = open_fd();
	upstream_sockets(u, 4, fds, 2);
	assert_int_equal(woken, 2);
	assert_false(w[0].waiting || w[1].waiting || w[2].waiting);
	/* What is left is spare, then there is none; the pool is bounded. */
	for (int i = 0; i < 3; i++) {
		fd = upstream_spare(u);
		assert_true(fd != -1);
		close(fd);
	}
	assert_int_equal(upstream_spare(u), -1);
	for (int i = 0; i < 3 * SOCKET_BATCH; i++) {
		fd = open_fd();
		upstream_sockets(u, 4, &fd, 1);
	}
	assert_int_equal(fcntl(fd, F_GETFD), -1);	/* too many: closed */
	for (int i = 0; i < 2 * SOCKET_BATCH; i++) {
		fd = upstream_spare(u);
		assert_true(fd != -1);
		close(fd);
	}
	assert_int_equal(upstream_spare(u), -1);
	upstream_free(&u);
}

/* A socket that cannot be bound is no connection, and says why. */
static void
no_bind(void **state)
{
	struct upstream *u = make();
	struct addr to = address("203.0.113.1:465");
	struct addr line = address("198.18.3.7");
	struct upstream_waiter w = { .wake = wake_and_take };
	int fd = open_fd();

	(void)state;
	upstream_sockets(u, 4, &fd, 1);
	assert_int_equal(upstream_dial(u, &to, &line, -1, &w, &fd), DIAL_FAILED);
	assert_int_equal(errno, ENOTSOCK);
	assert_false(w.waiting);
	upstream_free(&u);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(snapshots),
		cmocka_unit_test(hosts),
		cmocka_unit_test(allowed),
		cmocka_unit_test(behind),
		cmocka_unit_test(waiters),
		cmocka_unit_test(no_bind),
	};

	return cmocka_run_group_tests_name("upstream", tests, NULL, NULL);
}
