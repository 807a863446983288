/* SPDX-License-Identifier: MIT */
/* What is held in the end though no MDL has it any more: each such thing is told once, where it came about or at the end. */

#include "harness.h"
#include <wdm.h>

#include "../contract/io_stack.h"
#include "../contract/partial.h"

static NTSTATUS shorten_and_complete(HARNESS_UNUSED struct layer *layer, PIRP irp)
{
    irp->MdlAddress->ByteCount = 1;
    return layer_complete(irp, STATUS_SUCCESS, 0);
}

static void read_through_shortener(HARNESS_UNUSED void *context)
{
    struct layer layer;
    UCHAR *const va = user_pages(3, PAGE_READWRITE);
    struct pinion_request request = {.operation = PINION_READ, .buffer = va, .bytes = 3 * PAGE_SIZE};
    PFILE_OBJECT file;

    layer_create(&layer, DO_DIRECT_IO, shorten_and_complete);
    EXPECT_STATUS(pinion_open(layer.device, &file), STATUS_SUCCESS);
    pinion_transfer(file, &request);
    pinion_close(file);
    layer_destroy(&layer);
    EXPECT_EQ(pinion_shutdown(), 1);
}

/* The MDL of a request has to be as it came when the request is completed. */
TEST_UNTIDY(orphans, mdl_of_a_request__shortened_and_left_so__is_told_when_it_is_unlocked)
{
    const struct stop stop = run_until_stop(read_through_shortener, NULL);

    EXPECT_EQ(stop_warnings(&stop, "mdl-changed-while-locked"), 1);
    EXPECT_EQ(stop_warnings(&stop, NULL), 1);
}

static void build_over_mapped_partial(HARNESS_UNUSED void *context)
{
    UCHAR *const pool = ExAllocatePoolWithTag(NonPagedPoolNx, PAGE_SIZE, TEST_TAG);
    const PMDL source = locked_mdl(user_pages(1, PAGE_READWRITE), PAGE_SIZE);
    const PMDL part = part_of(source, MmGetMdlVirtualAddress(source), 100);

    system_address(part);
    MmInitializeMdl(part, pool, PAGE_SIZE);
    MmBuildMdlForNonPagedPool(part);
    IoFreeMdl(part);
    unlock_and_free(source);
    ExFreePoolWithTag(pool, TEST_TAG);
    pinion_shutdown();
}

static void map_device_memory(HARNESS_UNUSED void *context)
{
    const PHYSICAL_ADDRESS pa = {.QuadPart = 0xD0000000};

    EXPECT(MmMapIoSpace(pa, PAGE_SIZE, MmNonCached) != NULL);
    EXPECT_EQ(pinion_shutdown(), 1);
}

/* A mapping that nobody can release any more is told at the end. */
TEST_UNTIDY(orphans, mapping__without_an_mdl__is_told_at_the_end)
{
    static void (*const bodies[])(void *) = {build_over_mapped_partial, map_device_memory};

    for (SIZE_T i = 0; i < ARRAYSIZE(bodies); i++) {
        const struct stop stop = run_until_stop(bodies[i], NULL);

        EXPECT(!stop.stopped);
        EXPECT_EQ(stop_warnings(&stop, "mappings-left"), 1);
    }
}
