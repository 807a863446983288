/* SPDX-License-Identifier: MIT */
/* The cache of a file besides its MDLs: copies, the FsRtl routines, and how caching begins and ends. */

#include "cc_support.h"

/* ---- copies ------------------------------------------------------------------------------------------------------ */

/* Copies see what was stored through MDLs, and the other way round. */
TEST(cc_copy, copies_and_mdls__see_each_other)
{
    struct fixture f;
    struct call call;
    LARGE_INTEGER offset = {.QuadPart = VIEW - 3000};
    IO_STATUS_BLOCK outcome;
    UCHAR *buffer = malloc(6000);

    open_fixture(&f);
    call = lock(&f, WRITE, VIEW - 3000, 6000);
    store(&call, 5);
    end_write(&call);
    EXPECT_EQ(CcCopyRead(f.file, &offset, 6000, TRUE, buffer, &outcome), TRUE);
    EXPECT_STATUS(outcome.Status, STATUS_SUCCESS);
    EXPECT_EQ(outcome.Information, 6000);
    EXPECT_PATTERN_AT(buffer, 6000, 5, (SIZE_T)offset.QuadPart);
    for (ULONG i = 0; i < 6000; i++)
        buffer[i] = pattern_byte(6, (SIZE_T)offset.QuadPart + i);
    EXPECT_EQ(CcCopyWrite(f.file, &offset, 6000, TRUE, buffer), TRUE);
    expect_cached(&f, VIEW - 3000, 6000, 6);
    flush(&f);
    expect_file(&f, VIEW - 3000, 6000, 6);
    close_fixture(&f);
    free(buffer);
}

/* Without waiting, only what is in memory is copied. */
TEST(cc_copy, copy__must_not_wait__is_false_until_cached)
{
    struct fixture f;
    LARGE_INTEGER offset = {.QuadPart = 0};
    IO_STATUS_BLOCK outcome;
    UCHAR buffer[100];

    fill_pattern(buffer, sizeof(buffer), 5);
    open_fixture(&f);
    EXPECT_EQ(CcCopyRead(f.file, &offset, 100, FALSE, buffer, &outcome), FALSE);
    EXPECT_EQ(CcCopyWrite(f.file, &offset, 100, FALSE, buffer), FALSE);
    EXPECT_EQ(paging_reads, 0);
    expect_cached(&f, 0, 200, SEED);
    EXPECT_EQ(CcCopyWrite(f.file, &offset, 100, FALSE, buffer), TRUE);
    EXPECT_EQ(CcCopyRead(f.file, &offset, 100, FALSE, buffer, &outcome), TRUE);
    EXPECT_PATTERN(buffer, 100, 5);
    close_fixture(&f);
}

struct copy_call {
    struct fixture *f;
    LARGE_INTEGER offset;
    PVOID buffer;
    IO_STATUS_BLOCK outcome;
};

static void copy_read(void *context)
{
    struct copy_call *call = context;

    CcCopyRead(call->f->file, &call->offset, 100, TRUE, call->buffer, &call->outcome);
}

static void copy_write(void *context)
{
    struct copy_call *call = context;

    CcCopyWrite(call->f->file, &call->offset, 100, TRUE, call->buffer);
}

/* A failure is raised: no memory, an I/O error, a buffer that refuses. */
TEST(cc_copy, copy__fails__raises)
{
    struct fixture f;
    UCHAR buffer[100];
    struct copy_call call = {.f = &f, .buffer = buffer};

    open_fixture(&f);
    pinion_fail("CcCopyRead", 1);
    EXPECT_RAISES(STATUS_INSUFFICIENT_RESOURCES, copy_read, &call);
    pinion_fail("CcCopyWrite", 1);
    EXPECT_RAISES(STATUS_INSUFFICIENT_RESOURCES, copy_write, &call);
    fail_with = STATUS_IO_DEVICE_ERROR;
    EXPECT_RAISES(STATUS_IO_DEVICE_ERROR, copy_read, &call);
    EXPECT_RAISES(STATUS_IO_DEVICE_ERROR, copy_write, &call);
    fail_with = STATUS_SUCCESS;
    call.buffer = user_pages(1, PAGE_NOACCESS);
    EXPECT_RAISES(STATUS_ACCESS_VIOLATION, copy_read, &call);
    EXPECT_RAISES(STATUS_ACCESS_VIOLATION, copy_write, &call);
    call.buffer = buffer;
    copy_read(&call);
    EXPECT_PATTERN(buffer, 100, SEED);
    pinion_user_free(NULL);
    close_fixture(&f);
}

/* ---- the FsRtl routines ------------------------------------------------------------------------------------------ */

