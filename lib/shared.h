/*
 * shared.h - memory that a process and all it forks have in common
 */
#ifndef SALLYPORT_SHARED_H
#define SALLYPORT_SHARED_H

#include <stddef.h>
#include <stdint.h>

/* Zeroed memory, and a random key that stays private: who chooses what is hashed
 * must not choose where it lies. munmap() frees it. NULL: errno says why. */
void *shared_new(size_t octets, uint64_t key_r[2]);

#endif
