/* SPDX-License-Identifier: MIT */
/*
 * What does a system address cost? MmGetSystemAddressForMdlSafe and MmUnmapLockedPages: pages that lie side by side, and
 * pages that do not, against the mappings that Linux itself would make.
 */

#include "bench.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct mapped {
    size_t      npages;
    size_t      run;                    /* pages in a row; 0: all */
    char       *va;
    PMDL        mdl;
    PFN_NUMBER *copy;
    int         file;
    char       *room;
};

static void map_and_unmap(void *context, uint64_t times)
{
    const struct mapped *mapped = context;

    while (times-- > 0)
        MmUnmapLockedPages(MmGetSystemAddressForMdlSafe(mapped->mdl, NormalPagePriority), mapped->mdl);
}

/* Two runs change places: no two lists that are mapped within a long time are the same, so that none is found again. */
static void exchange_runs(const struct mapped *mapped)
{
    static uint64_t seed = 1;
    const PPFN_NUMBER pfns = MmGetMdlPfnArray(mapped->mdl);
    const size_t nruns = mapped->npages / mapped->run;
    size_t a, b;

    seed = seed * 6364136223846793005 + 1442695040888963407;
    a = (seed >> 60) % nruns;
    b = (a + 1 + (seed >> 40) % (nruns - 1)) % nruns;
    for (size_t i = 0; i < mapped->run; i++) {
        const PFN_NUMBER pfn = pfns[a * mapped->run + i];

        pfns[a * mapped->run + i] = pfns[b * mapped->run + i];
        pfns[b * mapped->run + i] = pfn;
    }
}

static void map_new_and_unmap(void *context, uint64_t times)
{
    const struct mapped *mapped = context;

    while (times-- > 0) {
        exchange_runs(mapped);
        map_and_unmap(context, 1);
    }
}

static __attribute__((noinline)) bool same(const PFN_NUMBER *a, const PFN_NUMBER *b, size_t n)
{
    return memcmp(a, b, n * sizeof(*a)) == 0;
}

static void compare(void *context, uint64_t times)
{
    const struct mapped *mapped = context;
    bool all = true;

    while (times-- > 0)
        all &= same(mapped->copy, MmGetMdlPfnArray(mapped->mdl), mapped->npages);
    bench_use(&all);
}

/* One mmap for each run, one munmap of the whole. */
static void map_by_hand(void *context, uint64_t times)
{
    const struct mapped *mapped = context;
    const size_t run_bytes = mapped->run * PAGE_SIZE;

    while (times-- > 0) {
        for (size_t done = 0; done < mapped->npages; done += mapped->run)
            mmap(mapped->room + done * PAGE_SIZE, run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, mapped->file,
                 (off_t)(2 * done * PAGE_SIZE));
        mmap(mapped->room, mapped->npages * PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    }
}

/* What is stored through the mapping is there at the buffer's own address. */
static bool is_mapped(void *context)
{
    const struct mapped *mapped = context;
    char *system = MmGetSystemAddressForMdlSafe(mapped->mdl, NormalPagePriority);
    bool good = system != NULL && system != mapped->va;

    for (size_t i = 0; i < mapped->npages; i++) {
        const size_t page = mapped->run == 0 ? i : i / mapped->run * 2 * mapped->run + i % mapped->run;

        system[i * PAGE_SIZE + 7] = (char)(i * 3 + 1);
        good = good && mapped->va[page * PAGE_SIZE + 7] == (char)(i * 3 + 1);
    }
    MmUnmapLockedPages(system, mapped->mdl);
    return good;
}

/* The numbers of every other run of a buffer twice as long: a container whose pages stay locked by the long MDL. */
static void prepare(struct mapped *mapped, size_t npages, size_t run)
{
    const size_t reach = run == 0 ? npages : 2 * npages;
    PMDL whole;

    *mapped = (struct mapped){.npages = npages, .run = run};
    mapped->va = pinion_user_alloc(reach * PAGE_SIZE, PAGE_READWRITE);
    memset(mapped->va, 0, reach * PAGE_SIZE);
    whole = IoAllocateMdl(mapped->va, (ULONG)(reach * PAGE_SIZE), FALSE, FALSE, NULL);
    MmProbeAndLockPages(whole, UserMode, IoWriteAccess);
    mapped->mdl = run == 0 ? whole : IoAllocateMdl(mapped->va, (ULONG)(npages * PAGE_SIZE), FALSE, FALSE, NULL);
    for (size_t i = 0; run != 0 && i < npages; i++)
        MmGetMdlPfnArray(mapped->mdl)[i] = MmGetMdlPfnArray(whole)[i / run * 2 * run + i % run];
    if (run != 0)
        mapped->mdl->MdlFlags |= MDL_PAGES_LOCKED;
    mapped->copy = bench_copy_target(MmGetMdlPfnArray(mapped->mdl), npages * sizeof(PFN_NUMBER));
    memcpy(mapped->copy, MmGetMdlPfnArray(mapped->mdl), npages * sizeof(PFN_NUMBER));
    mapped->file = memfd_create("bench", MFD_CLOEXEC);
    mapped->room = mmap(NULL, npages * PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (ftruncate(mapped->file, (off_t)(2 * npages * PAGE_SIZE)) != 0 || mapped->room == MAP_FAILED)
        abort();
}

int main(int argc, char **argv)
{
    static struct mapped one, sixteen, large, singles, runs, other_singles, other_runs;
    const struct bench_case cases[] = {
        {"6", "system address, side by side, 1 page", "-", 0, 10, map_and_unmap, NULL, is_mapped, &one, NULL},
        {"6", "system address, side by side, 16 pages", "-", 0, 10, map_and_unmap, NULL, is_mapped, &sixteen, NULL},
        {"6", "system address, side by side, 256 pages", "-", 0, 10, map_and_unmap, NULL, is_mapped, &large, NULL},
        {"6b", "the same MDL again, 16 runs of a page", "memcmp of its PFNs", 1.3, 20, map_and_unmap, compare, is_mapped, &singles, NULL},
        {"6b", "the same MDL again, 16 runs of 16 pages", "memcmp of its PFNs", 1.3, 20, map_and_unmap, compare, is_mapped, &runs, NULL},
        {"6c", "a new mapping, 16 runs of a page", "mmap a run + munmap", 1.15, 0, map_new_and_unmap, map_by_hand, is_mapped, &other_singles, NULL},
        {"6c", "a new mapping, 16 runs of 16 pages", "mmap a run + munmap", 1.15, 0, map_new_and_unmap, map_by_hand, is_mapped, &other_runs, NULL},
    };

    pinion_boot("verifier=off:layout=linear");
    prepare(&one, 1, 0);
    prepare(&sixteen, 16, 0);
    prepare(&large, 256, 0);
    prepare(&singles, 16, 1);
    prepare(&runs, 256, 16);
    prepare(&other_singles, 16, 1);
    prepare(&other_runs, 256, 16);
    return bench_run(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
