/*
 * lease.c - unit tests of proxyd/ledgerlease.c and leaseread.c
 *
 * On a ledger of its own: who has a line and who had it, which other line a
 * customer has, histories that wait for their customer, and a control that is
 * killed between writing leases down and moving what the table knows of them.
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
