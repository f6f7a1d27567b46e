/*
 * stall.c - unit tests of proxyd/session.c: submit whose peers stall or leave
 *
 * The real session, machine and TLS, with the clock in the test's hands
 * (tests/clock.h): a server with a certificate of its own at the other end. One
 * row for each state that a session can be in while it waits for somebody: how
 * long it waits (DESIGN.md section 6), what the client then reads, and what it
 * reads when that peer just goes away. In none of them is a message
 * acknowledged, or finished at the server, that the other side did not finish.
 */
#include "tests/clock.h"

#include <openssl/err.h>
#include <signal.h>

#include "proxyd/tls.h"
#include "tests/cert.h"

#define NAME "mail.isp.example"
#define N(a) (sizeof(a) / sizeof((a)[0]))

static char trust[] = "/tmp/sallyport-stall-XXXXXX";
static EVP_PKEY *key;
static X509 *cert;
static SSL_CTX *ctx;
static SSL *inside;		/* the server's end; NULL: in clear */
/* Everything each of them got, and how much of it was expected. */
static struct heard {
	char text[1 << 22];
	size_t n, seen;
} client, served;

static struct prefix everybody;
static struct class_conf class = {
	.name = (char[]){ "legacy" }, .port25 = ACTION_SUBMIT,
	.effective = ACTION_SUBMIT, .line_len6 = 56,
	.prefixes = &everybody, .nprefixes = 1,
};

/* ---- both ends ---- */

static void
listen_to(struct heard *h, int fd, SSL *ssl)
{
	size_t room = sizeof(h->text) - 1 - h->n;
	ssize_t n;

	ERR_clear_error();
	while (room > 0 && fd != -1 && (n = ssl != NULL ?
		SSL_read(ssl, h->text + h->n, (int)room) :
		read(fd, h->text + h->n, room)) > 0) {
		h->n += (size_t)n;
		room -= (size_t)n;
		turn();
	}
	h->text[h->n] = '\0';
}

/* In clear the server reads when the script says so: a ClientHello is no text. */
static void
listen_all(void)
{
	turn();
	listen_to(&client, client_fd, NULL);
	if (inside != NULL)
		listen_to(&served, server_fd, inside);
}

/* The server's side of the handshake. */
static void
handshake(void)
{
	int rc = 0;

	inside = SSL_new(ctx);
	SSL_set_fd(inside, server_fd);
	SSL_set_accept_state(inside);
	for (int i = 0; i < 20 && rc != 1; i++) {
		ERR_clear_error();
		rc = SSL_do_handshake(inside);
		turn();
	}
	assert_int_equal(rc, 1);
}

static void
put(bool to_client_side, const char *text, size_t n)
{
	ssize_t rc = !to_client_side && inside != NULL ?
		SSL_write(inside, text, (int)n) :
		write(to_client_side ? client_fd : server_fd, text, n);

	assert_int_equal(rc, n);
	listen_all();
}

/* Send until nothing more is taken: nobody reads at the other end. */
static void
pour(void)
{
	static const char line[] = "0123456789012345678901234567890123456789\r\n";
	bool any = true;

	while (any) {
		any = false;
		while (write(client_fd, line, sizeof(line) - 1) > 0)
			any = true;
		turn();
	}
}

/* ---- scripts ----
 *
 *	"C text" "S text"  one of them sends text and CRLF
 *	"X text"           the client sends exactly text
 *	"c text" "s text"  it gets text and CRLF, next
 *	"T"                the server's handshake
 *	"P"                the client sends, and the server does not read
 */

static bool
has_got(struct heard *h, const char *text)
{
	size_t n = strlen(text);

	if (strncmp(h->text + h->seen, text, n) != 0 ||
	    strncmp(h->text + h->seen + n, "\r\n", 2) != 0)
		return false;
	h->seen += n + 2;
	return true;
}

static bool
step(const char *what)
{
	char line[256];
	int n = snprintf(line, sizeof(line), "%s\r\n", what[1] == ' ' ?
		what + 2 : "");

	switch (what[0]) {
	case 'C': case 'S':
		put(what[0] == 'C', line, (size_t)n);
		return true;
	case 'X':
		put(true, line, (size_t)n - 2);
		return true;
	case 'c':
		return has_got(&client, what + 2);
	case 's':
		listen_to(&served, server_fd, inside);
		return has_got(&served, what + 2);
	case 'T':
		handshake();
		listen_all();
		return true;
	default:
		pour();
		return true;
	}
}

