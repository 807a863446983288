/* SPDX-License-Identifier: MIT */
/*
 * Contiguous memory: pages whose physical addresses follow each other, in the range and within the boundary that a
 * device asks for.
 *
 *     0        16 MiB                 4 GiB                      physical addresses
 *     |--ISA----|-------- 32 bits ------|-------- 64 bits -------
 */

#include "harness.h"

#include <string.h>

#include <ntddk.h>
#include <pinion/pinion.h>

#include "support.h"

static const LONGLONG MIB = 1024 * 1024;
static const LONGLONG GIB = 1024 * 1024 * 1024;

static PHYSICAL_ADDRESS physical(LONGLONG address)
{
    return (PHYSICAL_ADDRESS){.QuadPart = address};
}

static PHYSICAL_ADDRESS anywhere(void)
{
    return physical(MAXLONGLONG);
}

static PUCHAR allocate(SIZE_T bytes, LONGLONG lowest, LONGLONG highest, LONGLONG boundary)
{
    return MmAllocateContiguousMemorySpecifyCache(bytes, physical(lowest), physical(highest),
                                                  physical(boundary), MmCached);
}

/* The block starts at a page, its physical addresses follow each other and lie in [lowest, highest], and it
   holds what is written. */
static void expect_contiguous(PUCHAR block, SIZE_T bytes, LONGLONG lowest, LONGLONG highest)
{
    EXPECT(block != NULL);
    const LONGLONG first = MmGetPhysicalAddress(block).QuadPart;
    EXPECT_EQ(BYTE_OFFSET(block), 0);
    EXPECT_EQ(first % PAGE_SIZE, 0);
    EXPECT(first >= lowest && first + (LONGLONG)bytes - 1 <= highest);
    for (SIZE_T at = 0; at < bytes; at += PAGE_SIZE)
        EXPECT_EQ(MmGetPhysicalAddress(block + at).QuadPart, first + (LONGLONG)at);
    EXPECT_EQ(MmGetPhysicalAddress(block + bytes - 1).QuadPart, first + (LONGLONG)bytes - 1);
    fill_pattern(block, bytes, 4);
    EXPECT_PATTERN(block, bytes, 4);
}

static const SIZE_T sizes[] = {
    1, PAGE_SIZE - 1, PAGE_SIZE, PAGE_SIZE + 1, 3 * PAGE_SIZE, 64 * PAGE_SIZE, 1024 * 1024 + 1};

/* ---- Allocation ---------------------------------------------------------------------------------------- */

/* MmAllocateContiguousMemory-01: the routine has its documented type, and gives contiguous pages below the
   address. */
SILENT_TEST(contiguous, allocate__below_an_address__is_contiguous_and_below)
{
    PVOID (*const allocate_below)(SIZE_T, PHYSICAL_ADDRESS) = MmAllocateContiguousMemory;
    const LONGLONG limits[] = {16 * MIB - 1, 4 * GIB - 1, MAXLONGLONG};

    for (SIZE_T l = 0; l < ARRAYSIZE(limits); l++) {
        for (SIZE_T i = 0; i < ARRAYSIZE(sizes); i++) {
            const PUCHAR block = allocate_below(sizes[i], physical(limits[l]));

            expect_contiguous(block, sizes[i], 0, limits[l]);
            MmFreeContiguousMemory(block);
        }
    }
}

/* MmAllocateContiguousMemorySpecifyCache-01 MmAllocateContiguousMemorySpecifyCache-03
   MmAllocateContiguousMemorySpecifyCache-04: the routine has its documented type; the block starts at a
   page and is contiguous for a device as for the processor. */
SILENT_TEST(contiguous, allocate_specify_cache__each_size_and_type__is_contiguous)
{
    PVOID(*const allocate_in)
    (SIZE_T, PHYSICAL_ADDRESS, PHYSICAL_ADDRESS, PHYSICAL_ADDRESS, MEMORY_CACHING_TYPE) =
        MmAllocateContiguousMemorySpecifyCache;

    for (int type = MmNonCached; type <= MmWriteCombined; type++) {
        for (SIZE_T i = 0; i < ARRAYSIZE(sizes); i++) {
            const PUCHAR block =
                allocate_in(sizes[i], physical(0), anywhere(), physical(0), (MEMORY_CACHING_TYPE)type);

            expect_contiguous(block, sizes[i], 0, MAXLONGLONG);
            MmFreeContiguousMemory(block);
        }
    }
}

