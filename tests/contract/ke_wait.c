/* SPDX-License-Identifier: MIT */
/*
 * Events, semaphores, fast mutexes and waits, as far as one thread can see them: states, what a wait takes,
 * timeouts, and where waiting is not allowed. ke_wait_threads.c has the rest.
 */

#include "support.h"
#include "threads.h"

static LARGE_INTEGER no_time = {.QuadPart = 0};

static NTSTATUS poll(PVOID object)
{
    return KeWaitForSingleObject(object, Executive, KernelMode, FALSE, &no_time);
}

/* ---- events ---- */

/* Setting and resetting give the state before, whatever the kind of event. */
TEST(ke_event, set_and_reset__each_state__give_the_state_before)
{
    for (int type = NotificationEvent; type <= SynchronizationEvent; type++) {
        KEVENT event;

        KeInitializeEvent(&event, (EVENT_TYPE)type, FALSE);
        EXPECT_EQ(KeReadStateEvent(&event), 0);
        EXPECT_EQ(KeResetEvent(&event), 0);
        EXPECT_EQ(KeSetEvent(&event, IO_NO_INCREMENT, FALSE), 0);
        EXPECT_NE(KeReadStateEvent(&event), 0);
        EXPECT_NE(KeSetEvent(&event, IO_NO_INCREMENT, FALSE), 0);
        EXPECT_NE(KeResetEvent(&event), 0);
        EXPECT_EQ(KeReadStateEvent(&event), 0);
        KeInitializeEvent(&event, (EVENT_TYPE)type, TRUE);
        EXPECT_NE(KeReadStateEvent(&event), 0);
        KeClearEvent(&event);
        EXPECT_EQ(KeReadStateEvent(&event), 0);
        KeClearEvent(&event);
        EXPECT_EQ(KeReadStateEvent(&event), 0);
    }
}

/* A notification event stays signalled until it is reset: any number of waits are satisfied. */
TEST(ke_event, notification__signalled__satisfies_every_wait)
{
    KEVENT event;

    KeInitializeEvent(&event, NotificationEvent, TRUE);
    for (int i = 0; i < 3; i++)
        EXPECT_STATUS(KeWaitForSingleObject(&event, Executive, KernelMode, FALSE, NULL), STATUS_SUCCESS);
    EXPECT_NE(KeReadStateEvent(&event), 0);
    KeResetEvent(&event);
    EXPECT_STATUS(poll(&event), STATUS_TIMEOUT);
}

/* A synchronization event satisfies one wait and is reset by it; setting it twice is setting it once. */
TEST(ke_event, synchronization__signalled__satisfies_one_wait)
{
    KEVENT event;

    KeInitializeEvent(&event, SynchronizationEvent, FALSE);
    EXPECT_STATUS(poll(&event), STATUS_TIMEOUT);
    KeSetEvent(&event, IO_NO_INCREMENT, FALSE);
    KeSetEvent(&event, IO_NO_INCREMENT, FALSE);
    EXPECT_STATUS(poll(&event), STATUS_SUCCESS);
    EXPECT_EQ(KeReadStateEvent(&event), 0);
    EXPECT_STATUS(poll(&event), STATUS_TIMEOUT);
}

/* A wait that ends by its timeout takes nothing and leaves nothing behind: a later signal is there for the
   next wait. */
TEST(ke_event, wait__timed_out__takes_no_later_signal)
{
    KEVENT event;
    LARGE_INTEGER moment = {.QuadPart = -10000};

    KeInitializeEvent(&event, SynchronizationEvent, FALSE);
    EXPECT_STATUS(KeWaitForSingleObject(&event, Executive, KernelMode, FALSE, &moment), STATUS_TIMEOUT);
    EXPECT_EQ(KeSetEvent(&event, IO_NO_INCREMENT, FALSE), 0);
    EXPECT_NE(KeReadStateEvent(&event), 0);
    EXPECT_STATUS(poll(&event), STATUS_SUCCESS);
}

/* ---- semaphores ---- */

