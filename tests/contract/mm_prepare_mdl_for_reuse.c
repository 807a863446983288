/* SPDX-License-Identifier: MIT */
/*
 * MmPrepareMdlForReuse: the mapping that a partial MDL made for itself goes, everything else stays.
 */

#include "harness.h"
#include <wdm.h>

#include "io_stack.h"
#include "partial.h"

#include <string.h>

/* ---- A mapping of its own -------------------------------------------------------------------------------------- */

/* MmPrepareMdlForReuse-01, MmPrepareMdlForReuse-02, MmPrepareMdlForReuse-07: called by the type of its page, it
   releases the mapping that a partial MDL made, and the flags say so; the pages stay locked. */
SILENT_TEST(mm_prepare_mdl_for_reuse, prepare__part_with_its_own_mapping__releases_it)
{
    VOID (*const prepare)(PMDL) = &MmPrepareMdlForReuse;
    const struct pair pair = make_pair();
    const struct pinion_counters before = counters_now();

    EXPECT_PATTERN_AT(system_address(pair.part), PART_BYTES, SEED, PART_AT);
    EXPECT_EQ(counters_now().system_mappings, before.system_mappings + 1);
    EXPECT_EQ(counters_now().system_pages_mapped, before.system_pages_mapped + 4);
    EXPECT(pair.part->MdlFlags & MDL_PARTIAL_HAS_BEEN_MAPPED);

    prepare(pair.part);
    EXPECT_SAME_COUNTERS(before);
    EXPECT_EQ(pair.part->MdlFlags & (MDL_PARTIAL_HAS_BEEN_MAPPED | MDL_MAPPED_TO_SYSTEM_VA), 0);
    EXPECT_EQ(pinion_trim(), 0);
    release_pair(&pair);
}

/* MmPrepareMdlForReuse-02: afterwards the MDL is a target again, of another range, and is mapped anew when asked. */
SILENT_TEST(mm_prepare_mdl_for_reuse, prepare__again_and_again__the_part_is_a_target_each_time)
{
    const struct pair pair = make_pair();

    for (ULONG at = 0; at + PART_BYTES <= PAGES * PAGE_SIZE - 4000; at += 997) {
        UCHAR *const va = pair.va + at;

        IoBuildPartialMdl(pair.source, pair.part, va, PART_BYTES - PAGE_SIZE);
        EXPECT_PATTERN_AT(system_address(pair.part), PART_BYTES - PAGE_SIZE, SEED, at);
        EXPECT_EQ(counters_now().system_mappings, 1);
        MmPrepareMdlForReuse(pair.part);
        EXPECT_EQ(counters_now().system_mappings, 0);
    }
    release_pair(&pair);
}

/* MmPrepareMdlForReuse-02: without a new range the MDL still describes the old one, and may be mapped again. */
SILENT_TEST(mm_prepare_mdl_for_reuse, prepare__then_mapped_again__shows_the_same_bytes)
{
    const struct pair pair = make_pair();

    system_address(pair.part);
    MmPrepareMdlForReuse(pair.part);
    EXPECT_PTR_EQ(MmGetMdlVirtualAddress(pair.part), pair.va + PART_AT);
    EXPECT_EQ(MmGetMdlByteCount(pair.part), PART_BYTES);
    EXPECT_PATTERN_AT(system_address(pair.part), PART_BYTES, SEED, PART_AT);
    release_pair(&pair);
}

/* MmPrepareMdlForReuse-02: a second call in a row has nothing left to do. */
SILENT_TEST(mm_prepare_mdl_for_reuse, prepare__twice__is_legal)
{
    const struct pair pair = make_pair();

    system_address(pair.part);
    MmPrepareMdlForReuse(pair.part);
    MmPrepareMdlForReuse(pair.part);
    EXPECT_EQ(counters_now().system_mappings, 0);
    release_pair(&pair);
}

static void touch_after_prepare(void *context)
{
    volatile UCHAR **const address = context;
    const struct pair pair = make_pair();

    *address = system_address(pair.part) + 1;
    MmPrepareMdlForReuse(pair.part);
    **address = 0;
}

/* MmPrepareMdlForReuse-02: the address of the mapping is gone: writing there stops, and says that it was a write. */
TEST_UNTIDY(mm_prepare_mdl_for_reuse, prepare__address_used_afterwards__stops)
{
    uint64_t *const words = shared_words();
    const struct stop stop = run_until_stop(touch_after_prepare, words);

    EXPECT(stop.stopped);
    EXPECT_EQ(stop.code, 0x50);
    EXPECT_EQ(stop.p[0], words[0]);
    EXPECT_EQ(stop.p[1], 2);
}

