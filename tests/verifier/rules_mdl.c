/* SPDX-License-Identifier: MIT */
/* The twins of the rules for allocating, building and freeing MDLs, and for partial MDLs. */

#include "rules.h"

/* ---- IoBuildPartialMdl ------------------------------------------------------------------------------------------ */

RULE_BAD(TARGET_TOO_SMALL)
{
    UCHAR *va = user_buffer();
    PMDL source = locked_mdl(va, LENGTH);
    PMDL target = IoAllocateMdl(va, PAGE_SIZE, FALSE, FALSE, NULL);

    PARAMETERS(0, 0, 0, 0);
    IoBuildPartialMdl(source, target, va + 1, PAGE_SIZE);
}

RULE_GOOD(TARGET_TOO_SMALL)
{
    UCHAR *va = user_buffer();
    PMDL source = locked_mdl(va, LENGTH);
    PMDL target = IoAllocateMdl(NULL, PAGE_SIZE + PAGE_SIZE, FALSE, FALSE, NULL);

    IoBuildPartialMdl(source, target, va + 1, PAGE_SIZE);
    IoFreeMdl(target);
    free_all(source, va);
}

/* ---- room for page numbers -------------------------------------------------------------------------------------- */

RULE_BAD(MDL_TOO_SMALL)
{
    UCHAR *va = user_buffer();
    PMDL mdl = IoAllocateMdl(va, PAGE_SIZE, FALSE, FALSE, NULL);

    MmInitializeMdl(mdl, va, LENGTH);
    PARAMETERS(p(&MmGetMdlPfnArray(mdl)[1]), 1, ANYTHING, 0);
    MmProbeAndLockPages(mdl, UserMode, IoReadAccess);
}

RULE_GOOD(MDL_TOO_SMALL)
{
    UCHAR *va = user_buffer();
    PMDL mdl = IoAllocateMdl(NULL, LENGTH, FALSE, FALSE, NULL);

    MmInitializeMdl(mdl, va, LENGTH);
    MmProbeAndLockPages(mdl, UserMode, IoReadAccess);
    free_all(mdl, va);
}

/* MmBuildMdlForNonPagedPool fills in numbers as well. */
STOP_TEST_ANY_P1(mistakes, build__more_than_the_mdl_was_made_for__stops_before_it_writes, 0xCD)
{
    UCHAR *pool = pool_pages(8);
    PMDL mdl = mdl_over(pool, PAGE_SIZE);

    mdl->ByteCount = 8 * PAGE_SIZE;
    MmBuildMdlForNonPagedPool(mdl);
}

/* MmInitializeMdl believes that the memory is large enough; a block of pool says how large it is. */
static void lock_mdl_in_small_block(void *context HARNESS_UNUSED)
{
    UCHAR *va = user_buffer();
    PMDL mdl = ExAllocatePool2(POOL_FLAG_NON_PAGED, sizeof(MDL) + sizeof(PFN_NUMBER), TEST_TAG);

    MmInitializeMdl(mdl, va, LENGTH);
    MmProbeAndLockPages(mdl, UserMode, IoReadAccess);
}

TEST_UNTIDY(mistakes, lock__mdl_longer_than_its_pool_block__stops)
{
    EXPECT_EQ(run_until_stop(lock_mdl_in_small_block, NULL).code, 0xCD);
}

/* An MDL in a driver's own structure, made for as much as it is used for. */
SILENT_TEST(habits, mdl_with_room_on_the_stack__is_silent)
{
    struct {
        MDL        mdl;
        PFN_NUMBER pfns[17];
    } own;
    UCHAR *va = user_buffer();

    MmInitializeMdl(&own.mdl, va, LENGTH);
    MmProbeAndLockPages(&own.mdl, UserMode, IoReadAccess);
    MmUnlockPages(&own.mdl);
    pinion_user_free(va);
}

