/*
 * keeper.c - unit tests of proxyd/keeper_sasl.c and conf/secret.c
 *
 * Answers to challenges, among them the example of RFC 2195; what is refused;
 * the files that hold secrets.
 */
#include "proxyd/keeper.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#define N(a) (sizeof(a) / sizeof((a)[0]))

static char tim[] = "tim", file[] = "f";

static const struct account_conf password = { .user = tim,
	.password_file = file };
static const struct account_conf only_md5 = { .user = tim,
	.password_file = file, .mechanism = MECHANISM_CRAM_MD5 };
static const struct account_conf token = { .user = tim, .token_file = file };

static enum keeper_status
ask(const struct account_conf *a, const char *secret, unsigned mechanism,
	unsigned step, const char *challenge, struct keeper_answer *r)
{
	struct keeper_ask q = { .number = 7, .mechanism = mechanism,
		.step = step, .len = (uint32_t)strlen(challenge) };

	memcpy(q.challenge, challenge, strlen(challenge));
	keeper_answer(a, secret, strlen(secret), &q, r);
	assert_int_equal(r->number, 7);
	assert_int_equal(r->len, strlen(r->line));
	assert_true(r->status == KEEPER_OK || r->len == 0);
	return (enum keeper_status)r->status;
}

static void
answers(void **state)
{
	static const struct {
		const struct account_conf *account;
		const char *secret;
		unsigned mechanism, step;
		const char *challenge, *want;
	} rows[] = {
		/* RFC 2195 section 2 */
		{ &password, "tanstaaftanstaaf", MECHANISM_CRAM_MD5, 0,
		  "PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+",
		  "dGltIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw" },
		{ &only_md5, "tanstaaftanstaaf", MECHANISM_CRAM_MD5, 0,
		  "PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+",
		  "dGltIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw" },
		/* RFC 4616 section 4, by hand: NUL tim NUL tanstaaftanstaaf */
		{ &password, "tanstaaftanstaaf", MECHANISM_PLAIN, 0, "",
		  "AHRpbQB0YW5zdGFhZnRhbnN0YWFm" },
		{ &password, "pw", MECHANISM_LOGIN, 0, "VXNlcm5hbWU6", "dGlt" },
		{ &password, "pw", MECHANISM_LOGIN, 1, "UGFzc3dvcmQ6", "cHc=" },
		{ &token, "ya29.x", MECHANISM_XOAUTH2, 0, "",
		  "dXNlcj10aW0BYXV0aD1CZWFyZXIgeWEyOS54AQE=" },
	};
	struct keeper_answer r;

	(void)state;
	for (size_t i = 0; i < N(rows); i++) {
		assert_int_equal(ask(rows[i].account, rows[i].secret,
			rows[i].mechanism, rows[i].step, rows[i].challenge, &r),
			KEEPER_OK);
		assert_string_equal(r.line, rows[i].want);
	}
}

/* A relay that was taken over asks for anything. */
static void
refusals(void **state)
{
	static const struct {
		const struct account_conf *account;
		const char *secret;
		unsigned mechanism, step;
		const char *challenge;
		enum keeper_status want;
	} rows[] = {
		{ &only_md5, "pw", MECHANISM_PLAIN, 0, "", KEEPER_REFUSED },
		{ &only_md5, "pw", MECHANISM_LOGIN, 1, "", KEEPER_REFUSED },
		{ &password, "pw", MECHANISM_XOAUTH2, 0, "", KEEPER_REFUSED },
		{ &token, "t", MECHANISM_PLAIN, 0, "", KEEPER_REFUSED },
		{ &password, "pw", MECHANISM_AUTO, 0, "", KEEPER_REFUSED },
		{ &password, "pw", MECHANISM_COUNT, 0, "", KEEPER_REFUSED },
		{ &password, "pw", 4000000000u, 0, "", KEEPER_REFUSED },
		{ &password, "pw", MECHANISM_PLAIN, 1, "", KEEPER_CHALLENGE },
		{ &password, "pw", MECHANISM_LOGIN, 2, "", KEEPER_CHALLENGE },
		{ &password, "pw", MECHANISM_CRAM_MD5, 0, "",
		  KEEPER_CHALLENGE },
		{ &password, "pw", MECHANISM_CRAM_MD5, 0, "====",
		  KEEPER_CHALLENGE },
		{ &password, "pw", MECHANISM_CRAM_MD5, 0, "PDE",
		  KEEPER_CHALLENGE },
		{ &password, "pw", MECHANISM_CRAM_MD5, 0, "PD\r\n",
		  KEEPER_CHALLENGE },
		{ &password, "pw", MECHANISM_CRAM_MD5, 0, "P=E+",
		  KEEPER_CHALLENGE },
		{ &password, "", MECHANISM_PLAIN, 0, "", KEEPER_NO_SECRET },
	};
	struct keeper_ask q = { .mechanism = MECHANISM_CRAM_MD5,
		.len = KEEPER_CHALLENGE_MAX + 1 };
	struct keeper_answer r;

	(void)state;
	for (size_t i = 0; i < N(rows); i++)
		if (ask(rows[i].account, rows[i].secret, rows[i].mechanism,
			rows[i].step, rows[i].challenge, &r) != rows[i].want)
			fail_msg("row %zu: %u", i, r.status);
	keeper_answer(&password, "pw", 2, &q, &r);
	assert_int_equal(r.status, KEEPER_CHALLENGE);
}

