/* SPDX-License-Identifier: MIT */
/*
 * __try and its kin, and literals with Microsoft's suffixes, rewritten.
 *
 * A function that has a __try is parsed as far as statements go; expressions and declarations are copied. Whatever jumps out of a
 * body first takes its frame off, and has its __finally block run: which `break`, `continue`, `goto` or `return` does so depends on
 * the loops and labels around it. The block is written once more, in front of the jump:
 *
 *     __try { if (x) return f(); } __finally { B }
 *
 *     { frame; enter; if (mark == 0) { { if (x) { __auto_type value = (f()); abandon; { B } return value; } } leave; { B } }
 *       else { { B } resume; } }
 *
 * (A destructor of the frame, which gcc calls cleanup, would take it off as well; but then gcc takes the end of each such block
 * for reachable, and warns of functions that return from within.)
 *
 * A scope is what stands around the statement that is being written, innermost first. Everything else of the source, functions
 * without __try included, is copied to the byte.
 */

#include "cli/seh.h"
#include "cli/tokens.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum scope_kind {
    LOOP, SWITCH,
    TRY_EXCEPT, TRY_FINALLY,            /* the body of a __try */
    FILTER, HANDLER, FINALLY,           /* what follows it */
};

struct scope {
    struct scope   *outer;              /* NULL: the function's own */
    enum scope_kind kind;
    unsigned        frame;              /* of all but loops and switches */
    size_t          body;               /* TRY_...: the body's first token */
    size_t          finally;            /* TRY_FINALLY: the block's */
    bool            left;               /* TRY_...: there is a __leave */
    bool            jumps;              /* TRY_...: the last statement is a jump, and the body's end is never reached */
};

struct rewriter {
    const struct tokens *tokens;
    FILE    *out;
    unsigned nframes, nvalues;          /* names are numbered */
    size_t   last;                      /* the last statement of the block that was written last */
    size_t   pattern, pattern_end;      /* the attributes of a function with __try; none: the header was not in front */
    bool     returns_nothing;           /* the function is void */
    bool     wrong;
};

static size_t write_statement(struct rewriter *rewriter, size_t at, struct scope *scope);
static size_t write_block(struct rewriter *rewriter, size_t at, struct scope *scope);
static void write_finally(struct rewriter *rewriter, const struct scope *body);

/* ---- tokens ---- */

/* Behind the last one: an empty word, so that no question about the next token needs one about the end. */
static const struct token *token_at(const struct rewriter *rewriter, size_t at)
{
    static const struct token none = {.text = "", .before = ""};

    return at < rewriter->tokens->n ? &rewriter->tokens->at[at] : &none;
}

static bool is(const struct rewriter *rewriter, size_t at, const char *text)
{
    return token_is(token_at(rewriter, at), text);
}

static bool is_one_of(const struct rewriter *rewriter, size_t at, const char *const *words)
{
    while (*words != NULL && !is(rewriter, at, *words))
        words++;
    return *words != NULL;
}

/* Sources of old say try and mean __try: that is a macro of Windows' headers, and no C otherwise. */
static bool is_try(const struct rewriter *rewriter, size_t at)
{
    return is(rewriter, at, "__try") || (is(rewriter, at, "try") && is(rewriter, at + 1, "{"));
}

static bool is_except(const struct rewriter *rewriter, size_t at)
{
    return (is(rewriter, at, "__except") || is(rewriter, at, "except")) && is(rewriter, at + 1, "(");
}

static bool is_finally(const struct rewriter *rewriter, size_t at)
{
    return (is(rewriter, at, "__finally") || is(rewriter, at, "finally")) && is(rewriter, at + 1, "{");
}

static bool is_leave(const struct rewriter *rewriter, size_t at)
{
    return (is(rewriter, at, "__leave") || is(rewriter, at, "leave")) && is(rewriter, at + 1, ";");
}

static size_t behind(const struct rewriter *rewriter, size_t bracket)
{
    return token_at(rewriter, bracket)->match + 1;
}

