/* SPDX-License-Identifier: MIT */
/* Stops that the floors make themselves: their reports tell whose page, process, mapping or MDL it is, and where that was made. */

#include "harness.h"
#include <wdm.h>

#include "stories.h"

#include "../contract/dma_support.h"

static void end_process_with_locks(HARNESS_UNUSED void *context)
{
    const PEPROCESS process = pinion_process_create("holder");

    pinion_process_attach(process);
    lock_it(allocate_it(user_pages(2, PAGE_READWRITE)));
    pinion_process_exit(process);
}

/* MmProbeAndLockPages-11: pages that are left locked in a process that ends are told with who locked them. */
TEST_UNTIDY(subjects, process_with_locked_pages__tells_who_locked_them)
{
    const struct stop stop = run_until_stop(end_process_with_locks, NULL);

    EXPECT_EQ(stop.code, PROCESS_HAS_LOCKED_PAGES);
    EXPECT_EQ(stop.p[0], 0);
    EXPECT(strstr(stop.stderr_text, " has pages of the process locked:\n") != NULL);
    EXPECT(names(stop.stderr_text, "locked at", "lock_it"));
    EXPECT(names(stop.stderr_text, "allocated at", "allocate_it"));
}

/* One over the block, one over other memory of the same kind. */
static void free_locked_pool(HARNESS_UNUSED void *context)
{
    UCHAR *const block = ExAllocatePoolWithTag(PagedPool, 2 * PAGE_SIZE, 'kcoL');
    UCHAR *const other = ExAllocatePoolWithTag(PagedPool, 2 * PAGE_SIZE, 'kcoL');

    MmProbeAndLockPages(mdl_over(other, 2 * PAGE_SIZE), KernelMode, IoReadAccess);
    MmProbeAndLockPages(allocate_it(block), KernelMode, IoReadAccess);
    ExFreePool(block);
}

TEST_UNTIDY(subjects, page_that_is_locked__tells_the_mdl_that_has_it_locked)
{
    const struct stop stop = run_until_stop(free_locked_pool, NULL);
    const char *const told = strstr(stop.stderr_text, " has the page locked:\n");

    EXPECT_EQ(stop.code, PFN_LIST_CORRUPT);
    EXPECT_EQ(stop.p[0], 0x9A);
    EXPECT(told != NULL && strstr(told + 1, " has the page locked:\n") == NULL);
    EXPECT(names(told, "locked at", "free_locked_pool"));
    EXPECT(names(told, "allocated at", "allocate_it"));
}

static void unmap_elsewhere(HARNESS_UNUSED void *context)
{
    const PMDL mdl = allocate_it(user_pages(2, PAGE_READWRITE));

    lock_it(mdl);
    MmUnmapLockedPages(map_it(mdl) + PAGE_SIZE, mdl);
}

TEST_UNTIDY(subjects, mapping_released_at_another_address__tells_where_it_was_mapped)
{
    const struct stop stop = run_until_stop(unmap_elsewhere, NULL);

    EXPECT_EQ(stop.code, SYSTEM_PTE_MISUSE);
    EXPECT(names(stop.stderr_text, "mapped at", "map_it"));
}

static void free_pages_of_locked(HARNESS_UNUSED void *context)
{
    const PMDL mdl = allocate_it(user_pages(2, PAGE_READWRITE));

    lock_it(mdl);
    MmFreePagesFromMdl(mdl);
}

/* MmFreePagesFromMdl-03: the report says what is wrong, and tells the MDL. */
TEST_UNTIDY(subjects, pages_freed_of_an_mdl_that_brought_none__tells_the_mdl)
{
    const struct stop stop = run_until_stop(free_pages_of_locked, NULL);

    EXPECT_EQ(stop.code, MEMORY_MANAGEMENT);
    EXPECT_EQ(stop.p[0], 0x1236);
    EXPECT(strstr(stop.stderr_text, "a state that cannot be") == NULL);
    EXPECT(strstr(stop.stderr_text, "MmFreePagesFromMdl of an MDL that brought no pages") != NULL);
    EXPECT(names(stop.stderr_text, "locked at", "lock_it"));
}

/* ---- NULL -------------------------------------------------------------------------------------------------------- */

MAY_FAULT static void read_flags(volatile MDL *mdl)
{
    (void)mdl->MdlFlags;
    after = true;
}

static MDL *volatile no_mdl;

static void read_flags_of_null(HARNESS_UNUSED void *context)
{
    boot("verifier=on");
    read_flags(no_mdl);
}

