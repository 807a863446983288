/* SPDX-License-Identifier: MIT */
/* The twins of the rules for special pool, and what drivers may do with its blocks. */

#include "rules.h"

enum { BYTES = 100, SLACK = 12 };       /* a block of 100 bytes ends 12 bytes before its page */

static UCHAR *small_block(VOID)
{
    return ExAllocatePoolWithTag(NonPagedPoolNx, BYTES, TEST_TAG);
}

/* ---- touched after the free ------------------------------------------------------------------------------------- */

/* Driver_Verifier_special_pool-01: use after free is 0xCC, at the access. */
RULE_BAD(SPECIAL_FREED)
{
    UCHAR *block = small_block();

    ExFreePoolWithTag(block, TEST_TAG);
    PARAMETERS(p(block + 7), 1, ANYTHING, 0);
    touch_store(block + 7);
}

RULE_GOOD(SPECIAL_FREED)
{
    UCHAR *block = small_block();

    touch_store(block + 7);
    ExFreePoolWithTag(block, TEST_TAG);
}

static NTSTATUS use_after_free(PDRIVER_OBJECT driver, HARNESS_UNUSED void *registry_path)
{
    UCHAR *block = small_block();

    UNREFERENCED_PARAMETER(driver);
    ExFreePoolWithTag(block, TEST_TAG);
    PARAMETERS(p(block), 0, ANYTHING, 0);
    touch_load(block);
    return STATUS_SUCCESS;
}

RULE_BAD(SPECIAL_FREED_BY_DRIVER)
{
    PDRIVER_OBJECT driver;

    pinion_driver_load("late", use_after_free, &driver);
}

static NTSTATUS free_after_use(PDRIVER_OBJECT driver, HARNESS_UNUSED void *registry_path)
{
    UCHAR *block = small_block();

    UNREFERENCED_PARAMETER(driver);
    touch_load(block);
    ExFreePoolWithTag(block, TEST_TAG);
    return STATUS_SUCCESS;
}

RULE_GOOD(SPECIAL_FREED_BY_DRIVER)
{
    PDRIVER_OBJECT driver;

    pinion_driver_load("in time", free_after_use, &driver);
    pinion_driver_unload(driver);
}

/* ---- touched beside it ------------------------------------------------------------------------------------------- */

/* Driver_Verifier_special_pool-01: an overrun faults at once, as 0xCD. */
RULE_BAD(SPECIAL_BEYOND)
{
    UCHAR *block = small_block();

    PARAMETERS(p(block + BYTES + SLACK), 0, ANYTHING, 0);
    touch_load(block + BYTES + SLACK);
}

RULE_GOOD(SPECIAL_BEYOND)
{
    UCHAR *block = small_block();

    touch_load(block + BYTES - 1);
    ExFreePoolWithTag(block, TEST_TAG);
}

static NTSTATUS run_over(PDRIVER_OBJECT driver, HARNESS_UNUSED void *registry_path)
{
    UCHAR *block = ExAllocatePool2(POOL_FLAG_NON_PAGED, PAGE_SIZE, TEST_TAG);

    UNREFERENCED_PARAMETER(driver);
    PARAMETERS(p(block + PAGE_SIZE), 1, ANYTHING, 0);
    touch_store(block + PAGE_SIZE);
    return STATUS_SUCCESS;
}

RULE_BAD(SPECIAL_BEYOND_BY_DRIVER)
{
    PDRIVER_OBJECT driver;

    pinion_driver_load("greedy", run_over, &driver);
}

static NTSTATUS stay_inside(PDRIVER_OBJECT driver, HARNESS_UNUSED void *registry_path)
{
    UCHAR *block = ExAllocatePool2(POOL_FLAG_NON_PAGED, PAGE_SIZE, TEST_TAG);

    UNREFERENCED_PARAMETER(driver);
    touch_store(block + PAGE_SIZE - 1);
    ExFreePoolWithTag(block, TEST_TAG);
    return STATUS_SUCCESS;
}

RULE_GOOD(SPECIAL_BEYOND_BY_DRIVER)
{
    PDRIVER_OBJECT driver;

    pinion_driver_load("modest", stay_inside, &driver);
    pinion_driver_unload(driver);
}

/* ---- damage that is found at the free ----------------------------------------------------------------------------- */

/* Driver_Verifier_special_pool-01: damage in the filler is 0xC1 at the free. */
RULE_BAD(SPECIAL_UNDERRUN)
{
    UCHAR *block = small_block();

    RtlZeroMemory(block - 3, 3);
    PARAMETERS(p(block), p(block - 3), 0, 0x23);
    ExFreePoolWithTag(block, TEST_TAG);
}

RULE_GOOD(SPECIAL_UNDERRUN)
{
    UCHAR *block = small_block();

    RtlZeroMemory(block, 3);
    ExFreePoolWithTag(block, TEST_TAG);
}

RULE_BAD(SPECIAL_OVERRUN)
{
    UCHAR *block = small_block();

    RtlZeroMemory(block, BYTES + 2);
    PARAMETERS(p(block), p(block + BYTES), 0, 0x24);
    ExFreePoolWithTag(block, TEST_TAG);
}

RULE_GOOD(SPECIAL_OVERRUN)
{
    UCHAR *block = small_block();

    RtlZeroMemory(block, BYTES);
    ExFreePoolWithTag(block, TEST_TAG);
}

