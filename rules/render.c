/*
 * render.c - the rules as text
 *
 * Does: expands the table below, one row per rule, for a family and a
 * configuration. The table is the place to read what Sallyport does in the
 * kernel; the order of the rows is the order in the chains.
 * Does not: know whether anything of it is applied.
 *
 * Called by show.c, apply.c and verify.c. Names in braces are filled in:
 *   {mark} {own}  our marks with the mask: for our own sockets, for the
 *   {reset}       relays' own connections, for what nfq wants reset
 *   {4}           4 or 6, the last letter of the sets' names
 *   {clients}     ports captured;  {servers} ports the relays connect to
 *   {in} {out}    "-i NAME ", "-o NAME " for each of gateway.interfaces, or
 *                 nothing
 *   {ip} {port}   where the relays listen
 *   {queue}       number of the netfilter queue
 *   {inner}       a server behind a publish group: such a row comes once for
 *                 each address and port
 *   {n}           number of a class with enforce = "listed": such a row comes
 *                 once for each of them
 * No purpose has an apostrophe: iptables-save would print it escaped.
 * Only numbers and interface names come from the configuration; conf/ has
 * checked the latter to be names and nothing else.
 */
#include "rules/render.h"

#include <stdlib.h>
#include <string.h>

#include "conf/conf.h"

const char *const table_name[TABLE_COUNT] = { "filter", "mangle", "nat", "raw" };

/* Of a row: where capture chooses, which is mangle for TPROXY and nat for
 * REDIRECT. */
#define TABLE_SELECT TABLE_COUNT

/* Options that a row needs, all of them; then the kinds of listed classes it
 * is for, any of them. */
enum {
	ALWAYS = 0,
	WRAP = 1 << 0,
	PASS_OWN = 1 << 1,
	CLOSED = 1 << 2,
	QUEUE = 1 << 3,
	SUBMISSION = 1 << 4,
	BACK = 1 << 5,
	BACK_DROP = 1 << 6,
	TPROXY = 1 << 7,
	REDIRECT = 1 << 8,
	LOCAL = 1 << 9,
	AS_LINE = 1 << 10,	/* source = "client", for some */
	WRAP_IMAP = 1 << 11,
	WRAP_ANY = 1 << 12,	/* opportunistic */
	WRAP_IMAP_ANY = 1 << 13,
	OPTIONS = (1 << 14) - 1,

	OF_BLOCK = 1 << 14,
	OF_CARRY = 1 << 15,
	OF_RESET = 1 << 16,
	OF_DROP = 1 << 17,
	OF_QUIET = 1 << 18,	/* count = false */
	LISTED = OF_BLOCK | OF_CARRY | OF_RESET | OF_DROP | OF_QUIET
};

struct row {
	enum table table;
	unsigned when;
	const char *chain;
	const char *match;
	const char *target;
	const char *purpose;
};

#define SYN "--tcp-flags FIN,SYN,RST,ACK SYN "
#define IN(set) "-m set --match-set " set "{4} src "
#define TO(set) "-m set --match-set " set "{4} dst "
#define NOT_IN(set) "-m set ! --match-set " set "{4} src "
#define NOT_TO(set) "-m set ! --match-set " set "{4} dst "
#define PORT_IN(set) "-m set --match-set " set " dst "
#define PORT_NOT_IN(set) "-m set ! --match-set " set " dst "
#define OF_CLASS IN(SET_LINE "{n}_") TO(SET_DST "{n}_")
#define PORT_FROM(set) "-m set --match-set " set " src "
#define BACK_TO(lines) TO(lines) PORT_FROM(SET_NFQ)
#define BACK_TO_CLASS TO(SET_LINE "{n}_") IN(SET_DST "{n}_")
#define TCP_RESET "REJECT --reject-with tcp-reset"
/* Without a reader the packet goes on to the next table, as if accepted. */
#define NFQUEUE "NFQUEUE --queue-num {queue} --queue-bypass"

/* sallyport bypass: before anything else in a chain */
#define BYPASS(table, when, chain) \
	{ table, when, chain, PORT_IN(SET_OFF), "RETURN", \
		"bypass of everybody" }, \
	{ table, when, chain, IN(SET_BYPASS), "RETURN", "bypass of a line" }, \
	{ table, when, chain, TO(SET_BYPASSD), "RETURN", \
		"bypass of a destination" }

