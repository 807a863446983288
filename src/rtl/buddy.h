/* SPDX-License-Identifier: MIT */
/*
 * A buddy allocator of numbered pages, kept wholly in bitmaps.
 *
 * A free block of order k is 2^k pages, aligned to 2^k. For each order there is one bit per possible block: set means
 * "this block is free, whole, and not part of a larger free block". Over each bitmap stands a tree of summaries, 64
 * children a node, so the lowest free block of an order is found in a few steps and allocation prefers low numbers.
 * Memory that reads as zero is a valid empty allocator: nothing is initialised per page.
 *
 * Invariant: no page is covered by two set bits, none past the end is covered, and no two buddies of one order are both set.
 *
 * The allocator knows no lock and no memory: it hands out numbers.
 */
#ifndef PINION_RTL_BUDDY_H
#define PINION_RTL_BUDDY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BUDDY_ORDERS = 24, BUDDY_LEVELS = 5 };

/* A bitmap with summaries: bit i of levels[k + 1] says that word i of levels[k] is not zero. */
struct rtl_bits {
    uint64_t *levels[BUDDY_LEVELS];
    unsigned  nlevels;
};

struct rtl_buddy {
    size_t          npages;
    size_t          nfree;
    struct rtl_bits order[BUDDY_ORDERS];
};

/* Bytes of zeroed memory that rtl_buddy_init wants for npages (at most 2^23 pages). */
size_t rtl_buddy_bytes(size_t npages);
void   rtl_buddy_init(struct rtl_buddy *buddy, size_t npages, void *zeroed);

/* Make [first, first + n) free. The pages must not be free already. */
void rtl_buddy_give(struct rtl_buddy *buddy, size_t first, size_t n);

/*
 * Take one run of at most n pages: all n where one block holds them, else the largest block there is.
 * The length of the run, 0 when nothing is free; *first is its first page.
 */
size_t rtl_buddy_take_run(struct rtl_buddy *buddy, size_t n, size_t *first);

/* Take exactly [first, first + n). False, and nothing taken, unless all of it is free. */
bool rtl_buddy_take_exact(struct rtl_buddy *buddy, size_t first, size_t n);

/* The length of the free block that starts at or covers `page`, and where that block starts; 0 when the page is not free. */
size_t rtl_buddy_block_at(const struct rtl_buddy *buddy, size_t page, size_t *start);

/* Every invariant above, and that nfree is the sum. `why` names the one that fails. */
bool rtl_buddy_check(const struct rtl_buddy *buddy, const char **why);

#endif
