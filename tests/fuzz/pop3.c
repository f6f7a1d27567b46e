/*
 * pop3.c - fuzz target: a POP3 client and its server
 *
 * Records as tests/drive.h reads them. Until the login each side gets whole
 * lines without NUL or bare CR; STLS never reaches either side as a command or
 * capability, a "-PLUS" mechanism never the client; whatever we say by
 * ourselves at the end is one [SYS/TEMP] line.
 */
#include <stdint.h>
#include <strings.h>

#include "tests/drive.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct server_conf server = {
	.name = (char[]){ "pop" }, .pop3 = { TLS_IMPLICIT, 995 },
};

/* The list that runs is an answer to CAPA. */
static bool is_capa;

static bool
contains(const struct line *l, const char *word)
{
	size_t n = strlen(word);

	for (size_t i = 0; i + n <= l->len; i++)
		if (strncasecmp((const char *)l->text + i, word, n) == 0)
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

	if (from == CLIENT && (int)before != POP3_AUTH_CLIENT)
		is_capa = l->len >= 4 &&
			strncasecmp((const char *)l->text, "CAPA", 4) == 0;
	if (k->len == 0)
		return;
	DRIVE_CHECK(frame_line(k->p, k->len, &sent) == 1);
	DRIVE_CHECK(sent.total == k->len);
	DRIVE_CHECK((sent.flags & (LINE_NUL | LINE_BARE_CR)) == 0);
	const char *text = (const char *)sent.text;
	bool is_stls = sent.len >= 4 && strncasecmp(text, "STLS", 4) == 0 &&
		(sent.len == 4 || text[4] == ' ');
	if (from == CLIENT && (int)before != POP3_AUTH_CLIENT)
		DRIVE_CHECK(!is_stls);
	if ((int)before == POP3_LIST && is_capa) {
		DRIVE_CHECK(!is_stls);
		DRIVE_CHECK(sent.len < 5 || strncasecmp(text, "SASL ", 5) != 0 ||
			!contains(&sent, "-PLUS"));
	}
	(void)d;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct context x = { .gateway = "gw1", .server = &server, .id = "ID0" };
	struct drive d;
	size_t before;

	is_capa = false;
	drive_open(&d);
	d.look = look;
	pop3_init(&d.m, &x);
	drive_records(&d, data, size);
	before = d.out[CLIENT].len;
	d.closed = false;
	drive_fail(&d, REASON_SERVER_TIMEOUT, "");
	if (d.out[CLIENT].len > before)
		DRIVE_CHECK(memcmp(d.out[CLIENT].p + before,
			"-ERR [SYS/TEMP] ", 16) == 0);
	drive_close(&d);
	return 0;
}
