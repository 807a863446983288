/* SPDX-License-Identifier: MIT */
/* The progress bar: one line on a terminal, redrawn in place. Where stderr is no terminal there is none. */

#include "cli/cli.h"

#include <unistd.h>

enum { BAR_CELLS = 30 };

static _Atomic bool drawn;          /* a bar stands on the line; workers that complain clear it too */

void progress_show(const char *what, double fraction, uint64_t bytes, uint64_t ns)
{
    static const char cells[] = "##############################";
    const double done = fraction > 1 ? 1 : fraction;

    if (!isatty(STDERR_FILENO))
        return;
    fprintf(stderr, "\r%s [%-*.*s] %3.0f%%  %.2f GB  %.2f GB/s ", what, BAR_CELLS, (int)(done * BAR_CELLS), cells,
            done * 100, (double)bytes / 1e9, ns == 0 ? 0.0 : (double)bytes / (double)ns);
    fflush(stderr);
    atomic_store(&drawn, true);
}

void progress_clear(void)
{
    if (atomic_exchange(&drawn, false))
        fputs("\r\033[K", stderr);
}
