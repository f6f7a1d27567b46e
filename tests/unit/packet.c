/*
 * packet.c - unit tests of nfq/packet.c and nfq/syn.c
 *
 * Packets are written as hexadecimal, header by header, and parsed from memory
 * of exactly their size. Every packet that can be read is then cut at every
 * length: what is shorter is never read as something else.
 */
#include "nfq/packet.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "nfq/syn.h"

#define N(a) (sizeof(a) / sizeof((a)[0]))

/* 198.18.3.7 -> 203.0.113.9; 2001:db8:1::7 -> 2001:db8:f::25; NAT64 of the same */
#define ADDR4 "c6120307" "cb007109"
#define SRC6 "20010db8000100000000000000000007"
#define ADDR6 SRC6 "20010db8000f00000000000000000025"
#define NAT64 SRC6 "0064ff9b0000000000000000cb007109"

#define IP4(ihl, total, frag, proto) "4" ihl "00" total "1234" frag "40" \
	proto "0000" ADDR4
#define IP6(payload, next, addrs) "60000000" payload next "40" addrs

/* port 40000 -> 25, sequence 01020304; offset and flags follow */
#define TCP(off, flags) "9c40" "0019" "01020304" "00000000" off "0" flags \
	"faf0" "0000" "0000"
#define LINUX "020405b4" "0402" "080a0000000100000000" "01" "030307"
#define WINDOWS "020405b4" "01" "030308" "01" "01" "0402"
#define APPLE "020405b4" "01" "030306" "01" "01" \
	"080a0000000100000000" "0402" "0000"

struct row {
	const char *name;
	const char *hex;
	enum packet_status status;
	int family;
	const char *dst;
	bool is_syn, is_synack;
	const char *syn;	/* NULL: none */
};

#define LINUX_TEXT "ttl=64 win=64240 mss=1460 scale=7 opt=M,S,T,N,W"

