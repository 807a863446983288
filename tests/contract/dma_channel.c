/* SPDX-License-Identifier: MIT */
/*
 * AllocateAdapterChannel, MapTransfer, FlushAdapterBuffers, FreeAdapterChannel, FreeMapRegisters: packet DMA of bus masters and
 * of devices behind the system's DMA controller.
 */

#include "harness.h"
#include <wdm.h>

#include "dma_support.h"

enum { PAGES = 5, BYTES = PAGES * PAGE_SIZE - 200, OFF = 100, SEED = 12 };

struct buffer {
    UCHAR *va;
    PMDL mdl;
};

static struct buffer make_buffer(void)
{
    struct buffer buffer = {.va = user_pattern(PAGES, SEED)};

    buffer.mdl = locked_mdl(buffer.va + OFF, BYTES);
    return buffer;
}

static void end_buffer(struct buffer *buffer)
{
    unlock_and_free(buffer->mdl);
    pinion_user_free(buffer->va);
}

/* What an AdapterControl routine was called with, and what it answers. */
struct control {
    IO_ALLOCATION_ACTION answer;
    unsigned calls, order;
    unsigned *clock;                    /* counts calls over several of these */
    PDEVICE_OBJECT device;
    PIRP irp;
    PVOID base;
    KIRQL irql;
};

static IO_ALLOCATION_ACTION on_control(PDEVICE_OBJECT DeviceObject, PIRP Irp, PVOID MapRegisterBase, PVOID Context)
{
    struct control *const control = Context;

    control->calls++;
    control->device = DeviceObject;
    control->irp = Irp;
    control->base = MapRegisterBase;
    control->irql = KeGetCurrentIrql();
    if (control->clock != NULL)
        control->order = ++*control->clock;
    return control->answer;
}

static NTSTATUS allocate(PDMA_ADAPTER adapter, PDEVICE_OBJECT device, ULONG registers, struct control *control)
{
    const KIRQL irql = raise_irql(DISPATCH_LEVEL);
    const NTSTATUS status = adapter->DmaOperations->AllocateAdapterChannel(adapter, device, registers, on_control, control);

    KeLowerIrql(irql);
    return status;
}

static void free_registers(PDMA_ADAPTER adapter, PVOID base, ULONG registers)
{
    const KIRQL irql = raise_irql(DISPATCH_LEVEL);

    adapter->DmaOperations->FreeMapRegisters(adapter, base, registers);
    KeLowerIrql(irql);
}

static void free_channel(PDMA_ADAPTER adapter)
{
    const KIRQL irql = raise_irql(DISPATCH_LEVEL);

    adapter->DmaOperations->FreeAdapterChannel(adapter);
    KeLowerIrql(irql);
}

/* ---- Types ----------------------------------------------------------------------------------------------------- */

/* AllocateAdapterChannel-01, AdapterControl-01, MapTransfer-01, FlushAdapterBuffers-01: the types are those of the pages. */
TEST(dma_channel, members__by_their_documented_types__are_there)
{
    const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION1, 64, 65536);
    NTSTATUS (*const channel)(PDMA_ADAPTER, PDEVICE_OBJECT, ULONG, PDRIVER_CONTROL, PVOID) =
        adapter->DmaOperations->AllocateAdapterChannel;
    PHYSICAL_ADDRESS (*const map)(PDMA_ADAPTER, PMDL, PVOID, PVOID, PULONG, BOOLEAN) = adapter->DmaOperations->MapTransfer;
    BOOLEAN (*const flush)(PDMA_ADAPTER, PMDL, PVOID, PVOID, ULONG, BOOLEAN) = adapter->DmaOperations->FlushAdapterBuffers;
    IO_ALLOCATION_ACTION (*const control)(PDEVICE_OBJECT, PIRP, PVOID, PVOID) = on_control;
    const PDRIVER_CONTROL role = on_control;

    EXPECT(channel != NULL && map != NULL && flush != NULL);
    EXPECT(role == control);
    put_adapter(adapter);
}

/* ---- The channel ----------------------------------------------------------------------------------------------- */

/* AllocateAdapterChannel-02, AllocateAdapterChannel-05, AdapterControl-01, AdapterControl-03: the routine runs at once, at DISPATCH_LEVEL,
   with the device's current IRP. */
