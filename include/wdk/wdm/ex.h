/* SPDX-License-Identifier: MIT */
/*
 * The executive: raising exceptions, pool, work items, fast mutexes, interlocked lists.
 */
#ifndef PINION_WDK_WDM_EX_H
#define PINION_WDK_WDM_EX_H

#include "../ntdef.h"
#include "debug.h"
#include "ke.h"
#include "rtl.h"

/* ---- Exceptions ---------------------------------------------------------------------------------------- */

#define EXCEPTION_EXECUTE_HANDLER    1
#define EXCEPTION_CONTINUE_SEARCH    0
#define EXCEPTION_CONTINUE_EXECUTION (-1)

#define EXCEPTION_NONCONTINUABLE     0x1
#define EXCEPTION_MAXIMUM_PARAMETERS 15

/* What arose: of an access that is not permitted, ExceptionInformation says what was tried (0 a load, 1 a store, 8 code) and where. */
typedef struct _EXCEPTION_RECORD {
    NTSTATUS ExceptionCode;
    ULONG ExceptionFlags;
    struct _EXCEPTION_RECORD *ExceptionRecord;
    PVOID ExceptionAddress;
    ULONG NumberParameters;
    ULONG_PTR ExceptionInformation[EXCEPTION_MAXIMUM_PARAMETERS];
} EXCEPTION_RECORD, *PEXCEPTION_RECORD;
C_ASSERT(sizeof(EXCEPTION_RECORD) == 152);

/* ContextRecord is NULL here: the state of the processor is not kept. */
typedef struct _EXCEPTION_POINTERS {
    PEXCEPTION_RECORD ExceptionRecord;
    struct _CONTEXT *ContextRecord;
} EXCEPTION_POINTERS, *PEXCEPTION_POINTERS;

EXTERN_C_START

/* Raise STATUS_ACCESS_VIOLATION. PASSIVE_LEVEL. Doc: ntddk/nf-ntddk-exraiseaccessviolation */
NTKERNELAPI DECLSPEC_NORETURN VOID ExRaiseAccessViolation(VOID);

/* Raise STATUS_DATATYPE_MISALIGNMENT. PASSIVE_LEVEL. Doc: ntddk/nf-ntddk-exraisedatatypemisalignment */
NTKERNELAPI DECLSPEC_NORETURN VOID ExRaiseDatatypeMisalignment(VOID);

EXTERN_C_END

/* ---- Pool ---------------------------------------------------------------------------------------------- */

typedef enum _POOL_TYPE {
    NonPagedPool = 0,
    NonPagedPoolExecute = NonPagedPool,
    PagedPool = 1,
    NonPagedPoolMustSucceed = 2,
    DontUseThisType = 3,
    NonPagedPoolCacheAligned = 4,
    PagedPoolCacheAligned = 5,
    NonPagedPoolCacheAlignedMustS = 6,
    MaxPoolType = 7,
    NonPagedPoolBase = 0,
    NonPagedPoolBaseMustSucceed = 2,
    NonPagedPoolBaseCacheAligned = 4,
    NonPagedPoolBaseCacheAlignedMustS = 6,
    NonPagedPoolSession = 32,
    PagedPoolSession = 33,
    NonPagedPoolMustSucceedSession = 34,
    DontUseThisTypeSession = 35,
    NonPagedPoolCacheAlignedSession = 36,
    PagedPoolCacheAlignedSession = 37,
    NonPagedPoolCacheAlignedMustSSession = 38,
    NonPagedPoolNx = 512,
    NonPagedPoolNxCacheAligned = 516,
    NonPagedPoolSessionNx = 544
} POOL_TYPE;

#define POOL_COLD_ALLOCATION         256
#define POOL_NX_ALLOCATION           512
#define POOL_ZERO_ALLOCATION         1024
#define POOL_RAISE_IF_ALLOCATION_FAILURE 16
#define POOL_QUOTA_FAIL_INSTEAD_OF_RAISE 8

typedef ULONG64 POOL_FLAGS;

