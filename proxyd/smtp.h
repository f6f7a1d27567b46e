/*
 * smtp.h - vocabulary shared by the three SMTP machines (private to them)
 */
#ifndef SALLYPORT_SMTP_H
#define SALLYPORT_SMTP_H

#include "proxyd/proto.h"

enum smtp_verb {
	VERB_EHLO, VERB_HELO, VERB_MAIL, VERB_RCPT, VERB_DATA, VERB_BDAT,
	VERB_RSET, VERB_NOOP, VERB_QUIT, VERB_AUTH, VERB_STARTTLS, VERB_VRFY,
	VERB_EXPN, VERB_HELP, VERB_UNKNOWN
};

/* Time limits in seconds: RFC 5321 section 4.5.3.2. */
#define SMTP_WAIT_COMMAND 300	/* 4.5.3.2.7: server waits for a command */
#define SMTP_WAIT_REPLY 300	/* 4.5.3.2.1-4: greeting, MAIL, RCPT, DATA */
#define SMTP_WAIT_BLOCK 180	/* 4.5.3.2.5: a block of the payload */
#define SMTP_WAIT_FINAL 600	/* 4.5.3.2.6: reply to the payload */
/* Silence after which a session that is carried unread is given up; TCP alone
 * would keep it for ever. Three times RFC 5321's longest limit. */
#define SMTP_WAIT_OPAQUE 1800
/* Until our answer to the first EHLO; DESIGN.md section 6. */
#define SMTP_WAIT_UPSTREAM 25

/* Refused commands after which a session ends with 421. */
#define SMTP_ERRORS_MAX 20
/* A blocked client that hammers on after this many learns nothing more. */
#define SMTP_COMMANDS_MAX 100
/* Lines of one reply; Postfix and Exim stay far below. */
#define SMTP_REPLY_LINES_MAX 512

struct command {
	enum smtp_verb verb;
	const uint8_t *text;	/* whole line without terminator */
	size_t len;
	const uint8_t *arg;	/* behind the verb and one space; may be empty */
	size_t arg_len;
};

/* Always yields a command, VERB_UNKNOWN at worst. */
void smtp_command(const struct line *l, struct command *c_r);

/* A reply line: code 200..599 and whether it is the last. -1: not a reply. */
int smtp_reply(const struct line *l, unsigned *code_r, bool *last_r);

/* Enhanced status code (RFC 3463) at the start of a reply's text, or "". */
void smtp_enhanced(const struct line *l, char out[12]);

/* The limits in force: the operator's, or those above. */
const struct smtp_limits *smtp_limits(const struct context *x);

/* Has the line used up its quota? n: what is wanted now; counted, when there
 * was room for it. */
bool smtp_is_over(const struct context *x, enum tally_kind kind, unsigned n);
/* It was used. */
void smtp_used(const struct context *x, enum tally_kind kind);

/* SIZE= among the parameters of MAIL; false: none, or no number. */
bool smtp_declared_size(const struct command *c, uint64_t *n_r);

/* Remember a refusal we or the server sent. */
void smtp_note_refusal(struct notes *n, unsigned code, const char *esc);

/* Remember EHLO's or HELO's argument as sent. */
void smtp_note_helo(struct notes *n, const struct command *c);

/* An EHLO/HELO argument fit to be sent on: a domain or an address literal. */
bool smtp_is_helo_name(const uint8_t *p, size_t n);

/* "SIZE" of "BDAT n [LAST]"; -1: not a number. */
int smtp_chunk_size(const struct command *c, uint64_t *n_r);

/* The same with what RFC 3030 has behind it, which is LAST or nothing; -1: it is
 * something else. More than one blank is taken: the command is written anew. */
int smtp_chunk(const struct command *c, uint64_t *n_r, bool *last_r);

/* MAIL's or RCPT's parameters hold exactly this word (any case). */
bool smtp_has_parameter(const struct command *c, const char *word);

/* ---- smtp_ehlo.c: the list of extensions, as an allowlist ---- */

