/* SPDX-License-Identifier: MIT */
/*
 * Cached files: CcInitializeCacheMap, CcUninitializeCacheMap, CcSetFileSizes, CcFlushCache.
 *
 * A cache map belongs to a file's SECTION_OBJECT_POINTERS and serves all its file objects. It stays until the last of them
 * has stopped caching, the last MDL is back, and nothing is dirty; a work item writes back what is, as the lazy writer does
 * on Windows, because whoever stops caching may hold locks of the file system that paging writes need. The file object
 * cannot be closed before. There is no other write-behind, and no read-ahead.
 */

#include "io/cache_impl.h"

#include <stdlib.h>

enum { LAZY_WRITE_TRIES = 1000 };
#define LAZY_WRITE_RETRY_NS 1000000ll

/* ---- the machine's list ---- */

static struct io_cache *find_locked(const struct io_state *io, const SECTION_OBJECT_POINTERS *owner)
{
    struct io_cache *cache = io->caches;

    while (cache != NULL && cache->owner != owner)
        cache = cache->next;
    return cache;
}

static void link_locked(struct io_state *io, struct io_cache *cache)
{
    cache->next = io->caches;
    cache->link = &io->caches;
    if (cache->next != NULL)
        cache->next->link = &cache->next;
    io->caches = cache;
    cache->owner->SharedCacheMap = cache;
}

static void unlink_locked(struct io_cache *cache)
{
    *cache->link = cache->next;
    if (cache->next != NULL)
        cache->next->link = cache->link;
    cache->owner->SharedCacheMap = NULL;
}

static struct io_cache *hold_owned(struct machine *machine, const SECTION_OBJECT_POINTERS *owner)
{
    struct io_cache *cache;

    host_mutex_lock(&machine->io->lock);
    cache = find_locked(machine->io, owner);
    if (cache != NULL)
        cache->holds++;
    host_mutex_unlock(&machine->io->lock);
    return cache;
}

struct io_cache *cache_hold(struct machine *machine, const FILE_OBJECT *file)
{
    return file->SectionObjectPointer == NULL ? NULL : hold_owned(machine, file->SectionObjectPointer);
}

void cache_hold_more(struct machine *machine, struct io_cache *cache, uint32_t n)
{
    host_mutex_lock(&machine->io->lock);
    cache->holds += n;
    host_mutex_unlock(&machine->io->lock);
}

/* ---- the end of a map ---- */

static void signal_all(PCACHE_UNINITIALIZE_EVENT waiting)
{
    while (waiting != NULL) {
        PCACHE_UNINITIALIZE_EVENT next = waiting->Next;

        KeSetEvent(&waiting->Event, IO_NO_INCREMENT, FALSE);
        waiting = next;
    }
}

static void destroy(struct io_cache *cache)
{
    cache_destroy_views(cache);
    host_mutex_destroy(&cache->views_lock);
    free(cache);
}

static void free_cache(struct machine *machine, struct io_cache *cache)
{
    cache_free_memory(machine, cache);
    if (cache->held != NULL)
        io_file_unuse(cache->held);
    destroy(cache);
}

/* What is to become of a map after one of its reasons to stay has gone. True: it is gone too. Releases the I/O lock. */
static bool settle_and_unlock(struct machine *machine, struct io_cache *cache)
{
    const bool idle = cache->opens == 0 && cache->holds == 0 && !cache->closing;
    const bool clean = atomic_load(&cache->ndirty) == 0;
    PCACHE_UNINITIALIZE_EVENT waiting = NULL;

    if (clean && (idle || (cache->opens != 0 && !cache->closing))) {
        waiting = cache->waiting;
        cache->waiting = NULL;
    }
    if (idle && clean)
        unlink_locked(cache);
    if (idle && !clean)
        cache->closing = true;
    host_mutex_unlock(&machine->io->lock);

    if (idle && clean)
        free_cache(machine, cache);
    if (idle && !clean)
        ExQueueWorkItem(&cache->work, DelayedWorkQueue);
    signal_all(waiting);
    return idle && clean;
}

void cache_release(struct machine *machine, struct io_cache *cache, uint32_t n)
{
    host_mutex_lock(&machine->io->lock);
    cache->holds -= n < cache->holds ? n : cache->holds;
    settle_and_unlock(machine, cache);
}

static bool may_write_lazily(struct io_cache *cache)
{
    for (int i = 0; i < LAZY_WRITE_TRIES; i++) {
        if (cache->callbacks.AcquireForLazyWrite(cache->context, TRUE))
            return true;
        host_sleep_ns(LAZY_WRITE_RETRY_NS);
    }
    return false;
}

