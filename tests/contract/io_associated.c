/* SPDX-License-Identifier: MIT */
/* Associated IRPs, which stand for the parts of a master IRP; and cancelling: IoMakeAssociatedIrp, IoCancelIrp. */

#include "io_stack.h"
#include "support.h"

enum { PARTS = 3 };

/* ---- a driver that splits ---------------------------------------------------------------------------------------- */

static PIRP parts[PARTS];
static PIRP master;
static bool keep_parts;

static NTSTATUS keep(HARNESS_UNUSED PDEVICE_OBJECT device, HARNESS_UNUSED PIRP irp, HARNESS_UNUSED PVOID context)
{
    return STATUS_MORE_PROCESSING_REQUIRED;
}

static ULONG part_bytes(ULONG bytes, unsigned i)
{
    return i + 1 < PARTS ? bytes / PARTS : bytes - bytes / PARTS * (PARTS - 1);
}

/* A part of the transfer, with a partial MDL that goes with it. */
static PIRP make_part(struct layer *layer, PIRP whole, unsigned i)
{
    const PIO_STACK_LOCATION from = IoGetCurrentIrpStackLocation(whole);
    const ULONG bytes = part_bytes(from->Parameters.Read.Length, i);
    const ULONG off = from->Parameters.Read.Length / PARTS * i;
    PIRP irp = IoMakeAssociatedIrp(whole, layer->lower->StackSize);
    PUCHAR va = (PUCHAR)MmGetMdlVirtualAddress(whole->MdlAddress) + off;
    PIO_STACK_LOCATION to = IoGetNextIrpStackLocation(irp);

    EXPECT(IoAllocateMdl(va, bytes, FALSE, FALSE, irp) != NULL);
    IoBuildPartialMdl(whole->MdlAddress, irp->MdlAddress, va, bytes);
    to->MajorFunction = from->MajorFunction;
    to->Parameters.Read.Length = bytes;
    to->Parameters.Read.ByteOffset.QuadPart = from->Parameters.Read.ByteOffset.QuadPart + off;
    if (keep_parts)
        IoSetCompletionRoutine(irp, keep, NULL, TRUE, TRUE, TRUE);
    return irp;
}

static NTSTATUS split(struct layer *layer, PIRP irp)
{
    master = irp;
    irp->IoStatus.Status = STATUS_SUCCESS;
    irp->IoStatus.Information = IoGetCurrentIrpStackLocation(irp)->Parameters.Read.Length;
    irp->AssociatedIrp.IrpCount = PARTS;
    IoMarkIrpPending(irp);
    for (unsigned i = 0; i < PARTS; i++)
        parts[i] = make_part(layer, irp, i);
    for (unsigned i = 0; i < PARTS; i++)
        IoCallDriver(layer->lower, parts[i]);
    return STATUS_PENDING;
}

/* Byte n of the device is the pattern's byte n. */
static void fill_part(PIRP irp)
{
    const PIO_STACK_LOCATION location = IoGetCurrentIrpStackLocation(irp);
    UCHAR *va = system_address(irp->MdlAddress);

    for (ULONG i = 0; i < location->Parameters.Read.Length; i++)
        va[i] = pattern_byte(3, (SIZE_T)location->Parameters.Read.ByteOffset.QuadPart + i);
}

static NTSTATUS fill_and_succeed(HARNESS_UNUSED struct layer *layer, PIRP irp)
{
    fill_part(irp);
    return complete_with_success(layer, irp);
}

static NTSTATUS fill_and_keep(HARNESS_UNUSED struct layer *layer, PIRP irp)
{
    fill_part(irp);
    IoMarkIrpPending(irp);
    return STATUS_PENDING;
}

struct fixture {
    struct layer upper, lower;
    PFILE_OBJECT file;
};

static void open_fixture(struct fixture *f, NTSTATUS (*lower)(struct layer *, PIRP))
{
    layer_create(&f->lower, DO_DIRECT_IO, lower);
    layer_create(&f->upper, DO_DIRECT_IO, split);
    layer_attach(&f->upper, &f->lower);
    EXPECT_STATUS(pinion_open(f->lower.device, &f->file), STATUS_SUCCESS);
}

static void close_fixture(struct fixture *f)
{
    pinion_close(f->file);
    layer_destroy(&f->upper);
    layer_destroy(&f->lower);
}

static bool done;

static void note_done(HARNESS_UNUSED struct pinion_request *request)
{
    done = true;
}

/* ---- tests ------------------------------------------------------------------------------------------------------- */

/* The routines have the types of their pages. */
TEST(io_associated, prototypes__are_the_documented_ones)
{
    PIRP (*make)(PIRP, CCHAR) = &IoMakeAssociatedIrp;
    BOOLEAN (*cancel)(PIRP) = &IoCancelIrp;
    VOID (*acquire)(PKIRQL) = &IoAcquireCancelSpinLock;
    VOID (*release)(KIRQL) = &IoReleaseCancelSpinLock;

    EXPECT(make != NULL && cancel != NULL && acquire != NULL && release != NULL);
}

