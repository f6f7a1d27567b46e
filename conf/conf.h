/*
 * conf.h - the configuration as the rest of the program reads it
 *
 * conf_load() reads the file and everything it names (prefix files, allowlist,
 * trust file), checks all of it and builds an immutable struct conf. Nothing
 * else in the program parses configuration. A reload builds a second one.
 */
#ifndef SALLYPORT_CONF_H
#define SALLYPORT_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "lib/addr.h"

struct lpm;
struct allowmap;

/* One IPv6 line where no class says otherwise: what a household gets (RIPE
 * 690); DESIGN.md section 2. */
#define CONF_LINE_LEN6 56

/* What happens to a line's port-25 connections (DESIGN.md section 2). */
enum action {
	ACTION_PASS,	/* kernel forwards, not even counted */
	ACTION_WATCH,	/* kernel forwards; first packets are counted */
	ACTION_RELAY,	/* proxied to the origin unchanged */
	ACTION_BLOCK,	/* answered by us with the operator's text */
	ACTION_SUBMIT,	/* carried to the server's submission port */
	ACTION_RESET,	/* kernel answers with a TCP reset */
	ACTION_DROP,	/* kernel drops */
	ACTION_COUNT
};

extern const char *const action_name[ACTION_COUNT];

/* LISTED: only towards the destinations of the class's destinations_file. */
enum enforce { ENFORCE_WATCH, ENFORCE_ALL, ENFORCE_LISTED };

/* What is refused; ADAPTIVE: RCPT, or EHLO to lines that gave up before. */
enum block_stage { BLOCK_RCPT, BLOCK_ADAPTIVE, BLOCK_GREETING, BLOCK_MAIL };

/* How a connection reaches a relay: with its addresses unchanged, or translated
 * by the kernel, which then remembers what was dialled. */
enum capture { CAPTURE_TPROXY, CAPTURE_REDIRECT };

enum source { SOURCE_CLIENT, SOURCE_GATEWAY };

/* SYN+ACKs from port 25 to lines of block classes: nobody there has asked for
 * them (DESIGN.md section 9). */
enum return_path { RETURN_OFF, RETURN_COUNT, RETURN_DROP };

enum log_format { LOG_FORMAT_KV, LOG_FORMAT_JSON };
/* In the order of log.envelope's and log.destination's words. */
enum log_envelope {
	LOG_ENVELOPE_NONE, LOG_ENVELOPE_DOMAIN, LOG_ENVELOPE_HASH,
	LOG_ENVELOPE_FULL
};
enum log_destination {
	LOG_DESTINATION_FULL, LOG_DESTINATION_NET, LOG_DESTINATION_NONE
};

enum tls_mode {
	TLS_NONE,	/* this service is not configured for the server */
	TLS_IMPLICIT,	/* "tls:PORT" */
	TLS_STARTTLS,	/* "starttls:PORT" */
	TLS_PLAIN	/* "plain:PORT": no TLS; literal addresses only */
};

struct endpoint {
	enum tls_mode mode;
	uint16_t port;
};

/* A line of a refusal without code and line end: 512 octets (RFC 5321 section
 * 4.5.3.1.5) less "550-5.777.777 " and CRLF. */
#define BLOCK_TEXT_MAX 496

/* The text of a refusal; a class may have its own. */
struct block_conf {
	enum block_stage stage;
	unsigned code;		/* 500..599 */
	char esc[12];		/* enhanced status code, "5.7.1" */
	unsigned delay;		/* seconds before the greeting */
	int64_t soft_until;	/* Unix time: until then 451 and 4.y.z; 0: never */
	char **text;		/* ntext lines, printable ASCII, <= 400 bytes,
				 * with placeholders: blocktext.h */
	size_t ntext;
	char *url;		/* NULL: none */
};

/* What a session and a line may have on port 25. 0: no limit of ours. */
struct smtp_limits {
	unsigned size;		/* submit: octets of a message */
	unsigned commands;	/* block: commands of a session */
	unsigned errors;	/* refused commands of a session */
	unsigned command_time;	/* seconds a command */
	unsigned block_time;	/* block: seconds a session */
	/* submit, of a line: an hour; guesses: a quarter of one */
	unsigned rcpts, messages, guesses;
};

