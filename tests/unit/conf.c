/*
 * conf.c - unit tests of conf/: configurations and what is said about them
 *
 * Every row of `refused` is one mistake and the whole message it must give,
 * with line, finding and remedy. Files are written into a folder of their own
 * below TMPDIR; F in a wanted message stands for that folder. A certificate is
 * made on the spot, so that no test depends on the machine's authorities.
 *
 * Run from the top of the tree: the sample configuration is one of the inputs.
 */
#include "conf/conf.h"

#include <dirent.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#define N(a) (sizeof(a) / sizeof((a)[0]))

static char dir[256];

static const char *
in_dir(const char *name)
{
	static char path[512];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static void
write_file(const char *name, const char *text)
{
	FILE *f = fopen(in_dir(name), "w");

	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
}

static char *
read_file(const char *path)
{
	FILE *f = fopen(path, "r");
	char *text = calloc(1, 65536);
	size_t n;

	if (f == NULL || text == NULL)
		fail_msg("cannot read %s (tests run from the top of the tree)",
			path);
	n = fread(text, 1, 65535, f);
	assert_true(n > 0);
	fclose(f);
	return text;
}

/* text with every a replaced by b; allocated. */
static char *
replace(const char *text, const char *a, const char *b)
{
	char *out = NULL;
	const char *at;
	size_t len;
	FILE *f = open_memstream(&out, &len);

	assert_non_null(f);
	while ((at = strstr(text, a)) != NULL) {
		fwrite(text, 1, (size_t)(at - text), f);
		fputs(b, f);
		text = at + strlen(a);
	}
	fputs(text, f);
	fclose(f);
	return out;
}

/* Load text as a configuration; errors_r gets the messages, allocated. */
static struct conf *
load(const char *text, char **errors_r)
{
	struct conf *c;
	FILE *err;
	char *raw = NULL;
	size_t len;

	write_file("s.conf", text);
	if (strstr(text, "tls = {") == NULL) {
		FILE *f = fopen(in_dir("s.conf"), "a");

		fputs("\ntls = { trust = \"ca.pem\"; };\n", f);
		fclose(f);
	}
	err = open_memstream(&raw, &len);
	assert_non_null(err);
	c = conf_load(in_dir("s.conf"), err);
	fclose(err);
	*errors_r = replace(raw, dir, "F");
	free(raw);
	return c;
}

static struct conf *
load_good(const char *text)
{
	char *errors;
	struct conf *c = load(text, &errors);

	if (c == NULL)
		fail_msg("%s\nrefused:\n%s", text, errors);
	assert_string_equal(errors, "");
	free(errors);
	return c;
}

/* One class, on one line. */
#define PIN "sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
#define CLASS "subscribers = ( { class = \"a\"; prefixes = ( \"198.18.0.0/16\" " \
	"); port25 = \"watch\"; } );\n"
/* The same, with room for more. */
#define WITH(more) "subscribers = ( { class = \"a\"; " \
	"prefixes = ( \"198.18.0.0/16\" ); " more " } );\n"
#define SERVER(more) CLASS "servers = ( { name = \"mail.isp.example\"; " more \
	" } );\n"
#define LONG_NAME "abcdefghijklmnopqrstuvwxyz1234567"
#define X100 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" \
	"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
#define X60 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
#define MARK_EXPECTS "expected \"VALUE/MASK\" like \"0x2500/0xff00\", VALUE not " \
	"zero and inside MASK, also after adding once and twice MASK's " \
	"lowest bit"
#define TEXT_EXPECTS "expected a list of 1 to 8 texts, each 1 to 400 characters " \
	"of printable ASCII"
#define PREFIX_EXPECTS "expected a list of prefixes like ( \"198.18.0.0/16\", " \
	"\"2001:db8::/32\" )"
#define ADDR_EXPECTS "expected a list of ordinary addresses like " \
	"( \"203.0.113.25\", \"2001:db8::25\" )"

static const struct refusal {
	const char *name, *input, *want;
} refused[] = {
	/* syntax and keys */
	{ "syntax", CLASS "gateway = {\n  nat = ;\n};\n",
	  "F/s.conf:3: syntax error; expected the syntax of "
	  "sallyport.conf(5): name = value;\n" },
	{ "empty file", "",
	  "F/s.conf:1: subscribers is missing; it is required\n" },
	{ "same key twice", CLASS "smtp = { };\nsmtp = { };\n",
	  "F/s.conf:3: duplicate setting name; expected the syntax of "
	  "sallyport.conf(5): name = value;\n" },
	{ "unknown key, near one", CLASS "gateway = {\n worker = 2; };\n",
	  "F/s.conf:3: unknown option gateway.worker; expected "
	  "gateway.workers?\n" },
	{ "unknown key, near none", CLASS "pop3 = { frobnicate = 1; };\n",
	  "F/s.conf:2: unknown option pop3.frobnicate; expected one of wrap\n" },
	{ "unknown group", CLASS "jabberwock = { };\n",
	  "F/s.conf:2: unknown option jabberwock; expected one of gateway, "
	  "subscribers, allow, pass_destinations, tls, servers, smtp, nfq, "
	  "pop3, imap, zombie, accounts, publish, log, ledger, report, "
	  "control\n" },
	{ "unknown key in a class", WITH("port25 = \"watch\"; xyzzy = 1;"),
	  "F/s.conf:1: unknown option subscribers.xyzzy; expected one of class, "
	  "prefixes, prefixes_file, port25, enforce, "
	  "destinations_file, count, line_len6, roll_up, port_block, "
	  "abuse_contact, accounts, pop_before_smtp, block\n" },
	{ "all errors, not the first",
	  CLASS "gateway = { workers = -1;\n grace = \"x\"; nat = 3; };\n",
	  "F/s.conf:3: gateway.nat = 3; expected true or false\n"
	  "F/s.conf:2: gateway.workers = -1: out of range; expected a whole "
	  "number from 0 to 256\n"
	  "F/s.conf:3: gateway.grace = \"x\"; expected a whole number from 0 to "
	  "86400\n" },
	{ "terminal escapes", CLASS "log = { target = \"\\x1b[2J\"; };\n",
	  "F/s.conf:2: log.target = \"?[2J\"; expected \"stderr\", "
	  "\"syslog\"\n" },

	/* types */
	{ "text for number", CLASS "gateway = { workers = \"4\"; };\n",
	  "F/s.conf:2: gateway.workers = \"4\"; expected a whole number from 0 "
	  "to 256\n" },
	{ "float for number", CLASS "gateway = { workers = 1.5; };\n",
	  "F/s.conf:2: gateway.workers = 1.5; expected a whole number from 0 "
	  "to 256\n" },
	{ "huge number", CLASS "gateway = { workers = 4294967296L; };\n",
	  "F/s.conf:2: gateway.workers = 4294967296: out of range; expected a "
	  "whole number from 0 to 256\n" },
	{ "number for text", CLASS "gateway = { name = 5; };\n",
	  "F/s.conf:2: gateway.name = 5; expected a host name\n" },
	{ "text for boolean", CLASS "gateway = { nat = \"yes\"; };\n",
	  "F/s.conf:2: gateway.nat = \"yes\"; expected true or false\n" },
	{ "text for list", CLASS "gateway = { never = \"10.0.0.0/8\"; };\n",
	  "F/s.conf:2: gateway.never = \"10.0.0.0/8\"; " PREFIX_EXPECTS "\n" },
	{ "number in list", CLASS "gateway = { never = ( 10 ); };\n",
	  "F/s.conf:2: gateway.never = 10: not a text; " PREFIX_EXPECTS "\n" },
	{ "text for group", CLASS "gateway = \"x\";\n",
	  "F/s.conf:2: gateway = \"x\"; expected a group { ... }\n" },
	{ "group for list of groups", "subscribers = { };\n",
	  "F/s.conf:1: subscribers = a group { }; expected a list of groups "
	  "( { ... }, { ... } )\n" },
	{ "text in list of groups", "subscribers = ( \"a\" );\n",
	  "F/s.conf:1: subscribers = \"a\": an element of the list; expected a "
	  "list of groups ( { ... }, { ... } )\n" },
	{ "wrong word", CLASS "gateway = { source = \"server\"; };\n",
	  "F/s.conf:2: gateway.source = \"server\"; expected \"client\", "
	  "\"gateway\"\n" },
	{ "empty word", CLASS "gateway = { source = \"\"; };\n",
	  "F/s.conf:2: gateway.source = \"\"; expected \"client\", "
	  "\"gateway\"\n" },

	/* gateway */
	{ "bad name", CLASS "gateway = { name = \"gw_1.isp.example\"; };\n",
	  "F/s.conf:2: gateway.name = \"gw_1.isp.example\": not a host name; "
	  "expected a host name\n" },
	{ "name with CRLF", CLASS "gateway = { name = \"gw\\r\\n250 x\"; };\n",
	  "F/s.conf:2: gateway.name = \"gw??250 x\": not a host name; expected "
	  "a host name\n" },
	{ "name is an address", CLASS "gateway = { name = \"203.0.113.1\"; };\n",
	  "F/s.conf:2: gateway.name = \"203.0.113.1\": not a host name; "
	  "expected a host name\n" },
	{ "interface", CLASS "gateway = { interfaces = ( \"+\" ); };\n",
	  "F/s.conf:2: gateway.interfaces = \"+\": not the name of an "
	  "interface; expected a list of interface names like ( \"eth1\", "
	  "\"ppp+\" )\n" },
	{ "long interface",
	  CLASS "gateway = { interfaces = ( \"abcdefghijklmnop\" ); };\n",
	  "F/s.conf:2: gateway.interfaces = \"abcdefghijklmnop\": interface "
	  "names have at most 15 characters; expected a list of interface names "
	  "like ( \"eth1\", \"ppp+\" )\n" },
	{ "special address", CLASS "gateway = { source = \"gateway\"; addresses "
	  "= ( \"203.0.113.1\",\n \"127.0.0.1\" ); };\n",
	  "F/s.conf:3: gateway.addresses = \"127.0.0.1\": a loopback address; "
	  ADDR_EXPECTS "\n" },
	{ "no address", CLASS "gateway = { source = \"gateway\"; addresses = "
	  "( \"203.0.113.1:25\" ); };\n",
	  "F/s.conf:2: gateway.addresses = \"203.0.113.1:25\": not an IP "
	  "address; " ADDR_EXPECTS "\n" },
	{ "addresses without source",
	  CLASS "gateway = { addresses = ( \"203.0.113.1\" ); };\n",
	  "F/s.conf:2: gateway.addresses without source = \"gateway\"; "
	  "expected both or none\n" },
	{ "source of a line behind NAT",
	  CLASS "gateway = { nat = true;\n source = \"client\"; };\n",
	  "F/s.conf:3: gateway.source = \"client\" with nat = true: servers "
	  "never see the lines' own addresses; expected \"gateway\", or no "
	  "source\n" },
	{ "source of a line at one server behind NAT",
	  CLASS "gateway = { nat = true; };\nservers = ( { name = "
	  "\"a.example\"; own = true; source = \"client\"; } );\n",
	  "F/s.conf:3: servers.source = \"client\" behind address "
	  "translation: servers never see the lines' own addresses; expected "
	  "\"gateway\", or no source\n" },
	{ "redirect with the line's source", CLASS "gateway = {\n"
	  "source = \"client\"; capture = \"redirect\"; };\n",
	  "F/s.conf:3: gateway.source = \"client\" with capture = "
	  "\"redirect\": servers never see the lines' own addresses; expected "
	  "\"gateway\", or no source\n" },
	{ "redirect without NAT", CLASS "gateway = { capture = \"redirect\";\n"
	  "nat = false; };\n",
	  "F/s.conf:3: gateway.nat = false with capture = \"redirect\", which "
	  "translates addresses; expected true, or no nat\n" },
	{ "own programs without redirect",
	  CLASS "gateway = { local = true; };\n",
	  "F/s.conf:2: gateway.local without capture = \"redirect\"; expected "
	  "both or none\n" },
	{ "ports", CLASS "gateway = { source_ports = \"10240\"; };\n",
	  "F/s.conf:2: gateway.source_ports = \"10240\"; expected \"LOW-HIGH\" "
	  "with 1024 <= LOW <= HIGH <= 65535\n" },
	{ "ports turned round",
	  CLASS "gateway = { source_ports = \"3000-2000\"; };\n",
	  "F/s.conf:2: gateway.source_ports = \"3000-2000\": out of range; "
	  "expected \"LOW-HIGH\" with 1024 <= LOW <= HIGH <= 65535\n" },
	{ "mark without mask", CLASS "gateway = { mark = \"0x2500\"; };\n",
	  "F/s.conf:2: gateway.mark = \"0x2500\"; " MARK_EXPECTS "\n" },
	{ "mark outside mask", CLASS "gateway = { mark = \"0x2501/0xff00\"; };\n",
	  "F/s.conf:2: gateway.mark = \"0x2501/0xff00\": does not fit; "
	  MARK_EXPECTS "\n" },
	{ "no room for the second mark",
	  CLASS "gateway = { mark = \"0xff00/0xff00\"; };\n",
	  "F/s.conf:2: gateway.mark = \"0xff00/0xff00\": does not fit; "
	  MARK_EXPECTS "\n" },
	{ "no room, top bits",
	  CLASS "gateway = { mark = \"0xff000000/0xff000000\"; };\n",
	  "F/s.conf:2: gateway.mark = \"0xff000000/0xff000000\": does not fit; "
	  MARK_EXPECTS "\n" },
	{ "no room for the third mark",
	  CLASS "gateway = { mark = \"0xfe00/0xff00\"; };\n",
	  "F/s.conf:2: gateway.mark = \"0xfe00/0xff00\": does not fit; "
	  MARK_EXPECTS "\n" },
	{ "mark zero", CLASS "gateway = { mark = \"0/0xff\"; };\n",
	  "F/s.conf:2: gateway.mark = \"0/0xff\": does not fit; "
	  MARK_EXPECTS "\n" },
	{ "captured listen port", CLASS "gateway = { listen_port = 25; };\n",
	  "F/s.conf:2: gateway.listen_port = 25 is a captured port; expected a "
	  "port of its own\n" },
	{ "user root", CLASS "gateway = { user_relay = \"root\"; };\n",
	  "F/s.conf:2: gateway.user_relay = \"root\": these processes never run "
	  "as root; expected a user name, not root\n" },
	{ "user with a space", CLASS "gateway = { user_control = \"a b\"; };\n",
	  "F/s.conf:2: gateway.user_control = \"a b\": not a user name; "
	  "expected a user name, not root\n" },
	{ "default route in never", CLASS "gateway = { never = ( \"::/0\" ); };\n",
	  "F/s.conf:2: gateway.never = \"::/0\": covers every address; "
	  PREFIX_EXPECTS "\n" },

	/* subscribers */
	{ "none", "subscribers = ( );\n",
	  "F/s.conf:1: no subscribers; expected at least one class\n" },
	{ "no class name",
	  "subscribers = ( { prefixes = ( \"198.18.0.0/16\" ); "
	  "port25 = \"watch\"; } );\n",
	  "F/s.conf:1: subscribers.class is missing; expected class = ... in "
	  "this group\n" },
	{ "no action", WITH(""),
	  "F/s.conf:1: subscribers.port25 is missing; expected port25 = ... in "
	  "this group\n" },
	{ "wrong action", WITH("port25 = \"allow\";"),
	  "F/s.conf:1: subscribers.port25 = \"allow\"; expected \"pass\", "
	  "\"watch\", \"relay\", \"block\", \"submit\", \"reset\", "
	  "\"drop\"\n" },
	{ "long class name", "subscribers = ( { class = \"" LONG_NAME "\"; "
	  "prefixes = ( \"198.18.0.0/16\" ); port25 = \"watch\"; } );\n",
	  "F/s.conf:1: subscribers.class = \"" LONG_NAME "\": not a name; "
	  "expected 1 to 32 letters, digits, - and _\n" },
	{ "class name with a space", "subscribers = ( { class = \"a b\"; "
	  "prefixes = ( \"198.18.0.0/16\" ); port25 = \"watch\"; } );\n",
	  "F/s.conf:1: subscribers.class = \"a b\": not a name; expected 1 to "
	  "32 letters, digits, - and _\n" },
	{ "class name twice", "subscribers = (\n"
	  "{ class = \"a\"; prefixes = ( \"198.18.0.0/16\" ); port25 = \"pass\"; },\n"
	  "{ class = \"a\"; prefixes = ( \"198.19.0.0/16\" ); port25 = \"pass\"; }"
	  ");\n",
	  "F/s.conf:3: a second class \"a\"; expected names that differ\n" },
	{ "no prefix", "subscribers = ( { class = \"a\"; port25 = \"watch\"; "
	  "} );\n",
	  "F/s.conf:1: class \"a\" has no prefix; expected prefixes or "
	  "prefixes_file\n" },
	{ "host bits", "subscribers = ( { class = \"a\"; port25 = \"watch\"; "
	  "prefixes = ( \"198.18.0.0/16\",\n\"198.18.1.1/24\" ); } );\n",
	  "F/s.conf:2: subscribers.prefixes = \"198.18.1.1/24\": host bits set; "
	  PREFIX_EXPECTS "\n" },
	{ "not a prefix", "subscribers = ( { class = \"a\"; port25 = \"watch\"; "
	  "prefixes = ( \"198.18/16\" ); } );\n",
	  "F/s.conf:1: subscribers.prefixes = \"198.18/16\": not an IP address "
	  "or prefix; " PREFIX_EXPECTS "\n" },
	{ "prefix twice in a class", "subscribers = ( { class = \"a\"; port25 = "
	  "\"watch\";\n prefixes = ( \"198.18.0.0/16\",\n\"198.18.0.0/16\" ); } "
	  ");\n",
	  "F/s.conf:3: 198.18.0.0/16 is already in class \"a\" (F/s.conf:2); "
	  "expected each prefix in one class, once\n" },
	{ "prefix in two classes", "subscribers = (\n"
	  "{ class = \"a\"; prefixes = ( \"2001:db8::/48\" ); port25 = \"pass\"; },\n"
	  "{ class = \"b\"; prefixes = ( \"2001:DB8:0::/48\" ); port25 = \"pass\"; "
	  "} );\n",
	  "F/s.conf:3: 2001:db8::/48 is already in class \"a\" (F/s.conf:2); "
	  "expected each prefix in one class, once\n" },
	{ "loopback subscribers", "subscribers = ( { class = \"a\"; port25 = "
	  "\"watch\"; prefixes = ( \"127.0.0.0/8\" ); } );\n",
	  "F/s.conf:1: 127.0.0.0/8 are not subscribers' addresses; expected "
	  "prefixes of lines\n" },
	{ "line length", WITH("port25 = \"watch\"; line_len6 = 129;"),
	  "F/s.conf:1: subscribers.line_len6 = 129: out of range; expected a "
	  "whole number from 32 to 64\n" },
	{ "submit without server", WITH("port25 = \"submit\";"),
	  "F/s.conf:1: port25 = \"submit\" without a server to submit to; "
	  "expected an element of servers with submission\n" },
	{ "relay enforced to watch",
	  WITH("port25 = \"relay\"; enforce = \"watch\";"),
	  "F/s.conf:1: enforce = \"watch\" has no effect on port25 = \"relay\"; "
	  "expected port25 = \"watch\", or no enforce\n" },
	{ "listed without a file",
	  WITH("port25 = \"block\"; enforce = \"listed\";"),
	  "F/s.conf:1: enforce = \"listed\" without destinations; expected "
	  "destinations_file\n" },
	{ "listed with an empty file", WITH("port25 = \"block\"; enforce = "
	  "\"listed\";\n destinations_file = \"/dev/null\";"),
	  "F/s.conf:2: /dev/null cannot be read: not a regular file; expected "
	  "a readable text file\n"
	  "F/s.conf:2: /dev/null names no destination; expected at least one "
	  "prefix\n" },
	{ "listed watch", WITH("port25 = \"watch\"; enforce = \"listed\"; "
	  "destinations_file = \"good.txt\";"),
	  "F/s.conf:1: enforce = \"listed\" has no effect on port25 = "
	  "\"watch\"; expected another action, or no enforce\n" },
	{ "counted pass", WITH("port25 = \"pass\"; count = true;"),
	  "F/s.conf:1: count = true has no effect on port25 = \"pass\"; "
	  "expected port25 = \"watch\", or no count\n" },
	{ "port block", WITH("port25 = \"watch\"; port_block = 63;"),
	  "F/s.conf:1: port_block = 63; expected 0 or a number from 64 to "
	  "32768\n" },
	{ "return path without a queue",
	  CLASS "nfq = { queue = 0; return_path = \"count\"; };\n",
	  "F/s.conf:2: nfq.return_path = \"count\" with nfq.queue = 0; "
	  "expected a queue, or \"off\"\n" },
	{ "submission without a queue",
	  CLASS "nfq = { queue = 0;\n submission = true; };\n",
	  "F/s.conf:3: nfq.submission with nfq.queue = 0; expected a queue, or "
	  "no submission\n" },
	{ "queue", CLASS "nfq = { queue = 65536; };\n",
	  "F/s.conf:2: nfq.queue = 65536: out of range; expected a whole number "
	  "from 0 to 65535\n" },
	{ "prefix file missing", "subscribers = ( { class = \"a\"; port25 = "
	  "\"watch\";\n prefixes_file = \"none.txt\"; } );\n",
	  "F/s.conf:2: F/none.txt cannot be read: No such file or directory; "
	  "expected a readable text file\n"
	  "F/s.conf:1: class \"a\" has no prefix; expected prefixes or "
	  "prefixes_file\n" },
	{ "prefix file is a folder", WITH("port25 = \"watch\"; prefixes_file = "
	  "\"/\";"),
	  "F/s.conf:1: / cannot be read: not a regular file; expected a "
	  "readable text file\n" },
	{ "prefix file", WITH("port25 = \"watch\"; prefixes_file = "
	  "\"bad.txt\";"),
	  "F/bad.txt:3: '198.19.0.1/24': host bits set; expected a prefix like "
	  "198.18.3.7 or 2001:db8:1:9900::/56\n"
	  "F/bad.txt:4: more than a prefix; expected one prefix a line\n"
	  "F/bad.txt:5: 198.18.0.0/16 is already in class \"a\" (F/s.conf:1); "
	  "expected each prefix in one class, once\n" },
	{ "prefixes of a server", CLASS "servers = ( { name = \"a.example\"; "
	  "own = true; prefixes_file = \"good.txt\"; },\n{ name = "
	  "\"b.example\"; own = true; prefixes_file = \"bad.txt\"; },\n{ name = "
	  "\"c.example\"; own = true; prefixes_file = \"good.txt\"; } );\n",
	  "F/bad.txt:3: '198.19.0.1/24': host bits set; expected a prefix like "
	  "198.18.3.7 or 2001:db8:1:9900::/56\n"
	  "F/bad.txt:4: more than a prefix; expected one prefix a line\n"
	  "F/good.txt:1: 198.19.1.0/24 is already a prefix of server "
	  "\"a.example\"; expected one name for each\n"
	  "F/good.txt:4: 2001:db8:2::/48 is already a prefix of server "
	  "\"a.example\"; expected one name for each\n" },

	/* allowlist */
	{ "allow file missing", CLASS "allow = { file = \"none.list\"; };\n",
	  "F/s.conf:2: F/none.list cannot be read: No such file or directory; "
	  "expected a readable text file\n" },
	{ "allow file", CLASS "allow = { file = \"bad.list\"; };\n",
	  "F/bad.list:2: 'port25=block'; expected port25=pass, watch, relay or "
	  "submit\n"
	  "F/bad.list:4: 198.18.3.9/32 is already in line 3; expected each "
	  "prefix once\n" },
	{ "allow submit without server",
	  CLASS "allow = { file = \"submit.list\"; };\n",
	  "F/submit.list:1: port25=submit without a server to submit to; "
	  "expected an element of servers with submission\n" },

	/* servers */
	{ "server without name", CLASS "servers = ( { own = true; } );\n",
	  "F/s.conf:2: servers.name is missing; expected name = ... in this "
	  "group\n" },
	{ "server name", CLASS "servers = ( { name = \"-x.example\"; "
	  "own = true; } );\n",
	  "F/s.conf:2: servers.name = \"-x.example\": not a host name; expected "
	  "a host name\n" },
	{ "server twice", CLASS "servers = ( { name = \"a.example\"; own = true; "
	  "},\n{ name = \"A.example\"; own = true; } );\n",
	  "F/s.conf:3: a second server \"a.example\"; expected names that "
	  "differ\n" },
	{ "server without service", SERVER(""),
	  "F/s.conf:2: server \"mail.isp.example\" has no service; expected "
	  "submission, starttls, pop3, imap or own\n" },
	{ "host without submission", SERVER("pop3 = \"tls:995\"; "
	  "submission_host = \"submit.isp.example\";"),
	  "F/s.conf:2: servers.submission_host without submission; expected "
	  "submission = \"tls:465\" or \"starttls:587\" too\n" },
	{ "host that is the server", SERVER("submission = \"tls:465\"; "
	  "submission_host = \"Mail.ISP.example\";"),
	  "F/s.conf:2: servers.submission_host is the server itself; expected "
	  "another host, or no submission_host\n" },
	{ "host that is no name", SERVER("submission = \"tls:465\"; "
	  "submission_host = \"-x.example\";"),
	  "F/s.conf:2: servers.submission_host = \"-x.example\": not a host "
	  "name; expected a host name\n" },
	{ "plain without addresses", SERVER("imap = \"plain:143\";"),
	  "F/s.conf:2: servers.imap = \"plain:143\" without addresses would "
	  "trust what DNS says; expected addresses = ( ... ) in this group, or "
	  "tls\n" },
	{ "plain submission", SERVER("submission = \"plain:587\";"),
	  "F/s.conf:2: servers.submission = \"plain:587\"; expected "
	  "\"tls:PORT\" or \"starttls:PORT\"\n" },
	{ "imap mode", SERVER("imap = \"ssl:993\";"),
	  "F/s.conf:2: servers.imap = \"ssl:993\"; expected \"tls:PORT\", "
	  "\"starttls:PORT\" or, with addresses, \"plain:PORT\"\n" },
	{ "listening on 143", CLASS "gateway = { listen_port = 143; };\n",
	  "F/s.conf:2: gateway.listen_port = 143 is a captured port; expected a "
	  "port of its own\n" },
	{ "endpoint", SERVER("submission = \"ssl:465\";"),
	  "F/s.conf:2: servers.submission = \"ssl:465\"; expected \"tls:PORT\" "
	  "or \"starttls:PORT\"\n" },
	{ "endpoint port", SERVER("submission = \"tls:65536\";"),
	  "F/s.conf:2: servers.submission = \"tls:65536\"; expected "
	  "\"tls:PORT\" or \"starttls:PORT\"\n" },
	{ "endpoint 25", SERVER("submission = \"starttls:25\";"),
	  "F/s.conf:2: servers.submission = \"starttls:25\": port 25 is no such "
	  "service's port; expected \"tls:PORT\" or \"starttls:PORT\"\n" },
	{ "tunnel to 25", SERVER("starttls = 25;"),
	  "F/s.conf:2: servers.starttls = 25 would be a tunnel for spam; "
	  "expected the submission port, 587\n" },
	{ "server address", SERVER("own = true; addresses = ( \"10.0.0.1\" );"),
	  "F/s.conf:2: servers.addresses = \"10.0.0.1\": a private address; "
	  ADDR_EXPECTS "\n" },
	{ "address of two servers", CLASS "servers = (\n"
	  "{ name = \"a.example\"; own = true; addresses = ( \"203.0.113.5\" ); },\n"
	  "{ name = \"b.example\"; own = true; addresses = ( \"203.0.113.5\" ); }"
	  ");\n",
	  "F/s.conf:4: 203.0.113.5 is already an address of another server; "
	  "expected one name for each\n" },
	{ "destinations", CLASS "pass_destinations = ( \"mine\" );\n",
	  "F/s.conf:2: pass_destinations = \"mine\": not an IP address or "
	  "prefix; expected a list of \"own\" and prefixes\n" },

	/* tls */
	{ "crl missing", CLASS "tls = { trust = \"ca.pem\"; crl = \"none.pem\"; };\n",
	  "F/s.conf:2: tls.crl: F/none.pem cannot be read: No such file or "
	  "directory; expected a PEM file of revocation lists\n" },
	{ "crl without a list", CLASS
	  "tls = { trust = \"ca.pem\"; crl = \"ca.pem\"; };\n",
	  "F/s.conf:2: tls.crl: F/ca.pem holds no revocation list; expected "
	  "revocation lists in PEM\n" },
	{ "one pin", SERVER("submission = \"tls:465\"; pins = ( \"" PIN "\" );"),
	  "F/s.conf:2: servers.pins = a list ( ): too few elements; expected a list of 2 to "
	  "8 texts like \"sha256/BASE64\", the SHA-256 of a public key\n" },
	{ "no pin", SERVER("submission = \"tls:465\"; pins = ( \"" PIN "\", "
	  "\"sha1/AAAA\" );"),
	  "F/s.conf:2: servers.pins = \"sha1/AAAA\": does not begin with "
	  "sha256/; expected a list of 2 to 8 texts like \"sha256/BASE64\", "
	  "the SHA-256 of a public key\n" },
	{ "short pin", SERVER("submission = \"tls:465\"; pins = ( \"" PIN "\", "
	  "\"sha256/AAAA\" );"),
	  "F/s.conf:2: servers.pins = \"sha256/AAAA\": not the base64 of 32 "
	  "octets; expected a list of 2 to 8 texts like \"sha256/BASE64\", "
	  "the SHA-256 of a public key\n" },
	{ "trust missing", CLASS "tls = { trust = \"none.pem\"; };\n",
	  "F/s.conf:2: tls.trust: F/none.pem cannot be read: No such file or "
	  "directory; expected a PEM file (for \"system\", install "
	  "ca-certificates)\n" },
	{ "trust without certificates", CLASS "tls = { trust = \"bad.txt\"; };\n",
	  "F/s.conf:2: tls.trust: F/bad.txt holds no certificate; expected "
	  "certificates in PEM\n" },
	{ "trust damaged", CLASS "tls = { trust = \"bad.pem\"; };\n",
	  "F/s.conf:2: tls.trust: F/bad.pem holds a damaged certificate; "
	  "expected certificates in PEM\n" },
	{ "version", CLASS "tls = { trust = \"ca.pem\"; min_server = \"1.1\"; "
	  "};\n",
	  "F/s.conf:2: tls.min_server = \"1.1\"; expected \"1.2\", \"1.3\"\n" },

	/* smtp */
	{ "code", CLASS "smtp = { block = { code = \"450 4.7.1\"; }; };\n",
	  "F/s.conf:2: smtp.block.code = \"450 4.7.1\"; expected \"5yz 5.y.z\" "
	  "like \"550 5.7.1\"\n" },
	{ "code digits", CLASS "smtp = { block = { code = \"460 5.7.1\"; }; };\n",
	  "F/s.conf:2: smtp.block.code = \"460 5.7.1\": not a permanent reply "
	  "code; expected \"5yz 5.y.z\" like \"550 5.7.1\"\n" },
	{ "code 521", CLASS "smtp = { block = { code = \"521 5.7.1\"; }; };\n",
	  "F/s.conf:2: smtp.block.code = \"521 5.7.1\": 521 is for hosts that "
	  "never take mail (RFC 7504); expected \"5yz 5.y.z\" like "
	  "\"550 5.7.1\"\n" },
	{ "code 535", CLASS "smtp = { block = { code = \"535 5.7.8\"; }; };\n",
	  "F/s.conf:2: smtp.block.code = \"535 5.7.8\": mail programs answer 53x "
	  "by asking for the password again; expected \"5yz 5.y.z\" like "
	  "\"550 5.7.1\"\n" },
	{ "code with CRLF",
	  CLASS "smtp = { block = { code = \"550 5.7.1\\r\\n\"; }; };\n",
	  "F/s.conf:2: smtp.block.code = \"550 5.7.1??\"; expected "
	  "\"5yz 5.y.z\" like \"550 5.7.1\"\n" },
	{ "delay", CLASS "smtp = { block = { delay = 61; }; };\n",
	  "F/s.conf:2: smtp.block.delay = 61: out of range; expected a whole "
	  "number from 0 to 60\n" },
	{ "text with CRLF",
	  CLASS "smtp = { block = { text = ( \"a\\r\\n250 ok\" ); }; };\n",
	  "F/s.conf:2: smtp.block.text = \"a??250 ok\": only printable ASCII "
	  "without line breaks can be sent in a reply; " TEXT_EXPECTS "\n" },
	{ "text not ASCII",
	  CLASS "smtp = { block = { text = ( \"gesch\xc3\xbctzt\" ); }; };\n",
	  "F/s.conf:2: smtp.block.text = \"gesch??tzt\": only printable ASCII "
	  "without line breaks can be sent in a reply; " TEXT_EXPECTS "\n" },
	{ "text too long", CLASS "smtp = { block = { text = ( \"" X100 X100 X100
	  X100 "x\" ); }; };\n",
	  "F/s.conf:2: smtp.block.text = \"" X60 "...\": a line of the text may "
	  "have 400 characters; " TEXT_EXPECTS "\n" },
	{ "placeholder", CLASS "smtp = { block = { text = ( \"{host}\" ); }; };"
	  "\n",
	  "F/s.conf:2: smtp.block.text = \"{host}\": an opening brace begins "
	  "{client}, {event} or {url}; " TEXT_EXPECTS "\n" },
	{ "a page that is not there", CLASS "smtp = { block = { text = ( \"a\", "
	  "\"See {url}\" ); }; };\n",
	  "F/s.conf:2: line 2 of the text has {url}, and there is no url; "
	  "expected both or none\n" },
	{ "filled in too long", CLASS "smtp = { block = { url = \"https://" X100
	  X100 X100 "\"; text = ( \"" X100 X100 "{url}\" ); }; };\n",
	  "F/s.conf:2: line 1 of the text may become 508 characters; expected "
	  "at most 496 with its placeholders filled in\n" },
	{ "a class without the page", "smtp = { block = { url = \"https://a/\"; "
	  "}; };\n" WITH("port25 = \"block\"; block = { url = \"\"; text = ( "
	  "\"{url}\" ); };"),
	  "F/s.conf:2: line 1 of the text has {url}, and there is no url; "
	  "expected both or none\n" },
	{ "soft of a day", CLASS "smtp = { block = { soft = \"1 day\"; }; };\n",
	  "F/s.conf:2: smtp.block.soft = \"1 day\"; expected \"0h\", or an "
	  "instant of RFC 3339 like \"2026-07-01T06:00:00Z\"\n" },
	{ "soft in a class", WITH("port25 = \"block\"; block = { soft = 4; };"),
	  "F/s.conf:1: subscribers.block.soft = 4; expected \"0h\", or an "
	  "instant of RFC 3339 like \"2026-07-01T06:00:00Z\"\n" },
	{ "no text", CLASS "smtp = { block = { text = ( ); }; };\n",
	  "F/s.conf:2: smtp.block.text = a list ( ): empty; " TEXT_EXPECTS
	  "\n" },
	{ "text of nine lines", CLASS "smtp = { block = { text = ( \"1\", \"2\", "
	  "\"3\", \"4\", \"5\", \"6\", \"7\", \"8\", \"9\" ); }; };\n",
	  "F/s.conf:2: smtp.block.text = a list ( ): too many elements; "
	  TEXT_EXPECTS "\n" },
	{ "a hook that is not there", CLASS
	  "zombie = { hook = \"/nowhere/hook\"; };\n",
	  "F/s.conf:2: zombie.hook: /nowhere/hook: No such file or directory; "
	  "expected a program that only its owner can change\n" },
	{ "a hook that is a folder", CLASS "zombie = { hook = \".\"; };\n",
	  "F/s.conf:2: zombie.hook: F/.: it is no program; expected a program "
	  "that only its owner can change\n" },
	{ "a hook as root", CLASS "zombie = { hook_user = \"root\"; };\n",
	  "F/s.conf:2: zombie.hook_user = \"root\": these processes never run "
	  "as root; expected a user name, not root\n" },
	{ "no mail address", CLASS "report = { contact = \"abuse\"; };\n",
	  "F/s.conf:2: report.contact = \"abuse\": not a mail address; expected "
	  "one mail address like abuse@isp.example\n" },
	{ "two of them", CLASS "report = { contact = \"a@b.example, c@d.example\"; };\n",
	  "F/s.conf:2: report.contact = \"a@b.example, c@d.example\": not a mail address; expected "
	  "one mail address like abuse@isp.example\n" },
	{ "one with a name", CLASS "report = { contact = \"A <a@b.example>\"; };\n",
	  "F/s.conf:2: report.contact = \"A <a@b.example>\": not a mail address; expected "
	  "one mail address like abuse@isp.example\n" },
	{ "a header behind it", CLASS "report = { contact = \"a@b.example\\r\\nBcc: x\"; };\n",
	  "F/s.conf:2: report.contact = \"a@b.example??Bcc: x\": not a mail address; expected "
	  "one mail address like abuse@isp.example\n" },
	{ "no local part", CLASS "report = { contact = \"@b.example\"; };\n",
	  "F/s.conf:2: report.contact = \"@b.example\": not a mail address; expected "
	  "one mail address like abuse@isp.example\n" },
	{ "no host", CLASS "report = { contact = \"a@-b.example\"; };\n",
	  "F/s.conf:2: report.contact = \"a@-b.example\": not a mail address; expected "
	  "one mail address like abuse@isp.example\n" },
	{ "dots", CLASS "report = { contact = \"a..b@c.example\"; };\n",
	  "F/s.conf:2: report.contact = \"a..b@c.example\": not a mail address; expected "
	  "one mail address like abuse@isp.example\n" },
	{ "quoted", CLASS "report = { contact = \"\\\"a\\\"@b.example\"; };\n",
	  "F/s.conf:2: report.contact = \"\"a\"@b.example\": not a mail address; expected "
	  "one mail address like abuse@isp.example\n" },
	{ "no name", CLASS "report = { org = \"\"; };\n",
	  "F/s.conf:2: report.org = \"\": not such a text; expected 1 to 200 "
	  "characters of printable ASCII\n" },
	{ "an empty contact", WITH("port25 = \"watch\"; abuse_contact = \"\";"),
	  "F/s.conf:1: subscribers.abuse_contact = \"\": not a mail address; "
	  "expected one mail address like abuse@isp.example\n" },
	{ "url", CLASS "smtp = { block = { url = \"javascript:x\"; }; };\n",
	  "F/s.conf:2: smtp.block.url = \"javascript:x\": not an address of a "
	  "web page; expected an address that begins with https:// or "
	  "http://\n" },
	{ "url with a break",
	  CLASS "smtp = { block = { url = \"https://x\\r\\n\"; }; };\n",
	  "F/s.conf:2: smtp.block.url = \"https://x??\": only printable ASCII "
	  "without spaces and line breaks can be sent in a reply; expected an "
	  "address that begins with https:// or http://\n" },
	{ "class block", WITH("port25 = \"block\"; block = { delay = -1; };"),
	  "F/s.conf:1: subscribers.block.delay = -1: out of range; expected a "
	  "whole number from 0 to 60\n" },
	{ "socket", CLASS "control = { socket = \"run/control\"; };\n",
	  "F/s.conf:2: control.socket = \"run/control\": not an absolute path; "
	  "expected an absolute path of at most 107 characters\n" },
	{ "long socket", CLASS "control = { socket = \"/" X100 "1234567\"; };\n",
	  "F/s.conf:2: control.socket = \"/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
	  "xxxxxxxxxxxxxxxxxxxxxxxx...\": too long for a socket; expected an "
	  "absolute path of at most 107 characters\n" },
};

static void
refusals(void **state)
{
	(void)state;
	for (size_t i = 0; i < N(refused); i++) {
		char *errors;
		struct conf *c = load(refused[i].input, &errors);

		if (c != NULL)
			fail_msg("%s: accepted", refused[i].name);
		if (strcmp(errors, refused[i].want) != 0)
			fail_msg("%s: got\n%swanted\n%s", refused[i].name,
				errors, refused[i].want);
		free(errors);
	}
}

#define LATER(path) ":2: " path " is not available in this version; remove it\n"
#define NOT_YET(path, word, use) ":2: " path " = \"" word "\" is not available " \
	"in this version; remove it, or use " use "\n"

/* What DESIGN promises for later: said so, never ignored. */
static void
not_yet(void **state)
{
	static const struct {
		const char *input, *want;
	} rows[] = {
		{ "gateway = { backend = \"nft\"; };",
		  NOT_YET("gateway.backend", "nft", "\"iptables\"") },
		{ "zombie = { text = ( \"{who}\" ); };",
		  ":2: zombie.text = \"{who}\": an opening brace begins "
		  "{client}, {event} or {url}; expected a list of 1 to 8 "
		  "texts, each 1 to 400 characters of printable ASCII\n" },
		{ "zombie = { suspect = 9.5; };",
		  ":2: zombie: suspect 9.5, probable 9.2, zombie 11.5; "
		  "expected each at least as high as the one before\n" },
		{ "zombie = { zombie = \"high\"; };",
		  ":2: zombie.zombie = \"high\"; expected a number from 1 "
		  "to 60, like 9.2\n" },
		{ "zombie = { zombie = 60.1; };",
		  ":2: zombie.zombie = 60.1: out of range; expected a number "
		  "from 1 to 60, like 9.2\n" },
		{ "zombie = { helo = { innocent = 80; }; };",
		  ":2: zombie.helo: innocent 80, infected 80; expected "
		  "innocent below infected\n" },
		{ "log = { envelope = \"all\"; };",
		  ":2: log.envelope = \"all\"; expected \"none\", \"domain\", "
		  "\"hash\", \"full\"\n" },
		{ "control = { console = \"127.0.0.1:9225\"; };",
		  LATER("control.console") },
	};

	(void)state;
	for (size_t i = 0; i < N(rows); i++) {
		char text[1024], want[512], *errors;

		snprintf(text, sizeof(text), CLASS "%s\n", rows[i].input);
		snprintf(want, sizeof(want), "F/s.conf%s", rows[i].want);
		assert_null(load(text, &errors));
		assert_string_equal(errors, want);
		free(errors);
	}
}

/* Print to memory. */
static char *
printed(const struct conf *c, void (*print)(const struct conf *, FILE *))
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	assert_non_null(f);
	print(c, f);
	fclose(f);
	return text;
}

