/* SPDX-License-Identifier: MIT */
/* BuildMdlFromScatterGatherList: the MDL that shows what the device sees. */

#include "harness.h"
#include <wdm.h>

#include "dma_support.h"

enum { BYTES = 3 * PAGE_SIZE + 100, OFF = 700, SEED = 8 };

struct subject {
    UCHAR *va;
    PMDL mdl;
    PDMA_ADAPTER adapter;
    PSCATTER_GATHER_LIST list;
    BOOLEAN write;
};

static struct subject make(DEVICE_DESCRIPTION description, BOOLEAN write)
{
    struct subject subject = {.va = user_pattern(5, SEED), .write = write};

    subject.mdl = locked_mdl(subject.va + OFF, BYTES);
    subject.adapter = get_adapter(description);
    subject.list = get_list(subject.adapter, subject.mdl, 0, BYTES, write);
    return subject;
}

static struct subject make_by_width(unsigned width, BOOLEAN write)
{
    return make(describe(DEVICE_DESCRIPTION_VERSION2, width, TRUE, 65536), write);
}

static void end(struct subject *subject)
{
    put_list(subject->adapter, subject->list, subject->write);
    put_adapter(subject->adapter);
    unlock_and_free(subject->mdl);
    pinion_user_free(subject->va);
}

static NTSTATUS build(const struct subject *subject, PMDL *target)
{
    return subject->adapter->DmaOperations->BuildMdlFromScatterGatherList(subject->adapter, subject->list, subject->mdl, target);
}

/* ---- Where it is ----------------------------------------------------------------------------------------------- */

/* BuildMdlFromScatterGatherList-01, BuildMdlFromScatterGatherList-15, BuildMdlFromScatterGatherList-16: the member of a version 2 table has
   the type of its page. */
TEST(dma_build_mdl, member__of_a_version_2_table__has_the_documented_type)
{
    const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION2, 64, 65536);
    NTSTATUS (*const routine)(PDMA_ADAPTER, PSCATTER_GATHER_LIST, PMDL, PMDL *) =
        adapter->DmaOperations->BuildMdlFromScatterGatherList;

    EXPECT(routine != NULL);
    put_adapter(adapter);
}

/* ---- Nothing was copied ---------------------------------------------------------------------------------------- */

/* BuildMdlFromScatterGatherList-05, BuildMdlFromScatterGatherList-06, BuildMdlFromScatterGatherList-07, BuildMdlFromScatterGatherList-09,
   BuildMdlFromScatterGatherList-10: where the device reaches the pages, the target is the original. */
TEST(dma_build_mdl, build__of_a_list_without_copies__gives_the_original)
{
    struct subject subject = make_by_width(64, TRUE);
    const struct pinion_counters before = counters_now();
    PMDL target = NULL;

    EXPECT_STATUS(build(&subject, &target), STATUS_SUCCESS);
    EXPECT_PTR_EQ(target, subject.mdl);
    EXPECT_SAME_COUNTERS(before);
    end(&subject);
}

/* BuildMdlFromScatterGatherList-13, BuildMdlFromScatterGatherList-14: no new MDL was created, so a second call succeeds too. */
TEST(dma_build_mdl, build__twice_without_copies__gives_the_original_twice)
{
    struct subject subject = make_by_width(64, FALSE);

    for (int i = 0; i < 3; i++) {
        PMDL target = NULL;

        EXPECT_STATUS(build(&subject, &target), STATUS_SUCCESS);
        EXPECT_PTR_EQ(target, subject.mdl);
    }
    end(&subject);
}

/* ---- Something was copied -------------------------------------------------------------------------------------- */

/* The MDL covers the list's elements, in order and exactly. */
static void expect_covers(PMDL mdl, const SCATTER_GATHER_LIST *list)
{
    ULONG element = 0, done = 0;

    for (; mdl != NULL; mdl = mdl->Next) {
        ULONG at = MmGetMdlByteOffset(mdl);
        const ULONG last = at + MmGetMdlByteCount(mdl);

        while (at < last) {
            const uint64_t address = (MmGetMdlPfnArray(mdl)[at >> PAGE_SHIFT] << PAGE_SHIFT) + at % PAGE_SIZE;

            EXPECT(element < list->NumberOfElements);
            EXPECT_EQ(address, (uint64_t)list->Elements[element].Address.QuadPart + done);
            at++;
            if (++done == list->Elements[element].Length) {
                element++;
                done = 0;
            }
        }
    }
    EXPECT_EQ(element, list->NumberOfElements);
    EXPECT_EQ(done, 0);
}

