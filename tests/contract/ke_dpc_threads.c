/* SPDX-License-Identifier: MIT */
/*
 * DPCs and work items: when they run, on which level and in which order, and how to be sure that they have
 * run. Runs under ThreadSanitizer too.
 */

#include "support.h"
#include "threads.h"

#include <stdlib.h>

/* A DPC and what its routine saw. */
struct probe {
    KDPC dpc;
    unsigned runs;
    unsigned order; /* when it ran last, among all of this test */
    KIRQL irql;
    PVOID context, first, second;
};

static unsigned ran_so_far;

static VOID note_run(PKDPC dpc, PVOID context, PVOID first, PVOID second)
{
    struct probe *probe = CONTAINING_RECORD(dpc, struct probe, dpc);

    probe->runs++;
    probe->order = ++ran_so_far;
    probe->irql = KeGetCurrentIrql();
    probe->context = context;
    probe->first = first;
    probe->second = second;
}

static void make_probe(struct probe *probe)
{
    memset(probe, 0xA5, sizeof(*probe));
    *probe = (struct probe){.runs = 0};
    KeInitializeDpc(&probe->dpc, note_run, &probe->irql);
}

/* Below DISPATCH_LEVEL a DPC runs at once, at DISPATCH_LEVEL, with its context and both arguments. */
TEST(ke_dpc, insert__below_dispatch_level__runs_at_once)
{
    for (KIRQL level = PASSIVE_LEVEL; level <= APC_LEVEL; level++) {
        struct probe probe;

        make_probe(&probe);
        raise_irql(level);
        EXPECT_EQ(KeInsertQueueDpc(&probe.dpc, &probe.first, &probe.second), TRUE);
        EXPECT_EQ(probe.runs, 1);
        EXPECT_EQ(probe.irql, DISPATCH_LEVEL);
        EXPECT_PTR_EQ(probe.context, &probe.irql);
        EXPECT_PTR_EQ(probe.first, &probe.first);
        EXPECT_PTR_EQ(probe.second, &probe.second);
        EXPECT_EQ(KeGetCurrentIrql(), level);
        KeLowerIrql(PASSIVE_LEVEL);
    }
}

/* At DISPATCH_LEVEL and above it waits until the thread goes below, to whichever level. */
TEST(ke_dpc, insert__at_or_above_dispatch_level__runs_when_irql_falls_below)
{
    struct probe probe;

    make_probe(&probe);
    raise_irql(HIGH_LEVEL);
    EXPECT_EQ(KeInsertQueueDpc(&probe.dpc, NULL, NULL), TRUE);
    KeLowerIrql(CLOCK_LEVEL);
    KeLowerIrql(DISPATCH_LEVEL);
    EXPECT_EQ(probe.runs, 0);
    KeLowerIrql(APC_LEVEL);
    EXPECT_EQ(probe.runs, 1);
    EXPECT_EQ(probe.irql, DISPATCH_LEVEL);
    EXPECT_EQ(KeGetCurrentIrql(), APC_LEVEL);
    KeLowerIrql(PASSIVE_LEVEL);
    EXPECT_EQ(probe.runs, 1);
}

/* Releasing a spin lock lets the DPCs run that were queued while it was held. */
TEST(ke_dpc, insert__under_a_spin_lock__runs_at_its_release)
{
    struct probe probe;
    KSPIN_LOCK lock;
    KIRQL irql;

    make_probe(&probe);
    KeInitializeSpinLock(&lock);
    KeAcquireSpinLock(&lock, &irql);
    KeInsertQueueDpc(&probe.dpc, NULL, NULL);
    EXPECT_EQ(probe.runs, 0);
    KeReleaseSpinLock(&lock, irql);
    EXPECT_EQ(probe.runs, 1);
}

/* DPCs run in the order in which they were queued. */
TEST(ke_dpc, several__queued_in_turn__run_in_that_order)
{
    struct probe probes[5];

    raise_irql(DISPATCH_LEVEL);
    for (int i = 0; i < 5; i++) {
        make_probe(&probes[i]);
        EXPECT_EQ(KeInsertQueueDpc(&probes[i].dpc, NULL, NULL), TRUE);
    }
    KeLowerIrql(PASSIVE_LEVEL);
    for (unsigned i = 0; i < 5; i++)
        EXPECT_EQ(probes[i].order, i + 1);
}

