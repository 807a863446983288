/* SPDX-License-Identifier: MIT */
/*
 * MmMapMdl: a mapping for as long as a call of the driver's routine lasts.
 */

#include "harness.h"

#include <wdm.h>
#include <pinion/pinion.h>

#include "pages.h"

/* What a routine saw. Its MDL is given; `act` may do something while the mapping is there. */
struct visit {
    PMDL mdl;
    unsigned calls;
    UCHAR *va;
    KIRQL irql;
    uint64_t mappings;
    void (*act)(struct visit *visit);
};

static VOID visit_routine(PVOID context, PVOID va)
{
    struct visit *const visit = context;

    visit->calls++;
    visit->va = va;
    visit->irql = KeGetCurrentIrql();
    visit->mappings = counters_now().system_mappings;
    if (visit->act)
        visit->act(visit);
}

static void check_pattern(struct visit *visit)
{
    EXPECT_PATTERN_AT(visit->va, MmGetMdlByteCount(visit->mdl), 1, MmGetMdlByteOffset(visit->mdl));
    fill_pattern(visit->va, MmGetMdlByteCount(visit->mdl), 2);
}

/* MmMapMdl-01 MmMapMdl-02 MmMapMdl-03 MmMapMdl-04: by its documented type it maps the MDL, calls the
   routine once with the context and the address of the buffer, and releases the mapping: MDL and counters
   are as before. */
SILENT_TEST(mm_map_mdl, call_through_its_type__locked_buffer__is_mapped_for_the_call)
{
    static const ULONG ranges[][2] = {
        {0, PAGE_SIZE}, {1, PAGE_SIZE}, {PAGE_SIZE - 1, 1}, {100, 3 * PAGE_SIZE}};
    NTSTATUS (*const map)(PMDL, ULONG, PMM_MDL_ROUTINE, PVOID) = MmMapMdl;

    for (SIZE_T i = 0; i < ARRAYSIZE(ranges); i++) {
        UCHAR *const user = user_pattern(4, 1);
        const PMDL mdl = locked_mdl(user + ranges[i][0], ranges[i][1]);
        struct visit visit = {.mdl = mdl, .act = check_pattern};
        const struct pinion_counters before = counters_now();
        const CSHORT flags = mdl->MdlFlags;

        EXPECT_STATUS(map(mdl, PAGE_READWRITE, visit_routine, &visit), STATUS_SUCCESS);
        EXPECT_EQ(visit.calls, 1);
        EXPECT_EQ(visit.irql, PASSIVE_LEVEL);
        EXPECT_EQ(visit.mappings, 1);
        EXPECT_SAME_COUNTERS(before);
        EXPECT_EQ(mdl->MdlFlags, flags);
        EXPECT(!MmIsAddressValid(visit.va));
        EXPECT_PATTERN(user + ranges[i][0], ranges[i][1], 2);
        unlock_and_free(mdl);
        pinion_user_free(user);
    }
}

/* MmMapMdl-02: an MDL that is mapped is given at the address it has, and stays mapped. */
SILENT_TEST(mm_map_mdl, map__mapped_already__keeps_its_mapping)
{
    UCHAR *const user = user_pattern(2, 1);
    const PMDL mdl = locked_mdl(user + 9, PAGE_SIZE);
    UCHAR *const system = system_address(mdl);
    const struct pinion_counters before = counters_now();
    const MDL copy = *mdl;
    struct visit visit = {.mdl = mdl, .act = check_pattern};

    EXPECT_STATUS(MmMapMdl(mdl, PAGE_READWRITE, visit_routine, &visit), STATUS_SUCCESS);
    EXPECT_EQ(visit.calls, 1);
    EXPECT_PTR_EQ(visit.va, system);
    EXPECT_MEM_EQ(mdl, &copy, sizeof(copy));
    EXPECT_SAME_COUNTERS(before);
    EXPECT_PATTERN(system, PAGE_SIZE, 2);
    unlock_and_free(mdl);
    pinion_user_free(user);
}

/* MmMapMdl-02: memory that has a system address of its own is given there: nothing is made, nothing is
   released. */
