/*
 * sandbox.h - give privileges away, once and for good
 *
 * sandbox_enter() is called by every child before it reads a byte from a peer.
 * It changes to the user, clears every capability set (bounding set included),
 * sets no_new_privs, and then per kind: relay: empty root, Landlock without
 * any right, seccomp without socket(2); control: no capability, Landlock read
 * only where a resolver and the log need it and write only in the directory of
 * the ledger, seccomp against the rest; nfq: as a
 * relay, but CAP_NET_ADMIN stays (the kernel asks for it at every verdict) and
 * the calls are those of a loop over descriptors it already has; keeper: as a
 * relay, with the few calls of a loop that reads and answers.
 * In a sanitizer build the seccomp filter denies the named calls only, since
 * the sanitizer's own needs are not ours to list.
 */
#ifndef SALLYPORT_SANDBOX_H
#define SALLYPORT_SANDBOX_H

enum sandbox { SANDBOX_RELAY, SANDBOX_CONTROL, SANDBOX_NFQ,
	SANDBOX_KEEPER };

/* The directory of this file may be written to by SANDBOX_CONTROL. Before
 * sandbox_enter(). */
void sandbox_writable(const char *file);

/* 0, or -1 with a message logged: the child must exit. */
int sandbox_enter(enum sandbox kind, const char *user);

/* For a program of the operator's: the user, no capability, no_new_privs, no core.
 * It may open and start what its user may. 0 or -1 (logged). */
int sandbox_program(const char *user);

/* The parent keeps CAP_NET_ADMIN, NET_RAW, NET_BIND_SERVICE, SETUID, SETGID,
 * SETPCAP, SYS_CHROOT and KILL, nothing else. 0 or -1. */
int sandbox_parent(void);

#endif
