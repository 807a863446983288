/* SPDX-License-Identifier: MIT */
/* The twins of the rules for locking and unlocking pages. */

#include "rules.h"

/* ---- IRQL ------------------------------------------------------------------------------------------------------- */

RULE_BAD(LOCK_IRQL)
{
    PMDL mdl = mdl_over(pool_pages(1), PAGE_SIZE);
    KIRQL irql;

    KeRaiseIrql(TOO_HIGH, &irql);
    PARAMETERS(TOO_HIGH, p(mdl), KernelMode);
    MmProbeAndLockPages(mdl, KernelMode, IoReadAccess);
}

RULE_GOOD(LOCK_IRQL)
{
    UCHAR *pool = pool_pages(1);
    PMDL mdl = mdl_over(pool, PAGE_SIZE);
    KIRQL irql;

    KeRaiseIrql(DISPATCH_LEVEL, &irql);
    MmProbeAndLockPages(mdl, KernelMode, IoReadAccess);
    unlock_and_free(mdl);
    ExFreePoolWithTag(pool, TEST_TAG);
    KeLowerIrql(irql);
}

RULE_BAD(LOCK_PROCESS_IRQL)
{
    PMDL mdl = mdl_over(user_buffer(), LENGTH);
    PEPROCESS process = PsGetCurrentProcess();
    KIRQL irql;

    KeRaiseIrql(TOO_HIGH, &irql);
    PARAMETERS(TOO_HIGH, p(mdl), p(process));
    MmProbeAndLockProcessPages(mdl, process, UserMode, IoReadAccess);
}

RULE_GOOD(LOCK_PROCESS_IRQL)
{
    UCHAR *va = user_buffer();
    PMDL mdl = mdl_over(va, LENGTH);

    MmProbeAndLockProcessPages(mdl, PsGetCurrentProcess(), UserMode, IoReadAccess);
    free_all(mdl, va);
}

RULE_BAD(LOCK_SELECTED_IRQL)
{
    UCHAR *va = user_buffer();
    FILE_SEGMENT_ELEMENT segments[] = {{.Buffer = va}, {.Buffer = NULL}};
    PMDL mdl = mdl_over(NULL, PAGE_SIZE);
    KIRQL irql;

    KeRaiseIrql(TOO_HIGH, &irql);
    PARAMETERS(TOO_HIGH, p(mdl), ANYTHING);
    MmProbeAndLockSelectedPages(mdl, segments, UserMode, IoReadAccess);
}

RULE_GOOD(LOCK_SELECTED_IRQL)
{
    UCHAR *va = user_buffer();
    FILE_SEGMENT_ELEMENT segments[] = {{.Buffer = va}, {.Buffer = NULL}};
    PMDL mdl = mdl_over(NULL, PAGE_SIZE);

    MmProbeAndLockSelectedPages(mdl, segments, UserMode, IoReadAccess);
    free_all(mdl, va);
}

RULE_BAD(LOCK_PAGEABLE_IRQL)
{
    UCHAR *va = user_buffer();
    PMDL mdl = mdl_over(va, LENGTH);
    KIRQL irql;

    pinion_user_resident(va, LENGTH);
    KeRaiseIrql(DISPATCH_LEVEL, &irql);
    MmProbeAndLockPages(mdl, UserMode, IoReadAccess);
    KeLowerIrql(irql);
    free_all(mdl, va);
}

RULE_GOOD(LOCK_PAGEABLE_IRQL)
{
    UCHAR *va = user_buffer();
    PMDL mdl = mdl_over(va, LENGTH);
    KIRQL irql;

    KeRaiseIrql(APC_LEVEL, &irql);
    MmProbeAndLockPages(mdl, UserMode, IoReadAccess);
    KeLowerIrql(irql);
    free_all(mdl, va);
}

RULE_BAD(UNLOCK_IRQL)
{
    PMDL mdl = locked_mdl(user_buffer(), LENGTH);
    KIRQL irql;

    KeRaiseIrql(TOO_HIGH, &irql);
    PARAMETERS(TOO_HIGH, p(mdl), 0);
    MmUnlockPages(mdl);
}

RULE_GOOD(UNLOCK_IRQL)
{
    UCHAR *va = user_buffer();
    PMDL mdl = locked_mdl(va, LENGTH);
    KIRQL irql;

    KeRaiseIrql(DISPATCH_LEVEL, &irql);
    MmUnlockPages(mdl);
    KeLowerIrql(irql);
    IoFreeMdl(mdl);
    pinion_user_free(va);
}

RULE_BAD(IRQL_TOO_HIGH)
{
    UCHAR *pool = pool_pages(1);
    PMDL mdl = mdl_over(pool, PAGE_SIZE);
    KIRQL irql;

    KeRaiseIrql(TOO_HIGH, &irql);
    MmBuildMdlForNonPagedPool(mdl);
    KeLowerIrql(irql);
    IoFreeMdl(mdl);
    ExFreePoolWithTag(pool, TEST_TAG);
}

RULE_GOOD(IRQL_TOO_HIGH)
{
    UCHAR *pool = pool_pages(1);
    PMDL mdl = mdl_over(pool, PAGE_SIZE);
    KIRQL irql;

    KeRaiseIrql(DISPATCH_LEVEL, &irql);
    MmBuildMdlForNonPagedPool(mdl);
    KeLowerIrql(irql);
    IoFreeMdl(mdl);
    ExFreePoolWithTag(pool, TEST_TAG);
}

/* ---- what cannot be locked -------------------------------------------------------------------------------------- */

static const PHYSICAL_ADDRESS device_registers = {.QuadPart = 0xC0000LL << PAGE_SHIFT};

