/* SPDX-License-Identifier: MIT */
/*
 * pinion_print_irp, in the layout of the debugger's !irp: the lowest driver's stack location first, `>` at the current one, two lines and
 * the arguments for each; what !irp shows when asked for details follows.
 */

#include "debug/debug.h"

#include "io/io.h"

#include <stdio.h>

/* ---- function codes ---- */

static const char *const majors[IRP_MJ_MAXIMUM_FUNCTION + 1] = {
#define NAME(code) [code] = #code
    NAME(IRP_MJ_CREATE), NAME(IRP_MJ_CREATE_NAMED_PIPE), NAME(IRP_MJ_CLOSE), NAME(IRP_MJ_READ), NAME(IRP_MJ_WRITE),
    NAME(IRP_MJ_QUERY_INFORMATION), NAME(IRP_MJ_SET_INFORMATION), NAME(IRP_MJ_QUERY_EA), NAME(IRP_MJ_SET_EA), NAME(IRP_MJ_FLUSH_BUFFERS),
    NAME(IRP_MJ_QUERY_VOLUME_INFORMATION), NAME(IRP_MJ_SET_VOLUME_INFORMATION), NAME(IRP_MJ_DIRECTORY_CONTROL),
    NAME(IRP_MJ_FILE_SYSTEM_CONTROL), NAME(IRP_MJ_DEVICE_CONTROL), NAME(IRP_MJ_INTERNAL_DEVICE_CONTROL), NAME(IRP_MJ_SHUTDOWN),
    NAME(IRP_MJ_LOCK_CONTROL), NAME(IRP_MJ_CLEANUP), NAME(IRP_MJ_CREATE_MAILSLOT), NAME(IRP_MJ_QUERY_SECURITY),
    NAME(IRP_MJ_SET_SECURITY), NAME(IRP_MJ_POWER), NAME(IRP_MJ_SYSTEM_CONTROL), NAME(IRP_MJ_DEVICE_CHANGE), NAME(IRP_MJ_QUERY_QUOTA),
    NAME(IRP_MJ_SET_QUOTA), NAME(IRP_MJ_PNP),
};

/* Those of IRP_MJ_PNP; the minor codes of other functions have names of their own kind, and are shown as numbers. */
static const char *const pnp_minors[] = {
    NAME(IRP_MN_START_DEVICE), NAME(IRP_MN_QUERY_REMOVE_DEVICE), NAME(IRP_MN_REMOVE_DEVICE), NAME(IRP_MN_CANCEL_REMOVE_DEVICE),
    NAME(IRP_MN_STOP_DEVICE), NAME(IRP_MN_QUERY_STOP_DEVICE), NAME(IRP_MN_CANCEL_STOP_DEVICE), NAME(IRP_MN_QUERY_DEVICE_RELATIONS),
    NAME(IRP_MN_QUERY_INTERFACE), NAME(IRP_MN_QUERY_CAPABILITIES), NAME(IRP_MN_QUERY_RESOURCES), NAME(IRP_MN_SURPRISE_REMOVAL),
#undef NAME
};

static const char *major_name(UCHAR code)
{
    return code <= IRP_MJ_MAXIMUM_FUNCTION && majors[code] != NULL ? majors[code] : "?";
}

static const char *minor_name(const IO_STACK_LOCATION *location)
{
    const bool named = location->MajorFunction == IRP_MJ_PNP && location->MinorFunction < ARRAYSIZE(pnp_minors);

    return named && pnp_minors[location->MinorFunction] != NULL ? pnp_minors[location->MinorFunction] : "N/A";
}

/* ---- one stack location ---- */

static void print_control(UCHAR control)
{
    ke_print("%s%s%s%s\n", control & SL_INVOKE_ON_SUCCESS ? " Success" : "", control & SL_INVOKE_ON_ERROR ? " Error" : "",
             control & SL_INVOKE_ON_CANCEL ? " Cancel" : "", control & SL_PENDING_RETURNED ? " pending" : "");
}

static void print_location(const IO_STACK_LOCATION *location, bool is_current)
{
    const ULONG_PTR *arguments = (const ULONG_PTR *)(const void *)&location->Parameters;
    char driver[DEBUG_PLACE], routine[DEBUG_PLACE];

    ke_print("%c[%s(%x), %s(%x)]\n", is_current ? '>' : ' ', major_name(location->MajorFunction), location->MajorFunction,
             minor_name(location), location->MinorFunction);
    ke_print("          %3x %2x %012lx %012lx %012lx-%012lx", location->Flags, location->Control, (ULONG_PTR)location->DeviceObject,
             (ULONG_PTR)location->FileObject, (ULONG_PTR)location->CompletionRoutine, (ULONG_PTR)location->Context);
    print_control(location->Control);
    if (location->DeviceObject != NULL)
        ke_print("           %s\n", debug_driver_of(location->DeviceObject, driver));
    if (location->CompletionRoutine != NULL)
        ke_print("           %s\n",
                 debug_routine((const void *)(ULONG_PTR)io_completion_of(location->CompletionRoutine, location->Context), routine));
    ke_print("            Args: %08lx %08lx %08lx %08lx\n", arguments[0], arguments[1], arguments[2], arguments[3]);
}

