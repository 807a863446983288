/* SPDX-License-Identifier: MIT */
/*
 * Common buffers: contiguous memory in the device's reach that device and processor see at the same time.
 *
 *     verifier off   |[ buffer          ]....|
 *     verifier on    |0F0F ... DmaVrfy0|[ buffer        ]DmaVrfy0 0F0F ..|0F0F ...|       a guard page on each side
 *
 * The memory is never copied, so it is coherent by nature. CacheEnabled is only remembered.
 */

#include "dma/dma.h"

#include <stdlib.h>
#include <string.h>

enum { SURPLUS_BUFFER = 0x03, GUARD_BYTE = 0x0F, LARGE_PAGES = 512 };

static const char tag[8] = {'D', 'm', 'a', 'V', 'r', 'f', 'y', '0'};

/* ---- guards ---- */

static uint8_t *block_end(const struct dma_common_buffer *buffer)
{
    return buffer->block + buffer->block_pages * HOST_PAGE_SIZE;
}

static void set_guards(struct dma_common_buffer *buffer)
{
    uint8_t *end = buffer->va + buffer->bytes;

    memset(buffer->block, GUARD_BYTE, (size_t)(buffer->va - buffer->block));
    memset(end, GUARD_BYTE, (size_t)(block_end(buffer) - end));
    memcpy(buffer->va - sizeof(tag), tag, sizeof(tag));
    memcpy(end, tag, sizeof(tag));
}

static bool is_padding(const uint8_t *from, const uint8_t *to, uintptr_t *where)
{
    while (from < to && *from == GUARD_BYTE)
        from++;
    *where = (uintptr_t)from;
    return from == to;
}

enum dma_guard dma_buffer_guard(const struct dma_common_buffer *buffer, uintptr_t *where)
{
    const uint8_t *end = buffer->va + buffer->bytes;

    *where = 0;
    if (!buffer->guarded)
        return DMA_GUARD_WHOLE;
    if (memcmp(buffer->va - sizeof(tag), tag, sizeof(tag)) != 0)
        return DMA_GUARD_TAG_BEFORE;
    if (memcmp(end, tag, sizeof(tag)) != 0)
        return DMA_GUARD_TAG_AFTER;
    if (!is_padding(buffer->block, buffer->va - sizeof(tag), where))
        return DMA_GUARD_BEFORE;
    return is_padding(end + sizeof(tag), block_end(buffer), where) ? DMA_GUARD_WHOLE : DMA_GUARD_AFTER;
}

/* ---- memory ---- */

/* The last page below the limit, which is not in page 0. */
static PFN_NUMBER page_below(uint64_t limit)
{
    return (limit >> SPAN_PAGE_SHIFT) - 1;
}

static uint64_t page_above(uint64_t address)
{
    return (address >> SPAN_PAGE_SHIFT) + ((address & SPAN_PAGE_MASK) != 0);
}

/* The frames that the memory may come from: with a domain any, otherwise those whose address the want allows. */
static struct mm_frame_want frames_for(const struct dma_adapter *adapter, const struct dma_buffer_want *want, size_t npages)
{
    struct mm_frame_want frames = {.npages = npages, .high = MM_NO_PFN - 1, .node = want->node};

    if (adapter->domain != NULL)
        return frames;
    frames.low = page_above(want->low);
    frames.high = page_below(want->limit);
    if (dma_reach(adapter) - 1 < frames.high)
        frames.high = dma_reach(adapter) - 1;
    return frames;
}

static bool take_memory(struct machine *machine, struct dma_common_buffer *buffer, const struct mm_frame_want *frames)
{
    uint32_t first;

    if (!dma_frames_take(machine, frames, &first))
        return false;
    buffer->block = mm_window_va(machine, first);
    buffer->block_pages = frames->npages;
    return true;
}

static void give_memory(struct machine *machine, const struct dma_common_buffer *buffer)
{
    uint32_t first;

    VERIFY(mm_window_page(machine, (uintptr_t)buffer->block, &first));
    mm_frames_give(machine, first, buffer->block_pages);
}