struct class_conf {
	char *name;
	enum action port25;	/* as configured */
	enum enforce enforce;
	enum action effective;	/* ACTION_WATCH while enforce = "watch" (pass,
				 * watch and relay are never softened); with
				 * enforce = "listed" what listed destinations
				 * get: see conf_class_action() */
	char *destinations_file;	/* NULL: none */
	struct prefix *destinations;	/* of that file */
	size_t ndestinations;
	struct lpm *destination_lpm;	/* NULL: no file */
	bool count;		/* first packets go through nfq, where the
				 * action happens; false: a set decides, and
				 * relays count what is captured */
	unsigned line_len6;	/* IPv6 line length, default 56 */
	bool roll_up;		/* longer than /56: suspect ones raise it */
	unsigned port_block;	/* CGN: source ports of one line; 0: no CGN */
	bool pop_before_smtp;	/* a POP3 login of a line is one for its mail */
	bool accounts;		/* its lines keep their addresses: struct
				 * account_conf may name them */
	struct block_conf block;/* smtp.block with the class's own overrides */
	struct prefix *prefixes;	/* all: listed, then those of the file */
	size_t nprefixes;
	struct prefix *listed;	/* as written in the configuration */
	size_t nlisted;
	char *prefixes_file;	/* NULL: none */
	char *abuse_contact;	/* NULL: report_contact */
};

/* Of connections to one server. */
enum server_source { FROM_DEFAULT, FROM_CLIENT, FROM_GATEWAY };

/* submit towards a server that is not listed, in the order of the words. */
enum wrap { WRAP_OFF, WRAP_LISTED, WRAP_OPPORTUNISTIC };

enum unknown_origin { UNKNOWN_BLOCK, UNKNOWN_ORIGIN };

enum proxy { PROXY_OFF, PROXY_SUBMISSION, PROXY_ALL };

struct server_conf {
	char *name;		/* verified against the certificate, sent as SNI */
	struct endpoint submission;
	char *submission_host;	/* another host with it, and with starttls:
				 * resolved and verified by this name; NULL:
				 * the address dialled, by name */
	struct endpoint pop3, imap;
	uint16_t starttls;	/* port whose STARTTLS is shown to clients; 0: none */
	char **pins;		/* "sha256/BASE64" of public keys, one of which the
				 * verified chain must hold; none: any */
	size_t npins;
	bool own;		/* belongs to the provider: pass_destinations */
	bool is_unlisted;	/* never in a configuration: a host without a
				 * known name (proxyd/origin.h) */
	bool is_opportune;	/* of those: any certificate is better than no
				 * TLS (proxyd/opportune.h) */
	bool xclient;		/* tell it the line's address, if it listens */
	enum server_source source;
	enum proxy proxy;	/* PROXY header: on which connections */
	struct addr *addresses;	/* literal, besides what DNS says; ports 0 */
	size_t naddresses;
	char *prefixes_file;	/* NULL: none */
	struct prefix *prefixes;	/* of it */
	size_t nprefixes;
};

/* How an account logs in, in the order of accounts.mechanism's words. */
enum account_mechanism {
	MECHANISM_AUTO,		/* XOAUTH2 with a token; else the first that the
				 * server offers of the three next */
	MECHANISM_PLAIN, MECHANISM_LOGIN, MECHANISM_CRAM_MD5, MECHANISM_XOAUTH2,
	MECHANISM_COUNT
};

/* A line whose mail program knows no password: printers. */
struct account_conf {
	char *name;		/* for logs */
	struct prefix *prefixes;	/* single lines */
	size_t nprefixes;
	char *server_name;
	size_t server;		/* index into servers */
	char *user, *sender;
	char *password_file, *token_file;	/* one of them is NULL */
	enum account_mechanism mechanism;
	unsigned rcpts, messages;	/* an hour; 0: smtp_limits hold */
};

/* What a publish group listens for; those of PUBLISH_CLEAR and behind begin in
 * clear and offer STARTTLS. */
enum publish_service {
	PUBLISH_POP3S, PUBLISH_IMAPS, PUBLISH_SUBMISSIONS,
	PUBLISH_CLEAR, PUBLISH_POP3_CLEAR = PUBLISH_CLEAR, PUBLISH_IMAP_CLEAR,
	PUBLISH_SUBMISSION, PUBLISH_SERVICES
};

