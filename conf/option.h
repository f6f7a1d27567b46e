/*
 * option.h - the option table and what is done with it (inside conf/ only)
 *
 * option.tbl has one row per option. From it come reading and checking
 * (option_read), the effective configuration (option_write), `check
 * --defaults` and the manual's option section (option_expects, option_at).
 * value.c knows the types.
 */
#ifndef SALLYPORT_OPTION_H
#define SALLYPORT_OPTION_H

#include <libconfig.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct conf;

enum option_type {
	GROUP,		/* options inside */
	GROUPS,		/* list of groups, kept as an array of structures */
	LATER,		/* known from the documentation, not in this version */
	BOOL,
	UINT,		/* unsigned */
	TENTHS,		/* unsigned, ten times what is written: 9.2 */
	PORT,		/* uint16_t */
	WORD,		/* int: index into words */
	FLAG,		/* bool: the second word */
	TLS_VERSION,	/* unsigned: TLS1_x_VERSION */
	NAME,		/* char *, like the next seven; text.c has their rules */
	TEXT,
	MAILBOX,
	HOST,
	USER,
	PATH,
	SOCKET,
	URL,
	LINES,		/* char ** and count */
	INTERFACES,	/* the same */
	PREFIXES,	/* struct prefix * and count */
	ADDRESSES,	/* struct addr * and count */
	PLACES,		/* the same, private and loopback ones too */
	PLACE,		/* one of these: struct addr */
	DESTINATIONS,	/* PREFIXES, or "own" (conf.pass_own) */
	PORTS,		/* "LOW-HIGH": two uint16_t, one after the other */
	MARK,		/* "VALUE/MASK": conf.mark, mark_mask, mark_own */
	CODE,		/* "550 5.7.1": block_conf.code, esc */
	SOFT,		/* "0h" or RFC 3339: int64_t, Unix time or 0 */
	ENDPOINT,	/* "tls:465": struct endpoint */
	TRUST,		/* char *: "system" or a PEM file */
	PINS,		/* char ** and count: "sha256/BASE64" */
	LOGIN,		/* char *: the name of a user at a server */
};

#define NOWHERE ((size_t)-1)
#define REQUIRED ""
#define OPTIONAL NULL

struct option {
	const char *path;
	enum option_type type;
	size_t offset;		/* in the structure of its group, or NOWHERE */
	size_t count_offset;	/* lists: of the size_t with the count */
	size_t size;		/* of the value, or of a list's element */
	const char *deflt;	/* libconfig syntax; REQUIRED, or OPTIONAL */
	long min, max;
	const char *words;
	const char *help;
};

extern const struct option options[];
extern const size_t noptions;

/* What one conf_load() carries along. */
struct load {
	FILE *err;
	const char *path;	/* the configuration file */
	char *dir;		/* its folder: relative paths start here */
	struct conf *conf;
	unsigned errors;
};

/*
 * One error, counted; line 0: about the file as a whole. Bytes that are not
 * printable ASCII become '?': file contents must not steer the terminal that
 * shows the message.
 */
void complain(struct load *l, const char *file, unsigned line,
	const char *fmt, ...) __attribute__((format(printf, 4, 5)));
/* The same about a setting, at its place. */
void complain_at(struct load *l, const config_setting_t *s,
	const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* "... warning: ...": said, but no error. */
void warn_at(struct load *l, const config_setting_t *s,
	const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* "PATH = VALUE; expected ...", why may be NULL. */
void complain_value(struct load *l, const struct option *o,
	const config_setting_t *s, const char *why);

/* File of a setting: its include file, or the configuration file. */
const char *setting_file(const struct load *l, const config_setting_t *s);

/* Row at this path, or NULL. */
const struct option *option_at(const char *path);

/* The part of a path after its last dot. */
const char *option_leaf(const struct option *o);
/* Is o directly inside the group (""; "smtp")? */
bool option_inside(const struct option *o, const char *group);

/* "a whole number from 0 to 256", "\"open\" or \"closed\"", ... */
const char *option_expects(const struct option *o, char *out, size_t cap);

/*
 * Read a group's options into owner, defaults for what is missing (setting
 * NULL: all of it). Errors are reported and counted in l.
 */
void option_read_group(struct load *l, const char *group,
	config_setting_t *setting, void *owner);
/* One option from a word "NAME=VALUE" of a command, NAME inside the group. */
void option_set(struct load *l, const char *group, const char *word,
	void *owner);
/* Add a group's options with owner's values. -1 without memory. */
int option_write_group(const char *group, const void *owner,
	config_setting_t *setting);
/* Free what options of the group hold. */
void option_free_group(const char *group, void *owner);

/* value.c: one value of a type that is not a group. 0, or -1 when refused
 * (reported). s is not NULL. */
int value_read(struct load *l, const struct option *o, config_setting_t *s,
	void *owner);
int value_write(const struct option *o, const void *owner,
	config_setting_t *group);
void value_free(const struct option *o, void *owner);

/* The n-th word of a list of words without its '!'; NULL past the end. */
const char *word_at(const char *words, unsigned n, char out[32],
	bool *later_r);

/* text.c: why a text is not acceptable for the type, or NULL. */
const char *text_wrong(const struct option *o, const char *text);
bool host_is_valid(const char *name);

/* A setting inside a group; NULL: none, or no group. */
config_setting_t *setting_in(config_setting_t *group, const char *name);

/* servers.c: what belongs together in the groups of this list. */
void servers_check(struct load *l, config_setting_t *list);

/* accounts.c: lines, servers and secrets of accounts fit together. */
void accounts_check(struct load *l, config_setting_t *root);

/* publish.c: what belongs together in the groups of this list. */
void publish_check(struct load *l, config_setting_t *list);
void publish_free(struct conf *c);
/* What they do, in sentences. */
void publish_explain(const struct conf *c, FILE *out);

/* A path as the program opens it: relative ones start at the folder of the
 * configuration file. Allocated; NULL without memory. */
char *path_resolve(const struct load *l, const char *path);

#endif
