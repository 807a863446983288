/* SPDX-License-Identifier: MIT */
/* IRQL and spin locks on one thread: what raising and lowering give, what they refuse, what a held lock
   forbids. */

#include "support.h"

static const KIRQL levels[] = {PASSIVE_LEVEL, APC_LEVEL, DISPATCH_LEVEL, CMCI_LEVEL, CLOCK_LEVEL, HIGH_LEVEL};

enum { LEVELS = sizeof(levels) / sizeof(levels[0]) };

/* A program starts at PASSIVE_LEVEL. */
TEST(ke_irql, current__at_the_beginning__is_passive)
{
    EXPECT_EQ(KeGetCurrentIrql(), PASSIVE_LEVEL);
}

/* Raising gives the level before, lowering returns to it, for each pair of levels. */
TEST(ke_irql, raise_and_lower__each_pair_of_levels__gives_the_level_before)
{
    for (int from = 0; from < LEVELS; from++) {
        for (int to = from; to < LEVELS; to++) {
            KIRQL first = 99, second = 99;

            KeRaiseIrql(levels[from], &first);
            EXPECT_EQ(first, PASSIVE_LEVEL);
            KeRaiseIrql(levels[to], &second);
            EXPECT_EQ(second, levels[from]);
            EXPECT_EQ(KeGetCurrentIrql(), levels[to]);
            KeLowerIrql(second);
            EXPECT_EQ(KeGetCurrentIrql(), levels[from]);
            KeLowerIrql(first);
            EXPECT_EQ(KeGetCurrentIrql(), PASSIVE_LEVEL);
        }
    }
}

/* KfRaiseIrql returns the level before; KeRaiseIrqlToDpcLevel raises to DISPATCH_LEVEL, also from there. */
TEST(ke_irql, raise_to_dpc_level__from_each_lower_level__is_dispatch)
{
    static const KIRQL below[] = {PASSIVE_LEVEL, APC_LEVEL, DISPATCH_LEVEL};

    for (int i = 0; i < 3; i++) {
        EXPECT_EQ(KfRaiseIrql(below[i]), PASSIVE_LEVEL);
        EXPECT_EQ(KeRaiseIrqlToDpcLevel(), below[i]);
        EXPECT_EQ(KeGetCurrentIrql(), DISPATCH_LEVEL);
        KeLowerIrql(PASSIVE_LEVEL);
    }
}

/* PAGED_CODE is a statement in every build. */
TEST(ke_irql, paged_code__at_passive_level__does_nothing)
{
    PAGED_CODE();
    EXPECT_EQ(KeGetCurrentIrql(), PASSIVE_LEVEL);
}

/* ---- mistakes ---- */

struct change {
    KIRQL from, to;
};

static void raise_to(void *context)
{
    const struct change *change = context;

    raise_irql(change->from);
    KfRaiseIrql(change->to);
}

static void lower_to(void *context)
{
    const struct change *change = context;

    raise_irql(change->from);
    KeLowerIrql(change->to);
}

/* "Raising" to a lower level is bug check 0x9. */
TEST_UNTIDY(ke_irql, raise__to_a_lower_level__stops_with_0x9)
{
    for (int from = 0; from < LEVELS; from++) {
        for (int to = 0; to < from; to++) {
            struct change change = {levels[from], levels[to]};
            const struct stop stop = run_until_stop(raise_to, &change);

            EXPECT(stop.stopped);
            EXPECT_EQ(stop.code, IRQL_NOT_GREATER_OR_EQUAL);
            EXPECT_MEM_EQ(stop.name, "IRQL_NOT_GREATER_OR_EQUAL", sizeof("IRQL_NOT_GREATER_OR_EQUAL"));
        }
    }
}

/* "Lowering" to a higher level is bug check 0xA. */
TEST_UNTIDY(ke_irql, lower__to_a_higher_level__stops_with_0xa)
{
    for (int to = 0; to < LEVELS; to++) {
        for (int from = 0; from < to; from++) {
            struct change change = {levels[from], levels[to]};
            const struct stop stop = run_until_stop(lower_to, &change);

            EXPECT(stop.stopped);
            EXPECT_EQ(stop.code, IRQL_NOT_LESS_OR_EQUAL);
            EXPECT_MEM_EQ(stop.name, "IRQL_NOT_LESS_OR_EQUAL", sizeof("IRQL_NOT_LESS_OR_EQUAL"));
        }
    }
}

