/* SPDX-License-Identifier: MIT */
/*
 * Sweeps: a whole job, done as a driver does it, with the nth call of one routine failing for n = 1, 2, 3
 * ... until the job succeeds; then with every call of it failing. A job that fails has undone everything:
 * the counters are as before.
 *
 * `internal` is an allocation that the library makes for itself, where the host could refuse.
 */

#pragma once

#include "../contract/support.h"

#include <string.h>

enum { MOST_CALLS = 300 };

struct job {
    const char *name;
    NTSTATUS (*run)(PVOID context);
    const char *const *routines; /* that it calls, each at least once; ends with NULL */
};

static inline uint64_t failures_so_far(void)
{
    struct pinion_totals totals;

    pinion_totals(&totals);
    return totals.injected_failures;
}

static inline void expect_undone(const struct job *job, const char *routine, unsigned n,
                                 struct pinion_counters before)
{
    const struct pinion_counters now = counters_now();

    if (now.live_mdls != before.live_mdls || now.locked_pages != before.locked_pages ||
        now.system_mappings != before.system_mappings ||
        now.system_pages_mapped != before.system_pages_mapped || now.live_irps != before.live_irps ||
        now.outstanding_lists != before.outstanding_lists)
        harness_fail(HARNESS_HERE, "%s with call %u of %s failing leaves something behind", job->name, n,
                     routine);
    EXPECT_SAME_COUNTERS(before);
}

/* How many calls of the routine the job makes: as many as could be made to fail, one after the other. */
static inline unsigned sweep(const struct job *job, const char *routine, PVOID context)
{
    for (unsigned n = 1; n <= MOST_CALLS; n++) {
        const struct pinion_counters before = counters_now();
        const uint64_t failures = failures_so_far();
        NTSTATUS status;

        pinion_fail(routine, n);
        status = job->run(context);
        expect_undone(job, routine, n, before);
        if (failures_so_far() == failures) {
            pinion_fail(routine, 0);
            EXPECT_STATUS(status, STATUS_SUCCESS);
            return n - 1;
        }
        EXPECT_EQ(failures_so_far(), failures + 1);
        if (strcmp(routine, "internal") !=
            0) /* there may be a second way to what the library wants for itself */
            EXPECT_STATUS(status, STATUS_INSUFFICIENT_RESOURCES);
    }
    harness_fail(HARNESS_HERE, "%s calls %s without end", job->name, routine);
}

static inline void sweep_all(const struct job *job, PVOID context)
{
    EXPECT_STATUS(job->run(context), STATUS_SUCCESS);
    for (const char *const *routine = job->routines; *routine != NULL; routine++) {
        const struct pinion_counters before = counters_now();

        if (sweep(job, *routine, context) == 0)
            harness_fail(HARNESS_HERE, "%s never calls %s", job->name, *routine);
        pinion_fail_every(*routine, 1);
        EXPECT_STATUS(job->run(context), STATUS_INSUFFICIENT_RESOURCES);
        expect_undone(job, *routine, 0, before);
        pinion_fail_every(*routine, 0);
        EXPECT_STATUS(job->run(context), STATUS_SUCCESS);
    }
}
