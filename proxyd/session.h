/*
 * session.h - one connection from accept to its log line
 *
 * session.c is its life (open, time limits, end), dial.c its way to the server,
 * publish.c what differs for a published server, pump.c moves bytes between its
 * two sides and the machine; origin.c and opportune.c know servers that nobody
 * has listed. Only these files and relay.c include this header.
 */
#ifndef SALLYPORT_SESSION_H
#define SALLYPORT_SESSION_H

#include <event2/event_struct.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "conf/conf.h"
#include "proxyd/account.h"
#include "proxyd/chan.h"
#include "proxyd/offer.h"
#include "proxyd/policy.h"
#include "proxyd/proto.h"
#include "proxyd/relay.h"
#include "proxyd/tlsseen.h"
#include "proxyd/upstream.h"

enum phase {
	PHASE_HELLO,	/* published: TLS with the client comes first */
	PHASE_DELAY,	/* block: the greeting waits */
	PHASE_SOCKET,	/* waiting for a socket from the parent */
	PHASE_CONNECT,
	PHASE_TLS,
	PHASE_KEEPER,	/* waiting for the keeper's answer */
	PHASE_TALK,	/* the machine and the pump are at work */
	PHASE_LINGER,	/* last words are on their way to the client */
	PHASE_DEAD	/* freed when the loop returns */
};

/* A server that is not listed: origin.h, opportune.h. */
struct origin_server {
	struct server_conf conf;
	char name[ADDR_STRLEN + 8];	/* an address literal */
	bool tried_both;
	/* opportune.c; NOT: never, or settled */
	enum { OPPORTUNE_NOT, OPPORTUNE_TRIES, OPPORTUNE_MUST } opportune;
	bool is_valid;		/* its certificate's chain */
	struct tls_names names;	/* of it */
};

struct session {
	TAILQ_ENTRY(session) link;
	struct relay *relay;
	struct chan side[2];
	struct machine machine;
	struct context context;
	const struct publish_place *place;	/* NULL: captured */
	struct origin_server *unlisted;	/* NULL: the server is, or none */
	struct upstream_waiter waiter;
	struct offer_waiter asked;
	struct keeper_waiter keeper;
	struct event timer;
	enum phase phase;
	enum reason reason;
	enum event_kind kind;
	bool is_policed;	/* policy.h */
	bool counted;		/* in relay->lines */
	bool is_slow;		/* in the tarpit, and in relay->slow_now */
	bool moved;		/* something happened that extends a limit */
	bool no_alpn;		/* dialled once more, without ALPN */
	bool unfinished;	/* there is more to move, in another turn */
	uint8_t tls;		/* upstream, or with a published one's client:
				 * 0, 12, 13 */
	uint8_t tries;		/* of this dial: addresses that have failed */
	int class_index, server;
	int64_t slow_until;	/* ms: until then nothing is read of the client */
	int64_t started, phase_since, dial_since, moved_at;
	int64_t deadline, armed;	/* ms; armed 0: no timer */
	uint64_t id;
	uint64_t progress;	/* payload octets since the limit was extended */
	uint64_t bytes[2];	/* read from each side */
	struct line_key line;
	struct addr src, origin, out;
	struct addr via;	/* of the submission_host; family 0: the origin */
};

/* Take over an accepted descriptor. Always consumes it. place: of the published
 * server that was dialled; NULL: the connection was captured. */
void session_open(struct relay *r, int fd, const struct addr *src,
	const struct addr *origin, const struct publish_place *place);

/* End it before its time, with a word where there is one to be said. */
void session_end(struct session *s, enum reason why);

/* ---- between session.c, dial.c and pump.c ---- */

/* Move and send what can be. true: the turn was over before that was done. */
bool pump_run(struct session *s);

/* Do what the machine asked for. */
void session_act(struct session *s, enum act act);

/* End it: the client is told why in its protocol's words, then closed. */
void session_fail(struct session *s, enum reason why, const char *detail);

/* End it without words of ours; what is queued still goes out. */
void session_finish(struct session *s, enum reason why);

/* End it with resets on both sides. */
void session_abort(struct session *s, enum reason why);

/* Make the server of an origin that nobody has listed: name an address literal,
 * no ports yet. It is the session's. NULL: no memory. */
struct origin_server *session_server(struct session *s);

/* Give what the machine has found out about the line to the table. */
void session_evidence(struct session *s);

void session_phase(struct session *s, enum phase phase);

/* In the tarpit: what the client says next waits. */
void session_slow(struct session *s);

/* Octets the client sent before it was allowed to. */
bool session_is_early(const struct session *s);

/* Of a chan in the loop; arg: the session. */
void session_on_event(evutil_socket_t fd, short what, void *arg);

/* The end of each of the loop's callbacks: what can move moves; a session that
 * is over is gone after it. */
void session_leave(struct session *s);

/* Connect to machine.dial: as far as it goes now. The server side is closed. */
void dial_begin(struct session *s);
/* It has failed: true when another address is tried instead. */
bool dial_next(struct session *s, enum reason why);
/* The server side is readable or writable while it connects or shakes hands. */
void dial_continue(struct session *s);
/* A socket has come from the parent. */
void dial_socket(struct upstream_waiter *w);
/* TLS on the connection that there is. */
void dial_tls(struct session *s);
/* Ask what the client's own port offers; machine.offered() is told. */
void dial_ask(struct session *s);
void dial_offered(struct offer_waiter *w, enum offer answer);
/* From here on opaque. */
void dial_tunnel(struct session *s);

/* Of a published server (publish.c). */
const struct publish_conf *publish_of(const struct session *s);
void publish_decide(const struct relay *r, const struct addr *src,
	const struct publish_place *place, struct decision *d_r);
void publish_context(struct session *s);
/* TLS with the client: begin, and go on with what it has sent. */
void publish_hello(struct session *s);
void publish_continue(struct session *s);
/* The client has asked for it by STARTTLS, and was told to go on. */
void publish_starttls(struct session *s);

/* The client may be greeted. */
void session_greet(struct session *s);

/* Give the sinks of a machine call to the two sides. */
void session_flush_sinks(struct session *s, struct sink out[2]);
void session_open_sinks(struct session *s, struct sink out[2]);

#endif
