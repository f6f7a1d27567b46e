/*
 * lease.c - unit tests of proxyd/ledgerlease.c, ledgerlevel.c and leaseread.c
 *
 * On a ledger of its own: who has a line and who had it, which other line a
 * customer has, histories that wait for their customer, and a control that is
 * killed between writing leases down and moving what the table knows of them; who
 * had a line at a time, and its levels.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "proxyd/lease.h"
#include "proxyd/ledger.h"

#define NOW 1000000
#define DAY 86400

static char dir[] = "/tmp/lease.XXXXXX";
static char database[64], config[64];
static struct conf *conf;

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

/* A file of leases. */
static struct lease_list *
parsed(bool is_release, const char *text)
{
	struct lease_list *list = calloc(1, sizeof(*list));
	FILE *f = fmemopen((void *)text, strlen(text), "r");
	volatile uint64_t progress;
	char *errors;

	assert_non_null(list);
	assert_non_null(f);
	list->is_release = is_release;
	if (lease_read(conf, f, list, &progress, &errors) != 0)
		fail_msg("%s", errors);
	free(errors);
	fclose(f);
	return list;
}

/* Written and settled. The first one's fields are in *first_r. */
static void
lease(struct ledger *l, bool is_release, const char *text, int64_t now,
	struct lease *first_r)
{
	struct lease_list *list = parsed(is_release, text);

	assert_int_equal(ledger_lease(l, list, now), 0);
	if (first_r != NULL)
		*first_r = list->lease[0];	/* its arrays go now */
	assert_int_equal(ledger_lease_settle(l, list, now), 0);
	lease_list_free(&list);
}

static void
who_has_it(void **state)
{
	char who[LEASE_CUSTOMER_MAX];
	struct ledger *l = opened();
	struct lease e;

	(void)state;
	assert_int_equal(ledger_lease_of(l, "198.18.0.7", who), 0);
	lease(l, false, "198.18.0.7 anna\n2001:db8:1:9900::/56 anna\n", NOW, &e);
	assert_true(e.is_changed);
	assert_string_equal(e.was, "");
	lease(l, false, "198.18.0.7 anna\n", NOW, &e);
	assert_false(e.is_changed);
	lease(l, false, "198.18.0.8 anna\n", NOW, NULL);
	/* her other line of the family, where what is known of her goes */
	lease(l, false, "198.18.0.7 bert\n", NOW, &e);
	assert_string_equal(e.was, "anna");
	assert_string_equal(e.heir, "198.18.0.8");
	lease(l, true, "198.18.0.7 anna\n", NOW, &e);	/* not hers */
	assert_false(e.is_changed);
	assert_int_equal(ledger_lease_of(l, "198.18.0.7", who), 1);
	assert_string_equal(who, "bert");
	lease(l, true, "198.18.0.7\n", NOW, &e);
	assert_true(e.is_changed);
	assert_string_equal(e.was, "bert");
	assert_string_equal(e.heir, "");
	assert_int_equal(ledger_lease_of(l, "198.18.0.7", who), 0);
	assert_int_equal(ledger_lease_of(l, "2001:db8:1:9900::/56", who), 1);
	ledger_close(&l);
}

/* A line that goes from hand to hand in one file. */
static void
the_same_line_twice(void **state)
{
	struct lease_list *list = parsed(false, "198.18.0.7 anna\n"
		"198.18.0.7 bert\n198.18.0.7 bert\n");
	char who[LEASE_CUSTOMER_MAX];
	struct ledger *l = opened();

	(void)state;
	assert_int_equal(ledger_lease(l, list, NOW), 0);
	assert_int_equal(list->changed, 2);
	assert_int_equal(list->same, 1);
	assert_int_equal(ledger_lease_of(l, "198.18.0.7", who), 1);
	assert_string_equal(who, "bert");
	lease_list_free(&list);
	ledger_close(&l);
}

static struct line_history *
some_history(uint32_t attempts)
{
	struct line_history *h = calloc(1, sizeof(*h));

	assert_non_null(h);
	h->version = HISTORY_VERSION;
	h->first = h->last = NOW;
	h->attempts = attempts;
	return h;
}

