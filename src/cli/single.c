/* SPDX-License-Identifier: MIT */
/* `pinion run` as it mostly is: one session, and what is said of it. */

#include "cli/cli.h"

static json_t *runs_of(const struct cli_options *options, const struct session *session)
{
    const enum verdict verdict = verdict_of(session);
    char outcome[512];

    verdict_describe(session, outcome, sizeof(outcome));
    return json_pack("[{s:s, s:s, s:s, s:b, s:f, s:O}]", "name", options->write ? "written through" : "read through", "verdict",
                     verdict_name(verdict), "outcome", outcome, "clean", verdict <= VERDICT_LAST_GOOD, "seconds", session->seconds,
                     "reports", session->findings);
}

static int report(const struct cli_options *options, const struct session *session)
{
    char text[512];
    json_t *runs;
    bool written;
    int code;

    if (session_is_usage(session, &code))
        return code;
    report_print(options, session);
    runs = runs_of(options, session);
    written = report_files(options, session->result.driver_name, runs, verdict_interrupt(session, text, sizeof(text)) ? text : NULL);
    json_decref(runs);
    return written ? verdict_code(verdict_of(session)) : CLI_USAGE;
}

int run_main(const struct cli_options *options)
{
    const struct run_order order = {.options = options, .fail = options->fail_calls, .nfail = options->nfail_calls};
    struct session session;
    int code;

    if (!report_files_can_be_written(options))
        return CLI_USAGE;
    host_interrupts_catch();
    if (options->faults == FAULTS_SYSTEMATIC)
        return systematic_main(options);
    if (!session_run(&order, false, &session))
        return CLI_USAGE;
    code = report(options, &session);
    session_free(&session);
    return code;
}