/* MmPrepareMdlForReuse-02: without the verifier too the mapping goes and the MDL is a target again. */
TEST(mm_prepare_mdl_for_reuse, prepare__without_the_verifier__releases_the_mapping)
{
    boot("verifier=off");
    const struct pair pair = make_pair();
    const struct pinion_counters before = counters_now();

    EXPECT_PATTERN_AT(system_address(pair.part), PART_BYTES, SEED, PART_AT);
    MmPrepareMdlForReuse(pair.part);
    EXPECT_SAME_COUNTERS(before);
    EXPECT_EQ(pair.part->MdlFlags & (MDL_PARTIAL_HAS_BEEN_MAPPED | MDL_MAPPED_TO_SYSTEM_VA), 0);
    IoBuildPartialMdl(pair.source, pair.part, pair.va + 7, PAGE_SIZE);
    EXPECT_PATTERN_AT(system_address(pair.part), PAGE_SIZE, SEED, 7);
    release_pair(&pair);
}

/* ---- Nothing of its own ---------------------------------------------------------------------------------------- */

/* MmPrepareMdlForReuse-05: a part that was not mapped is left exactly as it is. */
SILENT_TEST(mm_prepare_mdl_for_reuse, prepare__part_not_mapped__changes_nothing)
{
    const struct pair pair = make_pair();
    const struct pinion_counters before = counters_now();
    const MDL part_before = *pair.part, source_before = *pair.source;

    MmPrepareMdlForReuse(pair.part);
    EXPECT_MEM_EQ(pair.part, &part_before, sizeof(MDL));
    EXPECT_MEM_EQ(pair.source, &source_before, sizeof(MDL));
    EXPECT_SAME_COUNTERS(before);
    EXPECT_EQ(counters_now().host_calls, before.host_calls);
    release_pair(&pair);
}

/* MmPrepareMdlForReuse-05: a part that shares its source's mapping releases nothing: the mapping goes on. */
SILENT_TEST(mm_prepare_mdl_for_reuse, prepare__part_that_shares_a_mapping__leaves_it)
{
    const struct pair pair = make_pair();
    UCHAR *const system = system_address(pair.source);

    IoBuildPartialMdl(pair.source, pair.part, pair.va + PART_AT, PART_BYTES);
    EXPECT_PTR_EQ(system_address(pair.part), system + PART_AT);
    const struct pinion_counters before = counters_now();
    MmPrepareMdlForReuse(pair.part);
    EXPECT_SAME_COUNTERS(before);
    EXPECT_EQ(counters_now().host_calls, before.host_calls);
    EXPECT_PATTERN(system, PAGES * PAGE_SIZE, SEED);
    EXPECT_PTR_EQ(system_address(pair.source), system);
    release_pair(&pair);
}

/* MmPrepareMdlForReuse-08: between MmUnlockPages and the next MmProbeAndLockPages of an MDL that serves one part of a
   buffer after the other, it does nothing. */
SILENT_TEST(mm_prepare_mdl_for_reuse, prepare__between_unlock_and_lock__does_nothing)
{
    UCHAR *const va = user_pattern(4, SEED);
    const PMDL mdl = mdl_over(va, PAGE_SIZE);

    for (SIZE_T page = 0; page < 4; page++) {
        MmInitializeMdl(mdl, va + page * PAGE_SIZE, PAGE_SIZE);
        EXPECT_STATUS(try_lock(mdl, UserMode, IoReadAccess), STATUS_SUCCESS);
        EXPECT_PATTERN_AT(system_address(mdl), PAGE_SIZE, SEED, page * PAGE_SIZE);
        MmUnlockPages(mdl);

        const MDL before = *mdl;
        const struct pinion_counters counters = counters_now();
        MmPrepareMdlForReuse(mdl);
        EXPECT_MEM_EQ(mdl, &before, sizeof(MDL));
        EXPECT_SAME_COUNTERS(counters);
    }
    IoFreeMdl(mdl);
    pinion_user_free(va);
}

/* MmPrepareMdlForReuse-08: an MDL that was never locked and one of nonpaged pool have no mapping to release either. */
SILENT_TEST(mm_prepare_mdl_for_reuse, prepare__fresh_or_nonpaged_mdl__does_nothing)
{
    UCHAR *const block = pool_pages(1);
    const PMDL fresh = mdl_over(NULL, PAGE_SIZE);
    const PMDL nonpaged = mdl_over(block, PAGE_SIZE);

    MmBuildMdlForNonPagedPool(nonpaged);
    const MDL fresh_before = *fresh, nonpaged_before = *nonpaged;
    MmPrepareMdlForReuse(fresh);
    MmPrepareMdlForReuse(nonpaged);
    EXPECT_MEM_EQ(fresh, &fresh_before, sizeof(MDL));
    EXPECT_MEM_EQ(nonpaged, &nonpaged_before, sizeof(MDL));
    EXPECT_PTR_EQ(system_address(nonpaged), block);
    IoFreeMdl(fresh);
    IoFreeMdl(nonpaged);
    ExFreePoolWithTag(block, TEST_TAG);
}

/* ---- No partial MDL -------------------------------------------------------------------------------------------- */

/* MmPrepareMdlForReuse-03, MmPrepareMdlForReuse-04: it is for partial MDLs; another MDL that is mapped keeps its
   mapping, which is then used as before, and the call is reported. */