/* Each wait takes one, a release gives the count before, and zero is not signalled. */
TEST(ke_semaphore, wait_and_release__count__goes_down_and_up)
{
    KSEMAPHORE semaphore;

    KeInitializeSemaphore(&semaphore, 2, 5);
    EXPECT_EQ(KeReadStateSemaphore(&semaphore), 2);
    EXPECT_STATUS(poll(&semaphore), STATUS_SUCCESS);
    EXPECT_STATUS(poll(&semaphore), STATUS_SUCCESS);
    EXPECT_STATUS(poll(&semaphore), STATUS_TIMEOUT);
    EXPECT_EQ(KeReadStateSemaphore(&semaphore), 0);
    EXPECT_EQ(KeReleaseSemaphore(&semaphore, IO_NO_INCREMENT, 3, FALSE), 0);
    EXPECT_EQ(KeReleaseSemaphore(&semaphore, IO_NO_INCREMENT, 2, FALSE), 3);
    EXPECT_EQ(KeReadStateSemaphore(&semaphore), 5);
}

struct release {
    PRKSEMAPHORE semaphore;
    LONG adjustment;
};

static void release_body(void *context)
{
    const struct release *release = context;

    KeReleaseSemaphore(release->semaphore, IO_NO_INCREMENT, release->adjustment, FALSE);
}

/* A release past the limit raises STATUS_SEMAPHORE_LIMIT_EXCEEDED and leaves the count, also where the sum
   overflows. */
TEST(ke_semaphore, release__past_the_limit__raises_and_changes_nothing)
{
    static const struct {
        LONG count, limit, adjustment;
    } rows[] = {{0, 1, 2},
                {1, 1, 1},
                {3, 5, 3},
                {1, MAXLONG, MAXLONG},
                {MAXLONG, MAXLONG, 1},
                {MAXLONG, MAXLONG, MAXLONG}};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        KSEMAPHORE semaphore;
        struct release release = {&semaphore, rows[i].adjustment};

        KeInitializeSemaphore(&semaphore, rows[i].count, rows[i].limit);
        EXPECT_RAISES(STATUS_SEMAPHORE_LIMIT_EXCEEDED, release_body, &release);
        EXPECT_EQ(KeReadStateSemaphore(&semaphore), rows[i].count);
    }
}

/* A release up to the limit exactly is allowed. */
TEST(ke_semaphore, release__up_to_the_limit__succeeds)
{
    KSEMAPHORE semaphore;

    KeInitializeSemaphore(&semaphore, 1, MAXLONG);
    EXPECT_EQ(KeReleaseSemaphore(&semaphore, IO_NO_INCREMENT, MAXLONG - 1, FALSE), 1);
    EXPECT_EQ(KeReadStateSemaphore(&semaphore), MAXLONG);
}

/* ---- several objects ---- */

enum { N = 5 };

struct objects {
    KEVENT events[N];
    PVOID pointers[N];
    KWAIT_BLOCK blocks[N];
};

static void make_objects(struct objects *o, EVENT_TYPE type, unsigned signalled)
{
    for (unsigned i = 0; i < N; i++) {
        KeInitializeEvent(&o->events[i], type, (BOOLEAN)((signalled >> i) & 1));
        o->pointers[i] = &o->events[i];
    }
}

static unsigned states(struct objects *o)
{
    unsigned bits = 0;

    for (unsigned i = 0; i < N; i++)
        bits |= (KeReadStateEvent(&o->events[i]) != 0 ? 1u : 0u) << i;
    return bits;
}

static NTSTATUS poll_several(struct objects *o, WAIT_TYPE type)
{
    return KeWaitForMultipleObjects(N, o->pointers, type, Executive, KernelMode, FALSE, &no_time, o->blocks);
}

/* WaitAny gives the index of an object that is signalled, the first of them, and takes from that one only. */
TEST(ke_wait_several, any__each_set_of_signals__is_the_first_and_takes_it_alone)
{
    for (unsigned bits = 0; bits < 1u << N; bits++) {
        const unsigned first = bits == 0 ? 0 : (unsigned)__builtin_ctz(bits);
        struct objects o;

        make_objects(&o, SynchronizationEvent, bits);
        EXPECT_STATUS(poll_several(&o, WaitAny),
                      bits == 0 ? STATUS_TIMEOUT : STATUS_WAIT_0 + (NTSTATUS)first);
        EXPECT_EQ(states(&o), bits & (bits - 1));
    }
}

