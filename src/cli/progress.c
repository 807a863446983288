/* SPDX-License-Identifier: MIT */
/* The progress bar: one line on a terminal, redrawn in place. Where stderr is no terminal there is none. */

#include "cli/cli.h"

#include <unistd.h>

enum { BAR_CELLS = 30 };

static _Atomic bool drawn;          /* a bar stands on the line; workers that complain clear it too */

static void draw(const char *what, double fraction, const char *rest)
{
    static const char cells[] = "##############################";
    const double done = fraction > 1 ? 1 : fraction;

    fprintf(stderr, "\r%s [%-*.*s] %3.0f%%  %s ", what, BAR_CELLS, (int)(done * BAR_CELLS), cells, done * 100, rest);
    fflush(stderr);
    atomic_store(&drawn, true);
}

void progress_show(const char *what, double fraction, uint64_t bytes, uint64_t ns)
{
    char rest[64];

    if (!isatty(STDERR_FILENO))
        return;
    snprintf(rest, sizeof(rest), "%.2f GB  %.2f GB/s", (double)bytes / 1e9, ns == 0 ? 0.0 : (double)bytes / (double)ns);
    draw(what, fraction, rest);
}

void progress_count(const char *what, size_t done, size_t total, size_t bad)
{
    char rest[96];

    if (!isatty(STDERR_FILENO))
        return;
    snprintf(rest, sizeof(rest), "%zu of %zu, %zu not well", done, total, bad);
    draw(what, total == 0 ? 0 : (double)done / (double)total, rest);
}

void progress_clear(void)
{
    if (atomic_exchange(&drawn, false))
        fputs("\r\033[K", stderr);
}
