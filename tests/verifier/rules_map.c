/* SPDX-License-Identifier: MIT */
/* The twins of the rules for mappings: of MDLs into system and user space, and of device memory. */

#include "rules.h"

/* Raises the IRQL for good: the machine stops before it would be lowered. */
static void raise_for_good(KIRQL to)
{
    KIRQL irql;

    KeRaiseIrql(to, &irql);
}

/* ---- IRQL ------------------------------------------------------------------------------------------------------- */

static const PHYSICAL_ADDRESS device_registers = {.QuadPart = 0xC0000LL << PAGE_SHIFT};

RULE_BAD(IO_MAP_IRQL)
{
    raise_for_good(TOO_HIGH);
    PARAMETERS(TOO_HIGH, (uint64_t)device_registers.QuadPart, PAGE_SIZE);
    MmMapIoSpace(device_registers, PAGE_SIZE, MmNonCached);
}

RULE_GOOD(IO_MAP_IRQL)
{
    KIRQL irql;
    PVOID registers;

    KeRaiseIrql(DISPATCH_LEVEL, &irql);
    registers = MmMapIoSpace(device_registers, PAGE_SIZE, MmNonCached);
    KeLowerIrql(irql);
    MmUnmapIoSpace(registers, PAGE_SIZE);
}

RULE_BAD(IO_UNMAP_IRQL)
{
    PVOID registers = MmMapIoSpace(device_registers, PAGE_SIZE, MmNonCached);

    raise_for_good(DISPATCH_LEVEL);
    PARAMETERS(DISPATCH_LEVEL, p(registers), PAGE_SIZE);
    MmUnmapIoSpace(registers, PAGE_SIZE);
}

RULE_GOOD(IO_UNMAP_IRQL)
{
    PVOID registers = MmMapIoSpace(device_registers, PAGE_SIZE, MmNonCached);
    KIRQL irql;

    KeRaiseIrql(APC_LEVEL, &irql);
    MmUnmapIoSpace(registers, PAGE_SIZE);
    KeLowerIrql(irql);
}

RULE_BAD(IO_MAP_UNLOCKED)
{
    PHYSICAL_ADDRESS somebodys_ram = {.QuadPart = 0x100000000};

    PARAMETERS((uint64_t)somebodys_ram.QuadPart, PAGE_SIZE, 0x100000);
    MmMapIoSpace(somebodys_ram, PAGE_SIZE, MmNonCached);
}

RULE_GOOD(IO_MAP_UNLOCKED)
{
    UCHAR *pool = pool_pages(1);
    PVOID mapped = MmMapIoSpace(MmGetPhysicalAddress(pool), PAGE_SIZE, MmCached);

    MmUnmapIoSpace(mapped, PAGE_SIZE);
    ExFreePoolWithTag(pool, TEST_TAG);
}

RULE_BAD(MAP_OBSOLETE_KERNEL_IRQL)
{
    PMDL mdl = locked_mdl(user_buffer(), LENGTH);

    raise_for_good(TOO_HIGH);
    PARAMETERS(TOO_HIGH, p(mdl), KernelMode);
    MmMapLockedPages(mdl, KernelMode);
}

RULE_GOOD(MAP_OBSOLETE_KERNEL_IRQL)
{
    UCHAR *va = user_buffer();
    PMDL mdl = locked_mdl(va, LENGTH);
    KIRQL irql;

    KeRaiseIrql(DISPATCH_LEVEL, &irql);
    MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX);
    KeLowerIrql(irql);
    free_all(mdl, va);
}

RULE_BAD(MAP_OBSOLETE_USER_IRQL)
{
    PMDL mdl = locked_mdl(user_buffer(), LENGTH);

    raise_for_good(DISPATCH_LEVEL);
    PARAMETERS(DISPATCH_LEVEL, p(mdl), UserMode);
    MmMapLockedPages(mdl, UserMode);
}

RULE_GOOD(MAP_OBSOLETE_USER_IRQL)
{
    UCHAR *va = user_buffer();
    PMDL mdl = locked_mdl(va, LENGTH);
    PVOID mapped = MmMapLockedPagesSpecifyCache(mdl, UserMode, MmCached, NULL, FALSE, NORMAL_NX);

    MmUnmapLockedPages(mapped, mdl);
    free_all(mdl, va);
}

