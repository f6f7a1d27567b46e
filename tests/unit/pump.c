/*
 * pump.c - unit tests of proxyd/pump.c: one turn of a session
 *
 * A session made by hand, two socket pairs, a machine that copies or takes a
 * payload. What must hold when a turn is over: what could be moved is on its
 * way and nothing is left that no event would ever send; memory stays bounded
 * beside a slow reader; two fast peers do not keep the turn from ending.
 */
#include "proxyd/session.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

static struct relay relay;
static struct session session;
static int peer[2];

/* A payload that goes to the server, half of the sink's room at a time. */
static enum act
take_data(struct machine *m, const uint8_t *p, size_t n, size_t *used_r,
	struct sink out[2])
{
	(void)m;
	*used_r = n < SINK_SIZE / 2 ? n : SINK_SIZE / 2;
	sink_bytes(&out[SERVER], p, *used_r);
	return ACT_NONE;
}

static enum act
take_line(struct machine *m, enum side from, const struct line *l,
	struct sink out[2])
{
	(void)m;
	sink_bytes(&out[from == CLIENT ? SERVER : CLIENT], l->text, l->total);
	return ACT_NONE;
}

static void
farewell(struct machine *m, enum reason why, const char *detail,
	struct sink out[2])
{
	(void)detail;
	(void)out;
	m->reason = why;
}

static const struct machine_ops ops = { .kind = EVENT_WRAP,
	.line = take_line, .data = take_data, .farewell = farewell };

static void
on_event(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	chan_notice(arg, what);
}

static void
turn(void)
{
	assert_true(event_base_loop(relay.base, EVLOOP_NONBLOCK) >= 0);
}

static void
settle(void)
{
	chan_settle(&session.side[CLIENT]);
	chan_settle(&session.side[SERVER]);
}

static int
setup(void **state)
{
	struct session *s = &session;

	(void)state;
	memset(&relay, 0, sizeof(relay));
	memset(s, 0, sizeof(*s));
	relay.base = event_base_new();
	relay.scratch = calloc(1, sizeof(*relay.scratch));
	relay.sink[0] = malloc(SINK_SIZE);
	relay.sink[1] = malloc(SINK_SIZE);
	s->relay = &relay;
	s->phase = PHASE_TALK;
	s->kind = EVENT_WRAP;
	s->machine.ops = &ops;
	s->machine.expect[CLIENT] = s->machine.expect[SERVER] = EXPECT_RAW;
	for (int i = 0; i < 2; i++) {
		int fd[2], small = 8192;

		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0,
			fd) == -1)
			return -1;
		setsockopt(fd[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
		chan_init(&s->side[i], relay.scratch, i);
		if (chan_watch(&s->side[i], fd[0], relay.base, on_event,
			&s->side[i]) == -1)
			return -1;
		peer[i] = fd[1];
	}
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		chan_close(&session.side[i], false);
		close(peer[i]);
		free(relay.sink[i]);
	}
	event_base_free(relay.base);
	free(relay.scratch);
	return 0;
}

static size_t
drain(int fd)
{
	static uint8_t bin[SCRATCH];
	size_t all = 0;
	ssize_t n;

	while ((n = recv(fd, bin, sizeof(bin), MSG_DONTWAIT)) > 0)
		all += (size_t)n;
	return all;
}

