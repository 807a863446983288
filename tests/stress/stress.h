/* SPDX-License-Identifier: MIT */
/*
 * What the stress tests share: a seed that is printed and can be given again (STRESS_SEED), random numbers
 * for each thread, and work that is bounded by rounds rather than by time.
 */

#pragma once

#include "../contract/support.h"
#include "../contract/threads.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct rng {
    uint64_t state;
};

static inline uint64_t random_word(struct rng *rng)
{
    rng->state ^= rng->state << 13;
    rng->state ^= rng->state >> 7;
    rng->state ^= rng->state << 17;
    return rng->state;
}

static inline unsigned random_below(struct rng *rng, unsigned limit)
{
    return (unsigned)(random_word(rng) >> 11) % limit;
}

/* The seed of this test, printed. */
static inline uint64_t stress_seed(const char *test)
{
    const char *const text = getenv("STRESS_SEED");
    const uint64_t seed = text != NULL ? strtoull(text, NULL, 0) : now_ms() * 2654435761u + 1;

    printf("%s: STRESS_SEED=%llu\n", test, (unsigned long long)seed);
    fflush(stdout);
    return seed;
}

/* A generator of its own for each thread; never one that gives zeros only. */
static inline struct rng rng_of_thread(uint64_t seed, unsigned thread)
{
    return (struct rng){(seed + thread + 1) * 0x9E3779B97F4A7C15u | 1};
}

/* A thread that repeats something for as long as others work. */
struct background {
    struct test_thread thread;
    void (*step)(void *context);
    void *context;
    _Atomic bool stop;
    _Atomic uint64_t steps;
};

static inline void background_main(void *context)
{
    struct background *const background = context;

    do {
        background->step(background->context);
        atomic_fetch_add(&background->steps, 1);
    } while (!atomic_load(&background->stop));
}

static inline void background_start(struct background *background, void (*step)(void *context), void *context)
{
    background->step = step;
    background->context = context;
    atomic_store(&background->stop, false);
    atomic_store(&background->steps, 0);
    thread_start(&background->thread, background_main, background);
}

/* How often it did it. */
static inline uint64_t background_end(struct background *background)
{
    atomic_store(&background->stop, true);
    thread_join(&background->thread);
    return atomic_load(&background->steps);
}
