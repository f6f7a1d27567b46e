/*
 * table.c - unit tests of the line table: hash, keys, regions, slots
 *
 * The hash against the vectors its authors published; headers that must be
 * refused; levels that cannot be written, shown by the signal a child dies of;
 * which line gives way when buckets are full; a million lines, and an attacker
 * who knows the secret of another table.
 */
#include "zombie/table.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <fcntl.h>
#include <cmocka.h>

#include "zombie/region.h"
#include "zombie/siphash.h"

enum { MILLION = 1000000, COLLIDING = 100000 };

static uint64_t seed = 0x5a11;

static uint32_t
rnd(void)
{
	seed = seed * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)(seed >> 33);
}

static struct line_key
key(uint32_t n)
{
	struct line_key k = { .family = AF_INET, .len = 32 };

	memcpy(k.ip, &n, sizeof(n));
	return k;
}

/* key 00..0f, message 00..(n-1): vectors_sip64 of the reference code */
static void
hash_vectors(void **state)
{
	static const struct {
		size_t n;
		uint64_t want;
	} rows[] = {
		{ 0, 0x726fdb47dd0e0e31u }, { 1, 0x74f839c593dc67fdu },
		{ 2, 0x0d6c8009d9a94f5au }, { 3, 0x85676696d7fb7e2du },
		{ 4, 0xcf2794e0277187b7u }, { 5, 0x18765564cd99a68du },
		{ 6, 0xcbc9466e58fee3ceu }, { 7, 0xab0200f58b01d137u },
		{ 8, 0x93f5f5799a932462u }, { 9, 0x9e0082df0ba9e4b0u },
		{ 12, 0x751e8fbc860ee5fbu }, { 15, 0xa129ca6149be45e5u },
		{ 16, 0x3f2acc7f57c29bdbu }, { 32, 0x7127512f72f27cceu },
	};
	const uint64_t k[2] = { 0x0706050403020100u, 0x0f0e0d0c0b0a0908u };
	uint8_t m[64];

	(void)state;
	for (unsigned i = 0; i < sizeof(m); i++)
		m[i] = (uint8_t)i;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (siphash(k, m, rows[i].n) != rows[i].want)
			fail_msg("SipHash-2-4 of %zu octets", rows[i].n);
}

static void
enter_and_find(void **state)
{
	struct table *t = table_new(1000);
	struct line_key k = key(1), got;
	struct line_record *r;
	size_t at = 0, seen = 0;

	(void)state;
	assert_non_null(t);
	assert_null(table_find(t, &k));
	r = table_enter(t, &k, 7);
	assert_non_null(r);
	assert_ptr_equal(table_find(t, &k), r);
	assert_ptr_equal(table_enter(t, &k, 9), r);
	assert_int_equal(r->first, 7);
	assert_true(table_key(t, r, &got));
	assert_memory_equal(&got, &k, sizeof(k));
	/* what else makes a line another line */
	k.block = 2;
	assert_null(table_find(t, &k));
	assert_ptr_not_equal(table_enter(t, &k, 9), r);
	k = key(1);
	k.family = AF_INET6;
	assert_null(table_find(t, &k));
	while (table_next(t, &at) != NULL)
		seen++;
	assert_int_equal(seen, 2);
	assert_true(table_now(t) >= 1);
	table_free(&t);
	assert_null(t);
}

static void
attach_good(void **state)
{
	struct table *t = table_new(1000), *other, *reader;
	struct line_key k = key(5);
	int counts, levels;

	(void)state;
	table_fds(t, &counts, &levels);
	other = table_attach(counts, levels, false);
	assert_non_null(other);
	table_enter(t, &k, 7)->customer = 77;
	assert_int_equal(table_find(other, &k)->customer, 77);
	assert_int_equal(table_set_level(other, table_find(other, &k), &k, 3), 0);
	table_fds_read_only(t, &counts, &levels);
	reader = table_attach(counts, levels, true);
	assert_non_null(reader);
	assert_int_equal(table_level(reader, table_find(reader, &k)), 3);
	/* a descriptor for reading cannot be made one for writing */
	assert_null(table_attach(counts, levels, false));
	table_free(&reader);
	reader = table_attach(counts, -1, true);
	assert_int_equal(table_level(reader, table_find(reader, &k)), 0);
	table_free(&reader);
	table_free(&other);
	table_free(&t);
}

/* A copy of the first octets of a region in a memfd of its own. */
static int
copy(const void *from, size_t octets, off_t size, unsigned seals)
{
	int fd = memfd_create("copy", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, size), 0);
	assert_int_equal(pwrite(fd, from, octets, 0), octets);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