static NTSTATUS write_lazily(struct machine *machine, struct io_cache *cache)
{
    uint64_t flushed;
    NTSTATUS status;

    if (!may_write_lazily(cache))
        return STATUS_CANT_WAIT;
    status = cache_flush(machine, cache, cache_everything(), &flushed);
    cache->callbacks.ReleaseFromLazyWrite(cache->context);
    return status;
}

static void close_cache(PVOID context)
{
    struct machine *machine = ke_machine();
    struct io_cache *cache = context;
    const NTSTATUS status = write_lazily(machine, cache);

    if (!NT_SUCCESS(status)) {
        ke_warn("cache-write-lost",
                "%llu cached pages of file object %p, whose caching has stopped, could not be written (0x%08X); they are lost",
                (unsigned long long)atomic_load(&cache->ndirty), (void *)cache->file, (unsigned)status);
        cache_truncate(machine, cache, 0);
    }
    host_mutex_lock(&machine->io->lock);
    cache->closing = false;
    settle_and_unlock(machine, cache);
}

/* ---- the beginning ---- */

static struct io_file *opened_file_locked(const struct io_state *io, const FILE_OBJECT *object)
{
    struct io_file *file = io->files;

    while (file != NULL && &file->object != object)
        file = file->next;
    return file;
}

static struct io_cache *new_cache(PFILE_OBJECT file, const CACHE_MANAGER_CALLBACKS *callbacks, void *context)
{
    struct io_cache *cache = ke_internal_fails() ? NULL : calloc(1, sizeof(*cache));

    if (cache == NULL)
        return NULL;
    cache->owner = file->SectionObjectPointer;
    cache->file = file;
    cache->callbacks = *callbacks;
    cache->context = context;
    host_mutex_init(&cache->views_lock);
    ExInitializeWorkItem(&cache->work, close_cache, cache);
    return cache;
}

static void adopt_lengths(struct io_cache *cache, const CC_FILE_SIZES *sizes)
{
    const int64_t section = sizes->AllocationSize.QuadPart;

    if (section > atomic_load(&cache->section_bytes))
        atomic_store(&cache->section_bytes, section);
    atomic_store(&cache->file_bytes, sizes->FileSize.QuadPart);
}

static void adopt_sizes(struct io_cache *cache, const CC_FILE_SIZES *sizes)
{
    adopt_lengths(cache, sizes);
    atomic_store(&cache->valid_bytes, sizes->ValidDataLength.QuadPart);
}

/*
 * One more file object caches the file. `spare` becomes its map if it has none; what is left over is the caller's. A map that
 * is there keeps its valid data length: it knows what it has written.
 */
static struct io_cache *open_locked(struct io_state *io, PFILE_OBJECT file, const CC_FILE_SIZES *sizes,
                                    struct io_cache *spare)
{
    struct io_cache *cache = find_locked(io, file->SectionObjectPointer);

    if (cache == NULL) {
        cache = spare;
        link_locked(io, cache);
        cache->held = opened_file_locked(io, file);
        if (cache->held != NULL)
            io_file_use(cache->held);
    }
    adopt_lengths(cache, sizes);
    cache->opens++;
    file->PrivateCacheMap = cache;
    return cache;
}

/*
 * Cache a file. Further file objects of it share its map.
 *
 * Raises STATUS_INSUFFICIENT_RESOURCES, or STATUS_INVALID_PARAMETER for a file object without SectionObjectPointer.
 * Doc:  ntifs/nf-ntifs-ccinitializecachemap
 */
VOID CcInitializeCacheMap(PFILE_OBJECT FileObject, PCC_FILE_SIZES FileSizes, BOOLEAN PinAccess,
                          PCACHE_MANAGER_CALLBACKS Callbacks, PVOID LazyWriteContext)
{
    struct machine *machine = ke_machine();
    struct io_cache *spare, *cache;

    UNREFERENCED_PARAMETER(PinAccess);
    if (FileObject->SectionObjectPointer == NULL)
        ke_raise(STATUS_INVALID_PARAMETER, (uintptr_t)__builtin_return_address(0));
    if (FileObject->PrivateCacheMap != NULL)
        return;
    spare = ke_fails(KE_FALLIBLE_CcInitializeCacheMap) ? NULL : new_cache(FileObject, Callbacks, LazyWriteContext);
    if (spare == NULL)
        ke_raise(STATUS_INSUFFICIENT_RESOURCES, (uintptr_t)__builtin_return_address(0));
    adopt_sizes(spare, FileSizes);
    host_mutex_lock(&machine->io->lock);
    cache = open_locked(machine->io, FileObject, FileSizes, spare);
    host_mutex_unlock(&machine->io->lock);
    if (cache != spare)
        free_cache(machine, spare);
}

