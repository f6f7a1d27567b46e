/*
 * places.c - the listeners of published servers
 *
 * Does: bind every address and port of every publish group, once for each
 * relay slot (SO_REUSEPORT spreads connections over them), take over across a
 * reload what is still wanted, and say who is in the way of a place that
 * cannot be bound. Does not: accept, or read from any of them.
 *
 * Called by the parent only, at start and reload. It keeps the listeners open
 * while relays come and go, as it does with those of captured connections.
 * Unlike these they are ordinary sockets: dialled, not captured.
 */
#include "proxyd/places.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/log.h"
#include "proxyd/serve.h"

#define BACKLOG 4096

/* ---- who is in the way ---- */

/* As the kernel prints it: words of 32 bits in the machine's order. */
static void
proc_address(const struct addr *at, char out[33])
{
	for (int i = 0; i < (at->family == AF_INET ? 1 : 4); i++) {
		uint32_t word;

		memcpy(&word, at->ip + 4 * i, sizeof(word));
		snprintf(out + 8 * i, 9, "%08X", word);
	}
}

/* A line of /proc/net/tcp: sl local:port remote:port st tx:rx tr:when retr uid
 * timeout inode. Is it a socket that listens on this port, and on this address or
 * on all? */
static bool
is_listener(char *line, const char *want, uint16_t port, unsigned long *inode_r,
	unsigned *uid_r)
{
	char *field[10], *rest = line, *colon;
	size_t n = 0;

	while (n < 10 && (field[n] = strsep(&rest, " \n")) != NULL)
		n += field[n][0] != '\0';
	colon = n < 10 ? NULL : strchr(field[1], ':');
	if (colon == NULL || strcmp(field[3], "0A") != 0 ||
		strtoul(colon + 1, NULL, 16) != port)
		return false;
	*colon = '\0';
	*uid_r = (unsigned)strtoul(field[7], NULL, 10);
	*inode_r = strtoul(field[9], NULL, 10);
	return strcmp(field[1], want) == 0 ||
		strspn(field[1], "0") == strlen(field[1]);
}

/* IPv6's listeners may take IPv4 as well. */
static bool
find_listener(const char *table, const struct addr *at, unsigned long *inode_r,
	unsigned *uid_r)
{
	FILE *f = fopen(table, "re");
	char line[512], want[33];
	bool found = false;

	proc_address(at, want);
	while (f != NULL && !found && fgets(line, sizeof(line), f) != NULL)
		found = is_listener(line, want, at->port, inode_r, uid_r);
	if (f != NULL)
		fclose(f);
	return found;
}

static bool
holds(const char *pid, const char *link)
{
	char path[300], target[64];
	struct dirent *e;
	bool found = false;
	ssize_t n;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%s/fd", pid);
	d = opendir(path);
	while (d != NULL && !found && (e = readdir(d)) != NULL) {
		n = readlinkat(dirfd(d), e->d_name, target, sizeof(target) - 1);
		target[n > 0 ? n : 0] = '\0';
		found = strcmp(target, link) == 0;
	}
	if (d != NULL)
		closedir(d);
	return found;
}

/* "dovecot (pid 12)"; without a right to look into it, its user. */
static void
holder(const struct addr *at, char *out, size_t cap)
{
	char link[64], path[300], name[32] = "?";
	const struct passwd *pw;
	unsigned long inode;
	struct dirent *e;
	unsigned uid;
	FILE *f;
	DIR *d;

	snprintf(out, cap, "another process");
	if (!find_listener("/proc/net/tcp6", at, &inode, &uid) &&
		!find_listener("/proc/net/tcp", at, &inode, &uid))
		return;
	pw = getpwuid(uid);
	snprintf(out, cap, "a process of user %s", pw != NULL ? pw->pw_name :
		"?");
	snprintf(link, sizeof(link), "socket:[%lu]", inode);
	d = opendir("/proc");
	while (d != NULL && (e = readdir(d)) != NULL) {
		if (!isdigit((unsigned char)e->d_name[0]) ||
			!holds(e->d_name, link))
			continue;
		snprintf(path, sizeof(path), "/proc/%s/comm", e->d_name);
		f = fopen(path, "re");
		if (f != NULL && fgets(name, sizeof(name), f) != NULL)
			name[strcspn(name, "\n")] = '\0';
		if (f != NULL)
			fclose(f);
		snprintf(out, cap, "%s (pid %.20s)", name, e->d_name);
		break;
	}
	if (d != NULL)
		closedir(d);
}

/* ---- listeners ---- */

static int
set(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof(value));
}

