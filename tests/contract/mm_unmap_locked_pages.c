/* SPDX-License-Identifier: MIT */
/*
 * MmUnmapLockedPages: a mapping in system space or in a process ends, the lock stays, and what is no mapping of the MDL
 * is not unmapped.
 */

#include "harness.h"

#include <wdm.h>
#include <pinion/pinion.h>

#include "support.h"

/* ---- What an unmap does -------------------------------------------------------------------------------- */

/* MmUnmapLockedPages-01 MmUnmapLockedPages-07 MmUnmapLockedPages-04: the routine has its documented type;
   after it the MDL is unmapped and still locked. */
SILENT_TEST(mm_unmap, call_through_its_type__system_mapping__mdl_is_unmapped_and_locked)
{
    VOID (*const unmap)(PVOID, PMDL) = MmUnmapLockedPages;
    UCHAR *const user = user_pages(2, PAGE_READWRITE);
    const PMDL mdl = locked_mdl(user + 3, PAGE_SIZE);
    UCHAR *const system = map_system(mdl);

    unmap(system, mdl);
    EXPECT(!(mdl->MdlFlags & MDL_MAPPED_TO_SYSTEM_VA));
    EXPECT(mdl->MdlFlags & MDL_PAGES_LOCKED);
    EXPECT_EQ(counters_now().system_mappings, 0);
    EXPECT_EQ(counters_now().system_pages_mapped, 0);
    EXPECT_EQ(counters_now().locked_pages, 2);
    EXPECT_EQ(pinion_trim(), 0);
    unlock_and_free(mdl);
    pinion_user_free(user);
}

/* MmUnmapLockedPages-02: what the mapping held stays in the pages, and the address is valid no more. */
SILENT_TEST(mm_unmap, unmap__system_mapping__contents_stay_and_the_address_goes)
{
    UCHAR *const user = user_pages(2, PAGE_READWRITE);
    const PMDL mdl = locked_mdl(user, 2 * PAGE_SIZE);
    UCHAR *const system = map_system(mdl);

    fill_pattern(system, 2 * PAGE_SIZE, 4);
    MmUnmapLockedPages(system, mdl);
    EXPECT_PATTERN(user, 2 * PAGE_SIZE, 4);
    EXPECT(!MmIsAddressValid(system));
    EXPECT(!MmIsAddressValid(system + 2 * PAGE_SIZE - 1));
    unlock_and_free(mdl);
    pinion_user_free(user);
}

/* MmUnmapLockedPages-02: a user mapping ends: a load at its address raises, and the buffer's own address
   works on. */
SILENT_TEST(mm_unmap, unmap__user_mapping__address_refuses)
{
    UCHAR *const user = user_pattern(2, 4);
    const PMDL mdl = locked_mdl(user, 2 * PAGE_SIZE);
    UCHAR *const mapped = map_user(mdl);

    MmUnmapLockedPages(mapped, mdl);
    EXPECT_RAISES(STATUS_ACCESS_VIOLATION, touch_load, mapped);
    EXPECT_RAISES(STATUS_ACCESS_VIOLATION, touch_load, mapped + PAGE_SIZE);
    EXPECT_PATTERN(user, 2 * PAGE_SIZE, 4);
    unlock_and_free(mdl);
    pinion_user_free(user);
}

/* MmUnmapLockedPages-04: one of two MDLs over the same frames is unmapped: the other's mapping holds. */
SILENT_TEST(mm_unmap, unmap__other_mdl_over_the_same_frames__stays_mapped)
{
    UCHAR *const user = user_pattern(1, 4);
    const PMDL one = locked_mdl(user, PAGE_SIZE), two = locked_mdl(user, PAGE_SIZE);
    UCHAR *const a = map_system(one), *const b = map_system(two);

    MmUnmapLockedPages(a, one);
    EXPECT_PATTERN(b, PAGE_SIZE, 4);
    EXPECT_EQ(counters_now().system_mappings, 1);
    unlock_and_free(one);
    EXPECT_PATTERN(b, PAGE_SIZE, 4);
    MmUnmapLockedPages(b, two);
    unlock_and_free(two);
    pinion_user_free(user);
}