/* BuildMdlFromScatterGatherList-03, BuildMdlFromScatterGatherList-08, BuildMdlFromScatterGatherList-18: a new MDL describes exactly what
   the elements do. */
TEST(dma_build_mdl, build__of_a_list_with_copies__describes_the_elements)
{
    for (unsigned i = 0; i < 4; i++) {
        struct subject subject = make(describe(DEVICE_DESCRIPTION_VERSION2, i / 2 == 0 ? 32 : 24, i % 2 == 0, 65536), TRUE);
        PMDL target = NULL;

        EXPECT_STATUS(build(&subject, &target), STATUS_SUCCESS);
        EXPECT(target != NULL && target != subject.mdl);
        expect_covers(target, subject.list);
        for (ULONG p = 0; p < 4; p++)
            EXPECT_NE(MmGetMdlPfnArray(target)[p], MmGetMdlPfnArray(subject.mdl)[p]);
        end(&subject);
    }
}

/* BuildMdlFromScatterGatherList-19: mapped, the new MDL shows the bytes that the device will read. */
TEST(dma_build_mdl, target__mapped__shows_what_the_device_reads)
{
    struct subject subject = make_by_width(32, TRUE);
    PMDL target = NULL;
    UCHAR seen[100];
    UCHAR *copy;

    EXPECT_STATUS(build(&subject, &target), STATUS_SUCCESS);
    copy = system_address(target);
    EXPECT(copy != subject.va + OFF);
    EXPECT_PATTERN_AT(copy, BYTES, SEED, OFF);
    fill_pattern(copy, 100, SEED + 1);
    EXPECT_STATUS(pinion_device_read(subject.adapter, (uint64_t)subject.list->Elements[0].Address.QuadPart, seen, 100), STATUS_SUCCESS);
    EXPECT_PATTERN(seen, 100, SEED + 1);
    EXPECT_PATTERN(subject.va, 5 * PAGE_SIZE, SEED);
    MmUnmapLockedPages(copy, target);
    end(&subject);
}

/* BuildMdlFromScatterGatherList-19: for a read, it shows what the device has written, before the buffer does. */
TEST(dma_build_mdl, target__of_a_read__shows_what_the_device_wrote)
{
    struct subject subject = make_by_width(32, FALSE);
    static UCHAR sent[BYTES];
    PMDL target = NULL;
    UCHAR *copy;

    EXPECT_STATUS(build(&subject, &target), STATUS_SUCCESS);
    copy = system_address(target);
    fill_pattern(sent, BYTES, SEED + 1);
    device_writes(subject.adapter, subject.list, sent);
    EXPECT_PATTERN(copy, BYTES, SEED + 1);
    EXPECT_PATTERN(subject.va, 5 * PAGE_SIZE, SEED);
    MmUnmapLockedPages(copy, target);
    put_list(subject.adapter, subject.list, FALSE);
    EXPECT_PATTERN(subject.va + OFF, BYTES, SEED + 1);
    put_adapter(subject.adapter);
    unlock_and_free(subject.mdl);
    pinion_user_free(subject.va);
}

/* BuildMdlFromScatterGatherList-13, BuildMdlFromScatterGatherList-14: the second call on a list with copies is STATUS_NONE_MAPPED and
   changes nothing. */
TEST(dma_build_mdl, build__twice_with_copies__is_none_mapped)
{
    struct subject subject = make_by_width(32, TRUE);
    PMDL target = NULL, second = (PMDL)&subject;

    EXPECT_STATUS(build(&subject, &target), STATUS_SUCCESS);
    for (int i = 0; i < 2; i++) {
        EXPECT_STATUS(build(&subject, &second), STATUS_NONE_MAPPED);
        EXPECT_PTR_EQ(second, &subject);
    }
    end(&subject);
}

/* BuildMdlFromScatterGatherList-22, PutScatterGatherList-01: the put frees the new MDL, and a mapping of it that was left. */
TEST(dma_build_mdl, put__of_a_list_with_a_target__frees_and_unmaps_it)
{
    const struct pinion_counters before = counters_now();
    struct subject subject = make_by_width(32, TRUE);
    PMDL target = NULL;

    EXPECT_STATUS(build(&subject, &target), STATUS_SUCCESS);
    system_address(target);
    EXPECT_EQ(counters_now().live_mdls, before.live_mdls + 2);
    EXPECT_EQ(counters_now().system_mappings, before.system_mappings + 1);
    end(&subject);
    EXPECT_SAME_COUNTERS(before);
}

