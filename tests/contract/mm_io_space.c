/* SPDX-License-Identifier: MIT */
/*
 * Physical addresses made visible: MmMapIoSpace, MmMapIoSpaceEx, MmUnmapIoSpace; what physical addresses the
 * routines of the memory manager know; KeFlushIoBuffers.
 */

#include "harness.h"

#include <wdm.h>
#include <pinion/pinion.h>

#include "pages.h"

/* ---- MmMapIoSpace ------------------------------------------------------------------------------------- */

static const struct {
    LONGLONG at;
    SIZE_T bytes;
} ranges[] = {
    {0xC0000LL << 12, PAGE_SIZE},           {(0xC0000LL << 12) + 1, 1},
    {(0xC0010LL << 12) + PAGE_SIZE - 1, 2}, {(0xC0020LL << 12) + 100, 3 * PAGE_SIZE},
    {0xFFFFFLL << 12, PAGE_SIZE},           {0xD0000LL << 12, 64 * PAGE_SIZE},
};

/* MmMapIoSpace-01 MmMapIoSpace-02 MmUnmapIoSpace-01: by their documented types, a device's memory is
   mapped at the page offset of its physical address; what is stored stays there for the next mapping;
   unmapped, the address is gone. */
SILENT_TEST(mm_map_io_space, call_through_its_type__device_memory__is_shown)
{
    PVOID (*const map)(PHYSICAL_ADDRESS, SIZE_T, MEMORY_CACHING_TYPE) = MmMapIoSpace;
    VOID (*const unmap)(PVOID, SIZE_T) = MmUnmapIoSpace;

    for (SIZE_T i = 0; i < ARRAYSIZE(ranges); i++) {
        UCHAR *const first = map(phys(ranges[i].at), ranges[i].bytes, MmNonCached);
        UCHAR *const second = map(phys(ranges[i].at), ranges[i].bytes, MmNonCached);

        EXPECT(first != NULL && second != NULL && first != second);
        EXPECT_EQ(BYTE_OFFSET(first), ranges[i].at & (PAGE_SIZE - 1));
        EXPECT_EQ(MmGetPhysicalAddress(first).QuadPart, ranges[i].at);
        fill_pattern(first, ranges[i].bytes, (ULONG)i);
        unmap(first, ranges[i].bytes);
        EXPECT(!MmIsAddressValid(first));
        EXPECT_PATTERN(second, ranges[i].bytes, (ULONG)i);
        unmap(second, ranges[i].bytes);
    }
}

/* MmMapIoSpace-02: each cache type shows the same memory. */
SILENT_TEST(mm_map_io_space, map__each_cache_type__shows_the_same)
{
    static const MEMORY_CACHING_TYPE types[] = {MmNonCached, MmCached, MmWriteCombined};

    for (SIZE_T i = 0; i < ARRAYSIZE(types); i++) {
        UCHAR *const va = MmMapIoSpace(phys(DEVICE_AT), 2 * PAGE_SIZE, types[i]);

        EXPECT(va != NULL);
        if (i > 0)
            EXPECT_PATTERN(va, 2 * PAGE_SIZE, (ULONG)i - 1);
        fill_pattern(va, 2 * PAGE_SIZE, (ULONG)i);
        MmUnmapIoSpace(va, 2 * PAGE_SIZE);
    }
}

/* MmMapIoSpace-03: memory that cannot go away may be mapped too: locked pages, allocated pages, contiguous
   memory. */
SILENT_TEST(mm_map_io_space, map__memory_that_stays__is_shown)
{
    UCHAR *const user = user_pattern(1, 1), *const contiguous =
                                                MmAllocateContiguousMemory(PAGE_SIZE, phys(EVERYWHERE));
    const PMDL locked = locked_mdl(user, PAGE_SIZE), pages = pages_anywhere(1);

    fill_pattern(system_address(pages), PAGE_SIZE, 1);
    fill_pattern(contiguous, PAGE_SIZE, 1);
    const PFN_NUMBER frames[] = {MmGetMdlPfnArray(locked)[0], MmGetMdlPfnArray(pages)[0],
                                 frame_of(contiguous)};
    for (SIZE_T i = 0; i < ARRAYSIZE(frames); i++) {
        UCHAR *const va =
            MmMapIoSpace(phys(((LONGLONG)frames[i] << PAGE_SHIFT) + 8), PAGE_SIZE - 8, MmCached);

        EXPECT_EQ(BYTE_OFFSET(va), 8);
        EXPECT_PATTERN_AT(va, PAGE_SIZE - 8, 1, 8);
        MmUnmapIoSpace(va, PAGE_SIZE - 8);
    }
    unlock_and_free(locked);
    free_pages(pages);
    MmFreeContiguousMemory(contiguous);
    pinion_user_free(user);
}

