/* SPDX-License-Identifier: MIT */
/*
 * The buddy allocator against a model that knows of each page only whether it is free: random takes and
 * gives, with the checker run after each, and objects broken by hand that the checker must refuse.
 */

#include "harness.h"

#include "rtl/buddy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct fixture {
    struct rtl_buddy buddy;
    void *bitmaps;
    bool *is_free; /* the model */
    size_t npages;
    uint64_t random;
};

static struct fixture open_fixture(size_t npages, uint64_t seed)
{
    struct fixture f = {.npages = npages, .random = seed};

    f.bitmaps = calloc(1, rtl_buddy_bytes(npages));
    f.is_free = calloc(npages, sizeof(*f.is_free));
    rtl_buddy_init(&f.buddy, npages, f.bitmaps);
    return f;
}

static void close_fixture(struct fixture *f)
{
    free(f->bitmaps);
    free(f->is_free);
}

static size_t below(struct fixture *f, size_t limit)
{
    f->random ^= f->random << 13;
    f->random ^= f->random >> 7;
    f->random ^= f->random << 17;
    return (size_t)(f->random % limit);
}

/* ---- the model ---- */

static bool model_is_free(const struct fixture *f, size_t first, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!f->is_free[first + i])
            return false;
    return true;
}

static void model_set(struct fixture *f, size_t first, size_t n, bool is_free)
{
    for (size_t i = 0; i < n; i++)
        f->is_free[first + i] = is_free;
}

static size_t model_count(const struct fixture *f)
{
    size_t count = 0;

    for (size_t i = 0; i < f->npages; i++)
        count += f->is_free[i];
    return count;
}

/* Pages of the largest aligned block whose size is a power of two and that is free throughout; 0 when
   nothing is free. */
static size_t model_largest(const struct fixture *f)
{
    for (size_t size = (size_t)1 << 20; size > 0; size /= 2)
        for (size_t first = 0; first + size <= f->npages; first += size)
            if (model_is_free(f, first, size))
                return size;
    return 0;
}

static void expect_sound(const struct fixture *f)
{
    const char *why = "nothing";

    if (!rtl_buddy_check(&f->buddy, &why))
        harness_fail(HARNESS_HERE, "the allocator of %zu pages is unsound: %s", f->npages, why);
    EXPECT_EQ(f->buddy.nfree, model_count(f));
}

/* ---- steps ---- */

static size_t power_of_two_from(size_t n)
{
    size_t power = 1;

    while (power < n)
        power *= 2;
    return power;
}

static void take_some(struct fixture *f)
{
    const size_t n = 1 + below(f, f->npages);
    const size_t largest = model_largest(f);
    size_t first = 0;
    const size_t got = rtl_buddy_take_run(&f->buddy, n, &first);

    EXPECT_EQ(got, largest >= power_of_two_from(n) ? n : largest);
    EXPECT(got <= f->npages && first <= f->npages - got);
    EXPECT(model_is_free(f, first, got));
    model_set(f, first, got, false);
}

static void take_exactly(struct fixture *f)
{
    const size_t first = below(f, f->npages);
    const size_t n = 1 + below(f, f->npages - first);
    const bool possible = model_is_free(f, first, n);

    EXPECT_EQ(rtl_buddy_take_exact(&f->buddy, first, n), possible);
    if (possible)
        model_set(f, first, n, false);
}

/* Give back a part of what is taken; it need not be what one take had given. */
static void give_some(struct fixture *f)
{
    size_t first = below(f, f->npages);
    size_t n = 0;

    while (first < f->npages && f->is_free[first])
        first++;
    while (first + n < f->npages && !f->is_free[first + n] && n < 1 + f->npages / 3)
        n++;
    rtl_buddy_give(&f->buddy, first, n);
    model_set(f, first, n, true);
}

