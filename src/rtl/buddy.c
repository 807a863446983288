/* SPDX-License-Identifier: MIT */
/* The buddy allocator of numbered pages; its structure and invariants stand in buddy.h. */

#include "rtl/buddy.h"

#include <assert.h>
#include <string.h>

/* ---- bitmaps with summaries ---- */

static size_t words_for(size_t nbits)
{
    return (nbits + 63) / 64;
}

static size_t bits_words(size_t nbits)
{
    size_t total = 0;

    do {
        nbits = words_for(nbits);
        total += nbits;
    } while (nbits > 1);
    return total;
}

static uint64_t *bits_init(struct rtl_bits *bits, size_t nbits, uint64_t *zeroed)
{
    bits->nlevels = 0;
    do {
        assert(bits->nlevels < BUDDY_LEVELS);
        bits->levels[bits->nlevels++] = zeroed;
        nbits = words_for(nbits);
        zeroed += nbits;
    } while (nbits > 1);
    return zeroed;
}

static bool bits_test(const struct rtl_bits *bits, size_t i)
{
    return (bits->levels[0][i / 64] >> (i % 64)) & 1;
}

static void bits_set(struct rtl_bits *bits, size_t i)
{
    for (unsigned level = 0; level < bits->nlevels; level++, i /= 64)
        bits->levels[level][i / 64] |= 1ull << (i % 64);
}

/* A summary bit falls only when the word below it has become zero. */
static void bits_clear(struct rtl_bits *bits, size_t i)
{
    for (unsigned level = 0; level < bits->nlevels; level++, i /= 64) {
        uint64_t *word = &bits->levels[level][i / 64];

        *word &= ~(1ull << (i % 64));
        if (*word != 0)
            return;
    }
}

static bool bits_lowest(const struct rtl_bits *bits, size_t *lowest)
{
    size_t i = 0;

    if (bits->levels[bits->nlevels - 1][0] == 0)
        return false;
    for (unsigned level = bits->nlevels; level-- > 0;)
        i = i * 64 + (size_t)__builtin_ctzll(bits->levels[level][i]);
    *lowest = i;
    return true;
}

/* ---- blocks ---- */

static size_t blocks_of_order(size_t npages, unsigned order)
{
    return (npages >> order) + 1;
}

size_t rtl_buddy_bytes(size_t npages)
{
    size_t words = 0;

    for (unsigned order = 0; order < BUDDY_ORDERS; order++)
        words += bits_words(blocks_of_order(npages, order));
    return words * sizeof(uint64_t);
}

void rtl_buddy_init(struct rtl_buddy *buddy, size_t npages, void *zeroed)
{
    uint64_t *next = zeroed;

    assert(npages < (size_t)1 << (BUDDY_ORDERS - 1));
    memset(buddy, 0, sizeof(*buddy));
    buddy->npages = npages;
    for (unsigned order = 0; order < BUDDY_ORDERS; order++)
        next = bits_init(&buddy->order[order], blocks_of_order(npages, order), next);
}

static bool block_fits(const struct rtl_buddy *buddy, size_t index, unsigned order)
{
    return ((index + 1) << order) <= buddy->npages;
}

/* Free one aligned block, merging it with its buddy for as long as that is free too. */
static void give_block(struct rtl_buddy *buddy, size_t index, unsigned order)
{
    while (order + 1 < BUDDY_ORDERS && block_fits(buddy, index ^ 1, order) && bits_test(&buddy->order[order], index ^ 1)) {
        bits_clear(&buddy->order[order], index ^ 1);
        index /= 2;
        order++;
    }
    bits_set(&buddy->order[order], index);
}

/* The largest order of an aligned block that starts at `first` and has at most n pages. */
static unsigned order_at(size_t first, size_t n)
{
    const unsigned by_size = 63 - (unsigned)__builtin_clzll(n);
    const unsigned by_place = first == 0 ? by_size : (unsigned)__builtin_ctzll(first);
    const unsigned order = by_size < by_place ? by_size : by_place;

    return order < BUDDY_ORDERS ? order : BUDDY_ORDERS - 1;
}

void rtl_buddy_give(struct rtl_buddy *buddy, size_t first, size_t n)
{
    assert(first <= buddy->npages && n <= buddy->npages - first);
    buddy->nfree += n;
    while (n > 0) {
        const unsigned order = order_at(first, n);

        give_block(buddy, first >> order, order);
        first += (size_t)1 << order;
        n -= (size_t)1 << order;
    }
}

