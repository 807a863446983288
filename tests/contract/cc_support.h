/* SPDX-License-Identifier: MIT */
/*
 * What tests of the cache manager share: a file system that is a filter on a disk and whose one file is the whole disk,
 * cached; and chains of MDLs over it. Include it before "support.h": it brings <ntifs.h>.
 */

#pragma once

#include "harness.h"

#include <ntifs.h>

#include "io_stack.h"
#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { VIEW = 256 * 1024, FILE_BYTES = 3 * VIEW + 5000, SEED = 21 };

struct fixture {
    char path[64];
    PDEVICE_OBJECT disk;
    struct layer fs;
    PFILE_OBJECT file;
    SECTION_OBJECT_POINTERS section;
    CC_FILE_SIZES sizes;
};

/* ---- the file system --------------------------------------------------------------------------------------------- */

static HARNESS_UNUSED unsigned paging_reads, paging_writes;
static NTSTATUS fail_with;              /* what the next paging requests end with, if it is no success */
static unsigned fail_after;             /* that many of them later */

static inline bool refuses(void)
{
    if (NT_SUCCESS(fail_with))
        return false;
    if (fail_after != 0)
        fail_after--;
    return fail_after == 0;
}

/* Every request of the cache is a paging request with an MDL, for whole pages. */
static inline NTSTATUS count_and_pass_down(struct layer *fs, PIRP irp)
{
    const PIO_STACK_LOCATION location = IoGetCurrentIrpStackLocation(irp);

    EXPECT_EQ(irp->Flags & (IRP_NOCACHE | IRP_PAGING_IO), IRP_NOCACHE | IRP_PAGING_IO);
    EXPECT_EQ(irp->RequestorMode, KernelMode);
    EXPECT((irp->MdlAddress->MdlFlags & MDL_PAGES_LOCKED) != 0);
    EXPECT_EQ(location->Parameters.Read.ByteOffset.QuadPart % PAGE_SIZE, 0);
    if (location->MajorFunction == IRP_MJ_READ)
        paging_reads++;
    else
        paging_writes++;
    return refuses() ? layer_complete(irp, fail_with, 0) : layer_skip(fs, irp);
}

static HARNESS_UNUSED unsigned acquired, released;

static inline BOOLEAN acquire(HARNESS_UNUSED PVOID context, BOOLEAN wait)
{
    EXPECT(wait);
    EXPECT_PTR_EQ(context, &acquired);
    acquired++;
    return TRUE;
}

static inline VOID release(HARNESS_UNUSED PVOID context)
{
    released++;
}

static CACHE_MANAGER_CALLBACKS callbacks = {acquire, release, acquire, release};

static inline void make_file(struct fixture *f)
{
    UCHAR *image = malloc(FILE_BYTES);
    FILE *stream;

    strcpy(f->path, "/tmp/pinion-cache-XXXXXX");
    stream = fdopen(mkstemp(f->path), "w");
    fill_pattern(image, FILE_BYTES, SEED);
    EXPECT_EQ(fwrite(image, 1, FILE_BYTES, stream), FILE_BYTES);
    fclose(stream);
    free(image);
}

static inline void open_fixture_on(struct fixture *f, unsigned disk_flags)
{
    *f = (struct fixture){.sizes = {{.QuadPart = FILE_BYTES}, {.QuadPart = FILE_BYTES}, {.QuadPart = FILE_BYTES}}};
    make_file(f);
    EXPECT_EQ(pinion_disk_create(f->path, PINION_DISK_WRITABLE | disk_flags, &f->disk), 0);
    layer_create(&f->fs, DO_DIRECT_IO, count_and_pass_down);
    f->fs.lower = IoAttachDeviceToDeviceStack(f->fs.device, f->disk);
    EXPECT_STATUS(pinion_open(f->disk, &f->file), STATUS_SUCCESS);
    f->file->SectionObjectPointer = &f->section;
    CcInitializeCacheMap(f->file, &f->sizes, FALSE, &callbacks, &acquired);
    EXPECT(CcIsFileCached(f->file));
}

static inline void open_fixture(struct fixture *f)
{
    open_fixture_on(f, 0);
}

