/* SPDX-License-Identifier: MIT */
/*
 * The bytes of a chain of MDLs, page by page or MDL by MDL, by their PFNs. An MDL of no bytes is passed over.
 *
 *     MDL    |----[#### page 0 ####|#### page 1 ####|### page 2]      ByteOffset, ByteCount
 *     pieces      [      1         |       2        |     3    ]
 *     stretch     [                  all of these              ]
 */

#include "dma/dma.h"

void dma_walk(struct dma_cursor *cursor, const struct dma_buffer *buffer)
{
    *cursor = (struct dma_cursor){.mdl = buffer->mdl, .off = buffer->off, .left = buffer->bytes};
    while (cursor->mdl != NULL && cursor->off >= cursor->mdl->ByteCount) {
        cursor->off -= cursor->mdl->ByteCount;
        cursor->mdl = cursor->mdl->Next;
    }
}

static void pass(struct dma_cursor *cursor, uint64_t bytes)
{
    cursor->off += bytes;
    cursor->left -= bytes;
    while (cursor->left > 0 && cursor->mdl != NULL && cursor->off >= cursor->mdl->ByteCount) {
        cursor->off -= cursor->mdl->ByteCount;
        cursor->mdl = cursor->mdl->Next;
    }
}

bool dma_next_piece(struct dma_cursor *cursor, struct dma_piece *piece)
{
    uint64_t at, bytes;

    if (cursor->left == 0 || cursor->mdl == NULL)
        return false;
    at = cursor->mdl->ByteOffset + cursor->off;
    bytes = cursor->mdl->ByteCount - cursor->off;
    piece->pfn = mdl_pfns(cursor->mdl)[at >> SPAN_PAGE_SHIFT];
    piece->off = (uint32_t)(at & SPAN_PAGE_MASK);
    if (bytes > SPAN_PAGE_SIZE - piece->off)
        bytes = SPAN_PAGE_SIZE - piece->off;
    piece->bytes = (uint32_t)(bytes < cursor->left ? bytes : cursor->left);
    pass(cursor, piece->bytes);
    return true;
}

bool dma_next_stretch(struct dma_cursor *cursor, struct dma_stretch *stretch)
{
    uint64_t at, bytes;

    if (cursor->left == 0 || cursor->mdl == NULL)
        return false;
    at = cursor->mdl->ByteOffset + cursor->off;
    bytes = cursor->mdl->ByteCount - cursor->off;
    stretch->mdl = cursor->mdl;
    stretch->va = mdl_va(cursor->mdl) + cursor->off;
    stretch->pfns = mdl_pfns(cursor->mdl) + (at >> SPAN_PAGE_SHIFT);
    stretch->off = (uint32_t)(at & SPAN_PAGE_MASK);
    stretch->bytes = bytes < cursor->left ? bytes : cursor->left;
    stretch->npages = span_pages(stretch->off, stretch->bytes);
    pass(cursor, stretch->bytes);
    return true;
}

uint32_t dma_first_offset(const struct dma_buffer *buffer)
{
    struct dma_cursor cursor;
    struct dma_piece first;

    dma_walk(&cursor, buffer);
    return dma_next_piece(&cursor, &first) ? first.off : 0;
}

bool dma_chain_holds(const struct dma_buffer *buffer)
{
    uint64_t sum = 0;

    for (const MDL *mdl = buffer->mdl; mdl != NULL; mdl = mdl->Next) {
        sum += mdl->ByteCount;
        if (sum >= buffer->off && sum - buffer->off >= buffer->bytes)
            return true;
    }
    return false;
}

uint8_t *dma_page_va(const struct machine *machine, PFN_NUMBER pfn)
{
    void *va;

    return mm_first_run(machine, &pfn, 1, &va) == 1 ? va : NULL;
}
