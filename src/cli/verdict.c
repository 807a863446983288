/* SPDX-License-Identifier: MIT */
/* What a session says of the driver: the gravest of all that can be said. */

#include "cli/cli.h"

#include <inttypes.h>
#include <string.h>

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* An injected failure may end one request. More failed requests than that are the driver's doing. */
uint64_t verdict_unexplained(const struct result *result)
{
    return result->tally.failed - smaller(result->tally.failed, result->totals.injected_failures);
}

uint64_t verdict_held(const struct result *result)
{
    const struct pinion_counters *held = &result->held;

    return held->live_mdls + held->locked_pages + held->system_mappings + held->outstanding_lists + held->live_irps;
}

/* ---- findings ---- */

static bool is_stop(const json_t *finding)
{
    return strcmp(json_text(finding, "kind"), "bug check") == 0;
}

static bool is_leak(const json_t *finding)
{
    const char *id = json_text(finding, "id");

    return strstr(id, "-leak") != NULL || strstr(id, "-left") != NULL || strcmp(id, "0xC4/0x62") == 0;
}

/* What is lost leaks as well. */
static bool is_loss(const json_t *finding)
{
    return strcmp(json_text(finding, "id"), "irp-lost") == 0;
}

/* The first finding of that sort; NULL: there is none. */
static const json_t *find(const struct session *session, bool (*is_so)(const json_t *finding))
{
    const json_t *finding;
    size_t i;

    json_array_foreach(session->findings, i, finding)
        if (is_so == NULL || is_so(finding))
            return finding;
    return NULL;
}

/* ---- the verdict ---- */

static enum verdict verdict_of_requests(const struct result *result)
{
    if (result->tally.cut_short + result->tally.guards_broken + result->tally.wrong_bytes > 0)
        return VERDICT_WRONG_DATA;
    if (verdict_unexplained(result) > 0)
        return VERDICT_UNEXPLAINED;
    if (result->refused_by[0] != '\0')
        return result->injected > 0 ? VERDICT_REFUSED : VERDICT_REFUSED_UNASKED;
    return VERDICT_WELL;
}

/* What a whole run would have had to show. */
static enum verdict verdict_of_rest(const struct session *session)
{
    const enum verdict verdict = verdict_of_requests(&session->result);

    if (verdict > VERDICT_LAST_GOOD)
        return verdict;
    return session->result.interrupted ? VERDICT_INTERRUPTED : session->nnot_made > 0 ? VERDICT_NOT_MADE : verdict;
}

/* A process that went on to its end may still have ended otherwise than it meant to: a sanitizer speaks last. */
static bool ended_otherwise(const struct session *session)
{
    return !session->closed || session->child.signal != 0 || session->child.code != session->code;
}

enum verdict verdict_of(const struct session *session)
{
    if (find(session, is_stop) != NULL)
        return VERDICT_STOPPED;
    if (session->timed_out)
        return VERDICT_HUNG;
    if (session->cut_off)
        return VERDICT_INTERRUPTED;
    if (ended_otherwise(session))
        return VERDICT_CRASHED;
    if (session->result.tally.lost > 0 || find(session, is_loss) != NULL)
        return VERDICT_LOST;
    if (find(session, is_leak) != NULL || verdict_held(&session->result) > 0)
        return VERDICT_LEAK;
    if (find(session, NULL) != NULL)
        return VERDICT_FINDING;
    return verdict_of_rest(session);
}

int verdict_code(enum verdict verdict)
{
    return verdict <= VERDICT_LAST_GOOD ? CLI_CLEAN : verdict == VERDICT_INTERRUPTED ? CLI_INTERRUPTED : CLI_WRONG;
}

const char *verdict_name(enum verdict verdict)
{
    static const char *const names[VERDICTS] = {
        [VERDICT_WELL] = "well", [VERDICT_REFUSED] = "refused-to-start", [VERDICT_INTERRUPTED] = "interrupted",
        [VERDICT_NOT_MADE] = "call-not-made", [VERDICT_REFUSED_UNASKED] = "refused-to-start-unasked",
        [VERDICT_UNEXPLAINED] = "requests-failed-unexplained", [VERDICT_WRONG_DATA] = "wrong-data", [VERDICT_LEAK] = "leak",
        [VERDICT_FINDING] = "warning", [VERDICT_LOST] = "requests-lost", [VERDICT_HUNG] = "hang", [VERDICT_CRASHED] = "crash",
        [VERDICT_STOPPED] = "bug-check",
    };

    return names[verdict];
}

/* ---- in words ---- */

void verdict_place(const json_t *object, char *text, size_t bytes)
{
    const char *function = json_text(object, "function"), *file = json_text(object, "file"), *slash = strrchr(file, '/');

    if (*file != '\0')
        snprintf(text, bytes, "%s (%s:%d)", function, slash == NULL ? file : slash + 1,
                 (int)json_integer_value(json_object_get(object, "line")));
    else
        snprintf(text, bytes, "%s", function);
}

