/* SPDX-License-Identifier: MIT */
/*
 * Every allocation that the library makes for itself, made to fail: for each routine, in one call after the
 * other, the first, the second, the third ... until none is left to fail.
 *
 *     call     fails as the page says (NULL, a status, an exception), or finds another way and succeeds
 *     then     counters, MDLs with their PFNs, and the buffer are as they were before the call
 *     later    the call works, and as much RAM is free as after the same calls without a failure
 *
 * Each test does this on machines with the verifier and without, with scattered frames and with linear ones;
 * twice on each: from cold, when tables and caches are still to be made, and again with a successful call
 * after each failure.
 */

#pragma once

#include "../contract/io_stack.h"
#include "../contract/pages.h"

#include <string.h>

/* What a call may end with besides a status. NULL is none: it has a number that Windows never gives. */
#define RETURNED_NULL ((NTSTATUS)0xE0AB0000)
#define ANY_ERROR ((NTSTATUS)0xE0AB0001) /* which one, the page leaves open */
#define NEVER_FAILS ((NTSTATUS)0xE0AB0002)

enum { PAGES = 9, BYTES = PAGES * PAGE_SIZE, SEED = 5, MOST_CALLS = 300, TAG = 'laFI' };

/* So many that no cache of freed ones has enough. */
enum { MANY = 150 };

/* What the calls work on, and what the last one made. */
struct scene {
    UCHAR *buffer;
    PMDL unlocked;
    PMDL locked;
    PMDL part;
    PIRP master;
    struct layer layer;
    PFILE_OBJECT file;
    PVOID made;
    PMDL made_mdl;
    PIRP made_irp;
};

/* One routine under test. `prepare` runs before each call. */
struct routine {
    NTSTATUS (*call)(struct scene *scene); /* STATUS_SUCCESS, or how it failed; it may raise */
    void (*undo)(struct scene *scene);
    NTSTATUS failure;
    void (*prepare)(struct scene *scene);
};

static inline NTSTATUS made(struct scene *scene, PVOID result)
{
    scene->made = result;
    return result == NULL ? RETURNED_NULL : STATUS_SUCCESS;
}

static inline NTSTATUS made_mdl(struct scene *scene, PMDL result)
{
    scene->made_mdl = result;
    return result == NULL ? RETURNED_NULL : STATUS_SUCCESS;
}

static inline NTSTATUS made_irp(struct scene *scene, PIRP result)
{
    scene->made_irp = result;
    return result == NULL ? RETURNED_NULL : STATUS_SUCCESS;
}

static inline void free_mdl(struct scene *scene)
{
    IoFreeMdl(scene->made_mdl);
}

/* ---- The scene ---------------------------------------------------------------------------------------- */

static inline void open_scene(struct scene *scene)
{
    *scene = (struct scene){.buffer = user_pattern(PAGES, SEED)};
    scene->unlocked = mdl_over(scene->buffer, BYTES);
    scene->locked = locked_mdl(scene->buffer, BYTES);
    scene->part = mdl_over(scene->buffer, BYTES);
    memset(MmGetMdlPfnArray(scene->unlocked), 0, PAGES * sizeof(PFN_NUMBER));
    memset(MmGetMdlPfnArray(scene->part), 0, PAGES * sizeof(PFN_NUMBER));
    scene->master = IoAllocateIrp(3, FALSE);
    EXPECT(scene->master != NULL);
    layer_create(&scene->layer, DO_DIRECT_IO, complete_with_success);
    EXPECT_STATUS(pinion_open(scene->layer.device, &scene->file), STATUS_SUCCESS);
}

static inline void close_scene(struct scene *scene)
{
    pinion_close(scene->file);
    layer_destroy(&scene->layer);
    IoFreeIrp(scene->master);
    IoFreeMdl(scene->part);
    unlock_and_free(scene->locked);
    IoFreeMdl(scene->unlocked);
    EXPECT_PATTERN(scene->buffer, BYTES, SEED);
    pinion_user_free(scene->buffer);
}

/* The MDLs of the scene, header and PFNs. */
struct snapshot {
    UCHAR unlocked[sizeof(MDL) + PAGES * sizeof(PFN_NUMBER)];
    UCHAR locked[sizeof(MDL) + PAGES * sizeof(PFN_NUMBER)];
    UCHAR part[sizeof(MDL) + PAGES * sizeof(PFN_NUMBER)];
};

static inline struct snapshot take_snapshot(const struct scene *scene)
{
    struct snapshot s;

    memcpy(s.unlocked, scene->unlocked, sizeof(s.unlocked));
    memcpy(s.locked, scene->locked, sizeof(s.locked));
    memcpy(s.part, scene->part, sizeof(s.part));
    return s;
}

/* All the pages that there are for the asking. */
static inline SIZE_T free_ram(void)
{
    const PMDL all = pages_in_ex(0, EVERYWHERE, 0, (SIZE_T)GIB, MM_DONT_ZERO_ALLOCATION);

    EXPECT(all != NULL);
    const SIZE_T bytes = MmGetMdlByteCount(all);
    free_pages(all);
    return bytes;
}

