/* SPDX-License-Identifier: MIT */
/*
 * Memory: pages, memory descriptor lists, locking and mapping, contiguous memory.
 *
 *     MDL (48 bytes)                 PFN array, directly behind
 *    +------+------+-----+----------+--------+--------+-----
 *    | Next | Size | ... | StartVa  | PFN 0  | PFN 1  | ...     one for each page that the buffer touches
 *    +------+------+-----+----------+--------+--------+-----
 *
 *     StartVa          StartVa + ByteOffset               StartVa + ByteOffset + ByteCount
 *    |  page 0 ....... [ the buffer ...........|.................. ] ....... |
 */
#ifndef PINION_WDK_WDM_MM_H
#define PINION_WDK_WDM_MM_H

#include "../ntdef.h"
#include "ke.h"
#include "rtl.h"

/* ---- Pages --------------------------------------------------------------------------------------------- */

#define PAGE_SHIFT 12
#define PAGE_SIZE  0x1000

/* The start of the page that holds an address. Any IRQL. Doc: wdm/nf-wdm-page_align */
#define PAGE_ALIGN(Va) ((PVOID)((ULONG_PTR)(Va) & ~(ULONG_PTR)(PAGE_SIZE - 1)))
/* The offset of an address in its page. Any IRQL. Doc: wdm/nf-wdm-byte_offset */
#define BYTE_OFFSET(Va) ((ULONG)((ULONG_PTR)(Va) & (PAGE_SIZE - 1)))
/* How many pages so many bytes fill, the last one perhaps in part.
   Any IRQL. Doc: wdm/nf-wdm-bytes_to_pages */
#define BYTES_TO_PAGES(Size) (((Size) >> PAGE_SHIFT) + (((Size) & (PAGE_SIZE - 1)) != 0))
/* A size rounded up to whole pages. Any IRQL. Doc: wdm/nf-wdm-round_to_pages */
#define ROUND_TO_PAGES(Size) (((ULONG_PTR)(Size) + PAGE_SIZE - 1) & ~(ULONG_PTR)(PAGE_SIZE - 1))
/* How many pages a range of addresses touches. Any IRQL. Doc: wdm/nf-wdm-address_and_size_to_span_pages */
#define ADDRESS_AND_SIZE_TO_SPAN_PAGES(Va, Size) \
    ((BYTE_OFFSET(Va) + (SIZE_T)(Size) + (PAGE_SIZE - 1)) >> PAGE_SHIFT)
#define COMPUTE_PAGES_SPANNED(Va, Size)          ADDRESS_AND_SIZE_TO_SPAN_PAGES(Va, Size)
#define IS_PAGE_ALIGNED(Va)                      (BYTE_OFFSET(Va) == 0)

typedef ULONG_PTR PFN_NUMBER, *PPFN_NUMBER;
typedef LONG_PTR  SPFN_NUMBER, *PSPFN_NUMBER;
typedef ULONG     NODE_REQUIREMENT;

#define PAGE_NOACCESS          0x01
#define PAGE_READONLY          0x02
#define PAGE_READWRITE         0x04
#define PAGE_WRITECOPY         0x08
#define PAGE_EXECUTE           0x10
#define PAGE_EXECUTE_READ      0x20
#define PAGE_EXECUTE_READWRITE 0x40
#define PAGE_EXECUTE_WRITECOPY 0x80
#define PAGE_GUARD             0x100
#define PAGE_NOCACHE           0x200
#define PAGE_WRITECOMBINE      0x400

/* Doc: wdm/ne-wdm-_memory_caching_type */
typedef enum _MEMORY_CACHING_TYPE {
    MmNotMapped = -1,
    MmNonCached = 0,
    MmCached = 1,
    MmWriteCombined = 2,
    MmHardwareCoherentCached = 3,
    MmNonCachedUnordered = 4,
    MmUSWCCached = 5,
    MmMaximumCacheType = 6
} MEMORY_CACHING_TYPE;

/* Doc: wdm/ne-wdm-_lock_operation */
typedef enum _LOCK_OPERATION {
    IoReadAccess,
    IoWriteAccess,
    IoModifyAccess
} LOCK_OPERATION;