/* Classes whose lines may and may not have accounts, and servers. */
#define LINES_OF(class, prefix, more) "{ class = \"" class "\"; prefixes = ( " \
	prefix " ); enforce = \"all\"; " more " }"
#define KNOWN "subscribers = ( " LINES_OF("fixed", "\"198.18.0.0/16\", " \
	"\"2001:db8::/32\"", "port25 = \"submit\"; accounts = true;") ", " \
	LINES_OF("dynamic", "\"198.19.0.0/16\"", "port25 = \"submit\";") ", " \
	LINES_OF("shut", "\"203.0.113.0/24\"", "port25 = \"block\";") " );" \
	" servers = ( { name = \"mail.isp.example\"; submission = \"tls:465\"; }," \
	" { name = \"pop.isp.example\"; pop3 = \"tls:995\"; } );\n"
#define ACCOUNT_OF(name, prefixes, server, more) "{ name = \"" name "\"; " \
	"prefixes = ( " prefixes " ); server = \"" server "\"; user = \"u\"; " \
	"sender = \"u@isp.example\"; " more " }"
#define HALL(prefixes, more) KNOWN "accounts = ( " ACCOUNT_OF("hall", prefixes, \
	"mail.isp.example", more) " );\n"
#define PASSWORD "password_file = \"pw\";"
#define ONE "\"198.18.0.9/32\""

