/* SPDX-License-Identifier: MIT */
/*
 * Requests that a driver builds for the device below it: IoBuildSynchronousFsdRequest, IoBuildAsynchronousFsdRequest,
 * IoBuildDeviceIoControlRequest. What is in the IRP, what comes back, and who frees what.
 */

#include "io_stack.h"
#include "support.h"

#include <stdlib.h>

/* ---- what the driver below finds --------------------------------------------------------------------------------- */

static IRP seen;
static IO_STACK_LOCATION seen_location;
static MDL seen_mdl;
static uint64_t seen_locked;

static void look(PIRP irp)
{
    seen = *irp;
    seen_location = *IoGetCurrentIrpStackLocation(irp);
    seen_mdl = irp->MdlAddress != NULL ? *irp->MdlAddress : (MDL){0};
    seen_locked = counters_now().locked_pages;
}

static NTSTATUS look_and_succeed(HARNESS_UNUSED struct layer *layer, PIRP irp)
{
    look(irp);
    return layer_complete(irp, STATUS_SUCCESS, 0);
}

static NTSTATUS look_and_hold(struct layer *layer, PIRP irp)
{
    look(irp);
    return hold(layer, irp);
}

static NTSTATUS look_and_fail(HARNESS_UNUSED struct layer *layer, PIRP irp)
{
    look(irp);
    return layer_complete(irp, STATUS_IO_DEVICE_ERROR, 17);
}

/* A synchronous caller's part. */
struct wait {
    KEVENT event;
    IO_STATUS_BLOCK status_block;
};

static void wait_init(struct wait *wait)
{
    KeInitializeEvent(&wait->event, NotificationEvent, FALSE);
    wait->status_block = (IO_STATUS_BLOCK){.Status = 0x5A5A5A5A, .Information = 0x5A5A};
}

static void expect_not_over(struct wait *wait)
{
    EXPECT_EQ(KeReadStateEvent(&wait->event), 0);
    EXPECT_STATUS(wait->status_block.Status, 0x5A5A5A5A);
    EXPECT_EQ(wait->status_block.Information, 0x5A5A);
}

static void expect_over(struct wait *wait, NTSTATUS status, ULONG_PTR information)
{
    EXPECT_STATUS(KeWaitForSingleObject(&wait->event, Executive, KernelMode, FALSE, NULL), STATUS_SUCCESS);
    EXPECT_STATUS(wait->status_block.Status, status);
    EXPECT_EQ(wait->status_block.Information, information);
}

static PIRP build_sync(struct layer *layer, ULONG major, PVOID buffer, ULONG bytes, LONGLONG offset, struct wait *wait)
{
    LARGE_INTEGER start = {.QuadPart = offset};

    wait_init(wait);
    return IoBuildSynchronousFsdRequest(major, layer->device, buffer, bytes, &start, &wait->event, &wait->status_block);
}

static void send_sync(struct layer *layer, ULONG major, PVOID buffer, ULONG bytes, LONGLONG offset, NTSTATUS status,
                      ULONG_PTR information)
{
    struct wait wait;
    PIRP irp = build_sync(layer, major, buffer, bytes, offset, &wait);

    EXPECT(irp != NULL);
    EXPECT_STATUS(IoCallDriver(layer->device, irp), status);
    expect_over(&wait, status, information);
}

/* IoBuildSynchronousFsdRequest-01 IoBuildAsynchronousFsdRequest-01 IoBuildDeviceIoControlRequest-01: the routines have
   the types of their pages. */
TEST(io_build, prototypes__are_the_documented_ones)
{
    PIRP (*sync)(ULONG, PDEVICE_OBJECT, PVOID, ULONG, PLARGE_INTEGER, PKEVENT, PIO_STATUS_BLOCK) = &IoBuildSynchronousFsdRequest;
    PIRP (*async)(ULONG, PDEVICE_OBJECT, PVOID, ULONG, PLARGE_INTEGER, PIO_STATUS_BLOCK) = &IoBuildAsynchronousFsdRequest;
    PIRP (*control)(ULONG, PDEVICE_OBJECT, PVOID, ULONG, PVOID, ULONG, BOOLEAN, PKEVENT, PIO_STATUS_BLOCK) =
        &IoBuildDeviceIoControlRequest;

    EXPECT(sync != NULL && async != NULL && control != NULL);
}

/* ---- synchronous ------------------------------------------------------------------------------------------------- */

static void expect_transfer_location(PIRP irp, struct layer *layer, UCHAR major, ULONG bytes, LONGLONG offset)
{
    const PIO_STACK_LOCATION next = IoGetNextIrpStackLocation(irp);

    EXPECT_EQ(next->MajorFunction, major);
    EXPECT_EQ(next->Parameters.Read.Length, bytes);
    EXPECT_EQ(next->Parameters.Read.ByteOffset.QuadPart, offset);
    EXPECT_EQ(irp->StackCount, layer->device->StackSize);
    EXPECT_EQ(irp->CurrentLocation, irp->StackCount + 1);
    EXPECT_EQ(irp->RequestorMode, KernelMode);
    EXPECT_PTR_EQ(irp->Tail.Overlay.Thread, PsGetCurrentThread());
}