RULE_BAD(SPECIAL_ONE_BIT)
{
    UCHAR *block = small_block();

    block[BYTES] ^= 0x20;
    PARAMETERS(p(block), p(block + BYTES), 0, 0x32);
    ExFreePoolWithTag(block, TEST_TAG);
}

RULE_GOOD(SPECIAL_ONE_BIT)
{
    UCHAR *block = small_block();

    block[BYTES - 1] ^= 0x20;
    ExFreePoolWithTag(block, TEST_TAG);
}

/* ---- MDLs ------------------------------------------------------------------------------------------------------- */

/* Driver_Verifier_special_pool-01: an MDL stands in special pool. A macro that reads it after the free meets no memory. */
RULE_BAD(TOUCHED_AFTER_FREE)
{
    PMDL mdl = mdl_over(NULL, PAGE_SIZE);

    IoFreeMdl(mdl);
    PARAMETERS(p(&mdl->ByteCount), 0, ANYTHING, 0);
    touch_load(&mdl->ByteCount);
}

RULE_GOOD(TOUCHED_AFTER_FREE)
{
    PMDL mdl = mdl_over(NULL, PAGE_SIZE);

    touch_load(&mdl->ByteCount);
    IoFreeMdl(mdl);
}

static NTSTATUS write_freed_mdl(PDRIVER_OBJECT driver, HARNESS_UNUSED void *registry_path)
{
    PMDL mdl = mdl_over(NULL, PAGE_SIZE);

    UNREFERENCED_PARAMETER(driver);
    IoFreeMdl(mdl);
    PARAMETERS(p(&mdl->Next), 1, ANYTHING, 0);
    touch_store(&mdl->Next);
    return STATUS_SUCCESS;
}

RULE_BAD(TOUCHED_AFTER_FREE_BY_DRIVER)
{
    PDRIVER_OBJECT driver;

    pinion_driver_load("late", write_freed_mdl, &driver);
}

static NTSTATUS write_mdl(PDRIVER_OBJECT driver, HARNESS_UNUSED void *registry_path)
{
    PMDL mdl = mdl_over(NULL, PAGE_SIZE);

    UNREFERENCED_PARAMETER(driver);
    mdl->Next = NULL;
    IoFreeMdl(mdl);
    return STATUS_SUCCESS;
}

RULE_GOOD(TOUCHED_AFTER_FREE_BY_DRIVER)
{
    PDRIVER_OBJECT driver;

    pinion_driver_load("in time", write_mdl, &driver);
    pinion_driver_unload(driver);
}

/* Driver_Verifier_special_pool-01: the memory behind the page numbers is a guard. */
RULE_BAD(BEYOND_MDL)
{
    PMDL mdl = mdl_over(NULL, 2 * PAGE_SIZE);

    PARAMETERS(p(MmGetMdlPfnArray(mdl) + 2), 1, ANYTHING, 0);
    touch_store(MmGetMdlPfnArray(mdl) + 2);
}

RULE_GOOD(BEYOND_MDL)
{
    PMDL mdl = mdl_over(NULL, 2 * PAGE_SIZE);

    touch_store(MmGetMdlPfnArray(mdl) + 1);
    IoFreeMdl(mdl);
}

static NTSTATUS fill_too_many(PDRIVER_OBJECT driver, HARNESS_UNUSED void *registry_path)
{
    PMDL mdl = mdl_over((PVOID)0x10000, 4 * PAGE_SIZE);

    UNREFERENCED_PARAMETER(driver);
    PARAMETERS(p(MmGetMdlPfnArray(mdl) + 4), 1, ANYTHING, 0);
    for (ULONG i = 0; i <= 4; i++)
        touch_store(MmGetMdlPfnArray(mdl) + i);
    return STATUS_SUCCESS;
}

RULE_BAD(BEYOND_MDL_BY_DRIVER)
{
    PDRIVER_OBJECT driver;

    pinion_driver_load("greedy", fill_too_many, &driver);
}

static NTSTATUS fill_all(PDRIVER_OBJECT driver, HARNESS_UNUSED void *registry_path)
{
    PMDL mdl = mdl_over((PVOID)0x10000, 4 * PAGE_SIZE);

    UNREFERENCED_PARAMETER(driver);
    for (ULONG i = 0; i < 4; i++)
        touch_store(MmGetMdlPfnArray(mdl) + i);
    IoFreeMdl(mdl);
    return STATUS_SUCCESS;
}

RULE_GOOD(BEYOND_MDL_BY_DRIVER)
{
    PDRIVER_OBJECT driver;

    pinion_driver_load("modest", fill_all, &driver);
    pinion_driver_unload(driver);
}

/* Driver_Verifier_special_pool-01: an MDL with an odd number of pages ends before its page; what is written there is found at the free. */
RULE_BAD(MDL_DAMAGED)
{
    PMDL mdl = mdl_over(NULL, PAGE_SIZE);

    MmGetMdlPfnArray(mdl)[1] = 0;
    PARAMETERS(p(mdl), p(MmGetMdlPfnArray(mdl) + 1), 0, 0x24);
    IoFreeMdl(mdl);
}

RULE_GOOD(MDL_DAMAGED)
{
    PMDL mdl = mdl_over(NULL, PAGE_SIZE);

    MmGetMdlPfnArray(mdl)[0] = 0;
    IoFreeMdl(mdl);
}
