/* SPDX-License-Identifier: MIT */
/*
 * MmAllocateMdlForIoSpace: an MDL over a device's memory. Which ranges it takes, which it refuses, and what
 * the MDL is good for.
 */

#include "harness.h"

#include <wdm.h>
#include <pinion/pinion.h>

#include "pages.h"

static PMDL io_mdl(MM_PHYSICAL_ADDRESS_LIST *list, SIZE_T entries)
{
    PMDL mdl = NULL;

    EXPECT_STATUS(MmAllocateMdlForIoSpace(list, entries, &mdl), STATUS_SUCCESS);
    EXPECT(mdl != NULL);
    return mdl;
}

/* An MDL over so many pages of the device, from its nth page on. */
static PMDL io_mdl_at(LONGLONG page, SIZE_T pages)
{
    MM_PHYSICAL_ADDRESS_LIST list[] = {{phys(DEVICE_AT + page * PAGE_SIZE), pages * PAGE_SIZE}};

    return io_mdl(list, 1);
}

/* ---- What comes back ---------------------------------------------------------------------------------- */

/* MmAllocateMdlForIoSpace-01 MmAllocateMdlForIoSpace-03 IoFreeMdl-07: by its documented type it gives an
   MDL and success, and IoFreeMdl frees that MDL. */
SILENT_TEST(mm_io_space_mdl, call_through_its_type__device_range__gives_an_mdl)
{
    NTSTATUS (*const allocate)(PMM_PHYSICAL_ADDRESS_LIST, SIZE_T, PMDL *) = MmAllocateMdlForIoSpace;
    MM_PHYSICAL_ADDRESS_LIST list[] = {{phys(DEVICE_AT), PAGE_SIZE}};
    const struct pinion_counters before = counters_now();
    PMDL mdl = NULL;

    EXPECT_STATUS(allocate(list, 1, &mdl), STATUS_SUCCESS);
    EXPECT(mdl != NULL);
    EXPECT_EQ(counters_now().live_mdls, before.live_mdls + 1);
    IoFreeMdl(mdl);
    EXPECT_SAME_COUNTERS(before);
}

/* MmAllocateMdlForIoSpace-02: the frames are those of the ranges, in their order: apart, touching,
   backwards, twice. */
SILENT_TEST(mm_io_space_mdl, allocate__several_ranges__describes_them_in_order)
{
    static const LONGLONG at[] = {100, 3, 4, 3, 0, 0x3FFFF};
    static const SIZE_T pages[] = {5, 1, 2, 1, 3, 1};
    MM_PHYSICAL_ADDRESS_LIST list[ARRAYSIZE(at)];
    SIZE_T total = 0;

    for (SIZE_T i = 0; i < ARRAYSIZE(at); i++) {
        list[i].PhysicalAddress = phys(DEVICE_AT + at[i] * PAGE_SIZE);
        list[i].NumberOfBytes = pages[i] * PAGE_SIZE;
        total += pages[i];
    }
    const PMDL mdl = io_mdl(list, ARRAYSIZE(list));
    const PFN_NUMBER *pfn = MmGetMdlPfnArray(mdl);
    EXPECT_EQ(MmGetMdlByteCount(mdl), total * PAGE_SIZE);
    EXPECT_EQ(MmGetMdlByteOffset(mdl), 0);
    EXPECT(mdl->Next == NULL);
    for (SIZE_T i = 0; i < ARRAYSIZE(at); i++) {
        for (SIZE_T page = 0; page < pages[i]; page++)
            EXPECT_EQ(*pfn++, (PFN_NUMBER)(DEVICE_AT >> PAGE_SHIFT) + (PFN_NUMBER)at[i] + page);
    }
    IoFreeMdl(mdl);
}

/* MmAllocateMdlForIoSpace-08: the MDL is not mapped, says that it is I/O space, and holds no lock. */
SILENT_TEST(mm_io_space_mdl, allocate__mdl__is_not_mapped)
{
    const struct pinion_counters before = counters_now();
    const PMDL mdl = io_mdl_at(0, 2);

    EXPECT(mdl->MdlFlags & MDL_IO_SPACE);
    EXPECT_EQ(mdl->MdlFlags & (MDL_MAPPED_TO_SYSTEM_VA | MDL_SOURCE_IS_NONPAGED_POOL | MDL_PARTIAL), 0);
    EXPECT_EQ(counters_now().system_mappings, before.system_mappings);
    EXPECT_EQ(counters_now().locked_pages, before.locked_pages);
    IoFreeMdl(mdl);
}

