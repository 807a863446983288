/* SPDX-License-Identifier: MIT */
/*
 * DMA verification, bug check 0xE6: each mistake stops the machine with its own first parameter, and what comes closest to it
 * without being one is silent.
 */

#include "harness.h"
#include <wdm.h>

#include "../contract/dma_support.h"

enum { SEED = 40, BYTES = 3 * PAGE_SIZE };

/* A locked buffer, an adapter, a device. */
struct subject {
    UCHAR *va;
    PMDL mdl;
    PDMA_ADAPTER adapter;
    const DMA_OPERATIONS *operations;
    PDEVICE_OBJECT device;
};

static struct subject make_with(DEVICE_DESCRIPTION description)
{
    struct subject subject = {.va = user_pattern(3, SEED)};

    subject.mdl = locked_mdl(subject.va, BYTES);
    subject.adapter = get_adapter(description);
    subject.operations = subject.adapter->DmaOperations;
    subject.device = pinion_device_create("device");
    return subject;
}

static struct subject make(void)
{
    return make_with(describe(DEVICE_DESCRIPTION_VERSION2, 32, TRUE, 65536));
}

static void end(struct subject *subject)
{
    put_adapter(subject->adapter);
    unlock_and_free(subject->mdl);
    pinion_user_free(subject->va);
}

static IO_ALLOCATION_ACTION keep_registers(PDEVICE_OBJECT DeviceObject, PIRP Irp, PVOID MapRegisterBase, PVOID Context)
{
    UNREFERENCED_PARAMETER(DeviceObject);
    UNREFERENCED_PARAMETER(Irp);
    *(PVOID *)Context = MapRegisterBase;
    return DeallocateObjectKeepRegisters;
}

static IO_ALLOCATION_ACTION keep_object(PDEVICE_OBJECT DeviceObject, PIRP Irp, PVOID MapRegisterBase, PVOID Context)
{
    keep_registers(DeviceObject, Irp, MapRegisterBase, Context);
    return KeepObject;
}

/* At DISPATCH_LEVEL from here on. */
static PVOID allocate(struct subject *subject, PDRIVER_CONTROL routine, ULONG registers)
{
    PVOID base = NULL;

    if (KeGetCurrentIrql() < DISPATCH_LEVEL)
        raise_irql(DISPATCH_LEVEL);
    EXPECT_STATUS(subject->operations->AllocateAdapterChannel(subject->adapter, subject->device, registers, routine, &base),
                  STATUS_SUCCESS);
    return base;
}

static ULONG map(struct subject *subject, PVOID base, ULONG off, ULONG bytes)
{
    subject->operations->MapTransfer(subject->adapter, subject->mdl, base, subject->va + off, &bytes, TRUE);
    return bytes;
}

static BOOLEAN flush(struct subject *subject, PVOID base, ULONG off, ULONG bytes)
{
    return subject->operations->FlushAdapterBuffers(subject->adapter, subject->mdl, base, subject->va + off, bytes, TRUE);
}

/* Everything done right, in the ways that come closest to the mistakes below. */
SILENT_TEST(dma_rules, everything__done_right__is_silent)
{
    struct subject subject = make();
    PHYSICAL_ADDRESS la;
    PVOID base, buffer;
    KIRQL irql;

    buffer = subject.operations->AllocateCommonBuffer(subject.adapter, 100, &la, TRUE);
    fill_pattern(buffer, 100, 1);
    subject.operations->FreeCommonBuffer(subject.adapter, 100, la, buffer, TRUE);
    put_list(subject.adapter, get_list(subject.adapter, subject.mdl, BYTES - 1, 1, TRUE), TRUE);
    irql = raise_irql(DISPATCH_LEVEL);
    base = allocate(&subject, keep_registers, 3);
    EXPECT_EQ(map(&subject, base, 0, BYTES), BYTES);
    flush(&subject, base, 0, BYTES);
    EXPECT_EQ(map(&subject, base, 0, 1), 1);
    EXPECT_EQ(map(&subject, base, 1, 1), 1);
    flush(&subject, base, 0, 2);
    subject.operations->FreeMapRegisters(subject.adapter, base, 3);
    base = allocate(&subject, keep_object, 3);
    EXPECT_EQ(map(&subject, base, 0, BYTES), BYTES);
    flush(&subject, base, 0, BYTES);
    subject.operations->FreeAdapterChannel(subject.adapter);
    KeLowerIrql(irql);
    end(&subject);
}

/* ---- Surplus frees --------------------------------------------------------------------------------------------- */

/* FreeCommonBuffer-01, Driver_Verifier_DMA_verification-01: a common buffer freed twice. */
STOP_TEST(dma_rules, common_buffer__freed_twice__stops, DRIVER_VERIFIER_DMA_VIOLATION, 0x03)
{
    struct subject subject = make();
    PHYSICAL_ADDRESS la;
    const PVOID va = subject.operations->AllocateCommonBuffer(subject.adapter, 100, &la, TRUE);

    subject.operations->FreeCommonBuffer(subject.adapter, 100, la, va, TRUE);
    subject.operations->FreeCommonBuffer(subject.adapter, 100, la, va, TRUE);
}