/* MmMapIoSpace-02 Driver_Verifier_low_resources_simulation-02: where there is no room it is NULL: made to
   fail once, or full for real; with room again it works. */
SILENT_TEST(mm_map_io_space, map__no_room__is_null_and_recovers)
{
    enum { MOST = 64 };
    PVOID mapped_at[MOST];
    SIZE_T count = 0;

    pinion_fail("MmMapIoSpace", 1);
    EXPECT(MmMapIoSpace(phys(DEVICE_AT), PAGE_SIZE, MmNonCached) == NULL);
    pinion_fail("MmMapIoSpaceEx", 1);
    EXPECT(MmMapIoSpaceEx(phys(DEVICE_AT), PAGE_SIZE, PAGE_READWRITE) == NULL);
    while (count < MOST && (mapped_at[count] = MmMapIoSpace(phys(DEVICE_AT), (SIZE_T)GIB, MmNonCached)) != NULL)
        count++;
    EXPECT(count > 1 && count < MOST);
    MmUnmapIoSpace(mapped_at[0], (SIZE_T)GIB);
    mapped_at[0] = MmMapIoSpace(phys(DEVICE_AT), (SIZE_T)GIB, MmNonCached);
    EXPECT(mapped_at[0] != NULL);
    while (count > 0)
        MmUnmapIoSpace(mapped_at[--count], (SIZE_T)GIB);
}

/* MmMapIoSpace-04 MmMapIoSpaceEx-01: they may be called at DISPATCH_LEVEL. */
SILENT_TEST(mm_map_io_space, map__at_dispatch_level__works)
{
    const KIRQL before = raise_irql(DISPATCH_LEVEL);
    UCHAR *const a = MmMapIoSpace(phys(DEVICE_AT), PAGE_SIZE, MmNonCached);
    UCHAR *const b = MmMapIoSpaceEx(phys(DEVICE_AT), PAGE_SIZE, PAGE_READWRITE | PAGE_NOCACHE);

    *a = 77;
    EXPECT_EQ(*b, 77);
    KeLowerIrql(before);
    MmUnmapIoSpace(a, PAGE_SIZE);
    MmUnmapIoSpace(b, PAGE_SIZE);
}

/* MmUnmapIoSpace-02: its page allows DISPATCH_LEVEL, as the machine does without the verifier. */
TEST(mm_map_io_space, unmap__at_dispatch_level_verifier_off__works)
{
    boot("verifier=off");
    const KIRQL before = raise_irql(DISPATCH_LEVEL);
    UCHAR *const va = MmMapIoSpace(phys(DEVICE_AT), PAGE_SIZE, MmNonCached);

    *va = 1;
    MmUnmapIoSpace(va, PAGE_SIZE);
    KeLowerIrql(before);
    EXPECT(!MmIsAddressValid(va));
}

/* ---- Mistakes ----------------------------------------------------------------------------------------- */

struct io_call {
    uint64_t at, bytes, va, ex;
};

static struct io_call *io_words(void)
{
    return (struct io_call *)shared_words();
}

static void map_too_high(void *context)
{
    const struct io_call *const call = context;

    raise_irql(DISPATCH_LEVEL + 1);
    MmMapIoSpace(phys((LONGLONG)call->at), call->bytes, MmNonCached);
}

/* MmMapIoSpace-04: above DISPATCH_LEVEL it stops with 0xC4/0x73, the IRQL, the physical address and the
   bytes. */
TEST_UNTIDY(mm_map_io_space, map__above_dispatch_level__stops)
{
    struct io_call *const call = io_words();

    *call = (struct io_call){.at = (uint64_t)DEVICE_AT + 5, .bytes = 100};
    const struct stop stop = expect_stop(map_too_high, call, DRIVER_VERIFIER_DETECTED_VIOLATION, 0x73);
    EXPECT_EQ(stop.p[1], DISPATCH_LEVEL + 1);
    EXPECT_EQ(stop.p[2], call->at);
    EXPECT_EQ(stop.p[3], call->bytes);
}

