/* SPDX-License-Identifier: MIT */
/*
 * One call made to fail, routine by routine, for those that contract/host_failures.c and the DMA tests
 * leave out: the failure is told as the routine's page says (NULL, a status or an exception), leaves MDL
 * and counters as they were, and the next call works.
 */

#include "../contract/support.h"

#include <ntifs.h>
#include <string.h>

/* What a driver sees of a call that failed. NULL is no status: it has a number that Windows never gives. */
#define RETURNED_NULL ((NTSTATUS)0xE0AB0000)

enum { PAGES = 5 };

/* What the calls work on, and what the last one made. */
struct bench {
    UCHAR *buffer;
    PMDL unlocked, locked;
    PIRP irp;
    PVOID made;
    PMDL made_mdl;
    PIRP made_irp;
};

struct routine {
    const char *name;
    NTSTATUS (*call)(struct bench *bench); /* STATUS_SUCCESS, or how it failed; it may raise */
    void (*undo)(struct bench *bench);
    NTSTATUS failure;
};

static const PHYSICAL_ADDRESS zero = {.QuadPart = 0}, anywhere = {.QuadPart = MAXLONGLONG};

static NTSTATUS null_or_success(const void *result)
{
    return result == NULL ? RETURNED_NULL : STATUS_SUCCESS;
}

/* ---- pool that raises ---- */

static NTSTATUS raise_by_type(struct bench *bench)
{
    bench->made =
        ExAllocatePoolWithTag((POOL_TYPE)(NonPagedPoolNx | POOL_RAISE_IF_ALLOCATION_FAILURE), 100, TEST_TAG);
    return null_or_success(bench->made);
}

static NTSTATUS raise_by_flag(struct bench *bench)
{
    bench->made = ExAllocatePool2(POOL_FLAG_NON_PAGED | POOL_FLAG_RAISE_ON_FAILURE, 100, TEST_TAG);
    return null_or_success(bench->made);
}

static NTSTATUS large_paged_pool(struct bench *bench)
{
    bench->made = ExAllocatePool3(POOL_FLAG_PAGED, 3 * PAGE_SIZE, TEST_TAG, NULL, 0);
    return null_or_success(bench->made);
}

static void free_pool(struct bench *bench)
{
    ExFreePool(bench->made);
}

/* ---- contiguous and noncached memory ---- */

static NTSTATUS contiguous_ex(struct bench *bench)
{
    SIZE_T bytes = PAGE_SIZE;

    return MmAllocateContiguousMemoryEx(&bytes, zero, anywhere, zero, MM_ANY_NODE_OK, PAGE_READWRITE, NULL,
                                        TEST_TAG, 0, &bench->made);
}

static NTSTATUS contiguous_of_node(struct bench *bench)
{
    bench->made =
        MmAllocateContiguousMemorySpecifyCacheNode(PAGE_SIZE, zero, anywhere, zero, MmCached, MM_ANY_NODE_OK);
    return null_or_success(bench->made);
}

static NTSTATUS contiguous_node_memory(struct bench *bench)
{
    bench->made =
        MmAllocateContiguousNodeMemory(PAGE_SIZE, zero, anywhere, zero, PAGE_READWRITE, MM_ANY_NODE_OK);
    return null_or_success(bench->made);
}

static void free_contiguous(struct bench *bench)
{
    MmFreeContiguousMemory(bench->made);
}

static NTSTATUS noncached(struct bench *bench)
{
    bench->made = MmAllocateNonCachedMemory(PAGE_SIZE);
    return null_or_success(bench->made);
}

static void free_noncached(struct bench *bench)
{
    MmFreeNonCachedMemory(bench->made, PAGE_SIZE);
}

/* ---- MDLs with pages ---- */

static NTSTATUS pages(struct bench *bench)
{
    bench->made_mdl = MmAllocatePagesForMdl(zero, anywhere, zero, PAGES * PAGE_SIZE);
    return null_or_success(bench->made_mdl);
}

