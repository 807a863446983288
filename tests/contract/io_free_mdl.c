/* SPDX-License-Identifier: MIT */
/*
 * IoFreeMdl: what goes with an MDL that is freed, what stays, what must be undone before, and what comes of an MDL that
 * is used afterwards.
 */

#include "harness.h"
#include <wdm.h>

#include "io_stack.h"
#include "pages.h"
#include "partial.h"

/* ---- What goes ------------------------------------------------------------------------------------------------- */

/* IoFreeMdl-01, IoFreeMdl-10: the routine has the type of its page, and takes what IoAllocateMdl returned. */
TEST(io_free_mdl, routine__by_its_documented_type__frees)
{
    VOID (*const release)(PMDL) = &IoFreeMdl;
    const struct pinion_counters before = counters_now();
    const PMDL mdl = mdl_over(NULL, PAGE_SIZE);

    EXPECT_EQ(counters_now().live_mdls, before.live_mdls + 1);
    release(mdl);
    EXPECT_SAME_COUNTERS(before);
}

/* IoFreeMdl-02: MDLs of all sizes may be freed in any order. */
TEST(io_free_mdl, free__many_sizes_in_another_order__leaves_nothing)
{
    enum { COUNT = 64 };
    PMDL mdls[COUNT];
    const struct pinion_counters before = counters_now();

    for (SIZE_T i = 0; i < COUNT; i++)
        mdls[i] = mdl_over(NULL, (i * i * i + 1) * PAGE_SIZE);
    for (SIZE_T i = 0; i < COUNT; i++)
        IoFreeMdl(mdls[i * 29 % COUNT]);
    EXPECT_SAME_COUNTERS(before);
}

/* IoFreeMdl-04, IoFreeMdl-06: a partial MDL that was mapped is unmapped by freeing it; no other call is needed. */
SILENT_TEST(io_free_mdl, free__mapped_partial_mdl__unmaps_its_pages)
{
    const struct pair pair = make_pair();
    const struct pinion_counters before = counters_now();

    EXPECT_PATTERN_AT(system_address(pair.part), PART_BYTES, SEED, PART_AT);
    EXPECT_EQ(counters_now().system_mappings, before.system_mappings + 1);
    EXPECT_EQ(counters_now().system_pages_mapped, before.system_pages_mapped + 4);
    IoFreeMdl(pair.part);
    EXPECT_EQ(counters_now().system_mappings, before.system_mappings);
    EXPECT_EQ(counters_now().system_pages_mapped, before.system_pages_mapped);
    EXPECT_EQ(counters_now().locked_pages, before.locked_pages);
    EXPECT_EQ(counters_now().live_mdls, before.live_mdls - 1);
    release_pair_source(&pair);
}

static void touch_after_free(void *context)
{
    volatile UCHAR **const address = context;
    const struct pair pair = make_pair();

    *address = system_address(pair.part);
    IoFreeMdl(pair.part);
    (void)**address;
}

/* IoFreeMdl-04: the address of that mapping is worth nothing afterwards: reading there stops. */
TEST_UNTIDY(io_free_mdl, free__mapped_partial_mdl__its_address_is_gone)
{
    uint64_t *const words = shared_words();
    const struct stop stop = run_until_stop(touch_after_free, words);

    EXPECT(stop.stopped);
    EXPECT_EQ(stop.code, 0x50);
    EXPECT_EQ(stop.p[0], words[0]);
    EXPECT_EQ(stop.p[1], 0);
}

/* IoFreeMdl-04: an MDL whose partial MDL goes keeps its lock, its page numbers and its own mapping. */
SILENT_TEST(io_free_mdl, free__partial_mdl__leaves_its_source_alone)
{
    const struct pair pair = make_pair();
    UCHAR *const system = system_address(pair.source);
    const MDL source_before = *pair.source;

    IoFreeMdl(pair.part);
    EXPECT_MEM_EQ(pair.source, &source_before, sizeof(MDL));
    EXPECT_PATTERN(system, PAGES * PAGE_SIZE, SEED);
    EXPECT_EQ(pinion_trim(), 0);
    release_pair_source(&pair);
}

