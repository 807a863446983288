/* SPDX-License-Identifier: MIT */
/*
 * MmAdvanceMdl: the start of an MDL moves forward and its end stays; pages that are passed are unlocked at once, and the
 * mapped address moves along.
 *
 *      before   |......[==========|===========|=======]....|
 *      after    |      passed     | ...[======|=======]....|
 *                 unlocked           still locked
 */

#include "harness.h"
#include <wdm.h>

#include "support.h"

#include <string.h>

enum {
    SEED = 33,
    PAGES = 6,                          /* of the buffer; the MDL touches them all */
    AT = 600,                           /* its offset in the first one */
    BYTES = 5 * PAGE_SIZE + 1000,
    END = AT + BYTES,
    TO_PAGE_1 = PAGE_SIZE - AT,         /* from the start to the first page edge */
};

/* A patterned buffer, and a locked MDL over most of it. */
struct locked {
    UCHAR *base;
    UCHAR *va;
    PMDL mdl;
};

static struct locked make_locked(void)
{
    UCHAR *const base = user_pattern(PAGES, SEED);

    return (struct locked){base, base + AT, locked_mdl(base + AT, BYTES)};
}

static void release(const struct locked *locked)
{
    unlock_and_free(locked->mdl);
    pinion_user_free(locked->base);
}

/* An MDL as it was. */
struct snapshot {
    MDL header;
    PFN_NUMBER pages[PAGES];
};

static struct snapshot snapshot_of(PMDL mdl)
{
    struct snapshot snapshot;

    memcpy(&snapshot, mdl, sizeof(snapshot));
    return snapshot;
}

/* What the page promises of an MDL after an advance, from what it was before. */
static void expect_advanced(PMDL mdl, const struct snapshot *before, ULONG bytes)
{
    UCHAR *const va = (UCHAR *)before->header.StartVa + before->header.ByteOffset + bytes;
    const SIZE_T passed = (before->header.ByteOffset + (SIZE_T)bytes) >> PAGE_SHIFT;

    EXPECT_PTR_EQ(MmGetMdlVirtualAddress(mdl), va);
    EXPECT_EQ(MmGetMdlByteCount(mdl), before->header.ByteCount - bytes);
    EXPECT_PTR_EQ(MmGetMdlBaseVa(mdl), PAGE_ALIGN(va));
    EXPECT_EQ(MmGetMdlByteOffset(mdl), BYTE_OFFSET(va));
    EXPECT(MmGetMdlByteOffset(mdl) < PAGE_SIZE);
    EXPECT_MEM_EQ(MmGetMdlPfnArray(mdl), before->pages + passed, mdl_pages(mdl) * sizeof(PFN_NUMBER));
}

/* Distances that stay in the first page, reach the next, pass one or more, and leave one byte. */
static const ULONG distances[] = {
    1,
    TO_PAGE_1 - 1,
    TO_PAGE_1,
    TO_PAGE_1 + 1,
    PAGE_SIZE,
    TO_PAGE_1 + PAGE_SIZE - 1,
    TO_PAGE_1 + PAGE_SIZE,
    TO_PAGE_1 + PAGE_SIZE + 1,
    TO_PAGE_1 + 3 * PAGE_SIZE - 1,
    TO_PAGE_1 + 4 * PAGE_SIZE - 1,
    TO_PAGE_1 + 4 * PAGE_SIZE,
    BYTES - 2,
    BYTES - 1,
};

/* Pages that an advance from the start passes. */
static SIZE_T pages_passed(ULONG bytes)
{
    return (AT + (SIZE_T)bytes) >> PAGE_SHIFT;
}

/* ---- The range ------------------------------------------------------------------------------------------------- */

/* MmAdvanceMdl-01, MmAdvanceMdl-05, MmAdvanceMdl-06, MmAdvanceMdl-27, MmAdvanceMdl-28, MmAdvanceMdl-30: the routine has
   the type of its page, is there beside IoBuildPartialMdl, and returns STATUS_SUCCESS when it has advanced. */
TEST(mm_advance_mdl, routine__by_its_documented_type__advances)
{
    NTSTATUS (*const advance)(PMDL, ULONG) = &MmAdvanceMdl;
    VOID (*const build_partial)(PMDL, PMDL, PVOID, ULONG) = &IoBuildPartialMdl;
    const struct locked locked = make_locked();

    EXPECT_STATUS(advance(locked.mdl, 1), STATUS_SUCCESS);
    EXPECT_EQ(STATUS_SUCCESS, 0);
    EXPECT_PTR_EQ(MmGetMdlVirtualAddress(locked.mdl), locked.va + 1);
    EXPECT(build_partial != NULL);
    release(&locked);
}

/* MmAdvanceMdl-02, MmAdvanceMdl-03, MmAdvanceMdl-04, MmAdvanceMdl-09, MmAdvanceMdl-10, MmAdvanceMdl-11,
   MmAdvanceMdl-12, MmAdvanceMdl-19: the MDL itself changes: its start moves by exactly so many bytes, its end stays, it
   is as much shorter, it is normalised, and its first page number is that of the page with the new first byte. */
TEST(mm_advance_mdl, advance__any_distance__moves_the_start_and_keeps_the_end)
{
    for (SIZE_T i = 0; i < ARRAYSIZE(distances); i++) {
        const struct locked locked = make_locked();
        const struct snapshot before = snapshot_of(locked.mdl);

        EXPECT_STATUS(MmAdvanceMdl(locked.mdl, distances[i]), STATUS_SUCCESS);
        expect_advanced(locked.mdl, &before, distances[i]);
        EXPECT_PTR_EQ((UCHAR *)MmGetMdlVirtualAddress(locked.mdl) + MmGetMdlByteCount(locked.mdl), locked.base + END);
        EXPECT_EQ(MmGetMdlPfnArray(locked.mdl)[0], frame_of(MmGetMdlVirtualAddress(locked.mdl)));
        EXPECT_PTR_EQ(locked.mdl->Next, NULL);
        EXPECT_EQ(locked.mdl->MdlFlags & (MDL_PAGES_LOCKED | MDL_PARTIAL | MDL_MAPPED_TO_SYSTEM_VA), MDL_PAGES_LOCKED);
        release(&locked);
    }
}