static NTSTATUS pages_ex(struct bench *bench)
{
    bench->made_mdl = MmAllocatePagesForMdlEx(zero, anywhere, zero, PAGES * PAGE_SIZE, MmCached, 0);
    return null_or_success(bench->made_mdl);
}

static NTSTATUS pages_of_node(struct bench *bench)
{
    bench->made_mdl = MmAllocateNodePagesForMdlEx(zero, anywhere, zero, PAGES * PAGE_SIZE, MmCached, 0, 0);
    return null_or_success(bench->made_mdl);
}

static void free_pages(struct bench *bench)
{
    MmFreePagesFromMdl(bench->made_mdl);
    ExFreePool(bench->made_mdl);
}

static NTSTATUS mdl_for_io_space(struct bench *bench)
{
    MM_PHYSICAL_ADDRESS_LIST list = {{.QuadPart = 0xD0000000}, PAGE_SIZE};

    return MmAllocateMdlForIoSpace(&list, 1, &bench->made_mdl);
}

static void free_mdl(struct bench *bench)
{
    IoFreeMdl(bench->made_mdl);
}

/* ---- mappings ---- */

static NTSTATUS map_io_space(struct bench *bench)
{
    bench->made = MmMapIoSpace((PHYSICAL_ADDRESS){.QuadPart = 0xD0000000}, PAGE_SIZE, MmNonCached);
    return null_or_success(bench->made);
}

static NTSTATUS map_io_space_ex(struct bench *bench)
{
    bench->made =
        MmMapIoSpaceEx((PHYSICAL_ADDRESS){.QuadPart = 0xD0000000}, PAGE_SIZE, PAGE_READWRITE | PAGE_NOCACHE);
    return null_or_success(bench->made);
}

static void unmap_io_space(struct bench *bench)
{
    MmUnmapIoSpace(bench->made, PAGE_SIZE);
}

static NTSTATUS reserve(struct bench *bench)
{
    bench->made = MmAllocateMappingAddress(PAGES * PAGE_SIZE, TEST_TAG);
    return null_or_success(bench->made);
}

static NTSTATUS reserve_ex(struct bench *bench)
{
    bench->made = MmAllocateMappingAddressEx(PAGES * PAGE_SIZE, TEST_TAG, 0);
    return null_or_success(bench->made);
}

static void unreserve(struct bench *bench)
{
    MmFreeMappingAddress(bench->made, TEST_TAG);
}

static NTSTATUS map_into_process(struct bench *bench)
{
    bench->made = MmMapLockedPagesSpecifyCache(bench->locked, UserMode, MmCached, NULL, FALSE, NORMAL_NX);
    return null_or_success(bench->made);
}

static void unmap(struct bench *bench)
{
    MmUnmapLockedPages(bench->made, bench->locked);
}

static VOID note_mapped(PVOID context, PVOID va)
{
    *(PVOID *)context = va;
}

/* A failure must not call the driver's routine: `made` would show it. */
static NTSTATUS map_for_a_call(struct bench *bench)
{
    return MmMapMdl(bench->locked, PAGE_READWRITE, note_mapped, &bench->made);
}

static void nothing(struct bench *bench)
{
    EXPECT(bench->made != NULL);
}

/* ---- locks ---- */

static NTSTATUS lock_for_process(struct bench *bench)
{
    MmProbeAndLockProcessPages(bench->unlocked, PsGetCurrentProcess(), UserMode, IoWriteAccess);
    return STATUS_SUCCESS;
}

static NTSTATUS lock_selected(struct bench *bench)
{
    FILE_SEGMENT_ELEMENT segments[PAGES];

    for (ULONG i = 0; i < PAGES; i++)
        segments[i].Alignment = (ULONG_PTR)bench->buffer + (PAGES - 1 - i) * PAGE_SIZE;
    MmProbeAndLockSelectedPages(bench->unlocked, segments, UserMode, IoWriteAccess);
    return STATUS_SUCCESS;
}