/* MmUnmapLockedPages-06: a system mapping may be released at DISPATCH_LEVEL, a user mapping at
   APC_LEVEL. */
SILENT_TEST(mm_unmap, unmap__at_highest_allowed_irql__works)
{
    UCHAR *const user = user_pages(1, PAGE_READWRITE);
    const PMDL mdl = locked_mdl(user, PAGE_SIZE);
    UCHAR *const system = map_system(mdl), *const mapped = map_user(mdl);
    KIRQL before = raise_irql(DISPATCH_LEVEL);

    MmUnmapLockedPages(system, mdl);
    KeLowerIrql(before);
    EXPECT_EQ(counters_now().system_mappings, 0);
    before = raise_irql(APC_LEVEL);
    MmUnmapLockedPages(mapped, mdl);
    KeLowerIrql(before);
    unlock_and_free(mdl);
    pinion_user_free(user);
}

/* MmUnmapLockedPages-02: a system mapping is released from any process: it belongs to none. */
SILENT_TEST(mm_unmap, unmap__system_mapping_from_another_process__works)
{
    UCHAR *const user = user_pages(1, PAGE_READWRITE);
    const PMDL mdl = locked_mdl(user, PAGE_SIZE);
    UCHAR *const system = map_system(mdl);
    const PEPROCESS other = pinion_process_create("other");

    pinion_process_attach(other);
    MmUnmapLockedPages(system, mdl);
    pinion_process_attach(NULL);
    EXPECT_EQ(counters_now().system_mappings, 0);
    pinion_process_exit(other);
    unlock_and_free(mdl);
    pinion_user_free(user);
}

/* MmUnmapLockedPages-10: a partial MDL's own mapping may be released this way, as MmPrepareMdlForReuse
   does. */
SILENT_TEST(mm_unmap, unmap__own_mapping_of_a_partial_mdl__works)
{
    UCHAR *const user = user_pattern(2, 4);
    const PMDL source = locked_mdl(user, 2 * PAGE_SIZE), part = mdl_over(user, PAGE_SIZE);

    IoBuildPartialMdl(source, part, user + PAGE_SIZE, PAGE_SIZE);
    UCHAR *const system = MmGetSystemAddressForMdlSafe(part, NORMAL_NX);
    EXPECT_MEM_EQ(system, user + PAGE_SIZE, PAGE_SIZE);
    MmUnmapLockedPages(system, part);
    EXPECT_EQ(counters_now().system_mappings, 0);
    IoFreeMdl(part);
    unlock_and_free(source);
    pinion_user_free(user);
}

/* MmUnmapLockedPages-02 MmUnmapLockedPages-04: without the verifier too, an unmap ends the mapping and
   keeps the lock, however the mapping was made. */
TEST(mm_unmap, unmap__verifier_off__ends_the_mapping)
{
    static const ULONG priorities[] = {NormalPagePriority, NormalPagePriority | MdlMappingNoWrite};

    boot("verifier=off");
    UCHAR *const user = user_pattern(2, 4);
    for (SIZE_T i = 0; i < ARRAYSIZE(priorities); i++) {
        const PMDL mdl = locked_mdl(user, 2 * PAGE_SIZE);
        UCHAR *const system =
            MmMapLockedPagesSpecifyCache(mdl, KernelMode, MmCached, NULL, FALSE, priorities[i]);

        EXPECT_EQ(counters_now().system_mappings, 1);
        MmUnmapLockedPages(system, mdl);
        EXPECT(!(mdl->MdlFlags & MDL_MAPPED_TO_SYSTEM_VA));
        EXPECT_EQ(counters_now().system_mappings, 0);
        EXPECT_EQ(counters_now().locked_pages, 2);
        unlock_and_free(mdl);
    }
}

/* MmUnmapLockedPages-02: shipping drivers adjust StartVa by hand; a mapping goes by frames, and ends all
   the same. */
