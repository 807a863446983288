/* SPDX-License-Identifier: MIT */
/*
 * ProbeForRead and ProbeForWrite: which ranges are a process's, which can be written, and what they raise
 * where not.
 */

#include "harness.h"

#include <wdm.h>
#include <pinion/pinion.h>

#include "pages.h"

struct probe {
    PVOID at;
    SIZE_T bytes;
    ULONG alignment;
};

static void read_body(void *context)
{
    const struct probe *const probe = context;

    ProbeForRead(probe->at, probe->bytes, probe->alignment);
}

static void write_body(void *context)
{
    const struct probe *const probe = context;

    ProbeForWrite(probe->at, probe->bytes, probe->alignment);
}

static NTSTATUS try_read(PVOID at, SIZE_T bytes, ULONG alignment)
{
    struct probe probe = {at, bytes, alignment};

    return pinion_try(read_body, &probe);
}

static NTSTATUS try_write(PVOID at, SIZE_T bytes, ULONG alignment)
{
    struct probe probe = {at, bytes, alignment};

    return pinion_try(write_body, &probe);
}

static const SIZE_T lengths[] = {1, 2, PAGE_SIZE - 1, PAGE_SIZE, PAGE_SIZE + 1, 3 * PAGE_SIZE};

/* ProbeForRead-01 ProbeForWrite-01: by their documented types they accept each part of a buffer of the
   process, at PASSIVE_LEVEL and at APC_LEVEL, and leave every byte as it is. */
SILENT_TEST(mm_probe, call_through_their_types__parts_of_a_buffer__are_accepted)
{
    VOID (*const read)(const volatile VOID *, SIZE_T, ULONG) = ProbeForRead;
    VOID (*const write)(volatile VOID *, SIZE_T, ULONG) = ProbeForWrite;
    UCHAR *const user = user_pattern(3, 7);

    for (KIRQL irql = PASSIVE_LEVEL; irql <= APC_LEVEL; irql++) {
        const KIRQL before = raise_irql(irql);

        for (SIZE_T i = 0; i < ARRAYSIZE(lengths); i++) {
            read(user, lengths[i], 1);
            write(user, lengths[i], 1);
            read(user + 3 * PAGE_SIZE - lengths[i], lengths[i], 1);
            write(user + 3 * PAGE_SIZE - lengths[i], lengths[i], 1);
        }
        KeLowerIrql(before);
    }
    EXPECT_PATTERN(user, 3 * PAGE_SIZE, 7);
    pinion_user_free(user);
}

/* ProbeForRead-02 ProbeForWrite-01: addresses of the system raise STATUS_ACCESS_VIOLATION: pool,
   contiguous memory, a mapping, the last addresses there are. */
SILENT_TEST(mm_probe, probe__system_addresses__raises)
{
    UCHAR *const pool = pool_pages(1), *const contiguous =
                                           MmAllocateContiguousMemory(PAGE_SIZE, phys(EVERYWHERE));
    UCHAR *const paged = ExAllocatePoolWithTag(PagedPool, PAGE_SIZE, TEST_TAG);
    const PMDL pages = pages_anywhere(1);
    UCHAR *const wrong[] = {pool,
                            pool + 8,
                            contiguous,
                            paged,
                            system_address(pages),
                            (UCHAR *)(ULONG_PTR)0xFFFFF80000000000,
                            (UCHAR *)~(ULONG_PTR)0 - 7};

    for (SIZE_T i = 0; i < ARRAYSIZE(wrong); i++) {
        EXPECT_STATUS(try_read(wrong[i], 8, 1), STATUS_ACCESS_VIOLATION);
        EXPECT_STATUS(try_write(wrong[i], 8, 1), STATUS_ACCESS_VIOLATION);
        EXPECT_STATUS(try_read(wrong[i], 1, 1), STATUS_ACCESS_VIOLATION);
    }
    ExFreePool(pool);
    ExFreePool(paged);
    MmFreeContiguousMemory(contiguous);
    free_pages(pages);
}

/* ProbeForRead-02 ProbeForWrite-01: a range that leaves user space raises: by its length, or by wrapping
   around, down to the byte. */
