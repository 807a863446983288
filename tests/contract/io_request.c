/* SPDX-License-Identifier: MIT */
/*
 * Requests as the I/O manager makes them: what a driver finds in the IRP by its device's flags or the control
 * code, and what is given back, and when, at final completion.
 */

#include "io_stack.h"
#include "support.h"

#include <stdlib.h>

/* A stack of one layer, opened. */
struct fixture {
    struct layer layer;
    PFILE_OBJECT file;
};

static void open_fixture(struct fixture *f, ULONG flags, NTSTATUS (*dispatch)(struct layer *, PIRP))
{
    layer_create(&f->layer, flags, dispatch);
    EXPECT_STATUS(pinion_open(f->layer.device, &f->file), STATUS_SUCCESS);
}

static void close_fixture(struct fixture *f)
{
    pinion_close(f->file);
    layer_destroy(&f->layer);
}

static NTSTATUS transfer(struct fixture *f, enum pinion_operation operation, void *buffer, ULONG bytes,
                         uint64_t offset, uint64_t *information)
{
    struct pinion_request request = {.operation = operation, .buffer = buffer, .bytes = bytes, .offset = offset};
    const NTSTATUS status = pinion_transfer(f->file, &request);

    EXPECT_STATUS(status, request.status);
    if (information != NULL)
        *information = request.information;
    return status;
}

/* What the dispatch routine found. */
static IRP seen;
static IO_STACK_LOCATION seen_location;
static MDL seen_mdl;
static unsigned calls;

static void look(PIRP irp)
{
    seen = *irp;
    seen_location = *IoGetCurrentIrpStackLocation(irp);
    if (irp->MdlAddress != NULL)
        seen_mdl = *irp->MdlAddress;
    calls++;
}

static NTSTATUS look_and_succeed(struct layer *layer, PIRP irp)
{
    look(irp);
    return complete_with_success(layer, irp);
}

/* ---- direct I/O -------------------------------------------------------------------------------------------------- */

static NTSTATUS fill_through_mdl(HARNESS_UNUSED struct layer *layer, PIRP irp)
{
    UCHAR *va;

    look(irp);
    va = MmGetSystemAddressForMdlSafe(irp->MdlAddress, NORMAL_NX);
    EXPECT(va != NULL);
    fill_pattern(va, MmGetMdlByteCount(irp->MdlAddress), 5);
    EXPECT_EQ(counters_now().locked_pages, mdl_pages(irp->MdlAddress));
    EXPECT_EQ(counters_now().live_mdls, 1);
    return layer_complete(irp, STATUS_SUCCESS, MmGetMdlByteCount(irp->MdlAddress));
}

/* A direct read: the MDL describes the requester's buffer, locked; what its mapping is given is in the buffer. */
TEST(io_request, direct_read__mdl_describes_the_locked_buffer)
{
    /* Direct_I_O-01 Direct_I_O-02 Direct_I_O-05 IRP-01 */
    struct fixture f;
    UCHAR *buffer = user_pages(4, PAGE_READWRITE);
    uint64_t information;

    open_fixture(&f, DO_DIRECT_IO, fill_through_mdl);
    EXPECT_STATUS(transfer(&f, PINION_READ, buffer + 100, 9000, 0x123456789, &information), STATUS_SUCCESS);
    EXPECT_EQ(information, 9000);
    EXPECT_PATTERN(buffer + 100, 9000, 5);
    EXPECT_EQ(buffer[99], 0);
    EXPECT_EQ(buffer[9100], 0);
    EXPECT_EQ(seen_location.MajorFunction, IRP_MJ_READ);
    EXPECT_EQ(seen_location.Parameters.Read.Length, 9000);
    EXPECT_EQ(seen_location.Parameters.Read.ByteOffset.QuadPart, 0x123456789);
    EXPECT_PTR_EQ(seen_location.FileObject, f.file);
    EXPECT_PTR_EQ(seen_location.DeviceObject, f.layer.device);
    EXPECT_EQ(seen.RequestorMode, UserMode);
    EXPECT_PTR_EQ(seen.AssociatedIrp.SystemBuffer, NULL);
    EXPECT_PTR_EQ(seen.UserBuffer, NULL);
    EXPECT_PTR_EQ((UCHAR *)seen_mdl.StartVa + seen_mdl.ByteOffset, buffer + 100);
    EXPECT_EQ(seen_mdl.ByteCount, 9000);
    EXPECT((seen_mdl.MdlFlags & MDL_PAGES_LOCKED) != 0);
    EXPECT((seen_mdl.MdlFlags & MDL_WRITE_OPERATION) != 0);
    close_fixture(&f);
    pinion_user_free(buffer);
}

