/* SPDX-License-Identifier: MIT */
/*
 * DMA: adapters and the table of routines behind them, scatter/gather lists, common buffers.
 *
 *     DMA_ADAPTER -> DMA_OPERATIONS       Size says where the table of this version ends
 *                    | version 1 ........ | version 2 .... | version 3 ...... | Windows 10 ........... |
 *
 * The routines are reached through the table only. A member that is NULL is not available.
 */
#ifndef PINION_WDK_WDM_DMA_H
#define PINION_WDK_WDM_DMA_H

#include "../ntdef.h"
#include "device.h"
#include "mm.h"

/* ---- The device, described ------------------------------------------------------------------------------ */

/* Doc: wdm/ne-wdm-_interface_type */
typedef enum _INTERFACE_TYPE {
    InterfaceTypeUndefined = -1,
    Internal, Isa, Eisa, MicroChannel, TurboChannel, PCIBus, VMEBus, NuBus, PCMCIABus, CBus, MPIBus, MPSABus,
    ProcessorInternal, InternalPowerBus, PNPISABus, PNPBus, Vmcs, ACPIBus, MaximumInterfaceType
} INTERFACE_TYPE, *PINTERFACE_TYPE;

typedef enum _DMA_WIDTH {
    Width8Bits, Width16Bits, Width32Bits, Width64Bits, WidthNoWrap, MaximumDmaWidth
} DMA_WIDTH, *PDMA_WIDTH;

typedef enum _DMA_SPEED {
    Compatible, TypeA, TypeB, TypeC, TypeF, MaximumDmaSpeed
} DMA_SPEED, *PDMA_SPEED;

#define DEVICE_DESCRIPTION_VERSION  0
#define DEVICE_DESCRIPTION_VERSION1 1
#define DEVICE_DESCRIPTION_VERSION2 2
#define DEVICE_DESCRIPTION_VERSION3 3

/* Doc: wdm/ns-wdm-_device_description */
typedef struct _DEVICE_DESCRIPTION {
    ULONG Version;                  /* DEVICE_DESCRIPTION_VERSION* */
    BOOLEAN Master;                 /* bus master, or served by the system's DMA controller */
    BOOLEAN ScatterGather;
    BOOLEAN DemandMode;
    BOOLEAN AutoInitialize;
    BOOLEAN Dma32BitAddresses;
    BOOLEAN IgnoreCount;
    BOOLEAN Reserved1;
    BOOLEAN Dma64BitAddresses;
    ULONG BusNumber;
    ULONG DmaChannel;
    INTERFACE_TYPE InterfaceType;
    DMA_WIDTH DmaWidth;
    DMA_SPEED DmaSpeed;
    ULONG MaximumLength;            /* bytes of the largest transfer */
    ULONG DmaPort;
    ULONG DmaAddressWidth;          /* version 3: bits */
    ULONG DmaControllerInstance;
    ULONG DmaRequestLine;
    PHYSICAL_ADDRESS DeviceAddress;
} DEVICE_DESCRIPTION, *PDEVICE_DESCRIPTION;
C_ASSERT(sizeof(DEVICE_DESCRIPTION) == 64);
C_ASSERT(offsetof(DEVICE_DESCRIPTION, MaximumLength) == 32 && offsetof(DEVICE_DESCRIPTION, DmaAddressWidth) == 40);
C_ASSERT(offsetof(DEVICE_DESCRIPTION, DeviceAddress) == 56);

/* ---- Scatter/gather lists ------------------------------------------------------------------------------- */

typedef struct _SCATTER_GATHER_ELEMENT {
    PHYSICAL_ADDRESS Address;
    ULONG Length;
    ULONG_PTR Reserved;
} SCATTER_GATHER_ELEMENT, *PSCATTER_GATHER_ELEMENT;
C_ASSERT(sizeof(SCATTER_GATHER_ELEMENT) == 24);