/* FreeCommonBuffer-01: other arguments than those of the allocation. */
WARN_TEST(dma_rules, common_buffer__freed_with_another_length__warns, "common-buffer-mismatch")
{
    struct subject subject = make();
    PHYSICAL_ADDRESS la;
    const PVOID va = subject.operations->AllocateCommonBuffer(subject.adapter, 100, &la, TRUE);

    subject.operations->FreeCommonBuffer(subject.adapter, 99, la, va, TRUE);
    end(&subject);
}

/* FreeAdapterChannel-02: a channel that nobody keeps. */
STOP_TEST(dma_rules, channel__freed_twice__stops, DRIVER_VERIFIER_DMA_VIOLATION, 0x04)
{
    struct subject subject = make();

    allocate(&subject, keep_object, 1);
    subject.operations->FreeAdapterChannel(subject.adapter);
    subject.operations->FreeAdapterChannel(subject.adapter);
}

/* FreeAdapterObject-01, FreeAdapterChannel-02: once more than the list that kept the channel. */
STOP_TEST(dma_rules, channel__of_a_list_freed_twice__stops, DRIVER_VERIFIER_DMA_VIOLATION, 0x04)
{
    struct subject subject = make_with(describe(DEVICE_DESCRIPTION_VERSION3, 32, TRUE, 65536));
    ULONG_PTR transfer[DMA_TRANSFER_CONTEXT_SIZE_V1 / sizeof(ULONG_PTR)];
    PSCATTER_GATHER_LIST list;

    subject.operations->InitializeDmaTransferContext(subject.adapter, transfer);
    subject.operations->GetScatterGatherListEx(subject.adapter, NULL, transfer, subject.mdl, 0, BYTES, DMA_SYNCHRONOUS_CALLBACK, NULL, NULL,
                                               TRUE, NULL, NULL, &list);
    put_list(subject.adapter, list, TRUE);
    subject.operations->FreeAdapterObject(subject.adapter, DeallocateObject);
    subject.operations->FreeAdapterObject(subject.adapter, DeallocateObject);
}

/* FreeMapRegisters-02: registers that are not there, or more than there are. */
STOP_TEST(dma_rules, registers__freed_twice__stops, DRIVER_VERIFIER_DMA_VIOLATION, 0x05)
{
    struct subject subject = make();
    const PVOID base = allocate(&subject, keep_registers, 2);

    subject.operations->FreeMapRegisters(subject.adapter, base, 2);
    subject.operations->FreeMapRegisters(subject.adapter, base, 2);
}

static void free_too_many(void *context)
{
    struct subject subject = make();

    UNREFERENCED_PARAMETER(context);
    subject.operations->FreeMapRegisters(subject.adapter, allocate(&subject, keep_registers, 2), 5);
}

/* FreeMapRegisters-02: parameter 2 is the surplus. */
TEST_UNTIDY(dma_rules, registers__more_freed_than_allocated__stops_with_the_surplus)
{
    const struct stop stop = expect_stop(free_too_many, NULL, DRIVER_VERIFIER_DMA_VIOLATION, 0x05);

    EXPECT_EQ(stop.p[1], 3);
}

/* FreeMapRegisters-02: fewer than were allocated. */
WARN_TEST(dma_rules, registers__fewer_freed_than_allocated__warns, "dma-register-count")
{
    struct subject subject = make();
    const PVOID base = allocate(&subject, keep_registers, 3);

    subject.operations->FreeMapRegisters(subject.adapter, base, 2);
    KeLowerIrql(PASSIVE_LEVEL);
    end(&subject);
}

static void put_twice(void *context)
{
    struct subject subject = make();
    const PSCATTER_GATHER_LIST list = get_list(subject.adapter, subject.mdl, 0, BYTES, TRUE);

    UNREFERENCED_PARAMETER(context);
    put_list(subject.adapter, list, TRUE);
    put_list(subject.adapter, list, TRUE);
}

/* PutScatterGatherList-03: a list given back twice; how many were made, and how many came back. */
TEST_UNTIDY(dma_rules, list__given_back_twice__stops_with_both_counts)
{
    const struct stop stop = expect_stop(put_twice, NULL, DRIVER_VERIFIER_DMA_VIOLATION, 0x06);

    EXPECT_EQ(stop.p[1], 1);
    EXPECT_EQ(stop.p[2], 2);
}

/* PutScatterGatherList-02: the other direction. */
WARN_TEST(dma_rules, list__given_back_with_another_direction__warns, "dma-direction")
{
    struct subject subject = make();

    put_list(subject.adapter, get_list(subject.adapter, subject.mdl, 0, BYTES, TRUE), FALSE);
    end(&subject);
}

/* ---- Adapters released too early, or used too late ------------------------------------------------------------- */

