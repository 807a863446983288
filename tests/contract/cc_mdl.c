/* SPDX-License-Identifier: MIT */
/* MDLs over a cached file: CcMdlRead, CcPrepareMdlWrite and what completes them. */

#include "cc_support.h"

/* ---- what comes out ---------------------------------------------------------------------------------------------- */

/* The routines have the types of their pages. */
TEST(cc_mdl, prototypes__are_the_documented_ones)
{
    VOID (*read)(PFILE_OBJECT, PLARGE_INTEGER, ULONG, PMDL *, PIO_STATUS_BLOCK) = &CcMdlRead;
    VOID (*prepare)(PFILE_OBJECT, PLARGE_INTEGER, ULONG, PMDL *, PIO_STATUS_BLOCK) = &CcPrepareMdlWrite;
    VOID (*read_complete)(PFILE_OBJECT, PMDL) = &CcMdlReadComplete;
    VOID (*write_complete)(PFILE_OBJECT, PLARGE_INTEGER, PMDL) = &CcMdlWriteComplete;
    VOID (*abort_write)(PFILE_OBJECT, PMDL) = &CcMdlWriteAbort;

    EXPECT(read != NULL && prepare != NULL && read_complete != NULL && write_complete != NULL && abort_write != NULL);
}

static const struct { LONGLONG offset; ULONG bytes; unsigned mdls; } ranges[] = {
    {0, 1, 1}, {0, PAGE_SIZE, 1}, {100, 5000, 1}, {PAGE_SIZE - 1, 2, 1}, {VIEW - 1, 1, 1}, {VIEW - 1, 2, 2},
    {VIEW, VIEW, 1}, {10, 2 * VIEW, 3}, {FILE_BYTES - 1, 1, 1}, {0, FILE_BYTES, 4},
};
enum { RANGES = sizeof(ranges) / sizeof(ranges[0]) };

/* Cache_manager_MDL_routines-01: a chain of MDLs that are locked and not mapped; Information says how much is locked. */
TEST(cc_mdl, lock__any_range__is_locked_and_not_mapped)
{
    struct fixture f;

    open_fixture(&f);
    for (unsigned i = 0; i < 2 * RANGES; i++) {
        const unsigned row = i / 2;
        struct pinion_counters before = counters_now();
        struct call call = lock(&f, i % 2 == 0 ? READ : WRITE, ranges[row].offset, ranges[row].bytes);
        uint64_t pages = 0;

        EXPECT_EQ(chain_length(call.chain), ranges[row].mdls);
        for (PMDL mdl = call.chain; mdl != NULL; mdl = mdl->Next) {
            EXPECT_EQ(mdl->MdlFlags & (MDL_PAGES_LOCKED | MDL_MAPPED_TO_SYSTEM_VA), MDL_PAGES_LOCKED);
            EXPECT_EQ((mdl->MdlFlags & MDL_WRITE_OPERATION) != 0, call.kind == WRITE);
            pages += mdl_pages(mdl);
        }
        EXPECT_EQ(counters_now().locked_pages, before.locked_pages + pages);
        EXPECT_EQ(counters_now().system_mappings, before.system_mappings);
        end_by_kind(&call);
        EXPECT_SAME_COUNTERS(before);
    }
    close_fixture(&f);
}

/* Cache_manager_MDL_routines-02: the completion routines unlock, unmap and free the whole chain. */
TEST(cc_mdl, complete__mapped_chain__leaves_nothing)
{
    struct fixture f;
    struct pinion_counters before;

    open_fixture(&f);
    before = counters_now();
    for (unsigned end = 0; end < 3; end++) {
        struct call call = lock(&f, end == 0 ? READ : WRITE, 10, 2 * VIEW);

        expect_chain(&call, SEED);
        EXPECT_EQ(counters_now().system_mappings, before.system_mappings + 3);
        EXPECT_EQ(counters_now().live_mdls, before.live_mdls + 3);
        if (end == 0)
            end_read(&call);
        else if (end == 1)
            end_write(&call);
        else
            CcMdlWriteAbort(call.file, call.chain);
        EXPECT_SAME_COUNTERS(before);
    }
    close_fixture(&f);
}

/* The chain shows the file's bytes, wherever it starts and ends. */
TEST(cc_mdl, read__any_range__is_what_the_file_holds)
{
    struct fixture f;

    open_fixture(&f);
    for (unsigned row = 0; row < RANGES; row++)
        expect_cached(&f, ranges[row].offset, ranges[row].bytes, SEED);
    close_fixture(&f);
}