/* MmAllocateContiguousMemorySpecifyCache-03: so it is under either layout of frames. */
TEST(contiguous, allocate__either_layout__is_contiguous)
{
    static const char *const layouts[] = {"layout=scattered", "layout=linear"};

    for (SIZE_T i = 0; i < ARRAYSIZE(layouts); i++) {
        boot(layouts[i]);
        const PUCHAR block = MmAllocateContiguousMemory(33 * PAGE_SIZE, anywhere());
        expect_contiguous(block, 33 * PAGE_SIZE, 0, MAXLONGLONG);
        MmFreeContiguousMemory(block);
        EXPECT_EQ(pinion_shutdown(), 0);
    }
}

/* MmAllocateContiguousMemorySpecifyCache-03: the block is nonpaged: a trim leaves it, and it can be used at
   DISPATCH_LEVEL. */
SILENT_TEST(contiguous, trim__contiguous_memory__stays)
{
    const PUCHAR block = MmAllocateContiguousMemory(2 * PAGE_SIZE, anywhere());

    fill_pattern(block, 2 * PAGE_SIZE, 1);
    EXPECT_EQ(pinion_trim(), 0);
    const KIRQL before = raise_irql(DISPATCH_LEVEL);
    const SIZE_T mismatch = pattern_mismatch(block, 2 * PAGE_SIZE, 1);
    KeLowerIrql(before);
    EXPECT_EQ(mismatch, 2 * PAGE_SIZE);
    MmFreeContiguousMemory(block);
}

/* MmAllocateContiguousMemorySpecifyCache-05: all of the block lies between the lowest and the highest
   address. */
SILENT_TEST(contiguous, allocate_specify_cache__ranges__lies_between_the_addresses)
{
    const struct {
        LONGLONG lowest, highest;
    } rows[] = {
        {0, 16 * MIB - 1}, {8 * MIB, 16 * MIB - 1}, {16 * MIB, 4 * GIB - 1},
        {0, 4 * GIB - 1},  {4 * GIB, MAXLONGLONG},  {1, MAXLONGLONG},
    };

    for (SIZE_T i = 0; i < ARRAYSIZE(rows); i++) {
        const PUCHAR block = allocate(5 * PAGE_SIZE, rows[i].lowest, rows[i].highest, 0);

        expect_contiguous(block, 5 * PAGE_SIZE, rows[i].lowest, rows[i].highest);
        MmFreeContiguousMemory(block);
    }
}

/* MmAllocateContiguousMemorySpecifyCache-05 MmAllocateContiguousMemorySpecifyCache-02: a range that is
   exactly as large as a free block gives that block; one byte less gives NULL. */
SILENT_TEST(contiguous, allocate_specify_cache__range_exactly_fits__gives_the_block)
{
    const PUCHAR found = allocate(4 * PAGE_SIZE, 0, MAXLONGLONG, 0);
    const LONGLONG first = MmGetPhysicalAddress(found).QuadPart, last = first + 4 * PAGE_SIZE - 1;

    MmFreeContiguousMemory(found);
    const PUCHAR block = allocate(4 * PAGE_SIZE, first, last, 0);
    EXPECT(block != NULL);
    EXPECT_EQ(MmGetPhysicalAddress(block).QuadPart, first);
    MmFreeContiguousMemory(block);
    EXPECT(allocate(4 * PAGE_SIZE, first, last - 1, 0) == NULL);
    EXPECT(allocate(4 * PAGE_SIZE, first + 1, last, 0) == NULL);
}

/* MmAllocateContiguousMemorySpecifyCache-06: no block crosses a multiple of the boundary, also when the
   memory before it is taken in pieces that would make it cross. */
