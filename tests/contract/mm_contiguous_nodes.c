/* SPDX-License-Identifier: MIT */
/*
 * Contiguous memory with a protection, a node, a status: MmAllocateContiguousNodeMemory,
 * MmAllocateContiguousMemoryEx, MmAllocateContiguousMemorySpecifyCacheNode,
 * MmFreeContiguousMemorySpecifyCache; and MmAllocateNonCachedMemory.
 */

#include "harness.h"

#include <wdm.h>
#include <pinion/pinion.h>

#include "pages.h"

static PVOID node_memory(SIZE_T bytes, LONGLONG low, LONGLONG high, LONGLONG boundary, ULONG protect,
                         ULONG node)
{
    return MmAllocateContiguousNodeMemory(bytes, phys(low), phys(high), phys(boundary), protect, node);
}

static NTSTATUS ex_memory(SIZE_T *bytes, LONGLONG low, LONGLONG high, LONGLONG boundary, ULONG flags,
                          PVOID *va)
{
    return MmAllocateContiguousMemoryEx(bytes, phys(low), phys(high), phys(boundary), MM_ANY_NODE_OK,
                                        PAGE_READWRITE, NULL, TEST_TAG, flags, va);
}

/* The block is page aligned, contiguous, in the range, across no boundary, and can be used. */
static void expect_sound(UCHAR *va, SIZE_T bytes, LONGLONG low, LONGLONG high, LONGLONG boundary)
{
    const LONGLONG first = MmGetPhysicalAddress(va).QuadPart, last = first + (LONGLONG)bytes - 1;

    EXPECT(va != NULL);
    EXPECT_EQ(BYTE_OFFSET(va), 0);
    EXPECT(first >= low && last <= high);
    EXPECT(boundary == 0 || first / boundary == last / boundary);
    for (SIZE_T at = 0; at < bytes; at += PAGE_SIZE)
        EXPECT_EQ(MmGetPhysicalAddress(va + at).QuadPart, first + (LONGLONG)at);
    EXPECT_EQ(pinion_trim(), 0);
    fill_pattern(va, bytes, 3);
    EXPECT_PATTERN(va, bytes, 3);
}

/* ---- MmAllocateContiguousNodeMemory ------------------------------------------------------------------- */

/* MmAllocateContiguousNodeMemory-01: by its documented type, PAGE_READWRITE alone and with one of the
   cache bits gives sound memory. */
SILENT_TEST(mm_contiguous_node, call_through_its_type__read_write__gives_memory)
{
    PVOID(*const allocate)
    (SIZE_T, PHYSICAL_ADDRESS, PHYSICAL_ADDRESS, PHYSICAL_ADDRESS, ULONG, NODE_REQUIREMENT) =
        MmAllocateContiguousNodeMemory;
    static const ULONG protections[] = {PAGE_READWRITE, PAGE_READWRITE | PAGE_NOCACHE,
                                        PAGE_READWRITE | PAGE_WRITECOMBINE};
    static const SIZE_T sizes[] = {1, PAGE_SIZE, 3 * PAGE_SIZE - 1, 65 * PAGE_SIZE};

    for (SIZE_T i = 0; i < ARRAYSIZE(protections) * ARRAYSIZE(sizes); i++) {
        const SIZE_T bytes = sizes[i / 3];
        UCHAR *const va = allocate(bytes, phys(0), phys(EVERYWHERE), phys(0), protections[i % 3],
                                   (NODE_REQUIREMENT)MM_ANY_NODE_OK);

        expect_sound(va, bytes, 0, EVERYWHERE, 0);
        MmFreeContiguousMemory(va);
    }
}

/* MmAllocateContiguousNodeMemory-01: the cache bits are kept: an MDL over the memory is cached where
   neither is set. */
