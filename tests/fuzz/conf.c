/*
 * conf.c - fuzz target: a whole configuration
 *
 * The input is the file. What is accepted is used: printed, explained, asked
 * for policies, and its print is loaded again, which must be accepted and print
 * the same. @include is left out: it would read files that libconfig opens by
 * itself, devices among them. Unless the input says otherwise, trust is one
 * certificate made here: reading a system's authorities takes a hundred times
 * as long as all the rest.
 */
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "conf/conf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
const char *__lsan_default_suppressions(void);

/* libconfig 1.5 loses the text of a string that the end of the file cuts off. */
const char *
__lsan_default_suppressions(void)
{
	return "leak:strbuf_append\nleak:libconfig_yylex\n";
}

/* The line that names a certificate of our own, kept open for ever. */
static const char *
trust_line(void)
{
	static char line[64];
	EVP_PKEY *key;
	X509 *x;
	FILE *f;
	int fd;

	if (line[0] != '\0')
		return line;
	key = EVP_EC_gen("P-256");
	x = X509_new();
	fd = memfd_create("trust", MFD_CLOEXEC);
	f = fdopen(fd, "w");
	if (key == NULL || x == NULL || f == NULL)
		abort();
	X509_set_pubkey(x, key);
	if (X509_sign(x, key, EVP_sha256()) <= 0 || PEM_write_X509(f, x) != 1 ||
		fflush(f) != 0)
		abort();
	X509_free(x);
	EVP_PKEY_free(key);
	snprintf(line, sizeof(line),
		"\ntls = { trust = \"/proc/self/fd/%d\"; };\n", fd);
	return line;
}

/* A file without a folder. */
static struct conf *
load(const void *data, size_t size, char **errors_r)
{
	int fd = memfd_create("conf", MFD_CLOEXEC);
	char path[64];
	struct conf *c;
	size_t len;
	FILE *err = open_memstream(errors_r, &len);

	if (fd < 0 || err == NULL || write(fd, data, size) != (ssize_t)size)
		abort();
	if (memmem(data, size, "tls = {", 7) == NULL &&
		write(fd, trust_line(), strlen(trust_line())) < 0)
		abort();
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	c = conf_load(path, err);
	fclose(err);
	close(fd);
	/* either a configuration or a reason, never both or neither */
	if ((c == NULL) != (len != 0))
		abort();
	return c;
}

static char *
printed(const struct conf *c, size_t *len_r)
{
	char *text = NULL;
	FILE *f = open_memstream(&text, len_r);

	if (f == NULL)
		abort();
	conf_print(c, f);
	fclose(f);
	return text;
}

static void
use(const struct conf *c)
{
	static const char *const lines[] = { "198.18.3.7", "2001:db8:1::7",
		"203.0.113.9" };
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);
	struct addr a;
	int class;

	if (f == NULL || conf_print_json(c, f) < 0)
		abort();
	fclose(f);
	free(text);
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		addr_parse(&a, lines[i]);
		conf_policy(c, &a, 0, &class, NULL);
		if (class >= (int)c->nclasses)
			abort();
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct conf *c, *again;
	char *errors, *first, *second;
	size_t len, len2;

	if (memmem(data, size, "@include", 8) != NULL)
		return 0;
	c = load(data, size, &errors);
	free(errors);
	if (c == NULL)
		return 0;
	use(c);
	first = printed(c, &len);
	again = load(first, len, &errors);
	if (again == NULL) {
		fprintf(stderr, "%s\n%s", first, errors);
		abort();
	}
	second = printed(again, &len2);
	if (strcmp(first, second) != 0)
		abort();
	free(errors);
	free(first);
	free(second);
	conf_free(&c);
	conf_free(&again);
	return 0;
}
