/* SPDX-License-Identifier: MIT */
/*
 * MDLs that bring pages of their own: what the flags of MmAllocatePagesForMdlEx ask for, cache types, and the
 * nodes of MmAllocateNodePagesForMdlEx.
 */

#include "harness.h"

#include <wdm.h>
#include <pinion/pinion.h>

#include "pages.h"

/* ---- Flags -------------------------------------------------------------------------------------------- */

/* MmAllocatePagesForMdlEx-07: with MM_ALLOCATE_FULLY_REQUIRED it is all pages or NULL, and after NULL none
   is missing. */
SILENT_TEST(mm_allocate_pages_flags, allocate__fully_required__all_or_nothing)
{
    const LONGLONG high = SCATTERED_AT + SCARCE - 1;
    const struct pinion_counters before = counters_now();

    EXPECT(pages_in_ex(SCATTERED_AT, high, 0, SCARCE + 1, MM_ALLOCATE_FULLY_REQUIRED) == NULL);
    EXPECT_SAME_COUNTERS(before);
    const PMDL mdl = pages_in_ex(SCATTERED_AT, high, 0, SCARCE, MM_ALLOCATE_FULLY_REQUIRED);
    EXPECT_EQ(MmGetMdlByteCount(mdl), SCARCE);
    EXPECT(pages_in_ex(SCATTERED_AT, high, 0, 1, MM_ALLOCATE_FULLY_REQUIRED) == NULL);
    free_pages(mdl);
}

/* MmAllocatePagesForMdlEx-08 MmAllocatePagesForMdlEx-20: MM_ALLOCATE_NO_WAIT gives pages at each IRQL that
   is allowed. */
SILENT_TEST(mm_allocate_pages_flags, allocate__no_wait__gives_pages_at_each_irql)
{
    static const KIRQL irqls[] = {PASSIVE_LEVEL, APC_LEVEL, DISPATCH_LEVEL};

    for (SIZE_T i = 0; i < ARRAYSIZE(irqls); i++) {
        const KIRQL before = raise_irql(irqls[i]);
        const PMDL mdl = pages_in_ex(0, EVERYWHERE, 0, 3 * PAGE_SIZE, MM_ALLOCATE_NO_WAIT);

        EXPECT(mdl != NULL);
        EXPECT_EQ(KeGetCurrentIrql(), irqls[i]);
        free_pages(mdl);
        KeLowerIrql(before);
    }
}

/* MmAllocatePagesForMdlEx-09: MM_ALLOCATE_PREFER_CONTIGUOUS is a wish: pages come as without it, short if
   need be. */
SILENT_TEST(mm_allocate_pages_flags, allocate__prefer_contiguous__gives_pages_as_without)
{
    const LONGLONG high = SCATTERED_AT + SCARCE - 1;
    const PMDL some = pages_in_ex(0, EVERYWHERE, 0, 100 * PAGE_SIZE, MM_ALLOCATE_PREFER_CONTIGUOUS);
    const PMDL few = pages_in_ex(SCATTERED_AT, high, 0, 2 * SCARCE, MM_ALLOCATE_PREFER_CONTIGUOUS);

    EXPECT_EQ(MmGetMdlByteCount(some), 100 * PAGE_SIZE);
    EXPECT(frames_differ(some));
    EXPECT_EQ(MmGetMdlByteCount(few), SCARCE);
    EXPECT_EQ(frames_in(few, SCATTERED_AT, high), SCARCE / PAGE_SIZE);
    EXPECT(is_zero(system_address(few), SCARCE));
    free_pages(some);
    free_pages(few);
}

/* MmAllocatePagesForMdlEx-10 MmAllocatePagesForMdlEx-13: contiguous chunks with SkipBytes 0 are one block
   in the range, at whatever page it starts. */
