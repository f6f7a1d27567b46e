/*
 * session.c - unit tests of proxyd/session.c: a session's time
 *
 * IMAP and POP3 from accept to the session's event, with the clock in the test's
 * hands (tests/clock.h). The server is reached in clear (`plain:'), so that no
 * TLS is in the way; stall.c has submit, and TLS.
 */
#include "tests/clock.h"

/* A client that dialled port, and a server that has not spoken yet. */
static void
begin(uint16_t port)
{
	server.pop3 = (struct endpoint){ TLS_PLAIN, 1110 };
	server.imap = (struct endpoint){ TLS_PLAIN, 1143 };
	dialled(port);
}

/* IDLE: programs renew it after 29 minutes (RFC 2177), servers end it after 30;
 * with neither, we do, later. */
static void
idle_for_half_an_hour(void **state)
{
	(void)state;
	begin(143);
	say(server_fd, "* OK [CAPABILITY IMAP4rev1] hi\r\n");
	hear(client_fd, "* OK [CAPABILITY IMAP4rev1] hi\r\n");
	say(client_fd, "a LOGIN k s\r\n");
	hear(server_fd, "a LOGIN k s\r\n");
	say(server_fd, "a OK in\r\n");
	hear(client_fd, "a OK in\r\n");
	for (int round = 0; round < 3; round++) {
		say(client_fd, "b IDLE\r\n");
		hear(server_fd, "b IDLE\r\n");
		say(server_fd, "+ idling\r\n");
		hear(client_fd, "+ idling\r\n");
		for (int minute = 0; minute < 29; minute++) {
			pass(60);
			assert_true(is_alive());
		}
		say(client_fd, "DONE\r\n");
		hear(server_fd, "DONE\r\n");
	}
	for (int minute = 0; minute < 34; minute++) {
		pass(60);
		assert_true(is_alive());
	}
	assert_int_equal(reports, 0);
	pass(60);
	pass(10);
	assert_false(is_alive());
	assert_int_equal(reports, 1);
	assert_int_equal(last.reason, REASON_CLIENT_TIMEOUT);
	assert_int_equal(last.kind, EVENT_WRAP);
}

/* RFC 1939 section 3: ten minutes. */
static void
pop3_for_ten_minutes(void **state)
{
	(void)state;
	begin(110);
	say(server_fd, "+OK hi\r\n");
	hear(client_fd, "+OK hi\r\n");
	say(client_fd, "PASS x\r\n");
	hear(server_fd, "PASS x\r\n");
	say(server_fd, "+OK\r\n");
	hear(client_fd, "+OK\r\n");
	for (int minute = 0; minute < 9; minute++)
		pass(60);
	pass(59);
	assert_true(is_alive());
	pass(2);
	pass(10);
	assert_false(is_alive());
	assert_int_equal(last.reason, REASON_CLIENT_TIMEOUT);
}

/* A server that never greets: our answer within 25 seconds of the accept. */
static void
greeting_in_time(void **state)
{
	(void)state;
	begin(143);
	pass(24);
	assert_true(is_alive());
	hear(client_fd, "");
	pass(2);
	char got[64];
	assert_true(read(client_fd, got, sizeof(got)) > 20);
	assert_memory_equal(got, "* BYE [UNAVAILABLE] ", 20);
	pass(10);
	assert_false(is_alive());
	assert_int_equal(last.reason, REASON_SERVER_TIMEOUT);
}

/* The login waits for the server, not for ever: NO, and the password stays. */
static void
login_in_time(void **state)
{
	(void)state;
	begin(143);
	say(server_fd, "* OK [X] hi\r\n");
	hear(client_fd, "* OK [X] hi\r\n");
	say(client_fd, "a LOGIN k s\r\n");
	hear(server_fd, "a LOGIN k s\r\n");
	pass(299);
	assert_true(is_alive());
	pass(2);
	char got[64];
	assert_true(read(client_fd, got, sizeof(got)) > 20);
	assert_memory_equal(got, "a NO [UNAVAILABLE] ", 19);
	pass(10);
	assert_false(is_alive());
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(idle_for_half_an_hour, setup,
			teardown),
		cmocka_unit_test_setup_teardown(pop3_for_ten_minutes, setup,
			teardown),
		cmocka_unit_test_setup_teardown(greeting_in_time, setup,
			teardown),
		cmocka_unit_test_setup_teardown(login_in_time, setup, teardown),
	};

	return cmocka_run_group_tests_name("session", tests, NULL, NULL);
}