SILENT_TEST(contiguous, allocate_specify_cache__boundary__is_not_crossed)
{
    enum { BLOCKS = 40 };
    static const LONGLONG boundaries[] = {0x1000, 0x2000, 0x4000, 0x10000, 0x100000, 0x1000000};
    PUCHAR blocks[BLOCKS];

    for (SIZE_T b = 0; b < ARRAYSIZE(boundaries); b++) {
        const LONGLONG boundary = boundaries[b];

        for (SIZE_T i = 0; i < BLOCKS; i++) {
            const LONGLONG most = boundary < 8 * PAGE_SIZE ? boundary : 8 * PAGE_SIZE;
            const SIZE_T bytes = 1 + (SIZE_T)((LONGLONG)i * 3 * PAGE_SIZE % most);

            blocks[i] = allocate(bytes, 0, MAXLONGLONG, boundary);
            EXPECT(blocks[i] != NULL);
            const LONGLONG first = MmGetPhysicalAddress(blocks[i]).QuadPart;
            EXPECT_EQ(first / boundary, (first + (LONGLONG)bytes - 1) / boundary);
        }
        for (SIZE_T i = 0; i < BLOCKS; i++)
            MmFreeContiguousMemory(blocks[i]);
    }
}

/* MmAllocateContiguousMemorySpecifyCache-06: a block as large as the boundary starts at a multiple of it; a
   larger one cannot be. */
SILENT_TEST(contiguous, allocate_specify_cache__as_large_as_the_boundary__starts_at_a_multiple)
{
    const PUCHAR first = allocate(PAGE_SIZE, 0, MAXLONGLONG, 0);
    const PUCHAR block = allocate(0x10000, 0, MAXLONGLONG, 0x10000);

    EXPECT(block != NULL);
    EXPECT_EQ(MmGetPhysicalAddress(block).QuadPart % 0x10000, 0);
    EXPECT(allocate(0x10000 + 1, 0, MAXLONGLONG, 0x10000) == NULL);
    MmFreeContiguousMemory(block);
    MmFreeContiguousMemory(first);
}

/* MmAllocateContiguousMemorySpecifyCache-08 MmAllocateContiguousMemorySpecifyCache-07: blocks that live
   side by side do not overlap. */
SILENT_TEST(contiguous, allocate__many_blocks__do_not_overlap)
{
    enum { BLOCKS = 30 };
    PUCHAR blocks[BLOCKS];

    for (ULONG i = 0; i < BLOCKS; i++) {
        blocks[i] = MmAllocateContiguousMemory((1 + i % 5) * PAGE_SIZE, anywhere());
        fill_pattern(blocks[i], (1 + i % 5) * PAGE_SIZE, i);
    }
    for (ULONG i = 0; i < BLOCKS; i++) {
        EXPECT_PATTERN(blocks[i], (1 + i % 5) * PAGE_SIZE, i);
        MmFreeContiguousMemory(blocks[i]);
    }
}

/* ---- Refusal ------------------------------------------------------------------------------------------- */

/* MmAllocateContiguousMemorySpecifyCache-02 MmAllocateContiguousMemory-01: where no block can be, the
   result is NULL. */
SILENT_TEST(contiguous, allocate__impossible_ranges__is_null)
{
    const struct {
        SIZE_T bytes;
        LONGLONG lowest, highest;
    } rows[] = {
        {PAGE_SIZE, 0, 0},
        {PAGE_SIZE, 0, PAGE_SIZE - 2},
        {2 * PAGE_SIZE, 8 * MIB, 8 * MIB + PAGE_SIZE - 1},
        {PAGE_SIZE, 16 * MIB, 8 * MIB},
        {PAGE_SIZE, MAXLONGLONG - PAGE_SIZE, MAXLONGLONG},
        {32 * (SIZE_T)MIB, 0, 16 * MIB - 1},
        {(SIZE_T)1 << 44, 0, MAXLONGLONG},
        {~(SIZE_T)0, 0, MAXLONGLONG},
    };

    for (SIZE_T i = 0; i < ARRAYSIZE(rows); i++)
        EXPECT(allocate(rows[i].bytes, rows[i].lowest, rows[i].highest, 0) == NULL);
    EXPECT(MmAllocateContiguousMemory(PAGE_SIZE, physical(0)) == NULL);
    EXPECT(MmAllocateContiguousMemory((SIZE_T)1 << 44, anywhere()) == NULL);
}

/* MmAllocateContiguousMemorySpecifyCache-02 Driver_Verifier_low_resources_simulation-02: a call that is
   made to fail gives NULL, and the next one works. */
