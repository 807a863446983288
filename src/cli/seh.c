/* SPDX-License-Identifier: MIT */
/*
 * __try and its kin, rewritten.
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
 * A scope is what stands around the statement that is being written, innermost first.
 */

#include "cli/rewriter.h"

#include <string.h>

/* More is no driver's: statements in each other are read by recursion, and each jump out of a __finally block within others copies all. */
enum { MOST_NESTED = 1000, MOST_COPIES = 10000 };

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

static size_t write_statement(struct rewriter *rewriter, size_t at, struct scope *scope);
static size_t write_block(struct rewriter *rewriter, size_t at, struct scope *scope);
static void write_finally(struct rewriter *rewriter, const struct scope *body);

/* ---- words ---- */

static bool is_except(const struct rewriter *rewriter, size_t at)
{
    return (rw_is(rewriter, at, "__except") || rw_is(rewriter, at, "except")) && rw_is(rewriter, at + 1, "(");
}

static bool is_finally(const struct rewriter *rewriter, size_t at)
{
    return (rw_is(rewriter, at, "__finally") || rw_is(rewriter, at, "finally")) && rw_is(rewriter, at + 1, "{");
}

static bool is_leave(const struct rewriter *rewriter, size_t at)
{
    return (rw_is(rewriter, at, "__leave") || rw_is(rewriter, at, "leave")) && rw_is(rewriter, at + 1, ";");
}

/* A word before a colon where a statement may begin. */
static bool is_label(const struct rewriter *rewriter, size_t at)
{
    static const char *const before[] = {";", "{", "}", ":", "else", "do", NULL}, *const none[] = {"default", NULL};

    return at > 0 && rw_token_at(rewriter, at)->kind == TOKEN_WORD && rw_is(rewriter, at + 1, ":") && rw_is_one_of(rewriter, at - 1, before)
        && !rw_is_one_of(rewriter, at, none) && rw_token_at(rewriter, at + 2)->kind != TOKEN_NUMBER;
}

static bool has_label(const struct rewriter *rewriter, size_t block, const struct token *name)
{
    for (size_t i = block; i < rw_behind(rewriter, block); i++) {
        const struct token *token = rw_token_at(rewriter, i);

        if (token->text_bytes == name->text_bytes && memcmp(token->text, name->text, name->text_bytes) == 0 && is_label(rewriter, i))
            return true;
    }
    return false;
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

    if (!rw_is(rewriter, at + 1, "(") || !rw_is(rewriter, at + 2, ")"))
        return 0;
    for (size_t i = 0; i < sizeof(intrinsics) / sizeof(intrinsics[0]); i++) {
        const struct scope *whose = nearest(scope, intrinsics[i].one, intrinsics[i].other);

        if (!rw_is_one_of(rewriter, at, intrinsics[i].names))
            continue;
        if (whose == NULL)
            rw_complain(rewriter, at, "an exception is asked for outside of its filter, its handler or its __finally block");
        rw_write_before(rewriter, at);
        rw_write_text(rewriter, "%s(&pinion_seh_%u)", intrinsics[i].call, whose == NULL ? 0 : whose->frame);
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
        else if (rw_is(rewriter, at, "(") && rw_is(rewriter, at + 1, "{"))
            at = write_block(rewriter, rw_write_token(rewriter, at), scope);
        else
            at = rw_write_token(rewriter, at);
    }
    return at;
}

static size_t write_brackets(struct rewriter *rewriter, size_t at, struct scope *scope)
{
    return rw_is(rewriter, at, "(") ? write_expression(rewriter, at, rw_behind(rewriter, at), scope) : at;
}

/* The index of the first such token that stands in no bracket. */
static size_t find(const struct rewriter *rewriter, size_t at, const char *text)
{
    while (at < rewriter->tokens->n && !rw_is(rewriter, at, text) && !rw_is(rewriter, at, "}"))
        at = rw_behind(rewriter, at);
    return at;
}

