/* SPDX-License-Identifier: MIT */
/*
 * Tests whose outcome is known, many of them failures: selftest/check runs each and compares. Suites say what must
 * happen: good_* passes, bad_* fails, skipped_* is skipped. Nothing here needs the library; it stands in for its output.
 */

#include "harness.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backend.h"

static bool is_idle = true;

void expect_idle(void)
{
    EXPECT(is_idle);
}

void harness_shut_down(void)
{
}

static int32_t pinion_try(void (*body)(void *), void *context)
{
    body(context);
    return *(int32_t *)context;
}

static void nothing(void *context HARNESS_UNUSED)
{
}

static _Noreturn void stop(unsigned code, unsigned long long p1)
{
    fprintf(stderr, "a line before\n*** STOP: 0x%08X (0x%llX, 0x2, 0xFFFF800012345678, 0x0) SOME_NAME\n",
            code, p1);
    fprintf(stderr, "*** STOP: 0x00000099 (0x9, 0x9, 0x9, 0x9) A_LATER_ONE\n");
    abort();
}

static void warn(const char *slug)
{
    fprintf(stderr, "pinion: warning: %s: something is odd\n", slug);
}

TEST(good_expect, all_kinds__hold__pass)
{
    int32_t status = (int32_t)0xC0000005;

    EXPECT(1 + 1 == 2);
    EXPECT_EQ((short)-1, -1L);
    EXPECT_NE(-1, 0xFFFFFFFFu);
    EXPECT_PTR_EQ(&status, (const void *)&status);
    EXPECT_MEM_EQ("abc", "abd", 2);
    EXPECT_STATUS(status, 0xC0000005u);
    EXPECT_RAISES(0xC0000005u, nothing, &status);
}

TEST(bad_expect, false_condition__fails)
{
    EXPECT(1 + 1 == 3);
}

TEST(bad_expect, unequal_integers__fails_with_both)
{
    EXPECT_EQ(0xABC, 10);
}

TEST(bad_expect, equal_integers__fails)
{
    EXPECT_NE(7, 7);
}

TEST(bad_expect, unequal_pointers__fails)
{
    EXPECT_PTR_EQ((void *)0x1000, (void *)0x2000);
}

TEST(bad_expect, unequal_memory__fails_with_first_difference)
{
    EXPECT_MEM_EQ("0123456789", "01234567x9", 11);
}

TEST(bad_expect, other_status__fails_with_both)
{
    EXPECT_STATUS(0xC0000005u, 0xC00000A1u);
}

TEST(bad_expect, nothing_raised__fails)
{
    int32_t status = 0;

    EXPECT_RAISES(0xC0000005u, nothing, &status);
}

TEST(bad_expect, nothing_checked__fails)
{
}

TEST(bad_expect, failure_is_the_end_of_the_test__fails)
{
    EXPECT(false);
    fprintf(stderr, "reached the line behind\n");
}

static void *fail_on_thread(void *context HARNESS_UNUSED)
{
    EXPECT(1 + 2 == 4);
    return NULL;
}

TEST(bad_expect, failure_on_another_thread__fails)
{
    pthread_t thread;

    EXPECT(pthread_create(&thread, NULL, fail_on_thread, NULL) == 0);
    pthread_join(thread, NULL);
}

TEST(bad_end, crash__fails)
{
    EXPECT(true);
    raise(SIGSEGV);
}

TEST(bad_end, early_exit__fails)
{
    EXPECT(true);
    _exit(3);
}

TEST(bad_end, timeout__fails)
{
    EXPECT(true);
    pause();
}

TEST(bad_end, machine_not_idle__fails)
{
    EXPECT(true);
    is_idle = false;
}

TEST_UNTIDY(good_end, machine_not_idle_when_untidy__passes)
{
    EXPECT(true);
    is_idle = false;
}

TEST(skipped_skip, with_a_reason__is_skipped)
{
    SKIP("no such host");
}

STOP_TEST(skipped_skip, in_a_child__is_skipped, 0xC4, 0x62)
{
    SKIP("no such host");
}

STOP_TEST(good_stop, same_code_and_first_parameter__passes, 0xC4, 0x62)
{
    stop(0xC4, 0x62);
}

