/* SPDX-License-Identifier: MIT */
/*
 * Waits that one thread ends for another: who is released by which signal, what is left, and that nothing
 * is lost when several threads wait and signal at once. Runs under ThreadSanitizer too.
 */

#include "support.h"
#include "threads.h"

static LARGE_INTEGER no_time = {.QuadPart = 0};

/* One thread that waits for one object, and what came of it. */
struct waiter {
    struct test_thread thread;
    PVOID object;
    PLARGE_INTEGER timeout;
    NTSTATUS status;
    _Atomic bool done;
};

static void wait_body(void *context)
{
    struct waiter *waiter = context;

    waiter->status = KeWaitForSingleObject(waiter->object, Executive, KernelMode, FALSE, waiter->timeout);
    atomic_store(&waiter->done, true);
}

static void start_waiter(struct waiter *waiter, PVOID object)
{
    waiter->object = object;
    thread_start(&waiter->thread, wait_body, waiter);
}

static void expect_released(struct waiter *waiter)
{
    thread_join(&waiter->thread);
    EXPECT(atomic_load(&waiter->done));
    EXPECT_STATUS(waiter->status, STATUS_SUCCESS);
}

static unsigned count_done(struct waiter *waiters, unsigned n)
{
    unsigned done = 0;

    for (unsigned i = 0; i < n; i++)
        done += atomic_load(&waiters[i].done);
    return done;
}

/* Wait until so many are done, and see that no more follow. */
static void expect_done(struct waiter *waiters, unsigned n, unsigned expected)
{
    while (count_done(waiters, n) < expected)
        pause_ms(1);
    pause_ms(10);
    EXPECT_EQ(count_done(waiters, n), expected);
}

/* A notification event releases every thread that waits for it. */
TEST(ke_event_threads, notification__set__releases_all_waiters)
{
    struct waiter waiters[4] = {0};
    KEVENT event;

    KeInitializeEvent(&event, NotificationEvent, FALSE);
    for (int i = 0; i < 4; i++)
        start_waiter(&waiters[i], &event);
    pause_ms(10);
    EXPECT_EQ(count_done(waiters, 4), 0);
    KeSetEvent(&event, IO_NO_INCREMENT, FALSE);
    for (int i = 0; i < 4; i++)
        expect_released(&waiters[i]);
    EXPECT_NE(KeReadStateEvent(&event), 0);
}

/* A synchronization event releases one thread for each time that it is set, and is not signalled afterwards. */
TEST(ke_event_threads, synchronization__set__releases_one_waiter_each)
{
    struct waiter waiters[3] = {0};
    KEVENT event;

    KeInitializeEvent(&event, SynchronizationEvent, FALSE);
    for (int i = 0; i < 3; i++)
        start_waiter(&waiters[i], &event);
    pause_ms(10);
    for (unsigned i = 1; i <= 3; i++) {
        EXPECT_EQ(KeSetEvent(&event, IO_NO_INCREMENT, FALSE), 0);
        expect_done(waiters, 3, i);
        EXPECT_EQ(KeReadStateEvent(&event), 0);
    }
    for (int i = 0; i < 3; i++)
        expect_released(&waiters[i]);
}

/* A semaphore releases as many threads as it is released by. */
TEST(ke_semaphore_threads, release__by_two__releases_two_waiters)
{
    struct waiter waiters[3] = {0};
    KSEMAPHORE semaphore;

    KeInitializeSemaphore(&semaphore, 0, 10);
    for (int i = 0; i < 3; i++)
        start_waiter(&waiters[i], &semaphore);
    pause_ms(10);
    EXPECT_EQ(KeReleaseSemaphore(&semaphore, IO_NO_INCREMENT, 2, FALSE), 0);
    expect_done(waiters, 3, 2);
    EXPECT_EQ(KeReadStateSemaphore(&semaphore), 0);
    EXPECT_EQ(KeReleaseSemaphore(&semaphore, IO_NO_INCREMENT, 3, FALSE), 0);
    for (int i = 0; i < 3; i++)
        expect_released(&waiters[i]);
    EXPECT_EQ(KeReadStateSemaphore(&semaphore), 2);
}

/* Timeouts as long as a number can say last until the signal comes; they do not wrap into the past. */
TEST(ke_timeout_threads, longest_timeouts__wait_for_the_signal)
{
    LARGE_INTEGER timeouts[] = {{.QuadPart = -MAXLONGLONG - 1},
                                {.QuadPart = -MAXLONGLONG},
                                {.QuadPart = MAXLONGLONG},
                                {.QuadPart = -MAXLONGLONG / 50}};
    struct waiter waiters[4] = {0};
    KEVENT event;

    KeInitializeEvent(&event, NotificationEvent, FALSE);
    for (int i = 0; i < 4; i++) {
        waiters[i].timeout = &timeouts[i];
        start_waiter(&waiters[i], &event);
    }
    pause_ms(20);
    EXPECT_EQ(count_done(waiters, 4), 0);
    KeSetEvent(&event, IO_NO_INCREMENT, FALSE);
    for (int i = 0; i < 4; i++)
        expect_released(&waiters[i]);
}

