/* SPDX-License-Identifier: MIT */
/*
 * IoBuildPartialMdl: which bytes a partial MDL describes, in which targets and of which sources, whose mapping it has,
 * and who releases it. What it refuses is in io_build_partial_mdl_refused.c.
 */

#include "harness.h"
#include <wdm.h>

#include "pages.h"
#include "partial.h"

#include <string.h>

struct range {
    ULONG at; /* from the start of page 0 */
    ULONG bytes;
};

/* At page edges, one before and one after; one byte, the last byte of a page, straddling; all but a byte, and all. */
/* clang-format off */
static const struct range ranges[] = {
    {SOURCE_AT, 1},             {SOURCE_AT, PAGE_SIZE - SOURCE_AT - 1},     {SOURCE_AT, PAGE_SIZE - SOURCE_AT},
    {SOURCE_AT, PAGE_SIZE - SOURCE_AT + 1},                                 {SOURCE_AT + 1, 1},
    {PAGE_SIZE - 1, 1},         {PAGE_SIZE - 1, 2},                         {PAGE_SIZE - 1, PAGE_SIZE + 1},
    {PAGE_SIZE - 1, PAGE_SIZE + 2},                                         {PAGE_SIZE, 1},
    {PAGE_SIZE, PAGE_SIZE - 1}, {PAGE_SIZE, PAGE_SIZE},                     {PAGE_SIZE, PAGE_SIZE + 1},
    {PAGE_SIZE + 1, PAGE_SIZE - 2},                                         {PAGE_SIZE + 1, PAGE_SIZE - 1},
    {PAGE_SIZE + 1, PAGE_SIZE}, {3 * PAGE_SIZE + 512, 512},                 {5 * PAGE_SIZE, PAGE_SIZE},
    {2 * PAGE_SIZE - 5, 3 * PAGE_SIZE + 10},                                {6 * PAGE_SIZE, SOURCE_END - 6 * PAGE_SIZE},
    {6 * PAGE_SIZE - 1, 2},     {SOURCE_END - 1, 1},                        {SOURCE_AT, SOURCE_BYTES - 1},
    {SOURCE_AT + 1, SOURCE_BYTES - 1},                                      {SOURCE_AT, SOURCE_BYTES},
};
/* clang-format on */

/* ---- The part -------------------------------------------------------------------------------------------------- */

/* IoBuildPartialMdl-01, IoBuildPartialMdl-16, IoBuildPartialMdl-35, IoBuildPartialMdl-36, IoBuildPartialMdl-39: the
   routine has the type of its page, returns nothing, and is declared by <wdm.h> with its kin. */
TEST(io_build_partial_mdl, routine__by_its_documented_type__builds)
{
    void (*const build)(PMDL, PMDL, PVOID, ULONG) = &IoBuildPartialMdl;
    VOID (*const kin[])(PMDL) = {&IoFreeMdl, &MmBuildMdlForNonPagedPool, &MmPrepareMdlForReuse};
    PVOID (*const map)(PMDL, ULONG) = &MmGetSystemAddressForMdlSafe;
    VOID (*const lock)(PMDL, KPROCESSOR_MODE, LOCK_OPERATION) = &MmProbeAndLockPages;
    const struct source source = make_source();
    const PMDL part = mdl_over(source.va, 1);

    build(source.mdl, part, source.va, 1);
    expect_part(source.mdl, part, source.va, 1);
    EXPECT(kin[0] != NULL && kin[1] != NULL && kin[2] != NULL && map != NULL && lock != NULL);
    IoFreeMdl(part);
    release_source(&source);
}

/* IoBuildPartialMdl-02, IoBuildPartialMdl-04, IoBuildPartialMdl-06, IoBuildPartialMdl-08, IoBuildPartialMdl-10,
   IoBuildPartialMdl-11, IoBuildPartialMdl-12, IoBuildPartialMdl-20: the part starts at VirtualAddress, is Length bytes
   long, and its pages are those of the source there, wherever it lies in a locked user buffer. */
TEST(io_build_partial_mdl, build__range_of_a_locked_user_buffer__describes_exactly_that)
{
    const struct source source = make_source();

    for (SIZE_T i = 0; i < ARRAYSIZE(ranges); i++) {
        UCHAR *const va = source.base + ranges[i].at;
        const PMDL part = part_of(source.mdl, va, ranges[i].bytes);

        expect_part(source.mdl, part, va, ranges[i].bytes);
        for (SIZE_T page = 0; page < mdl_pages(part); page++)
            EXPECT_EQ(MmGetMdlPfnArray(part)[page], frame_of((UCHAR *)PAGE_ALIGN(va) + page * PAGE_SIZE));
        IoFreeMdl(part);
    }
    release_source(&source);
}

/* IoBuildPartialMdl-02, IoBuildPartialMdl-27: the system address of a part shows its bytes and no others, and a byte
   written there is one of the buffer, at the same place. */
