/* SPDX-License-Identifier: MIT */
/*
 * Spans: arithmetic on ranges of bytes and pages, in one place so that no other file adds an offset to a length.
 * Nothing here touches memory or knows a machine.
 */
#ifndef PINION_RTL_SPAN_H
#define PINION_RTL_SPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SPAN_PAGE_SHIFT = 12, SPAN_PAGE_SIZE = 1 << SPAN_PAGE_SHIFT, SPAN_PAGE_MASK = SPAN_PAGE_SIZE - 1 };

static inline size_t span_offset(uintptr_t va)
{
    return va & SPAN_PAGE_MASK;
}

static inline uintptr_t span_page_base(uintptr_t va)
{
    return va & ~(uintptr_t)SPAN_PAGE_MASK;
}

/* Pages that [va, va + bytes) touches; 0 for no bytes at a page start, 1 for no bytes inside a page, as Windows counts. */
static inline size_t span_pages(uintptr_t va, size_t bytes)
{
    return (bytes >> SPAN_PAGE_SHIFT) + ((span_offset(va) + (bytes & SPAN_PAGE_MASK) + SPAN_PAGE_MASK) >> SPAN_PAGE_SHIFT);
}

static inline size_t span_bytes_to_pages(size_t bytes)
{
    return span_pages(0, bytes);
}

/* Does [va, va + bytes) run past the end of the address space? */
static inline bool span_wraps(uintptr_t va, size_t bytes)
{
    return bytes != 0 && va + (bytes - 1) < va;
}

/* Is [inner, inner + inner_bytes) inside [outer, outer + outer_bytes)? Neither may wrap to be a yes. */
static inline bool span_contains(uintptr_t outer, size_t outer_bytes, uintptr_t inner, size_t inner_bytes)
{
    const uintptr_t delta = inner - outer;

    return inner >= outer && delta <= outer_bytes && inner_bytes <= outer_bytes - delta && !span_wraps(outer, outer_bytes);
}

static inline bool span_overlaps(uintptr_t a, size_t a_bytes, uintptr_t b, size_t b_bytes)
{
    return a_bytes != 0 && b_bytes != 0 && (a < b ? b - a < a_bytes : a - b < b_bytes);
}

#endif