/* Doc: wdm/ns-wdm-_scatter_gather_list */
typedef struct _SCATTER_GATHER_LIST {
    ULONG NumberOfElements;
    ULONG_PTR Reserved;
    SCATTER_GATHER_ELEMENT Elements[];
} SCATTER_GATHER_LIST, *PSCATTER_GATHER_LIST;
C_ASSERT(sizeof(SCATTER_GATHER_LIST) == 16 && offsetof(SCATTER_GATHER_LIST, Elements) == 16);

/* ---- Adapters ------------------------------------------------------------------------------------------- */

/* Doc: wdm/ns-wdm-_dma_adapter */
typedef struct _DMA_ADAPTER {
    USHORT Version;                 /* always 1 */
    USHORT Size;
    struct _DMA_OPERATIONS *DmaOperations;
} DMA_ADAPTER, *PDMA_ADAPTER;
C_ASSERT(sizeof(DMA_ADAPTER) == 16 && offsetof(DMA_ADAPTER, DmaOperations) == 8);

#define HAL_DMA_ADAPTER_VERSION_1 1

/* What a driver does with a list once it is there. IRQL = DISPATCH_LEVEL. Doc: wdm/nc-wdm-driver_list_control */
typedef VOID DRIVER_LIST_CONTROL(struct _DEVICE_OBJECT *DeviceObject, struct _IRP *Irp, PSCATTER_GATHER_LIST ScatterGather,
                                 PVOID Context);
typedef DRIVER_LIST_CONTROL *PDRIVER_LIST_CONTROL;

/* ---- Version 1 of the routines -------------------------------------------------------------------------- */

/* IRQL <= DISPATCH_LEVEL. Doc: wdm/nc-wdm-pput_dma_adapter */
typedef VOID (*PPUT_DMA_ADAPTER)(PDMA_ADAPTER DmaAdapter);

/* PASSIVE_LEVEL. Doc: wdm/nc-wdm-pallocate_common_buffer */
typedef PVOID (*PALLOCATE_COMMON_BUFFER)(PDMA_ADAPTER DmaAdapter, ULONG Length, PPHYSICAL_ADDRESS LogicalAddress,
                                         BOOLEAN CacheEnabled);

/* PASSIVE_LEVEL. Doc: wdm/nc-wdm-pfree_common_buffer */
typedef VOID (*PFREE_COMMON_BUFFER)(PDMA_ADAPTER DmaAdapter, ULONG Length, PHYSICAL_ADDRESS LogicalAddress,
                                    PVOID VirtualAddress, BOOLEAN CacheEnabled);

/* DISPATCH_LEVEL. Doc: wdm/nc-wdm-pallocate_adapter_channel */
typedef NTSTATUS (*PALLOCATE_ADAPTER_CHANNEL)(PDMA_ADAPTER DmaAdapter, PDEVICE_OBJECT DeviceObject, ULONG NumberOfMapRegisters,
                                              PDRIVER_CONTROL ExecutionRoutine, PVOID Context);

/* IRQL <= DISPATCH_LEVEL. Doc: wdm/nc-wdm-pflush_adapter_buffers */
typedef BOOLEAN (*PFLUSH_ADAPTER_BUFFERS)(PDMA_ADAPTER DmaAdapter, PMDL Mdl, PVOID MapRegisterBase, PVOID CurrentVa,
                                          ULONG Length, BOOLEAN WriteToDevice);

/* DISPATCH_LEVEL. Doc: wdm/nc-wdm-pfree_adapter_channel */
typedef VOID (*PFREE_ADAPTER_CHANNEL)(PDMA_ADAPTER DmaAdapter);

/* DISPATCH_LEVEL. Doc: wdm/nc-wdm-pfree_map_registers */
typedef VOID (*PFREE_MAP_REGISTERS)(PDMA_ADAPTER DmaAdapter, PVOID MapRegisterBase, ULONG NumberOfMapRegisters);

/* IRQL <= DISPATCH_LEVEL. Doc: wdm/nc-wdm-pmap_transfer */
typedef PHYSICAL_ADDRESS (*PMAP_TRANSFER)(PDMA_ADAPTER DmaAdapter, PMDL Mdl, PVOID MapRegisterBase, PVOID CurrentVa,
                                          PULONG Length, BOOLEAN WriteToDevice);