static void ask_above_dispatch(PMDL mdl, PVOID address)
{
    KIRQL irql;

    KeRaiseIrql(TOO_HIGH, &irql);
    EXPECT_PTR_EQ(MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX), address);
    KeLowerIrql(irql);
}

static void ask_for_address_again(HARNESS_UNUSED void *context)
{
    PMDL mdl = locked_mdl(user_buffer(), LENGTH);

    ask_above_dispatch(mdl, MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX));
}

static void ask_for_nonpaged_address(HARNESS_UNUSED void *context)
{
    PVOID pool = ExAllocatePoolWithTag(NonPagedPoolNx, LENGTH, TEST_TAG);

    ask_above_dispatch(nonpaged_mdl(pool, LENGTH), pool);
}

RULE_BAD(MAP_KERNEL_IRQL)
{
    PMDL mdl = locked_mdl(user_buffer(), LENGTH);

    raise_for_good(TOO_HIGH);
    PARAMETERS(TOO_HIGH, p(mdl), KernelMode);
    MmMapLockedPagesSpecifyCache(mdl, KernelMode, MmCached, NULL, FALSE, NORMAL_NX);
}

RULE_GOOD(MAP_KERNEL_IRQL)
{
    UCHAR *va = user_buffer();
    PMDL mdl = locked_mdl(va, LENGTH);
    KIRQL irql;

    KeRaiseIrql(DISPATCH_LEVEL, &irql);
    MmMapLockedPagesSpecifyCache(mdl, KernelMode, MmCached, NULL, FALSE, NORMAL_NX);
    KeLowerIrql(irql);
    free_all(mdl, va);
}

/* MmGetSystemAddressForMdlSafe-21: of an MDL that has its address, nothing is mapped, and to map it before would be no remedy. */
TEST_UNTIDY(rules_map, system_address__of_a_mapped_or_nonpaged_mdl_above_dispatch__warns)
{
    static void (*const bodies[])(void *) = {ask_for_address_again, ask_for_nonpaged_address};

    for (SIZE_T i = 0; i < ARRAYSIZE(bodies); i++) {
        const struct stop stop = run_until_stop(bodies[i], NULL);

        EXPECT(!stop.stopped);
        EXPECT_EQ(stop_warnings(&stop, "irql-too-high"), 1);
    }
}

RULE_BAD(MAP_USER_IRQL)
{
    PMDL mdl = locked_mdl(user_buffer(), LENGTH);

    raise_for_good(DISPATCH_LEVEL);
    PARAMETERS(DISPATCH_LEVEL, p(mdl), UserMode);
    MmMapLockedPagesSpecifyCache(mdl, UserMode, MmCached, NULL, FALSE, NORMAL_NX);
}

RULE_GOOD(MAP_USER_IRQL)
{
    UCHAR *va = user_buffer();
    PMDL mdl = locked_mdl(va, LENGTH);
    KIRQL irql;
    PVOID mapped;

    KeRaiseIrql(APC_LEVEL, &irql);
    mapped = MmMapLockedPagesSpecifyCache(mdl, UserMode, MmCached, NULL, FALSE, NORMAL_NX);
    KeLowerIrql(irql);
    MmUnmapLockedPages(mapped, mdl);
    free_all(mdl, va);
}

RULE_BAD(UNMAP_KERNEL_IRQL)
{
    PMDL mdl = locked_mdl(user_buffer(), LENGTH);
    PVOID mapped = MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX);

    raise_for_good(TOO_HIGH);
    PARAMETERS(TOO_HIGH, p(mapped), p(mdl));
    MmUnmapLockedPages(mapped, mdl);
}

RULE_GOOD(UNMAP_KERNEL_IRQL)
{
    UCHAR *va = user_buffer();
    PMDL mdl = locked_mdl(va, LENGTH);
    PVOID mapped = MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX);
    KIRQL irql;

    KeRaiseIrql(DISPATCH_LEVEL, &irql);
    MmUnmapLockedPages(mapped, mdl);
    KeLowerIrql(irql);
    free_all(mdl, va);
}

RULE_BAD(UNMAP_USER_IRQL)
{
    PMDL mdl = locked_mdl(user_buffer(), LENGTH);
    PVOID mapped = MmMapLockedPagesSpecifyCache(mdl, UserMode, MmCached, NULL, FALSE, NORMAL_NX);

    raise_for_good(DISPATCH_LEVEL);
    PARAMETERS(DISPATCH_LEVEL, p(mapped), p(mdl));
    MmUnmapLockedPages(mapped, mdl);
}

