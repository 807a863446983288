/* SPDX-License-Identifier: MIT */
/*
 * Views: how pages of a cached file come in and go out.
 *
 * Pages come and go with paging requests (IRP_PAGING_IO, IRP_NOCACHE) to the stack that the file was opened on; its file
 * system is what decides where they lie on the disk. What the stack does not deliver, because the file ends there, reads
 * as zero, and so does what lies behind the valid data length.
 *
 * A view never goes before its map does; only its memory may.
 */

#include "io/cache_impl.h"

#include <stdlib.h>
#include <string.h>

enum { VIEW_TAG = 0x77566343 };         /* 'CcVw' */

/* ---- ranges and pages ---- */

static uint64_t at_most(uint64_t bytes, uint64_t most)
{
    return bytes < most ? bytes : most;
}

struct cache_piece cache_next_piece(struct cache_range *range)
{
    const uint32_t start = (uint32_t)(range->off % CACHE_VIEW_BYTES);
    const struct cache_piece piece = {
        range->off / CACHE_VIEW_BYTES, start, (uint32_t)at_most(range->bytes, CACHE_VIEW_BYTES - start)};

    range->off += piece.bytes;
    range->bytes -= piece.bytes;
    return piece;
}

static uint64_t pages_mask(unsigned first, unsigned n)
{
    return n == CACHE_VIEW_PAGES ? UINT64_MAX : ((UINT64_C(1) << n) - 1) << first;
}

static uint64_t mask_of(struct cache_piece piece)
{
    return pages_mask(piece.start >> SPAN_PAGE_SHIFT, (unsigned)span_pages(piece.start, piece.bytes));
}

static uint64_t offset_of(const struct cache_view *view)
{
    return view->index * CACHE_VIEW_BYTES;
}

/* The first run of set bits; 0: there is none. */
static unsigned first_run(uint64_t mask, unsigned *first)
{
    if (mask == 0)
        return 0;
    *first = (unsigned)__builtin_ctzll(mask);
    mask >>= *first;
    return mask == UINT64_MAX ? CACHE_VIEW_PAGES : (unsigned)__builtin_ctzll(~mask);
}

/* ---- turns ---- */

static bool take_turn(struct cache_view *view, bool wait)
{
    LARGE_INTEGER now = {.QuadPart = 0};

    return KeWaitForSingleObject(&view->turn, Executive, KernelMode, FALSE, wait ? NULL : &now) == STATUS_SUCCESS;
}

static void give_turn(struct cache_view *view)
{
    KeSetEvent(&view->turn, IO_NO_INCREMENT, FALSE);
}

/* ---- the views of a map ---- */

static struct cache_view *newest_in_bucket(struct io_cache *cache, unsigned bucket)
{
    struct cache_view *view;

    host_mutex_lock(&cache->views_lock);
    view = cache->buckets[bucket];
    host_mutex_unlock(&cache->views_lock);
    return view;
}

static struct cache_view *find_locked(const struct io_cache *cache, uint64_t index)
{
    struct cache_view *view = cache->buckets[index % CACHE_BUCKETS];

    while (view != NULL && view->index != index)
        view = view->next;
    return view;
}

static struct cache_view *add_locked(struct io_cache *cache, uint64_t index)
{
    struct cache_view *view = ke_internal_fails() ? NULL : calloc(1, sizeof(*view));

    if (view == NULL)
        return NULL;
    KeInitializeEvent(&view->turn, SynchronizationEvent, TRUE);
    view->index = index;
    view->next = cache->buckets[index % CACHE_BUCKETS];
    cache->buckets[index % CACHE_BUCKETS] = view;
    return view;
}

static struct cache_view *find_or_add(struct io_cache *cache, uint64_t index)
{
    struct cache_view *view;

    host_mutex_lock(&cache->views_lock);
    view = find_locked(cache, index);
    if (view == NULL)
        view = add_locked(cache, index);
    host_mutex_unlock(&cache->views_lock);
    return view;
}

/* The part of a range that a view covers; false: none. */
static bool piece_in_view(const struct cache_view *view, struct cache_range range, struct cache_piece *piece)
{
    const uint64_t start = offset_of(view);
    const uint64_t from = start > range.off ? start : range.off;
    const uint64_t to = at_most(range.off + range.bytes, start + CACHE_VIEW_BYTES);

    if (from >= to)
        return false;
    *piece = (struct cache_piece){view->index, (uint32_t)(from - start), (uint32_t)(to - from)};
    return true;
}

static NTSTATUS visit_view(struct machine *machine, struct io_cache *cache, struct cache_view *view, struct cache_range range,
                           cache_visit_fn *visit, void *context)
{
    struct cache_piece piece;
    NTSTATUS status;

    if (!piece_in_view(view, range, &piece))
        return STATUS_SUCCESS;
    take_turn(view, true);
    status = visit(machine, cache, view, piece, context);
    give_turn(view);
    return status;
}

