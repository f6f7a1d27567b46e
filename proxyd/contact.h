/*
 * contact.h - what an accepted connection tells the table of lines
 */
#ifndef SALLYPORT_CONTACT_H
#define SALLYPORT_CONTACT_H

#include "lib/addr.h"

struct conf;
struct table;

/*
 * Count the connection fd of a line (class_index, -1: none) from src to origin:
 * a completed handshake, so it is a voice. is_counted: nfq sees first packets
 * and has counted the attempt.
 */
void contact_note(struct table *t, const struct conf *conf, int class_index,
	int fd, const struct addr *src, const struct addr *origin,
	bool is_counted);

#endif
