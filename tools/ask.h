/*
 * ask.h - one request to the running daemon, one answer
 */
#ifndef SALLYPORT_TOOLS_ASK_H
#define SALLYPORT_TOOLS_ASK_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

/* Exit status of a command that needed the daemon and did not reach it. */
#define NOT_RUNNING 3

/* Send a request line, wait so many seconds for each piece of the answer. The
 * caller's object; NULL after saying why on standard error. */
json_t *ask_daemon(const char *config, const char *request, int seconds);
/* The same, without a word when nobody answers. */
json_t *ask_daemon_quietly(const char *config, const char *request,
	int seconds);
/* The same with a descriptor (-1: none), which stays the caller's. */
json_t *ask_daemon_with(const char *config, const char *request, int with,
	int seconds);

/* Send a request whose answer is lines without end: the stream behind its first
 * line, the caller's to close. NULL, after saying why if loud; errno EPROTO: the
 * daemon has refused. */
FILE *ask_stream(const char *config, const char *request, int seconds,
	bool loud);

#endif
