/*
 * ipc.c - fixed-size messages and descriptors between our own processes
 *
 * Does: one sendmsg or recvmsg a message, with SCM_RIGHTS; tells "nothing
 * there" from "peer gone" from "peer sent nonsense". Does not: queue, retry or
 * interpret; callers keep their own backlog.
 *
 * Used by parent, relays and control. The peer is one of our own processes,
 * but a relay may be taken over: it controls the size of a message, the number
 * of descriptors and whether control data is cut. Every descriptor that
 * arrives is either handed to the caller or closed here, on every path, or a
 * bad peer could fill the receiver's table.
 */
#include "lib/ipc.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

union control_space {
	struct cmsghdr align;
	char room[CMSG_SPACE(IPC_FDS_MAX * sizeof(int))];
};

int
ipc_pair(int fd_r[2])
{
	return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC,
		0, fd_r);
}

int
ipc_send(int fd, const void *msg, size_t size, const int *fds, int nfds)
{
	struct iovec iov = { .iov_base = (void *)msg, .iov_len = size };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };
	union control_space space;
	ssize_t n;

	if (nfds < 0 || nfds > IPC_FDS_MAX) {
		errno = EINVAL;
		return -1;
	}
	if (nfds > 0) {
		size_t bytes = (size_t)nfds * sizeof(int);
		struct cmsghdr *c;

		memset(&space, 0, sizeof(space));
		mh.msg_control = space.room;
		mh.msg_controllen = CMSG_SPACE(bytes);
		c = CMSG_FIRSTHDR(&mh);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(bytes);
		memcpy(CMSG_DATA(c), fds, bytes);
	}
	do {
		n = sendmsg(fd, &mh, MSG_NOSIGNAL | MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	if (n == (ssize_t)size)
		return 1;
	/* ETOOMANYREFS: too many descriptors in flight; they will be read */
	if (n < 0 && (errno == EAGAIN || errno == ETOOMANYREFS))
		return 0;
	return -1;
}

/* Move what arrived into fds[]; what does not fit is closed. */
static int
take_descriptors(struct msghdr *mh, int *fds)
{
	int taken = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(mh); c != NULL;
		c = CMSG_NXTHDR(mh, c)) {
		size_t n;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int one;

			memcpy(&one, CMSG_DATA(c) + i * sizeof(int), sizeof(one));
			if (fds != NULL && taken < IPC_FDS_MAX)
				fds[taken++] = one;
			else
				close(one);
		}
	}
	return taken;
}

int
ipc_recv(int fd, void *msg, size_t size, int *fds, int *nfds_r)
{
	struct iovec iov = { .iov_base = msg, .iov_len = size };
	union control_space space;
	struct msghdr mh = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = space.room, .msg_controllen = sizeof(space.room),
	};
	int taken;
	ssize_t n;

	if (nfds_r != NULL)
		*nfds_r = 0;
	do {
		n = recvmsg(fd, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN ? 0 : -1;
	taken = take_descriptors(&mh, nfds_r != NULL ? fds : NULL);
	if (n == (ssize_t)size && !(mh.msg_flags & (MSG_TRUNC | MSG_CTRUNC))) {
		if (nfds_r != NULL)
			*nfds_r = taken;
		return 1;
	}
	for (int i = 0; i < taken; i++)
		close(fds[i]);
	if (n == 0 && !(mh.msg_flags & MSG_TRUNC))
		return -1; /* end of file; nobody sends empty messages */
	return -2;
}
