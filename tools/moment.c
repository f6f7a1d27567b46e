/*
 * moment.c - a time as mails, logs and people write it
 *
 * Does: read the forms of RFC 3339, RFC 5322, the common log format, syslog
 * (which has neither year nor zone) and asctime where one begins, and say what
 * was not written. Does not: look for one, or read forms such as 11/12/2026 in
 * which day and month cannot be told apart.
 *
 * Called by complaint_text.c and complaint_mail.c. Whoever complains controls
 * every octet; nothing is read behind the length.
 */
#include <string.h>
#include <strings.h>
#include <time.h>

#include "tools/complaint.h"

#define DAY 86400

struct cursor {
	const char *p, *end;
};

static bool
eat(struct cursor *c, char ch)
{
	if (c->p == c->end || *c->p != ch)
		return false;
	c->p++;
	return true;
}

static void
eat_blanks(struct cursor *c)
{
	while (eat(c, ' ') || eat(c, '\t'))
		;
}

static bool
is_digit(const struct cursor *c)
{
	return c->p < c->end && *c->p >= '0' && *c->p <= '9';
}

static bool
is_letter(const struct cursor *c)
{
	return c->p < c->end && ((*c->p | 0x20) >= 'a' && (*c->p | 0x20) <= 'z');
}

/* A number of so many digits, and not of more; -1: there is none. */
static int
number(struct cursor *c, int least, int most)
{
	int n = 0, digits = 0;

	for (; is_digit(c) && digits < most; c->p++, digits++)
		n = n * 10 + (*c->p - '0');
	return digits < least || is_digit(c) ? -1 : n;
}

/* "Nov" as 10; -1: no month. A whole name is none: nobody writes it in logs. */
static int
month(struct cursor *c)
{
	static const char names[] = "janfebmaraprmayjunjulaugsepoctnovdec";

	if (c->end - c->p < 3)
		return -1;
	for (int i = 0; i < 12; i++)
		if (strncasecmp(c->p, names + i * 3, 3) == 0) {
			c->p += 3;
			return is_letter(c) ? -1 : i;
		}
	return -1;
}

/* "18:14:00", in mails also "18:14"; fractions are passed over. */
static int
clock_time(struct cursor *c, struct tm *tm, bool seconds)
{
	if ((tm->tm_hour = number(c, 2, 2)) < 0 || !eat(c, ':') ||
	    (tm->tm_min = number(c, 2, 2)) < 0)
		return -1;
	if (eat(c, ':')) {
		if ((tm->tm_sec = number(c, 2, 2)) < 0)
			return -1;
		if (c->end - c->p > 1 && (*c->p == '.' || *c->p == ',') &&
		    c->p[1] >= '0' && c->p[1] <= '9')
			for (c->p++; is_digit(c); c->p++)
				;
	} else if (seconds)
		return -1;
	return tm->tm_hour > 23 || tm->tm_min > 59 || tm->tm_sec > 60 ? -1 : 0;
}

/* RFC 5322 section 4.3; other letters say nothing that is certain. */
static bool
named_zone(const char *name, size_t len, int *east_r)
{
	static const struct {
		const char *name;
		int hours;
	} zones[] = { { "Z", 0 }, { "UT", 0 }, { "UTC", 0 }, { "GMT", 0 },
		{ "EST", -5 }, { "EDT", -4 }, { "CST", -6 }, { "CDT", -5 },
		{ "MST", -7 }, { "MDT", -6 }, { "PST", -8 }, { "PDT", -7 } };

	for (size_t i = 0; i < sizeof(zones) / sizeof(zones[0]); i++)
		if (strlen(zones[i].name) == len &&
		    strncasecmp(zones[i].name, name, len) == 0) {
			*east_r = zones[i].hours * 3600;
			return true;
		}
	return false;
}

/* Seconds east of UTC; false, and nothing taken: none that we know. */
static bool
zone(struct cursor *c, int *east_r)
{
	struct cursor at = *c;
	const char *name;
	int hours, minutes, sign;

	eat_blanks(&at);
	(void)eat(&at, '(');
	name = at.p;
	if (is_letter(&at)) {
		while (is_letter(&at))
			at.p++;
		if (is_digit(&at) || !named_zone(name, (size_t)(at.p - name),
			east_r))
			return false;
		*c = at;
		return true;
	}
	if (!eat(&at, '+') && !eat(&at, '-'))
		return false;
	sign = at.p[-1] == '-' ? -1 : 1;
	if (at.end - at.p > 2 && at.p[2] == ':') {
		hours = number(&at, 2, 2);
		(void)eat(&at, ':');
		minutes = number(&at, 2, 2);
	} else {
		minutes = number(&at, 4, 4);
		hours = minutes < 0 ? -1 : minutes / 100;
		minutes %= 100;
	}
	if (hours < 0 || hours > 14 || minutes < 0 || minutes > 59)
		return false;
	*east_r = sign * (hours * 3600 + minutes * 60);
	*c = at;
	return true;
}