/* One file object less caches the file. */
static bool close_and_settle(struct machine *machine, PFILE_OBJECT file, PCACHE_UNINITIALIZE_EVENT event)
{
    struct io_cache *cache = file->PrivateCacheMap;

    file->PrivateCacheMap = NULL;
    host_mutex_lock(&machine->io->lock);
    cache->opens--;
    if (event != NULL) {
        event->Next = cache->waiting;
        cache->waiting = event;
    }
    return settle_and_unlock(machine, cache);
}

/*
 * Stop caching for a file object; of a file object that is not cached, nothing. TRUE when the file is no longer cached on
 * return; FALSE while other file objects cache it, MDLs are out, or data has yet to be written, which happens without
 * the caller. The event is signalled when nothing has to be written any more.
 *
 * Doc:  ntifs/nf-ntifs-ccuninitializecachemap
 */
BOOLEAN CcUninitializeCacheMap(PFILE_OBJECT FileObject, PLARGE_INTEGER TruncateSize,
                               PCACHE_UNINITIALIZE_EVENT UninitializeEvent)
{
    struct machine *machine = ke_machine();
    struct io_cache *cache = cache_hold(machine, FileObject);

    if (cache != NULL && TruncateSize != NULL)
        cache_truncate(machine, cache, (uint64_t)TruncateSize->QuadPart);
    if (cache != NULL)
        cache_release(machine, cache, 1);
    if (FileObject->PrivateCacheMap != NULL)
        return close_and_settle(machine, FileObject, UninitializeEvent);
    if (UninitializeEvent != NULL)
        KeSetEvent(&UninitializeEvent->Event, IO_NO_INCREMENT, FALSE);
    return cache == NULL;
}

/*
 * The file's sizes have changed: what lies behind a smaller FileSize is forgotten, what lies behind ValidDataLength and is
 * not cached reads as zero from here on. A file that is not cached: nothing.
 *
 * Doc:  ntifs/nf-ntifs-ccsetfilesizes
 */
VOID CcSetFileSizes(PFILE_OBJECT FileObject, PCC_FILE_SIZES FileSizes)
{
    struct machine *machine = ke_machine();
    struct io_cache *cache = cache_hold(machine, FileObject);
    int64_t before;

    if (cache == NULL)
        return;
    before = atomic_load(&cache->file_bytes);
    adopt_sizes(cache, FileSizes);
    if (FileSizes->FileSize.QuadPart < before)
        cache_truncate(machine, cache, (uint64_t)FileSizes->FileSize.QuadPart);
    cache_release(machine, cache, 1);
}

/*
 * Write what is dirty in the range, or anywhere if FileOffset is NULL, and wait for it. A file that is not cached has nothing
 * dirty.
 *
 * Doc:  ntifs/nf-ntifs-ccflushcache
 */
VOID CcFlushCache(PSECTION_OBJECT_POINTERS SectionObjectPointer, PLARGE_INTEGER FileOffset, ULONG Length,
                  PIO_STATUS_BLOCK IoStatus)
{
    struct machine *machine = ke_machine();
    struct io_cache *cache = hold_owned(machine, SectionObjectPointer);
    const struct cache_range range =
        FileOffset == NULL ? cache_everything() : (struct cache_range){(uint64_t)FileOffset->QuadPart, Length};
    IO_STATUS_BLOCK outcome = {.Status = STATUS_SUCCESS, .Information = Length};
    uint64_t flushed;

    if (cache != NULL) {
        outcome.Status = cache_flush(machine, cache, range, &flushed);
        if (!NT_SUCCESS(outcome.Status))
            outcome.Information = flushed;
        cache_release(machine, cache, 1);
    }
    if (IoStatus != NULL)
        *IoStatus = outcome;
}

/* ---- what is left ---- */

void io_caches_check(struct machine *machine)
{
    host_mutex_lock(&machine->io->lock);
    for (const struct io_cache *cache = machine->io->caches; cache != NULL; cache = cache->next)
        ke_warn("cache-map-leak",
                "the file of file object %p is still cached (%u file objects, %u MDLs); call CcUninitializeCacheMap for each "
                "file object, and give back each chain of MDLs", (void *)cache->file, cache->opens, cache->holds);
    host_mutex_unlock(&machine->io->lock);
}

/*
 * Their pages are pool, and go with the machine: an MDL that was never given back may have some of them locked. Nothing is
 * written to their owners either, whose memory may be gone.
 */
void io_caches_shutdown(struct machine *machine)
{
    while (machine->io->caches != NULL) {
        struct io_cache *cache = machine->io->caches;

        machine->io->caches = cache->next;
        destroy(cache);
    }
}
