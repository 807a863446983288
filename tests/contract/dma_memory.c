/* SPDX-License-Identifier: MIT */
/* Common buffers, and memory as a device sees it: with and without an IOMMU in the way. */

#include "harness.h"
#include <wdm.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dma_support.h"

enum { SEED = 21 };

/* ---- Common buffers -------------------------------------------------------------------------------------------- */

static UCHAR *allocate(PDMA_ADAPTER adapter, ULONG bytes, PHYSICAL_ADDRESS *la)
{
    UCHAR *const va = adapter->DmaOperations->AllocateCommonBuffer(adapter, bytes, la, TRUE);

    EXPECT(va != NULL);
    return va;
}

static void expect_coherent(PDMA_ADAPTER adapter, UCHAR *va, uint64_t la, ULONG bytes)
{
    UCHAR *const seen = malloc(bytes);

    fill_pattern(va, bytes, SEED);
    EXPECT_STATUS(pinion_device_read(adapter, la, seen, bytes), STATUS_SUCCESS);
    EXPECT_PATTERN(seen, bytes, SEED);
    fill_pattern(seen, bytes, SEED + 1);
    EXPECT_STATUS(pinion_device_write(adapter, la, seen, bytes), STATUS_SUCCESS);
    EXPECT_PATTERN(va, bytes, SEED + 1);
    free(seen);
}

/* AllocateCommonBuffer-01, AllocateCommonBuffer-02, AllocateCommonBuffer-04, FreeCommonBuffer-01: both sides see each other's bytes at
   once, at any size and width. */
TEST(dma_memory, common_buffer__of_any_size_and_width__is_coherent_and_in_reach)
{
    static const ULONG sizes[] = {1, 100, PAGE_SIZE, PAGE_SIZE + 1, 300000};
    static const unsigned widths[] = {24, 32, 64};

    for (SIZE_T w = 0; w < 3; w++) {
        const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION1, widths[w], 65536);
        PVOID (*const routine)(PDMA_ADAPTER, ULONG, PPHYSICAL_ADDRESS, BOOLEAN) = adapter->DmaOperations->AllocateCommonBuffer;

        EXPECT(routine != NULL);
        for (SIZE_T i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
            PHYSICAL_ADDRESS la = {.QuadPart = -1};
            UCHAR *const va = allocate(adapter, sizes[i], &la);

            if (widths[w] < 64)
                EXPECT((uint64_t)la.QuadPart + sizes[i] <= 1ull << widths[w]);
            expect_coherent(adapter, va, (uint64_t)la.QuadPart, sizes[i]);
            adapter->DmaOperations->FreeCommonBuffer(adapter, sizes[i], la, va, TRUE);
        }
        put_adapter(adapter);
    }
}

/* AllocateCommonBuffer-02: the buffer is contiguous for the device. */
TEST(dma_memory, common_buffer__of_many_pages__is_contiguous)
{
    const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION1, 32, 65536);
    PHYSICAL_ADDRESS la;
    UCHAR *const va = allocate(adapter, 16 * PAGE_SIZE, &la);

    for (ULONG i = 0; i < 16 * PAGE_SIZE; i += PAGE_SIZE)
        EXPECT_EQ(MmGetPhysicalAddress(va + i).QuadPart, la.QuadPart + i);
    adapter->DmaOperations->FreeCommonBuffer(adapter, 16 * PAGE_SIZE, la, va, TRUE);
    put_adapter(adapter);
}

/* AllocateCommonBuffer-03: CacheEnabled makes no difference. */
TEST(dma_memory, common_buffer__cached_or_not__works_alike)
{
    const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION1, 32, 65536);

    for (int cached = FALSE; cached <= TRUE; cached++) {
        PHYSICAL_ADDRESS la;
        UCHAR *const va = adapter->DmaOperations->AllocateCommonBuffer(adapter, 5000, &la, (BOOLEAN)cached);

        EXPECT(va != NULL);
        expect_coherent(adapter, va, (uint64_t)la.QuadPart, 5000);
        adapter->DmaOperations->FreeCommonBuffer(adapter, 5000, la, va, (BOOLEAN)cached);
    }
    put_adapter(adapter);
}

/* AllocateCommonBuffer-02: what cannot be had is NULL: more than lies below 16 MiB, and a failure on demand. */
TEST(dma_memory, common_buffer__that_cannot_be_had__is_null)
{
    const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION1, 24, 65536);
    PHYSICAL_ADDRESS la = {.QuadPart = 77};

    EXPECT(adapter->DmaOperations->AllocateCommonBuffer(adapter, 16 << 20, &la, TRUE) == NULL);
    pinion_fail("AllocateCommonBuffer", 1);
    EXPECT(adapter->DmaOperations->AllocateCommonBuffer(adapter, 100, &la, TRUE) == NULL);
    EXPECT_EQ(la.QuadPart, 77);
    put_adapter(adapter);
}