RULE_GOOD(UNMAP_USER_IRQL)
{
    UCHAR *va = user_buffer();
    PMDL mdl = locked_mdl(va, LENGTH);
    PVOID mapped = MmMapLockedPagesSpecifyCache(mdl, UserMode, MmCached, NULL, FALSE, NORMAL_NX);
    KIRQL irql;

    KeRaiseIrql(APC_LEVEL, &irql);
    MmUnmapLockedPages(mapped, mdl);
    KeLowerIrql(irql);
    free_all(mdl, va);
}

/* ---- how a mapping is asked for --------------------------------------------------------------------------------- */

RULE_BAD(MAP_OBSOLETE)
{
    PMDL mdl = locked_mdl(user_buffer(), LENGTH);

    PARAMETERS(p(mdl), mdl_flags(mdl), 0);
    MmMapLockedPages(mdl, KernelMode);
}

RULE_GOOD(MAP_OBSOLETE)
{
    UCHAR *va = user_buffer();
    PMDL mdl = locked_mdl(va, LENGTH);

    if (MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX) == NULL)
        return;                         /* complete the request with STATUS_INSUFFICIENT_RESOURCES */
    free_all(mdl, va);
}

RULE_BAD(MAP_BUG_CHECK)
{
    PMDL mdl = locked_mdl(user_buffer(), LENGTH);

    PARAMETERS(p(mdl), mdl_flags(mdl), 0);
    MmMapLockedPagesSpecifyCache(mdl, KernelMode, MmCached, NULL, TRUE, NORMAL_NX);
}

RULE_GOOD(MAP_BUG_CHECK)
{
    UCHAR *va = user_buffer();
    PMDL mdl = locked_mdl(va, LENGTH);

    MmMapLockedPagesSpecifyCache(mdl, KernelMode, MmCached, NULL, FALSE, NORMAL_NX);
    free_all(mdl, va);
}

RULE_BAD(MAP_TWICE)
{
    PMDL mdl = locked_mdl(user_buffer(), LENGTH);

    MmMapLockedPagesSpecifyCache(mdl, KernelMode, MmCached, NULL, FALSE, NORMAL_NX);
    PARAMETERS(p(mdl), mdl_flags(mdl), MDL_MAPPED_TO_SYSTEM_VA);
    MmMapLockedPagesSpecifyCache(mdl, KernelMode, MmCached, NULL, FALSE, NORMAL_NX);
}

RULE_GOOD(MAP_TWICE)
{
    UCHAR *va = user_buffer();
    PMDL mdl = locked_mdl(va, LENGTH);

    MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX);
    MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX);
    free_all(mdl, va);
}

RULE_BAD(MAP_UNLOCKED)
{
    PMDL mdl = mdl_over(user_buffer(), LENGTH);

    PARAMETERS(p(mdl), mdl_flags(mdl), MDL_PAGES_LOCKED | MDL_SOURCE_IS_NONPAGED_POOL);
    MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX);
}

RULE_GOOD(MAP_UNLOCKED)
{
    UCHAR *va = user_buffer();
    PMDL mdl = mdl_over(va, LENGTH);

    MmProbeAndLockPages(mdl, UserMode, IoReadAccess);
    MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX);
    free_all(mdl, va);
}

RULE_BAD(MAP_PAGES_UNLOCKED)
{
    UCHAR *va = user_buffer();
    PMDL source = locked_mdl(va, LENGTH), part = part_of(source, va, LENGTH);

    MmUnlockPages(source);
    PARAMETERS(p(part), 2, MmGetMdlPfnArray(part)[0]);
    MmGetSystemAddressForMdlSafe(part, NORMAL_NX);
}

RULE_GOOD(MAP_PAGES_UNLOCKED)
{
    UCHAR *va = user_buffer();
    PMDL source = locked_mdl(va, LENGTH), part = part_of(source, va, LENGTH);

    MmGetSystemAddressForMdlSafe(part, NORMAL_NX);
    IoFreeMdl(part);
    free_all(source, va);
}