static uint64_t physical_of(const struct machine *machine, const void *va)
{
    uint32_t page;

    VERIFY(mm_window_page(machine, (uintptr_t)va, &page));
    return (uint64_t)mm_pfn_of_page(machine, page) << SPAN_PAGE_SHIFT;
}

/* Skip the guard page, and up to the next large page if that was asked for. */
static uint8_t *start_of(const struct machine *machine, const struct dma_common_buffer *buffer, bool large)
{
    uint8_t *va = buffer->block + (buffer->guarded ? HOST_PAGE_SIZE : 0);

    while (large && (physical_of(machine, va) >> SPAN_PAGE_SHIFT) % LARGE_PAGES != 0)
        va += HOST_PAGE_SIZE;
    return va;
}

static uint32_t least(uint64_t a, uint64_t b)
{
    const uint64_t less = a < b ? a : b;

    return less < UINT32_MAX ? (uint32_t)less : UINT32_MAX;
}

/* As dma_domain_take, and at a multiple of 2 MiB: what is taken around it goes back. */
static bool take_large(struct dma_domain *domain, uint32_t npages, uint32_t low, uint32_t high, uint32_t *first)
{
    uint32_t start, aligned;

    if (!dma_domain_take(domain, npages + LARGE_PAGES - 1, low, high, &start))
        return false;
    aligned = (start + LARGE_PAGES - 1) / LARGE_PAGES * LARGE_PAGES;
    dma_domain_give(domain, start, aligned - start);
    dma_domain_give(domain, aligned + npages, start + LARGE_PAGES - 1 - aligned);
    *first = aligned;
    return true;
}

static bool map_logical(struct dma_adapter *adapter, struct dma_common_buffer *buffer, const struct dma_buffer_want *want)
{
    const uint32_t npages = (uint32_t)span_bytes_to_pages(buffer->bytes), low = least(page_above(want->low), UINT32_MAX);
    const uint32_t high = least(page_below(want->limit), dma_reach(adapter) - 1);
    const PFN_NUMBER pfn = buffer->la >> SPAN_PAGE_SHIFT;
    uint32_t first;

    if (!(want->large ? take_large : dma_domain_take)(adapter->domain, npages, low, high, &first))
        return false;
    for (uint32_t i = 0; i < npages; i++)
        dma_domain_map(adapter->domain, first + i, pfn + i, DMA_DEVICE_READS | DMA_DEVICE_WRITES);
    buffer->domain = adapter->domain;
    buffer->la = (uint64_t)first << SPAN_PAGE_SHIFT;
    buffer->la_pages = npages;
    return true;
}

static bool place(struct machine *machine, struct dma_adapter *adapter, struct dma_common_buffer *buffer,
                  const struct dma_buffer_want *want)
{
    const size_t extra = (buffer->guarded ? 2u : 0u) + (want->large ? LARGE_PAGES - 1u : 0u);
    const struct mm_frame_want frames = frames_for(adapter, want, span_bytes_to_pages(want->bytes) + extra);

    if (!take_memory(machine, buffer, &frames))
        return false;
    buffer->va = start_of(machine, buffer, want->large);
    buffer->la = physical_of(machine, buffer->va);
    if (adapter->domain == NULL || map_logical(adapter, buffer, want))
        return true;
    give_memory(machine, buffer);
    return false;
}

/* ---- the book ---- */

struct dma_common_buffer *dma_buffer_new(struct dma_adapter *adapter, const struct dma_buffer_want *want)
{
    struct machine *machine = ke_machine();
    const bool possible = want->bytes != 0 && want->limit >= SPAN_PAGE_SIZE;
    struct dma_common_buffer *buffer = !possible || ke_internal_fails() ? NULL : calloc(1, sizeof(*buffer));

