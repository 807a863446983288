/* SPDX-License-Identifier: MIT */
/* Internal allocations that fail in turn (internal.h says how): pages, contiguous memory, pool, processes. */

#include "internal.h"

/* ---- Pages, contiguous memory, pool ------------------------------------------------------------------- */

enum { TAKEN = 3 << 20 };

static NTSTATUS pages(struct scene *scene)
{
    return made_mdl(scene, pages_in(0, EVERYWHERE, 0, TAKEN));
}

static NTSTATUS pages_ex(struct scene *scene)
{
    return made_mdl(
        scene, pages_in_ex(LINEAR_AT, LINEAR_END, 1 << 20, TAKEN, MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS));
}

static NTSTATUS pages_of_node(struct scene *scene)
{
    return made_mdl(scene, MmAllocateNodePagesForMdlEx(phys(0), phys(EVERYWHERE), phys(0), TAKEN, MmCached, 0,
                                                       MM_ALLOCATE_FULLY_REQUIRED));
}

/* A short allocation is one of the documented ends, but where chunks were asked for it is of whole ones. */
static void free_taken(struct scene *scene)
{
    EXPECT(MmGetMdlByteCount(scene->made_mdl) >= PAGE_SIZE && MmGetMdlByteCount(scene->made_mdl) <= TAKEN);
    free_pages(scene->made_mdl);
}

static void free_chunks(struct scene *scene)
{
    EXPECT_EQ(MmGetMdlByteCount(scene->made_mdl) % (1 << 20), 0);
    free_taken(scene);
}

static void free_all_of_it(struct scene *scene)
{
    EXPECT_EQ(MmGetMdlByteCount(scene->made_mdl), TAKEN);
    free_pages(scene->made_mdl);
}

/* MmAllocatePagesForMdl. */
TEST(fault_internal, mm_allocate_pages_for_mdl__each_allocation_fails)
{
    sweep((struct routine){pages, free_taken, RETURNED_NULL, NULL});
}

/* MmAllocatePagesForMdlEx, in contiguous chunks. */
TEST(fault_internal, mm_allocate_pages_for_mdl_ex__each_allocation_fails)
{
    sweep((struct routine){pages_ex, free_chunks, RETURNED_NULL, NULL});
}

/* MmAllocateNodePagesForMdlEx, all or nothing. */
TEST(fault_internal, mm_allocate_node_pages_for_mdl_ex__each_allocation_fails)
{
    sweep((struct routine){pages_of_node, free_all_of_it, RETURNED_NULL, NULL});
}

static NTSTATUS io_space_mdl(struct scene *scene)
{
    MM_PHYSICAL_ADDRESS_LIST list[] = {{phys(DEVICE_AT), 512 << 20}, {phys(DEVICE_AT), PAGE_SIZE}};

    return MmAllocateMdlForIoSpace(list, ARRAYSIZE(list), &scene->made_mdl);
}

/* MmAllocateMdlForIoSpace. */
TEST(fault_internal, mm_allocate_mdl_for_io_space__each_allocation_fails)
{
    sweep((struct routine){io_space_mdl, free_mdl, STATUS_INSUFFICIENT_RESOURCES, NULL});
}

static NTSTATUS contiguous(struct scene *scene)
{
    return made(scene, MmAllocateContiguousMemory(TAKEN, phys(EVERYWHERE)));
}

static NTSTATUS contiguous_cached(struct scene *scene)
{
    return made(scene, MmAllocateContiguousMemorySpecifyCache(TAKEN, phys(LINEAR_AT), phys(LINEAR_END),
                                                              phys(4 << 20), MmNonCached));
}

static NTSTATUS contiguous_node(struct scene *scene)
{
    return made(scene,
                MmAllocateContiguousNodeMemory(TAKEN, phys(0), phys(EVERYWHERE), phys(0), PAGE_READWRITE, 1));
}

static NTSTATUS contiguous_ex(struct scene *scene)
{
    SIZE_T bytes = TAKEN;

    return MmAllocateContiguousMemoryEx(&bytes, phys(0), phys(EVERYWHERE), phys(0), MM_ANY_NODE_OK,
                                        PAGE_READWRITE, NULL, TAG, 0, &scene->made);
}

static void free_contiguous(struct scene *scene)
{
    MmFreeContiguousMemory(scene->made);
}

/* MmAllocateContiguousMemory. */
TEST(fault_internal, mm_allocate_contiguous_memory__each_allocation_fails)
{
    sweep((struct routine){contiguous, free_contiguous, RETURNED_NULL, NULL});
}

/* MmAllocateContiguousMemorySpecifyCache, with a boundary. */
TEST(fault_internal, mm_allocate_contiguous_memory_specify_cache__each_allocation_fails)
{
    sweep((struct routine){contiguous_cached, free_contiguous, RETURNED_NULL, NULL});
}