static const struct row rows[] = {
	{ "plain SYN", IP4("5", "003c", "4000", "06") TCP("a", "02") LINUX,
		PACKET_OK, AF_INET, "203.0.113.9:25", true, false, LINUX_TEXT },
	{ "Windows", IP4("5", "0034", "4000", "06") TCP("8", "02") WINDOWS,
		PACKET_OK, AF_INET, "203.0.113.9:25", true, false,
		"ttl=64 win=64240 mss=1460 scale=8 opt=M,N,W,N,N,S" },
	{ "Apple", IP4("5", "0040", "4000", "06") TCP("b", "02") APPLE,
		PACKET_OK, AF_INET, "203.0.113.9:25", true, false,
		"ttl=64 win=64240 mss=1460 scale=6 opt=M,N,W,N,N,T,S" },
	{ "no options", IP4("5", "0028", "0000", "06") TCP("5", "02"),
		PACKET_OK, AF_INET, "203.0.113.9:25", true, false,
		"ttl=64 win=64240 mss=0 scale=- opt=-" },
	{ "ECN SYN", IP4("5", "0028", "0000", "06") TCP("5", "c2"),
		PACKET_OK, AF_INET, "203.0.113.9:25", true, false,
		"ttl=64 win=64240 mss=0 scale=- opt=-" },
	{ "option of length 0", IP4("5", "002c", "0000", "06") TCP("6", "02")
		"02000000", PACKET_OK, AF_INET, "203.0.113.9:25", true, false,
		"ttl=64 win=64240 mss=0 scale=- opt=-" },
	{ "option beyond the header", IP4("5", "002c", "0000", "06")
		TCP("6", "02") "01010208", PACKET_OK, AF_INET,
		"203.0.113.9:25", true, false,
		"ttl=64 win=64240 mss=0 scale=- opt=N,N" },
	{ "option without its length", IP4("5", "002c", "0000", "06")
		TCP("6", "02") "01010102", PACKET_OK, AF_INET,
		"203.0.113.9:25", true, false,
		"ttl=64 win=64240 mss=0 scale=- opt=N,N,N" },
	{ "more than eight options", IP4("5", "0034", "0000", "06")
		TCP("8", "02") "010101010101010101010101", PACKET_OK, AF_INET,
		"203.0.113.9:25", true, false,
		"ttl=64 win=64240 mss=0 scale=- opt=N,N,N,N,N,N,N,N" },
	{ "scale above 14", IP4("5", "002c", "0000", "06") TCP("6", "02")
		"0303ff00", PACKET_OK, AF_INET, "203.0.113.9:25", true, false,
		"ttl=64 win=64240 mss=0 scale=14 opt=W" },
	{ "SYN+ACK", IP4("5", "0028", "0000", "06") TCP("5", "12"),
		PACKET_OK, AF_INET, "203.0.113.9:25", false, true, NULL },
	{ "SYN+FIN", IP4("5", "0028", "0000", "06") TCP("5", "03"),
		PACKET_OK, AF_INET, "203.0.113.9:25", false, false, NULL },
	{ "SYN+RST", IP4("5", "0028", "0000", "06") TCP("5", "06"),
		PACKET_OK, AF_INET, "203.0.113.9:25", false, false, NULL },
	{ "ACK", IP4("5", "0028", "0000", "06") TCP("5", "10"),
		PACKET_OK, AF_INET, "203.0.113.9:25", false, false, NULL },
	{ "IPv4 options", IP4("7", "0030", "0000", "06") "0101010101010100"
		TCP("5", "02"), PACKET_OK, AF_INET, "203.0.113.9:25", true,
		false, "ttl=64 win=64240 mss=0 scale=- opt=-" },
	{ "octets behind the packet", IP4("5", "0028", "0000", "06")
		TCP("5", "02") "ffffffff", PACKET_OK, AF_INET,
		"203.0.113.9:25", true, false,
		"ttl=64 win=64240 mss=0 scale=- opt=-" },
	{ "first fragment, whole header", IP4("5", "0028", "2000", "06")
		TCP("5", "02"), PACKET_OK, AF_INET, "203.0.113.9:25", true,
		false, "ttl=64 win=64240 mss=0 scale=- opt=-" },
	{ "first fragment, header cut", IP4("5", "001c", "2000", "06")
		"9c40001901020304", PACKET_FRAGMENT, 0, NULL, false, false,
		NULL },
	{ "first fragment, options cut", IP4("5", "0028", "2000", "06")
		TCP("a", "02"), PACKET_FRAGMENT, 0, NULL, false, false, NULL },
	{ "later fragment", IP4("5", "0028", "2001", "06") TCP("5", "02"),
		PACKET_FRAGMENT, 0, NULL, false, false, NULL },
	{ "UDP", IP4("5", "0028", "0000", "11") TCP("5", "02"),
		PACKET_OTHER, 0, NULL, false, false, NULL },
	{ "header length below 20", IP4("4", "0028", "0000", "06")
		TCP("5", "02"), PACKET_BAD, 0, NULL, false, false, NULL },
	{ "total below the header", IP4("6", "0014", "0000", "06")
		TCP("5", "02"), PACKET_BAD, 0, NULL, false, false, NULL },
	{ "total cuts the TCP header", IP4("5", "0027", "0000", "06")
		TCP("5", "02"), PACKET_BAD, 0, NULL, false, false, NULL },
	{ "data offset below 5", IP4("5", "0028", "0000", "06")
		TCP("4", "02"), PACKET_BAD, 0, NULL, false, false, NULL },
	{ "data offset beyond the packet", IP4("5", "0028", "0000", "06")
		TCP("6", "02"), PACKET_BAD, 0, NULL, false, false, NULL },
	{ "options not copied", IP4("5", "003c", "4000", "06") TCP("a", "02"),
		PACKET_OK, AF_INET, "203.0.113.9:25", true, false, NULL },
	{ "version 5", "55000028" "00000000" "40060000" ADDR4 TCP("5", "02"),
		PACKET_BAD, 0, NULL, false, false, NULL },
	{ "IPv6", IP6("0028", "06", ADDR6) TCP("a", "02") LINUX, PACKET_OK,
		AF_INET6, "[2001:db8:f::25]:25", true, false, LINUX_TEXT },
	{ "IPv6 NAT64 stays as sent", IP6("0014", "06", NAT64) TCP("5", "02"),
		PACKET_OK, AF_INET6, "[64:ff9b::cb00:7109]:25", true, false,
		"ttl=64 win=64240 mss=0 scale=- opt=-" },
	{ "IPv6 hop-by-hop, routing, destination", IP6("0034", "00", ADDR6)
		"2b00000000000000" "3c01000000000000" "0000000000000000"
		"0600000000000000" TCP("5", "02"), PACKET_OK, AF_INET6,
		"[2001:db8:f::25]:25", true, false,
		"ttl=64 win=64240 mss=0 scale=- opt=-" },
	{ "IPv6 atomic fragment", IP6("001c", "2c", ADDR6)
		"0600000000000001" TCP("5", "02"), PACKET_OK, AF_INET6,
		"[2001:db8:f::25]:25", true, false,
		"ttl=64 win=64240 mss=0 scale=- opt=-" },
	{ "IPv6 first fragment", IP6("001c", "2c", ADDR6) "0600000100000001"
		TCP("5", "02"), PACKET_OK, AF_INET6, "[2001:db8:f::25]:25",
		true, false, "ttl=64 win=64240 mss=0 scale=- opt=-" },
	{ "IPv6 first fragment, header cut", IP6("0010", "2c", ADDR6)
		"0600000100000001" "9c40001901020304", PACKET_FRAGMENT, 0,
		NULL, false, false, NULL },
	{ "IPv6 later fragment", IP6("001c", "2c", ADDR6) "0600000900000001"
		TCP("5", "02"), PACKET_FRAGMENT, 0, NULL, false, false, NULL },
	{ "IPv6 authentication header", IP6("002c", "33", ADDR6)
		"060400000000000000000000" "000000000000000000000000"
		TCP("5", "02"), PACKET_OK, AF_INET6, "[2001:db8:f::25]:25",
		true, false, "ttl=64 win=64240 mss=0 scale=- opt=-" },
	{ "IPv6 extension beyond the packet", IP6("0014", "3c", ADDR6)
		"0602000000000000" "0000000000000000" "00000000",
		PACKET_BAD, 0, NULL, false, false, NULL },
	{ "IPv6 nine extensions", IP6("005c", "00", ADDR6)
		"3c00000000000000" "3c00000000000000" "3c00000000000000"
		"3c00000000000000" "3c00000000000000" "3c00000000000000"
		"3c00000000000000" "3c00000000000000" "0600000000000000"
		TCP("5", "02"), PACKET_BAD, 0, NULL, false, false, NULL },
	{ "IPv6 no next header", IP6("0000", "3b", ADDR6), PACKET_OTHER, 0,
		NULL, false, false, NULL },
	{ "IPv6 ICMP", IP6("0008", "3a", ADDR6) "8000000000000000",
		PACKET_OTHER, 0, NULL, false, false, NULL },
	{ "IPv6 jumbogram", IP6("0000", "00", ADDR6) "06c2040001000000"
		TCP("5", "02"), PACKET_CUT, 0, NULL, false, false, NULL },
	{ "empty", "", PACKET_CUT, 0, NULL, false, false, NULL },
};