/* KeRaiseIrqlToDpcLevel above DISPATCH_LEVEL would lower: bug check 0x9. */
STOP_TEST_ANY_P1(ke_irql, raise_to_dpc_level__from_above__stops_with_0x9, IRQL_NOT_GREATER_OR_EQUAL)
{
    raise_irql(HIGH_LEVEL);
    KeRaiseIrqlToDpcLevel();
}

/* ---- spin locks ---- */

/* A spin lock raises to DISPATCH_LEVEL for as long as it is held, from each level up to that. */
TEST(ke_spin_lock, acquire_and_release__from_each_level__raises_and_restores)
{
    for (KIRQL level = PASSIVE_LEVEL; level <= DISPATCH_LEVEL; level++) {
        KSPIN_LOCK lock;
        KIRQL before = 99;

        KeInitializeSpinLock(&lock);
        raise_irql(level);
        KeAcquireSpinLock(&lock, &before);
        EXPECT_EQ(before, level);
        EXPECT_EQ(KeGetCurrentIrql(), DISPATCH_LEVEL);
        KeReleaseSpinLock(&lock, before);
        EXPECT_EQ(KeGetCurrentIrql(), level);
        EXPECT_EQ(KeAcquireSpinLockRaiseToDpc(&lock), level);
        KeReleaseSpinLock(&lock, level);
        KeLowerIrql(PASSIVE_LEVEL);
    }
}

/* Locks nest: an inner one returns to DISPATCH_LEVEL, the outer one to where it began. */
TEST(ke_spin_lock, two_locks__nested__restore_in_turn)
{
    KSPIN_LOCK outer, inner;
    KIRQL first, second;

    KeInitializeSpinLock(&outer);
    KeInitializeSpinLock(&inner);
    KeAcquireSpinLock(&outer, &first);
    KeAcquireSpinLock(&inner, &second);
    EXPECT_EQ(second, DISPATCH_LEVEL);
    KeReleaseSpinLock(&inner, second);
    EXPECT_EQ(KeGetCurrentIrql(), DISPATCH_LEVEL);
    KeReleaseSpinLock(&outer, first);
    EXPECT_EQ(KeGetCurrentIrql(), PASSIVE_LEVEL);
}

/* The routines for DISPATCH_LEVEL and above leave IRQL alone. */
TEST(ke_spin_lock, at_dpc_level__any_level__keeps_irql)
{
    static const KIRQL from_dispatch[] = {DISPATCH_LEVEL, CLOCK_LEVEL, HIGH_LEVEL};

    for (int i = 0; i < 3; i++) {
        KSPIN_LOCK lock;

        KeInitializeSpinLock(&lock);
        raise_irql(from_dispatch[i]);
        KeAcquireSpinLockAtDpcLevel(&lock);
        EXPECT_EQ(KeGetCurrentIrql(), from_dispatch[i]);
        EXPECT_EQ(KeTryToAcquireSpinLockAtDpcLevel(&lock), FALSE);
        KeReleaseSpinLockFromDpcLevel(&lock);
        EXPECT_EQ(KeGetCurrentIrql(), from_dispatch[i]);
        EXPECT_EQ(KeTryToAcquireSpinLockAtDpcLevel(&lock), TRUE);
        EXPECT_EQ(KeTryToAcquireSpinLockAtDpcLevel(&lock), FALSE);
        KeReleaseSpinLockFromDpcLevel(&lock);
        KeLowerIrql(PASSIVE_LEVEL);
    }
}

/* Above DISPATCH_LEVEL there is nothing to raise to: bug check 0x9. */
STOP_TEST_ANY_P1(ke_spin_lock, acquire__above_dispatch_level__stops_with_0x9, IRQL_NOT_GREATER_OR_EQUAL)
{
    KSPIN_LOCK lock;

    KeInitializeSpinLock(&lock);
    raise_irql(CLOCK_LEVEL);
    KeAcquireSpinLockRaiseToDpc(&lock);
}

