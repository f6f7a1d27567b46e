/*
 * ipc.h - fixed-size messages and descriptors between our own processes
 *
 * Over SOCK_SEQPACKET: a message arrives whole or not at all. The receiver
 * states the size it expects; anything else is an error of the peer, which is
 * reported and never trusted.
 */
#ifndef SALLYPORT_IPC_H
#define SALLYPORT_IPC_H

#include <stddef.h>

#define IPC_FDS_MAX 64

/* Two connected, non-blocking, close-on-exec SEQPACKET sockets. 0 or -1. */
int ipc_pair(int fd_r[2]);

/*
 * Send one message with nfds descriptors (<= IPC_FDS_MAX, they stay the
 * caller's). 1 sent, 0 would block, -1 error.
 */
int ipc_send(int fd, const void *msg, size_t size, const int *fds, int nfds);

/*
 * Receive one message of exactly size bytes. 1 received (descriptors, if any,
 * now the caller's, close-on-exec, count in *nfds_r), 0 nothing there, -1 peer
 * gone or error, -2 a message of the wrong size (dropped, descriptors closed).
 */
int ipc_recv(int fd, void *msg, size_t size, int *fds, int *nfds_r);

#endif