static inline void delete_fixture(struct fixture *f)
{
    pinion_close(f->file);
    layer_destroy(&f->fs);
    pinion_disk_delete(f->disk);
    unlink(f->path);
}

static inline void close_fixture(struct fixture *f)
{
    CcUninitializeCacheMap(f->file, NULL, NULL);
    delete_fixture(f);
}

/* ---- calls ------------------------------------------------------------------------------------------------------- */

enum kind { READ, WRITE };

struct call {
    enum kind kind;
    PFILE_OBJECT file;
    LARGE_INTEGER offset;
    ULONG bytes;
    PMDL chain;
    IO_STATUS_BLOCK outcome;
};

static inline void lock_it(void *context)
{
    struct call *call = context;

    if (call->kind == READ)
        CcMdlRead(call->file, &call->offset, call->bytes, &call->chain, &call->outcome);
    else
        CcPrepareMdlWrite(call->file, &call->offset, call->bytes, &call->chain, &call->outcome);
}

static inline struct call call_of(struct fixture *f, enum kind kind, LONGLONG offset, ULONG bytes)
{
    return (struct call){.kind = kind, .file = f->file, .offset = {.QuadPart = offset}, .bytes = bytes};
}

static inline struct call lock(struct fixture *f, enum kind kind, LONGLONG offset, ULONG bytes)
{
    struct call call = call_of(f, kind, offset, bytes);

    lock_it(&call);
    EXPECT_STATUS(call.outcome.Status, STATUS_SUCCESS);
    EXPECT_EQ(call.outcome.Information, bytes);
    return call;
}

static inline void end_read(struct call *call)
{
    CcMdlReadComplete(call->file, call->chain);
}

static inline void end_write(struct call *call)
{
    CcMdlWriteComplete(call->file, &call->offset, call->chain);
}

static inline void end_by_kind(struct call *call)
{
    if (call->kind == READ)
        end_read(call);
    else
        end_write(call);
}

static inline unsigned chain_length(PMDL mdl)
{
    unsigned n = 0;

    for (; mdl != NULL; mdl = mdl->Next)
        n++;
    return n;
}

/* Store the pattern of a seed, as it stands at this offset of a file, through the chain. */
static inline void store(const struct call *call, ULONG seed)
{
    SIZE_T at = (SIZE_T)call->offset.QuadPart;

    for (PMDL mdl = call->chain; mdl != NULL; mdl = mdl->Next) {
        UCHAR *va = system_address(mdl);

        for (ULONG i = 0; i < MmGetMdlByteCount(mdl); i++)
            va[i] = pattern_byte(seed, at++);
    }
}

static inline void expect_chain(const struct call *call, ULONG seed)
{
    SIZE_T at = (SIZE_T)call->offset.QuadPart;

    for (PMDL mdl = call->chain; mdl != NULL; mdl = mdl->Next) {
        EXPECT_PATTERN_AT(system_address(mdl), MmGetMdlByteCount(mdl), seed, at);
        at += MmGetMdlByteCount(mdl);
    }
    EXPECT_EQ(at, (SIZE_T)call->offset.QuadPart + call->bytes);
}

static inline void expect_cached(struct fixture *f, LONGLONG offset, ULONG bytes, ULONG seed)
{
    struct call call = lock(f, READ, offset, bytes);

    expect_chain(&call, seed);
    end_read(&call);
}

static inline void flush(struct fixture *f)
{
    IO_STATUS_BLOCK outcome;

    CcFlushCache(&f->section, NULL, 0, &outcome);
    EXPECT_STATUS(outcome.Status, STATUS_SUCCESS);
}

/* What stands in the file itself, from an offset on. */
static inline void expect_file(struct fixture *f, LONGLONG offset, ULONG bytes, ULONG seed)
{
    UCHAR *now = malloc(bytes);
    FILE *stream = fopen(f->path, "r");

    EXPECT_EQ(fseek(stream, (long)offset, SEEK_SET), 0);
    EXPECT_EQ(fread(now, 1, bytes, stream), bytes);
    EXPECT_PATTERN_AT(now, bytes, seed, (SIZE_T)offset);
    fclose(stream);
    free(now);
}

static inline void initialize(void *context)
{
    struct fixture *f = context;

    CcInitializeCacheMap(f->file, &f->sizes, FALSE, &callbacks, &acquired);
}
