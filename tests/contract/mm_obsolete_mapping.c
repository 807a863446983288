/* SPDX-License-Identifier: MIT */
/*
 * The routines that came before: MmMapLockedPages and MmGetSystemAddressForMdl, which stop the machine where
 * a mapping fails, and MmCreateMdl.
 */

#include "harness.h"

#include <wdm.h>
#include <pinion/pinion.h>

#include "pages.h"

/* ---- MmGetSystemAddressForMdl ------------------------------------------------------------------------- */

static const ULONG ranges[][2] = {{0, PAGE_SIZE},       {1, PAGE_SIZE - 1}, {PAGE_SIZE - 1, 2},
                                  {100, 2 * PAGE_SIZE}, {PAGE_SIZE, 1},     {4095, 1},
                                  {0, 4 * PAGE_SIZE}};

/* MmGetSystemAddressForMdl-01: it maps the pages, with the page offset of the buffer, once, and without a
   finding. */
SILENT_TEST(mm_get_system_address_for_mdl, call__locked_buffer__shows_it_at_its_offset)
{
    UCHAR *const user = user_pattern(4, 3);

    for (SIZE_T i = 0; i < ARRAYSIZE(ranges); i++) {
        const PMDL mdl = locked_mdl(user + ranges[i][0], ranges[i][1]);
        UCHAR *const system = MmGetSystemAddressForMdl(mdl);

        EXPECT(system != NULL);
        EXPECT_EQ(BYTE_OFFSET(system), BYTE_OFFSET(user + ranges[i][0]));
        EXPECT_PATTERN_AT(system, ranges[i][1], 3, ranges[i][0]);
        EXPECT_PTR_EQ(MmGetSystemAddressForMdl(mdl), system);
        EXPECT_PTR_EQ(MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX), system);
        EXPECT_EQ(counters_now().system_mappings, 1);
        unlock_and_free(mdl);
    }
    pinion_user_free(user);
}

/* MmGetSystemAddressForMdl-01 MmGetSystemAddressForMdl-03: memory that has a system address keeps it:
   nonpaged pool, contiguous and noncached memory. */
SILENT_TEST(mm_get_system_address_for_mdl, call__nonpaged_memory__is_its_own_address)
{
    UCHAR *const pool = pool_pages(2), *const contiguous =
                                           MmAllocateContiguousMemory(2 * PAGE_SIZE, phys(EVERYWHERE));
    UCHAR *const noncached = MmAllocateNonCachedMemory(2 * PAGE_SIZE);
    UCHAR *const buffers[] = {pool, contiguous, noncached};

    for (SIZE_T i = 0; i < ARRAYSIZE(buffers); i++) {
        const PMDL mdl = mdl_over(buffers[i] + 77, PAGE_SIZE);

        MmBuildMdlForNonPagedPool(mdl);
        EXPECT_PTR_EQ(MmGetSystemAddressForMdl(mdl), buffers[i] + 77);
        EXPECT_EQ(counters_now().system_mappings, 0);
        IoFreeMdl(mdl);
    }
    ExFreePool(pool);
    MmFreeContiguousMemory(contiguous);
    MmFreeNonCachedMemory(noncached, 2 * PAGE_SIZE);
}

static void address_of_unlocked(void *words)
{
    const PMDL mdl = mdl_over(user_pages(1, PAGE_READWRITE), PAGE_SIZE);

    ((uint64_t *)words)[0] = (uint64_t)(uintptr_t)mdl;
    MmGetSystemAddressForMdl(mdl);
}

/* MmGetSystemAddressForMdl-03: an MDL whose pages are not locked stops, with 0xC4/0xB3 and the MDL. */
TEST_UNTIDY(mm_get_system_address_for_mdl, call__mdl_not_locked__stops)
{
    uint64_t *const words = shared_words();
    const struct stop stop =
        expect_stop(address_of_unlocked, words, DRIVER_VERIFIER_DETECTED_VIOLATION, 0xB3);

    EXPECT_EQ(stop.p[1], words[0]);
}

enum { BIG_PAGES = 256 * 1024 };