TEST(dma_channel, allocate__when_free__runs_the_routine_with_the_current_irp)
{
    const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION1, 32, 65536);
    const PDEVICE_OBJECT device = pinion_device_create("device");
    struct control control = {.answer = DeallocateObjectKeepRegisters};
    IRP irp = {0};

    device->CurrentIrp = &irp;
    EXPECT_STATUS(allocate(adapter, device, 3, &control), STATUS_SUCCESS);
    device->CurrentIrp = NULL;
    EXPECT_EQ(control.calls, 1);
    EXPECT_EQ(control.irql, DISPATCH_LEVEL);
    EXPECT_PTR_EQ(control.device, device);
    EXPECT_PTR_EQ(control.irp, &irp);
    EXPECT(control.base != NULL);
    free_registers(adapter, control.base, 3);
    put_adapter(adapter);
}

/* AllocateAdapterChannel-03: more registers than there are; the routine is not called. */
TEST(dma_channel, allocate__more_than_the_maximum__is_refused)
{
    const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION1, 32, 3 * PAGE_SIZE);
    struct control control = {.answer = DeallocateObject};

    EXPECT_STATUS(allocate(adapter, NULL, 5, &control), STATUS_INSUFFICIENT_RESOURCES);
    EXPECT_EQ(control.calls, 0);
    EXPECT_STATUS(allocate(adapter, NULL, 4, &control), STATUS_SUCCESS);
    EXPECT_EQ(control.calls, 1);
    put_adapter(adapter);
}

/* AllocateAdapterChannel-04, AdapterControl-02, FreeAdapterChannel-01: KeepObject keeps the channel; others wait, in order, until it is freed. */
TEST(dma_channel, keep_object__makes_others_wait__in_order)
{
    const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION1, 32, 65536);
    unsigned clock = 0;
    struct control control[4];
    PDEVICE_OBJECT devices[4];

    for (unsigned i = 0; i < 4; i++) {
        devices[i] = pinion_device_create("device");
        control[i] = (struct control){.answer = KeepObject, .clock = &clock};
        EXPECT_STATUS(allocate(adapter, devices[i], 2, &control[i]), STATUS_SUCCESS);
    }
    for (unsigned i = 0; i < 4; i++) {
        EXPECT_EQ(clock, i + 1);
        EXPECT_EQ(control[i].order, i + 1);
        free_channel(adapter);
    }
    put_adapter(adapter);
}

/* AdapterControl-02: DeallocateObject frees channel and registers; DeallocateObjectKeepRegisters only the channel. */
TEST(dma_channel, answers__of_the_routine__free_what_they_say)
{
    const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION1, 32, 3 * PAGE_SIZE);       /* four registers */
    struct control all = {.answer = DeallocateObject}, kept = {.answer = DeallocateObjectKeepRegisters}, next = kept;

    EXPECT_STATUS(allocate(adapter, NULL, 4, &all), STATUS_SUCCESS);
    EXPECT_STATUS(allocate(adapter, NULL, 3, &kept), STATUS_SUCCESS);
    EXPECT_EQ(kept.calls, 1);
    EXPECT_STATUS(allocate(adapter, NULL, 2, &next), STATUS_SUCCESS);
    EXPECT_EQ(next.calls, 0);
    free_registers(adapter, kept.base, 3);
    EXPECT_EQ(next.calls, 1);
    free_registers(adapter, next.base, 2);
    put_adapter(adapter);
}

/* FreeMapRegisters-01, FreeMapRegisters-02: any number of times, nothing gets lost. */
TEST(dma_channel, registers__taken_and_freed_again_and_again__are_not_lost)
{
    const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION1, 24, 7 * PAGE_SIZE);

    for (ULONG i = 0; i < 1000; i++) {
        struct control control = {.answer = DeallocateObjectKeepRegisters};

        EXPECT_STATUS(allocate(adapter, NULL, 1 + i % 8, &control), STATUS_SUCCESS);
        EXPECT_EQ(control.calls, 1);
        free_registers(adapter, control.base, 1 + i % 8);
    }
    put_adapter(adapter);
}

/* FreeMapRegisters-02: the number that was allocated may be 0, and freeing so many is no mistake. */
TEST(dma_channel, registers__none_allocated__none_are_freed)
{
    const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION1, 32, 65536);
    struct control none = {.answer = DeallocateObjectKeepRegisters}, all = none;

    EXPECT_STATUS(allocate(adapter, NULL, 0, &none), STATUS_SUCCESS);
    EXPECT_EQ(none.calls, 1);
    EXPECT_STATUS(allocate(adapter, NULL, 17, &all), STATUS_SUCCESS);
    free_registers(adapter, none.base, 0);
    free_registers(adapter, all.base, 17);
    free_registers(adapter, none.base, 0);
    put_adapter(adapter);
}

/* ---- Bus masters ----------------------------------------------------------------------------------------------- */