TEST(io_build_partial_mdl, build__each_range__shows_the_bytes_of_the_buffer_in_both_directions)
{
    const struct source source = make_source();

    for (SIZE_T i = 0; i < ARRAYSIZE(ranges); i++) {
        const struct range *const range = &ranges[i];
        const PMDL part = part_of(source.mdl, source.base + range->at, range->bytes);
        UCHAR *const system = system_address(part);

        EXPECT_PATTERN_AT(system, range->bytes, SEED, range->at);
        system[0] ^= 0xFF;
        system[range->bytes - 1] ^= 0x5A;
        EXPECT_EQ(source.base[range->at] != pattern_byte(SEED, range->at), 1);
        source.base[range->at] ^= 0xFF;
        source.base[range->at + range->bytes - 1] ^= 0x5A;
        EXPECT_PATTERN(source.base, PAGES * PAGE_SIZE, SEED);
        EXPECT_PATTERN_AT(system, range->bytes, SEED, range->at);
        IoFreeMdl(part);
    }
    release_source(&source);
}

/* IoBuildPartialMdl-03: what is built is the target that was passed: no MDL is made and the source is not replaced. */
TEST(io_build_partial_mdl, build__target__is_the_one_that_was_passed)
{
    const struct source source = make_source();
    const PMDL part = mdl_over(source.va, SOURCE_BYTES);
    const struct pinion_counters before = counters_now();
    struct pinion_totals allocated_before, totals;

    pinion_totals(&allocated_before);
    IoBuildPartialMdl(source.mdl, part, source.va + 5, 10);
    pinion_totals(&totals);
    EXPECT_SAME_COUNTERS(before);
    EXPECT_EQ(totals.mdls_allocated, allocated_before.mdls_allocated);
    EXPECT_EQ(totals.partial_mdls_built, allocated_before.partial_mdls_built + 1);
    IoFreeMdl(part);
    release_source(&source);
}

/* IoBuildPartialMdl-05: the source is read only: header and page numbers are the same afterwards. */
TEST(io_build_partial_mdl, build__source__is_not_changed)
{
    struct {
        MDL header;
        PFN_NUMBER pages[PAGES];
    } before;
    const struct source source = make_source();

    for (int mapped = 0; mapped < 2; mapped++) {
        if (mapped)
            system_address(source.mdl);
        memcpy(&before, source.mdl, sizeof(before));
        for (SIZE_T i = 0; i < ARRAYSIZE(ranges); i++) {
            IoFreeMdl(part_of(source.mdl, source.base + ranges[i].at, ranges[i].bytes));
            EXPECT_MEM_EQ(source.mdl, &before, sizeof(before));
        }
    }
    release_source(&source);
}

/* IoBuildPartialMdl-14: Length 0 means everything from VirtualAddress to the end of the source. */
TEST(io_build_partial_mdl, build__length_zero__goes_to_the_end_of_the_source)
{
    static const ULONG starts[] = {SOURCE_AT + 1,     PAGE_SIZE - 1,     PAGE_SIZE,     PAGE_SIZE + 1,
                                   6 * PAGE_SIZE - 1, 6 * PAGE_SIZE,     SOURCE_END - 1};
    const struct source source = make_source();

    for (SIZE_T i = 0; i < ARRAYSIZE(starts); i++) {
        const ULONG rest = SOURCE_END - starts[i];
        const PMDL part = mdl_over(source.base + starts[i], rest);

        IoBuildPartialMdl(source.mdl, part, source.base + starts[i], 0);
        expect_part(source.mdl, part, source.base + starts[i], rest);
        EXPECT_PATTERN_AT(system_address(part), rest, SEED, starts[i]);
        IoFreeMdl(part);
    }
    release_source(&source);
}

/* IoBuildPartialMdl-15, IoBuildPartialMdl-13: Length 0 at the start, like the full length, gives the whole source, which
   is as good a subrange as another (ruling 9). */
TEST(io_build_partial_mdl, build__length_zero_at_the_start__is_the_whole_source)
{
    const struct source source = make_source();
    const PMDL whole = mdl_over(source.va, SOURCE_BYTES);

    IoBuildPartialMdl(source.mdl, whole, source.va, 0);
    expect_part(source.mdl, whole, source.va, SOURCE_BYTES);
    MmPrepareMdlForReuse(whole);
    IoBuildPartialMdl(source.mdl, whole, source.va, SOURCE_BYTES);
    expect_part(source.mdl, whole, source.va, SOURCE_BYTES);
    IoFreeMdl(whole);
    release_source(&source);
}

/* IoBuildPartialMdl-17: VirtualAddress and Length alone say what the part is: a target that described another range
   before ends up as a fresh one does. */