/* Releasing to a higher level than the current one is bug check 0xA. */
STOP_TEST_ANY_P1(ke_spin_lock, release__to_a_higher_level__stops_with_0xa, IRQL_NOT_LESS_OR_EQUAL)
{
    KSPIN_LOCK lock;

    KeInitializeSpinLock(&lock);
    KeAcquireSpinLockRaiseToDpc(&lock);
    KeReleaseSpinLock(&lock, HIGH_LEVEL);
}

static void touch_while_held(void *context)
{
    uint64_t *const words = context;
    UCHAR *const buffer = user_pattern(1, 1);
    KSPIN_LOCK lock;

    KeInitializeSpinLock(&lock);
    words[0] = (uint64_t)buffer;
    EXPECT_EQ(pinion_trim(), 1);
    KeAcquireSpinLockRaiseToDpc(&lock);
    *(volatile UCHAR *)buffer = 1;
}

/* Pages that are away cannot come back while a spin lock is held: bug check 0xD1 with the address, IRQL and
   access. */
TEST_UNTIDY(ke_spin_lock, touch_of_trimmed_page__while_held__stops_with_0xd1)
{
    uint64_t *const words = shared_words();
    const struct stop stop = run_until_stop(touch_while_held, words);

    EXPECT(stop.stopped);
    EXPECT_EQ(stop.code, DRIVER_IRQL_NOT_LESS_OR_EQUAL);
    EXPECT_EQ(stop.p[0], words[0]);
    EXPECT_EQ(stop.p[1], DISPATCH_LEVEL);
    EXPECT_EQ(stop.p[2], 1);
    EXPECT_NE(stop.p[3], 0);
}

/* ---- lists under a spin lock ---- */

struct entry {
    LIST_ENTRY link;
    int value;
};

/* The routines give the neighbour that was there before, or NULL, and restore IRQL. */
TEST(ke_spin_lock, interlocked_lists__insert_and_remove__give_the_neighbour)
{
    LIST_ENTRY head;
    KSPIN_LOCK lock;
    struct entry a, b, c;

    InitializeListHead(&head);
    KeInitializeSpinLock(&lock);
    EXPECT_PTR_EQ(ExInterlockedRemoveHeadList(&head, &lock), NULL);
    EXPECT_PTR_EQ(ExInterlockedInsertTailList(&head, &a.link, &lock), NULL);
    EXPECT_PTR_EQ(ExInterlockedInsertTailList(&head, &b.link, &lock), &a.link);
    EXPECT_PTR_EQ(ExInterlockedInsertHeadList(&head, &c.link, &lock), &a.link);
    EXPECT_PTR_EQ(ExInterlockedRemoveHeadList(&head, &lock), &c.link);
    EXPECT_PTR_EQ(ExInterlockedRemoveHeadList(&head, &lock), &a.link);
    EXPECT_PTR_EQ(ExInterlockedRemoveHeadList(&head, &lock), &b.link);
    EXPECT_PTR_EQ(ExInterlockedRemoveHeadList(&head, &lock), NULL);
    EXPECT_PTR_EQ(ExInterlockedInsertHeadList(&head, &a.link, &lock), NULL);
    EXPECT_EQ(KeGetCurrentIrql(), PASSIVE_LEVEL);
}

/* ---- mistakes that would otherwise hang, or come out much later ---- */

static void acquire_twice(void *words)
{
    static KSPIN_LOCK lock;
    KIRQL irql;

    KeInitializeSpinLock(&lock);
    *(uint64_t *)words = (uint64_t)(uintptr_t)&lock;
    KeAcquireSpinLock(&lock, &irql);
    KeAcquireSpinLockAtDpcLevel(&lock);
}