/* One page of a buffer that is scattered over pages of virtual memory. */
typedef union _FILE_SEGMENT_ELEMENT {
    PVOID Buffer;
    ULONGLONG Alignment;
} FILE_SEGMENT_ELEMENT, *PFILE_SEGMENT_ELEMENT;
C_ASSERT(sizeof(FILE_SEGMENT_ELEMENT) == 8);

typedef enum _MM_PAGE_PRIORITY {
    LowPagePriority = 0,
    NormalPagePriority = 16,
    HighPagePriority = 32
} MM_PAGE_PRIORITY;

/* To be ORed into a MM_PAGE_PRIORITY. */
#define MdlMappingNoWrite       0x80000000U
#define MdlMappingNoExecute     0x40000000U
#define MdlMappingWithGuardPtes 0x20000000U

/* ---- The MDL ------------------------------------------------------------------------------------------- */

#define MDL_MAPPED_TO_SYSTEM_VA     0x0001
#define MDL_PAGES_LOCKED            0x0002
#define MDL_SOURCE_IS_NONPAGED_POOL 0x0004
#define MDL_ALLOCATED_FIXED_SIZE    0x0008
#define MDL_PARTIAL                 0x0010
#define MDL_PARTIAL_HAS_BEEN_MAPPED 0x0020
#define MDL_IO_PAGE_READ            0x0040
#define MDL_WRITE_OPERATION         0x0080
#define MDL_LOCKED_PAGE_TABLES      0x0100
#define MDL_PARENT_MAPPED_SYSTEM_VA MDL_LOCKED_PAGE_TABLES
#define MDL_FREE_EXTRA_PTES         0x0200
#define MDL_DESCRIBES_AWE           0x0400
#define MDL_IO_SPACE                0x0800
#define MDL_NETWORK_HEADER          0x1000
#define MDL_MAPPING_CAN_FAIL        0x2000
#define MDL_PAGE_CONTENTS_INVARIANT 0x4000
#define MDL_PAGE_CONTENTS_INVARIANT 0x4000
#define MDL_ALLOCATED_MUST_SUCCEED  MDL_PAGE_CONTENTS_INVARIANT
#define MDL_INTERNAL                0x8000

/* Doc: wdm/ns-wdm-_mdl */
typedef struct _MDL {
    struct _MDL *Next;              /* the chain, NULL at its end */
    CSHORT Size;                    /* header and PFN array in bytes, cut to 16 bits */
    CSHORT MdlFlags;                /* MDL_* */
    USHORT AllocationProcessorNumber;
    USHORT Reserved;
    struct _EPROCESS *Process;      /* whose pages are locked; NULL for system buffers */
    PVOID MappedSystemVa;           /* valid with MDL_MAPPED_TO_SYSTEM_VA or MDL_SOURCE_IS_NONPAGED_POOL */
    PVOID StartVa;                  /* page aligned */
    ULONG ByteCount;
    ULONG ByteOffset;               /* < PAGE_SIZE */
} MDL, *PMDL, *PMDLX;
C_ASSERT(sizeof(MDL) == 48);
C_ASSERT(offsetof(MDL, Process) == 16 && offsetof(MDL, StartVa) == 32 && offsetof(MDL, ByteOffset) == 44);

/* The address of the buffer in its own address space; drivers do ask it of MDLs whose StartVa is NULL, hence
   a sum of integers. Any IRQL. Doc: wdm/nf-wdm-mmgetmdlvirtualaddress */
#define MmGetMdlVirtualAddress(Mdl) ((PVOID)((ULONG_PTR)(Mdl)->StartVa + (Mdl)->ByteOffset))
/* The length of the buffer in bytes. Any IRQL. Doc: wdm/nf-wdm-mmgetmdlbytecount */
#define MmGetMdlByteCount(Mdl)      ((Mdl)->ByteCount)
/* The offset of the buffer in its first page. Any IRQL. Doc: wdm/nf-wdm-mmgetmdlbyteoffset */
#define MmGetMdlByteOffset(Mdl)     ((Mdl)->ByteOffset)
/* The start of the buffer's first page. Any IRQL. Doc: wdm/nf-wdm-mmgetmdlvirtualaddress */
#define MmGetMdlBaseVa(Mdl)         ((Mdl)->StartVa)
/* The PFN array behind the header. Any IRQL. Doc: wdm/nf-wdm-mmgetmdlpfnarray */
#define MmGetMdlPfnArray(Mdl)       ((PPFN_NUMBER)((Mdl) + 1))

