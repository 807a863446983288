/* SPDX-License-Identifier: MIT */
/*
 * Failures on demand: pinion_fail and pinion_fail_every, of each routine that knows how to fail.
 */

#include "harness.h"

#include <wdm.h>
#include <pinion/pinion.h>

#include "refusal.h"
#include "support.h"

/* ---- Failures on demand -------------------------------------------------------------------------------- */

/* One call of a routine: whether it failed as its page says. What a success made is undone before it
   returns. */
typedef bool failing_call(void);

static PMDL call_mdl;      /* locked, not mapped */
static PMDL call_unlocked; /* not locked */
static PDRIVER_OBJECT call_driver;
static PDEVICE_OBJECT call_device;

static bool pool_failed(PVOID block)
{
    if (block)
        ExFreePool(block);
    return block == NULL;
}

static bool call_ExAllocatePool(void)
{
    return pool_failed(ExAllocatePool(NonPagedPoolNx, 100));
}

static bool call_ExAllocatePool2(void)
{
    return pool_failed(ExAllocatePool2(POOL_FLAG_NON_PAGED, 100, TEST_TAG));
}

static bool call_ExAllocatePool3(void)
{
    return pool_failed(ExAllocatePool3(POOL_FLAG_NON_PAGED, 100, TEST_TAG, NULL, 0));
}

static bool call_ExAllocatePoolWithTag(void)
{
    return pool_failed(ExAllocatePoolWithTag(NonPagedPoolNx, 100, TEST_TAG));
}

static bool call_IoAllocateIrp(void)
{
    const PIRP irp = IoAllocateIrp(1, FALSE);

    if (irp)
        IoFreeIrp(irp);
    return irp == NULL;
}

static bool call_IoAllocateMdl(void)
{
    const PMDL mdl = IoAllocateMdl(&call_mdl, 100, FALSE, FALSE, NULL);

    if (mdl)
        IoFreeMdl(mdl);
    return mdl == NULL;
}

static bool call_IoAllocateWorkItem(void)
{
    const PIO_WORKITEM item = IoAllocateWorkItem(call_device);

    if (item)
        IoFreeWorkItem(item);
    return item == NULL;
}

static bool call_IoCreateDevice(void)
{
    PDEVICE_OBJECT device = NULL;

    if (!NT_SUCCESS(IoCreateDevice(call_driver, 0, NULL, FILE_DEVICE_UNKNOWN, 0, FALSE, &device)))
        return true;
    IoDeleteDevice(device);
    return false;
}

static NTSTATUS keep_irp(PDEVICE_OBJECT device HARNESS_UNUSED, PIRP irp HARNESS_UNUSED,
                         PVOID context HARNESS_UNUSED)
{
    return STATUS_MORE_PROCESSING_REQUIRED;
}

/* A routine that was set is undone by completing the IRP, as the driver below would. */
static bool call_IoSetCompletionRoutineEx(void)
{
    const PIRP irp = IoAllocateIrp(1, FALSE);
    const NTSTATUS status = IoSetCompletionRoutineEx(call_device, irp, keep_irp, NULL, TRUE, TRUE, TRUE);

    if (NT_SUCCESS(status)) {
        IoSetNextIrpStackLocation(irp);
        irp->IoStatus.Status = STATUS_SUCCESS;
        IoCompleteRequest(irp, IO_NO_INCREMENT);
    }
    IoFreeIrp(irp);
    return !NT_SUCCESS(status);
}

static bool call_MmAllocateContiguousMemory(void)
{
    const PHYSICAL_ADDRESS anywhere = {.QuadPart = MAXLONGLONG};
    const PVOID block = MmAllocateContiguousMemory(PAGE_SIZE, anywhere);

    if (block)
        MmFreeContiguousMemory(block);
    return block == NULL;
}

static bool call_MmAllocateContiguousMemorySpecifyCache(void)
{
    const PHYSICAL_ADDRESS anywhere = {.QuadPart = MAXLONGLONG}, zero = {.QuadPart = 0};
    const PVOID block = MmAllocateContiguousMemorySpecifyCache(PAGE_SIZE, zero, anywhere, zero, MmCached);

    if (block)
        MmFreeContiguousMemory(block);
    return block == NULL;
}

static bool unmap_unless_failed(PVOID system)
{
    if (system)
        MmUnmapLockedPages(system, call_mdl);
    return system == NULL;
}

static bool call_MmGetSystemAddressForMdlSafe(void)
{
    return unmap_unless_failed(MmGetSystemAddressForMdlSafe(call_mdl, NORMAL_NX));
}

static bool call_MmMapLockedPagesSpecifyCache(void)
{
    return unmap_unless_failed(map_system(call_mdl));
}

static bool call_MmProbeAndLockPages(void)
{
    if (NT_ERROR(try_lock(call_unlocked, UserMode, IoWriteAccess)))
        return true;
    MmUnlockPages(call_unlocked);
    return false;
}

#define CALL(name)                                                                                           \
    {                                                                                                        \
#name, call_##name                                                                                   \
    }
static const struct {
    const char *name;
    failing_call *call;
} calls[] = {
    CALL(ExAllocatePool),
    CALL(ExAllocatePool2),
    CALL(ExAllocatePool3),
    CALL(ExAllocatePoolWithTag),
    CALL(IoAllocateIrp),
    CALL(IoAllocateMdl),
    CALL(IoAllocateWorkItem),
    CALL(IoCreateDevice),
    CALL(IoSetCompletionRoutineEx),
    CALL(MmAllocateContiguousMemory),
    CALL(MmAllocateContiguousMemorySpecifyCache),
    CALL(MmGetSystemAddressForMdlSafe),
    CALL(MmMapLockedPagesSpecifyCache),
    CALL(MmProbeAndLockPages),
};