/* is_shared: as one of several; otherwise to see whether the place is free.
 * -1 with errno. */
static int
listener(const struct addr *at, bool is_shared)
{
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(at, &ss);
	int fd = socket(at->family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
		0), saved;

	if (fd < 0)
		return -1;
	if ((at->family == AF_INET || set(fd, SOL_IPV6, IPV6_V6ONLY, 1) == 0) &&
		set(fd, SOL_SOCKET, SO_REUSEADDR, 1) == 0 &&
		(!is_shared || set(fd, SOL_SOCKET, SO_REUSEPORT, 1) == 0) &&
		set(fd, SOL_TCP, TCP_NODELAY, 1) == 0 &&	/* inherited */
		bind(fd, (struct sockaddr *)&ss, len) == 0 &&
		(!is_shared || listen(fd, BACKLOG) == 0))
		return fd;
	saved = errno;
	close(fd);
	errno = saved;
	return -1;
}

static void
complain(const struct conf *c, const struct publish_place *place)
{
	const char *service = publish_service_name[place->service];
	const char *name = c->publish[place->publish].name;
	char text[ADDR_STRLEN], who[128];
	int why = errno;

	addr_format_port(&place->at, text);
	holder(&place->at, who, sizeof(who));
	if (why == EADDRINUSE)
		log_error("publish: %s of %s: %s is in use by %s; let that "
			"listen elsewhere, or publish another address or port",
			service, name, text, who);
	else if (why == EADDRNOTAVAIL)
		log_error("publish: %s of %s: %s is not an address of this "
			"machine; add it, or publish another one", service,
			name, text);
	else
		log_error("publish: %s of %s: listen on %s: %s", service, name,
			text, strerror(why));
}

static int
open_new(const struct conf *c, const struct publish_place *place, int *fd)
{
	int free_place = listener(&place->at, false);

	if (free_place < 0) {
		complain(c, place);
		return -1;
	}
	close(free_place);
	for (unsigned s = 0; s < c->workers; s++)
		if ((fd[s] = listener(&place->at, true)) < 0) {
			complain(c, place);
			return -1;
		}
	return 0;
}

/* 1: taken over, 0: old has none, -1: no descriptor left. */
static int
take_over(const struct places *old, const struct addr *at, unsigned workers,
	int *fd)
{
	for (size_t i = 0; old != NULL && i < old->n; i++) {
		if (old->place[i].at.port != at->port ||
			!addr_same_host(&old->place[i].at, at))
			continue;
		for (unsigned s = 0; s < workers; s++) {
			fd[s] = fcntl(old->fd[i * workers + s],
				F_DUPFD_CLOEXEC, 3);
			if (fd[s] < 0) {
				log_error("publish: %s", strerror(errno));
				return -1;
			}
		}
		return 1;
	}
	return 0;
}

static int
open_all(struct places *p, const struct conf *c, const struct places *old)
{
	for (size_t i = 0; i < p->n; i++) {
		int *fd = &p->fd[i * p->workers], taken;

		(void)conf_publish_place(c, i, &p->place[i]);
		taken = take_over(old, &p->place[i].at, p->workers, fd);
		if (taken < 0 || (taken == 0 && open_new(c, &p->place[i],
				fd) != 0))
			return -1;
	}
	p->bundle = serve_bundle(c);
	return p->bundle;
}

struct places *
places_open(const struct conf *conf, const struct places *old)
{
	struct places *p = calloc(1, sizeof(*p));
	struct publish_place place;

	if (p == NULL) {
		log_error("publish: no memory");
		return NULL;
	}
	p->workers = conf->workers;
	p->bundle = -1;
	while (conf_publish_place(conf, p->n, &place))
		p->n++;
	if (p->n == 0)
		return p;
	p->place = calloc(p->n, sizeof(*p->place));
	p->fd = calloc(p->n * p->workers, sizeof(*p->fd));
	for (size_t i = 0; p->fd != NULL && i < p->n * p->workers; i++)
		p->fd[i] = -1;
	if (p->place == NULL || p->fd == NULL)
		log_error("publish: no memory");
	else if (open_all(p, conf, old) >= 0)
		return p;
	places_close(&p);
	return NULL;
}

void
places_close(struct places **p)
{
	if (*p == NULL)
		return;
	for (size_t i = 0; (*p)->fd != NULL && i < (*p)->n * (*p)->workers; i++)
		if ((*p)->fd[i] >= 0)
			close((*p)->fd[i]);
	if ((*p)->bundle >= 0)
		close((*p)->bundle);
	free((*p)->place);
	free((*p)->fd);
	free(*p);
	*p = NULL;
}
