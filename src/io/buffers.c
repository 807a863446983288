/* SPDX-License-Identifier: MIT */
/*
 * What a requester's buffers become in an IRP, whoever the requester is.
 *
 *                    system buffer                    MDL                          raw addresses
 *     read, write    DO_BUFFERED_IO                   DO_DIRECT_IO                 neither flag
 *     control        METHOD_BUFFERED, and the         the output buffer of         METHOD_NEITHER
 *                    input buffer of both *_DIRECT    both *_DIRECT
 *
 * A buffer of user mode is looked at while its owner is the current process: a bad one never reaches a driver. One of
 * kernel mode is trusted as far as it is not touched here.
 */

#include "io/io.h"

#include <string.h>

/* ---- the requester's memory ---- */

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

/* May this mode name the range at all? What it may do there is seen by touching it. */
static bool may_name(struct machine *machine, KPROCESSOR_MODE mode, struct io_buffer buffer)
{
    const uintptr_t va = (uintptr_t)buffer.va;

    if (mode == KernelMode)
        return true;
    if (va == 0 || span_wraps(va, buffer.bytes))
        return false;
    return is_users(machine, va) && is_users(machine, va + (buffer.bytes - 1));
}

struct capture {
    void            *to;
    struct io_buffer from;
};

static void capture_bytes(void *context)
{
    const struct capture *capture = context;

    memcpy(capture->to, capture->from.va, capture->from.bytes);
}

static NTSTATUS capture_input(struct machine *machine, KPROCESSOR_MODE mode, void *to, struct io_buffer from)
{
    struct capture capture = {to, from};

    if (from.bytes == 0)
        return STATUS_SUCCESS;
    return may_name(machine, mode, from) ? pinion_try(capture_bytes, &capture) : STATUS_ACCESS_VIOLATION;
}

static void touch_pages(void *context)
{
    const struct io_buffer *buffer = context;

    host_probe_write(buffer->va, buffer->bytes);
}

static NTSTATUS probe_output(struct machine *machine, KPROCESSOR_MODE mode, struct io_buffer buffer)
{
    if (buffer.bytes == 0 || mode == KernelMode)
        return STATUS_SUCCESS;
    return may_name(machine, mode, buffer) ? pinion_try(touch_pages, &buffer) : STATUS_ACCESS_VIOLATION;
}

/* ---- system buffers and MDLs ---- */

/* The buffer of an IRP that a driver will free is that driver's too. */
static void *new_system_buffer(struct machine *machine, const struct io_slot *slot, ULONG bytes)
{
    if (io_is_managers(slot))
        return mm_pool_allocate(machine, NonPagedPoolNx, bytes, IO_BUFFER_TAG);
    return mm_pool_allocate_for_driver(machine, NonPagedPoolNx, bytes, IO_BUFFER_TAG);
}