/* IoFreeMdl-07: an MDL of device memory, made by MmAllocateMdlForIoSpace, is freed by it too. */
SILENT_TEST(io_free_mdl, free__mdl_of_device_memory__leaves_nothing)
{
    MM_PHYSICAL_ADDRESS_LIST ranges[] = {
        {.PhysicalAddress.QuadPart = DEVICE_AT, .NumberOfBytes = 2 * PAGE_SIZE},
        {.PhysicalAddress.QuadPart = DEVICE_AT + 16 * PAGE_SIZE, .NumberOfBytes = PAGE_SIZE},
    };
    const struct pinion_counters before = counters_now();
    PMDL mdl;

    EXPECT_STATUS(MmAllocateMdlForIoSpace(ranges, ARRAYSIZE(ranges), &mdl), STATUS_SUCCESS);
    EXPECT_EQ(counters_now().live_mdls, before.live_mdls + 1);
    EXPECT_EQ(MmGetMdlByteCount(mdl), 3 * PAGE_SIZE);
    IoFreeMdl(mdl);
    EXPECT_SAME_COUNTERS(before);
}

/* IoFreeMdl-08: an MDL that brought its own pages is not one for IoFreeMdl, which knows no such block: without the verifier too. */
STOP_TEST(io_free_mdl, free__mdl_with_pages_of_its_own_without_verifier__bug_check_0xC2, BAD_POOL_CALLER, 0x46)
{
    boot("verifier=off");
    IoFreeMdl(pages_anywhere(PAGES));
}

/* IoFreeMdl-08: its pages are freed by MmFreePagesFromMdl and it by ExFreePool, in silence. */
SILENT_TEST(io_free_mdl, free__mdl_with_pages_freed_in_its_own_way__is_legal)
{
    const PMDL mdl = pages_anywhere(PAGES);

    MmFreePagesFromMdl(mdl);
    ExFreePool(mdl);
}

/* ---- What stays ------------------------------------------------------------------------------------------------ */

/* IoFreeMdl-05: only the MDL that was named is freed: those behind it in its chain stay, and are freed one by one. */
SILENT_TEST(io_free_mdl, free__head_of_a_chain__frees_no_other)
{
    PMDL chain[3];
    const struct pinion_counters before = counters_now();

    for (SIZE_T i = 0; i < 3; i++)
        chain[i] = mdl_over((PVOID)(ULONG_PTR)(0x1000 * (i + 1) + i), (i + 1) * 100);
    chain[0]->Next = chain[1];
    chain[1]->Next = chain[2];

    IoFreeMdl(chain[0]);
    EXPECT_EQ(counters_now().live_mdls, before.live_mdls + 2);
    EXPECT_PTR_EQ(chain[1]->Next, chain[2]);
    for (SIZE_T i = 1; i < 3; i++) {
        EXPECT_PTR_EQ(MmGetMdlVirtualAddress(chain[i]), (PVOID)(ULONG_PTR)(0x1000 * (i + 1) + i));
        EXPECT_EQ(MmGetMdlByteCount(chain[i]), (i + 1) * 100);
    }
    IoFreeMdl(chain[1]);
    IoFreeMdl(chain[2]);
    EXPECT_SAME_COUNTERS(before);
}

/* IoFreeMdl-05: an MDL that is freed without its chain leaves the rest behind: a leak. */
WARN_TEST(io_free_mdl, free__only_the_head_of_a_chain__leaks_the_rest, "mdl-chain-leak")
{
    const PMDL head = mdl_over(NULL, PAGE_SIZE);

    head->Next = mdl_over(NULL, PAGE_SIZE);
    IoFreeMdl(head);
}

/* Free a chain in the way that the documentation shows: what is locked is unlocked, and nothing is unmapped by hand. */
static void free_chain(PMDL mdl)
{
    while (mdl != NULL) {
        const PMDL next = mdl->Next;

        if (mdl->MdlFlags & MDL_PAGES_LOCKED)
            MmUnlockPages(mdl);
        IoFreeMdl(mdl);
        mdl = next;
    }
}

/* IoFreeMdl-05, IoFreeMdl-06: the documentation's loop over a chain of a mapped partial, a mapped locked, a nonpaged
   and an unused MDL leaves nothing behind. */