static NTSTATUS device_moves(PDMA_ADAPTER adapter, PHYSICAL_ADDRESS la, UCHAR *bytes, ULONG length, BOOLEAN write)
{
    return write ? pinion_device_read(adapter, (uint64_t)la.QuadPart, bytes, length)
                 : pinion_device_write(adapter, (uint64_t)la.QuadPart, bytes, length);
}

/* One DMA operation over [done, done + bytes) of the buffer: map it run by run, let the device move it, flush. How many runs. */
static unsigned one_operation(PDMA_ADAPTER adapter, PMDL mdl, PVOID base, ULONG done, ULONG bytes, UCHAR *device, BOOLEAN write)
{
    UCHAR *const start = (UCHAR *)MmGetMdlVirtualAddress(mdl) + done;
    unsigned runs = 0;

    for (ULONG at = 0; at < bytes; runs++) {
        ULONG length = bytes - at;
        const PHYSICAL_ADDRESS la = adapter->DmaOperations->MapTransfer(adapter, mdl, base, start + at, &length, write);

        EXPECT(length > 0 && length <= bytes - at);
        EXPECT_STATUS(device_moves(adapter, la, device + at, length, write), STATUS_SUCCESS);
        at += length;
    }
    EXPECT_EQ(adapter->DmaOperations->FlushAdapterBuffers(adapter, mdl, base, start, bytes, write), TRUE);
    return runs;
}

/* MapTransfer-02, MapTransfer-03, MapTransfer-04, FlushAdapterBuffers-02: the runs cover the buffer exactly, and are the frames' runs. */
TEST(dma_channel, map__by_a_bus_master__covers_the_buffer_run_by_run)
{
    boot("layout=scattered");
    struct buffer buffer = make_buffer();
    static const unsigned widths[] = {24, 32, 64};
    static UCHAR seen[BYTES];

    for (SIZE_T i = 0; i < 3; i++) {
        const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION1, widths[i], 65536);
        struct control control = {.answer = DeallocateObjectKeepRegisters};
        unsigned runs;

        EXPECT_STATUS(allocate(adapter, NULL, PAGES, &control), STATUS_SUCCESS);
        runs = one_operation(adapter, buffer.mdl, control.base, 0, BYTES, seen, TRUE);
        EXPECT_PATTERN_AT(seen, BYTES, SEED, OFF);
        EXPECT_EQ(runs, widths[i] == 64 ? PAGES : 1);
        free_registers(adapter, control.base, PAGES);
        put_adapter(adapter);
    }
    end_buffer(&buffer);
}

/* FlushAdapterBuffers-03: what the device wrote through registers is in the buffer after the flush, not before. */
TEST(dma_channel, flush__of_a_read__brings_the_bytes)
{
    struct buffer buffer = make_buffer();
    const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION1, 32, 65536);
    struct control control = {.answer = DeallocateObjectKeepRegisters};
    static UCHAR sent[BYTES];
    ULONG length = BYTES;
    PHYSICAL_ADDRESS la;

    EXPECT_STATUS(allocate(adapter, NULL, PAGES, &control), STATUS_SUCCESS);
    la = adapter->DmaOperations->MapTransfer(adapter, buffer.mdl, control.base, buffer.va + OFF, &length, FALSE);
    EXPECT_EQ(length, BYTES);
    fill_pattern(sent, BYTES, SEED + 1);
    EXPECT_STATUS(pinion_device_write(adapter, (uint64_t)la.QuadPart, sent, BYTES), STATUS_SUCCESS);
    EXPECT_PATTERN(buffer.va, PAGES * PAGE_SIZE, SEED);
    EXPECT_EQ(adapter->DmaOperations->FlushAdapterBuffers(adapter, buffer.mdl, control.base, buffer.va + OFF, BYTES, FALSE), TRUE);
    EXPECT_PATTERN(buffer.va + OFF, BYTES, SEED + 1);
    EXPECT_PATTERN(buffer.va, OFF, SEED);
    free_registers(adapter, control.base, PAGES);
    put_adapter(adapter);
    end_buffer(&buffer);
}

