/*
 * imap.h - IMAP's words, for the machine in imap.c (private to it)
 *
 * imap_text.c cuts lines into tag, verb and response, and edits lists of
 * capabilities. All of it accepts any octets of any length up to
 * LINE_MAX_OCTETS and keeps pointers into the line only.
 */
#ifndef SALLYPORT_IMAP_H
#define SALLYPORT_IMAP_H

#include "proxyd/proto.h"

enum imap_verb {
	IMAP_LOGIN, IMAP_AUTHENTICATE, IMAP_STARTTLS, IMAP_LOGOUT,
	IMAP_COMPRESS, IMAP_OTHER
};

struct imap_command {
	enum imap_verb verb;
	const uint8_t *tag;
	size_t tag_len;		/* 1..IMAP_TAG_MAX */
	const uint8_t *arg;	/* first word behind the verb; may be empty */
	size_t arg_len;
};

/* false: no tag, or none that we could keep, or no verb. */
bool imap_command(const struct line *l, struct imap_command *c_r);

enum imap_kind {
	IMAP_STATUS,		/* "* OK|NO|BAD|BYE|PREAUTH text", or tagged */
	IMAP_CAPABILITY,	/* "* CAPABILITY list" */
	IMAP_DATA,		/* any other untagged response */
	IMAP_CONTINUATION,	/* "+ text" */
	IMAP_NONSENSE
};

enum imap_status { IMAP_OK, IMAP_NO, IMAP_BAD, IMAP_BYE, IMAP_PREAUTH };

struct imap_response {
	enum imap_kind kind;
	enum imap_status status;	/* of IMAP_STATUS */
	bool tagged;
	const uint8_t *tag;
	size_t tag_len;
	const uint8_t *text;	/* behind the status word or CAPABILITY, and one
				 * space */
	size_t text_len;
	const uint8_t *list;	/* capabilities, of IMAP_CAPABILITY or of a code
				 * "[CAPABILITY ...]"; NULL: none */
	size_t list_len;
};

/* false: a capability code that does not end. */
bool imap_response(const struct line *l, struct imap_response *r_r);

bool imap_list_has(const uint8_t *list, size_t n, const char *word);

/* How a list is shown. */
enum imap_show {
	IMAP_SHOW_STARTTLS = 1,	/* a property of the client's own leg */
	IMAP_SHOW_TLS = 2,	/* the client speaks TLS with us: sasl.h, sasl_binds */
	IMAP_SHOW_NO_LOGIN = 4	/* not yet: RFC 9051 section 6.2.3 */
};

/* The list as the client may see it: with STARTTLS or without, and without
 * mechanisms that cannot cross two legs. Each word behind a space. */
void imap_print_list(const uint8_t *list, size_t n, unsigned show,
	struct sink *out);

/* The whole line with its list edited, if it has one, and CRLF. */
void imap_print_response(const struct line *l, const struct imap_response *r,
	unsigned show, struct sink *out);

#endif