/* Memory of exactly the size, so that a sanitizer sees one octet too many. */
static uint8_t *
unhex(const char *hex, size_t *n_r)
{
	size_t n = strlen(hex) / 2;
	uint8_t *p = malloc(n != 0 ? n : 1);

	assert_non_null(p);
	assert_int_equal(strlen(hex) % 2, 0);
	for (size_t i = 0; i < n; i++) {
		const char digits[3] = { hex[2 * i], hex[2 * i + 1] };
		char *end;

		p[i] = (uint8_t)strtoul(digits, &end, 16);
		assert_int_equal(*end, '\0');
	}
	*n_r = n;
	return p;
}

static void
check_row(const struct row *row)
{
	char text[SYN_STRLEN], dst[ADDR_STRLEN];
	struct packet p;
	size_t n;
	uint8_t *data = unhex(row->hex, &n);

	print_message("%s\n", row->name);
	assert_int_equal(packet_parse(data, n, &p), row->status);
	assert_int_equal(p.src.family, row->family);
	assert_int_equal(p.dst.family, row->family);
	assert_int_equal(p.is_syn, row->is_syn);
	assert_int_equal(p.is_synack, row->is_synack);
	assert_string_equal(syn_format(p.syn, text),
		row->syn != NULL ? row->syn : "-");
	if (row->status == PACKET_OK) {
		assert_string_equal(addr_format_port(&p.dst, dst), row->dst);
		assert_int_equal(p.src.port, 40000);
		assert_int_equal(p.seq, 0x01020304);
	} else {
		static const struct packet nothing;

		assert_memory_equal(&p, &nothing, sizeof(p));
	}
	free(data);
}

static void
table_of_packets(void **state)
{
	(void)state;
	for (size_t i = 0; i < N(rows); i++)
		check_row(&rows[i]);
}

/* Cut short, a packet is unreadable or the same packet without its options. */
static void
cuts(void **state)
{
	(void)state;
	for (size_t i = 0; i < N(rows); i++) {
		struct packet whole, part;
		size_t n;
		uint8_t *data = unhex(rows[i].hex, &n);

		packet_parse(data, n, &whole);
		for (size_t len = 0; len < n; len++) {
			uint8_t *short_data = malloc(len != 0 ? len : 1);
			enum packet_status status;

			assert_non_null(short_data);
			memcpy(short_data, data, len);
			status = packet_parse(short_data, len, &part);
			free(short_data);
			if (status != PACKET_OK)
				continue;
			assert_int_equal(rows[i].status, PACKET_OK);
			assert_true(part.syn == whole.syn || part.syn == 0);
			part.syn = whole.syn;
			assert_memory_equal(&part, &whole, sizeof(part));
		}
		free(data);
	}
}

static void
ttl_classes(void **state)
{
	static const struct { uint8_t ttl, class; } want[] = {
		{ 1, 32 }, { 32, 32 }, { 33, 64 }, { 57, 64 }, { 64, 64 },
		{ 65, 128 }, { 128, 128 }, { 129, 255 }, { 255, 255 },
	};
	const uint8_t tcp[20] = { [12] = 0x50, [13] = 2 };
	struct syn s;

	(void)state;
	for (size_t i = 0; i < N(want); i++) {
		assert_int_equal(syn_unpack(syn_of(want[i].ttl, tcp, 20), &s),
			0);
		assert_int_equal(s.ttl, want[i].class);
	}
	assert_int_equal(syn_unpack(0, &s), -1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(table_of_packets),
		cmocka_unit_test(cuts),
		cmocka_unit_test(ttl_classes),
	};

	return cmocka_run_group_tests_name("packet", tests, NULL, NULL);
}
