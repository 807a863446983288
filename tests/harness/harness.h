/* SPDX-License-Identifier: MIT */
/*
 * What every test file includes, before anything else.
 *
 *     #include "harness.h"
 *     #include <wdm.h>
 *     #include <pinion/pinion.h>
 *
 *     // A page that refuses the access leaves every page of the MDL unlocked.
 *     TEST(mdl_lock, probe_and_lock__last_page_readonly__raises_and_locks_nothing)
 *     {
 *         ...
 *         EXPECT_RAISES(STATUS_ACCESS_VIOLATION, lock_for_write, mdl);
 *     }
 *
 * Each test runs in a process of its own, so each boots a fresh machine, and must not rely on state made before its
 * body. The first expectation that does not hold ends the test. A test that has checked nothing fails. A test must leave
 * the machine idle (expect_idle), unless it is declared TEST_UNTIDY. Two runners understand this file: Criterion
 * (criterion.c), and a small one of ours (runner.c) for what Criterion cannot do.
 *
 * This file knows nothing of the library: EXPECT_RAISES alone names one of its routines, and idle.c is the only part of
 * the harness that calls it, so that the harness can be tested by itself.
 */

#pragma once

#if HARNESS_CRITERION
#include <criterion/criterion.h>
#endif
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HARNESS_UNUSED __attribute__((unused))

/* ---- declaring tests ------------------------------------------------------------------------------------------- */

#define TEST(suite, name) HARNESS_TEST(suite, name, true)
#define TEST_UNTIDY(suite, name) HARNESS_TEST(suite, name, false)

/* The body must stop the machine with this code, and with this first parameter. */
#define STOP_TEST(suite, name, code, p1)                                                                     \
    HARNESS_CHILD_TEST(suite, name, harness_expect_stop(HARNESS_HERE, child, (code), true, (uint64_t)(p1)))
#define STOP_TEST_ANY_P1(suite, name, code)                                                                  \
    HARNESS_CHILD_TEST(suite, name, harness_expect_stop(HARNESS_HERE, child, (code), false, 0))

/* The body must give rise to one warning, this one, and go on to its end. */
#define WARN_TEST(suite, name, slug)                                                                         \
    HARNESS_CHILD_TEST(suite, name, harness_expect_warning(HARNESS_HERE, child, (slug)))

/* The body must give rise to no report at all, and leave the machine idle. */
#define SILENT_TEST(suite, name) HARNESS_CHILD_TEST(suite, name, harness_expect_silence(HARNESS_HERE, child))

/* ---- expectations ---------------------------------------------------------------------------------------------- */

#define HARNESS_HERE (&(const struct harness_place){__FILE__, __LINE__})

#define EXPECT(condition) harness_expect(HARNESS_HERE, !!(condition), #condition)

