/* SPDX-License-Identifier: MIT */
/* The harness of the benchmarks: rounds, samples, statistics, output. bench.h says what a case is. */

#include "bench.h"

#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum { DEFAULT_ROUNDS = 31, FEWEST_ROUNDS = 15, MOST_ROUNDS = 1001, MOST_CASES = 64, MOST_RETAKES = 5, TRIALS = 5 };

#define SAMPLE_NS 1e6

struct options {
    bool        check, json;
    int         rounds;
    const char *only;
};

/* One side of a case: nanoseconds an operation, a sample each round. */
struct series {
    uint64_t times;
    double   ns[MOST_ROUNDS];
    double   min, median, p99;
};

struct result {
    struct series ours, anchor;
};

static struct result results[MOST_CASES];

/* ---- samples ---- */

static double now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static long times_put_aside(void)
{
    struct rusage usage;

    getrusage(RUSAGE_THREAD, &usage);
    return usage.ru_nivcsw;
}

static double run_ns(void (*work)(void *, uint64_t), void *context, uint64_t times)
{
    const double start = now_ns();

    work(context, times);
    return now_ns() - start;
}

/* ---- two threads ---- */

static struct second {
    const struct bench_case *job;
    uint64_t                 times;
    double                   ns;
    pthread_t                thread;
    pthread_barrier_t        start, end;
    _Atomic unsigned         arrived;       /* threads that spin, so that none begins before the other runs */
} second;

static void stay_on(size_t cpu)
{
    cpu_set_t cpus;

    CPU_ZERO(&cpus);
    CPU_SET(cpu, &cpus);
    pthread_setaffinity_np(pthread_self(), sizeof(cpus), &cpus);
}

static void start_together(void)
{
    pthread_barrier_wait(&second.start);
    atomic_fetch_add(&second.arrived, 1);
    while (atomic_load(&second.arrived) % 2 != 0)
        ;
}

static double processor_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static double work_ns(void (*work)(void *, uint64_t), void *context, uint64_t times)
{
    const double start = processor_ns();

    work(context, times);
    return processor_ns() - start;
}

static void *second_thread(void *unused)
{
    (void)unused;
    stay_on(1);
    for (;;) {
        start_together();
        second.ns = work_ns(second.job->ours, second.job->second, second.times);
        pthread_barrier_wait(&second.end);
    }
    return NULL;
}

static double run_two_ns(const struct bench_case *job, uint64_t times)
{
    double ns;

    if (second.job == NULL) {
        stay_on(0);
        pthread_barrier_init(&second.start, NULL, 2);
        pthread_barrier_init(&second.end, NULL, 2);
        pthread_create(&second.thread, NULL, second_thread, NULL);
    }
    second.job = job;
    second.times = times;
    start_together();
    ns = work_ns(job->ours, job->context, times);
    pthread_barrier_wait(&second.end);
    return ns > second.ns ? ns : second.ns;
}

/* ---- one side of a case ---- */

static double run_side_ns(const struct bench_case *job, bool anchor, uint64_t times)
{
    void (*const work)(void *, uint64_t) = anchor ? job->anchor : job->ours;

    work(job->context, 0);
    if (job->second == NULL)
        return run_ns(work, job->context, times);
    return anchor ? work_ns(work, job->context, times) : run_two_ns(job, times);
}

/* The best of a few runs: one during which a thread was put aside must not pass for a long one. */
static double best_side_ns(const struct bench_case *job, bool anchor, uint64_t times)
{
    double best = run_side_ns(job, anchor, times);

    for (int trial = 1; trial < TRIALS && best >= SAMPLE_NS / 4; trial++) {
        const double ns = run_side_ns(job, anchor, times);

        best = ns < best ? ns : best;
    }
    return best;
}

static uint64_t times_for_a_sample(const struct bench_case *job, bool anchor)
{
    uint64_t times = 1;

    while (times < (uint64_t)1 << 40) {
        const double ns = best_side_ns(job, anchor, times);

        if (ns >= SAMPLE_NS / 4)
            return (uint64_t)((double)times * (job->second == NULL ? 1 : 4) * SAMPLE_NS / ns) + 1;
        times *= 2;
    }
    return times;
}

