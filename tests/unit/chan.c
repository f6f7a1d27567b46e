/*
 * chan.c - tests of proxyd/chan.c: octets keep their order and none is lost
 *
 * A chan on one end of a socket pair, the test on the other. Writes of every
 * size around the gathering limits, two chans that take turns on one scratch,
 * a peer that reads late, an EOF and a reset behind the last octets.
 */
#include <fcntl.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "proxyd/chan.h"

struct pair {
	struct event_base *base;
	struct scratch *scratch;
	struct chan chan[2];
	int peer[2];
};

static void
nothing(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
}

static int
setup(void **state)
{
	struct pair *p = calloc(1, sizeof(*p));

	assert_non_null(p);
	p->base = event_base_new();
	p->scratch = calloc(1, sizeof(*p->scratch));
	for (int i = 0; i < 2; i++) {
		int fd[2];

		assert_int_equal(0, socketpair(AF_UNIX, SOCK_STREAM |
			SOCK_NONBLOCK, 0, fd));
		p->peer[i] = fd[1];
		chan_init(&p->chan[i], p->scratch, i);
		assert_int_equal(0, chan_watch(&p->chan[i], fd[0], p->base,
			nothing, NULL));
	}
	*state = p;
	return 0;
}

static int
teardown(void **state)
{
	struct pair *p = *state;

	for (int i = 0; i < 2; i++) {
		chan_close(&p->chan[i], false);
		close(p->peer[i]);
	}
	event_base_free(p->base);
	free(p->scratch);
	free(p);
	return 0;
}

/* Octet number n of the stream of side i. */
static uint8_t
octet(int i, size_t n)
{
	return (uint8_t)((n * 31 + (n >> 8) * 7 + (size_t)i * 101) & 0xff);
}

static void
write_next(struct chan *c, int i, size_t *at, size_t n)
{
	uint8_t *p = malloc(n);

	assert_non_null(p);
	for (size_t k = 0; k < n; k++)
		p[k] = octet(i, *at + k);
	assert_int_equal(0, chan_write(c, p, n));
	free(p);
	*at += n;
}

/* Read what is there on the peer's end and compare. */
static void
read_some(int fd, int i, size_t *at)
{
	uint8_t p[8192];
	ssize_t n;

	while ((n = read(fd, p, sizeof(p))) > 0) {
		for (ssize_t k = 0; k < n; k++)
			assert_int_equal(octet(i, *at + (size_t)k), p[k]);
		*at += (size_t)n;
	}
}

/* The bug: a large write overtook small ones that were still gathered. */
static void
writes_keep_their_order(void **state)
{
	static const size_t sizes[] = { 1, 20000, 40000, 3, 32768, 32769, 65536,
		10, 5, 65000, 600, 33000, 1 };
	struct pair *p = *state;
	size_t sent[2] = { 0, 0 }, got[2] = { 0, 0 };

	for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
		for (int i = 0; i < 2; i++) {
			write_next(&p->chan[i], i, &sent[i], sizes[s]);
			if (s % 3 == 0) {
				write_next(&p->chan[i], i, &sent[i], 7);
				write_next(&p->chan[i], i, &sent[i], 33000);
			}
			if (s % 2 == 0)
				read_some(p->peer[i], i, &got[i]);
		}
		if (s % 4 == 3)
			for (int i = 0; i < 2; i++)
				while (chan_flush(&p->chan[i]) == 0)
					read_some(p->peer[i], i, &got[i]);
	}
	for (int i = 0; i < 2; i++) {
		while (chan_flush(&p->chan[i]) == 0)
			read_some(p->peer[i], i, &got[i]);
		read_some(p->peer[i], i, &got[i]);
		assert_int_equal(sent[i], got[i]);
		assert_int_equal(0, chan_pending(&p->chan[i]));
	}
}

/* What is not consumed in a turn is there in the next, and stays in order. */
static void
views_survive_turns(void **state)
{
	struct pair *p = *state;
	struct chan *c = &p->chan[0];
	size_t got = 0, sent = 0;

	while (got < 300000) {
		uint8_t out[5000];
		size_t take;

		for (size_t k = 0; k < sizeof(out); k++)
			out[k] = octet(0, sent + k);
		if (sent < 300000 && write(p->peer[0], out, sizeof(out)) ==
			(ssize_t)sizeof(out))
			sent += sizeof(out);
		chan_notice(c, EV_READ);
		if (c->view_len < 60000)
			(void)chan_fill(c);
		take = c->view_len > 3 ? c->view_len / 3 + 1 : c->view_len;
		for (size_t k = 0; k < take; k++)
			assert_int_equal(octet(0, got + k), c->view[k]);
		chan_consume(c, take);
		got += take;
		chan_settle(c);
	}
	assert_int_equal(300000, got);
}

/* An EOF that came together with the last octets is not overlooked. */
static void
eof_behind_octets(void **state)
{
	struct pair *p = *state;
	struct chan *c = &p->chan[0];

	assert_int_equal(3, write(p->peer[0], "abc", 3));
	assert_int_equal(0, shutdown(p->peer[0], SHUT_WR));
	chan_notice(c, EV_READ);
	assert_true(chan_fill(c));
	assert_int_equal(3, c->view_len);
	assert_false(chan_ended(c));
	chan_consume(c, 3);
	(void)chan_fill(c);
	assert_true(chan_ended(c));
	assert_false(c->reset);
}