/* Leave no room for system mappings. Those of read-only kind take room with the verifier and without. */
static void fill_system_space(void)
{
    UCHAR *const user = user_pages(BIG_PAGES, PAGE_READWRITE);

    for (SIZE_T pages = BIG_PAGES; pages > 0;) {
        const PMDL mdl = locked_mdl(user, pages * PAGE_SIZE);

        if (MmMapLockedPagesSpecifyCache(mdl, KernelMode, MmCached, NULL, FALSE, HIGH_NX | MdlMappingNoWrite))
            continue;
        unlock_and_free(mdl);
        pages /= 2;
    }
}

/* A locked MDL that no window shows: its pages stand in it backwards. */
static PMDL locked_backwards(SIZE_T pages)
{
    UCHAR *const user = user_pages(pages, PAGE_READWRITE);
    const PMDL mdl = mdl_over(user, pages * PAGE_SIZE);
    FILE_SEGMENT_ELEMENT segments[8];

    for (SIZE_T i = 0; i < pages; i++)
        segments[i].Buffer = user + (pages - 1 - i) * PAGE_SIZE;
    MmProbeAndLockSelectedPages(mdl, segments, UserMode, IoWriteAccess);
    return mdl;
}

static void address_without_room(void *options)
{
    boot(options);
    fill_system_space();
    MmGetSystemAddressForMdl(locked_backwards(3));
}

/* MmGetSystemAddressForMdl-02 Bug_checks-08: where there is no room for the mapping it stops, with 0x3F,
   verifier or not. */
TEST_UNTIDY(mm_get_system_address_for_mdl, call__no_room__stops)
{
    static char *const options[] = {"verifier=on", "verifier=off"};

    for (SIZE_T i = 0; i < ARRAYSIZE(options); i++) {
        const struct stop stop = expect_stop(address_without_room, options[i], NO_MORE_SYSTEM_PTES, 0);

        EXPECT_EQ(stop_warnings(&stop, NULL), 0);
    }
}

/* ---- MmMapLockedPages, without the verifier ----------------------------------------------------------- */

/* MmMapLockedPages-01 MmMapLockedPages-02: by its documented type it maps a locked buffer at its byte
   offset, in both modes. */
TEST(mm_map_locked_pages, call_through_its_type__both_modes__shows_the_buffer)
{
    PVOID (*const map)(PMDL, KPROCESSOR_MODE) = MmMapLockedPages;

    boot("verifier=off");
    UCHAR *const user = user_pattern(4, 3);
    for (SIZE_T i = 0; i < ARRAYSIZE(ranges); i++) {
        const PMDL mdl = locked_mdl(user + ranges[i][0], ranges[i][1]);
        UCHAR *const system = map(mdl, KernelMode), *const again = map(mdl, UserMode);

        EXPECT_EQ(BYTE_OFFSET(system), BYTE_OFFSET(user + ranges[i][0]));
        EXPECT_EQ(BYTE_OFFSET(again), BYTE_OFFSET(user + ranges[i][0]));
        EXPECT_PATTERN_AT(system, ranges[i][1], 3, ranges[i][0]);
        EXPECT_MEM_EQ(again, system, ranges[i][1]);
        *again ^= 0xFF;
        EXPECT_EQ(*system, *again);
        *again ^= 0xFF;
        MmUnmapLockedPages(again, mdl);
        MmUnmapLockedPages(system, mdl);
        unlock_and_free(mdl);
    }
    EXPECT_PATTERN(user, 4 * PAGE_SIZE, 3);
    pinion_user_free(user);
}

/* MmMapLockedPages-04: it works at DISPATCH_LEVEL for the system and at APC_LEVEL for a process. */
TEST(mm_map_locked_pages, map__at_highest_allowed_irql__works)
{
    boot("verifier=off");
    UCHAR *const user = user_pattern(1, 3);
    const PMDL mdl = locked_mdl(user, PAGE_SIZE);
    KIRQL before = raise_irql(DISPATCH_LEVEL);
    UCHAR *const system = MmMapLockedPages(mdl, KernelMode);
    EXPECT_PATTERN(system, PAGE_SIZE, 3);
    KeLowerIrql(before);
    before = raise_irql(APC_LEVEL);
    UCHAR *const again = MmMapLockedPages(mdl, UserMode);
    EXPECT_PATTERN(again, PAGE_SIZE, 3);
    MmUnmapLockedPages(again, mdl);
    KeLowerIrql(before);
    unlock_and_free(mdl);
    pinion_user_free(user);
}

