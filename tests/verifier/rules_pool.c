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

/* Driver_Verifier_pool_tracking-03: memory behind an allocation that was written is found at the free. */
RULE_BAD(POOL_OVERRUN)
{
    UCHAR *block;

    boot("verifier=0x8");
    block = ExAllocatePoolWithTag(NonPagedPoolNx, 100, TEST_TAG);
    RtlZeroMemory(block, 101);
    PARAMETERS(p(block), p(block + 100), 100);
    ExFreePoolWithTag(block, TEST_TAG);
}

RULE_GOOD(POOL_OVERRUN)
{
    UCHAR *block;

    boot("verifier=0x8");
    block = ExAllocatePoolWithTag(NonPagedPoolNx, 100, TEST_TAG);
    RtlZeroMemory(block, 100);
    ExFreePoolWithTag(block, TEST_TAG);
}

struct overrun {
    POOL_TYPE type;
    SIZE_T bytes;
};

static void run_over(void *context)
{
    const struct overrun *const overrun = context;
    UCHAR *block;

    boot("verifier=0x9B8");
    block = ExAllocatePoolWithTag(overrun->type, overrun->bytes, TEST_TAG);
    block[overrun->bytes] ^= 1;
    ExFreePoolWithTag(block, TEST_TAG);
}

/* Driver_Verifier_pool_tracking-03: at every size that leaves room behind the block, in either pool. */
TEST_UNTIDY(pool_tracking, overrun__by_a_byte__stops_at_the_free)
{
    static const SIZE_T sizes[] = {1, 16, 112, 2032, 2048, 4000, PAGE_SIZE + 1, 3 * PAGE_SIZE - 1};

    for (SIZE_T i = 0; i < 2 * ARRAYSIZE(sizes); i++) {
        struct overrun overrun = {i % 2 ? PagedPool : NonPagedPoolNx, sizes[i / 2]};
        const struct stop stop = run_until_stop(run_over, &overrun);

        EXPECT_EQ(stop.code, DRIVER_VERIFIER_DETECTED_VIOLATION);
        EXPECT_EQ(stop.p[0], 0x51);
        EXPECT_EQ(stop.p[2], stop.p[1] + overrun.bytes);
        EXPECT_EQ(stop.p[3], overrun.bytes);
    }
}
