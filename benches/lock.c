/* SPDX-License-Identifier: MIT */
/* What does a lock cost? MmProbeAndLockPages and MmUnlockPages of user pages, against locked adds and the copy of page numbers. */

#include "bench.h"

#include <string.h>

struct buffer {
    size_t      npages;
    char       *va;
    PMDL        mdl;
    PFN_NUMBER *from, *to;
};

static void lock_and_unlock(void *context, uint64_t times)
{
    const struct buffer *buffer = context;

    while (times-- > 0) {
        MmProbeAndLockPages(buffer->mdl, UserMode, IoWriteAccess);
        MmUnlockPages(buffer->mdl);
    }
}

/* ---- anchors ---- */

static void one_locked_add(void *context, uint64_t times)
{
    (void)context;
    while (times-- > 0)
        bench_locked_add();
}

static void two_locked_adds_a_page(void *context, uint64_t times)
{
    const size_t npages = ((const struct buffer *)context)->npages;

    while (times-- > 0)
        for (size_t i = 0; i < 2 * npages; i++)
            bench_locked_add();
}

static __attribute__((noinline)) void copy_pfns(PFN_NUMBER *to, const PFN_NUMBER *from, size_t n)
{
    memcpy(to, from, n * sizeof(*to));
    bench_use(to);
}

static void copy_and_two_locked_adds(void *context, uint64_t times)
{
    const struct buffer *buffer = context;

    while (times-- > 0) {
        copy_pfns(buffer->to, buffer->from, buffer->npages);
        bench_locked_add();
        bench_locked_add();
    }
}

static void copy(void *context, uint64_t times)
{
    const struct buffer *buffer = context;

    while (times-- > 0)
        copy_pfns(buffer->to, buffer->from, buffer->npages);
}

/* ---- proof ---- */

static uint64_t locked_pages(void)
{
    struct pinion_counters counters;

    pinion_counters(&counters);
    return counters.locked_pages;
}

static size_t resident_pages(const struct buffer *buffer)
{
    size_t n = 0;

    for (size_t i = 0; i < buffer->npages; i++)
        n += MmIsAddressValid(buffer->va + i * PAGE_SIZE);
    return n;
}

/* Pinned pages outlive a trim, with the numbers that the MDL says; without the lock they do not. */
static bool is_locked(void *context)
{
    const struct buffer *buffer = context;
    bool good;

    memset(buffer->va, 1, buffer->npages * PAGE_SIZE);
    MmProbeAndLockPages(buffer->mdl, UserMode, IoWriteAccess);
    pinion_trim();
    good = locked_pages() == buffer->npages && resident_pages(buffer) == buffer->npages;
    for (size_t i = 0; i < buffer->npages; i++)
        good = good && MmGetMdlPfnArray(buffer->mdl)[i] << PAGE_SHIFT == (PFN_NUMBER)MmGetPhysicalAddress(buffer->va + i * PAGE_SIZE).QuadPart;
    MmUnlockPages(buffer->mdl);
    pinion_trim();
    good = good && locked_pages() == 0 && resident_pages(buffer) == 0;
    pinion_user_resident(buffer->va, buffer->npages * PAGE_SIZE);
    return good;
}

static void prepare(struct buffer *buffer, size_t npages)
{
    const ULONG bytes = (ULONG)(npages * PAGE_SIZE);

    buffer->npages = npages;
    buffer->va = pinion_user_alloc(bytes, PAGE_READWRITE);
    buffer->mdl = IoAllocateMdl(buffer->va, bytes, FALSE, FALSE, NULL);
    buffer->from = bench_copy_target(NULL, bytes / PAGE_SIZE * sizeof(PFN_NUMBER));
    buffer->to = bench_copy_target(buffer->from, bytes / PAGE_SIZE * sizeof(PFN_NUMBER));
    memset(buffer->from, 1, npages * sizeof(PFN_NUMBER));
}

/* Another MDL for the same pages. */
static void prepare_second(struct buffer *second, const struct buffer *first)
{
    *second = *first;
    second->mdl = IoAllocateMdl(first->va, (ULONG)(first->npages * PAGE_SIZE), FALSE, FALSE, NULL);
}

int main(int argc, char **argv)
{
    static struct buffer one, sixteen, large, huge, sixteen_again, large_again;
    const struct bench_case cases[] = {
        {"5", "lock + unlock, 1 page", "locked add", 2.4, 0, lock_and_unlock, one_locked_add, is_locked, &one, NULL},
        {"5", "lock + unlock, 16 pages", "2 locked adds a page", 0.12, 0, lock_and_unlock, two_locked_adds_a_page, is_locked, &sixteen, NULL},
        {"5", "lock + unlock, 256 pages", "memcpy + 2 locked adds", 1, 10, lock_and_unlock, copy_and_two_locked_adds, is_locked, &large, NULL},
        {"5", "lock + unlock, 16384 pages", "memcpy", 1.4, 0, lock_and_unlock, copy, is_locked, &huge, NULL},
        {"5b", "lock + unlock, 16 pages, two threads", "one thread", 1.2, 0, lock_and_unlock, lock_and_unlock, is_locked, &sixteen, &sixteen_again},
        {"5b", "lock + unlock, 256 pages, two threads", "one thread", 1.2, 0, lock_and_unlock, lock_and_unlock, is_locked, &large, &large_again},
    };

    pinion_boot("verifier=off");
    prepare(&one, 1);
    prepare(&sixteen, 16);
    prepare(&large, 256);
    prepare(&huge, 16384);
    prepare_second(&sixteen_again, &sixteen);
    prepare_second(&large_again, &large);
    return bench_run(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
