/* SPDX-License-Identifier: MIT */
/*
 * What does a lock of foreign memory cost, of which only touching tells whether it is there? MmProbeAndLockPages of memory of
 * the host, against a loop that touches it; and where it is not there, against a fault that the loop survives.
 */

#include "bench.h"

#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct foreign {
    size_t         npages;
    LOCK_OPERATION operation;
    bool           missing;             /* the last page */
    char          *va;
    PMDL           mdl;
};

static void lock_and_unlock(void *context, uint64_t times)
{
    const struct foreign *foreign = context;

    while (times-- > 0) {
        MmProbeAndLockPages(foreign->mdl, KernelMode, foreign->operation);
        MmUnlockPages(foreign->mdl);
    }
}

static void lock(void *context)
{
    const struct foreign *foreign = context;

    MmProbeAndLockPages(foreign->mdl, KernelMode, foreign->operation);
}

static void fail_to_lock(void *context, uint64_t times)
{
    while (times-- > 0)
        if (pinion_try(lock, context) != STATUS_ACCESS_VIOLATION)
            abort();
}

/* ---- anchors ---- */

static __attribute__((noinline)) void touch(const struct foreign *foreign)
{
    const volatile char *va = foreign->va;

    for (size_t i = 0; i < foreign->npages; i++)
        (void)va[i * PAGE_SIZE];
}

static void touch_for_read(void *context, uint64_t times)
{
    while (times-- > 0)
        touch(context);
}

static void touch_for_write(void *context, uint64_t times)
{
    const struct foreign *foreign = context;

    while (times-- > 0)
        for (size_t i = 0; i < foreign->npages; i++)
            __atomic_fetch_or(&foreign->va[i * PAGE_SIZE], 0, __ATOMIC_RELAXED);
}

static sigjmp_buf survived;

static void on_fault(int signal)
{
    (void)signal;
    siglongjmp(survived, 1);
}

/* The handler leaves by a jump that restores no mask, so its signal must not be blocked meanwhile. */
static void touch_and_survive(void *context, uint64_t times)
{
    const struct sigaction action = {.sa_handler = on_fault, .sa_flags = SA_NODEFER};
    struct sigaction before;

    sigaction(SIGSEGV, &action, &before);
    for (volatile uint64_t left = times; left > 0; left--)
        if (sigsetjmp(survived, 0) == 0)
            touch(context);
    sigaction(SIGSEGV, &before, NULL);
}

/* ---- proof ---- */

static uint64_t locked_pages(void)
{
    struct pinion_counters counters;

    pinion_counters(&counters);
    return counters.locked_pages;
}

/* A lock counts every page and numbers them in their order; and memory that is not there, or not writable, refuses it. */
static bool is_probed(void *context)
{
    struct foreign *foreign = context;
    const size_t bytes = foreign->npages * PAGE_SIZE;
    bool good;

    memset(MmGetMdlPfnArray(foreign->mdl), 0, foreign->npages * sizeof(PFN_NUMBER));
    MmProbeAndLockPages(foreign->mdl, KernelMode, foreign->operation);
    good = locked_pages() == foreign->npages;
    for (size_t i = 1; i < foreign->npages; i++)
        good = good && MmGetMdlPfnArray(foreign->mdl)[i] == MmGetMdlPfnArray(foreign->mdl)[0] + i;
    MmUnlockPages(foreign->mdl);
    mprotect(foreign->va, bytes, foreign->operation == IoReadAccess ? PROT_NONE : PROT_READ);
    good = good && pinion_try(lock, foreign) == STATUS_ACCESS_VIOLATION && locked_pages() == 0;
    mprotect(foreign->va, bytes, PROT_READ | PROT_WRITE);
    return good;
}

static bool is_refused(void *context)
{
    return pinion_try(lock, context) == STATUS_ACCESS_VIOLATION && locked_pages() == 0;
}

static void prepare(struct foreign *foreign)
{
    const size_t bytes = foreign->npages * PAGE_SIZE;

    foreign->va = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (foreign->va == MAP_FAILED)
        abort();
    memset(foreign->va, 1, bytes);
    if (foreign->missing)
        mprotect(foreign->va + bytes - PAGE_SIZE, PAGE_SIZE, PROT_NONE);
    foreign->mdl = IoAllocateMdl(foreign->va, (ULONG)bytes, FALSE, FALSE, NULL);
}

int main(int argc, char **argv)
{
    static struct foreign read_few = {.npages = 256, .operation = IoReadAccess}, read_many = {.npages = 16384, .operation = IoReadAccess},
                          write_few = {.npages = 256, .operation = IoWriteAccess},
                          missing = {.npages = 1, .operation = IoReadAccess, .missing = true};
    const struct bench_case cases[] = {
        {"5c", "lock + unlock, host memory, 256 pages", "touching loop", 1.1, 0, lock_and_unlock, touch_for_read, is_probed, &read_few, NULL},
        {"5c", "lock + unlock, host memory, 16384 pages", "touching loop", 1.1, 0, lock_and_unlock, touch_for_read, is_probed, &read_many, NULL},
        {"5c", "the same for writing, 256 pages", "locked touching loop", 1.1, 0, lock_and_unlock, touch_for_write, is_probed, &write_few, NULL},
        {"5c", "a lock that memory refuses", "fault and siglongjmp", 1.15, 0, fail_to_lock, touch_and_survive, is_refused, &missing, NULL},
    };

    pinion_boot("verifier=off");
    prepare(&read_few);
    prepare(&read_many);
    prepare(&write_few);
    prepare(&missing);
    return bench_run(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
