/* SPDX-License-Identifier: MIT */
/*
 * IoBuildPartialMdl: which bytes a partial MDL describes, of which sources, whose mapping it has, who releases it, and
 * what stops a driver that names a range outside the source, a target too small, or an MDL that is gone.
 *
 *      page 0          page 1          page 2               page 6
 *     |.....[ source MDL ...............................]....|
 *                |<- part ->|
 */

#include "harness.h"
#include <wdm.h>

#include "io_stack.h"
#include "support.h"

#include <string.h>

enum {
    SEED = 9,
    PAGES = 7,                              /* of the buffer; the source touches them all */
    SOURCE_AT = 700,                        /* its offset in the first one */
    SOURCE_BYTES = 6 * PAGE_SIZE + 900,
    SOURCE_END = SOURCE_AT + SOURCE_BYTES,
};

/* A patterned buffer of the current process, and a locked MDL over most of it. */
struct source {
    UCHAR *base;
    UCHAR *va;
    PMDL mdl;
};

static struct source make_source(void)
{
    UCHAR *const base = user_pattern(PAGES, SEED);

    return (struct source){base, base + SOURCE_AT, locked_mdl(base + SOURCE_AT, SOURCE_BYTES)};
}

static void release_source(const struct source *source)
{
    unlock_and_free(source->mdl);
    pinion_user_free(source->base);
}

/* A new MDL with room for exactly this range, built over it. */
static PMDL part_of(PMDL source, PVOID va, ULONG bytes)
{
    const PMDL part = mdl_over(va, bytes);

    IoBuildPartialMdl(source, part, va, bytes);
    return part;
}

/* What the page promises of the header and the page numbers of a part. */
static void expect_part(PMDL source, PMDL part, PVOID va, ULONG bytes)
{
    const SIZE_T first = ((ULONG_PTR)PAGE_ALIGN(va) - (ULONG_PTR)MmGetMdlBaseVa(source)) >> PAGE_SHIFT;

    EXPECT_PTR_EQ(MmGetMdlVirtualAddress(part), va);
    EXPECT_PTR_EQ(MmGetMdlBaseVa(part), PAGE_ALIGN(va));
    EXPECT_EQ(MmGetMdlByteOffset(part), BYTE_OFFSET(va));
    EXPECT_EQ(MmGetMdlByteCount(part), bytes);
    EXPECT_MEM_EQ(MmGetMdlPfnArray(part), MmGetMdlPfnArray(source) + first, mdl_pages(part) * sizeof(PFN_NUMBER));
    EXPECT_EQ(part->MdlFlags & (MDL_PARTIAL | MDL_PAGES_LOCKED | MDL_PARTIAL_HAS_BEEN_MAPPED), MDL_PARTIAL);
}

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

/* ---- Range and target ------------------------------------------------------------------------------------------ */

/* Ranges that are not inside the source: at, start and length; relative to the source's start, or absolute. */
struct bad_range {
    const char *name;
    LONG64 at;
    ULONG bytes;
};

static const struct bad_range bad_ranges[] = {
    {"one byte before the source", -1, 1},
    {"starts a byte before the source", -1, 2},
    {"starts a page before the source", -PAGE_SIZE, 1},
    {"ends a byte past the source", 0, SOURCE_BYTES + 1},
    {"last byte and the next", SOURCE_BYTES - 1, 2},
    {"first byte behind the source", SOURCE_BYTES, 1},
    {"rest of the page behind the source", SOURCE_BYTES, 0},
    {"the rest, from past the end", SOURCE_BYTES + 1, 0},
    {"far behind the source", SOURCE_BYTES + 100 * PAGE_SIZE, PAGE_SIZE},
    {"inside, but as long as can be", 1, MAXULONG},
    {"as long as the source, a byte late", 1, SOURCE_BYTES},
};

/* What the child shares with the test: the arguments, and a target in memory that both see. */
struct bad_build {
    const struct bad_range *range;
    uint64_t *words;
};

enum { WORD_SOURCE, WORD_TARGET, WORD_VA, WORD_LENGTH, WORD_COPY = 16, WORD_MDL = 64, WORDS_OF_MDL = 32 };

