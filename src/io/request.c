/* SPDX-License-Identifier: MIT */
/* Requests of host programs, made as the I/O manager makes those of ReadFile, WriteFile and DeviceIoControl. */

#include "io/io.h"

/* ---- making and ending requests ---- */

static PIRP new_request(struct machine *machine, struct io_file *file, PDEVICE_OBJECT top, io_finish_fn *finish)
{
    PIRP irp = io_irp_new(machine, top->StackSize, finish);

    if (irp == NULL)
        return NULL;
    io_slot_of(machine, irp)->file = file;
    io_file_use(file);
    irp->RequestorMode = UserMode;
    irp->Tail.Overlay.Thread = PsGetCurrentThread();
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

/* ---- reads and writes ---- */

static NTSTATUS build_transfer(struct machine *machine, struct io_file *file, PDEVICE_OBJECT top,
                               const struct pinion_request *request, io_finish_fn *finish, PIRP *irp)
{
    const struct io_transfer transfer = {.write = request->operation == PINION_WRITE,
                                         .buffer = {request->buffer, request->bytes},
                                         .offset = (LONGLONG)request->offset};
    NTSTATUS status;

    *irp = new_request(machine, file, top, finish);
    if (*irp == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    status = io_attach_transfer(machine, *irp, top->Flags, &transfer);
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
    request->sent = NT_SUCCESS(status);
    if (!request->sent)
        return status;
    io_slot_of(machine, irp)->requester = request;
    return IofCallDriver(top, irp);
}

unsigned pinion_report_lost(PFILE_OBJECT file)
{
    return io_irps_report_lost(ke_machine(), (struct io_file *)(void *)file);
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

static NTSTATUS build_control(struct machine *machine, struct io_file *file, PDEVICE_OBJECT top,
                              const struct io_control *control, PIRP *irp)
{
    NTSTATUS status;

    *irp = new_request(machine, file, top, io_finish_wait);
    if (*irp == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    status = io_attach_control(machine, *irp, control);
    if (!NT_SUCCESS(status))
        abandon(machine, *irp);
    return status;
}

NTSTATUS pinion_control(PFILE_OBJECT file, ULONG code, void *in, ULONG in_bytes, void *out, ULONG out_bytes,
                        uint64_t *information)
{
    struct machine *machine = ke_machine();
    const struct io_control control = {.code = code, .in = {in, in_bytes}, .out = {out, out_bytes}};
    struct io_file *opened = (struct io_file *)(void *)file;
    PDEVICE_OBJECT top = io_device_top(opened->device);
    ULONG_PTR returned = 0;
    PIRP irp;
    NTSTATUS status;

    status = build_control(machine, opened, top, &control, &irp);
    if (NT_SUCCESS(status))
        status = io_send_and_wait(machine, top, irp, &returned);
    if (information != NULL)
        *information = returned;
    return status;
}
