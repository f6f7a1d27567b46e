/*
 * sasl.c - which SASL mechanisms survive two TLS legs
 *
 * A table and three ways to read it, and a rule without one. Names compare
 * exactly, never by prefix:
 * SCRAM-SHA-1 must not stand for SCRAM-SHA-1-PLUS. EXTERNAL is absent because
 * the client's certificate, if it had one, does not reach the server;
 * ANONYMOUS because nobody submits mail with it.
 */
#include "proxyd/sasl.h"

#include <string.h>
#include <strings.h>

#include "proxyd/proto.h"

static const char *const mechanism[] = {
	"SCRAM-SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-224", "SCRAM-SHA-1",
	"CRAM-MD5", "XOAUTH2", "OAUTHBEARER", "NTLM", "PLAIN", "LOGIN",
};

#define MECHANISMS (sizeof(mechanism) / sizeof(mechanism[0]))

uint32_t
sasl_mechanism(const uint8_t *name, size_t len)
{
	for (size_t i = 0; i < MECHANISMS; i++)
		if (strlen(mechanism[i]) == len &&
		    strncasecmp(mechanism[i], (const char *)name, len) == 0)
			return UINT32_C(1) << i;
	return 0;
}

/* RFC 4422 section 3.1: sasl-mech = 1*20mech-char */
#define MECHANISM_LEN 20

static bool
is_plus(const uint8_t *name, size_t len)
{
	static const char plus[] = "-PLUS";
	const size_t tail = sizeof(plus) - 1;

	return len >= tail && strncasecmp((const char *)name + len - tail, plus,
		tail) == 0;
}

bool
sasl_passes(const uint8_t *name, size_t len)
{
	static const char external[] = "EXTERNAL";

	if (len == 0 || len > MECHANISM_LEN)
		return false;
	for (size_t i = 0; i < len; i++) {
		uint8_t c = name[i];

		if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
			(c >= '0' && c <= '9') || c == '-' || c == '_'))
			return false;
	}
	if (is_plus(name, len))
		return false;
	return len != sizeof(external) - 1 ||
		strncasecmp((const char *)name, external, len) != 0;
}

bool
sasl_binds(const uint8_t *list, size_t n)
{
	size_t start = 0;

	for (size_t i = 0; i <= n; i++) {
		if (i < n && list[i] != ' ' && list[i] != '\t')
			continue;
		if (is_plus(list + start, i - start))
			return true;
		start = i + 1;
	}
	return false;
}

bool
sasl_is_scram(const uint8_t *name, size_t len)
{
	return len >= 6 && strncasecmp((const char *)name, "SCRAM-", 6) == 0;
}

uint32_t
sasl_without_scram(uint32_t mechs)
{
	for (size_t i = 0; i < MECHANISMS; i++)
		if (sasl_is_scram((const uint8_t *)mechanism[i],
			strlen(mechanism[i])))
			mechs &= ~(UINT32_C(1) << i);
	return mechs;
}

uint32_t
sasl_list(const uint8_t *list, size_t len)
{
	uint32_t mechs = 0;
	size_t i = 0;

	while (i < len) {
		size_t start = i;

		while (i < len && list[i] != ' ' && list[i] != '\t')
			i++;
		if (i > start)
			mechs |= sasl_mechanism(list + start, i - start);
		i++;
	}
	return mechs;
}

void
sasl_print(uint32_t mechs, struct sink *out)
{
	for (size_t i = 0; i < MECHANISMS; i++)
		if (mechs & (UINT32_C(1) << i))
			sink_text(out, " %s", mechanism[i]);
}

bool
sasl_is_base64(const uint8_t *p, size_t n)
{
	size_t pad = 0;

	if (n == 0 || n % 4 != 0)
		return false;
	while (pad < 2 && p[n - 1 - pad] == '=')
		pad++;
	for (size_t i = 0; i < n - pad; i++)
		if (!((p[i] >= 'A' && p[i] <= 'Z') ||
			(p[i] >= 'a' && p[i] <= 'z') ||
			(p[i] >= '0' && p[i] <= '9') || p[i] == '+' ||
			p[i] == '/'))
			return false;
	return true;
}
