/* SPDX-License-Identifier: MIT */
/*
 * Dispatcher objects: events and semaphores, and waiting for one or several of them.
 *
 *     object.WaitListHead -> block -> block ...           one block for each object that a thread waits for
 *                              \        \
 *                              waiter   waiter            lives on the waiting thread's stack, with its gate
 *
 * All of it is guarded by the one dispatcher lock. Signalling walks the object's blocks and releases, in order of
 * arrival, each waiter whose condition now holds; a released waiter is off every list before its gate opens.
 */

#include "ke/state.h"

struct waiter;

struct wait_block {
    LIST_ENTRY         link;
    struct waiter     *waiter;
    PDISPATCHER_HEADER object;
};

struct waiter {
    struct host_gate   gate;
    struct wait_block *blocks;
    ULONG              count;
    bool               all;             /* WaitAll: every object at once */
    bool               released;
    NTSTATUS           status;          /* STATUS_WAIT_0 + index once released */
};

static struct host_mutex *dispatcher(void)
{
    return &ke_machine()->ke->dispatcher;
}

/* ---- one object ---- */

static bool is_signaled(const DISPATCHER_HEADER *object)
{
    return object->SignalState > 0;
}

/* A notification event stays signalled; the other kinds give one signal to one waiter. */
static void consume(PDISPATCHER_HEADER object)
{
    if (object->Type != NotificationEvent)
        object->SignalState--;
}

static void init_object(PDISPATCHER_HEADER object, UCHAR type, size_t size, LONG state)
{
    *object = (DISPATCHER_HEADER){.Type = type, .Size = (UCHAR)(size / sizeof(LONG)), .SignalState = state};
    InitializeListHead(&object->WaitListHead);
}

/* ---- waiters ---- */

static bool all_signaled(const struct waiter *waiter)
{
    for (ULONG i = 0; i < waiter->count; i++)
        if (!is_signaled(waiter->blocks[i].object))
            return false;
    return true;
}

/* If the waiter's condition holds, take the signals it waited for. */
static bool satisfy_locked(struct waiter *waiter)
{
    if (waiter->all && !all_signaled(waiter))
        return false;
    for (ULONG i = 0; i < waiter->count; i++) {
        PDISPATCHER_HEADER object = waiter->blocks[i].object;

        if (!is_signaled(object))
            continue;
        consume(object);
        if (!waiter->all) {
            waiter->status = STATUS_WAIT_0 + (NTSTATUS)i;
            return true;
        }
    }
    waiter->status = STATUS_WAIT_0;
    return waiter->all;
}

static void enqueue_locked(struct waiter *waiter)
{
    for (ULONG i = 0; i < waiter->count; i++) {
        waiter->blocks[i].waiter = waiter;
        InsertTailList(&waiter->blocks[i].object->WaitListHead, &waiter->blocks[i].link);
    }
}

static void dequeue_locked(struct waiter *waiter)
{
    for (ULONG i = 0; i < waiter->count; i++)
        RemoveEntryList(&waiter->blocks[i].link);
}

/* Release the first waiter whose condition holds; false when there is none. */
static bool release_one_locked(PDISPATCHER_HEADER object)
{
    for (PLIST_ENTRY link = object->WaitListHead.Flink; link != &object->WaitListHead; link = link->Flink) {
        struct waiter *waiter = CONTAINING_RECORD(link, struct wait_block, link)->waiter;

        if (!satisfy_locked(waiter))
            continue;
        dequeue_locked(waiter);
        waiter->released = true;
        host_gate_open(&waiter->gate);
        return true;
    }
    return false;
}

static void release_locked(PDISPATCHER_HEADER object)
{
    while (is_signaled(object) && release_one_locked(object))
        continue;
}

/* ---- waiting ---- */

/*
 * Windows counts 100 ns: negative is relative, positive an absolute time since 1601, NULL for ever. What is too long for
 * 64 bits of ns, 292 years, ends no sooner than that.
 */
static int64_t timeout_ns(const LARGE_INTEGER *timeout)
{
    const LONGLONG longest = INT64_MAX / 100;
    LONGLONG relative;

    if (timeout == NULL)
        return HOST_FOREVER;
    if (timeout->QuadPart > 0)
        relative = timeout->QuadPart - (LONGLONG)host_wall_100ns();
    else
        relative = timeout->QuadPart < -longest ? longest : -timeout->QuadPart;
    if (relative <= 0)
        return 0;
    return relative < longest ? relative * 100 : INT64_MAX;
}

static void require_blocking_allowed(const void *object, uintptr_t ip)
{
    const KIRQL irql = ke_self()->irql;

    if (irql >= DISPATCH_LEVEL)
        ke_bug_check(IRQL_NOT_LESS_OR_EQUAL, (uintptr_t)object, irql, 0, ip);
}

