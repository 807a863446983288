/* SPDX-License-Identifier: MIT */
/* What does a partial MDL cost beyond the copy of page numbers that it is? IoBuildPartialMdl against memcpy. */

#include "bench.h"

#include <stdlib.h>
#include <string.h>

struct part {
    size_t      npages;
    PMDL        source, target;
    char       *va;
    PFN_NUMBER *copy;
};

static void build(void *context, uint64_t times)
{
    const struct part *part = context;

    while (times-- > 0)
        IoBuildPartialMdl(part->source, part->target, part->va, (ULONG)(part->npages * PAGE_SIZE));
}

static __attribute__((noinline)) void copy_pfns(PFN_NUMBER *to, const PFN_NUMBER *from, size_t n)
{
    memcpy(to, from, n * sizeof(*to));
    bench_use(to);
}

static void copy(void *context, uint64_t times)
{
    const struct part *part = context;

    while (times-- > 0)
        copy_pfns(part->copy, MmGetMdlPfnArray(part->source) + 1, part->npages);
}

static bool is_built(void *context)
{
    const struct part *part = context;

    memset(MmGetMdlPfnArray(part->target), 0, part->npages * sizeof(PFN_NUMBER));
    build(context, 1);
    return MmGetMdlVirtualAddress(part->target) == part->va && MmGetMdlByteCount(part->target) == part->npages * PAGE_SIZE
        && memcmp(MmGetMdlPfnArray(part->target), MmGetMdlPfnArray(part->source) + 1, part->npages * sizeof(PFN_NUMBER)) == 0;
}

static void prepare(struct part *part, size_t npages)
{
    const ULONG bytes = (ULONG)((npages + 2) * PAGE_SIZE);
    char *buffer = pinion_user_alloc(bytes, PAGE_READWRITE);

    part->npages = npages;
    part->source = IoAllocateMdl(buffer, bytes, FALSE, FALSE, NULL);
    MmProbeAndLockPages(part->source, UserMode, IoWriteAccess);
    part->va = buffer + PAGE_SIZE;
    part->target = IoAllocateMdl(part->va, (ULONG)(npages * PAGE_SIZE), FALSE, FALSE, NULL);
    part->copy = bench_copy_target(MmGetMdlPfnArray(part->source) + 1, npages * sizeof(PFN_NUMBER));
}

int main(int argc, char **argv)
{
    static struct part one, sixteen, large, huge;
    const struct bench_case cases[] = {
        {"2", "build a partial MDL, 1 page", "memcpy", 1.5, 0, build, copy, is_built, &one, NULL},
        {"2", "build a partial MDL, 16 pages", "memcpy", 1, 2.5, build, copy, is_built, &sixteen, NULL},
        {"2", "build a partial MDL, 256 pages", "memcpy", 1.15, 2, build, copy, is_built, &large, NULL},
        {"2", "build a partial MDL, 16384 pages", "memcpy", 1.05, 0, build, copy, is_built, &huge, NULL},
    };

    pinion_boot("verifier=off");
    prepare(&one, 1);
    prepare(&sixteen, 16);
    prepare(&large, 256);
    prepare(&huge, 16384);
    return bench_run(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
