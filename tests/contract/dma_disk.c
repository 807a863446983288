/* SPDX-License-Identifier: MIT */
/* The disk as a bus master: commands with scatter/gather lists, on 64 and on 32 address bits, with and without an IOMMU. */

#include "harness.h"
#include <wdm.h>

#include <pinion/disk.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dma_support.h"

enum { DISK_PAGES = 64, DISK_BYTES = DISK_PAGES * PAGE_SIZE, SEED = 50 };

struct subject {
    char path[32];
    PDEVICE_OBJECT disk;
    PDMA_ADAPTER adapter;
};

static struct subject make(const char *options, unsigned width, unsigned flags)
{
    struct subject subject = {.path = "/tmp/pinion-dma-XXXXXX"};
    UCHAR *const contents = malloc(DISK_BYTES);
    int fd;

    boot(options);
    fill_pattern(contents, DISK_BYTES, SEED);
    fd = mkstemp(subject.path);
    EXPECT(fd >= 0);
    EXPECT_EQ(write(fd, contents, DISK_BYTES), DISK_BYTES);
    close(fd);
    free(contents);
    EXPECT_EQ(pinion_disk_create(subject.path, flags | (width == 32 ? PINION_DISK_32_BIT : 0u), &subject.disk), 0);
    subject.adapter = get_adapter(describe(DEVICE_DESCRIPTION_VERSION2, width, TRUE, DISK_BYTES));
    return subject;
}

static void end(struct subject *subject)
{
    put_adapter(subject->adapter);
    pinion_disk_delete(subject->disk);
    unlink(subject->path);
}

static NTSTATUS on_back(PDEVICE_OBJECT DeviceObject, PIRP Irp, PVOID Context)
{
    UNREFERENCED_PARAMETER(DeviceObject);
    UNREFERENCED_PARAMETER(Irp);
    KeSetEvent(Context, IO_NO_INCREMENT, FALSE);
    return STATUS_MORE_PROCESSING_REQUIRED;
}

/* Send a control code down to the disk, and wait for its end. */
static NTSTATUS control(struct subject *subject, ULONG code, PVOID input, ULONG_PTR *information)
{
    const PIRP irp = IoAllocateIrp(subject->disk->StackSize, FALSE);
    const PIO_STACK_LOCATION next = IoGetNextIrpStackLocation(irp);
    NTSTATUS status;
    KEVENT back;

    KeInitializeEvent(&back, NotificationEvent, FALSE);
    next->MajorFunction = IRP_MJ_INTERNAL_DEVICE_CONTROL;
    next->Parameters.DeviceIoControl.IoControlCode = code;
    next->Parameters.DeviceIoControl.Type3InputBuffer = input;
    IoSetCompletionRoutine(irp, on_back, &back, TRUE, TRUE, TRUE);
    IoCallDriver(subject->disk, irp);
    KeWaitForSingleObject(&back, Executive, KernelMode, FALSE, NULL);
    status = irp->IoStatus.Status;
    *information = irp->IoStatus.Information;
    IoFreeIrp(irp);
    return status;
}

static NTSTATUS command(struct subject *subject, PSCATTER_GATHER_LIST list, ULONGLONG off, BOOLEAN write, ULONG_PTR *moved)
{
    PINION_DISK_COMMAND transfer = {.Adapter = subject->adapter, .List = list, .Offset = off, .WriteToDevice = write};

    return control(subject, IOCTL_PINION_DISK_TRANSFER, &transfer, moved);
}

static const struct {
    const char *options;
    unsigned width;
} machines[] = {{"dma=identity", 64}, {"dma=identity", 32}, {"dma=remapped", 64}, {"dma=remapped", 32}};

static void read_some(const char *options, unsigned width)
{
    struct subject subject = make(options, width, 0);
    UCHAR *const va = user_pages(20, PAGE_READWRITE);
    const PMDL mdl = locked_mdl(va + 10, 19 * PAGE_SIZE);
    const PSCATTER_GATHER_LIST list = get_list(subject.adapter, mdl, 0, 19 * PAGE_SIZE, FALSE);
    ULONG_PTR moved = 0;

    EXPECT_STATUS(command(&subject, list, 777, FALSE, &moved), STATUS_SUCCESS);
    EXPECT_EQ(moved, 19 * PAGE_SIZE);
    put_list(subject.adapter, list, FALSE);
    EXPECT_PATTERN_AT(va + 10, 19 * PAGE_SIZE, SEED, 777);
    unlock_and_free(mdl);
    pinion_user_free(va);
    end(&subject);
    EXPECT_EQ(pinion_shutdown(), 0);
}

/* A read arrives in the buffer, whatever the width, with and without an IOMMU. */
TEST_UNTIDY(dma_disk, read__on_each_machine__arrives)
{
    for (SIZE_T i = 0; i < sizeof(machines) / sizeof(machines[0]); i++)
        read_some(machines[i].options, machines[i].width);
}