static void unmap_too_high(void *context)
{
    struct io_call *const call = context;
    UCHAR *const va = MmMapIoSpace(phys(DEVICE_AT), call->bytes, MmNonCached);

    call->va = (uint64_t)(uintptr_t)va;
    raise_irql(DISPATCH_LEVEL);
    MmUnmapIoSpace(va, call->bytes);
}

/* MmUnmapIoSpace-02: with the verifier, above APC_LEVEL it stops with 0xC4/0x7B, the IRQL, the address and
   the bytes. */
TEST_UNTIDY(mm_map_io_space, unmap__above_apc_level__stops)
{
    struct io_call *const call = io_words();

    *call = (struct io_call){.bytes = 3 * PAGE_SIZE};
    const struct stop stop = expect_stop(unmap_too_high, call, DRIVER_VERIFIER_DETECTED_VIOLATION, 0x7B);
    EXPECT_EQ(stop.p[1], DISPATCH_LEVEL);
    EXPECT_EQ(stop.p[2], call->va);
    EXPECT_EQ(stop.p[3], call->bytes);
}

/* Map RAM in which a page is not locked: the third of four. */
static void map_unlocked_ram(void *context)
{
    struct io_call *const call = context;
    const PMDL pages =
        pages_in_ex(LINEAR_AT, LINEAR_END - 1, 0, 4 * PAGE_SIZE, MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS);
    const PFN_NUMBER first = MmGetMdlPfnArray(pages)[0];

    free_pages(pages);
    const LONGLONG low = (LONGLONG)first << PAGE_SHIFT;
    const PMDL held = pages_in(low, low + 2 * PAGE_SIZE - 1, 0, 2 * PAGE_SIZE);
    EXPECT_EQ(MmGetMdlByteCount(held), 2 * PAGE_SIZE);
    call->at = (uint64_t)low + 4;
    call->bytes = 4 * PAGE_SIZE - 4;
    if (call->ex)
        MmMapIoSpaceEx(phys(low + 4), call->bytes, PAGE_READWRITE);
    else
        MmMapIoSpace(phys(low + 4), call->bytes, MmCached);
}

/* MmMapIoSpace-03: RAM that nobody holds stops with 0xC4/0x83, the physical address, the bytes and the
   first frame not held. */
TEST_UNTIDY(mm_map_io_space, map__ram_not_locked__stops)
{
    struct io_call *const call = io_words();

    for (uint64_t ex = 0; ex < 2; ex++) {
        *call = (struct io_call){.ex = ex};
        const struct stop stop =
            expect_stop(map_unlocked_ram, call, DRIVER_VERIFIER_DETECTED_VIOLATION, 0x83);

        EXPECT_EQ(stop.p[1], call->at);
        EXPECT_EQ(stop.p[2], call->bytes);
        EXPECT_EQ(stop.p[3], (call->at >> PAGE_SHIFT) + 2);
    }
}

static void map_unlocked_buffer(void *context)
{
    struct io_call *const call = context;
    UCHAR *const user = user_pattern(1, 1);

    call->at = (uint64_t)MmGetPhysicalAddress(user).QuadPart;
    MmMapIoSpace(phys((LONGLONG)call->at), 8, MmCached);
}

/* MmMapIoSpace-03: nor may the memory of a process be mapped that is not locked. */
TEST_UNTIDY(mm_map_io_space, map__process_memory_not_locked__stops)
{
    struct io_call *const call = io_words();
    const struct stop stop = expect_stop(map_unlocked_buffer, call, DRIVER_VERIFIER_DETECTED_VIOLATION, 0x83);

    EXPECT_EQ(stop.p[1], call->at);
    EXPECT_EQ(stop.p[3], call->at >> PAGE_SHIFT);
}

static void map_nothing(void *words)
{
    ((uint64_t *)words)[0] = MmMapIoSpace(phys(DEVICE_AT), 0, MmNonCached) == NULL;
    ((uint64_t *)words)[1] = MmMapIoSpaceEx(phys(DEVICE_AT), 0, PAGE_READWRITE) == NULL;
}

