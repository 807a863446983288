/* SPDX-License-Identifier: MIT */
/*
 * --faults systematic: each call of a routine that can fail, told apart by its call stack, fails once, in a run of its own.
 *
 *     first run, nothing fails      meets calls 1, 2, 3, ...
 *     run 2, call 2 fails           may meet calls on the way of that failure: 2.1, 2.2, ...
 *     run 2.1, calls 2 and 2.1 fail may meet more, which are numbered on: 2.3, ...
 *
 * The runs that begin with one call are its family. What a family meets for the first time belongs to it, though another family may
 * meet it too: so families depend on nothing but the first run, and a shard is a set of families, chosen by the ranks of the ids of the
 * calls they begin with.
 *
 *   call      a routine reached through the same frames of the driver (pinion_call)
 *   attempt   one run, and the call that it is to make fail, after those that lead to it
 */

#include "cli/cli.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { NONE = -1 };

struct attempt {
    uint64_t id;                        /* of the call; 0: nothing fails */
    json_t  *call;                      /* NULL: nothing fails */
    long     after;                     /* index of the attempt whose failure led to this call; NONE: of no other */
    unsigned family, member;            /* its number: 2, or 2.1 */
    bool     made;                      /* the call was made again, and failed */
    enum verdict verdict;
    json_t  *findings;
    double   seconds;
    json_t  *printed;                   /* by a run that was not well; else NULL */
    char     outcome[512];
};

struct plan {
    const struct cli_options *options;
    struct result   first;              /* of the run in which nothing fails */
    struct attempt *attempts;           /* [0] is that run */
    size_t          n, room;
    uint64_t       *known;              /* calls of the first run, then those of the family that is being run */
    size_t          known_count, known_room;
    size_t          nfamilies;          /* in all shards */
    size_t          nbad, nnot_made;
    size_t          nleft;              /* calls that an interrupt left untried */
    bool            interrupted;
};

/* ---- lists that grow ---- */

static void *grown(void *list, size_t n, size_t *room, size_t bytes)
{
    if (n < *room)
        return list;
    *room = *room == 0 ? 64 : *room * 2;
    list = realloc(list, *room * bytes);
    if (list == NULL) {
        cli_complain(0, "there is no memory to go on");
        exit(CLI_USAGE);
    }
    return list;
}

static struct attempt *add_attempt(struct plan *plan, const json_t *call, long after)
{
    struct attempt *attempt;

    plan->attempts = grown(plan->attempts, plan->n, &plan->room, sizeof(*plan->attempts));
    attempt = &plan->attempts[plan->n++];
    *attempt = (struct attempt){.after = after};
    if (call == NULL)
        return attempt;
    attempt->id = json_id(call);
    attempt->call = json_deep_copy(call);
    return attempt;
}

static void add_known(struct plan *plan, uint64_t id)
{
    plan->known = grown(plan->known, plan->known_count, &plan->known_room, sizeof(*plan->known));
    plan->known[plan->known_count++] = id;
}

/* ---- one attempt ---- */

/* The call and all that lead to it: how many, which is at most PINION_MOST_CALLS (add_members). */
static unsigned chain_of(const struct plan *plan, long at, uint64_t ids[PINION_MOST_CALLS])
{
    unsigned n = 0;

    for (; at > 0; at = plan->attempts[at].after)
        ids[n++] = plan->attempts[at].id;
    return n;
}

static void name_attempt(const struct attempt *attempt, char *text, size_t bytes)
{
    if (attempt->member == 0)
        snprintf(text, bytes, "%u", attempt->family);
    else
        snprintf(text, bytes, "%u.%u", attempt->family, attempt->member);
}

/* "IoAllocateMdl in AllocatePiece (driver.c:120) fails" */
static void name_run(const struct attempt *attempt, char *text, size_t bytes)
{
    char place[256];

    if (attempt->call == NULL) {
        snprintf(text, bytes, "nothing fails");
        return;
    }
    verdict_place(attempt->call, place, sizeof(place));
    snprintf(text, bytes, "%s in %s fails", json_text(attempt->call, "routine"), place);
}