TEST(io_build_partial_mdl, build__target_of_another_range__ends_as_a_fresh_one)
{
    const struct source source = make_source();
    const PMDL reused = mdl_over(source.va, SOURCE_BYTES);

    for (SIZE_T i = 0; i < ARRAYSIZE(ranges); i++) {
        UCHAR *const va = source.base + ranges[i].at;
        const PMDL fresh = mdl_over(source.va, SOURCE_BYTES);

        MmPrepareMdlForReuse(reused);
        IoBuildPartialMdl(source.mdl, reused, va, ranges[i].bytes);
        IoBuildPartialMdl(source.mdl, fresh, va, ranges[i].bytes);
        EXPECT_MEM_EQ(reused, fresh, sizeof(MDL) + mdl_pages(fresh) * sizeof(PFN_NUMBER));
        IoFreeMdl(fresh);
    }
    IoFreeMdl(reused);
    release_source(&source);
}

/* Cut a source into parts of so many bytes: together they hold each byte of it once, in order. */
static void expect_tiles(PMDL source, UCHAR *va, ULONG bytes, ULONG tile)
{
    static UCHAR seen[64 * 1024];
    const PMDL part = mdl_over(NULL, tile + PAGE_SIZE);
    ULONG done = 0;

    RtlZeroMemory(seen, sizeof(seen));
    while (done < bytes) {
        const ULONG here = min(tile, bytes - done);

        IoBuildPartialMdl(source, part, va + done, here);
        expect_part(source, part, va + done, here);
        RtlCopyMemory(seen + done, system_address(part), here);
        MmPrepareMdlForReuse(part);
        done += here;
    }
    EXPECT_EQ(done, bytes);
    EXPECT_MEM_EQ(seen, va, bytes);
    IoFreeMdl(part);
}

/* IoBuildPartialMdl-18: a transfer of 64 KiB is split into any number of smaller ones, each byte in one of them; one
   container, a page longer than the pieces, serves them all. */
SILENT_TEST(io_build_partial_mdl, build__64_kib_in_pieces__covers_each_byte_once)
{
    enum { BYTES = 64 * 1024, MOST = 16 };
    UCHAR *const base = user_pattern(BYTES / PAGE_SIZE + 1, SEED);

    for (ULONG offset = 0; offset <= 1000; offset += 1000) {
        const PMDL source = locked_mdl(base + offset, BYTES);

        for (ULONG pieces = 1; pieces <= MOST; pieces++)
            expect_tiles(source, base + offset, BYTES, (BYTES + pieces - 1) / pieces);
        unlock_and_free(source);
    }
    pinion_user_free(base);
}

/* ---- Targets --------------------------------------------------------------------------------------------------- */

/* IoBuildPartialMdl-06: a target may be larger than the range needs, by a page or by many: the usual container is
   allocated for NULL and a page more than the longest part. */
SILENT_TEST(io_build_partial_mdl, build__container_allocated_for_null__takes_any_part)
{
    const struct source source = make_source();
    const PMDL container = IoAllocateMdl(NULL, SOURCE_BYTES + PAGE_SIZE, FALSE, FALSE, NULL);

    EXPECT(container != NULL);
    for (SIZE_T i = 0; i < ARRAYSIZE(ranges); i++) {
        IoBuildPartialMdl(source.mdl, container, source.base + ranges[i].at, ranges[i].bytes);
        expect_part(source.mdl, container, source.base + ranges[i].at, ranges[i].bytes);
    }
    IoFreeMdl(container);
    release_source(&source);
}

/* IoBuildPartialMdl-06: a target of the driver's own, on its stack, is as good, once what was mapped is released. */
SILENT_TEST(io_build_partial_mdl, build__target_on_the_stack__is_legal)
{
    struct {
        MDL mdl;
        PFN_NUMBER pages[3];
    } mine;
    const struct source source = make_source();

    RtlZeroMemory(&mine, sizeof(mine));
    MmInitializeMdl(&mine.mdl, source.base + PAGE_SIZE - 1, PAGE_SIZE + 2);
    IoBuildPartialMdl(source.mdl, &mine.mdl, source.base + PAGE_SIZE - 1, PAGE_SIZE + 2);
    expect_part(source.mdl, &mine.mdl, source.base + PAGE_SIZE - 1, PAGE_SIZE + 2);
    EXPECT_PATTERN_AT(system_address(&mine.mdl), PAGE_SIZE + 2, SEED, PAGE_SIZE - 1);
    MmPrepareMdlForReuse(&mine.mdl);
    EXPECT_EQ(counters_now().system_mappings, 0);
    release_source(&source);
}

/* ---- Sources --------------------------------------------------------------------------------------------------- */

/* IoBuildPartialMdl-21: an MDL of nonpaged pool is a source, and its parts, NONPAGED and PARTIAL at once, need no
   mapping. */
