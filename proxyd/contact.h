/*
 * contact.h - what an accepted connection tells the table of lines
 */
#ifndef SALLYPORT_CONTACT_H
#define SALLYPORT_CONTACT_H

#include "lib/addr.h"
#include "zombie/detect.h"

struct conf;

/*
 * Count the connection fd of a line (class_index, -1: none) from src to origin:
 * a completed handshake, so it is a voice. is_counted: nfq sees first packets
 * and has counted the attempt. Returns the level that
 * this has lifted the line's record to, or LEVEL_CLEAN (zombie/detect.h).
 */
enum level contact_note(struct table *t, const struct detect *d, const struct conf *conf, int class_index,
	int fd, const struct addr *src, const struct addr *origin,
	bool is_counted);

#endif
