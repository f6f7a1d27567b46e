/*
 * server.c - the mail servers behind the bench's proxies
 *
 *   server CHAIN.pem RETR-OCTETS SERVICE:ADDRESS:PORT ...
 *
 * Services: pop3s, imaps (TLS with tickets), pop3s-cold (TLS without, so that
 * every handshake is a full one), smtp (a sink). Answers what the load
 * generator and a proxy ask and no more; lockstep is assumed. One process, one
 * epoll loop, replies as good as constant: it must not be what a measurement
 * waits for.
 *
 * A line on standard input is answered on standard output by the counters of
 * all services as one line of JSON; end of input ends the program, so it never
 * outlives the bench. Counts are of plain octets inside TLS: what arrives at
 * the other end of a proxy can be compared with them.
 *
 * Lives in a namespace of the lab; nobody hostile talks to it.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/bench/message.h"

#define SERVICES_MAX 8
#define LINE_MAX_LEN 1024

struct service {
	int fd;
	bool smtp, imap;
	SSL_CTX *tls;		/* NULL: plain */
	const char *name;
	unsigned long accepted, done, broken, full, resumed, messages;
	unsigned long long received, sent, message_octets;
};

struct conn {
	struct service *service;
	int fd;
	SSL *ssl;
	bool greeted, quit, data;
	unsigned dot;		/* octets of CRLF.CRLF seen in data */
	size_t line_len;
	const uint8_t *out;
	size_t out_len;
	char line[LINE_MAX_LEN];
	char tag[16], answer[160];	/* IMAP's */
};

static struct service services[SERVICES_MAX];
static unsigned n_services;
static int poller;
static uint8_t *retrieved;	/* the whole answer to RETR */
static size_t retrieved_len;

static void
die(const char *what)
{
	perror(what);
	exit(1);
}

static void
say(struct conn *c, const char *text)
{
	c->out = (const uint8_t *)text;
	c->out_len = strlen(text);
}

/* ---- protocols: one line in, one answer out ---- */

static void
pop3_line(struct conn *c)
{
	if (strncmp(c->line, "CAPA", 4) == 0) {
		say(c, "+OK\r\nCAPA\r\nTOP\r\nUIDL\r\nRESP-CODES\r\n"
			"PIPELINING\r\nAUTH-RESP-CODE\r\nUSER\r\n.\r\n");
	} else if (strncmp(c->line, "USER", 4) == 0) {
		say(c, "+OK\r\n");
	} else if (strncmp(c->line, "PASS", 4) == 0) {
		say(c, "+OK Logged in.\r\n");
	} else if (strncmp(c->line, "STAT", 4) == 0) {
		say(c, "+OK 1 262144\r\n");
	} else if (strncmp(c->line, "RETR", 4) == 0) {
		c->out = retrieved;
		c->out_len = retrieved_len;
		c->service->messages++;
		c->service->message_octets += retrieved_len;
	} else if (strncmp(c->line, "QUIT", 4) == 0) {
		say(c, "+OK Logging out.\r\n");
		c->quit = true;
	} else {
		say(c, "-ERR Unknown command.\r\n");
	}
}

/* DONE has no tag: the one of IDLE is answered. */
static void
imap_line(struct conn *c)
{
	char *verb = strchr(c->line, ' ');
	const char *before = "";

	if (strncmp(c->line, "DONE", 4) != 0) {
		snprintf(c->tag, sizeof(c->tag), "%.*s", verb == NULL ? 0 :
			(int)(verb - c->line), c->line);
		verb = verb == NULL ? c->line : verb + 1;
		if (strncmp(verb, "IDLE", 4) == 0) {
			say(c, "+ idling\r\n");
			return;
		}
		if (strncmp(verb, "CAPABILITY", 10) == 0)
			before = "* CAPABILITY IMAP4rev1 IDLE AUTH=PLAIN\r\n";
		else if (strncmp(verb, "LOGOUT", 6) == 0)
			before = "* BYE Logging out.\r\n";
		c->quit = strncmp(verb, "LOGOUT", 6) == 0;
	}
	snprintf(c->answer, sizeof(c->answer), "%s%s OK Done.\r\n", before,
		c->tag);
	say(c, c->answer);
}

static void
smtp_line(struct conn *c)
{
	if (strncmp(c->line, "EHLO", 4) == 0) {
		say(c, "250-mx.alpha.example\r\n250-PIPELINING\r\n"
			"250-SIZE 10240000\r\n250-ENHANCEDSTATUSCODES\r\n"
			"250 8BITMIME\r\n");
	} else if (strncmp(c->line, "DATA", 4) == 0) {
		say(c, "354 End data with <CR><LF>.<CR><LF>\r\n");
		c->data = true;
		c->dot = 2;	/* the command's own CRLF counts */
	} else if (strncmp(c->line, "QUIT", 4) == 0) {
		say(c, "221 2.0.0 Bye\r\n");
		c->quit = true;
	} else if (strncmp(c->line, "MAIL", 4) == 0 ||
	    strncmp(c->line, "RCPT", 4) == 0) {
		say(c, "250 2.1.0 Ok\r\n");
	} else {
		say(c, "500 5.5.2 Unknown command\r\n");
	}
}