#define GREETING "c 220 " NAME " ESMTP"
#define HELLO GREETING, "C EHLO pc"
#define LISTED HELLO, "T", "S 220 real", "s EHLO pc", \
	"S 250-real\r\n250-CHUNKING\r\n250 AUTH PLAIN LOGIN", \
	"c 250-" NAME, "c 250-CHUNKING", "c 250 AUTH PLAIN LOGIN"
#define CLEAR HELLO, "S 220 real", "s EHLO gw1.isp.example"
#define LOGIN LISTED, "C AUTH PLAIN AGEAYg==", "s AUTH PLAIN AGEAYg=="
#define INSIDE LOGIN, "S 235 In", "c 235 In"
#define TOLD(line, answer) "C " line, "s " line, "S " answer, "c " answer
#define SENDER INSIDE, TOLD("MAIL FROM:<a@b>", "250 a")
#define BOTH SENDER, TOLD("RCPT TO:<c@d>", "250 c")
#define BODY BOTH, TOLD("DATA", "354 Go")
#define SILENT "421 4.4.2 " NAME ": is silent"
#define CLOSED "421 4.4.2 " NAME ": closed the connection"
#define WAITED "421 4.4.2 " NAME ": waited too long for you"

struct row {
	const char *name;
	int dial;
	enum tls_mode mode;
	int seconds;
	const char *stalled, *left;	/* what the client reads, begins */
	enum reason reason;		/* of the stall */
	const char *script[64];
};

