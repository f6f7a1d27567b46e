/*
 * mailpeer.h - a scenario of peers that do what no mail program does
 *
 * mp_script.c  a file becomes steps
 * mp_peer.c    one end of a connection: sockets, TLS, what it has received
 * mp_play.c    the steps, one after the other, and what differs
 * mailpeer.c   the command line
 *
 * One step is done before the next begins, whoever does it: so the file reads as
 * the conversation goes, and "not before the other has said it" needs no word of
 * its own.
 */
#ifndef SALLYPORT_TOOLS_MAILPEER_H
#define SALLYPORT_TOOLS_MAILPEER_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "lib/addr.h"

#define MP_PEERS 8
#define MP_NAME 32	/* of a peer or a variable, with NUL */
#define MP_SETTINGS 64

/* What a verb's text is. */
enum mp_text {
	TEXT_NONE,
	TEXT_WORDS,	/* as it stands */
	TEXT_OCTETS,	/* with escapes */
	TEXT_MAYBE	/* words, or nothing */
};

/* VERB(symbol, word, its text, help) */
#define MP_VERBS(VERB)							\
	VERB(CONNECT, "connect", WORDS, "dial ADDRESS:PORT [from ADDRESS]") \
	VERB(LISTEN, "listen", WORDS, "be ready at ADDRESS:PORT")	\
	VERB(ACCEPT, "accept", NONE, "take the connection that comes")	\
	VERB(TLS, "tls", WORDS, "handshake: of who dialled, for NAME; of "	\
		"who accepted, with the chain and key in FILE")		\
	VERB(SEND, "send", OCTETS, "TEXT and CRLF")			\
	VERB(RAW, "raw", OCTETS, "exactly TEXT; *N TEXT: N times")	\
	VERB(POUR, "pour", OCTETS, "as raw, and the other side may end it") \
	VERB(WIRE, "wire", OCTETS, "exactly TEXT, beneath TLS")		\
	VERB(EXPECT, "expect", OCTETS, "the next line; * is anything")	\
	VERB(UNTIL, "until", OCTETS, "lines, up to the one that is like this") \
	VERB(EXACT, "exact", OCTETS, "exactly these octets; *N TEXT: N times") \
	VERB(NEVER, "never", OCTETS, "nothing received so far has it")	\
	VERB(QUIET, "quiet", NONE, "nothing is there")			\
	VERB(SKIP, "skip", NONE, "whatever is and will be there is no matter") \
	VERB(SHUT, "shut", NONE, "half-close: no more from here")	\
	VERB(CLOSE, "close", NONE, "close, TLS first")			\
	VERB(CUT, "cut", NONE, "close without a word of TLS")		\
	VERB(RESET, "reset", NONE, "close with a TCP reset")		\
	VERB(END, "end", MAYBE, "the other side ends it: eof, reset, or any")

enum mp_verb {
#define VERB(sym, word, text, help) MP_##sym,
	MP_VERBS(VERB)
#undef VERB
	MP_VERB_COUNT
};

extern const char *const mp_verb_word[MP_VERB_COUNT];

struct mp_step {
	const char *file;	/* the script's */
	unsigned line;
	enum mp_verb verb;
	unsigned peer;
	unsigned times;		/* of the text: 1, or N */
	uint8_t *text;
	size_t len;		/* of text, which has a NUL behind it */
};

/* NAME=VALUE of the command line: variables, and namespaces of peers. */
struct mp_setting {
	char name[MP_NAME];
	const char *value;
};

struct mp_settings {
	struct mp_setting one[MP_SETTINGS];
	size_t n;
};

/* 0, or -1 when text is no NAME=VALUE or there is no room. */
int mp_setting_add(struct mp_settings *s, const char *text);
/* NULL: not set. */
const char *mp_setting_find(const struct mp_settings *s, const char *name,
	size_t len);

struct mp_script {
	struct mp_step *step;
	size_t n;
	char peer[MP_PEERS][MP_NAME];
	unsigned npeers;
	char *file[32];		/* every file read, every definition */
	unsigned nfiles;
};

/* Read a file and what it includes. 0, or -1 with FILE:LINE on stderr. Either
 * way mp_script_free() afterwards. */
int mp_script_read(struct mp_script *s, const char *path,
	const struct mp_settings *set);
void mp_script_free(struct mp_script *s);

/* ---- one end ---- */

/* All that one peer may receive; a scenario that needs more is a benchmark. */
#define MP_RECEIVED_MAX (32u << 20)

struct mp_peer {
	const char *name, *ns;	/* ns NULL: where we are */
	int listener, fd;	/* -1: none */
	SSL *ssl;
	bool dialled;		/* else accepted */
	bool skip;
	enum { PEER_OPEN, PEER_EOF, PEER_RESET } end;
	uint8_t *in;		/* everything received on this connection */
	size_t n, cap, seen;
};

/* Time as poll(2) has it, on CLOCK_MONOTONIC. */
int64_t mp_now(void);

/* 0, or -1 and why in words. */
int peer_listen(struct mp_peer *p, const struct addr *at, char *why, size_t cap);
int peer_connect(struct mp_peer *p, const struct addr *to,
	const struct addr *from, int64_t deadline, char *why, size_t cap);
int peer_accept(struct mp_peer *p, int64_t deadline, char *why, size_t cap);
/* name: to be verified, or the file to show. */
int peer_tls(struct mp_peer *p, const char *name, const char *trust,
	int64_t deadline, char *why, size_t cap);

/* 1: more has come; 0: not in time; -1: the other side has ended (p->end). */
int peer_fill(struct mp_peer *p, int64_t deadline);

/* All of it, or -1: not in time, or the other side has ended. beneath: not
 * through TLS. */
int peer_send(struct mp_peer *p, const uint8_t *text, size_t n, bool beneath,
	int64_t deadline);

/* how: MP_SHUT, MP_CLOSE, MP_CUT, MP_RESET. */
void peer_end(struct mp_peer *p, enum mp_verb how);
void peer_free(struct mp_peer *p);

/* ---- all of it ---- */

struct mp_play {
	const struct mp_script *script;
	const struct mp_settings *ns;
	const char *trust;	/* PEM file, or NULL: the system's */
	size_t octets;		/* sent at a time; 0: all */
	unsigned limit;		/* ms a step may take */
	FILE *talk;		/* the conversation */
};

/* 0: as it is written; 1: it differs, and what stands at the end of the
 * conversation. */
int mp_play(const struct mp_play *play);

#endif
