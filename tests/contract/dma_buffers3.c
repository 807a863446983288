/* SPDX-License-Identifier: MIT */
/* Common buffers of version 3 - with bounds, in vectors, over MDLs - and the domains that adapters share. */

#include "harness.h"
#include <wdm.h>

#include "dma_support.h"

enum { SEED = 31 };

/* ---- Common buffers -------------------------------------------------------------------------------------------- */

static void expect_shared(PDMA_ADAPTER adapter, UCHAR *va, uint64_t la, ULONG bytes)
{
    UCHAR byte;

    va[0] = 17;
    va[bytes - 1] = 18;
    EXPECT_STATUS(pinion_device_read(adapter, la + bytes - 1, &byte, 1), STATUS_SUCCESS);
    EXPECT_EQ(byte, 18);
    byte = 19;
    EXPECT_STATUS(pinion_device_write(adapter, la, &byte, 1), STATUS_SUCCESS);
    EXPECT_EQ(va[0], 19);
}

/* AllocateCommonBufferEx-01: below the maximum. */
TEST(dma_buffers3, buffer_ex__with_a_maximum__lies_below_it)
{
    const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION3, 64, 65536);
    PHYSICAL_ADDRESS maximum = {.QuadPart = 1 << 23}, la;
    UCHAR *const va = adapter->DmaOperations->AllocateCommonBufferEx(adapter, &maximum, 50000, &la, FALSE, 0);

    EXPECT(va != NULL);
    EXPECT(la.QuadPart + 50000 <= maximum.QuadPart);
    expect_shared(adapter, va, (uint64_t)la.QuadPart, 50000);
    adapter->DmaOperations->FreeCommonBuffer(adapter, 50000, la, va, FALSE);
    EXPECT(adapter->DmaOperations->AllocateCommonBufferEx(adapter, &maximum, 1 << 23, &la, TRUE, 0) == NULL);
    put_adapter(adapter);
}

/* AllocateCommonBufferEx-01, AllocateCommonBufferWithBounds-01: a maximum is one, however low; 0 is no absence of it. */
TEST(dma_buffers3, buffer__with_a_maximum_in_the_first_page__is_refused)
{
    static const LONGLONG maxima[] = {0, 1, 100, PAGE_SIZE - 1, PAGE_SIZE};
    const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION3, 64, 65536);
    const DMA_OPERATIONS *const operations = adapter->DmaOperations;

    for (SIZE_T i = 0; i < sizeof(maxima) / sizeof(maxima[0]); i++) {
        PHYSICAL_ADDRESS maximum = {.QuadPart = maxima[i]}, low = {.QuadPart = 0}, la;
        PDMA_COMMON_BUFFER_VECTOR vector;

        EXPECT(operations->AllocateCommonBufferEx(adapter, &maximum, 100, &la, TRUE, 0) == NULL);
        EXPECT(operations->AllocateCommonBufferWithBounds(adapter, NULL, &maximum, 100, 0, NULL, 0, &la) == NULL);
        EXPECT_STATUS(operations->AllocateCommonBufferVector(adapter, low, maximum, MmCached, 0, 0, 1, 100, &vector),
                      STATUS_INSUFFICIENT_RESOURCES);
    }
    put_adapter(adapter);
}

/* AllocateCommonBufferEx-01, AllocateCommonBufferWithBounds-01: from the node that is preferred, or from another one if the bounds demand it. */
TEST(dma_buffers3, buffer__with_a_node__lies_there_where_it_can)
{
    static const LONGLONG line = 1ll << 32;
    const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION3, 64, 65536);
    const DMA_OPERATIONS *const operations = adapter->DmaOperations;
    PHYSICAL_ADDRESS minimum = {.QuadPart = line}, maximum = {.QuadPart = line}, la;

    for (ULONG node = 0; node < 3; node++) {
        PVOID va = operations->AllocateCommonBufferEx(adapter, NULL, 5000, &la, TRUE, node);

        EXPECT(va != NULL && (node > 1 || (la.QuadPart >= line) == (node == 1)));
        operations->FreeCommonBuffer(adapter, 5000, la, va, TRUE);
        va = operations->AllocateCommonBufferWithBounds(adapter, &minimum, NULL, 5000, 0, NULL, node, &la);
        EXPECT(va != NULL && la.QuadPart >= line);
        operations->FreeCommonBuffer(adapter, 5000, la, va, TRUE);
        va = operations->AllocateCommonBufferWithBounds(adapter, NULL, &maximum, 5000, 0, NULL, node, &la);
        EXPECT(va != NULL && la.QuadPart + 5000 <= line);
        operations->FreeCommonBuffer(adapter, 5000, la, va, TRUE);
    }
    put_adapter(adapter);
}

