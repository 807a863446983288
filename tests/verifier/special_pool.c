/* SPDX-License-Identifier: MIT */
/*
 * Special pool (verifier flag 0x1): what a driver's block is like there, and what still works with it. The rules have their
 * twins in rules_special.c.
 */

#include "harness.h"
#include <wdm.h>

#include "../contract/support.h"

#include <stdio.h>
#include <string.h>

static UCHAR *allocate(POOL_TYPE type, SIZE_T bytes)
{
    UCHAR *const block = ExAllocatePoolWithTag(type, bytes, TEST_TAG);

    EXPECT(block != NULL);
    return block;
}

static const SIZE_T sizes[] = {1, 15, 16, 17, 100, 2048, 2049, 4000, PAGE_SIZE - 1, PAGE_SIZE};

/* Driver_Verifier_special_pool-01: each block ends with its page, as far as its alignment lets it. */
TEST(special_pool, block__of_up_to_a_page__ends_its_page)
{
    static const POOL_TYPE types[] = {NonPagedPoolNx, PagedPool, NonPagedPoolNxCacheAligned};

    for (SIZE_T t = 0; t < ARRAYSIZE(types); t++) {
        const SIZE_T alignment = types[t] == NonPagedPoolNxCacheAligned ? 64 : 16;

        for (SIZE_T i = 0; i < ARRAYSIZE(sizes); i++) {
            UCHAR *const block = allocate(types[t], sizes[i]);

            EXPECT_EQ((ULONG_PTR)block % alignment, 0);
            EXPECT_EQ(PAGE_ALIGN(block), PAGE_ALIGN(block + sizes[i] - 1));
            EXPECT(BYTE_OFFSET(block) + sizes[i] + alignment > PAGE_SIZE);
            fill_pattern(block, sizes[i], 5);
            EXPECT_PATTERN(block, sizes[i], 5);
            ExFreePoolWithTag(block, TEST_TAG);
        }
    }
}

/* More than a page comes from ordinary pool. */
TEST(special_pool, block__larger_than_a_page__is_ordinary)
{
    UCHAR *const block = allocate(NonPagedPoolNx, PAGE_SIZE + 100);

    EXPECT_EQ(BYTE_OFFSET(block), 0);
    ExFreePoolWithTag(block, TEST_TAG);
}

/* Without the flag blocks share pages. */
TEST(special_pool, block__without_the_flag__is_ordinary)
{
    UCHAR *blocks[2];

    boot("verifier=0x9B8");
    for (int i = 0; i < 2; i++)
        blocks[i] = allocate(NonPagedPoolNx, 100);
    EXPECT_EQ(PAGE_ALIGN(blocks[0]), PAGE_ALIGN(blocks[1]));
    for (int i = 0; i < 2; i++)
        ExFreePoolWithTag(blocks[i], TEST_TAG);
}

/* Its frame is real: a physical address, an MDL, a partial MDL, a lock and a second mapping all speak of the same bytes. */
TEST(special_pool, block__described_by_mdls__is_the_same_memory)
{
    UCHAR *const block = allocate(NonPagedPoolNx, 1000);
    const PMDL mdl = mdl_over(block, 1000), part = mdl_over(block + 10, 100), locked = mdl_over(block, 1000);
    const PHYSICAL_ADDRESS pa = MmGetPhysicalAddress(block + 3);

    fill_pattern(block, 1000, 9);
    MmBuildMdlForNonPagedPool(mdl);
    EXPECT_PTR_EQ(MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX), block);
    EXPECT_EQ(MmGetMdlPfnArray(mdl)[0], (PFN_NUMBER)(pa.QuadPart >> PAGE_SHIFT));
    EXPECT_PTR_EQ(MmGetVirtualForPhysical(pa), block + 3);
    EXPECT(MmIsAddressValid(block));
    EXPECT(!MmIsAddressValid(block + PAGE_SIZE));
    IoBuildPartialMdl(mdl, part, block + 10, 100);
    EXPECT_PATTERN_AT(system_address(part), 100, 9, 10);
    EXPECT_STATUS(try_lock(locked, KernelMode, IoWriteAccess), STATUS_SUCCESS);
    EXPECT_PATTERN(system_address(locked), 1000, 9);
    EXPECT_NE(system_address(locked), block);
    unlock_and_free(locked);
    IoFreeMdl(part);
    IoFreeMdl(mdl);
    ExFreePoolWithTag(block, TEST_TAG);
}