static void look_at_one(struct fixture *f)
{
    const size_t page = below(f, f->npages);
    size_t start = 0;
    const size_t have = rtl_buddy_block_at(&f->buddy, page, &start);

    EXPECT_EQ(have != 0, f->is_free[page]);
    if (have == 0)
        return;
    EXPECT(start <= page && page - start < have);
    EXPECT_EQ(have & (have - 1), 0);
    EXPECT_EQ(start % have, 0);
    EXPECT(model_is_free(f, start, have));
}

static void one_step(struct fixture *f)
{
    switch (below(f, 5)) {
    case 0: take_some(f); break;
    case 1: take_exactly(f); break;
    case 2: look_at_one(f); break;
    default: give_some(f); break;
    }
}

static void run_against_model(size_t npages, unsigned steps, uint64_t seed)
{
    struct fixture f = open_fixture(npages, seed);

    printf("rtl_buddy: %zu pages, seed %llu\n", npages, (unsigned long long)seed);
    expect_sound(&f);
    for (unsigned i = 0; i < steps; i++) {
        one_step(&f);
        expect_sound(&f);
    }
    close_fixture(&f);
}

/* Whatever is taken and given in whatever order, no page is handed out twice, none is lost, and every
   invariant holds. */
TEST(rtl_buddy, random_steps__around_powers_of_two__agree_with_the_model)
{
    static const size_t sizes[] = {1, 2, 3, 7, 8, 63, 64, 65, 127, 129, 500};

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        run_against_model(sizes[i], 1500, 0x9E3779B97F4A7C15u + sizes[i]);
}

/* The same where the bitmaps need three levels of summaries. */
TEST(rtl_buddy, random_steps__three_levels_of_summaries__agree_with_the_model)
{
    run_against_model(64 * 64 + 1, 250, 7);
}

/* ---- single properties ---- */

/* Memory that is all zero is an allocator with nothing free. */
TEST(rtl_buddy, init__zeroed_memory__has_nothing_free)
{
    struct fixture f = open_fixture(100, 1);
    size_t first;

    expect_sound(&f);
    EXPECT_EQ(rtl_buddy_take_run(&f.buddy, 1, &first), 0);
    EXPECT(!rtl_buddy_take_exact(&f.buddy, 5, 1));
    EXPECT_EQ(rtl_buddy_block_at(&f.buddy, 99, &first), 0);
    close_fixture(&f);
}

/* Pages that are given one by one, in any order, merge into the block that they make up. */
TEST(rtl_buddy, give__single_pages_of_a_block__merge)
{
    struct fixture f = open_fixture(64, 3);
    size_t first;

    for (size_t i = 0; i < 64; i++)
        rtl_buddy_give(&f.buddy, i * 37 % 64, 1);
    EXPECT_EQ(rtl_buddy_block_at(&f.buddy, 63, &first), 64);
    EXPECT_EQ(rtl_buddy_take_run(&f.buddy, 64, &first), 64);
    EXPECT_EQ(first, 0);
    close_fixture(&f);
}

/* Low numbers go first, so that memory in use stays together. */
TEST(rtl_buddy, take_run__several_blocks_fit__is_the_lowest)
{
    struct fixture f = open_fixture(256, 3);
    size_t first;

    rtl_buddy_give(&f.buddy, 192, 8);
    rtl_buddy_give(&f.buddy, 64, 8);
    rtl_buddy_give(&f.buddy, 128, 8);
    EXPECT_EQ(rtl_buddy_take_run(&f.buddy, 8, &first), 8);
    EXPECT_EQ(first, 64);
    close_fixture(&f);
}

/* A length of nothing takes nothing, and a range past the end is refused. */
TEST(rtl_buddy, take__nothing_or_past_the_end__takes_nothing)
{
    struct fixture f = open_fixture(10, 3);
    size_t first;

    rtl_buddy_give(&f.buddy, 0, 10);
    model_set(&f, 0, 10, true);
    EXPECT_EQ(rtl_buddy_take_run(&f.buddy, 0, &first), 0);
    EXPECT(!rtl_buddy_take_exact(&f.buddy, 8, 3));
    EXPECT(!rtl_buddy_take_exact(&f.buddy, 11, 0));
    EXPECT(!rtl_buddy_take_exact(&f.buddy, 5, SIZE_MAX - 2));
    expect_sound(&f);
    close_fixture(&f);
}