/* IoBuildSynchronousFsdRequest-01 IoBuildSynchronousFsdRequest-02 IRP-01: at APC_LEVEL, for a device with DO_DIRECT_IO,
   the IRP has the parameters in its next location and an MDL whose pages are locked for what the transfer does to them. */
TEST(io_build, sync__direct__has_a_locked_mdl)
{
    static const struct { UCHAR major; unsigned write_flag; } rows[] = {{IRP_MJ_READ, MDL_WRITE_OPERATION}, {IRP_MJ_WRITE, 0}};
    struct layer layer;
    UCHAR *pool = pool_pages(4);

    layer_create(&layer, DO_DIRECT_IO, look_and_succeed);
    for (unsigned i = 0; i < 2; i++) {
        struct wait wait;
        const KIRQL irql = raise_irql(APC_LEVEL);
        PIRP irp = build_sync(&layer, rows[i].major, pool + 100, 9000, 0x123456789, &wait);

        KeLowerIrql(irql);
        expect_transfer_location(irp, &layer, rows[i].major, 9000, 0x123456789);
        EXPECT_PTR_EQ(MmGetMdlVirtualAddress(irp->MdlAddress), pool + 100);
        EXPECT_EQ(MmGetMdlByteCount(irp->MdlAddress), 9000);
        EXPECT_EQ(irp->MdlAddress->MdlFlags & (MDL_PAGES_LOCKED | MDL_WRITE_OPERATION), MDL_PAGES_LOCKED | rows[i].write_flag);
        EXPECT_EQ(counters_now().locked_pages, 3);
        EXPECT_PTR_EQ(irp->AssociatedIrp.SystemBuffer, NULL);
        EXPECT_PTR_EQ(irp->UserIosb, &wait.status_block);
        EXPECT_PTR_EQ(irp->UserEvent, &wait.event);
        EXPECT_STATUS(IoCallDriver(layer.device, irp), STATUS_SUCCESS);
    }
    layer_destroy(&layer);
    ExFreePoolWithTag(pool, TEST_TAG);
}

static NTSTATUS fill_system_buffer(HARNESS_UNUSED struct layer *layer, PIRP irp)
{
    look(irp);
    fill_pattern(irp->AssociatedIrp.SystemBuffer, 700, 9);
    return layer_complete(irp, STATUS_SUCCESS, 600);
}

/* IoBuildSynchronousFsdRequest-02 IRP-02: for a device with DO_BUFFERED_IO a read has a system buffer, of which as much
   as was read comes back. */
TEST(io_build, sync__buffered_read__brings_what_was_read)
{
    struct layer layer;
    UCHAR *buffer = calloc(1, 700);
    static const UCHAR untouched[100];

    layer_create(&layer, DO_BUFFERED_IO, fill_system_buffer);
    send_sync(&layer, IRP_MJ_READ, buffer, 700, 0, STATUS_SUCCESS, 600);
    EXPECT_PATTERN(buffer, 600, 9);
    EXPECT_MEM_EQ(buffer + 600, untouched, 100);
    EXPECT_PTR_EQ(seen.MdlAddress, NULL);
    EXPECT(seen.AssociatedIrp.SystemBuffer != buffer);
    layer_destroy(&layer);
    free(buffer);
}

static NTSTATUS check_system_buffer(HARNESS_UNUSED struct layer *layer, PIRP irp)
{
    look(irp);
    EXPECT_PATTERN(irp->AssociatedIrp.SystemBuffer, 700, 8);
    memset(irp->AssociatedIrp.SystemBuffer, 0, 700);
    return layer_complete(irp, STATUS_SUCCESS, 700);
}

/* IoBuildSynchronousFsdRequest-02: of a write it is a copy, and nothing comes back. */
TEST(io_build, sync__buffered_write__is_a_copy)
{
    struct layer layer;
    UCHAR *buffer = malloc(700);

    fill_pattern(buffer, 700, 8);
    layer_create(&layer, DO_BUFFERED_IO, check_system_buffer);
    send_sync(&layer, IRP_MJ_WRITE, buffer, 700, 0, STATUS_SUCCESS, 700);
    EXPECT_PATTERN(buffer, 700, 8);
    layer_destroy(&layer);
    free(buffer);
}

/* IoBuildSynchronousFsdRequest-02 IRP-01 IRP-03: for a device with neither flag the address goes down as it is. */
TEST(io_build, sync__neither__passes_the_address)
{
    struct layer layer;
    UCHAR buffer[16];

    layer_create(&layer, 0, look_and_succeed);
    send_sync(&layer, IRP_MJ_READ, buffer, sizeof(buffer), 0, STATUS_SUCCESS, 0);
    EXPECT_PTR_EQ(seen.UserBuffer, buffer);
    EXPECT_PTR_EQ(seen.MdlAddress, NULL);
    EXPECT_PTR_EQ(seen.AssociatedIrp.SystemBuffer, NULL);
    layer_destroy(&layer);
}