/* At final completion the mapping that the driver made, the locks, the MDL and the IRP go. */
TEST(io_request, direct_read__completed__leaves_nothing)
{
    /* IoCompleteRequest-07 */
    struct fixture f;
    UCHAR *buffer = user_pages(4, PAGE_READWRITE);
    struct pinion_counters before;

    open_fixture(&f, DO_DIRECT_IO, fill_through_mdl);
    before = counters_now();
    EXPECT_STATUS(transfer(&f, PINION_READ, buffer, 4 * PAGE_SIZE, 0, NULL), STATUS_SUCCESS);
    EXPECT_SAME_COUNTERS(before);
    EXPECT_EQ(calls, 1);
    close_fixture(&f);
    pinion_user_free(buffer);
}

/* A read needs a buffer that can be written, a write one that can be read. A bad one never reaches the driver. */
TEST(io_request, direct__buffer_that_refuses_the_access__is_refused)
{
    /* Direct_I_O-02 */
    struct fixture f;
    UCHAR *readable = user_pages(2, PAGE_READONLY);
    UCHAR *unreadable = user_pages(2, PAGE_NOACCESS);
    struct pinion_counters before;

    open_fixture(&f, DO_DIRECT_IO, look_and_succeed);
    before = counters_now();
    EXPECT_STATUS(transfer(&f, PINION_READ, readable, 100, 0, NULL), STATUS_ACCESS_VIOLATION);
    EXPECT_STATUS(transfer(&f, PINION_READ, unreadable, 100, 0, NULL), STATUS_ACCESS_VIOLATION);
    EXPECT_STATUS(transfer(&f, PINION_WRITE, unreadable, 100, 0, NULL), STATUS_ACCESS_VIOLATION);
    EXPECT_STATUS(transfer(&f, PINION_READ, NULL, 100, 0, NULL), STATUS_ACCESS_VIOLATION);
    EXPECT_EQ(calls, 0);
    EXPECT_SAME_COUNTERS(before);
    EXPECT_STATUS(transfer(&f, PINION_WRITE, readable, 100, 0, NULL), STATUS_SUCCESS);
    EXPECT_EQ(calls, 1);
    EXPECT_EQ(seen_location.MajorFunction, IRP_MJ_WRITE);
    EXPECT((seen_mdl.MdlFlags & MDL_WRITE_OPERATION) == 0);
    close_fixture(&f);
    pinion_user_free(readable);
    pinion_user_free(unreadable);
}

/* For no bytes there is no MDL and no system buffer, whatever the address. */
TEST(io_request, zero_length__no_mdl_and_no_system_buffer)
{
    /* Direct_I_O-03 */
    static const ULONG device_flags[] = {DO_DIRECT_IO, DO_BUFFERED_IO, 0};

    for (size_t i = 0; i < 3; i++) {
        struct fixture f;

        open_fixture(&f, device_flags[i], look_and_succeed);
        EXPECT_STATUS(transfer(&f, PINION_READ, (void *)8, 0, 0, NULL), STATUS_SUCCESS);
        EXPECT_PTR_EQ(seen.MdlAddress, NULL);
        EXPECT_PTR_EQ(seen.AssociatedIrp.SystemBuffer, NULL);
        close_fixture(&f);
    }
    EXPECT_EQ(calls, 3);
}

static void ignore_end(HARNESS_UNUSED struct pinion_request *request)
{
}

/* While a request is in flight its pages stay locked and readable, even when their owner frees the memory. */
TEST(io_request, direct__buffer_freed_in_flight__stays_until_completion)
{
    /* Direct_I_O-04 */
    struct fixture f;
    UCHAR *buffer = user_pattern(3, 9);
    struct pinion_request request = {
        .operation = PINION_WRITE, .buffer = buffer, .bytes = 3 * PAGE_SIZE, .done = ignore_end};

    open_fixture(&f, DO_DIRECT_IO, hold);
    EXPECT_STATUS(pinion_submit(f.file, &request), STATUS_PENDING);
    pinion_user_free(buffer);
    pinion_trim();
    EXPECT_EQ(counters_now().locked_pages, 3);
    EXPECT_PATTERN(MmGetSystemAddressForMdlSafe(f.layer.held->MdlAddress, NORMAL_NX), 3 * PAGE_SIZE, 9);
    layer_complete(f.layer.held, STATUS_SUCCESS, 3 * PAGE_SIZE);
    EXPECT_EQ(counters_now().locked_pages, 0);
    close_fixture(&f);
}