SILENT_TEST(mm_probe, probe__range_leaves_user_space__raises)
{
    UCHAR *const user = user_pattern(1, 7);
    const SIZE_T to_the_end = ~(SIZE_T)0 - (SIZE_T)(ULONG_PTR)user + 1;
    const SIZE_T wrong[] = {~(SIZE_T)0,     ~(SIZE_T)0 - PAGE_SIZE, to_the_end - 1,  to_the_end,
                            to_the_end + 1, to_the_end + PAGE_SIZE, (SIZE_T)1 << 48, (SIZE_T)1 << 63};

    for (SIZE_T i = 0; i < ARRAYSIZE(wrong); i++) {
        EXPECT_STATUS(try_read(user, wrong[i], 1), STATUS_ACCESS_VIOLATION);
        EXPECT_STATUS(try_write(user, wrong[i], 1), STATUS_ACCESS_VIOLATION);
    }
    EXPECT_PATTERN(user, PAGE_SIZE, 7);
    pinion_user_free(user);
}

/* ProbeForRead-03 ProbeForWrite-01: a start that is not aligned as asked raises
   STATUS_DATATYPE_MISALIGNMENT; one that is does not. */
SILENT_TEST(mm_probe, probe__each_offset_and_alignment__misaligned_raises)
{
    UCHAR *const user = user_pattern(1, 7);

    for (ULONG alignment = 1; alignment <= 16; alignment *= 2) {
        for (ULONG offset = 0; offset < 17; offset++) {
            const NTSTATUS expected = offset % alignment ? STATUS_DATATYPE_MISALIGNMENT : STATUS_SUCCESS;

            EXPECT_STATUS(try_read(user + offset, 100, alignment), expected);
            EXPECT_STATUS(try_write(user + offset, 100, alignment), expected);
        }
    }
    EXPECT_STATUS(try_read(user, 1, 8), STATUS_SUCCESS);
    pinion_user_free(user);
}

/* ProbeForRead-04 ProbeForWrite-02: no bytes are not looked at: wherever they are and however aligned. */
SILENT_TEST(mm_probe, probe__no_bytes__is_accepted_anywhere)
{
    UCHAR *const pool = pool_pages(1), *const user = user_pages(1, PAGE_NOACCESS);
    UCHAR *const places[] = {
        NULL, pool, pool + 1, user + 3, (UCHAR *)(ULONG_PTR)0xFFFFF80000000001, (UCHAR *)~(ULONG_PTR)0};

    for (SIZE_T i = 0; i < ARRAYSIZE(places); i++) {
        EXPECT_STATUS(try_read(places[i], 0, 8), STATUS_SUCCESS);
        EXPECT_STATUS(try_write(places[i], 0, 8), STATUS_SUCCESS);
    }
    ExFreePool(pool);
    pinion_user_free(user);
}

/* ProbeForWrite-01: a page that cannot be written, wherever it is in the range, raises
   STATUS_ACCESS_VIOLATION; ProbeForRead does not touch the pages. */
SILENT_TEST(mm_probe, probe_for_write__one_page_refuses__raises)
{
    static const ULONG protections[] = {PAGE_READONLY, PAGE_NOACCESS, PAGE_EXECUTE_READ};
    UCHAR *const user = user_pattern(4, 7);

    for (SIZE_T page = 0; page < 4; page++) {
        for (SIZE_T i = 0; i < ARRAYSIZE(protections); i++) {
            pinion_user_protect(user + page * PAGE_SIZE, PAGE_SIZE, protections[i]);
            EXPECT_STATUS(try_write(user, 4 * PAGE_SIZE, 1), STATUS_ACCESS_VIOLATION);
            EXPECT_STATUS(try_write(user + page * PAGE_SIZE + PAGE_SIZE - 1, 1, 1), STATUS_ACCESS_VIOLATION);
            EXPECT_STATUS(try_read(user, 4 * PAGE_SIZE, 1), STATUS_SUCCESS);
        }
        pinion_user_protect(user + page * PAGE_SIZE, PAGE_SIZE, PAGE_READWRITE);
    }
    EXPECT_STATUS(try_write(user, 4 * PAGE_SIZE, 1), STATUS_SUCCESS);
    EXPECT_PATTERN(user, 4 * PAGE_SIZE, 7);
    pinion_user_free(user);
}

/* ProbeForWrite-01: only pages of the range count: those around it may refuse. */
SILENT_TEST(mm_probe, probe_for_write__pages_around_refuse__is_accepted)
{
    UCHAR *const user = user_pattern(3, 7);

    pinion_user_protect(user, PAGE_SIZE, PAGE_READONLY);
    pinion_user_protect(user + 2 * PAGE_SIZE, PAGE_SIZE, PAGE_NOACCESS);
    EXPECT_STATUS(try_write(user + PAGE_SIZE, PAGE_SIZE, 1), STATUS_SUCCESS);
    EXPECT_STATUS(try_write(user + PAGE_SIZE, PAGE_SIZE + 1, 1), STATUS_ACCESS_VIOLATION);
    EXPECT_STATUS(try_write(user + PAGE_SIZE - 1, 2, 1), STATUS_ACCESS_VIOLATION);
    pinion_user_free(user);
}