/* Make an MDL of the driver's own memory, MmSizeOfMdl bytes; Process and MappedSystemVa stay as they are.
   IRQL <= DISPATCH_LEVEL. Doc: wdm/nf-wdm-mminitializemdl */
static inline VOID MmInitializeMdl(PMDL MemoryDescriptorList, PVOID BaseVa, SIZE_T Length)
{
    const SIZE_T Pages = ADDRESS_AND_SIZE_TO_SPAN_PAGES(BaseVa, Length);

    MemoryDescriptorList->Next = NULL;
    MemoryDescriptorList->Size = (CSHORT)(sizeof(MDL) + sizeof(PFN_NUMBER) * Pages);
    MemoryDescriptorList->MdlFlags = 0;
    MemoryDescriptorList->StartVa = PAGE_ALIGN(BaseVa);
    MemoryDescriptorList->ByteOffset = BYTE_OFFSET(BaseVa);
    MemoryDescriptorList->ByteCount = (ULONG)Length;
}

EXTERN_C_START

#if NTDDI_VERSION >= NTDDI_VISTA
/* A page of addresses that are invalid for ever: an access stops the machine, and no exception handler sees it. It is
   the last page of a process's half of the address space, which Linux gives to nobody. Doc: kernel/mm-bad-pointer */
#define MM_BAD_POINTER ((PVOID)(ULONG_PTR)0x00007FFFFFFFF000)

/* The same in a variable. Deprecated. Doc: kernel/mm-bad-pointer */
NTKERNELAPI extern PVOID MmBadPointer;
#endif

/* How many bytes an MDL for this range needs. Any IRQL. Doc: wdm/nf-wdm-mmsizeofmdl */
NTKERNELAPI SIZE_T MmSizeOfMdl(PVOID Base, SIZE_T Length);

/* Fill in the PFNs of a buffer in nonpaged memory.
   IRQL <= DISPATCH_LEVEL. Doc: wdm/nf-wdm-mmbuildmdlfornonpagedpool */
NTKERNELAPI VOID MmBuildMdlForNonPagedPool(PMDL MemoryDescriptorList);

/* Lock a buffer's pages and fill in their PFNs; if one refuses, raises STATUS_ACCESS_VIOLATION and locks none.
   IRQL <= APC_LEVEL for pageable buffers, else <= DISPATCH_LEVEL. Doc: wdm/nf-wdm-mmprobeandlockpages */
NTKERNELAPI VOID MmProbeAndLockPages(PMDL MemoryDescriptorList, KPROCESSOR_MODE AccessMode,
                                     LOCK_OPERATION Operation);

/* The same for user addresses of a process, which need not be the current one.
   IRQL <= APC_LEVEL. Doc: ntifs/nf-ntifs-mmprobeandlockprocesspages */
NTKERNELAPI VOID MmProbeAndLockProcessPages(PMDL MemoryDescriptorList, PEPROCESS Process, KPROCESSOR_MODE AccessMode,
                                            LOCK_OPERATION Operation);

/* Lock one page for each segment, and fill in the PFNs in their order.
   IRQL <= APC_LEVEL. Doc: wdm/nf-wdm-mmprobeandlockselectedpages */
NTKERNELAPI VOID MmProbeAndLockSelectedPages(PMDL MemoryDescriptorList, PFILE_SEGMENT_ELEMENT SegmentArray,
                                             KPROCESSOR_MODE AccessMode, LOCK_OPERATION Operation);

/* Unlock the pages of an MDL; a system mapping of it goes too.
   IRQL <= DISPATCH_LEVEL. Doc: wdm/nf-wdm-mmunlockpages */
NTKERNELAPI VOID MmUnlockPages(PMDL MemoryDescriptorList);

#if NTDDI_VERSION >= NTDDI_WINXP
/* Move the start of an MDL forward; pages passed are unlocked.
   IRQL <= DISPATCH_LEVEL. Doc: wdm/nf-wdm-mmadvancemdl */
NTKERNELAPI NTSTATUS MmAdvanceMdl(PMDL Mdl, ULONG NumberOfBytes);
#endif

/* The system address of an MDL's buffer, mapped if it is not; NULL if that fails, or for a NULL MDL.
   A macro on Windows, a function here. IRQL <= DISPATCH_LEVEL. Doc: wdm/nf-wdm-mmgetsystemaddressformdlsafe */