/* WaitAll takes from every object when all of them are signalled, and from none before. */
TEST(ke_wait_several, all__each_set_of_signals__takes_all_or_none)
{
    const unsigned all = (1u << N) - 1;

    for (unsigned bits = 0; bits <= all; bits++) {
        struct objects o;

        make_objects(&o, SynchronizationEvent, bits);
        EXPECT_STATUS(poll_several(&o, WaitAll), bits == all ? STATUS_SUCCESS : STATUS_TIMEOUT);
        EXPECT_EQ(states(&o), bits == all ? 0 : bits);
    }
}

/* Notification events are not reset by a wait for several objects either. */
TEST(ke_wait_several, notification_events__any_and_all__stay_signalled)
{
    struct objects o;

    make_objects(&o, NotificationEvent, 0x1F);
    EXPECT_STATUS(poll_several(&o, WaitAny), STATUS_WAIT_0);
    EXPECT_STATUS(poll_several(&o, WaitAll), STATUS_SUCCESS);
    EXPECT_EQ(states(&o), 0x1F);
}

/* Objects of different kinds can be waited for together. */
TEST(ke_wait_several, mixed_kinds__all__takes_from_each_as_its_kind_says)
{
    KEVENT notification, synchronization;
    KSEMAPHORE semaphore;
    PVOID objects[] = {&notification, &synchronization, &semaphore};

    KeInitializeEvent(&notification, NotificationEvent, TRUE);
    KeInitializeEvent(&synchronization, SynchronizationEvent, TRUE);
    KeInitializeSemaphore(&semaphore, 3, 3);
    EXPECT_STATUS(KeWaitForMultipleObjects(3, objects, WaitAll, Executive, KernelMode, FALSE, NULL, NULL),
                  STATUS_SUCCESS);
    EXPECT_NE(KeReadStateEvent(&notification), 0);
    EXPECT_EQ(KeReadStateEvent(&synchronization), 0);
    EXPECT_EQ(KeReadStateSemaphore(&semaphore), 2);
}

/* With wait blocks of the caller's there may be 64 objects, and the last one counts. */
TEST(ke_wait_several, sixty_four_objects__with_blocks__can_be_waited_for)
{
    static KEVENT events[MAXIMUM_WAIT_OBJECTS];
    static KWAIT_BLOCK blocks[MAXIMUM_WAIT_OBJECTS];
    PVOID objects[MAXIMUM_WAIT_OBJECTS];

    for (int i = 0; i < MAXIMUM_WAIT_OBJECTS; i++) {
        KeInitializeEvent(&events[i], SynchronizationEvent, FALSE);
        objects[i] = &events[i];
    }
    KeSetEvent(&events[63], IO_NO_INCREMENT, FALSE);
    EXPECT_STATUS(KeWaitForMultipleObjects(64, objects, WaitAny, Executive, KernelMode, FALSE, NULL, blocks),
                  STATUS_WAIT_63);
}

static void wait_for_too_many(ULONG count, PKWAIT_BLOCK blocks)
{
    static KEVENT events[MAXIMUM_WAIT_OBJECTS + 1];
    PVOID objects[MAXIMUM_WAIT_OBJECTS + 1];

    for (ULONG i = 0; i < count; i++) {
        KeInitializeEvent(&events[i], NotificationEvent, TRUE);
        objects[i] = &events[i];
    }
    KeWaitForMultipleObjects(count, objects, WaitAny, Executive, KernelMode, FALSE, NULL, blocks);
}

/* More than THREAD_WAIT_OBJECTS objects without wait blocks are bug check 0xC. */
STOP_TEST_ANY_P1(ke_wait_several, four_objects__without_blocks__stops_with_0xc, MAXIMUM_WAIT_OBJECTS_EXCEEDED)
{
    wait_for_too_many(THREAD_WAIT_OBJECTS + 1, NULL);
}

/* More than MAXIMUM_WAIT_OBJECTS objects are bug check 0xC in any case. */
STOP_TEST_ANY_P1(ke_wait_several, sixty_five_objects__with_blocks__stops_with_0xc,
                 MAXIMUM_WAIT_OBJECTS_EXCEEDED)
{
    static KWAIT_BLOCK blocks[MAXIMUM_WAIT_OBJECTS + 1];

    wait_for_too_many(MAXIMUM_WAIT_OBJECTS + 1, blocks);
}

/* ---- time ---- */