SILENT_TEST(mm_contiguous_node, allocate__cache_bits__are_kept)
{
    static const ULONG bits[] = {0, PAGE_NOCACHE, PAGE_WRITECOMBINE};

    for (SIZE_T i = 0; i < ARRAYSIZE(bits); i++) {
        UCHAR *const va = node_memory(PAGE_SIZE, 0, EVERYWHERE, 0, PAGE_READWRITE | bits[i], MM_ANY_NODE_OK);
        const PMDL mdl = mdl_over(va, PAGE_SIZE);

        MmBuildMdlForNonPagedPool(mdl);
        EXPECT_EQ(!!MmAreMdlPagesCached(mdl), bits[i] == 0);
        IoFreeMdl(mdl);
        MmFreeContiguousMemory(va);
    }
}

/* MmAllocateContiguousNodeMemory-01: memory of a preferred node comes from that node, and from no other:
   NULL where the range is not its. */
SILENT_TEST(mm_contiguous_node, allocate__preferred_node__is_where_it_comes_from)
{
    UCHAR *const low = node_memory(4 * PAGE_SIZE, 0, EVERYWHERE, 0, PAGE_READWRITE, 0);
    UCHAR *const high = node_memory(4 * PAGE_SIZE, 0, EVERYWHERE, 0, PAGE_READWRITE, 1);

    expect_sound(low, 4 * PAGE_SIZE, 0, NODE_1_AT - 1, 0);
    expect_sound(high, 4 * PAGE_SIZE, NODE_1_AT, EVERYWHERE, 0);
    EXPECT(node_memory(PAGE_SIZE, 0, NODE_1_AT - 1, 0, PAGE_READWRITE, 1) == NULL);
    EXPECT(node_memory(PAGE_SIZE, NODE_1_AT, EVERYWHERE, 0, PAGE_READWRITE, 0) == NULL);
    EXPECT(node_memory(PAGE_SIZE, 0, EVERYWHERE, 0, PAGE_READWRITE, 2) == NULL);
    MmFreeContiguousMemory(low);
    MmFreeContiguousMemory(high);
}

/* MmAllocateContiguousNodeMemory-01: range and boundary are honoured. */
SILENT_TEST(mm_contiguous_node, allocate__range_and_boundary__are_honoured)
{
    UCHAR *kept[40];

    for (SIZE_T i = 0; i < ARRAYSIZE(kept); i++) {
        kept[i] = node_memory(3 * PAGE_SIZE, LINEAR_AT, LINEAR_END - 1, 4 * PAGE_SIZE, PAGE_READWRITE,
                              MM_ANY_NODE_OK);
        expect_sound(kept[i], 3 * PAGE_SIZE, LINEAR_AT, LINEAR_END - 1, 4 * PAGE_SIZE);
    }
    for (SIZE_T i = 0; i < ARRAYSIZE(kept); i++)
        MmFreeContiguousMemory(kept[i]);
    EXPECT(node_memory(5 * PAGE_SIZE, 0, EVERYWHERE, 4 * PAGE_SIZE, PAGE_READWRITE, MM_ANY_NODE_OK) == NULL);
    EXPECT(node_memory(2 * PAGE_SIZE, LINEAR_AT, LINEAR_AT + 2 * PAGE_SIZE - 2, 0, PAGE_READWRITE,
                       MM_ANY_NODE_OK) == NULL);
}

/* MmAllocateContiguousNodeMemory-01: other protections, two at once and both cache bits are refused with
   NULL. */
SILENT_TEST(mm_contiguous_node, allocate__wrong_protection__is_null)
{
    static const ULONG protections[] = {0,
                                        PAGE_NOCACHE,
                                        PAGE_READONLY,
                                        PAGE_NOACCESS,
                                        PAGE_EXECUTE,
                                        PAGE_EXECUTE_READ,
                                        PAGE_READWRITE | PAGE_EXECUTE_READWRITE,
                                        PAGE_READWRITE | PAGE_NOCACHE | PAGE_WRITECOMBINE,
                                        PAGE_READWRITE | PAGE_GUARD};

    for (SIZE_T i = 0; i < ARRAYSIZE(protections); i++)
        EXPECT(node_memory(PAGE_SIZE, 0, EVERYWHERE, 0, protections[i], MM_ANY_NODE_OK) == NULL);
}