/* An MDL in the shared page with room for 20 page numbers, filled with something to be recognised. */
static PMDL shared_target(uint64_t *words)
{
    const PMDL target = (PMDL)(words + WORD_MDL);

    for (int i = 0; i < WORDS_OF_MDL; i++)
        words[WORD_MDL + i] = 0x5151515151515151 + (uint64_t)i;
    target->Process = NULL;
    target->MappedSystemVa = NULL;
    MmInitializeMdl(target, NULL, 20 * PAGE_SIZE);
    memcpy(words + WORD_COPY, target, WORDS_OF_MDL * sizeof(uint64_t));
    return target;
}

static void build_bad_range(void *context)
{
    const struct bad_build *const bad = context;
    const struct source source = make_source();
    UCHAR *const va = source.va + bad->range->at;
    const PMDL target = shared_target(bad->words);

    bad->words[WORD_SOURCE] = (uintptr_t)source.mdl;
    bad->words[WORD_TARGET] = (uintptr_t)target;
    bad->words[WORD_VA] = (uintptr_t)va;
    bad->words[WORD_LENGTH] = bad->range->bytes;
    IoBuildPartialMdl(source.mdl, target, va, bad->range->bytes);
}

/* IoBuildPartialMdl-13, IoBuildPartialMdl-44: a range that is not inside the source, by a byte or by far, or that is
   "the rest" from its end on (ruling 10), stops with the four arguments, before anything is written (ruling 11). */
TEST_UNTIDY(io_build_partial_mdl, build__range_outside_the_source__stops)
{
    uint64_t *const words = shared_words();

    C_ASSERT(WORD_COPY + WORDS_OF_MDL <= WORD_MDL);
    for (SIZE_T i = 0; i < ARRAYSIZE(bad_ranges); i++) {
        struct bad_build bad = {&bad_ranges[i], words};
        const struct stop stop = run_until_stop(build_bad_range, &bad);

        if (!stop.stopped || stop.code != 0x12E)
            harness_fail(HARNESS_HERE, "a range that is %s does not stop with 0x12E: %s", bad_ranges[i].name,
                         stop.stderr_text);
        EXPECT_EQ(stop.p[0], words[WORD_SOURCE]);
        EXPECT_EQ(stop.p[1], words[WORD_TARGET]);
        EXPECT_EQ(stop.p[2], words[WORD_VA]);
        EXPECT_EQ(stop.p[3], words[WORD_LENGTH]);
        EXPECT_MEM_EQ(words + WORD_MDL, words + WORD_COPY, WORDS_OF_MDL * sizeof(uint64_t));
    }
}

/* IoBuildPartialMdl-13: without the verifier the same ranges leave the target as it was (ruling 11). */
TEST(io_build_partial_mdl, build__range_outside_the_source_without_the_verifier__changes_nothing)
{
    static uint64_t words[WORD_MDL + WORDS_OF_MDL];

    boot("verifier=off");
    const struct source source = make_source();
    const PMDL target = shared_target(words);
    const struct pinion_counters before = counters_now();
    for (SIZE_T i = 0; i < ARRAYSIZE(bad_ranges); i++) {
        IoBuildPartialMdl(source.mdl, target, source.va + bad_ranges[i].at, bad_ranges[i].bytes);
        EXPECT_MEM_EQ(words + WORD_MDL, words + WORD_COPY, WORDS_OF_MDL * sizeof(uint64_t));
    }
    EXPECT_SAME_COUNTERS(before);
    release_source(&source);
}

static void build_from_mapped_address(void *context)
{
    uint64_t *const words = context;
    const struct source source = make_source();
    UCHAR *const system = system_address(source.mdl);

    words[0] = (uintptr_t)system + 100;
    IoBuildPartialMdl(source.mdl, mdl_over(system + 100, 10), system + 100, 10);
}

/* IoBuildPartialMdl-09, IoBuildPartialMdl-44: the mapped address of the source is not the one that its ranges are
   counted from. */
TEST_UNTIDY(io_build_partial_mdl, build__range_named_by_the_mapped_address__stops)
{
    uint64_t *const words = shared_words();
    const struct stop stop = run_until_stop(build_from_mapped_address, words);

    EXPECT(stop.stopped);
    EXPECT_EQ(stop.code, 0x12E);
    EXPECT_EQ(stop.p[2], words[0]);
    EXPECT_EQ(stop.p[3], 10);
}

static void build_into_small_target(HARNESS_UNUSED void *context)
{
    const struct source source = make_source();

    IoBuildPartialMdl(source.mdl, mdl_over(NULL, PAGE_SIZE), source.base + PAGE_SIZE - 1, 2);
}

