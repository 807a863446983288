/* SPDX-License-Identifier: MIT */
/*
 * Does an MDL cost more where many are alive, or where many have come and gone? IoAllocateMdl and IoFreeMdl with 1,000,000
 * alive against the same with one; and after a long churn, against a machine that has just booted.
 *
 * An hour is modelled by what it leaves behind: CHURN replacements of one of LIVE MDLs of all sizes by another, at random.
 */

#include "bench.h"

#include <stdlib.h>

enum { MANY = 1000000, PAGES = 16, ROW = 128, CHURN = 2000000, LIVE = 20000, MOST_PAGES = 1024, WARM_UP = 100 };

static PMDL   alive[MANY];
static size_t nalive;

static PMDL allocate(size_t npages)
{
    PMDL mdl = IoAllocateMdl((PVOID)0x10000, (ULONG)(npages * PAGE_SIZE), FALSE, FALSE, NULL);

    if (mdl == NULL)
        abort();
    return mdl;
}

static void set_alive(size_t n)
{
    while (nalive < n)
        alive[nalive++] = allocate(PAGES);
    while (nalive > n)
        IoFreeMdl(alive[--nalive]);
}

static void one_by_one(uint64_t times)
{
    while (times-- > 0) {
        PMDL mdl = allocate(PAGES);

        bench_use(mdl);
        IoFreeMdl(mdl);
    }
}

/* More at a time than a thread keeps for itself. */
static void row_by_row(uint64_t times)
{
    PMDL row[ROW];

    for (uint64_t left = times; left > 0; left -= left < ROW ? left : ROW) {
        for (size_t i = 0; i < ROW; i++)
            row[i] = allocate(PAGES);
        for (size_t i = ROW; i-- > 0;)
            IoFreeMdl(row[i]);
    }
}

/* A sample is preceded by a call with no times: the million comes and goes while nobody measures. */
static void one_among_few(void *context, uint64_t times)
{
    (void)context;
    set_alive(1);
    one_by_one(times);
}

static void one_among_many(void *context, uint64_t times)
{
    (void)context;
    set_alive(MANY);
    one_by_one(times);
}

static void row_among_few(void *context, uint64_t times)
{
    (void)context;
    set_alive(1);
    row_by_row(times);
}

static void row_among_many(void *context, uint64_t times)
{
    (void)context;
    set_alive(MANY);
    row_by_row(times);
}

/* ---- churn ---- */

static bool churned;

static uint32_t next_random(void)
{
    static uint64_t state = 1;

    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33);
}

/* Small ones are the most frequent. */
static size_t random_pages(void)
{
    const uint32_t roll = next_random();

    return roll % 64 == 0 ? 1 + next_random() % MOST_PAGES : 1 + (next_random() % 64 & roll % 64);
}

static void churn(void)
{
    set_alive(LIVE);
    for (size_t i = 0; i < CHURN; i++) {
        const size_t at = next_random() % LIVE;

        IoFreeMdl(alive[at]);
        alive[at] = allocate(random_pages());
    }
    set_alive(1);
}

static void boot_anew(void)
{
    set_alive(0);
    pinion_shutdown();
    pinion_boot("verifier=off");
    churned = false;
}

static void row_after_churn(void *context, uint64_t times)
{
    (void)context;
    if (!churned) {
        churn();
        row_by_row(WARM_UP * ROW);
    }
    churned = true;
    row_by_row(times);
}

static void row_after_boot(void *context, uint64_t times)
{
    (void)context;
    if (churned) {
        boot_anew();
        row_by_row(WARM_UP * ROW);
    }
    row_by_row(times);
}

/* ---- proof ---- */

static bool is_alive(void *context)
{
    struct pinion_counters counters;

    (void)context;
    row_among_many(NULL, 1);
    pinion_counters(&counters);
    if (counters.live_mdls != MANY)
        return false;
    row_among_few(NULL, 1);
    pinion_counters(&counters);
    return counters.live_mdls == 1;
}

static bool is_churned(void *context)
{
    struct pinion_counters counters;

    (void)context;
    churn();
    pinion_counters(&counters);
    return counters.live_mdls == 1;
}

int main(int argc, char **argv)
{
    const struct bench_case cases[] = {
        {"12", "MDL of 16 pages, 1,000,000 alive", "1 alive", 1.2, 0, one_among_many, one_among_few, is_alive, NULL, NULL},
        {"12", "128 of them at once, 1,000,000 alive", "1 alive", 1.2, 0, row_among_many, row_among_few, is_alive, NULL, NULL},
        {"12", "128 of them at once, after 2,000,000 others", "after boot", 1.2, 0, row_after_churn, row_after_boot, is_churned, NULL, NULL},
    };

    pinion_boot("verifier=off");
    return bench_run(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
