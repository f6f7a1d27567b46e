/*
 * chan.c - one side of a session: a descriptor, perhaps TLS, what waits
 *
 * The order of things in a turn: chan_notice, then any number of chan_fill /
 * chan_consume / chan_write, then chan_flush and chan_settle. Between turns no
 * pointer into the scratch survives.
 *
 * Reads go on until the kernel says EAGAIN: a short read is no proof that it is
 * empty, since an EOF or a reset may stand behind the octets and edge
 * triggering announces it only once. (EV_CLOSED does not help: libevent drops
 * it when EPOLLERR comes with it.) An EOF without close_notify counts as EOF:
 * whether that is an error is for the protocol to say, which knows whether a
 * reply was owed.
 *
 * The peer controls what and how much arrives; nothing here grows beyond
 * BUF_MAX, and the session stops filling at CHAN_HIGH.
 */
#include "proxyd/chan.h"

#include <errno.h>
#include <openssl/err.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proxyd/serve.h"
#include "proxyd/tls.h"

void
chan_init(struct chan *c, struct scratch *scratch, int side)
{
	memset(c, 0, sizeof(*c));
	c->fd = -1;
	c->scratch = scratch;
	c->plain = scratch->plain[side];
}

int
chan_watch(struct chan *c, int fd, struct event_base *base,
	event_callback_fn on_event, void *arg)
{
	c->fd = fd;
	if (event_assign(&c->ev, base, fd, EV_READ | EV_WRITE |
		EV_ET | EV_PERSIST, on_event, arg) == -1 ||
	    event_add(&c->ev, NULL) == -1)
		return -1;
	c->watched = true;
	return 0;
}

void
chan_notice(struct chan *c, short what)
{
	if (what & EV_READ)
		c->readable = true;
}

static void
fail(struct chan *c, int error)
{
	c->reset = true;
	c->eof = true;
	c->readable = false;
	c->error = error;
	buf_clear(&c->out);
}

/* One recv into memory. Octets, or 0: nothing now (eof or reset may be set). */
static size_t
receive(struct chan *c, uint8_t *p, size_t cap)
{
	ssize_t n;

	if (!c->readable || c->eof)
		return 0;
	do
		n = recv(c->fd, p, cap, 0);
	while (n == -1 && errno == EINTR);
	if (n > 0)
		return (size_t)n;
	c->readable = false;
	if (n == 0)
		c->eof = true;
	else if (errno != EAGAIN && errno != EWOULDBLOCK)
		fail(c, errno);
	return 0;
}

/* ---- TLS over memory ---- */

static int
bio_read(BIO *bio, char *p, int n)
{
	struct chan *c = BIO_get_data(bio);
	size_t take = c->cipher_len < (size_t)n ? c->cipher_len : (size_t)n;

	BIO_clear_retry_flags(bio);
	if (take == 0) {
		if (!c->eof)
			BIO_set_retry_read(bio);
		return c->eof ? 0 : -1;
	}
	memcpy(p, c->cipher, take);
	c->cipher += take;
	c->cipher_len -= take;
	return (int)take;
}

static int queue_octets(struct chan *c, const uint8_t *p, size_t n);

static int
bio_write(BIO *bio, const char *p, int n)
{
	struct chan *c = BIO_get_data(bio);

	BIO_clear_retry_flags(bio);
	return queue_octets(c, (const uint8_t *)p, (size_t)n) == -1 ? -1 : n;
}

static long
bio_ctrl(BIO *bio, int cmd, long number, void *p)
{
	(void)number;
	(void)p;
	if (cmd == BIO_CTRL_EOF)
		return ((struct chan *)BIO_get_data(bio))->eof;
	return cmd == BIO_CTRL_FLUSH;
}

static BIO *
bio_new(struct chan *c)
{
	static BIO_METHOD *method;
	BIO *bio;

	if (method == NULL) {
		method = BIO_meth_new(BIO_TYPE_SOURCE_SINK | BIO_get_new_index(),
			"chan");
		if (method == NULL)
			return NULL;
		BIO_meth_set_read(method, bio_read);
		BIO_meth_set_write(method, bio_write);
		BIO_meth_set_ctrl(method, bio_ctrl);
	}
	bio = BIO_new(method);
	if (bio != NULL) {
		BIO_set_data(bio, c);
		BIO_set_init(bio, 1);
	}
	return bio;
}

int
chan_tls(struct chan *c, struct tls *t, const struct server_conf *server,
	const char *name, unsigned index, const struct addr *to)
{
	BIO *bio = bio_new(c);

	if (bio == NULL)
		return -1;
	c->ssl = tls_open(t, server, name, index, to, bio);
	return c->ssl == NULL ? -1 : 0;
}

int
chan_serve(struct chan *c, struct serve *v, const struct publish_place *place)
{
	BIO *bio = bio_new(c);

	if (bio == NULL)
		return -1;
	c->ssl = serve_open(v, place, bio);
	return c->ssl == NULL ? -1 : 0;
}

