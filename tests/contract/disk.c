/* SPDX-License-Identifier: MIT */
/*
 * The disk that a file backs: every byte where it belongs, whatever the shape of the request's MDLs; its ends, its
 * refusals; and that it moves data without mapping anything.
 */

#include "io_stack.h"
#include "support.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { DISK_BYTES = 600 * 1024 + 100 };

struct fixture {
    char path[64];
    UCHAR *image;               /* what the file holds */
    PDEVICE_OBJECT disk;
    PFILE_OBJECT file;
};

static void make_file(struct fixture *f)
{
    FILE *stream;
    int fd;

    strcpy(f->path, "/tmp/pinion-disk-XXXXXX");
    fd = mkstemp(f->path);
    stream = fdopen(fd, "w");
    f->image = malloc(DISK_BYTES);
    fill_pattern(f->image, DISK_BYTES, 11);
    EXPECT_EQ(fwrite(f->image, 1, DISK_BYTES, stream), DISK_BYTES);
    fclose(stream);
}

static void open_fixture(struct fixture *f, unsigned flags)
{
    make_file(f);
    EXPECT_EQ(pinion_disk_create(f->path, flags, &f->disk), 0);
    EXPECT_STATUS(pinion_open(f->disk, &f->file), STATUS_SUCCESS);
}

static void close_fixture(struct fixture *f)
{
    pinion_close(f->file);
    pinion_disk_delete(f->disk);
    unlink(f->path);
    free(f->image);
}

static NTSTATUS transfer(struct fixture *f, enum pinion_operation operation, void *buffer, ULONG bytes,
                         uint64_t offset, uint64_t *information)
{
    struct pinion_request request = {.operation = operation, .buffer = buffer, .bytes = bytes, .offset = offset};
    const NTSTATUS status = pinion_transfer(f->file, &request);

    *information = request.information;
    return status;
}

static void expect_file(const struct fixture *f, const UCHAR *expected)
{
    UCHAR *now = malloc(DISK_BYTES + 1);
    FILE *stream = fopen(f->path, "r");

    EXPECT_EQ(fread(now, 1, DISK_BYTES + 1, stream), DISK_BYTES);
    EXPECT_MEM_EQ(now, expected, DISK_BYTES);
    fclose(stream);
    free(now);
}

/* ---- opening ----------------------------------------------------------------------------------------------------- */

/* What cannot be opened says why, and leaves nothing. */
TEST(disk, create__what_is_no_disk__is_refused)
{
    PDEVICE_OBJECT disk = NULL;

    EXPECT_EQ(pinion_disk_create("/tmp/pinion/there/is/no/such/file", 0, &disk), -ENOENT);
    EXPECT_EQ(pinion_disk_create("/tmp", 0, &disk), -EISDIR);
    EXPECT_PTR_EQ(disk, NULL);
}

/* A disk is a direct-I/O device, ready for use, with the size of its file and the engine that was asked for. */
TEST(disk, create__device__is_a_ready_direct_io_device)
{
    struct fixture f;
    uint64_t length = 0, information;

    boot("uring=off");
    open_fixture(&f, 0);
    EXPECT_EQ(f.disk->DeviceType, FILE_DEVICE_DISK);
    EXPECT_EQ(f.disk->Flags & (DO_DIRECT_IO | DO_BUFFERED_IO | DO_DEVICE_INITIALIZING), DO_DIRECT_IO);
    EXPECT_EQ(f.disk->StackSize, 1);
    EXPECT_EQ(pinion_disk_bytes(f.disk), DISK_BYTES);
    EXPECT_EQ(strcmp(pinion_disk_engine(f.disk), "threads"), 0);
    EXPECT_STATUS(pinion_control(f.file, 0x7405C, NULL, 0, &length, sizeof(length), &information), STATUS_SUCCESS);
    EXPECT_EQ(length, DISK_BYTES);
    EXPECT_STATUS(pinion_control(f.file, 0x7405C, NULL, 0, &length, 4, &information), STATUS_BUFFER_TOO_SMALL);
    EXPECT_STATUS(pinion_control(f.file, 0x70000, NULL, 0, NULL, 0, &information), STATUS_INVALID_DEVICE_REQUEST);
    close_fixture(&f);
}

