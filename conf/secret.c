/*
 * secret.c - a file with one password or token in it
 *
 * Looks at who may read the file, and reads it: one line, no control octets,
 * nothing behind it. Does not open it, log it or keep it.
 *
 * secret_file_wrong() is called with what stat says, by the configuration and
 * by the parent, which look no further; secret_read() by the keeper and by
 * `sallyport check'. The file is root's; it may be wrong in any way.
 */
#include "conf/secret.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

const char *
secret_file_wrong(const struct stat *st)
{
	if (!S_ISREG(st->st_mode))
		return "is not a regular file";
	if (st->st_uid != 0 && st->st_uid != geteuid())
		return "does not belong to root";
	if ((st->st_mode & 077) != 0)
		return "may be read or written by others";
	return NULL;
}

/* All of it, as far as there is room; -1: errno. */
static ssize_t
read_whole(int fd, char *out, size_t cap)
{
	size_t len = 0;

	while (len < cap) {
		ssize_t n = pread(fd, out + len, cap - len, (off_t)len);

		if (n == -1 && errno == EINTR)
			continue;
		if (n == -1)
			return -1;
		if (n == 0)
			break;
		len += (size_t)n;
	}
	return (ssize_t)len;
}

static const char *
line_wrong(const char *text, size_t len, size_t max)
{
	if (len == 0)
		return "is empty";
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
			return "has more than one line, or a control octet";
	return len > max ? "is too long" : NULL;
}

int
secret_read(int fd, char out[SECRET_MAX + 1], size_t max, const char **why_r)
{
	/* room for what must not be there: a line's end, and one octet more */
	char text[SECRET_MAX + 3];
	ssize_t n = read_whole(fd, text, sizeof(text));
	int len = -1;

	out[0] = '\0';
	*why_r = n == -1 ? strerror(errno) : NULL;
	if (n > 0 && text[n - 1] == '\n')
		n--;
	if (n > 0 && text[n - 1] == '\r')
		n--;
	if (n != -1)
		*why_r = line_wrong(text, (size_t)n,
			max < SECRET_MAX ? max : SECRET_MAX);
	if (*why_r == NULL) {
		len = (int)n;
		memcpy(out, text, (size_t)n);
		out[n] = '\0';
	}
	explicit_bzero(text, sizeof(text));
	return len;
}
