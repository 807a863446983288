/* SPDX-License-Identifier: MIT */
/*
 * What does the verifier cost? A request's worth of MDL calls with every check on, while one object is on its record and while
 * a million are.
 */

#include "bench.h"

#include <stdlib.h>

enum { PAGES = 16, MANY = 1000000 };

static char *buffer;
static PMDL  target;
static PMDL *alive;
static size_t nalive;

static void set_alive(size_t n)
{
    for (; nalive < n; nalive++)
        if ((alive[nalive] = IoAllocateMdl((PVOID)0x10000, PAGE_SIZE, FALSE, FALSE, NULL)) == NULL)
            abort();
    while (nalive > n)
        IoFreeMdl(alive[--nalive]);
}

static void serve(uint64_t times)
{
    while (times-- > 0) {
        PMDL mdl = IoAllocateMdl(buffer, PAGES * PAGE_SIZE, FALSE, FALSE, NULL);

        MmProbeAndLockPages(mdl, UserMode, IoWriteAccess);
        IoBuildPartialMdl(mdl, target, buffer, PAGES * PAGE_SIZE);
        MmUnlockPages(mdl);
        IoFreeMdl(mdl);
    }
}

/* Called with no times before each sample: the millions come and go while nobody measures. */
static void serve_among_few(void *context, uint64_t times)
{
    (void)context;
    set_alive(0);
    serve(times);
}

static void serve_among_many(void *context, uint64_t times)
{
    (void)context;
    set_alive(MANY);
    serve(times);
}

/* Everything is on record: an MDL that is still locked is not freed without a word. */
static bool is_served(void *context)
{
    struct pinion_counters before, after;

    (void)context;
    pinion_counters(&before);
    serve(10);
    pinion_counters(&after);
    return before.live_mdls == after.live_mdls && after.locked_pages == 0 && MmGetMdlByteCount(target) == PAGES * PAGE_SIZE;
}

int main(int argc, char **argv)
{
    const struct bench_case cases[] = {
        {"11", "verifier on: 5 calls, 16 pages", "-", 0, 600, serve_among_few, NULL, is_served, NULL, NULL},
        {"11", "the same among 1,000,000 objects", "among one", 1.5, 0, serve_among_many, serve_among_few, is_served, NULL, NULL},
    };

    pinion_boot("verifier=on");
    buffer = pinion_user_alloc(PAGES * PAGE_SIZE, PAGE_READWRITE);
    target = IoAllocateMdl(buffer, PAGES * PAGE_SIZE, FALSE, FALSE, NULL);
    alive = calloc(MANY, sizeof(*alive));
    if (alive == NULL)
        abort();
    return bench_run(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
