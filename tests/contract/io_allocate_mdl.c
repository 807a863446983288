/* SPDX-License-Identifier: MIT */
/*
 * IoAllocateMdl: the MDL it makes, the list of an IRP that it puts it on, how long a buffer may be, and what happens
 * when there is no memory.
 */

#include "harness.h"
#include <wdm.h>

#include "support.h"

#include <stdio.h>
#include <string.h>

/* An address that nothing is mapped at: an MDL is allocated for an address, not for what is there. */
#define SOMEWHERE ((UCHAR *)0x7650000)

static PIRP irp_with_no_mdl(void)
{
    const PIRP irp = IoAllocateIrp(1, FALSE);

    EXPECT(irp != NULL);
    EXPECT_PTR_EQ(irp->MdlAddress, NULL);
    return irp;
}

/* Free an IRP and all MDLs of its list. */
static void free_irp_and_mdls(PIRP irp)
{
    for (PMDL mdl = irp->MdlAddress, next; mdl != NULL; mdl = next) {
        next = mdl->Next;
        IoFreeMdl(mdl);
    }
    irp->MdlAddress = NULL;
    IoFreeIrp(irp);
}

/* ---- The MDL --------------------------------------------------------------------------------------------------- */

/* IoAllocateMdl-01, IoAllocateMdl-13, IoAllocateMdl-27, IoAllocateMdl-28, IoAllocateMdl-30: the routine has the type
   of its page, is declared by <wdm.h> with its kin, and returns an MDL. */
TEST(io_allocate_mdl, routine__by_its_documented_type__returns_an_mdl)
{
    PMDL (*const allocate)(PVOID, ULONG, BOOLEAN, BOOLEAN, PIRP) = &IoAllocateMdl;
    VOID (*const release)(PMDL) = &IoFreeMdl;
    VOID (*const build_partial)(PMDL, PMDL, PVOID, ULONG) = &IoBuildPartialMdl;
    VOID (*const build)(PMDL) = &MmBuildMdlForNonPagedPool;
    const PMDL mdl = allocate(SOMEWHERE, PAGE_SIZE, FALSE, FALSE, NULL);

    EXPECT(mdl != NULL);
    EXPECT(build_partial != NULL && build != NULL);
    release(mdl);
}

struct range {
    ULONG offset;
    ULONG bytes;
    SIZE_T pages;
};

/* clang-format off */
static const struct range ranges[] = {
    {0, 1, 1},                  {0, PAGE_SIZE - 1, 1},      {0, PAGE_SIZE, 1},              {0, PAGE_SIZE + 1, 2},
    {1, 1, 1},                  {1, PAGE_SIZE - 2, 1},      {1, PAGE_SIZE - 1, 1},          {1, PAGE_SIZE, 2},
    {2048, 2047, 1},            {2048, 2048, 1},            {2048, 2049, 2},                {2048, PAGE_SIZE + 2049, 3},
    {PAGE_SIZE - 1, 1, 1},      {PAGE_SIZE - 1, 2, 2},      {PAGE_SIZE - 1, PAGE_SIZE, 2},
    {PAGE_SIZE - 1, PAGE_SIZE + 1, 2},
    {PAGE_SIZE - 1, PAGE_SIZE + 2, 3},                      {0, 64 * PAGE_SIZE, 64},        {1, 64 * PAGE_SIZE, 65},
    {PAGE_SIZE - 1, 64 * PAGE_SIZE, 65},                    {0, 1000 * PAGE_SIZE + 1, 1001},
};
/* clang-format on */

/* IoAllocateMdl-02, IoAllocateMdl-03: there is a slot for each page that the range touches, so a buffer that straddles
   one page more, for its start or its length, gets one more. */
TEST(io_allocate_mdl, allocate__range__has_a_slot_for_each_page_it_touches)
{
    for (SIZE_T i = 0; i < ARRAYSIZE(ranges); i++) {
        UCHAR *const va = SOMEWHERE + ranges[i].offset;
        const PMDL mdl = mdl_over(va, ranges[i].bytes);

        EXPECT_EQ(mdl->Size, sizeof(MDL) + ranges[i].pages * sizeof(PFN_NUMBER));
        EXPECT_EQ(MmSizeOfMdl(va, ranges[i].bytes), mdl->Size);
        IoFreeMdl(mdl);
    }
}

