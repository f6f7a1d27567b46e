/*
 * proto.h - what a protocol machine and the session engine say to each other
 *
 * A machine is pure: a framed unit goes in, output is appended to the sinks of
 * the two sides and an action comes back. No descriptor, clock, allocation or
 * log. The session asks machine->expect[side] what kind of unit comes next
 * from a side and guarantees SINK_ROOM bytes of room in both sinks before
 * every call.
 */
#ifndef SALLYPORT_PROTO_H
#define SALLYPORT_PROTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf/conf.h"
#include "lib/addr.h"
#include "proxyd/event.h"
#include "proxyd/evidence.h"
#include "proxyd/frame.h"
#include "proxyd/tally.h"

enum side { CLIENT, SERVER };

/* The next unit wanted from a side. */
enum expect {
	EXPECT_NONE,	/* leave its bytes where they are (lockstep) */
	EXPECT_LINE,
	EXPECT_COUNTED,	/* machine->counted bytes, passed to data() */
	EXPECT_DATA,	/* DOTTED payload, passed to data() */
	EXPECT_RAW,	/* copied to the other side unread; watch() sees it */
	EXPECT_DISCARD	/* read and thrown away until the side closes */
};

enum act {
	ACT_NONE,
	ACT_DIAL,	/* connect to machine->dial; then upstream() is called */
	ACT_TLS,	/* start TLS with the server now; clear bytes behind
			 * the line just read are an attack */
	ACT_TUNNEL,	/* from here on opaque; clear bytes behind the line just
			 * read, on either side, are an attack */
	ACT_ACCEPT,	/* the client begins TLS with us: everything is forgotten,
			 * a new machine follows; clear bytes are an attack */
	ACT_ASK,	/* does the origin's own port offer STARTTLS? then
			 * machine->offer says so and offered() is called */
	ACT_KEEPER,	/* put context.account's question to the keeper; then
			 * answered() is called, or the session fails */
	ACT_HANGUP,	/* drop the server side at once, keep the client */
	ACT_FAIL,	/* farewell() with reason and notes.detail, then close */
	ACT_CLOSE	/* flush the client's output, then close; reason set */
};

/* Does the port that the client dialled offer STARTTLS by itself? */
enum offer { OFFER_UNKNOWN, OFFER_NONE, OFFER_STARTTLS };

/* Room for one line of input passed on, and for our own longest answer. */
#define SINK_ROOM (LINE_MAX_OCTETS + 8192)

struct sink {
	uint8_t *p;
	size_t len, cap;
};

