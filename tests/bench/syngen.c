/*
 * syngen.c - many SYNs from many lines, by AF_PACKET, and a count of arrivals
 *
 *	syngen send IFACE MAC DST LINES COUNT RATE
 *	syngen check IFACE DST LINES COUNT
 *	syngen forge IFACE MAC VICTIM syn|answer COUNT RATE
 *
 * send: COUNT (0: until killed) SYNs to DST port 25, with source addresses
 * from the first LINES of 10.0.0.0/12 in pseudo-random order, each with another
 * port and sequence number, RATE a second (0: as fast as the machine can). It
 * prints how many the interface took.
 *
 * forge: what a neighbour or an outsider can send in a line's name. syn: SYNs from
 * VICTIM to port 25 of pseudo-random hosts of 203.64.0.0/10; answer: SYN+ACKs from
 * there to VICTIM.
 *
 * check: at the other end. Takes COUNT packets and looks at each: length, IP
 * and TCP checksum, source among the LINES, destination, flags. Prints "ok" and
 * the number of distinct lines, or what was wrong. A generator whose checksums
 * are wrong measures how fast a machine throws packets away.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BATCH 64
#define IP_AT 14
#define TCP_AT (IP_AT + 20)
#define TCP_LEN 40
#define FRAME (TCP_AT + TCP_LEN)

static uint64_t seed;

static uint32_t
chance(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)(seed >> 16);
}

static void
put32(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 24);
	p[1] = (uint8_t)(v >> 16);
	p[2] = (uint8_t)(v >> 8);
	p[3] = (uint8_t)v;
}

static uint32_t
sum16(const uint8_t *p, size_t n, uint32_t sum)
{
	for (size_t i = 0; i + 1 < n; i += 2)
		sum += (uint32_t)p[i] << 8 | p[i + 1];
	return sum;
}

static uint16_t
fold(uint32_t sum)
{
	while (sum >> 16 != 0)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

static uint16_t
tcp_sum(const uint8_t *f)
{
	return fold(sum16(f + TCP_AT, TCP_LEN,
		sum16(f + IP_AT + 12, 8, 6 + TCP_LEN)));
}

static void
put16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

/* What is the same in every frame. */
static void
template(uint8_t *f, const uint8_t mac[6], const struct in_addr *dst)
{
	static const uint8_t options[20] = { 2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0,
		0, 1, 0, 0, 0, 0, 1, 3, 3, 7 };

	memset(f, 0, FRAME);
	memcpy(f, mac, 6);
	f[6] = 2;		/* a local address of our own */
	put16(f + 12, ETH_P_IP);
	f[IP_AT] = 0x45;
	put16(f + IP_AT + 2, 20 + TCP_LEN);
	f[IP_AT + 6] = 0x40;
	f[IP_AT + 8] = 64;
	f[IP_AT + 9] = 6;
	memcpy(f + IP_AT + 16, dst, 4);
	put16(f + TCP_AT + 2, 25);
	f[TCP_AT + 12] = TCP_LEN / 4 << 4;
	f[TCP_AT + 13] = 2;
	put16(f + TCP_AT + 14, 64240);
	memcpy(f + TCP_AT + 20, options, sizeof(options));
}

/* Whose packets they are. */
struct sender {
	uint32_t lines;		/* of so many; 0: in a victim's name */
	struct in_addr victim;
	bool is_answer;		/* towards the victim */
};

static void
vary(uint8_t *f, const struct sender *s)
{
	uint16_t port = (uint16_t)(1024 + chance() % 60000);
	uint32_t host = 0xcb400000u + chance() % (1u << 22);

	if (s->lines > 0)
		put32(f + IP_AT + 12, 0x0a000000u + chance() % s->lines);
	else {
		memcpy(f + IP_AT + (s->is_answer ? 16 : 12), &s->victim, 4);
		put32(f + IP_AT + (s->is_answer ? 12 : 16), host);
	}
	put16(f + TCP_AT, s->is_answer ? 25 : port);
	put16(f + TCP_AT + 2, s->is_answer ? port : 25);
	put32(f + TCP_AT + 4, chance());
	if (s->is_answer) {
		put32(f + TCP_AT + 8, chance());
		f[TCP_AT + 13] = 0x12;
	}
	put16(f + IP_AT + 10, 0);
	put16(f + IP_AT + 10, fold(sum16(f + IP_AT, 20, 0)));
	put16(f + TCP_AT + 16, 0);
	put16(f + TCP_AT + 16, tcp_sum(f));
}

static int
open_packet(const char *name, uint16_t protocol)
{
	struct sockaddr_ll at = { .sll_family = AF_PACKET,
		.sll_protocol = htons(protocol),
		.sll_ifindex = (int)if_nametoindex(name) };
	int fd = socket(AF_PACKET, SOCK_RAW, htons(protocol)), one = 1,
		octets = 16 << 20;

	if (fd < 0 || at.sll_ifindex == 0 ||
		bind(fd, (struct sockaddr *)&at, sizeof(at)) != 0) {
		perror(name);
		exit(1);
	}
	if (protocol == 0)
		(void)setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one,
			sizeof(one));
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &octets,
		sizeof(octets));
	return fd;
}

static double
seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Keep to the rate: wait until this many should have been sent. */
static void
pace(double began, double rate, uint64_t sent)
{
	double ahead = began + (double)sent / rate - seconds();
	struct timespec t;

	if (rate <= 0 || ahead <= 0)
		return;
	t.tv_sec = (time_t)ahead;
	t.tv_nsec = (long)((ahead - (double)t.tv_sec) * 1e9);
	nanosleep(&t, NULL);
}