static const struct row rows[] = {
	/* what is delivered to us, whatever the policy of INPUT */
	{ TABLE_FILTER, ALWAYS, "INPUT", "", "sallyport_in",
		"let proxied traffic in" },
	{ TABLE_FILTER, QUEUE, "sallyport_in", "-p tcp -m mark --mark {reset} ",
		TCP_RESET, "verdict of nfq" },
	{ TABLE_FILTER, TPROXY, "sallyport_in", "-m mark --mark {mark} ",
		"ACCEPT", "packets for our own sockets" },
	/* Redirected. The listener is on every address; only the kernel leads
	 * there. Dropped when nobody listens: the client tries again, and then
	 * the gate is shut. */
	{ TABLE_FILTER, REDIRECT, "sallyport_in", "! -i lo -p tcp -m tcp "
		"--dport {port} -m conntrack ! --ctstate DNAT ", TCP_RESET,
		"dialled, not captured" },
	{ TABLE_FILTER, REDIRECT, "sallyport_in", "-p tcp -m tcp --dport {port} "
		SYN "-m conntrack --ctstate DNAT -m socket --nowildcard ",
		"ACCEPT", "captured connections" },
	{ TABLE_FILTER, REDIRECT, "sallyport_in", "-p tcp -m tcp --dport {port} "
		SYN "-m conntrack --ctstate DNAT ", "DROP", "nobody listens" },
	{ TABLE_FILTER, REDIRECT, "sallyport_in", "-p tcp -m tcp --dport {port} "
		"-m conntrack --ctstate DNAT ", "ACCEPT",
		"packets of captured connections" },
	{ TABLE_FILTER, REDIRECT, "sallyport_in", "-p tcp -m multiport "
		"--sports {servers} -m socket --transparent ", "ACCEPT",
		"packets of servers to sessions we hold" },
	{ TABLE_FILTER, REDIRECT, "sallyport_in",
		"-p {icmp} -m socket --transparent ", "ACCEPT",
		"ICMP errors for sessions we hold (path MTU)" },

	/* The relays' own connections. A relay cannot change the mark of its
	 * sockets, and without a SYN a TCP socket has nobody to talk to: only
	 * SYNs pay for the sets. Dropped rather than reset when the source is a
	 * subscriber: the reset would go to the subscriber and not to our
	 * socket. */
	{ TABLE_FILTER, ALWAYS, "OUTPUT", "-m mark --mark {own} ",
		"sallyport_jail", "where the relays may connect to" },
	{ TABLE_FILTER, ALWAYS, "sallyport_jail", "-p tcp -m tcp ! " SYN,
		"RETURN", "connections that were let out" },
	{ TABLE_FILTER, ALWAYS, "sallyport_jail",
		"{inner}-m addrtype --src-type LOCAL ", "RETURN",
		"to the server behind a published one" },
	{ TABLE_FILTER, AS_LINE, "sallyport_jail", "-p tcp -m multiport "
		"--dports {servers} " NOT_TO(SET_NEVER) IN(SET_SUB), "RETURN",
		"to a mail port with the address of a line" },
	{ TABLE_FILTER, ALWAYS, "sallyport_jail", "-p tcp -m multiport "
		"--dports {servers} " NOT_TO(SET_NEVER)
		"-m addrtype --src-type LOCAL ", "RETURN",
		"to a mail port with an address of this gateway" },
	{ TABLE_FILTER, ALWAYS, "sallyport_jail",
		"-p tcp -m addrtype --src-type LOCAL ", TCP_RESET,
		"nowhere else" },
	{ TABLE_FILTER, ALWAYS, "sallyport_jail", "", "DROP",
		"nowhere else, nor with another source" },

	/* port 25 that is forwarded and should not be */
	{ TABLE_FILTER, ALWAYS, "FORWARD", "-p tcp -m tcp --dport 25 ",
		"sallyport_fwd", "port 25 that is not captured" },
	{ TABLE_FILTER, QUEUE, "sallyport_fwd", "-p tcp -m mark --mark {reset} ",
		TCP_RESET, "verdict of nfq" },
	{ TABLE_FILTER, ALWAYS, "sallyport_fwd", "{in}" IN(SET_SUB),
		"sallyport_refuse", "from a subscriber" },
	{ TABLE_FILTER, LOCAL, "OUTPUT", "-p tcp -m tcp --dport 25 "
		"-m mark ! --mark {own} ", "sallyport_out",
		"port 25 of programs here that is not captured" },
	{ TABLE_FILTER, LOCAL, "sallyport_out",
		"-m addrtype --dst-type LOCAL ", "RETURN",
		"to this machine itself" },
	{ TABLE_FILTER, LOCAL, "sallyport_out", IN(SET_SUB),
		"@sallyport_refuse", "from an address of a subscriber" },
	BYPASS(TABLE_FILTER, ALWAYS, "sallyport_refuse"),
	{ TABLE_FILTER, ALWAYS, "sallyport_refuse", IN(SET_ALLOW), "RETURN",
		"allowlist" },
	{ TABLE_FILTER, PASS_OWN, "sallyport_refuse", TO(SET_OWN), "RETURN",
		"own hosts of the provider" },
	{ TABLE_FILTER, ALWAYS, "sallyport_refuse", TO(SET_PASS), "RETURN",
		"pass_destinations" },
	{ TABLE_FILTER, CLOSED, "sallyport_refuse", "-p tcp " IN(SET_ACARRY)
		PORT_NOT_IN(SET_LIVE), TCP_RESET,
		"on_failure closed: allowlist, relay and submit" },
	{ TABLE_FILTER, ALWAYS, "sallyport_refuse", IN(SET_ACARRY), "RETURN",
		"allowlist, relay and submit" },
	{ TABLE_FILTER, ALWAYS, "sallyport_refuse", "-p tcp " IN(SET_RESET),
		TCP_RESET, "class action reset" },
	{ TABLE_FILTER, ALWAYS, "sallyport_refuse", IN(SET_DROP), "DROP",
		"class action drop" },
	{ TABLE_FILTER, OF_RESET, "sallyport_refuse", "-p tcp " OF_CLASS,
		TCP_RESET, "class action reset, listed destinations" },
	{ TABLE_FILTER, OF_DROP, "sallyport_refuse", OF_CLASS, "DROP",
		"class action drop, listed destinations" },
	{ TABLE_FILTER, CLOSED, "sallyport_refuse", "-p tcp " IN(SET_CARRY)
		PORT_NOT_IN(SET_LIVE), TCP_RESET,
		"on_failure closed: relay and submit" },
	{ TABLE_FILTER, CLOSED, "sallyport_refuse", "-p tcp " IN(SET_BLOCK)
		PORT_NOT_IN(SET_LIVE), TCP_RESET,
		"on_failure closed: block" },
	{ TABLE_FILTER, CLOSED | OF_CARRY | OF_BLOCK, "sallyport_refuse",
		"-p tcp " OF_CLASS PORT_NOT_IN(SET_LIVE), TCP_RESET,
		"on_failure closed: listed destinations" },

	/* Divert of our own sockets' packets; never behind the gate. A SYN is
	 * left to TPROXY, which hands it to the listener when an older
	 * connection of the same ports is still in TIME_WAIT; diverted, it
	 * would cost the client a reset and another attempt. */
	{ TABLE_MANGLE, TPROXY, "PREROUTING", "", "sallyport_pre",
		"divert and capture" },
	{ TABLE_MANGLE, TPROXY, "sallyport_pre", "-m mark --mark {own} ",
		"RETURN", "never connections of our own" },
	{ TABLE_MANGLE, TPROXY | QUEUE, "sallyport_pre", "-m mark --mark {reset} ",
		"RETURN", "nfq has decided: not captured but reset" },
	{ TABLE_MANGLE, TPROXY, "sallyport_pre", "-p tcp -m multiport "
		"--dports {clients} -m tcp ! " SYN "-m socket --transparent ",
		"sallyport_divert", "packets of clients to sessions we hold" },
	{ TABLE_MANGLE, TPROXY, "sallyport_pre", "-p tcp -m multiport "
		"--sports {servers} -m socket --transparent ",
		"sallyport_divert", "packets of servers to sessions we hold" },
	{ TABLE_MANGLE, TPROXY, "sallyport_pre",
		"-p {icmp} -m socket --transparent ", "sallyport_divert",
		"ICMP errors for sessions we hold (path MTU)" },
	{ TABLE_MANGLE, TPROXY, "sallyport_pre", "{in}-p tcp -m multiport "
		"--dports {clients} ", "@sallyport_select",
		"ports that may be captured" },
	{ TABLE_MANGLE, TPROXY, "sallyport_divert", "",
		"MARK --set-xmark {mark}", "deliver here" },
	{ TABLE_MANGLE, TPROXY, "sallyport_divert", "", "ACCEPT",
		"deliver here" },

	/* With redirect the choice is made once, at the SYN that begins a
	 * connection: connection tracking remembers it. */
	{ TABLE_NAT, REDIRECT, "PREROUTING", "{in}-p tcp -m multiport "
		"--dports {clients} -m tcp " SYN, "sallyport_select",
		"ports that may be captured" },
	{ TABLE_NAT, REDIRECT | LOCAL, "OUTPUT", "-p tcp -m multiport "
		"--dports {clients} -m tcp " SYN "-m mark ! --mark {own} ",
		"sallyport_select", "the same of programs here" },
	{ TABLE_NAT, REDIRECT | QUEUE, "sallyport_select",
		"-m mark --mark {reset} ", "RETURN",
		"nfq has decided: not captured but reset" },

	/* who is captured */
	BYPASS(TABLE_SELECT, ALWAYS, "sallyport_select"),
	{ TABLE_SELECT, ALWAYS, "sallyport_select", NOT_IN(SET_SUB), "RETURN",
		"not a subscriber" },
	{ TABLE_SELECT, ALWAYS, "sallyport_select",
		"-m addrtype --dst-type LOCAL ", "RETURN",
		"to this gateway itself" },
	{ TABLE_SELECT, ALWAYS, "sallyport_select", TO(SET_NEVER), "RETURN",
		"special addresses and gateway.never" },
	{ TABLE_SELECT, WRAP_ANY, "sallyport_select",
		"-p tcp -m tcp --dport 110 ", "@sallyport_capture",
		"POP3 to any server" },
	{ TABLE_SELECT, WRAP_IMAP_ANY, "sallyport_select",
		"-p tcp -m tcp --dport 143 ", "@sallyport_capture",
		"IMAP to any server" },
	{ TABLE_SELECT, WRAP, "sallyport_select", "-p tcp -m tcp --dport 110 "
		TO(SET_POP3), "@sallyport_capture", "POP3 to a listed server" },
	{ TABLE_SELECT, WRAP, "sallyport_select", "-p tcp -m tcp --dport 110 ",
		"RETURN", "POP3 to anybody else" },
	{ TABLE_SELECT, WRAP_IMAP, "sallyport_select",
		"-p tcp -m tcp --dport 143 " TO(SET_IMAP), "@sallyport_capture",
		"IMAP to a listed server" },
	{ TABLE_SELECT, WRAP_IMAP, "sallyport_select",
		"-p tcp -m tcp --dport 143 ", "RETURN", "IMAP to anybody else" },
	{ TABLE_SELECT, ALWAYS, "sallyport_select", IN(SET_ALLOW), "RETURN",
		"allowlist" },
	{ TABLE_SELECT, ALWAYS, "sallyport_select", IN(SET_ACARRY),
		"@sallyport_capture", "allowlist, relay and submit" },
	{ TABLE_SELECT, ALWAYS, "sallyport_select", IN(SET_CARRY),
		"@sallyport_capture", "class action relay or submit" },
	{ TABLE_SELECT, OF_CARRY, "sallyport_select", OF_CLASS,
		"@sallyport_capture",
		"class action relay or submit, listed destinations" },
	{ TABLE_SELECT, PASS_OWN, "sallyport_select", TO(SET_OWN), "RETURN",
		"own hosts of the provider" },
	{ TABLE_SELECT, ALWAYS, "sallyport_select", TO(SET_PASS), "RETURN",
		"pass_destinations" },
	{ TABLE_SELECT, ALWAYS, "sallyport_select", IN(SET_BLOCK),
		"@sallyport_capture", "class action block" },
	{ TABLE_SELECT, OF_BLOCK, "sallyport_select", OF_CLASS,
		"@sallyport_capture",
		"class action block, listed destinations" },

	/* the gate */
	{ TABLE_MANGLE, TPROXY, "sallyport_capture", "-p tcp -m tcp " SYN
		PORT_IN(SET_LIVE), "TPROXY --on-port {port} --on-ip {ip} "
		"--tproxy-mark {mark}",
		"new connections while the gate is open" },
	{ TABLE_MANGLE, TPROXY, "sallyport_capture", "-p tcp "
		PORT_IN(SET_LIVE) PORT_IN(SET_ALL) NOT_IN(SET_CALM)
		NOT_TO(SET_CALMD) PORT_NOT_IN(SET_CALMP),
		"TPROXY --on-port {port} --on-ip {ip} --tproxy-mark {mark}",
		"everything once it has been open for the grace time" },
	{ TABLE_NAT, REDIRECT, "sallyport_capture", "-p tcp " PORT_IN(SET_LIVE),
		"REDIRECT --to-ports {port}", "while the gate is open" },

	/* the flags first: of each packet sent here that is all it costs */
	{ TABLE_MANGLE, ALWAYS, "OUTPUT", "-p tcp -m tcp "
		"--tcp-flags SYN,RST SYN -m mark --mark {own} ",
		"sallyport_mss", "connections that the relays make" },
	{ TABLE_MANGLE, ALWAYS, "sallyport_mss",
		"-p tcp -m tcp --tcp-flags SYN,RST SYN ",
		"TCPMSS --clamp-mss-to-pmtu", "clamp as FORWARD would" },

	/* Answers to what a line never sent through us. Only while port 25 is
	 * captured: otherwise it may well have. In mangle, because accepting
	 * ends a chain and the operator's filter rules must still be met. */
	{ TABLE_MANGLE, BACK, "FORWARD", "{out}-p tcp -m tcp --sport 25 "
		"--tcp-flags FIN,SYN,RST,ACK SYN,ACK " PORT_FROM(SET_LIVE),
		"sallyport_back", "answers of port 25 that pass us by" },
	{ TABLE_MANGLE, BACK, "sallyport_back", PORT_FROM(SET_CALMP), "RETURN",
		"bypass of everybody" },
	{ TABLE_MANGLE, BACK, "sallyport_back", TO(SET_CALM), "RETURN",
		"bypass of a line" },
	{ TABLE_MANGLE, BACK, "sallyport_back", IN(SET_CALMD), "RETURN",
		"bypass of a destination" },
	{ TABLE_MANGLE, BACK, "sallyport_back", TO(SET_ALLOW), "RETURN",
		"allowlist" },
	{ TABLE_MANGLE, BACK, "sallyport_back", TO(SET_ACARRY), "RETURN",
		"allowlist, relay and submit" },
	{ TABLE_MANGLE, BACK, "sallyport_back", IN(SET_NEVER), "RETURN",
		"special addresses and gateway.never" },
	{ TABLE_MANGLE, BACK | PASS_OWN, "sallyport_back", IN(SET_OWN),
		"RETURN", "own hosts of the provider" },
	{ TABLE_MANGLE, BACK, "sallyport_back", IN(SET_PASS), "RETURN",
		"pass_destinations" },
	{ TABLE_MANGLE, BACK | QUEUE, "sallyport_back", BACK_TO(SET_BLOCK),
		NFQUEUE, "class action block: counted" },
	{ TABLE_MANGLE, BACK | QUEUE | OF_BLOCK, "sallyport_back",
		BACK_TO_CLASS PORT_FROM(SET_NFQ), NFQUEUE,
		"class action block, listed destinations: counted" },
	{ TABLE_MANGLE, BACK | BACK_DROP, "sallyport_back", TO(SET_BLOCK),
		"DROP", "class action block: dropped without nfq too" },
	{ TABLE_MANGLE, BACK | BACK_DROP | OF_BLOCK, "sallyport_back",
		BACK_TO_CLASS, "DROP",
		"class action block, listed destinations" },

	/* First packets, seen by nfq while it answers. Behind the operator's
	 * rules of this chain, which accepting would end. */
	{ TABLE_RAW, QUEUE, "PREROUTING", "{in}-p tcp -m tcp --dport 25 " SYN
		PORT_IN(SET_NFQ), "sallyport_first", "first packets" },
	BYPASS(TABLE_RAW, QUEUE, "sallyport_first"),
	{ TABLE_RAW, QUEUE, "sallyport_first", NOT_IN(SET_FIRST), "RETURN",
		"not a line that is counted" },
	{ TABLE_RAW, QUEUE, "sallyport_first", "-m addrtype --dst-type LOCAL ",
		"RETURN", "to this gateway itself" },
	{ TABLE_RAW, QUEUE, "sallyport_first", IN(SET_ALLOW), "RETURN",
		"allowlist" },
	{ TABLE_RAW, QUEUE, "sallyport_first", IN(SET_ACARRY), "RETURN",
		"allowlist, relay and submit" },
	{ TABLE_RAW, QUEUE | OF_QUIET, "sallyport_first", OF_CLASS, "RETURN",
		"listed destinations, decided by a set" },
	{ TABLE_RAW, QUEUE | PASS_OWN, "sallyport_first", TO(SET_OWN),
		"@sallyport_spare", "own hosts of the provider" },
	{ TABLE_RAW, QUEUE, "sallyport_first", TO(SET_PASS),
		"@sallyport_spare", "pass_destinations" },
	{ TABLE_RAW, QUEUE, "sallyport_first", "", "@sallyport_queue",
		"everything else" },
	{ TABLE_RAW, QUEUE, "sallyport_spare", IN(SET_BLOCK), "RETURN",
		"class action block" },
	{ TABLE_RAW, QUEUE, "sallyport_spare", IN(SET_RESET), "RETURN",
		"class action reset" },
	{ TABLE_RAW, QUEUE, "sallyport_spare", IN(SET_DROP), "RETURN",
		"class action drop" },
	{ TABLE_RAW, QUEUE | OF_BLOCK | OF_RESET | OF_DROP, "sallyport_spare",
		IN(SET_LINE "{n}_"), "RETURN",
		"class action block, reset or drop" },
	{ TABLE_RAW, QUEUE, "sallyport_spare", "", "@sallyport_queue",
		"captured all the same" },
	{ TABLE_RAW, QUEUE, "sallyport_queue", "", NFQUEUE,
		"to nfq, unless it is missing or full" },

	/* stolen logins: counted, never touched */
	{ TABLE_RAW, QUEUE | SUBMISSION, "PREROUTING", "{in}-p tcp -m multiport "
		"--dports 465,587 -m tcp " SYN PORT_IN(SET_NFQ),
		"sallyport_login", "first packets to submission" },
	BYPASS(TABLE_RAW, QUEUE | SUBMISSION, "sallyport_login"),
	{ TABLE_RAW, QUEUE | SUBMISSION, "sallyport_login", IN(SET_SUB),
		"@sallyport_queue", "from a subscriber" },
};
#define NROWS (sizeof(rows) / sizeof(rows[0]))

