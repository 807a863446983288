/* SPDX-License-Identifier: MIT */
/*
 * IRQL and spin locks. Each Linux thread counts as a processor with an IRQL of its own; a spin lock excludes the
 * others for real. Going below DISPATCH_LEVEL runs the DPCs that this thread queued meanwhile.
 */

#include "ke/ke.h"

enum { SPINS_BEFORE_YIELD = 100 };

KIRQL KeGetCurrentIrql(VOID)
{
    return ke_self()->irql;
}

KIRQL KfRaiseIrql(KIRQL NewIrql)
{
    struct ke_thread *self = ke_self();
    const KIRQL old = self->irql;

    if (NewIrql < old)
        ke_bug_check(IRQL_NOT_GREATER_OR_EQUAL, old, NewIrql, 0, (uintptr_t)__builtin_return_address(0));
    if (old < DISPATCH_LEVEL && NewIrql >= DISPATCH_LEVEL && ke_is_running() && ke_the_machine.hooks.irql_raised != NULL)
        ke_the_machine.hooks.irql_raised();
    self->irql = NewIrql;
    return old;
}

KIRQL KeRaiseIrqlToDpcLevel(VOID)
{
    return KfRaiseIrql(DISPATCH_LEVEL);
}

VOID KeLowerIrql(KIRQL NewIrql)
{
    struct ke_thread *self = ke_self();

    if (NewIrql > self->irql)
        ke_bug_check(IRQL_NOT_LESS_OR_EQUAL, NewIrql, self->irql, 0, (uintptr_t)__builtin_return_address(0));
    self->irql = NewIrql;
    if (NewIrql < DISPATCH_LEVEL && atomic_load_explicit(&self->ndpcs, memory_order_relaxed) != 0)
        ke_run_dpcs();
}

/*
 * ---- spin locks: 0, or whose thread holds it ----
 *
 * Any thread may release it. Who asks for it a second time would wait for ever: bug check 0x0F.
 */

static KSPIN_LOCK own_mark(void)
{
    return (KSPIN_LOCK)ke_self();
}

VOID KeInitializeSpinLock(PKSPIN_LOCK SpinLock)
{
    __atomic_store_n(SpinLock, 0, __ATOMIC_RELEASE);
}

BOOLEAN KeTryToAcquireSpinLockAtDpcLevel(PKSPIN_LOCK SpinLock)
{
    KSPIN_LOCK nobody = 0;

    if (!__atomic_compare_exchange_n(SpinLock, &nobody, own_mark(), false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
        return FALSE;
    host_takes_over(SpinLock);
    return TRUE;
}

/* A virtual processor may be preempted while it holds the lock, so waiting for long gives way to it. */
VOID KeAcquireSpinLockAtDpcLevel(PKSPIN_LOCK SpinLock)
{
    for (unsigned spins = 1; !KeTryToAcquireSpinLockAtDpcLevel(SpinLock); spins++) {
        if (__atomic_load_n(SpinLock, __ATOMIC_RELAXED) == own_mark())
            ke_bug_check(SPIN_LOCK_ALREADY_OWNED, (uintptr_t)SpinLock, 0, 0, 0);
        if (spins % SPINS_BEFORE_YIELD == 0)
            host_thread_yield();
    }
}

VOID KeReleaseSpinLockFromDpcLevel(PKSPIN_LOCK SpinLock)
{
    host_hands_over(SpinLock);
    __atomic_store_n(SpinLock, 0, __ATOMIC_RELEASE);
}

KIRQL KeAcquireSpinLockRaiseToDpc(PKSPIN_LOCK SpinLock)
{
    const KIRQL old = KeRaiseIrqlToDpcLevel();

    KeAcquireSpinLockAtDpcLevel(SpinLock);
    return old;
}

VOID KeReleaseSpinLock(PKSPIN_LOCK SpinLock, KIRQL NewIrql)
{
    KeReleaseSpinLockFromDpcLevel(SpinLock);
    KeLowerIrql(NewIrql);
}

/* ---- lists under a spin lock ---- */

PLIST_ENTRY ExInterlockedInsertHeadList(PLIST_ENTRY ListHead, PLIST_ENTRY ListEntry, PKSPIN_LOCK Lock)
{
    const KIRQL irql = KeAcquireSpinLockRaiseToDpc(Lock);
    PLIST_ENTRY first = IsListEmpty(ListHead) ? NULL : ListHead->Flink;

    InsertHeadList(ListHead, ListEntry);
    KeReleaseSpinLock(Lock, irql);
    return first;
}

PLIST_ENTRY ExInterlockedInsertTailList(PLIST_ENTRY ListHead, PLIST_ENTRY ListEntry, PKSPIN_LOCK Lock)
{
    const KIRQL irql = KeAcquireSpinLockRaiseToDpc(Lock);
    PLIST_ENTRY last = IsListEmpty(ListHead) ? NULL : ListHead->Blink;

    InsertTailList(ListHead, ListEntry);
    KeReleaseSpinLock(Lock, irql);
    return last;
}

PLIST_ENTRY ExInterlockedRemoveHeadList(PLIST_ENTRY ListHead, PKSPIN_LOCK Lock)
{
    const KIRQL irql = KeAcquireSpinLockRaiseToDpc(Lock);
    PLIST_ENTRY first = IsListEmpty(ListHead) ? NULL : RemoveHeadList(ListHead);

    KeReleaseSpinLock(Lock, irql);
    return first;
}
