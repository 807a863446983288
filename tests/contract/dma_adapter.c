/* SPDX-License-Identifier: MIT */
/* IoGetDmaAdapter, PutDmaAdapter, GetDmaAlignment, and the table of routines by version. */

#include "harness.h"
#include <wdm.h>

#include <dlfcn.h>

#include "dma_support.h"

/* ---- Types and layout ------------------------------------------------------------------------------------------ */

/* IoGetDmaAdapter-01, IoGetDmaAdapter-02: the routine has the type of its page and gives an adapter with a table. */
TEST(dma_adapter, get__by_its_documented_type__gives_an_adapter_with_a_table)
{
    PDMA_ADAPTER (*const get)(PDEVICE_OBJECT, PDEVICE_DESCRIPTION, PULONG) = &IoGetDmaAdapter;
    DEVICE_DESCRIPTION description = describe(DEVICE_DESCRIPTION_VERSION2, 64, TRUE, 65536);
    ULONG registers = 0;
    const PDMA_ADAPTER adapter = get(pinion_device_create("device"), &description, &registers);

    EXPECT(adapter != NULL);
    EXPECT(adapter->DmaOperations != NULL);
    put_adapter(adapter);
}

/* DMA_ADAPTER-01, SCATTER_GATHER_LIST-01: the members lie where a driver's binary expects them. */
TEST(dma_adapter, layout__of_what_drivers_see__is_microsofts)
{
    EXPECT_EQ(offsetof(DMA_ADAPTER, Version), 0);
    EXPECT_EQ(offsetof(DMA_ADAPTER, Size), 2);
    EXPECT_EQ(offsetof(DMA_ADAPTER, DmaOperations), 8);
    EXPECT_EQ(sizeof(SCATTER_GATHER_ELEMENT), 24);
    EXPECT_EQ(offsetof(SCATTER_GATHER_ELEMENT, Length), 8);
    EXPECT_EQ(offsetof(SCATTER_GATHER_LIST, Reserved), 8);
    EXPECT_EQ(offsetof(SCATTER_GATHER_LIST, Elements), 16);
}

/* ---- Versions -------------------------------------------------------------------------------------------------- */

static bool all_of_version1(const DMA_OPERATIONS *operations)
{
    return operations->PutDmaAdapter != NULL && operations->AllocateCommonBuffer != NULL && operations->FreeCommonBuffer != NULL
        && operations->AllocateAdapterChannel != NULL && operations->FlushAdapterBuffers != NULL
        && operations->FreeAdapterChannel != NULL && operations->FreeMapRegisters != NULL && operations->MapTransfer != NULL
        && operations->GetDmaAlignment != NULL && operations->ReadDmaCounter != NULL && operations->GetScatterGatherList != NULL
        && operations->PutScatterGatherList != NULL;
}

/* IoGetDmaAdapter-04, DMA_OPERATIONS-01, DMA_OPERATIONS-02: both first versions give the first table, whole. */
TEST(dma_adapter, get__version_0_or_1__gives_the_table_of_version_1)
{
    for (ULONG version = DEVICE_DESCRIPTION_VERSION; version <= DEVICE_DESCRIPTION_VERSION1; version++) {
        const PDMA_ADAPTER adapter = master(version, 64, 65536);

        EXPECT_EQ(adapter->DmaOperations->Size, offsetof(DMA_OPERATIONS, CalculateScatterGatherList));
        EXPECT_EQ(adapter->DmaOperations->Size, 104);
        EXPECT(all_of_version1(adapter->DmaOperations));
        put_adapter(adapter);
    }
}

/* IoGetDmaAdapter-05, DMA_OPERATIONS-03, DEVICE_DESCRIPTION-01: version 2 adds its three routines. */
TEST(dma_adapter, get__version_2__adds_three_routines)
{
    const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION2, 64, 65536);

    EXPECT_EQ(adapter->DmaOperations->Size, 128);
    EXPECT(all_of_version1(adapter->DmaOperations));
    EXPECT(adapter->DmaOperations->CalculateScatterGatherList != NULL);
    EXPECT(adapter->DmaOperations->BuildScatterGatherList != NULL);
    EXPECT(adapter->DmaOperations->BuildMdlFromScatterGatherList != NULL);
    put_adapter(adapter);
}

static PDMA_ADAPTER try_version(ULONG version)
{
    DEVICE_DESCRIPTION description = describe(version, 32, TRUE, 65536);
    ULONG registers;

    return IoGetDmaAdapter(NULL, &description, &registers);
}