/* A disk that is never deleted is told, and comes to rest with the machine. */
WARN_TEST(disk, create__never_deleted__is_a_leak, "device-leak")
{
    struct fixture f;

    make_file(&f);
    EXPECT_EQ(pinion_disk_create(f.path, 0, &f.disk), 0);
    unlink(f.path);
    free(f.image);
}

/* ---- reading ----------------------------------------------------------------------------------------------------- */

/* Buffers at all offsets in a page, at all offsets of the file, with bytes around them that stay as they are. */
static void read_everywhere(const char *options)
{
    static const ULONG starts[] = {0, 1, 511, 512, 2048, 4095};
    static const ULONG sizes[] = {1, 512, 4095, 4096, 4097, 70000, 400000};
    struct fixture f;
    UCHAR *buffer;

    boot(options);
    open_fixture(&f, 0);
    buffer = user_pages(105, PAGE_READWRITE);
    for (size_t s = 0; s < sizeof(starts) / sizeof(starts[0]); s++) {
        for (size_t n = 0; n < sizeof(sizes) / sizeof(sizes[0]); n++) {
            UCHAR *to = buffer + PAGE_SIZE + starts[s];
            uint64_t information;

            memset(buffer, 0xEE, 105 * PAGE_SIZE);
            EXPECT_STATUS(transfer(&f, PINION_READ, to, sizes[n], 777 * s, &information), STATUS_SUCCESS);
            EXPECT_EQ(information, sizes[n]);
            EXPECT_MEM_EQ(to, f.image + 777 * s, sizes[n]);
            EXPECT_EQ(to[-1], 0xEE);
            EXPECT_EQ(to[sizes[n]], 0xEE);
        }
    }
    pinion_user_free(buffer);
    close_fixture(&f);
}

TEST(disk, read__any_size_and_offset__uring)
{
    read_everywhere("uring=on");
}

TEST(disk, read__any_size_and_offset__threads)
{
    read_everywhere("uring=off");
}

TEST(disk, read__any_size_and_offset__linear_layout)
{
    read_everywhere("layout=linear");
}

/* Memory of the host program, which is not simulated, is as good a buffer. */
TEST(disk, read__into_host_memory__arrives)
{
    struct fixture f;
    UCHAR *buffer = malloc(100000);
    uint64_t information;

    open_fixture(&f, 0);
    EXPECT_STATUS(transfer(&f, PINION_READ, buffer, 100000, 333, &information), STATUS_SUCCESS);
    EXPECT_MEM_EQ(buffer, f.image + 333, 100000);
    free(buffer);
    close_fixture(&f);
}

/* At the end there is nothing, across the end there is what there is, and nothing is always possible. */
TEST(disk, read__at_and_across_the_end)
{
    struct fixture f;
    UCHAR *buffer = user_pages(2, PAGE_READWRITE);
    uint64_t information;

    open_fixture(&f, 0);
    memset(buffer, 0xEE, 2 * PAGE_SIZE);
    EXPECT_STATUS(transfer(&f, PINION_READ, buffer, 5000, DISK_BYTES - 4100, &information), STATUS_SUCCESS);
    EXPECT_EQ(information, 4100);
    EXPECT_MEM_EQ(buffer, f.image + DISK_BYTES - 4100, 4100);
    EXPECT_EQ(buffer[4100], 0xEE);
    EXPECT_STATUS(transfer(&f, PINION_READ, buffer, 1, DISK_BYTES, &information), STATUS_END_OF_FILE);
    EXPECT_EQ(information, 0);
    EXPECT_STATUS(transfer(&f, PINION_READ, buffer, 1, UINT64_C(1) << 62, &information), STATUS_END_OF_FILE);
    EXPECT_STATUS(transfer(&f, PINION_READ, buffer, 1, UINT64_MAX - 5, &information), STATUS_INVALID_PARAMETER);
    EXPECT_STATUS(transfer(&f, PINION_READ, buffer, 0, DISK_BYTES + 10, &information), STATUS_SUCCESS);
    EXPECT_EQ(information, 0);
    pinion_user_free(buffer);
    close_fixture(&f);
}

