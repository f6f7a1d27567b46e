/*
 * ledgerline.c - unit tests of proxyd/ledgerline.c
 *
 * On a ledger of its own and a configuration with a plain class, an IPv6 class
 * and one behind CGN: which lines the entries of customers stand for, which of
 * two entries counts, and what each change makes of the lines it touches.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "proxyd/lease.h"
#include "proxyd/ledger.h"

#define NOW 1000

static char dir[] = "/tmp/ledgerline.XXXXXX";
static char database[64], config[64], list[64];

static const char text[] =
	"subscribers = (\n"
	"{ class = \"home\"; prefixes = ( \"198.18.0.0/16\" ); "
	"port25 = \"block\"; },\n"
	"{ class = \"six\"; prefixes = ( \"2001:db8::/32\" ); line_len6 = 56; "
	"port25 = \"block\"; },\n"
	"{ class = \"cgn\"; prefixes = ( \"100.64.0.0/10\" ); "
	"port_block = 1024; port25 = \"block\"; } );\n"
	"allow = { file = \"%s\"; };\n";

static void
write_file(const char *path, const char *content)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fputs(content, f);
	assert_int_equal(fclose(f), 0);
}

static struct conf *
configured(const char *allow)
{
	char all[1024];
	struct conf *c;

	write_file(list, allow);
	snprintf(all, sizeof(all), text, list);
	write_file(config, all);
	c = conf_load(config, stderr);
	assert_non_null(c);
	return c;
}

static int
fresh(void **state)
{
	static const char *const suffix[] = { "", "-wal", "-shm" };
	char name[80];

	(void)state;
	for (int i = 0; i < 3; i++) {
		snprintf(name, sizeof(name), "%s%s", database, suffix[i]);
		unlink(name);
	}
	return 0;
}

static struct ledger *
opened(void)
{
	char why[200];
	struct ledger *l = ledger_open(database, false, why);

	if (l == NULL)
		fail_msg("%s", why);
	return l;
}

static struct ledger_entry
entry(const char *name, enum action action, int64_t until)
{
	struct ledger_entry e = { .since = NOW, .who = "hana", .why = "" };
	const char *why;

	assert_int_equal(ledger_named(&e, name, &why), 0);
	e.item.action = (uint8_t)action;
	e.item.until = until;
	return e;
}

static void
put(struct ledger *l, const char *name, enum action action, int64_t until)
{
	struct ledger_entry e = entry(name, action, until);

	assert_int_equal(ledger_put(l, &e), 1);
}

/* "LINE CUSTOMER" bound, or released; what it has changed is in out. */
static void
lease(struct ledger *l, const struct conf *c, bool is_release,
	const char *what, struct ledger_effects *out)
{
	struct lease_list *leases = calloc(1, sizeof(*leases));
	struct lease *e;
	char why[160];

	assert_non_null(leases);
	leases->is_release = is_release;
	assert_non_null(e = lease_list_add(leases));
	if (lease_parse(c, is_release, what, e, why) != 1)
		fail_msg("%s", why);
	assert_int_equal(ledger_lease(l, leases, NOW), 0);
	assert_int_equal(ledger_effects_of_leases(l, c, leases, NOW, out), 0);
	lease_list_free(&leases);
}

static void
leased(struct ledger *l, const struct conf *c, const char *what)
{
	struct ledger_effects out = { 0 };

	lease(l, c, false, what, &out);
	free(out.effect);
}

static void
expect(const struct ledger_effects *out, const char *want)
{
	char got[1024] = "", prefix[ADDR_STRLEN];

	for (size_t i = 0; i < out->n; i++) {
		size_t len = strlen(got);

		snprintf(got + len, sizeof(got) - len, "%s %s|", prefix_format(
			&out->effect[i].item.prefix, prefix),
			out->effect[i].counts ?
			action_name[out->effect[i].item.action] : "-");
	}
	assert_string_equal(got, want);
}

/* After a change of an entry. */
static void
expect_after(struct ledger *l, const struct conf *c, const char *name,
	unsigned shared, const char *want)
{
	struct ledger_entry e = entry(name, ACTION_PASS, 0);
	struct ledger_effects out = { 0 };

	assert_int_equal(ledger_effects(l, c, &e, NOW, &out), 0);
	expect(&out, want);
	assert_int_equal(out.shared, shared);
	free(out.effect);
}

static int
by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* All that counts, in order of its text. */
static void
expect_map(struct ledger *l, const struct conf *c, const char *want)
{
	struct allowmap *m = ledger_load(l, c, NOW);
	char *line[32] = { NULL }, all[2048] = "", prefix[ADDR_STRLEN];
	const struct allow_item *i;
	size_t n;

	assert_non_null(m);
	i = allowmap_all(m, &n);
	assert_true(n <= 32);
	for (size_t k = 0; k < n; k++)
		assert_true(asprintf(&line[k], "%s %s|", prefix_format(
			&i[k].prefix, prefix), action_name[i[k].action]) > 0);
	qsort(line, n, sizeof(line[0]), by_text);
	for (size_t k = 0; k < n; k++) {
		strncat(all, line[k], sizeof(all) - strlen(all) - 1);
		free(line[k]);
	}
	assert_string_equal(all, want);
	allowmap_free(&m);
}

