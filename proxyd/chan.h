/*
 * chan.h - one side of a session: a descriptor, perhaps TLS, what waits
 *
 * Reads and writes go through the relay's scratch memory; a chan owns heap only
 * for what could not be consumed or written, so an idle one owns none. TLS runs
 * over memory on both ends: an SSL call never blocks and never sees a partial
 * write. A chan decides nothing: it reports readable, eof, reset.
 */
#ifndef SALLYPORT_CHAN_H
#define SALLYPORT_CHAN_H

#include <event2/event.h>
#include <event2/event_struct.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/addr.h"
#include "lib/buf.h"

/* One read; a full TLS record and then some. */
#define SCRATCH (64u * 1024u)
/* Unwritten bytes beyond which the other side is not read. */
#define CHAN_HIGH (64u * 1024u)

struct publish_place;
struct serve;
struct server_conf;
struct tls;

/* Shared by all chans of a relay; valid within one turn of one session. */
struct scratch {
	uint8_t plain[2][SCRATCH];	/* by side */
	uint8_t cipher[SCRATCH];
	uint8_t gather[SCRATCH];	/* output not yet given to send(2) */
	size_t gathered;
	struct chan *gatherer;
};

struct chan {
	int fd;			/* -1: none */
	struct event ev;
	struct scratch *scratch;
	uint8_t *plain;		/* this side's part of the scratch */
	SSL *ssl;
	const uint8_t *cipher;	/* received, not yet decrypted */
	size_t cipher_len;
	const uint8_t *view;	/* readable plaintext */
	size_t view_len;
	struct buf cipher_rest, rest, out;
	uint64_t received, sent;	/* plaintext octets */
	int error;		/* errno of the failure behind reset */
	bool watched;		/* ev is in the loop */
	bool readable;		/* the kernel may have bytes or an EOF */
	bool eof;		/* the kernel has no more; see chan_ended */
	bool dry;		/* TLS has ended or broken: no more plaintext */
	bool reset;		/* dead: reads and writes fail */
	bool shut;		/* our direction is closed */
	bool last;		/* what is sent now are the last octets */
};

void chan_init(struct chan *c, struct scratch *scratch, int side);

/* Put the descriptor into the loop: edge-triggered, both directions, once. */
int chan_watch(struct chan *c, int fd, struct event_base *base,
	event_callback_fn on_event, void *arg);

/* Note what the loop said (EV_READ, EV_WRITE). */
void chan_notice(struct chan *c, short what);

/* Make view hold more, if there is more. true: view, eof or reset changed. */
bool chan_fill(struct chan *c);
void chan_consume(struct chan *c, size_t n);

/* Everything the peer sent has been consumed, and nothing more will come. */
bool chan_ended(const struct chan *c);

/* Queue plaintext; goes out with chan_flush. -1: reset or out of bounds. */
int chan_write(struct chan *c, const void *p, size_t n);

/* Send what is queued. 1: nothing left, 0: some waits, -1: reset. */
int chan_flush(struct chan *c);
/* The same when chan_shut or chan_close follows at once: the end of the stream
 * then goes out in the last octets' packet (MSG_MORE, tcp(7)). */
int chan_flush_last(struct chan *c);

/* Octets that wait for the peer. */
size_t chan_pending(const struct chan *c);

/* Start TLS as a client; -1: no memory. Then chan_handshake until it is not 0:
 * 1 done, -1 failed (tls_failure tells why). */
int chan_tls(struct chan *c, struct tls *t, const struct server_conf *server,
	const char *name, unsigned index, const struct addr *to);
int chan_handshake(struct chan *c);

/* The same as a server, for a client of a published one (serve_failure). */
int chan_serve(struct chan *c, struct serve *v,
	const struct publish_place *place);

/* Close our direction (close_notify first); what waits must be flushed. */
void chan_shut(struct chan *c);

/* End of the session's turn: what is still unread moves to the heap. */
void chan_settle(struct chan *c);

/* Close and free everything; abort: with a reset instead of FIN. */
void chan_close(struct chan *c, bool abort);

#endif