/* ---- in turns ---- */

static unsigned ended;

static void count_end(HARNESS_UNUSED struct pinion_request *request)
{
    ended++;
}

/* With disk=turns every second transfer ends inside the call, the others in pinion_poll, one by one. */
TEST(disk, turns__transfers__end_later_and_at_once)
{
    struct pinion_request requests[4];
    struct fixture f;
    UCHAR *buffers;

    boot("disk=turns");
    open_fixture(&f, 0);
    EXPECT(strcmp(pinion_disk_engine(f.disk), "in turns") == 0);
    buffers = user_pages(4, PAGE_READWRITE);
    for (ULONG i = 0; i < 4; i++) {
        requests[i] = (struct pinion_request){.operation = PINION_READ, .buffer = buffers + i * PAGE_SIZE, .bytes = PAGE_SIZE,
                                              .offset = i * 12345, .done = count_end};
        EXPECT_STATUS(pinion_submit(f.file, &requests[i]), STATUS_PENDING);
        EXPECT_EQ(ended, (i + 1) / 2);
    }
    EXPECT(pinion_poll() != 0);
    EXPECT_EQ(ended, 3);
    EXPECT(pinion_poll() != 0);
    EXPECT_EQ(ended, 4);
    EXPECT_EQ(pinion_poll(), 0);
    for (ULONG i = 0; i < 4; i++) {
        EXPECT_STATUS(requests[i].status, STATUS_SUCCESS);
        EXPECT_MEM_EQ(buffers + i * PAGE_SIZE, f.image + i * 12345, PAGE_SIZE);
    }
    close_fixture(&f);
}

/* Who waits for a transfer has it end. */
TEST(disk, turns__waiting__ends_transfers)
{
    struct fixture f;
    UCHAR *buffer;
    uint64_t information;

    boot("disk=turns");
    open_fixture(&f, 0);
    buffer = user_pages(1, PAGE_READWRITE);
    for (int i = 0; i < 5; i++) {
        EXPECT_STATUS(transfer(&f, PINION_READ, buffer, 4000, 100, &information), STATUS_SUCCESS);
        EXPECT_EQ(information, 4000);
        EXPECT_MEM_EQ(buffer, f.image + 100, 4000);
    }
    close_fixture(&f);
}

/* What is still to end does so before the disk goes. */
TEST(disk, turns__close__ends_what_is_left)
{
    struct pinion_request request = {.operation = PINION_READ, .bytes = 4000, .done = count_end};
    struct fixture f;

    boot("disk=turns");
    open_fixture(&f, 0);
    request.buffer = user_pages(1, PAGE_READWRITE);
    EXPECT_STATUS(pinion_submit(f.file, &request), STATUS_PENDING);
    EXPECT_EQ(ended, 0);
    close_fixture(&f);
    EXPECT_EQ(ended, 1);
}

