/* SPDX-License-Identifier: MIT */
/* Sweeps over the memory path: a transfer through MDLs, memory of the driver's own, a process that comes and
   goes. */

#include "sweep.h"

enum { PAGES = 9, BYTES = PAGES * PAGE_SIZE - 300, OFFSET = 200, PARTS = 4 };

/* ---- what may raise ---- */

struct user_map {
    PMDL mdl;
    PVOID va;
};

static void map_user_body(void *context)
{
    struct user_map *const map = context;

    map->va = MmMapLockedPagesSpecifyCache(map->mdl, UserMode, MmCached, NULL, FALSE, NORMAL_NX);
}

/* NULL when the system refuses. */
static PVOID map_user_or_null(PMDL mdl)
{
    struct user_map map = {mdl, NULL};

    return NT_SUCCESS(pinion_try(map_user_body, &map)) ? map.va : NULL;
}

/* ---- the job: a buffer is copied out part by part, shown to the process, and moved through ---- */

static NTSTATUS copy_part(PMDL source, PMDL target, ULONG off, ULONG bytes, UCHAR *to)
{
    UCHAR *from;

    IoBuildPartialMdl(source, target, (PUCHAR)MmGetMdlVirtualAddress(source) + off, bytes);
    from = MmMapLockedPagesSpecifyCache(target, KernelMode, MmCached, NULL, FALSE, NORMAL_NX);
    if (from == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    RtlCopyMemory(to + off, from, MmGetMdlByteCount(target));
    MmPrepareMdlForReuse(target);
    return STATUS_SUCCESS;
}

static NTSTATUS copy_parts(PMDL source, UCHAR *to)
{
    const PMDL target = IoAllocateMdl(NULL, BYTES / PARTS + 2 * PAGE_SIZE, FALSE, FALSE, NULL);
    NTSTATUS status = target == NULL ? STATUS_INSUFFICIENT_RESOURCES : STATUS_SUCCESS;

    for (ULONG i = 0; i < PARTS && NT_SUCCESS(status); i++) {
        const ULONG off = i * (BYTES / PARTS);

        status = copy_part(source, target, off, i == PARTS - 1 ? 0 : BYTES / PARTS, to);
        if (i == PARTS - 1 && NT_SUCCESS(status))
            EXPECT_EQ(MmGetMdlByteCount(target), BYTES - off);
    }
    if (target != NULL)
        IoFreeMdl(target);
    return status;
}

static NTSTATUS show_and_advance(PMDL mdl)
{
    UCHAR *const user = map_user_or_null(mdl);
    UCHAR *system;

    if (user == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    EXPECT_PATTERN(user, BYTES, 5);
    MmUnmapLockedPages(user, mdl);
    system = MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX);
    if (system == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    EXPECT_STATUS(MmAdvanceMdl(mdl, 2 * PAGE_SIZE + 77), STATUS_SUCCESS);
    EXPECT_PTR_EQ(MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX), system + 2 * PAGE_SIZE + 77);
    return STATUS_SUCCESS;
}

static NTSTATUS work_on_locked(PMDL mdl)
{
    UCHAR *const copy = ExAllocatePoolWithTag(NonPagedPoolNx, BYTES, TEST_TAG);
    NTSTATUS status = copy == NULL ? STATUS_INSUFFICIENT_RESOURCES : copy_parts(mdl, copy);

    if (NT_SUCCESS(status))
        EXPECT_PATTERN(copy, BYTES, 5);
    if (NT_SUCCESS(status))
        status = show_and_advance(mdl);
    if (copy != NULL)
        ExFreePoolWithTag(copy, TEST_TAG);
    return status;
}

static NTSTATUS transfer(PVOID user)
{
    const PMDL mdl = IoAllocateMdl(user, BYTES, FALSE, FALSE, NULL);
    NTSTATUS status;

    if (mdl == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    status = try_lock(mdl, UserMode, IoModifyAccess);
    if (NT_SUCCESS(status)) {
        status = work_on_locked(mdl);
        MmUnlockPages(mdl);
    }
    IoFreeMdl(mdl);
    return status;
}

/* ---- the job: memory of the driver's own ---- */

static NTSTATUS describe_pool(PVOID pool)
{
    const PMDL mdl = IoAllocateMdl(pool, 2 * PAGE_SIZE, FALSE, FALSE, NULL);

    if (mdl == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    MmBuildMdlForNonPagedPool(mdl);
    EXPECT_PTR_EQ(MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX), pool);
    IoFreeMdl(mdl);
    return STATUS_SUCCESS;
}

static NTSTATUS use_pool(PVOID unused)
{
    UCHAR *const pool = ExAllocatePool2(POOL_FLAG_NON_PAGED, 2 * PAGE_SIZE, TEST_TAG);
    UCHAR *const small = ExAllocatePool2(POOL_FLAG_PAGED, 200, TEST_TAG);
    NTSTATUS status = pool == NULL || small == NULL ? STATUS_INSUFFICIENT_RESOURCES : describe_pool(pool);

    UNREFERENCED_PARAMETER(unused);
    if (pool != NULL)
        ExFreePool(pool);
    if (small != NULL)
        ExFreePool(small);
    return status;
}

static NTSTATUS use_reserved(PMDL mdl)
{
    const PVOID reserved = MmAllocateMappingAddress(PAGES * PAGE_SIZE, TEST_TAG);
    UCHAR *va;

    if (reserved == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    va = MmMapLockedPagesWithReservedMapping(reserved, TEST_TAG, mdl, MmCached);
    EXPECT(va != NULL); /* this is what a reservation is for */
    va[0] = 1;
    MmUnmapReservedMapping(reserved, TEST_TAG, mdl);
    MmFreeMappingAddress(reserved, TEST_TAG);
    return STATUS_SUCCESS;
}

static NTSTATUS use_pages(PVOID unused)
{
    const PHYSICAL_ADDRESS zero = {.QuadPart = 0}, anywhere = {.QuadPart = MAXLONGLONG};
    const PMDL mdl =
        MmAllocatePagesForMdlEx(zero, anywhere, zero, 3 * PAGE_SIZE, MmCached, MM_ALLOCATE_FULLY_REQUIRED);
    NTSTATUS status = STATUS_INSUFFICIENT_RESOURCES;

    UNREFERENCED_PARAMETER(unused);
    if (mdl == NULL)
        return status;
    if (MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX) != NULL) {
        MmUnmapLockedPages(mdl->MappedSystemVa, mdl);
        status = use_reserved(mdl);
    }
    MmFreePagesFromMdl(mdl);
    ExFreePool(mdl);
    return status;
}

static NTSTATUS use_contiguous(PVOID unused)
{
    const PHYSICAL_ADDRESS zero = {.QuadPart = 0}, anywhere = {.QuadPart = MAXLONGLONG};
    const PVOID first =
        MmAllocateContiguousMemorySpecifyCache(PAGES * PAGE_SIZE, zero, anywhere, zero, MmCached);
    const PVOID second = MmAllocateContiguousMemory(PAGE_SIZE, anywhere);
    const bool both = first != NULL && second != NULL;

    UNREFERENCED_PARAMETER(unused);
    if (first != NULL)
        MmFreeContiguousMemory(first);
    if (second != NULL)
        MmFreeContiguousMemory(second);
    return both ? STATUS_SUCCESS : STATUS_INSUFFICIENT_RESOURCES;
}

/* ---- the job: processes and their memory ---- */

static NTSTATUS live_in_process(PEPROCESS process)
{
    NTSTATUS status = STATUS_INSUFFICIENT_RESOURCES;
    UCHAR *buffer;

    pinion_process_attach(process);
    buffer = pinion_user_alloc(PAGES * PAGE_SIZE, PAGE_READWRITE);
    if (buffer != NULL) {
        fill_pattern(buffer + OFFSET, BYTES, 5);
        status = transfer(buffer + OFFSET);
        pinion_user_free(buffer);
    }
    pinion_process_attach(NULL);
    return status;
}

static NTSTATUS use_process(PVOID unused)
{
    const PEPROCESS process = pinion_process_create("short-lived");
    NTSTATUS status;

    UNREFERENCED_PARAMETER(unused);
    if (process == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    status = live_in_process(process);
    pinion_process_exit(process);
    return status;
}

/* ---- the sweeps ---- */

static const char *const transfer_calls[] = {"IoAllocateMdl",
                                             "MmProbeAndLockPages",
                                             "ExAllocatePoolWithTag",
                                             "MmMapLockedPagesSpecifyCache",
                                             "MmGetSystemAddressForMdlSafe",
                                             "internal",
                                             NULL};
static const char *const pool_calls[] = {"ExAllocatePool2", "IoAllocateMdl", "internal", NULL};
static const char *const page_calls[] = {"MmAllocatePagesForMdlEx", "MmGetSystemAddressForMdlSafe",
                                         "MmAllocateMappingAddress", "internal", NULL};
static const char *const contiguous_calls[] = {"MmAllocateContiguousMemorySpecifyCache",
                                               "MmAllocateContiguousMemory", "internal", NULL};
static const char *const process_calls[] = {"internal", "IoAllocateMdl", "MmProbeAndLockPages", NULL};

/* A transfer in which any one call fails, or all of a kind, has undone itself, and the user's bytes are what
   they were. */
static void sweep_transfer(const char *options)
{
    static const struct job job = {"transfer", transfer, transfer_calls};
    UCHAR *buffer;

    boot(options);
    buffer = user_pages(PAGES, PAGE_READWRITE);
    fill_pattern(buffer + OFFSET, BYTES, 5);
    sweep_all(&job, buffer + OFFSET);
    EXPECT_PATTERN(buffer + OFFSET, BYTES, 5);
    pinion_trim();
    sweep_all(&job, buffer + OFFSET);
    pinion_user_free(buffer);
}

/* Driver_Verifier_low_resources_simulation-02: a transfer in which any one call fails has undone itself,
   and the user's bytes are what they were. */
TEST(fault_sweep, transfer__each_call_fails_in_turn__is_undone)
{
    sweep_transfer("ram=64M:verifier=on");
}

/* The same without the verifier, where some mappings need no call to the host. */
TEST(fault_sweep, transfer_without_verifier__each_call_fails_in_turn__is_undone)
{
    sweep_transfer("ram=64M:verifier=off");
}

/* The same where pages that lie side by side have numbers that do so too. */
TEST(fault_sweep, transfer_of_linear_memory__each_call_fails_in_turn__is_undone)
{
    sweep_transfer("ram=64M:verifier=off:layout=linear");
}

/* Pool, pages and contiguous memory that a driver takes for itself are given back whatever fails. */
TEST(fault_sweep, memory_of_the_driver__each_call_fails_in_turn__is_given_back)
{
    static const struct job jobs[] = {{"pool", use_pool, pool_calls},
                                      {"pages", use_pages, page_calls},
                                      {"contiguous memory", use_contiguous, contiguous_calls}};

    for (size_t i = 0; i < ARRAYSIZE(jobs); i++)
        sweep_all(&jobs[i], NULL);
}

/* A process that cannot be made or filled leaves nothing of itself: all of memory is there afterwards. */
TEST(fault_sweep, process__each_call_fails_in_turn__leaves_nothing)
{
    static const struct job job = {"process", use_process, process_calls};
    UCHAR *most;

    boot("ram=16M");
    sweep_all(&job, NULL);
    most = pinion_user_alloc((16 * 256 - 64) * (SIZE_T)PAGE_SIZE, PAGE_READWRITE);
    EXPECT(most != NULL);
    pinion_user_free(most);
}
