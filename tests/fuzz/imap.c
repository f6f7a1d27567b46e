/*
 * imap.c - fuzz target: an IMAP client and its server
 *
 * Records as tests/drive.h reads them; the first octet chooses the server's
 * mode and whether its plain port offers STARTTLS. Until the login: lines
 * without NUL or bare CR on both sides; our own words to the server are
 * STARTTLS or CAPABILITY with a tag; no command STARTTLS of the client's reaches
 * the server it is wrapped to; no line for the client names a capability
 * STARTTLS that is not offered, or a "-PLUS" mechanism; what we say at the end
 * is [UNAVAILABLE].
 */
#include <stdint.h>
#include <strings.h>

#include "proxyd/imap.h"
#include "tests/drive.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct server_conf server[] = {
	{ .name = (char[]){ "imap" }, .imap = { TLS_IMPLICIT, 993 } },
	{ .name = (char[]){ "imap" }, .imap = { TLS_STARTTLS, 143 } },
	{ .name = (char[]){ "imap" }, .imap = { TLS_PLAIN, 143 } },
};

static bool
has_plus(const struct imap_response *r)
{
	for (size_t i = 0; i + 5 < r->list_len; i++)
		if (strncasecmp((const char *)r->list + i, "AUTH=", 5) == 0 &&
		    (i == 0 || r->list[i - 1] == ' ')) {
			size_t end = i + 5;

			while (end < r->list_len && r->list[end] != ' ')
				end++;
			if (end - i >= 10 && strncasecmp((const char *)
				r->list + end - 5, "-PLUS", 5) == 0)
				return true;
		}
	return false;
}

/* The line before this one ended in a literal: this one is no response. */
static bool in_line;

static void
look_at_client(const struct drive *d, const struct sink *k)
{
	struct imap_response r;
	struct line sent;

	DRIVE_CHECK(frame_line(k->p, k->len, &sent) == 1);
	DRIVE_CHECK((sent.flags & (LINE_NUL | LINE_BARE_CR)) == 0);
	DRIVE_CHECK(sent.total == k->len);
	if (in_line)
		return;
	DRIVE_CHECK(imap_response(&sent, &r));
	if (r.list == NULL)
		return;
	DRIVE_CHECK(!has_plus(&r));
	DRIVE_CHECK(d->m.offer == OFFER_STARTTLS ||
		!imap_list_has(r.list, r.list_len, "STARTTLS"));
}

static void
look(struct drive *d, enum side from, const struct line *l,
	enum smtp_state before, const struct sink out[2])
{
	const struct sink *k = &out[SERVER];
	struct imap_command c;
	struct line sent;

	if (l == NULL)
		return;
	if (out[CLIENT].len > 0)
		look_at_client(d, &out[CLIENT]);
	in_line = d->m.u.imap.in_line;
	if (k->len == 0)
		return;
	DRIVE_CHECK(frame_line(k->p, k->len, &sent) == 1);
	DRIVE_CHECK((sent.flags & (LINE_NUL | LINE_BARE_CR)) == 0);
	DRIVE_CHECK(sent.total == k->len);
	if (from == SERVER)
		DRIVE_CHECK(imap_command(&sent, &c));
	else if ((int)before == IMAP_READY)
		DRIVE_CHECK(imap_command(&sent, &c) &&
			c.verb != IMAP_STARTTLS &&
			!(d->m.context->needs_tls && (c.verb == IMAP_LOGIN ||
			c.verb == IMAP_AUTHENTICATE)));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct context x = { .gateway = "gw1", .id = "ID0" };
	unsigned choice = size > 0 ? data[0] : 0;
	struct drive d;
	size_t before;

	in_line = false;
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
	imap_init(&d.m, &x);
	drive_records(&d, data + (size > 0), size - (size > 0));
	before = d.out[CLIENT].len;
	d.closed = false;
	drive_fail(&d, REASON_SERVER_TIMEOUT, "");
	if (d.out[CLIENT].len > before) {
		drive_append(&d.out[CLIENT], "", 1);
		DRIVE_CHECK(strstr((const char *)d.out[CLIENT].p + before,
			" [UNAVAILABLE] ") != NULL);
	}
	drive_close(&d);
	return 0;
}