/* A transfer makes no mapping and no memory call, however scattered the frames are. */
TEST(disk, read__makes_no_mapping)
{
    struct fixture f;
    UCHAR *buffer = user_pages(64, PAGE_READWRITE);
    struct pinion_totals before, after;
    struct pinion_counters calls_before, calls_after;
    uint64_t information;

    open_fixture(&f, 0);
    transfer(&f, PINION_READ, buffer, 64 * PAGE_SIZE, 0, &information);
    pinion_totals(&before);
    pinion_counters(&calls_before);
    EXPECT_STATUS(transfer(&f, PINION_READ, buffer, 64 * PAGE_SIZE, 512, &information), STATUS_SUCCESS);
    pinion_counters(&calls_after);
    pinion_totals(&after);
    EXPECT_EQ(after.mappings_made, before.mappings_made);
    EXPECT_EQ(calls_after.host_calls, calls_before.host_calls);
    EXPECT_EQ(after.irps_completed, before.irps_completed + 1);
    pinion_user_free(buffer);
    close_fixture(&f);
}

/* ---- writing ----------------------------------------------------------------------------------------------------- */

/* What is written is in the file, and nothing beside it; at the end writes go no further than the disk. */
TEST(disk, write__changes_what_it_names)
{
    struct fixture f;
    UCHAR *buffer = user_pattern(20, 4);
    uint64_t information;

    open_fixture(&f, PINION_DISK_WRITABLE);
    EXPECT_STATUS(transfer(&f, PINION_WRITE, buffer + 77, 70001, 12345, &information), STATUS_SUCCESS);
    EXPECT_EQ(information, 70001);
    memcpy(f.image + 12345, buffer + 77, 70001);
    EXPECT_STATUS(transfer(&f, PINION_WRITE, buffer, 5000, DISK_BYTES - 100, &information), STATUS_SUCCESS);
    EXPECT_EQ(information, 100);
    memcpy(f.image + DISK_BYTES - 100, buffer, 100);
    EXPECT_STATUS(transfer(&f, PINION_WRITE, buffer, 1, DISK_BYTES, &information), STATUS_END_OF_FILE);
    expect_file(&f, f.image);
    pinion_user_free(buffer);
    close_fixture(&f);
}

/* A disk that was not made writable refuses writes, and the file stays as it was. */
TEST(disk, write__read_only__is_write_protected)
{
    struct fixture f;
    UCHAR *buffer = user_pages(1, PAGE_READWRITE);
    uint64_t information;

    open_fixture(&f, 0);
    EXPECT_STATUS(transfer(&f, PINION_WRITE, buffer, 100, 0, &information), STATUS_MEDIA_WRITE_PROTECTED);
    expect_file(&f, f.image);
    pinion_user_free(buffer);
    close_fixture(&f);
}

/* ---- partial completion ------------------------------------------------------------------------------------------ */

/* A disk that transfers partially says success and how far it got; small requests are whole. */
TEST(disk, partial__moves_so_many_bytes_and_says_so)
{
    struct fixture f;
    UCHAR *buffer = user_pages(20, PAGE_READWRITE);
    uint64_t information;

    open_fixture(&f, PINION_DISK_PARTIAL);
    memset(buffer, 0xEE, 20 * PAGE_SIZE);
    EXPECT_STATUS(transfer(&f, PINION_READ, buffer, 70000, 0, &information), STATUS_SUCCESS);
    EXPECT_EQ(information, PINION_DISK_PARTIAL_BYTES);
    EXPECT_MEM_EQ(buffer, f.image, PINION_DISK_PARTIAL_BYTES);
    EXPECT_EQ(buffer[PINION_DISK_PARTIAL_BYTES], 0xEE);
    EXPECT_STATUS(transfer(&f, PINION_READ, buffer, PINION_DISK_PARTIAL_BYTES, 0, &information), STATUS_SUCCESS);
    EXPECT_EQ(information, PINION_DISK_PARTIAL_BYTES);
    EXPECT_STATUS(transfer(&f, PINION_READ, buffer, 100, 0, &information), STATUS_SUCCESS);
    EXPECT_EQ(information, 100);
    pinion_user_free(buffer);
    close_fixture(&f);
}

/* ---- MDLs of a driver's own -------------------------------------------------------------------------------------- */

struct own_request {
    PIRP irp;
    KEVENT done;
    KIRQL irql;
    IO_STATUS_BLOCK outcome;
};

