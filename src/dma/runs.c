/* SPDX-License-Identifier: MIT */
/*
 * Runs: pages of a buffer whose numbers follow one another. To a device that reaches all memory by itself each is one element.
 *
 *     MDLs      | 7 8 9 | 20 | 31 32 33]  ->  [33 (middle) ...
 *     runs      [  a    ][ b ][     c             ]        across MDLs where one ends at the byte that the next begins with
 *
 * Buffers are of one kind or the other: all one run, or hardly two pages together. Counting is a vector loop for both. Storing takes
 * single pages one by one, as fast as they can be written, and measures a run by vectors once two pages follow each other.
 */

#include "dma/dma.h"
#include "rtl/lanes.h"

static uint64_t address_of(PFN_NUMBER pfn, uint32_t off)
{
    return ((uint64_t)pfn << SPAN_PAGE_SHIFT) + off;
}

struct dma_runs dma_count_runs(const struct dma_buffer *buffer)
{
    struct dma_runs runs = {0};
    struct dma_stretch stretch;
    struct dma_cursor cursor;
    uint64_t end = 0;                   /* of the run before */

    for (dma_walk(&cursor, buffer); dma_next_stretch(&cursor, &stretch);) {
        const bool goes_on = runs.nruns != 0 && address_of(stretch.pfns[0], stretch.off) == end;

        runs.nruns += !goes_on + (uint32_t)rtl_lanes->count_breaks(stretch.pfns, stretch.npages);
        runs.npages += (uint32_t)stretch.npages;
        end = address_of(stretch.pfns[stretch.npages - 1], (uint32_t)((stretch.off + stretch.bytes - 1) & SPAN_PAGE_MASK)) + 1;
    }
    return runs;
}

/* ---- storing ---- */

/* Field by field: a compiler that makes the element first, and then copies it, waits for its own stores. */
static void store(SCATTER_GATHER_ELEMENT *element, uint64_t la, uint64_t bytes)
{
    element->Address.QuadPart = (LONGLONG)la;
    element->Length = (ULONG)bytes;
    element->Reserved = 0;
}

static size_t run_length(const PFN_NUMBER *pfns, size_t n)
{
    const struct rtl_steps steps = rtl_steps_up_from(pfns[0]);

    return n > 1 && pfns[1] == pfns[0] + 1 ? rtl_lanes->count_steps(pfns, &steps, n) : 1;
}

/* The first run of the stretch, which is shorter afterwards: the run's bytes. */
static uint64_t pass_run(struct dma_stretch *stretch)
{
    const size_t run = run_length(stretch->pfns, stretch->npages);
    const uint64_t reach = run * SPAN_PAGE_SIZE - stretch->off, bytes = reach < stretch->bytes ? reach : stretch->bytes;

    stretch->pfns += run;
    stretch->npages -= run;
    stretch->bytes -= bytes;
    stretch->off = 0;
    return bytes;
}

static uint64_t start_of(const struct dma_stretch *stretch)
{
    return address_of(stretch->pfns[0], stretch->off);
}

/* Whole pages at the start of the stretch that are a run each, but for its last two; how many. */
static uint32_t store_singles(struct dma_stretch *stretch, SCATTER_GATHER_ELEMENT *elements, uint32_t room)
{
    const PFN_NUMBER *pfns = stretch->pfns;
    uint32_t n = 0;

    if (stretch->off != 0)
        return 0;
    for (; n < room && n + 2 < stretch->npages && pfns[n] + 1 != pfns[n + 1]; n++)
        store(&elements[n], address_of(pfns[n], 0), SPAN_PAGE_SIZE);
    stretch->pfns += n;
    stretch->npages -= n;
    stretch->bytes -= n * SPAN_PAGE_SIZE;
    return n;
}

static uint32_t store_stretch(struct dma_stretch *stretch, SCATTER_GATHER_ELEMENT *elements, uint32_t room)
{
    uint32_t n = 0;

    while (n < room && stretch->bytes > 0) {
        n += store_singles(stretch, elements + n, room - n);
        if (n < room) {
            const uint64_t la = start_of(stretch);

            store(&elements[n++], la, pass_run(stretch));
        }
    }
    return n;
}

/* The element goes on with the first run of the stretch, if that is where it ends. */
static void extend(SCATTER_GATHER_ELEMENT *element, struct dma_stretch *stretch)
{
    if ((uint64_t)element->Address.QuadPart + element->Length == start_of(stretch))
        element->Length += (ULONG)pass_run(stretch);
}

void dma_store_only_run(const struct dma_buffer *buffer, SCATTER_GATHER_ELEMENT *element)
{
    struct dma_stretch stretch;
    struct dma_cursor cursor;

    dma_walk(&cursor, buffer);
    if (dma_next_stretch(&cursor, &stretch))
        store(element, start_of(&stretch), buffer->bytes);
}

uint32_t dma_store_runs(const struct dma_buffer *buffer, SCATTER_GATHER_ELEMENT *elements, uint32_t room)
{
    struct dma_stretch stretch = {.bytes = 0};
    struct dma_cursor cursor;
    uint32_t n = 0;

    for (dma_walk(&cursor, buffer); stretch.bytes == 0 && dma_next_stretch(&cursor, &stretch);) {
        if (n > 0)
            extend(&elements[n - 1], &stretch);
        n += store_stretch(&stretch, elements + n, room - n);
    }
    return n;
}