/* What is spoken there. */
enum publish_protocol { PUBLISH_POP3, PUBLISH_IMAP, PUBLISH_SMTP,
	PUBLISH_PROTOCOLS };

static inline enum publish_protocol
publish_protocol(enum publish_service service)
{
	return (enum publish_protocol)(service % PUBLISH_PROTOCOLS);
}

/* The option's name, "pop3s". */
extern const char *const publish_service_name[PUBLISH_SERVICES];

/* Addresses times services, of all groups together. */
#define PUBLISH_PLACES_MAX 256

struct certificate_conf {
	char *chain, *key;	/* files; key NULL: in chain */
	char **names;		/* in the certificate, lower case; perhaps with a
				 * wildcard "*." in front */
	size_t nnames;
	int64_t until;		/* Unix time */
	bool is_hidden;		/* we may not read it; the daemon may */
};

/* A mail server's side (option publish). */
struct publish_conf {
	char *name;
	struct addr *listen;	/* ports 0 */
	size_t nlisten;
	uint16_t port[PUBLISH_SERVICES];	/* 0: not published */
	struct addr to;		/* port 0 */
	uint16_t port_to[PUBLISH_PROTOCOLS];
	bool require_tls;	/* no login before STARTTLS */
	bool proxy;
	unsigned max_per_line;
	struct certificate_conf *certificates;
	size_t ncertificates;
	struct server_conf server;	/* what the machines are told of it:
					 * name and endpoints, in clear */
};

/* A customer's id, a text of the provider's own: printable ASCII without blank,
 * '"' and '#'; with NUL. */
#define CONF_CUSTOMER_MAX 64

struct allow_entry {
	struct prefix prefix;	/* family 0: of the customer's lines */
	char *customer;		/* "line:ID", or NULL */
	enum action action;	/* PASS, WATCH, RELAY or SUBMIT */
	int64_t until;		/* Unix time, 0: for ever */
	char *reason;		/* text after '#', or NULL */
	unsigned line;		/* in the file */
};

/* Kinds of evidence with a test of their own, in the order of zombie/table.h. */
#define CONF_ZOMBIE_KINDS 5

/* Zombie detection; zombie/detect.h has the rules. */
struct zombie_conf {
	struct {
		int mode;		/* enum kind_mode */
		unsigned innocent, infected;	/* % of bad events */
	} kind[CONF_ZOMBIE_KINDS];
	unsigned suspect, probable, zombie;	/* thresholds, 1/10 */
	unsigned rate_destinations, rate_attempts;	/* an hour */
	unsigned decay;			/* hours; 0: never */
	unsigned expiry;		/* hours; 0: never */
	int action;			/* enum zombie_action */
	unsigned tarpit_delay;		/* seconds */
	unsigned tarpit_max;		/* sessions of a relay */
	int slow;			/* from this level on; 0: off */
};

/* In the order of zombie.action's words. */
enum zombie_action { ZOMBIE_LOG, ZOMBIE_TARPIT, ZOMBIE_BLOCK, ZOMBIE_RESET };

struct conf {
	char *path;

	/* gateway */
	char *name;
	char **interfaces;	/* patterns, "ppp+"; empty: any */
	size_t ninterfaces;
	enum capture capture;
	bool local;		/* this machine's own programs are captured too;
				 * only with CAPTURE_REDIRECT */
	enum source source;	/* GATEWAY when nat */
	struct addr *addresses;	/* source = "gateway": pool; may be empty */
	size_t naddresses;
	uint16_t port_lo, port_hi;	/* source_ports, inclusive */
	bool nat;		/* true with CAPTURE_REDIRECT */
	unsigned workers;	/* 0 in the file becomes the number of cores */
	bool fail_closed;	/* on_failure = "closed" */
	uint32_t mark, mark_mask;	/* divert: packets for our own sockets */
	uint32_t mark_own;	/* mark + lowest bit of the mask: our upstream
				 * packets; derived, inside the mask */
	uint32_t mark_reset;	/* mark + twice that bit: nfq's verdict reset;
				 * derived, inside the mask */
	unsigned table, priority;
	unsigned grace;		/* seconds of SYN-only capture, default 120 */
	bool repair;		/* bring back rules that others take away */
	unsigned drain_max;	/* seconds a leaving relay waits, default 60 */
	uint16_t listen_port;	/* 2525: on 127.0.0.1 and ::1 for TPROXY, on
				 * every address for REDIRECT */
	struct prefix *never;
	size_t nnever;
	char *user_relay, *user_control, *user_keeper;