static NTSTATUS take_back(HARNESS_UNUSED PDEVICE_OBJECT device, PIRP irp, PVOID context)
{
    struct own_request *own = context;

    own->irql = KeGetCurrentIrql();
    own->outcome = irp->IoStatus;
    KeSetEvent(&own->done, IO_NO_INCREMENT, FALSE);
    return STATUS_MORE_PROCESSING_REQUIRED;
}

/* Send a read with these MDLs, wait for it, give the status. */
static NTSTATUS read_into(PDEVICE_OBJECT disk, PMDL mdl, ULONG bytes, LONGLONG offset, struct own_request *own)
{
    PIRP irp = IoAllocateIrp(disk->StackSize, FALSE);
    PIO_STACK_LOCATION location = IoGetNextIrpStackLocation(irp);

    *own = (struct own_request){.irp = irp, .irql = HIGH_LEVEL};
    KeInitializeEvent(&own->done, NotificationEvent, FALSE);
    location->MajorFunction = IRP_MJ_READ;
    location->Parameters.Read.Length = bytes;
    location->Parameters.Read.ByteOffset.QuadPart = offset;
    irp->MdlAddress = mdl;
    IoSetCompletionRoutine(irp, take_back, own, TRUE, TRUE, TRUE);
    if (IoCallDriver(disk, irp) == STATUS_PENDING)
        KeWaitForSingleObject(&own->done, Executive, KernelMode, FALSE, NULL);
    IoFreeIrp(irp);
    return own->outcome.Status;
}

/* A transfer that really goes to the disk completes at DISPATCH_LEVEL. */
TEST(disk, complete__is_at_dispatch_level)
{
    struct fixture f;
    struct own_request own;
    UCHAR *buffer = user_pages(1, PAGE_READWRITE);
    PMDL mdl = locked_mdl(buffer, 100);

    open_fixture(&f, 0);
    EXPECT_STATUS(read_into(f.disk, mdl, 100, 0, &own), STATUS_SUCCESS);
    EXPECT_EQ(own.irql, DISPATCH_LEVEL);
    unlock_and_free(mdl);
    pinion_user_free(buffer);
    close_fixture(&f);
}

/* A partial MDL's own range counts, not its source's. */
TEST(disk, read__partial_mdl__fills_its_range_only)
{
    struct fixture f;
    struct own_request own;
    UCHAR *buffer = user_pages(8, PAGE_READWRITE);
    PMDL whole = locked_mdl(buffer + 50, 7 * PAGE_SIZE);
    PMDL part = mdl_over(NULL, 8 * PAGE_SIZE);

    open_fixture(&f, 0);
    memset(buffer, 0xEE, 8 * PAGE_SIZE);
    IoBuildPartialMdl(whole, part, buffer + 5000, 9001);
    EXPECT_STATUS(read_into(f.disk, part, 9001, 1000, &own), STATUS_SUCCESS);
    EXPECT_EQ(own.outcome.Information, 9001);
    EXPECT_MEM_EQ(buffer + 5000, f.image + 1000, 9001);
    EXPECT_EQ(buffer[4999], 0xEE);
    EXPECT_EQ(buffer[14001], 0xEE);
    IoFreeMdl(part);
    unlock_and_free(whole);
    pinion_user_free(buffer);
    close_fixture(&f);
}

