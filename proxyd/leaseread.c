/*
 * leaseread.c - leases as text: one, or a file of them
 *
 * Does: check a line against the class it lies in and a customer's id, read
 * many, collect the first mistakes. Does not: write anything; who was told of
 * one mistake can be sure that nothing was changed.
 *
 * Called by control, for words of the control socket in its loop and for files
 * in the scribe's thread. The text comes from provisioning scripts and may be
 * anything, of any length.
 */
#include <stdlib.h>
#include <string.h>

#include "conf/conf.h"
#include "conf/lpm.h"
#include "proxyd/lease.h"

#define LINE_BYTES 1024

void
lease_list_free(struct lease_list **l)
{
	if (*l == NULL)
		return;
	for (size_t i = 0; i < (*l)->n; i++) {
		free((*l)->lease[i].stored);
		free((*l)->lease[i].taken);
	}
	free((*l)->lease);
	free(*l);
	*l = NULL;
}

struct lease *
lease_list_add(struct lease_list *l)
{
	if (l->n == l->cap) {
		size_t cap = l->cap == 0 ? 16 : l->cap * 2;
		struct lease *bigger = reallocarray(l->lease, cap,
			sizeof(*bigger));

		if (bigger == NULL)
			return NULL;
		l->lease = bigger;
		l->cap = cap;
	}
	memset(&l->lease[l->n], 0, sizeof(*l->lease));
	return &l->lease[l->n++];
}

const char *
lease_line(const struct conf *c, const char *text, struct line_key *k_r,
	char line_r[LINE_STRLEN], char why[160])
{
	struct addr a = { .family = 0 };
	struct line_text l;
	const char *reason;
	char room[120];
	int32_t class;

	if (line_parse(&l, text, &reason) != 0) {
		snprintf(why, 160, "'%.50s': %.90s", text, reason);
		return why;
	}
	a.family = l.prefix.family;
	memcpy(a.ip, l.prefix.ip, sizeof(a.ip));
	class = lpm_find(c->class_lpm, &a, NULL);
	if (class < 0)
		reason = "in no class of subscribers";
	else
		reason = line_key_from(&l, c->classes[class].line_len6,
			c->classes[class].port_block, k_r, room);
	if (reason != NULL) {
		snprintf(why, 160, "'%.45s': %s", text, reason);
		return why;
	}
	line_format(k_r, c->classes[class].port_block, line_r);
	return NULL;
}

/* The next word of text into out; false: it is longer than that. */
static bool
next_word(const char **text, char *out, size_t cap)
{
	size_t len;

	*text += strspn(*text, " \t");
	len = **text == '#' ? 0 : strcspn(*text, " \t#");
	if (len >= cap)
		return false;
	memcpy(out, *text, len);
	out[len] = '\0';
	*text += len;
	return true;
}

int
lease_parse(const struct conf *c, bool is_release, const char *text,
	struct lease *l_r, char why[160])
{
	char line[80], more[2];

	memset(l_r, 0, sizeof(*l_r));
	snprintf(why, 160, "expected a line and %s customer, like %s",
		is_release ? "at most its" : "its",
		is_release ? "198.18.3.7" : "198.18.3.7 customer-4711");
	if (!next_word(&text, line, sizeof(line)))
		return -1;
	if (line[0] == '\0')
		return 0;
	if (lease_line(c, line, &l_r->key, l_r->line, why) != NULL)
		return -1;
	snprintf(why, 160, "'%.20s': a customer is expected behind it: at most "
		"%d printable ASCII characters, no blank, \" or #", line,
		LEASE_CUSTOMER_MAX - 1);
	if (!next_word(&text, l_r->customer, sizeof(l_r->customer)) ||
	    (l_r->customer[0] == '\0' ? !is_release :
	    !conf_customer_valid(l_r->customer)))
		return -1;
	snprintf(why, 160, "'%.40s': nothing more is expected behind line and "
		"customer", line);
	return next_word(&text, more, sizeof(more)) && more[0] == '\0' ? 1 : -1;
}

struct reading {
	const struct conf *conf;
	struct lease_list *list;
	FILE *errors;
	int64_t bad;
	uint64_t line;
};

static void
complain_of(struct reading *rd, const char *why)
{
	if (rd->bad++ < LEASE_ERRORS_SHOWN && rd->errors != NULL)
		fprintf(rd->errors, "%llu: %s\n", (unsigned long long)rd->line,
			why);
}

/* 0, or -1 without memory. */
static int
read_line(struct reading *rd, char *text, ssize_t len)
{
	struct lease one, *l;
	char why[160];
	int rc;

	while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == '\r'))
		text[--len] = '\0';
	if ((size_t)len != strlen(text) || len > LINE_BYTES) {
		complain_of(rd, "a NUL byte or more than 1024 characters; "
			"expected one lease a line");
		return 0;
	}
	rc = lease_parse(rd->conf, rd->list->is_release, text, &one, why);
	if (rc < 0)
		complain_of(rd, why);
	else if (rc > 0 && rd->list->n >= LEASE_FILE_MAX)
		complain_of(rd, "more than 100000 leases; split the file");
	else if (rc > 0 && rd->bad == 0) {
		if ((l = lease_list_add(rd->list)) == NULL)
			return -1;
		*l = one;
	}
	return 0;
}

int64_t
lease_read(const struct conf *c, FILE *f, struct lease_list *l,
	volatile uint64_t *progress, char **text_r)
{
	struct reading rd = { .conf = c, .list = l };
	size_t cap = 0, size = 0;
	char *text = NULL;
	ssize_t len;
	int rc = 0;

	*text_r = NULL;
	rd.errors = open_memstream(text_r, &size);
	while (rc == 0 && (len = getline(&text, &cap, f)) >= 0) {
		rd.line++;
		rc = read_line(&rd, text, len);
		*progress = rd.line;
	}
	free(text);
	if (ferror(f))
		rc = -1;
	if (rd.errors != NULL)
		fclose(rd.errors);
	return rc != 0 ? -1 : rd.bad;
}
