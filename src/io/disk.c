/* SPDX-License-Identifier: MIT */
/*
 * The disk that a file backs: a physical device of a driver of ours, at the bottom of somebody's stack.
 *
 * It does direct I/O as a bus-master device does: a transfer goes between the file and the pages that the MDLs'
 * PFNs name, never through a mapping.
 *
 *     Irp->MdlAddress -> MDL -> MDL      PFNs, from ByteOffset, ByteCount bytes each
 *                        |      |
 *                        runs of pages that are contiguous in this process -> segments -> host_aio
 *
 * A request is checked as a whole before anything moves. It completes at DISPATCH_LEVEL, as from a disk's DPC.
 *
 * With disk=turns transfers are made at once, and every second one ends inside IoCallDriver, the others in order when a thread has
 * nothing else to do. A driver meets both ways, and in the same order each time.
 *
 * To a driver of its own it is a bus master instead (pinion/disk.h): it follows scatter/gather lists, by logical addresses, as
 * far as the driver's DMA adapter lets it.
 */

#include "dma/dma.h"
#include "io/io.h"
#include "pinion/disk.h"

#include <errno.h>
#include <stdlib.h>

enum { FEW_SEGMENTS = 16, MOST_SPARE = 64, SECTOR_BYTES = 512, MOST_SEGMENTS_BYTES = 1 << 30 };

/* IOCTL_DISK_GET_LENGTH_INFO: what an upper driver may ask. Function 0x17 of FILE_DEVICE_DISK. */
enum { GET_LENGTH_INFO = 0x0007405C };

struct transfer;

/* The device extension. Key: (C) constant while the disk runs (L) under the lock */
struct disk {
    struct host_file  file;             /* (C) */
    struct host_aio  *aio;              /* (C) NULL: the disk has come to rest for good */
    unsigned          flags;            /* (C) enum pinion_disk_flags */
    struct host_mutex lock;
    struct transfer  *spare;            /* (L) */
    unsigned          nspare;           /* (L) */
};

/* A request on its way to the host and back. */
struct transfer {
    struct host_io   io;                /* first: a struct host_io * is a struct transfer * */
    struct disk     *disk;
    PIRP             irp;
    unsigned         room;
    struct transfer *next;              /* while spare */
    struct iovec     few[FEW_SEGMENTS]; /* io.segments points here, or to memory of its own */
};

/* What is to be moved once a request has been found good. */
struct plan {
    bool     write;
    uint64_t off;
    uint64_t bytes;                     /* 0: nothing */
};

static struct disk *disk_of(PDEVICE_OBJECT device)
{
    return device->DeviceExtension;
}

static uint64_t at_most(uint64_t bytes, uint64_t most)
{
    return bytes < most ? bytes : most;
}

/* ---- transfers ---- */

static struct transfer *take_transfer(struct disk *disk)
{
    struct transfer *transfer;

    host_mutex_lock(&disk->lock);
    transfer = disk->spare;
    if (transfer != NULL) {
        disk->spare = transfer->next;
        disk->nspare--;
    }
    host_mutex_unlock(&disk->lock);
    if (transfer == NULL && !ke_internal_fails())
        transfer = malloc(sizeof(*transfer));
    if (transfer != NULL) {
        transfer->disk = disk;
        transfer->room = FEW_SEGMENTS;
        transfer->io = (struct host_io){.segments = transfer->few};
    }
    return transfer;
}

static void give_transfer(struct disk *disk, struct transfer *transfer)
{
    bool keep;

    if (transfer->io.segments != transfer->few)
        free(transfer->io.segments);
    host_mutex_lock(&disk->lock);
    keep = disk->nspare < MOST_SPARE;
    if (keep) {
        transfer->next = disk->spare;
        disk->spare = transfer;
        disk->nspare++;
    }
    host_mutex_unlock(&disk->lock);
    if (!keep)
        free(transfer);
}

/* ---- segments ---- */