/* They do the same with a result where the others raise. */
TEST(cc_fsrtl, read_and_write__as_the_cc_routines)
{
    struct fixture f;
    struct call call;

    open_fixture(&f);
    call = call_of(&f, READ, 10, 2 * VIEW);
    EXPECT_EQ(FsRtlMdlReadDev(f.file, &call.offset, call.bytes, 0, &call.chain, &call.outcome, NULL), TRUE);
    EXPECT_EQ(call.outcome.Information, call.bytes);
    expect_chain(&call, SEED);
    EXPECT_EQ(FsRtlMdlReadCompleteDev(f.file, call.chain, NULL), TRUE);
    EXPECT_EQ(FsRtlPrepareMdlWriteDev(f.file, &call.offset, call.bytes, 0, &call.chain, &call.outcome, NULL), TRUE);
    store(&call, 5);
    EXPECT_EQ(FsRtlMdlWriteCompleteDev(f.file, &call.offset, call.chain, NULL), TRUE);
    expect_cached(&f, 10, 2 * VIEW, 5);
    close_fixture(&f);
}

/* A failure is FALSE with its status, and nothing is locked. */
TEST(cc_fsrtl, read_and_write__fail__are_false)
{
    struct fixture f;
    struct call call;
    struct pinion_counters before;

    open_fixture(&f);
    call = call_of(&f, READ, 10, 100);
    before = counters_now();
    pinion_fail("FsRtlMdlReadDev", 1);
    EXPECT_EQ(FsRtlMdlReadDev(f.file, &call.offset, 100, 0, &call.chain, &call.outcome, NULL), FALSE);
    EXPECT_STATUS(call.outcome.Status, STATUS_INSUFFICIENT_RESOURCES);
    pinion_fail("FsRtlPrepareMdlWriteDev", 1);
    EXPECT_EQ(FsRtlPrepareMdlWriteDev(f.file, &call.offset, 100, 0, &call.chain, &call.outcome, NULL), FALSE);
    fail_with = STATUS_IO_DEVICE_ERROR;
    EXPECT_EQ(FsRtlMdlReadDev(f.file, &call.offset, 100, 0, &call.chain, &call.outcome, NULL), FALSE);
    EXPECT_STATUS(call.outcome.Status, STATUS_IO_DEVICE_ERROR);
    EXPECT_PTR_EQ(call.chain, NULL);
    EXPECT_SAME_COUNTERS(before);
    fail_with = STATUS_SUCCESS;
    close_fixture(&f);
}

/* With FO_WRITE_THROUGH the data is flushed, the chain is gone, and the result is FALSE, as the page says. */
TEST(cc_fsrtl, write_through__flushes_and_is_false)
{
    struct fixture f;
    struct call call;
    struct pinion_counters before;

    open_fixture(&f);
    f.file->Flags |= FO_WRITE_THROUGH;
    before = counters_now();
    call = lock(&f, WRITE, 1000, 2000);
    store(&call, 5);
    EXPECT_EQ(FsRtlMdlWriteCompleteDev(f.file, &call.offset, call.chain, NULL), FALSE);
    EXPECT_SAME_COUNTERS(before);
    expect_file(&f, 1000, 2000, 5);
    close_fixture(&f);
}

/* ---- the end ----------------------------------------------------------------------------------------------------- */

/* Dirty data outlives the caching of its file object: it is written with the file system's callbacks around it, and the
   event says when. */
TEST(cc_map, uninitialize__dirty__is_written_later)
{
    struct fixture f;
    struct call call;
    CACHE_UNINITIALIZE_EVENT gone = {0};

    open_fixture(&f);
    call = lock(&f, WRITE, VIEW - 100, 200);
    store(&call, 5);
    end_write(&call);
    KeInitializeEvent(&gone.Event, NotificationEvent, FALSE);
    EXPECT_EQ(CcUninitializeCacheMap(f.file, NULL, &gone), FALSE);
    EXPECT_STATUS(KeWaitForSingleObject(&gone.Event, Executive, KernelMode, FALSE, NULL), STATUS_SUCCESS);
    EXPECT_EQ(acquired, 1);
    EXPECT_EQ(released, 1);
    EXPECT(!CcIsFileCached(f.file));
    expect_file(&f, VIEW - 100, 200, 5);
    delete_fixture(&f);
}

/* A clean file is no longer cached on return, and the event is signalled. */
TEST(cc_map, uninitialize__clean__is_over_at_once)
{
    struct fixture f;
    CACHE_UNINITIALIZE_EVENT gone = {0};

    open_fixture(&f);
    expect_cached(&f, 0, FILE_BYTES, SEED);
    KeInitializeEvent(&gone.Event, NotificationEvent, FALSE);
    EXPECT_EQ(CcUninitializeCacheMap(f.file, NULL, &gone), TRUE);
    EXPECT_EQ(KeReadStateEvent(&gone.Event), 1);
    EXPECT(!CcIsFileCached(f.file));
    EXPECT_EQ(acquired, 0);
    EXPECT_EQ(CcUninitializeCacheMap(f.file, NULL, NULL), TRUE);
    delete_fixture(&f);
}

/* MDLs that are out keep the cache map: what is then written through them arrives, and the file closes after that. */
TEST(cc_map, uninitialize__mdls_out__waits_for_them)
{
    struct fixture f;
    struct call call;

    open_fixture(&f);
    call = lock(&f, WRITE, 100, 200);
    EXPECT_EQ(CcUninitializeCacheMap(f.file, NULL, NULL), FALSE);
    EXPECT(CcIsFileCached(f.file));
    store(&call, 5);
    end_write(&call);
    delete_fixture(&f);
    EXPECT_EQ(paging_writes, 1);
}

