/*
 * smtp_submit.c - fuzz target: a client and a submission server
 *
 * Records as tests/drive.h reads them; the first octet chooses how the server
 * is reached. Beside the promises every machine makes (drive.h): before TLS
 * nothing but EHLO and STARTTLS reaches the server; outside AUTH and a payload
 * it gets whole commands of known verbs, none about mail before its own 235;
 * behind a login by the line's account every MAIL has the account's sender;
 * a payload has no NUL, no bare CR or LF and ends where it should; a chunk goes
 * on as it came.
 */
#include <stdint.h>
#include <strings.h>

#include "tests/drive.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct server_conf server = { .name = (char[]){ "mail" } };

static struct account_conf account = { .name = (char[]){ "a" },
	.user = (char[]){ "u" }, .sender = (char[]){ "s@b.example" },
	.password_file = (char[]){ "f" } };

static bool
is_suspect(void *arg)
{
	(void)arg;
	return false;
}

static bool
find(void *arg, char user[POP_USER_MAX + 1])
{
	(void)arg;
	memcpy(user, "u=1", 4);
	return true;
}

/* What the look of one session remembers. */
static bool has_235, may_vouch;
static uint8_t last;

static bool
is_verb(const struct sink *k, const char *verb)
{
	size_t n = strlen(verb);

	return k->len > n && strncasecmp((const char *)k->p, verb, n) == 0 &&
		(k->p[n] == ' ' || k->p[n] == '\r');
}

static void
check_command(const struct sink *k)
{
	static const char *const open[] = { "EHLO", "STARTTLS", "AUTH", "RSET",
		"NOOP", "QUIT", "HELP" };
	static const char xclient[] = "XCLIENT ADDR=192.0.2.7 PORT=4711 ";
	static const char *const mail[] = { "MAIL", "RCPT", "DATA", "BDAT",
		"VRFY", "EXPN" };
	bool known = false;

	for (size_t i = 0; i < sizeof(open) / sizeof(open[0]); i++)
		known = known || is_verb(k, open[i]);
	for (size_t i = 0; has_235 && i < sizeof(mail) / sizeof(mail[0]); i++)
		known = known || is_verb(k, mail[i]);
	/* Ours, never the client's. */
	if (k->len == 21 && memcmp(k->p, "XCLIENT LOGIN=u+3D1\r\n", 21) == 0)
		known = server.xclient && may_vouch;
	if (k->len > 21 && memcmp(k->p, xclient, 21) == 0)
		known = server.xclient;
	DRIVE_CHECK(known);
}

/* Of a session whose line has an account. */
static void
check_sender(const struct account_use *use, const struct sink *k)
{
	static const char mail[] = "MAIL FROM:<s@b.example>";
	const size_t n = sizeof(mail) - 1;

	if (use == NULL || !use->is_ours || !is_verb(k, "MAIL"))
		return;
	DRIVE_CHECK(k->len > n && memcmp(k->p, mail, n) == 0);
	DRIVE_CHECK(k->p[n] == ' ' || k->p[n] == '\r');
}

static void
check_payload(const struct sink *k)
{
	for (size_t i = 0; i < k->len; i++) {
		DRIVE_CHECK(k->p[i] != '\0');
		DRIVE_CHECK((k->p[i] == '\n') == (last == '\r'));
		last = k->p[i];
	}
}

static void
look(struct drive *d, enum side from, const struct line *l,
	enum smtp_state before, const struct sink out[2])
{
	const struct sink *k = &out[SERVER];

	if (from == SERVER && l->len >= 3 && memcmp(l->text, "235", 3) == 0)
		has_235 = true;
	/* the word of a POP3 login, and the list behind it */
	if (from == SERVER && before == SMTP_POP_EHLO && d->m.u.smtp.has_auth)
		has_235 = true;
	if (l == NULL && before == SMTP_CHUNK) {
		/* as it came, and never more than was announced */
		DRIVE_CHECK(k->len == 0 || memcmp(k->p, d->in[CLIENT].p +
			d->in[CLIENT].seen, k->len) == 0);
		return;
	}
	if (l == NULL && before != SMTP_DATA) {
		DRIVE_CHECK(k->len == 0);
		return;
	}
	if (l == NULL) {
		check_payload(k);
		if (d->m.u.smtp.state == SMTP_FINAL)
			DRIVE_CHECK(k->len >= 3 &&
				memcmp(k->p + k->len - 3, ".\r\n", 3) == 0);
		return;
	}
	last = '\n';
	if (d->m.u.smtp.state == SMTP_DATA && before != SMTP_DATA)
		last = 0;
	if (k->len == 0)
		return;
	DRIVE_CHECK(k->len >= 2 && k->p[k->len - 2] == '\r');
	DRIVE_CHECK(memchr(k->p, '\n', k->len) == k->p + k->len - 1);
	DRIVE_CHECK(memchr(k->p, '\r', k->len) == k->p + k->len - 2);
	DRIVE_CHECK(memchr(k->p, '\0', k->len) == NULL);
	check_sender(d->m.context->account, k);
	if (before == SMTP_ACCOUNT && k->len == 2)
		return;		/* XOAUTH2's empty line */
	if (before != SMTP_AUTH_CLIENT)
		check_command(k);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct account_use use = { .conf = &account, .is_suspect = is_suspect };
	struct pop_use pop = { .find = find };
	static char hello[HELLO_MAX];
	struct context x = { .gateway = "gw1", .server = &server, .id = "ID0",
		.hello = hello };
	struct drive d;

	if (size == 0)
		return 0;
	server.submission = data[0] & 1 ?
		(struct endpoint){ TLS_STARTTLS, 587 } :
		(struct endpoint){ TLS_IMPLICIT, 465 };
	server.starttls = data[0] & 2 ? 0 : 587;
	x.strict = (data[0] & 4) != 0;
	server.xclient = (data[0] & 8) != 0;
	x.account = data[0] & 16 ? &use : NULL;
	may_vouch = data[0] >= 0xe0 && x.account == NULL;
	x.pop = may_vouch ? &pop : NULL;
	account.mechanism = (enum account_mechanism)(data[0] >> 5);
	if (account.mechanism >= MECHANISM_XOAUTH2)
		account.mechanism = MECHANISM_AUTO;
	account.token_file = data[0] >> 5 == MECHANISM_XOAUTH2 ?
		account.password_file : NULL;
	DRIVE_CHECK(addr_parse(&x.src, "192.0.2.7:4711") == 0);
	has_235 = false;
	last = 0;
	drive_open(&d);
	d.guard = true;
	d.look = look;
	d.answers = true;
	smtp_submit_init(&d.m, &x);
	drive_records(&d, data + 1, size - 1);
	drive_close(&d);
	return 0;
}
