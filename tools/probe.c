/*
 * probe.c - a short, polite talk with every secure mail port of some servers
 *
 * Does: connects (a few at a time, one attempt a port, bounded in time and
 * octets), speaks EHLO and STARTTLS on 587 and TLS at once elsewhere, judges
 * chain and name by itself so that it can say what is wrong, and says goodbye.
 * Does not: log in, send mail, try again, or go where probetarget.c forbids.
 *
 * Called by sallyport probe and plan, as the operator: its sockets carry no
 * mark, so neither the capture rules nor the jail of the daemon see them. The
 * server is hostile: every octet of it is bounded, framed by frame.c and made
 * printable before anybody sees it.
 */
#include "tools/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "conf/conf.h"
#include "proxyd/smtp.h"

/* Connections at once. */
#define TALKS 4
/* Milliseconds: to connect (DESIGN.md section 6), and for all of a port. */
#define CONNECT_MS 5000
#define PORT_MS 10000
/* ... for a greeting and a goodbye after the verdict, which is for politeness
 * only. */
#define GOODBYE_MS 2000
/* Lines a server may send before TLS. */
#define LINES_MAX 128

const uint16_t probe_port[PROBE_PORTS] = { 587, 465, 993, 995 };

enum step {
	STEP_CONNECT,
	STEP_GREETING,	/* 587: its 220 */
	STEP_EHLO,	/* 587: the list */
	STEP_STARTTLS,	/* 587: 220 again */
	STEP_TLS,
	STEP_HELLO,	/* 465, 993, 995: the greeting inside */
	STEP_GOODBYE
};

struct talk {
	const struct probe_target *target;
	struct probe_result *result;
	unsigned port;		/* index into probe_port */
	int fd;			/* -1: free */
	SSL *ssl;
	enum step step;
	short wait;		/* poll's events */
	bool starttls;		/* 587 offers it */
	unsigned lines;
	int64_t deadline;
	size_t n;
	uint8_t in[LINE_MAX_OCTETS];
};

struct prober {
	const struct conf *conf;
	SSL_CTX *ctx;
	struct talk talk[TALKS];
};

static int64_t
now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void
printable(char *out, size_t cap, const void *text, size_t len)
{
	const uint8_t *p = text;
	size_t i;

	for (i = 0; i < len && i + 1 < cap; i++)
		out[i] = p[i] >= ' ' && p[i] <= '~' ? (char)p[i] : '?';
	out[i] = '\0';
}

static void
talk_end(struct talk *t)
{
	if (t->ssl != NULL) {
		SSL_set_shutdown(t->ssl, SSL_SENT_SHUTDOWN |
			SSL_RECEIVED_SHUTDOWN);
		SSL_free(t->ssl);
		t->ssl = NULL;
	}
	close(t->fd);
	t->fd = -1;
	ERR_clear_error();
}

static void
finish(struct talk *t, enum probe_outcome outcome, const char *detail)
{
	t->result->outcome = outcome;
	printable(t->result->detail, sizeof(t->result->detail), detail,
		strlen(detail));
	talk_end(t);
}

/* ---- the certificate ---- */

static void
names_of(X509 *cert, char out[PROBE_NAME])
{
	GENERAL_NAMES *all = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL,
		NULL);
	size_t used = 0;

	out[0] = '\0';
	for (int i = 0; i < sk_GENERAL_NAME_num(all); i++) {
		const GENERAL_NAME *g = sk_GENERAL_NAME_value(all, i);
		size_t len;

		if (g->type != GEN_DNS)
			continue;
		len = (size_t)ASN1_STRING_length(g->d.dNSName);
		if (used + len + 2 > PROBE_NAME)
			break;
		if (used > 0)
			out[used++] = ' ';
		printable(out + used, PROBE_NAME - used,
			ASN1_STRING_get0_data(g->d.dNSName), len);
		used += len;
	}
	GENERAL_NAMES_free(all);
}

static int64_t
end_of(X509 *cert)
{
	struct tm tm;

	if (ASN1_TIME_to_tm(X509_get0_notAfter(cert), &tm) != 1)
		return 0;
	return timegm(&tm);
}