static double sample(const struct bench_case *job, bool anchor, uint64_t times)
{
    double ns = 0;

    for (int take = 0; take < MOST_RETAKES; take++) {
        const long before = times_put_aside();

        ns = run_side_ns(job, anchor, times);
        if (times_put_aside() == before)
            break;
    }
    return ns / (double)times;
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void summarize(struct series *series, int rounds)
{
    qsort(series->ns, (size_t)rounds, sizeof(series->ns[0]), compare);
    series->min = series->ns[0];
    series->median = series->ns[rounds / 2];
    series->p99 = series->ns[(rounds * 99 - 1) / 100];
}

/* ---- the table ---- */

static bool is_met(const struct bench_case *c, const struct result *r)
{
    const bool median = r->ours.median <= c->factor * r->anchor.median + c->plus_ns;

    return c->second != NULL ? median : median || r->ours.min <= c->factor * r->anchor.min + c->plus_ns;
}

static void print_case(const struct bench_case *c, const struct result *r, const struct options *options)
{
    const double ratio = c->factor == 0 ? NAN : r->ours.median / r->anchor.median;

    if (options->json) {
        printf("{\"row\":\"%s\",\"question\":\"%s\",\"ours_ns\":{\"min\":%.3f,\"median\":%.3f,\"p99\":%.3f},", c->row, c->question,
               r->ours.min, r->ours.median, r->ours.p99);
        if (c->factor != 0)
            printf("\"anchor\":\"%s\",\"anchor_ns\":{\"min\":%.3f,\"median\":%.3f,\"p99\":%.3f},\"ratio\":%.4f,", c->anchor_name,
                   r->anchor.min, r->anchor.median, r->anchor.p99, ratio);
        printf("\"factor\":%g,\"plus_ns\":%g,\"rounds\":%d,\"met\":%s}\n", c->factor, c->plus_ns, options->rounds,
               is_met(c, r) ? "true" : "false");
        return;
    }
    printf("%-4s %-44s %10.2f %10.2f %10.2f", c->row, c->question, r->ours.min, r->ours.median, r->ours.p99);
    if (c->factor == 0)
        printf("  %-24s %10s %8s  %.4g ns", "-", "-", "-", c->plus_ns);
    else
        printf("  %-24s %10.2f %8.3f  %.4g x%s%.4g ns", c->anchor_name, r->anchor.median, ratio, c->factor, c->plus_ns < 0 ? " " : " + ",
               c->plus_ns);
    printf("  %s\n", is_met(c, r) ? "met" : "NOT MET");
}

static void measure(const struct bench_case **cases, size_t ncases, const struct options *options)
{
    for (size_t i = 0; i < ncases; i++) {
        results[i].ours.times = times_for_a_sample(cases[i], false);
        if (cases[i]->anchor != NULL)
            results[i].anchor.times = times_for_a_sample(cases[i], true);
    }
    for (int round = 0; round < options->rounds; round++)
        for (size_t i = 0; i < ncases; i++) {
            results[i].ours.ns[round] = sample(cases[i], false, results[i].ours.times);
            if (cases[i]->anchor != NULL)
                results[i].anchor.ns[round] = sample(cases[i], true, results[i].anchor.times);
        }
    for (size_t i = 0; i < ncases; i++) {
        summarize(&results[i].ours, options->rounds);
        summarize(&results[i].anchor, options->rounds);
        print_case(cases[i], &results[i], options);
    }
}

static bool print_check(const char *row, const char *question, bool done)
{
    printf("%-6s %-4s %s\n", done ? "ok" : "FAILED", row, question);
    return done;
}

static int check(const struct bench_case **cases, size_t ncases)
{
    int failed = 0;

    for (size_t i = 0; i < ncases; i++) {
        const bool done = cases[i]->check != NULL && cases[i]->check(cases[i]->context);

        failed |= !print_check(cases[i]->row, cases[i]->question, done);
    }
    return failed;
}

static bool read_options(int argc, char **argv, struct options *options)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--check") == 0)
            options->check = true;
        else if (strcmp(argv[i], "--json") == 0)
            options->json = true;
        else if (strcmp(argv[i], "--rounds") == 0 && i + 1 < argc)
            options->rounds = atoi(argv[++i]);
        else if (strcmp(argv[i], "--only") == 0 && i + 1 < argc)
            options->only = argv[++i];
        else
            return false;
    }
    return options->rounds >= FEWEST_ROUNDS && options->rounds <= MOST_ROUNDS;
}

