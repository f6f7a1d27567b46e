/*
 * nfq_ours.c - the real nfq, with a stand-in for the parent
 *
 * Loads a configuration, makes the line table (filled with as many lines as
 * asked for, of 10.0.0.0/12), binds the queue and forks nfq_main() as the
 * parent does. Then it obeys words on standard input, one a line, and answers
 * each with one line: what the parent would do, and what a test wants to know.
 *
 *	ping	"pong", or "silent" after two seconds
 *	counts	"queued=N accepted=N ..."
 *	line A	what the table has of the line of address A
 *	level A HEX	set its level word
 *	drain	ends nfq and says "status N"
 *	start	another one on the same queue: "pid N"
 *	steal	takes a packet as one that dies does: "stolen" or "nothing"
 *	shut	closes the queue's descriptor here: "shut"
 *
 * Used by the lab test of the kernel interface and by the benchmark. At the end
 * of its input it drains nfq and leaves.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "conf/conf.h"
#include "lib/ipc.h"
#include "lib/log.h"
#include "nfq/nfq.h"
#include "nfq/syn.h"
#include "proxyd/msg.h"

#define WAIT_MS 2000

static struct nfq_start start = { .queue_fd = -1, .parent = -1,
	.foreground = true };
static int channel = -1;
static pid_t child;
static bool is_own_queue;	/* nfq binds it, not we */

static void
fill(size_t lines)
{
	size_t lost = 0;

	for (size_t i = 0; i < lines; i++) {
		struct addr a = { .family = AF_INET, .ip = { 10,
			(uint8_t)(i >> 16 & 15), (uint8_t)(i >> 8),
			(uint8_t)i } };
		struct line_key k;

		line_key_of(&a, 56, 0, &k);
		lost += table_enter(start.table, &k,
			table_now(start.table)) == NULL;
	}
	/* a few may find their buckets full; more is another benchmark */
	if (lost > lines / 1000)
		fatal("%zu of %zu lines found no room", lost, lines);
}

static void
start_child(void)
{
	int pair[2];

	if (!is_own_queue && start.queue_fd < 0) {
		start.queue_fd = queue_bind(&start.queue);
		if (start.queue_fd < 0)
			exit(1);
	}
	if (ipc_pair(pair) != 0)
		fatal("ipc_pair: %s", strerror(errno));
	fflush(stdout);
	child = fork();
	if (child < 0)
		fatal("fork: %s", strerror(errno));
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(pair[0]);
		close(0);
		start.parent = pair[1];
		log_set_ident("nfq");
		_exit(nfq_main(&start));
	}
	close(pair[1]);
	if (channel >= 0)
		close(channel);
	channel = pair[0];
}

/* Wait for a message of this type. 0, or -1: none in time, or nfq is gone. */
static int
wait_for(uint32_t type)
{
	struct pollfd p = { .fd = channel, .events = POLLIN };
	int fds[IPC_FDS_MAX], nfds;
	struct msg m;

	while (poll(&p, 1, WAIT_MS) == 1) {
		int rc = ipc_recv(channel, &m, sizeof(m), fds, &nfds);

		if (rc == -1)
			return -1;
		if (rc == 1 && m.type == type)
			return 0;
	}
	return -1;
}

static int
ping(void)
{
	const struct msg m = { .type = MSG_PING, .n = 1 };

	return ipc_send(channel, &m, sizeof(m), NULL, 0) == 1 ?
		wait_for(MSG_PONG) : -1;
}