/* IoAllocateMdl-02: every slot is the MDL's own, so MDLs that are filled to the last slot leave each other alone. */
TEST(io_allocate_mdl, allocate__many_filled_to_the_last_slot__keep_their_slots)
{
    PMDL mdls[ARRAYSIZE(ranges)];

    for (SIZE_T i = 0; i < ARRAYSIZE(ranges); i++) {
        mdls[i] = mdl_over(SOMEWHERE + ranges[i].offset, ranges[i].bytes);
        for (SIZE_T slot = 0; slot < ranges[i].pages; slot++)
            MmGetMdlPfnArray(mdls[i])[slot] = (i + 1) * 0x10000 + slot;
    }
    for (SIZE_T i = 0; i < ARRAYSIZE(ranges); i++) {
        EXPECT_PTR_EQ(MmGetMdlVirtualAddress(mdls[i]), SOMEWHERE + ranges[i].offset);
        for (SIZE_T slot = 0; slot < ranges[i].pages; slot++)
            EXPECT_EQ(MmGetMdlPfnArray(mdls[i])[slot], (i + 1) * 0x10000 + slot);
        IoFreeMdl(mdls[i]);
    }
}

/* IoAllocateMdl-05, IoAllocateMdl-07, IoAllocateMdl-19: the MDL describes the buffer that was named, start and length,
   and the length is the buffer's, not the MDL's. */
TEST(io_allocate_mdl, allocate__range__describes_exactly_that_range)
{
    for (SIZE_T i = 0; i < ARRAYSIZE(ranges); i++) {
        UCHAR *const va = SOMEWHERE + ranges[i].offset;
        const PMDL mdl = mdl_over(va, ranges[i].bytes);

        EXPECT_PTR_EQ(MmGetMdlVirtualAddress(mdl), va);
        EXPECT_PTR_EQ(MmGetMdlBaseVa(mdl), PAGE_ALIGN(va));
        EXPECT_EQ(MmGetMdlByteOffset(mdl), BYTE_OFFSET(va));
        EXPECT_EQ(MmGetMdlByteCount(mdl), ranges[i].bytes);
        EXPECT_PTR_EQ(mdl->Next, NULL);
        EXPECT_EQ(mdl->MdlFlags & ~MDL_ALLOCATED_FIXED_SIZE, 0);
        IoFreeMdl(mdl);
    }
}

/* IoAllocateMdl-06: NULL is an address like another, and starts at the beginning of a page. */
TEST(io_allocate_mdl, allocate__null_address__starts_at_zero)
{
    const PMDL mdl = IoAllocateMdl(NULL, 2 * PAGE_SIZE + 1, FALSE, FALSE, NULL);

    EXPECT(mdl != NULL);
    EXPECT_PTR_EQ(MmGetMdlVirtualAddress(mdl), NULL);
    EXPECT_PTR_EQ(MmGetMdlBaseVa(mdl), NULL);
    EXPECT_EQ(MmGetMdlByteOffset(mdl), 0);
    EXPECT_EQ(MmGetMdlByteCount(mdl), 2 * PAGE_SIZE + 1);
    EXPECT_EQ(mdl->Size, sizeof(MDL) + 3 * sizeof(PFN_NUMBER));
    IoFreeMdl(mdl);
}

/* IoAllocateMdl-31: the page numbers are left as they lie there: a block that is handed out again still holds what the
   last owner wrote behind the header. */
TEST(io_allocate_mdl, allocate__page_numbers__are_left_as_they_lie)
{
    enum { PAGES = 5 };
    PFN_NUMBER left[PAGES];

    boot("verifier=off");
    const PMDL first = mdl_over(SOMEWHERE, PAGES * PAGE_SIZE);
    for (SIZE_T i = 0; i < PAGES; i++)
        left[i] = MmGetMdlPfnArray(first)[i] = 0xABCDEF00 + i;
    IoFreeMdl(first);

    const PMDL again = mdl_over(SOMEWHERE + 0x100000, PAGES * PAGE_SIZE);
    EXPECT_PTR_EQ(again, first);
    EXPECT_MEM_EQ(MmGetMdlPfnArray(again), left, sizeof(left));
    IoFreeMdl(again);
}

/* IoAllocateMdl-31: it fills in no page numbers, so mapping an MDL that was only allocated stops. */
STOP_TEST(io_allocate_mdl, allocate__mapped_before_pages_are_locked__stops, 0xC4, 0xB3)
{
    const PMDL mdl = mdl_over(user_pattern(2, 1), 2 * PAGE_SIZE);

    MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX);
}