/* FlushAdapterBuffers-03: what was mapped comes back whole, though the driver has shortened the MDL for a while. */
TEST(dma_channel, flush__of_an_mdl_shortened_meanwhile__brings_the_bytes)
{
    struct buffer buffer = make_buffer();
    static UCHAR sent[BYTES];

    for (unsigned width = 32; width <= 64; width += 32) {
        const PDMA_ADAPTER adapter = get_adapter(describe(DEVICE_DESCRIPTION_VERSION1, width, FALSE, 65536));
        struct control control = {.answer = DeallocateObjectKeepRegisters};
        ULONG length = BYTES;
        PHYSICAL_ADDRESS la;

        EXPECT_STATUS(allocate(adapter, NULL, PAGES, &control), STATUS_SUCCESS);
        la = adapter->DmaOperations->MapTransfer(adapter, buffer.mdl, control.base, buffer.va + OFF, &length, FALSE);
        fill_pattern(sent, BYTES, SEED + width);
        EXPECT_STATUS(pinion_device_write(adapter, (uint64_t)la.QuadPart, sent, BYTES), STATUS_SUCCESS);
        buffer.mdl->ByteCount = 100;
        EXPECT_EQ(adapter->DmaOperations->FlushAdapterBuffers(adapter, buffer.mdl, control.base, buffer.va + OFF, BYTES, FALSE), TRUE);
        buffer.mdl->ByteCount = BYTES;
        EXPECT_PATTERN(buffer.va + OFF, BYTES, SEED + width);
        free_registers(adapter, control.base, PAGES);
        put_adapter(adapter);
    }
    end_buffer(&buffer);
}

/* MapTransfer-03: without scatter/gather everything is one run, and *Length stays as it is. */
TEST(dma_channel, map__without_scatter_gather__is_one_run)
{
    struct buffer buffer = make_buffer();
    static UCHAR seen[BYTES];

    for (unsigned width = 32; width <= 64; width += 32) {
        const PDMA_ADAPTER adapter = get_adapter(describe(DEVICE_DESCRIPTION_VERSION1, width, FALSE, 65536));
        struct control control = {.answer = DeallocateObjectKeepRegisters};

        EXPECT_STATUS(allocate(adapter, NULL, PAGES, &control), STATUS_SUCCESS);
        EXPECT_EQ(one_operation(adapter, buffer.mdl, control.base, 0, BYTES, seen, TRUE), 1);
        EXPECT_PATTERN_AT(seen, BYTES, SEED, OFF);
        free_registers(adapter, control.base, PAGES);
        put_adapter(adapter);
    }
    end_buffer(&buffer);
}

/* MapTransfer-06: without the verifier no bytes map nothing; a length that ends in the last page, behind the MDL, is cut. */
TEST(dma_channel, map__of_no_bytes_or_some_too_many__maps_what_there_is)
{
    struct buffer buffer;
    PDMA_ADAPTER adapter;
    struct control control = {.answer = DeallocateObjectKeepRegisters};
    ULONG none = 0, length = 101;

    boot("verifier=off");
    buffer = make_buffer();
    adapter = master(DEVICE_DESCRIPTION_VERSION1, 64, 65536);
    EXPECT_STATUS(allocate(adapter, NULL, PAGES, &control), STATUS_SUCCESS);
    adapter->DmaOperations->MapTransfer(adapter, buffer.mdl, control.base, buffer.va + OFF, &none, TRUE);
    EXPECT_EQ(none, 0);
    adapter->DmaOperations->MapTransfer(adapter, buffer.mdl, control.base, buffer.va + OFF + BYTES - 100, &length, TRUE);
    EXPECT_EQ(length, 100);
    EXPECT_EQ(adapter->DmaOperations->FlushAdapterBuffers(adapter, buffer.mdl, control.base, buffer.va + OFF, 1, TRUE), FALSE);
    EXPECT_EQ(adapter->DmaOperations->FlushAdapterBuffers(adapter, buffer.mdl, control.base, buffer.va + OFF + BYTES - 100, 100, TRUE), TRUE);
    free_registers(adapter, control.base, PAGES);
    put_adapter(adapter);
    end_buffer(&buffer);
}

/* Map_registers-02, MapTransfer-04, MapTransfer-05, MapTransfer-07: twelve pages with five registers take three operations. */
TEST(dma_channel, twelve_pages__with_five_registers__take_three_operations)
{
    UCHAR *const va = user_pattern(12, SEED);
    const PMDL mdl = locked_mdl(va, 12 * PAGE_SIZE);
    const PDMA_ADAPTER adapter = get_adapter(describe(DEVICE_DESCRIPTION_VERSION1, 32, TRUE, 4 * PAGE_SIZE));
    struct control control = {.answer = DeallocateObjectKeepRegisters};
    static UCHAR seen[12 * PAGE_SIZE];
    unsigned operations = 0;

    EXPECT_STATUS(allocate(adapter, NULL, 5, &control), STATUS_SUCCESS);
    for (ULONG done = 0; done < 12 * PAGE_SIZE; operations++) {
        const ULONG bytes = 12 * PAGE_SIZE - done < 5 * PAGE_SIZE ? 12 * PAGE_SIZE - done : 5 * PAGE_SIZE;

        one_operation(adapter, mdl, control.base, done, bytes, seen + done, TRUE);
        done += bytes;
    }
    EXPECT_EQ(operations, 3);
    EXPECT_PATTERN(seen, 12 * PAGE_SIZE, SEED);
    free_registers(adapter, control.base, 5);
    put_adapter(adapter);
    unlock_and_free(mdl);
    pinion_user_free(va);
}