/* BuildMdlFromScatterGatherList-03, BuildMdlFromScatterGatherList-09: a chain and a part of it; the target describes the list's bytes, no more. */
TEST(dma_build_mdl, build__over_a_part_of_a_chain__describes_that_part)
{
    UCHAR *const first = user_pattern(3, 1), *const second = user_pattern(3, 2);
    const PMDL mdl = locked_mdl(first + 30, 2 * PAGE_SIZE), next = locked_mdl(second + 4000, PAGE_SIZE);

    mdl->Next = next;
    for (unsigned i = 0; i < 2; i++) {
        const PDMA_ADAPTER adapter = get_adapter(describe(DEVICE_DESCRIPTION_VERSION2, 32, i == 0, 65536));
        const PSCATTER_GATHER_LIST list = get_list(adapter, mdl, 5000, 2 * PAGE_SIZE + PAGE_SIZE - 5000 - 10, TRUE);
        PMDL target = NULL;
        UCHAR *view;

        EXPECT_STATUS(adapter->DmaOperations->BuildMdlFromScatterGatherList(adapter, list, mdl, &target), STATUS_SUCCESS);
        expect_covers(target, list);
        view = system_address(target);
        EXPECT_PATTERN_AT(view, 2 * PAGE_SIZE - 5000, 1, 5030);
        put_list(adapter, list, TRUE);
        put_adapter(adapter);
    }
    mdl->Next = NULL;
    unlock_and_free(mdl);
    unlock_and_free(next);
    pinion_user_free(first);
    pinion_user_free(second);
}

/* ---- Refusals -------------------------------------------------------------------------------------------------- */

/* BuildMdlFromScatterGatherList-11: no original MDL. */
TEST(dma_build_mdl, build__without_an_original__is_an_invalid_parameter)
{
    for (unsigned width = 32; width <= 64; width += 32) {
        struct subject subject = make_by_width(width, TRUE);
        PMDL target = (PMDL)&subject;

        EXPECT_STATUS(subject.adapter->DmaOperations->BuildMdlFromScatterGatherList(subject.adapter, subject.list, NULL, &target),
                      STATUS_INVALID_PARAMETER);
        EXPECT_PTR_EQ(target, &subject);
        end(&subject);
    }
}

/* BuildMdlFromScatterGatherList-12, BuildMdlFromScatterGatherList-14: no memory for a new MDL; the next call succeeds. */
TEST(dma_build_mdl, build__without_memory__is_insufficient_resources)
{
    struct subject subject = make_by_width(32, TRUE);
    const struct pinion_counters before = counters_now();
    PMDL target = (PMDL)&subject;

    pinion_fail("BuildMdlFromScatterGatherList", 1);
    EXPECT_STATUS(build(&subject, &target), STATUS_INSUFFICIENT_RESOURCES);
    EXPECT_PTR_EQ(target, &subject);
    EXPECT_SAME_COUNTERS(before);
    EXPECT_STATUS(build(&subject, &target), STATUS_SUCCESS);
    expect_covers(target, subject.list);
    end(&subject);
}

/* BuildMdlFromScatterGatherList-21: it may be called at DISPATCH_LEVEL, and inside the AdapterListControl routine. */
static void build_inside(PDEVICE_OBJECT DeviceObject, PIRP Irp, PSCATTER_GATHER_LIST ScatterGather, PVOID Context)
{
    struct subject *const subject = Context;
    PMDL target = NULL;

    UNREFERENCED_PARAMETER(DeviceObject);
    UNREFERENCED_PARAMETER(Irp);
    subject->list = ScatterGather;
    EXPECT_EQ(KeGetCurrentIrql(), DISPATCH_LEVEL);
    EXPECT_STATUS(build(subject, &target), STATUS_SUCCESS);
    EXPECT_PATTERN_AT(system_address(target), BYTES, SEED, OFF);
}

TEST(dma_build_mdl, build__at_dispatch_level_inside_the_routine__works)
{
    struct subject subject = {.va = user_pattern(5, SEED), .write = TRUE};
    KIRQL irql;

    subject.mdl = locked_mdl(subject.va + OFF, BYTES);
    subject.adapter = master(DEVICE_DESCRIPTION_VERSION2, 32, 65536);
    irql = raise_irql(DISPATCH_LEVEL);
    EXPECT_STATUS(subject.adapter->DmaOperations->GetScatterGatherList(subject.adapter, NULL, subject.mdl, subject.va + OFF, BYTES,
                                                                       build_inside, &subject, TRUE), STATUS_SUCCESS);
    KeLowerIrql(irql);
    end(&subject);
}
