/* SPDX-License-Identifier: MIT */
/*
 * What unmodified driver source asks of a compiler on Linux, in one translation unit: it must compile, as C
 * and as C++, with the flags that a driver author gets, and without a warning. Nothing here runs; inline.c
 * checks what the headers compute. Structured exceptions are not here: a tool rewrites them before the
 * compiler sees them.
 */

/* The names of the first vintage in C++ as well. */
#define PINION_SAL1
#include <ntifs.h>
#include <initguid.h>
#include <limits.h>
#include <specstrings.h>
#include <wchar.h>

EXTERN_C_START

/* ---- The data model ------------------------------------------------------------------------------------ */

C_ASSERT(sizeof(ULONG) == 4 && sizeof(LONG) == 4 && sizeof(DWORD) == 4);
C_ASSERT(sizeof(ULONG_PTR) == 8 && sizeof(SIZE_T) == 8 && sizeof(HANDLE) == 8 && sizeof(PVOID) == 8);
C_ASSERT(sizeof(unsigned __int64) == 8 && sizeof(__int32) == 4 && sizeof(__int16) == 2 && sizeof(__int8) == 1);
C_ASSERT(sizeof(WCHAR) == 2 && sizeof(L"ab") == 6);
C_ASSERT(sizeof(BOOLEAN) == 1 && sizeof(KIRQL) == 1 && sizeof(NTSTATUS) == 4);
C_ASSERT((LONG)-1 < 0 && (ULONG)-1 > 0 && (CCHAR)-1 < 0);

#if ULONG_MAX != 0xffffffff || LONG_MAX != 0x7fffffff || LONG_MIN >= 0
#error "ULONG_MAX, LONG_MAX and LONG_MIN are those of a 32-bit long"
#endif

/* ---- Control codes past the sign bit, tags, GUIDs ------------------------------------------------------ */

#define TOOL_DEVICE_TYPE 0x8337
#define TOOL_ACCESS      (FILE_READ_ACCESS | FILE_WRITE_ACCESS)
#define IOCTL_TOOL_READ  (ULONG)CTL_CODE(TOOL_DEVICE_TYPE, 0x801, METHOD_OUT_DIRECT, TOOL_ACCESS)
#define IOCTL_TOOL_WRITE CTL_CODE(FILE_DEVICE_UNKNOWN, 0x802, METHOD_IN_DIRECT, FILE_ANY_ACCESS)
#define TOOL_TAG         0x6c6f6f54

C_ASSERT(IOCTL_TOOL_READ == 0x8337E006U);
C_ASSERT(IOCTL_TOOL_WRITE == 0x222009);
C_ASSERT(DEVICE_TYPE_FROM_CTL_CODE(IOCTL_TOOL_READ) == TOOL_DEVICE_TYPE);
C_ASSERT(METHOD_FROM_CTL_CODE(IOCTL_TOOL_WRITE) == METHOD_IN_DIRECT);

DEFINE_GUID(GUID_TOOL_INTERFACE, 0x1b2c3d4e, 0x0011, 0x2233, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb);

/* ---- Storage classes, calling conventions, __declspec -------------------------------------------------- */

static FORCEINLINE ULONG RoundUp(ULONG Value, ULONG Unit)
{
    return (Value + Unit - 1) / Unit * Unit;
}

FORCEINLINE static LONG __cdecl Negate(LONG Value)
{
    return -Value;
}

static __forceinline PVOID AddBytes(PVOID Base, SIZE_T Bytes)
{
    return (PUCHAR)Base + Bytes;
}

typedef __declspec(align(64)) struct _TOOL_COUNTERS {
    volatile LONG Outstanding;
    volatile LONG64 Bytes;
} TOOL_COUNTERS, *PTOOL_COUNTERS;

typedef struct DECLSPEC_CACHEALIGN _TOOL_SLOT {
    LIST_ENTRY Entry;
    ULONG Key;
} TOOL_SLOT, *PTOOL_SLOT;
C_ASSERT(sizeof(TOOL_SLOT) == 64);

__declspec(selectany) ULONG ToolDebugLevel = 1;
extern __declspec(dllimport) ULONG ToolImported;
__declspec(noinline) VOID NTAPI ToolNoInline(VOID);
__declspec(dllexport) VOID __stdcall ToolExported(VOID);
DECLSPEC_NORETURN VOID ToolGivesUp(_In_ ULONG Where);
__declspec(noreturn) VOID FASTCALL ToolGivesUpFast(IN ULONG Where);