/* MmAdvanceMdl-14: it may be repeated any number of times: many steps are as good as one, in range, locks and data. */
TEST(mm_advance_mdl, advance__in_steps_of_any_size__adds_up)
{
    static const ULONG steps[] = {1, 7, 511, 512, PAGE_SIZE - 1, PAGE_SIZE, PAGE_SIZE + 1, 2 * PAGE_SIZE + 3};

    for (SIZE_T i = 0; i < ARRAYSIZE(steps); i++) {
        const struct locked locked = make_locked();
        const struct snapshot before = snapshot_of(locked.mdl);
        ULONG done = 0;

        while (done + steps[i] < BYTES) {
            EXPECT_STATUS(MmAdvanceMdl(locked.mdl, steps[i]), STATUS_SUCCESS);
            done += steps[i];
            EXPECT_EQ(counters_now().locked_pages, PAGES - pages_passed(done));
            expect_advanced(locked.mdl, &before, done);
        }
        EXPECT_PATTERN_AT(system_address(locked.mdl), BYTES - done, SEED, AT + done);
        release(&locked);
    }
}

/* Advancing by nothing succeeds and changes nothing (ruling 1). */
TEST(mm_advance_mdl, advance__zero_bytes__changes_nothing)
{
    const struct locked locked = make_locked();

    for (int mapped = 0; mapped < 2; mapped++) {
        if (mapped)
            system_address(locked.mdl);
        const struct pinion_counters counters = counters_now();
        const struct snapshot before = snapshot_of(locked.mdl);

        EXPECT_STATUS(MmAdvanceMdl(locked.mdl, 0), STATUS_SUCCESS);
        EXPECT_MEM_EQ(locked.mdl, &before, sizeof(before));
        EXPECT_SAME_COUNTERS(counters);
    }
    release(&locked);
}

/* MmAdvanceMdl-07, MmAdvanceMdl-08: to the end (ruling 1) and past it is STATUS_INVALID_PARAMETER_2, and a refused
   advance changes nothing: not the MDL, not its mapping, not a lock. */
TEST(mm_advance_mdl, advance__to_the_end_or_past_it__is_refused_and_changes_nothing)
{
    static const ULONG too_far[] = {BYTES,      BYTES + 1,     BYTES + PAGE_SIZE, 0x7FFFFFFF,
                                    0x80000000, MAXULONG - AT, MAXULONG};
    const struct locked locked = make_locked();

    EXPECT_EQ((ULONG)STATUS_INVALID_PARAMETER_2, 0xC00000F0);
    for (int mapped = 0; mapped < 2; mapped++) {
        if (mapped)
            system_address(locked.mdl);
        const struct snapshot before = snapshot_of(locked.mdl);
        const struct pinion_counters counters = counters_now();

        for (SIZE_T i = 0; i < ARRAYSIZE(too_far); i++) {
            EXPECT_STATUS(MmAdvanceMdl(locked.mdl, too_far[i]), STATUS_INVALID_PARAMETER_2);
            EXPECT_MEM_EQ(locked.mdl, &before, sizeof(before));
            EXPECT_SAME_COUNTERS(counters);
        }
    }
    EXPECT_PATTERN_AT(system_address(locked.mdl), BYTES, SEED, AT);
    EXPECT_EQ(pinion_trim(), 0);
    release(&locked);
}

/* MmAdvanceMdl-07, MmAdvanceMdl-08: what counts is what is left: after an advance the end is nearer. */
TEST(mm_advance_mdl, advance__past_what_an_advance_left__is_refused)
{
    const struct locked locked = make_locked();
    const struct snapshot before = snapshot_of(locked.mdl);

    EXPECT_STATUS(MmAdvanceMdl(locked.mdl, BYTES - 10), STATUS_SUCCESS);
    EXPECT_STATUS(MmAdvanceMdl(locked.mdl, 10), STATUS_INVALID_PARAMETER_2);
    EXPECT_STATUS(MmAdvanceMdl(locked.mdl, 9), STATUS_SUCCESS);
    EXPECT_STATUS(MmAdvanceMdl(locked.mdl, 1), STATUS_INVALID_PARAMETER_2);
    expect_advanced(locked.mdl, &before, BYTES - 1);
    EXPECT_EQ(counters_now().locked_pages, 1);
    EXPECT_PATTERN_AT(system_address(locked.mdl), 1, SEED, END - 1);
    release(&locked);
}

/* ---- Locks ----------------------------------------------------------------------------------------------------- */

/* MmAdvanceMdl-15, MmAdvanceMdl-16, MmAdvanceMdl-17: the pages that were passed are unlocked by the call itself, no
   other: those are what the system may take away, and the page with the new first byte is not among them. */
TEST(mm_advance_mdl, advance__any_distance__unlocks_the_pages_passed_and_no_other)
{
    for (SIZE_T i = 0; i < ARRAYSIZE(distances); i++) {
        const struct locked locked = make_locked();
        const SIZE_T passed = pages_passed(distances[i]);

        EXPECT_EQ(counters_now().locked_pages, PAGES);
        EXPECT_EQ(pinion_trim(), 0);
        EXPECT_STATUS(MmAdvanceMdl(locked.mdl, distances[i]), STATUS_SUCCESS);
        EXPECT_EQ(counters_now().locked_pages, PAGES - passed);
        EXPECT_EQ(pinion_trim(), passed);
        for (SIZE_T page = 0; page < PAGES; page++)
            EXPECT_EQ(MmIsAddressValid(locked.base + page * PAGE_SIZE), page >= passed);
        EXPECT_PATTERN(locked.base, PAGES * PAGE_SIZE, SEED);
        release(&locked);
    }
}