/* IoBuildPartialMdl-07, IoBuildPartialMdl-43: a target that was allocated for the length, and not for where in its page
   the range starts, is a page too small: it stops, with no parameters. */
TEST_UNTIDY(io_build_partial_mdl, build__target_a_page_too_small__stops)
{
    const struct stop stop = run_until_stop(build_into_small_target, NULL);

    EXPECT(stop.stopped);
    EXPECT_EQ(stop.code, 0x40);
    for (int i = 0; i < 4; i++)
        EXPECT_EQ(stop.p[i], 0);
}

static void build_into_small_target_of_mine(void *context)
{
    uint64_t *const words = context;
    const struct source source = make_source();
    const PMDL target = shared_target(words);

    target->Size = sizeof(MDL) + 2 * sizeof(PFN_NUMBER);
    ((PMDL)(words + WORD_COPY))->Size = target->Size;
    IoBuildPartialMdl(source.mdl, target, source.base + PAGE_SIZE - 1, PAGE_SIZE + 2);
}

/* IoBuildPartialMdl-43: the same holds for a target that the driver made itself, whose Size says what it holds; nothing
   is written into it. */
TEST_UNTIDY(io_build_partial_mdl, build__target_of_the_drivers_own_too_small__stops_and_writes_nothing)
{
    uint64_t *const words = shared_words();
    const struct stop stop = run_until_stop(build_into_small_target_of_mine, words);

    EXPECT(stop.stopped);
    EXPECT_EQ(stop.code, 0x40);
    EXPECT_MEM_EQ(words + WORD_MDL, words + WORD_COPY, WORDS_OF_MDL * sizeof(uint64_t));
}

/* IoBuildPartialMdl-07: without the verifier a target too small is left as it was (ruling 11). */
TEST(io_build_partial_mdl, build__target_too_small_without_the_verifier__changes_nothing)
{
    struct {
        MDL header;
        PFN_NUMBER page;
    } before;

    boot("verifier=off");
    const struct source source = make_source();
    const PMDL target = mdl_over(NULL, PAGE_SIZE);
    memcpy(&before, target, sizeof(before));
    IoBuildPartialMdl(source.mdl, target, source.base + PAGE_SIZE - 1, 2);
    EXPECT_MEM_EQ(target, &before, sizeof(before));
    IoBuildPartialMdl(source.mdl, target, source.va, 0);
    EXPECT_MEM_EQ(target, &before, sizeof(before));
    IoBuildPartialMdl(source.mdl, target, source.base + PAGE_SIZE, PAGE_SIZE);
    expect_part(source.mdl, target, source.base + PAGE_SIZE, PAGE_SIZE);
    IoFreeMdl(target);
    release_source(&source);
}

/* The Size of an MDL has 16 bits: from 4090 pages on it is negative, from 8186 on it starts again. */
static const SIZE_T page_counts_around_size[] = {4089, 4090, 4091, 8185, 8186, 8187, 8192};

/* IoBuildPartialMdl-07: the room of an allocated target is what it was allocated for, also where its 16-bit Size cannot
   say so. */
SILENT_TEST(io_build_partial_mdl, build__target_larger_than_its_size_can_say__is_large_enough)
{
    UCHAR *const base = user_pages(8193, PAGE_READWRITE);
    const PMDL source = locked_mdl(base, 8193 * PAGE_SIZE);

    for (SIZE_T i = 0; i < ARRAYSIZE(page_counts_around_size); i++) {
        const ULONG bytes = (ULONG)page_counts_around_size[i] * PAGE_SIZE;
        const PMDL part = part_of(source, base + PAGE_SIZE, bytes);

        expect_part(source, part, base + PAGE_SIZE, bytes);
        IoFreeMdl(part);
    }
    unlock_and_free(source);
    pinion_user_free(base);
}

static void build_into_small_large_target(void *context)
{
    const ULONG bytes = (ULONG)(*(const SIZE_T *)context * PAGE_SIZE);
    UCHAR *const base = user_pages(8193, PAGE_READWRITE);

    IoBuildPartialMdl(locked_mdl(base, 8193 * PAGE_SIZE), mdl_over(base, bytes), base + 1, bytes);
}