/* What follows the first semicolon, or whatever else it is; a block that ends before has a statement without one. */
static size_t behind(const struct rewriter *rewriter, size_t at, const char *text)
{
    const size_t end = find(rewriter, at, text);

    return rw_is(rewriter, end, text) ? end + 1 : end;
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
        rw_write_text(rewriter, " pinion_seh_abandon(&pinion_seh_%u);", body->frame);
        if (body->kind == TRY_EXCEPT)
            continue;
        rw_move_to(rewriter, body->finally);
        write_finally(rewriter, body);
    }
}

/* A jump of a few tokens up to `end`, its semicolon included. */
static size_t write_jump(struct rewriter *rewriter, size_t at, size_t end, struct scope *from, const struct scope *to)
{
    if (body_on_the_way(from, to) == NULL)
        return write_expression(rewriter, at, end, from);
    rw_write_text(rewriter, " {");
    leave_bodies(rewriter, from, to);
    rw_move_to(rewriter, at);
    write_expression(rewriter, at, end, from);
    rw_write_text(rewriter, " }");
    return end;
}

static size_t write_break(struct rewriter *rewriter, size_t at, struct scope *scope)
{
    return write_jump(rewriter, at, at + 2, scope, nearest(scope, LOOP, rw_is(rewriter, at, "break") ? SWITCH : LOOP));
}

/* A `goto` stays within the bodies that have its label, and leaves all others. */
static size_t write_goto(struct rewriter *rewriter, size_t at, struct scope *scope)
{
    const struct scope *to = scope;

    while (to != NULL && !(is_body(to) && has_label(rewriter, to->body, rw_token_at(rewriter, at + 1))))
        to = to->outer;
    return write_jump(rewriter, at, behind(rewriter, at, ";"), scope, to);
}

static size_t write_leave(struct rewriter *rewriter, size_t at, struct scope *scope)
{
    struct scope *body = scope;

    while (body != NULL && !is_body(body))
        body = body->outer;
    if (body == NULL) {
        rw_complain(rewriter, at, "__leave outside of a __try");
        return at + 2;
    }
    body->left = true;
    rw_write_before(rewriter, at);
    rw_write_text(rewriter, "goto pinion_leave_%u;", body->frame);
    return at + 2;
}

/* Nothing is to be computed for it, so it may stay in its `return`, behind what runs before. */
static bool is_constant(const struct rewriter *rewriter, size_t at, size_t end)
{
    static const char *const signs[] = {"(", ")", "-", "~", "void", "*", NULL};

    while (at < end && (rw_token_at(rewriter, at)->kind == TOKEN_NUMBER || rw_is_one_of(rewriter, at, signs)))
        at++;
    return at == end;
}

/* The value of a comma expression is of a type that a variable can have, where a bit-field or an array is not. */
static size_t write_return(struct rewriter *rewriter, size_t at, struct scope *scope)
{
    const size_t end = find(rewriter, at, ";");
    const unsigned value = ++rewriter->nvalues;

    if (!rw_is(rewriter, end, ";"))
        return write_expression(rewriter, at, end, scope);
    if (body_on_the_way(scope, NULL) == NULL || is_constant(rewriter, at + 1, end))
        return write_jump(rewriter, at, end + 1, scope, NULL);
    rw_write_before(rewriter, at);
    rw_write_text(rewriter, rewriter->returns_nothing ? "{ (void)(" : "{ __auto_type pinion_value_%u = ((void)0, ", value);
    write_expression(rewriter, at + 1, end, scope);
    rw_write_text(rewriter, ");");
    leave_bodies(rewriter, scope, NULL);
    rw_move_to(rewriter, end);
    rw_write_text(rewriter, rewriter->returns_nothing ? " return" : " return pinion_value_%u", value);
    rw_write_token(rewriter, end);
    rw_write_text(rewriter, " }");
    return end + 1;
}

/* ---- __try ---- */

static void open_frame(struct rewriter *rewriter, size_t at, unsigned frame)
{
    rw_write_before(rewriter, at);
    rw_write_text(rewriter, "{ struct pinion_seh pinion_seh_%u; pinion_seh_enter(&pinion_seh_%u);", frame, frame);
    rw_write_text(rewriter, " if (pinion_seh_mark(&pinion_seh_%u, 0) == 0) {", frame);
}