/* A DPC that is queued already is not queued again: the first arguments stay, and it runs once. */
TEST(ke_dpc, insert__twice__is_refused_the_second_time)
{
    struct probe probe;

    make_probe(&probe);
    raise_irql(DISPATCH_LEVEL);
    EXPECT_EQ(KeInsertQueueDpc(&probe.dpc, &probe.first, NULL), TRUE);
    EXPECT_EQ(KeInsertQueueDpc(&probe.dpc, &probe.second, NULL), FALSE);
    KeLowerIrql(PASSIVE_LEVEL);
    EXPECT_EQ(probe.runs, 1);
    EXPECT_PTR_EQ(probe.first, &probe.first);
    EXPECT_EQ(KeInsertQueueDpc(&probe.dpc, NULL, NULL), TRUE);
    EXPECT_EQ(probe.runs, 2);
}

/* A DPC that is taken out of the queue does not run, and the others keep their order. */
TEST(ke_dpc, remove__queued__does_not_run)
{
    struct probe probes[3];

    raise_irql(DISPATCH_LEVEL);
    for (int i = 0; i < 3; i++) {
        make_probe(&probes[i]);
        EXPECT_EQ(KeRemoveQueueDpc(&probes[i].dpc), FALSE);
        KeInsertQueueDpc(&probes[i].dpc, NULL, NULL);
    }
    EXPECT_EQ(KeRemoveQueueDpc(&probes[1].dpc), TRUE);
    EXPECT_EQ(KeRemoveQueueDpc(&probes[1].dpc), FALSE);
    KeLowerIrql(PASSIVE_LEVEL);
    EXPECT_EQ(probes[0].order, 1);
    EXPECT_EQ(probes[1].runs, 0);
    EXPECT_EQ(probes[2].order, 2);
    EXPECT_EQ(KeRemoveQueueDpc(&probes[2].dpc), FALSE);
    EXPECT_EQ(KeInsertQueueDpc(&probes[1].dpc, NULL, NULL), TRUE);
    EXPECT_EQ(probes[1].runs, 1);
}

static VOID requeue_itself(PKDPC dpc, PVOID context, PVOID first, PVOID second)
{
    unsigned *const left = context;

    UNREFERENCED_PARAMETER(second);
    EXPECT_EQ(KeGetCurrentIrql(), DISPATCH_LEVEL);
    if (--*left != 0)
        EXPECT_EQ(KeInsertQueueDpc(dpc, first, NULL), TRUE);
}

/* A running DPC is out of its queue: its routine may queue it again. */
TEST(ke_dpc, insert__by_its_own_routine__runs_again)
{
    unsigned left = 5;
    KDPC dpc;

    KeInitializeDpc(&dpc, requeue_itself, &left);
    KeInsertQueueDpc(&dpc, NULL, NULL);
    EXPECT_EQ(left, 0);
    EXPECT_EQ(KeGetCurrentIrql(), PASSIVE_LEVEL);
}

static VOID queue_another(PKDPC dpc, PVOID context, PVOID first, PVOID second)
{
    struct probe *const another = context;

    UNREFERENCED_PARAMETER(dpc);
    UNREFERENCED_PARAMETER(first);
    UNREFERENCED_PARAMETER(second);
    KeInsertQueueDpc(&another->dpc, NULL, NULL);
    EXPECT_EQ(another->runs, 0);
}

/* A DPC that another one queues runs after that one, before the thread goes on. */
TEST(ke_dpc, insert__by_another_routine__runs_after_it)
{
    struct probe probe;
    KDPC dpc;

    make_probe(&probe);
    KeInitializeDpc(&dpc, queue_another, &probe);
    KeInsertQueueDpc(&dpc, NULL, NULL);
    EXPECT_EQ(probe.runs, 1);
}

static VOID free_itself(PKDPC dpc, PVOID context, PVOID first, PVOID second)
{
    UNREFERENCED_PARAMETER(first);
    UNREFERENCED_PARAMETER(second);
    memset(dpc, 0xEE, sizeof(*dpc));
    free(dpc);
    ++*(unsigned *)context;
}

/* A DPC's routine may free the DPC. */
TEST(ke_dpc, routine__frees_its_dpc__is_allowed)
{
    unsigned freed = 0;

    for (int i = 0; i < 10; i++) {
        PKDPC const dpc = malloc(sizeof(*dpc));

        KeInitializeDpc(dpc, free_itself, &freed);
        KeInsertQueueDpc(dpc, NULL, NULL);
    }
    EXPECT_EQ(freed, 10);
}

/* ---- DPCs and other threads ---- */

struct slow {
    KDPC dpc;
    _Atomic bool started, finished;
};

