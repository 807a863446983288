/* SPDX-License-Identifier: MIT */
/*
 * Sessions: a run in a child process, and all that is known of it however it ends. A bug check, a crash and a driver that calls exit()
 * end the child; the command lives, and reports.
 *
 *     parent: session_run .. take records ................ child ended -> verdict, report
 *     child:                run_perform .. send records ../
 *
 * A record is a head and its bytes. What the child sends is its own memory's: a result goes over as it is, findings as JSON.
 */

#include "cli/cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct record_head {
    uint32_t record;                    /* enum record */
    uint32_t bytes;
};

enum { TICK_MS = 100, GRACE_MS = 3000, CHUNK_BYTES = 65536, LARGEST_RECORD = 1 << 24, MOST_PRINTED = 1 << 16 };

/* Where this process sends its records: to its parent, or, without a child, straight to the session. */
static struct {
    struct host_mutex     lock;         /* findings come from any thread */
    int                   to_parent;
    struct session       *here;         /* NULL: to the parent */
    const struct run_order *order;
} sender = {.lock = {PTHREAD_MUTEX_INITIALIZER}};

/* ---- taking records ---- */

static void add_json(json_t *array, const void *data, size_t bytes)
{
    json_t *object = json_loadb(data, bytes, 0, NULL);

    if (object != NULL)
        json_array_append_new(array, object);
}

static void take(struct session *session, enum record record, const void *data, size_t bytes)
{
    switch (record) {
    case RECORD_LOADING:
        session->driver_ran = true;
        break;
    case RECORD_RESULT:
        if (bytes == sizeof(session->result))
            memcpy(&session->result, data, bytes);
        break;
    case RECORD_FINDING:
        add_json(session->findings, data, bytes);
        break;
    case RECORD_CALL:
        add_json(session->calls, data, bytes);
        break;
    case RECORD_MET:
        session->nmet++;
        break;
    case RECORD_CLOSED:
        session->closed = bytes == sizeof(session->code);
        if (session->closed)
            memcpy(&session->code, data, bytes);
        break;
    }
}

/* Bytes that came in and are no whole record yet. */
struct inbox {
    char  *bytes;
    size_t n, room;
};

static bool make_room(struct inbox *inbox)
{
    const size_t room = inbox->room == 0 ? CHUNK_BYTES : inbox->room * 2;
    char *bytes;

    if (inbox->room - inbox->n >= CHUNK_BYTES)
        return true;
    bytes = room > LARGEST_RECORD ? NULL : realloc(inbox->bytes, room);
    if (bytes == NULL)
        return false;
    inbox->bytes = bytes;
    inbox->room = room;
    return make_room(inbox);
}

static void take_records(struct session *session, struct inbox *inbox)
{
    size_t at = 0;
    struct record_head head;

    while (inbox->n - at >= sizeof(head)) {
        memcpy(&head, inbox->bytes + at, sizeof(head));
        if (inbox->n - at - sizeof(head) < head.bytes)
            break;
        take(session, (enum record)head.record, inbox->bytes + at + sizeof(head), head.bytes);
        at += sizeof(head) + head.bytes;
    }
    memmove(inbox->bytes, inbox->bytes + at, inbox->n - at);
    inbox->n -= at;
}

/* ---- sending them ---- */

void session_send(enum record record, const void *data, size_t bytes)
{
    const struct record_head head = {.record = record, .bytes = (uint32_t)bytes};

    host_mutex_lock(&sender.lock);
    if (sender.here != NULL)
        take(sender.here, record, data, bytes);
    else if (host_write_all(sender.to_parent, &head, sizeof(head)) == 0)
        (void)host_write_all(sender.to_parent, data, bytes);
    host_mutex_unlock(&sender.lock);
}

static void send_json(enum record record, json_t *object)
{
    char *text = json_dumps(object, JSON_COMPACT);

    if (text != NULL)
        session_send(record, text, strlen(text));
    free(text);
    json_decref(object);
}

static void send_finding(const struct pinion_finding *finding, void *context)
{
    const struct result *result = context;

    send_json(RECORD_FINDING, json_of_finding(finding, result->driver_module));
}

static bool is_among(uint64_t id, const uint64_t *ids, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (ids[i] == id)
            return true;
    return false;
}

static void send_call(const struct pinion_call *call, void *context)
{
    const struct run_order *order = context;

    if (is_among(call->id, order->fail, order->nfail))
        session_send(RECORD_MET, NULL, 0);
    else if (order->tell_calls && !is_among(call->id, order->known, order->known_count))
        send_json(RECORD_CALL, json_of_call(call));
}

/* ---- the run's side ---- */

static int run_here(const struct run_order *order)
{
    struct result result;
    int code;

    sender.order = order;
    pinion_watch_findings(send_finding, &result);
    if (order->tell_calls || order->nfail > 0)
        pinion_watch_calls(send_call, (void *)(uintptr_t)order);
    code = run_perform(order, &result);
    session_send(RECORD_CLOSED, &code, sizeof(code));
    return code;
}

static int child_body(int to_parent, void *context)
{
    sender.to_parent = to_parent;
    host_exit_on_abort(HOST_CHILD_ABORTED);
    host_interrupts_leave_to_parent();
    return run_here(context);
}

_Noreturn void session_leave(int code)
{
    session_send(RECORD_CLOSED, &code, sizeof(code));
    if (sender.here != NULL) {
        report_print(sender.order->options, sender.here);
        code = CLI_WRONG;
    }
    code = cli_end(code);
    fflush(NULL);
    _Exit(code);
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

    while (got != 0 && make_room(&inbox)) {
        got = host_child_receive(&session->child, inbox.bytes + inbox.n, inbox.room - inbox.n, TICK_MS * 1000000);
        if (got > 0) {
            inbox.n += (size_t)got;
            take_records(session, &inbox);
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
    sender.here = session;
    host_exit_on_abort(CLI_WRONG);
    session->child = (struct host_child){.ended = true, .printed = -1, .code = run_here(order)};
    sender.here = NULL;
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

int session_main(const struct cli_options *options)
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
