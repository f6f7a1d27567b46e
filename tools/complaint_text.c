/*
 * complaint_text.c - addresses, ports and times in prose
 *
 * Does: go through a text line by line. What stands on one line belongs together;
 * what stands alone (a port here, a time there) is for every address that has
 * none. When more than one may be meant, each becomes a finding that says so.
 * Does not: know mail, or take an address of others for ours.
 *
 * Called by complaint_mail.c. Whoever complains controls every octet: all memory
 * is bounded, every octet is looked at a few times at most.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "tools/complaint.h"

#define LINE_ADDRESSES 8
#define LINE_OTHERS 8
#define MENTIONS 256

/* Ports that are written alone, each kind once. */
struct ports {
	uint16_t port[LINE_OTHERS];
	size_t n;
};

struct times {
	struct moment time[LINE_OTHERS];
	size_t n;
};

/* What one line says, or all lines without an address of ours. */
struct sight {
	struct addr who[LINE_ADDRESSES];
	size_t n;
	struct ports source, plain;	/* "source port 1", "port 1" */
	struct times times;
};

struct reading {
	struct complaint *c;
	const struct ours *ours;
	struct sight line, loose;
	struct finding *mention;
	size_t n;
};

static bool
is_word_octet(char ch)
{
	return (ch >= '0' && ch <= '9') || ch == '_' ||
		((ch | 0x20) >= 'a' && (ch | 0x20) <= 'z');
}

static bool
is_letter(char ch)
{
	return (ch | 0x20) >= 'a' && (ch | 0x20) <= 'z';
}

static bool
is_digit(char ch)
{
	return ch >= '0' && ch <= '9';
}

/* ---- addresses ---- */

/* Digits of a port at the beginning; 0: none, or no port. */
static unsigned
port_at(const char *text, size_t len, size_t *taken_r)
{
	unsigned n = 0;
	size_t i = 0;

	for (; i < len && i < 5 && is_digit(text[i]); i++)
		n = n * 10 + (unsigned)(text[i] - '0');
	*taken_r = i;
	return i == 0 || n > 65535 || (i < len && is_word_octet(text[i])) ? 0 :
		n;
}

/* "198.18.0.0/16" is a network, unless it is the address itself. */
static bool
is_prefix(const char *text, size_t len, const struct addr *a)
{
	size_t taken;
	unsigned n;

	if (len < 2 || text[0] != '/' || !is_digit(text[1]))
		return false;
	n = port_at(text + 1, len - 1, &taken);
	return n != (a->family == AF_INET ? 32 : 128);
}

/* What a socket for both families writes of IPv4: "::ffff:198.18.3.7". */
static void
unmap(struct addr *a)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

	if (a->family != AF_INET6 || memcmp(a->ip, mapped, sizeof(mapped)) != 0)
		return;
	a->family = AF_INET;
	memmove(a->ip, a->ip + 12, 4);
	memset(a->ip + 4, 0, 12);
}

/* Without brackets; the text has perhaps a port of IPv4 in it. */
static size_t
bare_address(const char *text, size_t len, struct addr *a_r)
{
	char copy[ADDR_STRLEN];
	size_t n = 0;

	while (n < len && n < sizeof(copy) && (strchr("0123456789abcdefABCDEF:.",
		text[n]) != NULL && text[n] != '\0'))
		n++;
	if (n == sizeof(copy) || (n < len && is_word_octet(text[n])))
		return 0;
	/* the end of a sentence */
	while (n > 0 && (text[n - 1] == '.' || (text[n - 1] == ':' &&
		(n < 2 || text[n - 2] != ':'))))
		n--;
	memcpy(copy, text, n);
	copy[n] = '\0';
	if (n < 2 || addr_parse(a_r, copy) != 0 ||
	    is_prefix(text + n, len - n, a_r))
		return 0;
	unmap(a_r);
	return n;
}

size_t
complaint_address(const char *text, size_t len, struct addr *a_r)
{
	bool bracket = len > 0 && text[0] == '[';
	size_t at = bracket, n, taken;
	unsigned port;

	if (len - at > 5 && strncasecmp(text + at, "IPv6:", 5) == 0)
		at += 5;
	n = bare_address(text + at, len - at, a_r);
	if (n == 0 || !bracket)
		return n == 0 ? 0 : at + n;
	at += n;
	if (at == len || text[at] != ']' || a_r->port != 0)
		return 0;
	at++;
	if (at + 1 < len && text[at] == ':' && is_digit(text[at + 1])) {
		port = port_at(text + at + 1, len - at - 1, &taken);
		a_r->port = (uint16_t)port;
		at += port == 0 ? 0 : 1 + taken;
	}
	return at;
}

/* ---- what one line holds ---- */

static void
note_port(struct ports *p, unsigned port)
{
	for (size_t i = 0; i < p->n; i++)
		if (p->port[i] == port)
			return;
	if (p->n < LINE_OTHERS)
		p->port[p->n++] = (uint16_t)port;
}