/* File objects of one file share its cache, which lasts as long as one of them caches it. */
TEST(cc_map, two_file_objects__share_the_cache)
{
    struct fixture f;
    PFILE_OBJECT second;
    unsigned reads;

    open_fixture(&f);
    EXPECT_STATUS(pinion_open(f.disk, &second), STATUS_SUCCESS);
    second->SectionObjectPointer = &f.section;
    CcInitializeCacheMap(second, &f.sizes, FALSE, &callbacks, &acquired);
    expect_cached(&f, 0, PAGE_SIZE, SEED);
    reads = paging_reads;
    EXPECT_EQ(CcUninitializeCacheMap(f.file, NULL, NULL), FALSE);
    expect_cached(&f, 0, PAGE_SIZE, SEED);
    EXPECT_EQ(paging_reads, reads);
    EXPECT_EQ(CcUninitializeCacheMap(second, NULL, NULL), TRUE);
    pinion_close(second);
    delete_fixture(&f);
}

/* Data that cannot be written when nobody caches the file any more is lost, and that is told. */
WARN_TEST(cc_map, uninitialize__write_fails__is_told, "cache-write-lost")
{
    struct fixture f;
    struct call call;

    open_fixture(&f);
    call = lock(&f, WRITE, 0, 100);
    end_write(&call);
    fail_with = STATUS_IO_DEVICE_ERROR;
    EXPECT_EQ(CcUninitializeCacheMap(f.file, NULL, NULL), FALSE);
    delete_fixture(&f);
}

/* A file larger than memory: views that nobody uses make room. */
TEST(cc_map, read__file_larger_than_memory__reuses_views)
{
    enum { LARGE = 96 << 20 };
    struct fixture f;

    boot("ram=64M");
    open_fixture(&f);
    EXPECT_EQ(truncate(f.path, LARGE), 0);
    CcUninitializeCacheMap(f.file, NULL, NULL);
    pinion_close(f.file);
    layer_destroy(&f.fs);
    pinion_disk_delete(f.disk);

    EXPECT_EQ(pinion_disk_create(f.path, PINION_DISK_WRITABLE, &f.disk), 0);
    layer_create(&f.fs, DO_DIRECT_IO, count_and_pass_down);
    f.fs.lower = IoAttachDeviceToDeviceStack(f.fs.device, f.disk);
    EXPECT_STATUS(pinion_open(f.disk, &f.file), STATUS_SUCCESS);
    f.file->SectionObjectPointer = &f.section;
    f.sizes.AllocationSize.QuadPart = f.sizes.FileSize.QuadPart = f.sizes.ValidDataLength.QuadPart = LARGE;
    initialize(&f);
    for (LONGLONG offset = 0; offset < LARGE; offset += VIEW) {
        struct call call = lock(&f, READ, offset, 100);

        end_read(&call);
    }
    expect_cached(&f, 0, FILE_BYTES, SEED);
    close_fixture(&f);
}

/* ---- what is never given back ------------------------------------------------------------------------------------- */

static void keep_a_chain(HARNESS_UNUSED void *context)
{
    struct fixture f;

    open_fixture(&f);
    (void)lock(&f, READ, VIEW - 3000, 6000);
    unlink(f.path);
    CcUninitializeCacheMap(f.file, NULL, NULL);
    EXPECT(pinion_shutdown() != 0);
    EXPECT_EQ(pinion_boot(NULL), 0);
    EXPECT_EQ(pinion_shutdown(), 0);
}

/* A chain that never comes back leaves pages of the cache locked: the end of the machine tells of that, and takes them all the same. */
TEST_UNTIDY(cc_map, shutdown__chain_never_given_back__is_reported)
{
    const struct stop stop = run_until_stop(keep_a_chain, NULL);

    EXPECT_EQ(stop.exit_status, 0);
    EXPECT_EQ(stop_warnings(&stop, "cache-map-leak"), 1);
    EXPECT_EQ(stop_warnings(&stop, "pages-left-locked"), 2);
    EXPECT_EQ(stop_warnings(&stop, "mdl-leak"), 2);
}

static void keep_caching(HARNESS_UNUSED void *context)
{
    struct fixture f;
    struct call call;

    open_fixture(&f);
    CcUninitializeCacheMap(f.file, NULL, NULL);
    f.file->SectionObjectPointer = (PSECTION_OBJECT_POINTERS)(void *)user_pages(1, PAGE_READWRITE);
    initialize(&f);
    call = lock(&f, READ, 0, 100);
    end_read(&call);
    unlink(f.path);
    pinion_user_free(f.file->SectionObjectPointer);
    EXPECT(pinion_shutdown() != 0);
}

/* A file that is still cached at the end: its file system's memory may be gone by then, as that of an unloaded driver is. */
TEST_UNTIDY(cc_map, shutdown__still_cached_and_its_owner_gone__is_reported)
{
    const struct stop stop = run_until_stop(keep_caching, NULL);

    EXPECT_EQ(stop.exit_status, 0);
    EXPECT_EQ(stop_warnings(&stop, "cache-map-leak"), 1);
}
