/*
 * mp_peer.c - one end of a scenario's connections
 *
 * Does: listen, dial, accept, TLS in either role, keep every octet received,
 * send, and end in every way there is; in the network namespace of the peer.
 * Does not: decide what is right; mp_play.c compares.
 *
 * Sockets never block; each wait is for one peer and ends at the deadline. A
 * TLS end without close_notify counts as an end of file: whether the other side
 * was that polite is not what a scenario is about. The other side may be
 * anything; what it sends is bounded by MP_RECEIVED_MAX.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tools/mailpeer.h"

int64_t
mp_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int
failed(char *why, size_t cap, const char *what)
{
	snprintf(why, cap, "%s: %s", what, strerror(errno));
	return -1;
}

/* Until the descriptor is ready; false: not in time. */
static bool
wait_for(int fd, short what, int64_t deadline)
{
	struct pollfd p = { .fd = fd, .events = what };
	int64_t left;

	do {
		left = deadline - mp_now();
		if (left < 0)
			left = 0;
		if (poll(&p, 1, (int)left) > 0)
			return true;
	} while (left > 0);
	return false;
}

/* ---- sockets ---- */

/* As ip-netns(8) keeps them. A socket stays where it was made. */
static int
enter(const char *ns)
{
	char path[256];
	int fd, rc;

	snprintf(path, sizeof(path), "/run/netns/%s", ns);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd == -1)
		return -1;
	rc = setns(fd, CLONE_NEWNET);
	close(fd);
	return rc;
}

static int
socket_in(const char *ns, int family)
{
	int home = -1, fd, saved;

	if (ns != NULL) {
		home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
		if (home == -1 || enter(ns) == -1) {
			saved = errno;
			if (home != -1)
				close(home);
			errno = saved;
			return -1;
		}
	}
	fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (home != -1) {
		(void)setns(home, CLONE_NEWNET);
		close(home);
	}
	return fd;
}

int
peer_listen(struct mp_peer *p, const struct addr *at, char *why, size_t cap)
{
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(at, &ss);
	const int on = 1;

	if (p->listener != -1)
		close(p->listener);
	p->listener = socket_in(p->ns, ss.ss_family);
	if (p->listener == -1)
		return failed(why, cap, "socket");
	(void)setsockopt(p->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(p->listener, (struct sockaddr *)&ss, len) == -1 ||
	    listen(p->listener, 16) == -1)
		return failed(why, cap, "listen");
	return 0;
}

/* A new connection: nothing of the one before is left. */
static void
begin(struct mp_peer *p, int fd, bool dialled)
{
	const int on = 1;

	peer_end(p, MP_CUT);
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	p->fd = fd;
	p->dialled = dialled;
	p->skip = false;
	p->end = PEER_OPEN;
	p->n = p->seen = 0;
}

int
peer_connect(struct mp_peer *p, const struct addr *to, const struct addr *from,
	int64_t deadline, char *why, size_t cap)
{
	struct sockaddr_storage ss, source;
	socklen_t len = addr_to_sockaddr(to, &ss), n = sizeof(int);
	int fd = socket_in(p->ns, ss.ss_family), error = 0;

	if (fd == -1)
		return failed(why, cap, "socket");
	if (from != NULL && bind(fd, (struct sockaddr *)&source,
		addr_to_sockaddr(from, &source)) == -1) {
		close(fd);
		return failed(why, cap, "bind");
	}
	if (connect(fd, (struct sockaddr *)&ss, len) == -1 &&
	    errno == EINPROGRESS && !wait_for(fd, POLLOUT, deadline))
		error = ETIMEDOUT;
	else
		(void)getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &n);
	if (error != 0) {
		close(fd);
		errno = error;
		return failed(why, cap, "connect");
	}
	begin(p, fd, true);
	return 0;
}

int
peer_accept(struct mp_peer *p, int64_t deadline, char *why, size_t cap)
{
	int fd;

	if (p->listener == -1 || !wait_for(p->listener, POLLIN, deadline)) {
		snprintf(why, cap, "%s", p->listener == -1 ?
			"it does not listen" : "nobody has connected");
		return -1;
	}
	fd = accept4(p->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd == -1)
		return failed(why, cap, "accept");
	begin(p, fd, false);
	return 0;
}

/* ---- TLS ---- */

static SSL_CTX *
context(const struct mp_peer *p, const char *name, const char *trust)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_method());

	if (ctx == NULL)
		return NULL;
	if (p->dialled) {
		SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
		if ((trust != NULL ? SSL_CTX_load_verify_file(ctx, trust) :
			SSL_CTX_set_default_verify_paths(ctx)) == 1)
			return ctx;
	} else if (SSL_CTX_use_certificate_chain_file(ctx, name) == 1 &&
	    SSL_CTX_use_PrivateKey_file(ctx, name, SSL_FILETYPE_PEM) == 1) {
		return ctx;
	}
	SSL_CTX_free(ctx);
	return NULL;
}

/* What to wait for after rc of an OpenSSL call; 0: it has failed. */
static short
wanted(const SSL *ssl, int rc)
{
	int error = SSL_get_error(ssl, rc);

	return error == SSL_ERROR_WANT_READ ? POLLIN :
		error == SSL_ERROR_WANT_WRITE ? POLLOUT : 0;
}