/* -1: there is no such day. */
static int64_t
unix_time(const struct tm *when, int year)
{
	struct tm tm = *when;
	int64_t t;

	tm.tm_year = year - 1900;
	t = (int64_t)timegm(&tm);
	return year < 1970 || tm.tm_mday != when->tm_mday ||
		tm.tm_mon != when->tm_mon ? -1 : t;
}

/* The last year in which it was not in the future, a day of zones apart. */
static int64_t
without_year(const struct tm *when, int64_t now)
{
	time_t clock = (time_t)now;
	struct tm today;

	if (gmtime_r(&clock, &today) == NULL)
		return -1;
	for (int back = 0; back <= 8; back++) {
		int64_t t = unix_time(when, today.tm_year + 1900 - back);

		if (t > 0 && t <= now + DAY)
			return t;
	}
	return -1;
}

/* 2026-11-25T18:14:00Z, 2026-11-25 18:14:00 +0900, 2026/11/25 18:14:00 */
static int
year_first(struct cursor *c, struct tm *tm, int *year)
{
	char between;

	if ((*year = number(c, 4, 4)) < 0 || c->p == c->end)
		return -1;
	between = *c->p;
	if ((between != '-' && between != '/') || !eat(c, between))
		return -1;
	tm->tm_mon = number(c, 2, 2) - 1;
	if (tm->tm_mon < 0 || tm->tm_mon > 11 || !eat(c, between))
		return -1;
	tm->tm_mday = number(c, 2, 2);
	if (tm->tm_mday < 1 || (!eat(c, 'T') && !eat(c, 't') && !eat(c, ' ')))
		return -1;
	return clock_time(c, tm, true);
}

/* 25 Nov 2026 18:14:00 +0000; 25/Nov/2026:18:14:00 +0000 */
static int
day_first(struct cursor *c, struct tm *tm, int *year)
{
	bool slash;

	if ((tm->tm_mday = number(c, 1, 2)) < 1)
		return -1;
	slash = eat(c, '/');
	if (!slash)
		eat_blanks(c);
	if ((tm->tm_mon = month(c)) < 0)
		return -1;
	if (slash)
		return !eat(c, '/') || (*year = number(c, 4, 4)) < 0 ||
			!eat(c, ':') ? -1 : clock_time(c, tm, true);
	eat_blanks(c);
	if ((*year = number(c, 4, 4)) < 0)
		return -1;
	eat_blanks(c);
	return clock_time(c, tm, false);
}

/* Nov 25 18:14:00; Nov 25 18:14:00 2026, with the zone before the year. */
static int
month_first(struct cursor *c, struct tm *tm)
{
	if ((tm->tm_mon = month(c)) < 0)
		return -1;
	eat_blanks(c);
	if ((tm->tm_mday = number(c, 1, 2)) < 1)
		return -1;
	eat_blanks(c);
	return clock_time(c, tm, true);
}

/* A year behind the time: 1970..2199, and nothing of a word or an address. */
static int
year_behind(struct cursor *c)
{
	struct cursor at = *c;
	int year;

	eat_blanks(&at);
	year = number(&at, 4, 4);
	if (year < 1970 || year > 2199 || is_letter(&at) ||
	    (at.p < at.end && strchr(".:-/", *at.p) != NULL &&
	    at.end - at.p > 1 && at.p[1] >= '0' && at.p[1] <= '9'))
		return 0;
	*c = at;
	return year;
}

size_t
moment_at(const char *text, size_t len, int64_t now, struct moment *m_r)
{
	struct cursor c = { text, text + len };
	struct tm tm = { 0 };
	int year = 0, east = 0;
	int64_t t;
	bool zoned;

	if (is_letter(&c)) {
		if (month_first(&c, &tm) != 0)
			return 0;
		zoned = zone(&c, &east);
		year = year_behind(&c);
		zoned = zoned || (year != 0 && zone(&c, &east));
	} else {
		if (year_first(&c, &tm, &year) != 0) {
			c.p = text;
			memset(&tm, 0, sizeof(tm));
			if (day_first(&c, &tm, &year) != 0)
				return 0;
		}
		zoned = zone(&c, &east);
	}
	t = year != 0 ? unix_time(&tm, year) : without_year(&tm, now);
	if (t < 0 || t - east <= 0)
		return 0;
	m_r->at = t - east;
	m_r->no_zone = !zoned;
	m_r->no_year = year == 0;
	return (size_t)(c.p - text);
}