/* Integers of any type; they are compared as 64 bits, so -1 and 0xFFFFFFFF differ. */
#define EXPECT_EQ(a, b)                                                                                      \
    harness_expect_integers(HARNESS_HERE, true, #a, (unsigned long long)(a), #b, (unsigned long long)(b))
#define EXPECT_NE(a, b)                                                                                      \
    harness_expect_integers(HARNESS_HERE, false, #a, (unsigned long long)(a), #b, (unsigned long long)(b))

#define EXPECT_PTR_EQ(a, b) harness_expect_pointers(HARNESS_HERE, #a, (uintptr_t)(a), #b, (uintptr_t)(b))
#define EXPECT_MEM_EQ(a, b, n)                                                                               \
    harness_expect_memory(HARNESS_HERE, #a, (const void *)(a), #b, (const void *)(b), (size_t)(n))

#define EXPECT_STATUS(status, expected)                                                                      \
    harness_expect_status(HARNESS_HERE, #status, (uint32_t)(status), #expected, (uint32_t)(expected))
#define EXPECT_RAISES(status, body, context)                                                                 \
    harness_expect_status(HARNESS_HERE, "what " #body " raises", (uint32_t)pinion_try((body), (context)),    \
                          #status, (uint32_t)(status))

/* The host cannot do what this test needs. Counted and printed, neither a pass nor a failure. */
#define SKIP(reason) harness_skip(reason)

/* Nothing is live, locked, mapped or outstanding, and the machine shuts down without a finding. */
void expect_idle(void);

/* ---- bodies that end the process ------------------------------------------------------------------------------- */

/* How a body ended that ran in a child of its own. stderr_text stays valid until the next one. */
struct stop {
    bool stopped; /* it printed a STOP line and ended by SIGABRT */
    uint32_t code;
    uint64_t p[4];
    char name[64];
    char *stderr_text;
    int exit_status; /* exit code, or minus the signal that ended it */
};

/*
 * struct stop run_until_stop(void (*body)(void *context), void *context)
 *
 * Run a body in a forked child and say how it ended. Call it before any DDI in this test: a forked copy of a booted
 * machine does not run. An expectation that fails in the child fails the test.
 */
#define run_until_stop(body, context) harness_run_until_stop(HARNESS_HERE, (body), (context))

/* How many warnings the child printed: those with this slug, or all when slug is NULL. */
unsigned stop_warnings(const struct stop *stop, const char *slug);

/* Find the first STOP line in a text and fill code, p and name from it. */
bool stop_parse(const char *text, struct stop *out);

/* ---- behind the macros ----------------------------------------------------------------------------------------- */

struct harness_place {
    const char *file;
    int line;
};

struct harness_test {
    const char *suite;
    const char *name;
    void (*body)(void);
    bool ends_idle;
    struct harness_test *next;
};

#if HARNESS_CRITERION
#define HARNESS_REGISTER(suite_, name_)                                                                      \
    Test(suite_, name_)                                                                                      \
    {                                                                                                        \
        harness_run(&harness_test_##suite_##_##name_);                                                       \
    }
#else
#define HARNESS_REGISTER(suite_, name_)                                                                      \
    __attribute__((constructor)) static void harness_register_##suite_##_##name_(void)                       \
    {                                                                                                        \
        harness_register(&harness_test_##suite_##_##name_);                                                  \
    }
#endif

#define HARNESS_TEST(suite_, name_, ends_idle_)                                                              \
    static void harness_body_##suite_##_##name_(void);                                                       \
    static struct harness_test harness_test_##suite_##_##name_ = {                                           \
        .suite = #suite_, .name = #name_, .body = harness_body_##suite_##_##name_, .ends_idle = ends_idle_}; \
    HARNESS_REGISTER(suite_, name_)                                                                          \
    static void harness_body_##suite_##_##name_(void)

#define HARNESS_CHILD_TEST(suite_, name_, check)                                                             \
    static void harness_child_##suite_##_##name_(void *context);                                             \
    HARNESS_TEST(suite_, name_, false)                                                                       \
    {                                                                                                        \
        void (*const child)(void *) = harness_child_##suite_##_##name_;                                      \
        check;                                                                                               \
    }                                                                                                        \
    static void harness_child_##suite_##_##name_(void *context HARNESS_UNUSED)

extern _Atomic unsigned long harness_expectations;

void harness_register(struct harness_test *test);
void harness_run(const struct harness_test *test);

_Noreturn void harness_fail(const struct harness_place *place, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
_Noreturn void harness_skip(const char *reason);

void harness_expect_integers(const struct harness_place *place, bool equal, const char *a_text,
                             unsigned long long a, const char *b_text, unsigned long long b);
void harness_expect_pointers(const struct harness_place *place, const char *a_text, uintptr_t a,
                             const char *b_text, uintptr_t b);
void harness_expect_memory(const struct harness_place *place, const char *a_text, const void *a,
                           const char *b_text, const void *b, size_t bytes);
void harness_expect_status(const struct harness_place *place, const char *text, uint32_t status,
                           const char *expected_text, uint32_t expected);
struct stop harness_run_until_stop(const struct harness_place *place, void (*body)(void *), void *context);
void harness_expect_stop(const struct harness_place *place, void (*body)(void *), uint32_t code,
                         bool check_p1, uint64_t p1);
void harness_expect_warning(const struct harness_place *place, void (*body)(void *), const char *slug);
void harness_expect_silence(const struct harness_place *place, void (*body)(void *));

static inline void harness_expect(const struct harness_place *place, bool holds, const char *text)
{
    atomic_fetch_add_explicit(&harness_expectations, 1, memory_order_relaxed);
    if (!holds)
        harness_fail(place, "expected %s", text);
}