/* AllocateCommonBufferWithBounds-01, FreeCommonBuffer-01: whose caching was left to the platform is freed with either answer. */
TEST(dma_buffers3, buffer__with_the_platforms_caching__is_freed_either_way)
{
    const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION3, 64, 65536);

    for (BOOLEAN cached = FALSE; cached <= TRUE; cached++) {
        PHYSICAL_ADDRESS la;
        const PVOID va = adapter->DmaOperations->AllocateCommonBufferWithBounds(adapter, NULL, NULL, 100, 0, NULL, 0, &la);

        EXPECT(va != NULL);
        adapter->DmaOperations->FreeCommonBuffer(adapter, 100, la, va, cached);
    }
    put_adapter(adapter);
}

/* AllocateCommonBufferWithBounds-01: between its bounds, large pages aligned, and only two ways of caching. */
TEST(dma_buffers3, buffer_with_bounds__lies_between_them)
{
    const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION3, 64, 65536);
    PHYSICAL_ADDRESS minimum = {.QuadPart = 0x12345678}, maximum = {.QuadPart = 0x16000000}, la;
    MEMORY_CACHING_TYPE cache = MmNonCached, wrong = MmWriteCombined;
    const PALLOCATE_COMMON_BUFFER_WITH_BOUNDS bounded = adapter->DmaOperations->AllocateCommonBufferWithBounds;
    UCHAR *va = bounded(adapter, &minimum, &maximum, 10000, 0, &cache, 0, &la);

    EXPECT(va != NULL);
    EXPECT(la.QuadPart >= minimum.QuadPart && la.QuadPart + 10000 <= maximum.QuadPart);
    expect_shared(adapter, va, (uint64_t)la.QuadPart, 10000);
    adapter->DmaOperations->FreeCommonBuffer(adapter, 10000, la, va, FALSE);
    va = bounded(adapter, NULL, NULL, 10000, DOMAIN_COMMON_BUFFER_LARGE_PAGE, NULL, 0, &la);
    EXPECT(va != NULL);
    EXPECT_EQ(la.QuadPart % (512 * PAGE_SIZE), 0);
    adapter->DmaOperations->FreeCommonBuffer(adapter, 10000, la, va, TRUE);
    EXPECT(bounded(adapter, NULL, NULL, 100, 0, &wrong, 0, &la) == NULL);
    EXPECT(bounded(adapter, &maximum, &minimum, 100, 0, NULL, 0, &la) == NULL);
    put_adapter(adapter);
}

/* AllocateCommonBufferWithBounds-01: a large page is one for the device too, where an IOMMU stands between. */
TEST(dma_buffers3, buffer_with_bounds__large_and_remapped__is_aligned_for_the_device)
{
    PDMA_ADAPTER adapter;

    boot("dma=remapped");
    adapter = master(DEVICE_DESCRIPTION_VERSION3, 32, 65536);
    for (int i = 0; i < 300; i++) {
        PHYSICAL_ADDRESS la;
        const PVOID va = adapter->DmaOperations->AllocateCommonBufferWithBounds(adapter, NULL, NULL, 5 << 20,
                                                                               DOMAIN_COMMON_BUFFER_LARGE_PAGE, NULL, 0, &la);

        EXPECT(va != NULL);
        EXPECT_EQ(la.QuadPart % (512 * PAGE_SIZE), 0);
        expect_shared(adapter, va, (uint64_t)la.QuadPart, 5 << 20);
        adapter->DmaOperations->FreeCommonBuffer(adapter, 5 << 20, la, va, TRUE);
    }
    put_adapter(adapter);
}