/* IoBuildSynchronousFsdRequest-02: flush, shutdown and Plug and Play requests have no buffer, and no offset is needed. */
TEST(io_build, sync__without_a_buffer__carries_the_major_function)
{
    static const UCHAR majors[] = {IRP_MJ_FLUSH_BUFFERS, IRP_MJ_SHUTDOWN, IRP_MJ_PNP};
    struct layer layer;

    layer_create(&layer, DO_DIRECT_IO, look_and_succeed);
    for (unsigned i = 0; i < sizeof(majors); i++) {
        struct wait wait;
        PIRP irp;

        wait_init(&wait);
        irp = IoBuildSynchronousFsdRequest(majors[i], layer.device, NULL, 0, NULL, &wait.event, &wait.status_block);
        EXPECT_STATUS(IoCallDriver(layer.device, irp), STATUS_SUCCESS);
        expect_over(&wait, STATUS_SUCCESS, 0);
        EXPECT_EQ(seen_location.MajorFunction, majors[i]);
        EXPECT_PTR_EQ(seen.MdlAddress, NULL);
    }
    layer_destroy(&layer);
}

/* A transfer of no bytes has no MDL, and nothing to unlock. */
TEST(io_build, sync__no_bytes__has_no_mdl)
{
    struct layer layer;

    layer_create(&layer, DO_DIRECT_IO, look_and_succeed);
    send_sync(&layer, IRP_MJ_READ, NULL, 0, 0, STATUS_SUCCESS, 0);
    EXPECT_PTR_EQ(seen.MdlAddress, NULL);
    layer_destroy(&layer);
}

/* IoBuildSynchronousFsdRequest-03: at the end the event is set, the status block filled, and IRP, MDL and locks are gone;
   not before, and whatever the status. */
TEST(io_build, sync__completed_later__tells_and_frees_everything)
{
    struct layer layer;
    UCHAR *pool = pool_pages(2);
    struct pinion_counters before;
    struct wait wait;
    PIRP irp;

    layer_create(&layer, DO_DIRECT_IO, look_and_hold);
    before = counters_now();
    for (int failed = 0; failed <= 1; failed++) {
        irp = build_sync(&layer, IRP_MJ_READ, pool, 2 * PAGE_SIZE, 0, &wait);
        EXPECT_STATUS(IoCallDriver(layer.device, irp), STATUS_PENDING);
        expect_not_over(&wait);
        EXPECT_EQ(counters_now().locked_pages, before.locked_pages + 2);
        layer_complete(layer.held, failed ? STATUS_IO_DEVICE_ERROR : STATUS_SUCCESS, 77);
        expect_over(&wait, failed ? STATUS_IO_DEVICE_ERROR : STATUS_SUCCESS, 77);
        EXPECT_SAME_COUNTERS(before);
    }
    layer_destroy(&layer);
    ExFreePoolWithTag(pool, TEST_TAG);
}

/* IoBuildSynchronousFsdRequest-03: the same for one that fails at once. */
TEST(io_build, sync__fails_at_once__tells)
{
    struct layer layer;
    UCHAR buffer[16];

    layer_create(&layer, DO_DIRECT_IO, look_and_fail);
    send_sync(&layer, IRP_MJ_READ, buffer, sizeof(buffer), 0, STATUS_IO_DEVICE_ERROR, 17);
    layer_destroy(&layer);
}

/* IoBuildSynchronousFsdRequest-03: a driver must not free it. */
STOP_TEST(io_build, sync__freed_by_the_driver__stops, 0xC9, 0x02)
{
    struct layer layer;
    struct wait wait;

    layer_create(&layer, 0, look_and_succeed);
    IoFreeIrp(build_sync(&layer, IRP_MJ_READ, NULL, 0, 0, &wait));
}

/* A driver that has built one and cannot send it completes it where it is. */
TEST(io_build, sync__never_sent__is_completed_in_place)
{
    struct layer layer;
    UCHAR *pool = pool_pages(1);
    struct pinion_counters before;
    struct wait wait;

    layer_create(&layer, DO_DIRECT_IO, look_and_succeed);
    before = counters_now();
    layer_complete(build_sync(&layer, IRP_MJ_READ, pool, PAGE_SIZE, 0, &wait), STATUS_CANCELLED, 0);
    expect_over(&wait, STATUS_CANCELLED, 0);
    EXPECT_SAME_COUNTERS(before);
    layer_destroy(&layer);
    ExFreePoolWithTag(pool, TEST_TAG);
}

/* ---- asynchronous ------------------------------------------------------------------------------------------------ */

