/* SPDX-License-Identifier: MIT */
/* The header of file systems and filters: what <ntddk.h> has, the cache manager, and running in the address space of
   another process. */
#ifndef PINION_WDK_NTIFS_H
#define PINION_WDK_NTIFS_H

#include "ntddk.h"
#include "wdm/cc.h"

/* Where KeStackAttachProcess keeps what KeUnstackDetachProcess restores. Opaque. */
typedef struct _KAPC_STATE {
    LIST_ENTRY ApcListHead[MaximumMode];
    PKPROCESS Process;
    BOOLEAN KernelApcInProgress;
    BOOLEAN KernelApcPending;
    BOOLEAN UserApcPending;
} KAPC_STATE, *PKAPC_STATE, *RESTRICTED_POINTER PRKAPC_STATE;
C_ASSERT(sizeof(KAPC_STATE) == 48);

EXTERN_C_START

/* Run the current thread in the address space of a process.
   IRQL <= APC_LEVEL. Doc: ntifs/nf-ntifs-kestackattachprocess */
NTKERNELAPI VOID KeStackAttachProcess(PRKPROCESS Process, PRKAPC_STATE ApcState);

/* Go back to the address space from before. IRQL <= APC_LEVEL. Doc: ntifs/nf-ntifs-keunstackdetachprocess */
NTKERNELAPI VOID KeUnstackDetachProcess(PRKAPC_STATE ApcState);

EXTERN_C_END

#endif /* PINION_WDK_NTIFS_H */