NTKERNELAPI PVOID MmGetSystemAddressForMdlSafe(PMDL Mdl, ULONG Priority);

/* Unmap a partial MDL that was mapped, so that IoBuildPartialMdl can use it again.
   A macro on Windows, a function here. IRQL <= DISPATCH_LEVEL. Doc: wdm/nf-wdm-mmpreparemdlforreuse */
NTKERNELAPI VOID MmPrepareMdlForReuse(PMDL Mdl);

/* Map the pages of an MDL; UserMode mappings raise if they fail.
   IRQL <= DISPATCH_LEVEL, <= APC_LEVEL for UserMode. Doc: wdm/nf-wdm-mmmaplockedpagesspecifycache */
NTKERNELAPI PVOID MmMapLockedPagesSpecifyCache(PMDL MemoryDescriptorList, KPROCESSOR_MODE AccessMode,
                                               MEMORY_CACHING_TYPE CacheType, PVOID RequestedAddress,
                                               ULONG BugCheckOnFailure, ULONG Priority);

/* Undo a mapping; of a user address, in the same process.
   IRQL <= DISPATCH_LEVEL, <= APC_LEVEL for user addresses. Doc: wdm/nf-wdm-mmunmaplockedpages */
NTKERNELAPI VOID MmUnmapLockedPages(PVOID BaseAddress, PMDL MemoryDescriptorList);

/* Obsolete: as MmMapLockedPagesSpecifyCache, cached; stops the machine when a system mapping fails.
   IRQL <= DISPATCH_LEVEL, <= APC_LEVEL for UserMode. Doc: wdm/nf-wdm-mmmaplockedpages */
NTKERNELAPI PVOID MmMapLockedPages(PMDL MemoryDescriptorList, KPROCESSOR_MODE AccessMode);

/* Obsolete: as MmGetSystemAddressForMdlSafe, but stops the machine when the mapping fails.
   A macro on Windows, a function here. IRQL <= DISPATCH_LEVEL. Doc: wdm/nf-wdm-mmgetsystemaddressformdl */
NTKERNELAPI PVOID MmGetSystemAddressForMdl(PMDL Mdl);

/* Obsolete: format an MDL, in nonpaged pool of its own if none is given. */
NTKERNELAPI PMDL MmCreateMdl(PMDL MemoryDescriptorList, PVOID Base, SIZE_T Length);

#if NTDDI_VERSION >= NTDDI_WINXP
/* Change the protection of an MDL's system mapping.
   IRQL <= DISPATCH_LEVEL. Doc: wdm/nf-wdm-mmprotectmdlsystemaddress */
NTKERNELAPI NTSTATUS MmProtectMdlSystemAddress(PMDL MemoryDescriptorList, ULONG NewProtect);
#endif

#if NTDDI_VERSION >= NTDDI_WIN10_RS3
typedef VOID MM_MDL_ROUTINE(PVOID DriverContext, PVOID MappedVa);
typedef MM_MDL_ROUTINE *PMM_MDL_ROUTINE;

/* Call a routine with an MDL mapped, for as long as the call lasts.
   IRQL <= DISPATCH_LEVEL. Doc: wdm/nf-wdm-mmmapmdl */
NTKERNELAPI NTSTATUS MmMapMdl(PMDL MemoryDescriptorList, ULONG Protection, PMM_MDL_ROUTINE DriverRoutine, PVOID DriverContext);
#endif

/* TRUE unless a page is used with another cache type than MmCached. IRQL <= DISPATCH_LEVEL. */
NTKERNELAPI LOGICAL MmAreMdlPagesCached(PMDL MemoryDescriptorList);

/* TRUE if every byte of every page is zero. IRQL <= DISPATCH_LEVEL. */
NTKERNELAPI LOGICAL MmMdlPagesAreZero(PMDL MemoryDescriptorList);

/* Before and after DMA on machines whose caches do not see it; on x64 it does nothing.
   IRQL <= DISPATCH_LEVEL. Doc: wdm/nf-wdm-keflushiobuffers */
NTKERNELAPI VOID KeFlushIoBuffers(PMDL Mdl, BOOLEAN ReadOperation, BOOLEAN DmaOperation);

