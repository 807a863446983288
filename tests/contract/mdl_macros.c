/* SPDX-License-Identifier: MIT */
/*
 * The arithmetic of MDLs: page macros, the size of an MDL, its initialisation in memory of the driver's own, and the
 * macros that read it. Every expected value is computed here by another way than the headers go.
 */

#include "harness.h"

#include <wdm.h>
#include <pinion/pinion.h>

#include "support.h"

/* ---- Pages --------------------------------------------------------------------------------------------- */

static const ULONG_PTR bases[] = {0, PAGE_SIZE, 0x7F0000000000, 0xFFFFFFFF00000000};
static const SIZE_T edges[] = {
    0, 1, 2, PAGE_SIZE / 2, PAGE_SIZE - 2, PAGE_SIZE - 1, PAGE_SIZE, PAGE_SIZE + 1};

/* BYTE_OFFSET_PAGE_ALIGN_BYTES_TO_PAGES-01 BYTE_OFFSET_PAGE_ALIGN_BYTES_TO_PAGES-02: an address is its
   page's start plus its offset in the page, for every offset and wherever the page lies. */
TEST(page_macros, byte_offset_and_page_align__every_offset__split_the_address)
{
    for (SIZE_T b = 0; b < ARRAYSIZE(bases); b++) {
        for (ULONG offset = 0; offset < PAGE_SIZE;
             offset += offset < 32 || offset > PAGE_SIZE - 32 ? 1 : 97) {
            const PVOID va = (PVOID)(bases[b] + offset);

            EXPECT_EQ(BYTE_OFFSET(va), offset);
            EXPECT_PTR_EQ(PAGE_ALIGN(va), bases[b]);
        }
    }
}

/* BYTE_OFFSET_PAGE_ALIGN_BYTES_TO_PAGES-03: so many bytes need as many pages as it takes to hold them,
   rounded up. */
TEST(page_macros, bytes_to_pages__around_page_edges__rounds_up)
{
    for (SIZE_T pages = 0; pages < 5; pages++) {
        const SIZE_T bytes = pages * PAGE_SIZE;

        EXPECT_EQ(BYTES_TO_PAGES(bytes), pages);
        EXPECT_EQ(BYTES_TO_PAGES(bytes + 1), pages + 1);
        EXPECT_EQ(BYTES_TO_PAGES(bytes + PAGE_SIZE - 1), pages + 1);
    }
}

/* BYTE_OFFSET_PAGE_ALIGN_BYTES_TO_PAGES-03: sizes of 32 bits do not overflow while they are rounded. */
TEST(page_macros, bytes_to_pages__largest_ulong__does_not_overflow)
{
    EXPECT_EQ(BYTES_TO_PAGES((ULONG)MAXULONG), 0x100000);
    EXPECT_EQ(BYTES_TO_PAGES((ULONG)MAXULONG & ~(ULONG)(PAGE_SIZE - 1)), 0xFFFFF);
}

/* The pages that [va, va + bytes) touches, counted one by one. */
static SIZE_T count_pages(ULONG_PTR va, SIZE_T bytes)
{
    SIZE_T pages = 0;

    for (ULONG_PTR page = va - va % PAGE_SIZE; page < va + bytes; page += PAGE_SIZE)
        pages++;
    return pages;
}

/* ADDRESS_AND_SIZE_TO_SPAN_PAGES-01: the span is the number of pages that the range touches, and 0 for
   nothing at the start of a page. */
TEST(page_macros, span_pages__ranges_around_page_edges__counts_touched_pages)
{
    for (SIZE_T o = 0; o < ARRAYSIZE(edges); o++) {
        for (SIZE_T pages = 0; pages < 3; pages++) {
            for (SIZE_T e = 0; e < ARRAYSIZE(edges); e++) {
                const ULONG_PTR va = 0x10000 + edges[o];
                const SIZE_T bytes = pages * PAGE_SIZE + edges[e];

                if (bytes > 0 || va % PAGE_SIZE == 0)
                    EXPECT_EQ(ADDRESS_AND_SIZE_TO_SPAN_PAGES((PVOID)va, bytes), count_pages(va, bytes));
            }
        }
    }
}

/* ADDRESS_AND_SIZE_TO_SPAN_PAGES-02: a range that ends at the very top of 32 bits, or is that long, is
   counted in full. */