/* MmAdvanceMdl-15: the same without the verifier. */
TEST(mm_advance_mdl, advance__without_the_verifier__unlocks_the_pages_passed)
{
    boot("verifier=off");
    for (SIZE_T i = 0; i < ARRAYSIZE(distances); i++) {
        const struct locked locked = make_locked();
        const struct snapshot before = snapshot_of(locked.mdl);

        EXPECT_PATTERN_AT(system_address(locked.mdl), BYTES, SEED, AT);
        const struct snapshot mapped = snapshot_of(locked.mdl);
        EXPECT_EQ(pinion_trim(), 0);
        EXPECT_STATUS(MmAdvanceMdl(locked.mdl, distances[i]), STATUS_SUCCESS);
        expect_advanced(locked.mdl, &before, distances[i]);
        EXPECT_PTR_EQ(system_address(locked.mdl), (UCHAR *)mapped.header.MappedSystemVa + distances[i]);
        EXPECT_PATTERN_AT(system_address(locked.mdl), BYTES - distances[i], SEED, AT + distances[i]);
        EXPECT_EQ(pinion_trim(), pages_passed(distances[i]));
        release(&locked);
        EXPECT_EQ(counters_now().locked_pages, 0);
    }
}

/* MmAdvanceMdl-15, MmAdvanceMdl-16: a page that another MDL locks too stays, and loses one of its locks. */
TEST(mm_advance_mdl, advance__pages_locked_twice__keep_the_other_lock)
{
    const struct locked locked = make_locked();
    const PMDL other = locked_mdl(locked.base + PAGE_SIZE, PAGE_SIZE);

    EXPECT_EQ(counters_now().locked_pages, PAGES + 1);
    EXPECT_STATUS(MmAdvanceMdl(locked.mdl, TO_PAGE_1 + 2 * PAGE_SIZE), STATUS_SUCCESS);
    EXPECT_EQ(counters_now().locked_pages, PAGES + 1 - 3);
    EXPECT_EQ(pinion_trim(), 2);
    EXPECT(MmIsAddressValid(locked.base + PAGE_SIZE));
    MmUnlockPages(other);
    EXPECT_EQ(pinion_trim(), 1);
    IoFreeMdl(other);
    release(&locked);
}

/* MmAdvanceMdl-16: unlocking after an advance unlocks what was left, once: the buffer is free, and may be locked
   anew. */
SILENT_TEST(mm_advance_mdl, advance__then_unlocked__nothing_is_left)
{
    for (SIZE_T i = 0; i < ARRAYSIZE(distances); i++) {
        const struct locked locked = make_locked();

        EXPECT_STATUS(MmAdvanceMdl(locked.mdl, distances[i]), STATUS_SUCCESS);
        MmUnlockPages(locked.mdl);
        EXPECT_EQ(counters_now().locked_pages, 0);
        EXPECT_EQ(pinion_trim(), PAGES);
        EXPECT_STATUS(try_lock(locked.mdl, UserMode, IoWriteAccess), STATUS_SUCCESS);
        EXPECT_EQ(counters_now().locked_pages, PAGES - pages_passed(distances[i]));
        EXPECT_EQ(MmGetMdlPfnArray(locked.mdl)[0], frame_of(MmGetMdlVirtualAddress(locked.mdl)));
        release(&locked);
    }
}

static void exit_with_the_rest_locked(HARNESS_UNUSED void *context)
{
    const PEPROCESS process = pinion_process_create("advanced");

    pinion_process_attach(process);
    const struct locked locked = make_locked();
    EXPECT_STATUS(MmAdvanceMdl(locked.mdl, TO_PAGE_1 + PAGE_SIZE), STATUS_SUCCESS);
    pinion_process_attach(NULL);
    pinion_process_exit(process);
}

/* MmAdvanceMdl-15, MmAdvanceMdl-16: a process that ends after an advance has as many pages locked as were left. */
TEST_UNTIDY(mm_advance_mdl, advance__process_ends_afterwards__only_the_rest_was_locked)
{
    const struct stop stop = run_until_stop(exit_with_the_rest_locked, NULL);

    EXPECT(stop.stopped);
    EXPECT(stop.code == 0x76 || stop.code == 0xCB);
    EXPECT_EQ(stop.code == 0x76 ? stop.p[2] : stop.p[3], PAGES - 2);
}

/* MmAdvanceMdl-15: a buffer of many pages, more than a large page of them: each step unlocks what it passed. */
TEST(mm_advance_mdl, advance__through_megabytes__unlocks_page_by_page)
{
    enum { MANY = 1200 };
    UCHAR *const va = user_pages(MANY, PAGE_READWRITE);
    const PMDL mdl = locked_mdl(va, MANY * PAGE_SIZE);

    va[700 * PAGE_SIZE] = 77;
    for (SIZE_T done = 0; done < 700; done += 7) {
        EXPECT_EQ(counters_now().locked_pages, MANY - done);
        EXPECT_STATUS(MmAdvanceMdl(mdl, 7 * PAGE_SIZE), STATUS_SUCCESS);
    }
    EXPECT_EQ(system_address(mdl)[0], 77);
    EXPECT_EQ(pinion_trim(), 700);
    EXPECT_EQ(MmGetMdlPfnArray(mdl)[0], frame_of(va + 700 * PAGE_SIZE));
    MmUnlockPages(mdl);
    EXPECT_EQ(counters_now().locked_pages, 0);
    EXPECT_EQ(pinion_trim(), MANY - 700);
    IoFreeMdl(mdl);
    pinion_user_free(va);
}

/* ---- Mappings -------------------------------------------------------------------------------------------------- */