static VOID run_slowly(PKDPC dpc, PVOID context, PVOID first, PVOID second)
{
    struct slow *const slow = context;

    UNREFERENCED_PARAMETER(dpc);
    UNREFERENCED_PARAMETER(first);
    UNREFERENCED_PARAMETER(second);
    atomic_store(&slow->started, true);
    pause_ms(20);
    atomic_store(&slow->finished, true);
}

static void insert_slow(void *context)
{
    struct slow *const slow = context;

    KeInitializeDpc(&slow->dpc, run_slowly, slow);
    KeInsertQueueDpc(&slow->dpc, NULL, NULL);
}

/* KeFlushQueuedDpcs returns when what is running on other threads has finished. */
TEST(ke_dpc_threads, flush__one_runs_elsewhere__waits_for_its_end)
{
    struct slow slow = {.started = false};
    struct test_thread thread;

    thread_start(&thread, insert_slow, &slow);
    await_flag(&slow.started);
    KeFlushQueuedDpcs();
    EXPECT(atomic_load(&slow.finished));
    thread_join(&thread);
}

/* KeFlushQueuedDpcs with nothing queued returns at once. */
TEST(ke_dpc_threads, flush__nothing_queued__returns)
{
    KeFlushQueuedDpcs();
    EXPECT_EQ(KeGetCurrentIrql(), PASSIVE_LEVEL);
}

struct parked {
    KDPC dpc;
    _Atomic bool queued, go_on;
    unsigned runs;
};

static VOID count_parked(PKDPC dpc, PVOID context, PVOID first, PVOID second)
{
    UNREFERENCED_PARAMETER(dpc);
    UNREFERENCED_PARAMETER(first);
    UNREFERENCED_PARAMETER(second);
    ((struct parked *)context)->runs++;
}

/* Queues a DPC at DISPATCH_LEVEL and stays there until it is told to go on. */
static void park(void *context)
{
    struct parked *const parked = context;
    const KIRQL irql = raise_irql(DISPATCH_LEVEL);

    KeInsertQueueDpc(&parked->dpc, NULL, NULL);
    atomic_store(&parked->queued, true);
    await_flag(&parked->go_on);
    KeLowerIrql(irql);
}

/* A DPC in another thread's queue can be taken out of it, and is refused while it is there. */
TEST(ke_dpc_threads, remove__from_another_threads_queue__does_not_run)
{
    struct parked parked = {.runs = 0};
    struct test_thread thread;

    KeInitializeDpc(&parked.dpc, count_parked, &parked);
    thread_start(&thread, park, &parked);
    await_flag(&parked.queued);
    EXPECT_EQ(KeInsertQueueDpc(&parked.dpc, NULL, NULL), FALSE);
    EXPECT_EQ(KeRemoveQueueDpc(&parked.dpc), TRUE);
    atomic_store(&parked.go_on, true);
    thread_join(&thread);
    EXPECT_EQ(parked.runs, 0);
}

/* ---- work items ---- */

struct work {
    WORK_QUEUE_ITEM item;
    KEVENT done;
    unsigned runs;
    KIRQL irql;
    pthread_t thread;
    PEPROCESS process;
};

static VOID note_work(PVOID parameter)
{
    struct work *const work = parameter;

    work->runs++;
    work->irql = KeGetCurrentIrql();
    work->thread = pthread_self();
    work->process = PsGetCurrentProcess();
    KeSetEvent(&work->done, IO_NO_INCREMENT, FALSE);
}

static void make_work(struct work *work)
{
    *work = (struct work){.irql = 99};
    KeInitializeEvent(&work->done, SynchronizationEvent, FALSE);
    ExInitializeWorkItem(&work->item, note_work, work);
}

static void await_work(struct work *work)
{
    EXPECT_STATUS(KeWaitForSingleObject(&work->done, Executive, KernelMode, FALSE, NULL), STATUS_SUCCESS);
}

/* A work item runs once, on a thread of the system's, at PASSIVE_LEVEL and in the system process. */
TEST(ke_work_item_threads, queue__from_passive_level__runs_on_a_system_thread)
{
    const PEPROCESS own = pinion_process_create("own");
    struct work work;

    make_work(&work);
    pinion_process_attach(own);
    ExQueueWorkItem(&work.item, DelayedWorkQueue);
    await_work(&work);
    EXPECT_EQ(work.runs, 1);
    EXPECT_EQ(work.irql, PASSIVE_LEVEL);
    EXPECT(!pthread_equal(work.thread, pthread_self()));
    EXPECT_PTR_EQ(work.process, PsInitialSystemProcess);
    pinion_process_exit(own);
}