TEST(page_macros, span_pages__largest_ranges__do_not_overflow)
{
    EXPECT_EQ(ADDRESS_AND_SIZE_TO_SPAN_PAGES((PVOID)0xFFF, (ULONG)MAXULONG), 0x100001);
    EXPECT_EQ(ADDRESS_AND_SIZE_TO_SPAN_PAGES((PVOID)0, (ULONG)MAXULONG), 0x100000);
    EXPECT_EQ(ADDRESS_AND_SIZE_TO_SPAN_PAGES((PVOID)0xFFFFFFFFFFFFF000, PAGE_SIZE), 1);
}

/* LOCK_OPERATION-01 MEMORY_CACHING_TYPE-01: the values of both enumerations are those of Windows. */
TEST(page_macros, enumerations__values__are_those_of_windows)
{
    EXPECT_EQ(IoReadAccess, 0);
    EXPECT_EQ(IoWriteAccess, 1);
    EXPECT_EQ(IoModifyAccess, 2);
    EXPECT_EQ(MmNonCached, 0);
    EXPECT_EQ(MmCached, 1);
    EXPECT_EQ(MmWriteCombined, 2);
}

/* ---- MmSizeOfMdl --------------------------------------------------------------------------------------- */

/* MmSizeOfMdl-01 MmSizeOfMdl-02: the routine has its documented type, and gives 48 bytes and 8 for each
   page touched. */
TEST(mdl_macros, size_of_mdl__ranges_around_page_edges__is_header_and_pfns)
{
    SIZE_T (*const size_of_mdl)(PVOID, SIZE_T) = MmSizeOfMdl;

    for (SIZE_T o = 0; o < ARRAYSIZE(edges); o++) {
        for (SIZE_T e = 1; e < ARRAYSIZE(edges); e++) {
            const ULONG_PTR va = 0x10000 + edges[o];

            EXPECT_EQ(size_of_mdl((PVOID)va, edges[e]), 48 + 8 * count_pages(va, edges[e]));
        }
    }
    EXPECT_EQ(size_of_mdl((PVOID)0x1FFF, MAXULONG), 48 + 8 * 0x100001ULL);
}

/* MmSizeOfMdl-04 MmGetMdlByteCount-02 MmGetMdlByteOffset-02 MmGetMdlPfnArray-05 MmGetMdlVirtualAddress-03
   ADDRESS_AND_SIZE_TO_SPAN_PAGES-02: all of them answer at HIGH_LEVEL. */
SILENT_TEST(mdl_macros, readers__at_high_level__answer)
{
    const PMDL mdl = mdl_over((PVOID)0x12345678, 0x2000);
    const KIRQL before = raise_irql(HIGH_LEVEL);
    const SIZE_T size = MmSizeOfMdl((PVOID)0x12345678, 0x2000);
    const ULONG count = MmGetMdlByteCount(mdl), offset = MmGetMdlByteOffset(mdl);
    const PVOID va = MmGetMdlVirtualAddress(mdl), pfns = MmGetMdlPfnArray(mdl);
    const SIZE_T span = ADDRESS_AND_SIZE_TO_SPAN_PAGES(va, count);

    KeLowerIrql(before);
    EXPECT_EQ(size, 48 + 8 * 3);
    EXPECT_EQ(span, 3);
    EXPECT_EQ(count, 0x2000);
    EXPECT_EQ(offset, 0x678);
    EXPECT_PTR_EQ(va, 0x12345678);
    EXPECT_PTR_EQ(pfns, (PUCHAR)mdl + 48);
    IoFreeMdl(mdl);
}

/* ---- MmInitializeMdl ----------------------------------------------------------------------------------- */

enum { OWN_PAGES = 3, GUARD_BYTES = 32 };

/* An MDL in memory of our own, filled with a pattern: header, PFNs, and bytes behind that nobody may
   write. */
struct own_mdl {
    MDL mdl;
    PFN_NUMBER pfns[OWN_PAGES];
    UCHAR guard[GUARD_BYTES];
};

enum { PFNS_AND_GUARD = sizeof(struct own_mdl) - sizeof(MDL) };

static void own_mdl_make(struct own_mdl *own, PVOID base, SIZE_T bytes)
{
    fill_pattern(own, sizeof(*own), 5);
    MmInitializeMdl(&own->mdl, base, bytes);
}

/* MmInitializeMdl-01 MmInitializeMdl-02: the header describes the buffer, is in no chain, and has no
   flags. */
