/* SPDX-License-Identifier: MIT */
/* IRPs as such: IoAllocateIrp, IoFreeIrp, IoReuseIrp, IoInitializeIrp. */

#include "io_stack.h"
#include "support.h"

#include <stdio.h>
#include <stdlib.h>

static bool list_is_empty(PLIST_ENTRY head)
{
    return head->Flink == head && head->Blink == head;
}

static void expect_fresh(PIRP irp, CCHAR stack_size, NTSTATUS status)
{
    EXPECT_EQ(irp->Type, IO_TYPE_IRP);
    EXPECT_EQ(irp->Size, IoSizeOfIrp(stack_size));
    EXPECT_EQ(irp->StackCount, stack_size);
    EXPECT_EQ(irp->CurrentLocation, stack_size + 1);
    EXPECT_PTR_EQ(IoGetCurrentIrpStackLocation(irp), (PIO_STACK_LOCATION)(irp + 1) + stack_size);
    EXPECT_PTR_EQ(irp->MdlAddress, NULL);
    EXPECT_PTR_EQ(irp->AssociatedIrp.SystemBuffer, NULL);
    EXPECT_PTR_EQ(irp->UserBuffer, NULL);
    EXPECT_PTR_EQ(irp->Tail.Overlay.Thread, NULL);
    EXPECT_PTR_EQ((void *)irp->CancelRoutine, NULL);
    EXPECT_EQ(irp->Flags, 0);
    EXPECT_EQ(irp->Cancel, FALSE);
    EXPECT_EQ(irp->PendingReturned, FALSE);
    EXPECT_STATUS(irp->IoStatus.Status, status);
    EXPECT_EQ(irp->IoStatus.Information, 0);
    EXPECT(list_is_empty(&irp->ThreadListEntry));
    for (int i = 0; i < stack_size; i++) {
        static const IO_STACK_LOCATION zero;

        EXPECT_MEM_EQ((PIO_STACK_LOCATION)(irp + 1) + i, &zero, sizeof(zero));
    }
}

/* The routines have the types of their pages. */
TEST(io_irp, prototypes__are_the_documented_ones)
{
    /* IoAllocateIrp-01 */
    PIRP (*allocate)(CCHAR, BOOLEAN) = &IoAllocateIrp;
    VOID (*release)(PIRP) = &IoFreeIrp;
    VOID (*reuse)(PIRP, NTSTATUS) = &IoReuseIrp;
    VOID (*initialize)(PIRP, USHORT, CCHAR) = &IoInitializeIrp;

    EXPECT(allocate != NULL && release != NULL && reuse != NULL && initialize != NULL);
}

/* Every field has its initial value, whatever the slot held before, for stacks of all sizes. */
TEST(io_irp, allocate__any_stack_size__is_initialised)
{
    /* IoAllocateIrp-02 */
    for (int round = 0; round < 3; round++) {
        for (int stack_size = 0; stack_size <= 125; stack_size++) {
            PIRP irp = IoAllocateIrp((CCHAR)stack_size, FALSE);

            EXPECT(irp != NULL);
            EXPECT_EQ((uintptr_t)irp % 16, 0);
            expect_fresh(irp, (CCHAR)stack_size, STATUS_SUCCESS);
            memset(&irp->Tail, 0xA5, sizeof(irp->Tail));
            memset(irp + 1, 0xA5, (size_t)stack_size * sizeof(IO_STACK_LOCATION));
            irp->MdlAddress = (PMDL)(uintptr_t)0xA5A5;
            IoFreeIrp(irp);
        }
    }
}

/* A stack that no IRP can have gives no IRP. */
TEST(io_irp, allocate__impossible_stack_size__is_null)
{
    EXPECT_PTR_EQ(IoAllocateIrp(-1, FALSE), NULL);
    EXPECT_PTR_EQ(IoAllocateIrp(126, FALSE), NULL);
    EXPECT_PTR_EQ(IoAllocateIrp(127, TRUE), NULL);
}

/* When it fails it gives NULL, and the next call works again. */
TEST(io_irp, allocate__made_to_fail__is_null_once)
{
    /* IoAllocateIrp-02 */
    PIRP irp;

    pinion_fail("IoAllocateIrp", 2);
    irp = IoAllocateIrp(2, FALSE);
    EXPECT(irp != NULL);
    EXPECT_PTR_EQ(IoAllocateIrp(2, FALSE), NULL);
    IoFreeIrp(irp);
    irp = IoAllocateIrp(2, FALSE);
    EXPECT(irp != NULL);
    IoFreeIrp(irp);
}