/* MmAllocateMdlForIoSpace-08: MmMapLockedPagesSpecifyCache maps it with each cache type; what one mapping
   stores another one of the same pages reads, and MmUnmapLockedPages releases it. */
SILENT_TEST(mm_io_space_mdl, map__each_cache_type__shows_the_device)
{
    static const MEMORY_CACHING_TYPE types[] = {MmNonCached, MmWriteCombined, MmCached};

    for (SIZE_T i = 0; i < ARRAYSIZE(types); i++) {
        const PMDL a = io_mdl_at(8, 3), b = io_mdl_at(9, 2);
        UCHAR *const first = MmMapLockedPagesSpecifyCache(a, KernelMode, types[i], NULL, FALSE, NORMAL_NX);
        UCHAR *const second = MmMapLockedPagesSpecifyCache(b, KernelMode, types[i], NULL, FALSE, NORMAL_NX);

        EXPECT(first != NULL && second != NULL);
        fill_pattern(first, 3 * PAGE_SIZE, (ULONG)i);
        EXPECT_MEM_EQ(second, first + PAGE_SIZE, 2 * PAGE_SIZE);
        fill_pattern(second, 2 * PAGE_SIZE, 9);
        EXPECT_PATTERN(first + PAGE_SIZE, 2 * PAGE_SIZE, 9);
        EXPECT_EQ(counters_now().system_mappings, 2);
        MmUnmapLockedPages(first, a);
        MmUnmapLockedPages(second, b);
        EXPECT_EQ(counters_now().system_mappings, 0);
        IoFreeMdl(a);
        IoFreeMdl(b);
    }
}

/* MmAllocateMdlForIoSpace-08: each page of a mapping over ranges that lie apart is the page of its range. */
SILENT_TEST(mm_io_space_mdl, map__ranges_apart__shows_each_at_its_place)
{
    MM_PHYSICAL_ADDRESS_LIST list[] = {{phys(DEVICE_AT + 50 * PAGE_SIZE), PAGE_SIZE},
                                       {phys(DEVICE_AT), 2 * PAGE_SIZE}};
    const PMDL apart = io_mdl(list, ARRAYSIZE(list)), all = io_mdl_at(0, 51);
    UCHAR *const device = system_address(all), *const system = system_address(apart);

    fill_pattern(device, 51 * PAGE_SIZE, 3);
    EXPECT_PATTERN_AT(system, PAGE_SIZE, 3, 50 * PAGE_SIZE);
    EXPECT_PATTERN_AT(system + PAGE_SIZE, 2 * PAGE_SIZE, 3, 0);
    EXPECT_EQ(frame_of(system), list[0].PhysicalAddress.QuadPart >> PAGE_SHIFT);
    MmUnmapLockedPages(device, all);
    MmUnmapLockedPages(system, apart);
    IoFreeMdl(all);
    IoFreeMdl(apart);
}

/* MmAllocateMdlForIoSpace-08: a process can have it mapped as well. */
SILENT_TEST(mm_io_space_mdl, map__into_a_process__is_shared_with_the_system)
{
    const PMDL mdl = io_mdl_at(4, 2);
    UCHAR *const user = map_user(mdl), *const system = system_address(mdl);

    fill_pattern(user, 2 * PAGE_SIZE, 5);
    EXPECT_PATTERN(system, 2 * PAGE_SIZE, 5);
    MmUnmapLockedPages(user, mdl);
    MmUnmapLockedPages(system, mdl);
    IoFreeMdl(mdl);
}

/* MmAllocateMdlForIoSpace-08: it is a source of partial MDLs, which are I/O space as well. */
SILENT_TEST(mm_io_space_mdl, partial__of_io_space__shows_its_part)
{
    const PMDL mdl = io_mdl_at(0, 3), part = mdl_over(NULL, 2 * PAGE_SIZE);
    UCHAR *const system = system_address(mdl);

    fill_pattern(system, 3 * PAGE_SIZE, 2);
    MmUnmapLockedPages(system, mdl);
    IoBuildPartialMdl(mdl, part, address_in(mdl, 100), PAGE_SIZE);
    EXPECT(part->MdlFlags & MDL_IO_SPACE);
    EXPECT_PATTERN_AT(system_address(part), PAGE_SIZE, 2, 100);
    IoFreeMdl(part);
    IoFreeMdl(mdl);
}

/* ---- What is refused ---------------------------------------------------------------------------------- */