SILENT_TEST(io_free_mdl, free__chain_of_all_kinds__leaves_nothing)
{
    const struct pair pair = make_pair();
    UCHAR *const block = pool_pages(1);
    const PMDL nonpaged = mdl_over(block, PAGE_SIZE);

    MmBuildMdlForNonPagedPool(nonpaged);
    EXPECT_PATTERN_AT(system_address(pair.part), PART_BYTES, SEED, PART_AT);
    EXPECT_PATTERN(system_address(pair.source), PAGES * PAGE_SIZE, SEED);
    EXPECT_PTR_EQ(system_address(nonpaged), block);
    pair.part->Next = pair.source;
    pair.source->Next = nonpaged;
    nonpaged->Next = mdl_over(NULL, PAGE_SIZE);
    free_chain(pair.part);
    ExFreePoolWithTag(block, TEST_TAG);
    pinion_user_free(pair.va);
}

/* Next may still be set at free, to an MDL that lives or to anything: it is not looked at. */
SILENT_TEST(io_free_mdl, free__next_still_set__is_not_looked_at)
{
    const PMDL other = mdl_over(NULL, PAGE_SIZE);
    const PMDL mdl = mdl_over(NULL, PAGE_SIZE);
    const PMDL stray = mdl_over(NULL, PAGE_SIZE);

    mdl->Next = other;
    stray->Next = (PMDL)(ULONG_PTR)0xDEADBEEF0;
    IoFreeMdl(mdl);
    IoFreeMdl(stray);
    EXPECT_EQ(MmGetMdlByteCount(other), PAGE_SIZE);
    IoFreeMdl(other);
}

/* ---- What must be undone before -------------------------------------------------------------------------------- */

static void free_locked(void *context)
{
    uint64_t *const words = context;
    const PMDL mdl = locked_mdl(user_pattern(PAGES, SEED), PAGES * PAGE_SIZE);

    words[0] = (uintptr_t)mdl;
    IoFreeMdl(mdl);
}

/* IoFreeMdl-03: an MDL whose pages are locked must be unlocked first: freeing it stops and names it and how many
   pages. */
TEST_UNTIDY(io_free_mdl, free__pages_locked__stops)
{
    uint64_t *const words = shared_words();
    const struct stop stop = run_until_stop(free_locked, words);

    EXPECT(stop.stopped);
    EXPECT_EQ(stop.code, 0xCB);
    EXPECT_EQ(stop.p[1], 0);
    EXPECT_EQ(stop.p[2], words[0]);
    EXPECT_EQ(stop.p[3], PAGES);
}

static void free_locked_after_advance(HARNESS_UNUSED void *context)
{
    const PMDL mdl = locked_mdl(user_pattern(PAGES, SEED), PAGES * PAGE_SIZE);

    EXPECT_STATUS(MmAdvanceMdl(mdl, 2 * PAGE_SIZE), STATUS_SUCCESS);
    IoFreeMdl(mdl);
}

/* IoFreeMdl-03: the count is of the pages that are still locked, without those that MmAdvanceMdl passed. */
TEST_UNTIDY(io_free_mdl, free__pages_locked_after_an_advance__stops_with_what_is_left)
{
    const struct stop stop = run_until_stop(free_locked_after_advance, NULL);

    EXPECT(stop.stopped);
    EXPECT_EQ(stop.code, 0xCB);
    EXPECT_EQ(stop.p[3], PAGES - 2);
}

/* IoFreeMdl-03: what counts is the lock, not the flag: drivers set MDL_PAGES_LOCKED by hand. */
SILENT_TEST(io_free_mdl, free__locked_flag_set_by_hand__is_legal)
{
    const struct pair pair = make_pair();
    const PMDL mdl = mdl_over(NULL, PAGE_SIZE);

    mdl->MdlFlags |= MDL_PAGES_LOCKED;
    IoFreeMdl(mdl);
    pair.part->MdlFlags |= MDL_PAGES_LOCKED;
    IoFreeMdl(pair.part);
    release_pair_source(&pair);
}

/* An MDL of the driver's own making: the page numbers copied from a locked one, and mapped. */
static PMDL mapped_copy(PMDL source)
{
    const PMDL copy = mdl_over(MmGetMdlVirtualAddress(source), MmGetMdlByteCount(source));

    RtlCopyMemory(MmGetMdlPfnArray(copy), MmGetMdlPfnArray(source), mdl_pages(source) * sizeof(PFN_NUMBER));
    copy->MdlFlags |= MDL_PAGES_LOCKED;
    EXPECT(map_system(copy) != NULL);
    return copy;
}