/* ---- the IRP ---- */

/* A copy of the IRP. False: a line says why there is none. */
static bool read_irp(struct machine *machine, PIRP va, IRP *irp)
{
    const struct io_slot *slot = io_slot_of(machine, va);
    const char *why = NULL;

    if (!debug_peek(va, irp))
        why = "nothing can be read there";
    else if (slot != NULL && !atomic_load(&slot->live))
        why = "the memory is IoAllocateIrp's, and no IRP is there now";
    else if (irp->Type != IO_TYPE_IRP)
        why = "its Type is not IO_TYPE_IRP";
    else if (irp->StackCount < 0 || irp->CurrentLocation < 0 || irp->CurrentLocation > irp->StackCount + 2)
        why = "its stack cannot be";
    if (why != NULL)
        ke_print("%p is no IRP: %s.\n", (void *)va, why);
    return why == NULL;
}

static void print_summary(const IRP *irp)
{
    ke_print("Irp is active with %d stacks %d is current (= %p)\n", irp->StackCount, irp->CurrentLocation,
             (void *)irp->Tail.Overlay.CurrentStackLocation);
    if (irp->CurrentLocation == irp->StackCount + 1)
        ke_print(" It is with its maker: not sent, or all completion routines have run\n");
    else if (irp->CurrentLocation == irp->StackCount + 2)
        ke_print(" It is complete\n");
    if (irp->MdlAddress != NULL)
        ke_print(" Mdl=%p:", (void *)irp->MdlAddress);
    else
        ke_print(" No Mdl:");
    if ((irp->Flags & IRP_ASSOCIATED_IRP) != 0)
        ke_print(" Master irp=%p:", (void *)irp->AssociatedIrp.MasterIrp);
    else if (irp->AssociatedIrp.SystemBuffer != NULL)
        ke_print(" System buffer=%p:", irp->AssociatedIrp.SystemBuffer);
    else
        ke_print(" No System Buffer:");
    ke_print(" Thread %p:  Irp stack trace.%s\n", (void *)irp->Tail.Overlay.Thread, irp->PendingReturned ? "  Pending has been returned" : "");
}

static void print_stack_locations(PIRP va, const IRP *irp)
{
    const IO_STACK_LOCATION *locations = (const IO_STACK_LOCATION *)(va + 1);

    ke_print("          flg cl Device       File         Completion-Context\n");
    for (CHAR i = 1; i <= irp->StackCount; i++) {
        IO_STACK_LOCATION location;

        if (!debug_peek(&locations[i - 1], &location)) {
            ke_print(" location %d cannot be read\n", i);
            return;
        }
        print_location(&location, i == irp->CurrentLocation);
    }
}

static void print_details(struct machine *machine, PIRP va, const IRP *irp)
{
    static const struct debug_bit flags[] = {
        {IRP_NOCACHE, "IRP_NOCACHE"}, {IRP_PAGING_IO, "IRP_PAGING_IO"}, {IRP_SYNCHRONOUS_API, "IRP_SYNCHRONOUS_API"},
        {IRP_ASSOCIATED_IRP, "IRP_ASSOCIATED_IRP"}, {IRP_BUFFERED_IO, "IRP_BUFFERED_IO"}, {IRP_DEALLOCATE_BUFFER, "IRP_DEALLOCATE_BUFFER"},
        {IRP_INPUT_OPERATION, "IRP_INPUT_OPERATION"}, {IRP_READ_OPERATION, "IRP_READ_OPERATION"}, {IRP_WRITE_OPERATION, "IRP_WRITE_OPERATION"},
        {IRP_CREATE_OPERATION, "IRP_CREATE_OPERATION"}, {IRP_CLOSE_OPERATION, "IRP_CLOSE_OPERATION"},
        {IRP_DEFER_IO_COMPLETION, "IRP_DEFER_IO_COMPLETION"}, {0, NULL}};
    const struct io_slot *slot = io_slot_of(machine, va);
    char routine[DEBUG_PLACE];

    ke_print("Flags = 0x%08x", irp->Flags);
    debug_print_bits(flags, irp->Flags);
    ke_print("\nIoStatus.Status = 0x%08X  Information = 0x%lx\n", (ULONG)irp->IoStatus.Status, irp->IoStatus.Information);
    ke_print("RequestorMode = %s  Cancel = %d  CancelRoutine = %s\n", irp->RequestorMode == KernelMode ? "KernelMode" : "UserMode",
             irp->Cancel, irp->CancelRoutine == NULL ? "none" : debug_routine((const void *)(ULONG_PTR)irp->CancelRoutine, routine));
    ke_print("UserBuffer = %p  UserIosb = %p  UserEvent = %p\n", irp->UserBuffer, (void *)irp->UserIosb, (void *)irp->UserEvent);
    ke_print("Made by %s\n", slot == NULL ? "a driver, in memory of its own" : io_maker_name(slot));
}

void pinion_print_irp(PIRP irp)
{
    struct machine *machine = debug_begin();
    IRP copy;

    if (machine != NULL && read_irp(machine, irp, &copy)) {
        print_summary(&copy);
        print_stack_locations(irp, &copy);
        print_details(machine, irp, &copy);
    }
    debug_end();
}