/* Many IRPs are alive at once, each with memory of its own. */
TEST(io_irp, allocate__thousands__do_not_overlap)
{
    enum { COUNT = 5000 };
    PIRP *irps = calloc(COUNT, sizeof(*irps));

    for (size_t i = 0; i < COUNT; i++) {
        irps[i] = IoAllocateIrp(8, FALSE);
        EXPECT(irps[i] != NULL);
        irps[i]->UserBuffer = (PVOID)i;
        memset(irps[i] + 1, (int)i, 8 * sizeof(IO_STACK_LOCATION));
    }
    for (size_t i = 0; i < COUNT; i++) {
        EXPECT_PTR_EQ(irps[i]->UserBuffer, (PVOID)i);
        EXPECT_EQ(*(uint8_t *)(irps[i] + 1), (uint8_t)i);
        EXPECT_EQ(((uint8_t *)(irps[i] + 1))[8 * sizeof(IO_STACK_LOCATION) - 1], (uint8_t)i);
        IoFreeIrp(irps[i]);
    }
    free(irps);
}

/* An IRP that its driver never frees is a leak, and is told. */
WARN_TEST(io_irp, allocate__never_freed__is_a_leak, "irp-leak")
{
    /* IoAllocateIrp-03 */
    EXPECT(IoAllocateIrp(1, FALSE) != NULL);
}

/* MDLs that hang on a freed IRP are the driver's to free. */
TEST(io_irp, free__with_an_mdl_attached__leaves_the_mdl)
{
    /* IoFreeIrp-01 */
    struct pinion_counters counters;
    PIRP irp = IoAllocateIrp(1, FALSE);
    PMDL mdl = IoAllocateMdl(NULL, 3 * PAGE_SIZE, FALSE, FALSE, irp);

    EXPECT_PTR_EQ(irp->MdlAddress, mdl);
    IoFreeIrp(irp);
    pinion_counters(&counters);
    EXPECT_EQ(counters.live_mdls, 1);
    EXPECT_EQ(MmGetMdlByteCount(mdl), 3 * PAGE_SIZE);
    IoFreeMdl(mdl);
}

/* At DISPATCH_LEVEL too. */
TEST(io_irp, allocate_and_free__at_dispatch_level__work)
{
    /* IoAllocateIrp-01 IoFreeIrp-02 */
    const KIRQL irql = KeRaiseIrqlToDpcLevel();
    PIRP irp = IoAllocateIrp(3, FALSE);

    EXPECT(irp != NULL);
    IoReuseIrp(irp, STATUS_SUCCESS);
    IoFreeIrp(irp);
    KeLowerIrql(irql);
}

static void free_twice(void *context)
{
    PIRP irp = IoAllocateIrp(1, FALSE);

    *(uint64_t *)context = (uintptr_t)irp;
    IoFreeIrp(irp);
    IoFreeIrp(irp);
}

/* Driver_Verifier_I_O_verification-01 Driver_Verifier_I_O_verification-02: freed twice, it is no IRP the second time. */
TEST(io_irp, free__twice__stops_with_its_address)
{
    uint64_t *irp = shared_words();
    const struct stop stop = expect_stop(free_twice, irp, 0xC9, 0x01);

    EXPECT_EQ(stop.p[1], *irp);
}

/* Without the verifier the I/O manager itself finds out. */
STOP_TEST_ANY_P1(io_irp, free__twice_without_verifier__bug_check_0x44, 0x44)
{
    uint64_t irp;

    boot("verifier=off");
    free_twice(&irp);
}

static void free_as_pool(void *context)
{
    PIRP irp = IoAllocateIrp(1, FALSE);

    *(uint64_t *)context = (uintptr_t)irp;
    ExFreePool(irp);
}

/* IoFreeIrp-02: an IRP that is freed as if it were pool. */
TEST(io_irp, free__with_ExFreePool__stops_with_its_address)
{
    uint64_t *irp = shared_words();
    const struct stop stop = expect_stop(free_as_pool, irp, 0xC4, 0x105);

    EXPECT_EQ(stop.p[1], *irp);
}

/* Without the verifier it is an address that the pool does not know. */
STOP_TEST(io_irp, free__with_ExFreePool_without_verifier__is_no_pool, 0xC2, 0x46)
{
    uint64_t irp;

    boot("verifier=off");
    free_as_pool(&irp);
}

static NTSTATUS free_the_request(HARNESS_UNUSED struct layer *layer, PIRP irp)
{
    IoFreeIrp(irp);
    return STATUS_SUCCESS;
}

/* Driver_Verifier_I_O_verification-02: a request's IRP belongs to the I/O manager: a driver that frees it stops the machine. */
STOP_TEST(io_irp, free__of_the_io_managers_irp__bug_check_0xC9, 0xC9, 0x02)
{
    struct layer layer;
    PFILE_OBJECT file;
    struct pinion_request request = {.operation = PINION_READ};

    layer_create(&layer, DO_DIRECT_IO, free_the_request);
    EXPECT_STATUS(pinion_open(layer.device, &file), STATUS_SUCCESS);
    pinion_transfer(file, &request);
}