/* IoAllocateMdl-16: a buffer broken into pieces with an MDL each holds the same pages in the same order as in one. */
TEST(io_allocate_mdl, allocate__one_mdl_for_each_piece__pieces_hold_the_pages_of_the_whole)
{
    enum { PAGES = 9, PIECE = 3 };
    UCHAR *const va = user_pattern(PAGES, 3);
    const PMDL whole = locked_mdl(va, PAGES * PAGE_SIZE);

    for (SIZE_T first = 0; first < PAGES; first += PIECE) {
        const PMDL piece = locked_mdl(va + first * PAGE_SIZE, PIECE * PAGE_SIZE);

        EXPECT_MEM_EQ(MmGetMdlPfnArray(piece), MmGetMdlPfnArray(whole) + first, PIECE * sizeof(PFN_NUMBER));
        EXPECT_PATTERN_AT(system_address(piece), PIECE * PAGE_SIZE, 3, first * PAGE_SIZE);
        unlock_and_free(piece);
    }
    unlock_and_free(whole);
    pinion_user_free(va);
}

/* IoAllocateMdl-17, IoAllocateMdl-18: for a buffer of the driver's own in nonpaged pool, MmBuildMdlForNonPagedPool
   makes the page numbers valid. */
TEST(io_allocate_mdl, allocate__nonpaged_pool__is_completed_by_build)
{
    UCHAR *const block = pool_pages(3);
    const PMDL mdl = mdl_over(block + 100, 2 * PAGE_SIZE);

    MmBuildMdlForNonPagedPool(mdl);
    for (SIZE_T i = 0; i < 3; i++)
        EXPECT_EQ(MmGetMdlPfnArray(mdl)[i], frame_of(block + i * PAGE_SIZE));
    EXPECT_PTR_EQ(system_address(mdl), block + 100);
    IoFreeMdl(mdl);
    ExFreePoolWithTag(block, TEST_TAG);
}

/* A length of nothing is allowed (ruling 18), has no slot, and is a warning. */
WARN_TEST(io_allocate_mdl, allocate__no_bytes__has_no_slot_and_warns, "zero-length-mdl")
{
    const PMDL mdl = IoAllocateMdl(SOMEWHERE, 0, FALSE, FALSE, NULL);

    EXPECT(mdl != NULL);
    EXPECT_EQ(mdl->Size, sizeof(MDL));
    EXPECT_EQ(MmGetMdlByteCount(mdl), 0);
    IoFreeMdl(mdl);
}

/* The length may be larger than the pool block behind the address: what counts is what is locked or built later. */
SILENT_TEST(io_allocate_mdl, allocate__longer_than_the_pool_block__is_legal)
{
    UCHAR *const block = pool_pages(1);
    const PMDL mdl = mdl_over(block, 16 * PAGE_SIZE);

    EXPECT_EQ(MmGetMdlByteCount(mdl), 16 * PAGE_SIZE);
    IoFreeMdl(mdl);
    ExFreePoolWithTag(block, TEST_TAG);
}

/* ---- The list of an IRP ---------------------------------------------------------------------------------------- */

/* IoAllocateMdl-04: without an IRP none is touched, and no list gets the MDL. */
TEST(io_allocate_mdl, allocate__no_irp__touches_none)
{
    const PIRP irp = irp_with_no_mdl();
    IRP before;

    memcpy(&before, irp, sizeof(before));
    const PMDL mdl = mdl_over(SOMEWHERE, PAGE_SIZE);
    EXPECT_MEM_EQ(irp, &before, sizeof(before));
    EXPECT_PTR_EQ(mdl->Next, NULL);
    IoFreeMdl(mdl);
    IoFreeIrp(irp);
}

/* IoAllocateMdl-08, IoAllocateMdl-12, IoAllocateMdl-23: as the primary buffer of an IRP the MDL becomes
   Irp->MdlAddress, and nothing else of the IRP changes. */
TEST(io_allocate_mdl, allocate__primary_buffer__becomes_the_mdl_of_the_irp)
{
    const PIRP irp = irp_with_no_mdl();
    IRP expected;

    memcpy(&expected, irp, sizeof(expected));
    const PMDL mdl = IoAllocateMdl(SOMEWHERE, PAGE_SIZE, FALSE, FALSE, irp);
    EXPECT(mdl != NULL);
    EXPECT_PTR_EQ(irp->MdlAddress, mdl);
    EXPECT_PTR_EQ(mdl->Next, NULL);
    expected.MdlAddress = mdl;
    EXPECT_MEM_EQ(irp, &expected, sizeof(expected));
    free_irp_and_mdls(irp);
}

