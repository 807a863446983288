/* SPDX-License-Identifier: MIT */
/* Arithmetic on ranges, each function against one that counts naively, over every small case and at both
   ends of memory. */

#include "harness.h"

#include "rtl/span.h"

typedef unsigned __int128 wide;

static const wide end_of_memory = (wide)1 << 64;

/* span_pages counts the pages that hold a byte of the range, and one page for no bytes inside a page. */
TEST(rtl_span, pages__every_offset_and_up_to_two_pages__are_those_touched)
{
    for (uintptr_t va = 0; va < SPAN_PAGE_SIZE; va++) {
        size_t touched = va % SPAN_PAGE_SIZE != 0;
        size_t wrong = 0;

        for (size_t bytes = 0; bytes <= 2 * SPAN_PAGE_SIZE + 2; bytes++) {
            if (bytes != 0 && (va + bytes - 1) % SPAN_PAGE_SIZE == 0)
                touched++;
            wrong += span_pages(va, bytes) != touched;
        }
        EXPECT_EQ(wrong, 0);
    }
}

/* The count depends on the offset in the page only, and never overflows, whatever the length. */
TEST(rtl_span, pages__lengths_near_the_largest__do_not_overflow)
{
    static const uintptr_t offsets[] = {0, 1, SPAN_PAGE_SIZE - 1};

    for (size_t o = 0; o < sizeof(offsets) / sizeof(offsets[0]); o++) {
        for (size_t less = 0; less <= 2 * SPAN_PAGE_SIZE; less += 511) {
            const size_t bytes = SIZE_MAX - less;
            const wide expected = (offsets[o] + (wide)bytes + SPAN_PAGE_MASK) >> SPAN_PAGE_SHIFT;

            EXPECT_EQ(span_pages(offsets[o], bytes), expected);
            EXPECT_EQ(span_pages(UINTPTR_MAX - SPAN_PAGE_MASK + offsets[o], bytes), expected);
        }
        EXPECT_EQ(span_bytes_to_pages(SIZE_MAX), (size_t)1 << 52);
    }
}

/* Page base and offset take an address apart without loss. */
TEST(rtl_span, page_base_and_offset__add_up_to_the_address)
{
    static const uintptr_t addresses[] = {
        0, 1, 4095, 4096, 4097, UINTPTR_MAX - 4096, UINTPTR_MAX - 4095, UINTPTR_MAX};

    for (size_t i = 0; i < sizeof(addresses) / sizeof(addresses[0]); i++) {
        EXPECT_EQ(span_page_base(addresses[i]) % SPAN_PAGE_SIZE, 0);
        EXPECT(span_offset(addresses[i]) < SPAN_PAGE_SIZE);
        EXPECT_EQ(span_page_base(addresses[i]) + span_offset(addresses[i]), addresses[i]);
    }
}

static bool wraps(uintptr_t va, size_t bytes)
{
    return (wide)va + bytes > end_of_memory;
}

/* Addresses and lengths around both ends of memory and around its middle. */
enum { EDGES = 3 * 7 };

static uintptr_t edge(unsigned i)
{
    static const uintptr_t bases[] = {0, (uintptr_t)1 << 63, UINTPTR_MAX - 6};

    return bases[i / 7] + i % 7;
}

/* A range that ends with the last byte of memory does not wrap; one byte more does. */
TEST(rtl_span, wraps__at_the_ends_of_memory__as_counted_in_128_bits)
{
    for (unsigned a = 0; a < EDGES; a++)
        for (unsigned n = 0; n < EDGES; n++)
            EXPECT_EQ(span_wraps(edge(a), edge(n)), wraps(edge(a), edge(n)));
}

static bool contains(uintptr_t outer, size_t outer_bytes, uintptr_t inner, size_t inner_bytes)
{
    if (wraps(outer, outer_bytes) || wraps(inner, inner_bytes))
        return false;
    return inner >= outer && (wide)inner + inner_bytes <= (wide)outer + outer_bytes;
}

/* span_contains says yes to a range inside, its ends included, and never to one that wraps. */
TEST(rtl_span, contains__all_small_ranges_and_all_edges__as_counted_in_128_bits)
{
    for (unsigned a = 0; a < EDGES; a++)
        for (unsigned an = 0; an < EDGES; an++)
            for (unsigned b = 0; b < EDGES; b++)
                for (unsigned bn = 0; bn < EDGES; bn++)
                    if (span_contains(edge(a), edge(an), edge(b), edge(bn)) !=
                        contains(edge(a), edge(an), edge(b), edge(bn)))
                        harness_fail(HARNESS_HERE, "span_contains(%#lx, %#lx, %#lx, %#lx)", edge(a), edge(an),
                                     edge(b), edge(bn));
    EXPECT(span_contains(100, 10, 110, 0));
    EXPECT(!span_contains(100, 10, 111, 0));
}

static bool share_a_byte(uintptr_t a, size_t a_bytes, uintptr_t b, size_t b_bytes)
{
    for (size_t i = 0; i < a_bytes; i++)
        for (size_t k = 0; k < b_bytes; k++)
            if (a + i == b + k)
                return true;
    return false;
}

/* span_overlaps says yes exactly when there is a byte in both ranges; an empty range overlaps nothing. */
TEST(rtl_span, overlaps__all_small_ranges__as_counted_byte_by_byte)
{
    static const uintptr_t bases[] = {0, 4090, UINTPTR_MAX - 15};

    for (size_t base = 0; base < sizeof(bases) / sizeof(bases[0]); base++)
        for (uintptr_t a = 0; a < 8; a++)
            for (size_t an = 0; an <= 8; an++)
                for (uintptr_t b = 0; b < 8; b++)
                    for (size_t bn = 0; bn <= 8; bn++)
                        EXPECT_EQ(span_overlaps(bases[base] + a, an, bases[base] + b, bn),
                                  share_a_byte(a, an, b, bn));
}
