/* SPDX-License-Identifier: MIT */
/*
 * Sessions: a run in a child process, and all that is known of it however it ends. A bug check, a crash and a driver that calls exit()
 * end the child; the command lives, and reports.
 *
 *     parent: session_run .. take records ................ child ended -> verdict, report
 *     child:                run_perform .. send records ../
 */

#include "cli/cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { TICK_MS = 100, GRACE_MS = 3000, MOST_PRINTED = 1 << 16 };

/* ---- the run's side ---- */

static int run_here(const struct run_order *order)
{
    struct result result;
    int code;

    record_begin(order, &result);
    code = run_perform(order, &result);
    record_send(RECORD_CLOSED, &code, sizeof(code));
    return code;
}

static int child_body(int to_parent, void *context)
{
    record_to_parent(to_parent);
    host_exit_on_abort(HOST_CHILD_ABORTED);
    host_interrupts_leave_to_parent();
    return run_here(context);
}

/* ---- the parent's side ---- */

static bool is_overdue(const struct session *session, const struct run_order *order, uint64_t start_ns)
{
    return !session->timed_out && order->options->timeout_ns != 0 && host_now_ns() - start_ns > order->options->timeout_ns;
}

static void end_overdue(struct session *session)
{
    session->timed_out = true;
    json_array_append_new(session->findings, json_of_hang(session->child.pid, session->result.driver_module));
    host_child_signal(&session->child, true);
}

static void cut_off(struct session *session)
{
    session->cut_off = true;
    session->cut_off_at = json_of_hang(session->child.pid, session->result.driver_module);
    host_child_signal(&session->child, true);
}

/* After an interrupt the run is told to end, and has a while for that. */
static void pass_interrupt_on(struct session *session, uint64_t *told_ns)
{
    if (*told_ns == 0) {
        *told_ns = host_now_ns();
        host_child_signal(&session->child, false);
    } else if (!session->cut_off && host_now_ns() - *told_ns > GRACE_MS * 1000000ull) {
        cut_off(session);
    }
}

static void await_child(struct session *session, const struct run_order *order)
{
    const uint64_t start_ns = host_now_ns();
    struct inbox inbox = {0};
    uint64_t told_ns = 0;
    ssize_t got = -EAGAIN;

    while (got != 0 && records_make_room(&inbox)) {
        got = host_child_receive(&session->child, inbox.bytes + inbox.n, inbox.room - inbox.n, TICK_MS * 1000000);
        if (got > 0) {
            inbox.n += (size_t)got;
            records_take(session, &inbox);
        }
        if (host_interrupted())
            pass_interrupt_on(session, &told_ns);
        else if (is_overdue(session, order, start_ns))
            end_overdue(session);
    }
    if (got != 0)
        host_child_signal(&session->child, true);
    free(inbox.bytes);
    host_child_wait(&session->child);
}

/* In this process: what ends the run ends the command. */
static void run_without_child(struct session *session, const struct run_order *order)
{
    record_to_session(session);
    host_exit_on_abort(CLI_WRONG);
    session->child = (struct host_child){.ended = true, .printed = -1, .code = run_here(order)};
    record_to_session(NULL);
}

/* A systematic run tells by itself of calls that it could not make again. */
static void count_not_made(struct session *session, const struct run_order *order)
{
    if (order->options->faults == FAULTS_NAMED)
        session->nnot_made = order->nfail - session->nmet;
}

bool session_run(const struct run_order *order, bool keep_printed, struct session *session)
{
    const uint64_t start_ns = host_now_ns();
    int error;

    *session = (struct session){.findings = json_array(), .calls = json_array()};
    if (order->options->in_process) {
        run_without_child(session, order);
        count_not_made(session, order);
        return true;
    }
    error = host_child_start(&session->child, keep_printed, child_body, (void *)(uintptr_t)order);
    if (error != 0) {
        session_free(session);
        return cli_complain(false, "no process can be started for the run: %s", strerror(-error));
    }
    await_child(session, order);
    count_not_made(session, order);
    session->seconds = (double)(host_now_ns() - start_ns) / 1e9;
    return true;
}

void session_free(struct session *session)
{
    host_child_close(&session->child);
    json_decref(session->cut_off_at);
    json_decref(session->findings);
    json_decref(session->calls);
}

char *session_printed(const struct session *session)
{
    char *text = calloc(1, MOST_PRINTED + 1);

    if (text != NULL)
        host_child_printed(&session->child, text, MOST_PRINTED);
    return text;
}

/* Before the driver's code runs, exit code 2 is the library's own. */
bool session_is_usage(const struct session *session, int *code)
{
    *code = session->closed ? session->code : CLI_USAGE;
    if (session->closed)
        return session->code != CLI_CLEAN;
    return !session->driver_ran && session->child.signal == 0 && session->child.code == CLI_USAGE;
}