static void leave_buffers(void *context)
{
    uint64_t *const words = context;
    struct subject subject = make();
    PHYSICAL_ADDRESS la;

    words[0] = (uintptr_t)subject.adapter;
    subject.operations->AllocateCommonBuffer(subject.adapter, 100, &la, TRUE);
    subject.operations->AllocateCommonBuffer(subject.adapter, 100, &la, TRUE);
    put_adapter(subject.adapter);
}

/* PutDmaAdapter-02, IoGetDmaAdapter-10: common buffers are left. */
TEST_UNTIDY(dma_rules, adapter__released_with_buffers__stops_with_their_number)
{
    uint64_t *const words = shared_words();
    const struct stop stop = expect_stop(leave_buffers, words, DRIVER_VERIFIER_DMA_VIOLATION, 0x07);

    EXPECT_EQ(stop.p[1], words[0]);
    EXPECT_EQ(stop.p[2], 2);
}

/* PutDmaAdapter-02: a channel is kept. */
STOP_TEST(dma_rules, adapter__released_with_a_channel__stops, DRIVER_VERIFIER_DMA_VIOLATION, 0x08)
{
    struct subject subject = make();

    allocate(&subject, keep_object, 1);
    put_adapter(subject.adapter);
}

/* PutDmaAdapter-02: map registers are left. */
STOP_TEST(dma_rules, adapter__released_with_registers__stops, DRIVER_VERIFIER_DMA_VIOLATION, 0x09)
{
    struct subject subject = make();

    allocate(&subject, keep_registers, 1);
    put_adapter(subject.adapter);
}

/* PutDmaAdapter-02: a list is out. */
STOP_TEST(dma_rules, adapter__released_with_a_list__stops, DRIVER_VERIFIER_DMA_VIOLATION, 0x0A)
{
    struct subject subject = make();

    get_list(subject.adapter, subject.mdl, 0, BYTES, TRUE);
    put_adapter(subject.adapter);
}

static void use_released(void *context)
{
    uint64_t *const words = context;
    struct subject subject = make();

    words[0] = (uintptr_t)subject.adapter;
    put_adapter(subject.adapter);
    subject.operations->GetDmaAlignment(subject.adapter);
}

/* PutDmaAdapter-01, Driver_Verifier_DMA_verification-08: an adapter that was released. */
TEST_UNTIDY(dma_rules, adapter__used_after_release__stops_with_its_address)
{
    uint64_t *const words = shared_words();
    const struct stop stop = expect_stop(use_released, words, DRIVER_VERIFIER_DMA_VIOLATION, 0x18);

    EXPECT_EQ(stop.p[1], words[0]);
}

/* Driver_Verifier_DMA_verification-08: no adapter at all. */
STOP_TEST(dma_rules, adapter__null__stops, DRIVER_VERIFIER_DMA_VIOLATION, 0x19)
{
    struct subject subject = make();

    subject.operations->GetDmaAlignment(NULL);
}

/* IoGetDmaAdapter-12: a version that nobody knows. */
STOP_TEST(dma_rules, description__of_an_unknown_version__stops, DRIVER_VERIFIER_DMA_VIOLATION, 0x25)
{
    DEVICE_DESCRIPTION description = describe(0xCCCCCCCC, 64, TRUE, 65536);
    ULONG registers;

    IoGetDmaAdapter(NULL, &description, &registers);
}

/* IoGetDmaAdapter-03, DEVICE_DESCRIPTION-09: a description that was not zeroed. */
WARN_TEST(dma_rules, description__with_a_reserved_member_set__warns, "dma-description-not-zeroed")
{
    DEVICE_DESCRIPTION description = describe(DEVICE_DESCRIPTION_VERSION1, 64, TRUE, 65536);
    ULONG registers;

    description.Reserved1 = TRUE;
    put_adapter(IoGetDmaAdapter(NULL, &description, &registers));
}

/* ---- IRQL ------------------------------------------------------------------------------------------------------ */

static struct stop stop_at(void (*body)(void *), uint64_t kind, uint64_t expected, uint64_t current)
{
    const struct stop stop = expect_stop(body, NULL, DRIVER_VERIFIER_DMA_VIOLATION, 0x13);

    EXPECT_EQ(stop.p[1], kind);
    EXPECT_EQ(stop.p[2], expected);
    EXPECT_EQ(stop.p[3], current);
    return stop;
}

static void get_list_at_passive(void *context)
{
    struct subject subject = make();
    struct heard heard = {0};

    UNREFERENCED_PARAMETER(context);
    subject.operations->GetScatterGatherList(subject.adapter, NULL, subject.mdl, subject.va, BYTES, hear, &heard, TRUE);
}

static void put_list_at_passive(void *context)
{
    struct subject subject = make();

    UNREFERENCED_PARAMETER(context);
    subject.operations->PutScatterGatherList(subject.adapter, get_list(subject.adapter, subject.mdl, 0, BYTES, TRUE), TRUE);
}

