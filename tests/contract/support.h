/* SPDX-License-Identifier: MIT */
/*
 * What the contract tests share: buffers with a pattern that shows each misplaced byte, locked MDLs over them, calls
 * that may raise, and counters compared before and after. No expectation about a routine lives here.
 *
 * Include it after "harness.h"; it brings the driver's header unless one is there already.
 */

#pragma once

#include "harness.h"

#include <sys/mman.h>

#ifndef PINION_WDK_WDM_H
#include <wdm.h>
#endif
#include <pinion/pinion.h>

/* Priorities of mappings that nobody executes from: others are a finding of the verifier. */
enum { TEST_TAG = 'tseT' };
static const ULONG LOW_NX = LowPagePriority | MdlMappingNoExecute;
static const ULONG NORMAL_NX = NormalPagePriority | MdlMappingNoExecute;
static const ULONG HIGH_NX = HighPagePriority | MdlMappingNoExecute;

/* ---- The machine --------------------------------------------------------------------------------------- */

static inline void boot(const char *options)
{
    EXPECT_EQ(pinion_boot(options), 0);
}

static inline struct pinion_counters counters_now(void)
{
    struct pinion_counters now;

    pinion_counters(&now);
    return now;
}

/* Nothing that is alive has changed; host_calls only ever grows and is left out. */
#define EXPECT_SAME_COUNTERS(before)                                                                         \
    do {                                                                                                     \
        const struct pinion_counters then_ = (before), now_ = counters_now();                                \
        EXPECT_EQ(now_.live_mdls, then_.live_mdls);                                                          \
        EXPECT_EQ(now_.locked_pages, then_.locked_pages);                                                    \
        EXPECT_EQ(now_.system_mappings, then_.system_mappings);                                              \
        EXPECT_EQ(now_.system_pages_mapped, then_.system_pages_mapped);                                      \
        EXPECT_EQ(now_.outstanding_lists, then_.outstanding_lists);                                          \
        EXPECT_EQ(now_.live_irps, then_.live_irps);                                                          \
    } while (0)

/* ---- Contents ------------------------------------------------------------------------------------------ */

/* A byte that depends on its position and its page, so that neither a shifted byte nor a swapped page goes
   unseen. */
static inline UCHAR pattern_byte(ULONG seed, SIZE_T index)
{
    return (UCHAR)(seed * 131 + index * 7 + (index >> 8) * 17 + (index >> PAGE_SHIFT) * 29 + 1);
}

static inline void fill_pattern(PVOID va, SIZE_T bytes, ULONG seed)
{
    UCHAR *const to = va;

    for (SIZE_T i = 0; i < bytes; i++)
        to[i] = pattern_byte(seed, i);
}

/* The first byte that differs from the pattern, or `bytes`. */
static inline SIZE_T pattern_mismatch(const VOID *va, SIZE_T bytes, ULONG seed)
{
    const UCHAR *const from = va;

    for (SIZE_T i = 0; i < bytes; i++) {
        if (from[i] != pattern_byte(seed, i))
            return i;
    }
    return bytes;
}

#define EXPECT_PATTERN(va, bytes, seed) EXPECT_EQ(pattern_mismatch((va), (bytes), (seed)), (bytes))

/* The same for a part of a patterned buffer that starts `first` bytes into it. */
static inline SIZE_T pattern_mismatch_at(const VOID *va, SIZE_T bytes, ULONG seed, SIZE_T first)
{
    const UCHAR *const from = va;

    for (SIZE_T i = 0; i < bytes; i++) {
        if (from[i] != pattern_byte(seed, first + i))
            return i;
    }
    return bytes;
}

#define EXPECT_PATTERN_AT(va, bytes, seed, first)                                                            \
    EXPECT_EQ(pattern_mismatch_at((va), (bytes), (seed), (first)), (bytes))

/* ---- Buffers and MDLs ---------------------------------------------------------------------------------- */

static inline UCHAR *user_pages(SIZE_T pages, ULONG protection)
{
    UCHAR *const va = pinion_user_alloc(pages * PAGE_SIZE, protection);

    EXPECT(va != NULL);
    return va;
}

/* Read-write memory of the current process that holds the pattern. */
static inline UCHAR *user_pattern(SIZE_T pages, ULONG seed)
{
    UCHAR *const va = user_pages(pages, PAGE_READWRITE);

    fill_pattern(va, pages * PAGE_SIZE, seed);
    return va;
}

static inline PMDL mdl_over(PVOID va, SIZE_T bytes)
{
    const PMDL mdl = IoAllocateMdl(va, (ULONG)bytes, FALSE, FALSE, NULL);

    EXPECT(mdl != NULL);
    return mdl;
}

static inline SIZE_T mdl_pages(PMDL mdl)
{
    return ADDRESS_AND_SIZE_TO_SPAN_PAGES(MmGetMdlVirtualAddress(mdl), MmGetMdlByteCount(mdl));
}