static unsigned order_for(size_t n)
{
    return n <= 1 ? 0 : 64 - (unsigned)__builtin_clzll(n - 1);
}

/* The smallest order from `wanted` up that has a free block, else the largest order below it; false: nothing is free. */
static bool choose_block(const struct rtl_buddy *buddy, unsigned wanted, unsigned *order, size_t *index)
{
    for (*order = wanted; *order < BUDDY_ORDERS; (*order)++)
        if (bits_lowest(&buddy->order[*order], index))
            return true;
    for (*order = wanted < BUDDY_ORDERS ? wanted : BUDDY_ORDERS; (*order)-- > 0;)
        if (bits_lowest(&buddy->order[*order], index))
            return true;
    return false;
}

size_t rtl_buddy_take_run(struct rtl_buddy *buddy, size_t n, size_t *first)
{
    unsigned order;
    size_t index, have;

    if (n == 0 || !choose_block(buddy, order_for(n), &order, &index))
        return 0;
    bits_clear(&buddy->order[order], index);
    *first = index << order;
    have = (size_t)1 << order;
    buddy->nfree -= have;
    if (have > n) {
        rtl_buddy_give(buddy, *first + n, have - n);
        have = n;
    }
    return have;
}

size_t rtl_buddy_block_at(const struct rtl_buddy *buddy, size_t page, size_t *start)
{
    for (unsigned order = 0; order < BUDDY_ORDERS; order++) {
        if (!bits_test(&buddy->order[order], page >> order))
            continue;
        *start = page >> order << order;
        return (size_t)1 << order;
    }
    return 0;
}

static bool all_free(const struct rtl_buddy *buddy, size_t first, size_t n)
{
    const size_t end = first + n;

    while (first < end) {
        size_t start;
        const size_t have = rtl_buddy_block_at(buddy, first, &start);

        if (have == 0)
            return false;
        first = start + have;
    }
    return true;
}

bool rtl_buddy_take_exact(struct rtl_buddy *buddy, size_t first, size_t n)
{
    const size_t end = first + n;

    if (first > buddy->npages || n > buddy->npages - first || !all_free(buddy, first, n))
        return false;
    while (first < end) {
        size_t start = first;
        const size_t have = rtl_buddy_block_at(buddy, first, &start);
        const size_t stop = start + have < end ? start + have : end;
        const unsigned order = order_for(have);

        bits_clear(&buddy->order[order], start >> order);
        buddy->nfree -= have;
        rtl_buddy_give(buddy, start, first - start);
        rtl_buddy_give(buddy, stop, start + have - stop);
        first = stop;
    }
    return true;
}

/* ---- the checker ---- */

static bool summaries_hold(const struct rtl_bits *bits, size_t nbits)
{
    for (unsigned level = 0; level + 1 < bits->nlevels; level++) {
        nbits = words_for(nbits);
        for (size_t word = 0; word < nbits; word++)
            if (((bits->levels[level + 1][word / 64] >> (word % 64)) & 1) != (bits->levels[level][word] != 0))
                return false;
    }
    return true;
}

static bool covered_from_above(const struct rtl_buddy *buddy, size_t index, unsigned order)
{
    for (unsigned up = order + 1; up < BUDDY_ORDERS; up++)
        if (bits_test(&buddy->order[up], index >> (up - order)))
            return true;
    return false;
}

bool rtl_buddy_check(const struct rtl_buddy *buddy, const char **why)
{
    size_t nfree = 0;

    for (unsigned order = 0; order < BUDDY_ORDERS; order++) {
        const struct rtl_bits *bits = &buddy->order[order];
        const size_t nblocks = blocks_of_order(buddy->npages, order);

        if (!summaries_hold(bits, nblocks)) {
            *why = "a summary bit disagrees with the word below it";
            return false;
        }
        for (size_t i = 0; i < nblocks; i++) {
            if (!bits_test(bits, i))
                continue;
            nfree += (size_t)1 << order;
            *why = "a free block reaches past the end";
            if (!block_fits(buddy, i, order))
                return false;
            *why = "a page is covered by two free blocks";
            if (covered_from_above(buddy, i, order))
                return false;
            *why = "two buddies of one order are both free";
            if ((i & 1) == 0 && i + 1 < nblocks && bits_test(bits, i + 1) && order + 1 < BUDDY_ORDERS)
                return false;
        }
    }
    *why = "nfree is not the number of free pages";
    return nfree == buddy->nfree;
}
