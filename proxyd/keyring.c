/*
 * keyring.c - the parent's side of the keeper
 *
 * Does: open the files of accounts and hand their descriptors to the keeper,
 * when it starts and again when a file is another one or has changed; give each
 * relay its channel to the keeper. Does not: read a file. What is in one never
 * comes into the parent's memory, from which relays are forked.
 *
 * Called from children.c and the tick. The files are the operator's and may go,
 * come and change owner at any time: said once for each change, and the account
 * is without a secret meanwhile.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf/secret.h"
#include "lib/ipc.h"
#include "lib/log.h"
#include "proxyd/parent.h"

/* A file as it was when it was handed over. */
struct seen {
	int error;		/* of stat(2); then nothing else counts */
	dev_t dev;
	ino_t ino;
	off_t size;
	uid_t uid;
	mode_t mode;
	struct timespec modified, changed;
};

static struct seen
look_at(const char *file)
{
	struct seen s;
	struct stat st;

	memset(&s, 0, sizeof(s));
	if (stat(file, &st) == -1) {
		s.error = errno;
		return s;
	}
	s.dev = st.st_dev;
	s.ino = st.st_ino;
	s.size = st.st_size;
	s.uid = st.st_uid;
	s.mode = st.st_mode;
	s.modified = st.st_mtim;
	s.changed = st.st_ctim;
	return s;
}

static bool
is_same_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

static bool
is_same(const struct seen *a, const struct seen *b)
{
	return a->error == b->error && a->dev == b->dev && a->ino == b->ino &&
		a->size == b->size && a->uid == b->uid && a->mode == b->mode &&
		is_same_time(&a->modified, &b->modified) &&
		is_same_time(&a->changed, &b->changed);
}

/* A descriptor fit to be handed over; -1 with a message. */
static int
open_secret(const struct account_conf *a)
{
	const char *file = account_file(a), *why;
	int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;

	if (fd == -1 || fstat(fd, &st) == -1) {
		log_error("account %s: %s: %s; expected a file of root, mode "
			"0600. Until then its lines cannot send", a->name,
			file, strerror(errno));
		if (fd != -1)
			close(fd);
		return -1;
	}
	why = secret_file_wrong(&st);
	if (why == NULL)
		return fd;
	log_error("account %s: %s %s; expected chown root and chmod 600 of "
		"it. Until then its lines cannot send", a->name, file, why);
	close(fd);
	return -1;
}

static void
hand_over(struct child *keeper, size_t account)
{
	const struct msg m = { .type = MSG_SECRET, .n = (uint32_t)account };
	int fd = open_secret(&keeper->parent->conf->accounts[account]);

	child_send(keeper, &m, &fd, fd != -1 ? 1 : 0);
}

void
keyring_introduce(struct child *keeper)
{
	struct parent *p = keeper->parent;
	const size_t n = p->conf->naccounts;
	struct seen *seen = calloc(n, sizeof(*seen));

	free(p->seen);
	p->seen = seen;		/* NULL: nothing is read again */
	for (size_t i = 0; i < n; i++) {
		/* before it is opened: what comes between is a change */
		if (seen != NULL)
			seen[i] = look_at(account_file(&p->conf->accounts[i]));
		hand_over(keeper, i);
	}
	for (struct child *c = p->children; c != NULL; c = c->next)
		if (c->slot < WORKERS_MAX && !c->leaving)
			keyring_connect(c, keeper);
}

void
keyring_connect(struct child *relay, struct child *keeper)
{
	const struct msg to_relay = { .type = MSG_KEEPER };
	const struct msg to_keeper = { .type = MSG_RELAY,
		.n = (uint32_t)relay->slot };
	int pair[2];

	if (ipc_pair(pair) != 0) {
		log_error("channel between relay and keeper: %s",
			strerror(errno));
		return;
	}
	child_send(relay, &to_relay, &pair[0], 1);
	child_send(keeper, &to_keeper, &pair[1], 1);
}

void
keyring_tick(struct parent *p)
{
	struct child *keeper = child_of(p, SLOT_KEEPER);

	if (keeper == NULL || p->seen == NULL)
		return;
	for (size_t i = 0; i < p->conf->naccounts; i++) {
		const struct seen now =
			look_at(account_file(&p->conf->accounts[i]));

		if (is_same(&now, &p->seen[i]))
			continue;
		p->seen[i] = now;
		hand_over(keeper, i);
	}
}

void
keyring_close(struct parent *p)
{
	free(p->seen);
	p->seen = NULL;
}