static size_t
pour(int fd, size_t want)
{
	static const uint8_t zeros[4096];
	size_t done = 0;

	while (done < want) {
		size_t n = want - done < sizeof(zeros) ? want - done :
			sizeof(zeros);
		ssize_t sent = send(fd, zeros, n, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (sent <= 0)
			break;
		done += (size_t)sent;
	}
	return done;
}

/* The bug: a turn flushed, moved what the flush had made room for, and left
 * that in the scratch until something else should happen. */
static void
nothing_is_left_behind(void **state)
{
	size_t sent = 0, got = 0;

	(void)state;
	while (chan_pending(&session.side[CLIENT]) < CHAN_HIGH) {
		sent += pour(peer[SERVER], 5000);
		turn();
		(void)pump_run(&session);
		settle();
	}
	/* Waits in the kernel while the client is slow. */
	sent += pour(peer[SERVER], 3000);
	turn();
	(void)pump_run(&session);
	settle();
	for (int idle = 0; idle < 3; idle++) {
		size_t n = drain(peer[CLIENT]);

		got += n;
		idle = n > 0 ? -1 : idle;
		turn();
		(void)pump_run(&session);
		settle();
		assert_int_equal(relay.scratch->gathered, 0);
	}
	assert_int_equal(got, sent);
}

/* The bug: each turn read another 64 KB and took only half of that. */
static void
payload_beside_a_slow_server(void **state)
{
	size_t sent = 0, got = 0;
	uint8_t some[6000];

	(void)state;
	session.machine.expect[CLIENT] = EXPECT_DATA;
	session.machine.expect[SERVER] = EXPECT_NONE;
	while (sent < 4u << 20) {
		ssize_t n;

		sent += pour(peer[CLIENT], 200000);
		turn();
		(void)pump_run(&session);
		settle();
		assert_false(session.side[CLIENT].reset);
		assert_true(session.side[CLIENT].view_len <= 2 * SCRATCH);
		n = recv(peer[SERVER], some, sizeof(some), MSG_DONTWAIT);
		got += n > 0 ? (size_t)n : 0;
	}
	for (int idle = 0; idle < 3; idle++) {
		size_t n = drain(peer[SERVER]);

		got += n;
		idle = n > 0 ? -1 : idle;
		turn();
		(void)pump_run(&session);
		settle();
	}
	assert_int_equal(got, sent);
}

/* Lines are left when the peer has ended and the other side is slow: they are
 * not the rest of a line that will never come. */
static void
end_behind_lines_that_wait(void **state)
{
	size_t sent = 0, got = 0;
	char line[1000];

	(void)state;
	session.machine.expect[CLIENT] = EXPECT_NONE;
	session.machine.expect[SERVER] = EXPECT_LINE;
	memset(line, 'x', sizeof(line));
	line[998] = '\r';
	line[999] = '\n';
	while (send(peer[SERVER], line, sizeof(line), MSG_NOSIGNAL) ==
		(ssize_t)sizeof(line)) {
		sent += sizeof(line);
		if (chan_pending(&session.side[CLIENT]) >= CHAN_HIGH)
			continue;
		turn();
		(void)pump_run(&session);
		settle();
	}
	shutdown(peer[SERVER], SHUT_WR);
	for (int idle = 0; idle < 3; idle++) {
		/* In bites: room for a few lines at a time. */
		ssize_t n = recv(peer[CLIENT], line, sizeof(line), MSG_DONTWAIT);

		got += n > 0 ? (size_t)n : 0;
		idle = n > 0 ? -1 : idle;
		turn();
		(void)pump_run(&session);
		settle();
	}
	assert_int_equal(got, sent);
	assert_int_equal(session.reason, REASON_SERVER_EOF);
}

/* A server that drips its reply line by line has one limit for all of it. */
static void
a_line_of_a_reply_extends_nothing(void **state)
{
	(void)state;
	session.machine.expect[CLIENT] = EXPECT_NONE;
	session.machine.expect[SERVER] = EXPECT_LINE;
	assert_int_equal(send(peer[SERVER], "250-a\r\n", 7, 0), 7);
	turn();
	(void)pump_run(&session);
	assert_int_equal(session.side[CLIENT].sent, 7);
	assert_false(session.moved);
	/* The reply is over: the client's turn. */
	session.machine.expect[CLIENT] = EXPECT_LINE;
	assert_int_equal(send(peer[SERVER], "250 b\r\n", 7, 0), 7);
	turn();
	(void)pump_run(&session);
	assert_int_equal(session.side[CLIENT].sent, 14);
	assert_true(session.moved);
}

/* Each time octets pass: there are more of them, and there is room. */
static void
at_once(struct machine *m, enum side from, const uint8_t *p, size_t n)
{
	(void)m;
	(void)from;
	(void)p;
	(void)n;
	(void)pour(peer[CLIENT], SCRATCH);
	(void)drain(peer[SERVER]);
}

/* The bug: two fast peers kept the turn from ending. */
static void
turns_end(void **state)
{
	static const struct machine_ops fast = { .kind = EVENT_RELAY,
		.farewell = farewell, .watch = at_once };

	int large = 200000;

	(void)state;
	session.kind = EVENT_RELAY;
	session.machine.ops = &fast;
	setsockopt(session.side[SERVER].fd, SOL_SOCKET, SO_SNDBUF, &large,
		sizeof(large));
	assert_true(pour(peer[CLIENT], SCRATCH) > 0);
	turn();
	for (int i = 1; i < 4; i++) {
		assert_true(pump_run(&session));
		settle();
		assert_true(session.side[CLIENT].received <=
			(uint64_t)i * 16 * SCRATCH);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(nothing_is_left_behind, setup,
			teardown),
		cmocka_unit_test_setup_teardown(payload_beside_a_slow_server,
			setup, teardown),
		cmocka_unit_test_setup_teardown(end_behind_lines_that_wait,
			setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_line_of_a_reply_extends_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(turns_end, setup, teardown),
	};

	return cmocka_run_group_tests_name("pump", tests, NULL, NULL);
}