/* MmAllocateContiguousNodeMemory. */
TEST(fault_internal, mm_allocate_contiguous_node_memory__each_allocation_fails)
{
    sweep((struct routine){contiguous_node, free_contiguous, RETURNED_NULL, NULL});
}

/* MmAllocateContiguousMemoryEx. */
TEST(fault_internal, mm_allocate_contiguous_memory_ex__each_allocation_fails)
{
    sweep((struct routine){contiguous_ex, free_contiguous, ANY_ERROR, NULL});
}

static NTSTATUS noncached(struct scene *scene)
{
    return made(scene, MmAllocateNonCachedMemory(TAKEN));
}

static void free_noncached(struct scene *scene)
{
    MmFreeNonCachedMemory(scene->made, TAKEN);
}

/* MmAllocateNonCachedMemory. */
TEST(fault_internal, mm_allocate_noncached_memory__each_allocation_fails)
{
    sweep((struct routine){noncached, free_noncached, RETURNED_NULL, NULL});
}

/* A block of each size from a byte to some pages, in a list. */
static NTSTATUS pool_of(struct scene *scene, POOL_FLAGS flags)
{
    PVOID *last = NULL;

    for (SIZE_T bytes = sizeof(PVOID); bytes <= 8 * PAGE_SIZE; bytes = bytes * 3 / 2 + 1) {
        PVOID *const block = ExAllocatePool2(flags | POOL_FLAG_UNINITIALIZED, bytes, TAG);

        if (block == NULL)
            break;
        *block = last;
        last = block;
        scene->made_irp = bytes * 3 / 2 + 1 > 8 * PAGE_SIZE ? (PVOID)block : NULL;
    }
    scene->made = last;
    return scene->made_irp != NULL ? STATUS_SUCCESS : RETURNED_NULL;
}

static void free_pool_list(struct scene *scene)
{
    for (PVOID *block = scene->made; block != NULL;) {
        PVOID *const next = *block;

        ExFreePool(block);
        block = next;
    }
    scene->made = NULL;
    scene->made_irp = NULL;
}

static NTSTATUS nonpaged_pool(struct scene *scene)
{
    const NTSTATUS status = pool_of(scene, POOL_FLAG_NON_PAGED);

    if (status != STATUS_SUCCESS)
        free_pool_list(scene);
    return status;
}

static NTSTATUS paged_pool(struct scene *scene)
{
    const NTSTATUS status = pool_of(scene, POOL_FLAG_PAGED);

    if (status != STATUS_SUCCESS)
        free_pool_list(scene);
    return status;
}

/* Nonpaged pool, of many sizes. */
TEST(fault_internal, pool__nonpaged__each_allocation_fails)
{
    sweep((struct routine){nonpaged_pool, free_pool_list, RETURNED_NULL, NULL});
}

/* Paged pool, of many sizes. */
TEST(fault_internal, pool__paged__each_allocation_fails)
{
    sweep((struct routine){paged_pool, free_pool_list, RETURNED_NULL, NULL});
}

static NTSTATUS raising_pool(struct scene *scene)
{
    return made(scene,
                ExAllocatePool2(POOL_FLAG_NON_PAGED | POOL_FLAG_RAISE_ON_FAILURE, 64 * PAGE_SIZE, TAG));
}

static void free_pool(struct scene *scene)
{
    ExFreePool(scene->made);
}

/* Pool that was asked to raise does so. */
TEST(fault_internal, pool__raising__each_allocation_fails)
{
    sweep((struct routine){raising_pool, free_pool, STATUS_INSUFFICIENT_RESOURCES, NULL});
}

/* ---- Processes ---------------------------------------------------------------------------------------- */

static NTSTATUS create_process(struct scene *scene)
{
    return made(scene, pinion_process_create("of a test"));
}

static void exit_process(struct scene *scene)
{
    pinion_process_exit(scene->made);
}

/* pinion_process_create. */
TEST(fault_internal, process_create__each_allocation_fails)
{
    sweep((struct routine){create_process, exit_process, RETURNED_NULL, NULL});
}

static NTSTATUS user_alloc(struct scene *scene)
{
    return made(scene, pinion_user_alloc(TAKEN, PAGE_READWRITE));
}

static void user_free(struct scene *scene)
{
    fill_pattern(scene->made, PAGE_SIZE, 1);
    pinion_user_free(scene->made);
}

/* pinion_user_alloc. */
TEST(fault_internal, user_alloc__each_allocation_fails)
{
    sweep((struct routine){user_alloc, user_free, RETURNED_NULL, NULL});
}