/* ---- Reserved mappings --------------------------------------------------------------------------------- */

#if NTDDI_VERSION >= NTDDI_WINXP
/* Reserve system addresses for mappings that must not fail.
   IRQL <= APC_LEVEL. Doc: wdm/nf-wdm-mmallocatemappingaddress */
NTKERNELAPI PVOID MmAllocateMappingAddress(SIZE_T NumberOfBytes, ULONG PoolTag);

/* Give a reservation back. IRQL <= APC_LEVEL. Doc: wdm/nf-wdm-mmfreemappingaddress */
NTKERNELAPI VOID MmFreeMappingAddress(PVOID BaseAddress, ULONG PoolTag);

/* Map an MDL at a reservation; NULL when it is too large for it.
   IRQL <= DISPATCH_LEVEL. Doc: wdm/nf-wdm-mmmaplockedpageswithreservedmapping */
NTKERNELAPI PVOID MmMapLockedPagesWithReservedMapping(PVOID MappingAddress, ULONG PoolTag, PMDL MemoryDescriptorList,
                                                      MEMORY_CACHING_TYPE CacheType);

/* Undo it; the reservation stays. IRQL <= DISPATCH_LEVEL. Doc: wdm/nf-wdm-mmunmapreservedmapping */
NTKERNELAPI VOID MmUnmapReservedMapping(PVOID BaseAddress, ULONG PoolTag, PMDL MemoryDescriptorList);
#endif

#define MM_MAPPING_ADDRESS_DIVISIBLE 0x1

#if NTDDI_VERSION >= NTDDI_WIN10_VB
/* Reserve system addresses, with flags. IRQL <= APC_LEVEL. Doc: wdm/nf-wdm-mmallocatemappingaddressex */
NTKERNELAPI PVOID MmAllocateMappingAddressEx(SIZE_T NumberOfBytes, ULONG PoolTag, ULONG Flags);
#endif

/* ---- MDLs with pages of their own ---------------------------------------------------------------------- */

#define MM_DONT_ZERO_ALLOCATION               0x00000001
#define MM_ALLOCATE_FROM_LOCAL_NODE_ONLY      0x00000002
#define MM_ALLOCATE_FULLY_REQUIRED            0x00000004
#define MM_ALLOCATE_NO_WAIT                   0x00000008
#define MM_ALLOCATE_PREFER_CONTIGUOUS         0x00000010
#define MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS 0x00000020
#define MM_ALLOCATE_FAST_LARGE_PAGES          0x00000040
#define MM_ALLOCATE_TRIM_IF_NECESSARY         0x00000080
#define MM_ALLOCATE_AND_HOT_REMOVE            0x00000100
#define MM_FREE_MDL_PAGES_ZERO                0x00000001

typedef struct _MM_PHYSICAL_ADDRESS_LIST {
    PHYSICAL_ADDRESS PhysicalAddress;
    SIZE_T NumberOfBytes;
} MM_PHYSICAL_ADDRESS_LIST, *PMM_PHYSICAL_ADDRESS_LIST;
C_ASSERT(sizeof(MM_PHYSICAL_ADDRESS_LIST) == 16);

/* Zeroed pages from ranges of physical addresses, as many as there are, and an MDL for them: free the pages with
   MmFreePagesFromMdl, then the MDL with ExFreePool. IRQL <= DISPATCH_LEVEL. Doc: wdm/nf-wdm-mmallocatepagesformdl */
NTKERNELAPI PMDL MmAllocatePagesForMdl(PHYSICAL_ADDRESS LowAddress, PHYSICAL_ADDRESS HighAddress,
                                       PHYSICAL_ADDRESS SkipBytes, SIZE_T TotalBytes);

/* Free the pages, and a system mapping of them; not the MDL.
   IRQL <= DISPATCH_LEVEL. Doc: wdm/nf-wdm-mmfreepagesfrommdl */
NTKERNELAPI VOID MmFreePagesFromMdl(PMDL MemoryDescriptorList);
NTKERNELAPI VOID MmFreePagesFromMdlEx(PMDL MemoryDescriptorList, ULONG Flags);

#if NTDDI_VERSION >= NTDDI_WS03SP1
/* The same with a cache type and MM_ALLOCATE_* flags.
   IRQL <= DISPATCH_LEVEL. Doc: wdm/nf-wdm-mmallocatepagesformdlex */