/* IoBuildAsynchronousFsdRequest-01: it names the calling thread, and does not belong to it. */
TEST(io_build, async__belongs_to_no_thread)
{
    struct layer layer;
    UCHAR *pool = pool_pages(1);
    LARGE_INTEGER offset = {.QuadPart = 4096};
    IO_STATUS_BLOCK status_block;
    KIRQL irql;
    PIRP irp;

    layer_create(&layer, DO_DIRECT_IO, look_and_succeed);
    irql = raise_irql(APC_LEVEL);
    irp = IoBuildAsynchronousFsdRequest(IRP_MJ_WRITE, layer.device, pool, 512, &offset, &status_block);
    KeLowerIrql(irql);
    expect_transfer_location(irp, &layer, IRP_MJ_WRITE, 512, 4096);
    EXPECT_PTR_EQ(irp->UserIosb, &status_block);
    EXPECT_PTR_EQ(irp->UserEvent, NULL);
    EXPECT_PTR_EQ(irp->ThreadListEntry.Flink, &irp->ThreadListEntry);
    unlock_and_free(irp->MdlAddress);
    IoFreeIrp(irp);
    layer_destroy(&layer);
    ExFreePoolWithTag(pool, TEST_TAG);
}

static NTSTATUS free_all(HARNESS_UNUSED PDEVICE_OBJECT device, PIRP irp, PVOID context)
{
    *(PIO_STATUS_BLOCK)context = irp->IoStatus;
    if (irp->MdlAddress != NULL)
        unlock_and_free(irp->MdlAddress);
    if (irp->Flags & IRP_DEALLOCATE_BUFFER)
        ExFreePool(irp->AssociatedIrp.SystemBuffer);
    IoFreeIrp(irp);
    return STATUS_MORE_PROCESSING_REQUIRED;
}

/* IoBuildAsynchronousFsdRequest-02: over pool, for a device with DO_DIRECT_IO, the pages are locked until the completion
   routine unlocks them; unlock, free the MDL, free the IRP leaves nothing. */
TEST(io_build, async__direct__completion_routine_frees_all)
{
    struct layer layer;
    UCHAR *pool = pool_pages(3);
    struct pinion_counters before;
    IO_STATUS_BLOCK outcome = {0};
    PIRP irp;

    layer_create(&layer, DO_DIRECT_IO, look_and_succeed);
    before = counters_now();
    irp = IoBuildAsynchronousFsdRequest(IRP_MJ_READ, layer.device, pool, 3 * PAGE_SIZE, NULL, NULL);
    EXPECT_EQ(counters_now().locked_pages, before.locked_pages + 3);
    IoSetCompletionRoutine(irp, free_all, &outcome, TRUE, TRUE, TRUE);
    EXPECT_STATUS(IoCallDriver(layer.device, irp), STATUS_SUCCESS);
    EXPECT_STATUS(outcome.Status, STATUS_SUCCESS);
    EXPECT_EQ(seen_locked, before.locked_pages + 3);
    EXPECT_SAME_COUNTERS(before);
    layer_destroy(&layer);
    ExFreePoolWithTag(pool, TEST_TAG);
}

/* A buffered one has a system buffer that is the driver's to free. */
TEST(io_build, async__buffered__completion_routine_frees_the_system_buffer)
{
    struct layer layer;
    UCHAR buffer[700];
    IO_STATUS_BLOCK outcome = {0};
    PIRP irp;

    fill_pattern(buffer, sizeof(buffer), 8);
    layer_create(&layer, DO_BUFFERED_IO, check_system_buffer);
    irp = IoBuildAsynchronousFsdRequest(IRP_MJ_WRITE, layer.device, buffer, sizeof(buffer), NULL, NULL);
    IoSetCompletionRoutine(irp, free_all, &outcome, TRUE, TRUE, TRUE);
    EXPECT_STATUS(IoCallDriver(layer.device, irp), STATUS_SUCCESS);
    EXPECT_EQ(outcome.Information, 700);
    layer_destroy(&layer);
}

/* One that is forgotten is pool that was never freed. */
WARN_TEST(io_build, async__system_buffer_not_freed__is_a_leak, "pool-leak")
{
    struct layer layer;
    UCHAR buffer[700];

    layer_create(&layer, DO_BUFFERED_IO, look_and_succeed);
    IoFreeIrp(IoBuildAsynchronousFsdRequest(IRP_MJ_READ, layer.device, buffer, sizeof(buffer), NULL, NULL));
    layer_destroy(&layer);
}

static void free_without_unlock(void *context)
{
    uint64_t *words = context;
    struct layer layer;
    PIRP irp;

    layer_create(&layer, DO_DIRECT_IO, look_and_succeed);
    irp = IoBuildAsynchronousFsdRequest(IRP_MJ_WRITE, layer.device, pool_pages(2), 2 * PAGE_SIZE, NULL, NULL);
    words[0] = (uintptr_t)irp->MdlAddress;
    IoFreeMdl(irp->MdlAddress);
}