static void
peer_gone(void **state)
{
	struct pair *p = *state;
	struct chan *c = &p->chan[0];

	close(p->peer[0]);
	p->peer[0] = -1;
	assert_int_equal(0, chan_write(c, "abc", 3));
	assert_int_equal(-1, chan_flush(c));
	assert_true(c->reset);
	assert_int_equal(-1, chan_write(c, "abc", 3));
	assert_int_equal(0, chan_pending(c));
}

/* A peer that never reads: kept up to BUF_MAX, then given up and forgotten. */
static void
output_is_bounded(void **state)
{
	static const uint8_t block[SCRATCH];
	struct pair *p = *state;
	struct chan *c = &p->chan[0];
	size_t most = 0;

	for (int i = 0; i < 100 && !c->reset; i++) {
		(void)chan_write(c, block, sizeof(block));
		most = chan_pending(c) > most ? chan_pending(c) : most;
	}
	assert_true(c->reset);
	assert_true(most >= CHAN_HIGH && most <= BUF_MAX + SCRATCH);
	assert_null(c->out.mem);
	assert_int_equal(-1, chan_flush(c));
}

/* What a closed chan had gathered must not reach the next one's peer. */
static void
close_forgets_gathered(void **state)
{
	struct pair *p = *state;
	char got[16];

	assert_int_equal(0, chan_write(&p->chan[0], "secret", 6));
	chan_close(&p->chan[0], false);
	assert_int_equal(-1, chan_write(&p->chan[0], "x", 1));
	assert_int_equal(0, chan_write(&p->chan[1], "mine", 4));
	assert_int_equal(1, chan_flush(&p->chan[1]));
	assert_int_equal(4, read(p->peer[1], got, sizeof(got)));
	assert_memory_equal("mine", got, 4);
	assert_int_equal(0, read(p->peer[0], got, sizeof(got)));
}

/* Between turns an idle chan owns no heap, and a busy one no scratch. */
static void
idle_owns_nothing(void **state)
{
	struct pair *p = *state;
	struct chan *c = &p->chan[0];

	assert_int_equal(6, write(p->peer[0], "abcdef", 6));
	chan_notice(c, EV_READ);
	assert_true(chan_fill(c));
	chan_consume(c, 2);
	chan_settle(c);
	memset(p->scratch->plain, 0xee, sizeof(p->scratch->plain));
	assert_int_equal(4, c->view_len);
	assert_memory_equal("cdef", c->view, 4);
	chan_consume(c, 4);
	assert_int_equal(0, chan_write(c, "gone", 4));
	assert_int_equal(1, chan_flush(c));
	chan_settle(c);
	assert_null(c->rest.mem);
	assert_null(c->out.mem);
	chan_shut(c);
	assert_int_equal(-1, chan_write(c, "x", 1));
}

/* A connection over loopback, its server's end in chan. The client's end. */
static int
over_tcp(struct pair *p, struct chan *c)
{
	struct sockaddr_in a = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);
	int listener = socket(AF_INET, SOCK_STREAM, 0);
	int client = socket(AF_INET, SOCK_STREAM, 0);

	assert_int_equal(0, bind(listener, (struct sockaddr *)&a, len));
	assert_int_equal(0, listen(listener, 1));
	assert_int_equal(0, getsockname(listener, (struct sockaddr *)&a, &len));
	assert_int_equal(0, connect(client, (struct sockaddr *)&a, len));
	chan_init(c, p->scratch, 0);
	assert_int_equal(0, chan_watch(c, accept4(listener, NULL, NULL,
		SOCK_NONBLOCK), p->base, nothing, NULL));
	close(listener);
	return client;
}

static unsigned
segments(const struct chan *c)
{
	struct tcp_info info;
	socklen_t len = sizeof(info);

	assert_int_equal(0, getsockopt(c->fd, IPPROTO_TCP, TCP_INFO, &info,
		&len));
	return info.tcpi_segs_out;
}

/* The last octets and the end behind them are one packet, also when others
 * went before; nothing stays corked. */
static void
end_goes_with_last_octets(void **state)
{
	struct pair *p = *state;
	struct chan c;
	char got[16];
	int client = over_tcp(p, &c);
	unsigned before = segments(&c);

	assert_int_equal(0, chan_write(&c, "220 one\r\n", 9));
	assert_int_equal(1, chan_flush(&c));
	assert_int_equal(before + 1, segments(&c));
	assert_int_equal(9, recv(client, got, sizeof(got), 0));
	assert_int_equal(0, chan_write(&c, "221 two\r\n", 9));
	before = segments(&c);
	assert_int_equal(1, chan_flush_last(&c));
	assert_false(c.last);
	chan_shut(&c);
	assert_int_equal(before + 1, segments(&c));
	assert_int_equal(9, recv(client, got, sizeof(got), 0));
	assert_memory_equal("221 two\r\n", got, 9);
	assert_int_equal(0, recv(client, got, sizeof(got), 0));
	chan_close(&c, false);
	close(client);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(writes_keep_their_order, setup,
			teardown),
		cmocka_unit_test_setup_teardown(views_survive_turns, setup,
			teardown),
		cmocka_unit_test_setup_teardown(eof_behind_octets, setup,
			teardown),
		cmocka_unit_test_setup_teardown(peer_gone, setup, teardown),
		cmocka_unit_test_setup_teardown(output_is_bounded, setup,
			teardown),
		cmocka_unit_test_setup_teardown(close_forgets_gathered, setup,
			teardown),
		cmocka_unit_test_setup_teardown(idle_owns_nothing, setup,
			teardown),
		cmocka_unit_test_setup_teardown(end_goes_with_last_octets,
			setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