static const uint16_t mail_ports[] = { 25, 110, 143, 465, 587, 993, 995 };

static int
port_compare(const void *a, const void *b)
{
	return *(const uint16_t *)a - *(const uint16_t *)b;
}

static size_t
port_add(uint16_t *ports, size_t n, size_t max, uint16_t port)
{
	for (size_t i = 0; i < n; i++)
		if (ports[i] == port)
			return n;
	if (port != 0 && n < max)
		ports[n++] = port;
	return n;
}

size_t
render_ports(const struct conf *c, char *out, size_t size)
{
	uint16_t ports[PORTS_MAX + 1];
	const size_t max = sizeof(ports) / sizeof(ports[0]);
	size_t n = 0, used = 0;

	for (size_t i = 0; i < sizeof(mail_ports) / sizeof(mail_ports[0]); i++)
		n = port_add(ports, n, max, mail_ports[i]);
	for (size_t i = 0; i < c->nservers; i++) {
		n = port_add(ports, n, max, c->servers[i].submission.port);
		n = port_add(ports, n, max, c->servers[i].pop3.port);
		n = port_add(ports, n, max, c->servers[i].imap.port);
		n = port_add(ports, n, max, c->servers[i].starttls);
	}
	qsort(ports, n, sizeof(*ports), port_compare);
	for (size_t i = 0; i < n && used < size; i++)
		used += (size_t)snprintf(out + used, size - used, "%s%u",
			i > 0 ? "," : "", ports[i]);
	return n;
}