/* A relative timeout lasts at least as long as it says, and not for ever. */
TEST(ke_timeout, relative__twenty_ms__lasts_that_long)
{
    const uint64_t start = now_ms();
    LARGE_INTEGER timeout = {.QuadPart = -20 * 10000};
    KEVENT event;

    KeInitializeEvent(&event, NotificationEvent, FALSE);
    EXPECT_STATUS(KeWaitForSingleObject(&event, Executive, KernelMode, FALSE, &timeout), STATUS_TIMEOUT);
    EXPECT(now_ms() - start >= 19);
    EXPECT_EQ(timeout.QuadPart, -20 * 10000);
}

/* An absolute timeout lasts until the system time that it names. */
TEST(ke_timeout, absolute__twenty_ms_ahead__lasts_until_then)
{
    const uint64_t start = now_ms();
    LARGE_INTEGER when;
    KEVENT event;

    KeInitializeEvent(&event, NotificationEvent, FALSE);
    KeQuerySystemTime(&when);
    when.QuadPart += 20 * 10000;
    EXPECT_STATUS(KeWaitForSingleObject(&event, Executive, KernelMode, FALSE, &when), STATUS_TIMEOUT);
    EXPECT(now_ms() - start >= 18);
}

/* A time that is past, and a timeout of zero, do not wait. */
TEST(ke_timeout, past_or_zero__do_not_wait)
{
    const uint64_t start = now_ms();
    LARGE_INTEGER past[] = {{.QuadPart = 0}, {.QuadPart = 1}, {.QuadPart = 116444736000000000}};
    KEVENT event;

    KeInitializeEvent(&event, NotificationEvent, FALSE);
    for (int i = 0; i < 3; i++) {
        EXPECT_STATUS(KeWaitForSingleObject(&event, Executive, KernelMode, FALSE, &past[i]), STATUS_TIMEOUT);
        EXPECT_STATUS(KeDelayExecutionThread(KernelMode, FALSE, &past[i]), STATUS_SUCCESS);
    }
    EXPECT(now_ms() - start < 1000);
}

/* An object that is signalled ends the wait at once, however long the timeout. */
TEST(ke_timeout, signalled_object__any_timeout__does_not_wait)
{
    LARGE_INTEGER timeouts[] = {{.QuadPart = -MAXLONGLONG - 1}, {.QuadPart = MAXLONGLONG}, {.QuadPart = 0}};
    KEVENT event;

    KeInitializeEvent(&event, NotificationEvent, TRUE);
    for (int i = 0; i < 3; i++)
        EXPECT_STATUS(KeWaitForSingleObject(&event, Executive, KernelMode, FALSE, &timeouts[i]),
                      STATUS_SUCCESS);
}

/* A delay lasts at least as long as it says. */
TEST(ke_timeout, delay__ten_ms__lasts_that_long)
{
    const uint64_t start = now_ms();
    LARGE_INTEGER interval = {.QuadPart = -10 * 10000};

    EXPECT_STATUS(KeDelayExecutionThread(KernelMode, FALSE, &interval), STATUS_SUCCESS);
    EXPECT(now_ms() - start >= 9);
}

/* System time counts 100 ns since 1601 and agrees with the host's clock; the other clocks only go forward. */
TEST(ke_timeout, clocks__count_as_documented)
{
    const LONGLONG host = ((LONGLONG)time(NULL) + 11644473600) * 10000000;
    LARGE_INTEGER now, frequency = {.QuadPart = 0};
    const ULONGLONG interrupt_time = KeQueryInterruptTime();
    const LARGE_INTEGER counter = KeQueryPerformanceCounter(&frequency);

    KeQuerySystemTime(&now);
    EXPECT(now.QuadPart >= host - 10000000 && now.QuadPart <= host + 5 * 10000000ll);
    EXPECT(frequency.QuadPart > 0);
    pause_ms(2);
    EXPECT(KeQueryInterruptTime() >= interrupt_time + 10000);
    EXPECT((KeQueryPerformanceCounter(NULL).QuadPart - counter.QuadPart) >= frequency.QuadPart / 1000);
}

/* ---- where waiting is not allowed ---- */

