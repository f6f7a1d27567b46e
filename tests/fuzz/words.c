/*
 * words.c - fuzz target: single lines of SMTP, and whose connection it is
 *
 * The first octet seeds two addresses. The rest is read as one line: as a reply,
 * beside a reader of RFC 5321's section 4.2 and RFC 3463's section 2 written
 * here; as a server's list of XCLIENT attributes, from which our command is
 * written and read back word for word; as a command with its numbers. The
 * addresses become a PROXY header, read back as its text (section 2.2) has it.
 * The line ends where its memory ends: whoever reads on is found.
 */
#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "proxyd/frame.h"
#include "proxyd/identity.h"
#include "proxyd/proto.h"
#include "proxyd/smtp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check(bool ok)
{
	if (!ok)
		abort();
}

static bool
digit(const uint8_t *p, size_t n, size_t at)
{
	return at < n && p[at] >= '0' && p[at] <= '9';
}

/* Reply-code = %x32-35 %x30-35 %x30-39, whose middle digit servers take
 * freely; then nothing, SP or "-". */
static void
check_reply(const struct line *l)
{
	bool want = l->len >= 3 && l->text[0] >= '2' && l->text[0] <= '5' &&
		digit(l->text, l->len, 1) && digit(l->text, l->len, 2) &&
		(l->len == 3 || strchr(" -", l->text[3]) != NULL) &&
		(l->len == 3 || l->text[3] != '\0');
	unsigned code = 0;
	char number[4];
	bool last = false;

	check((smtp_reply(l, &code, &last) == 0) == want);
	if (!want)
		return;
	memcpy(number, l->text, 3);
	number[3] = '\0';
	check(code == strtoul(number, NULL, 10));
	check(last == (l->len == 3 || l->text[3] == ' '));
}

/* class "." subject "." detail: one digit, and two numbers. */
static void
check_enhanced(const struct line *l)
{
	const uint8_t *p = l->text + 4;
	size_t n = l->len < 4 ? 0 : l->len - 4, i = 0, k;
	char out[12];

	smtp_enhanced(l, out);
	check(strlen(out) < sizeof(out));
	if (out[0] == '\0')
		return;
	check(strlen(out) <= n && memcmp(out, p, strlen(out)) == 0);
	check(digit(p, n, i++) && p[i++] == '.');
	for (k = i; digit(p, n, i); i++)
		;
	check(i > k && i - k <= 3 && p[i++] == '.');
	for (k = i; digit(p, n, i); i++)
		;
	check(i > k && i - k <= 3 && i == strlen(out));
	check(i == n || p[i] == ' ');
}

static bool
lists(const struct line *l, const char *word)
{
	size_t len = strlen(word);

	for (size_t i = 0; i + len <= l->len; i++)
		if ((i == 0 || l->text[i - 1] == ' ') &&
		    strncasecmp((const char *)l->text + i, word, len) == 0 &&
		    (i + len == l->len || l->text[i + len] == ' '))
			return true;
	return false;
}

static void
check_xclient(const struct line *l, const struct addr *client)
{
	uint32_t set = identity_attributes(l->text, l->len);
	char ip[INET6_ADDRSTRLEN], want[256];
	uint8_t room[512] = { 0 };
	struct sink out = { .p = room, .cap = sizeof(room) };
	int rc = identity_xclient(set, client, &out);

	check((rc == 0) == lists(l, "ADDR"));
	check((out.len == 0) == (rc != 0));
	if (rc != 0)
		return;
	check(inet_ntop(client->family, client->ip, ip, sizeof(ip)) != NULL);
	snprintf(want, sizeof(want), "XCLIENT ADDR=%s%s",
		client->family == AF_INET6 ? "IPV6:" : "", ip);
	if (lists(l, "PORT"))
		snprintf(want + strlen(want), sizeof(want) - strlen(want),
			" PORT=%u", client->port);
	if (lists(l, "NAME"))
		snprintf(want + strlen(want), sizeof(want) - strlen(want),
			" NAME=[UNAVAILABLE]");
	snprintf(want + strlen(want), sizeof(want) - strlen(want), "\r\n");
	check(out.len == strlen(want) && memcmp(room, want, out.len) == 0);
}

static void
check_proxy(const struct addr *src, const struct addr *dst)
{
	static const uint8_t signature[12] = { 0x0d, 0x0a, 0x0d, 0x0a, 0x00,
		0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a };
	size_t ip = src->family == AF_INET ? 4 : 16;
	uint8_t h[PROXY_HEADER_MAX];
	size_t n = identity_proxy(h, src, dst);

	check(n >= 16 && memcmp(h, signature, 12) == 0);
	check(n == 16 + ((size_t)h[14] << 8 | h[15]));
	if (src->family != dst->family) {
		check(h[12] == 0x20 && h[13] == 0 && n == 16);
		return;
	}
	check(h[12] == 0x21 && h[13] == (ip == 4 ? 0x11 : 0x21));
	check(n == 16 + 2 * ip + 4);
	check(memcmp(h + 16, src->ip, ip) == 0);
	check(memcmp(h + 16 + ip, dst->ip, ip) == 0);
	check((h[16 + 2 * ip] << 8 | h[17 + 2 * ip]) == src->port);
	check((h[18 + 2 * ip] << 8 | h[19 + 2 * ip]) == dst->port);
}

/* Numbers of a command: what is accepted is all digits and the same number. */
static void
check_command(const struct line *l)
{
	struct command c;
	uint64_t size;
	bool last;

	smtp_command(l, &c);
	check(c.text == l->text && c.len == l->len);
	check(c.arg >= c.text && c.arg + c.arg_len <= c.text + c.len);
	if (smtp_chunk(&c, &size, &last) == 0) {
		size_t i = 0;
		uint64_t n = 0;

		for (; digit(c.arg, c.arg_len, i); i++)
			n = n * 10 + (c.arg[i] - '0');
		check(i > 0 && n == size);
		for (; last && i < c.arg_len && c.arg[i] == ' '; i++)
			;
		check(last ? c.arg_len == i + 4 && c.arg[i - 1] == ' ' &&
			strncasecmp((const char *)c.arg + i, "LAST", 4) == 0 :
			c.arg_len == i);
	}
	(void)smtp_declared_size(&c, &size);
	(void)smtp_has_parameter(&c, "SMTPUTF8");
}

static void
make_address(struct addr *a, unsigned seed)
{
	memset(a, 0, sizeof(*a));
	a->family = seed & 1 ? AF_INET6 : AF_INET;
	for (size_t i = 0; i < (seed & 1 ? 16u : 4u); i++)
		a->ip[i] = (uint8_t)((seed = seed * 1103515245u + 12345u) >> 16);
	a->port = (uint16_t)(seed >> 8);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct addr src, dst;
	struct line l = { 0 };
	uint8_t *copy;

	if (size == 0 || size > LINE_MAX_OCTETS)
		return 0;
	copy = malloc(size > 1 ? size - 1 : 1);
	check(copy != NULL);
	memcpy(copy, data + 1, size - 1);
	l.text = copy;
	l.len = size - 1;
	l.total = size + 1;
	make_address(&src, data[0]);
	make_address(&dst, data[0] >> 1);
	check_reply(&l);
	check_enhanced(&l);
	check_xclient(&l, &src);
	check_proxy(&src, &dst);
	check_command(&l);
	free(copy);
	return 0;
}
