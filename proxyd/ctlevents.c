/*
 * ctlevents.c - what is logged, told to operators as it happens
 *
 * Does: keep the last few hundred event lines of this process (sessions of all
 * relays, levels, allowlist, leases), hand them to who asks, and go on with each
 * new one for who follows. Does not: wait. A follower that does not read loses
 * lines, and is told how many; the log itself loses none for it.
 *
 * Called by ctlsock.c and, for each line, by lib/log.c. Lines are the log's, whose
 * writer has escaped all that came from outside. A follower is no request that
 * the end of this process waits for: it is sent away, and comes back to the
 * successor.
 */
#include <event2/buffer.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "lib/log.h"
#include "proxyd/control.h"

/* Octets that may wait for one follower. */
#define WAITING_MAX (256u << 10)
/* Each holds a descriptor and that much, and every line is copied for each. */
#define FOLLOWERS_MAX 8

/* ---- the last ones ---- */

static void
keep(struct control *c, const char *line)
{
	char **slot = &c->recent[c->nrecent++ % EVENTS_KEPT];

	free(*slot);
	*slot = strdup(line);
}

static void
put_recent(struct control *c, struct evbuffer *to)
{
	uint64_t first = c->nrecent < EVENTS_KEPT ? 0 :
		c->nrecent - EVENTS_KEPT;

	for (uint64_t i = first; i < c->nrecent; i++) {
		const char *line = c->recent[i % EVENTS_KEPT];

		if (line != NULL)
			(void)evbuffer_add_printf(to, "%s\n", line);
	}
}

/* ---- followers ---- */

static void on_follower(evutil_socket_t fd, short what, void *arg);

static int
watch(struct client *cl, bool waits)
{
	event_del(cl->ev);
	event_assign(cl->ev, cl->control->base, cl->fd, EV_READ | EV_PERSIST |
		(waits ? EV_WRITE : 0), on_follower, cl);
	return event_add(cl->ev, NULL);
}

/* Send what goes; wait for room with the rest. -1: he is gone. */
static int
push(struct client *cl)
{
	bool waits;

	while (evbuffer_get_length(cl->stream) > 0) {
		struct evbuffer_iovec v;
		ssize_t n;

		if (evbuffer_peek(cl->stream, 65536, NULL, &v, 1) < 1)
			break;
		n = send(cl->fd, v.iov_base, v.iov_len, MSG_NOSIGNAL |
			MSG_DONTWAIT);
		if (n <= 0)
			break;
		evbuffer_drain(cl->stream, (size_t)n);
	}
	waits = evbuffer_get_length(cl->stream) > 0;
	if (waits == ((event_get_events(cl->ev) & EV_WRITE) != 0))
		return 0;
	return watch(cl, waits);
}

/* What it has not been told it hears as soon as there is room. */
static int
catch_up(struct client *cl)
{
	if (cl->missed == 0 || evbuffer_get_length(cl->stream) > 0)
		return 0;
	(void)evbuffer_add_printf(cl->stream, "# %llu events were lost: read "
		"faster\n", (unsigned long long)cl->missed);
	cl->missed = 0;
	return push(cl);
}

static void
on_follower(evutil_socket_t fd, short what, void *arg)
{
	struct client *cl = arg;
	char rest[256];
	ssize_t n = 1;

	if (what & EV_READ)
		n = recv(fd, rest, sizeof(rest), MSG_DONTWAIT);
	if (n == 0 || push(cl) != 0 || catch_up(cl) != 0)
		ctlsock_end(cl);
}

static void
tell(struct client *cl, const char *line)
{
	if (cl->missed > 0 ||
	    evbuffer_get_length(cl->stream) > WAITING_MAX) {
		cl->missed++;
		return;
	}
	(void)evbuffer_add_printf(cl->stream, "%s\n", line);
	(void)push(cl);
}

static void
on_line(void *arg, const char *line)
{
	struct control *c = arg;

	keep(c, line);
	for (struct client *cl = c->clients; cl != NULL; cl = cl->next)
		if (cl->stream != NULL)
			tell(cl, line);
}

/* ---- request, beginning, end ---- */

static void
follow(struct client *cl, struct evbuffer *stream)
{
	size_t n = 0;

	for (const struct client *other = cl->control->clients; other != NULL;
	    other = other->next)
		n += other->stream != NULL;
	if (n >= FOLLOWERS_MAX) {
		evbuffer_free(stream);
		ctlsock_error(cl, "too many follow already");
		return;
	}
	cl->stream = stream;
	if (watch(cl, true) != 0)
		ctlsock_end(cl);
}

/* The last ones only: an answer like any other, with its time. */
static void
answer(struct client *cl, struct evbuffer *lines)
{
	size_t len = evbuffer_get_length(lines);
	char *text = malloc(len + 1);

	if (text != NULL) {
		(void)evbuffer_remove(lines, text, len);
		text[len] = '\0';
	}
	evbuffer_free(lines);
	if (text != NULL)
		ctlsock_answer_text(cl, text);
	else
		ctlsock_error(cl, "no memory");
}

void
ctlevents_request(struct client *cl, const char *rest)
{
	bool follows = strcmp(rest, "follow") == 0;
	struct evbuffer *lines;

	if (!follows && strcmp(rest, "recent") != 0) {
		ctlsock_error(cl, "unknown request");
		return;
	}
	lines = evbuffer_new();
	if (lines == NULL) {
		ctlsock_error(cl, "no memory");
		return;
	}
	(void)evbuffer_add_printf(lines, "{\"ok\":true}\n");
	put_recent(cl->control, lines);
	if (follows)
		follow(cl, lines);
	else
		answer(cl, lines);
}

void
ctlevents_open(struct control *c)
{
	log_tee(on_line, c);
}

void
ctlevents_shut(struct control *c)
{
	struct client *next;

	for (struct client *cl = c->clients; cl != NULL; cl = next) {
		next = cl->next;
		if (cl->stream != NULL)
			ctlsock_end(cl);
	}
}

void
ctlevents_close(struct control *c)
{
	log_tee(NULL, NULL);
	for (size_t i = 0; i < EVENTS_KEPT; i++)
		free(c->recent[i]);
	memset(c->recent, 0, sizeof(c->recent));
}