static void unlock(struct bench *bench)
{
    MmUnlockPages(bench->unlocked);
}

/* ---- IRPs ---- */

static NTSTATUS mdl_for_irp(struct bench *bench)
{
    bench->made_mdl = IoAllocateMdl(bench->buffer, PAGE_SIZE, TRUE, FALSE, bench->irp);
    return null_or_success(bench->made_mdl);
}

static void free_mdl_of_irp(struct bench *bench)
{
    EXPECT_PTR_EQ(bench->irp->MdlAddress, bench->made_mdl);
    bench->irp->MdlAddress = NULL;
    IoFreeMdl(bench->made_mdl);
}

static NTSTATUS associated_irp(struct bench *bench)
{
    bench->made_irp = IoMakeAssociatedIrp(bench->irp, 1);
    return null_or_success(bench->made_irp);
}

static void free_irp(struct bench *bench)
{
    IoFreeIrp(bench->made_irp);
}

/* ---- the table ---- */

static const struct routine routines[] = {
    {"ExAllocatePoolWithTag", raise_by_type, free_pool, STATUS_INSUFFICIENT_RESOURCES},
    {"ExAllocatePool2", raise_by_flag, free_pool, STATUS_INSUFFICIENT_RESOURCES},
    {"ExAllocatePool3", large_paged_pool, free_pool, RETURNED_NULL},
    {"IoAllocateMdl", mdl_for_irp, free_mdl_of_irp, RETURNED_NULL},
    {"IoMakeAssociatedIrp", associated_irp, free_irp, RETURNED_NULL},
    {"MmAllocateContiguousMemoryEx", contiguous_ex, free_contiguous, STATUS_INSUFFICIENT_RESOURCES},
    {"MmAllocateContiguousMemorySpecifyCacheNode", contiguous_of_node, free_contiguous, RETURNED_NULL},
    {"MmAllocateContiguousNodeMemory", contiguous_node_memory, free_contiguous, RETURNED_NULL},
    {"MmAllocateMappingAddress", reserve, unreserve, RETURNED_NULL},
    {"MmAllocateMappingAddressEx", reserve_ex, unreserve, RETURNED_NULL},
    {"MmAllocateMdlForIoSpace", mdl_for_io_space, free_mdl, STATUS_INSUFFICIENT_RESOURCES},
    {"MmAllocateNodePagesForMdlEx", pages_of_node, free_pages, RETURNED_NULL},
    {"MmAllocateNonCachedMemory", noncached, free_noncached, RETURNED_NULL},
    {"MmAllocatePagesForMdl", pages, free_pages, RETURNED_NULL},
    {"MmAllocatePagesForMdlEx", pages_ex, free_pages, RETURNED_NULL},
    {"MmMapIoSpace", map_io_space, unmap_io_space, RETURNED_NULL},
    {"MmMapIoSpaceEx", map_io_space_ex, unmap_io_space, RETURNED_NULL},
    {"MmMapLockedPagesSpecifyCache", map_into_process, unmap, STATUS_INSUFFICIENT_RESOURCES},
    {"MmMapMdl", map_for_a_call, nothing, STATUS_INSUFFICIENT_RESOURCES},
    {"MmProbeAndLockProcessPages", lock_for_process, unlock, STATUS_INSUFFICIENT_RESOURCES},
    {"MmProbeAndLockSelectedPages", lock_selected, unlock, STATUS_INSUFFICIENT_RESOURCES},
};

/* ---- running it ---- */

static struct bench open_bench(void)
{
    struct bench bench = {.buffer = user_pattern(PAGES, 1)};

    bench.unlocked = mdl_over(bench.buffer, PAGES * PAGE_SIZE);
    bench.locked = locked_mdl(bench.buffer, PAGES * PAGE_SIZE);
    bench.irp = IoAllocateIrp(1, FALSE);
    EXPECT(bench.irp != NULL);
    memset(MmGetMdlPfnArray(bench.unlocked), 0, PAGES * sizeof(PFN_NUMBER));
    return bench;
}

