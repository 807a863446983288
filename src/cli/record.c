/* SPDX-License-Identifier: MIT */
/*
 * Records: what a run tells its session, as it goes along. A record is a head and its bytes; it goes to the parent process through a pipe, or
 * without a child straight to the session.
 *
 *     run -> record_send -> | head | bytes | head | bytes ... -> records_take -> session
 *
 * What is sent is this program's own memory: a result goes over as it is, findings as JSON.
 */

#include "cli/cli.h"

#include <stdlib.h>
#include <string.h>

struct record_head {
    uint32_t record;                    /* enum record */
    uint32_t bytes;
};

enum { CHUNK_BYTES = 65536, LARGEST_RECORD = 1 << 24 };

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

bool records_make_room(struct inbox *inbox)
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
    return records_make_room(inbox);
}

void records_take(struct session *session, struct inbox *inbox)
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

void record_send(enum record record, const void *data, size_t bytes)
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
        record_send(record, text, strlen(text));
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
        record_send(RECORD_MET, NULL, 0);
    else if (order->tell_calls && !is_among(call->id, order->known, order->known_count))
        send_json(RECORD_CALL, json_of_call(call));
}

void record_begin(const struct run_order *order, struct result *result)
{
    sender.order = order;
    pinion_watch_findings(send_finding, result);
    if (order->tell_calls || order->nfail > 0)
        pinion_watch_calls(send_call, (void *)(uintptr_t)order);
}

void record_to_parent(int pipe)
{
    sender.to_parent = pipe;
}

void record_to_session(struct session *session)
{
    sender.here = session;
}

_Noreturn void record_leave(int code)
{
    record_send(RECORD_CLOSED, &code, sizeof(code));
    if (sender.here != NULL) {
        report_print(sender.order->options, sender.here);
        code = CLI_WRONG;
    }
    code = cli_end(code);
    fflush(NULL);
    _Exit(code);
}
