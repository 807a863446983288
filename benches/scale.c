/* SPDX-License-Identifier: MIT */
/*
 * Does a page cost more in the largest MDL that there is? Locking, describing and mapping 1,048,575 pages (4 GiB less a page),
 * against the same pages in MDLs of 256.
 */

#include "bench.h"

#include <stdlib.h>
#include <string.h>

enum { FEW = 256, MOST = 1048575 };

struct sized {
    size_t      npages;
    char       *va;
    PMDL        mdl, part;
    PFN_NUMBER *copy;
};

static struct sized few, most;

/* ---- one of each ---- */

static void copy(const struct sized *sized)
{
    memcpy(sized->copy, MmGetMdlPfnArray(sized->part), sized->npages * sizeof(PFN_NUMBER));
    bench_use(sized->copy);
}

static void lock(const struct sized *sized)
{
    MmProbeAndLockPages(sized->mdl, UserMode, IoWriteAccess);
    MmUnlockPages(sized->mdl);
}

static void lock_and_build(const struct sized *sized)
{
    MmProbeAndLockPages(sized->mdl, UserMode, IoWriteAccess);
    IoBuildPartialMdl(sized->mdl, sized->part, sized->va, (ULONG)(sized->npages * PAGE_SIZE));
    MmUnlockPages(sized->mdl);
}

static void lock_and_map(const struct sized *sized)
{
    MmProbeAndLockPages(sized->mdl, UserMode, IoWriteAccess);
    bench_use(MmGetSystemAddressForMdlSafe(sized->mdl, NormalPagePriority));
    MmUnlockPages(sized->mdl);
}

/* ---- as many pages, in one MDL or in many ---- */

struct work {
    void (*once)(const struct sized *sized);
};

static void in_one(void *context, uint64_t times)
{
    const struct work *work = context;

    while (times-- > 0)
        work->once(&most);
}

static void in_many(void *context, uint64_t times)
{
    const struct work *work = context;

    for (uint64_t left = times * (MOST / FEW); left > 0; left--)
        work->once(&few);
}

/* The numbers of first, middle and last page are those of the addresses, and a system address reaches the last byte. */
static bool is_right(const struct sized *sized)
{
    const size_t pages[] = {0, sized->npages / 2, sized->npages - 1};
    bool good = true;
    char *system;

    sized->va[sized->npages * PAGE_SIZE - 1] = 7;
    MmProbeAndLockPages(sized->mdl, UserMode, IoWriteAccess);
    IoBuildPartialMdl(sized->mdl, sized->part, sized->va, (ULONG)(sized->npages * PAGE_SIZE));
    for (size_t i = 0; i < sizeof(pages) / sizeof(pages[0]); i++)
        good = good && MmGetMdlPfnArray(sized->part)[pages[i]] << PAGE_SHIFT
                           == (PFN_NUMBER)MmGetPhysicalAddress(sized->va + pages[i] * PAGE_SIZE).QuadPart;
    system = MmGetSystemAddressForMdlSafe(sized->mdl, NormalPagePriority);
    good = good && system != NULL && system[sized->npages * PAGE_SIZE - 1] == 7;
    MmUnlockPages(sized->mdl);
    return good;
}

static bool is_sized(void *context)
{
    (void)context;
    return is_right(&few) && is_right(&most);
}

static void prepare(struct sized *sized, size_t npages)
{
    const ULONG bytes = (ULONG)(npages * PAGE_SIZE);

    sized->npages = npages;
    sized->va = pinion_user_alloc(bytes, PAGE_READWRITE);
    sized->mdl = IoAllocateMdl(sized->va, bytes, FALSE, FALSE, NULL);
    sized->part = IoAllocateMdl(sized->va, bytes, FALSE, FALSE, NULL);
    sized->copy = bench_copy_target(MmGetMdlPfnArray(sized->part), npages * sizeof(PFN_NUMBER));
    if (sized->va == NULL || sized->mdl == NULL || sized->part == NULL || sized->copy == NULL)
        abort();
}

int main(int argc, char **argv)
{
    static struct work copying = {copy}, locking = {lock}, building = {lock_and_build}, mapping = {lock_and_map};
    const struct bench_case cases[] = {
        {"13", "(control: memcpy of as many page numbers)", "copies of 256", 1.5, 0, in_one, in_many, is_sized, &copying, NULL},
        {"13", "lock + unlock, 1,048,575 pages", "MDLs of 256 pages", 1.5, 0, in_one, in_many, is_sized, &locking, NULL},
        {"13", "the same with a partial MDL", "MDLs of 256 pages", 1.5, 0, in_one, in_many, is_sized, &building, NULL},
        {"13", "the same with a system address", "MDLs of 256 pages", 1.5, 0, in_one, in_many, is_sized, &mapping, NULL},
    };

    pinion_boot("verifier=off:ram=8G:layout=linear");
    prepare(&few, FEW);
    prepare(&most, MOST);
    return bench_run(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