void sink_bytes(struct sink *k, const void *p, size_t n);
void sink_text(struct sink *k, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* What the dialogue was about: for the log line, and for the detectors. */
struct notes {
	uint8_t helo_len;
	uint16_t stage;		/* enum event_stage */
	uint16_t code;		/* last refusal */
	uint32_t rcpts;		/* RCPT commands */
	uint32_t messages;	/* accepted by the server */
	char esc[12];
	char helo[EVENT_HELO_MAX];
	char detail[EVENT_DETAIL_MAX];	/* NUL-terminated */
	struct witness witness;
};

/* What the line has used of a quota, all its sessions together: counts n more
 * (0: only looks) and returns the sum. */
typedef unsigned quota_fn(void *arg, enum tally_kind kind, unsigned n);

/* A challenge as it came, and what a MAIL may have behind its path. */
#define ACCOUNT_CHALLENGE_MAX 512
#define ACCOUNT_PARAMETERS_MAX 512

/* A session whose line has an account: smtp_account.c. */
struct account_use {
	const struct account_conf *conf;
	bool (*is_suspect)(void *arg);	/* the line, now */
	void *arg;
	bool is_ours;		/* the login is, or is to be, the account's */
	enum account_mechanism mechanism;
	unsigned step;		/* challenges answered */
	uint16_t challenge_len;
	char challenge[ACCOUNT_CHALLENGE_MAX];
	size_t parameters_len;	/* of the MAIL that waits, each behind a blank */
	char parameters[ACCOUNT_PARAMETERS_MAX];
};

/* The longest name of a user that is remembered (and its command in xtext stays
 * below 512 octets). */
#define POP_USER_MAX 92
/* As smtp_submit.c takes a command. */
#define POP_MAIL_MAX 2048

/* A POP3 session whose login may vouch for mail: pop_login.c. */
struct pop_login {
	void (*accepted)(void *arg, const char *user);
	void *arg;
	bool is_plain;		/* its next line is an answer of AUTH PLAIN */
	char user[POP_USER_MAX + 1];	/* "": none that could be read */
};

/* A submit session that it may vouch for: smtp_pop.c. */
struct pop_use {
	/* Whose login of this line counts now? */
	bool (*find)(void *arg, char user[POP_USER_MAX + 1]);
	void *arg;
	bool is_ours;		/* the login is, or is to be, that one */
	bool is_known;		/* the server knows it on this connection */
	bool is_refused;	/* the server does not take our word */
	char user[POP_USER_MAX + 1];
	size_t mail_len;	/* of the MAIL that waits */
	uint8_t mail[POP_MAIL_MAX];
};

/* Facts about the session that do not change while it lives. */
/* RFC 5321 section 4.5.3.1.2: a domain has at most 255 octets. */
#define HELLO_MAX 256

struct context {
	const char *gateway;		/* our own name */
	const struct server_conf *server;	/* NULL: none */
	/* Of a published server: TLS with the client is ours, and nothing is
	 * asked of the port that was dialled. */
	bool is_published;
	bool offers_tls;		/* still in clear: STARTTLS is shown, and
					 * taken with ACT_ACCEPT */
	bool needs_tls;			/* and until then there is no login */
	bool greeted;			/* by the machine before this one, in
					 * clear: not again (RFC 3207, 4.2) */
	const struct block_conf *block;
	const struct smtp_limits *limits;	/* NULL: those of smtp.h */
	quota_fn *quota;		/* NULL: nothing is counted */
	void *quota_arg;
	struct addr src;		/* the client, with its port */
	char id[EVENT_ID_LEN];
	char client[ADDR_STRLEN];	/* address, without port */
	bool refuse_at_ehlo;		/* adaptive */
	bool is_soft;			/* refusals are temporary */
	bool strict;			/* smtp.strict */
	bool read_replies;		/* relay: evidence from servers' replies */
	char *hello;			/* submit: HELLO_MAX octets for what the
					 * server's EHLO says; others: NULL */
	struct envelope *envelope;	/* NULL: addresses are not kept */
	struct account_use *account;	/* NULL: the line has none there */
	struct pop_login *pop_login;	/* POP3; NULL: not looked at */
	struct pop_use *pop;		/* submit; NULL: POP3 vouches for nobody */
	uint64_t key[2];		/* of hashes that clients must not aim at */
	struct addr origin;
};

/* Does the session use a quota of its account's, which all its lines share? */
bool account_has_quota(const struct context *x, enum tally_kind kind);

struct machine;

struct machine_ops {
	enum event_kind kind;
	/* Once, when the client may be greeted. */
	enum act (*greet)(struct machine *m, struct sink out[2]);
	enum act (*line)(struct machine *m, enum side from,
		const struct line *l, struct sink out[2]);
	/* Payload bytes: eats *used_r of n. Only where expect asks for it. */
	enum act (*data)(struct machine *m, const uint8_t *p, size_t n,
		size_t *used_r, struct sink out[2]);
	/* The dial succeeded (TLS included, where asked for), or the TLS that
	 * ACT_TLS started stands. */
	enum act (*upstream)(struct machine *m, struct sink out[2]);
	/* The answer to ACT_ASK is in m->offer; NULL: never asks. */
	enum act (*offered)(struct machine *m, struct sink out[2]);
	/* The keeper's answer to ACT_KEEPER: one line without its end. NULL:
	 * never asks. */
	enum act (*answered)(struct machine *m, const char *answer, size_t n,
		struct sink out[2]);
	/* The session is over before its time: put the words for the client in
	 * its sink. why is one of our reasons, detail the library's words. */
	void (*farewell)(struct machine *m, enum reason why, const char *detail,
		struct sink out[2]);
	/* Bytes that pass unchanged, as they pass; may be NULL. */
	void (*watch)(struct machine *m, enum side from, const uint8_t *p,
		size_t n);
};

enum smtp_state {
	SMTP_GREET,		/* no EHLO yet */
	SMTP_BLOCKED,		/* block: answering by ourselves */
	SMTP_U_GREETING,	/* upstream: its 220 */
	SMTP_U_EHLO_CLEAR,	/* upstream: list before STARTTLS */
	SMTP_U_STARTTLS,	/* upstream: 220 to STARTTLS */
	SMTP_U_EHLO,		/* upstream: list after TLS */
	SMTP_U_XCLIENT,		/* upstream: greeting anew, behind XCLIENT */
	SMTP_READY,		/* client's turn */
	SMTP_REPLY,		/* server's turn */
	SMTP_AUTH_CLIENT,	/* client's turn inside AUTH */
	SMTP_AUTH_SERVER,
	SMTP_ACCOUNT,		/* upstream: AUTH by ourselves; MAIL waits */
	SMTP_POP_XCLIENT,	/* upstream: XCLIENT LOGIN; MAIL waits */
	SMTP_POP_EHLO,		/* upstream: the list behind it */
	SMTP_DATA,		/* payload */
	SMTP_CHUNK,		/* a BDAT chunk */
	SMTP_FINAL,		/* reply to the payload */
	SMTP_SKIP,		/* payload refused, eaten until its end */
	SMTP_OPAQUE
};

/* Extensions whose EHLO line has words that are shown as they are, and the
 * longest of them: FUTURERELEASE and LIMITS have 45 to 55 octets. */
#define EHLO_WORDS 4
#define EHLO_WORDS_MAX 64

/* What a server offers, from its EHLO list: only what we know to carry. */
struct ehlo {
	uint32_t caps;		/* bit per row of the table in smtp_ehlo.c */
	uint32_t mechs;		/* bit per row of the SASL table in sasl.c */
	uint64_t size;
	bool size_given;
	bool binds;		/* AUTH has a "-PLUS": sasl_binds */
	uint32_t xclient;	/* attributes: identity.c */
	char words[EHLO_WORDS][EHLO_WORDS_MAX];
};

struct smtp {
	enum smtp_state state;
	uint8_t verb;		/* command whose reply is awaited */
	bool tunnel;		/* this dial is for the client's own STARTTLS */
	bool has_auth, is_ehlo, in_tls;
	bool identified;	/* XCLIENT was sent on this connection */
	bool has_mail, has_rcpt;	/* accepted, in this transaction */
	bool asks_binary, is_binary;	/* BODY=BINARYMIME: asked for, accepted */
	bool chunk_last;	/* of a BDAT: LAST */
	bool is_bare;		/* SMTP_SKIP: for a bare CR or LF */
	uint8_t chunk_fate;	/* of a BDAT: smtp_chunk.c */
	bool first_seen;	/* first line of a reply was read */
	uint16_t replies;	/* lines of the reply so far */
	uint16_t code;		/* of the reply so far; 0: none begun */
	uint32_t commands, errors;
	uint64_t octets;		/* of this message, so far */
	struct ehlo ehlo;
	struct payload payload;
	uint64_t chunked;	/* octets of this mail's chunks */
	size_t hello_len;	/* of EHLO's argument, in context.hello */
};

/* The observer of a relayed session: remembers the start of a line only. */
#define WATCH_LINE 96
#define WATCH_FIFO 64

struct watch {
	bool opaque;
	uint8_t n_expected, first_expected;
	uint8_t dotted;
	bool wait_data;		/* DATA sent, 354 not yet seen */
	bool in_data;
	uint64_t chunk;		/* bytes of BDAT still to come */
	size_t len[2];
	uint8_t expected[WATCH_FIFO];
	uint8_t text[2][WATCH_LINE];
};

enum pop3_state {
	POP3_GREETING,
	POP3_U_STLS,		/* upstream: reply to our STLS */
	POP3_READY,
	POP3_ASKED,		/* the client waits for ACT_ASK */
	POP3_REPLY,
	POP3_LIST,		/* lines until "." */
	POP3_AUTH_CLIENT,
	POP3_T_GREETING,	/* the client's own STLS: the plain port's greeting */
	POP3_T_STLS,		/* and its reply */
	POP3_OPAQUE
};

/* RFC 1939 section 7: the time stamp of a greeting; a msg-id with its <>. */
#define POP3_STAMP_MAX 256

struct pop3 {
	enum pop3_state state;
	uint8_t verb;
	bool clear;		/* TLS is still to come on this connection */
	uint16_t errors;
	uint16_t stamp_len;
	uint32_t lines;
	char stamp[POP3_STAMP_MAX];
};

enum imap_state {
	IMAP_ASKED,		/* connected, ACT_ASK is under way */
	IMAP_GREETING,
	IMAP_U_STARTTLS,	/* upstream: reply to our STARTTLS */
	IMAP_U_LIST,		/* upstream: reply to our CAPABILITY */
	IMAP_READY,
	IMAP_LITERAL,		/* octets of the client's command */
	IMAP_ARGUMENT,		/* its line goes on behind them */
	IMAP_REPLY,
	IMAP_AUTH_CLIENT,	/* client's turn inside AUTHENTICATE */
	IMAP_T_GREETING,	/* the client's own STARTTLS, see POP3 */
	IMAP_T_STARTTLS,
	IMAP_OPAQUE
};

/* A tag has no limit in RFC 9051; programs count with four letters or so. */
#define IMAP_TAG_MAX 64

struct imap {
	enum imap_state state;
	uint8_t verb;
	bool clear;		/* TLS is still to come on this connection */
	bool greeted;		/* the client has had its greeting */
	bool asked_leave;	/* a literal waits for the server's "+" */
	bool in_literal;	/* of the server: counted octets, */
	bool in_line;		/* then the rest of its line */
	uint8_t client_expect;	/* enum expect, for after that line */
	uint8_t literals;	/* in this command */
	uint8_t tag_len;	/* 0: no command is under way */
	uint16_t errors;
	uint32_t literal;	/* octets that wait for leave */
	uint32_t lines;		/* since the last command */
	char tag[IMAP_TAG_MAX];
};

struct machine {
	const struct machine_ops *ops;
	const struct context *context;
	enum expect expect[2];
	enum reason reason;	/* with ACT_CLOSE */
	struct endpoint dial;	/* with ACT_DIAL; mode TLS_NONE or TLS_PLAIN: in
				 * clear; port 0: the one that was dialled */
	enum offer offer;
	const char *alpn;	/* offered inside implicit TLS; NULL: nothing */
	uint64_t counted;
	unsigned client_wait, server_wait;	/* seconds, for what comes next */
	bool more;		/* the client has sent octets behind this line */
	bool dialling;		/* from ACT_DIAL until our answer: one limit */
	struct notes notes;
	union {
		struct smtp smtp;
		struct watch watch;
		struct pop3 pop3;
		struct imap imap;
	} u;
};

/* Fill *m for a session of that kind. context must outlive it. */
void smtp_block_init(struct machine *m, const struct context *context);
void smtp_submit_init(struct machine *m, const struct context *context);
void smtp_relay_init(struct machine *m, const struct context *context);
void pop3_init(struct machine *m, const struct context *context);
void imap_init(struct machine *m, const struct context *context);

/* What a machine knows of the offer before it has asked. */
enum offer offer_known(const struct context *x);

/* Why a wrapped session ends, for its user: "NAME: WORDS: detail". */
const char *farewell_words(enum reason why);

/* ---- pop_login.c, for pop3.c ---- */

/* A command of the client's; its answer inside AUTH; the server refused a
 * command; it took the login. */
void pop_login_command(struct pop_login *login, const struct line *l);
void pop_login_answer(struct pop_login *login, const struct line *l);
void pop_login_refused(struct pop_login *login);
void pop_login_accepted(const struct pop_login *login);

/* Every byte that is not printable ASCII becomes '?'; always NUL-terminated. */
void notes_detail(struct notes *n, const uint8_t *p, size_t len);

/* Of a refused login: only the response code "[...]" at the start of the
 * server's text (RFC 3206, RFC 5530), or nothing. Some servers repeat in their
 * answer what they did not like, and that is a password. */
#define NOTES_CODE_MAX 30
void notes_code(struct notes *n, const uint8_t *p, size_t len);

#endif