/* MmMapIoSpace-03: no bytes are refused. */
TEST_UNTIDY(mm_map_io_space, map__no_bytes__is_refused)
{
    uint64_t *const words = shared_words();
    const struct stop stop = run_until_stop(map_nothing, words);

    EXPECT(stop.stopped || (words[0] && words[1]));
}

static void unmap_twice(void *context)
{
    struct io_call *const call = context;
    UCHAR *const va = MmMapIoSpace(phys(DEVICE_AT), 3 * PAGE_SIZE, MmNonCached);

    call->va = (uint64_t)(uintptr_t)va;
    MmUnmapIoSpace(va, 3 * PAGE_SIZE);
    MmUnmapIoSpace(va, 3 * PAGE_SIZE);
}

static void unmap_pool(void *context)
{
    struct io_call *const call = context;
    UCHAR *const pool = pool_pages(3);

    call->va = (uint64_t)(uintptr_t)pool;
    MmUnmapIoSpace(pool, 3 * PAGE_SIZE);
}

static void unmap_a_locked_mdls_mapping(void *context)
{
    struct io_call *const call = context;
    UCHAR *const system = system_address(locked_mdl(user_pages(3, PAGE_READWRITE), 3 * PAGE_SIZE));

    call->va = (uint64_t)(uintptr_t)system;
    MmUnmapIoSpace(system, 3 * PAGE_SIZE);
}

/* MmUnmapIoSpace-01 Bug_checks-13: unmapping what is no such mapping stops with 0xDA/0x400, the address
   and the number of pages. */
TEST_UNTIDY(mm_map_io_space, unmap__unknown_address__stops)
{
    static void (*const bodies[])(void *) = {unmap_twice, unmap_pool, unmap_a_locked_mdls_mapping};
    struct io_call *const call = io_words();

    for (SIZE_T i = 0; i < ARRAYSIZE(bodies); i++) {
        const struct stop stop = expect_stop(bodies[i], call, SYSTEM_PTE_MISUSE, 0x400);

        EXPECT_EQ(stop.p[1], call->va);
        EXPECT_EQ(stop.p[2], 3);
    }
}

static void unmap_with_another_size(void *context)
{
    const struct io_call *const call = context;

    MmUnmapIoSpace(MmMapIoSpace(phys(DEVICE_AT), 3 * PAGE_SIZE, MmNonCached), call->bytes);
}

/* MmUnmapIoSpace-01: the size is that of the mapping: another number of pages stops. */
TEST_UNTIDY(mm_map_io_space, unmap__another_size__stops)
{
    struct io_call *const call = io_words();

    for (SIZE_T pages = 1; pages <= 5; pages += 2) {
        *call = (struct io_call){.bytes = pages * PAGE_SIZE};
        EXPECT_EQ(run_until_stop(unmap_with_another_size, call).stopped, pages != 3);
    }
}

static void touch_after_unmap(void *context)
{
    struct io_call *const call = context;
    UCHAR *const va = MmMapIoSpace(phys(DEVICE_AT + 9), 100, MmNonCached);

    call->va = (uint64_t)(uintptr_t)va;
    MmUnmapIoSpace(va, 100);
    *(volatile UCHAR *)va = 1;
}

/* MmUnmapIoSpace-01 Bug_checks-10: touching the address afterwards stops with 0x50. */
TEST_UNTIDY(mm_map_io_space, touch__unmapped__stops)
{
    struct io_call *const call = io_words();
    const struct stop stop = run_until_stop(touch_after_unmap, call);

    EXPECT_EQ(stop.code, PAGE_FAULT_IN_NONPAGED_AREA);
    EXPECT_EQ(stop.p[0], call->va);
    EXPECT_EQ(stop.p[1], 2);
}

/* ---- MmMapIoSpaceEx ----------------------------------------------------------------------------------- */

/* MmMapIoSpaceEx-01 MmMapIoSpaceEx-02: by its documented type, each protection alone and with one of the
   cache bits gives a mapping. */
