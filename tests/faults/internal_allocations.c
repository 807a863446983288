/* SPDX-License-Identifier: MIT */
/* Internal allocations that fail in turn (internal.h says how): MDLs, locks, mappings. */

#include "internal.h"

/* ---- MDLs --------------------------------------------------------------------------------------------- */

static PMDL many[MANY];

static void free_many(struct scene *scene)
{
    for (ULONG i = 0; i < MANY && many[i] != NULL; i++) {
        IoFreeMdl(many[i]);
        many[i] = NULL;
    }
    scene->made = NULL;
}

static NTSTATUS allocate_mdls(struct scene *scene)
{
    for (ULONG i = 0; i < MANY; i++) {
        many[i] = IoAllocateMdl(scene->buffer, PAGE_SIZE, FALSE, FALSE, NULL);
        if (many[i] == NULL) {
            free_many(scene);
            return RETURNED_NULL;
        }
    }
    return made(scene, many);
}

static NTSTATUS allocate_large_mdl(struct scene *scene)
{
    return made_mdl(scene, IoAllocateMdl(NULL, 256 << 20, FALSE, FALSE, NULL));
}

/* IoAllocateMdl of small MDLs, many of them: NULL, and those made before it are none the worse. */
TEST(fault_internal, io_allocate_mdl__small__each_allocation_fails)
{
    sweep((struct routine){allocate_mdls, free_many, RETURNED_NULL, NULL});
}

/* IoAllocateMdl of a large MDL. */
TEST(fault_internal, io_allocate_mdl__large__each_allocation_fails)
{
    sweep((struct routine){allocate_large_mdl, free_mdl, RETURNED_NULL, NULL});
}

static NTSTATUS create_mdl(struct scene *scene)
{
    return made_mdl(scene, MmCreateMdl(NULL, NULL, 64 << 20));
}

static void free_created(struct scene *scene)
{
    ExFreePool(scene->made_mdl);
}

/* MmCreateMdl without memory. */
TEST(fault_internal, mm_create_mdl__each_allocation_fails)
{
    sweep((struct routine){create_mdl, free_created, RETURNED_NULL, NULL});
}

static NTSTATUS build_partial(struct scene *scene)
{
    IoBuildPartialMdl(scene->locked, scene->part, scene->buffer + 100, BYTES - 200);
    EXPECT_EQ(MmGetMdlByteCount(scene->part), BYTES - 200);
    return STATUS_SUCCESS;
}

/* IoBuildPartialMdl allocates nothing that could fail. */
TEST(fault_internal, io_build_partial_mdl__never_fails)
{
    sweep((struct routine){build_partial, NULL, NEVER_FAILS, NULL});
}

static NTSTATUS build_nonpaged(struct scene *scene)
{
    MmBuildMdlForNonPagedPool(scene->made_mdl);
    return STATUS_SUCCESS;
}

static void prepare_nonpaged(struct scene *scene)
{
    scene->made = pool_pages(3);
    scene->made_mdl = mdl_over(scene->made, 3 * PAGE_SIZE);
}

static void undo_nonpaged(struct scene *scene)
{
    IoFreeMdl(scene->made_mdl);
    ExFreePool(scene->made);
}

/* MmBuildMdlForNonPagedPool allocates nothing that could fail. */
TEST(fault_internal, mm_build_mdl_for_nonpaged_pool__never_fails)
{
    sweep((struct routine){build_nonpaged, undo_nonpaged, NEVER_FAILS, prepare_nonpaged});
}

static NTSTATUS advance(struct scene *scene)
{
    EXPECT_STATUS(MmAdvanceMdl(scene->unlocked, PAGE_SIZE + 5), STATUS_SUCCESS);
    EXPECT_STATUS(MmAdvanceMdl(scene->unlocked, 3 * PAGE_SIZE), STATUS_SUCCESS);
    return STATUS_SUCCESS;
}

static void prepare_advance(struct scene *scene)
{
    MmProbeAndLockPages(scene->unlocked, UserMode, IoWriteAccess);
    system_address(scene->unlocked);
}

static void undo_lock(struct scene *scene)
{
    MmUnlockPages(scene->unlocked);
    MmInitializeMdl(scene->unlocked, scene->buffer, BYTES);
    scene->unlocked->MdlFlags |= MDL_ALLOCATED_FIXED_SIZE;
}

/* MmAdvanceMdl allocates nothing that could fail, whatever it passes. */
TEST(fault_internal, mm_advance_mdl__never_fails)
{
    sweep((struct routine){advance, undo_lock, NEVER_FAILS, prepare_advance});
}

/* ---- Locks -------------------------------------------------------------------------------------------- */

static NTSTATUS lock(struct scene *scene)
{
    MmProbeAndLockPages(scene->unlocked, UserMode, IoWriteAccess);
    return STATUS_SUCCESS;
}