static NTSTATUS driver_entry(PDRIVER_OBJECT driver HARNESS_UNUSED, void *path HARNESS_UNUSED)
{
    return STATUS_SUCCESS;
}

static void calls_set_up(void)
{
    UCHAR *const user = user_pages(2, PAGE_READWRITE);

    EXPECT_STATUS(pinion_driver_load("failing", driver_entry, &call_driver), STATUS_SUCCESS);
    EXPECT_STATUS(IoCreateDevice(call_driver, 0, NULL, FILE_DEVICE_UNKNOWN, 0, FALSE, &call_device),
                  STATUS_SUCCESS);
    call_mdl = locked_mdl(user, PAGE_SIZE);
    call_unlocked = mdl_over(user + PAGE_SIZE, PAGE_SIZE);
}

static void calls_tear_down(void)
{
    IoFreeMdl(call_unlocked);
    unlock_and_free(call_mdl);
    IoDeleteDevice(call_device);
    pinion_driver_unload(call_driver);
}

/* Driver_Verifier_low_resources_simulation-02 MmProbeAndLockPages-26 MmGetSystemAddressForMdlSafe-26: of
   each routine exactly the nth call from now fails, as its page says; calls before and after work, and the
   failure leaves nothing behind. */
SILENT_TEST(host_failures, fail__each_routine_and_nth_call__fails_exactly_that_call)
{
    calls_set_up();
    for (SIZE_T i = 0; i < ARRAYSIZE(calls); i++) {
        for (unsigned nth = 1; nth <= 3; nth++) {
            const struct pinion_counters before = counters_now();

            pinion_fail(calls[i].name, nth);
            for (unsigned n = 1; n <= 5; n++) {
                if (calls[i].call() != (n == nth))
                    harness_fail(HARNESS_HERE, "%s: call %u, of which %u was to fail, did the other thing",
                                 calls[i].name, n, nth);
                EXPECT_SAME_COUNTERS(before);
            }
        }
    }
    calls_tear_down();
}

/* pinion_fail with 0 takes an order back, and a new order replaces the old. */
SILENT_TEST(host_failures, fail__taken_back_or_replaced__old_order_is_gone)
{
    calls_set_up();
    for (SIZE_T i = 0; i < ARRAYSIZE(calls); i++) {
        pinion_fail(calls[i].name, 1);
        pinion_fail(calls[i].name, 0);
        EXPECT(!calls[i].call());
        pinion_fail(calls[i].name, 1);
        pinion_fail(calls[i].name, 2);
        EXPECT(!calls[i].call());
        EXPECT(calls[i].call());
        EXPECT(!calls[i].call());
    }
    calls_tear_down();
}

/* pinion_fail_every fails each call whose number from now is a multiple of the period, until it is taken
   back. */
SILENT_TEST(host_failures, fail_every__each_routine__fails_at_multiples)
{
    calls_set_up();
    for (SIZE_T i = 0; i < ARRAYSIZE(calls); i++) {
        pinion_fail_every(calls[i].name, 3);
        for (unsigned n = 1; n <= 9; n++)
            EXPECT_EQ(calls[i].call(), n % 3 == 0);
        pinion_fail_every(calls[i].name, 0);
        for (unsigned n = 1; n <= 4; n++)
            EXPECT(!calls[i].call());
    }
    calls_tear_down();
}

/* An order for one routine is none for another. */
SILENT_TEST(host_failures, fail__one_routine__leaves_the_others_alone)
{
    calls_set_up();
    for (SIZE_T i = 0; i < ARRAYSIZE(calls); i++) {
        pinion_fail_every(calls[i].name, 1);
        for (SIZE_T other = 0; other < ARRAYSIZE(calls); other++) {
            const bool needs_irp =
                calls[other].call == call_IoSetCompletionRoutineEx && calls[i].call == call_IoAllocateIrp;

            if (other != i && !needs_irp && calls[other].call())
                harness_fail(HARNESS_HERE, "%s failed when only %s was to", calls[other].name, calls[i].name);
        }
        EXPECT(calls[i].call());
        pinion_fail_every(calls[i].name, 0);
    }
    calls_tear_down();
}

/* Orders end with the machine. */
TEST_UNTIDY(host_failures, fail__shutdown_and_boot__order_is_gone)
{
    boot("ram=64M");
    pinion_fail("ExAllocatePoolWithTag", 1);
    EXPECT_EQ(pinion_shutdown(), 0);
    boot("ram=64M");
    EXPECT(!call_ExAllocatePoolWithTag());
    EXPECT_EQ(pinion_shutdown(), 0);
}

static void fail_unknown_routine(void *context HARNESS_UNUSED)
{
    pinion_fail("MmDoesNotExist", 1);
}

/* A routine that cannot be made to fail is refused with a line, not ignored: the process does not go on. */
TEST(host_failures, fail__unknown_routine__is_refused)
{
    const struct refusal refusal = refusal_of(fail_unknown_routine, NULL);

    EXPECT_NE(refusal.exit_status, 0);
    EXPECT(strstr(refusal.text, "MmDoesNotExist") != NULL);
    expect_one_line(refusal.text);
}