/* A word before a colon where a statement may begin. */
static bool is_label(const struct rewriter *rewriter, size_t at)
{
    static const char *const before[] = {";", "{", "}", ":", "else", "do", NULL}, *const none[] = {"default", NULL};

    return at > 0 && token_at(rewriter, at)->kind == TOKEN_WORD && is(rewriter, at + 1, ":") && is_one_of(rewriter, at - 1, before)
        && !is_one_of(rewriter, at, none) && token_at(rewriter, at + 2)->kind != TOKEN_NUMBER;
}

static bool has_label(const struct rewriter *rewriter, size_t block, const struct token *name)
{
    for (size_t i = block; i < behind(rewriter, block); i++) {
        const struct token *token = token_at(rewriter, i);

        if (token->text_bytes == name->text_bytes && memcmp(token->text, name->text, name->text_bytes) == 0 && is_label(rewriter, i))
            return true;
    }
    return false;
}

static void complain(struct rewriter *rewriter, size_t at, const char *what)
{
    const struct place place = token_place(token_at(rewriter, at));

    if (!rewriter->wrong && place.file != NULL)
        fprintf(stderr, "%.*s:%u: error: %s\n", (int)place.file_bytes - 2, place.file + 1, place.line, what);
    rewriter->wrong = true;
}

/* ---- writing ---- */

