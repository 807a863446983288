/* SPDX-License-Identifier: MIT */
/*
 * MmProbeAndLockPages: mistakes of a driver, which stop the machine with the code and the parameters of Windows.
 */

#include "harness.h"

#include <ntddk.h>
#include <pinion/pinion.h>

#include "locking.h"

/* ---- Pageable memory at DISPATCH_LEVEL ------------------------------------------------------------------ */

static void lock_trimmed_at_dispatch(void *context HARNESS_UNUSED)
{
    const PMDL mdl = mdl_over(user_pattern(1, 3), PAGE_SIZE);

    pinion_trim();
    raise_irql(DISPATCH_LEVEL);
    MmProbeAndLockPages(mdl, UserMode, IoReadAccess);
}

/* MmProbeAndLockPages-18 Bug_checks-11: a pageable page that is away cannot be brought in at
   DISPATCH_LEVEL, and stops the machine. */
TEST_UNTIDY(mm_probe_and_lock, lock__trimmed_page_at_dispatch_level__stops)
{
    const struct stop stop = run_until_stop(lock_trimmed_at_dispatch, NULL);

    EXPECT(stop.stopped);
    EXPECT(stop.code == IRQL_NOT_LESS_OR_EQUAL || stop.code == DRIVER_IRQL_NOT_LESS_OR_EQUAL);
    EXPECT_EQ(stop.p[1], DISPATCH_LEVEL);
}

/* MmProbeAndLockPages-18: pageable memory that happens to be resident is reported at DISPATCH_LEVEL all the
   same. */
WARN_TEST(mm_probe_and_lock, lock__resident_pageable_page_at_dispatch_level__is_reported,
          "pageable-locked-at-dispatch")
{
    const PMDL mdl = mdl_over(user_pattern(1, 3), PAGE_SIZE);
    const KIRQL before = raise_irql(DISPATCH_LEVEL);

    MmProbeAndLockPages(mdl, UserMode, IoReadAccess);
    KeLowerIrql(before);
    unlock_and_free(mdl);
}

/* ---- Mistakes that stop the machine -------------------------------------------------------------------- */

/* Each of these leaves the MDL, its flags on entry and the flags that are wrong in the shared words. */
static void tell(uint64_t *words, PMDL mdl, CSHORT wrong)
{
    words[0] = (uint64_t)(uintptr_t)mdl;
    words[1] = mdl_flags(mdl);
    words[2] = (USHORT)wrong;
}

static void lock_twice(void *words)
{
    const PMDL mdl = locked_mdl(user_pages(1, PAGE_READWRITE), PAGE_SIZE);

    tell(words, mdl, MDL_PAGES_LOCKED);
    MmProbeAndLockPages(mdl, UserMode, IoReadAccess);
}

static void lock_nonpaged(void *words)
{
    const PMDL mdl = mdl_over(pool_pages(1), PAGE_SIZE);

    MmBuildMdlForNonPagedPool(mdl);
    tell(words, mdl, MDL_SOURCE_IS_NONPAGED_POOL);
    MmProbeAndLockPages(mdl, KernelMode, IoReadAccess);
}

static void lock_partial(void *words)
{
    UCHAR *const user = user_pages(2, PAGE_READWRITE);
    const PMDL source = locked_mdl(user, 2 * PAGE_SIZE), part = mdl_over(user, PAGE_SIZE);

    IoBuildPartialMdl(source, part, user, PAGE_SIZE);
    tell(words, part, MDL_PARTIAL);
    MmProbeAndLockPages(part, UserMode, IoReadAccess);
}

/* The body's lock must stop with 0xC4/0xB0, the MDL, its flags, and at least the flag that is wrong. */
static void expect_bad_flags(void (*body)(void *))
{
    uint64_t *const words = shared_words();
    const struct stop stop = expect_stop(body, words, DRIVER_VERIFIER_DETECTED_VIOLATION, 0xB0);

    EXPECT_EQ(stop.p[1], words[0]);
    EXPECT_EQ(stop.p[2], words[1]);
    EXPECT_EQ(stop.p[3] & words[2], words[2]);
    EXPECT_EQ(stop.p[3] & ~words[1], 0);
}

