/*
 * secret.h - a file with one password or token in it
 *
 * Files of accounts: one line, for the eyes of root alone. Nobody but the keeper
 * (proxyd/keeper.h) and `sallyport check' reads what is in them.
 */
#ifndef SALLYPORT_SECRET_H
#define SALLYPORT_SECRET_H

#include <stddef.h>
#include <sys/stat.h>

/* A password: RFC 4616 has 255 octets for one. A token is longer; what is sent
 * of 4096 octets stays below the 12,288 of RFC 4954's lines. */
#define SECRET_PASSWORD_MAX 255
#define SECRET_MAX 4096

/* Who may read the file, and is it one? NULL: it is as it should be; else what
 * is wrong. Root's own, or that of the user who asks. */
const char *secret_file_wrong(const struct stat *st);

/*
 * The one line of the file behind fd, which is read from its start, without
 * its end, NUL-terminated. Its length, or -1 and *why_r; then nothing of it is
 * left in out. The caller wipes out.
 */
int secret_read(int fd, char out[SECRET_MAX + 1], size_t max,
	const char **why_r);

#endif