static void
accounts_refused(void **state)
{
	static const struct {
		const char *input, *want;
	} rows[] = {
		{ HALL("\"192.0.2.9/32\"", PASSWORD), "account \"hall\": "
		  "192.0.2.9/32 is in no class of subscribers" },
		{ HALL("\"198.19.0.9/32\"", PASSWORD), "account \"hall\", "
		  "198.19.0.9/32: class \"dynamic\" gives its addresses to "
		  "one subscriber after the other; expected a class with "
		  "accounts = true" },
		{ HALL("\"198.18.0.0/30\"", PASSWORD), "account \"hall\", "
		  "198.18.0.0/30: class \"fixed\" has longer lines; expected "
		  "a single line, an address or an IPv6 prefix as long as "
		  "line_len6" },
		{ HALL("\"2001:db8:1::/48\"", PASSWORD), "account \"hall\", "
		  "2001:db8:1::/48: class \"fixed\" has longer lines; "
		  "expected a single line, an address or an IPv6 prefix as "
		  "long as line_len6" },
		{ HALL("", PASSWORD), "account \"hall\" has no line; expected "
		  "prefixes" },
		{ HALL(ONE ", " ONE, PASSWORD), "198.18.0.9/32 has an account "
		  "already; expected one for each line" },
		{ HALL(ONE, ""), "account \"hall\" has no secret; expected "
		  "one of password_file and token_file" },
		{ HALL(ONE, PASSWORD "token_file = \"pw\";"), "account "
		  "\"hall\" has a password and a token; expected one of "
		  "password_file and token_file" },
		{ HALL(ONE, PASSWORD "mechanism = \"xoauth2\";"), "account "
		  "\"hall\": this mechanism needs a token; expected "
		  "token_file, or no mechanism" },
		{ HALL(ONE, "token_file = \"pw\"; mechanism = \"plain\";"),
		  "account \"hall\": this mechanism needs a password; "
		  "expected \"xoauth2\", or no mechanism" },
		{ HALL(ONE, "password_file = \"nowhere\";"),
		  "accounts.password_file: F/nowhere: No such file or "
		  "directory; expected a file with one line, of root and mode "
		  "0600" },
		{ HALL(ONE, PASSWORD "rcpts_per_hour = -1;"),
		  "accounts.rcpts_per_hour = -1: out of range; expected a "
		  "whole number from 0 to 1000000" },
		{ KNOWN "accounts = ( " ACCOUNT_OF("hall", ONE,
		  "mx.isp.example", PASSWORD) " );\n", "accounts.server = "
		  "\"mx.isp.example\" is not in servers; expected the name of "
		  "one" },
		{ KNOWN "accounts = ( " ACCOUNT_OF("hall", ONE,
		  "pop.isp.example", PASSWORD) " );\n", "accounts.server = "
		  "\"pop.isp.example\" takes no submissions; expected a "
		  "server with submission" },
		{ KNOWN "accounts = ( " ACCOUNT_OF("hall", ONE,
		  "mail.isp.example", PASSWORD) ", " ACCOUNT_OF("hall",
		  "\"198.18.0.8/32\"", "mail.isp.example", PASSWORD)
		  " );\n", "a second account \"hall\"; expected names that "
		  "differ" },
		{ KNOWN "accounts = ( { name = \"hall\"; prefixes = ( " ONE
		  " ); server = \"mail.isp.example\"; user = \"\"; sender = "
		  "\"a@b.example\"; " PASSWORD " } );\n",
		  "accounts.user = \"\": not a user name; expected 1 to 254 "
		  "characters of printable ASCII" },
		{ KNOWN "accounts = ( { name = \"hall\"; prefixes = ( " ONE
		  " ); server = \"mail.isp.example\"; user = \"u\"; sender = "
		  "\"a> x@b.example\"; " PASSWORD " } );\n",
		  "accounts.sender = \"a> x@b.example\": not a mail address; "
		  "expected one mail address like abuse@isp.example" },
	};

	(void)state;
	for (size_t i = 0; i < N(rows); i++) {
		char want[512], *errors;

		snprintf(want, sizeof(want), "F/s.conf:2: %s\n", rows[i].want);
		assert_null(load(rows[i].input, &errors));
		assert_string_equal(errors, want);
		free(errors);
	}
}