static void
attach_bad(void **state)
{
	enum { ALL = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL };
	struct table *t = table_new(1000), *good;
	size_t n = t->counts_octets;
	const struct {
		const char *what;
		size_t offset;		/* of the octet that is changed */
		size_t less;		/* the file is shorter by */
		unsigned seals;
		bool ok;
	} rows[] = {
		{ "nothing wrong", n - 1, 0, ALL, true },
		{ "magic", offsetof(struct counts_head, magic), 0, ALL, false },
		{ "version", offsetof(struct counts_head, version), 0, ALL, false },
		{ "record", offsetof(struct counts_head, record_octets), 0, ALL,
			false },
		{ "slots", offsetof(struct counts_head, slots), 0, ALL, false },
		{ "too many slots", offsetof(struct counts_head, slots) + 7, 0,
			ALL, false },
		{ "truncated", n - 2, 1, ALL, false },
		{ "header only", REGION_HEAD - 1, n - REGION_HEAD, ALL, false },
		{ "nearly empty", n - 1, n - 8, ALL, false },
		{ "may shrink", n - 1, 0, F_SEAL_GROW | F_SEAL_SEAL, false },
	};
	int fd;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint8_t *octet = (uint8_t *)t->head + rows[i].offset;

		*octet ^= 1;
		fd = copy(t->head, n - rows[i].less, (off_t)(n - rows[i].less),
			rows[i].seals);
		*octet ^= 1;
		good = table_attach(fd, -1, false);
		if ((good != NULL) != rows[i].ok)
			fail_msg("attach with wrong %s", rows[i].what);
		table_free(&good);
		close(fd);
	}
	fd = open("/dev/zero", O_RDWR | O_CLOEXEC);
	assert_null(table_attach(fd, -1, false));
	close(fd);
	table_free(&t);
}

static void
attach_levels_of_another(void **state)
{
	struct table *t = table_new(1000), *u = table_new(1000), *v =
		table_new(2000);
	int counts, own, levels, larger, ignored;

	(void)state;
	table_fds(t, &counts, &own);
	table_fds(u, &ignored, &levels);
	table_fds(v, &ignored, &larger);
	assert_null(table_attach(counts, levels, true));
	assert_null(table_attach(counts, larger, true));
	assert_null(table_attach(counts, counts, true));
	assert_null(table_attach(own, own, true));
	table_free(&t);
	table_free(&u);
	table_free(&v);
}

static void
files(void **state)
{
	struct table *t = table_new(1000);
	struct stat st;
	int fd[2];

	(void)state;
	table_fds(t, &fd[0], &fd[1]);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(fstat(fd[i], &st), 0);
		assert_int_equal(st.st_mode & 07777, 0600);
		assert_int_equal(ftruncate(fd[i], st.st_size - 1), -1);
		assert_int_equal(errno, EPERM);
		assert_int_equal(ftruncate(fd[i], st.st_size + 1), -1);
		assert_true(fcntl(fd[i], F_GETFD) & FD_CLOEXEC);
	}
	table_free(&t);
}

enum deed { WRITE_COUNTS, WRITE_LEVEL, MPROTECT, DESCRIPTORS, WRITE_BEFORE };

/* What a child without rights comes to: its exit status, or 128 + signal. */
static int
child(struct table *t, struct line_record *r, enum deed deed)
{
	struct line_key k = key(1);
	int status, counts, levels;
	pid_t pid = fork();

	if (pid == 0) {
		/* a sanitizer would turn the signal into a report */
		signal(SIGSEGV, SIG_DFL);
		if (deed != WRITE_BEFORE && table_drop_rights(t) != 0)
			_exit(2);
		if (deed == WRITE_COUNTS)
			r->customer = 99;
		if (deed == WRITE_LEVEL || deed == WRITE_BEFORE)
			table_set_level(t, r, &k, 4);
		if (deed == MPROTECT && mprotect(t->levels_head,
			    t->levels_octets, PROT_READ | PROT_WRITE) == -1)
			_exit(errno == EACCES ? 3 : 4);
		table_fds(t, &counts, &levels);
		if (deed == DESCRIPTORS)
			_exit(counts == -1 && levels == -1 ? 5 : 6);
		_exit(0);
	}
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) :
		WEXITSTATUS(status);
}

static void
rights(void **state)
{
	struct table *t = table_new(1000);
	struct line_key k = key(1);
	struct line_record *r = table_enter(t, &k, 1);

	(void)state;
	assert_int_equal(child(t, r, WRITE_BEFORE), 0);
	assert_int_equal(table_level(t, r), 4);
	assert_int_equal(table_set_level(t, r, &k, 1), 0);
	assert_int_equal(child(t, r, WRITE_COUNTS), 0);
	assert_int_equal(r->customer, 99);
	assert_int_equal(child(t, r, WRITE_LEVEL), 128 + SIGSEGV);
	assert_int_equal(child(t, r, MPROTECT), 3);
	assert_int_equal(child(t, r, DESCRIPTORS), 5);
	assert_int_equal(table_level(t, r), 1);
	table_free(&t);
}