/* PASSIVE_LEVEL. Doc: wdm/nc-wdm-pget_dma_alignment */
typedef ULONG (*PGET_DMA_ALIGNMENT)(PDMA_ADAPTER DmaAdapter);

/* IRQL <= DISPATCH_LEVEL. Doc: wdm/nc-wdm-pread_dma_counter */
typedef ULONG (*PREAD_DMA_COUNTER)(PDMA_ADAPTER DmaAdapter);

/* DISPATCH_LEVEL. Doc: wdm/nc-wdm-pget_scatter_gather_list */
typedef NTSTATUS (*PGET_SCATTER_GATHER_LIST)(PDMA_ADAPTER DmaAdapter, PDEVICE_OBJECT DeviceObject, PMDL Mdl, PVOID CurrentVa,
                                             ULONG Length, PDRIVER_LIST_CONTROL ExecutionRoutine, PVOID Context,
                                             BOOLEAN WriteToDevice);

/* DISPATCH_LEVEL. Doc: wdm/nc-wdm-pput_scatter_gather_list */
typedef VOID (*PPUT_SCATTER_GATHER_LIST)(PDMA_ADAPTER DmaAdapter, PSCATTER_GATHER_LIST ScatterGather, BOOLEAN WriteToDevice);

/* ---- Version 2 ------------------------------------------------------------------------------------------ */

/* Any IRQL. Doc: wdm/nc-wdm-pcalculate_scatter_gather_list_size */
typedef NTSTATUS (*PCALCULATE_SCATTER_GATHER_LIST_SIZE)(PDMA_ADAPTER DmaAdapter, PMDL Mdl, PVOID CurrentVa, ULONG Length,
                                                        PULONG ScatterGatherListSize, PULONG pNumberOfMapRegisters);

/* DISPATCH_LEVEL. Doc: wdm/nc-wdm-pbuild_scatter_gather_list */
typedef NTSTATUS (*PBUILD_SCATTER_GATHER_LIST)(PDMA_ADAPTER DmaAdapter, PDEVICE_OBJECT DeviceObject, PMDL Mdl, PVOID CurrentVa,
                                               ULONG Length, PDRIVER_LIST_CONTROL ExecutionRoutine, PVOID Context,
                                               BOOLEAN WriteToDevice, PVOID ScatterGatherBuffer, ULONG ScatterGatherLength);

/* IRQL <= DISPATCH_LEVEL. Doc: wdm/nc-wdm-pbuild_mdl_from_scatter_gather_list */
typedef NTSTATUS (*PBUILD_MDL_FROM_SCATTER_GATHER_LIST)(PDMA_ADAPTER DmaAdapter, PSCATTER_GATHER_LIST ScatterGather,
                                                        PMDL OriginalMdl, PMDL *TargetMdl);

/* ---- Version 3 ------------------------------------------------------------------------------------------ */

/* Flags of the routines that allocate an adapter channel. */
#define DMA_SYNCHRONOUS_CALLBACK 0x01

#define DMA_TRANSFER_CONTEXT_VERSION1 1
#define DMA_TRANSFER_CONTEXT_SIZE_V1  128

#define DMA_ADAPTER_INFO_VERSION1  1
#define DMA_TRANSFER_INFO_VERSION1 1
#define DMA_TRANSFER_INFO_VERSION2 2

#define DOMAIN_COMMON_BUFFER_LARGE_PAGE 0x1

/* Doc: wdm/ne-wdm-dma_completion_status */
typedef enum {
    DmaComplete, DmaAborted, DmaError, DmaCancelled
} DMA_COMPLETION_STATUS;

/* DISPATCH_LEVEL. Doc: wdm/nc-wdm-dma_completion_routine */
typedef VOID DMA_COMPLETION_ROUTINE(PDMA_ADAPTER DmaAdapter, PDEVICE_OBJECT DeviceObject, PVOID CompletionContext,
                                    DMA_COMPLETION_STATUS Status);
