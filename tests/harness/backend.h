/* SPDX-License-Identifier: MIT */
/*
 * What the parts of the harness say to each other: a runner (criterion.c or runner.c) below, harness.c in the middle,
 * child.c and idle.c beside it. Test files do not include this.
 */

#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct harness_place;

/* Given by the runner: end the running test as failed or skipped. */
_Noreturn void backend_fail(const struct harness_place *place, const char *message);
_Noreturn void backend_skip(const char *reason);

/* Given by child.c: whether this process is the child of run_until_stop, and how it ends there. */
bool child_is_current(void);
_Noreturn void child_fail(const struct harness_place *place, const char *message);
_Noreturn void child_skip(const char *reason);

/* Given by idle.c: shut the machine down whatever it has found; the findings were looked at elsewhere. */
void harness_shut_down(void);

/* Given by harness.c: seconds that one test, and one child, may take (HARNESS_TIMEOUT, or 60). */
unsigned harness_timeout(void);

/* Given by harness.c: fork with flushed streams; the child dies with its parent and after harness_timeout(). */
pid_t harness_fork(void);