static bool grow(struct transfer *transfer)
{
    const bool few = transfer->io.segments == transfer->few;
    const size_t room = (size_t)transfer->room * 4;
    struct iovec *segments;

    if (room * sizeof(*segments) > MOST_SEGMENTS_BYTES || ke_internal_fails())
        return false;
    segments = realloc(few ? NULL : transfer->io.segments, room * sizeof(*segments));
    if (segments == NULL)
        return false;
    for (unsigned i = 0; few && i < transfer->io.nsegments; i++)
        segments[i] = transfer->few[i];
    transfer->io.segments = segments;
    transfer->room = (unsigned)room;
    return true;
}

/* Pages whose numbers are far apart may lie side by side here. */
static bool extend_last(struct host_io *io, const uint8_t *va, size_t bytes)
{
    struct iovec *last;

    if (io->nsegments == 0)
        return false;
    last = &io->segments[io->nsegments - 1];
    if ((const uint8_t *)last->iov_base + last->iov_len != va)
        return false;
    last->iov_len += bytes;
    return true;
}

static bool add_segment(struct transfer *transfer, uint8_t *va, size_t bytes)
{
    struct host_io *io = &transfer->io;

    if (extend_last(io, va, bytes))
        return true;
    if (io->nsegments == transfer->room && !grow(transfer))
        return false;
    io->segments[io->nsegments++] = (struct iovec){va, bytes};
    return true;
}

/* The first `bytes` of what an MDL describes, by its PFNs. */
static NTSTATUS gather_mdl(const struct machine *machine, struct transfer *transfer, PMDL mdl, size_t bytes)
{
    const PFN_NUMBER *pfns = mdl_pfns(mdl);
    size_t left = span_pages(mdl->ByteOffset, bytes);
    size_t skip = mdl->ByteOffset;

    if (skip >= SPAN_PAGE_SIZE)
        return STATUS_INVALID_PARAMETER;
    while (bytes > 0) {
        void *va;
        const size_t run = mm_first_run(machine, pfns, left, &va);
        size_t now;

        if (run == 0)
            return STATUS_INVALID_ADDRESS;
        now = at_most(bytes, run * SPAN_PAGE_SIZE - skip);
        if (!add_segment(transfer, (uint8_t *)va + skip, now))
            return STATUS_INSUFFICIENT_RESOURCES;
        bytes -= now;
        pfns += run;
        left -= run;
        skip = 0;
    }
    return STATUS_SUCCESS;
}

static NTSTATUS gather_chain(const struct machine *machine, struct transfer *transfer, PMDL mdl, uint64_t bytes)
{
    NTSTATUS status = STATUS_SUCCESS;

    for (; NT_SUCCESS(status) && bytes > 0; mdl = mdl->Next) {
        const size_t now = at_most(bytes, mdl->ByteCount);

        status = gather_mdl(machine, transfer, mdl, now);
        bytes -= now;
    }
    return status;
}

/* The first `bytes` of what a list describes, as the device sees it. */
static NTSTATUS gather_list(struct transfer *transfer, const PINION_DISK_COMMAND *command, uint64_t bytes)
{
    const unsigned access = command->WriteToDevice ? DMA_DEVICE_READS : DMA_DEVICE_WRITES;
    const SCATTER_GATHER_ELEMENT *element = command->List->Elements;

    for (; bytes > 0; element++) {
        uint64_t la = (uint64_t)element->Address.QuadPart, left = at_most(bytes, element->Length);

        bytes -= left;
        while (left > 0) {
            uint8_t *va;
            const size_t run = dma_device_run(dma_adapter_of(command->Adapter), la, left, access, &va);

            if (run == 0)
                return STATUS_DEVICE_DATA_ERROR;
            if (!add_segment(transfer, va, run))
                return STATUS_INSUFFICIENT_RESOURCES;
            la += run;
            left -= run;
        }
    }
    return STATUS_SUCCESS;
}

/* ---- reads and writes ---- */

