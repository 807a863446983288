/* SPDX-License-Identifier: MIT */
/*
 * Requests of host programs, made as the I/O manager makes those of ReadFile, WriteFile and DeviceIoControl.
 *
 *                    system buffer                    MDL                          raw addresses
 *     read, write    DO_BUFFERED_IO                   DO_DIRECT_IO                 neither flag
 *     control        METHOD_BUFFERED, and the         the output buffer of         METHOD_NEITHER
 *                    input buffer of both *_DIRECT    both *_DIRECT
 *
 * A buffer is looked at while its owner is the current process: a bad one never reaches a driver.
 */

#include "io/io.h"

#include <string.h>

/* ---- the requester's memory ---- */

struct user_buffer {
    void *va;
    ULONG bytes;
};

static bool is_users(struct machine *machine, uintptr_t va)
{
    struct mm_space *space;

    switch (mm_classify(machine, va, &space)) {
    case MM_KIND_HOST:
        return true;
    case MM_KIND_PROCESS:
        return space == mm_current_space(machine);
    default:
        return false;
    }
}

/* May user mode name this range at all? What it may do there is seen by touching it. */
static bool is_user_range(struct machine *machine, struct user_buffer buffer)
{
    const uintptr_t va = (uintptr_t)buffer.va;

    if (buffer.bytes == 0)
        return true;
    if (va == 0 || span_wraps(va, buffer.bytes))
        return false;
    return is_users(machine, va) && is_users(machine, va + (buffer.bytes - 1));
}

struct capture {
    void              *to;
    struct user_buffer from;
};

static void capture_bytes(void *context)
{
    const struct capture *capture = context;

    memcpy(capture->to, capture->from.va, capture->from.bytes);
}

static NTSTATUS copy_from_user(struct machine *machine, void *to, struct user_buffer from)
{
    struct capture capture = {to, from};

    if (!is_user_range(machine, from))
        return STATUS_ACCESS_VIOLATION;
    return from.bytes == 0 ? STATUS_SUCCESS : pinion_try(capture_bytes, &capture);
}

static void touch_pages(void *context)
{
    const struct user_buffer *buffer = context;
    uint8_t *const first = buffer->va;
    uint8_t *const last = first + (buffer->bytes - 1);

    for (uint8_t *at = first; at < last; at = (uint8_t *)span_page_base((uintptr_t)at) + SPAN_PAGE_SIZE)
        host_probe_write(at);
    host_probe_write(last);
}

static NTSTATUS probe_for_write(struct machine *machine, struct user_buffer buffer)
{
    if (!is_user_range(machine, buffer))
        return STATUS_ACCESS_VIOLATION;
    return buffer.bytes == 0 ? STATUS_SUCCESS : pinion_try(touch_pages, &buffer);
}

/* ---- buffers of an IRP ---- */

/* One buffer for input and output, as large as the larger. It is released with the IRP, also on failure. */
static NTSTATUS attach_system_buffer(struct machine *machine, PIRP irp, struct user_buffer in,
                                     struct user_buffer out)
{
    struct io_slot *slot = io_slot_of(machine, irp);
    const ULONG bytes = in.bytes > out.bytes ? in.bytes : out.bytes;
    NTSTATUS status;