/* IoBuildAsynchronousFsdRequest-02 IoFreeMdl-12: without MmUnlockPages, IoFreeMdl stops the machine: two pages are locked. */
TEST(io_build, async__mdl_freed_without_unlock__stops)
{
    uint64_t *words = shared_words();
    const struct stop stop = run_until_stop(free_without_unlock, words);

    EXPECT_EQ(stop.code, 0xCB);
    EXPECT_EQ(stop.p[2], words[0]);
    EXPECT_EQ(stop.p[3], 2);
}

/* IoReuseIrp is not for built IRPs. */
WARN_TEST(io_build, async__reused__warns, "irp-reuse")
{
    struct layer layer;
    PIRP irp;

    layer_create(&layer, 0, look_and_succeed);
    irp = IoBuildAsynchronousFsdRequest(IRP_MJ_FLUSH_BUFFERS, layer.device, NULL, 0, NULL, NULL);
    IoReuseIrp(irp, STATUS_SUCCESS);
    IoFreeIrp(irp);
    layer_destroy(&layer);
}

/* ---- device control ---------------------------------------------------------------------------------------------- */

static ULONG code_of(ULONG method)
{
    return CTL_CODE(FILE_DEVICE_UNKNOWN, 0x812, method, FILE_ANY_ACCESS);
}

struct control {
    ULONG code;
    void *in;
    ULONG in_bytes;
    void *out;
    ULONG out_bytes;
    BOOLEAN internal;
};

static PIRP build_control(struct layer *layer, const struct control *c, struct wait *wait)
{
    wait_init(wait);
    return IoBuildDeviceIoControlRequest(c->code, layer->device, c->in, c->in_bytes, c->out, c->out_bytes, c->internal,
                                         &wait->event, &wait->status_block);
}

static void send_control(struct layer *layer, const struct control *c, NTSTATUS status, ULONG_PTR information)
{
    struct wait wait;
    PIRP irp = build_control(layer, c, &wait);

    EXPECT(irp != NULL);
    EXPECT_STATUS(IoCallDriver(layer->device, irp), status);
    expect_over(&wait, status, information);
    EXPECT_EQ(seen_location.MajorFunction, c->internal ? IRP_MJ_INTERNAL_DEVICE_CONTROL : IRP_MJ_DEVICE_CONTROL);
    EXPECT_EQ(seen_location.Parameters.DeviceIoControl.IoControlCode, c->code);
    EXPECT_EQ(seen_location.Parameters.DeviceIoControl.InputBufferLength, c->in_bytes);
    EXPECT_EQ(seen_location.Parameters.DeviceIoControl.OutputBufferLength, c->out_bytes);
    EXPECT_EQ(seen.RequestorMode, KernelMode);
}

static NTSTATUS echo_backwards(HARNESS_UNUSED struct layer *layer, PIRP irp)
{
    const PIO_STACK_LOCATION location = IoGetCurrentIrpStackLocation(irp);
    const ULONG in = location->Parameters.DeviceIoControl.InputBufferLength;
    const ULONG out = location->Parameters.DeviceIoControl.OutputBufferLength;
    UCHAR *system = irp->AssociatedIrp.SystemBuffer;

    look(irp);
    EXPECT_PATTERN(system, in, 4);
    fill_pattern(system, out, 6);
    return layer_complete(irp, STATUS_SUCCESS, out);
}

/* IoBuildDeviceIoControlRequest-01 IoBuildDeviceIoControlRequest-04 IRP-02 IRP-03: METHOD_BUFFERED has one buffer, as
   large as the larger of the two, with the input in it, and what stands in it at the end goes to the output buffer. */
TEST(io_build, control__buffered__one_buffer_for_both)
{
    static const struct { ULONG in, out; } rows[] = {{100, 9000}, {9000, 100}, {512, 512}, {0, 300}, {300, 0}};
    struct layer layer;
    UCHAR *in = malloc(9000), *out = malloc(9000);

    layer_create(&layer, DO_DIRECT_IO, echo_backwards);
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct control c = {code_of(METHOD_BUFFERED), in, rows[i].in, out, rows[i].out, i % 2 == 1};

        fill_pattern(in, 9000, 4);
        memset(out, 0, 9000);
        send_control(&layer, &c, STATUS_SUCCESS, rows[i].out);
        EXPECT_PATTERN(out, rows[i].out, 6);
        EXPECT_PATTERN(in, 9000, 4);
        EXPECT_PTR_EQ(seen.MdlAddress, NULL);
        EXPECT_PTR_EQ(seen.UserBuffer, rows[i].out == 0 ? NULL : out);
    }
    layer_destroy(&layer);
    free(in);
    free(out);
}

static NTSTATUS look_at_both(HARNESS_UNUSED struct layer *layer, PIRP irp)
{
    look(irp);
    EXPECT_PATTERN(irp->AssociatedIrp.SystemBuffer, 50, 4);
    if (METHOD_FROM_CTL_CODE(seen_location.Parameters.DeviceIoControl.IoControlCode) == METHOD_OUT_DIRECT)
        fill_pattern(system_address(irp->MdlAddress), MmGetMdlByteCount(irp->MdlAddress), 7);
    else
        EXPECT_PATTERN(system_address(irp->MdlAddress), MmGetMdlByteCount(irp->MdlAddress), 3);
    return layer_complete(irp, STATUS_SUCCESS, MmGetMdlByteCount(irp->MdlAddress));
}

