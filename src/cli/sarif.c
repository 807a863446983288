/* SPDX-License-Identifier: MIT */
/*
 * Findings as SARIF 2.1.0, for tools that show results of analyses beside the code: one result for each finding, and for each run that
 * was not well without one; the rules that they broke; call stacks.
 *
 * Files below the current directory are named from there (SRCROOT), as such tools want it; others by their whole path.
 */

#include "cli/cli.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SCHEMA "https://json.schemastore.org/sarif-2.1.0.json"

struct sarif {
    const char *driver_path;
    char        root[4096];             /* current directory, with a slash behind it; empty: not known */
    json_t     *rules, *results;
};

static json_t *text_object(const char *text)
{
    return json_pack("{s:s}", "text", text);
}

/* ---- where ---- */

/* What may not stand in a URI as it is, is written as %XX. */
static json_t *json_of_uri(const char *prefix, const char *path)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/+@";
    const size_t room = strlen(prefix) + 3 * strlen(path) + 1;
    char *uri = calloc(1, room);
    size_t used;
    json_t *string;

    if (uri == NULL)
        return json_null();
    used = (size_t)snprintf(uri, room, "%s", prefix);
    for (; *path != '\0'; path++)
        used += (size_t)snprintf(uri + used, room - used, strchr(plain, *path) != NULL ? "%c" : "%%%02X", (unsigned char)*path);
    string = json_string(uri);
    free(uri);
    return string;
}

static json_t *artifact_of(const struct sarif *sarif, const char *path)
{
    const size_t root = strlen(sarif->root);

    if (root > 0 && strncmp(path, sarif->root, root) == 0)
        return json_pack("{s:o, s:s}", "uri", json_of_uri("", path + root), "uriBaseId", "SRCROOT");
    if (path[0] == '/')
        return json_pack("{s:o}", "uri", json_of_uri("file://", path));
    return json_pack("{s:o, s:s}", "uri", json_of_uri("", path), "uriBaseId", "SRCROOT");
}

/* Of a finding, a call or a frame: its file and line, else the driver as a whole. */
static json_t *location_of(const struct sarif *sarif, const json_t *object)
{
    const char *file = json_text(object, "file"), *function = json_text(object, "function");
    const json_int_t line = json_integer_value(json_object_get(object, "line"));
    json_t *location = json_object(), *physical = json_object();

    json_object_set_new(physical, "artifactLocation", artifact_of(sarif, *file == '\0' ? sarif->driver_path : file));
    if (*file != '\0' && line > 0)
        json_object_set_new(physical, "region", json_pack("{s:I}", "startLine", line));
    json_object_set_new(location, "physicalLocation", physical);
    if (*function != '\0')
        json_object_set_new(location, "logicalLocations", json_pack("[{s:s, s:s}]", "name", function, "kind", "function"));
    return location;
}

static json_t *stacks_of(const struct sarif *sarif, const json_t *report)
{
    json_t *stacks = json_array();
    const json_t *stack, *frame;
    size_t i, j;

    json_array_foreach(json_object_get(report, "stacks"), i, stack) {
        json_t *frames = json_array();

        json_array_foreach(json_object_get(stack, "frames"), j, frame)
            json_array_append_new(frames, json_pack("{s:o, s:s}", "location", location_of(sarif, frame), "module", json_text(frame, "module")));
        json_array_append_new(stacks, json_pack("{s:o, s:o}", "message", text_object(json_text(stack, "title")), "frames", frames));
    }
    return stacks;
}

/* ---- what ---- */

/* The index of the rule, which is added when this is its first result. */
static size_t rule_index(struct sarif *sarif, const char *id, const char *what, const char *level)
{
    const json_t *rule;
    json_t *added;
    size_t i;

    json_array_foreach(sarif->rules, i, rule)
        if (strcmp(json_text(rule, "id"), id) == 0)
            return i;
    added = rules_describe(id, what);
    json_object_set_new(added, "defaultConfiguration", json_pack("{s:s}", "level", level));
    json_array_append_new(sarif->rules, added);
    return json_array_size(sarif->rules) - 1;
}

static json_t *new_result(struct sarif *sarif, const char *id, const char *what, const char *message, const char *level)
{
    const size_t index = rule_index(sarif, id, what, level);

    return json_pack("{s:s, s:I, s:s, s:o}", "ruleId", id, "ruleIndex", (json_int_t)index, "level", level, "message", text_object(message));
}

/* The same mistake, found again by another run of the command or after lines have moved, is the same result. */
static void add_fingerprint(json_t *result, const char *id, const json_t *where, const json_t *run)
{
    json_object_set_new(result, "partialFingerprints",
                        json_pack("{s:o}", "pinion/v1", json_sprintf("%s:%s:%s:%s", id, json_text(where, "function"),
                                                                     json_text(run, "routine"), json_text(run, "function"))));
}