/* An MDL may be longer than the block: a habit of drivers that touch only what is theirs. */
SILENT_TEST(special_pool, mdl__longer_than_the_block__can_be_built)
{
    UCHAR *const block = allocate(NonPagedPoolNx, 100);
    const PMDL mdl = mdl_over(block, 1000);

    MmBuildMdlForNonPagedPool(mdl);
    EXPECT_EQ(MmGetMdlPfnArray(mdl)[0], frame_of(block));
    EXPECT_NE(MmGetMdlPfnArray(mdl)[1], MmGetMdlPfnArray(mdl)[0]);
    IoFreeMdl(mdl);
    ExFreePoolWithTag(block, TEST_TAG);
}

/* What is freed faults as long as possible: its address is not given to the next block. */
TEST(special_pool, address__of_a_freed_block__is_not_used_again_soon)
{
    UCHAR *const first = allocate(NonPagedPoolNx, 100);

    ExFreePoolWithTag(first, TEST_TAG);
    for (int i = 0; i < 1000; i++) {
        UCHAR *const block = allocate(NonPagedPoolNx, 100);

        EXPECT_NE(block, first);
        EXPECT(!MmIsAddressValid(first));
        ExFreePoolWithTag(block, TEST_TAG);
    }
}

enum { MORE_THAN_THERE_IS = 9000 };

/* Where special pool is used up, ordinary pool serves, and the caller does not notice. */
TEST(special_pool, more_blocks_than_there_is_room__are_ordinary)
{
    static UCHAR *blocks[MORE_THAN_THERE_IS];
    SIZE_T alone = 0;

    for (SIZE_T i = 0; i < MORE_THAN_THERE_IS; i++) {
        blocks[i] = allocate(NonPagedPoolNx, 100);
        blocks[i][99] = (UCHAR)i;
        alone += BYTE_OFFSET(blocks[i]) + 112 == PAGE_SIZE;
    }
    EXPECT(alone > 8000 && alone < MORE_THAN_THERE_IS);
    for (SIZE_T i = 0; i < MORE_THAN_THERE_IS; i++) {
        EXPECT_EQ(blocks[i][99], (UCHAR)i);
        ExFreePoolWithTag(blocks[i], TEST_TAG);
    }
    UCHAR *const again = allocate(NonPagedPoolNx, 100);
    EXPECT_EQ(BYTE_OFFSET(again) + 112, PAGE_SIZE);
    ExFreePoolWithTag(again, TEST_TAG);
}

/* A small machine keeps most of its memory for other things. */
TEST(special_pool, small_machine__has_room_for_other_things)
{
    static UCHAR *blocks[MORE_THAN_THERE_IS], *pages[2000];

    boot("verifier=on:ram=32M");
    for (SIZE_T i = 0; i < MORE_THAN_THERE_IS; i++)
        blocks[i] = allocate(NonPagedPoolNx, 100);
    for (SIZE_T i = 0; i < ARRAYSIZE(pages); i++)
        pages[i] = allocate(NonPagedPoolNx, 2 * PAGE_SIZE);
    for (SIZE_T i = 0; i < ARRAYSIZE(pages); i++)
        ExFreePoolWithTag(pages[i], TEST_TAG);
    for (SIZE_T i = 0; i < MORE_THAN_THERE_IS; i++)
        ExFreePoolWithTag(blocks[i], TEST_TAG);
}

/* Paged pool is pageable there too. */
TEST(special_pool, paged_block__trimmed__comes_back)
{
    UCHAR *const block = allocate(PagedPool, 100);

    fill_pattern(block, 100, 2);
    EXPECT(pinion_trim() != 0);
    EXPECT_PATTERN(block, 100, 2);
    ExFreePoolWithTag(block, TEST_TAG);
}

/* ---- stops ------------------------------------------------------------------------------------------------------ */

