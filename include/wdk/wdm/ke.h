/* SPDX-License-Identifier: MIT */
/*
 * The kernel proper: IRQL, spin locks, events, semaphores, waits, time, DPCs, the current process.
 */
#ifndef PINION_WDK_WDM_KE_H
#define PINION_WDK_WDM_KE_H

#include "../ntdef.h"
#include "debug.h"

/* ---- Types --------------------------------------------------------------------------------------------- */

typedef UCHAR     KIRQL, *PKIRQL;
typedef CCHAR     KPROCESSOR_MODE;
typedef LONG      KPRIORITY;
typedef ULONG_PTR KSPIN_LOCK, *PKSPIN_LOCK;

/* A process is opaque to drivers. Its names are one type here, so that no cast is needed between them. */
typedef struct _EPROCESS KPROCESS, *PEPROCESS, *PKPROCESS, *RESTRICTED_POINTER PRKPROCESS;
typedef struct _ETHREAD  KTHREAD, *PETHREAD, *PKTHREAD, *RESTRICTED_POINTER PRKTHREAD;

#define PASSIVE_LEVEL  0
#define LOW_LEVEL      0
#define APC_LEVEL      1
#define DISPATCH_LEVEL 2
#define CMCI_LEVEL     5
#define CLOCK_LEVEL    13
#define IPI_LEVEL      14
#define DRS_LEVEL      14
#define POWER_LEVEL    14
#define PROFILE_LEVEL  15
#define HIGH_LEVEL     15

typedef enum _MODE {
    KernelMode,
    UserMode,
    MaximumMode
} MODE;

typedef enum _EVENT_TYPE {
    NotificationEvent,
    SynchronizationEvent
} EVENT_TYPE;

typedef enum _WAIT_TYPE {
    WaitAll,
    WaitAny
} WAIT_TYPE;

typedef enum _KWAIT_REASON {
    Executive,
    FreePage,
    PageIn,
    PoolAllocation,
    DelayExecution,
    Suspended,
    UserRequest,
    WrExecutive,
    WrFreePage,
    WrPageIn,
    WrPoolAllocation,
    WrDelayExecution,
    WrSuspended,
    WrUserRequest
} KWAIT_REASON;

#define THREAD_WAIT_OBJECTS  3  /* what KeWaitForMultipleObjects takes without wait blocks of the caller */
#define MAXIMUM_WAIT_OBJECTS 64

#define LOW_PRIORITY          0
#define LOW_REALTIME_PRIORITY 16
#define HIGH_PRIORITY         31

/* The head of everything that can be waited for. Opaque. */
typedef struct _DISPATCHER_HEADER {
    union {
        struct {
            UCHAR Type;
            union {
                UCHAR TimerControlFlags;
                UCHAR Abandoned;
                BOOLEAN Signalling;
            };
            union {
                UCHAR ThreadControlFlags;
                UCHAR Size;
                UCHAR Hand;
            };
            union {
                UCHAR TimerMiscFlags;
                BOOLEAN DebugActive;
                BOOLEAN DpcActive;
            };
        };
        volatile LONG Lock;
    };
    LONG SignalState;
    LIST_ENTRY WaitListHead;
} DISPATCHER_HEADER, *PDISPATCHER_HEADER;
C_ASSERT(sizeof(DISPATCHER_HEADER) == 24);

typedef struct _KEVENT {
    DISPATCHER_HEADER Header;
} KEVENT, *PKEVENT, *RESTRICTED_POINTER PRKEVENT;
C_ASSERT(sizeof(KEVENT) == 24);

typedef struct _KSEMAPHORE {
    DISPATCHER_HEADER Header;
    LONG Limit;
} KSEMAPHORE, *PKSEMAPHORE, *RESTRICTED_POINTER PRKSEMAPHORE;
C_ASSERT(sizeof(KSEMAPHORE) == 32);

typedef struct _KWAIT_BLOCK {
    LIST_ENTRY WaitListEntry;
    UCHAR WaitType;
    volatile UCHAR BlockState;
    USHORT WaitKey;
    LONG SpareLong;
    PKTHREAD Thread;
    PVOID Object;
    PVOID SparePtr;
} KWAIT_BLOCK, *PKWAIT_BLOCK, *RESTRICTED_POINTER PRKWAIT_BLOCK;
C_ASSERT(sizeof(KWAIT_BLOCK) == 48);