/* In a systematic run: the call that was made to fail. */
static void add_failed_call(const struct sarif *sarif, json_t *result, const json_t *run)
{
    json_t *location, *message;

    if (*json_text(run, "routine") == '\0')
        return;
    location = location_of(sarif, run);
    message = json_sprintf("%s was made to fail here", json_text(run, "routine"));
    json_object_set_new(location, "message", json_pack("{s:o}", "text", message));
    json_object_set_new(location, "id", json_integer(1));
    json_object_set_new(result, "relatedLocations", json_pack("[o]", location));
}

static void add_report(struct sarif *sarif, const json_t *run, const json_t *report)
{
    const char *id = json_text(report, "id"), *what = json_text(report, "what"), *advice = json_text(report, "advice");
    const bool stopped = strcmp(json_text(report, "kind"), "bug check") == 0;
    const char *level = strcmp(json_text(report, "kind"), "warning") == 0 ? "warning" : "error";
    json_t *message = *advice == '\0' ? json_string(what) : json_sprintf("%s. What to do: %s.", what, advice);
    json_t *result = new_result(sarif, id, what, json_string_value(message), level);

    json_object_set_new(result, "locations", json_pack("[o]", location_of(sarif, report)));
    json_object_set_new(result, "stacks", stacks_of(sarif, report));
    add_failed_call(sarif, result, run);
    add_fingerprint(result, id, report, run);
    if (stopped)
        json_object_set_new(result, "properties", json_pack("{s:O}", "parameters", json_object_get(report, "parameters")));
    json_array_append_new(sarif->results, result);
    json_decref(message);
}

/* A crash, a hang, wrong data: nothing but the verdict tells of it. */
static void add_verdict(struct sarif *sarif, const json_t *run)
{
    const char *verdict = json_text(run, "verdict");
    json_t *result = new_result(sarif, verdict, verdict, json_text(run, "outcome"), "error");

    json_object_set_new(result, "locations", json_pack("[o]", location_of(sarif, run)));
    add_failed_call(sarif, result, run);
    add_fingerprint(result, verdict, run, run);
    json_array_append_new(sarif->results, result);
}

static void add_run(struct sarif *sarif, const json_t *run)
{
    const json_t *reports = json_object_get(run, "reports"), *report;
    size_t i;

    json_array_foreach(reports, i, report)
        add_report(sarif, run, report);
    if (json_array_size(reports) == 0 && !json_is_true(json_object_get(run, "clean")) &&
        strcmp(json_text(run, "verdict"), verdict_name(VERDICT_INTERRUPTED)) != 0)
        add_verdict(sarif, run);
}

/* ---- the log ---- */

/* An analysis that did not come to its end has no success, whatever it found, and says why. */
static json_t *invocation(const char *interrupted)
{
    json_t *object = json_pack("{s:b}", "executionSuccessful", interrupted == NULL);

    if (interrupted != NULL)
        json_object_set_new(object, "toolExecutionNotifications",
                            json_pack("[{s:{s:s}, s:s, s:o}]", "descriptor", "id", verdict_name(VERDICT_INTERRUPTED), "level", "error",
                                      "message", text_object(interrupted)));
    return object;
}

static json_t *log_of(const struct sarif *sarif, const char *interrupted)
{
    json_t *driver = json_pack("{s:s, s:s, s:O}", "name", "Pinion", "semanticVersion", PINION_VERSION, "rules", sarif->rules);
    json_t *run = json_pack("{s:{s:o}, s:O}", "tool", "driver", driver, "results", sarif->results);

    if (sarif->root[0] != '\0')
        json_object_set_new(run, "originalUriBaseIds", json_pack("{s:{s:o}}", "SRCROOT", "uri", json_of_uri("file://", sarif->root)));
    json_object_set_new(run, "invocations", json_pack("[o]", invocation(interrupted)));
    json_object_set_new(run, "columnKind", json_string("unicodeCodePoints"));
    return json_pack("{s:s, s:s, s:[o]}", "$schema", SCHEMA, "version", "2.1.0", "runs", run);
}

bool sarif_write(const char *path, const char *driver_path, const json_t *runs, const char *interrupted)
{
    struct sarif sarif = {.driver_path = driver_path, .rules = json_array(), .results = json_array()};
    const json_t *run;
    json_t *log;
    bool written;
    size_t i;

    if (getcwd(sarif.root, sizeof(sarif.root) - 1) == NULL)
        sarif.root[0] = '\0';
    else if (strcmp(sarif.root, "/") != 0)
        strcat(sarif.root, "/");
    json_array_foreach(runs, i, run)
        add_run(&sarif, run);
    log = log_of(&sarif, interrupted);
    written = json_dump_file(log, path, JSON_INDENT(2)) == 0;
    json_decref(log);
    json_decref(sarif.rules);
    json_decref(sarif.results);
    return written;
}