	struct class_conf *classes;
	size_t nclasses;
	struct server_conf *servers;
	size_t nservers;
	struct account_conf *accounts;
	size_t naccounts;
	struct publish_conf *publish;
	size_t npublish;

	struct prefix *pass_prefixes;	/* pass_destinations without "own" */
	size_t npass_prefixes;
	bool pass_own;

	char *allow_file;	/* NULL: no allowlist */
	struct allow_entry *allow;
	size_t nallow;
	struct allow_entry *allow_line;	/* of customers, in order of id */
	size_t nallow_line;

	char *trust;		/* PEM file; "system" is resolved to the bundle */
	char *crl;		/* PEM file of revocation lists, or NULL */
	unsigned tls_min_server;	/* TLS1_2_VERSION or TLS1_3_VERSION */
	unsigned tls_min_client;	/* the same, with publish */
	unsigned ticket_time;	/* seconds between keys of tickets */

	struct block_conf block;	/* smtp.block: what classes start from */
	uint16_t nfq_queue;	/* netfilter queue; 0: first packets not seen */
	unsigned nfq_lines;	/* lines the table has room for */
	enum return_path return_path;
	bool nfq_submission;	/* SYNs to 465 and 587 are counted too */

	struct zombie_conf zombie;
	char *hook;		/* zombie.hook: a program, or NULL */
	char *hook_user;	/* NULL: user_control */
	struct block_conf zombie_block;	/* smtp.block with zombie.text and url */

	enum unknown_origin unknown_origin;
	bool read_replies;	/* smtp.read_replies: evidence in relay */
	enum wrap pop3_wrap, imap_wrap;
	bool strict;		/* smtp.strict */
	unsigned pop_minutes;	/* how long a POP3 login counts */
	unsigned max_per_line;	/* smtp.max_per_line: sessions at once */
	struct smtp_limits limits;

	bool log_syslog;	/* log.target = "syslog", else "stderr" */
	enum log_format log_format;
	enum log_envelope log_envelope;
	enum log_destination log_destination;
	bool log_wraps;		/* successful ones too */
	unsigned log_per_minute;	/* lines of one kind from a line; 0: all */
	char *control_socket;
	char *report_org, *report_contact, *report_domain;	/* or NULL */

	struct lpm *class_lpm;	/* prefix -> index into classes */
	struct lpm *allow_lpm;	/* prefix -> index into allow */
	struct lpm *account_lpm;	/* prefix -> index into accounts */
	struct lpm *server_lpm;		/* prefixes of servers: index */

	char *ledger_file;
	unsigned ledger_days;	/* levels and leases that were */
	/* Entries of the ledger as far as this process has to know them, or
	 * NULL: belongs to whoever set it. On the same prefix they win over
	 * allow. */
	const struct allowmap *ledger;
};

/*
 * Every host name that is resolved, by number: those of servers first, under
 * their index, then as many for their submission_host, of which most are NULL.
 */
size_t conf_hosts(const struct conf *conf);
const char *conf_host(const struct conf *conf, size_t host);

/* The server that has this address in its prefixes_file; -1: none. */
int conf_server_at(const struct conf *c, const struct addr *a);

/* Does any listed server take submissions? Without one no line can be given
 * the submit action. */
bool conf_has_submission(const struct conf *conf);

/*
 * Load and check. On failure NULL, after writing one or more messages
 *     FILE:LINE: what was found; what was expected
 * to err (without LINE about a file that cannot be opened). Everything wrong
 * is reported, not only the first. The caller frees with conf_free(), which
 * wipes nothing: the configuration holds no secret.
 */
struct conf *conf_load(const char *path, FILE *err);

