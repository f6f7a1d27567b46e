/*
 * complaint_mail.c - a complaint as it comes: one mail
 *
 * Does: take the mail apart (GMime), find the machine-readable part of an ARF
 * (RFC 5965, Source-Port of RFC 6692) or X-ARF report (fields of 0.2, objects of
 * JSON of 4) and read address, port and time out of it; without one, or when it
 * names nobody of ours, give all text to complaint_text.c. Does not: follow
 * references, decrypt, or believe anything.
 *
 * Called by cmd_complaint.c, the unit tests and a fuzzer. Everybody may complain:
 * the mail is hostile. Depth and number of parts are bounded here, octets by the
 * caller; GMime bounds its own nesting. NULs are dropped, so that text behind one
 * is read too and UTF-16 becomes readable where it matters.
 */
#include <gmime/gmime.h>
#include <jansson.h>
#include <string.h>
#include <strings.h>

#include "tools/complaint.h"

#define DEPTH_MAX 8
#define PARTS_MAX 200
/* The first address, port and time of one report. */
#define VALUE_MAX 256

struct mail {
	struct complaint *c;
	const struct ours *ours;
	GByteArray *prose;
	unsigned parts;
	bool is_xarf;		/* its header says so */
};

static size_t
drop_nuls(char *text, size_t len)
{
	size_t kept = 0;

	for (size_t i = 0; i < len; i++)
		if (text[i] != '\0')
			text[kept++] = text[i];
	return kept;
}

/* ---- fields: "Name: value" of ARF and of X-ARF 0.2 ---- */

struct fields {
	char address[VALUE_MAX], port[VALUE_MAX], time[VALUE_MAX],
		time2[VALUE_MAX];
	bool has_type;		/* a field that only such a report has */
};

static bool
is_named(const char *name, size_t len, const char *want)
{
	return strlen(want) == len && strncasecmp(name, want, len) == 0;
}

static void
keep(char out[VALUE_MAX], const char *value, size_t len)
{
	if (out[0] != '\0')
		return;
	/* YAML may quote */
	while (len > 0 && strchr(" \t\"'\r", value[0]) != NULL) {
		value++;
		len--;
	}
	while (len > 0 && strchr(" \t\"'\r", value[len - 1]) != NULL)
		len--;
	len = len < VALUE_MAX ? len : VALUE_MAX - 1;
	memcpy(out, value, len);
	out[len] = '\0';
}

static void
take_field(struct fields *f, const char *name, size_t n, const char *value,
	size_t len)
{
	if (is_named(name, n, "Source-IP") || is_named(name, n, "Source") ||
	    is_named(name, n, "source_identifier"))
		keep(f->address, value, len);
	else if (is_named(name, n, "Source-Port") ||
	    is_named(name, n, "source_port"))
		keep(f->port, value, len);
	else if (is_named(name, n, "Arrival-Date") || is_named(name, n, "Date") ||
	    is_named(name, n, "timestamp"))
		keep(f->time, value, len);
	else if (is_named(name, n, "Received-Date"))
		keep(f->time2, value, len);
	else if (is_named(name, n, "Report-Type") ||
	    is_named(name, n, "Reported-From") ||
	    is_named(name, n, "xarf_version"))
		f->has_type = true;
}

static void
read_fields(const char *text, size_t len, struct fields *f)
{
	memset(f, 0, sizeof(*f));
	while (len > 0) {
		const char *end = memchr(text, '\n', len), *colon;
		size_t n = end == NULL ? len : (size_t)(end - text);

		colon = memchr(text, ':', n);
		if (colon != NULL)
			take_field(f, text, (size_t)(colon - text), colon + 1,
				n - (size_t)(colon - text) - 1);
		n += end != NULL;
		text += n;
		len -= n;
	}
}

/* ---- one report ---- */

/* The first time in a value: "Wed, 25 Nov ..." begins with no time. */
static void
value_time(const char *value, int64_t now, struct moment *m_r)
{
	size_t len = strlen(value);

	memset(m_r, 0, sizeof(*m_r));
	for (size_t i = 0; i < len; i++)
		if ((i == 0 || strchr(" ,\t", value[i - 1]) != NULL) &&
		    moment_at(value + i, len - i, now, m_r) > 0)
			return;
}

static uint16_t
value_port(const char *value)
{
	unsigned n = 0;

	for (; *value >= '0' && *value <= '9' && n < 65536; value++)
		n = n * 10 + (unsigned)(*value - '0');
	return *value != '\0' || n > 65535 ? 0 : (uint16_t)n;
}