/* anna loses her line, with this history of hers. */
static void
store(struct ledger *l, uint32_t attempts, int64_t now)
{
	struct lease_list *list;

	lease(l, false, "198.18.0.7 anna\n", now, NULL);
	list = parsed(true, "198.18.0.7 anna\n");
	assert_int_equal(ledger_lease(l, list, now), 0);
	list->lease[0].taken = some_history(attempts);
	assert_int_equal(ledger_lease_settle(l, list, now), 0);
	lease_list_free(&list);
}

static void
a_history_waits_for_its_customer(void **state)
{
	struct lease_list *list;
	struct ledger *l = opened();

	(void)state;
	store(l, 42, NOW);
	ledger_close(&l);
	l = opened();
	list = parsed(false, "198.18.0.8 bert\n2001:db8:1:9900::/56 anna\n"
		"198.18.0.9 anna\n198.18.0.10 anna\n");
	assert_int_equal(ledger_lease(l, list, NOW), 0);
	assert_int_equal(list->lease[0].nstored, 0);	/* somebody else's */
	assert_int_equal(list->lease[1].nstored, 0);	/* the other family */
	assert_int_equal(list->lease[2].nstored, 1);
	assert_int_equal(list->lease[2].stored[0].attempts, 42);
	assert_int_equal(list->lease[3].nstored, 0);	/* never twice */
	lease_list_free(&list);
	ledger_close(&l);
}

static void
a_history_is_forgotten_after_thirty_days(void **state)
{
	const int64_t later = NOW + (LEASE_STORED_DAYS + 1) * DAY;
	struct ledger *l = opened();
	struct lease_list *list;

	(void)state;
	store(l, 42, NOW);
	lease(l, false, "198.18.0.8 bert\n", later, NULL);
	list = parsed(false, "198.18.0.9 anna\n");
	assert_int_equal(ledger_lease(l, list, later), 0);
	assert_int_equal(list->lease[0].nstored, 0);
	lease_list_free(&list);
	ledger_close(&l);
}

/* What ledger_lease_unsettled() says, as text. */
static void
expect_unsettled(struct ledger *l, const char *want)
{
	struct lease_list *list = calloc(1, sizeof(*list));
	char got[512] = "";

	assert_non_null(list);
	assert_int_equal(ledger_lease_unsettled(l, list), 0);
	for (size_t i = 0; i < list->n; i++) {
		size_t len = strlen(got);

		assert_true(list->lease[i].is_changed);
		snprintf(got + len, sizeof(got) - len, "%s was %s is %s|",
			list->lease[i].line, list->lease[i].was,
			list->lease[i].customer);
	}
	assert_string_equal(got, want);
	lease_list_free(&list);
}

/* In a process that is killed before anything is settled. */
static void
killed_after(bool is_release, const char *text)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		char why[200];
		struct ledger *l = ledger_open(database, false, why);
		struct lease_list *list = parsed(is_release, text);

		if (l != NULL && ledger_lease(l, list, NOW) == 0)
			raise(SIGKILL);
		_exit(1);
	}
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void
a_killed_control_leaves_notes(void **state)
{
	struct ledger *l = opened();
	struct lease_list *list;

	(void)state;
	lease(l, false, "198.18.0.7 anna\n198.18.0.8 bert\n", NOW, NULL);
	expect_unsettled(l, "");
	ledger_close(&l);
	killed_after(false, "198.18.0.7 carl\n");
	killed_after(true, "198.18.0.8\n");
	/* twice before the table followed once: what is in it is anna's */
	killed_after(false, "198.18.0.7 dora\n");
	l = opened();
	expect_unsettled(l, "198.18.0.7 was anna is dora|198.18.0.8 was bert "
		"is |");
	list = parsed(false, "");
	assert_int_equal(ledger_lease_settle(l, list, NOW), 0);
	lease_list_free(&list);
	expect_unsettled(l, "");
	lease(l, false, "198.18.0.8 emil\n", NOW, NULL);
	expect_unsettled(l, "");
	ledger_close(&l);
}

