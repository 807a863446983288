/* SPDX-License-Identifier: MIT */
/* The result of a run, for people and for machines. */

#include "cli/cli.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- what the numbers say ---- */

static double per_second(const struct result *result, uint64_t count)
{
    return result->elapsed_ns == 0 ? 0 : (double)count * 1e9 / (double)result->elapsed_ns;
}

static double cpu_seconds_per_gigabyte(const struct result *result)
{
    return result->tally.bytes == 0 ? 0 : (double)result->cpu_ns / (double)result->tally.bytes;
}

/* What the machine's verifier was told to be; the last word wins, as it does in the machine. */
static void name_verifier(const struct cli_options *options, char *text, size_t bytes)
{
    const char *value = options->verifier, *environment = getenv("PINION_OPTIONS");

    while (options->verifier == NULL && environment != NULL &&
           (environment = strstr(environment, "verifier=")) != NULL)
        value = environment += strlen("verifier=");
    snprintf(text, bytes, "%.*s", value == NULL ? 2 : (int)strcspn(value, ":"), value == NULL ? "on" : value);
}

/* ---- the table ---- */

static void row(const char *label, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void row(const char *label, const char *format, ...)
{
    va_list arguments;

    printf("  %-15s", label);
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
}

void report_title(const char *driver, int code)
{
    const char *what = code == CLI_CLEAN ? "all is well" : code == CLI_INTERRUPTED ? "interrupted" : "NOT well";
    const bool bold = isatty(STDOUT_FILENO);

    printf("%s%s: %s%s\n", bold ? "\033[1m" : "", driver, what, bold ? "\033[0m" : "");
}

static void print_setting(const struct cli_options *options, const struct result *result)
{
    char verifier[32];

    name_verifier(options, verifier, sizeof(verifier));
    row("file", "%s, %" PRIu64 " bytes%s", options->file_path, result->file_bytes,
        !options->write ? "" : options->in_place ? ", written in place" : ", written on a scratch copy");
    row("disk", "%s%s", result->engine, options->lower_partial ? ", completes partially" : "");
    row("verifier", "%s", verifier);
    row("load", "%u thread%s with %u request%s in flight each, seed %" PRIu64, options->threads,
        options->threads == 1 ? "" : "s", options->depth, options->depth == 1 ? "" : "s", options->seed);
    if (options->nfail_calls > 0)
        row("injected", "%" PRIu64 " failures, of the calls of --faults", result->injected);
    if (options->fail_period == 1)
        row("injected", "%" PRIu64 " failures: every call of %s", result->injected, options->fail_routine);
    else if (options->fail_period != 0)
        row("injected", "%" PRIu64 " failures: one call of %s in %u", result->injected, options->fail_routine, options->fail_period);
}

static void print_requests(const struct cli_options *options, const struct result *result)
{
    const struct tally *tally = &result->tally;

    row("requests", "%" PRIu64 ", %" PRIu64 " failed%s, %" PRIu64 " cut short, %" PRIu64 " lost", tally->requests,
        tally->failed, tally->failed > 0 && verdict_unexplained(result) == 0 ? " as injected" : "", tally->cut_short,
        tally->lost);
    row("bytes", "%" PRIu64, tally->bytes);
    row("throughput", "%.2f GB/s, %.0f requests/s in %.2f s, %.2f CPU seconds a GB%s",
        per_second(result, tally->bytes) / 1e9, per_second(result, tally->requests), (double)result->elapsed_ns / 1e9,
        cpu_seconds_per_gigabyte(result), options->check ? " (comparing every byte included)" : "");
    row("verified", "%" PRIu64 " bytes compared, %" PRIu64 " wrong", tally->verified_bytes, tally->wrong_bytes);
    if (tally->guards_broken > 0)
        row("", "%" PRIu64 " requests touched memory beside their buffer", tally->guards_broken);
}

static void print_memory(const struct cli_options *options, const struct result *result)
{
    const struct pinion_totals *totals = &result->totals;

    row("MDLs", "%" PRIu64 " allocated, %" PRIu64 " partial MDLs built, %" PRIu64 " advanced", totals->mdls_allocated,
        totals->partial_mdls_built, totals->mdls_advanced);
    row("pages locked", "%" PRIu64 ", at most %" PRIu64 " seen at once", totals->pages_locked, result->tally.peak_locked_pages);
    row("mappings made", "%" PRIu64, totals->mappings_made);
    if (totals->lists_built > 0)
        row("DMA", "%s-bit device, %" PRIu64 " lists, %" PRIu64 " map registers, %" PRIu64 " bytes bounced",
            options->device_32_bit ? "32" : "64", totals->lists_built, totals->map_registers_used, totals->bytes_bounced);
}

static void print_held(const struct result *result)
{
    const struct pinion_counters *held = &result->held;

    if (!result->taken_down)
        row("still held", "not known: the driver could not be taken down");
    else if (verdict_held(result) == 0)
        row("still held", "nothing");
    else
        row("still held", "%" PRIu64 " MDLs, %" PRIu64 " page locks, %" PRIu64 " mappings, %" PRIu64 " IRPs",
            held->live_mdls, held->locked_pages, held->system_mappings, held->live_irps);
}

/* What the numbers do not say by themselves. */
static bool is_worth_a_line(const struct session *session)
{
    const enum verdict verdict = verdict_of(session);

    return !session->closed || session->result.refused_by[0] != '\0' || verdict == VERDICT_INTERRUPTED || verdict == VERDICT_NOT_MADE ||
           (verdict >= VERDICT_LOST && verdict <= VERDICT_CRASHED);
}

static void print_end(const struct session *session)
{
    char text[512];

    print_held(&session->result);
    row("findings", "%zu", json_array_size(session->findings));
    if (!is_worth_a_line(session))
        return;
    verdict_describe(session, text, sizeof(text));
    row("ended by", "%s", text);
}

/* Of a run that did not get as far as to its end there is nothing to count. */
static void print_table(const struct cli_options *options, const struct session *session)
{
    report_title(session->result.driver_name, verdict_code(verdict_of(session)));
    print_setting(options, &session->result);
    if (session->closed) {
        print_requests(options, &session->result);
        print_memory(options, &session->result);
    }
    print_end(session);
}

/* ---- JSON ---- */

static void add_count(json_t *object, const char *key, uint64_t count)
{
    json_object_set_new(object, key, json_integer((json_int_t)count));
}

json_t *report_setting(const struct cli_options *options, const struct result *result)
{
    char verifier[32];
    json_t *object = json_object();

    name_verifier(options, verifier, sizeof(verifier));
    json_object_set_new(object, "driver", json_string(result->driver_name));
    json_object_set_new(object, "file", json_string(options->file_path));
    add_count(object, "file_bytes", result->file_bytes);
    json_object_set_new(object, "operation", json_string(options->write ? "write" : "read"));
    json_object_set_new(object, "in_place", json_boolean(options->in_place));
    json_object_set_new(object, "engine", json_string(result->engine));
    json_object_set_new(object, "lower", json_string(options->lower_partial ? "partial" : "whole"));
    add_count(object, "device_bits", options->device_32_bit ? 32 : 64);
    json_object_set_new(object, "verifier", json_string(verifier));
    json_object_set_new(object, "check", json_string(options->check ? "full" : "none"));
    add_count(object, "seed", options->seed);
    add_count(object, "threads", options->threads);
    add_count(object, "depth", options->depth);
    if (options->fail_period != 0) {
        json_object_set_new(object, "fail", json_string(options->fail_routine));
        add_count(object, "fail_period", options->fail_period);
    }
    return object;
}

static void add_requests(json_t *object, const struct result *result)
{
    const struct tally *tally = &result->tally;

    add_count(object, "requests", tally->requests);
    add_count(object, "bytes", tally->bytes);
    add_count(object, "requests_failed", tally->failed);
    add_count(object, "requests_failed_unexplained", verdict_unexplained(result));
    add_count(object, "requests_cut_short", tally->cut_short);
    add_count(object, "requests_lost", tally->lost);
    add_count(object, "guards_broken", tally->guards_broken);
    add_count(object, "verified_bytes", tally->verified_bytes);
    add_count(object, "wrong_bytes", tally->wrong_bytes);
    json_object_set_new(object, "seconds", json_real((double)result->elapsed_ns / 1e9));
    json_object_set_new(object, "gigabytes_per_second", json_real(per_second(result, tally->bytes) / 1e9));
    json_object_set_new(object, "requests_per_second", json_real(per_second(result, tally->requests)));
    json_object_set_new(object, "cpu_seconds_per_gigabyte", json_real(cpu_seconds_per_gigabyte(result)));
}

static void add_memory(json_t *object, const struct result *result)
{
    const struct pinion_totals *totals = &result->totals;

    add_count(object, "mdls_allocated", totals->mdls_allocated);
    add_count(object, "partial_mdls_built", totals->partial_mdls_built);
    add_count(object, "mdls_advanced", totals->mdls_advanced);
    add_count(object, "pages_locked", totals->pages_locked);
    add_count(object, "pages_locked_peak", result->tally.peak_locked_pages);
    add_count(object, "mappings_made", totals->mappings_made);
    add_count(object, "scatter_gather_lists", totals->lists_built);
    add_count(object, "map_registers", totals->map_registers_used);
    add_count(object, "bytes_bounced", totals->bytes_bounced);
    add_count(object, "irps_allocated", totals->irps_allocated);
    add_count(object, "injected_failures", result->injected);
}

static json_t *json_of_held(const struct result *result)
{
    const struct pinion_counters *held = &result->held;
    json_t *object = json_object();

    if (!result->taken_down)
        return object;
    add_count(object, "mdls", held->live_mdls);
    add_count(object, "locked_pages", held->locked_pages);
    add_count(object, "mappings", held->system_mappings);
    add_count(object, "lists", held->outstanding_lists);
    add_count(object, "irps", held->live_irps);
    return object;
}

static json_t *json_of_session(const struct cli_options *options, const struct session *session)
{
    const struct result *result = &session->result;
    const enum verdict verdict = verdict_of(session);
    json_t *object = report_setting(options, result);
    char text[512];

    if (session->closed) {
        add_requests(object, result);
        add_memory(object, result);
    }
    json_object_set_new(object, "held", json_of_held(result));
    add_count(object, "findings", json_array_size(session->findings));
    json_object_set(object, "reports", session->findings);
    json_object_set_new(object, "interrupted", json_boolean(verdict_interrupt(session, text, sizeof(text))));
    verdict_describe(session, text, sizeof(text));
    json_object_set_new(object, "verdict", json_string(verdict_name(verdict)));
    json_object_set_new(object, "outcome", json_string(text));
    json_object_set_new(object, "clean", json_boolean(verdict <= VERDICT_LAST_GOOD));
    return object;
}

void report_json(json_t *object)
{
    json_dumpf(object, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(object);
}

/* ---- files ---- */

static bool can_be_written(const char *path)
{
    FILE *file = path == NULL ? NULL : fopen(path, "a");

    if (path != NULL && file == NULL)
        return cli_complain(false, "%s cannot be written: %s", path, strerror(errno));
    return file == NULL || fclose(file) == 0;
}

bool report_files_can_be_written(const struct cli_options *options)
{
    return can_be_written(options->sarif_path) && can_be_written(options->junit_path);
}

bool report_files(const struct cli_options *options, const char *driver, const json_t *runs, const char *interrupted)
{
    if (options->sarif_path != NULL && !sarif_write(options->sarif_path, options->driver_path, runs, interrupted))
        return cli_complain(false, "%s cannot be written: %s", options->sarif_path, strerror(errno));
    if (options->junit_path != NULL && !junit_write(options->junit_path, driver, runs))
        return cli_complain(false, "%s cannot be written: %s", options->junit_path, strerror(errno));
    return true;
}

/* ---- either ---- */

void report_print(const struct cli_options *options, const struct session *session)
{
    if (options->json)
        report_json(json_of_session(options, session));
    else
        print_table(options, session);
}