/* What helps there is no __try. */
TEST_UNTIDY(subjects, null_for_an_mdl__is_told_as_that)
{
    const struct stop stop = run_until_stop(read_flags_of_null, NULL);

    EXPECT_EQ(stop.code, KMODE_EXCEPTION_NOT_HANDLED);
    EXPECT(strstr(stop.stderr_text, " is near NULL: a pointer was NULL") != NULL);
    EXPECT(strstr(stop.stderr_text, "ask before whether a pointer is NULL") != NULL);
    EXPECT(names(stop.stderr_text, "done at", "read_flags"));
}

/* ---- freed MDLs -------------------------------------------------------------------------------------------------- */

static void ask_whether_zero(PMDL mdl)
{
    MmMdlPagesAreZero(mdl);
}

static void ask_whether_cached(PMDL mdl)
{
    MmAreMdlPagesCached(mdl);
}

static void use_freed_without_special_pool(void *use)
{
    PMDL mdl;

    boot("verifier=0x9BA");
    mdl = locked_mdl(user_pages(1, PAGE_READWRITE), PAGE_SIZE);
    unlock_and_free(mdl);
    ((void (*)(PMDL))use)(mdl);
}

/* IoFreeMdl-02: also where the freed MDL could be read. */
TEST_UNTIDY(subjects, freed_mdl__asked_about_its_pages__stops)
{
    struct stop stop = run_until_stop(use_freed_without_special_pool, (void *)ask_whether_zero);

    EXPECT_EQ(stop.code, PAGE_FAULT_IN_FREED_SPECIAL_POOL);
    EXPECT(names(stop.stderr_text, "done at", "ask_whether_zero"));
    stop = run_until_stop(use_freed_without_special_pool, (void *)ask_whether_cached);
    EXPECT_EQ(stop.code, PAGE_FAULT_IN_FREED_SPECIAL_POOL);
    EXPECT(names(stop.stderr_text, "done at", "ask_whether_cached"));
}

/* ---- partial MDLs of partial MDLs -------------------------------------------------------------------------------- */

APART static void map_parent(PMDL parent)
{
    map_it(parent);
    after = true;
}

static void outlive_mapping_of_parent(HARNESS_UNUSED void *context)
{
    UCHAR *const va = user_pages(2, PAGE_READWRITE);
    const PMDL root = locked_mdl(va, 2 * PAGE_SIZE), parent = mdl_over(va, 2 * PAGE_SIZE), child = mdl_over(va, PAGE_SIZE);

    IoBuildPartialMdl(root, parent, va, 2 * PAGE_SIZE);
    map_parent(parent);
    IoBuildPartialMdl(parent, child, va, PAGE_SIZE);
    MmPrepareMdlForReuse(parent);
    fprintf(stderr, "parent %p\n", (void *)parent);
    MmGetSystemAddressForMdlSafe(child, NORMAL_NX);
}

/* IoBuildPartialMdl-31: the mapping that is gone was the parent's; the root was never mapped. */
TEST_UNTIDY(subjects, mapping_of_a_parent_that_is_gone__tells_the_parent)
{
    const struct stop stop = run_until_stop(outlive_mapping_of_parent, NULL);
    char expected[64] = "The mapping is that of its source, MDL ";
    const char *const parent = strstr(stop.stderr_text, "parent 0x");

    EXPECT_EQ(stop_warnings(&stop, "partial-outlives-mapping"), 1);
    EXPECT(parent != NULL);
    strncat(expected, parent + strlen("parent "), strcspn(parent + strlen("parent "), "\n"));
    EXPECT(strstr(stop.stderr_text, expected) != NULL);
    EXPECT(names(strstr(stop.stderr_text, expected), "mapped at", "map_it"));
}

/* ---- DMA --------------------------------------------------------------------------------------------------------- */

static void free_object_of_no_channel(HARNESS_UNUSED void *context)
{
    const PDMA_ADAPTER adapter = get_adapter(describe(DEVICE_DESCRIPTION_VERSION3, 32, TRUE, 65536));

    adapter->DmaOperations->FreeAdapterObject(adapter, DeallocateObjectKeepRegisters);
}

/* FreeAdapterObject-01: a stop that the DMA floor makes by itself is explained as the rule's is. */
TEST_UNTIDY(subjects, object__freed_without_a_channel__is_explained)
{
    const struct stop stop = run_until_stop(free_object_of_no_channel, NULL);

    EXPECT_EQ(stop.code, 0xE6);
    EXPECT_EQ(stop.p[0], 0x04);
    EXPECT(strstr(stop.stderr_text, "\nWhat to do: ") != NULL);
    EXPECT(strstr(stop.stderr_text, "\nMore: pinion explain 0xE6/0x04\n") != NULL);
}