struct words {
	const char *name;
	char value[128];
};

enum { W_MARK, W_OWN, W_RESET, W_4, W_CLIENTS, W_SERVERS, W_ICMP, W_IP, W_PORT,
	W_QUEUE, W_IN, W_OUT, W_N, W_INNER, NWORDS };

static void
words_set(const struct conf *c, uint8_t family, struct words w[NWORDS])
{
	static const char *const names[NWORDS] = { "mark", "own", "reset",
		"4", "clients", "servers", "icmp", "ip", "port", "queue", "in",
		"out", "n", "inner" };
	bool v4 = family == AF_INET;
	const size_t size = sizeof(w[0].value);

	for (int i = 0; i < NWORDS; i++)
		w[i].name = names[i];
	snprintf(w[W_MARK].value, size, "0x%x/0x%x", c->mark, c->mark_mask);
	snprintf(w[W_OWN].value, size, "0x%x/0x%x", c->mark_own,
		c->mark_mask);
	snprintf(w[W_RESET].value, size, "0x%x/0x%x", c->mark_reset,
		c->mark_mask);
	snprintf(w[W_4].value, size, "%s", v4 ? "4" : "6");
	snprintf(w[W_CLIENTS].value, size, "25%s%s",
		c->pop3_wrap != WRAP_OFF ? ",110" : "",
		c->imap_wrap != WRAP_OFF ? ",143" : "");
	render_ports(c, w[W_SERVERS].value, size);
	snprintf(w[W_ICMP].value, size, "%s", v4 ? "icmp" : "ipv6-icmp");
	snprintf(w[W_IP].value, size, "%s", v4 ? "127.0.0.1" : "::1");
	snprintf(w[W_PORT].value, size, "%u", c->listen_port);
	snprintf(w[W_QUEUE].value, size, "%u", c->nfq_queue);
	w[W_IN].value[0] = w[W_OUT].value[0] = w[W_N].value[0] = '\0';
	w[W_INNER].value[0] = '\0';
}