/* At DISPATCH_LEVEL a poll, setting and resetting are allowed. */
TEST(ke_wait_irql, poll_and_set__at_dispatch_level__work)
{
    KEVENT event;
    KSEMAPHORE semaphore;

    KeInitializeEvent(&event, SynchronizationEvent, FALSE);
    KeInitializeSemaphore(&semaphore, 0, 1);
    raise_irql(DISPATCH_LEVEL);
    EXPECT_STATUS(poll(&event), STATUS_TIMEOUT);
    EXPECT_EQ(KeSetEvent(&event, IO_NO_INCREMENT, FALSE), 0);
    EXPECT_STATUS(poll(&event), STATUS_SUCCESS);
    EXPECT_EQ(KeReleaseSemaphore(&semaphore, IO_NO_INCREMENT, 1, FALSE), 0);
    EXPECT_STATUS(poll(&semaphore), STATUS_SUCCESS);
    KeLowerIrql(PASSIVE_LEVEL);
}

static KEVENT never;

static void wait_at_dispatch(PLARGE_INTEGER timeout)
{
    KeInitializeEvent(&never, NotificationEvent, FALSE);
    raise_irql(DISPATCH_LEVEL);
    KeWaitForSingleObject(&never, Executive, KernelMode, FALSE, timeout);
}

/* Blocking at DISPATCH_LEVEL is bug check 0xA. */
STOP_TEST(ke_wait_irql, wait_for_ever__at_dispatch_level__stops_with_0xa, IRQL_NOT_LESS_OR_EQUAL, &never)
{
    wait_at_dispatch(NULL);
}

/* A timeout that is not zero blocks as well. */
STOP_TEST(ke_wait_irql, wait_a_moment__at_dispatch_level__stops_with_0xa, IRQL_NOT_LESS_OR_EQUAL, &never)
{
    wait_at_dispatch(&(LARGE_INTEGER){.QuadPart = -1});
}

/* Sleeping at DISPATCH_LEVEL is bug check 0xA. */
STOP_TEST_ANY_P1(ke_wait_irql, delay__at_dispatch_level__stops_with_0xa, IRQL_NOT_LESS_OR_EQUAL)
{
    raise_irql(DISPATCH_LEVEL);
    KeDelayExecutionThread(KernelMode, FALSE, &(LARGE_INTEGER){.QuadPart = -1});
}

/* ---- fast mutexes ---- */

/* A fast mutex raises to APC_LEVEL while it is held, and restores. */
TEST(ke_fast_mutex, acquire_and_release__from_passive_and_apc__raises_and_restores)
{
    for (KIRQL level = PASSIVE_LEVEL; level <= APC_LEVEL; level++) {
        FAST_MUTEX mutex;

        ExInitializeFastMutex(&mutex);
        raise_irql(level);
        ExAcquireFastMutex(&mutex);
        EXPECT_EQ(KeGetCurrentIrql(), APC_LEVEL);
        ExReleaseFastMutex(&mutex);
        EXPECT_EQ(KeGetCurrentIrql(), level);
        KeLowerIrql(PASSIVE_LEVEL);
    }
}

/* Trying takes a free mutex; a held one is refused, and IRQL is as before. */
TEST(ke_fast_mutex, try__free_and_held__takes_or_refuses)
{
    FAST_MUTEX mutex, other;

    ExInitializeFastMutex(&mutex);
    ExInitializeFastMutex(&other);
    EXPECT_EQ(ExTryToAcquireFastMutex(&mutex), TRUE);
    EXPECT_EQ(KeGetCurrentIrql(), APC_LEVEL);
    EXPECT_EQ(ExTryToAcquireFastMutex(&mutex), FALSE);
    EXPECT_EQ(KeGetCurrentIrql(), APC_LEVEL);
    EXPECT_EQ(ExTryToAcquireFastMutex(&other), TRUE);
    ExReleaseFastMutex(&other);
    EXPECT_EQ(KeGetCurrentIrql(), APC_LEVEL);
    ExReleaseFastMutex(&mutex);
    EXPECT_EQ(KeGetCurrentIrql(), PASSIVE_LEVEL);
    EXPECT_EQ(ExTryToAcquireFastMutex(&mutex), TRUE);
    ExReleaseFastMutex(&mutex);
}

/* A fast mutex is not for DISPATCH_LEVEL. */
STOP_TEST_ANY_P1(ke_fast_mutex, acquire__at_dispatch_level__stops, IRQL_NOT_GREATER_OR_EQUAL)
{
    FAST_MUTEX mutex;

    ExInitializeFastMutex(&mutex);
    raise_irql(DISPATCH_LEVEL);
    ExAcquireFastMutex(&mutex);
}