SILENT_TEST(mm_map_io_space, map_ex__each_protection_that_writes__shows_the_device)
{
    PVOID (*const map)(PHYSICAL_ADDRESS, SIZE_T, ULONG) = MmMapIoSpaceEx;
    static const ULONG protections[] = {PAGE_READONLY, PAGE_READWRITE};
    static const ULONG caches[] = {0, PAGE_NOCACHE, PAGE_WRITECOMBINE};

    for (SIZE_T i = 0; i < ARRAYSIZE(protections) * ARRAYSIZE(caches); i++) {
        UCHAR *const writer = map(phys(DEVICE_AT), 2 * PAGE_SIZE, PAGE_READWRITE);
        UCHAR *const va = map(phys(DEVICE_AT + 7), PAGE_SIZE, protections[i / 3] | caches[i % 3]);

        EXPECT(va != NULL);
        EXPECT_EQ(BYTE_OFFSET(va), 7);
        fill_pattern(writer, 2 * PAGE_SIZE, (ULONG)i);
        EXPECT_PATTERN_AT(va, PAGE_SIZE, (ULONG)i, 7);
        if (protections[i / 3] == PAGE_READWRITE)
            *va = 1;
        MmUnmapIoSpace(va, PAGE_SIZE);
        MmUnmapIoSpace(writer, 2 * PAGE_SIZE);
    }
}

/* MmMapIoSpaceEx-02: executable mappings can be read or written as they say, and called. */
TEST_UNTIDY(mm_map_io_space, map_ex__executable__can_be_called)
{
    static const ULONG protections[] = {PAGE_EXECUTE, PAGE_EXECUTE_READ, PAGE_EXECUTE_READWRITE};

    boot("verifier=off");
    UCHAR *const writer = MmMapIoSpaceEx(phys(DEVICE_AT), PAGE_SIZE, PAGE_READWRITE);
    *writer = 0xC3; /* x86: return */
    for (SIZE_T i = 0; i < ARRAYSIZE(protections); i++) {
        UCHAR *const va = MmMapIoSpaceEx(phys(DEVICE_AT), PAGE_SIZE, protections[i]);

        EXPECT(va != NULL);
        ((void (*)(void))(uintptr_t)va)();
        MmUnmapIoSpace(va, PAGE_SIZE);
    }
    MmUnmapIoSpace(writer, PAGE_SIZE);
}

/* MmMapIoSpaceEx-02: no protection, two of them, one that is not in the list, or both cache bits, are
   refused with NULL. */
SILENT_TEST(mm_map_io_space, map_ex__wrong_protection__is_null)
{
    static const ULONG protections[] = {0,
                                        PAGE_NOCACHE,
                                        PAGE_WRITECOMBINE,
                                        PAGE_NOACCESS,
                                        PAGE_WRITECOPY,
                                        PAGE_EXECUTE_WRITECOPY,
                                        PAGE_READONLY | PAGE_READWRITE,
                                        PAGE_READWRITE | PAGE_EXECUTE,
                                        PAGE_READWRITE | PAGE_NOCACHE | PAGE_WRITECOMBINE,
                                        PAGE_READWRITE | PAGE_GUARD,
                                        0x80000000};

    for (SIZE_T i = 0; i < ARRAYSIZE(protections); i++)
        EXPECT(MmMapIoSpaceEx(phys(DEVICE_AT), PAGE_SIZE, protections[i]) == NULL);
}

static void store_to_read_only(void *context HARNESS_UNUSED)
{
    *(volatile UCHAR *)MmMapIoSpaceEx(phys(DEVICE_AT), PAGE_SIZE, PAGE_READONLY) = 1;
}

static void call_not_executable(void *context HARNESS_UNUSED)
{
    UCHAR *const va = MmMapIoSpaceEx(phys(DEVICE_AT), PAGE_SIZE, PAGE_READWRITE);

    *va = 0xC3;
    ((void (*)(void))(uintptr_t)va)();
}

/* MmMapIoSpaceEx-02: a store to a read-only mapping stops, and so does a call into one that is not
   executable. */
TEST_UNTIDY(mm_map_io_space, map_ex__against_the_protection__stops)
{
    EXPECT_EQ(run_until_stop(store_to_read_only, NULL).code, ATTEMPTED_WRITE_TO_READONLY_MEMORY);
    EXPECT(run_until_stop(call_not_executable, NULL).stopped);
}

/* ---- Physical addresses ------------------------------------------------------------------------------- */

/* MmGetVirtualForPhysical undoes MmGetPhysicalAddress, to the byte, where memory has one system address
   for good: pool, contiguous. */