/* FlushDmaBuffer-01: device and processor see the same memory, so it succeeds either way. */
TEST(dma_buffers3, flush_dma_buffer__either_way__succeeds)
{
    const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION3, 64, 65536);
    UCHAR *const va = user_pattern(1, SEED);
    const PMDL mdl = locked_mdl(va, PAGE_SIZE);

    EXPECT_STATUS(adapter->DmaOperations->FlushDmaBuffer(adapter, mdl, TRUE), STATUS_SUCCESS);
    EXPECT_STATUS(adapter->DmaOperations->FlushDmaBuffer(adapter, mdl, FALSE), STATUS_SUCCESS);
    put_adapter(adapter);
    unlock_and_free(mdl);
    pinion_user_free(va);
}

static PDMA_COMMON_BUFFER_VECTOR make_vector(PDMA_ADAPTER adapter, ULONG count)
{
    const PHYSICAL_ADDRESS low = {.QuadPart = 0}, high = {.QuadPart = 0xFFFFFFFF};
    PDMA_COMMON_BUFFER_VECTOR vector = NULL;

    EXPECT_STATUS(adapter->DmaOperations->AllocateCommonBufferVector(adapter, low, high, MmCached, 0, 0, count, 5000, &vector),
                  STATUS_SUCCESS);
    return vector;
}

/* DMA_OPERATIONS-05, DMA_common_buffer_vector-01: each entry is a buffer of its own, freed by itself before the vector. */
TEST(dma_buffers3, vector__of_buffers__gives_each_by_index)
{
    const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION3, 64, 65536);
    const PDMA_COMMON_BUFFER_VECTOR vector = make_vector(adapter, 10);

    for (ULONG i = 0; i < 10; i++) {
        PHYSICAL_ADDRESS la;
        PVOID va;

        adapter->DmaOperations->GetCommonBufferFromVectorByIndex(adapter, vector, i, &va, &la);
        expect_shared(adapter, va, (uint64_t)la.QuadPart, 5000);
        adapter->DmaOperations->FreeCommonBufferFromVector(adapter, vector, i);
    }
    adapter->DmaOperations->FreeCommonBufferVector(adapter, vector);
    put_adapter(adapter);
}

/* DMA_common_buffer_vector-01: an index outside. */
STOP_TEST(dma_buffers3, vector__index_out_of_bounds__stops, DMA_COMMON_BUFFER_VECTOR_ERROR, 3)
{
    const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION3, 64, 65536);

    adapter->DmaOperations->FreeCommonBufferFromVector(adapter, make_vector(adapter, 4), 4);
}

/* DMA_common_buffer_vector-01: an entry that was freed. */
STOP_TEST(dma_buffers3, vector__index_freed_twice__stops, DMA_COMMON_BUFFER_VECTOR_ERROR, 4)
{
    const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION3, 64, 65536);
    const PDMA_COMMON_BUFFER_VECTOR vector = make_vector(adapter, 4);

    adapter->DmaOperations->FreeCommonBufferFromVector(adapter, vector, 2);
    adapter->DmaOperations->FreeCommonBufferFromVector(adapter, vector, 2);
}

/* DMA_common_buffer_vector-01: a vector that is not empty. */
STOP_TEST(dma_buffers3, vector__freed_with_entries__stops, DMA_COMMON_BUFFER_VECTOR_ERROR, 2)
{
    const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION3, 64, 65536);

    adapter->DmaOperations->FreeCommonBufferVector(adapter, make_vector(adapter, 4));
}

/* DMA_common_buffer_vector-01: at the wrong IRQL. */
STOP_TEST(dma_buffers3, vector__freed_at_dispatch_level__stops, DMA_COMMON_BUFFER_VECTOR_ERROR, 1)
{
    const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION3, 64, 65536);
    const PDMA_COMMON_BUFFER_VECTOR vector = make_vector(adapter, 1);

    raise_irql(DISPATCH_LEVEL);
    adapter->DmaOperations->FreeCommonBufferFromVector(adapter, vector, 0);
}

/* ---- Over an MDL ----------------------------------------------------------------------------------------------- */

static NTSTATUS create(PDMA_ADAPTER adapter, PMDL mdl, PDMA_COMMON_BUFFER_EXTENDED_CONFIGURATION configs, ULONG count, PHYSICAL_ADDRESS *la)
{
    return adapter->DmaOperations->CreateCommonBufferFromMdl(adapter, mdl, configs, count, la);
}

