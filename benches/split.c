/* SPDX-License-Identifier: MIT */
/*
 * What does a stack of drivers cost that splits requests? Requests of 1 MiB in pieces of 64 KiB, against a loop that puts the same
 * pieces into an io_uring by itself.
 *
 *     ring only    requests -> a driver that cuts -> no-operations of a ring: nothing is left but the stack itself
 *     real reads   requests -> the example splitter -> the disk over a file in the page cache
 *
 * In the first the pieces of a request are under way together, as MDLs under one IRP; or each has an IRP, one after the other, in the
 * example splitter. Whoever sends the pieces, DEPTH requests are under way.
 */

#include <liburing.h>                   /* first: it uses a name that annotations of drivers take */

#include "bench.h"

#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum {
    REQUEST_BYTES = 1 << 20,
    PIECE_BYTES   = 64 << 10,
    PIECES        = REQUEST_BYTES / PIECE_BYTES,
    DEPTH         = 8,
    ENTRIES       = 2 * DEPTH * PIECES,
    FILE_BYTES    = 64 << 20,
    READS         = 256,                /* of a sample */
};

/* The example's. */
NTSTATUS DriverEntry(PDRIVER_OBJECT driver, PUNICODE_STRING registry_path);

static struct io_uring ring;

/* ---- a ring of no-operations ---- */

static void put_nop(void *data)
{
    struct io_uring_sqe *entry = io_uring_get_sqe(&ring);

    if (entry == NULL)
        abort();
    io_uring_prep_nop(entry);
    io_uring_sqe_set_data(entry, data);
}

/* Hand down what was put, and take what came back. */
static void turn_ring(void (*take)(void *data))
{
    struct io_uring_cqe *entries[ENTRIES];
    unsigned count;

    if (io_uring_submit_and_wait(&ring, 1) < 0)
        abort();
    count = io_uring_peek_batch_cqe(&ring, entries, ENTRIES);
    for (unsigned i = 0; i < count; i++)
        take(io_uring_cqe_get_data(entries[i]));
    io_uring_cq_advance(&ring, count);
}

/* ---- the device at the bottom ---- */

static uint64_t pieces_seen;

/* One no-operation a request: what the splitter cuts arrives here piece by piece. */
static NTSTATUS put_irp(PDEVICE_OBJECT device, PIRP irp)
{
    (void)device;
    pieces_seen++;
    IoMarkIrpPending(irp);
    put_nop(irp);
    return STATUS_PENDING;
}

static void complete_irp(void *data)
{
    PIRP irp = data;

    irp->IoStatus.Status = STATUS_SUCCESS;
    irp->IoStatus.Information = IoGetCurrentIrpStackLocation(irp)->Parameters.Read.Length;
    IoCompleteRequest(irp, IO_DISK_INCREMENT);
}

/* ---- a device that cuts ---- */

/* A request with all of its pieces under way. Their MDLs are kept for the next one. */
struct cut {
    struct cut *next;
    PIRP        irp;
    unsigned    left;
    PMDL        pieces[PIECES];
};

static struct cut *spare_cuts;

/* Each piece is described by an MDL of its own, whose address goes with it. */
static NTSTATUS put_pieces(PDEVICE_OBJECT device, PIRP irp)
{
    struct cut *cut = spare_cuts;
    PMDL source = irp->MdlAddress;

    (void)device;
    spare_cuts = cut->next;
    cut->irp = irp;
    cut->left = PIECES;
    IoMarkIrpPending(irp);
    for (size_t i = 0; i < PIECES; i++) {
        IoBuildPartialMdl(source, cut->pieces[i], (PUCHAR)MmGetMdlVirtualAddress(source) + i * PIECE_BYTES, PIECE_BYTES);
        put_nop(cut);
    }
    return STATUS_PENDING;
}

static void complete_piece(void *data)
{
    struct cut *cut = data;

    pieces_seen++;
    if (--cut->left != 0)
        return;
    for (size_t i = 0; i < PIECES; i++)
        MmPrepareMdlForReuse(cut->pieces[i]);
    cut->next = spare_cuts;
    spare_cuts = cut;
    complete_irp(cut->irp);
}

static void make_cuts(void)
{
    for (size_t i = 0; i < DEPTH; i++) {
        struct cut *cut = calloc(1, sizeof(*cut));

        for (size_t k = 0; k < PIECES; k++)
            cut->pieces[k] = IoAllocateMdl(NULL, PIECE_BYTES + PAGE_SIZE, FALSE, FALSE, NULL);
        cut->next = spare_cuts;
        spare_cuts = cut;
    }
}

/* ---- stacks ---- */

static NTSTATUS succeed(PDEVICE_OBJECT device, PIRP irp)
{
    (void)device;
    irp->IoStatus.Status = STATUS_SUCCESS;
    irp->IoStatus.Information = 0;
    IoCompleteRequest(irp, IO_NO_INCREMENT);
    return STATUS_SUCCESS;
}