static void call_memory(void *protect)
{
    boot("verifier=off");
    UCHAR *const va = node_memory(PAGE_SIZE, 0, EVERYWHERE, 0, *(ULONG *)protect, MM_ANY_NODE_OK);

    *va = 0xC3; /* x86: return */
    ((void (*)(void))(uintptr_t)va)();
    MmFreeContiguousMemory(va);
}

/* MmAllocateContiguousNodeMemory-01: PAGE_EXECUTE_READWRITE memory can be called, PAGE_READWRITE memory
   cannot. */
TEST_UNTIDY(mm_contiguous_node, allocate__executable__can_be_called)
{
    ULONG protect = PAGE_EXECUTE_READWRITE;

    EXPECT_EQ(run_until_stop(call_memory, &protect).exit_status, 0);
    protect = PAGE_READWRITE;
    EXPECT(run_until_stop(call_memory, &protect).stopped);
}

/* MmAllocateContiguousNodeMemory-01: made to fail, it is NULL once. */
SILENT_TEST(mm_contiguous_node, allocate__made_to_fail__is_null)
{
    pinion_fail("MmAllocateContiguousNodeMemory", 1);
    EXPECT(node_memory(PAGE_SIZE, 0, EVERYWHERE, 0, PAGE_READWRITE, MM_ANY_NODE_OK) == NULL);
    MmFreeContiguousMemory(node_memory(PAGE_SIZE, 0, EVERYWHERE, 0, PAGE_READWRITE, MM_ANY_NODE_OK));
}

/* MmAllocateContiguousMemorySpecifyCacheNode prefers the node, and takes MM_ANY_NODE_OK. */
SILENT_TEST(mm_contiguous_node, specify_cache_node__each_node__comes_from_it)
{
    UCHAR *const low = MmAllocateContiguousMemorySpecifyCacheNode(PAGE_SIZE, phys(0), phys(EVERYWHERE),
                                                                  phys(0), MmCached, 0);
    UCHAR *const high = MmAllocateContiguousMemorySpecifyCacheNode(PAGE_SIZE, phys(0), phys(EVERYWHERE),
                                                                   phys(0), MmNonCached, 1);
    UCHAR *const any = MmAllocateContiguousMemorySpecifyCacheNode(PAGE_SIZE, phys(0), phys(EVERYWHERE),
                                                                  phys(0), MmCached, MM_ANY_NODE_OK);

    expect_sound(low, PAGE_SIZE, 0, NODE_1_AT - 1, 0);
    expect_sound(high, PAGE_SIZE, NODE_1_AT, EVERYWHERE, 0);
    expect_sound(any, PAGE_SIZE, 0, EVERYWHERE, 0);
    MmFreeContiguousMemory(low);
    MmFreeContiguousMemorySpecifyCache(high, PAGE_SIZE, MmNonCached);
    MmFreeContiguousMemory(any);
}

/* The highest acceptable address is written as all ones by drivers that do not care. */
SILENT_TEST(mm_contiguous_node, allocate__highest_address_all_ones__is_everywhere)
{
    UCHAR *const mapped_at[] = {
        node_memory(PAGE_SIZE, 0, -1, 0, PAGE_READWRITE, MM_ANY_NODE_OK),
        MmAllocateContiguousMemory(PAGE_SIZE, phys(-1)),
        MmAllocateContiguousMemorySpecifyCache(PAGE_SIZE, phys(0), phys(-1), phys(0), MmCached)};

    for (SIZE_T i = 0; i < ARRAYSIZE(mapped_at); i++) {
        EXPECT(mapped_at[i] != NULL);
        MmFreeContiguousMemory(mapped_at[i]);
    }
}

/* ---- MmAllocateContiguousMemoryEx --------------------------------------------------------------------- */

/* MmAllocateContiguousMemoryEx-01: by its documented type it gives a status, the address, and in
   *NumberOfBytes what was allocated. */