/* AllocateCommonBuffer-02, FreeCommonBuffer-01: through an IOMMU too, and memory is not used up. */
TEST(dma_memory, common_buffer__remapped_a_thousand_times__is_coherent)
{
    PDMA_ADAPTER adapter;

    boot("dma=remapped");
    adapter = master(DEVICE_DESCRIPTION_VERSION1, 24, 65536);
    for (int i = 0; i < 1000; i++) {
        PHYSICAL_ADDRESS la;
        UCHAR *const va = allocate(adapter, 100000, &la);

        EXPECT((uint64_t)la.QuadPart + 100000 <= 1 << 24);
        EXPECT_NE(la.QuadPart, MmGetPhysicalAddress(va).QuadPart);
        if (i % 100 == 0)
            expect_coherent(adapter, va, (uint64_t)la.QuadPart, 100000);
        adapter->DmaOperations->FreeCommonBuffer(adapter, 100000, la, va, TRUE);
    }
    put_adapter(adapter);
}

/* ---- Faults ---------------------------------------------------------------------------------------------------- */

struct view {
    UCHAR *va;
    PMDL mdl;
    PDMA_ADAPTER adapter;
    PSCATTER_GATHER_LIST list;
    uint64_t la;
};

static struct view make_view(const char *options, unsigned width, BOOLEAN write)
{
    struct view view;

    boot(options);
    view.va = user_pattern(1, SEED);
    view.mdl = locked_mdl(view.va + 100, 1000);
    view.adapter = master(DEVICE_DESCRIPTION_VERSION1, width, 65536);
    view.list = get_list(view.adapter, view.mdl, 0, 1000, write);
    view.la = (uint64_t)view.list->Elements[0].Address.QuadPart;
    return view;
}

static void end_view(struct view *view, BOOLEAN write, bool put)
{
    if (!put)
        put_list(view->adapter, view->list, write);
    put_adapter(view->adapter);
    unlock_and_free(view->mdl);
    pinion_user_free(view->va);
}

/* An access after the put is a fault in a remapped machine, and moves nothing. */
WARN_TEST(dma_memory, device__that_writes_after_the_put_remapped__faults, "dma-fault")
{
    struct view view = make_view("dma=remapped", 32, FALSE);
    UCHAR byte = 0;

    put_list(view.adapter, view.list, FALSE);
    EXPECT_STATUS(pinion_device_write(view.adapter, view.la, &byte, 1), STATUS_ACCESS_VIOLATION);
    EXPECT_PATTERN(view.va, PAGE_SIZE, SEED);
    end_view(&view, FALSE, true);
}

/* Without an IOMMU the verifier knows what the list covered. */
WARN_TEST(dma_memory, device__that_writes_after_the_put__faults, "dma-fault")
{
    struct view view = make_view("dma=identity", 64, FALSE);
    UCHAR byte = 0;

    put_list(view.adapter, view.list, FALSE);
    EXPECT_STATUS(pinion_device_write(view.adapter, view.la + 999, &byte, 1), STATUS_ACCESS_VIOLATION);
    EXPECT_PATTERN(view.va, PAGE_SIZE, SEED);
    end_view(&view, FALSE, true);
}

static void write_after_put(void *context)
{
    uint64_t *const words = context;
    struct view view = make_view("dma=identity", 32, FALSE);
    UCHAR byte = 0;

    words[0] = (uintptr_t)view.list;
    put_list(view.adapter, view.list, FALSE);
    pinion_device_write(view.adapter, view.la, &byte, 1);
    end_view(&view, FALSE, true);
}

/* The report names the list that covered the address. */
TEST_UNTIDY(dma_memory, fault__after_the_put__names_the_list)
{
    uint64_t *const words = shared_words();
    const struct stop end = run_until_stop(write_after_put, words);
    char list[32];

    snprintf(list, sizeof(list), "list %p ", (void *)(uintptr_t)words[0]);
    EXPECT_EQ(end.exit_status, 0);
    EXPECT_EQ(stop_warnings(&end, "dma-fault"), 1);
    EXPECT(strstr(end.stderr_text, list) != NULL);
}

/* One byte beyond a list is a fault with the verifier on, and nothing of the access happens. */
WARN_TEST(dma_memory, device__that_writes_beyond_its_list_remapped__faults, "dma-fault")
{
    struct view view = make_view("dma=remapped", 32, FALSE);
    UCHAR bytes[1001] = {0};

    EXPECT_STATUS(pinion_device_write(view.adapter, view.la, bytes, 1001), STATUS_ACCESS_VIOLATION);
    EXPECT_PATTERN(view.va, PAGE_SIZE, SEED);
    EXPECT_STATUS(pinion_device_write(view.adapter, view.la, bytes, 1000), STATUS_SUCCESS);
    end_view(&view, FALSE, false);
}