static void conclude(struct plan *plan, struct attempt *attempt, const struct session *session, unsigned nfail)
{
    attempt->made = session->nmet >= nfail;
    attempt->verdict = verdict_of(session);
    attempt->seconds = session->seconds;
    attempt->findings = json_incref(session->findings);
    verdict_describe(session, attempt->outcome, sizeof(attempt->outcome));
    if (attempt->verdict == VERDICT_INTERRUPTED) {
        plan->nleft += nfail > 0;
    } else if (attempt->verdict > VERDICT_LAST_NOT_BAD) {
        plan->nbad++;
    } else if (!attempt->made) {
        plan->nnot_made++;
        snprintf(attempt->outcome, sizeof(attempt->outcome), "not made this time");
    }
}

/* JSON takes UTF-8 only, and a driver prints what it likes. */
static void make_ascii(char *text)
{
    for (; *text != '\0'; text++)
        if ((unsigned char)*text >= 0x80)
            *text = '?';
}

/* What the run printed is worth reading only when it did not go well. */
static void show_printed(struct attempt *attempt, const struct session *session)
{
    char number[32], name[320], *printed;

    if (attempt->verdict <= VERDICT_LAST_NOT_BAD)
        return;
    printed = session_printed(session);
    name_attempt(attempt, number, sizeof(number));
    name_run(attempt, name, sizeof(name));
    progress_clear();
    fprintf(stderr, "---- %s: %s: %s\n%s", number, name, attempt->outcome, printed == NULL ? "" : printed);
    if (printed != NULL) {
        make_ascii(printed);
        attempt->printed = json_string(printed);
    }
    free(printed);
}

/* False: the command line or the host is at fault, *code says how to end. */
static bool run_attempt(struct plan *plan, long at, struct session *session, int *code)
{
    uint64_t fail[PINION_MOST_CALLS];
    struct run_order order = {.options = plan->options, .fail = fail, .tell_calls = true, .known = plan->known, .known_count = plan->known_count};

    order.nfail = chain_of(plan, at, fail);
    *code = CLI_USAGE;
    if (!session_run(&order, true, session))
        return false;
    if (session_is_usage(session, code)) {
        char *printed = session_printed(session);

        fputs(printed == NULL ? "" : printed, stderr);
        free(printed);
        session_free(session);
        return false;
    }
    conclude(plan, &plan->attempts[at], session, order.nfail);
    show_printed(&plan->attempts[at], session);
    return true;
}

/* ---- families ---- */

/* By its rank among the ids of the first run, so that the parts differ by one call at most. */
static bool is_in_shard(const struct plan *plan, const json_t *calls, uint64_t id)
{
    const json_t *call;
    size_t i, rank = 0;

    json_array_foreach(calls, i, call)
        rank += json_id(call) < id;
    return plan->options->nshards == 0 || rank % plan->options->nshards == plan->options->shard - 1;
}

static void add_members(struct plan *plan, long after, const json_t *calls, unsigned family, unsigned *members)
{
    uint64_t chain[PINION_MOST_CALLS];
    const json_t *call;
    size_t i;

    if (json_array_size(calls) > 0 && chain_of(plan, after, chain) == PINION_MOST_CALLS) {
        cli_complain(0, "%zu calls are only made when %u others have failed before: they are not tried", json_array_size(calls),
                     (unsigned)PINION_MOST_CALLS);
        return;
    }
    json_array_foreach(calls, i, call) {
        struct attempt *attempt = add_attempt(plan, call, after);

        attempt->family = family;
        attempt->member = ++*members;
        add_known(plan, attempt->id);
    }
}

static void free_attempt(struct attempt *attempt)
{
    json_decref(attempt->call);
    json_decref(attempt->findings);
    json_decref(attempt->printed);
}

/* After an interrupt: those that were not run. */
static void drop_attempts(struct plan *plan, size_t first)
{
    while (plan->n > first)
        free_attempt(&plan->attempts[--plan->n]);
}

static bool run_family(struct plan *plan, const json_t *first, unsigned family, int *code)
{
    const size_t known_count = plan->known_count;
    unsigned members = 0;
    long at = (long)plan->n;

    add_attempt(plan, first, NONE)->family = family;
    for (; at < (long)plan->n && !host_interrupted(); at++) {
        struct session session;

        progress_count("failing calls", (size_t)family - 1, plan->nfamilies, plan->nbad);
        if (!run_attempt(plan, at, &session, code))
            return false;
        add_members(plan, at, session.calls, family, &members);
        session_free(&session);
    }
    plan->nleft += plan->n - (size_t)at;
    drop_attempts(plan, (size_t)at);
    plan->known_count = known_count;
    return true;
}