/* The option of a class has its own conditions. */
static void
classes_of_accounts(void **state)
{
	char *errors;

	(void)state;
	assert_null(load(WITH("port25 = \"block\"; accounts = true;"),
		&errors));
	assert_string_equal(errors, "F/s.conf:1: subscribers.accounts: class "
		"\"a\" does not carry mail to submission; expected port25 = "
		"\"submit\"\n");
	free(errors);
	assert_null(load(WITH("port25 = \"submit\"; accounts = true; "
		"port_block = 1024;") "servers = ( { name = \"a.example\"; "
		"submission = \"tls:465\"; } );\n", &errors));
	assert_string_equal(errors, "F/s.conf:1: subscribers.accounts: class "
		"\"a\" has lines that share addresses (port_block); expected "
		"a line with an address of its own\n");
	free(errors);
}

/* POP3 that vouches for mail: for whom, and at which server. */
static void
pop_before_smtp(void **state)
{
#define POP(more, servers) WITH(more " pop_before_smtp = true;") \
	"servers = ( { name = \"a.example\"; submission = \"tls:465\"; pop3 = " \
	"\"tls:995\"; own = true; " servers " } );\n"
#define POP_WRONG(why) "F/s.conf:1: subscribers.pop_before_smtp: class \"a\" " \
	why "\n"
	static const struct {
		const char *input, *want;
	} rows[] = {
		{ POP("port25 = \"block\";", "xclient = true;"),
		  POP_WRONG("does not carry mail to submission; expected "
		  "port25 = \"submit\"") },
		{ POP("port25 = \"submit\"; port_block = 64;",
		  "xclient = true;"),
		  POP_WRONG("has lines that share addresses (port_block); "
		  "expected a line with an address of its own") },
		{ POP("port25 = \"submit\";", ""),
		  POP_WRONG("has no server that it could hold for; expected "
		  "pop3.wrap = \"listed\" and a server with own, xclient, "
		  "submission and pop3 over TLS") },
		{ POP("port25 = \"submit\";", "xclient = true;")
		  "pop3 = { wrap = \"off\"; };\n",
		  POP_WRONG("has no server that it could hold for; expected "
		  "pop3.wrap = \"listed\" and a server with own, xclient, "
		  "submission and pop3 over TLS") },
	};
	struct conf *c = load_good(POP("port25 = \"submit\"; enforce = "
		"\"all\";", "xclient = true; }, { name = \"b.example\"; "
		"submission = \"tls:465\"; pop3 = \"tls:995\";"));
	char *told = printed(c, conf_explain);

	(void)state;
	assert_int_equal(c->pop_minutes, 30);
	assert_true(conf_pop_counts(c, 0, 0));
	assert_false(conf_pop_counts(c, 0, 1));
	assert_false(conf_pop_counts(c, 0, -1));
	assert_false(conf_pop_counts(c, -1, 0));
	assert_non_null(strstr(told, "For 30 minutes after a POP3 login at "
		"a.example mail of the line goes there without AUTH"));
	assert_null(strstr(told, "at b.example mail"));
	free(told);
	conf_free(&c);
	for (size_t i = 0; i < N(rows); i++) {
		char *errors;

		assert_null(load(rows[i].input, &errors));
		assert_string_equal(errors, rows[i].want);
		free(errors);
	}
}