/* The call must fail with this status, or any error where it is 0, and must not write *NewMdl or leave
   anything behind. */
static void expect_refused(MM_PHYSICAL_ADDRESS_LIST *list, SIZE_T entries, NTSTATUS expected)
{
    const struct pinion_counters before = counters_now();
    const PMDL unused = (PMDL)(ULONG_PTR)0x1234;
    PMDL mdl = unused;
    const NTSTATUS status = MmAllocateMdlForIoSpace(list, entries, &mdl);

    EXPECT(NT_ERROR(status));
    if (expected)
        EXPECT_STATUS(status, expected);
    EXPECT(mdl == unused || mdl == NULL);
    EXPECT_SAME_COUNTERS(before);
}

/* MmAllocateMdlForIoSpace-04 MmAllocateMdlForIoSpace-07: a base off the page, a size that is no multiple
   of a page or zero, and a range that is RAM or reaches into it, are STATUS_INVALID_PARAMETER_1. */
SILENT_TEST(mm_io_space_mdl, allocate__range_of_a_wrong_shape__is_refused)
{
    static const LONGLONG ranges[][2] = {
        {(0xC0000LL << 12) + 1, PAGE_SIZE},
        {(0xC0000LL << 12) + PAGE_SIZE - 1, PAGE_SIZE},
        {(0xC0000LL << 12) + 8, PAGE_SIZE - 8},
        {0xC0000LL << 12, PAGE_SIZE - 1},
        {0xC0000LL << 12, PAGE_SIZE + 1},
        {0xC0000LL << 12, 1},
        {0xC0000LL << 12, 0},
        {0x100LL << 12, PAGE_SIZE},
        {0x20000LL << 12, PAGE_SIZE},
        {0x100000LL << 12, PAGE_SIZE},
        {0x200000LL << 12, 4 * PAGE_SIZE},
        {0xFFFFFLL << 12, 2 * PAGE_SIZE},
        {0xFFLL << 12, 2 * PAGE_SIZE},
    };

    for (SIZE_T i = 0; i < ARRAYSIZE(ranges); i++) {
        MM_PHYSICAL_ADDRESS_LIST list[] = {{phys(ranges[i][0]), (SIZE_T)ranges[i][1]}};

        expect_refused(list, 1, STATUS_INVALID_PARAMETER_1);
    }
}

/* MmAllocateMdlForIoSpace-04 MmAllocateMdlForIoSpace-07: one wrong range refuses the whole list, wherever
   it stands in it. */
SILENT_TEST(mm_io_space_mdl, allocate__one_range_wrong__refuses_all)
{
    for (SIZE_T wrong = 0; wrong < 3; wrong++) {
        MM_PHYSICAL_ADDRESS_LIST list[] = {{phys(DEVICE_AT), PAGE_SIZE},
                                           {phys(DEVICE_AT + 4 * PAGE_SIZE), PAGE_SIZE},
                                           {phys(DEVICE_AT + 9 * PAGE_SIZE), PAGE_SIZE}};

        list[wrong].NumberOfBytes = 0;
        expect_refused(list, 3, STATUS_INVALID_PARAMETER_1);
        list[wrong].NumberOfBytes = PAGE_SIZE;
        list[wrong].PhysicalAddress = phys(SCATTERED_AT);
        expect_refused(list, 3, STATUS_INVALID_PARAMETER_1);
    }
}

/* MmAllocateMdlForIoSpace-06: the ranges sum up to less than 4 GiB: a page less is taken, 4 GiB and more
   are refused, and so is a sum that wraps. */
SILENT_TEST(mm_io_space_mdl, allocate__four_gib__is_refused_and_a_page_less_is_not)
{
    MM_PHYSICAL_ADDRESS_LIST list[5];

    for (SIZE_T i = 0; i < ARRAYSIZE(list); i++)
        list[i] = (MM_PHYSICAL_ADDRESS_LIST){phys(DEVICE_AT), (SIZE_T)GIB};
    expect_refused(list, 4, 0);
    expect_refused(list, 5, 0);
    list[3].NumberOfBytes = (SIZE_T)GIB - PAGE_SIZE;
    const PMDL mdl = io_mdl(list, 4);
    EXPECT_EQ(MmGetMdlByteCount(mdl), 0xFFFFF000);
    EXPECT_EQ(MmGetMdlPfnArray(mdl)[0xFFFFE], 0xFFFFE);
    IoFreeMdl(mdl);
    list[0].NumberOfBytes = ~(SIZE_T)0 - PAGE_SIZE + 1;
    expect_refused(list, 2, 0);
    list[0].PhysicalAddress = phys(-(LONGLONG)PAGE_SIZE);
    list[0].NumberOfBytes = 2 * PAGE_SIZE;
    expect_refused(list, 1, 0);
}

