/* SPDX-License-Identifier: MIT */
/*
 * A source, rewritten function by function. How each is declared is read as far as it matters; the bodies that have a __try are seh.c's.
 * Everything else is copied to the byte, but for the suffixes of literals.
 */

#include "cli/rewrite.h"
#include "cli/rewriter.h"

#include <string.h>

static bool has_try(const struct rewriter *rewriter, size_t at, size_t end)
{
    while (at < end && !rw_is_try(rewriter, at))
        at++;
    return at < end;
}

/* From the first token of its declaration to the name: VOID, and no pointer to it. */
static bool returns_nothing(const struct rewriter *rewriter, size_t first, size_t body)
{
    static const char *const names[] = {"void", "VOID", NULL};
    bool found = false;

    for (size_t i = first; i < body && !rw_is(rewriter, i, "("); i++) {
        found = found || rw_is_one_of(rewriter, i, names);
        if (rw_is(rewriter, i, "*"))
            return false;
        if (rw_is(rewriter, i + 1, "(") && (rw_is(rewriter, i, "__attribute__") || rw_is(rewriter, i, "__declspec")))
            i = rw_token_at(rewriter, i + 1)->match;
    }
    return found;
}

/* How a function is declared, by the words in front of its name. */
struct head {
    bool   is_inline, has_linkage;      /* static or extern */
    size_t name;
};

/* The end of an attribute that forces the function to be inlined; `at` where there is none. */
static size_t skip_inline(const struct rewriter *rewriter, size_t at)
{
    static const char *const words[] = {"inline", "__inline", "__inline__", NULL};

    if (rw_is_one_of(rewriter, at, words))
        return at + 1;
    if (rw_is(rewriter, at, "__attribute__") && rw_is(rewriter, at + 1, "(") && rw_is(rewriter, at + 2, "(")
        && rw_is(rewriter, at + 3, "always_inline") && rw_is(rewriter, at + 4, ")"))
        return rw_behind(rewriter, at + 1);
    return at;
}

static struct head read_head(const struct rewriter *rewriter, size_t first, size_t body)
{
    static const char *const linkage[] = {"static", "extern", NULL};
    struct head head = {.name = first};

    for (size_t i = first; i < body && !(rw_is(rewriter, i, "(") && head.name > first); i = rw_behind(rewriter, i)) {
        head.is_inline |= skip_inline(rewriter, i) != i;
        head.has_linkage |= rw_is_one_of(rewriter, i, linkage);
        if (rw_is(rewriter, i, "__attribute__") || rw_is(rewriter, i, "__declspec"))
            i++;
        else if (rw_token_at(rewriter, i)->kind == TOKEN_WORD && rw_is(rewriter, i + 1, "("))
            head.name = i;
    }
    return head;
}

/* Declared before, outside of all blocks. */
static bool is_declared(const struct rewriter *rewriter, size_t first, size_t name)
{
    const struct token *wanted = rw_token_at(rewriter, name);

    for (size_t i = 0; i < first; i = rw_behind(rewriter, i))
        if (rw_token_at(rewriter, i)->text_bytes == wanted->text_bytes
            && memcmp(rw_token_at(rewriter, i)->text, wanted->text, wanted->text_bytes) == 0)
            return true;
    return false;
}

/*
 * An inline function that is not static has a definition of its own for Microsoft's compiler, in each source that has it; here it would have
 * none. It becomes static, or, where it was declared otherwise before, the one that other sources mean.
 */
static const char *linkage_to_add(const struct rewriter *rewriter, size_t first, const struct head *head)
{
    if (!head->is_inline || head->has_linkage)
        return "";
    return is_declared(rewriter, first, head->name) ? "extern " : "static ";
}

static void write_pattern(struct rewriter *rewriter)
{
    for (size_t i = rewriter->pattern; i < rewriter->pattern_end; i++)
        rw_write_text(rewriter, "%.*s ", (int)rw_token_at(rewriter, i)->text_bytes, rw_token_at(rewriter, i)->text);
}

/* A function with __try is no longer inline: its locals would be its caller's, and that keeps them in registers. */
static size_t write_head(struct rewriter *rewriter, size_t first, size_t body, const struct head *head, bool tries)
{
    rw_write_before(rewriter, first);
    rw_write_text(rewriter, "%s", linkage_to_add(rewriter, first, head));
    if (tries)
        write_pattern(rewriter);
    if (tries && head->is_inline)
        rw_write_text(rewriter, "__attribute__((__unused__)) ");
    for (size_t i = first; i < body;) {
        const size_t next = tries ? skip_inline(rewriter, i) : i;

        if (next != i) {
            i = next;
            continue;
        }
        if (i == first)
            rw_write_text(rewriter, "%.*s", (int)rw_token_at(rewriter, i)->text_bytes, rw_token_at(rewriter, i)->text);
        else
            rw_write_token(rewriter, i);
        i++;
    }
    return body;
}