    if (buffer == NULL)
        return NULL;
    buffer->bytes = want->bytes;
    buffer->caching = want->caching;
    buffer->where = want->where;
    buffer->guarded = machine->options.verifier != 0;
    if (!place(machine, adapter, buffer, want)) {
        free(buffer);
        return NULL;
    }
    if (buffer->guarded)
        set_guards(buffer);
    dma_buffer_book(adapter, buffer);
    return buffer;
}

void dma_buffer_book(struct dma_adapter *adapter, struct dma_common_buffer *buffer)
{
    dma_lock(adapter);
    InsertTailList(&adapter->buffers, &buffer->link);
    adapter->nbuffers++;
    dma_unlock(adapter);
}

struct dma_common_buffer *dma_buffer_find_locked(struct dma_adapter *adapter, const void *va)
{
    for (PLIST_ENTRY link = adapter->buffers.Flink; link != &adapter->buffers; link = link->Flink) {
        struct dma_common_buffer *buffer = CONTAINING_RECORD(link, struct dma_common_buffer, link);

        if (buffer->va == va)
            return buffer;
    }
    return NULL;
}

void dma_buffer_free(struct dma_adapter *adapter, struct dma_common_buffer *buffer)
{
    dma_remember_range(adapter, buffer->la, buffer->bytes, buffer->where);
    if (buffer->la_pages != 0)
        dma_domain_give(buffer->domain, (uint32_t)(buffer->la >> SPAN_PAGE_SHIFT), buffer->la_pages);
    if (!buffer->from_mdl)
        give_memory(ke_machine(), buffer);
    free(buffer);
}

void dma_buffer_end(struct dma_adapter *adapter, struct dma_common_buffer *buffer)
{
    dma_lock(adapter);
    RemoveEntryList(&buffer->link);
    adapter->nbuffers--;
    dma_unlock(adapter);
    dma_buffer_free(adapter, buffer);
}

/* ---- the routines ---- */

/* Doc: wdm/nc-wdm-pallocate_common_buffer */
PVOID dma_allocate_common_buffer(PDMA_ADAPTER DmaAdapter, ULONG Length, PPHYSICAL_ADDRESS LogicalAddress, BOOLEAN CacheEnabled)
{
    struct machine *machine = ke_machine();
    const struct dma_buffer_want want = {.bytes = Length, .limit = DMA_NO_LIMIT, .caching = CacheEnabled ? DMA_CACHED : DMA_UNCACHED,
                                         .where = DMA_WHERE(machine)};
    struct dma_common_buffer *buffer;

    KE_HOOK(machine, dma_call_check, DmaAdapter, PASSIVE_LEVEL, PASSIVE_LEVEL);
    if (ke_fails(KE_FALLIBLE_AllocateCommonBuffer))
        return NULL;
    buffer = dma_buffer_new(dma_adapter_of(DmaAdapter), &want);
    if (buffer == NULL)
        return NULL;
    LogicalAddress->QuadPart = (LONGLONG)buffer->la;
    return buffer->va;
}

/* Doc: wdm/nc-wdm-pfree_common_buffer */
VOID dma_free_common_buffer(PDMA_ADAPTER DmaAdapter, ULONG Length, PHYSICAL_ADDRESS LogicalAddress, PVOID VirtualAddress,
                            BOOLEAN CacheEnabled)
{
    struct machine *machine = ke_machine();
    struct dma_adapter *adapter = dma_adapter_of(DmaAdapter);
    struct dma_common_buffer *buffer;

    KE_HOOK(machine, dma_call_check, DmaAdapter, PASSIVE_LEVEL, PASSIVE_LEVEL);
    KE_HOOK(machine, dma_free_buffer_check, DmaAdapter, VirtualAddress, Length, (uint64_t)LogicalAddress.QuadPart, CacheEnabled);
    dma_lock(adapter);
    buffer = dma_buffer_find_locked(adapter, VirtualAddress);
    dma_unlock(adapter);
    if (buffer == NULL)
        ke_bug_check(DRIVER_VERIFIER_DMA_VIOLATION, SURPLUS_BUFFER, 1, 0, 0);
    dma_buffer_end(adapter, buffer);
}