static NTSTATUS lock_again(HARNESS_UNUSED struct layer *layer, PIRP irp)
{
    MmProbeAndLockPages(irp->MdlAddress, KernelMode, IoReadAccess);
    return layer_complete(irp, STATUS_SUCCESS, 0);
}

/* Direct_I_O-06: a driver below that locks the request's MDL again stops the machine. */
STOP_TEST(io_request, direct__locked_again_by_the_driver__stops, 0xC4, 0xB0)
{
    struct fixture f;

    open_fixture(&f, DO_DIRECT_IO, lock_again);
    transfer(&f, PINION_READ, user_pages(1, PAGE_READWRITE), PAGE_SIZE, 0, NULL);
}

/* ---- MDLs that drivers add --------------------------------------------------------------------------------------- */

static UCHAR *pool_block, *second_buffer;

/* A chain of the request's own MDL, a partial of it, one over pool, and another that is locked. */
static NTSTATUS extend_chain(HARNESS_UNUSED struct layer *layer, PIRP irp)
{
    PMDL whole = irp->MdlAddress;
    UCHAR *va = MmGetMdlVirtualAddress(whole);
    PMDL part = IoAllocateMdl(va + 10, 5000, TRUE, FALSE, irp);
    PMDL pool, other;

    IoBuildPartialMdl(whole, part, va + 10, 5000);
    EXPECT(MmGetSystemAddressForMdlSafe(part, NORMAL_NX) != NULL);
    pool = IoAllocateMdl(pool_block, 100, TRUE, FALSE, irp);
    MmBuildMdlForNonPagedPool(pool);
    other = IoAllocateMdl(second_buffer, 6000, TRUE, FALSE, irp);
    EXPECT_STATUS(try_lock(other, UserMode, IoReadAccess), STATUS_SUCCESS);
    EXPECT_PTR_EQ(irp->MdlAddress, whole);
    EXPECT_PTR_EQ(whole->Next, part);
    EXPECT_EQ(counters_now().live_mdls, 4);
    EXPECT_EQ(counters_now().locked_pages, 4);
    return layer_complete(irp, STATUS_SUCCESS, 0);
}

/* The whole chain is freed at final completion; only MDLs that hold a lock are unlocked. */
TEST(io_request, direct__chain_of_mdls__is_unlocked_and_freed)
{
    /* IoCompleteRequest-07 */
    struct fixture f;
    UCHAR *buffer = user_pages(2, PAGE_READWRITE);
    struct pinion_counters before;

    pool_block = pool_pages(1);
    second_buffer = user_pages(2, PAGE_READWRITE);
    open_fixture(&f, DO_DIRECT_IO, extend_chain);
    before = counters_now();
    EXPECT_STATUS(transfer(&f, PINION_READ, buffer, 2 * PAGE_SIZE, 0, NULL), STATUS_SUCCESS);
    EXPECT_SAME_COUNTERS(before);
    close_fixture(&f);
    ExFreePoolWithTag(pool_block, TEST_TAG);
    pinion_user_free(second_buffer);
    pinion_user_free(buffer);
}

/* ---- buffered I/O ------------------------------------------------------------------------------------------------ */

static NTSTATUS buffered_status;
static ULONG buffered_information;

static NTSTATUS fill_system_buffer(HARNESS_UNUSED struct layer *layer, PIRP irp)
{
    look(irp);
    fill_pattern(irp->AssociatedIrp.SystemBuffer, seen_location.Parameters.Read.Length, 6);
    return layer_complete(irp, buffered_status, buffered_information);
}