static void free_mapped(void *context)
{
    uint64_t *const words = context;
    const PMDL copy = mapped_copy(locked_mdl(user_pattern(PAGES, SEED), PAGES * PAGE_SIZE));

    words[0] = (uintptr_t)copy;
    words[1] = mdl_flags(copy);
    IoFreeMdl(copy);
}

/* IoFreeMdl-11: any other MDL that is mapped must be unmapped first (ruling 21): freeing it stops with its address and
   flags. */
TEST_UNTIDY(io_free_mdl, free__mapped_and_no_partial_mdl__stops)
{
    uint64_t *const words = shared_words();
    const struct stop stop = expect_stop(free_mapped, words, 0xC4, 0xB8);

    EXPECT_EQ(stop.p[1], words[0]);
    EXPECT_EQ(stop.p[2], words[1]);
}

/* IoFreeMdl-11: once it is unmapped, the same MDL is freed in silence. */
SILENT_TEST(io_free_mdl, free__unmapped_before__is_legal)
{
    const struct pair pair = make_pair();
    const PMDL copy = mapped_copy(pair.source);

    MmUnmapLockedPages(copy->MappedSystemVa, copy);
    IoFreeMdl(copy);
    IoFreeMdl(pair.part);
    release_pair_source(&pair);
}

static void free_mapped_for_user(void *context)
{
    uint64_t *const words = context;
    UCHAR *const block = pool_pages(1);
    const PMDL mdl = mdl_over(block, PAGE_SIZE);

    RtlZeroMemory(block, PAGE_SIZE);
    MmBuildMdlForNonPagedPool(mdl);
    EXPECT(map_user(mdl) != NULL);
    words[0] = (uintptr_t)mdl;
    IoFreeMdl(mdl);
}

/* IoFreeMdl-11: a mapping into a process is a mapping too. */
TEST_UNTIDY(io_free_mdl, free__mapped_into_a_process__stops)
{
    uint64_t *const words = shared_words();
    const struct stop stop = expect_stop(free_mapped_for_user, words, 0xC4, 0xB8);

    EXPECT_EQ(stop.p[1], words[0]);
}

static NTSTATUS free_mdl_and_irp(HARNESS_UNUSED PDEVICE_OBJECT device, PIRP irp, PVOID context)
{
    uint64_t *const words = context;

    if (words == NULL)
        MmUnlockPages(irp->MdlAddress);
    else
        words[0] = (uintptr_t)irp->MdlAddress;
    IoFreeMdl(irp->MdlAddress);
    irp->MdlAddress = NULL;
    IoFreeIrp(irp);
    return STATUS_MORE_PROCESSING_REQUIRED;
}

/* A request for a block of pool, built for a driver that does not wait, to a device that does direct I/O; its completion
   routine notes the MDL and frees it locked, or unlocks it first where there is nowhere to note it. */
static void send_asynchronous_request(void *words)
{
    UCHAR *const block = pool_pages(2);
    LARGE_INTEGER offset = {.QuadPart = 0};
    struct layer layer;

    layer_create(&layer, DO_DIRECT_IO, complete_with_success);
    const PIRP irp = IoBuildAsynchronousFsdRequest(IRP_MJ_READ, layer.device, block, 2 * PAGE_SIZE, &offset, NULL);
    EXPECT(irp != NULL && irp->MdlAddress != NULL);
    EXPECT_EQ(counters_now().locked_pages, 2);
    IoSetCompletionRoutine(irp, free_mdl_and_irp, words, TRUE, TRUE, TRUE);
    IoCallDriver(layer.device, irp);
    layer_destroy(&layer);
    ExFreePoolWithTag(block, TEST_TAG);
}

/* IoFreeMdl-12: the pool pages of an asynchronous request carry a lock of the builder's: freeing the MDL without
   MmUnlockPages stops. */
TEST_UNTIDY(io_free_mdl, free__mdl_of_an_asynchronous_request_still_locked__stops)
{
    uint64_t *const words = shared_words();
    const struct stop stop = run_until_stop(send_asynchronous_request, words);

    EXPECT(stop.stopped);
    EXPECT_EQ(stop.code, 0xCB);
    EXPECT_EQ(stop.p[2], words[0]);
    EXPECT_EQ(stop.p[3], 2);
}