/* IoAllocateMdl-08, IoAllocateMdl-09, IoAllocateMdl-12, IoAllocateMdl-24, IoAllocateMdl-25, IoAllocateMdl-26,
   IoAllocateMdl-32: each secondary buffer goes to the end of the chain, whose head and order stay and whose last MDL
   has no next. */
TEST(io_allocate_mdl, allocate__secondary_buffers__go_to_the_end_of_the_chain)
{
    enum { BUFFERS = 6 };
    const PIRP irp = irp_with_no_mdl();
    PMDL made[BUFFERS];

    for (SIZE_T i = 0; i < BUFFERS; i++) {
        made[i] = IoAllocateMdl(SOMEWHERE + i * PAGE_SIZE, (ULONG)(i + 1), i > 0, FALSE, irp);
        EXPECT(made[i] != NULL);

        SIZE_T count = 0;
        for (PMDL mdl = irp->MdlAddress; mdl != NULL; mdl = mdl->Next)
            EXPECT_PTR_EQ(mdl, made[count++]);
        EXPECT_EQ(count, i + 1);
    }
    free_irp_and_mdls(irp);
}

/* IoAllocateMdl-24: an empty chain gets its head, and that is no mistake (ruling 17). */
SILENT_TEST(io_allocate_mdl, allocate__secondary_buffer_of_an_empty_chain__becomes_the_head)
{
    const PIRP irp = irp_with_no_mdl();
    const PMDL mdl = IoAllocateMdl(SOMEWHERE, PAGE_SIZE, TRUE, FALSE, irp);

    EXPECT(mdl != NULL);
    EXPECT_PTR_EQ(irp->MdlAddress, mdl);
    EXPECT_PTR_EQ(mdl->Next, NULL);
    free_irp_and_mdls(irp);
}

/* IoAllocateMdl-24: the end is found through Next as it stands, so an MDL that the driver linked in by hand counts. */
SILENT_TEST(io_allocate_mdl, allocate__secondary_buffer_after_a_link_by_hand__goes_behind_it)
{
    const PIRP irp = irp_with_no_mdl();
    const PMDL head = IoAllocateMdl(SOMEWHERE, 1, FALSE, FALSE, irp);
    const PMDL by_hand = mdl_over(SOMEWHERE, 2);

    head->Next = by_hand;
    const PMDL last = IoAllocateMdl(SOMEWHERE, 3, TRUE, FALSE, irp);
    EXPECT_PTR_EQ(irp->MdlAddress, head);
    EXPECT_PTR_EQ(head->Next, by_hand);
    EXPECT_PTR_EQ(by_hand->Next, last);
    EXPECT_PTR_EQ(last->Next, NULL);
    free_irp_and_mdls(irp);
}

/* IoAllocateMdl-23: a second primary buffer replaces the chain, which is then out of reach: a warning (ruling 17). */
WARN_TEST(io_allocate_mdl, allocate__second_primary_buffer__replaces_the_chain_and_warns, "mdl-chain-replaced")
{
    const PIRP irp = irp_with_no_mdl();
    const PMDL first = IoAllocateMdl(SOMEWHERE, PAGE_SIZE, FALSE, FALSE, irp);
    const PMDL second = IoAllocateMdl(SOMEWHERE, PAGE_SIZE, FALSE, FALSE, irp);

    EXPECT(second != NULL);
    EXPECT_PTR_EQ(irp->MdlAddress, second);
    EXPECT_PTR_EQ(second->Next, NULL);
    EXPECT_PTR_EQ(first->Next, NULL);
    IoFreeMdl(first);
    free_irp_and_mdls(irp);
}

/* IoAllocateMdl-10: SecondaryBuffer without an IRP is a mistake, reported; the MDL is made all the same. */
WARN_TEST(io_allocate_mdl, allocate__secondary_buffer_of_no_irp__warns, "secondary-without-irp")
{
    const PMDL mdl = IoAllocateMdl(SOMEWHERE, PAGE_SIZE, TRUE, FALSE, NULL);

    EXPECT(mdl != NULL);
    EXPECT_PTR_EQ(mdl->Next, NULL);
    EXPECT_EQ(MmGetMdlByteCount(mdl), PAGE_SIZE);
    IoFreeMdl(mdl);
}