/* The low half must be understood and met, or the allocation fails; the high half is a wish.
   Doc: kernel/pool_flags */
#define POOL_FLAG_REQUIRED_START    0x0000000000000001UL
#define POOL_FLAG_USE_QUOTA         0x0000000000000001UL
#define POOL_FLAG_UNINITIALIZED     0x0000000000000002UL
#define POOL_FLAG_SESSION           0x0000000000000004UL
#define POOL_FLAG_CACHE_ALIGNED     0x0000000000000008UL
#define POOL_FLAG_RESERVED1         0x0000000000000010UL
#define POOL_FLAG_RAISE_ON_FAILURE  0x0000000000000020UL
#define POOL_FLAG_NON_PAGED         0x0000000000000040UL
#define POOL_FLAG_NON_PAGED_EXECUTE 0x0000000000000080UL
#define POOL_FLAG_PAGED             0x0000000000000100UL
#define POOL_FLAG_RESERVED2         0x0000000000000200UL
#define POOL_FLAG_RESERVED3         0x0000000000000400UL
#define POOL_FLAG_REQUIRED_END      0x0000000080000000UL
#define POOL_FLAG_OPTIONAL_START    0x0000000100000000UL
#define POOL_FLAG_SPECIAL_POOL      0x0000000100000000UL
#define POOL_FLAG_OPTIONAL_END      0x8000000000000000UL

typedef enum _EX_POOL_PRIORITY {
    LowPoolPriority = 0,
    LowPoolPrioritySpecialPoolOverrun = 8,
    LowPoolPrioritySpecialPoolUnderrun = 9,
    NormalPoolPriority = 16,
    NormalPoolPrioritySpecialPoolOverrun = 24,
    NormalPoolPrioritySpecialPoolUnderrun = 25,
    HighPoolPriority = 32,
    HighPoolPrioritySpecialPoolOverrun = 40,
    HighPoolPrioritySpecialPoolUnderrun = 41
} EX_POOL_PRIORITY;

typedef enum POOL_EXTENDED_PARAMETER_TYPE {
    PoolExtendedParameterInvalidType = 0,
    PoolExtendedParameterPriority,
    PoolExtendedParameterSecurePool,
    PoolExtendedParameterNumaNode,
    PoolExtendedParameterMax
} POOL_EXTENDED_PARAMETER_TYPE, *PPOOL_EXTENDED_PARAMETER_TYPE;

#define POOL_EXTENDED_PARAMETER_TYPE_BITS           8
#define POOL_EXTENDED_PARAMETER_REQUIRED_FIELD_BITS 1
#define POOL_EXTENDED_PARAMETER_RESERVED_BITS       (64 - 8 - 1)

typedef ULONG POOL_NODE_REQUIREMENT;

typedef struct _POOL_EXTENDED_PARAMS_SECURE_POOL {
    HANDLE SecurePoolHandle;
    PVOID Buffer;
    ULONG_PTR Cookie;
    ULONG SecurePoolFlags;
} POOL_EXTENDED_PARAMS_SECURE_POOL;

typedef struct _POOL_EXTENDED_PARAMETER {
    struct {
        ULONG64 Type : POOL_EXTENDED_PARAMETER_TYPE_BITS;
        ULONG64 Optional : POOL_EXTENDED_PARAMETER_REQUIRED_FIELD_BITS;
        ULONG64 Reserved : POOL_EXTENDED_PARAMETER_RESERVED_BITS;
    };
    union {
        ULONG64 Reserved2;
        PVOID Reserved3;
        EX_POOL_PRIORITY Priority;
        POOL_EXTENDED_PARAMS_SECURE_POOL *SecurePoolParams;
        POOL_NODE_REQUIREMENT PreferredNode;
    };
} POOL_EXTENDED_PARAMETER, *PPOOL_EXTENDED_PARAMETER;
typedef const POOL_EXTENDED_PARAMETER *PCPOOL_EXTENDED_PARAMETER;
C_ASSERT(sizeof(POOL_EXTENDED_PARAMETER) == 16);

EXTERN_C_START

