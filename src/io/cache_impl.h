/* SPDX-License-Identifier: MIT */
/*
 * What the files of the cache share with each other and with nobody else.
 *
 *     file   |      view 0      |      view 1      |      view 2      | ...        256 KB each
 *                    |                                      |
 *              64 pages of paged pool                 64 pages of paged pool     made when first needed
 *              present, dirty: a bit a page
 *
 *   present   the page holds what the file holds there, or newer
 *   dirty     it is newer, and has to be written
 *   turn      of a view: whoever brings pages in, writes them back, marks or locks them has it, also across the I/O
 *   hold      keeps a cache map alive: one for each MDL that is out, one for each routine at work
 */
#ifndef PINION_IO_CACHE_IMPL_H
#define PINION_IO_CACHE_IMPL_H

#include "io/io.h"

enum { CACHE_VIEW_PAGES = 64, CACHE_VIEW_BYTES = CACHE_VIEW_PAGES * SPAN_PAGE_SIZE, CACHE_BUCKETS = 64 };

/* Key: (C) constant once in its bucket (T) whoever has the turn */
struct cache_view {
    struct cache_view *next;            /* (C) */
    uint64_t           index;           /* (C) it covers the file from index * CACHE_VIEW_BYTES on */
    KEVENT             turn;
    uint8_t           *base;            /* (T) NULL: nothing is present */
    uint64_t           present, dirty;  /* (T) */
};

/*
 * The cache map of a file.
 *
 * Key: (C) constant (A) atomic (L) under the machine's I/O lock (V) under the lock of views
 * Invariant: owner->SharedCacheMap is this map as long as the map is in the machine's list.
 */
struct io_cache {
    PSECTION_OBJECT_POINTERS   owner;           /* (C) */
    PFILE_OBJECT               file;            /* (C) pages come and go through the stack that it was opened on */
    struct io_file            *held;            /* (C) the same; NULL if it is none of pinion_open */
    CACHE_MANAGER_CALLBACKS    callbacks;       /* (C) */
    void                      *context;         /* (C) theirs */
    _Atomic int64_t            file_bytes, section_bytes, valid_bytes;          /* (A) */
    _Atomic uint64_t           ndirty;          /* (A) pages */
    uint32_t                   opens;           /* (L) file objects that cache the file */
    uint32_t                   holds;           /* (L) */
    bool                       closing;         /* (L) a work item is queued or running that writes back what is dirty */
    PCACHE_UNINITIALIZE_EVENT  waiting;         /* (L) to be signalled when nothing is dirty any more */
    WORK_QUEUE_ITEM            work;
    struct host_mutex          views_lock;
    struct cache_view         *buckets[CACHE_BUCKETS];      /* (V) newest first */
    struct io_cache           *next, **link;    /* (L) in the machine's list */
};

/* ---- cache.c: cache maps ---- */

/* The cache map of a file, held; NULL: the file is not cached. */
struct io_cache *cache_hold(struct machine *machine, const FILE_OBJECT *file);
void             cache_hold_more(struct machine *machine, struct io_cache *cache, uint32_t n);

/* Drop n holds. What nobody needs any more is written back and goes. */
void             cache_release(struct machine *machine, struct io_cache *cache, uint32_t n);

/* ---- cache_view.c: pages in and out ---- */

struct cache_range {
    uint64_t off, bytes;
};

/* The part of a range that lies in one view. */
struct cache_piece {
    uint64_t index;
    uint32_t start, bytes;
};

/* Cut the first piece off a range that is not empty. */
struct cache_piece cache_next_piece(struct cache_range *range);

/* What may be done to a piece while its view's turn is held and its pages are present. */
typedef NTSTATUS cache_visit_fn(struct machine *machine, struct io_cache *cache, struct cache_view *view, struct cache_piece piece,
                                void *context);

/*
 * Bring a range in, piece by piece, and visit each piece; stops at the first status that is no success. Without `wait`,
 * STATUS_CANT_WAIT where a page is not present or the view is in use; earlier pieces have been visited then.
 */
NTSTATUS cache_visit(struct machine *machine, struct io_cache *cache, struct cache_range range, bool wait, cache_visit_fn *visit,
                     void *context);

void     cache_mark_dirty(struct io_cache *cache, struct cache_view *view, struct cache_piece piece);
void     cache_mark_range_dirty(struct machine *machine, struct io_cache *cache, struct cache_range range);

/* Write back what is dirty in a range; *flushed counts its bytes. What could not be written stays dirty. */
NTSTATUS cache_flush(struct machine *machine, struct io_cache *cache, struct cache_range range, uint64_t *flushed);

/* Forget the pages at an address inside some view, where they are neither dirty nor locked: the next access reads them again. */
void     cache_forget(struct machine *machine, struct io_cache *cache, uintptr_t va, size_t bytes);

/* The file ends here now: nothing behind is present or dirty. */
void     cache_truncate(struct machine *machine, struct io_cache *cache, uint64_t bytes);

/* Give up what could not be written, and all memory; then, the views themselves. */
void     cache_free_memory(struct machine *machine, struct io_cache *cache);
void     cache_destroy_views(struct io_cache *cache);

static inline struct cache_range cache_everything(void)
{
    return (struct cache_range){0, INT64_MAX};
}

#endif
