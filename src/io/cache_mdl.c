/* SPDX-License-Identifier: MIT */
/*
 * Access to what is cached: by copies (CcCopyRead, CcCopyWrite), and by MDLs over the cache's own pages (CcMdlRead,
 * CcPrepareMdlWrite, what completes them, and their FsRtl relatives).
 *
 * An MDL covers what lies in one view, so a range becomes a chain of as many MDLs as it touches views. Each MDL holds the
 * cache map until it is given back.
 */

#include "io/cache_impl.h"

#include <string.h>

/* ---- ranges ---- */

/* Reads stay inside the file, writes inside what the file system has provided for: it raises the sizes before. */
static NTSTATUS check_range(struct io_cache *cache, struct cache_range range, bool write)
{
    const int64_t file = atomic_load(&cache->file_bytes), section = atomic_load(&cache->section_bytes);
    const uint64_t limit = (uint64_t)(write && section > file ? section : file);

    if (range.off > INT64_MAX)
        return STATUS_INVALID_PARAMETER;
    return range.off <= limit && range.bytes <= limit - range.off ? STATUS_SUCCESS : STATUS_END_OF_FILE;
}

static bool writes_through(const FILE_OBJECT *file)
{
    return (file->Flags & FO_WRITE_THROUGH) != 0;
}

/* ---- MDLs out ---- */

/* A chain under construction. */
struct chain {
    bool     write;
    PMDL     first, *end;
    uint32_t n;
};