/* What is cached is not read again, and it is the same memory for everyone. */
TEST(cc_mdl, read__again__comes_from_the_cache)
{
    struct fixture f;
    struct call first, second;
    unsigned reads;

    open_fixture(&f);
    first = lock(&f, READ, 0, 2 * PAGE_SIZE);
    reads = paging_reads;
    EXPECT_EQ(reads, 1);
    second = lock(&f, READ, PAGE_SIZE, PAGE_SIZE);
    EXPECT_EQ(paging_reads, reads);
    EXPECT_EQ(MmGetMdlPfnArray(second.chain)[0], MmGetMdlPfnArray(first.chain)[1]);
    end_read(&first);
    expect_chain(&second, SEED);
    end_read(&second);
    close_fixture(&f);
}

/* Pages that an MDL holds are not taken away; those that none holds are, and come back with what they held. */
TEST(cc_mdl, read__trim__takes_only_what_is_not_locked)
{
    struct fixture f;
    struct call call;
    PFN_NUMBER pfn;

    open_fixture(&f);
    call = lock(&f, READ, 0, PAGE_SIZE);
    pfn = MmGetMdlPfnArray(call.chain)[0];
    EXPECT(pinion_trim() > 0);
    EXPECT_EQ(frame_of(MmGetMdlVirtualAddress(call.chain)), pfn);
    expect_chain(&call, SEED);
    end_read(&call);
    pinion_trim();
    expect_cached(&f, 0, 3 * PAGE_SIZE, SEED);
    EXPECT_EQ(paging_reads, 2);
    close_fixture(&f);
}

/* No bytes: no chain, and nothing to give back. */
TEST(cc_mdl, lock__no_bytes__is_no_chain)
{
    struct fixture f;

    open_fixture(&f);
    for (enum kind kind = READ; kind <= WRITE; kind++) {
        struct call call = lock(&f, kind, 50, 0);

        EXPECT_PTR_EQ(call.chain, NULL);
        end_by_kind(&call);
    }
    close_fixture(&f);
}

/* A device that moves less than is asked for is asked again, for reads and for writes. */
TEST(cc_mdl, read_and_write__device_moves_little_at_a_time__is_whole)
{
    struct fixture f;
    struct call call;

    open_fixture_on(&f, PINION_DISK_PARTIAL);
    expect_cached(&f, 0, FILE_BYTES, SEED);
    EXPECT(paging_reads > FILE_BYTES / PINION_DISK_PARTIAL_BYTES);
    call = lock(&f, WRITE, 10, VIEW);
    store(&call, 5);
    end_write(&call);
    flush(&f);
    EXPECT(paging_writes > VIEW / PINION_DISK_PARTIAL_BYTES);
    expect_file(&f, 10, VIEW, 5);
    close_fixture(&f);
}

/* ---- writes ------------------------------------------------------------------------------------------------------ */

/* What is stored through the chain is in the cache at once and in the file after a flush; its neighbours stay. */
TEST(cc_mdl, write__completed_and_flushed__is_in_the_file)
{
    struct fixture f;
    struct call call;

    open_fixture(&f);
    call = lock(&f, WRITE, VIEW - 5000, 10000);
    EXPECT_EQ(chain_length(call.chain), 2);
    store(&call, 5);
    end_write(&call);
    expect_cached(&f, VIEW - 5000, 10000, 5);
    EXPECT_EQ(paging_writes, 0);
    expect_file(&f, VIEW - 5000, 10000, SEED);
    flush(&f);
    EXPECT_EQ(paging_writes, 2);
    expect_file(&f, VIEW - 5000, 10000, 5);
    expect_file(&f, 0, VIEW - 5000, SEED);
    expect_file(&f, VIEW + 5000, VIEW, SEED);
    flush(&f);
    EXPECT_EQ(paging_writes, 2);
    close_fixture(&f);
}

/* An aborted write reaches neither the file nor the next reader. */
TEST(cc_mdl, write__aborted__leaves_the_data)
{
    struct fixture f;
    struct call call;

    open_fixture(&f);
    call = lock(&f, WRITE, 100, VIEW);
    store(&call, 5);
    CcMdlWriteAbort(call.file, call.chain);
    expect_cached(&f, 0, VIEW + PAGE_SIZE, SEED);
    flush(&f);
    EXPECT_EQ(paging_writes, 0);
    expect_file(&f, 0, FILE_BYTES, SEED);
    close_fixture(&f);
}

