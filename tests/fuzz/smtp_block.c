/*
 * smtp_block.c - fuzz target: a client that is refused
 *
 * Records as tests/drive.h reads them; the server's are ignored, for there is
 * none. Bit 0 of the first octet: the line is refused at EHLO; bits 1 and 2: the
 * stage; bit 3: soft. Every line we say is a reply of at most 512 octets.
 */
#include <stdint.h>

#include "tests/drive.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *text[] = { (char[]){ "Port 25 is closed on this line." },
	(char[]){ "You are {client}, this is {event}." } };

static struct block_conf block = {
	.stage = BLOCK_ADAPTIVE, .code = 550, .esc = "5.7.1",
	.text = text, .ntext = 2,
};

static void
check_replies(const struct drive_bytes *b)
{
	size_t at = 0;

	while (at < b->len) {
		struct line l;

		DRIVE_CHECK(frame_line(b->p + at, b->len - at, &l) == 1);
		DRIVE_CHECK(l.flags == 0 && l.total <= 512 && l.len >= 4);
		DRIVE_CHECK(l.text[0] >= '2' && l.text[0] <= '5');
		DRIVE_CHECK(l.text[3] == ' ' || l.text[3] == '-');
		for (size_t i = 0; i < l.len; i++)
			DRIVE_CHECK(l.text[i] >= ' ' && l.text[i] < 0x7f);
		at += l.total;
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct context x = { .gateway = "gw1", .block = &block, .id = "ID0",
		.client = "198.18.3.7" };
	struct drive d;

	if (size == 0)
		return 0;
	x.refuse_at_ehlo = data[0] & 1;
	block.stage = (enum block_stage)(data[0] >> 1 & 3);
	x.is_soft = data[0] & 8;
	drive_open(&d);
	smtp_block_init(&d.m, &x);
	drive_records(&d, data + 1, size - 1);
	DRIVE_CHECK(d.out[SERVER].len == 0);
	check_replies(&d.out[CLIENT]);
	drive_close(&d);
	return 0;
}