/* IoBuildDeviceIoControlRequest-02 IoBuildDeviceIoControlRequest-01 IRP-01 IRP-02: both direct methods have the input in
   the system buffer, and an MDL for the output buffer. */
TEST(io_build, control__direct__system_buffer_and_mdl)
{
    static const ULONG methods[] = {METHOD_IN_DIRECT, METHOD_OUT_DIRECT};
    struct layer layer;
    UCHAR in[50];
    UCHAR *out = user_pages(3, PAGE_READWRITE);

    fill_pattern(in, sizeof(in), 4);
    layer_create(&layer, DO_BUFFERED_IO, look_at_both);
    for (unsigned i = 0; i < 2; i++) {
        const struct control c = {code_of(methods[i]), in, sizeof(in), out + 5, 8000, FALSE};

        fill_pattern(out + 5, 8000, 3);
        send_control(&layer, &c, STATUS_SUCCESS, 8000);
        EXPECT_PATTERN(out + 5, 8000, methods[i] == METHOD_OUT_DIRECT ? 7 : 3);
        EXPECT_PTR_EQ((UCHAR *)seen_mdl.StartVa + seen_mdl.ByteOffset, out + 5);
        EXPECT_EQ(seen_mdl.ByteCount, 8000);
        EXPECT_EQ(seen_mdl.MdlFlags & MDL_WRITE_OPERATION, methods[i] == METHOD_OUT_DIRECT ? MDL_WRITE_OPERATION : 0);
    }
    layer_destroy(&layer);
    pinion_user_free(out);
}

/* IoBuildDeviceIoControlRequest-04 IRP-01 IRP-03: METHOD_NEITHER passes the addresses on. */
TEST(io_build, control__neither__raw_addresses)
{
    struct layer layer;
    UCHAR in[10], out[20];
    const struct control c = {code_of(METHOD_NEITHER), in, sizeof(in), out, sizeof(out), TRUE};

    layer_create(&layer, DO_DIRECT_IO, look_and_succeed);
    send_control(&layer, &c, STATUS_SUCCESS, 0);
    EXPECT_PTR_EQ(seen_location.Parameters.DeviceIoControl.Type3InputBuffer, in);
    EXPECT_PTR_EQ(seen.UserBuffer, out);
    EXPECT_PTR_EQ(seen.MdlAddress, NULL);
    EXPECT_PTR_EQ(seen.AssociatedIrp.SystemBuffer, NULL);
    layer_destroy(&layer);
}

/* IoBuildDeviceIoControlRequest-03: METHOD_IN_DIRECT asks for read access to the second buffer, METHOD_OUT_DIRECT for
   write access; one that is refused gives no IRP and leaves nothing. */
TEST(io_build, control__direct__checks_the_access_of_its_method)
{
    struct layer layer;
    UCHAR *readable;
    struct control c = {.code = code_of(METHOD_IN_DIRECT), .out_bytes = 100};
    struct pinion_counters before;
    struct wait wait;

    boot("verifier=off");
    c.out = readable = user_pages(1, PAGE_READONLY);
    layer_create(&layer, 0, look_and_succeed);
    before = counters_now();
    send_control(&layer, &c, STATUS_SUCCESS, 0);
    c.code = code_of(METHOD_OUT_DIRECT);
    EXPECT_PTR_EQ(build_control(&layer, &c, &wait), NULL);
    EXPECT_SAME_COUNTERS(before);
    expect_not_over(&wait);
    layer_destroy(&layer);
    pinion_user_free(readable);
}

static NTSTATUS set_flag(HARNESS_UNUSED PDEVICE_OBJECT device, PIRP irp, PVOID context)
{
    if (irp->PendingReturned)
        IoMarkIrpPending(irp);
    *(BOOLEAN *)context = TRUE;
    return STATUS_SUCCESS;
}

/* Without an event a completion routine tells the caller. */
TEST(io_build, control__no_event__completion_routine_is_told)
{
    struct layer layer;
    IO_STATUS_BLOCK status_block = {0};
    BOOLEAN told = FALSE;
    PIRP irp;

    layer_create(&layer, 0, look_and_succeed);
    irp = IoBuildDeviceIoControlRequest(code_of(METHOD_BUFFERED), layer.device, NULL, 0, NULL, 0, FALSE, NULL, &status_block);
    IoSetCompletionRoutine(irp, set_flag, &told, TRUE, TRUE, TRUE);
    EXPECT_STATUS(IoCallDriver(layer.device, irp), STATUS_SUCCESS);
    EXPECT(told);
    layer_destroy(&layer);
}

/* ---- buffers that cannot be used --------------------------------------------------------------------------------- */

