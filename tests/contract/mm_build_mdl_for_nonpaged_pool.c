/* SPDX-License-Identifier: MIT */
/*
 * MmBuildMdlForNonPagedPool: page numbers for memory that cannot move, what may be done with such an MDL and what may
 * not, and which memory it refuses.
 */

#include "harness.h"
#include <wdm.h>

#include "pages.h"

#include <string.h>

enum { SEED = 55, PAGES = 5 };

/* A new MDL over the range, built. */
static PMDL built_mdl(PVOID va, SIZE_T bytes)
{
    const PMDL mdl = mdl_over(va, bytes);

    MmBuildMdlForNonPagedPool(mdl);
    return mdl;
}

/* Each page number is that of the page that backs the address. */
static void expect_frames(PMDL mdl)
{
    for (SIZE_T i = 0; i < mdl_pages(mdl); i++)
        EXPECT_EQ(MmGetMdlPfnArray(mdl)[i], frame_of((UCHAR *)MmGetMdlBaseVa(mdl) + i * PAGE_SIZE));
}

struct range {
    ULONG at;
    ULONG bytes;
};

/* clang-format off */
static const struct range ranges[] = {
    {0, 1},             {0, PAGE_SIZE},         {0, PAGE_SIZE + 1},             {1, PAGE_SIZE - 1},     {1, PAGE_SIZE},
    {PAGE_SIZE - 1, 1}, {PAGE_SIZE - 1, 2},     {PAGE_SIZE - 1, PAGE_SIZE + 2}, {PAGE_SIZE, PAGE_SIZE}, {100, 8},
    {0, PAGES * PAGE_SIZE},                     {PAGES * PAGE_SIZE - 1, 1},     {700, 3 * PAGE_SIZE + 900},
};
/* clang-format on */

/* ---- What it does ---------------------------------------------------------------------------------------------- */

/* MmBuildMdlForNonPagedPool-01, MmBuildMdlForNonPagedPool-06, MmBuildMdlForNonPagedPool-20,
   MmBuildMdlForNonPagedPool-21, MmBuildMdlForNonPagedPool-23, MmBuildMdlForNonPagedPool-24: the routine has the type of
   its page, returns nothing, and is declared by <wdm.h> with its kin. */
TEST(mm_build_mdl_for_nonpaged_pool, routine__by_its_documented_type__builds)
{
    VOID (*const build)(PMDLX) = &MmBuildMdlForNonPagedPool;
    PVOID (*const allocate)(POOL_TYPE, SIZE_T, ULONG) = &ExAllocatePoolWithTag;
    PVOID (*const allocate_contiguous)(SIZE_T, PHYSICAL_ADDRESS, PHYSICAL_ADDRESS, PHYSICAL_ADDRESS,
                                       MEMORY_CACHING_TYPE) = &MmAllocateContiguousMemorySpecifyCache;
    PVOID (*const map)(PMDL, KPROCESSOR_MODE, MEMORY_CACHING_TYPE, PVOID, ULONG, ULONG) = &MmMapLockedPagesSpecifyCache;
    VOID (*const lock)(PMDL, KPROCESSOR_MODE, LOCK_OPERATION) = &MmProbeAndLockPages;
    VOID (*const unlock)(PMDL) = &MmUnlockPages;
    VOID (*const unmap)(PVOID, PMDL) = &MmUnmapLockedPages;
    PVOID (*const address)(PMDL, ULONG) = &MmGetSystemAddressForMdlSafe;
    UCHAR *const block = allocate(NonPagedPoolNx, PAGE_SIZE, TEST_TAG);
    const PMDL mdl = mdl_over(block, PAGE_SIZE);

    build(mdl);
    expect_frames(mdl);
    EXPECT(allocate_contiguous && map && lock && unlock && unmap && address);
    IoFreeMdl(mdl);
    ExFreePoolWithTag(block, TEST_TAG);
}

/* MmBuildMdlForNonPagedPool-02, MmBuildMdlForNonPagedPool-03, MmBuildMdlForNonPagedPool-04: for any range of a pool
   block, page number i is that of the page that backs StartVa + i pages. */