/* What would never be reached is not written: compilers would find ways to there, and warn of what lies behind. */
static void write_body(struct rewriter *rewriter, struct scope *scope)
{
    static const char *const jumps[] = {"return", "goto", "break", "continue", NULL};

    write_block(rewriter, scope->body, scope);
    scope->jumps = !scope->left && rw_is_one_of(rewriter, rewriter->last, jumps);
    if (scope->left)
        rw_write_text(rewriter, " pinion_leave_%u: ;", scope->frame);
    if (!scope->jumps)
        rw_write_text(rewriter, " pinion_seh_leave(&pinion_seh_%u);", scope->frame);
}

static size_t write_try_finally(struct rewriter *rewriter, size_t at, struct scope *scope)
{
    const unsigned frame = scope->frame;
    const size_t end = rw_behind(rewriter, scope->finally);

    open_frame(rewriter, at, frame);
    write_body(rewriter, scope);
    rw_write_before(rewriter, scope->finally - 1);
    if (!scope->jumps)
        write_finally(rewriter, scope);
    rw_write_text(rewriter, " } else {");
    rw_move_to(rewriter, scope->finally);
    write_finally(rewriter, scope);
    rw_write_text(rewriter, " pinion_seh_resume(&pinion_seh_%u); } }", frame);
    rw_move_to(rewriter, end);
    return end;
}

static size_t write_try_except(struct rewriter *rewriter, size_t at, size_t except, struct scope *scope)
{
    const unsigned frame = scope->frame;
    struct scope filter = {.outer = scope->outer, .kind = FILTER, .frame = frame};
    struct scope handler = {.outer = scope->outer, .kind = HANDLER, .frame = frame};
    const size_t end = rw_behind(rewriter, except + 1);

    open_frame(rewriter, at, frame);
    write_body(rewriter, scope);
    rw_write_text(rewriter, " } else { pinion_seh_filter(&pinion_seh_%u, ", frame);
    rw_write_before(rewriter, except);
    write_expression(rewriter, except + 1, end, &filter);
    rw_write_text(rewriter, ");");
    at = write_block(rewriter, end, &handler);
    rw_write_text(rewriter, " } }");
    return at;
}

static size_t write_try(struct rewriter *rewriter, size_t at, struct scope *outer)
{
    struct scope scope = {.outer = outer, .body = at + 1, .frame = ++rewriter->nframes};
    const size_t next = rw_behind(rewriter, at + 1);

    if (rw_is(rewriter, at + 1, "{") && is_finally(rewriter, next)) {
        scope.kind = TRY_FINALLY;
        scope.finally = next + 1;
        return write_try_finally(rewriter, at, &scope);
    }
    if (rw_is(rewriter, at + 1, "{") && is_except(rewriter, next) && rw_is(rewriter, rw_behind(rewriter, next + 1), "{")) {
        scope.kind = TRY_EXCEPT;
        return write_try_except(rewriter, at, next, &scope);
    }
    rw_complain(rewriter, at, "a __try needs a block, and __except or __finally with another behind it");
    return next;
}

/* ---- statements ---- */

static size_t write_loop(struct rewriter *rewriter, size_t at, struct scope *outer)
{
    struct scope scope = {.outer = outer, .kind = rw_is(rewriter, at, "switch") ? SWITCH : LOOP};

    at = write_brackets(rewriter, rw_write_token(rewriter, at), outer);
    return write_statement(rewriter, at, &scope);
}

static size_t write_do(struct rewriter *rewriter, size_t at, struct scope *outer)
{
    struct scope scope = {.outer = outer, .kind = LOOP};

    at = write_statement(rewriter, rw_write_token(rewriter, at), &scope);
    return write_expression(rewriter, at, behind(rewriter, at, ";"), outer);
}