bool ke_idle(void)
{
    return ke_the_machine.idle != NULL && ke_the_machine.idle(&ke_the_machine);
}

/* While there is idle work, each waiting thread looks for it now and then: the one that made it may not wait itself. */
bool ke_gate_wait(struct host_gate *gate, int64_t timeout_ns)
{
    static const int64_t slice_ns = 10000000;
    uint64_t start;

    if (ke_the_machine.idle == NULL)
        return host_gate_wait(gate, timeout_ns);
    start = host_now_ns();
    do {
        while (ke_idle())
            continue;
        if (host_gate_wait(gate, timeout_ns >= 0 && timeout_ns < slice_ns ? timeout_ns : slice_ns))
            return true;
    } while (timeout_ns == HOST_FOREVER || (int64_t)(host_now_ns() - start) < timeout_ns);
    return false;
}

/* Before it waits the thread does what work there is. False: that was not enough, and the dispatcher is locked. */
static bool satisfy(struct waiter *waiter, int64_t timeout)
{
    bool may_work = timeout != 0 && ke_the_machine.idle != NULL && ke_self()->irql < DISPATCH_LEVEL;

    for (;;) {
        host_mutex_lock(dispatcher());
        if (satisfy_locked(waiter)) {
            host_mutex_unlock(dispatcher());
            return true;
        }
        if (!may_work)
            return false;
        host_mutex_unlock(dispatcher());
        may_work = ke_idle();
    }
}

static NTSTATUS wait(struct waiter *waiter, int64_t timeout, uintptr_t ip)
{
    if (satisfy(waiter, timeout))
        return waiter->status;
    if (timeout == 0) {
        host_mutex_unlock(dispatcher());
        return STATUS_TIMEOUT;
    }
    require_blocking_allowed(waiter->blocks[0].object, ip);
    host_gate_init(&waiter->gate);
    enqueue_locked(waiter);
    host_mutex_unlock(dispatcher());

    ke_gate_wait(&waiter->gate, timeout);

    host_mutex_lock(dispatcher());
    if (!waiter->released) {
        dequeue_locked(waiter);
        waiter->status = STATUS_TIMEOUT;
    }
    host_mutex_unlock(dispatcher());
    host_gate_destroy(&waiter->gate);
    return waiter->status;
}

NTSTATUS KeWaitForSingleObject(PVOID Object, KWAIT_REASON WaitReason, KPROCESSOR_MODE WaitMode, BOOLEAN Alertable,
                               PLARGE_INTEGER Timeout)
{
    struct wait_block block = {.object = Object};
    struct waiter waiter = {.blocks = &block, .count = 1};

    UNREFERENCED_PARAMETER(WaitReason);
    UNREFERENCED_PARAMETER(WaitMode);
    UNREFERENCED_PARAMETER(Alertable);
    ke_frames_left(KE_CALLERS_SP);
    return wait(&waiter, timeout_ns(Timeout), (uintptr_t)__builtin_return_address(0));
}

NTSTATUS KeWaitForMultipleObjects(ULONG Count, PVOID Object[], WAIT_TYPE WaitType, KWAIT_REASON WaitReason,
                                  KPROCESSOR_MODE WaitMode, BOOLEAN Alertable, PLARGE_INTEGER Timeout, PKWAIT_BLOCK WaitBlockArray)
{
    struct wait_block blocks[MAXIMUM_WAIT_OBJECTS] = {0};
    struct waiter waiter = {.blocks = blocks, .count = Count, .all = WaitType == WaitAll};
    const ULONG most = WaitBlockArray == NULL ? THREAD_WAIT_OBJECTS : MAXIMUM_WAIT_OBJECTS;

    UNREFERENCED_PARAMETER(WaitReason);
    UNREFERENCED_PARAMETER(WaitMode);
    UNREFERENCED_PARAMETER(Alertable);
    ke_frames_left(KE_CALLERS_SP);
    if (Count == 0 || Count > most)
        ke_bug_check(MAXIMUM_WAIT_OBJECTS_EXCEEDED, 0, 0, 0, 0);
    for (ULONG i = 0; i < Count; i++)
        blocks[i].object = Object[i];
    return wait(&waiter, timeout_ns(Timeout), (uintptr_t)__builtin_return_address(0));
}

NTSTATUS KeDelayExecutionThread(KPROCESSOR_MODE WaitMode, BOOLEAN Alertable, PLARGE_INTEGER Interval)
{
    UNREFERENCED_PARAMETER(WaitMode);
    UNREFERENCED_PARAMETER(Alertable);
    ke_frames_left(KE_CALLERS_SP);
    require_blocking_allowed(Interval, (uintptr_t)__builtin_return_address(0));
    while (ke_idle())
        continue;
    host_sleep_ns(timeout_ns(Interval));
    return STATUS_SUCCESS;
}

/* ---- events ---- */

