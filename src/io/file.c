/* SPDX-License-Identifier: MIT */
/*
 * Open files: IRP_MJ_CREATE, and at the end IRP_MJ_CLEANUP and IRP_MJ_CLOSE.
 *
 * Windows sends IRP_MJ_CLOSE when the last request of a file is over. So does pinion_close, which waits for them:
 * after IRP_MJ_CLEANUP, in which drivers give back what they still hold, all should come. Requests that do not are
 * lost; after a while that is said, and the file stays, because they may still refer to it.
 */

#include "io/io.h"

#include <stdlib.h>

#define CLOSE_TIMEOUT_NS 10000000000ll

enum { OPEN_EXISTING_FILE = 1, SHARE_ALL = 7 };         /* Parameters.Create: FILE_OPEN, FILE_SHARE_* */

/* ---- the object ---- */

static struct io_file *new_file(struct machine *machine, PDEVICE_OBJECT device)
{
    struct io_file *file = ke_internal_fails() ? NULL : calloc(1, sizeof(*file));

    if (file == NULL)
        return NULL;
    file->object = (FILE_OBJECT){
        .Type = IO_TYPE_FILE, .Size = sizeof(FILE_OBJECT), .DeviceObject = device,
        .ReadAccess = TRUE, .WriteAccess = TRUE, .SharedRead = TRUE, .SharedWrite = TRUE,
    };
    KeInitializeEvent(&file->object.Event, NotificationEvent, FALSE);
    KeInitializeEvent(&file->object.Lock, SynchronizationEvent, FALSE);
    InitializeListHead(&file->object.IrpList);
    file->device = device;
    file->uses = 1;
    host_gate_init(&file->unused);
    io_device_hold(machine, device);
    return file;
}

static void free_file(struct machine *machine, struct io_file *file)
{
    io_device_release(machine, file->device);
    host_gate_destroy(&file->unused);
    free(file);
}

static void list_file(struct io_state *io, struct io_file *file)
{
    host_mutex_lock(&io->lock);
    file->next = io->files;
    file->link = &io->files;
    if (file->next != NULL)
        file->next->link = &file->next;
    io->files = file;
    host_mutex_unlock(&io->lock);
}

static void unlist_file(struct io_state *io, struct io_file *file)
{
    host_mutex_lock(&io->lock);
    *file->link = file->next;
    if (file->next != NULL)
        file->next->link = file->link;
    host_mutex_unlock(&io->lock);
}

/* ---- its requests ---- */

static PIRP new_request(struct machine *machine, struct io_file *file, PDEVICE_OBJECT top, UCHAR major)
{
    PIRP irp = io_irp_new(machine, top->StackSize, io_finish_wait);

    if (irp == NULL)
        return NULL;
    irp->RequestorMode = KernelMode;
    irp->Flags = IRP_SYNCHRONOUS_API;
    irp->Tail.Overlay.OriginalFileObject = &file->object;
    IoGetNextIrpStackLocation(irp)->MajorFunction = major;
    IoGetNextIrpStackLocation(irp)->FileObject = &file->object;
    return irp;
}

static NTSTATUS send_create(struct machine *machine, struct io_file *file)
{
    PDEVICE_OBJECT top = io_device_top(file->device);
    PIRP irp = new_request(machine, file, top, IRP_MJ_CREATE);
    PIO_STACK_LOCATION location;
    ULONG_PTR information;

    if (irp == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    irp->RequestorMode = UserMode;
    irp->Flags |= IRP_CREATE_OPERATION;
    location = IoGetNextIrpStackLocation(irp);
    location->Parameters.Create.Options = (ULONG)OPEN_EXISTING_FILE << 24;
    location->Parameters.Create.ShareAccess = SHARE_ALL;
    return io_send_and_wait(machine, top, irp, &information);
}

/* What a driver answers to these has no effect, on Windows as here. */
static void send_farewell(struct machine *machine, struct io_file *file, UCHAR major)
{
    PDEVICE_OBJECT top = io_device_top(file->device);
    PIRP irp = new_request(machine, file, top, major);
    ULONG_PTR information;

    if (irp != NULL)
        (void)io_send_and_wait(machine, top, irp, &information);
}

/* ---- the host API ---- */

NTSTATUS pinion_open(PDEVICE_OBJECT device, PFILE_OBJECT *file)
{
    struct machine *machine = ke_machine();
    struct io_file *opened = new_file(machine, device);
    NTSTATUS status;

    if (opened == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    status = send_create(machine, opened);
    if (!NT_SUCCESS(status)) {
        free_file(machine, opened);
        return status;
    }
    opened->object.Flags |= FO_HANDLE_CREATED;
    list_file(machine->io, opened);
    *file = &opened->object;
    return status;
}

void pinion_close(PFILE_OBJECT object)
{
    struct machine *machine = ke_machine();
    struct io_file *file = (struct io_file *)(void *)object;

    send_farewell(machine, file, IRP_MJ_CLEANUP);
    file->object.Flags |= FO_CLEANUP_COMPLETE;
    io_file_unuse(file);
    if (!ke_gate_wait(&file->unused, CLOSE_TIMEOUT_NS)) {
        ke_warn("irp-lost", "%u requests of a file were not completed, even after IRP_MJ_CLEANUP, or it is still cached: it stays open",
                atomic_load(&file->uses));
        return;
    }
    send_farewell(machine, file, IRP_MJ_CLOSE);
    unlist_file(machine->io, file);
    free_file(machine, file);
}

/* ---- what is left ---- */

void io_files_check(struct machine *machine)
{
    host_mutex_lock(&machine->io->lock);
    for (const struct io_file *file = machine->io->files; file != NULL; file = file->next)
        if (!(file->object.Flags & FO_CLEANUP_COMPLETE))
            ke_warn("file-leak", "a file on device %p was never closed", (void *)file->device);
    host_mutex_unlock(&machine->io->lock);
}

void io_files_shutdown(struct machine *machine)
{
    while (machine->io->files != NULL) {
        struct io_file *file = machine->io->files;

        unlist_file(machine->io, file);
        free_file(machine, file);
    }
}