SILENT_TEST(mm_map_mdl, map__nonpaged_pool__is_given_where_it_is)
{
    UCHAR *const pool = pool_pages(2);
    const PMDL mdl = mdl_over(pool + 3, PAGE_SIZE);
    struct visit visit = {.mdl = mdl};

    MmBuildMdlForNonPagedPool(mdl);
    const MDL copy = *mdl;
    EXPECT_STATUS(MmMapMdl(mdl, PAGE_READWRITE, visit_routine, &visit), STATUS_SUCCESS);
    EXPECT_EQ(visit.calls, 1);
    EXPECT_PTR_EQ(visit.va, pool + 3);
    EXPECT_MEM_EQ(mdl, &copy, sizeof(copy));
    IoFreeMdl(mdl);
    ExFreePool(pool);
}

/* MmMapMdl-02: pages of MmAllocatePagesForMdlEx and partial MDLs are mapped for the call as well. */
SILENT_TEST(mm_map_mdl, map__other_kinds_of_mdl__are_mapped_for_the_call)
{
    const PMDL pages = pages_anywhere(3), part = mdl_over(NULL, 2 * PAGE_SIZE);
    struct visit visit = {.mdl = pages}, part_visit = {.mdl = part};

    IoBuildPartialMdl(pages, part, address_in(pages, PAGE_SIZE), PAGE_SIZE + 1);
    EXPECT_STATUS(MmMapMdl(pages, PAGE_READWRITE, visit_routine, &visit), STATUS_SUCCESS);
    EXPECT_STATUS(MmMapMdl(part, PAGE_READWRITE, visit_routine, &part_visit), STATUS_SUCCESS);
    EXPECT_EQ(visit.calls + part_visit.calls, 2);
    EXPECT_EQ(counters_now().system_mappings, 0);
    IoFreeMdl(part);
    free_pages(pages);
}

static void map_again(struct visit *visit)
{
    struct visit inner = {.mdl = visit->mdl, .act = check_pattern};

    EXPECT_STATUS(MmMapMdl(visit->mdl, PAGE_READWRITE, visit_routine, &inner), STATUS_SUCCESS);
    EXPECT_PTR_EQ(inner.va, visit->va);
    EXPECT_PTR_EQ(MmGetSystemAddressForMdlSafe(visit->mdl, NORMAL_NX), visit->va);
    EXPECT_PATTERN(visit->va, MmGetMdlByteCount(visit->mdl), 2);
}

/* MmMapMdl-02: while the routine runs the MDL is mapped: asked for its address, or mapped once more, it is
   at that address. */
SILENT_TEST(mm_map_mdl, map__inside_the_routine__finds_the_same_mapping)
{
    UCHAR *const user = user_pattern(2, 1);
    const PMDL mdl = locked_mdl(user, 2 * PAGE_SIZE);
    struct visit visit = {.mdl = mdl, .act = map_again};

    EXPECT_STATUS(MmMapMdl(mdl, PAGE_READWRITE, visit_routine, &visit), STATUS_SUCCESS);
    EXPECT_EQ(counters_now().system_mappings, 0);
    unlock_and_free(mdl);
    pinion_user_free(user);
}

/* MmMapMdl-04 MmMapMdl-01: the routine runs at the IRQL of the caller, up to DISPATCH_LEVEL. */
SILENT_TEST(mm_map_mdl, map__at_each_irql__routine_runs_at_it)
{
    UCHAR *const user = user_pattern(2, 1);
    const PMDL mdl = locked_mdl(user, 2 * PAGE_SIZE);

    for (KIRQL irql = PASSIVE_LEVEL; irql <= DISPATCH_LEVEL; irql++) {
        const KIRQL before = raise_irql(irql);
        struct visit visit = {.mdl = mdl};

        EXPECT_STATUS(MmMapMdl(mdl, PAGE_READWRITE, visit_routine, &visit), STATUS_SUCCESS);
        EXPECT_EQ(visit.irql, irql);
        EXPECT_EQ(KeGetCurrentIrql(), irql);
        KeLowerIrql(before);
    }
    unlock_and_free(mdl);
    pinion_user_free(user);
}

static void store(struct visit *visit)
{
    *(volatile UCHAR *)visit->va = 1;
}

static void store_to_read_only(void *context HARNESS_UNUSED)
{
    const PMDL mdl = locked_mdl(user_pages(1, PAGE_READWRITE), PAGE_SIZE);
    struct visit visit = {.mdl = mdl, .act = store};

    MmMapMdl(mdl, PAGE_READONLY, visit_routine, &visit);
}

/* MmMapMdl-02: the mapping has the protection that was asked for: a store to a read-only one stops. */
TEST_UNTIDY(mm_map_mdl, map__read_only__store_stops)
{
    const struct stop stop = run_until_stop(store_to_read_only, NULL);

    EXPECT_EQ(stop.code, ATTEMPTED_WRITE_TO_READONLY_MEMORY);
}

