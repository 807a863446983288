/* SPDX-License-Identifier: MIT */
/* The vector bodies of rtl/lanes.h and rtl/copy.h do what the scalar ones do, for every length around a vector and every alignment. */

#include "harness.h"

#include "rtl/copy.h"
#include "rtl/lanes.h"

#include <string.h>

enum { MOST = 150, SHIFTS = 9 };

static const struct rtl_lanes *bodies[3];
static size_t nbodies;

static const struct rtl_lanes *scalar(void)
{
    nbodies = rtl_lanes_available(bodies);
    return bodies[nbodies - 1];
}

static uint64_t *expect_untouched_around(uint64_t *out, size_t n)
{
    EXPECT_EQ(out[-1], 0x5555555555555555);
    EXPECT_EQ(out[n], 0x5555555555555555);
    return out;
}

/* Counting up stores first + i, and not a byte more. */
TEST(lanes, count_up__any_length_and_alignment__same_as_scalar)
{
    uint64_t expected[MOST], room[MOST + SHIFTS + 2];

    for (size_t n = 0; n <= MOST; n++) {
        scalar()->count_up(expected, 0xFFFFFFF0 + n, n);
        for (size_t b = 0; b < nbodies; b++)
            for (size_t shift = 0; shift < SHIFTS; shift++) {
                memset(room, 0x55, sizeof(room));
                bodies[b]->count_up(room + 1 + shift, 0xFFFFFFF0 + n, n);
                EXPECT_EQ(memcmp(expect_untouched_around(room + 1 + shift, n), expected, n * sizeof(uint64_t)), 0);
            }
    }
}

/* A run ends where it is broken, wherever that is. */
TEST(lanes, count_run__broken_anywhere__same_as_scalar)
{
    uint64_t numbers[MOST];

    for (size_t n = 0; n <= MOST; n++)
        for (size_t broken = 0; broken <= n; broken++) {
            scalar()->count_up(numbers, 77, n);
            if (broken < n)
                numbers[broken] += 1000;
            for (size_t b = 0; b < nbodies; b++)
                EXPECT_EQ(bodies[b]->count_run(numbers, n), scalar()->count_run(numbers, n));
        }
}

/* One bit that differs anywhere is seen. */
TEST(lanes, equal__one_bit_differs__same_as_scalar)
{
    uint64_t one[MOST], other[MOST];

    for (size_t n = 0; n <= MOST; n++)
        for (size_t place = 0; place <= n; place++) {
            scalar()->count_up(one, 1, n);
            scalar()->count_up(other, 1, n);
            if (place < n)
                other[place] ^= (uint64_t)1 << (place % 64);
            for (size_t b = 0; b < nbodies; b++)
                EXPECT_EQ(bodies[b]->equal(one, other, n), place == n);
        }
}

/* A byte that differs under the mask is seen; beyond the mask, and beyond the end, none is. */
TEST(lanes, all_bytes__one_differs__same_as_scalar)
{
    _Atomic uint8_t bytes[MOST + 1];

    for (size_t n = 0; n <= MOST; n++)
        for (size_t place = 0; place <= n; place++) {
            for (size_t i = 0; i <= n; i++)
                bytes[i] = i == n ? 0 : (uint8_t)(0x13 | (i % 2) << 7);
            if (place < n)
                bytes[place] ^= 0x02;
            scalar();
            for (size_t b = 0; b < nbodies; b++)
                EXPECT_EQ(bodies[b]->all_bytes(bytes, n, 0x7F, 0x13), place == n);
        }
}

/* Marks in the upper half of an entry count, up to the first entry that has none; what the lower half holds does not. */
TEST(lanes, count_marked__one_is_not__same_as_scalar)
{
    uint64_t entries[2 * MOST];

    for (size_t n = 0; n <= MOST; n++)
        for (size_t place = 0; place <= n; place++) {
            for (size_t i = 0; i < n; i++) {
                entries[2 * i] = i % 2 == 0 ? 0 : ~(uint64_t)0;
                entries[2 * i + 1] = i == place ? ~(uint64_t)0xFF0000 : (uint64_t)(1 + i % 5) << 16;
            }
            scalar();
            for (size_t b = 0; b < nbodies; b++)
                EXPECT_EQ(bodies[b]->count_marked(entries, n, 0xFF0000), place);
        }
}

/* A move is memmove, whichever way the two arrays overlap. */
TEST(copy, move_words__any_length_and_overlap__same_as_memmove)
{
    enum { ROOM = 64, MIDDLE = 20 };
    uint64_t moved[ROOM], expected[ROOM];

    for (size_t n = 0; n <= 20; n++)
        for (size_t to = 0; to + n <= ROOM; to++) {
            scalar()->count_up(moved, 500, ROOM);
            scalar()->count_up(expected, 500, ROOM);
            rtl_move_words(moved + to, moved + MIDDLE, n);
            memmove(expected + to, expected + MIDDLE, n * sizeof(uint64_t));
            EXPECT_EQ(memcmp(moved, expected, sizeof(moved)), 0);
        }
}