struct _KDPC;
typedef VOID KDEFERRED_ROUTINE(struct _KDPC *Dpc, PVOID DeferredContext, PVOID SystemArgument1,
                               PVOID SystemArgument2);
typedef KDEFERRED_ROUTINE *PKDEFERRED_ROUTINE;

typedef struct _KDPC {
    union {
        ULONG TargetInfoAsUlong;
        struct {
            UCHAR Type;
            UCHAR Importance;
            volatile USHORT Number;
        };
    };
    LIST_ENTRY DpcListEntry;
    PKDEFERRED_ROUTINE DeferredRoutine;
    PVOID DeferredContext;
    PVOID SystemArgument1;
    PVOID SystemArgument2;
    PVOID DpcData;
} KDPC, *PKDPC, *RESTRICTED_POINTER PRKDPC;
C_ASSERT(sizeof(KDPC) == 64);

/* An asynchronous procedure call: opaque, here for the room that it takes in an IRP. */
typedef struct _KAPC {
    UCHAR Type;
    UCHAR SpareByte0;
    UCHAR Size;
    UCHAR SpareByte1;
    ULONG SpareLong0;
    PKTHREAD Thread;
    LIST_ENTRY ApcListEntry;
    PVOID Reserved[3];
    PVOID NormalContext;
    PVOID SystemArgument1;
    PVOID SystemArgument2;
    CCHAR ApcStateIndex;
    KPROCESSOR_MODE ApcMode;
    BOOLEAN Inserted;
} KAPC, *PKAPC, *RESTRICTED_POINTER PRKAPC;
C_ASSERT(sizeof(KAPC) == 88);

typedef struct _KDEVICE_QUEUE {
    CSHORT Type;
    CSHORT Size;
    LIST_ENTRY DeviceListHead;
    KSPIN_LOCK Lock;
    union {
        BOOLEAN Busy;
        struct {
            LONG64 Reserved : 8;
            LONG64 Hint : 56;
        };
    };
} KDEVICE_QUEUE, *PKDEVICE_QUEUE, *RESTRICTED_POINTER PRKDEVICE_QUEUE;
C_ASSERT(sizeof(KDEVICE_QUEUE) == 40);

typedef struct _KDEVICE_QUEUE_ENTRY {
    LIST_ENTRY DeviceListEntry;
    ULONG SortKey;
    BOOLEAN Inserted;
} KDEVICE_QUEUE_ENTRY, *PKDEVICE_QUEUE_ENTRY, *RESTRICTED_POINTER PRKDEVICE_QUEUE_ENTRY;
C_ASSERT(sizeof(KDEVICE_QUEUE_ENTRY) == 24);

EXTERN_C_START

/* ---- IRQL ---------------------------------------------------------------------------------------------- */

/* The current IRQL. Any IRQL. Doc: wdm/nf-wdm-kegetcurrentirql */
NTHALAPI KIRQL KeGetCurrentIrql(VOID);

/* State that this routine may be paged out, so that IRQL must be low; checked builds look.
   IRQL <= APC_LEVEL. Doc: wdm/nf-wdm-paged_code */
#if DBG
#define PAGED_CODE() ASSERT(KeGetCurrentIrql() <= APC_LEVEL);
#else
#define PAGED_CODE()
#endif

/* Raise IRQL; returns the one before. At or below the new IRQL. Doc: wdm/nf-wdm-kfraiseirql */
NTHALAPI KIRQL KfRaiseIrql(KIRQL NewIrql);

/* Raise IRQL and store the one before. At or below the new IRQL. Doc: wdm/nf-wdm-keraiseirql */
#define KeRaiseIrql(NewIrql, OldIrql) (*(OldIrql) = KfRaiseIrql(NewIrql))

/* Raise IRQL to DISPATCH_LEVEL; returns the one before.
   IRQL <= DISPATCH_LEVEL. Doc: wdm/nf-wdm-keraiseirqltodpclevel */
NTHALAPI KIRQL KeRaiseIrqlToDpcLevel(VOID);

/* Restore the IRQL from before KeRaiseIrql. At or above the new IRQL. Doc: wdm/nf-wdm-kelowerirql */
NTHALAPI VOID KeLowerIrql(KIRQL NewIrql);

/* ---- Spin locks ---------------------------------------------------------------------------------------- */