RULE_BAD(MAP_NO_MEMORY)
{
    PMDL mdl = mdl_over(NULL, PAGE_SIZE);

    MmGetMdlPfnArray(mdl)[0] = 0;
    mdl->MdlFlags |= MDL_PAGES_LOCKED;
    PARAMETERS(p(mdl), p(MmGetMdlPfnArray(mdl)), 0);
    MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX);
}

RULE_GOOD(MAP_NO_MEMORY)
{
    UCHAR *va = user_buffer();
    PMDL locked = locked_mdl(va, LENGTH), mdl = mdl_over(NULL, PAGE_SIZE);

    MmGetMdlPfnArray(mdl)[0] = MmGetMdlPfnArray(locked)[1];
    mdl->MdlFlags |= MDL_PAGES_LOCKED;
    MmUnmapLockedPages(MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX), mdl);
    IoFreeMdl(mdl);
    free_all(locked, va);
}

/* A number beyond all pages, of the host's too, is what memory that nobody has filled in mostly holds. */
STOP_TEST(mistakes, map__number_that_was_never_filled_in__stops, DRIVER_VERIFIER_DETECTED_VIOLATION, 0x89)
{
    PMDL mdl = mdl_over(NULL, PAGE_SIZE);

    MmGetMdlPfnArray(mdl)[0] = 0xCDCDCDCDCDCDCDCD;
    mdl->MdlFlags |= MDL_PAGES_LOCKED;
    MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX);
}

RULE_BAD(NULL_MDL)
{
    PIRP irp = IoAllocateIrp(1, FALSE);

    MmGetSystemAddressForMdlSafe(irp->MdlAddress, NORMAL_NX);
    IoFreeIrp(irp);
}

RULE_GOOD(NULL_MDL)
{
    PIRP irp = IoAllocateIrp(1, FALSE);

    if (irp->MdlAddress != NULL)
        MmGetSystemAddressForMdlSafe(irp->MdlAddress, NORMAL_NX);
    IoFreeIrp(irp);
}

/* MmGetSystemAddressForMdlSafe-03: NULL, which drivers forget to ask for. */
RULE_BAD(MAPPING_UNCHECKED)
{
    UCHAR *va = user_buffer();
    PMDL mdl = locked_mdl(va, LENGTH);

    pinion_fail("MmGetSystemAddressForMdlSafe", 1);
    pinion_try(touch_store, MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX));
    free_all(mdl, va);
}

RULE_GOOD(MAPPING_UNCHECKED)
{
    UCHAR *va = user_buffer();
    PMDL mdl = locked_mdl(va, LENGTH);
    PVOID system;

    pinion_fail("MmGetSystemAddressForMdlSafe", 1);
    system = MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX);
    if (system != NULL)
        touch_store(system);
    free_all(mdl, va);
}

static void touch_unchecked_at_dispatch(HARNESS_UNUSED void *context)
{
    PMDL mdl = locked_mdl(user_buffer(), LENGTH);
    KIRQL irql;

    KeRaiseIrql(DISPATCH_LEVEL, &irql);
    pinion_fail("MmGetSystemAddressForMdlSafe", 1);
    touch_store(MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX));
}

/* MmGetSystemAddressForMdlSafe-03 Bug_checks-11: at DISPATCH_LEVEL, where DPCs and completion routines run, NULL stops; what it was is told first. */
TEST_UNTIDY(mapping_unchecked, touch__at_dispatch_level__is_told_and_stops)
{
    const struct stop stop = run_until_stop(touch_unchecked_at_dispatch, NULL);

    EXPECT_EQ(stop.code, DRIVER_IRQL_NOT_LESS_OR_EQUAL);
    EXPECT_EQ(stop_warnings(&stop, "mapping-unchecked"), 1);
    EXPECT(strstr(stop.stderr_text, "could not be mapped at") != NULL);
}

RULE_BAD(MAP_EXECUTABLE)
{
    UCHAR *va = user_buffer();
    PMDL mdl = locked_mdl(va, LENGTH);

    MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority);
    free_all(mdl, va);
}

RULE_GOOD(MAP_EXECUTABLE)
{
    UCHAR *va = user_buffer();
    PMDL mdl = locked_mdl(va, LENGTH);

    MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority | MdlMappingNoExecute);
    free_all(mdl, va);
}

RULE_BAD(MAP_EXECUTABLE_STOP)
{
    PMDL mdl;

    boot("verifier=0x020009BB");
    mdl = locked_mdl(user_buffer(), LENGTH);
    PARAMETERS(ANYTHING, NormalPagePriority, 0);
    MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority);
}