SILENT_TEST(contiguous, allocate__made_to_fail__is_null)
{
    pinion_fail("MmAllocateContiguousMemory", 1);
    EXPECT(MmAllocateContiguousMemory(PAGE_SIZE, anywhere()) == NULL);
    MmFreeContiguousMemory(MmAllocateContiguousMemory(PAGE_SIZE, anywhere()));
    pinion_fail("MmAllocateContiguousMemorySpecifyCache", 1);
    EXPECT(allocate(PAGE_SIZE, 0, MAXLONGLONG, 0) == NULL);
    const PUCHAR block = allocate(PAGE_SIZE, 0, MAXLONGLONG, 0);
    expect_contiguous(block, PAGE_SIZE, 0, MAXLONGLONG);
    MmFreeContiguousMemory(block);
}

/* MmAllocateContiguousMemorySpecifyCache-02: the memory below 16 MiB can be used up; then it is NULL, other
   memory is still there, and what is freed can be had again. */
SILENT_TEST(contiguous, allocate__until_a_zone_is_gone__recovers)
{
    enum { CHUNK = 256 * 1024, MOST = 64 };
    PUCHAR chunks[MOST];
    SIZE_T first = 0;

    for (ULONG round = 0; round < 3; round++) {
        SIZE_T count = 0;

        while (count < MOST &&
               (chunks[count] = MmAllocateContiguousMemory(CHUNK, physical(16 * MIB - 1))) != NULL)
            count++;
        EXPECT(count > 0 && count < MOST);
        first = first ? first : count;
        EXPECT_EQ(count, first);
        const PUCHAR elsewhere = MmAllocateContiguousMemory(CHUNK, anywhere());
        expect_contiguous(elsewhere, CHUNK, 0, MAXLONGLONG);
        MmFreeContiguousMemory(elsewhere);
        while (count > 0)
            MmFreeContiguousMemory(chunks[--count]);
    }
}

/* ---- Use ----------------------------------------------------------------------------------------------- */

/* MmAllocateContiguousMemorySpecifyCache-03: an MDL built for the block holds frames that follow each
   other, and a lock works too. */
SILENT_TEST(contiguous, mdl__over_the_block__has_consecutive_frames)
{
    const PUCHAR block = MmAllocateContiguousMemory(4 * PAGE_SIZE, anywhere());
    const PMDL built = mdl_over(block, 4 * PAGE_SIZE), locked = mdl_over(block, 4 * PAGE_SIZE);

    MmBuildMdlForNonPagedPool(built);
    MmProbeAndLockPages(locked, KernelMode, IoWriteAccess);
    for (ULONG i = 0; i < 4; i++)
        EXPECT_EQ(MmGetMdlPfnArray(built)[i], MmGetMdlPfnArray(built)[0] + i);
    EXPECT_MEM_EQ(MmGetMdlPfnArray(locked), MmGetMdlPfnArray(built), 4 * sizeof(PFN_NUMBER));
    unlock_and_free(locked);
    IoFreeMdl(built);
    MmFreeContiguousMemory(block);
}

/* ---- Freeing ------------------------------------------------------------------------------------------- */

/* MmAllocateContiguousMemorySpecifyCache-08 MmFreeContiguousMemory-01
   MmFreeContiguousMemorySpecifyCache-01: each routine that frees takes the blocks of each that allocates,
   and what is freed can be had again. */
SILENT_TEST(contiguous, free__either_routine__gives_the_memory_back)
{
    const LONGLONG limit = 16 * MIB - 1;
    const SIZE_T bytes = 4 * 1024 * 1024;

    for (ULONG round = 0; round < 20; round++) {
        const PVOID block =
            round % 2 ? MmAllocateContiguousMemory(bytes, physical(limit)) : allocate(bytes, 0, limit, 0);

        EXPECT(block != NULL);
        if (round % 4 < 2)
            MmFreeContiguousMemory(block);
        else
            MmFreeContiguousMemorySpecifyCache(block, bytes, MmCached);
    }
}

/* MmAllocateContiguousMemorySpecifyCache-09 MmFreeContiguousMemory-02 MmAllocateContiguousMemory-01: both
   work at DISPATCH_LEVEL. */
SILENT_TEST(contiguous, allocate_and_free__at_dispatch_level__work)
{
    const KIRQL before = raise_irql(DISPATCH_LEVEL);
    const PVOID one = MmAllocateContiguousMemory(2 * PAGE_SIZE, anywhere()),
                two = allocate(PAGE_SIZE, 0, MAXLONGLONG, 0);

    MmFreeContiguousMemory(one);
    MmFreeContiguousMemory(two);
    KeLowerIrql(before);
    EXPECT(one != NULL && two != NULL);
}