TEST(mm_build_mdl_for_nonpaged_pool, build__any_range_of_pool__holds_the_page_numbers)
{
    UCHAR *const block = pool_pages(PAGES);

    for (SIZE_T i = 0; i < ARRAYSIZE(ranges); i++) {
        const PMDL mdl = built_mdl(block + ranges[i].at, ranges[i].bytes);

        expect_frames(mdl);
        EXPECT(mdl->MdlFlags & MDL_SOURCE_IS_NONPAGED_POOL);
        EXPECT_EQ(mdl->MdlFlags & (MDL_PAGES_LOCKED | MDL_MAPPED_TO_SYSTEM_VA | MDL_PARTIAL), 0);
        IoFreeMdl(mdl);
    }
    ExFreePoolWithTag(block, TEST_TAG);
}

/* MmBuildMdlForNonPagedPool-03: blocks of all sizes, also many to a page, are buffers; page numbers follow the block. */
TEST(mm_build_mdl_for_nonpaged_pool, build__blocks_of_all_sizes__hold_their_page_numbers)
{
    for (SIZE_T bytes = 1; bytes < 3 * PAGE_SIZE; bytes = bytes * 2 + 13) {
        UCHAR *const block = ExAllocatePoolWithTag(NonPagedPoolNx, bytes, TEST_TAG);
        const PMDL mdl = built_mdl(block, bytes);

        expect_frames(mdl);
        EXPECT_PTR_EQ(system_address(mdl), block);
        IoFreeMdl(mdl);
        ExFreePoolWithTag(block, TEST_TAG);
    }
}

/* MmBuildMdlForNonPagedPool-05: the range itself, its length and the chain stay. */
TEST(mm_build_mdl_for_nonpaged_pool, build__range_and_chain__stay)
{
    UCHAR *const block = pool_pages(PAGES);

    for (SIZE_T i = 0; i < ARRAYSIZE(ranges); i++) {
        const PMDL mdl = mdl_over(block + ranges[i].at, ranges[i].bytes);
        const PMDL next = mdl_over(NULL, 1);

        mdl->Next = next;
        const MDL before = *mdl;
        MmBuildMdlForNonPagedPool(mdl);
        EXPECT_PTR_EQ(mdl->StartVa, before.StartVa);
        EXPECT_EQ(mdl->ByteOffset, before.ByteOffset);
        EXPECT_EQ(mdl->ByteCount, before.ByteCount);
        EXPECT_EQ(mdl->Size, before.Size);
        EXPECT_PTR_EQ(mdl->Next, next);
        IoFreeMdl(mdl);
        IoFreeMdl(next);
    }
    ExFreePoolWithTag(block, TEST_TAG);
}

/* MmBuildMdlForNonPagedPool-10: the pages are neither locked nor mapped by it, for they are both already: the counters
   and the host do not notice. */
SILENT_TEST(mm_build_mdl_for_nonpaged_pool, build__locks_and_mappings__are_not_touched)
{
    UCHAR *const block = pool_pages(PAGES);
    const PMDL mdl = mdl_over(block, PAGES * PAGE_SIZE);
    const struct pinion_counters before = counters_now();

    MmBuildMdlForNonPagedPool(mdl);
    EXPECT_PTR_EQ(system_address(mdl), block);
    EXPECT_SAME_COUNTERS(before);
    EXPECT_EQ(counters_now().host_calls, before.host_calls);
    EXPECT_EQ(pinion_trim(), 0);
    IoFreeMdl(mdl);
    ExFreePoolWithTag(block, TEST_TAG);
}

/* Building an MDL a second time, for the same range or after another was set up in it, is legal. */
SILENT_TEST(mm_build_mdl_for_nonpaged_pool, build__again_for_another_range__holds_the_new_page_numbers)
{
    UCHAR *const block = pool_pages(PAGES);
    const PMDL mdl = built_mdl(block, 2 * PAGE_SIZE);

    MmBuildMdlForNonPagedPool(mdl);
    expect_frames(mdl);
    MmInitializeMdl(mdl, block + 3 * PAGE_SIZE + 5, PAGE_SIZE);
    MmBuildMdlForNonPagedPool(mdl);
    expect_frames(mdl);
    EXPECT_PTR_EQ(system_address(mdl), block + 3 * PAGE_SIZE + 5);
    IoFreeMdl(mdl);
    ExFreePoolWithTag(block, TEST_TAG);
}