static void
note_time(struct times *t, const struct moment *m)
{
	for (size_t i = 0; i < t->n; i++)
		if (t->time[i].at == m->at) {
			/* the one that says more */
			t->time[i].no_zone &= m->no_zone;
			t->time[i].no_year &= m->no_year;
			return;
		}
	if (t->n < LINE_OTHERS)
		t->time[t->n++] = *m;
}

/* Where mail is sent to, not from. */
static bool
is_mail_port(unsigned port)
{
	static const uint16_t mail[] = { 25, 110, 143, 465, 587, 993, 995 };

	for (size_t i = 0; i < sizeof(mail) / sizeof(mail[0]); i++)
		if (mail[i] == port)
			return true;
	return false;
}

enum side { NO_SIDE, SOURCE, DESTINATION, PLAIN };

static enum side
side_of(const char *word, size_t len)
{
	static const struct {
		const char *word;
		enum side side;
	} words[] = {
		{ "source", SOURCE }, { "src", SOURCE }, { "from", SOURCE },
		{ "client", SOURCE }, { "remote", SOURCE },
		{ "sport", SOURCE }, { "spt", SOURCE }, { "srcport", SOURCE },
		{ "src_port", SOURCE }, { "src-port", SOURCE },
		{ "sourceport", SOURCE }, { "source_port", SOURCE },
		{ "source-port", SOURCE }, { "clientport", SOURCE },
		{ "destination", DESTINATION }, { "dest", DESTINATION },
		{ "dst", DESTINATION }, { "to", DESTINATION },
		{ "target", DESTINATION }, { "local", DESTINATION },
		{ "dport", DESTINATION }, { "dpt", DESTINATION },
		{ "dstport", DESTINATION }, { "dst_port", DESTINATION },
		{ "dst-port", DESTINATION }, { "dest_port", DESTINATION },
		{ "dest-port", DESTINATION }, { "destport", DESTINATION },
		{ "destination_port", DESTINATION },
		{ "destination-port", DESTINATION },
		{ "port", PLAIN },
	};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strlen(words[i].word) == len &&
		    strncasecmp(words[i].word, word, len) == 0)
			return words[i].side;
	return NO_SIDE;
}

/* "port", "spt" and what ends in "port": a number may follow. */
static bool
is_port_word(const char *word, size_t len)
{
	return (len >= 4 && strncasecmp(word + len - 4, "port", 4) == 0) ||
		(len == 3 && strncasecmp(word + 1, "pt", 2) == 0);
}

/* A word, "source-port" as one; before it *before, which becomes this one's. */
static size_t
take_word(struct reading *r, const char *text, size_t len, enum side *before)
{
	size_t n = 0, at, taken;
	enum side side;
	unsigned port;

	while (n < len && (is_word_octet(text[n]) || (text[n] == '-' &&
		n + 1 < len && is_letter(text[n + 1]))))
		n++;
	side = n > 20 ? NO_SIDE : side_of(text, n);
	if (side == PLAIN && *before != NO_SIDE)
		side = *before;
	*before = side;
	if (side == NO_SIDE || !is_port_word(text, n))
		return n;
	*before = NO_SIDE;
	for (at = n; at < len && at < n + 4 &&
	    strchr(" \t=:\"'#", text[at]) != NULL && text[at] != '\0'; at++)
		;
	port = port_at(text + at, len - at, &taken);
	if (port == 0)
		return n;
	if (side == SOURCE)
		note_port(&r->line.source, port);
	else if (side == PLAIN && !is_mail_port(port))
		note_port(&r->line.plain, port);
	return at + taken;
}

static void
take_address(struct reading *r, const struct addr *a)
{
	struct addr host = *a;

	host.port = 0;
	if (!r->ours->is_ours(r->ours->arg, &host)) {
		if (r->c->other.family == 0)
			r->c->other = host;
	} else if (r->line.n < LINE_ADDRESSES)
		r->line.who[r->line.n++] = *a;
	else
		r->c->lost++;
}

static void
take_line(struct reading *r, const char *text, size_t len)
{
	enum side before = NO_SIDE;
	struct moment m;
	struct addr a;
	size_t n;

	memset(&r->line, 0, sizeof(r->line));
	for (size_t i = 0; i < len; i += n) {
		n = 1;
		if (i > 0 && ((is_word_octet(text[i - 1]) &&
			is_word_octet(text[i])) || (is_digit(text[i]) &&
			text[i - 1] == '.')))
			continue;
		if ((n = moment_at(text + i, len - i, r->ours->now, &m)) > 0)
			note_time(&r->line.times, &m);
		else if ((n = complaint_address(text + i, len - i, &a)) > 0)
			take_address(r, &a);
		else if (is_letter(text[i]))
			n = take_word(r, text + i, len - i, &before);
		else if (is_digit(text[i])) {
			/* some other number, whole */
			for (n = 1; i + n < len && (is_digit(text[i + n]) ||
				strchr(".:", text[i + n]) != NULL); n++)
				;
			before = NO_SIDE;
		} else {
			n = 1;
			if (strchr(" \t", text[i]) == NULL)
				before = NO_SIDE;
		}
	}
}

/* ---- from lines to findings ---- */

static void
mention(struct reading *r, const struct finding *f)
{
	if (r->n == MENTIONS)
		r->c->lost++;
	else
		r->mention[r->n++] = *f;
}

