/*
 * report_xarf.h - listings as X-ARF
 */
#ifndef SALLYPORT_TOOLS_REPORT_XARF_H
#define SALLYPORT_TOOLS_REPORT_XARF_H

#include <stdint.h>

#include "conf/conf.h"

/*
 * Lines that became zombies since a time, one report each: dir NULL, as one object
 * of JSON a line on standard output; else as one mail each in this folder, except
 * those that are there already. The exit status.
 */
int report_xarf(const struct conf *c, int64_t since, const char *dir);

#endif