RULE_BAD(OUTSIDE_SOURCE)
{
    UCHAR *va = user_buffer();
    PMDL source = locked_mdl(va, LENGTH), target = mdl_over(va, LENGTH);
    UCHAR *mapped = MmGetSystemAddressForMdlSafe(source, NORMAL_NX);

    PARAMETERS(p(source), p(target), p(mapped), PAGE_SIZE);
    IoBuildPartialMdl(source, target, mapped, PAGE_SIZE);
}

RULE_GOOD(OUTSIDE_SOURCE)
{
    UCHAR *va = user_buffer();
    PMDL source = locked_mdl(va, LENGTH), target = mdl_over(va, LENGTH);

    IoBuildPartialMdl(source, target, MmGetMdlVirtualAddress(source), PAGE_SIZE);
    IoFreeMdl(target);
    free_all(source, va);
}

RULE_BAD(PARTIAL_OF_UNLOCKED)
{
    UCHAR *va = user_buffer();
    PMDL source = mdl_over(va, LENGTH), target = mdl_over(va, LENGTH);

    IoBuildPartialMdl(source, target, va, PAGE_SIZE);
    IoFreeMdl(target);
    IoFreeMdl(source);
    pinion_user_free(va);
}

RULE_GOOD(PARTIAL_OF_UNLOCKED)
{
    UCHAR *va = user_buffer();
    PMDL source = mdl_over(va, LENGTH), target = mdl_over(va, LENGTH);

    MmProbeAndLockPages(source, UserMode, IoReadAccess);
    IoBuildPartialMdl(source, target, va, PAGE_SIZE);
    IoFreeMdl(target);
    free_all(source, va);
}

RULE_BAD(PARTIAL_OVER_LOCKED)
{
    UCHAR *va = user_buffer();
    PMDL source = locked_mdl(va, LENGTH), target = locked_mdl(va, LENGTH);

    IoBuildPartialMdl(source, target, va, PAGE_SIZE);
    IoFreeMdl(target);
    free_all(source, va);
}

RULE_GOOD(PARTIAL_OVER_LOCKED)
{
    UCHAR *va = user_buffer();
    PMDL source = locked_mdl(va, LENGTH), target = locked_mdl(va, LENGTH);

    MmUnlockPages(target);
    IoBuildPartialMdl(source, target, va, PAGE_SIZE);
    IoFreeMdl(target);
    free_all(source, va);
}

RULE_BAD(PARTIAL_MAPPING_LEAKED)
{
    UCHAR *va = user_buffer();
    PMDL source = locked_mdl(va, LENGTH), part = part_of(source, va, PAGE_SIZE);

    MmGetSystemAddressForMdlSafe(part, NORMAL_NX);
    IoBuildPartialMdl(source, part, va + PAGE_SIZE, PAGE_SIZE);
    IoFreeMdl(part);
    free_all(source, va);
}

RULE_GOOD(PARTIAL_MAPPING_LEAKED)
{
    UCHAR *va = user_buffer();
    PMDL source = locked_mdl(va, LENGTH), part = part_of(source, va, PAGE_SIZE);

    MmGetSystemAddressForMdlSafe(part, NORMAL_NX);
    MmPrepareMdlForReuse(part);
    IoBuildPartialMdl(source, part, va + PAGE_SIZE, PAGE_SIZE);
    IoFreeMdl(part);
    free_all(source, va);
}

RULE_BAD(REUSE_OF_MAPPED)
{
    UCHAR *va = user_buffer();
    PMDL mdl = locked_mdl(va, LENGTH);

    MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX);
    MmPrepareMdlForReuse(mdl);
    free_all(mdl, va);
}

RULE_GOOD(REUSE_OF_MAPPED)
{
    UCHAR *va = user_buffer();
    PMDL source = locked_mdl(va, LENGTH), part = part_of(source, va, PAGE_SIZE);

    MmGetSystemAddressForMdlSafe(part, NORMAL_NX);
    MmPrepareMdlForReuse(part);
    IoFreeMdl(part);
    free_all(source, va);
}

/* ---- IoAllocateMdl ---------------------------------------------------------------------------------------------- */

RULE_BAD(SECONDARY_WITHOUT_IRP)
{
    IoFreeMdl(IoAllocateMdl(NULL, PAGE_SIZE, TRUE, FALSE, NULL));
}