SILENT_TEST(io_build_partial_mdl, build__source_in_nonpaged_pool__part_is_part_of_the_block)
{
    UCHAR *const block = pool_pages(PAGES);
    const PMDL source = mdl_over(block + SOURCE_AT, SOURCE_BYTES);

    fill_pattern(block, PAGES * PAGE_SIZE, SEED);
    MmBuildMdlForNonPagedPool(source);
    const struct pinion_counters before = counters_now();
    for (SIZE_T i = 0; i < ARRAYSIZE(ranges); i++) {
        const PMDL part = part_of(source, block + ranges[i].at, ranges[i].bytes);

        expect_part(source, part, block + ranges[i].at, ranges[i].bytes);
        EXPECT(part->MdlFlags & MDL_SOURCE_IS_NONPAGED_POOL);
        EXPECT_PTR_EQ(system_address(part), block + ranges[i].at);
        MmPrepareMdlForReuse(part);
        EXPECT_PTR_EQ(system_address(source), block + SOURCE_AT);
        IoFreeMdl(part);
    }
    EXPECT_SAME_COUNTERS(before);
    IoFreeMdl(source);
    ExFreePoolWithTag(block, TEST_TAG);
}

/* An MDL that brought its own pages is a source: its parts are mapped on demand, and share its mapping once there is
   one. */
static void expect_parts_of_pages(PMDL source)
{
    EXPECT(source != NULL);
    const ULONG_PTR va = (ULONG_PTR)MmGetMdlVirtualAddress(source); /* NULL, to which nothing may be added in C */

    EXPECT_EQ(MmGetMdlByteCount(source), PAGES * PAGE_SIZE);
    for (ULONG done = 0; done < PAGES * PAGE_SIZE; done += 1000) {
        const ULONG here = min(1000, PAGES * PAGE_SIZE - done);
        const PMDL part = part_of(source, (PVOID)(va + done), here);

        expect_part(source, part, (PVOID)(va + done), here);
        UCHAR *const system = system_address(part);
        EXPECT_EQ(counters_now().system_mappings, 1);
        for (ULONG i = 0; i < here; i++)
            system[i] = pattern_byte(SEED, done + i);
        IoFreeMdl(part);
    }
    UCHAR *const system = system_address(source);
    EXPECT_PATTERN(system, PAGES * PAGE_SIZE, SEED);
    const PMDL part = part_of(source, (PVOID)(va + PAGE_SIZE - 1), 2 * PAGE_SIZE);
    EXPECT_PTR_EQ(system_address(part), system + PAGE_SIZE - 1);
    IoFreeMdl(part);
    EXPECT_PATTERN(system, PAGES * PAGE_SIZE, SEED);
    MmUnmapLockedPages(system, source);
    MmFreePagesFromMdl(source);
    ExFreePool(source);
}

/* IoBuildPartialMdl-22: the pages of MmAllocatePagesForMdlEx are locked from the start, and a source. */
SILENT_TEST(io_build_partial_mdl, build__source_of_allocate_pages_ex__part_is_part_of_its_pages)
{
    expect_parts_of_pages(pages_in_ex(0, EVERYWHERE, 0, PAGES * PAGE_SIZE, MM_ALLOCATE_FULLY_REQUIRED));
}

/* IoBuildPartialMdl-23: so are those of MmAllocatePagesForMdl. */
SILENT_TEST(io_build_partial_mdl, build__source_of_allocate_pages__part_is_part_of_its_pages)
{
    expect_parts_of_pages(pages_in(0, EVERYWHERE, 0, PAGES * PAGE_SIZE));
}

/* IoBuildPartialMdl-20: it makes no difference for which access, and in which mode, the source was locked. */
SILENT_TEST(io_build_partial_mdl, build__source_locked_in_any_way__gives_the_same_part)
{
    UCHAR *const base = user_pattern(2, SEED);

    for (LOCK_OPERATION operation = IoReadAccess; operation <= IoModifyAccess; operation++) {
        for (KPROCESSOR_MODE mode = KernelMode; mode <= UserMode; mode++) {
            const PMDL source = mdl_over(base, 2 * PAGE_SIZE);

            EXPECT_STATUS(try_lock(source, mode, operation), STATUS_SUCCESS);
            const PMDL part = part_of(source, base + PAGE_SIZE - 1, 2);
            expect_part(source, part, base + PAGE_SIZE - 1, 2);
            EXPECT_PATTERN_AT(system_address(part), 2, SEED, PAGE_SIZE - 1);
            IoFreeMdl(part);
            unlock_and_free(source);
        }
    }
    pinion_user_free(base);
}

/* IoBuildPartialMdl-19: the pages of the source must be locked; a part of an MDL that was only allocated is reported. */
WARN_TEST(io_build_partial_mdl, build__source_not_locked__warns, "partial-of-unlocked-mdl")
{
    UCHAR *const base = user_pattern(1, SEED);
    const PMDL source = mdl_over(base, PAGE_SIZE);

    IoFreeMdl(part_of(source, base, 1));
    IoFreeMdl(source);
    pinion_user_free(base);
}

