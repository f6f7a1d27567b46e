/*
 * cmd.h - the subcommands of sallyport(8)
 *
 * Each gets the words behind its own name (argv[0] is the last word of the
 * name), the configuration file and whether JSON was asked for, prints to
 * stdout and stderr and returns the exit status: 0 ok, 1 failed or differs,
 * 2 usage or configuration.
 */
#ifndef SALLYPORT_TOOLS_CMD_H
#define SALLYPORT_TOOLS_CMD_H

#include <stdbool.h>

/* cmd_rules.c */
int cmd_rules_show(int argc, char **argv, const char *config, bool json);
int cmd_rules_apply(int argc, char **argv, const char *config, bool json);
int cmd_rules_verify(int argc, char **argv, const char *config, bool json);
int cmd_rules_remove(int argc, char **argv, const char *config, bool json);

/* cmd_bypass.c */
int cmd_bypass(int argc, char **argv, const char *config, bool json);
int cmd_bypass_list(int argc, char **argv, const char *config, bool json);
int cmd_bypass_end(int argc, char **argv, const char *config, bool json);

/* cmd_check.c: "--defaults" and "--man" may follow */
int cmd_check(int argc, char **argv, const char *config, bool json);

/* cmd_status.c: ask the running daemon */
int cmd_status(int argc, char **argv, const char *config, bool json);
int cmd_reload(int argc, char **argv, const char *config, bool json);
int cmd_healthy(int argc, char **argv, const char *config, bool json);

/* cmd_plan.c */
int cmd_plan(int argc, char **argv, const char *config, bool json);

/* cmd_probe.c */
int cmd_probe(int argc, char **argv, const char *config, bool json);

/* cmd_lease.c */
int cmd_lease_bind(int argc, char **argv, const char *config, bool json);
int cmd_lease_release(int argc, char **argv, const char *config, bool json);

/* cmd_zombie.c */
int cmd_zombies(int argc, char **argv, const char *config, bool json);
int cmd_zombie_show(int argc, char **argv, const char *config, bool json);
int cmd_zombie_clear(int argc, char **argv, const char *config, bool json);
int cmd_zombie_pin(int argc, char **argv, const char *config, bool json);
int cmd_zombie_add(int argc, char **argv, const char *config, bool json);

/* cmd_events.c */
int cmd_events(int argc, char **argv, const char *config, bool json);

/* cmd_report.c */
int cmd_report(int argc, char **argv, const char *config, bool json);

/* cmd_complaint.c */
int cmd_complaint(int argc, char **argv, const char *config, bool json);

/* cmd_why.c */
int cmd_why(int argc, char **argv, const char *config, bool json);

/* cmd_simulate.c */
int cmd_simulate(int argc, char **argv, const char *config, bool json);

/* cmd_allow.c */
int cmd_allow_add(int argc, char **argv, const char *config, bool json);
int cmd_allow_del(int argc, char **argv, const char *config, bool json);
int cmd_allow_list(int argc, char **argv, const char *config, bool json);
int cmd_allow_import(int argc, char **argv, const char *config, bool json);
int cmd_allow_export(int argc, char **argv, const char *config, bool json);
int cmd_allow_audit(int argc, char **argv, const char *config, bool json);

#endif