/* IoGetDmaAdapter-05, BuildMdlFromScatterGatherList-17, BuildMdlFromScatterGatherList-20: Windows 2000 has no version 2. */
TEST(dma_adapter, get__version_2_on_windows_2000__gives_nothing)
{
    boot("windows=2000");
    EXPECT(try_version(DEVICE_DESCRIPTION_VERSION2) == NULL);
    put_adapter(master(DEVICE_DESCRIPTION_VERSION1, 32, 65536));
}

/* IoGetDmaAdapter-06: version 3 came with Windows 8. */
TEST(dma_adapter, get__version_3_on_windows_7__gives_nothing)
{
    boot("windows=7");
    EXPECT(try_version(DEVICE_DESCRIPTION_VERSION3) == NULL);
    put_adapter(master(DEVICE_DESCRIPTION_VERSION2, 32, 65536));
}

/* IoGetDmaAdapter-07, DMA_ADAPTER-02: the adapter's own version says nothing about the table's. */
TEST(dma_adapter, version__of_any_adapter__is_1)
{
    for (ULONG version = DEVICE_DESCRIPTION_VERSION; version <= DEVICE_DESCRIPTION_VERSION3; version++) {
        const PDMA_ADAPTER adapter = master(version, 64, 65536);

        EXPECT_EQ(adapter->Version, HAL_DMA_ADAPTER_VERSION_1);
        put_adapter(adapter);
    }
}

/* ---- Map registers --------------------------------------------------------------------------------------------- */

/* IoGetDmaAdapter-08, IoGetDmaAdapter-09, DEVICE_DESCRIPTION-08: one register more than MaximumLength fills pages. */
TEST(dma_adapter, registers__for_a_maximum_length__are_one_more_than_its_pages)
{
    static const ULONG lengths[] = {1, PAGE_SIZE - 1, PAGE_SIZE, PAGE_SIZE + 1, 15 * PAGE_SIZE, 65536, 1 << 20};
    static const unsigned widths[] = {24, 32, 64};

    for (SIZE_T i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        for (SIZE_T w = 0; w < sizeof(widths) / sizeof(widths[0]); w++) {
            DEVICE_DESCRIPTION description = describe(DEVICE_DESCRIPTION_VERSION1, widths[w], TRUE, lengths[i]);
            ULONG registers = 0;
            const PDMA_ADAPTER adapter = IoGetDmaAdapter(NULL, &description, &registers);

            EXPECT_EQ(registers, BYTES_TO_PAGES(lengths[i]) + 1);
            put_adapter(adapter);
        }
    }
}

/* IoGetDmaAdapter-09: a device that asks for more than there is gets what there is. */
TEST(dma_adapter, registers__more_than_there_are__are_cut_down)
{
    DEVICE_DESCRIPTION description = describe(DEVICE_DESCRIPTION_VERSION1, 24, TRUE, MAXULONG);
    ULONG registers = 0;
    const PDMA_ADAPTER adapter = IoGetDmaAdapter(NULL, &description, &registers);

    EXPECT(adapter != NULL);
    EXPECT(registers > 0 && registers < 4096);      /* what lies below 16 MiB */
    put_adapter(adapter);
}

