/* SPDX-License-Identifier: MIT */
/*
 * The io_uring engine: one thread, the reaper, owns both ends of the ring. It takes what waits, submits it in
 * one call, and runs `done` for whatever is complete. Requests that a `done` submits go down with the next call,
 * so under load one system call serves a whole batch, and nobody else touches memory that the kernel shares.
 *
 *     take waiting -> fill the submission queue -> enter -> reap -> done, done, done ... -> take waiting -> ...
 *
 * With nothing to do the reaper sleeps in the kernel. A read of an eventfd is always in the ring: a submitter
 * that finds the reaper asleep writes to it. The number of requests in the ring is bounded below the length of
 * either queue, so neither can overflow.
 */

#include "host/aio_impl.h"

#include <errno.h>
#include <liburing.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { DEPTH = 128, ENTRIES = 2 * DEPTH, BATCH = DEPTH, MOST_PLAIN_BYTES = 1 << 30 };

/* All of it is the reaper's alone, except that anyone may write to wake_fd. */
struct uring {
    struct io_uring  ring;
    int              wake_fd;
    uint64_t         wake_count;        /* where the read of wake_fd lands */
    struct iovec     wake_segment;      /* and what says so: older kernels read into vectors only */
    bool             wake_armed;        /* that read is in the ring; its completion bears no request */
    bool             plain;             /* the kernel reads and writes one segment without a vector */
    int              file;              /* what an entry names the file by: */
    unsigned         file_flags;        /* its place in the ring's table, or its descriptor */
    unsigned         in_flight;         /* requests in the ring */
    unsigned         begun;             /* by the `done` of others, since that was last counted */
    struct aio_queue pending;           /* taken over, and not yet in the ring */
};

/* What this thread reaps; NULL: nothing. */
static _Thread_local const struct host_aio *reaping;

void uring_wake(struct host_aio *aio)
{
    const uint64_t one = 1;

    aio_must(write(aio->uring->wake_fd, &one, sizeof(one)) == sizeof(one));
}

/* ---- down ---- */

static struct io_uring_sqe *next_entry(struct uring *uring)
{
    struct io_uring_sqe *entry = io_uring_get_sqe(&uring->ring);

    aio_must(entry != NULL);
    return entry;
}

static void put_wake(struct uring *uring)
{
    struct io_uring_sqe *entry = next_entry(uring);

    uring->wake_segment = (struct iovec){&uring->wake_count, sizeof(uring->wake_count)};
    io_uring_prep_readv(entry, uring->wake_fd, &uring->wake_segment, 1, 0);
    io_uring_sqe_set_data(entry, NULL);
    uring->wake_armed = true;
}

static void prepare_plain(struct io_uring_sqe *entry, int file, const struct host_io *io, const struct aio_part *part)
{
    const struct iovec *segment = part->segments;

    if (io->write)
        io_uring_prep_write(entry, file, segment->iov_base, (unsigned)segment->iov_len, part->off);
    else
        io_uring_prep_read(entry, file, segment->iov_base, (unsigned)segment->iov_len, part->off);
}

static void prepare_vector(struct io_uring_sqe *entry, int file, const struct host_io *io, const struct aio_part *part)
{
    if (io->write)
        io_uring_prep_writev(entry, file, part->segments, part->nsegments, part->off);
    else
        io_uring_prep_readv(entry, file, part->segments, part->nsegments, part->off);
}

static void put_request(struct uring *uring, struct host_io *io)
{
    struct io_uring_sqe *entry = next_entry(uring);
    const struct aio_part part = aio_next_part(io);

    if (uring->plain && part.nsegments == 1 && part.segments->iov_len <= MOST_PLAIN_BYTES)
        prepare_plain(entry, uring->file, io, &part);
    else
        prepare_vector(entry, uring->file, io, &part);
    io_uring_sqe_set_flags(entry, uring->file_flags);
    io_uring_sqe_set_data(entry, io);
    uring->in_flight++;
}

bool uring_submit_own(struct host_aio *aio, struct host_io *io)
{
    if (reaping != aio)
        return false;
    aio_push(&aio->uring->pending, io);
    aio->uring->begun++;
    return true;
}

/* False: the end has come, so the wake is not to be waited for again. */
static bool take_waiting(struct host_aio *aio)
{
    struct aio_queue *pending = &aio->uring->pending;
    bool running;

    aio_must(pthread_mutex_lock(&aio->lock) == 0);
    if (aio->waiting.first != NULL) {
        if (pending->first == NULL)
            pending->first = aio->waiting.first;
        else
            pending->last->next = aio->waiting.first;
        pending->last = aio->waiting.last;
        aio->waiting.first = NULL;
    }
    aio->asleep = false;
    running = !aio->stopping;
    aio_must(pthread_mutex_unlock(&aio->lock) == 0);
    return running;
}

