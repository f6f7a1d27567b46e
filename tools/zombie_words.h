/*
 * zombie_words.h - the evidence against a line, to be read to its owner
 */
#ifndef SALLYPORT_TOOLS_ZOMBIE_WORDS_H
#define SALLYPORT_TOOLS_ZOMBIE_WORDS_H

#include <jansson.h>

/* record: as the daemon shows a line's; thresholds: members suspect, probable
 * and zombie. */
void zombie_words(const json_t *thresholds, const json_t *record);

/* Of the /56 that the line is in, when that has a level: a line, or nothing. */
void zombie_parent_words(const json_t *answer);

#endif
