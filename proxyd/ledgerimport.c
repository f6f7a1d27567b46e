/*
 * ledgerimport.c - a whole file of entries into the ledger
 *
 * Does: read lines of the allow file's syntax and write them in one
 * transaction: all or nothing, with one row of the audit trail. Does not:
 * stop at the first mistake: an operator gets the first twenty.
 *
 * Called by scribe.c in a thread of its own. The file was opened by the
 * operator's own process; it may hold anything and be of any length.
 */
#include "proxyd/ledger_impl.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "conf/allow.h"
#include "conf/conf.h"

#define ERRORS_SHOWN 20
#define LINE_BYTES 1024
#define WAL_PAGES 1000	/* SQLite's own default between two checkpoints */

struct reading {
	struct ledger *l;
	const char *who;
	int64_t now;
	bool has_submission;
	struct ledger_import *r;
	FILE *errors;
	struct ledger_entry *e;
	char **reason;
	size_t n, cap;
	uint64_t line;
};

static void
complain_of(struct reading *rd, const char *why)
{
	if (rd->r->errors++ < ERRORS_SHOWN && rd->errors != NULL)
		fprintf(rd->errors, "%llu: %s\n", (unsigned long long)rd->line,
			why);
}

static int
keep(struct reading *rd, struct allow_entry *a)
{
	if (rd->n == rd->cap) {
		size_t cap = rd->cap == 0 ? 1024 : rd->cap * 2;
		struct ledger_entry *e = reallocarray(rd->e, cap, sizeof(*e));

		if (e == NULL)
			return -1;
		rd->e = e;
		rd->cap = cap;
	}
	memset(&rd->e[rd->n], 0, sizeof(*rd->e));
	rd->e[rd->n].item.prefix = a->prefix;
	rd->e[rd->n].item.action = (uint8_t)a->action;
	rd->e[rd->n].item.until = a->until;
	rd->e[rd->n].pinned = a->until == 0;
	rd->e[rd->n].since = rd->now;
	rd->e[rd->n].who = rd->who;
	rd->e[rd->n].customer = a->customer;
	rd->e[rd->n++].why = a->reason;
	a->reason = a->customer = NULL;
	return 0;
}

/* 0, or -1 without memory; mistakes of the line are counted. */
static int
read_line(struct reading *rd, char *text, ssize_t len)
{
	struct allow_entry a;
	char why[160];
	int rc;

	if (len > 0 && text[len - 1] == '\n')
		text[--len] = '\0';
	if (len > 0 && text[len - 1] == '\r')
		text[--len] = '\0';
	if ((size_t)len != strlen(text) || len > LINE_BYTES) {
		complain_of(rd, "a NUL byte or more than 1024 characters; "
			"expected one entry a line");
		return 0;
	}
	rc = allow_parse(text, &a, why);
	if (rc < 0) {
		complain_of(rd, why);
		return 0;
	}
	if (rc == 0)
		return 0;
	rc = 0;
	if (a.action == ACTION_SUBMIT && !rd->has_submission)
		complain_of(rd, "port25=submit without a server to submit to");
	else if (a.until != 0 && a.until <= rd->now)
		complain_of(rd, "until= is in the past");
	else if (rd->n >= ALLOWMAP_MAX)
		complain_of(rd, "more entries than the allowlist holds");
	else
		rc = keep(rd, &a);
	allow_forget(&a);
	return rc;
}

static int
by_key(const void *a, const void *b)
{
	const struct ledger_entry *x = a, *y = b;
	int order;

	if (x->customer != NULL || y->customer != NULL)
		return x->customer == NULL ? -1 : y->customer == NULL ? 1 :
			strcmp(x->customer, y->customer);
	if (x->item.prefix.family != y->item.prefix.family)
		return x->item.prefix.family == AF_INET ? -1 : 1;
	order = memcmp(x->item.prefix.ip, y->item.prefix.ip, 16);
	return order != 0 ? order : x->item.prefix.len - y->item.prefix.len;
}

static int
write_all(struct reading *rd)
{
	struct ledger *l = rd->l;
	char why[64];
	int rc = 0;

	/* in the order of the tree: half a million in a second, not in ten */
	if (rd->n > 0)
		qsort(rd->e, rd->n, sizeof(*rd->e), by_key);
	if (ledgerdb_plain(l, BEGIN, "begin") != 0)
		return -1;
	for (size_t i = 0; i < rd->n && rc == 0; i++) {
		int one = ledger_put_row(l, &rd->e[i]);

		rd->r->added += one == 1;
		rd->r->changed += one == 2;
		rd->r->same += one == 0;
		rc = one < 0 ? -1 : 0;
	}
	snprintf(why, sizeof(why), "%llu added, %llu changed",
		(unsigned long long)rd->r->added,
		(unsigned long long)rd->r->changed);
	if (rc == 0 && rd->r->added + rd->r->changed > 0)
		rc = ledgerdb_audit(l, rd->now, "import", NULL, rd->who, why,
			rd->r->added + rd->r->changed);
	return ledgerdb_end(l, rc);
}

int
ledger_import(struct ledger *l, FILE *f, const char *who, int64_t now,
	bool has_submission, volatile uint64_t *progress,
	struct ledger_import *r)
{
	struct reading rd = { .l = l, .who = who, .now = now,
		.has_submission = has_submission, .r = r };
	size_t cap = 0, text_len = 0;
	char *text = NULL;
	ssize_t len;
	int rc = 0;

	memset(r, 0, sizeof(*r));
	rd.errors = open_memstream(&r->text, &text_len);
	while (rc == 0 && (len = getline(&text, &cap, f)) >= 0) {
		rd.line++;
		rc = read_line(&rd, text, len);
		if (progress != NULL)
			*progress = rd.line;
	}
	free(text);
	if (rc != 0)
		snprintf(l->error, sizeof(l->error), "out of memory");
	else if (ferror(f))
		rc = (complain_of(&rd, "cannot be read to its end"), -1);
	else if (r->errors > 0)
		rc = -1;
	else {
		sqlite3_wal_autocheckpoint(l->db, 0);
		rc = write_all(&rd);
		sqlite3_wal_autocheckpoint(l->db, WAL_PAGES);
	}
	if (rd.errors != NULL)
		fclose(rd.errors);
	for (size_t i = 0; i < rd.n; i++) {
		free((char *)rd.e[i].why);
		free((char *)rd.e[i].customer);
	}
	free(rd.e);
	return rc;
}

void
ledger_settle(struct ledger *l)
{
	(void)sqlite3_wal_checkpoint_v2(l->db, NULL, SQLITE_CHECKPOINT_PASSIVE,
		NULL, NULL);
}