static int
drain(void)
{
	const struct msg m = { .type = MSG_DRAIN };
	int status = -1;

	if (child <= 0)
		return -1;
	(void)ipc_send(channel, &m, sizeof(m), NULL, 0);
	if (waitpid(child, &status, 0) != child)
		status = -1;
	child = 0;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

static void
tell_counts(void)
{
	const struct nfq_counts *c = start.counts;

	printf("queued=%llu accepted=%llu reset=%llu dropped=%llu "
		"retransmissions=%llu unparseable=%llu overruns=%llu "
		"inherited=%llu errors=%llu batches=%llu\n",
		(unsigned long long)c->queued, (unsigned long long)c->accepted,
		(unsigned long long)c->reset, (unsigned long long)c->dropped,
		(unsigned long long)c->retransmissions,
		(unsigned long long)c->unparseable,
		(unsigned long long)c->overruns,
		(unsigned long long)c->inherited,
		(unsigned long long)c->errors, (unsigned long long)c->batches);
}

static void
tell_line(const struct line_key *k)
{
	const struct line_record *r = table_find(start.table, k);
	char syn[SYN_STRLEN];

	if (r == NULL) {
		puts("none");
		return;
	}
	printf("attempts=%u retransmissions=%u submission=%u back=%u "
		"destinations=%.0f syn=\"%s\"\n", (unsigned)r->attempts,
		(unsigned)r->retransmissions, (unsigned)r->submission,
		(unsigned)r->back, table_destinations(r),
		syn_format(r->syn, syn));
}

static void
on_line(const char *word, const char *address, unsigned long level)
{
	struct line_record *r;
	struct line_key k;
	struct addr a;

	if (addr_parse(&a, address) != 0) {
		puts("what?");
		return;
	}
	line_key_of(&a, 56, 0, &k);
	if (word[1] == 'i') {
		tell_line(&k);
		return;
	}
	r = table_enter(start.table, &k, table_now(start.table));
	puts(r != NULL && table_set_level(start.table, r, &k,
		(uint32_t)level) == 0 ? "set" : "refused");
}

static const char *
steal(void)
{
	uint8_t packet[1024];

	return recv(start.queue_fd, packet, sizeof(packet), MSG_DONTWAIT) > 0 ?
		"stolen" : "nothing";
}

static void
obey(const char *line)
{
	char word[16], address[64], level[16] = "0";
	int words = sscanf(line, "%15s %63s %15s", word, address, level);

	if (words < 1)
		return;
	if (strcmp(word, "ping") == 0)
		puts(ping() == 0 ? "pong" : "silent");
	else if (strcmp(word, "counts") == 0)
		tell_counts();
	else if (strcmp(word, "drain") == 0)
		printf("status %d\n", drain());
	else if (strcmp(word, "start") == 0) {
		start_child();
		printf("pid %d\n", (int)child);
	} else if (strcmp(word, "steal") == 0) {
		puts(steal());
	} else if (strcmp(word, "shut") == 0) {
		if (start.queue_fd >= 0)
			close(start.queue_fd);
		start.queue_fd = -1;
		puts("shut");
	} else if (words > 1)
		on_line(word, address, strtoul(level, NULL, 16));
	else
		puts("what?");
	fflush(stdout);
}

static void __attribute__((noreturn))
usage(const char *name)
{
	fprintf(stderr, "usage: %s -c CONF [-q QUEUE] [-l LINES] [-t SLOTS] "
		"[-m MARK/MASK] [-u USER] [-x MAXLEN] [-r count|drop] [-b]\n",
		name);
	exit(2);
}

static size_t
options(int argc, char **argv, const char **path_r, size_t *lines_r)
{
	size_t slots = 0;
	char *end;
	int o;

	while ((o = getopt(argc, argv, "c:q:l:t:m:u:x:r:b")) != -1) {
		switch (o) {
		case 'c':
			*path_r = optarg;
			break;
		case 'q':
			start.queue.number = (uint16_t)strtoul(optarg, NULL, 10);
			break;
		case 'l':
			*lines_r = strtoul(optarg, NULL, 10);
			break;
		case 't':
			slots = strtoul(optarg, NULL, 10);
			break;
		case 'm':
			start.queue.mark_reset =
				(uint32_t)strtoul(optarg, &end, 0);
			if (*end == '/')
				start.queue.mark_mask =
					(uint32_t)strtoul(end + 1, NULL, 0);
			break;
		case 'u':
			start.user = optarg;
			break;
		case 'x':
			start.queue.maxlen =
				(uint32_t)strtoul(optarg, NULL, 10);
			break;
		case 'r':
			start.return_path = strcmp(optarg, "drop") == 0 ?
				RETURN_DROP : RETURN_COUNT;
			break;
		case 'b':
			is_own_queue = true;
			break;
		default:
			usage(argv[0]);
		}
	}
	return slots > *lines_r ? slots : *lines_r;
}

int
main(int argc, char **argv)
{
	const char *path = NULL;
	size_t lines = 0, slots;
	char line[256];
	int status = 0;

	log_open("driver", true);
	start.queue.number = NFQ_QUEUE;
	start.user = "nobody";
	slots = options(argc, argv, &path, &lines);
	if (path == NULL)
		usage(argv[0]);
	start.conf = conf_load(path, stderr);
	start.table = table_new(slots > 1024 ? slots : 1024);
	start.counts = nfq_counts_new();
	if (start.conf == NULL || start.table == NULL || start.counts == NULL)
		return 1;
	signal(SIGPIPE, SIG_IGN);
	fill(lines);
	start_child();
	if (ping() != 0) {
		/* it said why; hand on its exit status */
		status = drain();
		return status > 0 ? status : 1;
	}
	printf("pid %d\n", (int)child);
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin) != NULL)
		obey(line);
	if (child > 0)
		status = drain();
	return status;
}