static void unlock(struct scene *scene)
{
    MmUnlockPages(scene->unlocked);
}

/* Nothing of the buffer is held, and all of it is away. */
static void take_away(struct scene *scene)
{
    if (scene->locked->MdlFlags & MDL_PAGES_LOCKED)
        MmUnlockPages(scene->locked);
    pinion_trim();
    EXPECT_EQ(MmGetPhysicalAddress(scene->buffer).QuadPart, 0);
}

static void lock_the_other_again(struct scene *scene)
{
    MmUnlockPages(scene->unlocked);
    MmProbeAndLockPages(scene->locked, UserMode, IoWriteAccess);
}

/* MmProbeAndLockPages of pages that are there allocates nothing that could fail. */
TEST(fault_internal, mm_probe_and_lock_pages__pages_there__never_fails)
{
    sweep((struct routine){lock, unlock, NEVER_FAILS, NULL});
}

static void touch_and_lock_again(struct scene *scene)
{
    lock_the_other_again(scene);
    EXPECT_PATTERN(scene->buffer, BYTES, SEED);
}

/* MmProbeAndLockPages of pages that are away: they cannot be brought back, or can. */
TEST(fault_internal, mm_probe_and_lock_pages__trimmed__each_allocation_fails)
{
    sweep((struct routine){lock, touch_and_lock_again, ANY_ERROR, take_away});
}

static NTSTATUS lock_for_process(struct scene *scene)
{
    MmProbeAndLockProcessPages(scene->unlocked, PsGetCurrentProcess(), UserMode, IoWriteAccess);
    return STATUS_SUCCESS;
}

/* MmProbeAndLockProcessPages of pages that are away. */
TEST(fault_internal, mm_probe_and_lock_process_pages__trimmed__each_allocation_fails)
{
    sweep((struct routine){lock_for_process, touch_and_lock_again, ANY_ERROR, take_away});
}

static NTSTATUS lock_selected(struct scene *scene)
{
    FILE_SEGMENT_ELEMENT segments[PAGES];

    for (SIZE_T i = 0; i < PAGES; i++)
        segments[i].Buffer = scene->buffer + (PAGES - 1 - i) * PAGE_SIZE;
    MmProbeAndLockSelectedPages(scene->unlocked, segments, UserMode, IoWriteAccess);
    return STATUS_SUCCESS;
}

/* MmProbeAndLockSelectedPages of pages that are away. */
TEST(fault_internal, mm_probe_and_lock_selected_pages__trimmed__each_allocation_fails)
{
    sweep((struct routine){lock_selected, touch_and_lock_again, ANY_ERROR, take_away});
}

/* ---- Mappings ----------------------------------------------------------------------------------------- */

/* An MDL that no window shows, so that a mapping has to be made for it: its pages stand in it backwards. */
static void prepare_backwards(struct scene *scene)
{
    lock_selected(scene);
}

static NTSTATUS map_kernel(struct scene *scene)
{
    return made(scene,
                MmMapLockedPagesSpecifyCache(scene->unlocked, KernelMode, MmCached, NULL, FALSE, NORMAL_NX));
}

/* A failed call leaves the lock of its preparation. */
static void prepare_backwards_again(struct scene *scene)
{
    if (scene->unlocked->MdlFlags & MDL_PAGES_LOCKED)
        MmUnlockPages(scene->unlocked);
    prepare_backwards(scene);
}

/* MmMapLockedPagesSpecifyCache into system space. */
TEST(fault_internal, mm_map_locked_pages__kernel__each_allocation_fails)
{
    sweep((struct routine){map_kernel, unlock, RETURNED_NULL, prepare_backwards_again});
}

static NTSTATUS map_kernel_read_only(struct scene *scene)
{
    return made(scene, MmMapLockedPagesSpecifyCache(scene->locked, KernelMode, MmCached, NULL, FALSE,
                                                    NORMAL_NX | MdlMappingNoWrite));
}

static void unmap_locked(struct scene *scene)
{
    MmUnmapLockedPages(scene->made, scene->locked);
}

/* The same with a protection of its own. */
TEST(fault_internal, mm_map_locked_pages__kernel_read_only__each_allocation_fails)
{
    sweep((struct routine){map_kernel_read_only, unmap_locked, RETURNED_NULL, NULL});
}

static NTSTATUS map_into_process(struct scene *scene)
{
    return made(scene,
                MmMapLockedPagesSpecifyCache(scene->locked, UserMode, MmCached, NULL, FALSE, NORMAL_NX));
}

/* MmMapLockedPagesSpecifyCache into a process raises. */
TEST(fault_internal, mm_map_locked_pages__user__each_allocation_fails)
{
    sweep((struct routine){map_into_process, unmap_locked, ANY_ERROR, NULL});
}

