/* SPDX-License-Identifier: MIT */
/*
 * MmGetPhysicalAddress: the frame and the offset behind an address, whatever kind of memory it lies in, and 0 where
 * there is none.
 */

#include "harness.h"

#include <stdlib.h>

#include <ntifs.h>
#include <pinion/pinion.h>

#include "support.h"

static ULONG64 pa_of(PVOID va)
{
    return (ULONG64)MmGetPhysicalAddress(va).QuadPart;
}

/* The physical address of each byte around the edges of each page is its frame in the MDL and its
   offset. */
static void expect_translated(UCHAR *va, SIZE_T bytes, PMDL mdl)
{
    static const ULONG offsets[] = {0, 1, 0x7FF, PAGE_SIZE - 1};

    for (SIZE_T page = 0; page < bytes / PAGE_SIZE; page++) {
        for (SIZE_T i = 0; i < ARRAYSIZE(offsets); i++)
            EXPECT_EQ(pa_of(va + page * PAGE_SIZE + offsets[i]),
                      MmGetMdlPfnArray(mdl)[page] << PAGE_SHIFT | offsets[i]);
    }
}

/* MmGetPhysicalAddress-01: the routine has its documented type, and gives frame and offset of process
   memory, pool and contiguous memory. */
SILENT_TEST(physical_address, get__each_kind_of_memory__is_frame_and_offset)
{
    PHYSICAL_ADDRESS (*const get)(PVOID) = MmGetPhysicalAddress;
    const PHYSICAL_ADDRESS anywhere = {.QuadPart = MAXLONGLONG};
    UCHAR *const user = user_pages(3, PAGE_READWRITE), *const pool = pool_pages(3);
    UCHAR *const contiguous = MmAllocateContiguousMemory(3 * PAGE_SIZE, anywhere);
    UCHAR *const blocks[] = {user, pool, contiguous};

    EXPECT_NE(get(user).QuadPart, 0);
    for (SIZE_T i = 0; i < ARRAYSIZE(blocks); i++) {
        const PMDL mdl = mdl_over(blocks[i], 3 * PAGE_SIZE);

        EXPECT_STATUS(try_lock(mdl, KernelMode, IoReadAccess), STATUS_SUCCESS);
        expect_translated(blocks[i], 3 * PAGE_SIZE, mdl);
        unlock_and_free(mdl);
    }
    MmFreeContiguousMemory(contiguous);
    ExFreePool(pool);
    pinion_user_free(user);
}

/* MmGetPhysicalAddress-01: a mapping of an MDL, in system space or in a process, has the physical addresses
   of the pages mapped. */
SILENT_TEST(physical_address, get__mappings__is_that_of_the_pages)
{
    UCHAR *const user = user_pages(3, PAGE_READWRITE);
    const PMDL mdl = locked_mdl(user, 3 * PAGE_SIZE);
    UCHAR *const system = map_system(mdl), *const mapped = map_user(mdl);

    expect_translated(system, 3 * PAGE_SIZE, mdl);
    expect_translated(mapped, 3 * PAGE_SIZE, mdl);
    MmUnmapLockedPages(mapped, mdl);
    EXPECT_EQ(pa_of(mapped), 0);
    MmUnmapLockedPages(system, mdl);
    EXPECT_EQ(pa_of(system), 0);
    unlock_and_free(mdl);
    pinion_user_free(user);
}

/* MmGetPhysicalAddress-01: memory of the host program has physical addresses that are those of its MDLs and
   of no process memory. */
SILENT_TEST(physical_address, get__host_memory__is_that_of_its_mdl)
{
    UCHAR *const heap = malloc(4 * PAGE_SIZE), *const user = user_pages(1, PAGE_READWRITE);
    UCHAR *const start = (UCHAR *)PAGE_ALIGN(heap) + PAGE_SIZE;
    const PMDL mdl = locked_mdl(start, 2 * PAGE_SIZE);

    expect_translated(start, 2 * PAGE_SIZE, mdl);
    EXPECT_NE(pa_of(start), pa_of(user));
    unlock_and_free(mdl);
    pinion_user_free(user);
    free(heap);
}

