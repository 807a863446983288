/* SPDX-License-Identifier: MIT */
/*
 * Criterion as the runner: it starts a process for each test and has the main function. Its way out of a test is a
 * jump on the test's own thread, so a failure on any other thread is printed and ends the process. It does not mention
 * skipped tests by itself.
 */

#include "harness.h"

#include <stdio.h>
#include <unistd.h>

#include "backend.h"

static bool on_test_thread(void)
{
    return gettid() == getpid();
}

void backend_fail(const struct harness_place *place, const char *message)
{
    struct criterion_assert_stats stats = {
        .passed = false, .file = place->file, .line = (unsigned)place->line, .message = message};

    if (!on_test_thread()) {
        fprintf(stderr, "%s:%d: %s\n", place->file, place->line, message);
        _exit(1);
    }
    criterion_send_assert(&stats);
    criterion_abort_test();
    _exit(1);
}

void backend_skip(const char *reason)
{
    fprintf(stderr, "SKIP %s/%s: %s\n", criterion_current_test->category, criterion_current_test->name,
            reason);
    criterion_skip_test("%s", reason);
    _exit(1);
}