/* ProbeForWrite-01: it touches every page: those that were away are back, with their contents.
   ProbeForRead brings none. */
SILENT_TEST(mm_probe, probe__trimmed_pages__only_writing_brings_them_back)
{
    UCHAR *const user = user_pattern(5, 7);

    EXPECT_EQ(pinion_trim(), 5);
    EXPECT_STATUS(try_read(user, 5 * PAGE_SIZE, 1), STATUS_SUCCESS);
    EXPECT_EQ(pinion_trim(), 0);
    EXPECT_STATUS(try_write(user + PAGE_SIZE - 1, 2 * PAGE_SIZE, 1), STATUS_SUCCESS);
    EXPECT_EQ(pinion_trim(), 3);
    EXPECT_PATTERN(user, 5 * PAGE_SIZE, 7);
    pinion_user_free(user);
}

/* ProbeForRead-02 ProbeForWrite-01: memory that was freed, or is another process's, is not the current
   process's to write. */
SILENT_TEST(mm_probe, probe_for_write__memory_of_nobody_or_another__raises)
{
    const PEPROCESS other = pinion_process_create("other");
    UCHAR *const user = user_pattern(2, 7);

    pinion_process_attach(other);
    UCHAR *const foreign = user_pattern(1, 7);
    EXPECT_STATUS(try_write(foreign, 8, 1), STATUS_SUCCESS);
    EXPECT_STATUS(try_write(user, 8, 1), STATUS_ACCESS_VIOLATION);
    pinion_process_attach(NULL);
    EXPECT_STATUS(try_write(foreign, 8, 1), STATUS_ACCESS_VIOLATION);
    pinion_user_free(user);
    EXPECT_STATUS(try_write(user, 8, 1), STATUS_ACCESS_VIOLATION);
    pinion_process_exit(other);
}

/* ProbeForWrite-01: memory of the host counts as the process's: a stack, the heap; constants cannot be
   written. */
SILENT_TEST(mm_probe, probe__host_memory__is_accepted_where_it_permits)
{
    static const UCHAR constant[64] = {1, 2, 3};
    UCHAR on_stack[64] = {5, 6, 7};

    EXPECT_STATUS(try_read(on_stack, sizeof(on_stack), 1), STATUS_SUCCESS);
    EXPECT_STATUS(try_write(on_stack, sizeof(on_stack), 1), STATUS_SUCCESS);
    EXPECT_EQ(on_stack[2], 7);
    EXPECT_STATUS(try_read((PVOID)(ULONG_PTR)constant, sizeof(constant), 1), STATUS_SUCCESS);
    EXPECT_STATUS(try_write((PVOID)(ULONG_PTR)constant, sizeof(constant), 1), STATUS_ACCESS_VIOLATION);
}

/* ProbeForWrite-01: a mapping that a driver made into the process is the process's memory, with the right
   it was made with. */
SILENT_TEST(mm_probe, probe__user_mapping__follows_its_protection)
{
    const PMDL pages = pages_anywhere(2);
    UCHAR *const user = map_user(pages);
    struct map_call call = {pages, UserMode, MmCached, NULL, NORMAL_NX | MdlMappingNoWrite, NULL};

    EXPECT_STATUS(pinion_try(map_body, &call), STATUS_SUCCESS);
    EXPECT_STATUS(try_write(user, 2 * PAGE_SIZE, 1), STATUS_SUCCESS);
    EXPECT_STATUS(try_read(call.result, 2 * PAGE_SIZE, 1), STATUS_SUCCESS);
    EXPECT_STATUS(try_write(call.result, 2 * PAGE_SIZE, 1), STATUS_ACCESS_VIOLATION);
    MmUnmapLockedPages(call.result, pages);
    MmUnmapLockedPages(user, pages);
    free_pages(pages);
}

static void probe_outside_of_any_try(void *context HARNESS_UNUSED)
{
    ProbeForRead(pool_pages(1), 8, 1);
}

/* ProbeForRead-02: what it raises is an exception like any other: outside of a try it stops. */
TEST_UNTIDY(mm_probe, probe__refused_outside_of_any_try__stops)
{
    const struct stop stop = run_until_stop(probe_outside_of_any_try, NULL);

    EXPECT_EQ(stop.code, KMODE_EXCEPTION_NOT_HANDLED);
}