/* Its finding counts when the address is ours. */
static void
take_report(struct mail *m, const struct fields *f, enum complaint_form form)
{
	struct finding one = { .who = { .port = 0 } }, two;
	size_t before = m->c->n + m->c->lost;

	if (complaint_address(f->address, strlen(f->address), &one.who) == 0)
		return;
	if (value_port(f->port) != 0)
		one.who.port = value_port(f->port);
	value_time(f->time, m->ours->now, &one.when);
	two = one;
	value_time(f->time2, m->ours->now, &two.when);
	if (one.when.at == 0)
		one.when = two.when;
	if (two.when.at != 0 && two.when.at != one.when.at) {
		one.many_times = two.many_times = true;
		complaint_add(m->c, m->ours, &one);
		complaint_add(m->c, m->ours, &two);
	} else
		complaint_add(m->c, m->ours, &one);
	if (m->c->n + m->c->lost > before)
		m->c->form = form;
}

static void
member(const json_t *o, const char *key, char out[VALUE_MAX])
{
	const json_t *v = json_object_get(o, key);
	const char *text = json_string_value(v);

	if (text != NULL)
		keep(out, text, strlen(text));
	else if (json_is_integer(v))
		snprintf(out, VALUE_MAX, "%lld",
			(long long)json_integer_value(v));
}

static void
take_object(struct mail *m, const json_t *o)
{
	struct fields f = { .has_type = true };

	if (json_object_get(o, "xarf_version") == NULL)
		return;
	member(o, "source_identifier", f.address);
	member(o, "source_port", f.port);
	member(o, "timestamp", f.time);
	if (f.time[0] == '\0')
		member(o, "date", f.time);
	take_report(m, &f, COMPLAINT_XARF);
}

/* One object, an array of them, or one a line. */
static void
take_json(struct mail *m, const char *text, size_t len)
{
	while (len > 0) {
		json_error_t e;
		json_t *o = json_loadb(text, len, JSON_DISABLE_EOF_CHECK, &e),
			*one;
		size_t i;

		if (o == NULL || e.position <= 0 || (size_t)e.position > len) {
			json_decref(o);
			break;
		}
		json_array_foreach(o, i, one)
			take_object(m, one);
		take_object(m, o);
		json_decref(o);
		text += e.position;
		len -= (size_t)e.position;
	}
}

/* ---- parts ---- */

/* The octets of a part, decoded, without NUL. The caller's; NULL: none. */
static GByteArray *
content_of(GMimePart *part)
{
	GMimeDataWrapper *data = g_mime_part_get_content(part);
	GByteArray *octets;
	GMimeStream *to;

	if (data == NULL)
		return NULL;
	octets = g_byte_array_new();
	to = g_mime_stream_mem_new_with_byte_array(octets);
	g_mime_stream_mem_set_owner(GMIME_STREAM_MEM(to), FALSE);
	(void)g_mime_data_wrapper_write_to_stream(data, to);
	g_object_unref(to);
	g_byte_array_set_size(octets, (guint)drop_nuls((char *)octets->data,
		octets->len));
	return octets;
}

static void
add_prose(struct mail *m, const char *text, size_t len)
{
	g_byte_array_append(m->prose, (const guint8 *)text, (guint)len);
	g_byte_array_append(m->prose, (const guint8 *)"\n", 1);
}

static bool
begins_json(const char *text, size_t len)
{
	while (len > 0 && strchr(" \t\r\n\xef\xbb\xbf", *text) != NULL) {
		text++;
		len--;
	}
	return len > 0 && (*text == '{' || *text == '[');
}

/* Text, whatever it calls itself, and reports. Pictures are left alone. */
static void
read_part(struct mail *m, GMimePart *part)
{
	GMimeContentType *type = g_mime_object_get_content_type(
		GMIME_OBJECT(part));
	GByteArray *octets;
	struct fields f;
	const char *text;

	if (g_mime_content_type_is_type(type, "image", "*") ||
	    g_mime_content_type_is_type(type, "audio", "*") ||
	    g_mime_content_type_is_type(type, "video", "*"))
		return;
	octets = content_of(part);
	if (octets == NULL)
		return;
	text = (const char *)octets->data;
	if (g_mime_content_type_is_type(type, "message", "feedback-report")) {
		read_fields(text, octets->len, &f);
		take_report(m, &f, COMPLAINT_ARF);
	} else if (octets->len > 0 && begins_json(text, octets->len))
		take_json(m, text, octets->len);
	else if (octets->len > 0) {
		read_fields(text, octets->len, &f);
		if (f.has_type || m->is_xarf)
			take_report(m, &f, COMPLAINT_XARF);
	}
	if (octets->len > 0)
		add_prose(m, text, octets->len);
	g_byte_array_free(octets, TRUE);
}