SILENT_TEST(mm_virtual_for_physical, call__pool_and_contiguous_memory__gives_the_address)
{
    UCHAR *const pool = pool_pages(3), *const contiguous =
                                           MmAllocateContiguousMemory(3 * PAGE_SIZE, phys(EVERYWHERE));
    UCHAR *const blocks[] = {pool, contiguous};

    for (SIZE_T i = 0; i < ARRAYSIZE(blocks); i++) {
        for (SIZE_T at = 0; at < 3 * PAGE_SIZE; at += 1021)
            EXPECT_PTR_EQ(MmGetVirtualForPhysical(MmGetPhysicalAddress(blocks[i] + at)), blocks[i] + at);
    }
    ExFreePool(pool);
    MmFreeContiguousMemory(contiguous);
}

/* MmGetVirtualForPhysical of a process's frame gives an address where its bytes are seen. */
SILENT_TEST(mm_virtual_for_physical, call__locked_process_page__shows_its_bytes)
{
    UCHAR *const user = user_pattern(1, 1);
    const PMDL mdl = locked_mdl(user, PAGE_SIZE);
    UCHAR *const va = MmGetVirtualForPhysical(phys((LONGLONG)MmGetMdlPfnArray(mdl)[0] << PAGE_SHIFT));

    EXPECT(va != NULL);
    EXPECT_PATTERN(va, PAGE_SIZE, 1);
    unlock_and_free(mdl);
    pinion_user_free(user);
}

/* MmGetVirtualForPhysical is NULL where there is no RAM. */
SILENT_TEST(mm_virtual_for_physical, call__no_ram__is_null)
{
    static const LONGLONG places[] = {0,         0xFFLL << 12, 0x1000LL << 12, 1LL << 48, 1LL << 52,
                                      1LL << 62, -1,           -4096};

    for (SIZE_T i = 0; i < ARRAYSIZE(places); i++)
        EXPECT(MmGetVirtualForPhysical(phys(places[i])) == NULL);
}

/* MmGetVirtualForPhysical knows RAM only: a device's memory has the addresses that MmMapIoSpace gives it,
   and no other. */
SILENT_TEST(mm_virtual_for_physical, call__device_memory__is_null)
{
    UCHAR *const va = MmMapIoSpace(phys(DEVICE_AT), PAGE_SIZE, MmNonCached);

    EXPECT(MmGetVirtualForPhysical(phys(DEVICE_AT)) == NULL);
    MmUnmapIoSpace(va, PAGE_SIZE);
}

/* MmIsNonPagedSystemAddressValid is TRUE for memory of the system that is never paged, and for nothing
   else. */
SILENT_TEST(mm_nonpaged_address, call__each_kind_of_memory__only_nonpaged_system_memory)
{
    UCHAR *const pool = pool_pages(1), *const paged = ExAllocatePoolWithTag(PagedPool, PAGE_SIZE, TEST_TAG);
    UCHAR *const contiguous = MmAllocateContiguousMemory(PAGE_SIZE, phys(EVERYWHERE)), *const user =
                                                                                           user_pattern(1, 1);
    const PMDL mdl = locked_mdl(user, PAGE_SIZE);
    UCHAR *const system = system_address(mdl);

    *paged = 1;
    EXPECT(MmIsNonPagedSystemAddressValid(pool));
    EXPECT(MmIsNonPagedSystemAddressValid(pool + PAGE_SIZE - 1));
    EXPECT(MmIsNonPagedSystemAddressValid(contiguous));
    EXPECT(MmIsNonPagedSystemAddressValid(system));
    EXPECT(!MmIsNonPagedSystemAddressValid(paged));
    EXPECT(!MmIsNonPagedSystemAddressValid(user));
    EXPECT(!MmIsNonPagedSystemAddressValid(NULL));
    unlock_and_free(mdl);
    EXPECT(!MmIsNonPagedSystemAddressValid(system));
    ExFreePool(pool);
    ExFreePool(paged);
    MmFreeContiguousMemory(contiguous);
    pinion_user_free(user);
}

