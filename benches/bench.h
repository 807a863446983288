/* SPDX-License-Identifier: MIT */
/*
 * What the benchmarks share: each asks a few questions, and measures Pinion's answer and its anchor in one process,
 * interleaved, so that what slows the machine down slows both.
 *
 *     round 1   ours A | anchor A | ours B | anchor B ...
 *     round 2   ours A | anchor A | ours B | anchor B ...
 *
 * A sample is about a millisecond of repetitions; one during which the thread was put aside is taken again. The limit of a
 * case is `factor` times its anchor plus `plus_ns`. It is met when the better of minimum and median is within it; with
 * two threads only the median counts, for two that never met prove nothing.
 *
 * Where two threads work at once, each measures its own processor time and the slower one counts: what they share costs
 * both, what else runs on the machine costs neither.
 */
#ifndef PINION_BENCH_H
#define PINION_BENCH_H

#include <wdm.h>
#include <pinion/pinion.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * `ours` and `anchor` do their work so many times. Before each sample they are called with no times, and get ready: what that
 * takes is not measured.
 */
struct bench_case {
    const char *row;                    /* of the table in docs/performance.md */
    const char *question;
    const char *anchor_name;
    double      factor, plus_ns;
    void      (*ours)(void *context, uint64_t times);
    void      (*anchor)(void *context, uint64_t times);         /* NULL: plus_ns alone is the limit */
    bool      (*check)(void *context);  /* was the work done? Prints nothing */
    void       *context;
    void       *second;                 /* not NULL: a second thread works on it at the same time */
};

/*
 * --check proves the work and measures nothing; --json prints one line a case; --rounds N; --only TEXT of a row or
 * question. The exit code is 0, 1 after a failed check, 2 for a bad command line.
 */
int bench_run(int argc, char **argv, const struct bench_case *cases, size_t ncases);

/* A question that is not about time: one number, and its limit. */
struct bench_value {
    const char *row, *question, *unit;
    double      limit;
    double    (*measure)(const void *context);  /* NAN: the work was not done */
    const void *context;
};

/* As bench_run, without rounds. */
int bench_run_values(int argc, char **argv, const struct bench_value *values, size_t nvalues);

/* A case that takes its samples itself: each is the nanoseconds of one operation. */
struct bench_sampled {
    const char *row, *question, *anchor_name;
    double      factor;
    double    (*ours)(const void *context);
    double    (*anchor)(const void *context);
    bool      (*check)(const void *context);
    const void *context;
};

/* As bench_run; without --rounds it takes as few as are allowed, because such a sample is long. */
int bench_run_sampled(int argc, char **argv, const struct bench_sampled *cases, size_t ncases);

/* Keeps a value that nobody reads from being optimised away. */
static inline void bench_use(const void *value)
{
    __asm__ volatile("" : : "r"(value) : "memory");
}

/* One locked add on a line of its own: the unit of the limits for locks. */
void bench_locked_add(void);

/* Memory for a copy that does not collide with `with` in the low twelve bits of its address; never freed. */
void *bench_copy_target(const void *with, size_t bytes);

#endif
