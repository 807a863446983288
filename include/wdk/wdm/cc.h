/* SPDX-License-Identifier: MIT */
/*
 * The cache manager: caching a file's data, and access to it through MDLs. For file systems; <ntifs.h> brings it.
 */
#ifndef PINION_WDK_WDM_CC_H
#define PINION_WDK_WDM_CC_H

#include "../ntdef.h"
#include "device.h"
#include "irp.h"
#include "ke.h"
#include "mm.h"

/* What a file system gives each file (not each file object) for the managers of cache and memory to use. */
typedef struct _SECTION_OBJECT_POINTERS {
    PVOID DataSectionObject;
    PVOID SharedCacheMap;
    PVOID ImageSectionObject;
} SECTION_OBJECT_POINTERS, *PSECTION_OBJECT_POINTERS;
C_ASSERT(sizeof(SECTION_OBJECT_POINTERS) == 24);

typedef struct _CC_FILE_SIZES {
    LARGE_INTEGER AllocationSize;
    LARGE_INTEGER FileSize;
    LARGE_INTEGER ValidDataLength;      /* what lies behind reads as zero and is not read from the disk */
} CC_FILE_SIZES, *PCC_FILE_SIZES;
C_ASSERT(sizeof(CC_FILE_SIZES) == 24);

typedef BOOLEAN (*PACQUIRE_FOR_LAZY_WRITE)(PVOID Context, BOOLEAN Wait);
typedef VOID (*PRELEASE_FROM_LAZY_WRITE)(PVOID Context);
typedef BOOLEAN (*PACQUIRE_FOR_READ_AHEAD)(PVOID Context, BOOLEAN Wait);
typedef VOID (*PRELEASE_FROM_READ_AHEAD)(PVOID Context);

typedef struct _CACHE_MANAGER_CALLBACKS {
    PACQUIRE_FOR_LAZY_WRITE AcquireForLazyWrite;
    PRELEASE_FROM_LAZY_WRITE ReleaseFromLazyWrite;
    PACQUIRE_FOR_READ_AHEAD AcquireForReadAhead;
    PRELEASE_FROM_READ_AHEAD ReleaseFromReadAhead;
} CACHE_MANAGER_CALLBACKS, *PCACHE_MANAGER_CALLBACKS;
C_ASSERT(sizeof(CACHE_MANAGER_CALLBACKS) == 32);

typedef struct _CACHE_UNINITIALIZE_EVENT {
    struct _CACHE_UNINITIALIZE_EVENT *Next;
    KEVENT Event;
} CACHE_UNINITIALIZE_EVENT, *PCACHE_UNINITIALIZE_EVENT;
C_ASSERT(sizeof(CACHE_UNINITIALIZE_EVENT) == 32);

EXTERN_C_START

/* ---- Cached files -------------------------------------------------------------------------------------- */

/* Cache a file, whose SectionObjectPointer is set; raises if that fails.
   IRQL <= APC_LEVEL. Doc: ntifs/nf-ntifs-ccinitializecachemap */
NTKERNELAPI VOID CcInitializeCacheMap(PFILE_OBJECT FileObject, PCC_FILE_SIZES FileSizes, BOOLEAN PinAccess,
                                      PCACHE_MANAGER_CALLBACKS Callbacks, PVOID LazyWriteContext);

/* Stop caching for a file object; FALSE while others cache the file, or data has to be written yet.
   IRQL <= APC_LEVEL. Doc: ntifs/nf-ntifs-ccuninitializecachemap */
NTKERNELAPI BOOLEAN CcUninitializeCacheMap(PFILE_OBJECT FileObject, PLARGE_INTEGER TruncateSize,
                                           PCACHE_UNINITIALIZE_EVENT UninitializeEvent);

/* The sizes of a cached file have changed. IRQL <= APC_LEVEL. Doc: ntifs/nf-ntifs-ccsetfilesizes */
NTKERNELAPI VOID CcSetFileSizes(PFILE_OBJECT FileObject, PCC_FILE_SIZES FileSizes);

/* Whether any file object caches this file. Doc: ntifs/nf-ntifs-ccinitializecachemap */
#define CcIsFileCached(FileObject)                                                                            \
    ((FileObject)->SectionObjectPointer != NULL && (FileObject)->SectionObjectPointer->SharedCacheMap != NULL)

/* Write a range of what is cached, or all of it, to the disk.
   IRQL <= APC_LEVEL. Doc: ntifs/nf-ntifs-ccflushcache */
NTKERNELAPI VOID CcFlushCache(PSECTION_OBJECT_POINTERS SectionObjectPointer, PLARGE_INTEGER FileOffset,
                              ULONG Length, PIO_STATUS_BLOCK IoStatus);

/* ---- Copies -------------------------------------------------------------------------------------------- */

/* Copy from a cached file; FALSE if that had to wait and must not; raises.
   IRQL <= APC_LEVEL. Doc: ntifs/nf-ntifs-cccopyread */