SILENT_TEST(mm_contiguous_ex, call_through_its_type__sizes_around_page_edges__gives_memory)
{
    NTSTATUS(*const allocate)
    (PSIZE_T, PHYSICAL_ADDRESS, PHYSICAL_ADDRESS, PHYSICAL_ADDRESS, NODE_REQUIREMENT, ULONG, PVOID, ULONG,
     ULONG, PVOID *) = MmAllocateContiguousMemoryEx;
    static const SIZE_T sizes[] = {1, PAGE_SIZE - 1, PAGE_SIZE, PAGE_SIZE + 1, 20 * PAGE_SIZE};

    for (SIZE_T i = 0; i < ARRAYSIZE(sizes); i++) {
        SIZE_T bytes = sizes[i];
        PVOID va = NULL;

        EXPECT_STATUS(allocate(&bytes, phys(0), phys(EVERYWHERE), phys(0), MM_ANY_NODE_OK, PAGE_READWRITE,
                               NULL, TEST_TAG, 0, &va),
                      STATUS_SUCCESS);
        EXPECT(bytes >= sizes[i] && bytes <= ROUND_TO_PAGES(sizes[i]));
        expect_sound(va, bytes, 0, EVERYWHERE, 0);
        MmFreeContiguousMemory(va);
    }
}

/* MmAllocateContiguousMemoryEx-01: MM_ALLOCATE_CONTIGUOUS_MEMORY_FAST_ONLY gives memory that is there at
   once. */
SILENT_TEST(mm_contiguous_ex, allocate__fast_only__gives_memory_that_is_there)
{
    SIZE_T bytes = 3 * PAGE_SIZE;
    PVOID va;

    EXPECT_STATUS(ex_memory(&bytes, LINEAR_AT, LINEAR_END - 1, 8 * PAGE_SIZE,
                            MM_ALLOCATE_CONTIGUOUS_MEMORY_FAST_ONLY, &va),
                  STATUS_SUCCESS);
    expect_sound(va, 3 * PAGE_SIZE, LINEAR_AT, LINEAR_END - 1, 8 * PAGE_SIZE);
    MmFreeContiguousMemory(va);
}

/* MmAllocateContiguousMemoryEx-01: what cannot be had is an error, with nothing changed: neither the bytes
   nor the address. */
SILENT_TEST(mm_contiguous_ex, allocate__impossible__is_an_error_and_changes_nothing)
{
    static const LONGLONG cases[][4] = {
        {PAGE_SIZE, 0, 0xFFFFF, 0},
        {2 * PAGE_SIZE, 0x100000, 0x100000 + PAGE_SIZE - 1, 0},
        {PAGE_SIZE, 0xC0000LL << 12, 0xFFFFFFFF, 0},
        {3 * PAGE_SIZE, 0, MAXLONGLONG, 2 * PAGE_SIZE},
        {PAGE_SIZE, 0x300000, 0x200000, 0},
        {1LL << 40, 0, MAXLONGLONG, 0},
        {-1, 0, MAXLONGLONG, 0},
    };
    static const ULONG flags[] = {0, MM_ALLOCATE_CONTIGUOUS_MEMORY_FAST_ONLY};

    for (SIZE_T i = 0; i < 2 * ARRAYSIZE(cases); i++) {
        const LONGLONG *const c = cases[i / 2];
        SIZE_T bytes = (SIZE_T)c[0];
        PVOID va = &bytes;

        EXPECT(NT_ERROR(ex_memory(&bytes, c[1], c[2], c[3], flags[i % 2], &va)));
        EXPECT_EQ(bytes, (SIZE_T)c[0]);
        EXPECT(va == &bytes || va == NULL);
    }
}

/* MmAllocateContiguousMemoryEx-01: node and protection are as for MmAllocateContiguousNodeMemory. */
SILENT_TEST(mm_contiguous_ex, allocate__node_and_protection__are_honoured)
{
    SIZE_T bytes = PAGE_SIZE;
    PVOID low, high;

    EXPECT_STATUS(MmAllocateContiguousMemoryEx(&bytes, phys(0), phys(EVERYWHERE), phys(0), 0,
                                               PAGE_READWRITE | PAGE_NOCACHE, NULL, TEST_TAG, 0, &low),
                  STATUS_SUCCESS);
    EXPECT_STATUS(MmAllocateContiguousMemoryEx(&bytes, phys(0), phys(EVERYWHERE), phys(0), 1, PAGE_READWRITE,
                                               NULL, TEST_TAG, 0, &high),
                  STATUS_SUCCESS);
    expect_sound(low, PAGE_SIZE, 0, NODE_1_AT - 1, 0);
    expect_sound(high, PAGE_SIZE, NODE_1_AT, EVERYWHERE, 0);
    MmFreeContiguousMemory(low);
    MmFreeContiguousMemory(high);
    EXPECT(NT_ERROR(MmAllocateContiguousMemoryEx(&bytes, phys(0), phys(EVERYWHERE), phys(0), MM_ANY_NODE_OK,
                                                 PAGE_READONLY, NULL, TEST_TAG, 0, &low)));
}