static void write_text(struct rewriter *rewriter, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void write_text(struct rewriter *rewriter, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vfprintf(rewriter->out, format, arguments);
    va_end(arguments);
}

static void write_before(struct rewriter *rewriter, size_t at)
{
    const struct token *token = token_at(rewriter, at);

    fwrite(token->before, 1, token->before_bytes, rewriter->out);
}

/* 10i64, 0xFFui64: how the rest of the world writes that suffix; NULL: there is none. The length of the number goes to *digits. */
static const char *standard_suffix(const struct token *token, size_t *digits)
{
    static const struct {
        const char *suffix, *standard;
    } suffixes[] = {{"ui64", "ull"}, {"i64", "ll"}, {"ui32", "u"}, {"i32", ""}, {"ui16", "u"}, {"i16", ""}, {"ui8", "u"}, {"i8", ""}};

    for (size_t i = 0; token->kind == TOKEN_NUMBER && i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
        const size_t length = strlen(suffixes[i].suffix);

        if (token->text_bytes > length && strncasecmp(token->text + token->text_bytes - length, suffixes[i].suffix, length) == 0) {
            *digits = token->text_bytes - length;
            return suffixes[i].standard;
        }
    }
    return NULL;
}

static size_t write_token(struct rewriter *rewriter, size_t at)
{
    const struct token *token = token_at(rewriter, at);
    size_t bytes = token->text_bytes;
    const char *suffix = standard_suffix(token, &bytes);

    write_before(rewriter, at);
    fwrite(token->text, 1, bytes, rewriter->out);
    fputs(suffix == NULL ? "" : suffix, rewriter->out);
    return at + 1;
}

/* The token that is written next stands where it does in the source, and not where the output has come to. */
static void move_to(struct rewriter *rewriter, size_t at)
{
    const struct place *place = &token_at(rewriter, at)->place;

    if (place->file != NULL)
        write_text(rewriter, "\n# %u %.*s%s\n", place->line, (int)place->file_bytes, place->file, place->system ? " 3" : "");
}

/* ---- expressions ---- */

static const struct scope *nearest(const struct scope *scope, enum scope_kind one, enum scope_kind other)
{
    while (scope != NULL && scope->kind != one && scope->kind != other)
        scope = scope->outer;
    return scope;
}

/* GetExceptionCode() and its kin, under each of their names; 0: it is none of them. */
static size_t write_intrinsic(struct rewriter *rewriter, size_t at, const struct scope *scope)
{
    static const struct {
        const char *names[4];
        enum scope_kind one, other;
        const char *call;
    } intrinsics[] = {
        {{"GetExceptionCode", "_exception_code", "exception_code"}, FILTER, HANDLER, "pinion_seh_code"},
        {{"GetExceptionInformation", "_exception_info", "exception_info"}, FILTER, FILTER, "(PEXCEPTION_POINTERS)pinion_seh_information"},
        {{"AbnormalTermination", "_abnormal_termination", "abnormal_termination"}, FINALLY, FINALLY, "pinion_seh_abnormal"},
    };

    if (!is(rewriter, at + 1, "(") || !is(rewriter, at + 2, ")"))
        return 0;
    for (size_t i = 0; i < sizeof(intrinsics) / sizeof(intrinsics[0]); i++) {
        const struct scope *whose = nearest(scope, intrinsics[i].one, intrinsics[i].other);

        if (!is_one_of(rewriter, at, intrinsics[i].names))
            continue;
        if (whose == NULL)
            complain(rewriter, at, "an exception is asked for outside of its filter, its handler or its __finally block");
        write_before(rewriter, at);
        write_text(rewriter, "%s(&pinion_seh_%u)", intrinsics[i].call, whose == NULL ? 0 : whose->frame);
        return at + 3;
    }
    return 0;
}

static size_t write_expression(struct rewriter *rewriter, size_t at, size_t end, struct scope *scope)
{
    while (at < end) {
        const size_t next = write_intrinsic(rewriter, at, scope);

        if (next != 0)
            at = next;
        else if (is(rewriter, at, "(") && is(rewriter, at + 1, "{"))
            at = write_block(rewriter, write_token(rewriter, at), scope);
        else
            at = write_token(rewriter, at);
    }
    return at;
}

static size_t write_brackets(struct rewriter *rewriter, size_t at, struct scope *scope)
{
    return is(rewriter, at, "(") ? write_expression(rewriter, at, behind(rewriter, at), scope) : at;
}

/* The index of the first such token that stands in no bracket. */
static size_t find(const struct rewriter *rewriter, size_t at, const char *text)
{
    while (at < rewriter->tokens->n && !is(rewriter, at, text) && !is(rewriter, at, "}"))
        at = behind(rewriter, at);
    return at;
}

/* ---- jumps ---- */

static bool is_body(const struct scope *scope)
{
    return scope->kind == TRY_EXCEPT || scope->kind == TRY_FINALLY;
}

/* The innermost body that a jump from one scope to another leaves; NULL: none. */
static struct scope *body_on_the_way(struct scope *from, const struct scope *to)
{
    while (from != to && !is_body(from))
        from = from->outer;
    return from == to ? NULL : from;
}

static void leave_bodies(struct rewriter *rewriter, struct scope *from, const struct scope *to)
{
    for (struct scope *body = body_on_the_way(from, to); body != NULL; body = body_on_the_way(body->outer, to)) {
        write_text(rewriter, " pinion_seh_abandon(&pinion_seh_%u);", body->frame);
        if (body->kind == TRY_EXCEPT)
            continue;
        move_to(rewriter, body->finally);
        write_finally(rewriter, body);
    }
}

/* A jump of a few tokens up to `end`, its semicolon included. */
static size_t write_jump(struct rewriter *rewriter, size_t at, size_t end, struct scope *from, const struct scope *to)
{
    if (body_on_the_way(from, to) == NULL)
        return write_expression(rewriter, at, end, from);
    write_text(rewriter, " {");
    leave_bodies(rewriter, from, to);
    move_to(rewriter, at);
    write_expression(rewriter, at, end, from);
    write_text(rewriter, " }");
    return end;
}

static size_t write_break(struct rewriter *rewriter, size_t at, struct scope *scope)
{
    return write_jump(rewriter, at, at + 2, scope, nearest(scope, LOOP, is(rewriter, at, "break") ? SWITCH : LOOP));
}

/* A `goto` stays within the bodies that have its label, and leaves all others. */
static size_t write_goto(struct rewriter *rewriter, size_t at, struct scope *scope)
{
    const struct scope *to = scope;

    while (to != NULL && !(is_body(to) && has_label(rewriter, to->body, token_at(rewriter, at + 1))))
        to = to->outer;
    return write_jump(rewriter, at, find(rewriter, at, ";") + 1, scope, to);
}

static size_t write_leave(struct rewriter *rewriter, size_t at, struct scope *scope)
{
    struct scope *body = scope;

    while (body != NULL && !is_body(body))
        body = body->outer;
    if (body == NULL) {
        complain(rewriter, at, "__leave outside of a __try");
        return at + 2;
    }
    body->left = true;
    write_before(rewriter, at);
    write_text(rewriter, "goto pinion_leave_%u;", body->frame);
    return at + 2;
}

/* Nothing is to be computed for it, so it may stay in its `return`, behind what runs before. */
static bool is_constant(const struct rewriter *rewriter, size_t at, size_t end)
{
    static const char *const signs[] = {"(", ")", "-", "~", "void", "*", NULL};

    while (at < end && (token_at(rewriter, at)->kind == TOKEN_NUMBER || is_one_of(rewriter, at, signs)))
        at++;
    return at == end;
}

/* The value of a comma expression is of a type that a variable can have, where a bit-field or an array is not. */
static size_t write_return(struct rewriter *rewriter, size_t at, struct scope *scope)
{
    const size_t end = find(rewriter, at, ";");
    const unsigned value = ++rewriter->nvalues;

    if (body_on_the_way(scope, NULL) == NULL || is_constant(rewriter, at + 1, end))
        return write_jump(rewriter, at, end + 1, scope, NULL);
    write_before(rewriter, at);
    write_text(rewriter, rewriter->returns_nothing ? "{ (void)(" : "{ __auto_type pinion_value_%u = ((void)0, ", value);
    write_expression(rewriter, at + 1, end, scope);
    write_text(rewriter, ");");
    leave_bodies(rewriter, scope, NULL);
    move_to(rewriter, end);
    write_text(rewriter, rewriter->returns_nothing ? " return" : " return pinion_value_%u", value);
    write_token(rewriter, end);
    write_text(rewriter, " }");
    return end + 1;
}

/* ---- __try ---- */

static void open_frame(struct rewriter *rewriter, size_t at, unsigned frame)
{
    write_before(rewriter, at);
    write_text(rewriter, "{ struct pinion_seh pinion_seh_%u; pinion_seh_enter(&pinion_seh_%u);", frame, frame);
    write_text(rewriter, " if (pinion_seh_mark(&pinion_seh_%u, 0) == 0) {", frame);
}

/* What would never be reached is not written: compilers would find ways to there, and warn of what lies behind. */
static void write_body(struct rewriter *rewriter, struct scope *scope)
{
    static const char *const jumps[] = {"return", "goto", "break", "continue", NULL};

    write_block(rewriter, scope->body, scope);
    scope->jumps = !scope->left && is_one_of(rewriter, rewriter->last, jumps);
    if (scope->left)
        write_text(rewriter, " pinion_leave_%u: ;", scope->frame);
    if (!scope->jumps)
        write_text(rewriter, " pinion_seh_leave(&pinion_seh_%u);", scope->frame);
}

static size_t write_try_finally(struct rewriter *rewriter, size_t at, struct scope *scope)
{
    const unsigned frame = scope->frame;
    const size_t end = behind(rewriter, scope->finally);

    open_frame(rewriter, at, frame);
    write_body(rewriter, scope);
    write_before(rewriter, scope->finally - 1);
    if (!scope->jumps)
        write_finally(rewriter, scope);
    write_text(rewriter, " } else {");
    move_to(rewriter, scope->finally);
    write_finally(rewriter, scope);
    write_text(rewriter, " pinion_seh_resume(&pinion_seh_%u); } }", frame);
    move_to(rewriter, end);
    return end;
}

static size_t write_try_except(struct rewriter *rewriter, size_t at, size_t except, struct scope *scope)
{
    const unsigned frame = scope->frame;
    struct scope filter = {.outer = scope->outer, .kind = FILTER, .frame = frame};
    struct scope handler = {.outer = scope->outer, .kind = HANDLER, .frame = frame};
    const size_t end = behind(rewriter, except + 1);

    open_frame(rewriter, at, frame);
    write_body(rewriter, scope);
    write_text(rewriter, " } else { pinion_seh_filter(&pinion_seh_%u, ", frame);
    write_before(rewriter, except);
    write_expression(rewriter, except + 1, end, &filter);
    write_text(rewriter, ");");
    at = write_block(rewriter, end, &handler);
    write_text(rewriter, " } }");
    return at;
}

static size_t write_try(struct rewriter *rewriter, size_t at, struct scope *outer)
{
    struct scope scope = {.outer = outer, .body = at + 1, .frame = ++rewriter->nframes};
    const size_t next = behind(rewriter, at + 1);

    if (is(rewriter, at + 1, "{") && is_finally(rewriter, next)) {
        scope.kind = TRY_FINALLY;
        scope.finally = next + 1;
        return write_try_finally(rewriter, at, &scope);
    }
    if (is(rewriter, at + 1, "{") && is_except(rewriter, next) && is(rewriter, behind(rewriter, next + 1), "{")) {
        scope.kind = TRY_EXCEPT;
        return write_try_except(rewriter, at, next, &scope);
    }
    complain(rewriter, at, "a __try needs a block, and __except or __finally with another behind it");
    return next;
}

/* ---- statements ---- */

static size_t write_loop(struct rewriter *rewriter, size_t at, struct scope *outer)
{
    struct scope scope = {.outer = outer, .kind = is(rewriter, at, "switch") ? SWITCH : LOOP};

    at = write_brackets(rewriter, write_token(rewriter, at), outer);
    return write_statement(rewriter, at, &scope);
}

static size_t write_do(struct rewriter *rewriter, size_t at, struct scope *outer)
{
    struct scope scope = {.outer = outer, .kind = LOOP};

    at = write_statement(rewriter, write_token(rewriter, at), &scope);
    return write_expression(rewriter, at, find(rewriter, at, ";") + 1, outer);
}

static size_t write_if(struct rewriter *rewriter, size_t at, struct scope *scope)
{
    at = write_brackets(rewriter, write_token(rewriter, at), scope);
    at = write_statement(rewriter, at, scope);
    if (is(rewriter, at, "else"))
        at = write_statement(rewriter, write_token(rewriter, at), scope);
    return at;
}

/* A label belongs to the statement behind it, unless the block ends there. */
static size_t write_labelled(struct rewriter *rewriter, size_t at, struct scope *scope)
{
    at = write_expression(rewriter, at, find(rewriter, at, ":") + 1, scope);
    return is(rewriter, at, "}") ? at : write_statement(rewriter, at, scope);
}

static size_t write_statement(struct rewriter *rewriter, size_t at, struct scope *scope)
{
    static const char *const loops[] = {"for", "while", "switch", NULL}, *const breaks[] = {"break", "continue", NULL};
    static const char *const cases[] = {"case", "default", NULL};

    if (at >= rewriter->tokens->n || rewriter->wrong)
        return rewriter->tokens->n;
    if (is_try(rewriter, at))
        return write_try(rewriter, at, scope);
    if (is(rewriter, at, "{"))
        return write_block(rewriter, at, scope);
    if (is(rewriter, at, "if"))
        return write_if(rewriter, at, scope);
    if (is(rewriter, at, "do"))
        return write_do(rewriter, at, scope);
    if (is(rewriter, at, "return"))
        return write_return(rewriter, at, scope);
    if (is(rewriter, at, "goto"))
        return write_goto(rewriter, at, scope);
    if (is_leave(rewriter, at))
        return write_leave(rewriter, at, scope);
    if (is_one_of(rewriter, at, loops))
        return write_loop(rewriter, at, scope);
    if (is_one_of(rewriter, at, breaks))
        return write_break(rewriter, at, scope);
    if (is_label(rewriter, at) || is_one_of(rewriter, at, cases))
        return write_labelled(rewriter, at, scope);
    return write_expression(rewriter, at, find(rewriter, at, ";") + 1, scope);
}

/* The labels of a __finally block that is written more than once are each copy's own. */
static void declare_labels(struct rewriter *rewriter, size_t block)
{
    for (size_t i = block; i < behind(rewriter, block); i++)
        if (is_label(rewriter, i))
            write_text(rewriter, " __label__ %.*s;", (int)token_at(rewriter, i)->text_bytes, token_at(rewriter, i)->text);
}

static size_t write_rest_of_block(struct rewriter *rewriter, size_t at, struct scope *scope)
{
    const size_t end = token_at(rewriter, at)->match;
    size_t last = end;

    for (at++; at < end && !rewriter->wrong;) {
        last = at;
        at = write_statement(rewriter, at, scope);
    }
    rewriter->last = last;
    return write_token(rewriter, end);
}

static size_t write_block(struct rewriter *rewriter, size_t at, struct scope *scope)
{
    write_token(rewriter, at);
    return write_rest_of_block(rewriter, at, scope);
}

static void write_finally(struct rewriter *rewriter, const struct scope *body)
{
    struct scope scope = {.outer = body->outer, .kind = FINALLY, .frame = body->frame};

    write_token(rewriter, body->finally);
    declare_labels(rewriter, body->finally);
    write_rest_of_block(rewriter, body->finally, &scope);
}

/* ---- functions ---- */

static bool has_try(const struct rewriter *rewriter, size_t at, size_t end)
{
    while (at < end && !is_try(rewriter, at))
        at++;
    return at < end;
}

/* From the first token of its declaration to the name: VOID, and no pointer to it. */
static bool returns_nothing(const struct rewriter *rewriter, size_t first, size_t body)
{
    static const char *const names[] = {"void", "VOID", NULL};
    bool found = false;

    for (size_t i = first; i < body && !is(rewriter, i, "("); i++) {
        found = found || is_one_of(rewriter, i, names);
        if (is(rewriter, i, "*"))
            return false;
        if (is(rewriter, i + 1, "(") && (is(rewriter, i, "__attribute__") || is(rewriter, i, "__declspec")))
            i = token_at(rewriter, i + 1)->match;
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

    if (is_one_of(rewriter, at, words))
        return at + 1;
    if (is(rewriter, at, "__attribute__") && is(rewriter, at + 2, "(") && is(rewriter, at + 3, "always_inline") && is(rewriter, at + 4, ")"))
        return behind(rewriter, at + 1);
    return at;
}

static struct head read_head(const struct rewriter *rewriter, size_t first, size_t body)
{
    static const char *const linkage[] = {"static", "extern", NULL};
    struct head head = {.name = first};

    for (size_t i = first; i < body && !(is(rewriter, i, "(") && head.name > first); i = behind(rewriter, i)) {
        head.is_inline |= skip_inline(rewriter, i) != i;
        head.has_linkage |= is_one_of(rewriter, i, linkage);
        if (is(rewriter, i, "__attribute__") || is(rewriter, i, "__declspec"))
            i++;
        else if (token_at(rewriter, i)->kind == TOKEN_WORD && is(rewriter, i + 1, "("))
            head.name = i;
    }
    return head;
}

/* Declared before, outside of all blocks. */
static bool is_declared(const struct rewriter *rewriter, size_t first, size_t name)
{
    const struct token *wanted = token_at(rewriter, name);

    for (size_t i = 0; i < first; i = behind(rewriter, i))
        if (token_at(rewriter, i)->text_bytes == wanted->text_bytes && memcmp(token_at(rewriter, i)->text, wanted->text, wanted->text_bytes) == 0)
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
        write_text(rewriter, "%.*s ", (int)token_at(rewriter, i)->text_bytes, token_at(rewriter, i)->text);
}

/* A function with __try is no longer inline: its locals would be its caller's, and that keeps them in registers. */
static size_t write_head(struct rewriter *rewriter, size_t first, size_t body, const struct head *head, bool tries)
{
    write_before(rewriter, first);
    write_text(rewriter, "%s", linkage_to_add(rewriter, first, head));
    if (tries)
        write_pattern(rewriter);
    if (tries && head->is_inline)
        write_text(rewriter, "__attribute__((__unused__)) ");
    for (size_t i = first; i < body;) {
        const size_t next = tries ? skip_inline(rewriter, i) : i;

        if (next != i) {
            i = next;
            continue;
        }
        if (i == first)
            write_text(rewriter, "%.*s", (int)token_at(rewriter, i)->text_bytes, token_at(rewriter, i)->text);
        else
            write_token(rewriter, i);
        i++;
    }
    return body;
}

static size_t write_function(struct rewriter *rewriter, size_t first, size_t body)
{
    const struct head head = read_head(rewriter, first, body);
    const bool tries = has_try(rewriter, body, behind(rewriter, body));

    if (tries && rewriter->pattern == rewriter->pattern_end)
        complain(rewriter, first, "preprocessed without pinion cc: a function with __try cannot be compiled");
    write_head(rewriter, first, body, &head, tries);
    rewriter->returns_nothing = returns_nothing(rewriter, first, body);
    return tries ? write_block(rewriter, body, NULL) : body;
}

static bool is_function(const struct rewriter *rewriter, size_t body)
{
    return is(rewriter, body, "{") && body > 0 && is(rewriter, body - 1, ")");
}

/* With __try, or inline without a definition. */
static bool is_to_rewrite(const struct rewriter *rewriter, size_t first, size_t body)
{
    struct head head;

    if (!is(rewriter, body, "{"))
        return false;
    if (has_try(rewriter, body, behind(rewriter, body)))
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
        if (standard_suffix(token_at(rewriter, i), &digits) != NULL)
            return true;
    return false;
}

static size_t copy(struct rewriter *rewriter, size_t from, size_t to)
{
    while (from < to)
        from = write_token(rewriter, from);
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
        const size_t next = behind(rewriter, at);

        if (is_to_rewrite(rewriter, first, at)) {
            found = true;
            if (rewriter->out == NULL)
                return true;
            copy(rewriter, written, first);
            written = write_function(rewriter, first, at);
        }
        if (is(rewriter, at, ";") || is_function(rewriter, at))
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

    for (size_t i = 0; i < rewriter->tokens->n; i = behind(rewriter, i)) {
        if (is(rewriter, i, ";"))
            first = i + 1;
        if (!is(rewriter, i, "pinion_seh_pattern"))
            continue;
        rewriter->pattern = first;
        rewriter->pattern_end = i - 1;
        return;
    }
}

/* All of them stand in functions, unless a bracket is missing somewhere. */
static void check_all_written(struct rewriter *rewriter)
{
    size_t at = 0;

    while (at < rewriter->tokens->n && !is_try(rewriter, at))
        at++;
    if (at < rewriter->tokens->n && rewriter->nframes == 0)
        complain(rewriter, at, "a __try in no function: is a bracket left open?");
}

enum seh_outcome seh_rewrite(const char *source, FILE *out)
{
    struct tokens tokens;
    struct rewriter rewriter = {.tokens = &tokens};
    bool found;

    if (!tokens_read(&tokens, source)) {
        fputs("pinion cc: there is not enough memory for this source\n", stderr);
        return SEH_WRONG;
    }
    find_pattern(&rewriter);
    found = go_through(&rewriter) || has_try(&rewriter, 0, tokens.n) || has_suffix(&rewriter);
    rewriter.out = out;
    if (found) {
        go_through(&rewriter);
        check_all_written(&rewriter);
    }
    tokens_free(&tokens);
    if (!found)
        return SEH_NONE;
    return rewriter.wrong ? SEH_WRONG : SEH_REWRITTEN;
}