/* The server's turn: it says nothing more, or closes. */
static const struct row of_server[] = {
	{ "no socket", DIAL_NO_SOCKET, TLS_IMPLICIT, 5,
	  "421 4.3.2 " NAME ": cannot be dialled just now", NULL,
	  REASON_NO_SOCKET, { HELLO, NULL } },
	{ "connect", DIAL_HANGS, TLS_IMPLICIT, 5,
	  "421 4.4.1 " NAME ": does not answer", NULL, REASON_CONNECT_TIMEOUT,
	  { HELLO, NULL } },
	{ "TLS handshake", DIAL_GOES, TLS_IMPLICIT, 10,
	  "421 4.7.5 " NAME ": TLS handshake timed out",
	  "421 4.7.5 " NAME ": TLS failed", REASON_TLS_TIMEOUT,
	  { HELLO, NULL } },
	{ "greeting", DIAL_GOES, TLS_IMPLICIT, 25, SILENT, CLOSED,
	  REASON_SERVER_TIMEOUT, { HELLO, "T", NULL } },
	{ "list", DIAL_GOES, TLS_IMPLICIT, 25, SILENT, CLOSED,
	  REASON_SERVER_TIMEOUT, { HELLO, "T", "S 220 real", "s EHLO pc",
	  NULL } },
	{ "half a list", DIAL_GOES, TLS_IMPLICIT, 25, SILENT, CLOSED,
	  REASON_SERVER_TIMEOUT, { HELLO, "T", "S 220 real", "s EHLO pc",
	  "S 250-real", NULL } },
	{ "greeting in clear", DIAL_GOES, TLS_STARTTLS, 25, SILENT, CLOSED,
	  REASON_SERVER_TIMEOUT, { HELLO, NULL } },
	{ "list in clear", DIAL_GOES, TLS_STARTTLS, 25, SILENT, CLOSED,
	  REASON_SERVER_TIMEOUT, { CLEAR, NULL } },
	{ "STARTTLS", DIAL_GOES, TLS_STARTTLS, 25, SILENT, CLOSED,
	  REASON_SERVER_TIMEOUT, { CLEAR, "S 250-real\r\n250 STARTTLS",
	  "s STARTTLS", NULL } },
	{ "handshake behind STARTTLS", DIAL_GOES, TLS_STARTTLS, 10,
	  "421 4.7.5 " NAME ": TLS handshake timed out",
	  "421 4.7.5 " NAME ": TLS failed", REASON_TLS_TIMEOUT,
	  { CLEAR, "S 250-real\r\n250 STARTTLS", "s STARTTLS", "S 220 go",
	  NULL } },
	{ "AUTH", DIAL_GOES, TLS_IMPLICIT, 300, SILENT, CLOSED,
	  REASON_SERVER_TIMEOUT, { LOGIN, NULL } },
	{ "AUTH, first", DIAL_GOES, TLS_IMPLICIT, 300, SILENT, CLOSED,
	  REASON_SERVER_TIMEOUT, { LISTED, "C AUTH LOGIN", "s AUTH LOGIN",
	  NULL } },
	{ "AUTH, second", DIAL_GOES, TLS_IMPLICIT, 300, SILENT, CLOSED,
	  REASON_SERVER_TIMEOUT, { LISTED, TOLD("AUTH LOGIN", "334 VXNl"),
	  "C dXNl", "s dXNl", NULL } },
	{ "AUTH, third", DIAL_GOES, TLS_IMPLICIT, 300, SILENT, CLOSED,
	  REASON_SERVER_TIMEOUT, { LISTED, TOLD("AUTH LOGIN", "334 VXNl"),
	  TOLD("dXNl", "334 UGFz"), "C cGFz", "s cGFz", NULL } },
	{ "EHLO again", DIAL_GOES, TLS_IMPLICIT, 300, SILENT, CLOSED,
	  REASON_SERVER_TIMEOUT, { INSIDE, "C EHLO pc", "s EHLO pc", NULL } },
	{ "NOOP", DIAL_GOES, TLS_IMPLICIT, 300, SILENT, CLOSED,
	  REASON_SERVER_TIMEOUT, { LISTED, "C NOOP", "s NOOP", NULL } },
	{ "MAIL", DIAL_GOES, TLS_IMPLICIT, 300, SILENT, CLOSED,
	  REASON_SERVER_TIMEOUT, { INSIDE, "C MAIL FROM:<a@b>",
	  "s MAIL FROM:<a@b>", NULL } },
	{ "RCPT", DIAL_GOES, TLS_IMPLICIT, 300, SILENT, CLOSED,
	  REASON_SERVER_TIMEOUT, { SENDER, "C RCPT TO:<c@d>",
	  "s RCPT TO:<c@d>", NULL } },
	{ "RSET", DIAL_GOES, TLS_IMPLICIT, 300, SILENT, CLOSED,
	  REASON_SERVER_TIMEOUT, { BOTH, "C RSET", "s RSET", NULL } },
	{ "DATA", DIAL_GOES, TLS_IMPLICIT, 300, SILENT, CLOSED,
	  REASON_SERVER_TIMEOUT, { BOTH, "C DATA", "s DATA", NULL } },
	{ "body, not read", DIAL_GOES, TLS_IMPLICIT, 180, SILENT, NULL,
	  REASON_SERVER_TIMEOUT, { BODY, "P", NULL } },
	{ "final reply", DIAL_GOES, TLS_IMPLICIT, 600,
	  "451 4.4.2 " NAME ": is silent",
	  "451 4.4.2 " NAME ": closed the connection", REASON_SERVER_TIMEOUT,
	  { BODY, "C x\r\n.", "s x", "s .", NULL } },
	/* no word behind it: some clients take the first line's code */
	{ "half a final reply", DIAL_GOES, TLS_IMPLICIT, 600, "", "",
	  REASON_SERVER_TIMEOUT, { BODY, "C x\r\n.", "s x", "s .",
	  "S 250-Qu", "c 250-Qu", NULL } },
	{ "chunk", DIAL_GOES, TLS_IMPLICIT, 300, SILENT, CLOSED,
	  REASON_SERVER_TIMEOUT, { BOTH, "C BDAT 4", "C ab", "s BDAT 4",
	  "s ab", NULL } },
	{ "chunk, not read", DIAL_GOES, TLS_IMPLICIT, 180, SILENT, NULL,
	  REASON_SERVER_TIMEOUT, { BOTH, "C BDAT 50000000 LAST",
	  "s BDAT 50000000 LAST", "P", NULL } },
	{ "last chunk", DIAL_GOES, TLS_IMPLICIT, 600,
	  "451 4.4.2 " NAME ": is silent",
	  "451 4.4.2 " NAME ": closed the connection", REASON_SERVER_TIMEOUT,
	  { BOTH, "C BDAT 4 LAST", "C ab", "s BDAT 4 LAST", "s ab", NULL } },
	{ "QUIT", DIAL_GOES, TLS_IMPLICIT, 300, SILENT, CLOSED,
	  REASON_SERVER_TIMEOUT, { LISTED, "C QUIT", "s QUIT", NULL } },
};

