/* SPDX-License-Identifier: MIT */
/*
 * Failures on demand. Each routine that can be made to fail has a countdown (the nth call from now) and a period
 * (each nth call); the fast path looks at one word that says whether any of them is set.
 *
 * The verifier's low resources come on top of these, for every routine: at random, by a sequence that the seed alone decides, or
 * systematically: each call stack fails the first time that it is seen, and never again.
 */

#include "ke/state.h"

#include <stdlib.h>
#include <string.h>

enum { STACK_DEPTH = 12, FIRST_ROOM = 256 };

struct failure {
    uint32_t countdown;         /* calls until the one that fails; 0: none */
    uint32_t period;            /* 0: none */
    uint32_t calls;             /* since the period was set */
};

_Atomic uint32_t ke_failures_armed;

static struct host_mutex lock = {PTHREAD_MUTEX_INITIALIZER};
static struct failure    failures[KE_FALLIBLE_COUNT];

/* What low resources do; under the lock. Call stacks that have failed are known by a hash of 64 bits; 0 is an empty place. */
static struct {
    uint32_t  flags;
    uint32_t  rate;
    uint64_t  seed, calls;
    uint64_t *seen;
    size_t    nseen, room;              /* a power of two, at most half full */
} low;

static const char *const names[KE_FALLIBLE_COUNT] = {
#define NAME(name) [KE_FALLIBLE_##name] = #name,
    KE_FALLIBLE_ROUTINES(NAME)
#undef NAME
};


static bool is_armed(const struct failure *failure)
{
    return failure->countdown != 0 || failure->period != 0;
}

static void count_armed_locked(void)
{
    uint32_t armed;

    armed = low.flags != 0;
    for (int i = 0; i < KE_FALLIBLE_COUNT; i++)
        armed += is_armed(&failures[i]);
    atomic_store(&ke_failures_armed, armed);
    ke_settle_plain();
}

static bool fails_now(struct failure *failure)
{
    bool fails = failure->period != 0 && ++failure->calls % failure->period == 0;

    if (failure->countdown != 0 && --failure->countdown == 0)
        fails = true;
    return fails;
}

void ke_failures_boot(const struct ke_options *options)
{
    host_mutex_lock(&lock);
    memset(failures, 0, sizeof(failures));
    free(low.seen);
    memset(&low, 0, sizeof(low));
    low.flags = options->verifier & (KE_VERIFIER_LOW_RESOURCES | KE_VERIFIER_SYSTEMATIC);
    low.rate = options->fault_rate;
    low.seed = options->seed;
    count_armed_locked();
    host_mutex_unlock(&lock);
}

/* ---- low resources ---- */

static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
    return x ^ (x >> 31);
}

static bool fails_at_random_locked(void)
{
    return mix(low.seed * 0x9E3779B97F4A7C15ull + ++low.calls) % 10000 < low.rate;
}

static uint64_t hash_of_stack(uintptr_t ip, uintptr_t frame)
{
    uintptr_t pcs[STACK_DEPTH];
    const size_t n = host_stack_walk(ip, frame, pcs, STACK_DEPTH);
    uint64_t hash = n;

    for (size_t i = 0; i < n; i++)
        hash = mix(hash + pcs[i]);
    return hash | 1;
}

static uint64_t *place_of(uint64_t *seen, size_t room, uint64_t hash)
{
    size_t i = hash >> 1 & (room - 1);

    while (seen[i] != 0 && seen[i] != hash)
        i = (i + 1) & (room - 1);
    return &seen[i];
}

static void make_room_locked(void)
{
    const size_t room = low.room == 0 ? FIRST_ROOM : low.room * 2;
    uint64_t *seen;

    if (low.nseen * 2 < low.room)
        return;
    seen = calloc(room, sizeof(*seen));
    if (seen == NULL)
        ke_usage("no memory is left to remember which call stacks have failed; run without flag 0x40000");
    for (size_t i = 0; i < low.room; i++)
        if (low.seen[i] != 0)
            *place_of(seen, room, low.seen[i]) = low.seen[i];
    free(low.seen);
    low.seen = seen;
    low.room = room;
}

static bool is_new_stack_locked(uint64_t hash)
{
    uint64_t *place;

    make_room_locked();
    place = place_of(low.seen, low.room, hash);
    if (*place == hash)
        return false;
    *place = hash;
    low.nseen++;
    return true;
}

/* What only Pinion itself asks for is not a driver's allocation. */
static bool fails_for_low_resources_locked(enum ke_fallible routine, uintptr_t ip, uintptr_t frame)
{
    if (low.flags == 0 || routine == KE_FALLIBLE_internal)
        return false;
    if (low.flags & KE_VERIFIER_SYSTEMATIC)
        return is_new_stack_locked(hash_of_stack(ip, frame));
    return fails_at_random_locked();
}

bool ke_fails_armed(enum ke_fallible routine)
{
    const uintptr_t ip = (uintptr_t)__builtin_return_address(0), frame = *(const uintptr_t *)__builtin_frame_address(0);
    bool fails;

    host_mutex_lock(&lock);
    fails = fails_now(&failures[routine]);
    fails |= fails_for_low_resources_locked(routine, ip, frame);
    count_armed_locked();
    host_mutex_unlock(&lock);
    if (fails)
        ke_count(KE_INJECTED_FAILURES, 1);
    return fails;
}

static struct failure *find(const char *caller, const char *ddi)
{
    for (int i = 0; i < KE_FALLIBLE_COUNT; i++)
        if (ddi != NULL && strcmp(names[i], ddi) == 0)
            return &failures[i];
    ke_usage("%s: no routine called '%s' can be made to fail; see docs/testing.md for those that can", caller,
             ddi == NULL ? "(null)" : ddi);
}

void pinion_fail(const char *ddi, unsigned nth)
{
    struct failure *failure = find("pinion_fail", ddi);

    ke_machine();
    host_mutex_lock(&lock);
    failure->countdown = nth;
    count_armed_locked();
    host_mutex_unlock(&lock);
}

void pinion_fail_every(const char *ddi, unsigned period)
{
    struct failure *failure = find("pinion_fail_every", ddi);

    ke_machine();
    host_mutex_lock(&lock);
    failure->period = period;
    failure->calls = 0;
    count_armed_locked();
    host_mutex_unlock(&lock);
}