typedef DMA_COMPLETION_ROUTINE *PDMA_COMPLETION_ROUTINE;

/* Doc: wdm/ns-wdm-_dma_adapter_info_v1 */
typedef struct _DMA_ADAPTER_INFO_V1 {
    ULONG ReadDmaCounterAvailable;
    ULONG ScatterGatherLimit;
    ULONG DmaAddressWidth;
    ULONG Flags;
    ULONG MinimumTransferUnit;
} DMA_ADAPTER_INFO_V1, *PDMA_ADAPTER_INFO_V1;

typedef struct _DMA_ADAPTER_INFO_CRASHDUMP {
    DEVICE_DESCRIPTION DeviceDescription;
    SIZE_T DeviceIdSize;
    PVOID DeviceId;
} DMA_ADAPTER_INFO_CRASHDUMP, *PDMA_ADAPTER_INFO_CRASHDUMP;

/* Doc: wdm/ns-wdm-_dma_adapter_info */
typedef struct _DMA_ADAPTER_INFO {
    ULONG Version;                  /* DMA_ADAPTER_INFO_VERSION1 */
    union {
        DMA_ADAPTER_INFO_V1 V1;
        DMA_ADAPTER_INFO_CRASHDUMP Crashdump;
    };
} DMA_ADAPTER_INFO, *PDMA_ADAPTER_INFO;

/* Doc: wdm/ns-wdm-_dma_transfer_info_v1 */
typedef struct _DMA_TRANSFER_INFO_V1 {
    ULONG MapRegisterCount;
    ULONG ScatterGatherElementCount;
    ULONG ScatterGatherListSize;
} DMA_TRANSFER_INFO_V1, *PDMA_TRANSFER_INFO_V1;

/* Doc: wdm/ns-wdm-_dma_transfer_info_v2 */
typedef struct _DMA_TRANSFER_INFO_V2 {
    ULONG MapRegisterCount;
    ULONG ScatterGatherElementCount;
    ULONG ScatterGatherListSize;
    ULONG LogicalPageCount;
} DMA_TRANSFER_INFO_V2, *PDMA_TRANSFER_INFO_V2;

/* Doc: wdm/ns-wdm-_dma_transfer_info */
typedef struct _DMA_TRANSFER_INFO {
    ULONG Version;                  /* DMA_TRANSFER_INFO_VERSION* */
    union {
        DMA_TRANSFER_INFO_V1 V1;
        DMA_TRANSFER_INFO_V2 V2;
    };
} DMA_TRANSFER_INFO, *PDMA_TRANSFER_INFO;
C_ASSERT(sizeof(DMA_TRANSFER_INFO) == 20);

/* IRQL <= DISPATCH_LEVEL. Doc: wdm/nc-wdm-pget_dma_adapter_info */
typedef NTSTATUS (*PGET_DMA_ADAPTER_INFO)(PDMA_ADAPTER DmaAdapter, PDMA_ADAPTER_INFO AdapterInfo);

/* IRQL <= DISPATCH_LEVEL. Doc: wdm/nc-wdm-pget_dma_transfer_info */
typedef NTSTATUS (*PGET_DMA_TRANSFER_INFO)(PDMA_ADAPTER DmaAdapter, PMDL Mdl, ULONGLONG Offset, ULONG Length, BOOLEAN WriteOnly,
                                           PDMA_TRANSFER_INFO TransferInfo);

/* IRQL <= DISPATCH_LEVEL. Doc: wdm/nc-wdm-pinitialize_dma_transfer_context */
typedef NTSTATUS (*PINITIALIZE_DMA_TRANSFER_CONTEXT)(PDMA_ADAPTER DmaAdapter, PVOID DmaTransferContext);

