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

/* Numbers that count up, numbers that go round in a zone of 2^k, and numbers that do so backwards. */
static const struct rtl_steps progressions[] = {
    {.base = 0, .place = 0xFFFFFFF0, .step = 1, .mask = ~(uint64_t)0},
    {.base = 0x200000, .place = 5, .step = 0x2f3d5, .mask = 0x7FFFF},
    {.base = 7, .place = 3, .step = 61, .mask = 63},
};
enum { PROGRESSIONS = sizeof(progressions) / sizeof(progressions[0]) };

/* A progression is stored number by number, and not a byte more. */
TEST(lanes, store_steps__any_length_and_alignment__same_as_scalar)
{
    uint64_t expected[MOST], room[MOST + SHIFTS + 2];

    for (size_t i = 0; i < PROGRESSIONS * (MOST + 1); i++) {
        const struct rtl_steps *steps = &progressions[i % PROGRESSIONS];
        const size_t n = i / PROGRESSIONS;

        scalar()->store_steps(expected, steps, n);
        for (size_t b = 0; b < nbodies; b++)
            for (size_t shift = 0; shift < SHIFTS; shift++) {
                memset(room, 0x55, sizeof(room));
                bodies[b]->store_steps(room + 1 + shift, steps, n);
                EXPECT_EQ(memcmp(expect_untouched_around(room + 1 + shift, n), expected, n * sizeof(uint64_t)), 0);
            }
        rtl_store_steps(room, steps, n);
        EXPECT_EQ(memcmp(room, expected, n * sizeof(uint64_t)), 0);
    }
}

/* The count ends where a number is not the progression's, wherever that is. */
TEST(lanes, count_steps__broken_anywhere__same_as_scalar)
{
    uint64_t numbers[MOST];

    for (size_t i = 0; i < PROGRESSIONS * (MOST + 1); i++) {
        const struct rtl_steps *steps = &progressions[i % PROGRESSIONS];
        const size_t n = i / PROGRESSIONS;

        for (size_t broken = 0; broken <= n; broken++) {
            scalar()->store_steps(numbers, steps, n);
            if (broken < n)
                numbers[broken] ^= (uint64_t)1 << (broken % 64);
            for (size_t b = 0; b < nbodies; b++)
                EXPECT_EQ(bodies[b]->count_steps(numbers, steps, n), broken);
        }
    }
}

/* One bit that differs anywhere is seen. */
TEST(lanes, equal__one_bit_differs__same_as_scalar)
{
    uint64_t one[MOST], other[MOST];

    for (size_t n = 0; n <= MOST; n++)
        for (size_t place = 0; place <= n; place++) {
            scalar()->store_steps(one, &progressions[0], n);
            scalar()->store_steps(other, &progressions[0], n);
            if (place < n)
                other[place] ^= (uint64_t)1 << (place % 64);
            for (size_t b = 0; b < nbodies; b++)
                EXPECT_EQ(bodies[b]->equal(one, other, n), place == n);
            EXPECT_EQ(rtl_equal(one, other, n), place == n);
        }
}

/* A byte that differs under the mask is seen; beyond the mask, and beyond the end, none is. */
TEST(lanes, all_bytes__one_differs__same_as_scalar)
{
    _Atomic uint8_t bytes[MOST + 1 + RTL_SLACK_BYTES] = {0};

    for (size_t n = 0; n <= MOST; n++)
        for (size_t place = 0; place <= n; place++) {
            for (size_t i = 0; i <= n; i++)
                bytes[i] = i == n ? 0 : (uint8_t)(0x13 | (i % 2) << 7);
            if (place < n)
                bytes[place] ^= 0x02;
            scalar();
            for (size_t b = 0; b < nbodies; b++)
                EXPECT_EQ(bodies[b]->all_bytes(bytes, n, 0x7F, 0x13), place == n);
            EXPECT_EQ(rtl_all_bytes(bytes, n, 0x7F, 0x13), place == n);
        }
}

/* Bytes count up to the first zero, whatever they are. */
TEST(lanes, count_nonzero__one_is_zero__same_as_scalar)
{
    _Atomic uint8_t bytes[MOST + 1];

    for (size_t n = 0; n <= MOST; n++)
        for (size_t place = 0; place <= n; place++) {
            for (size_t i = 0; i <= n; i++)
                bytes[i] = (uint8_t)(i == place ? 0 : 1 << (i % 8));
            scalar();
            for (size_t b = 0; b < nbodies; b++)
                EXPECT_EQ(bodies[b]->count_nonzero(bytes, n), place);
            EXPECT_EQ(rtl_count_nonzero(bytes, n), place);
        }
}

/* The first of equal words is found, and none beyond the end. */
TEST(lanes, find_word__anywhere_or_not_at_all__same_as_scalar)
{
    _Atomic uint64_t words[MOST + 1];

    for (size_t n = 0; n <= MOST; n++)
        for (size_t place = 0; place <= n; place++) {
            for (size_t i = 0; i <= n; i++)
                words[i] = i >= place ? 0xABCD00000042 : i;
            scalar();
            for (size_t b = 0; b < nbodies; b++)
                EXPECT_EQ(bodies[b]->find_word(words, n, 0xABCD00000042), place);
            EXPECT_EQ(rtl_find_word(words, n, 0xABCD00000042), place);
        }
}

/* Runs of all lengths, as many breaks as there are. */
TEST(lanes, count_breaks__runs_of_any_length__same_as_scalar)
{
    uint64_t numbers[MOST + SHIFTS];

    scalar();
    for (size_t run = 1; run <= MOST; run++) {
        for (size_t i = 0; i < MOST + SHIFTS; i++)
            numbers[i] = i + i / run * 5;
        for (size_t n = 0; n <= MOST; n++)
            for (size_t b = 0; b < nbodies; b++)
                for (size_t shift = 0; shift < SHIFTS; shift++)
                    EXPECT_EQ(bodies[b]->count_breaks(numbers + shift, n), scalar()->count_breaks(numbers + shift, n));
        EXPECT_EQ(scalar()->count_breaks(numbers, MOST), (MOST - 1) / run);
    }
}

/* A move is memmove, whichever way the two arrays overlap. */
TEST(copy, move_words__any_length_and_overlap__same_as_memmove)
{
    enum { ROOM = 64, MIDDLE = 20 };
    uint64_t moved[ROOM], expected[ROOM];

    for (size_t n = 0; n <= 20; n++)
        for (size_t to = 0; to + n <= ROOM; to++) {
            scalar()->store_steps(moved, &progressions[0], ROOM);
            scalar()->store_steps(expected, &progressions[0], ROOM);
            rtl_move_words(moved + to, moved + MIDDLE, n);
            memmove(expected + to, expected + MIDDLE, n * sizeof(uint64_t));
            EXPECT_EQ(memcmp(moved, expected, sizeof(moved)), 0);
        }
}
