/* SPDX-License-Identifier: MIT */
/*
 * Failures on demand. Each routine that can be made to fail has a countdown (the nth call from now) and a period
 * (each nth call); the fast path looks at one word that says whether any of them is set.
 */

#include "ke/state.h"

#include <string.h>

struct failure {
    uint32_t countdown;         /* calls until the one that fails; 0: none */
    uint32_t period;            /* 0: none */
    uint32_t calls;             /* since the period was set */
};

_Atomic uint32_t ke_failures_armed;

static struct host_mutex lock = {PTHREAD_MUTEX_INITIALIZER};
static struct failure    failures[KE_FALLIBLE_COUNT];

static const char *const names[KE_FALLIBLE_COUNT] = {
#define NAME(name) [KE_FALLIBLE_##name] = #name,
    KE_FALLIBLE_ROUTINES(NAME)
#undef NAME
};

void ke_failures_reset(void)
{
    host_mutex_lock(&lock);
    memset(failures, 0, sizeof(failures));
    atomic_store(&ke_failures_armed, 0);
    host_mutex_unlock(&lock);
}

static bool is_armed(const struct failure *failure)
{
    return failure->countdown != 0 || failure->period != 0;
}

static void count_armed_locked(void)
{
    uint32_t armed = 0;

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

bool ke_fails_armed(enum ke_fallible routine)
{
    bool fails;

    host_mutex_lock(&lock);
    fails = fails_now(&failures[routine]);
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