/* ---- The sweep ---------------------------------------------------------------------------------------- */

struct attempt {
    const struct routine *routine;
    struct scene *scene;
    NTSTATUS status;
};

static inline void attempt_body(void *context)
{
    struct attempt *const attempt = context;

    attempt->status = attempt->routine->call(attempt->scene);
}

/* STATUS_SUCCESS, what the routine returned, or what it raised. */
static inline NTSTATUS attempt(const struct routine *routine, struct scene *scene)
{
    struct attempt attempt = {routine, scene, STATUS_SUCCESS};
    const NTSTATUS raised = pinion_try(attempt_body, &attempt);

    return raised != STATUS_SUCCESS ? raised : attempt.status;
}

static inline void prepare(const struct routine *routine, struct scene *scene)
{
    scene->made = NULL;
    scene->made_mdl = NULL;
    scene->made_irp = NULL;
    if (routine->prepare)
        routine->prepare(scene);
}

static inline void undo(const struct routine *routine, struct scene *scene)
{
    if (routine->undo)
        routine->undo(scene);
}

static inline void expect_success(const struct routine *routine, struct scene *scene)
{
    prepare(routine, scene);
    EXPECT_STATUS(attempt(routine, scene), STATUS_SUCCESS);
    undo(routine, scene);
}

static inline uint64_t failures_so_far(void)
{
    struct pinion_totals totals;

    pinion_totals(&totals);
    return totals.injected_failures;
}

/* It failed, as its page says. */
static inline void expect_documented(const struct routine *routine, unsigned nth, NTSTATUS status)
{
    const BOOLEAN right = routine->failure == ANY_ERROR ? NT_ERROR(status) && status != RETURNED_NULL
                                                        : status == routine->failure;

    if (!right)
        harness_fail(HARNESS_HERE, "with allocation %u failing it ends with 0x%08X", nth, (unsigned)status);
}

/* One call in which the nth allocation fails. FALSE once there is no such allocation. */
static inline BOOLEAN call_failing(const struct routine *routine, struct scene *scene, unsigned nth)
{
    const uint64_t failures = failures_so_far();

    prepare(routine, scene);
    const struct pinion_counters before = counters_now();
    const struct snapshot mdls = take_snapshot(scene);
    pinion_fail("internal", nth);
    const NTSTATUS status = attempt(routine, scene);
    pinion_fail("internal", 0);
    if (status == STATUS_SUCCESS) {
        undo(routine, scene);
        return failures_so_far() != failures;
    }
    const struct snapshot after = take_snapshot(scene);
    expect_documented(routine, nth, status);
    EXPECT(failures_so_far() != failures);
    EXPECT_MEM_EQ(&after, &mdls, sizeof(mdls));
    EXPECT_SAME_COUNTERS(before);
    EXPECT(scene->made == NULL && scene->made_mdl == NULL && scene->made_irp == NULL);
    return TRUE;
}

/* How many allocations the call makes. */
static inline unsigned sweep_once(const struct routine *routine, struct scene *scene, BOOLEAN between)
{
    unsigned nth = 1;

    while (call_failing(routine, scene, nth)) {
        EXPECT(nth < MOST_CALLS);
        nth++;
        if (between)
            expect_success(routine, scene);
    }
    return nth - 1;
}

/* All of them fail at once, time after time, and then none. */
static inline void fail_all(const struct routine *routine, struct scene *scene)
{
    for (int i = 0; i < 10; i++) {
        prepare(routine, scene);
        const struct pinion_counters before = counters_now();
        pinion_fail_every("internal", 1);
        const NTSTATUS status = attempt(routine, scene);
        pinion_fail_every("internal", 0);
        if (status == STATUS_SUCCESS) {
            undo(routine, scene);
            continue;
        }
        expect_documented(routine, 0, status);
        EXPECT_SAME_COUNTERS(before);
    }
    expect_success(routine, scene);
}

static inline unsigned sweep_on(const char *options, const struct routine *routine)
{
    struct scene scene;

    boot(options);
    open_scene(&scene);
    const unsigned cold = sweep_once(routine, &scene, FALSE);
    expect_success(routine, &scene);
    const SIZE_T ram = free_ram();
    sweep_once(routine, &scene, TRUE);
    fail_all(routine, &scene);
    EXPECT_EQ(free_ram(), ram);
    close_scene(&scene);
    EXPECT_EQ(pinion_shutdown(), 0);
    return cold;
}

/* The whole of it. A routine that may fail must have something to fail on one of the machines, or the test
   would show nothing. */
static inline void sweep(struct routine routine)
{
    static const char *const machines[] = {"ram=32M", "ram=32M:verifier=off", "ram=32M:layout=linear",
                                           "ram=32M:layout=linear:verifier=off"};
    unsigned most = 0;

    for (SIZE_T i = 0; i < ARRAYSIZE(machines); i++) {
        const unsigned calls = sweep_on(machines[i], &routine);

        most = calls > most ? calls : most;
    }
    EXPECT(most > 0 || routine.failure == NEVER_FAILS);
}
