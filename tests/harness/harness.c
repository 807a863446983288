/* SPDX-License-Identifier: MIT */
/*
 * Running one test, and the expectations. Nothing here knows which runner is below, or that a library is under test.
 */

#include "harness.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "backend.h"

_Atomic unsigned long harness_expectations;

unsigned harness_timeout(void)
{
    const char *text = getenv("HARNESS_TIMEOUT");
    const long seconds = text ? strtol(text, NULL, 10) : 0;

    return seconds > 0 ? (unsigned)seconds : 60;
}

pid_t harness_fork(void)
{
    const pid_t parent = getpid();

    fflush(NULL);
    const pid_t child = fork();
    if (child != 0)
        return child;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    signal(SIGALRM, SIG_DFL);
    alarm(harness_timeout());
    return 0;
}

void harness_run(const struct harness_test *test)
{
    alarm(harness_timeout());
    harness_expectations = 0;
    test->body();
    if (harness_expectations == 0)
        harness_fail(HARNESS_HERE, "%s/%s checked nothing", test->suite, test->name);
    if (test->ends_idle)
        expect_idle();
    alarm(0);
}

void harness_fail(const struct harness_place *place, const char *format, ...)
{
    char message[2048];
    va_list args;

    va_start(args, format);
    vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    if (child_is_current())
        child_fail(place, message);
    backend_fail(place, message);
}

void harness_skip(const char *reason)
{
    if (child_is_current())
        child_skip(reason);
    backend_skip(reason);
}

void harness_expect_integers(const struct harness_place *place, bool equal, const char *a_text,
                             unsigned long long a, const char *b_text, unsigned long long b)
{
    harness_expectations++;
    if ((a == b) != equal)
        harness_fail(place, "expected %s %s %s: 0x%llX (%lld) and 0x%llX (%lld)", a_text,
                     equal ? "==" : "!=", b_text, a, (long long)a, b, (long long)b);
}

void harness_expect_pointers(const struct harness_place *place, const char *a_text, uintptr_t a,
                             const char *b_text, uintptr_t b)
{
    harness_expectations++;
    if (a != b)
        harness_fail(place, "expected %s == %s: %p and %p", a_text, b_text, (void *)a, (void *)b);
}

void harness_expect_status(const struct harness_place *place, const char *text, uint32_t status,
                           const char *expected_text, uint32_t expected)
{
    harness_expectations++;
    if (status != expected)
        harness_fail(place, "expected %s to be %s (0x%08X): it is 0x%08X", text, expected_text, expected,
                     status);
}

static void print_bytes(char *out, size_t size, const unsigned char *bytes, size_t count)
{
    size_t at = 0;

    out[0] = 0;
    for (size_t i = 0; i < count && at + 4 <= size; i++)
        at += (size_t)snprintf(out + at, size - at, i ? " %02X" : "%02X", bytes[i]);
}

void harness_expect_memory(const struct harness_place *place, const char *a_text, const void *a,
                           const char *b_text, const void *b, size_t bytes)
{
    const unsigned char *const left = a;
    const unsigned char *const right = b;
    char left_text[64], right_text[64];
    size_t first = 0;

    harness_expectations++;
    if (memcmp(a, b, bytes) == 0)
        return;
    while (left[first] == right[first])
        first++;
    const size_t shown = bytes - first < 16 ? bytes - first : 16;
    print_bytes(left_text, sizeof(left_text), left + first, shown);
    print_bytes(right_text, sizeof(right_text), right + first, shown);
    harness_fail(place,
                 "expected %zu bytes of %s and %s to be equal: from byte %zu (0x%zX) on they are %s and %s",
                 bytes, a_text, b_text, first, first, left_text, right_text);
}
