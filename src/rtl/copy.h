/* SPDX-License-Identifier: MIT */
/*
 * Copies of page numbers. For a few of them a call of memmove costs more than the copy: they pass through registers, all
 * loaded before the first is stored, so that the two arrays may overlap.
 *
 *     5 numbers    | first 4 ........ |          the two halves overlap where the count is no power of two
 *                     | ........ last 4 |
 */
#ifndef PINION_RTL_COPY_H
#define PINION_RTL_COPY_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef uint64_t rtl_pair __attribute__((vector_size(16), aligned(8), may_alias));

static inline rtl_pair rtl_load_pair(const uint64_t *from)
{
    return *(const rtl_pair *)from;
}

static inline void rtl_store_pair(uint64_t *to, rtl_pair pair)
{
    *(rtl_pair *)to = pair;
}

static inline void rtl_move_up_to_8(uint64_t *to, const uint64_t *from, size_t n)
{
    if (n >= 4) {
        const rtl_pair a = rtl_load_pair(from), b = rtl_load_pair(from + 2);
        const rtl_pair c = rtl_load_pair(from + n - 4), d = rtl_load_pair(from + n - 2);

        rtl_store_pair(to, a);
        rtl_store_pair(to + 2, b);
        rtl_store_pair(to + n - 4, c);
        rtl_store_pair(to + n - 2, d);
    } else if (n >= 2) {
        const rtl_pair a = rtl_load_pair(from), b = rtl_load_pair(from + n - 2);

        rtl_store_pair(to, a);
        rtl_store_pair(to + n - 2, b);
    } else if (n == 1) {
        *to = *from;
    }
}

/* memmove of n numbers. */
static inline void rtl_move_words(uint64_t *to, const uint64_t *from, size_t n)
{
    if (n > 8)
        memmove(to, from, n * sizeof(*to));
    else
        rtl_move_up_to_8(to, from, n);
}

#endif