/* IoAllocateMdl-11: ChargeQuota is the system's; shipping drivers pass it, so it works, and is a warning. */
WARN_TEST(io_allocate_mdl, allocate__quota_charged__works_and_warns, "quota-charged")
{
    const PIRP irp = irp_with_no_mdl();
    const PMDL mdl = IoAllocateMdl(SOMEWHERE + 7, PAGE_SIZE, FALSE, TRUE, irp);

    EXPECT(mdl != NULL);
    EXPECT_PTR_EQ(irp->MdlAddress, mdl);
    EXPECT_PTR_EQ(MmGetMdlVirtualAddress(mdl), SOMEWHERE + 7);
    free_irp_and_mdls(irp);
}

/* ---- Failure --------------------------------------------------------------------------------------------------- */

/* IoAllocateMdl-14, IoAllocateMdl-35: a call that is made to fail returns NULL, and only that one. */
TEST(io_allocate_mdl, allocate__nth_call_told_to_fail__returns_null_once)
{
    const struct pinion_counters before = counters_now();

    pinion_fail("IoAllocateMdl", 2);
    const PMDL first = IoAllocateMdl(SOMEWHERE, PAGE_SIZE, FALSE, FALSE, NULL);
    EXPECT(first != NULL);
    EXPECT_PTR_EQ(IoAllocateMdl(SOMEWHERE, PAGE_SIZE, FALSE, FALSE, NULL), NULL);
    const PMDL third = IoAllocateMdl(SOMEWHERE, PAGE_SIZE, FALSE, FALSE, NULL);
    EXPECT(third != NULL);
    EXPECT_EQ(counters_now().live_mdls, before.live_mdls + 2);
    IoFreeMdl(first);
    IoFreeMdl(third);
    EXPECT_SAME_COUNTERS(before);
}

/* Each way in which a call for this IRP can fail leaves the IRP and the MDLs of its chain as they were. */
static void expect_failures_change_nothing(PIRP irp, BOOLEAN secondary)
{
    const struct pinion_counters counters = counters_now();
    const PMDL head = irp->MdlAddress;
    IRP irp_before;
    MDL head_before = {0};

    memcpy(&irp_before, irp, sizeof(irp_before));
    if (head != NULL)
        head_before = *head;
    pinion_fail("IoAllocateMdl", 1);
    EXPECT_PTR_EQ(IoAllocateMdl(SOMEWHERE, PAGE_SIZE, secondary, FALSE, irp), NULL);
    EXPECT_PTR_EQ(IoAllocateMdl(SOMEWHERE, MAXULONG, secondary, FALSE, irp), NULL);
    EXPECT_MEM_EQ(irp, &irp_before, sizeof(irp_before));
    if (head != NULL)
        EXPECT_MEM_EQ(head, &head_before, sizeof(MDL));
    EXPECT_SAME_COUNTERS(counters);
}

/* IoAllocateMdl-15: a call that fails, for lack of memory or for its length, leaves the IRP and its chain as they
   were. */
TEST(io_allocate_mdl, allocate__failing_for_an_irp__leaves_its_chain)
{
    const PIRP irp = irp_with_no_mdl();

    expect_failures_change_nothing(irp, FALSE);
    expect_failures_change_nothing(irp, TRUE);
    EXPECT(IoAllocateMdl(SOMEWHERE, 1, FALSE, FALSE, irp) != NULL);
    expect_failures_change_nothing(irp, TRUE);
    free_irp_and_mdls(irp);
}

/* IoAllocateMdl-15: a primary buffer that cannot be had replaces no chain, so there is nothing to warn of. */
SILENT_TEST(io_allocate_mdl, allocate__failing_for_an_irp_with_a_chain__says_nothing)
{
    const PIRP irp = irp_with_no_mdl();

    EXPECT(IoAllocateMdl(SOMEWHERE, 1, FALSE, FALSE, irp) != NULL);
    expect_failures_change_nothing(irp, FALSE);
    free_irp_and_mdls(irp);
}

/* IoAllocateMdl-14, IoAllocateMdl-15: memory for MDLs ends somewhere; the call that meets the end returns NULL and
   changes nothing, and one that is freed makes room again. */
TEST(io_allocate_mdl, allocate__until_memory_ends__returns_null_and_recovers)
{
    enum { MOST = 4096 }; /* of 8 MiB each: more than any machine has for them */
    static PMDL mdls[MOST];
    SIZE_T count = 0;

    while (count < MOST && (mdls[count] = IoAllocateMdl(NULL, 0xFFFFF000, FALSE, FALSE, NULL)) != NULL)
        count++;
    EXPECT(count > 0 && count < MOST);

    const struct pinion_counters full = counters_now();
    EXPECT_PTR_EQ(IoAllocateMdl(NULL, 0xFFFFF000, FALSE, FALSE, NULL), NULL);
    EXPECT_SAME_COUNTERS(full);

    IoFreeMdl(mdls[count - 1]);
    mdls[count - 1] = IoAllocateMdl(NULL, 0xFFFFF000, FALSE, FALSE, NULL);
    EXPECT(mdls[count - 1] != NULL);
    while (count > 0)
        IoFreeMdl(mdls[--count]);
}