/* A buffered read: IoStatus.Information bytes of the system buffer come back, unless the status is an error. */
TEST(io_request, buffered_read__returns_information_bytes__unless_it_failed)
{
    /* IRP-02 */
    static const struct {
        NTSTATUS status;
        ULONG information, returned;
    } cases[] = {
        {STATUS_SUCCESS, 5000, 5000},        {STATUS_SUCCESS, 1, 1},        {STATUS_SUCCESS, 0, 0},
        {STATUS_BUFFER_OVERFLOW, 4097, 4097}, {STATUS_IO_DEVICE_ERROR, 5000, 0},
    };
    struct fixture f;

    open_fixture(&f, DO_BUFFERED_IO, fill_system_buffer);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        UCHAR *buffer = user_pages(2, PAGE_READWRITE);
        uint64_t information;

        memset(buffer, 0xEE, 2 * PAGE_SIZE);
        buffered_status = cases[i].status;
        buffered_information = cases[i].information;
        EXPECT_STATUS(transfer(&f, PINION_READ, buffer + 3, 5000, 0, &information), cases[i].status);
        EXPECT_EQ(information, cases[i].information);
        EXPECT_PATTERN(buffer + 3, cases[i].returned, 6);
        EXPECT_EQ(buffer[2], 0xEE);
        EXPECT_EQ(buffer[3 + cases[i].returned], 0xEE);
        EXPECT_PTR_EQ(seen.MdlAddress, NULL);
        EXPECT(seen.AssociatedIrp.SystemBuffer != NULL);
        EXPECT(seen.AssociatedIrp.SystemBuffer != buffer + 3);
        EXPECT_EQ(seen.Flags & (IRP_BUFFERED_IO | IRP_DEALLOCATE_BUFFER | IRP_INPUT_OPERATION),
                  IRP_BUFFERED_IO | IRP_DEALLOCATE_BUFFER | IRP_INPUT_OPERATION);
        pinion_user_free(buffer);
    }
    close_fixture(&f);
}

static NTSTATUS check_system_buffer(HARNESS_UNUSED struct layer *layer, PIRP irp)
{
    look(irp);
    EXPECT_PATTERN(irp->AssociatedIrp.SystemBuffer, 5000, 7);
    memset(irp->AssociatedIrp.SystemBuffer, 0, 5000);
    return layer_complete(irp, STATUS_SUCCESS, 5000);
}

/* A buffered write: the driver gets a copy, and what it does to that copy stays there. */
TEST(io_request, buffered_write__gives_a_copy)
{
    /* IRP-02 */
    struct fixture f;
    UCHAR *buffer = user_pattern(2, 7);

    open_fixture(&f, DO_BUFFERED_IO, check_system_buffer);
    EXPECT_STATUS(transfer(&f, PINION_WRITE, buffer, 5000, 0, NULL), STATUS_SUCCESS);
    EXPECT_PATTERN(buffer, 5000, 7);
    EXPECT_PTR_EQ(seen.MdlAddress, NULL);
    close_fixture(&f);
    pinion_user_free(buffer);
}

/* Neither a bad buffer nor a lack of memory, for the IRP or for its buffer, reaches the driver or leaves anything behind. */
TEST(io_request, buffered__bad_buffer_or_no_pool__is_refused)
{
    struct fixture f;
    UCHAR *readable = user_pages(2, PAGE_READONLY);
    UCHAR *writable = user_pages(2, PAGE_READWRITE);
    UCHAR *pool = pool_pages(1);

    open_fixture(&f, DO_BUFFERED_IO, look_and_succeed);
    EXPECT_STATUS(transfer(&f, PINION_READ, readable, 5000, 0, NULL), STATUS_ACCESS_VIOLATION);
    EXPECT_STATUS(transfer(&f, PINION_WRITE, NULL, 5000, 0, NULL), STATUS_ACCESS_VIOLATION);
    EXPECT_STATUS(transfer(&f, PINION_READ, pool, 100, 0, NULL), STATUS_ACCESS_VIOLATION);
    EXPECT_STATUS(transfer(&f, PINION_WRITE, pool, 100, 0, NULL), STATUS_ACCESS_VIOLATION);
    for (unsigned nth = 1; nth <= 2; nth++) {
        pinion_fail("internal", nth);
        EXPECT_STATUS(transfer(&f, PINION_READ, writable, 5000, 0, NULL), STATUS_INSUFFICIENT_RESOURCES);
    }
    EXPECT_EQ(calls, 0);
    EXPECT_EQ(counters_now().live_irps, 0);
    close_fixture(&f);
    ExFreePoolWithTag(pool, TEST_TAG);
    pinion_user_free(readable);
    pinion_user_free(writable);
}

