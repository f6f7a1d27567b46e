/*
 * replay.h - `sallyport simulate --replay': the detector on recorded evidence
 *
 * replay_read.c  one line of a log, pairs or JSON, as a session's evidence
 * sim_replay.c   the lines and their levels, over a whole file
 */
#ifndef SALLYPORT_TOOLS_REPLAY_H
#define SALLYPORT_TOOLS_REPLAY_H

#include <stdbool.h>
#include <stdint.h>

#include "zombie/detect.h"

/* Longest line of a log; the daemon's own end at 2,560. */
#define REPLAY_LINE_MAX 16384
#define REPLAY_CLASS_MAX 40

enum replay_kind {
	REPLAY_OTHER,		/* nothing of ours, or nothing about evidence */
	REPLAY_SESSION,		/* evidence of a session, or of a summary's */
	REPLAY_LEVEL,		/* what the daemon itself said: level */
	REPLAY_WRONG		/* ours, and damaged: why */
};

struct replay_event {
	enum replay_kind kind;
	char line[LINE_STRLEN], class[REPLAY_CLASS_MAX];	/* "": none */
	int64_t at;		/* session: begin, Unix time */
	unsigned sessions;	/* a summary: how many; else 1 */
	unsigned code;		/* last refusal; 0: none */
	unsigned bad[EVIDENCE_COUNT], all[EVIDENCE_COUNT];
	struct addr dst;	/* family 0: not in the log */
	char helo[256];		/* as it is in the log; "": none */
	enum level level;
	char why[160];
};

/* text: without its line's end; it is cut into words. */
void replay_parse(char *text, struct replay_event *e_r);

/*
 * The whole of a file, or "-": standard input. Prints, as text or JSON, which
 * lines would have had which level and when. 0; 1: some lines are damaged (each
 * said on stderr with file and line, the first ones); 2: it cannot be read.
 */
struct zombie_conf;
int replay_run(const struct zombie_conf *z, const char *path, bool json);

#endif