/* ---- How long a buffer may be ---------------------------------------------------------------------------------- */

/* The limit before Windows Vista: PAGE_SIZE * (65535 - sizeof(MDL)) / sizeof(ULONG_PTR). */
#define OLD_LIMIT ((ULONG)((ULONG64)PAGE_SIZE * (65535 - sizeof(MDL)) / sizeof(ULONG_PTR)))
C_ASSERT(OLD_LIMIT == 33529344);
#define VISTA_LIMIT  0x7FFFF000 /* 2 GiB - PAGE_SIZE */
#define MODERN_LIMIT 0xFFFFF000 /* 4 GiB - PAGE_SIZE */

static void expect_limit(ULONG limit)
{
    static const ULONG beyond[] = {OLD_LIMIT, VISTA_LIMIT, MODERN_LIMIT, MAXULONG};
    const struct pinion_counters before = counters_now();

    for (int with_address = 0; with_address < 2; with_address++) {
        PVOID const va = with_address ? SOMEWHERE : NULL;
        const PMDL longest = IoAllocateMdl(va, limit, FALSE, FALSE, NULL);

        EXPECT(longest != NULL);
        EXPECT_EQ(MmGetMdlByteCount(longest), limit);
        EXPECT_PTR_EQ(MmGetMdlVirtualAddress(longest), va);
        MmGetMdlPfnArray(longest)[(limit - 1) >> PAGE_SHIFT] = 1; /* the last slot is there */
        IoFreeMdl(longest);
        EXPECT_PTR_EQ(IoAllocateMdl(va, limit + 1, FALSE, FALSE, NULL), NULL);
        for (SIZE_T i = 0; i < ARRAYSIZE(beyond); i++) {
            if (beyond[i] > limit)
                EXPECT_PTR_EQ(IoAllocateMdl(va, beyond[i], FALSE, FALSE, NULL), NULL);
        }
    }
    EXPECT_SAME_COUNTERS(before);
}

static void expect_limit_of_versions(const char *const *versions, SIZE_T count, ULONG limit)
{
    for (SIZE_T i = 0; i < count; i++) {
        char options[64];

        snprintf(options, sizeof(options), "windows=%s", versions[i]);
        boot(options);
        expect_limit(limit);
        EXPECT_EQ(pinion_shutdown(), 0);
    }
}

/* IoAllocateMdl-20: on Windows 2000, XP and Server 2003 the limit is what fits the 16-bit size of an MDL, to the
   byte. */
TEST(io_allocate_mdl, allocate__windows_2000_xp_2003__is_limited_by_the_size_of_an_mdl)
{
    static const char *const versions[] = {"2000", "xp", "2003"};

    expect_limit_of_versions(versions, ARRAYSIZE(versions), OLD_LIMIT);
}

/* IoAllocateMdl-21: on Windows Vista and Server 2008 the limit is 2 GiB less a page, to the byte. */
TEST(io_allocate_mdl, allocate__windows_vista_2008__is_limited_to_2_gib_less_a_page)
{
    static const char *const versions[] = {"vista", "2008"};

    expect_limit_of_versions(versions, ARRAYSIZE(versions), VISTA_LIMIT);
}

/* IoAllocateMdl-22: from Windows 7 on the limit is 4 GiB less a page, to the byte. */
TEST(io_allocate_mdl, allocate__windows_7_and_later__is_limited_to_4_gib_less_a_page)
{
    static const char *const versions[] = {"7", "8", "8.1", "10", "11"};

    expect_limit_of_versions(versions, ARRAYSIZE(versions), MODERN_LIMIT);
}

/* IoAllocateMdl-22: that is the limit of a machine that was booted without saying which Windows it is. */
TEST(io_allocate_mdl, allocate__version_not_said__is_limited_to_4_gib_less_a_page)
{
    expect_limit(MODERN_LIMIT);
}

/* The pages at the edges of the largest buffer, and some between. */
static const ULONG marked_pages[] = {0, 1, 2, 511, 512, 0x7FFFE, 0x7FFFF, 0x80000, 0xFFFFD, 0xFFFFE};