SILENT_TEST(mm_unmap, unmap__start_adjusted_by_hand__ends_the_mapping)
{
    UCHAR *const user = user_pages(2, PAGE_READWRITE);
    const PMDL mdl = locked_mdl(user, 2 * PAGE_SIZE);
    UCHAR *const system = map_system(mdl);

    mdl->StartVa = user + 16 * PAGE_SIZE;
    MmUnmapLockedPages(system, mdl);
    EXPECT_EQ(counters_now().system_mappings, 0);
    mdl->StartVa = user;
    unlock_and_free(mdl);
    pinion_user_free(user);
}

/* ---- Mistakes that stop the machine -------------------------------------------------------------------- */

static void tell(uint64_t *words, PMDL mdl, PVOID va)
{
    words[0] = (uint64_t)(uintptr_t)mdl;
    words[1] = mdl_flags(mdl);
    words[2] = (uint64_t)(uintptr_t)va;
}

static void unmap_twice(void *words)
{
    const PMDL mdl = locked_mdl(user_pages(1, PAGE_READWRITE), PAGE_SIZE);
    UCHAR *const system = map_system(mdl);

    MmUnmapLockedPages(system, mdl);
    tell(words, mdl, system);
    MmUnmapLockedPages(system, mdl);
}

static void unmap_never_mapped(void *words)
{
    const PMDL other = locked_mdl(user_pages(1, PAGE_READWRITE), PAGE_SIZE);
    const PMDL mdl = locked_mdl(user_pages(1, PAGE_READWRITE), PAGE_SIZE);
    UCHAR *const system = map_system(other);

    tell(words, mdl, system);
    MmUnmapLockedPages(system, mdl);
}

/* MmUnmapLockedPages-11 Driver_Verifier_automatic_MDL_checks-04: an MDL that is not mapped, any more or at
   all, stops with 0xC4/0xB6, the MDL, its flags and the flag that is missing. */
TEST_UNTIDY(mm_unmap, unmap__mdl_not_mapped__stops)
{
    void (*const bodies[])(void *) = {unmap_twice, unmap_never_mapped};
    uint64_t *const words = shared_words();

    for (SIZE_T i = 0; i < ARRAYSIZE(bodies); i++) {
        const struct stop stop = expect_stop(bodies[i], words, DRIVER_VERIFIER_DETECTED_VIOLATION, 0xB6);

        EXPECT_EQ(stop.p[1], words[0]);
        EXPECT_EQ(stop.p[2], words[1]);
        EXPECT_EQ(stop.p[3], MDL_MAPPED_TO_SYSTEM_VA);
    }
}

static void unmap_nonpaged(void *words)
{
    UCHAR *const pool = pool_pages(1);
    const PMDL mdl = mdl_over(pool, PAGE_SIZE);

    MmBuildMdlForNonPagedPool(mdl);
    tell(words, mdl, pool);
    MmUnmapLockedPages(pool, mdl);
}

/* MmUnmapLockedPages-11: pool has no mapping to release: it stops with 0xC4/0xB6. */
TEST_UNTIDY(mm_unmap, unmap__mdl_of_nonpaged_pool__stops)
{
    uint64_t *const words = shared_words();
    const struct stop stop = expect_stop(unmap_nonpaged, words, DRIVER_VERIFIER_DETECTED_VIOLATION, 0xB6);

    EXPECT_EQ(stop.p[1], words[0]);
    EXPECT_EQ(stop.p[2], words[1]);
}

static void unmap_shared_partial(void *words)
{
    UCHAR *const user = user_pages(2, PAGE_READWRITE);
    const PMDL source = locked_mdl(user, 2 * PAGE_SIZE), part = mdl_over(user, PAGE_SIZE);

    EXPECT(map_system(source) != NULL);
    IoBuildPartialMdl(source, part, user, PAGE_SIZE);
    tell(words, part, MmGetSystemAddressForMdlSafe(part, NORMAL_NX));
    MmUnmapLockedPages(MmGetSystemAddressForMdlSafe(part, NORMAL_NX), part);
}

/* MmUnmapLockedPages-10 Driver_Verifier_automatic_MDL_checks-03: a partial MDL that shares its source's
   mapping stops with 0xC4/0xB5, the MDL, its flags and MDL_PARTIAL. */
