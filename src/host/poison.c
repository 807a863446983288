/* SPDX-License-Identifier: MIT */
/*
 * Bytes that nobody may touch though their page is mapped, where AddressSanitizer watches this process. Without it the
 * two symbols are missing, and nothing happens.
 */

#include "host/host.h"

extern void __asan_poison_memory_region(const volatile void *at, size_t bytes) __attribute__((weak));
extern void __asan_unpoison_memory_region(const volatile void *at, size_t bytes) __attribute__((weak));

void host_poison(const void *at, size_t bytes)
{
    if (__asan_poison_memory_region != NULL && bytes != 0)
        __asan_poison_memory_region(at, bytes);
}

void host_unpoison(const void *at, size_t bytes)
{
    if (__asan_unpoison_memory_region != NULL && bytes != 0)
        __asan_unpoison_memory_region(at, bytes);
}