static NTSTATUS lock_piece(struct machine *machine, struct io_cache *cache, struct cache_view *view, struct cache_piece piece,
                           void *context)
{
    struct chain *chain = context;
    PMDL mdl = mdl_new(machine, (uintptr_t)view->base + piece.start, piece.bytes);
    NTSTATUS status;

    (void)cache;
    if (mdl == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    status = mdl_lock(machine, mdl, KernelMode, chain->write ? IoWriteAccess : IoReadAccess);
    if (!NT_SUCCESS(status)) {
        mdl_destroy(machine, mdl);
        return status;
    }
    *chain->end = mdl;
    chain->end = &mdl->Next;
    chain->n++;
    return STATUS_SUCCESS;
}

static NTSTATUS lock_held(struct machine *machine, struct io_cache *cache, struct cache_range range, struct chain *chain)
{
    NTSTATUS status = check_range(cache, range, chain->write);

    if (NT_SUCCESS(status))
        status = cache_visit(machine, cache, range, true, lock_piece, chain);
    if (NT_SUCCESS(status)) {
        cache_hold_more(machine, cache, chain->n);
        return status;
    }
    io_release_mdls(machine, chain->first);
    chain->first = NULL;
    return status;
}

/* A failure leaves nothing locked and no MDL behind. */
static NTSTATUS lock_range(struct machine *machine, PFILE_OBJECT file, struct cache_range range, bool write, bool fails,
                           PMDL *mdls, PIO_STATUS_BLOCK outcome)
{
    struct chain chain = {.write = write, .end = &chain.first};
    struct io_cache *cache = cache_hold(machine, file);
    NTSTATUS status = STATUS_INVALID_PARAMETER;

    if (cache != NULL) {
        status = fails ? STATUS_INSUFFICIENT_RESOURCES : lock_held(machine, cache, range, &chain);
        cache_release(machine, cache, 1);
    }
    *mdls = chain.first;
    *outcome = (IO_STATUS_BLOCK){.Status = status, .Information = NT_SUCCESS(status) ? range.bytes : 0};
    return status;
}

static struct cache_range range_of(const LARGE_INTEGER *offset, ULONG bytes)
{
    return (struct cache_range){(uint64_t)offset->QuadPart, bytes};
}

/*
 * Lock the cached pages of a range, for reading, and describe them by a chain of MDLs that are not mapped.
 *
 * Raises what the paging I/O ended with, STATUS_INSUFFICIENT_RESOURCES, STATUS_END_OF_FILE for a range that the file does not
 * have, or STATUS_INVALID_PARAMETER for a file that is not cached; then nothing stays locked and Information is 0.
 * IRQL: < DISPATCH_LEVEL.
 * Doc:  previous-versions/ff539159
 */
VOID CcMdlRead(PFILE_OBJECT FileObject, PLARGE_INTEGER FileOffset, ULONG Length, PMDL *MdlChain, PIO_STATUS_BLOCK IoStatus)
{
    const NTSTATUS status = lock_range(ke_machine(), FileObject, range_of(FileOffset, Length), false,
                                       ke_fails(KE_FALLIBLE_CcMdlRead), MdlChain, IoStatus);

    if (!NT_SUCCESS(status))
        ke_raise(status, (uintptr_t)__builtin_return_address(0));
}

/*
 * The same for writing: the whole pages are read first, so that an abort leaves the file's data.
 *
 * Doc:  ntifs/nf-ntifs-ccpreparemdlwrite
 */
VOID CcPrepareMdlWrite(PFILE_OBJECT FileObject, PLARGE_INTEGER FileOffset, ULONG Length, PMDL *MdlChain,
                       PIO_STATUS_BLOCK IoStatus)
{
    const NTSTATUS status = lock_range(ke_machine(), FileObject, range_of(FileOffset, Length), true,
                                       ke_fails(KE_FALLIBLE_CcPrepareMdlWrite), MdlChain, IoStatus);

    if (!NT_SUCCESS(status))
        ke_raise(status, (uintptr_t)__builtin_return_address(0));
}

/* ---- MDLs back ---- */

static uint32_t count_mdls(const MDL *mdl)
{
    uint32_t n = 0;

    for (; mdl != NULL; mdl = mdl->Next)
        n++;
    return n;
}

static uint64_t count_bytes(const MDL *mdl)
{
    uint64_t bytes = 0;

    for (; mdl != NULL; mdl = mdl->Next)
        bytes += mdl->ByteCount;
    return bytes;
}

/* The MDLs' own holds, and the one of whoever calls this. */
static void give_back(struct machine *machine, struct io_cache *cache, PMDL chain)
{
    const uint32_t n = count_mdls(chain);

    io_release_mdls(machine, chain);
    if (cache != NULL)
        cache_release(machine, cache, n + 1);
}

/* Doc: ntifs/nf-ntifs-ccmdlreadcomplete */
VOID CcMdlReadComplete(PFILE_OBJECT FileObject, PMDL MdlChain)
{
    struct machine *machine = ke_machine();

    give_back(machine, cache_hold(machine, FileObject), MdlChain);
}

static NTSTATUS flush_if_through(struct machine *machine, struct io_cache *cache, const FILE_OBJECT *file,
                                 struct cache_range range)
{
    uint64_t flushed;

    return writes_through(file) ? cache_flush(machine, cache, range, &flushed) : STATUS_SUCCESS;
}

/* A status other than success: the chain is still the caller's. */
static NTSTATUS complete_write(struct machine *machine, PFILE_OBJECT file, const LARGE_INTEGER *offset, PMDL chain)
{
    struct io_cache *cache = cache_hold(machine, file);
    const struct cache_range range = {(uint64_t)offset->QuadPart, count_bytes(chain)};
    NTSTATUS status = STATUS_SUCCESS;

    if (cache != NULL) {
        cache_mark_range_dirty(machine, cache, range);
        status = flush_if_through(machine, cache, file, range);
    }
    if (NT_SUCCESS(status))
        give_back(machine, cache, chain);
    else
        cache_release(machine, cache, 1);
    return status;
}

/*
 * The range has been written: mark it dirty, unlock and free the chain. With FO_WRITE_THROUGH it is flushed first; raises what
 * that ended with, and the chain is still the caller's, to try again.
 *
 * Doc:  ntifs/nf-ntifs-ccmdlwritecomplete
 */
VOID CcMdlWriteComplete(PFILE_OBJECT FileObject, PLARGE_INTEGER FileOffset, PMDL MdlChain)
{
    const NTSTATUS status = complete_write(ke_machine(), FileObject, FileOffset, MdlChain);

    if (!NT_SUCCESS(status))
        ke_raise(status, (uintptr_t)__builtin_return_address(0));
}

/*
 * Nothing is to be written: unlock and free the chain. What may have been stored through it does not reach the file, and
 * pages that were clean are read anew when they are next needed; one that was dirty before keeps what stands in it.
 *
 * Doc:  ntifs/nf-ntifs-ccmdlwriteabort
 */
VOID CcMdlWriteAbort(PFILE_OBJECT FileObject, PMDL MdlChain)
{
    struct machine *machine = ke_machine();
    struct io_cache *cache = cache_hold(machine, FileObject);

    io_unlock_mdls(machine, MdlChain);
    for (PMDL mdl = MdlChain; mdl != NULL && cache != NULL; mdl = mdl->Next)
        cache_forget(machine, cache, mdl_va(mdl), mdl->ByteCount);
    give_back(machine, cache, MdlChain);
}

/* ---- the same without exceptions ---- */

/* There are no byte-range locks, so LockKey has no effect. Doc: ntifs/nf-ntifs-_fsrtl_advanced_fcb_header-fsrtlmdlreaddev */
BOOLEAN FsRtlMdlReadDev(PFILE_OBJECT FileObject, PLARGE_INTEGER FileOffset, ULONG Length, ULONG LockKey, PMDL *MdlChain,
                        PIO_STATUS_BLOCK IoStatus, PDEVICE_OBJECT DeviceObject)
{
    UNREFERENCED_PARAMETER(LockKey);
    UNREFERENCED_PARAMETER(DeviceObject);
    return NT_SUCCESS(lock_range(ke_machine(), FileObject, range_of(FileOffset, Length), false,
                                 ke_fails(KE_FALLIBLE_FsRtlMdlReadDev), MdlChain, IoStatus));
}

/* Doc: ntifs/nf-ntifs-_fsrtl_advanced_fcb_header-fsrtlmdlreadcompletedev */
BOOLEAN FsRtlMdlReadCompleteDev(PFILE_OBJECT FileObject, PMDL MdlChain, PDEVICE_OBJECT DeviceObject)
{
    UNREFERENCED_PARAMETER(DeviceObject);
    CcMdlReadComplete(FileObject, MdlChain);
    return TRUE;
}

/* Doc: ntifs/nf-ntifs-_fsrtl_advanced_fcb_header-fsrtlpreparemdlwritedev */
BOOLEAN FsRtlPrepareMdlWriteDev(PFILE_OBJECT FileObject, PLARGE_INTEGER FileOffset, ULONG Length, ULONG LockKey, PMDL *MdlChain,
                                PIO_STATUS_BLOCK IoStatus, PDEVICE_OBJECT DeviceObject)
{
    UNREFERENCED_PARAMETER(LockKey);
    UNREFERENCED_PARAMETER(DeviceObject);
    return NT_SUCCESS(lock_range(ke_machine(), FileObject, range_of(FileOffset, Length), true,
                                 ke_fails(KE_FALLIBLE_FsRtlPrepareMdlWriteDev), MdlChain, IoStatus));
}

/*
 * As CcMdlWriteComplete, which also flushes with FO_WRITE_THROUGH and raises where that fails; with that flag the result is FALSE
 * although the chain is gone.
 *
 * Doc:  ntifs/nf-ntifs-_fsrtl_advanced_fcb_header-fsrtlmdlwritecompletedev
 */
BOOLEAN FsRtlMdlWriteCompleteDev(PFILE_OBJECT FileObject, PLARGE_INTEGER FileOffset, PMDL MdlChain, PDEVICE_OBJECT DeviceObject)
{
    const NTSTATUS status = complete_write(ke_machine(), FileObject, FileOffset, MdlChain);

    UNREFERENCED_PARAMETER(DeviceObject);
    if (!NT_SUCCESS(status))
        ke_raise(status, (uintptr_t)__builtin_return_address(0));
    return !writes_through(FileObject);
}

/* ---- copies ---- */

struct copy {
    uint8_t *buffer;                    /* the caller's, moves on */
    bool     write;
    void    *to;
    void    *from;
    size_t   bytes;
};

static void copy_bytes(void *context)
{
    const struct copy *copy = context;

    memcpy(copy->to, copy->from, copy->bytes);
}

/* The caller's buffer may be bad: pages are marked even if only a part of the bytes has arrived. */
static NTSTATUS copy_piece(struct machine *machine, struct io_cache *cache, struct cache_view *view, struct cache_piece piece,
                           void *context)
{
    struct copy *copy = context;
    uint8_t *cached = view->base + piece.start;
    NTSTATUS status;

    (void)machine;
    copy->to = copy->write ? cached : copy->buffer;
    copy->from = copy->write ? copy->buffer : cached;
    copy->bytes = piece.bytes;
    status = pinion_try(copy_bytes, copy);
    if (copy->write)
        cache_mark_dirty(cache, view, piece);
    if (NT_SUCCESS(status))
        copy->buffer += piece.bytes;
    return status;
}

/* STATUS_CANT_WAIT: nothing is the matter but that the caller would have to wait. */
static NTSTATUS copy_range(struct machine *machine, PFILE_OBJECT file, struct cache_range range, bool wait, bool fails,
                           struct copy *copy)
{
    struct io_cache *cache = cache_hold(machine, file);
    NTSTATUS status;

    if (cache == NULL)
        return STATUS_INVALID_PARAMETER;
    status = fails ? STATUS_INSUFFICIENT_RESOURCES : check_range(cache, range, copy->write);
    if (NT_SUCCESS(status))
        status = cache_visit(machine, cache, range, wait, copy_piece, copy);
    if (NT_SUCCESS(status) && copy->write)
        status = flush_if_through(machine, cache, file, range);
    cache_release(machine, cache, 1);
    return status;
}

/*
 * Copy from a cached file. FALSE: Wait is FALSE and something is not in memory. Raises as CcMdlRead does, or what the buffer
 * refuses with.
 *
 * Doc:  ntifs/nf-ntifs-cccopyread
 */
BOOLEAN CcCopyRead(PFILE_OBJECT FileObject, PLARGE_INTEGER FileOffset, ULONG Length, BOOLEAN Wait, PVOID Buffer,
                   PIO_STATUS_BLOCK IoStatus)
{
    struct copy copy = {.buffer = Buffer};
    const NTSTATUS status = copy_range(ke_machine(), FileObject, range_of(FileOffset, Length), Wait,
                                       ke_fails(KE_FALLIBLE_CcCopyRead), &copy);

    *IoStatus = (IO_STATUS_BLOCK){.Status = status, .Information = (ULONG_PTR)(copy.buffer - (uint8_t *)Buffer)};
    if (!NT_SUCCESS(status) && status != STATUS_CANT_WAIT)
        ke_raise(status, (uintptr_t)__builtin_return_address(0));
    return NT_SUCCESS(status);
}

/*
 * Copy into a cached file; with FO_WRITE_THROUGH it is flushed as well. Otherwise as CcCopyRead.
 *
 * Doc:  ntifs/nf-ntifs-cccopywrite
 */
BOOLEAN CcCopyWrite(PFILE_OBJECT FileObject, PLARGE_INTEGER FileOffset, ULONG Length, BOOLEAN Wait, PVOID Buffer)
{
    struct copy copy = {.buffer = Buffer, .write = true};
    const NTSTATUS status = copy_range(ke_machine(), FileObject, range_of(FileOffset, Length), Wait,
                                       ke_fails(KE_FALLIBLE_CcCopyWrite), &copy);

    if (!NT_SUCCESS(status) && status != STATUS_CANT_WAIT)
        ke_raise(status, (uintptr_t)__builtin_return_address(0));
    return NT_SUCCESS(status);
}
