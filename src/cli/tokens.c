/* SPDX-License-Identifier: MIT */
/* Preprocessed C as tokens. */

#include "cli/tokens.h"

#include <ctype.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_ROOM = 4096, DECIMAL = 10 };

bool token_is(const struct token *token, const char *text)
{
    return token->text_bytes == strlen(text) && memcmp(token->text, text, token->text_bytes) == 0;
}

/* ---- what stands between tokens ---- */

/* `# 12 "file" 3` and `#line 12 "file"`: the next line is that one. Other directives count as lines. */
static bool read_marker(const char *at, struct place *place)
{
    const char *file, *end;
    unsigned line;

    at++;
    at += strspn(at, " \t");
    if (strncmp(at, "line", 4) == 0)
        at += 4 + strspn(at + 4, " \t");
    if (!isdigit((unsigned char)*at))
        return false;
    line = (unsigned)strtoul(at, (char **)&end, DECIMAL);
    place->line = line;
    file = end + strspn(end, " \t");
    if (*file != '"')
        return true;
    end = file + 1;
    while (*end != '"' && *end != '\n' && *end != '\0')
        end += *end == '\\' && end[1] != '\0' ? 2 : 1;
    place->file = file;
    place->file_bytes = (size_t)(end + 1 - file);
    place->system = memchr(end, '3', strcspn(end, "\n")) != NULL;
    return true;
}

static const char *end_of_line(const char *at)
{
    return at + strcspn(at, "\n");
}

static const char *skip_directive(const char *at, struct place *place)
{
    const bool marker = read_marker(at, place);

    at = end_of_line(at);
    if (*at == '\n')
        at++;
    if (!marker)
        place->line++;
    return at;
}

static const char *skip_comment(const char *at, struct place *place)
{
    const char *end;

    if (at[1] == '/')
        return end_of_line(at);
    end = strstr(at + 2, "*/");
    end = end == NULL ? at + strlen(at) : end + 2;
    for (; at < end; at++)
        place->line += *at == '\n';
    return end;
}

static const char *skip_between(const char *at, struct place *place, bool line_begins)
{
    for (;;) {
        if (*at == '\n') {
            place->line++;
            line_begins = true;
            at++;
        } else if (*at != '\0' && isspace((unsigned char)*at)) {
            at++;
        } else if (*at == '#' && line_begins) {
            at = skip_directive(at, place);
        } else if (*at == '/' && (at[1] == '*' || at[1] == '/')) {
            at = skip_comment(at, place);
        } else {
            return at;
        }
    }
}

/* ---- tokens ---- */

static bool is_word(unsigned char c)
{
    return isalnum(c) || c == '_' || c == '$' || c >= 0x80;
}

static const char *end_of_string(const char *at)
{
    const char quote = *at++;

    while (*at != quote && *at != '\n' && *at != '\0')
        at += *at == '\\' && at[1] != '\0' ? 2 : 1;
    return at + (*at == quote);
}

/* As the standard's preprocessing numbers: 1.5e+3, 0x1p-2, 10ull. */
static const char *end_of_number(const char *at)
{
    for (at++; is_word((unsigned char)*at) || *at == '.'; at++)
        if (strchr("eEpP", *at) != NULL && (at[1] == '+' || at[1] == '-'))
            at++;
    return at;
}

static const char *read_token(const char *at, enum token_kind *kind)
{
    const unsigned char c = (unsigned char)*at;

    if (isdigit(c) || (c == '.' && isdigit((unsigned char)at[1]))) {
        *kind = TOKEN_NUMBER;
        return end_of_number(at);
    }
    if (is_word(c)) {
        *kind = TOKEN_WORD;
        while (is_word((unsigned char)*at))
            at++;
        return at;
    }
    *kind = c == '"' || c == '\'' ? TOKEN_STRING : TOKEN_OTHER;
    return *kind == TOKEN_STRING ? end_of_string(at) : at + 1;
}

static struct token *add(struct tokens *tokens, size_t *room)
{
    if (tokens->n == *room) {
        const size_t more = *room == 0 ? FIRST_ROOM : *room * 2;
        struct token *at = realloc(tokens->at, more * sizeof(*at));

        if (at == NULL)
            return NULL;
        tokens->at = at;
        *room = more;
    }
    return &tokens->at[tokens->n++];
}

static char counterpart_of(char c)
{
    return c == ')' ? '(' : c == ']' ? '[' : '{';
}

static void note_unmatched(struct tokens *tokens, size_t bracket)
{
    if (tokens->unmatched == tokens->n)
        tokens->unmatched = bracket;
}

/*
 * Brackets that are open are a list: each one's `match` is the one around it, until its counterpart is met. A bracket of another kind is
 * taken for it, and noted.
 */
static void match_brackets(struct tokens *tokens)
{
    size_t open = SIZE_MAX;

    tokens->unmatched = tokens->n;
    for (size_t i = 0; i < tokens->n; i++) {
        struct token *token = &tokens->at[i];
        const char c = token->kind == TOKEN_OTHER ? *token->text : ' ';

        token->match = i;
        if (strchr("([{", c) != NULL) {
            token->match = open;
            open = i;
        } else if (strchr(")]}", c) != NULL) {
            if (open == SIZE_MAX || *tokens->at[open].text != counterpart_of(c))
                note_unmatched(tokens, i);
            if (open == SIZE_MAX)
                continue;
            token->match = open;
            open = tokens->at[open].match;
            tokens->at[token->match].match = i;
        }
    }
    if (open != SIZE_MAX)
        note_unmatched(tokens, open);
    while (open != SIZE_MAX) {
        const size_t around = tokens->at[open].match;

        tokens->at[open].match = open;
        open = around;
    }
}

bool tokens_read(struct tokens *tokens, const char *source)
{
    struct place place = {.line = 1};
    const char *at = source;
    size_t room = 0;

    *tokens = (struct tokens){0};
    for (;;) {
        const char *const before = at;
        const struct place began = place;
        struct token *token;

        at = skip_between(at, &place, at == source);
        tokens->end = before;
        if (*at == '\0')
            break;
        token = add(tokens, &room);
        if (token == NULL) {
            tokens_free(tokens);
            return false;
        }
        *token = (struct token){.before = before, .before_bytes = (size_t)(at - before), .text = at, .place = began};
        at = read_token(at, &token->kind);
        token->text_bytes = (size_t)(at - token->text);
    }
    match_brackets(tokens);
    return true;
}

void tokens_free(struct tokens *tokens)
{
    free(tokens->at);
    *tokens = (struct tokens){0};
}

struct place token_place(const struct token *token)
{
    struct place place = token->place;

    skip_between(token->before, &place, false);
    return place;
}