/* An enumeration named before it is defined: gcc and clang take it in C; C++ wants its underlying type. */
#ifndef __cplusplus
typedef enum _TOOL_STATE TOOL_STATE;
VOID ToolEnter(enum _TOOL_STATE *State);
#endif
enum _TOOL_STATE { ToolIdle, ToolBusy };

/* ---- Annotations of every vintage ---------------------------------------------------------------------- */

typedef struct _TOOL_BUFFER {
    ULONG Length;
    _Field_size_bytes_(Length) UCHAR Data[ANYSIZE_ARRAY];
} TOOL_BUFFER, *PTOOL_BUFFER;

typedef struct _TOOL_EXTENSION {
    PDEVICE_OBJECT LowerDevice;
    _Guarded_by_(Lock) LIST_ENTRY Pending;
    KSPIN_LOCK Lock;
    KEVENT Idle;
    FAST_MUTEX Mutex;
    WORK_QUEUE_ITEM Work;
    TOOL_COUNTERS Counters;
    PMDL PartialMdl;
    UNICODE_STRING Name;
} TOOL_EXTENSION, *PTOOL_EXTENSION;

DRIVER_INITIALIZE DriverEntry;
DRIVER_UNLOAD ToolUnload;
DRIVER_ADD_DEVICE ToolAddDevice;
_Dispatch_type_(IRP_MJ_READ) _Dispatch_type_(IRP_MJ_WRITE) DRIVER_DISPATCH ToolReadWrite;
__drv_dispatchType(IRP_MJ_DEVICE_CONTROL) DRIVER_DISPATCH ToolControl;
IO_COMPLETION_ROUTINE ToolCompleted;
IO_WORKITEM_ROUTINE ToolWork;
KDEFERRED_ROUTINE ToolDpc;

_IRQL_requires_max_(DISPATCH_LEVEL)
_IRQL_requires_same_
_Must_inspect_result_
_Success_(return != NULL)
_When_((Flags & 1) != 0, _Post_notnull_)
PMDL ToolDescribe(_In_reads_bytes_(Length) PVOID Buffer, _In_ ULONG Length, _In_ ULONG Flags,
                  _Out_opt_ PULONG Pages);

_Acquires_lock_(Extension->Lock)
_IRQL_raises_(DISPATCH_LEVEL)
_IRQL_saves_
KIRQL ToolLock(_Inout_ PTOOL_EXTENSION Extension);

__drv_maxIRQL(DISPATCH_LEVEL)
__drv_allocatesMem(Mem)
__checkReturn
__success(return == 0)
NTSTATUS ToolOldStyle(__in PVOID Context, __in_bcount(Length) const VOID *Source, __in ULONG Length,
                      __out_bcount_part(OutLength, *Written) PVOID Target, __in ULONG OutLength,
                      __out PULONG Written, __inout_opt PULONG Spare, __reserved PVOID Reserved,
                      __deref_out_opt PVOID *Found);

NTSTATUS ToolOlderStyle(IN PVOID Context, OUT PULONG Written OPTIONAL, IN OUT PULONG Spare);

/* ---- Strings ------------------------------------------------------------------------------------------- */

static const UNICODE_STRING ToolDeviceName = RTL_CONSTANT_STRING(L"\\Device\\Tool");
static const ANSI_STRING ToolAnsiName = RTL_CONSTANT_STRING("Tool");
static const WCHAR ToolPrefix[] = L"\\DosDevices\\";

static BOOLEAN ToolSameName(PCUNICODE_STRING Name)
{
    DECLARE_CONST_UNICODE_STRING(Other, L"\\Device\\Other");
    DECLARE_UNICODE_STRING_SIZE(Copy, 128);

    RtlCopyUnicodeString(&Copy, Name);
    if (wcsncmp(Name->Buffer, ToolPrefix, wcslen(ToolPrefix)) == 0 || _wcsicmp(Copy.Buffer, L"tool") == 0)
        return TRUE;
    return RtlEqualUnicodeString(&Copy, &Other, TRUE) || Name->Length == ToolAnsiName.Length;
}

/* ---- Code ---------------------------------------------------------------------------------------------- */

VOID ToolUnload(PDRIVER_OBJECT DriverObject)
{
    PAGED_CODE();
    UNREFERENCED_PARAMETER(DriverObject);
    KdPrint(("Tool: unload %wZ, %ws, 0x%I64x, %IX\n", &ToolDeviceName, ToolPrefix, (ULONG64)1, (ULONG_PTR)2));
    DbgPrintEx(DPFLTR_IHVDRIVER_ID, DPFLTR_INFO_LEVEL, "Tool: gone, status %08lx\n", STATUS_SUCCESS);
}