static void
judge(struct talk *t)
{
	X509 *cert = SSL_get0_peer_certificate(t->ssl);
	long verdict = SSL_get_verify_result(t->ssl);
	struct probe_result *r = t->result;

	if (cert == NULL) {
		r->outcome = PROBE_UNTRUSTED;
		snprintf(r->detail, sizeof(r->detail), "no certificate");
		return;
	}
	names_of(cert, r->names);
	r->until = end_of(cert);
	if (verdict != X509_V_OK) {
		r->outcome = PROBE_UNTRUSTED;
		snprintf(r->detail, sizeof(r->detail), "%s",
			X509_verify_cert_error_string(verdict));
	} else if (t->target->name[0] == '\0') {
		r->outcome = PROBE_UNNAMED;
	} else if (X509_check_host(cert, t->target->name, 0,
		X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS, NULL) == 1) {
		r->outcome = PROBE_VALID;
	} else {
		r->outcome = PROBE_OTHER_NAME;
	}
}

/* ---- after TLS ---- */

static void
say_goodbye(struct talk *t)
{
	const char *bye = probe_port[t->port] == 993 ? "a LOGOUT\r\n" :
		"QUIT\r\n";

	if (SSL_write(t->ssl, bye, (int)strlen(bye)) <= 0) {
		talk_end(t);
		return;
	}
	t->step = STEP_GOODBYE;
	t->wait = POLLIN;
	t->deadline = now_ms() + GOODBYE_MS;
}

/* The verdict stands; whatever happens here only ends the talk. */
static void
after_tls(struct talk *t)
{
	char waste[4096];
	int n = SSL_read(t->ssl, waste, sizeof(waste));

	if (n <= 0) {
		if (SSL_get_error(t->ssl, n) != SSL_ERROR_WANT_READ)
			talk_end(t);
		return;
	}
	if (t->step == STEP_HELLO)
		say_goodbye(t);
}

static void
handshake(struct talk *t)
{
	int n = SSL_connect(t->ssl), error;
	const char *why = NULL;

	if (n == 1) {
		judge(t);
		t->deadline = now_ms() + GOODBYE_MS;
		t->wait = POLLIN;
		t->step = STEP_HELLO;
		if (probe_port[t->port] == 587)	/* greeted before TLS */
			say_goodbye(t);
		return;
	}
	error = SSL_get_error(t->ssl, n);
	t->wait = error == SSL_ERROR_WANT_WRITE ? POLLOUT : POLLIN;
	if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)
		return;
	if (error == SSL_ERROR_SSL)
		why = ERR_reason_error_string(ERR_peek_last_error());
	finish(t, PROBE_NO_TLS, why != NULL ? why :
		"connection closed during the handshake");
}

static void
start_tls(struct prober *p, struct talk *t)
{
	t->ssl = SSL_new(p->ctx);
	if (t->ssl == NULL || SSL_set_fd(t->ssl, t->fd) != 1 ||
	    (t->target->name[0] != '\0' &&
	    SSL_set_tlsext_host_name(t->ssl, t->target->name) != 1)) {
		finish(t, PROBE_UNREACHABLE, "no memory");
		return;
	}
	SSL_set_connect_state(t->ssl);
	t->step = STEP_TLS;
	handshake(t);
}

/* ---- 587 before TLS ---- */

static void
say(struct talk *t, enum step next, const char *line)
{
	/* A new connection's buffer holds more than any line of ours. */
	if (send(t->fd, line, strlen(line), MSG_NOSIGNAL) !=
		(ssize_t)strlen(line)) {
		finish(t, PROBE_NO_TLS, "connection lost");
		return;
	}
	t->step = next;
	t->wait = POLLIN;
}

