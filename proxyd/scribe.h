/*
 * scribe.h - the thread of control that writes the ledger
 *
 * A disk may hang for a minute; control must go on answering. Jobs are done one
 * after the other; each comes back to the loop with its result.
 */
#ifndef SALLYPORT_SCRIBE_H
#define SALLYPORT_SCRIBE_H

#include <stdint.h>

#include "proxyd/lease.h"
#include "proxyd/ledger.h"

struct event_base;
struct scribe;

/* Jobs that may wait. */
#define SCRIBE_JOBS_MAX 64
/* Levels that are kept over a restart. */
#define LEVELS_NOW_MAX 262144

enum scribe_op {
	SCRIBE_LOAD,	/* map_r, memfd_r */
	SCRIBE_PUT, SCRIBE_DEL,	/* entry; rc as ledger.h */
	SCRIBE_IMPORT,	/* fd (taken), who; import, map_r, memfd_r */
	SCRIBE_EXPIRE,	/* now; gone, rc: how many */
	SCRIBE_LIST,	/* text_r: JSON array */
	SCRIBE_AUDIT,	/* entry, neither prefix nor customer: of all; text_r */
	SCRIBE_WATCH,	/* rc 1: somebody else has changed the file */
	SCRIBE_LEASE,	/* leases, or fd (taken) with conf; leases */
	SCRIBE_SETTLE,	/* leases: the table has followed */
	SCRIBE_UNSETTLED,	/* leases: an earlier control's, not followed */
	SCRIBE_LEVELS,	/* levels, written */
	SCRIBE_RESTORE,	/* levels.table; levels.now: those of another table */
	SCRIBE_HOUR,	/* hours, written */
	SCRIBE_WHY	/* about, entry (its prefix, or none); text: JSON object */
};

struct scribe_gone {
	struct allow_item item;	/* prefix.family 0: of customer */
	char customer[CONF_CUSTOMER_MAX];
};

/* What `sallyport why' wants to know of a line. */
struct scribe_why {
	char line[LINE_STRLEN];	/* "": none, only the prefix */
	char parent[LINE_STRLEN];	/* its /56, "": none */
	int64_t at;
	struct addr src, dst;	/* the asker's; dst.family 0: any server */
	bool is_past;
};

struct scribe_job {
	enum scribe_op op;
	uint64_t client;	/* who waits, 0: nobody */
	uint32_t again;		/* the caller's: what it knew when it posted */
	struct ledger_entry entry;	/* its texts point here: */
	char who[LEDGER_WHO_MAX], why[LEDGER_WHY_MAX];
	char customer[CONF_CUSTOMER_MAX];
	bool keep_until;	/* PUT: an entry that is there with this action
				 * stays as it is, whatever its end */
	int64_t now;
	int fd;			/* of IMPORT, LEASE: a file, or -1 */
	struct lease_list *leases;
	struct ledger_levels levels;	/* its arrays and texts are the job's */
	struct ledger_hours hours;	/* the same */
	struct scribe_why about;
	bool has_submission;
	volatile uint64_t progress;
	/* results */
	int rc;			/* -1: error */
	char error[200];
	struct ledger_import import;
	struct allowmap *map;	/* the receiver takes it, or NULL */
	int memfd;		/* the same, sealed, for the parent; -1 */
	struct scribe_gone *gone;
	struct ledger_effects effects;	/* PUT, DEL, EXPIRE, LEASE: what they
					 * have changed */
	char *text;
	struct scribe_job *next;
};

/* done is called in the loop of base for every job; the job is freed after it.
 * NULL: no memory or no thread. The file is opened by the first job and, as
 * long as that fails, by each one. conf, which names it, is only read and lives
 * longer. */
struct scribe *scribe_start(struct event_base *base, const struct conf *conf,
	void (*done)(void *arg, struct scribe_job *j), void *arg);
/* Waits for the jobs that were posted, three seconds at most; none comes back. */
void scribe_stop(struct scribe **s);
/* Takes the job (of scribe_job_new). -1: too many wait; the job is freed. */
int scribe_post(struct scribe *s, struct scribe_job *j);
struct scribe_job *scribe_job_new(enum scribe_op op);
void scribe_levels_free(struct ledger_levels *w);
void scribe_job_free(struct scribe_job *j);

#endif