static void allocate_channel_at_passive(void *context)
{
    struct subject subject = make();
    PVOID base;

    UNREFERENCED_PARAMETER(context);
    subject.operations->AllocateAdapterChannel(subject.adapter, NULL, 1, keep_object, &base);
}

static void free_channel_at_passive(void *context)
{
    struct subject subject = make();

    UNREFERENCED_PARAMETER(context);
    allocate(&subject, keep_object, 1);
    KeLowerIrql(PASSIVE_LEVEL);
    subject.operations->FreeAdapterChannel(subject.adapter);
}

static void free_registers_at_passive(void *context)
{
    struct subject subject = make();
    const PVOID base = allocate(&subject, keep_registers, 1);

    UNREFERENCED_PARAMETER(context);
    KeLowerIrql(PASSIVE_LEVEL);
    subject.operations->FreeMapRegisters(subject.adapter, base, 1);
}

static void allocate_buffer_at_dispatch(void *context)
{
    struct subject subject = make();
    PHYSICAL_ADDRESS la;

    UNREFERENCED_PARAMETER(context);
    raise_irql(DISPATCH_LEVEL);
    subject.operations->AllocateCommonBuffer(subject.adapter, 100, &la, TRUE);
}

static void free_buffer_at_dispatch(void *context)
{
    struct subject subject = make();
    PHYSICAL_ADDRESS la;
    const PVOID va = subject.operations->AllocateCommonBuffer(subject.adapter, 100, &la, TRUE);

    UNREFERENCED_PARAMETER(context);
    raise_irql(DISPATCH_LEVEL);
    subject.operations->FreeCommonBuffer(subject.adapter, 100, la, va, TRUE);
}

static void get_adapter_at_dispatch(void *context)
{
    UNREFERENCED_PARAMETER(context);
    raise_irql(DISPATCH_LEVEL);
    master(DEVICE_DESCRIPTION_VERSION1, 64, 65536);
}

static void get_alignment_at_dispatch(void *context)
{
    struct subject subject = make();

    UNREFERENCED_PARAMETER(context);
    raise_irql(DISPATCH_LEVEL);
    subject.operations->GetDmaAlignment(subject.adapter);
}

static void put_adapter_at_high(void *context)
{
    struct subject subject = make();

    UNREFERENCED_PARAMETER(context);
    raise_irql(HIGH_LEVEL);
    put_adapter(subject.adapter);
}

static void map_at_high(void *context)
{
    struct subject subject = make();
    const PVOID base = allocate(&subject, keep_registers, 3);

    UNREFERENCED_PARAMETER(context);
    raise_irql(HIGH_LEVEL);
    map(&subject, base, 0, BYTES);
}

static void flush_at_high(void *context)
{
    struct subject subject = make();
    const PVOID base = allocate(&subject, keep_registers, 3);

    UNREFERENCED_PARAMETER(context);
    map(&subject, base, 0, BYTES);
    raise_irql(HIGH_LEVEL);
    flush(&subject, base, 0, BYTES);
}

static void build_mdl_at_high(void *context)
{
    struct subject subject = make();
    const PSCATTER_GATHER_LIST list = get_list(subject.adapter, subject.mdl, 0, BYTES, TRUE);
    PMDL target;

    UNREFERENCED_PARAMETER(context);
    raise_irql(HIGH_LEVEL);
    subject.operations->BuildMdlFromScatterGatherList(subject.adapter, list, subject.mdl, &target);
}

/* GetScatterGatherList-10, PutScatterGatherList-03, AllocateAdapterChannel-07, FreeAdapterChannel-02, FreeMapRegisters-03,
   Driver_Verifier_DMA_verification-06,   DDI_compliance_rules_for_MDLs-03: routines for DISPATCH_LEVEL alone, called below it. */
TEST_UNTIDY(dma_rules, irql__below_dispatch_level__stops)
{
    stop_at(get_list_at_passive, 1, DISPATCH_LEVEL, PASSIVE_LEVEL);
    stop_at(put_list_at_passive, 1, DISPATCH_LEVEL, PASSIVE_LEVEL);
    stop_at(allocate_channel_at_passive, 1, DISPATCH_LEVEL, PASSIVE_LEVEL);
    stop_at(free_channel_at_passive, 1, DISPATCH_LEVEL, PASSIVE_LEVEL);
    stop_at(free_registers_at_passive, 1, DISPATCH_LEVEL, PASSIVE_LEVEL);
}

/* IoGetDmaAdapter-11, AllocateCommonBuffer-01, FreeCommonBuffer-01, GetDmaAlignment-01: routines for PASSIVE_LEVEL, called above it. */
TEST_UNTIDY(dma_rules, irql__above_passive_level__stops)
{
    stop_at(get_adapter_at_dispatch, 1, PASSIVE_LEVEL, DISPATCH_LEVEL);
    stop_at(allocate_buffer_at_dispatch, 1, PASSIVE_LEVEL, DISPATCH_LEVEL);
    stop_at(free_buffer_at_dispatch, 1, PASSIVE_LEVEL, DISPATCH_LEVEL);
    stop_at(get_alignment_at_dispatch, 1, PASSIVE_LEVEL, DISPATCH_LEVEL);
}

