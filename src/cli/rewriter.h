/* SPDX-License-Identifier: MIT */
/*
 * What the files share that rewrite a source: its tokens, and the output with its lines kept. functions.c goes through the source and
 * rewrites declarations, seh.c the bodies of functions that have a __try.
 */
#ifndef PINION_CLI_REWRITER_H
#define PINION_CLI_REWRITER_H

#include "cli/tokens.h"

#include <stdio.h>

struct rewriter {
    const struct tokens *tokens;
    FILE    *out;
    unsigned nframes, nvalues;          /* names are numbered */
    unsigned depth, ncopies;            /* of statements in each other, and of __finally blocks that the function has been given */
    size_t   last;                      /* the last statement of the block that was written last */
    size_t   pattern, pattern_end;      /* the attributes of a function with __try; none: the header was not in front */
    bool     returns_nothing;           /* the function is void */
    bool     wrong;
};

/* ---- tokens; one behind the last is an empty word, so that no question about the next token needs one about the end ---- */

const struct token *rw_token_at(const struct rewriter *rewriter, size_t at);
bool   rw_is(const struct rewriter *rewriter, size_t at, const char *text);
bool   rw_is_one_of(const struct rewriter *rewriter, size_t at, const char *const *words);      /* ends with NULL */
bool   rw_is_try(const struct rewriter *rewriter, size_t at);
size_t rw_behind(const struct rewriter *rewriter, size_t bracket);      /* what follows its counterpart; of any other token the next */

/* The suffix of a literal such as 10i64 as the rest of the world writes it; NULL: there is none. How long the number is goes to *digits. */
const char *rw_standard_suffix(const struct token *token, size_t *digits);

/* An error as compilers print it; only the first is. */
void rw_complain(struct rewriter *rewriter, size_t at, const char *what);

/* ---- writing ---- */

void   rw_write_text(struct rewriter *rewriter, const char *format, ...) __attribute__((format(printf, 2, 3)));
void   rw_write_before(struct rewriter *rewriter, size_t at);
size_t rw_write_token(struct rewriter *rewriter, size_t at);            /* the next one */

/* The token that is written next stands where it does in the source, and not where the output has come to. */
void   rw_move_to(struct rewriter *rewriter, size_t at);

/* ---- seh.c ---- */

/* The body of a function: its block; what follows that. */
size_t rw_write_body(struct rewriter *rewriter, size_t body);

#endif