static bool run_families(struct plan *plan, const json_t *calls, int *code)
{
    plan->nfamilies = json_array_size(calls);
    for (size_t i = 0; i < plan->nfamilies; i++) {
        const json_t *call = json_array_get(calls, i);

        if (!is_in_shard(plan, calls, json_id(call)))
            continue;
        if (host_interrupted())
            plan->nleft++;
        else if (!run_family(plan, call, (unsigned)i + 1, code))
            return false;
    }
    progress_clear();
    return true;
}

/* A driver that is not well when nothing fails is no driver to fail calls of: no outcome could be put down to a call. */
static bool run_all(struct plan *plan, int *code)
{
    struct session session;
    json_t *calls;
    const json_t *call;
    bool done;
    size_t i;

    add_attempt(plan, NULL, NONE);
    if (!run_attempt(plan, 0, &session, code))
        return false;
    plan->first = session.result;
    calls = json_incref(session.calls);
    json_array_foreach(calls, i, call)
        add_known(plan, json_id(call));
    session_free(&session);
    done = plan->attempts[0].verdict != VERDICT_WELL || run_families(plan, calls, code);
    plan->interrupted = host_interrupted();
    json_decref(calls);
    return done;
}

/* ---- what the user sees ---- */

static int code_of(const struct plan *plan)
{
    return plan->nbad > 0 ? CLI_WRONG : plan->interrupted ? CLI_INTERRUPTED : CLI_CLEAN;
}

static const json_t *frame_of(const struct attempt *attempt, size_t i)
{
    return json_array_get(json_object_get(attempt->call, "frames"), i);
}

static bool is_same_place(const json_t *a, const json_t *b)
{
    return strcmp(json_text(a, "module"), json_text(b, "module")) == 0 && strcmp(json_text(a, "offset"), json_text(b, "offset")) == 0;
}

/* How many frames it takes to tell this call from that one, in print. */
static size_t frames_to_tell(const struct attempt *attempt, const struct attempt *other)
{
    size_t i = 0;

    if (other->call == NULL || other->id == attempt->id || strcmp(json_text(attempt->call, "routine"), json_text(other->call, "routine")) != 0)
        return 1;
    while (frame_of(attempt, i) != NULL && frame_of(other, i) != NULL && is_same_place(frame_of(attempt, i), frame_of(other, i)))
        i++;
    return i + 1;
}

/* "AllocatePiece (driver.c:120) < ReadWrite (driver.c:200)", as long as it must be to stand for no other call. */
static void name_path(const struct plan *plan, const struct attempt *attempt, char *text, size_t bytes)
{
    size_t n = 1, used = 0;

    for (size_t i = 1; i < plan->n; i++) {
        const size_t needed = frames_to_tell(attempt, &plan->attempts[i]);

        n = needed > n ? needed : n;
    }
    text[0] = '\0';
    for (size_t i = 0; i < n && frame_of(attempt, i) != NULL && used < bytes; i++) {
        char place[256];

        verdict_place(frame_of(attempt, i), place, sizeof(place));
        used += (size_t)snprintf(text + used, bytes - used, "%s%s", i == 0 ? "" : " < ", place);
    }
}

static void print_row(const struct plan *plan, const struct attempt *attempt)
{
    char number[32], path[512];

    name_attempt(attempt, number, sizeof(number));
    name_path(plan, attempt, path, sizeof(path));
    printf("  %-5s %016" PRIx64 "  %s in %s\n        %s%s\n", number, attempt->id, json_text(attempt->call, "routine"), path,
           attempt->verdict > VERDICT_LAST_NOT_BAD ? "NOT WELL: " : "", attempt->outcome);
}

static bool describe_interrupt(const struct plan *plan, char *text, size_t bytes)
{
    if (plan->interrupted)
        snprintf(text, bytes, "interrupted: %zu known calls were not tried to the end, nor what only their failure leads to", plan->nleft);
    return plan->interrupted;
}

static void print_summary(const struct plan *plan)
{
    const struct cli_options *options = plan->options;
    const size_t tried = plan->n - 1, ninterrupted = plan->attempts[tried].verdict == VERDICT_INTERRUPTED;
    char text[256];

    printf("  %zu call%s failed, %zu well, %zu not well", tried, tried == 1 ? "" : "s",
           tried - plan->nbad - plan->nnot_made - ninterrupted, plan->nbad);
    if (plan->nnot_made > 0)
        printf(", %zu not made again", plan->nnot_made);
    if (options->nshards != 0)
        printf("; shard %u of %u, %zu calls before any failure in all shards", options->shard, options->nshards, plan->nfamilies);
    if (describe_interrupt(plan, text, sizeof(text)))
        printf("; %s", text);
    putchar('\n');
    if (plan->nbad > 0 && tried > 0)
        printf("  to repeat one: the same command with --faults ID, for a debugger --faults ID --in-process\n");
}

