/* SPDX-License-Identifier: MIT */
/*
 * DPCs. Each thread has a queue of its own, as each processor has on Windows: a DPC queued below DISPATCH_LEVEL runs
 * at once, one queued at or above it runs when the thread goes below. KDPC.DpcData is the queue it stands in, NULL for none.
 */

#include "ke/state.h"

VOID KeInitializeDpc(PRKDPC Dpc, PKDEFERRED_ROUTINE DeferredRoutine, PVOID DeferredContext)
{
    *Dpc = (KDPC){.DeferredRoutine = DeferredRoutine, .DeferredContext = DeferredContext};
}

BOOLEAN KeInsertQueueDpc(PRKDPC Dpc, PVOID SystemArgument1, PVOID SystemArgument2)
{
    struct ke_state *ke = ke_machine()->ke;
    struct ke_thread *self = ke_self();
    bool queued;

    host_mutex_lock(&ke->dpc_lock);
    queued = Dpc->DpcData == NULL;
    if (queued) {
        Dpc->DpcData = &self->dpcs;
        Dpc->SystemArgument1 = SystemArgument1;
        Dpc->SystemArgument2 = SystemArgument2;
        InsertTailList(&self->dpcs, &Dpc->DpcListEntry);
        atomic_fetch_add_explicit(&self->ndpcs, 1, memory_order_relaxed);
        ke->dpcs_outstanding++;
    }
    host_mutex_unlock(&ke->dpc_lock);
    if (queued && self->irql < DISPATCH_LEVEL)
        ke_run_dpcs();
    return queued;
}

static void dequeue_locked(PRKDPC dpc)
{
    struct ke_thread *owner = CONTAINING_RECORD(dpc->DpcData, struct ke_thread, dpcs);

    RemoveEntryList(&dpc->DpcListEntry);
    atomic_fetch_sub_explicit(&owner->ndpcs, 1, memory_order_relaxed);
    dpc->DpcData = NULL;
}

BOOLEAN KeRemoveQueueDpc(PRKDPC Dpc)
{
    struct ke_state *ke = ke_machine()->ke;
    bool queued;

    host_mutex_lock(&ke->dpc_lock);
    queued = Dpc->DpcData != NULL;
    if (queued) {
        dequeue_locked(Dpc);
        ke->dpcs_outstanding--;
    }
    host_mutex_unlock(&ke->dpc_lock);
    return queued;
}

/* Copies the DPC before it runs: its routine may queue or free it. */
static bool take_first(struct ke_state *ke, struct ke_thread *self, KDPC *copy, PRKDPC *dpc)
{
    bool found;

    host_mutex_lock(&ke->dpc_lock);
    found = !IsListEmpty(&self->dpcs);
    if (found) {
        *dpc = CONTAINING_RECORD(self->dpcs.Flink, KDPC, DpcListEntry);
        *copy = **dpc;
        dequeue_locked(*dpc);
    }
    host_mutex_unlock(&ke->dpc_lock);
    return found;
}

static void count_finished(struct ke_state *ke)
{
    host_mutex_lock(&ke->dpc_lock);
    ke->dpcs_outstanding--;
    host_mutex_unlock(&ke->dpc_lock);
}

/* It interrupts whatever runs, whose handlers are not its own: an exception that it does not handle itself is bug check 0x1E. */
static void run_dpc(struct ke_thread *self, const KDPC *copy, PRKDPC dpc)
{
    struct ke_exception *interrupted = self->exceptions;
    const KIRQL irql = self->irql;

    self->exceptions = NULL;
    self->irql = DISPATCH_LEVEL;
    copy->DeferredRoutine(dpc, copy->DeferredContext, copy->SystemArgument1, copy->SystemArgument2);
    self->irql = irql;
    self->exceptions = interrupted;
}

void ke_run_dpcs(void)
{
    struct ke_state *ke = ke_machine()->ke;
    struct ke_thread *self = ke_self();
    KDPC copy;
    PRKDPC dpc;

    while (take_first(ke, self, &copy, &dpc)) {
        run_dpc(self, &copy, dpc);
        count_finished(ke);
    }
}

VOID KeFlushQueuedDpcs(VOID)
{
    struct ke_state *ke = ke_machine()->ke;
    bool idle = false;

    while (!idle) {
        host_mutex_lock(&ke->dpc_lock);
        idle = ke->dpcs_outstanding == 0;
        host_mutex_unlock(&ke->dpc_lock);
        if (!idle)
            host_thread_yield();
    }
}