/* control.socket alone, whatever else is wrong with the file, and without
 * reading what it names. NULL: not in it. The caller frees. */
char *conf_socket(const char *path);
void conf_free(struct conf **conf);

/* The group zombie with its defaults and n words NAME=VALUE, for tools that
 * try a change. 0, or -1 with messages as above. */
int conf_zombie(struct zombie_conf *z_r, const char *const *set, size_t n,
	FILE *err);

/*
 * What a line gets on port 25 now (Unix time, for entries that expire): the
 * allowlist's longest prefix, else the class's. *class_r gets the class index,
 * or -1 (then the result is ACTION_PASS: not a subscriber). *allow_r gets the
 * file's allow entry that decided, or NULL. Either may be NULL.
 */
enum action conf_policy(const struct conf *conf, const struct addr *line,
	int64_t now, int *class_r, const struct allow_entry **allow_r);

/* The file's entry of a customer, if it is not over; NULL: none. */
const struct allow_entry *conf_allow_of(const struct conf *conf,
	const char *customer, int64_t now);
bool conf_customer_valid(const char *text);

/* The same towards one destination: a class with enforce = "listed" gets its
 * action there or ACTION_WATCH. The allowlist holds for every destination. */
enum action conf_policy_to(const struct conf *conf, const struct addr *line,
	const struct addr *destination, int64_t now, int *class_r,
	const struct allow_entry **allow_r);

/* What a class alone does towards a destination. A NAT64 address counts as the
 * IPv4 address in it. */
enum action conf_class_action(const struct class_conf *k,
	const struct addr *destination);

/* Are first packets of these lines queued at all? Of a class that is listed
 * with count = false only those to other destinations are. */
bool conf_class_counts(const struct class_conf *k);
/* Has nfq counted the first packet of a connection of this class (an index) that
 * was captured? Else the relay counts it. */
bool conf_nfq_saw(const struct conf *conf, int class);

/* Index of the account of a line in this class towards this server (an index),
 * or -1. */
int conf_account(const struct conf *conf, const struct addr *line, int class,
	int server);

/* Does a POP3 login of this class's lines at this server (an index) count for
 * their mail there? */
bool conf_pop_counts(const struct conf *conf, int class, int server);

/* The file with its secret, and how long that may be. */
const char *account_file(const struct account_conf *a);
size_t account_secret_max(const struct account_conf *a);

/* For `sallyport check': what is wrong inside the accounts' files, as far as
 * this user can read them. 0, or -1 with messages as conf_load() has them. */
int conf_check_secrets(const struct conf *conf, FILE *err);

/* Whose address connections to this server carry; server: index, or -1 for one
 * that is not listed and for relay: gateway.source alone. */
enum source conf_source(const struct conf *conf, int server);

/* Is this where a publish group's connections go, port included? */
bool conf_is_inner(const struct publish_conf *p, const struct addr *to);

/* The certificate of a group for the name that a client asks for: an exact one
 * before a wildcard. -1: none. */
int conf_certificate_for(const struct publish_conf *p, const char *name);

/* Where the daemon listens: an address with its port. */
struct publish_place {
	struct addr at;
	unsigned publish;	/* index into conf->publish */
	enum publish_service service;
};

/* The n-th place of all groups; false: there are not so many. */
bool conf_publish_place(const struct conf *c, size_t n,
	struct publish_place *place_r);

/* Certificate and key of a certificate_conf as PEM text. 0, or -1 and the
 * reason as words. The caller frees; the key he wipes first. */
int conf_certificate_pem(const struct certificate_conf *c, char **chain_r,
	char **key_r, char why[256]);

/* Is there any connection to a server with this source? */
bool conf_has_source(const struct conf *conf, enum source source);

/* `sallyport check`: the effective configuration in libconfig syntax; what
 * will happen to each class, in sentences; every option with default and help
 * (check --defaults); the option section of sallyport.conf(5) in man macros. */
void conf_print(const struct conf *conf, FILE *out);
void conf_explain(const struct conf *conf, FILE *out);
void conf_print_defaults(FILE *out);
void conf_print_man(FILE *out);
/* The same as conf_print and conf_explain together, as one JSON object. */
int conf_print_json(const struct conf *conf, FILE *out);

#endif