/* MmProbeAndLockPages-12 MmProbeAndLockPages-25 Bug_checks-03: a second lock of a locked MDL stops with
   0xC4/0xB0. */
TEST_UNTIDY(mm_probe_and_lock, lock__mdl_locked_already__stops)
{
    expect_bad_flags(lock_twice);
}

/* MmProbeAndLockPages-14 MmProbeAndLockPages-25 Driver_Verifier_automatic_MDL_checks-01: a lock of an MDL
   that was built for nonpaged pool stops with 0xC4/0xB0. */
TEST_UNTIDY(mm_probe_and_lock, lock__mdl_of_nonpaged_pool__stops)
{
    expect_bad_flags(lock_nonpaged);
}

/* MmProbeAndLockPages-14 MmProbeAndLockPages-25: a lock of a partial MDL stops with 0xC4/0xB0. */
TEST_UNTIDY(mm_probe_and_lock, lock__partial_mdl__stops)
{
    expect_bad_flags(lock_partial);
}

static void lock_above_dispatch(void *context)
{
    uint64_t *const words = context;
    const PMDL mdl = mdl_over(pool_pages(1), PAGE_SIZE);

    words[0] = (uint64_t)(uintptr_t)mdl;
    raise_irql(DISPATCH_LEVEL + 1);
    MmProbeAndLockPages(mdl, (KPROCESSOR_MODE)words[1], IoReadAccess);
}

/* MmProbeAndLockPages-24: above DISPATCH_LEVEL it stops with 0xC4/0x70, the IRQL, the MDL and the mode. */
TEST_UNTIDY(mm_probe_and_lock, lock__above_dispatch_level__stops)
{
    uint64_t *const words = shared_words();

    for (SIZE_T m = 0; m < ARRAYSIZE(modes); m++) {
        words[1] = (uint64_t)modes[m];
        const struct stop stop =
            expect_stop(lock_above_dispatch, words, DRIVER_VERIFIER_DETECTED_VIOLATION, 0x70);

        EXPECT_EQ(stop.p[1], DISPATCH_LEVEL + 1);
        EXPECT_EQ(stop.p[2], words[0]);
        EXPECT_EQ(stop.p[3], words[1]);
    }
}

static void lock_device_memory(void *context)
{
    uint64_t *const words = context;
    const PHYSICAL_ADDRESS device = {.QuadPart = (LONGLONG)words[1] << PAGE_SHIFT};
    UCHAR *const registers = MmMapIoSpace(device, 2 * PAGE_SIZE, MmNonCached);
    const PMDL mdl = mdl_over(registers + 4, PAGE_SIZE);

    EXPECT(registers != NULL);
    words[0] = (uint64_t)(uintptr_t)mdl;
    MmProbeAndLockPages(mdl, KernelMode, IoReadAccess);
}

/* MmProbeAndLockPages-23: a device's memory is in no PFN database: a lock of it stops with 0xC4/0x6F, the
   MDL, the page and the highest page that there is. */
TEST_UNTIDY(mm_probe_and_lock, lock__device_memory__stops)
{
    uint64_t *const words = shared_words();

    words[1] = 0xC0000;
    const struct stop stop = expect_stop(lock_device_memory, words, DRIVER_VERIFIER_DETECTED_VIOLATION, 0x6F);
    EXPECT_EQ(stop.p[1], words[0]);
    EXPECT_EQ(stop.p[2], words[1]);
    EXPECT(stop.p[3] >= 0x100000);
}

/* MmProbeAndLockPages-11: a lock that nobody undoes is reported when the machine ends. */
WARN_TEST(mm_probe_and_lock, shutdown__pages_left_locked__is_reported, "pages-left-locked")
{
    static UCHAR memory[sizeof(MDL) + 2 * sizeof(PFN_NUMBER)] __attribute__((aligned(8)));
    const PMDL mdl = (PMDL)memory;

    MmInitializeMdl(mdl, user_pages(2, PAGE_READWRITE), 2 * PAGE_SIZE);
    MmProbeAndLockPages(mdl, UserMode, IoWriteAccess);
}