/* MmAdvanceMdl-18: the system address of a mapped MDL moves by as much, within the first page too (rulings): asking for
   it gives the old one plus the distance, where the new first byte is, and makes no new mapping. */
SILENT_TEST(mm_advance_mdl, advance__mapped__system_address_moves_along)
{
    for (SIZE_T i = 0; i < ARRAYSIZE(distances); i++) {
        const struct locked locked = make_locked();
        UCHAR *const system = system_address(locked.mdl);
        const struct pinion_counters before = counters_now();

        EXPECT_STATUS(MmAdvanceMdl(locked.mdl, distances[i]), STATUS_SUCCESS);
        EXPECT_PTR_EQ(system_address(locked.mdl), system + distances[i]);
        EXPECT_EQ(counters_now().system_mappings, before.system_mappings);
        EXPECT_PATTERN_AT(system_address(locked.mdl), BYTES - distances[i], SEED, AT + distances[i]);
        system[distances[i]] ^= 0xFF;
        EXPECT_EQ(locked.va[distances[i]], (UCHAR)~pattern_byte(SEED, AT + distances[i]));
        MmUnlockPages(locked.mdl);
        EXPECT_EQ(counters_now().system_mappings, 0);
        EXPECT_EQ(counters_now().system_pages_mapped, 0);
        IoFreeMdl(locked.mdl);
        pinion_user_free(locked.base);
    }
}

/* MmAdvanceMdl-18: the moved address is the one to unmap by, and all of the mapping goes. */
SILENT_TEST(mm_advance_mdl, advance__mapped_then_unmapped_by_hand__nothing_is_left)
{
    for (SIZE_T i = 0; i < ARRAYSIZE(distances); i++) {
        const struct locked locked = make_locked();

        system_address(locked.mdl);
        EXPECT_STATUS(MmAdvanceMdl(locked.mdl, distances[i]), STATUS_SUCCESS);
        MmUnmapLockedPages(system_address(locked.mdl), locked.mdl);
        EXPECT_EQ(counters_now().system_mappings, 0);
        EXPECT_EQ(counters_now().system_pages_mapped, 0);
        EXPECT_PATTERN_AT(system_address(locked.mdl), BYTES - distances[i], SEED, AT + distances[i]);
        release(&locked);
    }
}

static void touch_passed_part_of_mapping(void *context)
{
    volatile UCHAR **const address = context;
    const struct locked locked = make_locked();

    *address = system_address(locked.mdl);
    EXPECT_STATUS(MmAdvanceMdl(locked.mdl, TO_PAGE_1 + 2 * PAGE_SIZE), STATUS_SUCCESS);
    MmUnlockPages(locked.mdl);
    (void)**address;
}

/* MmAdvanceMdl-18: with the mapping of an MDL that was advanced goes the part of it that was passed, too (ruling 3). */
TEST_UNTIDY(mm_advance_mdl, advance__mapped_then_unlocked__passed_part_of_the_mapping_is_gone)
{
    uint64_t *const words = shared_words();
    const struct stop stop = run_until_stop(touch_passed_part_of_mapping, words);

    EXPECT(stop.stopped);
    EXPECT_EQ(stop.code, 0x50);
    EXPECT_EQ(stop.p[0], words[0]);
}

/* MmAdvanceMdl-18: an MDL that is mapped only after an advance is mapped from its new start. */
SILENT_TEST(mm_advance_mdl, advance__mapped_afterwards__maps_what_is_left)
{
    for (SIZE_T i = 0; i < ARRAYSIZE(distances); i++) {
        const struct locked locked = make_locked();

        EXPECT_STATUS(MmAdvanceMdl(locked.mdl, distances[i]), STATUS_SUCCESS);
        EXPECT_PATTERN_AT(system_address(locked.mdl), BYTES - distances[i], SEED, AT + distances[i]);
        EXPECT_EQ(counters_now().system_pages_mapped, mdl_pages(locked.mdl));
        release(&locked);
    }
}

/* MmAdvanceMdl-18: a mapping into a process is a thing of its own (ruling 5): its address stays, and unmaps it. */
SILENT_TEST(mm_advance_mdl, advance__mapped_into_a_process__that_mapping_stays)
{
    const struct locked locked = make_locked();
    UCHAR *const user = map_user(locked.mdl);

    EXPECT_PATTERN_AT(user, BYTES, SEED, AT);
    EXPECT_STATUS(MmAdvanceMdl(locked.mdl, 5), STATUS_SUCCESS);
    EXPECT_PATTERN_AT(user, BYTES, SEED, AT);
    MmUnmapLockedPages(user, locked.mdl);
    release(&locked);
}

/* ---- Other MDLs ------------------------------------------------------------------------------------------------ */

/* MmAdvanceMdl-02, MmAdvanceMdl-18: an MDL of nonpaged memory moves in its block, its system address with it, and no
   lock changes (ruling 2). */
SILENT_TEST(mm_advance_mdl, advance__nonpaged_pool__moves_in_the_block)
{
    UCHAR *const block = pool_pages(PAGES);

    fill_pattern(block, PAGES * PAGE_SIZE, SEED);
    for (SIZE_T i = 0; i < ARRAYSIZE(distances); i++) {
        const PMDL mdl = mdl_over(block + AT, BYTES);

        MmBuildMdlForNonPagedPool(mdl);
        const struct snapshot before = snapshot_of(mdl);
        const struct pinion_counters counters = counters_now();
        EXPECT_STATUS(MmAdvanceMdl(mdl, distances[i]), STATUS_SUCCESS);
        expect_advanced(mdl, &before, distances[i]);
        EXPECT_PTR_EQ(system_address(mdl), block + AT + distances[i]);
        EXPECT_SAME_COUNTERS(counters);
        IoFreeMdl(mdl);
    }
    EXPECT_PATTERN(block, PAGES * PAGE_SIZE, SEED);
    ExFreePoolWithTag(block, TEST_TAG);
}

