/* SPDX-License-Identifier: MIT */
/*
 * What does moving the beginning of an MDL cost? MmAdvanceMdl against three fields of a header, and against memmove.
 *
 * The MDLs are partial ones: they hold no lock, so that what is measured is the advance and no unlock.
 */

#include "bench.h"

#include <string.h>

struct moving {
    size_t      npages;
    PMDL        mdl;
    MDL         header;
    PFN_NUMBER *copy;
};

static void advance_inside(void *context, uint64_t times)
{
    struct moving *moving = context;

    while (times-- > 0) {
        moving->mdl->ByteOffset = 0;
        moving->mdl->ByteCount = (ULONG)(moving->npages * PAGE_SIZE);
        MmAdvanceMdl(moving->mdl, 64);
    }
}

static __attribute__((noinline)) void adjust(MDL *header, ULONG bytes)
{
    if (bytes >= header->ByteCount)
        return;
    header->ByteOffset += bytes;
    header->ByteCount -= bytes;
    header->MappedSystemVa = (PCHAR)header->MappedSystemVa + bytes;
}

static void adjust_header(void *context, uint64_t times)
{
    struct moving *moving = context;

    while (times-- > 0) {
        moving->header.ByteOffset = 0;
        moving->header.ByteCount = (ULONG)(moving->npages * PAGE_SIZE);
        adjust(&moving->header, 64);
        bench_use(&moving->header);
    }
}

static void advance_a_page(void *context, uint64_t times)
{
    struct moving *moving = context;

    while (times-- > 0) {
        moving->mdl->ByteOffset = 0;
        moving->mdl->ByteCount = (ULONG)(moving->npages * PAGE_SIZE);
        MmAdvanceMdl(moving->mdl, PAGE_SIZE);
    }
}

static __attribute__((noinline)) void move_pfns(PFN_NUMBER *pfns, size_t n)
{
    memmove(pfns, pfns + 1, n * sizeof(*pfns));
    bench_use(pfns);
}

static void move(void *context, uint64_t times)
{
    struct moving *moving = context;

    while (times-- > 0)
        move_pfns(moving->copy, moving->npages - 1);
}

static bool is_advanced(void *context)
{
    struct moving *moving = context;
    const PPFN_NUMBER pfns = MmGetMdlPfnArray(moving->mdl);
    const PVOID start = moving->mdl->StartVa;
    bool good;

    for (size_t i = 0; i < moving->npages; i++)
        pfns[i] = 1000 + i;
    advance_a_page(moving, 1);
    good = moving->mdl->StartVa == (PCHAR)start + PAGE_SIZE && MmGetMdlByteCount(moving->mdl) == (moving->npages - 1) * PAGE_SIZE;
    for (size_t i = 0; i < moving->npages - 1; i++)
        good = good && pfns[i] == 1001 + i;
    advance_inside(moving, 1);
    return good && moving->mdl->ByteOffset == 64 && moving->mdl->StartVa == (PCHAR)start + PAGE_SIZE;
}

static void prepare(struct moving *moving, size_t npages)
{
    moving->npages = npages;
    moving->mdl = IoAllocateMdl(NULL, (ULONG)(npages * PAGE_SIZE), FALSE, FALSE, NULL);
    moving->copy = bench_copy_target(NULL, npages * sizeof(PFN_NUMBER));
}

int main(int argc, char **argv)
{
    static struct moving sixteen, large, huge;
    const struct bench_case cases[] = {
        {"3", "advance inside a page", "three fields", 1.5, 0, advance_inside, adjust_header, is_advanced, &sixteen, NULL},
        {"3", "advance by a page, 16 pages", "memmove of the rest", 1.15, 5, advance_a_page, move, is_advanced, &sixteen, NULL},
        {"3", "advance by a page, 256 pages", "memmove of the rest", 1.15, 5, advance_a_page, move, is_advanced, &large, NULL},
        {"3", "advance by a page, 16384 pages", "memmove of the rest", 1.15, 5, advance_a_page, move, is_advanced, &huge, NULL},
    };

    pinion_boot("verifier=off");
    prepare(&sixteen, 16);
    prepare(&large, 256);
    prepare(&huge, 16384);
    return bench_run(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