PMDL ToolDescribe(PVOID Buffer, ULONG Length, ULONG Flags, PULONG Pages)
{
    PMDL Mdl = IoAllocateMdl(Buffer, Length, FALSE, FALSE, NULL);

    if (Mdl == NULL)
        return NULL;
    MmBuildMdlForNonPagedPool(Mdl);
    ASSERT(MmGetMdlByteCount(Mdl) == Length);
    NT_ASSERT((Flags & ~1U) == 0);
    if (ARGUMENT_PRESENT(Pages))
        *Pages = (ULONG)ADDRESS_AND_SIZE_TO_SPAN_PAGES(MmGetMdlVirtualAddress(Mdl), MmGetMdlByteCount(Mdl));
    if (FlagOn(Mdl->MdlFlags, MDL_SOURCE_IS_NONPAGED_POOL))
        return Mdl;
    IoFreeMdl(Mdl);
    UNREFERENCED_PARAMETER(Flags);
    return NULL;
}

KIRQL ToolLock(PTOOL_EXTENSION Extension)
{
    KIRQL OldIrql;

    KeAcquireSpinLock(&Extension->Lock, &OldIrql);
    return OldIrql;
}

NTSTATUS ToolCompleted(PDEVICE_OBJECT DeviceObject, PIRP Irp, PVOID Context)
{
    PTOOL_EXTENSION Extension = (PTOOL_EXTENSION)Context;

    UNREFERENCED_PARAMETER(DeviceObject);
    if (Irp->PendingReturned)
        IoMarkIrpPending(Irp);
    if (InterlockedDecrement(&Extension->Counters.Outstanding) == 0)
        KeSetEvent(&Extension->Idle, IO_NO_INCREMENT, FALSE);
    (VOID)InterlockedExchangeAdd64(&Extension->Counters.Bytes, (LONG64)Irp->IoStatus.Information);
    (VOID)_InterlockedOr(&Extension->Counters.Outstanding, 0);
    (VOID)_InterlockedIncrement64(&Extension->Counters.Bytes);
    return STATUS_CONTINUE_COMPLETION;
}

NTSTATUS ToolReadWrite(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    PTOOL_EXTENSION Extension = (PTOOL_EXTENSION)DeviceObject->DeviceExtension;
    PIO_STACK_LOCATION Stack = IoGetCurrentIrpStackLocation(Irp);
    const BOOLEAN Read = Stack->MajorFunction == IRP_MJ_READ;
    const ULONG Length = Read ? Stack->Parameters.Read.Length : Stack->Parameters.Write.Length;
    LARGE_INTEGER Offset = Stack->Parameters.Read.ByteOffset;
    PVOID Address = NULL;

    if (Irp->MdlAddress != NULL)
        Address = MmGetSystemAddressForMdlSafe(Irp->MdlAddress, NormalPagePriority | MdlMappingNoExecute);
    if (Address == NULL || Offset.QuadPart < 0 || Offset.u.HighPart != Offset.HighPart) {
        Irp->IoStatus.Status = STATUS_INSUFFICIENT_RESOURCES;
        Irp->IoStatus.Information = 0;
        IoCompleteRequest(Irp, IO_NO_INCREMENT);
        return STATUS_INSUFFICIENT_RESOURCES;
    }

    IoBuildPartialMdl(Irp->MdlAddress, Extension->PartialMdl, MmGetMdlVirtualAddress(Irp->MdlAddress),
                      min(Length, 512U));
    RtlZeroMemory(AddBytes(Address, 0), RoundUp(Length, 1));
    InterlockedIncrement(&Extension->Counters.Outstanding);
    IoCopyCurrentIrpStackLocationToNext(Irp);
    IoSetCompletionRoutine(Irp, ToolCompleted, Extension, TRUE, TRUE, TRUE);
    return IoCallDriver(Extension->LowerDevice, Irp);
}