/* It may be queued from DISPATCH_LEVEL, which is what it is for. */
TEST(ke_work_item_threads, queue__from_dispatch_level__runs_at_passive_level)
{
    struct work work;

    make_work(&work);
    raise_irql(DISPATCH_LEVEL);
    ExQueueWorkItem(&work.item, CriticalWorkQueue);
    KeLowerIrql(PASSIVE_LEVEL);
    await_work(&work);
    EXPECT_EQ(work.irql, PASSIVE_LEVEL);
}

/* Each kind of queue runs its items; an item can be queued again once it runs. */
TEST(ke_work_item_threads, queue__each_type_and_again__runs_each_time)
{
    static const WORK_QUEUE_TYPE types[] = {
        CriticalWorkQueue,   DelayedWorkQueue,  HyperCriticalWorkQueue, NormalWorkQueue,
        BackgroundWorkQueue, RealTimeWorkQueue, SuperCriticalWorkQueue};
    struct work work;

    make_work(&work);
    for (unsigned i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        ExQueueWorkItem(&work.item, types[i]);
        await_work(&work);
        EXPECT_EQ(work.runs, i + 1);
    }
}

struct step {
    WORK_QUEUE_ITEM item;
    KEVENT *done;
    unsigned *left;
};

static VOID free_and_queue_next(PVOID parameter)
{
    const struct step step = *(struct step *)parameter;
    struct step *next;

    memset(parameter, 0xEE, sizeof(struct step));
    free(parameter);
    if (--*step.left == 0) {
        KeSetEvent(step.done, IO_NO_INCREMENT, FALSE);
        return;
    }
    next = malloc(sizeof(*next));
    *next = step;
    ExInitializeWorkItem(&next->item, free_and_queue_next, next);
    ExQueueWorkItem(&next->item, DelayedWorkQueue);
}

/* A work item's routine may free the item and queue others. */
TEST(ke_work_item_threads, routine__frees_its_item_and_queues_another__is_allowed)
{
    struct step *first = malloc(sizeof(*first));
    unsigned left = 50;
    KEVENT done;

    KeInitializeEvent(&done, NotificationEvent, FALSE);
    *first = (struct step){.done = &done, .left = &left};
    ExInitializeWorkItem(&first->item, free_and_queue_next, first);
    ExQueueWorkItem(&first->item, DelayedWorkQueue);
    EXPECT_STATUS(KeWaitForSingleObject(&done, Executive, KernelMode, FALSE, NULL), STATUS_SUCCESS);
    EXPECT_EQ(left, 0);
}

static VOID wait_for_parameter(PVOID parameter)
{
    KeWaitForSingleObject(parameter, Executive, KernelMode, FALSE, NULL);
}

static VOID set_parameter(PVOID parameter)
{
    KeSetEvent(parameter, IO_NO_INCREMENT, FALSE);
}

/* Work items may wait for one that was queued after all of them. */
TEST(ke_work_item_threads, many_wait_for_a_later_one__all_finish)
{
    enum { MANY = 20 };
    WORK_QUEUE_ITEM waits[MANY], sets;
    KEVENT event;

    KeInitializeEvent(&event, NotificationEvent, FALSE);
    ExInitializeWorkItem(&sets, set_parameter, &event);
    for (int i = 0; i < MANY; i++) {
        ExInitializeWorkItem(&waits[i], wait_for_parameter, &event);
        ExQueueWorkItem(&waits[i], DelayedWorkQueue);
    }
    ExQueueWorkItem(&sets, DelayedWorkQueue);
    EXPECT_STATUS(KeWaitForSingleObject(&event, Executive, KernelMode, FALSE, NULL), STATUS_SUCCESS);
    EXPECT_EQ(pinion_shutdown(), 0);
}

static VOID run_a_while(PVOID parameter)
{
    pause_ms(10);
    InterlockedIncrement(parameter);
}

/* The end of the machine waits for every work item that was queued. */
TEST_UNTIDY(ke_work_item_threads, shutdown__items_still_queued__waits_for_all)
{
    WORK_QUEUE_ITEM items[5];
    LONG finished = 0;

    for (int i = 0; i < 5; i++) {
        ExInitializeWorkItem(&items[i], run_a_while, &finished);
        ExQueueWorkItem(&items[i], DelayedWorkQueue);
    }
    EXPECT_EQ(pinion_shutdown(), 0);
    EXPECT_EQ(finished, 5);
}