/* It names its master and the master's thread, says what it is, and is freed with IoFreeIrp; at DISPATCH_LEVEL too. */
TEST(io_associated, make__any_master__names_it)
{
    PIRP whole = IoAllocateIrp(2, FALSE), part;
    const KIRQL irql = raise_irql(DISPATCH_LEVEL);

    whole->Tail.Overlay.Thread = PsGetCurrentThread();
    part = IoMakeAssociatedIrp(whole, 5);
    EXPECT_PTR_EQ(part->AssociatedIrp.MasterIrp, whole);
    EXPECT_PTR_EQ(part->Tail.Overlay.Thread, PsGetCurrentThread());
    EXPECT_EQ(part->Flags & IRP_ASSOCIATED_IRP, IRP_ASSOCIATED_IRP);
    EXPECT_EQ(part->StackCount, 5);
    EXPECT_PTR_EQ(part->MdlAddress, NULL);
    IoFreeIrp(part);
    IoFreeIrp(whole);
    KeLowerIrql(irql);
}

/* No memory, or a stack that no IRP can have: NULL, and nothing is left. */
TEST(io_associated, make__impossible_or_no_memory__is_null)
{
    PIRP whole = IoAllocateIrp(1, FALSE);
    const struct pinion_counters before = counters_now();

    EXPECT_PTR_EQ(IoMakeAssociatedIrp(whole, -1), NULL);
    EXPECT_PTR_EQ(IoMakeAssociatedIrp(whole, 126), NULL);
    pinion_fail("IoMakeAssociatedIrp", 1);
    EXPECT_PTR_EQ(IoMakeAssociatedIrp(whole, 1), NULL);
    pinion_fail("internal", 1);
    EXPECT_PTR_EQ(IoMakeAssociatedIrp(whole, 1), NULL);
    EXPECT_SAME_COUNTERS(before);
    IoFreeIrp(IoMakeAssociatedIrp(whole, 1));
    IoFreeIrp(whole);
}

/* A transfer in parts arrives whole, and nothing of the parts is left: the I/O manager frees their MDLs and them. */
TEST(io_associated, parts__all_complete_at_once__master_is_complete)
{
    struct fixture f;
    UCHAR *buffer = user_pages(6, PAGE_READWRITE);
    struct pinion_request request = {.operation = PINION_READ, .buffer = buffer + 7, .bytes = 20000, .offset = 0};
    struct pinion_counters before;

    open_fixture(&f, fill_and_succeed);
    before = counters_now();
    EXPECT_STATUS(pinion_transfer(f.file, &request), STATUS_SUCCESS);
    EXPECT_EQ(request.information, 20000);
    EXPECT_PATTERN(buffer + 7, 20000, 3);
    EXPECT_SAME_COUNTERS(before);
    close_fixture(&f);
    pinion_user_free(buffer);
}

/* The master completes with the last part, in whatever order they come, and not before. */
TEST(io_associated, parts__complete_later__the_last_completes_the_master)
{
    static const unsigned orders[][PARTS] = {{0, 1, 2}, {2, 1, 0}, {1, 2, 0}};
    struct fixture f;
    UCHAR *buffer = user_pages(6, PAGE_READWRITE);
    struct pinion_request request = {.operation = PINION_READ, .buffer = buffer, .bytes = 20000, .done = note_done};

    open_fixture(&f, fill_and_keep);
    for (unsigned round = 0; round < sizeof(orders) / sizeof(orders[0]); round++) {
        done = false;
        memset(buffer, 0, 20000);
        EXPECT_STATUS(pinion_submit(f.file, &request), STATUS_PENDING);
        for (unsigned i = 0; i < PARTS; i++) {
            EXPECT(!done);
            EXPECT_EQ(master->AssociatedIrp.IrpCount, (LONG)(PARTS - i));
            EXPECT_EQ(counters_now().live_irps, PARTS - i + 1);
            layer_complete(parts[orders[round][i]], STATUS_SUCCESS, 0);
        }
        EXPECT(done);
        EXPECT_PATTERN(buffer, 20000, 3);
        EXPECT_EQ(counters_now().live_irps, 0);
    }
    close_fixture(&f);
    pinion_user_free(buffer);
}

/* A completion routine that keeps the parts keeps them from the count: the driver frees them and completes the master. */
TEST(io_associated, parts__kept_by_a_completion_routine__are_the_drivers)
{
    struct fixture f;
    UCHAR *buffer = user_pages(6, PAGE_READWRITE);
    struct pinion_request request = {.operation = PINION_READ, .buffer = buffer, .bytes = 20000, .done = note_done};

    keep_parts = true;
    open_fixture(&f, fill_and_succeed);
    EXPECT_STATUS(pinion_submit(f.file, &request), STATUS_PENDING);
    EXPECT(!done);
    EXPECT_EQ(master->AssociatedIrp.IrpCount, PARTS);
    for (unsigned i = 0; i < PARTS; i++) {
        IoFreeMdl(parts[i]->MdlAddress);
        IoFreeIrp(parts[i]);
    }
    layer_complete(master, STATUS_SUCCESS, 20000);
    EXPECT(done);
    EXPECT_PATTERN(buffer, 20000, 3);
    close_fixture(&f);
    pinion_user_free(buffer);
}