RULE_GOOD(SECONDARY_WITHOUT_IRP)
{
    IoFreeMdl(IoAllocateMdl(NULL, PAGE_SIZE, FALSE, FALSE, NULL));
}

RULE_BAD(QUOTA_CHARGED)
{
    IoFreeMdl(IoAllocateMdl(NULL, PAGE_SIZE, FALSE, TRUE, NULL));
}

RULE_GOOD(QUOTA_CHARGED)
{
    IoFreeMdl(IoAllocateMdl(NULL, PAGE_SIZE, FALSE, FALSE, NULL));
}

RULE_BAD(ZERO_LENGTH)
{
    IoFreeMdl(IoAllocateMdl(NULL, 0, FALSE, FALSE, NULL));
}

RULE_GOOD(ZERO_LENGTH)
{
    IoFreeMdl(IoAllocateMdl(NULL, 1, FALSE, FALSE, NULL));
}

static void free_irp_with_mdls(PIRP irp)
{
    PMDL mdl, next;

    for (mdl = irp->MdlAddress; mdl != NULL; mdl = next) {
        next = mdl->Next;
        IoFreeMdl(mdl);
    }
    irp->MdlAddress = NULL;
    IoFreeIrp(irp);
}

RULE_BAD(CHAIN_REPLACED)
{
    PIRP irp = IoAllocateIrp(1, FALSE);
    PMDL first = IoAllocateMdl(NULL, PAGE_SIZE, FALSE, FALSE, irp);

    IoAllocateMdl(NULL, PAGE_SIZE, FALSE, FALSE, irp);
    IoFreeMdl(first);
    free_irp_with_mdls(irp);
}

RULE_GOOD(CHAIN_REPLACED)
{
    PIRP irp = IoAllocateIrp(1, FALSE);

    IoAllocateMdl(NULL, PAGE_SIZE, FALSE, FALSE, irp);
    IoAllocateMdl(NULL, PAGE_SIZE, TRUE, FALSE, irp);
    free_irp_with_mdls(irp);
}

/* ---- IoFreeMdl -------------------------------------------------------------------------------------------------- */

RULE_BAD(USED_AFTER_FREE)
{
    UCHAR *va = user_buffer();
    PMDL mdl = mdl_over(va, LENGTH);

    IoFreeMdl(mdl);
    PARAMETERS(p(mdl), 0);
    MmProbeAndLockPages(mdl, UserMode, IoReadAccess);
}

RULE_GOOD(USED_AFTER_FREE)
{
    UCHAR *va = user_buffer();
    PMDL mdl = mdl_over(va, LENGTH);

    MmProbeAndLockPages(mdl, UserMode, IoReadAccess);
    free_all(mdl, va);
}

RULE_BAD(FREED_WHILE_LOCKED)
{
    UCHAR *va = user_buffer();
    PMDL mdl = mdl_over(va, LENGTH);

    MmProbeAndLockPages(mdl, UserMode, IoReadAccess);
    PARAMETERS(ANYTHING, 0, p(mdl), 2);
    IoFreeMdl(mdl);
}

RULE_GOOD(FREED_WHILE_LOCKED)
{
    UCHAR *va = user_buffer();
    PMDL mdl = mdl_over(va, LENGTH);

    MmProbeAndLockPages(mdl, UserMode, IoReadAccess);
    MmUnlockPages(mdl);
    IoFreeMdl(mdl);
    pinion_user_free(va);
}

RULE_BAD(FREED_WHILE_MAPPED)
{
    UCHAR *va = user_buffer();
    PMDL mdl = locked_mdl(va, LENGTH);

    MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX);
    PARAMETERS(p(mdl), mdl_flags(mdl), 0);
    IoFreeMdl(mdl);
}

RULE_GOOD(FREED_WHILE_MAPPED)
{
    UCHAR *va = user_buffer();
    PMDL mdl = locked_mdl(va, LENGTH);

    MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX);
    MmUnlockPages(mdl);
    IoFreeMdl(mdl);
    pinion_user_free(va);
}

