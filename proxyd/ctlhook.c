/*
 * ctlhook.c - changes of levels for the operator's program
 *
 * Does: keep what is to be told until the parent has taken it, one after the
 * other; count and alarm what finds no room. Does not: start anything; control
 * may not (hookkeeper.c does).
 *
 * Called by ctlzombie.c and control.c. What is told is JSON of our own making:
 * names and reasons in it are escaped there.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "lib/ipc.h"
#include "lib/kv.h"
#include "lib/log.h"
#include "proxyd/control.h"

#define ALARM_SECONDS 60

/* What is lost, once a minute. */
static void
say_lost(struct control *c)
{
	char line[256];
	struct kv k;
	int64_t now = time(NULL);

	if (c->hooks_lost == c->hooks_said || (c->hook_alarm != 0 &&
	    now < c->hook_alarm + ALARM_SECONDS))
		return;
	c->hook_alarm = now;
	c->hooks_said = c->hooks_lost;
	kv_open(&k, line, sizeof(line), "alarm");
	kv_word(&k, "what", "hook-lost");
	kv_text(&k, "file", c->conf->hook, strlen(c->conf->hook));
	kv_uint(&k, "lost", c->hooks_lost);
	log_line(LOG_WARNING, line);
}

/* ---- to the parent ---- */

static void
forget_first(struct control *c)
{
	free(c->hook[c->hook_first]);
	c->hook[c->hook_first] = NULL;
	c->hook_first = (c->hook_first + 1) % HOOKS_WAITING;
	c->nhooks--;
}

/* A file that nobody can change any more; -1: there is no room for one. */
static int
sealed(const char *text)
{
	size_t len = strlen(text);
	int fd = memfd_create("hook", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return -1;
	if (write(fd, text, len) == (ssize_t)len && fcntl(fd, F_ADD_SEALS,
		F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) == 0)
		return fd;
	close(fd);
	return -1;
}

/* The first one, if the parent has none of ours. What it has no room for now is
 * sent in a second. */
static void
send_first(struct control *c)
{
	const struct msg m = { .type = MSG_HOOK };
	int fd;

	if (c->nhooks == 0 || c->hook_asked)
		return;
	fd = sealed(c->hook[c->hook_first]);
	if (fd < 0)
		return;
	c->hook_asked = ipc_send(c->parent, &m, sizeof(m), &fd, 1) == 1;
	close(fd);
}

void
ctlhook_note(struct control *c, json_t *o)
{
	char *text = o == NULL ? NULL : json_dumps(o, JSON_COMPACT |
		JSON_ENSURE_ASCII);

	json_decref(o);
	if (text == NULL || c->nhooks == HOOKS_WAITING ||
	    strlen(text) > HOOK_OCTETS) {
		free(text);
		c->hooks_lost++;
		say_lost(c);
		return;
	}
	c->hook[(c->hook_first + c->nhooks++) % HOOKS_WAITING] = text;
	send_first(c);
}

void
ctlhook_answer(struct control *c, const struct msg *m)
{
	c->hook_asked = false;
	if (m->n == HOOK_BUSY)
		return;		/* again in a second */
	if (c->nhooks > 0)
		forget_first(c);
	send_first(c);
}

void
ctlhook_second(struct control *c)
{
	send_first(c);
	say_lost(c);
}

void
ctlhook_close(struct control *c)
{
	/* the one that the parent has, it has */
	if (c->hook_asked && c->nhooks > 0)
		forget_first(c);
	c->hooks_lost += c->nhooks;
	c->hook_alarm = 0;	/* there is no later time for it */
	say_lost(c);
	while (c->nhooks > 0)
		forget_first(c);
}