/* Make a spin lock that nobody holds. Any IRQL. Doc: wdm/nf-wdm-keinitializespinlock */
NTKERNELAPI VOID KeInitializeSpinLock(PKSPIN_LOCK SpinLock);

/* Raise to DISPATCH_LEVEL and take a spin lock; returns the IRQL before.
   IRQL <= DISPATCH_LEVEL. Doc: wdm/nf-wdm-keacquirespinlockraisetodpc */
NTHALAPI KIRQL KeAcquireSpinLockRaiseToDpc(PKSPIN_LOCK SpinLock);

/* Raise to DISPATCH_LEVEL, take a spin lock, store the IRQL before.
   IRQL <= DISPATCH_LEVEL. Doc: wdm/nf-wdm-keacquirespinlock */
#define KeAcquireSpinLock(SpinLock, OldIrql) (*(OldIrql) = KeAcquireSpinLockRaiseToDpc(SpinLock))

/* Release a spin lock and restore IRQL. IRQL == DISPATCH_LEVEL. Doc: wdm/nf-wdm-kereleasespinlock */
NTHALAPI VOID KeReleaseSpinLock(PKSPIN_LOCK SpinLock, KIRQL NewIrql);

/* Take a spin lock without changing IRQL.
   IRQL >= DISPATCH_LEVEL. Doc: wdm/nf-wdm-keacquirespinlockatdpclevel */
NTKERNELAPI VOID KeAcquireSpinLockAtDpcLevel(PKSPIN_LOCK SpinLock);

/* Release a spin lock without changing IRQL.
   IRQL >= DISPATCH_LEVEL. Doc: wdm/nf-wdm-kereleasespinlockfromdpclevel */
NTKERNELAPI VOID KeReleaseSpinLockFromDpcLevel(PKSPIN_LOCK SpinLock);

/* Take a spin lock if it is free; FALSE if not.
   IRQL >= DISPATCH_LEVEL. Doc: wdm/nf-wdm-ketrytoacquirespinlockatdpclevel */
NTKERNELAPI BOOLEAN KeTryToAcquireSpinLockAtDpcLevel(PKSPIN_LOCK SpinLock);

/* ---- Events and semaphores ----------------------------------------------------------------------------- */

/* Make an event. Any IRQL. Doc: wdm/nf-wdm-keinitializeevent */
NTKERNELAPI VOID KeInitializeEvent(PRKEVENT Event, EVENT_TYPE Type, BOOLEAN State);

/* Signal an event; returns the state before.
   IRQL <= DISPATCH_LEVEL, <= APC_LEVEL if Wait. Doc: wdm/nf-wdm-kesetevent */
NTKERNELAPI LONG KeSetEvent(PRKEVENT Event, KPRIORITY Increment, BOOLEAN Wait);

/* Make an event unsignalled; returns the state before.
   IRQL <= DISPATCH_LEVEL. Doc: wdm/nf-wdm-keresetevent */
NTKERNELAPI LONG KeResetEvent(PRKEVENT Event);

/* Make an event unsignalled. IRQL <= DISPATCH_LEVEL. Doc: wdm/nf-wdm-keclearevent */
NTKERNELAPI VOID KeClearEvent(PRKEVENT Event);

/* The state of an event: nonzero if signalled. IRQL <= DISPATCH_LEVEL. Doc: wdm/nf-wdm-kereadstateevent */
NTKERNELAPI LONG KeReadStateEvent(PRKEVENT Event);

/* Make a semaphore. Any IRQL. Doc: wdm/nf-wdm-keinitializesemaphore */
NTKERNELAPI VOID KeInitializeSemaphore(PRKSEMAPHORE Semaphore, LONG Count, LONG Limit);

/* Add to a semaphore; returns the count before, raises STATUS_SEMAPHORE_LIMIT_EXCEEDED past the limit.
   IRQL <= DISPATCH_LEVEL, <= APC_LEVEL if Wait. Doc: wdm/nf-wdm-kereleasesemaphore */
NTKERNELAPI LONG KeReleaseSemaphore(PRKSEMAPHORE Semaphore, KPRIORITY Increment, LONG Adjustment,
                                    BOOLEAN Wait);

/* The count of a semaphore. Any IRQL. Doc: wdm/nf-wdm-kereadstatesemaphore */
NTKERNELAPI LONG KeReadStateSemaphore(PRKSEMAPHORE Semaphore);

/* ---- Waits and time ------------------------------------------------------------------------------------ */