static void
stands_for_the_lines_of_now(void **state)
{
	struct conf *c = configured("");
	struct ledger *l = opened();

	(void)state;
	leased(l, c, "198.18.0.7 anna");
	leased(l, c, "198.18.0.8 bert");
	leased(l, c, "2001:db8:1:9900::/56 anna");
	leased(l, c, "100.64.0.1:1024-2047 anna");
	put(l, "line:anna", ACTION_RELAY, 0);
	put(l, "line:nobody-yet", ACTION_PASS, 0);
	expect_map(l, c, "198.18.0.7/32 relay|2001:db8:1:9900::/56 relay|");
	expect_after(l, c, "line:anna", 1, "198.18.0.7/32 relay|"
		"2001:db8:1:9900::/56 relay|");
	expect_after(l, c, "line:nobody-yet", 0, "");
	expect_after(l, c, "line:bert", 0, "198.18.0.8/32 -|");
	ledger_close(&l);
	conf_free(&c);
}

static void
follows_the_lease(void **state)
{
	struct ledger_effects out = { 0 };
	struct conf *c = configured("");
	struct ledger *l = opened();

	(void)state;
	lease(l, c, false, "198.18.0.7 anna", &out);
	expect(&out, "");	/* nobody has an entry */
	put(l, "line:anna", ACTION_PASS, 0);
	lease(l, c, false, "198.18.0.9 bert", &out);
	expect(&out, "");
	lease(l, c, false, "198.18.0.8 anna", &out);
	expect(&out, "198.18.0.8/32 pass|");
	out.n = 0;
	lease(l, c, false, "198.18.0.7 bert", &out);
	expect(&out, "198.18.0.7/32 -|");
	out.n = 0;
	lease(l, c, true, "198.18.0.8 anna", &out);
	expect(&out, "198.18.0.8/32 -|");
	expect_map(l, c, "");
	free(out.effect);
	ledger_close(&l);
	conf_free(&c);
}

static void
the_stronger_of_two_counts(void **state)
{
	struct conf *c = configured("198.18.0.9 port25=watch\n"
		"198.18.0.10 port25=watch until=1970-01-01T00:00:01Z # over\n"
		"line:dora port25=relay\n"
		"line:anna port25=relay # hidden by the ledger's\n"
		"line:emil until=1970-01-01T00:00:02Z # over\n");
	struct ledger *l = opened();
	struct ledger_entry e;

	(void)state;
	leased(l, c, "198.18.0.7 anna");
	leased(l, c, "198.18.0.9 dora");	/* the file's for the prefix */
	leased(l, c, "198.18.0.10 dora");
	leased(l, c, "198.18.0.11 dora");
	leased(l, c, "198.18.0.12 emil");
	put(l, "line:anna", ACTION_PASS, 0);
	expect_map(l, c, "198.18.0.10/32 relay|198.18.0.11/32 relay|"
		"198.18.0.7/32 pass|");
	put(l, "198.18.0.7", ACTION_WATCH, 0);
	put(l, "198.18.0.11", ACTION_WATCH, 0);
	expect_map(l, c, "198.18.0.10/32 relay|198.18.0.11/32 watch|"
		"198.18.0.7/32 watch|");
	/* it goes: what it hid comes back */
	e = entry("198.18.0.7", ACTION_PASS, 0);
	assert_int_equal(ledger_del(l, &e), 1);
	expect_after(l, c, "198.18.0.7", 0, "198.18.0.7/32 pass|");
	e = entry("line:anna", ACTION_PASS, 0);
	assert_int_equal(ledger_del(l, &e), 1);
	expect_after(l, c, "line:anna", 0, "198.18.0.7/32 relay|");
	expect_after(l, c, "198.18.0.0/24", 0, "198.18.0.0/24 -|");
	ledger_close(&l);
	conf_free(&c);
}

static void
ends_and_is_told_by_name(void **state)
{
	struct conf *c = configured("");
	struct ledger *l = opened();
	char name[LEDGER_NAME_MAX];
	struct ledger_entry e, got;

	(void)state;
	leased(l, c, "198.18.0.7 anna");
	put(l, "line:anna", ACTION_PASS, NOW + 5);
	e = entry("line:anna", ACTION_PASS, 0);
	assert_int_equal(ledger_get(l, &e, &got), 1);
	assert_string_equal(ledger_name(&got, name), "line:anna");
	expect_map(l, c, "198.18.0.7/32 pass|");
	ledger_close(&l);
	conf_free(&c);
}

static void
a_customer_twice_in_the_file_is_refused(void **state)
{
	char all[1024], *said = NULL;
	size_t len;
	FILE *err = open_memstream(&said, &len);

	(void)state;
	write_file(list, "line:b\nline:a\n# x\nline:b port25=relay\n");
	snprintf(all, sizeof(all), text, list);
	write_file(config, all);
	assert_null(conf_load(config, err));
	fclose(err);
	assert_non_null(strstr(said, ":4: line:b is already in line 1"));
	free(said);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(stands_for_the_lines_of_now, fresh),
		cmocka_unit_test_setup(follows_the_lease, fresh),
		cmocka_unit_test_setup(the_stronger_of_two_counts, fresh),
		cmocka_unit_test_setup(ends_and_is_told_by_name, fresh),
		cmocka_unit_test_setup(a_customer_twice_in_the_file_is_refused,
			fresh),
	};
	int failures;

	if (mkdtemp(dir) == NULL)
		return 1;
	snprintf(database, sizeof(database), "%s/ledger.db", dir);
	snprintf(config, sizeof(config), "%s/s.conf", dir);
	snprintf(list, sizeof(list), "%s/allow.list", dir);
	failures = cmocka_run_group_tests(tests, NULL, NULL);
	fresh(NULL);
	unlink(config);
	unlink(list);
	rmdir(dir);
	return failures;
}