/* ---- Which memory ---------------------------------------------------------------------------------------------- */

/* MmBuildMdlForNonPagedPool-08: the pool type that the page names, NonPagedPool, is accepted; that it can be executed is
   a warning of the allocation's, and the only one. */
WARN_TEST(mm_build_mdl_for_nonpaged_pool, build__executable_nonpaged_pool__is_accepted, "executable-pool")
{
    UCHAR *const block = ExAllocatePoolWithTag(NonPagedPool, 2 * PAGE_SIZE, TEST_TAG);
    const PMDL mdl = built_mdl(block + 1, PAGE_SIZE);

    expect_frames(mdl);
    EXPECT_PTR_EQ(system_address(mdl), block + 1);
    IoFreeMdl(mdl);
    ExFreePoolWithTag(block, TEST_TAG);
}

/* MmBuildMdlForNonPagedPool-08: so is what the other allocators of nonpaged pool give. */
SILENT_TEST(mm_build_mdl_for_nonpaged_pool, build__pool_of_other_allocators__is_accepted)
{
    UCHAR *const flagged = ExAllocatePool2(POOL_FLAG_NON_PAGED, 2 * PAGE_SIZE, TEST_TAG);
    UCHAR *const aligned = ExAllocatePoolWithTag(NonPagedPoolNxCacheAligned, 2 * PAGE_SIZE, TEST_TAG);
    UCHAR *const zeroed = ExAllocatePoolZero(NonPagedPoolNx, 2 * PAGE_SIZE, TEST_TAG);
    UCHAR *const blocks[] = {flagged, aligned, zeroed};

    for (SIZE_T i = 0; i < ARRAYSIZE(blocks); i++) {
        const PMDL mdl = built_mdl(blocks[i], 2 * PAGE_SIZE);

        expect_frames(mdl);
        EXPECT_PTR_EQ(system_address(mdl), blocks[i]);
        IoFreeMdl(mdl);
        ExFreePoolWithTag(blocks[i], TEST_TAG);
    }
}

/* MmBuildMdlForNonPagedPool-09: contiguous memory is accepted, and its page numbers follow each other. */
SILENT_TEST(mm_build_mdl_for_nonpaged_pool, build__contiguous_memory__page_numbers_follow_each_other)
{
    UCHAR *const block =
        MmAllocateContiguousMemorySpecifyCache(PAGES * PAGE_SIZE, phys(0), phys(0xFFFFFFFF), phys(0), MmCached);
    EXPECT(block != NULL);
    const PMDL mdl = built_mdl(block + 10, PAGES * PAGE_SIZE - 10);

    expect_frames(mdl);
    for (SIZE_T i = 1; i < PAGES; i++)
        EXPECT_EQ(MmGetMdlPfnArray(mdl)[i], MmGetMdlPfnArray(mdl)[i - 1] + 1);
    EXPECT_PTR_EQ(system_address(mdl), block + 10);
    IoFreeMdl(mdl);
    MmFreeContiguousMemorySpecifyCache(block, PAGES * PAGE_SIZE, MmCached);
}

/* MmBuildMdlForNonPagedPool-25: memory that is locked down by other means is accepted as well: the system address of a
   buffer that is locked and mapped has the pages of that buffer. */
SILENT_TEST(mm_build_mdl_for_nonpaged_pool, build__mapped_address_of_a_locked_buffer__has_its_pages)
{
    UCHAR *const va = user_pattern(PAGES, SEED);
    const PMDL locked = locked_mdl(va, PAGES * PAGE_SIZE);
    UCHAR *const system = system_address(locked);
    const PMDL mdl = built_mdl(system + PAGE_SIZE + 7, 2 * PAGE_SIZE);

    EXPECT_MEM_EQ(MmGetMdlPfnArray(mdl), MmGetMdlPfnArray(locked) + 1, 3 * sizeof(PFN_NUMBER));
    EXPECT_PTR_EQ(system_address(mdl), system + PAGE_SIZE + 7);
    EXPECT_PATTERN_AT(system_address(mdl), 2 * PAGE_SIZE, SEED, PAGE_SIZE + 7);
    EXPECT_EQ(counters_now().locked_pages, PAGES);
    IoFreeMdl(mdl);
    unlock_and_free(locked);
    pinion_user_free(va);
}