static void mark_pages(UCHAR *va)
{
    for (SIZE_T i = 0; i < ARRAYSIZE(marked_pages); i++) {
        const SIZE_T at = (SIZE_T)marked_pages[i] * PAGE_SIZE;

        va[at] = (UCHAR)(i + 1);
        va[at + PAGE_SIZE - 1] = (UCHAR)(i + 101);
    }
}

/* All of the marks that lie in [first, end), seen through a system address of `first`. */
static void expect_marks(const UCHAR *system, ULONG first_page, ULONG end_page)
{
    for (SIZE_T i = 0; i < ARRAYSIZE(marked_pages); i++) {
        if (marked_pages[i] < first_page || marked_pages[i] >= end_page)
            continue;
        const SIZE_T at = (SIZE_T)(marked_pages[i] - first_page) * PAGE_SIZE;

        EXPECT_EQ(system[at], (UCHAR)(i + 1));
        EXPECT_EQ(system[at + PAGE_SIZE - 1], (UCHAR)(i + 101));
    }
}

static void expect_part(PMDL source, UCHAR *va, ULONG first_page, ULONG pages)
{
    const PMDL part = mdl_over(va + (SIZE_T)first_page * PAGE_SIZE, pages * (ULONG)PAGE_SIZE);

    IoBuildPartialMdl(source, part, va + (SIZE_T)first_page * PAGE_SIZE, pages * (ULONG)PAGE_SIZE);
    EXPECT_EQ(MmGetMdlByteCount(part), pages * (ULONG)PAGE_SIZE);
    for (SIZE_T i = 0; i < ARRAYSIZE(marked_pages); i++) {
        if (marked_pages[i] >= first_page && marked_pages[i] < first_page + pages)
            EXPECT_EQ(MmGetMdlPfnArray(part)[marked_pages[i] - first_page],
                      frame_of(va + (SIZE_T)marked_pages[i] * PAGE_SIZE));
    }
    expect_marks(system_address(part), first_page, first_page + pages);
    IoFreeMdl(part);
}

/* IoAllocateMdl-22, IoAllocateMdl-02: the longest MDL works from end to end: it is locked, split, advanced past its
   middle, unlocked and freed, and each page number is that of its page. */
TEST(io_allocate_mdl, four_gib_less_a_page__locked_split_advanced_and_freed)
{
    enum { ALL_PAGES = MODERN_LIMIT >> PAGE_SHIFT, HALF = ALL_PAGES / 2 };

    boot("ram=8G");
    UCHAR *const va = pinion_user_alloc(MODERN_LIMIT, PAGE_READWRITE);
    EXPECT(va != NULL);
    mark_pages(va);
    const PMDL mdl = locked_mdl(va, MODERN_LIMIT);
    EXPECT_EQ(counters_now().locked_pages, ALL_PAGES);
    for (SIZE_T i = 0; i < ARRAYSIZE(marked_pages); i++)
        EXPECT_EQ(MmGetMdlPfnArray(mdl)[marked_pages[i]], frame_of(va + (SIZE_T)marked_pages[i] * PAGE_SIZE));

    expect_part(mdl, va, 0, 513);
    expect_part(mdl, va, ALL_PAGES - 2, 2);
    expect_part(mdl, va, HALF - 1, 3);
    expect_part(mdl, va, 1, ALL_PAGES - 1);

    EXPECT_STATUS(MmAdvanceMdl(mdl, (ULONG)HALF * PAGE_SIZE), STATUS_SUCCESS);
    EXPECT_EQ(counters_now().locked_pages, ALL_PAGES - HALF);
    EXPECT_PTR_EQ(MmGetMdlVirtualAddress(mdl), va + (SIZE_T)HALF * PAGE_SIZE);
    EXPECT_EQ(MmGetMdlByteCount(mdl), MODERN_LIMIT - (ULONG)HALF * PAGE_SIZE);
    EXPECT_EQ(MmGetMdlPfnArray(mdl)[ALL_PAGES - HALF - 1], frame_of(va + MODERN_LIMIT - PAGE_SIZE));
    expect_part(mdl, va, ALL_PAGES - 2, 2);

    MmUnlockPages(mdl);
    EXPECT_EQ(counters_now().locked_pages, 0);
    IoFreeMdl(mdl);
    pinion_user_free(va);
}