static NTSTATUS safe_address(struct scene *scene)
{
    return made(scene, MmGetSystemAddressForMdlSafe(scene->unlocked, NORMAL_NX));
}

/* MmGetSystemAddressForMdlSafe. */
TEST(fault_internal, mm_get_system_address_for_mdl_safe__each_allocation_fails)
{
    sweep((struct routine){safe_address, unlock, RETURNED_NULL, prepare_backwards_again});
}

static NTSTATUS protect(struct scene *scene)
{
    volatile UCHAR *const va = scene->unlocked->MappedSystemVa;
    const NTSTATUS status = MmProtectMdlSystemAddress(scene->unlocked, PAGE_READONLY);

    if (!NT_SUCCESS(status)) {
        for (SIZE_T page = 0; page < PAGES; page++)
            va[page * PAGE_SIZE] = va[page * PAGE_SIZE];
    }
    return status;
}

static void prepare_mapped(struct scene *scene)
{
    prepare_backwards_again(scene);
    system_address(scene->unlocked);
}

/* MmProtectMdlSystemAddress: an error, and every page of the mapping can be written as before. */
TEST(fault_internal, mm_protect_mdl_system_address__changes_all_or_nothing)
{
    sweep((struct routine){protect, unlock, ANY_ERROR, prepare_mapped});
}

static VOID note_mapped(PVOID context, PVOID va)
{
    *(PVOID *)context = va;
}

/* A failure must not call the driver's routine: `made` would show it. */
static NTSTATUS map_for_a_call(struct scene *scene)
{
    return MmMapMdl(scene->unlocked, PAGE_READWRITE, note_mapped, &scene->made);
}

/* MmMapMdl. */
TEST(fault_internal, mm_map_mdl__each_allocation_fails)
{
    sweep((struct routine){map_for_a_call, unlock, ANY_ERROR, prepare_backwards_again});
}

static NTSTATUS reserve(struct scene *scene)
{
    return made(scene, MmAllocateMappingAddress(BYTES, TAG));
}

static void unreserve(struct scene *scene)
{
    MmFreeMappingAddress(scene->made, TAG);
}

/* MmAllocateMappingAddress. */
TEST(fault_internal, mm_allocate_mapping_address__each_allocation_fails)
{
    sweep((struct routine){reserve, unreserve, RETURNED_NULL, NULL});
}

static NTSTATUS reserve_ex(struct scene *scene)
{
    return made(scene, MmAllocateMappingAddressEx(BYTES, TAG, 0));
}

/* MmAllocateMappingAddressEx. */
TEST(fault_internal, mm_allocate_mapping_address_ex__each_allocation_fails)
{
    sweep((struct routine){reserve_ex, unreserve, RETURNED_NULL, NULL});
}

static void prepare_reservation(struct scene *scene)
{
    scene->made = MmAllocateMappingAddress(BYTES, TAG);
    EXPECT(scene->made != NULL);
}

static NTSTATUS map_reserved(struct scene *scene)
{
    PVOID const va = MmMapLockedPagesWithReservedMapping(scene->made, TAG, scene->locked, MmCached);

    return va == NULL ? RETURNED_NULL : STATUS_SUCCESS;
}

static void unmap_reserved(struct scene *scene)
{
    MmUnmapReservedMapping(scene->made, TAG, scene->locked);
    unreserve(scene);
}

/* MmMapLockedPagesWithReservedMapping never fails for lack of anything: that is what the reservation is
   for. */
TEST(fault_internal, mm_map_with_reserved_mapping__never_fails)
{
    sweep((struct routine){map_reserved, unmap_reserved, NEVER_FAILS, prepare_reservation});
}

static NTSTATUS map_io_space(struct scene *scene)
{
    return made(scene, MmMapIoSpace(phys(DEVICE_AT + 5), BYTES, MmNonCached));
}

static NTSTATUS map_io_space_ex(struct scene *scene)
{
    return made(scene, MmMapIoSpaceEx(phys(DEVICE_AT + 5), BYTES, PAGE_READWRITE | PAGE_NOCACHE));
}

static void unmap_io_space(struct scene *scene)
{
    MmUnmapIoSpace(scene->made, BYTES);
}

/* MmMapIoSpace. */
TEST(fault_internal, mm_map_io_space__each_allocation_fails)
{
    sweep((struct routine){map_io_space, unmap_io_space, RETURNED_NULL, NULL});
}

/* MmMapIoSpaceEx. */
TEST(fault_internal, mm_map_io_space_ex__each_allocation_fails)
{
    sweep((struct routine){map_io_space_ex, unmap_io_space, RETURNED_NULL, NULL});
}
