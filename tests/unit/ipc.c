/*
 * ipc.c - unit tests of lib/ipc.c
 *
 * Sizes and descriptors that a taken-over process would send: whatever
 * arrives, no descriptor may stay open behind the receiver's back. The number
 * of open descriptors is compared before and after.
 */
#include "lib/ipc.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

struct note {
	uint32_t a, b, c;
};

static int
open_descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	assert_non_null(d);
	while (readdir(d) != NULL)
		n++;
	closedir(d);
	return n;
}

static void
whole_message(void **state)
{
	const struct note sent = { 1, 2, 3 };
	struct note got = { 0 };
	int pair[2], nfds = 7;

	(void)state;
	assert_int_equal(ipc_pair(pair), 0);
	assert_true(fcntl(pair[0], F_GETFD) & FD_CLOEXEC);
	assert_true(fcntl(pair[0], F_GETFL) & O_NONBLOCK);
	assert_int_equal(ipc_recv(pair[1], &got, sizeof(got), NULL, NULL), 0);
	assert_int_equal(ipc_send(pair[0], &sent, sizeof(sent), NULL, 0), 1);
	assert_int_equal(ipc_recv(pair[1], &got, sizeof(got), NULL, &nfds), 1);
	assert_int_equal(nfds, 0);
	assert_memory_equal(&sent, &got, sizeof(sent));
	close(pair[0]);
	assert_int_equal(ipc_recv(pair[1], &got, sizeof(got), NULL, NULL), -1);
	close(pair[1]);
}

/* size sent, size expected, descriptors, taken by the receiver, want */
static void
sizes_and_descriptors(void **state)
{
	static const struct {
		const char *name;
		size_t size;
		int nfds;
		int takes;
		int want, want_fds;
	} rows[] = {
		{ "exact", sizeof(struct note), 0, 1, 1, 0 },
		{ "one descriptor", sizeof(struct note), 1, 1, 1, 1 },
		{ "a full batch", sizeof(struct note), IPC_FDS_MAX, 1, 1,
			IPC_FDS_MAX },
		{ "not wanted", sizeof(struct note), 3, 0, 1, 0 },
		{ "short", sizeof(struct note) - 1, 0, 1, -2, 0 },
		{ "short with descriptors", 1, 5, 1, -2, 0 },
		{ "long", sizeof(struct note) + 1, 0, 1, -2, 0 },
		{ "long with descriptors", sizeof(struct note) * 2, 5, 1, -2, 0 },
		{ "long, not wanted", sizeof(struct note) * 2, 5, 0, -2, 0 },
	};
	uint8_t bytes[2 * sizeof(struct note)] = { 0 };
	int fds[IPC_FDS_MAX], out[IPC_FDS_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		int pair[2], n = 0, rc, before = open_descriptors();
		struct note got;

		assert_int_equal(ipc_pair(pair), 0);
		for (int j = 0; j < rows[i].nfds; j++)
			fds[j] = dup(STDERR_FILENO);
		assert_int_equal(ipc_send(pair[0], bytes, rows[i].size, fds,
			rows[i].nfds), 1);
		for (int j = 0; j < rows[i].nfds; j++)
			close(fds[j]);
		rc = ipc_recv(pair[1], &got, sizeof(got),
			rows[i].takes ? out : NULL, rows[i].takes ? &n : NULL);
		if (rc != rows[i].want || n != rows[i].want_fds)
			fail_msg("%s: rc %d, %d descriptors", rows[i].name, rc,
				n);
		for (int j = 0; j < n; j++) {
			assert_true(fcntl(out[j], F_GETFD) & FD_CLOEXEC);
			close(out[j]);
		}
		close(pair[0]);
		close(pair[1]);
		if (open_descriptors() != before)
			fail_msg("%s: a descriptor was left", rows[i].name);
	}
}

/* A peer that does not go through ipc_send: more descriptors than we take. */
static void
more_descriptors_than_room(void **state)
{
	struct note sent = { 0 };
	struct iovec iov = { &sent, sizeof(sent) };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };
	char room[CMSG_SPACE(200 * sizeof(int))] = { 0 };
	int pair[2], out[IPC_FDS_MAX], n = 1, before = open_descriptors();
	struct cmsghdr *c;

	(void)state;
	assert_int_equal(ipc_pair(pair), 0);
	mh.msg_control = room;
	mh.msg_controllen = sizeof(room);
	c = CMSG_FIRSTHDR(&mh);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(200 * sizeof(int));
	for (int i = 0; i < 200; i++) {
		const int err = STDERR_FILENO;

		memcpy(CMSG_DATA(c) + i * (int)sizeof(int), &err, sizeof(err));
	}
	assert_int_equal(sendmsg(pair[0], &mh, 0), sizeof(sent));
	assert_int_equal(ipc_recv(pair[1], &sent, sizeof(sent), out, &n), -2);
	assert_int_equal(n, 0);
	close(pair[0]);
	close(pair[1]);
	assert_int_equal(open_descriptors(), before);
}

static void
a_full_channel_is_not_an_error(void **state)
{
	const struct note sent = { 1, 2, 3 };
	struct note got;
	int pair[2], rc, n = 0, received = 0;

	(void)state;
	assert_int_equal(ipc_pair(pair), 0);
	while ((rc = ipc_send(pair[0], &sent, sizeof(sent), NULL, 0)) == 1)
		assert_true(++n < 1000000);
	assert_int_equal(rc, 0);
	while (ipc_recv(pair[1], &got, sizeof(got), NULL, NULL) == 1)
		received++;
	assert_int_equal(received, n);
	assert_int_equal(ipc_send(pair[0], &sent, sizeof(sent), NULL, 0), 1);
	close(pair[1]);
	assert_int_equal(ipc_send(pair[0], &sent, sizeof(sent), NULL, 0), -1);
	assert_int_equal(ipc_send(pair[0], &sent, sizeof(sent), NULL,
		IPC_FDS_MAX + 1), -1);
	close(pair[0]);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whole_message),
		cmocka_unit_test(sizes_and_descriptors),
		cmocka_unit_test(more_descriptors_than_room),
		cmocka_unit_test(a_full_channel_is_not_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