TEST(mdl_macros, initialize_mdl__buffer__describes_it)
{
    static const struct {
        ULONG_PTR base;
        SIZE_T bytes;
        CSHORT size;
    } rows[] = {
        {0x10000, 1, 56},      {0x10FFF, 1, 56}, {0x10FFF, 2, 64},      {0x10000, 0x1000, 56},
        {0x10001, 0x1000, 64}, {0x10000, 0, 48}, {0x10ABC, 0x2000, 72}, {0x7F0000000123, 77, 56},
    };

    for (SIZE_T i = 0; i < ARRAYSIZE(rows); i++) {
        struct own_mdl own;

        own_mdl_make(&own, (PVOID)rows[i].base, rows[i].bytes);
        EXPECT(own.mdl.Next == NULL);
        EXPECT_EQ(own.mdl.MdlFlags, 0);
        EXPECT_EQ(own.mdl.Size, rows[i].size);
        EXPECT_PTR_EQ(MmGetMdlVirtualAddress(&own.mdl), rows[i].base);
        EXPECT_EQ(MmGetMdlByteCount(&own.mdl), rows[i].bytes);
        EXPECT_EQ(MmGetMdlByteOffset(&own.mdl), rows[i].base & 0xFFF);
    }
}

/* MmInitializeMdl-05 MmInitializeMdl-03: the PFN array is left as it was, and so is what lies behind it. */
TEST(mdl_macros, initialize_mdl__pfn_array__is_left_alone)
{
    struct own_mdl own, expected;

    fill_pattern(&expected, sizeof(expected), 5);
    own_mdl_make(&own, (PVOID)0x10010, (OWN_PAGES - 1) * PAGE_SIZE);
    EXPECT_MEM_EQ(own.pfns, expected.pfns, PFNS_AND_GUARD);
}

/* MmInitializeMdl-04: a length of MAXULONG is taken whole. */
TEST(mdl_macros, initialize_mdl__length_of_maxulong__is_kept)
{
    struct own_mdl own;

    own_mdl_make(&own, (PVOID)0x20000, MAXULONG);
    EXPECT_EQ(MmGetMdlByteCount(&own.mdl), MAXULONG);
    EXPECT_EQ(mdl_pages(&own.mdl), 0x100000);
}

/* MmInitializeMdl-06: it works at DISPATCH_LEVEL. */
SILENT_TEST(mdl_macros, initialize_mdl__at_dispatch_level__works)
{
    struct own_mdl own;
    const KIRQL before = raise_irql(DISPATCH_LEVEL);

    own_mdl_make(&own, (PVOID)0x10010, 100);
    KeLowerIrql(before);
    EXPECT_PTR_EQ(MmGetMdlVirtualAddress(&own.mdl), 0x10010);
}

/* MmInitializeMdl-03 MmSizeOfMdl-03: an MDL in nonpaged pool of exactly MmSizeOfMdl bytes can be locked,
   mapped and unlocked, and not a byte behind it changes. */
SILENT_TEST(mdl_macros, initialize_mdl__in_pool__serves_a_whole_life_and_stays_in_bounds)
{
    UCHAR *const user = user_pattern(OWN_PAGES, 3);
    const SIZE_T bytes = (OWN_PAGES - 1) * PAGE_SIZE, size = MmSizeOfMdl(user + 100, bytes);
    UCHAR *const block = ExAllocatePoolWithTag(NonPagedPoolNx, size + GUARD_BYTES, TEST_TAG);
    const PMDL mdl = (PMDL)block;

    EXPECT(block != NULL);
    fill_pattern(block + size, GUARD_BYTES, 9);
    MmInitializeMdl(mdl, user + 100, bytes);
    EXPECT_STATUS(try_lock(mdl, UserMode, IoWriteAccess), STATUS_SUCCESS);
    const UCHAR *const system = MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX);
    EXPECT(system != NULL);
    EXPECT_MEM_EQ(system, user + 100, bytes);
    MmUnlockPages(mdl);
    EXPECT_PATTERN(block + size, GUARD_BYTES, 9);
    ExFreePool(block);
    pinion_user_free(user);
}

/* ---- The macros that read an MDL ----------------------------------------------------------------------- */

/* MmGetMdlByteCount-01 MmGetMdlByteOffset-01 MmGetMdlVirtualAddress-01 MmGetMdlPfnArray-01: the macros give
   back what the MDL was made for, with an offset below a page, and the PFNs directly behind the header. */