/* PutDmaAdapter-03, MapTransfer-08, FlushAdapterBuffers-05, BuildMdlFromScatterGatherList-21: routines for up to DISPATCH_LEVEL, called above it. */
TEST_UNTIDY(dma_rules, irql__above_dispatch_level__stops)
{
    stop_at(put_adapter_at_high, 2, DISPATCH_LEVEL, HIGH_LEVEL);
    stop_at(map_at_high, 2, DISPATCH_LEVEL, HIGH_LEVEL);
    stop_at(flush_at_high, 2, DISPATCH_LEVEL, HIGH_LEVEL);
    stop_at(build_mdl_at_high, 2, DISPATCH_LEVEL, HIGH_LEVEL);
}

/* ---- Channels and registers ------------------------------------------------------------------------------------ */

static IO_ALLOCATION_ACTION allocate_again(PDEVICE_OBJECT DeviceObject, PIRP Irp, PVOID MapRegisterBase, PVOID Context)
{
    struct subject *const subject = Context;

    UNREFERENCED_PARAMETER(Irp);
    UNREFERENCED_PARAMETER(MapRegisterBase);
    subject->operations->AllocateAdapterChannel(subject->adapter, DeviceObject, 1, allocate_again, subject);
    return DeallocateObject;
}

/* AllocateAdapterChannel-06: a request from inside the routine of the last one. */
STOP_TEST(dma_rules, channel__asked_for_inside_its_routine__stops, DRIVER_VERIFIER_DMA_VIOLATION, 0x0B)
{
    struct subject subject = make();

    raise_irql(DISPATCH_LEVEL);
    subject.operations->AllocateAdapterChannel(subject.adapter, subject.device, 1, allocate_again, &subject);
}

/* AllocateAdapterChannel-06: a second request of a device while the first one waits. */
STOP_TEST(dma_rules, channel__asked_for_twice_by_one_device__stops, DRIVER_VERIFIER_DMA_VIOLATION, 0x0B)
{
    struct subject subject = make();
    PVOID base;

    raise_irql(DISPATCH_LEVEL);
    subject.operations->AllocateAdapterChannel(subject.adapter, pinion_device_create("other"), 1, keep_object, &base);
    subject.operations->AllocateAdapterChannel(subject.adapter, subject.device, 1, keep_object, &base);
    subject.operations->AllocateAdapterChannel(subject.adapter, subject.device, 1, keep_object, &base);
}

static void map_too_much(void *context)
{
    struct subject subject = make_with(describe(DEVICE_DESCRIPTION_VERSION1, 32, FALSE, 65536));

    UNREFERENCED_PARAMETER(context);
    map(&subject, allocate(&subject, keep_registers, 2), 0, BYTES);
}

/* MapTransfer-05, Driver_Verifier_DMA_verification-07: more pages than map registers. */
TEST_UNTIDY(dma_rules, map__of_more_pages_than_registers__stops)
{
    const struct stop stop = expect_stop(map_too_much, NULL, DRIVER_VERIFIER_DMA_VIOLATION, 0x0C);

    EXPECT_EQ(stop.p[1], 3);
    EXPECT_EQ(stop.p[2], 2);
}

/* AdapterControl-03: a base that no routine was given. */
STOP_TEST(dma_rules, map__with_another_base__stops, DRIVER_VERIFIER_DMA_VIOLATION, 0x0C)
{
    struct subject subject = make();

    allocate(&subject, keep_registers, 2);
    map(&subject, &subject, 0, 100);
}

static void map_without_flush(void *context)
{
    struct subject subject = make();
    const PVOID base = allocate(&subject, keep_registers, 2);

    UNREFERENCED_PARAMETER(context);
    map(&subject, base, 0, 2 * PAGE_SIZE);
    map(&subject, base, 2 * PAGE_SIZE, PAGE_SIZE);
}

/* FlushAdapterBuffers-04, Driver_Verifier_DMA_verification-07: the next operation without a flush. */
TEST_UNTIDY(dma_rules, map__without_a_flush_between__stops_with_the_bytes)
{
    const struct stop stop = expect_stop(map_without_flush, NULL, DRIVER_VERIFIER_DMA_VIOLATION, 0x0D);

    EXPECT_EQ(stop.p[1], 2 * PAGE_SIZE);
    EXPECT_EQ(stop.p[2], 2 * PAGE_SIZE);
}