/* DMA_OPERATIONS-06, BuildMdlFromScatterGatherList-04, BuildMdlFromScatterGatherList-15: no routine of the table can be called by name. */
TEST(dma_adapter, routines__of_the_table__have_no_exported_names)
{
    static const char *const names[] = {"PutDmaAdapter", "AllocateCommonBuffer", "AllocateAdapterChannel", "MapTransfer",
                                        "GetScatterGatherList", "BuildMdlFromScatterGatherList", "MapTransferEx", "dma_build_mdl"};

    EXPECT(dlsym(RTLD_DEFAULT, "IoGetDmaAdapter") != NULL);
    for (SIZE_T i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        EXPECT(dlsym(RTLD_DEFAULT, names[i]) == NULL);
}

/* DEVICE_DESCRIPTION-04: DemandMode changes nothing for a bus master. */
TEST(dma_adapter, demand_mode__of_a_bus_master__is_ignored)
{
    for (ULONG version = DEVICE_DESCRIPTION_VERSION; version <= DEVICE_DESCRIPTION_VERSION3; version++) {
        DEVICE_DESCRIPTION plain = describe(version, 32, TRUE, 65536), demanding = plain;
        ULONG registers = 0, same = 1;

        demanding.DemandMode = TRUE;
        put_adapter(IoGetDmaAdapter(NULL, &plain, &registers));
        put_adapter(IoGetDmaAdapter(NULL, &demanding, &same));
        EXPECT_EQ(registers, same);
    }
}

/* IoGetDmaAdapter-02: an adapter that cannot be made is NULL, and nothing is left of it. */
TEST(dma_adapter, get__made_to_fail__gives_nothing)
{
    pinion_fail("IoGetDmaAdapter", 1);
    EXPECT(try_version(DEVICE_DESCRIPTION_VERSION2) == NULL);
}

/* DEVICE_DESCRIPTION-07: version 3 takes address widths from 1 to 64 bits, and no other. */
TEST(dma_adapter, get__version_3_with_an_impossible_width__gives_nothing)
{
    static const ULONG widths[] = {0, 65, MAXULONG};

    for (SIZE_T i = 0; i < sizeof(widths) / sizeof(widths[0]); i++) {
        DEVICE_DESCRIPTION description = describe(DEVICE_DESCRIPTION_VERSION3, 64, TRUE, 65536);
        ULONG registers;

        description.DmaAddressWidth = widths[i];
        EXPECT(IoGetDmaAdapter(NULL, &description, &registers) == NULL);
    }
}

/* ---- What the description says about reach --------------------------------------------------------------------- */

/* Where the first element of a list over memory above 4 GiB lies. */
static uint64_t first_address(DEVICE_DESCRIPTION description)
{
    UCHAR *const va = user_pattern(1, 1);
    const PMDL mdl = locked_mdl(va, PAGE_SIZE);
    const PDMA_ADAPTER adapter = get_adapter(description);
    const PSCATTER_GATHER_LIST list = get_list(adapter, mdl, 0, PAGE_SIZE, TRUE);
    const uint64_t address = (uint64_t)list->Elements[0].Address.QuadPart;

    EXPECT(MmGetMdlPfnArray(mdl)[0] >= 0x100000);
    put_list(adapter, list, TRUE);
    put_adapter(adapter);
    unlock_and_free(mdl);
    pinion_user_free(va);
    return address;
}

/* DEVICE_DESCRIPTION-05, Map_registers-03: Dma64BitAddresses wins over Dma32BitAddresses; without it, memory is copied. */
TEST(dma_adapter, reach__by_address_flags__decides_where_lists_point)
{
    DEVICE_DESCRIPTION both = describe(DEVICE_DESCRIPTION_VERSION2, 64, TRUE, 65536);

    both.Dma32BitAddresses = TRUE;
    EXPECT(first_address(both) >= 1ull << 32);
    EXPECT(first_address(describe(DEVICE_DESCRIPTION_VERSION2, 32, TRUE, 65536)) < 1ull << 32);
    EXPECT(first_address(describe(DEVICE_DESCRIPTION_VERSION2, 24, TRUE, 65536)) < 1ull << 24);
}

/* DEVICE_DESCRIPTION-06: a scatter/gather device on PCI is taken to reach 32 bits, whatever Dma32BitAddresses says. */
TEST(dma_adapter, reach__scatter_gather_on_pci__is_at_least_32_bits)
{
    DEVICE_DESCRIPTION pci = describe(DEVICE_DESCRIPTION_VERSION2, 24, TRUE, 65536);
    uint64_t address;

    pci.InterfaceType = PCIBus;
    address = first_address(pci);
    EXPECT(address < 1ull << 32);
    EXPECT(address >= 1ull << 24);
}

/* DEVICE_DESCRIPTION-05, DEVICE_DESCRIPTION-07: version 3 goes by DmaAddressWidth alone. */
TEST(dma_adapter, reach__version_3__goes_by_the_width)
{
    DEVICE_DESCRIPTION narrow = describe(DEVICE_DESCRIPTION_VERSION3, 30, TRUE, 65536);

    narrow.Dma64BitAddresses = TRUE;
    EXPECT(first_address(narrow) < 1ull << 30);
}

/* ---- Giving it back -------------------------------------------------------------------------------------------- */

/* PutDmaAdapter-01: an adapter may be made and released any number of times. */
TEST(dma_adapter, put__a_thousand_times__leaves_nothing)
{
    for (int i = 0; i < 1000; i++)
        put_adapter(master(DEVICE_DESCRIPTION_VERSION2, 24, 1 << 20));
}

/* GetDmaAlignment-01: the alignment is a power of two. */
TEST(dma_adapter, alignment__of_an_adapter__is_a_power_of_two)
{
    const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION1, 32, 65536);
    const ULONG alignment = adapter->DmaOperations->GetDmaAlignment(adapter);

    EXPECT(alignment >= 1);
    EXPECT_EQ(alignment & (alignment - 1), 0);
    put_adapter(adapter);
}

/* IoGetDmaAdapter-10: an adapter that was never released is a finding. */
TEST_UNTIDY(dma_adapter, shutdown__with_an_adapter_left__counts_it)
{
    master(DEVICE_DESCRIPTION_VERSION1, 64, 65536);
    EXPECT_EQ(pinion_shutdown(), 1);
}