/* What was written before an aborted write stays in the cache to be written. */
TEST(cc_mdl, write__aborted_after_another__keeps_the_other)
{
    struct fixture f;
    struct call call;

    open_fixture(&f);
    call = lock(&f, WRITE, 0, PAGE_SIZE);
    store(&call, 5);
    end_write(&call);
    call = lock(&f, WRITE, 0, 3 * PAGE_SIZE);
    CcMdlWriteAbort(call.file, call.chain);
    expect_cached(&f, 0, PAGE_SIZE, 5);
    expect_cached(&f, PAGE_SIZE, PAGE_SIZE, SEED);
    flush(&f);
    expect_file(&f, 0, PAGE_SIZE, 5);
    close_fixture(&f);
}

/* With FO_WRITE_THROUGH the data is in the file when CcMdlWriteComplete returns. */
TEST(cc_mdl, write_through__completed__is_in_the_file)
{
    struct fixture f;
    struct call call;

    open_fixture(&f);
    f.file->Flags |= FO_WRITE_THROUGH;
    call = lock(&f, WRITE, 1000, 2000);
    store(&call, 5);
    end_write(&call);
    expect_file(&f, 1000, 2000, 5);
    expect_file(&f, 3000, 20000, SEED);
    close_fixture(&f);
}

static void end_write_body(void *context)
{
    end_write(context);
}

/* If that flush fails, the status is raised, and the chain is still the caller's to try again with. */
TEST(cc_mdl, write_through__flush_fails__raises_and_can_be_retried)
{
    struct fixture f;
    struct call call;
    struct pinion_counters before;

    open_fixture(&f);
    f.file->Flags |= FO_WRITE_THROUGH;
    call = lock(&f, WRITE, 1000, 2000);
    store(&call, 5);
    before = counters_now();
    fail_with = STATUS_IO_DEVICE_ERROR;
    EXPECT_RAISES(STATUS_IO_DEVICE_ERROR, end_write_body, &call);
    EXPECT_SAME_COUNTERS(before);
    EXPECT((call.chain->MdlFlags & MDL_PAGES_LOCKED) != 0);
    expect_file(&f, 1000, 2000, SEED);
    fail_with = STATUS_SUCCESS;
    end_write(&call);
    expect_file(&f, 1000, 2000, 5);
    close_fixture(&f);
}

/* ---- a file system's own MDL requests ---------------------------------------------------------------------------- */

/* IRP_MN_MDL and IRP_MN_COMPLETE_MDL writes, as a file system serves them. */
static NTSTATUS serve_mdl_write(HARNESS_UNUSED struct layer *fs, PIRP irp)
{
    const PIO_STACK_LOCATION location = IoGetCurrentIrpStackLocation(irp);

    if (irp->Flags & IRP_PAGING_IO)
        return count_and_pass_down(fs, irp);
    if (location->MinorFunction & IRP_MN_COMPLETE) {
        CcMdlWriteComplete(location->FileObject, &location->Parameters.Write.ByteOffset, irp->MdlAddress);
        irp->MdlAddress = NULL;
        return layer_complete(irp, STATUS_SUCCESS, 0);
    }
    CcPrepareMdlWrite(location->FileObject, &location->Parameters.Write.ByteOffset, location->Parameters.Write.Length,
                      &irp->MdlAddress, &irp->IoStatus);
    return layer_complete(irp, STATUS_SUCCESS, irp->IoStatus.Information);
}

static NTSTATUS keep(HARNESS_UNUSED PDEVICE_OBJECT device, HARNESS_UNUSED PIRP irp, HARNESS_UNUSED PVOID context)
{
    return STATUS_MORE_PROCESSING_REQUIRED;
}

static void send_mdl_write(struct fixture *f, PIRP irp, UCHAR minor, const struct call *call)
{
    const PIO_STACK_LOCATION next = IoGetNextIrpStackLocation(irp);

    next->MajorFunction = IRP_MJ_WRITE;
    next->MinorFunction = minor;
    next->FileObject = f->file;
    next->Parameters.Write.Length = call->bytes;
    next->Parameters.Write.ByteOffset = call->offset;
    IoSetCompletionRoutine(irp, keep, NULL, TRUE, TRUE, TRUE);
    EXPECT_STATUS(IoCallDriver(f->fs.device, irp), STATUS_SUCCESS);
}