/* Ciphertext, unless some is left from before. */
static void
fill_cipher(struct chan *c)
{
	size_t n;

	if (c->cipher_len > 0)
		return;
	buf_clear(&c->cipher_rest);
	n = receive(c, c->scratch->cipher, SCRATCH);
	c->cipher = c->scratch->cipher;
	c->cipher_len = n;
}

int
chan_handshake(struct chan *c)
{
	int result, error;

	do {
		fill_cipher(c);
		ERR_clear_error();
		result = SSL_do_handshake(c->ssl);
		error = result == 1 ? SSL_ERROR_NONE :
			SSL_get_error(c->ssl, result);
	} while (error == SSL_ERROR_WANT_READ && c->readable && !c->eof);
	if (chan_flush(c) == -1)
		return -1;
	if (error == SSL_ERROR_NONE)
		return 1;
	return error == SSL_ERROR_WANT_READ && !c->eof ? 0 : -1;
}

/* Decrypt what is there into the scratch; how many octets. */
static size_t
fill_tls(struct chan *c)
{
	size_t n = 0;

	while (n < SCRATCH && !c->reset && !c->dry) {
		int got;

		fill_cipher(c);
		ERR_clear_error();
		got = SSL_read(c->ssl, c->plain + n, (int)(SCRATCH - n));
		if (got > 0) {
			n += (size_t)got;
			continue;
		}
		switch (SSL_get_error(c->ssl, got)) {
		case SSL_ERROR_WANT_READ:
			if (c->readable && !c->eof)
				continue;
			break;
		case SSL_ERROR_ZERO_RETURN:
			c->eof = c->dry = true;
			break;
		default:
			/* A broken record, or EOF without close_notify, perhaps
			 * inside a record: what OpenSSL holds of that one will
			 * never be read. */
			c->dry = true;
			if (!c->eof)
				fail(c, EPROTO);
			break;
		}
		break;
	}
	c->received += n;
	return n;
}

/* ---- reading ---- */

/* Append fresh octets to what is already visible. */
static bool
extend_view(struct chan *c, size_t n)
{
	if (c->view_len == 0) {
		buf_clear(&c->rest);
		c->view = c->plain;
		c->view_len = n;
		return true;
	}
	/* The view lies in rest (chan_settle or an earlier call put it there). */
	if (c->rest.len == 0 && buf_append(&c->rest, c->view, c->view_len) == -1)
		return false;
	if (buf_append(&c->rest, c->plain, n) == -1)
		return false;
	c->view = buf_data(&c->rest);
	c->view_len = c->rest.len;
	return true;
}

bool
chan_fill(struct chan *c)
{
	bool was_eof = c->eof;
	size_t n;

	if (c->fd == -1 || c->reset)
		return false;
	if (!c->readable && (c->ssl == NULL || (c->cipher_len == 0 &&
		!SSL_has_pending(c->ssl))))
		return false;
	/* An unconsumed view still lies in the scratch: save it first. */
	if (c->view_len > 0 && c->rest.len == 0) {
		if (buf_append(&c->rest, c->view, c->view_len) == -1) {
			fail(c, ENOMEM);
			return true;
		}
		c->view = buf_data(&c->rest);
	}
	if (c->ssl != NULL) {
		n = fill_tls(c);
	} else {
		n = receive(c, c->plain, SCRATCH);
		c->received += n;
	}
	if (n > 0 && !extend_view(c, n)) {
		fail(c, ENOMEM);
		return true;
	}
	return n > 0 || c->eof != was_eof || c->reset;
}

void
chan_consume(struct chan *c, size_t n)
{
	c->view += n;
	c->view_len -= n;
	if (c->rest.len > 0) {
		buf_consume(&c->rest, n);
		c->view = c->rest.len > 0 ? buf_data(&c->rest) : NULL;
	}
}

bool
chan_ended(const struct chan *c)
{
	return c->eof && c->view_len == 0 && (c->reset || c->dry ||
		c->ssl == NULL ||
		(c->cipher_len == 0 && !SSL_has_pending(c->ssl)));
}

void
chan_settle(struct chan *c)
{
	if (c->view_len > 0 && c->rest.len == 0) {
		if (buf_append(&c->rest, c->view, c->view_len) == -1)
			fail(c, ENOMEM);
		c->view = c->rest.len > 0 ? buf_data(&c->rest) : NULL;
		c->view_len = c->rest.len;
	}
	if (c->cipher_len == 0) {
		buf_clear(&c->cipher_rest);
	} else if (c->cipher_rest.len == 0) {
		if (buf_append(&c->cipher_rest, c->cipher, c->cipher_len) == -1)
			fail(c, ENOMEM);
		c->cipher = c->cipher_rest.len > 0 ?
			buf_data(&c->cipher_rest) : NULL;
		c->cipher_len = c->cipher_rest.len;
	} else {
		buf_consume(&c->cipher_rest,
			c->cipher_rest.len - c->cipher_len);
		c->cipher = buf_data(&c->cipher_rest);
	}
}