VOID KeInitializeEvent(PRKEVENT Event, EVENT_TYPE Type, BOOLEAN State)
{
    init_object(&Event->Header, (UCHAR)Type, sizeof(*Event), State ? 1 : 0);
}

static LONG set_event_state(PRKEVENT event, LONG state)
{
    LONG before;

    host_mutex_lock(dispatcher());
    before = event->Header.SignalState;
    event->Header.SignalState = state;
    release_locked(&event->Header);
    host_mutex_unlock(dispatcher());
    return before;
}

LONG KeSetEvent(PRKEVENT Event, KPRIORITY Increment, BOOLEAN Wait)
{
    UNREFERENCED_PARAMETER(Increment);
    UNREFERENCED_PARAMETER(Wait);
    return set_event_state(Event, 1);
}

LONG KeResetEvent(PRKEVENT Event)
{
    return set_event_state(Event, 0);
}

VOID KeClearEvent(PRKEVENT Event)
{
    set_event_state(Event, 0);
}

static LONG read_state(const DISPATCHER_HEADER *object)
{
    LONG state;

    host_mutex_lock(dispatcher());
    state = object->SignalState;
    host_mutex_unlock(dispatcher());
    return state;
}

LONG KeReadStateEvent(PRKEVENT Event)
{
    return read_state(&Event->Header);
}

/* ---- semaphores ---- */

enum { SEMAPHORE_OBJECT = 5 };

VOID KeInitializeSemaphore(PRKSEMAPHORE Semaphore, LONG Count, LONG Limit)
{
    init_object(&Semaphore->Header, SEMAPHORE_OBJECT, sizeof(*Semaphore), Count);
    Semaphore->Limit = Limit;
}

LONG KeReleaseSemaphore(PRKSEMAPHORE Semaphore, KPRIORITY Increment, LONG Adjustment, BOOLEAN Wait)
{
    LONG before;

    UNREFERENCED_PARAMETER(Increment);
    UNREFERENCED_PARAMETER(Wait);
    host_mutex_lock(dispatcher());
    before = Semaphore->Header.SignalState;
    if (Adjustment <= 0 || Adjustment > Semaphore->Limit - before) {
        host_mutex_unlock(dispatcher());
        ExRaiseStatus(STATUS_SEMAPHORE_LIMIT_EXCEEDED);
    }
    Semaphore->Header.SignalState = before + Adjustment;
    release_locked(&Semaphore->Header);
    host_mutex_unlock(dispatcher());
    return before;
}

LONG KeReadStateSemaphore(PRKSEMAPHORE Semaphore)
{
    return read_state(&Semaphore->Header);
}

/* ---- fast mutexes: a count of 1 less those who hold or wait, and an event that hands it on ---- */

VOID ExInitializeFastMutex(PFAST_MUTEX FastMutex)
{
    *FastMutex = (FAST_MUTEX){.Count = 1};
    KeInitializeEvent(&FastMutex->Event, SynchronizationEvent, FALSE);
}

VOID ExAcquireFastMutex(PFAST_MUTEX FastMutex)
{
    const KIRQL old = KfRaiseIrql(APC_LEVEL);

    if (InterlockedDecrement(&FastMutex->Count) != 0)
        KeWaitForSingleObject(&FastMutex->Event, Executive, KernelMode, FALSE, NULL);
    host_takes_over(FastMutex);
    FastMutex->OldIrql = old;
}

BOOLEAN ExTryToAcquireFastMutex(PFAST_MUTEX FastMutex)
{
    const KIRQL old = KfRaiseIrql(APC_LEVEL);

    if (InterlockedCompareExchange(&FastMutex->Count, 0, 1) != 1) {
        KeLowerIrql(old);
        return FALSE;
    }
    host_takes_over(FastMutex);
    FastMutex->OldIrql = old;
    return TRUE;
}

VOID ExReleaseFastMutex(PFAST_MUTEX FastMutex)
{
    const KIRQL old = (KIRQL)FastMutex->OldIrql;

    host_hands_over(FastMutex);
    if (InterlockedIncrement(&FastMutex->Count) <= 0)
        KeSetEvent(&FastMutex->Event, IO_NO_INCREMENT, FALSE);
    KeLowerIrql(old);
}

/* ---- time ---- */

VOID KeQuerySystemTime(PLARGE_INTEGER CurrentTime)
{
    CurrentTime->QuadPart = (LONGLONG)host_wall_100ns();
}

ULONGLONG KeQueryInterruptTime(VOID)
{
    return host_now_ns() / 100;
}

LARGE_INTEGER KeQueryPerformanceCounter(PLARGE_INTEGER PerformanceFrequency)
{
    const LONGLONG per_second = 1000000000;

    if (PerformanceFrequency != NULL)
        PerformanceFrequency->QuadPart = per_second;
    return (LARGE_INTEGER){.QuadPart = (LONGLONG)host_now_ns()};
}