static void
longest(void **state)
{
	static char user[255], secret[SECRET_MAX + 2];
	const struct account_conf a = { .user = user, .token_file = file };
	struct keeper_answer r;

	(void)state;
	memset(user, 'u', sizeof(user) - 1);
	memset(secret, 't', SECRET_MAX);
	assert_int_equal(ask(&a, secret, MECHANISM_XOAUTH2, 0, "", &r),
		KEEPER_OK);
	assert_int_equal(r.len, (254 + SECRET_MAX + 20 + 2) / 3 * 4);
	secret[SECRET_MAX] = 't';
	assert_int_equal(ask(&a, secret, MECHANISM_XOAUTH2, 0, "", &r),
		KEEPER_NO_SECRET);
}

/* ---- files ---- */

static int
file_of(const char *text, size_t n, char path[64])
{
	int fd;

	snprintf(path, 64, "/tmp/keeper-unit.XXXXXX");
	fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, n), n);
	return fd;
}

static void
files(void **state)
{
	static const struct {
		const char *text;
		size_t len;
		const char *want, *why;
	} rows[] = {
		{ "pw", 2, "pw", NULL },
		{ "pw\n", 3, "pw", NULL },
		{ "p w\r\n", 5, "p w", NULL },
		{ "gr\xc3\xbcn\n", 6, "gr\xc3\xbcn", NULL },
		{ "", 0, NULL, "is empty" },
		{ "\n", 1, NULL, "is empty" },
		{ "a\nb\n", 4, NULL,
		  "has more than one line, or a control octet" },
		{ "a\n\n", 3, NULL,
		  "has more than one line, or a control octet" },
		{ "a\0b", 3, NULL,
		  "has more than one line, or a control octet" },
		{ "123456789\n", 10, NULL, "is too long" },
	};
	char out[SECRET_MAX + 1], path[64];
	const char *why;

	(void)state;
	for (size_t i = 0; i < N(rows); i++) {
		int fd = file_of(rows[i].text, rows[i].len, path);
		int n = secret_read(fd, out, 8, &why);

		if (rows[i].want != NULL) {
			assert_int_equal(n, strlen(rows[i].want));
			assert_string_equal(out, rows[i].want);
		} else {
			assert_int_equal(n, -1);
			assert_string_equal(why, rows[i].why);
			assert_string_equal(out, "");
		}
		close(fd);
		unlink(path);
	}
}

static void
large_files(void **state)
{
	static char big[3 * SECRET_MAX];
	char out[SECRET_MAX + 1], path[64];
	const char *why;
	int fd;

	(void)state;
	memset(big, 'x', sizeof(big));
	big[SECRET_MAX] = '\n';
	fd = file_of(big, SECRET_MAX + 1, path);
	assert_int_equal(secret_read(fd, out, SECRET_MAX, &why), SECRET_MAX);
	close(fd);
	unlink(path);
	big[SECRET_MAX] = 'x';
	fd = file_of(big, sizeof(big), path);
	assert_int_equal(secret_read(fd, out, SECRET_MAX, &why), -1);
	assert_string_equal(why, "is too long");
	close(fd);
	unlink(path);
	fd = open("/", O_RDONLY | O_DIRECTORY);
	assert_int_equal(secret_read(fd, out, SECRET_MAX, &why), -1);
	assert_string_equal(why, "Is a directory");
	close(fd);
}

static void
owners(void **state)
{
	struct stat st = { .st_mode = S_IFREG | 0600, .st_uid = 0 };

	(void)state;
	assert_null(secret_file_wrong(&st));
	st.st_uid = geteuid();
	st.st_mode = S_IFREG | 0400;
	assert_null(secret_file_wrong(&st));
	st.st_mode = S_IFREG | 0640;
	assert_string_equal(secret_file_wrong(&st),
		"may be read or written by others");
	st.st_mode = S_IFREG | 0602;
	assert_non_null(secret_file_wrong(&st));
	st.st_mode = S_IFREG | 0600;
	st.st_uid = geteuid() + 1;
	assert_string_equal(secret_file_wrong(&st), "does not belong to root");
	st.st_mode = S_IFIFO | 0600;
	assert_string_equal(secret_file_wrong(&st), "is not a regular file");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers),
		cmocka_unit_test(refusals),
		cmocka_unit_test(longest),
		cmocka_unit_test(files),
		cmocka_unit_test(large_files),
		cmocka_unit_test(owners),
	};

	return cmocka_run_group_tests_name("keeper", tests, NULL, NULL);
}