/* MapTransfer-07: asked for more than its registers hold, a scatter/gather device gets as much as they do. */
TEST(dma_channel, map__of_more_than_the_registers_hold__is_cut)
{
    struct buffer buffer = make_buffer();
    const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION1, 32, 65536);
    struct control control = {.answer = DeallocateObjectKeepRegisters};
    ULONG length = BYTES;

    EXPECT_STATUS(allocate(adapter, NULL, 2, &control), STATUS_SUCCESS);
    adapter->DmaOperations->MapTransfer(adapter, buffer.mdl, control.base, buffer.va + OFF, &length, TRUE);
    EXPECT_EQ(length, 2 * PAGE_SIZE - OFF);
    adapter->DmaOperations->FlushAdapterBuffers(adapter, buffer.mdl, control.base, buffer.va + OFF, length, TRUE);
    free_registers(adapter, control.base, 2);
    put_adapter(adapter);
    end_buffer(&buffer);
}

/* ---- Behind the system's DMA controller ------------------------------------------------------------------------ */

static DEVICE_DESCRIPTION subordinate(ULONG channel)
{
    return (DEVICE_DESCRIPTION){.Version = DEVICE_DESCRIPTION_VERSION1, .Master = FALSE, .DmaChannel = channel, .InterfaceType = Isa,
                                .DmaWidth = Width8Bits, .DmaSpeed = Compatible, .MaximumLength = 65536};
}

/* DEVICE_DESCRIPTION-02, ReadDmaCounter-01: the device moves bytes without knowing addresses, and the counter goes from the length to 0. */
TEST(dma_channel, system_dma__counts_down_to_zero)
{
    struct buffer buffer = make_buffer();
    const PDMA_ADAPTER adapter = get_adapter(subordinate(2));
    struct control control = {.answer = KeepObject};
    static UCHAR seen[BYTES];
    ULONG length = BYTES;

    EXPECT_STATUS(allocate(adapter, NULL, PAGES, &control), STATUS_SUCCESS);
    adapter->DmaOperations->MapTransfer(adapter, buffer.mdl, control.base, buffer.va + OFF, &length, TRUE);
    EXPECT_EQ(length, BYTES);
    EXPECT_EQ(adapter->DmaOperations->ReadDmaCounter(adapter), BYTES);
    EXPECT_STATUS(pinion_device_read(adapter, 0, seen, 1000), STATUS_SUCCESS);
    EXPECT_EQ(adapter->DmaOperations->ReadDmaCounter(adapter), BYTES - 1000);
    EXPECT_STATUS(pinion_device_read(adapter, 0, seen + 1000, BYTES - 1000), STATUS_SUCCESS);
    EXPECT_EQ(adapter->DmaOperations->ReadDmaCounter(adapter), 0);
    EXPECT_PATTERN_AT(seen, BYTES, SEED, OFF);
    adapter->DmaOperations->FlushAdapterBuffers(adapter, buffer.mdl, control.base, buffer.va + OFF, BYTES, TRUE);
    free_channel(adapter);
    put_adapter(adapter);
    end_buffer(&buffer);
}

/* AllocateAdapterChannel-04: two adapters of one controller channel take turns; those of another do not wait. */
TEST(dma_channel, two_adapters__of_one_system_channel__take_turns)
{
    const PDMA_ADAPTER first = get_adapter(subordinate(3)), second = get_adapter(subordinate(3)), other = get_adapter(subordinate(5));
    struct control a = {.answer = KeepObject}, b = a, c = a;

    EXPECT_STATUS(allocate(first, NULL, 1, &a), STATUS_SUCCESS);
    EXPECT_STATUS(allocate(second, NULL, 1, &b), STATUS_SUCCESS);
    EXPECT_STATUS(allocate(other, NULL, 1, &c), STATUS_SUCCESS);
    EXPECT_EQ(a.calls, 1);
    EXPECT_EQ(b.calls, 0);
    EXPECT_EQ(c.calls, 1);
    free_channel(first);
    EXPECT_EQ(b.calls, 1);
    free_channel(second);
    free_channel(other);
    put_adapter(first);
    put_adapter(second);
    put_adapter(other);
}