/* Cache_manager_MDL_routines-03: after an IRP_MN_COMPLETE write the file system has set MdlAddress to NULL, and the IRP is
   free of MDLs. */
TEST(cc_mdl, write__by_mdl_requests__mdl_address_is_null_at_the_end)
{
    struct fixture f;
    struct call call;
    struct pinion_counters before;
    PIRP irp;

    open_fixture(&f);
    f.fs.dispatch = serve_mdl_write;
    before = counters_now();
    call = call_of(&f, WRITE, 3000, 3000);
    irp = IoAllocateIrp(f.fs.device->StackSize, FALSE);
    send_mdl_write(&f, irp, IRP_MN_MDL, &call);
    EXPECT_EQ(irp->IoStatus.Information, 3000);
    call.chain = irp->MdlAddress;
    store(&call, 5);
    IoReuseIrp(irp, STATUS_SUCCESS);
    irp->MdlAddress = call.chain;
    send_mdl_write(&f, irp, IRP_MN_COMPLETE_MDL, &call);
    EXPECT_PTR_EQ(irp->MdlAddress, NULL);
    IoFreeIrp(irp);
    EXPECT_SAME_COUNTERS(before);
    flush(&f);
    expect_file(&f, 3000, 3000, 5);
    close_fixture(&f);
}

/* ---- failures ---------------------------------------------------------------------------------------------------- */

static void expect_raises(struct fixture *f, enum kind kind, LONGLONG offset, ULONG bytes, NTSTATUS status)
{
    struct call call = call_of(f, kind, offset, bytes);
    const struct pinion_counters before = counters_now();

    call.chain = (PMDL)&call;
    EXPECT_RAISES(status, lock_it, &call);
    EXPECT_STATUS(call.outcome.Status, status);
    EXPECT_EQ(call.outcome.Information, 0);
    EXPECT_PTR_EQ(call.chain, NULL);
    EXPECT_SAME_COUNTERS(before);
}

/* Cache_manager_MDL_routines-01: an I/O error raises its status, also in a later view of the range; nothing stays locked, and
   it works again afterwards. */
TEST(cc_mdl, lock__io_error__raises_its_status)
{
    struct fixture f;

    open_fixture(&f);
    for (enum kind kind = READ; kind <= WRITE; kind++) {
        fail_with = STATUS_DEVICE_DATA_ERROR;
        fail_after = 2;
        expect_raises(&f, kind, kind == READ ? 10 : VIEW + 10, 2 * VIEW, STATUS_DEVICE_DATA_ERROR);
    }
    fail_with = STATUS_SUCCESS;
    expect_cached(&f, 0, FILE_BYTES, SEED);
    close_fixture(&f);
}

/* Cache_manager_MDL_routines-01: made to fail, it raises STATUS_INSUFFICIENT_RESOURCES once. */
TEST(cc_mdl, lock__made_to_fail__raises_once)
{
    struct fixture f;

    open_fixture(&f);
    pinion_fail("CcMdlRead", 1);
    expect_raises(&f, READ, 0, 100, STATUS_INSUFFICIENT_RESOURCES);
    pinion_fail("CcPrepareMdlWrite", 1);
    expect_raises(&f, WRITE, 0, 100, STATUS_INSUFFICIENT_RESOURCES);
    expect_cached(&f, 0, 100, SEED);
    close_fixture(&f);
}

/* Cache_manager_MDL_routines-01: whichever allocation fails, nothing stays locked, and the next call works. */
TEST(cc_mdl, lock__every_internal_allocation_fails__leaves_nothing)
{
    for (enum kind kind = READ; kind <= WRITE; kind++) {
        struct fixture f;
        unsigned failures = 0;

        open_fixture(&f);
        for (;;) {
            struct call call = call_of(&f, kind, VIEW - 100, 200);
            const struct pinion_counters before = counters_now();
            NTSTATUS status;

            pinion_fail("internal", failures + 1);
            status = pinion_try(lock_it, &call);
            pinion_fail("internal", 0);
            if (NT_SUCCESS(status)) {
                expect_chain(&call, SEED);
                end_by_kind(&call);
                break;
            }
            EXPECT_STATUS(status, STATUS_INSUFFICIENT_RESOURCES);
            EXPECT_PTR_EQ(call.chain, NULL);
            EXPECT_SAME_COUNTERS(before);
            failures++;
        }
        EXPECT(failures >= 2);
        close_fixture(&f);
    }
}