/* MmAllocateContiguousMemoryEx-01: made to fail, it is an error once. */
SILENT_TEST(mm_contiguous_ex, allocate__made_to_fail__is_an_error)
{
    SIZE_T bytes = PAGE_SIZE;
    PVOID va;

    pinion_fail("MmAllocateContiguousMemoryEx", 1);
    EXPECT(NT_ERROR(ex_memory(&bytes, 0, EVERYWHERE, 0, 0, &va)));
    EXPECT_STATUS(ex_memory(&bytes, 0, EVERYWHERE, 0, 0, &va), STATUS_SUCCESS);
    MmFreeContiguousMemory(va);
}

/* MmAllocateContiguousMemoryEx-01 MmAllocateContiguousNodeMemory-01: all contiguous memory of a range can
   be had, and is there again when it was given back. */
SILENT_TEST(mm_contiguous_ex, allocate__until_there_is_none__recovers)
{
    enum { BLOCK = 1 << 20, MOST = 16 };
    PVOID mapped_at[MOST];
    SIZE_T first = 0;

    for (ULONG round = 0; round < 3; round++) {
        SIZE_T bytes = BLOCK, count = 0;

        while (count < MOST && NT_SUCCESS(ex_memory(&bytes, LINEAR_AT, LINEAR_END - 1, 0, 0, &mapped_at[count])))
            count++;
        first = first ? first : count;
        EXPECT(count >= 14 && count < MOST);
        EXPECT_EQ(count, first);
        while (count > 0)
            MmFreeContiguousMemory(mapped_at[--count]);
    }
}

/* ---- MmFreeContiguousMemorySpecifyCache --------------------------------------------------------------- */

static PVOID cached_pages(SIZE_T pages)
{
    return MmAllocateContiguousMemorySpecifyCache(pages * PAGE_SIZE, phys(0), phys(EVERYWHERE), phys(0),
                                                  MmCached);
}

/* MmFreeContiguousMemorySpecifyCache-01: by its documented type, with address, size and cache type of the
   allocation it frees. */
SILENT_TEST(mm_free_contiguous_cache, call_through_its_type__what_was_allocated__is_freed)
{
    VOID (*const free)(PVOID, SIZE_T, MEMORY_CACHING_TYPE) = MmFreeContiguousMemorySpecifyCache;
    static const MEMORY_CACHING_TYPE types[] = {MmCached, MmNonCached, MmWriteCombined};

    for (SIZE_T i = 0; i < ARRAYSIZE(types); i++) {
        for (ULONG round = 0; round < 100; round++) {
            PVOID const va = MmAllocateContiguousMemorySpecifyCache((SIZE_T)MIB, phys(LINEAR_AT),
                                                                    phys(LINEAR_END - 1), phys(0), types[i]);

            EXPECT(va != NULL);
            free(va, (SIZE_T)MIB, types[i]);
        }
    }
}

struct wrong_free {
    SIZE_T at, bytes;
    MEMORY_CACHING_TYPE type;
};

/* Free three cached pages as the table says. */
static void free_wrong(void *context)
{
    const struct wrong_free *const wrong = context;

    MmFreeContiguousMemorySpecifyCache((UCHAR *)cached_pages(3) + wrong->at, wrong->bytes, wrong->type);
}

static void expect_reports(struct wrong_free *table, SIZE_T count)
{
    for (SIZE_T i = 0; i < count; i++)
        expect_report(free_wrong, &table[i]);
}