/* IoBuildPartialMdl-43: and it is too small by a page where it is, however large. */
TEST_UNTIDY(io_build_partial_mdl, build__target_larger_than_its_size_can_say__may_be_too_small)
{
    for (SIZE_T i = 0; i < ARRAYSIZE(page_counts_around_size); i++) {
        const struct stop stop = run_until_stop(build_into_small_large_target, (void *)&page_counts_around_size[i]);

        EXPECT(stop.stopped);
        EXPECT_EQ(stop.code, 0x40);
    }
}

/* IoBuildPartialMdl-06: a target may be larger than the range needs, by a page or by many: the usual container, allocated
   for NULL and a page more than the longest part. */
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

/* ---- Locks ----------------------------------------------------------------------------------------------------- */

static void lock_part(void *context)
{
    uint64_t *const words = context;
    const struct source source = make_source();
    const PMDL part = part_of(source.mdl, source.va, 100);

    words[0] = (uintptr_t)part;
    words[1] = mdl_flags(part);
    MmProbeAndLockPages(part, UserMode, IoReadAccess);
}

/* IoBuildPartialMdl-42: a part describes pages that are locked already and must not be locked itself. */
TEST_UNTIDY(io_build_partial_mdl, lock__part__stops)
{
    uint64_t *const words = shared_words();
    const struct stop stop = expect_stop(lock_part, words, 0xC4, 0xB0);

    EXPECT_EQ(stop.p[1], words[0]);
    EXPECT_EQ(stop.p[2], words[1]);
    EXPECT(stop.p[3] & MDL_PARTIAL);
}

static void unlock_part(void *context)
{
    uint64_t *const words = context;
    const struct source source = make_source();
    const PMDL part = part_of(source.mdl, source.va, 100);

    words[0] = (uintptr_t)part;
    words[1] = mdl_flags(part);
    MmUnlockPages(part);
}

/* IoBuildPartialMdl-42: nor unlocked: the lock is the source's. */
TEST_UNTIDY(io_build_partial_mdl, unlock__part__stops)
{
    uint64_t *const words = shared_words();
    const struct stop stop = expect_stop(unlock_part, words, 0xC4, 0xB4);

    EXPECT_EQ(stop.p[1], words[0]);
    EXPECT_EQ(stop.p[2], words[1]);
    EXPECT_EQ(stop.p[3], MDL_PARTIAL);
}

/* IoBuildPartialMdl-42: a part takes no lock and gives none back: the pages are locked once, before and after. */
SILENT_TEST(io_build_partial_mdl, build__part__holds_no_lock)
{
    const struct source source = make_source();
    const PMDL part = part_of(source.mdl, source.va, SOURCE_BYTES);

    EXPECT_EQ(counters_now().locked_pages, PAGES);
    MmUnlockPages(source.mdl);
    EXPECT_EQ(counters_now().locked_pages, 0);
    EXPECT_EQ(pinion_trim(), PAGES);
    IoFreeMdl(part);
    IoFreeMdl(source.mdl);
    pinion_user_free(source.base);
}

static void build_over_locked(HARNESS_UNUSED void *context)
{
    const struct source source = make_source();
    const struct source target = make_source();

    IoBuildPartialMdl(source.mdl, target.mdl, source.va, 100);
}

/* A target that holds a lock of its own loses its hold on it: that is reported there and then. */
TEST_UNTIDY(io_build_partial_mdl, build__target_holds_a_lock__is_reported)
{
    const struct stop stop = run_until_stop(build_over_locked, NULL);

    EXPECT_EQ(stop.exit_status, 0);
    EXPECT_EQ(stop_warnings(&stop, "partial-over-locked-mdl"), 1);
}

/* ---- Parts that outlive what they rest on ---------------------------------------------------------------------- */

static void touch_shared_mapping_of_unlocked(void *context)
{
    volatile UCHAR **const address = context;
    const struct source source = make_source();

    system_address(source.mdl);
    const PMDL part = part_of(source.mdl, source.va + 10, 10);
    *address = system_address(part);
    MmUnlockPages(source.mdl);
    (void)**address;
}

