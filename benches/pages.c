/* SPDX-License-Identifier: MIT */
/*
 * What do pages cost? MmAllocatePagesForMdlEx and MmFreePagesFromMdl, zeroed, of pages that were in use before: against
 * clearing as much memory, and against what Linux takes for pages of its own.
 */

#include "bench.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct supply {
    size_t npages;
    char  *memory;                      /* as much, resident */
};

static PMDL allocate(const struct supply *supply)
{
    const PHYSICAL_ADDRESS low = {.QuadPart = 0}, high = {.QuadPart = -1}, skip = {.QuadPart = 0};

    return MmAllocatePagesForMdlEx(low, high, skip, supply->npages * PAGE_SIZE, MmCached, 0);
}

static void release(PMDL mdl)
{
    MmFreePagesFromMdl(mdl);
    ExFreePool(mdl);
}

static void allocate_and_free(void *context, uint64_t times)
{
    while (times-- > 0) {
        PMDL mdl = allocate(context);

        bench_use(mdl);
        release(mdl);
    }
}

/* ---- anchors ---- */

static void clear(void *context, uint64_t times)
{
    const struct supply *supply = context;

    while (times-- > 0)
        for (size_t i = 0; i < supply->npages; i++) {
            memset(supply->memory + i * PAGE_SIZE, 0, PAGE_SIZE);
            bench_use(supply->memory);
        }
}

static void touch_first(void *context, uint64_t times)
{
    const size_t bytes = ((const struct supply *)context)->npages * PAGE_SIZE;

    while (times-- > 0) {
        volatile char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (memory == MAP_FAILED)
            abort();
        for (size_t off = 0; off < bytes; off += PAGE_SIZE)
            memory[off] = 1;
        munmap((void *)memory, bytes);
    }
}

/* ---- proof ---- */

/* Pages that were written and given back come back, and are empty. */
static bool is_zeroed(void *context)
{
    const struct supply *supply = context;
    const size_t bytes = supply->npages * PAGE_SIZE;
    PMDL mdl = allocate(supply);
    const PFN_NUMBER first = MmGetMdlPfnArray(mdl)[0];
    char *va = MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority);
    bool good, again = false;

    memset(va, 0xA5, bytes);
    release(mdl);
    mdl = allocate(supply);
    va = MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority);
    good = MmGetMdlByteCount(mdl) == bytes && va != NULL;
    for (size_t i = 0; good && i < bytes; i++)
        good = va[i] == 0;
    for (size_t i = 0; i < supply->npages; i++)
        again |= MmGetMdlPfnArray(mdl)[i] == first;
    release(mdl);
    return good && again;
}

static void prepare(struct supply *supply, size_t npages)
{
    supply->npages = npages;
    supply->memory = mmap(NULL, npages * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (supply->memory == MAP_FAILED)
        abort();
    memset(supply->memory, 1, npages * PAGE_SIZE);
}

int main(int argc, char **argv)
{
    static struct supply few, many;
    const struct bench_case cases[] = {
        {"8", "allocate + free zeroed pages, 16", "memset a page", 1.15, 16 * 10, allocate_and_free, clear, is_zeroed, &few, NULL},
        {"8", "allocate + free zeroed pages, 256", "memset a page", 1.15, 256 * 10, allocate_and_free, clear, is_zeroed, &many, NULL},
        {"8", "allocate + free zeroed pages, 256", "first touch", 1.0 / 3, 0, allocate_and_free, touch_first, is_zeroed, &many, NULL},
    };

    pinion_boot("verifier=off");
    prepare(&few, 16);
    prepare(&many, 256);
    return bench_run(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