static void
expect_holder(struct ledger *l, int64_t at, const char *who, int64_t since,
	int64_t until)
{
	char customer[LEASE_CUSTOMER_MAX];
	int64_t from, to;

	assert_int_equal(ledger_holder(l, "198.18.0.7", at, customer, &from,
		&to), who[0] != '\0');
	assert_string_equal(customer, who);
	if (who[0] == '\0')
		return;
	assert_int_equal(from, since);
	assert_int_equal(to, until);
}

static void
who_had_it_is_remembered(void **state)
{
	const struct ledger_levels none = { .n = 0 };
	struct ledger *l = opened();

	(void)state;
	lease(l, false, "198.18.0.7 anna\n", 100, NULL);
	lease(l, false, "198.18.0.7 bert\n", 200, NULL);
	lease(l, true, "198.18.0.7\n", 300, NULL);
	lease(l, false, "198.18.0.7 carl\n", 400, NULL);
	expect_holder(l, 99, "", 0, 0);
	expect_holder(l, 100, "anna", 100, 200);
	expect_holder(l, 199, "anna", 100, 200);
	expect_holder(l, 200, "bert", 200, 300);
	expect_holder(l, 300, "", 0, 0);
	expect_holder(l, 400, "carl", 400, 0);
	/* forgotten to the day, those that hold never */
	assert_int_equal(ledger_levels(l, &none, 200 + 10 * DAY, 10), 0);
	expect_holder(l, 150, "anna", 100, 200);
	assert_int_equal(ledger_levels(l, &none, 201 + 10 * DAY, 10), 0);
	expect_holder(l, 150, "", 0, 0);
	expect_holder(l, 250, "bert", 200, 300);
	assert_int_equal(ledger_levels(l, &none, 900 * DAY, 10), 0);
	expect_holder(l, 800 * DAY, "carl", 400, 0);
	ledger_close(&l);
}

/* ---- levels ---- */

struct told {
	char text[512];
};

static void
tell_level(void *arg, const struct ledger_level *e, const char *customer)
{
	struct told *t = arg;
	size_t len = strlen(t->text);

	snprintf(t->text + len, sizeof(t->text) - len,
		"%lld %u>%u%s %s %s %s %s|", (long long)e->at, e->was, e->is,
		e->pinned ? " pinned" : "", e->who, e->why, customer,
		e->evidence);
}

static void
tell_now(void *arg, const struct ledger_now *e)
{
	struct told *t = arg;
	size_t len = strlen(t->text);

	snprintf(t->text + len, sizeof(t->text) - len, "%s %u%s %lld|", e->line,
		e->level, e->pinned ? " pinned" : "", (long long)e->since);
}

static void
levels_with_their_evidence(void **state)
{
	struct ledger_level row[] = {
		{ .at = 100, .line = "198.18.0.7", .was = 0, .is = 1,
		  .who = "evidence", .evidence = "{\"a\":1}" },
		{ .at = 200, .line = "198.18.0.7", .was = 1, .is = 3,
		  .pinned = true, .who = "hana", .why = "it's \"so\"",
		  .evidence = "{}" },
		{ .at = 200, .line = "198.18.0.8", .is = 1, .who = "evidence",
		  .evidence = "{}" },
	};
	struct ledger_levels w = { .row = row, .n = 3 };
	struct told t = { "" };
	struct ledger *l = opened();

	(void)state;
	lease(l, false, "198.18.0.7 anna\n", 50, NULL);
	assert_int_equal(ledger_levels(l, &w, 300, 1), 0);
	assert_int_equal(ledger_each_level(l, "198.18.0.7", 300, 5, tell_level,
		&t), 0);
	assert_string_equal(t.text, "200 1>3 pinned hana it's \"so\" anna {}|"
		"100 0>1 evidence  anna {\"a\":1}|");
	t.text[0] = '\0';
	assert_int_equal(ledger_each_level(l, "198.18.0.7", 199, 5, tell_level,
		&t), 0);
	assert_string_equal(t.text, "100 0>1 evidence  anna {\"a\":1}|");
	w.n = 0;
	assert_int_equal(ledger_levels(l, &w, 201 + DAY, 1), 0);
	t.text[0] = '\0';
	assert_int_equal(ledger_each_level(l, "198.18.0.8", 999999, 5,
		tell_level, &t), 0);
	assert_string_equal(t.text, "");
	ledger_close(&l);
}