/* IoAllocateMdl-22: the longest MDL can be mapped as a whole, and shows the pages in their order. */
TEST(io_allocate_mdl, four_gib_less_a_page__mapped__shows_its_pages_in_order)
{
    boot("ram=8G");
    UCHAR *const va = pinion_user_alloc(MODERN_LIMIT, PAGE_READWRITE);
    EXPECT(va != NULL);
    mark_pages(va);
    const PMDL mdl = locked_mdl(va, MODERN_LIMIT);
    UCHAR *const system = system_address(mdl);

    EXPECT(system != NULL);
    expect_marks(system, 0, MODERN_LIMIT >> PAGE_SHIFT);
    EXPECT_EQ(counters_now().system_pages_mapped, MODERN_LIMIT >> PAGE_SHIFT);
    unlock_and_free(mdl);
    pinion_user_free(va);
}

/* ---- IRQL ------------------------------------------------------------------------------------------------------ */

/* IoAllocateMdl-29: it may be called at DISPATCH_LEVEL. */
SILENT_TEST(io_allocate_mdl, allocate__dispatch_level__works)
{
    const PIRP irp = irp_with_no_mdl();
    const KIRQL before = raise_irql(DISPATCH_LEVEL);
    const PMDL mdl = IoAllocateMdl(SOMEWHERE, 100 * PAGE_SIZE, FALSE, FALSE, irp);

    EXPECT(mdl != NULL);
    EXPECT_PTR_EQ(irp->MdlAddress, mdl);
    EXPECT_EQ(KeGetCurrentIrql(), DISPATCH_LEVEL);
    KeLowerIrql(before);
    free_irp_and_mdls(irp);
}

static void allocate_above_dispatch_level(HARNESS_UNUSED void *context)
{
    raise_irql(DISPATCH_LEVEL + 1);
    IoAllocateMdl(SOMEWHERE, PAGE_SIZE, FALSE, FALSE, NULL);
}

/* IoAllocateMdl-29: above DISPATCH_LEVEL it stops as an allocation of nonpaged pool does, with the IRQL. */
TEST_UNTIDY(io_allocate_mdl, allocate__above_dispatch_level__stops)
{
    const struct stop stop = expect_stop(allocate_above_dispatch_level, NULL, 0xC4, 0x02);

    EXPECT_EQ(stop.p[1], DISPATCH_LEVEL + 1);
}

/* ---- Who frees it ---------------------------------------------------------------------------------------------- */

/* IoAllocateMdl-33, IoAllocateMdl-34: an MDL that its driver never freed is reported at the end. */
WARN_TEST(io_allocate_mdl, allocate__never_freed__is_reported_at_the_end, "mdl-leak")
{
    const PMDL freed = mdl_over(SOMEWHERE, PAGE_SIZE);

    mdl_over(SOMEWHERE, PAGE_SIZE);
    IoFreeMdl(freed);
}

static NTSTATUS entry_that_leaks(HARNESS_UNUSED PDRIVER_OBJECT driver, HARNESS_UNUSED void *registry_path)
{
    mdl_over(SOMEWHERE, PAGE_SIZE);
    mdl_over(SOMEWHERE, PAGE_SIZE);
    return STATUS_SUCCESS;
}

static void unload_with_leak(HARNESS_UNUSED void *context)
{
    PDRIVER_OBJECT driver;

    EXPECT_STATUS(pinion_driver_load("leaks", entry_that_leaks, &driver), STATUS_SUCCESS);
    pinion_driver_unload(driver);
}

/* IoAllocateMdl-34: MDLs that a driver leaves behind when it is unloaded are leaked pool, counted. */
TEST_UNTIDY(io_allocate_mdl, allocate__never_freed_by_a_driver_that_is_unloaded__stops)
{
    const struct stop stop = expect_stop(unload_with_leak, NULL, 0xC4, 0x62);

    EXPECT_EQ(stop.p[3], 2);
}

/* The list of totals counts each MDL that was made, and none that was refused. */
TEST(io_allocate_mdl, totals__count_what_was_made)
{
    struct pinion_totals totals;

    for (int i = 0; i < 5; i++)
        IoFreeMdl(mdl_over(SOMEWHERE, PAGE_SIZE));
    EXPECT_PTR_EQ(IoAllocateMdl(NULL, MAXULONG, FALSE, FALSE, NULL), NULL);
    pinion_fail("IoAllocateMdl", 1);
    EXPECT_PTR_EQ(IoAllocateMdl(SOMEWHERE, PAGE_SIZE, FALSE, FALSE, NULL), NULL);
    pinion_totals(&totals);
    EXPECT_EQ(totals.mdls_allocated, 5);
    EXPECT_EQ(totals.injected_failures, 1);
}
