/* SPDX-License-Identifier: MIT */
/*
 * A disk with many requests in flight, from several threads, through a filter that resends each with an IRP of its
 * own. Runs under ThreadSanitizer too.
 */

#include "io_stack.h"
#include "support.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { DISK_BYTES = 1 << 20, THREADS = 3, REQUESTS = 300, DEPTH = 8, MOST = 60000 };

struct machine_under_test {
    char path[64];
    UCHAR *image;
    PDEVICE_OBJECT disk;
    struct layer filter;
    PFILE_OBJECT file;
};

/* ---- the filter -------------------------------------------------------------------------------------------------- */

static NTSTATUS copy_back(HARNESS_UNUSED PDEVICE_OBJECT device, PIRP irp, PVOID context)
{
    PIRP original = context;

    original->IoStatus = irp->IoStatus;
    IoFreeMdl(irp->MdlAddress);
    IoFreeIrp(irp);
    IoCompleteRequest(original, IO_DISK_INCREMENT);
    return STATUS_MORE_PROCESSING_REQUIRED;
}

static NTSTATUS resend(struct layer *layer, PIRP original)
{
    const PIO_STACK_LOCATION from = IoGetCurrentIrpStackLocation(original);
    PIRP irp = IoAllocateIrp(layer->lower->StackSize, FALSE);
    PMDL whole = original->MdlAddress;
    PIO_STACK_LOCATION to = IoGetNextIrpStackLocation(irp);

    irp->MdlAddress = IoAllocateMdl(MmGetMdlVirtualAddress(whole), MmGetMdlByteCount(whole), FALSE, FALSE, NULL);
    IoBuildPartialMdl(whole, irp->MdlAddress, MmGetMdlVirtualAddress(whole), MmGetMdlByteCount(whole));
    to->MajorFunction = from->MajorFunction;
    to->Parameters = from->Parameters;
    IoSetCompletionRoutine(irp, copy_back, original, TRUE, TRUE, TRUE);
    IoMarkIrpPending(original);
    IoCallDriver(layer->lower, irp);
    return STATUS_PENDING;
}

/* ---- the load ---------------------------------------------------------------------------------------------------- */

struct slot {
    struct pinion_request request;
    struct worker *worker;
    UCHAR *buffer;
    struct slot *next;
};

struct worker {
    pthread_t thread;
    struct machine_under_test *m;
    unsigned seed;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct slot *back;                  /* ended, not yet looked at */
    unsigned wrong;
    struct slot slots[DEPTH];
};

static void hand_back(struct pinion_request *request)
{
    struct slot *slot = request->context;
    struct worker *worker = slot->worker;

    pthread_mutex_lock(&worker->lock);
    slot->next = worker->back;
    worker->back = slot;
    pthread_cond_signal(&worker->changed);
    pthread_mutex_unlock(&worker->lock);
}

static struct slot *wait_for_slot(struct worker *worker)
{
    struct slot *slot;

    pthread_mutex_lock(&worker->lock);
    while (worker->back == NULL)
        pthread_cond_wait(&worker->changed, &worker->lock);
    slot = worker->back;
    worker->back = slot->next;
    pthread_mutex_unlock(&worker->lock);
    return slot;
}

static unsigned next_random(struct worker *worker, unsigned below)
{
    worker->seed = worker->seed * 1103515245u + 12345u;
    return (worker->seed >> 8) % below;
}

static void start(struct worker *worker, struct slot *slot)
{
    const ULONG bytes = 1 + next_random(worker, MOST);

    slot->request = (struct pinion_request){
        .operation = PINION_READ, .buffer = slot->buffer + next_random(worker, PAGE_SIZE), .bytes = bytes,
        .offset = next_random(worker, DISK_BYTES - bytes), .done = hand_back, .context = slot};
    if (!NT_SUCCESS(pinion_submit(worker->m->file, &slot->request)))
        abort();
}

static void look(struct worker *worker, const struct slot *slot)
{
    const struct pinion_request *request = &slot->request;

    if (request->status != STATUS_SUCCESS || request->information != request->bytes
        || memcmp(request->buffer, worker->m->image + request->offset, request->bytes) != 0)
        worker->wrong++;
}

static void *work(void *context)
{
    struct worker *worker = context;
    unsigned started = 0;

    for (int i = 0; i < DEPTH; i++, started++)
        start(worker, &worker->slots[i]);
    for (unsigned ended = 0; ended < REQUESTS; ended++) {
        struct slot *slot = wait_for_slot(worker);

        look(worker, slot);
        if (started < REQUESTS) {
            start(worker, slot);
            started++;
        }
    }
    return NULL;
}

static void start_worker(struct worker *worker, struct machine_under_test *m, unsigned seed)
{
    *worker = (struct worker){.m = m, .seed = seed};
    pthread_mutex_init(&worker->lock, NULL);
    pthread_cond_init(&worker->changed, NULL);
    for (int i = 0; i < DEPTH; i++) {
        worker->slots[i].worker = worker;
        worker->slots[i].buffer = user_pages(MOST / PAGE_SIZE + 3, PAGE_READWRITE);
    }
    EXPECT_EQ(pthread_create(&worker->thread, NULL, work, worker), 0);
}

static void join_worker(struct worker *worker)
{
    pthread_join(worker->thread, NULL);
    EXPECT_EQ(worker->wrong, 0);
    for (int i = 0; i < DEPTH; i++)
        pinion_user_free(worker->slots[i].buffer);
}

