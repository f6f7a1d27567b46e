/*
 * log.h - operational messages of the processes
 *
 * One line per message, to syslog or to standard error. Session events do not
 * come through here: they have their own fixed format (event.h).
 */
#ifndef SALLYPORT_LOG_H
#define SALLYPORT_LOG_H

#include <stdbool.h>
#include <syslog.h>

/*
 * Set once per process. ident is the word before the message ("parent",
 * "relay0", ...). to_stderr: lines "warning ident: message" on descriptor 2,
 * otherwise the syslog socket, facility mail. Levels are those of <syslog.h>.
 * No call waits longer than a tenth of a second for a log that is not read.
 */
void log_open(const char *ident, bool to_stderr);
void log_set_ident(const char *ident);

void log_msg(int level, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* One finished line, unchanged, at the level: session events. */
void log_line(int level, const char *line);

/* Each line of log_line() to somebody else too; NULL: no more. */
void log_tee(void (*tee)(void *arg, const char *line), void *arg);

/* The syslog socket, which a child keeps when it closes the rest; -1: none. */
int log_fd(void);

/* Lines of this process that could not be written so far. */
unsigned long log_lost(void);

#define log_debug(...) log_msg(LOG_DEBUG, __VA_ARGS__)
#define log_info(...) log_msg(LOG_INFO, __VA_ARGS__)
#define log_warn(...) log_msg(LOG_WARNING, __VA_ARGS__)
#define log_error(...) log_msg(LOG_ERR, __VA_ARGS__)

/* Start-up only: log at LOG_CRIT and exit(1). Running code never calls it. */
void fatal(const char *fmt, ...)
	__attribute__((format(printf, 1, 2), noreturn));

#endif