/* Every time with every port; either may be missing. */
static void
mention_all(struct reading *r, const struct addr *who,
	const struct ports *ports, const struct times *times)
{
	struct finding f = { .who = *who, .many_ports = ports->n > 1,
		.many_times = times->n > 1 };

	for (size_t p = 0; p < (ports->n > 0 ? ports->n : 1); p++)
		for (size_t t = 0; t < (times->n > 0 ? times->n : 1); t++) {
			if (ports->n > 0)
				f.who.port = ports->port[p];
			if (times->n > 0)
				f.when = times->time[t];
			mention(r, &f);
		}
}

static void
end_line(struct reading *r)
{
	static const struct ports none;
	struct sight *l = &r->line;
	const struct ports *ports = l->source.n > 0 ? &l->source : &l->plain;

	for (size_t i = 0; i < l->n; i++)
		mention_all(r, &l->who[i], l->who[i].port != 0 ? &none : ports,
			&l->times);
	if (l->n > 0)
		return;
	for (size_t i = 0; i < l->source.n; i++)
		note_port(&r->loose.source, l->source.port[i]);
	for (size_t i = 0; i < l->plain.n; i++)
		note_port(&r->loose.plain, l->plain.port[i]);
	for (size_t i = 0; i < l->times.n; i++)
		note_time(&r->loose.times, &l->times.time[i]);
}

/* Does another mention of the same address say all that this one does, and
 * more? */
static bool
is_part_of(const struct finding *f, const struct finding *o)
{
	bool port = f->who.port != 0, time = f->when.at != 0;

	if (!addr_same_host(&f->who, &o->who))
		return false;
	if (!port && !time)
		return o->who.port != 0 || o->when.at != 0;
	if (port && !time)
		return o->who.port == f->who.port && o->when.at != 0;
	return time && !port && o->when.at == f->when.at && o->who.port != 0;
}

static bool
is_needless(const struct reading *r, const struct finding *f)
{
	for (size_t i = 0; i < r->n; i++)
		if (is_part_of(f, &r->mention[i]))
			return true;
	return false;
}

/* What a mention lacks, from those that have nothing else, and what stands
 * alone in the text. */
static void
complete(struct reading *r, const struct finding *f)
{
	struct ports ports = { .n = 0 };
	struct times times = { .n = 0 };
	const struct ports *loose = r->loose.source.n > 0 ? &r->loose.source :
		&r->loose.plain;
	struct finding full = *f;

	for (size_t i = 0; i < r->n; i++) {
		const struct finding *o = &r->mention[i];

		if (!addr_same_host(&o->who, &f->who))
			continue;
		if (o->when.at == 0 && o->who.port != 0)
			note_port(&ports, o->who.port);
		if (o->who.port == 0 && o->when.at != 0)
			note_time(&times, &o->when);
	}
	for (size_t i = 0; i < loose->n; i++)
		note_port(&ports, loose->port[i]);
	for (size_t i = 0; i < r->loose.times.n; i++)
		note_time(&times, &r->loose.times.time[i]);
	if (f->who.port != 0)
		ports.n = 0;
	if (f->when.at != 0)
		times.n = 0;
	full.many_ports |= ports.n > 1;
	full.many_times |= times.n > 1;
	for (size_t p = 0; p < (ports.n > 0 ? ports.n : 1); p++)
		for (size_t t = 0; t < (times.n > 0 ? times.n : 1); t++) {
			if (ports.n > 0)
				full.who.port = ports.port[p];
			if (times.n > 0)
				full.when = times.time[t];
			complaint_add(r->c, r->ours, &full);
		}
}

void
complaint_add(struct complaint *c, const struct ours *ours,
	const struct finding *f)
{
	struct addr host = f->who;

	host.port = 0;
	if (!ours->is_ours(ours->arg, &host)) {
		if (c->other.family == 0)
			c->other = host;
		return;
	}
	for (size_t i = 0; i < c->n; i++)
		if (addr_same_host(&c->finding[i].who, &f->who) &&
		    c->finding[i].who.port == f->who.port &&
		    c->finding[i].when.at == f->when.at) {
			c->finding[i].many_ports &= f->many_ports;
			c->finding[i].many_times &= f->many_times;
			return;
		}
	if (c->n == COMPLAINT_FINDINGS)
		c->lost++;
	else
		c->finding[c->n++] = *f;
}

void
complaint_prose(struct complaint *c, const struct ours *ours, const char *text,
	size_t len)
{
	struct reading r = { .c = c, .ours = ours };

	r.mention = calloc(MENTIONS, sizeof(*r.mention));
	if (r.mention == NULL) {
		c->lost++;
		return;
	}
	while (len > 0) {
		const char *end = memchr(text, '\n', len);
		size_t n = end == NULL ? len : (size_t)(end - text);

		take_line(&r, text, n);
		end_line(&r);
		n += end != NULL;
		text += n;
		len -= n;
	}
	for (size_t i = 0; i < r.n; i++)
		if (!is_needless(&r, &r.mention[i]))
			complete(&r, &r.mention[i]);
	free(r.mention);
}