static UCHAR in_the_image[3 * PAGE_SIZE];

/* MmBuildMdlForNonPagedPool-25: a static buffer of the driver's image is nonpaged memory, and is its own system
   address. */
SILENT_TEST(mm_build_mdl_for_nonpaged_pool, build__static_buffer_of_the_driver__is_accepted)
{
    const PMDL mdl = built_mdl(in_the_image + 5, 2 * PAGE_SIZE);

    fill_pattern(in_the_image, sizeof(in_the_image), SEED);
    expect_frames(mdl);
    EXPECT_PTR_EQ(system_address(mdl), in_the_image + 5);
    EXPECT_PATTERN_AT(system_address(mdl), 2 * PAGE_SIZE, SEED, 5);
    IoFreeMdl(mdl);
}

/* MmBuildMdlForNonPagedPool-27: an MDL of the driver's own, in nonpaged pool, set up by MmInitializeMdl, is built
   alike. */
SILENT_TEST(mm_build_mdl_for_nonpaged_pool, build__mdl_set_up_by_the_driver_in_pool__is_built_alike)
{
    UCHAR *const block = pool_pages(PAGES);

    for (SIZE_T i = 0; i < ARRAYSIZE(ranges); i++) {
        UCHAR *const va = block + ranges[i].at;
        const PMDL mine = ExAllocatePoolZero(NonPagedPoolNx, MmSizeOfMdl(va, ranges[i].bytes), TEST_TAG);
        const PMDL theirs = built_mdl(va, ranges[i].bytes);

        MmInitializeMdl(mine, va, ranges[i].bytes);
        MmBuildMdlForNonPagedPool(mine);
        expect_frames(mine);
        EXPECT_PTR_EQ(system_address(mine), va);
        EXPECT_MEM_EQ(MmGetMdlPfnArray(mine), MmGetMdlPfnArray(theirs), mdl_pages(mine) * sizeof(PFN_NUMBER));
        IoFreeMdl(theirs);
        ExFreePoolWithTag(mine, TEST_TAG);
    }
    ExFreePoolWithTag(block, TEST_TAG);
}

/* MmBuildMdlForNonPagedPool-27: it may also lie in a structure of the driver's, or on its stack: it is the buffer that
   must not be there. */
SILENT_TEST(mm_build_mdl_for_nonpaged_pool, build__mdl_on_the_stack_or_in_a_structure__is_legal)
{
    static struct {
        ULONG before;
        MDL mdl;
        PFN_NUMBER pages[2];
    } in_structure;
    struct {
        MDL mdl;
        PFN_NUMBER pages[2];
    } on_stack;
    UCHAR *const block = pool_pages(2);

    MmInitializeMdl(&in_structure.mdl, block, 2 * PAGE_SIZE);
    MmInitializeMdl(&on_stack.mdl, block + 1, PAGE_SIZE);
    MmBuildMdlForNonPagedPool(&in_structure.mdl);
    MmBuildMdlForNonPagedPool(&on_stack.mdl);
    expect_frames(&in_structure.mdl);
    expect_frames(&on_stack.mdl);
    EXPECT_PTR_EQ(system_address(&in_structure.mdl), block);
    EXPECT_PTR_EQ(system_address(&on_stack.mdl), block + 1);
    ExFreePoolWithTag(block, TEST_TAG);
}

struct refused {
    UCHAR *(*buffer)(void);
    uint64_t *words;
};

static UCHAR *paged_buffer(void)
{
    return ExAllocatePoolWithTag(PagedPool, 2 * PAGE_SIZE, TEST_TAG);
}

static UCHAR *user_buffer(void)
{
    return user_pattern(2, SEED);
}