static const struct bad_fsd {
    ULONG flags, major;
    ULONG protection;
} bad_fsd[] = {
    {DO_DIRECT_IO, IRP_MJ_READ, PAGE_READONLY},
    {DO_DIRECT_IO, IRP_MJ_WRITE, PAGE_NOACCESS},
    {DO_BUFFERED_IO, IRP_MJ_WRITE, PAGE_NOACCESS},
};

struct bad_call {
    const struct bad_fsd *row;
    bool sync;
    uint64_t *device;
};

static void build_bad_fsd(void *context)
{
    const struct bad_call *call = context;
    UCHAR *buffer = user_pages(2, call->row->protection);
    struct layer layer;
    struct wait wait;

    layer_create(&layer, call->row->flags, look_and_succeed);
    *call->device = (uintptr_t)layer.device;
    if (call->sync)
        build_sync(&layer, call->row->major, buffer + 100, PAGE_SIZE, 0, &wait);
    else
        IoBuildAsynchronousFsdRequest(call->row->major, layer.device, buffer + 100, PAGE_SIZE, NULL, NULL);
}

/* IoBuildAsynchronousFsdRequest-03: with the verifier on, a buffer that refuses the access stops the machine with device,
   major function and exception. */
TEST(io_build, fsd__bad_buffer__stops)
{
    uint64_t *device = shared_words();

    for (unsigned i = 0; i < sizeof(bad_fsd) / sizeof(bad_fsd[0]); i++) {
        for (int sync = 0; sync <= 1; sync++) {
            struct bad_call call = {&bad_fsd[i], sync, device};
            const struct stop stop = expect_stop(build_bad_fsd, &call, 0xC9, 0x08);

            EXPECT_EQ(stop.p[1], *device);
            EXPECT_EQ(stop.p[2], bad_fsd[i].major);
            EXPECT_EQ(stop.p[3], (uint32_t)STATUS_ACCESS_VIOLATION);
        }
    }
}

/* IoBuildAsynchronousFsdRequest-01 IoBuildSynchronousFsdRequest-02: without it there is no IRP, and nothing is left. */
TEST(io_build, fsd__bad_buffer_without_verifier__is_null)
{
    struct pinion_counters before;

    boot("verifier=off");
    for (unsigned i = 0; i < sizeof(bad_fsd) / sizeof(bad_fsd[0]); i++) {
        UCHAR *buffer = user_pages(2, bad_fsd[i].protection);
        struct layer layer;
        struct wait wait;

        layer_create(&layer, bad_fsd[i].flags, look_and_succeed);
        before = counters_now();
        EXPECT_PTR_EQ(build_sync(&layer, bad_fsd[i].major, buffer + 100, PAGE_SIZE, 0, &wait), NULL);
        EXPECT_PTR_EQ(IoBuildAsynchronousFsdRequest(bad_fsd[i].major, layer.device, buffer + 100, PAGE_SIZE, NULL, NULL), NULL);
        EXPECT_SAME_COUNTERS(before);
        layer_destroy(&layer);
        pinion_user_free(buffer);
    }
}

struct bad_control {
    ULONG method;
    ULONG in_protection, out_protection;
    uint64_t *device;
};

static void build_bad_control(void *context)
{
    const struct bad_control *bad = context;
    struct control c = {code_of(bad->method), user_pages(1, bad->in_protection), 100, user_pages(1, bad->out_protection), 100, FALSE};
    struct layer layer;
    struct wait wait;

    layer_create(&layer, 0, look_and_succeed);
    *bad->device = (uintptr_t)layer.device;
    build_control(&layer, &c, &wait);
}

/* IoBuildDeviceIoControlRequest-05: a buffer that refuses the access stops the machine with device, control code and
   exception. */
TEST(io_build, control__bad_buffer__stops)
{
    static const struct { ULONG method, in, out; } rows[] = {
        {METHOD_BUFFERED, PAGE_NOACCESS, PAGE_READWRITE},
        {METHOD_IN_DIRECT, PAGE_READONLY, PAGE_NOACCESS},
        {METHOD_OUT_DIRECT, PAGE_READONLY, PAGE_READONLY},
        {METHOD_OUT_DIRECT, PAGE_NOACCESS, PAGE_READWRITE},
    };
    uint64_t *device = shared_words();

    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct bad_control bad = {rows[i].method, rows[i].in, rows[i].out, device};
        const struct stop stop = expect_stop(build_bad_control, &bad, 0xC9, 0x09);

        EXPECT_EQ(stop.p[1], *device);
        EXPECT_EQ(stop.p[2], code_of(rows[i].method));
        EXPECT_EQ(stop.p[3], (uint32_t)STATUS_ACCESS_VIOLATION);
    }
}

/* ---- no memory --------------------------------------------------------------------------------------------------- */

