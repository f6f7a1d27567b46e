/*
 * probe.h - do a server's secure mail ports answer, and with whose certificate?
 *
 * For an operator who wants to know what his subscribers will find when they
 * are sent to submission: 465, 587 (STARTTLS), 993 and 995 of a few addresses.
 * One connection a port, a few at a time, a greeting and a goodbye; never a
 * login, never a message.
 *
 * probetarget.c  which address, which name, may it be asked at all
 * probe.c        the connections
 * cmd_probe.c    what was found, in words
 */
#ifndef SALLYPORT_TOOLS_PROBE_H
#define SALLYPORT_TOOLS_PROBE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "lib/addr.h"

struct conf;

/* Addresses asked in one run, at most: a probe is no scan. */
#define PROBE_MAX 100
/* Ports: 587 and 465 (RFC 8314 section 3.3), 995 (3.1), 993 (3.2). */
#define PROBE_PORTS 4
/* A DNS name in text (RFC 1035 section 2.3.4), with its NUL. */
#define PROBE_NAME 256

extern const uint16_t probe_port[PROBE_PORTS];

/* Where the name comes from that the certificate must have. */
enum probe_by {
	BY_NOBODY,	/* no name is known */
	BY_LISTED,	/* `servers' of the configuration */
	BY_OPERATOR,	/* said on the command line */
	BY_PTR		/* reverse DNS that leads back to the address */
};

struct probe_target {
	struct addr addr;		/* port 0 */
	char name[PROBE_NAME];		/* "" when by is BY_NOBODY */
	enum probe_by by;
	const char *forbidden;		/* a word: it will not be asked; or NULL */
};

enum probe_outcome {
	PROBE_VALID,		/* trusted, and has the name */
	PROBE_UNNAMED,		/* trusted, but no name was known to ask for */
	PROBE_OTHER_NAME,	/* trusted, but for other names */
	PROBE_UNTRUSTED,	/* expired, self-signed, unknown issuer ... */
	PROBE_NO_TLS,		/* answers, but no TLS came of it */
	PROBE_REFUSED,		/* TCP reset */
	PROBE_SILENT,		/* no answer in time */
	PROBE_UNREACHABLE,	/* an ICMP error, no route ... */
	PROBE_FORBIDDEN		/* not asked */
};

struct probe_result {
	enum probe_outcome outcome;
	char detail[160];	/* printable ASCII; "" when there is no more */
	char names[PROBE_NAME];	/* of the certificate, with blanks between */
	int64_t until;		/* its end, Unix time; 0: none was seen */
};

/* ---- probetarget.c ---- */

struct probe_list {
	struct probe_target target[PROBE_MAX];
	size_t n;
	struct asker *asker;	/* what is known of names and of ourselves */
};

/* 0 or -1 (said on standard error). conf must outlive the list. */
int probe_list_open(struct probe_list *l, const struct conf *conf);
void probe_list_close(struct probe_list *l);
/* An address; the name is found out here (DNS). Twice the same is once.
 * -1: the list is full. */
int probe_list_addr(struct probe_list *l, const struct addr *a);
/* Every address of a name. -1: said on standard error. */
int probe_list_name(struct probe_list *l, const char *name);

/* ---- probe.c ---- */

/*
 * Ask every port of every target; result[i] belongs to target[i]. done is
 * called after each port. -1: nothing could be asked at all, said on standard
 * error (trust file, memory).
 */
int probe_run(const struct conf *conf, const struct probe_target *target,
	size_t n, struct probe_result (*result)[PROBE_PORTS],
	void (*done)(size_t now, size_t of));

/* ---- cmd_probe.c ---- */

/* probe_run with a progress line on a terminal. */
int probe_ask(const struct conf *conf, const struct probe_list *l,
	struct probe_result (*result)[PROBE_PORTS]);
/* One target in words, indented lines; and as an object, the caller's. */
void probe_print(FILE *f, const struct probe_target *t,
	const struct probe_result result[PROBE_PORTS]);
json_t *probe_json(const struct probe_target *t,
	const struct probe_result result[PROBE_PORTS]);
/* Can subscribers be sent there: 587 or 465 valid, for a name that we know
 * not only from the server itself? */
bool probe_is_covered(const struct probe_target *t,
	const struct probe_result result[PROBE_PORTS]);

#endif