    irp->Flags |= IRP_BUFFERED_IO;
    if (bytes == 0)
        return STATUS_SUCCESS;
    slot->system_buffer = ExAllocatePoolWithTag(NonPagedPoolNx, bytes, IO_BUFFER_TAG);
    if (slot->system_buffer == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    irp->AssociatedIrp.SystemBuffer = slot->system_buffer;
    irp->Flags |= IRP_DEALLOCATE_BUFFER;
    status = copy_from_user(machine, slot->system_buffer, in);
    if (NT_SUCCESS(status))
        status = probe_for_write(machine, out);
    if (!NT_SUCCESS(status) || out.bytes == 0)
        return status;
    irp->Flags |= IRP_INPUT_OPERATION;
    irp->UserBuffer = out.va;
    slot->user_buffer = out.va;
    slot->user_bytes = out.bytes;
    return STATUS_SUCCESS;
}

/* There is no MDL for no bytes. */
static NTSTATUS attach_mdl(struct machine *machine, PIRP irp, struct user_buffer buffer,
                           LOCK_OPERATION operation)
{
    PMDL mdl;
    NTSTATUS status;

    if (buffer.bytes == 0)
        return STATUS_SUCCESS;
    mdl = mdl_new(machine, (uintptr_t)buffer.va, buffer.bytes);
    if (mdl == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    status = mdl_lock(machine, mdl, UserMode, operation);
    if (NT_SUCCESS(status))
        irp->MdlAddress = mdl;
    else
        mdl_destroy(machine, mdl);
    return status;
}

/* ---- making and ending requests ---- */

static PIRP new_request(struct machine *machine, struct io_file *file, PDEVICE_OBJECT top, io_finish_fn *finish)
{
    PIRP irp = io_irp_new(machine, top->StackSize, finish);

    if (irp == NULL)
        return NULL;
    io_slot_of(machine, irp)->file = file;
    io_file_use(file);
    irp->RequestorMode = UserMode;
    irp->Tail.Overlay.Thread = (PETHREAD)(void *)ke_self();
    irp->Tail.Overlay.OriginalFileObject = &file->object;
    IoGetNextIrpStackLocation(irp)->FileObject = &file->object;
    return irp;
}

/* A request that was never sent. */
static void abandon(struct machine *machine, PIRP irp)
{
    struct io_file *file = io_slot_of(machine, irp)->file;

    io_irp_release_buffers(machine, irp);
    io_irp_free(machine, irp);
    io_file_unuse(file);
}

/* The waiter frees the slot, so signalling it is the last that is done here. */
void io_finish_wait(struct machine *machine, struct io_slot *slot, const IO_STATUS_BLOCK *outcome)
{
    (void)machine;
    slot->outcome = *outcome;
    if (slot->file != NULL)
        io_file_unuse(slot->file);
    KeSetEvent(&slot->event, IO_NO_INCREMENT, FALSE);
}

/* The file counts as in use until `done` has returned: pinion_close waits for that too. */
static void finish_submitted(struct machine *machine, struct io_slot *slot, const IO_STATUS_BLOCK *outcome)
{
    struct pinion_request *request = slot->requester;
    struct io_file *file = slot->file;

    request->status = outcome->Status;
    request->information = outcome->Information;
    io_irp_free(machine, io_slot_irp(slot));
    request->done(request);
    io_file_unuse(file);
}

/*
 * A dispatch routine that answers anything but STATUS_PENDING has completed its IRP. One that has not, has lost
 * it, and the requester would never end on Windows: here that is said, and the wait given up.
 */
static bool wait_for_end(struct io_slot *slot, NTSTATUS answer, UCHAR major)
{
    LARGE_INTEGER patience = {.QuadPart = -10000000};    /* 1 s */

    if (answer == STATUS_PENDING || KeReadStateEvent(&slot->event) != 0)
        return KeWaitForSingleObject(&slot->event, Executive, KernelMode, FALSE, NULL) == STATUS_SUCCESS;
    ke_warn("irp-lost",
            "the dispatch routine for major function 0x%02X returned 0x%08X, but it has not completed the IRP; a "
            "driver that keeps one marks it pending and returns STATUS_PENDING", major, (unsigned)answer);
    return KeWaitForSingleObject(&slot->event, Executive, KernelMode, FALSE, &patience) == STATUS_SUCCESS;
}

NTSTATUS io_send_and_wait(struct machine *machine, PDEVICE_OBJECT device, PIRP irp, ULONG_PTR *information)
{
    struct io_slot *slot = io_slot_of(machine, irp);
    const UCHAR major = IoGetNextIrpStackLocation(irp)->MajorFunction;
    IO_STATUS_BLOCK outcome;

    KeInitializeEvent(&slot->event, NotificationEvent, FALSE);
    irp->UserEvent = &slot->event;
    irp->UserIosb = &slot->outcome;
    if (!wait_for_end(slot, IofCallDriver(device, irp), major))
        return STATUS_UNSUCCESSFUL;
    outcome = slot->outcome;
    io_irp_free(machine, irp);
    *information = outcome.Information;
    return outcome.Status;
}

/* ---- reads and writes ---- */

static void describe_transfer(PIRP irp, const struct pinion_request *request)
{
    PIO_STACK_LOCATION location = IoGetNextIrpStackLocation(irp);

    if (request->operation == PINION_WRITE) {
        irp->Flags |= IRP_WRITE_OPERATION;
        location->MajorFunction = IRP_MJ_WRITE;
        location->Parameters.Write.Length = request->bytes;
        location->Parameters.Write.ByteOffset.QuadPart = (LONGLONG)request->offset;
    } else {
        irp->Flags |= IRP_READ_OPERATION;
        location->MajorFunction = IRP_MJ_READ;
        location->Parameters.Read.Length = request->bytes;
        location->Parameters.Read.ByteOffset.QuadPart = (LONGLONG)request->offset;
    }
}

static NTSTATUS attach_transfer_buffer(struct machine *machine, ULONG device_flags, PIRP irp,
                                       const struct pinion_request *request)
{
    const struct user_buffer buffer = {request->buffer, request->bytes}, none = {0};
    const bool write = request->operation == PINION_WRITE;

    if (device_flags & DO_BUFFERED_IO)
        return attach_system_buffer(machine, irp, write ? buffer : none, write ? none : buffer);
    if (device_flags & DO_DIRECT_IO)
        return attach_mdl(machine, irp, buffer, write ? IoReadAccess : IoWriteAccess);
    irp->UserBuffer = request->buffer;
    return STATUS_SUCCESS;
}

static NTSTATUS build_transfer(struct machine *machine, struct io_file *file, PDEVICE_OBJECT top,
                               const struct pinion_request *request, io_finish_fn *finish, PIRP *irp)
{
    NTSTATUS status;

    *irp = new_request(machine, file, top, finish);
    if (*irp == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    describe_transfer(*irp, request);
    status = attach_transfer_buffer(machine, top->Flags, *irp, request);
    if (!NT_SUCCESS(status))
        abandon(machine, *irp);
    return status;
}

NTSTATUS pinion_submit(PFILE_OBJECT file, struct pinion_request *request)
{
    struct machine *machine = ke_machine();
    struct io_file *opened = (struct io_file *)(void *)file;
    PDEVICE_OBJECT top = io_device_top(opened->device);
    PIRP irp;
    NTSTATUS status;

    if (request->done == NULL)
        ke_usage("pinion_submit: the request has no `done`; set it, or call pinion_transfer, which waits");
    status = build_transfer(machine, opened, top, request, finish_submitted, &irp);
    if (!NT_SUCCESS(status))
        return status;
    io_slot_of(machine, irp)->requester = request;
    return IofCallDriver(top, irp);
}

NTSTATUS pinion_transfer(PFILE_OBJECT file, struct pinion_request *request)
{
    struct machine *machine = ke_machine();
    struct io_file *opened = (struct io_file *)(void *)file;
    PDEVICE_OBJECT top = io_device_top(opened->device);
    ULONG_PTR information = 0;
    PIRP irp;

    request->status = build_transfer(machine, opened, top, request, io_finish_wait, &irp);
    if (NT_SUCCESS(request->status))
        request->status = io_send_and_wait(machine, top, irp, &information);
    request->information = information;
    return request->status;
}

/* ---- device control ---- */

static NTSTATUS attach_control_buffers(struct machine *machine, PIRP irp, ULONG code, struct user_buffer in,
                                       struct user_buffer out)
{
    const ULONG method = METHOD_FROM_CTL_CODE(code);
    const struct user_buffer none = {0};
    NTSTATUS status;

    switch (method) {
    case METHOD_BUFFERED:
        return attach_system_buffer(machine, irp, in, out);
    case METHOD_NEITHER:
        IoGetNextIrpStackLocation(irp)->Parameters.DeviceIoControl.Type3InputBuffer = in.va;
        irp->UserBuffer = out.va;
        return STATUS_SUCCESS;
    default:
        status = attach_system_buffer(machine, irp, in, none);
        if (!NT_SUCCESS(status))
            return status;
        return attach_mdl(machine, irp, out, method == METHOD_IN_DIRECT ? IoReadAccess : IoWriteAccess);
    }
}

static NTSTATUS build_control(struct machine *machine, struct io_file *file, PDEVICE_OBJECT top, ULONG code,
                              struct user_buffer in, struct user_buffer out, PIRP *irp)
{
    PIO_STACK_LOCATION location;
    NTSTATUS status;

    *irp = new_request(machine, file, top, io_finish_wait);
    if (*irp == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    location = IoGetNextIrpStackLocation(*irp);
    location->MajorFunction = IRP_MJ_DEVICE_CONTROL;
    location->Parameters.DeviceIoControl.IoControlCode = code;
    location->Parameters.DeviceIoControl.InputBufferLength = in.bytes;
    location->Parameters.DeviceIoControl.OutputBufferLength = out.bytes;
    status = attach_control_buffers(machine, *irp, code, in, out);
    if (!NT_SUCCESS(status))
        abandon(machine, *irp);
    return status;
}

NTSTATUS pinion_control(PFILE_OBJECT file, ULONG code, void *in, ULONG in_bytes, void *out, ULONG out_bytes,
                        uint64_t *information)
{
    struct machine *machine = ke_machine();
    const struct user_buffer input = {in, in_bytes}, output = {out, out_bytes};
    struct io_file *opened = (struct io_file *)(void *)file;
    PDEVICE_OBJECT top = io_device_top(opened->device);
    ULONG_PTR returned = 0;
    PIRP irp;
    NTSTATUS status;

    status = build_control(machine, opened, top, code, input, output, &irp);
    if (NT_SUCCESS(status))
        status = io_send_and_wait(machine, top, irp, &returned);
    if (information != NULL)
        *information = returned;
    return status;
}
