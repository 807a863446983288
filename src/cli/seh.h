/* SPDX-License-Identifier: MIT */
/* Windows' structured exception handling in C, rewritten for compilers that have none. */
#ifndef PINION_CLI_SEH_H
#define PINION_CLI_SEH_H

#include <stdio.h>

enum seh_outcome {
    SEH_NONE,           /* there is no __try: nothing was written */
    SEH_REWRITTEN,
    SEH_WRONG,          /* complained, with file and line */
};

/*
 * Write preprocessed C to `out` with each __try, __except, __finally and __leave turned into what pinion/seh.h describes. Line
 * markers keep every statement where its author wrote it.
 */
enum seh_outcome seh_rewrite(const char *source, FILE *out);

#endif