static void
expand(FILE *f, const char *text, const struct words w[NWORDS])
{
	while (*text != '\0') {
		size_t len = strcspn(text, "{");
		size_t end;

		fwrite(text, 1, len, f);
		text += len;
		if (*text == '\0')
			break;
		end = strcspn(++text, "}");
		for (int i = 0; i < NWORDS; i++)
			if (strlen(w[i].name) == end &&
			    memcmp(w[i].name, text, end) == 0)
				fputs(w[i].value, f);
		text += end + 1;
	}
}

/* "@CHAIN" goes there for good, so that no packet is looked at twice. */
static char *
rule_text(const struct row *row, const struct words w[NWORDS])
{
	bool go_to = row->target[0] == '@';
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	if (f == NULL)
		return NULL;
	expand(f, row->match, w);
	fprintf(f, "-m comment %s%s\" -%c ", OUR_COMMENT, row->purpose,
		go_to ? 'g' : 'j');
	expand(f, row->target + go_to, w);
	if (fclose(f) != 0) {
		free(text);
		return NULL;
	}
	return text;
}

static unsigned
options_of(const struct conf *c)
{
	const bool redirect = c->capture == CAPTURE_REDIRECT;

	return (redirect ? REDIRECT : TPROXY) | (c->local ? LOCAL : 0) |
		(conf_has_source(c, SOURCE_CLIENT) ? AS_LINE : 0) |
		(c->pop3_wrap == WRAP_LISTED ? WRAP : 0) |
		(c->pop3_wrap == WRAP_OPPORTUNISTIC ? WRAP_ANY : 0) |
		(c->imap_wrap == WRAP_LISTED ? WRAP_IMAP : 0) |
		(c->imap_wrap == WRAP_OPPORTUNISTIC ? WRAP_IMAP_ANY : 0) |
		(c->pass_own ? PASS_OWN : 0) |
		(c->fail_closed ? CLOSED : 0) | (c->nfq_queue != 0 ? QUEUE : 0) |
		(c->nfq_submission ? SUBMISSION : 0) |
		(c->return_path != RETURN_OFF ? BACK : 0) |
		(c->return_path == RETURN_DROP ? BACK_DROP : 0);
}

