/*
 * sockets.c - every socket that needs a privilege or a fixed place
 *
 * Does: the listeners, one a relay slot and family. For TPROXY they are bound
 * to loopback with IP_TRANSPARENT: the kernel can hand them connections to any
 * address while a direct dial from outside is refused. REDIRECT leads to an
 * address of the interface: they are bound to all, and who was not redirected
 * is refused by our rules and by the relay. The control socket; batches of
 * upstream sockets; the list of the gateway's own addresses. Does not: accept,
 * connect (but for the self-test) or read from any of them.
 *
 * Called by the parent only. Listeners stay open here for ever: what the
 * kernel queued on one is served by the next relay of that slot. SO_REUSEPORT
 * spreads connections over the slots; the parent makes all of them as one
 * user, so nobody else can join the group.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <grp.h>
#include <ifaddrs.h>
#include <libgen.h>
#include <linux/in6.h>
#include <netinet/tcp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/log.h"
#include "proxyd/parent.h"

#define BACKLOG 4096
/* A gateway with more addresses than this is no gateway. */
#define OWN_MAX 65536

static int
set(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof(value));
}

static struct addr
loopback(int family, uint16_t port)
{
	struct addr a = { .family = (uint8_t)family, .port = port };

	if (family == AF_INET)
		memcpy(a.ip, "\177\0\0\1", 4);
	else
		a.ip[15] = 1;
	return a;
}

/* Where the listeners of a family are. */
static struct addr
listen_place(const struct conf *conf, int family)
{
	struct addr a = loopback(family, conf->listen_port);

	if (conf->capture == CAPTURE_REDIRECT)
		memset(a.ip, 0, sizeof(a.ip));
	return a;
}

static int
only_its_family(int fd, int family)
{
	return family == AF_INET ? 0 : set(fd, SOL_IPV6, IPV6_V6ONLY, 1);
}

static int
make_transparent(int fd, int family)
{
	if (only_its_family(fd, family) != 0)
		return -1;
	if (family == AF_INET)
		return set(fd, SOL_IP, IP_TRANSPARENT, 1);
	return set(fd, SOL_IPV6, IPV6_TRANSPARENT, 1);
}

/* -1 with errno. */
static int
listener(const struct conf *conf, int family)
{
	const struct addr place = listen_place(conf, family);
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(&place, &ss);
	int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int saved;

	if (fd < 0)
		return -1;
	if ((conf->capture == CAPTURE_REDIRECT ?
			only_its_family(fd, family) :
			make_transparent(fd, family)) == 0 &&
		set(fd, SOL_SOCKET, SO_REUSEADDR, 1) == 0 &&
		set(fd, SOL_SOCKET, SO_REUSEPORT, 1) == 0 &&
		set(fd, SOL_TCP, TCP_NODELAY, 1) == 0 &&	/* inherited */
		set(fd, SOL_TCP, TCP_SAVE_SYN, 1) == 0 &&
		bind(fd, (struct sockaddr *)&ss, len) == 0 &&
		listen(fd, BACKLOG) == 0)
		return fd;
	saved = errno;
	close(fd);
	errno = saved;
	return -1;
}

/* SO_REUSEPORT would let a second daemon of ours take half of the lines'
 * connections: ask without it first. */
static bool
port_in_use(const struct addr *place)
{
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(place, &ss);
	int fd = socket(place->family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool used;

	if (fd < 0)
		return false;
	(void)set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	used = bind(fd, (struct sockaddr *)&ss, len) != 0 && errno == EADDRINUSE;
	close(fd);
	return used;
}

static int
open_listeners(struct parent *p)
{
	const struct addr place4 = listen_place(p->conf, AF_INET);
	const struct addr place6 = listen_place(p->conf, AF_INET6);
	char text4[ADDR_STRLEN], text6[ADDR_STRLEN];
	bool v6 = true;

	addr_format_port(&place4, text4);
	addr_format_port(&place6, text6);
	if (port_in_use(&place4)) {
		log_error("%s is in use: is another sallyportd running?",
			text4);
		return -1;
	}
	for (unsigned i = 0; i < p->conf->workers; i++) {
		struct slot *s = &p->slot[i];

		s->listener4 = listener(p->conf, AF_INET);
		if (s->listener4 < 0) {
			log_error("listen on %s: %s", text4, strerror(errno));
			return -1;
		}
		s->listener6 = v6 ? listener(p->conf, AF_INET6) : -1;
		if (v6 && s->listener6 < 0) {
			v6 = false;
			if (i > 0 || errno == EADDRINUSE) {
				log_error("listen on %s: %s", text6,
					strerror(errno));
				return -1;
			}
			log_info("going on without IPv6: listen on %s: %s",
				text6, strerror(errno));
		}
	}
	return 0;
}

/* The directory is what keeps others out; one that was there keeps its owner
 * and mode. */
static int
control_directory(const char *socket_path, gid_t gid)
{
	char *copy = strdup(socket_path);
	const char *dir;
	int rc = -1;

	if (copy == NULL)
		return -1;
	dir = dirname(copy);
	if (mkdir(dir, 0750) == 0)
		rc = chown(dir, (uid_t)-1, gid);
	else if (errno == EEXIST)
		rc = 0;
	if (rc != 0)
		log_error("control directory %s: %s", dir, strerror(errno));
	free(copy);
	return rc;
}

/* A socket file nobody answers on is left from a killed daemon. */
static bool
is_answered(const struct sockaddr_un *sun)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool answered;

	if (fd < 0)
		return false;
	answered = connect(fd, (const struct sockaddr *)sun, sizeof(*sun)) == 0;
	close(fd);
	return answered;
}