TEST_UNTIDY(mm_unmap, unmap__shared_mapping_of_a_partial_mdl__stops)
{
    uint64_t *const words = shared_words();
    const struct stop stop =
        expect_stop(unmap_shared_partial, words, DRIVER_VERIFIER_DETECTED_VIOLATION, 0xB5);

    EXPECT_EQ(stop.p[1], words[0]);
    EXPECT_EQ(stop.p[2], words[1]);
    EXPECT_EQ(stop.p[3], MDL_PARTIAL);
}

/* The IRQL is the fourth word. */
static void unmap_system_at_irql(void *context)
{
    uint64_t *const words = context;
    const PMDL mdl = locked_mdl(user_pages(1, PAGE_READWRITE), PAGE_SIZE);
    UCHAR *const system = map_system(mdl);

    tell(words, mdl, system);
    raise_irql((KIRQL)words[3]);
    MmUnmapLockedPages(system, mdl);
}

static void unmap_user_at_irql(void *context)
{
    uint64_t *const words = context;
    const PMDL mdl = locked_mdl(user_pages(1, PAGE_READWRITE), PAGE_SIZE);
    UCHAR *const mapped = map_user(mdl);

    tell(words, mdl, mapped);
    raise_irql((KIRQL)words[3]);
    MmUnmapLockedPages(mapped, mdl);
}

/* MmUnmapLockedPages-06 MmUnmapLockedPages-08 MmUnmapLockedPages-09: above DISPATCH_LEVEL a system mapping
   stops with 0xC4/0x79, above APC_LEVEL a user mapping with 0xC4/0x7A; each with the IRQL, the address and
   the MDL. */
TEST_UNTIDY(mm_unmap, unmap__irql_too_high__stops)
{
    static const struct {
        void (*body)(void *);
        KIRQL irql;
        uint64_t subcode;
    } rows[] = {
        {unmap_system_at_irql, DISPATCH_LEVEL + 1, 0x79},
        {unmap_user_at_irql, DISPATCH_LEVEL, 0x7A},
        {unmap_user_at_irql, HIGH_LEVEL, 0x7A},
    };
    uint64_t *const words = shared_words();

    for (SIZE_T i = 0; i < ARRAYSIZE(rows); i++) {
        words[3] = rows[i].irql;
        const struct stop stop =
            expect_stop(rows[i].body, words, DRIVER_VERIFIER_DETECTED_VIOLATION, rows[i].subcode);

        EXPECT_EQ(stop.p[1], rows[i].irql);
        EXPECT_EQ(stop.p[2], words[2]);
        EXPECT_EQ(stop.p[3], words[0]);
    }
}

static void unmap_user_in_other_process(void *words)
{
    const PMDL mdl = locked_mdl(user_pages(1, PAGE_READWRITE), PAGE_SIZE);
    UCHAR *const mapped = map_user(mdl);

    tell(words, mdl, mapped);
    pinion_process_attach(pinion_process_create("other"));
    MmUnmapLockedPages(mapped, mdl);
}

static void unmap_user_twice(void *words)
{
    const PMDL mdl = locked_mdl(user_pages(1, PAGE_READWRITE), PAGE_SIZE);
    UCHAR *const mapped = map_user(mdl);

    tell(words, mdl, mapped);
    MmUnmapLockedPages(mapped, mdl);
    MmUnmapLockedPages(mapped, mdl);
}

/* The slip of taking the buffer's own address for a mapping of it. */
static void unmap_own_address(void *words)
{
    UCHAR *const user = user_pages(1, PAGE_READWRITE);
    const PMDL mdl = locked_mdl(user, PAGE_SIZE);

    tell(words, mdl, user);
    MmUnmapLockedPages(MmGetMdlVirtualAddress(mdl), mdl);
}

static void unmap_own_address_beside_a_mapping(void *words)
{
    UCHAR *const user = user_pages(1, PAGE_READWRITE);
    const PMDL mdl = locked_mdl(user, PAGE_SIZE);

    EXPECT(map_user(mdl) != NULL);
    tell(words, mdl, user);
    MmUnmapLockedPages(user, mdl);
}

