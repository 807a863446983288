/* SPDX-License-Identifier: MIT */
/*
 * Reads and writes in flight, through both engines: everything that can be moved is moved, `done` runs once for
 * each request, and nothing is lost however many threads submit. Runs under ThreadSanitizer too.
 */

#include "harness.h"

#include "host/host.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Each test runs once on each engine. */
#define TEST_BOTH(name)                         \
    static void name(bool uring);               \
    TEST(host_aio, name##__uring)               \
    {                                           \
        name(true);                             \
    }                                           \
    TEST(host_aio, name##__threads)             \
    {                                           \
        name(false);                            \
    }                                           \
    static void name(bool uring)

enum { FILE_BYTES = 1 << 20 };

struct fixture {
    struct host_file file;
    struct host_aio *aio;
    uint8_t         *image;             /* what the file holds */
};

static uint8_t pattern(size_t i)
{
    return (uint8_t)(i * 131 + (i >> 8) * 17 + (i >> 16));
}

static struct fixture open_fixture(bool uring, bool writable)
{
    char path[] = "/tmp/pinion-aio-XXXXXX";
    const int fd = mkstemp(path);
    struct fixture f = {.image = malloc(FILE_BYTES)};

    for (size_t i = 0; i < FILE_BYTES; i++)
        f.image[i] = pattern(i);
    EXPECT_EQ(write(fd, f.image, FILE_BYTES), FILE_BYTES);
    close(fd);
    EXPECT_EQ(host_file_open(&f.file, path, writable), 0);
    unlink(path);
    EXPECT_EQ(host_aio_create(&f.aio, &f.file, uring ? HOST_AIO_URING : HOST_AIO_THREADS), 0);
    if (uring && strcmp(host_aio_engine(f.aio), "io_uring") != 0)
        SKIP("this host refuses io_uring");
    return f;
}

static void close_fixture(struct fixture *f)
{
    host_aio_destroy(f->aio);
    host_file_close(&f->file);
    free(f->image);
}

/* ---- one request at a time ---- */

struct waited {
    struct host_io   io;
    struct host_gate gate;
};

static void open_gate(struct host_io *io)
{
    host_gate_open(&((struct waited *)(void *)io)->gate);
}

static int64_t transfer(struct fixture *f, bool write, uint64_t off, struct iovec *segments, unsigned nsegments)
{
    struct waited waited = {
        .io = {.write = write, .off = off, .segments = segments, .nsegments = nsegments, .done = open_gate}};

    host_gate_init(&waited.gate);
    host_aio_submit(f->aio, &waited.io);
    host_gate_wait(&waited.gate, HOST_FOREVER);
    host_gate_destroy(&waited.gate);
    return waited.io.result;
}

/* Cut a buffer into segments of 1, 2, 3 ... bytes, starting over after `longest`; how many. */
static unsigned cut(uint8_t *buffer, size_t bytes, size_t longest, struct iovec *segments)
{
    unsigned n = 0;
    size_t length = 1;

    while (bytes > 0) {
        const size_t now = length < bytes ? length : bytes;

        segments[n++] = (struct iovec){buffer, now};
        buffer += now;
        bytes -= now;
        length = length == longest ? 1 : length + 1;
    }
    return n;
}

/* The engine that was asked for is the one that answers. */
TEST(host_aio, engine__not_allowed_to_use_uring__is_threads)
{
    struct fixture f = open_fixture(false, false);

    EXPECT_EQ(strcmp(host_aio_engine(f.aio), "threads"), 0);
    close_fixture(&f);
}

/* Bytes land in the segments in order, whatever their lengths; more segments than the kernel takes are split. */
TEST_BOTH(read__more_segments_than_the_kernel_takes__all_bytes_in_place)
{
    enum { BYTES = 100000, MOST = BYTES };
    struct fixture f = open_fixture(uring, false);
    uint8_t *buffer = calloc(1, BYTES);
    struct iovec *segments = calloc(MOST, sizeof(*segments));
    const unsigned n = cut(buffer, BYTES, 37, segments);

    EXPECT(n > 5000);
    EXPECT_EQ(transfer(&f, false, 4321, segments, n), BYTES);
    EXPECT_MEM_EQ(buffer, f.image + 4321, BYTES);
    free(segments);
    free(buffer);
    close_fixture(&f);
}

/* The same downwards. */
TEST_BOTH(write__more_segments_than_the_kernel_takes__file_holds_them)
{
    enum { BYTES = 50000, OFF = 777 };
    struct fixture f = open_fixture(uring, true);
    uint8_t *buffer = malloc(BYTES);
    uint8_t *back = malloc(BYTES + 2);
    struct iovec *segments = calloc(BYTES, sizeof(*segments));

    for (size_t i = 0; i < BYTES; i++)
        buffer[i] = (uint8_t)~pattern(i);
    EXPECT_EQ(transfer(&f, true, OFF, segments, cut(buffer, BYTES, 23, segments)), BYTES);
    EXPECT_EQ(host_file_read(&f.file, OFF - 1, back, BYTES + 2), 0);
    EXPECT_EQ(back[0], f.image[OFF - 1]);
    EXPECT_MEM_EQ(back + 1, buffer, BYTES);
    EXPECT_EQ(back[BYTES + 1], f.image[OFF + BYTES]);
    free(segments);
    free(back);
    free(buffer);
    close_fixture(&f);
}

/* A read across the end gives what there is, in the middle of a segment if need be; one at the end gives nothing. */
TEST_BOTH(read__across_the_end__is_short)
{
    struct fixture f = open_fixture(uring, false);
    uint8_t buffer[600];
    struct iovec segments[3] = {{buffer, 100}, {buffer + 100, 0}, {buffer + 100, 500}};

    memset(buffer, 0xEE, sizeof(buffer));
    EXPECT_EQ(transfer(&f, false, FILE_BYTES - 250, segments, 3), 250);
    EXPECT_MEM_EQ(buffer, f.image + FILE_BYTES - 250, 250);
    EXPECT_EQ(buffer[250], 0xEE);
    EXPECT_EQ(transfer(&f, false, FILE_BYTES, &(struct iovec){buffer, 600}, 1), 0);
    EXPECT_EQ(transfer(&f, false, FILE_BYTES + 5000, &(struct iovec){buffer, 600}, 1), 0);
    close_fixture(&f);
}

/* A request for nothing is over with 0, with or without segments. */
TEST_BOTH(read__of_nothing__moves_nothing)
{
    struct fixture f = open_fixture(uring, false);
    struct iovec empty = {&f, 0};

    EXPECT_EQ(transfer(&f, false, 0, &empty, 1), 0);
    EXPECT_EQ(transfer(&f, false, 0, &empty, 0), 0);
    close_fixture(&f);
}

/* What Linux refuses arrives as its error. */
TEST_BOTH(error__of_the_host__is_the_result)
{
    struct fixture f = open_fixture(uring, false);
    uint8_t byte = 0;

    EXPECT_EQ(transfer(&f, true, 0, &(struct iovec){&byte, 1}, 1), -EBADF);
    EXPECT_EQ(transfer(&f, false, 0, &(struct iovec){(void *)8, 100}, 1), -EFAULT);
    close_fixture(&f);
}

/* ---- many at a time ---- */

enum { SUBMITTERS = 4, EACH = 500, PIECE = 777 };

struct piece {
    struct host_io  io;
    struct iovec    segment;
    _Atomic int     done;
    _Atomic int    *all_done;
    uint8_t         buffer[PIECE];
};

struct submitter {
    struct host_thread thread;
    struct fixture    *f;
    struct piece      *pieces;
};

static void count_piece(struct host_io *io)
{
    struct piece *piece = (struct piece *)(void *)io;

    atomic_fetch_add(&piece->done, 1);
    atomic_fetch_add(piece->all_done, 1);
}

static uint64_t piece_offset(size_t i)
{
    return i * 509 % (FILE_BYTES - PIECE);
}

static void submit_pieces(void *context)
{
    const struct submitter *me = context;

    for (size_t i = 0; i < EACH; i++)
        host_aio_submit(me->f->aio, &me->pieces[i].io);
}

static struct piece *make_pieces(size_t n, _Atomic int *all_done)
{
    struct piece *pieces = calloc(n, sizeof(*pieces));

    for (size_t i = 0; i < n; i++) {
        pieces[i].all_done = all_done;
        pieces[i].segment = (struct iovec){pieces[i].buffer, PIECE};
        pieces[i].io = (struct host_io){
            .off = piece_offset(i), .segments = &pieces[i].segment, .nsegments = 1, .done = count_piece};
    }
    return pieces;
}

static void check_pieces(const struct fixture *f, struct piece *pieces, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        EXPECT_EQ(pieces[i].done, 1);
        EXPECT_EQ(pieces[i].io.result, PIECE);
        EXPECT_MEM_EQ(pieces[i].buffer, f->image + piece_offset(i), PIECE);
    }
    free(pieces);
}

/* Many more requests than the ring holds, from threads that end when they have submitted: each is done once. */
TEST_BOTH(submit__from_threads_that_end__loses_nothing)
{
    struct fixture f = open_fixture(uring, false);
    _Atomic int all_done = 0;
    struct piece *pieces = make_pieces(SUBMITTERS * EACH, &all_done);
    struct submitter submitters[SUBMITTERS];

    for (size_t i = 0; i < SUBMITTERS; i++) {
        submitters[i] = (struct submitter){.f = &f, .pieces = pieces + i * EACH};
        EXPECT_EQ(host_thread_start(&submitters[i].thread, submit_pieces, &submitters[i]), 0);
    }
    for (size_t i = 0; i < SUBMITTERS; i++)
        host_thread_join(&submitters[i].thread);
    while (atomic_load(&all_done) < SUBMITTERS * EACH)
        host_sleep_ns(100000);
    check_pieces(&f, pieces, SUBMITTERS * EACH);
    close_fixture(&f);
}

/* Destroying waits until the last `done` has returned. */
TEST_BOTH(destroy__with_requests_in_flight__waits_for_them)
{
    struct fixture f = open_fixture(uring, false);
    _Atomic int all_done = 0;
    struct piece *pieces = make_pieces(EACH, &all_done);

    for (size_t i = 0; i < EACH; i++)
        host_aio_submit(f.aio, &pieces[i].io);
    host_aio_destroy(f.aio);
    EXPECT_EQ(all_done, EACH);
    check_pieces(&f, pieces, EACH);
    host_file_close(&f.file);
    free(f.image);
}

/* ---- `done` that submits ---- */

struct chain {
    struct host_io   io;
    struct iovec     segment;
    struct host_aio *aio;
    unsigned         left;
    uint64_t         sum;
    _Atomic int     *ended;
    uint8_t          byte;
};

static void next_link(struct host_io *io)
{
    struct chain *chain = (struct chain *)(void *)io;

    chain->sum += chain->byte;
    if (--chain->left == 0) {
        atomic_fetch_add(chain->ended, 1);
        return;
    }
    io->off++;
    chain->segment = (struct iovec){&chain->byte, 1};
    host_aio_submit(chain->aio, io);
}

/* A `done` may submit the next request, a thousand times in a row and in many chains at once. */
TEST_BOTH(submit__from_done__goes_on)
{
    enum { CHAINS = 16, LINKS = 1000 };
    struct fixture f = open_fixture(uring, false);
    struct chain chains[CHAINS];
    _Atomic int ended = 0;

    for (int c = 0; c < CHAINS; c++) {
        chains[c] = (struct chain){.aio = f.aio, .left = LINKS, .ended = &ended};
        chains[c].segment = (struct iovec){&chains[c].byte, 1};
        chains[c].io = (struct host_io){
            .off = (uint64_t)c * LINKS, .segments = &chains[c].segment, .nsegments = 1, .done = next_link};
        host_aio_submit(f.aio, &chains[c].io);
    }
    while (atomic_load(&ended) < CHAINS)
        host_sleep_ns(100000);
    for (int c = 0; c < CHAINS; c++) {
        uint64_t sum = 0;

        for (size_t i = 0; i < LINKS; i++)
            sum += pattern((size_t)c * LINKS + i);
        EXPECT_EQ(chains[c].sum, sum);
    }
    close_fixture(&f);
}