/* What a listed class is, for the rows that are for such. */
static unsigned
kinds_of(const struct class_conf *k)
{
	unsigned kind = k->count ? 0 : OF_QUIET;

	if (k->enforce != ENFORCE_LISTED)
		return 0;
	switch (k->effective) {
	case ACTION_BLOCK:
		return kind | OF_BLOCK;
	case ACTION_RELAY:
	case ACTION_SUBMIT:
		return kind | OF_CARRY;
	case ACTION_RESET:
		return kind | OF_RESET;
	case ACTION_DROP:
		return kind | OF_DROP;
	default:
		return 0;
	}
}

static int
rule_add(struct ruleset *r, const struct row *row, const struct words *w)
{
	struct rule *rule = &r->rules[r->n];

	rule->chain = row->chain;
	rule->purpose = row->purpose;
	rule->jump = strncmp(row->chain, OUR_NAME, strlen(OUR_NAME)) != 0;
	/* PREROUTING: behind the operator's own marks, not in front of them */
	rule->first = rule->jump && row->table == TABLE_FILTER;
	rule->text = rule_text(row, w);
	if (rule->text == NULL)
		return -1;
	r->n++;
	return 0;
}

/* The same interface twice would be the same rule twice. */
static bool
named_before(const struct conf *c, size_t i)
{
	for (size_t j = 0; j < i; j++)
		if (strcmp(c->interfaces[i], c->interfaces[j]) == 0)
			return true;
	return false;
}

