/*
 * table.c - the two shared regions of the line table: make, attach, protect
 *
 * Makes the memfds, seals them against shrinking (a shorter file is SIGBUS in
 * every process) and growing, maps them populated, and checks them when they
 * come from outside. Says nothing about what a record means; slots.c finds
 * records, record.c counts in them.
 *
 * Called by the parent at start and by its children once; the CLI and a
 * successor attach. The secret lies in the header of the counts region: whoever
 * may read the counts may know it, nobody else.
 *
 * A relay that has been taken over can write what it likes into the counts, so
 * nothing here is used as a size or an offset after table_attach() has compared
 * it with the size of the file; each process keeps its own copies. It can not
 * write levels: its mapping comes from a descriptor that was opened read-only,
 * which mprotect(2) cannot undo, and no other descriptor is left.
 */
#include "zombie/table.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "lib/log.h"
#include "zombie/region.h"

#define COUNTS_MAGIC 0x31746e756f636c73u	/* "slcount1" */
#define LEVELS_MAGIC 0x316c6576656c6c73u	/* "sllevel1" */
#define TABLE_VERSION 3u
#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)
#define SLOTS_MAX ((size_t)1 << 28)

/* Slots a hundred lines need: three choices of a bucket lose 0.1 % at this. */
#define SLOTS_PER_100_LINES 110

static size_t
counts_octets(size_t slots)
{
	return REGION_HEAD +
		slots * (sizeof(uint64_t) + sizeof(struct line_record));
}

static size_t
levels_octets(size_t slots)
{
	return REGION_HEAD + slots * sizeof(uint32_t);
}

static uint64_t
boottime(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (uint64_t)ts.tv_sec;
}

/* A sealed memfd of this size, and the same file opened read-only. */
static int
region_create(const char *name, size_t octets, int *ro_r)
{
	char path[40];
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

	*ro_r = -1;
	if (fd < 0) {
		log_error("table: memfd %s: %s", name, strerror(errno));
		return -1;
	}
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	/* a new memfd has mode 0777 */
	if (fchmod(fd, 0600) < 0 || ftruncate(fd, (off_t)octets) < 0 ||
		fcntl(fd, F_ADD_SEALS, SEALS) < 0 ||
		(*ro_r = open(path, O_RDONLY | O_CLOEXEC)) < 0) {
		log_error("table: %s, %zu octets: %s", name, octets,
			strerror(errno));
		close(fd);
		return -1;
	}
	return fd;
}

static void *
region_map(int fd, size_t octets, bool read_only)
{
	void *p = mmap(NULL, octets, PROT_READ | (read_only ? 0 : PROT_WRITE),
		MAP_SHARED | MAP_POPULATE, fd, 0);

	if (p == MAP_FAILED) {
		log_error("table: map %zu octets: %s", octets, strerror(errno));
		return NULL;
	}
	return p;
}

/*
 * Write to every page of a new region. MAP_POPULATE alone leaves the first
 * write to each page slow on a virtual machine (8 us here): the host has not
 * backed it yet.
 */
static void
region_touch(void *region, size_t octets)
{
	volatile char *p = region;

	for (size_t i = 0; i < octets; i += 4096)
		p[i] = 0;
}

static void
fd_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void
table_free(struct table **t)
{
	struct table *old = *t;

	if (old == NULL)
		return;
	if (old->head != NULL)
		munmap(old->head, old->counts_octets);
	if (old->levels_head != NULL)
		munmap(old->levels_head, old->levels_octets);
	fd_close(&old->counts_fd);
	fd_close(&old->levels_fd);
	fd_close(&old->counts_ro);
	fd_close(&old->levels_ro);
	explicit_bzero(old->secret, sizeof(old->secret));
	free(old);
	*t = NULL;
}

static struct table *
table_alloc(size_t slots)
{
	struct table *t = calloc(1, sizeof(*t));

	if (t == NULL)
		return NULL;
	t->counts_fd = t->levels_fd = t->counts_ro = t->levels_ro = -1;
	t->slots = slots;
	t->counts_octets = counts_octets(slots);
	t->levels_octets = levels_octets(slots);
	return t;
}

/* Where the parts are, once the regions are mapped and checked. */
static void
table_place(struct table *t)
{
	char *base = (char *)t->head;

	t->tags = (_Atomic uint64_t *)(void *)(base + REGION_HEAD);
	t->records = (struct line_record *)(void *)(base + REGION_HEAD +
		t->slots * sizeof(uint64_t));
	if (t->levels_head != NULL)
		t->levels = (_Atomic uint32_t *)(void *)
			((char *)t->levels_head + REGION_HEAD);
	memcpy(t->secret, t->head->secret, sizeof(t->secret));
}

static int
heads_write(struct table *t)
{
	struct counts_head *c = t->head;
	struct levels_head *l = t->levels_head;

	if (getrandom(c->secret, sizeof(c->secret), 0) !=
			(ssize_t)sizeof(c->secret) ||
		getrandom(&c->id, sizeof(c->id), 0) != (ssize_t)sizeof(c->id)) {
		log_error("table: getrandom: %s", strerror(errno));
		return -1;
	}
	c->magic = COUNTS_MAGIC;
	l->magic = LEVELS_MAGIC;
	c->version = l->version = TABLE_VERSION;
	c->record_octets = sizeof(struct line_record);
	c->slots = l->slots = t->slots;
	c->epoch = boottime() - 1;	/* so that no time is 0 */
	l->id = c->id;
	return 0;
}