/* MmFreeContiguousMemorySpecifyCache-01: an address that is not the one of the allocation is reported. */
TEST_UNTIDY(mm_free_contiguous_cache, free__another_address__is_reported)
{
    struct wrong_free table[] = {{PAGE_SIZE, 2 * PAGE_SIZE, MmCached}, {8, 3 * PAGE_SIZE, MmCached}};

    expect_reports(table, ARRAYSIZE(table));
}

/* MmFreeContiguousMemorySpecifyCache-01: so is a size that is not. */
TEST_UNTIDY(mm_free_contiguous_cache, free__another_size__is_reported)
{
    struct wrong_free table[] = {{0, 2 * PAGE_SIZE, MmCached}, {0, 4 * PAGE_SIZE, MmCached}};

    expect_reports(table, ARRAYSIZE(table));
}

/* MmFreeContiguousMemorySpecifyCache-01: so is a cache type that is not. */
TEST_UNTIDY(mm_free_contiguous_cache, free__another_cache_type__is_reported)
{
    struct wrong_free table[] = {{0, 3 * PAGE_SIZE, MmNonCached}, {0, 3 * PAGE_SIZE, MmWriteCombined}};

    expect_reports(table, ARRAYSIZE(table));
}

static void free_pool(void *context HARNESS_UNUSED)
{
    MmFreeContiguousMemorySpecifyCache(pool_pages(3), 3 * PAGE_SIZE, MmCached);
}

static void free_twice(void *context HARNESS_UNUSED)
{
    PVOID const va = cached_pages(3);

    MmFreeContiguousMemory(va);
    MmFreeContiguousMemorySpecifyCache(va, 3 * PAGE_SIZE, MmCached);
}

/* MmFreeContiguousMemorySpecifyCache-01 MmFreeContiguousMemory-01: memory of another allocator, and of
   none any more, is reported. */
TEST_UNTIDY(mm_free_contiguous_cache, free__no_contiguous_memory__is_reported)
{
    expect_report(free_pool, NULL);
    expect_report(free_twice, NULL);
}

/* ---- MmAllocateNonCachedMemory ------------------------------------------------------------------------ */

/* MmAllocateNonCachedMemory gives page-aligned memory that is nonpaged, and not cached;
   MmFreeNonCachedMemory frees it. */
SILENT_TEST(mm_noncached, allocate__sizes_around_page_edges__gives_nonpaged_memory)
{
    static const SIZE_T sizes[] = {1, PAGE_SIZE, PAGE_SIZE + 1, 50 * PAGE_SIZE};

    for (SIZE_T i = 0; i < ARRAYSIZE(sizes); i++) {
        UCHAR *const va = MmAllocateNonCachedMemory(sizes[i]);
        const PMDL mdl = mdl_over(va, sizes[i]);

        EXPECT(va != NULL);
        EXPECT_EQ(BYTE_OFFSET(va), 0);
        EXPECT(MmIsNonPagedSystemAddressValid(va));
        fill_pattern(va, sizes[i], 1);
        EXPECT_EQ(pinion_trim(), 0);
        EXPECT_PATTERN(va, sizes[i], 1);
        MmBuildMdlForNonPagedPool(mdl);
        EXPECT(!MmAreMdlPagesCached(mdl));
        IoFreeMdl(mdl);
        MmFreeNonCachedMemory(va, sizes[i]);
    }
}

/* MmAllocateNonCachedMemory is NULL where there is not enough, made to fail or for real. */
SILENT_TEST(mm_noncached, allocate__not_enough__is_null)
{
    pinion_fail("MmAllocateNonCachedMemory", 1);
    EXPECT(MmAllocateNonCachedMemory(PAGE_SIZE) == NULL);
    EXPECT(MmAllocateNonCachedMemory((SIZE_T)1 << 40) == NULL);
    EXPECT(MmAllocateNonCachedMemory(~(SIZE_T)0) == NULL);
    EXPECT(MmAllocateNonCachedMemory(0) == NULL);
    MmFreeNonCachedMemory(MmAllocateNonCachedMemory(PAGE_SIZE), PAGE_SIZE);
}