SILENT_TEST(mm_allocate_pages_flags, allocate__contiguous__is_one_block_in_the_range)
{
    static const SIZE_T counts[] = {1, 2, 3, 7, 16, 100, 513};
    const LONGLONG low = LINEAR_AT + 3 * PAGE_SIZE, high = LINEAR_END - 5 * PAGE_SIZE - 1;

    for (SIZE_T i = 0; i < ARRAYSIZE(counts); i++) {
        const PMDL mdl =
            pages_in_ex(low, high, 0, counts[i] * PAGE_SIZE, MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS);

        EXPECT(mdl != NULL);
        EXPECT_EQ(mdl_pages(mdl), counts[i]);
        EXPECT(frames_follow(MmGetMdlPfnArray(mdl), counts[i]));
        EXPECT_EQ(frames_in(mdl, low, high), counts[i]);
        EXPECT(is_zero(system_address(mdl), counts[i] * PAGE_SIZE));
        free_pages(mdl);
    }
}

/* MmAllocatePagesForMdlEx-10 MmAllocatePagesForMdlEx-13: the block may fill the range to its last page,
   and in a range that is a page too short it is NULL: there is no part of a block. */
SILENT_TEST(mm_allocate_pages_flags, allocate__contiguous_in_a_tight_range__all_or_nothing)
{
    const LONGLONG low = LINEAR_AT + 9 * PAGE_SIZE, high = low + 5 * PAGE_SIZE - 1;
    const struct pinion_counters before = counters_now();

    EXPECT(pages_in_ex(low, high, 0, 6 * PAGE_SIZE, MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS) == NULL);
    EXPECT_SAME_COUNTERS(before);
    const PMDL mdl = pages_in_ex(low, high, 0, 5 * PAGE_SIZE, MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS);
    EXPECT(mdl != NULL);
    EXPECT_EQ(MmGetMdlPfnArray(mdl)[0], (PFN_NUMBER)low >> PAGE_SHIFT);
    EXPECT(frames_follow(MmGetMdlPfnArray(mdl), 5));
    EXPECT(pages_in_ex(low, high, 0, PAGE_SIZE, MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS) == NULL);
    free_pages(mdl);
}

/* MmAllocatePagesForMdlEx-10: a block that is broken by one page in use is not given. */
SILENT_TEST(mm_allocate_pages_flags, allocate__contiguous_around_a_page_in_use__is_null)
{
    const LONGLONG low = LINEAR_AT, high = low + 9 * PAGE_SIZE - 1, middle = low + 4 * PAGE_SIZE;
    const PMDL taken = pages_in(middle, middle + PAGE_SIZE - 1, 0, PAGE_SIZE);

    EXPECT(taken != NULL);
    EXPECT(pages_in_ex(low, high, 0, 5 * PAGE_SIZE, MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS) == NULL);
    const PMDL mdl = pages_in_ex(low, high, 0, 4 * PAGE_SIZE, MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS);
    EXPECT(mdl != NULL);
    EXPECT(frames_follow(MmGetMdlPfnArray(mdl), 4));
    free_pages(mdl);
    free_pages(taken);
}

/* MmAllocatePagesForMdlEx-12: with SkipBytes, each chunk is contiguous, SkipBytes long and aligned to
   SkipBytes. */
SILENT_TEST(mm_allocate_pages_flags, allocate__chunks__are_contiguous_and_aligned)
{
    static const SIZE_T chunks[] = {PAGE_SIZE, 2 * PAGE_SIZE, 16 * PAGE_SIZE, 512 * PAGE_SIZE};

    for (SIZE_T i = 0; i < ARRAYSIZE(chunks); i++) {
        const SIZE_T pages = chunks[i] / PAGE_SIZE;
        const PMDL mdl = pages_in_ex(LINEAR_AT, LINEAR_END - 1, (LONGLONG)chunks[i], 4 * chunks[i],
                                     MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS);

        EXPECT(mdl != NULL);
        EXPECT_EQ(MmGetMdlByteCount(mdl), 4 * chunks[i]);
        for (SIZE_T block = 0; block < 4; block++) {
            const PFN_NUMBER *const pfns = MmGetMdlPfnArray(mdl) + block * pages;

            EXPECT_EQ(pfns[0] % pages, 0);
            EXPECT(frames_follow(pfns, pages));
        }
        EXPECT_EQ(frames_in(mdl, LINEAR_AT, LINEAR_END - 1), 4 * pages);
        free_pages(mdl);
    }
}