/* Wait until an object is signalled.
   IRQL <= APC_LEVEL; <= DISPATCH_LEVEL with a timeout of zero. Doc: wdm/nf-wdm-kewaitforsingleobject */
NTKERNELAPI NTSTATUS KeWaitForSingleObject(PVOID Object, KWAIT_REASON WaitReason, KPROCESSOR_MODE WaitMode,
                                           BOOLEAN Alertable, PLARGE_INTEGER Timeout);

/* Wait until one object, or all, are signalled.
   IRQL as KeWaitForSingleObject. Doc: wdm/nf-wdm-kewaitformultipleobjects */
NTKERNELAPI NTSTATUS KeWaitForMultipleObjects(ULONG Count, PVOID Object[], WAIT_TYPE WaitType,
                                              KWAIT_REASON WaitReason, KPROCESSOR_MODE WaitMode,
                                              BOOLEAN Alertable, PLARGE_INTEGER Timeout,
                                              PKWAIT_BLOCK WaitBlockArray);

/* Sleep; in units of 100 ns, negative if relative.
   IRQL <= APC_LEVEL. Doc: wdm/nf-wdm-kedelayexecutionthread */
NTKERNELAPI NTSTATUS KeDelayExecutionThread(KPROCESSOR_MODE WaitMode, BOOLEAN Alertable,
                                            PLARGE_INTEGER Interval);

/* The time since 1601 in units of 100 ns. Any IRQL. Doc: wdm/nf-wdm-kequerysystemtime */
NTKERNELAPI VOID KeQuerySystemTime(PLARGE_INTEGER CurrentTime);

/* A counter of high resolution, and its frequency on request.
   Any IRQL. Doc: wdm/nf-wdm-kequeryperformancecounter */
NTHALAPI LARGE_INTEGER KeQueryPerformanceCounter(PLARGE_INTEGER PerformanceFrequency);

/* The time since boot in units of 100 ns. Any IRQL. Doc: wdm/nf-wdm-kequeryinterrupttime */
NTKERNELAPI ULONGLONG KeQueryInterruptTime(VOID);

/* ---- DPCs ---------------------------------------------------------------------------------------------- */

/* Make a DPC. Any IRQL. Doc: wdm/nf-wdm-keinitializedpc */
NTKERNELAPI VOID KeInitializeDpc(PRKDPC Dpc, PKDEFERRED_ROUTINE DeferredRoutine, PVOID DeferredContext);

/* Queue a DPC; FALSE if it was queued already. Any IRQL. Doc: wdm/nf-wdm-keinsertqueuedpc */
NTKERNELAPI BOOLEAN KeInsertQueueDpc(PRKDPC Dpc, PVOID SystemArgument1, PVOID SystemArgument2);

/* Take a DPC out of its queue; FALSE if it was in none. Any IRQL. Doc: wdm/nf-wdm-keremovequeuedpc */
NTKERNELAPI BOOLEAN KeRemoveQueueDpc(PRKDPC Dpc);

#if NTDDI_VERSION >= NTDDI_WINXPSP2
/* Wait until every DPC queued so far has run. PASSIVE_LEVEL. Doc: wdm/nf-wdm-keflushqueueddpcs */
NTKERNELAPI VOID KeFlushQueuedDpcs(VOID);
#endif

/* ---- Processes ----------------------------------------------------------------------------------------- */

/* The process that the current thread runs in. Any IRQL. Doc: ntddk/nf-ntddk-psgetcurrentprocess */
NTKERNELAPI PEPROCESS PsGetCurrentProcess(VOID);

/* The same under its older name. Any IRQL. Doc: wdm/nf-wdm-iogetcurrentprocess */
NTKERNELAPI PEPROCESS IoGetCurrentProcess(VOID);

/* The current thread, an opaque object. Any IRQL. Doc: ntddk/nf-ntddk-psgetcurrentthread */
NTKERNELAPI PETHREAD PsGetCurrentThread(VOID);

/* The same under its older name. IRQL <= DISPATCH_LEVEL. Doc: wdm/nf-wdm-kegetcurrentthread */
NTKERNELAPI PKTHREAD KeGetCurrentThread(VOID);

/* The system process, in which work items and system threads run. A system-supplied variable. */
NTKERNELAPI extern PEPROCESS PsInitialSystemProcess;

EXTERN_C_END

#endif /* PINION_WDK_WDM_KE_H */