/* A chain of MDLs over pool, user and host memory is one buffer; what is asked for may end inside it. */
TEST(disk, read__chain_of_mdls__is_one_buffer)
{
    struct fixture f;
    struct own_request own;
    UCHAR *user = user_pages(3, PAGE_READWRITE), *pool = pool_pages(2), *host = malloc(9000);
    PMDL first = locked_mdl(user + 4000, 5000), second = mdl_over(pool + 10, 6000), third = locked_mdl(host, 9000);

    open_fixture(&f, 0);
    MmBuildMdlForNonPagedPool(second);
    first->Next = second;
    second->Next = third;
    memset(host, 0xEE, 9000);
    EXPECT_STATUS(read_into(f.disk, first, 15000, 321, &own), STATUS_SUCCESS);
    EXPECT_EQ(own.outcome.Information, 15000);
    EXPECT_MEM_EQ(user + 4000, f.image + 321, 5000);
    EXPECT_MEM_EQ(pool + 10, f.image + 5321, 6000);
    EXPECT_MEM_EQ(host, f.image + 11321, 4000);
    EXPECT_EQ(host[4000], 0xEE);
    unlock_and_free(third);
    IoFreeMdl(second);
    unlock_and_free(first);
    free(host);
    ExFreePoolWithTag(pool, TEST_TAG);
    pinion_user_free(user);
    close_fixture(&f);
}

/* More pieces than the kernel takes at once: a chain of 1500 MDLs. */
TEST(disk, read__more_pieces_than_the_kernel_takes__arrives)
{
    enum { MDLS = 1500, EACH = 130 };
    struct fixture f;
    struct own_request own;
    UCHAR *pool = pool_pages(MDLS * EACH * 2 / PAGE_SIZE + 1);
    PMDL chain = NULL;

    open_fixture(&f, 0);
    for (int i = MDLS; i-- > 0;) {
        PMDL mdl = mdl_over(pool + i * EACH * 2, EACH);

        MmBuildMdlForNonPagedPool(mdl);
        mdl->Next = chain;
        chain = mdl;
    }
    EXPECT_STATUS(read_into(f.disk, chain, MDLS * EACH, 0, &own), STATUS_SUCCESS);
    for (int i = 0; i < MDLS; i++)
        EXPECT_MEM_EQ(pool + i * EACH * 2, f.image + i * EACH, EACH);
    while (chain != NULL) {
        PMDL next = chain->Next;

        IoFreeMdl(chain);
        chain = next;
    }
    ExFreePoolWithTag(pool, TEST_TAG);
    close_fixture(&f);
}

/* Frames in any order, as a striping driver copies them from several MDLs: each byte goes to the frame that is named. */
TEST(disk, read__frames_of_two_buffers_in_turn__arrives)
{
    enum { PAGES = 20, OFFSET = 100, BYTES = 2 * PAGES * PAGE_SIZE - 300 };
    struct fixture f;
    struct own_request own;
    UCHAR *buffers[2] = {user_pages(PAGES, PAGE_READWRITE), user_pages(PAGES, PAGE_READWRITE)};
    PMDL locked[2] = {locked_mdl(buffers[0], PAGES * PAGE_SIZE), locked_mdl(buffers[1], PAGES * PAGE_SIZE)};
    PMDL mixed = mdl_over((PVOID)(uintptr_t)OFFSET, BYTES);

    open_fixture(&f, 0);
    for (size_t i = 0; i < 2 * PAGES; i++)
        MmGetMdlPfnArray(mixed)[i] = MmGetMdlPfnArray(locked[i % 2])[i / 2];
    EXPECT_STATUS(read_into(f.disk, mixed, BYTES, 50, &own), STATUS_SUCCESS);
    for (size_t i = 0; i < 2 * PAGES; i++) {
        const UCHAR *frame = buffers[i % 2] + i / 2 * PAGE_SIZE;
        const size_t first = i == 0 ? OFFSET : 0;
        const size_t end = i == 2 * PAGES - 1 ? PAGE_SIZE - 300 + OFFSET : PAGE_SIZE;

        EXPECT_MEM_EQ(frame + first, f.image + 50 + i * PAGE_SIZE + first - OFFSET, end - first);
        EXPECT(first == 0 || frame[first - 1] == 0);
        EXPECT(end == PAGE_SIZE || frame[end] == 0);
    }
    IoFreeMdl(mixed);
    for (int i = 0; i < 2; i++) {
        unlock_and_free(locked[i]);
        pinion_user_free(buffers[i]);
    }
    close_fixture(&f);
}