/* A range that the file does not have, or a file that is not cached, is refused. */
TEST(cc_mdl, lock__outside_the_file_or_not_cached__raises)
{
    struct fixture f;

    open_fixture(&f);
    for (enum kind kind = READ; kind <= WRITE; kind++) {
        expect_raises(&f, kind, FILE_BYTES - 1, 2, STATUS_END_OF_FILE);
        expect_raises(&f, kind, FILE_BYTES + 1, 0, STATUS_END_OF_FILE);
        expect_raises(&f, kind, -1, 1, STATUS_INVALID_PARAMETER);
    }
    EXPECT_EQ(CcUninitializeCacheMap(f.file, NULL, NULL), TRUE);
    for (enum kind kind = READ; kind <= WRITE; kind++)
        expect_raises(&f, kind, 0, 1, STATUS_INVALID_PARAMETER);
    delete_fixture(&f);
}

/* CcInitializeCacheMap raises as well, and then the file is not cached. */
TEST(cc_mdl, initialize__no_memory__raises)
{
    static const char *const names[] = {"CcInitializeCacheMap", "internal"};
    struct fixture f;

    open_fixture(&f);
    EXPECT_EQ(CcUninitializeCacheMap(f.file, NULL, NULL), TRUE);
    for (unsigned i = 0; i < 2; i++) {
        pinion_fail(names[i], 1);
        EXPECT_RAISES(STATUS_INSUFFICIENT_RESOURCES, initialize, &f);
        EXPECT(!CcIsFileCached(f.file));
        EXPECT_PTR_EQ(f.file->PrivateCacheMap, NULL);
    }
    initialize(&f);
    expect_cached(&f, 0, 100, SEED);
    close_fixture(&f);
}

/* ---- sizes ------------------------------------------------------------------------------------------------------- */

/* What lies behind the valid data length is zero, and is not read. */
TEST(cc_mdl, read__behind_valid_data__is_zero)
{
    struct fixture f;
    struct call call;
    UCHAR *va;

    open_fixture(&f);
    f.sizes.ValidDataLength.QuadPart = PAGE_SIZE + 100;
    CcSetFileSizes(f.file, &f.sizes);
    call = lock(&f, READ, 0, 2 * PAGE_SIZE);
    va = system_address(call.chain);
    EXPECT_PATTERN(va, PAGE_SIZE + 100, SEED);
    for (ULONG i = PAGE_SIZE + 100; i < 2 * PAGE_SIZE; i++)
        EXPECT_EQ(va[i], 0);
    end_read(&call);
    paging_reads = 0;
    call = lock(&f, READ, VIEW, PAGE_SIZE);
    EXPECT_EQ(*system_address(call.chain), 0);
    EXPECT_EQ(paging_reads, 0);
    end_read(&call);
    close_fixture(&f);
}

/* A file that became smaller has lost what was cached behind its end, dirty or not; grown again it is zero there. */
TEST(cc_mdl, set_file_sizes__smaller__forgets_what_lies_behind)
{
    struct fixture f;
    struct call call;
    UCHAR *va;

    open_fixture(&f);
    call = lock(&f, WRITE, 0, 4 * PAGE_SIZE);
    store(&call, 5);
    end_write(&call);
    f.sizes.FileSize.QuadPart = f.sizes.ValidDataLength.QuadPart = PAGE_SIZE + 10;
    CcSetFileSizes(f.file, &f.sizes);
    expect_raises(&f, READ, PAGE_SIZE, 11, STATUS_END_OF_FILE);
    f.sizes.FileSize.QuadPart = 4 * PAGE_SIZE;
    CcSetFileSizes(f.file, &f.sizes);
    call = lock(&f, READ, 0, 4 * PAGE_SIZE);
    va = system_address(call.chain);
    EXPECT_PATTERN(va, PAGE_SIZE + 10, 5);
    for (ULONG i = PAGE_SIZE + 10; i < 4 * PAGE_SIZE; i++)
        EXPECT_EQ(va[i], 0);
    end_read(&call);
    close_fixture(&f);
    EXPECT_EQ(paging_writes, 1);
}