static void set_up(struct machine_under_test *m, const char *options)
{
    FILE *stream;

    boot(options);
    strcpy(m->path, "/tmp/pinion-disk-XXXXXX");
    stream = fdopen(mkstemp(m->path), "w");
    m->image = malloc(DISK_BYTES);
    fill_pattern(m->image, DISK_BYTES, 21);
    EXPECT_EQ(fwrite(m->image, 1, DISK_BYTES, stream), DISK_BYTES);
    fclose(stream);
    EXPECT_EQ(pinion_disk_create(m->path, 0, &m->disk), 0);
    layer_create(&m->filter, DO_DIRECT_IO, resend);
    m->filter.lower = IoAttachDeviceToDeviceStack(m->filter.device, m->disk);
    EXPECT_STATUS(pinion_open(m->disk, &m->file), STATUS_SUCCESS);
}

static void tear_down(struct machine_under_test *m)
{
    pinion_close(m->file);
    layer_destroy(&m->filter);
    pinion_disk_delete(m->disk);
    unlink(m->path);
    free(m->image);
}

static _Atomic bool trimming;

static void *trim(HARNESS_UNUSED void *context)
{
    while (trimming) {
        pinion_trim();
        usleep(500);
    }
    return NULL;
}

static void run(const char *options, bool under_trimming)
{
    static struct worker workers[THREADS];
    struct machine_under_test m;
    pthread_t trimmer;

    set_up(&m, options);
    trimming = under_trimming;
    EXPECT_EQ(pthread_create(&trimmer, NULL, trim, NULL), 0);
    for (unsigned i = 0; i < THREADS; i++)
        start_worker(&workers[i], &m, i + 1);
    for (unsigned i = 0; i < THREADS; i++)
        join_worker(&workers[i]);
    trimming = false;
    pthread_join(trimmer, NULL);
    tear_down(&m);
}

/* Every byte of every request arrives, and at the end nothing is held. */
TEST(disk_threads, many_requests_from_many_threads__all_arrive__uring)
{
    run("uring=on", false);
}

TEST(disk_threads, many_requests_from_many_threads__all_arrive__threads)
{
    run("uring=off", false);
}

/* The same with the pages of all buffers taken away again and again. */
TEST(disk_threads, many_requests_under_trimming__all_arrive)
{
    run("verifier=off", true);
}

/* IRPs allocated on one thread and freed on another come back: many more pass than there are slots in flight. */
struct pipe {
    pthread_mutex_t lock;
    PIRP irps[64];
    unsigned count;
    bool ended;
};

static void *free_irps(void *context)
{
    struct pipe *pipe = context;
    bool ended = false;

    while (!ended) {
        pthread_mutex_lock(&pipe->lock);
        while (pipe->count > 0)
            IoFreeIrp(pipe->irps[--pipe->count]);
        ended = pipe->ended;
        pthread_mutex_unlock(&pipe->lock);
        usleep(10);
    }
    return NULL;
}

TEST(disk_threads, irps_freed_by_another_thread__come_back)
{
    struct pipe pipe = {.lock = PTHREAD_MUTEX_INITIALIZER};
    pthread_t freer;

    boot(NULL);
    EXPECT_EQ(pthread_create(&freer, NULL, free_irps, &pipe), 0);
    for (unsigned sent = 0; sent < 20000;) {
        pthread_mutex_lock(&pipe.lock);
        while (pipe.count < 64) {
            PIRP irp = IoAllocateIrp(3, FALSE);

            EXPECT(irp != NULL);
            EXPECT_EQ(irp->StackCount, 3);
            pipe.irps[pipe.count++] = irp;
            sent++;
        }
        pthread_mutex_unlock(&pipe.lock);
        usleep(10);
    }
    pthread_mutex_lock(&pipe.lock);
    pipe.ended = true;
    pthread_mutex_unlock(&pipe.lock);
    pthread_join(freer, NULL);
    while (pipe.count > 0)
        IoFreeIrp(pipe.irps[--pipe.count]);
}

/* ---- in turns ---------------------------------------------------------------------------------------------------- */

static void set_event(struct pinion_request *request)
{
    KeSetEvent(request->context, IO_DISK_INCREMENT, FALSE);
}

static void *wait_for_event(void *context)
{
    LARGE_INTEGER patience = {.QuadPart = -100000000};  /* 10 s */

    return KeWaitForSingleObject(context, Executive, KernelMode, FALSE, &patience) == STATUS_SUCCESS ? context : NULL;
}

/* With disk=turns a transfer that is to end later ends though only another thread waits, and began to before there was one. */
TEST(disk_threads, turns__thread_that_waits_already__ends_the_transfer_of_another)
{
    struct pinion_request request = {.operation = PINION_READ, .bytes = 4096, .done = set_event};
    struct machine_under_test m;
    pthread_t waiter;
    KEVENT event;
    void *arrived;

    set_up(&m, "disk=turns");
    KeInitializeEvent(&event, NotificationEvent, FALSE);
    request.buffer = user_pages(1, PAGE_READWRITE);
    request.context = &event;
    EXPECT_EQ(pthread_create(&waiter, NULL, wait_for_event, &event), 0);
    usleep(50000);
    EXPECT_STATUS(pinion_submit(m.file, &request), STATUS_PENDING);
    EXPECT_EQ(pthread_join(waiter, &arrived), 0);
    EXPECT_PTR_EQ(arrived, &event);
    tear_down(&m);
}