static void unmap_mapping_of_other_mdl(void *words)
{
    const PMDL other = locked_mdl(user_pages(1, PAGE_READWRITE), PAGE_SIZE);
    const PMDL mdl = locked_mdl(user_pages(1, PAGE_READWRITE), PAGE_SIZE);
    UCHAR *const mapped = map_user(other);

    tell(words, mdl, mapped);
    MmUnmapLockedPages(mapped, mdl);
}

/* The body stops with 0xC4/0xB9, the address and the MDL. */
static void expect_bad_user_address(void (*body)(void *))
{
    uint64_t *const words = shared_words();
    const struct stop stop = expect_stop(body, words, DRIVER_VERIFIER_DETECTED_VIOLATION, 0xB9);

    EXPECT_EQ(stop.p[1], words[2]);
    EXPECT_EQ(stop.p[2], words[0]);
}

/* MmUnmapLockedPages-05 MmUnmapLockedPages-12: a user mapping that is released in another process stops
   with 0xC4/0xB9. */
TEST_UNTIDY(mm_unmap, unmap__user_mapping_in_another_process__stops)
{
    expect_bad_user_address(unmap_user_in_other_process);
}

/* MmUnmapLockedPages-12: a user mapping that is released twice stops with 0xC4/0xB9. */
TEST_UNTIDY(mm_unmap, unmap__user_mapping_twice__stops)
{
    expect_bad_user_address(unmap_user_twice);
}

/* MmUnmapLockedPages-12 MmUnmapLockedPages-03: the buffer's own address, which was never made by a mapping,
   stops with 0xC4/0xB9. */
TEST_UNTIDY(mm_unmap, unmap__the_buffers_own_address__stops)
{
    expect_bad_user_address(unmap_own_address);
}

/* MmUnmapLockedPages-12 MmUnmapLockedPages-03: the same of an MDL that has a user mapping elsewhere. */
TEST_UNTIDY(mm_unmap, unmap__the_buffers_own_address_beside_a_mapping__stops)
{
    expect_bad_user_address(unmap_own_address_beside_a_mapping);
}

/* MmUnmapLockedPages-12: a user mapping of another MDL stops with 0xC4/0xB9. */
TEST_UNTIDY(mm_unmap, unmap__user_mapping_of_another_mdl__stops)
{
    expect_bad_user_address(unmap_mapping_of_other_mdl);
}

/* ---- System PTEs misused ------------------------------------------------------------------------------- */

/* What is wrong about the unmap: the subcode of 0xDA that says so. */
enum misuse { WRONG_COUNT = 2, WRONG_ADDRESS = 3, WRONG_FRAME = 4, NEVER_MAPPED = 6 };

/* The misuse is words[4]; leaves the MDL, and what parameters 3 and 4 must be, in words[0] to words[2]. */
static void misuse_ptes(void *context)
{
    uint64_t *const words = context;
    UCHAR *const user = user_pages(4, PAGE_READWRITE);
    const PMDL mdl = locked_mdl(user, 3 * PAGE_SIZE), other = locked_mdl(user, 3 * PAGE_SIZE);
    UCHAR *system = MmMapLockedPagesSpecifyCache(words[4] == NEVER_MAPPED ? other : mdl, KernelMode, MmCached,
                                                 NULL, FALSE, NORMAL_NX | MdlMappingNoWrite);
    words[0] = (uint64_t)(uintptr_t)mdl;
    switch (words[4]) {
    case WRONG_COUNT:
        words[1] = 3;
        words[2] = 2;
        mdl->ByteCount = 2 * PAGE_SIZE;
        break;
    case WRONG_ADDRESS:
        words[1] = (uint64_t)(uintptr_t)system;
        words[2] = (uint64_t)(uintptr_t)(system += PAGE_SIZE);
        break;
    case WRONG_FRAME:
        words[1] = MmGetMdlPfnArray(mdl)[0];
        words[2] = MmGetMdlPfnArray(mdl)[0] = MmGetMdlPfnArray(mdl)[1];
        break;
    default:
        words[1] = (uint64_t)(uintptr_t)(system += 0x100000);
        words[2] = 3;
        mdl->MdlFlags |= MDL_MAPPED_TO_SYSTEM_VA;
        break;
    }
    MmUnmapLockedPages(system, mdl);
}