/* Visit the views that there are, one after the other with its turn held, as far as a range covers them. */
static NTSTATUS for_each_view(struct machine *machine, struct io_cache *cache, struct cache_range range, cache_visit_fn *visit,
                              void *context)
{
    NTSTATUS status = STATUS_SUCCESS;

    for (unsigned bucket = 0; bucket < CACHE_BUCKETS; bucket++) {
        struct cache_view *view = newest_in_bucket(cache, bucket);

        for (; view != NULL && NT_SUCCESS(status); view = view->next)
            status = visit_view(machine, cache, view, range, visit, context);
    }
    return status;
}

/* ---- memory ---- */

static bool is_locked(const struct machine *machine, const struct cache_view *view, unsigned page)
{
    const PFN_NUMBER pfn = mm_translate(machine, (uintptr_t)view->base + (uintptr_t)page * SPAN_PAGE_SIZE);

    return pfn != MM_NO_PFN && mm_pins_of_pfn(machine, pfn) != 0;
}

static bool is_idle(const struct machine *machine, const struct cache_view *view)
{
    bool locked = false;

    for (unsigned page = 0; page < CACHE_VIEW_PAGES && !locked; page++)
        locked = (view->present >> page & 1) != 0 && is_locked(machine, view, page);
    return view->base != NULL && view->dirty == 0 && !locked;
}

static void free_memory(struct machine *machine, struct cache_view *view)
{
    if (view->base != NULL)
        mm_pool_free(machine, view->base);
    view->base = NULL;
    view->present = 0;
}

/* Take the memory of a view that nobody uses; false: there is none. */
static bool free_idle_view(struct machine *machine, struct io_cache *cache)
{
    bool freed = false;

    for (unsigned bucket = 0; bucket < CACHE_BUCKETS && !freed; bucket++) {
        for (struct cache_view *view = newest_in_bucket(cache, bucket); view != NULL && !freed; view = view->next) {
            if (!take_turn(view, false))
                continue;
            freed = is_idle(machine, view);
            if (freed)
                free_memory(machine, view);
            give_turn(view);
        }
    }
    return freed;
}

/* With the view's turn held, so that it is not the one that is given up. */
static bool give_memory(struct machine *machine, struct io_cache *cache, struct cache_view *view)
{
    do {
        if (view->base == NULL)
            view->base = mm_pool_allocate(machine, PagedPool, CACHE_VIEW_BYTES, VIEW_TAG);
    } while (view->base == NULL && free_idle_view(machine, cache));
    return view->base != NULL;
}

/* ---- paging requests ---- */

static PIRP new_paging_irp(struct machine *machine, PDEVICE_OBJECT top, PFILE_OBJECT file, const struct io_transfer *transfer)
{
    PIRP irp = io_irp_new(machine, top->StackSize, io_finish_wait);

    if (irp == NULL)
        return NULL;
    irp->RequestorMode = KernelMode;
    irp->Flags = IRP_NOCACHE | IRP_PAGING_IO | IRP_SYNCHRONOUS_PAGING_IO;
    irp->UserBuffer = transfer->buffer.va;
    irp->Tail.Overlay.Thread = PsGetCurrentThread();
    irp->Tail.Overlay.OriginalFileObject = file;
    IoGetNextIrpStackLocation(irp)->FileObject = file;
    io_describe_transfer(irp, transfer);
    return irp;
}