static size_t write_if(struct rewriter *rewriter, size_t at, struct scope *scope)
{
    at = write_brackets(rewriter, rw_write_token(rewriter, at), scope);
    at = write_statement(rewriter, at, scope);
    if (rw_is(rewriter, at, "else"))
        at = write_statement(rewriter, rw_write_token(rewriter, at), scope);
    return at;
}

/* A label belongs to the statement behind it, unless the block ends there. */
static size_t write_labelled(struct rewriter *rewriter, size_t at, struct scope *scope)
{
    at = write_expression(rewriter, at, behind(rewriter, at, ":"), scope);
    return rw_is(rewriter, at, "}") ? at : write_statement(rewriter, at, scope);
}

static size_t write_one_of_its_kind(struct rewriter *rewriter, size_t at, struct scope *scope)
{
    static const char *const loops[] = {"for", "while", "switch", NULL}, *const breaks[] = {"break", "continue", NULL};
    static const char *const cases[] = {"case", "default", NULL};

    if (rw_is_try(rewriter, at))
        return write_try(rewriter, at, scope);
    if (rw_is(rewriter, at, "{"))
        return write_block(rewriter, at, scope);
    if (rw_is(rewriter, at, "if"))
        return write_if(rewriter, at, scope);
    if (rw_is(rewriter, at, "do"))
        return write_do(rewriter, at, scope);
    if (rw_is(rewriter, at, "return"))
        return write_return(rewriter, at, scope);
    if (rw_is(rewriter, at, "goto"))
        return write_goto(rewriter, at, scope);
    if (is_leave(rewriter, at))
        return write_leave(rewriter, at, scope);
    if (rw_is_one_of(rewriter, at, loops))
        return write_loop(rewriter, at, scope);
    if (rw_is_one_of(rewriter, at, breaks) && rw_is(rewriter, at + 1, ";"))
        return write_break(rewriter, at, scope);
    if (is_label(rewriter, at) || rw_is_one_of(rewriter, at, cases))
        return write_labelled(rewriter, at, scope);
    return write_expression(rewriter, at, behind(rewriter, at, ";"), scope);
}

static size_t write_statement(struct rewriter *rewriter, size_t at, struct scope *scope)
{
    if (rewriter->depth == MOST_NESTED)
        rw_complain(rewriter, at, "statements are nested too deeply");
    if (at >= rewriter->tokens->n || rewriter->wrong)
        return rewriter->tokens->n;
    rewriter->depth++;
    at = write_one_of_its_kind(rewriter, at, scope);
    rewriter->depth--;
    return at;
}

/* The labels of a __finally block that is written more than once are each copy's own. */
static void declare_labels(struct rewriter *rewriter, size_t block)
{
    for (size_t i = block; i < rw_behind(rewriter, block); i++)
        if (is_label(rewriter, i))
            rw_write_text(rewriter, " __label__ %.*s;", (int)rw_token_at(rewriter, i)->text_bytes, rw_token_at(rewriter, i)->text);
}

static size_t write_rest_of_block(struct rewriter *rewriter, size_t at, struct scope *scope)
{
    const size_t end = rw_token_at(rewriter, at)->match;
    size_t last = end;

    for (at++; at < end && !rewriter->wrong;) {
        last = at;
        at = write_statement(rewriter, at, scope);
    }
    rewriter->last = last;
    return rw_write_token(rewriter, end);
}

static size_t write_block(struct rewriter *rewriter, size_t at, struct scope *scope)
{
    rw_write_token(rewriter, at);
    return write_rest_of_block(rewriter, at, scope);
}

static void write_finally(struct rewriter *rewriter, const struct scope *body)
{
    struct scope scope = {.outer = body->outer, .kind = FINALLY, .frame = body->frame};

    if (++rewriter->ncopies == MOST_COPIES)
        rw_complain(rewriter, body->finally, "the __finally blocks of this function would have to be written too often");
    rw_write_token(rewriter, body->finally);
    declare_labels(rewriter, body->finally);
    write_rest_of_block(rewriter, body->finally, &scope);
}

size_t rw_write_body(struct rewriter *rewriter, size_t body)
{
    return write_block(rewriter, body, NULL);
}