/* IoFreeMdl-12: unlocked before, it goes in silence. */
SILENT_TEST(io_free_mdl, free__mdl_of_an_asynchronous_request_unlocked__is_legal)
{
    send_asynchronous_request(NULL);
    EXPECT_EQ(counters_now().locked_pages, 0);
}

/* ---- Afterwards ------------------------------------------------------------------------------------------------ */

/* What was asked of the MDL before it was freed. */
static PVOID freed_va, freed_mapping;

/* Ways of using an MDL that was freed; `other` is alive and locked. */
static void use_free(PMDL mdl, HARNESS_UNUSED PMDL other)
{
    IoFreeMdl(mdl);
}

static void use_lock(PMDL mdl, HARNESS_UNUSED PMDL other)
{
    MmProbeAndLockPages(mdl, KernelMode, IoReadAccess);
}

static void use_unlock(PMDL mdl, HARNESS_UNUSED PMDL other)
{
    MmUnlockPages(mdl);
}

static void use_build(PMDL mdl, HARNESS_UNUSED PMDL other)
{
    MmBuildMdlForNonPagedPool(mdl);
}

static void use_map(PMDL mdl, HARNESS_UNUSED PMDL other)
{
    MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX);
}

static void use_map_pages(PMDL mdl, HARNESS_UNUSED PMDL other)
{
    map_system(mdl);
}

static void use_unmap(PMDL mdl, HARNESS_UNUSED PMDL other)
{
    MmUnmapLockedPages(freed_mapping, mdl);
}

static void use_advance(PMDL mdl, HARNESS_UNUSED PMDL other)
{
    MmAdvanceMdl(mdl, 1);
}

static void use_prepare(PMDL mdl, HARNESS_UNUSED PMDL other)
{
    MmPrepareMdlForReuse(mdl);
}

static void use_as_source(PMDL mdl, PMDL other)
{
    IoBuildPartialMdl(mdl, other, freed_va, 1);
}

static void use_as_target(PMDL mdl, PMDL other)
{
    IoBuildPartialMdl(other, mdl, MmGetMdlVirtualAddress(other), 1);
}

static void use_lock_process(PMDL mdl, HARNESS_UNUSED PMDL other)
{
    MmProbeAndLockProcessPages(mdl, PsGetCurrentProcess(), UserMode, IoReadAccess);
}

static void use_lock_selected(PMDL mdl, HARNESS_UNUSED PMDL other)
{
    FILE_SEGMENT_ELEMENT segments[PAGES] = {{.Buffer = PAGE_ALIGN(freed_va)}};

    MmProbeAndLockSelectedPages(mdl, segments, UserMode, IoReadAccess);
}

static void use_flush(PMDL mdl, HARNESS_UNUSED PMDL other)
{
    KeFlushIoBuffers(mdl, TRUE, TRUE);
}

static void use_protect(PMDL mdl, HARNESS_UNUSED PMDL other)
{
    MmProtectMdlSystemAddress(mdl, PAGE_READONLY);
}

static void use_reserved(PMDL mdl, HARNESS_UNUSED PMDL other)
{
    MmMapLockedPagesWithReservedMapping(MmAllocateMappingAddress(PAGES * PAGE_SIZE, TEST_TAG), TEST_TAG, mdl, MmCached);
}

static void use_unmap_reserved(PMDL mdl, HARNESS_UNUSED PMDL other)
{
    MmUnmapReservedMapping(MmAllocateMappingAddress(PAGES * PAGE_SIZE, TEST_TAG), TEST_TAG, mdl);
}

static void use_free_pages(PMDL mdl, HARNESS_UNUSED PMDL other)
{
    MmFreePagesFromMdl(mdl);
}

static void use_for_irp(PMDL mdl, HARNESS_UNUSED PMDL other)
{
    const PIRP irp = IoAllocateIrp(1, FALSE);

    irp->MdlAddress = mdl;
    IoAllocateMdl(freed_va, PAGE_SIZE, TRUE, FALSE, irp);
}

struct use {
    const char *name;
    void (*use)(PMDL mdl, PMDL other);
};