/* MmAllocatePagesForMdlEx-12: where there is not enough for all chunks, only whole ones are given. */
SILENT_TEST(mm_allocate_pages_flags, allocate__chunks_in_a_scarce_range__only_whole_ones)
{
    const LONGLONG chunk = 16 * PAGE_SIZE, low = LINEAR_AT + PAGE_SIZE,
                   high = LINEAR_AT + 4 * chunk - PAGE_SIZE - 1;
    const PMDL mdl =
        pages_in_ex(low, high, chunk, (SIZE_T)(8 * chunk), MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS);

    EXPECT(mdl != NULL);
    EXPECT_EQ(MmGetMdlByteCount(mdl) % chunk, 0);
    for (SIZE_T page = 0; page < mdl_pages(mdl); page += 16) {
        EXPECT_EQ(MmGetMdlPfnArray(mdl)[page] % 16, 0);
        EXPECT(frames_follow(MmGetMdlPfnArray(mdl) + page, 16));
    }
    EXPECT_EQ(frames_in(mdl, low, high), mdl_pages(mdl));
    EXPECT_EQ(mdl_pages(mdl), 32);
    free_pages(mdl);
    EXPECT(pages_in_ex(low, high, chunk, (SIZE_T)(8 * chunk),
                       MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS | MM_ALLOCATE_FULLY_REQUIRED) == NULL);
}

/* A call that its page does not allow: NULL or a stop. */
struct refused {
    LONGLONG skip;
    SIZE_T bytes;
    ULONG flags;
    KIRQL irql;
    BOOLEAN is_null;
};

static void call_refused(void *context)
{
    struct refused *const call = context;

    raise_irql(call->irql);
    call->is_null = pages_in_ex(LINEAR_AT, LINEAR_END - 1, call->skip, call->bytes, call->flags) == NULL;
}

static void expect_refused(const struct refused *calls, SIZE_T count)
{
    struct refused *const call = (struct refused *)shared_words();

    for (SIZE_T i = 0; i < count; i++) {
        *call = calls[i];
        const struct stop stop = run_until_stop(call_refused, call);

        if (!stop.stopped && !call->is_null)
            harness_fail(HARNESS_HERE, "call %zu of the table was not refused", (size_t)i);
        EXPECT(stop.stopped || call->is_null);
    }
}

/* MmAllocatePagesForMdlEx-11: SkipBytes of chunks is a power of two of at least a page, and TotalBytes a
   multiple of it. */
TEST_UNTIDY(mm_allocate_pages_flags, allocate__chunks_of_odd_sizes__are_refused)
{
    enum { CHUNKS = MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS };
    static const struct refused calls[] = {
        {3 * PAGE_SIZE, 6 * PAGE_SIZE, CHUNKS, 0, 0},     {PAGE_SIZE + 1, 2 * PAGE_SIZE + 2, CHUNKS, 0, 0},
        {PAGE_SIZE / 2, 2 * PAGE_SIZE, CHUNKS, 0, 0},     {1, PAGE_SIZE, CHUNKS, 0, 0},
        {4 * PAGE_SIZE, 6 * PAGE_SIZE, CHUNKS, 0, 0},     {4 * PAGE_SIZE, PAGE_SIZE, CHUNKS, 0, 0},
        {2 * PAGE_SIZE, 4 * PAGE_SIZE - 1, CHUNKS, 0, 0},
    };

    expect_refused(calls, ARRAYSIZE(calls));
}

/* MmAllocatePagesForMdlEx-14: MM_ALLOCATE_FAST_LARGE_PAGES asks for contiguous chunks of large pages, or
   is refused. */
TEST_UNTIDY(mm_allocate_pages_flags, allocate__fast_large_pages_without_large_chunks__is_refused)
{
    enum {
        FAST = MM_ALLOCATE_FAST_LARGE_PAGES,
        CHUNKS = MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS,
        LARGE = 2 << 20
    };
    static const struct refused calls[] = {
        {LARGE, LARGE, FAST, 0, 0},
        {0, LARGE, FAST, 0, 0},
        {PAGE_SIZE, LARGE, FAST | CHUNKS, 0, 0},
        {LARGE / 2, LARGE, FAST | CHUNKS, 0, 0},
    };

    expect_refused(calls, ARRAYSIZE(calls));
}