STOP_TEST_ANY_P1(good_stop, any_first_parameter__passes, 0xC4)
{
    stop(0xC4, 0x1234);
}

STOP_TEST(bad_stop, other_code__fails, 0xC4, 0x62)
{
    stop(0xC5, 0x62);
}

STOP_TEST(bad_stop, other_first_parameter__fails, 0xC4, 0x62)
{
    stop(0xC4, 0x63);
}

STOP_TEST(bad_stop, no_stop__fails, 0xC4, 0x62)
{
}

STOP_TEST(bad_stop, line_without_the_signal__fails, 0xC4, 0x62)
{
    fprintf(stderr, "*** STOP: 0x000000C4 (0x62, 0x0, 0x0, 0x0) SOME_NAME\n");
}

STOP_TEST(bad_stop, signal_without_the_line__fails, 0xC4, 0x62)
{
    fprintf(stderr, "in the middle *** STOP: 0x000000C4 (0x62, 0x0, 0x0, 0x0) SOME_NAME\n");
    abort();
}

STOP_TEST(bad_stop, expectation_in_the_child__fails, 0xC4, 0x62)
{
    EXPECT(2 + 2 == 5);
    stop(0xC4, 0x62);
}

STOP_TEST(bad_stop, copied_machine__fails, 0xC4, 0x62)
{
    _exit(2);
}

STOP_TEST(bad_stop, timeout__fails, 0xC4, 0x62)
{
    pause();
}

static void stop_with_context(void *context)
{
    stop(0x50, *(unsigned long long *)context);
}

TEST(good_stop, run_until_stop__gives_every_part)
{
    unsigned long long p1 = 0xFFFFF80000001000;
    const struct stop got = run_until_stop(stop_with_context, &p1);

    EXPECT(got.stopped);
    EXPECT_EQ(got.exit_status, -SIGABRT);
    EXPECT_EQ(got.code, 0x50);
    EXPECT_EQ(got.p[0], p1);
    EXPECT_EQ(got.p[1], 2);
    EXPECT_EQ(got.p[2], 0xFFFF800012345678);
    EXPECT_EQ(got.p[3], 0);
    EXPECT(strcmp(got.name, "SOME_NAME") == 0);
    EXPECT(strstr(got.stderr_text, "a line before\n") == got.stderr_text);
}

static void print_much(void *context HARNESS_UNUSED)
{
    for (int i = 0; i < 1 << 17; i++)
        fputs("0123456789\n", stderr);
}

TEST(good_stop, much_output__does_not_block)
{
    const struct stop got = run_until_stop(print_much, NULL);

    EXPECT(!got.stopped);
    EXPECT_EQ(got.exit_status, 0);
}

TEST(good_stop, parse__malformed_lines__are_refused)
{
    struct stop got = {.code = 7};

    EXPECT(!stop_parse("", &got));
    EXPECT(!stop_parse("*** STOP: ", &got));
    EXPECT(!stop_parse("*** STOP: 0x000000C4 (0x62, 0x0, 0x0) NAME\n", &got));
    EXPECT(!stop_parse("*** STOP: 0x000000C4 (0x62, 0x0, 0x0, 0x0)", &got));
    EXPECT_EQ(got.code, 7);
}

WARN_TEST(good_warn, the_warning_once__passes, "some-slug")
{
    warn("some-slug");
}

WARN_TEST(bad_warn, no_warning__fails, "some-slug")
{
}

WARN_TEST(bad_warn, other_warning__fails, "some-slug")
{
    warn("some-slug-too");
}

WARN_TEST(bad_warn, twice__fails, "some-slug")
{
    warn("some-slug");
    warn("some-slug");
}

WARN_TEST(bad_warn, another_one_besides__fails, "some-slug")
{
    warn("some-slug");
    warn("other-slug");
}

WARN_TEST(bad_warn, stop_behind_it__fails, "some-slug")
{
    warn("some-slug");
    stop(0xC4, 0);
}

SILENT_TEST(good_silence, other_output__passes)
{
    fprintf(stderr, "just talking\n");
}

SILENT_TEST(bad_silence, warning__fails)
{
    warn("some-slug");
}

SILENT_TEST(bad_silence, stop__fails)
{
    stop(0xC4, 0);
}

SILENT_TEST(bad_silence, machine_not_idle__fails)
{
    is_idle = false;
}
