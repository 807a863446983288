/* SPDX-License-Identifier: MIT */
/*
 * The memory of MDLs: where a block lies, what it holds, that it comes back to whoever asks next, and that
 * the end of a thread loses none.
 */

#include "harness.h"

#include "mdl/state.h"

#include <stdlib.h>
#include <string.h>

/* Counts of PFNs around every place where the kind or the class of a block changes. */
static const size_t capacities[] = {0,   1,   2,   7,    8,    9,     15,      16,      17,
                                    63,  64,  65,  127,  128,  200,   255,     256,     257,
                                    258, 504, 505, 1000, 4088, 65535, 0xFFFFF, 0x100000};

enum { KINDS = sizeof(capacities) / sizeof(capacities[0]) };

/* Without special pool, which is not block.c's. */
static struct machine *boot(void)
{
    EXPECT_EQ(pinion_boot("ram=16M:verifier=0x9B8"), 0);
    return ke_machine();
}

static PMDL take(struct machine *machine, size_t npages)
{
    PMDL mdl = mdl_block_take(machine, npages);

    EXPECT(mdl != NULL);
    return mdl;
}

/* The first byte behind the PFN array of a block. */
static uintptr_t end_of(PMDL mdl, size_t npages)
{
    return (uintptr_t)(mdl_pfns(mdl) + npages);
}

/* Every block is one of ours, starts 16 bytes into a cache line, and its PFN array at the next line. */
TEST(mdl_block, take__any_capacity__is_ours_and_aligned)
{
    struct machine *machine = boot();

    for (size_t i = 0; i < KINDS; i++) {
        PMDL mdl = take(machine, capacities[i]);

        EXPECT_EQ((uintptr_t)mdl % 64, 16);
        EXPECT_EQ((uintptr_t)mdl_pfns(mdl) % 64, 0);
        EXPECT(mdl_block_is_ours(machine, mdl));
        EXPECT(mdl_block_is_live(machine, mdl));
        EXPECT_EQ(mdl_capacity(machine, mdl), capacities[i]);
        mdl_block_give(machine, mdl);
        EXPECT(!mdl_block_is_live(machine, mdl));
    }
}

/* All of a block's PFN array is the block's own: blocks that are alive at the same time do not touch. */
TEST(mdl_block, take__many_at_once__do_not_overlap)
{
    enum { EACH = 40 };
    struct machine *machine = boot();
    static PMDL mdls[KINDS][EACH];

    for (size_t i = 0; i < KINDS; i++) {
        for (size_t k = 0; k < (capacities[i] < 5000 ? EACH : 2); k++) {
            mdls[i][k] = take(machine, capacities[i]);
            memset(mdls[i][k], (int)(i * EACH + k),
                   end_of(mdls[i][k], capacities[i]) - (uintptr_t)mdls[i][k]);
        }
    }
    for (size_t i = 0; i < KINDS; i++) {
        for (size_t k = 0; k < EACH && mdls[i][k] != NULL; k++) {
            const unsigned char *bytes = (const unsigned char *)mdls[i][k];

            for (size_t b = 0; b < sizeof(MDL) + capacities[i] * sizeof(PFN_NUMBER); b++)
                if (bytes[b] != (unsigned char)(i * EACH + k))
                    harness_fail(HARNESS_HERE, "block %zu of %zu PFNs is overwritten at %zu", k,
                                 capacities[i], b);
            EXPECT_EQ(mdl_capacity(machine, mdls[i][k]), capacities[i]);
            mdl_block_give(machine, mdls[i][k]);
        }
    }
}

/* A block that was just given back is the next one taken, whatever the capacity inside its class. */
TEST(mdl_block, take__after_give__is_the_same_block)
{
    struct machine *machine = boot();
    PMDL small = take(machine, 1), again, large;

    mdl_block_give(machine, small);
    again = take(machine, 8);
    EXPECT_PTR_EQ(again, small);
    EXPECT_EQ(mdl_capacity(machine, again), 8);
    EXPECT(mdl_block_is_live(machine, again));
    mdl_block_give(machine, again);
    large = take(machine, 5000);
    mdl_block_give(machine, large);
    EXPECT_PTR_EQ(take(machine, 5000), large);
    mdl_block_give(machine, large);
}

/* Addresses outside the range, or inside but at no block, are told apart without a look at them. */
TEST(mdl_block, is_ours__around_the_range__is_exact)
{
    struct machine *machine = boot();
    MDL on_stack = {0};
    PMDL mdl = take(machine, 3);
    uintptr_t low = (uintptr_t)mdl, high = low;

    EXPECT(!mdl_block_is_ours(machine, &on_stack));
    EXPECT(!mdl_block_is_ours(machine, NULL));
    EXPECT(!mdl_block_is_live(machine, &on_stack));
    EXPECT(!mdl_block_is_live(machine, NULL));
    EXPECT(!mdl_block_is_live(machine, (PMDL)(low + 8)));
    EXPECT(!mdl_block_is_live(machine, (PMDL)(low - 16)));
    while (mdl_block_is_ours(machine, (PMDL)(low - HOST_PAGE_SIZE)))
        low -= HOST_PAGE_SIZE;
    while (mdl_block_is_ours(machine, (PMDL)(high + HOST_PAGE_SIZE)))
        high += HOST_PAGE_SIZE;
    low &= ~(uintptr_t)(HOST_PAGE_SIZE - 1);
    high |= HOST_PAGE_SIZE - 1;
    EXPECT_EQ(high - low + 1, (size_t)2 << 30);
    EXPECT(mdl_block_is_ours(machine, (PMDL)low));
    EXPECT(!mdl_block_is_ours(machine, (PMDL)(low - 1)));
    EXPECT(mdl_block_is_ours(machine, (PMDL)high));
    EXPECT(!mdl_block_is_ours(machine, (PMDL)(high + 1)));
    mdl_block_give(machine, mdl);
}