struct access {
    POOL_TYPE type;
    bool      free_first;
    LONG      off;                      /* from the first byte behind the block's page */
};

static void touch_beside(void *context)
{
    const struct access *const access = context;
    UCHAR *const block = allocate(access->type, 100);
    UCHAR *const end = (UCHAR *)PAGE_ALIGN(block) + PAGE_SIZE;

    if (access->free_first)
        ExFreePoolWithTag(block, TEST_TAG);
    touch_load(end + access->off);
}

/* Driver_Verifier_special_pool-01: behind it, in front of its page, freed; nonpaged and paged alike. */
TEST_UNTIDY(special_pool, access__outside_the_block__stops)
{
    static const struct {
        struct access access;
        uint32_t code;
    } cases[] = {
        {{NonPagedPoolNx, false, 0}, 0xCD}, {{NonPagedPoolNx, false, PAGE_SIZE - 1}, 0xCD}, {{NonPagedPoolNx, false, -PAGE_SIZE - 1}, 0xCD},
        {{PagedPool, false, 0}, 0xCD}, {{PagedPool, false, -PAGE_SIZE - 1}, 0xCD},
        {{NonPagedPoolNx, true, -1}, 0xCC}, {{NonPagedPoolNx, true, -PAGE_SIZE}, 0xCC}, {{NonPagedPoolNx, true, 0}, 0xCC},
        {{PagedPool, true, -1}, 0xCC},
    };

    for (SIZE_T i = 0; i < ARRAYSIZE(cases); i++) {
        struct access access = cases[i].access;
        const struct stop stop = run_until_stop(touch_beside, &access);

        EXPECT(stop.stopped);
        EXPECT_EQ(stop.code, cases[i].code);
        EXPECT_EQ(stop.p[1], 0);
    }
}

/* A function that keeps its name and its frame. */
#ifdef __clang__
#define APART __attribute__((noinline))
#else
#define APART __attribute__((noinline, noclone))
#endif

static volatile bool after;

APART static UCHAR *allocate_it(void)
{
    UCHAR *const block = ExAllocatePoolWithTag(NonPagedPoolNx, 77, 'kcoB');

    after = true;                       /* the call above is no tail call */
    return block;
}

APART static void free_it(PVOID block)
{
    ExFreePoolWithTag(block, 'kcoB');
    after = true;
}

static void touch_what_is_freed(void *context)
{
    UCHAR *const block = allocate_it();

    UNREFERENCED_PARAMETER(context);
    free_it(block);
    touch_load(block);
}

static bool names(const char *text, const char *title, const char *function)
{
    char frame[128];
    const char *part = strstr(text, title);

    snprintf(frame, sizeof(frame), "#0 %s (", function);
    return part != NULL && strstr(part, frame) != NULL;
}

/* The report tells whose block it was: size, tag, where it was allocated and freed, and who touches it now. */
TEST_UNTIDY(special_pool, report__of_a_late_access__tells_the_life_of_the_block)
{
    const struct stop stop = run_until_stop(touch_what_is_freed, NULL);

    EXPECT_EQ(stop.code, PAGE_FAULT_IN_FREED_SPECIAL_POOL);
    EXPECT(names(stop.stderr_text, "done at", "touch_load"));
    EXPECT(strstr(stop.stderr_text, ", 77 bytes, tag 'Bock':\n") != NULL);
    EXPECT(names(stop.stderr_text, "allocated at", "allocate_it"));
    EXPECT(names(stop.stderr_text, "freed at", "free_it"));
}

static void free_twice(void *context)
{
    UCHAR *const block = allocate_it();

    UNREFERENCED_PARAMETER(context);
    free_it(block);
    free_it(block);
}

/* Of a block that is freed twice, too. */
TEST_UNTIDY(special_pool, report__of_a_second_free__tells_of_the_first)
{
    const struct stop stop = run_until_stop(free_twice, NULL);

    EXPECT_EQ(stop.code, BAD_POOL_CALLER);
    EXPECT_EQ(stop.p[0], 0x07);
    EXPECT(names(stop.stderr_text, "allocated at", "allocate_it"));
    EXPECT(names(stop.stderr_text, "freed at", "free_it"));
}
