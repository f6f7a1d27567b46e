/*
 * pop3.c - fuzz target: a POP3 client and its server
 *
 * Records as tests/drive.h reads them. Until the login each side gets whole
 * lines without NUL or bare CR; no command STLS of the client's reaches the
 * server it is wrapped to; STLS is shown exactly when the plain port has it, a
 * "-PLUS" mechanism never; whatever we say by ourselves at the end is one
 * [SYS/TEMP] line. Of a published server no login reaches it before TLS. The first
 * octet chooses the server's mode, the answer and the client's leg.
 */
#include <stdint.h>
#include <strings.h>

#include "tests/drive.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct server_conf server[] = {
	{ .name = (char[]){ "pop" }, .pop3 = { TLS_IMPLICIT, 995 } },
	{ .name = (char[]){ "pop" }, .pop3 = { TLS_STARTTLS, 110 } },
	{ .name = (char[]){ "pop" }, .pop3 = { TLS_PLAIN, 110 } },
};

/* The list that runs is an answer to CAPA. */
static bool is_capa;

static bool
has_plus(const struct line *l)
{
	for (size_t i = 0; i + 5 <= l->len; i++)
		if (strncasecmp((const char *)l->text + i, "-PLUS", 5) == 0 &&
		    (i + 5 == l->len || l->text[i + 5] == ' '))
			return true;
	return false;
}

static bool
is_login(const struct line *l)
{
	static const char *const verb[] = { "USER", "PASS", "APOP", "AUTH" };

	for (size_t i = 0; i < sizeof(verb) / sizeof(verb[0]); i++)
		if (l->len > 4 && l->text[4] == ' ' && strncasecmp((const char *)
			l->text, verb[i], 4) == 0)
			return true;
	return false;
}

/* The state is the machine's own, whatever the common caller calls it. */
static void
look(struct drive *d, enum side from, const struct line *l,
	enum smtp_state before, const struct sink out[2])
{
	enum side to = from == CLIENT ? SERVER : CLIENT;
	const struct sink *k = &out[to];
	struct line sent;

	/* words of our own towards the server */
	if (from == SERVER && out[SERVER].len > 0)
		DRIVE_CHECK(out[SERVER].len == 6 &&
			memcmp(out[SERVER].p, "STLS\r\n", 6) == 0);
	if (from == CLIENT && (int)before != POP3_AUTH_CLIENT)
		is_capa = l->len >= 4 &&
			strncasecmp((const char *)l->text, "CAPA", 4) == 0;
	if (k->len == 0)
		return;
	DRIVE_CHECK(frame_line(k->p, k->len, &sent) == 1);
	if (d->m.offer == OFFER_STARTTLS && (int)before == POP3_LIST &&
	    is_capa && sent.total == 6 && k->len == 9) {
		DRIVE_CHECK(memcmp(k->p, "STLS\r\n.\r\n", 9) == 0);
		return;
	}
	DRIVE_CHECK(sent.total == k->len);
	DRIVE_CHECK((sent.flags & (LINE_NUL | LINE_BARE_CR)) == 0);
	const char *text = (const char *)sent.text;
	bool is_stls = sent.len >= 4 && strncasecmp(text, "STLS", 4) == 0 &&
		(sent.len == 4 || text[4] == ' ');
	if (from == CLIENT && (int)before != POP3_AUTH_CLIENT)
		DRIVE_CHECK(!is_stls);
	if (from == CLIENT && d->m.context->needs_tls)
		DRIVE_CHECK(!is_login(&sent));
	if ((int)before == POP3_LIST && is_capa) {
		DRIVE_CHECK(!is_stls);
		DRIVE_CHECK(sent.len < 5 || strncasecmp(text, "SASL ", 5) != 0 ||
			!has_plus(&sent));
	}
}

/* What is remembered of a login can stand in a command. */
static void
accepted(void *arg, const char *user)
{
	(void)arg;
	DRIVE_CHECK(user[0] != '\0' && strlen(user) <= POP_USER_MAX);
	for (; *user != '\0'; user++)
		DRIVE_CHECK(*user > ' ' && *user < 0x7f);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pop_login login = { .accepted = accepted };
	struct context x = { .gateway = "gw1", .id = "ID0",
		.pop_login = &login };
	unsigned choice = size > 0 ? data[0] : 0;
	struct drive d;
	size_t before;

	is_capa = false;
	x.server = &server[choice % 3];
	if (choice & 8) {
		x.server = &server[2];
		x.is_published = true;
		x.offers_tls = choice & 16;
		x.needs_tls = x.offers_tls && (choice & 32);
		x.greeted = !x.offers_tls && (choice & 32);
	}
	drive_open(&d);
	d.look = look;
	d.offer = choice & 4 ? OFFER_STARTTLS : OFFER_NONE;
	pop3_init(&d.m, &x);
	drive_records(&d, data + (size > 0), size - (size > 0));
	before = d.out[CLIENT].len;
	d.closed = false;
	drive_fail(&d, REASON_SERVER_TIMEOUT, "");
	if (d.out[CLIENT].len > before)
		DRIVE_CHECK(memcmp(d.out[CLIENT].p + before,
			"-ERR [SYS/TEMP] ", 16) == 0);
	drive_close(&d);
	return 0;
}
