/* SPDX-License-Identifier: MIT */
/* What Microsoft's compiler alone knows, rewritten: structured exception handling, and suffixes of literals. */
#ifndef PINION_CLI_REWRITE_H
#define PINION_CLI_REWRITE_H

#include <stdio.h>

enum rewritten {
    REWRITTEN_NOTHING,  /* there is nothing to rewrite, and nothing was written */
    REWRITTEN,
    REWRITTEN_WRONGLY,  /* complained, with file and line */
};

/*
 * Write preprocessed C to `out` with each __try, __except, __finally and __leave turned into what pinion/seh.h describes, and
 * 10i64 into 10ll. Line markers keep every statement where its author wrote it.
 */
enum rewritten rewrite_source(const char *source, FILE *out);

#endif