static PIRP build_each(struct layer *layer, unsigned which, UCHAR *buffer, struct wait *wait)
{
    const struct control c = {code_of(METHOD_OUT_DIRECT), buffer, 100, buffer, PAGE_SIZE, FALSE};

    if (which == 0)
        return build_sync(layer, IRP_MJ_READ, buffer, PAGE_SIZE, 0, wait);
    if (which == 1)
        return IoBuildAsynchronousFsdRequest(IRP_MJ_READ, layer->device, buffer, PAGE_SIZE, NULL, NULL);
    return build_control(layer, &c, wait);
}

static void dispose(PIRP irp, unsigned which)
{
    IO_STATUS_BLOCK outcome;

    if (which == 1)
        free_all(NULL, irp, &outcome);
    else
        layer_complete(irp, STATUS_CANCELLED, 0);
}

/* IoBuildAsynchronousFsdRequest-01 IoBuildSynchronousFsdRequest-02 IoBuildDeviceIoControlRequest-01: when it is made to
   fail there is no IRP, and the next call works again. */
TEST(io_build, each__made_to_fail__is_null_once)
{
    static const char *const names[] = {
        "IoBuildSynchronousFsdRequest", "IoBuildAsynchronousFsdRequest", "IoBuildDeviceIoControlRequest"};
    struct layer layer;
    UCHAR *pool = pool_pages(1);
    struct wait wait;

    layer_create(&layer, DO_DIRECT_IO, look_and_succeed);
    for (unsigned which = 0; which < 3; which++) {
        pinion_fail(names[which], 1);
        EXPECT_PTR_EQ(build_each(&layer, which, pool, &wait), NULL);
        dispose(build_each(&layer, which, pool, &wait), which);
    }
    layer_destroy(&layer);
    ExFreePoolWithTag(pool, TEST_TAG);
}

/* IoBuildAsynchronousFsdRequest-01 IoBuildSynchronousFsdRequest-02 IoBuildDeviceIoControlRequest-01: whichever of its own
   allocations fails, there is no IRP and nothing is left; at last it works. */
TEST(io_build, each__every_internal_allocation_fails__leaves_nothing)
{
    static const ULONG flags[] = {DO_DIRECT_IO, DO_BUFFERED_IO, 0};
    UCHAR *pool = pool_pages(1);

    for (unsigned i = 0; i < 9; i++) {
        struct layer layer;
        struct pinion_counters before;
        struct wait wait;
        unsigned nth = 0;
        PIRP irp;

        layer_create(&layer, flags[i / 3], look_and_succeed);
        before = counters_now();
        do {
            pinion_fail("internal", ++nth);
            irp = build_each(&layer, i % 3, pool, &wait);
            if (irp == NULL)
                EXPECT_SAME_COUNTERS(before);
        } while (irp == NULL && nth < 10);
        pinion_fail("internal", 0);
        EXPECT(nth >= 2 && nth < 10);
        dispose(irp, i % 3);
        EXPECT_SAME_COUNTERS(before);
        layer_destroy(&layer);
    }
    ExFreePoolWithTag(pool, TEST_TAG);
}

/* ---- status block and event on a stack that is left -------------------------------------------------------------- */

enum { DEEP = 64 * 1024 };

struct gone {
    struct layer layer;
    bool event_only;
    uint64_t *words;
    IO_STATUS_BLOCK status_block;
};

static __attribute__((noinline)) void send(struct gone *gone)
{
    struct wait wait;
    PIRP irp;

    wait_init(&wait);
    gone->words[0] = (uintptr_t)&wait.status_block;
    gone->words[1] = (uintptr_t)&wait.event;
    irp = IoBuildSynchronousFsdRequest(IRP_MJ_FLUSH_BUFFERS, gone->layer.device, NULL, 0, NULL, &wait.event,
                                       gone->event_only ? &gone->status_block : &wait.status_block);
    EXPECT_STATUS(IoCallDriver(gone->layer.device, irp), STATUS_PENDING);
}

/* Deep enough that everything of `send` lies below whatever is called after this has returned. */
static __attribute__((noinline)) void send_and_leave(struct gone *gone)
{
    UCHAR depth[DEEP];

    __asm__ volatile("" ::"r"(depth) : "memory");       /* no compiler may shorten what it cannot see the use of */
    send(gone);
    __asm__ volatile("" ::"r"(depth) : "memory");
}

static void leave_before_completion(void *context)
{
    struct gone *gone = context;

    layer_create(&gone->layer, 0, hold);
    send_and_leave(gone);
    layer_complete(gone->layer.held, STATUS_SUCCESS, 0);
}

/* Driver_Verifier_I_O_verification-02: a status block, or an event, in a frame that has been left when the request ends. */
TEST(io_build, sync__status_block_or_event_on_a_stack_that_is_left__stops)
{
    uint64_t *words = shared_words();

    for (int event_only = 0; event_only <= 1; event_only++) {
        struct gone gone = {.event_only = event_only, .words = words};
        const struct stop stop = expect_stop(leave_before_completion, &gone, 0xC9, event_only ? 0x0D : 0x0C);

        EXPECT_EQ(stop.p[1], words[event_only]);
    }
}