static int
open_control(struct parent *p)
{
	const char *path = p->conf->control_socket;
	const struct passwd *pw = getpwnam(p->conf->user_control);
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	mode_t before;
	int fd, rc;

	if (strlen(path) >= sizeof(sun.sun_path)) {
		log_error("control socket %s: the path is too long", path);
		return -1;
	}
	memcpy(sun.sun_path, path, strlen(path) + 1);
	if (pw == NULL || control_directory(path, pw->pw_gid) != 0)
		return -1;
	if (is_answered(&sun)) {
		log_error("control socket %s is answered: is another "
			"sallyportd running?", path);
		return -1;
	}
	(void)unlink(path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	before = umask(0117);
	rc = fd < 0 ? -1 : bind(fd, (struct sockaddr *)&sun, sizeof(sun));
	umask(before);
	if (rc != 0 || chown(path, (uid_t)-1, pw->pw_gid) != 0 ||
		listen(fd, 64) != 0) {
		log_error("control socket %s: %s", path, strerror(errno));
		if (fd >= 0)
			close(fd);
		return -1;
	}
	p->control_listener = fd;
	return 0;
}

int
sockets_open(struct parent *p)
{
	p->control_listener = -1;
	for (size_t i = 0; i < WORKERS_MAX; i++)
		p->slot[i].listener4 = p->slot[i].listener6 = -1;
	if (open_listeners(p) != 0 || open_control(p) != 0) {
		sockets_close(p);
		return -1;
	}
	return 0;
}

void
sockets_close(struct parent *p)
{
	for (size_t i = 0; i < WORKERS_MAX; i++) {
		if (p->slot[i].listener4 >= 0)
			close(p->slot[i].listener4);
		if (p->slot[i].listener6 >= 0)
			close(p->slot[i].listener6);
		p->slot[i].listener4 = p->slot[i].listener6 = -1;
	}
	if (p->control_listener >= 0) {
		close(p->control_listener);
		(void)unlink(p->conf->control_socket);
		p->control_listener = -1;
	}
}

static int
upstream(const struct conf *conf, int family)
{
	int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	/* transparent also when the source is ours: it tells the rules which
	 * packets belong to a session; the jail decides about sources */
	if (make_transparent(fd, family) == 0 &&
		(!conf_has_source(conf, SOURCE_GATEWAY) ||
			set(fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1) == 0) &&
		set(fd, SOL_SOCKET, SO_MARK, (int)conf->mark_own) == 0 &&
		set(fd, SOL_SOCKET, SO_REUSEADDR, 1) == 0 &&
		set(fd, SOL_TCP, TCP_NODELAY, 1) == 0)
		return fd;
	close(fd);
	return -1;
}

int
sockets_upstream(const struct conf *conf, int family, int fds[SOCKET_BATCH])
{
	int n = 0;

	while (n < SOCKET_BATCH) {
		fds[n] = upstream(conf, family == 4 ? AF_INET : AF_INET6);
		if (fds[n] < 0)
			break;
		n++;
	}
	if (n == 0)
		log_warn("no upstream socket for IPv%d: %s", family,
			strerror(errno));
	return n;
}

static int
compare(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct addr));
}

static size_t
read_own(struct addr **own_r)
{
	struct ifaddrs *all;
	struct addr *own;
	size_t n = 0;

	if (getifaddrs(&all) != 0)
		return 0;
	for (struct ifaddrs *i = all; i != NULL && n < OWN_MAX; i = i->ifa_next)
		n++;
	own = calloc(n + 1, sizeof(*own));
	n = 0;
	for (struct ifaddrs *i = all; own != NULL && i != NULL && n < OWN_MAX;
		i = i->ifa_next) {
		if (i->ifa_addr == NULL ||
			addr_from_sockaddr(&own[n], i->ifa_addr) != 0)
			continue;
		own[n++].port = 0;
	}
	freeifaddrs(all);
	*own_r = own;
	return n;
}

bool
sockets_own_addresses(struct parent *p)
{
	struct addr *own = NULL;
	size_t n = read_own(&own);

	/* none, or no memory: an old list protects better than an empty one */
	if (own == NULL || n == 0) {
		free(own);
		return false;
	}
	qsort(own, n, sizeof(*own), compare);
	if (n == p->nown && memcmp(own, p->own, n * sizeof(*own)) == 0) {
		free(own);
		return false;
	}
	free(p->own);
	p->own = own;
	p->nown = n;
	return true;
}

int
sockets_probe(int family, uint16_t port)
{
	const struct addr place = loopback(family, port);
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(&place, &ss);
	int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	if (connect(fd, (struct sockaddr *)&ss, len) == 0 ||
		errno == EINPROGRESS)
		return fd;
	close(fd);
	return -1;
}

struct queue_conf
sockets_queue_conf(const struct conf *conf)
{
	const struct queue_conf queue = { .number = conf->nfq_queue,
		.mark_reset = conf->mark_reset, .mark_mask = conf->mark_mask };

	return queue;
}