/* MmAllocatePagesForMdlEx-14: what it gives is large pages: 2 MiB of contiguous frames, aligned to that;
   or nothing. */
SILENT_TEST(mm_allocate_pages_flags, allocate__fast_large_pages__are_large_or_none)
{
    const SIZE_T large = 2 << 20;
    const PMDL mdl = pages_in_ex(0, EVERYWHERE, (LONGLONG)large, 2 * large,
                                 MM_ALLOCATE_FAST_LARGE_PAGES | MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS);

    EXPECT(mdl == NULL || MmGetMdlByteCount(mdl) % large == 0);
    for (SIZE_T page = 0; mdl != NULL && page < mdl_pages(mdl); page += 512) {
        EXPECT_EQ(MmGetMdlPfnArray(mdl)[page] % 512, 0);
        EXPECT(frames_follow(MmGetMdlPfnArray(mdl) + page, 512));
    }
    if (mdl != NULL)
        free_pages(mdl);
}

/* MmAllocatePagesForMdlEx-15: MM_ALLOCATE_AND_HOT_REMOVE goes neither with MM_ALLOCATE_FULLY_REQUIRED nor
   above PASSIVE_LEVEL. */
TEST_UNTIDY(mm_allocate_pages_flags, allocate__hot_remove_in_the_wrong_place__is_refused)
{
    enum { REMOVE = MM_ALLOCATE_AND_HOT_REMOVE };
    static const struct refused calls[] = {
        {0, PAGE_SIZE, REMOVE | MM_ALLOCATE_FULLY_REQUIRED, PASSIVE_LEVEL, 0},
        {0, PAGE_SIZE, REMOVE, APC_LEVEL, 0},
        {0, PAGE_SIZE, REMOVE, DISPATCH_LEVEL, 0},
    };

    expect_refused(calls, ARRAYSIZE(calls));
}

/* MmAllocatePagesForMdlEx-15: at PASSIVE_LEVEL it takes pages out of the machine's RAM: nobody else gets
   them. */
SILENT_TEST(mm_allocate_pages_flags, allocate__hot_remove__takes_the_pages_away)
{
    const LONGLONG high = SCATTERED_AT + SCARCE - 1;
    const PMDL mdl = pages_in_ex(SCATTERED_AT, high, 0, SCARCE, MM_ALLOCATE_AND_HOT_REMOVE);

    EXPECT(mdl != NULL);
    EXPECT_EQ(MmGetMdlByteCount(mdl), SCARCE);
    EXPECT(pages_in(SCATTERED_AT, high, 0, PAGE_SIZE) == NULL);
    free_pages(mdl);
}

/* MmAllocatePagesForMdlEx-03: the cache type is kept per page: pages that may not be cached say so. */
SILENT_TEST(mm_allocate_pages_flags, allocate__each_cache_type__is_that_of_the_pages)
{
    static const MEMORY_CACHING_TYPE types[] = {MmNonCached, MmCached, MmWriteCombined};

    for (SIZE_T i = 0; i < ARRAYSIZE(types); i++) {
        const PMDL mdl =
            MmAllocatePagesForMdlEx(phys(0), phys(EVERYWHERE), phys(0), 3 * PAGE_SIZE, types[i], 0);

        EXPECT(mdl != NULL);
        EXPECT_EQ(!!MmAreMdlPagesCached(mdl), types[i] == MmCached);
        UCHAR *const system = MmMapLockedPagesSpecifyCache(mdl, KernelMode, types[i], NULL, FALSE, NORMAL_NX);
        fill_pattern(system, 3 * PAGE_SIZE, 6);
        EXPECT_PATTERN(system, 3 * PAGE_SIZE, 6);
        free_pages(mdl);
    }
}

/* ---- Nodes -------------------------------------------------------------------------------------------- */

static PMDL node_pages(LONGLONG low, LONGLONG high, SIZE_T bytes, ULONG node, ULONG flags)
{
    return MmAllocateNodePagesForMdlEx(phys(low), phys(high), phys(0), bytes, MmCached, node, flags);
}