/* Who holds a spin lock and asks for it again would wait for ever: 0x0F with the lock. */
TEST_UNTIDY(ke_spin_lock, acquire__by_its_holder__stops)
{
    uint64_t *const words = shared_words();
    const struct stop stop = run_until_stop(acquire_twice, words);

    EXPECT(stop.stopped);
    EXPECT_EQ(stop.code, SPIN_LOCK_ALREADY_OWNED);
    EXPECT_EQ(stop.p[0], words[0]);
}

static VOID return_raised(PVOID context)
{
    UNREFERENCED_PARAMETER(context);
    raise_irql(DISPATCH_LEVEL);
}

static void queue_one_that_returns_raised(void *words)
{
    static WORK_QUEUE_ITEM item;

    ExInitializeWorkItem(&item, return_raised, words);
    ExQueueWorkItem(&item, DelayedWorkQueue);
    pinion_shutdown();
}

/* A work item that returns above PASSIVE_LEVEL: 0xE1 with its routine, the IRQL and its context. */
TEST_UNTIDY(ke_work_item, routine__returns_at_raised_irql__stops)
{
    uint64_t *const words = shared_words();
    const struct stop stop = run_until_stop(queue_one_that_returns_raised, words);

    EXPECT(stop.stopped);
    EXPECT_EQ(stop.code, WORKER_THREAD_RETURNED_AT_BAD_IRQL);
    EXPECT_EQ(stop.p[0], (uint64_t)(uintptr_t)return_raised);
    EXPECT_EQ(stop.p[1], DISPATCH_LEVEL);
    EXPECT_EQ(stop.p[2], (uint64_t)(uintptr_t)words);
}

static VOID raise_in_dpc(PKDPC dpc, PVOID context, PVOID argument1, PVOID argument2)
{
    UNREFERENCED_PARAMETER(dpc);
    UNREFERENCED_PARAMETER(context);
    UNREFERENCED_PARAMETER(argument1);
    UNREFERENCED_PARAMETER(argument2);
    ExRaiseStatus(STATUS_NOT_SUPPORTED);
}

static void queue_dpc(void *routine)
{
    static KDPC dpc;

    KeInitializeDpc(&dpc, *(PKDEFERRED_ROUTINE *)routine, NULL);
    KeInsertQueueDpc(&dpc, NULL, NULL);
}

static void queue_dpc_under_a_handler(void *context)
{
    PKDEFERRED_ROUTINE routine = raise_in_dpc;

    UNREFERENCED_PARAMETER(context);
    pinion_try(queue_dpc, &routine);
}

/* What a DPC interrupts does not handle its exceptions: 0x1E, whatever handler is further out. */
TEST_UNTIDY(ke_dpc, exception__that_the_dpc_does_not_handle__stops)
{
    const struct stop stop = run_until_stop(queue_dpc_under_a_handler, NULL);

    EXPECT(stop.stopped);
    EXPECT_EQ(stop.code, KMODE_EXCEPTION_NOT_HANDLED);
    EXPECT_EQ(stop.p[0], (uint64_t)(int64_t)STATUS_NOT_SUPPORTED);
}

static void raise_status(void *context)
{
    UNREFERENCED_PARAMETER(context);
    ExRaiseStatus(STATUS_NOT_SUPPORTED);
}

static VOID handle_in_dpc(PKDPC dpc, PVOID context, PVOID argument1, PVOID argument2)
{
    UNREFERENCED_PARAMETER(dpc);
    UNREFERENCED_PARAMETER(context);
    UNREFERENCED_PARAMETER(argument1);
    UNREFERENCED_PARAMETER(argument2);
    EXPECT_RAISES(STATUS_NOT_SUPPORTED, raise_status, NULL);
}

static void queue_dpc_then_raise(void *routine)
{
    queue_dpc(routine);
    ExRaiseStatus(STATUS_CANCELLED);
}

/* One that it does handle is its own, and the handlers of what it interrupted are there afterwards. */
TEST(ke_dpc, exception__that_the_dpc_handles__is_its_own)
{
    PKDEFERRED_ROUTINE routine = handle_in_dpc;

    EXPECT_RAISES(STATUS_CANCELLED, queue_dpc_then_raise, &routine);
    KeFlushQueuedDpcs();
}