static void
files_of_accounts(void **state)
{
	char want[512], *errors;

	(void)state;
	assert_int_equal(chmod(in_dir("pw"), 0640), 0);
	assert_null(load(HALL(ONE, PASSWORD), &errors));
	snprintf(want, sizeof(want), "F/s.conf:2: accounts.password_file: F/pw "
		"may be read or written by others (owner %u, mode 0640); "
		"expected chown root and chmod 600 of it\n",
		(unsigned)geteuid());
	assert_string_equal(errors, want);
	free(errors);
	assert_int_equal(chmod(in_dir("pw"), 0600), 0);
}

static void
accounts_found(void **state)
{
	struct conf *c = load_good(HALL(ONE ", \"2001:db8:1:100::/56\"",
		PASSWORD "messages_per_hour = 0;"));
	static const struct {
		const char *line;
		int class, server, want;
	} rows[] = {
		{ "198.18.0.9", 0, 0, 0 },
		{ "2001:db8:1:1ff::7", 0, 0, 0 },
		{ "198.18.0.9", 0, 1, -1 },	/* another server */
		{ "198.18.0.9", 0, -1, -1 },
		{ "198.18.0.9", -1, 0, -1 },
		{ "198.18.0.9", 1, 0, -1 },	/* not that class's any more */
		{ "198.18.0.8", 0, 0, -1 },
		{ "2001:db8:1:200::7", 0, 0, -1 },
	};
	char *told = printed(c, conf_explain);

	(void)state;
	for (size_t i = 0; i < N(rows); i++) {
		struct addr a;

		assert_int_equal(addr_parse(&a, rows[i].line), 0);
		assert_int_equal(conf_account(c, &a, rows[i].class,
			rows[i].server), rows[i].want);
	}
	assert_non_null(strstr(told, "Account hall: 198.18.0.9/32, "
		"2001:db8:1:100::/56 may send to mail.isp.example without a "
		"password,\n    as user u (by what the server offers, "
		"password from "));
	assert_non_null(strstr(told, "sender <u@isp.example>, 100 recipients "
		"an hour.\n"));
	free(told);
	conf_free(&c);
}

/* What is in a file is looked at by `sallyport check' alone. */
static void
secrets_checked(void **state)
{
	struct conf *c = load_good(HALL(ONE, PASSWORD));
	char *errors = NULL, *shown;
	size_t len;
	FILE *err = open_memstream(&errors, &len);

	(void)state;
	assert_non_null(err);
	assert_int_equal(conf_check_secrets(c, err), 0);
	write_file("pw", "two\nlines\n");
	assert_int_equal(conf_check_secrets(c, err), -1);
	fclose(err);
	shown = replace(errors, dir, "F");
	assert_string_equal(shown, "F/pw: account \"hall\": has more than one "
		"line, or a control octet; expected one line\n");
	write_file("pw", "secret-7\n");
	free(shown);
	free(errors);
	shown = printed(c, conf_print);
	assert_null(strstr(shown, "secret-7"));
	free(shown);
	conf_free(&c);
}

/* A span of hours is answered with the instant at which it would end. */
static void
soft_of_a_span(void **state)
{
	char *errors;

	(void)state;
	assert_null(load(CLASS "smtp = { block = { soft = \"12h\"; }; };\n",
		&errors));
	assert_non_null(strstr(errors, "F/s.conf:2: smtp.block.soft = \"12h\": "
		"a span has no beginning; from now on it ends at 2"));
	free(errors);
}

/* Words in full, most of them what is done anyway. */
static void
defaults_written_out(void **state)
{
	struct conf *c = load_good(CLASS
		"gateway = { capture = \"tproxy\"; backend = \"iptables\"; };\n"
		"smtp = { unknown_origin = \"block\"; };\n"
		"pop3 = { wrap = \"opportunistic\"; }; imap = { wrap = \"off\"; };\n"
		"log = { format = \"kv\"; envelope = \"none\"; "
		"destination = \"full\"; };\n");

	(void)state;
	assert_int_equal(c->pop3_wrap, WRAP_OPPORTUNISTIC);
	assert_int_equal(c->imap_wrap, WRAP_OFF);
	assert_int_equal(c->log_format, LOG_FORMAT_KV);
	conf_free(&c);
	assert_null(c);
}