/* IoBuildPartialMdl-19: an MDL that was unlocked again is no source either. */
WARN_TEST(io_build_partial_mdl, build__source_unlocked_again__warns, "partial-of-unlocked-mdl")
{
    UCHAR *const base = user_pattern(1, SEED);
    const PMDL source = locked_mdl(base, PAGE_SIZE);

    MmUnlockPages(source);
    IoFreeMdl(part_of(source, base, 1));
    IoFreeMdl(source);
    pinion_user_free(base);
}

/* IoBuildPartialMdl-08, IoBuildPartialMdl-34: a part of a part, to any depth, is a part of the buffer (ruling 7). */
SILENT_TEST(io_build_partial_mdl, build__part_of_a_part__is_a_part_of_the_buffer)
{
    const struct source source = make_source();
    const PMDL child = part_of(source.mdl, source.base + PAGE_SIZE - 1, 4 * PAGE_SIZE + 2);
    const PMDL grandchild = part_of(child, source.base + 2 * PAGE_SIZE - 1, 2 * PAGE_SIZE + 1);
    const PMDL last = part_of(grandchild, source.base + 3 * PAGE_SIZE + 1, 17);

    expect_part(source.mdl, child, source.base + PAGE_SIZE - 1, 4 * PAGE_SIZE + 2);
    expect_part(source.mdl, grandchild, source.base + 2 * PAGE_SIZE - 1, 2 * PAGE_SIZE + 1);
    expect_part(source.mdl, last, source.base + 3 * PAGE_SIZE + 1, 17);
    EXPECT_PATTERN_AT(system_address(last), 17, SEED, 3 * PAGE_SIZE + 1);
    EXPECT_PATTERN_AT(system_address(child), 4 * PAGE_SIZE + 2, SEED, PAGE_SIZE - 1);
    IoFreeMdl(last);
    IoFreeMdl(grandchild);
    IoFreeMdl(child);
    release_source(&source);
}

/* IoBuildPartialMdl-24: a part of a mapped part shares its mapping, and the mapping goes with the part that made it. */
SILENT_TEST(io_build_partial_mdl, build__part_of_a_mapped_part__shares_its_mapping)
{
    const struct source source = make_source();
    const PMDL child = part_of(source.mdl, source.base + PAGE_SIZE, 3 * PAGE_SIZE);
    UCHAR *const system = system_address(child);
    const PMDL grandchild = part_of(child, source.base + 2 * PAGE_SIZE + 9, PAGE_SIZE);

    EXPECT_PTR_EQ(system_address(grandchild), system + PAGE_SIZE + 9);
    EXPECT_EQ(counters_now().system_mappings, 1);
    IoFreeMdl(grandchild);
    EXPECT_EQ(counters_now().system_mappings, 1);
    EXPECT_PATTERN_AT(system, 3 * PAGE_SIZE, SEED, PAGE_SIZE);
    IoFreeMdl(child);
    EXPECT_EQ(counters_now().system_mappings, 0);
    release_source(&source);
}

/* An MDL of the driver's own making, StartVa NULL, with page numbers copied from a locked one. */
static PMDL copied_mdl(PMDL from, SIZE_T first, SIZE_T pages)
{
    const PMDL copy = IoAllocateMdl(NULL, (ULONG)(pages * PAGE_SIZE), FALSE, FALSE, NULL);

    EXPECT(copy != NULL);
    RtlCopyMemory(MmGetMdlPfnArray(copy), MmGetMdlPfnArray(from) + first, pages * sizeof(PFN_NUMBER));
    copy->MdlFlags |= MDL_PAGES_LOCKED;
    return copy;
}

/* IoBuildPartialMdl-14, IoBuildPartialMdl-19: a source may start at NULL and hold page numbers that were copied into it;
   what matters is that the pages are locked. "The rest" of it counts from NULL. */
SILENT_TEST(io_build_partial_mdl, build__rest_of_a_source_that_starts_at_null__is_legal)
{
    const struct source source = make_source();
    const PMDL copy = copied_mdl(source.mdl, 1, 4);
    const PMDL rest = mdl_over((PVOID)(ULONG_PTR)(PAGE_SIZE + 10), 3 * PAGE_SIZE);
    const PMDL all = mdl_over(NULL, 4 * PAGE_SIZE);

    IoBuildPartialMdl(copy, rest, (PVOID)(ULONG_PTR)(PAGE_SIZE + 10), 0);
    EXPECT_EQ(MmGetMdlByteCount(rest), 3 * PAGE_SIZE - 10);
    EXPECT_MEM_EQ(MmGetMdlPfnArray(rest), MmGetMdlPfnArray(source.mdl) + 2, 3 * sizeof(PFN_NUMBER));
    EXPECT_PATTERN_AT(system_address(rest), 3 * PAGE_SIZE - 10, SEED, 2 * PAGE_SIZE + 10);
    IoBuildPartialMdl(copy, all, NULL, 0);
    EXPECT_EQ(MmGetMdlByteCount(all), 4 * PAGE_SIZE);
    EXPECT_PATTERN_AT(system_address(all), 4 * PAGE_SIZE, SEED, PAGE_SIZE);
    IoFreeMdl(all);
    IoFreeMdl(rest);
    IoFreeMdl(copy);
    release_source(&source);
}

