/*
 * detect.h - what the counts of one line mean: scores, voices, a level
 *
 * Pure arithmetic on one record of the table: no clock, no log, no lock, O(1).
 * The relays and nfq feed it, one call an observation; the same code runs in
 * `sallyport simulate`. Every kind of evidence has a CUSUM (DETECTION.md 1):
 *
 *     S = max(0, S + (bad ? ln(t1/t0) : ln((1-t1)/(1-t0))))
 *
 * in 1/256, with t0 and t1 from the configuration. The rules that make levels
 * of scores, each a sentence:
 *
 *  1. suspect: a score reached zombie.suspect.
 *  2. probable: a score reached zombie.probable, or two groups are suspect.
 *     Groups: network (first contact), replies (unknown user, refusal), speech
 *     (null sender, HELO).
 *  3. zombie: a score reached zombie.zombie and there is a second voice: another
 *     group that is suspect or, for first contact, the rate: sessions within
 *     four minutes at zombie.rate_attempts an hour, or destinations in this
 *     hour over zombie.rate_destinations.
 *  4. HELO alone stops at suspect; beside another suspect group it may lead.
 *  5. A first contact counts when three other destinations were seen in this
 *     hour or the last: who talks to one or two servers has no pattern to leave.
 *  6. A destination's network gives at most five bad replies an hour (then its
 *     good ones count no more either), and replies lift above suspect, or are a
 *     second voice, only when three
 *     networks (of five groups they are hashed into) refused in this hour.
 *  7. A line most of whose latest outcomes (7/10 of about 50, at least five) were
 *     acceptances stays suspect; probable when its speech is suspect too.
 *  8. What is heard and not a voice (no completed handshake) has a score of its
 *     own, which ends at suspect and gives way to the line's first voice.
 *  9. After zombie.decay hours without a bad event scores begin at 0 again, and
 *     the level loses a step; that of a line of rule 7 loses one a day anyhow.
 *
 * 5, 6 (three networks), 7 (suspect, not probable) and the four minutes of 3 go
 * beyond DETECTION.md: without them a printer that dials its one server every
 * few hours and says `localhost` is a zombie, one hostile server makes a line
 * probable (5 x 1.95 = 9.7), a mail server at home is probable every day, and a
 * bot of 1,500 sessions an hour is named after 150 and not after 20.
 *
 * A taken-over relay can write any score (table.h): control alone sets levels,
 * from the record, and says so with the numbers.
 */
#ifndef SALLYPORT_DETECT_H
#define SALLYPORT_DETECT_H

#include <stdbool.h>
#include <stdint.h>

#include "zombie/table.h"

struct zombie_conf;

/* In the low byte of a word of the levels region. */
enum level { LEVEL_CLEAN, LEVEL_SUSPECT, LEVEL_PROBABLE, LEVEL_ZOMBIE };
extern const char *const level_name[LEVEL_ZOMBIE + 1];
extern const char *const evidence_name[EVIDENCE_COUNT];

/* Scores are in 1/256; none goes further than this above zombie.zombie. */
#define SCORE_ONE 256
#define SCORE_ABOVE (4 * SCORE_ONE)

/* OFF: nothing is counted; LOG: counted and scored, but no part in levels. */
enum kind_mode { KIND_OFF, KIND_LOG, KIND_COUNT };

/* The configuration as the hot path wants it; one a process. */
struct detect {
	struct {
		enum kind_mode mode;
		int16_t up, down;	/* added for bad and good; down < 0 */
	} kind[EVIDENCE_COUNT];
	int16_t suspect, probable, zombie;
	uint8_t pace;			/* sessions in four minutes */
	unsigned spread;		/* bits of a map: rate_destinations */
	uint16_t decay;			/* hours; 0: never */
};

void detect_load(struct detect *d, const struct zombie_conf *z);

/*
 * One observation. DEFERRED is bad for the score but no outcome: the server
 * said 4xx, and who comes back later may be accepted. A remote reply feeds one
 * kind (550 5.1.1: unknown user, and not refusal); our own answers feed none.
 * GOOD for refusal is a session in which the server took a recipient, or for
 * one that cannot be read its greeting.
 */
enum mark { MARK_GOOD, MARK_BAD, MARK_DEFERRED };

/*
 * Feed one observation of any kind but EVIDENCE_CONTACT, whose destination is
 * dst (only replies look at it), now = table_now(). is_voice: the handshake was
 * completed. Returns the level that this event has lifted the record to, or
 * LEVEL_CLEAN when it lifted nothing: the caller tells control, which confirms.
 */
enum level detect_event(const struct detect *d, struct table *t,
	struct line_record *r, enum evidence kind, enum mark mark,
	const struct addr *dst, uint32_t now, bool is_voice);

/*
 * table_contact() and the score of it: its arguments and result, and in
 * *lifted_r what detect_event() returns. This is the one call for a session or
 * a first packet whose destination counts.
 */
int detect_contact(const struct detect *d, struct table *t,
	struct line_record *r, uint32_t now, const struct addr *dst,
	uint32_t tuple, bool is_voice, enum level *lifted_r);

/*
 * The argument of HELO: is_bad says what its text alone says (not a name or
 * literal, `localhost`, another's name, speech before the greeting); a line that
 * has already used three other names gets a bad one for each new one.
 */
enum level detect_helo(const struct detect *d, struct table *t,
	struct line_record *r, const void *name, size_t len, bool is_bad,
	const struct addr *dst, uint32_t now);

/* What the record says at this moment: the rules above. */
enum level detect_level(const struct detect *d, const struct line_record *r,
	uint32_t now);

/* A level set at `since` and what is left of it now (rule 9). */
enum level detect_decay(const struct detect *d, const struct line_record *r,
	enum level level, uint32_t since, uint32_t now);

/* What line_record.bad_hour keeps; 0 means never, so hours begin at 1. */
uint16_t detect_hour(uint32_t now);

/* Scores, outcomes and refusals begin at 0: an operator has cleared the line, or
 * its time is over. Counts of what was seen stay. */
void detect_forgive(struct line_record *r);

/* Is there a second voice of the network: rule 3's rate. */
bool detect_is_fast(const struct detect *d, const struct line_record *r,
	uint32_t now);

/* Recent outcomes: acceptances among how many (about 50 at most). */
unsigned detect_outcomes(const struct line_record *r, unsigned *accepted_r);

/*
 * IPv6 lines of /64: should the parent be raised, a bot may hop? From the
 * number of its children that are suspect or more.
 */
bool detect_parent(unsigned suspect_children);

/*
 * Add what is known of one line to a record of nobody's (zeroed before the first),
 * as if all of it had been one line's: scores, counts and outcomes add up, maps of
 * the windows of now are joined. Left out: what was only heard (scores below 0),
 * customer, retransmissions, return path.
 */
void detect_join(const struct detect *d, struct line_record *sum,
	const struct line_record *r, uint32_t now);

#endif