/* The requester's pages may be gone when the driver completes at DISPATCH_LEVEL: the data arrives nevertheless. */
TEST(io_request, buffered_read__trimmed_buffer_and_dispatch_level__arrives)
{
    struct fixture f;
    UCHAR *buffer = user_pages(2, PAGE_READWRITE);
    struct pinion_request request = {.operation = PINION_READ, .buffer = buffer, .bytes = 5000, .done = ignore_end};
    KIRQL irql;

    open_fixture(&f, DO_BUFFERED_IO, hold);
    EXPECT_STATUS(pinion_submit(f.file, &request), STATUS_PENDING);
    EXPECT(pinion_trim() >= 2);
    irql = raise_irql(DISPATCH_LEVEL);
    fill_pattern(f.layer.held->AssociatedIrp.SystemBuffer, 5000, 8);
    layer_complete(f.layer.held, STATUS_SUCCESS, 5000);
    EXPECT_EQ(KeGetCurrentIrql(), DISPATCH_LEVEL);
    KeLowerIrql(irql);
    EXPECT_STATUS(request.status, STATUS_SUCCESS);
    EXPECT_PATTERN(buffer, 5000, 8);
    close_fixture(&f);
    pinion_user_free(buffer);
}

/* The buffer went away in flight: the request fails, and the machine goes on. */
TEST(io_request, buffered_read__buffer_freed_in_flight__is_an_access_violation)
{
    struct fixture f;
    UCHAR *buffer = user_pages(2, PAGE_READWRITE);
    struct pinion_request request = {.operation = PINION_READ, .buffer = buffer, .bytes = 5000, .done = ignore_end};

    open_fixture(&f, DO_BUFFERED_IO, hold);
    EXPECT_STATUS(pinion_submit(f.file, &request), STATUS_PENDING);
    pinion_user_free(buffer);
    layer_complete(f.layer.held, STATUS_SUCCESS, 5000);
    EXPECT_STATUS(request.status, STATUS_ACCESS_VIOLATION);
    EXPECT_EQ(request.information, 0);
    close_fixture(&f);
}

/* Another process may be current when a request completes: its data goes where it belongs. */
TEST(io_request, buffered_read__completed_in_another_process__arrives)
{
    struct fixture f;
    PEPROCESS other = pinion_process_create("other");
    UCHAR *buffer = user_pages(2, PAGE_READWRITE);
    struct pinion_request request = {.operation = PINION_READ, .buffer = buffer, .bytes = 5000, .done = ignore_end};

    open_fixture(&f, DO_BUFFERED_IO, hold);
    EXPECT_STATUS(pinion_submit(f.file, &request), STATUS_PENDING);
    pinion_process_attach(other);
    EXPECT_STATUS(transfer(&f, PINION_WRITE, buffer, 100, 0, NULL), STATUS_ACCESS_VIOLATION);
    fill_pattern(f.layer.held->AssociatedIrp.SystemBuffer, 5000, 3);
    layer_complete(f.layer.held, STATUS_SUCCESS, 5000);
    pinion_process_attach(NULL);
    EXPECT_PATTERN(buffer, 5000, 3);
    close_fixture(&f);
    pinion_process_exit(other);
    pinion_user_free(buffer);
}

static NTSTATUS exaggerate(HARNESS_UNUSED struct layer *layer, PIRP irp)
{
    return layer_complete(irp, STATUS_SUCCESS, 101);
}

/* More bytes than there is room for: no more than that are returned, and the driver is told. */
WARN_TEST(io_request, buffered_read__information_too_large__is_reported, "irp-information")
{
    struct fixture f;
    UCHAR *buffer = user_pages(1, PAGE_READWRITE);

    open_fixture(&f, DO_BUFFERED_IO, exaggerate);
    buffer[100] = 0xEE;
    EXPECT_STATUS(transfer(&f, PINION_READ, buffer, 100, 0, NULL), STATUS_SUCCESS);
    EXPECT_EQ(buffer[100], 0xEE);
    close_fixture(&f);
    pinion_user_free(buffer);
}

/* ---- neither ----------------------------------------------------------------------------------------------------- */