/* CreateCommonBufferFromMdl-01, CreateCommonBufferFromMdl-05: contiguous nonpaged memory becomes a buffer, and stays the driver's. */
TEST(dma_buffers3, from_mdl__of_contiguous_memory__is_shared_and_stays_the_drivers)
{
    const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION3, 32, 65536);
    const PHYSICAL_ADDRESS below = {.QuadPart = 0xFFFFFFFF};
    UCHAR *const va = MmAllocateContiguousMemory(4 * PAGE_SIZE, below);
    const PMDL mdl = mdl_over(va, 4 * PAGE_SIZE);
    DMA_COMMON_BUFFER_EXTENDED_CONFIGURATION part = {.ConfigType = CommonBufferConfigTypeSubSection};
    PHYSICAL_ADDRESS la;

    MmBuildMdlForNonPagedPool(mdl);
    EXPECT_STATUS(create(adapter, mdl, NULL, 0, &la), STATUS_SUCCESS);
    EXPECT_EQ(la.QuadPart, MmGetPhysicalAddress(va).QuadPart);
    expect_shared(adapter, va, (uint64_t)la.QuadPart, 4 * PAGE_SIZE);
    adapter->DmaOperations->FreeCommonBuffer(adapter, 4 * PAGE_SIZE, la, va, TRUE);
    part.SubSection.Offset = PAGE_SIZE;
    part.SubSection.Length = 2 * PAGE_SIZE;
    EXPECT_STATUS(create(adapter, mdl, &part, 1, &la), STATUS_SUCCESS);
    EXPECT_EQ(la.QuadPart, MmGetPhysicalAddress(va + PAGE_SIZE).QuadPart);
    adapter->DmaOperations->FreeCommonBuffer(adapter, 2 * PAGE_SIZE, la, va + PAGE_SIZE, TRUE);
    fill_pattern(va, 4 * PAGE_SIZE, SEED);
    EXPECT_PATTERN(va, 4 * PAGE_SIZE, SEED);
    IoFreeMdl(mdl);
    MmFreeContiguousMemory(va);
    put_adapter(adapter);
}

/* CreateCommonBufferFromMdl-01, CreateCommonBufferFromMdl-02, CreateCommonBufferFromMdl-03: unmapped, unaligned, chained or scattered MDLs
   are refused. */
TEST(dma_buffers3, from_mdl__of_what_does_not_fit__is_refused)
{
    boot("layout=scattered");
    const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION3, 64, 65536);
    UCHAR *const va = user_pattern(4, SEED);
    const PMDL scattered = locked_mdl(va, 2 * PAGE_SIZE), one = locked_mdl(va + 2 * PAGE_SIZE, PAGE_SIZE),
               odd = locked_mdl(va + 3 * PAGE_SIZE, 100);
    PHYSICAL_ADDRESS la = {.QuadPart = 5};

    EXPECT_STATUS(create(adapter, one, NULL, 0, &la), STATUS_INVALID_PARAMETER);
    system_address(one);
    system_address(odd);
    system_address(scattered);
    EXPECT_STATUS(create(adapter, odd, NULL, 0, &la), STATUS_INVALID_PARAMETER);
    EXPECT_STATUS(create(adapter, scattered, NULL, 0, &la), STATUS_INVALID_PARAMETER);
    one->Next = odd;
    EXPECT_STATUS(create(adapter, one, NULL, 0, &la), STATUS_INVALID_PARAMETER);
    one->Next = NULL;
    EXPECT_EQ(la.QuadPart, 5);
    EXPECT_STATUS(create(adapter, one, NULL, 0, &la), STATUS_SUCCESS);
    adapter->DmaOperations->FreeCommonBuffer(adapter, PAGE_SIZE, la, one->MappedSystemVa, TRUE);
    unlock_and_free(scattered);
    unlock_and_free(one);
    unlock_and_free(odd);
    pinion_user_free(va);
    put_adapter(adapter);
}