static bool chain_holds(const MDL *mdl, uint64_t bytes)
{
    uint64_t sum = 0;

    for (; mdl != NULL && sum < bytes; mdl = mdl->Next)
        sum += mdl->ByteCount;
    return sum >= bytes;
}

/* Parameters.Read and Parameters.Write are laid out alike. */
static NTSTATUS make_plan(const struct disk *disk, PIRP irp, struct plan *plan)
{
    const PIO_STACK_LOCATION location = IoGetCurrentIrpStackLocation(irp);
    const LONGLONG off = location->Parameters.Read.ByteOffset.QuadPart;
    const ULONG bytes = location->Parameters.Read.Length;

    *plan = (struct plan){.write = location->MajorFunction == IRP_MJ_WRITE, .off = (uint64_t)off};
    if (disk->aio == NULL)
        return STATUS_DEVICE_NOT_READY;
    if (plan->write && !(disk->flags & PINION_DISK_WRITABLE))
        return STATUS_MEDIA_WRITE_PROTECTED;
    if (off < 0 || !chain_holds(irp->MdlAddress, bytes))
        return STATUS_INVALID_PARAMETER;
    if (bytes == 0)
        return STATUS_SUCCESS;
    if (plan->off >= disk->file.bytes)
        return STATUS_END_OF_FILE;
    plan->bytes = at_most(bytes, disk->file.bytes - plan->off);
    if (disk->flags & PINION_DISK_PARTIAL)
        plan->bytes = at_most(plan->bytes, PINION_DISK_PARTIAL_BYTES);
    return STATUS_SUCCESS;
}

/* The file may have shrunk since it was measured. */
static NTSTATUS status_of_result(const struct host_io *io)
{
    if (io->result < 0)
        return io_status_of_error(io->result);
    if (io->result == 0)
        return io->write ? STATUS_DISK_FULL : STATUS_END_OF_FILE;
    return STATUS_SUCCESS;
}

/* Transfers of all disks that were made and have not ended. */
struct disk_turns {
    struct host_mutex lock;
    struct transfer  *first, *last;     /* by transfer.next; last means nothing while first is NULL */
    bool              later;            /* the latest transfer was put here */
};

static bool is_to_end_later(struct transfer *transfer)
{
    struct disk_turns *turns = ke_the_machine.io->disk_turns;
    bool later;

    if (turns == NULL)
        return false;
    host_mutex_lock(&turns->lock);
    later = turns->later = !turns->later;
    if (later) {
        transfer->next = NULL;
        *(turns->first == NULL ? &turns->first : &turns->last->next) = transfer;
        turns->last = transfer;
    }
    host_mutex_unlock(&turns->lock);
    return later;
}

static void end_transfer(struct transfer *transfer)
{
    const struct host_io *io = &transfer->io;
    const PIRP irp = transfer->irp;
    const KIRQL irql = KeRaiseIrqlToDpcLevel();

    irp->IoStatus.Status = status_of_result(io);
    irp->IoStatus.Information = io->result > 0 ? (ULONG_PTR)io->result : 0;
    give_transfer(transfer->disk, transfer);
    IofCompleteRequest(irp, IO_DISK_INCREMENT);
    KeLowerIrql(irql);
}

static void on_done(struct host_io *io)
{
    struct transfer *transfer = (struct transfer *)(void *)io;

    if (!is_to_end_later(transfer))
        end_transfer(transfer);
}

/* The machine's idle work: end the oldest of the transfers that end later. */
static bool end_a_transfer(struct machine *machine)
{
    struct disk_turns *turns = machine->io->disk_turns;
    struct transfer *transfer;

    host_mutex_lock(&turns->lock);
    transfer = turns->first;
    if (transfer != NULL)
        turns->first = transfer->next;
    host_mutex_unlock(&turns->lock);
    if (transfer != NULL)
        end_transfer(transfer);
    return transfer != NULL;
}

int pinion_poll(void)
{
    ke_machine();
    return ke_idle();
}

