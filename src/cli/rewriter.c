/* SPDX-License-Identifier: MIT */
/* Questions about the tokens of a source, and writing them. */

#include "cli/rewriter.h"

#include <stdarg.h>
#include <string.h>
#include <strings.h>

/* ---- tokens ---- */

const struct token *rw_token_at(const struct rewriter *rewriter, size_t at)
{
    static const struct token none = {.text = "", .before = ""};

    return at < rewriter->tokens->n ? &rewriter->tokens->at[at] : &none;
}

bool rw_is(const struct rewriter *rewriter, size_t at, const char *text)
{
    return token_is(rw_token_at(rewriter, at), text);
}

bool rw_is_one_of(const struct rewriter *rewriter, size_t at, const char *const *words)
{
    while (*words != NULL && !rw_is(rewriter, at, *words))
        words++;
    return *words != NULL;
}

/* Sources of old say try and mean __try: that is a macro of Windows' headers, and no C otherwise. */
bool rw_is_try(const struct rewriter *rewriter, size_t at)
{
    return rw_is(rewriter, at, "__try") || (rw_is(rewriter, at, "try") && rw_is(rewriter, at + 1, "{"));
}

size_t rw_behind(const struct rewriter *rewriter, size_t bracket)
{
    return rw_token_at(rewriter, bracket)->match + 1;
}

void rw_complain(struct rewriter *rewriter, size_t at, const char *what)
{
    const struct place place = token_place(rw_token_at(rewriter, at));

    if (!rewriter->wrong && place.file != NULL)
        fprintf(stderr, "%.*s:%u: error: %s\n", (int)place.file_bytes - 2, place.file + 1, place.line, what);
    rewriter->wrong = true;
}

/* ---- writing ---- */

void rw_write_text(struct rewriter *rewriter, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vfprintf(rewriter->out, format, arguments);
    va_end(arguments);
}

void rw_write_before(struct rewriter *rewriter, size_t at)
{
    const struct token *token = rw_token_at(rewriter, at);

    fwrite(token->before, 1, token->before_bytes, rewriter->out);
}

/* A literal with two suffixes is none. */
static bool is_integer(const char *text, size_t bytes)
{
    const bool prefixed = bytes > 2 && text[0] == '0' && strchr("xXbB", text[1]) != NULL;

    if (prefixed)
        return strspn(text + 2, "0123456789abcdefABCDEF") >= bytes - 2;
    return strspn(text, "0123456789") >= bytes;
}

const char *rw_standard_suffix(const struct token *token, size_t *digits)
{
    static const struct {
        const char *suffix, *standard;
    } suffixes[] = {{"ui64", "ull"}, {"i64", "ll"}, {"ui32", "u"}, {"i32", ""}, {"ui16", "u"}, {"i16", ""}, {"ui8", "u"}, {"i8", ""}};

    for (size_t i = 0; token->kind == TOKEN_NUMBER && i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
        const size_t length = strlen(suffixes[i].suffix);

        if (token->text_bytes > length && strncasecmp(token->text + token->text_bytes - length, suffixes[i].suffix, length) == 0
            && is_integer(token->text, token->text_bytes - length)) {
            *digits = token->text_bytes - length;
            return suffixes[i].standard;
        }
    }
    return NULL;
}

size_t rw_write_token(struct rewriter *rewriter, size_t at)
{
    const struct token *token = rw_token_at(rewriter, at);
    size_t bytes = token->text_bytes;
    const char *suffix = rw_standard_suffix(token, &bytes);

    rw_write_before(rewriter, at);
    fwrite(token->text, 1, bytes, rewriter->out);
    fputs(suffix == NULL ? "" : suffix, rewriter->out);
    return at + 1;
}

void rw_move_to(struct rewriter *rewriter, size_t at)
{
    const struct place *place = &rw_token_at(rewriter, at)->place;

    if (place->file != NULL)
        rw_write_text(rewriter, "\n# %u %.*s%s\n", place->line, (int)place->file_bytes, place->file, place->system ? " 3" : "");
}
