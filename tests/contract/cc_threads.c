/* SPDX-License-Identifier: MIT */
/* A cached file under several threads: MDLs, copies, flushes and trims at once. Runs under ThreadSanitizer too. */

#include "cc_support.h"
#include "threads.h"

enum { THREADS = 4, ROUNDS = 40, PART = FILE_BYTES / THREADS / PAGE_SIZE * PAGE_SIZE };

struct worker {
    struct fixture *f;
    unsigned number;
    ULONG seed;                         /* of what stands in its part of the file */
};

static NTSTATUS pass_down_unseen(struct layer *fs, PIRP irp)
{
    return layer_skip(fs, irp);
}

static void write_part(struct worker *worker, ULONG seed)
{
    struct call call = lock(worker->f, WRITE, (LONGLONG)worker->number * PART, PART);

    store(&call, seed);
    end_write(&call);
    worker->seed = seed;
}

static void abort_part(const struct worker *worker)
{
    struct call call = lock(worker->f, WRITE, (LONGLONG)worker->number * PART, PAGE_SIZE);

    CcMdlWriteAbort(call.file, call.chain);
}

static void copy_part(const struct worker *worker)
{
    LARGE_INTEGER offset = {.QuadPart = (LONGLONG)worker->number * PART};
    UCHAR *buffer = malloc(PART);
    IO_STATUS_BLOCK outcome;

    EXPECT_EQ(CcCopyRead(worker->f->file, &offset, PART, TRUE, buffer, &outcome), TRUE);
    EXPECT_PATTERN_AT(buffer, PART, worker->seed, (SIZE_T)offset.QuadPart);
    free(buffer);
}

static void work(void *context)
{
    struct worker *worker = context;

    for (unsigned round = 0; round < ROUNDS; round++) {
        switch ((round + worker->number) % 5) {
        case 0:
            write_part(worker, worker->number * ROUNDS + round);
            break;
        case 1:
            expect_cached(worker->f, (LONGLONG)worker->number * PART, PART, worker->seed);
            break;
        case 2:
            flush(worker->f);
            break;
        case 3:
            copy_part(worker);
            break;
        default:
            abort_part(worker);
        }
    }
}

/* Each thread finds in its part of the file what it has stored there, and so does the file at the end. */
TEST(cc_threads, parts_of_a_file__written_and_read_at_once__are_whole)
{
    struct fixture f;
    struct worker workers[THREADS];

    open_fixture(&f);
    f.fs.dispatch = pass_down_unseen;
    for (unsigned i = 0; i < THREADS; i++)
        workers[i] = (struct worker){&f, i, SEED};
    run_on_threads(work, workers, sizeof(workers[0]), THREADS);
    flush(&f);
    for (unsigned i = 0; i < THREADS; i++)
        expect_file(&f, (LONGLONG)i * PART, PART, workers[i].seed);
    close_fixture(&f);
}