/* PASSIVE_LEVEL. Doc: wdm/nc-wdm-pallocate_common_buffer_ex */
typedef PVOID (*PALLOCATE_COMMON_BUFFER_EX)(PDMA_ADAPTER DmaAdapter, PPHYSICAL_ADDRESS MaximumAddress, ULONG Length,
                                            PPHYSICAL_ADDRESS LogicalAddress, BOOLEAN CacheEnabled,
                                            NODE_REQUIREMENT PreferredNode);

/* DISPATCH_LEVEL. Doc: wdm/nc-wdm-pallocate_adapter_channel_ex */
typedef NTSTATUS (*PALLOCATE_ADAPTER_CHANNEL_EX)(PDMA_ADAPTER DmaAdapter, PDEVICE_OBJECT DeviceObject, PVOID DmaTransferContext,
                                                 ULONG NumberOfMapRegisters, ULONG Flags, PDRIVER_CONTROL ExecutionRoutine,
                                                 PVOID ExecutionContext, PVOID *MapRegisterBase);

/* IRQL <= DISPATCH_LEVEL. Doc: wdm/nc-wdm-pconfigure_adapter_channel */
typedef NTSTATUS (*PCONFIGURE_ADAPTER_CHANNEL)(PDMA_ADAPTER DmaAdapter, ULONG FunctionNumber, PVOID Context);

/* IRQL <= DISPATCH_LEVEL. Doc: wdm/nc-wdm-pcancel_adapter_channel */
typedef BOOLEAN (*PCANCEL_ADAPTER_CHANNEL)(PDMA_ADAPTER DmaAdapter, PDEVICE_OBJECT DeviceObject, PVOID DmaTransferContext);

/* IRQL <= DISPATCH_LEVEL. Doc: wdm/nc-wdm-pmap_transfer_ex */
typedef NTSTATUS (*PMAP_TRANSFER_EX)(PDMA_ADAPTER DmaAdapter, PMDL Mdl, PVOID MapRegisterBase, ULONGLONG Offset,
                                     ULONG DeviceOffset, PULONG Length, BOOLEAN WriteToDevice,
                                     PSCATTER_GATHER_LIST ScatterGatherBuffer, ULONG ScatterGatherBufferLength,
                                     PDMA_COMPLETION_ROUTINE DmaCompletionRoutine, PVOID CompletionContext);

/* IRQL <= DISPATCH_LEVEL. Doc: wdm/nc-wdm-pget_scatter_gather_list_ex */
typedef NTSTATUS (*PGET_SCATTER_GATHER_LIST_EX)(PDMA_ADAPTER DmaAdapter, PDEVICE_OBJECT DeviceObject, PVOID DmaTransferContext,
                                                PMDL Mdl, ULONGLONG Offset, ULONG Length, ULONG Flags,
                                                PDRIVER_LIST_CONTROL ExecutionRoutine, PVOID Context, BOOLEAN WriteToDevice,
                                                PDMA_COMPLETION_ROUTINE DmaCompletionRoutine, PVOID CompletionContext,
                                                PSCATTER_GATHER_LIST *ScatterGatherList);

/* DISPATCH_LEVEL. Doc: wdm/nc-wdm-pbuild_scatter_gather_list_ex */
typedef NTSTATUS (*PBUILD_SCATTER_GATHER_LIST_EX)(PDMA_ADAPTER DmaAdapter, PDEVICE_OBJECT DeviceObject, PVOID DmaTransferContext,
                                                  PMDL Mdl, ULONGLONG Offset, ULONG Length, ULONG Flags,
                                                  PDRIVER_LIST_CONTROL ExecutionRoutine, PVOID Context, BOOLEAN WriteToDevice,
                                                  PVOID ScatterGatherBuffer, ULONG ScatterGatherLength,
                                                  PDMA_COMPLETION_ROUTINE DmaCompletionRoutine, PVOID CompletionContext,
                                                  PVOID ScatterGatherList);

/* IRQL <= DISPATCH_LEVEL. Doc: wdm/nc-wdm-pflush_adapter_buffers_ex */
typedef NTSTATUS (*PFLUSH_ADAPTER_BUFFERS_EX)(PDMA_ADAPTER DmaAdapter, PMDL Mdl, PVOID MapRegisterBase, ULONGLONG Offset,
                                              ULONG Length, BOOLEAN WriteToDevice);