NTKERNELAPI BOOLEAN CcCopyRead(PFILE_OBJECT FileObject, PLARGE_INTEGER FileOffset, ULONG Length, BOOLEAN Wait,
                               PVOID Buffer, PIO_STATUS_BLOCK IoStatus);

/* Copy into a cached file; FALSE if that had to wait and must not; raises.
   IRQL <= APC_LEVEL. Doc: ntifs/nf-ntifs-cccopywrite */
NTKERNELAPI BOOLEAN CcCopyWrite(PFILE_OBJECT FileObject, PLARGE_INTEGER FileOffset, ULONG Length, BOOLEAN Wait,
                                PVOID Buffer);

/* ---- MDLs ---------------------------------------------------------------------------------------------- */

/* Lock what is cached of a range, to be read: a chain of MDLs that are not mapped; raises.
   IRQL < DISPATCH_LEVEL. Doc: previous-versions/ff539159 */
NTKERNELAPI VOID CcMdlRead(PFILE_OBJECT FileObject, PLARGE_INTEGER FileOffset, ULONG Length, PMDL *MdlChain,
                           PIO_STATUS_BLOCK IoStatus);

/* Give back the chain of CcMdlRead. PASSIVE_LEVEL. Doc: ntifs/nf-ntifs-ccmdlreadcomplete */
NTKERNELAPI VOID CcMdlReadComplete(PFILE_OBJECT FileObject, PMDL MdlChain);

/* Lock what is cached of a range, to be overwritten: a chain of MDLs that are not mapped; raises.
   IRQL < DISPATCH_LEVEL. Doc: ntifs/nf-ntifs-ccpreparemdlwrite */
NTKERNELAPI VOID CcPrepareMdlWrite(PFILE_OBJECT FileObject, PLARGE_INTEGER FileOffset, ULONG Length,
                                   PMDL *MdlChain, PIO_STATUS_BLOCK IoStatus);

/* The data has been written: give back the chain of CcPrepareMdlWrite; raises if FO_WRITE_THROUGH data cannot be
   flushed. PASSIVE_LEVEL. Doc: ntifs/nf-ntifs-ccmdlwritecomplete */
NTKERNELAPI VOID CcMdlWriteComplete(PFILE_OBJECT FileObject, PLARGE_INTEGER FileOffset, PMDL MdlChain);

#if NTDDI_VERSION >= NTDDI_WINXP
/* Nothing is to be written: give back the chain of CcPrepareMdlWrite.
   PASSIVE_LEVEL. Doc: ntifs/nf-ntifs-ccmdlwriteabort */
NTKERNELAPI VOID CcMdlWriteAbort(PFILE_OBJECT FileObject, PMDL MdlChain);
#endif

/* CcMdlRead with FALSE and a status where that raises. IRQL <= APC_LEVEL.
   Doc: ntifs/nf-ntifs-_fsrtl_advanced_fcb_header-fsrtlmdlreaddev */
NTKERNELAPI BOOLEAN FsRtlMdlReadDev(PFILE_OBJECT FileObject, PLARGE_INTEGER FileOffset, ULONG Length,
                                    ULONG LockKey, PMDL *MdlChain, PIO_STATUS_BLOCK IoStatus,
                                    PDEVICE_OBJECT DeviceObject);

/* CcMdlReadComplete. PASSIVE_LEVEL. Doc: ntifs/nf-ntifs-_fsrtl_advanced_fcb_header-fsrtlmdlreadcompletedev */
NTKERNELAPI BOOLEAN FsRtlMdlReadCompleteDev(PFILE_OBJECT FileObject, PMDL MdlChain, PDEVICE_OBJECT DeviceObject);

/* CcPrepareMdlWrite with FALSE and a status where that raises. IRQL <= APC_LEVEL.
   Doc: ntifs/nf-ntifs-_fsrtl_advanced_fcb_header-fsrtlpreparemdlwritedev */
NTKERNELAPI BOOLEAN FsRtlPrepareMdlWriteDev(PFILE_OBJECT FileObject, PLARGE_INTEGER FileOffset, ULONG Length,
                                            ULONG LockKey, PMDL *MdlChain, PIO_STATUS_BLOCK IoStatus,
                                            PDEVICE_OBJECT DeviceObject);

/* CcMdlWriteComplete; FALSE for a file object with FO_WRITE_THROUGH.
   PASSIVE_LEVEL. Doc: ntifs/nf-ntifs-_fsrtl_advanced_fcb_header-fsrtlmdlwritecompletedev */
NTKERNELAPI BOOLEAN FsRtlMdlWriteCompleteDev(PFILE_OBJECT FileObject, PLARGE_INTEGER FileOffset, PMDL MdlChain,
                                             PDEVICE_OBJECT DeviceObject);

EXTERN_C_END

#endif /* PINION_WDK_WDM_CC_H */