/* ---- Mistakes ------------------------------------------------------------------------------------------ */

static void allocate_above_dispatch(void *context HARNESS_UNUSED)
{
    const KIRQL before = raise_irql(DISPATCH_LEVEL + 1);
    const PVOID block = MmAllocateContiguousMemory(PAGE_SIZE, anywhere());

    KeLowerIrql(before);
    MmFreeContiguousMemory(block);
}

static void allocate_specify_cache_above_dispatch(void *context HARNESS_UNUSED)
{
    const KIRQL before = raise_irql(DISPATCH_LEVEL + 1);
    const PVOID block = allocate(PAGE_SIZE, 0, MAXLONGLONG, 0);

    KeLowerIrql(before);
    MmFreeContiguousMemory(block);
}

static void free_above_dispatch(void *context HARNESS_UNUSED)
{
    const PVOID block = MmAllocateContiguousMemory(PAGE_SIZE, anywhere());
    const KIRQL before = raise_irql(DISPATCH_LEVEL + 1);

    MmFreeContiguousMemory(block);
    KeLowerIrql(before);
}

static void free_at_dispatch_on_2003(void *context HARNESS_UNUSED)
{
    boot("windows=2003");
    const PVOID block = MmAllocateContiguousMemory(PAGE_SIZE, anywhere());
    const KIRQL before = raise_irql(DISPATCH_LEVEL);
    MmFreeContiguousMemory(block);
    KeLowerIrql(before);
}

static void expect_reported(void (*body)(void *))
{
    const struct stop stop = run_until_stop(body, NULL);

    EXPECT(stop.stopped || stop_warnings(&stop, NULL) == 1);
}

/* MmAllocateContiguousMemorySpecifyCache-09 MmAllocateContiguousMemory-01: an allocation above
   DISPATCH_LEVEL is reported. */
TEST_UNTIDY(contiguous, allocate__above_dispatch_level__is_reported)
{
    expect_reported(allocate_above_dispatch);
    expect_reported(allocate_specify_cache_above_dispatch);
}

/* MmFreeContiguousMemory-02: a free above DISPATCH_LEVEL is reported. */
TEST_UNTIDY(contiguous, free__above_dispatch_level__is_reported)
{
    expect_reported(free_above_dispatch);
}

/* MmFreeContiguousMemory-02: before Windows Server 2008 a free at DISPATCH_LEVEL is reported. */
TEST_UNTIDY(contiguous, free__at_dispatch_level_on_2003__is_reported)
{
    expect_reported(free_at_dispatch_on_2003);
}

static void free_twice(void *va)
{
    const PUCHAR block = MmAllocateContiguousMemory(2 * PAGE_SIZE, anywhere());

    *(uint64_t *)va = (uint64_t)(uintptr_t)block;
    MmFreeContiguousMemory(block);
    MmFreeContiguousMemory(block);
}

static void free_inside(void *va)
{
    const PUCHAR block = MmAllocateContiguousMemory(2 * PAGE_SIZE, anywhere());

    *(uint64_t *)va = (uint64_t)(uintptr_t)(block + PAGE_SIZE);
    MmFreeContiguousMemory(block + PAGE_SIZE);
}

static void free_pool(void *va)
{
    const PUCHAR block = pool_pages(1);

    *(uint64_t *)va = (uint64_t)(uintptr_t)block;
    MmFreeContiguousMemory(block);
}

static void free_user(void *va)
{
    UCHAR *const user = user_pages(1, PAGE_READWRITE);

    *(uint64_t *)va = (uint64_t)(uintptr_t)user;
    MmFreeContiguousMemory(user);
}

static void free_with_other_size(void *va)
{
    const PUCHAR block = MmAllocateContiguousMemory(2 * PAGE_SIZE, anywhere());

    *(uint64_t *)va = (uint64_t)(uintptr_t)block;
    MmFreeContiguousMemorySpecifyCache(block, PAGE_SIZE, MmCached);
}

