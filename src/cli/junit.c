/* SPDX-License-Identifier: MIT */
/*
 * The runs as JUnit XML, the form in which CI servers take test results: a test case for each. What a driver did wrong is a failure; that
 * it crashed or hung is an error.
 */

#include "cli/cli.h"

#include <errno.h>
#include <string.h>
#include <time.h>

/* ---- text ---- */

/* Bytes of a well-formed UTF-8 character that XML admits, at the beginning of the text; 0: none. */
static size_t character_bytes(const unsigned char *text)
{
    const size_t n = *text < 0x80 ? 1 : *text >= 0xC2 && *text < 0xE0 ? 2 : *text >= 0xE0 && *text < 0xF0 ? 3 : *text >= 0xF0 && *text < 0xF5 ? 4 : 0;

    if (n == 1)
        return *text >= 0x20 || *text == '\t' || *text == '\n' || *text == '\r';
    for (size_t i = 1; i < n; i++)
        if ((text[i] & 0xC0) != 0x80)
            return 0;
    if (n == 3
        && ((text[0] == 0xE0 && text[1] < 0xA0) || (text[0] == 0xED && text[1] >= 0xA0)
            || (text[0] == 0xEF && text[1] == 0xBF && text[2] >= 0xBE)))
        return 0;
    return n == 4 && ((text[0] == 0xF0 && text[1] < 0x90) || (text[0] == 0xF4 && text[1] >= 0x90)) ? 0 : n;
}

static const char *entity_of(unsigned char c)
{
    switch (c) {
    case '&': return "&amp;";
    case '<': return "&lt;";
    case '>': return "&gt;";
    case '"': return "&quot;";
    default: return NULL;
    }
}

/* For contents and for attributes in double quotes. Drivers print what they like: what XML does not admit becomes '?'. */
static void put_text(FILE *out, const char *text)
{
    for (const unsigned char *at = (const unsigned char *)text; *at != '\0';) {
        const size_t n = character_bytes(at);
        const char *entity = entity_of(*at);

        if (n == 0)
            fputc('?', out);
        else if (entity != NULL)
            fputs(entity, out);
        else
            fwrite(at, 1, n, out);
        at += n == 0 ? 1 : n;
    }
}

static void put_attribute(FILE *out, const char *name, const char *value)
{
    fprintf(out, " %s=\"", name);
    put_text(out, value);
    fputc('"', out);
}

/* ---- test cases ---- */

static bool is_clean(const json_t *run)
{
    return json_is_true(json_object_get(run, "clean"));
}

static bool is_interrupted(const json_t *run)
{
    return strcmp(json_text(run, "verdict"), verdict_name(VERDICT_INTERRUPTED)) == 0;
}

static bool is_skipped(const json_t *run)
{
    return (json_is_false(json_object_get(run, "made")) && is_clean(run)) || is_interrupted(run);
}

static bool is_error(const json_t *run)
{
    const char *verdict = json_text(run, "verdict");

    return !is_clean(run) && (strcmp(verdict, verdict_name(VERDICT_CRASHED)) == 0 || strcmp(verdict, verdict_name(VERDICT_HUNG)) == 0);
}

static double seconds_of(const json_t *run)
{
    return json_real_value(json_object_get(run, "seconds"));
}

static void put_reports(FILE *out, const json_t *run)
{
    const json_t *report;
    size_t i;

    json_array_foreach(json_object_get(run, "reports"), i, report) {
        char place[256];

        verdict_place(report, place, sizeof(place));
        put_text(out, json_text(report, "id"));
        fputs(": ", out);
        put_text(out, json_text(report, "what"));
        if (*place != '\0')
            fputs(", in ", out);
        put_text(out, place);
        fputc('\n', out);
    }
}

static void put_ending(FILE *out, const json_t *run)
{
    const char *element = is_error(run) ? "error" : "failure";

    fprintf(out, "      <%s", element);
    put_attribute(out, "type", json_text(run, "verdict"));
    put_attribute(out, "message", json_text(run, "outcome"));
    fputs(">", out);
    put_reports(out, run);
    fprintf(out, "</%s>\n", element);
}

static void put_case(FILE *out, const char *driver, const json_t *run)
{
    const char *printed = json_text(run, "printed");

    fputs("    <testcase", out);
    put_attribute(out, "classname", driver);
    put_attribute(out, "name", json_text(run, "name"));
    fprintf(out, " time=\"%.3f\">\n", seconds_of(run));
    if (is_skipped(run)) {
        fputs("      <skipped", out);
        put_attribute(out, "message", json_text(run, "outcome"));
        fputs("/>\n", out);
    } else if (!is_clean(run)) {
        put_ending(out, run);
    }
    if (*printed != '\0') {
        fputs("      <system-err>", out);
        put_text(out, printed);
        fputs("</system-err>\n", out);
    }
    fputs("    </testcase>\n", out);
}

/* ---- the suite ---- */

struct totals {
    unsigned tests, failures, errors, skipped;
    double   seconds;
};

static struct totals count(const json_t *runs)
{
    struct totals totals = {0};
    const json_t *run;
    size_t i;

    json_array_foreach(runs, i, run) {
        totals.tests++;
        totals.skipped += is_skipped(run);
        totals.errors += is_error(run);
        totals.failures += !is_clean(run) && !is_error(run) && !is_skipped(run);
        totals.seconds += seconds_of(run);
    }
    return totals;
}

static void put_totals(FILE *out, const struct totals *totals)
{
    fprintf(out, " tests=\"%u\" failures=\"%u\" errors=\"%u\" skipped=\"%u\" time=\"%.3f\"", totals->tests, totals->failures,
            totals->errors, totals->skipped, totals->seconds);
}

static void put_suite(FILE *out, const char *driver, const json_t *runs)
{
    const struct totals totals = count(runs);
    const time_t now = time(NULL);
    const json_t *run;
    char stamp[32];
    size_t i;

    strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", gmtime(&now));
    fputs("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"pinion run\"", out);
    put_totals(out, &totals);
    fputs(">\n  <testsuite", out);
    put_attribute(out, "name", driver);
    put_totals(out, &totals);
    fprintf(out, " timestamp=\"%s\">\n", stamp);
    json_array_foreach(runs, i, run)
        put_case(out, driver, run);
    fputs("  </testsuite>\n</testsuites>\n", out);
}

bool junit_write(const char *path, const char *driver, const json_t *runs)
{
    FILE *out = fopen(path, "w");
    bool written;

    if (out == NULL)
        return false;
    put_suite(out, driver, runs);
    written = !ferror(out);
    return fclose(out) == 0 && written;
}