/* MmAdvanceMdl-16: a partial MDL moves too, and unlocks nothing, for the lock is its source's (ruling 2). */
SILENT_TEST(mm_advance_mdl, advance__partial_mdl__unlocks_nothing)
{
    const struct locked locked = make_locked();

    for (SIZE_T i = 0; i < ARRAYSIZE(distances); i++) {
        const PMDL part = mdl_over(locked.va, BYTES);

        IoBuildPartialMdl(locked.mdl, part, locked.va, BYTES);
        const struct snapshot before = snapshot_of(part);
        EXPECT_STATUS(MmAdvanceMdl(part, distances[i]), STATUS_SUCCESS);
        expect_advanced(part, &before, distances[i]);
        EXPECT_EQ(counters_now().locked_pages, PAGES);
        EXPECT_EQ(pinion_trim(), 0);
        EXPECT_PATTERN_AT(system_address(part), BYTES - distances[i], SEED, AT + distances[i]);
        EXPECT_STATUS(MmAdvanceMdl(part, BYTES - distances[i]), STATUS_INVALID_PARAMETER_2);
        IoFreeMdl(part);
        EXPECT_EQ(counters_now().system_mappings, 0);
    }
    release(&locked);
}

/* MmAdvanceMdl-16: so does one of pages that were allocated for an MDL, whose addresses count from NULL. */
SILENT_TEST(mm_advance_mdl, advance__partial_mdl_of_allocated_pages__moves_the_range)
{
    const PHYSICAL_ADDRESS none = {.QuadPart = 0}, all = {.QuadPart = INT64_MAX};
    const PMDL source = MmAllocatePagesForMdlEx(none, all, none, PAGES * PAGE_SIZE, MmCached, MM_ALLOCATE_FULLY_REQUIRED);
    const PMDL part = mdl_over(NULL, PAGES * PAGE_SIZE);
    UCHAR *view;

    EXPECT(source != NULL);
    view = system_address(source);
    fill_pattern(view, PAGES * PAGE_SIZE, SEED);
    for (SIZE_T i = 0; i < ARRAYSIZE(distances); i++) {
        IoBuildPartialMdl(source, part, MmGetMdlVirtualAddress(source), PAGES * PAGE_SIZE);
        const struct snapshot before = snapshot_of(part);
        EXPECT_STATUS(MmAdvanceMdl(part, distances[i]), STATUS_SUCCESS);
        expect_advanced(part, &before, distances[i]);
        EXPECT_PTR_EQ(system_address(part), view + distances[i]);
    }
    IoFreeMdl(part);
    MmFreePagesFromMdl(source);
    ExFreePool(source);
}

/* MmAdvanceMdl-18: a partial MDL's own mapping moves along, and goes as a whole when the MDL is prepared or freed. */
SILENT_TEST(mm_advance_mdl, advance__mapped_partial_mdl__its_mapping_moves_and_goes)
{
    const struct locked locked = make_locked();
    const PMDL part = mdl_over(locked.va, BYTES);

    for (SIZE_T i = 0; i < ARRAYSIZE(distances); i++) {
        IoBuildPartialMdl(locked.mdl, part, locked.va, BYTES);
        UCHAR *const system = system_address(part);

        EXPECT_STATUS(MmAdvanceMdl(part, distances[i]), STATUS_SUCCESS);
        EXPECT_PTR_EQ(system_address(part), system + distances[i]);
        EXPECT_PATTERN_AT(system + distances[i], BYTES - distances[i], SEED, AT + distances[i]);
        MmPrepareMdlForReuse(part);
        EXPECT_EQ(counters_now().system_mappings, 0);
        EXPECT_EQ(counters_now().system_pages_mapped, 0);
    }
    IoFreeMdl(part);
    release(&locked);
}

/* MmAdvanceMdl-18: a partial MDL that shares its source's mapping moves in it, and the source's address stays. */
SILENT_TEST(mm_advance_mdl, advance__partial_mdl_that_shares_a_mapping__source_stays)
{
    const struct locked locked = make_locked();
    UCHAR *const system = system_address(locked.mdl);
    const PMDL part = mdl_over(locked.va, BYTES);

    for (SIZE_T i = 0; i < ARRAYSIZE(distances); i++) {
        IoBuildPartialMdl(locked.mdl, part, locked.va, BYTES);
        EXPECT_STATUS(MmAdvanceMdl(part, distances[i]), STATUS_SUCCESS);
        EXPECT_PTR_EQ(system_address(part), system + distances[i]);
        MmPrepareMdlForReuse(part);
        EXPECT_PTR_EQ(system_address(locked.mdl), system);
        EXPECT_PATTERN_AT(system, BYTES, SEED, AT);
        EXPECT_EQ(counters_now().system_mappings, 1);
    }
    IoFreeMdl(part);
    release(&locked);
}

/* MmAdvanceMdl-02: an MDL that is not locked moves as well (ruling 2), and what is locked later is what was left. */
SILENT_TEST(mm_advance_mdl, advance__not_locked__moves_the_range)
{
    UCHAR *const base = user_pattern(PAGES, SEED);

    for (SIZE_T i = 0; i < ARRAYSIZE(distances); i++) {
        const PMDL mdl = mdl_over(base + AT, BYTES);

        EXPECT_STATUS(MmAdvanceMdl(mdl, distances[i]), STATUS_SUCCESS);
        EXPECT_PTR_EQ(MmGetMdlVirtualAddress(mdl), base + AT + distances[i]);
        EXPECT_EQ(MmGetMdlByteCount(mdl), BYTES - distances[i]);
        EXPECT_EQ(counters_now().locked_pages, 0);
        EXPECT_STATUS(try_lock(mdl, UserMode, IoReadAccess), STATUS_SUCCESS);
        EXPECT_EQ(counters_now().locked_pages, PAGES - pages_passed(distances[i]));
        EXPECT_PATTERN_AT(system_address(mdl), BYTES - distances[i], SEED, AT + distances[i]);
        unlock_and_free(mdl);
    }
    pinion_user_free(base);
}

