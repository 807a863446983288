/* SPDX-License-Identifier: MIT */
/*
 * Bug checks that belong to no routine: MM_BAD_POINTER at each IRQL and asked about (mm_bad_pointer.c touches
 * each of its bytes), and processes that end with memory still locked by each of the lock routines.
 */

#include "harness.h"

#include <wdm.h>
#include <pinion/pinion.h>

#include "pages.h"

/* ---- MM_BAD_POINTER ----------------------------------------------------------------------------------- */

struct touch {
    uint64_t write, in_try, irql, verifier_off, read_early, address;
};

static void touch_body(void *context)
{
    struct touch *const touch = context;
    volatile UCHAR *const at = (volatile UCHAR *)(uintptr_t)touch->address;

    if (touch->write)
        *at = 1;
    else
        (void)*at;
}

static void touch_bad_pointer(void *context)
{
    struct touch *const touch = context;
    PVOID const early = MM_BAD_POINTER;

    boot(touch->verifier_off ? "verifier=off" : "verifier=on");
    touch->address = (uint64_t)(uintptr_t)(touch->read_early ? early : MM_BAD_POINTER);
    raise_irql((KIRQL)touch->irql);
    if (touch->in_try)
        pinion_try(touch_body, touch);
    else
        touch_body(touch);
}

static struct touch *touch_words(struct touch touch)
{
    struct touch *const words = (struct touch *)shared_words();

    *words = touch;
    return words;
}

static void expect_touch_to_stop(struct touch touch)
{
    struct touch *const words = touch_words(touch);
    const struct stop stop = run_until_stop(touch_bad_pointer, words);

    EXPECT(stop.stopped);
    EXPECT_EQ(stop.p[0], words->address);
}

/* MM_BAD_POINTER-01: unlike NULL, no exception handler sees it, at whatever IRQL, verifier or not. */
TEST_UNTIDY(bad_pointer, touch__each_irql_in_a_try_or_not__stops)
{
    for (uint64_t i = 0; i < 8; i++)
        expect_touch_to_stop((struct touch){.irql = i % 2 ? DISPATCH_LEVEL : PASSIVE_LEVEL,
                                            .verifier_off = i / 2 % 2,
                                            .in_try = i / 4,
                                            .write = i % 2});
}

/* MM_BAD_POINTER-01: a pointer that was initialised with it before the machine ran is as bad. */
TEST_UNTIDY(bad_pointer, touch__read_before_the_boot__stops)
{
    expect_touch_to_stop((struct touch){.read_early = 1, .in_try = 1});
}

/* MM_BAD_POINTER-01: it is the start of a page, not NULL, and valid for no routine that asks. */
SILENT_TEST(bad_pointer, value__asked_about__is_invalid)
{
    boot(NULL);
    UCHAR *const bad = MM_BAD_POINTER;

    EXPECT(bad != NULL);
    EXPECT_EQ(BYTE_OFFSET(bad), 0);
    EXPECT(!MmIsAddressValid(bad));
    EXPECT(!MmIsAddressValid(bad + PAGE_SIZE - 1));
    EXPECT(!MmIsNonPagedSystemAddressValid(bad));
    EXPECT_EQ(MmGetPhysicalAddress(bad).QuadPart, 0);
    EXPECT_PTR_EQ(MM_BAD_POINTER, bad);
}

static void lock_bad_pointer(void *context)
{
    MmProbeAndLockPages(context, KernelMode, IoReadAccess);
}

/* MM_BAD_POINTER-01: nor can it be locked, or probed as if it were a process's. */
SILENT_TEST(bad_pointer, lock__page__is_refused)
{
    const PMDL mdl = mdl_over(MM_BAD_POINTER, PAGE_SIZE);

    EXPECT_STATUS(try_lock(mdl, UserMode, IoReadAccess), STATUS_ACCESS_VIOLATION);
    EXPECT(NT_ERROR(pinion_try(lock_bad_pointer, mdl)));
    EXPECT_EQ(counters_now().locked_pages, 0);
    IoFreeMdl(mdl);
}

/* ---- Processes that end ------------------------------------------------------------------------------- */

/* Lock three pages of a process by the routine that the first word names, and end the process. */
static void end_with_locked_pages(void *context)
{
    uint64_t *const words = context;
    const PEPROCESS process = pinion_process_create("ends too soon");
    FILE_SEGMENT_ELEMENT segments[3];

    words[1] = (uint64_t)(uintptr_t)process;
    pinion_process_attach(process);
    UCHAR *const user = user_pages(3, PAGE_READWRITE);
    const PMDL mdl = mdl_over(user, 3 * PAGE_SIZE);
    words[2] = (uint64_t)(uintptr_t)mdl;
    for (SIZE_T i = 0; i < 3; i++)
        segments[i].Buffer = user + (2 - i) * PAGE_SIZE;
    if (words[0] == 0)
        MmProbeAndLockSelectedPages(mdl, segments, UserMode, IoWriteAccess);
    pinion_process_attach(NULL);
    if (words[0] == 1)
        MmProbeAndLockProcessPages(mdl, process, UserMode, IoWriteAccess);
    pinion_process_exit(process);
}

/* Bug_checks-01: whichever routine locked the pages, the process cannot end: 0x76/0 with the process and
   the number of pages (or 0xCB with the MDL and the number, where locks are tracked). */
TEST_UNTIDY(bug_check_process_exit, exit__locked_by_each_routine__stops)
{
    uint64_t *const words = shared_words();

    for (words[0] = 0; words[0] < 2; words[0]++) {
        const struct stop stop = run_until_stop(end_with_locked_pages, words);
        const bool told_by_process = stop.code == PROCESS_HAS_LOCKED_PAGES;

        EXPECT(told_by_process || stop.code == DRIVER_LEFT_LOCKED_PAGES_IN_PROCESS);
        EXPECT_EQ(told_by_process ? stop.p[1] : stop.p[2], told_by_process ? words[1] : words[2]);
        EXPECT_EQ(told_by_process ? stop.p[2] : stop.p[3], 3);
    }
}