static const struct use uses[] = {
    {"IoFreeMdl", use_free},
    {"MmProbeAndLockPages", use_lock},
    {"MmUnlockPages", use_unlock},
    {"MmBuildMdlForNonPagedPool", use_build},
    {"MmGetSystemAddressForMdlSafe", use_map},
    {"MmMapLockedPagesSpecifyCache", use_map_pages},
    {"MmUnmapLockedPages", use_unmap},
    {"MmAdvanceMdl", use_advance},
    {"MmPrepareMdlForReuse", use_prepare},
    {"IoBuildPartialMdl, as the source", use_as_source},
    {"IoBuildPartialMdl, as the target", use_as_target},
    {"MmProbeAndLockProcessPages", use_lock_process},
    {"MmProbeAndLockSelectedPages", use_lock_selected},
    {"KeFlushIoBuffers", use_flush},
    {"MmProtectMdlSystemAddress", use_protect},
    {"MmMapLockedPagesWithReservedMapping", use_reserved},
    {"MmUnmapReservedMapping", use_unmap_reserved},
    {"MmFreePagesFromMdl", use_free_pages},
    {"IoAllocateMdl, in the IRP's chain", use_for_irp},
};

struct use_call {
    const struct use *use;
    uint64_t *words;
};

static void use_after_free(void *context)
{
    const struct use_call *const call = context;
    const PMDL other = locked_mdl(user_pattern(PAGES, SEED), PAGES * PAGE_SIZE);
    const PMDL mdl = locked_mdl(user_pattern(PAGES, SEED), PAGES * PAGE_SIZE);

    call->words[0] = (uintptr_t)mdl;
    freed_va = MmGetMdlVirtualAddress(mdl);
    freed_mapping = system_address(mdl);
    unlock_and_free(mdl);
    call->use->use(mdl, other);
}

/* IoFreeMdl-02: an MDL that was freed is no MDL any more: whatever routine is handed it stops and names it. */
static void expect_all_to_stop(void (*body)(void *), uint64_t *words)
{
    for (SIZE_T i = 0; i < ARRAYSIZE(uses); i++) {
        struct use_call call = {&uses[i], words};
        const struct stop stop = run_until_stop(body, &call);

        if (!stop.stopped || stop.code != 0xCC || stop.p[0] != words[0])
            harness_fail(HARNESS_HERE, "%s of a freed MDL does not stop with 0xCC and its address: %s", uses[i].name,
                         stop.stderr_text);
    }
    EXPECT(words[0] != 0);
}

TEST_UNTIDY(io_free_mdl, free__used_afterwards__stops)
{
    expect_all_to_stop(use_after_free, shared_words());
}

static void use_after_free_of_plain(void *context)
{
    boot("verifier=0x9B8");
    use_after_free(context);
}

/* IoFreeMdl-02: outside special pool as well. */
TEST_UNTIDY(io_free_mdl, free__used_afterwards_without_special_pool__stops)
{
    expect_all_to_stop(use_after_free_of_plain, shared_words());
}

/* ---- IRQL ------------------------------------------------------------------------------------------------------ */

/* IoFreeMdl-09: it may be called at DISPATCH_LEVEL, where it unmaps as well. */
SILENT_TEST(io_free_mdl, free__dispatch_level__works)
{
    const struct pair pair = make_pair();
    const PMDL plain = mdl_over(NULL, PAGE_SIZE);
    const KIRQL before = raise_irql(DISPATCH_LEVEL);

    EXPECT_PATTERN_AT(system_address(pair.part), PART_BYTES, SEED, PART_AT);
    IoFreeMdl(pair.part);
    IoFreeMdl(plain);
    EXPECT_EQ(counters_now().system_mappings, 0);
    KeLowerIrql(before);
    release_pair_source(&pair);
}

static void free_above_dispatch_level(void *context)
{
    uint64_t *const words = context;
    const PMDL mdl = mdl_over(NULL, PAGE_SIZE);

    words[0] = (uintptr_t)mdl;
    raise_irql(DISPATCH_LEVEL + 1);
    IoFreeMdl(mdl);
}

/* IoFreeMdl-09: above DISPATCH_LEVEL it stops as freeing nonpaged pool does, with the IRQL and the address. */
TEST_UNTIDY(io_free_mdl, free__above_dispatch_level__stops)
{
    uint64_t *const words = shared_words();
    const struct stop stop = expect_stop(free_above_dispatch_level, words, 0xC4, 0x12);

    EXPECT_EQ(stop.p[1], DISPATCH_LEVEL + 1);
    EXPECT_EQ(stop.p[3], words[0]);
}