static size_t write_function(struct rewriter *rewriter, size_t first, size_t body)
{
    const struct head head = read_head(rewriter, first, body);
    const bool tries = has_try(rewriter, body, rw_behind(rewriter, body));

    if (tries && rewriter->pattern == rewriter->pattern_end)
        rw_complain(rewriter, first, "preprocessed without pinion cc: a function with __try cannot be compiled");
    write_head(rewriter, first, body, &head, tries);
    rewriter->ncopies = 0;
    rewriter->returns_nothing = returns_nothing(rewriter, first, body);
    return tries ? rw_write_body(rewriter, body) : body;
}

static bool is_function(const struct rewriter *rewriter, size_t body)
{
    return rw_is(rewriter, body, "{") && body > 0 && rw_is(rewriter, body - 1, ")");
}

/* With __try, or inline without a definition. */
static bool is_to_rewrite(const struct rewriter *rewriter, size_t first, size_t body)
{
    struct head head;

    if (!rw_is(rewriter, body, "{"))
        return false;
    if (has_try(rewriter, body, rw_behind(rewriter, body)))
        return true;
    if (!is_function(rewriter, body))
        return false;
    head = read_head(rewriter, first, body);
    return *linkage_to_add(rewriter, first, &head) != '\0';
}

static bool has_suffix(const struct rewriter *rewriter)
{
    size_t digits;

    for (size_t i = 0; i < rewriter->tokens->n; i++)
        if (rw_standard_suffix(rw_token_at(rewriter, i), &digits) != NULL)
            return true;
    return false;
}

static size_t copy(struct rewriter *rewriter, size_t from, size_t to)
{
    while (from < to)
        from = rw_write_token(rewriter, from);
    return to;
}

/*
 * Go through the functions, and write the source anew where one is to be rewritten; with no output only look for one. A declaration begins
 * behind the semicolon or the body that ends the one before it.
 */
static bool go_through(struct rewriter *rewriter)
{
    size_t first = 0, written = 0, at = 0;
    bool found = false;

    while (at < rewriter->tokens->n && !rewriter->wrong) {
        const size_t next = rw_behind(rewriter, at);

        if (is_to_rewrite(rewriter, first, at)) {
            found = true;
            if (rewriter->out == NULL)
                return true;
            copy(rewriter, written, first);
            written = write_function(rewriter, first, at);
        }
        if (rw_is(rewriter, at, ";") || is_function(rewriter, at))
            first = next;
        at = next;
    }
    if (rewriter->out != NULL) {
        copy(rewriter, written, rewriter->tokens->n);
        fputs(rewriter->tokens->end, rewriter->out);
    }
    return found;
}

/* What pinion/seh.h gives its pattern, which is declared as `... void pinion_seh_pattern(void);`. */
static void find_pattern(struct rewriter *rewriter)
{
    size_t first = 0;

    for (size_t i = 0; i < rewriter->tokens->n; i = rw_behind(rewriter, i)) {
        if (rw_is(rewriter, i, ";"))
            first = i + 1;
        if (!rw_is(rewriter, i, "pinion_seh_pattern"))
            continue;
        rewriter->pattern = first;
        rewriter->pattern_end = i - 1;
        return;
    }
}

/* How statements end is known by their brackets. */
static bool has_all_brackets(struct rewriter *rewriter)
{
    const size_t unmatched = rewriter->tokens->unmatched;

    if (unmatched < rewriter->tokens->n)
        rw_complain(rewriter, unmatched, "a bracket without its counterpart");
    return !rewriter->wrong;
}

/* All of them stand in functions. */
static void check_all_written(struct rewriter *rewriter)
{
    size_t at = 0;

    while (at < rewriter->tokens->n && !rw_is_try(rewriter, at))
        at++;
    if (at < rewriter->tokens->n && rewriter->nframes == 0)
        rw_complain(rewriter, at, "a __try in no function");
}

enum rewritten rewrite_source(const char *source, FILE *out)
{
    struct tokens tokens;
    struct rewriter rewriter = {.tokens = &tokens};
    bool found;

    if (!tokens_read(&tokens, source)) {
        fputs("pinion cc: there is not enough memory for this source\n", stderr);
        return REWRITTEN_WRONGLY;
    }
    find_pattern(&rewriter);
    found = go_through(&rewriter) || has_try(&rewriter, 0, tokens.n) || has_suffix(&rewriter);
    rewriter.out = out;
    if (found && has_all_brackets(&rewriter)) {
        go_through(&rewriter);
        check_all_written(&rewriter);
    }
    tokens_free(&tokens);
    if (!found)
        return REWRITTEN_NOTHING;
    return rewriter.wrong ? REWRITTEN_WRONGLY : REWRITTEN;
}