/* The client's turn. */
static const struct row of_client[] = {
	{ "EHLO", DIAL_GOES, TLS_IMPLICIT, 300, WAITED, "",
	  REASON_CLIENT_TIMEOUT, { GREETING, NULL } },
	{ "a command", DIAL_GOES, TLS_IMPLICIT, 300, WAITED, "",
	  REASON_CLIENT_TIMEOUT, { LISTED, NULL } },
	{ "half a command", DIAL_GOES, TLS_IMPLICIT, 300, WAITED, "",
	  REASON_CLIENT_TIMEOUT, { INSIDE, "X MAIL FR", NULL } },
	{ "AUTH's answer", DIAL_GOES, TLS_IMPLICIT, 300, WAITED, "",
	  REASON_CLIENT_TIMEOUT, { LISTED, TOLD("AUTH LOGIN", "334 VXNl"),
	  NULL } },
	{ "the message", DIAL_GOES, TLS_IMPLICIT, 180, WAITED, "",
	  REASON_CLIENT_TIMEOUT, { BODY, NULL } },
	{ "the rest of it", DIAL_GOES, TLS_IMPLICIT, 180, WAITED, "",
	  REASON_CLIENT_TIMEOUT, { BODY, "X one\r\n.", "s one", NULL } },
	{ "the rest of a chunk", DIAL_GOES, TLS_IMPLICIT, 180, WAITED, "",
	  REASON_CLIENT_TIMEOUT, { BOTH, "C BDAT 9 LAST", "C ab",
	  "s BDAT 9 LAST", "s ab", NULL } },
};

/* ---- a session in that state ---- */

static void
end(void)
{
	SSL_free(inside);
	inside = NULL;
	tls_free(&relay.tls);
	(void)teardown(NULL);
}

static void
reach(const struct row *row)
{
	(void)setup(NULL);
	assert_int_equal(lpm_add(conf.class_lpm, &everybody, 0, NULL), 0);
	client.n = client.seen = served.n = served.seen = 0;
	relay.tls = tls_new(trust, NULL, TLS1_2_VERSION);
	assert_non_null(relay.tls);
	server.submission = (struct endpoint){ row->mode, 465 };
	dial_how = row->dial;
	dialled(25);
	listen_all();
	for (const char *const *s = row->script; *s != NULL; s++)
		if (!step(*s))
			fail_msg("%s: \"%s\": client \"%s\", server \"%s\"",
				row->name, *s, client.text + client.seen,
				served.text + served.seen);
}

/* Both have got what the script says, and no more. */
static void
is_quiet(const struct row *row, const char *when)
{
	turn();
	listen_to(&client, client_fd, NULL);
	if (client.n != client.seen)
		fail_msg("%s, %s: the client has \"%s\"", row->name, when,
			client.text + client.seen);
	if (!is_alive() || reports != 0)
		fail_msg("%s, %s: it is over, %s", row->name, when,
			reason_word[last.reason]);
}

/* The end: what the client reads, that the server got nothing more of it, and
 * what the log says. A server that did not read reads now. */
static void
is_over(const struct row *row, const char *want, const char *how)
{
	size_t before = served.seen;

	listen_to(&client, client_fd, NULL);
	pass(30);
	listen_to(&client, client_fd, NULL);
	listen_to(&served, server_fd, inside);
	if (strncmp(client.text + client.seen, want, strlen(want)) != 0 ||
	    (want[0] == '\0' && client.n != client.seen))
		fail_msg("%s, %s: the client reads \"%s\"", row->name, how,
			client.text + client.seen);
	if (strstr(served.text + before, "\r\n.\r\n") != NULL ||
	    strstr(served.text + before, "QUIT") != NULL)
		fail_msg("%s, %s: the server has \"%s\"", row->name, how,
			served.text + before);
	if (is_alive() || reports != 1)
		fail_msg("%s, %s: it is not over", row->name, how);
	if (last.messages != 0 || strstr(client.text, "250 Que") != NULL)
		fail_msg("%s, %s: a message was acknowledged", row->name, how);
}