/* The number of the frame behind a resident address. */
static inline PFN_NUMBER frame_of(PVOID va)
{
    return (PFN_NUMBER)MmGetPhysicalAddress(va).QuadPart >> PAGE_SHIFT;
}

/* The system address of an MDL, as drivers ask for it. */
static inline UCHAR *system_address(PMDL mdl)
{
    UCHAR *const address = MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX);

    EXPECT(address != NULL);
    return address;
}

/* ---- Calls that may raise ------------------------------------------------------------------------------ */

struct lock_call {
    PMDL mdl;
    KPROCESSOR_MODE mode;
    LOCK_OPERATION operation;
};

static inline void lock_body(void *context)
{
    const struct lock_call *const call = context;

    MmProbeAndLockPages(call->mdl, call->mode, call->operation);
}

/* STATUS_SUCCESS, or what MmProbeAndLockPages raised. */
static inline NTSTATUS try_lock(PMDL mdl, KPROCESSOR_MODE mode, LOCK_OPERATION operation)
{
    struct lock_call call = {mdl, mode, operation};

    return pinion_try(lock_body, &call);
}

/* A new MDL, locked in UserMode for writing; unlock_and_free undoes it. */
static inline PMDL locked_mdl(PVOID va, SIZE_T bytes)
{
    const PMDL mdl = mdl_over(va, bytes);

    EXPECT_STATUS(try_lock(mdl, UserMode, IoWriteAccess), STATUS_SUCCESS);
    return mdl;
}

static inline void unlock_and_free(PMDL mdl)
{
    MmUnlockPages(mdl);
    IoFreeMdl(mdl);
}

struct map_call {
    PMDL mdl;
    KPROCESSOR_MODE mode;
    MEMORY_CACHING_TYPE cache_type;
    PVOID requested;
    ULONG priority;
    PVOID result;
};

static inline void map_body(void *context)
{
    struct map_call *const call = context;

    call->result = MmMapLockedPagesSpecifyCache(call->mdl, call->mode, call->cache_type, call->requested,
                                                FALSE, call->priority);
}

/* The current process's address for an MDL's pages, at a place of the system's choice; fails the test if it
   raises. */
static inline UCHAR *map_user(PMDL mdl)
{
    struct map_call call = {mdl, UserMode, MmCached, NULL, NORMAL_NX, NULL};

    EXPECT_STATUS(pinion_try(map_body, &call), STATUS_SUCCESS);
    return call.result;
}

static inline UCHAR *map_system(PMDL mdl)
{
    return MmMapLockedPagesSpecifyCache(mdl, KernelMode, MmCached, NULL, FALSE, NORMAL_NX);
}

/* Nonpaged pool that cannot be executed. */
static inline UCHAR *pool_pages(SIZE_T pages)
{
    UCHAR *const block = ExAllocatePoolWithTag(NonPagedPoolNx, pages * PAGE_SIZE, TEST_TAG);

    EXPECT(block != NULL);
    return block;
}

/* ---- Accesses that may fault --------------------------------------------------------------------------- */

/* The sanitizers would stop such an access before it is made. */
#define MAY_FAULT __attribute__((noinline, no_sanitize("address"), no_sanitize("undefined"), unused))

MAY_FAULT static void touch_load(void *va)
{
    (void)*(volatile UCHAR *)va;
}

MAY_FAULT static void touch_store(void *va)
{
    *(volatile UCHAR *)va = 0x77;
}

MAY_FAULT static void touch_execute(void *va)
{
    ((void (*)(void))(ULONG_PTR)va)();
}

/* ---- IRQL ---------------------------------------------------------------------------------------------- */

static inline KIRQL raise_irql(KIRQL irql)
{
    KIRQL before;

    KeRaiseIrql(irql, &before);
    return before;
}

/* ---- Stops --------------------------------------------------------------------------------------------- */

/* A page that the children of this process share with it: where a body leaves the addresses that a stop
   must name. */
static inline uint64_t *shared_words(void)
{
    uint64_t *const words = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    EXPECT(words != MAP_FAILED);
    return words;
}

/* The flags of an MDL as a bug check prints them. */
static inline uint64_t mdl_flags(PMDL mdl)
{
    return (USHORT)mdl->MdlFlags;
}

/* The body must stop the machine with this code and first parameter; the others are in the result. */
static inline struct stop expect_stop(void (*body)(void *), void *context, uint32_t code, uint64_t p1)
{
    const struct stop stop = run_until_stop(body, context);

    if (!stop.stopped)
        harness_fail(HARNESS_HERE, "expected STOP 0x%08X: the body ended with %d and printed: %s", code,
                     stop.exit_status, stop.stderr_text);
    EXPECT_EQ(stop.code, code);
    EXPECT_EQ(stop.p[0], p1);
    return stop;
}