/* Allocate pool without a tag; obsolete.
   IRQL <= DISPATCH_LEVEL, paged pool <= APC_LEVEL. Doc: wdm/nf-wdm-exallocatepool */
NTKERNELAPI PVOID ExAllocatePool(POOL_TYPE PoolType, SIZE_T NumberOfBytes);

/* Allocate pool, contents undefined.
   IRQL <= DISPATCH_LEVEL, paged pool <= APC_LEVEL. Doc: wdm/nf-wdm-exallocatepoolwithtag */
NTKERNELAPI PVOID ExAllocatePoolWithTag(POOL_TYPE PoolType, SIZE_T NumberOfBytes, ULONG Tag);

#if NTDDI_VERSION >= NTDDI_WIN10_VB
/* Allocate pool, zeroed unless told otherwise.
   IRQL <= DISPATCH_LEVEL, paged pool <= APC_LEVEL. Doc: wdm/nf-wdm-exallocatepool2 */
NTKERNELAPI PVOID ExAllocatePool2(POOL_FLAGS Flags, SIZE_T NumberOfBytes, ULONG Tag);

/* ExAllocatePool2 with priority or node.
   IRQL <= DISPATCH_LEVEL, paged pool <= APC_LEVEL. Doc: wdm/nf-wdm-exallocatepool3 */
NTKERNELAPI PVOID ExAllocatePool3(POOL_FLAGS Flags, SIZE_T NumberOfBytes, ULONG Tag,
                                  PCPOOL_EXTENDED_PARAMETER ExtendedParameters,
                                  ULONG ExtendedParametersCount);

/* Free pool, with parameters. IRQL <= DISPATCH_LEVEL, paged pool <= APC_LEVEL. Doc: wdm/nf-wdm-exfreepool2 */
NTKERNELAPI VOID ExFreePool2(PVOID P, ULONG Tag, PCPOOL_EXTENDED_PARAMETER ExtendedParameters,
                             ULONG ExtendedParametersCount);
#endif

/* Free pool. IRQL <= DISPATCH_LEVEL, paged pool <= APC_LEVEL. Doc: wdm/nf-wdm-exfreepool */
NTKERNELAPI VOID ExFreePool(PVOID P);

/* Free pool that has this tag.
   IRQL <= DISPATCH_LEVEL, paged pool <= APC_LEVEL. Doc: wdm/nf-wdm-exfreepoolwithtag */
NTKERNELAPI VOID ExFreePoolWithTag(PVOID P, ULONG Tag);

/* Allocate pool, zeroed.
   IRQL <= DISPATCH_LEVEL, paged pool <= APC_LEVEL. Doc: wdm/nf-wdm-exallocatepoolzero */
static inline PVOID ExAllocatePoolZero(POOL_TYPE PoolType, SIZE_T NumberOfBytes, ULONG Tag)
{
    PVOID Block = ExAllocatePoolWithTag(PoolType, NumberOfBytes, Tag);

    if (Block != NULL)
        RtlZeroMemory(Block, NumberOfBytes);
    return Block;
}

/* Allocate pool, contents undefined.
   IRQL <= DISPATCH_LEVEL, paged pool <= APC_LEVEL. Doc: wdm/nf-wdm-exallocatepooluninitialized */
static inline PVOID ExAllocatePoolUninitialized(POOL_TYPE PoolType, SIZE_T NumberOfBytes, ULONG Tag)
{
    return ExAllocatePoolWithTag(PoolType, NumberOfBytes, Tag);
}

EXTERN_C_END

/* ---- Work items ---------------------------------------------------------------------------------------- */

typedef enum _WORK_QUEUE_TYPE {
    CriticalWorkQueue,
    DelayedWorkQueue,
    HyperCriticalWorkQueue,
    NormalWorkQueue,
    BackgroundWorkQueue,
    RealTimeWorkQueue,
    SuperCriticalWorkQueue,
    MaximumWorkQueue,
    CustomPriorityWorkQueue = 32
} WORK_QUEUE_TYPE;