/* ---- the tables ---- */

static void
stalls(const struct row *row, size_t n)
{
	for (size_t i = 0; i < n; i++, row++) {
		reach(row);
		is_quiet(row, "at once");
		pass(row->seconds - 1);
		is_quiet(row, "a second before");
		pass(2);
		is_over(row, row->stalled, "stalled");
		if (last.reason != row->reason)
			fail_msg("%s: %s", row->name,
				reason_word[last.reason]);
		end();
	}
}

static void
server_stalls(void **state)
{
	(void)state;
	stalls(of_server, N(of_server));
}

static void
client_stalls(void **state)
{
	(void)state;
	stalls(of_client, N(of_client));
}

static void
server_leaves(void **state)
{
	(void)state;
	for (const struct row *row = of_server; row < of_server + N(of_server);
		row++) {
		if (row->left == NULL)
			continue;
		reach(row);
		close(server_fd);
		server_fd = -1;
		turn();
		is_over(row, row->left, "left");
		end();
	}
}

/* In the middle of a message: what is left of it is taken from the client and
 * goes nowhere; its end is answered by 451. */
static void
server_leaves_in_the_middle(void **state)
{
	static const struct {
		struct row row;
		unsigned lines;		/* of 42 octets that follow */
		const char *end;
	} rows[] = {
		{ { "body", DIAL_GOES, TLS_IMPLICIT, 0, "", "", REASON_NONE,
		    { BODY, "P", NULL } }, 30000, "X \r\n.\r\n" },
		{ { "body, read", DIAL_GOES, TLS_IMPLICIT, 0, "", "",
		    REASON_NONE, { BODY, "C x", "s x", NULL } }, 100, "C ." },
	};
	static const char line[] =
		"0123456789012345678901234567890123456789\r\n";

	(void)state;
	for (size_t i = 0; i < N(rows); i++) {
		reach(&rows[i].row);
		close(server_fd);
		server_fd = -1;
		turn();
		for (unsigned n = 0; n < rows[i].lines; ) {
			if (write(client_fd, line, sizeof(line) - 1) > 0)
				n++;
			else
				turn();
		}
		turn();
		assert_true(is_alive());
		assert_true(step(rows[i].end));
		is_over(&rows[i].row, "451 4.4.2 " NAME ": closed the",
			rows[i].row.name);
		end();
	}
}

static void
client_leaves(void **state)
{
	(void)state;
	for (const struct row *row = of_client; row < of_client + N(of_client);
		row++) {
		reach(row);
		close(client_fd);
		client_fd = -1;
		turn();
		is_over(row, row->left, "left");
		end();
	}
}

/* The limits are for a step, not for the session: one second less each time, and
 * the message is delivered. */
static void
patience(void **state)
{
	static const struct row row = { "patience", DIAL_GOES, TLS_IMPLICIT, 0,
		"", "", REASON_DONE, { GREETING, NULL } };
	static const struct {
		int seconds;
		const char *step;
	} steps[] = {
		{ 299, "C EHLO pc" }, { 9, "T" }, { 0, "S 220 real" },
		{ 0, "s EHLO pc" }, { 14, "S 250 AUTH PLAIN LOGIN CRAM-MD5" },
		{ 0, "c 250 " NAME },
	};
	static const struct {
		const char *line, *answer;
		int before, wait;
	} talk[] = {
		{ "NOOP", "250 x", 299, 299 },
		{ "RSET", "250 x", 299, 299 },
		{ "NOOP", "250 x", 299, 299 },
		{ "QUIT", "221 x", 299, 299 },
	};

	(void)state;
	reach(&row);
	for (size_t i = 0; i < N(steps); i++) {
		if (steps[i].seconds > 0)
			pass(steps[i].seconds);
		if (!step(steps[i].step))
			fail_msg("%s: \"%s\"", steps[i].step,
				client.text + client.seen);
	}
	for (size_t i = 0; i < N(talk); i++) {
		char said[80], heard[80];

		pass(talk[i].before);
		snprintf(said, sizeof(said), "C %s", talk[i].line);
		snprintf(heard, sizeof(heard), "s %s", talk[i].line);
		assert_true(step(said) && step(heard));
		pass(talk[i].wait);
		snprintf(said, sizeof(said), "S %s", talk[i].answer);
		snprintf(heard, sizeof(heard), "c %s", talk[i].answer);
		assert_true(step(said) && step(heard));
	}
	pass(10);
	assert_false(is_alive());
	assert_int_equal(last.reason, REASON_DONE);
	end();
}