static void
defaults(void **state)
{
	struct conf *c = load_good("gateway = { name = \"gw.example\"; };\n"
		CLASS);

	(void)state;
	assert_int_equal(c->ninterfaces, 0);
	assert_int_equal(c->source, SOURCE_CLIENT);
	assert_int_equal(c->port_lo, 10240);
	assert_int_equal(c->port_hi, 32767);
	assert_false(c->nat);
	assert_true(c->workers >= 1);
	assert_false(c->fail_closed);
	assert_int_equal(c->mark, 0x2500);
	assert_int_equal(c->mark_mask, 0xff00);
	assert_int_equal(c->mark_own, 0x2600);
	assert_int_equal(c->mark_reset, 0x2700);
	assert_int_equal(c->nfq_queue, 2525);
	assert_int_equal(c->nfq_lines, 1000000);
	assert_int_equal(c->return_path, RETURN_OFF);
	assert_false(c->nfq_submission);
	assert_int_equal(c->classes[0].port_block, 0);
	assert_int_equal(c->table, 2525);
	assert_int_equal(c->priority, 2525);
	assert_int_equal(c->listen_port, 2525);
	assert_int_equal(c->grace, 120);
	assert_int_equal(c->drain_max, 60);
	assert_true(c->repair);
	assert_string_equal(c->user_relay, "sallyport-relay");
	assert_string_equal(c->user_control, "sallyport");
	assert_string_equal(c->user_keeper, "sallyport-keeper");
	assert_true(c->pass_own);
	assert_int_equal(c->npass_prefixes, 0);
	assert_null(c->allow_file);
	assert_int_equal(c->tls_min_server, TLS1_2_VERSION);
	assert_int_equal(c->pop3_wrap, WRAP_LISTED);
	assert_int_equal(c->imap_wrap, WRAP_LISTED);
	assert_int_equal(c->max_per_line, 20);
	assert_true(c->log_syslog);
	assert_string_equal(c->control_socket, "/run/sallyport/control");
	assert_int_equal(c->block.stage, BLOCK_ADAPTIVE);
	assert_int_equal(c->block.code, 550);
	assert_string_equal(c->block.esc, "5.7.1");
	assert_int_equal(c->block.delay, 5);
	assert_int_equal(c->block.ntext, 2);
	assert_null(c->block.url);
	assert_int_equal(c->classes[0].line_len6, 56);
	assert_int_equal(c->classes[0].enforce, ENFORCE_WATCH);
	conf_free(&c);
}

static void
values(void **state)
{
	struct conf *c = load_good(
		"gateway = { name = \"GW.example\"; source = \"gateway\";\n"
		"  interfaces = [ \"eth1\", \"ppp+\" ];\n"
		"  addresses = ( \"203.0.113.1\", \"2001:db8::1\" );\n"
		"  source_ports = \"2000-3000\"; nat = true; workers = 3;\n"
		"  on_failure = \"closed\"; mark = \"0x10/0xf0\"; table = 7;\n"
		"  priority = 8; listen_port = 9; grace = 0; drain_max = 1;\n"
		"  never = ( \"203.0.113.0/28\" ); user_relay = \"r\";\n"
		"  user_control = \"c\"; };\n"
		CLASS
		"servers = ( { name = \"Mail.example\"; submission = "
		"\"starttls:587\"; pop3 = \"tls:995\"; imap = "
		"\"plain:1143\"; addresses = ( \"203.0.113.2\" ); },\n"
		"{ name = \"b.example\"; submission = \"starttls:587\"; "
		"submission_host = \"Submit.example\"; starttls = 0; "
		"imap = \"starttls:143\"; } );\n"
		"pass_destinations = ( \"203.0.113.0/24\" );\n"
		"tls = { trust = \"ca.pem\"; min_server = \"1.3\"; };\n"
		"smtp = { max_per_line = 5; };\n"
		"nfq = { queue = 7; lines = 5000; return_path = \"drop\"; "
		"submission = true; };\n"
		"log = { target = \"stderr\"; };\n"
		"control = { socket = \"/run/x\"; };\n");
	char text[ADDR_STRLEN];

	(void)state;
	assert_string_equal(c->name, "gw.example");
	assert_int_equal(c->ninterfaces, 2);
	assert_string_equal(c->interfaces[1], "ppp+");
	assert_int_equal(c->source, SOURCE_GATEWAY);
	assert_int_equal(c->naddresses, 2);
	assert_string_equal(addr_format(&c->addresses[1], text), "2001:db8::1");
	assert_int_equal(c->port_lo, 2000);
	assert_int_equal(c->port_hi, 3000);
	assert_true(c->nat);
	assert_int_equal(c->workers, 3);
	assert_true(c->fail_closed);
	assert_int_equal(c->mark, 0x10);
	assert_int_equal(c->mark_own, 0x20);
	assert_int_equal(c->mark_reset, 0x30);
	assert_int_equal(c->nfq_queue, 7);
	assert_int_equal(c->nfq_lines, 5000);
	assert_int_equal(c->return_path, RETURN_DROP);
	assert_true(c->nfq_submission);
	assert_int_equal(c->nnever, 1);
	assert_int_equal(c->nservers, 2);
	assert_string_equal(c->servers[0].name, "mail.example");
	assert_int_equal(c->servers[0].submission.mode, TLS_STARTTLS);
	assert_int_equal(c->servers[0].submission.port, 587);
	assert_int_equal(c->servers[0].starttls, 587);
	assert_int_equal(c->servers[0].pop3.mode, TLS_IMPLICIT);
	assert_int_equal(c->servers[0].pop3.port, 995);
	assert_int_equal(c->servers[0].naddresses, 1);
	assert_int_equal(c->servers[1].starttls, 0);
	assert_int_equal(conf_hosts(c), 4);
	assert_string_equal(conf_host(c, 0), "mail.example");
	assert_string_equal(conf_host(c, 1), "b.example");
	assert_null(conf_host(c, 2));
	assert_string_equal(conf_host(c, 3), "submit.example");
	assert_int_equal(c->servers[1].pop3.mode, TLS_NONE);
	assert_int_equal(c->servers[0].imap.mode, TLS_PLAIN);
	assert_int_equal(c->servers[0].imap.port, 1143);
	assert_int_equal(c->servers[1].imap.mode, TLS_STARTTLS);
	assert_false(c->pass_own);
	assert_int_equal(c->npass_prefixes, 1);
	assert_int_equal(c->tls_min_server, TLS1_3_VERSION);
	assert_int_equal(c->max_per_line, 5);
	assert_false(c->log_syslog);
	assert_string_equal(c->trust, in_dir("ca.pem"));
	conf_free(&c);
}

/* What follows from capture and NAT without being written. */
static void
topologies(void **state)
{
	static const struct {
		const char *gateway;
		enum capture capture;
		bool nat, local;
		enum source source;
	} rows[] = {
		{ "", CAPTURE_TPROXY, false, false, SOURCE_CLIENT },
		{ "source = \"gateway\";", CAPTURE_TPROXY, false, false,
			SOURCE_GATEWAY },
		{ "nat = true;", CAPTURE_TPROXY, true, false, SOURCE_GATEWAY },
		{ "capture = \"redirect\";", CAPTURE_REDIRECT, true, false,
			SOURCE_GATEWAY },
		{ "capture = \"redirect\"; nat = true; local = true; source = "
			"\"gateway\"; addresses = ( \"203.0.113.1\" );",
			CAPTURE_REDIRECT, true, true, SOURCE_GATEWAY },
	};

	(void)state;
	for (size_t i = 0; i < N(rows); i++) {
		char text[512];
		struct conf *c;

		snprintf(text, sizeof(text), CLASS "gateway = { %s };\n",
			rows[i].gateway);
		c = load_good(text);
		assert_int_equal(c->capture, rows[i].capture);
		assert_int_equal(c->nat, rows[i].nat);
		assert_int_equal(c->local, rows[i].local);
		assert_int_equal(c->source, rows[i].source);
		conf_free(&c);
	}
}

/* The word of a server, else the gateway's; the pool serves both. */
static void
server_sources(void **state)
{
	static const struct {
		const char *gateway, *server;
		enum source source;
		bool has_client, has_gateway;
	} rows[] = {
		{ "", "", SOURCE_CLIENT, true, false },
		{ "", "source = \"default\";", SOURCE_CLIENT, true, false },
		{ "addresses = ( \"203.0.113.1\" );",
			"source = \"gateway\";", SOURCE_GATEWAY, true, true },
		{ "source = \"gateway\";", "", SOURCE_GATEWAY, false, true },
		{ "source = \"gateway\";", "source = \"client\";",
			SOURCE_CLIENT, true, true },
		{ "nat = true;", "source = \"gateway\";", SOURCE_GATEWAY,
			false, true },
	};

	(void)state;
	for (size_t i = 0; i < N(rows); i++) {
		char text[512];
		struct conf *c;

		snprintf(text, sizeof(text), CLASS "gateway = { %s };\n"
			"servers = ( { name = \"a.example\"; own = true; %s } "
			");\n", rows[i].gateway, rows[i].server);
		c = load_good(text);
		assert_int_equal(conf_source(c, 0), rows[i].source);
		assert_int_equal(conf_source(c, -1), c->source);
		assert_int_equal(conf_source(c, 1), c->source);
		assert_int_equal(conf_has_source(c, SOURCE_CLIENT),
			rows[i].has_client);
		assert_int_equal(conf_has_source(c, SOURCE_GATEWAY),
			rows[i].has_gateway);
		conf_free(&c);
	}
}

static void
class_blocks(void **state)
{
	struct conf *c = load_good(
		"smtp = { block = { delay = 2; url = \"https://a.example/\"; "
		"text = ( \"one\", \"two\" ); }; };\n"
		"subscribers = (\n"
		"{ class = \"a\"; prefixes = ( \"198.18.0.0/16\" ); "
		"port25 = \"block\"; },\n"
		"{ class = \"b\"; prefixes = ( \"198.19.0.0/16\" ); "
		"port25 = \"block\"; enforce = \"all\"; block = { "
		"stage = \"rcpt\"; code = \"554 5.7.100\"; delay = 0; "
		"url = \"\"; text = ( \"three\" ); }; } );\n");
	const struct block_conf *a = &c->classes[0].block;
	const struct block_conf *b = &c->classes[1].block;

	(void)state;
	assert_int_equal(c->classes[0].effective, ACTION_WATCH);
	assert_int_equal(a->stage, BLOCK_ADAPTIVE);
	assert_int_equal(a->code, 550);
	assert_int_equal(a->delay, 2);
	assert_string_equal(a->url, "https://a.example/");
	assert_int_equal(a->ntext, 2);
	assert_string_equal(a->text[1], "two");
	assert_int_equal(c->classes[1].effective, ACTION_BLOCK);
	assert_int_equal(b->stage, BLOCK_RCPT);
	assert_int_equal(b->code, 554);
	assert_string_equal(b->esc, "5.7.100");
	assert_int_equal(b->delay, 0);
	assert_null(b->url);
	assert_int_equal(b->ntext, 1);
	assert_string_equal(b->text[0], "three");
	conf_free(&c);
}