static void
expect_now(struct ledger *l, uint64_t table, const char *want)
{
	struct told t = { "" };

	assert_int_equal(ledger_each_now(l, table, tell_now, &t), 0);
	assert_string_equal(t.text, want);
}

/* They come back to another table, never to the one they came from. */
static void
levels_of_now(void **state)
{
	struct ledger_now now[] = {
		{ .line = "198.18.0.7", .level = 3, .pinned = true, .since = 7 },
		{ .line = "198.18.0.8", .level = 1, .since = 8 },
	};
	struct ledger_levels w = { .now = now, .nnow = 2, .has_now = true,
		.table = 0xfedcba9876543210 };
	struct ledger *l = opened();

	(void)state;
	assert_int_equal(ledger_levels(l, &w, NOW, 90), 0);
	expect_now(l, w.table, "");
	ledger_close(&l);
	l = opened();
	expect_now(l, 1, "198.18.0.7 3 pinned 7|198.18.0.8 1 8|");
	w.has_now = false;	/* changes alone leave them as they are */
	w.nnow = 0;
	assert_int_equal(ledger_levels(l, &w, NOW, 90), 0);
	expect_now(l, 1, "198.18.0.7 3 pinned 7|198.18.0.8 1 8|");
	w.has_now = true;
	assert_int_equal(ledger_levels(l, &w, NOW, 90), 0);
	expect_now(l, 1, "");
	ledger_close(&l);
}

/* No commit, no note. */
static void
a_mistake_in_a_file_changes_nothing(void **state)
{
	static const char text[] = "198.18.0.7 anna\n198.18.0.300 bert\n"
		"198.18.0.8\n# fine\n198.18.0.9 two words\n";
	struct lease_list *list = calloc(1, sizeof(*list));
	FILE *f = fmemopen((void *)text, strlen(text), "r");
	volatile uint64_t progress;
	char *errors;

	(void)state;
	assert_int_equal(lease_read(conf, f, list, &progress, &errors), 3);
	fclose(f);
	assert_non_null(strstr(errors, "2: '198.18.0.300'"));
	assert_non_null(strstr(errors, "3: '198.18.0.8': a customer is"));
	assert_non_null(strstr(errors, "5: '198.18.0.9': nothing more"));
	free(errors);
	lease_list_free(&list);
}

static void
configure(void)
{
	FILE *f = fopen(config, "w");

	if (f == NULL)
		abort();
	fputs("subscribers = ( { class = \"home\"; prefixes = ( "
		"\"198.18.0.0/16\", \"2001:db8::/32\" ); port25 = \"block\"; "
		"} );\n", f);
	fclose(f);
	conf = conf_load(config, stderr);
	if (conf == NULL)
		abort();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(who_has_it, fresh),
		cmocka_unit_test_setup(the_same_line_twice, fresh),
		cmocka_unit_test_setup(a_history_waits_for_its_customer, fresh),
		cmocka_unit_test_setup(a_history_is_forgotten_after_thirty_days,
			fresh),
		cmocka_unit_test_setup(a_killed_control_leaves_notes, fresh),
		cmocka_unit_test_setup(a_mistake_in_a_file_changes_nothing,
			fresh),
		cmocka_unit_test_setup(who_had_it_is_remembered, fresh),
		cmocka_unit_test_setup(levels_with_their_evidence, fresh),
		cmocka_unit_test_setup(levels_of_now, fresh),
	};
	int failures;

	if (mkdtemp(dir) == NULL)
		return 1;
	snprintf(database, sizeof(database), "%s/ledger.db", dir);
	snprintf(config, sizeof(config), "%s/s.conf", dir);
	configure();
	failures = cmocka_run_group_tests(tests, NULL, NULL);
	fresh(NULL);
	unlink(config);
	rmdir(dir);
	conf_free(&conf);
	return failures;
}