RULE_GOOD(MAP_EXECUTABLE_STOP)
{
    UCHAR *va;
    PMDL mdl;

    boot("verifier=0x020009BB");
    va = user_buffer();
    mdl = locked_mdl(va, LENGTH);
    MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority | MdlMappingNoExecute);
    free_all(mdl, va);
}

RULE_BAD(PROTECTION_EXECUTABLE)
{
    boot("verifier=0x020009BB");
    PARAMETERS(ANYTHING, PAGE_EXECUTE_READWRITE, 0);
    MmMapIoSpaceEx(device_registers, PAGE_SIZE, PAGE_EXECUTE_READWRITE);
}

RULE_GOOD(PROTECTION_EXECUTABLE)
{
    PVOID registers;

    boot("verifier=0x020009BB");
    registers = MmMapIoSpaceEx(device_registers, PAGE_SIZE, PAGE_READWRITE | PAGE_NOCACHE);
    MmUnmapIoSpace(registers, PAGE_SIZE);
}

/* ---- MmUnmapLockedPages ----------------------------------------------------------------------------------------- */

RULE_BAD(UNMAP_PARTIAL)
{
    UCHAR *va = user_buffer();
    PMDL source = locked_mdl(va, LENGTH), part;
    UCHAR *mapped = MmGetSystemAddressForMdlSafe(source, NORMAL_NX);

    part = part_of(source, va, PAGE_SIZE);
    PARAMETERS(p(part), mdl_flags(part), MDL_PARTIAL);
    MmUnmapLockedPages(mapped, part);
}

RULE_GOOD(UNMAP_PARTIAL)
{
    UCHAR *va = user_buffer();
    PMDL source = locked_mdl(va, LENGTH), part;
    UCHAR *mapped = MmGetSystemAddressForMdlSafe(source, NORMAL_NX);

    part = part_of(source, va, PAGE_SIZE);
    IoFreeMdl(part);
    MmUnmapLockedPages(mapped, source);
    free_all(source, va);
}

RULE_BAD(UNMAP_UNMAPPED)
{
    PMDL mdl = locked_mdl(user_buffer(), LENGTH);
    PVOID mapped = MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX);

    MmUnmapLockedPages(mapped, mdl);
    PARAMETERS(p(mdl), mdl_flags(mdl), MDL_MAPPED_TO_SYSTEM_VA);
    MmUnmapLockedPages(mapped, mdl);
}

RULE_GOOD(UNMAP_UNMAPPED)
{
    UCHAR *va = user_buffer();
    PMDL mdl = locked_mdl(va, LENGTH);
    PVOID mapped = MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX);

    MmUnmapLockedPages(mapped, mdl);
    free_all(mdl, va);
}

RULE_BAD(UNMAP_NOT_MINE)
{
    UCHAR *va = user_buffer();
    PMDL mdl = locked_mdl(va, LENGTH);

    MmMapLockedPagesSpecifyCache(mdl, UserMode, MmCached, NULL, FALSE, NORMAL_NX);
    PARAMETERS(p(va), p(mdl), 0);
    MmUnmapLockedPages(MmGetMdlVirtualAddress(mdl), mdl);
}

RULE_GOOD(UNMAP_NOT_MINE)
{
    UCHAR *va = user_buffer();
    PMDL mdl = locked_mdl(va, LENGTH);
    PVOID mapped = MmMapLockedPagesSpecifyCache(mdl, UserMode, MmCached, NULL, FALSE, NORMAL_NX);

    MmUnmapLockedPages(mapped, mdl);
    free_all(mdl, va);
}

/* A driver's own memory, so that only the mapping is left behind. */
static struct {
    MDL mdl;
    PFN_NUMBER pfns[2];
} own;

RULE_BAD(MAPPING_LEAK)
{
    UCHAR *va = user_buffer();
    PMDL locked = locked_mdl(va, LENGTH);

    MmInitializeMdl(&own.mdl, NULL, PAGE_SIZE);
    own.pfns[0] = MmGetMdlPfnArray(locked)[0];
    own.mdl.MdlFlags |= MDL_PAGES_LOCKED;
    MmGetSystemAddressForMdlSafe(&own.mdl, NORMAL_NX);
    free_all(locked, va);
}