static void misuse_ptes_unverified(void *context)
{
    boot("verifier=off");
    misuse_ptes(context);
}

/* This misuse stops with 0xDA, its subcode, and what was expected and found. */
static struct stop expect_misuse(void (*body)(void *), enum misuse misuse)
{
    uint64_t *const words = shared_words();

    words[4] = misuse;
    const struct stop stop = expect_stop(body, words, SYSTEM_PTE_MISUSE, misuse);
    EXPECT_EQ(stop.p[2], words[1]);
    EXPECT_EQ(stop.p[3], words[2]);
    if (misuse == NEVER_MAPPED)
        EXPECT_EQ(stop.p[1], words[0]);
    return stop;
}

/* MmUnmapLockedPages-13: an MDL that has another number of pages than when it was mapped stops with 0xDA/2,
   both numbers. */
TEST_UNTIDY(mm_unmap, unmap__page_count_changed__stops)
{
    expect_misuse(misuse_ptes, WRONG_COUNT);
    expect_misuse(misuse_ptes_unverified, WRONG_COUNT);
}

/* MmUnmapLockedPages-13 MmUnmapLockedPages-03: an address within the mapping that is not its base stops
   with 0xDA/3, both addresses. */
TEST_UNTIDY(mm_unmap, unmap__not_the_base_address__stops)
{
    expect_misuse(misuse_ptes, WRONG_ADDRESS);
    expect_misuse(misuse_ptes_unverified, WRONG_ADDRESS);
}

/* MmUnmapLockedPages-13: an MDL whose first frame is another than when it was mapped stops with 0xDA/4,
   both frames. */
TEST_UNTIDY(mm_unmap, unmap__first_frame_changed__stops)
{
    expect_misuse(misuse_ptes, WRONG_FRAME);
    expect_misuse(misuse_ptes_unverified, WRONG_FRAME);
}

/* MmUnmapLockedPages-13: without the verifier, an address where nothing was mapped, of an MDL that calls
   itself mapped, stops with 0xDA/6, the MDL, the address and the count. */
TEST_UNTIDY(mm_unmap, unmap__address_never_mapped__stops)
{
    expect_misuse(misuse_ptes_unverified, NEVER_MAPPED);
}

static void unmap_io_space_never_mapped(void *context)
{
    const PMDL mdl = locked_mdl(user_pages(2, PAGE_READWRITE), 2 * PAGE_SIZE);
    UCHAR *const system = map_system(mdl);

    *(uint64_t *)context = (uint64_t)(uintptr_t)system;
    MmUnmapIoSpace(system, 2 * PAGE_SIZE);
}

/* Bug_checks-13: a mapping that MmMapIoSpace did not make is none to MmUnmapIoSpace: it stops with
   0xDA/0x400, the address and the number of pages. */
TEST_UNTIDY(mm_unmap, unmap_io_space__mapping_of_an_mdl__stops)
{
    uint64_t *const words = shared_words();
    const struct stop stop = expect_stop(unmap_io_space_never_mapped, words, SYSTEM_PTE_MISUSE, 0x400);

    EXPECT_EQ(stop.p[1], words[0]);
    EXPECT_EQ(stop.p[2], 2);
}

/* MmUnmapLockedPages-04: a process that ends takes its mappings of an MDL along; the MDL can be freed. */
SILENT_TEST(mm_unmap, free__process_of_the_user_mapping_has_ended__silent)
{
    UCHAR *const user = user_pattern(1, 4);
    const PMDL mdl = locked_mdl(user, PAGE_SIZE);
    const PEPROCESS other = pinion_process_create("other");

    pinion_process_attach(other);
    EXPECT(map_user(mdl) != NULL);
    pinion_process_attach(NULL);
    pinion_process_exit(other);
    unlock_and_free(mdl);
    pinion_user_free(user);
}