NTKERNELAPI PMDL MmAllocatePagesForMdlEx(PHYSICAL_ADDRESS LowAddress, PHYSICAL_ADDRESS HighAddress,
                                         PHYSICAL_ADDRESS SkipBytes, SIZE_T TotalBytes, MEMORY_CACHING_TYPE CacheType,
                                         ULONG Flags);
#endif

#if NTDDI_VERSION >= NTDDI_WIN8
/* The same from a node of memory by preference.
   IRQL <= DISPATCH_LEVEL. Doc: wdm/nf-wdm-mmallocatenodepagesformdlex */
NTKERNELAPI PMDL MmAllocateNodePagesForMdlEx(PHYSICAL_ADDRESS LowAddress, PHYSICAL_ADDRESS HighAddress,
                                             PHYSICAL_ADDRESS SkipBytes, SIZE_T TotalBytes,
                                             MEMORY_CACHING_TYPE CacheType, ULONG IdealNode, ULONG Flags);

/* An MDL for device memory; free it with IoFreeMdl.
   IRQL <= DISPATCH_LEVEL. Doc: wdm/nf-wdm-mmallocatemdlforiospace */
NTKERNELAPI NTSTATUS MmAllocateMdlForIoSpace(PMM_PHYSICAL_ADDRESS_LIST PhysicalAddressList, SIZE_T NumberOfEntries,
                                             PMDL *NewMdl);
#endif

/* ---- Addresses and contiguous memory ------------------------------------------------------------------- */

/* The physical address behind a resident virtual one; 0 if there is none.
   Any IRQL. Doc: ntddk/nf-ntddk-mmgetphysicaladdress */
NTKERNELAPI PHYSICAL_ADDRESS MmGetPhysicalAddress(PVOID BaseAddress);

/* Whether touching an address would not fault.
   IRQL <= DISPATCH_LEVEL. Doc: ntddk/nf-ntddk-mmisaddressvalid */
NTKERNELAPI BOOLEAN MmIsAddressValid(PVOID VirtualAddress);

/* Where RAM of this physical address is mapped; NULL if it is none.
   Any IRQL. Doc: ntddk/nf-ntddk-mmgetvirtualforphysical */
NTKERNELAPI PVOID MmGetVirtualForPhysical(PHYSICAL_ADDRESS PhysicalAddress);

/* Whether an address is nonpaged system memory. IRQL <= HIGH_LEVEL. Doc: ntddk/nf-ntddk-mmisnonpagedsystemaddressvalid */
NTKERNELAPI BOOLEAN MmIsNonPagedSystemAddressValid(PVOID VirtualAddress);

/* Raise unless a range lies in user space and is aligned. IRQL <= APC_LEVEL. Doc: wdm/nf-wdm-probeforread */
NTKERNELAPI VOID ProbeForRead(const volatile VOID *Address, SIZE_T Length, ULONG Alignment);

/* Raise also unless it can be written. IRQL <= APC_LEVEL. Doc: wdm/nf-wdm-probeforwrite */
NTKERNELAPI VOID ProbeForWrite(volatile VOID *Address, SIZE_T Length, ULONG Alignment);

/* Map physical addresses: a device's, or locked memory. IRQL <= DISPATCH_LEVEL. Doc: wdm/nf-wdm-mmmapiospace */
NTKERNELAPI PVOID MmMapIoSpace(PHYSICAL_ADDRESS PhysicalAddress, SIZE_T NumberOfBytes, MEMORY_CACHING_TYPE CacheType);

/* Undo it, with the same size. IRQL <= DISPATCH_LEVEL. Doc: wdm/nf-wdm-mmunmapiospace */
NTKERNELAPI VOID MmUnmapIoSpace(PVOID BaseAddress, SIZE_T NumberOfBytes);

#if NTDDI_VERSION >= NTDDI_WIN10
/* Map physical addresses with a protection. IRQL <= DISPATCH_LEVEL. Doc: wdm/nf-wdm-mmmapiospaceex */
NTKERNELAPI PVOID MmMapIoSpaceEx(PHYSICAL_ADDRESS PhysicalAddress, SIZE_T NumberOfBytes, ULONG Protect);
#endif

/* Allocate contiguous memory below an address.
   IRQL <= DISPATCH_LEVEL. Doc: wdm/nf-wdm-mmallocatecontiguousmemory */
