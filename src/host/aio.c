/* SPDX-License-Identifier: MIT */
/*
 * Reads and writes in flight: the queue, what a request has come to, and the engine of plain threads that takes
 * over where io_uring is refused. The io_uring engine is uring.c; aio_impl.h has the picture.
 */

#include "host/aio_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/uio.h>

void aio_must(bool holds)
{
    if (!holds)
        abort();
}

static void lock(struct host_aio *aio)
{
    aio_must(pthread_mutex_lock(&aio->lock) == 0);
}

static void unlock(struct host_aio *aio)
{
    aio_must(pthread_mutex_unlock(&aio->lock) == 0);
}

/* ---- requests ---- */

void aio_push(struct aio_queue *queue, struct host_io *io)
{
    io->next = NULL;
    if (queue->first == NULL)
        queue->first = io;
    else
        queue->last->next = io;
    queue->last = io;
}

struct host_io *aio_pop(struct aio_queue *queue)
{
    struct host_io *io = queue->first;

    if (io != NULL)
        queue->first = io->next;
    return io;
}

struct aio_part aio_next_part(const struct host_io *io)
{
    const unsigned left = io->nsegments - io->first;

    return (struct aio_part){
        .segments = io->segments + io->first,
        .nsegments = left < AIO_MAX_SEGMENTS ? left : AIO_MAX_SEGMENTS,
        .off = io->off + io->moved,
    };
}

/* Pass the segments that are done with, and shorten the one that the transfer ended in. */
static void pass_segments(struct host_io *io, uint64_t bytes)
{
    while (io->first < io->nsegments) {
        struct iovec *segment = &io->segments[io->first];

        if (bytes < segment->iov_len) {
            segment->iov_base = (uint8_t *)segment->iov_base + bytes;
            segment->iov_len -= bytes;
            return;
        }
        bytes -= segment->iov_len;
        io->first++;
    }
}

/* The kernel cancels nothing that we did not ask it to, except what a thread that ends has left behind. */
static bool is_retry(int64_t moved)
{
    return moved == -EAGAIN || moved == -EINTR || moved == -ECANCELED;
}

bool aio_progress(struct host_io *io, int64_t moved)
{
    if (is_retry(moved))
        return false;
    if (moved < 0) {
        io->result = moved;
        return true;
    }
    io->moved += (uint64_t)moved;
    io->result = (int64_t)io->moved;
    pass_segments(io, (uint64_t)moved);
    return moved == 0 || io->first == io->nsegments;
}

void aio_forget(struct host_aio *aio, unsigned finished, unsigned begun)
{
    lock(aio);
    aio->outstanding += begun;
    aio->outstanding -= finished;
    if (aio->outstanding == 0)
        aio_must(pthread_cond_broadcast(&aio->idle) == 0);
    unlock(aio);
}

/* ---- the thread engine ---- */

static struct host_io *wait_for_request(struct host_aio *aio)
{
    struct host_io *io;

    lock(aio);
    while ((io = aio_pop(&aio->waiting)) == NULL && !aio->stopping)
        aio_must(pthread_cond_wait(&aio->arrived, &aio->lock) == 0);
    unlock(aio);
    return io;
}

static int64_t move_part(int fd, const struct host_io *io)
{
    const struct aio_part part = aio_next_part(io);
    const ssize_t moved = io->write ? pwritev(fd, part.segments, (int)part.nsegments, (off_t)part.off)
                                    : preadv(fd, part.segments, (int)part.nsegments, (off_t)part.off);

    return moved < 0 ? -errno : moved;
}

static void move_all(int fd, struct host_io *io)
{
    while (!aio_progress(io, move_part(fd, io)))
        continue;
    io->done(io);
}

static void worker_main(void *context)
{
    struct host_aio *aio = context;
    struct host_io *io;

    while ((io = wait_for_request(aio)) != NULL) {
        move_all(aio->fd, io);
        aio_forget(aio, 1, 0);
    }
}

static void stop_threads(struct host_aio *aio)
{
    lock(aio);
    aio->stopping = true;
    aio_must(pthread_cond_broadcast(&aio->arrived) == 0);
    unlock(aio);
    if (aio->uring != NULL)
        uring_wake(aio);
    for (unsigned i = 0; i < aio->nthreads; i++)
        host_thread_join(&aio->threads[i]);
}

static int start_workers(struct host_aio *aio)
{
    while (aio->nthreads < AIO_WORKERS) {
        const int error = host_thread_start(&aio->threads[aio->nthreads], worker_main, aio);

        if (error != 0) {
            stop_threads(aio);
            return error;
        }
        aio->nthreads++;
    }
    return 0;
}

/* ---- either engine ---- */

static void release(struct host_aio *aio)
{
    aio_must(pthread_cond_destroy(&aio->idle) == 0);
    aio_must(pthread_cond_destroy(&aio->arrived) == 0);
    aio_must(pthread_mutex_destroy(&aio->lock) == 0);
    free(aio);
}

/* Whatever the reason for which io_uring is refused, threads do the same work. */
int host_aio_create(struct host_aio **out, const struct host_file *file, enum host_aio_kind kind)
{
    struct host_aio *aio = calloc(1, sizeof(*aio));
    int error = 0;

    if (aio == NULL)
        return -ENOMEM;
    aio->fd = file->fd;
    aio_must(pthread_mutex_init(&aio->lock, NULL) == 0);
    aio_must(pthread_cond_init(&aio->arrived, NULL) == 0);
    aio_must(pthread_cond_init(&aio->idle, NULL) == 0);
    aio->is_inline = kind == HOST_AIO_INLINE;
    if (!aio->is_inline && (kind == HOST_AIO_THREADS || uring_create(aio) != 0))
        error = start_workers(aio);
    if (error != 0) {
        release(aio);
        return error;
    }
    *out = aio;
    return 0;
}

void host_aio_destroy(struct host_aio *aio)
{
    lock(aio);
    while (aio->outstanding != 0)
        aio_must(pthread_cond_wait(&aio->idle, &aio->lock) == 0);
    unlock(aio);
    stop_threads(aio);
    if (aio->uring != NULL)
        uring_destroy(aio);
    release(aio);
}

void host_aio_submit(struct host_aio *aio, struct host_io *io)
{
    bool wake_reaper;

    io->moved = 0;
    io->first = 0;
    if (aio->is_inline) {
        move_all(aio->fd, io);
        return;
    }
    if (aio->uring != NULL && uring_submit_own(aio, io))
        return;
    lock(aio);
    aio_push(&aio->waiting, io);
    aio->outstanding++;
    wake_reaper = aio->asleep;
    aio->asleep = false;
    if (aio->uring == NULL)
        aio_must(pthread_cond_signal(&aio->arrived) == 0);
    unlock(aio);
    if (wake_reaper)
        uring_wake(aio);
}

const char *host_aio_engine(const struct host_aio *aio)
{
    return aio->is_inline ? "inline" : aio->uring != NULL ? "io_uring" : "threads";
}