static void describe_finding(const json_t *finding, const char *kind, char *text, size_t bytes)
{
    char place[256];

    verdict_place(finding, place, sizeof(place));
    snprintf(text, bytes, "%s %s%s%s%s%s", kind, json_text(finding, "id"), is_stop(finding) ? " " : "",
             json_text(finding, "bug_check"), *place == '\0' ? "" : " in ", place);
}

static void describe_leak(const struct session *session, char *text, size_t bytes)
{
    const json_t *leak = find(session, is_leak);

    if (leak != NULL)
        describe_finding(leak, "leak:", text, bytes);
    else
        snprintf(text, bytes, "leak: %" PRIu64 " things are still held", verdict_held(&session->result));
}

static void describe_loss(const struct session *session, char *text, size_t bytes)
{
    const json_t *loss = find(session, is_loss);
    const uint64_t lost = session->result.tally.lost;
    char place[256];

    if (lost == 0) {
        describe_finding(loss, "lost:", text, bytes);
        return;
    }
    verdict_place(loss, place, sizeof(place));
    snprintf(text, bytes, "%" PRIu64 " request%s never came back%s%s%s", lost, lost == 1 ? "" : "s", *place == '\0' ? "" : "; ", place,
             *place == '\0' ? "" : lost == 1 ? " had it last" : " had the first of them last");
}

static bool is_hang(const json_t *finding)
{
    return strcmp(json_text(finding, "kind"), "hang") == 0;
}

static void describe_hang(const struct session *session, char *text, size_t bytes)
{
    char place[256];

    verdict_place(find(session, is_hang), place, sizeof(place));
    snprintf(text, bytes, "hang: it had not ended when its time was up%s%s", *place == '\0' ? "" : "; it is in ", place);
}

static void describe_crash(const struct session *session, char *text, size_t bytes)
{
    const struct host_child *child = &session->child;

    if (child->signal != 0)
        snprintf(text, bytes, "crash: signal %d (%s)", child->signal, strsignal(child->signal));
    else if (child->code == HOST_CHILD_ABORTED)
        snprintf(text, bytes, "crash: the process aborted");
    else
        snprintf(text, bytes, "the process ended with exit code %d%s", child->code, session->closed ? " after the run" : " in the middle of the run");
}

static void describe_requests(const struct result *result, char *text, size_t bytes)
{
    const struct tally *tally = &result->tally;

    if (tally->failed == 0)
        snprintf(text, bytes, result->injected > 0 ? "handled: no request failed" : "no request failed");
    else
        snprintf(text, bytes, "handled: %" PRIu64 " request%s failed with %s", tally->failed, tally->failed == 1 ? "" : "s",
                 cli_status(tally->failed_with));
}

static void describe_wrong_data(const struct tally *tally, char *text, size_t bytes)
{
    snprintf(text, bytes, "wrong data: %" PRIu64 " bytes wrong, %" PRIu64 " requests cut short, %" PRIu64 " beside their buffer",
             tally->wrong_bytes, tally->cut_short, tally->guards_broken);
}

bool verdict_interrupt(const struct session *session, char *text, size_t bytes)
{
    const struct result *result = &session->result;
    char place[256];

    if (!result->interrupted && !session->cut_off)
        return false;
    verdict_place(session->cut_off_at, place, sizeof(place));
    if (!session->cut_off)
        snprintf(text, bytes, "interrupted after %" PRIu64 " requests: the rest was not run", result->tally.requests);
    else
        snprintf(text, bytes, "interrupted: it did not end then, and nothing is known of its requests%s%s",
                 *place == '\0' ? "" : "; it was in ", place);
    return true;
}

void verdict_describe(const struct session *session, char *text, size_t bytes)
{
    const struct result *result = &session->result;
    const enum verdict verdict = verdict_of(session);

    switch (verdict) {
    case VERDICT_STOPPED: describe_finding(find(session, is_stop), "bug check", text, bytes); break;
    case VERDICT_LEAK: describe_leak(session, text, bytes); break;
    case VERDICT_FINDING: describe_finding(find(session, NULL), "warning", text, bytes); break;
    case VERDICT_CRASHED: describe_crash(session, text, bytes); break;
    case VERDICT_WRONG_DATA: describe_wrong_data(&result->tally, text, bytes); break;
    case VERDICT_INTERRUPTED: verdict_interrupt(session, text, bytes); break;
    case VERDICT_NOT_MADE: snprintf(text, bytes, "calls of --faults that were not made: %u", session->nnot_made); break;
    case VERDICT_HUNG: describe_hang(session, text, bytes); break;
    case VERDICT_LOST: describe_loss(session, text, bytes); break;
    case VERDICT_REFUSED: case VERDICT_REFUSED_UNASKED:
        snprintf(text, bytes, "refused to start: %s, %s", result->refused_by, cli_status(result->refused_with));
        break;
    case VERDICT_UNEXPLAINED:
        snprintf(text, bytes, "%" PRIu64 " requests failed that no injected failure explains, with %s", verdict_unexplained(result),
                 cli_status(result->tally.failed_with));
        break;
    default: describe_requests(result, text, bytes);
    }
}