/* The largest allocator that there may be serves its first and its last page. */
TEST(rtl_buddy, largest_allocator__first_and_last_page__are_served)
{
    struct fixture f = open_fixture(((size_t)1 << 23) - 1, 3);
    const size_t last = f.npages - 1;
    size_t first;

    rtl_buddy_give(&f.buddy, 0, f.npages);
    EXPECT_EQ(rtl_buddy_take_run(&f.buddy, (size_t)1 << 22, &first), (size_t)1 << 22);
    EXPECT_EQ(first, 0);
    EXPECT(rtl_buddy_take_exact(&f.buddy, last, 1));
    EXPECT_EQ(rtl_buddy_block_at(&f.buddy, last, &first), 0);
    rtl_buddy_give(&f.buddy, last, 1);
    rtl_buddy_give(&f.buddy, 0, (size_t)1 << 22);
    EXPECT_EQ(f.buddy.nfree, f.npages);
    EXPECT_EQ(rtl_buddy_block_at(&f.buddy, 0, &first), (size_t)1 << 22);
    close_fixture(&f);
}

/* ---- broken objects ---- */

static void set_bit(struct rtl_buddy *buddy, unsigned order, size_t i)
{
    for (unsigned level = 0; level < buddy->order[order].nlevels; level++, i /= 64)
        buddy->order[order].levels[level][i / 64] |= 1ull << (i % 64);
}

static void expect_refused(struct fixture *f, const char *reason)
{
    const char *why = "nothing";

    EXPECT(!rtl_buddy_check(&f->buddy, &why));
    EXPECT(strstr(why, reason) != NULL);
    close_fixture(f);
}

/* The checker refuses a page that is free twice over: in a block, and in a larger one around it. */
TEST(rtl_buddy, check__page_in_two_blocks__is_refused)
{
    struct fixture f = open_fixture(64, 3);

    rtl_buddy_give(&f.buddy, 0, 16);
    set_bit(&f.buddy, 0, 5);
    f.buddy.nfree++;
    expect_refused(&f, "two free blocks");
}

/* The checker refuses two free buddies that were not merged. */
TEST(rtl_buddy, check__unmerged_buddies__are_refused)
{
    struct fixture f = open_fixture(64, 3);

    rtl_buddy_give(&f.buddy, 8, 4);
    set_bit(&f.buddy, 2, 3);
    f.buddy.nfree += 4;
    expect_refused(&f, "two buddies");
}

/* The checker refuses a summary that hides a free block, and one that announces a block that is not there. */
TEST(rtl_buddy, check__wrong_summary__is_refused)
{
    struct fixture hidden = open_fixture(500, 3), invented = open_fixture(500, 3);

    rtl_buddy_give(&hidden.buddy, 100, 1);
    hidden.buddy.order[0].levels[1][0] = 0;
    expect_refused(&hidden, "summary");
    rtl_buddy_give(&invented.buddy, 100, 1);
    invented.buddy.order[0].levels[1][0] |= 1;
    expect_refused(&invented, "summary");
}

/* The checker refuses a count of free pages that is not the sum. */
TEST(rtl_buddy, check__wrong_count__is_refused)
{
    struct fixture f = open_fixture(64, 3);

    rtl_buddy_give(&f.buddy, 3, 9);
    f.buddy.nfree--;
    expect_refused(&f, "nfree");
}

/* The checker refuses a free block that reaches past the last page. */
TEST(rtl_buddy, check__block_past_the_end__is_refused)
{
    struct fixture f = open_fixture(5, 3);

    set_bit(&f.buddy, 2, 1);
    f.buddy.nfree += 4;
    expect_refused(&f, "past the end");
}