/* IoReuseIrp makes an IRP as new, with the status given; what hung on it is the driver's affair. */
TEST(io_irp, reuse__after_a_round__is_as_new_with_the_status)
{
    /* IoReuseIrp-01 */
    PIRP irp = IoAllocateIrp(4, FALSE);
    const UCHAR allocation_flags = irp->AllocationFlags;

    IoGetNextIrpStackLocation(irp)->MajorFunction = IRP_MJ_WRITE;
    IoSetNextIrpStackLocation(irp);
    IoMarkIrpPending(irp);
    irp->IoStatus.Status = STATUS_END_OF_FILE;
    irp->IoStatus.Information = 77;
    irp->UserBuffer = irp;
    irp->Cancel = TRUE;
    IoReuseIrp(irp, STATUS_NOT_SUPPORTED);
    expect_fresh(irp, 4, STATUS_NOT_SUPPORTED);
    EXPECT_EQ(irp->AllocationFlags, allocation_flags);
    IoFreeIrp(irp);
}

static NTSTATUS take_back(HARNESS_UNUSED PDEVICE_OBJECT device, HARNESS_UNUSED PIRP irp, HARNESS_UNUSED PVOID context)
{
    return STATUS_MORE_PROCESSING_REQUIRED;
}

/* One IRP makes as many rounds as its driver likes. */
TEST(io_irp, reuse__between_rounds__sends_the_same_irp_again)
{
    /* IoReuseIrp-01 */
    struct layer layer;
    PIRP irp = IoAllocateIrp(1, FALSE);

    layer_create(&layer, 0, complete_with_success);
    for (ULONG round = 1; round <= 100; round++) {
        IoGetNextIrpStackLocation(irp)->MajorFunction = IRP_MJ_READ;
        IoGetNextIrpStackLocation(irp)->Parameters.Read.Length = round;
        IoSetCompletionRoutine(irp, take_back, NULL, TRUE, TRUE, TRUE);
        EXPECT_STATUS(IoCallDriver(layer.device, irp), STATUS_SUCCESS);
        EXPECT_EQ(irp->IoStatus.Information, round);
        IoReuseIrp(irp, STATUS_SUCCESS);
    }
    IoFreeIrp(irp);
    layer_destroy(&layer);
}

/* An IRP in a driver's own memory works as any other. */
TEST(io_irp, initialize__own_memory__is_an_irp)
{
    struct layer layer;
    const USHORT bytes = IoSizeOfIrp(3);
    PIRP irp = ExAllocatePoolWithTag(NonPagedPoolNx, bytes, 0x74736574);

    layer_create(&layer, 0, complete_with_success);
    memset(irp, 0xEE, bytes);
    IoInitializeIrp(irp, bytes, 3);
    expect_fresh(irp, 3, STATUS_SUCCESS);
    IoGetNextIrpStackLocation(irp)->MajorFunction = IRP_MJ_READ;
    IoGetNextIrpStackLocation(irp)->Parameters.Read.Length = 9;
    IoSetCompletionRoutine(irp, take_back, NULL, TRUE, TRUE, TRUE);
    EXPECT_STATUS(IoCallDriver(layer.device, irp), STATUS_SUCCESS);
    EXPECT_EQ(irp->IoStatus.Information, 9);
    ExFreePoolWithTag(irp, 0x74736574);
    layer_destroy(&layer);
}

/* Pool that a driver made an IRP of goes back to the pool with IoFreeIrp. */
TEST(io_irp, free__of_pool_made_an_irp__frees_the_pool)
{
    const USHORT bytes = IoSizeOfIrp(2);
    PIRP irp = ExAllocatePoolWithTag(NonPagedPoolNx, bytes, 0x74736574);

    IoInitializeIrp(irp, bytes, 2);
    IoFreeIrp(irp);
    EXPECT_EQ(counters_now().live_irps, 0);
}

/* What is neither an IRP of IoAllocateIrp nor pool cannot be freed. */
STOP_TEST(io_irp, free__of_memory_that_nobody_allocated__bug_check_0xC2, 0xC2, 0x46)
{
    struct {
        IRP irp;
        IO_STACK_LOCATION stack[2];
    } own;

    IoInitializeIrp(&own.irp, IoSizeOfIrp(2), 2);
    IoFreeIrp(&own.irp);
}

/* What a thread kept of an earlier machine's IRPs means nothing to the next one. */
TEST(io_irp, allocate__after_a_reboot__starts_anew)
{
    for (int round = 0; round < 3; round++) {
        PIRP irps[100];

        boot(NULL);
        for (int i = 0; i < 100; i++) {
            irps[i] = IoAllocateIrp(2, FALSE);
            EXPECT(irps[i] != NULL);
        }
        EXPECT_EQ(counters_now().live_irps, 100);
        for (int i = 0; i < 100; i++)
            IoFreeIrp(irps[i]);
        EXPECT_EQ(pinion_shutdown(), 0);
    }
}