/* MapTransferEx-07: the same with the routine of version 3. */
STOP_TEST(dma_rules, map_ex__without_a_flush_between__stops, DRIVER_VERIFIER_DMA_VIOLATION, 0x0D)
{
    struct subject subject = make_with(describe(DEVICE_DESCRIPTION_VERSION3, 32, TRUE, 65536));
    const PVOID base = allocate(&subject, keep_registers, 8);
    static UCHAR space[1024];

    for (ULONGLONG off = 0; off < BYTES; off += PAGE_SIZE) {
        ULONG length = PAGE_SIZE;

        subject.operations->MapTransferEx(subject.adapter, subject.mdl, base, off, 0, &length, TRUE, (PSCATTER_GATHER_LIST)space,
                                          sizeof(space), NULL, NULL);
    }
}

/* FlushAdapterBuffers-04: registers are freed while they are mapped. */
STOP_TEST(dma_rules, registers__freed_while_mapped__stops, DRIVER_VERIFIER_DMA_VIOLATION, 0x10)
{
    struct subject subject = make();
    const PVOID base = allocate(&subject, keep_registers, 3);

    map(&subject, base, 0, BYTES);
    subject.operations->FreeMapRegisters(subject.adapter, base, 3);
}

/* FlushAdapterBuffers-04: a part that is not mapped. */
STOP_TEST(dma_rules, flush__of_another_part__stops, DRIVER_VERIFIER_DMA_VIOLATION, 0x16)
{
    struct subject subject = make();
    const PVOID base = allocate(&subject, keep_registers, 3);

    map(&subject, base, 0, 100);
    flush(&subject, base, 200, 100);
}

/* FlushAdapterBuffers-04: nothing is mapped. */
STOP_TEST(dma_rules, flush__before_any_map__stops, DRIVER_VERIFIER_DMA_VIOLATION, 0x20)
{
    struct subject subject = make();

    flush(&subject, allocate(&subject, keep_registers, 3), 0, BYTES);
}

/* Driver_Verifier_DMA_verification-01: more bytes than the MDL has. */
STOP_TEST(dma_rules, flush__of_too_many_bytes__stops, DRIVER_VERIFIER_DMA_VIOLATION, 0x00)
{
    struct subject subject = make();
    const PVOID base = allocate(&subject, keep_registers, 3);

    map(&subject, base, 0, BYTES);
    flush(&subject, base, 0, BYTES + 1);
}

/* ---- Buffers --------------------------------------------------------------------------------------------------- */

static void transfer_unlocked(void *context)
{
    uint64_t *const words = context;
    struct subject subject = make();
    const PMDL mdl = mdl_over(subject.va, BYTES);
    struct heard heard = {0};

    words[0] = (uintptr_t)mdl;
    ask_for_list(subject.adapter, mdl, 0, BYTES, TRUE, &heard);
}

/* MapTransfer-06, Driver_Verifier_DMA_verification-02: pages that are not locked. */
TEST_UNTIDY(dma_rules, list__over_unlocked_pages__stops_with_the_mdl)
{
    uint64_t *const words = shared_words();
    const struct stop stop = expect_stop(transfer_unlocked, words, DRIVER_VERIFIER_DMA_VIOLATION, 0x0E);

    EXPECT_EQ(stop.p[1], words[0]);
}

/* Driver_Verifier_DMA_verification-02, FlushAdapterBuffers-04: pages that are unlocked before they are flushed. */
STOP_TEST(dma_rules, flush__of_pages_unlocked_meanwhile__stops, DRIVER_VERIFIER_DMA_VIOLATION, 0x0E)
{
    struct subject subject = make();
    const PVOID base = allocate(&subject, keep_registers, 3);

    map(&subject, base, 0, BYTES);
    MmUnlockPages(subject.mdl);
    flush(&subject, base, 0, BYTES);
}

/* The same for a device that needs no copies, with the routines of version 3. */
STOP_TEST(dma_rules, flush_ex__of_pages_unlocked_meanwhile__stops, DRIVER_VERIFIER_DMA_VIOLATION, 0x0E)
{
    struct subject subject = make_with(describe(DEVICE_DESCRIPTION_VERSION3, 64, TRUE, 65536));
    const PVOID base = allocate(&subject, keep_registers, 8);
    static UCHAR space[1024];
    ULONG length = BYTES;

    subject.operations->MapTransferEx(subject.adapter, subject.mdl, base, 0, 0, &length, FALSE, (PSCATTER_GATHER_LIST)space,
                                      sizeof(space), NULL, NULL);
    MmUnlockPages(subject.mdl);
    subject.operations->FlushAdapterBuffersEx(subject.adapter, subject.mdl, base, 0, BYTES, FALSE);
}

/* Driver_Verifier_DMA_verification-02: a transfer of version 3 over pages that are not locked, second in their chain. */
STOP_TEST(dma_rules, list_ex__over_unlocked_pages__stops, DRIVER_VERIFIER_DMA_VIOLATION, 0x0E)
{
    struct subject subject = make_with(describe(DEVICE_DESCRIPTION_VERSION3, 64, TRUE, 65536));
    ULONG_PTR transfer[DMA_TRANSFER_CONTEXT_SIZE_V1 / sizeof(ULONG_PTR)];
    PSCATTER_GATHER_LIST list;

    subject.mdl->Next = mdl_over(subject.va, 100);
    subject.operations->InitializeDmaTransferContext(subject.adapter, transfer);
    subject.operations->GetScatterGatherListEx(subject.adapter, NULL, transfer, subject.mdl, BYTES - 1, 2, DMA_SYNCHRONOUS_CALLBACK, NULL,
                                               NULL, TRUE, NULL, NULL, &list);
}