/* ---- several objects ---- */

struct multi_waiter {
    struct test_thread thread;
    PVOID objects[3];
    WAIT_TYPE type;
    NTSTATUS status;
    _Atomic bool done;
};

static void multi_wait_body(void *context)
{
    struct multi_waiter *waiter = context;

    waiter->status =
        KeWaitForMultipleObjects(3, waiter->objects, waiter->type, Executive, KernelMode, FALSE, NULL, NULL);
    atomic_store(&waiter->done, true);
}

static void start_multi_waiter(struct multi_waiter *waiter, KEVENT events[3], WAIT_TYPE type)
{
    *waiter = (struct multi_waiter){.type = type};
    for (int i = 0; i < 3; i++) {
        KeInitializeEvent(&events[i], SynchronizationEvent, FALSE);
        waiter->objects[i] = &events[i];
    }
    thread_start(&waiter->thread, multi_wait_body, waiter);
    pause_ms(5);
    EXPECT(!atomic_load(&waiter->done));
}

/* WaitAny ends with the first object that is signalled, and says which; the others keep what comes later. */
TEST(ke_wait_threads, any__one_is_set_later__says_which)
{
    for (int which = 0; which < 3; which++) {
        struct multi_waiter waiter;
        KEVENT events[3];

        start_multi_waiter(&waiter, events, WaitAny);
        KeSetEvent(&events[which], IO_NO_INCREMENT, FALSE);
        thread_join(&waiter.thread);
        EXPECT_STATUS(waiter.status, STATUS_WAIT_0 + which);
        for (int i = 0; i < 3; i++) {
            EXPECT_EQ(KeReadStateEvent(&events[i]), 0);
            EXPECT_EQ(KeSetEvent(&events[i], IO_NO_INCREMENT, FALSE), 0);
            EXPECT_NE(KeReadStateEvent(&events[i]), 0);
        }
    }
}

/* WaitAll waits for the last of its objects and takes from none of them before. */
TEST(ke_wait_threads, all__set_one_after_the_other__ends_with_the_last)
{
    struct multi_waiter waiter;
    KEVENT events[3];

    start_multi_waiter(&waiter, events, WaitAll);
    for (int i = 0; i < 3; i++) {
        EXPECT(!atomic_load(&waiter.done));
        KeSetEvent(&events[(i + 1) % 3], IO_NO_INCREMENT, FALSE);
        pause_ms(5);
        EXPECT_EQ(KeReadStateEvent(&events[(i + 1) % 3]) != 0, i < 2);
    }
    thread_join(&waiter.thread);
    EXPECT_STATUS(waiter.status, STATUS_SUCCESS);
    for (int i = 0; i < 3; i++)
        EXPECT_EQ(KeReadStateEvent(&events[i]), 0);
}

/* A signal that a WaitAll cannot use yet goes to another thread that can. */
TEST(ke_wait_threads, all__not_complete__does_not_hold_signals_back)
{
    struct multi_waiter all;
    struct waiter single = {0};
    KEVENT events[3];

    start_multi_waiter(&all, events, WaitAll);
    start_waiter(&single, &events[0]);
    pause_ms(5);
    KeSetEvent(&events[0], IO_NO_INCREMENT, FALSE);
    expect_released(&single);
    EXPECT_EQ(KeReadStateEvent(&events[0]), 0);
    EXPECT(!atomic_load(&all.done));
    for (int i = 0; i < 3; i++)
        KeSetEvent(&events[i], IO_NO_INCREMENT, FALSE);
    thread_join(&all.thread);
}

/* ---- nothing is lost ---- */

enum { THREADS = 4, ROUNDS = 400 };

struct handover {
    KSEMAPHORE semaphore;
    _Atomic int64_t taken;
    bool give; /* of the element, not of the whole */
    struct handover *whole;
};

static void give_or_take(void *context)
{
    const struct handover *own = context;
    struct handover *whole = own->whole;

    for (int i = 0; i < ROUNDS; i++) {
        if (own->give) {
            KeReleaseSemaphore(&whole->semaphore, IO_NO_INCREMENT, 1, FALSE);
            continue;
        }
        KeWaitForSingleObject(&whole->semaphore, Executive, KernelMode, FALSE, NULL);
        atomic_fetch_add(&whole->taken, 1);
    }
}