/* One line of the server's list (its first line excluded). */
void ehlo_learn(struct ehlo *e, const struct line *l);
bool ehlo_has_starttls(const struct ehlo *e);
bool ehlo_has_chunking(const struct ehlo *e);

/* Lower the SIZE that is shown to ours; 0: none of ours. */
void ehlo_limit_size(struct ehlo *e, uint64_t most);

/* Our answer to EHLO: name, then what the server offers and we carry.
 * starttls: show STARTTLS (a property of the clear leg, never of the list). */
void ehlo_print(const struct ehlo *e, const char *name, bool starttls,
	struct sink *out);

/* Our answer to EHLO in block: nothing a server said. */
void ehlo_print_block(const char *name, struct sink *out);

/* ---- smtp_submit.c, for its other parts ---- */

/* End the session with our words. l: the server's line, for the log. */
enum act submit_fail(struct machine *m, enum reason why, const struct line *l);

/* The client's turn. */
void submit_become_ready(struct machine *m);

/* The server's turn, with so many seconds; the client's bytes stay. */
void submit_await(struct machine *m, enum smtp_state state, unsigned wait);

/* 530: no MAIL before 235. */
void submit_wants_login(struct machine *m, struct sink *to);

/* The transaction is over, or never was. */
void submit_forget_mail(struct smtp *s);

/* ---- smtp_upstream.c: submit's way to a server ---- */

/* Dial it; tunnel: for the client's own STARTTLS. */
enum act submit_dial(struct machine *m, struct endpoint to, bool tunnel);

/* Dial the server again, as context->server says now. */
enum act smtp_submit_redial(struct machine *m);

/* EHLO with the client's argument; the list will be the client's answer. */
void submit_send_ehlo(struct machine *m, struct sink out[2]);

/* As machine_ops.upstream. */
enum act submit_upstream(struct machine *m, struct sink out[2]);

/* A line of the server's in one of the states SMTP_U_*. */
enum act submit_upstream_line(struct machine *m, const struct line *l,
	unsigned code, bool last, struct sink out[2]);

/* ---- smtp_account.c: logins that are ours ---- */

/* May this command go to the server, as far as logins go: the client's own, or
 * one that we vouch for? */
bool vouch_permits(struct machine *m, const struct command *c);
/* Is the login ours, or to be? Then MAIL goes by vouch_mail(). */
bool vouch_is_ours(const struct machine *m);
enum act vouch_mail(struct machine *m, const struct command *c,
	struct sink out[2]);
/* The client logs in by itself. */
void vouch_withdraw(struct machine *m);
/* A line of the server's in SMTP_ACCOUNT. */
enum act account_reply(struct machine *m, const struct line *l, unsigned code,
	bool last, struct sink out[2]);
/* As machine_ops.answered. */
enum act account_answered(struct machine *m, const char *answer, size_t n,
	struct sink out[2]);

/* ---- smtp_pop.c: the same, by pop-before-smtp ---- */

/* May this MAIL go to the server? Then by pop_mail(), if it is ours. */
bool pop_permits(struct machine *m, const struct command *c);
enum act pop_mail(struct machine *m, const struct command *c,
	struct sink out[2]);
/* A line of the server's in SMTP_POP_*. */
enum act pop_reply(struct machine *m, const struct line *l, unsigned code,
	bool last, struct sink out[2]);

/* ---- smtp_block.c ---- */

/* Answer in the place of submit, whose client has been greeted and waits for the
 * reply to its EHLO or HELO. What was noted stays; m->context has changed. */
enum act smtp_block_take_over(struct machine *m, struct sink out[2]);

/* ---- smtp_chunk.c: BDAT through submit ---- */

enum act chunk_command(struct machine *m, const struct command *c,
	struct sink out[2]);
/* Octets of a chunk, sent on or eaten: as machine_ops.data. */
enum act chunk_data(struct machine *m, const uint8_t *p, size_t n,
	size_t *used_r, struct sink out[2]);

#endif