/* A message that takes as long as it may at each step. */
static void
patient_message(void **state)
{
	static const struct row row = { "patient message", DIAL_GOES,
		TLS_IMPLICIT, 0, "", "", REASON_DONE, { BODY, NULL } };

	(void)state;
	reach(&row);
	for (int block = 0; block < 5; block++) {
		char line[256];

		pass(179);
		assert_true(is_alive());
		/* a block is 2048 octets: less is dripping */
		memset(line, 'x', sizeof(line));
		line[254] = '\r';
		line[255] = '\n';
		for (int i = 0; i < 9; i++)
			put(true, line, sizeof(line));
	}
	assert_true(step("C ."));
	pass(599);
	served.seen = served.n;
	assert_true(step("S 250 Queued") && step("c 250 Queued"));
	assert_int_equal(reports, 0);
	assert_true(step("C QUIT") && step("s QUIT") && step("S 221 x"));
	assert_true(step("c 221 x"));
	pass(10);
	assert_false(is_alive());
	assert_int_equal(last.messages, 1);
	end();
}

/* An octet now and then extends nothing: the limit is for the whole of it. */
static void
dripping(void **state)
{
	static const struct {
		struct row row;
		const char *drop;
		int seconds, drops;
	} rows[] = {
		{ { "a command", DIAL_GOES, TLS_IMPLICIT, 0, WAITED, "",
		    REASON_CLIENT_TIMEOUT, { LISTED, NULL } }, "X n", 60, 4 },
		{ { "a message", DIAL_GOES, TLS_IMPLICIT, 0, WAITED, "",
		    REASON_CLIENT_TIMEOUT, { BODY, NULL } }, "X x", 40, 4 },
		{ { "lines of a reply", DIAL_GOES, TLS_IMPLICIT, 0, "250-x\r\n",
		    "", REASON_SERVER_TIMEOUT, { LISTED, "C NOOP", "s NOOP",
		    NULL } }, "S 250-x", 60, 4 },
		{ { "lines of a list", DIAL_GOES, TLS_IMPLICIT, 0, SILENT, "",
		    REASON_SERVER_TIMEOUT, { HELLO, "T", "S 220 real",
		    "s EHLO pc", NULL } }, "S 250-x", 5, 4 },
	};

	(void)state;
	for (size_t i = 0; i < N(rows); i++) {
		reach(&rows[i].row);
		for (int n = 0; n < rows[i].drops; n++) {
			pass(rows[i].seconds);
			assert_true(is_alive() && step(rows[i].drop));
		}
		pass(rows[i].seconds + 2);
		is_over(&rows[i].row, rows[i].row.stalled, "dripping");
		if (last.reason != rows[i].row.reason)
			fail_msg("%s: %s", rows[i].row.name,
				reason_word[last.reason]);
		end();
	}
}

static int
setup_all(void **state)
{
	static char gateway[] = "gw1.isp.example", name[] = NAME;
	const char *why;

	(void)state;
	cert_make(NAME, &key, &cert);
	ctx = cert_server(trust, key, cert);
	assert_int_equal(prefix_parse(&everybody, "198.18.0.0/15", &why), 0);
	conf.classes = &class;
	conf.nclasses = 1;
	conf.name = gateway;
	conf.limits.commands = 100;
	conf.limits.errors = 20;
	conf.limits.command_time = 300;
	server.name = name;
	return 0;
}

static int
teardown_all(void **state)
{
	(void)state;
	unlink(trust);
	SSL_CTX_free(ctx);
	X509_free(cert);
	EVP_PKEY_free(key);
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(server_stalls),
		cmocka_unit_test(client_stalls),
		cmocka_unit_test(server_leaves),
		cmocka_unit_test(server_leaves_in_the_middle),
		cmocka_unit_test(client_leaves),
		cmocka_unit_test(patience),
		cmocka_unit_test(patient_message),
		cmocka_unit_test(dripping),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests_name("stall", tests, setup_all,
		teardown_all);
}