struct table *
table_new(size_t lines)
{
	size_t slots = lines / 100 * SLOTS_PER_100_LINES +
		lines % 100 * SLOTS_PER_100_LINES / 100;
	struct table *t;

	/* never fewer than the three buckets a line may stand in */
	slots = (slots / BUCKET_SLOTS + 3) * BUCKET_SLOTS;
	if (lines > SLOTS_MAX || (t = table_alloc(slots)) == NULL) {
		log_error("table: no memory for %zu lines", lines);
		return NULL;
	}
	t->counts_fd = region_create("sallyport-counts", t->counts_octets,
		&t->counts_ro);
	t->levels_fd = region_create("sallyport-levels", t->levels_octets,
		&t->levels_ro);
	if (t->counts_fd < 0 || t->levels_fd < 0)
		goto fail;
	t->head = region_map(t->counts_fd, t->counts_octets, false);
	t->levels_head = region_map(t->levels_fd, t->levels_octets, false);
	if (t->head == NULL || t->levels_head == NULL)
		goto fail;
	region_touch(t->head, t->counts_octets);
	region_touch(t->levels_head, t->levels_octets);
	if (heads_write(t) < 0)
		goto fail;
	t->may_set = true;
	table_place(t);
	return t;
fail:
	table_free(&t);
	return NULL;
}

void
table_fix_secret(struct table *t)
{
	memset(t->secret, 0x5a, sizeof(t->secret));
	memcpy(t->head->secret, t->secret, sizeof(t->secret));
}

int
table_drop_rights(struct table *t)
{
	void *p;

	if (t->levels_ro < 0 || t->levels_head == NULL) {
		log_error("table: no read-only descriptor of the levels");
		return -1;
	}
	p = mmap(t->levels_head, t->levels_octets, PROT_READ,
		MAP_SHARED | MAP_FIXED | MAP_POPULATE, t->levels_ro, 0);
	if (p == MAP_FAILED) {
		log_error("table: map levels read-only: %s", strerror(errno));
		return -1;
	}
	/* page tables of a shared file are not copied by fork; Linux 5.14 */
	if (madvise(t->head, t->counts_octets, MADV_POPULATE_WRITE) < 0)
		log_debug("table: populate: %s", strerror(errno));
	t->may_set = false;
	fd_close(&t->counts_fd);
	fd_close(&t->levels_fd);
	fd_close(&t->counts_ro);
	fd_close(&t->levels_ro);
	return 0;
}

void
table_fds(const struct table *t, int *counts_r, int *levels_r)
{
	*counts_r = t->counts_fd;
	*levels_r = t->levels_fd;
}

void
table_fds_read_only(const struct table *t, int *counts_r, int *levels_r)
{
	*counts_r = t->counts_ro;
	*levels_r = t->levels_ro;
}

/* Why this descriptor is no region of at least a header, or NULL. */
static const char *
region_wrong(int fd, size_t *octets_r)
{
	struct stat st;
	int seals = fcntl(fd, F_GET_SEALS);

	if (seals < 0)
		return "not a memfd";
	if ((seals & SEALS) != SEALS)
		return "not sealed";
	if (fstat(fd, &st) < 0 || st.st_size < REGION_HEAD)
		return "truncated";
	*octets_r = (size_t)st.st_size;
	return NULL;
}

static const char *
counts_wrong(int fd, struct counts_head *c)
{
	size_t octets = 0;
	const char *why = region_wrong(fd, &octets);

	if (why != NULL)
		return why;
	if (pread(fd, c, sizeof(*c), 0) != (ssize_t)sizeof(*c))
		return "unreadable";
	if (c->magic != COUNTS_MAGIC)
		return "wrong magic";
	if (c->version != TABLE_VERSION ||
		c->record_octets != sizeof(struct line_record))
		return "wrong version";
	if (c->slots < 3 * BUCKET_SLOTS || c->slots > 2 * SLOTS_MAX ||
		c->slots % BUCKET_SLOTS != 0 ||
		octets != counts_octets((size_t)c->slots))
		return "wrong size";
	return NULL;
}

static const char *
levels_wrong(int fd, const struct counts_head *c)
{
	struct levels_head l;
	size_t octets = 0;
	const char *why = region_wrong(fd, &octets);

	if (why != NULL)
		return why;
	if (pread(fd, &l, sizeof(l), 0) != (ssize_t)sizeof(l))
		return "unreadable";
	if (l.magic != LEVELS_MAGIC)
		return "wrong magic";
	if (l.version != TABLE_VERSION)
		return "wrong version";
	if (l.slots != c->slots || octets != levels_octets((size_t)c->slots))
		return "wrong size";
	if (l.id != c->id)
		return "of another table";
	return NULL;
}

struct table *
table_attach(int counts, int levels, bool read_only)
{
	struct counts_head c;
	struct table *t;
	const char *why = counts_wrong(counts, &c);

	if (why != NULL) {
		log_error("table: attach counts: %s", why);
		return NULL;
	}
	if (levels >= 0 && (why = levels_wrong(levels, &c)) != NULL) {
		log_error("table: attach levels: %s", why);
		return NULL;
	}
	if ((t = table_alloc((size_t)c.slots)) == NULL) {
		log_error("table: no memory");
		return NULL;
	}
	if ((t->head = region_map(counts, t->counts_octets, read_only)) == NULL)
		goto fail;
	if (levels >= 0 && (t->levels_head = region_map(levels,
			    t->levels_octets, read_only)) == NULL)
		goto fail;
	t->may_set = t->levels_head != NULL && !read_only;
	table_place(t);
	return t;
fail:
	table_free(&t);
	return NULL;
}

uint32_t
table_now(const struct table *t)
{
	return (uint32_t)(boottime() - t->head->epoch);
}

uint64_t
table_id(const struct table *t)
{
	return t->head->id;
}

int64_t
table_unix(const struct table *t, uint32_t when)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec - (int64_t)table_now(t) + (int64_t)when;
}