/* The flag that says that the pages are I/O space goes on to the part (ruling 8). */
TEST(io_build_partial_mdl, build__source_of_io_space__part_says_so)
{
    const struct source source = make_source();
    const PMDL part = mdl_over(source.va, 100);

    source.mdl->MdlFlags |= MDL_IO_SPACE;
    IoBuildPartialMdl(source.mdl, part, source.va, 100);
    EXPECT(part->MdlFlags & MDL_IO_SPACE);
    source.mdl->MdlFlags &= (CSHORT)~MDL_IO_SPACE;
    MmPrepareMdlForReuse(part);
    IoBuildPartialMdl(source.mdl, part, source.va, 100);
    EXPECT_EQ(part->MdlFlags & MDL_IO_SPACE, 0);
    IoFreeMdl(part);
    release_source(&source);
}

/* ---- Mappings -------------------------------------------------------------------------------------------------- */

/* IoBuildPartialMdl-24, IoBuildPartialMdl-25, IoBuildPartialMdl-28, IoBuildPartialMdl-29: a part of a mapped source has
   the source's mapping from the start: its address is the source's plus the distance, and asking for it maps nothing. */
SILENT_TEST(io_build_partial_mdl, build__source_is_mapped__part_shares_the_mapping)
{
    const struct source source = make_source();
    UCHAR *const system = system_address(source.mdl);
    const struct pinion_counters before = counters_now();

    for (SIZE_T i = 0; i < ARRAYSIZE(ranges); i++) {
        const PMDL part = part_of(source.mdl, source.base + ranges[i].at, ranges[i].bytes);

        EXPECT(part->MdlFlags & MDL_MAPPED_TO_SYSTEM_VA);
        EXPECT_EQ(part->MdlFlags & MDL_PARTIAL_HAS_BEEN_MAPPED, 0);
        EXPECT_PTR_EQ(part->MappedSystemVa, system + (ranges[i].at - SOURCE_AT));
        EXPECT_PTR_EQ(system_address(part), system + (ranges[i].at - SOURCE_AT));
        EXPECT_PATTERN_AT(system_address(part), ranges[i].bytes, SEED, ranges[i].at);
        EXPECT_EQ(counters_now().system_mappings, before.system_mappings);
        EXPECT_EQ(counters_now().system_pages_mapped, before.system_pages_mapped);
        EXPECT_EQ(counters_now().host_calls, before.host_calls);
        IoFreeMdl(part);
    }
    EXPECT_EQ(counters_now().host_calls, before.host_calls);
    release_source(&source);
}

/* IoBuildPartialMdl-26, IoBuildPartialMdl-27, IoBuildPartialMdl-28, IoBuildPartialMdl-30: a part of an unmapped source
   is unmapped, and asking for its address makes one mapping, of its own pages, at one call to the host; asking again
   makes none. */
SILENT_TEST(io_build_partial_mdl, build__source_is_not_mapped__part_is_mapped_on_demand_and_once)
{
    const struct source source = make_source();

    for (SIZE_T i = 0; i < ARRAYSIZE(ranges); i++) {
        const PMDL part = part_of(source.mdl, source.base + ranges[i].at, ranges[i].bytes);
        const struct pinion_counters before = counters_now();

        EXPECT_EQ(part->MdlFlags & MDL_MAPPED_TO_SYSTEM_VA, 0);
        UCHAR *const system = system_address(part);
        EXPECT_EQ(counters_now().system_mappings, before.system_mappings + 1);
        EXPECT_EQ(counters_now().system_pages_mapped, before.system_pages_mapped + mdl_pages(part));
        EXPECT_EQ(counters_now().host_calls, before.host_calls + 1);
        EXPECT_EQ(part->MdlFlags & (MDL_MAPPED_TO_SYSTEM_VA | MDL_PARTIAL_HAS_BEEN_MAPPED),
                  MDL_MAPPED_TO_SYSTEM_VA | MDL_PARTIAL_HAS_BEEN_MAPPED);
        EXPECT_EQ(BYTE_OFFSET(system), BYTE_OFFSET(source.base + ranges[i].at));
        EXPECT_PATTERN_AT(system, ranges[i].bytes, SEED, ranges[i].at);

        EXPECT_PTR_EQ(system_address(part), system);
        EXPECT_EQ(counters_now().system_mappings, before.system_mappings + 1);
        EXPECT_EQ(counters_now().host_calls, before.host_calls + 1);
        EXPECT_EQ(source.mdl->MdlFlags & MDL_MAPPED_TO_SYSTEM_VA, 0);
        IoFreeMdl(part);
    }
    release_source(&source);
}