/* An MDL over what is neither RAM nor a device: where one is given, its pages can be had or not, but
   nothing else. */
static void use_what_is_nothing(void *context)
{
    MM_PHYSICAL_ADDRESS_LIST list[] = {{phys(*(LONGLONG *)context), PAGE_SIZE}};
    PMDL mdl;

    if (!NT_SUCCESS(MmAllocateMdlForIoSpace(list, 1, &mdl)))
        return;
    volatile UCHAR *const system =
        MmMapLockedPagesSpecifyCache(mdl, KernelMode, MmNonCached, NULL, FALSE, NORMAL_NX);
    if (system) {
        *system = 1;
        EXPECT_EQ(*system, 1);
        MmUnmapLockedPages((PVOID)system, mdl);
    }
    IoFreeMdl(mdl);
}

/* MmAllocateMdlForIoSpace-04 MmAllocateMdlForIoSpace-08: an MDL over addresses where the machine has
   nothing, up to the highest that can be written down, is refused, or can be used like any other. */
TEST_UNTIDY(mm_io_space_mdl, allocate__addresses_of_nothing__are_refused_or_usable)
{
    static const LONGLONG addresses[] = {0,         0xB0000LL << 12, 0x1000LL << 12,         1LL << 46,
                                         1LL << 48, 1LL << 53,       (1LL << 62) + PAGE_SIZE};
    LONGLONG *const address = (LONGLONG *)shared_words();

    for (SIZE_T i = 0; i < ARRAYSIZE(addresses); i++) {
        *address = addresses[i];
        const struct stop stop = run_until_stop(use_what_is_nothing, address);

        if (stop.stopped)
            harness_fail(HARNESS_HERE, "address 0x%llX: %s", (unsigned long long)addresses[i],
                         stop.stderr_text);
        EXPECT_EQ(stop.exit_status, 0);
    }
}

/* MmAllocateMdlForIoSpace-06: a list of nothing describes nothing. */
SILENT_TEST(mm_io_space_mdl, allocate__empty_list__is_refused)
{
    MM_PHYSICAL_ADDRESS_LIST list[] = {{phys(DEVICE_AT), PAGE_SIZE}};

    expect_refused(list, 0, 0);
}

/* MmAllocateMdlForIoSpace-05 Driver_Verifier_low_resources_simulation-02: made to fail, it is
   STATUS_INSUFFICIENT_RESOURCES once. */
SILENT_TEST(mm_io_space_mdl, allocate__made_to_fail__is_insufficient_resources)
{
    MM_PHYSICAL_ADDRESS_LIST list[] = {{phys(DEVICE_AT), PAGE_SIZE}};

    pinion_fail("MmAllocateMdlForIoSpace", 1);
    expect_refused(list, 1, STATUS_INSUFFICIENT_RESOURCES);
    IoFreeMdl(io_mdl(list, 1));
}

/* ---- IRQL, leaks -------------------------------------------------------------------------------------- */

/* MmAllocateMdlForIoSpace-09: it may be called at DISPATCH_LEVEL. */
SILENT_TEST(mm_io_space_mdl, allocate__at_dispatch_level__works)
{
    const KIRQL before = raise_irql(DISPATCH_LEVEL);
    const PMDL mdl = io_mdl_at(0, 100);

    EXPECT_EQ(KeGetCurrentIrql(), DISPATCH_LEVEL);
    IoFreeMdl(mdl);
    KeLowerIrql(before);
}

static void allocate_too_high(void *context HARNESS_UNUSED)
{
    raise_irql(DISPATCH_LEVEL + 1);
    io_mdl_at(0, 1);
}

/* MmAllocateMdlForIoSpace-09: above DISPATCH_LEVEL it is reported. */
TEST_UNTIDY(mm_io_space_mdl, allocate__above_dispatch_level__is_reported)
{
    expect_report(allocate_too_high, NULL);
}

/* MmAllocateMdlForIoSpace-08: the caller frees it: an MDL that is left is reported. */
WARN_TEST(mm_io_space_mdl, shutdown__mdl_never_freed__is_reported, "mdl-leak")
{
    io_mdl_at(0, 1);
}
