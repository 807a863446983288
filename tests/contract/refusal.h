/* SPDX-License-Identifier: MIT */
/*
 * Mistakes in the use of Pinion itself: a line on stderr, and the end of the process. They are made in a forked child, of a process whose
 * machine may be running, which run_until_stop does not allow.
 */

#pragma once

#include "harness.h"

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct refusal {
    int exit_status;            /* exit code, or minus the signal */
    char text[1024];            /* the beginning of its stderr */
};

static inline struct refusal refusal_of(void (*body)(void *context), void *context)
{
    struct refusal refusal = {0};
    size_t used = 0;
    ssize_t n;
    int fds[2], status;

    EXPECT_EQ(pipe(fds), 0);
    fflush(NULL);
    const pid_t child = fork();
    if (child == 0) {
        dup2(fds[1], STDERR_FILENO);
        body(context);
        _exit(0);
    }
    close(fds[1]);
    while ((n = read(fds[0], refusal.text + used, sizeof(refusal.text) - 1 - used)) > 0)
        used += (size_t)n;
    close(fds[0]);
    EXPECT_EQ(waitpid(child, &status, 0), child);
    refusal.exit_status = WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
    return refusal;
}

/* Lines of Pinion's; a sanitizer may add its own when a process exits. */
static inline size_t count_our_lines(const char *text)
{
    size_t lines = strncmp(text, "pinion: ", 8) == 0;

    for (const char *at = text; (at = strstr(at, "\npinion: ")) != NULL; at++)
        lines++;
    return lines;
}

/* One line, and it comes first. */
static inline void expect_one_line(const char *text)
{
    EXPECT_EQ(strncmp(text, "pinion: ", 8), 0);
    EXPECT_EQ(count_our_lines(text), 1);
}