static void build_refused(void *context)
{
    const struct refused *const refused = context;
    const PMDL mdl = mdl_over(refused->buffer(), PAGE_SIZE);

    refused->words[0] = (uintptr_t)mdl;
    refused->words[1] = mdl_flags(mdl);
    MmBuildMdlForNonPagedPool(mdl);
}

/* MmBuildMdlForNonPagedPool-07, MmBuildMdlForNonPagedPool-30: paged pool, and the memory of a process, can be paged out:
   they stop, with the IRQL, the MDL and its flags. */
TEST_UNTIDY(mm_build_mdl_for_nonpaged_pool, build__pageable_memory__stops)
{
    UCHAR *(*const buffers[])(void) = {paged_buffer, user_buffer};
    uint64_t *const words = shared_words();

    for (SIZE_T i = 0; i < ARRAYSIZE(buffers); i++) {
        struct refused refused = {buffers[i], words};
        const struct stop stop = expect_stop(build_refused, &refused, 0xC4, 0x7F);

        EXPECT_EQ(stop.p[1], PASSIVE_LEVEL);
        EXPECT_EQ(stop.p[2], words[0]);
        EXPECT_EQ(stop.p[3], words[1]);
    }
}

static void build_stack(void *context)
{
    uint64_t *const words = context;
    UCHAR on_stack[64];
    const PMDL mdl = mdl_over(on_stack, sizeof(on_stack));

    words[0] = (uintptr_t)mdl;
    words[1] = (uintptr_t)on_stack;
    raise_irql(APC_LEVEL);
    MmBuildMdlForNonPagedPool(mdl);
}

/* MmBuildMdlForNonPagedPool-26, MmBuildMdlForNonPagedPool-31: stack memory can be traded away, though it may not be
   paged out: it stops, with the IRQL, the MDL and the address. */
TEST_UNTIDY(mm_build_mdl_for_nonpaged_pool, build__stack__stops)
{
    uint64_t *const words = shared_words();
    const struct stop stop = expect_stop(build_stack, words, 0xC4, 0x140);

    EXPECT_EQ(stop.p[1], APC_LEVEL);
    EXPECT_EQ(stop.p[2], words[0]);
    EXPECT_EQ(stop.p[3], words[1]);
}

/* MmBuildMdlForNonPagedPool-26: for a buffer on the stack MmProbeAndLockPages is the way. */
SILENT_TEST(mm_build_mdl_for_nonpaged_pool, lock__stack__is_the_legal_way)
{
    UCHAR on_stack[64];
    const PMDL mdl = mdl_over(on_stack, sizeof(on_stack));

    fill_pattern(on_stack, sizeof(on_stack), SEED);
    EXPECT_STATUS(try_lock(mdl, KernelMode, IoWriteAccess), STATUS_SUCCESS);
    EXPECT_PATTERN(system_address(mdl), sizeof(on_stack), SEED);
    unlock_and_free(mdl);
}

static UCHAR *revoked_mapping(void)
{
    UCHAR *const va = user_pattern(2, SEED);
    const PMDL locked = locked_mdl(va, 2 * PAGE_SIZE);
    UCHAR *const system = system_address(locked);

    unlock_and_free(locked);
    return system;
}

/* MmBuildMdlForNonPagedPool-32: a range that is not all there, such as a mapping that was released, stops and names the
   MDL. */
TEST_UNTIDY(mm_build_mdl_for_nonpaged_pool, build__range_that_is_not_resident__stops)
{
    uint64_t *const words = shared_words();
    struct refused refused = {revoked_mapping, words};
    const struct stop stop = expect_stop(build_refused, &refused, 0x1A, 0x1240);

    EXPECT_EQ(stop.p[1], words[0]);
}

static UCHAR *trimmed_buffer(void)
{
    UCHAR *const va = user_pattern(2, SEED);

    EXPECT_EQ(pinion_trim(), 2);
    return va;
}

static void build_refused_without_the_verifier(void *context)
{
    boot("verifier=off");
    build_refused(context);
}