/* A row for packets of an interface comes once for each that is named. */
static int
add_each_interface(const struct conf *c, const struct row *row, struct words *w,
	struct ruleset *r)
{
	bool each = strstr(row->match, "{in}") != NULL ||
		strstr(row->match, "{out}") != NULL;

	if (!each || c->ninterfaces == 0)
		return rule_add(r, row, w);
	for (size_t i = 0; i < c->ninterfaces; i++) {
		if (named_before(c, i))
			continue;
		snprintf(w[W_IN].value, sizeof(w[W_IN].value), "-i %s ",
			c->interfaces[i]);
		snprintf(w[W_OUT].value, sizeof(w[W_OUT].value), "-o %s ",
			c->interfaces[i]);
		if (rule_add(r, row, w) < 0)
			return -1;
	}
	return 0;
}

/* The same again would be the same rule twice. */
static bool
is_inner_before(const struct conf *c, size_t group, int protocol)
{
	struct addr to = c->publish[group].to;

	to.port = c->publish[group].port_to[protocol];
	for (size_t i = 0; i < group; i++)
		if (conf_is_inner(&c->publish[i], &to))
			return true;
	for (int k = 0; k < protocol; k++)
		if (c->publish[group].port_to[k] == to.port)
			return true;
	return false;
}

/* A row about the servers behind publish groups comes once for each. */
static int
add_each_inner(const struct conf *c, uint8_t family, const struct row *row,
	struct words *w, struct ruleset *r)
{
	char text[ADDR_STRLEN];

