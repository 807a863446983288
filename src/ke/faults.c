/* SPDX-License-Identifier: MIT */
/*
 * Failures on demand. Each routine that can be made to fail has a countdown (the nth call from now) and a period
 * (each nth call); the fast path looks at one word that says whether any of them is set.
 *
 * The verifier's low resources come on top of these, for every routine, by a sequence that the seed alone decides. Failures
 * that depend on the call stack are in fault_calls.c.
 */

#include "ke/state.h"
#include "rtl/mix.h"

#include <string.h>

struct failure {
    uint32_t countdown;         /* calls until the one that fails; 0: none */
    uint32_t period;            /* 0: none */
    uint32_t calls;             /* since the period was set */
};

_Atomic uint32_t ke_failures_armed;

static struct host_mutex lock = {PTHREAD_MUTEX_INITIALIZER};
static struct failure    failures[KE_FALLIBLE_COUNT];

/* The verifier's low resources at random; under the lock. */
static struct {
    bool     on;
    uint32_t rate;                      /* so many of 10000 calls fail */
    uint64_t delay;                     /* calls that succeed before */
    uint64_t seed, calls;
} random_failures;

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

    armed = random_failures.on + ke_calls_armed();
    for (int i = 0; i < KE_FALLIBLE_COUNT; i++)
        armed += is_armed(&failures[i]);
    atomic_store(&ke_failures_armed, armed);
    ke_settle_plain();
}

void ke_failures_count_armed(void)
{
    host_mutex_lock(&lock);
    count_armed_locked();
    host_mutex_unlock(&lock);
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
    memset(&random_failures, 0, sizeof(random_failures));
    random_failures.on = (options->verifier & KE_VERIFIER_LOW_RESOURCES) != 0;
    random_failures.rate = options->fault_rate;
    random_failures.delay = options->fault_delay;
    random_failures.seed = options->seed;
    ke_calls_boot(options);
    count_armed_locked();
    host_mutex_unlock(&lock);
}

/* ---- low resources ---- */

/* What only Pinion itself asks for is not a driver's allocation. */
static bool fails_at_random_locked(enum ke_fallible routine)
{
    if (!random_failures.on || routine == KE_FALLIBLE_internal || ++random_failures.calls <= random_failures.delay)
        return false;
    return rtl_mix(random_failures.seed * 0x9E3779B97F4A7C15ull + random_failures.calls) % 10000 < random_failures.rate;
}

bool ke_fails_armed(enum ke_fallible routine)
{
    const uintptr_t ip = (uintptr_t)__builtin_return_address(0), frame = *(const uintptr_t *)__builtin_frame_address(0);
    bool fails;

    host_mutex_lock(&lock);
    fails = fails_now(&failures[routine]);
    fails |= fails_at_random_locked(routine);
    count_armed_locked();
    host_mutex_unlock(&lock);
    if (routine != KE_FALLIBLE_internal && ke_calls_armed())
        fails |= ke_call_fails(names[routine], ip, frame);
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