/* MmGetPhysicalAddress-01: where nothing is, or a page is away, the address is 0; it is back with the
   page. */
SILENT_TEST(physical_address, get__no_memory_behind_it__is_0)
{
    UCHAR *const user = user_pattern(2, 1), *const freed = user_pages(1, PAGE_READWRITE);
    const ULONG64 before = pa_of(user);

    pinion_user_free(freed);
    EXPECT_EQ(pa_of(freed), 0);
    EXPECT_EQ(pinion_trim(), 2);
    EXPECT_EQ(pa_of(user), 0);
    EXPECT_EQ(pa_of(user + PAGE_SIZE + 9), 0);
    EXPECT_PATTERN(user, 2 * PAGE_SIZE, 1);
    EXPECT_NE(pa_of(user), 0);
    EXPECT_NE(before, 0);
    pinion_user_free(user);
}

/* MmGetPhysicalAddress-02: it may be called at any IRQL. */
SILENT_TEST(physical_address, get__at_high_level__answers)
{
    UCHAR *const user = user_pages(1, PAGE_READWRITE), *const pool = pool_pages(1);
    const PMDL mdl = locked_mdl(user, PAGE_SIZE);
    const ULONG64 user_pa = pa_of(user + 5), pool_pa = pa_of(pool + 5);
    const KIRQL before = raise_irql(HIGH_LEVEL);
    const ULONG64 user_high = pa_of(user + 5), pool_high = pa_of(pool + 5);

    KeLowerIrql(before);
    EXPECT_EQ(user_high, user_pa);
    EXPECT_EQ(pool_high, pool_pa);
    unlock_and_free(mdl);
    ExFreePool(pool);
    pinion_user_free(user);
}

/* MmGetPhysicalAddress-01: no two addresses of different pages have the same physical address, across
   processes, pool and contiguous memory. */
SILENT_TEST(physical_address, get__pages_of_all_kinds__differ)
{
    enum { EACH = 20, KINDS = 4 };
    const PHYSICAL_ADDRESS anywhere = {.QuadPart = MAXLONGLONG};
    const PEPROCESS other = pinion_process_create("other");
    UCHAR *blocks[KINDS] = {user_pages(EACH, PAGE_READWRITE), pool_pages(EACH),
                            MmAllocateContiguousMemory(EACH * PAGE_SIZE, anywhere)};
    ULONG64 pas[KINDS * EACH];

    for (SIZE_T kind = 0; kind < KINDS; kind++) {
        pinion_process_attach(kind == KINDS - 1 ? other : NULL);
        if (kind == KINDS - 1)
            blocks[kind] = user_pages(EACH, PAGE_READWRITE);
        for (SIZE_T i = 0; i < EACH; i++)
            pas[kind * EACH + i] = pa_of(blocks[kind] + i * PAGE_SIZE);
    }
    for (SIZE_T i = 0; i < KINDS * EACH; i++) {
        EXPECT_NE(pas[i], 0);
        for (SIZE_T j = 0; j < i; j++)
            EXPECT_NE(pas[i], pas[j]);
    }
    pinion_process_attach(NULL);
    pinion_process_exit(other);
    MmFreeContiguousMemory(blocks[2]);
    ExFreePool(blocks[1]);
    pinion_user_free(blocks[0]);
}

/* MmGetPhysicalAddress-01: a machine has memory for processes below and above 4 GiB, so that devices of 32
   bits matter. */
TEST(physical_address, get__all_memory__lies_on_both_sides_of_4_gib)
{
    enum { CHUNK = 1024 };
    SIZE_T below = 0, above = 0;
    UCHAR *user;

    boot("ram=64M");
    while ((user = pinion_user_alloc(CHUNK * PAGE_SIZE, PAGE_READWRITE)) != NULL) {
        for (SIZE_T page = 0; page < CHUNK; page++) {
            below += pa_of(user + page * PAGE_SIZE) < 0x100000000;
            above += pa_of(user + page * PAGE_SIZE) >= 0x100000000;
        }
    }
    EXPECT(below > 0);
    EXPECT(above > 0);
}