static NTSTATUS ring_entry(PDRIVER_OBJECT driver, void *registry_path)
{
    (void)registry_path;
    for (int major = 0; major <= IRP_MJ_MAXIMUM_FUNCTION; major++)
        driver->MajorFunction[major] = succeed;
    driver->MajorFunction[IRP_MJ_READ] = put_irp;
    return STATUS_SUCCESS;
}

static NTSTATUS cutter_entry(PDRIVER_OBJECT driver, void *registry_path)
{
    ring_entry(driver, registry_path);
    driver->MajorFunction[IRP_MJ_READ] = put_pieces;
    return STATUS_SUCCESS;
}

static NTSTATUS splitter_entry(PDRIVER_OBJECT driver, void *registry_path)
{
    return DriverEntry(driver, registry_path);
}

static PDEVICE_OBJECT create_device(const char *name, pinion_driver_entry *entry)
{
    PDRIVER_OBJECT driver;
    PDEVICE_OBJECT device;

    if (pinion_driver_load(name, entry, &driver) != STATUS_SUCCESS
        || IoCreateDevice(driver, 0, NULL, FILE_DEVICE_DISK, 0, FALSE, &device) != STATUS_SUCCESS)
        abort();
    device->Flags |= DO_DIRECT_IO;
    device->Flags &= ~(ULONG)DO_DEVICE_INITIALIZING;
    return device;
}

static PFILE_OBJECT open_device(PDEVICE_OBJECT device)
{
    PFILE_OBJECT file;

    if (pinion_open(device, &file) != STATUS_SUCCESS)
        abort();
    return file;
}

/* The example splitter over a device. */
static PFILE_OBJECT open_split(const char *name, PDEVICE_OBJECT device)
{
    PDRIVER_OBJECT driver;

    if (pinion_driver_load(name, splitter_entry, &driver) != STATUS_SUCCESS || pinion_driver_start(driver, device) != STATUS_SUCCESS)
        abort();
    return open_device(device);
}

/* ---- requests ---- */

struct slot {
    struct pinion_request request;
    unsigned left;                      /* pieces, where the loop itself cuts */
    struct iovec segments[PIECES];
    char    *memory;                    /* for the loop: as much of the program's own */
};

static struct slot slots[DEPTH];
static uint64_t started, finished, wanted;
static PFILE_OBJECT top;

static uint64_t offset_of(uint64_t number)
{
    return number * 7 % (FILE_BYTES / REQUEST_BYTES) * REQUEST_BYTES;
}

static void submit(struct slot *slot)
{
    slot->request.offset = offset_of(started++);
    pinion_submit(top, &slot->request);
}

static void on_done(struct pinion_request *request)
{
    if (request->status != STATUS_SUCCESS || request->information != REQUEST_BYTES)
        abort();
    finished++;
    if (started < wanted)
        submit(request->context);
}

