/*
 * zombie_words.h - the evidence against a line, to be read to its owner
 */
#ifndef SALLYPORT_TOOLS_ZOMBIE_WORDS_H
#define SALLYPORT_TOOLS_ZOMBIE_WORDS_H

#include <jansson.h>

/* record: as the daemon shows a line's; thresholds: members suspect, probable
 * and zombie. */
void zombie_words(const json_t *thresholds, const json_t *record);

#endif