/* Octets of a mail; returns how many were its. */
static size_t
smtp_data(struct conn *c, const uint8_t *p, size_t n)
{
	static const char end[] = "\r\n.\r\n";

	for (size_t i = 0; i < n; i++) {
		if (p[i] == (uint8_t)end[c->dot])
			c->dot++;
		else
			c->dot = p[i] == '\r';
		if (c->dot < sizeof(end) - 1)
			continue;
		c->data = false;
		c->service->messages++;
		c->service->message_octets += i + 1;
		say(c, "250 2.0.0 Ok: queued\r\n");
		return i + 1;
	}
	c->service->message_octets += n;
	return n;
}

static void
take(struct conn *c, const uint8_t *p, size_t n)
{
	c->service->received += n;
	while (n > 0) {
		const uint8_t *end;
		size_t used;

		if (c->data) {
			used = smtp_data(c, p, n);
			p += used;
			n -= used;
			continue;
		}
		end = memchr(p, '\n', n);
		used = end == NULL ? n : (size_t)(end - p) + 1;
		if (c->line_len + used < sizeof(c->line)) {
			memcpy(c->line + c->line_len, p, used);
			c->line_len += used;
			c->line[c->line_len] = '\0';
		}
		p += used;
		n -= used;
		if (end == NULL)
			return;
		c->line_len = 0;
		if (c->service->smtp)
			smtp_line(c);
		else if (c->service->imap)
			imap_line(c);
		else
			pop3_line(c);
	}
}

/* ---- connections ---- */

static void
finish(struct conn *c, bool well)
{
	if (well)
		c->service->done++;
	else
		c->service->broken++;
	if (c->ssl != NULL) {
		if (well)
			(void)SSL_shutdown(c->ssl);
		SSL_free(c->ssl);
		ERR_clear_error();
	}
	close(c->fd);
	free(c);
}

/* 1: all is out, 0: the peer does not take more now, -1: gone. */
static int
flush(struct conn *c)
{
	while (c->out_len > 0) {
		ssize_t n;

		if (c->ssl != NULL) {
			int want = c->out_len > 16384 ? 16384 : (int)c->out_len;

			n = SSL_write(c->ssl, c->out, want);
			if (n <= 0)
				return SSL_get_error(c->ssl, (int)n) ==
					SSL_ERROR_WANT_WRITE ? 0 : -1;
		} else {
			n = send(c->fd, c->out, c->out_len, MSG_NOSIGNAL);
			if (n == -1)
				return errno == EAGAIN ? 0 : -1;
		}
		c->out += n;
		c->out_len -= (size_t)n;
		c->service->sent += (unsigned long long)n;
	}
	return 1;
}

/* Octets, 0: none now, -1: the end. */
static ssize_t
fill(struct conn *c, uint8_t *p, size_t cap)
{
	ssize_t n;

	if (c->ssl != NULL) {
		n = SSL_read(c->ssl, p, (int)cap);
		if (n > 0)
			return n;
		return SSL_get_error(c->ssl, (int)n) == SSL_ERROR_WANT_READ ?
			0 : -1;
	}
	n = recv(c->fd, p, cap, 0);
	if (n > 0)
		return n;
	return n == -1 && errno == EAGAIN ? 0 : -1;
}

/* 1: done, 0: not yet, -1: failed. */
static int
handshake(struct conn *c)
{
	int result = SSL_do_handshake(c->ssl);

	if (result != 1)
		return SSL_get_error(c->ssl, result) == SSL_ERROR_WANT_READ ?
			0 : -1;
	if (SSL_session_reused(c->ssl))
		c->service->resumed++;
	else
		c->service->full++;
	return 1;
}

static void
drive(struct conn *c)
{
	static uint8_t in[65536];
	ssize_t n;
	int result;

	ERR_clear_error();
	if (c->ssl != NULL && !SSL_is_init_finished(c->ssl)) {
		result = handshake(c);
		if (result == -1)
			finish(c, false);
		if (result != 1)
			return;
	}
	if (!c->greeted) {
		c->greeted = true;
		say(c, c->service->smtp ? "220 mx.alpha.example ESMTP\r\n" :
			c->service->imap ? "* OK [CAPABILITY IMAP4rev1 IDLE "
			"AUTH=PLAIN] ready\r\n" :
			"+OK POP3 ready <1.1.1@mail.isp.example>\r\n");
	}
	for (;;) {
		result = flush(c);
		if (result == -1 || (result == 1 && c->quit)) {
			finish(c, result == 1);
			return;
		}
		if (result == 0)
			return;
		n = fill(c, in, sizeof(in));
		if (n == -1) {
			finish(c, false);
			return;
		}
		if (n == 0)
			return;
		take(c, in, (size_t)n);
	}
}