/* One buffer for input and output, as large as the larger. It is released with the IRP, also on failure. */
static NTSTATUS attach_system_buffer(struct machine *machine, PIRP irp, struct io_buffer in, struct io_buffer out)
{
    struct io_slot *slot = io_slot_of(machine, irp);
    const ULONG bytes = in.bytes > out.bytes ? in.bytes : out.bytes;
    NTSTATUS status;

    irp->Flags |= IRP_BUFFERED_IO;
    if (bytes == 0)
        return STATUS_SUCCESS;
    slot->system_buffer = new_system_buffer(machine, slot, bytes);
    if (slot->system_buffer == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    irp->AssociatedIrp.SystemBuffer = slot->system_buffer;
    irp->Flags |= IRP_DEALLOCATE_BUFFER;
    status = capture_input(machine, irp->RequestorMode, slot->system_buffer, in);
    if (NT_SUCCESS(status))
        status = probe_output(machine, irp->RequestorMode, out);
    if (!NT_SUCCESS(status) || out.bytes == 0)
        return status;
    irp->Flags |= IRP_INPUT_OPERATION;
    irp->UserBuffer = out.va;
    slot->user_buffer = out.va;
    slot->user_bytes = out.bytes;
    return STATUS_SUCCESS;
}

/* There is no MDL for no bytes. */
NTSTATUS io_attach_mdl(struct machine *machine, PIRP irp, struct io_buffer buffer, LOCK_OPERATION operation)
{
    PMDL mdl;
    NTSTATUS status;

    if (buffer.bytes == 0)
        return STATUS_SUCCESS;
    mdl = mdl_new(machine, (uintptr_t)buffer.va, buffer.bytes);
    if (mdl == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    status = mdl_lock(machine, mdl, irp->RequestorMode, operation);
    if (NT_SUCCESS(status))
        irp->MdlAddress = mdl;
    else
        mdl_destroy(machine, mdl);
    return status;
}

/* ---- reads and writes ---- */

void io_describe_transfer(PIRP irp, const struct io_transfer *transfer)
{
    PIO_STACK_LOCATION location = IoGetNextIrpStackLocation(irp);

    if (transfer->write) {
        irp->Flags |= IRP_WRITE_OPERATION;
        location->MajorFunction = IRP_MJ_WRITE;
        location->Parameters.Write.Length = transfer->buffer.bytes;
        location->Parameters.Write.ByteOffset.QuadPart = transfer->offset;
    } else {
        irp->Flags |= IRP_READ_OPERATION;
        location->MajorFunction = IRP_MJ_READ;
        location->Parameters.Read.Length = transfer->buffer.bytes;
        location->Parameters.Read.ByteOffset.QuadPart = transfer->offset;
    }
}

NTSTATUS io_attach_transfer(struct machine *machine, PIRP irp, ULONG device_flags, const struct io_transfer *transfer)
{
    const struct io_buffer buffer = transfer->buffer, none = {0};
    const bool write = transfer->write;

    io_describe_transfer(irp, transfer);
    if (device_flags & DO_BUFFERED_IO)
        return attach_system_buffer(machine, irp, write ? buffer : none, write ? none : buffer);
    if (device_flags & DO_DIRECT_IO)
        return io_attach_mdl(machine, irp, buffer, write ? IoReadAccess : IoWriteAccess);
    irp->UserBuffer = buffer.va;
    return STATUS_SUCCESS;
}

/* ---- device control ---- */

NTSTATUS io_attach_control(struct machine *machine, PIRP irp, const struct io_control *control)
{
    const PIO_STACK_LOCATION location = IoGetNextIrpStackLocation(irp);
    const ULONG method = METHOD_FROM_CTL_CODE(control->code);
    const struct io_buffer none = {0};
    NTSTATUS status;

    location->MajorFunction = control->internal ? IRP_MJ_INTERNAL_DEVICE_CONTROL : IRP_MJ_DEVICE_CONTROL;
    location->Parameters.DeviceIoControl.IoControlCode = control->code;
    location->Parameters.DeviceIoControl.InputBufferLength = control->in.bytes;
    location->Parameters.DeviceIoControl.OutputBufferLength = control->out.bytes;
    switch (method) {
    case METHOD_BUFFERED:
        return attach_system_buffer(machine, irp, control->in, control->out);
    case METHOD_NEITHER:
        location->Parameters.DeviceIoControl.Type3InputBuffer = control->in.va;
        irp->UserBuffer = control->out.va;
        return STATUS_SUCCESS;
    default:
        status = attach_system_buffer(machine, irp, control->in, none);
        if (!NT_SUCCESS(status))
            return status;
        return io_attach_mdl(machine, irp, control->out, method == METHOD_IN_DIRECT ? IoReadAccess : IoWriteAccess);
    }
}

/* ---- release ---- */

/* The pages of a partial MDL are locked by its source, those of pool by nature. */
static bool holds_lock(const MDL *mdl)
{
    return mdl_has(mdl, MDL_PAGES_LOCKED) && !mdl_has(mdl, MDL_PARTIAL | MDL_SOURCE_IS_NONPAGED_POOL);
}

void io_unlock_mdls(struct machine *machine, PMDL chain)
{
    for (PMDL mdl = chain; mdl != NULL; mdl = mdl->Next) {
        KE_HOOK(machine, mdl_use_check, mdl);       /* a driver may have freed it, */
        if (holds_lock(mdl)) {
            KE_HOOK(machine, mdl_unlock_check, mdl);        /* unlocked or changed it */
            mdl_unlock(machine, mdl);
        }
    }
}

/* All locks of a chain go before any of its MDLs does. */
void io_release_mdls(struct machine *machine, PMDL chain)
{
    PMDL next;

    io_unlock_mdls(machine, chain);
    for (PMDL mdl = chain; mdl != NULL; mdl = next) {
        next = mdl->Next;
        mdl_destroy(machine, mdl);
    }
}

void io_irp_release_buffers(struct machine *machine, PIRP irp)
{
    struct io_slot *slot = io_slot_of(machine, irp);

    io_release_mdls(machine, irp->MdlAddress);
    irp->MdlAddress = NULL;
    if (slot->system_buffer != NULL)
        mm_pool_free(machine, slot->system_buffer);
    slot->system_buffer = NULL;
}