static void
reply_done(struct prober *p, struct talk *t, unsigned code)
{
	char line[PROBE_NAME + 8];

	if (code != (t->step == STEP_EHLO ? 250u : 220u)) {
		snprintf(line, sizeof(line), "the server answers %u", code);
		finish(t, PROBE_NO_TLS, line);
	} else if (t->step == STEP_GREETING) {
		snprintf(line, sizeof(line), "EHLO %s\r\n", p->conf->name);
		say(t, STEP_EHLO, line);
	} else if (t->step == STEP_EHLO && !t->starttls) {
		(void)!send(t->fd, "QUIT\r\n", 6, MSG_NOSIGNAL);
		finish(t, PROBE_NO_TLS, "STARTTLS is not offered");
	} else if (t->step == STEP_EHLO) {
		say(t, STEP_STARTTLS, "STARTTLS\r\n");
	} else if (t->n > 0) {
		finish(t, PROBE_NO_TLS, "clear text behind the answer to "
			"STARTTLS");
	} else {
		start_tls(p, t);
	}
}

static bool
is_starttls(const struct line *l)
{
	return l->len == 12 && strncasecmp((const char *)l->text + 4,
		"STARTTLS", 8) == 0;
}

/* Take the lines that are there. */
static void
take_lines(struct prober *p, struct talk *t)
{
	struct line l;
	unsigned code;
	bool last;
	int found = 0;

	while (t->fd != -1 && t->step < STEP_TLS &&
		(found = frame_line(t->in, t->n, &l)) == 1) {
		if (smtp_reply(&l, &code, &last) < 0 ||
		    ++t->lines > LINES_MAX) {
			finish(t, PROBE_NO_TLS, "the server does not speak SMTP");
			return;
		}
		if (t->step == STEP_EHLO && is_starttls(&l))
			t->starttls = true;
		t->n -= l.total;
		memmove(t->in, t->in + l.total, t->n);
		if (last)
			reply_done(p, t, code);
	}
	if (t->fd != -1 && found < 0)
		finish(t, PROBE_NO_TLS, "an endless line");
}

static void
read_lines(struct prober *p, struct talk *t)
{
	ssize_t n = recv(t->fd, t->in + t->n, sizeof(t->in) - t->n, 0);

	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		finish(t, PROBE_NO_TLS, "the server closed the connection");
		return;
	}
	t->n += (size_t)n;
	take_lines(p, t);
}

/* ---- connections ---- */

static void
connect_failed(struct talk *t, int error)
{
	finish(t, error == ECONNREFUSED ? PROBE_REFUSED :
		error == ETIMEDOUT ? PROBE_SILENT : PROBE_UNREACHABLE,
		error == ECONNREFUSED || error == ETIMEDOUT ? "" :
		strerror(error));
}