static void
on_accept(struct service *s)
{
	int fd, one = 1;

	while ((fd = accept4(s->fd, NULL, NULL, SOCK_NONBLOCK)) != -1) {
		struct conn *c = calloc(1, sizeof(*c));
		struct epoll_event ev = {
			.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c
		};

		if (c == NULL)
			die("calloc");
		c->service = s;
		c->fd = fd;
		s->accepted++;
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one,
			sizeof(one));
		if (s->tls != NULL) {
			c->ssl = SSL_new(s->tls);
			if (c->ssl == NULL)
				die("SSL_new");
			SSL_set_fd(c->ssl, fd);
			SSL_set_accept_state(c->ssl);
		}
		/* the poller keeps c: NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
		if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &ev) == -1)
			die("epoll_ctl");
	}
}

/* ---- start ---- */

static SSL_CTX *
tls(const char *chain, bool tickets)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());

	if (ctx == NULL || SSL_CTX_use_certificate_chain_file(ctx, chain) != 1 ||
	    SSL_CTX_use_PrivateKey_file(ctx, chain, SSL_FILETYPE_PEM) != 1) {
		ERR_print_errors_fp(stderr);
		exit(1);
	}
	SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION);
	SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE |
		SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	if (!tickets)
		SSL_CTX_set_num_tickets(ctx, 0);
	return ctx;
}

static void
add_service(char *text, const char *chain)
{
	struct service *s = &services[n_services++];
	char *address = strchr(text, ':');
	char *port = address == NULL ? NULL : strchr(address + 1, ':');
	struct sockaddr_in sin = { .sin_family = AF_INET };
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = s };
	int one = 1;

	if (port == NULL) {
		fprintf(stderr, "server: not SERVICE:ADDRESS:PORT: %s\n", text);
		exit(2);
	}
	*address++ = *port++ = '\0';
	s->name = text;
	s->smtp = strcmp(text, "smtp") == 0;
	s->imap = strcmp(text, "imaps") == 0;
	if (!s->smtp)
		s->tls = tls(chain, strcmp(text, "pop3s-cold") != 0);
	sin.sin_port = htons((uint16_t)strtoul(port, NULL, 10));
	if (inet_pton(AF_INET, address, &sin.sin_addr) != 1)
		die(address);
	s->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	if (s->fd == -1 || setsockopt(s->fd, SOL_SOCKET, SO_REUSEADDR, &one,
		sizeof(one)) == -1 ||
	    bind(s->fd, (struct sockaddr *)&sin, sizeof(sin)) == -1 ||
	    listen(s->fd, 4096) == -1)
		die("listen");
	if (epoll_ctl(poller, EPOLL_CTL_ADD, s->fd, &ev) == -1)
		die("epoll_ctl");
}

static void
tell(void)
{
	printf("{");
	for (unsigned i = 0; i < n_services; i++) {
		const struct service *s = &services[i];

		printf("%s\"%s\": {\"accepted\": %lu, \"done\": %lu, "
			"\"broken\": %lu, \"full\": %lu, \"resumed\": %lu, "
			"\"received\": %llu, \"sent\": %llu, "
			"\"messages\": %lu, \"message_octets\": %llu}",
			i > 0 ? ", " : "", s->name, s->accepted, s->done,
			s->broken, s->full, s->resumed, s->received, s->sent,
			s->messages, s->message_octets);
	}
	printf("}\n");
	fflush(stdout);
}

static void
make_retrieved(size_t size)
{
	static const char head[] = "+OK message follows\r\n";
	uint8_t *message = message_make(size);

	retrieved = malloc(sizeof(head) - 1 + size + 3);
	if (message == NULL || retrieved == NULL)
		die("malloc");
	memcpy(retrieved, head, sizeof(head) - 1);
	memcpy(retrieved + sizeof(head) - 1, message, size);
	memcpy(retrieved + sizeof(head) - 1 + size, ".\r\n", 3);
	retrieved_len = sizeof(head) - 1 + size + 3;
	free(message);
}

static void
handle(void *what)
{
	char asked[64];

	if (what == NULL) {
		if (read(0, asked, sizeof(asked)) <= 0)
			exit(0);
		tell();
	} else if ((struct service *)what >= services &&
	    (struct service *)what < services + n_services) {
		on_accept(what);
	} else {
		drive(what);
	}
}

int
main(int argc, char **argv)
{
	struct epoll_event ev[256], input = { .events = EPOLLIN };
	struct rlimit limit;

	if (argc < 4 || argc > 3 + SERVICES_MAX) {
		fprintf(stderr, "usage: server CHAIN.pem RETR-OCTETS "
			"SERVICE:ADDRESS:PORT ...\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
	make_retrieved(strtoul(argv[2], NULL, 10));
	poller = epoll_create1(0);
	if (poller == -1 || epoll_ctl(poller, EPOLL_CTL_ADD, 0, &input) == -1)
		die("epoll");
	for (int i = 3; i < argc; i++)
		add_service(argv[i], argv[1]);
	tell();
	for (;;) {
		int n = epoll_wait(poller, ev, 256, -1);

		for (int i = 0; i < n; i++)
			handle(ev[i].data.ptr);
	}
}