WARN_TEST(mm_prepare_mdl_for_reuse, prepare__mapped_mdl_that_is_no_part__keeps_its_mapping_and_warns,
          "reuse-of-mapped-mdl")
{
    const struct pair pair = make_pair();
    UCHAR *const system = system_address(pair.source);
    const struct pinion_counters before = counters_now();
    const MDL source_before = *pair.source;

    MmPrepareMdlForReuse(pair.source);
    EXPECT_SAME_COUNTERS(before);
    EXPECT_MEM_EQ(pair.source, &source_before, sizeof(MDL));
    EXPECT_PATTERN(system, PAGES * PAGE_SIZE, SEED);
    EXPECT_PTR_EQ(system_address(pair.source), system);
    release_pair(&pair);
}

/* MmPrepareMdlForReuse-04: without the verifier the mapping stays as well. */
TEST(mm_prepare_mdl_for_reuse, prepare__mapped_mdl_that_is_no_part_without_the_verifier__keeps_its_mapping)
{
    boot("verifier=off");
    const struct pair pair = make_pair();
    UCHAR *const system = system_address(pair.source);
    const struct pinion_counters before = counters_now();
    const MDL source_before = *pair.source;

    MmPrepareMdlForReuse(pair.source);
    EXPECT_SAME_COUNTERS(before);
    EXPECT_MEM_EQ(pair.source, &source_before, sizeof(MDL));
    EXPECT_PATTERN(system, PAGES * PAGE_SIZE, SEED);
    release_pair(&pair);
}

/* ---- IRQL ------------------------------------------------------------------------------------------------------ */

/* MmPrepareMdlForReuse-06: it may be called at DISPATCH_LEVEL. */
SILENT_TEST(mm_prepare_mdl_for_reuse, prepare__dispatch_level__releases_the_mapping)
{
    const struct pair pair = make_pair();
    const KIRQL before = raise_irql(DISPATCH_LEVEL);

    EXPECT_PATTERN_AT(system_address(pair.part), PART_BYTES, SEED, PART_AT);
    MmPrepareMdlForReuse(pair.part);
    EXPECT_EQ(counters_now().system_mappings, 0);
    KeLowerIrql(before);
    release_pair(&pair);
}

static void prepare_above_dispatch_level(HARNESS_UNUSED void *context)
{
    const struct pair pair = make_pair();

    system_address(pair.part);
    raise_irql(DISPATCH_LEVEL + 1);
    MmPrepareMdlForReuse(pair.part);
    KeLowerIrql(PASSIVE_LEVEL);
    release_pair(&pair);
}

/* MmPrepareMdlForReuse-06: above DISPATCH_LEVEL it is reported, as the unmapping that it is or as a warning. */
TEST_UNTIDY(mm_prepare_mdl_for_reuse, prepare__above_dispatch_level__is_reported)
{
    const struct stop stop = run_until_stop(prepare_above_dispatch_level, NULL);

    if (stop.stopped) {
        EXPECT_EQ(stop.code, 0xC4);
        EXPECT_EQ(stop.p[0], 0x79);
        EXPECT_EQ(stop.p[1], DISPATCH_LEVEL + 1);
    } else {
        EXPECT_EQ(stop_warnings(&stop, "irql-too-high"), 1);
    }
}

/* ---- The MDL of a request -------------------------------------------------------------------------------------- */

static NTSTATUS complete_and_prepare(HARNESS_UNUSED struct layer *layer, PIRP irp)
{
    const PMDL mdl = irp->MdlAddress;

    layer_complete(irp, STATUS_SUCCESS, 0);
    MmPrepareMdlForReuse(mdl);
    return STATUS_SUCCESS;
}

/* The MDL of a request that was completed is not to be prepared for anything: what DDI_compliance_rules_for_MDLs-02 says
   of this routine. */
STOP_TEST_ANY_P1(mm_prepare_mdl_for_reuse, prepare__mdl_of_a_completed_request__stops, 0xCC)
{
    UCHAR *const buffer = user_pattern(1, SEED);
    struct pinion_request request = {.operation = PINION_READ, .buffer = buffer, .bytes = PAGE_SIZE};
    struct layer layer;
    PFILE_OBJECT file;

    layer_create(&layer, DO_DIRECT_IO, complete_and_prepare);
    EXPECT_STATUS(pinion_open(layer.device, &file), STATUS_SUCCESS);
    pinion_transfer(file, &request);
}

/* MmPrepareMdlForReuse-02: a driver may have shortened a partial MDL since it was mapped; what was mapped goes. */
SILENT_TEST(mm_prepare_mdl_for_reuse, call__shortened_since_it_was_mapped__whole_mapping_goes)
{
    UCHAR *const user = user_pattern(4, 4);
    const PMDL source = locked_mdl(user, 4 * PAGE_SIZE);
    const PMDL part = IoAllocateMdl(user, 4 * PAGE_SIZE, FALSE, FALSE, NULL);

    IoBuildPartialMdl(source, part, user, 3 * PAGE_SIZE);
    EXPECT(map_system(part) != NULL);
    part->ByteCount = PAGE_SIZE;
    MmPrepareMdlForReuse(part);
    EXPECT_EQ(counters_now().system_mappings, 0);
    EXPECT_EQ(counters_now().system_pages_mapped, 0);
    IoFreeMdl(part);
    unlock_and_free(source);
    pinion_user_free(user);
}