RULE_BAD(LOCK_DEVICE_MEMORY)
{
    PVOID registers = MmMapIoSpace(device_registers, PAGE_SIZE, MmNonCached);
    PMDL mdl = mdl_over(registers, PAGE_SIZE);

    PARAMETERS(p(mdl), 0xC0000, ANYTHING);
    MmProbeAndLockPages(mdl, KernelMode, IoReadAccess);
}

RULE_GOOD(LOCK_DEVICE_MEMORY)
{
    MM_PHYSICAL_ADDRESS_LIST registers = {.PhysicalAddress = device_registers, .NumberOfBytes = PAGE_SIZE};
    PMDL mdl = NULL;

    EXPECT_STATUS(MmAllocateMdlForIoSpace(&registers, 1, &mdl), STATUS_SUCCESS);
    IoFreeMdl(mdl);
}

RULE_BAD(LOCK_BAD_FLAGS)
{
    PMDL mdl = locked_mdl(user_buffer(), LENGTH);

    PARAMETERS(p(mdl), mdl_flags(mdl), MDL_PAGES_LOCKED);
    MmProbeAndLockPages(mdl, UserMode, IoWriteAccess);
}

RULE_GOOD(LOCK_BAD_FLAGS)
{
    UCHAR *va = user_buffer();
    PMDL mdl = locked_mdl(va, LENGTH), second = mdl_over(va, LENGTH);

    MmProbeAndLockPages(second, UserMode, IoWriteAccess);
    unlock_and_free(second);
    free_all(mdl, va);
}

RULE_BAD(LOCK_PROCESS_BAD_FLAGS)
{
    UCHAR *va = user_buffer();
    PMDL source = locked_mdl(va, LENGTH), part = part_of(source, va, PAGE_SIZE);

    PARAMETERS(p(part), mdl_flags(part), MDL_PARTIAL);
    MmProbeAndLockProcessPages(part, PsGetCurrentProcess(), UserMode, IoReadAccess);
}

RULE_GOOD(LOCK_PROCESS_BAD_FLAGS)
{
    UCHAR *va = user_buffer();
    PMDL source = locked_mdl(va, LENGTH), part = part_of(source, va, PAGE_SIZE);

    IoFreeMdl(part);
    MmUnlockPages(source);
    MmProbeAndLockProcessPages(source, PsGetCurrentProcess(), UserMode, IoReadAccess);
    free_all(source, va);
}

/* ---- MmUnlockPages ---------------------------------------------------------------------------------------------- */

RULE_BAD(UNLOCK_UNLOCKED)
{
    PMDL mdl = locked_mdl(user_buffer(), LENGTH);

    MmUnlockPages(mdl);
    PARAMETERS(p(mdl), mdl_flags(mdl), 0);
    MmUnlockPages(mdl);
}

RULE_GOOD(UNLOCK_UNLOCKED)
{
    UCHAR *va = user_buffer();
    PMDL mdl = locked_mdl(va, LENGTH);

    MmUnlockPages(mdl);
    MmProbeAndLockPages(mdl, UserMode, IoReadAccess);
    free_all(mdl, va);
}

RULE_BAD(UNLOCK_NONPAGED)
{
    UCHAR *pool = pool_pages(1);
    PMDL mdl = nonpaged_mdl(pool, PAGE_SIZE);

    PARAMETERS(p(mdl), mdl_flags(mdl), 0);
    MmUnlockPages(mdl);
}

RULE_GOOD(UNLOCK_NONPAGED)
{
    UCHAR *pool = pool_pages(1);
    PMDL mdl = nonpaged_mdl(pool, PAGE_SIZE);

    IoFreeMdl(mdl);
    ExFreePoolWithTag(pool, TEST_TAG);
}

RULE_BAD(UNLOCK_PARTIAL)
{
    UCHAR *va = user_buffer();
    PMDL source = locked_mdl(va, LENGTH), part = part_of(source, va, PAGE_SIZE);

    PARAMETERS(p(part), mdl_flags(part), MDL_PARTIAL);
    MmUnlockPages(part);
}

RULE_GOOD(UNLOCK_PARTIAL)
{
    UCHAR *va = user_buffer();
    PMDL source = locked_mdl(va, LENGTH), part = part_of(source, va, PAGE_SIZE);

    IoFreeMdl(part);
    MmUnlockPages(source);
    IoFreeMdl(source);
    pinion_user_free(va);
}

/* A driver's own memory, so that only the lock is left behind. */
static UCHAR global_buffer[64];
static struct {
    MDL mdl;
    PFN_NUMBER pfns[2];
} own;

RULE_BAD(LOCK_LEAK)
{
    MmInitializeMdl(&own.mdl, global_buffer, sizeof(global_buffer));
    MmProbeAndLockPages(&own.mdl, KernelMode, IoReadAccess);
}

RULE_GOOD(LOCK_LEAK)
{
    MmInitializeMdl(&own.mdl, global_buffer, sizeof(global_buffer));
    MmProbeAndLockPages(&own.mdl, KernelMode, IoReadAccess);
    MmUnlockPages(&own.mdl);
}

/* ---- time ------------------------------------------------------------------------------------------------------- */

static void wait_ms(LONGLONG ms)
{
    LARGE_INTEGER interval = {.QuadPart = -10000 * ms};

    KeDelayExecutionThread(KernelMode, FALSE, &interval);
}

RULE_BAD(LOCK_HELD_LONG)
{
    boot("lock-limit=5");

    UCHAR *va = user_buffer();
    PMDL mdl = locked_mdl(va, LENGTH);

    wait_ms(20);
    free_all(mdl, va);
}

RULE_GOOD(LOCK_HELD_LONG)
{
    boot("lock-limit=60000");

    UCHAR *va = user_buffer();
    PMDL mdl = locked_mdl(va, LENGTH);

    wait_ms(1);
    free_all(mdl, va);
}