/* What a driver's own MDL has room for is what its Size says; a Size that says nothing is no room. */
TEST(mdl_block, capacity__of_a_drivers_own_mdl__is_what_size_says)
{
    static const struct {
        USHORT size;
        size_t npages;
    } rows[] = {{0, 0},        {47, 0},      {48, 0}, {55, 0}, {56, 1}, {63, 1}, {64, 2}, {48 + 8 * 100, 100},
                {65528, 8185}, {65535, 8185}};
    struct machine *machine = boot();
    MDL own = {0};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        own.Size = (CSHORT)rows[i].size;
        EXPECT_EQ(mdl_capacity(machine, &own), rows[i].npages);
    }
}

/* The range holds more than a hundred of the largest MDLs; then there is NULL, and all is there again once
   they are back. */
TEST(mdl_block, take__until_the_range_is_full__is_null_and_recovers)
{
    enum { LARGEST = 0x100000, ROOM = 400 };
    struct machine *machine = boot();
    PMDL mdls[ROOM];
    size_t counts[2];

    for (size_t round = 0; round < 2; round++) {
        size_t n = 0;

        while (n < ROOM && (mdls[n] = mdl_block_take(machine, LARGEST)) != NULL)
            n++;
        counts[round] = n;
        while (n-- > 0)
            mdl_block_give(machine, mdls[n]);
    }
    EXPECT(counts[0] > 100 && counts[0] < ROOM);
    EXPECT_EQ(counts[0], counts[1]);
}

/* Small blocks are there until the range is full, and a full range gives NULL for them too. */
TEST(mdl_block, take__small_ones_while_the_range_is_full__is_null)
{
    enum { ROOM = 10000 };
    struct machine *machine = boot();
    static PMDL mdls[ROOM];
    PMDL small[64];
    size_t n = 0, nsmall = 0;

    for (size_t pages = 4096; pages > 0; pages /= 2)
        for (PMDL mdl;
             n < ROOM && (mdl = mdl_block_take(machine, (pages * HOST_PAGE_SIZE - 64) / 8)) != NULL;)
            mdls[n++] = mdl;
    EXPECT(n < ROOM);
    EXPECT_PTR_EQ(mdl_block_take(machine, 100), NULL);
    while (n-- > 1)
        mdl_block_give(machine, mdls[n]);
    while (nsmall < 64)
        small[nsmall++] = take(machine, 100);
    while (nsmall-- > 0)
        mdl_block_give(machine, small[nsmall]);
    mdl_block_give(machine, mdls[0]);
}

/* ---- threads ---- */

enum { MANY = 300 };

struct work {
    struct machine *machine;
    PMDL mdls[MANY];
};

static void take_many(void *context)
{
    struct work *work = context;

    for (size_t i = 0; i < MANY; i++)
        work->mdls[i] = take(work->machine, 20);
}

static void give_many(void *context)
{
    struct work *work = context;

    for (size_t i = 0; i < MANY; i++)
        mdl_block_give(work->machine, work->mdls[i]);
}

static void take_and_give_many(void *context)
{
    take_many(context);
    give_many(context);
}

static void on_a_thread(void (*body)(void *), struct work *work)
{
    struct host_thread thread;

    EXPECT_EQ(host_thread_start(&thread, body, work), 0);
    host_thread_join(&thread);
}

/* All addresses that any work has used so far. */
struct seen {
    PMDL mdls[20 * MANY];
    size_t n;
};

static void see(struct seen *seen, PMDL mdl)
{
    for (size_t i = 0; i < seen->n; i++)
        if (seen->mdls[i] == mdl)
            return;
    EXPECT(seen->n < 20 * MANY);
    seen->mdls[seen->n++] = mdl;
}

static void see_all(struct seen *seen, const struct work *work)
{
    for (size_t i = 0; i < MANY; i++)
        see(seen, work->mdls[i]);
}

/* What a thread kept for itself when it ended serves later ones: many threads in turn need hardly more
   blocks than one. */
TEST(mdl_block, thread_exit__many_threads_in_turn__share_the_same_blocks)
{
    struct work work = {.machine = boot()};
    static struct seen seen;

    for (unsigned i = 0; i < 40; i++) {
        on_a_thread(take_and_give_many, &work);
        see_all(&seen, &work);
    }
    EXPECT(seen.n < 2 * MANY);
}

/* Blocks that one thread takes and another gives back are not lost, in either direction. */
TEST(mdl_block, give__on_another_thread__serves_again)
{
    struct work work = {.machine = boot()};
    static struct seen seen;

    for (unsigned i = 0; i < 20; i++) {
        take_many(&work);
        on_a_thread(give_many, &work);
        see_all(&seen, &work);
        on_a_thread(take_many, &work);
        give_many(&work);
        see_all(&seen, &work);
    }
    EXPECT(seen.n < 2 * MANY);
}

/* A machine that is booted anew starts with no blocks of the one before, also in a thread that had cached
   some. */
TEST(mdl_block, boot_again__cached_blocks__are_forgotten)
{
    struct work work = {.machine = boot()};

    take_and_give_many(&work);
    EXPECT_EQ(pinion_shutdown(), 0);
    work.machine = boot();
    take_many(&work);
    for (size_t i = 0; i < MANY; i++)
        EXPECT(mdl_block_is_live(work.machine, work.mdls[i]));
    give_many(&work);
}