/* MmAllocateNodePagesForMdlEx-02: pages come from the ideal node where it has them. */
SILENT_TEST(mm_allocate_pages_flags, allocate__ideal_node__gives_the_pages)
{
    static const ULONG flags[] = {0, MM_ALLOCATE_FROM_LOCAL_NODE_ONLY};

    for (SIZE_T i = 0; i < ARRAYSIZE(flags); i++) {
        const PMDL low = node_pages(0, EVERYWHERE, 50 * PAGE_SIZE, 0, flags[i]);
        const PMDL high = node_pages(0, EVERYWHERE, 50 * PAGE_SIZE, 1, flags[i]);

        EXPECT_EQ(frames_in(low, 0, NODE_1_AT - 1), 50);
        EXPECT_EQ(frames_in(high, NODE_1_AT, MAXLONGLONG), 50);
        free_pages(low);
        free_pages(high);
    }
}

/* MmAllocateNodePagesForMdlEx-02 MmAllocateNodePagesForMdlEx-03: where the ideal node has none, pages come
   from another one, unless MM_ALLOCATE_FROM_LOCAL_NODE_ONLY is set: then there are none. */
SILENT_TEST(mm_allocate_pages_flags, allocate__ideal_node_has_none__another_gives_unless_local_only)
{
    const LONGLONG high = SCATTERED_AT + SCARCE - 1;
    const PMDL other = node_pages(SCATTERED_AT, high, SCARCE, 1, 0);

    EXPECT(other != NULL);
    EXPECT_EQ(frames_in(other, SCATTERED_AT, high), SCARCE / PAGE_SIZE);
    free_pages(other);
    EXPECT(node_pages(SCATTERED_AT, high, SCARCE, 1, MM_ALLOCATE_FROM_LOCAL_NODE_ONLY) == NULL);
    EXPECT(node_pages(NODE_1_AT, NODE_1_AT + MIB, SCARCE, 0, MM_ALLOCATE_FROM_LOCAL_NODE_ONLY) == NULL);
}

/* MmAllocateNodePagesForMdlEx-02: a range over the border of the nodes gives what each has, the ideal one
   first. */
SILENT_TEST(mm_allocate_pages_flags, allocate__ideal_node_has_too_few__another_gives_the_rest)
{
    const LONGLONG low = DEVICE_AT, high = NODE_1_AT + SCARCE - 1;
    const PMDL local = node_pages(low, high, 2 * SCARCE, 1, MM_ALLOCATE_FROM_LOCAL_NODE_ONLY);

    EXPECT_EQ(MmGetMdlByteCount(local), SCARCE);
    free_pages(local);
    const PMDL mdl = node_pages(0x9FFFFLL << PAGE_SHIFT, high, 2 * SCARCE, 1, 0);
    EXPECT_EQ(MmGetMdlByteCount(mdl), SCARCE + PAGE_SIZE);
    EXPECT_EQ(frames_in(mdl, NODE_1_AT, high), SCARCE / PAGE_SIZE);
    free_pages(mdl);
}

/* MmAllocatePagesForMdlEx-06: MM_ALLOCATE_FROM_LOCAL_NODE_ONLY takes all pages from the ideal node of the
   thread, and none from a range that lies in another one. */
SILENT_TEST(mm_allocate_pages_flags, allocate__local_node_only__takes_from_one_node)
{
    boot("layout=scattered");
    enum { LOCAL = MM_ALLOCATE_FROM_LOCAL_NODE_ONLY };
    const PMDL mdl = pages_in_ex(0, EVERYWHERE, 0, 200 * PAGE_SIZE, LOCAL);
    const PMDL low = pages_in_ex(SCATTERED_AT, SCATTERED_AT + SCARCE - 1, 0, SCARCE, LOCAL);
    const PMDL high = pages_in_ex(NODE_1_AT, NODE_1_AT + SCARCE - 1, 0, SCARCE, LOCAL);

    EXPECT(mdl != NULL);
    EXPECT((low == NULL) != (high == NULL));
    EXPECT_EQ(frames_in(mdl, 0, NODE_1_AT - 1), low ? 200 : 0);
    free_pages(mdl);
    free_pages(low ? low : high);
}