static void close_bench(struct bench *bench)
{
    IoFreeIrp(bench->irp);
    unlock_and_free(bench->locked);
    IoFreeMdl(bench->unlocked);
    pinion_user_free(bench->buffer);
}

struct attempt {
    const struct routine *routine;
    struct bench *bench;
    NTSTATUS status;
};

static void attempt_body(void *context)
{
    struct attempt *const attempt = context;

    attempt->status = attempt->routine->call(attempt->bench);
}

/* STATUS_SUCCESS, what the routine returned, or what it raised. */
static NTSTATUS attempt(const struct routine *routine, struct bench *bench)
{
    struct attempt attempt = {routine, bench, STATUS_SUCCESS};
    const NTSTATUS raised = pinion_try(attempt_body, &attempt);

    return raised != STATUS_SUCCESS ? raised : attempt.status;
}

/* The two MDLs with their PFN arrays, and the IRP's chain. */
struct snapshot {
    UCHAR unlocked[sizeof(MDL) + PAGES * sizeof(PFN_NUMBER)];
    UCHAR locked[sizeof(MDL) + PAGES * sizeof(PFN_NUMBER)];
    PMDL chain;
};

static struct snapshot take_snapshot(const struct bench *bench)
{
    struct snapshot s;

    memset(&s, 0, sizeof(s));
    memcpy(s.unlocked, bench->unlocked, sizeof(s.unlocked));
    memcpy(s.locked, bench->locked, sizeof(s.locked));
    s.chain = bench->irp->MdlAddress;
    return s;
}

static void expect_failure(const struct routine *routine, struct bench *bench)
{
    const struct pinion_counters before = counters_now();
    const struct snapshot memory_before = take_snapshot(bench);
    struct snapshot memory_after;
    NTSTATUS status;

    bench->made = NULL;
    pinion_fail(routine->name, 1);
    status = attempt(routine, bench);
    memory_after = take_snapshot(bench);
    if (status != routine->failure)
        harness_fail(HARNESS_HERE, "%s: expected failure 0x%08X: it is 0x%08X", routine->name,
                     (unsigned)routine->failure, (unsigned)status);
    EXPECT_PTR_EQ(bench->made, NULL);
    EXPECT_SAME_COUNTERS(before);
    EXPECT_MEM_EQ(&memory_after, &memory_before, sizeof(memory_before));
}

static void expect_success(const struct routine *routine, struct bench *bench)
{
    const NTSTATUS status = attempt(routine, bench);

    if (status != STATUS_SUCCESS)
        harness_fail(HARNESS_HERE, "%s: expected success: it is 0x%08X", routine->name, (unsigned)status);
    routine->undo(bench);
}

/* Driver_Verifier_low_resources_simulation-02: each routine fails as its page says when it is told to,
   changes nothing then, and works before and afterwards. */
TEST(fault_routines, each__made_to_fail_once__changes_nothing_and_works_again)
{
    struct bench bench = open_bench();

    for (size_t i = 0; i < ARRAYSIZE(routines); i++) {
        const struct pinion_counters before = counters_now();

        expect_success(&routines[i], &bench);
        expect_failure(&routines[i], &bench);
        expect_success(&routines[i], &bench);
        EXPECT_SAME_COUNTERS(before);
    }
    close_bench(&bench);
}

/* As long as every call fails, none of them takes anything, and the first that does not works. */
TEST(fault_routines, each__failing_again_and_again__takes_nothing)
{
    struct bench bench = open_bench();

    for (size_t i = 0; i < ARRAYSIZE(routines); i++) {
        const struct pinion_counters before = counters_now();

        pinion_fail_every(routines[i].name, 1);
        for (int n = 0; n < 20; n++)
            EXPECT_STATUS(attempt(&routines[i], &bench), routines[i].failure);
        EXPECT_SAME_COUNTERS(before);
        pinion_fail_every(routines[i].name, 0);
        expect_success(&routines[i], &bench);
    }
    close_bench(&bench);
}