static bool parse(int argc, char **argv, int rounds, struct options *options)
{
    bool good;

    *options = (struct options){.rounds = rounds};
    good = read_options(argc, argv, options);

    if (!good)
        fprintf(stderr, "usage: %s [--check] [--json] [--rounds %d..%d] [--only TEXT]\n", argv[0], FEWEST_ROUNDS, MOST_ROUNDS);
    return good;
}

static bool is_chosen(const struct options *options, const char *row, const char *question)
{
    return options->only == NULL || strcmp(row, options->only) == 0 || strstr(question, options->only) != NULL;
}

int bench_run(int argc, char **argv, const struct bench_case *cases, size_t ncases)
{
    const struct bench_case *chosen[MOST_CASES];
    struct options options;
    size_t nchosen = 0;

    if (!parse(argc, argv, DEFAULT_ROUNDS, &options))
        return 2;
    for (size_t i = 0; i < ncases && nchosen < MOST_CASES; i++)
        if (is_chosen(&options, cases[i].row, cases[i].question))
            chosen[nchosen++] = &cases[i];
    if (options.check)
        return check(chosen, nchosen);
    measure(chosen, nchosen, &options);
    return 0;
}

/* ---- cases that take their samples themselves ---- */

static void take_samples(const struct bench_sampled *c, int rounds, struct result *result)
{
    for (int round = 0; round < rounds; round++) {
        result->ours.ns[round] = c->ours(c->context);
        result->anchor.ns[round] = c->anchor(c->context);
    }
    summarize(&result->ours, rounds);
    summarize(&result->anchor, rounds);
}

int bench_run_sampled(int argc, char **argv, const struct bench_sampled *cases, size_t ncases)
{
    struct options options;
    bool failed = false;

    if (!parse(argc, argv, FEWEST_ROUNDS, &options))
        return 2;
    for (size_t i = 0; i < ncases; i++) {
        const struct bench_sampled *c = &cases[i];
        const struct bench_case shown = {.row = c->row, .question = c->question, .anchor_name = c->anchor_name, .factor = c->factor};

        if (!is_chosen(&options, c->row, c->question))
            continue;
        if (options.check) {
            failed |= !print_check(c->row, c->question, c->check(c->context));
            continue;
        }
        take_samples(c, options.rounds, &results[0]);
        print_case(&shown, &results[0], &options);
        fflush(stdout);
    }
    return failed;
}

/* ---- values ---- */

static void print_value(const struct bench_value *v, double value, const struct options *options)
{
    const bool met = value <= v->limit;

    if (options->json)
        printf("{\"row\":\"%s\",\"question\":\"%s\",\"value\":%.3f,\"unit\":\"%s\",\"limit\":%g,\"met\":%s}\n", v->row, v->question, value,
               v->unit, v->limit, met ? "true" : "false");
    else
        printf("%-4s %-44s %10.2f %10s %10s  %-24s %10s %8s  %.6g %s  %s\n", v->row, v->question, value, "-", "-", "-", "-", "-", v->limit,
               v->unit, met ? "met" : "NOT MET");
}

int bench_run_values(int argc, char **argv, const struct bench_value *values, size_t nvalues)
{
    struct options options;
    bool failed = false;

    if (!parse(argc, argv, FEWEST_ROUNDS, &options))
        return 2;
    for (size_t i = 0; i < nvalues; i++) {
        double value;

        if (!is_chosen(&options, values[i].row, values[i].question))
            continue;
        value = values[i].measure(values[i].context);
        if (options.check)
            failed |= !print_check(values[i].row, values[i].question, !isnan(value));
        else
            print_value(&values[i], value, &options);
        fflush(stdout);
    }
    return failed;
}

/* ---- helpers ---- */

static _Alignas(64) _Atomic uint32_t locked_word;

void bench_locked_add(void)
{
    atomic_fetch_add(&locked_word, 1);
}

void *bench_copy_target(const void *with, size_t bytes)
{
    char *memory = aligned_alloc(4096, (bytes + 2 * 4096 - 1) & ~(size_t)4095);

    return memory == NULL ? NULL : memory + (((uintptr_t)with + 2048) & 4032);
}
