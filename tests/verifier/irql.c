/* SPDX-License-Identifier: MIT */
/* Routines whose page says up to which IRQL they may be called, and whose rule is nothing but that: one level more is a warning. */

#include "harness.h"
#include <ntddk.h>

#include "../contract/support.h"

/* What the routines are called with; made at PASSIVE_LEVEL. */
static struct {
    UCHAR *user, *pool;
    PMDL   locked, plain;
} made;

/* And what they return, to be freed there again. */
static struct {
    PMDL of_device, in_pool;
} got;

static void call_mdl_for_io_space(void)
{
    MM_PHYSICAL_ADDRESS_LIST range = {.PhysicalAddress.QuadPart = 0xD0000000, .NumberOfBytes = PAGE_SIZE};

    EXPECT_STATUS(MmAllocateMdlForIoSpace(&range, 1, &got.of_device), STATUS_SUCCESS);
}

static void call_create_mdl(void)
{
    got.in_pool = MmCreateMdl(NULL, made.pool, PAGE_SIZE);
}

static void call_protect(void)
{
    EXPECT_STATUS(MmProtectMdlSystemAddress(made.locked, PAGE_READONLY), STATUS_SUCCESS);
}

static void call_flush(void)
{
    KeFlushIoBuffers(made.locked, TRUE, FALSE);
}

static void call_is_address_valid(void)
{
    EXPECT(MmIsAddressValid(made.pool));
}

static void call_probe_for_read(void)
{
    ProbeForRead(made.user, 10, 1);
}

static void call_probe_for_write(void)
{
    ProbeForWrite(made.user, 10, 1);
}

static void call_non_cached(void)
{
    MmFreeNonCachedMemory(MmAllocateNonCachedMemory(PAGE_SIZE), PAGE_SIZE);
}

static void call_mapping_address(void)
{
    MmFreeMappingAddress(MmAllocateMappingAddress(PAGE_SIZE, TEST_TAG), TEST_TAG);
}

static void call_lock_selected(void)
{
    FILE_SEGMENT_ELEMENT segments[] = {{.Buffer = made.user}, {.Buffer = NULL}};

    MmProbeAndLockSelectedPages(made.plain, segments, UserMode, IoReadAccess);
    MmUnlockPages(made.plain);
}

static void call_lock_process(void)
{
    MmProbeAndLockProcessPages(made.plain, PsGetCurrentProcess(), UserMode, IoReadAccess);
    MmUnlockPages(made.plain);
}

static const struct routine {
    const char *name;
    void      (*call)(void);
    KIRQL       most;
    const char *warning;
    unsigned    warnings;               /* of one call: two routines, two */
} routines[] = {
    {"MmAllocateMdlForIoSpace", call_mdl_for_io_space, DISPATCH_LEVEL, "irql-too-high", 1},
    {"MmCreateMdl", call_create_mdl, DISPATCH_LEVEL, "irql-too-high", 1},
    {"MmProtectMdlSystemAddress", call_protect, DISPATCH_LEVEL, "irql-too-high", 1},
    {"KeFlushIoBuffers", call_flush, DISPATCH_LEVEL, "irql-too-high", 1},
    {"MmIsAddressValid", call_is_address_valid, DISPATCH_LEVEL, "irql-too-high", 1},
    {"ProbeForRead", call_probe_for_read, APC_LEVEL, "irql-too-high", 1},
    {"ProbeForWrite", call_probe_for_write, APC_LEVEL, "irql-too-high", 1},
    {"MmAllocateNonCachedMemory", call_non_cached, APC_LEVEL, "irql-too-high", 2},
    {"MmAllocateMappingAddress", call_mapping_address, APC_LEVEL, "irql-too-high", 2},
    {"MmProbeAndLockSelectedPages", call_lock_selected, APC_LEVEL, "pageable-locked-at-dispatch", 1},
    {"MmProbeAndLockProcessPages", call_lock_process, APC_LEVEL, "pageable-locked-at-dispatch", 1},
};

static void make(void)
{
    made.user = user_pages(1, PAGE_READWRITE);
    made.user[0] = 1;
    made.pool = ExAllocatePoolWithTag(NonPagedPoolNx, PAGE_SIZE, TEST_TAG);
    made.locked = locked_mdl(made.user, PAGE_SIZE);
    system_address(made.locked);
    made.plain = mdl_over(made.user, PAGE_SIZE);
}

static void unmake(void)
{
    IoFreeMdl(made.plain);
    unlock_and_free(made.locked);
    ExFreePoolWithTag(made.pool, TEST_TAG);
    pinion_user_free(made.user);
    if (got.of_device != NULL)
        IoFreeMdl(got.of_device);
    if (got.in_pool != NULL)
        ExFreePool(got.in_pool);
    got.of_device = got.in_pool = NULL;
}

static void call_at(const struct routine *routine, KIRQL irql)
{
    KIRQL before;

    make();
    KeRaiseIrql(irql, &before);
    routine->call();
    KeLowerIrql(before);
    unmake();
}

static void call_too_high(void *context)
{
    const struct routine *const routine = context;

    call_at(routine, routine->most + 1);
}

/* MmAllocateMdlForIoSpace-09 MmProtectMdlSystemAddress-01 MmProbeAndLockSelectedPages-04: one level above what the page allows. */
TEST_UNTIDY(irql, routine__above_its_limit__warns)
{
    for (SIZE_T i = 0; i < ARRAYSIZE(routines); i++) {
        struct routine routine = routines[i];
        const struct stop stop = run_until_stop(call_too_high, &routine);
        const unsigned warned = stop_warnings(&stop, routine.warning);

        EXPECT(!stop.stopped);
        if (warned != routine.warnings || strstr(stop.stderr_text, "(irql.c:") == NULL)
            harness_fail(HARNESS_HERE, "%s: %u warnings: %s", routine.name, warned, stop.stderr_text);
    }
}

/* The highest level that the page allows is no mistake. */
SILENT_TEST(irql, routine__at_its_limit__is_silent)
{
    for (SIZE_T i = 0; i < ARRAYSIZE(routines); i++)
        call_at(&routines[i], routines[i].most);
}