/* MmAdvanceMdl-15, Driver_Verifier_DMA_verification-02: pages that are passed, and so unlocked, while a list has them. */
STOP_TEST(dma_rules, list__of_an_mdl_advanced_meanwhile__stops, DRIVER_VERIFIER_DMA_VIOLATION, 0x0E)
{
    struct subject subject = make_with(describe(DEVICE_DESCRIPTION_VERSION2, 64, TRUE, 65536));
    const PSCATTER_GATHER_LIST list = get_list(subject.adapter, subject.mdl, 0, BYTES, FALSE);

    MmAdvanceMdl(subject.mdl, PAGE_SIZE);
    put_list(subject.adapter, list, FALSE);
}

/* An MDL advanced beforehand, inside the first page of a list, or beyond what the list has, keeps the list's pages locked. */
SILENT_TEST(dma_rules, list__whose_pages_no_advance_passes__is_silent)
{
    struct subject subject = make();
    PSCATTER_GATHER_LIST list;

    EXPECT_STATUS(MmAdvanceMdl(subject.mdl, PAGE_SIZE + 10), STATUS_SUCCESS);
    list = get_list(subject.adapter, subject.mdl, 0, BYTES - PAGE_SIZE - 10, FALSE);
    EXPECT_STATUS(MmAdvanceMdl(subject.mdl, 100), STATUS_SUCCESS);
    put_list(subject.adapter, list, FALSE);
    list = get_list(subject.adapter, subject.mdl, PAGE_SIZE, 100, FALSE);
    EXPECT_STATUS(MmAdvanceMdl(subject.mdl, PAGE_SIZE), STATUS_SUCCESS);
    put_list(subject.adapter, list, FALSE);
    end(&subject);
}

/* Driver_Verifier_DMA_verification-02: pages that were unlocked while the list was out, as when the IRP is completed too early. */
STOP_TEST(dma_rules, list__unlocked_before_the_put__stops, DRIVER_VERIFIER_DMA_VIOLATION, 0x0E)
{
    struct subject subject = make();
    const PSCATTER_GATHER_LIST list = get_list(subject.adapter, subject.mdl, 0, BYTES, TRUE);

    MmUnlockPages(subject.mdl);
    put_list(subject.adapter, list, TRUE);
}

/* The same with the MDL freed. */
STOP_TEST_ANY_P1(dma_rules, list__freed_before_the_put__stops, 0xCC)
{
    struct subject subject = make();
    const PSCATTER_GATHER_LIST list = get_list(subject.adapter, subject.mdl, 0, BYTES, TRUE);

    unlock_and_free(subject.mdl);
    put_list(subject.adapter, list, TRUE);
}

/* MapTransfer-06: an address outside the MDL. */
STOP_TEST(dma_rules, map__outside_the_mdl__stops, DRIVER_VERIFIER_DMA_VIOLATION, 0x1B)
{
    struct subject subject = make();

    map(&subject, allocate(&subject, keep_registers, 3), BYTES, 1);
}

static void list_before(void *context)
{
    struct subject subject = make();
    struct heard heard = {0};

    UNREFERENCED_PARAMETER(context);
    raise_irql(DISPATCH_LEVEL);
    subject.operations->GetScatterGatherList(subject.adapter, NULL, subject.mdl, subject.va - 1, 1, hear, &heard, TRUE);
}

static void list_after(void *context)
{
    struct subject subject = make();
    struct heard heard = {0};

    UNREFERENCED_PARAMETER(context);
    ask_for_list(subject.adapter, subject.mdl, BYTES, 1, TRUE, &heard);
}

static void map_past_the_end(void *context)
{
    struct subject subject = make();

    UNREFERENCED_PARAMETER(context);
    map(&subject, allocate(&subject, keep_registers, 4), 0, BYTES + 1);
}

/* Driver_Verifier_DMA_verification-04, MapTransfer-06: before the first MDL, after it, and a length that leaves the last page. */
TEST_UNTIDY(dma_rules, range__outside_the_buffer__stops)
{
    EXPECT_EQ(expect_stop(list_before, NULL, DRIVER_VERIFIER_DMA_VIOLATION, 0x1F).p[1], 1);
    EXPECT_EQ(expect_stop(list_after, NULL, DRIVER_VERIFIER_DMA_VIOLATION, 0x1F).p[1], 2);
    EXPECT_EQ(expect_stop(map_past_the_end, NULL, DRIVER_VERIFIER_DMA_VIOLATION, 0x1F).p[1], 3);
}