/* IoBuildPartialMdl-33: a shared mapping ends with the source's: touching it afterwards stops (ruling 12). */
TEST_UNTIDY(io_build_partial_mdl, touch__shared_mapping_after_the_source_was_unlocked__stops)
{
    uint64_t *const words = shared_words();
    const struct stop stop = run_until_stop(touch_shared_mapping_of_unlocked, words);

    EXPECT(stop.stopped);
    EXPECT_EQ(stop.code, 0x50);
    EXPECT_EQ(stop.p[0], words[0]);
    EXPECT_EQ(stop.p[1], 0);
}

static void touch_mapping_of_prepared_part(void *context)
{
    volatile UCHAR **const address = context;
    const struct source source = make_source();
    const PMDL child = part_of(source.mdl, source.va, PAGE_SIZE);

    system_address(child);
    const PMDL grandchild = part_of(child, source.va + 10, 10);
    MmPrepareMdlForReuse(child);
    *address = system_address(grandchild);
    (void)**address;
}

/* IoBuildPartialMdl-33: nor may a part of a part use the mapping after the part between released it (ruling 7). */
TEST_UNTIDY(io_build_partial_mdl, touch__mapping_that_the_part_between_released__stops)
{
    uint64_t *const words = shared_words();
    const struct stop stop = run_until_stop(touch_mapping_of_prepared_part, words);

    EXPECT(stop.stopped);
    EXPECT(stop.code == 0x50 || stop.code == 0xC4);
}

static void map_part_of_unlocked(void *context)
{
    uint64_t *const words = context;
    const struct source source = make_source();
    const PMDL part = part_of(source.mdl, source.base + PAGE_SIZE, 2 * PAGE_SIZE);

    words[0] = (uintptr_t)part;
    MmUnlockPages(source.mdl);
    MmGetSystemAddressForMdlSafe(part, NORMAL_NX);
}

/* IoBuildPartialMdl-19, IoBuildPartialMdl-27: a part cannot be mapped once its source was unlocked: its pages are not
   locked any more. */