/* MmMapMdl-03: a protection that is none is an error, and the routine is not called. */
SILENT_TEST(mm_map_mdl, map__protection_that_is_none__is_refused)
{
    static const ULONG protections[] = {0, PAGE_READONLY | PAGE_READWRITE, PAGE_GUARD, 0xFFFFFFFF};
    UCHAR *const user = user_pages(1, PAGE_READWRITE);
    const PMDL mdl = locked_mdl(user, PAGE_SIZE);

    for (SIZE_T i = 0; i < ARRAYSIZE(protections); i++) {
        struct visit visit = {.mdl = mdl};

        EXPECT(NT_ERROR(MmMapMdl(mdl, protections[i], visit_routine, &visit)));
        EXPECT_EQ(visit.calls, 0);
        EXPECT_EQ(counters_now().system_mappings, 0);
    }
    unlock_and_free(mdl);
    pinion_user_free(user);
}

/* MmMapMdl-03: where the mapping fails the routine is not called, the status is an error, and all is as
   before. */
SILENT_TEST(mm_map_mdl, map__made_to_fail__routine_is_not_called)
{
    UCHAR *const user = user_pages(2, PAGE_READWRITE);
    const PMDL mdl = locked_mdl(user, 2 * PAGE_SIZE);
    const struct pinion_counters before = counters_now();
    const MDL copy = *mdl;
    struct visit visit = {.mdl = mdl};

    pinion_fail("MmMapMdl", 1);
    EXPECT(NT_ERROR(MmMapMdl(mdl, PAGE_READWRITE, visit_routine, &visit)));
    EXPECT_EQ(visit.calls, 0);
    EXPECT_MEM_EQ(mdl, &copy, sizeof(copy));
    EXPECT_SAME_COUNTERS(before);
    EXPECT_STATUS(MmMapMdl(mdl, PAGE_READWRITE, visit_routine, &visit), STATUS_SUCCESS);
    EXPECT_EQ(visit.calls, 1);
    unlock_and_free(mdl);
    pinion_user_free(user);
}

/* MmMapMdl-02: without the verifier the call is the same. */
TEST(mm_map_mdl, map__verifier_off__is_mapped_for_the_call)
{
    boot("verifier=off");
    UCHAR *const user = user_pattern(3, 1);
    const PMDL mdl = locked_mdl(user + 5, 2 * PAGE_SIZE);
    struct visit visit = {.mdl = mdl, .act = check_pattern};
    const CSHORT flags = mdl->MdlFlags;

    EXPECT_STATUS(MmMapMdl(mdl, PAGE_READWRITE, visit_routine, &visit), STATUS_SUCCESS);
    EXPECT_EQ(visit.calls, 1);
    EXPECT_EQ(mdl->MdlFlags, flags);
    EXPECT_EQ(counters_now().system_mappings, 0);
    EXPECT_PATTERN(user + 5, 2 * PAGE_SIZE, 2);
    unlock_and_free(mdl);
    pinion_user_free(user);
}

static void map_unlocked(void *words)
{
    const PMDL mdl = mdl_over(user_pages(1, PAGE_READWRITE), PAGE_SIZE);
    struct visit visit = {.mdl = mdl};

    EXPECT(NT_ERROR(MmMapMdl(mdl, PAGE_READWRITE, visit_routine, &visit)));
    ((uint64_t *)words)[0] = visit.calls == 0;
}

/* MmMapMdl-03: an MDL whose pages are not locked cannot be mapped: a stop, or an error without a call. */
TEST_UNTIDY(mm_map_mdl, map__pages_not_locked__is_refused)
{
    uint64_t *const words = shared_words();
    const struct stop stop = run_until_stop(map_unlocked, words);

    EXPECT(stop.stopped || words[0]);
}

static void map_too_high(void *context HARNESS_UNUSED)
{
    const PMDL mdl = locked_mdl(user_pages(1, PAGE_READWRITE), PAGE_SIZE);
    struct visit visit = {.mdl = mdl};

    raise_irql(DISPATCH_LEVEL + 1);
    MmMapMdl(mdl, PAGE_READWRITE, visit_routine, &visit);
}

/* MmMapMdl-01: above DISPATCH_LEVEL it is reported. */
TEST_UNTIDY(mm_map_mdl, map__above_dispatch_level__is_reported)
{
    expect_report(map_too_high, NULL);
}