static int
handshake(struct mp_peer *p, int64_t deadline, char *why, size_t cap)
{
	const char *reason;
	unsigned long code;
	short what;
	int rc;

	for (;;) {
		ERR_clear_error();
		rc = SSL_do_handshake(p->ssl);
		if (rc == 1)
			return 0;
		what = wanted(p->ssl, rc);
		if (what == 0)
			break;
		if (!wait_for(p->fd, what, deadline)) {
			snprintf(why, cap, "TLS: not in time");
			return -1;
		}
	}
	code = ERR_peek_last_error();
	reason = code != 0 ? ERR_reason_error_string(code) : NULL;
	snprintf(why, cap, "TLS: %s", reason != NULL ? reason :
		"the other side has ended it");
	return -1;
}

int
peer_tls(struct mp_peer *p, const char *name, const char *trust,
	int64_t deadline, char *why, size_t cap)
{
	SSL_CTX *ctx;

	if (p->fd == -1 || p->ssl != NULL || p->seen < p->n) {
		snprintf(why, cap, p->fd == -1 ? "it has no connection" :
			p->ssl != NULL ? "it is in TLS already" :
			"clear octets are left unread");
		return -1;
	}
	ctx = context(p, name, trust);
	p->ssl = ctx != NULL ? SSL_new(ctx) : NULL;
	SSL_CTX_free(ctx);
	if (p->ssl == NULL || SSL_set_fd(p->ssl, p->fd) != 1) {
		snprintf(why, cap, "TLS: %s cannot be used", p->dialled ?
			"the trust file" : name);
		return -1;
	}
	if (!p->dialled) {
		SSL_set_accept_state(p->ssl);
	} else {
		SSL_set_connect_state(p->ssl);
		(void)SSL_set_tlsext_host_name(p->ssl, name);
		(void)SSL_set1_host(p->ssl, name);
	}
	return handshake(p, deadline, why, cap);
}

/* ---- octets ---- */

/* What there is, at once: as read(2), with errno. */
static ssize_t
read_some(struct mp_peer *p, uint8_t *to, size_t room)
{
	int rc;

	if (p->ssl == NULL)
		return read(p->fd, to, room);
	ERR_clear_error();
	errno = 0;
	rc = SSL_read(p->ssl, to, (int)room);
	if (rc > 0)
		return rc;
	if (wanted(p->ssl, rc) != 0) {
		errno = EAGAIN;
		return -1;
	}
	return errno == ECONNRESET ? -1 : 0;
}

static bool
make_room(struct mp_peer *p)
{
	size_t cap = p->cap == 0 ? 65536 : 2 * p->cap;
	uint8_t *more;

	if (p->cap - p->n >= 16384)
		return true;
	more = cap <= MP_RECEIVED_MAX ? realloc(p->in, cap) : NULL;
	if (more == NULL)
		return false;
	p->in = more;
	p->cap = cap;
	return true;
}

int
peer_fill(struct mp_peer *p, int64_t deadline)
{
	ssize_t n;

	if (p->fd == -1 || p->end != PEER_OPEN)
		return -1;
	for (;;) {
		if (!make_room(p))
			return 0;
		n = read_some(p, p->in + p->n, p->cap - p->n);
		if (n > 0) {
			p->n += (size_t)n;
			return 1;
		}
		if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
			p->end = n == 0 ? PEER_EOF : PEER_RESET;
			return -1;
		}
		if (!wait_for(p->fd, POLLIN, deadline))
			return 0;
	}
}

int
peer_send(struct mp_peer *p, const uint8_t *text, size_t n, bool beneath,
	int64_t deadline)
{
	if (p->fd == -1)
		return -1;
	while (n > 0) {
		short what = POLLOUT;
		ssize_t sent;

		if (p->ssl == NULL || beneath) {
			sent = send(p->fd, text, n, MSG_NOSIGNAL);
			if (sent == -1 && errno != EAGAIN && errno != EINTR)
				return -1;
		} else {
			ERR_clear_error();
			sent = SSL_write(p->ssl, text, (int)n);
			if (sent <= 0 && (what = wanted(p->ssl,
				(int)sent)) == 0)
				return -1;
		}
		if (sent > 0) {
			text += sent;
			n -= (size_t)sent;
		} else if (!wait_for(p->fd, what, deadline)) {
			return -1;
		}
	}
	return 0;
}

/* ---- the end ---- */

void
peer_end(struct mp_peer *p, enum mp_verb how)
{
	const struct linger at_once = { .l_onoff = 1 };

	if (p->fd == -1)
		return;
	if (p->ssl != NULL && (how == MP_SHUT || how == MP_CLOSE))
		(void)SSL_shutdown(p->ssl);
	if (how == MP_SHUT) {
		(void)shutdown(p->fd, SHUT_WR);
		return;
	}
	if (how == MP_RESET)
		(void)setsockopt(p->fd, SOL_SOCKET, SO_LINGER, &at_once,
			sizeof(at_once));
	SSL_free(p->ssl);
	ERR_clear_error();
	close(p->fd);
	p->ssl = NULL;
	p->fd = -1;
}

void
peer_free(struct mp_peer *p)
{
	peer_end(p, MP_CUT);
	if (p->listener != -1)
		close(p->listener);
	free(p->in);
}