/* 24 slots in three buckets; lines until the first one finds no place. */
static uint32_t
fill(struct table *t, uint32_t now)
{
	struct line_key k;
	uint32_t n = 0;

	do {
		k = key(n++);
	} while (table_enter(t, &k, now) != NULL && n < 100000);
	return n - 1;
}

static void
who_gives_way(void **state)
{
	struct table *t = table_new(1);
	struct line_record *r, *suspect;
	struct line_key k, first = key(0), pinned = key(1), newcomer;
	uint32_t n = fill(t, 100);
	struct table_stats s;

	(void)state;
	table_stats(t, &s);
	assert_int_equal(s.lost, 1);
	assert_int_equal(s.lines, n);
	suspect = table_find(t, &pinned);
	assert_int_equal(table_set_level(t, suspect, &pinned, 1), 0);
	newcomer = key(n);	/* it found no place */
	/* idle for 60 s: may not go yet */
	assert_null(table_enter(t, &newcomer, 160));
	/* all but one were active since, and the suspect has been idle longest */
	for (uint32_t i = 2; i < n; i++) {
		k = key(i);
		table_attempt(table_find(t, &k), 150, i + 1);
	}
	for (uint32_t i = 0; i < 400 && table_find(t, &first) != NULL; i++) {
		k = key(1000 + i);
		r = table_enter(t, &k, 161);
		if (r != NULL) {
			/* an innocent does not inherit anything */
			assert_int_equal(r->attempts, 0);
			assert_int_equal(table_level(t, r), 0);
		}
	}
	assert_null(table_find(t, &first));
	assert_ptr_equal(table_find(t, &pinned), suspect);
	table_stats(t, &s);
	assert_int_equal(s.displaced, 1);
	/* for ever */
	for (uint32_t i = 0; i < 5000; i++) {
		k = key(2000 + i);
		assert_non_null(table_enter(t, &k, 1000 + 100 * i));
	}
	assert_ptr_equal(table_find(t, &pinned), suspect);
	assert_int_equal(table_level(t, suspect), 1);
	table_free(&t);
}

static void
level_of_a_displaced_line(void **state)
{
	struct table *t = table_new(1);
	struct line_key k = key(0), other = key(12345);
	struct line_record *r = table_enter(t, &k, 1);

	(void)state;
	assert_int_equal(table_set_level(t, r, &other, 2), -1);
	assert_int_equal(table_level(t, r), 0);
	table_free(&t);
}

/* Every line of a table that is as full as it is meant to be. */
static void
a_million(void **state)
{
	struct table *t = table_new(MILLION);
	struct table_stats s;
	struct line_key k;

	(void)state;
	assert_non_null(t);
	for (uint32_t i = 0; i < MILLION; i++) {
		k = key(i * 2654435761u);
		table_enter(t, &k, 100);
	}
	table_stats(t, &s);
	print_message("%zu lines in %zu slots, %.1f MB, %llu lost\n", s.lines,
		s.slots, (double)s.octets / 1e6, (unsigned long long)s.lost);
	assert_int_equal(s.lines + s.lost, MILLION);
	assert_true(s.octets <= 200000000);
	assert_true(s.lost <= MILLION * 3 / 1000);
	assert_int_equal(s.displaced, 0);
	/* a minute later there is room for the others too */
	for (uint32_t i = 0; i < 10000; i++) {
		k = key(rnd());
		assert_non_null(table_enter(t, &k, 161));
	}
	table_free(&t);
}

/*
 * Keys that all fall into one bucket of a table whose secret is known spread
 * here like any others.
 */
static void
collisions(void **state)
{
	struct table *known = table_new(400), *t = table_new(COLLIDING);
	unsigned *seen = calloc(t->slots / BUCKET_SLOTS, sizeof(*seen));
	unsigned most = 0, n = 0;
	struct table_stats s;
	struct table_aim aim;

	(void)state;
	assert_non_null(seen);
	for (uint32_t i = 0; n < COLLIDING; i++) {
		struct line_key k = key(i);

		table_aim(known, &k, &aim);
		if (aim.slot[0] != 0)
			continue;
		table_aim(t, &k, &aim);
		n = n + 1;
		if (++seen[aim.slot[0] / BUCKET_SLOTS] > most)
			most = seen[aim.slot[0] / BUCKET_SLOTS];
		table_enter(t, &k, 100);
	}
	table_stats(t, &s);
	print_message("%u colliding keys: %llu lost, fullest bucket asked %u\n",
		n, (unsigned long long)s.lost, most);
	/* mean 7.3; a Poisson count of 35 happens once in 10^9 tables */
	assert_true(most < 35);
	assert_true(s.lost <= COLLIDING * 3 / 1000);
	free(seen);
	table_free(&known);
	table_free(&t);
}