/* IoBuildPartialMdl-26, IoBuildPartialMdl-30: a source that is mapped after the part was built leaves the part as it
   is: each has its mapping. */
SILENT_TEST(io_build_partial_mdl, build__source_mapped_later__part_gets_its_own_mapping)
{
    const struct source source = make_source();
    const PMDL part = part_of(source.mdl, source.va + 50, PAGE_SIZE);
    UCHAR *const of_source = system_address(source.mdl);
    UCHAR *const of_part = system_address(part);

    EXPECT_EQ(counters_now().system_mappings, 2);
    EXPECT(of_part != of_source + 50);
    of_part[3] ^= 0xFF;
    EXPECT_EQ(of_source[53], of_part[3]);
    of_part[3] ^= 0xFF;
    IoFreeMdl(part);
    EXPECT_PATTERN_AT(of_source, SOURCE_BYTES, SEED, SOURCE_AT);
    release_source(&source);
}

/* IoBuildPartialMdl-24, IoBuildPartialMdl-28: without the verifier the same holds: a part of a mapped source is at the
   source's address plus the distance, one of an unmapped source shows the same bytes. */
TEST(io_build_partial_mdl, build__without_the_verifier__shares_and_maps_alike)
{
    boot("verifier=off");
    const struct source source = make_source();
    const PMDL unmapped = part_of(source.mdl, source.base + PAGE_SIZE + 5, 2 * PAGE_SIZE);

    EXPECT_PATTERN_AT(system_address(unmapped), 2 * PAGE_SIZE, SEED, PAGE_SIZE + 5);
    UCHAR *const system = system_address(source.mdl);
    const PMDL part = part_of(source.mdl, source.base + PAGE_SIZE + 5, 2 * PAGE_SIZE);
    const struct pinion_counters before = counters_now();
    EXPECT_PTR_EQ(system_address(part), system + PAGE_SIZE + 5 - SOURCE_AT);
    EXPECT_SAME_COUNTERS(before);
    EXPECT_EQ(counters_now().host_calls, before.host_calls);
    IoFreeMdl(part);
    IoFreeMdl(unmapped);
    EXPECT_PATTERN_AT(system, SOURCE_BYTES, SEED, SOURCE_AT);
    release_source(&source);
}

/* IoBuildPartialMdl-32: freeing a part releases the mapping that was made for it. */
SILENT_TEST(io_build_partial_mdl, free__part_with_its_own_mapping__releases_it)
{
    const struct source source = make_source();
    const struct pinion_counters before = counters_now();
    const PMDL part = part_of(source.mdl, source.va, SOURCE_BYTES);

    system_address(part);
    EXPECT_EQ(counters_now().system_mappings, before.system_mappings + 1);
    IoFreeMdl(part);
    EXPECT_SAME_COUNTERS(before);
    release_source(&source);
}

/* IoBuildPartialMdl-33: a mapping that a part merely shares survives the preparing and the freeing of the part. */
SILENT_TEST(io_build_partial_mdl, free__part_that_shares_a_mapping__leaves_it)
{
    const struct source source = make_source();
    UCHAR *const system = system_address(source.mdl);
    const struct pinion_counters before = counters_now();
    const PMDL freed = part_of(source.mdl, source.va + 1, PAGE_SIZE);
    const PMDL prepared = part_of(source.mdl, source.va + 2, PAGE_SIZE);

    system_address(freed);
    system_address(prepared);
    MmPrepareMdlForReuse(prepared);
    EXPECT_PATTERN_AT(system, SOURCE_BYTES, SEED, SOURCE_AT);
    IoFreeMdl(freed);
    IoFreeMdl(prepared);
    EXPECT_PATTERN_AT(system, SOURCE_BYTES, SEED, SOURCE_AT);
    EXPECT_PTR_EQ(system_address(source.mdl), system);
    EXPECT_SAME_COUNTERS(before);
    release_source(&source);
}

static void reuse_without_preparing(HARNESS_UNUSED void *context)
{
    const struct source source = make_source();
    const PMDL part = part_of(source.mdl, source.va, PAGE_SIZE);

    system_address(part);
    IoBuildPartialMdl(source.mdl, part, source.va + PAGE_SIZE, PAGE_SIZE);
    EXPECT_EQ(counters_now().system_mappings, 1);
    expect_part(source.mdl, part, source.va + PAGE_SIZE, PAGE_SIZE);
    IoFreeMdl(part);
    EXPECT_EQ(counters_now().system_mappings, 1);
    release_source(&source);
}

/* IoBuildPartialMdl-31: a part that was mapped and is built anew without MmPrepareMdlForReuse leaks its mapping, and is
   reported there and then. */