/* CreateCommonBufferFromMdl-02, CreateCommonBufferFromMdl-04: a part of no bytes is none, wherever it is said to begin. */
TEST(dma_buffers3, from_mdl__of_a_part_of_no_bytes__is_refused)
{
    const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION3, 64, 65536);
    const PHYSICAL_ADDRESS any = {.QuadPart = -1};
    UCHAR *const va = MmAllocateContiguousMemory(2 * PAGE_SIZE, any);
    const PMDL mdl = mdl_over(va, 2 * PAGE_SIZE);
    DMA_COMMON_BUFFER_EXTENDED_CONFIGURATION config = {.ConfigType = CommonBufferConfigTypeSubSection};
    PHYSICAL_ADDRESS la;

    MmBuildMdlForNonPagedPool(mdl);
    for (ULONG off = 0; off <= 2 * PAGE_SIZE; off += PAGE_SIZE) {
        config.SubSection.Offset = off;
        EXPECT_STATUS(create(adapter, mdl, &config, 1, &la), STATUS_INVALID_PARAMETER);
    }
    IoFreeMdl(mdl);
    MmFreeContiguousMemory(va);
    put_adapter(adapter);
}

/* CreateCommonBufferFromMdl-04: the same configuration twice, one that needs an IOMMU, one that nobody knows. */
TEST(dma_buffers3, from_mdl__with_wrong_configurations__is_refused)
{
    const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION3, 64, 65536);
    UCHAR *const va = user_pattern(1, SEED);
    const PMDL mdl = locked_mdl(va, PAGE_SIZE);
    DMA_COMMON_BUFFER_EXTENDED_CONFIGURATION configs[2] = {{.ConfigType = CommonBufferConfigTypeHardwareAccessPermissions}};
    PHYSICAL_ADDRESS la;

    system_address(mdl);
    configs[0].HardwareAccessType = CommonBufferHardwareAccessReadWrite;
    configs[1] = configs[0];
    EXPECT_STATUS(create(adapter, mdl, configs, 2, &la), STATUS_INVALID_PARAMETER);
    configs[0].HardwareAccessType = CommonBufferHardwareAccessReadOnly;
    EXPECT_STATUS(create(adapter, mdl, configs, 1, &la), STATUS_NOT_SUPPORTED);
    configs[0].ConfigType = CommonBufferConfigTypeMax;
    EXPECT_STATUS(create(adapter, mdl, configs, 1, &la), STATUS_NOT_SUPPORTED);
    unlock_and_free(mdl);
    pinion_user_free(va);
    put_adapter(adapter);
}

/* CreateCommonBufferFromMdl-03: an IOMMU makes scattered pages contiguous, and keeps a device from writing if asked. */
WARN_TEST(dma_buffers3, from_mdl__remapped_and_read_only__takes_scattered_pages, "dma-fault")
{
    DMA_COMMON_BUFFER_EXTENDED_CONFIGURATION config = {.ConfigType = CommonBufferConfigTypeHardwareAccessPermissions};
    PDMA_ADAPTER adapter;
    PHYSICAL_ADDRESS la;
    static UCHAR seen[3 * PAGE_SIZE];
    UCHAR *va;
    PMDL mdl;

    boot("dma=remapped");
    adapter = master(DEVICE_DESCRIPTION_VERSION3, 32, 65536);
    va = user_pattern(3, SEED);
    mdl = locked_mdl(va, 3 * PAGE_SIZE);
    system_address(mdl);
    config.HardwareAccessType = CommonBufferHardwareAccessReadOnly;
    EXPECT_STATUS(create(adapter, mdl, &config, 1, &la), STATUS_SUCCESS);
    EXPECT_STATUS(pinion_device_read(adapter, (uint64_t)la.QuadPart, seen, sizeof(seen)), STATUS_SUCCESS);
    EXPECT_PATTERN(seen, sizeof(seen), SEED);
    EXPECT_STATUS(pinion_device_write(adapter, (uint64_t)la.QuadPart, seen, 1), STATUS_ACCESS_VIOLATION);
    adapter->DmaOperations->FreeCommonBuffer(adapter, 3 * PAGE_SIZE, la, mdl->MappedSystemVa, TRUE);
    unlock_and_free(mdl);
    pinion_user_free(va);
    put_adapter(adapter);
}

/* ---- Domains --------------------------------------------------------------------------------------------------- */