/* MmBuildMdlForNonPagedPool-32: without the verifier too, pages that were paged out stop it. */
TEST_UNTIDY(mm_build_mdl_for_nonpaged_pool, build__pages_that_were_paged_out_without_the_verifier__stops)
{
    uint64_t *const words = shared_words();
    struct refused refused = {trimmed_buffer, words};
    const struct stop stop = expect_stop(build_refused_without_the_verifier, &refused, 0x1A, 0x1240);

    EXPECT_EQ(stop.p[1], words[0]);
}

static void build_over_locked(HARNESS_UNUSED void *context)
{
    UCHAR *const block = pool_pages(1);
    const PMDL mdl = mdl_over(block, PAGE_SIZE);

    EXPECT_STATUS(try_lock(mdl, KernelMode, IoWriteAccess), STATUS_SUCCESS);
    MmBuildMdlForNonPagedPool(mdl);
}

/* An MDL that holds a lock loses its hold on it when it is built: that is reported there and then. */
TEST_UNTIDY(mm_build_mdl_for_nonpaged_pool, build__mdl_that_is_locked__is_reported)
{
    const struct stop stop = run_until_stop(build_over_locked, NULL);

    EXPECT_EQ(stop.exit_status, 0);
    EXPECT_EQ(stop_warnings(&stop, "build-over-locked-mdl"), 1);
}

/* ---- What may be done with it ---------------------------------------------------------------------------------- */

/* MmBuildMdlForNonPagedPool-16, MmBuildMdlForNonPagedPool-17: asking for the system address is allowed and gives the
   start of the buffer, at no mapping. */
SILENT_TEST(mm_build_mdl_for_nonpaged_pool, map__system_address__is_the_start_of_the_buffer)
{
    UCHAR *const block = pool_pages(PAGES);

    for (SIZE_T i = 0; i < ARRAYSIZE(ranges); i++) {
        const PMDL mdl = built_mdl(block + ranges[i].at, ranges[i].bytes);
        const struct pinion_counters before = counters_now();

        for (int again = 0; again < 3; again++)
            EXPECT_PTR_EQ(MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX), MmGetMdlVirtualAddress(mdl));
        EXPECT_SAME_COUNTERS(before);
        EXPECT_EQ(counters_now().host_calls, before.host_calls);
        IoFreeMdl(mdl);
    }
    ExFreePoolWithTag(block, TEST_TAG);
}

/* MmBuildMdlForNonPagedPool-18, MmBuildMdlForNonPagedPool-19: it may be mapped into a process, and both see what the
   other writes; the buffer is zeroed first, a whole number of pages long, and unmapped before it is freed. */
SILENT_TEST(mm_build_mdl_for_nonpaged_pool, map__into_a_process__shows_the_same_bytes)
{
    UCHAR *const block = ExAllocatePoolZero(NonPagedPoolNx, PAGES * PAGE_SIZE, TEST_TAG);
    const PMDL mdl = built_mdl(block, PAGES * PAGE_SIZE);
    UCHAR *const user = map_user(mdl);

    EXPECT(user != block);
    fill_pattern(user, PAGES * PAGE_SIZE, SEED);
    EXPECT_PATTERN(block, PAGES * PAGE_SIZE, SEED);
    fill_pattern(block, PAGES * PAGE_SIZE, SEED + 1);
    EXPECT_PATTERN(user, PAGES * PAGE_SIZE, SEED + 1);
    EXPECT_PTR_EQ(system_address(mdl), block);
    MmUnmapLockedPages(user, mdl);
    IoFreeMdl(mdl);
    ExFreePoolWithTag(block, TEST_TAG);
}

/* MmBuildMdlForNonPagedPool-28: nothing needs to be undone but the MDL itself. */
SILENT_TEST(mm_build_mdl_for_nonpaged_pool, free__without_unmapping_or_unlocking__leaves_nothing)
{
    UCHAR *const block = pool_pages(PAGES);
    const struct pinion_counters before = counters_now();
    const PMDL mdl = built_mdl(block, PAGES * PAGE_SIZE);

    EXPECT_PTR_EQ(system_address(mdl), block);
    IoFreeMdl(mdl);
    EXPECT_SAME_COUNTERS(before);
    ExFreePoolWithTag(block, TEST_TAG);
}

/* MmBuildMdlForNonPagedPool-29: the page numbers are valid only once it has run: an MDL that was only allocated cannot
   be mapped. */
