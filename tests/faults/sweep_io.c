/* SPDX-License-Identifier: MIT */
/* Sweeps over I/O: a disk that is made, read and written in every way that a driver or a program has, and
   deleted. */

#include "sweep.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { DISK_BYTES = 64 * 1024, PIECE = 3 * PAGE_SIZE, GET_LENGTH = 0x7405C };

/* ---- one request of each kind ---- */

static NTSTATUS send_and_wait(PDEVICE_OBJECT disk, PIRP irp, PKEVENT event, PIO_STATUS_BLOCK outcome)
{
    if (irp == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    if (IoCallDriver(disk, irp) == STATUS_PENDING)
        KeWaitForSingleObject(event, Executive, KernelMode, FALSE, NULL);
    return outcome->Status;
}

static NTSTATUS read_synchronously(PDEVICE_OBJECT disk, UCHAR *buffer)
{
    LARGE_INTEGER offset = {.QuadPart = PAGE_SIZE};
    IO_STATUS_BLOCK outcome = {.Status = STATUS_UNSUCCESSFUL};
    KEVENT event;

    KeInitializeEvent(&event, NotificationEvent, FALSE);
    return send_and_wait(
        disk, IoBuildSynchronousFsdRequest(IRP_MJ_READ, disk, buffer, PIECE, &offset, &event, &outcome),
        &event, &outcome);
}

static NTSTATUS ask_for_length(PDEVICE_OBJECT disk)
{
    uint64_t length = 0;
    IO_STATUS_BLOCK outcome = {.Status = STATUS_UNSUCCESSFUL};
    KEVENT event;
    NTSTATUS status;

    KeInitializeEvent(&event, NotificationEvent, FALSE);
    status = send_and_wait(disk,
                           IoBuildDeviceIoControlRequest(GET_LENGTH, disk, NULL, 0, &length, sizeof(length),
                                                         FALSE, &event, &outcome),
                           &event, &outcome);
    if (NT_SUCCESS(status))
        EXPECT_EQ(length, DISK_BYTES);
    return status;
}

/* The driver's own IRPs come back to it: it frees the MDLs and the IRP. */
static NTSTATUS note_end(PDEVICE_OBJECT device, PIRP irp, PVOID context)
{
    UNREFERENCED_PARAMETER(device);
    UNREFERENCED_PARAMETER(irp);
    KeSetEvent(context, IO_NO_INCREMENT, FALSE);
    return STATUS_MORE_PROCESSING_REQUIRED;
}

static NTSTATUS send_own(PDEVICE_OBJECT disk, PIRP irp)
{
    KEVENT event;

    KeInitializeEvent(&event, NotificationEvent, FALSE);
    IoSetCompletionRoutine(irp, note_end, &event, TRUE, TRUE, TRUE);
    IoCallDriver(disk, irp);
    KeWaitForSingleObject(&event, Executive, KernelMode, FALSE, NULL);
    return irp->IoStatus.Status;
}

static void free_own(PIRP irp)
{
    while (irp->MdlAddress != NULL) {
        const PMDL mdl = irp->MdlAddress;

        irp->MdlAddress = mdl->Next;
        if (mdl->MdlFlags & MDL_PAGES_LOCKED)
            MmUnlockPages(mdl);
        IoFreeMdl(mdl);
    }
    IoFreeIrp(irp);
}

static NTSTATUS write_asynchronously(PDEVICE_OBJECT disk, UCHAR *buffer)
{
    LARGE_INTEGER offset = {.QuadPart = PAGE_SIZE};
    IO_STATUS_BLOCK outcome;
    const PIRP irp = IoBuildAsynchronousFsdRequest(IRP_MJ_WRITE, disk, buffer, PIECE, &offset, &outcome);
    NTSTATUS status;

    if (irp == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    status = send_own(disk, irp);
    free_own(irp);
    return status;
}

static NTSTATUS read_by_hand(PDEVICE_OBJECT disk, UCHAR *buffer)
{
    const PIRP irp = IoAllocateIrp(disk->StackSize, FALSE);
    NTSTATUS status = STATUS_INSUFFICIENT_RESOURCES;
    PIO_STACK_LOCATION next;

    if (irp == NULL)
        return status;
    next = IoGetNextIrpStackLocation(irp);
    next->MajorFunction = IRP_MJ_READ;
    next->Parameters.Read.Length = PIECE;
    if (IoAllocateMdl(buffer, PIECE, FALSE, FALSE, irp) != NULL) {
        MmBuildMdlForNonPagedPool(irp->MdlAddress);
        status = send_own(disk, irp);
    }
    free_own(irp);
    return status;
}

static VOID set_event(PDEVICE_OBJECT device, PVOID context)
{
    UNREFERENCED_PARAMETER(device);
    KeSetEvent(context, IO_NO_INCREMENT, FALSE);
}

static NTSTATUS run_work_item(PDEVICE_OBJECT disk)
{
    const PIO_WORKITEM item = IoAllocateWorkItem(disk);
    KEVENT event;

    if (item == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    KeInitializeEvent(&event, NotificationEvent, FALSE);
    IoQueueWorkItem(item, set_event, DelayedWorkQueue, &event);
    KeWaitForSingleObject(&event, Executive, KernelMode, FALSE, NULL);
    IoFreeWorkItem(item);
    return STATUS_SUCCESS;
}

/* ---- the driver's job ---- */

static NTSTATUS use_disk(PDEVICE_OBJECT disk, UCHAR *buffer)
{
    NTSTATUS status = read_synchronously(disk, buffer);

    if (NT_SUCCESS(status))
        status = write_asynchronously(disk, buffer);
    if (NT_SUCCESS(status))
        status = read_by_hand(disk, buffer);
    if (NT_SUCCESS(status))
        status = ask_for_length(disk);
    if (NT_SUCCESS(status))
        status = run_work_item(disk);
    return status;
}

static NTSTATUS drive(PVOID disk)
{
    UCHAR *const buffer = ExAllocatePoolWithTag(NonPagedPoolNx, PIECE, TEST_TAG);
    const NTSTATUS status = buffer == NULL ? STATUS_INSUFFICIENT_RESOURCES : use_disk(disk, buffer);

    if (NT_SUCCESS(status))
        EXPECT_PATTERN(buffer, PIECE, 11);
    if (buffer != NULL)
        ExFreePoolWithTag(buffer, TEST_TAG);
    return status;
}

/* ---- the program's job ---- */

static NTSTATUS read_as_program(PFILE_OBJECT file)
{
    UCHAR *const buffer = pinion_user_alloc(PIECE, PAGE_READWRITE);
    struct pinion_request request = {.operation = PINION_READ, .buffer = buffer, .bytes = PIECE, .offset = 0};
    NTSTATUS status;

    if (buffer == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    status = pinion_transfer(file, &request);
    if (NT_SUCCESS(status))
        EXPECT_PATTERN(buffer, PIECE, 11);
    pinion_user_free(buffer);
    return status;
}

static NTSTATUS open_and_read(PDEVICE_OBJECT disk)
{
    PFILE_OBJECT file;
    NTSTATUS status = pinion_open(disk, &file);

    if (!NT_SUCCESS(status))
        return status;
    status = read_as_program(file);
    pinion_close(file);
    return status;
}

static NTSTATUS make_and_read(PVOID path)
{
    PDEVICE_OBJECT disk;
    NTSTATUS status;

    if (pinion_disk_create(path, PINION_DISK_WRITABLE, &disk) != 0)
        return STATUS_INSUFFICIENT_RESOURCES;
    status = open_and_read(disk);
    pinion_disk_delete(disk);
    return status;
}

/* ---- the sweeps ---- */

static const char *const drive_calls[] = {"IoBuildSynchronousFsdRequest",
                                          "IoBuildAsynchronousFsdRequest",
                                          "IoAllocateIrp",
                                          "IoBuildDeviceIoControlRequest",
                                          "IoAllocateMdl",
                                          "IoAllocateWorkItem",
                                          "ExAllocatePoolWithTag",
                                          "internal",
                                          NULL};
static const char *const program_calls[] = {"internal", NULL};

static void make_file(char *path)
{
    UCHAR image[DISK_BYTES];
    FILE *stream;

    strcpy(path, "/tmp/pinion-sweep-XXXXXX");
    fill_pattern(image, sizeof(image), 11);
    stream = fdopen(mkstemp(path), "w");
    EXPECT(stream != NULL);
    EXPECT_EQ(fwrite(image, 1, sizeof(image), stream), sizeof(image));
    fclose(stream);
}

static void sweep_driver(const char *options)
{
    static const struct job job = {"drive", drive, drive_calls};
    char path[64];
    PDEVICE_OBJECT disk;

    boot(options);
    make_file(path);
    EXPECT_EQ(pinion_disk_create(path, PINION_DISK_WRITABLE, &disk), 0);
    sweep_all(&job, disk);
    pinion_disk_delete(disk);
    unlink(path);
}

/* A driver that reads and writes in every way frees what it has made, whichever of its calls fails. */
TEST(fault_sweep_io, driver__each_call_fails_in_turn__is_undone)
{
    sweep_driver("ram=64M");
}

/* The same with the other engine, and without the verifier. */
TEST(fault_sweep_io, driver_of_other_engine__each_call_fails_in_turn__is_undone)
{
    sweep_driver("ram=64M:uring=off:verifier=off");
}

/* Making a disk, opening it and reading from it fail in good order, whatever the library cannot have for
   itself. */
TEST(fault_sweep_io, program__each_internal_call_fails_in_turn__is_undone)
{
    static const struct job job = {"make and read", make_and_read, program_calls};
    char path[64];

    boot("ram=64M");
    make_file(path);
    sweep_all(&job, path);
    unlink(path);
}