/* A bot hops among the /64s of its own /56; a neighbour's count for nothing. */
static void
suspects_of_a_parent(void **state)
{
	struct table *t = table_new(1000);
	struct line_key k = { .family = AF_INET6, .len = 64,
		.ip = { 0x20, 1, 0xd, 0xb8, 0, 1, 0x22, 0 } }, parent, of_v4;
	struct line_record *line[256];
	unsigned found;

	(void)state;
	assert_non_null(t);
	assert_true(line_key_parent(&k, TABLE_PARENT_LEN, &parent));
	assert_int_equal(parent.len, 56);
	assert_false(line_key_parent(&parent, TABLE_PARENT_LEN, &of_v4));
	for (unsigned n = 0; n < 40; n++) {
		struct line_record *r;

		k.ip[7] = (uint8_t)(n * 6);
		r = table_enter(t, &k, table_now(t));
		assert_non_null(r);
		assert_int_equal(table_set_level(t, r, &k,
			n % 8 == 0 ? 1 + n / 16 : LEVEL_ACTION_RESET), 0);
	}
	k.ip[6] = 0x23;
	assert_int_equal(table_set_level(t, table_enter(t, &k, table_now(t)),
		&k, 3), 0);
	found = table_suspects_below(t, &parent, 64, 1, line, 256);
	assert_int_equal(found, 5);
	for (unsigned n = 0; n < found; n++) {
		assert_true(table_key(t, line[n], &k));
		assert_int_equal(k.ip[7], n * 48);
	}
	assert_int_equal(table_suspects_below(t, &parent, 64, 2, line, 256), 3);
	assert_int_equal(table_suspects_below(t, &parent, 64, 1, line, 3), 3);
	assert_int_equal(table_suspects_below(t, &parent, 56, 1, line, 256), 0);
	table_free(&t);
}

static bool
next_is(struct table *t, uint64_t *at, const struct line_record *want)
{
	struct line_record *r = NULL;

	return table_noticed(t, at, &r) == 1 && r == want;
}

/* In order; overwritten, half written or forged ones say so; levels are found. */
static void
notices(void **state)
{
	struct table *t = table_new(2000);
	struct line_key a = key(1), b = key(2);
	struct line_record *ra = table_enter(t, &a, 1), *r = NULL;
	struct line_record *rb = table_enter(t, &b, 1);
	uint64_t at = 0;
	size_t slot = 0;

	(void)state;
	assert_int_equal(table_noticed(t, &at, &r), 0);
	table_notice(t, ra);
	table_notice(t, rb);
	table_notice(t, ra);
	assert_true(next_is(t, &at, ra) && next_is(t, &at, rb) &&
		next_is(t, &at, ra));
	assert_int_equal(table_noticed(t, &at, &r), 0);
	for (unsigned i = 0; i < NOTICES + 1; i++)
		table_notice(t, ra);
	assert_int_equal(table_noticed(t, &at, &r), -1);
	assert_int_equal(table_noticed(t, &at, &r), 0);
	/* killed between counting and writing; a relay that was taken over */
	atomic_fetch_add(&t->head->noticed, 1);
	atomic_store(&t->head->notice[at % NOTICES], 0);
	assert_int_equal(table_noticed(t, &at, &r), -1);
	table_notice(t, rb);
	atomic_store(&t->head->notice[at % NOTICES], UINT32_MAX);
	assert_int_equal(table_noticed(t, &at, &r), -1);
	atomic_store(&t->head->noticed, 0);	/* backwards */
	assert_int_equal(table_noticed(t, &at, &r), -1);
	assert_int_equal(table_noticed(t, &at, &r), 0);
	/* levels */
	assert_null(table_next_level(t, &slot));
	slot = 0;
	assert_int_equal(table_set_level(t, rb, &b, 2), 0);
	assert_ptr_equal(table_next_level(t, &slot), rb);
	assert_null(table_next_level(t, &slot));
	table_free(&t);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hash_vectors),
		cmocka_unit_test(enter_and_find),
		cmocka_unit_test(suspects_of_a_parent),
		cmocka_unit_test(attach_good),
		cmocka_unit_test(attach_bad),
		cmocka_unit_test(attach_levels_of_another),
		cmocka_unit_test(files),
		cmocka_unit_test(rights),
		cmocka_unit_test(who_gives_way),
		cmocka_unit_test(level_of_a_displaced_line),
		cmocka_unit_test(a_million),
		cmocka_unit_test(notices),
		cmocka_unit_test(collisions),
	};

	return cmocka_run_group_tests_name("table", tests, NULL, NULL);
}