STOP_TEST(mm_build_mdl_for_nonpaged_pool, map__before_it_was_built__stops, 0xC4, 0xB3)
{
    MmGetSystemAddressForMdlSafe(mdl_over(pool_pages(1), PAGE_SIZE), NORMAL_NX);
}

/* ---- What may not ---------------------------------------------------------------------------------------------- */

struct illegal {
    const char *name;
    void (*operation)(PMDL mdl);
    uint64_t subcode;
    uint64_t flag; /* what parameter 4 names */
};

static void illegal_lock(PMDL mdl)
{
    MmProbeAndLockPages(mdl, KernelMode, IoReadAccess);
}

static void illegal_unlock(PMDL mdl)
{
    MmUnlockPages(mdl);
}

static void illegal_map(PMDL mdl)
{
    map_system(mdl);
}

static void illegal_unmap(PMDL mdl)
{
    MmUnmapLockedPages(MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX), mdl);
}

static const struct illegal illegal_operations[] = {
    {"MmProbeAndLockPages", illegal_lock, 0xB0, MDL_SOURCE_IS_NONPAGED_POOL},
    {"MmMapLockedPagesSpecifyCache(KernelMode)", illegal_map, 0xB2, MDL_SOURCE_IS_NONPAGED_POOL},
    {"MmUnlockPages", illegal_unlock, 0x7D, 0},
    {"MmUnmapLockedPages", illegal_unmap, 0xB6, MDL_MAPPED_TO_SYSTEM_VA},
};

struct illegal_call {
    const struct illegal *illegal;
    uint64_t *words;
};

static void do_illegal(void *context)
{
    const struct illegal_call *const call = context;
    const PMDL mdl = built_mdl(pool_pages(2), 2 * PAGE_SIZE);

    call->words[0] = (uintptr_t)mdl;
    call->words[1] = mdl_flags(mdl);
    call->illegal->operation(mdl);
}

/* MmBuildMdlForNonPagedPool-11, MmBuildMdlForNonPagedPool-12, MmBuildMdlForNonPagedPool-13,
   MmBuildMdlForNonPagedPool-14, MmBuildMdlForNonPagedPool-15: it is not to be locked, mapped into system space again,
   unlocked or unmapped: each stops with its own code, the MDL, its flags and the flag that is at fault. */
TEST_UNTIDY(mm_build_mdl_for_nonpaged_pool, use__as_if_locked_or_mapped__stops)
{
    uint64_t *const words = shared_words();

    for (SIZE_T i = 0; i < ARRAYSIZE(illegal_operations); i++) {
        const struct illegal *const illegal = &illegal_operations[i];
        struct illegal_call call = {illegal, words};
        const struct stop stop = run_until_stop(do_illegal, &call);

        if (!stop.stopped || stop.code != 0xC4 || stop.p[0] != illegal->subcode)
            harness_fail(HARNESS_HERE, "%s does not stop with 0xC4/0x%llX: %s", illegal->name,
                         (unsigned long long)illegal->subcode, stop.stderr_text);
        EXPECT_EQ(stop.p[1], words[0]);
        EXPECT_EQ(stop.p[2], words[1]);
        EXPECT_EQ(stop.p[3] & illegal->flag, illegal->flag);
    }
}

static void do_illegal_beside_another(void *context)
{
    const struct illegal *const illegal = context;

    boot("verifier=off");
    UCHAR *const va = user_pattern(PAGES, SEED);
    const PMDL other = locked_mdl(va, PAGES * PAGE_SIZE);
    UCHAR *const other_system = system_address(other);
    UCHAR *const block = pool_pages(2);

    fill_pattern(block, 2 * PAGE_SIZE, SEED);
    illegal->operation(built_mdl(block, 2 * PAGE_SIZE));
    EXPECT_EQ(pinion_trim(), 0);
    EXPECT_PATTERN(other_system, PAGES * PAGE_SIZE, SEED);
    EXPECT_PATTERN(block, 2 * PAGE_SIZE, SEED);
    for (SIZE_T page = 0; page < PAGES; page++)
        EXPECT_EQ(MmGetMdlPfnArray(other)[page], frame_of(va + page * PAGE_SIZE));
    MmUnlockPages(other);
    EXPECT_EQ(pinion_trim(), PAGES);
}