/* As many waits are satisfied as units were released, whoever comes first. */
TEST(ke_semaphore_threads, givers_and_takers__at_once__come_out_even)
{
    struct handover whole = {.taken = 0}, each[2 * THREADS] = {{.taken = 0}};

    KeInitializeSemaphore(&whole.semaphore, 0, MAXLONG);
    for (int i = 0; i < 2 * THREADS; i++) {
        each[i].give = i % 2 != 0;
        each[i].whole = &whole;
    }
    run_on_threads(give_or_take, each, sizeof(each[0]), 2 * THREADS);
    EXPECT_EQ(atomic_load(&whole.taken), THREADS * ROUNDS);
    EXPECT_EQ(KeReadStateSemaphore(&whole.semaphore), 0);
}

struct ping {
    KEVENT here, there;
    LONG rounds; /* not atomic: the events order the accesses */
    bool odd;
};

static void ping_body(void *context)
{
    struct ping *ping = *(struct ping *const *)context;
    const bool odd = InterlockedExchange8((char volatile *)&ping->odd, 1) != 0;
    PRKEVENT own = odd ? &ping->there : &ping->here;
    PRKEVENT other = odd ? &ping->here : &ping->there;

    for (int i = 0; i < ROUNDS; i++) {
        EXPECT_STATUS(KeWaitForSingleObject(own, Executive, KernelMode, FALSE, NULL), STATUS_SUCCESS);
        ping->rounds++;
        KeSetEvent(other, IO_NO_INCREMENT, FALSE);
    }
}

/* Two threads that wake each other in turn see each other's writes without any lock. */
TEST(ke_event_threads, ping_pong__plain_variable__is_ordered_by_the_events)
{
    struct ping ping = {.rounds = 0};
    struct ping *both[2] = {&ping, &ping};

    KeInitializeEvent(&ping.here, SynchronizationEvent, TRUE);
    KeInitializeEvent(&ping.there, SynchronizationEvent, FALSE);
    run_on_threads(ping_body, both, sizeof(both[0]), 2);
    EXPECT_EQ(ping.rounds, 2 * ROUNDS);
}

struct timed {
    KEVENT *event;
    _Atomic int64_t *taken;
    bool sets;
};

static void set_or_wait_briefly(void *context)
{
    const struct timed *timed = context;
    LARGE_INTEGER brief = {.QuadPart = -500};

    for (int i = 0; i < ROUNDS; i++) {
        if (timed->sets)
            atomic_fetch_add(timed->taken, KeSetEvent(timed->event, IO_NO_INCREMENT, FALSE) == 0);
        else if (KeWaitForSingleObject(timed->event, Executive, KernelMode, FALSE, &brief) == STATUS_SUCCESS)
            atomic_fetch_sub(timed->taken, 1);
    }
}

/* When timeouts and signals meet, each signal is either taken by a wait or still there: none is taken twice
   or lost. */
TEST(ke_timeout_threads, timeouts_and_signals__at_once__no_signal_is_lost)
{
    KEVENT event;
    _Atomic int64_t balance = 0;
    struct timed each[4];

    KeInitializeEvent(&event, SynchronizationEvent, FALSE);
    for (int i = 0; i < 4; i++)
        each[i] = (struct timed){&event, &balance, i == 0};
    run_on_threads(set_or_wait_briefly, each, sizeof(each[0]), 4);
    EXPECT_EQ(atomic_load(&balance), KeReadStateEvent(&event) != 0);
}

/* ---- locks ---- */

struct guarded {
    KSPIN_LOCK spin;
    FAST_MUTEX mutex;
    LONG count; /* not atomic: the lock guards it */
    bool use_mutex;
};

static void count_under_lock(void *context)
{
    struct guarded *guarded = *(struct guarded *const *)context;

    for (int i = 0; i < ROUNDS; i++) {
        KIRQL irql;

        if (guarded->use_mutex) {
            ExAcquireFastMutex(&guarded->mutex);
            guarded->count++;
            ExReleaseFastMutex(&guarded->mutex);
        } else {
            KeAcquireSpinLock(&guarded->spin, &irql);
            guarded->count++;
            KeReleaseSpinLock(&guarded->spin, irql);
        }
    }
    EXPECT_EQ(KeGetCurrentIrql(), PASSIVE_LEVEL);
}

static void expect_exclusion(bool use_mutex)
{
    struct guarded guarded = {.use_mutex = use_mutex};
    struct guarded *all[THREADS];

    KeInitializeSpinLock(&guarded.spin);
    ExInitializeFastMutex(&guarded.mutex);
    for (int i = 0; i < THREADS; i++)
        all[i] = &guarded;
    run_on_threads(count_under_lock, all, sizeof(all[0]), THREADS);
    EXPECT_EQ(guarded.count, THREADS * ROUNDS);
}