/* A request longer than its MDLs is refused before anything moves; so is one without MDLs. */
TEST(disk, read__longer_than_its_mdls__is_refused)
{
    struct fixture f;
    struct own_request own;
    UCHAR *buffer = user_pages(1, PAGE_READWRITE);
    PMDL mdl = locked_mdl(buffer, 100);

    open_fixture(&f, 0);
    EXPECT_STATUS(read_into(f.disk, mdl, 101, 0, &own), STATUS_INVALID_PARAMETER);
    EXPECT_STATUS(read_into(f.disk, NULL, 1, 0, &own), STATUS_INVALID_PARAMETER);
    EXPECT_STATUS(read_into(f.disk, NULL, 0, 0, &own), STATUS_SUCCESS);
    EXPECT_STATUS(read_into(f.disk, mdl, 50, -1, &own), STATUS_INVALID_PARAMETER);
    EXPECT_EQ(buffer[0], 0);
    unlock_and_free(mdl);
    pinion_user_free(buffer);
    close_fixture(&f);
}

/* Page numbers that are no memory: refused. */
TEST(disk, read__pfns_that_are_no_memory__is_refused)
{
    struct fixture f;
    struct own_request own;
    UCHAR *buffer = user_pages(2, PAGE_READWRITE);
    PMDL mdl = locked_mdl(buffer, 2 * PAGE_SIZE);
    const PFN_NUMBER good = MmGetMdlPfnArray(mdl)[1];

    open_fixture(&f, 0);
    MmGetMdlPfnArray(mdl)[1] = 0;
    EXPECT_STATUS(read_into(f.disk, mdl, 2 * PAGE_SIZE, 0, &own), STATUS_INVALID_ADDRESS);
    MmGetMdlPfnArray(mdl)[1] = good;
    EXPECT_EQ(buffer[0], 0);
    unlock_and_free(mdl);
    pinion_user_free(buffer);
    close_fixture(&f);
}

/* The file shrank after it was measured: what is gone reads as the end of the disk. */
TEST(disk, read__file_truncated_meanwhile__is_the_end)
{
    struct fixture f;
    UCHAR *buffer = user_pages(2, PAGE_READWRITE);
    uint64_t information;

    open_fixture(&f, 0);
    EXPECT_EQ(truncate(f.path, 1000), 0);
    EXPECT_STATUS(transfer(&f, PINION_READ, buffer, 5000, 900, &information), STATUS_SUCCESS);
    EXPECT_EQ(information, 100);
    EXPECT_STATUS(transfer(&f, PINION_READ, buffer, 5000, 2000, &information), STATUS_END_OF_FILE);
    pinion_user_free(buffer);
    close_fixture(&f);
}

/* ---- the disk under a driver ------------------------------------------------------------------------------------- */

/* A filter over the disk sees its requests and passes them down. */
TEST(disk, stack__filter_over_the_disk__reads_through)
{
    struct fixture f;
    struct layer filter;
    PFILE_OBJECT file;
    UCHAR *buffer = user_pages(3, PAGE_READWRITE);
    struct pinion_request request = {.operation = PINION_READ, .buffer = buffer + 9, .bytes = 9999, .offset = 5};

    open_fixture(&f, 0);
    layer_create(&filter, DO_DIRECT_IO, pass_down);
    filter.lower = IoAttachDeviceToDeviceStack(filter.device, f.disk);
    EXPECT_STATUS(pinion_open(f.disk, &file), STATUS_SUCCESS);
    EXPECT_STATUS(pinion_transfer(file, &request), STATUS_SUCCESS);
    EXPECT_EQ(request.information, 9999);
    EXPECT_MEM_EQ(buffer + 9, f.image + 5, 9999);
    pinion_close(file);
    layer_destroy(&filter);
    pinion_user_free(buffer);
    close_fixture(&f);
}