static void map_outside_unverified(void *context)
{
    struct subject subject;

    UNREFERENCED_PARAMETER(context);
    boot("verifier=off");
    subject = make();
    map(&subject, allocate(&subject, keep_registers, 3), BYTES, 1);
}

/* MapTransfer-06: without the verifier there is nothing to map there either. */
TEST_UNTIDY(dma_rules, map__outside_the_buffer_with_the_verifier_off__stops)
{
    expect_stop(map_outside_unverified, NULL, DRIVER_VERIFIER_DMA_VIOLATION, 0x1B);
}

/* MapTransfer-06: part of the range is mapped already. */
STOP_TEST(dma_rules, map__of_a_mapped_range__stops, DRIVER_VERIFIER_DMA_VIOLATION, 0x1D)
{
    struct subject subject = make();
    const PVOID base = allocate(&subject, keep_registers, 3);

    map(&subject, base, 0, 100);
    map(&subject, base, 99, 100);
}

/* MapTransfer-06: no bytes. */
STOP_TEST(dma_rules, map__of_nothing__stops, DRIVER_VERIFIER_DMA_VIOLATION, 0x21)
{
    struct subject subject = make();

    map(&subject, allocate(&subject, keep_registers, 3), 0, 0);
}

/* ---- Overruns -------------------------------------------------------------------------------------------------- */

/* Damages a byte at `off` from the start of a common buffer of 100 bytes, and frees it. */
static void damage(void *context)
{
    struct subject subject = make();
    PHYSICAL_ADDRESS la;
    UCHAR *const va = subject.operations->AllocateCommonBuffer(subject.adapter, 100, &la, TRUE);

    va[*(const long *)context] ^= 1;
    subject.operations->FreeCommonBuffer(subject.adapter, 100, la, va, TRUE);
}

/* AllocateCommonBuffer-04, Driver_Verifier_DMA_verification-05: the tags next to a buffer, and the padding beyond them. */
TEST_UNTIDY(dma_rules, common_buffer__with_damaged_surroundings__stops)
{
    static const struct {
        long off;
        uint64_t kind;
    } cases[] = {{-1, 1}, {-8, 1}, {100, 2}, {107, 2}, {-9, 4}, {-4096, 4}, {108, 5}, {8191, 5}};

    for (SIZE_T i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        long off = cases[i].off;
        const struct stop stop = expect_stop(damage, &off, DRIVER_VERIFIER_DMA_VIOLATION, 0x0F);

        EXPECT_EQ(stop.p[1], cases[i].kind);
    }
}

/* Driver_Verifier_DMA_verification-05: a map register that nobody has is written to. */
static void damage_register(void *context)
{
    struct subject subject = make();
    const PSCATTER_GATHER_LIST list = get_list(subject.adapter, subject.mdl, 0, BYTES, FALSE);
    const PMDL mdl = mdl_over(NULL, PAGE_SIZE);
    UCHAR *view;

    UNREFERENCED_PARAMETER(context);
    MmGetMdlPfnArray(mdl)[0] = (PFN_NUMBER)list->Elements[0].Address.QuadPart >> PAGE_SHIFT;
    mdl->MdlFlags |= MDL_PAGES_LOCKED;
    view = system_address(mdl);
    put_list(subject.adapter, list, FALSE);
    view[17] = 1;
    get_list(subject.adapter, subject.mdl, 0, BYTES, FALSE);
}

TEST_UNTIDY(dma_rules, register__written_to_while_free__stops)
{
    EXPECT_EQ(expect_stop(damage_register, NULL, DRIVER_VERIFIER_DMA_VIOLATION, 0x0F).p[1], 3);
}

/* ---- Reports --------------------------------------------------------------------------------------------------- */

/* IoGetDmaAdapter-10: what is left at the end is told, and counted. */
TEST_UNTIDY(dma_rules, shutdown__with_things_left__counts_each)
{
    struct subject subject = make();
    PHYSICAL_ADDRESS la;

    get_list(subject.adapter, subject.mdl, 0, BYTES, TRUE);
    subject.operations->AllocateCommonBuffer(subject.adapter, 100, &la, TRUE);
    unlock_and_free(subject.mdl);
    EXPECT_EQ(pinion_shutdown(), 3);
}

static void switched_off(void *context)
{
    struct subject subject;

    UNREFERENCED_PARAMETER(context);
    boot("verifier=0x939");
    subject = make();
    put_list(subject.adapter, get_list(subject.adapter, subject.mdl, 0, BYTES, TRUE), FALSE);
    end(&subject);
    EXPECT_EQ(pinion_shutdown(), 0);
}

/* Driver_Verifier_DMA_verification-01: without flag 0x80 there is no DMA verification. */
TEST_UNTIDY(dma_rules, verification__switched_off__is_silent)
{
    const struct stop end_of_it = run_until_stop(switched_off, NULL);

    EXPECT_EQ(end_of_it.exit_status, 0);
    EXPECT_EQ(stop_warnings(&end_of_it, NULL), 0);
}