/* A device may not write through a list that was made for reading from memory. */
WARN_TEST(dma_memory, device__that_writes_to_a_list_for_writing_remapped__faults, "dma-fault")
{
    struct view view = make_view("dma=remapped", 32, TRUE);
    UCHAR byte = 0;

    EXPECT_STATUS(pinion_device_write(view.adapter, view.la, &byte, 1), STATUS_ACCESS_VIOLATION);
    EXPECT_STATUS(pinion_device_read(view.adapter, view.la, &byte, 1), STATUS_SUCCESS);
    end_view(&view, TRUE, false);
}

/* Another device's mappings are not this device's. */
WARN_TEST(dma_memory, device__that_uses_anothers_list_remapped__faults, "dma-fault")
{
    struct view view = make_view("dma=remapped", 32, TRUE);
    const PDMA_ADAPTER other = master(DEVICE_DESCRIPTION_VERSION1, 32, 65536);
    UCHAR byte;

    EXPECT_STATUS(pinion_device_read(other, view.la, &byte, 1), STATUS_ACCESS_VIOLATION);
    put_adapter(other);
    end_view(&view, TRUE, false);
}

/* An address that no memory has. */
WARN_TEST(dma_memory, device__that_reads_where_nothing_is__faults, "dma-fault")
{
    const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION1, 64, 65536);
    UCHAR byte;

    EXPECT_STATUS(pinion_device_read(adapter, 0, &byte, 1), STATUS_ACCESS_VIOLATION);
    put_adapter(adapter);
}

/* Without an IOMMU, a device may touch any memory that it can address. */
SILENT_TEST(dma_memory, device__without_an_iommu__reaches_all_memory)
{
    const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION1, 64, 65536);
    UCHAR *const va = pool_pages(1);
    UCHAR seen[64];

    fill_pattern(va, 64, SEED);
    EXPECT_STATUS(pinion_device_read(adapter, (uint64_t)MmGetPhysicalAddress(va).QuadPart, seen, 64), STATUS_SUCCESS);
    EXPECT_PATTERN(seen, 64, SEED);
    put_adapter(adapter);
    ExFreePoolWithTag(va, TEST_TAG);
}

/* Common buffers may fill all the addresses that they can get: transfers do not wait for them. */
TEST(dma_memory, lists__beside_buffers_without_end__do_not_wait)
{
    enum { MOST = 4096 };
    static struct {
        PVOID va;
        PHYSICAL_ADDRESS la;
    } buffers[MOST];
    PDMA_ADAPTER adapter;
    ULONG n = 0;
    UCHAR *va;
    PMDL mdl;

    boot("dma=remapped");
    adapter = master(DEVICE_DESCRIPTION_VERSION1, 24, 65536);
    va = user_pattern(16, SEED);
    mdl = locked_mdl(va, 16 * PAGE_SIZE);
    while (n < MOST && (buffers[n].va = adapter->DmaOperations->AllocateCommonBuffer(adapter, 4 * PAGE_SIZE, &buffers[n].la, TRUE)) != NULL)
        n++;
    EXPECT(n > 100 && n < MOST);
    put_list(adapter, get_list(adapter, mdl, 0, 16 * PAGE_SIZE, TRUE), TRUE);
    while (n-- > 0)
        adapter->DmaOperations->FreeCommonBuffer(adapter, 4 * PAGE_SIZE, buffers[n].la, buffers[n].va, TRUE);
    put_adapter(adapter);
    unlock_and_free(mdl);
    pinion_user_free(va);
}

/* An IOMMU lets a narrow device reach everything: nothing is copied, and contiguous logical pages are one element. */
TEST(dma_memory, list__remapped__needs_no_copies)
{
    UCHAR *va;
    PMDL mdl;
    struct pinion_totals before, after;

    boot("dma=remapped");
    va = user_pattern(8, SEED);
    mdl = locked_mdl(va + 10, 7 * PAGE_SIZE);
    pinion_totals(&before);
    for (unsigned i = 0; i < 2; i++) {
        const PDMA_ADAPTER adapter = get_adapter(describe(DEVICE_DESCRIPTION_VERSION2, 24, i == 0, 65536));
        const PSCATTER_GATHER_LIST list = get_list(adapter, mdl, 0, 7 * PAGE_SIZE, TRUE);
        PMDL target = NULL;

        EXPECT_EQ(list->NumberOfElements, 1);
        EXPECT((uint64_t)list->Elements[0].Address.QuadPart + 7 * PAGE_SIZE <= 1 << 24);
        EXPECT_STATUS(adapter->DmaOperations->BuildMdlFromScatterGatherList(adapter, list, mdl, &target), STATUS_SUCCESS);
        EXPECT_PTR_EQ(target, mdl);
        put_list(adapter, list, TRUE);
        put_adapter(adapter);
    }
    pinion_totals(&after);
    EXPECT_EQ(after.bytes_bounced, before.bytes_bounced);
    unlock_and_free(mdl);
    pinion_user_free(va);
}
