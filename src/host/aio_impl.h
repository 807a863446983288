/* SPDX-License-Identifier: MIT */
/*
 * What aio.c and its io_uring engine share.
 *
 *     host_aio_submit -> waiting -> an engine's thread -> the kernel -> progress -> done
 *                                          ^                               |
 *                                          +------- not all moved yet -----+
 *
 * A submitter only puts its request into the queue and wakes somebody: it never calls into the file system, so
 * it never waits for a disk, and there is no ring that it could find full.
 */
#ifndef PINION_HOST_AIO_IMPL_H
#define PINION_HOST_AIO_IMPL_H

#include "host/host.h"

enum { AIO_MAX_SEGMENTS = 1024, AIO_WORKERS = 4 };

/* Requests in order of arrival, linked by host_io.next. */
struct aio_queue {
    struct host_io *first;
    struct host_io *last;               /* meaningful only while first is not NULL */
};

struct uring;

/*
 * Key: (C) constant after creation  (L) under the lock
 */
struct host_aio {
    int                fd;              /* (C) the disk's file, which its owner closes */
    struct uring      *uring;           /* (C) NULL: another engine */
    bool               is_inline;       /* (C) no engine: the submitter does it all */
    struct host_thread threads[AIO_WORKERS];    /* (C) io_uring has one, its reaper */
    unsigned           nthreads;        /* (C) */
    pthread_mutex_t    lock;
    pthread_cond_t     arrived;         /* thread engine: something waits, or the end has come */
    pthread_cond_t     idle;            /* outstanding is 0 */
    struct aio_queue   waiting;         /* (L) */
    unsigned           outstanding;     /* (L) submitted, and `done` has not returned yet */
    bool               asleep;          /* (L) io_uring: the reaper waits in the kernel and must be woken */
    bool               stopping;        /* (L) */
};

/* The part of a request that the kernel is asked for next. */
struct aio_part {
    const struct iovec *segments;
    unsigned            nsegments;
    uint64_t            off;
};

void            aio_must(bool holds);           /* what cannot fail with the arguments given here */
void            aio_push(struct aio_queue *queue, struct host_io *io);
struct host_io *aio_pop(struct aio_queue *queue);
struct aio_part aio_next_part(const struct host_io *io);

/* Note what came of the last part: bytes moved, or -errno. True: the request is over and has its result. */
bool            aio_progress(struct host_io *io, int64_t moved);

/* The `done` of so many requests has returned, and they have submitted so many others that were not counted yet. */
void            aio_forget(struct host_aio *aio, unsigned finished, unsigned begun);

/* ---- uring.c ---- */

int  uring_create(struct host_aio *aio);        /* -errno: nothing has been made */
void uring_wake(struct host_aio *aio);
bool uring_submit_own(struct host_aio *aio, struct host_io *io);    /* by a `done`: without lock or waking; false: by somebody else */
void uring_destroy(struct host_aio *aio);       /* after its thread has ended */

#endif