TEST_UNTIDY(io_build_partial_mdl, build__target_still_mapped__leaks_and_is_reported)
{
    const struct stop stop = run_until_stop(reuse_without_preparing, NULL);

    EXPECT_EQ(stop.exit_status, 0);
    EXPECT_EQ(stop_warnings(&stop, "partial-mapping-leaked"), 1);
}

/* IoBuildPartialMdl-31: with MmPrepareMdlForReuse in between the same is silent, any number of times. */
SILENT_TEST(io_build_partial_mdl, build__target_prepared__is_silent)
{
    const struct source source = make_source();
    const PMDL part = mdl_over(source.va, SOURCE_BYTES);

    for (SIZE_T i = 0; i < ARRAYSIZE(ranges); i++) {
        IoBuildPartialMdl(source.mdl, part, source.base + ranges[i].at, ranges[i].bytes);
        EXPECT_PATTERN_AT(system_address(part), ranges[i].bytes, SEED, ranges[i].at);
        MmPrepareMdlForReuse(part);
        EXPECT_EQ(counters_now().system_mappings, 0);
    }
    IoFreeMdl(part);
    release_source(&source);
}

/* ---- Processes ------------------------------------------------------------------------------------------------- */

struct two_processes {
    PEPROCESS owner;
    PEPROCESS other;
};

static struct two_processes two_processes(void)
{
    const struct two_processes processes = {pinion_process_create("owner"), pinion_process_create("other")};

    EXPECT(processes.owner != NULL && processes.other != NULL);
    pinion_process_attach(processes.owner);
    return processes;
}

/* IoBuildPartialMdl-09, IoBuildPartialMdl-40, IoBuildPartialMdl-41: in another process the range is still named by the
   address that the source has in its own; the part keeps that address, which means nothing there, and its data is at
   its system address. */
SILENT_TEST(io_build_partial_mdl, build__in_another_process__counts_from_the_address_of_the_source)
{
    const struct two_processes processes = two_processes();
    const struct source source = make_source();

    pinion_process_attach(processes.other);
    for (SIZE_T i = 0; i < ARRAYSIZE(ranges); i++) {
        PVOID const va = (PUCHAR)MmGetMdlVirtualAddress(source.mdl) + (ranges[i].at - SOURCE_AT);
        const PMDL part = part_of(source.mdl, va, ranges[i].bytes);

        expect_part(source.mdl, part, va, ranges[i].bytes);
        EXPECT_PTR_EQ(MmGetMdlVirtualAddress(part), source.base + ranges[i].at);
        EXPECT_PATTERN_AT(system_address(part), ranges[i].bytes, SEED, ranges[i].at);
        IoFreeMdl(part);
    }
    pinion_process_attach(processes.owner);
    release_source(&source);
    pinion_process_attach(NULL);
    pinion_process_exit(processes.owner);
    pinion_process_exit(processes.other);
}

/* IoBuildPartialMdl-41: the address of a part is as good at another thread's process as when it was made, also when the
   buffer itself has been freed in the meantime: the lock keeps its pages. */
SILENT_TEST(io_build_partial_mdl, map__buffer_freed_by_its_process__part_still_shows_it)
{
    const struct source source = make_source();
    const PMDL part = part_of(source.mdl, source.base + PAGE_SIZE + 1, PAGE_SIZE);

    pinion_user_free(source.base);
    EXPECT_PATTERN_AT(system_address(part), PAGE_SIZE, SEED, PAGE_SIZE + 1);
    IoFreeMdl(part);
    unlock_and_free(source.mdl);
}

/* ---- IRQL ------------------------------------------------------------------------------------------------------ */

/* IoBuildPartialMdl-37: it may be called at DISPATCH_LEVEL. */
SILENT_TEST(io_build_partial_mdl, build__dispatch_level__works)
{
    const struct source source = make_source();
    const PMDL part = mdl_over(source.va, SOURCE_BYTES);
    const KIRQL before = raise_irql(DISPATCH_LEVEL);

    IoBuildPartialMdl(source.mdl, part, source.va, SOURCE_BYTES);
    expect_part(source.mdl, part, source.va, SOURCE_BYTES);
    EXPECT_PATTERN_AT(system_address(part), SOURCE_BYTES, SEED, SOURCE_AT);
    MmPrepareMdlForReuse(part);
    KeLowerIrql(before);
    IoFreeMdl(part);
    release_source(&source);
}

/* IoBuildPartialMdl-37: above DISPATCH_LEVEL it is reported. */
WARN_TEST(io_build_partial_mdl, build__above_dispatch_level__warns, "irql-too-high")
{
    const struct source source = make_source();
    const PMDL part = mdl_over(source.va, SOURCE_BYTES);
    const KIRQL before = raise_irql(DISPATCH_LEVEL + 1);

    IoBuildPartialMdl(source.mdl, part, source.va, 1);
    KeLowerIrql(before);
    IoFreeMdl(part);
    release_source(&source);
}