static void map_without_room(void *context HARNESS_UNUSED)
{
    boot("verifier=off");
    fill_system_space();
    MmMapLockedPages(locked_backwards(3), KernelMode);
}

/* MmMapLockedPages-03 Bug_checks-08: a mapping for the system that fails stops with 0x3F. */
TEST_UNTIDY(mm_map_locked_pages, map__no_room__stops)
{
    expect_stop(map_without_room, NULL, NO_MORE_SYSTEM_PTES, 0);
}

static void map_obsolete_user(void *mdl)
{
    MmUnmapLockedPages(MmMapLockedPages(mdl, UserMode), mdl);
}

/* MmMapLockedPages-03: a mapping for a process that fails raises, and changes nothing. */
TEST(mm_map_locked_pages, user_map__fails__raises)
{
    unsigned failed = 0;

    boot("verifier=off");
    UCHAR *const user = user_pattern(3, 3);
    const PMDL mdl = locked_mdl(user, 3 * PAGE_SIZE);
    const struct pinion_counters before = counters_now();
    const MDL copy = *mdl;
    for (;; failed++) {
        pinion_fail("internal", failed + 1);
        const NTSTATUS status = pinion_try(map_obsolete_user, mdl);

        pinion_fail("internal", 0);
        EXPECT_MEM_EQ(mdl, &copy, sizeof(copy));
        EXPECT_SAME_COUNTERS(before);
        if (status == STATUS_SUCCESS)
            break;
        EXPECT(NT_ERROR(status));
    }
    EXPECT(failed > 0);
    unlock_and_free(mdl);
    pinion_user_free(user);
}

/* ---- MmMapLockedPages, with the verifier -------------------------------------------------------------- */

struct obsolete {
    uint64_t mdl;
    uint64_t flags;
    uint64_t mode;
    uint64_t irql;
};

static void map_obsolete(void *context)
{
    struct obsolete *const call = context;
    const PMDL mdl = locked_mdl(user_pages(1, PAGE_READWRITE), PAGE_SIZE);

    call->mdl = (uint64_t)(uintptr_t)mdl;
    call->flags = mdl_flags(mdl);
    raise_irql((KIRQL)call->irql);
    MmMapLockedPages(mdl, (KPROCESSOR_MODE)call->mode);
}

/* MmMapLockedPages-05: any use stops with 0xC4/0x81, the MDL and its flags. */
TEST_UNTIDY(mm_map_locked_pages, map__with_the_verifier__stops)
{
    struct obsolete *const call = (struct obsolete *)shared_words();

    for (uint64_t mode = KernelMode; mode <= UserMode; mode++) {
        *call = (struct obsolete){.mode = mode};
        const struct stop stop = expect_stop(map_obsolete, call, DRIVER_VERIFIER_DETECTED_VIOLATION, 0x81);

        EXPECT_EQ(stop.p[1], call->mdl);
        EXPECT_EQ(stop.p[2], call->flags);
    }
}

/* MmMapLockedPages-05 MmMapLockedPages-04: too high, it stops with 0xC4/0x74 for the system and 0xC4/0x75
   for a process: the IRQL, the MDL and the mode. */