/* DMA_OPERATIONS-05: adapters that share a domain see each other's buffers; after leaving they do not. */
WARN_TEST(dma_buffers3, domain__joined_and_left__is_shared_meanwhile, "dma-fault")
{
    PDMA_ADAPTER first, second;
    PHYSICAL_ADDRESS la;
    UCHAR byte;
    PVOID va;

    boot("dma=remapped");
    first = master(DEVICE_DESCRIPTION_VERSION3, 32, 65536);
    second = master(DEVICE_DESCRIPTION_VERSION3, 32, 65536);
    EXPECT(first->DmaOperations->GetDmaDomain(first) != second->DmaOperations->GetDmaDomain(second));
    EXPECT_STATUS(second->DmaOperations->JoinDmaDomain(second, first->DmaOperations->GetDmaDomain(first)), STATUS_SUCCESS);
    EXPECT_PTR_EQ(first->DmaOperations->GetDmaDomain(first), second->DmaOperations->GetDmaDomain(second));
    EXPECT_STATUS(first->DmaOperations->AllocateDomainCommonBuffer(first, first->DmaOperations->GetDmaDomain(first), NULL, 100, 0, NULL, 0,
                                                                   &la, &va), STATUS_SUCCESS);
    *(UCHAR *)va = 77;
    EXPECT_STATUS(pinion_device_read(second, (uint64_t)la.QuadPart, &byte, 1), STATUS_SUCCESS);
    EXPECT_EQ(byte, 77);
    EXPECT_STATUS(second->DmaOperations->LeaveDmaDomain(second), STATUS_SUCCESS);
    EXPECT_STATUS(pinion_device_read(second, (uint64_t)la.QuadPart, &byte, 1), STATUS_ACCESS_VIOLATION);
    first->DmaOperations->FreeCommonBuffer(first, 100, la, va, TRUE);
    put_adapter(first);
    put_adapter(second);
}

/* DMA_OPERATIONS-05: a domain with addresses beyond the device's reach, none at all, or one while something is out, is refused. */
TEST(dma_buffers3, domain__that_does_not_suit__is_refused)
{
    PDMA_ADAPTER narrow, wide;
    PHYSICAL_ADDRESS la;
    HANDLE own;
    PVOID va;

    boot("dma=remapped");
    narrow = master(DEVICE_DESCRIPTION_VERSION3, 24, 65536);
    wide = master(DEVICE_DESCRIPTION_VERSION3, 32, 65536);
    own = narrow->DmaOperations->GetDmaDomain(narrow);
    EXPECT_STATUS(narrow->DmaOperations->JoinDmaDomain(narrow, wide->DmaOperations->GetDmaDomain(wide)), STATUS_INVALID_PARAMETER);
    EXPECT_STATUS(narrow->DmaOperations->JoinDmaDomain(narrow, &la), STATUS_INVALID_PARAMETER);
    EXPECT_STATUS(narrow->DmaOperations->JoinDmaDomain(narrow, NULL), STATUS_INVALID_PARAMETER);
    EXPECT_PTR_EQ(narrow->DmaOperations->GetDmaDomain(narrow), own);
    va = wide->DmaOperations->AllocateCommonBuffer(wide, 100, &la, TRUE);
    EXPECT_STATUS(wide->DmaOperations->JoinDmaDomain(wide, own), STATUS_INVALID_DEVICE_STATE);
    wide->DmaOperations->FreeCommonBuffer(wide, 100, la, va, TRUE);
    EXPECT_STATUS(wide->DmaOperations->JoinDmaDomain(wide, own), STATUS_SUCCESS);
    EXPECT_PTR_EQ(wide->DmaOperations->GetDmaDomain(wide), own);
    put_adapter(narrow);
    put_adapter(wide);
}

/* DMA_OPERATIONS-05: without an IOMMU there are no domains. */
TEST(dma_buffers3, domain__without_an_iommu__is_not_supported)
{
    const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION3, 32, 65536);

    EXPECT(adapter->DmaOperations->GetDmaDomain(adapter) == NULL);
    EXPECT_STATUS(adapter->DmaOperations->JoinDmaDomain(adapter, adapter), STATUS_NOT_SUPPORTED);
    EXPECT_STATUS(adapter->DmaOperations->LeaveDmaDomain(adapter), STATUS_NOT_SUPPORTED);
    put_adapter(adapter);
}
