/* SPDX-License-Identifier: MIT */
/*
 * Preprocessed C as tokens, for `pinion cc`. Nothing is lost: printing each token's `before` and `text` gives the source again.
 */
#ifndef PINION_CLI_TOKENS_H
#define PINION_CLI_TOKENS_H

#include <stdbool.h>
#include <stddef.h>

enum token_kind { TOKEN_WORD, TOKEN_NUMBER, TOKEN_STRING, TOKEN_OTHER };        /* of the last, each character is a token */

/* A line of the source as its author knows it; the preprocessor's line markers tell. */
struct place {
    const char *file;           /* not terminated, with its quotes; NULL in front of the first marker */
    size_t      file_bytes;
    unsigned    line;
    bool        system;         /* in a system header, where compilers warn less */
};

struct token {
    const char     *before;     /* white space, line markers and pragmas in front of it */
    const char     *text;
    size_t          before_bytes, text_bytes;
    size_t          match;      /* of a bracket: the index of its counterpart, or its own where there is none */
    enum token_kind kind;
    struct place    place;      /* where `before` begins */
};

struct tokens {
    struct token *at;
    size_t        n;
    size_t        unmatched;    /* the first bracket whose counterpart is missing or of another kind; n: there is none */
    const char   *end;          /* what follows the last token, up to the end of the source */
};

/* The source must live as long as the tokens. False: no memory. */
bool tokens_read(struct tokens *tokens, const char *source);
void tokens_free(struct tokens *tokens);

bool token_is(const struct token *token, const char *text);

/* The place of the token itself. */
struct place token_place(const struct token *token);

#endif