RULE_BAD(FREED_WHILE_USER_MAPPED)
{
    PMDL mdl = locked_mdl(user_buffer(), LENGTH);

    MmMapLockedPagesSpecifyCache(mdl, UserMode, MmCached, NULL, FALSE, NORMAL_NX);
    PARAMETERS(p(mdl), mdl_flags(mdl), 0);
    IoFreeMdl(mdl);
}

RULE_GOOD(FREED_WHILE_USER_MAPPED)
{
    UCHAR *va = user_buffer();
    PMDL mdl = locked_mdl(va, LENGTH);
    PVOID mapped = MmMapLockedPagesSpecifyCache(mdl, UserMode, MmCached, NULL, FALSE, NORMAL_NX);

    MmUnmapLockedPages(mapped, mdl);
    free_all(mdl, va);
}

RULE_BAD(MDL_LEAK)
{
    PMDL mdl = IoAllocateMdl(NULL, PAGE_SIZE, FALSE, FALSE, NULL);

    EXPECT(mdl != NULL);
}

RULE_GOOD(MDL_LEAK)
{
    PMDL mdl = IoAllocateMdl(NULL, PAGE_SIZE, FALSE, FALSE, NULL);

    IoFreeMdl(mdl);
}

/* ---- drivers that are unloaded ---------------------------------------------------------------------------------- */

static PMDL kept_by_driver;

static NTSTATUS keep_an_mdl(PDRIVER_OBJECT driver, HARNESS_UNUSED void *registry_path)
{
    UNREFERENCED_PARAMETER(driver);
    kept_by_driver = IoAllocateMdl(NULL, PAGE_SIZE, FALSE, FALSE, NULL);
    return STATUS_SUCCESS;
}

static VOID free_what_is_kept(PDRIVER_OBJECT driver)
{
    UNREFERENCED_PARAMETER(driver);
    IoFreeMdl(kept_by_driver);
}

RULE_BAD(DRIVER_LEFT_POOL)
{
    PDRIVER_OBJECT driver;

    pinion_driver_load("forgetful", keep_an_mdl, &driver);
    PARAMETERS(p(driver->DriverName.Buffer), 0, 1);
    pinion_driver_unload(driver);
}

RULE_GOOD(DRIVER_LEFT_POOL)
{
    PDRIVER_OBJECT driver;

    pinion_driver_load("careful", keep_an_mdl, &driver);
    driver->DriverUnload = free_what_is_kept;
    pinion_driver_unload(driver);
}

/* ---- MmBuildMdlForNonPagedPool ---------------------------------------------------------------------------------- */

RULE_BAD(BUILD_PAGED)
{
    PVOID paged = ExAllocatePoolWithTag(PagedPool, PAGE_SIZE, TEST_TAG);
    PMDL mdl = mdl_over(paged, PAGE_SIZE);

    PARAMETERS(PASSIVE_LEVEL, p(mdl), mdl_flags(mdl));
    MmBuildMdlForNonPagedPool(mdl);
}

RULE_GOOD(BUILD_PAGED)
{
    PVOID paged = ExAllocatePoolWithTag(PagedPool, PAGE_SIZE, TEST_TAG);
    PMDL mdl = mdl_over(paged, PAGE_SIZE);

    MmProbeAndLockPages(mdl, KernelMode, IoModifyAccess);
    MmUnlockPages(mdl);
    IoFreeMdl(mdl);
    ExFreePoolWithTag(paged, TEST_TAG);
}

RULE_BAD(BUILD_STACK)
{
    UCHAR local[64];
    PMDL mdl = mdl_over(local, sizeof(local));

    PARAMETERS(PASSIVE_LEVEL, p(mdl), p(local));
    MmBuildMdlForNonPagedPool(mdl);
}

RULE_GOOD(BUILD_STACK)
{
    UCHAR local[64] = {0};
    PMDL mdl = mdl_over(local, sizeof(local));

    MmProbeAndLockPages(mdl, KernelMode, IoModifyAccess);
    unlock_and_free(mdl);
}

static UCHAR global_buffer[64];