/* MmAdvanceMdl-12: parts of an MDL that was advanced are counted from its new start, and hold the right pages. */
SILENT_TEST(mm_advance_mdl, advance__then_split__parts_are_of_what_is_left)
{
    const struct locked locked = make_locked();
    const PMDL part = mdl_over(NULL, BYTES + PAGE_SIZE);

    for (ULONG done = 0; done + 1500 < BYTES; done += 1500) {
        IoBuildPartialMdl(locked.mdl, part, MmGetMdlVirtualAddress(locked.mdl), 0);
        EXPECT_EQ(MmGetMdlByteCount(part), BYTES - done);
        EXPECT_PATTERN_AT(system_address(part), BYTES - done, SEED, AT + done);
        MmPrepareMdlForReuse(part);
        EXPECT_STATUS(MmAdvanceMdl(locked.mdl, 1500), STATUS_SUCCESS);
    }
    IoFreeMdl(part);
    release(&locked);
}

static void split_what_was_passed(void *context)
{
    uint64_t *const words = context;
    const struct locked locked = make_locked();

    EXPECT_STATUS(MmAdvanceMdl(locked.mdl, 100), STATUS_SUCCESS);
    words[0] = (uintptr_t)(locked.va + 99);
    IoBuildPartialMdl(locked.mdl, mdl_over(locked.va, 100), locked.va + 99, 2);
}

/* MmAdvanceMdl-02: what was passed is outside the MDL from then on. */
TEST_UNTIDY(mm_advance_mdl, advance__then_a_part_of_what_was_passed__stops)
{
    uint64_t *const words = shared_words();
    const struct stop stop = run_until_stop(split_what_was_passed, words);

    EXPECT(stop.stopped);
    EXPECT_EQ(stop.code, 0x12E);
    EXPECT_EQ(stop.p[2], words[0]);
}

static void map_part_of_passed_pages(void *context)
{
    uint64_t *const words = context;
    const struct locked locked = make_locked();
    const PMDL part = mdl_over(locked.base + PAGE_SIZE, 3 * PAGE_SIZE);

    IoBuildPartialMdl(locked.mdl, part, locked.base + PAGE_SIZE, 3 * PAGE_SIZE);
    words[0] = (uintptr_t)part;
    words[1] = MmGetMdlPfnArray(part)[0];
    EXPECT_STATUS(MmAdvanceMdl(locked.mdl, TO_PAGE_1 + 2 * PAGE_SIZE), STATUS_SUCCESS);
    MmGetSystemAddressForMdlSafe(part, NORMAL_NX);
}

/* MmAdvanceMdl-15: a part that was made before keeps its page numbers, but pages that its source passed are not locked
   any more: mapping it then stops and names the part, its length and the first such page (ruling 6). */
TEST_UNTIDY(mm_advance_mdl, advance__then_a_part_of_passed_pages_is_mapped__stops)
{
    uint64_t *const words = shared_words();
    const struct stop stop = expect_stop(map_part_of_passed_pages, words, 0xC4, 0x85);

    EXPECT_EQ(stop.p[1], words[0]);
    EXPECT_EQ(stop.p[2], 3);
    EXPECT_EQ(stop.p[3], words[1]);
}

/* A driver may shorten an MDL by hand for a while; an advance goes by the length there is, and the lock stays whole. */
SILENT_TEST(mm_advance_mdl, advance__byte_count_set_by_hand__goes_by_it)
{
    const struct locked locked = make_locked();

    locked.mdl->ByteCount = 100;
    EXPECT_STATUS(MmAdvanceMdl(locked.mdl, 100), STATUS_INVALID_PARAMETER_2);
    EXPECT_STATUS(MmAdvanceMdl(locked.mdl, 40), STATUS_SUCCESS);
    EXPECT_EQ(MmGetMdlByteCount(locked.mdl), 60);
    EXPECT_EQ(counters_now().locked_pages, PAGES);
    locked.mdl->ByteCount = BYTES - 40;
    EXPECT_PATTERN_AT(system_address(locked.mdl), BYTES - 40, SEED, AT + 40);
    release(&locked);
}

/* ---- Low memory ------------------------------------------------------------------------------------------------ */

/* MmAdvanceMdl-25: it needs no memory: it works, mapped or not, where every allocation fails, and calls the host for
   none. */
TEST(mm_advance_mdl, advance__every_allocation_fails__works)
{
    static const char *const allocators[] = {"IoAllocateMdl",   "ExAllocatePool",  "ExAllocatePoolWithTag",
                                             "ExAllocatePool2", "ExAllocatePool3", "MmGetSystemAddressForMdlSafe",
                                             "MmMapLockedPagesSpecifyCache"};
    const struct locked locked = make_locked();
    struct pinion_totals totals_before, totals;

    UCHAR *const system = system_address(locked.mdl);
    pinion_totals(&totals_before);
    const struct pinion_counters before = counters_now();
    for (SIZE_T i = 0; i < ARRAYSIZE(allocators); i++)
        pinion_fail_every(allocators[i], 1);
    for (ULONG done = 0; done < 20 * 1024; done += 1024)
        EXPECT_STATUS(MmAdvanceMdl(locked.mdl, 1024), STATUS_SUCCESS);
    for (SIZE_T i = 0; i < ARRAYSIZE(allocators); i++)
        pinion_fail_every(allocators[i], 0);
    pinion_totals(&totals);
    EXPECT_EQ(totals.mdls_allocated, totals_before.mdls_allocated);
    EXPECT_EQ(totals.injected_failures, totals_before.injected_failures);
    EXPECT_EQ(totals.mdls_advanced, totals_before.mdls_advanced + 20);
    EXPECT_EQ(counters_now().live_mdls, before.live_mdls);
    EXPECT_PATTERN_AT(system + 20 * 1024, BYTES - 20 * 1024, SEED, AT + 20 * 1024);
    release(&locked);
}

