/*
 * ledger_read.h - the ledger for the command line, running daemon or not
 */
#ifndef SALLYPORT_TOOLS_LEDGER_READ_H
#define SALLYPORT_TOOLS_LEDGER_READ_H

#include "conf/conf.h"
#include "proxyd/ledger.h"

/*
 * Tell every entry, then the lines that those of customers stand for. Reads the
 * file itself when it may, else asks the daemon.
 * An exit status: 0 done (also when there is no ledger yet), 1 with the reason
 * on standard error, 3 neither way was open.
 */
int ledger_read(const struct conf *c, const char *config,
	void (*each)(void *arg, const struct ledger_entry *e), void *arg);

/*
 * Let a function read the ledger, with the rights of the file's owner. What it
 * returns (0 or -1, why in text); 1: there is no ledger yet; -1 not readable.
 */
int ledger_with(const struct conf *c, int (*use)(struct ledger *l, void *arg),
	void *arg, char why[200]);

/* Attach the entries to c->ledger, for rules and policy; the map is in *map_r,
 * the caller's. As above, but an unreadable ledger is only warned about. */
void ledger_attach(struct conf *c, const char *config, struct allowmap **map_r);

#endif