/* Without either flag the driver gets the raw address, unseen. */
TEST(io_request, neither__gives_the_raw_address)
{
    /* IRP-03 */
    struct fixture f;

    open_fixture(&f, 0, look_and_succeed);
    EXPECT_STATUS(transfer(&f, PINION_WRITE, (void *)0x1234567, 100, 0, NULL), STATUS_SUCCESS);
    EXPECT_PTR_EQ(seen.UserBuffer, (void *)0x1234567);
    EXPECT_PTR_EQ(seen.MdlAddress, NULL);
    EXPECT_PTR_EQ(seen.AssociatedIrp.SystemBuffer, NULL);
    close_fixture(&f);
}

/* ---- asynchronous ------------------------------------------------------------------------------------------------ */

struct counted {
    struct pinion_request request;
    unsigned done;
    KIRQL irql;
};

static void count_end(struct pinion_request *request)
{
    struct counted *counted = request->context;

    EXPECT_PTR_EQ(&counted->request, request);
    counted->irql = KeGetCurrentIrql();
    counted->done++;
}

static struct counted counted_read(struct counted *self, void *buffer, ULONG bytes)
{
    return (struct counted){
        .request = {.operation = PINION_READ, .buffer = buffer, .bytes = bytes, .done = count_end, .context = self}};
}

/* `done` runs once, with the outcome in place, whether the driver pends the request or ends it at once. */
TEST(io_request, submit__pending_or_not__done_runs_once)
{
    struct fixture f;
    UCHAR *buffer = user_pages(1, PAGE_READWRITE);
    struct counted counted = counted_read(&counted, buffer, 100);

    open_fixture(&f, DO_DIRECT_IO, complete_with_success);
    EXPECT_STATUS(pinion_submit(f.file, &counted.request), STATUS_SUCCESS);
    EXPECT_EQ(counted.done, 1);
    EXPECT_EQ(counted.request.information, 100);
    f.layer.dispatch = hold;
    EXPECT_STATUS(pinion_submit(f.file, &counted.request), STATUS_PENDING);
    EXPECT_EQ(counted.done, 1);
    layer_complete(f.layer.held, STATUS_END_OF_FILE, 0);
    EXPECT_EQ(counted.done, 2);
    EXPECT_STATUS(counted.request.status, STATUS_END_OF_FILE);
    EXPECT_EQ(counted.request.information, 0);
    close_fixture(&f);
    pinion_user_free(buffer);
}

/* A request that cannot be made is refused at once, and `done` never runs. */
TEST(io_request, submit__refused__done_does_not_run)
{
    struct fixture f;
    struct counted counted = counted_read(&counted, (void *)8, 100);

    open_fixture(&f, DO_DIRECT_IO, look_and_succeed);
    EXPECT_STATUS(pinion_submit(f.file, &counted.request), STATUS_ACCESS_VIOLATION);
    EXPECT_EQ(counted.done, 0);
    EXPECT_EQ(calls, 0);
    close_fixture(&f);
}

static NTSTATUS forget(HARNESS_UNUSED struct layer *layer, HARNESS_UNUSED PIRP irp)
{
    return STATUS_SUCCESS;
}

static void lose_a_request(HARNESS_UNUSED void *context)
{
    struct fixture f;
    struct pinion_request request = {.operation = PINION_READ};

    open_fixture(&f, DO_DIRECT_IO, forget);
    EXPECT_STATUS(pinion_transfer(f.file, &request), STATUS_UNSUCCESSFUL);
}

/* A dispatch routine that says success and keeps the IRP has lost it: the requester is told instead of hanging. */
TEST_UNTIDY(io_request, transfer__driver_forgets_the_irp__is_reported)
{
    const struct stop stop = run_until_stop(lose_a_request, NULL);

    EXPECT_EQ(stop.exit_status, 0);
    EXPECT_EQ(stop_warnings(&stop, "irp-lost"), 1);
    EXPECT_EQ(stop_warnings(&stop, "irp-leak"), 1);
}

/* ---- device control ---------------------------------------------------------------------------------------------- */

enum { IN_BYTES = 300, OUT_BYTES = 5000 };

static ULONG control_code(ULONG method)
{
    return CTL_CODE(FILE_DEVICE_UNKNOWN, 0x801, method, FILE_ANY_ACCESS);
}

