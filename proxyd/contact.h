/*
 * contact.h - what a session tells the table of lines
 *
 * The one door from the protocol machines' evidence (evidence.h) to a line's
 * record (zombie/table.h): contact_evidence() for what happens, contact_habits()
 * at the session's end. A class is a class_index; -1 (no subscriber) and a NULL
 * table do nothing.
 */
#ifndef SALLYPORT_CONTACT_H
#define SALLYPORT_CONTACT_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/addr.h"
#include "zombie/detect.h"

struct conf;
struct machine;
struct table;

/*
 * Count the connection fd of a line from src to origin: a completed handshake,
 * so it is a voice. is_counted: nfq sees first packets and has counted the
 * attempt. 1: first contact; 0: a destination of before; -1: no record.
 */
int contact_note(struct table *t, const struct detect *d,
	const struct conf *conf, int class_index, int fd,
	const struct addr *src, const struct addr *origin, bool is_counted);

/* Take the events out of the machine's notes and give them to the detector. */
void contact_evidence(struct table *t, const struct detect *d,
	const struct conf *conf, int class_index, struct machine *m);

/* The session is over: dialect and sender domains. */
void contact_habits(struct table *t, const struct conf *conf, int class_index,
	const struct machine *m);

/* The key for struct context; the same in all relays. NULL: zeros. */
void contact_key(const struct table *t, uint64_t key[2]);

#endif