/* A message that comes in frames, as a network transport takes it apart and the lower driver delivers it. */
enum { MESSAGE = 20000, FRAME = 1480, MESSAGE_SEED = 44 };

/* What a lower driver does that fills only a frame's worth of the MDL: how many bytes it did. */
static ULONG receive_frame(PMDL mdl, ULONG offset_in_message)
{
    const ULONG bytes = min(FRAME, MmGetMdlByteCount(mdl));
    UCHAR *const to = system_address(mdl);

    for (ULONG i = 0; i < bytes; i++) {
        EXPECT_EQ(to[i], 0); /* nobody has delivered this byte before */
        to[i] = pattern_byte(MESSAGE_SEED, offset_in_message + i);
    }
    return bytes;
}

/* Receive what is left of the message into the MDL, for as long as there is more: with a fragment MDL while one can be
   had, by advancing the MDL itself when not. How many frames went the second way. */
static ULONG receive_message(PMDL mdl)
{
    ULONG done = 0, advanced = 0;

    while (done < MESSAGE) {
        PUCHAR const va = (PUCHAR)MmGetMdlVirtualAddress(mdl);
        const ULONG passed = MESSAGE - MmGetMdlByteCount(mdl);
        const PMDL fragment = IoAllocateMdl(va, MmGetMdlByteCount(mdl), FALSE, FALSE, NULL);

        if (fragment != NULL) {
            IoBuildPartialMdl(mdl, fragment, va + (done - passed), 0);
            done += receive_frame(fragment, done);
            IoFreeMdl(fragment);
            continue;
        }
        if (done > passed)
            EXPECT_STATUS(MmAdvanceMdl(mdl, done - passed), STATUS_SUCCESS);
        done += receive_frame(mdl, done);
        advanced++;
    }
    return advanced;
}

/* MmAdvanceMdl-13, MmAdvanceMdl-20, MmAdvanceMdl-21, MmAdvanceMdl-22, MmAdvanceMdl-23, MmAdvanceMdl-25: a message larger
   than a frame is reassembled under low memory: the driver asks for a new MDL, gets none, and advances the one it has
   past what came; each byte is delivered once, and the pages behind are given back as it goes. */
SILENT_TEST(mm_advance_mdl, reassemble__no_mdl_to_be_had__delivers_each_byte_once)
{
    UCHAR *const base = user_pages(6, PAGE_READWRITE);
    const PMDL mdl = locked_mdl(base + 333, MESSAGE);

    pinion_fail_every("IoAllocateMdl", 1);
    EXPECT_EQ(receive_message(mdl), (MESSAGE + FRAME - 1) / FRAME);
    pinion_fail_every("IoAllocateMdl", 0);
    EXPECT_PATTERN(base + 333, MESSAGE, MESSAGE_SEED);
    EXPECT(counters_now().locked_pages <= 2);
    unlock_and_free(mdl);
    pinion_user_free(base);
}

/* MmAdvanceMdl-23: the case of one allocation that fails and works again later: the driver goes on either way. */
SILENT_TEST(mm_advance_mdl, reassemble__one_mdl_not_to_be_had__delivers_each_byte_once)
{
    for (unsigned nth = 1; nth < 10; nth += 3) {
        UCHAR *const base = user_pages(6, PAGE_READWRITE);
        const PMDL mdl = locked_mdl(base + 333, MESSAGE);

        pinion_fail("IoAllocateMdl", nth);
        EXPECT_EQ(receive_message(mdl), 1);
        EXPECT_PATTERN(base + 333, MESSAGE, MESSAGE_SEED);
        unlock_and_free(mdl);
        pinion_user_free(base);
    }
}

/* MmAdvanceMdl-24, MmAdvanceMdl-26: a driver that gets an MDL must use it with IoBuildPartialMdl instead: both ways give
   the same pages and the same data, and only the advance gives pages back. */
SILENT_TEST(mm_advance_mdl, advance__beside_a_partial_mdl__both_describe_the_same)
{
    for (SIZE_T i = 0; i < ARRAYSIZE(distances); i++) {
        const struct locked first = make_locked();
        const struct locked second = make_locked();
        const PMDL part = mdl_over(first.va, BYTES);

        IoBuildPartialMdl(first.mdl, part, first.va + distances[i], BYTES - distances[i]);
        EXPECT_STATUS(MmAdvanceMdl(second.mdl, distances[i]), STATUS_SUCCESS);
        EXPECT_EQ(MmGetMdlByteCount(part), MmGetMdlByteCount(second.mdl));
        EXPECT_EQ(MmGetMdlByteOffset(part), MmGetMdlByteOffset(second.mdl));
        EXPECT_MEM_EQ(system_address(part), system_address(second.mdl), BYTES - distances[i]);
        EXPECT_EQ(counters_now().locked_pages, 2 * PAGES - pages_passed(distances[i]));

        EXPECT_STATUS(MmAdvanceMdl(first.mdl, distances[i]), STATUS_SUCCESS);
        EXPECT_MEM_EQ(MmGetMdlPfnArray(first.mdl), MmGetMdlPfnArray(part), mdl_pages(part) * sizeof(PFN_NUMBER));
        IoFreeMdl(part);
        release(&first);
        release(&second);
    }
}

/* ---- IRQL ------------------------------------------------------------------------------------------------------ */

