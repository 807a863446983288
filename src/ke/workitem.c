/* SPDX-License-Identifier: MIT */
/*
 * System worker threads: they take work items in order of arrival and run them at PASSIVE_LEVEL. One more is started when
 * an item comes while none is idle, so that an item may wait for a later one.
 *
 * A worker says that it is idle before it goes to its gate, under the lock: an item that comes in between finds it
 * idle and opens the gate, which stays open until the worker passes.
 */

#include "ke/state.h"

struct worker {
    struct ke_state *ke;
    uint32_t         index;
};

static PWORK_QUEUE_ITEM next_item(struct ke_state *ke, uint32_t index, bool *stop)
{
    PWORK_QUEUE_ITEM item = NULL;

    host_mutex_lock(&ke->worker_lock);
    if (!IsListEmpty(&ke->work)) {
        item = CONTAINING_RECORD(RemoveHeadList(&ke->work), WORK_QUEUE_ITEM, List);
        ke->busy_workers++;
    }
    ke->idle[index] = item == NULL;
    *stop = ke->stopping;
    host_mutex_unlock(&ke->worker_lock);
    return item;
}

void ke_require_passive_return(const void *routine, const void *context, const void *item)
{
    const KIRQL irql = ke_self()->irql;

    if (irql != PASSIVE_LEVEL)
        ke_bug_check(WORKER_THREAD_RETURNED_AT_BAD_IRQL, (uintptr_t)routine, irql, (uintptr_t)context, (uintptr_t)item);
}

/* The routine may queue its item again, or free it. */
static void run_item(struct ke_state *ke, PWORK_QUEUE_ITEM item)
{
    const WORK_QUEUE_ITEM copy = *item;

    copy.WorkerRoutine(copy.Parameter);
    ke_require_passive_return((const void *)(uintptr_t)copy.WorkerRoutine, copy.Parameter, item);
    host_mutex_lock(&ke->worker_lock);
    ke->busy_workers--;
    host_mutex_unlock(&ke->worker_lock);
}

static void worker_main(void *context)
{
    struct ke_state *ke = ke_the_machine.ke;
    const uint32_t index = (uint32_t)(uintptr_t)context;

    for (;;) {
        bool stop;
        PWORK_QUEUE_ITEM item = next_item(ke, index, &stop);

        if (item != NULL)
            run_item(ke, item);
        else if (stop)
            return;
        else
            host_gate_wait(&ke->worker_gates[index], HOST_FOREVER);
    }
}

static bool wake_idle_locked(struct ke_state *ke)
{
    for (uint32_t i = 0; i < ke->nworkers; i++) {
        if (!ke->idle[i])
            continue;
        ke->idle[i] = false;
        host_gate_open(&ke->worker_gates[i]);
        return true;
    }
    return false;
}

/*
 * All workers are busy, and perhaps wait for what the new item will do: it gets a worker of its own. Where the host
 * refuses another thread it waits for its turn instead.
 */
static void start_worker_locked(struct ke_state *ke)
{
    const uint32_t index = ke->nworkers;

    if (index == KE_WORKERS)
        return;
    if (host_thread_start(&ke->workers[index], worker_main, (void *)(uintptr_t)index) == 0)
        ke->nworkers++;
    VERIFY(ke->nworkers > 0);
}

VOID ExQueueWorkItem(PWORK_QUEUE_ITEM WorkItem, WORK_QUEUE_TYPE QueueType)
{
    struct ke_state *ke = ke_machine()->ke;

    UNREFERENCED_PARAMETER(QueueType);
    host_mutex_lock(&ke->worker_lock);
    InsertTailList(&ke->work, &WorkItem->List);
    if (!wake_idle_locked(ke))
        start_worker_locked(ke);
    host_mutex_unlock(&ke->worker_lock);
}

void ke_init_workers(struct ke_state *ke)
{
    host_mutex_init(&ke->worker_lock);
    InitializeListHead(&ke->work);
    for (uint32_t i = 0; i < KE_WORKERS; i++)
        host_gate_init(&ke->worker_gates[i]);
}

static bool is_idle(struct ke_state *ke)
{
    bool idle;

    host_mutex_lock(&ke->worker_lock);
    idle = IsListEmpty(&ke->work) && ke->busy_workers == 0;
    host_mutex_unlock(&ke->worker_lock);
    return idle;
}

void ke_drain_workers(void)
{
    while (!is_idle(ke_the_machine.ke))
        host_sleep_ns(100000);
}

void ke_stop_workers(struct ke_state *ke)
{
    host_mutex_lock(&ke->worker_lock);
    ke->stopping = true;
    host_mutex_unlock(&ke->worker_lock);
    for (uint32_t i = 0; i < ke->nworkers; i++) {
        host_gate_open(&ke->worker_gates[i]);
        host_thread_join(&ke->workers[i]);
    }
    for (uint32_t i = 0; i < KE_WORKERS; i++)
        host_gate_destroy(&ke->worker_gates[i]);
    host_mutex_destroy(&ke->worker_lock);
}
