/* SPDX-License-Identifier: MIT */
/* The twins of the rules for pool and contiguous memory. */

#include "rules.h"

RULE_BAD(POOL_ZERO_BYTES)
{
    PARAMETERS(PASSIVE_LEVEL, NonPagedPoolNx, 0);
    ExAllocatePoolWithTag(NonPagedPoolNx, 0, TEST_TAG);
}

RULE_GOOD(POOL_ZERO_BYTES)
{
    PVOID block = ExAllocatePoolWithTag(NonPagedPoolNx, 1, TEST_TAG);

    ExFreePoolWithTag(block, TEST_TAG);
}

RULE_BAD(POOL_PAGED_IRQL)
{
    KIRQL irql;

    KeRaiseIrql(DISPATCH_LEVEL, &irql);
    PARAMETERS(DISPATCH_LEVEL, PagedPool, 100);
    ExAllocatePoolWithTag(PagedPool, 100, TEST_TAG);
}

RULE_GOOD(POOL_PAGED_IRQL)
{
    KIRQL irql;
    PVOID block;

    KeRaiseIrql(APC_LEVEL, &irql);
    block = ExAllocatePoolWithTag(PagedPool, 100, TEST_TAG);
    ExFreePoolWithTag(block, TEST_TAG);
    KeLowerIrql(irql);
}

RULE_BAD(POOL_NONPAGED_IRQL)
{
    KIRQL irql;

    KeRaiseIrql(TOO_HIGH, &irql);
    PARAMETERS(TOO_HIGH, NonPagedPoolNx, 100);
    ExAllocatePoolWithTag(NonPagedPoolNx, 100, TEST_TAG);
}

RULE_GOOD(POOL_NONPAGED_IRQL)
{
    KIRQL irql;
    PVOID block;

    KeRaiseIrql(DISPATCH_LEVEL, &irql);
    block = ExAllocatePoolWithTag(NonPagedPoolNx, 100, TEST_TAG);
    ExFreePoolWithTag(block, TEST_TAG);
    KeLowerIrql(irql);
}

RULE_BAD(POOL_FREE_PAGED_IRQL)
{
    PVOID block = ExAllocatePoolWithTag(PagedPool, 100, TEST_TAG);
    KIRQL irql;

    KeRaiseIrql(DISPATCH_LEVEL, &irql);
    PARAMETERS(DISPATCH_LEVEL, PagedPool, p(block));
    ExFreePoolWithTag(block, TEST_TAG);
}

RULE_GOOD(POOL_FREE_PAGED_IRQL)
{
    PVOID block = ExAllocatePoolWithTag(PagedPool, 100, TEST_TAG);
    KIRQL irql;

    KeRaiseIrql(APC_LEVEL, &irql);
    ExFreePoolWithTag(block, TEST_TAG);
    KeLowerIrql(irql);
}

RULE_BAD(POOL_FREE_NONPAGED_IRQL)
{
    PVOID block = ExAllocatePoolWithTag(NonPagedPoolNx, 100, TEST_TAG);
    KIRQL irql;

    KeRaiseIrql(TOO_HIGH, &irql);
    PARAMETERS(TOO_HIGH, NonPagedPoolNx, p(block));
    ExFreePoolWithTag(block, TEST_TAG);
}

RULE_GOOD(POOL_FREE_NONPAGED_IRQL)
{
    PVOID block = ExAllocatePoolWithTag(NonPagedPoolNx, 100, TEST_TAG);
    KIRQL irql;

    KeRaiseIrql(DISPATCH_LEVEL, &irql);
    ExFreePoolWithTag(block, TEST_TAG);
    KeLowerIrql(irql);
}

RULE_BAD(POOL_FREE_OF_IRP)
{
    PIRP irp = IoAllocateIrp(1, FALSE);

    PARAMETERS(p(irp), 0, 0);
    ExFreePool(irp);
}

RULE_GOOD(POOL_FREE_OF_IRP)
{
    PIRP irp = IoAllocateIrp(1, FALSE);

    IoFreeIrp(irp);
}

RULE_BAD(POOL_NO_TAG)
{
    PVOID block = ExAllocatePoolWithTag(NonPagedPoolNx, 100, 0);

    ExFreePool(block);
}

RULE_GOOD(POOL_NO_TAG)
{
    PVOID block = ExAllocatePoolWithTag(NonPagedPoolNx, 100, 'gaTy');

    ExFreePool(block);
}

RULE_BAD(POOL_EXECUTABLE)
{
    PVOID block = ExAllocatePoolWithTag(NonPagedPool, 100, TEST_TAG);

    ExFreePoolWithTag(block, TEST_TAG);
}

RULE_GOOD(POOL_EXECUTABLE)
{
    PVOID block = ExAllocatePoolWithTag(NonPagedPoolNx, 100, TEST_TAG);

    ExFreePoolWithTag(block, TEST_TAG);
}

RULE_BAD(POOL_EXECUTABLE_STOP)
{
    boot("verifier=0x020009BB");
    PARAMETERS(ANYTHING, NonPagedPool, TEST_TAG);
    ExAllocatePoolWithTag(NonPagedPool, 100, TEST_TAG);
}

RULE_GOOD(POOL_EXECUTABLE_STOP)
{
    PVOID block;

    boot("verifier=0x020009BB");
    block = ExAllocatePool2(POOL_FLAG_NON_PAGED, 100, TEST_TAG);
    ExFreePoolWithTag(block, TEST_TAG);
}

static const PHYSICAL_ADDRESS lowest = {.QuadPart = 0}, highest = {.QuadPart = MAXLONGLONG};

RULE_BAD(CONTIGUOUS_MISMATCH)
{
    PVOID block = MmAllocateContiguousMemorySpecifyCache(PAGE_SIZE, lowest, highest, lowest, MmNonCached);

    MmFreeContiguousMemorySpecifyCache(block, PAGE_SIZE, MmCached);
}

RULE_GOOD(CONTIGUOUS_MISMATCH)
{
    PVOID block = MmAllocateContiguousMemorySpecifyCache(PAGE_SIZE, lowest, highest, lowest, MmNonCached);

    MmFreeContiguousMemorySpecifyCache(block, PAGE_SIZE, MmNonCached);
}