static void free_with_other_type(void *va)
{
    const PUCHAR block = allocate(2 * PAGE_SIZE, 0, MAXLONGLONG, 0);

    *(uint64_t *)va = (uint64_t)(uintptr_t)block;
    MmFreeContiguousMemorySpecifyCache(block, 2 * PAGE_SIZE, MmWriteCombined);
}

/* MmFreeContiguousMemory-01: an address that no allocation returned, or that is free already, stops with
   0xC2/0x60 and the address. */
TEST_UNTIDY(contiguous, free__what_was_not_allocated__stops)
{
    void (*const bodies[])(void *) = {free_twice, free_inside, free_pool, free_user};
    uint64_t *const va = shared_words();

    for (SIZE_T i = 0; i < ARRAYSIZE(bodies); i++) {
        const struct stop stop = expect_stop(bodies[i], va, BAD_POOL_CALLER, 0x60);

        EXPECT_EQ(stop.p[1], *va);
    }
}

/* MmFreeContiguousMemorySpecifyCache-01: another size than the allocation's is reported. */
TEST_UNTIDY(contiguous, free_specify_cache__other_size__is_reported)
{
    const struct stop stop = run_until_stop(free_with_other_size, shared_words());

    EXPECT(stop.stopped || stop_warnings(&stop, NULL) == 1);
}

/* MmFreeContiguousMemorySpecifyCache-01: another cache type than the allocation's is reported. */
TEST_UNTIDY(contiguous, free_specify_cache__other_cache_type__is_reported)
{
    const struct stop stop = run_until_stop(free_with_other_type, shared_words());

    EXPECT(stop.stopped || stop_warnings(&stop, NULL) == 1);
}

static void leak(void *context HARNESS_UNUSED)
{
    EXPECT(MmAllocateContiguousMemory(PAGE_SIZE, anywhere()) != NULL);
}

/* MmAllocateContiguousMemorySpecifyCache-08: a block that is never freed is reported when the machine
   ends. */
TEST_UNTIDY(contiguous, shutdown__block_never_freed__is_reported)
{
    expect_reported(leak);
}

static void free_locked(void *context)
{
    uint64_t *const words = context;

    boot(words[0] ? "verifier=on" : "verifier=off");
    const PUCHAR block = MmAllocateContiguousMemory(2 * PAGE_SIZE, anywhere());
    const PMDL mdl = mdl_over(block, 2 * PAGE_SIZE);
    MmProbeAndLockPages(mdl, KernelMode, IoWriteAccess);
    words[1] = MmGetMdlPfnArray(mdl)[0];
    MmFreeContiguousMemory(block);
}

/* Bug_checks-04: a block whose pages are still locked for I/O is not freed: it stops with 0x4E/0x9A, the
   frame and its count, with the verifier or without. */
TEST_UNTIDY(contiguous, free__pages_still_locked__stops)
{
    uint64_t *const words = shared_words();

    for (words[0] = 0; words[0] < 2; words[0]++) {
        const struct stop stop = expect_stop(free_locked, words, PFN_LIST_CORRUPT, 0x9A);

        EXPECT_EQ(stop.p[1], words[1]);
        EXPECT_EQ(stop.p[3], 1);
    }
}

static void free_locked_and_take_all(void *context HARNESS_UNUSED)
{
    const PUCHAR block = MmAllocateContiguousMemory(PAGE_SIZE, physical(16 * MIB - 1));
    const PMDL mdl = mdl_over(block, PAGE_SIZE);
    const LONGLONG locked = MmGetPhysicalAddress(block).QuadPart;
    PUCHAR other;

    MmProbeAndLockPages(mdl, KernelMode, IoWriteAccess);
    MmFreeContiguousMemory(block);
    while ((other = MmAllocateContiguousMemory(PAGE_SIZE, physical(16 * MIB - 1))) != NULL)
        EXPECT_NE(MmGetPhysicalAddress(other).QuadPart, locked);
}

/* MmProbeAndLockPages-02: were a locked page given away, a device would write into another's memory: the
   free stops the machine, or no later allocation gets the frame while the lock is held. */
TEST_UNTIDY(contiguous, free__pages_still_locked__frames_are_given_to_nobody)
{
    const struct stop stop = run_until_stop(free_locked_and_take_all, NULL);

    EXPECT(stop.stopped ? stop.code == PFN_LIST_CORRUPT : stop.exit_status == 0);
}