RULE_BAD(BUILD_OVER_LOCKED)
{
    PMDL mdl = mdl_over(global_buffer, sizeof(global_buffer));

    MmProbeAndLockPages(mdl, KernelMode, IoReadAccess);
    MmBuildMdlForNonPagedPool(mdl);
    IoFreeMdl(mdl);
}

RULE_GOOD(BUILD_OVER_LOCKED)
{
    PMDL mdl = mdl_over(global_buffer, sizeof(global_buffer));

    MmProbeAndLockPages(mdl, KernelMode, IoReadAccess);
    MmUnlockPages(mdl);
    MmBuildMdlForNonPagedPool(mdl);
    IoFreeMdl(mdl);
}

/* ---- MmAllocatePagesForMdl and its kin -------------------------------------------------------------------------- */

static const PHYSICAL_ADDRESS lowest = {.QuadPart = 0}, highest = {.QuadPart = MAXLONGLONG};

static PMDL own_pages(void)
{
    return MmAllocatePagesForMdlEx(lowest, highest, lowest, PAGE_SIZE, MmCached, 0);
}

RULE_BAD(PAGES_IRQL)
{
    KIRQL irql;

    KeRaiseIrql(TOO_HIGH, &irql);
    PARAMETERS(TOO_HIGH, DISPATCH_LEVEL, 0);
    MmAllocatePagesForMdlEx(lowest, highest, lowest, PAGE_SIZE, MmCached, 0);
}

RULE_GOOD(PAGES_IRQL)
{
    PMDL mdl = own_pages();
    KIRQL irql;

    KeRaiseIrql(DISPATCH_LEVEL, &irql);
    MmFreePagesFromMdl(mdl);
    ExFreePool(mdl);
    KeLowerIrql(irql);
}

RULE_BAD(PAGES_FREED_BY_IO_FREE_MDL)
{
    PMDL mdl = own_pages();

    PARAMETERS(p(mdl), 0, 0);
    MmFreePagesFromMdl(mdl);
    IoFreeMdl(mdl);
}

RULE_GOOD(PAGES_FREED_BY_IO_FREE_MDL)
{
    PMDL mdl = own_pages();

    MmFreePagesFromMdl(mdl);
    ExFreePool(mdl);
}

RULE_BAD(PAGES_FREED_MAPPED)
{
    PMDL mdl;

    boot("windows=vista");
    mdl = own_pages();
    MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority);
    MmFreePagesFromMdl(mdl);
    ExFreePool(mdl);
}

RULE_GOOD(PAGES_FREED_MAPPED)
{
    PMDL mdl;
    PVOID mapped;

    boot("windows=vista");
    mdl = own_pages();
    mapped = MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority);
    MmUnmapLockedPages(mapped, mdl);
    MmFreePagesFromMdl(mdl);
    ExFreePool(mdl);
}

RULE_BAD(PAGES_FREED_TWICE)
{
    PMDL mdl = own_pages();
    const PFN_NUMBER pfn = MmGetMdlPfnArray(mdl)[0];

    MmFreePagesFromMdl(mdl);
    PARAMETERS(p(mdl), p(MmGetMdlPfnArray(mdl)), pfn);
    MmFreePagesFromMdl(mdl);
}

RULE_GOOD(PAGES_FREED_TWICE)
{
    PMDL mdl = own_pages();

    MmFreePagesFromMdl(mdl);
    ExFreePool(mdl);
}

RULE_BAD(PAGES_LEAK)
{
    PMDL mdl = own_pages();

    EXPECT(mdl != NULL);
}

RULE_GOOD(PAGES_LEAK)
{
    PMDL mdl = own_pages();

    MmFreePagesFromMdl(mdl);
    ExFreePool(mdl);
}

RULE_BAD(PAGES_MDL_LEAK)
{
    PMDL mdl = own_pages();

    MmFreePagesFromMdl(mdl);
}

RULE_GOOD(PAGES_MDL_LEAK)
{
    PMDL mdl = own_pages();

    MmFreePagesFromMdl(mdl);
    ExFreePool(mdl);
}