/* MmAdvanceMdl-29: it may be called at DISPATCH_LEVEL, and unlocks there too. */
SILENT_TEST(mm_advance_mdl, advance__dispatch_level__works)
{
    const struct locked locked = make_locked();
    UCHAR *const system = system_address(locked.mdl);
    const KIRQL before = raise_irql(DISPATCH_LEVEL);

    EXPECT_STATUS(MmAdvanceMdl(locked.mdl, TO_PAGE_1 + PAGE_SIZE), STATUS_SUCCESS);
    EXPECT_EQ(counters_now().locked_pages, PAGES - 2);
    EXPECT_PTR_EQ(system_address(locked.mdl), system + TO_PAGE_1 + PAGE_SIZE);
    EXPECT_EQ(KeGetCurrentIrql(), DISPATCH_LEVEL);
    KeLowerIrql(before);
    release(&locked);
}

/* MmAdvanceMdl-29: above DISPATCH_LEVEL it is reported. */
WARN_TEST(mm_advance_mdl, advance__above_dispatch_level__warns, "irql-too-high")
{
    const struct locked locked = make_locked();
    const KIRQL before = raise_irql(DISPATCH_LEVEL + 1);

    MmAdvanceMdl(locked.mdl, 1);
    KeLowerIrql(before);
    release(&locked);
}

/* ---- Locks are what was locked, not what the flags say --------------------------------------------------------- */

/* MmAdvanceMdl-15: an MDL of nonpaged memory holds no lock, even where the driver set MDL_PAGES_LOCKED. */
SILENT_TEST(mm_advance_mdl, advance__nonpaged_with_locked_flag_set_by_hand__unlocks_nothing)
{
    UCHAR *const block = pool_pages(PAGES);
    const PMDL mdl = mdl_over(block, BYTES);

    MmBuildMdlForNonPagedPool(mdl);
    mdl->MdlFlags |= MDL_PAGES_LOCKED;
    EXPECT_STATUS(MmAdvanceMdl(mdl, PAGE_SIZE + 1), STATUS_SUCCESS);
    EXPECT_PTR_EQ(system_address(mdl), block + PAGE_SIZE + 1);
    IoFreeMdl(mdl);
    ExFreePoolWithTag(block, TEST_TAG);
}

/* MmAdvanceMdl-15: neither does an MDL of a device's memory. */
SILENT_TEST(mm_advance_mdl, advance__io_space__unlocks_nothing)
{
    MM_PHYSICAL_ADDRESS_LIST range = {.PhysicalAddress = {.QuadPart = 0xD0000000}, .NumberOfBytes = PAGES * PAGE_SIZE};
    PMDL mdl = NULL;

    EXPECT_STATUS(MmAllocateMdlForIoSpace(&range, 1, &mdl), STATUS_SUCCESS);
    EXPECT_STATUS(MmAdvanceMdl(mdl, PAGE_SIZE + 1), STATUS_SUCCESS);
    EXPECT_EQ(MmGetMdlPfnArray(mdl)[0], 0xD0001);
    IoFreeMdl(mdl);
}

static void advance_own_pages(void)
{
    const PHYSICAL_ADDRESS zero = {.QuadPart = 0}, highest = {.QuadPart = MAXLONGLONG};
    const PMDL mdl = MmAllocatePagesForMdlEx(zero, highest, zero, PAGES * PAGE_SIZE, MmCached, 0);
    PFN_NUMBER pfns[PAGES];

    EXPECT(mdl != NULL);
    memcpy(pfns, MmGetMdlPfnArray(mdl), sizeof(pfns));
    EXPECT_STATUS(MmAdvanceMdl(mdl, PAGE_SIZE + 1), STATUS_SUCCESS);
    EXPECT_MEM_EQ(MmGetMdlPfnArray(mdl), pfns + 1, sizeof(pfns) - sizeof(pfns[0]));
    MmInitializeMdl(mdl, NULL, PAGES * PAGE_SIZE);
    memcpy(MmGetMdlPfnArray(mdl), pfns, sizeof(pfns));
    MmFreePagesFromMdl(mdl);
    ExFreePool(mdl);
}

/* MmAdvanceMdl-15: pages that were allocated for the MDL are held by their owner, who frees them. */
SILENT_TEST(mm_advance_mdl, advance__own_pages__unlocks_nothing)
{
    advance_own_pages();
}

/* MmAdvanceMdl-15: it does not take the verifier to know. */
SILENT_TEST(mm_advance_mdl, advance__own_pages_without_verifier__unlocks_nothing)
{
    boot("verifier=off");
    advance_own_pages();
}

/* Advance a second MDL of the same pages, to which the driver gave the flag, and unlock the first. */
static void advance_beside(const struct locked *locked, PMDL other)
{
    const uint64_t before = counters_now().locked_pages;

    other->MdlFlags |= MDL_PAGES_LOCKED;
    EXPECT_STATUS(MmAdvanceMdl(other, TO_PAGE_1 + PAGE_SIZE), STATUS_SUCCESS);
    EXPECT_EQ(counters_now().locked_pages, before);
    IoFreeMdl(other);
    release(locked);
}

/* MmAdvanceMdl-15: a partial MDL has no lock; its source's is not touched. */
SILENT_TEST(mm_advance_mdl, advance__partial_with_locked_flag_set_by_hand__leaves_the_sources_lock)
{
    const struct locked locked = make_locked();
    const PMDL part = mdl_over(locked.va, BYTES);

    IoBuildPartialMdl(locked.mdl, part, locked.va, BYTES);
    advance_beside(&locked, part);
}

/* MmAdvanceMdl-15: with the verifier, nor has a copy of page numbers, whatever its flags say. */
SILENT_TEST(mm_advance_mdl, advance__copied_numbers_with_locked_flag__leaves_the_others_lock)
{
    const struct locked locked = make_locked();
    const PMDL copy = mdl_over(locked.va, BYTES);

    memcpy(MmGetMdlPfnArray(copy), MmGetMdlPfnArray(locked.mdl), mdl_pages(copy) * sizeof(PFN_NUMBER));
    advance_beside(&locked, copy);
}