static void print_table(const struct plan *plan)
{
    const struct cli_options *options = plan->options;

    report_title(plan->first.driver_name, code_of(plan));
    printf("  each run: %" PRIu64 " bytes of %s, seed %" PRIu64 ", %u thread%s with %u request%s in flight\n", plan->first.file_bytes,
           options->file_path, options->seed, options->threads, options->threads == 1 ? "" : "s", options->depth,
           options->depth == 1 ? "" : "s");
    if (plan->attempts[0].verdict != VERDICT_WELL) {
        printf("  nothing was made to fail, because without that %s: %s\n",
               plan->nbad > 0 ? "it is not well" : "it did not run to its end", plan->attempts[0].outcome);
        return;
    }
    for (size_t i = 1; i < plan->n; i++)
        print_row(plan, &plan->attempts[i]);
    print_summary(plan);
}

static json_t *json_of_attempt(const struct plan *plan, const struct attempt *attempt)
{
    json_t *object = attempt->call == NULL ? json_object() : json_deep_copy(attempt->call), *after = json_array();
    char number[32], name[320];

    name_attempt(attempt, number, sizeof(number));
    name_run(attempt, name, sizeof(name));
    json_object_set_new(object, "name", json_string(name));
    json_object_set_new(object, "number", json_string(number));
    for (long at = attempt->after; at > 0; at = plan->attempts[at].after)
        json_array_append(after, json_object_get(plan->attempts[at].call, "id"));
    json_object_set_new(object, "after", after);
    json_object_set_new(object, "made", json_boolean(attempt->made));
    json_object_set_new(object, "verdict", json_string(verdict_name(attempt->verdict)));
    json_object_set_new(object, "outcome", json_string(attempt->outcome));
    json_object_set_new(object, "clean", json_boolean(attempt->verdict <= VERDICT_LAST_GOOD));
    json_object_set_new(object, "seconds", json_real(attempt->seconds));
    json_object_set(object, "reports", attempt->findings);
    if (attempt->printed != NULL)
        json_object_set(object, "printed", attempt->printed);
    return object;
}

static json_t *json_of_attempts(const struct plan *plan, size_t first)
{
    json_t *array = json_array();

    for (size_t i = first; i < plan->n; i++)
        json_array_append_new(array, json_of_attempt(plan, &plan->attempts[i]));
    return array;
}

static json_t *json_of_plan(const struct plan *plan)
{
    json_t *object = report_setting(plan->options, &plan->first);

    json_object_set_new(object, "faults", json_string("systematic"));
    if (plan->options->nshards != 0)
        json_object_set_new(object, "shard", json_sprintf("%u/%u", plan->options->shard, plan->options->nshards));
    json_object_set_new(object, "without_failure", json_of_attempt(plan, &plan->attempts[0]));
    json_object_set_new(object, "calls_of_all_shards", json_integer((json_int_t)plan->nfamilies));
    json_object_set_new(object, "calls", json_of_attempts(plan, 1));
    json_object_set_new(object, "not_made", json_integer((json_int_t)plan->nnot_made));
    json_object_set_new(object, "interrupted", json_boolean(plan->interrupted));
    json_object_set_new(object, "not_tried", json_integer((json_int_t)plan->nleft));
    json_object_set_new(object, "clean", json_boolean(code_of(plan) == CLI_CLEAN));
    return object;
}

/* ---- from beginning to end ---- */

static int report(const struct plan *plan)
{
    json_t *runs = json_of_attempts(plan, 0);
    char text[256];
    const bool written = report_files(plan->options, plan->first.driver_name, runs, describe_interrupt(plan, text, sizeof(text)) ? text : NULL);

    json_decref(runs);
    if (plan->options->json)
        report_json(json_of_plan(plan));
    else
        print_table(plan);
    return written ? code_of(plan) : CLI_USAGE;
}

static void plan_free(struct plan *plan)
{
    drop_attempts(plan, 0);
    free(plan->attempts);
    free(plan->known);
}

int systematic_main(const struct cli_options *options)
{
    struct plan plan = {.options = options};
    int code;

    if (run_all(&plan, &code))
        code = report(&plan);
    plan_free(&plan);
    return code;
}