static void walk(struct mail *m, GMimeObject *o, unsigned depth);

/* A message that was attached: its header names who handed it over. */
static void
read_message(struct mail *m, GMimeMessage *message, unsigned depth)
{
	char *headers = message == NULL ? NULL :
		g_mime_object_get_headers(GMIME_OBJECT(message), NULL);

	if (headers != NULL)
		add_prose(m, headers, strlen(headers));
	g_free(headers);
	if (message != NULL)
		walk(m, g_mime_message_get_mime_part(message), depth);
}

static void
walk(struct mail *m, GMimeObject *o, unsigned depth)
{
	if (o == NULL)
		return;
	if (depth > DEPTH_MAX || m->parts++ == PARTS_MAX) {
		m->parts = PARTS_MAX;
		m->c->unread = true;
		return;
	}
	if (GMIME_IS_MESSAGE_PART(o))
		read_message(m, g_mime_message_part_get_message(
			GMIME_MESSAGE_PART(o)), depth + 1);
	else if (GMIME_IS_MULTIPART(o)) {
		int n = g_mime_multipart_get_count(GMIME_MULTIPART(o));

		for (int i = 0; i < n && !m->c->unread; i++)
			walk(m, g_mime_multipart_get_part(GMIME_MULTIPART(o),
				i), depth + 1);
	} else if (GMIME_IS_PART(o))
		read_part(m, GMIME_PART(o));
}

/* ---- the mail ---- */

/* For a terminal, and for a header of ours. */
static void
clean_text(char out[COMPLAINT_TEXT], const char *text)
{
	size_t n = 0;

	for (; text != NULL && *text != '\0' && n < COMPLAINT_TEXT - 1; text++)
		out[n++] = *text >= ' ' && *text <= '~' ? *text : '?';
	out[n] = '\0';
}

static void
read_header(struct mail *m, GMimeMessage *message)
{
	GMimeObject *o = GMIME_OBJECT(message);
	InternetAddressList *from = g_mime_message_get_reply_to(message);
	char *text;

	if (from == NULL || internet_address_list_length(from) <= 0)
		from = g_mime_message_get_from(message);
	text = from == NULL ? NULL :
		internet_address_list_to_string(from, NULL, FALSE);
	clean_text(m->c->from, text);
	g_free(text);
	clean_text(m->c->subject, g_mime_message_get_subject(message));
	m->is_xarf = g_mime_object_get_header(o, "X-XARF") != NULL ||
		g_mime_object_get_header(o, "X-ARF") != NULL;
}

static GMimeMessage *
parse(const char *mail, size_t len)
{
	GMimeStream *stream = g_mime_stream_mem_new_with_buffer(mail, len);
	GMimeParser *parser = g_mime_parser_new_with_stream(stream);
	GMimeMessage *message = g_mime_parser_construct_message(parser, NULL);

	g_object_unref(parser);
	g_object_unref(stream);
	return message;
}

int
complaint_read(char *mail, size_t len, const struct ours *ours,
	struct complaint *c_r, const char **why_r)
{
	struct mail m = { .c = c_r, .ours = ours };
	GMimeMessage *message;

	memset(c_r, 0, sizeof(*c_r));
	if (len == 0) {
		*why_r = "there is nothing on standard input";
		return -1;
	}
	if (len > COMPLAINT_MAX) {
		*why_r = "this is more than 1 MiB; leave attachments out";
		return -1;
	}
	len = drop_nuls(mail, len);
	g_mime_init();
	m.prose = g_byte_array_new();
	message = parse(mail, len);
	if (message != NULL) {
		read_header(&m, message);
		walk(&m, g_mime_message_get_mime_part(message), 0);
		g_object_unref(message);
	}
	/* a text without a header, or of parts without a boundary */
	if (m.prose->len == 0)
		add_prose(&m, mail, len);
	if (c_r->n == 0)
		complaint_prose(c_r, ours, (const char *)m.prose->data,
			m.prose->len);
	g_byte_array_free(m.prose, TRUE);
	return 0;
}