TEST_UNTIDY(mm_map_locked_pages, map__irql_too_high__stops)
{
    static const struct {
        uint64_t mode, irql, subcode;
    } cases[] = {{KernelMode, DISPATCH_LEVEL + 1, 0x74},
                 {UserMode, DISPATCH_LEVEL, 0x75},
                 {UserMode, DISPATCH_LEVEL + 1, 0x75}};
    struct obsolete *const call = (struct obsolete *)shared_words();

    for (SIZE_T i = 0; i < ARRAYSIZE(cases); i++) {
        *call = (struct obsolete){.mode = cases[i].mode, .irql = cases[i].irql};
        const struct stop stop =
            expect_stop(map_obsolete, call, DRIVER_VERIFIER_DETECTED_VIOLATION, cases[i].subcode);

        EXPECT_EQ(stop.p[1], cases[i].irql);
        EXPECT_EQ(stop.p[2], call->mdl);
        EXPECT_EQ(stop.p[3], cases[i].mode);
    }
}

/* Map what is mapped already, as the first word says, or what is not locked. */
static void map_in_wrong_state(void *words)
{
    const PMDL mdl = mdl_over(user_pages(1, PAGE_READWRITE), PAGE_SIZE);

    if (*(uint64_t *)words) {
        MmProbeAndLockPages(mdl, UserMode, IoWriteAccess);
        system_address(mdl);
    }
    MmMapLockedPages(mdl, KernelMode);
}

/* Driver_Verifier_automatic_MDL_checks-02 MmMapLockedPages-05: of an MDL that is mapped or not locked it
   stops all the more: with 0xC4/0xB2 or 0xC4/0xB3, or with what any use of it gives. */
TEST_UNTIDY(mm_map_locked_pages, map__mdl_in_a_wrong_state__stops)
{
    uint64_t *const words = shared_words();

    for (words[0] = 0; words[0] < 2; words[0]++) {
        const struct stop stop = run_until_stop(map_in_wrong_state, words);

        EXPECT_EQ(stop.code, DRIVER_VERIFIER_DETECTED_VIOLATION);
        EXPECT(stop.p[0] == 0x81 || stop.p[0] == (words[0] ? 0xB2 : 0xB3));
    }
}

/* ---- MmCreateMdl -------------------------------------------------------------------------------------- */

/* MmCreateMdl formats memory of the driver's as MmInitializeMdl does, and returns it. */
SILENT_TEST(mm_create_mdl, create__memory_given__is_formatted)
{
    UCHAR memory[sizeof(MDL) + 3 * sizeof(PFN_NUMBER)] __attribute__((aligned(8))) = {0};
    UCHAR expected[sizeof(memory)] __attribute__((aligned(8))) = {0};
    UCHAR *const user = user_pattern(3, 1);

    MmInitializeMdl((PMDL)expected, user + 9, 2 * PAGE_SIZE);
    EXPECT_PTR_EQ(MmCreateMdl((PMDL)memory, user + 9, 2 * PAGE_SIZE), memory);
    EXPECT_MEM_EQ(memory, expected, sizeof(MDL));
    EXPECT_STATUS(try_lock((PMDL)memory, UserMode, IoWriteAccess), STATUS_SUCCESS);
    EXPECT_PATTERN_AT(system_address((PMDL)memory), 2 * PAGE_SIZE, 1, 9);
    MmUnlockPages((PMDL)memory);
    pinion_user_free(user);
}

/* MmCreateMdl without memory takes it from nonpaged pool, where ExFreePool gives it back; the MDL is good
   for locking and mapping. */
SILENT_TEST(mm_create_mdl, create__no_memory_given__is_in_pool)
{
    UCHAR *const user = user_pattern(3, 1);
    const PMDL mdl = MmCreateMdl(NULL, user + 9, 2 * PAGE_SIZE);

    EXPECT(mdl != NULL);
    EXPECT_PTR_EQ(MmGetMdlVirtualAddress(mdl), user + 9);
    EXPECT_EQ(MmGetMdlByteCount(mdl), 2 * PAGE_SIZE);
    EXPECT(MmIsNonPagedSystemAddressValid(mdl));
    EXPECT_STATUS(try_lock(mdl, UserMode, IoWriteAccess), STATUS_SUCCESS);
    EXPECT_PATTERN_AT(system_address(mdl), 2 * PAGE_SIZE, 1, 9);
    MmUnlockPages(mdl);
    ExFreePool(mdl);
    pinion_user_free(user);
}