typedef VOID WORKER_THREAD_ROUTINE(PVOID Parameter);
typedef WORKER_THREAD_ROUTINE *PWORKER_THREAD_ROUTINE;

typedef struct _WORK_QUEUE_ITEM {
    LIST_ENTRY List;
    PWORKER_THREAD_ROUTINE WorkerRoutine;
    PVOID Parameter;
} WORK_QUEUE_ITEM, *PWORK_QUEUE_ITEM;
C_ASSERT(sizeof(WORK_QUEUE_ITEM) == 32);

/* Make a work item. Any IRQL. Doc: wdm/nf-wdm-exinitializeworkitem */
static inline VOID ExInitializeWorkItem(PWORK_QUEUE_ITEM Item, PWORKER_THREAD_ROUTINE Routine, PVOID Context)
{
    Item->WorkerRoutine = Routine;
    Item->Parameter = Context;
    Item->List.Flink = NULL;
}

EXTERN_C_START

/* Have a system thread call a routine at PASSIVE_LEVEL.
   IRQL <= DISPATCH_LEVEL. Doc: wdm/nf-wdm-exqueueworkitem */
NTKERNELAPI VOID ExQueueWorkItem(PWORK_QUEUE_ITEM WorkItem, WORK_QUEUE_TYPE QueueType);

EXTERN_C_END

/* ---- Fast mutexes -------------------------------------------------------------------------------------- */

typedef struct _FAST_MUTEX {
    LONG Count;
    PVOID Owner;
    ULONG Contention;
    KEVENT Event;
    ULONG OldIrql;
} FAST_MUTEX, *PFAST_MUTEX;
C_ASSERT(sizeof(FAST_MUTEX) == 56);

EXTERN_C_START

/* Make a fast mutex. IRQL <= DISPATCH_LEVEL. Doc: wdm/nf-wdm-exinitializefastmutex */
NTKERNELAPI VOID ExInitializeFastMutex(PFAST_MUTEX FastMutex);

/* Take a fast mutex and raise to APC_LEVEL. IRQL <= APC_LEVEL. Doc: wdm/nf-wdm-exacquirefastmutex */
NTKERNELAPI VOID ExAcquireFastMutex(PFAST_MUTEX FastMutex);

/* Take a fast mutex if it is free; FALSE if not.
   IRQL <= APC_LEVEL. Doc: wdm/nf-wdm-extrytoacquirefastmutex */
NTKERNELAPI BOOLEAN ExTryToAcquireFastMutex(PFAST_MUTEX FastMutex);

/* Release a fast mutex and restore IRQL. IRQL == APC_LEVEL. Doc: wdm/nf-wdm-exreleasefastmutex */
NTKERNELAPI VOID ExReleaseFastMutex(PFAST_MUTEX FastMutex);

/* ---- Interlocked lists --------------------------------------------------------------------------------- */

/* Insert at the front of a list under a spin lock; the first entry before, or NULL.
   Any IRQL. Doc: wdm/nf-wdm-exinterlockedinsertheadlist */
NTKERNELAPI PLIST_ENTRY ExInterlockedInsertHeadList(PLIST_ENTRY ListHead, PLIST_ENTRY ListEntry,
                                                    PKSPIN_LOCK Lock);

/* Insert at the end of a list under a spin lock; the last entry before, or NULL.
   Any IRQL. Doc: wdm/nf-wdm-exinterlockedinserttaillist */
NTKERNELAPI PLIST_ENTRY ExInterlockedInsertTailList(PLIST_ENTRY ListHead, PLIST_ENTRY ListEntry,
                                                    PKSPIN_LOCK Lock);

/* Take the first entry of a list under a spin lock; NULL if there is none.
   Any IRQL. Doc: wdm/nf-wdm-exinterlockedremoveheadlist */
NTKERNELAPI PLIST_ENTRY ExInterlockedRemoveHeadList(PLIST_ENTRY ListHead, PKSPIN_LOCK Lock);

EXTERN_C_END

#endif /* PINION_WDK_WDM_EX_H */