static void make_slots(void)
{
    for (size_t i = 0; i < DEPTH; i++) {
        slots[i].request = (struct pinion_request){.operation = PINION_READ, .bytes = REQUEST_BYTES, .context = &slots[i],
                                                   .buffer = pinion_user_alloc(REQUEST_BYTES, PAGE_READWRITE)};
        slots[i].memory = mmap(NULL, REQUEST_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
        memset(slots[i].request.buffer, 1, REQUEST_BYTES);
    }
}

/* ---- ring only ---- */

static PFILE_OBJECT cutter_file, splitter_file;

static void turn_until_done(PFILE_OBJECT file, void (*take)(void *data), uint64_t times)
{
    KIRQL irql;

    top = file;
    started = finished = 0;
    wanted = times;
    for (size_t i = 0; i < DEPTH && started < wanted; i++) {
        slots[i].request.done = on_done;
        submit(&slots[i]);
    }
    KeRaiseIrql(DISPATCH_LEVEL, &irql);
    while (finished < wanted)
        turn_ring(take);
    KeLowerIrql(irql);
}

static void cut_together(void *context, uint64_t times)
{
    (void)context;
    turn_until_done(cutter_file, complete_piece, times);
}

static void cut_in_turn(void *context, uint64_t times)
{
    (void)context;
    turn_until_done(splitter_file, complete_irp, times);
}

static void put_bare(struct slot *slot)
{
    started++;
    slot->left = PIECES;
    for (size_t i = 0; i < PIECES; i++)
        put_nop(slot);
}

static void take_bare(void *data)
{
    struct slot *slot = data;

    if (--slot->left != 0)
        return;
    finished++;
    if (started < wanted)
        put_bare(slot);
}

static void nop_bare(void *context, uint64_t times)
{
    (void)context;
    started = finished = 0;
    wanted = times;
    for (size_t i = 0; i < DEPTH && started < wanted; i++)
        put_bare(&slots[i]);
    while (finished < wanted)
        turn_ring(take_bare);
}

static bool is_cut(void *context)
{
    void (*const work)(void *, uint64_t) = *(void (*const *)(void *, uint64_t))context;
    const uint64_t before = pieces_seen;

    work(NULL, 3 * DEPTH);
    return pieces_seen - before == 3 * DEPTH * PIECES && finished == 3 * DEPTH;
}

/* ---- real reads ---- */

static PFILE_OBJECT disk_file;
static int          file_fd;
static sem_t        all_done;

/* On the disk's own thread: the next request goes down at once. */
static void on_read(struct pinion_request *request)
{
    on_done(request);
    if (finished == wanted)
        sem_post(&all_done);
}

static void read_split(uint64_t times)
{
    top = disk_file;
    started = times < DEPTH ? times : DEPTH;
    finished = 0;
    wanted = times;
    for (size_t i = 0; i < DEPTH && i < times; i++) {
        slots[i].request.done = on_read;
        slots[i].request.offset = offset_of(i);
        pinion_submit(top, &slots[i].request);
    }
    sem_wait(&all_done);
}

static void put_reads(struct slot *slot)
{
    const uint64_t off = offset_of(started++);

    slot->left = PIECES;
    for (size_t i = 0; i < PIECES; i++) {
        struct io_uring_sqe *entry = io_uring_get_sqe(&ring);

        slot->segments[i] = (struct iovec){slot->memory + i * PIECE_BYTES, PIECE_BYTES};
        io_uring_prep_readv(entry, file_fd, &slot->segments[i], 1, off + i * PIECE_BYTES);
        io_uring_sqe_set_data(entry, slot);
    }
}

static void take_read(void *data)
{
    struct slot *slot = data;

    if (--slot->left != 0)
        return;
    finished++;
    if (started < wanted)
        put_reads(slot);
}

static void read_bare(uint64_t times)
{
    started = finished = 0;
    wanted = times;
    for (size_t i = 0; i < DEPTH && started < wanted; i++)
        put_reads(&slots[i]);
    while (finished < wanted)
        turn_ring(take_read);
}

static double now_ns(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static double sample(void (*work)(uint64_t), const void *context)
{
    const clockid_t clock = *(const clockid_t *)context;
    const double start = now_ns(clock);

    work(READS);
    return (now_ns(clock) - start) / READS;
}

static double sample_split(const void *context)
{
    return sample(read_split, context);
}

static double sample_bare(const void *context)
{
    return sample(read_bare, context);
}

/* Every word of the file tells where it is. */
static bool is_read(const void *context)
{
    bool good = true;

    (void)context;
    read_split(DEPTH);
    for (size_t i = 0; i < DEPTH; i++)
        for (size_t at = 0; at < REQUEST_BYTES; at += sizeof(uint64_t))
            good = good && *(uint64_t *)((char *)slots[i].request.buffer + at) == offset_of(i) + at;
    return good;
}

static PDEVICE_OBJECT create_disk(void)
{
    char path[] = "/tmp/pinion-bench-XXXXXX";
    uint64_t *words;
    PDEVICE_OBJECT disk;

    file_fd = mkstemp(path);
    if (file_fd < 0 || ftruncate(file_fd, FILE_BYTES) != 0)
        abort();
    words = mmap(NULL, FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, file_fd, 0);
    for (size_t i = 0; i < FILE_BYTES / sizeof(*words); i++)
        words[i] = i * sizeof(*words);
    munmap(words, FILE_BYTES);
    if (pinion_disk_create(path, 0, &disk) != 0)
        abort();
    unlink(path);
    return disk;
}

int main(int argc, char **argv)
{
    static void (*together)(void *, uint64_t) = cut_together, (*in_turn)(void *, uint64_t) = cut_in_turn;
    const clockid_t wall = CLOCK_MONOTONIC, processor = CLOCK_PROCESS_CPUTIME_ID;
    const struct bench_case cases[] = {
        {"9", "1 MiB in 16 pieces under one IRP, ring only", "bare ring", 1.25, 0, cut_together, nop_bare, is_cut, &together, NULL},
        {"9", "1 MiB in 16 IRPs in turn, ring only", "bare ring", 1.25, 0, cut_in_turn, nop_bare, is_cut, &in_turn, NULL},
    };
    const struct bench_sampled sampled[] = {
        {"9", "1 MiB in 16 IRPs in turn, reads", "bare reads", 1 / 0.98, sample_split, sample_bare, is_read, &wall},
        {"9", "the same, processor time", "bare reads", 1.02, sample_split, sample_bare, is_read, &processor},
    };
    int code;

    pinion_boot("verifier=off");
    if (io_uring_queue_init(ENTRIES, &ring, 0) != 0) {
        fprintf(stderr, "split: io_uring is refused here\n");
        return 0;
    }
    make_slots();
    make_cuts();
    sem_init(&all_done, 0, 0);
    cutter_file = open_device(create_device("cutter", cutter_entry));
    splitter_file = open_split("splitter", create_device("ring", ring_entry));
    disk_file = open_split("disksplitter", create_disk());
    code = bench_run(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
    return code | bench_run_sampled(argc, argv, sampled, sizeof(sampled) / sizeof(sampled[0]));
}