static NTSTATUS answer_control(HARNESS_UNUSED struct layer *layer, PIRP irp)
{
    UCHAR *out = NULL;

    look(irp);
    if (irp->AssociatedIrp.SystemBuffer != NULL)
        EXPECT_PATTERN(irp->AssociatedIrp.SystemBuffer, IN_BYTES, 1);
    if (irp->MdlAddress != NULL)
        out = MmGetSystemAddressForMdlSafe(irp->MdlAddress, NORMAL_NX);
    else if (METHOD_FROM_CTL_CODE(seen_location.Parameters.DeviceIoControl.IoControlCode) == METHOD_BUFFERED)
        out = irp->AssociatedIrp.SystemBuffer;
    if (out != NULL && (seen_mdl.MdlFlags & MDL_WRITE_OPERATION || irp->MdlAddress == NULL))
        fill_pattern(out, OUT_BYTES, 2);
    return layer_complete(irp, STATUS_SUCCESS, OUT_BYTES);
}

static NTSTATUS control(struct fixture *f, ULONG method, void *in, void *out, uint64_t *information)
{
    return pinion_control(f->file, control_code(method), in, in == NULL ? 0 : IN_BYTES, out,
                          out == NULL ? 0 : OUT_BYTES, information);
}

static void expect_control_parameters(ULONG method)
{
    EXPECT_EQ(seen_location.MajorFunction, IRP_MJ_DEVICE_CONTROL);
    EXPECT_EQ(seen_location.Parameters.DeviceIoControl.IoControlCode, control_code(method));
    EXPECT_EQ(seen_location.Parameters.DeviceIoControl.InputBufferLength, IN_BYTES);
    EXPECT_EQ(seen_location.Parameters.DeviceIoControl.OutputBufferLength, OUT_BYTES);
}

/* METHOD_BUFFERED: one system buffer, as large as the larger of the two, for input and then output. */
TEST(io_request, control_buffered__one_system_buffer_for_both)
{
    /* IRP-02 IRP-03 Direct_I_O-01 */
    struct fixture f;
    UCHAR *in = user_pattern(1, 1), *out = user_pages(2, PAGE_READWRITE);
    uint64_t information;

    open_fixture(&f, DO_DIRECT_IO, answer_control);
    EXPECT_STATUS(control(&f, METHOD_BUFFERED, in, out, &information), STATUS_SUCCESS);
    expect_control_parameters(METHOD_BUFFERED);
    EXPECT_EQ(information, OUT_BYTES);
    EXPECT_PATTERN(out, OUT_BYTES, 2);
    EXPECT_PATTERN(in, IN_BYTES, 1);
    EXPECT_PTR_EQ(seen.MdlAddress, NULL);
    EXPECT_PTR_EQ(seen.UserBuffer, out);
    close_fixture(&f);
    pinion_user_free(in);
    pinion_user_free(out);
}

/* METHOD_IN_DIRECT and METHOD_OUT_DIRECT: input in the system buffer, the output buffer as a locked MDL. */
TEST(io_request, control_direct__input_buffered__output_as_mdl)
{
    /* IRP-01 IRP-02 Direct_I_O-01 */
    struct fixture f;
    UCHAR *in = user_pattern(1, 1), *out = user_pages(2, PAGE_READWRITE);

    open_fixture(&f, 0, answer_control);
    for (ULONG method = METHOD_IN_DIRECT; method <= METHOD_OUT_DIRECT; method++) {
        memset(out, 0, OUT_BYTES);
        EXPECT_STATUS(control(&f, method, in, out, NULL), STATUS_SUCCESS);
        expect_control_parameters(method);
        EXPECT(seen.AssociatedIrp.SystemBuffer != NULL);
        EXPECT_PTR_EQ((UCHAR *)seen_mdl.StartVa + seen_mdl.ByteOffset, out);
        EXPECT_EQ(seen_mdl.ByteCount, OUT_BYTES);
        EXPECT_EQ((seen_mdl.MdlFlags & MDL_WRITE_OPERATION) != 0, method == METHOD_OUT_DIRECT);
        if (method == METHOD_OUT_DIRECT)
            EXPECT_PATTERN(out, OUT_BYTES, 2);
    }
    close_fixture(&f);
    pinion_user_free(in);
    pinion_user_free(out);
}