static int
send_syns(int fd, const uint8_t mac[6], const struct in_addr *dst,
	const struct sender *s, uint64_t count, double rate)
{
	static uint8_t frame[BATCH][FRAME];
	static struct mmsghdr header[BATCH];
	static struct iovec iov[BATCH];
	/* small bursts at a given rate: a line does not send 64 at once */
	unsigned burst = rate > 0 ? 8 : BATCH;
	double began = seconds();
	uint64_t sent = 0;

	/* two runs must not send each other's retransmissions; never 0 */
	seed = (uint64_t)(began * 1e9) * UINT64_C(0x9e3779b97f4a7c15) | 1;
	for (unsigned i = 0; i < BATCH; i++) {
		template(frame[i], mac, dst);
		iov[i] = (struct iovec){ frame[i], FRAME };
		header[i].msg_hdr.msg_iov = &iov[i];
		header[i].msg_hdr.msg_iovlen = 1;
	}
	while (count == 0 || sent < count) {
		unsigned want = burst;
		int n;

		if (count != 0 && count - sent < want)
			want = (unsigned)(count - sent);
		for (unsigned i = 0; i < want; i++)
			vary(frame[i], s);
		n = sendmmsg(fd, header, want, 0);
		if (n < 0 && errno != ENOBUFS && errno != EINTR) {
			perror("sendmmsg");
			return 1;
		}
		sent += n > 0 ? (uint64_t)n : 0;
		pace(began, rate, sent);
	}
	printf("sent %llu\n", (unsigned long long)sent);
	return 0;
}

/* What is wrong with a frame, or NULL. */
static const char *
fault(const uint8_t *f, size_t n, const struct in_addr *dst, uint32_t lines)
{
	uint32_t src = (uint32_t)f[IP_AT + 12] << 24 |
		(uint32_t)f[IP_AT + 13] << 16 | (uint32_t)f[IP_AT + 14] << 8 |
		f[IP_AT + 15];

	if (n != FRAME)
		return "length";
	if (fold(sum16(f + IP_AT, 20, 0)) != 0)
		return "IP checksum";
	if (tcp_sum(f) != 0)
		return "TCP checksum";
	if (src - 0x0a000000u >= lines)
		return "source";
	if (memcmp(f + IP_AT + 16, dst, 4) != 0 || f[TCP_AT + 3] != 25)
		return "destination";
	return f[TCP_AT + 13] != 2 ? "flags" : NULL;
}

static int
check_syns(int fd, const struct in_addr *dst, uint32_t lines, uint64_t count)
{
	static uint8_t seen[1 << 20], f[2048];
	uint64_t got = 0, distinct = 0;

	puts("ready");
	fflush(stdout);
	while (got < count) {
		ssize_t n = recv(fd, f, sizeof(f), 0);
		const char *why;
		uint32_t line;

		if (n < FRAME || f[IP_AT + 9] != 6)
			continue;	/* neighbour discovery and the like */
		why = fault(f, (size_t)n, dst, lines);
		if (why != NULL) {
			printf("bad %s in packet %llu\n", why,
				(unsigned long long)got);
			return 1;
		}
		line = ((uint32_t)f[IP_AT + 13] & 15) << 16 |
			(uint32_t)f[IP_AT + 14] << 8 | f[IP_AT + 15];
		distinct += !seen[line];
		seen[line] = 1;
		got++;
	}
	printf("ok %llu packets, %llu lines\n", (unsigned long long)got,
		(unsigned long long)distinct);
	return 0;
}

static uint32_t
lines_of(const char *text)
{
	unsigned long n = strtoul(text, NULL, 10);

	if (n < 1 || n > 1 << 20) {
		fprintf(stderr, "syngen: 1 to 1048576 lines\n");
		exit(2);
	}
	return (uint32_t)n;
}

static int
mac_parse(const char *text, uint8_t mac_r[6])
{
	for (int i = 0; i < 6; i++) {
		char *end;

		mac_r[i] = (uint8_t)strtoul(text, &end, 16);
		if (end == text || *end != (i < 5 ? ':' : '\0'))
			return -1;
		text = end + 1;
	}
	return 0;
}

int
main(int argc, char **argv)
{
	struct sender s = { 0 };
	struct in_addr dst;
	uint8_t to[6];

	if (argc == 6 && strcmp(argv[1], "check") == 0 &&
		inet_pton(AF_INET, argv[3], &dst) == 1)
		return check_syns(open_packet(argv[2], ETH_P_IP), &dst,
			lines_of(argv[4]), strtoull(argv[5], NULL, 10));
	if (argc != 8 || (strcmp(argv[1], "send") != 0 &&
		    strcmp(argv[1], "forge") != 0) ||
		inet_pton(AF_INET, argv[4], &dst) != 1 ||
		mac_parse(argv[3], to) != 0) {
		fprintf(stderr, "usage: syngen send IFACE MAC DST LINES COUNT "
			"RATE | check IFACE DST LINES COUNT | forge IFACE MAC "
			"VICTIM syn|answer COUNT RATE\n");
		return 2;
	}
	s.victim = dst;
	s.is_answer = strcmp(argv[5], "answer") == 0;
	if (strcmp(argv[1], "send") == 0)
		s.lines = lines_of(argv[5]);
	return send_syns(open_packet(argv[2], 0), to, &dst, &s,
		strtoull(argv[6], NULL, 10), strtod(argv[7], NULL));
}