/* MmBuildMdlForNonPagedPool-15: without the verifier the outcome is undefined: it may stop the machine, but if it does
   not, other MDLs and the buffer do not suffer from it. */
TEST_UNTIDY(mm_build_mdl_for_nonpaged_pool, use__as_if_locked_or_mapped_without_the_verifier__harms_no_other)
{
    for (SIZE_T i = 0; i < ARRAYSIZE(illegal_operations); i++) {
        const struct stop stop = run_until_stop(do_illegal_beside_another, (void *)&illegal_operations[i]);

        EXPECT(stop.stopped || stop.exit_status == 0);
    }
}

/* ---- IRQL ------------------------------------------------------------------------------------------------------ */

/* MmBuildMdlForNonPagedPool-22: it may be called at DISPATCH_LEVEL. */
SILENT_TEST(mm_build_mdl_for_nonpaged_pool, build__dispatch_level__works)
{
    UCHAR *const block = pool_pages(PAGES);
    const PMDL mdl = mdl_over(block + 9, 3 * PAGE_SIZE);
    const KIRQL before = raise_irql(DISPATCH_LEVEL);

    MmBuildMdlForNonPagedPool(mdl);
    expect_frames(mdl);
    EXPECT_PTR_EQ(system_address(mdl), block + 9);
    KeLowerIrql(before);
    IoFreeMdl(mdl);
    ExFreePoolWithTag(block, TEST_TAG);
}

/* MmBuildMdlForNonPagedPool-22: above DISPATCH_LEVEL it is reported. */
WARN_TEST(mm_build_mdl_for_nonpaged_pool, build__above_dispatch_level__warns, "irql-too-high")
{
    UCHAR *const block = pool_pages(1);
    const PMDL mdl = mdl_over(block, PAGE_SIZE);
    const KIRQL before = raise_irql(DISPATCH_LEVEL + 1);

    MmBuildMdlForNonPagedPool(mdl);
    KeLowerIrql(before);
    IoFreeMdl(mdl);
    ExFreePoolWithTag(block, TEST_TAG);
}

/* ---- Memory that is not there ---------------------------------------------------------------------------------- */

/* MmBuildMdlForNonPagedPool-07 MmBuildMdlForNonPagedPool-32: NULL, as a driver has it that does not look at what pool gave. */
STOP_TEST(mm_build_mdl_for_nonpaged_pool, build__null__stops, MEMORY_MANAGEMENT, 0x1240)
{
    MmBuildMdlForNonPagedPool(mdl_over(NULL, PAGE_SIZE));
}

/* MmBuildMdlForNonPagedPool-32: the verifier is not needed for that. */
STOP_TEST(mm_build_mdl_for_nonpaged_pool, build__null_without_verifier__stops, MEMORY_MANAGEMENT, 0x1240)
{
    boot("verifier=off");
    MmBuildMdlForNonPagedPool(mdl_over(NULL, PAGE_SIZE));
}

/* MmBuildMdlForNonPagedPool-32: an address that no page can have. */
STOP_TEST(mm_build_mdl_for_nonpaged_pool, build__impossible_address__stops, MEMORY_MANAGEMENT, 0x1240)
{
    MmBuildMdlForNonPagedPool(mdl_over((PVOID)(ULONG_PTR)0xCDCDCDCDCDCDC000, PAGE_SIZE));
}

/* MmBuildMdlForNonPagedPool-32: the second page of the buffer is not there. */
STOP_TEST(mm_build_mdl_for_nonpaged_pool, build__host_page_that_nobody_may_read__stops, MEMORY_MANAGEMENT, 0x1240)
{
    UCHAR *const va = mmap(NULL, 2 * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    EXPECT(va != MAP_FAILED);
    EXPECT_EQ(mprotect(va + PAGE_SIZE, PAGE_SIZE, PROT_NONE), 0);
    MmBuildMdlForNonPagedPool(mdl_over(va, 2 * PAGE_SIZE));
}
