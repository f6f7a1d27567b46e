/*
 * shared.c - memory that a process and all it forks have in common
 *
 * Does: map it, and draw the key of the hash by which things are found in it.
 * Does not: lock, or know what lies there.
 *
 * Called by the parent before it forks. Nobody outside controls anything here.
 */
#include "lib/shared.h"

#include <sys/mman.h>
#include <sys/random.h>

void *
shared_new(size_t octets, uint64_t key_r[2])
{
	const size_t size = 2 * sizeof(*key_r);
	void *mem = mmap(NULL, octets, PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (mem == MAP_FAILED)
		return NULL;
	if (getrandom(key_r, size, 0) == (ssize_t)size)
		return mem;
	munmap(mem, octets);
	return NULL;
}