/* IRQL <= DISPATCH_LEVEL. Doc: wdm/nc-wdm-pfree_adapter_object */
typedef VOID (*PFREE_ADAPTER_OBJECT)(PDMA_ADAPTER DmaAdapter, IO_ALLOCATION_ACTION AllocationAction);

/* IRQL <= DISPATCH_LEVEL. Doc: wdm/nc-wdm-pcancel_mapped_transfer */
typedef NTSTATUS (*PCANCEL_MAPPED_TRANSFER)(PDMA_ADAPTER DmaAdapter, PVOID DmaTransferContext);

/* ---- What Windows 10 and later add ---------------------------------------------------------------------- */

typedef struct _DMA_COMMON_BUFFER_VECTOR *PDMA_COMMON_BUFFER_VECTOR;

/* Doc: wdm/ne-wdm-_dma_common_buffer_extended_configuration_type */
typedef enum _DMA_COMMON_BUFFER_EXTENDED_CONFIGURATION_TYPE {
    CommonBufferConfigTypeLogicalAddressLimits,
    CommonBufferConfigTypeSubSection,
    CommonBufferConfigTypeHardwareAccessPermissions,
    CommonBufferConfigTypeMax
} DMA_COMMON_BUFFER_EXTENDED_CONFIGURATION_TYPE, *PDMA_COMMON_BUFFER_EXTENDED_CONFIGURATION_TYPE;

/* Doc: wdm/ne-wdm-dma_common_buffer_extended_configuration_access_type */
typedef enum _DMA_COMMON_BUFFER_EXTENDED_CONFIGURATION_ACCESS_TYPE {
    CommonBufferHardwareAccessReadOnly,
    CommonBufferHardwareAccessWriteOnly,
    CommonBufferHardwareAccessReadWrite,
    CommonBufferHardwareAccessMax
} DMA_COMMON_BUFFER_EXTENDED_CONFIGURATION_ACCESS_TYPE, *PDMA_COMMON_BUFFER_EXTENDED_CONFIGURATION_ACCESS_TYPE;

/* Doc: wdm/ns-wdm-dma_common_buffer_extended_configuration */
typedef struct _DMA_COMMON_BUFFER_EXTENDED_CONFIGURATION {
    DMA_COMMON_BUFFER_EXTENDED_CONFIGURATION_TYPE ConfigType;
    union {
        struct {
            PHYSICAL_ADDRESS MinimumAddress;
            PHYSICAL_ADDRESS MaximumAddress;
        } LogicalAddressLimits;
        struct {
            ULONGLONG Offset;
            ULONG Length;
        } SubSection;
        DMA_COMMON_BUFFER_EXTENDED_CONFIGURATION_ACCESS_TYPE HardwareAccessType;
        ULONGLONG Reserved[4];
    };
} DMA_COMMON_BUFFER_EXTENDED_CONFIGURATION, *PDMA_COMMON_BUFFER_EXTENDED_CONFIGURATION;

/* Doc: wdm/nc-wdm-pallocate_domain_common_buffer */
typedef NTSTATUS (*PALLOCATE_DOMAIN_COMMON_BUFFER)(PDMA_ADAPTER DmaAdapter, HANDLE DomainHandle, PPHYSICAL_ADDRESS MaximumAddress,
                                                   ULONG Length, ULONG Flags, MEMORY_CACHING_TYPE *CacheType,
                                                   NODE_REQUIREMENT PreferredNode, PPHYSICAL_ADDRESS LogicalAddress,
                                                   PVOID *VirtualAddress);

/* Doc: wdm/nc-wdm-pflush_dma_buffer */
typedef NTSTATUS (*PFLUSH_DMA_BUFFER)(PDMA_ADAPTER DmaAdapter, PMDL Mdl, BOOLEAN ReadOperation);