TEST(mdl_macros, readers__mdl_of_a_range__give_back_the_range)
{
    for (SIZE_T o = 0; o < ARRAYSIZE(edges); o++) {
        for (SIZE_T e = 1; e < ARRAYSIZE(edges); e++) {
            const ULONG_PTR va = 0x40000 + edges[o];
            const PMDL mdl = mdl_over((PVOID)va, edges[e]);

            EXPECT_EQ(MmGetMdlByteCount(mdl), edges[e]);
            EXPECT_EQ(MmGetMdlByteOffset(mdl), va % PAGE_SIZE);
            EXPECT(MmGetMdlByteOffset(mdl) < PAGE_SIZE);
            EXPECT_PTR_EQ(MmGetMdlVirtualAddress(mdl), va);
            EXPECT_PTR_EQ(MmGetMdlBaseVa(mdl), va - va % PAGE_SIZE);
            EXPECT_PTR_EQ(MmGetMdlPfnArray(mdl), (PUCHAR)mdl + 48);
            IoFreeMdl(mdl);
        }
    }
}

/* MmGetMdlPfnArray-02 MmGetMdlPfnArray-04: once the pages are locked, the array holds one entry for each
   page that the buffer touches, each the page's frame, and the lock writes no entry more. */
SILENT_TEST(mdl_macros, pfn_array__locked_buffer__holds_one_frame_for_each_page)
{
    UCHAR *const user = user_pattern(OWN_PAGES, 1);
    struct own_mdl own, expected;

    fill_pattern(&expected, sizeof(expected), 5);
    own_mdl_make(&own, user + PAGE_SIZE - 1, 2);
    EXPECT_STATUS(try_lock(&own.mdl, UserMode, IoReadAccess), STATUS_SUCCESS);
    for (ULONG page = 0; page < 2; page++) {
        const PHYSICAL_ADDRESS pa = MmGetPhysicalAddress(user + page * PAGE_SIZE);

        EXPECT_EQ(MmGetMdlPfnArray(&own.mdl)[page], (ULONG64)pa.QuadPart >> PAGE_SHIFT);
    }
    EXPECT_MEM_EQ(&own.pfns[2], &expected.pfns[2], sizeof(own.pfns[2]) + GUARD_BYTES);
    MmUnlockPages(&own.mdl);
    pinion_user_free(user);
}

/* MmGetMdlPfnArray-03: a driver that keeps its hands off finds the PFNs unchanged by mapping, unmapping and
   partial MDLs. */
SILENT_TEST(mdl_macros, pfn_array__mapped_and_split__stays_as_the_lock_left_it)
{
    UCHAR *const user = user_pattern(OWN_PAGES, 1);
    const PMDL mdl = locked_mdl(user, OWN_PAGES * PAGE_SIZE), part = mdl_over(user, OWN_PAGES * PAGE_SIZE);
    PFN_NUMBER before[OWN_PAGES];

    RtlCopyMemory(before, MmGetMdlPfnArray(mdl), sizeof(before));
    EXPECT(MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX) != NULL);
    IoBuildPartialMdl(mdl, part, user + 10, PAGE_SIZE);
    EXPECT_MEM_EQ(MmGetMdlPfnArray(mdl), before, sizeof(before));
    EXPECT_MEM_EQ(MmGetMdlPfnArray(part), before, 2 * sizeof(before[0]));
    IoFreeMdl(part);
    unlock_and_free(mdl);
    pinion_user_free(user);
}

/* MmGetMdlVirtualAddress-02: the address is told in another process as well, where it is only an index. */
SILENT_TEST(mdl_macros, virtual_address__other_process_attached__is_still_told)
{
    UCHAR *const user = user_pattern(1, 1);
    const PMDL mdl = locked_mdl(user + 5, 100);
    const PMDL again = mdl_over(user + 5, 100);
    const PEPROCESS other = pinion_process_create("other");

    pinion_process_attach(other);
    EXPECT_PTR_EQ(MmGetMdlVirtualAddress(mdl), user + 5);
    EXPECT_STATUS(try_lock(again, UserMode, IoReadAccess), STATUS_ACCESS_VIOLATION);
    pinion_process_attach(NULL);
    IoFreeMdl(again);
    pinion_process_exit(other);
    unlock_and_free(mdl);
    pinion_user_free(user);
}