static void
connected(struct prober *p, struct talk *t)
{
	int error = 0;
	socklen_t len = sizeof(error);

	if (getsockopt(t->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		error = errno;
	if (error != 0) {
		connect_failed(t, error);
		return;
	}
	t->deadline += PORT_MS - CONNECT_MS;
	t->wait = POLLIN;
	if (probe_port[t->port] == 587)
		t->step = STEP_GREETING;
	else
		start_tls(p, t);
}

static void
talk_start(struct talk *t, const struct probe_target *target, unsigned port,
	struct probe_result *result)
{
	struct addr to = target->addr;
	struct sockaddr_storage ss;
	socklen_t len;

	memset(t, 0, offsetof(struct talk, in));
	memset(result, 0, sizeof(*result));
	t->target = target;
	t->result = result;
	t->port = port;
	t->deadline = now_ms() + CONNECT_MS;
	t->wait = POLLOUT;
	to.port = probe_port[port];
	len = addr_to_sockaddr(&to, &ss);
	t->fd = socket(to.family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
		0);
	if (t->fd == -1) {
		result->outcome = PROBE_UNREACHABLE;
		snprintf(result->detail, sizeof(result->detail), "socket: %s",
			strerror(errno));
	} else if (connect(t->fd, (struct sockaddr *)&ss, len) < 0 &&
	    errno != EINPROGRESS) {
		connect_failed(t, errno);
	}
}

static void
talk_step(struct prober *p, struct talk *t)
{
	switch (t->step) {
	case STEP_CONNECT:
		connected(p, t);
		break;
	case STEP_GREETING:
	case STEP_EHLO:
	case STEP_STARTTLS:
		read_lines(p, t);
		break;
	case STEP_TLS:
		handshake(t);
		break;
	case STEP_HELLO:
	case STEP_GOODBYE:
		after_tls(t);
		break;
	}
}

static void
talk_late(struct talk *t)
{
	if (t->step >= STEP_HELLO)
		talk_end(t);
	else
		finish(t, PROBE_SILENT, t->step == STEP_CONNECT ? "" :
			"it accepts the connection and says nothing more");
}

static size_t
talks(const struct prober *p)
{
	size_t n = 0;

	for (unsigned i = 0; i < TALKS; i++)
		n += p->talk[i].fd != -1;
	return n;
}

/* Wait for the next thing to happen to any talk, and let it. */
static void
turn(struct prober *p)
{
	struct pollfd wait[TALKS];
	int64_t now = now_ms(), first = now + PORT_MS;

	for (unsigned i = 0; i < TALKS; i++) {
		wait[i] = (struct pollfd){ .fd = p->talk[i].fd,
			.events = p->talk[i].wait };
		if (p->talk[i].fd != -1 && p->talk[i].deadline < first)
			first = p->talk[i].deadline;
	}
	if (poll(wait, TALKS, first > now ? (int)(first - now) : 0) < 0)
		return;
	now = now_ms();
	for (unsigned i = 0; i < TALKS; i++) {
		if (p->talk[i].fd == -1)
			continue;
		if (wait[i].revents != 0)
			talk_step(p, &p->talk[i]);
		if (p->talk[i].fd != -1 && now >= p->talk[i].deadline)
			talk_late(&p->talk[i]);
	}
}

static int
prober_open(struct prober *p, const struct conf *conf)
{
	memset(p, 0, sizeof(*p));
	for (unsigned i = 0; i < TALKS; i++)
		p->talk[i].fd = -1;
	p->conf = conf;
	p->ctx = SSL_CTX_new(TLS_client_method());
	if (p->ctx == NULL ||
	    SSL_CTX_load_verify_file(p->ctx, conf->trust) != 1) {
		fprintf(stderr, "sallyport: probe: cannot load trusted "
			"certificates from %s\n", conf->trust);
		SSL_CTX_free(p->ctx);
		return -1;
	}
	SSL_CTX_set_min_proto_version(p->ctx, (int)conf->tls_min_server);
	/* The chain is judged all the same; judge() reads the verdict. */
	SSL_CTX_set_verify(p->ctx, SSL_VERIFY_NONE, NULL);
	return 0;
}

/* Start what there is room for. How many ports have been begun. */
static size_t
fill(struct prober *p, const struct probe_target *target, size_t n,
	struct probe_result (*result)[PROBE_PORTS], size_t at)
{
	for (unsigned i = 0; i < TALKS && at < n * PROBE_PORTS; i++) {
		while (p->talk[i].fd == -1 && at < n * PROBE_PORTS) {
			const struct probe_target *t =
				&target[at / PROBE_PORTS];
			unsigned port = (unsigned)(at % PROBE_PORTS);

			if (t->forbidden != NULL) {
				result[at / PROBE_PORTS][port].outcome =
					PROBE_FORBIDDEN;
				snprintf(result[at / PROBE_PORTS][port].detail,
					sizeof(result[0][0].detail), "%s",
					t->forbidden);
			} else {
				talk_start(&p->talk[i], t, port,
					&result[at / PROBE_PORTS][port]);
			}
			at++;
		}
	}
	return at;
}

int
probe_run(const struct conf *conf, const struct probe_target *target, size_t n,
	struct probe_result (*result)[PROBE_PORTS],
	void (*done)(size_t now, size_t of))
{
	struct prober *p = malloc(sizeof(*p));
	size_t at = 0, open;

	if (p == NULL || prober_open(p, conf) < 0) {
		free(p);
		return -1;
	}
	memset(result, 0, n * sizeof(*result));
	do {
		at = fill(p, target, n, result, at);
		if (talks(p) > 0)
			turn(p);
		open = talks(p);
		if (done != NULL)
			done(at - open, n * PROBE_PORTS);
	} while (open > 0 || at < n * PROBE_PORTS);
	SSL_CTX_free(p->ctx);
	free(p);
	return 0;
}