/* Doc: wdm/nc-wdm-pjoin_dma_domain */
typedef NTSTATUS (*PJOIN_DMA_DOMAIN)(PDMA_ADAPTER DmaAdapter, HANDLE DomainHandle);

/* Doc: wdm/nc-wdm-pleave_dma_domain */
typedef NTSTATUS (*PLEAVE_DMA_DOMAIN)(PDMA_ADAPTER DmaAdapter);

/* Doc: wdm/nc-wdm-pget_dma_domain */
typedef HANDLE (*PGET_DMA_DOMAIN)(PDMA_ADAPTER DmaAdapter);

/* PASSIVE_LEVEL. Doc: wdm/nc-wdm-pallocate_common_buffer_with_bounds */
typedef PVOID (*PALLOCATE_COMMON_BUFFER_WITH_BOUNDS)(PDMA_ADAPTER DmaAdapter, PPHYSICAL_ADDRESS MinimumAddress,
                                                     PPHYSICAL_ADDRESS MaximumAddress, ULONG Length, ULONG Flags,
                                                     MEMORY_CACHING_TYPE *CacheType, NODE_REQUIREMENT PreferredNode,
                                                     PPHYSICAL_ADDRESS LogicalAddress);

/* PASSIVE_LEVEL. Doc: wdm/nc-wdm-pallocate_common_buffer_vector */
typedef NTSTATUS (*PALLOCATE_COMMON_BUFFER_VECTOR)(PDMA_ADAPTER DmaAdapter, PHYSICAL_ADDRESS LowAddress,
                                                   PHYSICAL_ADDRESS HighAddress, MEMORY_CACHING_TYPE CacheType, ULONG IdealNode,
                                                   ULONG Flags, ULONG NumberOfElements, ULONGLONG SizeOfElements,
                                                   PDMA_COMMON_BUFFER_VECTOR *VectorOut);

/* Doc: wdm/nc-wdm-pget_common_buffer_from_vector_by_index */
typedef VOID (*PGET_COMMON_BUFFER_FROM_VECTOR_BY_INDEX)(PDMA_ADAPTER DmaAdapter, PDMA_COMMON_BUFFER_VECTOR Vector, ULONG Index,
                                                        PVOID *VirtualAddressOut, PPHYSICAL_ADDRESS LogicalAddressOut);

/* Doc: wdm/nc-wdm-pfree_common_buffer_from_vector */
typedef VOID (*PFREE_COMMON_BUFFER_FROM_VECTOR)(PDMA_ADAPTER DmaAdapter, PDMA_COMMON_BUFFER_VECTOR Vector, ULONG Index);

/* Doc: wdm/nc-wdm-pfree_common_buffer_vector */
typedef VOID (*PFREE_COMMON_BUFFER_VECTOR)(PDMA_ADAPTER DmaAdapter, PDMA_COMMON_BUFFER_VECTOR Vector);

/* Doc: wdm/nc-wdm-pcreate-common-buffer-from-mdl */
typedef NTSTATUS (*PCREATE_COMMON_BUFFER_FROM_MDL)(PDMA_ADAPTER DmaAdapter, PMDL Mdl,
                                                   PDMA_COMMON_BUFFER_EXTENDED_CONFIGURATION ExtendedConfigs,
                                                   ULONG ExtendedConfigsCount, PPHYSICAL_ADDRESS LogicalAddress);

/* ---- The table ------------------------------------------------------------------------------------------ */