/* A spin lock lets one thread in at a time. */
TEST(ke_spin_lock_threads, many_threads__one_counter__is_exact)
{
    expect_exclusion(false);
}

/* A fast mutex lets one thread in at a time, and wakes those that wait. */
TEST(ke_fast_mutex_threads, many_threads__one_counter__is_exact)
{
    expect_exclusion(true);
}

static void try_held(void *context)
{
    struct guarded *guarded = context;

    EXPECT_EQ(ExTryToAcquireFastMutex(&guarded->mutex), FALSE);
    EXPECT_EQ(KeGetCurrentIrql(), PASSIVE_LEVEL);
    EXPECT_EQ(KeTryToAcquireSpinLockAtDpcLevel(&guarded->spin), FALSE);
}

/* What one thread holds another cannot take. */
TEST(ke_spin_lock_threads, try__held_by_another_thread__is_refused)
{
    struct guarded guarded = {.count = 0};
    struct test_thread thread;
    KIRQL irql;

    KeInitializeSpinLock(&guarded.spin);
    ExInitializeFastMutex(&guarded.mutex);
    ExAcquireFastMutex(&guarded.mutex);
    KeAcquireSpinLock(&guarded.spin, &irql);
    thread_start(&thread, try_held, &guarded);
    thread_join(&thread);
    KeReleaseSpinLock(&guarded.spin, irql);
    ExReleaseFastMutex(&guarded.mutex);
}

struct shared_list {
    LIST_ENTRY head;
    KSPIN_LOCK lock;
    _Atomic int64_t removed;
};

struct item {
    LIST_ENTRY link;
    bool inserted;
};

static void push_and_pop(void *context)
{
    struct shared_list *list = *(struct shared_list *const *)context;
    static _Thread_local struct item items[ROUNDS];

    for (int i = 0; i < ROUNDS; i++) {
        items[i].inserted = true;
        if (i % 2 == 0)
            ExInterlockedInsertTailList(&list->head, &items[i].link, &list->lock);
        else
            ExInterlockedInsertHeadList(&list->head, &items[i].link, &list->lock);
    }
    while (atomic_load(&list->removed) < THREADS * ROUNDS) {
        const PLIST_ENTRY link = ExInterlockedRemoveHeadList(&list->head, &list->lock);

        if (link == NULL)
            continue;
        EXPECT(CONTAINING_RECORD(link, struct item, link)->inserted);
        CONTAINING_RECORD(link, struct item, link)->inserted = false;
        atomic_fetch_add(&list->removed, 1);
    }
}

/* Entries that several threads put into one list and take out again come out once each. */
TEST(ke_spin_lock_threads, interlocked_lists__many_threads__each_entry_once)
{
    struct shared_list list = {.removed = 0};
    struct shared_list *all[THREADS];

    InitializeListHead(&list.head);
    KeInitializeSpinLock(&list.lock);
    for (int i = 0; i < THREADS; i++)
        all[i] = &list;
    run_on_threads(push_and_pop, all, sizeof(all[0]), THREADS);
    EXPECT_EQ(atomic_load(&list.removed), THREADS * ROUNDS);
    EXPECT(IsListEmpty(&list.head));
}

static void check_own_irql(void *context)
{
    EXPECT_EQ(KeGetCurrentIrql(), PASSIVE_LEVEL);
    raise_irql(APC_LEVEL);
    *(KIRQL *)context = KeGetCurrentIrql();
}

/* IRQL is a thread's own: what one raises another does not see. */
TEST(ke_irql_threads, raise__on_one_thread__is_its_own)
{
    struct test_thread thread;
    KIRQL seen = 99;

    raise_irql(DISPATCH_LEVEL);
    thread_start(&thread, check_own_irql, &seen);
    thread_join(&thread);
    EXPECT_EQ(seen, APC_LEVEL);
    EXPECT_EQ(KeGetCurrentIrql(), DISPATCH_LEVEL);
    KeLowerIrql(PASSIVE_LEVEL);
}

/* A poll never blocks while others signal. */
TEST(ke_event_threads, poll__after_all_is_over__tells_the_state)
{
    struct waiter waiter = {0};
    KEVENT event;

    KeInitializeEvent(&event, SynchronizationEvent, FALSE);
    start_waiter(&waiter, &event);
    KeSetEvent(&event, IO_NO_INCREMENT, FALSE);
    expect_released(&waiter);
    EXPECT_STATUS(KeWaitForSingleObject(&event, Executive, KernelMode, FALSE, &no_time), STATUS_TIMEOUT);
}