/* METHOD_IN_DIRECT asks for read access to the second buffer, METHOD_OUT_DIRECT for write access. */
TEST(io_request, control_direct__read_only_output__only_in_direct_takes_it)
{
    struct fixture f;
    UCHAR *in = user_pattern(1, 1), *out = user_pages(2, PAGE_READONLY);

    open_fixture(&f, 0, answer_control);
    EXPECT_STATUS(control(&f, METHOD_IN_DIRECT, in, out, NULL), STATUS_SUCCESS);
    EXPECT_STATUS(control(&f, METHOD_OUT_DIRECT, in, out, NULL), STATUS_ACCESS_VIOLATION);
    EXPECT_STATUS(control(&f, METHOD_BUFFERED, in, out, NULL), STATUS_ACCESS_VIOLATION);
    EXPECT_EQ(calls, 1);
    close_fixture(&f);
    pinion_user_free(in);
    pinion_user_free(out);
}

/* METHOD_NEITHER: the raw addresses, and nothing else. */
TEST(io_request, control_neither__raw_addresses)
{
    /* IRP-03 */
    struct fixture f;

    open_fixture(&f, DO_BUFFERED_IO, answer_control);
    EXPECT_STATUS(control(&f, METHOD_NEITHER, (void *)0x1111, (void *)0x2222, NULL), STATUS_SUCCESS);
    expect_control_parameters(METHOD_NEITHER);
    EXPECT_PTR_EQ(seen_location.Parameters.DeviceIoControl.Type3InputBuffer, (void *)0x1111);
    EXPECT_PTR_EQ(seen.UserBuffer, (void *)0x2222);
    EXPECT_PTR_EQ(seen.AssociatedIrp.SystemBuffer, NULL);
    EXPECT_PTR_EQ(seen.MdlAddress, NULL);
    close_fixture(&f);
}

/* Buffers of no length have neither system buffer nor MDL. */
TEST(io_request, control__no_buffers__has_none)
{
    /* Direct_I_O-03 */
    struct fixture f;

    open_fixture(&f, 0, look_and_succeed);
    for (ULONG method = METHOD_BUFFERED; method <= METHOD_NEITHER; method++) {
        control(&f, method, NULL, NULL, NULL);
        EXPECT_PTR_EQ(seen.AssociatedIrp.SystemBuffer, NULL);
        EXPECT_PTR_EQ(seen.MdlAddress, NULL);
    }
    EXPECT_EQ(calls, 4);
    close_fixture(&f);
}

/* ---- opening and closing ----------------------------------------------------------------------------------------- */

static char majors[16];
static NTSTATUS create_status;

static NTSTATUS log_major(HARNESS_UNUSED PDEVICE_OBJECT device, PIRP irp)
{
    const UCHAR major = IoGetCurrentIrpStackLocation(irp)->MajorFunction;

    majors[strlen(majors)] = (char)('a' + major);
    return layer_complete(irp, major == IRP_MJ_CREATE ? create_status : STATUS_SUCCESS, 0);
}

/* A file is created, cleaned up and closed, in this order; a refused create is the end of it. */
TEST(io_request, open_and_close__send_create_cleanup_close)
{
    struct layer layer;
    PFILE_OBJECT file = NULL;
    const char expected[] = {'a' + IRP_MJ_CREATE, 'a' + IRP_MJ_CLEANUP, 'a' + IRP_MJ_CLOSE, 'a' + IRP_MJ_CREATE, 0};

    layer_create(&layer, 0, complete_with_success);
    for (int major = 0; major <= IRP_MJ_MAXIMUM_FUNCTION; major++)
        layer.driver->MajorFunction[major] = log_major;
    EXPECT_STATUS(pinion_open(layer.device, &file), STATUS_SUCCESS);
    EXPECT_PTR_EQ(file->DeviceObject, layer.device);
    EXPECT_EQ(file->Type, IO_TYPE_FILE);
    pinion_close(file);
    file = NULL;
    create_status = STATUS_ACCESS_DENIED;
    EXPECT_STATUS(pinion_open(layer.device, &file), STATUS_ACCESS_DENIED);
    EXPECT_PTR_EQ(file, NULL);
    EXPECT_MEM_EQ(majors, expected, sizeof(expected));
    layer_destroy(&layer);
}

/* A file that is never closed is told, and so is its device, which therefore was never deleted. */
TEST_UNTIDY(io_request, open__never_closed__is_a_leak)
{
    struct layer layer;
    PFILE_OBJECT file;

    layer_create(&layer, 0, complete_with_success);
    EXPECT_STATUS(pinion_open(layer.device, &file), STATUS_SUCCESS);
    EXPECT_EQ(pinion_shutdown(), 2);
}