/* Doc: wdm/ns-wdm-_dma_operations */
typedef struct _DMA_OPERATIONS {
    ULONG Size;
    PPUT_DMA_ADAPTER PutDmaAdapter;
    PALLOCATE_COMMON_BUFFER AllocateCommonBuffer;
    PFREE_COMMON_BUFFER FreeCommonBuffer;
    PALLOCATE_ADAPTER_CHANNEL AllocateAdapterChannel;
    PFLUSH_ADAPTER_BUFFERS FlushAdapterBuffers;
    PFREE_ADAPTER_CHANNEL FreeAdapterChannel;
    PFREE_MAP_REGISTERS FreeMapRegisters;
    PMAP_TRANSFER MapTransfer;
    PGET_DMA_ALIGNMENT GetDmaAlignment;
    PREAD_DMA_COUNTER ReadDmaCounter;
    PGET_SCATTER_GATHER_LIST GetScatterGatherList;
    PPUT_SCATTER_GATHER_LIST PutScatterGatherList;
    PCALCULATE_SCATTER_GATHER_LIST_SIZE CalculateScatterGatherList;
    PBUILD_SCATTER_GATHER_LIST BuildScatterGatherList;
    PBUILD_MDL_FROM_SCATTER_GATHER_LIST BuildMdlFromScatterGatherList;
    PGET_DMA_ADAPTER_INFO GetDmaAdapterInfo;
    PGET_DMA_TRANSFER_INFO GetDmaTransferInfo;
    PINITIALIZE_DMA_TRANSFER_CONTEXT InitializeDmaTransferContext;
    PALLOCATE_COMMON_BUFFER_EX AllocateCommonBufferEx;
    PALLOCATE_ADAPTER_CHANNEL_EX AllocateAdapterChannelEx;
    PCONFIGURE_ADAPTER_CHANNEL ConfigureAdapterChannel;
    PCANCEL_ADAPTER_CHANNEL CancelAdapterChannel;
    PMAP_TRANSFER_EX MapTransferEx;
    PGET_SCATTER_GATHER_LIST_EX GetScatterGatherListEx;
    PBUILD_SCATTER_GATHER_LIST_EX BuildScatterGatherListEx;
    PFLUSH_ADAPTER_BUFFERS_EX FlushAdapterBuffersEx;
    PFREE_ADAPTER_OBJECT FreeAdapterObject;
    PCANCEL_MAPPED_TRANSFER CancelMappedTransfer;
    PALLOCATE_DOMAIN_COMMON_BUFFER AllocateDomainCommonBuffer;
    PFLUSH_DMA_BUFFER FlushDmaBuffer;
    PJOIN_DMA_DOMAIN JoinDmaDomain;
    PLEAVE_DMA_DOMAIN LeaveDmaDomain;
    PGET_DMA_DOMAIN GetDmaDomain;
    PALLOCATE_COMMON_BUFFER_WITH_BOUNDS AllocateCommonBufferWithBounds;
    PALLOCATE_COMMON_BUFFER_VECTOR AllocateCommonBufferVector;
    PGET_COMMON_BUFFER_FROM_VECTOR_BY_INDEX GetCommonBufferFromVectorByIndex;
    PFREE_COMMON_BUFFER_FROM_VECTOR FreeCommonBufferFromVector;
    PFREE_COMMON_BUFFER_VECTOR FreeCommonBufferVector;
    PCREATE_COMMON_BUFFER_FROM_MDL CreateCommonBufferFromMdl;
} DMA_OPERATIONS, *PDMA_OPERATIONS;
C_ASSERT(offsetof(DMA_OPERATIONS, PutDmaAdapter) == 8 && offsetof(DMA_OPERATIONS, PutScatterGatherList) == 96);
C_ASSERT(offsetof(DMA_OPERATIONS, CalculateScatterGatherList) == 104 && offsetof(DMA_OPERATIONS, GetDmaAdapterInfo) == 128);
C_ASSERT(offsetof(DMA_OPERATIONS, AllocateDomainCommonBuffer) == 232 && sizeof(DMA_OPERATIONS) == 320);

EXTERN_C_START

/* The adapter of a device as it is described, and how many map registers one transfer may use; NULL: the version is not
   supported, or memory is short. Given back by PutDmaAdapter. PASSIVE_LEVEL. Doc: wdm/nf-wdm-iogetdmaadapter */
NTKERNELAPI PDMA_ADAPTER IoGetDmaAdapter(PDEVICE_OBJECT PhysicalDeviceObject, PDEVICE_DESCRIPTION DeviceDescription,
                                         PULONG NumberOfMapRegisters);

EXTERN_C_END

#endif /* PINION_WDK_WDM_DMA_H */