static void fill(struct uring *uring)
{
    while (uring->in_flight < DEPTH && uring->pending.first != NULL)
        put_request(uring, aio_pop(&uring->pending));
}

/* What the kernel had no memory for stays in the submission queue, and the next call hands it down again. */
static void enter(struct uring *uring, unsigned wait_for)
{
    const int result = io_uring_submit_and_wait(&uring->ring, wait_for);

    if (result == -EAGAIN || result == -EBUSY)
        sched_yield();
    else
        aio_must(result >= 0 || result == -EINTR);
}

/* ---- up ---- */

/* Empties the completion queue before anything is done with the requests: `done` may take its time. */
static unsigned collect(struct uring *uring, struct aio_queue *over)
{
    struct io_uring_cqe *completions[BATCH];
    const unsigned count = io_uring_peek_batch_cqe(&uring->ring, completions, BATCH);

    for (unsigned i = 0; i < count; i++) {
        struct host_io *io = io_uring_cqe_get_data(completions[i]);

        if (io == NULL) {
            uring->wake_armed = false;
            continue;
        }
        uring->in_flight--;
        aio_push(aio_progress(io, completions[i]->res) ? over : &uring->pending, io);
    }
    io_uring_cq_advance(&uring->ring, count);
    return count;
}

static bool reap(struct host_aio *aio)
{
    struct aio_queue over = {0};
    const unsigned count = collect(aio->uring, &over);
    unsigned finished = 0;
    struct host_io *io;

    while ((io = aio_pop(&over)) != NULL) {
        io->done(io);
        finished++;
    }
    if (finished != 0)
        aio_forget(aio, finished, aio->uring->begun);
    aio->uring->begun = 0;
    return count != 0;
}

static bool may_sleep(struct host_aio *aio)
{
    bool nothing_waits;

    aio_must(pthread_mutex_lock(&aio->lock) == 0);
    nothing_waits = aio->waiting.first == NULL;
    aio->asleep = nothing_waits;
    aio_must(pthread_mutex_unlock(&aio->lock) == 0);
    return nothing_waits;
}

/* Ends when it has been told to and its last wake has come, so that the ring is empty. */
static void reaper_main(void *context)
{
    struct host_aio *aio = context;
    struct uring *uring = aio->uring;

    reaping = aio;
    for (;;) {
        const bool running = take_waiting(aio);

        if (running && !uring->wake_armed)
            put_wake(uring);
        fill(uring);
        if (io_uring_sq_ready(&uring->ring) != 0)
            enter(uring, 0);
        if (reap(aio))
            continue;
        if (!running && !uring->wake_armed)
            return;
        if (may_sleep(aio))
            enter(uring, 1);
    }
}

/* ---- making and unmaking ---- */

/* A ring that knows the file need not look it up for each request. */
static void choose_file(struct uring *uring, int fd)
{
    const bool known = io_uring_register_files(&uring->ring, &fd, 1) == 0;

    uring->file = known ? 0 : fd;
    uring->file_flags = known ? IOSQE_FIXED_FILE : 0;
}

static bool has_plain_requests(struct uring *uring)
{
    struct io_uring_probe *probe = io_uring_get_probe_ring(&uring->ring);
    const bool has = probe != NULL && io_uring_opcode_supported(probe, IORING_OP_READ) && io_uring_opcode_supported(probe, IORING_OP_WRITE);

    io_uring_free_probe(probe);
    return has;
}

static int make_ring(struct uring *uring)
{
    int error;

    uring->wake_fd = eventfd(0, EFD_CLOEXEC);
    if (uring->wake_fd < 0)
        return -errno;
    error = io_uring_queue_init(ENTRIES, &uring->ring, 0);
    if (error != 0)
        close(uring->wake_fd);
    return error;
}

static void unmake_ring(struct uring *uring)
{
    io_uring_queue_exit(&uring->ring);
    close(uring->wake_fd);
}

int uring_create(struct host_aio *aio)
{
    struct uring *uring = calloc(1, sizeof(*uring));
    int error;

    if (uring == NULL)
        return -ENOMEM;
    error = make_ring(uring);
    if (error == 0) {
        choose_file(uring, aio->fd);
        uring->plain = has_plain_requests(uring);
        aio->uring = uring;
        error = host_thread_start(&aio->threads[0], reaper_main, aio);
        if (error == 0) {
            aio->nthreads = 1;
            return 0;
        }
        aio->uring = NULL;
        unmake_ring(uring);
    }
    free(uring);
    return error;
}

void uring_destroy(struct host_aio *aio)
{
    unmake_ring(aio->uring);
    free(aio->uring);
    aio->uring = NULL;
}