static void write_some(const char *options, unsigned width)
{
    struct subject subject = make(options, width, PINION_DISK_WRITABLE);
    UCHAR *const va = user_pattern(4, SEED + 1), seen[4 * PAGE_SIZE];
    const PMDL mdl = locked_mdl(va, 4 * PAGE_SIZE);
    const PSCATTER_GATHER_LIST list = get_list(subject.adapter, mdl, 0, 4 * PAGE_SIZE, TRUE);
    FILE *file;
    ULONG_PTR moved = 0;

    EXPECT_STATUS(command(&subject, list, 5000, TRUE, &moved), STATUS_SUCCESS);
    EXPECT_EQ(moved, 4 * PAGE_SIZE);
    put_list(subject.adapter, list, TRUE);
    file = fopen(subject.path, "rb");
    EXPECT(file != NULL && fseek(file, 5000, SEEK_SET) == 0);
    EXPECT_EQ(fread(seen, 1, sizeof(seen), file), sizeof(seen));
    fclose(file);
    EXPECT_PATTERN(seen, sizeof(seen), SEED + 1);
    unlock_and_free(mdl);
    pinion_user_free(va);
    end(&subject);
    EXPECT_EQ(pinion_shutdown(), 0);
}

/* A write arrives on the disk. */
TEST_UNTIDY(dma_disk, write__on_each_machine__arrives)
{
    for (SIZE_T i = 0; i < sizeof(machines) / sizeof(machines[0]); i++)
        write_some(machines[i].options, machines[i].width);
}

/* The disk says how many address bits it has. */
TEST(dma_disk, width__of_each_disk__is_what_it_was_made_with)
{
    for (unsigned width = 32; width <= 64; width += 32) {
        struct subject subject = make(width == 32 ? NULL : "verifier=on", width, 0);
        ULONG_PTR answer = 0;

        EXPECT_STATUS(control(&subject, IOCTL_PINION_DISK_ADDRESS_WIDTH, NULL, &answer), STATUS_SUCCESS);
        EXPECT_EQ(answer, width);
        EXPECT_STATUS(control(&subject, IOCTL_PINION_DISK_ADDRESS_WIDTH + 4, NULL, &answer), STATUS_INVALID_DEVICE_REQUEST);
        end(&subject);
        if (width == 32)
            EXPECT_EQ(pinion_shutdown(), 0);
    }
}

/* Past the end, across it, and to a disk that may not be written. */
TEST(dma_disk, command__that_the_disk_cannot_follow__is_refused_or_short)
{
    struct subject subject = make(NULL, 64, 0);
    UCHAR *const va = user_pages(2, PAGE_READWRITE);
    const PMDL mdl = locked_mdl(va, 2 * PAGE_SIZE);
    PSCATTER_GATHER_LIST list = get_list(subject.adapter, mdl, 0, 2 * PAGE_SIZE, FALSE);
    ULONG_PTR moved = 0;

    EXPECT_STATUS(command(&subject, list, DISK_BYTES, FALSE, &moved), STATUS_END_OF_FILE);
    EXPECT_EQ(moved, 0);
    EXPECT_STATUS(command(&subject, list, DISK_BYTES - 100, FALSE, &moved), STATUS_SUCCESS);
    EXPECT_EQ(moved, 100);
    EXPECT_STATUS(command(&subject, list, 0, TRUE, &moved), STATUS_MEDIA_WRITE_PROTECTED);
    put_list(subject.adapter, list, FALSE);
    EXPECT_PATTERN_AT(va, 100, SEED, DISK_BYTES - 100);
    unlock_and_free(mdl);
    pinion_user_free(va);
    end(&subject);
}

/* A list that has been given back is a fault of the device. */
WARN_TEST(dma_disk, command__with_addresses_no_longer_mapped__faults, "dma-fault")
{
    struct subject subject = make("dma=remapped", 64, 0);
    UCHAR *const va = user_pattern(1, SEED + 1);
    const PMDL mdl = locked_mdl(va, PAGE_SIZE);
    const PSCATTER_GATHER_LIST list = get_list(subject.adapter, mdl, 0, PAGE_SIZE, FALSE);
    UCHAR kept[sizeof(*list) + sizeof(list->Elements[0])];
    ULONG_PTR moved = 1;

    RtlCopyMemory(kept, list, sizeof(kept));
    put_list(subject.adapter, list, FALSE);
    EXPECT_STATUS(command(&subject, (PSCATTER_GATHER_LIST)kept, 0, FALSE, &moved), STATUS_DEVICE_DATA_ERROR);
    EXPECT_EQ(moved, 0);
    EXPECT_PATTERN(va, PAGE_SIZE, SEED + 1);
    unlock_and_free(mdl);
    pinion_user_free(va);
    end(&subject);
}

/* A disk with 32 address lines given more by a driver that described it wrongly. */
WARN_TEST(dma_disk, command__with_addresses_too_wide__faults, "dma-fault")
{
    struct subject subject = make(NULL, 32, 0);
    UCHAR *const va = user_pattern(1, SEED + 1);
    const PMDL mdl = locked_mdl(va, PAGE_SIZE);
    PSCATTER_GATHER_LIST list;
    ULONG_PTR moved = 1;

    put_adapter(subject.adapter);
    subject.adapter = master(DEVICE_DESCRIPTION_VERSION2, 64, 65536);
    list = get_list(subject.adapter, mdl, 0, PAGE_SIZE, FALSE);
    EXPECT_STATUS(command(&subject, list, 0, FALSE, &moved), STATUS_DEVICE_DATA_ERROR);
    put_list(subject.adapter, list, FALSE);
    unlock_and_free(mdl);
    pinion_user_free(va);
    end(&subject);
}