TEST_UNTIDY(io_build_partial_mdl, map__part_of_a_source_that_was_unlocked__stops)
{
    uint64_t *const words = shared_words();
    const struct stop stop = run_until_stop(map_part_of_unlocked, words);

    EXPECT(stop.stopped);
    EXPECT_EQ(stop.code, 0xC4);
    EXPECT(stop.p[0] == 0x85 || stop.p[0] == 0xB3);
    EXPECT_EQ(stop.p[1], words[0]);
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

/* ---- The MDL of a request -------------------------------------------------------------------------------------- */

/* Which argument the MDL of a request is that was completed before. */
enum late_argument { LATE_SOURCE, LATE_TARGET };

/* How the request came to the driver. */
enum request_kind { REQUEST_READ, REQUEST_WRITE, REQUEST_IOCTL, REQUEST_INTERNAL_IOCTL, REQUEST_KINDS };

struct late_use {
    enum request_kind kind;
    enum late_argument argument;
    uint64_t *words;
};

#define IOCTL_DIRECT CTL_CODE(FILE_DEVICE_UNKNOWN, 0x801, METHOD_OUT_DIRECT, FILE_ANY_ACCESS)

static const struct late_use *late_use;
static PMDL other_mdl;      /* of the driver's own, locked */
static PVOID other_va;

/* A driver that completes the request first and looks at its MDL afterwards. */
static NTSTATUS complete_and_build(HARNESS_UNUSED struct layer *layer, PIRP irp)
{
    const PMDL mdl = irp->MdlAddress;
    PVOID const va = MmGetMdlVirtualAddress(mdl);

    late_use->words[0] = (uintptr_t)mdl;
    layer_complete(irp, STATUS_SUCCESS, MmGetMdlByteCount(mdl));
    if (late_use->argument == LATE_SOURCE)
        IoBuildPartialMdl(mdl, other_mdl, va, 10);
    else
        IoBuildPartialMdl(other_mdl, mdl, other_va, 10);
    return STATUS_SUCCESS;
}

/* The same work in the right order. */
static NTSTATUS build_and_complete(HARNESS_UNUSED struct layer *layer, PIRP irp)
{
    const PMDL mdl = irp->MdlAddress;
    const ULONG bytes = MmGetMdlByteCount(mdl);
    const PMDL part = part_of(mdl, (PUCHAR)MmGetMdlVirtualAddress(mdl) + 10, 10);

    EXPECT_PATTERN_AT(system_address(part), 10, SEED, 10);
    IoFreeMdl(part);
    return layer_complete(irp, STATUS_SUCCESS, bytes);
}

static NTSTATUS free_mdl_and_irp(HARNESS_UNUSED PDEVICE_OBJECT device, PIRP irp, HARNESS_UNUSED PVOID context)
{
    unlock_and_free(irp->MdlAddress);
    irp->MdlAddress = NULL;
    IoFreeIrp(irp);
    return STATUS_MORE_PROCESSING_REQUIRED;
}

/* A request that another driver makes, and whose MDL that driver frees when it is back. */
static void send_internal_ioctl(PDEVICE_OBJECT device, PVOID buffer, ULONG bytes)
{
    const PIRP irp = IoAllocateIrp(device->StackSize, FALSE);

    irp->MdlAddress = locked_mdl(buffer, bytes);
    IoGetNextIrpStackLocation(irp)->MajorFunction = IRP_MJ_INTERNAL_DEVICE_CONTROL;
    IoSetCompletionRoutine(irp, free_mdl_and_irp, NULL, TRUE, TRUE, TRUE);
    IoCallDriver(device, irp);
}

static void send_request(PFILE_OBJECT file, PDEVICE_OBJECT device, enum request_kind kind, PVOID buffer, ULONG bytes)
{
    struct pinion_request request = {.operation = PINION_READ, .buffer = buffer, .bytes = bytes};
    uint64_t information;

    switch (kind) {
    case REQUEST_WRITE:
        request.operation = PINION_WRITE;
        /* fall through */
    case REQUEST_READ:
        EXPECT_STATUS(pinion_transfer(file, &request), STATUS_SUCCESS);
        break;
    case REQUEST_IOCTL:
        EXPECT_STATUS(pinion_control(file, IOCTL_DIRECT, NULL, 0, buffer, bytes, &information), STATUS_SUCCESS);
        break;
    default:
        send_internal_ioctl(device, buffer, bytes);
    }
}

/* One request of each kind to a direct-I/O device with this dispatch routine. */
static void run_requests(NTSTATUS (*dispatch)(struct layer *, PIRP), enum request_kind first, enum request_kind last)
{
    UCHAR *const buffer = user_pattern(2, SEED);
    struct layer layer;
    PFILE_OBJECT file;

    layer_create(&layer, DO_DIRECT_IO, dispatch);
    EXPECT_STATUS(pinion_open(layer.device, &file), STATUS_SUCCESS);
    for (enum request_kind kind = first; kind <= last; kind++)
        send_request(file, layer.device, kind, buffer, 2 * PAGE_SIZE);
    pinion_close(file);
    layer_destroy(&layer);
    pinion_user_free(buffer);
}

static void use_mdl_of_completed_request(void *context)
{
    late_use = context;
    other_va = user_pattern(1, SEED);
    other_mdl = late_use->argument == LATE_SOURCE ? mdl_over(other_va, 100 * PAGE_SIZE) : locked_mdl(other_va, 100);
    run_requests(complete_and_build, late_use->kind, late_use->kind);
}

/* IoBuildPartialMdl-38, IoBuildPartialMdl-45: once a read, a write or a device control has been completed its MDL is
   gone: a driver that kept it and passes it, as the source or as the target, is stopped, and the MDL named. */
TEST_UNTIDY(io_build_partial_mdl, build__mdl_of_a_completed_request__stops)
{
    static const char *const kinds[] = {"read", "write", "device control", "internal device control"};
    uint64_t *const words = shared_words();

    for (enum request_kind kind = 0; kind < REQUEST_KINDS; kind++) {
        for (enum late_argument argument = LATE_SOURCE; argument <= LATE_TARGET; argument++) {
            struct late_use late = {kind, argument, words};

            words[0] = 0;
            const struct stop stop = run_until_stop(use_mdl_of_completed_request, &late);
            if (!stop.stopped || stop.code != 0xCC)
                harness_fail(HARNESS_HERE, "%s, argument %d: no stop 0xCC, but: %s", kinds[kind], argument + 1,
                             stop.stderr_text);
            EXPECT_EQ(stop.p[0], words[0]);
        }
    }
}

/* IoBuildPartialMdl-38, IoBuildPartialMdl-45: before the request is completed, its MDL is a source like any other. */
SILENT_TEST(io_build_partial_mdl, build__mdl_of_a_request_in_progress__is_legal)
{
    run_requests(build_and_complete, 0, REQUEST_KINDS - 1);
}