NTSTATUS ToolControl(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    PIO_STACK_LOCATION Stack = IoGetCurrentIrpStackLocation(Irp);
    NTSTATUS Status = STATUS_SUCCESS;

    UNREFERENCED_PARAMETER(DeviceObject);
    switch (Stack->Parameters.DeviceIoControl.IoControlCode) {
    case IOCTL_TOOL_READ:
        Irp->IoStatus.Information = FIELD_OFFSET(TOOL_BUFFER, Data) + max(sizeof(ULONG), (SIZE_T)1);
        break;
    case IOCTL_TOOL_WRITE:
        Status = Negate(1) < 0 ? STATUS_INFO_LENGTH_MISMATCH : STATUS_SUCCESS;
        break;
    default:
        Status = STATUS_INVALID_DEVICE_REQUEST;
    }
    Irp->IoStatus.Status = Status;
    IoCompleteRequest(Irp, IO_NO_INCREMENT);
    return Status;
}

VOID ToolDpc(PKDPC Dpc, PVOID DeferredContext, PVOID SystemArgument1, PVOID SystemArgument2)
{
    PTOOL_EXTENSION Extension = (PTOOL_EXTENSION)DeferredContext;
    PLIST_ENTRY Entry;

    UNREFERENCED_PARAMETER(Dpc);
    UNREFERENCED_PARAMETER(SystemArgument1);
    UNREFERENCED_PARAMETER(SystemArgument2);
    while ((Entry = ExInterlockedRemoveHeadList(&Extension->Pending, &Extension->Lock)) != NULL)
        CONTAINING_RECORD(Entry, TOOL_SLOT, Entry)->Key = 0;
}

VOID ToolWork(PDEVICE_OBJECT DeviceObject, PVOID Context)
{
    LARGE_INTEGER Timeout;
    KAPC_STATE ApcState;

    UNREFERENCED_PARAMETER(DeviceObject);
    Timeout.QuadPart = -10 * 1000 * 1000;
    (VOID)KeWaitForSingleObject(&((PTOOL_EXTENSION)Context)->Idle, Executive, KernelMode, FALSE, &Timeout);
    KeStackAttachProcess(PsInitialSystemProcess, &ApcState);
    KeUnstackDetachProcess(&ApcState);
}

NTSTATUS ToolAddDevice(PDRIVER_OBJECT DriverObject, PDEVICE_OBJECT PhysicalDeviceObject)
{
    UNICODE_STRING Name;
    PDEVICE_OBJECT Device;
    PTOOL_EXTENSION Extension;
    NTSTATUS Status;

    PAGED_CODE();
    RtlInitUnicodeString(&Name, L"\\Device\\Tool0");
    Status = IoCreateDevice(DriverObject, sizeof(TOOL_EXTENSION), &Name, FILE_DEVICE_UNKNOWN,
                            FILE_DEVICE_SECURE_OPEN, FALSE, &Device);
    if (!NT_SUCCESS(Status))
        return Status;

    Extension = (PTOOL_EXTENSION)Device->DeviceExtension;
    KeInitializeSpinLock(&Extension->Lock);
    KeInitializeEvent(&Extension->Idle, NotificationEvent, TRUE);
    ExInitializeFastMutex(&Extension->Mutex);
    InitializeListHead(&Extension->Pending);
    Extension->LowerDevice = IoAttachDeviceToDeviceStack(Device, PhysicalDeviceObject);
    Extension->PartialMdl =
        (PMDL)ExAllocatePoolWithTag(NonPagedPoolNx, MmSizeOfMdl(NULL, 64 * 1024), TOOL_TAG);
    if (Extension->LowerDevice == NULL || Extension->PartialMdl == NULL || !ToolSameName(&ToolDeviceName)) {
        IoDeleteDevice(Device);
        return STATUS_NO_SUCH_DEVICE;
    }
    MmInitializeMdl(Extension->PartialMdl, NULL, 64 * 1024);
    Device->Flags |= DO_DIRECT_IO | DO_POWER_PAGABLE;
    Device->Flags &= ~DO_DEVICE_INITIALIZING;
    return STATUS_SUCCESS;
}

NTSTATUS DriverEntry(PDRIVER_OBJECT DriverObject, PUNICODE_STRING RegistryPath)
{
    ULONG i;

    UNREFERENCED_PARAMETER(RegistryPath);
    for (i = 0; i <= IRP_MJ_MAXIMUM_FUNCTION; i++)
        DriverObject->MajorFunction[i] = ToolControl;
    DriverObject->MajorFunction[IRP_MJ_READ] = DriverObject->MajorFunction[IRP_MJ_WRITE] = ToolReadWrite;
    DriverObject->DriverUnload = ToolUnload;
    DriverObject->DriverExtension->AddDevice = ToolAddDevice;
    return STATUS_SUCCESS;
}

EXTERN_C_END