#define THREE_CLASSES "subscribers = (\n" \
	"{ class = \"wide\"; prefixes = ( \"198.18.0.0/15\", \"2001:db8::/32\" ); " \
	"port25 = \"block\"; enforce = \"all\"; },\n" \
	"{ class = \"narrow\"; prefixes_file = \"good.txt\"; port25 = \"relay\"; },\n" \
	"{ class = \"counted\"; prefixes = ( \"198.19.8.0/24\" ); " \
	"port25 = \"reset\"; } );\n" \
	"allow = { file = \"good.list\"; };\n"

static void
policy(void **state)
{
	static const struct {
		const char *line;
		int64_t now;
		enum action want;
		int class;
		unsigned allow;		/* line of the entry, 0: none */
	} rows[] = {
		{ "198.18.0.1", 0, ACTION_BLOCK, 0, 0 },
		{ "198.19.1.1", 0, ACTION_RELAY, 1, 0 },
		{ "198.19.8.1", 0, ACTION_WATCH, 2, 0 },
		{ "2001:db8:9::1", 0, ACTION_BLOCK, 0, 0 },
		{ "2001:db8:2:3::1", 0, ACTION_RELAY, 1, 0 },
		{ "203.0.113.1", 0, ACTION_PASS, -1, 0 },
		{ "2001:db9::1", 0, ACTION_PASS, -1, 0 },
		{ "198.18.3.99", 0, ACTION_PASS, 0, 2 },
		{ "198.18.3.98", 0, ACTION_WATCH, 0, 3 },
		/* the narrow entry ends, the wide one still counts */
		{ "198.18.3.7", 1767225599, ACTION_RELAY, 0, 4 },
		{ "198.18.3.7", 1767225600, ACTION_WATCH, 0, 3 },
		/* an entry for somebody who is no subscriber changes nothing */
		{ "203.0.113.9", 0, ACTION_PASS, -1, 0 },
		{ "2001:db8:1:9900::5", 0, ACTION_PASS, 0, 6 },
	};
	struct conf *c = load_good(THREE_CLASSES);

	(void)state;
	assert_int_equal(c->nallow, 5);
	for (size_t i = 0; i < N(rows); i++) {
		const struct allow_entry *entry;
		struct addr line;
		int class;

		assert_int_equal(addr_parse(&line, rows[i].line), 0);
		assert_int_equal(conf_policy(c, &line, rows[i].now, &class,
				&entry), rows[i].want);
		assert_int_equal(class, rows[i].class);
		assert_int_equal(entry != NULL ? entry->line : 0,
			rows[i].allow);
		assert_int_equal(conf_policy(c, &line, rows[i].now, NULL, NULL),
			rows[i].want);
	}
	conf_free(&c);
}

/* Towards listed destinations, and which first packets are counted. */
static void
staged(void **state)
{
	static const struct {
		const char *line, *destination;
		enum action want;
	} rows[] = {
		{ "198.18.0.1", "203.0.113.9", ACTION_RESET },
		{ "198.18.0.1", "203.0.113.10", ACTION_WATCH },
		{ "198.18.0.1", "198.51.100.200", ACTION_RESET },
		{ "2001:db8:1::1", "2001:db8:f::1", ACTION_RESET },
		{ "2001:db8:1::1", "2001:db8:e::1", ACTION_WATCH },
		/* through NAT64 it is the same host */
		{ "2001:db8:1::1", "64:ff9b::cb00:7109", ACTION_RESET },
		{ "2001:db8:1::1", "64:ff9b::cb00:710a", ACTION_WATCH },
		{ "198.18.3.99", "203.0.113.9", ACTION_PASS },	/* allowed */
		{ "198.19.0.1", "203.0.113.9", ACTION_WATCH },
		{ "198.19.1.1", "203.0.113.10", ACTION_DROP },
		{ "203.0.113.1", "203.0.113.9", ACTION_PASS },
	};
	static const bool counted[] = { true, true, false, true, false };
	struct conf *c;

	(void)state;
	write_file("carriers", "203.0.113.9 # one\n\n203.0.113.9\n"
		"198.51.100.128/25\n2001:db8:f::/48\n");
	c = load_good("subscribers = ("
		"{ class = \"a\"; prefixes = ( \"198.18.0.0/16\", "
		"\"2001:db8:1::/48\" ); port25 = \"reset\"; enforce = "
		"\"listed\"; destinations_file = \"carriers\"; },"
		/* the file may stay while nothing is enforced */
		"{ class = \"b\"; prefixes = ( \"198.19.0.0/24\" ); port25 = "
		"\"drop\"; destinations_file = \"carriers\"; },"
		"{ class = \"c\"; prefixes = ( \"198.19.1.0/24\" ); port25 = "
		"\"drop\"; enforce = \"all\"; },"
		"{ class = \"d\"; prefixes = ( \"198.19.2.0/24\" ); port25 = "
		"\"drop\"; enforce = \"all\"; count = true; port_block = 64; },"
		"{ class = \"e\"; prefixes = ( \"198.19.3.0/24\" ); port25 = "
		"\"pass\"; } );\n"
		"allow = { file = \"good.list\"; };\n");
	assert_int_equal(c->classes[0].ndestinations, 4);
	assert_int_equal(c->classes[0].effective, ACTION_RESET);
	assert_int_equal(c->classes[3].port_block, 64);
	for (size_t i = 0; i < N(rows); i++) {
		struct addr line, destination;

		assert_int_equal(addr_parse(&line, rows[i].line), 0);
		assert_int_equal(addr_parse(&destination, rows[i].destination),
			0);
		if (conf_policy_to(c, &line, &destination, 0, NULL, NULL) !=
			rows[i].want)
			fail_msg("%s to %s", rows[i].line, rows[i].destination);
	}
	for (size_t i = 0; i < N(counted); i++)
		assert_int_equal(conf_class_counts(&c->classes[i]), counted[i]);
	conf_free(&c);
}

/* Whose first packets nfq sees, and who counts those that are captured. */
static void
counted_first(void **state)
{
	static const struct {
		const char *class;	/* options of the class */
		bool counts, nfq_saw;
	} rows[] = {
		{ "port25 = \"block\"; enforce = \"all\";", true, true },
		{ "port25 = \"block\"; enforce = \"all\"; count = false;",
			false, false },
		{ "port25 = \"relay\";", false, false },
		{ "port25 = \"relay\"; count = true;", true, true },
		{ "port25 = \"submit\"; enforce = \"all\";", false, false },
		/* only watched, and captured towards the provider's own */
		{ "port25 = \"submit\";", true, true },
		{ "port25 = \"submit\"; enforce = \"listed\"; "
			"destinations_file = \"only\";", true, false },
		{ "port25 = \"watch\";", true, true },
	};

	(void)state;
	write_file("only", "203.0.113.9\n");
	for (size_t i = 0; i < N(rows); i++) {
		char text[1024];
		struct conf *c;

		snprintf(text, sizeof(text), "servers = ( { name = "
			"\"mail.isp.example\"; submission = \"tls:465\"; } );\n"
			"subscribers = ( { class = \"a\"; prefixes = "
			"( \"198.18.0.0/16\" ); %s } );\n", rows[i].class);
		c = load_good(text);
		if (conf_class_counts(&c->classes[0]) != rows[i].counts ||
		    conf_nfq_saw(c, 0) != rows[i].nfq_saw)
			fail_msg("%s", rows[i].class);
		c->nfq_queue = 0;
		assert_false(conf_nfq_saw(c, 0));
		conf_free(&c);
	}
}

/* What `check` prints can be loaded, and means the same. */
static void
round_trip(void **state)
{
	static const char *const inputs[] = {
		CLASS,
		THREE_CLASSES,
		WITH("port25 = \"relay\";"),
		"smtp = { block = { url = \"https://a/\"; }; };\n"
		WITH("port25 = \"block\"; block = { url = \"\"; code = "
			"\"554 5.0.0\"; text = ( \"say \\\"hi\\\" \\\\\" ); };")
		"servers = ( { name = \"a.example\"; submission = "
		"\"starttls:587\"; starttls = 0; } );\n",
		HALL(ONE, "token_file = \"pw\"; mechanism = \"xoauth2\";"),
	};

	(void)state;
	for (size_t i = 0; i < N(inputs); i++) {
		struct conf *a = load_good(inputs[i]), *b;
		char *first = printed(a, conf_print), *second;
		char *told = printed(a, conf_explain), *again;

		b = load_good(first);
		second = printed(b, conf_print);
		again = printed(b, conf_explain);
		assert_string_equal(first, second);
		assert_string_equal(told, again);
		free(first);
		free(second);
		free(told);
		free(again);
		conf_free(&a);
		conf_free(&b);
	}
}

/* Stage and soft beginning: read, inherited, printed, explained. */
static void
soft_and_stages(void **state)
{
	struct conf *c = load_good("smtp = { block = { stage = \"mail\"; soft = "
		"\"2126-01-02T03:04:05Z\"; }; };\n"
		"subscribers = ( { class = \"a\"; prefixes = ( \"198.18.0.0/24\" "
		"); port25 = \"block\"; enforce = \"all\"; },\n"
		"{ class = \"b\"; prefixes = ( \"198.18.1.0/24\" ); port25 = "
		"\"block\"; enforce = \"all\"; block = { stage = \"greeting\"; "
		"soft = \"0h\"; text = ( \"no, {client}\" ); }; } );\n");
	char *told, *shown;

	(void)state;
	assert_int_equal(c->classes[0].block.stage, BLOCK_MAIL);
	assert_int_equal(c->classes[0].block.soft_until, 4922996645);
	assert_int_equal(c->classes[1].block.stage, BLOCK_GREETING);
	assert_int_equal(c->classes[1].block.soft_until, 0);
	told = printed(c, conf_explain);
	assert_non_null(strstr(told, "then the sender is refused with\n"));
	assert_non_null(strstr(told, "    Until 2126-01-02T03:04:05Z the code is "
		"451 (soft): mail waits"));
	assert_non_null(strstr(told, "no bounce is seen"));
	assert_non_null(strstr(told, "      554 no, {client}\n"));
	shown = printed(c, conf_print);
	assert_non_null(strstr(shown, "soft = \"2126-01-02T03:04:05Z\";"));
	assert_non_null(strstr(shown, "soft = \"0h\";"));
	free(told);
	free(shown);
	conf_free(&c);
}