	for (size_t i = 0; i < c->npublish; i++)
		for (int k = 0; k < PUBLISH_PROTOCOLS; k++) {
			const struct publish_conf *p = &c->publish[i];

			if (p->to.family != family || is_inner_before(c, i, k))
				continue;
			snprintf(w[W_INNER].value, sizeof(w[W_INNER].value),
				"-d %s/%d -p tcp -m tcp --dport %u ",
				addr_format(&p->to, text),
				family == AF_INET ? 32 : 128, p->port_to[k]);
			if (rule_add(r, row, w) < 0)
				return -1;
		}
	return 0;
}

/* A row about listed classes comes once for each that it is for. */
static int
add_each_class(const struct conf *c, uint8_t family, const struct row *row,
	struct words *w, struct ruleset *r)
{
	if (strstr(row->match, "{inner}") != NULL)
		return add_each_inner(c, family, row, w, r);
	if ((row->when & LISTED) == 0)
		return add_each_interface(c, row, w, r);
	for (size_t i = 0; i < c->nclasses; i++) {
		if ((kinds_of(&c->classes[i]) & row->when) == 0)
			continue;
		snprintf(w[W_N].value, sizeof(w[W_N].value), "%zu", i);
		if (rule_add(r, row, w) < 0)
			return -1;
	}
	return 0;
}

int
render_table(const struct conf *c, uint8_t family, enum table t,
	struct ruleset *r)
{
	const unsigned have = options_of(c);
	const enum table select = have & REDIRECT ? TABLE_NAT : TABLE_MANGLE;
	struct words w[NWORDS];

	r->n = 0;
	r->rules = calloc(NROWS * (c->ninterfaces + c->nclasses + 1) +
		PUBLISH_PROTOCOLS * c->npublish,
		sizeof(*r->rules));
	if (r->rules == NULL)
		return -1;
	words_set(c, family, w);
	for (size_t i = 0; i < NROWS; i++) {
		const struct row *row = &rows[i];

		if ((row->table == TABLE_SELECT ? select : row->table) != t ||
		    (row->when & OPTIONS & ~have) != 0)
			continue;
		if (add_each_class(c, family, row, w, r) < 0) {
			ruleset_free(r);
			return -1;
		}
	}
	return 0;
}

void
ruleset_free(struct ruleset *r)
{
	for (size_t i = 0; i < r->n; i++) {
		free(r->rules[i].text);
		free(r->rules[i].memory);
	}
	free(r->rules);
	r->rules = NULL;
	r->n = 0;
}

/* Buckets for about one entry each: loading never has to grow the table. */
static size_t
power_of_two(size_t least, size_t n)
{
	while (least < n)
		least *= 2;
	return least;
}

void
render_set_create(FILE *f, const struct set *s, const char *suffix)
{
	char name[SET_NAME_SIZE];

	set_name(name, s->base, s->family);
	if (s->family == 0)
		fprintf(f, "create %s%s bitmap:port range 1-1023 timeout %d\n",
			name, suffix, GATE_SECONDS);
	else
		fprintf(f, "create %s%s hash:net family %s hashsize %zu "
			"maxelem %zu%s\n", name, suffix,
			s->family == AF_INET ? "inet" : "inet6",
			power_of_two(1024, s->nentries),
			power_of_two((size_t)1 << 21, s->nentries * 2),
			s->timeout ? " timeout 0" : "");
}

void
render_entry(FILE *f, const struct set_entry *e)
{
	char text[ADDR_STRLEN];

	prefix_format(&e->prefix, text);
	if (e->prefix.len == (e->prefix.family == AF_INET ? 32 : 128))
		text[strcspn(text, "/")] = '\0';
	fputs(text, f);
}

void
render_set_entries(FILE *f, const struct set *s, const char *suffix,
	int64_t now, bool exist)
{
	char name[SET_NAME_SIZE];

	set_name(name, s->base, s->family);
	for (size_t i = 0; i < s->nentries; i++) {
		const struct set_entry *e = &s->entries[i];
		int64_t left = e->until - now;

		fprintf(f, "add %s%s ", name, suffix);
		render_entry(f, e);
		if (e->until != 0)
			fprintf(f, " timeout %lld", (long long)
				(left < 1 ? 1 : left > SET_TIMEOUT_MAX ?
				SET_TIMEOUT_MAX : left));
		fprintf(f, "%s%s\n", e->nomatch ? " nomatch" : "",
			exist ? " -exist" : "");
	}
}