/* MmBuildMdlForNonPagedPool-18 MmMapIoSpace-02: the MDL of a device's memory says MDL_IO_SPACE, and can be mapped for a program. */
SILENT_TEST(mm_map_io_space, build_mdl__device_memory__says_io_space_and_maps_for_users)
{
    UCHAR *const va = MmMapIoSpace(phys(DEVICE_AT), 2 * PAGE_SIZE, MmNonCached);
    const PMDL mdl = IoAllocateMdl(va, 2 * PAGE_SIZE, FALSE, FALSE, NULL);
    UCHAR *user;

    MmBuildMdlForNonPagedPool(mdl);
    EXPECT(mdl->MdlFlags & MDL_IO_SPACE);
    user = MmMapLockedPagesSpecifyCache(mdl, UserMode, MmNonCached, NULL, FALSE, NormalPagePriority | MdlMappingNoExecute);
    EXPECT(user != NULL);
    fill_pattern(user, 2 * PAGE_SIZE, 9);
    EXPECT_PATTERN(va, 2 * PAGE_SIZE, 9);
    MmUnmapLockedPages(user, mdl);
    IoFreeMdl(mdl);
    MmUnmapIoSpace(va, 2 * PAGE_SIZE);
}

static void map_device_as_memory(void *context HARNESS_UNUSED)
{
    const PMDL mdl = IoAllocateMdl(NULL, PAGE_SIZE, FALSE, FALSE, NULL);

    MmGetMdlPfnArray(mdl)[0] = DEVICE_AT >> PAGE_SHIFT;
    mdl->MdlFlags |= MDL_PAGES_LOCKED;
    MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority | MdlMappingNoExecute);
}

/* MmGetSystemAddressForMdlSafe-06: a device's page in an MDL that does not say MDL_IO_SPACE is reported as no memory. */
TEST_UNTIDY(mm_map_io_space, map_mdl__device_page_without_the_flag__stops)
{
    expect_stop(map_device_as_memory, NULL, DRIVER_VERIFIER_DETECTED_VIOLATION, 0x89);
}

/* ---- KeFlushIoBuffers --------------------------------------------------------------------------------- */

/* KeFlushIoBuffers-01 KeFlushIoBuffers-03: by its documented type it changes nothing on x64, for reads and
   writes, DMA and PIO, at each IRQL up to DISPATCH_LEVEL. */
SILENT_TEST(ke_flush_io_buffers, call_through_its_type__each_direction__changes_nothing)
{
    VOID (*const flush)(PMDL, BOOLEAN, BOOLEAN) = KeFlushIoBuffers;
    UCHAR *const user = user_pattern(3, 1);
    const PMDL mdl = locked_mdl(user + 5, 2 * PAGE_SIZE);
    const MDL copy = *mdl;
    const struct pinion_counters before = counters_now();

    for (int i = 0; i < 12; i++) {
        const KIRQL irql = raise_irql((KIRQL)(i / 4));

        flush(mdl, (BOOLEAN)(i % 2), (BOOLEAN)(i / 2 % 2));
        KeLowerIrql(irql);
    }
    EXPECT_MEM_EQ(mdl, &copy, sizeof(copy));
    EXPECT_SAME_COUNTERS(before);
    EXPECT_PATTERN(user, 3 * PAGE_SIZE, 1);
    unlock_and_free(mdl);
    pinion_user_free(user);
}

/* KeFlushIoBuffers-02: of a chain only the MDL that is passed is looked at: what Next points to may be
   nothing at all. */
SILENT_TEST(ke_flush_io_buffers, call__head_of_a_chain__looks_at_no_other)
{
    UCHAR *const user = user_pattern(1, 1);
    const PMDL mdl = locked_mdl(user, PAGE_SIZE);

    mdl->Next = (PMDL)(ULONG_PTR)0x10;
    KeFlushIoBuffers(mdl, TRUE, TRUE);
    KeFlushIoBuffers(mdl, FALSE, FALSE);
    EXPECT_PTR_EQ(mdl->Next, 0x10);
    mdl->Next = NULL;
    unlock_and_free(mdl);
    pinion_user_free(user);
}

static void flush_too_high(void *context HARNESS_UNUSED)
{
    const PMDL mdl = locked_mdl(user_pages(1, PAGE_READWRITE), PAGE_SIZE);

    raise_irql(DISPATCH_LEVEL + 1);
    KeFlushIoBuffers(mdl, TRUE, TRUE);
}

/* KeFlushIoBuffers-01: above DISPATCH_LEVEL it is reported. */
TEST_UNTIDY(ke_flush_io_buffers, call__above_dispatch_level__is_reported)
{
    expect_report(flush_too_high, NULL);
}