/* A master that does not count its parts never completes by them, and that is told. */
WARN_TEST(io_associated, parts__more_than_counted__warns, "associated-irp-count")
{
    struct layer lower;
    PIRP whole = IoAllocateIrp(1, FALSE), part;

    layer_create(&lower, DO_DIRECT_IO, complete_with_success);
    whole->AssociatedIrp.IrpCount = 0;
    part = IoMakeAssociatedIrp(whole, 1);
    IoGetNextIrpStackLocation(part)->MajorFunction = IRP_MJ_FLUSH_BUFFERS;
    IoCallDriver(lower.device, part);
    IoFreeIrp(whole);
    layer_destroy(&lower);
}

/* One that is lost is a leak, and is told. */
WARN_TEST(io_associated, make__never_freed__is_a_leak, "irp-leak")
{
    PIRP whole = IoAllocateIrp(1, FALSE);

    EXPECT(IoMakeAssociatedIrp(whole, 1) != NULL);
    IoFreeIrp(whole);
}

/* ---- cancelling -------------------------------------------------------------------------------------------------- */

static PIRP cancelled;
static PDEVICE_OBJECT cancelled_on;

static void finish_cancelled(PDEVICE_OBJECT device, PIRP irp)
{
    cancelled = irp;
    cancelled_on = device;
    EXPECT_EQ(KeGetCurrentIrql(), DISPATCH_LEVEL);
    EXPECT(irp->Cancel);
    EXPECT(irp->CancelRoutine == NULL);
    IoReleaseCancelSpinLock(irp->CancelIrql);
    layer_complete(irp, STATUS_CANCELLED, 0);
}

static NTSTATUS hold_cancelable(struct layer *layer, PIRP irp)
{
    IoSetCancelRoutine(irp, finish_cancelled);
    return hold(layer, irp);
}

static NTSTATUS note_and_keep(HARNESS_UNUSED PDEVICE_OBJECT device, PIRP irp, PVOID context)
{
    *(PIO_STATUS_BLOCK)context = irp->IoStatus;
    return STATUS_MORE_PROCESSING_REQUIRED;
}

static PIRP send_own(struct layer *layer, PIO_STATUS_BLOCK outcome)
{
    PIRP irp = IoAllocateIrp(1, FALSE);

    IoGetNextIrpStackLocation(irp)->MajorFunction = IRP_MJ_FLUSH_BUFFERS;
    IoSetCompletionRoutine(irp, note_and_keep, outcome, FALSE, FALSE, TRUE);
    EXPECT_STATUS(IoCallDriver(layer->device, irp), STATUS_PENDING);
    return irp;
}

/* The routine is called with the lock held and the bit set; it is called once, and a completion routine for cancelled IRPs
   sees the end. */
TEST(io_cancel, cancel__with_a_routine__calls_it)
{
    struct layer layer;
    IO_STATUS_BLOCK outcome = {0};
    PIRP irp;

    layer_create(&layer, 0, hold_cancelable);
    irp = send_own(&layer, &outcome);
    EXPECT_EQ(IoCancelIrp(irp), TRUE);
    EXPECT_EQ(KeGetCurrentIrql(), PASSIVE_LEVEL);
    EXPECT_PTR_EQ(cancelled, irp);
    EXPECT_PTR_EQ(cancelled_on, layer.device);
    EXPECT_STATUS(outcome.Status, STATUS_CANCELLED);
    EXPECT_EQ(IoCancelIrp(irp), FALSE);
    IoFreeIrp(irp);
    layer_destroy(&layer);
}

/* Without a routine only the bit is set; whoever takes the routine away has the IRP. */
TEST(io_cancel, cancel__without_a_routine__sets_the_bit)
{
    struct layer layer;
    IO_STATUS_BLOCK outcome = {0};
    PIRP irp;

    layer_create(&layer, 0, hold_cancelable);
    irp = send_own(&layer, &outcome);
    EXPECT(IoSetCancelRoutine(irp, NULL) == finish_cancelled);
    EXPECT(IoSetCancelRoutine(irp, NULL) == NULL);
    EXPECT_EQ(IoCancelIrp(irp), FALSE);
    EXPECT_EQ(irp->Cancel, TRUE);
    EXPECT_PTR_EQ(cancelled, NULL);
    layer_complete(irp, STATUS_SUCCESS, 5);
    EXPECT_EQ(outcome.Information, 5);
    IoFreeIrp(irp);
    layer_destroy(&layer);
}

/* A cancel routine that outlived its IRP's completion stops the machine. */
STOP_TEST_ANY_P1(io_cancel, cancel__of_a_completed_irp_with_a_routine__bug_check_0x48, 0x48)
{
    struct layer layer;
    PIRP irp;

    boot("verifier=off");
    irp = IoAllocateIrp(1, FALSE);
    layer_create(&layer, 0, complete_with_success);
    IoGetNextIrpStackLocation(irp)->MajorFunction = IRP_MJ_FLUSH_BUFFERS;
    IoCallDriver(layer.device, irp);
    IoSetCancelRoutine(irp, finish_cancelled);
    IoCancelIrp(irp);
}