/* STATUS_PENDING: on its way. Anything else: nothing has been started. The command is NULL for the IRP's own MDLs. */
static NTSTATUS start(struct disk *disk, PIRP irp, const struct plan *plan, const PINION_DISK_COMMAND *command)
{
    struct transfer *transfer = take_transfer(disk);
    NTSTATUS status;

    if (transfer == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    status = command == NULL ? gather_chain(ke_machine(), transfer, irp->MdlAddress, plan->bytes)
                             : gather_list(transfer, command, plan->bytes);
    if (!NT_SUCCESS(status)) {
        give_transfer(disk, transfer);
        return status;
    }
    transfer->irp = irp;
    transfer->io.write = plan->write;
    transfer->io.off = plan->off;
    transfer->io.done = on_done;
    IoMarkIrpPending(irp);
    host_aio_submit(disk->aio, &transfer->io);
    return STATUS_PENDING;
}

static NTSTATUS dispatch_transfer(PDEVICE_OBJECT device, PIRP irp)
{
    struct plan plan;
    NTSTATUS status = make_plan(disk_of(device), irp, &plan);

    if (!NT_SUCCESS(status) || plan.bytes == 0)
        return io_complete_now(irp, status, 0);
    status = start(disk_of(device), irp, &plan, NULL);
    return status == STATUS_PENDING ? status : io_complete_now(irp, status, 0);
}

/* ---- commands of the disk's own driver ---- */

/* A disk with 32 address lines cannot put more on the bus. */
static bool lines_suffice(const struct disk *disk, const SCATTER_GATHER_LIST *list)
{
    for (ULONG i = 0; (disk->flags & PINION_DISK_32_BIT) && i < list->NumberOfElements; i++) {
        if (((uint64_t)list->Elements[i].Address.QuadPart + list->Elements[i].Length - 1) >> 32 == 0)
            continue;
        ke_warn("dma-fault", "a disk with 32 address lines was given logical address 0x%llX; describe it by Dma32BitAddresses",
                (unsigned long long)list->Elements[i].Address.QuadPart);
        return false;
    }
    return true;
}

static uint64_t list_bytes(const SCATTER_GATHER_LIST *list)
{
    uint64_t sum = 0;

    for (ULONG i = 0; i < list->NumberOfElements; i++)
        sum += list->Elements[i].Length;
    return sum;
}

static NTSTATUS plan_command(const struct disk *disk, const PINION_DISK_COMMAND *command, struct plan *plan)
{
    *plan = (struct plan){.write = command->WriteToDevice, .off = command->Offset};
    if (disk->aio == NULL)
        return STATUS_DEVICE_NOT_READY;
    if (plan->write && !(disk->flags & PINION_DISK_WRITABLE))
        return STATUS_MEDIA_WRITE_PROTECTED;
    if (!lines_suffice(disk, command->List))
        return STATUS_DEVICE_DATA_ERROR;
    if (plan->off >= disk->file.bytes)
        return STATUS_END_OF_FILE;
    plan->bytes = at_most(list_bytes(command->List), disk->file.bytes - plan->off);
    return STATUS_SUCCESS;
}

static NTSTATUS dispatch_command(PDEVICE_OBJECT device, PIRP irp)
{
    const PIO_STACK_LOCATION location = IoGetCurrentIrpStackLocation(irp);
    const PINION_DISK_COMMAND *command = location->Parameters.DeviceIoControl.Type3InputBuffer;
    struct disk *disk = disk_of(device);
    struct plan plan;
    NTSTATUS status;

    if (location->Parameters.DeviceIoControl.IoControlCode == IOCTL_PINION_DISK_ADDRESS_WIDTH)
        return io_complete_now(irp, STATUS_SUCCESS, disk->flags & PINION_DISK_32_BIT ? 32 : 64);
    if (location->Parameters.DeviceIoControl.IoControlCode != IOCTL_PINION_DISK_TRANSFER)
        return io_complete_now(irp, STATUS_INVALID_DEVICE_REQUEST, 0);
    status = plan_command(disk, command, &plan);
    if (!NT_SUCCESS(status) || plan.bytes == 0)
        return io_complete_now(irp, status, 0);
    status = start(disk, irp, &plan, command);
    return status == STATUS_PENDING ? status : io_complete_now(irp, status, 0);
}

/* ---- everything else ---- */

enum { FILE_WAS_OPENED = 1 };           /* IoStatus.Information of IRP_MJ_CREATE: FILE_OPENED */

static NTSTATUS dispatch_create(PDEVICE_OBJECT device, PIRP irp)
{
    (void)device;
    return io_complete_now(irp, STATUS_SUCCESS, FILE_WAS_OPENED);
}

static NTSTATUS dispatch_success(PDEVICE_OBJECT device, PIRP irp)
{
    (void)device;
    return io_complete_now(irp, STATUS_SUCCESS, 0);
}

static NTSTATUS dispatch_control(PDEVICE_OBJECT device, PIRP irp)
{
    const PIO_STACK_LOCATION location = IoGetCurrentIrpStackLocation(irp);
    LARGE_INTEGER *length = irp->AssociatedIrp.SystemBuffer;

    if (location->Parameters.DeviceIoControl.IoControlCode != GET_LENGTH_INFO)
        return io_complete_now(irp, STATUS_INVALID_DEVICE_REQUEST, 0);
    if (location->Parameters.DeviceIoControl.OutputBufferLength < sizeof(*length))
        return io_complete_now(irp, STATUS_BUFFER_TOO_SMALL, 0);
    length->QuadPart = (LONGLONG)disk_of(device)->file.bytes;
    return io_complete_now(irp, STATUS_SUCCESS, sizeof(*length));
}

/* What a bus driver does not handle it completes with the status that came with the IRP. */
static NTSTATUS dispatch_pnp(PDEVICE_OBJECT device, PIRP irp)
{
    (void)device;
    switch (IoGetCurrentIrpStackLocation(irp)->MinorFunction) {
    case IRP_MN_START_DEVICE:
    case IRP_MN_QUERY_REMOVE_DEVICE:
    case IRP_MN_REMOVE_DEVICE:
    case IRP_MN_CANCEL_REMOVE_DEVICE:
    case IRP_MN_QUERY_STOP_DEVICE:
    case IRP_MN_STOP_DEVICE:
    case IRP_MN_CANCEL_STOP_DEVICE:
    case IRP_MN_SURPRISE_REMOVAL:
        return io_complete_now(irp, STATUS_SUCCESS, 0);
    default:
        return io_complete_now(irp, irp->IoStatus.Status, irp->IoStatus.Information);
    }
}

/* ---- the driver, and its disks ---- */

static bool boot_turns(struct machine *machine)
{
    struct disk_turns *turns;

    if (!machine->options.disk_in_turns)
        return true;
    turns = calloc(1, sizeof(*turns));
    if (turns == NULL)
        return false;
    host_mutex_init(&turns->lock);
    machine->io->disk_turns = turns;
    machine->idle = end_a_transfer;
    return true;
}

int io_disks_boot(struct machine *machine)
{
    PDRIVER_OBJECT driver = boot_turns(machine) ? io_driver_new(machine, "PinionDisk") : NULL;

    if (driver == NULL)
        return -ENOMEM;
    driver->MajorFunction[IRP_MJ_CREATE] = dispatch_create;
    driver->MajorFunction[IRP_MJ_CLEANUP] = dispatch_success;
    driver->MajorFunction[IRP_MJ_CLOSE] = dispatch_success;
    driver->MajorFunction[IRP_MJ_READ] = dispatch_transfer;
    driver->MajorFunction[IRP_MJ_WRITE] = dispatch_transfer;
    driver->MajorFunction[IRP_MJ_DEVICE_CONTROL] = dispatch_control;
    driver->MajorFunction[IRP_MJ_INTERNAL_DEVICE_CONTROL] = dispatch_command;
    driver->MajorFunction[IRP_MJ_POWER] = dispatch_success;
    driver->MajorFunction[IRP_MJ_PNP] = dispatch_pnp;
    machine->io->disk_driver = driver;
    return 0;
}

static enum host_aio_kind engine_of(const struct ke_options *options)
{
    if (options->disk_in_turns)
        return HOST_AIO_INLINE;
    return options->uring ? HOST_AIO_URING : HOST_AIO_THREADS;
}

static int open_disk(struct machine *machine, struct disk *disk, const char *path, unsigned flags)
{
    int error = host_file_open(&disk->file, path, flags & PINION_DISK_WRITABLE);

    if (error != 0)
        return error;
    error = ke_internal_fails() ? -ENOMEM : host_aio_create(&disk->aio, &disk->file, engine_of(&machine->options));
    if (error != 0) {
        host_file_close(&disk->file);
        return error;
    }
    host_mutex_init(&disk->lock);
    disk->flags = flags;
    return 0;
}

/* Waits for what is in flight. */
static void stop_disk(struct disk *disk)
{
    struct transfer *spare;

    if (disk->aio == NULL)
        return;
    while (ke_idle())
        continue;
    host_aio_destroy(disk->aio);
    disk->aio = NULL;
    host_file_close(&disk->file);
    while ((spare = disk->spare) != NULL) {
        disk->spare = spare->next;
        free(spare);
    }
    host_mutex_destroy(&disk->lock);
}

static void set_up(PDEVICE_OBJECT device, unsigned flags)
{
    device->Flags |= DO_DIRECT_IO | DO_BUS_ENUMERATED_DEVICE;
    device->Flags &= ~(ULONG)DO_DEVICE_INITIALIZING;
    device->Characteristics = FILE_DEVICE_SECURE_OPEN;
    if (!(flags & PINION_DISK_WRITABLE))
        device->Characteristics |= FILE_READ_ONLY_DEVICE;
    device->SectorSize = SECTOR_BYTES;
}

int pinion_disk_create(const char *path, unsigned flags, PDEVICE_OBJECT *disk)
{
    struct machine *machine = ke_machine();
    PDRIVER_OBJECT driver = machine->io->disk_driver;
    PDEVICE_OBJECT device;
    int error;

    if (!NT_SUCCESS(io_device_new(machine, driver, sizeof(struct disk), FILE_DEVICE_DISK, &device)))
        return -ENOMEM;
    error = open_disk(machine, disk_of(device), path, flags);
    if (error != 0) {
        IoDeleteDevice(device);
        return error;
    }
    set_up(device, flags);
    *disk = device;
    return 0;
}

static struct disk *require_disk(const char *caller, PDEVICE_OBJECT device)
{
    if (device->DriverObject != ke_machine()->io->disk_driver)
        ke_usage("%s: device %p is no disk of pinion_disk_create", caller, (void *)device);
    return disk_of(device);
}

void pinion_disk_delete(PDEVICE_OBJECT disk)
{
    stop_disk(require_disk("pinion_disk_delete", disk));
    IoDeleteDevice(disk);
}

uint64_t pinion_disk_bytes(PDEVICE_OBJECT disk)
{
    return require_disk("pinion_disk_bytes", disk)->file.bytes;
}

const char *pinion_disk_engine(PDEVICE_OBJECT disk)
{
    const struct disk *opened = require_disk("pinion_disk_engine", disk);

    return ke_machine()->io->disk_turns != NULL ? "in turns" : host_aio_engine(opened->aio);
}

void io_disks_stop(struct machine *machine)
{
    PDEVICE_OBJECT device = machine->io->disk_driver->DeviceObject;

    for (; device != NULL; device = device->NextDevice)
        stop_disk(disk_of(device));
}

void io_disks_shutdown(struct machine *machine)
{
    machine->idle = NULL;
    if (machine->io->disk_turns == NULL)
        return;
    host_mutex_destroy(&machine->io->disk_turns->lock);
    free(machine->io->disk_turns);
    machine->io->disk_turns = NULL;
}