NTKERNELAPI PVOID MmAllocateContiguousMemory(SIZE_T NumberOfBytes, PHYSICAL_ADDRESS HighestAcceptableAddress);

/* Allocate contiguous memory in a range, with a cache type.
   IRQL <= DISPATCH_LEVEL. Doc: wdm/nf-wdm-mmallocatecontiguousmemoryspecifycache */
NTKERNELAPI PVOID MmAllocateContiguousMemorySpecifyCache(SIZE_T NumberOfBytes,
                                                         PHYSICAL_ADDRESS LowestAcceptableAddress,
                                                         PHYSICAL_ADDRESS HighestAcceptableAddress,
                                                         PHYSICAL_ADDRESS BoundaryAddressMultiple,
                                                         MEMORY_CACHING_TYPE CacheType);

#define MM_ANY_NODE_OK                         0x80000000U
#define MM_ALLOCATE_CONTIGUOUS_MEMORY_FAST_ONLY 0x1

/* The same from a node of memory by preference.
   IRQL <= DISPATCH_LEVEL. Doc: wdm/nf-wdm-mmallocatecontiguousmemoryspecifycachenode */
NTKERNELAPI PVOID MmAllocateContiguousMemorySpecifyCacheNode(SIZE_T NumberOfBytes, PHYSICAL_ADDRESS LowestAcceptableAddress,
                                                             PHYSICAL_ADDRESS HighestAcceptableAddress,
                                                             PHYSICAL_ADDRESS BoundaryAddressMultiple,
                                                             MEMORY_CACHING_TYPE CacheType, NODE_REQUIREMENT PreferredNode);

#if NTDDI_VERSION >= NTDDI_WIN8
/* The same with a protection, from that node only. IRQL <= DISPATCH_LEVEL. Doc: wdm/nf-wdm-mmallocatecontiguousnodememory */
NTKERNELAPI PVOID MmAllocateContiguousNodeMemory(SIZE_T NumberOfBytes, PHYSICAL_ADDRESS LowestAcceptableAddress,
                                                 PHYSICAL_ADDRESS HighestAcceptableAddress,
                                                 PHYSICAL_ADDRESS BoundaryAddressMultiple, ULONG Protect,
                                                 NODE_REQUIREMENT PreferredNode);
#endif

#if NTDDI_VERSION >= NTDDI_WIN10_VB
/* The same with a status. IRQL <= DISPATCH_LEVEL. Doc: wdm/nf-wdm-mmallocatecontiguousmemoryex */
NTKERNELAPI NTSTATUS MmAllocateContiguousMemoryEx(PSIZE_T NumberOfBytes, PHYSICAL_ADDRESS LowestAcceptableAddress,
                                                  PHYSICAL_ADDRESS HighestAcceptableAddress,
                                                  PHYSICAL_ADDRESS BoundaryAddressMultiple,
                                                  NODE_REQUIREMENT PreferredNode, ULONG Protect, PVOID PartitionObject,
                                                  ULONG Tag, ULONG Flags, PVOID *BaseAddress);
#endif

/* Noncached, page-aligned, nonpaged memory. IRQL < DISPATCH_LEVEL. Doc: ntddk/nf-ntddk-mmallocatenoncachedmemory */
NTKERNELAPI PVOID MmAllocateNonCachedMemory(SIZE_T NumberOfBytes);
NTKERNELAPI VOID MmFreeNonCachedMemory(PVOID BaseAddress, SIZE_T NumberOfBytes);

/* Free memory of MmAllocateContiguousMemory.
   IRQL <= DISPATCH_LEVEL. Doc: wdm/nf-wdm-mmfreecontiguousmemory */
NTKERNELAPI VOID MmFreeContiguousMemory(PVOID BaseAddress);

/* Free memory of MmAllocateContiguousMemorySpecifyCache.
   IRQL <= DISPATCH_LEVEL. Doc: wdm/nf-wdm-mmfreecontiguousmemoryspecifycache */
NTKERNELAPI VOID MmFreeContiguousMemorySpecifyCache(PVOID BaseAddress, SIZE_T NumberOfBytes,
                                                    MEMORY_CACHING_TYPE CacheType);

EXTERN_C_END

#endif /* PINION_WDK_WDM_MM_H */