static void
explained(void **state)
{
	static const struct {
		const char *input, *want;
	} rows[] = {
		{ WITH("port25 = \"block\"; enforce = \"all\"; block = { "
		       "text = ( \"no\" ); url = \"https://a/\"; };"),
		  "class a (198.18.0.0/16): block\n"
		  "    Greeted after 5 s, then each recipient (EHLO, for lines "
		  "that gave up before) is refused with\n"
		  "      550-5.7.1 no\n"
		  "      550 5.7.1 https://a/\n" },
		{ WITH("port25 = \"drop\";"),
		  "    Not enforced: port 25 is forwarded, connections are "
		  "counted.\n    With enforce = \"all\":\n"
		  "    Packets to port 25 are dropped.\n" },
		{ WITH("port25 = \"reset\"; enforce = \"all\";"),
		  "    Port 25 is answered with a TCP reset.\n" },
		{ WITH("port25 = \"reset\"; enforce = \"listed\"; "
		       "destinations_file = \"carriers\";"),
		  "    Towards the 4 destinations of F/carriers only;\n"
		  "    to others port 25 is forwarded, connections are "
		  "counted:\n    Port 25 is answered with a TCP reset.\n" },
		{ WITH("port25 = \"reset\"; enforce = \"all\"; count = true; "
		       "port_block = 1024;"),
		  "    Port 25 is answered with a TCP reset.\n"
		  "    A line is an address and 1024 source ports.\n"
		  "    Attempts are counted.\n" },
		{ CLASS "nfq = { lines = 5000; submission = true; return_path "
		  "= \"drop\"; };\n",
		  "First packets are counted by line (queue 2525, 5000 lines), "
		  "to ports 465 and 587 too.\n"
		  "Answers of port 25 that a blocked line did not ask for are "
		  "dropped.\n" },
		{ CLASS "nfq = { queue = 0; };\n",
		  "First packets are not counted (nfq.queue = 0).\n" },
		{ WITH("port25 = \"pass\";"),
		  "    Port 25 is forwarded and not counted.\n" },
		{ WITH("port25 = \"relay\";") "gateway = { source = "
		  "\"gateway\"; };\n",
		  "from the gateway's address (which no server may trust)" },
		{ WITH("port25 = \"submit\"; enforce = \"all\";")
		  "servers = ( { name = \"a.example\"; submission = "
		  "\"tls:465\"; submission_host = \"submit.example\"; "
		  "starttls = 587; } );\n",
		  "      a.example: at submit.example port 465 (TLS); clients "
		  "that use STARTTLS are tunnelled to port 587\n" },
		{ SERVER("own = true; pop3 = \"tls:995\";"),
		  "Every line still reaches on port 25: mail.isp.example.\n"
		  "Plain POP3 (port 110) is carried over verified TLS to "
		  "mail.isp.example port 995; other servers are not "
		  "touched.\nIMAP is not touched.\n" },
		{ SERVER("pop3 = \"starttls:110\"; imap = \"plain:143\"; "
		  "addresses = ( \"203.0.113.9\" );"),
		  "Plain POP3 (port 110) is carried over verified TLS to "
		  "mail.isp.example port 110 (STARTTLS); other servers are not "
		  "touched.\nPlain IMAP (port 143) is carried over verified TLS "
		  "to mail.isp.example port 143 (WITHOUT TLS, at its literal "
		  "addresses); other servers are not touched.\n" },
		{ CLASS "pass_destinations = ( \"203.0.113.0/24\" );\n",
		  "Every line still reaches on port 25: 1 prefix.\n" },
		{ CLASS "gateway = { on_failure = \"closed\"; };\n",
		  "While the daemon is down or hung, port 25 is reset.\n" },
		{ THREE_CLASSES, "good.list: 5 entries, 1 expired.\n" },
		{ CLASS, "Connections are captured by policy routing (TPROXY). "
		  "Servers see the line's own address.\nWhile the daemon" },
		{ WITH("port25 = \"relay\";") "gateway = { capture = "
		  "\"redirect\"; local = true; };\n",
		  "Connections are captured by address translation "
		  "(REDIRECT),\n    also those of this machine's own programs, "
		  "whose address is in a class. Servers see an address of this "
		  "gateway: IPv4 as routed, IPv6 as routed.\nOne address holds about "
		  "28,000 sessions to one server at a time, all lines "
		  "together,\n    and is slower beyond 12,000; gateway.addresses "
		  "may name more.\nWarning: relay from the gateway's address "
		  "needs an address that no server trusts: to a server\n    that "
		  "takes mail from it without a password, every line of that "
		  "class is the gateway.\n" },
		{ CLASS "gateway = { source = \"gateway\"; addresses = ( "
		  "\"203.0.113.1\", \"203.0.113.2\" ); };\n",
		  "Servers see an address of this gateway: IPv4 2 in turn, IPv6 "
		  "as routed.\n" },
		{ CLASS "servers = ( { name = \"a.example\"; own = true; "
		  "source = \"gateway\"; } );\n",
		  "Servers see the line's own address.\n    But a.example sees an "
		  "address of this gateway.\n" },
	};

	(void)state;
	for (size_t i = 0; i < N(rows); i++) {
		struct conf *c = load_good(rows[i].input);
		char *text = printed(c, conf_explain), *want;

		want = replace(rows[i].want, "F/", in_dir(""));
		if (strstr(text, want) == NULL)
			fail_msg("missing:\n%s\nin:\n%s", want, text);
		free(text);
		free(want);
		conf_free(&c);
	}
}

static void
sample(void **state)
{
	char *text = read_file("conf/sallyport.conf.sample");
	char *list = read_file("conf/allow.list.sample");
	char *with_allow = replace(text, "/etc/sallyport/allow.list",
		"allow.list");
	char *whole = replace(with_allow, "trust = \"system\"",
		"trust = \"ca.pem\"");
	struct addr line;
	struct conf *c;
	int class;

	(void)state;
	write_file("allow.list", list);
	c = load_good(whole);
	assert_int_equal(c->nclasses, 3);
	assert_int_equal(c->nservers, 2);
	addr_parse(&line, "198.18.3.7");
	assert_int_equal(conf_policy(c, &line, 0, &class, NULL), ACTION_BLOCK);
	assert_string_equal(c->classes[class].name, "dynamic");
	addr_parse(&line, "198.18.3.99");
	assert_int_equal(conf_policy(c, &line, 0, NULL, NULL), ACTION_PASS);
	addr_parse(&line, "2001:db8:1:9900::99");
	assert_int_equal(conf_policy(c, &line, 0, NULL, NULL), ACTION_PASS);
	addr_parse(&line, "2001:db8:2::7");
	assert_int_equal(conf_policy(c, &line, 0, NULL, NULL), ACTION_SUBMIT);
	addr_parse(&line, "198.19.1.7");
	assert_int_equal(conf_policy(c, &line, 0, NULL, NULL), ACTION_RELAY);
	conf_free(&c);
	free(text);
	free(list);
	free(with_allow);
	free(whole);
}

/* A name on many addresses: which server one of them is. */
static void
prefixes_of_servers(void **state)
{
	static const struct {
		const char *address;
		int want;
	} rows[] = {
		{ "203.0.113.130", 1 }, { "203.0.113.9", 0 },
		{ "198.51.100.1", -1 }, { "2001:db8:f:9::1", 0 },
		{ "203.0.113.200", 1 },
	};
	struct conf *c;

	(void)state;
	write_file("wide", "203.0.113.0/24 # all\n2001:db8:f::/48\n");
	write_file("narrow", "203.0.113.128/25\n203.0.113.128/25\n");
	c = load_good(CLASS "servers = ( { name = \"a.example\"; pop3 = "
		"\"tls:995\"; prefixes_file = \"wide\"; }, { name = "
		"\"b.example\"; imap = \"tls:993\"; prefixes_file = "
		"\"narrow\"; } );\n");
	for (size_t i = 0; i < N(rows); i++) {
		struct addr a;

		assert_int_equal(addr_parse(&a, rows[i].address), 0);
		if (conf_server_at(c, &a) != rows[i].want)
			fail_msg("%s: server %d", rows[i].address,
				conf_server_at(c, &a));
	}
	conf_free(&c);
}

/* Every default parses: `defaults` loads them; here they are all printed. */
static void
tables(void **state)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	(void)state;
	assert_non_null(f);
	conf_print_defaults(f);
	conf_print_man(f);
	fclose(f);
	assert_non_null(strstr(text, "gateway.workers = 0\n"));
	assert_non_null(strstr(text, "subscribers.class = required\n"));
	assert_non_null(strstr(text, "control.console: not available in this version\n"));
	assert_non_null(strstr(text, ".B gateway.workers\n"));
	/* a line that roff would take for an unknown request */
	assert_null(strstr(text, "\n.("));
	free(text);
}

static void
make_certificate(void)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *x = X509_new();
	FILE *f = fopen(in_dir("ca.pem"), "w");

	assert_non_null(key);
	assert_non_null(x);
	assert_non_null(f);
	X509_gmtime_adj(X509_getm_notBefore(x), 0);
	X509_gmtime_adj(X509_getm_notAfter(x), 3600);
	X509_set_pubkey(x, key);
	assert_true(X509_sign(x, key, EVP_sha256()) > 0);
	assert_int_equal(PEM_write_X509(f, x), 1);
	fclose(f);
	X509_free(x);
	EVP_PKEY_free(key);
}

static int
setup(void **state)
{
	const char *base = getenv("TMPDIR");

	(void)state;
	snprintf(dir, sizeof(dir), "%s/sallyport-conf-XXXXXX",
		base != NULL ? base : "/tmp");
	if (mkdtemp(dir) == NULL)
		return -1;
	make_certificate();
	write_file("bad.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n"
		"-----END CERTIFICATE-----\n");
	write_file("bad.txt", "# one a line\n198.19.4.0/24 # good\n"
		"198.19.0.1/24\n198.19.2.0/24 x\n\t198.18.0.0/16\r\n");
	write_file("good.txt", "198.19.1.0/24\n\n# v6\n2001:db8:2::/48\n");
	write_file("bad.list", "198.18.3.7 # good\n198.18.3.8 port25=block\n"
		"198.18.3.9\n198.18.3.9 # again\n");
	write_file("pw", "secret-7\n");
	if (chmod(in_dir("pw"), 0600) == -1)
		return -1;
	write_file("submit.list", "198.18.3.7 port25=submit\n");
	write_file("good.list", "# exempt\n198.18.3.99 # office\n"
		"198.18.3.0/24 port25=watch\n"
		"198.18.3.7 port25=relay until=2026-01-01T09:00:00+09:00\n"
		"203.0.113.9\n2001:db8:1:9900::/56\n");
	return 0;
}

static int
teardown(void **state)
{
	DIR *d = opendir(dir);
	struct dirent *e;

	(void)state;
	while (d != NULL && (e = readdir(d)) != NULL)
		if (e->d_name[0] != '.')
			unlink(in_dir(e->d_name));
	if (d != NULL)
		closedir(d);
	return rmdir(dir);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refusals),
		cmocka_unit_test(not_yet),
		cmocka_unit_test(defaults_written_out),
		cmocka_unit_test(defaults),
		cmocka_unit_test(values),
		cmocka_unit_test(topologies),
		cmocka_unit_test(server_sources),
		cmocka_unit_test(class_blocks),
		cmocka_unit_test(policy),
		cmocka_unit_test(staged),
		cmocka_unit_test(counted_first),
		cmocka_unit_test(accounts_refused),
		cmocka_unit_test(classes_of_accounts),
		cmocka_unit_test(pop_before_smtp),
		cmocka_unit_test(files_of_accounts),
		cmocka_unit_test(accounts_found),
		cmocka_unit_test(secrets_checked),
		cmocka_unit_test(round_trip),
		cmocka_unit_test(explained),
		cmocka_unit_test(soft_of_a_span),
		cmocka_unit_test(soft_and_stages),
		cmocka_unit_test(sample),
		cmocka_unit_test(prefixes_of_servers),
		cmocka_unit_test(tables),
	};

	return cmocka_run_group_tests_name("conf", tests, setup, teardown);
}