/* One request. The data always goes through an MDL, whatever the device's flags say. */
static NTSTATUS page_once(struct machine *machine, PFILE_OBJECT file, const struct io_transfer *transfer, ULONG_PTR *moved)
{
    PDEVICE_OBJECT top = io_device_top(file->DeviceObject);
    PIRP irp = new_paging_irp(machine, top, file, transfer);
    NTSTATUS status;

    if (irp == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    status = io_attach_mdl(machine, irp, transfer->buffer, transfer->write ? IoReadAccess : IoWriteAccess);
    if (!NT_SUCCESS(status)) {
        io_irp_free(machine, irp);
        return status;
    }
    return io_send_and_wait(machine, top, irp, moved);
}

/* How much of a transfer lies inside the file. */
static ULONG bytes_in_file(struct io_cache *cache, const struct io_transfer *transfer)
{
    const int64_t file_bytes = atomic_load(&cache->file_bytes);

    return file_bytes <= transfer->offset ? 0 : (ULONG)at_most((uint64_t)(file_bytes - transfer->offset), transfer->buffer.bytes);
}

/* As many requests as it takes for what lies inside the file: a device may move less than was asked for. */
static NTSTATUS page_all(struct machine *machine, struct io_cache *cache, struct io_transfer transfer, ULONG *done)
{
    const ULONG needed = bytes_in_file(cache, &transfer);
    NTSTATUS status = STATUS_SUCCESS;

    *done = 0;
    while (*done < needed) {
        ULONG_PTR moved = 0;

        status = page_once(machine, cache->file, &transfer, &moved);
        if (!NT_SUCCESS(status) || moved == 0)
            break;
        moved = at_most(moved, transfer.buffer.bytes);
        *done += (ULONG)moved;
        transfer.buffer.va = (uint8_t *)transfer.buffer.va + moved;
        transfer.buffer.bytes -= (ULONG)moved;
        transfer.offset += (LONGLONG)moved;
    }
    return status == STATUS_END_OF_FILE ? STATUS_SUCCESS : status;
}

static struct io_transfer transfer_of(const struct cache_view *view, bool write, unsigned first, unsigned npages)
{
    const uint32_t start = first * SPAN_PAGE_SIZE;

    return (struct io_transfer){.write = write, .buffer = {view->base + start, npages * SPAN_PAGE_SIZE},
                                .offset = (LONGLONG)(offset_of(view) + start)};
}

/* ---- in ---- */

/* How many of the bytes from an offset on a file system has ever written. */
static uint64_t valid_bytes_from(struct io_cache *cache, LONGLONG off)
{
    const int64_t valid = atomic_load(&cache->valid_bytes);

    return valid > off ? (uint64_t)(valid - off) : 0;
}

static NTSTATUS read_run(struct machine *machine, struct io_cache *cache, struct cache_view *view, unsigned first,
                         unsigned npages)
{
    const struct io_transfer transfer = transfer_of(view, false, first, npages);
    const uint64_t valid = valid_bytes_from(cache, transfer.offset);
    NTSTATUS status = STATUS_SUCCESS;
    ULONG done = 0;

    if (valid != 0)
        status = page_all(machine, cache, transfer, &done);
    if (!NT_SUCCESS(status))
        return status;
    done = (ULONG)at_most(done, valid);
    memset((uint8_t *)transfer.buffer.va + done, 0, transfer.buffer.bytes - done);
    view->present |= pages_mask(first, npages);
    return STATUS_SUCCESS;
}

static NTSTATUS bring_in(struct machine *machine, struct io_cache *cache, struct cache_view *view, uint64_t wanted)
{
    NTSTATUS status = STATUS_SUCCESS;
    unsigned first, n;

    if (!give_memory(machine, cache, view))
        return STATUS_INSUFFICIENT_RESOURCES;
    while (NT_SUCCESS(status) && (n = first_run(wanted & ~view->present, &first)) != 0)
        status = read_run(machine, cache, view, first, n);
    return status;
}

static NTSTATUS visit_piece(struct machine *machine, struct io_cache *cache, struct cache_piece piece, bool wait, cache_visit_fn *visit,
                            void *context)
{
    struct cache_view *view = find_or_add(cache, piece.index);
    NTSTATUS status = STATUS_SUCCESS;

    if (view == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    if (!take_turn(view, wait))
        return STATUS_CANT_WAIT;
    if ((mask_of(piece) & ~view->present) != 0)
        status = wait ? bring_in(machine, cache, view, mask_of(piece)) : STATUS_CANT_WAIT;
    if (NT_SUCCESS(status))
        status = visit(machine, cache, view, piece, context);
    give_turn(view);
    return status;
}

NTSTATUS cache_visit(struct machine *machine, struct io_cache *cache, struct cache_range range, bool wait, cache_visit_fn *visit,
                     void *context)
{
    NTSTATUS status = STATUS_SUCCESS;

    while (range.bytes != 0 && NT_SUCCESS(status))
        status = visit_piece(machine, cache, cache_next_piece(&range), wait, visit, context);
    return status;
}

/* ---- dirty ---- */

static void raise_valid_bytes(struct io_cache *cache, int64_t end)
{
    int64_t valid = atomic_load(&cache->valid_bytes);

    while (valid < end && !atomic_compare_exchange_weak(&cache->valid_bytes, &valid, end)) {
    }
}

void cache_mark_dirty(struct io_cache *cache, struct cache_view *view, struct cache_piece piece)
{
    const uint64_t added = mask_of(piece) & view->present & ~view->dirty;

    view->dirty |= added;
    atomic_fetch_add(&cache->ndirty, (uint64_t)__builtin_popcountll(added));
    raise_valid_bytes(cache, (int64_t)(offset_of(view) + piece.start + piece.bytes));
}

static void mark_clean(struct io_cache *cache, struct cache_view *view, uint64_t mask)
{
    const uint64_t removed = mask & view->dirty;

    view->dirty &= ~removed;
    atomic_fetch_sub(&cache->ndirty, (uint64_t)__builtin_popcountll(removed));
}

static NTSTATUS mark_dirty(struct machine *machine, struct io_cache *cache, struct cache_view *view, struct cache_piece piece,
                           void *context)
{
    (void)machine;
    (void)context;
    cache_mark_dirty(cache, view, piece);
    return STATUS_SUCCESS;
}

void cache_mark_range_dirty(struct machine *machine, struct io_cache *cache, struct cache_range range)
{
    (void)for_each_view(machine, cache, range, mark_dirty, NULL);
}

/* ---- out ---- */

/* Of a page that the file ends in, only what belongs to the file must arrive. */
static NTSTATUS write_run(struct machine *machine, struct io_cache *cache, struct cache_view *view, unsigned first,
                          unsigned npages, ULONG *written)
{
    const struct io_transfer transfer = transfer_of(view, true, first, npages);
    const NTSTATUS status = page_all(machine, cache, transfer, written);

    return NT_SUCCESS(status) && *written < bytes_in_file(cache, &transfer) ? STATUS_UNEXPECTED_IO_ERROR : status;
}

static NTSTATUS flush_view(struct machine *machine, struct io_cache *cache, struct cache_view *view, struct cache_piece piece,
                           void *context)
{
    uint64_t *flushed = context;
    NTSTATUS status = STATUS_SUCCESS;
    unsigned first, n;

    while (NT_SUCCESS(status) && (n = first_run(view->dirty & mask_of(piece), &first)) != 0) {
        ULONG written;

        status = write_run(machine, cache, view, first, n, &written);
        *flushed += written;
        if (NT_SUCCESS(status))
            mark_clean(cache, view, pages_mask(first, n));
    }
    return status;
}

NTSTATUS cache_flush(struct machine *machine, struct io_cache *cache, struct cache_range range, uint64_t *flushed)
{
    *flushed = 0;
    return for_each_view(machine, cache, range, flush_view, flushed);
}

/* ---- away ---- */

struct place {
    uintptr_t va;
    size_t    bytes;
};

static NTSTATUS forget_in_view(struct machine *machine, struct io_cache *cache, struct cache_view *view, struct cache_piece piece,
                               void *context)
{
    const struct place *place = context;

    (void)cache;
    (void)piece;
    for (unsigned page = 0; page < CACHE_VIEW_PAGES && view->base != NULL; page++) {
        const uintptr_t va = (uintptr_t)view->base + (uintptr_t)page * SPAN_PAGE_SIZE;
        const bool clean = (view->present & ~view->dirty & pages_mask(page, 1)) != 0;

        if (clean && span_overlaps(va, SPAN_PAGE_SIZE, place->va, place->bytes) && !is_locked(machine, view, page))
            view->present &= ~pages_mask(page, 1);
    }
    return STATUS_SUCCESS;
}

void cache_forget(struct machine *machine, struct io_cache *cache, uintptr_t va, size_t bytes)
{
    struct place place = {va, bytes};

    (void)for_each_view(machine, cache, cache_everything(), forget_in_view, &place);
}

/* A page that the file now ends in keeps its beginning; the rest of it is zero when the file grows again. */
static NTSTATUS truncate_view(struct machine *machine, struct io_cache *cache, struct cache_view *view, struct cache_piece piece,
                              void *context)
{
    const unsigned first = piece.start >> SPAN_PAGE_SHIFT;
    const uint32_t kept = (uint32_t)span_offset(piece.start);
    uint64_t gone = pages_mask(first, CACHE_VIEW_PAGES - first);

    (void)machine;
    (void)context;
    if (kept != 0) {
        if ((view->present >> first & 1) != 0)
            memset(view->base + piece.start, 0, SPAN_PAGE_SIZE - kept);
        gone &= ~pages_mask(first, 1);
    }
    mark_clean(cache, view, gone);
    view->present &= ~gone;
    return STATUS_SUCCESS;
}

void cache_truncate(struct machine *machine, struct io_cache *cache, uint64_t bytes)
{
    (void)for_each_view(machine, cache, (struct cache_range){bytes, INT64_MAX - bytes}, truncate_view, NULL);
}

void cache_free_memory(struct machine *machine, struct io_cache *cache)
{
    for (unsigned bucket = 0; bucket < CACHE_BUCKETS; bucket++)
        for (struct cache_view *view = cache->buckets[bucket]; view != NULL; view = view->next)
            free_memory(machine, view);
}

void cache_destroy_views(struct io_cache *cache)
{
    for (unsigned bucket = 0; bucket < CACHE_BUCKETS; bucket++) {
        struct cache_view *view;

        while ((view = cache->buckets[bucket]) != NULL) {
            cache->buckets[bucket] = view->next;
            free(view);
        }
    }
}