RULE_GOOD(MAPPING_LEAK)
{
    UCHAR *va = user_buffer();
    PMDL locked = locked_mdl(va, LENGTH);

    MmInitializeMdl(&own.mdl, NULL, PAGE_SIZE);
    own.pfns[0] = MmGetMdlPfnArray(locked)[0];
    own.mdl.MdlFlags |= MDL_PAGES_LOCKED;
    MmUnmapLockedPages(MmGetSystemAddressForMdlSafe(&own.mdl, NORMAL_NX), &own.mdl);
    free_all(locked, va);
}

RULE_BAD(USER_MAPPING_LEAK)
{
    UCHAR *va = user_buffer();
    PMDL locked = locked_mdl(va, LENGTH);

    MmInitializeMdl(&own.mdl, NULL, PAGE_SIZE);
    own.pfns[0] = MmGetMdlPfnArray(locked)[0];
    own.mdl.MdlFlags |= MDL_PAGES_LOCKED;
    MmMapLockedPagesSpecifyCache(&own.mdl, UserMode, MmCached, NULL, FALSE, NORMAL_NX);
    free_all(locked, va);
}

RULE_GOOD(USER_MAPPING_LEAK)
{
    UCHAR *va = user_buffer();
    PMDL locked = locked_mdl(va, LENGTH);

    MmInitializeMdl(&own.mdl, NULL, PAGE_SIZE);
    own.pfns[0] = MmGetMdlPfnArray(locked)[0];
    own.mdl.MdlFlags |= MDL_PAGES_LOCKED;
    MmUnmapLockedPages(MmMapLockedPagesSpecifyCache(&own.mdl, UserMode, MmCached, NULL, FALSE, NORMAL_NX), &own.mdl);
    free_all(locked, va);
}

/* ---- reserved addresses ----------------------------------------------------------------------------------------- */

RULE_BAD(RESERVATION_LEAK)
{
    PVOID addresses = MmAllocateMappingAddress(LENGTH, TEST_TAG);

    EXPECT(addresses != NULL);
}

RULE_GOOD(RESERVATION_LEAK)
{
    PVOID addresses = MmAllocateMappingAddress(LENGTH, TEST_TAG);

    MmFreeMappingAddress(addresses, TEST_TAG);
}

/* ---- memory that a process sees ---------------------------------------------------------------------------------- */

RULE_BAD(UNLOCKED_WHILE_SHARED)
{
    UCHAR *va = user_buffer();
    PMDL mdl = locked_mdl(va, LENGTH);
    PVOID shared = MmMapLockedPagesSpecifyCache(mdl, UserMode, MmCached, NULL, FALSE, NORMAL_NX);

    MmUnlockPages(mdl);
    MmUnmapLockedPages(shared, mdl);
    IoFreeMdl(mdl);
    pinion_user_free(va);
}

RULE_GOOD(UNLOCKED_WHILE_SHARED)
{
    UCHAR *va = user_buffer();
    PMDL mdl = locked_mdl(va, LENGTH);
    PVOID shared = MmMapLockedPagesSpecifyCache(mdl, UserMode, MmCached, NULL, FALSE, NORMAL_NX);

    MmUnmapLockedPages(shared, mdl);
    free_all(mdl, va);
}

/* MmMapLockedPagesSpecifyCache-17 MmBuildMdlForNonPagedPool-19: pool is not freed while it is mapped. */
RULE_BAD(FREED_WHILE_SHARED)
{
    UCHAR *pool = pool_pages(1);
    PMDL mdl = nonpaged_mdl(pool, PAGE_SIZE);
    PVOID shared = MmMapLockedPagesSpecifyCache(mdl, UserMode, MmCached, NULL, FALSE, NORMAL_NX);

    ExFreePoolWithTag(pool, TEST_TAG);
    MmUnmapLockedPages(shared, mdl);
    IoFreeMdl(mdl);
}

RULE_GOOD(FREED_WHILE_SHARED)
{
    UCHAR *pool = pool_pages(1);
    PMDL mdl = nonpaged_mdl(pool, PAGE_SIZE);
    PVOID shared = MmMapLockedPagesSpecifyCache(mdl, UserMode, MmCached, NULL, FALSE, NORMAL_NX);

    MmUnmapLockedPages(shared, mdl);
    IoFreeMdl(mdl);
    ExFreePoolWithTag(pool, TEST_TAG);
}
