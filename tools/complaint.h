/*
 * complaint.h - what a complaint says: which address, which port, when
 *
 * complaint_read() takes one mail: an ARF report (RFC 5965, RFC 6692), an X-ARF
 * report (0.2 or 4), or prose. What it cannot tell is not guessed: when one of
 * several ports or times may be meant, each is a finding, marked as such, and a
 * time without year or zone says so.
 */
#ifndef SALLYPORT_TOOLS_COMPLAINT_H
#define SALLYPORT_TOOLS_COMPLAINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/addr.h"

/* Octets of a mail; reports with the message itself attached have tens of
 * kilobytes. */
#define COMPLAINT_MAX (1024u * 1024u)
#define COMPLAINT_FINDINGS 32
#define COMPLAINT_TEXT 200

enum complaint_form { COMPLAINT_PROSE, COMPLAINT_ARF, COMPLAINT_XARF };

struct moment {
	int64_t at;	/* Unix time; 0: none is said */
	bool no_zone;	/* none written, or none we know: read as UTC */
	bool no_year;	/* none written: the last that is not in the future */
};

struct finding {
	struct addr who;	/* port 0: none is said */
	struct moment when;
	/* more than one may be meant; each is a finding of its own */
	bool many_ports, many_times;
};

/* Whose addresses are looked for. */
struct ours {
	bool (*is_ours)(const void *arg, const struct addr *a);
	const void *arg;
	int64_t now;	/* Unix time, for times without a year */
};

struct complaint {
	enum complaint_form form;	/* of what the findings come from */
	/* printable ASCII, "" when there is none */
	char from[COMPLAINT_TEXT], subject[COMPLAINT_TEXT];
	struct finding finding[COMPLAINT_FINDINGS];
	size_t n;
	size_t lost;		/* findings without room */
	struct addr other;	/* the first address of others; family 0: none */
	bool unread;		/* parts nested too deeply, or too many */
};

/* 0, also when nothing of ours is in it (n is 0); -1: no mail at all, with the
 * reason in *why_r. The mail is changed. */
int complaint_read(char *mail, size_t len, const struct ours *ours,
	struct complaint *c_r, const char **why_r);

/* complaint_text.c: */

/* Look for findings in prose. */
void complaint_prose(struct complaint *c, const struct ours *ours,
	const char *text, size_t len);
/* Add one, unless it is there already or its address is none of ours. */
void complaint_add(struct complaint *c, const struct ours *ours,
	const struct finding *f);
/* An address as people and fields write it: "198.18.3.7", "[2001:db8::1]",
 * "IPv6:2001:db8::1". Octets taken; 0: there is none. A port behind it only in
 * the forms ADDR:PORT and [ADDR]:PORT. */
size_t complaint_address(const char *text, size_t len, struct addr *a_r);

/* moment.c: the time that begins here: octets taken, 0: there is none. Forms
 * of RFC 3339, RFC 5322, the common log format, syslog and asctime. */
size_t moment_at(const char *text, size_t len, int64_t now,
	struct moment *m_r);

#endif