/* ---- writing ---- */

/* send(2) as much as the kernel takes; how many octets. */
static size_t
transmit(struct chan *c, const uint8_t *p, size_t n)
{
	size_t done = 0;

	while (done < n) {
		ssize_t sent = send(c->fd, p + done, n - done,
			MSG_NOSIGNAL | (c->last ? MSG_MORE : 0));

		if (sent >= 0) {
			done += (size_t)sent;
		} else if (errno == EAGAIN || errno == EWOULDBLOCK) {
			break;
		} else if (errno != EINTR) {
			fail(c, errno);
			break;
		}
	}
	return done;
}

/* Send or keep; the order of octets is the order of calls. */
static int
send_or_keep(struct chan *c, const uint8_t *p, size_t n)
{
	size_t sent = c->out.len == 0 ? transmit(c, p, n) : 0;

	if (c->reset)
		return -1;
	if (sent < n && buf_append(&c->out, p + sent, n - sent) == -1) {
		fail(c, ENOBUFS);
		return -1;
	}
	return 0;
}

static int
flush_gathered(struct scratch *s)
{
	struct chan *c = s->gatherer;
	size_t n = s->gathered;

	s->gathered = 0;
	s->gatherer = NULL;
	if (c == NULL || n == 0 || c->fd == -1)
		return 0;
	return send_or_keep(c, s->gather, n);
}

/* Collect small writes of a turn into one send. */
static int
queue_octets(struct chan *c, const uint8_t *p, size_t n)
{
	struct scratch *s = c->scratch;

	if (c->reset || c->shut)
		return -1;
	/* What was gathered for this side goes first, also before a write that
	 * is too large to be gathered. */
	if (s->gatherer != c || n > SCRATCH / 2 || n > SCRATCH - s->gathered)
		(void)flush_gathered(s);
	if (c->reset)
		return -1;
	if (n > SCRATCH / 2)
		return send_or_keep(c, p, n);
	memcpy(s->gather + s->gathered, p, n);
	s->gathered += n;
	s->gatherer = c;
	return 0;
}

int
chan_write(struct chan *c, const void *p, size_t n)
{
	size_t done = 0;

	if (c->reset || c->fd == -1)
		return -1;
	c->sent += n;
	if (c->ssl == NULL)
		return n > 0 ? queue_octets(c, p, n) : 0;
	while (done < n) {
		int sent;

		ERR_clear_error();
		sent = SSL_write(c->ssl, (const uint8_t *)p + done,
			(int)(n - done));
		if (sent <= 0) {
			fail(c, EPROTO);
			return -1;
		}
		done += (size_t)sent;
	}
	return 0;
}

int
chan_flush(struct chan *c)
{
	if (c->fd == -1)
		return 1;
	if (c->scratch->gatherer == c)
		(void)flush_gathered(c->scratch);
	if (!c->reset && c->out.len > 0) {
		size_t sent = transmit(c, buf_data(&c->out), c->out.len);

		if (!c->reset)
			buf_consume(&c->out, sent);
	}
	if (c->reset)
		return -1;
	return c->out.len == 0;
}

int
chan_flush_last(struct chan *c)
{
	int rc;

	c->last = true;
	rc = chan_flush(c);
	c->last = false;
	return rc;
}

size_t
chan_pending(const struct chan *c)
{
	return c->out.len +
		(c->scratch->gatherer == c ? c->scratch->gathered : 0);
}

void
chan_shut(struct chan *c)
{
	if (c->fd == -1 || c->shut || c->reset)
		return;
	if (c->ssl != NULL && SSL_is_init_finished(c->ssl)) {
		ERR_clear_error();
		(void)SSL_shutdown(c->ssl);
		(void)chan_flush_last(c);
	}
	(void)shutdown(c->fd, SHUT_WR);
	c->shut = true;
}

void
chan_close(struct chan *c, bool abort)
{
	struct linger hard = { 1, 0 };

	if (c->scratch->gatherer == c) {
		c->scratch->gatherer = NULL;
		c->scratch->gathered = 0;
	}
	if (c->watched)
		event_del(&c->ev);
	if (c->fd != -1) {
		if (abort)
			(void)setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &hard,
				sizeof(hard));
		close(c->fd);
	}
	tls_close(&c->ssl);
	buf_clear(&c->cipher_rest);
	buf_clear(&c->rest);
	buf_clear(&c->out);
	c->fd = -1;
	c->watched = c->readable = c->eof = c->dry = c->reset = c->shut =
		false;
	c->view_len = c->cipher_len = 0;
}
